"""Everything of the course that has words, as blocks for a translator; and what keeps a part from being translated.

lessons/translations/zh/lesson_09.po has every paragraph, list item, title, caption and hint of lesson 9, with its
numbers masked. When an English block changes, its translation is marked fuzzy, and it alone. A part that stands in
lessons/translations/zh/declared.txt, a lesson by its number, has no block that is missing, fuzzy, or at odds with the
glossary: a test holds it to that. The other parts are the machine's messages (course), the book's own words (book),
data/lab/README.md (laboratory) and README.md (readme), from which README.zh.md is made.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from minitransformer.course import lessons
from minitransformer.course.book import glossary, living, records
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.translation import catalogues
from minitransformer.course.translation.blocks import Translator, asides, is_words, masked, translatable, translated
from minitransformer.course.translation.catalogues import PARTS, Part, path_of, read, translator
from minitransformer.course.translation.messages import HAN, patterns_in
from minitransformer.course.workbook import catalogue, checking, cut
from minitransformer.errors import UserError
from minitransformer.files import write_aside

OPTIONAL = "optional"
"""In the comment of a block that may stay English: a table's cell or an indented piece, which can be from the data."""
IS_DATA = re.compile(r"[\w.!?*\"] (?:\*\*)?\[SEP\]|(?:␣.*){3}")  # a text, in the tokens that a model reads


def declared(language: str) -> list[Part]:
    """The parts that are said to be translated as a whole.

    Raises:
        UserError: a line of declared.txt that is no part.
    """
    path = catalogues.FOLDER / language / "declared.txt"
    if not path.is_file():
        return []
    parts = []
    for at, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            parts.append(as_part(line.strip(), f"{path.relative_to(ROOT)}:{at}: "))
    return parts


def as_part(word: str, where: str = "") -> Part:
    """A lesson's number, or the name of another part, as it is written.

    Raises:
        UserError: it is neither.
    """
    if word.isdecimal():
        return int(word)
    if word not in PARTS:
        raise UserError(f"{where}{word!r} is neither a lesson's number nor one of {', '.join(PARTS)}.")
    return word


def languages() -> list[str]:
    """The languages that have a declared part, beside English."""
    return [language for language in catalogues.available() if declared(language)]


# ---------------------------------------------------------------- what is translated


def texts(part: Part) -> Iterator[tuple[str, str]]:
    """Each block of a part that has words, masked, and where it stands.

    Raises:
        NoSuchLesson, UserError: as `lessons.load`.
    """
    if isinstance(part, int):
        yield from _of_lesson(part)
    elif part == "book":
        yield from _of_the_book()
    elif part == "course":
        yield from _of_the_course()
    elif part == "laboratory":
        for pattern in translatable((ROOT / "data" / "lab" / "README.md").read_text(encoding="utf-8"), whole=True):
            yield pattern, "data/lab/README.md"
    else:
        titles = {pattern for number in lessons.lesson_files() for pattern in _heads(number)}
        for pattern in translatable(readme(), whole=True):
            if pattern not in titles:  # those are in the catalogue of their lesson
                yield pattern, "README.md"


def _heads(number: int) -> list[str]:
    return [masked(text)[0] for text in lessons.heading(number)]


def _of_lesson(number: int) -> Iterator[tuple[str, str]]:
    lesson = lessons.load(number)
    place = lesson.path.name
    for head in _heads(number):
        yield head, f"{place}:1"
    for cell in lesson.cells:
        for text in filter(None, (cell.title, cell.prose)):
            for pattern in translatable(text):
                yield pattern, f"{place}:{cell.line}"
            for pattern in asides(text):
                yield pattern, f"{place}:{cell.line}, {OPTIONAL}"
    if (records.folder_of(number) / "record.json").is_file():
        yield from _of_record(number)
    if number in catalogue.files():
        for exercise in catalogue.exercises(number):
            hints = [hint.split("\n")[0] for hint in exercise.hints]
            given = [one.partition(": ")[2] for one in exercise.given]
            labels = [case.label for case in exercise.cases]
            why = [mistake.why for mistake in exercise.mistakes]
            for text in (exercise.title, exercise.purpose, *hints, *given, *labels, *why):
                for pattern in translatable(text):
                    yield pattern, f"exercise {exercise.id}"
    for figure in living.FIGURES:
        if figure.lesson == number:
            for text in (figure.title, figure.question, figure.answer):
                yield masked(text)[0], f"living figure {figure.name}"


