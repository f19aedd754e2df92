"""The three kinds of task of one's own: what a row is, how it becomes a batch, and how answers are judged.

completion      prompt → completion    a GPT goes on with a text: z = [x; y] (003 §3.1)
classification  text → label           a BERT or a GPT with a head on top (004 §4.2)
translation     source → target        an encoder–decoder (003 §3.1)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from minitransformer import metrics
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.course.batches.translation import TranslationBatches, eval_translation_batches
from minitransformer.course.own.base import require
from minitransformer.course.own.rows import Refused, Row
from minitransformer.generation.sampling import generate
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.text.batches import Batch, pad_right
from minitransformer.text.batches.completion import Completions, eval_completions, fit
from minitransformer.training.losses import Loss, classification_loss, language_model_loss, seq2seq_loss

AT_ONCE = 25  # texts that are judged or answered in one batch


class Kind(ABC):
    """A kind of task on one base.

    Args:
        base: the model, which nothing is on yet.
        words: its tokenizer.
        room: positions that a method takes for itself, such as a prefix.
        labels: of a classification, the classes in their order.

    Raises:
        UserError: a base that cannot do it.
    """

    columns: ClassVar[tuple[str, str]]  # what is given, and what is wanted
    score: ClassVar[str]  # which of its scores counts
    loss: Loss

    def __init__(self, base: Any, words: Any, room: int = 0, labels: Sequence[str] = ()) -> None:
        self.base, self.words, self.labels = base, words, list(labels)
        self.room = base.config.n_positions - room
        self.model: nn.Module = base  # what is trained and asked; a classifier where there is a head

    def fitting(self, rows: Sequence[Row], cut: bool) -> tuple[list[Row], list[Refused]]:
        """The rows that the model has room for; the others are cut, or refused with their number.

        Args:
            rows: good rows.
            cut: whether rows that are too long are cut: training can use them all the same.

        Returns:
            The rows that stay, and a line for each that was refused or cut.
        """
        kept, said = [], []
        for row, n in zip(rows, self.lengths(rows), strict=True):
            if n <= self.room:
                kept.append(row)
            elif cut:
                kept.append(row)
                said.append(Refused(row.number, f"it needs {n} positions of {self.room}: it was cut, and is used"))
            else:
                said.append(Refused(row.number, f"it needs {n} positions, and there are {self.room} (--cut cuts it)"))
        return kept, said

    @abstractmethod
    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """The positions that each row needs."""

    @abstractmethod
    def lengths_of(self, texts: Sequence[str]) -> list[int]:
        """The positions that each text needs by itself, when the model is asked about it."""

    @abstractmethod
    def batches(self, rows: Sequence[Row], batch_size: int, seed: int) -> Callable[[int], Batch]:
        """What is learned from: batch number i."""

    @abstractmethod
    def held_out(self, rows: Sequence[Row]) -> list[Batch]:
        """Every row once, for the loss."""

    @abstractmethod
    def answers(self, texts: Sequence[str], longest: int = 100) -> list[str]:
        """What the model answers to each text, as it is now; at most `longest` tokens where it writes."""

    @abstractmethod
    def judge(self, answers: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Scores of answers, each with its name; fractions are 0 … 1, BLEU, chrF and ROUGE 0 … 100."""

    def in_parts(self, texts: Sequence[str], write: Callable[[list[str]], list[str]]) -> list[str]:
        """Answer texts of like length together, and give the answers in the order of the texts."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: dict[int, str] = {}
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            found.update(zip(part, write([texts[i] for i in part]), strict=True))
        return [found[i] for i in range(len(texts))]


class Completion(Kind):
    """A GPT goes on with a text."""

    columns = ("prompt", "completion")
    score = "exact"

    def __init__(self, base: Any, words: Any, room: int = 0, labels: Sequence[str] = ()) -> None:
        require(base, (GPT,), "completion", "An encoder–decoder does translation, a BERT classification.")
        super().__init__(base, words, room, labels)
        self.loss = language_model_loss

    def x(self, texts: Sequence[str]) -> list[list[int]]:
        """An end-of-text token, and the prompt: it is a new text."""
        return [[self.words.eot_id, *ids] for ids in self.words.encode_batch(texts)]

    def pairs(self, rows: Sequence[Row]) -> tuple[list[list[int]], list[list[int]]]:
        """Prompts and completions as ids; a word that follows on the same line brings its own space."""
        prompts = [row["prompt"].rstrip(" ") for row in rows]
        targets = [
            row["completion"].strip(" ") if prompt.endswith("\n") else " " + row["completion"].strip(" ")
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        return self.x(prompts), self.words.encode_batch(targets)

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """x, y and the end."""
        return [len(x) + len(y) + 1 for x, y in zip(*self.pairs(rows), strict=True)]

    def lengths_of(self, texts: Sequence[str]) -> list[int]:
        """x, and room for one token of an answer."""
        return [len(x) + 1 for x in self.x([text.rstrip(" ") for text in texts])]

    def batches(self, rows: Sequence[Row], batch_size: int, seed: int) -> Callable[[int], Batch]:
        """Rows [x; y; end], of which y and the end are asked."""
        return Completions(*self.pairs(rows), self.words.eot_id, batch_size, self.room - 1, seed, cut=True)

    def held_out(self, rows: Sequence[Row]) -> list[Batch]:
        """As `batches`, once each."""
        xs, ys = self.pairs(rows)
        fitted = [fit(x, y, self.room - 1) for x, y in zip(xs, ys, strict=True)]
        return eval_completions([f.prompt for f in fitted], [f.target for f in fitted], self.words.eot_id, AT_ONCE)

    def answers(self, texts: Sequence[str], longest: int = 100) -> list[str]:
        """What it goes on with, greedily; a prompt that leaves no room for an answer is cut to half of the room."""

        def new_ids(prompts: list[list[int]], most: int) -> list[list[int]]:
            return generate(self.base, prompts, most, stop_id=self.words.eot_id)

        def write(part: list[str]) -> list[str]:
            prompts = self.x([text.rstrip(" ") for text in part])
            prompts = [x if len(x) < self.room else fit(x, x, self.room).prompt for x in prompts]
            own = [min(longest, self.room - len(x)) for x in prompts]
            new = new_ids(prompts, min(own))
            for i, most in enumerate(own):
                if len(new[i]) == min(own) < most:  # the longest prompt of the part left it less room than it has alone
                    (new[i],) = new_ids([prompts[i]], most)
            return [self.words.decode(ids).strip() for ids in new]

        return self.in_parts(texts, write)

    def judge(self, answers: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Exactly right, and chrF."""
        right = [row["completion"].strip() for row in rows]
        return written(answers, right)


