"""Exercises are read, and malformed ones are named."""

import pytest

from minitransformer.course.workbook import catalogue
from minitransformer.errors import UserError
from tests.course.workbook.helpers import EXERCISES, add_given


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('"1.1", "toys', '"2.1", "toys', "its id should be 1.1, 1.2"),
        ('"1.2", "toys', '"1.1", "toys', "a second exercise has this id"),
        ('"    torch.cumsum(x, 0)"', '""', "three hints"),
        ("minutes=5", "minutes=0", "minutes should be"),
        ('("x.sum() / count", "x.sum()")', '("x.prod()", "x.sum()")', "which the solution has 0 times"),
        ('    """You return nothing."""\n', "", "has no docstring"),
    ],
)
def test_a_malformed_exercise_names_itself(toys, old, new, says):
    path = catalogue.files()[1]
    path.write_text(EXERCISES.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        catalogue.exercises(1)


def test_lessons_without_exercises_say_so():
    with pytest.raises(UserError, match="Lesson 7 has no exercises; the lessons that have some are 1"):
        catalogue.exercises(7)
    with pytest.raises(UserError, match=r"There is no exercise 1.9; lesson 1 has 1.1, 1.2, 1.3"):
        catalogue.find("1.9")


@pytest.mark.parametrize("given", ["rest(x): a view.", ("",), ("rest", 3)])
def test_what_may_be_used_of_another_form_is_refused(tmp_path, given):
    add_given(tmp_path, given)
    with pytest.raises(UserError, match=r"exercise 1\.3 .*given is a tuple of lines"):
        catalogue.exercises(1)
