"""Progress is kept by id, line by line."""

import multiprocessing
import re
from datetime import date

from minitransformer.course.workbook import book, checking, commands, hints
from minitransformer.course.workbook.progress import Progress, State
from minitransformer.errors import UserError
from tests.course.workbook.helpers import write_workbook


def test_progress_keeps_what_it_does_not_know():
    text = "# a comment\n77.3  passed  2020-01-01  hints=2\nnonsense here\n1.2  open  -  hints=1\n"
    book.write(book.folder() / "progress.txt", text)
    progress = Progress()
    assert progress["1.2"].hints == 1 and progress["77.3"].passed and not progress["1.1"].passed
    progress.set("1.2", passed=True)
    progress.set("1.1", hints=3)
    lines = (book.folder() / "progress.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == text.splitlines()[:3], "unknown lines and ids stay as they are"
    assert re.fullmatch(r"1\.2  passed  \d{4}-\d\d-\d\d  hints=1", lines[3]) and lines[4] == "1.1  open  -  hints=3"
    day = Progress()["1.2"].day
    progress.set("1.2", passed=False)
    assert Progress()["1.2"].day == day, "the day of the first pass is kept"


def test_progress_keeps_bytes_that_are_no_text():
    path = book.folder() / "progress.txt"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x85\x0c odd\r\n1.1  passed  2020-01-01  hints=2\r\n")
    Progress().set("1.2", hints=1)
    assert path.read_bytes() == (b"\xff\xfe\x85\x0c odd\r\n1.1  passed  2020-01-01  hints=2\r\n1.2  open  -  hints=1\n")
    assert Progress()["1.1"] == State(True, "2020-01-01", 2), "an editor may have written Windows' line ends"


def test_two_checks_at_once_keep_each_others_progress():
    one, other = Progress(), Progress()
    one.set("1.1", passed=True)
    other.set("1.2", hints=2)
    one.set("1.1", hints=1)
    assert Progress()["1.1"] == State(True, date.today().isoformat(), 1)
    assert Progress()["1.2"].hints == 2


def test_progress_files_of_older_courses_are_read(here, capsys):
    write_workbook()
    book.write(book.folder() / "progress.txt", "1.1  passed  2020-01-01  hints=2\n1.2  open  -  hints=1\n")
    assert Progress()["1.1"] == State(True, "2020-01-01", 2)
    commands.progress()
    assert "■□□" in capsys.readouterr().out, "what was checked then is not known"
    checking.check(1)
    line = r"1\.1  passed  2020-01-01  hints=2  source=[0-9a-f]{12}\n"
    assert re.search(line, (book.folder() / "progress.txt").read_text())
    assert Progress()["1.2"].source and Progress()["1.2"].hints == 1


def _note(identity):
    for number in range(8):
        Progress().set(identity, hints=number)


def test_commands_at_once_keep_each_others_notes():
    """Each reads the file, changes its line and writes all of it."""
    identities = ["1.1", "1.2", "1.3", "2.1"]
    writers = [multiprocessing.get_context("fork").Process(target=_note, args=(one,)) for one in identities]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [Progress()[one].hints for one in identities] == [7] * 4


def test_what_was_asked_for_is_shown_where_progress_cannot_be_saved(here, capsys, monkeypatch):
    write_workbook(solved=("1.1",))

    def full(path, data):
        raise UserError(f"The disk is full: {path.name} was not written.")

    monkeypatch.setattr(book, "write_aside", full)
    assert checking.check(1) == 1
    out = capsys.readouterr().out
    assert "✓ 1.1 running_sum" in out and "1.2 mean waits to be written" in out
    assert out.count("Your progress could not be saved. The disk is full: progress.txt was not written.") == 1
    hints.hint(1, "1.2")
    out = capsys.readouterr().out
    assert "Sum." in out and "Your progress could not be saved" in out
