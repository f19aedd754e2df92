"""What an exercise is, and where the exercises are read from: lessons/exercises/lesson_NN.py.

formula = Exercise("2.3", "minitransformer.models.attention:attend_by_formula", title="The formula", …)

@formula.case
def one_query_two_keys():
    '''One query, two keys, no mask.'''
    return tidy(1, 1, 1, 2), tidy(1, 1, 2, 2), tidy(1, 1, 2, 2)

@formula.mistake
def no_scale(q, k, v, attention_mask=None):
    '''Your scores are not divided by √d_k: with d_k = 64 the softmax is already saturated.'''
    …
"""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from minitransformer.course.workbook.cut import Cut, cut
from minitransformer.course.workbook.moved import FORMER
from minitransformer.course.workbook.source import place, resolve
from minitransformer.errors import UserError


@dataclass(frozen=True)
class Case:
    """One thing to try an exercise on."""

    label: str
    """What it is, in a few words."""
    make: Callable[..., Any]
    """A call's arguments, or the scene itself, which is given what is tried."""
    is_scene: bool = False
    gradients: bool = False
    """Whether the gradients of floating-point inputs are compared as well."""
    oracle: Callable[..., Any] | None = None
    """What to compare with, if not the package's own code."""
    tolerance: float = 1e-5
    within: Callable[[], AbstractContextManager[Any]] | None = None
    """What a call runs inside of."""
    excuses: Callable[[BaseException], bool] | None = None
    """Of which exceptions of what is tried nothing follows."""


