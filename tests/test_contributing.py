"""CONTRIBUTING.md is followed to the letter: a toy method, a toy lesson and a toy exercise, as its pages have them."""

import re
import sys

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import runner, show
from minitransformer.course.workbook import catalogue, verify
from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^ *`([\w/]+\.py)`\n\n```python\n(.*?)^```$", TEXT, re.S | re.M))


def test_the_pages_have_the_files_that_they_speak_of():
    assert list(BLOCKS) == ["tests/tuning/toy.py", "lessons/lesson_16_how_sure.py", "lessons/exercises/lesson_16.py"]


def test_the_method_is_the_one_that_the_tests_of_every_method_run_on():
    assert (ROOT / "tests" / "tuning" / "toy.py").read_text(encoding="utf-8") == BLOCKS["tests/tuning/toy.py"]


@pytest.fixture
def toy_course(tmp_path, monkeypatch):
    """A course of the toy lesson and its exercise, in a temporary folder."""
    for name, text in BLOCKS.items():
        if name.startswith("lessons/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
    for module in (course, show):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(show, "QUICK", False)
    yield tmp_path
    sys.modules.pop("lesson_16_exercises", None)


def test_the_lesson_runs_and_keeps_its_secret(toy_course, capsys):
    runner.run(16)
    told = capsys.readouterr().out
    assert told.index("Predict before you run") < told.index("error = standard_error(p, n)") < told.index("0.021")
    assert "say(" not in told and "assert" not in told, "what only presents is not shown"
    assert course.load(16).needs == (5,)


def test_the_lesson_runs_without_the_runner(toy_course):
    path = toy_course / "lessons" / "lesson_16_how_sure.py"
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": "__main__"})


def test_the_exercise_is_proved(toy_course):
    assert [one.id for one in catalogue.exercises(16)] == ["16.1"]
    assert verify.verify_lesson(16) == []


def test_every_command_and_path_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in set(re.findall(r"`(?:QUICK=1 )?make ([a-z]+)", TEXT)):
        assert re.search(rf"^{command}(-%)?:", makefile, re.M), f"CONTRIBUTING.md names make {command}"
    prose = re.sub(r"^```python\n.*?^```$", "", TEXT, flags=re.S | re.M)
    for path in set(re.findall(r"`((?:minitransformer|tests|lessons)/[\w/.]*)`", prose)) - set(BLOCKS):
        made_up = "NN" in path or path.endswith("shift.py")
        assert made_up or (ROOT / path).exists(), f"CONTRIBUTING.md names {path}, which is not there"
