"""Rows of tasks: one JSON object a line; bad ones are named by their line."""

import json
import re

import pytest

from minitransformer.course.jsonl import read_jsonl
from minitransformer.errors import UserError


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ('{"a": "x"}\n{"a": \n', "line 2, column .*: this is not JSON"),
        ('{"a": "x"}\n\n[1]\n', "line 3: an example is a JSON object"),
        ('{"a": "x"}\n{"b": 1}\n', r"line 2: the example has no field 'a'; it has \['b'\]"),
        ('{"a": "x"}\n{"a": 1}\n', "line 2: 'a' has to be a text; it is 1"),
        ('{"a": null}\n', "line 1: 'a' has to be a text; it is null"),
        ('{"a": ["%s"]}\n' % ("x" * 90), r"line 1: 'a' has to be a text; it is \[\"x{38} …"),
        ("\n", "holds no example"),
    ],
)
def test_bad_jsonl(tmp_path, data, sentence):
    (tmp_path / "d.jsonl").write_text(data)
    with pytest.raises(UserError, match=sentence):
        read_jsonl(tmp_path / "d.jsonl", fields=["a"])


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (str, ["", "1"], [1, None, ["a"]]),
        (float, [1, 1.5, -2e9], ["1", True, None, {}]),
        (int, [0, -7], [1.0, True, "1"]),
        (dict, [{}, {"b": 1}], [[], "{}", None]),
        (list, [[], [1]], [{}, "a"]),
    ],
)
def test_the_kinds_of_fields(tmp_path, kind, right, wrong):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"a": value}) + "\n" for value in right))
    assert [row["a"] for row in read_jsonl(path, {"a": kind})] == right
    for value in wrong:
        path.write_text(json.dumps({"a": value}))
        with pytest.raises(UserError, match=f"'a' has to be (a|an) .*; it is {re.escape(json.dumps(value))}"):
            read_jsonl(path, {"a": kind})


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\ufeff", "文"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_jsonl_is_cut_at_newlines_alone(tmp_path, sign, mark, end):
    path = tmp_path / "d.jsonl"
    row = {"text": f"a{sign}b"}
    line = json.dumps(row, ensure_ascii=sign < " ")
    path.write_text(mark + line + end + line + end + end, encoding="utf-8", newline="")
    assert read_jsonl(path, ["text"]) == [row, row]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"a": NaN}', "line 2: this JSON cannot be read .NaN is no number in JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number in JSON"),
        (b'{"a": 1, "a": 2}', "the field 'a' stands there twice"),
        (b"[" * 100_000, "line 2"),
        (b"\xff", "line 2: this is not UTF-8 text"),
        (b"3", "this is int"),
        (b'{"b": 1}', "has no field 'a'; it has .'b'."),
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path, line, sentence):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=sentence):
        read_jsonl(path, {"a": int})
