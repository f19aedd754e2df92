"""Whole texts as batches: padded, and labelled for a `Classifier`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minitransformer.errors import UserError
from minitransformer.text.batches import Batch, pad_right
from minitransformer.text.corpora import Epochs
from minitransformer.text.tokenizer import Tokenizer

POOL = 10  # batches that are sorted by length together


def encode_for_bert(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """[CLS] text [SEP], as ids: a BERT's pooler reads the first of them."""
    return [[tokenizer.cls_id, *ids, tokenizer.sep_id] for ids in tokenizer.encode_batch(texts)]


def encode_for_gpt(texts: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """An end-of-text token and the text, as in pre-training.

    None after it: a GPT that reads one is about to begin another text, and has no more need of this one. At the text's
    last token it still has to know what could follow, and so keeps what the text says.
    """
    return [[tokenizer.eot_id, *ids] for ids in tokenizer.encode_batch(texts)]


class Texts:
    """Encoded texts, every one once an epoch in random order: `texts(i)` is batch number i.

    Texts of like length go into the same batch, which spares padding: the shuffled texts are sorted within pools of
    `POOL` batches, and then the batches are shuffled. One batch of an epoch is smaller where the numbers do not divide.
    Refuses no text, an empty one, and one longer than n_positions: it is not cut, since the word that decides may stand
    at its end.
    """

    def __init__(
        self, rows: Sequence[Sequence[int]], batch_size: int, pad_id: int, n_positions: int, seed: int = 0
    ) -> None:
        if not rows:
            raise UserError("The split is empty: there is no text in it.")
        if batch_size < 1:
            raise UserError(f"batch_size = {batch_size}: a batch holds at least one text.")
        for i, row in enumerate(rows):
            if not len(row):
                raise UserError(f"Text {i} has no token: leave it out.")
            if len(row) > n_positions:
                raise UserError(
                    f"Text {i} has {len(row)} tokens; the model reads n_positions = {n_positions}. Shorten it, or take "
                    "a model with more positions."
                )
        self.rows, self.batch_size, self.pad_id, self.seed = rows, batch_size, pad_id, seed
        self.batches_per_epoch = -(-len(rows) // batch_size)
        self.drawn = Epochs(self.batches_per_epoch, seed, self._draw)  # which texts make up batch number i, (B)

    def __call__(self, i: int) -> Batch:
        """Batch number i: "ids" and "attention_mask" (B, T)."""
        return self.batch(self.drawn(i))

    def in_order(self) -> list[Batch]:
        """All texts once, as they stand, for evaluation."""
        return [self.batch(part) for part in torch.arange(len(self.rows)).split(self.batch_size)]

    def batch(self, which: torch.Tensor) -> Batch:
        """The texts of these numbers, padded."""
        ids, attention_mask = pad_right([self.rows[i] for i in which.tolist()], self.pad_id)  # (B, T)
        return {"ids": ids, "attention_mask": attention_mask}

    def _draw(self, generator: torch.Generator) -> list[torch.Tensor]:
        lengths = torch.tensor([len(row) for row in self.rows])
        shuffled = torch.randperm(len(self.rows), generator=generator)
        pools = [pool[lengths[pool].argsort()] for pool in shuffled.split(POOL * self.batch_size)]
        batches = [batch for pool in pools for batch in pool.split(self.batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class LabelledTexts(Texts):
    """Texts with their classes: batches for `losses.classification_loss`.

    `labels` are the class of each text, by name; `classes` are all names, and a label's number is its place among them.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        labels: Sequence[str],
        classes: Sequence[str],
        batch_size: int,
        pad_id: int,
        n_positions: int,
        seed: int = 0,
    ) -> None:
        super().__init__(rows, batch_size, pad_id, n_positions, seed)
        if len(rows) != len(labels):
            raise UserError(f"{len(rows)} texts and {len(labels)} labels: each text has one.")
        for i, label in enumerate(labels):
            if label not in classes:
                raise UserError(f"Text {i} has the label {label!r}; the classes are {', '.join(map(repr, classes))}.")
        self.labels = torch.tensor([list(classes).index(label) for label in labels])

    def batch(self, which: torch.Tensor) -> Batch:
        """As in `Texts`, and "label" (B)."""
        return super().batch(which) | {"label": self.labels[which]}
