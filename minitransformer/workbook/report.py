"""What a check says to a person."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer import show
from minitransformer.errors import UserError
from minitransformer.workbook import draw
from minitransformer.workbook.book import (
    Workbook,
    in_plain_words,
    message_of,
    own_lines,
    under_its_heading,
    wants_its_name,
)
from minitransformer.workbook.cut import place, resolve
from minitransformer.workbook.diagnose import Diagnosis
from minitransformer.workbook.examine import Difference, Verdict, arguments, tensors
from minitransformer.workbook.exercise import Case, Exercise


def is_unwritten(verdict: Verdict) -> bool:
    """Whether the code still says that it is to be written."""
    error = verdict.difference.actual if verdict.difference and verdict.difference.kind == "error" else None
    return isinstance(error, NotImplementedError) and str(error) == "write this"


def failure(verdict: Verdict, diagnosis: Diagnosis, path: Path, width: int) -> str:
    """Why an exercise does not pass: what it is for, the smallest failing input, the difference, the mistake."""
    exercise, difference = verdict.exercise, verdict.difference
    case = exercise.cases[verdict.case]
    blocks = [_wrapped(f"What it is for: {exercise.purpose}", width)]
    blocks += _input(exercise, case, verdict.case, width)
    blocks.append(_difference(verdict, difference, path, width))
    if diagnosis.mistakes:
        if len(diagnosis.mistakes) == 1:
            only = diagnosis.mistakes[0]
            blocks.append(_wrapped(f"Diagnosis: {only.name}. {sentence(only.why)}", width))
        else:
            listed = [_wrapped(f"- {one.name}: {sentence(one.why)}", width, "  ") for one in diagnosis.mistakes]
            blocks.append("\n".join(["Diagnosis: it could be one of these.", *listed]))
    else:
        blocks += [_wrapped(f"Looks like this: {one}", width) for one in diagnosis.alike]
    return "\n\n".join(block for block in blocks if block)


def sentence(text: str) -> str:
    """Begin with a capital, end with a full stop."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    if not set(first) & set("_.([") and (len(first) != 1 or first == "a"):  # a name from the code stays as it is
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", ":", "…")) else text + "."


def _wrapped(text: str, width: int, rest: str = "") -> str:
    return "\n".join(show.wrap(text, width, "", rest))


# ---------------------------------------------------------------- the input


def _input(exercise: Exercise, case: Case, number: int, width: int) -> list[str]:
    first = case.label.split(maxsplit=1)[0]
    is_word = first == "A" or (first[1:].isalpha() and first[1:].islower())  # neither P'_θ nor BERT nor TopLayers
    label = case.label[0].lower() + case.label[1:] if is_word else case.label
    before = f"{number} smaller input{'s pass' if number > 1 else ' passes'}; it" if number else "It"
    title = f"{before} fails on {'this one' if number else 'the smallest input'}: {label}."
    if case.is_scene:
        return [_wrapped(title, width), textwrap.indent(scene_source(case), "    ")]
    given = arguments(exercise, case)
    panels, said = [], []
    for name, value in given.items():
        if isinstance(value, Tensor):
            said.append(name)
            if value.numel() <= 64 and value.numel():
                panels += _panels(name, value)
            else:
                panels.append((f"{name} {tuple(value.shape)}", ["(random)"]))
        elif isinstance(value, nn.Module):
            said.append(f"a {type(value).__name__}")
        elif _holds_tensors(value):
            said.append(name)
            panels += [panel for part, tensor in tensors(value, name) for panel in _panels(part, tensor)]
        else:
            text = shown(value)
            said.append(f"{name}={text if len(text) <= 60 else text[:57] + '…'}")
    return [_wrapped(title, width), "\n".join([f"    {exercise.name}({', '.join(said)})", *_indented(panels, width)])]


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
    """The body of a scene, without decorator and docstring."""
    lines = textwrap.dedent(inspect.getsource(case.make)).split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("def "))
    body = textwrap.dedent("\n".join(lines[start + 1 :]))
    return re.sub(r'^("""|\'\'\').*?\1\n?', "", body, count=1, flags=re.S).strip("\n")


# ---------------------------------------------------------------- the difference


def _difference(verdict: Verdict, difference: Difference, path: Path, width: int) -> str:
    kind, where = difference.kind, _named(difference.where)
    expected, actual = difference.expected, difference.actual
    if kind in ("error", "exit"):
        return _raised(verdict, actual, expected, path, width)
    if kind == "refusal":
        said = _wrapped(f"The package refuses this with a UserError: {expected}", width)
        return f"{said}\nYours accepts it and returns {_describe(actual)}."
    if kind == "type":
        return _wrapped(
            f"{sentence(where)[:-1]} is {_describe(actual)}; it should be {_describe(expected)}.", width
        ) + _of_no_value(actual)
    if kind == "length":
        return _wrapped(
            f"{sentence(where)[:-1]} has {len(actual)} parts; it should have {len(expected)}.", width
        ) + _plainly(expected, actual, difference)
    if kind == "keys":
        return f"{sentence(where)[:-1]} has {shown(actual)}; it should have {shown(expected)}."
    if kind == "changed":
        head = f"The call changed its input {where}. It has to stay as it is: make a new tensor, write into that."
        return _wrapped(head, width) + _drawn(difference, width, "before", "after")
    if kind == "shared":
        return _wrapped(
            f"{sentence(where)[:-1]} lies in the same memory as the input {actual}, so that who changes one changes "
            "the other. The package returns a new tensor.", width
        )  # fmt: skip
    if kind == "gradient" or expected is None or actual is None:
        if actual is None:
            return f"There is no {where}; there should be one."
        return f"There is a {where}; there should be none."
    if kind == "shape":
        text = f"{sentence(where)[:-1]} has the shape {tuple(actual.shape)}; it should be {tuple(expected.shape)}."
        if 0 < expected.numel() <= 64 and 0 < actual.numel() <= 64:
            panels = [("expected", draw.matrix(expected)), ("yours", draw.matrix(actual))]
            text += "\n\n" + "\n".join("    " + line for line in draw.beside(panels, width - 4))
        return text
    if kind == "device":
        return f"{sentence(where)[:-1]} lies on {_lies_on(actual)}; it should lie on {_lies_on(expected)}."
    if kind == "dtype":
        return f"{sentence(where)[:-1]} is made of {_dtype(actual)}; it should be made of {_dtype(expected)}."
    if isinstance(expected, Tensor):
        count = int(difference.wrong.sum())
        of = f"{count} of {expected.numel()} {'numbers' if expected.numel() > 1 else 'number'}"
        head = f"In {where}, of shape {tuple(expected.shape)}, {of} differ{'s' * (count == 1)}."
        if expected.dim() > 2 and expected.shape[:-2].numel() > 1:
            head += f" Here is {list(difference.index[:-2])}, the first where they do:"
        return _wrapped(head, width) + _drawn(difference, width, "expected", "yours")
    return f"{sentence(where)[:-1]} is not as it should be." + _plainly(expected, actual, difference)


def _of_no_value(actual: Any) -> str:
    """How a function comes to give something that is no value of any kind."""
    if actual is None:
        return "\nDid you forget to return something?"
    if inspect.isgenerator(actual):
        return "\nA function with yield in it makes a generator; a value is given by return."
    if inspect.iscoroutine(actual):
        actual.close()  # lest Python complain that nobody waited for it
        return "\nA function that begins with async def makes a coroutine; it has to begin with def."
    return ""


def _named(where: str) -> str:
    """Which part of the output, in words: what a scene calls it, or its place."""
    where = re.sub(r"^output\['(.*?)'\]", r"\1", where)
    return "the output" if where == "output" else where


def _drawn(difference: Difference, width: int, left: str, right: str) -> str:
    if not isinstance(difference.expected, Tensor) or difference.wrong is None:
        return ""
    lines = draw.side_by_side(difference.expected, difference.actual, difference.wrong, difference.index, width - 4)
    if (left, right) != ("expected", "yours"):
        lines[0] = lines[0].replace("expected", left.ljust(8)).replace("yours", right.ljust(5))
    return "\n\n" + "\n".join("    " + line for line in lines)


def _plainly(expected: Any, actual: Any, difference: Difference) -> str:
    def short(value: Any) -> str:
        text = shown(value)
        if len(text) <= 300:
            return text
        at = (
            max(0, sum(len(shown(part)) + 2 for part in list(value)[: difference.index[0]]) - 60)
            if difference.index
            else 0
        )
        return ("… " if at else "") + text[at : at + 300] + " …"

    place_in = f"\n    They part at number {difference.index[0]} (counted from 0)." if difference.index else ""
    return f"\n\n    expected  {short(expected)}\n    yours     {short(actual)}{place_in}"


def _raised(verdict: Verdict, error: BaseException, expected: Any, path: Path, width: int) -> str:
    lines = own_lines(error, path)
    if isinstance(error, SystemExit):
        return f"Your code ends the program:\n\n{lines}"
    if expected is not None:
        return _wrapped(f"The package refuses this with a UserError: {expected}", width) + (
            f"\nYours raises another exception:\n\n{lines}"
        )
    more = _explained(verdict, error)
    return f"Your code raises an exception:\n\n{lines}" + (f"\n\n{_wrapped(more, width)}" if more else "")


def _explained(verdict: Verdict, error: BaseException) -> str:
    """Plain words for exceptions that beginners meet."""
    if said := in_plain_words(error):
        return said
    text = message_of(error)
    if isinstance(error, UserError):
        return "The package accepts this input."
    if isinstance(error, TypeError) and re.search(r"positional argument|unexpected keyword|multiple values", text):
        reference, owner = resolve(verdict.exercise.target)
        try:
            wanted = str(inspect.signature(reference)).replace("'", "")
        except (TypeError, ValueError):
            return ""
        return f"It is called as {verdict.exercise.name}{wanted}: keep its parameters as the stub has them."
    if (
        "inconsistent tensor size" in text
        or "size mismatch" in text
        or "must match the size" in text
        or "Sizes of tensors must match" in text
        or ("shapes cannot be multiplied" in text)
    ):
        return "Two shapes do not fit. Write the shape of each tensor beside its line; the input's stand above."
    return ""


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict | str | set):
        article = "an" if type(value).__name__[0] in "aeio" else "a"
        return f"{article} {type(value).__name__} of length {len(value)}"
    if isinstance(value, type):
        return f"a class ({value.__name__})"
    text = shown(value)
    article = "an" if type(value).__name__[0].lower() in "aeio" else "a"
    return f"{article} {type(value).__name__}" + (f" ({text})" if len(text) < 60 and not text.startswith("<") else "")


