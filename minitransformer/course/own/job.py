"""Tuning a method on rows of one's own: splits, a search for the learning rate, training that goes on where it stopped.

What a job leaves in its folder: `job.json` (all that decided it, and what came of it), `tuned.safetensors` (the tuned
part alone), `report.html`; and, as long as it runs, `unfinished.safetensors`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minitransformer.course import devices
from minitransformer.course.own.base import digest_of, load, words_digest
from minitransformer.course.own.kinds import KINDS, Kind
from minitransformer.course.own.rows import Refused, Row, read_rows, split_rows
from minitransformer.course.together import of_the_first, share_out
from minitransformer.errors import UserError
from minitransformer.files import write_aside
from minitransformer.text.batches import Batch
from minitransformer.training.loop import Log, TrainConfig, evaluate, train
from minitransformer.training.losses import Loss
from minitransformer.training.processes import OtherProcessEnded, is_alone, is_first
from minitransformer.tuning import Adapter, FullFineTuning, LoRA, Method, PrefixTuning, PromptTuning, attached

ABOUT, TUNED, UNFINISHED = "job.json", "tuned.safetensors", "unfinished.safetensors"
SHOWN = 8  # test examples that the report shows before and after
RATES = tuple(float(f"{m}e{e}") for e in range(-6, 0) for m in (1, 3))

# What a method is called on the command line → how it is made for a length, and where its search for a learning rate
# begins: the middle one of the rates that the laboratory tries on the course's bases.
METHODS: dict[str, tuple[Callable[[int], Method], float]] = {
    "prefix": (lambda length: PrefixTuning(length), 1e-1),
    "prompt": (lambda length: PromptTuning(length), 1e-1),
    "lora": (lambda length: LoRA(rank=8), 1e-2),
    "adapter": (lambda length: Adapter(width=8), 1e-2),
    "full": (lambda length: FullFineTuning(), 3e-4),
}


@dataclass(frozen=True)
class Job:
    """What is to be done. The same job gives the same result."""

    data: str
    task: str  # in KINDS
    method: str  # in METHODS
    base: str  # "gpt", "bert", "seq2seq", or a folder
    out: str
    columns: Mapping[str, str] = field(default_factory=dict)  # what the task calls a column → what the file calls it
    steps: int = 400
    batch: int = 8
    lr: float | None = None  # None: the method's own, or what the search finds
    search: bool = False
    length: int = 10  # P, of a prefix or a prompt
    seed: int = 0
    valid: float = 0.1
    test: float = 0.1
    cut: bool = False
    device: str = "cpu"
    precision: str = "fp32"  # "bf16": matrix products in bfloat16
    shard: bool = False  # whether each of several processes holds only its part of the base

    def __post_init__(self) -> None:
        """Refuse what cannot be done, before anything is read."""
        for name, value, known in (("task", self.task, KINDS), ("method", self.method, METHODS)):
            if value not in known:
                raise UserError(f"--{name} {value}: there are {', '.join(known)}.")
        for name in ("steps", "batch", "length"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: it has to be at least 1.")
        named = [self.columns.get(name, name) for name in KINDS[self.task].columns]
        if len(set(named)) < len(named):
            raise UserError(f"--columns: {named[0]!r} is read as {' and as '.join(KINDS[self.task].columns)}.")
        unknown = [name for name in self.columns if name not in KINDS[self.task].columns]
        if unknown:
            raise UserError(
                f"--columns {unknown[0]}=…: {self.task} has the columns {' and '.join(KINDS[self.task].columns)}."
            )
        if self.search and self.lr is not None:
            raise UserError("--lr and --search exclude each other: the search finds the rate.")
        if self.shard and (self.search or self.method == "full"):
            raise UserError("--shard cuts a frozen base into parts, once: it goes with neither --search nor full.")
        devices.check(self.device, self.precision)


@dataclass
class Data:
    """The rows of a job."""

    splits: dict[str, list[Row]]
    refused: list[Refused]
    labels: list[str]
    digest: str  # of the file


def prepare(job: Job) -> tuple[Kind, Data]:
    """Read the rows, load the base, and deal the rows out.

    Raises:
        UserError: as `read_rows`, `load`, `split_rows`; one class alone.
    """
    kind = KINDS[job.task]
    named = {name: job.columns.get(name, name) for name in kind.columns}
    rows, refused = read_rows(job.data, named)
    loaded = load(job.base)
    if not job.shard:
        loaded.base.to(job.device)
    labels: list[str] = []
    given, wanted = kind.columns
    if job.task == "classification":
        rows, single = _without_single_labels(rows)
        refused += single
        labels = sorted({row["label"] for row in rows})
        if len(labels) < 2:
            raise UserError(f"{job.data} has rows of {len(labels)} class(es) that occur twice or more; two are needed.")
    room = job.length if job.method in ("prefix", "prompt") else 0
    if room >= loaded.base.config.n_positions - 1:
        raise UserError(f"--length {room}: this base has {loaded.base.config.n_positions} positions in all.")
    torch.manual_seed(job.seed)  # of the head
    task = kind(loaded.base, loaded.words, room, labels)
    rows, too_long = task.fitting(rows, job.cut)
    if not rows:
        raise UserError(f"Every row is too long for this base: {too_long[0]}.")
    if not job.shard:
        task.model.to(job.device)
    label = wanted if job.task == "classification" else None
    splits = split_rows(rows, given, job.seed, job.valid, job.test, label)
    said = sorted([*refused, *too_long], key=lambda one: one.number)
    return task, Data(splits, said, labels, digest_of(job.data))


def _without_single_labels(rows: Sequence[Row]) -> tuple[list[Row], list[Refused]]:
    """Leave out a class of one row: it cannot be both learned and tested."""
    count: dict[str, int] = {}
    for row in rows:
        count[row["label"]] = count.get(row["label"], 0) + 1
    single = [
        Refused(row.number, f"its label {row['label']!r} occurs once: it cannot be both learned and tested")
        for row in rows
        if count[row["label"]] == 1
    ]
    return [row for row in rows if count[row["label"]] > 1], single


def run(job: Job, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do a job, or go on with it where it was stopped.

    In several processes all of them train and the first one does the rest, while the others wait or have ended.

    Args:
        job: what.
        say: told what is going on, a sentence at a time.

    Returns:
        What stands in job.json.

    Raises:
        UserError: as `prepare` and `train`; a folder with another job in it.
    """
    from minitransformer.course.own.report import write_report

    if job.shard and is_alone():
        raise UserError("--shard gives each process its part of the base: start several with torchrun.")
    out = Path(job.out)
    about = of_the_first(_begin(job, out) if is_first() else None)
    read = {"data": (job.data, job.data, digest_of), "words": (f"The tokenizer in {job.base}", job.base, words_digest)}
    for name, (what, path, digest) in read.items():
        if about.get(name) and Path(path).exists() and about[name] != digest(path):
            raise UserError(f"{what} has changed since the job in {out} began: name another folder with --out.")
    if about.get("test"):
        say(f"{out} holds this job, finished: nothing is left to do. {out / 'report.html'} is its report.")
        return about
    task, data = prepare(job)
    counts = ", ".join(f"{len(rows)} to {verb}" for verb, rows in zip(_VERBS, data.splits.values(), strict=True))
    say(f"{job.data}: {counts}." + (f" {len(data.refused)} rows are left out or cut." if data.refused else ""))
    for one in data.refused[:3]:
        say(f"  {one}")
    about |= {
        "words": words_digest(job.base),
        "data": data.digest,
        "labels": data.labels,
        "refused": [str(one) for one in data.refused],
    }
    about |= {"rows": {name: [row.number for row in rows] for name, rows in data.splits.items()}}
    given, wanted = task.columns
    shown = data.splits["test"][:SHOWN]
    if "before" not in about and is_first():
        with devices.autocast(job.device, job.precision):
            about["before"] = [] if data.labels or job.shard else task.answers([row[given] for row in shown])
        _keep(out, about)
    batches = devices.on_device(task.batches(data.splits["train"], job.batch, job.seed), job.device)
    held_out = {name: devices.moved(task.held_out(data.splits[name]), job.device) for name in ("valid", "test")}
    if not job.shard:
        _estimate(job, task, batches, held_out["valid"], say)
    lr = _rate(job, task, batches, held_out["valid"], out, about, say)
    say(f"Training: {job.method}, {job.steps} steps of {job.batch}, learning rate {lr:g}.")
    with _tuning(job, task) as method:
        log = train(
            task.model,
            batches,
            _config(job, job.steps, lr),
            valid=held_out["valid"],
            loss=_loss(job, task),
            checkpoint=out / UNFINISHED,
        )
        if not is_first() and not job.shard:
            return about
        report = method.report()
        say(str(report))
        with devices.autocast(job.device, job.precision):
            answers = task.answers([row[given] for row in data.splits["test"]])
        scores = task.judge(answers, data.splits["test"])
        scores = {"loss": evaluate(task.model, held_out["test"], _loss(job, task)), **scores}
        if not is_first():
            return about
        method.save(out / TUNED)
    about |= {
        "lr": lr,
        "log": _thin(log),
        "trained": report.trained + report.head,
        "stored": report.stored + report.head,
        "base_parameters": report.base,
        "examples": [
            {given: row[given], wanted: row[wanted], "after": answers[i]}
            | ({"before": about["before"][i]} if about["before"] else {})
            for i, row in enumerate(shown)
        ],
        "test": scores,
    }
    _keep(out, about)
    write_report(out / "report.html", about)
    (out / UNFINISHED).unlink(missing_ok=True)
    told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    say(f"On {len(data.splits['test'])} test rows: {told}.")
    say(f"{out / TUNED} is the tuned part, {out / 'report.html'} the report.")
    return about


