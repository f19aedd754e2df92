"""What a check prints, and what it says to do next."""

import sys
from pathlib import Path

from minitransformer.course.workbook import catalogue, checking, commands, sandbox
from minitransformer.course.workbook.progress import Progress, State
from tests.course.workbook.helpers import (
    ADD,
    CLASS,
    EXERCISES,
    PAIR,
    SUM,
    TOYS,
    SandboxHere,
    check_here,
    the,
    write_workbook,
)


def test_what_it_is_for_is_said_once(here, capsys):
    wrong = (SUM, "    return x")
    write_workbook(solved=("1.1",), edits=[wrong])
    said = []
    for only in (None, None, "1.1", "1.2", "1.2"):
        checking.check(1, only)
        said.append("What it is for" in capsys.readouterr().out)
    assert said == [True, False, False, True, False]
    commands.reset(1, "1.1")
    write_workbook(solved=("1.1",), edits=[wrong])
    capsys.readouterr()
    checking.check(1)
    assert "What it is for: It adds up." in capsys.readouterr().out


def test_check_says_what_passed_shows_the_solution_and_what_comes_next(here, capsys):
    write_workbook(solved=("1.1",), edits=[("    for value in x:", "    for value in list(x):")])
    assert checking.check(1) == 1
    out = capsys.readouterr().out
    assert "✓ 1.1 running_sum" in out and "yours, 5 lines" in out and "the package's, 5 lines" in out
    assert "○ 1.2 mean" in out and out.count("waits to be written") == 1
    assert "make hint-1.2" in out
    checking.check(1)
    assert "yours" not in capsys.readouterr().out, "the solution is shown only when it passes for the first time"
    write_workbook()
    assert checking.check(1) == 0
    out = capsys.readouterr().out
    assert "All 3 exercises of lesson 1 pass" in out and "1.2 mean passes, and is the same code as the package's" in out
    checking.check(1, "1.2")
    assert "make check-1 checks all" in capsys.readouterr().out


def test_a_pass_that_is_lost_is_noted(here):
    write_workbook()
    checking.check(1)
    assert Progress()["1.1"].passed
    write_workbook(edits=[(SUM, "    return x")])
    checking.check(1)
    assert not Progress()["1.1"].passed and Progress()["1.2"].passed


def states_of(out: str) -> list[str]:
    """The lines of a check's list of exercises, without what stands between name and state."""
    return [" ".join(line.split()) for line in out.split("\n")[1 : 1 + len(catalogue.exercises(1))]]


def test_a_check_says_how_each_exercise_stands(here, capsys):
    write_workbook(solved=("1.2", "1.3"), edits=[(ADD, "        return 7")])
    assert checking.check(1) == 1
    out = capsys.readouterr().out
    assert states_of(out) == ["○ 1.1 running_sum not written yet", "✓ 1.2 mean passed", "✗ 1.3 Counter.add fails"]
    assert "1.3 Counter.add · Count on" in out and "waits to be written" not in out, "one is told of in full"
    assert "make hint-1.3: a hint (3 of 3 left)" in out


def test_what_a_stopped_check_did_not_reach_is_said(here, capsys, monkeypatch):
    write_workbook()

    def stopping(self, lesson, path, only=None, on_result=None, **more):
        result = {"event": "result", "id": "1.1", "state": "passed", "text": "", "line": 3, "source": "abc"}
        on_result(result)
        return sandbox.Answer({"1.1": result}, problem="It did not end.", at="1.2", line=20, source="def")

    monkeypatch.setattr(SandboxHere, "check", stopping)
    assert checking.check(1) == 1
    out = capsys.readouterr().out
    assert states_of(out) == ["✓ 1.1 running_sum passed", "✗ 1.2 mean was stopped", "· 1.3 Counter.add not reached"]
    assert "✗ 1.2 mean · A mean · workbook/lesson_01.py:20\n\nIt did not end.\n" in out and "make hint-1.2" in out
    assert Progress()["1.2"] == State(source="def")


