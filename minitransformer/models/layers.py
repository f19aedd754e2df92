"""What the three architectures share besides attention: activation, feed-forward layer, dropout, checks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError


class GeluTanh(torch.autograd.Function):
    """GPT-2's GELU, 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), through the sigmoid.

    Since (1 + tanh z) / 2 = σ(2z), it is x σ(u) with u = 2 √(2/π) (x + 0.044715 x³): the same function and the
    same gradient as `F.gelu(x, approximate="tanh")`, but a sigmoid costs a third of a tanh on a CPU, and this
    activation stands on the widest tensor of the model.
    """

    a = 2 * math.sqrt(2 / math.pi)
    b = a * 0.044715

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        sigma = _cubic(x, GeluTanh.b).sigmoid_()  # σ(u)
        ctx.save_for_backward(x, sigma)
        return x * sigma

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        """d/dx x σ(u) = σ + x u' (σ - σ²),  with x u' = x (a + 3 b x²)."""
        x, sigma = ctx.saved_tensors
        slope = torch.addcmul(sigma, sigma, sigma, value=-1)  # σ - σ²
        return torch.addcmul(sigma, slope, _cubic(x, 3 * GeluTanh.b)).mul_(grad)


def _cubic(x: Tensor, b: float) -> Tensor:
    """x (a + b x²), in two passes over memory: elementwise work is bound by that, not by arithmetic."""
    return torch.addcmul(x.new_tensor(GeluTanh.a), x, x, value=b).mul_(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU of a tensor of any shape."""
    if torch.is_grad_enabled() and x.requires_grad:
        return GeluTanh.apply(x)
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them, applied to each position alone (004 §2.2, Feed Forward).

    Args:
        d_model: C.
        d_ff: the width between them, usually 4 C.
        activation: `gelu_tanh` in GPT-2, the exact `F.gelu` in BERT and BART; the two differ by up to 5e-4.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        return self.down(self.activation(self.up(x)))


