"""Chance that gives the same throws on every machine and every Python."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Random choices built on `random.Random(seed).random()` alone.

    Python promises that the sequence of `random()` never changes; it makes no such promise for `choice`,
    `shuffle` or `sample`. So these are spelled out here, each a plain function of the next number or numbers
    of that sequence.
    """

    def __init__(self, *seed: str | int) -> None:
        """Seed the dice with any words and numbers; the same ones give the same throws."""
        digest = hashlib.sha256("/".join(map(str, seed)).encode()).digest()
        self.random = random.Random(int.from_bytes(digest[:8], "big")).random

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.random() * len(items))]

    def weighted(self, weights: dict[T, float]) -> T:
        """One of the keys, each as likely as its weight says."""
        point = self.random() * sum(weights.values())
        for key, weight in weights.items():
            point -= weight
            if point < 0:
                return key
        return key  # rounding left a crumb: the last key

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """The items in a random order, as a new list (Fisher and Yates)."""
        shuffled = list(items)
        for i in range(len(shuffled) - 1, 0, -1):
            j = self.integer(0, i)
            shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
        return shuffled

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in a random order."""
        return self.shuffle(items)[:count]
