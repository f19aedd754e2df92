"""What code changes for all that comes after it is put back."""

import builtins
import os
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F

from minitransformer.course.workbook.state import restored
from minitransformer.models import attention
from minitransformer.models.attention import Attention
from tests.course.workbook.helpers import check_here, write_workbook

SUMMED = torch.ones(3).sum()


def _set(obj, name, value):
    setattr(obj, name, value)


CHANGES = {
    "gradients off": lambda: torch.set_grad_enabled(False),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "a function of torch": lambda: _set(torch, "softmax", None),
    "a function of torch.nn.functional": lambda: _set(F, "softmax", None),
    "a method of tensors, which they inherit": lambda: _set(torch.Tensor, "sum", lambda self: self),
    "a layer": lambda: _set(torch.nn.Linear, "forward", lambda self, x: x),
    "a function of the package": lambda: _set(attention, "split_heads", None),
    "a method of the package": lambda: _set(Attention, "forward", None),
    "print": lambda: _set(builtins, "print", None),
    "stdout": lambda: _set(sys, "stdout", None),
    "recursion": lambda: sys.setrecursionlimit(123456),
    "environment": lambda: os.environ.update(HOME="nowhere"),
    "folder": lambda: os.chdir("/"),
    "path": lambda: sys.path.insert(0, "nowhere"),
    "warnings": lambda: warnings.simplefilter("error"),
}


def _members():
    return {(name, key): id(value) for name in WHERE for key, value in vars(WHERE[name]).items()}


WHERE = {
    "torch": torch,
    "F": F,
    "Tensor": torch.Tensor,
    "Linear": torch.nn.Linear,
    "attention": attention,
    "Attention": Attention,
    "builtins": builtins,
}


def _settings():
    return (
        (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), sys.getrecursionlimit()),
        (torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled(), id(sys.stdout)),
        (dict(os.environ), os.getcwd(), list(sys.path), list(warnings.filters)),
    )


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_put_back(change):
    members, settings = _members(), _settings()
    with pytest.raises(KeyError), restored():
        CHANGES[change]()
        assert (_members(), _settings()) != (members, settings), "nothing was changed"
        raise KeyError
    assert _settings() == settings
    now = _members()
    assert not [key for key, value in members.items() if now.get(key) != value]
    assert not [key for key in now if key not in members and key[0] in ("Tensor", "Linear", "Attention")]
    assert torch.ones(3).sum() == SUMMED


def test_what_a_workbook_does_to_its_surroundings_reaches_no_exercise(here):
    """In its own lines, and in a function of one exercise."""
    meddling = "torch.set_default_device('meta'); torch.stack = None; torch.set_grad_enabled(False)\n"
    path = write_workbook(edits=[("    total, sums = torch.zeros(()), []", f"    {meddling}    return x.cumsum(0)")])
    path.write_text(path.read_text(encoding="utf-8") + meddling, encoding="utf-8")
    results = check_here(every=True)
    assert [results[f"1.{n}"]["state"] for n in (1, 2, 3)] == ["failed", "passed", "passed"]
    assert "gradient" in results["1.1"]["text"], "gradients are off in the call itself, and that is seen"
    write_workbook(solved=("1.2",))
    path.write_text(path.read_text(encoding="utf-8") + meddling, encoding="utf-8")
    assert [check_here(every=True)[f"1.{n}"]["state"] for n in (1, 2, 3)] == ["unwritten", "passed", "unwritten"]
