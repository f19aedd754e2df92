"""Invented names: thousands of them, so that a small model must read them from the context and cannot know them.

A name is built of syllables, and each syllable has one Chinese character, so names translate piece by piece:
Mi-ra is 米拉. Every name belongs to one split (train, valid or test) for good, by a checksum of its letters:
whoever meets Mira in a test has never met her in training.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.words import LEXICON, WORDS

SPLITS = ("train", "valid", "test")

# Syllables that may begin a name only; the rest may stand anywhere.
FIRST_SYLLABLES = {"an": "安", "el": "艾", "or": "奥", "en": "恩"}
SYLLABLES = {
    "mi": "米",
    "ra": "拉",
    "lo": "洛",
    "ka": "卡",
    "to": "托",
    "na": "娜",
    "be": "贝",
    "do": "多",
    "li": "丽",
    "so": "索",
    "ve": "维",
    "ri": "里",
    "sa": "萨",
    "te": "特",
    "no": "诺",
    "ma": "玛",
    "ne": "内",
    "pa": "帕",
    "le": "莱",
    "ko": "科",
    "mo": "莫",
    "da": "达",
    "vi": "薇",
    "ru": "鲁",
    "se": "塞",
    "ta": "塔",
    "ni": "妮",
    "po": "波",
    "re": "雷",
    "lu": "卢",
    "di": "迪",
    "ha": "哈",
    "ga": "加",
    "bo": "博",
    "fa": "法",
    "ro": "罗",
    "si": "西",
    "ze": "泽",
    "wa": "瓦",
    "fi": "菲",
    "ju": "朱",
    "ki": "基",
    "pe": "佩",
    "lin": "林",
    "ran": "兰",
    "ben": "本",
    "dan": "丹",
    "kin": "金",
    "man": "曼",
    "sen": "森",
    "ton": "顿",
    "wen": "温",
    "mon": "蒙",
    "din": "丁",
    "fen": "芬",
    "len": "伦",
    "tan": "坦",
    "han": "汉",
}
TOWN_ENDINGS = ("ford", "wick", "dale", "by", "field", "mouth")
FAMILY_ENDINGS = ("ley", "well", "ston", "ner")
# What no name may contain, and what no name may be: ugly words, and (in Chinese) places on our own maps.
_UGLY = ("rape", "pedo", "semen", "demon", "satan", "homo")
_AVOIDED = {"papa", "mama", "dodo", "pope", "rasa", "poran", "fenran", "nemon", "sadi"}


def split_of(name: str) -> str:
    """The one split in which this name (or text) may occur: 8 in 10 train, 1 in 10 valid, 1 in 10 test."""
    bucket = zlib.crc32(name.encode()) % 10
    return "train" if bucket < 8 else "valid" if bucket == 8 else "test"


def is_feminine(name: str) -> bool:
    """In the tiny world a person whose name ends in -a or -i is `she`; every other one is `he`."""
    return name[-1] in "ai"


def syllables_of(name: str) -> list[str] | None:
    """The syllables of an invented name, or None if it is not made of syllables alone, in exactly one way."""

    def ways(rest: str, table: dict[str, str]) -> list[list[str]]:
        if not rest:
            return [[]]
        found = []
        for size in (2, 3):
            if rest[:size] in table and len(rest) >= size:
                found += [[rest[:size], *tail] for tail in ways(rest[size:], SYLLABLES)]
        return found

    found = ways(name.lower(), FIRST_SYLLABLES | SYLLABLES)
    return found[0] if len(found) == 1 else None


def transliterate(name: str) -> str:
    """The Chinese form of an invented name, one character a syllable: Mira is 米拉."""
    table = FIRST_SYLLABLES | SYLLABLES
    return "".join(table[syllable] for syllable in syllables_of(name) or ())


@dataclass(frozen=True)
class Person:
    """Somebody of the tiny world."""

    first: str
    family: str

    @property
    def full(self) -> str:
        """First and family name."""
        return f"{self.first} {self.family}"

    def slots(self, role: str) -> dict[str, str]:
        """What a template may call this person: {A}, {A.full}, {A.he}, {A.him}, {A.his}, {A.kid}, …"""
        her = is_feminine(self.first)
        return {
            role: self.first,
            f"{role}.full": self.full,
            f"{role}.family": self.family,
            f"{role}.he": "she" if her else "he",
            f"{role}.him": "her" if her else "him",
            f"{role}.his": "her" if her else "his",
            f"{role}.kid": "girl" if her else "boy",
            f"{role}.child": "daughter" if her else "son",
            f"{role}.title": "Mrs" if her else "Mr",
        }


class Names:
    """Draws names of one split, none of them twice."""

    def __init__(self, split: str, dice: Dice) -> None:
        """Draw with these dice the names of this split."""
        if split not in SPLITS:
            raise ValueError(f"The split is {split!r}; it should be one of {', '.join(SPLITS)}.")
        self.split = split
        self.dice = dice
        self.used: set[str] = set()

    def _fresh(self, make: Callable[[], str]) -> str:
        while True:
            name = make()
            if name not in self.used and split_of(name) == self.split:
                self.used.add(name)
                return name

    def _stem(self, syllables: int) -> str:
        while True:
            stem = self.dice.pick(_FIRST) + "".join(self.dice.pick(_ANY) for _ in range(syllables - 1))
            if _is_good(stem):
                return stem.capitalize()

    def word(self, syllables: int = 2) -> str:
        """An invented name of this many syllables."""
        return self._fresh(lambda: self._stem(syllables))

    def first(self) -> str:
        """A first name of two syllables, now and then three."""
        return self.word(3 if self.dice.chance(0.2) else 2)

    def person(self) -> Person:
        """Somebody with a first and a family name."""
        family = self._fresh(lambda: self._stem(2) + self.dice.pick(("", "", *FAMILY_ENDINGS)))
        return Person(self.first(), family)

    def town(self) -> str:
        """A place name such as Velo, Taniford or Port Kiran."""
        if self.dice.chance(0.12):
            return "Port " + self.word()
        return self._fresh(lambda: self._stem(2) + self.dice.pick(("", "", "", *TOWN_ENDINGS)))

    def title(self) -> str:
        """The title of a film or a book."""
        pick = self.dice.pick

        def make() -> str:
            noun, other = self.dice.sample(LEXICON["title_noun"], 2)
            adjective, name = pick(LEXICON["title_adjective"]), self.word()
            an = "An" if noun[0] in "AEIOU" else "A"
            return pick(
                (
                    f"The {adjective} {noun}",
                    f"The {adjective} {noun}",
                    f"The {noun} and the {other}",
                    f"The {noun} of {name}",
                    f"{an} {noun} for {name}",
                    f"{name} and the {noun}",
                    f"Night in {name}",
                )
            )

        return self._fresh(make)

    def sign(self, nouns: str) -> str:
        """A name over a door, such as The Golden Spoon or Mirano's; `nouns` names a list of the lexicon."""
        adjective, noun = LEXICON["title_adjective"], LEXICON[nouns]
        if self.dice.chance(0.4):
            return f"{self.word()}'s {self.dice.pick(noun)}"
        return self._fresh(lambda: f"The {self.dice.pick(adjective)} {self.dice.pick(noun)}")

    def team(self, town: str) -> str:
        """A team of the given town."""
        return f"{town} {self.dice.pick(LEXICON['team'])}"


_FIRST = tuple(SYLLABLES) + tuple(FIRST_SYLLABLES)
_ANY = tuple(SYLLABLES)


@cache
def _is_good(stem: str) -> bool:
    """Whether the stem is no word of ours, does not merely repeat a syllable, and splits in one way only."""
    fine = stem not in _AVOIDED and stem not in WORDS and not any(ugly in stem for ugly in _UGLY)
    return fine and len(set(syllables_of(stem) or ())) > 1
