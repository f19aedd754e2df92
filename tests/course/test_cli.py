"""The command line ends in a sentence and the right exit code, never in a traceback of ours."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from minitransformer.course import bootstrap, cli
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT, command_line


@pytest.fixture
def copy(tmp_path):
    """A copy of the package with lessons of its own; gives a function that runs its command line."""
    shutil.copytree(ROOT / "minitransformer", tmp_path / "minitransformer", ignore=shutil.ignore_patterns("__pyc*"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "lesson_01_try.py").write_text(LESSON, encoding="utf-8")

    def run(*arguments, **environment):
        return command_line(*arguments, cwd=tmp_path, **environment)

    run.lessons = tmp_path / "lessons"
    return run


def the_sentence(result, code):
    """Standard error, checked to be a sentence."""
    assert result.returncode == code, f"exit code {result.returncode}, expected {code}:\n{result.stderr}"
    assert "Traceback" not in result.stderr and "Traceback" not in result.stdout, result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_lesson(copy):
    result = copy("lesson", "1", "--quick")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Lesson 1 · A first lesson\n") and "doubled 8" in result.stdout


def test_missing_lesson(copy):
    expected = "There is no lesson 99; the lessons are 1: make lessons lists them."
    assert the_sentence(copy("lesson", "99"), 2) == expected


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["lesson", "three"], "'three' is not a lesson's number"),
        (["lesson"], "required: N"),
        (["dance"], "invalid choice: 'dance'"),
        (["lessons", "--loud"], "unrecognized arguments: --loud"),
        ([], "required: command"),
    ],
)
def test_wrong_words(copy, arguments, says):
    assert says in the_sentence(copy(*arguments), 2)


def test_malformed_lesson(copy):
    (copy.lessons / "lesson_02_broken.py").write_text("x = = 1\n")
    assert the_sentence(copy("lesson", "2"), 1).startswith("lessons/lesson_02_broken.py:1: Python cannot read")


def test_a_users_mistake_inside_a_lesson(copy):
    text = LESSON + "\n# %%\nfrom minitransformer.errors import UserError\nraise UserError('Id 7 is too big.')\n"
    (copy.lessons / "lesson_01_try.py").write_text(text, encoding="utf-8")
    assert the_sentence(copy("lesson", "1"), 1) == "Id 7 is too big."


def test_a_bug_inside_a_lesson_shows_where(copy):
    (copy.lessons / "lesson_01_try.py").write_text(LESSON + "\n# %%\n1 / 0\n", encoding="utf-8")
    result = copy("lesson", "1")
    line = LESSON.count("\n") + 3
    assert f'lesson_01_try.py", line {line}' in result.stderr and "ZeroDivisionError" in result.stderr


def test_missing_text(copy):
    assert (
        the_sentence(copy("lesson", "1", "--text", "none.txt"), 1) == "There is no file none.txt to take the text from."
    )
    assert "none.txt" in the_sentence(copy("lesson", "1", TEXT="none.txt"), 1)


def test_quick_comes_from_the_environment_too(copy):
    assert "Quick:" in copy("lesson", "1", QUICK="1").stdout
    assert "Quick:" not in copy("lesson", "1", QUICK="0").stdout


def test_a_terminal_without_chinese_gets_question_marks(copy):
    result = copy("lesson", "1", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert "(?? addition)" in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c(copy):
    (copy.lessons / "lesson_01_try.py").write_text(LESSON + "\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "minitransformer", "lesson", "1"],
        cwd=copy.lessons.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while "doubled 8" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error.strip()) == (130, "Stopped.")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_leaves(copy):
    (copy.lessons / "lesson_01_try.py").write_text(LESSON + "\nprint('line\\n' * 100000)\n", encoding="utf-8")
    shell = f'"{sys.executable}" -m minitransformer lesson 1 | head -1'
    result = subprocess.run(shell, shell=True, cwd=copy.lessons.parent, capture_output=True, text=True)
    assert result.stderr == "", "head's leaving ended in a message"


@pytest.mark.parametrize(
    "error, code, says",
    [
        (OSError(errno.ENOSPC, "No space left on device", "figures/a.png"), 1, "The disk is full (figures/a.png)."),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 1, "a cannot be read or written: you lack"),
        (OSError(errno.EROFS, "Read-only file system", "a"), 1, "a cannot be written: the disk is read-only."),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), 1, "a is a folder, and a file belongs there."),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a"), 1, "a needs a folder where a file stands."),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 1, "There is no a. If it belongs to the course"),
        (OSError(errno.EIO, "Input/output error", "a"), 1, "a cannot be used: Input/output error."),
        (UserError("A sentence."), 1, "A sentence."),
        (KeyboardInterrupt(), 130, "Stopped."),
        (KeyboardInterrupt("Stopped before the end."), 130, "Stopped before the end."),
    ],
)
def test_errors_end_in_sentences(monkeypatch, capsys, error, code, says):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "dispatch", fail)
    monkeypatch.setattr(sys, "argv", ["minitransformer", "lessons"])
    assert cli.main() == code
    assert capsys.readouterr().err.strip().startswith(says)


def test_a_precision_without_a_device_is_no_bench_in_fp32(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "ensure", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["minitransformer", "bench", "--precision", "bf16"])
    monkeypatch.setattr("minitransformer.course.bench.main", lambda: pytest.fail("it measured something else"))
    assert cli.main() == 1
    assert "--precision bf16 is about the bench of a device" in capsys.readouterr().err


def test_other_errors_are_not_hidden(monkeypatch):
    def fail(*_):
        raise FileNotFoundError(errno.ENOENT, "No such file")

    monkeypatch.setattr(cli, "dispatch", fail)
    monkeypatch.setattr(sys, "argv", ["minitransformer", "lessons"])
    with pytest.raises(FileNotFoundError):
        cli.main()


@pytest.mark.skipif(os.name == "nt", reason="closes POSIX file descriptors")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed):
    command = f"exec {sys.executable} -m minitransformer lessons {closed}"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "Traceback" not in result.stderr
    assert ("attention" in result.stdout.lower()) == (" >&-" not in f" {closed}")


def test_test_hands_its_arguments_to_pytest(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(bootstrap, "ensure", lambda extras=(): calls.append(extras))
    monkeypatch.setattr(subprocess, "call", lambda command, **_: calls.append(command[2:]) or 5)
    monkeypatch.setattr(sys, "argv", ["minitransformer", "test", "-k", "attention", "-x", "tests/course/test_cli.py"])
    assert cli.main() == 5, "pytest's exit code is the command's"
    on_three = ["-n", "3", "--dist", "loadfile"]
    assert calls == [(), ["pytest", *on_three, "-k", "attention", "-x", "tests/course/test_cli.py"]]
    calls.clear()
    monkeypatch.setattr(sys, "argv", ["minitransformer", "parity"])
    cli.main()
    assert calls == [("parity", "mutants", "notebook"), ["pytest", "-m", "parity or slow", *on_three]]


@pytest.mark.parametrize("cores, workers", [(1, []), (2, ["2"]), (4, ["4"]), (64, ["4"])])
def test_tests_run_on_the_cores_that_there_are(monkeypatch, cores, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    options = cli.pytest_options("test", ["-q"])
    assert options[:-1] == [word for n in workers for word in ("-n", n, "--dist", "loadfile")]


@pytest.mark.parametrize("asked", [["-n", "0"], ["-n8"], ["--pdb"], ["-x", "-s"], ["--collect-only"], ["--dist=load"]])
def test_who_asks_for_one_process_gets_it(monkeypatch, asked):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert cli.pytest_options("test", asked) == asked
    assert cli.pytest_options("book-test", []) == ["-m", "book"], "its tests share a site and a browser"


def test_lint_checks_style_format_and_types(monkeypatch):
    calls, codes = [], [0, 0, 1]
    monkeypatch.setattr(bootstrap, "ensure", lambda extras=(): calls.append(extras))
    monkeypatch.setattr(subprocess, "call", lambda command, **_: calls.append(command[2:]) or codes.pop())
    monkeypatch.setattr(sys, "argv", ["minitransformer", "lint"])
    assert cli.main() == 1, "one of them failed"
    assert calls == [("dev",), ["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]


def test_first_line_comes_within_three_seconds(copy):
    (copy.lessons / "lesson_01_try.py").write_text(LESSON + "\nimport time\ntime.sleep(30)\n", encoding="utf-8")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "minitransformer", "lesson", "1"],
        cwd=copy.lessons.parent,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    line = process.stdout.readline()
    took = time.perf_counter() - began
    process.kill()
    process.communicate()
    assert line.startswith("Lesson 1") and took < 3, f"{line!r} came after {took:.1f} s"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lists_every_command():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^([a-z]+):", makefile, re.M):
        assert f"make {target} " in listed, f"make help does not name {target}"
    for command in re.findall(r"\$\(RUN\) (\w+)", makefile):
        assert command in cli.parser().format_help(), f"the Makefile calls {command}, which the command line lacks"
