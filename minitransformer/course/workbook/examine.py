"""Try somebody's code on the cases of an exercise, from the smallest up, and find the first difference.

What is compared: the value, its shape, dtype and type; whether inputs were changed; whether the output shares memory
with an input where it should not; gradients where a case asks for them; a refusal where the package refuses.
"""

from __future__ import annotations

import inspect
import math
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.course.workbook.cut import resolve
from minitransformer.course.workbook.exercise import Call, Case, Exercise, Mistake, bare
from minitransformer.course.workbook.switch import switched
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


@dataclass
class Verdict:
    """What an examination found."""

    exercise: Exercise
    candidate: Any
    difference: Difference | None = None
    case: int = 0
    """The number of the first case that failed."""
    expected: Outcome | None = None
    actual: list[Outcome] = field(default_factory=list)
    """What came of every case that was run."""

    @property
    def passed(self) -> bool:
        """Whether every case came out right."""
        return self.difference is None


class Examination:
    """An exercise with the outcomes that its cases should have, and those that its mistakes have.

    Args:
        exercise: to be examined.
    """

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self._expected: dict[int, Outcome] = {}
        self._mistaken: dict[tuple[int, int], Outcome] = {}

    def expected(self, number: int) -> Outcome:
        """What case `number` gives on the package's code, or by its oracle."""
        if number not in self._expected:
            case = self.exercise.cases[number]
            with quiet():
                outcome = observe(self.exercise, case, None)
            refused = isinstance(outcome.error, UserError)
            if case.oracle is not None and not refused:
                with quiet():
                    by_oracle = observe(self.exercise, case, None, case.oracle)
                outcome = Outcome(
                    by_oracle.value, by_oracle.error, outcome.changed, outcome.shared, by_oracle.gradients
                )
            if outcome.error is not None and not refused:
                raise UserError(
                    f"{self.exercise.who}: the case {case.label!r} fails on the package's own code, or its oracle: "
                    f"{type(outcome.error).__name__}: {outcome.error}"
                ) from outcome.error
            self._expected[number] = outcome
        return self._expected[number]

    def mistaken(self, mistake: Mistake, number: int) -> Outcome:
        """What case `number` gives with a mistake."""
        key = self.exercise.mistakes.index(mistake), number
        if key not in self._mistaken:
            with quiet():
                self._mistaken[key] = observe(self.exercise, self.exercise.cases[number], mistake.code)
        return self._mistaken[key]

    def examine(self, candidate: Any, begins: Callable[[int], None] = lambda number: None) -> Verdict:
        """Run the cases in order, up to the first that fails.

        Args:
            candidate: a function; for a class or a method, the class or what stands in it.
            begins: called with the number of each case before the candidate runs on it.
        """
        verdict = Verdict(self.exercise, candidate)
        for number, case in enumerate(self.exercise.cases):
            expected = self.expected(number)
            begins(number)
            actual = observe(self.exercise, case, candidate)
            verdict.actual.append(actual)
            difference = difference_of(expected, actual, case.tolerance)
            if difference is not None:
                verdict.difference, verdict.case, verdict.expected = difference, number, expected
                break
        return verdict

    def go_on(self, verdict: Verdict) -> None:
        """Run the cases that a failed examination left out, to tell its possible mistakes apart."""
        for case in self.exercise.cases[len(verdict.actual) :]:
            with quiet():  # what is printed belongs to the case that is shown
                verdict.actual.append(observe(self.exercise, case, verdict.candidate))


# ---------------------------------------------------------------- running one case


def seeded(accelerators: bool = False) -> None:
    """Set every random generator to its beginning.

    Args:
        accelerators: also those of GPUs. No case uses them, and `torch.manual_seed`, which asks every kind of
            accelerator, takes a hundred times as long as the processor's own generator does.
    """
    if accelerators:
        torch.manual_seed(0)
    torch.default_generator.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def observe(exercise: Exercise, case: Case, candidate: Any, instead: Any = None) -> Outcome:
    """Run one case on a candidate, on the package's own code (None), or on something else that is called alike."""
    original, owner = resolve(exercise.target, exercise.who)
    exercise.parameters  # noqa: B018  read before the switch is on
    switch = nullcontext() if candidate is None else switched({exercise.target: candidate})
    with switch:
        if case.is_scene:
            if owner is not None:
                subject = owner
            else:
                subject = original if candidate is None or inspect.isclass(original) else candidate
            return _play(case, subject)
        if instead is not None:
            function = instead
        elif owner is None:
            # What a class makes is compared by its type as well, so the class itself is called, with its new members.
            function = original if candidate is None or inspect.isclass(original) else candidate
        else:
            function = bare(vars(owner)[exercise.cut.method])
        return _call(exercise, case, function)


