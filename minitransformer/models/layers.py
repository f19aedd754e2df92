"""What the three architectures share besides attention: embeddings, feed-forward layer, activation, dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import as_mask, check_kind
from minitransformer.errors import UserError


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU of a tensor of any shape: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).

    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, 2016, §2, the approximation.
    """
    return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them, d_ff wide there, applied to each position alone.

    The activation is `gelu_tanh` in GPT-2, the exact `F.gelu` in BERT and BART; the two differ by up to 5e-4.

    Source: 004 §2.2, Feed Forward; Vaswani et al., Attention Is All You Need, 2017, Eq. 2 (with a ReLU there).
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        return self.down(self.activation(self.up(x)))


def drop(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout: while training, each element becomes 0 with probability p, and the others grow by 1 / (1 - p).

    Source: Srivastava et al., Dropout, 2014, §4, in the inverted form of every library.
    """
    return F.dropout(x, p) if training and p else x


def pick(x: Tensor, at: Tensor) -> Tensor:
    """The vectors of x (B, T, C) where `at`, boolean (B, T), is True: (number of True, C), in reading order."""
    return x[as_mask(at, tuple(x.shape[:2]), name="at", marks="the places that are wanted")]


def embed(embedding: nn.Embedding, ids: Tensor, vectors: Tensor | None = None) -> Tensor:
    """The vectors of token ids, (B, T) → (B, T, C).

    Where `vectors` are given, ids of -1, -2, … are virtual tokens (虚拟 token), number 0, 1, …: the vectors are what
    they stand for, (n_virtual, C), or (B, n_virtual, C) if each row has its own, in the precision of the words.
    Refuses ids that are no batch of whole numbers, are empty or outside the vocabulary, and vectors that do not fit.
    """
    ids = checked_ids(ids)
    if vectors is None or not bool((is_virtual := ids < 0).any()):
        return _embed_words(embedding, ids)  # (B, T, C)
    words = _embed_words(embedding, ids.masked_fill(is_virtual, 0))  # (B, T, C)
    _check_vectors(vectors, ids, words.size(-1))
    return virtual_embeddings(words, ids, vectors.to(words.dtype))  # (B, T, C)


def checked_ids(ids: Tensor) -> Tensor:
    """Token ids as int64, which every look-up takes; refuses what is no tensor (B, T) of whole numbers, or is empty."""
    check_kind(ids, Tensor, "Token ids come as a tensor (batch, length), such as torch.tensor([[5, 6]])")
    if ids.dim() != 2 or ids.numel() == 0:
        raise UserError(f"Token ids come as (batch, length), neither of them 0; these are {tuple(ids.shape)}.")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise UserError(f"Token ids are whole numbers; these are {ids.dtype}.")
    return ids.long()


def virtual_embeddings(words: Tensor, ids: Tensor, vectors: Tensor) -> Tensor:
    """Put the vectors of virtual tokens in their places: -1 stands for vector number 0, -2 for number 1, and so on.

    Args:
        words: the embedded text (B, T, C), whatever stands at the virtual tokens.
        ids: its token ids (B, T), negative at the virtual tokens.
        vectors: (n_virtual, C), or (B, n_virtual, C) if each row has its own.

    Gives a new tensor (B, T, C): words at words, vectors at virtual tokens.

    Source: 001 §3.1.4, X = [P; E(input)]; Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning,
    2021, §2.
    """
    number = (-1 - ids).clamp(min=0)  # (B, T)  which vector each virtual token stands for; 0 at words
    if vectors.dim() == 2:
        chosen = vectors[number]  # (B, T, C)
    else:
        rows = torch.arange(len(ids), device=ids.device)[:, None]  # (B, 1)
        chosen = vectors[rows, number]  # (B, T, C)
    return torch.where(ids[..., None] < 0, chosen, words)  # (B, T, C)


def _check_vectors(vectors: Tensor, ids: Tensor, C: int) -> None:
    n_virtual = -int(ids.min())
    fits = vectors.dim() in (2, 3) and vectors.size(-1) == C and vectors.size(-2) >= n_virtual
    if not fits or (vectors.dim() == 3 and len(vectors) != len(ids)):
        raise UserError(
            f"The text has virtual tokens up to -{n_virtual}, the vectors for them are {tuple(vectors.shape)}; needed "
            f"are at least ({n_virtual}, {C}), or ({len(ids)}, {n_virtual}, {C}) where each row has its own."
        )


def _embed_words(embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """(B, T) → (B, T, C); PyTorch alone would only say "index out of range", or end the process on a GPU."""
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
    """Position vectors, broadcastable to (B, T, C).

    A prefix takes positions 0 … P-1 and the tokens those after it; padding takes none.

    Args:
        embedding: one vector for each of n_positions.
        ids: the tokens of this call (B, T).
        attention_mask: boolean (B, S), False at padding, over all tokens so far; None if there is no padding.
        n_before: columns before this call, P + S - T.
        n_prefix: P.
        text: what the tokens are, for the message ("source").

    Refuses more positions than the model has, an attention mask of another shape, and a row of padding alone.
    """
    (B, T), limit = ids.shape, embedding.num_embeddings
    if n_before + T > limit:
        row = 0 if attention_mask is None else int(as_mask(attention_mask).sum(dim=1).argmax())
        raise UserError(
            f"{n_before + T} positions are needed ({n_before} before this call, of which {n_prefix} for a prefix, "
            f"and {T} in it); the model has n_positions = {limit}. Shorten the {text} (row {row} is the longest), "
            "or the prefix."
        )
    if attention_mask is None:
        return embedding.weight[n_before : n_before + T]  # (T, C)
    attention_mask = as_mask(attention_mask, (B, n_before - n_prefix + T))
    if n_before == n_prefix:  # not once more for each token of a generation
        check_text(attention_mask, text)
    return embedding(positions_of(attention_mask, T, n_prefix))  # (B, T, C)


def positions_of(attention_mask: Tensor, n_new: int, n_prefix: int) -> Tensor:
    """Which position each of the last tokens has: P, and the real tokens before it.

    `attention_mask` (B, S) is True at the real ones of all tokens so far, of which the last T = `n_new` are those of
    this call. Gives whole numbers (B, T); at padding any position that exists.

    Source: 003 §3.3, z = [prefix; x; y]; Li & Liang, Prefix-Tuning, 2021, Eq. 3.
    """
    order = n_prefix + attention_mask.cumsum(dim=1) - 1  # (B, S)
    return order[:, -n_new:].clamp(min=0)  # (B, T)


def check_text(attention_mask: Tensor | None, text: str = "text") -> None:
    """Refuse a batch with a row that is padding alone: there is nothing to read in it."""
    if attention_mask is not None and not bool((has_text := attention_mask.any(dim=1)).all()):
        row = int(has_text.int().argmin())
        raise UserError(f"Row {row} of the {text} is padding alone: give it at least one token, or leave the row out.")


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """How all three models start: matrices from a normal distribution with standard deviation `std`, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Run without dropout; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
