"""The exercise machinery: stubs are cut, answers are judged, mistakes are named, and no work is ever lost."""

import functools
import linecache
import math
import re
import sys
import threading
import time
import types
from copy import copy
from pathlib import Path

import pytest
import torch

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.workbook import book, call, commands, cut, draw, exercise, mine, report, sandbox, verify
from minitransformer.course.workbook.again import again
from minitransformer.course.workbook.again import command as again_command
from minitransformer.course.workbook.again import main as run_again
from minitransformer.course.workbook.check import check
from minitransformer.course.workbook.diagnose import diagnose, is_left_empty, narrowed, numbers_alike, shapes_alike
from minitransformer.course.workbook.examine import Examination, compare, seeded
from minitransformer.course.workbook.shortcuts import attend, plain_paths
from minitransformer.course.workbook.switch import switched
from minitransformer.errors import UserError
from minitransformer.models import attention
from minitransformer.models.attention import Attention
from minitransformer.training import loop as training
from tests.conftest import ROOT
from tests.helpers import GPT_CONFIG, random_ids, tiny_gpt

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
    # ⟨answer⟩
    count = x.numel()
    value = x.sum() / count
    # ⟨/answer⟩
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


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    """A course with three exercises in a temporary folder; gives the module that they are cut from."""
    (tmp_path / "toys.py").write_text(TOYS, encoding="utf-8")
    folder = tmp_path / "lessons" / "exercises"
    folder.mkdir(parents=True)
    (folder / "lesson_01.py").write_text(EXERCISES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "88")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    fresh = ("toys", "user_of_toys", "lesson_01_exercises", "lesson_02_exercises")
    for name in fresh:
        sys.modules.pop(name, None)
    import toys

    yield toys
    for name in fresh:
        sys.modules.pop(name, None)


def the(identity: str) -> exercise.Exercise:
    return next(one for one in exercise.exercises(int(identity[0])) if one.id == identity)


def write_workbook(text: str | None = None, solved=("1.1", "1.2", "1.3"), edits=()) -> Path:
    """A workbook of lesson 1 with these solved and these replacements in its text."""
    text = book.new_text(1, exercise.exercises(1), solved) if text is None else text
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

    check(exercise.exercises(1), book.workbook_path(1), {"only": only, "all": every, "told": told, "width": 88}, emit)
    return results


class SandboxHere:
    """Stands in for the child process where a test is about something else."""

    def check(self, lesson, path, only=None, every=False, told=(), on_result=lambda result: None, **limits):
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


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(commands, "Sandbox", SandboxHere)
    monkeypatch.setattr(mine, "Sandbox", SandboxHere)


# ----------------------------------------------------------------------- stubs and solutions


def test_a_stub_is_signature_docstring_and_one_place_to_write():
    stub = the("1.1").cut.stub
    assert stub.splitlines() == [
        "def running_sum(x: Tensor) -> Tensor:",
        '    """Each number plus all before it, (T) → (T)."""',
        "    # Your code stands here, in place of the next line.",
        '    raise NotImplementedError("write this")',
    ]


def test_a_solution_is_the_source_itself(toys):
    import inspect

    assert the("1.1").cut.solution == inspect.getsource(toys.running_sum).rstrip("\n")


def test_a_marked_part_leaves_the_rest():
    one = the("1.2").cut
    assert one.answer == "count = x.numel()\nvalue = x.sum() / count"
    assert "⟨" not in one.stub + one.solution and "x.sum()" not in one.stub
    assert 'raise UserError("x has to be a vector.")' in one.stub and "return value, count" in one.stub


def test_a_method_stands_in_its_class_with_what_it_may_count_on():
    stub = the("1.3").cut.stub
    assert stub.startswith("class Counter(Counter):\n")
    about = "A subclass of the package's Counter under the same name: `add` is yours, the rest is inherited."
    assert about in stub.split("\n")[1], "the stub should say what class X(X) means"
    assert "    #     self.step = step\n" in stub, "the stub should show, as a comment, what __init__ sets"
    assert "self.n += " not in stub


def test_a_class_keeps_its_signatures():
    one = cut.cut("toys:Counter")
    for line in ("class Counter(Base):", "    def add(self, x: Tensor) -> int:", "    @staticmethod"):
        assert line in one.stub
    assert one.stub.count(cut.PLACE) == 5 and "numel" not in one.stub
    compile(one.stub, "stub", "exec")


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


def test_a_whole_class_can_be_an_exercise(toys):
    """Signatures, docstrings and fields stay in the stub, so they are no answer that leaks."""
    Path(toys.__file__).write_text(TOYS + CLASS, encoding="utf-8")
    sys.modules.pop("toys")
    exercise.files()[1].write_text(PAIR, encoding="utf-8")
    one = the("1.1").cut
    assert '"""The first of them."""' in one.stub and "def total(self, times: int = 1) -> int:" in one.stub
    for secret in ("_weighted", "has to find", "self.b"):
        assert secret not in one.stub
    assert verify.verify_lesson(1) == []
    said = write_workbook(solved=("1.1",), edits=[("other * self.b", "other * self.b + 1")]) and check_here()["1.1"]
    assert said["state"] == "failed" and '"once" is not as it should be. expected 7' in " ".join(said["text"].split())


def test_what_leaks_from_a_class_is_found(toys):
    leaking = CLASS.replace("Both added, so many times.", "return self._weighted(times, times), in other words.")
    Path(toys.__file__).write_text(TOYS + leaking, encoding="utf-8")
    sys.modules.pop("toys")
    exercise.files()[1].write_text(PAIR[: PAIR.index("pair.slip")], encoding="utf-8")
    assert any("shows a line of the answer: return self._weighted(times" in text for text in verify.verify_lesson(1))


def test_the_top_of_a_workbook_is_aligned_and_true(monkeypatch):
    for number in (1, 11):
        monkeypatch.setattr(course, "lesson_files", dict)
        top = book.new_text(number, exercise.exercises(1)).split('"""')[1]
        rows = re.findall(r"^    (make \S+ +)(?=\S)", top, re.M)
        assert len(rows) == 6 and len(set(map(len, rows))) == 1, top
        assert "nothing but you" not in top and f"make reset-{number}.2" in top and f"make start-{number} " in top


def test_imports_do_not_give_the_answer_away():
    text = book.new_text(1, exercise.exercises(1))
    assert "lru_cache" not in text and "contextmanager" not in text, "nothing in this workbook uses them"
    assert "import torch\n" in text and "from torch import Tensor\n" in text
    assert "from toys import Counter\n" in text, "a method's class is imported, to inherit from"
    assert not re.search(r"import.*\brunning_sum\b", text), "what is to be written must not be imported"


def test_a_page_folds_hints_and_solution_away():
    page = exercise.page(the("1.1"))
    before, _, after = page.partition("<details>")
    assert "running_sum" in before and "torch.stack" not in before and "Hint" not in before
    assert page.count("<details>") == 4 and "torch.stack" in after


@pytest.mark.parametrize(
    "target, says",
    [
        ("toys.running_sum", "is not of the form"),
        ("toyz:running_sum", "there is no module toyz"),
        ("toys:runing_sum", "has no runing_sum; did you mean running_sum?"),
        ("toys:Counter.ad", "Counter in .*toys.py has no ad"),
        ("toys:TABLE", "has no TABLE"),
        ("toys:bare", "bare .* has no docstring"),
        ("toys:empty", "has an empty body"),
        ("toys:unwritten", "has an empty body"),
        ("toys:short", "write short's body on lines of its own"),
        ("toys:Empty", "has no method with a body"),
    ],
)
def test_a_broken_target_is_named(toys, target, says):
    path = Path(toys.__file__)
    extra = (
        "\n\ndef bare(x):\n    return x\n\n\ndef empty(x):\n    '''Doc.'''\n    ...\n\n\ndef unwritten(x):\n"
        "    '''Doc.'''\n    raise NotImplementedError\n\n\ndef short(x): '''Doc.'''; return x\n\n\n"
        "class Empty:\n    '''Doc.'''\n    a: int = 1\n"
    )
    path.write_text(TOYS + extra, encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        cut.cut(target, "exercise 9.9 (file.py)")
    assert "9.9" in str(error.value) or "toys.py" in str(error.value)


@pytest.mark.parametrize(
    "body, line, says",
    [
        ("    # ⟨answer⟩\n    y = x\n    return y\n", 3, "never closed"),
        ("    y = x\n    # ⟨/answer⟩\n    return y\n", 4, "closes what nothing opened"),
        ("    # ⟨/answer⟩\n    y = x\n    # ⟨answer⟩\n    return y\n", 3, "before its"),
        ("    # ⟨answer⟩\n    # ⟨answer⟩\n    y = x\n    # ⟨/answer⟩\n    return y\n", 4, "second ⟨answer⟩"),
        ("    # ⟨answer⟩\n    y = x\n    # ⟨/answer⟩\n" * 2 + "    return y\n", 6, "more than one"),
        ("    # ⟨answer⟩\n    # ⟨/answer⟩\n    return x\n", 3, "nothing stands between"),
        ("    # ⟨answer⟩\n    if x:\n    # ⟨/answer⟩\n        return x\n", 3, "whole statements"),
        ("    y = x  # ⟨answer⟩\n    # ⟨/answer⟩\n    return y\n", 3, "line of its own"),
    ],
)
def test_a_broken_marker_is_an_error_with_its_place(toys, body, line, says):
    Path(toys.__file__).write_text(f"def f(x):\n    '''Doc.'''\n{body}", encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        cut.cut("toys:f", "exercise 9.9")
    assert f"toys.py:{line}:" in str(error.value)


def test_markers_that_no_exercise_uses_are_found(toys):
    folder = Path(toys.__file__).parent
    assert cut.unused_markers(["toys:mean"], folder) == []
    assert len(cut.unused_markers(["toys:running_sum"], folder)) == 2


@pytest.mark.parametrize(
    "text, target",
    [
        ("def f(x):\n    '''Doc.'''\n    y = 2 * x\n    # ⟨answer⟩\n    return y\n    # ⟨/answer⟩\n", "toys:f"),
        (
            "def f(x):\n    '''Doc.'''\n    y = 2 * x\n    # ⟨answer⟩\n    return y\n\n    # ⟨/answer⟩\n\n\nX = 1\n",
            "toys:f",
        ),
        (
            "class A:\n    '''Doc.'''\n\n    def f(self, x):\n        '''Doc.'''\n        y = 2 * x\n        # ⟨answer⟩\n"
            "        return y\n        # ⟨/answer⟩\n\n    def g(self):\n        return 1\n",
            "toys:A.f",
        ),
    ],
)
def test_a_marker_may_be_the_last_line(toys, text, target):
    Path(toys.__file__).write_text(text, encoding="utf-8")
    one = cut.cut(target, "exercise 9.9")
    assert one.answer == "return y"
    assert "y = 2 * x" in one.stub and "return y" not in one.stub and one.stub.endswith(cut.PLACE)
    assert one.solution.endswith("    return y") and "⟨" not in one.solution
    assert cut.unused_markers([target], Path(toys.__file__).parent) == []


def test_a_marker_behind_a_function_is_not_its_last_line(toys):
    text = "def f(x):\n    '''Doc.'''\n    # ⟨answer⟩\n    return x\n\n\n# ⟨/answer⟩\ndef g(x):\n    return x\n"
    Path(toys.__file__).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="never closed"):
        cut.cut("toys:f", "exercise 9.9")


def test_a_marker_in_a_string_is_none(toys):
    Path(toys.__file__).write_text("def f(x):\n    '''Doc.'''\n    return '''\n# ⟨answer⟩\n'''\n", encoding="utf-8")
    assert cut.cut("toys:f").answer.lstrip().startswith("return")


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('"1.1", "toys', '"2.1", "toys', "its id should be 1.1, 1.2"),
        ('"1.2", "toys', '"1.1", "toys', "a second exercise has this id"),
        ('"    torch.cumsum(x, 0)"', '""', "three hints"),
        ("minutes=5", "minutes=0", "minutes should be"),
        ('("x.sum() / count", "x.sum()")', '("x.prod()", "x.sum()")', "which the solution has 0 times"),
        ('    """You return nothing."""\n', "", "has no docstring"),
    ],
)
def test_a_malformed_exercise_names_itself(toys, old, new, says):
    path = exercise.files()[1]
    path.write_text(EXERCISES.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=says):
        exercise.exercises(1)


def test_lessons_without_exercises_say_so():
    with pytest.raises(UserError, match="Lesson 7 has no exercises; the lessons that have some are 1"):
        exercise.exercises(7)
    with pytest.raises(UserError, match=r"There is no exercise 1.9; lesson 1 has 1.1, 1.2, 1.3"):
        exercise.find("1.9")


