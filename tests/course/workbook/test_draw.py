"""Expected and actual are drawn so that the difference is seen."""

import math
import re

import pytest
import torch

from minitransformer.course.workbook import draw
from tests.course.workbook.helpers import LOWER


def drawn(expected, actual, width=84):
    wrong = expected != actual
    return draw.side_by_side(expected, actual, wrong, tuple(wrong.nonzero()[0].tolist()), width)


def test_a_shifted_mask_is_seen():
    lines = drawn(LOWER, LOWER.tril(-1))
    assert lines[1:5] == [
        "■ □ □ □    □ □ □ □   ✗ · · ·",
        "■ ■ □ □    ■ □ □ □   · ✗ · ·",
        "■ ■ ■ □    ■ ■ □ □   · · ✗ ·",
        "■ ■ ■ ■    ■ ■ ■ □   · · · ✗",
    ]
    assert lines[0].split() == ["expected", "yours", "wrong"] and "True" in lines[5]


def test_numbers_are_aligned_and_small_differences_visible():
    lines = drawn(torch.tensor([[1.0, -2.5]]), torch.tensor([[1.0, -2.5001]]))
    left, right, marks = re.split(r" {3,}", lines[1].strip())
    assert left != right and "-2.5001" in right and marks == "· ✗"
    assert drawn(torch.tensor([1, 20]), torch.tensor([1, 3]))[1].split() == ["1", "20", "1", "3", "·", "✗"]


def test_the_slice_with_the_first_difference_is_drawn():
    expected = torch.arange(24.0).view(2, 3, 4)
    actual = expected.clone()
    actual[1, 2, 3] = 0
    assert drawn(expected, actual)[3].split()[:4] == ["20.0", "21.0", "22.0", "23.0"]


@pytest.mark.parametrize("width", [40, 84])
def test_large_tensors_are_shaded_within_the_width(width):
    expected = torch.linspace(0, 1, 10_000).view(100, 100)
    actual = expected.clone()
    actual[90, 70] = 5
    lines = drawn(expected, actual, width)
    assert max(map(len, lines[:-1])) <= width
    assert sum(line.count("✗") for line in lines) == 1, "the window has to show the place that differs"
    assert "rows" in lines[-1] and "of 100" in lines[-1]


def test_small_differences_of_many_numbers_are_numbers_and_ratios():
    """Shades of near numbers are the same, and would tell nothing."""
    torch.manual_seed(0)
    expected = torch.randn(16, 16) + 5
    lines = drawn(expected, expected * 1.02)
    assert not set("".join(lines)) & set(draw.SHADES[1:]) and max(map(len, lines)) <= 84
    assert lines[0] == "expected:" and lines[7] == "yours:" and lines[14] == "yours / expected:"
    assert set(" ".join(lines[15:21]).split()) == {"1.020"}
    assert re.fullmatch(r"\(rows 0 to 5 of 16, columns 0 to \d+ of 16\)", lines[-1])
    assert len({len(line) for start in (1, 8, 15) for line in lines[start : start + 6]}) == 1, "columns are aligned"


def test_ratios_only_where_they_say_something():
    expected = torch.arange(30.0).view(2, 15) / 7
    actual = expected.clone()
    actual[1, 14] *= 3
    lines = drawn(expected, actual)
    assert lines[6] == "yours / expected:" and lines[8].split()[-1] == "3.000" and set(lines[7].split()) == {"·"}
    assert drawn(expected, expected + 1)[6] == "wrong:", "0 is no multiple of anything"
    actual[1, 14] = math.nan
    assert drawn(expected, actual)[6] == "wrong:"


def test_a_pattern_is_shaded():
    torch.manual_seed(0)
    weights = torch.rand(16, 16).tril()
    assert set("".join(drawn(weights, weights.T.contiguous()))) & set(draw.SHADES[1:])


def test_short_rows_of_labels_are_drawn_as_numbers():
    """-100 among them is four columns wide; a shade would not say which label is which."""
    expected = torch.tensor([[-100, -100, 15, 1024, 7, 3, 3, 9, -100, 88]])
    lines = drawn(expected, expected.roll(1, 1))
    assert [line.split() for line in lines[1::2]] == [
        [str(n) for n in expected[0].tolist()],
        [str(n) for n in expected.roll(1, 1)[0].tolist()],
        ["✗", "·", "✗", "✗", "✗", "✗", "·", "✗", "✗", "✗"],
    ]
    assert [line.rstrip() for line in lines[::2]] == ["expected:", "yours:", "wrong:"]
    assert len({len(line) for line in lines[1::2]}) == 1, "what belongs together stands below each other"


def test_a_long_row_of_ids_shows_where_it_differs():
    expected = torch.arange(1000, 1060)
    actual = expected.clone()
    actual[50] = 7
    lines = drawn(expected, actual)
    assert max(map(len, lines)) <= 84 and " 1050 " in lines[1] and " 7 " in lines[3] and "✗" in lines[5]
    assert re.fullmatch(r"\(columns \d+ to \d+ of 60\)", lines[6])


def test_ids_of_an_input_are_numbers():
    assert " ".join(draw.matrix(torch.arange(40) - 100)).split() == [str(n - 100) for n in range(40)]
    assert all(len(line) <= 76 for line in draw.matrix(torch.arange(40) - 100))
    two = draw.matrix(torch.arange(60).view(2, 30) - 100)
    assert len(two) == 2 and two[0].split()[:2] == ["-100", "-99"] and two[0].endswith("…") and len(two[0]) <= 78
    assert not set("".join(draw.matrix(torch.arange(900).view(30, 30)))) & set("0123456789"), "a large one is shaded"


def test_odd_values_can_be_drawn():
    odd = torch.tensor([[math.nan, math.inf, -math.inf, 1e9]])
    assert drawn(odd, torch.zeros(1, 4))
    assert drawn(torch.tensor(1.0), torch.tensor(2.0))[1].split() == ["1.0", "2.0", "✗"]
    assert draw.matrix(torch.zeros(0, 3)) == ["(empty)"]
