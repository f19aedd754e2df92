"""Find the lessons in lessons/, read them as prose and code, and run them cell by cell.

A lesson is a script whose cells begin with `# %% Title`. The comments after that line are the prose, the rest
is the code; `run` prints the one and executes the other, so that both stand in one place. The script itself
runs without this module: `python lessons/lesson_02_….py` prints what its code prints.
"""

import __future__

import ast
import io
import os
import re
import sys
import time
import tokenize
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from minitransformer.course import show
from minitransformer.course.show import ROOT, say, styled, text_width
from minitransformer.errors import UserError

KEYS = ("question", "minutes", "documents", "needs")
FUTURE_FLAGS = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class NoSuchLesson(UserError):
    """A lesson's number that has no file."""


@dataclass
class Cell:
    """One `# %%` cell: what is said, then what is run."""

    line: int
    """Where its marker stands; 1 for what precedes the first marker."""
    title: str
    """Empty where the cell continues the step above it."""
    prose: str = ""
    source: str = ""
    """The code as written."""
    hidden: bool = False
    """Whether the code runs without being printed (the tag hide-input)."""
    statements: list[ast.stmt] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Lesson:
    """What a lesson's file says about itself, and its cells."""

    number: int
    path: Path
    title: str
    question: str
    minutes: float
    documents: str
    needs: tuple[int, ...]
    cells: list[Cell]
    flags: int
    """The compiler's flags for the lesson's `from __future__` imports."""


# ---------------------------------------------------------------- finding and reading


def lesson_files() -> dict[int, Path]:
    """The lessons' files by number, in order.

    Raises:
        UserError: a file has a name that is not lesson_NN_slug.py, or two share a number.
    """
    found: dict[int, Path] = {}
    for path in sorted((ROOT / "lessons").glob("lesson_*.py")):
        name = re.fullmatch(r"lesson_(\d\d)_[a-z0-9_]+\.py", path.name)
        if not name:
            raise UserError(f"{_place(path)} is not named like a lesson: lesson_04_a_bert.py would be.")
        number = int(name[1])
        if number in found:
            raise UserError(f"{_place(found[number])} and {_place(path)} are both lesson {number}; renumber one.")
        found[number] = path
    return found


def load(number: int) -> Lesson:
    """Read lesson `number` without running it.

    Raises:
        NoSuchLesson: there is no such lesson.
        UserError: its file is malformed; the sentence names the file and the line.
    """
    files = lesson_files()
    if number not in files:
        which = f"the lessons are {_ranges(list(files))}" if files else "none is written yet"
        raise NoSuchLesson(f"There is no lesson {number}; {which}: make lessons lists them.")
    path = files[number]
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{_place(path, error.lineno)}: Python cannot read this lesson: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{_place(path)} is not UTF-8 text (byte {error.start}).") from error
    return Lesson(
        number=number,
        path=path,
        cells=read_cells(source, tree, path),
        flags=compile(tree, str(path), "exec", dont_inherit=True).co_flags & FUTURE_FLAGS,
        **_metadata(tree, path),
    )


def lessons() -> list[Lesson]:
    """All lessons, in order."""
    return [load(number) for number in lesson_files()]


