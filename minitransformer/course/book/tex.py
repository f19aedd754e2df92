r"""Formulas: from the lessons' unicode to TeX, and from TeX to HTML by KaTeX, which runs here and not in the page.

Lessons write formulas as a terminal shows them: `softmax(Q Kᵀ / √d_k) V`. `from_unicode` makes TeX of one, `inline`
finds the symbols in a sentence. What is TeX already ($…$) is left as it is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from minitransformer.errors import UserError

KATEX = Path(__file__).parent / "page" / "katex"

GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "η": "eta",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "varphi",
    "χ": "chi",
    "ψ": "psi",
    "ω": "omega",
    "Δ": "Delta",
    "Θ": "Theta",
    "Λ": "Lambda",
    "Φ": "Phi",
    "Ψ": "Psi",
    "Ω": "Omega",
    "Γ": "Gamma",
}
SIGNS = {
    "·": r"\cdot",
    "×": r"\times",
    "−": "-",
    "±": r"\pm",
    "≤": r"\le",
    "≥": r"\ge",
    "≈": r"\approx",
    "≠": r"\ne",
    "∈": r"\in",
    "←": r"\leftarrow",
    "→": r"\to",
    "…": r"\dots",
    "∂": r"\partial",
    "∞": r"\infty",
    "Σ": r"\sum",
    "Π": r"\prod",
    "‖": r"\Vert",
    "≫": r"\gg",
    "≪": r"\ll",
    "∝": r"\propto",
    "≡": r"\equiv",
    "⊙": r"\odot",
    "∪": r"\cup",
    "∩": r"\cap",
    "∀": r"\forall",
    "∑": r"\sum",
    "∏": r"\prod",
    "∇": r"\nabla",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "$": r"\$",
}
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀ", [*"0123456789+-n", r"\top"], strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₖₙ", [*"0123456789+-kn"], strict=True))
ACCENTS = {"\u0302": r"\hat", "\u0304": r"\bar", "\u0303": r"\tilde", "\u0305": r"\bar"}
FUNCTIONS = {"log", "ln", "exp", "max", "min", "sin", "cos", "tanh", "arg"}
MATRICES = "AB|BA|QK|VO"  # their products
PRODUCTS = re.compile(rf"(d|m|n|r|v|s|p|q|k|x|y|h|u){{2}}|[2-9]?[LPdr]{{2,3}}|{MATRICES}")
HAN = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60"

TOKEN = re.compile(
    rf"""
    (?P<quoted>"[^"]*")
  | (?P<special>\[(?:CLS|SEP|MASK|PAD)\])
  | (?P<word>[A-Za-z{HAN}][A-Za-z0-9{HAN}]*(?:-[A-Za-z]{{2,}})*)
  | (?P<number>\d+(?:[.,]\d+)*)
  | (?P<space>\ +)
  | (?P<sub>[_^])
  | (?P<other>.)
    """,
    re.VERBOSE,
)


# ---------------------------------------------------------------- from unicode to TeX


def from_unicode(formula: str) -> str:
    r"""`softmax(Q Kᵀ / √d_k) V` → `\operatorname{softmax}(Q K^{\top} / \sqrt{d_{k}}) V`."""
    return _Reader(_decomposed(formula)).read()


def _decomposed(text: str) -> str:
    """ŷ as y and an accent; other letters stay whole."""
    parts = (unicodedata.normalize("NFD", char) for char in text)
    return "".join(
        part if len(part) > 1 and part[1] in ACCENTS else char for char, part in zip(text, parts, strict=True)
    )


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens = [(match.lastgroup or "", match[0]) for match in TOKEN.finditer(text)]
        self.at = 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        where = self.at + ahead
        return self.tokens[where] if where < len(self.tokens) else ("", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def read(self, end: str = "") -> str:
        """TeX up to a closing bracket, which is taken too, or to the end."""
        parts: list[str] = []
        while self.at < len(self.tokens):
            if end and self.peek()[1] == end:
                self.take()
                break
            parts.append(self.element())
        return _spaced(parts)

    def element(self) -> str:
        kind, text = self.take()
        if kind == "quoted":
            return r"\text{“" + _escaped(text[1:-1]) + "”}"
        if kind == "special":
            return r"\texttt{" + text + "}"
        if kind == "word":
            return self.word(text)
        if kind == "number":
            return text.replace(",", "{,}")
        if kind == "space":
            return r"\qquad " if len(text) > 2 else self.space()
        if kind == "sub":
            return text + "{" + self.argument() + "}"
        if text == "√":
            return r"\sqrt{" + self.argument(root=True) + "}"
        if text == "{":
            return r"\{" + self.read("}") + r"\}"
        if text == "(" and any(token[1] == ")" for token in self.tokens[self.at :]):
            return "(" + self.read(")") + ")"
        if text == "|":
            return self.bar()
        for name, digits in (("^", RAISED), ("_", LOWERED)):
            if text in digits:
                run = digits[text]
                while self.peek()[1] in digits:
                    run += digits[self.take()[1]]
                return name + "{" + run + "}"
        if text in GREEK:
            return "\\" + GREEK[text] + " "
        if text in ACCENTS:  # of the letter before, which `_spaced` finds
            return ACCENTS[text]
        return SIGNS.get(text, {"′": "'", "■": r"\blacksquare ", "~": r"\sim "}.get(text, text)) + (
            " " if SIGNS.get(text, "").startswith("\\") else ""
        )

    def bar(self) -> str:
        """|x| is a size, a | b a condition."""
        loose = self.peek()[0] == "space" and self.at >= 2 and self.tokens[self.at - 2][0] == "space"
        if loose:
            return r"\mid "
        return r"\vert "

    def word(self, text: str) -> str:
        """A letter is a symbol, a word with a bracket behind it a function, other words are words."""
        if len(text) == 1 and text.isascii():
            if text == "R" and self.at >= 3 and "∈" in (self.tokens[self.at - 3][1], self.tokens[self.at - 2][1]):
                return r"\mathbb{R}"
            return text
        if text in FUNCTIONS:
            return "\\" + text + " "
        if PRODUCTS.fullmatch(text) and text != "rr":
            return text  # a product of symbols: dr, QK
        nxt = self.peek()[1]
        if nxt in ("(", "_", "[") and text[0].isascii():
            return r"\operatorname{" + text + "}"
        words = text
        while self.peek()[0] == "space" and len(self.peek()[1]) == 1 and self._is_word(1):
            self.take()
            words += " " + self.take()[1]
        return r"\text{" + words + "}" if not re.fullmatch(r"[A-Z]{2,}", words) else r"\mathrm{" + words + "}"

    def _is_word(self, ahead: int) -> bool:
        kind, text = self.peek(ahead)
        return kind == "word" and (len(text) > 1 or text == "a") and self.peek(ahead + 1)[1] not in ("(", "_", "[")

    def space(self) -> str:
        """A space beside a word is seen, between symbols it is not."""
        before, after = self.tokens[self.at - 2] if self.at > 1 else ("", ""), self.peek()
        if "=" in (before[1], after[1]) or any(kind == "other" and text in SIGNS for kind, text in (before, after)):
            return " "
        wordy = any(
            kind in ("quoted", "special") or (kind == "word" and len(text) > 1 and text not in FUNCTIONS)
            for kind, text in (before, after)
        )
        return r"\ " if wordy and before[1] not in "(+" and after[1] not in ")+" else " "

    def argument(self, root: bool = False) -> str:
        """What stands below, above, or under a root: a bracket's content, or one symbol with what hangs on it."""
        kind, text = self.peek()
        if text == "{":
            self.take()
            return self.read("}")
        if text == "(":
            self.take()
            inside = self.read(")")  # e^(q·k) is e to a power; x^(i) keeps its brackets
            return inside if root or re.search(r"[+−/-]|\\cdot", inside) else f"({inside})"
        if kind == "number":
            return self.take()[1]
        if text in ("<", "≤", ">", "≥", "−", "-", "+"):
            self.take()
            return SIGNS.get(text, text) + (" " if text in "<≤>≥" else "") + self.argument()
        if kind == "word":
            self.take()
            symbol = text if len(text) == 1 or text in ("ij", "ik", "jk") else r"\text{" + text + "}"
            if root and self.peek()[1] == "_":  # √d_k takes the index along; h_i^(n) does not
                self.take()
                return symbol + "_{" + self.argument() + "}"
            return symbol
        if kind == "other":
            return self.element()
        return ""


