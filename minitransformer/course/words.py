"""Whether a text is made of words that there are in the tiny world: a small model sometimes writes others."""

from __future__ import annotations

import re
from functools import cache

from minitransformer.course.data import DATA
from minitransformer.course.tasks import TASKS, task_rows

WORD = re.compile(r"[^\W\d_]+")
AGAIN = re.compile(r"(.{2,4})\1\1")  # the same letters three times in a row: no name is made so
LONGEST = 20  # letters of a name


@cache
def known_words() -> frozenset[str]:
    """Every word of the text that the bases were pretrained on and of the tasks' training data, in small letters."""
    texts = [(DATA / "text" / "train.txt").read_text(encoding="utf-8")]
    for name, task in TASKS.items():
        texts += [f"{task.asked(row)} {task.answer(row)}" for row in task_rows(name)]
    return frozenset(WORD.findall(" ".join(texts).lower()))


def broken_words(text: str, asked: str = "") -> list[str]:
    """What in a text is no word.

    A word in capitals may be a name, and the tiny world makes new names all the time: it is broken only if it is far
    too long, or stammers. Numbers and signs are left alone, but not the sign that stands for bytes that are no text.

    Args:
        text: what a model wrote.
        asked: what it was asked, whose words it may use.
    """
    known = known_words() | set(WORD.findall(asked.lower()))
    found = [word for word in WORD.findall(text) if not is_word(word, known)]
    return found + ["\ufffd"] * ("\ufffd" in text)


def is_word(word: str, known: frozenset[str] | set[str]) -> bool:
    """Whether it is a known word, or looks like a name."""
    if word.lower() in known:
        return True
    return word[0].isupper() and len(word) <= LONGEST and not AGAIN.search(word.lower())
