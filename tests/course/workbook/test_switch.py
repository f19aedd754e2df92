"""The one switch reaches every name, and comes off."""

import functools
import inspect
import warnings

import pytest
import torch

from minitransformer.course.workbook import exercise
from minitransformer.course.workbook.examine import Examination
from minitransformer.course.workbook.switch import switched


def test_a_method_uses_super_as_if_it_stood_in_its_class(toys):
    one = exercise.Exercise("1.9", "toys:Counter.start", "Start", 1, 1, "It starts.", ("a", "b", "c"))
    one.scene(lambda Counter: Counter().n)
    text = "from toys import Counter\n" + one.cut.solution
    names: dict = {}
    exec(text, names)
    assert Examination(one).examine(one.taken_from(names)).passed
    assert toys.Counter().n == 11, "the switch is off again"


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


def test_a_generator_keeps_a_generators_code(toys):
    """Later Pythons refuse to give it another kind of code; what runs is the replacement, a step at a time."""

    def halved(name):
        received = yield name[: len(name) // 2]
        yield f"got {received}"
        return "end"

    function = inspect.unwrap(toys.opened)
    steps = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with switched({"toys:opened": halved}):
            assert inspect.isgeneratorfunction(function)
            made = function("abcd")
            steps += [next(made), made.send(7)]
            with pytest.raises(StopIteration) as end:
                next(made)
    assert steps == ["ab", "got 7"] and end.value.value == "end"
    with toys.opened("abcd") as name:
        assert name == "ABCD"


def test_what_is_called_is_noted(toys):
    """Functions, methods, properties and whole classes; they do what they do otherwise."""

    class Other(toys.Base):
        def __init__(self, step=1):
            self.step, self.n = step, super().start()

        def add(self, x):
            self.n += 1
            return self.n

    called = []
    with switched({"toys:running_sum": lambda x: -x, "toys:rest": lambda x: x}, called.append):
        assert toys.TABLE["sum"](torch.ones(1)) == -1
    assert called == ["toys:running_sum"]
    with switched(
        {"toys:Counter.steps": property(lambda self: 5), "toys:Counter.twice": staticmethod(abs)}, called.append
    ):
        counter = toys.Counter()
        assert (counter.steps, called.pop()) == (5, "toys:Counter.steps")
    with switched({"toys:Counter": Other}, called.append):
        assert toys.Counter().add(None) == 11
    assert set(called) == {"toys:running_sum", "toys:Counter"}
    assert toys.TABLE["sum"](torch.ones(1)) == 1 and len(called) == 3
