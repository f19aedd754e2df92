"""Using what a job tuned: `generate` for texts, `predict` for classes, `evaluate` for its scores on rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from minitransformer.course import devices
from minitransformer.course.own.base import digest_of, load, words_digest
from minitransformer.course.own.job import TUNED, read_about
from minitransformer.course.own.kinds import KINDS, Classification, Kind
from minitransformer.course.own.rows import read_rows
from minitransformer.errors import UserError
from minitransformer.training.loop import evaluate as evaluate_loss
from minitransformer.tuning import load as load_method


def tuned(folder: str | Path, device: str = "cpu", precision: str = "fp32") -> tuple[Kind, dict[str, Any]]:
    """The task of a job's folder, with what was tuned on its base.

    Raises:
        UserError: a device or a precision that is not to be had; no finished job there; a base or a tuned part that is
            missing, damaged or of another job.
    """
    devices.check(device, precision)
    folder = Path(folder)
    about = read_about(folder)
    job = about["job"]
    if not (folder / TUNED).is_file():
        raise UserError(f"{folder} holds a job that is not finished: run the same `tune` again, and it goes on.")
    try:
        kind, base = KINDS[job["task"]], job["base"]
        room = job["length"] if job["method"] in ("prefix", "prompt") else 0
        labels = about["labels"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged: its job.json lacks {error}. Tune again.") from error
    loaded = load(base)
    if about.get("words") not in (None, words_digest(base)):
        raise UserError(
            f"The tokenizer in {base} is not the one that {folder} was tuned with: take that one, or tune again."
        )
    task = kind(loaded.base.to(device), loaded.words, room, labels)
    task.model.to(device)
    load_method(folder / TUNED, task.model)
    task.model.eval()
    return task, about


def _check_lengths(task: Kind, job: dict[str, Any], texts: list[str]) -> None:
    """Refuse a text that is too long for the model, where the job was not told to cut such."""
    if job.get("cut"):
        return
    for i, n in enumerate(task.lengths_of(texts)):
        if n > task.room:
            raise UserError(f"Text {i + 1} needs {n} positions, and there are {task.room}: shorten it.")


def generate(
    folder: str | Path, texts: list[str], longest: int = 100, device: str = "cpu", precision: str = "fp32"
) -> list[str]:
    """What a tuned model writes for each text.

    Raises:
        UserError: as `tuned`; a job that sorts texts; a text that is too long, where the job does not cut.
    """
    task, about = tuned(folder, device, precision)
    if isinstance(task, Classification):
        raise UserError(f"{folder} sorts texts: ask it to predict, not to generate.")
    _check_lengths(task, about["job"], texts)
    with devices.autocast(device, precision):
        return task.answers(texts, longest)


def predict(
    folder: str | Path, texts: list[str], device: str = "cpu", precision: str = "fp32"
) -> list[list[tuple[str, float]]]:
    """Of each text, the classes with their probabilities, the likeliest first.

    Raises:
        UserError: as `tuned`; a job that writes texts; a text that is too long, where the job does not cut.
    """
    task, about = tuned(folder, device, precision)
    if not isinstance(task, Classification):
        raise UserError(f"{folder} writes texts: ask it to generate, not to predict.")
    _check_lengths(task, about["job"], texts)
    with devices.autocast(device, precision):
        found = task.probabilities(texts)
    return [sorted(zip(task.labels, p, strict=True), key=lambda pair: -pair[1]) for p in found]


def evaluate(
    folder: str | Path,
    data: str | None = None,
    say: Callable[[str], None] = print,
    device: str = "cpu",
    precision: str = "fp32",
) -> dict[str, float]:
    """Scores on the job's own test rows, or on all rows of another file.

    Raises:
        UserError: as `tuned` and `read_rows`; the job's data have changed since.
    """
    task, about = tuned(folder, device, precision)
    job = about["job"]
    path = data or job["data"]
    rows, refused = read_rows(path, {name: job["columns"].get(name, name) for name in task.columns})
    if data is None:
        if digest_of(path) != about["data"]:
            raise UserError(f"{path} has changed since it was tuned on: name the file to test by with --data.")
        wanted = set(about["rows"]["test"])
        rows = [row for row in rows if row.number in wanted]
    elif isinstance(task, Classification):
        strange = [row for row in rows if row["label"] not in task.labels]
        if strange:
            raise UserError(
                f"{path}, row {strange[0].number}: the label {strange[0]['label']!r} is none of those that were "
                f"learned: {', '.join(task.labels)}."
            )
    if data is not None:
        rows, too_long = task.fitting(rows, job["cut"])
        refused += too_long
        if not rows:
            raise UserError(f"Every row of {path} is too long for this model: {too_long[0]}.")
    if refused:
        say(f"{len(refused)} rows of {path} are left out or cut:")
    for one in refused[:3]:
        say(f"  {one}")
    batches, loss = devices.moved(task.held_out(rows), device), devices.lowered(task.loss, device, precision)
    with devices.autocast(device, precision):
        scores = task.judge(task.answers([row[task.columns[0]] for row in rows]), rows)
    return {"rows": len(rows), "loss": evaluate_loss(task.model, batches, loss), **scores}
