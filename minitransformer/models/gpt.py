"""A GPT in one file: GPT-2's exact architecture, with slots for a prefix and a cache in every layer.

    h_i = LM(z_i, h_<i),   p(z_{i+1} | h_≤i) = softmax(W h_i^(n))                (003 §3.1)

W is the token embedding again (weight tying): a token's vector is both what it means when read and what the
last layer has to point at when it is to be said. 003 §3.1 calls h_i^(n) a distribution; only
softmax(W h_i^(n)) is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import SIZES, check_settings, checked_config
from minitransformer.errors import UserError
from minitransformer.models import fast
from minitransformer.models.attention import Attention, Prefix, columns_before
from minitransformer.models.cache import KVCache
from minitransformer.models.layers import FeedForward, drop, embed, embed_positions, gelu_tanh, init_weights, pick


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT; the defaults are the course's own, trained in about a minute on a laptop."""

    vocab_size: int = 2048  # V
    n_positions: int = 128  # the longest sequence, a prefix included
    n_layer: int = 4
    n_head: int = 4  # H
    d_model: int = 128  # C
    d_ff: int = 512
    dropout: float = 0.0
    init_std: float = 0.06  # of fresh weights: GPT-2's 0.02 is for C = 768 and more; at 128 it learns slower

    def __post_init__(self) -> None:
        """Refuse sizes that no model can have."""
        check_settings(asdict(self), SIZES)
        if self.d_model % self.n_head:
            raise UserError(f"d_model = {self.d_model} cannot be cut into n_head = {self.n_head} equal heads.")


class Block(nn.Module):
    """One layer: attention and feed-forward, each added to the stream it reads from (004 §2.2, Add & Norm).

    GPT-2 normalises before each sublayer (pre-norm); the figure of 004 §2.2 is the original post-norm order.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.d_model)
        self.attention = Attention(config.d_model, config.n_head, causal=True, dropout=config.dropout)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.mlp = FeedForward(config.d_model, config.d_ff, activation=gelu_tanh)
        self.dropout = config.dropout

    def forward(self, x: Tensor, attention_mask: Tensor | None, prefix: Prefix | None, cache: KVCache | None) -> Tensor:
        """x + Attention(Norm(x)), then x + FeedForward(Norm(x)): (B, T, C) → (B, T, C).

        attention_mask (B, S), prefix and cache are for the attention. Dropout acts on what a sublayer adds.
        """
        y = self.attention(self.norm1(x), None, attention_mask, prefix, cache)  # (B, T, C)
        x = x + drop(y, self.dropout, self.training)  # (B, T, C)
        y = self.mlp(self.norm2(x))  # (B, T, C)
        return x + drop(y, self.dropout, self.training)  # (B, T, C)


class GPT(nn.Module):
    """A decoder-only language model: it gives each position a distribution over the next token."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = checked_config(config, GPTConfig)
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.n_positions, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.d_model)
        self.apply(partial(init_weights, std=config.init_std))
        for name, weight in self.named_parameters():
            # GPT-2: each of the 2n additions to the stream starts smaller, so that their sum does not grow with n.
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                nn.init.normal_(weight, std=config.init_std / math.sqrt(2 * config.n_layer))

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        prefix: Sequence[Prefix] | None = None,
        cache: Sequence[KVCache] | None = None,
        at: Tensor | None = None,
        return_hidden: bool = False,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Logits over the next token: (B, T, V), or (number of True in `at`, V) in reading order.

        Args:
            ids: token ids (B, T); with a cache, only the new ones. Negative ones are virtual tokens, see `embed`.
            attention_mask: boolean (B, S), False at padding, over all tokens so far; None if there is no padding.
            prefix: keys and values for each layer; taken by the first call of a cached generation only.
            cache: one `KVCache` for each layer, from `new_cache`.
            at: boolean (B, T), where logits are wanted. The product with the vocabulary is dear: ask for what is
                needed.
            return_hidden: give the last layer's normalised vectors instead, h^(n), for a head other than the
                vocabulary: (B, T, C), or (number of True in `at`, C).
            vectors: what virtual tokens stand for, (n_virtual, C) or (B, n_virtual, C).

        Refuses ids outside the vocabulary, more positions than n_positions, and a prefix that does not fit.
        """
        before = columns_before(prefix, cache, self.config.n_layer)
        x = embed(self.token_embedding, ids, vectors)  # (B, T, C)
        x = x + embed_positions(self.position_embedding, ids, attention_mask, *before)  # (B, T, C)
        x = drop(x, self.config.dropout, self.training)  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, attention_mask, prefix[i] if prefix else None, cache[i] if cache else None)  # (B, T, C)
        if at is not None:
            x = pick(x, at)  # rows of width C, one for each True in `at`
        x = self.norm(x)  # (B, T, C)
        return x if return_hidden else F.linear(x, self.token_embedding.weight)  # (B, T, V)

    def decode_step(self, cache: Sequence[KVCache]) -> Callable[[Tensor], Tensor] | None:
        """`forward` for one new token a row, faster; None where only `forward` is right. See `fast.decode_step`."""
        return fast.decode_step(self, cache)

    def new_cache(self, capacity: int | None = None) -> list[KVCache]:
        """Empty caches, one a layer, for `capacity` columns of text (n_positions if None)."""
        return [KVCache(self.config.n_positions if capacity is None else capacity) for _ in self.blocks]
