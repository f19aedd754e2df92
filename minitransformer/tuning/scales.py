"""IA³: three trained vectors a layer, which scale what is there.

    k ← l_k ⊙ k,   v ← l_v ⊙ v,   FFN(x) = W_down (l_ff ⊙ σ(W_up x))

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning" (2022), §3.3. None
of the five documents has it; it is here because no method with fewer parameters still reaches into every layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.models.attention import Attention, Stacked
from minitransformer.models.layers import FeedForward
from minitransformer.tuning.bases import Base, module_of
from minitransformer.tuning.merge import Mergeable


class IA3(Mergeable):
    """Train factors for keys, values and the inside of the feed-forward layers; all are 1 at first."""

    examples = {"ia3": {}}

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.ParameterDict()  # the sublayer's name with / for . → l_k and l_v (2·C), or l_ff (d_ff)

    def build(self, base: Base) -> None:
        """The vectors of each sublayer."""
        for name, module in base.named_modules():
            if isinstance(module, Attention):
                self.factors[name.replace(".", "/")] = nn.Parameter(torch.ones(2 * base.config.d_model))
            elif isinstance(module, FeedForward):
                self.factors[name.replace(".", "/")] = nn.Parameter(torch.ones(base.config.d_ff))

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Scale keys and values where they come out, and the inside of a feed-forward layer where it goes on."""

        def scale_qkv(name: str, qkv: Stacked, args: tuple, output: Tensor) -> Tensor:
            return output * with_queries(self.factors[name])[qkv.rows(*args[1:])].to(output.dtype)

        def scale_inside(name: str, down: nn.Module, args: tuple) -> Tensor:
            return args[0] * self.factors[name].to(args[0].dtype)

        handles = []
        for name in self.factors:
            sublayer = module_of(base, name)
            if isinstance(sublayer, Attention):
                # In front of other hooks: an infix replaces keys and values, whatever scaled them before.
                handles.append(sublayer.qkv.register_forward_hook(partial(scale_qkv, name), prepend=True))
            else:
                handles.append(sublayer.down.register_forward_pre_hook(partial(scale_inside, name)))
        return handles

    def new_weights(self, base: Base) -> dict[nn.Parameter, Tensor]:
        """Scaled rows of W^K and W^V with their biases, scaled columns of W_down."""
        weights: dict[nn.Parameter, Tensor] = {}
        for name, factor in self.factors.items():
            sublayer = module_of(base, name)
            if isinstance(sublayer, Attention):
                qkv: Any = sublayer.qkv
                factor = with_queries(factor)
                weights[qkv.weight] = qkv.weight * factor[:, None]
                weights[qkv.bias] = qkv.bias * factor
            else:
                weights[sublayer.down.weight] = sublayer.down.weight * factor
        return weights


def with_queries(factor: Tensor) -> Tensor:
    """l_k and l_v (2·C), with ones for the queries in front of them (3·C)."""
    return torch.cat([factor.new_ones(len(factor) // 2), factor])
