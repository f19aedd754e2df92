"""Outcomes are compared part by part."""

import types

import torch

from minitransformer.course.workbook.compare import compare


def test_names_of_tensors_inside_containers():
    point = types.SimpleNamespace
    assert compare({"a": (1, [torch.ones(1)])}, {"a": (1, [torch.zeros(1)])}, "out", 0).where == "out['a'][1][0]"
    assert compare(point(), point(), "out", 0) is None
    assert compare([1, 2, 3], [1, 2], "out", 0).kind == "length"
    assert compare([1, 2, 3], [1, 5, 3], "out", 0).index == (1,)
    assert compare(True, 1, "out", 0).kind == "type" and compare(1.0, 1, "out", 0) is None
    assert compare(float("nan"), float("nan"), "out", 0) is None
