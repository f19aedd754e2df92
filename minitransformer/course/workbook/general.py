"""What every exercise is asked beside its own cases, wherever the package's own code answers it.

    signature   are the parameters those of the stub?
    doubles     does it compute in double precision where its input is in double precision?
    device      does what it makes lie where its input lies? PyTorch's device "meta" asks that on every machine.
    again       does a second call with the same input give the same?

Doubles and device are cases like those of an author, made from the first case that is a call and that the package
answers. An exercise to which a question does not apply names it in `unasked`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from minitransformer.course.workbook.compare import Difference, Outcome, difference_of, tensors
from minitransformer.course.workbook.exercise import Call, Case, Exercise, bare
from minitransformer.course.workbook.observe import observe, quiet
from minitransformer.course.workbook.source import resolve
from minitransformer.course.workbook.state import restored

QUESTIONS = ("signature", "doubles", "device", "again")
ASKED = set(QUESTIONS)
"""Those that are asked in this process. For the device, PyTorch loads more of itself, which takes two seconds."""
TRIED = 3
"""Of so many cases the first that the package answers is taken."""


# ---------------------------------------------------------------- cases made from an author's


def every_case(exercise: Exercise) -> list[Case]:
    """An exercise's cases, and after them those that every exercise has."""
    if exercise.general is None or exercise.general[0] != exercise.cases:
        exercise.general = list(exercise.cases), general_cases(exercise)
    return [*exercise.cases, *exercise.general[1]]


def case_of(exercise: Exercise, number: int) -> Case:
    """The case of this number, from 0; those that every exercise has are made only if it is one of them."""
    return exercise.cases[number] if number < len(exercise.cases) else every_case(exercise)[number]


def general_cases(exercise: Exercise) -> list[Case]:
    """An exercise's first case in double precision, and on another device, where the package answers that."""
    found = []
    for name, made in (("doubles", _in_doubles), ("device", _on_meta)):
        calls = [case for case in exercise.cases if not case.is_scene][:TRIED] if _is_asked(exercise, name) else []
        found += list(islice((one for case in calls if (one := _answered(exercise, made(exercise, case), name))), 1))
    return found


def _is_asked(exercise: Exercise, name: str) -> bool:
    return name in ASKED and name not in exercise.unasked


def _answered(exercise: Exercise, case: Case, name: str) -> Case | None:
    """Such a case, if the package's code gives in it what the question is about, with its oracle, if that does, too."""
    if not _answers(exercise, case, name, None):
        return None
    is_oracles = case.oracle is not None and _answers(exercise, case, name, case.oracle)
    return case if is_oracles else replace(case, oracle=None)


def _answers(exercise: Exercise, case: Case, name: str, oracle: Callable[..., Any] | None) -> bool:
    with quiet():
        outcome = observe(exercise, case, None, oracle)
    given = [tensor for _, tensor in tensors(outcome.value, "output")]
    if outcome.error is not None or outcome.excused or not given:
        return False
    if name == "device":
        return all(tensor.is_meta for tensor in given)
    floating = [tensor.dtype for tensor in given if tensor.is_floating_point()]
    return bool(floating) and set(floating) == {torch.float64}


def _in_doubles(_exercise: Exercise, case: Case) -> Case:
    def doubled(value: Any) -> Any:
        return value.double() if isinstance(value, nn.Module) or value.is_floating_point() else value

    return _changed(case, doubled, "in double precision (float64)")


def _on_meta(exercise: Exercise, case: Case) -> Case:
    def moved(value: Any) -> Any:
        return value.to("meta")

    changed = _changed(case, moved, 'on another device ("meta", which has shapes and no numbers)')
    if "device" in exercise.parameters:
        changed = replace(changed, make=_with_device(changed.make, exercise.parameters.index("device")))
    return replace(changed, within=OneDevice, excuses=lambda error: not is_of_devices(error))


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU refuses, and "meta" does not: a call with tensors of two devices.

    A single number may come from the processor, and so may an index; copies are there to cross over.
    """

    MAY_CROSS = ("aten.index", "aten._index", "aten._to_copy", "aten.copy", "aten.to.")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a call of PyTorch's, or refuse it."""
        given = [tensor for _, tensor in tensors([*args, *(kwargs or {}).values()], "")]
        devices = {tensor.device.type for tensor in given if tensor.dim()}
        if len(devices) > 1 and not str(func).startswith(self.MAY_CROSS):
            raise RuntimeError(f"Expected all tensors to be on the same device, found two devices: {sorted(devices)}")
        return func(*args, **(kwargs or {}))


def _with_device(given: Callable[[], Any], place: int) -> Callable[[], Any]:
    """Arguments of which the one called device, at this place, is "meta"."""

    @functools.wraps(given)
    def make() -> Any:
        made = given()
        args, kwargs = (made.args, made.kwargs) if isinstance(made, Call) else (made, {})
        args = args if type(args) is tuple else (args,)
        if place < len(args):
            return Call((*args[:place], torch.device("meta"), *args[place + 1 :]), kwargs)
        return Call(args, {**kwargs, "device": torch.device("meta")})

    return make


