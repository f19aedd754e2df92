"""The book in a second language: blocks in .po files, kept by Babel, one for each lesson.

lessons/translations/zh/lesson_09.po has every paragraph, list item, title, caption and hint of lesson 9, with its
numbers masked. When an English block changes, its translation is marked fuzzy, and it alone. A lesson whose number
stands in lessons/translations/zh/declared.txt has no block that is missing, fuzzy, or at odds with the glossary: a test
holds it to that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from minitransformer.course import lessons
from minitransformer.course.book import glossary, living, prose, records
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.workbook import catalogue
from minitransformer.errors import UserError
from minitransformer.files import write_aside

FOLDER = ROOT / "lessons" / "translations"
PAGE = None
"""In the place of a lesson's number: what belongs to the book, and the words of the living figures."""


def languages() -> list[str]:
    """The languages that have a declared lesson, beside English."""
    return sorted(path.parent.name for path in FOLDER.glob("*/declared.txt") if declared(path.parent.name))


def declared(language: str) -> list[int]:
    """The lessons that are said to be translated as a whole.

    Raises:
        UserError: a line of declared.txt that is no number.
    """
    path = FOLDER / language / "declared.txt"
    if not path.is_file():
        return []
    numbers = []
    for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.strip().isdecimal():
            raise UserError(f"{path.relative_to(ROOT)}:{at}: {line.strip()!r} is not a lesson's number.")
        if line.strip():
            numbers.append(int(line))
    return numbers


# ---------------------------------------------------------------- what is translated


def blocks(number: int | None) -> Iterator[tuple[str, str]]:
    """Each block of a lesson that has words, masked, and where it stands; for None, those of the book itself.

    Raises:
        NoSuchLesson, UserError: as `lessons.load`.
    """
    if number is None:
        yield from _of_the_book()
        return
    lesson = lessons.load(number)
    place = lesson.path.name
    yield prose.masked(lesson.title)[0], f"{place}:1"
    yield prose.masked(lesson.question)[0], f"{place}:1"
    for cell in lesson.cells:
        for text in filter(None, (cell.title, cell.prose)):
            for pattern in prose.translatable(text):
                yield pattern, f"{place}:{cell.line}"
    if (records.folder_of(number) / "record.json").is_file():
        yield from _of_record(number)
    if number in catalogue.files():
        for exercise in catalogue.exercises(number):
            hints = [hint.split("\n")[0] for hint in exercise.hints]
            for text in (exercise.title, exercise.purpose, *hints):
                for pattern in prose.translatable(text):
                    yield pattern, f"exercise {exercise.id}"
    for figure in living.FIGURES:
        if figure.lesson == number:
            for text in (figure.title, figure.question, figure.answer):
                yield prose.masked(text)[0], f"living figure {figure.name}"


def _of_record(number: int) -> Iterator[tuple[str, str]]:
    from minitransformer.course import record

    for cell in record.read(number, records.folder_of(number)).cells:
        for event in cell.events:
            texts = {"say": ["text"], "figure": ["caption"]}.get(event["kind"], [])
            for name in texts:
                for pattern in prose.translatable(event[name]):
                    yield pattern, f"outcome, line {cell.line}"
            for head in event.get("headers", ()):
                if prose.is_words(head):
                    yield prose.masked(head)[0], f"table, line {cell.line}"


WORD = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')


def figure_words() -> list[str]:
    """What the living figures' scripts say, t("…")."""
    found: dict[str, None] = {}
    for path in sorted((living.PAGE / "living").glob("*.js")):
        found |= dict.fromkeys(json.loads(f'"{word}"') for word in WORD.findall(path.read_text(encoding="utf-8")))
    styles = " ".join(figure.settings.get("prefixes", "") for figure in living.FIGURES).split()
    return [*found, *dict.fromkeys(["none", *styles])]


def _of_the_book() -> Iterator[tuple[str, str]]:
    for word in figure_words():
        yield word, "living figures"
    for term in glossary.terms():
        yield prose.masked(term.meaning)[0], "glossary"


# ---------------------------------------------------------------- the catalogues


def path_of(language: str, number: int | None) -> Path:
    """The .po file of a lesson, or of the book itself."""
    return FOLDER / language / ("book.po" if number is None else f"lesson_{number:02}.po")


def update(language: str, number: int | None) -> Path:
    """Bring a catalogue up to date with the English: new blocks are empty, changed ones fuzzy. Gives its path.

    Raises:
        UserError: as `blocks`; no permission to write.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import write_po

    template = Catalog(charset="utf-8")
    for pattern, where in blocks(number):
        template.add(pattern, auto_comments=[where])
    kept = read(language, number)
    kept.update(template)
    kept.obsolete.clear()
    out = BytesIO()
    write_po(out, kept, width=0, omit_header=True)
    path = path_of(language, number)
    write_aside(path, out.getvalue())
    return path


def read(language: str, number: int | None) -> Any:
    """A lesson's catalogue, empty if there is no file.

    Raises:
        UserError: the file is no .po file.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import PoFileError, read_po

    path = path_of(language, number)
    if not path.is_file():
        return Catalog(locale=language, charset="utf-8")
    try:
        with path.open("rb") as file:
            return read_po(file, locale=language, charset="utf-8", abort_invalid=True)
    except (PoFileError, ValueError) as error:
        raise UserError(f"{path.relative_to(ROOT)} is no .po file that Babel can read: {error}.") from error


@lru_cache
def translator(language: str, number: int | None) -> prose.Translator:
    """How a lesson's blocks are translated: without those that are fuzzy, which belong to another English."""
    if language == "en":
        return prose.ENGLISH
    catalogue = read(language, number)
    return prose.Translator({one.id: one.string for one in catalogue if one.id and one.string and not one.fuzzy})


def words_script(language: str) -> str:
    """The living figures' words in a language, as a script."""
    known = translator(language, PAGE).catalogue or {}
    words = {word: known[word] for word in figure_words() if word in known}
    return (
        "globalThis.MiniTransformer = globalThis.MiniTransformer || {};\n"
        f"MiniTransformer.words = {json.dumps(words, ensure_ascii=False)};\n"
    )


def faults(language: str, number: int | None) -> list[str]:
    """What keeps a lesson from being translated as a whole, a sentence each; empty if nothing does.

    Raises:
        UserError: as `blocks` and `read`.
    """
    catalogue, found = read(language, number), []
    for pattern in dict.fromkeys(pattern for pattern, _ in blocks(number)):
        one = catalogue.get(pattern)
        short = pattern if len(pattern) < 60 else pattern[:57] + "…"
        if one is None or not one.string:
            found.append(f"Not translated: {short!r}")
        elif one.fuzzy:
            found.append(f"Its English has changed: {short!r}")
        else:
            if sorted(re.findall(r"\{\d+\}", pattern)) != sorted(re.findall(r"\{\d+\}", one.string)):
                found.append(f"The numbers are not all in the translation of {short!r}")
            found += [f"{wrong} ({short!r})" for wrong in glossary.wrong_terms(pattern, one.string)]
    return found


def main(language: str, number: int | None) -> None:
    """Update a catalogue, and say what is to be done in it."""
    from minitransformer.course.output.terminal import say

    path = update(language, number)
    wrong = faults(language, number)
    say(f"{path.relative_to(ROOT)} is up to date with the English; {len(wrong)} blocks are to be translated or mended.")
    for sentence in wrong[:10]:
        say(f"- {sentence}")
