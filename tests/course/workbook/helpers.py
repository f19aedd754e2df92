"""A course of three exercises on a module of toys, and what tests of the workbook do with it."""

import linecache
import sys
from pathlib import Path

import torch

from minitransformer.course.workbook import book, catalogue, exercise, sandbox
from minitransformer.course.workbook.check import check

TOYS = '''"""A module to cut exercises from."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from minitransformer.errors import UserError


def running_sum(x: Tensor) -> Tensor:
    """Each number plus all before it, (T) → (T)."""
    # This comment belongs to the answer.
    total, sums = torch.zeros(()), []
    for value in x:
        total = total + value
        sums.append(total)
    return torch.stack(sums)


def mean(x: Tensor, empty: float = 0.0) -> tuple[Tensor, int]:
    """The mean of numbers (T), and how many there are.

    Raises:
        UserError: x is no vector.
    """
    if x.dim() != 1:
        raise UserError("x has to be a vector.")
    count = x.numel()
    value = x.sum() / count
    return value, count


class Base:
    """What a counter counts from."""

    def start(self) -> int:
        """Where it begins."""
        return 10


class Counter(Base):
    """Counts."""

    def __init__(self, step: int = 1) -> None:
        self.step = step
        self.n = self.start()

    def add(self, x: Tensor) -> int:
        """Count the numbers of x; gives how many so far."""
        self.n += self.step * x.numel()
        return self.n

    def start(self) -> int:
        """Where it begins: one after the base's."""
        return super().start() + 1

    @staticmethod
    def twice(x: int) -> int:
        """Two times x."""
        return 2 * x

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return (self.n - self.start()) // self.step


def rest(x: Tensor) -> Tensor:
    """All numbers but the first, (T) → (T − 1): a view."""
    return x[1:]


@lru_cache
def cached(n: int) -> int:
    """n squared."""
    return n * n


@contextmanager
def opened(name: str):
    """Yields the name in capitals."""
    yield name.upper()


def by_default(x: Tensor, function=running_sum) -> Tensor:
    """The function, by a default argument."""
    return function(x)


TABLE = {"sum": running_sum}
'''

EXERCISES = '''"""Exercises of lesson 1."""

import torch

from minitransformer.course.workbook import Exercise, tidy

sums = Exercise(
    "1.1", "toys:running_sum", title="Running sums", minutes=5, difficulty=1, purpose="It adds up.",
    hints=("First hint.", "Second hint.", "    torch.cumsum(x, 0)"), oracle=lambda x: torch.cumsum(x, 0),
)


@sums.case
def two():
    """Two numbers."""
    return tidy(2)


@sums.case(gradients=True)
def five():
    """Five numbers."""
    return tidy(5)


@sums.mistake
def first_left_out(x):
    """Each sum lacks its own number."""
    return torch.cumsum(x, 0) - x


@sums.mistake
def from_the_end(x):
    """You add from the end."""
    return x.flip(0).cumsum(0).flip(0)


@sums.mistake
def no_sum(x):
    """You return the numbers themselves."""
    return x.clone()


@sums.mistake
def only_the_total(x):
    """You return the total alone."""
    return x.sum()


@sums.mistake
def detached(x):
    """No gradient goes through."""
    return torch.cumsum(x.detach(), 0)


means = Exercise(
    "1.2", "toys:mean", title="A mean", minutes=10, difficulty=2, purpose="The middle of numbers.",
    hints=("Sum.", "Divide.", "    x.sum() / count"),
)


@means.case
def of_three():
    """Three numbers."""
    return tidy(3)


@means.case
def of_a_matrix():
    """A matrix is refused."""
    return tidy(2, 2)


means.slip("sum for mean", "You forgot to divide.", ("x.sum() / count", "x.sum()"))
means.slip("one too few", "You divide by n - 1.", ("x.sum() / count", "x.sum() / (count - 1)"))
means.slip("twice", "You count twice.", ("count = x.numel()", "count = 2 * x.numel()"))
means.slip("minus", "A wrong sign.", ("x.sum() / count", "-x.sum() / count"))

adding = Exercise(
    "1.3", "toys:Counter.add", title="Count on", minutes=3, difficulty=3, purpose="It counts.",
    hints=("See self.n.", "Add to it.", "    self.n += …"),
)


@adding.scene
def twice(Counter):
    """Three numbers, then two."""
    counter = Counter(step=2)
    return {"first": counter.add(torch.zeros(3)), "then": counter.add(torch.zeros(2)), "n": counter.n}


@adding.mistake
def step_forgotten(self, x):
    """You count by one; the step is self.step."""
    self.n += x.numel()
    return self.n


@adding.mistake
def not_kept(self, x):
    """You do not keep the sum in self.n."""
    return self.n + self.step * x.numel()


@adding.mistake
def started_anew(self, x):
    """You begin anew at each call."""
    self.n = self.step * x.numel()
    return self.n


@adding.mistake
def returns_nothing(self, x):
    """You return nothing."""
    self.n += self.step * x.numel()
'''


