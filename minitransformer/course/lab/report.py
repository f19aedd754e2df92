"""What experiments tell with: numbers with their intervals, tables of markdown, what rows were made from."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np

from minitransformer.course.lab.cells import Row
from minitransformer.course.lab.experiment import Search
from minitransformer.course.lab.intervals import Interval, t_interval
from minitransformer.course.lab.store import Store


def interval(values: Sequence[float]) -> Interval:
    """Over seeds; of one seed nobody knows how far it reaches."""
    return t_interval(values) if len(values) > 1 else Interval(values[0], nan, 1)


def shown(value: Interval, decimals: int = 3, sign: bool = False) -> str:
    """`0.803 ± 0.012`, or the mean alone if there is one seed; `sign` is for differences, `+0.012 ± 0.007`."""
    half = "" if value.n == 1 else f" ± {value.half:.{decimals}f}"
    return f"{value.mean:{'+' if sign else ''}.{decimals}f}{half}"


def each_of(axes: Any) -> list[Any]:
    """The axes that `figure` gives, one or a grid of them, as a list."""
    return list(np.ravel(axes))


SEARCH_TITLE = "The search: loss on validation data (bold: chosen; ⚠: the lowest or highest tried)."


def search_line(search: Search, store: Store) -> list[str]:
    """The losses of a search's learning rates."""
    texts, chosen = [], search.chosen(store)
    for place, cell in enumerate(search.cells()):
        row = store.row(cell)
        text = f"{cell.lr:g}: " + (f"{row['loss']:.3f}" if row else "–")
        if row and cell.lr == chosen:
            text = f"**{text}**" + " ⚠" * (place != 1)
        texts.append(text)
    return texts


def made_from(rows: Sequence[Row]) -> str:
    """In words, what the rows were made from and with; more than one of a kind where they are mixed."""
    if not rows:
        return "Nothing has been measured yet."
    parts = []
    for name in ("code", "data", "base"):
        by_task = {(row["cell"]["task"], row["made_from"][name]) for row in rows}
        values = (
            sorted({value for _, value in by_task})
            if name == "code"
            else sorted(f"{value} ({task})" for task, value in by_task)
        )
        parts.append(f"{name} `{'`, `'.join(values)}`")
    versions = sorted({", ".join(f"{name} {version}" for name, version in row["versions"].items()) for row in rows})
    return f"Made from {'; '.join(parts)}; with {' and '.join(versions)}."


def footing(rows: Sequence[Row]) -> str:
    """In words, what numbers rest on: how many cells, how long these took, what they were made from."""
    minutes = sum(row["seconds"] for row in rows) / 60
    return f"{len(rows)} cells, {minutes:.0f} minutes of one core. {made_from(rows)}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]], text: int) -> list[str]:
    """A table of markdown; the first `text` columns to the left, the others to the right."""
    rule = ["---" if column < text else "---:" for column in range(len(head))]
    return ["| " + " | ".join(line) + " |" for line in (head, rule, *lines)]
