"""Looking at attention: a recorder of the weights that every layer computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from minitransformer.models.attention import Attention


@contextmanager
def watch_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the attention weights of every call inside the `with`: module's name → a list, (B, H, T, P + S) a call.

    The watched layers run on the formula, because the fused kernel never has the weights; dropout is not applied to
    them. One recorder can stand inside another, and each sees all calls that it encloses.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    for name, layer in layers.items():
        layer.watchers.append(seen[name])
    try:
        yield seen
    finally:
        for name, layer in layers.items():
            layer.watchers = [one for one in layer.watchers if one is not seen[name]]
