"""An infix (中缀微调): trained keys and values between x and y, z = [x; INFIX; y] (003 §4.2).

Li & Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (2021), §7.3. x stands before the infix and
cannot see it; y can. In the authors' code the infix keeps what its virtual tokens read, and adds to it; here, as in the
formula of 003 §3.3, h_i is P_θ[i, :] itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.models.gpt import GPT
from minitransformer.tuning.hooks import before_each_call, check_not_given, is_prefill
from minitransformer.tuning.method import Method
from minitransformer.tuning.prefix import REPARAMETRISE, PrefixEncoder, activations, new_encoder
from minitransformer.tuning.virtual import INIT, LENGTH, check_room, check_virtual, ids_to_start_from


class Infix(Method):
    """Train keys and values between x and y, at every layer of a GPT.

    The text says where: put `virtual_ids` after x. (In front of x it would be a prefix.) A text without them is
    refused.
    """

    place = "context"
    goes_onto = (GPT,)
    reads_virtual_ids = True
    examples = {"infix": {"length": 3}, "infix-mlp": {"length": 3, "reparametrise": 16}}
    when_loaded = {"init": "random"}
    renamed = {"table.": "encoder."}
    starts_as_base = False  # y reads it from the first

    length, reparametrise, init = LENGTH, REPARAMETRISE, INIT
    encoder: PrefixEncoder  # of P_θ, for all layers; None until it is made for a base

    def __init__(
        self, length: int = 10, reparametrise: int | None = None, init: str | Sequence[int] = "random"
    ) -> None:
        super().__init__(length=length, reparametrise=reparametrise, init=init)
        self.register_module("encoder", None)

    def build(self, base: GPT) -> None:  # type: ignore[override]  # the only kind that it goes onto
        """One encoder for all layers."""
        check_room(self.length, base)
        start = None
        if self.init != "random":
            start = activations(base, ids_to_start_from(self.init, self.length, base))["prefix"]
        self.encoder = new_encoder(base, len(base.blocks), self.length, self.reparametrise, start)

    def install(self, base: GPT) -> Iterable[RemovableHandle]:  # type: ignore[override]
        """Note where the virtual tokens are, and put their keys and values there in every layer."""
        running: dict[str, Tensor] = {}  # the ids of the call that is running, and P_θ

        def note(inputs: dict[str, Any]) -> dict[str, Any]:
            ids = inputs["ids"]  # (B, T)
            running.clear()
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, ["vectors"])
            check_virtual(ids, self.length, "an infix")
            running.update(ids=ids, flat=self.encoder())  # P_θ
            # They enter as zeros: others read their keys and values, which are replaced. Only what the last one says
            # about the next token is asked for, if y follows at once.
            word = base.token_embedding.weight
            return {**inputs, "vectors": word.new_zeros(self.length, word.size(1))}

        def put(i: int, module: nn.Linear, args: tuple, qkv: Tensor) -> Tensor | None:
            return replace_kv(qkv, running["ids"], running["flat"].to(qkv.dtype), i) if running else None

        hooks = [before_each_call(base, note)]
        block: Any
        for i, block in enumerate(base.blocks):
            hooks.append(block.attention.qkv.register_forward_hook(partial(put, i)))
        return hooks

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """P_θ itself, without the MLP that made it."""
        with torch.no_grad():
            return {**self.settings, "reparametrise": None, "init": "random"}, {"encoder.free": self.encoder()}


def replace_kv(qkv: Tensor, ids: Tensor, flat: Tensor, layer: int) -> Tensor:
    """What a layer's queries, keys and values become when virtual tokens bring keys and values of their own.

    Args:
        qkv: (B, T, 3·C), queries, keys and values side by side.
        ids: (B, T); -1 is virtual token number 0, -2 number 1, and so on. Words are 0 or more.
        flat: P_θ (P, L·2·C): a row for each virtual token, in it layer after layer a key and a value.
        layer: which layer it is, from 0.

    Gives a new tensor like qkv, with the keys and values of P_θ at the virtual tokens. Queries, and words, stay.
    """
    C = qkv.size(-1) // 3
    kv = flat[:, 2 * C * layer : 2 * C * (layer + 1)]  # (P, 2·C)
    number = (-1 - ids).clamp(min=0)  # (B, T)  which virtual token stands there; at a word it does not matter
    replaced = torch.where((ids < 0)[..., None], kv[number], qkv[..., C:])  # (B, T, 2·C)
    return torch.cat([qkv[..., :C], replaced], dim=-1)  # (B, T, 3·C)
