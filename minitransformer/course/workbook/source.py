"""Where an exercise's target stands: its module's file, read without running it, and the living object."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from minitransformer.course import show
from minitransformer.errors import UserError

PACKAGE = Path(__file__).resolve().parents[3]
"""The course's own folder, in which the package lies."""

Definition = ast.FunctionDef | ast.ClassDef


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
    root = show.ROOT if show.ROOT in path.parents else PACKAGE
    name = path.relative_to(root).as_posix() if root in path.parents else str(path)
    return name if line is None else f"{name}:{line}"


@lru_cache
def read_file(path: Path, _changed: int) -> Source:
    """Read a file of the package; `_changed` is its time, so that a file that was changed is read again."""
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
    return Source(path, text.split("\n"), tree, imports, defined)


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
    return read_file(path, path.stat().st_mtime_ns)


def find_definition(source: Source, qualname: str, who: str) -> tuple[Definition, ast.ClassDef | None]:
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


def first_line(node: Definition) -> int:
    """The line on which a definition begins, its decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def last_line(source: Source, node: Definition) -> int:
    """The last line of a definition, comments at its end included, which Python's reading leaves out."""
    last = node.end_lineno
    for number, line in enumerate(source.lines[last:], last + 1):
        text = line.lstrip()
        if text and not (text.startswith("#") and len(line) - len(text) > node.col_offset):
            break
        last = number if text else last
    return last


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
