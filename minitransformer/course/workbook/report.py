"""What a check says to a person."""

from __future__ import annotations

import inspect
import itertools
import re
import textwrap
import traceback
from pathlib import Path
from typing import Any

from torch import Tensor

from minitransformer.course.output.terminal import display_width
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import draw
from minitransformer.course.workbook.catalogue import exercises
from minitransformer.course.workbook.compare import Difference, compare
from minitransformer.course.workbook.diagnose import Diagnosis, by_a_factor
from minitransformer.course.workbook.examine import Verdict
from minitransformer.course.workbook.exceptions import MADE_ELSEWHERE, explained, lost_import, own_lines
from minitransformer.course.workbook.exercise import Case, Exercise
from minitransformer.course.workbook.general import case_of
from minitransformer.course.workbook.inputs import input_blocks
from minitransformer.course.workbook.loading import Workbook
from minitransformer.course.workbook.reading import (
    outdated,
    parse,
    read,
    signature,
    swallowed,
    under_its_heading,
    wants_its_name,
)
from minitransformer.course.workbook.source import place, resolve
from minitransformer.course.workbook.words import describe, dtype_name, ended, lies_on, shown, wrapped


def is_unwritten(verdict: Verdict) -> bool:
    """Whether the code still says that it is to be written."""
    error = verdict.difference.actual if verdict.difference and verdict.difference.kind == "error" else None
    return isinstance(error, NotImplementedError) and str(error) == "write this"


def failure(verdict: Verdict, diagnosis: Diagnosis, path: Path, width: int, told: bool = False) -> str:
    """Why an exercise does not pass: what it is for, the smallest failing input, the difference, the mistake.

    Args:
        verdict: of an examination that failed.
        diagnosis: of it.
        path: the workbook.
        width: of the text, in columns.
        told: whether it was said before what the exercise is for.
    """
    exercise, difference = verdict.exercise, verdict.difference
    case = case_of(exercise, verdict.case)
    blocks = [] if told else [wrapped(f"What it is for: {exercise.purpose}", width)]
    blocks += input_blocks(exercise, case, verdict.case, width)
    blocks.append(_difference(verdict, difference, path, width))
    blocks.append(_others_too(verdict, case, width))
    if diagnosis.mistakes:
        if difference.kind == "value" and isinstance(difference.expected, Tensor):
            blocks += itertools.islice(by_a_factor(difference.expected, difference.actual), 1)
        only = diagnosis.mistakes[0] if len(diagnosis.mistakes) == 1 else None
        if only and diagnosis.sure:
            blocks.append(wrapped(f"Diagnosis: {only.name}. {ended(only.why)}", width))
        elif only:
            text = f"On this input, though not on every one, it behaves as if this were wrong: {only.name}. {only.why}"
            blocks.append(wrapped(ended(text), width))
        else:
            head = (
                "Diagnosis: it could be one of these."
                if diagnosis.sure
                else ("On this input, though not on every one, it behaves as if one of these were wrong.")
            )
            listed = [wrapped(f"- {one.name}: {ended(one.why)}", width, "  ") for one in diagnosis.mistakes]
            blocks.append("\n".join([wrapped(head, width), *listed]))
    else:
        blocks += [wrapped(f"Looks like this: {one}", width) for one in diagnosis.alike]
    return "\n\n".join(block for block in blocks if block)


def _others_too(verdict: Verdict, case: Case, width: int) -> str:
    """Which other things that a scene observed are not as they should be; the first may not tell most."""
    expected, actual = verdict.expected.value, verdict.actual[verdict.case].value
    if not case.is_scene or not isinstance(expected, dict) or not isinstance(actual, dict):
        return ""
    first = re.match(r"output\[(.*?)\]", verdict.difference.where)
    wrong = [
        name
        for name in expected
        if name in actual
        and not (first and repr(name) == first[1])
        and compare(expected[name], actual[name], "", case.tolerance) is not None
    ]
    if not wrong:
        return ""
    return wrapped("Not as it should be, either: " + ", ".join(f'"{name}"' for name in wrong) + ".", width)


