"""The package's fast paths, and the plain ones that run instead while a learner's function is in what they hide.

A fused kernel computes softmax(Q Kᵀ/√d) V without ever calling `attend_by_formula`; a learner's version of that
function would be in the package and never run. So when an exercise that a fast path hides is switched in, the plain
path below goes in with it, which is made of the functions that exercises teach. The lesson's reference run, with which
the losses are compared, takes the same paths: then equal functions give equal losses, to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from minitransformer.models import attention


def attend(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """`attention.attend` on the formula, with its mask made by `combined_mask`."""
    T, S = q.size(2), k.size(2)
    if causal:
        attention_mask = attention.combined_mask(T, T, S - T, True, None, q.device)
    y, weights = attention.attend_by_formula(q, k, v, attention_mask)  # (B, H, T, D), (B, H, T, S)
    return F.dropout(weights, dropout) @ v if dropout else y  # (B, H, T, D)


def no_decode_step(self: Any, cache: Any) -> None:
    """`GPT.decode_step` where there is none: generation goes through `forward`."""
    return None


@dataclass(frozen=True)
class Shortcut:
    """One fast path."""

    fast: str
    """The target that takes it."""
    plain: Any
    """What runs instead."""
    hides: tuple[str, ...]
    """Targets that it passes by; a module with a colon ("minitransformer.models.gpt:") stands for all of its."""


SHORTCUTS = (
    Shortcut(
        "minitransformer.models.attention:attend",
        attend,
        ("minitransformer.models.attention:attend_by_formula", "minitransformer.models.attention:combined_mask"),
    ),
    Shortcut(
        "minitransformer.models.gpt:GPT.decode_step",
        no_decode_step,
        (
            "minitransformer.models.attention:",
            "minitransformer.models.cache:",
            "minitransformer.models.layers:",
            "minitransformer.models.gpt:",
        ),
    ),
)


def plain_paths(replaced: Collection[str]) -> dict[str, Any]:
    """The replacements that let these targets run wherever the package computes what they do."""

    def is_hidden(target: str, hides: tuple[str, ...]) -> bool:
        return any(target.startswith(hidden) if hidden.endswith(":") else target == hidden for hidden in hides)

    return {
        one.fast: one.plain
        for one in SHORTCUTS
        if one.fast not in replaced and any(is_hidden(target, one.hides) for target in replaced)
    }