def _of_record(number: int) -> Iterator[tuple[str, str]]:
    from minitransformer.course import record

    for cell in record.read(number, records.folder_of(number)).cells:
        outcome, cells = f"outcome, line {cell.line}", f"table, line {cell.line}"
        for event in cell.events:
            named = {"say": ["text"], "figure": ["caption", "alt"]}.get(event["kind"], [])
            for name in named:
                for pattern in translatable(event[name]):
                    yield pattern, f"{outcome}, {OPTIONAL}" if IS_DATA.search(pattern) else outcome
                for pattern in asides(event[name]):
                    yield pattern, f"{outcome}, {OPTIONAL}"
            for head in event.get("headers", ()):
                if is_words(head):
                    yield masked(head)[0], cells
            for row in event.get("rows", ()):
                for value in row:
                    if isinstance(value, str) and is_words(value):
                        yield masked(value)[0], f"{cells}, {OPTIONAL}"


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
        yield masked(term.meaning)[0], "glossary"
    from minitransformer.course.book import pages

    for module in (pages, living):
        for pattern, line in _translated_calls(ast.parse(inspect.getsource(module))):
            yield pattern, f"{Path(module.__file__).name}:{line}"


def _translated_calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What is handed to a function called `translate` or `words`, as strings, masked."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("translate", "words"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield masked(argument.value)[0], node.lineno


MACHINE = ("lessons.py", "runner.py", "output/terminal.py", "workbook/*.py")
"""The modules of the course whose messages are translated."""
FOR_AUTHORS = ("cut", "imports", "source", "switch", "verify")
"""Modules among them whose messages only authors of exercises see, in English."""


def _of_the_course() -> Iterator[tuple[str, str]]:
    folder = ROOT / "minitransformer" / "course"
    for word in checking.SAID.values():
        yield word, "workbook/checking.py"
    yield cut.MAY_USE, "workbook/cut.py"
    for pattern in MACHINE:
        for path in sorted(path for path in folder.glob(pattern) if path.stem not in FOR_AUTHORS):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for message, line, holes in patterns_in(tree):
                yield message, f"{path.relative_to(folder).as_posix()}:{line}" + (f"  ({holes})" if holes else "")


# ---------------------------------------------------------------- README


def readme() -> str:
    """README.md."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def readme_in(language: str) -> str:
    """README.md in another language: titles and questions of lessons as their catalogues have them.

    Raises:
        UserError: as `read`.
    """
    known: dict[str, str] = {}
    for number in lessons.lesson_files():
        if path_of(language, number).is_file():
            of_lesson = catalogues.known(language, number)
            known |= {head: of_lesson[head] for head in _heads(number) if head in of_lesson}
    text = translated(readme(), Translator(known | catalogues.known(language, "readme")), whole=True)
    return text.rstrip("\n") + "\n"


def readme_path(language: str) -> Path:
    """README.zh.md."""
    return ROOT / f"README.{language}.md"


# ---------------------------------------------------------------- the catalogues


def update(language: str, part: Part) -> Path:
    """Bring a catalogue up to date with the English: new blocks are empty, changed ones fuzzy. Gives its path.

    Raises:
        UserError: as `texts`; no permission to write.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import write_po

    template = Catalog(charset="utf-8")
    for pattern, where in texts(part):
        template.add(pattern, auto_comments=[where])
    kept = read(language, part)
    kept.update(template)
    kept.obsolete.clear()
    for block in kept:
        if block.fuzzy and block.id and all(where.endswith(OPTIONAL) for where in block.auto_comments):
            block.string = ""  # a guess for what may stay English
            block.flags.discard("fuzzy")
    out = BytesIO()
    write_po(out, kept, width=0, omit_header=True)
    path = path_of(language, part)
    write_aside(path, out.getvalue())
    catalogues.forget()
    return path


def words_script(language: str) -> str:
    """The living figures' words in a language, as a script."""
    known = translator(language, "book").catalogue or {}
    words = {word: known[word] for word in figure_words() if word in known}
    return (
        "globalThis.MiniTransformer = globalThis.MiniTransformer || {};\n"
        f"MiniTransformer.words = {json.dumps(words, ensure_ascii=False)};\n"
    )


# ---------------------------------------------------------------- what is wrong