_VERBS = ("learn from", "validate by", "test by")


def _begin(job: Job, out: Path) -> dict[str, Any]:
    """What an earlier run of the same job left, or a new start."""
    about = read_about(out) if (out / ABOUT).exists() else {}
    asked = json.loads(json.dumps(asdict(job)))
    asked["data"] = str(Path(job.data).resolve())
    asked.pop("out")
    if about and about.get("job") != asked:
        old = about.get("job") or {}
        other = [name for name, value in asked.items() if old.get(name) != value]
        raise UserError(
            f"{out} holds another job (it differs in {', '.join(other)}): name another folder with --out, or delete it."
        )
    return about or {"job": asked}


def read_about(folder: Path) -> dict[str, Any]:
    """What stands in a job's folder.

    Raises:
        UserError: no job there, or a damaged one.
    """
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no job: python -m minitransformer tune makes one.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete the folder, and tune again.") from error
    if not isinstance(about, dict) or not isinstance(about.get("job"), dict):
        raise UserError(f"{path} is damaged: it holds no job. Delete the folder, and tune again.")
    return about


def _keep(out: Path, about: Mapping[str, Any]) -> None:
    if is_first():
        write_aside(out / ABOUT, (json.dumps(about, ensure_ascii=False, indent=1) + "\n").encode())