@dataclass(frozen=True)
class Call:
    """The arguments of a call of which some are given by keyword."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def call(*args: Any, **kwargs: Any) -> Call:
    """What a case returns where the target takes keyword arguments: `return call(logits, p=0.9)`."""
    return Call(args, kwargs)


@dataclass(frozen=True)
class Mistake:
    """A wrong answer as a learner would write it, and what to say about it."""

    name: str
    why: str
    code: Any
    """A function; for a method or a class, what stands in the class, or the class."""


@dataclass(eq=False)
class Exercise:
    """A function, method or small class of the package that the learner writes.

    Args:
        id: lesson and number, "2.3"; it stays for ever, for progress is kept by it.
        target: what is written, "minitransformer.models.attention:attend_by_formula".
        title: a few words.
        minutes: for somebody who has just read the lesson.
        difficulty: 1 a line, 2 a few lines, 3 a method.
        purpose: what the function is for, in a sentence or two.
        hints: three; the last is nearly the answer.
        given: what the learner may use beside the lesson's own tools, a line for each helper: its call, then what it
            does in a sentence, "split_heads(x, n_head): (B, T, C) → (B, H, T, D)".
        unasked: which of the questions to every exercise (general.py) do not apply to this one.
        oracle: a function with the target's signature to compare with (a torch built-in, a plain loop); the package's
            own code if None.
        tolerance: how far numbers may be off, absolutely.
    """

    id: str
    target: str
    title: str
    minutes: float
    difficulty: int
    purpose: str
    hints: tuple[str, str, str]
    given: tuple[str, ...] = field(default=(), kw_only=True)
    unasked: tuple[str, ...] = field(default=(), kw_only=True)
    oracle: Callable[..., Any] | None = None
    tolerance: float = 1e-5
    cases: list[Case] = field(default_factory=list, repr=False)
    mistakes: list[Mistake] = field(default_factory=list, repr=False)
    path: Path | None = field(default=None, repr=False)
    """The file that defines it."""
    general: tuple[list[Case], list[Case]] | None = field(default=None, init=False, repr=False)
    """What general.py has made of its cases: of which, and what."""

    # -------------------------------------------------------- for authors

    def case(self, make: Callable[[], Any] | None = None, **options: Any) -> Any:
        """Add a call: the decorated function gives its arguments, and its docstring is the label.

        It returns one argument, or a tuple of them, or `call(…)` with keywords.
        The random generators are seeded before it. Options: `gradients=True`, `oracle=…` (None for the package's own
        code), `tolerance=…`. For a method, the first argument is self.
        """
        return self._added(make, False, options)

    def scene(self, play: Callable[[Any], Any] | None = None, **options: Any) -> Any:
        """Add something that takes more than a call.

        The decorated function is given the function that is tried, or the class of the method, and returns what it
        observed (several things as a dictionary by name). Its source is shown when it fails. While it runs, the
        switch is on: the whole package runs on what is tried.
        """
        return self._added(play, True, options)

    def _added(self, function: Callable[..., Any] | None, is_scene: bool, options: dict[str, Any]) -> Any:
        if function is None:
            return lambda function: self._added(function, is_scene, options)
        label = inspect.getdoc(function) or function.__name__.replace("_", " ")
        settings = {"oracle": None if is_scene else self.oracle, "tolerance": self.tolerance} | options
        self.cases.append(Case(" ".join(label.split()).rstrip("."), function, is_scene, **settings))
        return function

    def mistake(self, code: Any, called: str = "") -> Any:
        """Add a wrong answer: its name is the mistake's, its docstring says what is wrong and why.

        A name with capitals or signs is given: `@pair.mistake("no [SEP]")`. Where the same mistake gives other numbers
        or another exception if it is written in another way, the other way is added under the same name, without a
        docstring.
        """
        if isinstance(code, str):
            return lambda function: self.mistake(function, code)
        why = inspect.getdoc(code) or self._why(called)
        if not why:
            raise UserError(
                f"{self.who}: the mistake {called or code.__name__} has no docstring, which says why it is wrong."
            )
        member = resolve(self.target, self.who)[0]
        if isinstance(member, property | staticmethod | classmethod):
            code = type(member)(code)
        name = getattr(code, "__name__", None) or code.fget.__name__
        self.mistakes.append(Mistake(called or name.replace("_", " "), " ".join(why.split()), code))
        return code

    def _why(self, name: str) -> str:
        """What is said of a mistake that is known already; "" if it is not."""
        return next((one.why for one in self.mistakes if one.name == name), "")

    def slip(self, name: str, why: str, *edits: tuple[str, str]) -> None:
        """Add a wrong answer to a longer function, as edits of the package's own: (what stands there, what instead).

        Another way to write a mistake of the same name is added with "" for why.

        Raises:
            UserError: what should stand there does not, or more than once; or nothing says why it is wrong.
        """
        why = why or self._why(name)
        if not why:
            raise UserError(f"{self.who}: nothing says why the mistake {name!r} is wrong.")
        text = self.cut.solution
        for old, new in edits:
            if text.count(old) != 1:
                raise UserError(
                    f"{self.who}: the mistake {name!r} replaces {old!r}, which the solution has {text.count(old)} "
                    "times; once is right."
                )
            text = text.replace(old, new)
        self.mistakes.append(Mistake(name, why, self.from_source(text, f"<{self.id} {name}>")))

    # -------------------------------------------------------- for the machinery

    @property
    def who(self) -> str:
        """How errors call it."""
        return f"exercise {self.id}" + (f" ({place(self.path)})" if self.path else "")

    @property
    def lesson(self) -> int:
        """The lesson's number."""
        return int(self.id.partition(".")[0])

    @property
    def number(self) -> int:
        """Its number in the lesson."""
        return int(self.id.partition(".")[2])

    @property
    def name(self) -> str:
        """What is written: "attend_by_formula", "KVCache.append"."""
        return self.target.partition(":")[2]

    @property
    def cut(self) -> Cut:
        """Stub and solution."""
        return cut(self.target, self.who, self.given)

    @cached_property
    def parameters(self) -> list[str]:
        """The names of the target's parameters, self included."""
        return list(inspect.signature(bare(resolve(self.target, self.who)[0])).parameters)

    @property
    def former(self) -> str | None:
        """What it was called in an earlier course, if that was something else."""
        before = FORMER.get(self.id)
        return None if before == self.name else before

    @property
    def stars(self) -> str:
        """The difficulty, drawn."""
        return "●" * self.difficulty + "○" * (3 - self.difficulty)

    def from_source(self, text: str, filename: str) -> Any:
        """Run source such as the cut's in the names of the package's module; gives what is tried.

        Raises:
            SyntaxError: it does not parse.
        """
        names = dict(vars(sys.modules[self.cut.module] if self.cut.module in sys.modules else self._module()))
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile("from __future__ import annotations\n" + text, filename, "exec"), names)
        return self.taken_from(names)

    def _module(self) -> ModuleType:
        resolve(self.target, self.who)
        return sys.modules[self.cut.module]

    def taken_from(self, names: dict[str, Any], called: str = "") -> Any:
        """What a namespace has for this exercise: the function, the class, or the method out of it; None if nothing.

        Args:
            names: the namespace.
            called: by which name to look; the exercise's own by default.
        """
        name, _, method = (called or self.name).partition(".")
        found = names.get(name)
        if not method:
            return found
        owner = resolve(self.target, self.who)[1]
        for cls in found.__mro__ if inspect.isclass(found) else ():
            if cls is owner:
                break
            if method in vars(cls):
                return vars(cls)[method]
        return None


def bare(member: Any) -> Any:
    """What stands in a class as a function that takes self (or the class) first."""
    if isinstance(member, property):
        return member.fget
    return getattr(member, "__func__", member)  # of a staticmethod or a classmethod


def tidy(*shape: int) -> Any:
    """Random numbers of one decimal, normally distributed, which are easy to read when they are shown."""
    import torch

    return (10 * torch.randn(shape)).round() / 10 + 0.0  # + 0.0 makes 0 of -0
