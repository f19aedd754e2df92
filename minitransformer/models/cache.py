"""The key/value cache: what one attention layer has computed so far, kept for the next token."""

from __future__ import annotations

import torch
from torch import Tensor

from minitransformer.checks import check_settings, integer
from minitransformer.errors import UserError


class KVCache:
    """The keys and values that one attention layer has computed so far, its prefix in front.

    Generation asks for one token at a time. The keys and values of earlier tokens never change, so the cache keeps
    them, and a step computes one column instead of all. `capacity` is the most columns of text that it will have to
    hold; the columns of a prefix come on top.
    """

    def __init__(self, capacity: int) -> None:
        check_settings({"capacity": capacity}, {"capacity": integer(0)})
        self.capacity = capacity
        self.length = 0  # columns filled so far, P + S
        self.n_prefix = 0  # P
        self.attention_mask: Tensor | None = None  # of the latest call, (B, S); None where all its tokens are real
        self.k: Tensor | None = None  # (B, H, P + capacity, D)
        self.v: Tensor | None = None

    def check_mask(self, attention_mask: Tensor | None) -> None:
        """Note a call's mask, boolean (B, S), or None where all is real.

        Refuses padding of which only one of two calls knows: earlier tokens stay as their own call read them.
        """
        given = self.attention_mask if attention_mask is None else attention_mask
        if self.length and given is not None and (attention_mask is None or self.attention_mask is None):
            if not bool(given[:, : self.length - self.n_prefix].all()):
                which = "this" if attention_mask is None else "an earlier"
                raise UserError(
                    f"The text has padding, and {which} call with its cache had no mask for it: give every call the "
                    "mask of all tokens so far, (B, S)."
                )
        self.attention_mask = attention_mask

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store new columns (B, H, T, D); return all so far, (B, H, P + S, D) each.

        The first call makes room in `k` and `v` for n_prefix + capacity columns.

        Raises:
            UserError: more columns than that; the cache is then as it was.
        """
        B, H, T, D = k.shape
        start, end, most = self.length, self.length + T, self.n_prefix + self.capacity
        if end > most:
            raise UserError(
                f"The cache holds {most} columns, and this call would fill {end}: "
                "make it with a larger capacity, or generate fewer tokens."
            )
        if self.k is None or self.v is None:
            self.k = k.new_empty(B, H, most, D)
            self.v = v.new_empty(B, H, most, D)
        self.length = end
        self.k.narrow(2, start, T).copy_(k)
        self.v.narrow(2, start, T).copy_(v)
        return self.columns()

    def columns(self) -> tuple[Tensor, Tensor]:
        """All columns so far, (B, H, P + S, D) each; refuses an empty cache."""
        if self.k is None or self.v is None:
            raise UserError("This cache is empty: call the model with it once before its columns are read.")
        return self.k.narrow(2, 0, self.length), self.v.narrow(2, 0, self.length)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (a beam search drops and doubles its hypotheses)."""
        if self.k is None or self.v is None:
            return
        if len(rows) != len(self.k):
            self.k, self.v = self.k[rows], self.v[rows]
            return
        # Most rows stay where they are, and most columns are still empty: to copy all took longer than the model did.
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for part in self.columns():
            part[moved] = part[rows[moved]]
