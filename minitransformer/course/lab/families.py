"""Which methods experiment "budgets" compares, at which sizes, and how they are trained and scored.

Sizes are chosen so that the parameters kept for a task (`Report.stored`, without a classifier's head) are within a
tenth of the budget. A budget is a number and not a fraction, so that the GPT and the BERT, which differ by 3 %, have
the same. Its smallest value is one that whole ranks, widths and lengths of all methods come near to.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from minitransformer.course.bases import load_base
from minitransformer.course.lab.experiment import Arm, Search
from minitransformer.course.lab.roster import own_methods, size_name
from minitransformer.course.lab.tasks import LAB_TASKS
from minitransformer.course.show import PALETTE
from minitransformer.errors import UserError
from minitransformer.tuning import (
    IA3,
    Adapter,
    BitFit,
    FullFineTuning,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    PTuning,
    TopLayers,
    attached,
)
from minitransformer.tuning.bases import Base

BUDGETS = {"0.5 %": 5_600, "2 %": 22_400, "8 %": 89_600}
TOLERANCE = 0.1  # how far from its budget a method may be, as a fraction of it
FULL, HEAD = "full fine-tuning", "head alone"


@dataclass(frozen=True, eq=False)
class Family:
    """A method at all of its sizes."""

    name: str
    look: str  # in the figure: which colour, which mark
    of_size: Callable[[int], Method] | None  # None: no method, a classifier's head alone, or few shots
    rates: Mapping[str, float]  # task → the middle one of the learning rates that are tried
    budgets: Sequence[str] | Mapping[str, Sequence[str]] = ()  # those it is measured at, on every task or by task;
    # none: it has one size, whatever that is
    size: str = ""  # what its size is called
    shots: int | None = None  # a hard prompt of so many examples, and no training

    def sizes(self, task: str) -> dict[str | None, int | None]:
        """Its size at each of its budgets on a task's base; {None: None} if it has a single size."""
        base = one_base(LAB_TASKS[task].base)
        budgets = self.budgets[task] if isinstance(self.budgets, Mapping) else self.budgets
        return {budget: closest_size(self.of_size, base, BUDGETS[budget]) for budget in budgets} or {None: None}


@dataclass(frozen=True)
class Protocol:
    """How the cells of one task are trained and scored."""

    steps: int
    search_steps: int
    split: str  # which the final cells score
    n_scored: int | None  # of that split
    n_searched: int | None  # of the validation data, in the search
    batch: int = 8


def rates(table_to_text: float | None, reviews_gpt: float | None = None) -> dict[str, float]:
    """The middle learning rates by task; a family without one is not measured there."""
    given = {"table_to_text": table_to_text, "reviews_gpt": reviews_gpt}
    return {task: lr for task, lr in given.items() if lr is not None}


ALL, SMALL, MIDDLE, LARGE = tuple(BUDGETS), ("0.5 %",), ("2 %",), ("8 %",)
TABLES_MAINLY, REVIEWS_MAINLY = (
    {"table_to_text": tables, "reviews_gpt": reviews} for tables, reviews in ((ALL, MIDDLE), (MIDDLE, ALL))
)
FEED_FORWARD = ("up", "down")
EVERY_MAP = ("q", "k", "v", "attention.out", *FEED_FORWARD)
CHOSEN = (
    Family("prefix, MLP", "0o", lambda n: PrefixTuning(n, reparametrise=256), rates(3e-3, 1e-3), ALL, "P"),
    Family("prefix, direct", "0s", lambda n: PrefixTuning(n, init="vocabulary"), rates(1e-1), MIDDLE, "P"),
    Family("prompt tuning", "5^", PromptTuning, rates(1e-1), SMALL, "P"),
    Family("P-tuning", "5v", PTuning, rates(3e-2), SMALL, "P"),
    Family("adapter, Houlsby", "1o", Adapter, rates(3e-3, 3e-3), TABLES_MAINLY, "width"),
    Family("adapter, Pfeiffer", "1s", lambda n: Adapter(n, "pfeiffer"), rates(3e-3), MIDDLE, "width"),
    Family(
        "adapter, Pfeiffer, and norms",
        "1P",
        lambda n: Adapter(n, "pfeiffer", norms=True),
        rates(3e-3, 3e-3),
        REVIEWS_MAINLY,
        "width",
    ),
    Family("adapter, parallel", "1D", lambda n: Adapter(n, "parallel", scale=4.0), rates(3e-3), MIDDLE, "width"),
    Family("LoRA, q and v", "2o", LoRA, rates(1e-2, 1e-2), TABLES_MAINLY, "rank"),
    Family(
        "LoRA, feed-forward", "2^", lambda n: LoRA(n, targets=FEED_FORWARD), rates(3e-3, 3e-3), REVIEWS_MAINLY, "rank"
    ),
    Family("LoRA, every map", "2s", lambda n: LoRA(n, targets=EVERY_MAP), rates(3e-3), LARGE, "rank"),
    Family("IA³", "3v", lambda _: IA3(), rates(3e-2)),
    Family("BitFit", "4P", lambda _: BitFit(), rates(1e-2)),
    Family("top layer", "6X", lambda _: TopLayers(1), rates(3e-3)),
    Family(FULL, "6-", lambda _: FullFineTuning(), rates(1e-4, 3e-4)),
    Family(HEAD, "6:", None, rates(None, 1e-2)),
    Family("one example, untrained", "3:", None, rates(0.0), shots=1),
)
NOT_COMPARED = {  # methods of the library that no family has, and why
    "Infix": "The infix stands in the claim `infix`, beside a prefix of the same size.",
}


