"""Prose as the page's Markdown: translated, marked, set apart."""

from minitransformer.course.book import prose
from minitransformer.course.translation.blocks import Translator


def test_page_markdown_marks_what_is_not_translated():
    chinese = Translator({"Known {0}.": "已知 {0}。"})
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


def test_what_a_lesson_makes_bold_in_a_quote_is_bold():
    assert "<p><strong>Once</strong> it &lt;was&gt; 2 * 3 * 4.</p>" in prose.markdown("> **Once** it <was> 2 * 3 * 4.")