def is_of_devices(error: BaseException) -> bool:
    """Whether an exception says that tensors lie on two devices. That "meta" has no numbers is no such exception."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    return "same device" in text or "two devices" in text


def _changed(case: Case, change: Callable[[Any], Any], how: str) -> Case:
    """A case whose tensors and modules are changed, wherever they stand in its arguments."""

    def through(value: Any) -> Any:
        if isinstance(value, nn.Module):  # a copy, for several cases may share it
            return changed.setdefault(id(value), change(copy.deepcopy(value)))
        if isinstance(value, Tensor):
            return change(value)
        if isinstance(value, Call):
            return Call(tuple(map(through, value.args)), {name: through(one) for name, one in value.kwargs.items()})
        if isinstance(value, dict):
            return {key: through(one) for key, one in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(through, value))
        if isinstance(value, list | tuple):
            return type(value)(map(through, value))
        if is_dataclass(value) and not isinstance(value, type):
            parts = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
            new = {name: through(part) for name, part in parts.items()}
            return replace(value, **new) if any(new[name] is not parts[name] for name in parts) else value
        return value

    changed: dict[int, nn.Module] = {}

    @functools.wraps(case.make)
    def make() -> Any:
        changed.clear()
        return through(case.make())

    return replace(case, make=make, label=f"{case.label}, {how}", gradients=False)


# ---------------------------------------------------------------- the signature


def signature_complaint(exercise: Exercise, candidate: Any) -> str:
    """What to say of parameters that are not the stub's; nothing where whoever calls the package's code can call this.

    More parameters with defaults are fine, and so is the name of self.
    """
    reference = resolve(exercise.target, exercise.who)[0]
    if not _is_asked(exercise, "signature"):
        return ""
    if not inspect.isclass(reference):
        return _complaint(exercise.name, bare(reference), bare(candidate), exercise.cut.method is not None)
    found = ""
    for name, member in vars(reference).items():
        own = vars(candidate).get(name)
        if inspect.isfunction(member) and inspect.isfunction(own) and (name == "__init__" or name[0] != "_"):
            found = found or _complaint(f"{exercise.name}.{name}", member, own, True)
    return found


def _complaint(name: str, reference: Any, candidate: Any, is_method: bool) -> str:
    try:
        wanted, own = (list(inspect.signature(one).parameters.values()) for one in (reference, candidate))
    except (TypeError, ValueError):
        return ""
    if is_method:
        wanted, own = wanted[1:], own[1:]
    wrong = "; ".join(_differences(wanted, own))
    if not wrong:
        return ""
    before = "self, " * is_method
    lists = [f"{name}({before}{', '.join(_plain(one) for one in some)})".replace(", )", ")") for some in (own, wanted)]
    return (
        f"Yours is {lists[0]}, the exercise is {lists[1]}: {wrong}. The package and the lessons call it by these "
        "names: keep its parameters as the stub has them."
    )


def _differences(wanted: list[inspect.Parameter], own: list[inspect.Parameter]) -> Iterator[str]:
    Kind = inspect.Parameter  # noqa: N806
    named = {one.name: one for one in own}
    kinds = {one.kind for one in own}
    takes_any_place, takes_any_name = Kind.VAR_POSITIONAL in kinds, Kind.VAR_KEYWORD in kinds
    places = [one.name for one in own if one.kind in (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)]
    for number, one in enumerate(wanted):
        if one.kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD):
            if one.kind not in kinds:
                yield f"it takes {_plain(one)}"
            continue
        mine = named.get(one.name)
        if mine is None:
            if not (takes_any_name and (takes_any_place or one.kind == Kind.KEYWORD_ONLY)):
                there = places[number] if number < len(places) else None
                instead = there if there and there not in {other.name for other in wanted} else None
                yield f"{one.name} is called {instead} in yours" if instead else f"{one.name} is missing"
        elif one.kind == Kind.POSITIONAL_OR_KEYWORD and mine.kind != Kind.POSITIONAL_OR_KEYWORD:
            yield f"{one.name} has to be given by its place or its name, as you like"
        elif one.kind == Kind.POSITIONAL_OR_KEYWORD and places.index(one.name) != number:
            yield f"{one.name} stands in another place"
        elif one.default is not Kind.empty and mine.default is Kind.empty:
            yield f"{one.name} has a default value"
    known = {one.name for one in wanted}
    for one in own:
        is_many = one.kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)
        if one.name not in known and not is_many and one.default is Kind.empty and len(places) > len(wanted):
            yield f"{one.name} is one too many"


def _plain(parameter: inspect.Parameter) -> str:
    """A parameter without its annotation."""
    return str(parameter.replace(annotation=inspect.Parameter.empty))


# ---------------------------------------------------------------- again


def asked_again(exercise: Exercise, candidate: Any, expected: Outcome) -> Difference | None:
    """What is wrong when the first case is run once more, after all cases were right; None where nothing is."""
    case = exercise.cases[0]
    if not _is_asked(exercise, "again"):
        return None
    with quiet(), restored():
        return difference_of(expected, observe(exercise, case, candidate), case.tolerance)


KEPT = (
    "Something is kept from one call to the next: a default value that is a list or a dictionary, a name outside of "
    "the function, an attribute of the function or of its class."
)
