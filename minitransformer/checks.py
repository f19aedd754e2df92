"""What is allowed, said once: settings of every kind, attention masks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minitransformer.errors import UserError


@dataclass(frozen=True)
class Rule:
    """What one setting may be: `rule(name, value)` gives the value as JSON can say it, or refuses it."""

    says: str
    """As the message says it: "a whole number of at least 1"."""
    read: Callable[[Any], Any]
    """Gives the value. ValueError means that it is of the right kind and not allowed, other errors that it is not."""
    why: str = ""
    """What is wrong with a value of the right kind: "a change of rank 0 is none"."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value; where it is not allowed, a sentence that names the setting."""
        why = ""
        try:
            return self.read(value)
        except ValueError:
            why = f"{self.why}. It" if self.why else ""
        except (TypeError, OverflowError, RuntimeError, AttributeError):
            pass
        raise UserError(f"{name} = {value!r}: {why or 'it'} has to be {self.says}.")


def integer(least: int = 0, most: int | None = None, why: str = "") -> Rule:
    """A whole number from `least` on; `why` says what is wrong with a smaller one."""

    def read(value: Any) -> int:
        n = whole(value)
        if most is not None and n > most:
            raise OverflowError
        if n < least:
            raise ValueError
        return n

    return Rule(
        f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}", read, why
    )


def whole(value: Any) -> int:
    """A whole number as Python's own; a TypeError for anything else, True and False as well."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


TOKEN = Rule("a whole number, the id of a token", whole)


def real(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> Rule:
    """A finite number, between ends that belong to it (least, most) or do not (above, below)."""
    ends = (
        ("of at least", least, operator.ge),
        ("above", above, operator.gt),
        ("at most", most, operator.le),
        ("below", below, operator.lt),
    )
    says = " and ".join(f"{word} {end:g}" for word, end, _ in ends if end is not None)

    def read(value: Any) -> float:
        x = number(value)
        if not all(end is None or holds(x, end) for _, end, holds in ends):
            raise ValueError
        return x

    return Rule(f"a finite number {says}".strip(), read)


def number(value: Any) -> float:
    """A finite number as Python's own; a ValueError or TypeError for anything else."""
    if isinstance(value, bool | str | bytes | complex):
        raise TypeError
    if not math.isfinite(x := float(value)):
        raise ValueError
    return value if isinstance(value, int) else x


def nonzero(why: str) -> Rule:
    """A finite number other than 0; `why` says what it multiplies."""

    def read(value: Any) -> float:
        if (x := number(value)) == 0:
            raise ValueError
        return x

    return Rule("a finite number other than 0", read, why)


def boolean() -> Rule:
    """True or False."""
    return one_of((True, False), "True or False")


def one_of(known: Sequence[Any], says: str = "") -> Rule:
    """One of these words."""

    def read(value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in known):
            raise TypeError
        return value

    return Rule(says or f"one of {', '.join(known)}", read)


def names(example: str) -> Rule:
    """A list of names, with at least one in it."""

    def read(value: Any) -> list[str]:
        found = [] if isinstance(value, str | bytes) else list(value)
        if not found or not all(isinstance(one, str) and one for one in found):
            raise TypeError
        return found

    return Rule(f"a list of names, such as {example}", read)


def pair(rule: Rule) -> Rule:
    """Two numbers that each keep to the rule."""

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise TypeError
        return [rule.read(one) for one in value]

    return Rule(f"two numbers, each {rule.says}", read)


def optional(rule: Rule) -> Rule:
    """None, or what the rule allows."""
    return Rule(f"{rule.says} or None", lambda value: None if value is None else rule.read(value), rule.why)


PROBABILITY = real(least=0, below=1)  # of dropping something: with 1 nothing would be left
SIZES = {  # of every model
    **dict.fromkeys(("vocab_size", "n_positions", "n_layer", "n_head", "d_model", "d_ff"), integer(1)),
    "dropout": PROBABILITY,
    "init_std": real(least=0),
}


def check_kind(value: object, kind: Any, needs: str) -> None:
    """Refuse what is of another kind; `needs` is the beginning of a sentence, and says what belongs there."""
    if not isinstance(value, kind):
        raise UserError(f"{needs}; this is a {type(value).__name__}.")


def checked_config(config: Any, kind: type) -> Any:
    """The config of a model; refuses another model's, the class itself, and what is none."""
    if not isinstance(config, kind):
        raise UserError(f"A model is built from its own config, {kind.__name__}(…); this is {config!r:.60}.")
    return config


def check_settings(settings: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Refuse the first setting (name → value) that its rule does not allow; those without a rule pass."""
    for name, rule in rules.items():
        if name in settings:
            rule(name, settings[name])


def as_mask(mask: Tensor, *shapes: tuple[int, ...], name: str = "attention_mask", marks: str = "real tokens") -> Tensor:
    """An attention mask, or another mask of tokens, as booleans: True (or 1) at real tokens, False (or 0) elsewhere.

    Refuses other values, such as -inf or -1e9 (those are masks that are added to the scores), and, where `shapes` are
    given, another shape than these.
    """
    check_kind(mask, Tensor, f"{name} is a tensor of booleans, True at {marks}")
    if shapes and mask.shape not in shapes:
        now, right = tuple(mask.shape), tuple(shapes[0])
        raise UserError(f"{name} has the shape {now}; it has to mark every token so far, {right}, without a prefix.")
    if mask.dtype == torch.bool:
        return mask
    if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(
            f"{name} has to be True (or 1) at {marks} and False (or 0) elsewhere; this one is {mask.dtype} and has "
            "other values. A mask that is added to the scores (0 and -inf) becomes one with mask == 0."
        )
    return mask.bool()
