"""Shows the input on which an exercise fails: the call, its arguments, and how they are made."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.course.output.terminal import display_width, wrap
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import draw
from minitransformer.course.workbook.again import command
from minitransformer.course.workbook.compare import tensors
from minitransformer.course.workbook.exercise import Case, Exercise, call, tidy
from minitransformer.course.workbook.observe import arguments
from minitransformer.course.workbook.words import SHORT, ended, in_short, shown, wrapped


def input_blocks(exercise: Exercise, case: Case, number: int, width: int) -> list[str]:
    """Case `number` as blocks of text: which input it is, the call drawn, how it is made, how to run it once more."""
    title = f"It fails on the smallest input: {ended(case.label)}"
    if number:
        pass_it = f"{number} smaller inputs pass" if number > 1 else "1 smaller input passes"
        title = f"{pass_it}; it fails on this one: {ended(case.label)}"
    again = t("To run it yourself:") + f"  {command(exercise.id, number + 1)}"
    again = again if display_width(again) <= width else again.replace(":  ", ":\n    ", 1)
    if case.is_scene:
        run = _made_so(case, scene_source(case).removeprefix("return "), width)
        return [wrapped(title, width), *([t("This is run:"), *run] if run else []), again]
    given = arguments(exercise, case)
    panels, said, is_plain = [], [], True
    for name, value in given.items():
        is_plain &= _is_plain(value)
        if isinstance(value, Tensor):
            said.append(name)
            if value.numel() <= 64 and value.numel():
                panels += _panels(name, value)
            else:
                panels.append((f"{name} {tuple(value.shape)}", ["(random)"]))
        elif name == "self":
            said.append(name)
        elif isinstance(value, nn.Module):
            said.append(f"{name}=a {type(value).__name__}")
        elif _holds_tensors(value):
            said.append(name)
            panels += [panel for part, tensor in tensors(value, name) for panel in _panels(part, tensor)]
        else:
            said.append(f"{name}={in_short(value)}")
    first = next((number for number, one in enumerate(said) if "=" in one), len(said))
    said[first:] = [one if "=" in one else f"{one}={one}" for one in said[first:]]
    drawn = "\n".join([*_call_of(exercise.name, said, width), *_indented(panels, width)])
    made = [] if is_plain else _made_so(case, _by_name(list(given), scene_source(case)), width)
    return [wrapped(title, width), drawn, *([t("These are made so:"), *made] if made else []), again]


def _call_of(name: str, arguments: list[str], width: int) -> list[str]:
    """A call, four columns in; broken between arguments where it is too long for a line."""
    lines = [f"    {name}("]
    for number, one in enumerate(arguments, 1):
        piece = one + (", " if number < len(arguments) else ")")
        if len(lines[-1] + piece.rstrip()) > width and not lines[-1].endswith("("):
            lines.append(" " * 8)
        lines[-1] += piece
    return [line.rstrip() for line in lines] if arguments else [f"    {name}()"]


def _is_plain(value: Any) -> bool:
    """Whether a value is shown whole by its text or its numbers."""
    if isinstance(value, Tensor):
        return value.numel() <= 64
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value)) and len(shown(value)) <= SHORT
    if isinstance(value, dict):
        return all(map(_is_plain, value.values())) and len(shown(value)) <= SHORT
    if isinstance(value, str):
        return len(shown(value)) <= SHORT
    return value is None or isinstance(value, int | float | torch.dtype)


def _made_so(case: Case, source: str, width: int) -> list[str]:
    """The source of a case, and what the helpers in it are that stand beside it and nowhere else."""
    if not source:
        return []
    helpers = ["\n".join(wrap(line, width, "    ", "      ")) for line in _helpers(case, scene_source(case))]
    return [textwrap.indent(source, "    ")] + ["\n".join(helpers)] * bool(helpers)


def _by_name(names: list[str], source: str) -> str:
    """The source of a case, its last line, which returns the arguments of these names, as a line for each.

    What the call itself shows, such as None or a number, is left out; a source of another form stays as it is.
    """
    indented = "def case():\n" + textwrap.indent(source, " ")
    try:
        last = ast.parse(indented).body[0].body[-1]
    except SyntaxError:  # a text over several lines in it
        return source
    if not isinstance(last, ast.Return) or last.value is None:
        return source
    value = last.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == call.__name__:
        args, named = value.args, [(one.arg, one.value) for one in value.keywords]
    else:
        args, named = value.elts if isinstance(value, ast.Tuple) else [value], []
    by_place = names[: len(names) - len(named)]
    stars = [number for number, one in enumerate(args) if isinstance(one, ast.Starred)]
    if len(stars) > 1 or any(name is None for name, _ in named):
        return source
    if len(args) == 1 and not stars:  # a function that gives all of them
        by_place = [", ".join(by_place)]
    if stars:  # f(…) in *f(…) gives those that no other argument gives
        at, many = stars[0], len(by_place) - len(args) + 1
        by_place[at : at + many] = [", ".join(by_place[at : at + many])]
        args = [*args[:at], args[at].value, *args[at + 1 :]]
    if len(args) != len(by_place):
        return source
    lines = textwrap.dedent("\n".join(indented.split("\n")[1 : last.lineno - 1])).split("\n")
    for name, one in [*zip(by_place, args, strict=True), *named]:
        line = indented.split("\n")[one.lineno - 1]
        text = ast.get_source_segment(indented, one) or ast.unparse(one)
        text = text.replace("\n" + " " * (len(line) - len(line.lstrip())), "\n")
        if text != name and not (_is_literal(one) and len(text) <= SHORT):
            lines.append(f"{name} = {text}")
    return "\n".join(line for number, line in enumerate(lines) if line or number)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _helpers(case: Case, source: str) -> list[str]:
    """For each helper that a case's source uses: what it gives, in words; in the order in which they are defined."""
    names, lines = getattr(case.make, "__globals__", {}), []
    places = {name: number for number, name in enumerate([*(n for n in names if n != tidy.__name__), tidy.__name__])}
    try:
        body = ast.parse(f"def case():\n{textwrap.indent(source, ' ')}")
    except SyntaxError:  # a text over several lines in it
        return []
    used = {one.id for one in ast.walk(body) if isinstance(one, ast.Name)} & set(places)
    for name in sorted(used, key=places.__getitem__):
        value = names.get(name)
        if getattr(value, "__module__", None) in (names.get("__name__"), tidy.__module__) and inspect.isroutine(value):
            if value is not call and inspect.getdoc(value):
                lines.append(
                    f"{name}({', '.join(inspect.signature(value).parameters)}): "
                    + ended(inspect.getdoc(value).split("\n\n")[0].replace("\n", " "))
                )
        elif name.isupper() and name in names and len(text := " ".join(shown(value).split())) <= 100:
            lines.append(f"{name} is {text}")
    return lines


