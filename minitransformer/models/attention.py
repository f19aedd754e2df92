"""Attention, the only one in this repository: self and cross, masked, with a prefix and with a cache.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V                                  (004 §4.1)
    MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O                           (004 §4.1)

Shapes, here and everywhere: B batch, T target length (queries), S source length (keys), P prefix length,
H heads, D head width (the documents' d_k), C model width = H·D, V vocabulary.

The prefix contract, for self- and cross-attention alike (003 §3.3, z = [prefix; x; y]):

* a prefix is a pair of keys and values, each (B or 1, H, P, D); with P = 0 it changes nothing at all;
* every query sees every prefix column, whatever the padding says; causality starts after them;
* the first call of a cached generation takes the prefix, later calls find it in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import PROBABILITY, as_mask, boolean, check_settings, integer
from minitransformer.errors import UserError
from minitransformer.models import fast
from minitransformer.models.cache import KVCache


class Prefix(NamedTuple):
    """Keys and values that every query sees before those of the text."""

    k: Tensor  # (B or 1, H, P, D)
    v: Tensor  # (B or 1, H, P, D)


# ------------------------------------------------------------------------------------- the formula


def split_heads(x: Tensor, n_part: int, n_head: int) -> tuple[Tensor, ...]:
    """Cut stacked projections into their parts, and each part into heads: (B, T, n_part·C) → n_part × (B, H, T, D).

    The last axis of x holds part after part, within a part head after head, within a head its D numbers. Gives a tuple
    of n_part tensors, even if that is one.
    """
    B, T, width = x.shape
    parts = x.view(B, T, n_part, n_head, width // (n_part * n_head))  # (B, T, n_part, H, D)
    return parts.permute(2, 0, 3, 1, 4).unbind(0)  # n_part × (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side again, the formula's Concat: (B, H, T, D) → (B, T, C)."""
    B, H, T, D = x.shape
    return x.transpose(1, 2).reshape(B, T, H * D)  # (B, T, C)


def attend_by_formula(q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(Q Kᵀ / √d_k) V, written as it is read (004 §4.1).

    Args:
        q: queries (B, H, T, D).
        k: keys (B, H, S, D).
        v: values (B, H, S, D).
        attention_mask: boolean, broadcastable to (B, H, T, S); True where the query may look.

    Returns:
        The weighted values (B, H, T, D) and the weights (B, H, T, S). Each row of weights sums to 1; a query
        that may look nowhere (padding before the text) gets zeros, in the weights and in the output.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, S)
    if attention_mask is not None:
        # The lowest finite number, not -inf: a row without any key would become 0/0 = nan.
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)  # (B, H, T, S)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights  # (B, H, T, D), (B, H, T, S)


def attend(
    q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """The same function on PyTorch's fused kernel, which never stores the (T, S) weights: gives (B, H, T, D).

    `dropout` is the probability with which a weight is dropped. `causal` takes the plain causal mask, of which the
    kernel skips the hidden half; columns by which the keys are longer than the queries are a prefix, which everyone
    sees. Under `torch.func` and forward-mode differentiation, which the kernel does not know, the formula runs. The
    kernel has no second derivatives on a CPU and says so; `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` has them.
    """
    T, S = q.size(2), k.size(2)
    if causal and (S > T or fast.is_transformed()):
        attention_mask, causal = combined_mask(T, T, S - T, True, None, q.device), False
    if fast.is_transformed():
        _, weights = attend_by_formula(q, k, v, attention_mask)
        return F.dropout(weights, dropout) @ v  # (B, H, T, D)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=attention_mask, dropout_p=dropout, is_causal=causal
    )  # (B, H, T, D)


