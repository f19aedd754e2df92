"""Workbooks that cannot be read or run end in a sentence."""

import pytest

from tests.course.workbook.helpers import SUM, check_here, write_workbook


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
