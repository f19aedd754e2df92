"""The failing input is shown so that a learner can make it."""

import sys
from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import catalogue, exercise, inputs, report
from minitransformer.course.workbook.again import again
from minitransformer.course.workbook.again import command as again_command
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination
from minitransformer.errors import UserError
from tests.course.workbook.helpers import ADD, EXERCISES, SUM, TOYS, check_here, the, write_workbook


def test_the_smallest_failing_input_is_shown():
    write_workbook(edits=[(SUM, "    return torch.stack(sums) + (len(sums) > 2)")])
    text = check_here("1.1")["1.1"]["text"]
    assert "1 smaller input passes; it fails on this one: Five numbers." in text
    assert "running_sum(x)" in text and "x (5,)" in text and "off by the same 1" in text


def test_a_scene_shows_its_source():
    write_workbook(edits=[(ADD, ADD.replace("return self.n", "return self.n + 1"))])
    text = check_here("1.3")["1.3"]["text"]
    assert "    counter = Counter(step=2)\n" in text and text.count("Three numbers, then two") == 1


HELPED = (
    EXERCISES.replace(
        "sums = Exercise(",
        '''NUMBERS = torch.tensor([2.0, 3.0])


class Odd:
    """Two numbers."""

    def __init__(self, x):
        self.x = x


def odd(start):
    """Two numbers that come from `start`."""
    return Odd(start * NUMBERS)


sums = Exercise(''',
        1,
    )
    + '''

boxed = Exercise("1.4", "toys:boxed", title="Boxed", minutes=3, difficulty=1, purpose="Boxes.", hints=("a", "b", "c"))


@boxed.case
def an_object():
    """An object."""
    return odd(3)


@boxed.scene
def a_scene(boxed):
    """A scene."""
    box = odd(2)
    return {"sum": boxed(box) + NUMBERS}
'''
)


def test_helpers_of_a_case_are_explained_and_it_can_be_run_once_more(toys):
    more = "\n\ndef boxed(box):\n    '''The sum of a box.'''\n    return box.x.sum()\n"
    Path(toys.__file__).write_text(TOYS + more, encoding="utf-8")
    catalogue.files()[1].write_text(HELPED, encoding="utf-8")
    sys.modules.pop("toys")
    for wrong, number in (("return 2 * box.x.sum()", 1), ("return box.x.sum() + (box.x[0] < 6)", 2)):
        write_workbook(solved=("1.4",), edits=[("return box.x.sum()", wrong)])
        text = check_here("1.4")["1.4"]["text"]
        assert "    odd(start): Two numbers that come from `start`.\n" in text, text
        assert "To run it yourself:" in text and again_command("1.4", number) in text
    assert "    NUMBERS is tensor([2., 3.])\n" in text and "tidy" not in text
    assert again("1.4", 1) == 15 and again("1.4", 2)["sum"].tolist() == [13, 14]
    for identity, number, says in (("1.4", 0, "has the cases 1 to 2, not 0"), ("1.9", 1, "There is no exercise 1.9")):
        with pytest.raises(UserError, match=says):
            again(identity, number)
    with pytest.raises(NotImplementedError):
        again("1.1", 1)
    write_workbook("import torch\n")
    with pytest.raises(UserError, match="has no running_sum: make start-1"):
        again("1.1", 1)


def test_a_call_is_shown_as_it_can_be_written(toys):
    text = "\n\ndef scaled(x, mode=None, y=None):\n    '''x, y.'''\n    return x + y\n"
    Path(toys.__file__).write_text(TOYS + text, encoding="utf-8")
    sys.modules.pop("toys")
    one = exercise.Exercise("1.9", "toys:scaled", "Scale", 1, 1, "It scales.", ("a", "b", "c"))
    one.case(lambda: (torch.ones(2), "a", torch.ones(2)))
    verdict = Examination(one).examine(lambda x, mode, y: x)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "    scaled(x, mode='a', y=y)\n" in text


LONG = """


@dataclass
class Settings:
    '''How to do it.'''

    rate: float = 0.1
    steps: int = 10
    names: list[str] = field(default_factory=list)


class Words:
    '''Many.'''

    def __init__(self):
        self.ranks = {str(n): n for n in range(1000)}


def built(words, settings, x, ids, start=0):
    '''The sum of x.'''
    return x.sum()
"""

LONG_CASES = """

built = Exercise("1.4", "toys:built", title="Built", minutes=3, difficulty=1, purpose="B.", hints=("a", "b", "c"))
ROW = [7] * 40


def two_of(n):
    '''Two of them.'''
    return tidy(n, n), ROW


def a_plan(**more):
    '''A plan.'''
    return Settings(**more)


@built.case
def by_name():
    '''By name.'''
    words = Words()
    return words, a_plan(rate=0.5), tidy(
        2, 3,
    ), ROW, 3


@built.case
def starred():
    '''Starred.'''
    return Words(), Settings(steps=3, names=["a"] * 9), *two_of(9)


@built.case
def by_keyword():
    '''By keyword.'''
    return call(Words(), a_plan(), ids=[1], x=tidy(9, 9))
"""


def test_inputs_are_named_in_words_and_made_one_by_one(toys):
    future = "from __future__ import annotations\n"
    source = TOYS.replace(future, f"{future}\nfrom dataclasses import dataclass, field\n", 1)
    Path(toys.__file__).write_text(source + LONG, encoding="utf-8")
    old, new = "import Exercise, tidy\n", "import Exercise, call, tidy\nfrom toys import Settings, Words\n"
    text = EXERCISES.replace(old, new, 1)
    catalogue.files()[1].write_text(text + LONG_CASES, encoding="utf-8")
    sys.modules.pop("toys")
    one = the("1.4")
    sys.modules["toys"].Settings.__module__ = "minitransformer.toys"
    said = ["\n".join(inputs.input_blocks(one, case, number, 80)) for number, case in enumerate(one.cases)]
    lines = "    built(words=a Words, settings=Settings(rate=0.5), x=x,\n        ids=a list of length 40, start=3)\n"
    assert lines in said[0]
    made = "    words = Words()\n    settings = a_plan(rate=0.5)\n    x = tidy(\n        2, 3,\n    )\n    ids = ROW\n"
    assert made in said[0] and "return" not in said[0] and "start = " not in said[0]
    assert "    x, ids = two_of(9)\n" in said[1] and "settings=Settings(steps=3, names=…)" in said[1]
    assert "settings=Settings(), ids=[1], x=x)" in said[2]
    assert "    x = tidy(9, 9)\n" in said[2] and "ids = " not in said[2]
    assert said[0].index("    a_plan(more): A plan.") < said[0].index("    tidy(shape): ")
    assert "This is run:" in "\n".join(inputs.input_blocks(the("1.3"), the("1.3").cases[0], 0, 80))
