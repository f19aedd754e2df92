"""A sink in front of another: what a lesson shows, in a second language where the lesson's catalogue has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TextIO

from minitransformer.course.lessons import Cell, Lesson
from minitransformer.course.output.events import Bar, Event, Figure, Say, Sink, Table
from minitransformer.course.translation import catalogues
from minitransformer.course.translation.blocks import Translator, translated


class Translated(Sink):
    """Translates prose, sentences, captions, headers and labels of tables; hands all to another sink.

    Args:
        inner: shows it.
        translate: the lesson's blocks; what it does not know stays English.
    """

    def __init__(self, inner: Sink, translate: Translator) -> None:
        self.inner, self.translate = inner, translate

    def opens(self, lesson: Lesson, quick: bool) -> None:
        """The lesson begins."""
        self.inner.opens(self._lesson(lesson), quick)

    def cell(self, cell: Cell) -> None:
        """A cell begins; its code is what it is in every language."""
        title, prose = self.translate(cell.title), translated(cell.prose, self.translate)
        self.inner.cell(replace(cell, title=title, prose=prose))

    def show(self, event: Event) -> None:
        """The code that runs shows something."""
        match event:
            case Say(text):
                event = Say(translated(text, self.translate))
            case Table(headers, rows):
                cells = [[one if isinstance(one, Bar) else self.translate(one) for one in row] for row in rows]
                event = replace(event, headers=list(map(self.translate, headers)), rows=cells)
            case Figure():
                event = replace(event, caption=self.translate(event.caption), alt=self.translate(event.alt))
        self.inner.show(event)

    def progress(self) -> TextIO:
        """Where a bar is written."""
        return self.inner.progress()

    def closes(self, lesson: Lesson, seconds: float) -> None:
        """The lesson has run to its end."""
        self.inner.closes(self._lesson(lesson), seconds)

    def _lesson(self, lesson: Lesson) -> Lesson:
        return replace(lesson, title=self.translate(lesson.title), question=self.translate(lesson.question))


def in_chosen_language(sink: Sink, number: int) -> Sink:
    """A sink for lesson `number` that speaks the language that LESSON_LANG names.

    Raises:
        UserError: there is no such translation, or its catalogue is damaged.
    """
    language = catalogues.chosen()
    return sink if language == "en" else Translated(sink, catalogues.translator(language, number))
