"""Python code as HTML: coloured by Pygments, every name that the package defines linked to where it is defined."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path

from minitransformer.course.bootstrap import ROOT

PACKAGE = "minitransformer"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Link:
    """A name in code, and what it stands for."""

    line: int  # from 1
    column: int  # in characters, from 0
    text: str
    target: str  # "minitransformer.models.attention.attend_by_formula"


@dataclass
class Module:
    """One module of the package."""

    name: str
    path: Path
    source: str
    tree: ast.Module = field(repr=False)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Functions, classes and methods: dotted name → node."""
        found: dict[str, Definition] = {}
        for node in self.tree.body:
            if isinstance(node, Definition):
                found[f"{self.name}.{node.name}"] = node
                if isinstance(node, ast.ClassDef):
                    for part in node.body:
                        if isinstance(part, ast.FunctionDef):
                            found[f"{self.name}.{node.name}.{part.name}"] = part
        return found

    @cached_property
    def constants(self) -> dict[str, int]:
        """Names that the module assigns at its top level, dotted, and the line of the first assignment."""
        found: dict[str, int] = {}
        for node in self.tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(name, ast.Name):
                            found.setdefault(f"{self.name}.{name.id}", node.lineno)
        return found


class Package:
    """Every module of the package, and what each dotted name means.

    Args:
        folder: of the package.
    """

    def __init__(self, folder: Path = ROOT / PACKAGE) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted(folder.rglob("*.py")):
            if path.stem == "__main__":
                continue
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = path.read_text(encoding="utf-8")
            self.modules[name] = Module(name, path, source, ast.parse(source))
        self.defined = {dotted for module in self.modules.values() for dotted in module.definitions} | {
            dotted for module in self.modules.values() for dotted in module.constants
        }
        # What a module imports can be imported from it as well: minitransformer.tuning.LoRA.
        self.aliases: dict[str, str] = {}
        for module in self.modules.values():
            for local, dotted in bindings(module.tree).items():
                self.aliases.setdefault(f"{module.name}.{local}", dotted)

    def meaning(self, dotted: str) -> str | None:
        """The place where a dotted name is defined: a definition, a constant or a module; None outside the package."""
        for _ in range(5):
            if dotted in self.defined or dotted in self.modules:
                return dotted
            if dotted in self.aliases:
                dotted = self.aliases[dotted]
                continue
            owner, _, last = dotted.rpartition(".")
            if owner in self.aliases:  # a method of a class that was imported
                dotted = f"{self.aliases[owner]}.{last}"
                continue
            return None
        return None

    def module_of(self, dotted: str) -> Module:
        """The module that a dotted name of the package is in."""
        while dotted not in self.modules:
            dotted = dotted.rpartition(".")[0]
        return self.modules[dotted]

    def inherited(self, dotted: str) -> str | None:
        """`Class.method`, looked for in the class and then in its bases."""
        owner, _, name = dotted.rpartition(".")
        for _ in range(5):
            if f"{owner}.{name}" in self.defined:
                return f"{owner}.{name}"
            node = self.modules.get(owner.rpartition(".")[0])
            definition = node.definitions.get(owner) if node else None
            if not isinstance(definition, ast.ClassDef) or not definition.bases:
                return None
            base = ast.unparse(definition.bases[0])
            meaning = self.meaning(f"{node.name}.{base}")
            if meaning is None:
                return None
            owner = meaning
        return None


