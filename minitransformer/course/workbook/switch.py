"""The one switch between the package's code and a learner's.

A function can be known under many names: other modules import it, default arguments, partials and tables of methods
hold it. Searching for all of them would miss one some day. So nothing is searched: the function *object* stays where it
is and is given other code, a class keeps its identity and is given other members. Whoever holds it runs the
learner's code, and when the switch comes off, the old code is back, for everyone, at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from types import CellType, FunctionType
from typing import Any

from minitransformer.course.workbook.source import resolve
from minitransformer.errors import UserError

KEPT = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__slots__",
    "__abstractmethods__",
    "_abc_impl",
}


@contextmanager
def switched(replacements: Mapping[str, Any], called: Callable[[str], None] | None = None) -> Iterator[None]:
    """Put other code in the place of these targets while the block runs.

    Args:
        replacements: target ("minitransformer.models.attention:attend_by_formula") → a function, a class, or a method
            as it stands in a class.
        called: told the target whenever its replacement is called.

    Raises:
        UserError: a target that is neither a function, a method nor a class.
    """
    with ExitStack() as stack:
        for target, replacement in replacements.items():
            original, owner = resolve(target)
            note = None if called is None else partial(called, target)
            if owner is not None:
                stack.enter_context(_member(owner, target.rpartition(".")[2], replacement, note))
            elif inspect.isclass(original):
                stack.enter_context(_members(original, replacement, note))
            else:
                stack.enter_context(_redirected(original, replacement, target, note))
        yield


Note = Callable[[], None] | None


def _noted(member: Any, note: Note) -> Any:
    """A function, or what stands for one in a class, that says so when it is called."""
    if note is None:
        return member
    if isinstance(member, property):
        return property(_noted(member.fget, note), member.fset, member.fdel, member.__doc__)
    if isinstance(member, staticmethod | classmethod):
        return type(member)(_noted(member.__func__, note))
    if not isinstance(member, FunctionType):
        return member

    @functools.wraps(member)
    def noting(*args: Any, **kwargs: Any) -> Any:
        note()
        return member(*args, **kwargs)

    return noting


def _instead(*args: Any, instead_of_this: Any = None, **kwargs: Any) -> Any:
    return instead_of_this(*args, **kwargs)


def _instead_of_generator(*args: Any, instead_of_this: Any = None, **kwargs: Any) -> Any:
    return (yield from instead_of_this(*args, **kwargs))


TRAMPOLINES = (_instead.__code__, _instead_of_generator.__code__)
"""What a function runs while another stands in its place."""


@contextmanager
def _redirected(original: Any, replacement: Any, target: str, note: Note) -> Iterator[None]:
    """Let a function object run another function. Its decorators, if any, stay the package's."""
    function = inspect.unwrap(original)
    if function is not original:
        replacement = inspect.unwrap(replacement)
    if not isinstance(function, FunctionType) or function.__closure__:
        raise UserError(f"{target} cannot be switched: it is no plain function, method or class.")
    before = function.__code__, function.__defaults__, function.__kwdefaults__
    # Python lets a generator have the code of a generator only.
    function.__code__, function.__defaults__ = TRAMPOLINES[inspect.isgeneratorfunction(function)], None
    function.__kwdefaults__ = {"instead_of_this": _noted(replacement, note)}
    function.__wrapped__ = replacement  # so that inspect shows the signature and the source of what runs
    _forget(original)
    try:
        yield
    finally:
        function.__code__, function.__defaults__, function.__kwdefaults__ = before
        del function.__wrapped__
        _forget(original)


def _forget(function: Any) -> None:
    """Empty the memory of a function under lru_cache."""
    if hasattr(function, "cache_clear"):
        function.cache_clear()


@contextmanager
def _member(owner: type, name: str, replacement: Any, note: Note) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, _noted(rehomed(replacement, owner), note))
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _members(original: type, replacement: type, note: Note) -> Iterator[None]:
    """Give a class the members of another; what the other lacks is gone, unless it inherits from the first."""
    before = {name: member for name, member in vars(original).items() if name not in KEPT}
    own = {name: member for name, member in vars(replacement).items() if name not in KEPT}
    after = {name: _noted(rehomed(member, original), note) for name, member in own.items()}
    gone = [] if issubclass(replacement, original) else [n for n in before if n not in after and not _is_dunder(n)]
    for name in gone:
        delattr(original, name)
    for name, member in after.items():
        setattr(original, name, member)
    try:
        yield
    finally:
        for name in after:
            if name not in before:
                delattr(original, name)
        for name, member in before.items():
            setattr(original, name, member)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def rehomed(member: Any, owner: type) -> Any:
    """A method as if it had been written in `owner`: there `super()` means what stands above the owner."""
    if isinstance(member, staticmethod | classmethod):
        return type(member)(rehomed(member.__func__, owner))
    if isinstance(member, property):
        parts = (part and rehomed(part, owner) for part in (member.fget, member.fset, member.fdel))
        return property(*parts, member.__doc__)
    if not isinstance(member, FunctionType) or "__class__" not in member.__code__.co_freevars:
        return member
    cells = tuple(
        CellType(owner) if name == "__class__" else cell
        for name, cell in zip(member.__code__.co_freevars, member.__closure__, strict=True)
    )
    moved = FunctionType(member.__code__, member.__globals__, member.__name__, member.__defaults__, cells)
    moved.__kwdefaults__, moved.__dict__ = member.__kwdefaults__, dict(member.__dict__)
    return moved
