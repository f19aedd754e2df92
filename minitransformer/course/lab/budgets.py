"""Experiment "budgets": every method with about as many parameters to keep, on one base and one task (003 §2, 001 §3).

The question is how much of full fine-tuning's score a method reaches with about 0.5 %, 2 % and 8 % of the base's
parameters. What is compared stands in `families.py`, and how it is reported stands here.

The learning rate of a method is searched on validation data, at the middle one of its sizes, among three values half a
power of ten apart. So each method is searched as much as any other. Only then the test is scored, with five seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from minitransformer.course.lab.experiment import SEEDS, Arm, Search, trial, used_rows
from minitransformer.course.lab.families import (
    BUDGETS,
    FAMILIES,
    FULL,
    LEFT_OUT,
    PROTOCOLS,
    TOLERANCE,
    Sized,
    sized,
)
from minitransformer.course.lab.intervals import Interval
from minitransformer.course.lab.report import SEARCH_TITLE, each_of, footing, interval, markdown, search_line, shown
from minitransformer.course.lab.store import Store
from minitransformer.course.lab.tasks import LAB_TASKS
from minitransformer.course.show import PALETTE, figure, say, table


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


CAPTION = (
    "The score of each method at each budget of parameters. Bars are 95 % t-intervals over the seeds, and the grey "
    "band is full fine-tuning's."
)
SAYS = {"slots": "fraction of values stated", "accuracy": "fraction of reviews sorted right"}
TITLES = {
    "table_to_text": "Table to text, on the GPT",
    "reviews_gpt": "Reviews, on the GPT with a classifier's head",
}


@dataclass(frozen=True)
class Budgets:
    """The experiment, as the laboratory runs and reports it. It is no claim, but claims are judged by its rows.

    Args:
        small: one seed, a few steps, few examples.
    """

    small: bool = False
    name = "budgets"
    company = ()  # what a claim measures besides

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
            scores = {name: interval([row["scores"][name] for row in rows]) for name in LAB_TASKS[task].scores}
            counts = [rows[0][name] for name in ("stored", "trained", "share")]
            found.append(Result(one.family.name, one.budget, size, *counts, rows[0]["cell"]["lr"], scores, None))
        main = LAB_TASKS[task].score
        full = next((result.scores[main].mean for result in found if result.name == FULL), None)
        return [result._replace(of_full=full and result.scores[main].mean / full) for result in found]

    def tell(self, store: Store) -> None:
        """Print the results."""
        for task in PROTOCOLS:
            say(f"\n{TITLES[task]}\n")
            table([cells_of(result, task) for result in self.results(task, store)], headers(task))

    def found(self, store: Store) -> dict[str, list[Result]]:
        """The results of each task of which anything is measured."""
        found = {task: self.results(task, store) for task in PROTOCOLS}
        return {task: results for task, results in found.items() if results}

    def draw(self, store: Store) -> None:
        """Save the figure, if anything is measured."""
        found = self.found(store)
        if found:
            with figure("quality", CAPTION, **layout(found)) as grid:
                plot_all(grid, found)

    def section(self, store: Store) -> list[str]:
        """The lines of data/lab/README.md on this experiment, from the rows alone."""
        used = used_rows(self.arms, store)
        lines = [
            "## budgets",
            "",
            f"How much of full fine-tuning does each method reach with about {', '.join(BUDGETS)} of the parameters "
            f"({', '.join(f'{number:,}' for number in BUDGETS.values())})? `python -m minitransformer lab budgets` "
            "(`make lab ARGS=budgets`) measures it and draws the figure `figures/budgets/quality.png`; with `--draw` "
            "it makes tables and figure from the rows as they are.",
            "",
            "A method has the size at which the parameters that are kept (without a classifier's head) are closest to "
            f"the budget, at most {TOLERANCE:.0%} off. Its learning rate is the one of three, half a power of ten "
            "apart, with the lowest loss on the validation split. It is searched at the middle one of the method's "
            f"sizes, with seed 0. Then the test split is scored, with seeds {SEEDS[0]} to {SEEDS[-1]}. A seed decides "
            "what a method and a classifier's head begin as, and the order of the examples. Intervals are 95 % t-"
            f'intervals over the {len(SEEDS)} seeds. "of full" is the ratio of the mean to full fine-tuning\'s.',
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
                + "; ".join(f"{name}: {text}" for name, text in LAB_TASKS[task].scores.items())
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
    scores = [shown(result.scores[name], 1 if name == "bleu" else 3) for name in LAB_TASKS[task].scores]
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
    return ["method", "size", "kept", "share", "trained", "lr", *LAB_TASKS[task].scores, "of full", "n"]


def layout(found: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """What `figure` has to know: a panel for each task, as high as its lines need."""
    lines = sum(len(results) + 7 for results in found.values())
    return {"size": (9.5, 0.27 * lines), "rows": len(found)}


def plot_all(grid: Any, found: Mapping[str, Sequence[Result]]) -> None:
    """Draw the tasks, one below the other."""
    for axes, (task, results) in zip(each_of(grid), found.items(), strict=True):
        plot(axes, results, task)


def plot(axes: Any, found: Sequence[Result], task: str) -> None:
    """The score of each method, on a line of its own, with the 95 % interval over the seeds.

    The lines are grouped by budget, the best first. What is far below the others, or whose interval says next to
    nothing, does not stretch the axis: its number stands at the left end of its line.
    """
    main, looks = LAB_TASKS[task].score, {family.name: family.look for family in FAMILIES}
    at_all = [result for result in found if result.budget is None]
    groups = {budget: [result for result in found if result.budget == budget] for budget in BUDGETS}
    labels, ends, y = {}, [], 0
    best = max((result.scores[main].mean for result in found), default=0.0)
    clear = [
        result.scores[main]
        for result in found
        if result.scores[main].half < 0.2 * best and result.scores[main].mean > 0.5 * best
    ]
    left = min((value.low for value in clear), default=0.0)
    right = max((value.high for value in clear), default=1.0)
    room = 0.04 * (right - left) or 0.01
    for budget, own in {**groups, None: at_all}.items():
        for result in sorted(own, key=lambda result: -result.scores[main].mean):
            value, (colour, mark) = result.scores[main], looks[result.name]
            style = {"marker": mark if mark not in "-:" else "o", "color": PALETTE[int(colour)]}
            if value.mean < left:
                axes.text(left - room, y, f"◂ {shown(value)}", va="center", fontsize=9)
            else:
                axes.errorbar(value.mean, y, xerr=value.half, capsize=3, linestyle="", label=result.name, **style)
            size = f"  ({result.size})" if result.size else f"  ({result.stored:,})" if result.stored else ""
            labels[y] = result.name + size
            if result.name == FULL:
                axes.axvspan(value.low, value.high, alpha=0.15, color=PALETTE[int(colour)], linewidth=0)
            y += 1
        if own:
            title = f"{budget}, about {BUDGETS[budget]:,} parameters" if budget else "one size only"
            ends.append((y, title))
            y += 1
    for end, _ in ends[:-1]:
        axes.axhline(end, color="grey", linewidth=0.8)
    starts = [-1, *(end for end, _ in ends)]
    for start, (_, title) in zip(starts, ends, strict=False):
        axes.text(1.01, start + 1, title, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(list(labels), list(labels.values()), fontsize=9)
    axes.set(xlim=(left - 2 * room, right + room), ylim=(y - 0.5, -1), title=TITLES[task])
    axes.set_xlabel(SAYS[main])
    axes.grid(axis="y", visible=False)