def test_a_second_failure_is_not_diagnosed():
    write_workbook(edits=[(SUM, "    return x.clone()"), ("value = x.sum() / count", "value = x.sum()")])
    results = check_here(every=True)
    assert "Diagnosis: no sum" in results["1.1"]["text"] and "Diagnosis" not in results["1.2"]["text"]


def test_only_what_was_written_is_shown_and_counted(here, capsys):
    answer = "    count = x.numel()\n    value = x.sum() / count"
    edits = [(answer, "    # mine\n    count = len(x)\n\n    value = x.mean()")]
    write_workbook(edits=edits)
    checking.check(1)
    part = capsys.readouterr().out.partition("1.2 mean passes")[2].partition("1.3")[0]
    assert "yours, 5 lines" in part and "the package's, 5 lines" in part and "x.mean()" in part
    assert "The mean of numbers" not in part, "docstrings are the stub's"


def test_of_a_class_what_the_stub_has_is_not_counted(toys):
    Path(toys.__file__).write_text(TOYS + CLASS, encoding="utf-8")
    sys.modules.pop("toys")
    catalogue.files()[1].write_text(PAIR, encoding="utf-8")
    one = the("1.1")
    assert one.cut.is_class and checking.count(one.cut.answer, one) == 5


LOUD = """@means.mistake
def loud(x, empty=0.0):
    '''It is loud.'''
    print("printed by a mistake")
    warnings.warn("warned by a mistake")
    return x.sum(), x.numel() + 1


@means.scene
def behind(mean):
    '''Behind the case that fails.'''
    return mean(torch.ones(4))


adding = Exercise("""


def test_only_what_the_learners_code_prints_is_shown(toys, capsys, recwarn):
    text = EXERCISES.replace("adding = Exercise(", LOUD, 1).replace("import torch", "import torch\nimport warnings", 1)
    oracle = "lambda x, empty=0.0: (print('printed by the oracle'), (x.mean(), x.numel()))[1]"
    text = text.replace('"    x.sum() / count"),\n', f'"    x.sum() / count"), oracle={oracle},\n')
    catalogue.files()[1].write_text(text, encoding="utf-8")
    write_workbook(edits=[("value = x.sum() / count", "value = x.sum(); print('mine', count)")])
    said = check_here("1.2")["1.2"]
    assert "sum for mean" in said["text"]
    out = capsys.readouterr()
    assert out.out == "mine 3\n" and out.err == "" and not recwarn.list, "nothing that others print, and each line once"


def test_what_the_code_prints_is_folded(capsys):
    checking._printed(sandbox.Answer(printed="a warning of many words " * 12 + "\n\n  and " + "x" * 200))
    lines = capsys.readouterr().out.split("\n")
    assert max(map(len, lines)) <= 88 and "".join(lines).count("warning") == 12 and "".join(lines).count("x") == 200
    assert all(line.split()[-1] in ("a", "warning", "of", "many", "words") for line in lines[1:4]), "whole words"


def test_what_the_code_prints_is_shown_and_cut(here, capsys, monkeypatch):
    answer = sandbox.Answer(printed="\n".join(f"line {n}" for n in range(50)), cut=True)
    checking._printed(answer)
    out = capsys.readouterr().out
    assert "line 0\n" in out and "line 30" not in out and "which is cut here" in out
    checking._printed(sandbox.Answer(printed="\033[2Jgone\r\x07over"))
    assert "·[2Jgone··over" in capsys.readouterr().out, "what is printed must not clear the screen"


def test_a_mistake_of_the_file_offers_no_hint_of_an_exercise(here, capsys):
    write_workbook()
    checking.check(1)
    write_workbook(edits=[("def mean(", "def mean((")])
    capsys.readouterr()
    assert checking.check(1) == 1
    out = capsys.readouterr().out
    assert "make hint" not in out and "make check-1: check again, once that is mended" in out
