"""What `make mutants` makes of the code before mutmut sees it, and of what mutmut leaves behind."""

import json
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest

from minitransformer.course import mutants
from minitransformer.course.mutants import Mutant, judge, report, results, undecorated
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


KEPT = Mutant("tuning/lora.py", "tuning.lora.LoRA.add", "survived", ("- return a + b  # x", "+ return b + a  # x"))
DEAD, UNTRIED = (Mutant("tuning/lora.py", "tuning.lora.LoRA.add", status) for status in ("killed", "not checked"))
WHY = {"tuning.lora.LoRA.add": {"return a + b → return b + a": "A sum has no order."}}


def test_a_change_is_named_without_comments_and_which_of_equal_ones():
    assert KEPT.change == "return a + b → return b + a"
    assert replace(KEPT, number=2).change == "return a + b → return b + a [2]"
    assert replace(KEPT, diff=("- a", "- b", "+ c")).change == "a b → c"
    assert KEPT.survived and not DEAD.survived and not UNTRIED.survived


def test_the_report_explains_each_survivor_or_says_that_it_does_not(capsys):
    unexplained = report([DEAD, KEPT], {})
    assert "| `tuning/lora.py` | 2 | 1 | 0 | 1 | 50.0% |" in unexplained
    assert "`LoRA.add`: **not explained yet**\n\n```diff\n- return a + b  # x\n+ return b + a  # x\n```" in unexplained
    assert "`LoRA.add`: A sum has no order.\n" in report([DEAD, KEPT], WHY)
    assert "(1 not tried)" in report([DEAD, KEPT, UNTRIED], WHY)
    assert judge([DEAD], {}) == 0 and judge([DEAD, KEPT], WHY) == 1, "one of two killed is not enough"
    assert judge([*[DEAD] * 20, KEPT], {}) == 1, "a survivor is not explained"
    assert judge([*[DEAD] * 20, KEPT], WHY) == 0
    assert judge([*[DEAD] * 20, UNTRIED], {}) == 1, "one has not been tried"
    capsys.readouterr()
    judge([UNTRIED], WHY)
    assert "no survivor" not in capsys.readouterr().out, "nobody knows yet"
    judge([DEAD], WHY)
    assert "explains what is no survivor: tuning.lora.LoRA.add" in capsys.readouterr().out


TOY = {
    "pyproject.toml": """
        [tool.mutmut]
        source_paths = ["minitransformer/"]
        pytest_add_cli_args_test_selection = ["tests"]
        process_isolation = "forkserver"
        use_git_change_detection = false
        """,
    "minitransformer/__init__.py": "",
    "minitransformer/toys/__init__.py": "",
    "minitransformer/toys/sums.py": """
        import functools


        class Sum:
            @functools.cache
            def total(self, a, b):
                c = a + b  # twice
                return c


        def lonely(a):
            return a + 1
        """,
    "tests/__init__.py": "",
    "tests/test_sums.py": """
        from minitransformer.toys.sums import Sum


        def test_total():
            assert Sum().total(2, 0) == 2
        """,
    "data/x": "",
}


@pytest.mark.parity
def test_a_hunt_begins_anew_and_goes_on(tmp_path, monkeypatch):
    """With mutmut itself, on a toy: what it writes is read, and after a changed test the survivors are tried again."""
    pytest.importorskip("mutmut")
    for name, text in TOY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(text), encoding="utf-8")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "WORK", tmp_path / "build" / "mutants")
    monkeypatch.chdir(tmp_path)

    def tried() -> tuple[dict[str, str], int]:
        """The survivors, and how many are killed."""
        mutants.prepare()
        mutants.hunt(["--max-children", "1"])
        found = list(results())
        kept = {f"{one.function} {one.change}": one.status for one in found if one.survived}
        return kept, len(found) - len(kept)

    assert tried() == (
        {
            "toys.sums.Sum.total c = a + b → c = a - b": "survived",  # a decorated function is mutated, too
            "toys.sums.lonely return a + 1 → return a - 1": "no tests",
            "toys.sums.lonely return a + 1 → return a + 2": "no tests",
        },
        1,
    )
    test = tmp_path / "tests" / "test_sums.py"
    text = test.read_text().replace("(2, 0) == 2", "(2, 1) == lonely(2)").replace("Sum\n", "Sum, lonely\n", 1)
    test.write_text(text)
    assert tried() == ({}, 4), "the survivors have not been tried again"


