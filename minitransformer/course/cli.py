"""The command line: `python -m minitransformer lesson 3`. The Makefile is a thin layer over it."""

import argparse
import errno
import os
import subprocess
import sys
import time

from minitransformer.course import bootstrap
from minitransformer.course.own import commands as own
from minitransformer.errors import UserError


def lesson_number(text: str) -> int:
    """Read a lesson's number, for argparse."""
    if not text.isdecimal():
        message = f"{text!r} is not a lesson's number; make lessons lists them"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def exercise_number(text: str) -> "tuple[int, str | None]":
    """Read a lesson's number or an exercise's, "2" or "2.3", for argparse: the lesson, and the exercise or None."""
    lesson, point, number = text.partition(".")
    if not lesson.isdecimal() or (point and not number.isdecimal()):
        message = f"{text!r} is neither a lesson's number, such as 2, nor an exercise's, such as 2.3"
        raise argparse.ArgumentTypeError(message)
    return int(lesson), text if point else None


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = argparse.ArgumentParser(
        prog="python -m minitransformer",
        allow_abbrev=False,
        description="Transformers and parameter-efficient tuning, small enough to read.",
    )
    commands = top.add_subparsers(dest="command", metavar="command")
    commands.required = True

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    lesson = add("lesson", "run a lesson")
    lesson.add_argument("number", type=lesson_number, metavar="N", help="the lesson's number")
    lesson.add_argument("--quick", action="store_true", help="a shortened smoke run (also QUICK=1)")
    lesson.add_argument("--step", action="store_true", help="wait for Enter before each step (also STEP=1)")
    lesson.add_argument("--mine", action="store_true", help="run it on the code in your workbooks (also MINE=1)")
    lesson.add_argument(
        "--text",
        metavar="FILE",
        default=os.environ.get("TEXT") or None,
        help="train on a text of your own, in the lessons that train a GPT (also TEXT=FILE)",
    )
    notebook = add("notebook", "write a lesson as a Jupyter notebook, notebooks/lesson_NN.ipynb")
    notebook.add_argument("number", type=lesson_number, metavar="N", help="the lesson's number")
    lessons = add("lessons", "list the lessons, or the steps that treat a section of a document")
    lessons.add_argument("section", nargs="*", metavar="SECTION", help='a section of a document, such as "003 §4.2"')
    lessons.add_argument("--index", action="store_true", help="write lessons/INDEX.md again")
    chat = add("chat", "talk with the GPT and its prefixes in the terminal")
    chat.add_argument(
        "--task",
        metavar="NAME",
        default="dialogue",
        help="whose prefix to begin with (default: dialogue); /tasks lists them in the conversation",
    )
    chat.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        default=0.0,
        help="0, the default, says the likeliest; 1 draws from what the model thinks",
    )
    lab = add("lab", "measure and judge the documents' claims (two hours; QUICK=1: one in small); it can be stopped")
    lab.add_argument(
        "experiments",
        nargs="*",
        metavar="EXPERIMENT",
        help="a claim, as data/lab/README.md names it; all if none is named. Or budgets: every method at "
        "matched budgets, two hours and a half more",
    )
    lab.add_argument("--draw", action="store_true", help="measure nothing; tell the rows that are in data/lab")
    lab.add_argument("--again", action="store_true", help="measure anew what other code than today's has measured")
    add("real", "measure lesson 15's methods on a published BERT (half an hour, and 84 MB); it can be stopped")
    for name, text in EXERCISES.items():
        command = add(name, text)
        one = name in ("start", "watch")  # these take a whole lesson
        command.add_argument("number", type=lesson_number if one else exercise_number, metavar="N" if one else "N[.M]")
        if name == "solution":
            command.add_argument("--yes", action="store_true", help="show it without asking, solved or not")
    add("progress", "show which exercises pass")
    add("verify", "prove the exercises: stubs fail, solutions pass, mistakes are rejected and named")
    add("test", "run the tests; further arguments go to pytest, such as -k attention")
    add("parity", "run the slow tests and those against the transformers and peft libraries")
    record = add("record", "run the lessons whose recorded outcomes are stale, and record them for the book")
    record.add_argument("lessons", nargs="*", metavar="N", type=lesson_number, help="these lessons instead")
    record.add_argument("--again", action="store_true", help="record also what is not stale")
    add("book", "build the read-along book, build/book/en/index.html, from the records")
    translate = add("translate", "bring a lesson's catalogue of translations up to date, and say what it lacks")
    translate.add_argument("language", metavar="LANGUAGE", help="such as zh")
    translate.add_argument(
        "part",
        nargs="?",
        metavar="PART",
        help="a lesson's number, course (messages), book, laboratory or readme; all that are declared if none is named",
    )
    add("book-test", "run the tests of the read-along book, which need a browser (apt-get install chromium)")
    add("mutants", "change the code in one place after another and see whether a test notices; stopped, it goes on")
    bench = add("bench", "measure speed and memory beside other libraries")
    own.computed(bench, "measure a GPT of GPT-2's sizes on cuda, mps or cpu instead; QUICK=1 is a trial")
    pretrain = add("pretrain", "train the base models in data/bases/ again (an hour or two; QUICK=1 is a trial run)")
    pretrain.add_argument(
        "bases",
        nargs="*",
        metavar="BASE",
        help="gpt, bert, seq2seq, or prefixes (of all tasks, on the GPT); everything if none is named",
    )
    own.computed(pretrain)
    add("data", "write the tiny world's data to data/ again")
    add("tokenizer", "train data/tokenizer.tiktoken again")
    own.describe(add)
    add("lint", "check the code with ruff, and the types of the library with mypy")
    return top