def _place(path: Path, line: int | None = None) -> str:
    """`lessons/lesson_02_attention.py:14`, for messages."""
    where = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    return where if line is None else f"{where}:{line}"


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] as "1–3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _metadata(tree: ast.Module, path: Path) -> dict:
    """The title and the `key: value` lines of a lesson's docstring."""
    if ast.get_docstring(tree, clean=False) is None:
        raise UserError(
            f"{_place(path, 1)}: a lesson begins with a docstring: its title, an empty line, and then "
            f"{', '.join(key + ': …' for key in KEYS)}."
        )
    start = tree.body[0].lineno
    first, *others = ast.get_docstring(tree, clean=False).split("\n")
    if not first.strip():
        raise UserError(f"{_place(path, start)}: the lesson's title is missing from the docstring's first line.")
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    key = None
    for number, text in enumerate(others, start + 1):
        match = re.match(r"(\w+):\s*(.*)", text)
        if match:
            key = match[1]
            if key not in KEYS or key in found:
                wrong = "appears twice" if key in found else f"is not one of {', '.join(KEYS)}"
                raise UserError(f"{_place(path, number)}: {key!r} {wrong}.")
            found[key], lines[key] = match[2].strip(), number
        elif text.strip() and key and text[0] == " ":
            found[key] = f"{found[key]} {text.strip()}"  # a long value goes on, indented
        elif text.strip():
            raise UserError(f"{_place(path, number)}: {text.strip()!r} is not a line of the form key: value.")
    for key in KEYS:
        if key not in found:
            raise UserError(f"{_place(path, start)}: the docstring has no line {key}: …")
        if not found[key] and key != "needs":
            raise UserError(f"{_place(path, lines[key])}: nothing stands after {key}:")
    try:
        minutes = float(found["minutes"])
    except ValueError:
        minutes = -1.0
    if not 0 < minutes < 1000:
        raise UserError(f"{_place(path, lines['minutes'])}: minutes is a number such as 1.5, not {found['minutes']!r}.")
    needs = found["needs"]
    if not re.fullmatch(r"(|-|–|nothing|none|\d+(\s*,\s*\d+)*)", needs):
        raise UserError(f'{_place(path, lines["needs"])}: needs is "1, 2" or "nothing", not {needs!r}.')
    return {
        "title": first.strip(),
        "question": found["question"],
        "minutes": minutes,
        "documents": found["documents"],
        "needs": tuple(int(need) for need in re.findall(r"\d+", needs)),
    }


def read_cells(source: str, tree: ast.Module, path: Path) -> list[Cell]:
    """Split a lesson at its `# %%` lines; a marker inside a string is none, so Python's own tokenizer looks.

    Raises:
        UserError: there is no cell, the first one lacks a title, or a marker stands inside a statement.
    """
    comments = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.start[1] == 0
    ]
    markers = [token.start[0] for token in comments if re.match(r"# %%(\s|$)", token.string)]
    comment_lines = {token.start[0]: token.string for token in comments}
    lines = source.split("\n")

    if not markers:
        raise UserError(f"{_place(path, 1)}: the lesson has no cells; a cell begins with a line such as # %% Title")
    body = tree.body[1:]  # without the docstring
    cells = []
    if body and body[0].lineno < markers[0]:  # imports above the first cell: run first, without a title
        start = tree.body[0].end_lineno
        cells.append(Cell(1, "", source="\n".join(lines[start : markers[0] - 1]).strip("\n")))
    for marker, end in zip(markers, [*markers[1:], len(lines) + 1], strict=True):
        heading = comment_lines[marker][4:].strip()
        title = re.sub(r'\s*(\[\w+\]|\w+=(\[.*\]|".*"))\s*', " ", " " + heading).strip()  # jupytext's options
        if not title and not any(cell.title for cell in cells):
            raise UserError(f"{_place(path, marker)}: the first cell needs a title: # %% Title")
        first_code = marker + 1
        while first_code < end and not lines[first_code - 1].strip():
            first_code += 1
        prose = []
        while first_code < end and first_code in comment_lines:
            prose.append(re.sub(r"^# ?", "", comment_lines[first_code]))
            first_code += 1
        cells.append(
            Cell(
                marker,
                title,
                prose="\n".join(prose).strip("\n"),
                source="\n".join(lines[first_code - 1 : end - 1]).strip("\n").rstrip(),
                hidden="hide-input" in heading.removeprefix(title),
            )
        )
    for statement in body:
        if any(statement.lineno < marker <= statement.end_lineno for marker in markers):
            raise UserError(f"{_place(path, statement.lineno)}: a # %% line stands inside this statement; move it.")
        owner = next((cell for cell in reversed(cells) if cell.line <= statement.lineno), cells[0])
        owner.statements.append(statement)
    return cells


# ---------------------------------------------------------------- printing and running


