"""The stored pairs are what the datasheet says, and still stand in the package where it is installed."""

import re

import pytest

from minitransformer.course.real import pairs
from minitransformer.course.real.topics import FOLDER
from minitransformer.errors import UserError


def test_two_hundred_different_pairs():
    stored = pairs.read()
    assert len({pair["en"] for pair in stored}) == len(stored) == pairs.N == 200
    assert "holds 200 pairs" in (FOLDER / "DATASHEET.md").read_text(encoding="utf-8")
    for pair in stored:
        assert 3 <= len(pair["en"].split()) <= 12 and re.search("[\u4e00-\u9fff]", pair["zh"])


def test_they_are_the_packages():
    try:
        package = pairs.from_package()
    except UserError as error:
        pytest.skip(str(error))
    stored = pairs.read()
    assert sum(package.get(pair["en"]) == pair["zh"] for pair in stored) > 0.9 * len(stored)
