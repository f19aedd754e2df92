"""Every test of the workbook runs in a course of three exercises in a temporary folder."""

import sys
from pathlib import Path

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.workbook import book, catalogue, checking, mine, sandbox, watching
from tests.conftest import ROOT
from tests.course.workbook.helpers import EXERCISES, LESSON, TOYS, SandboxHere, SupplyHere


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    """A course with three exercises in a temporary folder; gives the module that they are cut from."""
    (tmp_path / "toys.py").write_text(TOYS, encoding="utf-8")
    folder = tmp_path / "lessons" / "exercises"
    folder.mkdir(parents=True)
    (folder / "lesson_01.py").write_text(EXERCISES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "88")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    fresh = ("toys", "user_of_toys", "lesson_01_exercises", "lesson_02_exercises")
    for name in fresh:
        sys.modules.pop(name, None)
    import toys

    yield toys
    for name in fresh:
        sys.modules.pop(name, None)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(checking, "Sandbox", SandboxHere)
    monkeypatch.setattr(watching, "Supply", lambda lesson: SupplyHere())
    monkeypatch.setattr(mine, "Sandbox", SandboxHere)


@pytest.fixture
def heads_of_ones_own(monkeypatch, here):
    """A course with lesson 2's real exercises and a tiny lesson; gives a function that solves some, with edits."""
    for number in (1, 2):
        (catalogue.files().get(number) or Path("none")).unlink(missing_ok=True)
    source = ROOT / "lessons" / "exercises" / "lesson_02.py"
    (show.ROOT / "lessons" / "exercises" / "lesson_02.py").write_bytes(source.read_bytes())
    (show.ROOT / "lessons" / "lesson_02_try.py").write_text(LESSON, encoding="utf-8")

    def solve(solved, *edits):
        some = catalogue.exercises(2)
        text = book.new_text(2, some, solved)
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        book.write(book.workbook_path(2), text)
        results = {one.id: one.id in solved for one in some}
        answer = sandbox.Answer({key: {"state": "passed" if ok else "unwritten"} for key, ok in results.items()})
        monkeypatch.setattr(SandboxHere, "check", lambda *args, **kwargs: answer)

    return solve
