"""Many cells: each runs once, a failed one is named, a run that was stopped goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from minitransformer.course.lab import pool
from minitransformer.course.lab.cells import Cell
from minitransformer.course.lab.experiment import Arm, Search
from minitransformer.course.lab.pool import carry_out, measure, progress, work
from minitransformer.course.lab.store import Store
from minitransformer.errors import UserError
from minitransformer.tuning import LoRA
from tests.conftest import ROOT
from tests.course.lab.helpers import TABLES, fake_row, use_tiny_bases


@pytest.fixture
def tiny(monkeypatch):
    """Cells run on tiny random bases in the place of the committed ones."""
    use_tiny_bases(monkeypatch)


@pytest.fixture
def threads(monkeypatch, tiny):
    """Two threads in the place of two processes, which take seconds to start."""
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))


MANY = [replace(TABLES, seed=seed) for seed in range(8)]


def quick_run(cell: Cell) -> dict:
    """A cell that is no work."""
    return fake_row(cell)


def slow_run(cell: Cell) -> dict:
    """Beats every tenth of a second while it runs: the first cell for half a second, the others for longer."""
    for _ in range(5 if cell.seed == 0 else 30):
        time.sleep(0.1)
        with open(os.environ["HEART"], "a") as file:
            file.write(".")
    return fake_row(cell)


def failing_run(cell: Cell) -> dict:
    if cell.seed == 3:
        raise UserError("The loss became nan.")
    if cell.seed == 5:
        raise ZeroDivisionError("division by zero")
    return fake_row(cell)


def dying_run(cell: Cell) -> dict:
    os._exit(9)


def run_all(path: Path, run, which=MANY) -> dict:
    with progress(which) as bar:
        return measure(which, Store(path), bar, run)


def test_every_cell_runs_once(threads, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    assert run_all(path, quick_run) == {}
    assert [row["cell"]["seed"] for row in Store(path).rows] == list(range(8))
    total = sum(map(work, MANY))
    assert f"{total}/{total}" in capsys.readouterr().err, "the bar does not arrive at the last cell"
    before = path.read_bytes()
    assert run_all(path, dying_run) == {}, "a finished cell ran again"
    assert path.read_bytes() == before


def test_a_failed_cell_is_named_and_the_others_go_on(threads, tmp_path, capsys):
    failed = run_all(tmp_path / "a.jsonl", failing_run)
    assert {json.loads(key)["seed"] for key in failed} == {3, 5}
    assert [row["cell"]["seed"] for row in Store(tmp_path / "a.jsonl").rows] == [0, 1, 2, 4, 6, 7]
    told = capsys.readouterr().err
    assert "Failed: table_to_text, LoRA(rank=2), lr 0.01, seed 3, 3 steps. UserError: The loss became nan." in told
    assert "seed 5, 3 steps. ZeroDivisionError" in told


def test_a_killed_process_ends_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="was killed, perhaps because memory ran out.*the same command goes on"):
        run_all(tmp_path / "a.jsonl", dying_run, MANY[:2])


def test_a_disk_that_is_full_is_no_failed_cell(threads, tmp_path, monkeypatch):
    def full(self, row):
        raise UserError("The disk is full.")

    monkeypatch.setattr(Store, "add", full)
    with pytest.raises(UserError, match="The disk is full"):
        run_all(tmp_path / "a.jsonl", quick_run, MANY[:2])


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("kill", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch, kill):
    path, heart = tmp_path / "a.jsonl", tmp_path / "heart"
    program = f"from tests.course.lab.test_pool import *; run_all(Path({str(path)!r}), slow_run)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "HEART": str(heart)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.time() + 120
    while time.time() < end and not path.is_file():
        time.sleep(0.05)
    process.send_signal(kill)
    process.wait(timeout=20)
    time.sleep(1)
    beats = heart.stat().st_size
    time.sleep(0.5)
    assert heart.stat().st_size == beats, "cells go on running after the program has ended"
    before = Store(path).rows
    assert 0 < len(before) < len(MANY), f"{len(before)} of {len(MANY)} cells: the test stopped nothing"
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    assert run_all(path, quick_run) == {}
    run_all(tmp_path / "b.jsonl", quick_run)
    assert path.read_bytes() == (tmp_path / "b.jsonl").read_bytes(), "a run that was stopped gives other rows"


# ------------------------------------------------------------------------------------ arms

SEARCH = Search("table_to_text", LoRA(2), 1e-2, steps=3, n_scored=3)
ARMS = [
    Arm("found", "table_to_text", LoRA(2), SEARCH, steps=4),
    Arm("found, larger", "table_to_text", LoRA(3), SEARCH, steps=4),
    Arm("given", "table_to_text", LoRA(2), 0.5, steps=4, seeds=(0,)),
]


def noted(cell: Cell, order: list) -> dict:
    order.append(cell)
    return fake_row(cell, loss=abs(cell.lr - 3e-2))


def test_searches_run_once_and_before_what_they_decide(threads, tmp_path, capsys):
    order: list[Cell] = []
    store = Store(tmp_path / "a.jsonl")
    carry_out(ARMS, store, partial(noted, order=order))
    assert sorted(cell.lr for cell in order[:3]) == [3e-3, 1e-2, 3e-2]
    assert {cell.split for cell in order[:3]} == {"valid"}
    assert len(order) == len({cell.key for cell in order}) == 3 + 5 + 5 + 1, "a cell ran twice, or one is missing"
    assert all(row["cell"]["lr"] == 3e-2 for arm in ARMS[:2] for row in arm.rows(store)), "the lowest loss was at 0.03"
    assert [row["cell"]["lr"] for row in ARMS[2].rows(store)] == [0.5]
    total = sum(map(work, order))
    assert f"{total}/{total}" in capsys.readouterr().err, "the bar does not know how much work there is"
    carry_out(ARMS, store, dying_run)


def test_where_the_search_fails_nothing_is_measured_with_a_rate_that_was_not_found(threads, tmp_path):
    def run(cell: Cell) -> dict:
        if cell.lr == 3e-2:
            raise UserError("The loss became nan.")
        return fake_row(cell)

    store = Store(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="1 cell failed, as named above; the others are in a.jsonl"):
        carry_out(ARMS, store, run)
    assert ARMS[0].rows(store) is None and ARMS[0].cells(store) == [] and len(ARMS[2].rows(store)) == 1


def test_work_grows_with_what_a_cell_does():
    more = [{"steps": 3000}, {"batch": 2000}, {"n_scored": 100}, {"also": ("test_unseen",), "n_scored": 100}]
    sizes = [work(replace(TABLES, **change)) for change in ({}, *more)]
    assert min(sizes[1:4]) > sizes[0] > 0 and sizes[4] > sizes[3] > work(replace(TABLES, n_scored=100, write=False))
    assert work(replace(TABLES, n_scored=100, also=("abilities",))) == sizes[3], "abilities are no texts to be judged"
