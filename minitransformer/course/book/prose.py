"""The lessons' prose as the page's Markdown: each block translated, its symbols and formulas set as TeX."""

from __future__ import annotations

import re
from html import escape

from minitransformer.course.book import tex
from minitransformer.course.translation.blocks import ENGLISH, Translator, blocks

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
                words = tex.inline(translate(block.text))
                if translate.lacks(block.text):  # an item alone cannot have attributes of its own
                    words = f'<span class="untranslated" lang="en">{words}</span>'
                parts.append(f"{separator}{block.mark}{words}")
            case "heading":
                parts.append("#" * (len(block.mark.strip()) + raise_by) + " " + translate(block.text))
            case "quote":
                quoted = "<br>".join(_strong(escape(line)) for line in block.text.split("\n"))
                parts.append(raw(f"<blockquote class='quoted'><p>{quoted}</p></blockquote>"))
            case "indented":
                parts.append(raw(indented(translate(block.text))))
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


def _strong(html: str) -> str:
    """What stands between two pairs of stars, as strong."""
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)


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
            words = _strong(escape(part, quote=False))
            html.append(re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", words))
    return "".join(html)
