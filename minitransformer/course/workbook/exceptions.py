"""What an exception of a learner's code means, in plain words, with the lines that are the learner's own."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

from torch import nn

from minitransformer.course.workbook.examine import Verdict
from minitransformer.course.workbook.exercise import Exercise, bare
from minitransformer.course.workbook.general import is_of_devices
from minitransformer.course.workbook.imports import header
from minitransformer.course.workbook.moved import MEMBERS, PARAMETERS, said_of
from minitransformer.course.workbook.reading import binds
from minitransformer.course.workbook.source import resolve
from minitransformer.course.workbook.switch import TRAMPOLINES
from minitransformer.course.workbook.words import printable
from minitransformer.errors import UserError


def in_plain_words(error: BaseException) -> str:
    """What an exception means that beginners meet anywhere; nothing for others."""
    text = message_of(error)
    if isinstance(error, RecursionError):
        return "A function called itself without end."
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "not enough memory" in text:
        return "It asked for more memory than a check may use. Which of its tensors or lists grows?"
    if isinstance(error, EOFError) and "EOF when reading a line" in text:
        return "It waits for somebody to type something (input); nobody is there in a check."
    if before := re.search(r"unexpected keyword argument '(\w+)'", text):
        if isinstance(error, TypeError) and (now := PARAMETERS.get(before[1])):
            return f"What was called {before[1]} in an earlier course is called {now} now."
    name = error.name if isinstance(error, AttributeError) else None
    if name in MEMBERS:
        return f"What was called {name} in an earlier course is called {MEMBERS[name]} now."
    if isinstance(error, AttributeError) and "before Module.__init__() call" in text:
        return "A class that is an nn.Module calls super().__init__() first, before it sets its parts."
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, TypeError) and codes[-1:] == [nn.Module.__init__.__code__]:
        return "The class above yours is an nn.Module: its super().__init__() takes no arguments."
    lost = error.name if isinstance(error, ModuleNotFoundError) else None
    if lost and (said := said_of(lost)):
        return said
    found = re.match(r"cannot import name '(\w+)' from '(minitransformer[\w.]*)'", text)
    if isinstance(error, ImportError) and found:
        near = difflib.get_close_matches(found[1], vars(sys.modules[found[2]]), 1)
        return (
            f"The course has no {found[1]} there{f'; did you mean {near[0]}?' if near else '.'} If an upgrade of the "
            "course gave it another name or took it away, change that line; if nothing below uses it, take it out."
        )
    return ""


def lost_import(error: BaseException, tree: ast.Module, some: list[Exercise]) -> str:
    """What to say of a name that is not defined because its import was taken out; nothing of others."""
    name = getattr(error, "name", None) if isinstance(error, NameError) else None
    # (A class X(X) needs its import.)
    if name is None or any(name in binds(node) for node in tree.body if not isinstance(node, ast.ClassDef)):
        return ""
    lines = header([one.cut for one in some], "this workbook")
    for node in ast.parse("\n".join(lines)).body:
        for alias in getattr(node, "names", ()):
            if name == (alias.asname or alias.name):
                node.names = [alias]
                return (
                    f"A new workbook imports it in its first lines; this one does not. Write this line there:\n\n"
                    f"    {ast.unparse(node)}"
                )
    return ""


def message_of(error: BaseException) -> str:
    """What an exception says, whatever its class makes of that."""
    try:
        return str(error).strip()
    except Exception as second:  # a learner's own __str__
        return f"(its message cannot be shown: {type(second).__name__})"


def own_lines(error: BaseException, path: Path) -> str:
    """An exception with only those lines of its traceback that stand in the workbook."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    lines = [f"    line {frame.lineno}, in {frame.name}:  {frame.line}" for frame in frames]
    if len(lines) > 6:
        lines = [*lines[:3], f"    … {len(lines) - 5} more …", *lines[-2:]]
    if isinstance(error, SystemExit):
        return "\n".join([*lines, "    It called exit, which ends a program; a function ends with return."])
    said = printable(message_of(error))
    said = said if len(said) < 800 else said[:800] + " …"
    kind = type(error).__name__
    return "\n".join([*lines, textwrap.indent(f"{printable(kind)}: {said}" if said else printable(kind), "    ")])


def explained(verdict: Verdict, error: BaseException, path: Path) -> str:
    """Plain words for exceptions that beginners meet."""
    if isinstance(error, RecursionError) and (said := _calls_the_package(verdict, error)):
        return said
    if said := in_plain_words(error):
        return said
    text = message_of(error)
    if isinstance(error, UserError):
        return _refused(error, path)
    called = re.match(r"([\w.<>]+)\(\) (?:got|missing|takes) .*(?:argument|parameter)", text)
    if isinstance(error, TypeError) and called:
        return _called_wrongly(verdict, error, path, called[1])
    if is_of_devices(error):
        return MADE_ELSEWHERE
    if (
        "inconsistent tensor size" in text
        or "size mismatch" in text
        or "must match the size" in text
        or "Sizes of tensors must match" in text
        or ("shapes cannot be multiplied" in text)
    ):
        return "Two shapes do not fit. Write the shape of each tensor beside its line; the input's stand above."
    return ""


MADE_ELSEWHERE = "A tensor that your code makes has to lie where its input lies: device=x.device, or x.new_zeros(…)."


def _calls_the_package(verdict: Verdict, error: RecursionError) -> str:
    """What to say where code calls what it stands in for; nothing where it calls itself by its own name."""
    cut = verdict.exercise.cut
    if any(frame.f_code in TRAMPOLINES for frame, _ in traceback.walk_tb(error.__traceback__)):
        return (
            f"Your {cut.name} calls the package's {cut.name}. During a check, and in a lesson on your code, yours "
            "stands in its place, and so it calls itself without end. Write out what it has to do."
        )
    if cut.method is not None:
        return (
            f"Your {cut.method} calls itself without end. During a check it stands in the package's class "
            f"{cut.name}, and so {cut.name}.{cut.method} is yours. Write out what it has to do."
        )
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


def stopped(error: BaseException, path: Path) -> str:
    """What to say where the check itself could not go on."""
    lines = own_lines(error, path)
    if isinstance(error, RecursionError) and not lines.startswith("    line "):
        return f"The check could not follow what your code gives back; does something contain itself?\n\n{lines}"
    return f"Your code stopped the check itself:\n\n{lines}"
