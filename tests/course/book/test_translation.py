"""Translation by block, on a small lesson: missing, stale and complete."""

import pytest

from minitransformer.course.book import glossary, records, translation
from minitransformer.errors import UserError

pytestmark = pytest.mark.book  # Babel keeps the catalogues

LESSON = '''"""A first lesson

question: What is two and two?
minutes: 0.5
documents: 004 §2.2 自注意力机制
needs: nothing
"""

# %% [markdown]
# ## Adding
#
# A prefix of 10 rows is added.
#
#     x = 2 + 2

# %%
total = 2 + 2
'''


@pytest.fixture
def course(course_root, tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "FOLDER", tmp_path / "translations")
    monkeypatch.setattr(translation, "ROOT", tmp_path)
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    translation.translator.cache_clear()
    course_root(7, LESSON)
    yield course_root
    translation.translator.cache_clear()


def fill(path, words):
    text = path.read_text(encoding="utf-8")
    for english, chinese in words.items():
        assert f'msgid "{english}"\nmsgstr ""' in text
        text = text.replace(f'msgid "{english}"\nmsgstr ""', f'msgid "{english}"\nmsgstr "{chinese}"')
    path.write_text(text, encoding="utf-8")


WORDS = {
    "A first lesson": "第一课",
    "What is two and two?": "二加二等于几？",
    "Adding": "加法",
    "A prefix of {0} rows is added.": "加上 {0} 行的前缀。",
}


def test_from_empty_to_whole(course):
    path = translation.update("zh", 7)
    assert len(translation.faults("zh", 7)) == 4
    fill(path, WORDS)
    assert translation.faults("zh", 7) == []
    assert translation.translator("zh", 7)("A prefix of 25 rows is added.") == "加上 25 行的前缀。"
    assert translation.translator("en", 7)("Adding") == "Adding"


def test_a_changed_block_goes_stale_alone(course):
    fill(translation.update("zh", 7), WORDS)
    course(7, LESSON.replace("A prefix of 10 rows is added.", "A prefix of 10 rows is added here."))
    translation.update("zh", 7)
    (fault,) = translation.faults("zh", 7)
    assert fault == "Its English has changed: 'A prefix of {0} rows is added here.'"
    # A stale translation is not shown.
    assert translation.translator("zh", 7).lacks("A prefix of 10 rows is added here.")
    assert translation.translator("zh", 7)("Adding") == "加法"


def test_another_number_is_no_change(course):
    fill(translation.update("zh", 7), WORDS)
    course(7, LESSON.replace("10 rows", "20 rows"))
    assert translation.faults("zh", 7) == []


def test_lost_numbers_and_other_terms(course):
    fill(translation.update("zh", 7), WORDS | {"A prefix of {0} rows is added.": "加上十行的词头。"})
    faults = translation.faults("zh", 7)
    assert any(fault.startswith("The numbers are not all") for fault in faults)
    assert any("'prefix' is '前缀'" in fault for fault in faults)


def test_declared(course, tmp_path):
    assert translation.languages() == []
    (tmp_path / "translations" / "zh").mkdir(parents=True)
    (tmp_path / "translations" / "zh" / "declared.txt").write_text("7\n\n9\n")
    assert translation.declared("zh") == [7, 9]
    assert translation.languages() == ["zh"]
    (tmp_path / "translations" / "zh" / "declared.txt").write_text("seven\n")
    with pytest.raises(UserError, match="'seven' is not a lesson's number"):
        translation.declared("zh")


def test_a_damaged_catalogue_is_named(course, tmp_path):
    path = translation.path_of("zh", 7)
    path.parent.mkdir(parents=True)
    path.write_text('msgid "open\n')
    with pytest.raises(UserError, match="lesson_07.po is no .po file"):
        translation.read("zh", 7)


def test_the_figures_words_can_be_translated():
    words = translation.figure_words()
    assert "Temperature" in words and "The texts differ." in words and "pirate" in words


def test_glossary():
    names = [term.english for term in glossary.terms()]
    assert len(set(names)) == len(names) > 40
    assert glossary.wrong_terms("prefix tuning is light", "前缀微调很轻") == []
    assert len(glossary.wrong_terms("a prefix and prefix tuning", "前缀微调")) == 0


@pytest.mark.ci
def test_declared_lessons_are_translated():
    for language in translation.languages():
        for number in [*translation.declared(language), None]:
            assert translation.faults(language, number) == []
