"""Answers to the exercises, as learners and language models write them, and what the check has to say of each.

`lesson_NN.py` holds them: right ones that look unlike the package's, and wrong ones beside the exercises' own mistakes.
`test_answers.py` puts each through the check. Where one is judged wrongly, the exercise lacks a case or a mistake.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minitransformer.course.workbook.catalogue import exercises, find
from minitransformer.course.workbook.diagnose import diagnose, narrowed
from minitransformer.course.workbook.examine import Examination
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.general import asked_again, case_of, signature_complaint
from minitransformer.course.workbook.observe import quiet
from minitransformer.course.workbook.source import resolve


@dataclass(frozen=True)
class Answer:
    """An answer to an exercise."""

    id: str
    label: str
    code: Any
    is_right: bool
    named: tuple[str, ...] = ()
    """Of a wrong one: the mistakes of the exercise that it may be called by, all of them right; none if empty."""


@dataclass(frozen=True)
class Judgement:
    """What the check says of an answer."""

    passed: bool
    mistakes: tuple[str, ...] = ()
    where: str = ""
    """The case that fails, and how."""
    alike: tuple[str, ...] = ()
    """What its output looks like, where no known mistake is named."""


ANSWERS: list[Answer] = []


def right(identity: str) -> Callable[[Any], Any]:
    """Note the decorated function or class as a right answer; of a method, the function that takes self."""
    return lambda code: _noted(identity, code.__name__.replace("_", " "), code, True)


def wrong(identity: str, *named: str) -> Callable[[Any], Any]:
    """Note it as a wrong answer, with the mistakes that it may be called by."""
    return lambda code: _noted(identity, code.__name__.replace("_", " "), code, False, named)


def edited(identity: str, label: str, *edits: tuple[str, str], named: tuple[str, ...] | None = None) -> None:
    """Note an answer that is the solution with edits: (what stands there, what instead).

    Args:
        identity: of the exercise.
        label: what was done, in a few words.
        edits: each replaces all that is equal to its first part.
        named: the mistakes that it may be called by, if it is wrong; None for a right answer.
    """
    exercise = find(identity)
    text = exercise.cut.solution
    for old, new in edits:
        assert old in text, f"{identity} {label}: the solution has no {old!r}"
        text = text.replace(old, new)
    code = exercise.from_source("import torch\n" + text, f"<{identity}, an answer: {label}>")
    _noted(identity, label, code, named is None, named or ())


def _noted(identity: str, label: str, code: Any, is_right: bool, named: tuple[str, ...] = ()) -> Any:
    member = resolve(find(identity).target, identity)[0]
    if isinstance(member, property | staticmethod | classmethod) and not isinstance(code, type(member)):
        code = type(member)(code)
    ANSWERS.append(Answer(identity, label, code, is_right, named))
    return code


def answers(lesson: int) -> list[Answer]:
    """The answers to a lesson's exercises."""
    exercises(lesson)
    importlib.import_module(f"tests.course.exercises.lesson_{lesson:02}")
    return [one for one in ANSWERS if one.id.startswith(f"{lesson}.")]


@functools.cache
def _examination(identity: str) -> Examination:
    return Examination(find(identity))


def judge(answer: Answer) -> Judgement:
    """Put an answer through what `make check-N` asks of it."""
    exercise, examination = find(answer.id), _examination(answer.id)
    with quiet():
        verdict = examination.examine(answer.code)
        if complaint := signature_complaint(exercise, answer.code):
            return Judgement(False, where=complaint)
        if verdict.passed:
            kept = asked_again(exercise, answer.code, examination.expected(0))
            return Judgement(kept is None, where="again" * (kept is not None))
        diagnosis = diagnose(examination, verdict)
        if diagnosis.mistakes:
            diagnosis = narrowed(examination, verdict)
    return Judgement(
        False,
        tuple(one.name for one in diagnosis.mistakes),
        _where(exercise, verdict),
        tuple(diagnosis.alike),
    )


def _where(exercise: Exercise, verdict: Any) -> str:
    found = verdict.difference
    said = f"{type(found.actual).__name__}: {found.actual}" if found.kind == "error" else found.where
    return f"{case_of(exercise, verdict.case).label} ({found.kind}: {said})"