# ----------------------------------------------------------------------- what may be used

GIVEN = (
    "rest(x): all numbers but the first.",
    "self.step: what one number counts, " + "as it was given to the class when the counter was made, " * 2,
)


def add_given(tmp_path, given=GIVEN, target="toys:Counter.add"):
    path = tmp_path / "lessons" / "exercises" / "lesson_01.py"
    path.write_text(EXERCISES.replace('"toys:Counter.add",', f'"{target}", given={given!r},'), "utf-8")
    sys.modules.pop("lesson_01_exercises", None)


def test_what_may_be_used_stands_below_the_docstring(tmp_path):
    before = the("1.3").cut
    add_given(tmp_path)
    after = the("1.3").cut
    lines = after.stub.split("\n")
    at = lines.index("        # You may use:")
    assert lines[at - 1] == '        """Count the numbers of x; gives how many so far."""'
    assert lines[at + 1] == "        #   rest(x): all numbers but the first."
    assert lines[at + 2].startswith("        #   self.step: what")
    assert lines[at + 3].startswith("        #       made, as")
    assert lines[at + 4] == "        # Your code stands here, in place of the next line."
    assert max(map(len, lines[at:])) <= 100
    kept = [line for line in lines if line.strip() not in after.notes]
    assert (kept, after.solution) == (before.stub.split("\n"), before.solution)
    assert cut.header([after], "it")[-1] == "from toys import Counter, rest"
    assert cut.header([before], "it")[-1] == "from toys import Counter"


def test_what_may_be_used_is_no_code_of_the_learners(tmp_path):
    add_given(tmp_path)
    stubs = book.new_text(1, exercise.exercises(1))
    text = stubs.replace('raise NotImplementedError("write this")', "return 7  # mine")
    assert book.own_source(text, book.parse(Path("w"), text), the("1.3")) == "return 7  # mine"


def test_what_may_be_used_is_shown_with_hints_and_solutions(tmp_path, capsys, here):
    add_given(tmp_path)
    write_workbook()
    for show_it in (lambda: commands.hint(1, "1.3"), lambda: commands.solution(1, "1.3", yes=True)):
        show_it()
        assert "You may use:\n  rest(x): all numbers but the first.\n  self.step: what" in capsys.readouterr().out
    assert "#   rest(x): all numbers but the first." in exercise.page(the("1.3"))
    commands.hint(1, "1.1")
    assert "You may use" not in capsys.readouterr().out


def test_a_class_says_what_may_be_used_below_its_own_docstring(tmp_path):
    add_given(tmp_path, ("rest(x): a view.",), target="toys:Counter")
    lines = the("1.3").cut.stub.split("\n")
    assert lines[1:5] == ['    """Counts."""', "", "    # You may use:", "    #   rest(x): a view."]


@pytest.mark.parametrize("given", ["rest(x): a view.", ("",), ("rest", 3)])
def test_what_may_be_used_of_another_form_is_refused(tmp_path, given):
    add_given(tmp_path, given)
    with pytest.raises(UserError, match=r"exercise 1\.3 .*given is a tuple of lines"):
        exercise.exercises(1)


# ----------------------------------------------------------------------- judging


def test_solutions_pass_and_stubs_are_unwritten():
    write_workbook()
    assert [result["state"] for result in check_here().values()] == ["passed"] * 3
    write_workbook(solved=())
    assert {result["state"] for result in check_here(every=True).values()} == {"unwritten"}
    assert list(check_here()) == ["1.1"], "a check stops at the first that does not pass"


def test_each_exercise_stands_alone_on_reference_code():
    for one in ("1.1", "1.2", "1.3"):
        write_workbook(solved=(one,))
        states = {identity: result["state"] for identity, result in check_here(every=True).items()}
        assert [identity for identity, state in states.items() if state == "passed"] == [one], states


SUM = "    return torch.stack(sums)"
ADD = "        self.n += self.step * x.numel()\n        return self.n"


@pytest.mark.parametrize(
    "identity, old, new, says",
    [
        ("1.1", SUM, "    x += 1\n    return torch.stack(sums)", "changed its input x"),
        ("1.1", SUM, "    x[1:] += x[:-1].clone()\n    return x", "changed its input x"),
        ("1.1", SUM, "    return list(torch.stack(sums))", "is a list of length 2; it should be a tensor of"),
        ("1.1", SUM, "    torch.stack(sums)", "is None; it should be a tensor"),
        ("1.1", SUM, "    return torch.stack(sums).double()", "made of float64; it should be made of float32"),
        ("1.1", SUM, "    return torch.stack(sums)[None]", "has the shape (1, 2); it should be (2,)"),
        ("1.1", SUM, "    return torch.stack(sums) / 0", "are infinite"),
        ("1.1", SUM, "    return 3 * torch.stack(sums)", "Every number is 3 times what is right"),
        ("1.1", SUM, "    import sys; sys.exit()", "ends the program"),
        ("1.1", SUM, "    return running_sum(x)", "called itself without end"),
        ("1.1", SUM, "    return torch.stack(sumz)", "name 'sumz' is not defined"),
        ("1.1", SUM, "    return torch.stack(sums) @ torch.ones(3)", "Two shapes do not fit"),
        ("1.1", "def running_sum(x: Tensor)", "def running_sum(x: Tensor, y)", "called as running_sum(x: Tensor)"),
        ("1.1", SUM, "    raise MemoryError", "more memory than a check may use"),
        ("1.1", SUM, "    raise KeyboardInterrupt", "Your code stopped the check itself: line"),
        ("1.1", SUM, "    return sums.append(sums) or sums", "does something contain itself?"),
        ("1.1", SUM, "    sums = {}\n    sums[0] = sums\n    return sums", "does something contain itself?"),
        ("1.1", SUM, "    raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "cannot be shown: ZeroDiv"),
        ("1.2", "return value, count", "return value", "is a tensor of shape (); it should be a tuple of length 2"),
        ("1.2", "return value, count", "return value, float(count)", "is a float (3.0); it should be an int (3)"),
        ("1.2", '    if x.dim() != 1:\n        raise UserError("x has to be a vector.")\n', "", "refuses this"),
        ("1.2", 'UserError("x', 'KeyError("x', "Yours raises another exception"),
        ("1.3", ADD, "        self.n += 2\n        return 0", '"first" is not as it should be. expected 17'),
    ],
)
def test_what_is_wrong_is_said(identity, old, new, says):
    write_workbook(edits=[(old, new)])
    result = check_here(identity)[identity]
    assert result["state"] == "failed"
    assert says in " ".join(result["text"].split()), f"the message does not say {says!r}:\n{result['text']}"


def test_only_the_learners_lines_of_a_traceback_are_shown():
    path = write_workbook(edits=[(SUM, "    return torch.stack(sums).view(7, 7)")])
    result = check_here("1.1")["1.1"]
    number = path.read_text(encoding="utf-8").split("\n").index("    return torch.stack(sums).view(7, 7)") + 1
    assert f"line {number}, in running_sum:  return torch.stack(sums).view(7, 7)" in result["text"]
    assert "examine.py" not in result["text"] and result["text"].count("line ") == 1


def test_an_output_in_the_inputs_memory_is_an_alias(toys):
    one = exercise.Exercise(
        "1.9", "toys:running_sum", "Copy", 1, 1, "It copies.", ("a", "b", "c"), oracle=lambda x: x.clone()
    )
    one.case(lambda: torch.ones(2))
    view = Examination(one).examine(lambda x: x[:])
    assert view.difference.kind == "shared" and view.difference.actual == "x"
    assert Examination(one).examine(lambda x: x.clone()).passed
    assert "the same memory as the input x" in report.failure(view, diagnose(Examination(one), view), Path("-"), 88)


def test_a_missing_gradient_is_found():
    verdict = Examination(the("1.1")).examine(lambda x: torch.cumsum(x.detach(), 0))
    assert (verdict.difference.kind, verdict.case) == ("gradient", 1)
    wrong = Examination(the("1.1")).examine(lambda x: torch.cumsum(x, 0).detach() + x - x.detach())
    assert wrong.difference.where == "gradient of x" and wrong.difference.wrong.any()


def test_the_smallest_failing_input_is_shown():
    write_workbook(edits=[(SUM, "    return torch.stack(sums) + (len(sums) > 2)")])
    text = check_here("1.1")["1.1"]["text"]
    assert "1 smaller input passes; it fails on this one: Five numbers." in text
    assert "running_sum(x)" in text and "x (5,)" in text and "off by the same 1" in text


def test_a_scene_shows_its_source():
    write_workbook(edits=[(ADD, ADD.replace("return self.n", "return self.n + 1"))])
    text = check_here("1.3")["1.3"]["text"]
    assert "    counter = Counter(step=2)\n" in text and text.count("Three numbers, then two") == 1


class Plain:
    """Without a text of its own."""

    def __init__(self, n, x=None):
        self.n, self.x = n, x


class Unshowable:
    def __repr__(self):
        raise ValueError("never")


@pytest.mark.parametrize(
    "value, text",
    [
        (Plain(3), "Plain(n=3, x=None)"),
        (Plain("a", torch.zeros(2, 3)), "Plain(n='a', x=a tensor of shape (2, 3))"),
        (Plain(Plain(1), [[1]] * 30), "Plain(n=Plain(…), x=list(…))"),
        ([Plain(3)], "[<Plain>]"),
        ({"f": math.sqrt, "g": copy}, "{'f': <built-in function sqrt>, 'g': <function copy>}"),
        (Unshowable(), "<Unshowable that cannot be shown: ValueError>"),
    ],
)
def test_objects_are_shown_by_what_is_in_them(value, text):
    assert report.shown(value) == text


def test_no_address_in_memory_is_shown(toys):
    one = exercise.Exercise(
        "1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"), oracle=lambda x: [Plain(1), 2]
    )
    one.case(lambda: Plain(torch.float32))
    for wrong in (lambda x: [Plain(1), 3], lambda x: [copy, 2], lambda x: copy, lambda x: {Plain: x}):
        verdict = Examination(one).examine(wrong)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
        assert "0x" not in text, text


def test_names_keep_their_capitals(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))

    @one.mistake("no [EOS] for BERT")
    def no_eos(x):
        """You forgot it."""
        return x

    for label in (
        "TopLayers, of two",
        "A BERT",
        "A and B",
        "P_θ alone",
        "α, halved",
        "Five numbers",
        "attention_mask left out",
    ):
        one.cases.clear()
        one.case(lambda: torch.ones(2))
        one.cases[0] = exercise.Case(label, one.cases[0].make)
        verdict = Examination(one).examine(lambda x: x)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
        assert f"smallest input: {label}." in text and "Diagnosis: no [EOS] for BERT. You forgot it." in text


@pytest.mark.parametrize("name", ["ids", "a and b", "B A", "with LoRA", "y minus PyTorch's", "W^O"])
def test_names_of_what_is_observed_stay_as_the_author_wrote_them(toys, name):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.scene(lambda running_sum: {name: running_sum(torch.ones(3))})

    @one.mistake
    def twice(x):
        """attention_mask is not read, and ids are counted twice."""
        return 2 * torch.cumsum(x, 0)

    for wrong in (twice, lambda x: [x], lambda x: x[:2], lambda x: x.double().cumsum(0)):
        verdict = Examination(one).examine(wrong)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 200)
        assert f'"{name}"' in text, text
        assert wrong is not twice or "twice. attention_mask is not read, and ids are counted twice." in text


def test_calls_take_keyword_arguments(toys):
    text = "\n\ndef scaled(x, *, by=1.0, plus=None):\n    '''x times by, plus.'''\n    return x * by + (plus or 0)\n"
    Path(toys.__file__).write_text(TOYS + text, encoding="utf-8")
    sys.modules.pop("toys")
    one = exercise.Exercise("1.9", "toys:scaled", "Scale", 1, 1, "It scales.", ("a", "b", "c"))
    one.case(lambda: call(torch.tensor([1.0, 2.0]), by=3.0))
    one.case(lambda: call(x=torch.ones(2), plus=1))
    assert Examination(one).examine(lambda x, *, by=1.0, plus=None: x * by + (plus or 0)).passed
    verdict = Examination(one).examine(lambda x, *, by=1.0, plus=None: x * by + 1)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "scaled(x, by=3.0)" in text and "off by the same 1" in text
    renamed = Examination(one).examine(lambda x, *, factor=1.0, plus=None: x)
    text = report.failure(renamed, diagnose(Examination(one), renamed), Path("-"), 88)
    assert "attention_mask its parameters as the stub has them" in " ".join(text.split())
    one.case(lambda: call(torch.ones(2), times=3.0))
    with pytest.raises(UserError, match="gives 1 arguments, times=; scaled takes"):
        Examination(one).expected(2)


