"""Figures in one style, with a font that can draw Chinese where there is one; their files are written whole.

Importing this costs nothing: matplotlib is loaded only when a figure is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitransformer.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

# The palette of Okabe and Ito, which colour-blind readers can tell apart.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


@lru_cache
def chinese_font() -> str | None:
    """The name of an installed font that can draw Chinese, or None: then label the figure in English."""
    from matplotlib import font_manager, ft2font

    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        try:
            face = ft2font.FT2Font(font.fname)
        except (OSError, RuntimeError):  # a font file that has gone or that FreeType cannot read
            continue
        glyphs = {face.get_char_index(ord(char)) for char in "前缀微调"}
        # Glyph 0 is the empty box; matplotlib's own font of last resort has one box for all of Chinese.
        if 0 not in glyphs and len(glyphs) == 4:
            return font.name
    return None


def _style() -> dict[str, Any]:
    from matplotlib.rcsetup import cycler

    return {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "font.size": 11,
        "font.family": ["DejaVu Sans", *filter(None, [chinese_font()])],
        "grid.color": "#E3E3E3",
        "image.cmap": "viridis",
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "savefig.bbox": "tight",  # nothing is cut off, whatever an axes' shape does to the layout
        "savefig.dpi": 150,
        "svg.hashsalt": "minitransformer",  # the same picture has the same bytes
    }


@contextmanager
def drawing(size: tuple[float, float], rows: int, columns: int) -> Iterator[tuple[Figure, Any]]:
    """A new matplotlib figure in the course's style, which holds until the block ends, and its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=size, layout="compressed")
        yield figure, figure.subplots(rows, columns)


def picture(figure: Figure, form: str) -> bytes:
    """The figure as the bytes of a "png" or "svg" file."""
    file = io.BytesIO()
    figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path`, .png or .svg; a file that was there stays until the new one is whole.

    Raises:
        UserError: no room on the disk, or no permission to write.
    """
    write_aside(path, picture(figure, path.suffix[1:]))


def number_map(axes: Axes, values: Tensor, title: str, columns: str, rows: str) -> None:
    """Draw fractions (rows, columns) as colours with the number in each cell, counted from 1: layers and heads, say."""
    axes.imshow(values, vmin=0, vmax=1)
    n_rows, n_columns = values.shape
    axes.set(title=title, xlabel=columns, ylabel=rows)
    axes.set_xticks(range(n_columns), range(1, n_columns + 1))
    axes.set_yticks(range(n_rows), range(1, n_rows + 1))
    axes.grid(False)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            colour = "white" if value < 0.6 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)


def rate_lines(axes: Axes, lines: Mapping[str, Sequence[tuple[float, float]]], chosen: Mapping[str, float]) -> None:
    """Draw losses over learning rates, a line a method, with a ring around the rate that was chosen."""
    for (name, points), colour, mark in zip(lines.items(), PALETTE, "osD^vPX", strict=False):
        rates, losses = zip(*points, strict=True)
        axes.plot(rates, losses, f"{mark}-", color=colour, label=name)
        axes.plot(chosen[name], dict(points)[chosen[name]], "o", color=colour, markersize=14, fillstyle="none")
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation loss (nats)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=9)


def dots(axes: Axes, rows: Mapping[str, Sequence[float]], xlabel: str) -> None:
    """Draw several measurements of each thing as dots on a line of its own, the first on top, and their mean."""
    for i, (colour, values) in enumerate(zip(PALETTE, rows.values(), strict=False)):
        axes.plot(values, [i] * len(values), "o", color=colour, alpha=0.7)
        axes.plot([sum(values) / len(values)] * 2, [i - 0.3, i + 0.3], color=colour)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)


def intervals(
    axes: Axes, labels: Sequence[str], rows: Mapping[str, Sequence[float]], margin: Callable[[float], float]
) -> None:
    """Draw fractions with their intervals, a line for each label, the first on top; `margin` is half an interval."""
    for i, ((name, values), mark) in enumerate(zip(rows.items(), "os^D", strict=False)):
        shift = 0.28 * (i - (len(rows) - 1) / 2)  # those of one label stand below each other
        heights = [at + shift for at in range(len(values))]
        axes.errorbar(values, heights, xerr=[margin(p) for p in values], fmt=mark, capsize=3, label=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def seed_lines(axes: Axes, a: Sequence[float], b: Sequence[float], names: tuple[str, str], ylabel: str) -> None:
    """Draw a line for each seed from its value in one arm to its value in another."""
    for seed, ends in enumerate(zip(a, b, strict=True)):
        axes.plot((0, 1), ends, "o-", color=PALETTE[seed % len(PALETTE)], label=f"seed {seed}")
    axes.set(xticks=(0, 1), xticklabels=names, xlim=(-0.2, 1.2), ylabel=ylabel)
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def spreads(axes: Axes, groups: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw pairs of standard deviations, (unpaired, paired), as points; on the diagonal the two are equal."""
    points = [max(value, 1e-6) for own in groups.values() for pair in own for value in pair]
    ends = (min(points) / 1.5, max(points) * 1.5)
    axes.plot(ends, ends, "--", color="grey", linewidth=1, label="pairing changes nothing")
    for (name, own), mark in zip(groups.items(), "os", strict=False):
        if own:
            axes.scatter(*zip(*own, strict=True), s=22, alpha=0.7, marker=mark, label=name)
    axes.set(xscale="log", yscale="log", xlabel="s unpaired, √(s² + s²)", ylabel="s paired, of the difference")
    axes.legend(fontsize=9, loc="upper left")
