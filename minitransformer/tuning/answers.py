"""The continuous answer mapping (答案映射): a label is a trained vector in the place of words (001 §3.1.1)."""

from __future__ import annotations

import operator
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
from minitransformer.training.losses import cross_entropy_sum
from minitransformer.tuning.bases import Base
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting, size

Answers: TypeAlias = dict[str, dict[str, list[int]]]  # label → word → its token ids


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
    "an answer mapping, label → word → token ids, of at least two labels with a word each",
    _answer_mapping,
)


class AnswerVectors(Method):
    """The continuous answer mapping: trained vectors in the place of words, score = h · v_label (001 §3.1.1).

    h is what the model compares with each word's embedding; v_label starts as the mean embedding of the label's words.
    To train it: `train(base, batches, config, loss=vectors.loss)`, with batches of `LabelledTexts` whose rows have one
    [MASK] (for a BERT), or end where the answer belongs (for a GPT).
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
