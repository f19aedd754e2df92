"""Which language the terminal speaks, and where its translations come from."""

import pytest

from minitransformer.course.translation import catalogues
from minitransformer.errors import UserError

PO = (
    'msgid "{0} heads"\nmsgstr "{0} 个头"\n\n#, fuzzy\nmsgid "Old words"\nmsgstr "旧"\n\nmsgid "New words"\nmsgstr ""\n'
)
COURSE = 'msgid "Press {0}."\nmsgstr "按 {0}。"\n'


@pytest.fixture
def chinese(tmp_path, monkeypatch):
    folder = tmp_path / "zh"
    folder.mkdir()
    (folder / "lesson_02.po").write_text(PO, encoding="utf-8")
    (folder / "course.po").write_text(COURSE, encoding="utf-8")
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    catalogues.forget()
    yield folder
    catalogues.forget()


@pytest.mark.parametrize(
    "settings, language",
    [
        ({}, "en"),
        ({"LESSON_LANG": "en"}, "en"),
        ({"LESSON_LANG": "zh"}, "zh"),
        ({"LESSON_LANG": "zh_CN"}, "zh"),
        ({"LESSON_LANG": "ZH-TW"}, "zh"),
        ({"LANG": "zh_CN.UTF-8"}, "en"),  # not asked for
        ({"LESSON_LANG": "auto", "LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LESSON_LANG": "auto", "LC_ALL": "de_DE.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LESSON_LANG": "auto", "LANG": "C.UTF-8"}, "en"),
    ],
)
def test_the_language_is_asked_for(chinese, monkeypatch, settings, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert catalogues.chosen() == language


def test_an_unknown_language_is_refused(chinese, monkeypatch):
    monkeypatch.setenv("LESSON_LANG", "fr")
    with pytest.raises(UserError, match="LESSON_LANG=fr: there is no such translation. The languages are en, zh"):
        catalogues.chosen()


def test_a_lesson_and_the_messages(chinese, monkeypatch):
    of_lesson = catalogues.translator("zh", 2)
    assert of_lesson("12 heads") == "12 个头"
    assert of_lesson("Old words") == "Old words", "a stale translation is not shown"
    assert catalogues.t("Press Enter.") == "Press Enter."
    monkeypatch.setenv("LESSON_LANG", "zh")
    assert catalogues.t("Press Enter.") == "按 Enter。"
    assert catalogues.t("3 heads") == "3 个头", "a message may have an exercise's words in it"


def test_a_damaged_catalogue_is_named(chinese):
    (chinese / "lesson_07.po").write_text('msgid "open\n')
    with pytest.raises(UserError, match="lesson_07.po is no .po file"):
        catalogues.read("zh", 7)
