"""Runs a workbook and takes from it what it has for each exercise."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from minitransformer.course.workbook.exceptions import in_plain_words, lost_import, own_lines
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.moved import followed
from minitransformer.course.workbook.reading import WorkbookError, called, digest, locate, parse, read
from minitransformer.course.workbook.source import place, resolve
from minitransformer.course.workbook.state import restored


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
    note: str = ""
    """What to say of imports that were followed to where their names are now."""

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
                meant = owner or reference  # the switch works on the class itself
            else:
                meant = self.candidates[exercise.id] if exercise.id in mine else reference
            for name in {exercise.name, called(self.tree, exercise)}:
                self.names[name.partition(".")[0]] = meant


def load(path: Path, some: list[Exercise]) -> Workbook:
    """Read and run a workbook.

    Raises:
        WorkbookError: it does not parse, or running it raises.
    """
    text = read(path)
    tree = parse(path, text)

    def pairs(tree: ast.Module) -> list[tuple[ast.FunctionDef, ast.FunctionDef]]:
        both = [(locate(tree, one)[0], locate(ast.parse(one.cut.stub), one)[0]) for one in some]
        return [pair for pair in both if all(isinstance(node, ast.FunctionDef) for node in pair)]

    code, note = followed(tree, pairs)
    module = ModuleType(f"workbook_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        with restored():
            exec(compile(code, str(path), "exec", dont_inherit=True, optimize=0), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        more = in_plain_words(error) or lost_import(error, tree, some)
        raise WorkbookError(
            f"{place(path)} cannot be run, before any exercise is tried:\n\n{own_lines(error, path)}"
            + (f"\n\n{more}" if more else "")
        ) from error
    candidates = {one.id: one.taken_from(module.__dict__, called(tree, one)) for one in some}
    return Workbook(path, text, tree, module.__dict__, some, candidates, note)
