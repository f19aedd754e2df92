"""The lessons' prose, block by block: what is translated, and how a block is written for the page.

A block is a paragraph, a list item, a heading, or an indented piece (formulas, code). Numbers in a block are masked for
the translator, "{0} rows that sum to {1} each", so that a measured number goes into the translated sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from minitransformer.course.book import tex

ITEM = re.compile(r"(\s*)([-*•]|\d+[.)])\s+(?=\S)")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


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


# ---------------------------------------------------------------- translating


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
    return bool(re.search(r"[^\W\d_]{2,}", re.sub(r"`[^`]*`", "", text)))


def translatable(text: str) -> list[str]:
    """The blocks of a text that a translator is given, masked; those without a letter are left out."""
    found = [block.text for block in blocks(text) if block.kind in ("paragraph", "item", "heading")]
    return [masked(words)[0] for words in found if is_words(words)]


# ---------------------------------------------------------------- writing for the page


def markdown(text: str, translate: Translator = ENGLISH, raise_by: int = 0) -> str:
    """A text as the page's Markdown: symbols and formulas as TeX, each block translated.

    Args:
        text: light Markdown, as lessons say it.
        translate: into the book's language.
        raise_by: how much deeper headings stand in the page than in the text.
    """
    parts: list[str] = []
    for block in blocks(text):
        match block.kind:
            case "paragraph":
                words = tex.inline(translate(block.text))
                predict = block.text.startswith("**Predict before you run")
                if translate.lacks(block.text):
                    words = f"{{.untranslated lang=en}}\n{words}"
                parts.append(f":::{{container}} predict\n{words}\n:::" if predict else words)
            case "item":
                separator = "" if parts and parts[-1].lstrip()[:2] in ("- ", "* ") else "\n"
                parts.append(f"{separator}{block.mark}{tex.inline(translate(block.text))}")
            case "heading":
                parts.append("#" * (len(block.mark.strip()) + raise_by) + " " + translate(block.text))
            case "quote":
                quoted = "<br>".join(escape(line) for line in block.text.split("\n"))
                parts.append(raw(f"<blockquote class='quoted'><p>{quoted}</p></blockquote>"))
            case "indented":
                parts.append(raw(indented(block.text)))
            case _:
                parts.append(block.text)
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def raw(html: str) -> str:
    """HTML in the page's Markdown."""
    fence = "`" * 4
    return f"{fence}{{raw}} html\n{html}\n{fence}"


def indented(text: str) -> str:
    """An indented piece as HTML: formulas in rows, or the lines as they are."""
    lines = text.split("\n")
    groups: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    parts = []
    for group in filter(None, groups):
        rows = tex.display(group)
        if rows is None:
            parts.append(f"<pre class='plain'>{escape(chr(10).join(group))}</pre>")
        elif len(rows) == 1 and len(rows[0]) == 1:
            parts.append(f"<div class='formula'>{tex.shown(rows[0][0][1], display=True)}</div>")
        elif len(rows) > 1 and (most := max(map(len, rows))) > 1:
            body = "".join(f"<tr>{_row(row, most)}</tr>" for row in rows)
            parts.append(f"<div class='formula'><table class='formulas'><tbody>{body}</tbody></table></div>")
        else:
            spans = ("".join(f"<span>{_cell(cell)}</span>" for cell in row) for row in rows)
            body = "".join(f"<div class='formula-row'>{row}</div>" for row in spans)
            parts.append(f"<div class='formula'>{body}</div>")
    return "\n".join(parts)


def _row(row: list[tuple[str, str]], most: int) -> str:
    """The cells of a table's row; the last of a short one takes the rest of the width."""
    last = len(row) - 1
    widths = (f" colspan='{most - last}'" if i == last < most - 1 else "" for i in range(len(row)))
    return "".join(f"<td{width}>{_cell(cell)}</td>" for cell, width in zip(row, widths, strict=True))


def _cell(cell: tuple[str, str]) -> str:
    kind, text = cell
    return tex.shown(r"\displaystyle " + text) if kind == "tex" else inline_html(text)


def inline_html(text: str) -> str:
    """A few words with symbols, `code` and **bold** as HTML, for table cells and captions."""
    parts = re.split(r"(`[^`]*`|\$[^$]+\$)", tex.inline(text))
    html = []
    for part in parts:
        if part.startswith("`") and part.endswith("`") and len(part) > 1:
            html.append(f"<code class='literal'>{escape(part[1:-1])}</code>")
        elif part.startswith("$") and part.endswith("$") and len(part) > 1:
            html.append(tex.shown(part[1:-1]))
        else:
            words = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escape(part, quote=False))
            html.append(re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", words))
    return "".join(html)
