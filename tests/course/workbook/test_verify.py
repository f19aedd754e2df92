"""`make verify` finds what is wrong with exercises."""

import sys
from pathlib import Path

import pytest

from minitransformer.course import show
from minitransformer.course.workbook import book, catalogue, verify
from tests.conftest import ROOT
from tests.course.workbook.helpers import CLASS, EXERCISES, PAIR, TOYS


def test_what_leaks_from_a_class_is_found(toys):
    leaking = CLASS.replace("Both added, so many times.", "return self._weighted(times, times), in other words.")
    Path(toys.__file__).write_text(TOYS + leaking, encoding="utf-8")
    sys.modules.pop("toys")
    catalogue.files()[1].write_text(PAIR[: PAIR.index("pair.slip")], encoding="utf-8")
    assert any("shows a line of the answer: return self._weighted(times" in text for text in verify.verify_lesson(1))


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("torch.cumsum(x, 0) - x", "torch.cumsum(x, 0)", "'first left out' passes every case"),
        ("return x.clone()", "return torch.cumsum(x, 0) - x", "is diagnosed as ['first left out', 'no sum']"),
        ('means.slip("minus", "A wrong sign.", ("x.sum() / count", "-x.sum() / count"))', "", "it has 3 mistakes"),
        ('"Second hint."', '"First hint."', "two of its hints are the same"),
        ('"    x.sum() / count"', '"x.sum() / count"', "its third hint has no code"),
        ("oracle=lambda x: torch.cumsum(x, 0)", "oracle=lambda x: 2 * torch.cumsum(x, 0)", "its own is failed"),
    ],
)
def test_verify_complains(old, new, says):
    catalogue.files()[1].write_text(EXERCISES.replace(old, new, 1), encoding="utf-8")
    assert any(says in complaint for complaint in verify.verify_lesson(1)), verify.verify_lesson(1)


def test_verify_trains_on_the_solutions(heads_of_ones_own, capsys, monkeypatch):
    monkeypatch.setattr(verify, "TRAINS", 2)
    assert verify.verify_mine() == []
    assert capsys.readouterr().out == ""
    whole = book.new_text
    monkeypatch.setattr(book, "new_text", lambda *args: whole(*args).replace(" / math.sqrt(q.size(-1))", ""))
    assert "lesson 2 comes to" in verify.verify_mine()[0]


def test_verify_finds_an_answer_in_the_stub(toys):
    text = TOYS.replace('"""Each number plus', '"""It ends with: return torch.stack(sums).\n\n    Each number plus')
    Path(toys.__file__).write_text(text, encoding="utf-8")
    assert any("its stub shows a line of the answer" in complaint for complaint in verify.verify_lesson(1))


def test_all_lessons_exercises_can_be_read(monkeypatch):
    """Their proof is `make verify`; here only that they are well-formed, and that titles do not repeat."""
    monkeypatch.setattr(show, "ROOT", ROOT)
    for name in ("lesson_01_exercises", "lesson_02_exercises"):
        sys.modules.pop(name, None)
    some = [one for lesson in catalogue.files() for one in catalogue.exercises(lesson)]
    assert some and len({one.title for one in some}) == len(some)
