"""Why a claim does not hold here: suppositions, tried after its verdict was seen."""

from dataclasses import replace

from minitransformer.lab.claim import Check, Claim, Of, Panel
from minitransformer.lab.claims.common import UNSEEN
from minitransformer.lab.claims.data import UNSEEN_KINDS
from minitransformer.lab.claims.methods import COMPARED as CLAIM
from minitransformer.lab.claims.methods import QUALITY, ahead

LONGER = 1000

# ------------------------------------------------------------------------------------ unseen kinds

BOTH = ("prefix", "full fine-tuning")
AFTER = f", {LONGER} steps"


def lead(of: Of, after: str = "") -> float:
    """How much more of the unseen kinds' tables the prefix tells."""
    return of(f"prefix{after}", f"{UNSEEN}/slots") - of(f"full fine-tuning{after}", f"{UNSEEN}/slots")


def fall(of: Of, after: str = "") -> float:
    """How much less full fine-tuning tells of unseen kinds than of those that it was tuned on."""
    return of(f"full fine-tuning{after}", "slots") - of(f"full fine-tuning{after}", f"{UNSEEN}/slots")


UNSEEN_KINDS_LONGER = Claim(
    name="unseen_longer",
    why="unseen",
    title="Full fine-tuning has had no time to forget the kinds that it does not see",
    document="Asked after `unseen` had failed",
    says="The papers see full fine-tuning fall on unseen topics after many epochs. One epoch moves the base's weights "
    "too little for that; with more, full fine-tuning falls there, and the prefix comes out ahead.",
    published="5 to 30 epochs (Li & Liang 2021, appendix); 250 steps of 8 are one of ours",
    design=f"Both for {LONGER} steps in the place of 250, which is four epochs, at the learning rates found for those; "
    "all else as in `unseen`.",
    untested="a base that was trained on nothing about the unseen kinds: ours knows them from its own training, which "
    "may be why nothing is lost.",
    arms=(
        *(UNSEEN_KINDS.arm(name) for name in BOTH),
        *(replace(UNSEEN_KINDS.arm(name), name=name + AFTER, steps=LONGER, also=(UNSEEN,)) for name in BOTH),
    ),
    checks=(
        Check(f"the fall of full fine-tuning from seen to unseen kinds, after {LONGER} steps − after 250", lambda of: (
            fall(of, AFTER) - fall(of))),
        Check(f"values told of unseen kinds, prefix − full, after {LONGER} steps", lambda of: lead(of, AFTER)),
    ),
    beside=(
        Check(f"values told of unseen kinds, prefix − full, after {LONGER} steps − after 250", lambda of: (
            lead(of, AFTER) - lead(of))),
    ),
    scores=UNSEEN_KINDS.scores,
    panels=(
        Panel({"seen kinds": ("slots", [*BOTH, *(name + AFTER for name in BOTH)]),
               "unseen kinds": (f"{UNSEEN}/slots", [*BOTH, *(name + AFTER for name in BOTH)])}, "share of values told"),
    ),
)  # fmt: skip

# ------------------------------------------------------------------------------------ at one budget

TRIED = ("prefix, 2 %", "adapter, 2 %")
OF_LONGER = {name: f"{name}, {LONGER} steps" for name in TRIED}

COMPARED = Claim(
    name="compared_longer",
    why="compared",
    title="The prefix is behind the adapter for want of steps",
    document="Asked after `compared` had failed",
    says="A prefix starts far from where it has to go, and an adapter as a model that nothing was done to; with more "
    "steps the prefix comes up to it.",
    published="prefixes are trained for 5 to 30 epochs (Li & Liang 2021, appendix); 250 steps of 8 are one of ours",
    design=f"Both for {LONGER} steps in the place of 250, at the learning rates found for those; all else as in "
    "`compared`.",
    untested="learning rates searched for the longer runs; a larger base, which is where the papers compared.",
    arms=(
        *(CLAIM.arm(name) for name in TRIED),
        *(replace(CLAIM.arm(name), name=OF_LONGER[name], steps=LONGER) for name in TRIED),
    ),
    checks=(
        Check("values told, the adapter's lead after 250 steps − after 1000", lambda of: (
            ahead(*reversed(TRIED)).value(of) - ahead(*(OF_LONGER[name] for name in reversed(TRIED))).value(of))),
    ),
    beside=(ahead(*OF_LONGER.values()),),
    scores=QUALITY,
    panels=(
        Panel({"values told": ("slots", [*TRIED, *OF_LONGER.values()])}, "share of values told"),
    ),
)  # fmt: skip
