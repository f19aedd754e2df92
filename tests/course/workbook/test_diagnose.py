"""Mistakes are named, and only those that were made."""

import math
from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import exercise, report, verify
from minitransformer.course.workbook.diagnose import diagnose, is_left_empty, narrowed, numbers_alike, shapes_alike
from minitransformer.course.workbook.examine import Examination
from minitransformer.errors import UserError
from tests.course.workbook.helpers import LOWER, SUM, A, check_here, the, write_workbook


def test_every_mistake_is_named_and_no_other():
    assert verify.verify_lesson(1) == []


def test_a_learners_own_way_of_a_mistake_is_named():
    edit = ("total = total + value\n        sums.append(total)", "sums.append(total); total = total + value")
    write_workbook(edits=[edit])
    text = check_here("1.1")["1.1"]["text"]
    assert "Diagnosis: first left out. Each sum lacks its own number." in text


def test_a_refusal_in_other_words_hides_no_later_mistake(toys):
    one = exercise.Exercise("1.9", "toys:mean", "Mean", 1, 1, "Mean.", ("a", "b", "c"))
    one.case(lambda: torch.zeros(1, 1))  # to be refused
    one.case(lambda: torch.tensor([1.0, 2.0]))

    def a_sum(x):
        """You do not divide."""
        if x.dim() > 1:
            raise UserError("Too many dimensions.")
        return x.sum(), x.numel()

    def own_words(x):
        if x.dim() > 1:
            raise UserError("That is a matrix.")
        return x.sum(), x.numel()

    one.mistake(a_sum)
    examination = Examination(one)
    verdict = examination.examine(own_words)
    assert verdict.case == 1, "the refusal is right, whatever its words"
    assert [found.name for found in diagnose(examination, verdict).mistakes] == ["a sum"]


def test_a_copy_matches_a_mistake_that_gives_a_view_where_views_are_right(toys):
    one = exercise.Exercise("1.9", "toys:rest", "Rest", 1, 1, "Rest.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 2.0, 3.0]))

    def short(x):
        """You leave the last number out."""
        return x[:-1]

    one.mistake(short)
    examination = Examination(one)
    for own in (lambda x: x[:-1], lambda x: x[:-1].clone()):
        verdict = examination.examine(own)
        assert verdict.case == 0
        assert [found.name for found in diagnose(examination, verdict).mistakes] == ["short"], (
            "the reference gives a view of its input, so whether one is given says nothing"
        )


def test_two_mistakes_that_look_alike_are_told_apart_by_further_cases(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.ones(2))
    one.case(lambda: torch.tensor([1.0, 2.0]))

    def last_twice(x):
        """You take the last number twice."""
        return torch.cat([x[:1], x[:1] + 2 * x[1:]])

    def one_more(x):
        """You add one."""
        return torch.cat([x[:1], x.cumsum(0)[1:] + 1])

    for mistake in (last_twice, one_more):
        one.mistake(mistake)
    examination = Examination(one)
    for mistake in one.mistakes:
        verdict = examination.examine(mistake.code)
        both = diagnose(examination, verdict)
        assert len(both.mistakes) == 2, "in the first case the two cannot be told apart"
        assert [found.name for found in narrowed(examination, verdict).mistakes] == [mistake.name]


def test_a_mistake_is_named_only_if_it_is_that_on_every_input(toys):
    """Else it is said that this input looks like it; or nothing, where the code is right and the mistake wrong."""
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    for x in (torch.ones(2), torch.tensor([1.0, 0.0]), torch.ones(3)):
        one.case(lambda x=x: x.clone())

    @one.mistake
    def twice(x):
        """You count twice."""
        return 2 * x.cumsum(0)

    def said(own) -> str:
        examination = Examination(one)
        verdict = examination.examine(own)
        assert verdict.case == 0
        first = diagnose(examination, verdict)
        assert [found.name for found in first.mistakes] == ["twice"] and not first.sure, "two cases did not run yet"
        assert "Diagnosis" not in report.failure(verdict, first, Path("-"), 200)
        return report.failure(verdict, narrowed(examination, verdict), Path("-"), 200)

    assert "Diagnosis: twice. You count twice." in said(lambda x: x.cumsum(0) * 2)
    text = said(lambda x: x.cumsum(0) * (1 + x[1]))
    assert "count twice" not in text and "Every number is 2 times what is right" in text, "it is right on [1, 0]"
    text = said(lambda x: x.cumsum(0) * 2 if len(x) == 2 else x)
    assert "On this input, though not on every one, it behaves as if this were wrong: twice. You count twice." in text


def test_a_right_refusal_in_own_words_behind_the_failing_case_changes_no_diagnosis(toys):
    one = exercise.Exercise("1.9", "toys:mean", "Mean", 1, 1, "Mean.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 2.0]))
    one.case(lambda: torch.zeros(1, 1))  # to be refused

    def a_sum(x, words="Too many dimensions."):
        """You do not divide."""
        if x.dim() > 1:
            raise UserError(words)
        return x.sum(), x.numel()

    one.mistake(a_sum)
    examination = Examination(one)
    verdict = examination.examine(lambda x: a_sum(x, "That is a matrix."))
    found = narrowed(examination, verdict)
    assert [mistake.name for mistake in found.mistakes] == ["a sum"] and found.sure


def test_numbers_that_were_never_written_are_seen(toys):
    def partly(x):
        sums = torch.empty_like(x)
        sums[0] = x[0]
        return sums

    def written(x):
        sums = torch.empty_like(x)
        sums[:] = x + 1
        return sums

    for own, empty in ((partly, True), (written, False), (lambda x: x / 0 * 0, False), (lambda x: x.tolist(), False)):
        examination = Examination(the("1.1"))
        verdict = examination.examine(own)
        assert is_left_empty(examination, verdict) == empty
    assert not torch.are_deterministic_algorithms_enabled()
    write_workbook(edits=[(SUM, "    return torch.cat([sums[0][None], torch.empty_like(x)[1:]])")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert "Some of these numbers were never written." in text and "Diagnosis" not in text


@pytest.mark.parametrize(
    "expected, actual, says",
    [
        (A, A.T, "axes 0 and 1 are exchanged"),
        (A[None], A[:, :, None], "stand in the order"),
        (A, A[None], "axis of length 1"),
        (A, A.flatten(), "only the shape"),
        (A[:2], A[:2].reshape(3, 2), "only the shape"),
        (A[:2].T, A[:2].reshape(3, 2), "wrong places"),
        (A, -A, "sign is wrong"),
        (A, 3 * A, "3 times what is right (3; axis 0 is 3 long)"),
        (A, A / math.sqrt(3), "1/√3"),
        (A, A + 0.5, "off by the same 0.5"),
        (A, A.roll(1, 1), "one place earlier"),
        (A, A.roll(-1, 0), "axis 0: what stands at i should stand one place later"),
        (A * 2, A * 2 / (A * 2).sum(0), "sums to 1 along axis 0"),
        (A, torch.where(A > 0.5, math.nan, A), "2 of 9 of the numbers are nan"),
        (A, A * 0, "Everything is 0"),
        (A, A * -0.0, "Everything is 0"),
        (A, A.log(), "logarithm of what"),
        (A.log(), A, "e to the power"),
        (A, A.square(), "It is the square of"),
        (LOWER, ~LOWER, "turned round"),
        (LOWER, LOWER.roll(1, 1) & LOWER.roll(1, 1).tril(1), "shifted"),
        (LOWER, LOWER.T, "exchanged"),
    ],
)
def test_look_alikes(expected, actual, says):
    said = list(shapes_alike(expected, actual))
    if expected.shape == actual.shape:
        said += numbers_alike(expected, actual)
    assert any(says in sentence for sentence in said), said


def test_a_constant_factor_is_said_beside_a_known_mistake(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 0.0, 2.0]))

    @one.mistake
    def thrice(x):
        """You take everything three times."""
        return 3 * x.cumsum(0)

    verdict = Examination(one).examine(thrice)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert text.count("Every number is 3 times what is right") == 1 and "Diagnosis: thrice." in text


def test_zeros_are_no_multiple_beside_a_known_mistake(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 0.0, 2.0]))

    @one.mistake
    def nothing(x):
        """You return nothing but 0 (it is on the right.)"""
        return -0.0 * x

    verdict = Examination(one).examine(nothing)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "Everything is 0." in text and "times" not in text
    assert text.endswith("(it is on the right.)"), "a full stop inside the bracket is enough"


