"""Why claims do not hold here: suppositions. Each was tried after the verdict that it is about had been seen."""

from dataclasses import replace

from minitransformer.course.lab.cells import ABILITIES
from minitransformer.course.lab.claim import Check, Claim, Of, Panel
from minitransformer.course.lab.claims.common import TABLES, UNSEEN
from minitransformer.course.lab.claims.data import UNSEEN_KINDS
from minitransformer.course.lab.claims.methods import COMPARED, QUALITY, ahead
from minitransformer.course.lab.claims.prefixes import MAKERS, REPARAMETRISATION
from minitransformer.course.lab.claims.price import ABILITIES_KEPT, BASE
from minitransformer.course.lab.experiment import Arm

LONGER = 1000
AFTER = f", {LONGER} steps"  # in the name of an arm that takes them
EPOCHS = "5 to 30 epochs (Li & Liang 2021, appendix); 250 steps of 8 are one epoch of ours"
AT_THOSE_RATES = f"for {LONGER} steps instead of 250, at the learning rates that were searched for 250"


def longer(arm: Arm) -> Arm:
    """The same with four times the steps."""
    return replace(arm, name=arm.name + AFTER, steps=LONGER)


# ------------------------------------------------------------------------------------ unseen kinds

BOTH = ("prefix", "full fine-tuning")
SHORT_AND_LONG = (*BOTH, *(name + AFTER for name in BOTH))


def lead(of: Of, score: str, after: str = "") -> float:
    """By how much the prefix is ahead."""
    return of(f"prefix{after}", score) - of(f"full fine-tuning{after}", score)


def fall(of: Of, after: str = "") -> float:
    """How many values fewer full fine-tuning states of unseen kinds than of those that it was tuned on."""
    return of(f"full fine-tuning{after}", "slots") - of(f"full fine-tuning{after}", f"{UNSEEN}/slots")


UNSEEN_LONGER = Claim(
    name="unseen_longer",
    why="unseen",
    title="In one epoch, full fine-tuning has no time to forget kinds that it does not see",
    document="Asked after `unseen` had failed",
    says="The papers see full fine-tuning fall on unseen topics after many epochs. One epoch may move the base's "
    "weights too little for that. With more epochs, full fine-tuning would fall, and the prefix would come "
    "out ahead.",
    published=EPOCHS,
    design=f"A prefix and full fine-tuning are trained {AT_THOSE_RATES}. Everything else is as in `unseen`.",
    untested="A base that was trained on nothing about the unseen kinds. Ours knows them from its own training, and "
    "this may be why so little is lost at first.",
    arms=(*(UNSEEN_KINDS.arm(name) for name in BOTH), *(longer(UNSEEN_KINDS.arm(name)) for name in BOTH)),
    checks=(
        Check(
            f"the fall of full fine-tuning from seen to unseen kinds, after {LONGER} steps − after 250",
            lambda of: fall(of, AFTER) - fall(of),
        ),
        Check(
            f"values stated of unseen kinds, prefix − full, after {LONGER} steps",
            lambda of: lead(of, f"{UNSEEN}/slots", AFTER),
        ),
    ),
    beside=(
        Check(
            f"values stated of unseen kinds, prefix − full, after {LONGER} steps − after 250",
            lambda of: lead(of, f"{UNSEEN}/slots", AFTER) - lead(of, f"{UNSEEN}/slots"),
        ),
    ),
    scores=UNSEEN_KINDS.scores,
    panels=(
        Panel(
            {"seen kinds": ("slots", SHORT_AND_LONG), "unseen kinds": (f"{UNSEEN}/slots", SHORT_AND_LONG)},
            "fraction of values stated",
        ),
    ),
)

# ------------------------------------------------------------------------------------ by what a prefix is made

SHARED = (3e-4, 1e-3, 3e-3)  # learning rates at which the MLP learns well; a tenth and less of those tried without


def measured(maker: str) -> list[Arm]:
    """The arms of `reparametrisation` with one maker, at their learning rates."""
    return [replace(arm, x=arm.lr) for arm in REPARAMETRISATION.arms if arm.name.startswith(maker)]


WITH = measured("MLP")
WITHOUT = [
    *(
        Arm(f"direct, lr {lr:g}", TABLES, MAKERS["direct"], lr, x=lr, steps=100, split="valid", write=False)
        for lr in SHARED
    ),
    *measured("direct"),
]


def without(lr: float) -> Check:
    """Whether a prefix without an MLP is worse than one with an MLP at this learning rate."""
    return Check(
        f"loss at the learning rate {lr:g}, direct − MLP",
        lambda of: of(f"direct, lr {lr:g}", "loss") - of(f"MLP, lr {lr:g}", "loss"),
    )