def _holds_tensors(value: Any) -> bool:
    return any(True for _ in tensors(value, ""))


def _panels(name: str, value: Tensor) -> list[tuple[str, list[str]]]:
    """A tensor as one matrix, or as all its matrices where they are few."""
    title = f"{name} {tuple(value.shape)}"
    if value.numel() > 64:
        return [(title, ["(random)"])]
    if value.dim() <= 2:
        return [(title, draw.matrix(value))]
    rows = value.detach().reshape(-1, *value.shape[-2:])
    if len(rows) == 1:
        return [(title, draw.matrix(rows[0]))]
    lines = []
    for matrix in rows[:4]:
        lines += [*([""] if lines else []), *draw.matrix(matrix)]
    return [(title, [*lines, *["…"] * (len(rows) > 4)])]


def _indented(panels: list[tuple[str, list[str]]], width: int) -> list[str]:
    """Panels side by side as many as fit in a line, four columns in."""
    lines: list[str] = []
    row: list[tuple[str, list[str]]] = []

    def total(some: list[tuple[str, list[str]]]) -> int:
        return sum(max(len(title), *map(len, panel)) + 3 for title, panel in some)

    def flush() -> None:
        if row:
            lines.extend(["", *(f"    {line}".rstrip() for line in draw.beside(row, width - 4))])
        row.clear()

    for panel in panels:
        if row and total([*row, panel]) > width - 4:
            flush()
        row.append(panel)
    flush()
    return lines


def scene_source(case: Case) -> str:
    """The body of a scene or another case, without decorator and docstring; "" of one without lines of its own."""
    lines = textwrap.dedent(inspect.getsource(case.make)).split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith("def ")), len(lines))
    body = textwrap.dedent("\n".join(lines[start + 1 :]))
    return re.sub(r'^("""|\'\'\').*?\1\n?', "", body, count=1, flags=re.S).strip("\n")
