"""The sentences of the standard library: whole, apart by module, and still in the Python that runs."""

import sys
from collections import Counter

import pytest

from minitransformer.course.real import topics
from minitransformer.course.real.topics import SPLITS, TOPICS, read


def test_no_module_and_no_text_is_in_two_splits():
    modules, texts = {}, {}
    for split in SPLITS:
        for row in read(split):
            assert modules.setdefault(row["module"], split) == split
            assert texts.setdefault(row["text"].lower(), (split, row["topic"])) == (split, row["topic"])


def test_every_split_has_every_topic_and_the_datasheet_counts_right():
    datasheet = (topics.FOLDER / "DATASHEET.md").read_text(encoding="utf-8")
    total = 0
    for split in SPLITS:
        rows = read(split)
        total += len(rows)
        counts = Counter(row["topic"] for row in rows)
        assert set(counts) == set(TOPICS) and min(counts.values()) >= 20
        assert max(counts.values()) <= topics.MOST[split]
        n_modules = len({row["module"] for row in rows})
        most = f"| {topics.MOST[split]} | {topics.MOST_OF_A_MODULE[split]} |"
        assert f"| `{split}.jsonl` | {len(rows):,} | {n_modules} {most}" in datasheet
    assert f"{total:,} sentences" in datasheet


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Return the sum of all the numbers.", "Return the sum of all the numbers."),
        ("x.f(a, b)\n\nReturn the sum of\ntwo numbers as a number.", "Return the sum of two numbers as a number."),
        ("Too short to say anything", None),
        (">>> this is the code that you would run in a shell", None),
        ("", None),
        ("word " * 50, "word " * 29 + "word"),
    ],
)
def test_opening(text, expected):
    assert topics.opening(text) == expected


def test_the_running_python_still_says_most_of_it():
    """Versions differ; a topic whose sentences were mostly gone would make the datasheet's words untrue."""
    now = {text.lower() for text in all_openings("test")}
    stored = [row["text"].lower() for row in read("test")]
    kept = sum(text in now for text in stored) / len(stored)
    assert kept > (0.98 if sys.version_info[:2] == (3, 11) else 0.6)


def all_openings(split):
    for names in TOPICS.values():
        for module in topics.modules(names[split]):
            yield from filter(None, map(topics.opening, topics.docstrings(module)))
