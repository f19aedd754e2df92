"""The course's terms, from glossary.tsv: English, Chinese as the five documents write them, symbol, meaning, lesson.

Translations are checked against this list: where an English block has one of these terms, the Chinese has its own.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Term(NamedTuple):
    """One entry."""

    english: str
    chinese: str
    symbol: str  # in TeX; empty where there is none
    meaning: str
    lesson: int  # where it is introduced


@cache
def terms() -> tuple[Term, ...]:
    """All entries, in the order of the lessons."""
    path = Path(__file__).with_suffix(".tsv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return tuple(Term(*row[:4], int(row[4])) for row in rows[1:])


HOMONYMS = {
    "precision": ("精度",),  # of numbers
    # Of a token among the others: the order in which a vocabulary learned them. Of methods: which is better. As
    # a verb: to put tokens in the order of their scores.
    "rank": ("序号", "排名", "排序"),
}
"""Words that are a term in one sentence and something else in another, with what they may be there."""


def wrong_terms(english: str, chinese: str) -> list[str]:
    """The terms that an English block has and its translation lacks, in a sentence each."""
    found = []
    for term in sorted(terms(), key=lambda term: -len(term.english)):
        pattern = rf"\b{re.escape(term.english)}s?\b"
        if re.search(pattern, english, re.IGNORECASE):
            english = re.sub(pattern, "", english, flags=re.IGNORECASE)  # "prefix tuning" has no "prefix" to be checked
            if not any(word in chinese for word in (term.chinese, *HOMONYMS.get(term.english, ()))):
                found.append(f"{term.english!r} is {term.chinese!r} in the glossary; the translation lacks it.")
    return found
