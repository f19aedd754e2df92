"""What `make mutants` makes of the code before mutmut sees it, and of what mutmut leaves behind."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from minitransformer.course import mutants
from minitransformer.course.mutants import Mutant, difference, judge, report, results, undecorated
from minitransformer.errors import UserError
from tests.conftest import ROOT
from tests.mutants import hunt

DECORATED = '''import functools
from contextlib import contextmanager


def twice(times=2):
    return lambda function: lambda *args: times * function(*args)


@twice(
    times=3
)
@functools.cache
def area(width, height):
    """Not a mutant."""

    @twice()
    def inner(x):
        return x

    return inner(width) * height


class Box:
    @staticmethod
    def zero():
        return 0

    @property
    def seven(self):
        return 7

    @contextmanager
    def opened(self):
        yield "open"
'''


def test_without_decorators_a_module_does_the_same():
    source = undecorated(DECORATED)
    assert "@staticmethod" in source and source.count("@") == 1, "mutmut mutates no decorated function but such"
    for text in (DECORATED, source):
        names = {}
        exec(compile(text, "module", "exec"), names)
        with names["Box"]().opened() as state:
            assert (names["area"](2, 5), names["Box"].zero(), names["Box"]().seven, state) == (60, 0, 7, "open")


def test_the_copy_of_the_package_has_no_decorated_function_and_still_compiles():
    for path in (ROOT / "minitransformer").rglob("*.py"):
        source = undecorated(path.read_text(encoding="utf-8"))
        compile(source, str(path), "exec")
        assert ".setter\n" not in source, f"{path}: f = f.setter(f) is not what @f.setter does"


def test_a_difference_is_the_changed_lines_and_which_of_equal_ones():
    before = ["def x_f__mutmut_orig(a, b=1):", "x = a", "y = (", "a + b", ")", "x = a", "return x"]
    second = ["def x_f__mutmut_2(a, b=1):", *before[1:5], "x = None", "return x"]
    assert difference(before, second) == (("x = a",), ("x = None",), 2)
    default = ["def x_f__mutmut_1(a, b=2):", *before[1:]]
    assert difference(before, default) == (("a, b=1):",), ("a, b=2):",), 1)
    gone = ["def x_f__mutmut_3(a, b=1):", "x = a", "y = (", ")", "x = a", "return x"]
    assert difference(before, gone) == (("a + b",), (), 1)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder as mutmut leaves it, of a module with a function and its three mutants."""
    monkeypatch.setattr(mutants, "WORK", tmp_path)
    module = tmp_path / "mutants" / "minitransformer" / "tuning" / "lora.py"
    module.parent.mkdir(parents=True)
    versions = {"_orig": "a + b", "_1": "a - b", "_2": "b + a", "_3": "a * b"}
    lines, spans = [], {}
    for version, value in versions.items():
        name = f"xǁLoRAǁadd__mutmut{version}"
        spans[name] = [len(lines) + 1, len(lines) + 3]
        lines += [f"    def {name}(self, a, b):", f"        return {value}  # x", ""]
    module.write_text("\n".join(lines), encoding="utf-8")
    module.with_name("lora.py.spans").write_text(json.dumps({"version": 1, "spans": spans}), encoding="utf-8")
    codes = {f"minitransformer.tuning.lora.xǁLoRAǁadd__mutmut_{i}": code for i, code in ((1, 1), (2, 0), (3, None))}
    meta = {"exit_code_by_key": codes, "durations_by_key": {}}
    module.with_name("lora.py.meta").write_text(json.dumps(meta), encoding="utf-8")
    return module


def test_results_are_read_as_mutmut_writes_them(work):
    killed, survivor, untried = results()
    expected = Mutant("tuning/lora.py", "tuning.lora.LoRA.add", ("return a + b  # x",), ("return a - b  # x",), 1, 1)
    assert killed == expected and killed.killed
    assert survivor.change == "return a + b → return b + a" and not survivor.killed
    assert untried.code is None and not untried.killed


def test_a_changed_test_has_the_survivors_tried_again_and_no_other(work):
    mutants.forget_survivors()
    assert [mutant.code for mutant in results()] == [1, None, None]


