"""The catalogues of translations, lessons/translations/LANGUAGE/*.po, read by Babel; and which language was asked for.

lesson_09.po has the blocks of lesson 9, course.po the messages of the machine around the lessons, book.po the words of
the read-along book and of its living figures, laboratory.po and readme.po those of data/lab/README.md and README.md.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from minitransformer.course.bootstrap import ROOT
from minitransformer.course.translation.blocks import ENGLISH, Translator
from minitransformer.course.translation.messages import Messages
from minitransformer.errors import UserError

FOLDER = ROOT / "lessons" / "translations"
Part = int | str
"""Of what a catalogue is: a lesson's number, "course", "book" or "readme"."""
PARTS = ("course", "book", "laboratory", "readme")


def path_of(language: str, part: Part) -> Path:
    """The .po file of a lesson, or of another part."""
    return FOLDER / language / (f"lesson_{part:02}.po" if isinstance(part, int) else f"{part}.po")


def available() -> list[str]:
    """The languages that have a catalogue, beside English."""
    return sorted({path.parent.name for path in FOLDER.glob("*/*.po")})


def chosen() -> str:
    """The language in which the terminal speaks: LESSON_LANG, such as "zh"; with LESSON_LANG=auto the locale's.

    Raises:
        UserError: there is no translation into the language that LESSON_LANG names.
    """
    asked = os.environ.get("LESSON_LANG", "").strip()
    is_auto = asked.lower() == "auto"
    if is_auto:
        named = (os.environ.get(variable) for variable in ("LC_ALL", "LC_MESSAGES", "LANG"))
        asked = next(filter(None, named), "")
    language = asked.replace("-", "_").replace(".", "_").partition("_")[0].lower()
    if language in ("", "en") or language in available():
        return language or "en"
    if is_auto:
        return "en"
    there = ", ".join(["en", *available()])
    raise UserError(f"LESSON_LANG={asked}: there is no such translation. The languages are {there}; auto takes yours.")


def read(language: str, part: Part) -> Any:
    """A catalogue (babel.messages.catalog.Catalog), empty if there is no file.

    Raises:
        UserError: the file is no .po file.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import PoFileError, read_po

    path = path_of(language, part)
    if not path.is_file():
        return Catalog(locale=language, charset="utf-8")
    try:
        with path.open("rb") as file:
            return read_po(file, locale=language, charset="utf-8", abort_invalid=True)
    except (PoFileError, ValueError) as error:
        place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise UserError(f"{place} is no .po file that Babel can read: {error}.") from error


def known(language: str, part: Part) -> dict[str, str]:
    """Masked English → translation, without those that are fuzzy: they belong to another English."""
    return {one.id: one.string for one in read(language, part) if one.id and one.string and not one.fuzzy}


@lru_cache
def translator(language: str, part: Part) -> Translator:
    """How the blocks of a part are translated.

    Raises:
        UserError: as `read`.
    """
    return ENGLISH if language == "en" else Translator(known(language, part))


@lru_cache
def messages(language: str) -> Translator:
    """How what the commands say is translated: the machine's messages, with texts of lessons and exercises in them.

    Raises:
        UserError: as `read`.
    """
    if language == "en":
        return ENGLISH
    texts: dict[str, str] = {}
    for path in sorted((FOLDER / language).glob("lesson_*.po")):
        texts |= known(language, int(path.stem[7:]))
    return Messages(texts, known(language, "course"))


def t(text: str) -> str:
    """What a command says, in the language that was asked for.

    Raises:
        UserError: as `chosen` and `read`.
    """
    return messages(chosen())(text)


def forget() -> None:
    """Read the catalogues anew when they are next asked for."""
    translator.cache_clear()
    messages.cache_clear()
