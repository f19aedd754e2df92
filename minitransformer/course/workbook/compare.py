"""Compares what came of a case with what should have come, and finds the first difference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError


@dataclass
class Outcome:
    """What came of one case."""

    value: Any = None
    error: BaseException | None = None
    changed: dict[str, Difference] = field(default_factory=dict)
    """Inputs that are not what they were before, by name."""
    shared: set[tuple[str, str]] = field(default_factory=set)
    """(part of the output, input) that lie in the same memory."""
    gradients: dict[str, Tensor | None] | None = None
    excused: bool = False
    """Whether it raised an exception of which nothing follows."""


@dataclass
class Difference:
    """The first thing that is not as it should be."""

    kind: str
    """error, exit, refusal, type, length, keys, shape, device, dtype, value, changed, shared or gradient."""
    where: str
    """Which part of the output (or which input): "output", "output[1]", "gradient of q"."""
    expected: Any = None
    actual: Any = None
    wrong: Tensor | None = None
    """Where two tensors differ."""
    index: tuple[int, ...] = ()
    """The first such place."""


def tensors(value: Any, where: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor inside a value, with a name; `where` may be a list of names for a list of values."""
    if isinstance(where, list):
        for one, name in zip(value, where, strict=True):
            yield from tensors(one, name)
    elif isinstance(value, Tensor):
        yield where, value
    elif isinstance(value, nn.Module):
        yield from ((f"{where}.{name}", tensor) for name, tensor in value.named_parameters())
    else:
        for name, part in parts(value, where) or ():
            yield from tensors(part, name)


def parts(value: Any, where: str) -> list[tuple[str, Any]] | None:
    """The named parts of a container, or None."""
    if isinstance(value, dict):
        return [(f"{where}[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f"{where}.{name}", part) for name, part in zip(value._fields, value, strict=True)]
    if isinstance(value, list | tuple):
        return [(f"{where}[{number}]", part) for number, part in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return [(f"{where}.{one.name}", getattr(value, one.name)) for one in fields(value)]
    return None


def difference_of(expected: Outcome, actual: Outcome, tolerance: float) -> Difference | None:
    """The first way in which an outcome is not the expected one; None where it is."""
    if actual.excused or expected.excused:
        return None
    if actual.error is not None:
        if isinstance(actual.error, UserError) and isinstance(expected.error, UserError):
            return None
        kind = "exit" if isinstance(actual.error, SystemExit) else "error"
        return Difference(kind, "output", expected.error, actual.error)
    if expected.error is not None:
        return Difference("refusal", "output", expected.error, actual.value)
    for name, changed in actual.changed.items():
        if name not in expected.changed:
            return Difference("changed", name, changed.expected, changed.actual, changed.wrong, changed.index)
    found = compare(expected.value, actual.value, "output", tolerance)
    if found is not None:
        return found
    for part, source in sorted(actual.shared - expected.shared):
        return Difference("shared", part, None, source)
    for name, gradient in (expected.gradients or {}).items():
        other = (actual.gradients or {}).get(name)
        where = f"gradient of {name}"
        if (gradient is None) != (other is None):
            return Difference("gradient", where, gradient, other)
        found = compare(gradient, other, where, tolerance)
        if found is not None:
            return found
    return None


def same(one: Outcome, other: Outcome, expected: Outcome, tolerance: float) -> bool:
    """Whether two outcomes are the same, right or wrong; sharing that is expected is no matter."""
    if one.excused or other.excused:
        return True
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error) and str(one.error) == str(other.error)
    if set(one.changed) != set(other.changed) or one.shared - expected.shared != other.shared - expected.shared:
        return False
    return compare(one.value, other.value, "", tolerance) is None and (
        compare(one.gradients, other.gradients, "", tolerance) is None
    )


def compare(expected: Any, actual: Any, where: str, tolerance: float) -> Difference | None:
    """The first difference between two values; objects without visible parts are equal if their types are."""
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        return _compare_tensors(expected, actual, where, tolerance)
    if isinstance(expected, nn.Module) and isinstance(actual, nn.Module):
        return compare(dict(expected.named_parameters()), dict(actual.named_parameters()), where, tolerance)
    if not _same_type(expected, actual):
        return Difference("type", where, expected, actual)
    if isinstance(expected, dict) and list(expected) != list(actual):
        if set(expected) != set(actual):
            return Difference("keys", where, list(expected), list(actual))
        actual = {key: actual[key] for key in expected}
    left, right = parts(expected, where), parts(actual, where)
    if left is not None:
        plain = isinstance(expected, list | tuple)
        simple = plain and all(isinstance(part, str | int | float) for _, part in (*left, *right))
        for number, ((name, one), (_, other)) in enumerate(zip(left, right, strict=False)):
            found = compare(one, other, name, tolerance)
            if found is not None:
                # Of a list of words or ids, all of it is shown, not the one entry.
                return Difference(found.kind, where, expected, actual, index=(number,)) if simple else found
        if len(left) != len(right):
            return Difference("length", where, expected, actual, index=(min(len(left), len(right)),))
        return None
    if isinstance(expected, float):
        close = math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
        equal = close or (math.isnan(expected) and math.isnan(actual))
    elif isinstance(expected, bool | int | str | bytes | set | frozenset):
        equal = expected == actual
    elif hasattr(expected, "dtype") and hasattr(expected, "shape"):  # numpy
        return _compare_tensors(torch.as_tensor(expected), torch.as_tensor(actual), where, tolerance)
    else:
        equal = True
    return None if equal else Difference("value", where, expected, actual)


def _same_type(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return isinstance(expected, bool) and isinstance(actual, bool)
    if isinstance(expected, float):
        return isinstance(actual, float | int)
    return isinstance(actual, type(expected)) and (type(actual) is type(expected) or not isinstance(expected, tuple))


def _compare_tensors(expected: Tensor, actual: Tensor, where: str, tolerance: float) -> Difference | None:
    if expected.shape != actual.shape:
        return Difference("shape", where, expected, actual)
    if (expected.device, expected.layout) != (actual.device, actual.layout):
        return Difference("device", where, expected, actual)
    if expected.dtype != actual.dtype:
        return Difference("dtype", where, expected, actual)
    if expected.is_meta:  # it has no numbers
        return None
    left, right = expected.detach(), actual.detach()
    if left.is_floating_point():
        wrong = ~torch.isclose(right, left, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        wrong = left != right
    if not bool(wrong.any()):
        return None
    return Difference("value", where, left, right, wrong, tuple(wrong.nonzero()[0].tolist()))
