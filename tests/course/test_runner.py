"""Lessons are run: the prose with its question, then the code without its conclusions, then the outcome."""

import io
import os
import subprocess
import sys
import traceback

import pytest

from minitransformer.course import output, runner
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT


def in_order(out: str, *pieces: str) -> None:
    places = [out.find(piece) for piece in pieces]
    assert -1 not in places, f"not printed: {pieces[places.index(-1)]!r} in\n{out}"
    assert places == sorted(places), f"printed in the wrong order:\n{out}"


def test_run_prints_prose_code_and_outcome_in_order(course_root, capsys):
    course_root(1)
    course_root(2, LESSON.replace("A first", "A second"))
    runner.run(1, quick=True)
    out = capsys.readouterr().out
    in_order(
        out,
        "Lesson 1 · A first lesson",
        "What is two and two?",
        "── 1 · Adding ─",
        "Prose about",
        "    2 + 2 = 4",
        "Predict before you run:",
        "│ total = 2 + 2",
        "\ntotal 4\n",
        "│ again = total",
        "\nagain 4\n",
        "── 2 · Hidden ─",
        "Only the outcome",
        "\ndoubled 8\n",
        "Lesson 1 took",
        "Next: make lesson-2 — A second lesson",
    )
    assert "2 * total" not in out, "the code of a hide-input cell was shown"
    assert "say" not in out, "code that only presents was shown"
    assert "\n\n\n" not in out, "one empty line is enough between two things"
    assert "\033" not in out, "colours were printed although this is no terminal"
    assert "STEP=1" not in out, "STEP=1 waits for a person, and here is none"


def test_code_above_the_first_cell_runs_first(course_root, capsys):
    text = LESSON.replace('"""\n\n# %%', '"""\n\nfrom math import pi\n\n# %%', 1) + "say(f'{pi:.2f}')\n"
    course_root(text=text)
    runner.run(1)
    out = capsys.readouterr().out
    assert "3.14" in out and "│ from math" not in out, "only what is said needs pi"


def test_a_script_shows_the_same_by_itself(course_root, capsys):
    path = course_root(text=LESSON + "from minitransformer.course.show import table\ntable([[1]], ['n'])\n")
    runner.run(1)
    through_course = capsys.readouterr().out.splitlines()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, path]
    direct = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment).stdout
    assert direct.splitlines() == ["total 4", "", "again 4", "", "doubled 8", "", "n", "─", "1"]
    assert [line for line in through_course if line and line in direct] == list(filter(None, direct.splitlines()))


def test_tracebacks_and_sources_point_into_the_lesson(course_root):
    body = (
        "\n# %%\nimport inspect\nimport pickle\n\n"
        "class Thing:\n    size = 3\n\n"
        "def double(x):\n    return 2 * x\n\n"
        "assert inspect.getsource(double) == 'def double(x):\\n    return 2 * x\\n'\n"
        "assert 'size = 3' in inspect.getsource(Thing)\n"
        "assert type(pickle.loads(pickle.dumps(Thing()))) is Thing\n"
        "assert __name__ == '__main__' and __file__.endswith('lesson_01_try.py')\n"
        "1 / 0\n"
    )
    path = course_root(text=LESSON + body)
    main, argv = sys.modules["__main__"], sys.argv
    with pytest.raises(ZeroDivisionError) as caught:
        runner.run(1)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    line = path.read_text(encoding="utf-8").split("\n").index("1 / 0") + 1
    assert (frame.filename, frame.lineno, frame.line) == (str(path), line, "1 / 0")
    assert sys.modules["__main__"] is main and sys.argv is argv, "run() left the lesson behind as __main__"
    assert not output._chosen, "run() left its sink behind"


def test_future_imports_reach_every_cell(course_root, capsys):
    text = LESSON.replace('"""\n\n# %%', '"""\n\nfrom __future__ import annotations\n\n# %%', 1)
    course_root(text=text + "\ndef f(x: int): ...\nsay(repr(f.__annotations__['x']))\n")
    runner.run(1)
    assert "'int'" in capsys.readouterr().out


def test_quick_and_text_reach_the_lesson(course_root, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_TEXT", "")
    monkeypatch.setenv("QUICK", "")
    (tmp_path / "mine.txt").write_text("hello")
    more = (
        "\n# %%\nimport os\nfrom minitransformer.course.show import QUICK\n"
        "say(f\"{QUICK} {open(os.environ['MINITRANSFORMER_TEXT']).read()}\")\n"
    )
    course_root(text=LESSON + more)
    runner.run(1, quick=True, text=str(tmp_path / "mine.txt"))
    assert "True hello" in capsys.readouterr().out
    with pytest.raises(UserError, match="no file .*absent.txt"):
        runner.run(1, text=str(tmp_path / "absent.txt"))


class Terminal(io.StringIO):
    """A keyboard, or a screen."""

    def isatty(self):
        return True


def test_step_waits_between_the_question_and_the_code(course_root, monkeypatch, capsys):
    course_root()
    keys = Terminal("\n\n")  # two lines for three cells: the end of input is not an error
    monkeypatch.setattr(sys, "stdin", keys)
    runner.run(1, step=True)
    out = capsys.readouterr().out
    assert out.count("ress Enter") == 3
    in_order(out, "how much is it?", "Predict, then press Enter.", "│ total = 2 + 2", "\ntotal 4\n", "\n\nPress Enter.")
    assert out.count("Predict, then") == 1, "the other cells ask for no prediction"


def test_a_person_is_told_that_it_can_wait(course_root, monkeypatch):
    course_root()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdin", Terminal("\n\n\n"))
    for step in (False, True):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        runner.run(1, step=step)
        assert ("STEP=1 make lesson-1" in screen.getvalue()) is not step


def test_step_without_a_terminal_runs_through(course_root, monkeypatch, capsys):
    course_root()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    runner.run(1, step=True)
    out = capsys.readouterr().out
    assert "STEP needs a terminal" in out and "press Enter" not in out and "doubled 8" in out


def test_a_run_that_nobody_watches_shows_and_saves_nothing(course_root, capsys, tmp_path):
    more = (
        "\nfrom minitransformer.course.show import figure\nwith figure('loss', 'Falls.') as axes:\n    axes.plot([1])\n"
    )
    course_root(text=LESSON + more)
    runner.run(1, sink=output.Sink())
    assert capsys.readouterr().out == "" and not (tmp_path / "figures").exists()


def test_list(course_root, capsys):
    course_root(1)
    course_root(2, LESSON.replace("needs: nothing", "needs: 1").replace("0.5", "1").replace("A first", "A second"))
    runner.print_list()
    out = capsys.readouterr().out
    assert "1  A first lesson  (about 0.5 minutes; needs no other lesson)" in out
    assert "2  A second lesson  (about 1 minute; after lesson 1)" in out
    assert "mirrors 004 §2.2 自注意力机制" in out
