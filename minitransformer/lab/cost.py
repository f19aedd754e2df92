"""What tuning costs: time and memory of a step of training, time of a written token, bytes to keep (000 §1.3, §2.2).

All methods run in one process, in turn, on the same batches: a machine's speed drifts by a factor of two within
minutes, which hits neighbours alike. What is told is the median over the rounds.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from minitransformer.gpt import GPT
from minitransformer.sampling import generate
from minitransformer.training import Batch, TrainConfig, language_model_loss, make_optimizer
from minitransformer.tuning import Adapter, FullFineTuning, LoRA, Method, PrefixTuning, PromptTuning

METHODS: Mapping[str, Callable[[], Method]] = {
    "full": FullFineTuning,
    "prefix": lambda: PrefixTuning(10, reparametrise=256),
    "prefix, direct": lambda: PrefixTuning(10),
    "prompt": lambda: PromptTuning(44),
    "adapter": lambda: Adapter(10),
    "LoRA": lambda: LoRA(11),
}
QUANTITIES = {
    "step": "milliseconds of a step of training: forward, backward, Adam",
    "token": "milliseconds of a token that is written, one text at a time, greedily",
    "memory": "MB that training holds beside the weights: gradients and Adam's two moments of what is trained",
    "kept": "MB that are stored for the task",
}
FLOAT = 4  # bytes


def costs(
    base: GPT, batches: Callable[[int], Batch], prompts: Sequence[list[int]], rounds: int = 20, most: int = 40
) -> dict[str, float]:
    """Every quantity of every method, as "prefix step".

    Args:
        base: tuned in copies; it stays as it is.
        batches: batch number i.
        prompts: one is written on in each round.
        rounds: of each measurement, after one that is not counted.
        most: tokens that are written.
    """
    steps, writers, found = {}, {}, {}
    for name, make in METHODS.items():
        model = copy.deepcopy(base)
        method = make().attach(model)
        report = method.report()
        found[f"{name} memory"] = 3 * report.trained * FLOAT / 1e6
        found[f"{name} kept"] = report.stored * FLOAT / 1e6
        steps[name] = training_step(model, batches)
        writers[name] = lambda i, model=model: generate(model, [prompts[i % len(prompts)]], most)
    for quantity, functions, per in (("step", steps, 1), ("token", writers, most)):
        for name, seconds in in_turn(functions, rounds).items():
            found[f"{name} {quantity}"] = 1e3 * statistics.median(seconds) / per
    return found


def training_step(model: GPT, batches: Callable[[int], Batch]) -> Callable[[int], None]:
    """Step number i of training, as `train` does it."""
    optimizer = make_optimizer(model, TrainConfig(steps=1, lr=1e-4))
    tuned = [p for p in model.parameters() if p.requires_grad]

    def step(i: int) -> None:
        loss, count = language_model_loss(model.train(), batches(i))
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.eval()

    return step


def in_turn(functions: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each function took in each round; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function(i)
            if i:
                seconds[name].append(time.perf_counter() - began)
    return seconds
