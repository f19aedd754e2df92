"""How sure a mean over seeds is: Student's t-interval (t 分布置信区间)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from minitransformer.errors import UserError


class Interval(NamedTuple):
    """A mean, and how far the interval reaches to either side of it."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """Its lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Its upper end."""
        return self.mean + self.half


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The interval in which the mean of many more such values lies: mean ± t · s / √n.

    Where the values are normally distributed about that mean, it is so in `confidence` of all cases. s is the standard
    deviation with n − 1, and t the quantile of Student's distribution, which for n = 5 is 2.78, not the 1.96 of a known
    deviation.

    Raises:
        UserError: fewer than two values (one says nothing about how they vary), or a confidence outside 0 … 1.
    """
    n = len(values)
    if n < 2:
        raise UserError(f"An interval needs two values or more to see how they vary; there is {n or 'none'}.")
    return Interval(
        statistics.fmean(values), t_quantile(confidence, n - 1) * statistics.stdev(values) / math.sqrt(n), n
    )


def t_quantile(confidence: float, freedom: int) -> float:
    """The t that |T| stays below with this probability, by halving.

    Args:
        confidence: between 0 and 1.
        freedom: degrees of freedom, at least 1.

    Raises:
        UserError: anything else.
    """
    if not 0 < confidence < 1 or freedom < 1:
        raise UserError(f"confidence = {confidence}, freedom = {freedom}: between 0 and 1, and 1 or more.")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def t_probability(t: float, freedom: int) -> float:
    """P(|T| < t) for whole degrees of freedom ν: a finite sum (Abramowitz & Stegun, 26.7.3 and 26.7.4).

    With θ = arctan(t/√ν) it is sin θ (1 + 1/2 cos² θ + (1·3)/(2·4) cos⁴ θ + …) for an even ν, and
    2/π (θ + sin θ (cos θ + 2/3 cos³ θ + (2·4)/(3·5) cos⁵ θ + …)) for an odd one, both up to cos^(ν−2) θ.
    """
    theta, odd = math.atan(t / math.sqrt(freedom)), freedom % 2
    cosine, term, total = math.cos(theta), 1.0, 0.0
    if odd:
        term *= cosine
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * cosine**2
    total *= math.sin(theta)
    return 2 / math.pi * (theta + total) if odd else total