HELPERS = """def add_up(x, start):
    return x.sum() + start


class Summed(torch.nn.Module):
    def forward(self, x):
        return x


"""


@pytest.mark.parametrize(
    "code, says",
    [
        ("from minitransformer.text.batches import pad_right; return pad_right(x)", "pad_right takes (rows, pad_id): "),
        ("from minitransformer.models.attention import Prefix; return Prefix(x)", "Prefix takes (k, v)."),
        (
            "from minitransformer.models.gpt import GPTConfig; return GPTConfig(vocab=3)",
            "GPTConfig takes (vocab_size=2048, ",
        ),
        ("return add_up(x)", "add_up takes (x, start)."),
        ("return Summed()(x, y=3)", "Summed.forward takes (x)."),
        ("return running_sum(x, x)", "running_sum takes (x): Each number plus"),
    ],
)
def test_a_wrong_call_in_the_learners_code_shows_what_was_called(code, says):
    """The exercise's own parameters are right then, so nothing is said of them."""
    write_workbook(edits=[(SUM, f"    {code}"), ("def running_sum", f"{HELPERS}def running_sum")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert says in text and "It is called as" not in text, text


def test_a_package_function_that_is_given_a_wrong_thing_is_not_called_wrongly():
    write_workbook(edits=[(SUM, "    return x.view(1, 2).sum(3, nothing=4)")])
    assert "It is called as" not in check_here("1.1")["1.1"]["text"]


def test_a_method_whose_parameters_were_changed():
    write_workbook(edits=[("def add(self, x: Tensor)", "def add(self, x: Tensor, more: int)")])
    text = " ".join(check_here("1.3")["1.3"]["text"].split())
    assert "It is called as Counter.add(self, x: Tensor) -> int: keep its parameters as the stub has them." in text


def test_what_it_is_for_is_said_once(here, capsys):
    wrong = (SUM, "    return x")
    write_workbook(solved=("1.1",), edits=[wrong])
    said = []
    for only in (None, None, "1.1", "1.2", "1.2"):
        commands.check(1, only)
        said.append("What it is for" in capsys.readouterr().out)
    assert said == [True, False, False, True, False]
    commands.reset(1, "1.1")
    write_workbook(solved=("1.1",), edits=[wrong])
    capsys.readouterr()
    commands.check(1)
    assert "What it is for: It adds up." in capsys.readouterr().out


HELPED = (
    EXERCISES.replace(
        "sums = Exercise(",
        '''NUMBERS = torch.tensor([2.0, 3.0])


class Odd:
    """Two numbers."""

    def __init__(self, x):
        self.x = x


def odd(start):
    """Two numbers that come from `start`."""
    return Odd(start * NUMBERS)


sums = Exercise(''',
        1,
    )
    + '''

boxed = Exercise("1.4", "toys:boxed", title="Boxed", minutes=3, difficulty=1, purpose="Boxes.", hints=("a", "b", "c"))


@boxed.case
def an_object():
    """An object."""
    return odd(3)


@boxed.scene
def a_scene(boxed):
    """A scene."""
    box = odd(2)
    return {"sum": boxed(box) + NUMBERS}
'''
)


def test_helpers_of_a_case_are_explained_and_it_can_be_run_once_more(toys):
    more = "\n\ndef boxed(box):\n    '''The sum of a box.'''\n    return box.x.sum()\n"
    Path(toys.__file__).write_text(TOYS + more, encoding="utf-8")
    exercise.files()[1].write_text(HELPED, encoding="utf-8")
    sys.modules.pop("toys")
    for wrong, number in (("return 2 * box.x.sum()", 1), ("return box.x.sum() + (box.x[0] < 6)", 2)):
        write_workbook(solved=("1.4",), edits=[("return box.x.sum()", wrong)])
        text = check_here("1.4")["1.4"]["text"]
        assert "    odd(start): Two numbers that come from `start`.\n" in text, text
        assert "To run it yourself:" in text and again_command("1.4", number) in text
    assert "    NUMBERS is tensor([2., 3.])\n" in text and "tidy" not in text
    assert again("1.4", 1) == 15 and again("1.4", 2)["sum"].tolist() == [13, 14]
    for identity, number, says in (("1.4", 0, "has the cases 1 to 2, not 0"), ("1.9", 1, "There is no exercise 1.9")):
        with pytest.raises(UserError, match=says):
            again(identity, number)
    with pytest.raises(NotImplementedError):
        again("1.1", 1)
    write_workbook("import torch\n")
    with pytest.raises(UserError, match="has no running_sum: make start-1"):
        again("1.1", 1)


def test_a_call_is_shown_as_it_can_be_written(toys):
    text = "\n\ndef scaled(x, mode=None, y=None):\n    '''x, y.'''\n    return x + y\n"
    Path(toys.__file__).write_text(TOYS + text, encoding="utf-8")
    sys.modules.pop("toys")
    one = exercise.Exercise("1.9", "toys:scaled", "Scale", 1, 1, "It scales.", ("a", "b", "c"))
    one.case(lambda: (torch.ones(2), "a", torch.ones(2)))
    verdict = Examination(one).examine(lambda x, mode, y: x)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "    scaled(x, mode='a', y=y)\n" in text


LONG = """


@dataclass
class Settings:
    '''How to do it.'''

    rate: float = 0.1
    steps: int = 10
    names: list[str] = field(default_factory=list)


class Words:
    '''Many.'''

    def __init__(self):
        self.ranks = {str(n): n for n in range(1000)}


def built(words, settings, x, ids, start=0):
    '''The sum of x.'''
    return x.sum()
"""
LONG_CASES = """

built = Exercise("1.4", "toys:built", title="Built", minutes=3, difficulty=1, purpose="B.", hints=("a", "b", "c"))
ROW = [7] * 40


def two_of(n):
    '''Two of them.'''
    return tidy(n, n), ROW


def a_plan(**more):
    '''A plan.'''
    return Settings(**more)


@built.case
def by_name():
    '''By name.'''
    words = Words()
    return words, a_plan(rate=0.5), tidy(
        2, 3,
    ), ROW, 3


@built.case
def starred():
    '''Starred.'''
    return Words(), Settings(steps=3, names=["a"] * 9), *two_of(9)


@built.case
def by_keyword():
    '''By keyword.'''
    return call(Words(), a_plan(), ids=[1], x=tidy(9, 9))
"""


def test_inputs_are_named_in_words_and_made_one_by_one(toys):
    future = "from __future__ import annotations\n"
    source = TOYS.replace(future, f"{future}\nfrom dataclasses import dataclass, field\n", 1)
    Path(toys.__file__).write_text(source + LONG, encoding="utf-8")
    old, new = "import Exercise, tidy\n", "import Exercise, call, tidy\nfrom toys import Settings, Words\n"
    text = EXERCISES.replace(old, new, 1)
    exercise.files()[1].write_text(text + LONG_CASES, encoding="utf-8")
    sys.modules.pop("toys")
    one = the("1.4")
    sys.modules["toys"].Settings.__module__ = "minitransformer.toys"
    said = ["\n".join(report._input(one, case, number, 80)) for number, case in enumerate(one.cases)]
    lines = "    built(words=a Words, settings=Settings(rate=0.5), x=x,\n        ids=a list of length 40, start=3)\n"
    assert lines in said[0]
    made = "    words = Words()\n    settings = a_plan(rate=0.5)\n    x = tidy(\n        2, 3,\n    )\n    ids = ROW\n"
    assert made in said[0] and "return" not in said[0] and "start = " not in said[0]
    assert "    x, ids = two_of(9)\n" in said[1] and "settings=Settings(steps=3, names=…)" in said[1]
    assert "settings=Settings(), ids=[1], x=x)" in said[2]
    assert "    x = tidy(9, 9)\n" in said[2] and "ids = " not in said[2]
    assert said[0].index("    a_plan(more): A plan.") < said[0].index("    tidy(shape): ")
    assert "This is run:" in "\n".join(report._input(the("1.3"), the("1.3").cases[0], 0, 80))


def test_what_is_in_a_thing_that_was_observed_is_said_in_words(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.scene(lambda running_sum: {"the log": [{"loss": running_sum(torch.ones(3))[2].item()}]})
    verdict = Examination(one).examine(lambda x: x)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "\"the log\", at [0]['loss'], is not as it should be." in text


def test_a_case_can_be_run_in_a_shell(capfd):
    edits = [("    count = x.numel()", "    print('see')\n    count = x.numel()"), (SUM, "    return x.nothing")]
    write_workbook(edits=edits)
    value = again("1.2", 1)
    capfd.readouterr()
    assert run_again(["1.2", "1"]) == 0
    assert capfd.readouterr().out == f"see\nIt gives:\n{value}\n"
    assert run_again(["1.3", "1"]) == 0
    assert capfd.readouterr().out.endswith("It gives:\nfirst:\n17\nthen:\n21\nn:\n21\n")
    assert run_again(["1.1", "1"]) == 1
    err = capfd.readouterr().err
    assert "return x.nothing" in err and "AttributeError" in err and "examine.py" not in err
    assert run_again(["1.1", "9"]) == 1 and "has the cases 1 to 2, not 9" in capfd.readouterr().err
    assert run_again(["one"]) == run_again(["1.1", "x"]) == 2
    assert again_command("1.1", 2).split()[1:] == ["-m", "minitransformer.course.workbook.again", "1.1", "2"]
    written = write_workbook(edits=[(ADD, "        self.n += None")]) and check_here("1.3")["1.3"]["text"]
    assert again_command("1.3", 1) in written, "a check says how"


@pytest.mark.parametrize(
    "code, says",
    [
        ("from minitransformer.errors import UserError; raise UserError('Mine.')", "it is your code that refuses it"),
        ("return mean(torch.ones(2, 2))", "What it refuses is what your code gave it in line"),
    ],
)
def test_who_refused_what(code, says):
    write_workbook(edits=[(SUM, f"    {code}")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert "The package accepts this input" in text and says in text, text


def test_an_import_that_was_taken_out_is_said():
    lines = book.new_text(1, exercise.exercises(1)).split("\n")
    assert "from minitransformer.errors import UserError" in lines
    for name, line, only in (
        ("UserError", "from minitransformer.errors import UserError\n", "1.2"),
        ("Counter", "from toys import Counter\n", None),
    ):
        write_workbook(edits=[(line, "")])
        found = check_here(only, every=True)
        text = found[only]["text"] if only else found["problem"]["text"]
        assert f"name '{name}' is not defined" in text, text
        assert f"\n\n    {line.strip()}" in text
        assert "A new workbook imports it in its first lines; this one does not." in " ".join(text.split())
    write_workbook(edits=[(SUM, "    return sumz")])
    assert "A new workbook" not in check_here("1.1")["1.1"]["text"]


def test_what_code_sets_in_pytorch_does_not_outlast_it(toys):
    def careless(x):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return torch.cumsum(x, 0)

    verdict = Examination(the("1.1")).examine(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert verdict.difference.kind == "gradient"


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda x: x.cumsum(0).to("meta"), "The output lies on meta; it should lie on cpu"),
        (lambda x: x.cumsum(0).to_sparse(), "The output lies on cpu, stored as sparse_coo"),
        (lambda x: (number for number in x), "a value is given by return"),
        (lambda x: torch.Tensor, "The output is a class (Tensor)"),
    ],
)
def test_odd_things_that_come_back(wrong, says):
    verdict = Examination(the("1.1")).examine(wrong)
    text = report.failure(verdict, diagnose(Examination(the("1.1")), verdict), Path("-"), 88)
    assert says in " ".join(text.split())


def test_a_coroutine_is_no_value():
    async def wrong(x):
        return x

    verdict = Examination(the("1.1")).examine(wrong)
    text = report.failure(verdict, diagnose(Examination(the("1.1")), verdict), Path("-"), 88)
    assert "has to begin with def" in text


def test_seeding_is_what_manual_seed_does():
    for accelerators in (False, True):
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.rand(1)
        seeded(accelerators)
        assert torch.equal(torch.rand(3), expected)


def test_a_method_uses_super_as_if_it_stood_in_its_class(toys):
    one = exercise.Exercise("1.9", "toys:Counter.start", "Start", 1, 1, "It starts.", ("a", "b", "c"))
    one.scene(lambda Counter: Counter().n)
    text = "from toys import Counter\n" + one.cut.solution
    names: dict = {}
    exec(text, names)
    assert Examination(one).examine(one.taken_from(names)).passed
    assert toys.Counter().n == 11, "the switch is off again"


def test_names_of_tensors_inside_containers():
    point = types.SimpleNamespace
    assert compare({"a": (1, [torch.ones(1)])}, {"a": (1, [torch.zeros(1)])}, "out", 0).where == "out['a'][1][0]"
    assert compare(point(), point(), "out", 0) is None
    assert compare([1, 2, 3], [1, 2], "out", 0).kind == "length"
    assert compare([1, 2, 3], [1, 5, 3], "out", 0).index == (1,)
    assert compare(True, 1, "out", 0).kind == "type" and compare(1.0, 1, "out", 0) is None
    assert compare(float("nan"), float("nan"), "out", 0) is None


# ----------------------------------------------------------------------- diagnosis


def test_every_mistake_is_named_and_no_other():
    assert verify.verify_lesson(1) == []


def test_a_learners_own_way_of_a_mistake_is_named():
    edit = ("total = total + value\n        sums.append(total)", "sums.append(total); total = total + value")
    write_workbook(edits=[edit])
    text = check_here("1.1")["1.1"]["text"]
    assert "Diagnosis: first left out. Each sum lacks its own number." in text


def test_a_refusal_in_other_words_hides_no_later_mistake(toys):
    one = exercise.Exercise("1.9", "toys:mean", "Mean", 1, 1, "Mean.", ("a", "b", "c"))
    one.case(lambda: torch.zeros(1, 1))  # to be refused
    one.case(lambda: torch.tensor([1.0, 2.0]))

    def a_sum(x):
        """You do not divide."""
        if x.dim() > 1:
            raise UserError("Too many dimensions.")
        return x.sum(), x.numel()

    def own_words(x):
        if x.dim() > 1:
            raise UserError("That is a matrix.")
        return x.sum(), x.numel()

    one.mistake(a_sum)
    examination = Examination(one)
    verdict = examination.examine(own_words)
    assert verdict.case == 1, "the refusal is right, whatever its words"
    assert [found.name for found in diagnose(examination, verdict).mistakes] == ["a sum"]


def test_a_copy_matches_a_mistake_that_gives_a_view_where_views_are_right(toys):
    one = exercise.Exercise("1.9", "toys:rest", "Rest", 1, 1, "Rest.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 2.0, 3.0]))

    def short(x):
        """You leave the last number out."""
        return x[:-1]

    one.mistake(short)
    examination = Examination(one)
    for own in (lambda x: x[:-1], lambda x: x[:-1].clone()):
        verdict = examination.examine(own)
        assert verdict.case == 0
        assert [found.name for found in diagnose(examination, verdict).mistakes] == ["short"], (
            "the reference gives a view of its input, so whether one is given says nothing"
        )


def test_two_mistakes_that_look_alike_are_told_apart_by_further_cases(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.ones(2))
    one.case(lambda: torch.tensor([1.0, 2.0]))

    def last_twice(x):
        """You take the last number twice."""
        return torch.cat([x[:1], x[:1] + 2 * x[1:]])

    def one_more(x):
        """You add one."""
        return torch.cat([x[:1], x.cumsum(0)[1:] + 1])

    for mistake in (last_twice, one_more):
        one.mistake(mistake)
    examination = Examination(one)
    for mistake in one.mistakes:
        verdict = examination.examine(mistake.code)
        both = diagnose(examination, verdict)
        assert len(both.mistakes) == 2, "in the first case the two cannot be told apart"
        assert [found.name for found in narrowed(examination, verdict, both).mistakes] == [mistake.name]


def test_a_mistake_is_named_only_if_it_is_that_on_every_input(toys):
    """Else it is said that this input looks like it; or nothing, where the code is right and the mistake wrong."""
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    for x in (torch.ones(2), torch.tensor([1.0, 0.0]), torch.ones(3)):
        one.case(lambda x=x: x.clone())

    @one.mistake
    def twice(x):
        """You count twice."""
        return 2 * x.cumsum(0)

    def said(own) -> str:
        examination = Examination(one)
        verdict = examination.examine(own)
        assert verdict.case == 0
        first = diagnose(examination, verdict)
        assert [found.name for found in first.mistakes] == ["twice"] and not first.sure, "two cases did not run yet"
        assert "Diagnosis" not in report.failure(verdict, first, Path("-"), 200)
        return report.failure(verdict, narrowed(examination, verdict, first), Path("-"), 200)

    assert "Diagnosis: twice. You count twice." in said(lambda x: x.cumsum(0) * 2)
    text = said(lambda x: x.cumsum(0) * (1 + x[1]))
    assert "count twice" not in text and "Every number is 2 times what is right" in text, "it is right on [1, 0]"
    text = said(lambda x: x.cumsum(0) * 2 if len(x) == 2 else x)
    assert "On this input, though not on every one, it behaves as if this were wrong: twice. You count twice." in text


def test_a_right_refusal_in_own_words_behind_the_failing_case_changes_no_diagnosis(toys):
    one = exercise.Exercise("1.9", "toys:mean", "Mean", 1, 1, "Mean.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 2.0]))
    one.case(lambda: torch.zeros(1, 1))  # to be refused

    def a_sum(x, words="Too many dimensions."):
        """You do not divide."""
        if x.dim() > 1:
            raise UserError(words)
        return x.sum(), x.numel()

    one.mistake(a_sum)
    examination = Examination(one)
    verdict = examination.examine(lambda x: a_sum(x, "That is a matrix."))
    found = narrowed(examination, verdict, diagnose(examination, verdict))
    assert [mistake.name for mistake in found.mistakes] == ["a sum"] and found.sure


def test_numbers_that_were_never_written_are_seen(toys):
    def partly(x):
        sums = torch.empty_like(x)
        sums[0] = x[0]
        return sums

    def written(x):
        sums = torch.empty_like(x)
        sums[:] = x + 1
        return sums

    for own, empty in ((partly, True), (written, False), (lambda x: x / 0 * 0, False), (lambda x: x.tolist(), False)):
        examination = Examination(the("1.1"))
        verdict = examination.examine(own)
        assert is_left_empty(examination, verdict) == empty
    assert not torch.are_deterministic_algorithms_enabled()
    write_workbook(edits=[(SUM, "    return torch.cat([sums[0][None], torch.empty_like(x)[1:]])")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert "Some of these numbers were never written." in text and "Diagnosis" not in text


A = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.6, 0.1, 0.3]])
LOWER = torch.ones(4, 4, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    "expected, actual, says",
    [
        (A, A.T, "axes 0 and 1 are exchanged"),
        (A[None], A[:, :, None], "stand in the order"),
        (A, A[None], "axis of length 1"),
        (A, A.flatten(), "only the shape"),
        (A[:2], A[:2].reshape(3, 2), "only the shape"),
        (A[:2].T, A[:2].reshape(3, 2), "wrong places"),
        (A, -A, "sign is wrong"),
        (A, 3 * A, "3 times what is right (3; axis 0 is 3 long)"),
        (A, A / math.sqrt(3), "1/√3"),
        (A, A + 0.5, "off by the same 0.5"),
        (A, A.roll(1, 1), "one place earlier"),
        (A, A.roll(-1, 0), "axis 0: what stands at i should stand one place later"),
        (A * 2, A * 2 / (A * 2).sum(0), "sums to 1 along axis 0"),
        (A, torch.where(A > 0.5, math.nan, A), "2 of 9 of the numbers are nan"),
        (A, A * 0, "Everything is 0"),
        (A, A * -0.0, "Everything is 0"),
        (A, A.log(), "logarithm of what"),
        (A.log(), A, "e to the power"),
        (A, A.square(), "It is the square of"),
        (LOWER, ~LOWER, "turned round"),
        (LOWER, LOWER.roll(1, 1) & LOWER.roll(1, 1).tril(1), "shifted"),
        (LOWER, LOWER.T, "exchanged"),
    ],
)
def test_look_alikes(expected, actual, says):
    said = list(shapes_alike(expected, actual))
    if expected.shape == actual.shape:
        said += numbers_alike(expected, actual)
    assert any(says in sentence for sentence in said), said


def test_a_constant_factor_is_said_beside_a_known_mistake(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 0.0, 2.0]))

    @one.mistake
    def thrice(x):
        """You take everything three times."""
        return 3 * x.cumsum(0)

    verdict = Examination(one).examine(thrice)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert text.count("Every number is 3 times what is right") == 1 and "Diagnosis: thrice." in text


def test_zeros_are_no_multiple_beside_a_known_mistake(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.case(lambda: torch.tensor([1.0, 0.0, 2.0]))

    @one.mistake
    def nothing(x):
        """You return nothing but 0 (it is on the right.)"""
        return -0.0 * x

    verdict = Examination(one).examine(nothing)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
    assert "Everything is 0." in text and "times" not in text
    assert text.endswith("(it is on the right.)"), "a full stop inside the bracket is enough"


@pytest.mark.parametrize(
    "text, as_a_sentence",
    [
        ("So", "So."),
        ("So.", "So."),
        ("So?", "So?"),
        ("(So.)", "(So.)"),
        ("So (x)", "So (x)."),
        ("f(x, …)", "f(x, …)."),
        ("f(...)", "f(...)."),
        ('"So."', '"So."'),
        ("It is x[1]", "It is x[1]."),
        ("So …", "So …"),
    ],
)
def test_a_sentence_has_one_full_stop(text, as_a_sentence):
    assert book.ended(text) == as_a_sentence


def test_no_look_alike_for_what_is_merely_wrong():
    torch.manual_seed(0)
    expected, actual = torch.randn(4, 4), torch.randn(4, 4)
    assert [*shapes_alike(expected, actual), *numbers_alike(expected, actual)] == []


# ----------------------------------------------------------------------- drawing


def drawn(expected, actual, width=84):
    wrong = expected != actual
    return draw.side_by_side(expected, actual, wrong, tuple(wrong.nonzero()[0].tolist()), width)


def test_a_shifted_mask_is_seen():
    lines = drawn(LOWER, LOWER.tril(-1))
    assert lines[1:5] == [
        "■ □ □ □    □ □ □ □   ✗ · · ·",
        "■ ■ □ □    ■ □ □ □   · ✗ · ·",
        "■ ■ ■ □    ■ ■ □ □   · · ✗ ·",
        "■ ■ ■ ■    ■ ■ ■ □   · · · ✗",
    ]
    assert lines[0].split() == ["expected", "yours", "wrong"] and "True" in lines[5]


def test_numbers_are_aligned_and_small_differences_visible():
    lines = drawn(torch.tensor([[1.0, -2.5]]), torch.tensor([[1.0, -2.5001]]))
    left, right, marks = re.split(r" {3,}", lines[1].strip())
    assert left != right and "-2.5001" in right and marks == "· ✗"
    assert drawn(torch.tensor([1, 20]), torch.tensor([1, 3]))[1].split() == ["1", "20", "1", "3", "·", "✗"]


def test_the_slice_with_the_first_difference_is_drawn():
    expected = torch.arange(24.0).view(2, 3, 4)
    actual = expected.clone()
    actual[1, 2, 3] = 0
    assert drawn(expected, actual)[3].split()[:4] == ["20.0", "21.0", "22.0", "23.0"]


@pytest.mark.parametrize("width", [40, 84])
def test_large_tensors_are_shaded_within_the_width(width):
    expected = torch.linspace(0, 1, 10_000).view(100, 100)
    actual = expected.clone()
    actual[90, 70] = 5
    lines = drawn(expected, actual, width)
    assert max(map(len, lines[:-1])) <= width
    assert sum(line.count("✗") for line in lines) == 1, "the window has to show the place that differs"
    assert "rows" in lines[-1] and "of 100" in lines[-1]


def test_small_differences_of_many_numbers_are_numbers_and_ratios():
    """Shades of near numbers are the same, and would tell nothing."""
    torch.manual_seed(0)
    expected = torch.randn(16, 16) + 5
    lines = drawn(expected, expected * 1.02)
    assert not set("".join(lines)) & set(draw.SHADES[1:]) and max(map(len, lines)) <= 84
    assert lines[0] == "expected:" and lines[7] == "yours:" and lines[14] == "yours / expected:"
    assert set(" ".join(lines[15:21]).split()) == {"1.020"}
    assert re.fullmatch(r"\(rows 0 to 5 of 16, columns 0 to \d+ of 16\)", lines[-1])
    assert len({len(line) for start in (1, 8, 15) for line in lines[start : start + 6]}) == 1, "columns are aligned"


def test_ratios_only_where_they_say_something():
    expected = torch.arange(30.0).view(2, 15) / 7
    actual = expected.clone()
    actual[1, 14] *= 3
    lines = drawn(expected, actual)
    assert lines[6] == "yours / expected:" and lines[8].split()[-1] == "3.000" and set(lines[7].split()) == {"·"}
    assert drawn(expected, expected + 1)[6] == "wrong:", "0 is no multiple of anything"
    actual[1, 14] = math.nan
    assert drawn(expected, actual)[6] == "wrong:"


def test_a_pattern_is_shaded():
    torch.manual_seed(0)
    weights = torch.rand(16, 16).tril()
    assert set("".join(drawn(weights, weights.T.contiguous()))) & set(draw.SHADES[1:])


def test_short_rows_of_labels_are_drawn_as_numbers():
    """-100 among them is four columns wide; a shade would not say which label is which."""
    expected = torch.tensor([[-100, -100, 15, 1024, 7, 3, 3, 9, -100, 88]])
    lines = drawn(expected, expected.roll(1, 1))
    assert [line.split() for line in lines[1::2]] == [
        [str(n) for n in expected[0].tolist()],
        [str(n) for n in expected.roll(1, 1)[0].tolist()],
        ["✗", "·", "✗", "✗", "✗", "✗", "·", "✗", "✗", "✗"],
    ]
    assert [line.rstrip() for line in lines[::2]] == ["expected:", "yours:", "wrong:"]
    assert len({len(line) for line in lines[1::2]}) == 1, "what belongs together stands below each other"


def test_a_long_row_of_ids_shows_where_it_differs():
    expected = torch.arange(1000, 1060)
    actual = expected.clone()
    actual[50] = 7
    lines = drawn(expected, actual)
    assert max(map(len, lines)) <= 84 and " 1050 " in lines[1] and " 7 " in lines[3] and "✗" in lines[5]
    assert re.fullmatch(r"\(columns \d+ to \d+ of 60\)", lines[6])


def test_ids_of_an_input_are_numbers():
    assert " ".join(draw.matrix(torch.arange(40) - 100)).split() == [str(n - 100) for n in range(40)]
    assert all(len(line) <= 76 for line in draw.matrix(torch.arange(40) - 100))
    two = draw.matrix(torch.arange(60).view(2, 30) - 100)
    assert len(two) == 2 and two[0].split()[:2] == ["-100", "-99"] and two[0].endswith("…") and len(two[0]) <= 78
    assert not set("".join(draw.matrix(torch.arange(900).view(30, 30)))) & set("0123456789"), "a large one is shaded"


def test_odd_values_can_be_drawn():
    odd = torch.tensor([[math.nan, math.inf, -math.inf, 1e9]])
    assert drawn(odd, torch.zeros(1, 4))
    assert drawn(torch.tensor(1.0), torch.tensor(2.0))[1].split() == ["1.0", "2.0", "✗"]
    assert draw.matrix(torch.zeros(0, 3)) == ["(empty)"]


# ----------------------------------------------------------------------- workbooks that cannot be run


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("def running_sum(x: Tensor) -> Tensor:", "def running_sum(x: Tensor) -> Tensor", "ends with a colon"),
        (SUM, "    return torch.stack(sums))", "bracket is closed"),
        (SUM, "    return （sums）", "Chinese keyboard"),
        (SUM, "      return sums", "indent"),
        (SUM, "    return 'sums", "quotation mark"),
        (SUM, "return torch.stack(sums)", "stand inside a function"),
        (SUM, "    print sums", "stand in brackets"),
        (SUM, "    from __future__ import division", "first of the file"),
        (SUM, "    return [sums sums]", "forgot a comma?\n\n"),
    ],
)
def test_a_syntax_error_is_shown_with_line_and_caret(old, new, says):
    path = write_workbook(edits=[(old, new)])
    before = path.read_bytes()
    text = check_here()["problem"]["text"]
    number = path.read_text(encoding="utf-8").split("\n").index(new) + 1
    assert f"workbook/lesson_01.py:{number}: Python cannot read this line" in text and says in text
    line, caret = text.split("\n")[2:4]
    assert line.strip() == new.strip() and caret.strip() == "^"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty: make start-1 writes the stubs"),
        ("def other(x):\n    return x\n", "none of lesson 1's exercises, but other: is it another lesson's workbook"),
        ("running_sum = 3\n", "running_sum is an int (3); it should be a function"),
        ("class running_sum:\n    pass\n", "it should be a function"),
        ("boom()\n", "cannot be run, before any exercise is tried:\n\n    line 1, in <module>:  boom()"),
        ("import sys\nsys.exit(1)\n", "It called exit"),
        ("raise KeyboardInterrupt\n", "Your code stopped the check itself:\n\n    line 1"),
        ("def f():\n    f()\nf()\n", "called itself without end"),
        ("raise MemoryError\n", "line 1, in <module>:  raise MemoryError\n MemoryError\n\nIt asked for more memory"),
        (
            "from minitransformer.models.attention import attend_by_formulas\n",
            "did you mean attend_by_formula? If an upgrade",
        ),
        ("from toys import running_sum\n", "is the package's own, imported. Take it out"),
    ],
)
def test_other_unusable_workbooks(text, says):
    write_workbook(text)
    said = next(iter(check_here().values()))["text"]
    assert " ".join(says.split()) in " ".join(said.split()), said


