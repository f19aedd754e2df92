"""One trial of a tuning method: put it on a base, train it, judge it, take it off (003 §4, 001 §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from minitransformer.text.batches import Batch
from minitransformer.training.loop import Log, TrainConfig, train
from minitransformer.training.losses import _read, cross_entropy_sum
from minitransformer.tuning import Method, Report, attached

Judgement = TypeVar("Judgement")


@dataclass(frozen=True)
class Trial(Generic[Judgement]):
    """What a trial came to."""

    report: Report | None  # what the method trains and keeps; None where there was no method
    log: Log | None  # of the training; None where nothing was trained
    judged: Judgement  # what `judge` returned, with the method on


def tune(
    model: nn.Module,
    method: Method | None,
    batches: Callable[[int], Batch],
    config: TrainConfig | None,
    judge: Callable[[], Judgement] = lambda: None,
    **how: Any,
) -> Trial[Judgement]:
    """Put a method on a model, train it, judge the model, and take the method off again.

    The base is afterwards what it was before, bit for bit. The method keeps what it learned, and can be attached again.

    Args:
        model: a base, or a classifier on one, whose head is trained along and stays trained.
        method: on no base yet; None trains a classifier's head alone, on the frozen base.
        batches: what it learns from: batch number i of the run.
        config: how it is trained; None does not train it, and judges it as it begins.
        judge: called once, after the training and with the method on; its result is in the trial.
        how: further arguments of `train`, such as `valid`, `loss` and `progress`.

    Raises:
        UserError: as `Method.attach` and `train`. The method is taken off then, too.
    """
    with attached(model, method) if method else frozen(model):
        report = method.report() if method else None
        log = train(model, batches, config, **how) if config else None
        return Trial(report, log, judge())


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let nothing of a base be trained; of a classifier, its head still is."""
    own = [p for p in getattr(model, "base", model).parameters() if p.requires_grad]
    for p in own:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in own:
            p.requires_grad_(True)


class CountedClassification:
    """`classification_loss`, and the accuracy of each validation: give `loss` and `on_eval` to `training.train`.

    The loop reads the validation set for the loss anyway; this counts the right answers on the way.
    """

    def __init__(self) -> None:
        self.accuracies: list[float] = []  # one for each evaluation so far
        self._right: list[Tensor] = []

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """As `classification_loss`."""
        logits = _read(model, batch, "label")  # a row for each text
        if not model.training:
            self._right.append(logits.argmax(-1) == batch["label"])  # (B)
        return cross_entropy_sum(logits, batch["label"])

    def on_eval(self, step: int, value: float) -> None:
        """Note the accuracy of the evaluation that ends here."""
        self.accuracies.append(torch.cat(self._right).float().mean().item())
        self._right.clear()