def test_no_look_alike_for_what_is_merely_wrong():
    torch.manual_seed(0)
    expected, actual = torch.randn(4, 4), torch.randn(4, 4)
    assert [*shapes_alike(expected, actual), *numbers_alike(expected, actual)] == []


def test_a_mistake_that_is_written_in_another_way_has_one_name(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    for numbers in ([1.0, 2.0], [3.0, 0.5, 1.0]):
        one.case(lambda numbers=numbers: torch.tensor(numbers))

    @one.mistake
    def too_much(x):
        """You add a number."""
        return x.cumsum(0) + 1

    for more in (2, 3):
        one.mistake("too much")(lambda x, more=more: x.cumsum(0) + more)
    assert {mistake.why for mistake in one.mistakes} == {"You add a number."}
    examination = Examination(one)
    for more in (1, 2, 3):
        verdict = examination.examine(lambda x, more=more: x.cumsum(0) + more)
        assert [found.name for found in diagnose(examination, verdict).mistakes] == ["too much"]
        assert [found.name for found in narrowed(examination, verdict).mistakes] == ["too much"]
    verdict = examination.examine(lambda x: x.cumsum(0) + 4)
    assert not diagnose(examination, verdict).mistakes


def test_a_mistake_without_a_docstring_needs_one_of_its_name(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    with pytest.raises(UserError, match="has no docstring"):
        one.mistake("too much")(lambda x: x)
    with pytest.raises(UserError, match="nothing says why"):
        one.slip("too much", "", ("total = total + value", "total = value"))


def test_rows_of_zeros_are_no_softmax_along_another_axis(toys):
    """Weights of which one row should be 0 and is not sum to 1 along the axis along which they should."""
    right = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    assert not any("softmax" in said for said in numbers_alike(right, torch.tensor([[0.4, 0.4, 0.2], [0.2, 0.3, 0.5]])))
    square = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    found = torch.tensor([[0.3, 0.6], [0.7, 0.4]])
    assert any("softmax goes along another axis" in said for said in numbers_alike(square, found))


def test_scores_that_are_ruled_out_are_no_accident(toys):
    """−∞ where some other −∞ belongs is not blamed on 0/0."""
    right = torch.tensor([1.0, 2.0, -math.inf])
    assert not any("infinite" in said for said in numbers_alike(right, torch.tensor([1.0, -math.inf, -math.inf])))
    assert any("infinite" in said for said in numbers_alike(right[:2], torch.tensor([1.0, -math.inf])))
