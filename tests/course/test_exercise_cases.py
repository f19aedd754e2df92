"""What `make verify` does not ask of the cases: that each tries what its label says."""

from __future__ import annotations

import pytest

from minitransformer.course.workbook.catalogue import exercises, files
from minitransformer.course.workbook.examine import Examination
from minitransformer.errors import UserError


@pytest.mark.parametrize("lesson", files())
def test_what_the_package_refuses_is_labelled_as_a_refusal(lesson: int):
    """A scene that calls the package wrongly is refused by it, asks the same of the learner, and so checks nothing."""
    for exercise in exercises(lesson):
        examination = Examination(exercise)
        for number, case in enumerate(exercise.cases):
            error = examination.expected(number).error
            assert not isinstance(error, UserError) or "refuse" in case.label, (
                f"{exercise.who}: the package refuses the case {case.label!r} ({error}). If that is what the case is "
                "about, say so in its label; if not, it calls the package wrongly."
            )
