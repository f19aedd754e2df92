"""A workbook is checked exercise by exercise, each on reference code."""

from tests.course.workbook.helpers import check_here, write_workbook


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
