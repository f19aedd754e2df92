"""Of the answers in this folder the right ones pass, and the wrong ones are rejected and called what they are."""

from __future__ import annotations

import pytest

from minitransformer.course.workbook.catalogue import exercises, files
from tests.course.exercises import answers, judge


@pytest.mark.parametrize("lesson", files())
def test_right_answers_pass_and_wrong_ones_are_named(lesson: int):
    names = {one.id: {mistake.name for mistake in one.mistakes} for one in exercises(lesson)}
    for answer in answers(lesson):
        who = f"{answer.id}, {answer.label}"
        found = judge(answer)
        if answer.is_right:
            assert found.passed, f"{who}: is right, and is rejected in the case {found.where}; {found.mistakes}"
            continue
        assert not found.passed, f"{who}: is wrong, and passes; add the case that tells it from the solution."
        assert set(answer.named) <= names[answer.id], (
            f"{who}: the exercise has no such mistake; it has {names[answer.id]}"
        )
        if answer.named:
            assert found.mistakes and set(found.mistakes) <= set(answer.named), f"{who}: is called {found}"
        else:
            assert not found.mistakes, f"{who}: is called {found.mistakes}, which it is not."


@pytest.mark.parametrize("lesson", files())
def test_every_exercise_has_a_right_answer_that_is_unlike_the_solution(lesson: int):
    have = {answer.id for answer in answers(lesson) if answer.is_right}
    assert have == {one.id for one in exercises(lesson)}
