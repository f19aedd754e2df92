"""Sources and targets to batches for an encoder–decoder: start and end tokens, padding on both sides, lengths together.

Sources and targets are token ids without special tokens. A target y becomes one row [start, y, end], of which
`seq2seq_loss` gives the decoder all but the last and asks for all but the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minitransformer.errors import UserError
from minitransformer.models.seq2seq import Seq2SeqConfig
from minitransformer.text.batches import IGNORE, Batch, pad_right
from minitransformer.text.corpora import Epochs

Ids = Sequence[Sequence[int]]


def translation_batch(sources: Ids, targets: Ids, config: Seq2SeqConfig) -> Batch:
    """One batch of pairs, for a model of this config.

    Gives "source" and "source_mask" (B, S); "ids", "attention_mask" and "labels" (B, T+1), a target from start to end
    token. The labels are the ids themselves, IGNORE at the padding; the loss shifts them.
    """
    check_pairs(sources, targets, config)
    source, source_mask = pad_right(sources, config.pad_id)  # (B, S)
    ids, attention_mask = pad_right([[config.start_id, *y, config.end_id] for y in targets], config.pad_id)  # (B, T+1)
    labels = ids.masked_fill(~attention_mask, IGNORE)  # (B, T+1)
    return {
        "source": source,
        "source_mask": source_mask,
        "ids": ids,
        "attention_mask": attention_mask,
        "labels": labels,
    }


def check_pairs(sources: Ids, targets: Ids, config: Seq2SeqConfig) -> None:
    """Refuse no pair, what is not in pairs, an empty source, and the first text that is too long for the model."""
    if not sources and not targets:
        raise UserError("There is no pair to make a batch of: the split is empty.")
    if len(sources) != len(targets):
        raise UserError(f"{len(sources)} sources and {len(targets)} targets: they have to come in pairs.")
    for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if not len(source):
            raise UserError(f"Pair {number} has an empty source: there is nothing to read.")
        # Of [start, y, end] the decoder is given all but the end.
        for name, length in (("source", len(source)), ("target, with its start token,", len(target) + 1)):
            if length > config.n_positions:
                raise UserError(
                    f"The {name} of pair {number} has {length} tokens; the model has n_positions = "
                    f"{config.n_positions}. Shorten it, leave the pair out, or make the model with more positions."
                )


def _by_length(order: Sequence[int], sources: Ids, targets: Ids) -> list[int]:
    return sorted(order, key=lambda i: (len(sources[i]), len(targets[i])))


class TranslationBatches:
    """Shuffled batches of pairs, every pair at most once an epoch: `batches(i)` is batch number i.

    Every row is as wide as the longest of its batch, and what is filled up is computed for nothing. So pairs of similar
    length go together: an epoch is shuffled, cut into pools of `pool` batches, each pool sorted by length and cut into
    batches, and those batches are shuffled. The larger the pools, the less is filled up, but the more alike are the
    sentences of a batch, and the less a step learns from them; 1 does not sort. Refuses fewer pairs than one batch.
    """

    def __init__(
        self, sources: Ids, targets: Ids, config: Seq2SeqConfig, batch_size: int, seed: int = 0, pool: int = 5
    ) -> None:
        check_pairs(sources, targets, config)
        if not 1 <= batch_size <= len(sources):
            raise UserError(f"{len(sources)} pairs make no batch of {batch_size}: take 1 to {len(sources)}.")
        if pool < 1:
            raise UserError(f"pool = {pool}: a pool has at least one batch.")
        self.sources, self.targets, self.config = sources, targets, config
        self.batch_size, self.pool = batch_size, pool
        self.batches_per_epoch = len(sources) // batch_size
        self._rows = Epochs(self.batches_per_epoch, seed, self._cut)

    def __call__(self, i: int) -> Batch:
        """Batch number i, as `translation_batch` makes it."""
        rows = self._rows(i)
        return translation_batch([self.sources[r] for r in rows], [self.targets[r] for r in rows], self.config)

    def _cut(self, generator: torch.Generator) -> list[list[int]]:
        """The batches of an epoch, as rows of the data; those left over at its end wait for another."""
        order = torch.randperm(len(self.sources), generator=generator).tolist()
        order = order[: self.batches_per_epoch * self.batch_size]
        size = self.pool * self.batch_size
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        if self.pool > 1:
            pools = [_by_length(rows, self.sources, self.targets) for rows in pools]
        rows = [row for part in pools for row in part]
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return [batches[b] for b in torch.randperm(len(batches), generator=generator).tolist()]


def eval_translation_batches(sources: Ids, targets: Ids, config: Seq2SeqConfig, batch_size: int) -> list[Batch]:
    """Every pair once, sorted by length, the last batch perhaps smaller."""
    check_pairs(sources, targets, config)
    rows = _by_length(range(len(sources)), sources, targets)
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return [translation_batch([sources[r] for r in part], [targets[r] for r in part], config) for part in parts]
