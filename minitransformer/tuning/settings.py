"""A method's settings: what each one may be. A value that means nothing is refused when the method is made.

    class LoRA(Mergeable):
        rank = Setting(size("a change of rank 0 is none"), "r.")

The values stand in `Method.settings`, from where they go into the method's file; `method.rank` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minitransformer.checks import Rule, integer
from minitransformer.errors import UserError


class Setting:
    """A setting of a method, as an attribute of the method's class: what it may be (`rule`), and what it is (`says`).

    Where it `may_change`, it can be set on a method that is made already, such as a scale that is read at every call.
    """

    def __init__(self, rule: Callable[[str, Any], Any], says: str = "", may_change: bool = False) -> None:
        self.rule, self.__doc__, self.may_change, self.name = rule, says, may_change, ""

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
        method.settings[self.name] = self.rule(self.name, value)


def size(why: str, least: int = 1) -> Rule:
    """A whole number that a model can have of something; `why` says what is wrong with a smaller one."""
    return Rule(f"a whole number of at least {least} (and below 2³¹)", integer(least, 2**31 - 1, why).read, why)


def settings_of(kind: type) -> dict[str, Setting]:
    """Every setting of a method's class, by name, those that it inherits included."""
    found = {name: value for cls in reversed(kind.__mro__) for name, value in vars(cls).items()}
    return {name: value for name, value in found.items() if isinstance(value, Setting)}


def checked(kind: type, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that a method is made with, each as its class allows it, in the order of the call."""
    known = settings_of(kind)
    if undeclared := [name for name in settings if name not in known]:  # a fault of the class, not of its user
        raise TypeError(f"{kind.__name__} declares no Setting for {', '.join(undeclared)}.")
    return {name: known[name].rule(name, value) for name, value in settings.items()}
