"""Expected and actual side by side, so that the eye sees a shifted mask or a wrong axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from minitransformer.course.output.terminal import display_width
from minitransformer.course.translation.catalogues import t

SHADES = " ░▒▓█"
MOST = 24  # rows and columns of a shaded picture


def table_of(tensor: Tensor, index: tuple[int, ...] = ()) -> Tensor:
    """The matrix to draw: a scalar or a vector as one row; of more dimensions the slice that `index` lies in."""
    tensor = tensor.detach()
    if tensor.dim() < 2:
        return tensor.reshape(1, -1)
    return tensor[tuple(index[: tensor.dim() - 2]) or (0,) * (tensor.dim() - 2)] if tensor.dim() > 2 else tensor


def numbers(rows: Sequence[Sequence[float]], decimals: int | None = None) -> list[list[str]]:
    """The cells of a matrix as text, all with the same number of decimals."""
    flat = [value for row in rows for value in row]
    if all(isinstance(value, bool) for value in flat):
        return [["■" if value else "□" for value in row] for row in rows]
    if all(isinstance(value, int) for value in flat):
        return [[str(value) for value in row] for row in rows]
    finite = [abs(value) for value in flat if math.isfinite(value) and value]
    if finite and (max(finite) >= 1e5 or max(finite) < 1e-3):
        return [[f"{value:.2g}" for value in row] for row in rows]
    if decimals is None:
        decimals = 1 if all(round(value, 1) == round(value, 5) for value in finite) else 3
    return [[f"{value:.{decimals}f}" for value in row] for row in rows]


def aligned(cells: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows of cells, each `width` wide, to the right."""
    return [" ".join(cell.rjust(width) for cell in row) for row in cells]