def _difference(verdict: Verdict, difference: Difference, path: Path, width: int) -> str:
    kind, where = difference.kind, _named(difference.where, verdict)
    expected, actual = difference.expected, difference.actual
    what = "The output" if where == "the output" else where  # names begin as they begin in the code
    if kind in ("error", "exit"):
        return _raised(verdict, actual, expected, path, width)
    if kind == "refusal":
        said = wrapped(f"The package refuses this with a UserError: {expected}", width)
        return said + "\n" + t(f"Yours accepts it and returns {describe(actual)}.")
    if kind == "type":
        return wrapped(f"{what} is {describe(actual)}; it should be {describe(expected)}.", width) + _of_no_value(
            actual
        )
    if kind == "length":
        return wrapped(f"{what} has {len(actual)} parts; it should have {len(expected)}.", width) + _plainly(
            expected, actual, difference
        )
    if kind == "keys":
        return t(f"{what} has {shown(actual)}; it should have {shown(expected)}.")
    if kind == "changed":
        kind_of = type(expected).__name__
        new = "tensor, and write into that" if isinstance(expected, Tensor) else f"{kind_of}, and change that"
        head = f"The call changed its input {where}. It has to stay as it is: make a new {new}."
        return wrapped(head, width) + _drawn(difference, width, "before", "after")
    if kind == "shared":
        return wrapped(
            f"{what} lies in the same memory as the input {actual}, so that who changes one changes "
            "the other. The package returns a new tensor.",
            width,
        )
    if kind == "gradient" or expected is None or actual is None:
        if actual is None:
            return wrapped(f"There is no {where.rstrip(',')}; there should be one.", width)
        return wrapped(f"There is a {where.rstrip(',')}; there should be none.", width)
    if kind == "shape":
        text = t(f"{what} has the shape {tuple(actual.shape)}; it should be {tuple(expected.shape)}.")
        if 0 < expected.numel() <= 64 and 0 < actual.numel() <= 64:
            panels = [(t("expected"), draw.matrix(expected)), (t("yours"), draw.matrix(actual))]
            text += "\n\n" + "\n".join("    " + line for line in draw.beside(panels, width - 4))
        return text
    if kind == "device":
        text = f"{what} lies on {lies_on(actual)}; it should lie on {lies_on(expected)}."
        return wrapped(f"{text} {MADE_ELSEWHERE}" if expected.is_meta else text, width)
    if kind == "dtype":
        return t(f"{what} is made of {dtype_name(actual)}; it should be made of {dtype_name(expected)}.")
    if isinstance(expected, Tensor):
        count = int(difference.wrong.sum())
        n = expected.numel()
        head = (
            f"In {where.rstrip(',')}, of shape {tuple(expected.shape)}, {count} of {n} number{'s' * (n > 1)} "
            f"differ{'s' * (count == 1)}."
        )
        if expected.dim() > 2 and expected.shape[:-2].numel() > 1:
            head += f" Here is {list(difference.index[:-2])}, the first where they do:"
        return wrapped(head, width) + _drawn(difference, width, "expected", "yours")
    return wrapped(f"{what} is not as it should be.", width) + _plainly(expected, actual, difference)


def _of_no_value(actual: Any) -> str:
    """How a function comes to give something that is no value of any kind."""
    if actual is None:
        return "\n" + t("Did you forget to return something?")
    if inspect.isgenerator(actual):
        return "\n" + t("A function with yield in it makes a generator; a value is given by return.")
    if inspect.iscoroutine(actual):
        actual.close()  # lest Python complain that nobody waited for it
        return "\n" + t("A function that begins with async def makes a coroutine; it has to begin with def.")
    return ""


def _named(where: str, verdict: Verdict) -> str:
    """Which part of the output, in words: what a scene calls it, or its place."""
    if case_of(verdict.exercise, verdict.case).is_scene:
        found = re.match(r"""output\[(?:'(.*?)'|"(.*?)")\](.*)""", where)
        if found:
            where = f'"{found[1] or found[2]}"' + (f", at {found[3]}," if found[3] else "")
    return "the output" if where == "output" else where


def _drawn(difference: Difference, width: int, left: str, right: str) -> str:
    if not isinstance(difference.expected, Tensor) or difference.wrong is None:
        return ""
    lines = draw.side_by_side(
        difference.expected, difference.actual, difference.wrong, difference.index, width - 4, (t(left), t(right))
    )
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

    place_in = f"\n    {t(f'They part at number {difference.index[0]} (counted from 0).')}" if difference.index else ""
    names = [t("expected"), t("yours")]
    widest = max(map(display_width, names))
    left, right = (name + " " * (widest - display_width(name)) for name in names)
    return f"\n\n    {left}  {short(expected)}\n    {right}  {short(actual)}{place_in}"


