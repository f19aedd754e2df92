"""The laboratory's tasks: for each a base, data, how a cell of it is set up, and the score that counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from minitransformer import metrics
from minitransformer.course.batches.classification import LabelledTexts, encode_for_bert, encode_for_gpt
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.lab.cells import NO_METHOD, Cell
from minitransformer.course.lab.cost import METHODS, QUANTITIES, costs
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.course.trial import CountedClassification
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import Batch
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.training.loop import evaluate
from minitransformer.training.losses import Loss, language_model_loss
from minitransformer.tuning import Method, virtual_ids

BEAMS = 5  # in table-to-text (Li & Liang 2021, §5)
SHORT = 80  # tokens of an example that stands before a task
LONGEST = 90  # tokens that are written about a table; the longest right answer has 82


@dataclass
class Setup:
    """A cell's task, ready to be trained and scored."""

    model: nn.Module  # the base, or a classifier on it
    batches: Callable[[int], Batch]
    loss: Loss
    measure: Callable[[str], tuple[float, dict[str, float]]]  # of a split, the model as it is then: loss and scores


@dataclass(frozen=True)
class LabTask:
    """One task: whose base, which data, how a cell of it is set up, and which of its scores counts."""

    base: str
    folder: str  # in data/tasks/
    set_up: Callable[[Cell, nn.Module], Setup]
    score: str
    scores: Mapping[str, str] = field(default_factory=dict)  # every score, by name, with a few words about it


def drawn(rows: Sequence, cell: Cell) -> list:
    """The examples that a cell learns from: all, or `n_train` of them, drawn by its seed."""
    if cell.n_train is None:
        return list(rows)
    if not 1 <= cell.n_train <= len(rows):
        raise UserError(f"n_train = {cell.n_train}: {cell.task} has {len(rows)} examples to learn from.")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(cell.seed)).tolist()
    return [rows[i] for i in order[: cell.n_train]]


Judge = Callable[[Sequence[str], Sequence[Mapping[str, Any]]], dict[str, float]]  # texts, and the rows they are about


