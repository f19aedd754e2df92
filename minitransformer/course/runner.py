"""Run a lesson cell by cell, and let a sink show it: the prose with its question, then the code, then the outcome."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from minitransformer.course import output, show
from minitransformer.course.lessons import Cell, Lesson, lessons, load
from minitransformer.course.output.terminal import Terminal, styled, text_width, wrap
from minitransformer.course.output.translated import in_chosen_language
from minitransformer.errors import UserError


def run(
    number: int, quick: bool = False, step: bool = False, text: str | None = None, sink: output.Sink | None = None
) -> None:
    """Run lesson `number`.

    Args:
        number: the lesson.
        quick: a smoke run; lessons ask `show.QUICK`.
        step: wait for Enter before each cell of code, when a person sits at the terminal.
        text: a text file of the reader's own, for the lessons that can train on one (its path is then in the
            environment variable MINITRANSFORMER_TEXT); or "python", the manual that comes with Python.
        sink: takes what the lesson shows; the terminal, if it is not given.

    Raises:
        NoSuchLesson: there is no such lesson.
        UserError: its file is malformed, or `text` is not a file, or the lesson itself says so.
    """
    lesson = load(number)
    if text is not None:
        if text != "python" and not Path(text).is_file():
            raise UserError(f"There is no file {text} to take the text from.")
        os.environ["MINITRANSFORMER_TEXT"] = text if text == "python" else str(Path(text).resolve())
    os.environ["QUICK"] = "1" if quick else ""
    show.QUICK = quick
    if step and not sys.stdin.isatty():
        print("STEP needs a terminal to wait for Enter in; the lesson runs through.")
        step = False

    began = time.perf_counter()
    with output.to(sink or in_chosen_language(Terminal(step), number)) as chosen, _as_main(lesson) as execute:
        chosen.opens(lesson, quick)
        for cell in lesson.cells:
            chosen.cell(cell)
            execute(cell)
        chosen.closes(lesson, time.perf_counter() - began)


def print_list() -> None:
    """Print each lesson's number, title, time, prerequisites and documents' sections (`make lessons`)."""
    for lesson in (found := lessons()):
        print(f"{styled(f'{lesson.number:2}  {lesson.title}', 'bold')}  ({lesson.facts})")
        for line in wrap(f"mirrors {lesson.documents}", text_width(), "    ", "    "):
            print(line)
    if found:
        print("\nmake lesson-1 runs the first, QUICK=1 make lesson-1 a shortened one.")
    else:
        print("There are no lessons yet.")


@contextmanager
def _as_main(lesson: Lesson) -> Iterator[Callable[[Cell], None]]:
    """A function that runs cells in one namespace, which is `__main__` as it is when the script runs by itself.

    So inspect.getsource and pickle find the lesson's classes.
    """
    module = ModuleType("__main__")
    module.__file__ = str(lesson.path)
    module.__dict__["__builtins__"] = __builtins__

    def execute(cell: Cell) -> None:
        part = ast.Module(body=cell.statements, type_ignores=[])
        exec(compile(part, str(lesson.path), "exec", lesson.flags, dont_inherit=True), module.__dict__)

    before = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = module, [str(lesson.path)]
    try:
        yield execute
    finally:
        sys.modules["__main__"], sys.argv = before
