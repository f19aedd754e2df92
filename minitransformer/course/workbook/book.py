"""The learner's files: workbook/lesson_NN.py, workbook/progress.txt, and dated copies in workbook/backup/.

What a learner wrote is never changed: `start` only adds stubs of exercises that are missing, and `reset` first puts
a dated copy aside. Work and progress belong to exercises by their ids, so an upgrade of the course keeps both.
"""

from __future__ import annotations

import ast
import codecs
import difflib
import hashlib
import inspect
import re
import stat
import sys
import textwrap
import traceback
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.workbook.cut import COMMENT, header, place, resolve
from minitransformer.course.workbook.exercise import Exercise, exercises
from minitransformer.errors import UserError
from minitransformer.files import write_aside

TOP = '''"""Workbook of lesson {number} · {title}

Each exercise below waits for code of yours; everything else that it needs is the course's. Change what you like here.
Only these two commands write into this file, and only if you call them:

    {start}  adds the exercises that it lacks, at its end
    {reset}  begins anew, here with one exercise; what you had written is kept in workbook/backup/

These look at it:

    {check}  checks the exercises in order and says what is wrong (check-{number}.2: only that one)
    {watch}  does so whenever you save
    {hint}  gives a hint for the first that does not pass, one more at each call
    {progress}  shows what you have done
"""

from __future__ import annotations
'''


class WorkbookError(UserError):
    """A workbook that cannot be read or run; the message says what to do."""


def folder() -> Path:
    """Where workbooks lie."""
    return show.ROOT / "workbook"


def workbook_path(lesson: int) -> Path:
    """The workbook of a lesson."""
    return folder() / f"lesson_{lesson:02}.py"


# ---------------------------------------------------------------- writing it


