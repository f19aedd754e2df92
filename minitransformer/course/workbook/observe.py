"""Runs one case of an exercise on somebody's code, and notes what comes of it."""

from __future__ import annotations

import inspect
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.course.workbook.compare import Outcome, compare, tensors
from minitransformer.course.workbook.exercise import Call, Case, Exercise, bare
from minitransformer.course.workbook.source import resolve
from minitransformer.course.workbook.state import settings_kept
from minitransformer.course.workbook.switch import switched
from minitransformer.errors import UserError


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
    outcome = _observed(exercise, case, candidate, instead)
    if outcome.error is not None and case.excuses is not None and case.excuses(outcome.error):
        return Outcome(excused=True)
    return outcome


def _observed(exercise: Exercise, case: Case, candidate: Any, instead: Any) -> Outcome:
    original, owner = resolve(exercise.target, exercise.who)
    exercise.parameters  # noqa: B018  read before the switch is on
    with nullcontext() if candidate is None else switched({exercise.target: candidate}):
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


def _memory(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; 0 where that cannot be said."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _play(case: Case, subject: Any) -> Outcome:
    seeded()
    try:
        with settings_kept():
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
        with settings_kept(), nullcontext() if case.within is None else case.within():
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
        try:
            outcome.gradients = _gradients(value, {name: t for name, t in inputs.items() if t.requires_grad})
        except RuntimeError as error:  # what was needed for them was written over
            return Outcome(error=error)
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
