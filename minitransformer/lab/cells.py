"""A cell (实验单元) of the laboratory: one method, tuned once on one task with one seed, and scored.

Everything that a cell's outcome depends on is in the cell, or has a fingerprint in its row: the code, the data, the
base. Two runs of a cell give the same row, up to the seconds that they took.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import platform
import time
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minitransformer import metrics
from minitransformer.bases import load_base
from minitransformer.batches.classification import LabelledTexts, encode_for_bert, encode_for_gpt
from minitransformer.batches.completion import Completions, eval_completions
from minitransformer.beam import beam_search
from minitransformer.classifier import Classifier
from minitransformer.datasets import DATA, read_jsonl
from minitransformer.errors import UserError
from minitransformer.gpt import GPT
from minitransformer.objectives import CountedClassification
from minitransformer.sampling import generate
from minitransformer.tasks import task_ids, task_rows
from minitransformer.tokenizer import default_tokenizer
from minitransformer.training import Batch, Loss, TrainConfig, evaluate, language_model_loss, train
from minitransformer.tuning import Method, fingerprint

Row = dict[str, Any]

NO_METHOD = "none"  # of a classifier, the head alone is trained
BEAMS = 5  # in table-to-text (Li & Liang 2021, §5)
LONGEST = 90  # tokens that are written about a table; the longest right answer has 82


@dataclass(frozen=True)
class Cell:
    """What is to be run: as much as decides the outcome, and no more. JSON can say all of it."""

    task: str  # in TASKS
    method: str  # the name of a class in minitransformer.tuning, or "none"
    settings: Mapping[str, object]  # what that class is called with
    lr: float
    steps: int
    seed: int  # of what the method and the head begin as, which examples are learned from, and in which order
    batch: int = 8
    n_train: int | None = None  # examples to learn from, drawn by the seed; None for all
    split: str = "valid"  # what is scored
    n_scored: int | None = None  # the first so many examples of it; None for all

    @property
    def key(self) -> str:
        """The cell as one line of JSON: two cells are the same if their keys are."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        """As a person would name it."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.task}, {self.method}({settings}), lr {self.lr:g}, seed {self.seed}, {self.steps} steps"


@dataclass
class Setup:
    """A cell's task, ready to be trained and scored."""

    model: nn.Module  # the base, or a classifier on it
    batches: Callable[[int], Batch]
    loss: Loss
    scored: Sequence[Batch]
    scores: Callable[[], dict[str, float]]  # of the model as it is then; measured after `scored` gave its loss


@dataclass(frozen=True)
class Task:
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


def table_to_text(cell: Cell, base: nn.Module) -> Setup:
    """Tables to sentences on a GPT (003 §4.1): the measures of lesson 9, after a beam search as Li & Liang's.

    The likeliest next word often opens a sentence that asks for a field that the table does not have ("printed in …"),
    and then there is no honest way on; a beam search looks ahead. Greedy decoding is scored beside it.
    """
    tokenizer = default_tokenizer()
    pairs = drawn(list(zip(*task_ids("table_to_text", "train", tokenizer), strict=True)), cell)
    xs, ys = ([pair[side] for pair in pairs] for side in (0, 1))
    new_xs, new_ys = (side[: cell.n_scored] for side in task_ids("table_to_text", cell.split, tokenizer))
    rows = task_rows("table_to_text", cell.split)[: cell.n_scored]

    def written(write: Callable[[list[list[int]]], list[list[int]]]) -> metrics.TableScores:
        texts = []
        for start in range(0, len(new_xs), 25):
            texts += [tokenizer.decode(ids) for ids in write(new_xs[start : start + 25])]
        return metrics.table_scores(texts, rows)

    def scores() -> dict[str, float]:
        end = {"stop_id": tokenizer.eot_id, "max_new_tokens": LONGEST}
        found = written(lambda xs: [best.tokens for best, *_ in beam_search(base, xs, n_beam=BEAMS, **end)])
        return {**found._asdict(), "greedy": written(lambda xs: generate(base, xs, **end)).slots}

    return Setup(
        base, Completions(xs, ys, tokenizer.eot_id, cell.batch, base.config.n_positions, cell.seed),
        language_model_loss, eval_completions(new_xs, new_ys, tokenizer.eot_id, 50), scores,
    )  # fmt: skip


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

    def scores() -> dict[str, float]:
        counted.on_eval(cell.steps, 0.0)
        return {"accuracy": counted.accuracies[-1]}

    return Setup(
        Classifier(base, len(CLASSES)), labelled("train", cell.batch), counted.loss,
        labelled(cell.split, 25).in_order(), scores,
    )  # fmt: skip