REPARAMETRISATION_RATE = Claim(
    name="reparametrisation_rate",
    why="reparametrisation",
    title="The MLP does what a larger learning rate would do",
    document="Asked after `reparametrisation` had failed",
    says="The reports say that a prefix without an MLP trains badly. They may have given it the learning rates "
    "that suit a prefix with an MLP, or a whole model. At its own rates it would not be measurably worse; "
    "at the MLP's rates it would hardly learn.",
    published="one list of learning rates, around 5e-5, for prefixes and full fine-tuning (Li & Liang 2021, appendix)",
    design="The prefix without an MLP is trained at the MLP's learning rates, "
    f"{', '.join(f'{lr:g}' for lr in SHARED)}, and compared with the one that has an MLP. Everything else is "
    "as in `reparametrisation`, whose other cells stand in the figure.",
    untested="The papers' own learning rates.",
    arms=(*WITH, *WITHOUT),
    checks=tuple(without(lr) for lr in SHARED),
    beside=tuple(without(lr) for lr in (1e-2, 3e-2)),
    scores=REPARAMETRISATION.scores,
    panels=(
        Panel(
            {"MLP": ("loss", [arm.name for arm in WITH]), "direct": ("loss", [arm.name for arm in WITHOUT])},
            "validation loss, nats per token (log)",
            "learning rate (log)",
            log=True,
            log_y=True,
        ),
    ),
)

# ------------------------------------------------------------------------------------ at one budget

AT_ODDS = ("prefix, 2 %", "adapter, 2 %")

COMPARED_LONGER = Claim(
    name="compared_longer",
    why="compared",
    title="The prefix is behind the adapter because it had too few steps",
    document="Asked after `compared` had put adapters first",
    says="A prefix starts far from where it has to go, and an adapter starts by changing nothing. With more "
    "steps the prefix would come up to the adapter.",
    published=EPOCHS,
    design=f"A prefix and an adapter of 2 % are trained {AT_THOSE_RATES}. Everything else is as in `compared`.",
    untested="Learning rates searched for the longer runs. And a larger base, where the papers compare.",
    arms=(*(COMPARED.arm(name) for name in AT_ODDS), *(longer(COMPARED.arm(name)) for name in AT_ODDS)),
    checks=(
        Check(
            "values stated, the adapter's lead after 250 steps − after 1000",
            lambda of: (
                ahead(*reversed(AT_ODDS)).value(of) - ahead(*(name + AFTER for name in reversed(AT_ODDS))).value(of)
            ),
        ),
    ),
    beside=(ahead(*(name + AFTER for name in AT_ODDS)),),
    scores=QUALITY,
    panels=(
        Panel(
            {"values stated": ("slots", [*AT_ODDS, *(name + AFTER for name in AT_ODDS)])}, "fraction of values stated"
        ),
    ),
)

# ------------------------------------------------------------------------------------ what the base could do

SKILLS, PROSE = f"{ABILITIES}/skills", f"{ABILITIES}/prose"
UNTRAINED = "prefix, untrained"

ABILITIES_LONGER = Claim(
    name="abilities_longer",
    why="abilities",
    title="In one epoch, full fine-tuning has no time to forget what the model could do",
    document="Asked after `abilities` had failed",
    says="While it is on, a prefix answers everything in the manner of its task, and it learns that soon. A "
    "model whose weights are tuned forgets more, the longer it is tuned. So after one epoch the prefix "
    "would cost more skills, and after four full fine-tuning would.",
    published=EPOCHS,
    design=f"A prefix and full fine-tuning are trained {AT_THOSE_RATES}. Everything else is as in `abilities`. "
    "Beside them stands a prefix as it begins, trained on nothing. It shows what it costs that there is a "
    "prefix at all.",
    untested="Other tasks than tables. A task that is less like the skills may cost more of them.",
    arms=(
        BASE,
        replace(ABILITIES_KEPT.arm("prefix"), name=UNTRAINED, lr=0.0, steps=0, also=(ABILITIES,), write=False),
        *(ABILITIES_KEPT.arm(name) for name in BOTH),
        *(longer(ABILITIES_KEPT.arm(name)) for name in BOTH),
    ),
    checks=(
        Check(
            f"mean skill, full after 250 steps − after {LONGER}",
            lambda of: of("full fine-tuning", SKILLS) - of(f"full fine-tuning{AFTER}", SKILLS),
        ),
        Check(f"mean skill, prefix − full, after {LONGER} steps", lambda of: lead(of, SKILLS, AFTER)),
    ),
    beside=(
        Check(
            f"mean skill, prefix after 250 steps − after {LONGER}",
            lambda of: of("prefix", SKILLS) - of(f"prefix{AFTER}", SKILLS),
        ),
        Check(
            "mean skill, untouched base − untrained prefix",
            lambda of: of("untouched base", SKILLS) - of(UNTRAINED, SKILLS),
        ),
    ),
    scores=ABILITIES_KEPT.scores,
    panels=(
        Panel({"skills": (SKILLS, ("untouched base", UNTRAINED, *SHORT_AND_LONG))}, "mean fraction of right answers"),
        Panel({"prose": (PROSE, ("untouched base", UNTRAINED, *SHORT_AND_LONG))}, "loss on prose, nats per token"),
    ),
)
