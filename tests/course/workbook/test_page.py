"""Exercises and hints as text."""

import pytest

from minitransformer.course.workbook.page import laid_out
from minitransformer.course.workbook.page import page as page_of
from tests.course.workbook.helpers import the


def test_a_page_folds_hints_and_solution_away():
    page = page_of(the("1.1"))
    before, _, after = page.partition("<details>")
    assert "running_sum" in before and "torch.stack" not in before and "Hint" not in before
    assert page.count("<details>") == 4 and "torch.stack" in after


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
    assert laid_out(hint) == blocks
