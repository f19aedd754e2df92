"""Adapters (适配器): small trained layers inside the frozen ones (Houlsby et al. 2019; 001 §3.1.2 and §3.2).

    h = Sublayer(x),   z = σ(W_down h),   o = W_up z + h,   W_down (r, d), W_up (d, r), r ≪ d

001 §3.1.2 gives W_down the shape d × r and multiplies it from the left, which only fits h as a row; PyTorch keeps the
transposed matrix. An adapter stands inside the sublayer, before its result is added to the stream and normalised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.attention import Attention
from minitransformer.models.layers import FeedForward
from minitransformer.tuning.method import Base, Method, check_count, setting

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
INITS = ("zero", "normal", "xavier")


class Bottleneck(nn.Module):
    """W_up σ(W_down h) with a ReLU for σ: what an adapter adds.

    Args:
        d_model: d, which is C.
        width: r, the bottleneck (瓶颈维度).
        init: "zero", W_up = 0: at first nothing is added at all; "normal", both of standard deviation 0.01, as Houlsby
            et al. have it: almost nothing; "xavier", of variance 2 / (d_in + d_out), as 001 §3.2.2 has it.
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
        """f(x) = W_up σ(W_down x), (B, T, C) → (B, T, C), without x itself: whoever asks adds it.

        W_down and W_up are self.down and self.up, with their biases; σ is F.relu.
        """
        return self.up(F.relu(self.down(x)))


class Adapter(Method):
    """Train bottlenecks in every layer, and nothing else.

    Args:
        width: r.
        placement: "houlsby", after each attention and each feed-forward layer (001 §3.2.1); "pfeiffer", after the
            feed-forward layer alone; "parallel", beside the feed-forward layer, from what it reads (He et al. 2022).
        init: as in `Bottleneck`.
        scale: what is added is multiplied by it (He et al. take 4 for parallel adapters).
        norms: train a factor and a shift for each number that a layer's norms give, too, as Houlsby et al. do.

    Raises:
        UserError: a width that is no whole number from 1 on, a placement or an init that there is not.
    """

    place = "sublayers"
    scale = setting("scale", "What is added is multiplied by it.")

    def __init__(
        self, width: int = 8, placement: str = "houlsby", init: str = "zero", scale: float = 1.0, norms: bool = False
    ) -> None:
        super().__init__(width=width, placement=placement, init=init, scale=scale, norms=norms)
        check_count("width", width, "a bottleneck has at least one number")
        for name, value, known in (("placement", placement, PLACEMENTS), ("init", init, INITS)):
            if value not in known:
                raise UserError(f"{name} = {value!r}: it has to be one of {', '.join(known)}.")
        self.width, self.placement, self.init, self.norms = width, placement, init, norms
        self.bottlenecks = nn.ModuleDict()  # the sublayer's name with / for . → what it adds
        self.factors = nn.ParameterDict()  # the norm's name with / for . → factor and shift, (2, C)

    def build(self, base: Base) -> None:
        """A bottleneck for each sublayer that gets one, each with numbers of its own: Bottleneck(C, width, init).

        C is base.config.d_model; the rest is the method's own: self.width, self.init, self.placement, self.norms. With
        the placement "houlsby" the sublayers are all `Attention` and `FeedForward` modules of the base, else the
        `FeedForward` ones alone. A module's key in self.bottlenecks is its name in the base, with / in the place of
        each dot: "blocks/0/mlp". With norms, every nn.LayerNorm in a layer (in `blocks`, `encoder` or `decoder`; not
        the one behind them) gets an nn.Parameter (2, C) in self.factors, under a key of the same form: a row of
        factors and a row of shifts, which change nothing at first, whatever the norm itself has learned.
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

    def install(self, base: Base) -> Iterable[Any]:
        """Let each bottleneck add to what its sublayer gives, scale · f(·); gives the handles.

        f is a bottleneck. It reads what the sublayer gives, or, where self.placement is "parallel", what the sublayer
        reads. `add(bottleneck)` makes its hook: a function that PyTorch calls with (module, args, output), args the
        tuple of what the module was called with, and whose answer takes output's place. The scale is self.scale, which
        may be changed later.
        """

        # ⟨answer⟩
        def add(bottleneck: Bottleneck) -> Any:
            def hook(sublayer: nn.Module, args: tuple, output: Tensor) -> Tensor:
                read = args[0] if self.placement == "parallel" else output  # (B, T, C)
                return output + self.scale * bottleneck(read)  # (B, T, C)

            return hook

        # ⟨/answer⟩

        def stretch(factor: Tensor) -> Any:
            return lambda norm, args, output: output * factor[0] + factor[1]

        hooks = [(name, add(bottleneck)) for name, bottleneck in self.bottlenecks.items()]
        hooks += [(name, stretch(factor)) for name, factor in self.factors.items()]
        return [base.get_submodule(name.replace("/", ".")).register_forward_hook(hook) for name, hook in hooks]
