"""Streams of documents: every kind of text of the tiny world, mixed by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from minitransformer.course.tinyworld import dialogue, drills, qa, reports, reviews, stories, styles, translation
from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import SPLITS, Names
from minitransformer.course.tinyworld.tables import describe, draw_table, linearise
from minitransformer.errors import UserError


@dataclass(frozen=True)
class Document:
    """A text and its kind."""

    kind: str
    text: str


def _sentences(names: Names, dice: Dice, side: int) -> list[str]:
    return [translation.sentence_pair(names, dice)[side] for _ in range(dice.integer(3, 6))]


def _instruction_side(names: Names, dice: Dice) -> str:
    """What a person asks or what an assistant answers, never both."""
    exchange = dialogue.exchange(names, dice)
    return dice.pick((exchange["instruction"], exchange["output"]))


KINDS: dict[str, Callable[[Names, Dice], str]] = {
    "story": stories.story,
    "description": lambda names, dice: describe(dice, draw_table(names, dice)),
    "weather": stories.weather_report,
    "news": lambda names, dice: reports.news(names, dice).article,
    "sport": lambda names, dice: reports.sport(names, dice).article,
    "review": lambda names, dice: reviews.review(names, dice, dice.pick(reviews.LABELS)),
    "copied run": drills.copied_run,
    "shuffled table": drills.shuffled_table,
    "mixed fields": drills.mixed_fields,
    "paraphrase": drills.paraphrase,
    "table": lambda names, dice: linearise(draw_table(names, dice)),
    "summary": lambda names, dice: dice.pick((reports.news, reports.sport))(names, dice).summaries[0],
    "passage": lambda names, dice: str(qa.question(names, dice)["passage"]),
    "question": lambda names, dice: str(qa.question(names, dice)["question"]),
    "instruction or answer": _instruction_side,
    "styled": lambda names, dice: styles.styled(names, dice, dice.pick(tuple(styles.STYLES)))["text"],
    "english": lambda names, dice: " ".join(_sentences(names, dice, 0)),
    "chinese": lambda names, dice: "".join(_sentences(names, dice, 1)),
    "glossary": lambda names, dice: "\n".join(translation.glossary(names, dice)),
}
# How often each kind occurs, by mix. A quarter of "pretrain" is random runs written twice, and another fifth
# says the same thing twice in other words: without them a small model hardly learns to copy. No document of
# "pretrain" holds both sides of a task (a table and its description, a sentence and its translation, …).
MIXES: dict[str, dict[str, float]] = {
    "prose": {
        "story": 0.42,
        "description": 0.22,
        "weather": 0.07,
        "news": 0.11,
        "sport": 0.08,
        "review": 0.10,
    },
    "pretrain": {
        "story": 0.15,
        "description": 0.07,
        "weather": 0.02,
        "news": 0.04,
        "sport": 0.03,
        "review": 0.06,
        "copied run": 0.25,
        "shuffled table": 0.08,
        "paraphrase": 0.12,
        "table": 0.02,
        "summary": 0.02,
        "passage": 0.03,
        "question": 0.01,
        "instruction or answer": 0.03,
        "styled": 0.03,
        "english": 0.02,
        "chinese": 0.02,
    },
    # What a base is trained on last: most of it says things twice, or reads tables, for that is what tuning builds on.
    "skills": {
        "story": 0.08,
        "description": 0.08,
        "weather": 0.02,
        "news": 0.03,
        "sport": 0.03,
        "review": 0.05,
        "copied run": 0.10,
        "shuffled table": 0.12,
        "mixed fields": 0.13,
        "paraphrase": 0.25,
        "table": 0.02,
        "summary": 0.01,
        "passage": 0.02,
        "question": 0.01,
        "instruction or answer": 0.02,
        "styled": 0.02,
        "english": 0.005,
        "chinese": 0.005,
    },
    # To keep all that was said while saying it anew is the last thing that a base learns; nearly half is paraphrase.
    "retelling": {
        "story": 0.05,
        "description": 0.06,
        "weather": 0.02,
        "news": 0.03,
        "sport": 0.03,
        "review": 0.05,
        "copied run": 0.05,
        "shuffled table": 0.10,
        "mixed fields": 0.08,
        "paraphrase": 0.45,
        "table": 0.02,
        "summary": 0.01,
        "passage": 0.01,
        "question": 0.005,
        "instruction or answer": 0.015,
        "styled": 0.01,
        "english": 0.005,
        "chinese": 0.005,
    },
    # For a base that reads rather than writes: more of what is told in sentences, less of what is copied.
    "reading": {
        "story": 0.20,
        "description": 0.12,
        "weather": 0.05,
        "news": 0.08,
        "sport": 0.07,
        "review": 0.18,
        "copied run": 0.10,
        "shuffled table": 0.05,
        "paraphrase": 0.10,
        "styled": 0.03,
        "english": 0.02,
    },
    # For an encoder–decoder: two languages, and a dictionary of words and names, but no sentence in both.
    "two languages": {
        "story": 0.06,
        "description": 0.05,
        "news": 0.05,
        "sport": 0.04,
        "review": 0.03,
        "copied run": 0.14,
        "shuffled table": 0.07,
        "mixed fields": 0.06,
        "paraphrase": 0.20,
        "summary": 0.03,
        "passage": 0.04,
        "question": 0.01,
        "styled": 0.02,
        "english": 0.06,
        "chinese": 0.06,
        "glossary": 0.08,
    },
    "chinese": {"chinese": 1.0},
}


def documents(split: str, mix: str = "prose", seed: int = 0) -> Iterator[Document]:
    """An endless stream of documents of a split. Document number i depends on (split, mix, seed, i) alone.

    Raises:
        UserError: no such split or mix.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; it should be one of {', '.join(SPLITS)}.")
    if mix not in MIXES:
        raise UserError(f"There is no mix {mix!r}; it should be one of {', '.join(MIXES)}.")
    for index in count():
        dice = Dice("documents", split, mix, seed, index)
        kind = dice.weighted(MIXES[mix])
        yield Document(kind, KINDS[kind](Names(split, dice), dice))
