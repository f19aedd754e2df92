"""A server that has everything loaded forks a child for each check under `make watch-N`."""

import os
import subprocess
import time

import pytest

from minitransformer.course.workbook import book, sandbox
from minitransformer.course.workbook.server import CAN_FORK
from tests.course.workbook.helpers import write_workbook

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="this system does not fork")


@pytest.fixture
def supply():
    one = sandbox.Supply(1)
    yield one
    one.close()


def checked(supply, **limits):
    return supply.sandbox().check(1, book.workbook_path(1), every=True, **limits)


def states(answer):
    return [answer.results[identity]["state"] for identity in sorted(answer.results)]


def test_each_check_has_a_process_of_its_own_and_reads_the_file_anew(supply):
    """What one sets, no other sees; the server itself runs no learner's code."""
    write_workbook(solved=("1.1",))
    assert states(checked(supply)) == ["passed", "unwritten", "unwritten"]
    path = write_workbook()
    path.write_text(path.read_text(encoding="utf-8") + "\nimport toys\ntoys.seen = True\nprint('hello')\n", "utf-8")
    answer = checked(supply)
    assert states(answer) == ["passed"] * 3 and answer.printed == "hello\n" and not answer.problem
    path = write_workbook(solved=())
    path.write_text(path.read_text(encoding="utf-8") + "\nimport toys\nassert not hasattr(toys, 'seen')\n", "utf-8")
    answer = checked(supply)
    assert states(answer) == ["unwritten"] * 3 and not answer.problem


LIMITS = {
    "while True: pass": "did not end within 1 seconds",
    "import os; os._exit(3)": "ended the program (os._exit or the like, code 3)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "The system stopped the code",
    "while True: print('x' * 999)": "printed more than",
}


def test_a_forked_child_has_the_limits_of_any_child_and_leaves_nothing_running(supply):
    pids = [supply.server.process.pid]
    for line, says in LIMITS.items():
        write_workbook(edits=[("    total, sums = torch.zeros(()), []", f"    {line}")])
        one = supply.sandbox()
        pids.append(one.process.pid)
        answer = one.check(1, book.workbook_path(1), seconds=1 if "pass" in line else 60)
        assert says in answer.problem and answer.at == "1.1", answer
    write_workbook()
    assert states(checked(supply)) == ["passed"] * 3, "the server goes on"
    supply.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_check_does_not_compute_again_what_the_cases_should_give(supply, tmp_path):
    """The package's own code is slow here: the server waits for it, once; a check does not."""
    path = tmp_path / "toys.py"
    text = path.read_text(encoding="utf-8")
    slow = '    # This comment belongs to the answer.\n    __import__("time").sleep(0.5)\n'
    path.write_text(text.replace("    # This comment belongs to the answer.\n", slow), "utf-8")
    write_workbook(edits=[('    __import__("time").sleep(0.5)\n', "")])
    supply.server.close()
    supply.server = sandbox.Server(1)
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert states(checked(supply)) == ["passed"] * 3
        times.append(time.monotonic() - began)
        time.sleep(2)
    assert times[-1] < times[0] - 0.5, times


def test_an_edit_of_the_course_is_seen_and_so_is_the_servers_end(supply, tmp_path):
    write_workbook()
    assert states(checked(supply)) == ["passed"] * 3
    before = supply.server
    path = tmp_path / "lessons" / "exercises" / "lesson_01.py"
    path.write_text(path.read_text(encoding="utf-8").replace("oracle=lambda x: torch.cumsum(x, 0)", "oracle=None"))
    assert states(checked(supply)) == ["passed"] * 3
    assert supply.server is not before and before.process.returncode is not None
    supply.server.process.kill()
    supply.server.process.wait()
    assert states(checked(supply)) == ["passed"] * 3, "one that was killed is replaced"


def test_a_server_that_dies_unseen_costs_no_check(supply, monkeypatch):
    monkeypatch.setattr(sandbox.Server, "is_current", lambda self: True)
    write_workbook()
    supply.server.process.kill()
    assert states(checked(supply)) == ["passed"] * 3, "a plain child does it"


def test_without_forking_the_next_child_prepares_before_it_is_asked(monkeypatch):
    """As on Windows and on a Mac."""
    monkeypatch.setattr(sandbox, "CAN_FORK", False)
    write_workbook()
    plain = sandbox.Supply(1)
    try:
        assert plain.server is None
        first = plain.sandbox()
        assert first.process.args[-2] == "1" and isinstance(first.process, subprocess.Popen)
        assert states(first.check(1, book.workbook_path(1), every=True)) == ["passed"] * 3
        plain.prepare()
        waiting = plain.spare
        assert plain.sandbox() is waiting
        waiting.close()
    finally:
        plain.close()
