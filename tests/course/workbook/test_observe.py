"""What a case observes: values, gradients, memory, changed inputs; and nothing leaks out of it."""

import sys
from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import call, exercise, report
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination
from minitransformer.course.workbook.observe import seeded
from minitransformer.errors import UserError
from tests.course.workbook.helpers import TOYS, the


def test_an_output_in_the_inputs_memory_is_an_alias(toys):
    one = exercise.Exercise(
        "1.9", "toys:running_sum", "Copy", 1, 1, "It copies.", ("a", "b", "c"), oracle=lambda x: x.clone()
    )
    one.case(lambda: torch.ones(2))
    view = Examination(one).examine(lambda x: x[:])
    assert view.difference.kind == "shared" and view.difference.actual == "x"
    assert Examination(one).examine(lambda x: x.clone()).passed
    assert "the same memory as the input x" in report.failure(view, diagnose(Examination(one), view), Path("-"), 88)


def test_a_missing_gradient_is_found():
    verdict = Examination(the("1.1")).examine(lambda x: torch.cumsum(x.detach(), 0))
    assert (verdict.difference.kind, verdict.case) == ("gradient", 1)
    wrong = Examination(the("1.1")).examine(lambda x: torch.cumsum(x, 0).detach() + x - x.detach())
    assert wrong.difference.where == "gradient of x" and wrong.difference.wrong.any()


def test_calls_take_keyword_arguments(toys):
    text = "\n\ndef scaled(x, *, by=1.0, plus=None):\n    '''x times by, plus.'''\n    return x * by + (plus or 0)\n"
    Path(toys.__file__).write_text(TOYS + text, encoding="utf-8")
    sys.modules.pop("toys")
    one = exercise.Exercise("1.9", "toys:scaled", "Scale", 1, 1, "It scales.", ("a", "b", "c"))
    one.case(lambda: call(torch.tensor([1.0, 2.0]), by=3.0))
    one.case(lambda: call(x=torch.ones(2), plus=1))
    assert Examination(one).examine(lambda x, *, by=1.0, plus=None: x * by + (plus or 0)).passed
    verdict = Examination(one).examine(lambda x, *, by=1.0, plus=None: x * by + 1)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "scaled(x, by=3.0)" in text and "off by the same 1" in text
    renamed = Examination(one).examine(lambda x, *, factor=1.0, plus=None: x)
    text = report.failure(renamed, diagnose(Examination(one), renamed), Path("-"), 88)
    assert "keep its parameters as the stub has them" in " ".join(text.split())
    one.case(lambda: call(torch.ones(2), times=3.0))
    with pytest.raises(UserError, match="gives 1 arguments, times=; scaled takes"):
        Examination(one).expected(2)


def test_what_code_sets_in_pytorch_does_not_outlast_it(toys):
    def careless(x):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return torch.cumsum(x, 0)

    verdict = Examination(the("1.1")).examine(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert verdict.difference.kind == "gradient"


def test_seeding_is_what_manual_seed_does():
    for accelerators in (False, True):
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.rand(1)
        seeded(accelerators)
        assert torch.equal(torch.rand(3), expected)


def test_what_the_gradient_needs_and_is_written_over_is_an_error(toys):
    """Not one of the check's own: the learner's code has to hear of it as of any other exception."""
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 2.0]), gradients=True)

    def in_place(x):
        sums = x.cumsum(0)
        squares = sums.square()
        sums += 1
        return squares.sqrt()

    verdict = Examination(one).examine(in_place)
    assert verdict.difference.kind == "error" and "inplace" in str(verdict.difference.actual)
