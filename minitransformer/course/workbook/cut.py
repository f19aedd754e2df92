"""Stub, solution and page of an exercise, cut from the package's source, so that they cannot drift apart.

An exercise names its target from above, as in "minitransformer.models.attention:attend_by_formula"; the package does
not know that it is an exercise. What stands between a function's docstring and its end is the answer. The stub keeps
decorators, signature and docstring, and has one place to write for each function. Comments inside an answer go with it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from minitransformer.course.workbook.source import (
    Definition,
    Source,
    find_definition,
    first_line,
    place,
    read_file,
    read_source,
    split_target,
)
from minitransformer.errors import UserError

COMMENT = "# Your code stands here, in place of the next line."

PLACE = 'raise NotImplementedError("write this")'

MAY_USE = "You may use:"


@dataclass(frozen=True)
class Cut:
    """What one exercise takes from the package's source."""

    module: str
    qualname: str
    """Such as "attend_by_formula", "KVCache" or "KVCache.append"."""
    path: Path
    line: int
    """Where it begins in that file."""
    docstring: str
    stub: str
    """Source as it goes into the workbook; a method stands in a class of its class's name."""
    solution: str
    """The same with the answer in its place."""
    answer: str
    """Only what the learner has to write, without indentation; of a class, all that follows its docstring."""
    hidden: tuple[str, ...] = field(repr=False)
    """The lines of it that the stub must not show: of a class, not the signatures that the stub keeps."""
    names: frozenset[str] = field(repr=False)
    """Names of the module that the solution uses."""
    is_class: bool = False
    """Whether all of a class is to be written."""
    notes: tuple[str, ...] = field(repr=False, default=())
    """The comments of the stub that say what may be used, without their indentation."""

    @property
    def name(self) -> str:
        """What the workbook has to define: the function or the class."""
        return self.qualname.split(".")[0]

    @property
    def method(self) -> str | None:
        """The method's name, if the target is one."""
        return self.qualname.partition(".")[2] or None


def _answer_statements(node: ast.FunctionDef) -> list[ast.stmt]:
    has_docstring = ast.get_docstring(node) is not None
    return node.body[1:] if has_docstring else node.body


def _is_empty(statements: list[ast.stmt]) -> bool:
    def says_nothing(statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Expr):
            return isinstance(statement.value, ast.Constant)
        return isinstance(statement, ast.Pass) or (
            isinstance(statement, ast.Raise) and "NotImplementedError" in ast.unparse(statement)
        )

    return all(says_nothing(statement) for statement in statements)


def _head(source: Source, node: ast.FunctionDef) -> list[str]:
    """Decorators, signature and docstring as written."""
    body = node.body[0]
    if body.lineno == node.lineno:
        raise UserError(f"{place(source.path, node.lineno)}: write {node.name}'s body on lines of its own.")
    if ast.get_docstring(node) is not None:
        return source.lines[first_line(node) - 1 : body.end_lineno]
    lines = source.lines[first_line(node) - 1 : _first_line_of(body) - 1]
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return lines


def _first_line_of(statement: ast.stmt) -> int:
    return first_line(statement) if isinstance(statement, ast.FunctionDef | ast.ClassDef) else statement.lineno


def _place_to_write(indent: int) -> list[str]:
    return [" " * indent + COMMENT, " " * indent + PLACE]


def _notes(given: tuple[str, ...], indent: int) -> list[str]:
    """What may be used, as comments that are wrapped to the workbook's 100 columns."""
    margin = " " * indent + "# "
    listed = [
        line
        for one in given
        for line in textwrap.wrap(
            one, 100, initial_indent=margin + "  ", subsequent_indent=margin + "      ", break_on_hyphens=False
        )
    ]
    return [f"{margin}{MAY_USE}", *listed] if listed else []