def bindings(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports stand for: local name → dotted name."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
            found |= {alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names if not alias.asname}
    return found


class Linker:
    """Finds the package's names in one file.

    Args:
        package: what the names may stand for.
        tree: the whole file, whose imports and assignments say what a name stands for.
        module: the file's own module, whose definitions are known by their bare names; None for a lesson.
    """

    def __init__(self, package: Package, tree: ast.Module, module: str | None = None) -> None:
        self.package = package
        self.names = bindings(tree)
        if module:
            own = package.modules[module]
            self.names |= {name.rpartition(".")[2]: name for name in own.constants}
            self.names |= {node.name: f"{module}.{node.name}" for node in own.tree.body if isinstance(node, Definition)}
        self.instances: dict[str, str] = {}  # variable → its class, where it was assigned from the class's call
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                made = self._made(node.value)
                if made:
                    self.instances[node.targets[0].id] = made

    def _made(self, value: ast.expr) -> str | None:
        """The class of which `Class(…)` or `Class(…).attach(…)` is an instance."""
        if not isinstance(value, ast.Call):
            return None
        target = self._dotted(value.func)
        if target and isinstance(self.package.module_of(target).definitions.get(target), ast.ClassDef):
            return target
        if isinstance(value.func, ast.Attribute) and value.func.attr in ("attach", "eval", "train"):
            return self._made(value.func.value)
        return None

    def _dotted(self, node: ast.expr) -> str | None:
        """What an expression stands for, if that is a name of the package."""
        if isinstance(node, ast.Name):
            return self.package.meaning(self.names[node.id]) if node.id in self.names else None
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in self.instances:
                return self.package.inherited(f"{self.instances[node.value.id]}.{node.attr}")
            owner = self._dotted(node.value)
            if owner is None:
                made = self._made(node.value)
                return self.package.inherited(f"{made}.{node.attr}") if made else None
            return self.package.meaning(f"{owner}.{node.attr}") or self.package.inherited(f"{owner}.{node.attr}")
        return None

    def links(self, code: str) -> list[Link]:
        """The links in a piece of the file, which has to be whole statements.

        Raises:
            SyntaxError: it is not.
        """
        lines = code.split("\n")

        def at(line: int, byte: int) -> int:
            return len(lines[line - 1].encode()[:byte].decode(errors="ignore"))

        found: list[Link] = []
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name) and (target := self._dotted(node)):
                found.append(Link(node.lineno, at(node.lineno, node.col_offset), node.id, target))
            elif isinstance(node, ast.Attribute) and (target := self._dotted(node)):
                end = at(node.end_lineno, node.end_col_offset)
                found.append(Link(node.end_lineno, end - len(node.attr), node.attr, target))
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if target := self.package.meaning(f"{node.module}.{alias.name}"):
                        found.append(Link(alias.lineno, at(alias.lineno, alias.col_offset), alias.name, target))
        return sorted(set(found), key=lambda link: (link.line, link.column))


def highlight(code: str, links: Iterable[Link] = (), address: Mapping[str, str] | None = None, first: int = 1) -> str:
    """Coloured code without the box around it, `<span class="k">def</span> …`.

    Args:
        code: Python.
        links: the names to link, their lines counted in `code` from `first`.
        address: target → href; a link whose target has none stays plain.
        first: the number of the first line.
    """
    from pygments.lexers.python import PythonLexer
    from pygments.token import STANDARD_TYPES

    starts = [0]
    for line in code.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    linked = {starts[link.line - first] + link.column: link for link in links if 0 <= link.line - first < len(starts)}
    parts = []
    for index, kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens_unprocessed(code):
        css = STANDARD_TYPES.get(kind, "")
        if css in ("n", "p", "o", "w"):  # names, brackets, operators: as the text around them, and half of all tokens
            css = ""
        inner = escape(text, quote=False)
        link = linked.get(index)
        if link and link.text == text and address is not None and link.target in address:
            name = link.target.removeprefix(f"{PACKAGE}.")
            inner = f'<a class="code-link" href="{escape(address[link.target])}" title="{escape(name)}">{inner}</a>'
        parts.append(f'<span class="{css}">{inner}</span>' if css else inner)
    return "".join(parts)


def box(inner: str, css: str = "") -> str:
    """Highlighted code in the box that the theme gives code."""
    return f'<div class="highlight-python notranslate {css}"><div class="highlight"><pre>{inner}\n</pre></div></div>'


def pieces(module: Module) -> Iterator[tuple[Definition | None, int, int]]:
    """A module in order: each top-level definition, and what stands between them, with first and last line.

    The comments right above a definition belong to it. The module's docstring is left out.
    """
    lines = module.source.split("\n")
    body = module.tree.body
    start = 1
    if ast.get_docstring(module.tree) is not None:
        start = body[0].end_lineno + 1
    for node in body:
        if not isinstance(node, Definition):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        while first - 1 >= start and lines[first - 2].startswith("#") and not lines[first - 2].startswith("# ---"):
            first -= 1
        if "".join(lines[start - 1 : first - 1]).strip():
            yield None, start, first - 1
        yield node, first, node.end_lineno
        start = node.end_lineno + 1
    if "".join(lines[start - 1 :]).strip():
        yield None, start, len(lines)
