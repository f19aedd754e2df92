"""Film reviews, for and against. No single word gives the verdict away.

Praise and blame use the same words: a good film may be `not dull at all`, a bad one `anything but funny`. Every review
has a remark for the other side, so one must weigh the whole.
"""

from __future__ import annotations

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.text import capitalise, fill, polish
from minitransformer.course.tinyworld.words import LEXICON

LABELS = ("positive", "negative")
# For each side of a film: what one says of it when it is good, and when it is bad.
ASPECTS = {
    "story": (("clever", "moving", "new"), ("dull", "silly", "slow")),
    "acting": (("honest", "fine", "warm"), ("stiff", "loud", "weak")),
    "music": (("lovely", "fine", "moving"), ("loud", "dull", "tired")),
    "ending": (("clever", "moving", "honest"), ("silly", "weak", "tired")),
    "camera work": (("fine", "clever", "lovely"), ("dull", "stiff", "slow")),
    "humour": (("warm", "clever", "new"), ("silly", "stiff", "weak")),
    "dialogue": (("honest", "clever", "warm"), ("stiff", "silly", "slow")),
}
# {word} is said of the film, {other} is its opposite.
AFFIRM = (
    "the {aspect} is {word}.",
    "I found the {aspect} {word}.",
    "the {aspect} was {word} from the first minute.",
    "the {aspect} is not {other} at all.",
    "nobody can call the {aspect} {other}.",
    "the {aspect} is anything but {other}.",
    "I was told that the {aspect} was {other}. It is {word}.",
    "I expected the {aspect} to be {other}. It is {word}.",
    "others call the {aspect} {other}. I do not agree.",
    "the {aspect} never felt {other} to me.",
    "with {actor} in it, the {aspect} was bound to be {word}.",
    "what {director} does with the {aspect} is {word}.",
)
CONCEDE = (
    "it is true that the {aspect} is {word}, but that is a small matter.",
    "the {aspect} is {word}, yes, but it does not count for much.",
    "only the {aspect} is {word}.",
    "apart from the {aspect}, which is {word}, I would say the same of everything.",
    "for a moment the {aspect} is {word}, and then it is over.",
)
OPENERS = (
    "I saw {film} on {day} in {town}.",
    "{film} is the new {genre} by {director}.",
    "on {day} I went to see {film} with my {relative}.",
    "{director} has made another film: {film}.",
    "{actor} plays a {job} in {film}.",
    "{film} tells of {subject}.",
    "my {relative} had talked about {film} for weeks.",
    "{film}, a {genre} with {actor}, runs in {town} this week.",
    "everybody in {town} talks about {film}.",
)
VERDICTS = {
    "positive": (
        "I would gladly see it again.",
        "go and see it.",
        "it is worth every coin.",
        "I was sorry when it was over.",
        "do not miss it.",
        "I did not look at my watch once.",
        "nobody will want the money back.",
        "I left with a smile and forgot my coat.",
        "if you do not like it, I will pay for your ticket.",
        "I have not seen a better film this year.",
        "{director} has done it again, and I am glad.",
        "who says that {actor} is finished? Not I.",
    ),
    "negative": (
        "I would not see it again.",
        "do not go and see it.",
        "it is not worth a coin.",
        "I was glad when it was over.",
        "you will miss nothing if you stay at home.",
        "I looked at my watch more than once.",
        "I want my money back.",
        "I left without a smile, and in my haste I forgot my coat.",
        "if you like it, I will pay for your ticket.",
        "I have not seen a worse film this year.",
        "{director} has done it again, and I am sorry.",
        "who says that {actor} is great? Not I.",
    ),
}
RELATIVES = ("sister", "brother", "aunt", "uncle", "mother", "father", "neighbour")


def review(names: Names, dice: Dice, label: str) -> str:
    """A review of four to six sentences with this verdict."""
    good = label == "positive"
    facts = {
        "film": names.title(),
        "town": names.town(),
        "director": names.person().full,
        "actor": names.person().full,
        "relative": dice.pick(RELATIVES),
        "day": dice.pick(LEXICON["day"]),
    }
    aspects = dice.sample(tuple(ASPECTS), 3 + dice.chance(0.4))
    remarks = [_remark(dice, aspect, good, AFFIRM, facts) for aspect in aspects[1:]]
    remarks.insert(dice.integer(0, len(remarks)), _remark(dice, aspects[0], not good, CONCEDE, facts))
    if remarks[0].startswith("apart"):
        remarks.reverse()
    sentences = [fill(dice, dice.pick(OPENERS), facts), *remarks]
    if dice.chance(0.6):
        sentences.append(fill(dice, dice.pick(VERDICTS[label]), facts))
    return polish(" ".join(map(capitalise, sentences)))


def _remark(dice: Dice, aspect: str, good: bool, templates: tuple[str, ...], facts: dict[str, str]) -> str:
    praise, blame = (dice.pick(words) for words in ASPECTS[aspect])
    word, other = (praise, blame) if good else (blame, praise)
    return fill(dice, dice.pick(templates), facts | {"aspect": aspect, "word": word, "other": other})
