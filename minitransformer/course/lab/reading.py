"""How lesson 14 reads the rows: two arms seed by seed, searches, a claim with its verdict, doubts, and advice.

Nothing here is measured. Everything is computed from the rows of a store, and says so where there are none yet.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from minitransformer.course.lab.budgets import Budgets, Result
from minitransformer.course.lab.cells import Row
from minitransformer.course.lab.claim import (
    ANSWERED,
    HOLDS,
    MISSING,
    Check,
    Claim,
    Panel,
    digits,
    mean_of,
    outcome,
    reader,
    score,
)
from minitransformer.course.lab.claims import CLAIMS, WHYS
from minitransformer.course.lab.experiment import SEEDS, Arm
from minitransformer.course.lab.families import BUDGETS
from minitransformer.course.lab.intervals import Interval, t_quantile
from minitransformer.course.lab.report import each_of, interval, shown
from minitransformer.course.lab.store import Store
from minitransformer.course.show import say, table

BY_NAME = {claim.name: claim for claim in (*CLAIMS, *WHYS)}
TABLES = "table_to_text"
FAR_OFF = 6  # standard deviations of the other seeds
NO_ROOM = 0.98  # of the values stated: little is left by which a method could be better

# ------------------------------------------------------------------------------------ two arms, seed by seed


class TwoArms(NamedTuple):
    """Two arms of one experiment, by the fraction of values stated, seed by seed."""

    one: str
    other: str
    a: list[float]
    b: list[float]
    drawn: bool  # whether the seed also draws which examples are learned from


EXAMPLES = (("infix", 0, 1), ("compared", 0, 1), ("compared", 0, 3), ("layers", 3, 0), ("unseen", 0, 1))


def two_arms(store: Store) -> TwoArms:
    """The first pair of arms that is measured; made-up numbers, called so, if there is none."""
    for name, i, j in EXAMPLES:
        one, other = (BY_NAME[name].arms[k] for k in (i, j))
        if one.rows(store) and other.rows(store):
            return _side_by_side(one, other, store)
    dice = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, len(SEEDS), generator=dice) * 0.01 + 0.9).tolist()
    return TwoArms("made up", "made up, too", a, b, False)


def comparisons(store: Store) -> dict[str, TwoArms]:
    """Each trained arm beside the first arm of its claim, as far as both are measured and have values stated."""
    found = {}
    for claim in CLAIMS:
        first, *others = claim.arms
        for arm in others if "slots" in claim.scores.values() else ():
            both = [used.rows(store) for used in (first, arm)]
            if arm.steps and None not in both and min(map(len, both)) > 1:
                found[f"{claim.name}: {arm.name} − {first.name}"] = _side_by_side(arm, first, store)
    return found


def _side_by_side(one: Arm, other: Arm, store: Store) -> TwoArms:
    a, b = ([score(row, "slots") for row in arm.rows(store)] for arm in (one, other))
    return TwoArms(one.name, other.name, a, b, bool(one.n_train and other.n_train))


def searches(store: Store) -> dict[str, dict[float, float]]:
    """Method → {learning rate: validation loss} on tables, the method with the lowest loss first."""
    found = {}
    for sized in Budgets().sized(TABLES):
        if sized.arm.lr and sized.arm.chosen(store) is not None:
            found[sized.family.name] = {cell.lr: store.row(cell)["loss"] for cell in sized.arm.search_cells()}
    return dict(sorted(found.items(), key=lambda item: min(item[1].values())))


# ------------------------------------------------------------------------------------ a claim


def tell(store: Store, name: str, *columns: str) -> None:
    """Print a claim: what was published, what is not tested, its arms, its checks, its verdict.

    Args:
        store: of the rows.
        name: the claim's.
        columns: headers of the claim's table that are shown beside "kept" and "lr".
    """
    claim = BY_NAME[name]
    verdict = claim.verdict(store)
    title = f"**{claim.title}{'' if claim.question else '.'}** {claim.source[0].upper()}{claim.source[1:]}."
    supposed = f"\n\n{claim.says}\n\n- Design: {claim.design}" if claim.why else "\n"
    say(f"{title}{supposed}\n- Published: {claim.published.rstrip('.')}.\n- Not tested: {claim.untested}")
    headers, lines = claim.numbers(store)
    wanted = [i for i, header in enumerate(headers) if header in ("", "kept", "lr", *columns)]
    wanted = [i for i in wanted if any(line[i] != "–" for line in lines)]
    if columns and wanted:
        table([[line[i] for i in wanted] for line in lines], [headers[i] for i in wanted])
    if verdict.word == MISSING:
        finished = sum(arm.rows(store) is not None for arm in claim.arms)
        part = f", but for {finished} of {len(claim.arms)} arms" if finished else ""
        checks = "; ".join(check.says for check in claim.checks)
        say(f"Not measured yet{part}: `make lab ARGS={name}`. It will be judged by: {checks}.")
        return
    lines = [f"- {line}" for line in claim.outcomes(verdict)]
    say("\n".join([*lines, "", f"Verdict: **{verdict.word}**."]))


Part = tuple[Claim, Panel]


def panels(store: Store, *names: str) -> list[Part]:
    """The panels of some claims, each with its claim, as far as anything in them is measured."""
    return [
        (claim, panel)
        for claim in map(BY_NAME.__getitem__, names)
        for panel in claim.panels
        if any(claim.arm(arm).rows(store) for _, arms in panel.lines.values() for arm in arms)
    ]


def layout(parts: Sequence[Part]) -> dict[str, Any]:
    """What `figure` has to know of a grid for so many panels, two beside each other."""
    columns = min(2, len(parts))
    rows = math.ceil(len(parts) / columns)
    return {"size": (11 if columns > 1 else 6, 3.9 * rows), "rows": rows, "columns": columns}


def plot(grid: Any, parts: Sequence[Part], store: Store) -> None:
    """Draw each panel into its axes, under its claim and the verdict."""
    columns, axes = min(2, len(parts)), each_of(grid)
    for ax, (claim, panel) in zip(axes, parts, strict=False):
        claim.plot(ax, panel, store)
        ax.set_title(textwrap.fill(f"“{claim.title}”: {claim.verdict(store).word}", 116 // columns), fontsize=10)
        ax.set_xlabel(textwrap.fill(panel.xlabel, 108 // columns))
        if len(ax.get_xticks()) > 4 and not panel.xlabel:
            ax.tick_params(axis="x", labelsize=8, rotation=25)
    for ax in axes[len(parts) :]:
        ax.set_axis_off()


# ------------------------------------------------------------------------------------ doubts

DOUBTS = ("claim", "verdict", "seeds", "odd run", "best", "edge")


def seeds_needed(value: Interval) -> int | None:
    """How many seeds would tell this mean from zero if the spread stays as it is; None: more than a thousand."""
    s = value.half * math.sqrt(value.n) / t_quantile(0.95, value.n - 1)
    enough = 2 + bisect_left(
        range(2, 1001), True, key=lambda n: t_quantile(0.95, n - 1) * s / math.sqrt(n) < abs(value.mean)
    )
    return enough if enough <= 1000 else None


def far_off(claim: Claim, check: Check, store: Store) -> int | None:
    """The seed whose number lies more than six standard deviations of the others from their mean, if there is one."""
    by_arm = {arm.name: arm.rows(store) for arm in claim.arms}
    values = [check.value(reader(by_arm, seed)) for seed in SEEDS]
    for seed, value in enumerate(values):
        others = values[:seed] + values[seed + 1 :]
        if abs(value - statistics.fmean(others)) > FAR_OFF * max(statistics.stdev(others), 1e-9):
            return seed
    return None


def at_edge(claim: Claim, store: Store) -> str:
    """How many of a claim's arms have the lowest or the highest learning rate that their search tried."""
    tried = [(cells, arm.chosen(store)) for arm in claim.arms if (cells := arm.search_cells())]
    edge = sum(chosen in (cells[0].lr, cells[-1].lr) for cells, chosen in tried)
    return f"{edge} of {len(tried)} arms" if tried else "–"


