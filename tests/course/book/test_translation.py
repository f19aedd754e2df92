"""Translation by block, on a small lesson: missing, stale and complete."""

import re

import pytest

from minitransformer.course.book import glossary, records, translation
from minitransformer.course.translation import catalogues
from minitransformer.errors import UserError
from tests.conftest import ROOT

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
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path / "translations")
    monkeypatch.setattr(translation, "ROOT", tmp_path)
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    catalogues.forget()
    course_root(7, LESSON)
    yield course_root
    catalogues.forget()


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
    assert catalogues.translator("zh", 7)("A prefix of 25 rows is added.") == "加上 25 行的前缀。"
    assert catalogues.translator("en", 7)("Adding") == "Adding"


def test_a_changed_block_goes_stale_alone(course):
    fill(translation.update("zh", 7), WORDS)
    course(7, LESSON.replace("A prefix of 10 rows is added.", "A prefix of 10 rows is added here."))
    translation.update("zh", 7)
    (fault,) = translation.faults("zh", 7)
    assert fault == "Its English has changed: 'A prefix of {0} rows is added here.'"
    # A stale translation is not shown.
    assert catalogues.translator("zh", 7).lacks("A prefix of 10 rows is added here.")
    assert catalogues.translator("zh", 7)("Adding") == "加法"


def test_another_number_is_no_change(course):
    fill(translation.update("zh", 7), WORDS)
    course(7, LESSON.replace("10 rows", "20 rows"))
    assert translation.faults("zh", 7) == []


def test_lost_numbers_and_other_terms(course):
    fill(translation.update("zh", 7), WORDS | {"A prefix of {0} rows is added.": "加上十行的词头。"})
    faults = translation.faults("zh", 7)
    assert any(fault.startswith("The translation lacks {0}.") for fault in faults)
    assert any("'prefix' is '前缀'" in fault for fault in faults)


def test_declared(course, tmp_path):
    assert translation.languages() == []
    (tmp_path / "translations" / "zh").mkdir(parents=True)
    (tmp_path / "translations" / "zh" / "declared.txt").write_text("7\n\n9\nbook\n")
    assert translation.declared("zh") == [7, 9, "book"]
    assert translation.languages() == []
    translation.update("zh", 7)
    assert translation.languages() == ["zh"]
    (tmp_path / "translations" / "zh" / "declared.txt").write_text("seven\n")
    with pytest.raises(UserError, match="declared.txt:1: 'seven' is neither a lesson's number nor one of course, book"):
        translation.declared("zh")


WRONG = {
    "a lost number": ("Each row sums to {0}.", "每行之和是一。", "The translation lacks {0}."),
    "a number too many": ("Each row sums to {0}.", "每行之和是 {0}{1}。", "The translation has {1}, which"),
    "another term": ("A prefix is read.", "词头被读取。", "'prefix' is '前缀' in the glossary"),
    "a half-width comma": ("Now, then.", "现在,然后。", "A half-width mark stands beside Chinese"),
    "a comma and a space": ("Now, then.", "现在, 然后。", "A half-width mark stands beside Chinese"),
    "a half-width full stop": ("It is so.", "就是这样.", "A half-width mark stands beside Chinese"),
    "a half-width colon": ("So: a", "这样:a", "A half-width mark stands beside Chinese"),
    "a half-width question mark": ("How much is it?", "是多少?", "A half-width mark stands beside Chinese"),
    "an English sentence": (
        "One. It is what it is.",
        "一。It is what it is.",
        "English is left in it: 'It is what it is'",
    ),
    "nothing but English": ("how it was", "how it was", "There is no Chinese in it."),
}


