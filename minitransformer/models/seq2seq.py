"""An encoder–decoder in one file: BART's exact architecture, with three slots for prefixes and a cache.

The encoder reads the source x as a BERT does; the decoder writes the target y as a GPT does, and in every layer
looks back at what the encoder read (cross-attention; 004 §2.1, 003 §3.1):

    c = Encoder(x),   p(y_{t+1} | y_≤t, x) = softmax(W Decoder(y_≤t, c) + b)

Hence three places for a prefix, and so for its keys and values: the encoder's self-attention, the decoder's
self-attention, and the cross-attention. The first two take positions 0 … P-1 of their own stack; the third takes
none, because what the decoder looks back at has no position of the target's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import SIZES, check_settings, checked_config, integer
from minitransformer.errors import UserError
from minitransformer.models.attention import Attention, Prefix, columns_before, prefix_length
from minitransformer.models.bert import PostNormBlock
from minitransformer.models.cache import KVCache
from minitransformer.models.layers import FeedForward, check_text, drop, embed, embed_positions, init_weights, pick

EPS = 1e-5  # what BART's LayerNorms add to the variance


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The sizes of an encoder–decoder; the defaults are the course's own, and so are the three token ids."""

    vocab_size: int = 2048  # V
    n_positions: int = 128  # the longest source and the longest target, each with its prefix
    n_encoder_layer: int = 2
    n_decoder_layer: int = 2
    n_head: int = 4  # H
    d_model: int = 128  # C
    d_ff: int = 512
    dropout: float = 0.0
    pad_id: int = 2043  # the course tokenizer's <|pad|>
    start_id: int = 2047  # <|bos|>, the target's first token, which the decoder is given
    end_id: int = 2042  # <|endoftext|>, the target's last, which it has to give
    init_std: float = 0.06  # of fresh weights: BART's 0.02 is for C = 1024, and √(1024 / 128) times that for ours

    def __post_init__(self) -> None:
        """Refuse sizes that no model can have, and token ids that the vocabulary does not have."""
        sizes = {**SIZES, "n_encoder_layer": integer(1), "n_decoder_layer": integer(1)}
        check_settings(asdict(self), sizes)
        ids = integer(0, self.vocab_size - 1)
        check_settings(asdict(self), {"pad_id": ids, "start_id": ids, "end_id": ids})
        if self.d_model % self.n_head:
            raise UserError(f"d_model = {self.d_model} cannot be cut into n_head = {self.n_head} equal heads.")


class DecoderCache(NamedTuple):
    """What one decoder layer keeps between the steps of a generation."""

    own: KVCache  # of the target so far: it grows with every token
    cross: KVCache  # of the source: filled by the first call, then only read

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (see `KVCache.select`)."""
        self.own.select(rows)
        self.cross.select(rows)


class DecoderBlock(nn.Module):
    """One decoder layer: self-attention, cross-attention, feed-forward, an Add & Norm after each (004 §2.2)."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        C, dropout = config.d_model, config.dropout
        self.attention = Attention(C, config.n_head, causal=True, dropout=dropout)
        self.norm1 = nn.LayerNorm(C, EPS)
        self.cross = Attention(C, config.n_head, dropout=dropout)
        self.norm2 = nn.LayerNorm(C, EPS)
        self.mlp = FeedForward(C, config.d_ff, activation=F.gelu)
        self.norm3 = nn.LayerNorm(C, EPS)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        attention_mask: Tensor | None,
        context_mask: Tensor | None,
        prefix: Prefix | None,
        cross_prefix: Prefix | None,
        cache: DecoderCache | None,
    ) -> Tensor:
        """Self-attention, cross-attention and feed-forward, each as x = Norm(x + sublayer(x)): (B, T, C) → (B, T, C).

        Args:
            x: (B, T, C).
            context: (B, S, C), what the cross-attention reads.
            attention_mask: of the target, boolean (B, T).
            context_mask: of the source, boolean (B, S).
            prefix: for self-attention.
            cross_prefix: for cross-attention.
            cache: of both attentions, or None.
        """
        own, cross = cache or (None, None)
        y = self.attention(x, None, attention_mask, prefix, own)  # (B, T, C)
        x = self.norm1(x + drop(y, self.dropout, self.training))  # (B, T, C)
        y = self.cross(x, context, context_mask, cross_prefix, cross)  # (B, T, C)
        x = self.norm2(x + drop(y, self.dropout, self.training))  # (B, T, C)
        y = self.mlp(x)  # (B, T, C)
        return self.norm3(x + drop(y, self.dropout, self.training))  # (B, T, C)


