"""Stubs and solutions are cut from a module's source."""

import sys
from pathlib import Path

import pytest

from minitransformer.course.workbook import catalogue, cut, imports, verify
from minitransformer.errors import UserError
from tests.course.workbook.helpers import CLASS, PAIR, TOYS, add_given, check_here, the, write_workbook


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


def test_a_whole_class_can_be_an_exercise(toys):
    """Signatures, docstrings and fields stay in the stub, so they are no answer that leaks."""
    Path(toys.__file__).write_text(TOYS + CLASS, encoding="utf-8")
    sys.modules.pop("toys")
    catalogue.files()[1].write_text(PAIR, encoding="utf-8")
    one = the("1.1").cut
    assert '"""The first of them."""' in one.stub and "def total(self, times: int = 1) -> int:" in one.stub
    for secret in ("_weighted", "has to find", "self.b"):
        assert secret not in one.stub
    assert verify.verify_lesson(1) == []
    said = write_workbook(solved=("1.1",), edits=[("other * self.b", "other * self.b + 1")]) and check_here()["1.1"]
    assert said["state"] == "failed" and '"once" is not as it should be. expected 7' in " ".join(said["text"].split())


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
    assert imports.header([after], "it")[-1] == "from toys import Counter, rest"
    assert imports.header([before], "it")[-1] == "from toys import Counter"


def test_a_class_says_what_may_be_used_below_its_own_docstring(tmp_path):
    add_given(tmp_path, ("rest(x): a view.",), target="toys:Counter")
    lines = the("1.3").cut.stub.split("\n")
    assert lines[1:5] == ['    """Counts."""', "", "    # You may use:", "    #   rest(x): a view."]
