"""Reads the exercises of a lesson from lessons/exercises/."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minitransformer.course import show
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.source import place
from minitransformer.errors import UserError


def files() -> dict[int, Path]:
    """The files with exercises, by lesson."""
    found = (
        re.fullmatch(r"lesson_(\d\d)\.py", path.name) for path in (show.ROOT / "lessons" / "exercises").glob("*.py")
    )
    numbers = sorted(int(match[1]) for match in found if match)
    return {number: show.ROOT / "lessons" / "exercises" / f"lesson_{number:02}.py" for number in numbers}


def exercises(lesson: int) -> list[Exercise]:
    """The exercises of a lesson, in order.

    Raises:
        UserError: the lesson has none, or its file is malformed.
    """
    known = files()
    if lesson not in known:
        which = ", ".join(map(str, known)) or "none yet"
        raise UserError(f"Lesson {lesson} has no exercises; the lessons that have some are {which}.")
    path = known[lesson]
    name = f"lesson_{lesson:02}_exercises"
    loaded = sys.modules.get(name)
    if loaded is None or getattr(loaded, "__file__", None) != str(path):
        spec = importlib.util.spec_from_file_location(name, path)
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        try:
            # Whatever Python's -O leaves out: the docstrings say what mistakes are, and cases may assert.
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True, optimize=0), vars(loaded))
        except BaseException:
            del sys.modules[name]
            raise
    found = list(_valid(vars(loaded).values(), path, lesson))
    if not found:
        raise UserError(f"{place(path)} defines no Exercise.")
    return sorted(found, key=lambda exercise: exercise.number)


def _valid(values: Any, path: Path, lesson: int) -> Iterator[Exercise]:
    seen: set[str] = set()
    for exercise in values:
        if not isinstance(exercise, Exercise):
            continue
        exercise.path = path
        complaint = None
        if not re.fullmatch(rf"{lesson}\.[1-9]\d*", exercise.id):
            complaint = f"its id should be {lesson}.1, {lesson}.2, …"
        elif exercise.id in seen:
            complaint = "a second exercise has this id"
        elif len(exercise.hints) != 3 or not all(hint.strip() for hint in exercise.hints):
            complaint = f"it needs three hints, and has {len(exercise.hints)}"
        elif not 0 < exercise.minutes < 240 or exercise.difficulty not in (1, 2, 3):
            complaint = "its minutes should be between 0 and 240, its difficulty 1, 2 or 3"
        elif not exercise.cases:
            complaint = "it has no case to check"
        elif not exercise.purpose.strip() or not exercise.title.strip():
            complaint = "title and purpose must not be empty"
        elif not isinstance(exercise.given, tuple) or not all(isinstance(x, str) and x.strip() for x in exercise.given):
            complaint = 'given is a tuple of lines, ("split_heads(x, n_head): …",); a single line needs its comma, too'
        if complaint:
            raise UserError(f"{exercise.who}: {complaint}.")
        seen.add(exercise.id)
        exercise.cut  # noqa: B018  raises where the target is broken
        yield exercise


def find(identity: str) -> Exercise:
    """The exercise of this id.

    Raises:
        UserError: there is none.
    """
    of_lesson = exercises(int(identity.partition(".")[0]))
    for exercise in of_lesson:
        if exercise.id == identity:
            return exercise
    raise UserError(
        f"There is no exercise {identity}; lesson {of_lesson[0].lesson} has {', '.join(e.id for e in of_lesson)}."
    )
