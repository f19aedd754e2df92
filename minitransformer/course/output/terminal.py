"""The terminal as a reader: wrapped prose, tables whose columns line up, colours where there are any.

Our own layout rather than a library's, because the course is half Chinese: a line may break between two Chinese
characters but not before their punctuation, formulas are never folded, and a pipe gets no padding. (Tried: rich 15
leaves lines half empty in front of Chinese, folds formulas, and takes 0.4 s to import.)
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from minitransformer.course.figures import save
from minitransformer.course.lessons import Cell, Lesson, lesson_files, load
from minitransformer.course.output.events import Event, Figure, Say, Sink, Source, Table, Verbatim
from minitransformer.course.translation.blocks import translated
from minitransformer.course.translation.catalogues import chosen, messages, t

# ---------------------------------------------------------------- text

ANSI = {"bold": "1", "dim": "2", "italic": "3", "cyan": "36", "green": "32"}
WIDE = "\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60"
OPENING = "（《〈「『【〔“‘"
CLOSING = "，。、；：！？）》〉」』】〕”’…,.;:!?)\\]"
PIECES = re.compile(
    rf"[{OPENING}]*(?![{OPENING}])[{WIDE}][{CLOSING}]*"
    rf"|[{OPENING}]*(?:`[^`]*`|[^{WIDE}{OPENING}])+[{CLOSING}]*|[{OPENING}]+"
)
ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+(?=\S)")


def styled(text: str, style: str) -> str:
    """`text` in "bold", "dim", "cyan" or "green" on a terminal; unchanged elsewhere or with NO_COLOR set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{ANSI[style]}m{text}\033[0m"


def text_width() -> int:
    """Columns of running text: the terminal's, at most 88."""
    return max(20, min(88, shutil.get_terminal_size().columns))


def display_width(text: str) -> int:
    """Columns that `text` takes in a terminal: a Chinese character takes two, a combining accent none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Break a paragraph into lines of at most `width` columns.

    `code spans` stay whole; Chinese may break between any two characters, but not before its punctuation, nor after an
    opening bracket. The first line starts with `first` (a list item's "- "), the others with `rest`.
    """
    lines, line = [], first
    for pieces in _words(text):
        for position, piece in enumerate(pieces):
            at_start = line in (first, rest)
            space = "" if at_start or position else " "
            if not at_start and display_width(line + space + piece) > width:
                lines.append(line)
                line, space = rest, ""
            line += space + piece
    return [*lines, line]


def _words(text: str) -> list[list[str]]:
    """The words of a paragraph, each with the pieces between which it may break: those of Chinese."""
    words = re.findall(r"(?:`[^`]*`|[^\s`]|`)+", text)
    return [PIECES.findall(word) for word in words]


def _decorated(text: str) -> str:
    """On a terminal, `code` in colour, **bold** in bold and *italics* in italics, also where a line breaks in them."""

    def each_line(text: str, style: str) -> str:
        return "\n".join(styled(line, style) for line in text.split("\n"))

    text = re.sub(r"`[^`]+`", lambda match: each_line(match[0], "cyan"), text)
    # As in Markdown, ** at a word's wrong end is none: f(**a, **b) stays as it is.
    text = re.sub(r"(?<!\w)\*\*(?!\s)([^*]+)(?<![\s(,])\*\*", lambda match: each_line(match[1], "bold"), text)
    return re.sub(
        r"(?<![\w*])\*(?![\s*])([^*]+)(?<![\s(,*])\*(?![\w*])", lambda match: each_line(match[1], "italic"), text
    )


def say(text: str) -> None:
    """Print what a command says, as `show_text` does, in the language that LESSON_LANG names."""
    show_text(translated(text, messages(chosen())))


def show_text(text: str) -> None:
    """Print light Markdown: paragraphs and list items wrapped, indented lines (formulas) and fenced code unchanged.

    A lesson's text comes here as it is: its own catalogue has translated it, and no command's message is meant.
    """
    first = rest = ""  # what the lines of the block in hand start with
    block: list[str] = []
    fenced = False

    def flush() -> None:
        if block:
            print(_decorated("\n".join(wrap(" ".join(block), text_width(), first, rest))))
        block.clear()

    for line in text.strip("\n").splitlines():
        if line.startswith("```"):
            flush()
            fenced = not fenced
            continue
        if fenced:
            print(f"    {line}".rstrip())
            continue
        item = ITEM.match(line)
        if item:
            flush()
            first, rest = item[0], " " * len(item[0])
            block.append(line[len(first) :])
        elif not line.strip():
            flush()
            print()
        elif block and rest and line.startswith(rest) and line[len(rest)] != " ":
            block.append(line.strip())  # the item goes on
        elif heading := re.match(r"#+ +", line):
            flush()
            print(styled(line[len(heading[0]) :], "bold"))
        elif line[0] in " \t|":
            flush()
            print(_decorated(line.rstrip()))
        else:
            if rest:
                flush()
            if not block:
                first = rest = ""
            block.append(line.strip())
    flush()


# ---------------------------------------------------------------- tables


def layout(table: Table, width: int | None = None) -> str:
    """A table as text: numbers to the right, text to the left, Chinese counted as two columns.

    Args:
        table: what to lay out.
        width: columns that it may take, if its words allow: the widest columns are folded. None: as many as it needs.
    """
    lines = [table.headers, *table.rows]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(display_width, column)) for column in columns]
    if width is not None:
        # A word is not broken, and a number has no words to break between.
        least = [
            max(display_width(p) for cell in column for word in _words(cell) or [[""]] for p in word)
            for column in columns
        ]
        while sum(widths) + 2 * (len(widths) - 1) > width and widths != least:
            foldable = [i for i in range(len(widths)) if widths[i] > least[i]]
            widths[max(foldable, key=lambda i: widths[i])] -= 1

    def laid_out(line: Sequence[str]) -> list[str]:
        cells = [
            wrap(cell, space) if display_width(cell) > space else [cell]
            for cell, space in zip(line, widths, strict=True)
        ]
        rows = []
        for number in range(max(map(len, cells))):
            parts = []
            for cell, space, right in zip(cells, widths, table.right, strict=True):
                text = cell[number] if number < len(cell) else ""
                gap = " " * (space - display_width(text))
                parts.append(gap + text if right else text + gap)
            rows.append("  ".join(parts).rstrip())
        return rows

    rule = "  ".join("─" * space for space in widths)
    return "\n".join([*laid_out(lines[0]), rule, *(row for line in lines[1:] for row in laid_out(line))])


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str], formats: Sequence[Any] | None = None) -> None:
    """Print rows under headers, for commands; lessons call `show.table`, which says what is what."""
    words = [[t(one) if isinstance(one, str) else one for one in row] for row in rows]
    print(layout(Table.of(words, list(map(t, headers)), formats), _screen()))