def test_deleted_and_renamed_functions():
    path = write_workbook(edits=[("def running_sum", "def sum_up")])
    assert "under the heading of 1.1 stands sum_up" in check_here("1.1")["1.1"]["text"]
    text = path.read_text(encoding="utf-8")
    start, end = text.index("# ─"), text.index("# ─", text.index("sum_up"))
    write_workbook(text[:start] + text[end:])
    result = check_here(every=True)
    assert "has no running_sum. make start-1 adds the stub again" in " ".join(result["1.1"]["text"].split())
    assert result["1.2"]["state"] == result["1.3"]["state"] == "passed", "the others are checked all the same"


def test_bytes_that_are_no_text():
    path = write_workbook()
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in check_here()["problem"]["text"]
    path.write_bytes("def f(x): pass".encode("utf-16"))
    assert "it looks like UTF-16" in check_here()["problem"]["text"]
    path.unlink()
    assert "cannot be read: No such file" in check_here()["problem"]["text"]


def test_windows_line_ends_and_a_byte_order_mark_are_fine():
    path = write_workbook()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [result["state"] for result in check_here().values()] == ["passed"] * 3


def test_a_workbook_of_another_name(here):
    write_workbook().rename(book.folder() / "lesson_1.py")
    with pytest.raises(UserError, match="rename it to lesson_01.py"):
        commands.check(1)
    (book.folder() / "lesson_1.py").unlink()
    with pytest.raises(UserError, match="There is no workbook for lesson 1 yet: make start-1 writes"):
        commands.check(1)
    write_workbook()
    copy = book.reset(1)
    book.workbook_path(1).unlink()
    with pytest.raises(UserError, match=f"copy back what reset kept last, workbook/backup/{copy.name}"):
        commands.check(1)