class Classification(Kind):
    """A BERT or a GPT with a head sorts texts."""

    columns = ("text", "label")
    score = "accuracy"

    def __init__(self, base: Any, words: Any, room: int = 0, labels: Sequence[str] = ()) -> None:
        require(base, (Bert, GPT), "classification", "An encoder–decoder does translation.")
        super().__init__(base, words, room, labels)
        self.loss = classification_loss
        if labels:
            self.model = Classifier(base, len(labels))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """[CLS] text [SEP] for a BERT; an end-of-text token and the text for a GPT."""
        words = self.words
        if isinstance(self.base, GPT):
            return [[words.eot_id, *ids] for ids in words.encode_batch(texts)]
        return [[words.cls_id, *ids, words.sep_id] for ids in words.encode_batch(texts)]

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """The text with its special tokens."""
        return self.lengths_of([row["text"] for row in rows])

    def lengths_of(self, texts: Sequence[str]) -> list[int]:
        """The text with its special tokens."""
        return [len(ids) for ids in self.ids(texts)]

    def _cut(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Too long a text loses its middle: its end may hold the word that decides."""
        return [fit(ids, [], self.room).prompt if len(ids) > self.room else list(ids) for ids in rows]

    def _texts(self, rows: Sequence[Row], batch_size: int, seed: int) -> LabelledTexts:
        ids, labels = self._cut(self.ids([row["text"] for row in rows])), [row["label"] for row in rows]
        return LabelledTexts(ids, labels, self.labels, batch_size, self.words.pad_id, self.room, seed)

    def batches(self, rows: Sequence[Row], batch_size: int, seed: int) -> Callable[[int], Batch]:
        """Texts with the number of their class."""
        return self._texts(rows, batch_size, seed)

    def held_out(self, rows: Sequence[Row]) -> list[Batch]:
        """As `batches`, once each."""
        return self._texts(sorted(rows, key=lambda row: len(row["text"])), AT_ONCE, 0).in_order()

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """Of each text, the probability of each class, in the order of `labels`."""
        self.model.eval()
        device = next(self.model.parameters()).device
        found: list[list[float]] = []
        for text in texts:
            ids = torch.tensor(self._cut(self.ids([text])), device=device)  # (1, T)
            found.append(self.model(ids).float().softmax(-1)[0].tolist())
        return found

    def answers(self, texts: Sequence[str], longest: int = 100) -> list[str]:
        """The likeliest class of each."""
        return [self.labels[max(range(len(p)), key=p.__getitem__)] for p in self.probabilities(texts)]

    def judge(self, answers: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Accuracy, the mean F1 of the classes, and what always saying the commonest class would get."""
        right = [row["label"] for row in rows]
        return {
            "accuracy": metrics.accuracy(answers, right),
            "macro F1": metrics.macro_f1(answers, right),
            "commonest class": max(Counter(right).values()) / len(right),
        }


class Translation(Kind):
    """An encoder–decoder reads one text and writes another."""

    columns = ("source", "target")
    score = "chrF"

    def __init__(self, base: Any, words: Any, room: int = 0, labels: Sequence[str] = ()) -> None:
        require(base, (Seq2Seq,), "translation", "With a GPT, ask for completion.")
        super().__init__(base, words, room, labels)
        self.loss = seq2seq_loss

    def pairs(self, rows: Sequence[Row]) -> tuple[list[list[int]], list[list[int]]]:
        """Sources and targets as ids, each cut where it is longer than the model."""
        sources, targets = (self.words.encode_batch([row[name] for row in rows]) for name in self.columns)
        return [ids[: self.room] for ids in sources], [ids[: self.room - 1] for ids in targets]

    def lengths(self, rows: Sequence[Row]) -> list[int]:
        """The longer of source, and target with its start token."""
        sources, targets = (self.words.encode_batch([row[name] for row in rows]) for name in self.columns)
        return [max(len(x), len(y) + 1) for x, y in zip(sources, targets, strict=True)]

    def lengths_of(self, texts: Sequence[str]) -> list[int]:
        """The source."""
        return [len(ids) for ids in self.words.encode_batch(texts)]

    def batches(self, rows: Sequence[Row], batch_size: int, seed: int) -> Callable[[int], Batch]:
        """Pairs."""
        return TranslationBatches(*self.pairs(rows), self.base.config, min(batch_size, len(rows)), seed)

    def held_out(self, rows: Sequence[Row]) -> list[Batch]:
        """As `batches`, once each."""
        return eval_translation_batches(*self.pairs(rows), self.base.config, AT_ONCE)

    def answers(self, texts: Sequence[str], longest: int = 100) -> list[str]:
        """What it writes, greedily."""
        config, device = self.base.config, next(self.base.parameters()).device

        def write(part: list[str]) -> list[str]:
            source, mask = pad_right([ids[: self.room] for ids in self.words.encode_batch(part)], config.pad_id)
            new = generate(
                self.base,
                [[config.start_id]] * len(part),
                min(longest, self.room - 1),
                stop_id=config.end_id,
                source=source.to(device),
                source_mask=mask.to(device),
            )
            return [self.words.decode(ids).strip() for ids in new]

        return self.in_parts(texts, write)

    def judge(self, answers: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
        """Exactly right, and chrF."""
        return written(answers, [row["target"].strip() for row in rows])


KINDS: dict[str, type[Kind]] = {kind.__name__.lower(): kind for kind in (Completion, Classification, Translation)}


def written(answers: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """How near written answers come to the right ones."""
    return {
        "exact": metrics.accuracy([" ".join(text.split()) for text in answers], [" ".join(t.split()) for t in right]),
        "chrF": metrics.chrf(answers, [[text] for text in right]),
    }
