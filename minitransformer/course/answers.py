"""Answer mappings (答案映射): which words in the gap of a template stand for a label (001 §3.1.1).

by hand                a label → words that a person chooses
the nearest words      … and the words whose embeddings are nearest to theirs
continuous             a label → a trained vector in the place of words, a method like the others
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import Rule
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import last_token
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import Batch
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.training.losses import cross_entropy_sum
from minitransformer.tuning.bases import Base
from minitransformer.tuning.method import Method
from minitransformer.tuning.prompt import nearest_words
from minitransformer.tuning.settings import Setting, size

Words: TypeAlias = Mapping[str, str | Sequence[str]]  # label → a word, or several
Answers: TypeAlias = dict[str, dict[str, list[int]]]  # label → word → its token ids


def by_hand(words: Words, tokenizer: Tokenizer) -> Answers:
    """The answer mapping that a person chooses: {"positive": ["good", "great"], "negative": "bad"}.

    Gives label → word → its token ids, which are those of the word with one space before it; spaces of its own go.
    Raises `UserError` for fewer than two labels, one without words, a word that is empty, special, or there twice,
    under one label or two.
    """
    answers: Answers = {label: {} for label in words}
    if len(answers) < 2:
        raise UserError(f"The labels are {list(answers)}: there have to be at least two to choose from.")
    for label, own in words.items():
        for word in [own] if isinstance(own, str) else own:
            word = word.strip()
            others = [other for other, taken in answers.items() if word in taken]
            if others:
                raise UserError(f"The word {word!r} stands for {others[0]!r} and for {label!r}: it may stand once.")
            if not word or {*tokenizer.special_ids.values()} & {*tokenizer.encode(word, allow_special=True)}:
                raise UserError(f"The label {label!r} has {word!r}: an answer is not empty and no special token.")
            answers[label][word] = tokenizer.encode(" " + word)
        if not answers[label]:
            raise UserError(f"The label {label!r} has no words: it needs at least one.")
    return answers


def nearest(
    words: Words, model: Bert | GPT, tokenizer: Tokenizer, k: int = 5, among: Collection[str] | None = None
) -> Answers:
    """The answer mapping by likeness: each label's words, and the K words that are nearest to their mean embedding.

    Nearest by cosine, among the words of one token that are in `among`; None takes all tokens of letters (two or more)
    after a space, pieces of longer words (" gre") too. No label's own word is a neighbour. What is near two labels is
    left out, so that there may be fewer than K.
    Raises `UserError` as `by_hand`, and for k below 1.
    """
    if k < 1:
        raise UserError(f"k = {k}: each label gets at least one word, or is mapped by_hand.")
    answers = by_hand(words, tokenizer)
    taken = {word for own in answers.values() for word in own}
    near = []
    for ranking in nearest_words(label_vectors(model, answers), model, k=model.config.vocab_size):
        texts = (tokenizer.decode([token]) for token, _ in ranking)
        ranked = [word[1:] for word in texts if re.fullmatch(r" [^\W\d_]{2,}", word)]
        near.append([word for word in ranked if word not in taken and (among is None or word in among)][:k])
    twice = {word for i, own in enumerate(near) for other in near[:i] for word in own if word in other}
    sets = zip(answers.items(), near, strict=True)
    return by_hand({label: [*own, *(w for w in new if w not in twice)] for (label, own), new in sets}, tokenizer)


def label_vectors(base: Base, answers: Answers) -> Tensor:
    """The mean embedding of each label's words, (labels, C); a word's is the mean of its tokens'."""
    table = base.token_embedding.weight.detach()  # (V, C)
    return torch.stack([torch.stack([table[ids].mean(0) for ids in own.values()]).mean(0) for own in answers.values()])


def _answer_mapping(value: Any) -> Answers:
    found = {
        str(label): {str(word): [operator.index(i) for i in ids] for word, ids in own.items()}
        for label, own in value.items()
    }
    if len(found) < 2 or not all(own and all(own.values()) for own in found.values()):
        raise ValueError
    return found


ANSWERS = Rule(
    "an answer mapping, label → word → token ids, of at least two labels with a word each, as by_hand() makes one",
    _answer_mapping,
)


class AnswerVectors(Method):
    """The continuous answer mapping: trained vectors in the place of words, score = h · v_label (001 §3.1.1).

    h is what the model compares with each word's embedding; v_label starts as the mean embedding of the label's words.
    To train it: `train(base, batches, config, loss=vectors.loss)`, with batches of `LabelledTexts` whose rows come from
    `Template.for_bert` or `for_gpt`.
    """

    place = "answer"
    goes_onto = (Bert, GPT)

    answers = Setting(ANSWERS, "label → word → its token ids.")
    mask_id = Setting(size("token ids run from 0", least=0), "[MASK]'s id.")
    vectors: nn.Parameter  # a row of width C for each label; None until it is made for a base

    def __init__(self, answers: Answers, mask_id: int) -> None:
        super().__init__(answers=answers, mask_id=mask_id)
        self.register_parameter("vectors", None)

    def build(self, base: Base) -> None:
        """A vector for each label."""
        if is_bert(base) and base.mlm is None:
            raise UserError("This BERT has no mlm head, so that there is nothing to compare with words.")
        self.vectors = nn.Parameter(label_vectors(base, self.answers))

    def install(self, base: Base) -> tuple[()]:
        """Nothing of the base changes."""
        return ()

    def scores(self, model: Bert | GPT, batch: Batch) -> Tensor:
        """Logits over the labels, (B, labels), from "ids" and "attention_mask" (B, T).

        A BERT's rows have one [MASK] each.
        """
        ids, attention_mask = batch["ids"], batch["attention_mask"]
        if not is_bert(model):
            at = last_token(ids, attention_mask)
            h = model(ids, attention_mask=attention_mask, at=at, return_hidden=True)  # (B, C)
            return h.to(self.vectors.dtype) @ self.vectors.T  # a score for each label
        at = ids == self.mask_id  # (B, T)
        for row, n in enumerate(at.sum(dim=1).tolist()):
            if n != 1:
                raise UserError(f"Row {row} has {n} [MASK]s: a label's vector answers at exactly one.")
        h = model(ids, attention_mask=attention_mask)[at]  # (B, C)
        mlm: Any = model.mlm
        h = mlm.norm(F.gelu(mlm.dense(h)))  # as `MaskedWordHead`, without its bias
        return h.to(self.vectors.dtype) @ self.vectors.T  # a score for each label

    def loss(self, model: Bert | GPT, batch: Batch) -> tuple[Tensor, int]:
        """-Σ log p(label | text) and how many, as `classification_loss`; "label" (B) beside what `scores` takes."""
        return cross_entropy_sum(self.scores(model, batch), batch["label"])


def is_bert(model: nn.Module) -> bool:
    """Whether the model fills gaps (a BERT) or goes on writing (a GPT); refuses one that is neither."""
    if not isinstance(model, Bert | GPT):
        raise UserError(f"Prompts are put to a Bert or a GPT, which guess words, not to a {type(model).__name__}.")
    return isinstance(model, Bert)
