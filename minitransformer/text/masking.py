"""Hiding words of a text for BERT to guess (004 §3.1, masked language modelling, 掩码语言模型)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE


def mask_tokens(
    ids: Tensor,
    mask_id: int,
    special_ids: Collection[int],
    vocab_size: int,
    attention_mask: Tensor | None = None,
    share: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose 15 % of the words and hide most of them (004 §3.1, masked language modelling, 掩码语言模型).

    Of the chosen, 80 % become [MASK], 10 % another word drawn at random, and 10 % stay as they are. All of the chosen
    are to be guessed, the unchanged ones too: since any word may be one that has to be guessed, the model has to
    keep a meaning ready for each, and not only at [MASK], which no text outside of the training has.

    Args:
        ids: token ids (B, T).
        mask_id: the id of [MASK].
        special_ids: ids that are neither chosen nor put in: [CLS], [SEP], padding, [MASK] itself.
        vocab_size: V.
        attention_mask: boolean (B, T), False at padding.
        share: of the words, rounded in each row, but at least one where a row has any.
        generator: makes the choice repeatable; on the CPU.

    Returns:
        The ids with some hidden (B, T), and the labels (B, T): the true id where chosen, IGNORE elsewhere.

    Raises:
        UserError: a share outside 0 … 1, or a vocabulary of special tokens alone.
    """
    if not 0 < share <= 1:
        raise UserError(f"share = {share}: it is the share of words to be guessed, above 0 and at most 1.")
    special = torch.zeros(vocab_size, dtype=torch.bool)
    special[list(special_ids)] = True
    words = (~special).nonzero()[:, 0]  # (number of ordinary ids)
    if not len(words):
        raise UserError(f"All {vocab_size} ids are special: there is no word to guess.")
    special, words = special.to(ids.device), words.to(ids.device)

    def draw() -> Tensor:
        return torch.rand(ids.shape, generator=generator).to(ids.device)  # (B, T)

    eligible = ~special[ids] if attention_mask is None else ~special[ids] & attention_mask  # (B, T)
    rank = draw().masked_fill(~eligible, 2.0).argsort(dim=1).argsort(dim=1)  # (B, T)  0 for the smallest draw
    n_chosen = (share * eligible.sum(dim=1, keepdim=True)).round().clamp(min=1)  # (B, 1)
    chosen = eligible & (rank < n_chosen)  # (B, T)

    # ⟨answer⟩
    labels = torch.where(chosen, ids, IGNORE)  # (B, T)
    fate = draw()
    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)
    random_words = words[(draw() * len(words)).long().clamp(max=len(words) - 1)]  # (B, T)
    corrupted = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_words, corrupted)
    # ⟨/answer⟩
    return corrupted, labels
