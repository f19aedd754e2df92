"""IA³: three trained vectors a layer, which scale what is there (Liu et al. 2022, "T-Few").

    k ← l_k ⊙ k,   v ← l_v ⊙ v,   FFN(x) = W_down (l_ff ⊙ σ(W_up x))

None of the five documents has it; it is here because it is the fewest numbers that still reach into every layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.models.attention import Attention
from minitransformer.models.layers import FeedForward
from minitransformer.tuning.merge import Mergeable
from minitransformer.tuning.method import Base


class IA3(Mergeable):
    """Train factors for keys, values and the inside of the feed-forward layers; all are 1 at first."""

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

    def hooks(self, base: Base) -> Iterable[Any]:
        """Scale keys and values where they come out, and the inside of a feed-forward layer where it goes on."""
        handles = []
        for name, factor in self.factors.items():
            sublayer = base.get_submodule(name.replace("/", "."))
            if isinstance(sublayer, Attention):

                def out(qkv: nn.Module, args: tuple, output: Tensor, factor: Tensor = factor) -> Tensor:
                    return output * _for_qkv(factor)[qkv.rows(*args[1:])]

                # In front of other hooks: an infix replaces keys and values, whatever scaled them before.
                handles.append(sublayer.qkv.register_forward_hook(out, prepend=True))
            else:

                def into(down: nn.Module, args: tuple, factor: Tensor = factor) -> Tensor:
                    return args[0] * factor

                handles.append(sublayer.down.register_forward_pre_hook(into))
        return handles

    def new_weights(self, base: Base) -> dict[nn.Parameter, Tensor]:
        """Scaled rows of W^K and W^V with their biases, scaled columns of W_down."""
        weights = {}
        for name, factor in self.factors.items():
            sublayer = base.get_submodule(name.replace("/", "."))
            if isinstance(sublayer, Attention):
                qkv = sublayer.qkv
                weights[qkv.weight] = qkv.weight * _for_qkv(factor)[:, None]
                weights[qkv.bias] = qkv.bias * _for_qkv(factor)
            else:
                weights[sublayer.down.weight] = sublayer.down.weight * factor
        return weights


def _for_qkv(factor: Tensor) -> Tensor:
    """l_k and l_v (2·C), with ones for the queries in front of them."""
    return torch.cat([factor.new_ones(len(factor) // 2), factor])
