"""Messages of the commands: f-strings whose holes were filled before anybody translates them.

`f"{what} has {n} parts; it should have {m}."` stands in a catalogue as "{0} has {1} parts; it should have {2}.". A
message is compared with these patterns, and what filled the holes is translated in turn. So whoever writes a message
writes an f-string and nothing else. A hole as {1?} fills a plural's s, for which other languages have no use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from minitransformer.course.translation.blocks import Translator

HOLE = re.compile(r"\{(\d+)\??\}")
SENTENCE_ENDS = re.compile(r"(?<=[.:;!?])\s+")
CHINESE_END = "。，；：！？）」》…"
NAME = re.compile(r"[a-z_][a-z0-9_]*")
NUMBERS = re.compile(r"\d+(?:–\d+)?(?:, \d+(?:–\d+)?)+")
HAN = "\u3400-\u4dbf\u4e00-\u9fff"


class Messages(Translator):
    """Translates what the commands say; what it does not know stays English, sentence by sentence.

    Args:
        texts: masked English → masked translation, of blocks of lessons and exercises.
        patterns: pattern → translated pattern, of messages.
    """

    def __init__(self, texts: Mapping[str, str], patterns: Mapping[str, str]) -> None:
        super().__init__(texts)
        ordered = sorted(patterns, key=lambda pattern: -len(HOLE.sub("", pattern)))  # the most particular first
        self.patterns = [(_as_regex(pattern), patterns[pattern]) for pattern in ordered]
        self._said = frozenset(patterns)
        self._seen: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """A message in the language, its holes included."""
        if text not in self._seen:
            self._seen[text] = self._translated(text)
        return self._seen[text]

    def _translated(self, text: str) -> str:
        if not re.search(r"[A-Za-z]{2}", text):
            return text
        whole = self._whole(text)
        if whole is not None:
            return whole
        sentences = SENTENCE_ENDS.split(text)
        for n in range(len(sentences) - 1, 0, -1):
            first = self._whole(" ".join(sentences[:n]))
            if first is not None:
                gap = "" if first.endswith(tuple(CHINESE_END)) else " "
                return first + gap + self(" ".join(sentences[n:]))
        if len(sentences) > 1:
            return f"{sentences[0]} {self(' '.join(sentences[1:]))}"
        return text

    def _whole(self, text: str) -> str | None:
        """The translation of a text that one block or one pattern covers."""
        plain = super().__call__(text)
        if plain != text:
            return plain
        if text.endswith("."):  # a few words that were made a sentence
            plain = super().__call__(text[:-1])
            if plain != text[:-1]:
                return plain + "。"
        for regex, translation in self.patterns:
            if match := regex.fullmatch(text):
                filling = match.groupdict()
                listed = "、" if re.search(f"[{HAN}]", translation) else ", "
                return HOLE.sub(lambda hole: self._filling(filling[f"h{hole[1]}"] or "", listed), translation)  # noqa: B023
        return None

    def _filling(self, text: str, listed: str) -> str:
        """What fills a hole: a name of the code stays, even where a lesson's table has a column that is called so.

        Numbers are listed with the language's own comma.
        """
        if NUMBERS.fullmatch(text):
            return text.replace(", ", listed)
        return text if NAME.fullmatch(text) and text not in self._said else self(text)


def _as_regex(pattern: str) -> re.Pattern[str]:
    parts, seen, at = [], set(), 0
    for hole in HOLE.finditer(pattern):
        parts.append(re.escape(pattern[at : hole.start()]))
        name, content = f"h{hole[1]}", "(?:e?s)?" if "?" in hole[0] else ".*?"
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{content})")
        seen.add(name)
        at = hole.end()
    return re.compile("".join([*parts, re.escape(pattern[at:])]), re.DOTALL)


def patterns_in(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """The messages of a module as (pattern, line, what fills its holes): f-strings and strings of two words or more."""
    skipped = {id(node) for node in _not_said(tree)}
    handed = {id(node) for node in _handed_over(tree)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            pattern, holes = node.value, []
        elif isinstance(node, ast.JoinedStr):
            pattern, holes = _pattern(node)
        else:
            continue
        pattern = pattern.strip()
        if is_said(pattern) or id(node) in handed:
            yield pattern, node.lineno, ", ".join(holes)


def _handed_over(tree: ast.Module) -> Iterator[ast.AST]:
    """What is an argument of t(…), whatever it looks like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "t":
            yield from node.args


def is_said(pattern: str) -> bool:
    """Whether a string is a sentence or a part of one, not a key, a format or code."""
    words = re.findall(r"(?<![\w./\\:-])[A-Za-z][a-z']+(?![\w/\\(=])", HOLE.sub(" ", pattern))
    if re.fullmatch(r"make [a-z]+(?:-\{\d\}\S*)?", pattern):
        return False  # a command
    if re.search(r"\\[a-zA-Z]|\(\?|\.\*|\w\|\w|^[<#\"]|_\w+\(|^(?:from|import|raise) ", pattern):
        return False  # a regular expression, markup, code
    return len(words) > 1 or bool(re.match(r"[A-Z][a-z]+: \{", pattern))


def _pattern(node: ast.JoinedStr) -> tuple[str, list[str]]:
    parts, holes = [], []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
            continue
        assert isinstance(value, ast.FormattedValue)
        mark = "?" if _is_plural(value.value) else ""
        parts.append(f"{{{len(holes)}{mark}}}")
        holes.append(f"{{{len(holes)}}} {ast.unparse(value.value)}")
    return "".join(parts), holes


def _is_plural(value: ast.expr) -> bool:
    """Whether a hole is such as {'s' * (n != 1)}."""
    constant = value.left if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) else None
    return isinstance(constant, ast.Constant) and constant.value in ("s", "es")


def _not_said(tree: ast.Module) -> Iterator[ast.AST]:
    """Docstrings, what a program reads or compares (patterns, keys), and the parts of an f-string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            for value in node.values:
                yield value
                if isinstance(value, ast.FormattedValue) and value.format_spec is not None:
                    yield from ast.walk(value.format_spec)
        elif isinstance(node, ast.Compare):
            yield from (node.left, *node.comparators)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if isinstance(node.func.value, ast.Name) and node.func.value.id in ("re", "subprocess"):
                yield from (one for argument in node.args for one in ast.walk(argument))