def _spaced(parts: list[str]) -> str:
    """Join, and put accents over the letter that stands before them."""
    joined: list[str] = []
    for part in parts:
        if part in ACCENTS.values() and joined:
            joined.append(f"{part}{{{joined.pop().strip()}}}")
        else:
            joined.append(part)
    return re.sub(r" {2,}", " ", "".join(joined)).strip()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\textbackslash ").replace("_", r"\_").replace("#", r"\#").replace("%", r"\%")


# ---------------------------------------------------------------- symbols in prose

STRONG = re.compile(r"[α-ωΓΔΘΛΦΨΩ√ΣΠ∈←≈≤≥∂‖ᵀ²³⁴₁₂]|[A-Za-z\)\]'′][_^]|ŷ|d̄|‖")
OPERATOR = re.compile(r"[=·×+−/≤≥≈∈←→<>|]|…")
SYMBOL = re.compile(r"[\[(|‖{]*(?:−?\d+(?:[.,]\d+)*|[B-HJ-Zb-z])(?:['′]|[\])|}‖])*")
TAIL = re.compile(r"('s|-th|[.,;:?!)*]|\*\*)+$")
CALL = re.compile(rf"(?:softmax|{'|'.join(sorted(FUNCTIONS))})\((.+)\)")
WORDS = re.compile(r"[A-Za-z]{2,}")
CODE_LIKE = re.compile(r"[a-z]{2,}_[a-z]{2,}|__|\.py|://|/[a-z]+/|[A-Za-z_]\.\w|\w\.[A-Za-z_]")


