"""What each model is trained on: next words, masked words, next sentences, classes, translations.

Every loss takes (model, batch) and gives the sum of the losses in nats and how many there are, as
`minitransformer.training.loop` wants it. Means of batches with different numbers of labels cannot be averaged without
changing what each label weighs; sums can be added up. A batch names its tensors: "ids" (B, T) and, where padding is,
"attention_mask" (B, T), False there; a BERT's also "types" (B, T). A label outside the classes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.checks import as_mask, check_kind
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import check_gives_next
from minitransformer.models.gpt import GPT
from minitransformer.models.layers import checked_ids
from minitransformer.text.batches import IGNORE, Batch

Loss = Callable[[Any, Batch], tuple[Tensor, int]]


def language_model_loss(model: Callable[..., Tensor], batch: Batch) -> tuple[Tensor, int]:
    """Next-token cross-entropy, summed over the positions that have a label (004 §4.2; 000 §4.1 in logarithms).

    The batch has "ids" (B, T+1) and optionally "labels" (B, T+1), which stand at the token that is to be predicted, as
    the ids do, and are IGNORE where no loss is asked; without them every real token is asked. The model gives logits
    over the next token.
    """
    check_gives_next(model)
    _check_names(batch, "ids", may=("labels", "attention_mask"))
    ids, labels, attention_mask = checked_ids(batch["ids"]), batch.get("labels"), batch.get("attention_mask")
    if attention_mask is not None:
        attention_mask = as_mask(attention_mask, tuple(ids.shape))
    if labels is None:
        labels = ids if attention_mask is None else ids.masked_fill(~attention_mask, IGNORE)
    if labels.shape != ids.shape:
        raise UserError(
            f"labels stand at the token that is to be predicted, as the ids do, {tuple(ids.shape)}; these are "
            f"{tuple(labels.shape)}. The loss shifts them itself."
        )
    targets = labels[:, 1:]  # (B, T)  position t predicts token t + 1
    at = targets != IGNORE  # (B, T)
    whole = bool(at.all())
    logits = model(
        ids[:, :-1], attention_mask=None if attention_mask is None else attention_mask[:, :-1], at=None if whole else at
    )
    return cross_entropy_sum(logits.flatten(0, -2), targets.flatten() if whole else targets[at])


def mlm_loss(model: Bert, batch: Batch) -> tuple[Tensor, int]:
    """Masked words: L_MLM = -Σ log p(true word | the text around it), over the chosen (004 §4.2).

    The batch has "ids" with some words hidden and "labels" (B, T), the true word where it was chosen and IGNORE
    elsewhere.
    """
    return _masked_words(model, _read(model, batch, "labels"), batch)


def nsp_loss(model: Bert, batch: Batch) -> tuple[Tensor, int]:
    """Next sentence: -Σ log p(whether B follows A), one a row (004 §3.1, NSP, 下一句预测).

    The batch has "next_label" (B), 0 where sentence B follows A and 1 where not.
    """
    hidden = _read(model, batch, "next_label")  # (B, T, C)
    return cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])


def bert_loss(model: Bert, batch: Batch) -> tuple[Tensor, int]:
    """Both at once, as BERT was trained: mean L_MLM + mean L_NSP, from one reading of the text.

    In the form of a sum and a count: n_MLM times that, and n_MLM. The model has both heads; the batch has "ids",
    "labels" and "types" (B, T) and "next_label" (B), and optionally "attention_mask" (B, T), as in `mlm_loss` and
    `nsp_loss`. Optionally "whole" (2) are n_MLM and B of a larger batch whose rows these are.

    Source: 004 §3.1; Devlin et al., BERT, 2019, appendix A.2.
    """
    hidden = _read(model, batch, "labels", "next_label")  # (B, T, C)
    words, n_words = _masked_words(model, hidden, batch)
    order, n_order = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    n_all_words, n_all_order = batch["whole"].tolist() if "whole" in batch else (n_words, n_order)
    return words + n_all_words * order / n_all_order, n_words


def classification_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Classes: -Σ log p(class | text), one a row (004 §4.2, cross-entropy, 交叉熵损失).

    The batch has "label" (B). The model gives (B, number of classes) logits, as a `Classifier` does.
    """
    return cross_entropy_sum(_read(model, batch, "label"), batch["label"])