def print_list() -> None:
    """Print each lesson's number, title, time, prerequisites and documents' sections (`make lessons`)."""
    for lesson in lessons():
        print(f"{styled(f'{lesson.number:2}  {lesson.title}', 'bold')}  ({_facts(lesson)})")
        for line in show.wrap(f"mirrors {lesson.documents}", text_width(), "    ", "    "):
            print(line)
    if not lesson_files():
        print("There are no lessons yet.")
    else:
        print("\nmake lesson-1 runs the first, QUICK=1 make lesson-1 a shortened one.")


def _facts(lesson: Lesson) -> str:
    minutes = f"about {lesson.minutes:g} minute{'s' * (lesson.minutes != 1)}"
    if not lesson.needs:
        return f"{minutes}; needs no other lesson"
    return f"{minutes}; after lesson{'s' * (len(lesson.needs) > 1)} {', '.join(map(str, lesson.needs))}"


def run(number: int, quick: bool = False, step: bool = False, text: str | None = None) -> None:
    """Run lesson `number`: for each step its title, prose and code, then what the code prints, as it comes.

    Args:
        number: the lesson.
        quick: a smoke run; lessons ask `show.QUICK`.
        step: wait for Enter before each cell's code, when a person sits at the terminal.
        text: a text file of the reader's own, for the lessons that can train on one (its path is then in the
            environment variable MINITRANSFORMER_TEXT); or "python", the manual that comes with Python.

    Raises:
        NoSuchLesson: there is no such lesson.
        UserError: its file is malformed, or `text` is not a file, or the lesson itself says so.
    """
    began = time.perf_counter()
    lesson = load(number)
    if text is not None:
        if text != "python" and not Path(text).is_file():
            raise UserError(f"There is no file {text} to take the text from.")
        os.environ["MINITRANSFORMER_TEXT"] = text if text == "python" else str(Path(text).resolve())
    os.environ["QUICK"] = "1" if quick else ""
    show.QUICK = quick
    if step and not sys.stdin.isatty():
        print("STEP needs a terminal to wait for Enter in; the lesson runs through.")
        step = False

    print(styled(f"Lesson {number} · {lesson.title}", "bold"))
    say(f"{lesson.question}\n")
    print(styled(_facts(lesson), "dim"))
    for line in show.wrap(f"mirrors {lesson.documents}", text_width()):
        print(styled(line, "dim"))
    if quick:
        print("Quick: a shortened run; its numbers mean little.")
    _execute(lesson, step)

    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    print(f"\n{_rule(f'Lesson {number} took ' + (f'{minutes} min ' if minutes else '') + f'{seconds} s')}")
    following = [other for other in lesson_files() if other > number]
    if following:
        print(f"Next: make lesson-{following[0]} — {load(following[0]).title}")
    else:
        print("That was the last lesson so far; make lessons lists them all.")


def _execute(lesson: Lesson, step: bool) -> None:
    """Run the cells in one namespace, which is `__main__` as it is when the script runs by itself."""
    module = ModuleType("__main__")
    module.__file__ = str(lesson.path)
    module.__dict__["__builtins__"] = __builtins__
    before_main, before_argv = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = (
        module,
        [str(lesson.path)],
    )  # so inspect.getsource and pickle find classes
    title_number = 0
    try:
        for cell in lesson.cells:
            print(flush=True)
            if cell.title:
                title_number += 1
                print(styled(_rule(f"{title_number} · {cell.title}"), "bold") + "\n")
            if cell.prose:
                say(cell.prose)
            if cell.source and not cell.hidden:
                if cell.prose:
                    print()
                for line in cell.source.split("\n"):
                    print(f"{styled('│', 'dim')} {line}".rstrip())
                print(flush=True)
            if not cell.statements:
                continue
            if step:
                _wait()
            part = ast.Module(body=cell.statements, type_ignores=[])
            exec(compile(part, str(lesson.path), "exec", lesson.flags, dont_inherit=True), module.__dict__)
            sys.stdout.flush()
    finally:
        sys.modules["__main__"], sys.argv = before_main, before_argv


def _wait() -> None:
    try:
        input(styled("Predict, then press Enter. ", "green"))
    except EOFError:
        print()


def _rule(title: str) -> str:
    """`── 3 · Heads ─────` as wide as the text."""
    return f"── {title} " + "─" * max(3, text_width() - show.display_width(title) - 4)