EXERCISES = {
    "start": "write the stubs of a lesson's exercises to workbook/, or add those that are missing",
    "check": "check your workbook of a lesson, or one exercise, and say what is wrong",
    "watch": "check a lesson's workbook whenever it is saved",
    "hint": "one more hint for an exercise, or for the first that does not pass",
    "solution": "show an exercise's solution beside yours",
    "reset": "begin a workbook or an exercise anew, after a dated copy",
}
EXTRAS = {
    "book": ("book",),
    "translate": ("book",),
    "book-test": ("book", "browser", "notebook"),
    "parity": ("parity", "mutants", "notebook"),
    "notebook": ("notebook",),
    "bench": ("parity",),
    "real": ("real",),
    "mutants": ("mutants",),
    "lint": ("dev",),
}

MARKED = {"test": "", "parity": "parity or slow", "book-test": "book"}  # command → which marked tests it runs


def pytest_options(command: str, rest: "list[str]") -> "list[str]":
    """What pytest is told: which marked tests to run, and on how many processes, one for each core and at most four.

    The files of tests are dealt out whole, because what a file's tests share is made once. Whoever says `-n`, or asks
    for what needs one process (a debugger, the plain output), gets it.
    """
    marked = ["-m", MARKED[command]] if MARKED[command] else []
    alone = ("-n", "--numprocesses", "--dist", "--pdb", "--trace", "-s", "--capture", "--co", "--collect-only")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if command == "book-test" or cores == 1 or any(word.startswith(alone) for word in rest):
        return marked + rest
    return [*marked, "-n", str(min(cores, 4)), "--dist", "loadfile", *rest]


def withheld(lesson: int, function: object) -> "str | None":
    """As `workbook.hints.withheld`, which is not read before a lesson shows a source."""
    from minitransformer.course.workbook import hints

    return hints.withheld(lesson, function)