def seq2seq_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """The target's next tokens, given the source: -Σ log p(y_{t+1} | y_≤t, x) (003 §3.1).

    The batch has "source" (B, S) and optionally "source_mask" (B, S); "ids" (B, T+1) are the target from start_id to
    end_id.
    """
    if isinstance(model, GPT):
        raise UserError("A GPT reads no source: give an encoder–decoder, or ask for language_model_loss.")
    check_gives_next(model)
    _check_names(batch, "ids", "source", may=("source_mask", "labels", "attention_mask"))
    source = {name: batch.get(name) for name in ("source", "source_mask")}
    return language_model_loss(partial(model, **source), {name: batch[name] for name in batch.keys() - source.keys()})


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """-Σ log softmax(logits)[label] and the number of labels: (N, classes) and (N) → a number in nats, N.

    The sum is made in float32 at least, whatever the logits are: in bfloat16 it would be right to 0.03 nats a token.
    """
    if logits.dim() != 2:
        raise UserError(f"The logits are {tuple(logits.shape)}, not (N, classes): has the model a head for this?")
    if labels.shape != logits.shape[:1]:
        raise UserError(f"There is one label for each row: {logits.size(0)} rows, labels {tuple(labels.shape)}.")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"Labels are whole numbers; these are {labels.dtype}.")
    wrong = (labels < 0) | (labels >= logits.size(1))
    if wrong.any():
        row = int(wrong.int().argmax())
        raise UserError(
            f"Label {labels[row].item()}, number {row} (from 0) of those that are asked: the classes run from 0 to "
            f"{logits.size(1) - 1}, and {IGNORE} stands where a text asks for nothing, at virtual tokens too."
        )
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(precise, labels.long(), reduction="sum"), labels.numel()


def _check_names(batch: Batch, *needed: str, may: Collection[str]) -> None:
    check_kind(batch, Mapping, "A batch is a dictionary of tensors, {'ids': …}")
    for name, value in batch.items():
        check_kind(value, Tensor | None, f"{name!r} of a batch is a tensor")
    if not set(needed) <= batch.keys() <= {*needed, *may, "whole"}:
        reads = f"needs {', '.join(needed)}, and reads {', '.join(may)} where it is there"
        raise UserError(f"The batch has {', '.join(map(str, batch))}; this loss {reads}. The names have to be these.")


def _read(model: nn.Module, batch: Batch, *needed: str) -> Tensor:
    _check_names(batch, "ids", *needed, may=("attention_mask", "types", "label", "labels", "next_label"))
    if "label" not in needed and not hasattr(model, "mlm_logits"):
        raise UserError(f"A {type(model).__name__} has none of a BERT's heads, which masked words and pairs need.")
    return model(**{name: batch[name] for name in ("ids", "attention_mask", "types") if name in batch})


def _masked_words(model: Bert, hidden: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """-Σ log p(true word) over the chosen positions, in nats, and how many they are; L_MLM is the quotient (004 §4.2).

    `hidden` (B, T, C) is what the model, which has its mlm head, has read. "labels" (B, T) are the true word where it
    was chosen and IGNORE elsewhere. Raises `UserError` for a label where an "attention_mask" (B, T) is False.
    """
    labels, attention_mask = batch["labels"], batch.get("attention_mask")
    if labels.shape != hidden.shape[:2]:
        raise UserError(f"There is one label for each token: {tuple(hidden.shape[:2])}, not {tuple(labels.shape)}.")
    at = labels != IGNORE  # (B, T)
    if attention_mask is not None and (outside := at & ~as_mask(attention_mask)).any():
        row, column = outside.nonzero()[0].tolist()
        raise UserError(f"Row {row} asks for the word at position {column}, which is padding: there is none.")
    return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])
