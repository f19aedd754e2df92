"""Reads a workbook's text, and finds in it what belongs to which exercise, without running it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

from minitransformer.course.output.terminal import display_width
from minitransformer.course.workbook.cut import COMMENT
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.moved import same_parameters
from minitransformer.course.workbook.source import place
from minitransformer.course.workbook.words import ended
from minitransformer.errors import UserError


class WorkbookError(UserError):
    """A workbook that cannot be read or run; the message says what to do."""


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
    (
        re.compile(r"expected ':'"),
        "A line that begins with def, class, if, else, for, while or with ends with a colon.",
    ),
    (re.compile(r"was never closed"), "A bracket that is opened here is not closed anywhere below."),
    (
        re.compile(r"unmatched|does not match opening"),
        "A bracket is closed that was not opened, or with another kind of bracket.",
    ),
    (
        re.compile(r"expected an indented block"),
        "After a line that ends with a colon comes a line that is indented further.",
    ),
    (re.compile(r"unexpected indent"), "This line stands further to the right than the one above it, without reason."),
    (re.compile(r"unindent does not match"), "This line is indented by a number of spaces that no line above it has."),
    (re.compile(r"inconsistent use of tabs"), "Tabs and spaces are mixed: use four spaces for each level."),
    (
        re.compile(r"invalid (non-printable )?character"),
        "This character is not part of Python; perhaps it was typed with a Chinese "
        "keyboard (（ ， ： “) or pasted from a page. Type the plain one.",
    ),
    (re.compile(r"unterminated .*string"), "A text that opens with a quotation mark has no closing one."),
    (
        re.compile(r"'return' outside function|'await' outside"),
        "This line has to stand inside a function, indented below its def.",
    ),
    (re.compile(r"from __future__ imports"), "This line has to stay the first of the file, before any code."),
    (re.compile(r"Missing parentheses in call"), "print is a function: its arguments stand in brackets."),
    (
        re.compile(r"cannot assign|Maybe you meant '=='"),
        "= gives a name to a value; == asks whether two values are equal.",
    ),
)


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
        caret = " " * display_width(line[:at]) + "^"
        words = next((text for pattern, text in PLAIN_WORDS if pattern.search(error.msg or "")), "")
        said = ended(error.msg or "it is no Python")
        raise WorkbookError(
            f"{place(path, number)}: Python cannot read this line: {said}\n\n    {line}\n    {caret}\n\n"
            f"{words + ' ' if words else ''}Nothing was run, and nothing was changed."
        ) from None
    except (RecursionError, MemoryError):
        raise WorkbookError(f"{place(path)} is nested too deeply for Python to read. Nothing was changed.") from None


def locate(tree: ast.Module, exercise: Exercise) -> tuple[Any, ast.ClassDef | None]:
    """Where a workbook defines an exercise: the node of the function or class, and the class that holds a method.

    What stands there by the name of an earlier course counts as well, if it takes the same parameters.
    """
    found = _named(tree, exercise.name)
    if found[0] is None and exercise.former:
        before, now = _named(tree, exercise.former), _named(ast.parse(exercise.cut.stub), exercise.name)[0]
        if isinstance(before[0], ast.FunctionDef) and isinstance(now, ast.FunctionDef):
            return before if same_parameters(before[0], now) else found
    return found


def outdated(tree: ast.Module, exercise: Exercise) -> tuple[str, int] | None:
    """What a workbook has for an exercise as it was in an earlier course, with other parameters: name and line."""
    if exercise.former is None or locate(tree, exercise)[0] is not None:
        return None
    before = _named(tree, exercise.former)[0]
    return None if before is None else (exercise.former, before.lineno)


def _named(tree: ast.Module, qualname: str) -> tuple[Any, ast.ClassDef | None]:
    """The node of this name, and the class that holds a method."""
    name, _, method = qualname.partition(".")
    for node in reversed(tree.body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name != name:
            continue
        if not method:
            return node, None
        for one in getattr(node, "body", []):
            if isinstance(one, ast.FunctionDef) and one.name == method:
                return one, node
    return None, None


def called(tree: ast.Module, exercise: Exercise) -> str:
    """By which name a workbook has an exercise: its own, or that of an earlier course."""
    node, owner = locate(tree, exercise)
    return exercise.name if node is None else f"{owner.name}.{node.name}" if owner else node.name


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
    return {name for node in tree.body for name in binds(node)}


def binds(node: ast.stmt) -> set[str]:
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
        for name in binds(node):
            binding.setdefault(name, []).append(node)
    others = {node for one in some if one is not exercise for node in locate(tree, one) if node is not None}
    found = set(locate(tree, exercise)) - {None}
    belongs: list[ast.stmt] = []
    wanted = [
        node
        for node in binding.get(called(tree, exercise).partition(".")[0], [])
        if node in found or node not in others
    ]
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
    if exercise.former:
        others |= set(_named(tree, exercise.former))  # that is done with, and known by its name
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


def own_source(text: str, tree: ast.Module, exercise: Exercise) -> str:
    """What the learner wrote for an exercise, without docstring and indentation, to be shown beside the solution."""
    node, _ = locate(tree, exercise)
    if node is None:
        return ""
    lines = text.split("\n")
    body, comments = node.body, {COMMENT, *exercise.cut.notes}
    if len(body) > 1 and ast.get_docstring(node) is not None:
        first = body[0].end_lineno
    else:
        first = body[0].lineno - 1
    own = [line for line in lines[first : node.end_lineno] if line.strip() not in comments]
    return textwrap.dedent("\n".join(own)).strip("\n")
