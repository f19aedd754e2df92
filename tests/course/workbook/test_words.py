"""Values and sentences in words."""

import math
from copy import copy
from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import exercise, report, words
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination


class Plain:
    """Without a text of its own."""

    def __init__(self, n, x=None):
        self.n, self.x = n, x


class Unshowable:
    def __repr__(self):
        raise ValueError("never")


@pytest.mark.parametrize(
    "value, text",
    [
        (Plain(3), "Plain(n=3, x=None)"),
        (Plain("a", torch.zeros(2, 3)), "Plain(n='a', x=a tensor of shape (2, 3))"),
        (Plain(Plain(1), [[1]] * 30), "Plain(n=Plain(…), x=list(…))"),
        ([Plain(3)], "[<Plain>]"),
        ({"f": math.sqrt, "g": copy}, "{'f': <built-in function sqrt>, 'g': <function copy>}"),
        (Unshowable(), "<Unshowable that cannot be shown: ValueError>"),
    ],
)
def test_objects_are_shown_by_what_is_in_them(value, text):
    assert words.shown(value) == text


def test_no_address_in_memory_is_shown(toys):
    one = exercise.Exercise(
        "1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"), oracle=lambda x: [Plain(1), 2]
    )
    one.case(lambda: Plain(torch.float32))
    for wrong in (lambda x: [Plain(1), 3], lambda x: [copy, 2], lambda x: copy, lambda x: {Plain: x}):
        verdict = Examination(one).examine(wrong)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
        assert "0x" not in text, text


def test_what_is_in_a_thing_that_was_observed_is_said_in_words(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.scene(lambda running_sum: {"the log": [{"loss": running_sum(torch.ones(3))[2].item()}]})
    verdict = Examination(one).examine(lambda x: x)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "\"the log\", at [0]['loss'], is not as it should be." in text


@pytest.mark.parametrize(
    "text, as_a_sentence",
    [
        ("So", "So."),
        ("So.", "So."),
        ("So?", "So?"),
        ("(So.)", "(So.)"),
        ("So (x)", "So (x)."),
        ("f(x, …)", "f(x, …)."),
        ("f(...)", "f(...)."),
        ('"So."', '"So."'),
        ("It is x[1]", "It is x[1]."),
        ("So …", "So …"),
    ],
)
def test_a_sentence_has_one_full_stop(text, as_a_sentence):
    assert words.ended(text) == as_a_sentence


@pytest.mark.parametrize("name, said", [("Odd", "an Odd of length 2"), ("list", "a list of length 2")])
def test_an_article_before_a_vowel(name, said):
    kind = list if name == "list" else type(name, (list,), {})
    assert words.describe(kind([1, 2])) == said
    assert words.in_short(kind(["long"] * 40)) == said.replace("2", "40")
