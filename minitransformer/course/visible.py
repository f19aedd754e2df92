"""Which part of a lesson's code is printed: what computes, without what only presents.

A step's sentences state its outcome. Printed above the outcome, they would give the answer away before the reader has
made a prediction. So `say`, `table`, `source`, `verbatim`, blocks of `figure` and `assert` run but are not printed, and
neither is what serves them alone: the loop around them, the comment above them, the import that only they need, a
function of the lesson that does nothing but present.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence

SEAM = "minitransformer.course.show"
SHOWING = {"say", "table", "source", "verbatim"}
DRAWING = "figure"
WIDEST = 100
"""Columns of a line of code."""
COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)


class Visible:
    """Tells what presents in one lesson.

    Args:
        tree: the whole lesson.
    """

    def __init__(self, tree: ast.Module) -> None:
        from_seam = {
            alias.asname or alias.name: alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == SEAM
            for alias in node.names
        }
        self._showing = {"print"} | {name for name, original in from_seam.items() if original in SHOWING}
        self._drawing = {name for name, original in from_seam.items() if original == DRAWING}
        # A function may call one that stands below it, so all are asked until no further one is found.
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        while found := [f for f in functions if f.name not in self._showing and self._only_shows(f)]:
            self._showing |= {function.name for function in found}
        all_names, kept_names = set(_names(tree.body)), set(_names(self._kept(tree.body)))
        self._unused = all_names - kept_names
        """Names that only presentation uses."""

    def _only_shows(self, function: ast.FunctionDef) -> bool:
        """Whether a function presents and gives nothing back, so that its calls present and do nothing else."""
        parts = list(ast.walk(function))
        gives = (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)
        return any(isinstance(node, ast.stmt) and self.presents(node) for node in parts if node is not function) and (
            not any(isinstance(node, gives) or (isinstance(node, ast.Return) and node.value) for node in parts)
        )

    def presents(self, statement: ast.stmt) -> bool:
        """Whether a statement does nothing but present, with all that is inside it."""
        match statement:
            case ast.Assert():
                return True
            case ast.Expr(ast.Call(ast.Name(name))):
                return name in self._showing
            case ast.FunctionDef(name):
                return name in self._showing
            case ast.With(items) if any(_calls(item.context_expr, self._drawing) for item in items):
                return True
        if not isinstance(statement, COMPOUND):
            return False
        inside = [part for block in _blocks(statement) for part in block]
        return any(map(self.presents, inside)) and all(self.presents(part) or _is_idle(part) for part in inside)

    def code(self, source: str, first_line: int, statements: Sequence[ast.stmt]) -> str:
        """What is printed of a cell.

        Args:
            source: the cell's code.
            first_line: the number of its first line in the lesson.
            statements: those of the lesson that stand in it.
        """
        lines: list[str | None] = list(source.split("\n"))
        self._cut(statements, lines, first_line)
        kept = [line for line in lines if line is not None]
        text: list[str] = []
        for line in kept:
            if line.strip() or (text and text[-1].strip()):  # one empty line at a time
                text.append(line)
        return "\n".join(text).strip("\n")

    def ending(self, source: str, first_line: int, statements: Sequence[ast.stmt]) -> str:
        """The presentation at the end of a cell, from its first comment on; "" if the cell ends with something else."""
        lines: list[str | None] = list(source.split("\n"))
        for statement in reversed(statements):
            if not self.presents(statement) or not _stands_alone(statement, lines, first_line):
                break
            _take_out(statement, lines, first_line)
        kept = next((n for n in range(len(lines), 0, -1) if (lines[n - 1] or "").strip()), 0)
        return "\n".join(source.split("\n")[kept:]).strip("\n")

    # ---------------------------------------------------------------- the statements

    def _kept(self, statements: Sequence[ast.stmt]) -> Iterator[ast.AST]:
        """The statements that stay, imports aside, and the heads of those that stay in part."""
        for statement in statements:
            if self.presents(statement) or isinstance(statement, (ast.Import, ast.ImportFrom)):
                continue
            blocks = list(_blocks(statement))
            yield from _heads(statement) if blocks else [statement]
            for block in blocks:
                yield from self._kept(block)

    def _cut(self, statements: Sequence[ast.stmt], lines: list[str | None], offset: int) -> None:
        """Take out of `lines` what is not printed of these statements."""
        for statement in statements:
            start, end = statement.lineno - offset, statement.end_lineno - offset
            if self.presents(statement):
                if _stands_alone(statement, lines, offset):
                    _take_out(statement, lines, offset)
            elif isinstance(statement, (ast.Import, ast.ImportFrom)):
                used = [alias for alias in statement.names if _bound(alias) not in self._unused]
                if not used:
                    _take_out(statement, lines, offset)
                elif len(used) < len(statement.names):
                    lines[start : end + 1] = [_import(statement, used)] + [None] * (end - start)
            else:
                self._cut_blocks(statement, lines, offset)

    def _cut_blocks(self, statement: ast.stmt, lines: list[str | None], offset: int) -> None:
        """Take out of a compound statement what is not printed of its blocks; an `else` without a rest goes with it."""
        for block in _blocks(statement):
            first = block[0].lineno - offset
            if block[0].lineno == statement.lineno:
                continue  # `if x: say(x)` on one line is printed or not as a whole
            if not all(map(self.presents, block)):
                self._cut(block, lines, offset)
                continue
            # A `try` needs what stands below it; other statements can do without their `else`.
            is_else = block is getattr(statement, "orelse", None) and not isinstance(statement, ast.Try)
            is_elif = is_else and (lines[first] or "").lstrip().startswith("elif")
            for part in block:
                _take_out(part, lines, offset)
            if is_elif:
                continue
            if is_else:
                head, margin = first, " " * statement.col_offset
                while not re.match(rf"{margin}else\s*:", lines[head] or ""):
                    head -= 1
                lines[head] = None
            else:
                lines[first] = " " * block[0].col_offset + "pass"


def _is_idle(statement: ast.stmt) -> bool:
    """Whether a statement in a block does nothing by itself: `continue`, `pass`, or an `if` around them."""
    if isinstance(statement, ast.If):
        return all(map(_is_idle, [*statement.body, *statement.orelse]))
    return isinstance(statement, (ast.Continue, ast.Break, ast.Pass))


def _calls(expression: ast.expr, names: Collection[str]) -> bool:
    match expression:
        case ast.Call(ast.Name(name)):
            return name in names
    return False


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of a compound statement or a definition, in order."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        block = getattr(statement, name, None)
        if name in ("handlers", "cases"):
            yield from (part.body for part in block or ())
        elif isinstance(block, list) and block:
            yield block


def _heads(statement: ast.stmt) -> Iterator[ast.AST]:
    """A compound statement without its blocks: condition, iterable, arguments, …"""
    for name, value in ast.iter_fields(statement):
        if name in ("handlers", "cases"):
            yield from (
                head
                for part in value
                for key, head in ast.iter_fields(part)
                if key in ("type", "pattern", "guard") and head
            )
        elif name not in ("body", "orelse", "finalbody"):
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST))


def _names(nodes: Iterator[ast.AST] | Sequence[ast.AST]) -> Iterator[str]:
    """The names that are used in the nodes."""
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                yield part.id


def _bound(alias: ast.alias) -> str:
    """The name that an import gives."""
    return alias.asname or alias.name.split(".")[0]


def _import(statement: ast.Import | ast.ImportFrom, used: list[ast.alias]) -> str:
    """The statement with these names alone."""
    rest = ast.ImportFrom(statement.module, used, 0) if isinstance(statement, ast.ImportFrom) else ast.Import(used)
    margin, text = " " * statement.col_offset, ast.unparse(rest)
    if len(margin + text) > WIDEST:
        names = "".join(f"{margin}    {ast.unparse(alias)},\n" for alias in used)
        text = f"{text.partition(' import ')[0]} import (\n{names}{margin})"
    return margin + text


def _stands_alone(statement: ast.stmt, lines: list[str | None], offset: int) -> bool:
    """Whether no other statement shares its lines; `x = 1; say(x)` stays whole."""
    first, last = lines[statement.lineno - offset] or "", lines[statement.end_lineno - offset] or ""
    before = first.encode()[: statement.col_offset].decode()
    after = last.encode()[statement.end_col_offset :].decode().strip()
    return not before.strip() and (not after or after.startswith("#"))


def _take_out(statement: ast.stmt, lines: list[str | None], offset: int) -> None:
    """Take a statement's lines out, with the comment above it and the indented one below it."""
    start, end = statement.lineno - offset, statement.end_lineno - offset
    if getattr(statement, "decorator_list", None):
        start = statement.decorator_list[0].lineno - offset
    margin = " " * statement.col_offset
    while start > 0 and (lines[start - 1] or "").startswith(margin + "#"):
        start -= 1
    while (
        end + 1 < len(lines) and (lines[end + 1] or "").startswith(margin + " ") and lines[end + 1].lstrip()[:1] == "#"
    ):
        end += 1
    lines[start : end + 1] = [None] * (end - start + 1)
