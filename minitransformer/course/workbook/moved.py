"""Where the names went that an earlier course used, so that workbooks written then go on working.

A workbook's imports are followed to where the names are now, and the check says what to write instead. An exercise that
had another name is known by its id: code under the old name counts, if its parameters are still the exercise's.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minitransformer.course.workbook.source import PACKAGE, read_source
from minitransformer.errors import UserError

MODULES = {
    **{name: f"models.{name}" for name in ("attention", "layers", "gpt", "bert", "seq2seq", "classifier")},
    **dict.fromkeys(("bigram", "models.bigram"), "course.bigram"),
    "text.masking": "course.batches.masking",
    **{f"tuning.{name}": f"course.{name}" for name in ("hard", "answers")},
    **{
        f"{folder}.{name}": f"course.batches.{name}"
        for folder in ("batches", "text.batches")
        for name in ("classification", "denoising", "packed", "pairs", "translation")
    },
    **{"tokenizer": "text.tokenizer", "datasets": "text.corpora", "batches": "text.batches"},
    **{"training": "training.loop", "objectives": "training.losses", "pretrained": "published"},
    **{"sampling": "generation.sampling", "beam": "generation.beam", "course": "course.lessons"},
    **{name: f"course.{name}" for name in ("show", "bases", "tasks", "skills", "tinyworld", "workbook", "lab")},
}
"""The library's modules of before → those of now, without `minitransformer.` before them."""

RENAMED = {
    "keep_mask": "combined_mask",
    "is_first_call": "is_prefill",
    "quick_step": "decode_step",
    "Table": "PrefixEncoder",
    "_label_vectors": "label_vectors",
    "_is_bert": "is_bert",
    "words": "ids_to_start_from",
}
"""Functions and classes of before → their names now."""

MEMBERS = {"quick_step": "decode_step", "tables": "encoders", "hooks": "install"}
"""Methods and attributes of before → their names now."""

PARAMETERS = {
    "keep": "attention_mask",
    "source_keep": "source_mask",
    "context_keep": "context_mask",
    "hidden": "return_hidden",
}
"""Parameters of before, and keys of batches → their names now."""

FORMER = {
    **{"2.4": "keep_mask", "2.5": "Attention.forward", "4.1": "mask_tokens", "6.5": "_Search.step"},
    **{"7.3": "_word_log_probs", "7.4": "label_log_probs", "8.2": "_embed_virtual", "8.3": "PromptTuning.install"},
    **{"9.3": "activations", "9.4": "Table.__init__", "9.6": "Infix.install", "10.3": "embed_positions"},
    **{"11.3": "Adapter.install", "12.1": "LowRank.__init__", "12.2": "LoRA.hooks", "12.4": "LoRA.build"},
    **{"13.2": "fit", "13.3": "_update", "13.4": "for_each_row"},
}
"""Exercises by id → what they were called."""


def same_parameters(before: ast.FunctionDef, now: ast.FunctionDef) -> bool:
    """Whether two functions take the same parameters, but for the names of parameters that were changed since."""

    def listed(node: ast.FunctionDef) -> list[Any]:
        args = node.args
        groups = (args.posonlyargs + args.args, args.kwonlyargs, [args.vararg], [args.kwarg])
        return [[PARAMETERS.get(one.arg, one.arg) for one in group if one is not None] for group in groups]

    return listed(before) == listed(now)


# ---------------------------------------------------------------- imports


def _module_now(module: str) -> str:
    """The module that a module of before is now; itself, if it is none."""
    inside = module.partition(".")[2]
    if inside in MODULES:
        return f"minitransformer.{MODULES[inside]}"
    first, *rest = inside.split(".")
    return ".".join(["minitransformer", MODULES.get(first, first), *rest])


@lru_cache
def _names(module: str) -> frozenset[str]:
    """What a module defines or imports at its top level; nothing, where there is no such module."""
    try:
        source = read_source(module, module)
    except UserError:
        return frozenset()
    return frozenset(source.defined | set(source.imports))