def combined_mask(
    n_query: int,
    n_key: int,
    n_prefix: int,
    causal: bool,
    attention_mask: Tensor | None,
    device: torch.device | None = None,
) -> Tensor | None:
    """Which key each query may look at: prefix columns always, then padding and causality.

    Args:
        n_query: T, the queries of this call.
        n_key: S, the keys of the text, without the prefix. In a causal text read with a cache there are more of them
            than queries: those of earlier calls are there already, and the queries are the last T of the S tokens.
        n_prefix: P, columns in front of them that everyone sees.
        causal: whether a query may only look at keys up to its own token, itself included.
        attention_mask: padding, boolean (B, S), True at real tokens; None where all are real.
        device: where to make the mask.

    Returns:
        None where no key is hidden: without `attention_mask`, if also `causal` is not set or T is 1 (one query is the
        last token, and nothing comes after it). Else boolean, True where a query may look, (B, 1, T, P + S); with two
        savings: the first axis is 1 without `attention_mask`, and the third is 1, one row for all queries, unless
        causality gives each its own (`causal` and T > 1).
    """
    mask = None
    if causal and n_query > 1:
        position = torch.arange(n_key, device=device)  # (S)
        mask = position <= position[n_key - n_query :, None]  # (T, S)
        mask = mask[None, None]  # (1, 1, T, S)
    if attention_mask is not None:
        padding = attention_mask[:, None, None, :]  # (B, 1, 1, S)
        mask = padding if mask is None else mask & padding  # (B, 1, T, S)
    if mask is not None and n_prefix:
        mask = F.pad(mask, (n_prefix, 0), value=True)  # (B, 1, T, P+S)
    return mask


# -------------------------------------------------------------------------------------- the module


def check_prefix(prefix: Prefix, batch: int, n_head: int, d_head: int) -> None:
    """Refuse a prefix whose keys and values differ in shape, or that has other heads, head width or batch."""
    if not isinstance(prefix, tuple) or len(prefix) != 2 or not all(isinstance(part, Tensor) for part in prefix):
        raise UserError(f"A prefix is Prefix(keys, values), two tensors; this is a {type(prefix).__name__}.")
    k, v = prefix
    fits = k.shape == v.shape and k.dim() == 4 and k.shape[0] in (1, batch) and k.shape[1::2] == (n_head, d_head)
    if not fits:
        raise UserError(
            f"The prefix has keys {tuple(k.shape)} and values {tuple(v.shape)}; this attention needs both as "
            f"(batch {batch} or 1, {n_head} heads, prefix length, head width {d_head})."
        )


def prefix_length(prefix: Sequence[Prefix], n_layer: int) -> int:
    """P, the positions that a prefix for a stack of layers takes; refuses one for another number of layers."""
    if isinstance(prefix, Prefix) or len(prefix) != n_layer:
        n = 1 if isinstance(prefix, Prefix) else len(prefix)
        raise UserError(f"The prefix is for {n} layers; this model has {n_layer}: give a list of a Prefix for each.")
    return prefix[0].k.size(2)


def columns_before(prefix: Sequence[Prefix] | None, cache: Sequence[KVCache] | None, n_layer: int) -> tuple[int, int]:
    """What stands before the tokens of this call: all columns, P + those of earlier calls, and P among them.

    Refuses a prefix or a cache for another number of layers.
    """
    if cache and len(cache) != n_layer:
        raise UserError(f"The cache is for {len(cache)} layers; this model has {n_layer}.")
    if cache and cache[0].length:
        return cache[0].length, cache[0].n_prefix
    n_prefix = 0 if prefix is None else prefix_length(prefix, n_layer)
    return n_prefix, n_prefix


