"""Adapters (适配器): small trained layers inside the frozen ones (001 §3.1.2 and §3.2).

    h = Sublayer(x),   z = σ(W_down h),   o = W_up z + h,   W_down (r, d), W_up (d, r), r ≪ d

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (2019), §2.1. 001 §3.1.2 gives W_down the shape d × r
and multiplies it from the left, which only fits h as a row; PyTorch keeps the transposed matrix. An adapter stands
inside the sublayer, before its result is added to the stream and normalised.

AdapterHub's `adapters` library has configurations of the same names, of which two are other functions. Its "pfeiffer"
(`original_ln_before=True`) lets the bottleneck read Norm(h + stream) and adds what it gives to h; ours reads h itself,
as "houlsby" does in both. Its "parallel" reads the stream in front of the sublayer. In a BERT that is what the sublayer
reads; in a GPT a norm stands between, and ours reads what comes out of the norm.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checks import boolean, nonzero, one_of
from minitransformer.models.attention import Attention
from minitransformer.models.layers import FeedForward
from minitransformer.tuning.bases import Base, module_of
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting, size

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
INITS = ("zero", "normal", "xavier")


class Bottleneck(nn.Module):
    """W_up σ(W_down h) with a ReLU for σ: what an adapter adds. `width` is r, the bottleneck (瓶颈维度).

    `init` "zero" makes W_up = 0: at first nothing is added at all. "normal" draws both with standard deviation 0.01, as
    Houlsby et al. have it: almost nothing. "xavier" draws with variance 2 / (d_in + d_out), as 001 §3.2.2 has it.
    """

    def __init__(self, d_model: int, width: int, init: str) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, width)
        self.up = nn.Linear(width, d_model)
        for linear in (self.down, self.up):
            if init == "xavier":
                nn.init.xavier_normal_(linear.weight)
            elif init == "normal":
                nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)
        if init == "zero":
            nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """f(x) = W_up σ(W_down x), (B, T, C) → (B, T, C), without x itself: whoever asks adds it."""
        return self.up(F.relu(self.down(x)))


class Adapter(Method):
    """Train bottlenecks inside every layer.

    Placements: "houlsby", after each attention and each feed-forward layer (001 §3.2.1); "pfeiffer", after the
    feed-forward layer alone; "parallel", beside the feed-forward layer, from what it reads (He et al. 2022).
    """

    place = "sublayers"
    examples = {
        "houlsby": {"width": 4, "norms": True},
        "pfeiffer": {"width": 4, "placement": "pfeiffer", "init": "normal"},
        "parallel": {"width": 4, "placement": "parallel", "scale": 4.0},
    }

    width = Setting(size("a bottleneck has at least one unit"), "r.")
    placement = Setting(one_of(PLACEMENTS), "Which sublayers get a bottleneck, and what it reads.")
    init = Setting(one_of(INITS), "What a bottleneck begins as.")
    scale = Setting(
        nonzero("what is learned is multiplied by it"),
        "What is added is multiplied by it; He et al. take 4 for parallel adapters.",
        may_change=True,
    )
    norms = Setting(
        boolean(),
        "Whether a factor and a shift of each number that a layer's norms give are trained, as by Houlsby et al.",
    )

    def __init__(
        self, width: int = 8, placement: str = "houlsby", init: str = "zero", scale: float = 1.0, norms: bool = False
    ) -> None:
        super().__init__(width=width, placement=placement, init=init, scale=scale, norms=norms)
        self.bottlenecks = nn.ModuleDict()  # the sublayer's name with / for . → what it adds
        self.factors = nn.ParameterDict()  # the norm's name with / for . → factor and shift, (2, C)
        self.starts_as_base = init == "zero"  # W_up begins as 0

    def build(self, base: Base) -> None:
        """A bottleneck of its own for each sublayer that gets one, and factors for the norms of the layers, if asked.

        The sublayers are every `Attention` and `FeedForward` of the base, or the `FeedForward`s alone. A key in
        `bottlenecks` is the sublayer's name in the base with / in the place of each dot, "blocks/0/mlp"; so too in
        `factors`, (2, C), a row of ones and a row of zeros, for each nn.LayerNorm in a layer (in "blocks", "encoder" or
        "decoder"; not the one behind them).
        """
        sublayers = (Attention, FeedForward) if self.placement == "houlsby" else FeedForward
        for name, module in base.named_modules():
            key = name.replace(".", "/")
            if isinstance(module, sublayers):
                self.bottlenecks[key] = Bottleneck(base.config.d_model, self.width, self.init)
            in_layer = name.startswith(("blocks.", "encoder.", "decoder."))
            if self.norms and in_layer and isinstance(module, nn.LayerNorm):
                one = torch.ones(base.config.d_model)
                self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))  # (2, C)

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Let each bottleneck add to what its sublayer gives, and the factors stretch what their norms give."""

        def add(bottleneck: Any, sublayer: nn.Module, args: tuple, output: Tensor) -> Tensor:
            precision = bottleneck.down.weight.dtype  # which need not be the base's
            return self.adapted(bottleneck, args[0].to(precision), output.to(precision)).to(output.dtype)

        def stretch(name: str, norm: nn.Module, args: tuple, output: Tensor) -> Tensor:
            factor, shift = self.factors[name].to(output.dtype)
            return output * factor + shift

        hooks: list[Any] = [(key, partial(add, bottleneck)) for key, bottleneck in self.bottlenecks.items()]
        hooks += [(key, partial(stretch, key)) for key in self.factors]
        return [module_of(base, key).register_forward_hook(hook) for key, hook in hooks]

    def adapted(self, bottleneck: Bottleneck, x: Tensor, output: Tensor) -> Tensor:
        """output + scale · f(·): what a frozen sublayer gives, with what its bottleneck f adds, a new tensor.

        x is what the sublayer has read, `output` what it gives, (B, T, C) both. The bottleneck reads x if the placement
        is "parallel", and the output otherwise.
        """
        read = x if self.placement == "parallel" else output  # (B, T, C)
        return output + self.scale * bottleneck(read)  # (B, T, C)
