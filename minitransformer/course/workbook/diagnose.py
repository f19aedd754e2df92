"""Name the mistake: which known wrong answer gives what the learner's code gives, or what the numbers look like."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minitransformer.course.workbook.compare import Outcome, compare, difference_of, parts, same, tensors
from minitransformer.course.workbook.examine import Examination, Verdict
from minitransformer.course.workbook.exercise import Mistake
from minitransformer.course.workbook.general import case_of
from minitransformer.course.workbook.observe import arguments, observe, quiet
from minitransformer.course.workbook.state import restored
from minitransformer.errors import UserError


@dataclass
class Diagnosis:
    """What is probably wrong."""

    mistakes: list[Mistake] = field(default_factory=list)
    """Known mistakes that give the same as the learner's code in the case that failed and all before it, by name."""
    sure: bool = False
    """Whether they give the same in every case of the exercise; else the learner's code is something else as well."""
    alike: list[str] = field(default_factory=list)
    """Where there are none: sentences about what the output looks like."""


def matching(examination: Examination, verdict: Verdict) -> list[Mistake]:
    """The mistakes whose outcomes are those of the examined code, in every case that was run."""

    def matches(mistake: Mistake) -> bool:
        # The failing case first: it tells most mistakes apart at once.
        order = [verdict.case, *(n for n in range(len(verdict.actual)) if n != verdict.case)]
        for n in order:
            mistaken, actual, expected = examination.mistaken(mistake, n), verdict.actual[n], examination.expected(n)
            # What is to be refused, and is, each refuses in words of its own.
            all_refuse = all(isinstance(one.error, UserError) for one in (mistaken, actual, expected))
            if not (all_refuse or same(mistaken, actual, expected, case_of(examination.exercise, n).tolerance)):
                return False
        return True

    return [mistake for mistake in examination.exercise.mistakes if matches(mistake)]


def diagnose(examination: Examination, verdict: Verdict) -> Diagnosis:
    """Say what is probably wrong with code that failed.

    Args:
        examination: of the exercise.
        verdict: what it found; `narrowed` finds out more, where mistakes match.
    """
    mistakes = _one_of_each_name(matching(examination, verdict))
    if mistakes:
        return Diagnosis(mistakes, sure=len(verdict.actual) >= len(verdict.exercise.cases))
    return Diagnosis(alike=_alike(examination, verdict))


def narrowed(examination: Examination, verdict: Verdict) -> Diagnosis:
    """The diagnosis again after the remaining cases were run.

    Where no mistake gives the same in all of them, the code may have two mistakes, and look like one of them in the
    case that failed. But a mistake that fails where the code passes is not in it.
    """
    first = matching(examination, verdict)
    examination.go_on(verdict)
    left = matching(examination, verdict)
    if left:
        return Diagnosis(_one_of_each_name(left), sure=True)

    def is_right(n: int, outcome: Outcome) -> bool:
        return difference_of(examination.expected(n), outcome, case_of(examination.exercise, n).tolerance) is None

    passed = [n for n, outcome in enumerate(verdict.actual) if is_right(n, outcome)]
    possible = [one for one in first if all(is_right(n, examination.mistaken(one, n)) for n in passed)]
    return Diagnosis(_one_of_each_name(possible)) if possible else Diagnosis(alike=_alike(examination, verdict))


def _one_of_each_name(mistakes: list[Mistake]) -> list[Mistake]:
    """Without those that are another way to write one that is there."""
    return list({one.name: one for one in reversed(mistakes)}.values())[::-1]


def _alike(examination: Examination, verdict: Verdict) -> list[str]:
    return list(itertools.islice(look_alikes(examination, verdict), 2))


def is_left_empty(examination: Examination, verdict: Verdict) -> bool:
    """Whether numbers of the output were never written: they change when `torch.empty` leaves something else there."""
    if verdict.difference is None or verdict.difference.kind != "value":
        return False
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")  # it fills what torch.empty gives with nan, or with a large number
    try:
        with quiet(), restored():
            again = observe(examination.exercise, case_of(examination.exercise, verdict.case), verdict.candidate)
    finally:
        torch.set_deterministic_debug_mode(before)
    difference = compare(verdict.actual[verdict.case].value, again.value, "", 0.0)
    if again.error is not None or difference is None or difference.wrong is None:
        return False
    changed = difference.actual[difference.wrong]
    return not changed.is_floating_point() or bool(changed.isnan().any())


