"""Where to compute and how precisely: what --device and --precision say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.text.batches import Batch
from minitransformer.training.losses import Loss

DEVICES = ("cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16")


def check(device: str, precision: str = "fp32") -> None:
    """Refuse a device that this machine does not have, and a precision that the device does not have.

    Raises:
        UserError: saying which there are.
    """
    if device not in DEVICES:
        raise UserError(f"--device {device}: there are {', '.join(DEVICES)}.")
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: there are {', '.join(PRECISIONS)}.")
    try:
        torch.ones(1, device=device)  # first, because autocast warns of a device that is not there
        with autocast(device, precision):
            nn.functional.linear(*torch.ones(2, 1, 1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"--device {device} is not to be had here with {precision}: {reason}.") from error


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Matrix products in bfloat16 while the block lasts, where `precision` is "bf16"; the weights stay in float32."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


def lowered(loss: Loss, device: str, precision: str) -> Loss:
    """A loss whose matrix products are in this precision; a state of training tells the two apart by their names."""
    if precision == "fp32":
        return loss

    @functools.wraps(loss)
    def low(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        with autocast(device, precision):
            return loss(model, batch)

    low.__qualname__ = f"{getattr(loss, '__qualname__', type(loss).__name__)} in {precision}"
    return low


def on_device(batches: Callable[[int], Batch], device: str) -> Callable[[int], Batch]:
    """A source of batches, each brought to the device."""
    return lambda i: moved([batches(i)], device)[0]


def moved(batches: Sequence[Batch], device: str) -> list[Batch]:
    """Batches brought to the device."""
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
