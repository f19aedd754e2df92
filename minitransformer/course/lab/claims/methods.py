"""Claims on methods beside each other: at matched budgets, whose cells are the `budgets` experiment's; and adapters."""

from math import log10

from minitransformer.course.lab.claim import Check, Claim, Of, Panel
from minitransformer.course.lab.claims.common import FULL_SEARCH, INPUT_RATE, PREFIX_SEARCH, TABLES, prefix
from minitransformer.course.lab.experiment import Arm, Search
from minitransformer.tuning import Adapter, FullFineTuning, LoRA, PromptTuning, PTuning

MATCHED = "The cells are those of `budgets`, where the sizes, the searches and all other methods stand"
QUALITY = {"values stated": "slots", "tables whole": "whole", "BLEU": "bleu", "loss": "loss"}

ADAPTER_SEARCH = Search(TABLES, Adapter(10), 3e-3)
ADAPTERS = {"0.5 %": Adapter(2), "2 %": Adapter(10), "8 %": Adapter(43)}
FULL = Arm("full fine-tuning", TABLES, FullFineTuning(), FULL_SEARCH)

# ------------------------------------------------------------------------------------ how small


def of_full(share: str) -> Check:
    """Whether adapters of this fraction state nearly as much as full fine-tuning does."""
    return Check(
        f"values stated, adapter of {share} − 0.97 × full",
        lambda of: of(f"adapter, {share}", "slots") - 0.97 * of("full fine-tuning", "slots"),
    )


SHARES = Claim(
    name="shares",
    title="Adapters of 2–4 % reach full fine-tuning",
    document="003 §2",
    quote="仅需微调2%~4%的参数即可达到全参数微调的效果",
    says="It is enough to train 2 to 4 % of the parameters, in adapters, to reach what full fine-tuning reaches.",
    published="GLUE: 0.4 % behind full fine-tuning with 3.6 % of the parameters (Houlsby et al. 2019)",
    design=f"Adapters stand after attention and feed-forward layers. {MATCHED}. Reached means: at least 97 % of the "
    "values that full fine-tuning states. The smaller and the larger adapters stand beside.",
    untested="Many tasks; Houlsby et al. have twenty-six.",
    arms=(
        *(Arm(f"adapter, {share}", TABLES, method, ADAPTER_SEARCH) for share, method in ADAPTERS.items()),
        FULL,
    ),
    checks=(of_full("2 %"),),
    beside=(of_full("0.5 %"), of_full("8 %")),
    scores=QUALITY,
    panels=(
        Panel(
            {
                "values stated": ("slots", [*(f"adapter, {share}" for share in ADAPTERS), "full fine-tuning"]),
                "tables whole": ("whole", [*(f"adapter, {share}" for share in ADAPTERS), "full fine-tuning"]),
            },
            "fraction",
        ),
    ),
)

# ------------------------------------------------------------------------------------ at one budget

AT_A_BUDGET = (
    Arm("prefix, 0.5 %", TABLES, prefix(5), PREFIX_SEARCH),
    Arm("prompt tuning, 0.5 %", TABLES, PromptTuning(44), Search(TABLES, PromptTuning(44), INPUT_RATE)),
    Arm("P-tuning, 0.5 %", TABLES, PTuning(44), Search(TABLES, PTuning(44), 3e-2)),
    Arm("prefix, 2 %", TABLES, prefix(22), PREFIX_SEARCH),
    Arm("adapter, 2 %", TABLES, Adapter(10), ADAPTER_SEARCH),
    Arm("LoRA, 2 %", TABLES, LoRA(11), Search(TABLES, LoRA(11), 1e-2)),
)
EXAMPLE = Arm("one example, untrained", TABLES, None, 0.0, steps=0, shots=1)


def ahead(one: str, other: str) -> Check:
    """Whether one method states more values than another."""
    return Check(f"values stated, {one} − {other}", lambda of: of(one, "slots") - of(other, "slots"))