# ---------------------------------------------------------------- what numbers look like


def look_alikes(examination: Examination, verdict: Verdict) -> Iterator[str]:
    """Sentences on how the wrong output relates to the right one, the likeliest first."""
    difference, exercise = verdict.difference, verdict.exercise
    if difference.kind in ("value", "shape") and isinstance(verdict.expected.value, tuple):
        yield from _swapped(verdict)
    if difference.kind == "gradient":
        if difference.actual is None:
            yield (
                f"No gradient reaches {difference.where.removeprefix('gradient of ')}: detach, .data, .item(), "
                "torch.tensor(…) or no_grad cuts the graph."
            )
        return
    expected, actual = difference.expected, difference.actual
    if not (isinstance(expected, Tensor) and isinstance(actual, Tensor)) or expected.is_meta or actual.is_meta:
        return
    if difference.kind == "dtype":
        yield f"The type of the numbers is {_dtype(actual)} where {_dtype(expected)} is wanted."
        return
    if difference.kind not in ("value", "shape"):
        return
    case = case_of(exercise, verdict.case)
    if not case.is_scene:
        given = arguments(exercise, case)
        for name, tensor in tensors(list(given.values()), list(given)):
            if tensor.shape == actual.shape and tensor.dtype == actual.dtype and torch.equal(tensor, actual):
                yield f"It is the input {name}, unchanged."
                return
    yield from shapes_alike(expected.detach(), actual.detach())
    if expected.shape == actual.shape:
        yield from numbers_alike(expected.detach(), actual.detach())


def _swapped(verdict: Verdict) -> Iterator[str]:
    expected, actual = parts(verdict.expected.value, ""), parts(verdict.actual[verdict.case].value, "") or []
    right, found = [part for _, part in expected], [part for _, part in actual]
    if not all(isinstance(part, Tensor) for part in right + found) or len(right) != len(found):
        return
    for order in itertools.permutations(range(len(right))):
        if list(order) != sorted(order) and all(_equal(right[i], part) for i, part in zip(order, found, strict=True)):
            yield "The parts are right, but in another order."
            return


def shapes_alike(expected: Tensor, actual: Tensor) -> Iterator[str]:
    """What holds for tensors whose axes may differ."""
    if expected.numel() == 0 or expected.dtype != actual.dtype:
        return
    if expected.dim() == actual.dim() > 1:
        for order in itertools.permutations(range(expected.dim())):
            if list(order) != sorted(order) and _equal(expected.permute(order), actual):
                moved = [axis for axis, source in enumerate(order) if axis != source]
                how = f"{moved[0]} and {moved[1]} are exchanged" if len(moved) == 2 else f"stand in the order {order}"
                yield f"The numbers are right, but the axes {how}."
                return
    if expected.shape != actual.shape and expected.squeeze().shape == actual.squeeze().shape:
        if _equal(expected.squeeze(), actual.squeeze()):
            yield "The numbers are right, but an axis of length 1 is missing or too many (unsqueeze, squeeze, keepdim)."
            return
    if expected.numel() == actual.numel() and expected.dim() and not _equal(expected, actual):
        if _equal(expected.flatten(), actual.flatten()):
            yield "The numbers are right and in the right order; only the shape is another (view, reshape, flatten)."
        elif expected.unique().numel() > 2 and _equal(expected.flatten().sort()[0], actual.flatten().sort()[0]):
            yield (
                "These are the right numbers in wrong places: view and reshape keep the order in memory and do not "
                "exchange axes; transpose and permute do."
            )


