"""Training in several processes, by PyTorch's own data parallelism.

Where `torch.distributed` knows of several processes (torchrun starts them), each has the whole model and takes its own
rows of every batch. `DistributedDataParallel` adds their gradients up while they are computed, so that every process
makes the same update. The seam to the training loop is the loss: `over_all_rows` makes of a loss over the rows at hand
one over the rows of all processes. Alone, nothing here does anything.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, Batch
from minitransformer.training.losses import Loss


class OtherProcessEnded(UserError):
    """The processes of a training end together: each has a part of every batch."""


def is_alone() -> bool:
    """Whether there is no other process."""
    return not (dist.is_available() and dist.is_initialized())


def is_first() -> bool:
    """Whether this process is the one that prints and writes files."""
    return is_alone() or dist.get_rank() == 0


def lost_another(error: RuntimeError) -> bool:
    """Whether an error means that another process is gone."""
    return not is_alone() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def own_rows(batch: Batch, rank: int, size: int) -> tuple[Batch, bool]:
    """The rows number rank, rank + size, … of a batch, and whether there are any.

    A process for which no row is left gets the first one, which it has to count for nothing: it takes part in every
    exchange. "whole" says how many labels and rows the batch has in all, for a loss that weighs one by the other.
    """
    n_rows = len(next(iter(batch.values())))
    rows = slice(rank, None, size) if rank < n_rows else slice(0, 1)
    part = {name: value[rows] for name, value in batch.items()}
    if "labels" in batch:
        part["whole"] = torch.tensor([int((batch["labels"] != IGNORE).sum()), n_rows])
    return part, rank < n_rows


class _LossOf(nn.Module):
    """A loss as a module, for DistributedDataParallel: all that needs the parameters happens in its forward."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        return self.loss(self.model, batch)


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes, with a gradient that makes up for the mean that DistributedDataParallel takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * dist.get_world_size()


def over_all_rows(model: nn.Module, loss: Loss) -> Loss:
    """The loss over the rows of all processes: each computes its own, and all get the same sums and gradients.

    A loss is a sum over labels, so the gradient that is wanted is the sum over the processes. DistributedDataParallel
    gives the parameters the mean over the processes of their gradients; `_SumOverProcesses` multiplies by their number.

    Dropout is drawn in each process by itself, from a seed that all have in common: the random state outside stays the
    same everywhere, and a checkpoint holds it.

    The first process's weights are given to all. What comes back is called by all processes at once, with the same
    batch; alone, it is `loss` itself.

    Source: PyTorch Distributed: Experiences on Accelerating Data Parallel Training (Li et al., 2020), §3.
    """
    if is_alone():
        return loss
    rank, size = dist.get_rank(), dist.get_world_size()
    alone = _LossOf(model, loss)
    # A frozen base that fully_shard has cut into parts exchanges them itself.
    parts = [name for name, p in alone.named_parameters() if hasattr(p, "full_tensor")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(alone, parts)
    # Where the graph is known to stay the same, parameters that the loss does not reach are no error.
    module = DistributedDataParallel(alone, static_graph=True)

    def over_all(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        part, counts = own_rows(batch, rank, size)
        seed = int(torch.randint(2**62, ()))
        cuda = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(seed + rank)
            total, n = module(part)
        count = torch.tensor(n * counts, device=total.device)
        dist.all_reduce(count)
        return _SumOverProcesses.apply(total.double() * counts), int(count)

    return over_all