def matrix(tensor: Tensor, index: tuple[int, ...] = (), width: int = 76) -> list[str]:
    """One matrix as lines: numbers, cut where there are too many in a row; shaded blocks where there are many rows."""
    if tensor.is_meta:
        return ["(no numbers)"]
    rows = table_of(tensor, index).tolist()
    if not rows or not rows[0]:
        return ["(empty)"]
    cells = numbers(rows)
    widest = max(len(cell) for row in cells for cell in row)
    if len(rows) <= 12 and len(rows[0]) * (widest + 1) <= width:
        return aligned(cells, widest)
    most = max(1, width // (widest + 1) - 1)
    if _are_ids(rows) and len(rows) == 1:
        return aligned([cells[0][at : at + most] for at in range(0, len(cells[0]), most)], widest)
    if len(rows) <= 12 and not isinstance(rows[0][0], bool):
        return [f"{line} …" for line in aligned([row[:most] for row in cells], widest)]
    low, high = _range(rows)
    return _shaded([row[:MOST] for row in rows[:MOST]], low, high)


def side_by_side(
    expected: Tensor,
    actual: Tensor,
    wrong: Tensor,
    index: tuple[int, ...],
    width: int,
    titles: tuple[str, str] = ("expected", "yours"),
) -> list[str]:
    """Expected, actual, and where they differ (or by which factor), as lines of at most `width` columns.

    Args:
        expected: of any number of dimensions; the slice that holds `index` is drawn.
        actual: of the same shape.
        wrong: boolean, True where they differ.
        index: a place where they differ.
        width: of the terminal.
        titles: of the first two.
    """
    left, right, marks = (table_of(one, index).tolist() for one in (expected, actual, wrong))
    notes = []
    n_rows, n_columns = len(left), len(left[0])
    boolean = isinstance(left[0][0], bool)
    decimals = _decimals(left, right, marks)
    left_cells, right_cells = numbers(left, decimals), numbers(right, decimals)
    widest = max(len(cell) for row in (*left_cells, *right_cells) for cell in row)
    if n_rows <= 12 and 2 * n_columns * (widest + 1) + 2 * n_columns + 8 <= width:
        panels = [aligned(left_cells, widest), aligned(right_cells, widest)]
        notes += ["■ True  □ False"] if boolean else []
        crosses = aligned([["✗" if mark else "·" for mark in row] for row in marks], 1)
    elif not boolean and (n_rows <= 4 or (_are_ids(left) and n_rows <= 12) or not _shows(left, right, marks)):
        # The numbers say what no shade does, so they stand below each other.
        marked, named = _ratios(left, right, marks), f"{titles[1]} / {titles[0]}"
        if marked is None:
            marked, named = [["✗" if mark else "·" for mark in row] for row in marks], t("wrong")
        widest = max(widest, *(len(cell) for row in marked for cell in row))
        most, high = max(1, (width - 2) // (widest + 1)), 12 if _are_ids(left) else 6
        first = _window(index[-1] if index else 0, n_columns, most)
        top = _window(index[-2] if len(index) > 1 else 0, n_rows, high)
        drawn = [
            aligned([row[first : first + most] for row in cells[top : top + high]], widest)
            for cells in (left_cells, right_cells, marked)
        ]
        shown = [(top, high, n_rows, t("rows")), (first, most, n_columns, t("columns"))]
        cut = [f"{what} {at} to {at + few - 1} of {n}" for at, few, n, what in shown if few < n]
        notes += [", ".join(cut)] if cut else []
        lines = [
            line
            for title, panel in zip((*titles, named), drawn, strict=True)
            for line in (f"{title}:", *(f"  {row}" for row in panel))
        ]
        return [*lines, *([f"({'; '.join(notes)})"] if notes else [])]
    else:
        most = max(4, min(MOST, (width - 8) // 3))
        row, column = ([0, 0] + list(index))[-2:] if expected.dim() > 1 else (0, index[-1] if index else 0)
        top, first = _window(row, n_rows, most), _window(column, n_columns, most)

        def window(rows: list[list[Any]]) -> list[list[Any]]:
            return [line[first : first + most] for line in rows[top : top + most]]

        low, high = _range([*left, *right])
        panels = [_shaded(window(left), low, high), _shaded(window(right), low, high)]
        crosses = ["".join("✗" if mark else "·" for mark in line) for line in window(marks)]
        notes.append("■ True" if boolean else f"{SHADES[0]!r} is {low:.3g}, {SHADES[-1]} is {high:.3g}")
        if n_rows > most or n_columns > most:
            notes.append(
                f"rows {top} to {min(n_rows, top + most) - 1} of {n_rows}, "
                f"columns {first} to {min(n_columns, first + most) - 1} of {n_columns}"
            )
    lines = _beside([(titles[0], panels[0]), (titles[1], panels[1]), (t("wrong"), crosses)])
    return [*lines, *([f"({'; '.join(notes)})"] if notes else [])]


def beside(panels: Sequence[tuple[str, Sequence[str]]], width: int) -> list[str]:
    """Titled panels side by side; below each other where they are too wide."""
    lines = _beside(panels)
    if max(map(display_width, lines)) <= width:
        return lines
    return [line for title, panel in panels for line in (f"{title}:", *(f"  {row}" for row in panel))]


def _beside(panels: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    height = max(len(panel) for _, panel in panels)
    columns = []
    for title, panel in panels:
        lines = [title, *panel, *[""] * (height - len(panel))]
        widest = max(map(display_width, lines))
        columns.append([line + " " * (widest - display_width(line)) for line in lines])
    return ["   ".join(parts).rstrip() for parts in zip(*columns, strict=True)]


def _are_ids(rows: Sequence[Sequence[float]]) -> bool:
    """Whether these are whole numbers, in which the value matters and not the size."""
    return all(isinstance(value, int) and not isinstance(value, bool) for row in rows for value in row)


def _decimals(left: list, right: list, marks: list) -> int | None:
    """As many decimals as it takes to see the smallest difference that is marked."""
    smallest = math.inf
    for a, b, wrong in (
        (a, b, w) for row in zip(left, right, marks, strict=True) for a, b, w in zip(*row, strict=True)
    ):
        if isinstance(a, bool) or (isinstance(a, int) and isinstance(b, int)):
            return None
        if wrong and math.isfinite(a) and math.isfinite(b) and a != b:
            smallest = min(smallest, abs(a - b))
    if smallest is math.inf:
        return None
    return max(1 if smallest >= 0.2 and _one_decimal(left) else 3, min(7, 1 - math.floor(math.log10(smallest))))


def _one_decimal(rows: list) -> bool:
    return all(math.isfinite(value) and round(value, 1) == round(value, 5) for row in rows for value in row)


def _ratios(left: list, right: list, marks: list) -> list[list[str]] | None:
    """By which factor the numbers that differ are off; None of whole numbers, of zeros, and where it says little."""
    pairs = [(a, b, w) for row in zip(left, right, marks, strict=True) for a, b, w in zip(*row, strict=True)]
    wrong = [(a, b) for a, b, mark in pairs if mark]
    if _are_ids(left) or not all(a and math.isfinite(a) and math.isfinite(b) for a, b in wrong):
        return None
    if any(abs(b) > 99 * abs(a) for a, b in wrong):
        return None
    nearest = min((abs(b / a - 1) for a, b in wrong if a != b), default=1.0)
    decimals = max(3, min(6, 1 - math.floor(math.log10(nearest))))
    return [
        [f"{b / a:.{decimals}f}" if mark else "·" for a, b, mark in zip(*row, strict=True)]
        for row in zip(left, right, marks, strict=True)
    ]


def _shows(left: list, right: list, marks: list) -> bool:
    """Whether most of the numbers that differ have another shade; no shade says how two near numbers differ."""
    low, high = _range([*left, *right])
    shades = [[char for line in _shaded(rows, low, high) for char in line] for rows in (left, right)]
    wrong = [a != b for a, b, mark in zip(*shades, (mark for row in marks for mark in row), strict=True) if mark]
    return 2 * sum(wrong) >= len(wrong)


def _range(rows: list) -> tuple[float, float]:
    finite = [float(value) for row in rows for value in row if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)


def _shaded(rows: list, low: float, high: float) -> list[str]:
    """One character a cell, darker for larger; ? for nan."""

    def shade(value: float) -> str:
        if isinstance(value, bool):
            return "■" if value else "□"
        if math.isnan(value):
            return "?"
        if math.isinf(value):
            return "+" if value > 0 else "-"
        share = (value - low) / (high - low) if high > low else 0.5
        return SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]

    return ["".join(map(shade, row)) for row in rows]


def _window(at: int, size: int, most: int) -> int:
    """Where to begin showing `most` of `size`, so that `at` is seen."""
    return max(0, min(at - most // 2, size - most))
