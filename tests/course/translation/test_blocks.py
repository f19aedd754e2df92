"""Text by blocks: cut, masked, translated."""

import pytest

from minitransformer.course.translation.blocks import (
    ENGLISH,
    Translator,
    asides,
    blocks,
    filled,
    masked,
    translatable,
    translated,
)

TEXT = """## A heading

First line
of a paragraph with 3 words.

- an item
  that goes on
- another of 1,024

    x = y_1

> quoted

| a | b |
|---|---|

```python
code = 1
```
"""


def test_blocks():
    found = [(block.kind, block.text) for block in blocks(TEXT)]
    assert found == [
        ("heading", "A heading"),
        ("paragraph", "First line of a paragraph with 3 words."),
        ("item", "an item that goes on"),
        ("item", "another of 1,024"),
        ("indented", "x = y_1"),
        ("quote", "quoted"),
        ("table", "| a | b |\n|---|---|"),
        ("fence", "```python\ncode = 1\n```"),
    ]


def test_numbers_are_masked_and_put_back():
    text = "36 weights, 6 rows that sum to 1.0 each, so 6.0000 of w_{1}"
    pattern, numbers = masked(text)
    assert pattern == "{0} weights, {1} rows that sum to {2} each, so {3} of w_{{4}}"
    assert filled(pattern, numbers) == text
    assert filled("{1} 行，共 {0} 个权重", numbers) == "6 行，共 36 个权重"


@pytest.mark.parametrize(
    "text, pattern",
    [
        ("mean 0, variance 1.", "mean {0}, variance {1}."),  # the comma and the full stop belong to the sentence
        ("1,234,567 of 12,5", "{0} of {1},{2}"),
        ("by 2e-07 at most, 1e5 or 3.5e+10", "by {0} at most, {1} or {2}"),
        ("[0, 1, 0], 004 §2.2", "[{0}, {1}, {2}], {3} §{4}"),
    ],
)
def test_what_a_number_is(text, pattern):
    assert masked(text)[0] == pattern


def test_translator():
    chinese = Translator({"{0} weights": "{0} 个权重"})
    assert chinese("36 weights") == "36 个权重"
    assert chinese("7 weights") == "7 个权重"
    assert chinese("other words") == "other words"
    assert chinese.lacks("other words")
    assert not chinese.lacks("7 weights")
    assert not chinese.lacks("`code` 3")  # nothing to translate
    assert not ENGLISH.lacks("other words")


ITEMS = "Two things:\n\n- one\n- two\n\n    x = 1        where x is one\n\nThe end."


def test_a_text_is_translated_block_by_block():
    known = {"Two things:": "两件事：", "two": "二", "x = {0}        where x is one": "x = {0}        其中 x 是一"}
    chinese = "两件事：\n\n- one\n- 二\n\n    x = 1        其中 x 是一\n\nThe end."
    assert translated(ITEMS, Translator(known)) == chinese
    assert translated(ITEMS, Translator({})) == ITEMS
    assert translated(TEXT, ENGLISH) is TEXT


def test_a_page_is_translated_with_its_tables_and_code():
    page = "<!-- rows -->\n| a word | b |\n|---|---|\n| no | `c` |\n\n    make it  # does it"
    assert translatable(page) == []
    assert translatable(page, whole=True) == ["a word", "no", "# does it"]
    known = {"a word": "一个词", "no": "否", "# does it": "# 做"}
    chinese = "<!-- rows -->\n\n| 一个词 | b |\n|---|---|\n| 否 | `c` |\n\n    make it  # 做"
    assert translated(page, Translator(known), whole=True) == chinese


def test_indented_words_are_given_as_asides():
    assert asides("    x = 1        where x is one\n\ntext\n\n    a = b") == ["x = {0}        where x is one"]
