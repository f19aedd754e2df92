"""Text as blocks, numbers masked: what a translator is given, and how a translation is put in the place of the English.

A block is a paragraph, a list item, a heading, or an indented piece (formulas, code). Numbers in a block are masked for
the translator, "{0} rows that sum to {1} each", so that a measured number goes into the translated sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ITEM = re.compile(r"(\s*)([-*•]|\d+[.)])\s+(?=\S)")
PROSE = ("paragraph", "item", "heading")
"""The kinds of block that a translator is always given."""
NO_WORDS = re.compile(r"`[^`]*`|\]\([^)]*\)|《[^》]*》")
"""Code, a link's address, a Chinese title."""
BESIDE = re.compile(r"^([ \t]*\S.*?[ \t]{2,})(\S.*)$", re.M)
"""A line of code, a gap, and what is said of it."""
LITTLE_WORDS = re.compile(r"\b(?:is|are|the|of|and|where|for|to|in|with|before|after|each)\b")
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """One block of prose."""

    kind: str  # "paragraph", "item", "heading", "quote", "indented", "fence", "table"
    text: str
    mark: str = ""  # what stands before it: "- ", "## ", "> "


def blocks(text: str) -> list[Block]:
    """A text of light Markdown as blocks, in order."""
    found: list[Block] = []
    lines = text.strip("\n").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
            continue
        if line.startswith("```"):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("```")), len(lines) - 1)
            found.append(Block("fence", "\n".join(lines[at : end + 1])))
            at = end + 1
        elif heading := re.match(r"#+ +", line):
            found.append(Block("heading", line[heading.end() :].strip(), heading[0]))
            at += 1
        elif line.startswith(">"):
            end = at
            while end < len(lines) and lines[end].strip():
                end += 1
            found.append(Block("quote", "\n".join(re.sub(r"^> ?", "", part) for part in lines[at:end]), "> "))
            at = end
        elif item := ITEM.match(line):
            words = [line[item.end() :]]
            at += 1
            while at < len(lines) and lines[at].startswith(" " * len(item[1]) + "  ") and not ITEM.match(lines[at]):
                words.append(lines[at].strip())
                at += 1
            found.append(Block("item", " ".join(words), item[1] + item[2] + " "))
        elif line.startswith("|"):
            end = at
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            found.append(Block("table", "\n".join(lines[at:end])))
            at = end
        elif line.startswith("    ") or line.startswith("\t"):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            inside = [part[4:] for part in lines[at:end]]
            while not inside[-1].strip():
                inside.pop()
            found.append(Block("indented", "\n".join(inside)))
            at = end
        else:
            words = []
            while at < len(lines) and lines[at].strip() and not (words and _begins(lines[at])):
                words.append(lines[at].strip())
                at += 1
            found.append(Block("paragraph", " ".join(words)))
    return found


def _begins(line: str) -> bool:
    return bool(ITEM.match(line) or line.startswith(("    ", "#", ">", "|", "```")))


# ---------------------------------------------------------------- masking and translating


def masked(text: str) -> tuple[str, list[str]]:
    """A block with its numbers as {0}, {1}, …, and the numbers."""
    numbers: list[str] = []

    def mask(match: re.Match[str]) -> str:
        numbers.append(match[0])
        return f"{{{len(numbers) - 1}}}"

    return NUMBER.sub(mask, text), numbers


def filled(text: str, numbers: list[str]) -> str:
    """A masked text with numbers put in."""
    return re.sub(r"\{(\d+)\}", lambda match: numbers[int(match[1])], text)


class Translator:
    """Translates blocks; what it does not know stays English.

    Args:
        catalogue: masked English → masked translation; None for the English book.
    """

    def __init__(self, catalogue: Mapping[str, str] | None = None) -> None:
        self.catalogue = catalogue

    def __call__(self, text: str) -> str:
        """A block in the book's language."""
        pattern, numbers = masked(text)
        known = (self.catalogue or {}).get(pattern)
        return filled(known, numbers) if known else text

    def lacks(self, text: str) -> bool:
        """Whether a block appears in English because it is not translated."""
        return self.catalogue is not None and is_words(text) and not self.catalogue.get(masked(text)[0])


ENGLISH = Translator()


def is_words(text: str) -> bool:
    """Whether there is something to translate, and not only symbols, numbers and code."""
    return bool(re.search(r"[A-Za-z]{2,}", NO_WORDS.sub("", text)))


def translatable(text: str, whole: bool = False) -> list[str]:
    """The blocks of a text that a translator is given, masked; those without a letter are left out.

    Args:
        text: light Markdown.
        whole: whether tables are given as well, by cell, and what stands beside lines of code: "make test   # run it".
    """
    found = []
    for block in blocks(text):
        if block.kind in PROSE and not block.text.startswith("<!--"):
            found.append(block.text)
        elif block.kind == "table" and whole:
            found += [cell for row in block.text.split("\n") for cell in cells_of(row)]
        elif block.kind in ("fence", "indented") and whole:
            found += [said for _, said in BESIDE.findall(block.text)]
    return [masked(words)[0] for words in found if is_words(words)]


def asides(text: str) -> list[str]:
    """The indented pieces of a text that have words in them, masked: a formula with an explanation beside it, say."""
    pieces = [block.text for block in blocks(text) if block.kind == "indented"]
    return [masked(piece)[0] for piece in pieces if LITTLE_WORDS.search(piece)]


def cells_of(row: str) -> list[str]:
    """The cells of a row of a Markdown table; none of the row of dashes."""
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]
    return [] if all(re.fullmatch(r":?-+:?", cell) for cell in cells) else cells


def translated(text: str, translate: Translator, whole: bool = False) -> str:
    """A text of light Markdown with each block translated; what a translator is not given stays as it is.

    Args:
        text: light Markdown.
        translate: into the other language.
        whole: as in `translatable`.
    """
    if translate.catalogue is None:
        return text
    lines: list[str] = []
    before = ""
    for block in blocks(text):
        if lines and not before == block.kind == "item":
            lines.append("")
        before = block.kind
        words = block.text
        if block.kind in ("fence", "indented") and whole:
            words = BESIDE.sub(lambda beside: beside[1] + translate(beside[2]), words)
        elif block.kind in (*PROSE, "indented"):
            words = translate(words)
        match block.kind:
            case "paragraph" | "item" | "heading":
                lines.append(block.mark + words)
            case "quote":
                lines += [block.mark + line for line in block.text.split("\n")]
            case "indented":
                lines += [f"    {line}".rstrip() for line in words.split("\n")]
            case "table" if whole:
                lines += [_translated_row(row, translate) for row in block.text.split("\n")]
            case _:
                lines.append(words)
    return "\n".join(lines)


def _translated_row(row: str, translate: Translator) -> str:
    cells = cells_of(row)
    return f"| {' | '.join(map(translate, cells))} |" if cells else row
