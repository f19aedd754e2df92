"""A command in several processes: `torchrun --nproc_per_node=2 -m minitransformer tune …` and `… pretrain …`.

How they train together stands in `minitransformer.training.processes`. Here they meet, and end together.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from minitransformer.errors import UserError
from minitransformer.training.processes import OtherProcessEnded, is_alone, lost_another


@contextmanager
def joined(device: str = "cpu") -> Iterator[None]:
    """Work together with the processes that torchrun started, while the block lasts; without torchrun, alone.

    Args:
        device: where they compute; with "cuda" each takes a GPU of its own.

    Raises:
        UserError: a device that several processes cannot share.
        OtherProcessEnded: another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if device == "mps":
        raise UserError("--device mps goes with one process: start the command without torchrun.")
    if device == "cuda":
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:
            raise UserError(f"There are {here} processes on this machine and {gpus} GPUs: each process needs its own.")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    before = signal.signal(signal.SIGTERM, _end)  # torchrun's way to end a process when another one has ended
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    except RuntimeError as error:
        if lost_another(error):
            _end()
        raise
    finally:
        dist.destroy_process_group()
        signal.signal(signal.SIGTERM, before)


def _end(*_: object) -> None:
    raise OtherProcessEnded("Another process of this training has ended, so this one ends too.")


def of_the_first(value: Any) -> Any:
    """What the first process has, in every process: anything that can be pickled. Who is early waits for it."""
    if is_alone():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def share_out(base: nn.Module, device: str = "cpu") -> None:
    """Let each process hold only its part of a frozen base that a method is on: for a base that does not fit.

    A layer's weights are gathered when the layer computes, and let go afterwards. What is tuned stays whole everywhere.
    It cannot be undone.

    Args:
        base: with a method attached.
        device: where it computes; the base's weights may still be on the CPU.

    Source: Zhao et al., PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, 2023, §3.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (dist.get_world_size(),))
    tuned = {p for p in base.parameters() if p.requires_grad}
    for p in tuned:
        p.data = p.data.to(device)
    stacks = [stack for name, stack in base.named_children() if isinstance(stack, nn.ModuleList) and name != "tuning"]
    for layer in [layer for stack in stacks for layer in stack]:
        fully_shard(layer, mesh=mesh)
    fully_shard(base, mesh=mesh, ignored_params=tuned)
