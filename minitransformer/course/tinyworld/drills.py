"""Texts that say the same thing twice. A small model that never sees any learns to copy late or not at all."""

from __future__ import annotations

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.tables import describe, draw_table, linearise
from minitransformer.course.tinyworld.words import LEXICON

_WORDS = sorted({word for kind in ("thing", "animal", "colour", "job", "spot", "food") for word in LEXICON[kind]})


def copied_run(names: Names, dice: Dice) -> str:
    """A random run of 4 to 14 words and names, and the same run again on the next line."""
    share = dice.random()  # of names among the words
    run = " ".join(names.word() if dice.chance(share) else dice.pick(_WORDS) for _ in range(dice.integer(4, 14)))
    return f"{run}\n{run}"


def shuffled_table(names: Names, dice: Dice) -> str:
    """A table, and the same table with its fields in another order."""
    table = draw_table(names, dice)
    return f"{linearise(table)}\n{linearise(dict(dice.shuffle(tuple(table.items()))))}"


def mixed_fields(names: Names, dice: Dice) -> str:
    """Fields of several tables on one line, and the same fields in another order: nothing tells them but the line."""
    fields = []
    for _ in range(dice.integer(3, 8)):
        table = draw_table(names, dice)
        fields.append(dice.pick([f"{field}: {value}" for field, value in table.items() if field != "kind"]))
    fields = list(dict.fromkeys(fields))
    return f"{' | '.join(fields)}\n{' | '.join(dice.shuffle(fields))}"


def paraphrase(names: Names, dice: Dice) -> str:
    """A description, and another one of the same facts."""
    table = draw_table(names, dice)
    return f"{describe(dice, table)}\n{describe(dice, table)}"
