"""Run one case of an exercise on one's own code: `python -m minitransformer.course.workbook.again 2.3 1`.

It runs in the terminal, where print and breakpoint() work, and prints what the code gives. In Python, `again("2.3", 1)`
gives that itself. There are no limits of time and memory here, and no judgement; `make check-2.3` has both.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from minitransformer.course import show
from minitransformer.course.workbook.book import workbook_path
from minitransformer.course.workbook.catalogue import exercises, find
from minitransformer.course.workbook.compare import Outcome
from minitransformer.course.workbook.general import case_of, every_case
from minitransformer.course.workbook.loading import load
from minitransformer.course.workbook.observe import observe
from minitransformer.errors import UserError


def again(identity: str, number: int) -> Any:
    """Run a case on the code in the workbook, on reference code for everything else.

    Args:
        identity: the exercise's id, such as "2.3".
        number: of the case, counted from 1, as a failing check gives it.

    Returns:
        What the code gives; of a case with several steps, what was observed, by name.

    Raises:
        UserError: there is no such exercise or case, or the workbook has nothing for it.
        BaseException: whatever the code raises.
    """
    outcome = _outcome(identity, number)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def _outcome(identity: str, number: int) -> Outcome:
    exercise = find(identity)
    if not 1 <= number <= len(every_case(exercise)):
        raise UserError(f"Exercise {identity} has the cases 1 to {len(every_case(exercise))}, not {number}.")
    workbook = load(workbook_path(exercise.lesson), exercises(exercise.lesson))
    candidate = workbook.candidates[identity]
    if candidate is None:
        raise UserError(f"The workbook has no {exercise.name}: make start-{exercise.lesson} adds its stub.")
    workbook.link({identity})
    return observe(exercise, case_of(exercise, number - 1), candidate)


def command(identity: str, number: int) -> str:
    """What to paste into a shell, in the course's folder, to run a case."""
    python = Path(sys.executable)
    if python.is_relative_to(show.ROOT):
        python = python.relative_to(show.ROOT)
    return f"{python} -m minitransformer.course.workbook.again {identity} {number}"


def main(arguments: list[str]) -> int:
    """Print what a case gives; 0 if it gives anything.

    Args:
        arguments: the exercise's id and the number of the case.
    """
    if len(arguments) != 2 or not arguments[0].replace(".", "", 1).isdecimal() or not arguments[1].isdecimal():
        print("Give an exercise and the number of an input, such as: 2.3 1", file=sys.stderr)
        return 2
    try:
        outcome = _outcome(arguments[0], int(arguments[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    if outcome.error is not None:
        _print_trace(outcome.error, str(workbook_path(find(arguments[0]).lesson)))
        return 1
    print("It gives:")
    if isinstance(outcome.value, dict):
        for name, part in outcome.value.items():
            print(f"{name}:\n{part!r}")
    else:
        print(repr(outcome.value))
    return 0


def _print_trace(error: BaseException, path: str) -> None:
    """An exception's traceback from the first line that stands in the workbook."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