def drop(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout: while training, a random share of the numbers becomes 0 and the rest grows to make up for it."""
    return F.dropout(x, share) if training and share else x


def embed(embedding: nn.Embedding, ids: Tensor, vectors: Tensor | None = None) -> Tensor:
    """The vectors of token ids, (B, T) → (B, T, C).

    Args:
        embedding: one vector for each token of the vocabulary.
        ids: token ids (B, T). Where vectors are given, -1, -2, … are virtual tokens (虚拟 token), number 0, 1, ….
        vectors: what the virtual tokens stand for, (n_virtual, C), or (B, n_virtual, C) if each row has its own.

    Raises:
        UserError: ids that are no (B, T) batch, are empty, or are outside the vocabulary; it names the first such
            id and its place, where PyTorch would only say "index out of range" (or, on a GPU, end the process).
    """
    if vectors is not None and bool((virtual := ids < 0).any()):
        return _embed_virtual(embedding, ids, virtual, vectors)
    if ids.dim() != 2 or ids.numel() == 0:
        raise UserError(f"Token ids come as (batch, length), neither of them 0; these are {tuple(ids.shape)}.")
    if ids.is_floating_point():
        raise UserError(f"Token ids are whole numbers; these are {ids.dtype}.")
    try:
        if not ids.is_cuda or _all_inside(ids, embedding.num_embeddings):
            return embedding(ids)
    except IndexError:
        pass
    row, column = ((ids < 0) | (ids >= embedding.num_embeddings)).nonzero()[0].tolist()
    raise UserError(
        f"Token id {ids[row, column].item()} in row {row} at position {column} is outside the vocabulary: "
        f"ids run from 0 to {embedding.num_embeddings - 1}. Was the text encoded with another tokenizer?"
    )


def _embed_virtual(embedding: nn.Embedding, ids: Tensor, virtual: Tensor, vectors: Tensor) -> Tensor:
    """`embed`, some of whose ids are virtual tokens: -1 stands for vector number 0, -2 for number 1, and so on.

    Args:
        embedding: one vector for each token of the vocabulary.
        ids: token ids (B, T), negative ones among them.
        virtual: boolean (B, T), True at the negative ones.
        vectors: (n_virtual, C), or (B, n_virtual, C) if each row has its own.

    Returns:
        (B, T, C)

    Raises:
        UserError: vectors of another width, too few of them, or for another number of rows.
    """
    number = (-1 - ids).clamp(min=0)  # (B, T)  which vector each virtual token stands for; 0 at words
    n_virtual, C = int(number.max()) + 1, embedding.embedding_dim
    each = vectors.dim() == 3  # whether each row has vectors of its own
    fits = vectors.dim() in (2, 3) and vectors.size(-1) == C and vectors.size(-2) >= n_virtual
    if not fits or (each and len(vectors) != len(ids)):
        raise UserError(
            f"The text has virtual tokens up to -{n_virtual}, the vectors for them are {tuple(vectors.shape)}; needed "
            f"are at least ({n_virtual}, {C}), or ({len(ids)}, {n_virtual}, {C}) where each row has its own."
        )
    # ⟨answer⟩
    words = embed(embedding, ids.masked_fill(virtual, 0))  # (B, T, C)
    rows = torch.arange(len(ids), device=ids.device)[:, None]  # (B, 1)
    chosen = vectors[rows, number] if each else vectors[number]  # (B, T, C)
    x = torch.where(virtual[..., None], chosen, words)  # (B, T, C)
    # ⟨/answer⟩
    return x


def _all_inside(ids: Tensor, vocab_size: int) -> bool:
    low, high = ids.aminmax()
    return bool((low >= 0) & (high < vocab_size))


def embed_positions(
    embedding: nn.Embedding,
    ids: Tensor,
    attention_mask: Tensor | None,
    n_before: int,
    n_prefix: int,
    text: str = "text",
) -> Tensor:
    """Position vectors. A prefix takes positions 0 … P-1 and the tokens those after it; padding takes none.

    Args:
        embedding: one vector for each of n_positions.
        ids: the tokens of this call (B, T).
        attention_mask: boolean (B, S), False at padding, over all tokens so far; None if there is no padding.
        n_before: columns before this call, P + S - T.
        n_prefix: P.
        text: what the tokens are, for the message ("source").

    Returns:
        Broadcastable to (B, T, C).

    Raises:
        UserError: more positions than the model has, a `attention_mask` of another shape.
    """
    (B, T), limit = ids.shape, embedding.num_embeddings
    if n_before + T > limit:
        row = 0 if attention_mask is None else int(attention_mask.sum(dim=1).argmax())
        raise UserError(
            f"{n_before + T} positions are needed ({n_before} before this call, of which {n_prefix} for a prefix, "
            f"and {T} in it); the model has n_positions = {limit}. Shorten the {text} (row {row} is the longest), "
            "or the prefix."
        )
    if attention_mask is None:
        return embedding.weight[n_before : n_before + T]  # (T, C)
    if attention_mask.shape != (B, n_before - n_prefix + T):
        raise UserError(
            f"attention_mask has the shape {tuple(attention_mask.shape)}; it has to mark every token so far, "
            f"{(B, n_before - n_prefix + T)}, without the prefix."
        )
    # ⟨answer⟩
    order = n_prefix + attention_mask.cumsum(dim=1) - 1  # (B, S)
    vectors = embedding(order[:, -T:].clamp(min=0))  # (B, T, C)
    # ⟨/answer⟩
    return vectors


def check_text(attention_mask: Tensor | None, text: str = "text") -> None:
    """Refuse a batch with a row that is padding alone: there is nothing to read in it.

    Raises:
        UserError: naming the row.
    """
    if attention_mask is not None and not bool((has_text := attention_mask.any(dim=1)).all()):
        row = int(has_text.int().argmin())
        raise UserError(f"Row {row} of the {text} is padding alone: give it at least one token, or leave the row out.")


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """How all three models start: matrices from a normal distribution of width `std`, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