class Seq2Seq(nn.Module):
    """An encoder–decoder: given a source, a language model of the target."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = checked_config(config, Seq2SeqConfig)
        C = config.d_model
        self.token_embedding = nn.Embedding(config.vocab_size, C)  # one for source, target and output

        self.source_positions = nn.Embedding(config.n_positions, C)
        self.source_norm = nn.LayerNorm(C, EPS)
        self.encoder = nn.ModuleList(
            PostNormBlock(C, config.n_head, config.d_ff, config.dropout, EPS) for _ in range(config.n_encoder_layer)
        )
        self.target_positions = nn.Embedding(config.n_positions, C)
        self.target_norm = nn.LayerNorm(C, EPS)
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_decoder_layer))
        # BART never trains it: it comes with published weights, and is 0 otherwise.
        self.final_logits_bias: Tensor
        self.register_buffer("final_logits_bias", torch.zeros(config.vocab_size))
        self.apply(partial(init_weights, std=config.init_std))

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        prefix: Sequence[Prefix] | None = None,
        cache: Sequence[DecoderCache] | None = None,
        at: Tensor | None = None,
        *,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        encoder_prefix: Sequence[Prefix] | None = None,
        cross_prefix: Sequence[Prefix] | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Logits over the target's next token: (B, T, V), or (number of True in `at`, V) in reading order.

        Args:
            ids: the target's tokens (B, T), from start_id on; with a cache, only the new ones.
            attention_mask: boolean (B, so far), False at the target's padding; None if there is none.
            prefix: keys and values for each self-attention of the decoder.
            cache: from `new_cache`. The first call with it encodes the source and takes the prefixes; later calls
                neither encode nor need them, only `source_mask`.
            at: boolean (B, T), where logits are wanted.
            source: the source's tokens (B, S).
            source_mask: boolean (B, S), False at the source's padding; None if there is none.
            encoder_prefix: keys and values for each layer of the encoder.
            cross_prefix: keys and values for each cross-attention of the decoder.
            vectors: what virtual tokens in the source stand for, (n_virtual, C) or (B, n_virtual, C); see `embed`.

        Raises `UserError` for no source, or one for another batch; ids outside the vocabulary; more positions than
        n_positions in source or target; a row that is padding alone; a prefix that does not fit.
        """
        context = None
        if not cache or not cache[0].cross.length:
            if source is None:
                raise UserError("An encoder–decoder writes about a source: call it with source = token ids (B, S).")
            context = self.encode(source, source_mask, encoder_prefix, vectors)  # (B, S, C)
        return self.decode(ids, context, source_mask, attention_mask, prefix, cross_prefix, cache, at)

    def encode(
        self,
        source: Tensor,
        source_mask: Tensor | None = None,
        prefix: Sequence[Prefix] | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Read the source: token ids (B, S) → a vector for each (B, S, C)."""
        before = columns_before(prefix, None, self.config.n_encoder_layer)
        x = embed(self.token_embedding, source, vectors)  # (B, S, C)
        x = x + embed_positions(self.source_positions, source, source_mask, *before, text="source")  # (B, S, C)
        x = drop(self.source_norm(x), self.config.dropout, self.training)  # (B, S, C)
        for i, block in enumerate(self.encoder):
            x = block(x, source_mask, prefix[i] if prefix else None)  # (B, S, C)
        return x

    def decode(
        self,
        ids: Tensor,
        context: Tensor | None,
        context_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        prefix: Sequence[Prefix] | None = None,
        cross_prefix: Sequence[Prefix] | None = None,
        cache: Sequence[DecoderCache] | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits over the target's next token, given what `encode` made of the source; the rest is as in `forward`.

        `context` (B, S, C) is not read where a filled cache holds its keys and values; `context_mask` is `source_mask`
        there.
        """
        x = embed(self.token_embedding, ids)  # (B, T, C)
        before = columns_before(prefix, [layer.own for layer in cache or ()], self.config.n_decoder_layer)
        x = x + embed_positions(self.target_positions, ids, attention_mask, *before, text="target")  # (B, T, C)
        if cache and cache[0].cross.length:
            context = x  # never read: the cache has the keys and values. That it is given asks for cross-attention
        elif context is None or context.size(0) != ids.size(0):
            n_source = 0 if context is None else context.size(0)
            raise UserError(f"There are {n_source} sources for {ids.size(0)} targets: each needs its own.")
        else:
            check_text(attention_mask, "target")
            if cross_prefix is not None:
                prefix_length(cross_prefix, self.config.n_decoder_layer)  # refuses one for another number of layers
            for layer in cache or ():
                layer.cross.capacity = context.size(1)  # it will never grow
        x = drop(self.target_norm(x), self.config.dropout, self.training)  # (B, T, C)
        for i, block in enumerate(self.decoder):
            own_prefix, cross = prefix[i] if prefix else None, cross_prefix[i] if cross_prefix else None
            x = block(
                x, context, attention_mask, context_mask, own_prefix, cross, cache[i] if cache else None
            )  # (B, T, C)
        if at is not None:
            x = pick(x, at)  # rows of width C, one for each True in `at`
        return F.linear(x, self.token_embedding.weight, self.final_logits_bias)  # (B, T, V)

    def new_cache(self, capacity: int | None = None) -> list[DecoderCache]:
        """Empty caches, one a decoder layer, for `capacity` columns of the target (n_positions if None).

        What the source takes is known when the first call brings it.
        """
        capacity = self.config.n_positions if capacity is None else capacity
        return [DecoderCache(KVCache(capacity), KVCache(0)) for _ in self.decoder]