def dispatch(arguments: argparse.Namespace, rest: "list[str]") -> int:
    """Run one command in a Python that has the requirements; gives the exit code.

    Each command imports what it needs itself, so that a lesson's first line does not wait for PyTorch.
    """
    bootstrap.ensure(EXTRAS.get(arguments.command, ()))
    if arguments.command == "lesson":
        from minitransformer.course import runner, show

        show.withheld = lambda function: withheld(arguments.number, function)
        quick = arguments.quick or show.switched_on("QUICK")
        step = arguments.step or show.switched_on("STEP")
        if arguments.mine or show.switched_on("MINE"):
            from minitransformer.course.workbook import mine

            mine.run(arguments.number, quick=quick, step=step, text=arguments.text)
        else:
            runner.run(arguments.number, quick=quick, step=step, text=arguments.text)
    elif arguments.command == "notebook":
        from minitransformer.course import notebook

        notebook.main(arguments.number)
    elif arguments.command == "lessons":
        from minitransformer.course import index, runner

        if arguments.index:
            index.write_page()
        elif arguments.section:
            index.print_steps(" ".join(arguments.section))
        else:
            runner.print_list()
    elif arguments.command == "chat":
        from minitransformer.course import chat

        return chat.main(arguments.task, arguments.temperature)
    elif arguments.command == "lab":
        from minitransformer.course import lab

        lab.main(arguments.experiments, draw=arguments.draw, again=arguments.again)
    elif arguments.command == "real":
        from minitransformer.course.real import measure

        measure.main()
    elif arguments.command in EXERCISES or arguments.command == "progress":
        from minitransformer.course.workbook import commands

        return commands.run(**vars(arguments))
    elif arguments.command == "verify":
        from minitransformer.course.workbook import verify

        return verify.main()
    elif arguments.command == "record":
        from minitransformer.course.book import records

        records.main(arguments.lessons, again=arguments.again)
    elif arguments.command == "book":
        from minitransformer.course.book import site

        site.main()
    elif arguments.command == "translate":
        from minitransformer.course.book import translation

        translation.main(arguments.language, arguments.part)
    elif arguments.command in MARKED:
        command = [sys.executable, "-m", "pytest", *pytest_options(arguments.command, rest)]
        return subprocess.call(command, cwd=str(bootstrap.ROOT))
    elif arguments.command == "lint":
        checks = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
        codes = [subprocess.call([sys.executable, "-m", *check], cwd=str(bootstrap.ROOT)) for check in checks]
        return max(codes)
    elif arguments.command == "mutants":
        from minitransformer.course import mutants

        return mutants.main(rest)
    elif arguments.command == "bench":
        from minitransformer.course import bench, device_bench

        if arguments.device:
            device_bench.main(arguments.device, arguments.precision)
        elif arguments.precision != "fp32":
            raise UserError(f"--precision {arguments.precision} is about the bench of a device: add --device cuda.")
        else:
            bench.main()
    elif arguments.command == "pretrain":
        from minitransformer.course import pretrain

        pretrain.main(arguments.bases, arguments.device, arguments.precision)
    elif arguments.command == "data":
        from minitransformer.course import shipped, tinyworld

        written = tinyworld.write(shipped.DATA)
        shipped.add(path for path in written if path.suffix != ".md")
    elif arguments.command in own.NAMES:
        return own.run(arguments)
    elif arguments.command == "tokenizer":
        from minitransformer.course import data

        data.main()
    return 0


def main() -> int:
    """Run the command line; what the user or the system got wrong ends in a sentence, not a traceback."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us; files that are opened would take its place
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows "?" for it
            stream.reconfigure(line_buffering=True, errors="replace")
    bootstrap.share_the_cores()
    # Of the processes that torchrun starts, the first speaks for all.
    rank = int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    if rank:
        sys.stdout = open(os.devnull, "w")
    try:
        arguments, rest = parser().parse_known_args()
        if rest and arguments.command not in (*MARKED, "mutants"):
            parser().error("unrecognized arguments: " + " ".join(rest))
        return dispatch(arguments, rest)
    except UserError as error:
        if rank and type(error).__name__ != "OtherProcessEnded":
            time.sleep(3)  # where the first process says the same, torchrun ends this one meanwhile
        print(in_language(str(error)), file=sys.stderr)
        # 2 for a number that names no lesson, as argparse has it for a word that names no command
        return 2 if type(error).__name__ == "NoSuchLesson" else 1
    except KeyboardInterrupt as stopped:  # the bootstrap says in its own how to go on
        if not rank:
            print("\n" + (str(stopped) or "Stopped."), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, say `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        sentence = refused(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return 1


def in_language(message: str) -> str:
    """What was wrong, in the language that LESSON_LANG names, if that is possible."""
    if not os.environ.get("LESSON_LANG"):
        return message
    from minitransformer.course.translation import catalogues

    try:
        return catalogues.t(message)
    except (UserError, ImportError):  # of the language itself, or of what reads it
        return message


def refused(error: OSError) -> "str | None":
    """What the system refused, as a sentence; None where that is no matter of the user's files and disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return f"The disk is full{where}. Make room and run the command again."
    if not isinstance(error.filename, (str, os.PathLike)):
        return None
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.filename} cannot be read or written: you lack the permission. Allow it, or copy the course."
    if error.errno == errno.EROFS:
        return f"{error.filename} cannot be written: the disk is read-only. Copy the course to a disk that is not."
    if error.errno == errno.EISDIR:
        return f"{error.filename} is a folder, and a file belongs there. Move the folder away."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{error.filename} needs a folder where a file stands. Move the file away."
    if error.errno == errno.ENOENT:
        return f"There is no {error.filename}. If it belongs to the course, fetch the course's files again."
    return f"{error.filename} cannot be used: {error.strerror}."


if __name__ == "__main__":
    sys.exit(main())
