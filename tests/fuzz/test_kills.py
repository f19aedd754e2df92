"""kill -9 at moments that a seed chooses: nothing is lost, no half file is in the way, and the end is the same."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from minitransformer.course.lab.store import Store
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]

TRAINING = """
import sys, torch
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning import PrefixTuning

class Batches:
    def __call__(self, i):
        return {"ids": torch.randint(40, (4, 17), generator=torch.Generator().manual_seed(i))}

torch.manual_seed(0)
base = GPT(GPTConfig(vocab_size=40, n_positions=24, n_layer=2, n_head=2, d_model=8, d_ff=16, dropout=0.1))
method = PrefixTuning(3).attach(base)
config = TrainConfig(200, lr=1e-2, warmup=10, eval_every=40, checkpoint_every=1)
train(base, Batches(), config, valid=[Batches()(-1)], checkpoint=sys.argv[1] + ".state", progress=False)
method.save(sys.argv[1])
"""

LABORATORY = """
import sys
from dataclasses import replace
from pathlib import Path
from minitransformer.course.lab.store import Store
from tests.course.lab.helpers import MADE_UP, TABLES, fake_row

store = Store(Path(sys.argv[1]))
for seed in range(100):
    cell = replace(TABLES, seed=seed)
    if store.row(cell) is None:
        store.add(fake_row(cell, MADE_UP))
"""

WORKBOOK = """
import sys
from pathlib import Path
from minitransformer.course import show
from minitransformer.course.workbook.progress import Progress

show.ROOT = Path(sys.argv[1]).parent.parent
for number in range(1, 41):
    for hints in range(1, 6):
        if Progress()[f"{number}.1"].hints < hints:
            Progress().set(f"{number}.1", hints=hints)
"""


def start(program: str, path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    ("program", "name"),
    [(TRAINING, "prefix.safetensors"), (LABORATORY, "rows.jsonl"), (WORKBOOK, "workbook/progress.txt")],
    ids=["training", "laboratory", "workbook"],
)
def test_a_program_that_is_killed_again_and_again_comes_to_the_same_end(tmp_path, program, name):
    straight, killed = tmp_path / "straight" / name, tmp_path / "killed" / name
    for path in (straight, killed):
        path.parent.mkdir(parents=True)
    process = start(program, straight)
    assert process.wait(timeout=300) == 0
    dice, kills = random.Random(name), 0
    first = ".state" if program is TRAINING else ""
    while kills < 4:
        process = start(program, killed)
        grown = killed.with_name(killed.name + first)
        before = grown.stat().st_mtime_ns if grown.exists() else 0
        while process.poll() is None and (grown.stat().st_mtime_ns if grown.exists() else 0) == before:
            time.sleep(0.002)  # it has begun to write
        time.sleep(dice.uniform(0, 0.15))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert start(program, killed).wait(timeout=300) == 0
    assert kills >= 2, f"{kills} kills: the test stopped too little"
    assert killed.read_bytes() == straight.read_bytes(), "the kills changed the outcome"
    left = [path.name for path in killed.parent.iterdir() if path.name.endswith(".tmp")]
    assert not left, f"files aside were left: {left}"
    if name == "rows.jsonl":
        assert len(Store(killed).rows) == 100


def test_two_laboratories_at_once_lose_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    halves = [LABORATORY.replace("range(100)", f"range({first}, {first + 40})") for first in (0, 40)]
    processes = [start(half, path) for half in halves]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert len(Store(path).rows) == 80
