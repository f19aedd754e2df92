"""Claims on what tuning costs: abilities of the base (002), and time, memory and disk (000, 002)."""

from collections.abc import Iterable

from minitransformer.course.lab.cells import ABILITIES
from minitransformer.course.lab.claim import Check, Claim, Panel
from minitransformer.course.lab.claims.common import FULL, PREFIX, TABLES
from minitransformer.course.lab.claims.data import UNSEEN_KINDS
from minitransformer.course.lab.cost import CHOSEN, OTHERS
from minitransformer.course.lab.experiment import Arm

# ------------------------------------------------------------------------------------ what the base could do

BASE = Arm("untouched base", TABLES, None, 0.0, steps=0, also=(ABILITIES,), write=False, seeds=(0,))
BEFORE_AND_AFTER = ("untouched base", "prefix", "full fine-tuning", "LoRA")

ABILITIES_KEPT = Claim(
    name="abilities",
    title="A prefix keeps what the model could do before, even while it is on",
    document="002 §优势",
    quote="由于不微调整个模型的权重，Prefix-Tuning 在执行特定任务时能保留模型原始的生成能力",
    says="Prefix tuning does not touch the model's own weights. So the model keeps what it could generate "
    "before, also while it does the prefix's task.",
    published="no numbers; Li & Liang 2021 give it as a reason for what they see on unseen topics",
    design="Models tuned for tables, those of `unseen`, are asked for what the base learned before: the loss on "
    "the tiny world's prose, and the mean of its skills (copying, reading tables, retelling, keeping a "
    "style; 20 examples each). The untouched base stands beside. The prefix stays on. Off, it leaves the "
    "base as it was, bit for bit; a test holds that, and it needs no measuring.",
    untested="Abilities that the base does not have.",
    arms=(BASE, PREFIX, FULL, UNSEEN_KINDS.arm("LoRA")),
    checks=(
        Check(
            "mean skill, prefix − full",
            lambda of: of("prefix", f"{ABILITIES}/skills") - of("full fine-tuning", f"{ABILITIES}/skills"),
        ),
        Check(
            "loss on prose, full − prefix",
            lambda of: of("full fine-tuning", f"{ABILITIES}/prose") - of("prefix", f"{ABILITIES}/prose"),
        ),
    ),
    beside=(
        Check(
            "mean skill, untouched base − full",
            lambda of: of("untouched base", f"{ABILITIES}/skills") - of("full fine-tuning", f"{ABILITIES}/skills"),
        ),
        Check(
            "mean skill, untouched base − prefix",
            lambda of: of("untouched base", f"{ABILITIES}/skills") - of("prefix", f"{ABILITIES}/skills"),
        ),
    ),
    scores={"skills": f"{ABILITIES}/skills", "loss on prose": f"{ABILITIES}/prose"},
    panels=(
        Panel({"skills": (f"{ABILITIES}/skills", BEFORE_AND_AFTER)}, "mean fraction of right answers"),
        Panel({"prose": (f"{ABILITIES}/prose", BEFORE_AND_AFTER)}, "loss on prose, nats per token"),
    ),
)

# ------------------------------------------------------------------------------------ time, memory, disk


def saved(quantity: str, what: str, method: str = "prefix") -> Check:
    """How much less of something a method takes, as a fraction of what full fine-tuning takes."""
    return Check(
        f"{what}, 1 − {method} / full",
        lambda of: 1 - of(method, f"{method} {quantity}") / of("full", f"full {quantity}"),
    )


def in_turn(names: Iterable[str]) -> tuple[Arm, ...]:
    """An arm for each method. One cell measures all of them, so that each is measured beside the others."""
    names = tuple(names)
    return tuple(Arm(name, "cost", None, 0.0, steps=0, split="valid", n_scored=50, methods=names) for name in names)


COST = Claim(
    name="cost",
    title="Prefix tuning is faster, lighter and smaller",
    document="000 §1.3, §2.2, 002 §优势",
    quote="训练速度更快，计算资源消耗更低 (000 §1.3); 极大地降低了存储和计算成本 (002)",
    says="Compared with full fine-tuning, prefix tuning trains faster, takes less computing (000), and leaves "
    "less to store (002).",
    published="an epoch takes 0.2 hours instead of 0.3 (Li & Liang 2021, §5.3)",
    design="Full fine-tuning, a prefix of 10 with and without MLP, 44 virtual tokens at the input, and an adapter "
    "and LoRA of 2 % run in turn on the same batches of 8 tables, in one process. Times are medians over 20 "
    "rounds, in five runs. Memory is what gradients and Adam's two moments take. It is counted, as is what "
    "is kept.",
    untested="The memory of activations, which a prefix needs, too. More than one core, or a GPU. And whether as "
    "many steps are needed (`adapter_training` asks that of adapters).",
    arms=in_turn(CHOSEN),
    company=in_turn(("full", *OTHERS))[1:],
    checks=(saved("step", "time of a step"), saved("memory", "memory"), saved("kept", "bytes kept")),
    beside=(
        *(saved("step", "time of a step", name) for name in CHOSEN if name not in ("full", "prefix")),
        saved("token", "time of a written token"),
    ),
    scores={
        "step, ms": "{arm} step",
        "token, ms": "{arm} token",
        "memory, MB": "{arm} memory",
        "kept, MB": "{arm} kept",
    },
    panels=(
        Panel({"step": ("{arm} step", list(CHOSEN))}, "milliseconds of a training step"),
        Panel({"memory": ("{arm} memory", list(CHOSEN)), "kept": ("{arm} kept", list(CHOSEN))}, "MB"),
    ),
)
