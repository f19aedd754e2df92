"""Run one case of an exercise on one's own code, here, where print and breakpoint() work: `again("2.3", 1)`.

There are no limits of time and memory here, and no judgement; `make check-2.3` has both.
"""

from __future__ import annotations

from typing import Any

from minitransformer.errors import UserError
from minitransformer.workbook.book import load, workbook_path
from minitransformer.workbook.examine import observe
from minitransformer.workbook.exercise import exercises, find


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
    exercise = find(identity)
    if not 1 <= number <= len(exercise.cases):
        raise UserError(f"Exercise {identity} has the cases 1 to {len(exercise.cases)}, not {number}.")
    workbook = load(workbook_path(exercise.lesson), exercises(exercise.lesson))
    candidate = workbook.candidates[identity]
    if candidate is None:
        raise UserError(f"The workbook has no {exercise.name}: make start-{exercise.lesson} adds its stub.")
    workbook.link({identity})
    outcome = observe(exercise, exercise.cases[number - 1], candidate)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
