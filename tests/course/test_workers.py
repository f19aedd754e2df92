"""Two processes: they give what one gives, a stop ends them at once, and none goes on when the program is gone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from minitransformer.course.workers import for_each
from minitransformer.errors import UserError
from tests.conftest import ROOT


def double(n: int) -> int:
    time.sleep(0.2 * (n == 0))  # the first ends last
    return 2 * n


def fail(n: int) -> int:
    if n == 1:
        raise UserError("The loss became nan.")
    time.sleep(900)
    return n


def die(n: int) -> int:
    os._exit(9)


def beat(n: int) -> None:
    """Beats every tenth of a second for half a minute."""
    for _ in range(300):
        time.sleep(0.1)
        with open(os.environ["HEART"], "a") as file:
            file.write(str(n))


def test_results_stand_in_the_order_of_the_items():
    assert for_each(double, range(4)) == [0, 2, 4, 6]


def test_the_first_error_ends_the_others_and_is_told():
    began = time.time()
    with pytest.raises(UserError, match="The loss became nan"):
        for_each(fail, [0, 1, 2, 3])
    assert time.time() - began < 600, "the neighbours ran on to their end"


def test_a_killed_process_ends_in_a_sentence():
    with pytest.raises(UserError, match="A process was killed.*while it worked on .*the same command goes on"):
        for_each(die, [0, 1])


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize(
    "kill, whole_group",
    [
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow, id="Ctrl-C"),
        pytest.param(signal.SIGINT, True, id="Ctrl-C in a terminal, which its group gets"),
        pytest.param(signal.SIGKILL, False, marks=pytest.mark.slow, id="kill"),
    ],
)
def test_a_stop_ends_all_work_and_begins_no_more(tmp_path, kill, whole_group):
    heart = tmp_path / "heart"
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.course.test_workers import *; for_each(beat, list(range(6)))"],
        cwd=ROOT,
        env={**os.environ, "HEART": str(heart)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.time() + 120
    while time.time() < end and not (heart.is_file() and len(set(heart.read_text())) == 2):
        time.sleep(0.05)
    os.killpg(process.pid, kill) if whole_group else process.send_signal(kill)
    assert process.wait(timeout=20) != 0
    time.sleep(1)
    beats = heart.read_text()
    time.sleep(0.5)
    assert heart.read_text() == beats, "work goes on after the program has ended"
    assert set(beats) == {"0", "1"}, "a stop made a process take the next item"
