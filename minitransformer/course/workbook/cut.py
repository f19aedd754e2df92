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
import difflib
import importlib
import importlib.util
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from minitransformer.course import show
from minitransformer.errors import UserError

MARKER = re.compile(r"#\s*⟨(/?)answer⟩\s*")
COMMENT = "# Your code stands here, in place of the next line."
PLACE = 'raise NotImplementedError("write this")'
MAY_USE = "You may use:"
TOOLS = ("import math", "import torch", "import torch.nn.functional as F", "from torch import Tensor")
"""What somebody may want to solve an exercise with, whatever the package's own solution uses."""
Definition = ast.FunctionDef | ast.ClassDef


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


@dataclass(frozen=True)
class Source:
    """A module's file, read without running it."""

    path: Path
    lines: list[str]
    tree: ast.Module
    imports: dict[str, str]
    """name → the statement that imports it."""
    defined: set[str]
    """Names that the module itself defines at its top level."""
    markers: list[tuple[int, str]]
    """(line, "" or "/") of each marker."""


def split_target(target: str, who: str) -> tuple[str, str]:
    """ "module:name" in two.

    Raises:
        UserError: it is not of that form.
    """
    module, colon, qualname = target.partition(":")
    if not colon or not re.fullmatch(r"\w+(\.\w+)?", qualname):
        raise UserError(
            f'{who}: the target {target!r} is not of the form "package.module:function" or ":Class.method".'
        )
    return module, qualname


def place(path: Path, line: int | None = None) -> str:
    """`minitransformer/models/attention.py:46`, short where the file is in the course's folder."""
    root = show.ROOT if show.ROOT in path.parents else Path(__file__).resolve().parents[3]
    name = path.relative_to(root).as_posix() if root in path.parents else str(path)
    return name if line is None else f"{name}:{line}"


@lru_cache
def _read(path: Path, _changed: int) -> Source:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    imports, defined = {}, set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                imports[name] = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                renamed = f" as {alias.asname}" if alias.asname else ""
                imports[alias.asname or alias.name] = f"from {node.module} import {alias.name}{renamed}"
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {name.id for one in targets for name in ast.walk(one) if isinstance(name, ast.Name)}
    markers = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        found = MARKER.fullmatch(token.string) if token.type == tokenize.COMMENT else None
        if found:
            if token.line.strip() != token.string.strip():
                raise UserError(f"{place(path, token.start[0])}: the marker has to stand on a line of its own.")
            markers.append((token.start[0], found[1]))
    return Source(path, text.split("\n"), tree, imports, defined, markers)


def read_source(module: str, who: str) -> Source:
    """Read a module's file.

    Raises:
        UserError: there is no such module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UserError(f"{who}: there is no module {module} to cut the exercise from.")
    path = Path(spec.origin)
    return _read(path, path.stat().st_mtime_ns)


def _find(source: Source, qualname: str, who: str) -> tuple[Definition, ast.ClassDef | None]:
    """The node of a top-level name or a method, and the class that holds it."""
    body, owner, node = source.tree.body, None, None
    for part in qualname.split("."):
        known = {n.name: n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        if part not in known:
            near = difflib.get_close_matches(part, known, 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            inside = f"{place(source.path)} has no" if node is None else f"{node.name} in {place(source.path)} has no"
            raise UserError(f"{who}: {inside} {part}{hint}")
        owner, node = node, known[part]
        body = node.body
    return node, owner


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


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
        return source.lines[_first_line(node) - 1 : body.end_lineno]
    lines = source.lines[_first_line(node) - 1 : _first_line_of(body) - 1]
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return lines


def _first_line_of(statement: ast.stmt) -> int:
    return _first_line(statement) if isinstance(statement, ast.FunctionDef | ast.ClassDef) else statement.lineno


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
    at = node.body[0].end_lineno - _first_line(node) + 1
    gap = [""] * (isinstance(node, ast.ClassDef) and bool(notes))
    return [*stub[:at], *gap, *notes, *stub[at:]], tuple(line.strip() for line in notes)


def _last_line(source: Source, node: Definition) -> int:
    """The last line of a definition, comments at its end included, which Python's reading leaves out."""
    last = node.end_lineno
    for number, line in enumerate(source.lines[last:], last + 1):
        text = line.lstrip()
        if text and not (text.startswith("#") and len(line) - len(text) > node.col_offset):
            break
        last = number if text else last
    return last