def heading(exercise: Exercise) -> str:
    """The comment above an exercise, by which a reader finds it."""
    title = f"{exercise.id} · {exercise.title} · {exercise.minutes:g} minutes · {exercise.stars}"
    purpose = textwrap.wrap(exercise.purpose, 100, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([f"# {'─' * max(3, 97 - show.display_width(title))} {title}", *purpose])


def source_of(some: list[Exercise], solved: Collection[str] = ()) -> str:
    """Stubs, or the solutions of those in `solved`, with their headings."""
    return "\n\n\n".join(f"{heading(one)}\n\n{one.cut.solution if one.id in solved else one.cut.stub}" for one in some)


def new_text(lesson: int, some: list[Exercise], solved: Collection[str] = ()) -> str:
    """A whole workbook."""
    title = course.load(lesson).title if lesson in course.lesson_files() else "Exercises"
    imports = "\n".join(header([one.cut for one in some], f"workbook of lesson {lesson}"))
    commands = {"progress": "make progress", "reset": f"make reset-{lesson}.2"}
    commands |= {name: f"make {name}-{lesson}" for name in ("start", "check", "watch", "hint")}
    widest = max(map(len, commands.values()))
    top = TOP.format(number=lesson, title=title, **{name: text.ljust(widest) for name, text in commands.items()})
    return f"{top}\n{imports}\n\n\n{source_of(some, solved)}\n"


def start(lesson: int) -> tuple[Path, list[Exercise], bool]:
    """Write a lesson's workbook, or add the exercises that it lacks.

    Returns:
        The file, the exercises that were added, and whether the file is new.

    Raises:
        UserError: the lesson has no exercises; the workbook that is there cannot be read.
    """
    some, path = exercises(lesson), workbook_path(lesson)
    if not path.exists():
        write(path, new_text(lesson, some))
        return path, some, True
    text = read(path)
    tree = parse(path, text)
    if not text.strip():
        write(path, new_text(lesson, some))
        return path, some, False
    missing = [one for one in some if not is_there(tree, one) and not under_its_heading(text, tree, some, one)]
    if missing:
        # What the workbook has a name for is not imported again: that would put the package's code over the learner's.
        imports = header([one.cut for one in missing], f"workbook of lesson {lesson}", bound(tree))
        added = "\n".join([*imports, *["", ""] * bool(imports), source_of(missing)])
        old = path.read_bytes()
        gap = "\n" * (3 - min(2, len(text) - len(text.rstrip("\n"))))
        _refuse_read_only(path)
        write_aside(path, old + _as_written(gap + added + "\n", old))
    return path, missing, False


def _as_written(text: str, like: bytes) -> bytes:
    """Text as bytes, with the line ends that a file has."""
    return text.replace("\n", "\r\n" if b"\r\n" in like else "\n").encode("utf-8")


def _refuse_read_only(path: Path) -> None:
    """Replacing a file would pass over its being read-only; whoever made it so meant it.

    Raises:
        UserError: it is.
    """
    if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
        raise UserError(
            f"{place(path)} is read-only and stays as it is. To let this command write into it, make it writable "
            f"(chmod u+w {place(path)})."
        )


def write(path: Path, text: str) -> None:
    """Write a file aside and rename it."""
    write_aside(path, text.encode("utf-8", "surrogateescape"))


def backup(path: Path) -> Path:
    """Put a dated copy of a workbook into workbook/backup/."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    copy = path.parent / "backup" / f"{path.stem}.{stamp}{path.suffix}"
    number = 1
    while copy.exists():
        number += 1
        copy = copy.with_name(f"{path.stem}.{stamp}_{number}{path.suffix}")
    try:
        write_aside(copy, path.read_bytes())
    except OSError as error:
        raise UserError(f"{place(path)} cannot be read: {error.strerror}. Nothing was changed.") from None
    return copy


def reset(lesson: int, only: str | None = None) -> Path:
    """Begin a workbook anew, or one exercise of it; gives the dated copy of what was there.

    Raises:
        UserError: there is no workbook, or the exercise cannot be found in it.
    """
    path, some = workbook_path(lesson), exercises(lesson)
    if not path.exists():
        raise missing_workbook(lesson)
    _refuse_read_only(path)
    if only is None:
        copy = backup(path)
        write(path, new_text(lesson, some))
        return copy
    text = read(path)
    try:
        tree = parse(path, text)
    except WorkbookError as error:
        raise UserError(
            f"{error}\n\nUntil that is mended, only the whole workbook can be reset: make reset-{lesson}."
        ) from None
    exercise = next(one for one in some if one.id == only)
    node, owner = locate(tree, exercise)
    if node is None:
        raise UserError(f"{place(path)} has no {exercise.name} to reset; make start-{lesson} adds it.")
    if owner is not None:
        others = [one for one in owner.body[1:] if one is not node]
        if others:
            raise UserError(
                f"{place(path, owner.lineno)}: {owner.name} has more in it than {node.name}; "
                f"write the stub back by hand, or reset the whole workbook: make reset-{lesson}."
            )
        node = owner
    copy = backup(path)
    lines, old = text.split("\n"), path.read_bytes()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    new = "\n".join([*lines[: first - 1], exercise.cut.stub, *lines[node.end_lineno :]])
    write_aside(path, old[: 3 * old.startswith(codecs.BOM_UTF8)] + _as_written(new, old))
    return copy


def missing_workbook(lesson: int) -> UserError:
    """What to say where there is no workbook, and perhaps one of another name."""
    path = workbook_path(lesson)
    near = (
        [
            other.name
            for other in sorted(folder().glob("*.py"))
            if re.findall(r"\d+", other.stem) and int(re.findall(r"\d+", other.stem)[0]) == lesson
        ]
        if folder().is_dir()
        else []
    )
    if near:
        return UserError(
            f"There is no {place(path)}, but there is {near[0]} beside it. If that is your workbook of lesson "
            f"{lesson}, rename it to {path.name}; or make start-{lesson} writes a new one."
        )
    kept = sorted((folder() / "backup").glob(f"{path.stem}.*"))
    if kept:
        return UserError(
            f"There is no workbook for lesson {lesson}: make start-{lesson} writes a new one, or copy back what reset "
            f"kept last, {place(kept[-1])}."
        )
    return UserError(f"There is no workbook for lesson {lesson} yet: make start-{lesson} writes {place(path)}.")


# ---------------------------------------------------------------- reading it


def read(path: Path) -> str:
    """The text of a workbook.

    Raises:
        WorkbookError: it is not UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbookError(
            f"{place(path)} is not UTF-8 text (byte {error.start}{_encoding(path)}): save it as UTF-8 in your editor. "
            "Nothing was changed."
        ) from None
    except OSError as error:
        raise WorkbookError(f"{place(path)} cannot be read: {error.strerror}. Nothing was changed.") from None
    if "\0" in text:
        raise WorkbookError(f"{place(path)} has a character of code 0 in it, which is no text. Nothing was changed.")
    return text.replace("\r\n", "\n")


def _encoding(path: Path) -> str:
    return "; it looks like UTF-16" if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") else ""


PLAIN_WORDS = (
    (r"expected ':'", "A line that begins with def, class, if, else, for, while or with ends with a colon."),
    (r"was never closed", "A bracket that is opened here is not closed anywhere below."),
    (r"unmatched|does not match opening", "A bracket is closed that was not opened, or with another kind of bracket."),
    (r"expected an indented block", "After a line that ends with a colon comes a line that is indented further."),
    (r"unexpected indent", "This line stands further to the right than the one above it, without reason."),
    (r"unindent does not match", "This line is indented by a number of spaces that no line above it has."),
    (r"inconsistent use of tabs", "Tabs and spaces are mixed: use four spaces for each level."),
    (
        r"invalid (non-printable )?character",
        "This character is not part of Python; perhaps it was typed with a Chinese "
        "keyboard (（ ， ： “) or pasted from a page. Type the plain one.",
    ),
    (r"unterminated .*string", "A text that opens with a quotation mark has no closing one."),
    (r"'return' outside function|'await' outside", "This line has to stand inside a function, indented below its def."),
    (r"from __future__ imports", "This line has to stay the first of the file, before any code."),
    (r"Missing parentheses in call", "print is a function: its arguments stand in brackets."),
    (r"cannot assign|Maybe you meant '=='", "= gives a name to a value; == asks whether two values are equal."),
)


def ended(text: str) -> str:
    """A sentence with its full stop, where it does not end with a mark already; its first letter stays as it is."""
    return text if re.search(r"""[.!?:…]$|(?<!\.)[.!?][])}"'”’]+$""", text) else text + "."


def parse(path: Path, text: str) -> ast.Module:
    """Python's reading of a workbook.

    Raises:
        WorkbookError: Python cannot read it; the line, where in it, and what that means.
    """
    try:
        tree = ast.parse(text, filename=str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it runs
            compile(tree, str(path), "exec", dont_inherit=True)  # finds more than the parser: a return outside, …
        return tree
    except SyntaxError as error:
        lines = text.split("\n")
        number = min(max(error.lineno or 1, 1), len(lines))
        line = lines[number - 1].replace("\t", " ")
        at = min(max((error.offset or 1) - 1, 0), len(line))
        caret = " " * show.display_width(line[:at]) + "^"
        words = next((text for pattern, text in PLAIN_WORDS if re.search(pattern, error.msg or "")), "")
        said = ended(error.msg or "it is no Python")
        raise WorkbookError(
            f"{place(path, number)}: Python cannot read this line: {said}\n\n    {line}\n    {caret}\n\n"
            f"{words + ' ' if words else ''}Nothing was run, and nothing was changed."
        ) from None
    except (RecursionError, MemoryError):
        raise WorkbookError(f"{place(path)} is nested too deeply for Python to read. Nothing was changed.") from None


def locate(tree: ast.Module, exercise: Exercise) -> tuple[Any, ast.ClassDef | None]:
    """Where a workbook defines an exercise: the node of the function or class, and the class that holds a method."""
    cut = exercise.cut
    for node in reversed(tree.body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name != cut.name:
            continue
        if cut.method is None:
            return node, None
        for one in getattr(node, "body", []):
            if isinstance(one, ast.FunctionDef) and one.name == cut.method:
                return one, node
    return None, None


def is_there(tree: ast.Module, exercise: Exercise) -> bool:
    """Whether a workbook has something by the name of the exercise."""
    if locate(tree, exercise)[0] is not None:
        return True
    if exercise.cut.method is not None:
        return False
    assigned = (node.targets for node in tree.body if isinstance(node, ast.Assign))
    return any(isinstance(one, ast.Name) and one.id == exercise.cut.name for targets in assigned for one in targets)


def bound(tree: ast.Module) -> set[str]:
    """The names that a workbook itself gives a meaning to, at its top level."""
    return {name for node in tree.body for name in _binds(node)}


def _binds(node: ast.stmt) -> set[str]:
    """The names that one statement gives a meaning to."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(one.asname or one.name).split(".")[0] for one in node.names}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def is_untouched(tree: ast.Module, exercise: Exercise) -> bool:
    """Whether a workbook has an exercise as its stub, in which nothing is written yet."""
    node, stub = locate(tree, exercise)[0], locate(ast.parse(exercise.cut.stub), exercise)[0]
    return node is not None and ast.dump(node) == ast.dump(stub)


def swallowed(tree: ast.Module, exercise: Exercise) -> tuple[str, int] | None:
    """Which other function has an exercise's lines at its end, because the line with its def is gone: name and line.

    They are known by the docstring.
    """
    stub = ast.parse(exercise.cut.stub)
    docstring = ast.get_docstring(locate(stub, exercise)[0])
    for node in ast.walk(tree):
        for one in node.body[1:] if isinstance(node, ast.FunctionDef) else ():
            text = one.value.value if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) else None
            if isinstance(text, str) and docstring and inspect.cleandoc(text) == docstring:
                return node.name, one.lineno
    return None


def signature(exercise: Exercise) -> str:
    """The first lines of an exercise's function, from def to the colon."""
    stub = exercise.cut.stub
    node = locate(ast.parse(stub), exercise)[0]
    return "\n".join(stub.split("\n")[node.lineno - 1 : node.body[0].lineno - 1])


def digest(tree: ast.Module, exercise: Exercise, some: list[Exercise]) -> str:
    """A short name of the code that a workbook has for an exercise; "" where it has none.

    To that code belongs what it uses of the workbook's other code, but for the other exercises, which a check takes
    from the package. Comments and the layout do not count.
    """
    binding: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _binds(node):
            binding.setdefault(name, []).append(node)
    others = {node for one in some if one is not exercise for node in locate(tree, one) if node is not None}
    found = set(locate(tree, exercise)) - {None}
    belongs: list[ast.stmt] = []
    wanted = [node for node in binding.get(exercise.cut.name, []) if node in found or node not in others]
    while wanted:
        node = wanted.pop()
        if node in belongs:
            continue
        belongs.append(node)
        used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        wanted += [one for name in used for one in binding.get(name, []) if one not in others]
    if not belongs:
        return ""
    try:
        text = "\n".join(ast.unparse(node) for node in tree.body if node in belongs)
    except RecursionError:  # nested more deeply than any exercise asks for
        return "0"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def under_its_heading(text: str, tree: ast.Module, some: list[Exercise], exercise: Exercise) -> tuple[str, int] | None:
    """What stands under the heading of an exercise, by its id, in place of it: name and line; None if nothing does.

    So work is found again where an upgrade of the course, or the learner, gave the function another name.
    """
    lines = text.split("\n")
    at = next((n for n, line in enumerate(lines, 1) if re.match(rf"# ─+ {re.escape(exercise.id)} · ", line)), None)
    if at is None:
        return None
    end = next(
        (n for n in range(at + 1, len(lines) + 1) if re.match(r"# ─+ \d+\.\d+ · ", lines[n - 1])), len(lines) + 1
    )
    others = {node for one in some for node in locate(tree, one)}
    for node in tree.body:
        if not (at < node.lineno < end and hasattr(node, "name")) or node in others:
            continue
        if exercise.cut.method is not None and isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            if methods:
                return f"{node.name}.{methods[0].name}", methods[0].lineno
            if node.name == exercise.cut.name:
                continue  # the class is there, but nothing in it
        return node.name, node.lineno
    return None


def wants_its_name(path: Path, found: tuple[str, int], exercise: Exercise) -> str:
    """What to say where something of another name stands under the heading of an exercise."""
    name, line = found
    cut = exercise.cut
    called = f"{cut.method} in a class {cut.name}({cut.name})" if cut.method else cut.name
    return (
        f"{place(path, line)}: under the heading of {exercise.id} stands {name}, but the exercise is called {called}. "
        f"Give it that name; or, if it is something else, move it above that heading and take the heading out: then "
        f"make start-{exercise.lesson} adds the stub."
    )


@dataclass
class Workbook:
    """A workbook that was read and run."""

    path: Path
    text: str
    tree: ast.Module
    names: dict[str, Any]
    """Its namespace."""
    exercises: list[Exercise]
    candidates: dict[str, Any]
    """What it has for each exercise, by id; None where it has nothing."""

    def line(self, exercise: Exercise) -> int | None:
        """Where it defines an exercise."""
        node, _ = locate(self.tree, exercise)
        return None if node is None else node.lineno

    def digest(self, exercise: Exercise) -> str:
        """A short name of what it has for an exercise."""
        return digest(self.tree, exercise, self.exercises)

    def link(self, mine: Collection[str]) -> None:
        """Choose what the workbook calls by an exercise's name: the learner's code if in `mine`, else the package's."""
        for exercise in self.exercises:
            reference, owner = resolve(exercise.target, exercise.who)
            if owner is not None or isinstance(reference, type):
                self.names[exercise.cut.name] = owner or reference  # the switch works on the class itself
            else:
                self.names[exercise.cut.name] = self.candidates[exercise.id] if exercise.id in mine else reference


def load(path: Path, some: list[Exercise]) -> Workbook:
    """Read and run a workbook.

    Raises:
        WorkbookError: it does not parse, or running it raises.
    """
    text = read(path)
    tree = parse(path, text)
    module = ModuleType(f"workbook_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        more = in_plain_words(error) or lost_import(error, tree, some)
        raise WorkbookError(
            f"{place(path)} cannot be run, before any exercise is tried:\n\n{own_lines(error, path)}"
            + (f"\n\n{more}" if more else "")
        ) from error
    candidates = {one.id: one.taken_from(module.__dict__) for one in some}
    return Workbook(path, text, tree, module.__dict__, some, candidates)


def in_plain_words(error: BaseException) -> str:
    """What an exception means that beginners meet anywhere; nothing for others."""
    text = message_of(error)
    if isinstance(error, RecursionError):
        return "A function called itself without end."
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "not enough memory" in text:
        return "It asked for more memory than a check may use. Which of its tensors or lists grows?"
    if isinstance(error, EOFError) and "EOF when reading a line" in text:
        return "It waits for somebody to type something (input); nobody is there in a check."
    found = re.match(r"cannot import name '(\w+)' from '(minitransformer[\w.]*)'", text)
    if isinstance(error, ImportError) and found:
        near = difflib.get_close_matches(found[1], vars(sys.modules[found[2]]), 1)
        return (
            f"The course has no {found[1]} there{f'; did you mean {near[0]}?' if near else '.'} If an upgrade of the "
            "course gave it another name or took it away, change that line; if nothing below uses it, take it out."
        )
    return ""


def lost_import(error: BaseException, tree: ast.Module, some: list[Exercise]) -> str:
    """What to say of a name that is not defined because its import was taken out; nothing of others."""
    name = getattr(error, "name", None) if isinstance(error, NameError) else None
    # (A class X(X) needs its import.)
    if name is None or any(name in _binds(node) for node in tree.body if not isinstance(node, ast.ClassDef)):
        return ""
    lines = header([one.cut for one in some], "this workbook")
    for node in ast.parse("\n".join(lines)).body:
        for alias in getattr(node, "names", ()):
            if name == (alias.asname or alias.name):
                node.names = [alias]
                return (
                    f"A new workbook imports it in its first lines; this one does not. Write this line there:\n\n"
                    f"    {ast.unparse(node)}"
                )
    return ""


def message_of(error: BaseException) -> str:
    """What an exception says, whatever its class makes of that."""
    try:
        return str(error).strip()
    except Exception as second:  # a learner's own __str__
        return f"(its message cannot be shown: {type(second).__name__})"


def own_lines(error: BaseException, path: Path) -> str:
    """An exception with only those lines of its traceback that stand in the workbook."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    lines = [f"    line {frame.lineno}, in {frame.name}:  {frame.line}" for frame in frames]
    if len(lines) > 6:
        lines = [*lines[:3], f"    … {len(lines) - 5} more …", *lines[-2:]]
    if isinstance(error, SystemExit):
        return "\n".join([*lines, "    It called exit, which ends a program; a function ends with return."])
    said = message_of(error)
    said = said if len(said) < 800 else said[:800] + " …"
    kind = type(error).__name__
    return "\n".join([*lines, textwrap.indent(f"{kind}: {said}" if said else kind, "    ")])


def own_source(text: str, tree: ast.Module, exercise: Exercise) -> str:
    """What the learner wrote for an exercise, without docstring and indentation, to be shown beside the solution.

    Of a function of which only a part is asked for, only what stands in that place.
    """
    node, _ = locate(tree, exercise)
    if node is None:
        return ""
    lines = text.split("\n")
    body, comments = node.body, {COMMENT, *exercise.cut.notes}
    if exercise.cut.around is not None:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        own = _between(lines[first - 1 : node.end_lineno], *exercise.cut.around)
        return textwrap.dedent("\n".join(line for line in own if line.strip() not in comments)).strip("\n")
    if len(body) > 1 and ast.get_docstring(node) is not None:
        first = body[0].end_lineno
    else:
        first = body[0].lineno - 1
    own = [line for line in lines[first : node.end_lineno] if line.strip() not in comments]
    return textwrap.dedent("\n".join(own)).strip("\n")


def _between(lines: list[str], before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    """The lines between those that were given; where the learner changed some of these, all that were not given."""
    plain, above, below = ([line.strip() for line in some] for some in (lines, before, after))
    end = len(plain) - len(below)
    if plain[: len(above)] == above and plain[end:] == below:
        return lines[len(above) : end]
    given: set[int] = set()
    for block in difflib.SequenceMatcher(None, above + below, plain, autojunk=False).get_matching_blocks():
        given |= set(range(block.b, block.b + block.size))
    return [line for number, line in enumerate(lines) if number not in given]


# ---------------------------------------------------------------- progress


@dataclass(frozen=True)
class State:
    """How far an exercise has come."""

    passed: bool = False
    day: str = "-"
    """Of the first pass."""
    hints: int = 0
    """How many were shown."""
    source: str = ""
    """The `digest` of the code that was checked last; "" where none was, or by a course that did not note it."""
    told: bool = False
    """Whether a check has said what the exercise is for."""

    def is_of(self, source: str) -> bool:
        """Whether the last check was of this code, by its digest, as far as is known."""
        return self.source in ("", source)


class Progress:
    """workbook/progress.txt: one line an exercise, by id. Lines that are not understood stay as they are."""

    TOP = "# id  passed or open  day of the first pass  hints shown  what was checked (make progress draws it)"
    LINE = re.compile(r"(\d+\.\d+)\s+(passed|open)\s+(\S+)\s+hints=(\d+)(?:\s+source=([0-9a-f]+))?(\s+told)?\s*")

    def __init__(self) -> None:
        self.path = folder() / "progress.txt"
        self._read()

    def _read(self) -> None:
        try:
            text = self.path.read_bytes().decode("utf-8", "surrogateescape") if self.path.exists() else self.TOP
        except OSError as error:
            raise UserError(f"{place(self.path)} cannot be read: {error.strerror}. Move it away to go on.") from None
        self.lines = text.removesuffix("\n").split("\n")

    def __getitem__(self, identity: str) -> State:
        """The state of an exercise, by id."""
        for line in self.lines:
            found = self.LINE.fullmatch(line)
            if found and found[1] == identity:
                return State(found[2] == "passed", found[3], int(found[4]), found[5] or "", bool(found[6]))
        return State()

    def set(self, identity: str, **changes: Any) -> None:
        """Change an exercise's state and write the file, if there is anything to change."""
        self._read()  # another check may have written since
        before = self[identity]
        after = replace(before, **changes)
        if after.passed and after.day == "-":
            after = replace(after, day=date.today().isoformat())
        if after == before:
            return
        line = f"{identity}  {'passed' if after.passed else 'open'}  {after.day}  hints={after.hints}"
        line += f"  source={after.source}" * bool(after.source) + "  told" * after.told
        for number, old in enumerate(self.lines):
            found = self.LINE.fullmatch(old)
            if found and found[1] == identity:
                self.lines[number] = line
                break
        else:
            self.lines.append(line)
        write(self.path, "\n".join(self.lines) + "\n")