@pytest.mark.parametrize("english, chinese, says", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_translation_is_said(english, chinese, says):
    (fault,) = translation.faults_of(english, chinese)
    assert fault.startswith(says)


@pytest.mark.parametrize(
    "english, chinese",
    [
        ("A row sums to {0}, see `x, y` and {1} §{2}.", "一行之和是 {0}，见 `x, y` 和 {1} §{2}。"),
        (
            'Read "Prefix-Tuning: Optimizing Continuous Prompts".',
            '阅读 "Prefix-Tuning: Optimizing Continuous Prompts"。',
        ),
        ("The shape is (B, T, C); x.size(-{0}) is C.", "形状是 (B, T, C)；x.size(-{0}) 就是 C。"),
        ("top-k", "top-k"),
        ("lesson{0?} {1}", "第 {1} 课"),
    ],
)
def test_nothing_is_wrong_with_these(english, chinese):
    assert translation.faults_of(english, chinese) == []


def test_a_cell_of_a_table_may_stay_english(course, monkeypatch):
    texts = [("no mask", "table, line 3, optional"), ("a head", "table, line 3")]
    monkeypatch.setattr(translation, "texts", lambda part: iter(texts))
    assert translation.faults("zh", 7) == ["Not translated: 'a head'"]
    texts.append(("no mask", "lesson.py:9"))  # it stands in the prose as well
    assert len(translation.faults("zh", 7)) == 2


def test_what_may_stay_english_gets_no_guess_from_another_block(course, monkeypatch):
    texts = [("Adding one row to the prefix", "table, line 3, optional"), ("Adding one row to it all", "table, line 3")]
    monkeypatch.setattr(translation, "texts", lambda part: iter(texts))
    fill(translation.update("zh", 7), {text: "把一行加进前缀" for text, _ in texts})
    texts[:] = [(text.replace("one", "a"), where) for text, where in texts]
    translation.update("zh", 7)
    assert translation.faults("zh", 7) == ["Its English has changed: 'Adding a row to it all'"]


ROWS = "| Lesson | Question |\n|---|---|\n| A first lesson | What is two and two? |\n"
README = f"# A course\n\n{ROWS}\n    make it  # make it\n"


def test_readme_is_made_from_its_catalogue_and_the_lessons(course, tmp_path):
    (tmp_path / "README.md").write_text(README)
    fill(translation.update("zh", 7), WORDS)
    path = translation.update("zh", "readme")
    assert [one for one, _ in translation.texts("readme")] == ["A course", "Lesson", "Question", "# make it"]
    words = {"A course": "一门课", "Lesson": "课", "Question": "问题", "# make it": "# 做"}
    fill(path, words)
    (fault,) = translation.faults("zh", "readme")
    assert fault.startswith("README.zh.md is not what README.md and its catalogue give")
    translation.main("zh", "readme")
    assert translation.faults("zh", "readme") == []
    assert (tmp_path / "README.zh.md").read_text(encoding="utf-8") == (
        "# 一门课\n\n| 课 | 问题 |\n|---|---|\n| 第一课 | 二加二等于几？ |\n\n    make it  # 做\n"
    )


@pytest.mark.parametrize("language", ["zh 3", "xx", "", "../zh"])
@pytest.mark.parametrize("part", [None, "readme"])
def test_an_unknown_language_is_refused_by_name(language, part):
    with pytest.raises(UserError, match="There is no language " + re.escape(repr(language))):
        translation.main(language, part)


@pytest.mark.parametrize("language", ["ZH", "zh_CN", "zh-Hans", "fr_FR"])
def test_a_catalogue_that_nobody_would_read_is_not_begun(language):
    code = language[:2].lower()
    with pytest.raises(UserError, match=f"'{language}': a language is named by its code alone. .* read as {code}"):
        translation.main(language, "readme")
    assert not translation.path_of(language, "readme").exists()


@pytest.mark.parametrize("language", ["en", "en_GB"])
def test_the_courses_own_language_is_refused(language):
    with pytest.raises(UserError, match="The course is written in English"):
        translation.main(language, "readme")


def test_the_figures_words_can_be_translated():
    words = translation.figure_words()
    assert "Temperature" in words and "The texts differ." in words and "pirate" in words


def test_glossary():
    names = [term.english for term in glossary.terms()]
    assert len(set(names)) == len(names) > 40
    assert glossary.wrong_terms("prefix tuning is light", "前缀微调很轻") == []
    assert len(glossary.wrong_terms("a prefix and prefix tuning", "前缀微调")) == 0


def test_a_word_with_two_meanings():
    """A matrix has a rank (秩), and a token has one among the tokens (序号); to rank tokens is 排序."""
    assert glossary.wrong_terms("The matrix has rank 2.", "矩阵的秩是 2。") == []
    assert glossary.wrong_terms("The lowest rank was learned first.", "序号最小的最先学到。") == []
    assert glossary.wrong_terms("Rank all tokens.", "给所有词元排序。") == []
    (wrong,) = glossary.wrong_terms("The matrix has rank 2.", "矩阵的级是 2。")
    assert "'rank' is '秩'" in wrong


DECLARED = [(language, part) for language in translation.languages() for part in translation.declared(language)]


@pytest.mark.ci
@pytest.mark.parametrize("language, part", DECLARED)
def test_what_is_declared_is_translated(language, part):
    assert translation.faults(language, part) == []


def test_chinese_is_there():
    """All of it; or the test above would prove nothing."""
    assert {("zh", part) for part in translation.every_part()} == set(DECLARED)
    assert (ROOT / "README.zh.md").is_file()