COMPARED = Claim(
    name="compared",
    title="Which method is best at one budget?",
    document="",
    question=True,
    says="The documents present these methods one after another. They compare none of them at equal numbers of "
    "parameters. A user with a budget of parameters for each task wants to know. The nearest that a "
    "document comes is 003 §3.2: prompts in natural words help little (提升很有限).",
    published="E2E, GPT-2 Medium: prefix of 0.1 % 69.7 BLEU, adapter of 0.1 % 66.3; LoRA 70.4 (Hu et al. 2022). "
    "Prompt tuning comes up to full fine-tuning only as the model grows (Lester et al. 2021)",
    design=f"Each method keeps about as many parameters as those that it is compared with. {MATCHED}. The untrained "
    "prompt is a solved example before the table, because words alone do less (lesson 7).",
    untested="Budgets as small as the papers'. Other prompts in words. A larger base, where the papers compare.",
    arms=(*AT_A_BUDGET, EXAMPLE),
    checks=(
        ahead("prefix, 0.5 %", "prompt tuning, 0.5 %"),
        ahead("prefix, 0.5 %", "P-tuning, 0.5 %"),
        ahead("prefix, 2 %", "adapter, 2 %"),
        Check(
            "values stated, the worst of the trained methods − an untrained example",
            lambda of: min(of(arm.name, "slots") for arm in AT_A_BUDGET) - of(EXAMPLE.name, "slots"),
        ),
    ),
    beside=(ahead("LoRA, 2 %", "prefix, 2 %"),),
    scores=QUALITY,
    panels=(
        Panel({"values stated": ("slots", [arm.name for arm in (*AT_A_BUDGET, EXAMPLE)])}, "fraction of values stated"),
        Panel(
            {"values stated": ("slots", [arm.name for arm in AT_A_BUDGET if "P-tuning" not in arm.name])},
            "fraction of values stated, close up",
        ),
    ),
)

# ------------------------------------------------------------------------------------ how fast

TRIED = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
EARLY = (60, 120, 250)
TRAINED = {"adapter": (Adapter(10), ADAPTER_SEARCH), "full": (FullFineTuning(), FULL_SEARCH)}


def best_rate(of: Of, name: str) -> float:
    """The learning rate with the lowest loss."""
    return min(TRIED, key=lambda lr: of(f"{name}, lr {lr:g}", "loss"))


def behind(of: Of, name: str, steps: int = 60) -> float:
    """How far the loss after few steps is above that after all, as a fraction of it."""
    return of(f"{name}, {steps} steps", "loss") / of(f"{name}, 250 steps", "loss") - 1


ADAPTER_TRAINING = Claim(
    name="adapter_training",
    title="Adapters take larger learning rates and fewer steps",
    document="001 §3.2.3",
    quote="由于Adapter层的参数量远小于预训练模型，因此可以使用更大的学习率和更少的训练轮数，加快训练速度",
    says="Because they have few parameters, adapters can be trained with a larger learning rate and in fewer epochs.",
    published="no numbers",
    design="An adapter of 2 % and full fine-tuning are trained at the learning rates "
    f"{', '.join(f'{lr:g}' for lr in TRIED)}. The first check compares their best rates, by validation loss "
    f"after 100 steps of 8 tables. For the second, runs of {', '.join(map(str, EARLY))} steps, each with its "
    "own decay to zero, are made at the learning rate of each method's search. How far is the loss after 60 "
    "steps above the method's own loss after 250?",
    untested="Epochs: 250 steps are one epoch of the 2,000 tables. And small differences of learning rates, because "
    "the rates tried are half a power of ten apart.",
    arms=(
        *(
            Arm(f"{name}, lr {lr:g}", TABLES, method, lr, x=lr, steps=100, split="valid", write=False)
            for name, (method, _) in TRAINED.items()
            for lr in TRIED
        ),
        *(
            Arm(f"{name}, {steps} steps", TABLES, method, search, x=steps, steps=steps, write=False)
            for name, (method, search) in TRAINED.items()
            for steps in EARLY
        ),
    ),
    checks=(
        Check(
            "best learning rate in powers of ten, adapter − full",
            lambda of: log10(best_rate(of, "adapter") / best_rate(of, "full")),
            2,
        ),
        Check(
            "loss after 60 steps above that after 250, as a fraction of it, full − adapter",
            lambda of: behind(of, "full") - behind(of, "adapter"),
        ),
    ),
    scores={"loss": "loss", "train loss": "train_loss"},
    panels=(
        Panel(
            {name: ("loss", [f"{name}, lr {lr:g}" for lr in TRIED]) for name in TRAINED},
            "validation loss, nats per token",
            "learning rate (log)",
            log=True,
        ),
        Panel(
            {name: ("loss", [f"{name}, {steps} steps" for steps in EARLY]) for name in TRAINED},
            "test loss, nats per token",
            "steps (log)",
            log=True,
        ),
    ),
)