def prepend(prefix: Prefix, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Put a prefix in front of the text's keys and values: K ← [P_K; K], V ← [P_V; V].

    The prefix is (B or 1, H, P, D) each; with 1 the whole batch shares it. The text's are (B, H, S, D). Gives keys and
    values, (B, H, P + S, D) each, of the text's dtype.

    Source: 003 §3.3; He et al., Towards a Unified View of Parameter-Efficient Transfer Learning, 2022, Eq. 5.
    """
    B, H, _, D = k.shape
    check_prefix(prefix, B, H, D)
    k = torch.cat([prefix.k.to(k.dtype).expand(B, -1, -1, -1), k], dim=2)  # (B, H, P+S, D)
    v = torch.cat([prefix.v.to(v.dtype).expand(B, -1, -1, -1), v], dim=2)  # (B, H, P+S, D)
    return k, v


class Stacked(nn.Linear):
    """`n_part` linear maps from d_in to d_out with their matrices stacked: one product instead of several."""

    def __init__(self, d_in: int, d_out: int, n_part: int) -> None:
        super().__init__(d_in, n_part * d_out)
        self.n_part = n_part

    def rows(self, first: int = 0, last: int | None = None) -> slice:
        """The rows of the matrix that hold the maps number `first` to `last` - 1; all of them if nothing is said."""
        each = self.out_features // self.n_part
        return slice(first * each, (self.n_part if last is None else last) * each)

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """(B, T, d_in) → (B, T, d_out for each map that is asked for)."""
        if last is None:
            return F.linear(x, self.weight, self.bias)
        rows = self.rows(first, last)
        return F.linear(x, self.weight[rows], self.bias[rows])


class Attention(nn.Module):
    """Multi-head attention: self-attention, or cross-attention where a context is given.

    `n_head` divides `d_model`. `causal` lets a position look only at itself and at what stands before it; `dropout` is
    the probability with which an attention weight is dropped while training. Refuses what no attention can have.

    Source: 004 §4.1; Vaswani et al., Attention Is All You Need, 2017, §3.2.2.
    """

    def __init__(self, d_model: int, n_head: int, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        check_settings(
            {"d_model": d_model, "n_head": n_head, "causal": causal, "dropout": dropout},
            {"d_model": integer(1), "n_head": integer(1), "causal": boolean(), "dropout": PROBABILITY},
        )
        if d_model % n_head:
            raise UserError(f"d_model = {d_model} cannot be cut into n_head = {n_head} equal heads.")
        self.n_head, self.d_head, self.causal, self.dropout = n_head, d_model // n_head, causal, dropout
        self.qkv = Stacked(d_model, d_model, 3)  # W^Q, W^K, W^V
        self.out = nn.Linear(d_model, d_model)  # W^O
        self.watchers: list[list[Tensor]] = []  # where `watch_attention` collects the weights

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        attention_mask: Tensor | None = None,
        prefix: Prefix | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Let every position of x read from x itself, or from a context: gives (B, T, C).

        Args:
            x: (B, T, C), where the queries come from.
            context: (B, S, C), where keys and values come from; x itself if None.
            attention_mask: boolean (B, S), True at the keys that are real tokens, those in the cache included.
            prefix: keys and values that every query sees first.
            cache: what earlier calls computed. Self-attention appends to it; cross-attention fills it once
                and then reads it, because its context does not change.

        Refuses a prefix or an attention mask that does not fit, and a full cache.
        """
        filled = cache if cache is not None and cache.length else None  # by earlier calls
        if filled is not None and filled.k is not None and filled.k.shape[:2] != (len(x), self.n_head):
            raise UserError(f"The cache {tuple(filled.k.shape)} is of another batch or model: begin with a new one.")
        n_prefix = 0 if filled is None else filled.n_prefix
        T = x.size(1)
        S = T if context is None else context.size(1)
        if filled is not None:
            S = filled.length - n_prefix + (T if context is None else 0)
        if attention_mask is not None:
            attention_mask = as_mask(attention_mask, (len(x), S), (1, S))
        if cache is not None:
            cache.check_mask(attention_mask)
        if context is None:
            q, k, v = split_heads(self.qkv(x), 3, self.n_head)  # (B, H, T, D)
        else:
            (q,) = split_heads(self.qkv(x, 0, 1), 1, self.n_head)  # (B, H, T, D)
            if filled is None:
                k, v = split_heads(self.qkv(context, 1, 3), 2, self.n_head)  # (B, H, S, D)
            else:
                k, v = filled.columns()  # the context's, (B, H, P+S, D)
        if filled is None and prefix is not None:
            k, v = prepend(prefix, k, v)  # (B, H, P+S, D)
            n_prefix = k.size(2) - S
        if cache is not None and (context is None or filled is None):
            cache.n_prefix = n_prefix
            k, v = cache.append(k, v)  # (B, H, P+S, D)

        dropout = self.dropout if self.training else 0.0
        is_plain = self.causal and 1 < T == S and attention_mask is None and not self.watchers
        mask = None if is_plain else combined_mask(T, S, n_prefix, self.causal, attention_mask, x.device)
        if self.watchers:
            y, weights = attend_by_formula(q, k, v, mask)
            for watcher in self.watchers:
                watcher.append(weights.detach())
        else:
            y = attend(q, k, v, mask, dropout, causal=is_plain)  # (B, H, T, D)
        return self.out(merge_heads(y))  # (B, T, C)