@lru_cache
def _defined_in(name: str) -> tuple[str, ...]:
    """The modules of the library that define a name."""
    found = []
    for path in sorted((PACKAGE / "minitransformer").rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if not module.startswith("minitransformer.course.workbook") and re.search(
            rf"^(def|class) {name}\b|^{name}\b.*=", path.read_text(encoding="utf-8"), re.M
        ):
            found.append(module)
    return tuple(found)


def whereabouts(module: str, name: str) -> tuple[str, str] | None:
    """Where `from module import name` of before leads now: module and name; None where it is as it was, or unknown."""
    if not module.startswith("minitransformer.") or name in _names(module) or name == "*":
        return None
    now, names = _module_now(module), (name, RENAMED.get(name, name))
    for one in names:
        if one in _names(now):
            return now, one
    for one in names:
        places = _defined_in(one)
        near = [place for place in places if place.rpartition(".")[0] == now.rpartition(".")[0]]
        if len(found := near or places) == 1:  # one that stays in its folder is meant before any other
            return found[0], one
    return None


class Followed(ast.NodeTransformer):
    """A workbook's syntax with its imports led to where the names are now."""

    def __init__(self) -> None:
        self.notes: dict[int, list[str]] = {}
        """What to write instead, by line."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:  # noqa: N802  the name is Python's
        """`from minitransformer.attention import keep_mask`; also `from minitransformer import attention`."""
        if node.level or not (node.module or "").startswith("minitransformer"):
            return node
        new: dict[str, list[ast.alias]] = {}
        for alias in node.names:
            module, name = node.module, alias.name
            if module != "minitransformer":
                module, name = whereabouts(module, name) or (module, name)
            elif name in MODULES and not _names(f"minitransformer.{name}"):
                module, _, name = _module_now(f"minitransformer.{name}").rpartition(".")
            bound = alias.asname or alias.name
            new.setdefault(module, []).append(ast.alias(name, bound if bound != name else None))
        if [*new] == [node.module] and [one.name for one in new[node.module]] == [one.name for one in node.names]:
            return node
        made = [ast.copy_location(ast.ImportFrom(module, names, 0), node) for module, names in new.items()]
        self.notes[node.lineno] = [ast.unparse(one) for one in made]
        return [ast.fix_missing_locations(one) for one in made]

    def visit_Import(self, node: ast.Import) -> Any:  # noqa: N802
        """`import minitransformer.attention as attention`."""
        for alias in node.names:
            if alias.asname and alias.name.startswith("minitransformer.") and not _names(alias.name):
                now = _module_now(alias.name)
                if now != alias.name and _names(now):
                    alias.name = now
                    self.notes[node.lineno] = [ast.unparse(node)]
        return node


Pairs = Callable[[ast.Module], list[tuple[ast.FunctionDef, ast.FunctionDef]]]


def followed(tree: ast.Module, pairs: Pairs = lambda tree: []) -> tuple[ast.Module, str]:
    """A workbook's syntax with names of before led to those of now, and what to say of that; "" if nothing is.

    Args:
        tree: is not changed.
        pairs: gives of a tree like it each exercise's function with that of its stub.
    """
    following = Followed()
    new = following.visit(copy.deepcopy(tree))
    if not following.notes:  # a workbook of before shows in its imports; in others, names mean what they say
        return tree, ""
    for own, stub in pairs(new):
        for line, texts in renamed(own, stub).items():
            following.notes.setdefault(line, []).extend(texts)
    lines = [f"    line {line}: {text}" for line, texts in sorted(following.notes.items()) for text in texts]
    few = lines[:6] + [f"    … and {len(lines) - 6} more"] * (len(lines) > 6)
    return new, (
        "Your workbook has names of an earlier course. They were followed to what they are now, and it works as it is. "
        "To bring it up to date, write:\n\n" + "\n".join(few)
    )


def renamed(own: ast.FunctionDef, stub: ast.FunctionDef) -> dict[int, list[str]]:
    """Give parameters of before their names of today, in a function of which the stub has these; what is said, by line.

    So it is for the names of what the function calls with, and for the keys of batches, all through it.
    """
    wanted = {one.arg for one in _arguments(stub)}
    mine = {one.arg for one in _arguments(own)}
    changed = {old: new for old, new in PARAMETERS.items() if old in mine - wanted and new in wanted - mine}
    notes: dict[int, list[str]] = {}

    def note(node: Any, old: str, new: str) -> None:
        said = f"{new} (it was {old})"
        if said not in notes.setdefault(node.lineno, []):
            notes[node.lineno].append(said)

    for one in _arguments(own):
        if one.arg in changed:
            note(one, one.arg, changed[one.arg])
            one.arg = changed[one.arg]
    for node in ast.walk(own):
        if isinstance(node, ast.Name) and node.id in changed:
            node.id = changed[node.id]
        elif isinstance(node, ast.keyword) and node.arg in PARAMETERS:
            # hidden= has two meanings: whether hidden states are wanted is yes or no, and was renamed.
            if node.arg != "hidden" or isinstance(node.value, ast.Constant):
                note(node, node.arg, PARAMETERS[node.arg])
                node.arg = PARAMETERS[node.arg]
        elif isinstance(node, ast.Constant) and node.value in ("keep", "source_keep"):
            note(node, repr(node.value), repr(PARAMETERS[node.value]))
            node.value = PARAMETERS[node.value]
    return notes


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def said_of(module: str) -> str:
    """Where a module of before is now, in a sentence; nothing of others."""
    now = _module_now(module) if module.startswith("minitransformer.") else module
    return f"{module} is {now} now: change that line." if now != module and _names(now) else ""
