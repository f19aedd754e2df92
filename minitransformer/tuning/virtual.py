"""Virtual tokens (虚拟 token): the ids by which a text says where they stand, and the words that they start as.

A virtual token has no word. What stands for it (a trained vector at the input, or trained keys and values in every
layer) is a method's affair; here is what all methods with virtual tokens share.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.checks import Rule, whole
from minitransformer.errors import UserError
from minitransformer.tuning.bases import Base
from minitransformer.tuning.settings import Setting, size


def _start(value: Any) -> str | list[int]:
    if isinstance(value, str) and value in ("random", "vocabulary"):
        return value
    ids = [whole(i) for i in value]
    if not ids or min(ids) < 0 or isinstance(value, bytes):
        raise ValueError
    return ids


# Settings of every method with virtual tokens.
LENGTH = Setting(size("a method without virtual tokens would tune nothing"), "P, the virtual tokens.")
INIT = Setting(
    Rule('"random", "vocabulary", or the token ids of words, which are whole numbers from 0 on', _start),
    'What virtual tokens start as: "random"; "vocabulary", words drawn from it; these words, repeated or cut to P. '
    "Words of the task are best (003 §4.2).",
)


def virtual_ids(length: int) -> list[int]:
    """The ids of virtual tokens 0 … length-1, to stand in a text: [-1, -2, …]."""
    return [-1 - i for i in range(length)]


def check_virtual(ids: Tensor, length: int, what: str) -> None:
    """Refuse a text (B, T) in which not each of the virtual tokens stands once."""
    found = F.pad(ids, (0, length)).clamp(max=0).sort(dim=1).values  # (B, T+P)  the virtual ids, then zeros
    wanted = F.pad(torch.arange(-length, 0, device=ids.device), (0, ids.size(1)))  # (T+P)
    wrong = (found != wanted).any(dim=1).nonzero()[:, 0].tolist()
    if wrong:
        row = ids[wrong[0]]
        raise UserError(
            f"Row {wrong[0]} has the virtual tokens {row[row < 0].tolist()} where {what} of length {length} belongs: "
            f"put virtual_ids({length}) into each text, at the place where it is to be, once."
        )


def check_room(length: int, base: Base) -> None:
    """Refuse more virtual tokens than the base has positions for, or as many."""
    limit = base.config.n_positions
    if length >= limit:
        raise UserError(
            f"{length} virtual tokens leave no room for a text: this base has n_positions = {limit}. Make it shorter."
        )


def ids_to_start_from(init: str | list[int], length: int, base: Base) -> Tensor:
    """The token ids (1, P) of the words that virtual tokens start as.

    With `init` "vocabulary", words drawn from the base's vocabulary; else these token ids, repeated or cut to P.
    """
    if init == "vocabulary":
        ids = torch.randint(base.config.vocab_size, (1, length))  # (1, P)
    else:
        ids = torch.tensor([[init[i % len(init)] for i in range(length)]])  # (1, P)
    return ids.to(base.token_embedding.weight.device)
