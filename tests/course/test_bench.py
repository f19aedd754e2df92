"""What `make bench` says of a busy laptop is computed from the speeds that it measures."""

import re
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minitransformer.course import bench, bootstrap, device_bench
from minitransformer.course.devices import check
from minitransformer.errors import UserError
from minitransformer.training.loop import TrainConfig


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


def test_lesson_3_has_the_recipe_that_is_measured():
    lesson = next(bench.DATA.parent.glob("lessons/lesson_03_*.py")).read_text(encoding="utf-8")
    steps = int(re.search(r"steps = 40 if QUICK else (\d+)", lesson)[1])
    found = re.search(r"config = (TrainConfig\(.*\))", lesson)[1]
    config = eval(found, {"TrainConfig": TrainConfig, "steps": steps})
    assert replace(config, eval_every=0) == bench.LESSON_3
    assert "T, B = 64, 8" in lesson and bench.WINDOW == 64


@pytest.mark.parametrize(
    ("losses", "told"), [([4.0, 3.0, 2.0], "needs 2.5 times less"), ([4.0, 3.9, 3.8], "does not reach")]
)
def test_the_time_to_a_loss_is_read_off_two_curves(losses, told, monkeypatch, capsys):
    ours = [(10 * (i + 1), 8.0 * (i + 1), loss) for i, loss in enumerate(losses)]
    curves = {bench.NANO_GPT: [(10, 20.0, 4.0), (20, 40.0, 3.0)], bench.LESSON_3: ours}
    monkeypatch.setattr(bench, "_curve", lambda config, *_: curves[config])
    bench.to_a_loss(40.0)
    assert told in " ".join(capsys.readouterr().out.split())


def test_a_curve_ends_when_its_time_is_over():
    text = torch.arange(1000) % 7
    windows = bench.Windows(text, length=bench.WINDOW, batch_size=2, seed=0)
    valid = bench.eval_windows(text, length=bench.WINDOW, batch_size=2, most=2)
    curve = bench._curve(bench.LESSON_3, 7, windows, valid, seconds=0.05)
    assert curve[-1][1] >= 0.05 and all(spent < 0.05 for _, spent, _ in curve[:-1])
    assert [step for step, _, _ in curve] == [10 * (i + 1) for i in range(len(curve))]


def test_steps_are_counted():
    assert bench.steps_per_second(1, seconds=0.05) > 0


@pytest.mark.parity
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_gpu_would_be_measured_by_runs_on_a_cpu_in_small(precision, capsys):
    device_bench.main("cpu", precision, **device_bench.SMALL, backend="eager")
    lines = capsys.readouterr().out.splitlines()
    measured = ["minitransformer", "minitransformer, compiled", "transformers, compiled"]
    measured += ["prefix, minitransformer", "prefix, peft", "full, minitransformer", "minitransformer", "transformers"]
    for name in measured:
        assert any(re.match(rf"\W*{name}\W+[1-9]", line) for line in lines), f"no speed of {name}: {lines}"


def test_a_product_of_matrices_is_measured():
    setting = device_bench.Setting("cpu", "fp32", **device_bench.SMALL)
    assert 1e6 < device_bench.product_flops(setting) < 1e14


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device cuda is not to be had here with bf16: "):
        device_bench.main("cuda", "bf16")
    check("cpu", "bf16")
