"""How speed is measured: what is compared runs in turn, in one process, A B A B …

A laptop's speed drifts by a factor of two within minutes, which hits neighbours alike: their ratio survives it, where a
time does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from minitransformer.training.loop import TrainConfig, make_optimizer
from minitransformer.training.progress import progress as progress_bar


def in_turn(
    functions: Mapping[str, Callable[[int], object]], rounds: int, progress: bool = False
) -> dict[str, list[float]]:
    """Seconds that each function took in each round; the first round is not counted.

    Args:
        functions: by name; each is called with the number of the round, from 0.
        rounds: that are counted.
        progress: whether a terminal shows a bar.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in progress_bar(range(rounds + 1), unit="round", leave=False, disable=None if progress else True):
        for name, function in functions.items():
            began = time.perf_counter()
            function(i)
            if i:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def update(model: nn.Module, mean_loss: Callable[[int], Tensor], lr: float = TrainConfig.lr) -> Callable[[int], None]:
    """Step number i of training, as `train` does it: gradients of mean_loss(i), clipping, Adam."""
    optimizer = make_optimizer(model, TrainConfig(steps=1, lr=lr))
    tuned = [p for p in model.parameters() if p.requires_grad]

    def step(i: int) -> None:
        mean_loss(i).backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