def inline(text: str) -> str:
    """A paragraph of Markdown with its symbols as $TeX$; code spans and what is TeX already are left alone."""
    parts = re.split(r"(`[^`]*`|\$[^$]+\$|\]\([^)]*\))", text)
    return "".join(part if i % 2 else _inline(part) for i, part in enumerate(parts))


GROUP = re.compile(r"[A-Za-z]*(\((?:[^()]|\([^()]*\))*\)|\[(?:[^\[\]]|\[[^\[\]]*\])*\]|\{[^{}]*\})")
NAMES = {"end", "prefix", "PREFIX", "INFIX", "exp", "log", "max", "softmax", "dim", "prompt", "input"}
TIE = "\x00"  # stands for a space inside brackets, which a formula is not broken at
JOINER = "\u2060"  # no line begins with the punctuation behind a formula
CHINESE = re.compile(rf"((?:[{HAN}“”]|—{{2,}}|…{{2,}})+)")
CLOSING = tuple("，。、；：？！）》】」』”")
UNFINISHED = re.compile(r"[(\[{_^√]$")
CONTINUED = re.compile(r"[)\]}_^]")


def _tied(match: re.Match[str]) -> str:
    """A bracket that holds nothing but symbols, as one word."""
    inside = match[1][1:-1]
    pieces = [piece.strip("()[]{}") for piece in re.split(r"[\s,;|]+", inside) if piece.strip("()[]{}")]
    kinds = [_kind(piece) if piece not in NAMES else "name" for piece in pieces]
    if all(kinds) and "symbol" in kinds:
        return match[0].replace(" ", TIE)
    return match[0]


def _inline(text: str) -> str:
    """A text without code spans: what stands between Chinese is read as English is, piece by piece."""
    parts = CHINESE.split(GROUP.sub(_tied, text))
    for i in range(0, len(parts), 2):
        before, after = parts[i - 1] if i else "", parts[i + 1] if i + 1 < len(parts) else ""
        parts[i] = _between(parts[i], before, after)
    return "".join(parts).replace(TIE, " ")


def _between(text: str, before: str, after: str) -> str:
    """A piece without Chinese, with its symbols as $TeX$; `before` and `after` are the Chinese on its two sides."""
    if before.endswith("“") and after.startswith("”") and SYMBOL.fullmatch(text):
        return text  # a letter that is spoken of
    words = re.split(r"(\s+)", text)
    kinds = [_kind(word) if i % 2 == 0 else "" for i, word in enumerate(words)]
    for i in range(0, len(words) - 2, 2):
        if words[i] in ("log", "ln") and words[i + 1] == " " and kinds[i + 2] in ("symbol", "number"):
            kinds[i] = "function"
    if after and UNFINISHED.search(words[-1]):  # what is missing is Chinese: W_上
        kinds[-1] = ""
    if before and CONTINUED.match(words[0]):
        kinds[0] = ""
    out: list[str] = []
    i = 0
    while i < len(words):
        if i % 2 or kinds[i] == "":
            out.append(words[i])
            i += 1
            continue
        end = i  # the last word of the run
        while (
            end + 2 < len(words)
            and kinds[end + 2]
            and words[end + 1] == " "
            and not re.search(r"[,;:.?!]$", words[end].rstrip("*"))
            and words[end + 2].count("(") <= words[end + 2].count(")")
            and (
                {"operator", "function"} & {kinds[end], kinds[end + 2]}
                or STRONG.search(words[end] + " " + words[end + 2])
            )
        ):
            end += 2
        while end > i and kinds[end] == "operator":
            end -= 2
        run = words[i : end + 1]
        some = kinds[i : end + 1 : 2]
        if some == ["operator"] or (some[0] == "number" and len(some) == 1) or some[0] == "operator":
            out.append(words[i])
            i += 1
            continue
        out.append(_as_math("".join(run)))
        i = end + 1
    if out[-1].endswith("$") and after[:1] in CLOSING:
        out.append(JOINER)
    return "".join(out)


