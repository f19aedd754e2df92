"""What belongs to which exercise is found in a workbook's text."""

from pathlib import Path

from minitransformer.course.workbook import book, catalogue, checking, loading, reading
from tests.course.workbook.helpers import SUM, add_given, check_here, the, write_workbook


def test_what_may_be_used_is_no_code_of_the_learners(tmp_path):
    add_given(tmp_path)
    stubs = book.new_text(1, catalogue.exercises(1))
    text = stubs.replace('raise NotImplementedError("write this")', "return 7  # mine")
    assert reading.own_source(text, reading.parse(Path("w"), text), the("1.3")) == "return 7  # mine"


def test_deleted_and_renamed_functions():
    path = write_workbook(edits=[("def running_sum", "def sum_up")])
    assert "under the heading of 1.1 stands sum_up" in check_here("1.1")["1.1"]["text"]
    text = path.read_text(encoding="utf-8")
    start, end = text.index("# ─"), text.index("# ─", text.index("sum_up"))
    write_workbook(text[:start] + text[end:])
    result = check_here(every=True)
    assert "has no running_sum. make start-1 adds the stub again" in " ".join(result["1.1"]["text"].split())
    assert result["1.2"]["state"] == result["1.3"]["state"] == "passed", "the others are checked all the same"


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
    checking.check(1, "1.1")
    out = " ".join(capsys.readouterr().out.split())
    assert "Next: 1.2 mean" in out and "changed" not in out
    assert f"its def is gone, so that its lines stand in running_sum (workbook/lesson_01.py:{number})." in out


def test_what_a_digest_is_of():
    def digest(identity, *edits, text=None):
        path = write_workbook(text, edits=edits)
        return loading.load(path, catalogue.exercises(1)).digest(the(identity))

    helped = (SUM, "    return helper(sums)"), ("def running_sum", "def helper(x):\n    return 1\n\n\ndef running_sum")
    other_helper = *helped, ("return 1", "return 2")
    assert digest("1.1", *helped) != digest("1.1", *other_helper), "what it calls belongs to it"
    assert digest("1.2", *helped) == digest("1.2", *other_helper) == digest("1.2")
    calls = ("value = x.sum() / count", "value = running_sum(x)[-1] / count")
    assert digest("1.2", calls) == digest("1.2", calls, (SUM, "    return x")), "a check takes the package's for it"
    assert digest("1.3") != digest("1.3", ("self.n +=", "self.n -="))
    assert digest("1.1", text="x = 1\n") == "" and digest("1.1", text="running_sum = abs\n") != ""
    write_workbook()
