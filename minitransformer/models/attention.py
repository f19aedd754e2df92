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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError


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
    """The same function on PyTorch's fused kernel, which never stores the (T, S) weights.

    Arguments as in `attend_by_formula`; `dropout` is the share of weights that is dropped while training;
    `causal`, without `attention_mask`, is the plain causal mask, of which the kernel skips the hidden half. Columns by
    which the keys are longer than the queries are a prefix, which everyone sees.
    """
    T, S = q.size(2), k.size(2)
    trained = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    if causal and not dropout and T % 2 == 0 and T <= 256 and trained and not q.is_cuda:
        return CausalInHalves.apply(q, k, v)  # (B, H, T, D)
    if causal and S > T:
        attention_mask, causal = combined_mask(T, T, S - T, True, None, q.device), False
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=attention_mask, dropout_p=dropout, is_causal=causal
    )  # (B, H, T, D)


class CausalInHalves(torch.autograd.Function):
    """Causal attention for training on short texts on a CPU, where the fused kernel is not the fastest.

    The first half of the queries needs only the first half of the keys, so that a quarter of the products falls
    away; the rest goes through batched matrix products, and the weights are kept for the gradient:

        y = W v,  W = softmax(q kᵀ/√d);   dv = Wᵀ dy,  dW = dy vᵀ,  dS = W (dW - Σ W dW),  dq = dS k/√d,  dk = dSᵀ q/√d
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (B, H, T, D), keys and values (B, H, P+T, D) → (B, H, T, D)."""
        (B, H, T, D), S = q.shape, k.size(2)
        q, k, v = q.reshape(-1, T, D), k.reshape(-1, S, D), v.reshape(-1, S, D)
        hidden = q.new_full((T, S), float("-inf")).triu(1 + S - T)  # added to the scores
        y, weights = torch.empty_like(q), []
        for first, last in ((0, T // 2), (T // 2, T)):
            seen = S - T + last  # the prefix, and the text up to the last query
            scores = torch.baddbmm(hidden[first:last, :seen], q[:, first:last], k[:, :seen].mT, alpha=D**-0.5)
            weights.append(scores.softmax(dim=-1))
            y[:, first:last] = weights[-1] @ v[:, :seen]
        ctx.save_for_backward(q, k, v, *weights)
        return y.view(B, H, T, D)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of q, k and v, as in the formula above."""
        q, k, v, *weights = ctx.saved_tensors
        T, S, dy = q.size(1), k.size(1), grad.reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for w, first, last in ((weights[0], 0, T // 2), (weights[1], T // 2, T)):
            seen = S - T + last
            dv[:, :seen] += w.mT @ dy[:, first:last]
            dw = dy[:, first:last] @ v[:, :seen].mT
            ds = torch._softmax_backward_data(dw, w, -1, w.dtype).mul_(q.size(2) ** -0.5)
            dq[:, first:last] = ds @ k[:, :seen]
            dk[:, :seen] += ds.mT @ q[:, first:last]
        return dq.view(grad.shape), dk.view(*grad.shape[:2], S, -1), dv.view(*grad.shape[:2], S, -1)


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


# --------------------------------------------------------------------------------------- the cache


class KVCache:
    """The keys and values that one attention layer has computed so far, its prefix in front.

    Generation asks for one token at a time, and the keys and values of earlier tokens never change: the cache
    keeps them, so that a step computes one column instead of all.

    Args:
        capacity: the most columns of text it will have to hold; a prefix comes on top, for not every prefix takes
            positions.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0  # columns filled so far, P + S
        self.n_prefix = 0  # P
        self.k: Tensor | None = None  # (B, H, P + capacity, D)
        self.v: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store new columns (B, H, T, D); return all so far, (B, H, P + S, D) each.

        The first call makes room in `k` and `v` for all that may come, n_prefix + capacity columns; `length` says how
        many are filled (at first 0), and `columns()` gives those.

        Raises:
            UserError: more columns than `capacity`, beside the prefix's; the cache is then as it was.
        """
        B, H, T, D = k.shape
        start, end, most = self.length, self.length + T, self.n_prefix + self.capacity
        if end > most:
            raise UserError(
                f"The cache holds {most} columns, and this call would fill {end}: "
                "make it with a larger capacity, or generate fewer tokens."
            )
        if self.k is None:
            self.k = k.new_empty(B, H, most, D)
            self.v = v.new_empty(B, H, most, D)
        self.length = end
        self.k.narrow(2, start, T).copy_(k)
        self.v.narrow(2, start, T).copy_(v)
        return self.columns()

    def columns(self) -> tuple[Tensor, Tensor]:
        """All columns so far, (B, H, P + S, D) each."""
        return self.k.narrow(2, 0, self.length), self.v.narrow(2, 0, self.length)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (a beam search drops and doubles its hypotheses)."""
        if len(rows) != len(self.k):
            self.k, self.v = self.k[rows], self.v[rows]
            return
        # Most rows stay where they are, and most columns are still empty: to copy all took longer than the model did.
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        for part in self.columns():
            part[moved] = part[rows[moved]]


# -------------------------------------------------------------------------------------- the module


def check_prefix(prefix: Prefix, batch: int, n_head: int, d_head: int) -> None:
    """Refuse a prefix that does not fit.

    Raises:
        UserError: keys and values that differ in shape, a wrong number of heads, head width or batch size.
    """
    k, v = prefix
    fits = k.shape == v.shape and k.dim() == 4 and k.shape[0] in (1, batch) and k.shape[1::2] == (n_head, d_head)
    if not fits:
        raise UserError(
            f"The prefix has keys {tuple(k.shape)} and values {tuple(v.shape)}; this attention needs both as "
            f"(batch {batch} or 1, {n_head} heads, prefix length, head width {d_head})."
        )


def prefix_length(prefix: Sequence[Prefix], n_layer: int) -> int:
    """P, the positions that a prefix for a stack of layers takes.

    Raises:
        UserError: a prefix for another number of layers.
    """
    if len(prefix) != n_layer:
        raise UserError(f"The prefix is for {len(prefix)} layers; this model has {n_layer}.")
    return prefix[0].k.size(2)


def columns_before(prefix: Sequence[Prefix] | None, cache: Sequence[KVCache] | None, n_layer: int) -> tuple[int, int]:
    """What stands before the tokens of this call: all columns, P + those of earlier calls, and P among them."""
    if cache and cache[0].length:
        return cache[0].length, cache[0].n_prefix
    n_prefix = 0 if prefix is None else prefix_length(prefix, n_layer)
    return n_prefix, n_prefix


class Stacked(nn.Linear):
    """Several linear maps of one size with their matrices stacked: one product instead of several.

    Args:
        d_in: what each reads.
        d_out: what each gives.
        n_part: how many.
    """

    def __init__(self, d_in: int, d_out: int, n_part: int) -> None:
        super().__init__(d_in, n_part * d_out)
        self.n_part = n_part

    def rows(self, first: int = 0, last: int | None = None) -> slice:
        """Which rows of the matrix the maps number `first` to `last` - 1 are; all of them if nothing is said."""
        each = self.out_features // self.n_part
        return slice(first * each, (self.n_part if last is None else last) * each)

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """(B, T, d_in) → (B, T, d_out for each map that is asked for)."""
        if last is None:
            return F.linear(x, self.weight, self.bias)
        rows = self.rows(first, last)
        return F.linear(x, self.weight[rows], self.bias[rows])


class Attention(nn.Module):
    """Multi-head attention (004 §4.1): self-attention, or cross-attention where a context is given.

    Args:
        d_model: C.
        n_head: H; C must be a multiple of it.
        causal: whether a position may only look at itself and at what stands before it.
        dropout: share of attention weights dropped while training.

    Raises:
        UserError: a width that the heads do not divide.
    """

    def __init__(self, d_model: int, n_head: int, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if d_model % n_head:
            raise UserError(f"d_model = {d_model} cannot be cut into n_head = {n_head} equal heads.")
        self.n_head, self.d_head, self.causal, self.dropout = n_head, d_model // n_head, causal, dropout
        self.qkv = Stacked(d_model, d_model, 3)  # W^Q, W^K, W^V
        self.out = nn.Linear(d_model, d_model)  # W^O
        self.watcher: list[Tensor] | None = None  # where `watch_attention` collects the weights

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        attention_mask: Tensor | None = None,
        prefix: Prefix | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Let every position of x read from x itself, or from a context.

        Args:
            x: (B, T, C), where the queries come from.
            context: (B, S, C), where keys and values come from; x itself if None.
            attention_mask: boolean (B, S), True at the keys that are real tokens, those in the cache included.
            prefix: keys and values that everyone sees first, prefix.k and prefix.v, (B or 1, H, P, D) each; with 1 the
                whole batch shares them. check_prefix(prefix, batch, n_head, d_head) refuses one that does not fit;
                n_prefix is P.
            cache: what earlier calls computed. Self-attention appends to it; cross-attention fills it once
                and then reads it, for its context does not change.

        Returns:
            (B, T, C)

        Raises:
            UserError: a prefix that does not fit, a full cache.
        """
        fresh = cache is None or cache.length == 0
        if context is None:
            q, k, v = split_heads(self.qkv(x), 3, self.n_head)  # (B, H, T, D)
        else:
            (q,) = split_heads(self.qkv(x, 0, 1), 1, self.n_head)  # (B, H, T, D)
            k = v = None  # unless the cache has the context's already
            if fresh:
                k, v = split_heads(self.qkv(context, 1, 3), 2, self.n_head)  # (B, H, S, D)
        n_prefix = 0 if fresh else cache.n_prefix
        if fresh and prefix is not None:
            # ⟨answer⟩
            check_prefix(prefix, x.size(0), self.n_head, self.d_head)
            n_prefix = prefix.k.size(2)
            k = torch.cat([prefix.k.expand(k.size(0), -1, -1, -1), k], dim=2)  # (B, H, P+S, D)
            v = torch.cat([prefix.v.expand(v.size(0), -1, -1, -1), v], dim=2)  # (B, H, P+S, D)
            # ⟨/answer⟩
        if cache is not None:
            cache.n_prefix = n_prefix
            k, v = cache.columns() if k is None else cache.append(k, v)  # (B, H, P+S, D)

        T, S, dropout = x.size(1), k.size(2) - n_prefix, self.dropout if self.training else 0.0
        plain = self.causal and 1 < T == S and attention_mask is None and self.watcher is None
        mask = None if plain else combined_mask(T, S, n_prefix, self.causal, attention_mask, x.device)
        if self.watcher is None:
            y = attend(q, k, v, mask, dropout, causal=plain)  # (B, H, T, D)
        else:
            y, weights = attend_by_formula(q, k, v, mask)
            self.watcher.append(weights.detach())
        return self.out(merge_heads(y))  # (B, T, C)


@contextmanager
def watch_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the attention weights of every call inside the `with`, by the name of the module.

    The watched layers run on the spelled-out formula, whose weights exist; dropout is not applied to them.

    Yields:
        name → a list with one (B, H, T, P + S) tensor for each call.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    for module in layers.values():
        module.watcher = []
    try:
        yield {name: module.watcher for name, module in layers.items()}
    finally:
        for module in layers.values():
            module.watcher = None
