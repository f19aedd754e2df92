"""What lessons show with: sentences, tables, small bars, figures in one style, the package's own source.

Each call makes one event for the sink in use (course/output/): a terminal, a notebook, a recorder. Importing this costs
nothing: matplotlib is loaded only when a figure is drawn.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minitransformer.course import output
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.figures import PALETTE, chinese_font, drawing
from minitransformer.course.translation.catalogues import t
from minitransformer.errors import UserError

__all__ = ["PALETTE", "QUICK", "ROOT", "bar", "chinese_font", "figure", "say", "source", "table", "verbatim"]


def switched_on(variable: str) -> bool:
    """Whether an environment variable such as QUICK=1 is set to something other than nothing or 0."""
    return os.environ.get(variable, "") not in ("", "0")


QUICK: bool = switched_on("QUICK")
"""True when a lesson should only be smoke-tested: `QUICK=1 make lesson-3` or `… lesson 3 --quick`."""


def say(text: str) -> None:
    """Show sentences in light Markdown: paragraphs, list items, **bold**, `code`, indented lines (formulas).

    Lessons use it for a sentence with a measured number in it: `say(f"The loss fell to {loss:.2f}.")`.
    """
    output.sink().show(output.Say(text.strip("\n")))


def verbatim(text: str) -> None:
    """Show lines as they are, in letters of one width: for what must line up and is no table."""
    output.sink().show(output.Verbatim(text.strip("\n")))


def _not_withheld(function: Any) -> str | None:
    return None


withheld: Callable[[Any], str | None] = _not_withheld
"""What `source` shows in place of a function that the reader is to write first; None where there is no such reason.

The command line sets it: nothing here knows of exercises.
"""


def source(function: Any, docstring: bool = True) -> None:
    """Show a function's source, or why it is not shown yet.

    Args:
        function: a function or a method.
        docstring: whether its docstring is shown, or only that there is one.
    """
    import inspect

    if (reason := withheld(function)) is not None:
        say(t(reason))
        return
    code = inspect.getsource(function).rstrip("\n")
    if not docstring:
        code = re.sub(r'""".*?"""', '"""…"""', code, count=1, flags=re.DOTALL)
    output.sink().show(output.Source(f"{function.__module__}:{function.__qualname__}", code))


# ---------------------------------------------------------------- tables and bars


def table(
    rows: Sequence[Sequence[Any]],
    headers: Sequence[str],
    formats: Sequence[str | Callable[[Any], str] | None] | None = None,
) -> None:
    """Show rows under headers: numbers to the right, text to the left.

    Args:
        rows: one sequence of values per row, as long as `headers`; a value may be a `bar`.
        headers: the columns' names.
        formats: for each column a format such as ".3f" or ",", a function to a string, or None (str; floats
            with four significant digits).

    Raises:
        UserError: a row or `formats` has another length than `headers`.
    """
    output.sink().show(output.Table.of(rows, headers, formats))


def bar(value: float, largest: float = 1.0, width: int = 30) -> output.Bar:
    """A bar of text, `width` columns at `largest`, to an eighth of a column: `bar(0.5, width=4)` is "██"."""
    if largest <= 0:
        raise UserError(f"bar() needs a largest value above 0, not {largest}.")
    fraction = min(max(value / largest, 0.0), 1.0)
    eighths = round(8 * width * fraction)
    text = output.Bar("█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8])
    text.fraction = fraction
    return text


# ---------------------------------------------------------------- figures


@contextmanager
def _figure(
    lesson: str, name: str, caption: str, alt: str, size: tuple[float, float], rows: int, columns: int
) -> Iterator[Any]:
    with drawing(size, rows, columns) as (made, axes):
        yield axes
        path = ROOT / "figures" / lesson / f"{name}.png"
        output.sink().show(output.Figure(lesson, name, caption, alt, path, made))


def figure(
    name: str,
    caption: str,
    size: tuple[float, float] = (7.0, 4.0),
    rows: int = 1,
    columns: int = 1,
    alt: str | None = None,
) -> Any:
    """Draw a figure of a lesson, and show it: in a terminal, save figures/lesson_NN/name.png and say so.

        with figure("loss", "The loss falls while the model trains.") as axes:
            axes.plot(steps, losses)

    Args:
        name: the file's name without ".png".
        caption: a sentence that says what the reader sees.
        size: width and height in inches.
        rows, columns: of a grid of axes. 1 × 1 gives one matplotlib Axes, more give an array of them;
            the figure itself is `axes.figure`.
        alt: what the figure shows, for readers who cannot see it; the caption if it is not given.

    Nothing is shown or saved when the block raises.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"A figure's name is letters, digits, - and _, not {name!r}.")
    # The lesson is the file that calls; in a notebook there is none.
    caller = Path(sys._getframe(1).f_globals.get("__file__") or "notebook")
    lesson = re.match(r"lesson_\d+", caller.stem)
    return _figure(lesson[0] if lesson else caller.stem, name, caption, alt or caption, size, rows, columns)
