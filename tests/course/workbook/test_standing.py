"""How each exercise stands follows the workbook as it is."""

import re

from minitransformer.course.workbook import book, checking, commands, standing
from tests.course.workbook.helpers import SUM, write_workbook


def test_what_was_changed_since_it_was_checked_is_said(here, capsys):
    write_workbook(solved=("1.1", "1.2"))
    checking.check(1)
    capsys.readouterr()

    def drawn_progress() -> str:
        commands.progress()
        return " ".join(capsys.readouterr().out.split())

    assert "■■□ 1.3 Counter.add 2 of 3" in drawn_progress()
    write_workbook(solved=("1.1", "1.2"), edits=[(SUM, f"{SUM}  # a comment, and\n\n")])
    assert "■■□ 1.3" in drawn_progress(), "comments and empty lines are no change"
    write_workbook(solved=("1.1", "1.2"), edits=[(SUM, "    return x")])
    out = drawn_progress()
    assert "◧■□ 1.1 running_sum (changed since it was checked) 1 of 3 exercises pass, 10 of 18 minutes" in out
    checking.check(1, "1.2")
    assert "Next: 1.1 running_sum, Running sums (5 minutes); it has changed since it was checked." in (
        " ".join(capsys.readouterr().out.split())
    )
    write_workbook(solved=("1.1", "1.2", "1.3"))
    assert "■■◧ 1.3 Counter.add (changed since it was checked)" in drawn_progress(), "it was open, and is written now"
    checking.check(1)
    write_workbook("def broken(:\n")
    assert "◧◧◧" in drawn_progress()
    book.workbook_path(1).unlink()
    capsys.readouterr()
    assert "◧◧◧" in drawn_progress()


def test_a_stub_that_was_lost_and_added_again_is_open(toys, here, capsys):
    path = write_workbook(solved=("1.1",))
    checking.check(1)
    text = path.read_text(encoding="utf-8")
    write_workbook(text[: text.index("# ─", text.index("1.2 ·") - 99)])
    capsys.readouterr()
    commands.progress()
    out = " ".join(capsys.readouterr().out.split())
    assert "■□□ 1.2 mean (not in the workbook: make start-1 adds it)" in out
    checking.check(1, "1.1")
    out = " ".join(capsys.readouterr().out.split())
    assert "Next: 1.2 mean, A mean (10 minutes). It is not in the workbook: make start-1 adds its stub." in out
    commands.start(1)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("from toys import Counter", "import toys\nCounter = toys.Counter"), encoding="utf-8")
    capsys.readouterr()
    commands.progress()
    out = capsys.readouterr().out
    assert "■□□" in out and "1.2 mean\n" in out, "nothing was written, so nothing has changed"
    legend = dict(re.findall(r"(\S) ([a-z ]+)[,.]", " ".join(out.split()).rpartition("place: ")[2]))
    assert legend == {
        standing.BOXES[standing.SOLVED]: "solved",
        standing.BOXES[standing.OPEN]: "open",
        standing.BOXES[standing.CHANGED]: standing.CHANGED_SINCE,
    }
    assert standing.BOXES[standing.RETRIED] == standing.BOXES[standing.CHANGED]