def others() -> list[Family]:
    """A family for each method that none of the chosen has: a new method is measured without being named here.

    It is measured at 2 % if it has a size, on the tables, with learning rates around 3e-3.
    """
    known = {type(family.of_size(1)) for family in CHOSEN if family.of_size}
    looks = (f"{colour}{mark}" for mark in "*XdhpH<>" for colour in range(len(PALETTE)))
    free = [look for look in looks if look not in {family.look for family in CHOSEN}]
    found = []
    for name, kind in own_methods().items():
        if kind not in known and name not in NOT_COMPARED:
            size = size_name(kind)
            of_size = kind if size else lambda _, kind=kind: kind()
            at, called = (MIDDLE, "P" if size == "length" else size) if size else ((), "")
            found.append(Family(name, free[len(found)], of_size, rates(3e-3), at, called))
    return found


FAMILIES = (*CHOSEN, *others())
LEFT_OUT = (
    "Prompt tuning and P-tuning stand at the smallest budget alone. The next budget would be 175 virtual tokens, and "
    "the model has too few positions for these and a text.",
    "LoRA in every map stands at the largest budget alone, because ranks are whole numbers, and none comes within a "
    "tenth of the other budgets.",
    "Prefixes without an MLP, the adapters of Pfeiffer et al. and parallel adapters stand at the middle budget alone. "
    "The reviews have fewer methods, because sorting them well takes four times as many steps of twice as many "
    "examples, and with all methods the experiment would take hours more. One kind of adapters and one kind of LoRA "
    "stand at all three budgets on one task, and at the middle one on the other task.",
    "IA³, BitFit, the top layer and full fine-tuning have one size each.",
    *NOT_COMPARED.values(),
    "On the reviews, a part of the plan came second. It is LoRA in the feed-forward maps; adapters after the "
    "feed-forward layers alone, as Pfeiffer et al. place them, with the layers' norms tuned beside them, as Houlsby "
    "et al. do; and searches as long as the final runs. The first plan had Houlsby's adapters without norms, LoRA in q "
    "and v, and searches of 600 steps. At 2 % these methods reached 83 % and 91 % of full fine-tuning's accuracy. "
    "Those test scores were seen before the plan was changed. What to change it to was chosen on validation data, with "
    "seeds 0 to 3.",
)
PROTOCOLS = {
    "table_to_text": Protocol(steps=250, search_steps=100, split="test_seen", n_scored=100, n_searched=100),
    "reviews_gpt": Protocol(steps=1000, search_steps=1000, split="test", n_scored=None, n_searched=None, batch=16),
}


# ------------------------------------------------------------------------------------ sizes


def count(method: Method, base: Base) -> int:
    """How many parameters a method keeps for a task on a base."""
    with attached(base, method):
        return method.report().stored


def closest_size(of_size: Callable[[int], Method], base: Base, budget: int, most: int = 128) -> int:
    """The size that keeps about as many parameters as a budget allows; a larger size has to keep more.

    Args:
        of_size: a method of a size.
        base: what it goes onto.
        budget: in parameters.
        most: the largest size.

    Raises:
        UserError: none comes within `TOLERANCE` of it.
    """
    kept = lru_cache(lambda size: count(of_size(size), base))
    above = 1 + bisect_left(range(1, most), budget, key=kept)  # the first size that keeps as many, or `most`
    size = min((max(1, above - 1), above), key=lambda size: abs(kept(size) - budget))
    if abs(kept(size) - budget) > TOLERANCE * budget:
        raise UserError(
            f"No size of {type(of_size(size)).__name__} keeps about {budget:,} parameters on this "
            f"{type(base).__name__}: the closest is {size}, with {kept(size):,}. Leave it out of this budget."
        )
    return size


class Sized(NamedTuple):
    """A family at one size: what is measured of it."""

    family: Family
    budget: str | None  # None: it has one size
    size: int | None
    arm: Arm


one_base = lru_cache(load_base)  # to count on


@lru_cache
def sized(task: str) -> list[Sized]:
    """What is measured on a task: every family that it has, at all of its sizes, searched at the middle one."""
    protocol, found = PROTOCOLS[task], []
    for family in FAMILIES:
        if task not in family.rates:
            continue
        of_budget = family.sizes(task)
        methods = {budget: family.of_size and family.of_size(size or 0) for budget, size in of_budget.items()}
        steps, lr = 0, 0.0  # of a hard prompt
        if family.shots is None:
            middle = list(methods.values())[len(methods) // 2]
            steps, lr = (
                protocol.steps,
                Search(
                    task, middle, family.rates[task], None, protocol.search_steps, protocol.batch, protocol.n_searched
                ),
            )
        for budget, method in methods.items():
            name = family.name if budget is None else f"{family.name}, {budget}"
            arm = Arm(
                name,
                task,
                method,
                lr,
                BUDGETS.get(budget),
                steps,
                protocol.batch,
                None,
                protocol.split,
                protocol.n_scored,
                shots=family.shots,
            )
            found.append(Sized(family, budget, of_budget[budget], arm))
    return found