def _with_notes(stub: list[str], node: Definition, given: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """A stub with the comments on what may be used below its own docstring; the comments without indentation."""
    notes = _notes(given, node.body[0].col_offset)
    at = node.body[0].end_lineno - first_line(node) + 1
    gap = [""] * (isinstance(node, ast.ClassDef) and bool(notes))
    return [*stub[:at], *gap, *notes, *stub[at:]], tuple(line.strip() for line in notes)


def _cut_function(source: Source, node: ast.FunctionDef, who: str) -> tuple[list[str], list[str], list[str]]:
    """Stub, solution and answer of a function, as lines with their indentation."""
    if ast.get_docstring(node) is None:
        raise UserError(
            f"{who}: {node.name} ({place(source.path, node.lineno)}) has no docstring to say what is to be written."
        )
    first, last = first_line(node), node.end_lineno
    whole = source.lines[first - 1 : last]
    head = _head(source, node)
    if _is_empty(_answer_statements(node)):
        raise UserError(f"{who}: {node.name} ({place(source.path, node.lineno)}) has an empty body: no answer to cut.")
    return [*head, *_place_to_write(node.body[0].col_offset)], whole, whole[len(head) :]


def _cut_class(source: Source, node: ast.ClassDef, who: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """The same for a class, whose public methods keep signature and docstring, and whose annotated fields stay.

    The fourth is the answer without what the stub keeps of it.
    """
    if ast.get_docstring(node) is None:
        raise UserError(
            f"{who}: {node.name} ({place(source.path, node.lineno)}) has no docstring to say what is to be written."
        )
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    if not methods or all(_is_empty(_answer_statements(one)) for one in methods):
        raise UserError(f"{who}: {node.name} ({place(source.path, node.lineno)}) has no method with a body to write.")
    first, last = first_line(node), node.end_lineno
    whole = source.lines[first - 1 : last]
    stub = source.lines[first - 1 : node.body[0].end_lineno]
    hidden: list[str] = []
    before: ast.stmt | None = None
    for one in node.body[1:]:
        lines = source.lines[_first_line_of(one) - 1 : one.end_lineno]
        describes = isinstance(before, ast.AnnAssign) and isinstance(one, ast.Expr)
        if isinstance(one, ast.AnnAssign) or (describes and isinstance(one.value, ast.Constant)):
            stub = [*stub, *lines]
        elif isinstance(one, ast.FunctionDef) and (not one.name.startswith("_") or one.name.endswith("__")):
            head = _head(source, one)
            stub = [*stub, "", *head, *_place_to_write(one.body[0].col_offset)]
            hidden = [*hidden, *lines[len(head) :]]
        else:
            hidden = [*hidden, *lines]
        before = one
    return stub, whole, source.lines[node.body[0].end_lineno : last], hidden


def _beginning(source: Source, owner: ast.ClassDef, method: str) -> list[str]:
    """What a method may count on: its class's fields, set in `__init__`, as comments."""
    init = next((one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if init is None or method == "__init__":
        return []
    lines = source.lines[init.lineno - 1 : init.end_lineno]
    return [f"    # The package's {owner.name} begins so:", *(f"    # {line[4:]}" for line in lines)]


@lru_cache
def _cut(target: str, who: str, given: tuple[str, ...], path: Path, changed: int) -> Cut:
    module, qualname = split_target(target, who)
    source = read_file(path, changed)
    node, owner = find_definition(source, qualname, who)
    if isinstance(node, ast.ClassDef):
        stub, solution, answer, hidden = _cut_class(source, node, who)
    else:
        stub, solution, answer = _cut_function(source, node, who)
        hidden = answer
    stub, notes = _with_notes(stub, node, given)
    if owner is not None:
        base = f"class {owner.name}({owner.name}):"
        about = (
            f'    """A subclass of the package\'s {owner.name} under the same name: '
            f'`{node.name}` is yours, the rest is inherited."""'
        )
        beginning = _beginning(source, owner, node.name)
        stub = [base, about, "", *beginning, *[""] * bool(beginning), *stub]
        solution = [base, about, "", *solution]
    used = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    used |= {owner.name} if owner is not None else set()
    used |= {found[0] for one in given if (found := re.match(r"[A-Za-z_]\w*(?![\w.])", one))}
    names = frozenset(used & (source.defined | set(source.imports)))
    return Cut(
        module,
        qualname,
        path,
        first_line(node),
        ast.get_docstring(node) or "",
        "\n".join(stub),
        "\n".join(solution),
        textwrap.dedent("\n".join(answer)).strip("\n"),
        tuple(hidden),
        names,
        isinstance(node, ast.ClassDef),
        notes,
    )


def cut(target: str, who: str = "exercise", given: tuple[str, ...] = ()) -> Cut:
    """Cut an exercise out of the package.

    Args:
        target: "package.module:function", ":Class" or ":Class.method".
        who: how errors call it, such as "exercise 2.3 (lessons/exercises/lesson_02.py)".
        given: what may be used, a sentence each; the stub has it as comments below the docstring, and what a sentence
            begins with is imported if the target's module knows it.

    Raises:
        UserError: the target does not exist, has no docstring or no body.
    """
    module, _ = split_target(target, who)
    path = read_source(module, who).path
    return _cut(target, who, given, path, path.stat().st_mtime_ns)
