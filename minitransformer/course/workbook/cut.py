"""Stub, solution and page of an exercise, cut from the package's source, so that they cannot drift apart.

An exercise names its target from above, as in "minitransformer.models.attention:attend_by_formula"; the package does
not know that it is an exercise. What stands between a function's docstring and its end is the answer. Where only a part
of a longer function is to be written, a pair of comments on lines of their own marks that part:

    # ⟨answer⟩
    …
    # ⟨/answer⟩

(The second may be the last line of its function.) The stub keeps decorators, signature and docstring (and, with a
marked part, what stands around it), and has one place to write for each function. Comments inside an answer go with it.
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
    last_line,
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
    around: tuple[tuple[str, ...], tuple[str, ...]] | None = field(repr=False, default=None)
    """Where only a part is to be written: the given lines of the function before it, and those after it."""
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


def _marked(source: Source, node: Definition, who: str) -> tuple[int, int] | None:
    """The lines of the pair of markers inside a definition, if it has one.

    Raises:
        UserError: a marker without its other half, or more than one pair.
    """
    inside = [(line, kind) for line, kind in source.markers if node.lineno <= line <= last_line(source, node)]
    if not inside:
        return None
    kinds = "".join(kind or "(" for _, kind in inside)
    if kinds != "(/":
        line, kind = inside[0] if inside[0][1] or len(inside) == 1 else inside[1]
        if len(inside) == 1:
            wrong = "⟨/answer⟩ closes what nothing opened" if kind else "⟨answer⟩ is never closed by ⟨/answer⟩"
        elif inside[0][1]:
            wrong = "⟨/answer⟩ stands before its ⟨answer⟩"
        elif not kind:
            wrong = "a second ⟨answer⟩ opens before the first is closed"
        else:
            line, wrong = inside[2][0], "there is more than one marked part; an exercise has one place to write"
        raise UserError(f"{place(source.path, line)}: {wrong} ({who}, {node.name}).")
    return inside[0][0], inside[1][0]


def _cut_function(source: Source, node: ast.FunctionDef, who: str) -> tuple[list[str], list[str], list[str]]:
    """Stub, solution and answer of a function, as lines with their indentation."""
    if ast.get_docstring(node) is None:
        raise UserError(
            f"{who}: {node.name} ({place(source.path, node.lineno)}) has no docstring to say what is to be written."
        )
    first, last = first_line(node), node.end_lineno
    whole = source.lines[first - 1 : last]
    marked = _marked(source, node, who)
    if marked is None:
        head = _head(source, node)
        answer = whole[len(head) :]
        if _is_empty(_answer_statements(node)):
            raise UserError(
                f"{who}: {node.name} ({place(source.path, node.lineno)}) has an empty body: no answer to cut."
            )
        return [*head, *_place_to_write(node.body[0].col_offset)], whole, answer
    opened, closed = marked
    answer = source.lines[opened : closed - 1]
    if not any(line.strip() and not line.lstrip().startswith("#") for line in answer):
        raise UserError(f"{place(source.path, opened)}: nothing stands between the markers ({who}, {node.name}).")
    indent = min(len(line) - len(line.lstrip()) for line in answer if line.strip())
    before, after = source.lines[first - 1 : opened - 1], source.lines[closed:last]
    stub = [*before, *_place_to_write(indent), *after]
    for text, what in ((stub, "around"), (answer, "between")):
        try:
            ast.parse(textwrap.dedent("\n".join(text)))
        except SyntaxError as error:
            raise UserError(
                f"{place(source.path, opened)}: what stands {what} the markers is not Python by itself "
                f"({error.msg}); put them around whole statements ({who}, {node.name})."
            ) from error
    solution = [*before, *answer, *after]
    while not solution[-1].strip():
        solution.pop()
    return stub, solution, answer


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
    if _marked(source, node, who) is not None:
        raise UserError(f"{who}: {node.name} is a class; to mark a part of it, name the method that holds the part.")
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
    around = None
    if isinstance(node, ast.ClassDef):
        stub, solution, answer, hidden = _cut_class(source, node, who)
    else:
        stub, solution, answer = _cut_function(source, node, who)
        hidden = answer
        if _marked(source, node, who) is not None:
            at = next(number for number, line in enumerate(stub) if line.strip() == COMMENT)
            around = tuple(stub[:at]), tuple(stub[at + 2 :])
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
        around,
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
        UserError: the target does not exist, has no docstring or no body, or its markers are broken.
    """
    module, _ = split_target(target, who)
    path = read_source(module, who).path
    return _cut(target, who, given, path, path.stat().st_mtime_ns)


def unused_markers(targets: list[str], folder: Path) -> list[str]:
    """Places of markers in the files of `folder` that no target contains."""
    covered: dict[Path, list[tuple[int, int]]] = {}
    for target in targets:
        module, qualname = split_target(target, target)
        source = read_source(module, target)
        node, _ = find_definition(source, qualname, target)
        covered.setdefault(source.path, []).append((node.lineno, last_line(source, node)))
    lost = []
    for path in sorted(folder.rglob("*.py")):
        if path == Path(__file__) or "⟨" not in path.read_text(encoding="utf-8"):
            continue
        for line, _ in read_file(path, path.stat().st_mtime_ns).markers:
            if not any(first <= line <= last for first, last in covered.get(path, [])):
                lost.append(place(path, line))
    return lost
