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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minitransformer import metrics
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.lab.cost import METHODS, QUANTITIES, costs
from minitransformer.course.skills import gpt_skills
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import Batch
from minitransformer.text.batches.classification import LabelledTexts, encode_for_bert, encode_for_gpt
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.text.corpora import eval_windows, read_documents, read_jsonl, token_stream
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import CountedClassification, Loss, language_model_loss
from minitransformer.tuning import Method, fingerprint
from minitransformer.tuning.prefix import virtual_ids

Row = dict[str, Any]

NO_METHOD = "none"  # of a classifier, the head alone is trained
BEAMS = 5  # in table-to-text (Li & Liang 2021, §5)
ABILITIES = "abilities"  # of the base, in the place of a split
N_SKILL = 20  # examples of each skill
SHORT = 80  # tokens of an example that stands before a task
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
    also: Sequence[str] = ()  # what is scored besides: "test_unseen", another task's "sport_summary/test", or ABILITIES
    write: bool = True  # whether texts are written and judged; without, only the loss is measured

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
    measure: Callable[[str], tuple[float, dict[str, float]]]  # of a split, the model as it is then: loss and scores


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
    virtual = virtual_ids(cell.settings["length"]) if cell.method in ("Infix", "PTuning") else []
    return (virtual, []) if cell.method == "PTuning" else ([], virtual)


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
        return loss, costs(base, batches, prompts)

    return Setup(base, batches, language_model_loss, measure)


RIGHT = {"accuracy": "share of reviews judged right"}
TASKS = {
    "table_to_text": Task(
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
    "news_summary": Task(
        "gpt",
        "news_summary",
        partial(texts, judged_summaries, None),
        "rougeL",
        {"rouge1": "ROUGE-1, 0 to 100", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"},
    ),
    "reviews_gpt": Task("gpt", "reviews", reviews, "accuracy", RIGHT),
    "reviews_bert": Task("bert", "reviews", reviews, "accuracy", RIGHT),
    "cost": Task(
        "gpt",
        "table_to_text",
        cost,
        "prefix step",
        {f"{name} {quantity}": f"{name}: {text}" for name in METHODS for quantity, text in QUANTITIES.items()},
    ),
}


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
    made_from = provenance(cell.task, base)
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
    train_loss = None
    if cell.steps:
        config = TrainConfig(cell.steps, cell.lr, warmup=cell.steps // 10, final_lr=0.02, weight_decay=0.0)
        log = train(setup.model, setup.batches, config, loss=setup.loss, progress=False)
        last = log.train[-max(1, cell.steps // 10) :]
        train_loss = sum(row["loss"] * row["tokens"] for row in last) / sum(row["tokens"] for row in last)
    loss, scores = setup.measure(cell.split)
    also = {}
    for split in cell.also:
        if split == ABILITIES:
            also[split] = abilities(base)
        else:
            other, more = setup.measure(split)
            also[split] = {"loss": other, **more}
    return {
        "cell": json.loads(json.dumps(asdict(cell))),  # a row is what JSON can say
        "made_from": made_from,
        "scores": scores,
        "loss": loss,
        "also": also,
        "train_loss": train_loss,
        "trained": trained,
        "stored": stored,
        "share": stored / n_base,
        "head": head,
        "base": n_base,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def abilities(base: nn.Module) -> dict[str, float]:
    """What a GPT can do of what it was pretrained for, as it is now.

    Returns:
        "prose", nats a token of the tiny world's validation text; "skills", the mean of `skills.py`'s shares.
    """
    tokenizer = default_tokenizer()
    stream = token_stream(read_documents(DATA / "text" / "valid.txt")[:60], tokenizer)
    skills = gpt_skills(base, tokenizer, N_SKILL)
    return {
        "prose": evaluate(base, eval_windows(stream, 128, 16, most=32)),
        "skills": sum(skills.values()) / len(skills),
    }


# ----------------------------------------------------------------------------- what a row was made from

PACKAGE = Path(__file__).resolve().parent.parent.parent
CODE = (  # whatever can change a row; folders stand for all modules in them
    "models",
    "text",
    "training",
    "generation",
    "tuning",
    "metrics.py",
    "course/lab/cells.py",
    "course/lab/cost.py",
    "course/timing.py",
    "course/skills.py",
    "course/tasks.py",
    "course/tinyworld",
)


def provenance(task: str, base: nn.Module | None = None) -> dict[str, str]:
    """Fingerprints of the code, of a task's data with the tokenizer, and of the base, which is loaded if not given."""
    return {
        "code": code_hash(),
        "data": data_hash(TASKS[task].folder),
        "base": fingerprint(base or load_base(TASKS[task].base)),
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
