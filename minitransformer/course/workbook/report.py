"""What a check says to a person."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
import textwrap
import traceback
from collections.abc import Sized
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.course import show
from minitransformer.course.workbook import draw
from minitransformer.course.workbook.again import command
from minitransformer.course.workbook.book import (
    Workbook,
    ended,
    in_plain_words,
    lost_import,
    message_of,
    own_lines,
    parse,
    read,
    signature,
    swallowed,
    under_its_heading,
    wants_its_name,
)
from minitransformer.course.workbook.cut import place, resolve
from minitransformer.course.workbook.diagnose import Diagnosis, by_a_factor
from minitransformer.course.workbook.examine import Difference, Verdict, arguments, tensors
from minitransformer.course.workbook.exercise import Case, Exercise, bare, call, exercises, tidy
from minitransformer.errors import UserError


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
    case = exercise.cases[verdict.case]
    blocks = [] if told else [_wrapped(f"What it is for: {exercise.purpose}", width)]
    blocks += _input(exercise, case, verdict.case, width)
    blocks.append(_difference(verdict, difference, path, width))
    if diagnosis.mistakes:
        if difference.kind == "value" and isinstance(difference.expected, Tensor):
            blocks += itertools.islice(by_a_factor(difference.expected, difference.actual), 1)
        only = diagnosis.mistakes[0] if len(diagnosis.mistakes) == 1 else None
        if only and diagnosis.sure:
            blocks.append(_wrapped(f"Diagnosis: {only.name}. {ended(only.why)}", width))
        elif only:
            text = f"On this input, though not on every one, it behaves as if this were wrong: {only.name}. {only.why}"
            blocks.append(_wrapped(ended(text), width))
        else:
            head = (
                "Diagnosis: it could be one of these."
                if diagnosis.sure
                else ("On this input, though not on every one, it behaves as if one of these were wrong.")
            )
            listed = [_wrapped(f"- {one.name}: {ended(one.why)}", width, "  ") for one in diagnosis.mistakes]
            blocks.append("\n".join([_wrapped(head, width), *listed]))
    else:
        blocks += [_wrapped(f"Looks like this: {one}", width) for one in diagnosis.alike]
    return "\n\n".join(block for block in blocks if block)


def _wrapped(text: str, width: int, rest: str = "") -> str:
    return "\n".join(show.wrap(text, width, "", rest))


# ---------------------------------------------------------------- the input


def _input(exercise: Exercise, case: Case, number: int, width: int) -> list[str]:
    before = f"{number} smaller input{'s pass' if number > 1 else ' passes'}; it" if number else "It"
    title = f"{before} fails on {'this one' if number else 'the smallest input'}: {ended(case.label)}"
    again = f"To run it yourself:  {command(exercise.id, number + 1)}"
    again = again if len(again) <= width else again.replace(":  ", ":\n    ", 1)
    if case.is_scene:
        run = _made_so(case, scene_source(case).removeprefix("return "), width)
        return [_wrapped(title, width), *(["This is run:", *run] if run else []), again]
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
            said.append(f"{name}={_in_short(value)}")
    first = next((number for number, one in enumerate(said) if "=" in one), len(said))
    said[first:] = [one if "=" in one else f"{one}={one}" for one in said[first:]]
    drawn = "\n".join([*_call_of(exercise.name, said, width), *_indented(panels, width)])
    made = [] if is_plain else _made_so(case, _by_name(list(given), scene_source(case)), width)
    return [_wrapped(title, width), drawn, *(["These are made so:", *made] if made else []), again]


def _call_of(name: str, arguments: list[str], width: int) -> list[str]:
    """A call, four columns in; broken between arguments where it is too long for a line."""
    lines = [f"    {name}("]
    for number, one in enumerate(arguments, 1):
        piece = one + (", " if number < len(arguments) else ")")
        if len(lines[-1] + piece.rstrip()) > width and not lines[-1].endswith("("):
            lines.append(" " * 8)
        lines[-1] += piece
    return [line.rstrip() for line in lines] if arguments else [f"    {name}()"]


SHORT = 60
"""Characters that an argument may take in the line of a call."""


def _in_short(value: Any) -> str:
    """An argument as text; of a long one, what it is: of settings, those that are not as they are by default."""
    text = shown(value)
    if type(value).__module__.partition(".")[0] == "minitransformer" and is_dataclass(value):
        text = f"{type(value).__name__}({', '.join(_set(value))})"
        if len(text) > SHORT:
            return f"{type(value).__name__}(…)"
    has_no_text = type(value).__repr__ is object.__repr__ and "(…)" in text
    if len(text) <= SHORT and not has_no_text:
        return text
    kind = type(value).__name__
    article = "an" if kind[0].lower() in "aeio" else "a"
    return f"{article} {kind} of length {len(value)}" if isinstance(value, Sized) else f"{article} {kind}"


def _set(value: Any) -> list[str]:
    """The fields of a dataclass that differ from their defaults, as name=text."""
    texts = []
    for one in fields(value):
        own = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.init and one.repr and shown(own) != shown(default):
            text = shown(own)
            texts.append(f"{one.name}={text if len(text) <= SHORT // 2 else '…'}")
    return texts


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
    helpers = ["\n".join(show.wrap(line, width, "    ", "      ")) for line in _helpers(case, scene_source(case))]
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


# ---------------------------------------------------------------- the difference


def _difference(verdict: Verdict, difference: Difference, path: Path, width: int) -> str:
    kind, where = difference.kind, _named(difference.where, verdict)
    expected, actual = difference.expected, difference.actual
    what = "The output" if where == "the output" else where  # names begin as they begin in the code
    if kind in ("error", "exit"):
        return _raised(verdict, actual, expected, path, width)
    if kind == "refusal":
        said = _wrapped(f"The package refuses this with a UserError: {expected}", width)
        return f"{said}\nYours accepts it and returns {_describe(actual)}."
    if kind == "type":
        return _wrapped(f"{what} is {_describe(actual)}; it should be {_describe(expected)}.", width) + _of_no_value(
            actual
        )
    if kind == "length":
        return _wrapped(f"{what} has {len(actual)} parts; it should have {len(expected)}.", width) + _plainly(
            expected, actual, difference
        )
    if kind == "keys":
        return f"{what} has {shown(actual)}; it should have {shown(expected)}."
    if kind == "changed":
        head = f"The call changed its input {where}. It has to stay as it is: make a new tensor, write into that."
        return _wrapped(head, width) + _drawn(difference, width, "before", "after")
    if kind == "shared":
        return _wrapped(
            f"{what} lies in the same memory as the input {actual}, so that who changes one changes "
            "the other. The package returns a new tensor.",
            width,
        )
    if kind == "gradient" or expected is None or actual is None:
        if actual is None:
            return _wrapped(f"There is no {where.rstrip(',')}; there should be one.", width)
        return _wrapped(f"There is a {where.rstrip(',')}; there should be none.", width)
    if kind == "shape":
        text = f"{what} has the shape {tuple(actual.shape)}; it should be {tuple(expected.shape)}."
        if 0 < expected.numel() <= 64 and 0 < actual.numel() <= 64:
            panels = [("expected", draw.matrix(expected)), ("yours", draw.matrix(actual))]
            text += "\n\n" + "\n".join("    " + line for line in draw.beside(panels, width - 4))
        return text
    if kind == "device":
        return f"{what} lies on {_lies_on(actual)}; it should lie on {_lies_on(expected)}."
    if kind == "dtype":
        return f"{what} is made of {_dtype(actual)}; it should be made of {_dtype(expected)}."
    if isinstance(expected, Tensor):
        count = int(difference.wrong.sum())
        of = f"{count} of {expected.numel()} {'numbers' if expected.numel() > 1 else 'number'}"
        head = f"In {where.rstrip(',')}, of shape {tuple(expected.shape)}, {of} differ{'s' * (count == 1)}."
        if expected.dim() > 2 and expected.shape[:-2].numel() > 1:
            head += f" Here is {list(difference.index[:-2])}, the first where they do:"
        return _wrapped(head, width) + _drawn(difference, width, "expected", "yours")
    return _wrapped(f"{what} is not as it should be.", width) + _plainly(expected, actual, difference)


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


def _named(where: str, verdict: Verdict) -> str:
    """Which part of the output, in words: what a scene calls it, or its place."""
    if verdict.exercise.cases[verdict.case].is_scene:
        found = re.match(r"""output\[(?:'(.*?)'|"(.*?)")\](.*)""", where)
        if found:
            where = f'"{found[1] or found[2]}"' + (f", at {found[3]}," if found[3] else "")
    return "the output" if where == "output" else where


def _drawn(difference: Difference, width: int, left: str, right: str) -> str:
    if not isinstance(difference.expected, Tensor) or difference.wrong is None:
        return ""
    lines = draw.side_by_side(
        difference.expected, difference.actual, difference.wrong, difference.index, width - 4, (left, right)
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

    place_in = f"\n    They part at number {difference.index[0]} (counted from 0)." if difference.index else ""
    return f"\n\n    expected  {short(expected)}\n    yours     {short(actual)}{place_in}"


def _raised(verdict: Verdict, error: BaseException, expected: Any, path: Path, width: int) -> str:
    lines = own_lines(error, path)
    if isinstance(error, SystemExit):
        return f"Your code ends the program:\n\n{lines}"
    head = "Your code raises an exception:"
    if expected is not None:
        head = _wrapped(f"The package refuses this with a UserError: {expected}", width)
        head += "\nYours raises another exception:"
    more = _explained(verdict, error, path)
    if not more and isinstance(error, NameError) and path.exists():
        more = lost_import(error, parse(path, read(path)), exercises(verdict.exercise.lesson))
    folded = "\n".join(line if line.startswith("    ") else _wrapped(line, width) for line in more.split("\n"))
    return f"{head}\n\n{lines}" + (f"\n\n{folded}" if more else "")


def _explained(verdict: Verdict, error: BaseException, path: Path) -> str:
    """Plain words for exceptions that beginners meet."""
    if said := in_plain_words(error):
        return said
    text = message_of(error)
    if isinstance(error, UserError):
        return _refused(error, path)
    called = re.match(r"([\w.<>]+)\(\) (?:got|missing|takes) .*(?:argument|parameter)", text)
    if isinstance(error, TypeError) and called:
        return _called_wrongly(verdict, error, path, called[1])
    if (
        "inconsistent tensor size" in text
        or "size mismatch" in text
        or "must match the size" in text
        or "Sizes of tensors must match" in text
        or ("shapes cannot be multiplied" in text)
    ):
        return "Two shapes do not fit. Write the shape of each tensor beside its line; the input's stand above."
    return ""


def _refused(error: UserError, path: Path) -> str:
    """What to say of a refusal of what the package accepts: who refused what."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if frame.filename == str(path)]
    if not own:
        return "The package accepts this input."
    if frames[-1].filename == str(path):
        return "The package accepts this input; it is your code that refuses it."
    return (
        f"The package accepts this input. What it refuses is what your code gave it in line {own[-1]}: look at the "
        "arguments of that call."
    )


