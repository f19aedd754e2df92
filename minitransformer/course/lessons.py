"""Find the lessons in lessons/ and read them: cells of prose and of code, in jupytext's percent format.

    # %% [markdown]
    # ## A step's title
    #
    # Its idea, in Markdown.

    # %%
    total = 2 + 2

Editors (VS Code, PyCharm, Jupyter with jupytext) know this format and show prose as such. A `##` heading at the top of
a cell of prose begins a step. `runner` runs what is read here; the script itself runs without either:
`python lessons/lesson_02_….py` shows what its code shows.
"""

from __future__ import annotations
import __future__

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from minitransformer.course.bootstrap import ROOT
from minitransformer.course.visible import Visible
from minitransformer.errors import UserError

KEYS = ("question", "minutes", "documents", "needs")
FUTURE_FLAGS = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class NoSuchLesson(UserError):
    """A lesson's number that has no file."""


@dataclass
class Cell:
    """One `# %%` cell: prose, or code."""

    line: int
    """Where its marker stands; 1 for what precedes the first marker."""
    is_code: bool
    title: str = ""
    """The heading at the top of a cell of prose; empty where the cell continues the step above it."""
    number: int = 0
    """The step's number, where there is a title."""
    prose: str = ""
    """In Markdown, without the title."""
    asks: bool = False
    """Whether the prose asks for a prediction."""
    source: str = ""
    """The code as written."""
    shown: str = ""
    """The code without what only presents: see `visible`."""
    ending: str = ""
    """The part of the code, at its end, that only presents."""
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

    @property
    def facts(self) -> str:
        """How long it takes and what it needs, in a line."""
        minutes = f"about {self.minutes:g} minute{'s' * (self.minutes != 1)}"
        if not self.needs:
            return f"{minutes}; needs no other lesson"
        return f"{minutes}; after lesson{'s' * (len(self.needs) > 1)} {', '.join(map(str, self.needs))}"


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
    path, source, tree = _parsed(number)
    return Lesson(
        number=number,
        path=path,
        cells=read_cells(source, tree, path),
        flags=compile(tree, str(path), "exec", dont_inherit=True).co_flags & FUTURE_FLAGS,
        **_metadata(tree, path),
    )


def heading(number: int) -> tuple[str, str]:
    """The title and the question of lesson `number`; its cells are not read.

    Raises:
        NoSuchLesson, UserError: as `load`.
    """
    path, _, tree = _parsed(number)
    about = _metadata(tree, path)
    return about["title"], about["question"]


def _parsed(number: int) -> tuple[Path, str, ast.Module]:
    """A lesson's file, its text, and the text as Python reads it."""
    files = lesson_files()
    if number not in files:
        which = f"the lessons are {_ranges(list(files))}" if files else "none is written yet"
        raise NoSuchLesson(f"There is no lesson {number}; {which}: make lessons lists them.")
    path = files[number]
    try:
        source = path.read_text(encoding="utf-8")
        return path, source, ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{_place(path, error.lineno)}: Python cannot read this lesson: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{_place(path)} is not UTF-8 text (byte {error.start}).") from error


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
        UserError: there is no cell; the first one has no title; code stands in a cell of prose; a cell of code has a
            title; a marker stands inside a statement.
    """
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.start[1] == 0
    }
    markers = [line for line, comment in comments.items() if re.match(r"# %%(\s|$)", comment)]
    lines = source.split("\n")

    if not markers:
        raise UserError(
            f"{_place(path, 1)}: the lesson has no cells; a cell of prose begins with # %% [markdown], one of code "
            "with # %%"
        )
    body = tree.body[1:]  # without the docstring
    cells = []
    if body and body[0].lineno < markers[0]:  # imports above the first cell: run first
        start = tree.body[0].end_lineno
        cells.append(Cell(1, is_code=True, source="\n".join(lines[start : markers[0] - 1])))
    for marker, end in zip(markers, [*markers[1:], len(lines) + 1], strict=True):
        heading, inside = comments[marker][4:].strip(), range(marker + 1, end)
        if "[markdown]" in heading:
            cells.append(_prose_cell(marker, {line: lines[line - 1] for line in inside}, path))
            continue
        if re.sub(r'(\[\w+\]|\w+=(\[.*\]|".*"))', "", heading).strip():  # jupytext's options aside
            raise UserError(
                f"{_place(path, marker)}: a cell of code has no title. A step begins with a cell of prose: "
                f"# %% [markdown], and below it # ## {heading}"
            )
        code = "\n".join(lines[line - 1] for line in inside)
        cells.append(Cell(marker, is_code=True, source=code, hidden="hide-input" in heading))
    _number(cells, path)
    _add_statements(cells, tree, path, markers)
    return cells


def _prose_cell(marker: int, lines: dict[int, str], path: Path) -> Cell:
    """Read a cell of prose from its lines by number."""
    for number, line in lines.items():
        if line.strip() and not line.startswith("#"):
            raise UserError(
                f"{_place(path, number)}: a cell of prose holds comments alone; a line # %% begins the code below it."
            )
    text = "\n".join(re.sub(r"^# ?", "", line) for line in lines.values()).strip("\n")
    heading, _, rest = text.partition("\n")
    asks = "**Predict" in text
    if not heading.startswith("## "):
        return Cell(marker, is_code=False, prose=text, asks=asks)
    return Cell(marker, is_code=False, title=heading[3:].strip(), prose=rest.strip("\n"), asks=asks)


def _number(cells: list[Cell], path: Path) -> None:
    """Number the steps; the first cell after any imports has to begin one."""
    first = next(cell for cell in cells if cell.line > 1 or cell.prose)
    if not first.title:
        raise UserError(
            f"{_place(path, first.line)}: the first cell needs a title: # %% [markdown], and below it # ## Title"
        )
    for number, cell in enumerate((cell for cell in cells if cell.title), 1):
        cell.number = number


def _add_statements(cells: list[Cell], tree: ast.Module, path: Path, markers: list[int]) -> None:
    """Give each cell the statements that stand in it, and the code that is printed of them."""
    for statement in tree.body[1:]:
        if any(statement.lineno < marker <= statement.end_lineno for marker in markers):
            raise UserError(f"{_place(path, statement.lineno)}: a # %% line stands inside this statement; move it.")
        next(cell for cell in reversed(cells) if cell.line <= statement.lineno).statements.append(statement)
    visible = Visible(tree)
    for cell in cells:
        if cell.is_code:
            first_line = 1 + (tree.body[0].end_lineno if cell.line == 1 else cell.line)
            cell.shown = visible.code(cell.source, first_line, cell.statements)
            cell.ending = visible.ending(cell.source, first_line, cell.statements).rstrip()
            cell.source = cell.source.strip("\n").rstrip()
