"""What `make bench` says of a busy laptop is computed from the speeds that it measures."""

import re
import subprocess
from types import SimpleNamespace

from minitransformer.course import bench, bootstrap


def test_a_busy_laptop_in_two_figures(monkeypatch, capsys):
    neighbours = []  # the busy programs that run

    class Busy:
        def __init__(self, _):
            neighbours.append(self)

        def kill(self):
            neighbours.remove(self)

        def wait(self):
            pass

    def run(command, env, **_):
        calm = set(bootstrap.SPIN) <= set(env)
        assert calm or not set(bootstrap.SPIN) & set(env)
        speed = {(False, 0): 30, (False, 1): 9, (True, 0): 28.5, (True, 1): 16}[calm, len(neighbours)]
        return SimpleNamespace(stdout=f"{speed}\n")

    monkeypatch.setattr(subprocess, "Popen", Busy)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    bench.busy_laptop(3)
    rows = [re.findall(r"[\d.]+(?= |%|$)", line) for line in capsys.readouterr().out.splitlines() if "settings" in line]
    assert rows == [["30.0", "9.0", "100", "45"], ["28.5", "16.0", "95", "80"]]
    assert not neighbours, "a busy program was left running"


def test_steps_are_counted():
    assert bench.steps_per_second(1, seconds=0.05) > 0