# ----------------------------------------------------------------------- the child process


ABUSES = {
    "loop": ("    while True:\n        pass", "did not end within 5 seconds"),
    "storm": ("    while True:\n        print('again' * 1000)", "printed more than 1,000,000 characters"),
    "exit": ("    import os\n    os._exit(0)", "ended the program"),
    "pipe": (
        "    import os, subprocess\n    subprocess.Popen(['sleep', '600'])  # holds the pipes open\n"
        "    for n in range(3, 9):\n        try:\n            os.write(n, b'{\\n[1]\\n{}\\n')\n"
        "        except OSError:\n            pass\n    return 3",
        "is an int (3)",
    ),
    "memory": ("    print('hello there')\n    return torch.zeros(2**40)", "more memory than a check may use"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
def test_abuse_ends_in_a_message_and_loses_nothing(tmp_path):
    """The children run side by side, for each takes seconds to load PyTorch."""
    answers, before = {}, {}
    text = book.new_text(1, exercise.exercises(1), {"1.1", "1.2", "1.3"})
    text = text.replace("        return self.n", "        input()")  # of 1.3

    def abuse(name: str, code: str) -> None:
        path = tmp_path / name / "lesson_01.py"
        path.parent.mkdir()
        path.write_text(text.replace("    return value, count", code), encoding="utf-8")
        before[name] = path.read_bytes()
        seconds = 5 if name == "loop" else 60
        began = time.monotonic()
        answers[name] = sandbox.Sandbox().check(1, path, every=True, seconds=seconds), path
        assert time.monotonic() - began < 180

    threads = [threading.Thread(target=abuse, args=(name, code)) for name, (code, _) in ABUSES.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (_, says) in ABUSES.items():
        answer, path = answers[name]
        said = answer.problem or answer.results["1.2"]["text"]
        assert says in " ".join(said.split()), f"{name}: {said}\n{answer}"
        assert answer.results["1.1"]["state"] == "passed", f"{name}: what came before is not lost"
        assert path.read_bytes() == before[name]
        assert "minitransformer/workbook" not in answer.problem + answer.printed, f"{name}: {answer}"
    loop, storm, memory = (answers[name][0] for name in ("loop", "storm", "memory"))
    assert loop.at == "1.2" and "It was on input 1, the smallest: Three numbers." in loop.problem
    assert re.search(r"running\s+line \d+, in mean: +(while True:|pass)", loop.problem), loop.problem
    assert len(storm.printed) <= sandbox.SHOWN and storm.cut
    assert "hello there" in memory.printed and not memory.cut
    assert "waits for somebody to type" in " ".join(memory.results["1.3"]["text"].split())


# ----------------------------------------------------------------------- start, progress, reset


def test_start_writes_once_and_then_only_adds():
    path, added, is_new = book.start(1)
    assert is_new and len(added) == 3
    own = path.read_text(encoding="utf-8").replace('raise NotImplementedError("write this")', "return x  # mine")
    start = own.index("class Counter")
    own = own[:start] + "# the counter is gone\n"
    path.write_text(own, encoding="utf-8")
    _, added, is_new = book.start(1)
    text = path.read_text(encoding="utf-8")
    assert not is_new and [one.id for one in added] == ["1.3"]
    assert text.startswith(own.rstrip()), "what was there stands untouched"
    assert text.count("class Counter(Counter)") == 1 and text.count("# mine") == own.count("# mine")
    assert book.start(1)[1] == [] and path.read_text(encoding="utf-8") == text
    book.load(path, exercise.exercises(1))


def test_start_adds_the_imports_of_what_it_adds():
    path = write_workbook("def running_sum(x):\n    return x.cumsum(0)\n")
    book.start(1)
    assert check_here(every=True)["1.3"]["state"] == "unwritten"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("def running_sum(x):\n    return x.cumsum(0)\n") and text.count("def running_sum") == 1


def test_start_does_not_put_the_packages_code_over_the_learners(toys):
    """An upgrade brings a function that calls the learner's, and a second method of a class."""
    text = TOYS.replace("    return function(x)", "    return running_sum(x)")
    Path(toys.__file__).write_text(text, encoding="utf-8")
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    own = path.read_bytes()
    more = (
        EXERCISES.replace("adding = Exercise(", "added = Exercise(")
        .replace("@adding", "@added")
        .replace('"1.3", "toys:Counter.add"', '"1.4", "toys:Counter.start"')
    )
    defaults = (
        EXERCISES[: EXERCISES.index("means = ")]
        .replace("sums", "defaults")
        .replace('"1.1", "toys:running_sum"', '"1.5", "toys:by_default"')
    )
    everything = EXERCISES + more[more.index("added = ") :] + defaults[defaults.index("defaults = ") :]
    exercise.files()[1].write_text(everything, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    assert [one.id for one in book.start(1)[1]] == ["1.4", "1.5"]
    assert path.read_bytes().startswith(own), "what was there stands untouched"
    loaded = book.load(path, exercise.exercises(1))
    assert loaded.candidates["1.1"].__code__.co_filename == str(path), "this has to be the learner's function"
    results = check_here(every=True)
    states = [results[f"1.{n}"]["state"] for n in range(1, 6)]
    assert states == ["passed", "passed", "passed", "unwritten", "unwritten"]


def test_start_adds_bytes_and_changes_none():
    text = "def running_sum(x):\n    return x.cumsum(0)   \n"
    for own in (b"\xef\xbb\xbf" + text.encode(), text.replace("\n", "\r\n").encode(), text.rstrip("\n").encode()):
        path = write_workbook("")
        path.write_bytes(own)
        book.start(1)
        after = path.read_bytes()
        assert after.startswith(own) and after.count(b"raise NotImplementedError") == 2
        assert after.count(b"\r\n") in (0, after.count(b"\n")), "one kind of line ends"
        assert check_here(every=True)["1.1"]["state"] == "passed"
        book.reset(1, "1.2")
        assert path.read_bytes().startswith(own) and path.read_bytes().count(b"\r") == after.count(b"\r")


@pytest.mark.parametrize(
    "target, name, edit",
    [
        ("toys:mean", "mean", ("def mean(", "def middle(")),
        ("toys:Counter.add", "Counter.add", ("    def add(self", "    def count(self")),
    ],
)
def test_an_exercise_that_was_renamed_finds_its_work_by_id(toys, target, name, edit, capsys):
    old, new = edit
    path = write_workbook()
    own = path.read_bytes()
    toys_path, file = Path(toys.__file__), exercise.files()[1]
    toys_path.write_text(toys_path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    renamed = target.replace(name, name.replace(old.split()[1].split("(")[0], new.split()[1].split("(")[0]))
    text = EXERCISES.replace(f'"{target}"', f'"{renamed}"').replace("counter.add(", "counter.count(")
    file.write_text(text, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    sys.modules.pop("toys")
    identity = next(one.id for one in exercise.exercises(1) if one.target == renamed)
    commands.start(1)
    said = " ".join(capsys.readouterr().out.split())
    assert f"under the heading of {identity} stands {name}, but the exercise is called" in said
    assert path.read_bytes() == own
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    linecache.checkcache()
    assert check_here(identity)[identity]["state"] == "passed"


def test_an_upgrade_keeps_all_other_work(toys, here):
    """A docstring changes, an exercise goes, one moves to another module and another place in the lesson."""
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    assert commands.check(1) == 0
    own = path.read_bytes()
    moved = TOYS[: TOYS.index("class Base")].replace("Each number plus", "Now said otherwise: each number plus")
    (show.ROOT / "user_of_toys.py").write_text(moved, encoding="utf-8")
    text = EXERCISES[: EXERCISES.index("adding = ")].replace("toys:running_sum", "user_of_toys:running_sum")
    exercise.files()[1].write_text(text, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    assert book.start(1)[1] == [] and path.read_bytes() == own
    assert [result["state"] for result in check_here(every=True).values()] == ["passed", "passed"]
    assert book.Progress()["1.3"].passed, "progress of an exercise that is gone is kept"


def test_a_read_only_workbook_stays_as_it_is(here):
    path = write_workbook("def running_sum(x):\n    return x.cumsum(0)\n")
    path.chmod(0o444)
    for write in (lambda: book.start(1), lambda: book.reset(1), lambda: book.reset(1, "1.1")):
        with pytest.raises(UserError, match="is read-only and stays as it is.*chmod u[+]w"):
            write()
    assert path.read_text(encoding="utf-8") == "def running_sum(x):\n    return x.cumsum(0)\n"
    assert commands.check(1, "1.1") == 0, "it can be checked all the same"
    path.chmod(0o644)


def test_start_does_not_touch_what_it_cannot_read():
    path = write_workbook("def broken(:\n")
    with pytest.raises(UserError, match="Python cannot read this line"):
        book.start(1)
    assert path.read_text(encoding="utf-8") == "def broken(:\n"


def test_progress_keeps_what_it_does_not_know():
    text = "# a comment\n77.3  passed  2020-01-01  hints=2\nnonsense here\n1.2  open  -  hints=1\n"
    book.write(book.folder() / "progress.txt", text)
    progress = book.Progress()
    assert progress["1.2"].hints == 1 and progress["77.3"].passed and not progress["1.1"].passed
    progress.set("1.2", passed=True)
    progress.set("1.1", hints=3)
    lines = (book.folder() / "progress.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == text.splitlines()[:3], "unknown lines and ids stay as they are"
    assert re.fullmatch(r"1\.2  passed  \d{4}-\d\d-\d\d  hints=1", lines[3]) and lines[4] == "1.1  open  -  hints=3"
    day = book.Progress()["1.2"].day
    progress.set("1.2", passed=False)
    assert book.Progress()["1.2"].day == day, "the day of the first pass is kept"


def test_progress_keeps_bytes_that_are_no_text():
    path = book.folder() / "progress.txt"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x85\x0c odd\r\n1.1  passed  2020-01-01  hints=2\r\n")
    book.Progress().set("1.2", hints=1)
    assert path.read_bytes() == (b"\xff\xfe\x85\x0c odd\r\n1.1  passed  2020-01-01  hints=2\r\n1.2  open  -  hints=1\n")
    assert book.Progress()["1.1"] == book.State(True, "2020-01-01", 2), "an editor may have written Windows' line ends"


def test_folders_and_files_in_each_others_place(here):
    for path, command in (
        (book.workbook_path(1), lambda: book.start(1)),
        (book.workbook_path(1), lambda: book.reset(1)),
        (book.folder() / "progress.txt", commands.progress),
    ):
        path.mkdir(parents=True)
        with pytest.raises(UserError, match=f"workbook/{path.name} cannot be read: "):
            command()
        path.rmdir()
    for path in (book.folder() / "backup", book.folder()):
        path.rmdir() if path.exists() else None
    book.folder().write_text("a file")
    with pytest.raises(UserError, match="lesson_01.py cannot be written"):
        book.start(1)


def test_two_checks_at_once_keep_each_others_progress():
    one, other = book.Progress(), book.Progress()
    one.set("1.1", passed=True)
    other.set("1.2", hints=2)
    one.set("1.1", hints=1)
    assert book.Progress()["1.1"] == book.State(True, book.date.today().isoformat(), 1)
    assert book.Progress()["1.2"].hints == 2


def test_reset_puts_a_dated_copy_aside():
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    mine_text = path.read_text(encoding="utf-8")
    copies = [book.reset(1), book.reset(1)]
    assert copies[0] != copies[1] and copies[0].parent == book.folder() / "backup"
    assert copies[0].read_text(encoding="utf-8") == mine_text
    assert re.search(r"\d{4}-\d\d-\d\d", copies[0].name)
    assert path.read_text(encoding="utf-8") == book.new_text(1, exercise.exercises(1))


@pytest.mark.parametrize("identity", ["1.1", "1.2", "1.3"])
def test_one_exercise_can_be_reset(identity, here):
    path = write_workbook()
    assert commands.check(1) == 0
    commands.reset(1, identity)
    states = {key: result["state"] for key, result in check_here(every=True).items()}
    assert states == {key: "unwritten" if key == identity else "passed" for key in ("1.1", "1.2", "1.3")}
    assert not book.Progress()[identity].passed
    assert len(list((path.parent / "backup").iterdir())) == 1


def test_reset_of_one_exercise_needs_a_workbook_that_parses():
    path = write_workbook("def broken(:\n")
    with pytest.raises(UserError, match="only the whole workbook can be reset"):
        book.reset(1, "1.1")
    assert path.read_text(encoding="utf-8") == "def broken(:\n"


# ----------------------------------------------------------------------- the loop


def test_check_says_what_passed_shows_the_solution_and_what_comes_next(here, capsys):
    write_workbook(solved=("1.1",), edits=[("    for value in x:", "    for value in list(x):")])
    assert commands.check(1) == 1
    out = capsys.readouterr().out
    assert "✓ 1.1 running_sum" in out and "yours, 5 lines" in out and "the package's, 5 lines" in out
    assert "○ 1.2 mean" in out and out.count("waits to be written") == 1
    assert "make hint-1.2" in out
    commands.check(1)
    assert "yours" not in capsys.readouterr().out, "the solution is shown only when it passes for the first time"
    write_workbook()
    assert commands.check(1) == 0
    out = capsys.readouterr().out
    assert "All 3 exercises of lesson 1 pass" in out and "1.2 mean passes, and is the same code as the package's" in out
    commands.check(1, "1.2")
    assert "make check-1 checks all" in capsys.readouterr().out


def test_a_pass_that_is_lost_is_noted(here):
    write_workbook()
    commands.check(1)
    assert book.Progress()["1.1"].passed
    write_workbook(edits=[(SUM, "    return x")])
    commands.check(1)
    assert not book.Progress()["1.1"].passed and book.Progress()["1.2"].passed


def states_of(out: str) -> list[str]:
    """The lines of a check's list of exercises, without what stands between name and state."""
    return [" ".join(line.split()) for line in out.split("\n")[1 : 1 + len(exercise.exercises(1))]]


def test_a_check_says_how_each_exercise_stands(here, capsys):
    write_workbook(solved=("1.2", "1.3"), edits=[(ADD, "        return 7")])
    assert commands.check(1) == 1
    out = capsys.readouterr().out
    assert states_of(out) == ["○ 1.1 running_sum not written yet", "✓ 1.2 mean passed", "✗ 1.3 Counter.add fails"]
    assert "1.3 Counter.add · Count on" in out and "waits to be written" not in out, "one is told of in full"
    assert "make hint-1.3: a hint (3 of 3 left)" in out


def test_what_a_stopped_check_did_not_reach_is_said(here, capsys, monkeypatch):
    write_workbook()

    def stopping(self, lesson, path, only=None, on_result=None, **more):
        result = {"event": "result", "id": "1.1", "state": "passed", "text": "", "line": 3, "source": "abc"}
        on_result(result)
        return sandbox.Answer({"1.1": result}, problem="It did not end.", at="1.2", line=20, source="def")

    monkeypatch.setattr(SandboxHere, "check", stopping)
    assert commands.check(1) == 1
    out = capsys.readouterr().out
    assert states_of(out) == ["✓ 1.1 running_sum passed", "✗ 1.2 mean was stopped", "· 1.3 Counter.add not reached"]
    assert "✗ 1.2 mean · A mean · workbook/lesson_01.py:20\n\nIt did not end.\n" in out and "make hint-1.2" in out
    assert book.Progress()["1.2"] == book.State(source="def")


def test_a_second_failure_is_not_diagnosed():
    write_workbook(edits=[(SUM, "    return x.clone()"), ("value = x.sum() / count", "value = x.sum()")])
    results = check_here(every=True)
    assert "Diagnosis: no sum" in results["1.1"]["text"] and "Diagnosis" not in results["1.2"]["text"]


def test_what_was_changed_since_it_was_checked_is_said(here, capsys):
    write_workbook(solved=("1.1", "1.2"))
    commands.check(1)
    capsys.readouterr()

    def drawn_progress() -> str:
        commands.progress()
        return " ".join(capsys.readouterr().out.split())

    assert "■■□ 1.3 Counter.add 2 of 3" in drawn_progress()
    write_workbook(solved=("1.1", "1.2"), edits=[(SUM, f"{SUM}  # a comment, and\n\n")])
    assert "■■□ 1.3" in drawn_progress(), "comments and empty lines are no change"
    write_workbook(solved=("1.1", "1.2"), edits=[(SUM, "    return x")])
    out = drawn_progress()
    assert "◧■□ 1.1 running_sum (changed since it was checked) 1 of 3 exercises pass, 10 of 18 minutes" in out
    commands.check(1, "1.2")
    assert "Next: 1.1 running_sum, Running sums (5 minutes); it has changed since it was checked." in (
        " ".join(capsys.readouterr().out.split())
    )
    write_workbook(solved=("1.1", "1.2", "1.3"))
    assert "■■◧ 1.3 Counter.add (changed since it was checked)" in drawn_progress(), "it was open, and is written now"
    commands.check(1)
    write_workbook("def broken(:\n")
    assert "◧◧◧" in drawn_progress()
    book.workbook_path(1).unlink()
    capsys.readouterr()
    assert "◧◧◧" in drawn_progress()


def test_a_stub_that_was_lost_and_added_again_is_open(toys, here, capsys):
    path = write_workbook(solved=("1.1",))
    commands.check(1)
    text = path.read_text(encoding="utf-8")
    write_workbook(text[: text.index("# ─", text.index("1.2 ·") - 99)])
    capsys.readouterr()
    commands.progress()
    out = " ".join(capsys.readouterr().out.split())
    assert "■□□ 1.2 mean (not in the workbook: make start-1 adds it)" in out
    commands.check(1, "1.1")
    out = " ".join(capsys.readouterr().out.split())
    assert "Next: 1.2 mean, A mean (10 minutes). It is not in the workbook: make start-1 adds its stub." in out
    commands.start(1)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("from toys import Counter", "import toys\nCounter = toys.Counter"), encoding="utf-8")
    capsys.readouterr()
    commands.progress()
    out = capsys.readouterr().out
    assert "■□□" in out and "1.2 mean\n" in out, "nothing was written, so nothing has changed"
    legend = dict(re.findall(r"(\S) ([a-z ]+)[,.]", " ".join(out.split()).rpartition("place: ")[2]))
    assert legend == {
        commands.BOXES[commands.SOLVED]: "solved",
        commands.BOXES[commands.OPEN]: "open",
        commands.BOXES[commands.CHANGED]: commands.CHANGED_SINCE,
    }
    assert commands.BOXES[commands.RETRIED] == commands.BOXES[commands.CHANGED]


def test_a_function_that_has_swallowed_the_next_one(here, capsys):
    path = write_workbook(solved=("1.1",))
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.split("\n") if line.startswith("def mean("))
    path = write_workbook(text.replace(line + "\n", ""))
    lines = path.read_text(encoding="utf-8").split("\n")
    number = lines.index('    """The mean of numbers (T), and how many there are.') + 1
    said = " ".join(check_here(every=True)["1.2"]["text"].split())
    assert said == (
        f"workbook/lesson_01.py:{number}: here begins what belongs to mean, but it stands in running_sum: the line "
        f"with its def is gone. Write it above line {number}: {line}"
    )
    commands.check(1, "1.1")
    out = " ".join(capsys.readouterr().out.split())
    assert "Next: 1.2 mean" in out and "changed" not in out
    assert f"its def is gone, so that its lines stand in running_sum (workbook/lesson_01.py:{number})." in out


def test_what_a_digest_is_of():
    def digest(identity, *edits, text=None):
        path = write_workbook(text, edits=edits)
        return book.load(path, exercise.exercises(1)).digest(the(identity))

    helped = (SUM, "    return helper(sums)"), ("def running_sum", "def helper(x):\n    return 1\n\n\ndef running_sum")
    other_helper = *helped, ("return 1", "return 2")
    assert digest("1.1", *helped) != digest("1.1", *other_helper), "what it calls belongs to it"
    assert digest("1.2", *helped) == digest("1.2", *other_helper) == digest("1.2")
    calls = ("value = x.sum() / count", "value = running_sum(x)[-1] / count")
    assert digest("1.2", calls) == digest("1.2", calls, (SUM, "    return x")), "a check takes the package's for it"
    assert digest("1.3") != digest("1.3", ("self.n +=", "self.n -="))
    assert digest("1.1", text="x = 1\n") == "" and digest("1.1", text="running_sum = abs\n") != ""
    write_workbook()


def test_progress_files_of_older_courses_are_read(here, capsys):
    write_workbook()
    book.write(book.folder() / "progress.txt", "1.1  passed  2020-01-01  hints=2\n1.2  open  -  hints=1\n")
    assert book.Progress()["1.1"] == book.State(True, "2020-01-01", 2)
    commands.progress()
    assert "■□□" in capsys.readouterr().out, "what was checked then is not known"
    commands.check(1)
    line = r"1\.1  passed  2020-01-01  hints=2  source=[0-9a-f]{12}\n"
    assert re.search(line, (book.folder() / "progress.txt").read_text())
    assert book.Progress()["1.2"].source and book.Progress()["1.2"].hints == 1


def test_only_what_was_written_is_shown_and_counted(here, capsys):
    answer = "    count = x.numel()\n    value = x.sum() / count"
    edits = [(answer, "    # mine\n    count = len(x)\n\n    value = x.mean()")]
    write_workbook(edits=edits)
    commands.check(1)
    part = capsys.readouterr().out.partition("1.2 mean passes")[2].partition("1.3")[0]
    assert "yours, 2 lines" in part and "the package's, 2 lines" in part and "x.mean()" in part
    assert "raise UserError" not in part and "return value, count" not in part
    commands.solution(1, "1.2")
    assert "raise UserError" not in capsys.readouterr().out
    write_workbook(edits=[*edits, ("    return value, count", "    return (value, count)")])
    path = book.workbook_path(1)
    text = book.read(path)
    own = book.own_source(text, book.parse(path, text), the("1.2"))
    assert own.split("\n") == ["# mine", "count = len(x)", "", "value = x.mean()", "return (value, count)"], (
        "a given line that was changed is the learner's"
    )


def test_of_a_class_what_the_stub_has_is_not_counted(toys):
    Path(toys.__file__).write_text(TOYS + CLASS, encoding="utf-8")
    sys.modules.pop("toys")
    exercise.files()[1].write_text(PAIR, encoding="utf-8")
    one = the("1.1")
    assert one.cut.is_class and commands.count(one.cut.answer, one) == 5


LOUD = """@means.mistake
def loud(x, empty=0.0):
    '''It is loud.'''
    print("printed by a mistake")
    warnings.warn("warned by a mistake")
    return x.sum(), x.numel() + 1


@means.scene
def behind(mean):
    '''Behind the case that fails.'''
    return mean(torch.ones(4))


adding = Exercise("""


def test_only_what_the_learners_code_prints_is_shown(toys, capsys, recwarn):
    text = EXERCISES.replace("adding = Exercise(", LOUD, 1).replace("import torch", "import torch\nimport warnings", 1)
    oracle = "lambda x, empty=0.0: (print('printed by the oracle'), (x.mean(), x.numel()))[1]"
    text = text.replace('"    x.sum() / count"),\n', f'"    x.sum() / count"), oracle={oracle},\n')
    exercise.files()[1].write_text(text, encoding="utf-8")
    write_workbook(edits=[("value = x.sum() / count", "value = x.sum(); print('mine', count)")])
    said = check_here("1.2")["1.2"]
    assert "sum for mean" in said["text"]
    out = capsys.readouterr()
    assert out.out == "mine 3\n" and out.err == "" and not recwarn.list, "nothing that others print, and each line once"


def test_what_the_code_prints_is_folded(capsys):
    commands._printed(sandbox.Answer(printed="a warning of many words " * 12 + "\n\n  and " + "x" * 200))
    lines = capsys.readouterr().out.split("\n")
    assert max(map(len, lines)) <= 88 and "".join(lines).count("warning") == 12 and "".join(lines).count("x") == 200
    assert all(line.split()[-1] in ("a", "warning", "of", "many", "words") for line in lines[1:4]), "whole words"


def test_what_the_code_prints_is_shown_and_cut(here, capsys, monkeypatch):
    answer = sandbox.Answer(printed="\n".join(f"line {n}" for n in range(50)), cut=True)
    commands._printed(answer)
    out = capsys.readouterr().out
    assert "line 0\n" in out and "line 30" not in out and "which is cut here" in out
    commands._printed(sandbox.Answer(printed="\033[2Jgone\r\x07over"))
    assert "·[2Jgone··over" in capsys.readouterr().out, "what is printed must not clear the screen"


def test_hints_come_one_by_one_for_the_first_that_does_not_pass(here, capsys):
    write_workbook(solved=("1.1",))
    for number, text in enumerate(("Sum.", "Divide.", "    x.sum() / count"), 1):
        commands.hint(1)
        out = capsys.readouterr().out
        assert f"1.2 mean · hint {number} of 3\n{text}\n" in out
    commands.hint(1)
    out = capsys.readouterr().out
    assert "1.2 mean · all three hints have been shown; here they are again\n" in out and "hint 3 of 3" not in out
    assert "\nSum.\n\nDivide.\n\n    x.sum() / count\n" in out and "make solution-1.2" in out
    commands.hint(1, "1.1")
    assert "First hint." in capsys.readouterr().out
    assert book.Progress()["1.2"].hints == 3
    write_workbook()
    commands.hint(1)
    assert "All exercises of lesson 1 pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    "hint, blocks",
    [
        ("Divide; then return x.", [(False, "Divide; then return x.")]),
        ("    return x", [(True, "return x")]),
        ("It is so:\n    if a:\n        b = 1", [(False, "It is so:"), (True, "if a:\n    b = 1")]),
        (
            "So:\n\n    a = 1\n\n\n    b = a · a\n\nAnd\nno more.",
            [
                (False, "So:"),
                (True, "a = 1\n\n\nb = a · a"),
                (False, "And\nno more."),
            ],
        ),
        ("    a\n    b\nor\n    c\n", [(True, "a\nb"), (False, "or"), (True, "c")]),
    ],
)
def test_the_code_of_a_hint_is_what_is_indented(hint, blocks):
    assert exercise.laid_out(hint) == blocks


def test_code_in_a_hint_is_neither_wrapped_nor_decorated(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code = "joined = {**first_of_the_two, **second_of_the_two, **third_of_them}  # x · x, - `**it**`"
    prose = "Return {**a, **b} and f(**a) of **two** of them:"
    hint = f"{prose}\n    for x in y:\n        {code}\n\n    return joined\nThat · is all."
    the("1.1").hints = (hint, "b", "c")
    write_workbook(solved=())
    commands.hint(1, "1.1")
    out = capsys.readouterr().out
    assert "Return {**a, **b} and f(**a) of two\nof them:\n" in out
    assert f"    for x in y:\n        {code}\n\n    return joined\nThat · is all.\n" in out
    page = exercise.page(the("1.1"))
    assert f"```python\nfor x in y:\n    {code}\n\nreturn joined\n```" in page


def test_a_lesson_shows_an_exercises_source_only_when_it_is_solved(toys, here, capsys, monkeypatch):
    monkeypatch.setattr(show, "withheld", functools.partial(commands.withheld, 1))

    def shown(function) -> str:
        show.source(function, docstring=False)
        return capsys.readouterr().out

    for function, name in ((toys.running_sum, "`running_sum`"), (toys.Counter.add, "`Counter.add`")):
        out = " ".join(shown(function).split())
        assert name in out and "make start-1" in out and "return" not in out
    assert "return super().start() + 1" in shown(toys.Counter.start), "this is no exercise"
    write_workbook()
    commands.check(1)
    capsys.readouterr()
    out = shown(toys.running_sum)
    assert out.startswith('def running_sum(x: Tensor) -> Tensor:\n    """…"""\n') and "torch.stack(sums)" in out
    monkeypatch.setattr(show, "withheld", functools.partial(commands.withheld, 7))
    assert "return" in shown(toys.Counter.add), "a lesson without exercises"


def test_lessons_print_sources_only_by_the_helper_that_withholds_them():
    for path in sorted((ROOT / "lessons").glob("lesson_*.py")):
        assert "getsource" not in path.read_text(encoding="utf-8"), f"{path.name}: show.source(function) prints it"


def test_the_command_line_withholds_sources(monkeypatch, capsys):
    from minitransformer.course.cli import dispatch, parser

    seen = []
    monkeypatch.setattr(show, "withheld", show.withheld)
    monkeypatch.setattr(course, "run", lambda number, **more: seen.append(show.withheld(attention.attend_by_formula)))
    monkeypatch.setattr("minitransformer.course.bootstrap.ensure", lambda extras: None)
    monkeypatch.setattr(commands, "withheld", lambda lesson, function: f"{lesson} {function.__name__}")
    dispatch(parser().parse_args(["lesson", "2"]), [])
    assert seen == ["2 attend_by_formula"]


def test_a_solution_is_not_given_away(here, capsys, monkeypatch):
    write_workbook(solved=())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    with pytest.raises(UserError, match="3 of its hints are not read yet.*solution 1.1 --yes"):
        commands.solution(1, "1.1")
    commands.check(1)
    write_workbook(solved=("1.1",))
    with pytest.raises(UserError, match="1.1 running_sum did not pass, but has changed since it was checked"):
        commands.solution(1, "1.1")
    write_workbook(solved=())
    capsys.readouterr()
    assert commands.solution(1, "1.1", yes=True) == 0
    assert "torch.stack(sums)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert commands.solution(1) == code
        assert ("torch.stack(sums)" in capsys.readouterr().out) == (code == 0)


def test_a_solved_exercise_shows_both(here, capsys):
    write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    commands.check(1)
    capsys.readouterr()
    assert commands.solution(1, "1.1") == 0
    out = capsys.readouterr().out
    assert out.index("yours") < out.index("# mine") < out.index("the package's")


def test_progress_counts(here, capsys):
    write_workbook(solved=("1.1", "1.2"))
    commands.check(1)
    capsys.readouterr()
    commands.progress()
    out = capsys.readouterr().out
    assert "■■□" in out and "1.3 Counter.add" in out and "2 of 3 exercises pass, 15 of 18 minutes" in out


def test_watch_checks_on_every_change_and_survives_an_editor_that_replaces_the_file(here, capsys, monkeypatch):
    path = write_workbook(solved=())
    monkeypatch.setattr(commands, "PAUSE", 0)

    def steps():
        yield None
        capsys.readouterr()
        yield None
        assert capsys.readouterr().out == "", "nothing changed, nothing is printed"
        path.unlink()
        yield None
        assert capsys.readouterr().out == "", "a file that is being replaced is waited for"
        write_workbook(solved=("1.1",))
        yield None
        assert "✓ 1.1 running_sum" in capsys.readouterr().out
        yield "h"
        assert "1.2 mean · hint 1 of 3" in capsys.readouterr().out
        yield "q"

    keys = steps()
    assert commands.watch(1, key=lambda: next(keys)) == 0


def test_the_command_line_reads_numbers_of_lessons_and_exercises():
    from minitransformer.course.cli import parser

    read = parser().parse_args
    assert read(["check", "2.3"]).number == (2, "2.3") and read(["hint", "12"]).number == (12, None)
    assert read(["start", "2"]).number == 2 and read(["solution", "2.1", "--yes"]).yes
    for wrong in (["check", "two"], ["check", "2."], ["start", "2.1"], ["check"]):
        with pytest.raises(SystemExit):
            read(wrong)


def test_the_workbook_is_not_committed():
    assert "/workbook/" in (ROOT / ".gitignore").read_text().split()


# ----------------------------------------------------------------------- the switch


def test_the_switch_reaches_every_name_and_comes_off(toys, tmp_path):
    (tmp_path / "user_of_toys.py").write_text("from toys import running_sum as summed\n")
    import user_of_toys

    x, partial = torch.ones(2), functools.partial(toys.running_sum)
    ways = {
        "its module": lambda: toys.running_sum(x),
        "an import": lambda: user_of_toys.summed(x),
        "a partial": lambda: partial(x),
        "a default argument": lambda: toys.by_default(x),
        "a table": lambda: toys.TABLE["sum"](x),
    }
    with switched({"toys:running_sum": lambda x: x + 41}):
        for name, way in ways.items():
            assert way().tolist() == [42, 42], f"{name} does not reach the learner's function"
    for name, way in ways.items():
        assert way().tolist() == [1, 2], f"{name} still reaches the learner's function"
    assert not hasattr(toys.running_sum, "__wrapped__")


def test_the_switch_comes_off_when_the_block_raises(toys):
    with pytest.raises(ZeroDivisionError), switched({"toys:running_sum": lambda x: 1 / 0}):
        toys.running_sum(torch.ones(1))
    assert toys.running_sum(torch.ones(2)).tolist() == [1, 2]


def test_inspect_shows_the_code_that_runs(toys):
    import inspect

    def running_sum(x, extra=3):
        return "the learner's"

    with switched({"toys:running_sum": running_sum}):
        assert "the learner's" in inspect.getsource(toys.running_sum)
        assert list(inspect.signature(toys.running_sum).parameters) == ["x", "extra"]


def test_the_switch_on_members_of_classes(toys):
    counter = toys.Counter()
    new = {
        "toys:Counter.add": lambda self, x: "added",
        "toys:Counter.twice": staticmethod(lambda x: "twice"),
        "toys:Counter.steps": property(lambda self: "steps"),
    }
    with switched(new):
        assert (counter.add(torch.ones(1)), counter.twice(1), counter.steps) == ("added", "twice", "steps")
    assert (counter.add(torch.ones(1)), counter.twice(1), counter.steps) == (12, 2, 1)


def test_the_switch_on_a_whole_class_keeps_its_identity(toys):
    class Counter:
        def __init__(self):
            self.n = 0

        def add(self, x):
            return "mine"

    old = toys.Counter()
    with switched({"toys:Counter": Counter}):
        new = toys.Counter()
        assert isinstance(new, toys.Base) and type(new) is type(old)
        assert new.add(None) == old.add(None) == "mine"
        assert not hasattr(toys.Counter, "steps"), "what the learner's class lacks must not be lent by the package's"
    assert toys.Counter(step=3).add(torch.ones(2)) == 17 and old.steps == 0


def test_the_switch_on_decorated_functions(toys):
    assert toys.cached(3) == 9
    with switched({"toys:cached": lambda n: -n}):
        assert toys.cached(3) == -3, "an old result must not come out of lru_cache's memory"
    assert toys.cached(3) == 9

    def opened(name):
        yield name + "!"

    with switched({"toys:opened": opened}), toys.opened("a") as got:
        assert got == "a!"
    with toys.opened("a") as got:
        assert got == "A"


def counted(function):
    calls = []

    def wrapper(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    wrapper.calls = calls
    return wrapper


def copy_of(function):
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)


@pytest.mark.parametrize("name", ["split_heads", "merge_heads", "attend_by_formula", "combined_mask"])
def test_no_fast_path_hides_the_learners_attention(name):
    """Training, reading and writing with the cache all run on what was switched in."""
    from minitransformer.generation.sampling import generate

    target = f"minitransformer.models.attention:{name}"
    own = counted(copy_of(getattr(attention, name)))
    model, ids = tiny_gpt(), random_ids(2, 8)
    expected = model(ids)
    written = generate(model, [[5, 6]], 6, temperature=0.0)
    with mine.in_use({target: own}):
        close = torch.testing.assert_close
        close(model(ids), expected, atol=1e-5, rtol=0)
        reading = len(own.calls)
        training.language_model_loss(model.train(), {"ids": ids})[0].backward()
        learning = len(own.calls) - reading
        assert generate(model.eval(), [[5, 6]], 6, temperature=0.0) == written
        writing = len(own.calls) - reading - learning
    assert reading == GPT_CONFIG.n_layer and learning == GPT_CONFIG.n_layer, f"{name} was passed by"
    assert writing >= GPT_CONFIG.n_layer
    assert model.decode_step(model.new_cache()) is not None, "the fast paths are back"
    model(ids)
    assert len(own.calls) == reading + learning + writing, "the switch is off"


def test_the_plain_path_is_the_fast_one():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 4) for _ in range(3))
    k, v = torch.cat([k, k[:, :, :2]], 2), torch.cat([v, v[:, :, :2]], 2)  # two columns of a prefix
    for causal in (False, True):
        torch.testing.assert_close(attend(q, k, v, causal=causal), attention.attend(q, k, v, causal=causal))
    torch.manual_seed(0)
    dropped = attend(q, k, v, dropout=0.5)
    assert not torch.allclose(dropped, attend(q, k, v))


def test_plain_paths_only_where_they_are_needed():
    assert plain_paths(["minitransformer.text.tokenizer:Tokenizer"]) == {}
    assert set(plain_paths(["minitransformer.models.layers:drop"])) == {"minitransformer.models.gpt:GPT.decode_step"}
    assert "minitransformer.models.attention:attend" not in plain_paths(["minitransformer.models.attention:attend"])


def test_an_exercise_on_a_marked_part_of_attention_reaches_the_models():
    own = counted(copy_of(Attention.forward))
    model = tiny_gpt()
    with mine.in_use({"minitransformer.models.attention:Attention.forward": own}):
        model(random_ids(1, 4))
    assert len(own.calls) == GPT_CONFIG.n_layer


# ----------------------------------------------------------------------- MINE=1

LESSON = '''"""A lesson that trains

question: Does it run?
minutes: 1
documents: none
needs: nothing
"""

# %% Training
import torch

from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.training.loop import TrainConfig, train

torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=11, n_positions=16, n_layer=2, n_head=2, d_model=8, d_ff=16))
ids = torch.randint(0, 11, (4, 9))
log = train(model, lambda i: {"ids": ids}, TrainConfig(steps=12, lr=1e-2), valid=[{"ids": ids}], progress=False)
print("trained", len(log.train))
'''


@pytest.fixture
def heads_of_ones_own(monkeypatch, here):
    """A course with lesson 2's real exercises and a tiny lesson; gives a function that solves some, with edits."""
    for number in (1, 2):
        (exercise.files().get(number) or Path("none")).unlink(missing_ok=True)
    source = ROOT / "lessons" / "exercises" / "lesson_02.py"
    (show.ROOT / "lessons" / "exercises" / "lesson_02.py").write_bytes(source.read_bytes())
    (show.ROOT / "lessons" / "lesson_02_try.py").write_text(LESSON, encoding="utf-8")

    def solve(solved, *edits):
        some = exercise.exercises(2)
        text = book.new_text(2, some, solved)
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        book.write(book.workbook_path(2), text)
        results = {one.id: one.id in solved for one in some}
        answer = sandbox.Answer({key: {"state": "passed" if ok else "unwritten"} for key, ok in results.items()})
        monkeypatch.setattr(SandboxHere, "check", lambda *args, **kwargs: answer)

    return solve


def test_a_lesson_on_ones_own_code_comes_to_the_references_loss(heads_of_ones_own, capsys):
    heads_of_ones_own({"2.1", "2.3", "2.5"})
    mine.run(2)
    out = capsys.readouterr().out
    assert re.search(r"2\.1 +split_heads +yours", out) and re.search(r"2\.2 +merge_heads .*\(not written\)", out)
    assert "This ran on 3 of your functions: split_heads, attend_by_formula, Attention.forward." in out
    assert out.count("trained 12") == 1, "the reference runs unseen"
    assert "Equal to the last bit" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("1  ")).split()
    assert row[2] == row[3] and row[4] == row[5]
    assert not attention.split_heads.__kwdefaults__, "the switch is off after the lesson"


def test_the_references_losses_are_kept_and_a_difference_is_seen(heads_of_ones_own, capsys, monkeypatch):
    heads_of_ones_own({"2.3"})
    mine.run(2)
    assert (book.folder() / "reference" / "lesson_02.json").exists()
    capsys.readouterr()
    heads_of_ones_own({"2.3"}, ("/ math.sqrt(q.size(-1))", "/ q.size(-1)"))
    runs = []
    monkeypatch.setattr(mine, "unseen", lambda: runs.append(1))
    mine.run(2)
    out = capsys.readouterr().out
    assert not runs, "the reference's losses are kept"
    assert "Equal to the last bit" not in out and "They differ by" in out


def test_code_that_fails_inside_a_lesson_is_shown(heads_of_ones_own, capsys):
    heads_of_ones_own({"2.2"}, ("return x.transpose(1, 2).reshape(B, T, H * D)", "return x.reshape(B, 7)"))
    says = "(?s)passes its checks but fails inside the lesson.*in merge_heads:  return x.resh"
    with pytest.raises(UserError, match=says):
        mine.run(2)
    assert not attention.merge_heads.__kwdefaults__


def test_nothing_of_ones_own_to_run(heads_of_ones_own):
    heads_of_ones_own(set())
    with pytest.raises(UserError, match="(?s)None of your exercises passes yet.*make start-2 begins"):
        mine.run(2)


def test_a_lesson_without_exercises_sends_to_one_that_has_some(heads_of_ones_own):
    heads_of_ones_own(set())
    (show.ROOT / "lessons" / "lesson_03_only_to_read.py").write_text(LESSON, encoding="utf-8")
    with pytest.raises(UserError, match="(?s)None of your exercises passes yet.*make start-2 begins"):
        mine.run(3)


def test_a_workbooks_own_functions_call_each_other_only_if_they_pass(toys):
    text = "def running_sum(x):\n    return 'mine'\n\ndef mean(x, empty=0.0):\n    return running_sum(x)\n"
    path = write_workbook(text)
    workbook = book.load(path, exercise.exercises(1))
    workbook.link({"1.2"})
    assert workbook.candidates["1.2"](torch.ones(2)).tolist() == [1, 2], "running_sum is the package's here"
    workbook.link({"1.1", "1.2"})
    assert workbook.candidates["1.2"](torch.ones(2)) == "mine"


# ----------------------------------------------------------------------- verify


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("torch.cumsum(x, 0) - x", "torch.cumsum(x, 0)", "'first left out' passes every case"),
        ("return x.clone()", "return torch.cumsum(x, 0) - x", "is diagnosed as ['first left out', 'no sum']"),
        ('means.slip("minus", "A wrong sign.", ("x.sum() / count", "-x.sum() / count"))', "", "it has 3 mistakes"),
        ('"Second hint."', '"First hint."', "two of its hints are the same"),
        ('"    x.sum() / count"', '"x.sum() / count"', "its third hint has no code"),
        ("oracle=lambda x: torch.cumsum(x, 0)", "oracle=lambda x: 2 * torch.cumsum(x, 0)", "its own is failed"),
    ],
)
def test_verify_complains(old, new, says):
    exercise.files()[1].write_text(EXERCISES.replace(old, new, 1), encoding="utf-8")
    assert any(says in complaint for complaint in verify.verify_lesson(1)), verify.verify_lesson(1)


def test_verify_trains_on_the_solutions(heads_of_ones_own, capsys, monkeypatch):
    monkeypatch.setattr(verify, "TRAINS", 2)
    assert verify.verify_mine() == []
    assert capsys.readouterr().out == ""
    whole = book.new_text
    monkeypatch.setattr(book, "new_text", lambda *args: whole(*args).replace(" / math.sqrt(q.size(-1))", ""))
    assert "lesson 2 comes to" in verify.verify_mine()[0]


def test_verify_finds_an_answer_in_the_stub(toys):
    text = TOYS.replace('"""Each number plus', '"""It ends with: return torch.stack(sums).\n\n    Each number plus')
    Path(toys.__file__).write_text(text, encoding="utf-8")
    assert any("its stub shows a line of the answer" in complaint for complaint in verify.verify_lesson(1))


def test_all_lessons_exercises_can_be_read(monkeypatch):
    """Their proof is `make verify`; here only that they are well-formed, and that titles do not repeat."""
    monkeypatch.setattr(show, "ROOT", ROOT)
    for name in ("lesson_01_exercises", "lesson_02_exercises"):
        sys.modules.pop(name, None)
    some = [one for lesson in exercise.files() for one in exercise.exercises(lesson)]
    assert some and len({one.title for one in some}) == len(some)