def doubts(store: Store) -> list[tuple[str, ...]]:
    """A line of `DOUBTS` for each claim that is measured and does not hold."""
    lines = []
    for claim in CLAIMS:
        word, found = claim.verdict(store)
        if word in (HOLDS, ANSWERED, MISSING):
            continue
        undecided = [found[check.says] for check in claim.checks if outcome(found[check.says]) == "open"]
        seeds = [seeds_needed(value) for value in undecided]
        odd = [seed for check in claim.checks if (seed := far_off(claim, check, store)) is not None]
        best = "–"
        if next(iter(claim.scores.values())) == "slots":
            best = f"{max(mean_of(arm.rows(store), 'slots', arm).mean for arm in claim.arms):.1%}"
        lines.append(
            (
                claim.name,
                word,
                "; ".join(str(n or "over 1000") for n in seeds) or "–",
                ", ".join(f"seed {seed}" for seed in dict.fromkeys(odd)) or "–",
                best,
                at_edge(claim, store),
            )
        )
    return lines


# ------------------------------------------------------------------------------------ advice


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """The interval of a − b, seed by seed."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def best_of(arms: Mapping[str, Sequence[Row] | None], key: str, sign: int = 1) -> tuple[str, str]:
    """The arm with the best mean, and those that cannot be told from it; `MISSING` if a row is missing.

    Args:
        arms: their rows by name.
        key: a score, as a `Check` names it; "{arm}" in it is the arm's name.
        sign: −1 where less is better.
    """
    if not arms or None in arms.values():
        return MISSING, "nothing"
    values = {name: [score(row, key.replace("{arm}", name)) for row in rows] for name, rows in arms.items()}
    best = max(values, key=lambda name: sign * statistics.fmean(values[name]))
    level = [name for name in values if name != best and outcome(paired(values[best], values[name])) == "open"]
    value = interval(values[best])
    return f"{best}: {shown(value, digits(value.mean))}", "; ".join(level) or "nothing"


def advice(store: Store) -> list[tuple[str, str, str]]:
    """What a practitioner asks, the method with the best mean, and those that cannot be told from it."""
    rows = []
    for budget in BUDGETS:
        own = {one.arm.name: one.arm.rows(store) for one in Budgets().sized(TABLES) if one.budget == budget}
        rows.append((f"most values stated, {budget} of the parameters", *best_of(own, "slots")))
    for question, claim, names, key, sign in (
        ("most values stated after 50 tables", "low_data", ("prefix, n = 50", "full, n = 50"), "slots", 1),
        ("most values stated of unseen kinds", "unseen", (), "test_unseen/slots", 1),
        ("most skills left while it is on", "abilities", ("prefix", "full fine-tuning", "LoRA"), "abilities/skills", 1),
        ("quickest step of training, ms", "cost", (), "{arm} step", -1),
        ("quickest written token, ms", "cost", (), "{arm} token", -1),
    ):
        arms = [arm for arm in BY_NAME[claim].arms if not names or arm.name in names]
        rows.append((question, *best_of({arm.name: arm.rows(store) for arm in arms}, key, sign)))
    return rows


def smallest_near_full(results: Sequence[Result], of_full: float) -> Result | None:
    """The result that keeps the fewest parameters and still reaches this fraction of full fine-tuning."""
    enough = [r for r in results if r.stored and r.of_full and r.of_full >= of_full]
    return min(enough, key=lambda r: r.stored, default=None)
