"""Run a cell: put the method on, train it, score it, count what it trained and what is kept."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict

import torch
from torch import nn

from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.lab.cells import ABILITIES, NO_METHOD, Cell, Row
from minitransformer.course.lab.provenance import provenance
from minitransformer.course.lab.tasks import LAB_TASKS, Setup
from minitransformer.course.skills import gpt_skills
from minitransformer.course.trial import tune
from minitransformer.errors import UserError
from minitransformer.text.corpora import eval_windows, read_documents, token_stream
from minitransformer.training.loop import Log, TrainConfig, evaluate
from minitransformer.tuning import Method

N_SKILL = 20  # examples of each skill, in `abilities`


def run_cell(cell: Cell) -> Row:
    """Tune, score, count.

    Returns:
        The cell; what it was made from; its scores; its losses, of the scored split and of the last tenth of training;
        how many numbers were trained and kept, of how many; the seconds that it took, the versions that it ran with.

    Raises:
        UserError: a task or method that there is not, settings that the base does not allow, a loss that became nan.
    """
    if cell.task not in LAB_TASKS:
        raise UserError(f"There is no task {cell.task!r} in the laboratory; there are {', '.join(LAB_TASKS)}.")
    if cell.method not in Method.kinds and cell.method != NO_METHOD:
        raise UserError(f"There is no method {cell.method!r}; there are {', '.join(Method.kinds)} and {NO_METHOD}.")
    torch.set_num_threads(1)  # the sums of floating-point numbers depend on how they are shared out
    began = time.perf_counter()
    task, base = LAB_TASKS[cell.task], load_base(LAB_TASKS[cell.task].base)
    made_from = provenance(cell.task, base)
    torch.manual_seed(cell.seed)
    setup = task.set_up(cell, base)
    n_base = sum(p.numel() for p in base.parameters())
    head = sum(p.numel() for p in setup.model.parameters()) - n_base
    method = None if cell.method == NO_METHOD else Method.kinds[cell.method](**cell.settings)
    config = None
    if cell.steps:
        config = TrainConfig(cell.steps, cell.lr, warmup=cell.steps // 10, final_lr=0.02, weight_decay=0.0)

    def judge() -> tuple[float, dict[str, float], dict[str, dict[str, float]]]:
        loss, scores = setup.measure(cell.split)
        return loss, scores, {split: besides(split, setup, base) for split in cell.also}

    trial = tune(setup.model, method, setup.batches, config, judge, loss=setup.loss, progress=False)
    loss, scores, also = trial.judged
    trained, stored = (trial.report.trained, trial.report.stored) if trial.report else (0, 0)
    return {
        "cell": json.loads(json.dumps(asdict(cell))),  # a row is what JSON can say
        "made_from": made_from,
        "scores": scores,
        "loss": loss,
        "also": also,
        "train_loss": last_loss(trial.log) if trial.log else None,
        "trained": trained,
        "stored": stored,
        "share": stored / n_base,
        "head": head,
        "base": n_base,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def besides(split: str, setup: Setup, base: nn.Module) -> dict[str, float]:
    """What is scored beside a cell's own split: another split, or the base's abilities."""
    if split == ABILITIES:
        return abilities(base)
    loss, scores = setup.measure(split)
    return {"loss": loss, **scores}


def last_loss(log: Log) -> float:
    """The mean loss per label over the last tenth of the training, in nats."""
    last = log.train[-max(1, len(log.train) // 10) :]
    return sum(row["loss"] * row["tokens"] for row in last) / sum(row["tokens"] for row in last)


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