def test_the_report_explains_each_survivor_or_says_that_it_does_not(work, capsys):
    found = [mutant for mutant in results() if mutant.code is not None]
    unexplained = report(found, {})
    assert "| `tuning/lora.py` | 2 | 1 | 0 | 1 | 50.0% |" in unexplained
    assert "`LoRA.add`: **not explained yet**\n\n```diff\n- return a + b  # x\n+ return b + a  # x\n```" in unexplained
    why = {"tuning.lora.LoRA.add": {"return a + b → return b + a": "A sum has no order."}}
    assert "`LoRA.add`: A sum has no order.\n" in report(found, why)
    assert "(1 not tried)" in report(list(results()), why)
    assert judge(found[:1], {}) == 0 and judge(found, why) == 1, "one of two killed is not enough"
    assert judge([*found[:1] * 20, found[1]], {}) == 1, "a survivor is not explained"
    assert judge([*found[:1] * 20, found[1]], why) == 0
    judge(found[:1], why)
    assert "explains what is no survivor: tuning.lora.LoRA.add" in capsys.readouterr().out


def test_the_explanations_are_of_functions_that_exist():
    why = json.loads(mutants.WHY.read_text(encoding="utf-8"))
    for function, changes in why.items():
        assert changes and all(text.endswith(".") for text in changes.values()), f"{function}: explain in a sentence"
        name = function.rpartition(".")[2]
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "minitransformer").rglob("*.py")]
        assert any(f"def {name}(" in source for source in sources), f"survivors.json explains {function}: there is none"


def test_windows_is_told(monkeypatch):
    monkeypatch.setattr(mutants.os, "name", "nt")
    with pytest.raises(UserError, match="WSL"):
        mutants.main([])


def test_the_order_of_the_hunt(monkeypatch):
    times = {"gpt": 0.1, "slow": 9.0, "later": 9.5, "lora": 5.0}
    monkeypatch.setattr(hunt, "seconds", times)
    monkeypatch.setenv("MUTANT_UNDER_TEST", "minitransformer.tuning.lora.xǁLoRAǁbuild__mutmut_1")
    items = [SimpleNamespace(nodeid=name, path=Path(f"tests/test_tuning_{name}.py")) for name in times]
    hunt.pytest_collection_modifyitems(None, items)
    chosen = [item.nodeid for item in items]
    assert chosen == ["lora", "gpt", "slow"], f"{chosen}: all of its own, then {hunt.SECONDS} s of the quick"


@pytest.mark.parametrize("asked", ["", "stats", "fail"])
def test_where_no_mutant_is_hunted_all_tests_run(monkeypatch, asked):
    monkeypatch.setattr(hunt.gc, "freeze", lambda: None)  # the other tests of this process would keep their garbage
    monkeypatch.setenv("MUTANT_UNDER_TEST", asked)  # what mutmut sets it to before it hunts
    items = [SimpleNamespace(nodeid=name, path=Path(f"tests/test_{name}.py")) for name in ("gpt", "bert")]
    hunt.pytest_collection_modifyitems(None, items)
    assert [item.nodeid for item in items] == ["gpt", "bert"]


def test_the_hunt_of_a_module_without_a_file_of_its_own_begins_with_its_folders(monkeypatch):
    monkeypatch.setattr(hunt, "seconds", {"a": 8.0, "b": 0.1, "c": 9.0})
    monkeypatch.setenv("MUTANT_UNDER_TEST", "minitransformer.tuning.method.x_load__mutmut_1")
    files = {"a": "test_tuning.py", "b": "test_tuning_lora.py", "c": "test_tuning.py"}
    items = [SimpleNamespace(nodeid=name, path=Path("tests", file)) for name, file in files.items()]
    hunt.pytest_collection_modifyitems(None, items)
    assert [item.nodeid for item in items] == ["a", "c", "b"], (
        "tests/tuning/test_method.py is where method.py is tested"
    )


def test_the_hunt_refuses_names_that_pytest_would_not_find_again():
    odd = SimpleNamespace(nodeid="tests/models/test_gpt.py::test_x[a\\u2013b]", path=Path("tests/models/test_gpt.py"))
    with pytest.raises(pytest.UsageError, match=r"name in ASCII: tests/models/test_gpt.py::test_x"):
        hunt.pytest_collection_modifyitems(None, [odd])


def test_whatever_hunts_has_a_name_that_pytest_finds_again(request):
    hunting = set(re.findall(r'"(tests/test_\w+\.py)",', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert "tests/models/test_gpt.py" in hunting
    odd = hunt.unfindable([item for item in request.session.items if item.location[0] in hunting])
    assert not odd, f"make mutants would refuse this: give its parameters a name in ASCII. {odd[0]}"
