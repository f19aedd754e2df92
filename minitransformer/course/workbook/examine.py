"""Try somebody's code on the cases of an exercise, from the smallest up, and find the first difference.

What is compared: the value, its shape, dtype and type; whether inputs were changed; whether the output shares memory
with an input where it should not; gradients where a case asks for them; a refusal where the package refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minitransformer.course.workbook.compare import Difference, Outcome, difference_of
from minitransformer.course.workbook.exercise import Case, Exercise, Mistake
from minitransformer.course.workbook.general import case_of, every_case
from minitransformer.course.workbook.observe import observe, quiet
from minitransformer.course.workbook.state import restored
from minitransformer.errors import UserError


@dataclass
class Verdict:
    """What an examination found."""

    exercise: Exercise
    candidate: Any
    difference: Difference | None = None
    case: int = 0
    """The number of the first case that failed."""
    expected: Outcome | None = None
    actual: list[Outcome] = field(default_factory=list)
    """What came of every case that was run."""

    @property
    def passed(self) -> bool:
        """Whether every case came out right."""
        return self.difference is None


class Examination:
    """An exercise with the outcomes that its cases should have, and those that its mistakes have.

    Args:
        exercise: to be examined.
    """

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self._expected: dict[int, Outcome] = {}
        self._mistaken: dict[tuple[int, int], Outcome] = {}

    def expected(self, number: int) -> Outcome:
        """What case `number` gives on the package's code, or by its oracle."""
        if number not in self._expected:
            case = case_of(self.exercise, number)
            with quiet():
                outcome = observe(self.exercise, case, None)
            refused = isinstance(outcome.error, UserError)
            if case.oracle is not None and not refused:
                with quiet():
                    by_oracle = observe(self.exercise, case, None, case.oracle)
                outcome = Outcome(
                    by_oracle.value, by_oracle.error, outcome.changed, outcome.shared, by_oracle.gradients
                )
            if outcome.error is not None and not refused:
                raise UserError(
                    f"{self.exercise.who}: the case {case.label!r} fails on the package's own code, or its oracle: "
                    f"{type(outcome.error).__name__}: {outcome.error}"
                ) from outcome.error
            self._expected[number] = outcome
        return self._expected[number]

    def mistaken(self, mistake: Mistake, number: int) -> Outcome:
        """What case `number` gives with a mistake."""
        key = self.exercise.mistakes.index(mistake), number
        if key not in self._mistaken:
            with quiet():
                self._mistaken[key] = observe(self.exercise, case_of(self.exercise, number), mistake.code)
        return self._mistaken[key]

    def examine(self, candidate: Any, begins: Callable[[int], None] = lambda number: None) -> Verdict:
        """Run the cases in order, up to the first that fails.

        Args:
            candidate: a function; for a class or a method, the class or what stands in it.
            begins: called with the number of each case before the candidate runs on it; with −1 before the cases that
                every exercise has are made.
        """
        verdict = Verdict(self.exercise, candidate)
        if self._differs(verdict, 0, self.exercise.cases, begins):
            return verdict
        begins(-1)  # what every exercise is asked is found out here, once its own cases are right: it takes a while
        own = len(self.exercise.cases)
        self._differs(verdict, own, every_case(self.exercise)[own:], begins)
        return verdict

    def _differs(self, verdict: Verdict, first: int, cases: list[Case], begins: Callable[[int], None]) -> bool:
        """Run cases, of which the first has this number, and note the first difference; whether there is one."""
        for number, case in enumerate(cases, first):
            expected = self.expected(number)
            begins(number)
            with restored():
                actual = observe(self.exercise, case, verdict.candidate)
            verdict.actual.append(actual)
            difference = difference_of(expected, actual, case.tolerance)
            if difference is not None:
                verdict.difference, verdict.case, verdict.expected = difference, number, expected
                return True
        return False

    def go_on(self, verdict: Verdict) -> None:
        """Run the cases that a failed examination left out, to tell its possible mistakes apart."""
        for case in self.exercise.cases[len(verdict.actual) :]:
            with quiet(), restored():  # what is printed belongs to the case that is shown
                verdict.actual.append(observe(self.exercise, case, verdict.candidate))
