"""A method's settings: what each one may be. A value that means nothing is refused when the method is made.

    class LoRA(Mergeable):
        rank = Setting(whole_number("a change of rank 0 is none"), "r.")

The values stand in `Method.settings`, from where they go into the method's file; `method.rank` reads them.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from minitransformer.errors import UserError

Check: TypeAlias = Callable[[str, Any], Any]
"""(the setting's name, its value) → the value as JSON can say it; raises UserError where it means nothing."""


class Setting:
    """A setting of a method, as an attribute of the method's class: what `check` allows, and `says` what it is.

    Where it `may_change`, it can be set on a method that is made already, such as a scale that is read at every call.
    """

    def __init__(self, check: Check, says: str = "", may_change: bool = False) -> None:
        self.check, self.__doc__, self.may_change, self.name = check, says, may_change, ""

    def __set_name__(self, owner: type, name: str) -> None:
        """Know its own name."""
        self.name = name

    def __get__(self, method: Any, owner: type | None = None) -> Any:
        """The value that a method has; of the class, the setting itself."""
        return self if method is None else method.settings[self.name]

    def __set__(self, method: Any, value: object) -> None:
        """Change the value, where it can still be changed."""
        if not self.may_change:
            raise UserError(
                f"{self.name} of a {type(method).__name__} was settled when it was made: make another one with "
                f"{self.name} = {value!r}."
            )
        method.settings[self.name] = self.check(self.name, value)


def settings_of(kind: type) -> dict[str, Setting]:
    """Every setting of a method's class, by name, those that it inherits included."""
    found = {name: value for cls in reversed(kind.__mro__) for name, value in vars(cls).items()}
    return {name: value for name, value in found.items() if isinstance(value, Setting)}


def is_number(value: Any) -> bool:
    """Whether it is a real number, Python's or numpy's; True and False are none here."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole_number(why: str, least: int = 1) -> Check:
    """A whole number from `least` on; `why` says what is wrong with a smaller one."""

    def check(name: str, value: Any) -> int:
        try:
            n = operator.index(value)
        except TypeError:
            n = None
        if n is None or isinstance(value, bool):
            raise UserError(f"{name} = {value!r}: it has to be a whole number.")
        if n < least:
            raise UserError(f"{name} = {n}: {why}.")
        if n >= 2**31:
            raise UserError(f"{name} = {n}: no model is as large as that.")
        return n

    return check


def nonzero(why: str) -> Check:
    """A finite number other than 0; `why` says what it multiplies."""

    def check(name: str, value: Any) -> float:
        if not is_number(value) or not math.isfinite(value) or value == 0:
            raise UserError(f"{name} = {value!r}: {why}, so that it has to be a number other than 0.")
        return value if isinstance(value, int) else float(value)

    return check


def fraction(name: str, value: Any) -> float:
    """A fraction that is dropped: from 0 to below 1."""
    if not is_number(value) or not 0 <= value < 1:
        raise UserError(f"{name} = {value!r}: it is a fraction, a number from 0 to below 1.")
    return float(value)


def one_of(known: Sequence[str]) -> Check:
    """One of these words."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise UserError(f"{name} = {value!r}: it has to be one of {', '.join(known)}.")
        return value

    return check


def yes_or_no(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{name} = {value!r}: it has to be True or False.")
    return value


def list_of_names(example: str) -> Check:
    """A list of names, with at least one in it."""

    def check(name: str, value: Any) -> list[str]:
        try:
            found = [] if isinstance(value, str | bytes) else list(value)
        except TypeError:  # no list, nor anything like it
            found = []
        if not all(isinstance(one, str) and one for one in found) or not found:
            raise UserError(f"{name} = {value!r}: give a list of names, such as {example}.")
        return found

    return check


def optional(check: Check) -> Check:
    """None, or what `check` allows."""
    return lambda name, value: None if value is None else check(name, value)


def anything(name: str, value: Any) -> Any:
    """Whatever JSON can say."""
    return value


def words_to_start_from(name: str, value: Any) -> Any:
    """ "random", "vocabulary", or the token ids of words."""
    complaint = f'{name} = {value!r}: it has to be "random", "vocabulary", or the token ids of words'
    if isinstance(value, str | bytes):
        if value not in ("random", "vocabulary"):
            raise UserError(f"{complaint}.")
        return value
    try:
        ids = [operator.index(i) for i in value]
    except TypeError:  # no list, or something else than whole numbers in it
        raise UserError(f"{complaint}, which are whole numbers.") from None
    if not ids or min(ids) < 0 or any(isinstance(i, bool) for i in value):
        raise UserError(f"{complaint}, which are whole numbers from 0 on.")
    return ids


def checked(kind: type, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that a method is made with, each as its class allows it, in the order of the call."""
    known = settings_of(kind)
    if undeclared := [name for name in settings if name not in known]:
        raise TypeError(f"{kind.__name__} declares no Setting for {', '.join(undeclared)}.")
    return {name: known[name].check(name, value) for name, value in settings.items()}
