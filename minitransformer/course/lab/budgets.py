"""Experiment "budgets": every method with about as many numbers to keep, on one base and one task (003 §2, 001 §3).

The question is how much of full fine-tuning a method gets with about 0.5 %, 2 % and 8 % of the base's numbers. Sizes
are chosen so that what is kept for a task (`Report.stored`, without a classifier's head) is within a tenth of the
budget. A budget is a number, not a share, so that the GPT and the BERT, which differ by 3 %, have the same; and its
first value is one that whole ranks, widths and lengths of all methods come near to.

The learning rate of a method is searched on validation data, at the middle one of its sizes, among three values half a
power of ten apart: as much search for each method as for any other. Only then the test is scored, with five seeds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from minitransformer.course.bases import load_base
from minitransformer.course.lab.cells import TASKS
from minitransformer.course.lab.experiment import SEEDS, Arm, Search, trial, used_rows
from minitransformer.course.lab.intervals import Interval
from minitransformer.course.lab.report import SEARCH_TITLE, footing, interval, markdown, search_line, shown
from minitransformer.course.lab.store import Store
from minitransformer.course.show import PALETTE, figure, say, table
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
from minitransformer.tuning.method import Base

BUDGETS = {"0.5 %": 5_600, "2 %": 22_400, "8 %": 89_600}
TOLERANCE = 0.1  # how far from its budget a method may be, as a share of it
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
        base = one_base(TASKS[task].base)
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
FAMILIES = (
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
LEFT_OUT = (
    "Prompt tuning and P-tuning stand at the smallest budget alone: the next would be 175 virtual tokens, and the "
    "model has too few positions for these and a text.",
    "LoRA in every map stands at the largest alone: ranks are whole, and none comes within a tenth of the others.",
    "Prefixes without an MLP, the adapters of Pfeiffer et al. and parallel ones stand at the middle alone, and the "
    "reviews have fewer methods: to sort them well takes four times as many steps of twice as many examples, and with "
    "all methods the experiment would take hours more. Of adapters and of LoRA, one kind stands at all three on one "
    "task and at the middle on the other.",
    "IA³, BitFit, the top layer and full fine-tuning have one size each.",
    "On the reviews, some of the plan came second: LoRA in the feed-forward maps; adapters after the feed-forward "
    "layers alone, as Pfeiffer et al. place them, with the layers' norms tuned beside them, as Houlsby et al. do; and "
    "searches as long as the final runs. The first plan had Houlsby's adapters without norms, LoRA in q and v, and "
    "searches of 600 steps: at 2 % they kept 83 % and 91 % of full fine-tuning's accuracy. Those test scores were seen "
    "before the plan was changed; what to change it to was chosen on validation data, with seeds 0 to 3.",
)
PROTOCOLS = {
    "table_to_text": Protocol(steps=250, search_steps=100, split="test_seen", n_scored=100, n_searched=100),
    "reviews_gpt": Protocol(steps=1000, search_steps=1000, split="test", n_scored=None, n_searched=None, batch=16),
}


# ------------------------------------------------------------------------------------ sizes


def count(method: Method, base: Base) -> int:
    """How many numbers a method keeps for a task on a base."""
    with attached(base, method):
        return method.report().stored


def closest_size(of_size: Callable[[int], Method], base: Base, budget: int, most: int = 128) -> int:
    """The size whose count of numbers kept is closest to a budget; a larger size has to keep more.

    Args:
        of_size: a method of a size.
        base: what it goes onto.
        budget: in numbers.
        most: the largest size.

    Raises:
        UserError: none comes within `TOLERANCE` of it.
    """
    kept = lru_cache(lambda size: count(of_size(size), base))
    above = 1 + bisect_left(range(1, most), budget, key=kept)  # the first size that keeps as many, or `most`
    size = min((max(1, above - 1), above), key=lambda size: abs(kept(size) - budget))
    if abs(kept(size) - budget) > TOLERANCE * budget:
        raise UserError(
            f"No size of {type(of_size(size)).__name__} keeps about {budget:,} numbers on this {type(base).__name__}: "
            f"the closest is {size}, with {kept(size):,}. Leave it out of this budget."
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


# ------------------------------------------------------------------------------------ results


class Result(NamedTuple):
    """What the final cells of a method at one size came to."""

    name: str
    budget: str | None
    size: str
    stored: int
    trained: int
    share: float
    lr: float
    scores: dict[str, Interval]
    of_full: float | None  # the mean score as a share of full fine-tuning's


TITLES = {
    "table_to_text": "Table to text, on the GPT",
    "reviews_gpt": "Reviews, on the GPT with a classifier's head",
}


@dataclass(frozen=True)
class Budgets:
    """The experiment, as the laboratory runs and tells it. It is no claim; claims are judged by its rows.

    Args:
        small: one seed, a few steps, few examples.
    """

    small: bool = False
    name = "budgets"

    def sized(self, task: str) -> list[Sized]:
        """What is measured on a task."""
        return [one._replace(arm=trial(one.arm)) if self.small else one for one in sized(task)]

    @property
    def arms(self) -> list[Arm]:
        """Of all tasks."""
        return [one.arm for task in PROTOCOLS for one in self.sized(task)]

    def trial(self) -> Budgets:
        """The experiment in small."""
        return Budgets(small=True)

    def results(self, task: str, store: Store) -> list[Result]:
        """Every size of every method whose cells all have a row, and nothing that is not in the rows."""
        found: list[Result] = []
        for one in self.sized(task):
            rows = one.arm.rows(store)
            if rows is None:
                continue
            size = "" if one.size is None else f"{one.family.size} = {one.size}"
            scores = {name: interval([row["scores"][name] for row in rows]) for name in TASKS[task].scores}
            counts = [rows[0][name] for name in ("stored", "trained", "share")]
            found.append(Result(one.family.name, one.budget, size, *counts, rows[0]["cell"]["lr"], scores, None))
        main = TASKS[task].score
        full = next((result.scores[main].mean for result in found if result.name == FULL), None)
        return [result._replace(of_full=full and result.scores[main].mean / full) for result in found]

    def tell(self, store: Store) -> None:
        """Print the results."""
        for task in PROTOCOLS:
            say(f"\n{TITLES[task]}\n")
            table([cells_of(result, task) for result in self.results(task, store)], headers(task))

    def draw(self, store: Store) -> None:
        """Save the figure, a panel for each task, if there is anything to be seen."""
        if not any(arm.rows(store) for arm in self.arms):
            return
        caption = (
            "Quality against the numbers kept for a task; bars and bands are 95 % t-intervals over the seeds. The "
            "black line: full fine-tuning."
        )
        with figure("quality", caption, (11, 4.2 * len(PROTOCOLS)), len(PROTOCOLS), 1) as axes:
            for ax, task in zip(axes, PROTOCOLS, strict=True):
                plot(ax, self.results(task, store), task)
                ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)

    def section(self, store: Store) -> list[str]:
        """The lines of data/lab/README.md on this experiment, from the rows alone."""
        used = used_rows(self.arms, store)
        lines = [
            "## budgets",
            "",
            f"How much of full fine-tuning does each method get with about {', '.join(BUDGETS)} of the base's numbers "
            f"({', '.join(f'{number:,}' for number in BUDGETS.values())})? `python -m minitransformer lab budgets` "
            "(`make lab ARGS=budgets`) measures it and draws the figure `figures/budgets/quality.png`; with `--draw` "
            "it makes tables and figure from the rows as they are.",
            "",
            "A method's size is the one whose numbers kept (a classifier's head not counted) are closest to the "
            f"budget, at most {TOLERANCE:.0%} off. Its learning rate is the one of three, half a power of ten apart, "
            "with the lowest loss on the validation split, searched at the middle one of its sizes with seed 0. Then "
            f"the test split is scored, with seeds {SEEDS[0]} to {SEEDS[-1]}; a seed decides what a method and a "
            "classifier's head begin as, and the order of the examples. Intervals are 95 % t-intervals over the "
            f'{len(SEEDS)} seeds. "of full" is the ratio of the mean to full fine-tuning\'s.',
            "",
            *(f"- {sentence}" for sentence in LEFT_OUT),
            "",
            footing(used),
            "",
        ]
        for task, protocol in PROTOCOLS.items():
            of = "all" if protocol.n_scored is None else f"the first {protocol.n_scored}"
            searched = "all" if protocol.n_searched is None else f"the first {protocol.n_searched}"
            lines += [
                f"### {TITLES[task]}",
                "",
                f"{protocol.steps} steps of {protocol.batch} examples, in the search {protocol.search_steps}; scored "
                f"on {of} of `{protocol.split}`, in the search on {searched} of `valid`. "
                + "; ".join(f"{name}: {text}" for name, text in TASKS[task].scores.items())
                + ".",
            ]
            if used:
                found = [cells_of(result, task) for result in self.results(task, store)]
                lines += ["", *markdown(headers(task), found, text=2), ""]
                lines += [SEARCH_TITLE, ""]
                lines += markdown(["method", "size", "lr: loss", "", ""], self.searches(task, store), text=5)
            lines.append("")
        return lines

    def searches(self, task: str, store: Store) -> list[list[str]]:
        """A line for each method: the losses of its learning rates."""
        lines: dict[str, list[str]] = {}
        for one in self.sized(task):
            if isinstance(one.arm.lr, Search):
                settings = one.arm.search_cells()[0].settings
                size = next((settings[name] for name in ("length", "width", "rank") if name in settings), None)
                size = "–" if size is None or not one.family.size else f"{one.family.size} = {size}"
                lines[one.family.name] = [one.family.name, size, *search_line(one.arm.lr, store)]
        return list(lines.values())


def cells_of(result: Result, task: str) -> list[str]:
    """A result as a line of a table."""
    scores = [shown(result.scores[name], 1 if name == "bleu" else 3) for name in TASKS[task].scores]
    of_full = "–" if result.of_full is None else f"{result.of_full:.1%}"
    n = next(iter(result.scores.values())).n
    return [
        result.name,
        result.size or "–",
        f"{result.stored:,}",
        f"{result.share:.2%}",
        f"{result.trained:,}",
        f"{result.lr:g}",
        *scores,
        of_full,
        str(n),
    ]


def headers(task: str) -> list[str]:
    """The columns of `cells_of`."""
    return ["method", "size", "kept", "share", "trained", "lr", *TASKS[task].scores, "of full", "n"]


def plot(axes: Any, found: Sequence[Result], task: str) -> None:
    """Quality against the numbers kept, with bands of 95 % intervals over the seeds.

    Marks of one budget are moved apart sideways, by a fifth at most, so that none hides another. What is far below the
    others, or whose interval says next to nothing, does not stretch the axis: it is named at the bottom.
    """
    main, own_families = TASKS[task].score, [family for family in FAMILIES if task in family.rates]
    for i, family in enumerate(own_families):
        own = [result for result in found if result.name == family.name]
        if not own:
            continue
        aside = 1.44 ** (i / len(own_families) - 0.5)
        x, score = [aside * result.stored for result in own], [result.scores[main] for result in own]
        mean, low, high = ([getattr(value, part) for value in score] for part in ("mean", "low", "high"))
        colour, mark = PALETTE[int(family.look[0])], family.look[1]
        if family.name in (FULL, HEAD) or family.shots is not None:  # all numbers, or none: no place on the axis
            axes.axhspan(low[0], high[0], alpha=0.15, color=colour, linewidth=0)
            axes.axhline(mean[0], linestyle=mark, color=colour, label=family.name)
        else:
            bars = [value.half for value in score]
            axes.errorbar(x, mean, bars, marker=mark, capsize=2, linewidth=1.2, color=colour, label=family.name)
            axes.fill_between(x, low, high, alpha=0.12, color=colour, linewidth=0)
    best = max((result.scores[main].mean for result in found), default=0.0)
    clear = [
        result.scores[main]
        for result in found
        if result.scores[main].half < 0.2 * best and result.scores[main].mean > 0.5 * best
    ]
    if clear:
        bottom, top = min(value.low for value in clear), max(value.high for value in clear)
        room = 0.08 * (top - bottom) or 0.01
        axes.set_ylim(bottom - 2 * room, top + room)
        below = [f"{result.name} {shown(result.scores[main])}" for result in found if result.scores[main].mean < bottom]
        if below:
            axes.text(0.01, 0.02, "below: " + "; ".join(below), transform=axes.transAxes, fontsize=9)
    axes.set(xscale="log", xlim=(2_000, 400_000), xlabel="numbers kept for the task (log); share of the base")
    axes.set(ylabel=TASKS[task].scores[main], title=TITLES[task])
    axes.set_xticks(list(BUDGETS.values()), [f"{number:,}\n{name}" for name, number in BUDGETS.items()])
    axes.minorticks_off()
