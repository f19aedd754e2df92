"""Lessons run on the learner's own code."""

import re

import pytest
import torch

from minitransformer.course import show
from minitransformer.course.workbook import book, catalogue, loading, mine
from minitransformer.errors import UserError
from minitransformer.models import attention
from tests.course.workbook.helpers import LESSON, write_workbook


def test_a_lesson_on_ones_own_code_comes_to_the_references_loss(heads_of_ones_own, capsys):
    heads_of_ones_own({"2.1", "2.3", "2.5"})
    mine.run(2)
    out = capsys.readouterr().out
    assert re.search(r"2\.1 +split_heads +yours", out) and re.search(r"2\.2 +merge_heads .*\(not written\)", out)
    assert "This ran on 3 of your functions: split_heads, attend_by_formula, prepend." in out
    assert out.count("trained 12") == 1, "the reference runs unseen"
    assert "Equal to the last bit" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("1  ")).split()
    assert row[2] == row[3] and row[4] == row[5]
    assert not attention.split_heads.__kwdefaults__, "the switch is off after the lesson"


def test_the_references_losses_are_kept_and_a_difference_is_seen(heads_of_ones_own, capsys, monkeypatch):
    heads_of_ones_own({"2.3"})
    mine.run(2)
    assert (book.folder() / "reference" / "lesson_02.json").exists()
    capsys.readouterr()
    heads_of_ones_own({"2.3"}, ("/ math.sqrt(q.size(-1))", "/ q.size(-1)"))
    runs = []
    monkeypatch.setattr(mine.output, "Sink", lambda: runs.append(1))
    mine.run(2)
    out = capsys.readouterr().out
    assert not runs, "the reference's losses are kept"
    assert "Equal to the last bit" not in out and "They differ by" in out


def test_code_that_fails_inside_a_lesson_is_shown(heads_of_ones_own, capsys):
    heads_of_ones_own({"2.2"}, ("return x.transpose(1, 2).reshape(B, T, H * D)", "return x.reshape(B, 7)"))
    says = "(?s)passes its checks but fails inside the lesson.*in merge_heads:  return x.resh"
    with pytest.raises(UserError, match=says):
        mine.run(2)
    assert not attention.merge_heads.__kwdefaults__


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        ("raise SystemExit", r"inside the lesson, in step 1 · .*in merge_heads: .*It called exit"),
        ("return x.transpose(1, 2).reshape(B, T, H * D)[:, :0]", r"The lesson stopped in step 1 · "),
    ],
)
def test_whatever_ends_a_lesson_names_the_learners_functions_of_that_step(heads_of_ones_own, instead, says):
    heads_of_ones_own({"2.1", "2.2"}, ("return x.transpose(1, 2).reshape(B, T, H * D)", instead))
    with pytest.raises(UserError, match=f"(?s){says}.*ran on 2 of your functions: split_heads, merge_heads"):
        mine.run(2)


def test_nothing_of_ones_own_to_run(heads_of_ones_own):
    heads_of_ones_own(set())
    with pytest.raises(UserError, match="(?s)None of your exercises passes yet.*make start-2 begins"):
        mine.run(2)


def test_a_lesson_without_exercises_sends_to_one_that_has_some(heads_of_ones_own):
    heads_of_ones_own(set())
    (show.ROOT / "lessons" / "lesson_03_only_to_read.py").write_text(LESSON, encoding="utf-8")
    with pytest.raises(UserError, match="(?s)None of your exercises passes yet.*make start-2 begins"):
        mine.run(3)


def test_a_workbooks_own_functions_call_each_other_only_if_they_pass(toys):
    text = "def running_sum(x):\n    return 'mine'\n\ndef mean(x, empty=0.0):\n    return running_sum(x)\n"
    path = write_workbook(text)
    workbook = loading.load(path, catalogue.exercises(1))
    workbook.link({"1.2"})
    assert workbook.candidates["1.2"](torch.ones(2)).tolist() == [1, 2], "running_sum is the package's here"
    workbook.link({"1.1", "1.2"})
    assert workbook.candidates["1.2"](torch.ones(2)) == "mine"