def _kind(word: str) -> str:
    """What a word of prose is: "operator", "number", "symbol", or "" for a word."""
    bare = word.strip("*").rstrip(".,;:?!")
    if not bare or CODE_LIKE.search(bare) or re.search(rf"[{HAN}]", bare):
        return ""
    if re.fullmatch(r"[=·×+−/≤≥≈∈←→<>…]", bare):
        return "operator"
    core = TAIL.sub("", bare)
    if TIE in core:
        return "symbol"
    if STRONG.search(core):
        return "symbol"
    if re.fullmatch(r"[\[(]*−?\d+(?:[.,]\d+)*[\])]*", core):
        return "number"
    if core.count("}") > core.count("{"):  # the end of what Python printed: {'a': (2, 3)}
        return ""
    call = CALL.fullmatch(bare)
    if SYMBOL.fullmatch(call[1] if call else core) or re.fullmatch(MATRICES, core):
        return "symbol"
    return ""


def _as_math(run: str) -> str:
    """$…$ around a run, without the emphasis, brackets and punctuation that belong to the sentence."""
    lead = re.match(r"\*+", run)
    start = lead[0] if lead else ""
    core = run[len(start) :]
    tail = ""
    while core:
        match = re.search(r"(?:'s|-th|[.,;:?!]|\*+)$", core)
        if match and not core.endswith("…"):
            tail = match[0] + tail
            core = core[: match.start()]
            continue
        closing = core[-1]
        pair = {")": "(", "]": "["}.get(closing)
        if pair and core.count(closing) > core.count(pair):
            tail = closing + tail
            core = core[:-1]
            continue
        break
    while core[:1] in ("(", "[") and core.count(core[0]) > core.count({"(": ")", "[": "]"}[core[0]]):
        start += core[0]
        core = core[1:]
    if not core:
        return run
    return f"{start}${from_unicode(core.replace(TIE, ' '))}${JOINER if tail else ''}{tail}"


# ---------------------------------------------------------------- lines that stand alone

RELATION = re.compile(r"[=←≈∈→]|∂")


CODE_LINE = re.compile(
    r"\w=\w|[a-z]_[a-z]+_|[A-Za-z]\.[A-Za-z]{2,}|^(from|import|def|for|if|with|return) .*[:(]|\w\(\)"
)
"""What a line of Python has and a formula has not."""


def is_formula(part: str) -> bool:
    """Whether a part of an indented line is a formula, and not words."""
    words = WORDS.findall(re.sub(r"[A-Za-z]+['′]?(?=[(_\[])|[_^]\{?[A-Za-z]+|\[[A-Z]+\]", "", part))
    if RELATION.search(part):
        return True
    return bool(STRONG.search(part) or SYMBOL.fullmatch(part)) and all(word in FUNCTIONS | {"if"} for word in words)


def display(lines: list[str]) -> list[list[tuple[str, str]]] | None:
    """An indented block as rows of ("tex", …) and ("text", …); None where its lines are to stay as they are.

    Args:
        lines: the block's lines, without the indentation that they share. Where one is indented further, or nothing
            in the block is a formula or stands in columns, it is code or a drawing.
    """
    if any(CODE_LINE.search(line) for line in lines):
        return None
    rows = []
    for line in lines:
        closed = re.sub(r" {2,}(?=[=+←→≈])", " ", line.rstrip())  # spaces that only line up the signs of relation
        parts = re.split(r" {3,}", closed)
        rows.append([("tex", from_unicode(part)) if is_formula(part) else ("text", part) for part in parts])
    if any(line[:1] == " " for line in lines) or all(len(row) == 1 and row[0][0] == "text" for row in rows):
        return None
    return rows


# ---------------------------------------------------------------- KaTeX


@lru_cache
def _katex() -> Any:
    import quickjs

    context = quickjs.Context()
    context.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    context.eval("function render(tex, display) { return katex.renderToString(tex, {displayMode: display}) }")
    return context.get("render")


def shown(tex: str, display: bool = False) -> str:
    """A formula as HTML, or its TeX as code, of the class "unset", where KaTeX cannot set it.

    A page with one bad formula is better than no book; a test sees to it that there is none.
    """
    try:
        return html(tex, display)
    except UserError:
        return f'<code class="unset">{escape(tex)}</code>'


@lru_cache(maxsize=4096)
def html(tex: str, display: bool = False) -> str:
    """A formula as HTML, with MathML inside for screen readers.

    Raises:
        UserError: KaTeX cannot read it.
    """
    import quickjs

    try:
        return _katex()(tex, display)
    except quickjs.JSException as error:
        raise UserError(f"KaTeX cannot set ${tex}$: {str(error).splitlines()[0]}") from error