def judged_tables(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The measures of lesson 9; but a text that is the table again tells none of its values."""
    told = table_scores([text if " | " not in text else "" for text in texts], rows)
    return {**told._asdict(), "again": table_scores(texts, rows).again}


def judged_summaries(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """ROUGE (Li & Liang 2021, §5)."""
    return metrics.rouge(texts, [[row["summary"]] for row in rows])


def around(cell: Cell, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[list[int], list[int]]:
    """What stands before and after each x: the virtual tokens of P-tuning and of an infix; the examples of few shots.

    Few shots, `{"shots": k}` of no method, are the first k of the pairs that are short enough to leave room for a task.
    """
    if cell.method == NO_METHOD and cell.settings.get("shots"):
        short = [x + y for x, y in pairs if len(x + y) <= SHORT]
        return [i for example in short[: cell.settings["shots"]] for i in example], []
    kind = Method.kinds.get(cell.method)
    virtual = virtual_ids(cell.settings["length"]) if kind and kind.reads_virtual_ids else []
    return ([], virtual) if cell.method == "Infix" else (virtual, [])  # an infix stands behind x


def texts(judge: Judge, also_greedy: str | None, cell: Cell, base: nn.Module) -> Setup:
    """A task whose answers a GPT writes (003 §4.1), after a beam search as Li & Liang's.

    The likeliest next word often opens a sentence that asks for a field that the table does not have ("printed in …"),
    and then there is no honest way on; a beam search looks ahead.

    Args:
        judge: scores texts.
        also_greedy: which of its scores is told for greedy decoding, too.
        cell: to be set up.
        base: a GPT.
    """
    tokenizer = default_tokenizer()
    pairs = drawn(list(zip(*task_ids(cell.task, "train", tokenizer), strict=True)), cell)
    xs, ys = ([pair[side] for pair in pairs] for side in (0, 1))
    before, after = around(cell, pairs)

    def placed(xs: Sequence[list[int]]) -> list[list[int]]:
        return [[*before, *x, *after] for x in xs]

    def measure(split: str) -> tuple[float, dict[str, float]]:
        *other, split = split.split("/")
        task = other[0] if other else cell.task
        xs, ys = (side[: cell.n_scored] for side in task_ids(task, split, tokenizer))
        xs, rows = placed(xs), task_rows(task, split)[: cell.n_scored]
        loss = evaluate(base, eval_completions(xs, ys, tokenizer.eot_id, 50), language_model_loss)
        by_length = sorted(range(len(xs)), key=lambda i: len(xs[i]))  # like lengths together end together

        def written(write: Callable[[list[list[int]]], list[list[int]]]) -> dict[str, float]:
            found: dict[int, list[int]] = {}
            for start in range(0, len(xs), 25):
                part = by_length[start : start + 25]
                found |= zip(part, write([xs[i] for i in part]), strict=True)
            return judge([tokenizer.decode(found[i]) for i in range(len(xs))], rows)

        if not cell.write:
            return loss, {}
        end = {"stop_id": tokenizer.eot_id, "max_new_tokens": LONGEST}
        scores = written(lambda xs: [best.tokens for best, *_ in beam_search(base, xs, n_beam=BEAMS, **end)])
        if also_greedy:
            scores["greedy"] = written(lambda xs: generate(base, xs, **end))[also_greedy]
        return loss, scores

    batches = Completions(placed(xs), ys, tokenizer.eot_id, cell.batch, base.config.n_positions, cell.seed)
    return Setup(base, batches, language_model_loss, measure)


CLASSES = ("negative", "positive")


def reviews(cell: Cell, base: nn.Module) -> Setup:
    """Reviews for and against a film, sorted by a BERT (000 §4.3) or a GPT: lessons 5 and 10."""
    tokenizer, counted = default_tokenizer(), CountedClassification()
    encode = encode_for_gpt if isinstance(base, GPT) else encode_for_bert

    def labelled(split: str, batch_size: int) -> LabelledTexts:
        rows = read_jsonl(DATA / "tasks" / "reviews" / f"{split}.jsonl", ("text", "label"))
        if split == "train":
            rows = drawn(rows, cell)
        else:  # like lengths together need less padding
            rows = sorted(rows[: cell.n_scored], key=lambda row: len(row["text"]))
        texts, labels = ([row[name] for row in rows] for name in ("text", "label"))
        n_positions = base.config.n_positions
        return LabelledTexts(
            encode(texts, tokenizer), labels, CLASSES, batch_size, tokenizer.pad_id, n_positions, cell.seed
        )

    model = Classifier(base, len(CLASSES))

    def measure(split: str) -> tuple[float, dict[str, float]]:
        loss = evaluate(model, labelled(split, 25).in_order(), counted.loss)
        counted.on_eval(cell.steps, loss)
        return loss, {"accuracy": counted.accuracies[-1]}

    return Setup(model, labelled("train", cell.batch), counted.loss, measure)


def cost(cell: Cell, base: nn.Module) -> Setup:
    """What methods cost, in turn on the same batches of tables, which the seed orders; the loss is the base's own."""
    tokenizer = default_tokenizer()
    xs, ys = task_ids("table_to_text", "train", tokenizer)
    batches = Completions(xs, ys, tokenizer.eot_id, cell.batch, base.config.n_positions, cell.seed)

    def measure(split: str) -> tuple[float, dict[str, float]]:
        prompts, targets = (side[: cell.n_scored] for side in task_ids("table_to_text", split, tokenizer))
        loss = evaluate(base, eval_completions(prompts, targets, tokenizer.eot_id, 50), language_model_loss)
        return loss, costs(base, batches, prompts, cell.settings["methods"])

    return Setup(base, batches, language_model_loss, measure)


RIGHT = {"accuracy": "share of reviews judged right"}
LAB_TASKS = {
    "table_to_text": LabTask(
        "gpt",
        "table_to_text",
        partial(texts, judged_tables, "slots"),
        "slots",
        {
            "slots": "share of a table's values that are told",
            "whole": "share of tables told with all their values",
            "bleu": "BLEU, 0 to 100",
            "greedy": "slots with greedy decoding in the place of the beam search",
        },
    ),
    "news_summary": LabTask(
        "gpt",
        "news_summary",
        partial(texts, judged_summaries, None),
        "rougeL",
        {"rouge1": "ROUGE-1, 0 to 100", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"},
    ),
    "reviews_gpt": LabTask("gpt", "reviews", reviews, "accuracy", RIGHT),
    "reviews_bert": LabTask("bert", "reviews", reviews, "accuracy", RIGHT),
    "cost": LabTask(
        "gpt",
        "table_to_text",
        cost,
        "prefix step",
        {f"{name} {quantity}": f"{name}: {text}" for name in METHODS for quantity, text in QUANTITIES.items()},
    ),
}


def score_names(cell: Cell) -> list[str]:
    """The scores that a row of this cell has; none where nothing is written, or there is no such task."""
    if cell.task == "cost":
        return [f"{name} {quantity}" for name in cell.settings.get("methods", ()) for quantity in QUANTITIES]
    return list(LAB_TASKS[cell.task].scores) if cell.write and cell.task in LAB_TASKS else []
