"""Rows of a user's file: what is good is kept, what is not is said with its number, and splits leak nothing."""

import csv
import json
import random

import pytest

from minitransformer.course.own.rows import Row, read_rows, split_rows
from minitransformer.errors import UserError

COLUMNS = {"text": "text", "label": "label"}


def written(tmp_path, text, name="rows.jsonl", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def test_jsonl_and_csv_say_the_same(tmp_path):
    values = [{"text": 'He said: "no", and\nleft', "label": "a"}, {"text": "你好，世界", "label": "b"}]
    lines = written(tmp_path, "\n".join(json.dumps(row, ensure_ascii=False) for row in values))
    table = tmp_path / "rows.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["label", "text"])
        writer.writeheader()
        writer.writerows(values)
    for path, numbers in ((lines, [1, 2]), (table, [2, 4])):  # in the CSV the first row takes two lines
        rows, refused = read_rows(path, COLUMNS)
        assert [dict(row.values) for row in rows] == values, path.name
        assert [row.number for row in rows] == numbers and not refused


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_line_separators_in_a_string_are_no_harm(tmp_path, encoding):
    text = json.dumps({"text": "one\u2028two\u2029three\x85four", "label": "a"}, ensure_ascii=False)
    rows, refused = read_rows(written(tmp_path, text + "\r\n", encoding=encoding), COLUMNS)
    assert rows[0]["text"] == "one\u2028two\u2029three\x85four" and not refused


def test_a_blank_behind_a_label_makes_no_class_of_its_own(tmp_path):
    lines = ['{"text": " kept ", "label": "a"}', '{"text": "two", "label": "a "}', '{"text": "three", "label": "\\ta"}']
    rows, refused = read_rows(written(tmp_path, "\n".join(lines)), COLUMNS)
    assert {row["label"] for row in rows} == {"a"} and rows[0]["text"] == " kept " and not refused


def test_a_bad_row_is_said_with_its_number_and_the_others_are_kept(tmp_path):
    lines = [
        '{"text": "good", "label": "a"}',
        '{"text": "cut',
        "",
        "[1, 2]",
        '{"text": "no label"}',
        '{"text": null, "label": "a"}',
        '{"text": "  ", "label": "a"}',
        '{"text": ["a"], "label": "a"}',
        '{"text": "half \\ud800", "label": "a"}',
        '{"text": "good too", "label": 1}',
        '{"text": "a", "label": "a", "text": "b"}',
        '{"text": "a", "label": NaN}',
        '{"text": "a", "label": %s}' % ("9" * 5000),
        "[" * 100_000,
    ]
    rows, refused = read_rows(written(tmp_path, "\n".join(lines)), COLUMNS)
    assert [(row.number, row["label"]) for row in rows] == [(1, "a"), (10, "1")]
    assert [one.number for one in refused] == [2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]
    for number, words in (
        (2, "not JSON"),
        (4, "a list"),
        (5, "no 'label'"),
        (7, "empty"),
        (9, "surrogate"),
        (11, "the field 'text' stands there twice"),
        (12, "NaN is no number in JSON"),
        (13, "digits"),
        (14, "nested too deeply"),
    ):
        (why,) = [one.why for one in refused if one.number == number]
        assert words in why, f"row {number} was refused because {why}"


def test_a_csv_row_of_another_width_is_said(tmp_path):
    rows, refused = read_rows(written(tmp_path, "text,label\na,b\na,b,c\nd,e\n", "rows.csv"), COLUMNS)
    assert [row.number for row in rows] == [2, 4]
    assert [(one.number, one.why) for one in refused] == [(3, "it has 3 columns, and line 1 names 2")]


@pytest.mark.parametrize(
    "text, name, says",
    [
        (
            '{"texts": "a", "label": "b"}',
            "rows.jsonl",
            "no column 'text'.*it has 'texts', 'label'.*--columns text=NAME",
        ),
        ("", "rows.jsonl", "no row that can be used"),
        ("text,label\n", "rows.csv", "no row that can be used"),
        ("text,text\na,b\n", "rows.csv", "names the column 'text' twice"),
        (
            'text,label\na,b\nc,"d\ne,f\n',
            "rows.csv",
            "cannot be read to its end: the row that begins in line 3 is not CSV",
        ),
        ('text,label\na,b\nc,"d"x\ne,f\n', "rows.csv", "the row that begins in line 3 is not CSV"),
        ("a", "rows.txt", "neither .jsonl .* nor .csv"),
        ("nothing of this is JSON", "rows.jsonl", "The first reason is: row 1: it is not JSON"),
    ],
)
def test_a_file_that_is_no_use_is_refused(tmp_path, text, name, says):
    with pytest.raises(UserError, match=says):
        read_rows(written(tmp_path, text, name), COLUMNS)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl", COLUMNS)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "folder.jsonl", COLUMNS)
    (tmp_path / "latin.jsonl").write_bytes('{"text": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_rows(tmp_path / "latin.jsonl", COLUMNS)


def rows_of(*pairs):
    return [Row(i, {"text": text, "label": label}) for i, (text, label) in enumerate(pairs, 1)]


def test_splits_are_whole_and_the_same_again():
    rows = rows_of(*[(f"text {i}", "a") for i in range(100)])
    splits = split_rows(rows, "text", seed=3)
    assert {name: len(part) for name, part in splits.items()} == {"train": 80, "valid": 10, "test": 10}
    assert sorted(row.number for part in splits.values() for row in part) == list(range(1, 101))
    assert splits == split_rows(rows, "text", seed=3)
    assert splits != split_rows(rows, "text", seed=4)


def test_the_same_input_never_stands_in_two_splits():
    dice = random.Random(0)
    rows = rows_of(*[(f"text {dice.randrange(40)}", dice.choice("ab")) for _ in range(200)])
    for label in (None, "label"):
        home = {}
        for name, part in split_rows(rows, "text", label=label).items():
            for row in part:
                first = home.setdefault(row["text"], name)
                assert first == name, f"{row['text']!r} is in {first} and {name}"


def test_every_split_has_every_class():
    rows = rows_of(*[(f"text {i}", "rare" if i < 4 else "common") for i in range(100)])
    for name, part in split_rows(rows, "text", label="label").items():
        assert {row["label"] for row in part} == {"rare", "common"}, name


@pytest.mark.parametrize("valid, test", [(0, 0.1), (0.5, 0.5), (-0.1, 0.1), (float("nan"), 0.1)])
def test_fractions_that_leave_nothing_are_refused(valid, test):
    with pytest.raises(UserError, match="fractions"):
        split_rows(rows_of(*[(str(i), "a") for i in range(9)]), "text", valid=valid, test=test)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="2 rows leave nothing for the split .* 2 of their inputs differ"):
        split_rows(rows_of(("a", "x"), ("b", "x")), "text")


def test_a_number_is_one_class_however_json_writes_it(tmp_path):
    lines = ['{"text": "a", "label": 1}', '{"text": "b", "label": 1.0}', '{"text": "c", "label": 1.5}']
    rows, _ = read_rows(written(tmp_path, "\n".join(lines)), COLUMNS)
    assert [row["label"] for row in rows] == ["1", "1", "1.5"]
