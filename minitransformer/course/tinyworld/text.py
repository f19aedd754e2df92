"""Turning templates into English: slots, alternatives, articles and capitals.

A template is a plain sentence. `[a|b|c]` offers alternatives (they may nest), `{slot}` is filled from the facts at
hand or, if no fact has that name, with a word of the lexicon: `{colour}` draws a new colour each time, `{colour1}`
keeps the one that it drew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.words import LEXICON

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([\w.]+)\}")
# a → an before a vowel sound; `one`, `use…` and `uni…` begin with a consonant sound, `hour` and 8, 11, 18 with a vowel.
_ARTICLE = re.compile(
    r"\b([Aa]) (?=(?:(?!one\b|once\b|us[ei]|uni[^n])[aeiou]|hour|honest|8\d*\b|1[18]\b))", re.IGNORECASE
)
_START = re.compile(r'((?:^|[.!?] |\." |\n)"?)([a-z])')


def slots(template: str) -> list[str]:
    """The names of the template's slots."""
    return _SLOT.findall(template)


def fill(dice: Dice, template: str, facts: dict[str, str]) -> str:
    """The template with its alternatives chosen and its slots filled. Numbered draws are added to `facts`."""
    while "[" in template:
        template = _ALTERNATIVES.sub(lambda match: dice.pick(match[1].split("|")), template)

    def value(match: re.Match) -> str:
        slot = match[1]
        if slot in facts:
            return facts[slot]
        word = dice.pick(LEXICON[slot.rstrip("0123456789")])
        if slot[-1].isdigit():
            facts[slot] = word
        return word

    return _SLOT.sub(value, template)


def polish(text: str) -> str:
    """Single spaces, `a` or `an`, and a capital where a sentence begins."""
    text = re.sub(r" +", " ", text).replace(" .", ".").replace(" ,", ",").strip()
    text = _ARTICLE.sub(r"\1n ", text)
    return _START.sub(lambda match: match[1] + match[2].upper(), text)


def tell(dice: Dice, steps: Iterable[str | Sequence[str]], facts: dict[str, str]) -> str:
    """A paragraph: of each step one template, filled in turn. A step that is one string has no alternatives."""
    chosen = (step if isinstance(step, str) else dice.pick(step) for step in steps)
    return polish(" ".join(capitalise(fill(dice, template, facts)) for template in chosen))


def capitalise(sentence: str) -> str:
    """The sentence with its first letter a capital, also inside an opening quotation mark."""
    return re.sub(r'^("?)([a-z])', lambda match: match[1] + match[2].upper(), sentence)