@contextmanager
def quiet() -> Iterator[None]:
    """Neither print nor warn: for code that is not the learner's, or that is run once more."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


@contextmanager
def as_it_was() -> Iterator[None]:
    """Undo what code may have set in PyTorch for all that comes after it."""
    dtype = torch.get_default_dtype()
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        torch.set_default_dtype(dtype)


def _memory(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; 0 where that cannot be said."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _play(case: Case, subject: Any) -> Outcome:
    seeded()
    try:
        with as_it_was():
            return Outcome(case.make(subject))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit, which must not end a check
        return Outcome(error=error)


def arguments(exercise: Exercise, case: Case) -> dict[str, Any]:
    """The arguments of a call, made anew, by name; those that are given by keyword come last."""
    return _made(exercise, case)[0]


def _made(exercise: Exercise, case: Case) -> tuple[dict[str, Any], int]:
    """The arguments by name, and how many of them are given by their places."""
    seeded()
    made = case.make()
    if not isinstance(made, Call):
        made = Call(made if type(made) is tuple else (made,), {})
    names = exercise.parameters
    by_place = dict(zip(names, made.args, strict=False))
    if len(made.args) > len(names) or set(made.kwargs) - set(names) or set(made.kwargs) & set(by_place):
        given = f"{len(made.args)} arguments" + "".join(f", {name}=" for name in made.kwargs)
        raise UserError(f"{exercise.who}: the case {case.label!r} gives {given}; {exercise.name} takes {names}.")
    return by_place | made.kwargs, len(by_place)


def _call(exercise: Exercise, case: Case, function: Any) -> Outcome:
    before, (given, by_place) = arguments(exercise, case), _made(exercise, case)
    values = list(given.values())
    inputs = dict(tensors(list(given.values()), list(given)))
    if case.gradients:
        for tensor in inputs.values():
            if tensor.is_floating_point() and not isinstance(tensor, nn.Parameter):
                tensor.requires_grad_()
    seeded()
    try:
        with as_it_was():
            value = function(*values[:by_place], **dict(list(given.items())[by_place:]))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(error=error)
    outcome = Outcome(value)
    for name in given:
        changed = compare(before[name], given[name], name, 0.0)
        if changed is not None and changed.kind in ("shape", "dtype", "value", "length", "keys"):
            outcome.changed[name] = changed
    for part, tensor in tensors(value, "output"):
        for name, source in inputs.items():
            if tensor.numel() and _memory(tensor) == _memory(source) != 0:
                outcome.shared.add((part, name))
    if case.gradients:
        outcome.gradients = _gradients(value, {name: t for name, t in inputs.items() if t.requires_grad})
    return outcome


def _gradients(value: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradients of a sum of all outputs, each number with a weight of its own."""
    total = None
    for _, tensor in tensors(value, "output"):
        if tensor.requires_grad and tensor.layout == torch.strided and tensor.device.type == "cpu":
            weights = torch.linspace(-1, 1.5, tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
            part = (tensor * weights).sum()
            total = part if total is None else total + part
    if total is None:
        return dict.fromkeys(inputs)
    return dict(zip(inputs, torch.autograd.grad(total, list(inputs.values()), allow_unused=True), strict=True))


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


# ---------------------------------------------------------------- comparing


def difference_of(expected: Outcome, actual: Outcome, tolerance: float) -> Difference | None:
    """The first way in which an outcome is not the expected one; None where it is."""
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
    left, right = expected.detach(), actual.detach()
    if left.is_floating_point():
        wrong = ~torch.isclose(right, left, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        wrong = left != right
    if not bool(wrong.any()):
        return None
    return Difference("value", where, left, right, wrong, tuple(wrong.nonzero()[0].tolist()))
