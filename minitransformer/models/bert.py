"""A BERT in one file: BERT's exact architecture, with a slot for a prefix in every layer.

Where a GPT writes from left to right, a BERT reads: every position sees every other, so that h_i^(n) says what
token i means in its whole sentence (004 §2.1, encoder only). It learns by guessing words that were masked, and
whether the second of two sentences follows the first (004 §3.1); `minitransformer.training.losses` has both losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import SIZES, boolean, check_settings, checked_config, integer
from minitransformer.errors import UserError
from minitransformer.models.attention import Attention, Prefix, columns_before
from minitransformer.models.layers import FeedForward, drop, embed, embed_positions, init_weights, pick

EPS = 1e-12  # what BERT's LayerNorms add to the variance
BERT_SIZES = {**SIZES, "n_types": integer(1), **dict.fromkeys(("pooler", "mlm", "nsp"), boolean())}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT; the defaults are the course's own.

    `pooler`, `mlm` and `nsp` say which heads it has: published weights often come without some of them, and a head
    without trained weights is better absent than random.
    """

    vocab_size: int = 2048  # V
    n_positions: int = 128  # the longest sequence, a prefix included
    n_layer: int = 4
    n_head: int = 4  # H
    d_model: int = 128  # C
    d_ff: int = 512
    dropout: float = 0.0
    n_types: int = 2  # sentence A, sentence B
    pooler: bool = True
    mlm: bool = True
    nsp: bool = True
    init_std: float = 0.06  # of fresh weights: BERT's 0.02 is for C = 768; see `GPTConfig`

    def __post_init__(self) -> None:
        """Refuse sizes that no model can have, and a head that lacks what it reads from."""
        check_settings(asdict(self), BERT_SIZES)
        if self.d_model % self.n_head:
            raise UserError(f"d_model = {self.d_model} cannot be cut into n_head = {self.n_head} equal heads.")
        if self.nsp and not self.pooler:
            raise UserError("Next-sentence prediction reads the pooled vector: nsp = True needs pooler = True.")


class PostNormBlock(nn.Module):
    """One layer that reads in both directions: attention, Add & Norm, feed-forward, Add & Norm (004 §2.2).

    The original order of the Transformer's figure: each sum is normalised after the sublayer (post-norm), where GPT-2
    normalises before. It is BERT's layer, and that of the encoder in `minitransformer.models.seq2seq`. Dropout acts on
    attention weights and on each sublayer's output; `eps` is what the norms add to the variance.
    """

    def __init__(self, d_model: int, n_head: int, d_ff: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, n_head, dropout=dropout)
        self.norm1 = nn.LayerNorm(d_model, eps)
        self.mlp = FeedForward(d_model, d_ff, activation=F.gelu)
        self.norm2 = nn.LayerNorm(d_model, eps)
        self.dropout = dropout

    def forward(self, x: Tensor, attention_mask: Tensor | None, prefix: Prefix | None) -> Tensor:
        """(B, T, C) → (B, T, C); attention_mask (B, T) and prefix as in `Attention`."""
        y = self.attention(x, None, attention_mask, prefix)  # (B, T, C)
        x = self.norm1(x + drop(y, self.dropout, self.training))  # (B, T, C)
        y = self.mlp(x)  # (B, T, C)
        return self.norm2(x + drop(y, self.dropout, self.training))  # (B, T, C)