RIGHT = {"accuracy": "share of reviews judged right"}
TASKS = {
    "table_to_text": Task(
        "gpt", "table_to_text", table_to_text, "slots",
        {"slots": "share of a table's values that are told", "whole": "share of tables told with all their values",
         "bleu": "BLEU, 0 to 100", "greedy": "slots with greedy decoding in the place of the beam search"},
    ),
    "reviews_gpt": Task("gpt", "reviews", reviews, "accuracy", RIGHT),
    "reviews_bert": Task("bert", "reviews", reviews, "accuracy", RIGHT),
}  # fmt: skip


def run_cell(cell: Cell) -> Row:
    """Tune, score, count.

    Returns:
        The cell; what it was made from; its scores; its losses, of the scored split and of the last tenth of training;
        how many numbers were trained and kept, of how many; the seconds that it took, the versions that it ran with.

    Raises:
        UserError: a task or method that there is not, settings that the base does not allow, a loss that became nan.
    """
    if cell.task not in TASKS:
        raise UserError(f"There is no task {cell.task!r} in the laboratory; there are {', '.join(TASKS)}.")
    if cell.method not in Method.kinds and cell.method != NO_METHOD:
        raise UserError(f"There is no method {cell.method!r}; there are {', '.join(Method.kinds)} and {NO_METHOD}.")
    torch.set_num_threads(1)  # the sums of floating-point numbers depend on how they are shared out
    began = time.perf_counter()
    task, base = TASKS[cell.task], load_base(TASKS[cell.task].base)
    made_from = provenance(cell.task)
    torch.manual_seed(cell.seed)
    setup = task.set_up(cell, base)
    n_base = sum(p.numel() for p in base.parameters())
    head = sum(p.numel() for p in setup.model.parameters()) - n_base
    if cell.method == NO_METHOD:
        base.requires_grad_(False)
        trained = stored = 0
    else:
        method = Method.kinds[cell.method](**cell.settings).attach(setup.model)
        report = method.report()
        trained, stored = report.trained, report.stored
    config = TrainConfig(cell.steps, cell.lr, warmup=cell.steps // 10, final_lr=0.02, weight_decay=0.0)
    log = train(setup.model, setup.batches, config, loss=setup.loss, progress=False)
    last = log.train[-max(1, cell.steps // 10) :]
    loss = evaluate(setup.model, setup.scored, setup.loss)
    return {
        "cell": asdict(cell),
        "made_from": made_from,
        "scores": setup.scores(),
        "loss": loss,
        "train_loss": sum(row["loss"] * row["tokens"] for row in last) / sum(row["tokens"] for row in last),
        "trained": trained,
        "stored": stored,
        "share": stored / n_base,
        "head": head,
        "base": n_base,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


# ----------------------------------------------------------------------------- what a row was made from

PACKAGE = Path(__file__).resolve().parent.parent
CODE = (  # whatever can change a row; folders stand for all modules in them
    "lab/cells.py", "tuning", "training.py", "objectives.py", "sampling.py", "beam.py", "metrics.py", "batches",
    "tasks.py", "datasets.py", "tokenizer.py", "classifier.py", "gpt.py", "bert.py", "seq2seq.py",
    "attention.py", "layers.py", "tinyworld/tables.py",
)  # fmt: skip


def provenance(task: str) -> dict[str, str]:
    """Fingerprints of the code, of a task's data with the tokenizer, and of the base: a row holds for these alone."""
    return {
        "code": code_hash(),
        "data": data_hash(TASKS[task].folder),
        "base": fingerprint(load_base(TASKS[task].base)),
    }


@lru_cache
def code_hash() -> str:
    """A short name for the code in `CODE`, which other comments, docstrings and empty lines leave as it is."""
    digest = hashlib.sha256()
    for name in CODE:
        path = PACKAGE / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n{bare(file.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:16]


@lru_cache
def data_hash(folder: str) -> str:
    """A short name for the data of a task."""
    files = [DATA / "tokenizer.tiktoken", *sorted((DATA / "tasks" / folder).glob("*.jsonl"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def bare(source: str) -> str:
    """A module's source without what Python does not run: comments, docstrings, empty lines, spaces at a line's end."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
