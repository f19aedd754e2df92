"""One and the same event told in six styles, and a rule that tells the styles apart by their marks."""

from __future__ import annotations

import re

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.text import fill, polish
from minitransformer.course.tinyworld.words import LEXICON

# What can be done with a thing: past, present.
DEEDS = (
    ("found", "finds"),
    ("lost", "loses"),
    ("bought", "buys"),
    ("sold", "sells"),
    ("painted", "paints"),
    ("broke", "breaks"),
    ("mended", "mends"),
    ("made", "makes"),
    ("drew", "draws"),
    ("hid", "hides"),
)
PLAIN = "{A} {did} a {colour} {thing} at the {spot} in {town} on {day}."
STYLES: dict[str, tuple[str, ...]] = {
    "plain": (
        "on {day} {A} {did} a {colour} {thing} at the {spot} in {town}.",
        "at the {spot} in {town} {A} {did} a {colour} {thing} on {day}.",
        "in {town} {A} {did} a {colour} {thing} at the {spot} on {day}.",
        "it was at the {spot} in {town} that {A} {did} a {colour} {thing} on {day}.",
    ),
    "formal": (
        "we wish to inform you that, on {day}, {A} {did} a {colour} {thing} at the {spot} of {town}.",
        "it is hereby announced that {A} {did} a {colour} {thing} at the {spot} of {town} on {day}.",
        "the council of {town} respectfully informs the public that {A} {did} a {colour} {thing} at the "
        "{spot} on "
        "{day}.",
        "please be informed that on {day} a {colour} {thing} was the concern of {A}, who {did} it at the "
        "{spot} of "
        "{town}.",
    ),
    "headline": (
        "{town}: {A} {Does} {Colour} {Thing} at {Spot} on {day}",
        "{day} News: {A} of {town} {Does} {Colour} {Thing} at {Spot}",
        "{Colour} {Thing} at {town} {Spot}: {A} {Does} It on {day}",
    ),
    "child": (
        "guess what! {A} {did} a {colour} {thing}! It was at the {spot} in {town} on {day}! [Wow!|Yay!]",
        "wow! On {day} {A} {did} a {colour} {thing}, a really, really {colour} one! At the {spot} in {town}!",
        "yay, it was {day}! And {A} went to the {spot} in {town} and {did} a {colour} {thing}! So much fun!",
    ),
    "poetic": (
        "'Twas {day} at the {spot} of {town} so fair,\nwhen {A} {did} a {colour} {thing} there.",
        "O hear, O hear what {day} brought to {town}:\nat the {spot} {A} {did} a {colour} {thing}, ere "
        "the sun went "
        "down.",
        "Lo! at the {spot} of {town}, upon {day} bright,\n{A} {did} a {colour} {thing} in the evening light.",
        "Hark, gentle folk of {town}, both great and small:\non {day} {A} {did} a {colour} {thing} by the {spot} wall.",
    ),
    "pirate": (
        "Arr! On {day} {A} {did} a {colour} {thing} at the {spot} in {town}, [by me beard|shiver me timbers]!",
        "Ahoy, matey! 'Tis {A} who {did} a {colour} {thing} at the {spot} of {town} on {day}!",
        "Avast, me hearties! At the {spot} in {town} {A} {did} a {colour} {thing} on {day}, arr!",
    ),
}
# By what a reader, or a rule, knows each style.
MARKS: dict[str, re.Pattern] = {
    "formal": re.compile(r"wish to inform you|hereby announced|respectfully informs|be informed that"),
    "child": re.compile(r"\b([Gg]uess what|[Ww]ow|[Yy]ay)\b"),
    "poetic": re.compile(r"('Twas|\bO hear|\bLo!|\bHark|\bere\b)"),
    "pirate": re.compile(r"\b([Aa]rr|Ahoy|Avast|matey|me hearties|me beard|me timbers)\b"),
}


def style_of(text: str) -> str | None:
    """The style of a text by its marks: one of STYLES, or None where the marks of two styles meet or none fits.

    A headline has no mark but its shape: one line without a full stop, each word but the small ones with a
    capital. Plain is one line of sentences that end in full stops and bear no mark.
    """
    text = text.strip()
    marked = [style for style, mark in MARKS.items() if mark.search(text)]
    if len(marked) == 1:
        return marked[0]
    if marked or not text or "\n" in text:
        return None
    words = [word for word in text.split() if word not in ("at", "of", "on", "in")]
    if text[-1] not in ".!?" and all(word[0].isupper() for word in words):
        return "headline"
    return "plain" if text[-1] == "." and "!" not in text else None


def styled(names: Names, dice: Dice, style: str) -> dict[str, str]:
    """An event told plainly and in the given style: the style, the plain sentence and the styled text."""
    did, does = dice.pick(DEEDS)
    facts = {"A": names.first(), "town": names.town(), "did": did, "Does": does.capitalize()}
    for kind in ("colour", "thing", "spot", "day"):
        facts[kind] = dice.pick(LEXICON[kind])
        facts[kind.capitalize()] = facts[kind].title()
    return {
        "style": style,
        "plain": polish(fill(dice, PLAIN, facts)),
        "text": polish(fill(dice, dice.pick(STYLES[style]), facts)),
    }
