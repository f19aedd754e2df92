"""Short names for files: equal while what counts in them is."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from pathlib import Path


def fingerprint(path: Path) -> str:
    """Of a module, what Python runs of it (see `bare`); of another file, every byte."""
    if path.suffix == ".py":
        return of_text(bare(path.read_text(encoding="utf-8")))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def of_text(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bare(source: str) -> str:
    """A module's source without what Python does not run: comments, docstrings, empty lines, spaces at a line's end."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
