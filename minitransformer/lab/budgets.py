"""Experiment "budgets": every method with about as many numbers to keep, on one base and one task (003 §2, 001 §3).

The question is how much of full fine-tuning a method gets with about 0.5 %, 2 % and 8 % of the base's numbers. Sizes
are chosen so that what is kept for a task (`Report.stored`, without a classifier's head) is within a tenth of the
budget. A budget is a number, not a share, so that the GPT and the BERT, which differ by 3 %, have the same; and its
first value is one that whole ranks, widths and lengths of all methods come near to.

The learning rate of a method is searched on validation data, at the middle one of its sizes, among three values half a
power of ten apart: as much search for each method as for any other. Only then the test is scored, with five seeds.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from minitransformer.bases import load_base
from minitransformer.errors import UserError
from minitransformer.lab.cells import NO_METHOD, TASKS, Cell
from minitransformer.lab.intervals import Interval
from minitransformer.lab.report import interval, made_from, markdown, shown
from minitransformer.lab.run import measure, progress
from minitransformer.lab.store import Store
from minitransformer.show import PALETTE, figure, say, table
from minitransformer.tuning import (
    IA3,
    Adapter,
    BitFit,
    FullFineTuning,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    TopLayers,
    attached,
)
from minitransformer.tuning.method import Base

BUDGETS = {"0.5 %": 5_600, "2 %": 22_400, "8 %": 89_600}
TOLERANCE = 0.1  # how far from its budget a method may be, as a share of it
FULL, HEAD = "full fine-tuning", "head alone"
RATES = tuple(float(f"{m}e{e}") for e in range(-5, 0) for m in (1, 3))  # 1e-5, 3e-5, …, 3e-1


@dataclass(frozen=True, eq=False)
class Family:
    """A method at all of its sizes."""

    name: str
    look: str  # in the figure: which colour, which mark
    of_size: Callable[[int], Method] | None  # None: no method, a classifier's head alone
    rates: Mapping[str, float]  # task → the middle one of the learning rates that are tried
    budgets: Sequence[str] = ()  # those it is measured at; none: it has one size, whatever that is
    size: str = ""  # what its size is called


@dataclass(frozen=True)
class Protocol:
    """How the cells of one task are trained and scored."""

    steps: int
    search_steps: int
    split: str  # which the final cells score
    n_scored: int | None  # of that split
    n_searched: int | None  # of the validation data, in the search
    batch: int = 8
    budgets: Sequence[str] = tuple(BUDGETS)  # at which there is enough time for this task


@dataclass(frozen=True)
class Plan:
    """The experiment: which methods, seeds and protocols."""

    families: Sequence[Family]
    seeds: Sequence[int]
    protocols: Mapping[str, Protocol]


def rates(table_to_text: float, reviews_gpt: float, reviews_bert: float | None = None) -> dict[str, float]:
    """The middle learning rates by task; a family without one is not measured there."""
    given = {"table_to_text": table_to_text, "reviews_gpt": reviews_gpt, "reviews_bert": reviews_bert}
    return {task: lr for task, lr in given.items() if lr is not None}


ALL, SMALL, MIDDLE, LARGE = tuple(BUDGETS), ("0.5 %",), ("2 %",), ("8 %",)
EVERY_MAP = ("q", "k", "v", "attention.out", "up", "down")
FAMILIES = (
    Family("prefix, MLP", "0o", lambda n: PrefixTuning(n, reparametrise=256), rates(3e-3, 3e-3, 3e-3), ALL, "P"),
    Family("prefix, direct", "0s", lambda n: PrefixTuning(n, init="vocabulary"), rates(3e-2, 3e-2), MIDDLE, "P"),
    Family("prompt tuning", "5^", PromptTuning, rates(1e-1, 3e-2), SMALL, "P"),
    Family("adapter, Houlsby", "1o", Adapter, rates(3e-3, 3e-3, 1e-3), ALL, "width"),
    Family("adapter, Pfeiffer", "1s", lambda n: Adapter(n, "pfeiffer"), rates(3e-3, 3e-3), MIDDLE, "width"),
    Family("adapter, parallel", "1D", lambda n: Adapter(n, "parallel", scale=4.0), rates(3e-3, 3e-3), MIDDLE, "width"),
    Family("LoRA, q and v", "2o", LoRA, rates(1e-2, 1e-2, 3e-3), ALL, "rank"),
    Family("LoRA, every map", "2s", lambda n: LoRA(n, targets=EVERY_MAP), rates(3e-3, 3e-3), LARGE, "rank"),
    Family("IA³", "3v", lambda _: IA3(), rates(3e-2, 3e-2)),
    Family("BitFit", "4P", lambda _: BitFit(), rates(1e-2, 1e-2)),
    Family("top layer", "6X", lambda _: TopLayers(1), rates(3e-3, 3e-3)),
    Family(FULL, "6-", lambda _: FullFineTuning(), rates(1e-3, 1e-3, 3e-4)),
    Family(HEAD, "6:", None, {"reviews_gpt": 1e-2, "reviews_bert": 1e-2}),
)
LEFT_OUT = (
    "Prompt tuning stands at the smallest budget alone: the next would be 175 virtual tokens, and the models have too "
    "few positions for these and a text.",
    "LoRA in every map stands at the largest alone: ranks are whole, and none comes within a tenth of the others.",
    "Prefixes without an MLP, the adapters of Pfeiffer et al. and parallel ones stand at the middle alone: with all at "
    "all budgets the experiment would take more than an hour on two cores. So would the BERT with all methods; it has "
    "one budget and a method of each sort.",
    "IA³, BitFit, the top layer and full fine-tuning have one size each.",
)
PLAN = Plan(
    FAMILIES, range(5), {
        "table_to_text": Protocol(steps=250, search_steps=100, split="test_seen", n_scored=150, n_searched=100),
        "reviews_gpt": Protocol(steps=250, search_steps=100, split="test", n_scored=None, n_searched=200),
        "reviews_bert": Protocol(200, 100, split="test", n_scored=None, n_searched=200, budgets=MIDDLE),
    },
)  # fmt: skip
TRIAL = Plan(  # one method at one size with one seed, on the validation data alone
    (replace(next(f for f in FAMILIES if f.name == "LoRA, q and v"), budgets=MIDDLE),), [0], {
        "table_to_text": Protocol(steps=60, search_steps=20, split="valid", n_scored=30, n_searched=10),
        "reviews_gpt": Protocol(steps=40, search_steps=20, split="valid", n_scored=100, n_searched=50),
    },
)  # fmt: skip


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


class Arm(NamedTuple):
    """A method at one size."""

    family: Family
    budget: str | None
    size: int | None
    method: str
    settings: dict[str, Any]


one_base = lru_cache(load_base)  # to count on


@lru_cache
def arm(family: Family, budget: str | None, kind: str) -> Arm:
    """A family's method at a budget on a base; where it has no budget, at its own size."""
    if family.of_size is None:
        return Arm(family, None, None, NO_METHOD, {})
    size = None if budget is None else closest_size(family.of_size, one_base(kind), BUDGETS[budget])
    method = family.of_size(size or 0)
    return Arm(family, budget, size, type(method).__name__, json.loads(json.dumps(method.settings)))


