"""The terminal: wrapped prose, tables that line up, an empty line between two things."""

import io
import re
import sys

import pytest

from minitransformer.course import output, show
from minitransformer.course.output import Table, terminal
from minitransformer.errors import UserError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def laid_out(rows, headers, formats=None, width=None) -> str:
    return terminal.layout(Table.of(rows, headers, formats), width)


def test_display_width_counts_chinese_twice():
    assert terminal.display_width("前缀 prefix") == 11
    assert terminal.display_width("e\u0301") == 1


@pytest.mark.parametrize("width", [20, 33, 60, 88])
def test_wrap_keeps_every_word_and_the_width(width):
    text = (
        "A token (词元 token) 注意力机制让每一个词都能够看到其他所有的词，并且决定（自注意力），“怎样”看。 "
        "Then `a = b + c` and more words."
    )
    lines = terminal.wrap(text, width)
    assert all(terminal.display_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split()), "characters were lost or added"
    assert sum("`a = b + c`" in line for line in lines) == 1, "a code span was broken"
    assert not any(line[0] in "，。”）" for line in lines), "a line begins with Chinese punctuation"
    assert not any(line[-1] in "“（" for line in lines), "a line ends with an opening bracket"


@pytest.mark.parametrize(
    "text, lines",
    [
        ("five and “␣made” it", ["five and", "“␣made” it"]),
        ("five and （x） it", ["five and", "（x） it"]),
        ("一二三四五“（六）”七", ["一二三四五", "“（六）”七"]),
        ("一二三四五六。", ["一二三四五", "六。"]),
        ("印成 `a b`。一二三", ["印成", "`a b`。一二", "三"]),
        ("一二三“`词 b`”四", ["一二三", "“`词 b`”四"]),
        ("(`a b`), `c`s", ["(`a b`),", "`c`s"]),
    ],
)
def test_wrap_around_punctuation(text, lines):
    assert terminal.wrap(text, 11) == lines


def test_wrap_never_hangs_on_a_word_longer_than_the_line():
    assert terminal.wrap("short " + "x" * 50 + " end", 20) == ["short", "x" * 50, "end"]


def test_say_keeps_formulas_and_hangs_lists(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    terminal.say(
        "A paragraph on\ntwo lines, which is wrapped again.\n\n"
        "    A = softmax(Q Kᵀ / √d_k) V, long but kept\n\n"
        "- one item that is longer than a line\n- two\n  goes on\n  - nested"
    )
    assert capsys.readouterr().out.split("\n") == [
        "A paragraph on two lines,",
        "which is wrapped again.",
        "",
        "    A = softmax(Q Kᵀ / √d_k) V, long but kept",
        "",
        "- one item that is longer than",
        "  a line",
        "- two goes on",
        "  - nested",
        "",
    ]


def test_colours_only_on_a_terminal_without_no_color(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert terminal.styled("x", "bold") == "\033[1mx\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.styled("x", "bold") == "x"


def test_emphasis_is_style_on_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    line = "One *word* and **two words**, but 2 * 3 * 4, f(*a, **b) and a*b*c stay."
    terminal.say(line)
    assert capsys.readouterr().out.strip() == "One word and two words, but 2 * 3 * 4, f(*a, **b) and a*b*c stay."
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    terminal.say(line)
    assert "\033[3mword\033[0m and \033[1mtwo words\033[0m, but 2 * 3 * 4" in sys.stdout.getvalue()


def test_table_aligns_chinese():
    text = laid_out([["前缀 prefix", 1.5, 1000], ["x", None, 2]], ["name", "loss", "n"], [None, ".2f", ","])
    lines = text.split("\n")
    assert lines == [
        "name         loss      n",
        "───────────  ────  ─────",
        "前缀 prefix  1.50  1,000",
        "x               –      2",
    ]
    assert len({terminal.display_width(line) for line in lines}) == 1, "the columns' ends do not line up"


def test_table_errors():
    with pytest.raises(UserError, match="Row 2 .* 1 values for 2 headers"):
        Table.of([[1, 2], [1]], ["a", "b"])
    with pytest.raises(UserError, match="2 headers, 1 formats"):
        Table.of([[1, 2]], ["a", "b"], [None])


def test_a_table_without_rows():
    assert laid_out([], ["a", "bc"]) == "a  bc\n─  ──"


def columns_of(text: str) -> list[str]:
    """What stands in each column of a table, spaces aside; the rule says where the columns are."""
    lines = text.split("\n")
    rule = next(line for line in lines if set(line) <= {"─", " "})
    starts = [match.start() for match in re.finditer("─+", rule)]
    columns = [""] * len(starts)
    for line in lines:
        at = 0
        for char in line:
            column = sum(start <= at for start in starts) - 1
            columns[column] += char.strip()
            at += terminal.display_width(char)
    return columns


@pytest.mark.parametrize("width", [200, 60, 40, 31])
def test_a_wide_table_is_folded_to_the_terminal(width):
    rows = [["前缀让每一层都多出几个可以训练的键和值", "a sentence that takes some room", 1234], ["x", "y", 5]]
    headers = ["方法", "what it is", "how many numbers it has"]
    text = laid_out(rows, headers, width=width)
    assert max(map(terminal.display_width, text.split("\n"))) <= width
    kept, whole = columns_of(text), columns_of(laid_out(rows, headers))
    assert [part.replace("─", "") for part in kept] == [part.replace("─", "") for part in whole]
    assert any("1234" in line for line in text.split("\n")), "a number was broken"


def test_a_table_whose_words_do_not_fit_keeps_them_whole():
    lines = laid_out([["incomprehensibility", 1]], ["a", "b"], width=10).split("\n")
    assert "incomprehensibility  1" in lines


def test_fenced_code_is_kept(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    terminal.say("So:\n\n```python\nx = 1  # a line that is longer than thirty\n```\n\n### Less\nEnd.")
    assert capsys.readouterr().out == "So:\n\n    x = 1  # a line that is longer than thirty\n\nLess\nEnd.\n"


def test_an_empty_line_stands_between_two_things(capsys):
    with output.to(output.Terminal()):
        show.say("One.")
        show.say("\nTwo.\n")
        show.say("- a")
        show.say("- b")
        show.verbatim("x  1")
        show.verbatim("y  2")
        show.table([[1]], ["n"])
    assert capsys.readouterr().out == "One.\n\nTwo.\n\n- a\n- b\n\nx  1\ny  2\n\nn\n─\n1\n"


def test_what_a_stream_cannot_write_becomes_a_question_mark(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    with output.to(output.Terminal()):
        show.table([["前缀"]], ["θ"])
    assert stream.buffer.getvalue() == b"?\n????\n??\n"


@pytest.mark.parametrize(("mark", "code"), [("**", 1), ("*", 3)])
def test_emphasis_goes_on_where_its_line_breaks(mark, code, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "text_width", lambda: 30)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.say(f"- plain words, then {mark}some that matter more than the line is wide{mark} and plain words")
    out = capsys.readouterr().out
    assert "*" not in out and re.sub(r"\033\[\d+m", "", out).split() == (
        "- plain words, then some that matter more than the line is wide and plain words".split()
    )
    assert len(re.findall(rf"\033\[{code}m[^\n]*\033\[0m", out)) == 3  # three lines, each begun and ended