def the(identity: str) -> exercise.Exercise:
    return next(one for one in catalogue.exercises(int(identity[0])) if one.id == identity)


def write_workbook(text: str | None = None, solved=("1.1", "1.2", "1.3"), edits=()) -> Path:
    """A workbook of lesson 1 with these solved and these replacements in its text."""
    text = book.new_text(1, catalogue.exercises(1), solved) if text is None else text
    for old, new in edits:
        assert text.count(old) >= 1, f"the workbook has no {old!r} to replace:\n{text}"
        text = text.replace(old, new, 1)
    path = book.workbook_path(1)
    book.write(path, text)
    linecache.checkcache()
    return path


def check_here(only=None, every=False, told=()) -> dict[str, dict]:
    """Check the workbook of lesson 1 in this process: results by id, a problem under "problem"."""
    results: dict[str, dict] = {}

    def emit(**event):
        if event["event"] not in ("begin", "case"):
            results[event.get("id", event["event"])] = event

    check(catalogue.exercises(1), book.workbook_path(1), {"only": only, "all": every, "told": told, "width": 88}, emit)
    return results


class SandboxHere:
    """Stands in for the child process where a test is about something else."""

    def check(self, lesson, path, only=None, every=False, told=(), asked=(), on_result=lambda result: None, **limits):
        answer = sandbox.Answer()
        for key, event in check_here(only, every, told).items():
            if key == "problem":
                answer.problem = event["text"]
            else:
                answer.results[key] = event
                on_result(event)
        return answer

    def close(self):
        pass


CLASS = '''

class Pair:
    """Two numbers.

    Made by `Pair(a, b)`.
    """

    a: int
    """The first of them."""
    names = ("what the learner", "has to find")

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b

    def total(self, times: int = 1) -> int:
        """Both added, so many times."""
        return self._weighted(times, times)

    def _weighted(self, one: int, other: int) -> int:
        return one * self.a + other * self.b
'''

PAIR = '''"""Exercises of lesson 1."""

from minitransformer.course.workbook import Exercise

pair = Exercise(
    "1.1", "toys:Pair", title="A pair", minutes=5, difficulty=3, purpose="It is two.", hints=("a", "b", "    c"),
)


@pair.case
def made():
    """One and two."""
    return 1, 2


@pair.scene
def added(Pair):
    """Added, and added thrice."""
    pair = Pair(3, 4)
    return {"once": pair.total(), "thrice": pair.total(3), "a": pair.a}


pair.slip("first twice", "You take a twice.", ("other * self.b", "other * self.a"))
pair.slip("times left out", "You forget times.", ("self._weighted(times, times)", "self._weighted(1, 1)"))
pair.slip("minus", "You subtract.", ("self.a + other", "self.a - other"))
pair.slip("turned round", "You exchange them.", ("self.a, self.b = a, b", "self.b, self.a = a, b"))
'''

GIVEN = (
    "rest(x): all numbers but the first.",
    "self.step: what one number counts, " + "as it was given to the class when the counter was made, " * 2,
)


def add_given(tmp_path, given=GIVEN, target="toys:Counter.add"):
    path = tmp_path / "lessons" / "exercises" / "lesson_01.py"
    path.write_text(EXERCISES.replace('"toys:Counter.add",', f'"{target}", given={given!r},'), "utf-8")
    sys.modules.pop("lesson_01_exercises", None)


SUM = "    return torch.stack(sums)"

ADD = "        self.n += self.step * x.numel()\n        return self.n"

A = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.6, 0.1, 0.3]])

LOWER = torch.ones(4, 4, dtype=torch.bool).tril()

LESSON = '''"""A lesson that trains

question: Does it run?
minutes: 1
documents: none
needs: nothing
"""

# %% [markdown]
# ## Training

# %%
import torch

from minitransformer.course.show import say
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.training.loop import TrainConfig, train

torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=11, n_positions=16, n_layer=2, n_head=2, d_model=8, d_ff=16))
ids = torch.randint(0, 11, (4, 9))
log = train(model, lambda i: {"ids": ids}, TrainConfig(steps=12, lr=1e-2), valid=[{"ids": ids}], progress=False)
say(f"trained {len(log.train)}")
'''


class SupplyHere:
    """Gives such stand-ins."""

    def sandbox(self):
        return SandboxHere()

    def prepare(self):
        pass

    def close(self):
        pass