def _screen() -> int | None:
    """The terminal's columns; None where there is no terminal, and lines may be as long as they like."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def rule(title: str) -> str:
    """`── 3 · Heads ─────` as wide as the text."""
    return f"── {title} " + "─" * max(3, text_width() - display_width(title) - 4)


# ---------------------------------------------------------------- the sink


class Terminal(Sink):
    """Prints what a lesson shows, an empty line between two things.

    Args:
        step: wait for Enter before each cell of code: after the prose with its question, before anything that
            answers it.
    """

    def __init__(self, step: bool = False) -> None:
        self.step = step
        self._last = ""  # the kind of what was printed last
        self._asked = False  # whether the prose above the code asks for a prediction

    def _begin(self, kind: str) -> None:
        """Keep a line's distance from what stands above; lines that belong together have none."""
        if self._last and not (kind == self._last and kind in ("verbatim", "item")):
            print()
        self._last = kind

    def opens(self, lesson: Lesson, quick: bool) -> None:
        """Print the lesson's title, its question, and what it takes."""
        print(styled(t(f"Lesson {lesson.number} · {lesson.title}"), "bold"))
        show_text(lesson.question)
        print("\n" + styled(t(lesson.facts), "dim"))
        for line in wrap(t(f"mirrors {lesson.documents}"), text_width()):
            print(styled(line, "dim"))
        if quick:
            print(t("Quick: a shortened run; its numbers mean little."))
        if not self.step and sys.stdin.isatty() and sys.stdout.isatty():
            text = f"STEP=1 make lesson-{lesson.number} waits before each step, so that you can predict its outcome."
            print("\n".join(styled(line, "dim") for line in wrap(t(text), text_width())))
        self._last = "opening"

    def cell(self, cell: Cell) -> None:
        """Print a cell's prose; or, once Enter is pressed where that is asked for, its code."""
        if cell.title:
            self._begin("title")
            print(styled(rule(f"{cell.number} · {cell.title}"), "bold"))
        if cell.prose:
            self._begin("prose")
            show_text(cell.prose)
        if not cell.is_code:
            self._asked = cell.asks
            return
        if self.step:
            self._begin("question")
            self._wait()
        if cell.shown and not cell.hidden:
            self._begin("code")
            for line in cell.shown.split("\n"):
                print(f"{styled('│', 'dim')} {line}".rstrip())
        self._asked = False
        sys.stdout.flush()

    def _wait(self) -> None:
        try:
            input(styled(t("Predict, then press Enter." if self._asked else "Press Enter.") + " ", "green"))
        except EOFError:
            print()

    def show(self, event: Event) -> None:
        """Print an event; save a figure and say where."""
        match event:
            case Say(text):
                self._begin("item" if ITEM.match(text) and "\n" not in text else "say")
                show_text(text)
            case Verbatim(text):
                self._begin("verbatim")
                print(text)
            case Table():
                self._begin("table")
                print(layout(event, _screen()))
            case Source(_, code):
                self._begin("source")
                print(code)
            case Figure(lesson, name, caption):
                save(event.drawing, event.path)
                self._begin("figure")
                say(f"Figure saved: figures/{lesson}/{name}.png — {caption}")
        sys.stdout.flush()

    def closes(self, lesson: Lesson, seconds: float) -> None:
        """Say how long it took, and what comes next."""
        minutes, seconds = divmod(round(seconds), 60)
        self._begin("closing")
        took = (f"{minutes} min " if minutes else "") + f"{seconds} s"
        print(rule(t(f"Lesson {lesson.number} took {took}")))
        following = [other for other in lesson_files() if other > lesson.number]
        if following:
            print(t(f"Next: make lesson-{following[0]} — {load(following[0]).title}"))
        else:
            print(t("That was the last lesson so far; make lessons lists them all."))
