"""What is allowed, said once: settings of every kind, attention masks."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from minitransformer.errors import UserError


@dataclass(frozen=True)
class Rule:
    """What one setting may be. Made by `integer`, `real`, `boolean` and `pair`, checked by `check_settings`."""

    says: str
    """As the message says it: "a whole number of at least 1"."""
    least: float = -math.inf
    most: float = math.inf
    is_whole: bool = False
    is_flag: bool = False
    open_at: tuple[float, ...] = ()
    """Ends of the interval that do not belong to it."""
    optional: bool = False
    """Whether None is allowed as well."""
    size: int = 0
    """How many numbers there are, for a pair; 0 for a single value."""

    def allows(self, value: object) -> bool:
        """Whether a value keeps to the rule."""
        if value is None:
            return self.optional
        if self.is_flag:
            return isinstance(value, bool)
        if self.size:
            fits = isinstance(value, list | tuple) and len(value) == self.size
            return fits and all(self._allows_one(one) for one in value)  # type: ignore[attr-defined]
        return self._allows_one(value)

    def _allows_one(self, value: object) -> bool:
        if isinstance(value, bool | str | bytes | complex):
            return False
        try:
            x = operator.index(value) if self.is_whole else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, RuntimeError):
            return False
        return self.least <= x <= self.most and x not in self.open_at  # nan compares with nothing


def integer(least: int = 0, most: int | None = None, optional: bool = False) -> Rule:
    """A whole number from `least` on."""
    says = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(
        f"a whole number {says}" + " or None" * optional,
        least,
        math.inf if most is None else most,
        is_whole=True,
        optional=optional,
    )


def real(
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> Rule:
    """A finite number, between ends that belong to it (least, most) or do not (above, below)."""
    ends = [
        f"{word} {end:g}"
        for word, end in (("of at least", least), ("above", above), ("at most", most), ("below", below))
        if end is not None
    ]
    low = next((x for x in (least, above) if x is not None), -math.inf)
    high = next((x for x in (most, below) if x is not None), math.inf)
    return Rule(
        " ".join(["a finite number", " and ".join(ends)]).strip() + " or None" * optional,
        low,
        high,
        open_at=tuple(x for x in (above, below, math.inf, -math.inf) if x is not None),
        optional=optional,
    )


def boolean() -> Rule:
    """True or False."""
    return Rule("True or False", is_flag=True)


def pair(rule: Rule) -> Rule:
    """Two numbers that each keep to the rule."""
    return Rule(f"two numbers, each {rule.says}", rule.least, rule.most, rule.is_whole, open_at=rule.open_at, size=2)


PROBABILITY = real(least=0, below=1)  # of dropping something: with 1 nothing would be left
SIZES = {  # of every model
    **dict.fromkeys(("vocab_size", "n_positions", "n_layer", "n_head", "d_model", "d_ff"), integer(1)),
    "dropout": PROBABILITY,
    "init_std": real(least=0),
}


def check_settings(settings: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    """Refuse the first setting (name → value) that its rule does not allow; those without a rule pass."""
    for name, rule in rules.items():
        if name in settings and not rule.allows(settings[name]):
            raise UserError(f"{name} = {settings[name]!r}: it has to be {rule.says}.")


def as_mask(mask: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """An attention mask as booleans: True (or 1) at real tokens, False (or 0) at padding.

    Refuses other values, such as -inf or -1e9 (those are masks that are added to the scores), and another shape.
    """
    if not isinstance(mask, Tensor):
        raise UserError(f"attention_mask is a tensor of booleans, True at real tokens; not a {type(mask).__name__}.")
    if shape is not None and mask.shape != shape:
        raise UserError(
            f"attention_mask has the shape {tuple(mask.shape)}; it has to mark every token, {tuple(shape)}."
        )
    if mask.dtype == torch.bool:
        return mask
    if mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(
            "attention_mask has to be True (or 1) at real tokens and False (or 0) at padding; this one is "
            f"{mask.dtype} and has other values. A mask that is added to the scores (0 and -inf) becomes one with "
            "mask == 0."
        )
    return mask.bool()
