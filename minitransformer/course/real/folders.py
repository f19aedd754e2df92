"""A published model in a folder of the reader's, or a base of the course in its place: asked, given a prefix, tuned.

Ten lines are enough to see that all of it works; they are learned by heart, and nothing is said about other lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from minitransformer.course.own.base import load
from minitransformer.course.own.kinds import KINDS
from minitransformer.course.own.rows import Row
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.tuning import PrefixTuning, attached

P = 5


class TenLines(NamedTuple):
    """What came of it."""

    kind: str  # "GPT", "Bert" or "Seq2Seq"
    parameters: int  # of the model
    trained: int  # of the prefix
    untouched: float  # the loss on the lines, in nats
    with_prefix: float  # with a prefix on, before any training
    tuned: float
    before: str  # what the untouched model answers to the first line
    after: str


def ten_lines(
    task: str, name: str, rows: Sequence[Mapping[str, str]], steps: int = 30, lr: float = 3e-2, longest: int = 20
) -> TenLines:
    """Ask a model, put a prefix on it, tune the prefix on these rows, ask again, and take it off.

    Args:
        task: "completion", "classification" or "translation".
        name: "gpt", "bert" or "seq2seq", the course's bases, or a folder with a published model.
        rows: with the columns of the task.
        steps: each reads all rows.
        lr: of the prefix.
        longest: tokens of an answer.

    Raises:
        UserError: no such folder, or a model that cannot do the task.
    """
    base, words, _ = load(name)
    torch.manual_seed(0)
    given, wanted = KINDS[task].columns
    labels = sorted({row[wanted] for row in rows}) if task == "classification" else []
    kind = KINDS[task](base, words, P, labels)
    lines = [Row(i, row) for i, row in enumerate(rows, 1)]
    held = kind.held_out(lines)

    def answer() -> str:
        return kind.answers([lines[0][given]], longest)[0]

    untouched, before = evaluate(kind.model, held, kind.loss), answer()
    method = PrefixTuning(P, init="vocabulary")
    with attached(kind.model, method):
        with_prefix = evaluate(kind.model, held, kind.loss)
        config = TrainConfig(steps, lr, warmup=steps // 10, weight_decay=0.0)
        train(kind.model, kind.batches(lines, len(lines), 0), config, loss=kind.loss, progress=False)
        tuned, after, report = evaluate(kind.model, held, kind.loss), answer(), method.report()
    return TenLines(type(base).__name__, report.base, report.trained, untouched, with_prefix, tuned, before, after)
