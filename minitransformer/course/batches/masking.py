"""Hiding words of a text for BERT to guess (004 §3.1, masked language modelling, 掩码语言模型)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from minitransformer.checks import as_mask, check_settings, integer, real
from minitransformer.course.batches.classification import Texts
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, Batch
from minitransformer.text.tokenizer import Tokenizer

FRACTION = real(above=0, most=1)


def mask_tokens(
    ids: Tensor,
    mask_id: int,
    special_ids: Collection[int],
    vocab_size: int,
    attention_mask: Tensor | None = None,
    fraction: float = 0.15,
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
        fraction: of the words that are chosen, rounded in each row, but at least one where a row has any.
        generator: makes the choice repeatable; on the CPU.

    Returns:
        The ids with some hidden (B, T), and the labels (B, T): the true id where chosen, IGNORE elsewhere.

    Raises:
        UserError: a fraction outside 0 … 1, ids outside the vocabulary, or a vocabulary of special tokens alone.
    """
    check_settings({"fraction": fraction, "vocab_size": vocab_size}, {"fraction": FRACTION, "vocab_size": integer(1)})
    for name, some in (
        ("mask_id", torch.tensor([mask_id])),
        ("special_ids", torch.tensor([*special_ids])),
        ("ids", ids),
    ):
        if some.numel() and not some.is_meta and not 0 <= int(some.min()) <= int(some.max()) < vocab_size:
            raise UserError(
                f"{name} run from {int(some.min())} to {int(some.max())}: with vocab_size = {vocab_size}, ids are 0 to "
                f"{vocab_size - 1}."
            )
    special = torch.zeros(vocab_size, dtype=torch.bool)
    special[[*special_ids]] = True
    words = (~special).nonzero()[:, 0]  # (number of ordinary ids)
    if not len(words):
        raise UserError(f"All {vocab_size} ids are special: there is no word to guess.")
    special, words = special.to(ids.device), words.to(ids.device)

    def draw() -> Tensor:
        return torch.rand(ids.shape, generator=generator).to(ids.device)  # (B, T)

    eligible = ~special[ids]  # (B, T)
    if attention_mask is not None:
        eligible &= as_mask(attention_mask)
    rank = draw().masked_fill(~eligible, 2.0).argsort(dim=1).argsort(dim=1)  # (B, T)  0 for the smallest draw
    n_chosen = (fraction * eligible.sum(dim=1, keepdim=True)).round().clamp(min=1)  # (B, 1)
    chosen = eligible & (rank < n_chosen)  # (B, T)
    return corrupt(ids, chosen, mask_id, words, draw)


def corrupt(
    ids: Tensor, chosen: Tensor, mask_id: int, words: Tensor, draw: Callable[[], Tensor]
) -> tuple[Tensor, Tensor]:
    """Give the chosen words their fates: 80 % become [MASK], 10 % another word, 10 % stay; all are to be guessed.

    Args:
        ids: token ids (B, T), which stay as they are.
        chosen: boolean (B, T), the words to be guessed.
        mask_id: the id of [MASK].
        words: the ids that may be put in, (number of ordinary ids).
        draw: gives random numbers (B, T) from 0 to 1, other ones at each call.

    Returns:
        The ids with some hidden (B, T), and the labels (B, T): the true id where chosen, IGNORE elsewhere.

    Source: 004 §3.1; Devlin et al., BERT, 2019, §3.1, Task #1, and appendix A.1.
    """
    labels = torch.where(chosen, ids, IGNORE)  # (B, T)
    fate = draw()  # (B, T)
    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)  # (B, T)
    random_words = words[(draw() * len(words)).long().clamp(max=len(words) - 1)]  # (B, T)
    corrupted = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_words, corrupted)  # (B, T)
    return corrupted, labels


class MaskedTexts(Texts):
    """Texts with hidden words, hidden anew in every epoch: batches for `losses.mlm_loss`.

    Args:
        rows: as in `Texts`, like batch_size, n_positions and seed.
        tokenizer: whose [MASK] and special tokens they are.
        fraction: of the words to be guessed.

    Raises:
        UserError: as `Texts`, or a fraction outside 0 … 1.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        tokenizer: Tokenizer,
        batch_size: int,
        n_positions: int,
        fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(rows, batch_size, tokenizer.pad_id, n_positions, seed)
        self.tokenizer, self.fraction = tokenizer, fraction

    def __call__(self, i: int) -> Batch:
        """Batch number i: "ids" with words hidden, "attention_mask" and "labels" (B, T)."""
        batch = super().__call__(i)
        tokenizer = self.tokenizer
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + i + 1_000_000_007)
        ids, labels = mask_tokens(
            batch["ids"],
            tokenizer.mask_id,
            tokenizer.special_ids.values(),
            tokenizer.n_vocab,
            batch["attention_mask"],
            self.fraction,
            generator,
        )
        return batch | {"ids": ids, "labels": labels}