HALF = re.compile(rf"[{HAN}][,;:?!]|[,;:?!] ?[{HAN}]|[{HAN}]\.(?![\w.])|(?<![\w.])\.[{HAN}]")
QUOTED = re.compile(r"`[^`]*`|```.*?```|“[^”]*”|\"[^\"]*\"|《[^》]*》|\]\([^)]*\)|https?://\S+", re.DOTALL)
RUN = re.compile(r"[A-Za-z][a-z']+(?:[ ,]+[a-z][a-z']+){3,}")


def faults(language: str, part: Part) -> list[str]:
    """What keeps a part from being translated as a whole, a sentence each; empty if nothing does.

    Raises:
        UserError: as `texts` and `read`.
    """
    kept, found = read(language, part), []
    optional: dict[str, bool] = {}
    for pattern, where in texts(part):
        optional[pattern] = optional.get(pattern, True) and where.endswith(OPTIONAL)
    for pattern, may_stay in optional.items():
        one = kept.get(pattern)
        short = pattern if len(pattern) < 60 else pattern[:57] + "…"
        if one is None or not one.string:
            found += [] if may_stay else [f"Not translated: {short!r}"]
        elif one.fuzzy:
            found.append(f"Its English has changed: {short!r}")
        else:
            found += [f"{wrong} ({short!r})" for wrong in faults_of(pattern, one.string, part)]
    if part == "readme" and not found and _is_old(language):
        found.append(f"README.{language}.md is not what README.md and its catalogue give: make translate writes it.")
    return found


def faults_of(english: str, chinese: str, part: Part = 1) -> list[str]:
    """What is wrong with the translation of one block."""
    found = []
    wanted = set(re.findall(r"\{\w+\}", english))
    there = set(re.findall(r"\{\w+\}", chinese))
    if missing := sorted(wanted - there):
        found.append(f"The translation lacks {', '.join(missing)}.")
    if unknown := sorted(there - wanted - {hole.replace("?", "") for hole in re.findall(r"\{\w+\?\}", english)}):
        found.append(f"The translation has {', '.join(unknown)}, which the English has not.")
    if part != "course":  # a message says "prefix" of a string's beginning, too
        found += glossary.wrong_terms(QUOTED.sub(" ", english), chinese)
    plain = QUOTED.sub(" ", chinese)
    if half := HALF.search(plain):
        found.append(f"A half-width mark stands beside Chinese: {plain[max(0, half.start() - 6) : half.end() + 6]!r}.")
    if english_run := RUN.search(plain):
        found.append(f"English is left in it: {english_run[0]!r}.")
    elif not re.search(f"[{HAN}]", chinese) and len(re.findall(r"\b[a-z]{2,}\b", QUOTED.sub(" ", english))) > 1:
        found.append("There is no Chinese in it.")
    return found


def _is_old(language: str) -> bool:
    path = readme_path(language)
    return not path.is_file() or path.read_text(encoding="utf-8") != readme_in(language)


def every_part() -> list[Part]:
    """All lessons, and the other parts."""
    return [*lessons.lesson_files(), *PARTS]


def main(language: str, word: str | None) -> None:
    """Update a catalogue, or those that are declared, and say what is to be done in it.

    Raises:
        UserError: as `update`; `language` is none that Babel knows, or `word` names no part.
    """
    from babel import Locale, UnknownLocaleError

    from minitransformer.course.output.terminal import say

    try:
        code = Locale.parse(language.replace("-", "_")).language
    except (ValueError, UnknownLocaleError) as error:
        raise UserError(
            f"There is no language {language!r}: name it by its code, such as zh or fr, and the part behind it, as in "
            "make translate ARGS='zh 9'."
        ) from error
    if code == "en":
        raise UserError("The course is written in English: name the language that it is to be translated into.")
    if code != language:
        raise UserError(f"{language!r}: a language is named by its code alone. Catalogues are read as {code}.")
    parts = [as_part(word)] if word else declared(language)
    if not parts:
        raise UserError(f"Nothing is declared in {language} yet. Name a part: a lesson's number, {', '.join(PARTS)}.")
    for part in parts:
        path = update(language, part)
        if part == "readme":
            write_aside(readme_path(language), readme_in(language).encode())
        wrong = faults(language, part)
        to_do = f"{len(wrong)} blocks are to be translated or mended." if wrong else "It is complete."
        say(f"{path.relative_to(ROOT)} is up to date with the English. {to_do}")
        for sentence in wrong[:10] if len(parts) > 1 else wrong:
            say(f"- {sentence}")
