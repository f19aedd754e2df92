"""`make lesson-N MINE=1`: the lesson runs on the learner's own code, its losses beside the reference's.

Every exercise, of all workbooks, that passes its check is put into the package by the one switch; what does not pass
is left to the package. The losses are those of the lesson's own training runs (calls of `training.train`). The
reference's come from a run of the same lesson on the package's code, over the same plain paths (shortcuts.py), and are
kept in workbook/reference/ until the code, the lesson or the settings change.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import nn

from minitransformer.course import lessons as course
from minitransformer.course import output, runner, show
from minitransformer.course.output.terminal import Terminal, say, table
from minitransformer.course.workbook import book, catalogue, exceptions, loading
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.general import QUESTIONS
from minitransformer.course.workbook.observe import seeded
from minitransformer.course.workbook.sandbox import Sandbox
from minitransformer.course.workbook.shortcuts import plain_paths
from minitransformer.course.workbook.source import PACKAGE, place
from minitransformer.course.workbook.switch import switched
from minitransformer.errors import UserError
from minitransformer.training import loop as training

TRAIN = "minitransformer.training.loop:train"


@dataclass
class Mine:
    """What the learner has to put into the package."""

    used: list[Exercise] = field(default_factory=list)
    """Exercises that pass."""
    missing: list[tuple[Exercise, str]] = field(default_factory=list)
    """The others of the workbooks that exist, and why not."""
    replacements: dict[str, Any] = field(default_factory=dict)
    """target → the learner's code."""


@dataclass(frozen=True)
class Loss:
    """How one training run ended."""

    steps: int
    train: float
    """Mean of the last ten steps, in nats."""
    valid: float | None
    """The best validation loss, if there was one."""


WHY_NOT = {"failed": "does not pass", "unwritten": "not written", "absent": "not in the workbook"}


def gather() -> Mine:
    """Check all workbooks and load the code that passes."""
    mine = Mine()
    lessons = [lesson for lesson in catalogue.files() if book.workbook_path(lesson).exists()]
    ready = [Sandbox()] if lessons else []
    for number, lesson in enumerate(lessons):
        if number + 1 < len(lessons):
            ready.append(Sandbox())  # loads while the one before it checks
        some, path = catalogue.exercises(lesson), book.workbook_path(lesson)
        answer = ready.pop(0).check(lesson, path, every=True, asked={*QUESTIONS} - {"device"})
        passed = set(answer.passed())
        for one in some:
            if one.id not in passed:
                state = answer.results.get(one.id, {}).get("state")
                mine.missing.append((one, WHY_NOT.get(state, "could not be checked")))
        if passed:
            add(mine, [one for one in some if one.id in passed], some, path)
    return mine


def add(mine: Mine, passing: list[Exercise], some: list[Exercise], path: Path) -> None:
    """Load the workbook of `some` exercises and take from it what passes."""
    workbook = loading.load(path, some)
    workbook.link({one.id for one in passing})
    mine.used += passing
    mine.replacements |= {one.target: workbook.candidates[one.id] for one in passing}


@contextmanager
def in_use(
    replacements: dict[str, Any],
    like: dict[str, Any] | None = None,
    trial: int = 0,
    called: Callable[[str], None] | None = None,
) -> Iterator[list[Loss]]:
    """Put code into the package and record what `train` comes to meanwhile.

    Args:
        replacements: target → code; may be empty, for a reference run.
        like: take the plain paths that these replacements would take; the same by default.
        trial: cut the first training to so many steps, without validation, and end the block after it; 0: do not.
        called: told the target whenever one of these replacements is called.

    Yields:
        The losses, one for each call of `train`, in order.
    """
    losses: list[Loss] = []
    inner = replacements.get(TRAIN) or _copy(training.train)

    def recording_train(model: nn.Module, batches: Any, config: training.TrainConfig, **kwargs: Any) -> training.Log:
        if trial:
            config, kwargs = replace(config, steps=trial, eval_every=0, patience=0), {**kwargs, "valid": None}
        if called is not None and TRAIN in replacements:
            called(TRAIN)
        log = inner(model, batches, config, **kwargs)
        last = [row["loss"] for row in log.train[-10:]]
        best = min((row["loss"] for row in log.valid), default=None)
        losses.append(Loss(len(log.train), sum(last) / max(1, len(last)), best))
        if trial:
            raise _Enough
        return log

    paths = plain_paths(list(replacements if like is None else like))
    own = {target: code for target, code in replacements.items() if target != TRAIN}
    with contextlib.suppress(_Enough), switched({**paths, TRAIN: recording_train}), switched(own, called):
        yield losses


class _Enough(BaseException):
    """Ends a lesson after its training."""


def _copy(function: FunctionType) -> FunctionType:
    """The function as it is now, before the switch gives it other code."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def run(number: int, quick: bool = False, step: bool = False, text: str | None = None) -> None:
    """Run lesson `number` on the learner's code.

    Raises:
        UserError: no exercise passes yet, or the learner's code fails inside the lesson.
    """
    lesson = course.load(number)
    mine = gather()
    if not mine.used:
        known = catalogue.files()
        raise UserError(
            "None of your exercises passes yet, so the lesson would run on the package's code alone. "
            f"make start-{number if number in known else min(known)} begins, make progress shows where you are."
        )
    tell(mine)
    reference = None
    if trains(lesson.path.read_text(encoding="utf-8")):
        reference = reference_losses(number, mine.replacements, quick, text)
    seeded(accelerators=True)
    steps = Steps(step and sys.stdin.isatty())
    try:
        with in_use(mine.replacements, called=steps.called.add) as losses:
            runner.run(number, quick=quick, step=step, text=text, sink=steps)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit, which would end the lesson without a word
        names = [one.name for one in mine.used if one.target in steps.called]
        if not names or not steps.title:
            raise
        raise UserError(_stopped(error, steps.title, names, number)) from error
    print()
    say(f"This ran on {len(mine.used)} of your functions: {', '.join(one.name for one in mine.used)}.")
    if losses or reference:
        compare(losses, reference or [])
    else:
        say("This lesson trains nothing with the training loop, so there is no loss to compare.")


class Steps(Terminal):
    """The terminal, which knows in addition which of the learner's code was called in the step that runs."""

    def __init__(self, step: bool) -> None:
        super().__init__(step)
        self.title = ""
        self.called: set[str] = set()
        """Targets."""

    def cell(self, cell: course.Cell) -> None:
        """As the terminal's; a title begins a step."""
        if cell.title:
            self.title = f"{cell.number} · {cell.title}"
            self.called.clear()
        super().cell(cell)


