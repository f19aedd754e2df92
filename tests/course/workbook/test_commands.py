"""The other commands of the loop."""

import pytest

from minitransformer.course.workbook import checking, commands
from tests.conftest import ROOT
from tests.course.workbook.helpers import write_workbook


def test_progress_counts(here, capsys):
    write_workbook(solved=("1.1", "1.2"))
    checking.check(1)
    capsys.readouterr()
    commands.progress()
    out = capsys.readouterr().out
    assert "■■□" in out and "1.3 Counter.add" in out and "2 of 3 exercises pass, 15 of 18 minutes" in out


def test_the_command_line_reads_numbers_of_lessons_and_exercises():
    from minitransformer.course.cli import parser

    read = parser().parse_args
    assert read(["check", "2.3"]).number == (2, "2.3") and read(["hint", "12"]).number == (12, None)
    assert read(["start", "2"]).number == 2 and read(["solution", "2.1", "--yes"]).yes
    for wrong in (["check", "two"], ["check", "2."], ["start", "2.1"], ["check"]):
        with pytest.raises(SystemExit):
            read(wrong)


def test_the_workbook_is_not_committed():
    assert "/workbook/" in (ROOT / ".gitignore").read_text().split()
