"""The commands `tune`, `generate`, `predict` and `evaluate`. What they need of PyTorch is imported when one runs."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from minitransformer.course import bootstrap
from minitransformer.errors import UserError

NAMES = ("tune", "generate", "predict", "evaluate")


def column(text: str) -> "tuple[str, str]":
    """Read `prompt=question`, for argparse: the task's name of a column, and the file's."""
    ours, equals, theirs = text.partition("=")
    if not equals or not ours or not theirs:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form prompt=question: the task's name, then yours")
    return ours, theirs


def describe(add: "Callable[[str, str], argparse.ArgumentParser]") -> None:
    """Add the commands to the command line."""
    tune = add("tune", "tune a method on rows of a file of yours (JSONL or CSV), and write a report")
    tune.add_argument("--data", required=True, metavar="FILE", help="a .jsonl or .csv file with named columns")
    tune.add_argument("--task", required=True, metavar="KIND", help="completion, classification or translation")
    tune.add_argument("--method", default="prefix", metavar="NAME", help="prefix, prompt, lora, adapter or full")
    tune.add_argument("--base", metavar="BASE", help="gpt, bert, seq2seq, or a folder with a published model")
    tune.add_argument("--out", required=True, metavar="FOLDER", help="where the tuned part and the report go")
    tune.add_argument(
        "--columns",
        nargs="+",
        type=column,
        default=[],
        metavar="NAME=COLUMN",
        help="what your file calls a column: completion has prompt and completion, classification text and label, "
        "translation source and target",
    )
    tune.add_argument("--steps", type=int, default=400, metavar="N", help="updates of the weights (default: 400)")
    tune.add_argument("--batch", type=int, default=8, metavar="N", help="rows in a step (default: 8)")
    rate = tune.add_mutually_exclusive_group()
    rate.add_argument("--lr", type=float, metavar="RATE", help="the learning rate (default: the method's own)")
    rate.add_argument("--search", action="store_true", help="try four learning rates on the validation rows first")
    tune.add_argument("--length", type=int, default=10, metavar="P", help="virtual tokens of a prefix or a prompt")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the splits and of everything drawn")
    tune.add_argument("--valid", type=float, default=0.1, metavar="FRACTION", help="of the rows, to validate by")
    tune.add_argument("--test", type=float, default=0.1, metavar="FRACTION", help="of the rows, to test by")
    tune.add_argument("--cut", action="store_true", help="cut rows that are too long, where else they are left out")
    computed(tune)
    tune.add_argument(
        "--shard", action="store_true", help="under torchrun: each process holds only its part of a base that is large"
    )
    for name, text in (
        ("generate", "let a model that `tune` made write: what follows a prompt, or a translation"),
        ("predict", "let a model that `tune` made sort texts into its classes"),
    ):
        command = add(name, text)
        command.add_argument("--from", dest="folder", required=True, metavar="FOLDER", help="what tune's --out was")
        command.add_argument("texts", nargs="*", metavar="TEXT", help="texts; none: one a line on stdin")
        computed(command)
    evaluate = add("evaluate", "score a model that `tune` made, on its own test rows or on another file")
    evaluate.add_argument("--from", dest="folder", required=True, metavar="FOLDER", help="what tune's --out was")
    evaluate.add_argument("--data", metavar="FILE", help="another file with the same columns")
    computed(evaluate)


def computed(command: argparse.ArgumentParser, instead: "str | None" = None) -> None:
    """Add where and how a command computes; a device without a default where naming one does something else."""
    default = None if instead else "cpu"
    command.add_argument(
        "--device", default=default, metavar="DEVICE", help=instead or "cpu (the default), cuda or mps"
    )
    command.add_argument(
        "--precision",
        default="fp32",
        metavar="NAME",
        help="fp32 (the default), or bf16: matrix products in bfloat16, which most GPUs compute faster",
    )


def _base_of(folder: str) -> "str | None":
    """The base that a job was tuned on, as far as its folder says."""
    try:
        return json.loads((Path(folder) / "job.json").read_text(encoding="utf-8"))["job"]["base"]
    except (OSError, ValueError, TypeError, KeyError):
        return None  # what is wrong is said where the job is read


def lines_of(stream: "TextIO") -> "list[str]":
    """The texts of a stream, one a line: line for line what will be answered, so that an empty one is refused.

    Raises:
        UserError: an empty line, or what is no text.
    """
    try:
        lines = stream.read().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"Standard input is no text in {error.encoding}: byte {error.start} cannot be read.") from error
    if lines == [""]:
        return []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise UserError(f"Line {number} of standard input is empty: there has to be a text in each.")
    return lines


BASES = {"completion": "gpt", "classification": "bert", "translation": "seq2seq"}


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands; gives the exit code.

    Raises:
        UserError: as the functions of `job` and `use`.
    """
    base = arguments.base if arguments.command == "tune" else _base_of(arguments.folder)
    if base not in (None, *BASES.values()):
        bootstrap.ensure(("published",))
    if arguments.command == "tune":
        from minitransformer.course.own.job import Job
        from minitransformer.course.own.job import run as run_job
        from minitransformer.course.together import joined

        values = {name: value for name, value in vars(arguments).items() if name != "command"}
        values["columns"] = dict(arguments.columns)
        if len(values["columns"]) < len(arguments.columns):
            raise UserError("--columns names one column of the task twice.")
        values["base"] = arguments.base or BASES.get(arguments.task, "gpt")
        job = Job(**values)
        with joined(job.device):
            run_job(job)
        return 0
    from minitransformer.course.own import use

    where = {"device": arguments.device, "precision": arguments.precision}
    if arguments.command == "evaluate":
        for name, value in use.evaluate(arguments.folder, arguments.data, **where).items():
            print(f"{name}: {value:.4g}")
        return 0
    if not (Path(arguments.folder) / "job.json").exists():
        raise UserError(f"{arguments.folder} holds no job: python -m minitransformer tune makes one.")
    texts = arguments.texts or lines_of(sys.stdin)
    if not texts:
        raise UserError("There is no text: give some behind the options, or one a line on standard input.")
    if arguments.command == "generate":
        for answer in use.generate(arguments.folder, texts, **where):
            print(answer)
    else:
        for classes in use.predict(arguments.folder, texts, **where):
            print(", ".join(f"{label} {probability:.3f}" for label, probability in classes))
    return 0