class MaskedWordHead(nn.Module):
    """From a position's vector to logits over the words that could stand there (004 §3.1, MLM).

    Its last matrix is the token embedding again (weight tying); of its own it has a layer before that and a bias.
    """

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, EPS)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Norm(gelu(W x + b)) Eᵀ + bias, with the exact GELU: x (…, C) and the embedding E (V, C) → (…, V)."""
        return F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias)


class Bert(nn.Module):
    """An encoder-only model: it gives each token a vector that knows the whole text."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = checked_config(config, BertConfig)
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.n_positions, config.d_model)
        self.type_embedding = nn.Embedding(config.n_types, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, EPS)
        self.blocks = nn.ModuleList(
            PostNormBlock(config.d_model, config.n_head, config.d_ff, config.dropout, EPS)
            for _ in range(config.n_layer)
        )
        self.pooler = nn.Linear(config.d_model, config.d_model) if config.pooler else None
        self.mlm = MaskedWordHead(config.vocab_size, config.d_model) if config.mlm else None
        self.nsp = nn.Linear(config.d_model, 2) if config.nsp else None
        self.apply(partial(init_weights, std=config.init_std))

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        types: Tensor | None = None,
        prefix: Sequence[Prefix] | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """A vector for each token, (B, T, C); those of padding mean nothing.

        Args:
            ids: token ids (B, T); by custom [CLS] sentence A [SEP], or [CLS] sentence A [SEP] sentence B [SEP].
            attention_mask: boolean (B, T), False at padding; None if there is none.
            types: (B, T), 0 in sentence A and 1 in sentence B; None stands for 0 everywhere.
            prefix: keys and values for each layer. [CLS] stays at index 0 of what is returned.
            vectors: what virtual tokens stand for, (n_virtual, C) or (B, n_virtual, C); see `embed`.

        Refuses ids or types outside their range, more positions than n_positions, a row that is padding alone, and a
        prefix that does not fit.
        """
        before = columns_before(prefix, None, self.config.n_layer)
        x = embed(self.token_embedding, ids, vectors)  # (B, T, C)
        x = x + embed_positions(self.position_embedding, ids, attention_mask, *before)  # (B, T, C)
        x = x + self._types(ids, types)  # (B, T, C)
        x = drop(self.norm(x), self.config.dropout, self.training)  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, attention_mask, prefix[i] if prefix else None)  # (B, T, C)
        return x

    def pooled(self, hidden: Tensor) -> Tensor:
        """The text in one vector, tanh(W h_[CLS] + b): (B, T, C) → (B, C). Refuses a model without pooler."""
        return torch.tanh(self._head("pooler")(hidden[:, 0]))  # (B, C)

    def mlm_logits(self, hidden: Tensor, at: Tensor | None = None) -> Tensor:
        """Logits over the word at each position, from what `forward` gave (B, T, C); refuses a model without that head.

        `at` (B, T) is True where logits are wanted, as a rule at 15 %, for a seventh of the work. Gives (B, T, V), or
        (number of True in `at`, V) in reading order.
        """
        return self._head("mlm")(hidden if at is None else pick(hidden, at), self.token_embedding.weight)  # (…, V)

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        """Logits of "B follows A" (class 0) and "it does not" (class 1).

        (B, T, C) → (B, 2); refuses a model without that head.
        """
        return self._head("nsp")(self.pooled(hidden))  # (B, 2)

    def _head(self, name: str) -> nn.Module:
        head = getattr(self, name)
        if head is None:
            raise UserError(
                f"This BERT has no {name} head: its config says {name} = False. Weights without that head were "
                "loaded, or none was asked for."
            )
        return head

    def _types(self, ids: Tensor, types: Tensor | None) -> Tensor:
        """Vectors of the sentences, broadcastable to (B, T, C)."""
        if types is None:
            return self.type_embedding.weight[0]  # (C)
        if not isinstance(types, Tensor) or types.shape != ids.shape or types.is_floating_point():
            now = getattr(types, "shape", ())
            raise UserError(f"There is one type for each token, a whole number: {tuple(ids.shape)}, not {tuple(now)}.")
        wrong = (types < 0) | (types >= self.config.n_types)
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise UserError(
                f"Token type {types[row, column].item()} in row {row} at position {column}: types run from 0 "
                f"(sentence A) to {self.config.n_types - 1}."
            )
        return self.type_embedding(types.long())  # (B, T, C)
