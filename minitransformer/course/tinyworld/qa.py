"""Passages with a question whose answer is a span of the passage."""

from __future__ import annotations

import re

from minitransformer.course.tinyworld.categories import CATEGORIES
from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.stories import Step
from minitransformer.course.tinyworld.tables import describe, draw_table
from minitransformer.course.tinyworld.text import capitalise, fill, polish
from minitransformer.course.tinyworld.words import LEXICON

# What one person of a passage did: the sentences tell all four facts, and a question asks for one of them.
DEEDS: Step = (
    "on {day} {A} took a {colour} {thing} to the {spot}.",
    "{A} was at the {spot} on {day} and bought a {colour} {thing}.",
    "{A} went to the {spot} on {day} and lost a {colour} {thing} there.",
    "on {day} {A} sat at the {spot} with a {colour} {thing}.",
    "a {colour} {thing} was in the bag that {A} carried to the {spot} on {day}.",
    "at the {spot} {A} found a {colour} {thing} on {day}.",
)
DEED_QUESTIONS = {
    "A": ("Who was at the {spot}?", "Who was at the {spot} on {day}?", "Who had the {thing}?"),
    "spot": ("Where was {A}?", "Where was {A} on {day}?", "Where was the {thing}?"),
    "thing": ("What did {A} have?", "What did {A} have at the {spot}?", "What {colour} thing did {A} have?"),
    "colour": ("What colour was the {thing}?", "What colour was the {thing} of {A}?"),
    "day": ("On which day was {A} at the {spot}?", "When was {A} at the {spot}?"),
}


def question(names: Names, dice: Dice) -> dict[str, str | int]:
    """A passage, a question about it, the answer, and where in the passage the answer begins."""
    parts, asked, answer = _deeds(names, dice) if dice.chance(0.35) else _facts(names, dice)
    told = parts[0]
    passage = " ".join(dice.shuffle(parts))
    # As a whole word, in the sentences about the thing or person that is asked about.
    inside = re.search(rf"(?<![\w,-]){re.escape(answer)}(?![\w-]|,\d)", told)
    if inside is None:
        raise ValueError(f"The answer {answer!r} is not in {told!r}; a template has changed its field.")
    return {
        "passage": passage,
        "question": asked,
        "answer": answer,
        "answer_start": passage.index(told) + inside.start(),
    }


def _facts(names: Names, dice: Dice) -> tuple[list[str], str, str]:
    """Descriptions of two things, often of one kind; the first is asked about."""
    table = draw_table(names, dice, fewest=4)
    other = draw_table(names, dice, kinds=(table["kind"],) if dice.chance(0.5) else tuple(CATEGORIES))
    field = dice.pick([field for field in table if field not in ("kind", "name")])
    template = dice.pick(CATEGORIES[table["kind"]].questions[field])
    return [describe(dice, table), describe(dice, other)], template.format(name=table["name"]), table[field]


def _deeds(names: Names, dice: Dice) -> tuple[list[str], str, str]:
    """What three or four people did; the first is asked about."""
    count = dice.integer(3, 4)
    columns = {kind: dice.sample(LEXICON[kind], count) for kind in ("spot", "thing", "colour", "day")}
    people = [{"A": names.first()} | {kind: column[i] for kind, column in columns.items()} for i in range(count)]
    told = [polish(capitalise(fill(dice, dice.pick(DEEDS), facts))) for facts in people]
    asked = dice.pick(tuple(DEED_QUESTIONS))
    return told, polish(fill(dice, dice.pick(DEED_QUESTIONS[asked]), people[0])), people[0][asked]
