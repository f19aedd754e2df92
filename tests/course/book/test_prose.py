"""Prose by blocks: cut, masked, translated, written for the page."""

from minitransformer.course.book import prose

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
    found = [(block.kind, block.text) for block in prose.blocks(TEXT)]
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
    pattern, numbers = prose.masked(text)
    assert pattern == "{0} weights, {1} rows that sum to {2} each, so {3} of w_{{4}}"
    assert prose.filled(pattern, numbers) == text
    assert prose.filled("{1} 行，共 {0} 个权重", numbers) == "6 行，共 36 个权重"


def test_translator():
    chinese = prose.Translator({"{0} weights": "{0} 个权重"})
    assert chinese("36 weights") == "36 个权重"
    assert chinese("7 weights") == "7 个权重"
    assert chinese("other words") == "other words"
    assert chinese.lacks("other words")
    assert not chinese.lacks("7 weights")
    assert not chinese.lacks("`code` 3")  # nothing to translate
    assert not prose.ENGLISH.lacks("other words")


def test_page_markdown_marks_what_is_not_translated():
    chinese = prose.Translator({"Known {0}.": "已知 {0}。"})
    page = prose.markdown("Known 3.\n\nUnknown words.", chinese)
    assert "已知 3。" in page
    assert "{.untranslated lang=en}\nUnknown words." in page


def test_a_prediction_is_set_apart():
    assert ":::{container} predict\n**Predict before you run:** what?\n:::" in prose.markdown(
        "**Predict before you run:** what?"
    )


def test_what_a_model_wrote_is_text():
    assert "&lt;script&gt;" in prose.markdown("> <script>alert(1)</script>")
    assert "&lt;b&gt;" in prose.inline_html("<b>")
