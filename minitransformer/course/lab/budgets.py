"""Experiment "budgets": every method with about as many numbers to keep, on one base and one task (003 §2, 001 §3).

The question is how much of full fine-tuning a method gets with about 0.5 %, 2 % and 8 % of the base's numbers. What is
compared stands in `families.py`; here it is told.

The learning rate of a method is searched on validation data, at the middle one of its sizes, among three values half a
power of ten apart: as much search for each method as for any other. Only then the test is scored, with five seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from minitransformer.course.lab.experiment import SEEDS, Arm, Search, trial, used_rows
from minitransformer.course.lab.families import (
    BUDGETS,
    FAMILIES,
    FULL,
    HEAD,
    LEFT_OUT,
    PROTOCOLS,
    TOLERANCE,
    Sized,
    sized,
)
from minitransformer.course.lab.intervals import Interval
from minitransformer.course.lab.report import SEARCH_TITLE, footing, interval, markdown, search_line, shown
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


def plot(axes: Any, found: Sequence[Result], task: str) -> None:
    """Quality against the numbers kept, with bands of 95 % intervals over the seeds.

    Marks of one budget are moved apart sideways, by a fifth at most, so that none hides another. What is far below the
    others, or whose interval says next to nothing, does not stretch the axis: it is named at the bottom.
    """
    main, own_families = LAB_TASKS[task].score, [family for family in FAMILIES if task in family.rates]
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
    axes.set(ylabel=LAB_TASKS[task].scores[main], title=TITLES[task])
    axes.set_xticks(list(BUDGETS.values()), [f"{number:,}\n{name}" for name, number in BUDGETS.items()])
    axes.minorticks_off()