@contextmanager
def _tuning(job: Job, task: Kind) -> Iterator[Method]:
    """A fresh method, on the model while the block lasts; a head begins anew, too."""
    torch.manual_seed(job.seed)
    head = getattr(task.model, "head", None)
    if head is not None:
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    make, _ = METHODS[job.method]
    method = make(job.length)
    with attached(task.model, method):
        if job.shard:
            share_out(task.base, job.device)
        yield method


def _loss(job: Job, task: Kind) -> Loss:
    return devices.lowered(task.loss, job.device, job.precision)


def _config(job: Job, steps: int, lr: float) -> TrainConfig:
    return TrainConfig(steps, lr, warmup=steps // 10, final_lr=0.02, weight_decay=0.0, eval_every=max(1, steps // 10))


def _estimate(
    job: Job, task: Kind, batches: Callable[[int], Batch], valid: Sequence[Batch], say: Callable[[str], None]
) -> None:
    """Say how long it will take, from a few steps of a method that is thrown away."""
    with _tuning(job, task):
        train(task.model, batches, TrainConfig(1, 1e-9), loss=_loss(job, task), progress=False)  # the first is slow
        began = time.perf_counter()
        train(task.model, batches, TrainConfig(4, 1e-9), loss=_loss(job, task), progress=False)
        step = (time.perf_counter() - began) / 4
        began = time.perf_counter()
        evaluate(task.model, valid, _loss(job, task))
        evaluation = time.perf_counter() - began
    steps = job.steps + (3 * _search_steps(job) if job.search else 0)
    seconds = steps * step + (10 + 3 * job.search) * evaluation
    say(f"Estimated time: {f'{seconds / 60:.0f} minutes' if seconds > 90 else f'{seconds:.0f} seconds'}.")


def _search_steps(job: Job) -> int:
    return max(20, job.steps // 4)


def _rate(
    job: Job,
    task: Kind,
    batches: Callable[[int], Batch],
    valid: Sequence[Batch],
    out: Path,
    about: dict[str, Any],
    say: Callable[[str], None],
) -> float:
    """The learning rate: the one that was given, the method's own, or the one with the lowest validation loss."""
    middle = METHODS[job.method][1]
    if not job.search:
        return middle if job.lr is None else job.lr
    at = RATES.index(middle)
    found: dict[str, float] = about.setdefault("search", {})
    for lr in RATES[at - 2 : at + 2]:
        if f"{lr:g}" not in found:
            with _tuning(job, task):
                loss = _loss(job, task)
                try:
                    train(task.model, batches, _config(job, _search_steps(job), lr), loss=loss, progress=False)
                    found[f"{lr:g}"] = of_the_first(evaluate(task.model, valid, loss))
                except OtherProcessEnded:
                    raise
                except UserError:  # a rate at which the loss becomes infinite is no candidate
                    found[f"{lr:g}"] = float("inf")
            _keep(out, about)
        say(f"  learning rate {lr:g}: validation loss {found[f'{lr:g}']:.3f} after {_search_steps(job)} steps")
    return float(min(found, key=found.__getitem__))


def _thin(log: Log) -> dict[str, Any]:
    """The log's two curves, at most two hundred points of the training's."""
    every = max(1, len(log.train) // 200)
    return {
        "train": [[row["step"], row["loss"]] for row in log.train[::every]],
        "valid": [[row["step"], row["loss"]] for row in log.valid],
        "best_step": log.best_step,
        "seconds": round(log.seconds, 1),
    }
