"""What three of the systems of 000 §6, and the model of lesson 15, do to a text: small functions without parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_vector(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of the vectors of each text's real tokens, which sums the text up.

    Reimers & Gurevych, "Sentence-BERT" (2019), §3: MEAN pooling. Padding has vectors, too, but they mean nothing.

    Args:
        hidden: a vector for each token, (B, T, C).
        attention_mask: boolean (B, T), True at real tokens; at least one in each row.

    Returns:
        (B, C), of the dtype of `hidden`.
    """
    real = attention_mask[..., None]  # (B, T, 1)
    return hidden.masked_fill(~real, 0).sum(1) / real.sum(1)  # (B, C)


def prefix_lm_mask(n_source: int, n_target: int) -> Tensor:
    """Who may look where in z = [x; y] under UniLM's third mask: within x both ways, in y only backwards.

    Dong et al., "Unified Language Model Pre-training for Natural Language Understanding and Generation" (2019), §2.2,
    sequence-to-sequence. A query in x sees all of x and nothing of y. A query in y sees all of x, and y up to itself.

    Args:
        n_source: S, the tokens of x; may be 0.
        n_target: T, the tokens of y; may be 0.

    Returns:
        Boolean (S + T, S + T), rows for queries and columns for keys; True where the query may look.
    """
    place = torch.arange(n_source + n_target)  # (S+T)
    return (place < n_source) | (place <= place[:, None])  # (S+T, S+T)


def with_a_hole(ids: Sequence[int], mask_id: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """A text with half of its tokens hidden in one run, and what was there.

    Song et al., "MASS: Masked Sequence to Sequence Pre-training for Language Generation" (2019), §3.2: the encoder
    reads the first, the decoder writes the second. Half is rounded down.

    Args:
        ids: the text's tokens, n of them.
        mask_id: what stands in the place of each hidden token.
        generator: draws where the run begins, with one `torch.randint`: each place where it fits is equally likely.

    Returns:
        The text with the hole, n tokens, and the n // 2 tokens that are missing, in their order.
    """
    n_hidden = len(ids) // 2
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    left, missing, right = ids[:at], ids[at : at + n_hidden], ids[at + n_hidden :]
    return [*left, *[mask_id] * n_hidden, *right], list(missing)
