"""Tables of facts: drawing them, writing them on one line, reading them back, and telling them in sentences."""

from __future__ import annotations

from minitransformer.course.tinyworld.categories import CATEGORIES, SEEN, UNSEEN, Category
from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names, is_feminine
from minitransformer.course.tinyworld.text import fill, polish, slots
from minitransformer.errors import UserError

Table = dict[str, str]


def _field_names(category: Category) -> tuple[str, ...]:
    return tuple(field for field in category.questions)


FIELDS: dict[str, tuple[str, ...]] = {kind: ("name", *_field_names(c)) for kind, c in CATEGORIES.items()}


def draw_table(names: Names, dice: Dice, kinds: tuple[str, ...] = SEEN + UNSEEN, fewest: int = 3) -> Table:
    """A table of one of these kinds: its kind, its name, and `fewest` to 5 of its fields in their usual order."""
    kind = dice.pick(kinds)
    values = CATEGORIES[kind].fields(names, dice)
    kept = dice.sample([field for field in values if field != "name"], dice.integer(fewest, 5))
    return {
        "kind": kind,
        **{field: value for field, value in values.items() if field == "name" or field in kept},
    }


def linearise(table: Table) -> str:
    """The table on one line: `kind: town | name: Velo | region: north`.

    Raises:
        UserError: a field that the kind does not have, no kind or no name, an empty value or one with ` | ` in it.
    """
    _check(table)
    return " | ".join(f"{field}: {value}" for field, value in table.items())


def parse_table(line: str) -> Table:
    """The table that `linearise` wrote on this line.

    Raises:
        UserError: a part without `: `, a field named twice, or whatever `linearise` refuses.
    """
    table: Table = {}
    for number, part in enumerate(line.strip().split(" | "), start=1):
        field, colon, value = part.partition(": ")
        if not colon:
            raise UserError(
                f"Part {number} of the table is {part!r}; it should be a field and its value, such as 'name: Velo'. "
                "Parts are separated by ' | '."
            )
        if field in table:
            raise UserError(f"The table names the field {field!r} twice; each field may stand once.")
        table[field] = value
    _check(table)
    return table


def slot_values(table: Table) -> list[str]:
    """The strings that a right description must contain: the name and every value, but not the kind."""
    return [value for field, value in table.items() if field != "kind"]


def _check(table: Table) -> None:
    for field in ("kind", "name"):
        if field not in table:
            raise UserError(f"The table has no {field!r}; it should begin like 'kind: town | name: Velo'.")
    kind = table["kind"]
    if kind not in FIELDS:
        raise UserError(f"The table's kind is {kind!r}; it should be one of {', '.join(FIELDS)}.")
    for field, value in table.items():
        if field != "kind" and field not in FIELDS[kind]:
            raise UserError(f"A {kind} has no field {field!r}; its fields are {', '.join(FIELDS[kind])}.")
        if not value.strip() or " | " in value:
            raise UserError(f"The field {field!r} has the value {value!r}; it should be words without ' | '.")


def describe(dice: Dice, table: Table) -> str:
    """A description that tells every field of the table once, in varied words and order."""
    category = CATEGORIES[table["kind"]]
    values = {field.replace(" ", "_"): value for field, value in table.items() if field not in ("kind", "name")}
    left = set(values)
    sentences = []
    opener = True
    while left or opener:
        choices = [
            (template, told)
            for template in (category.openers if opener else category.sentences)
            if (told := set(slots(template)) - {"S", "P"}) <= left and (told or opener)
        ]
        # A sentence that tells two facts weighs as much as two that tell one.
        weights = {template: 2.0 ** (len(told) - 1) for template, told in choices}
        template = dice.weighted(weights) if choices else _plain_opener(table)
        subject, possessive = _subject(dice, table, opener)
        sentences.append(fill(dice, template, {**values, "S": subject, "P": possessive}))
        left -= set(slots(template))
        opener = False
    return polish(" ".join(sentences))


def _plain_opener(table: Table) -> str:
    the = "the " if table["kind"] in ("river", "museum", "festival") else ""
    return f"this is about {the}{{S}}."


def _subject(dice: Dice, table: Table, opener: bool) -> tuple[str, str]:
    """What to call the thing in the next sentence: by its name, by a pronoun or by its kind."""
    kind, name = table["kind"], table["name"]
    if opener:
        return name, f"{name}'s"
    if kind == "person":
        first = name.split()[0]
        he, his = ("she", "her") if is_feminine(first) else ("he", "his")
        return dice.pick(((he, his), (he, his), (first, f"{first}'s")))
    if kind in ("river", "museum", "festival"):
        name = f"the {name}"
    the = f"the {table.get('animal', 'animal') if kind == 'pet' else kind}"
    return dice.pick((("it", "its"), ("it", "its"), (the, f"{the}'s"), (name, f"{name}'s")))