def _stopped(error: BaseException, step: str, names: list[str], number: int) -> str:
    """What to say where a lesson on the learner's code ended before its end."""
    of_yours = f"In this step the lesson ran on {len(names)} of your functions: {', '.join(names)}."
    lines = _lines_in_workbooks(error)
    if lines:
        return (
            f"Your code passes its checks but fails inside the lesson, in step {step}:\n\n{lines}\n\n{of_yours} The "
            "lesson calls them in a way that the checks do not try. Print the shapes that come in."
        )
    said = exceptions.message_of(error)
    kind = "" if isinstance(error, UserError) else type(error).__name__ + ": " * bool(said)
    return (
        f"The lesson stopped in step {step}:\n\n    {kind}{said}\n\n{of_yours} What one of them gave is probably not "
        f"what the lesson expects, though it passes its checks. make lesson-{number} shows what is right."
    )


def trains(source: str) -> bool:
    """Whether a lesson calls the training loop."""
    return re.search(r"(?<!\w)train\(", source) is not None


def tell(mine: Mine) -> None:
    """Say which of the learner's functions are in use."""
    rows = [(one.id, one.name, "yours") for one in mine.used]
    rows += [(one.id, one.name, f"the package's ({why})") for one, why in mine.missing]
    rows.sort(key=lambda row: tuple(map(int, row[0].split("."))))
    table(rows, ["exercise", "function", "in use"])
    print()


def compare(mine: list[Loss], reference: list[Loss]) -> None:
    """Print the losses of both runs, one row for each training."""
    rows = []
    for number in range(max(len(mine), len(reference))):
        own = mine[number] if number < len(mine) else None
        other = reference[number] if number < len(reference) else None
        rows.append(
            (
                number + 1,
                (own or other).steps,
                own and own.train,
                other and other.train,
                own and own.valid,
                other and other.valid,
            )
        )
    form = [None, ",", ".5f", ".5f", ".5f", ".5f"]
    table(rows, ["training", "steps", "loss: yours", "reference", "validation: yours", "reference"], form)
    pairs = [
        (a, b)
        for x, y in zip(mine, reference, strict=False)
        for a, b in ((x.train, y.train), (x.valid, y.valid))
        if a is not None and b is not None
    ]
    print()
    if len(mine) == len(reference) and all(a == b for a, b in pairs):
        say("Equal to the last bit: your code computes what the package's does.")
    elif pairs:
        largest = max(abs(a - b) for a, b in pairs)
        say(
            f"They differ by {largest:.1e} at most. Another order of the same sums rounds differently, and training "
            "carries that along; a difference that grows far beyond that would be worth a look."
        )


# ---------------------------------------------------------------- the reference's losses


def reference_losses(number: int, like: dict[str, Any], quick: bool, text: str | None) -> list[Loss]:
    """The losses of the lesson on the package's own code: stored ones if they still hold, else from a run."""
    path = book.folder() / "reference" / f"lesson_{number:02}.json"
    key = _key(number, sorted(plain_paths(list(like))), quick, text)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == key:
            return [Loss(**row) for row in stored["losses"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or of another form: it is made anew
    minutes = course.load(number).minutes
    how_long = "a few seconds" if quick else f"about {minutes:g} minute{'s' * (minutes != 1)}"
    say(f"First the lesson on the package's own code, unseen, for its losses ({how_long}; they are kept).")
    seeded(accelerators=True)
    with in_use({}, like) as losses, contextlib.redirect_stdout(io.StringIO()):  # where the learner's code prints to
        runner.run(number, quick=quick, text=text, sink=output.Sink())
    book.write(path, json.dumps({"key": key, "losses": [asdict(one) for one in losses]}, indent=1) + "\n")
    return losses


def _key(number: int, paths: list[str], quick: bool, text: str | None) -> str:
    """What the losses depend on: code, lesson, settings, machine."""
    digest = hashlib.sha256()
    bases = show.ROOT / "data" / "bases"
    for path in [*sorted((PACKAGE / "minitransformer").rglob("*.py")), course.lesson_files()[number]]:
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(bases.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    own_text = ""
    if text and text != "python":
        with open(text, "rb") as file:
            own_text = hashlib.sha256(file.read()).hexdigest()
    settings = [paths, quick, text, own_text, torch.__version__, torch.get_num_threads(), os.cpu_count()]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()


def _lines_in_workbooks(error: BaseException) -> str:
    own = str(book.folder()) + os.sep
    trace, paths = error.__traceback__, []
    while trace is not None:
        paths.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    mine = [path for path in paths if path.startswith(own)]
    if not mine:
        return ""
    path = book.folder() / os.path.basename(mine[-1])
    return f"{place(path)}:\n{exceptions.own_lines(error, path)}"