def shown(value: Any) -> str:
    """A value as text, without addresses in memory, which say nothing; of an object without such text, its parts."""
    try:
        if type(value).__repr__ is object.__repr__:
            parts = (f"{name}={shown_part(part)}" for name, part in getattr(value, "__dict__", {}).items())
            return f"{type(value).__name__}({', '.join(parts)})"
        text = repr(value)
    except Exception as error:  # a learner's own __repr__, or __getattr__
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    text = re.sub(r"<(?:[\w.<>]*?\.)?(\w+) object at 0x[0-9a-fA-F]+>", r"<\1>", text)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def shown_part(value: Any) -> str:
    """A part of an object, in short."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = f"{type(value).__name__}(…)" if type(value).__repr__ is object.__repr__ else shown(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _lies_on(tensor: Tensor) -> str:
    kind = "" if tensor.layout == torch.strided else f", stored as {str(tensor.layout).removeprefix('torch.')}"
    return f"{tensor.device}{kind}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


# ---------------------------------------------------------------- what is no failure of a case


def stopped(error: BaseException, path: Path) -> str:
    """What to say where the check itself could not go on."""
    lines = own_lines(error, path)
    if isinstance(error, RecursionError) and not lines.startswith("    line "):
        return f"The check could not follow what your code gives back; does something contain itself?\n\n{lines}"
    return f"Your code stopped the check itself:\n\n{lines}"


def unwritten(exercise: Exercise, path: Path, line: int | None, width: int) -> str:
    """What to say where nothing is written yet."""
    where = place(path, line)
    text = f"{exercise.id} {exercise.name} waits to be written: {where}."
    return f"{_wrapped(text, width)}\n\n{_wrapped(f'What it is for: {exercise.purpose}', width)}"


def absent(workbook: Workbook, exercise: Exercise, width: int) -> str:
    """What to say where the workbook lacks an exercise, or has something else by its name."""
    path, cut, found = workbook.path, exercise.cut, workbook.names.get(exercise.cut.name)
    if workbook.candidates[exercise.id] is resolve(exercise.target)[0]:
        return _wrapped(
            f"{exercise.name} in {place(path)} is the package's own, imported. Take it out of the import and write "
            f"yours; make start-{exercise.lesson} then adds the stub.", width
        )  # fmt: skip
    if workbook.candidates[exercise.id] is not None:
        kind = "a class" if inspect.isclass(resolve(exercise.target)[0]) else "a function"
        return _wrapped(f"In {place(path)}, {cut.name} is {_describe(found)}; it should be {kind}.", width)
    renamed = under_its_heading(workbook.text, workbook.tree, workbook.exercises, exercise)
    if renamed is not None:
        return _wrapped(wants_its_name(path, renamed, exercise), width)
    what = f"{cut.method} in a class {cut.name}" if cut.method else cut.name
    text = (
        f"{place(path)} is empty: make start-{exercise.lesson} writes the stubs into it."
        if not workbook.tree.body
        else f"{place(path)} has no {what}. make start-{exercise.lesson} adds the stub again and touches nothing else."
    )
    if not any(workbook.candidates[one.id] is not None for one in workbook.exercises):
        own = [name for name in workbook.names if not name.startswith("_") and _is_own(workbook.names[name], workbook)]
        if own:
            text += (
                f" It has none of lesson {exercise.lesson}'s exercises, but {', '.join(own[:4])}: is it another "
                "lesson's workbook, under a wrong name?"
            )
    return _wrapped(text, width)


def _is_own(value: Any, workbook: Workbook) -> bool:
    return getattr(value, "__module__", None) == workbook.names["__name__"]
