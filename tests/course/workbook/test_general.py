"""What every exercise is asked beside its own cases."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from minitransformer.course.workbook import call, exercise
from minitransformer.course.workbook.examine import Examination
from minitransformer.course.workbook.general import every_case, general_cases, signature_complaint
from tests.course.workbook.helpers import check_here, the, write_workbook

LOOP = "    total, sums = torch.zeros(()), []"


def failure_of(line, identity="1.1"):
    """What a check says of 1.1 with this body."""
    write_workbook(edits=[(LOOP, line)])
    result = check_here(identity)[identity]
    return result["state"], " ".join(result["text"].split())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    return x.cumsum(0)", None),
        ("    return torch.stack([x[: n + 1].sum() for n in range(len(x))])", None),
        ("    return torch.tensor([float(x[: n + 1].sum()) for n in range(len(x))], dtype=x.dtype)", "gradient"),
        (
            "    sums = torch.zeros(len(x))\n    sums[:] = x.cumsum(0)\n    return sums",
            "Two numbers, in double precision (float64). ",
        ),
        (
            "    return x.cumsum(0) + torch.zeros(len(x), dtype=x.dtype)",
            'Two numbers, on another device ("meta", which has shapes and no numbers).',
        ),
        (
            "    import builtins\n    if x.is_meta:\n        return torch.zeros(len(x))\n    return x.cumsum(0)",
            "The output lies on cpu; it should lie on meta. A tensor that your code makes has to lie where its input",
        ),
    ],
)
def test_dtype_and_device_are_asked_of_every_exercise(body, says):
    state, text = failure_of(body)
    assert (state, text) == ("passed", "") if says is None else state == "failed" and says in text, text


def test_code_that_reads_numbers_is_not_blamed_for_a_device_that_has_none():
    assert failure_of("    return x.cumsum(0) if x.is_meta or x.sum() > -99 else x")[0] == "passed"
    assert failure_of("    return x.cumsum(0) if float(x.sum()) > -99 else x")[0] == "passed"


def test_an_exercise_names_what_does_not_apply_to_it():
    one = the("1.1")
    assert [case.label.partition(", ")[2][:14] for case in general_cases(one)] == ["in double prec", "on another dev"]
    one.unasked = ("doubles",)
    assert [case.label.partition(", ")[2][:14] for case in general_cases(one)] == ["on another dev"]
    one.unasked = ("doubles", "device", "signature")
    assert general_cases(one) == [] and not signature_complaint(one, lambda y: y)


MADE = '''
def made(n: int, device=None) -> Tensor:
    """n ones."""
    return torch.ones(n, device=device)
'''


def test_a_device_that_is_a_parameter_is_asked_for(toys):
    def made(n, device=None):
        return torch.ones(n, device=device)

    toys.made = made
    toys.made.__qualname__ = "made"
    with open(toys.__file__, "a", encoding="utf-8") as file:
        file.write("\n\n" + inspect.cleandoc(MADE))
    one = exercise.Exercise("1.9", "toys:made", "Ones", 1, 1, "It makes ones.", ("a", "b", "c"))
    one.case(lambda: 3)
    one.case(lambda: call(2, device="cpu"))
    assert len(every_case(one)) == 3
    assert Examination(one).examine(lambda n, device=None: torch.ones(n, device=device)).passed
    assert Examination(one).examine(lambda n, device=None: torch.ones(n)).difference.kind == "device"


def test_a_module_that_cases_share_is_not_changed(toys):
    """Its doubles are a copy."""
    shared = nn.Linear(2, 2)

    def applied(layer, x):
        """A layer's output."""
        return layer(x)

    toys.rest = applied
    one = exercise.Exercise("1.9", "toys:rest", "Apply", 1, 1, "It applies.", ("a", "b", "c"))
    one.__dict__["parameters"] = ["layer", "x"]
    one.case(lambda: (shared, torch.ones(1, 2)))
    assert len(every_case(one)) == 3
    assert shared.weight.dtype == torch.float32 and shared.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("identity", "own", "says"),
    [
        ("1.1", lambda y: y, "Yours is running_sum(y), the exercise is running_sum(x): x is called y in yours."),
        ("1.1", lambda: 0, "x is missing"),
        ("1.1", lambda x, more: x, "more is one too many"),
        ("1.1", lambda x, more=0: x, ""),
        ("1.1", lambda *args, **kwargs: args, ""),
        ("1.1", lambda *args: args, "x is missing"),
        ("1.1", lambda *, x: x, "x has to be given by its place or its name, as you like"),
        ("1.2", lambda x, empty: x, "empty has a default value"),
        ("1.2", lambda empty=0, x=0: x, "x stands in another place; empty stands in another place"),
        ("1.3", lambda me, x: x, ""),
        ("1.3", lambda self, y: y, "Yours is Counter.add(self, y), the exercise is Counter.add(self, x)"),
    ],
)
def test_parameters_are_those_of_the_stub(identity, own, says):
    complaint = signature_complaint(the(identity), own)
    assert says in complaint if says else not complaint, complaint


def test_other_parameters_are_named_by_a_check_though_every_case_passes():
    write_workbook(edits=[("def running_sum(x: Tensor)", "def running_sum(numbers: Tensor)"), ("in x:", "in numbers:")])
    result = check_here("1.1")["1.1"]
    text = " ".join(result["text"].split())
    assert result["state"] == "failed" and "x is called numbers in yours" in text and "the stub has them" in text


def test_a_stub_whose_parameters_were_changed_waits_to_be_written():
    write_workbook(solved=(), edits=[("def running_sum(x: Tensor)", "def running_sum(numbers: Tensor)")])
    assert check_here("1.1")["1.1"]["state"] == "unwritten"


def test_what_is_kept_between_calls_is_named():
    state, text = failure_of("    _kept.append(1)\n    return x.cumsum(0) + (len(_kept) > 4)\n\n_kept = []\ndef g(x):")
    assert state == "failed" and "Every input was right before, this one as well. Something is kept" in text, text
    state, text = failure_of("    _kept.append(1)\n    return x.cumsum(0) + (len(_kept) > 1)\n\n_kept = []\ndef g(x):")
    assert state == "failed" and "By itself, this input comes out right. Something is kept from one call" in text, text