# ------------------------------------------------------------------------------------ cells


def families(plan: Plan, task: str) -> list[Family]:
    """Those that a task has."""
    return [family for family in plan.families if task in family.rates]


def measured_at(plan: Plan, task: str, family: Family) -> list[str | None]:
    """The budgets at which a family is measured on a task; [None] for one that has a single size."""
    return [budget for budget in family.budgets if budget in plan.protocols[task].budgets] or [None]


def search_cells(plan: Plan, task: str, family: Family) -> list[Cell]:
    """A family at its middle size with each learning rate, on validation data."""
    protocol, middle = plan.protocols[task], RATES.index(family.rates[task])
    budgets = measured_at(plan, task, family)
    tried = arm(family, budgets[len(budgets) // 2], TASKS[task].base)
    return [
        Cell(task, tried.method, tried.settings, lr, protocol.search_steps, 0, protocol.batch, None, "valid",
             protocol.n_searched)
        for lr in RATES[middle - 1 : middle + 2]
    ]  # fmt: skip


def chosen_rate(plan: Plan, task: str, family: Family, store: Store) -> float | None:
    """The learning rate with the lowest validation loss; None as long as a cell of the search is missing."""
    rows = [store.row(cell) for cell in search_cells(plan, task, family)]
    if None in rows:
        return None
    return min(rows, key=lambda row: row["loss"])["cell"]["lr"]


def arms(plan: Plan, task: str, family: Family, store: Store) -> Iterator[tuple[Arm, list[Cell]]]:
    """A family's sizes, and the final cells of each, one a seed; none before its learning rate is chosen."""
    lr, protocol = chosen_rate(plan, task, family, store), plan.protocols[task]
    for budget in measured_at(plan, task, family):
        own = arm(family, budget, TASKS[task].base)
        yield own, [] if lr is None else [
            Cell(task, own.method, own.settings, lr, protocol.steps, seed, protocol.batch, None, protocol.split,
                 protocol.n_scored)
            for seed in plan.seeds
        ]  # fmt: skip


def all_steps(plan: Plan) -> int:
    """The steps of training of all cells."""
    return sum(
        3 * protocol.search_steps + len(measured_at(plan, task, family)) * len(plan.seeds) * protocol.steps
        for task, protocol in plan.protocols.items() for family in families(plan, task)
    )  # fmt: skip


def run(plan: Plan, store: Store) -> None:
    """Measure whatever is not finished: the search, then the final cells.

    Raises:
        UserError: cells failed; the others are finished by then.
    """
    pairs = [(task, family) for task in plan.protocols for family in families(plan, task)]
    with progress(all_steps(plan)) as bar:
        failed = measure([cell for pair in pairs for cell in search_cells(plan, *pair)], store, bar)
        searched = [pair for pair in pairs if not any(cell.key in failed for cell in search_cells(plan, *pair))]
        final = [cell for pair in searched for _, cells in arms(plan, *pair, store) for cell in cells]
        failed |= measure(final, store, bar)
    if failed:
        raise UserError(
            f"{len(failed)} cell{'s' * (len(failed) > 1)} failed, as named above; the others are in {store.path.name}. "
            "Run the same command again once the cause is mended."
        )


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


def results(plan: Plan, task: str, store: Store) -> list[Result]:
    """Every size of every method whose cells all have a row, and nothing that is not in the rows."""
    found: list[Result] = []
    for family in families(plan, task):
        for own, cells in arms(plan, task, family, store):
            rows = [store.row(cell) for cell in cells]
            if not rows or None in rows:
                continue
            size = "" if own.size is None else f"{family.size} = {own.size}"
            scores = {name: interval([row["scores"][name] for row in rows]) for name in TASKS[task].scores}
            counts = [rows[0][name] for name in ("stored", "trained", "share")]
            found.append(Result(family.name, own.budget, size, *counts, cells[0].lr, scores, None))
    main = TASKS[task].score
    full = next((result.scores[main].mean for result in found if result.name == FULL), None)
    return [result._replace(of_full=full and result.scores[main].mean / full) for result in found]


def cells_of(result: Result, task: str) -> list[str]:
    """A result as a line of a table."""
    scores = [shown(result.scores[name], 1 if name == "bleu" else 3) for name in TASKS[task].scores]
    of_full = "–" if result.of_full is None else f"{result.of_full:.1%}"
    n = next(iter(result.scores.values())).n
    return [
        result.name, result.size or "–", f"{result.stored:,}", f"{result.share:.2%}", f"{result.trained:,}",
        f"{result.lr:g}", *scores, of_full, str(n),
    ]  # fmt: skip


def headers(task: str) -> list[str]:
    """The columns of `cells_of`."""
    return ["method", "size", "kept", "share", "trained", "lr", *TASKS[task].scores, "of full", "n"]


TITLES = {
    "table_to_text": "Table to text, on the GPT",
    "reviews_gpt": "Reviews, on the GPT with a classifier's head",
    "reviews_bert": "Reviews, on the BERT with a classifier's head",
}


def plot(axes: Any, plan: Plan, task: str, store: Store) -> None:
    """Quality against the numbers kept, with bands of 95 % intervals over the seeds.

    Marks of one budget are moved apart sideways, by a fifth at most, so that none hides another.
    """
    found, main = results(plan, task, store), TASKS[task].score
    own_families = families(plan, task)
    for i, family in enumerate(own_families):
        own = [result for result in found if result.name == family.name]
        if not own:
            continue
        aside = 1.44 ** (i / len(own_families) - 0.5)
        x, score = [aside * result.stored for result in own], [result.scores[main] for result in own]
        mean, low, high = ([getattr(value, part) for value in score] for part in ("mean", "low", "high"))
        colour, mark = PALETTE[int(family.look[0])], family.look[1]
        if family.name in (FULL, HEAD):  # all numbers, or none: no place on the axis
            axes.axhspan(low[0], high[0], alpha=0.15, color=colour, linewidth=0)
            axes.axhline(mean[0], linestyle=mark, color=colour, label=family.name)
        else:
            bars = [value.half for value in score]
            axes.errorbar(x, mean, bars, marker=mark, capsize=2, linewidth=1.2, color=colour, label=family.name)
            axes.fill_between(x, low, high, alpha=0.12, color=colour, linewidth=0)
    axes.set(xscale="log", xlim=(2_000, 400_000), xlabel="numbers kept for the task (log); share of the base")
    axes.set(ylabel=TASKS[task].scores[main], title=TITLES[task])
    axes.set_xticks(list(BUDGETS.values()), [f"{number:,}\n{name}" for name, number in BUDGETS.items()])
    axes.minorticks_off()


def draw(plan: Plan, store: Store) -> None:
    """Save the figure, a panel for each task."""
    caption = (
        "Quality against the numbers kept for a task; bars and bands are 95 % t-intervals over the seeds. The black "
        "line: full fine-tuning."
    )
    with figure("quality", caption, (11, 4.2 * len(plan.protocols)), len(plan.protocols), 1) as axes:
        for ax, task in zip(axes, plan.protocols, strict=True):
            plot(ax, plan, task, store)
            ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)


def section(plan: Plan, store: Store) -> list[str]:
    """The lines of data/lab/README.md on this experiment, from the rows alone."""
    used = [row for row in (store.row(cell) for cell in every_cell(plan, store)) if row]
    n = len(plan.seeds)
    lines = [
        "## budgets", "",
        f"How much of full fine-tuning does each method get with about {', '.join(BUDGETS)} of the base's numbers "
        f"({', '.join(f'{number:,}' for number in BUDGETS.values())})? `python -m minitransformer lab budgets` "
        "(`make lab ARGS=budgets`) measures it and writes `budgets.jsonl` and the figure "
        "`figures/budgets/quality.png`; with `--draw` it makes tables and figure from the rows as they are.", "",
        "A method's size is the one whose numbers kept (a classifier's head not counted) are closest to the budget, at "
        f"most {TOLERANCE:.0%} off. Its learning rate is the one of three, half a power of ten apart, with the lowest "
        "loss on the validation split, searched at the middle one of its sizes with seed 0. Then the test split is "
        f"scored, with seeds {plan.seeds[0]} to {plan.seeds[-1]}; a seed decides what a method and a classifier's head "
        f"begin as, and the order of the examples. Intervals are 95 % t-intervals over the {n} seeds. \"of full\" is "
        "the ratio of the mean to full fine-tuning's.", "",
        *(f"- {sentence}" for sentence in LEFT_OUT), "",
        f"{len(used)} cells, {sum(row['seconds'] for row in used) / 60:.0f} minutes of one core. {made_from(used)}", "",
    ]  # fmt: skip
    for task, protocol in plan.protocols.items():
        of = "all" if protocol.n_scored is None else f"the first {protocol.n_scored}"
        searched = "all" if protocol.n_searched is None else f"the first {protocol.n_searched}"
        lines += [
            f"### {TITLES[task]}", "",
            f"{protocol.steps} steps of {protocol.batch} examples, in the search {protocol.search_steps}; scored on "
            f"{of} of `{protocol.split}`, in the search on {searched} of `valid`. "
            + "; ".join(f"{name}: {text}" for name, text in TASKS[task].scores.items()) + ".",
        ]  # fmt: skip
        if used:
            found = [cells_of(result, task) for result in results(plan, task, store)]
            lines += ["", *markdown(headers(task), found, text=2), ""]
            lines += ["The search: loss on validation data (bold: chosen; ⚠: the lowest or highest tried).", ""]
            lines += markdown(["method", "size", "lr: loss", "", ""], searches(plan, task, store), text=5)
        lines.append("")
    return lines


def every_cell(plan: Plan, store: Store) -> Iterator[Cell]:
    """The cells of the search, and the final ones as far as they are decided."""
    for task in plan.protocols:
        for family in families(plan, task):
            yield from search_cells(plan, task, family)
            for _, cells in arms(plan, task, family, store):
                yield from cells


def searches(plan: Plan, task: str, store: Store) -> list[list[str]]:
    """A line for each method: the losses of its learning rates."""
    lines = []
    for family in families(plan, task):
        cells, chosen = search_cells(plan, task, family), chosen_rate(plan, task, family, store)
        texts = []
        for place, cell in enumerate(cells):
            row = store.row(cell)
            text = f"{cell.lr:g}: " + (f"{row['loss']:.3f}" if row else "–")
            if row and cell.lr == chosen:
                text = f"**{text}**" + " ⚠" * (place != 1)
            texts.append(text)
        settings = cells[0].settings
        size = next((settings[name] for name in ("length", "width", "rank") if name in settings), None)
        lines.append([family.name, "–" if size is None else f"{family.size} = {size}", *texts])
    return lines


def tell(plan: Plan, store: Store) -> None:
    """Print the results."""
    for task in plan.protocols:
        say(f"\n{TITLES[task]}\n")
        table([cells_of(result, task) for result in results(plan, task, store)], headers(task))