def test_the_explanations_are_of_functions_that_exist():
    why = json.loads(mutants.WHY.read_text(encoding="utf-8"))
    for function, changes in why.items():
        assert changes and all(text.endswith(".") for text in changes.values()), f"{function}: explain in a sentence"
        parts = function.split(".")
        path = next(
            filter(Path.is_file, (ROOT.joinpath("minitransformer", *parts[:n]).with_suffix(".py") for n in (1, 2, 3)))
        )
        defined = f"def {parts[-1]}(" in path.read_text(encoding="utf-8")
        assert defined, f"survivors.json explains {function}: there is none"


def test_windows_is_told(monkeypatch):
    monkeypatch.setattr(mutants.os, "name", "nt")
    with pytest.raises(UserError, match="WSL"):
        mutants.main([])


def items_in(**files: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(nodeid=f"tests/{file}::{name}") for name, file in files.items()]


def names_of(items: list[SimpleNamespace]) -> list[str]:
    return [item.nodeid.rpartition("::")[2] for item in items]


def test_the_order_of_the_hunt(monkeypatch):
    items = items_in(gpt="models/test_gpt.py", slow="test_x.py", later="test_x.py", lora="tuning/test_lora.py")
    monkeypatch.setattr(hunt, "seconds", dict(zip([item.nodeid for item in items], [0.1, 9.0, 9.5, 5.0], strict=True)))
    monkeypatch.setenv("MUTANT_UNDER_TEST", "minitransformer.tuning.lora.xǁLoRAǁbuild__mutmut_1")
    hunt.pytest_collection_modifyitems(None, items)
    chosen = names_of(items)
    assert chosen == ["lora", "gpt", "slow"], f"{chosen}: all of its own, then {hunt.SECONDS} s of the quick"


@pytest.mark.parametrize("asked", ["", "stats", "fail"])
def test_where_no_mutant_is_hunted_all_tests_run(monkeypatch, asked):
    monkeypatch.setattr(hunt.gc, "freeze", lambda: None)  # the other tests of this process would keep their garbage
    monkeypatch.setenv("MUTANT_UNDER_TEST", asked)  # what mutmut sets it to before it hunts
    items = items_in(gpt="models/test_gpt.py", bert="models/test_bert.py")
    hunt.pytest_collection_modifyitems(None, items)
    assert names_of(items) == ["gpt", "bert"]


def test_the_hunt_of_a_module_without_tests_of_its_own_begins_with_its_folders(monkeypatch):
    items = items_in(a="tuning/test_method.py", b="models/test_full.py", c="tuning/test_lora.py")
    monkeypatch.setattr(hunt, "seconds", dict(zip([item.nodeid for item in items], [8.0, 0.1, 9.0], strict=True)))
    monkeypatch.setenv("MUTANT_UNDER_TEST", "minitransformer.tuning.full.x_load__mutmut_1")
    hunt.pytest_collection_modifyitems(None, items)
    assert names_of(items) == ["a", "c", "b"], "tests/tuning/ is where full.py is tested"


def test_the_hunt_refuses_names_that_pytest_would_not_find_again():
    odd = SimpleNamespace(nodeid="tests/models/test_gpt.py::test_x[a\\u2013b]")
    with pytest.raises(pytest.UsageError, match=r"name in ASCII: tests/models/test_gpt.py::test_x"):
        hunt.pytest_collection_modifyitems(None, [odd])


def test_whatever_hunts_has_a_name_that_pytest_finds_again(request):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    selection = text.partition("pytest_add_cli_args_test_selection = [")[2].partition("]")[0]
    hunting = [line.strip().strip('",') for line in selection.strip().splitlines()]
    assert "tests/models" in hunting and all((ROOT / name).exists() for name in hunting)
    odd = hunt.unfindable([item for item in request.session.items if item.nodeid.startswith(tuple(hunting))])
    assert not odd, f"make mutants would refuse this: give its parameters a name in ASCII. {odd[0]}"


def test_all_that_is_mutated_exists():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for pattern in text.partition("only_mutate = [")[2].partition("]")[0].strip().splitlines():
        assert list(ROOT.glob(pattern.strip().strip('",'))), f"pyproject.toml: {pattern} names no file"