def _raised(verdict: Verdict, error: BaseException, expected: Any, path: Path, width: int) -> str:
    lines = own_lines(error, path)
    if isinstance(error, SystemExit):
        return t("Your code ends the program:") + f"\n\n{lines}"
    head = t("Your code raises an exception:")
    if not any(frame.filename == str(path) for frame in traceback.extract_tb(error.__traceback__)):
        if line := _line_of_scene(verdict, error):
            head = t("What your code gave cannot be used in this line of what is run:") + f"\n\n    {line}"
    if expected is not None:
        head = wrapped(f"The package refuses this with a UserError: {expected}", width)
        head += "\n" + t("Yours raises another exception:")
    more = explained(verdict, error, path)
    if not more and isinstance(error, NameError) and path.exists():
        more = lost_import(error, parse(path, read(path)), exercises(verdict.exercise.lesson))
    folded = "\n".join(line if line.startswith("    ") else wrapped(line, width) for line in more.split("\n"))
    return f"{head}\n\n{lines}" + (f"\n\n{folded}" if more else "")


def _line_of_scene(verdict: Verdict, error: BaseException) -> str:
    """The line of a scene that raised an exception, where it is a scene's."""
    case = case_of(verdict.exercise, verdict.case)
    source = inspect.getsourcefile(case.make) if case.is_scene else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if source and frame.filename == source]
    return (frames[-1].line or "") if frames else ""


def other_parameters(exercise: Exercise, complaint: str, width: int, told: bool = False) -> str:
    """What to say where the parameters are not the stub's."""
    text = wrapped(complaint, width)
    return text if told else f"{wrapped(f'What it is for: {exercise.purpose}', width)}\n\n{text}"


def unwritten(exercise: Exercise, path: Path, line: int | None, width: int, told: bool = False) -> str:
    """What to say where nothing is written yet; what it is for only if that was not told before."""
    where = place(path, line)
    text = wrapped(f"{exercise.id} {exercise.name} waits to be written: {where}.", width)
    return text if told else f"{text}\n\n{wrapped(f'What it is for: {exercise.purpose}', width)}"


def absent(workbook: Workbook, exercise: Exercise, width: int) -> str:
    """What to say where the workbook lacks an exercise, or has something else by its name."""
    path, cut, found = workbook.path, exercise.cut, workbook.names.get(exercise.cut.name)
    if workbook.candidates[exercise.id] is resolve(exercise.target)[0]:
        return wrapped(
            f"{exercise.name} in {place(path)} is the package's own, imported. Take it out of the import and write "
            f"yours; make start-{exercise.lesson} then adds the stub.",
            width,
        )
    if workbook.candidates[exercise.id] is not None:
        kind = "a class" if inspect.isclass(resolve(exercise.target)[0]) else "a function"
        return wrapped(f"In {place(path)}, {cut.name} is {describe(found)}; it should be {kind}.", width)
    renamed = under_its_heading(workbook.text, workbook.tree, workbook.exercises, exercise)
    if renamed is not None:
        return wrapped(wants_its_name(path, renamed, exercise), width)
    what = f"{cut.method} in a class {cut.name}" if cut.method else cut.name
    inside = swallowed(workbook.tree, exercise)
    if inside is not None:
        name, line = inside
        said = (
            f"{place(path, line)}: here begins what belongs to {exercise.name}, but it stands in {name}: the line with "
            f"its def is gone. Write it above line {line}:"
        )
        return f"{wrapped(said, width)}\n\n{textwrap.indent(signature(exercise), '    ')}"
    if before := outdated(workbook.tree, exercise):
        name, line = before
        said = (
            f"{place(path, line)}: {name} is {exercise.name} now, and takes other parameters. make "
            f"start-{exercise.lesson} adds the stub, and leaves your {name} as it is."
        )
        return wrapped(said, width)
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
    return wrapped(text, width)


def _is_own(value: Any, workbook: Workbook) -> bool:
    return getattr(value, "__module__", None) == workbook.names["__name__"]
