"""Check a workbook, exercise by exercise. This runs in the child process; tests and `verify` call it where they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minitransformer.course.workbook import exceptions, report
from minitransformer.course.workbook.compare import Outcome, difference_of
from minitransformer.course.workbook.diagnose import Diagnosis, diagnose, is_left_empty, narrowed
from minitransformer.course.workbook.examine import Examination, Verdict
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.general import ASKED, KEPT, asked_again, case_of, signature_complaint
from minitransformer.course.workbook.loading import Workbook, load
from minitransformer.course.workbook.observe import observe, quiet
from minitransformer.course.workbook.reading import WorkbookError
from minitransformer.course.workbook.source import resolve
from minitransformer.course.workbook.state import restored
from minitransformer.errors import UserError


def check(
    some: list[Exercise],
    path: Path,
    request: dict[str, Any],
    emit: Callable[..., None],
    wind_up: Callable[[], None] = lambda: None,
    prepared: Mapping[str, Examination] = MappingProxyType({}),
) -> None:
    """Check exercises in order.

    Args:
        some: all exercises of the workbook.
        path: the workbook.
        request: "only": an id, or None for all; "all": whether to go on after one that fails (only the first that
            fails is diagnosed then); "asked": which of the questions to every exercise; "told": ids of which it was
            said what they are for; "width": in columns.
        emit: called with what happens: event="begin" or "result", id, state ("passed", "failed", "unwritten",
            "absent"), text, line, source (its digest); event="case", number (from 0), label, where the code runs on a
            case; or event="problem", text, where the workbook cannot be run.
        wind_up: sets the clock of the time limit to its beginning; called for each exercise.
        prepared: examinations that know already what the cases should give, by the exercise's id.
    """
    ASKED.intersection_update(request.get("asked", ASKED))
    wind_up()
    emit(event="begin", id=None)
    try:
        workbook = load(path, some)
    except WorkbookError as error:
        emit(event="problem", text=str(error))
        return
    except KeyboardInterrupt as error:  # no key comes here from a keyboard: the code raised it
        emit(event="problem", text=exceptions.stopped(error, path))
        return
    if workbook.note:
        emit(event="note", text=workbook.note)
    has_failed = False
    for exercise in some:
        if request.get("only") not in (None, exercise.id):
            continue
        wind_up()
        say = partial(emit, id=exercise.id, line=workbook.line(exercise), source=workbook.digest(exercise))
        say(event="begin")
        try:
            told = exercise.id in request.get("told", ())

            def begins(number: int, exercise: Exercise = exercise) -> None:
                if number < 0 or number == len(exercise.cases):
                    wind_up()
                if number >= 0:
                    emit(event="case", number=number, label=case_of(exercise, number).label)

            examination = prepared.get(exercise.id) or Examination(exercise)
            state = check_one(workbook, examination, request.get("width", 80), say, told, not has_failed, begins)
        except UserError:
            raise
        except BaseException as error:  # what the code gives back can break who looks at it, such as a list in itself
            state = "failed"
            say(event="result", state=state, text=exceptions.stopped(error, path))
        if state != "passed" and not request.get("all"):
            return
        has_failed |= state == "failed"


def check_one(
    workbook: Workbook,
    examination: Examination,
    width: int,
    say: Callable[..., None],
    told: bool = False,
    diagnosed: bool = True,
    begins: Callable[[int], None] = lambda number: None,
) -> str:
    """Check one exercise on reference code for everything else; gives its state.

    Args:
        workbook: that was loaded.
        examination: of one of its exercises.
        width: of the text, in columns.
        say: called with the result, and once more where more was found out: event="result", state, text.
        told: whether it was said before what the exercise is for.
        diagnosed: whether to look for the mistake.
        begins: called with the number of each case before the learner's code runs on it.
    """

    def result(state: str, text: str = "") -> str:
        say(event="result", state=state, text=text)
        return state

    exercise = examination.exercise
    candidate = workbook.candidates[exercise.id]
    if candidate is None or not _is_right_kind(candidate, exercise):
        return result("absent", report.absent(workbook, exercise, width))
    workbook.link({exercise.id})
    verdict = examination.examine(candidate, begins)
    if not verdict.passed and report.is_unwritten(verdict):
        return result("unwritten", report.unwritten(exercise, workbook.path, workbook.line(exercise), width, told))
    if complaint := signature_complaint(exercise, candidate):
        return result("failed", report.other_parameters(exercise, complaint, width, told))
    if verdict.passed:
        expected = examination.expected(0)
        again = asked_again(exercise, candidate, expected)
        if again is None:
            return result("passed")
        verdict = Verdict(exercise, candidate, again, 0, expected, [Outcome()])
        kept = Diagnosis(alike=[f"Every input was right before, this one as well. {KEPT}"])
        return result("failed", report.failure(verdict, kept, workbook.path, width, told))
    diagnosis = diagnose(examination, verdict) if diagnosed else Diagnosis()
    state = result("failed", report.failure(verdict, diagnosis, workbook.path, width, told))
    if not diagnosed:
        return state
    # The learner's code runs again, and might hang: so what is known was said first.
    if is_left_empty(examination, verdict):
        better = Diagnosis(alike=[EMPTY])
    elif diagnosis.mistakes and not diagnosis.sure:
        better = narrowed(examination, verdict)
    elif not diagnosis.mistakes and _is_right_alone(workbook, examination, verdict):
        better = Diagnosis(alike=[f"By itself, this input comes out right. {KEPT}"])
    else:
        return state
    return result("failed", report.failure(verdict, better, workbook.path, width, told))


def _is_right_alone(workbook: Workbook, examination: Examination, verdict: Verdict) -> bool:
    """Whether the case that failed comes out right in a workbook that was loaded anew, and ran no other."""
    exercise = examination.exercise
    if not verdict.case or case_of(exercise, verdict.case).is_scene and verdict.difference.kind == "error":
        return False
    with quiet(), suppress(UserError):
        fresh = load(workbook.path, workbook.exercises)
        fresh.link({exercise.id})
        with restored():
            outcome = observe(exercise, case_of(exercise, verdict.case), fresh.candidates[exercise.id])
        return difference_of(verdict.expected, outcome, case_of(exercise, verdict.case).tolerance) is None
    return False


EMPTY = (
    "Some of these numbers were never written. torch.empty (or new_empty, empty_like, torch.Tensor) leaves in a tensor "
    "whatever was in memory before; in another run it is something else."
)


def _is_right_kind(candidate: Any, exercise: Exercise) -> bool:
    reference, owner = resolve(exercise.target, exercise.who)
    if candidate is reference:
        return False
    if inspect.isclass(reference):
        return inspect.isclass(candidate)
    if owner is not None and isinstance(candidate, property | staticmethod | classmethod):
        return isinstance(reference, property | staticmethod | classmethod)
    return callable(candidate) and not inspect.isclass(candidate)
