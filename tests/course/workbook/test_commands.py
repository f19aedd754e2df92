"""The other commands of the loop."""

import os
import subprocess
import sys

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


@pytest.mark.slow  # Python compiles every module anew
@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_the_commands_need_no_docstrings_of_python(tmp_path, flag):
    """Python's -OO takes them all out; those of the exercises say what mistakes are, and what cases try."""
    write_workbook(solved=("1.1",))
    code = (
        "import sys; from pathlib import Path\n"
        "from minitransformer.course import lessons, show\n"
        "show.ROOT = lessons.ROOT = Path(sys.argv[1])\n"
        "from minitransformer.course.workbook import commands\n"
        "for command, number in (('start', 1), ('hint', (1, '1.2')), ('check', (1, None)), ('progress', None)):\n"
        "    commands.run(command, number)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]), "PYTHONOPTIMIZE": ""}
    done = subprocess.run(
        [sys.executable, flag, "-c", code, tmp_path], env=environment, capture_output=True, text=True, timeout=120
    )
    assert not done.returncode, done.stderr
    assert all(text in done.stdout for text in ("hint 1 of 3", "✓ 1.1 running_sum", "1 of 3 exercises pass"))
