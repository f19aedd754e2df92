"""Sentence pairs with masked words: what a BERT is pretrained on (004 §3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from minitransformer.course.batches.masking import mask_tokens
from minitransformer.errors import UserError
from minitransformer.text.batches import Batch, pad_right
from minitransformer.text.corpora import Epochs
from minitransformer.text.tokenizer import Tokenizer

SENTENCE_END = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["”])\s+(?=["“]?[A-Z0-9])""")
NEIGHBOURS, STRANGERS = 0, 1  # BERT's classes of next_label


def split_sentences(document: str) -> list[str]:
    """Cut an English text into sentences: after . ! ?, and after a quotation if a capital or a number follows it."""
    return [sentence for sentence in SENTENCE_END.split(document.strip()) if sentence]


def encode_pair(tokenizer: Tokenizer, a: str, b: str | None = None) -> tuple[list[int], list[int]]:
    """BERT's form of a text: [CLS] A [SEP], or [CLS] A [SEP] B [SEP]; without B where it is None.

    Whatever a sentence holds is text: nobody can write a [SEP] into it. Each is encoded with a space before it, as most
    words are in running text, so that its first word has the same token as that word anywhere else.

    Returns:
        The ids, and the token types, one for each: 0 up to the first [SEP], that one included, 1 after it.
    """
    first = [tokenizer.cls_id, *tokenizer.encode(" " + a), tokenizer.sep_id]
    second = [] if b is None else [*tokenizer.encode(" " + b), tokenizer.sep_id]
    return first + second, [0] * len(first) + [1] * len(second)


class SentencePairs:
    """Pairs of passages, half of them neighbours and half strangers, with words masked: `pairs(i)` is batch number i.

    A pair is a place between two sentences of a document: A stands before it, B after it, up to `span`
    sentences each (BERT, too, calls such passages sentences). An epoch takes every such place once, in random order. A
    fair coin decides whether a pair keeps its B, or gets the B of a pair from another document: a passage is as likely
    to be the second of strangers as of neighbours, so B alone never tells. Coins, strangers and masks are
    drawn anew for each batch: the same pair looks different in every epoch.

    Args:
        documents: texts, or lists of the passages that a text was cut into; those of one sentence are left out,
            having no pair.
        tokenizer: with [CLS], [SEP], [MASK] and padding.
        batch_size: B.
        n_positions: the model's; a longer pair is refused, never cut.
        span: the most sentences of A, and of B.
        seed: of everything random.
        fraction: of the words, to be guessed.

    Raises:
        UserError: fewer than two documents with a pair, fewer pairs than a batch, a pair that is too long.
    """

    def __init__(
        self,
        documents: Sequence[str | Sequence[str]],
        tokenizer: Tokenizer,
        batch_size: int,
        n_positions: int,
        span: int = 1,
        seed: int = 0,
        fraction: float = 0.15,
    ) -> None:
        if batch_size < 1 or span < 1:
            raise UserError(f"batch_size = {batch_size}, span = {span}: both have to be at least 1.")
        self.tokenizer, self.batch_size, self.seed, self.fraction = tokenizer, batch_size, seed, fraction
        self.pairs: list[tuple[str, str]] = []  # A and the B that follows it
        self.document: list[int] = []  # the number of each pair's document
        self._ids: list[tuple[list[int], list[int]]] = []
        for number, document in enumerate(documents):
            sentences = split_sentences(document) if isinstance(document, str) else document
            encoded = [tokenizer.encode(" " + sentence) for sentence in sentences]
            for k in range(1, len(sentences)):
                before, after = slice(max(0, k - span), k), slice(k, k + span)
                self.pairs.append((" ".join(sentences[before]), " ".join(sentences[after])))
                self._ids.append((sum(encoded[before], []), sum(encoded[after], [])))
                self.document.append(number)
        if len(set(self.document)) < 2:
            raise UserError(
                f"Strangers come from different documents: of these {len(documents)}, at least two need more than "
                "one sentence."
            )
        if len(self.pairs) < batch_size:
            raise UserError(
                f"The documents hold {len(self.pairs)} pairs of neighbouring sentences; one batch needs {batch_size}."
            )
        lengths = [[len(ids[side]) for ids in self._ids] for side in (0, 1)]
        longest = [one.index(max(one)) for one in lengths]
        needed = sum(map(max, lengths)) + 3
        if needed > n_positions:
            raise UserError(
                f"A pair may need {needed} positions; the model has n_positions = {n_positions}. The longest passages "
                f"are {self.pairs[longest[0]][0]!r} and {self.pairs[longest[1]][1]!r}."
            )
        self.batches_per_epoch = len(self.pairs) // batch_size
        self._order = Epochs(self.batches_per_epoch, seed, self._draw)

    def _draw(self, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Which pairs give A in each batch of an epoch."""
        return torch.randperm(len(self.pairs), generator=generator).split(self.batch_size)

    def drawn(self, i: int) -> list[tuple[int, int]]:
        """The rows of batch number i: which pair gives A, and which gives B."""
        chosen = self._order(i).tolist()
        generator = self._generator(i, 0)
        coins = torch.rand(len(chosen), generator=generator).tolist()
        return [(j, j if coin < 0.5 else self._stranger(j, generator)) for j, coin in zip(chosen, coins, strict=True)]

    def __call__(self, i: int) -> Batch:
        """Batch number i: "ids" (masked), "attention_mask", "types" and "labels" (B, T), and "next_label" (B)."""
        drawn, tokenizer = self.drawn(i), self.tokenizer
        rows, n_first = [], []
        for a, b in drawn:
            first = [tokenizer.cls_id, *self._ids[a][0], tokenizer.sep_id]
            rows.append([*first, *self._ids[b][1], tokenizer.sep_id])
            n_first.append(len(first))
        ids, attention_mask = pad_right(rows, tokenizer.pad_id)  # (B, T)
        types = (torch.arange(ids.size(1)) >= torch.tensor(n_first)[:, None]) & attention_mask  # (B, T)
        masked, labels = mask_tokens(
            ids,
            tokenizer.mask_id,
            tokenizer.special_ids.values(),
            tokenizer.n_vocab,
            attention_mask,
            self.fraction,
            self._generator(i, 1),
        )
        next_label = torch.tensor([NEIGHBOURS if a == b else STRANGERS for a, b in drawn])  # (B)
        return {
            "ids": masked,
            "attention_mask": attention_mask,
            "types": types.long(),
            "labels": labels,
            "next_label": next_label,
        }

    def _stranger(self, j: int, generator: torch.Generator) -> int:
        """A pair from another document than pair j."""
        while True:
            other = int(torch.randint(len(self.pairs), (1,), generator=generator))
            if self.document[other] != self.document[j]:
                return other

    def _generator(self, i: int, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + i) * 2 + purpose + 1_000_000_007)