def numbers_alike(expected: Tensor, actual: Tensor) -> Iterator[str]:
    """What holds for two tensors of one shape that differ."""
    if expected.dtype == torch.bool:
        if torch.equal(expected, ~actual):
            yield "It is True exactly where False is right: the mask is turned round."
        yield from _shifted(expected, actual)
        return
    left, right = expected.double(), actual.double()
    bad = ~right.isfinite() & left.isfinite()
    if bad.any() and (left.isfinite().all() or right.isnan().any()):
        kind = "nan" if right[bad].isnan().any() else "infinite"
        share = "all" if bool(bad.all()) else f"{int(bad.sum())} of {bad.numel()}"
        yield f"{share} of the numbers are {kind}: look for 0/0, the logarithm of 0, a softmax over nothing but -inf."
        return
    if not left.isfinite().all():
        return
    if not right.any():
        yield "Everything is 0."
        return
    if _equal(-left, right):
        yield "The sign is wrong: it is minus what is right."
        return
    if factor := list(by_a_factor(expected, actual)):
        yield from factor
        return
    offset = (right - left).median()
    if left.numel() > 1 and _equal(left + offset, right):
        yield f"Every number is off by the same {offset.item():.4g}."
        return
    for axis in range(left.dim()):
        # Where the right one sums to 1 but for rows of zeros, it is along this axis that the softmax should go.
        if _sums_to(right, axis, {1}) and bool((left >= 0).all()) and not _sums_to(left, axis, {0, 1}):
            yield f"It sums to 1 along axis {axis}, the right one does not: the softmax goes along another axis."
            return
    yield from _shifted(expected, actual)
    positive = bool((left > 0).all())
    if positive and _equal(left.log(), right):
        yield "It is the logarithm of what is right."
    elif bool((right > 0).all()) and _equal(right.log(), left):
        yield "It is e to the power of what is right: a logarithm is missing."
    elif _equal(left.square(), right):
        yield "It is the square of what is right."
    elif bool((left >= 0).all()) and _equal(left.sqrt(), right):
        yield "It is the square root of what is right."


def _sums_to(x: Tensor, axis: int, sums: set[int]) -> bool:
    """Whether x is nowhere negative and all its sums along an axis, longer than 1, are among these."""
    found = x.sum(axis)
    near = torch.stack([(found - one).abs() < 1e-4 for one in sums]).any(0)
    return x.size(axis) > 1 and bool((x >= 0).all()) and bool(near.all())


def by_a_factor(expected: Tensor, actual: Tensor) -> Iterator[str]:
    """A sentence, where every number is the same multiple of what is right."""
    if expected.shape != actual.shape or torch.bool in (expected.dtype, actual.dtype):
        return
    left, right = expected.double(), actual.double()
    nonzero = left.abs() > 1e-6
    if nonzero.sum() > 1 and not right[~nonzero].abs().gt(1e-6).any():
        factor = (right[nonzero] / left[nonzero]).median()
        if not right.any():
            yield "Everything is 0."
        elif factor.isfinite() and _equal(left * factor, right):
            yield f"Every number is {factor.item():.4g} times what is right{_which(factor.item(), expected)}."


def _shifted(expected: Tensor, actual: Tensor) -> Iterator[str]:
    for axis in range(expected.dim() - 1, -1, -1):
        size = expected.size(axis)
        if size < 3:
            continue
        behind, ahead = (0, 1), (1, 0)
        for (right, found), to in ((behind, "one place earlier"), (ahead, "one place later")):
            moved = expected.narrow(axis, right, size - 1), actual.narrow(axis, found, size - 1)
            if _equal(*moved) and expected.unique().numel() > 1:
                yield f"It is shifted along axis {axis}: what stands at i should stand {to}."
                return


def _which(factor: float, expected: Tensor) -> str:
    """Where a factor may come from."""
    for axis, size in enumerate(expected.shape):
        for value, name in (
            (size, f"{size}"),
            (size**0.5, f"√{size}"),
            (1 / size, f"1/{size}"),
            (size**-0.5, f"1/√{size}"),
        ):
            if size > 1 and abs(factor - value) < 1e-4 * value:
                return f" ({name}; axis {axis} is {size} long)"
    return ""


def _equal(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