def _marked(source: Source, node: Definition, who: str) -> tuple[int, int] | None:
    """The lines of the pair of markers inside a definition, if it has one.

    Raises:
        UserError: a marker without its other half, or more than one pair.
    """
    inside = [(line, kind) for line, kind in source.markers if node.lineno <= line <= _last_line(source, node)]
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
    first, last = _first_line(node), node.end_lineno
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
    first, last = _first_line(node), node.end_lineno
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
    source = _read(path, changed)
    node, owner = _find(source, qualname, who)
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
        _first_line(node),
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


def header(cuts: list[Cut], who: str, bound: Collection[str] = ()) -> list[str]:
    """The imports that stubs need, as lines of statements.

    That is what the functions use, and of TOOLS what their modules import, lest the choice give much of the answer
    away; not the exercises of the same workbook. Names in `bound` are left out.

    Raises:
        UserError: two modules mean different things by one name.
    """
    own = {one.name for one in cuts if one.method is None}
    plain: set[str] = set()
    package: dict[str, set[str]] = {}
    meaning: dict[str, str] = {}
    for one in cuts:
        source = read_source(one.module, who)
        for name, statement in source.imports.items():
            if statement.startswith("from __future__") or name in bound or name in own:
                continue
            if name not in one.names and statement not in TOOLS:
                continue
            if not statement.startswith("from minitransformer"):
                plain.add(statement)
            else:
                module, _, what = statement.removeprefix("from ").partition(" import ")
                package.setdefault(module, set()).add(what)
            if meaning.setdefault(name, statement) != statement and name in one.names:
                raise UserError(
                    f"{who}: {name} means {meaning[name]!r} in one module and {statement!r} in {one.module}; "
                    "the workbook cannot have both."
                )
        here = (one.names & source.defined) - own - set(bound)
        if here:
            package.setdefault(one.module, set()).update(here)
    gathered: dict[str, set[str]] = {}
    for statement in plain:
        if statement.startswith("from "):
            module, _, what = statement.removeprefix("from ").partition(" import ")
            gathered.setdefault(module, set()).add(what)
    standard = {one for one in plain if one.startswith("import ")}

    def is_standard(module: str) -> bool:
        return module.split(".")[0] in sys.stdlib_module_names

    blocks = []
    for wanted in (True, False):
        lines = sorted(one for one in standard if is_standard(one.split()[1]) == wanted)
        lines += _from_lines({m: names for m, names in gathered.items() if is_standard(m) == wanted})
        blocks.append(lines)
    blocks.append(_from_lines(package))
    return [line for block in blocks if block for line in (*block, "")][:-1]


def _from_lines(modules: dict[str, set[str]]) -> list[str]:
    lines = []
    for module, names in sorted(modules.items()):
        line = f"from {module} import {', '.join(sorted(names))}"
        if len(line) > 100:
            wrapped = textwrap.wrap(", ".join(sorted(names)) + ",", 96, initial_indent="    ", subsequent_indent="    ")
            lines += [f"from {module} import (", *wrapped, ")"]
        else:
            lines.append(line)
    return lines


# ---------------------------------------------------------------- the living object


def resolve(target: str, who: str = "exercise") -> tuple[Any, Any]:
    """The object that a target names, and the class that holds it (None for a function or a class).

    A method comes as it stands in the class: a plain function, a property, a staticmethod.

    Raises:
        UserError: it does not exist.
    """
    module, qualname = split_target(target, who)
    read_source(module, who)
    found: Any = importlib.import_module(module)
    owner = None
    for part in qualname.split("."):
        owner = found if inspect.isclass(found) else None
        try:
            found = vars(found)[part] if owner is not None else getattr(found, part)
        except (AttributeError, KeyError):
            raise UserError(f"{who}: {module} has no {qualname}.") from None
    return found, owner


def unused_markers(targets: list[str], folder: Path) -> list[str]:
    """Places of markers in the files of `folder` that no target contains."""
    covered: dict[Path, list[tuple[int, int]]] = {}
    for target in targets:
        module, qualname = split_target(target, target)
        source = read_source(module, target)
        node, _ = _find(source, qualname, target)
        covered.setdefault(source.path, []).append((node.lineno, _last_line(source, node)))
    lost = []
    for path in sorted(folder.rglob("*.py")):
        if path == Path(__file__) or "⟨" not in path.read_text(encoding="utf-8"):
            continue
        for line, _ in _read(path, path.stat().st_mtime_ns).markers:
            if not any(first <= line <= last for first, last in covered.get(path, [])):
                lost.append(place(path, line))
    return lost