def _called_wrongly(verdict: Verdict, error: TypeError, path: Path, called: str) -> str:
    """What to say of a call that does not fit what it calls: whose call it was decides."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [frame for frame in frames if frame.f_code.co_filename == str(path)]
    exercise, candidate = verdict.exercise, verdict.candidate
    members = vars(candidate).values() if inspect.isclass(candidate) else (candidate,)
    if not own and called in {getattr(bare(member), "__qualname__", None) for member in members}:
        name, reference = exercise.name, resolve(exercise.target)[0]
        if inspect.isclass(reference):
            name, reference = called, vars(reference).get(called.rpartition(".")[2])
        try:
            wanted = str(inspect.signature(bare(reference))).replace("'", "")
        except (TypeError, ValueError):
            return ""
        return f"It is called as {name}{wanted}: keep its parameters as the stub has them."
    helper = _by_qualname(called, own[-1].f_globals if own else {})
    if not own or helper is None:
        return ""
    try:
        parameters = list(inspect.signature(helper).parameters.values())
    except (TypeError, ValueError):
        return ""
    if "." in called and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    takes = inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in parameters])
    about = inspect.cleandoc(getattr(helper, "__doc__", None) or "").split("\n\n")[0].replace("\n", " ")
    name = called.removesuffix(".__init__").removesuffix(".__new__")
    return f"{name} takes {takes}" + (f": {about}" if about and not inspect.isclass(helper) else ".")


def _by_qualname(qualname: str, names: dict[str, Any]) -> Any:
    """What an exception calls so: of the workbook, or of the package; None if neither has it."""
    first, *others = qualname.removesuffix(".__new__").split(".")
    modules = (vars(module) for name, module in sorted(sys.modules.items()) if name.startswith("minitransformer"))
    for one in (names, *modules):
        found = one.get(first)
        if found is None:
            continue
        for part in others:
            found = getattr(found, part, None)
        if callable(found) and (others or getattr(found, "__qualname__", "") == qualname or inspect.isclass(found)):
            return found
    return None


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
    text = "" if type(value).__repr__ is object.__repr__ else shown(value)
    return text if 0 < len(text) <= SHORT else f"{type(value).__name__}(…)"


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


def unwritten(exercise: Exercise, path: Path, line: int | None, width: int, told: bool = False) -> str:
    """What to say where nothing is written yet; what it is for only if that was not told before."""
    where = place(path, line)
    text = _wrapped(f"{exercise.id} {exercise.name} waits to be written: {where}.", width)
    return text if told else f"{text}\n\n{_wrapped(f'What it is for: {exercise.purpose}', width)}"


def absent(workbook: Workbook, exercise: Exercise, width: int) -> str:
    """What to say where the workbook lacks an exercise, or has something else by its name."""
    path, cut, found = workbook.path, exercise.cut, workbook.names.get(exercise.cut.name)
    if workbook.candidates[exercise.id] is resolve(exercise.target)[0]:
        return _wrapped(
            f"{exercise.name} in {place(path)} is the package's own, imported. Take it out of the import and write "
            f"yours; make start-{exercise.lesson} then adds the stub.",
            width,
        )
    if workbook.candidates[exercise.id] is not None:
        kind = "a class" if inspect.isclass(resolve(exercise.target)[0]) else "a function"
        return _wrapped(f"In {place(path)}, {cut.name} is {_describe(found)}; it should be {kind}.", width)
    renamed = under_its_heading(workbook.text, workbook.tree, workbook.exercises, exercise)
    if renamed is not None:
        return _wrapped(wants_its_name(path, renamed, exercise), width)
    what = f"{cut.method} in a class {cut.name}" if cut.method else cut.name
    inside = swallowed(workbook.tree, exercise)
    if inside is not None:
        name, line = inside
        said = (
            f"{place(path, line)}: here begins what belongs to {exercise.name}, but it stands in {name}: the line with "
            f"its def is gone. Write it above line {line}:"
        )
        return f"{_wrapped(said, width)}\n\n{textwrap.indent(signature(exercise), '    ')}"
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
