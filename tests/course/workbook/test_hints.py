"""Hints come one by one; solutions are not given away."""

import functools
import sys
import types

import pytest

from minitransformer.course import runner, show
from minitransformer.course.workbook import checking, hints
from minitransformer.course.workbook.page import page as page_of
from minitransformer.course.workbook.progress import Progress
from minitransformer.errors import UserError
from minitransformer.models import attention
from tests.conftest import ROOT
from tests.course.workbook.helpers import SUM, add_given, the, write_workbook


def test_what_may_be_used_is_shown_with_hints_and_solutions(tmp_path, capsys, here):
    add_given(tmp_path)
    write_workbook()
    for show_it in (lambda: hints.hint(1, "1.3"), lambda: hints.solution(1, "1.3", yes=True)):
        show_it()
        assert "You may use:\n  rest(x): all numbers but the first.\n  self.step: what" in capsys.readouterr().out
    assert "#   rest(x): all numbers but the first." in page_of(the("1.3"))
    hints.hint(1, "1.1")
    assert "You may use" not in capsys.readouterr().out


def test_hints_come_one_by_one_for_the_first_that_does_not_pass(here, capsys):
    write_workbook(solved=("1.1",))
    for number, text in enumerate(("Sum.", "Divide.", "    x.sum() / count"), 1):
        hints.hint(1)
        out = capsys.readouterr().out
        assert f"1.2 mean · hint {number} of 3\n{text}\n" in out
    hints.hint(1)
    out = capsys.readouterr().out
    assert "1.2 mean · all three hints have been shown; here they are again\n" in out and "hint 3 of 3" not in out
    assert "\nSum.\n\nDivide.\n\n    x.sum() / count\n" in out and "make solution-1.2" in out
    hints.hint(1, "1.1")
    assert "First hint." in capsys.readouterr().out
    assert Progress()["1.2"].hints == 3
    write_workbook()
    hints.hint(1)
    assert "All exercises of lesson 1 pass" in capsys.readouterr().out


def test_code_in_a_hint_is_neither_wrapped_nor_decorated(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code = "joined = {**first_of_the_two, **second_of_the_two, **third_of_them}  # x · x, - `**it**`"
    prose = "Return {**a, **b} and f(**a) of **two** of them:"
    hint = f"{prose}\n    for x in y:\n        {code}\n\n    return joined\nThat · is all."
    the("1.1").hints = (hint, "b", "c")
    write_workbook(solved=())
    hints.hint(1, "1.1")
    out = capsys.readouterr().out
    assert "Return {**a, **b} and f(**a) of two\nof them:\n" in out
    assert f"    for x in y:\n        {code}\n\n    return joined\nThat · is all.\n" in out
    page = page_of(the("1.1"))
    assert f"```python\nfor x in y:\n    {code}\n\nreturn joined\n```" in page


def test_a_lesson_shows_an_exercises_source_only_when_it_is_solved(toys, here, capsys, monkeypatch):
    monkeypatch.setattr(show, "withheld", functools.partial(hints.withheld, 1))

    def shown(function) -> str:
        show.source(function, docstring=False)
        return capsys.readouterr().out

    for function, name in ((toys.running_sum, "`running_sum`"), (toys.Counter.add, "`Counter.add`")):
        out = " ".join(shown(function).split())
        assert name in out and "make start-1" in out and "return" not in out
    assert "return super().start() + 1" in shown(toys.Counter.start), "this is no exercise"
    write_workbook()
    checking.check(1)
    capsys.readouterr()
    out = shown(toys.running_sum).lstrip()
    assert out.startswith('def running_sum(x: Tensor) -> Tensor:\n    """…"""\n') and "torch.stack(sums)" in out
    monkeypatch.setattr(show, "withheld", functools.partial(hints.withheld, 7))
    assert "return" in shown(toys.Counter.add), "a lesson without exercises"


def test_lessons_print_sources_only_by_the_helper_that_withholds_them():
    for path in sorted((ROOT / "lessons").glob("lesson_*.py")):
        assert "getsource" not in path.read_text(encoding="utf-8"), f"{path.name}: show.source(function) prints it"


def test_the_command_line_withholds_sources(monkeypatch, capsys):
    from minitransformer.course.cli import dispatch, parser

    seen = []
    monkeypatch.setattr(show, "withheld", show.withheld)
    monkeypatch.setattr(runner, "run", lambda number, **more: seen.append(show.withheld(attention.attend_by_formula)))
    monkeypatch.setattr("minitransformer.course.bootstrap.ensure", lambda extras: None)
    monkeypatch.setattr(hints, "withheld", lambda lesson, function: f"{lesson} {function.__name__}")
    dispatch(parser().parse_args(["lesson", "2"]), [])
    assert seen == ["2 attend_by_formula"]


def test_a_solution_is_not_given_away(here, capsys, monkeypatch):
    write_workbook(solved=())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    with pytest.raises(UserError, match="3 of its hints are not read yet.*solution 1.1 --yes"):
        hints.solution(1, "1.1")
    checking.check(1)
    write_workbook(solved=("1.1",))
    with pytest.raises(UserError, match="1.1 running_sum did not pass, but has changed since it was checked"):
        hints.solution(1, "1.1")
    write_workbook(solved=())
    capsys.readouterr()
    assert hints.solution(1, "1.1", yes=True) == 0
    assert "torch.stack(sums)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert hints.solution(1) == code
        assert ("torch.stack(sums)" in capsys.readouterr().out) == (code == 0)


def test_a_solved_exercise_shows_both(here, capsys):
    write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    checking.check(1)
    capsys.readouterr()
    assert hints.solution(1, "1.1") == 0
    out = capsys.readouterr().out
    assert out.index("yours") < out.index("# mine") < out.index("the package's")
