"""Instructions and answers: what a person may ask of an assistant that has only ever seen the tiny world."""

from __future__ import annotations

from collections.abc import Callable

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names, split_of
from minitransformer.course.tinyworld.tables import describe, draw_table
from minitransformer.course.tinyworld.text import capitalise, fill, polish, tell
from minitransformer.course.tinyworld.words import LEXICON

Exchange = dict[str, str]

OPPOSITES = (
    "hot cold|big small|old new|long short|early late|open closed|happy sad|fast slow|full empty|dry "
    "wet|light dark|"
    "loud quiet|high low|good bad|strong weak|near far|heavy light|soft hard|first last|right wrong|day "
    "night|"
    "north south|east west|summer winter|buy sell|win lose|find lose|come go|begin end|laugh cry"
)
PAIRS = [tuple(pair.split()) for pair in OPPOSITES.split("|")]
LISTS = {
    "animals": "animal",
    "colours": "colour",
    "things to eat": "food",
    "fruits": "fruit",
    "months": "month",
    "days of the week": "day",
    "jobs": "job",
    "hobbies": "hobby",
    "places in a town": "spot",
    "materials": "material",
}
NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


def _and(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _exchange(instruction: str, output: str, given: str = "") -> Exchange:
    return {"instruction": instruction, "input": given, "output": output}


def _sentence(dice: Dice, template: str, facts: dict[str, str]) -> str:
    return polish(fill(dice, template, facts))


def _opposite(names: Names, dice: Dice) -> Exchange:
    word, other = dice.shuffle(dice.pick(PAIRS[:-3]))
    ask = dice.pick(
        ("What is the opposite of {}?", "Tell me the opposite of {}.", "Which word means the opposite of {}?")
    )
    return _exchange(ask.format(word), f"The opposite of {word} is {other}.")


def _list(names: Names, dice: Dice) -> Exchange:
    what = dice.pick(tuple(LISTS))
    count = dice.integer(2, 5)
    ask = dice.pick(
        ("Name {} {}.", "Give me a list of {} {}.", "Can you name {} {}?", "I need {} {}. Which do you know?")
    )
    words = dice.sample(LEXICON[LISTS[what]], count)
    answer = dice.pick(("{}.", "Here are {n} {what}: {}.", "I can name {}."))
    return _exchange(
        ask.format(NUMBER_WORDS[count], what),
        capitalise(answer.format(_and(words), n=NUMBER_WORDS[count], what=what)),
    )


def _story(names: Names, dice: Dice) -> Exchange:
    facts = names.person().slots("A") | {"B": names.first(), "town": names.town()}
    facts |= {kind + "1": dice.pick(LEXICON[kind]) for kind in ("colour", "thing", "spot", "animal")}
    asks = (
        "Write a short story about {A} and a {colour1} {thing1}.",
        "Tell me a story about {A} and a {colour1} {thing1}.",
        "I would like to read a short story. It should be about {A} and a {colour1} {thing1}.",
    )
    steps = (
        (
            "once {A} found a {colour1} {thing1} at the {spot1} in {town}.",
            "in {town} {A} had a {colour1} {thing1}.",
        ),
        (
            "a {animal1} came and ran away with it.",
            "{A.he} showed it to {B}, who wanted to have it.",
            "one day it was gone.",
        ),
        (
            "{A} ran after the {animal1} as far as the {spot1}.",
            "{A} thought of {B} and had an idea.",
            "{B} and {A} talked about it for a long time.",
        ),
        (
            "in the end the {thing1} was back in {town}, and {A} was {mood}.",
            "since then {A} and {B} share the {colour1} {thing1}.",
            "that is how {A} and {B} became friends.",
        ),
    )
    if "animal" in (chosen := dice.pick(steps[1])):
        third, fourth = steps[2][0], steps[3][0]
    else:
        third, fourth = dice.pick(steps[2][1:]), dice.pick(steps[3][1:])
    return _exchange(_sentence(dice, dice.pick(asks), facts), tell(dice, (steps[0], chosen, third, fourth), facts))


def _note(names: Names, dice: Dice) -> Exchange:
    facts = names.person().slots("A") | {"B": names.first(), "colour1": dice.pick(LEXICON["colour"])}
    facts["thing1"] = dice.pick(LEXICON["thing"])
    asks = (
        "Write a note to thank {B} for the {colour1} {thing1}. My name is {A}.",
        "I am {A}. Help me to thank {B} for a {colour1} {thing1}.",
    )
    steps = (
        "dear {B}, thank you [so much|very much] for the {colour1} {thing1}.",
        (
            "it is just what I needed.",
            "I have put it next to my bed.",
            "everybody who sees the {thing1} likes it.",
            "I think of you when I use it.",
        ),
        (
            "I hope to see you on {day}.",
            "please come and visit me in {month}.",
            "I am sending you some {food} in return.",
        ),
        "yours, {A}",
    )
    return _exchange(_sentence(dice, dice.pick(asks), facts), tell(dice, steps, facts))


def _greeting(names: Names, dice: Dice) -> Exchange:
    name, town = names.first(), names.town()
    ask = dice.pick(
        (
            "Hello, my name is {} and I come from {}.",
            "Hi! I am {} from {}.",
            "Good day, I am {}, and I live in {}.",
        )
    )
    answer = dice.pick(
        (
            "Hello, {name}! How is the weather in {town} today?",
            "Good day, {name}. What can I do for you and for {town}?",
            "Nice to meet you, {name}. Is {town} a beautiful place?",
        )
    )
    return _exchange(ask.format(name, town), answer.format(name=name, town=town))


def _larger(names: Names, dice: Dice) -> Exchange:
    low, high = sorted(dice.sample(range(2, 100), 2))
    first, second = dice.shuffle((low, high))
    word = dice.pick(("larger", "smaller"))
    right = high if word == "larger" else low
    wrong = low if word == "larger" else high
    return _exchange(f"Which number is {word}, {first} or {second}?", f"{right} is {word} than {wrong}.")


def _sort(names: Names, dice: Dice) -> Exchange:
    words = [names.first() for _ in range(dice.integer(3, 4))]
    ask = dice.pick(("Put these names in alphabetical order.", "Sort these names from A to Z."))
    return _exchange(ask, ", ".join(sorted(words)), ", ".join(words))


def _count(names: Names, dice: Dice) -> Exchange:
    words = [names.first() for _ in range(dice.integer(2, 5))]
    ask = dice.pick(("How many names are in this list?", "Count the names."))
    return _exchange(ask, f"There are {NUMBER_WORDS[len(words)]} names.", ", ".join(words))


def _last(names: Names, dice: Dice) -> Exchange:
    words = [names.first() for _ in range(dice.integer(3, 5))]
    place, index = dice.pick((("first", 0), ("last", -1), ("second", 1)))
    ask = dice.pick((f"Which is the {place} name in this list?", f"Give me the {place} name of the list."))
    return _exchange(ask, f"The {place} name is {words[index]}.", ", ".join(words))


def _repeat(names: Names, dice: Dice) -> Exchange:
    name = names.first()
    count = dice.integer(2, 4)
    ask = dice.pick(("Write the name {} {} times.", "Repeat {} {} times.")).format(name, NUMBER_WORDS[count])
    return _exchange(ask, " ".join([name] * count))


def _colour(names: Names, dice: Dice) -> Exchange:
    facts = {"A": names.first(), "colour": dice.pick(LEXICON["colour"]), "thing": dice.pick(LEXICON["thing"])}
    sentence = dice.pick(
        (
            "{A} took a {colour} {thing} to the {spot}.",
            "on {day} a {colour} {thing} was given to {A}.",
            "{A} has no {colour} {thing} any more.",
        )
    )
    ask = dice.pick(("Which colour is named in this sentence?", "Find the colour in this sentence."))
    return _exchange(ask, f"The colour is {facts['colour']}.", _sentence(dice, sentence, facts))


def _describe(names: Names, dice: Dice) -> Exchange:
    table = draw_table(names, dice, kinds=("town", "person", "pet"))
    text = describe(dice, table)
    if dice.chance(0.5):
        return _exchange(
            dice.pick(("Who or what is this text about?", "Whose name is this text about?")),
            table["name"],
            text,
        )
    return _exchange("Read this text and give me its last sentence.", text.rpartition(". ")[2], text)


def _advice(names: Names, dice: Dice) -> Exchange:
    name = names.first()
    weather, advice = dice.pick(
        (
            ("rainy", "take an umbrella"),
            ("cold", "wear a warm coat and a scarf"),
            ("sunny", "wear a hat and go for a walk"),
            ("windy", "fly a kite, but hold on to your hat"),
            ("snowy", "put on thick shoes"),
            ("foggy", "walk slowly and take a lamp"),
            ("stormy", "stay at home and drink tea"),
            ("hot", "go for a swim"),
        )
    )
    town = names.town()
    ask = dice.pick(
        (
            f"It is {weather} in {town} today. What should I do?",
            f"The weather in {town} is {weather}. What do you advise {name} to do?",
        )
    )
    who = name if name in ask else "you"
    return _exchange(ask, f"When it is {weather}, {who} should {advice.replace('your', 'the')}.")


def _no(names: Names, dice: Dice) -> Exchange:
    thing, truth = dice.pick(
        (
            ("snow is hot", "snow is cold"),
            ("fish live in water", "fish live in water"),
            ("a week has seven days", "a week has seven days"),
            ("winter comes after spring", "summer comes after spring"),
            ("the sun is cold", "the sun is hot"),
            ("birds have wings", "birds have wings"),
            ("Sunday comes after Monday", "Tuesday comes after Monday"),
            ("ice is frozen water", "ice is frozen water"),
            ("the night is brighter than the day", "the day is brighter than the night"),
            ("a baker makes bread", "a baker makes bread"),
            ("a teacher works at a school", "a teacher works at a school"),
            ("a river flows from the sea to the mountain", "a river flows from the mountain to the sea"),
        )
    )
    name = names.first()
    ask = dice.pick(("Is it true that {}?", "{name} says that {}. Is that right?", "{name} asks: is it true that {}?"))
    return _exchange(ask.format(thing, name=name), f"{'Yes' if thing == truth else 'No'}, {truth}.")


TASKS: dict[Callable[[Names, Dice], Exchange], float] = {
    _opposite: 0.05,
    _list: 0.12,
    _story: 0.16,
    _note: 0.10,
    _greeting: 0.08,
    _larger: 0.06,
    _sort: 0.06,
    _count: 0.05,
    _last: 0.06,
    _repeat: 0.05,
    _colour: 0.08,
    _describe: 0.06,
    _advice: 0.06,
    _no: 0.06,
}


def exchange(names: Names, dice: Dice) -> Exchange:
    """An instruction, its input (which may be empty) and the answer.

    What names nobody ("What is the opposite of hot?") belongs to one split by its checksum, as names do.
    """
    while True:
        made = dice.weighted(TASKS)(names, dice)
        asked = f"{made['instruction']}\n{made['input']}"
        if any(name in asked for name in names.used) or split_of(asked) == names.split:
            return made
