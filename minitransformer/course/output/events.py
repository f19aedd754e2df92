"""What a lesson can show, one class for each, and what a sink is asked to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from minitransformer.course.lessons import Cell, Lesson
from minitransformer.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Say:
    """Sentences, in Markdown."""

    text: str


@dataclass(frozen=True)
class Verbatim:
    """Lines whose columns line up; consecutive ones belong together."""

    text: str


class Bar(str):
    """A bar of text; `fraction` is its length, 0 to 1, for readers that draw it themselves."""

    fraction: float


@dataclass(frozen=True)
class Table:
    """Rows of text under headers."""

    headers: list[str]
    rows: list[list[str]]
    """The cells as text; a cell may be a `Bar`."""
    right: list[bool]
    """Whether a column holds numbers, which stand to the right."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[Any]],
        headers: Sequence[str],
        formats: Sequence[str | Callable[[Any], str] | None] | None = None,
    ) -> Table:
        """Values as text; `show.table` says what rows, headers and formats are.

        Raises:
            UserError: a row or `formats` has another length than `headers`.
        """
        formats = formats or [None] * len(headers)
        if len(formats) != len(headers):
            raise UserError(f"The table has {len(headers)} headers, {len(formats)} formats; give one for each.")

        def cell(value: Any, form: str | Callable[[Any], str] | None) -> str:
            if callable(form):
                return form(value)
            if isinstance(value, str):
                return value
            if value is None:
                return "–"
            return format(value, form or (".4g" if isinstance(value, float) else ""))

        lines = []
        right = [True] * len(headers)
        for number, row in enumerate(rows, 1):
            if len(row) != len(headers):
                raise UserError(f"Row {number} of the table has {len(row)} values for {len(headers)} headers.")
            lines.append([cell(value, form) for value, form in zip(row, formats, strict=True)])
            right = [r and not isinstance(value, str) for r, value in zip(right, row, strict=True)]
        return cls(list(headers), lines, right)


@dataclass(frozen=True)
class Figure:
    """A finished drawing. Sinks save it while matplotlib has the course's style."""

    lesson: str
    """The folder of its file, "lesson_02"."""
    name: str
    caption: str
    alt: str
    """What it shows, in words, for those who cannot see it."""
    path: Path = field(compare=False)
    """Where a reader at a terminal finds it: figures/lesson_02/name.png."""
    drawing: Drawing = field(compare=False, repr=False)


@dataclass(frozen=True)
class Source:
    """The source of a function of the package."""

    name: str
    """Where it stands: "minitransformer.models.attention:attend_by_formula"."""
    code: str


Event = Say | Verbatim | Table | Figure | Source


class Sink:
    """Takes what a lesson shows. This one drops it, for a run that nobody watches."""

    def opens(self, lesson: Lesson, quick: bool) -> None:
        """The lesson begins."""

    def cell(self, cell: Cell) -> None:
        """A cell begins; if it holds code, the code runs when this returns."""

    def show(self, event: Event) -> None:
        """The code that runs shows something."""

    def progress(self) -> TextIO:
        """Where a bar is written that says how far a long loop is; by default beside what is shown."""
        return sys.stderr

    def closes(self, lesson: Lesson, seconds: float) -> None:
        """The lesson has run to its end."""
