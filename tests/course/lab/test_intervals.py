"""Intervals over seeds: Student's t, against printed tables and numbers by hand."""

import pytest
import torch

from minitransformer.course.lab.intervals import t_interval, t_quantile
from minitransformer.course.lab.report import interval, shown
from minitransformer.errors import UserError


@pytest.mark.parametrize(
    "freedom, t", [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_students_t_is_that_of_the_printed_tables(freedom, t):
    assert t_quantile(0.95, freedom) == pytest.approx(t, abs=6e-4)


def test_more_quantiles_of_printed_tables():
    assert t_quantile(0.99, 4) == pytest.approx(4.604, abs=6e-4)
    assert t_quantile(0.90, 7) == pytest.approx(1.895, abs=6e-4)


def test_an_interval_by_hand():
    # mean 3, s² = (4 + 1 + 0 + 1 + 4) / 4 = 2.5; 2.776 · √(2.5 / 5) = 1.963
    value = t_interval([1, 2, 3, 4, 5])
    assert value.mean == 3 and value.n == 5
    assert value.half == pytest.approx(1.963, abs=1e-3)
    assert (value.low, value.high) == (3 - value.half, 3 + value.half)


def test_intervals_cover_as_often_as_they_say():
    draws = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    intervals = [t_interval(values) for values in draws]
    covered = sum(value.low < 0 < value.high for value in intervals) / len(intervals)
    assert abs(covered - 0.95) < 0.012, f"{covered:.1%} of the 95 % intervals cover the true mean"


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values):
    with pytest.raises(UserError, match="needs two values or more"):
        t_interval(values)


def test_meaningless_quantiles():
    for confidence, freedom in ((0, 3), (1, 3), (0.95, 0)):
        with pytest.raises(UserError, match="between 0 and 1, and 1 or more"):
            t_quantile(confidence, freedom)


def test_how_an_interval_is_shown():
    assert shown(t_interval([0.5, 0.5])) == "0.500 ± 0.000"
    assert shown(t_interval([0.5, 0.5]), 1, sign=True) == "+0.5 ± 0.0"
    assert shown(interval([0.25])) == "0.250", "of one seed nobody knows how far it reaches"
