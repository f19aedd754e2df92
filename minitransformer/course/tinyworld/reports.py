"""News and sport: articles of a few sentences, each with summaries of one sentence that tell what matters most.

A piece of news is a pair: the article's steps and the summaries, filled from the same facts. Every name and number of
a summary stands in the first steps of the article, which have no alternatives that leave them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.stories import Step
from minitransformer.course.tinyworld.text import fill, polish, tell
from minitransformer.course.tinyworld.words import LEXICON


@dataclass(frozen=True)
class Report:
    """An article and its summaries."""

    article: str
    summaries: tuple[str, ...]


QUOTES: Step = (
    '"we have waited for this for a long time," said {B.full}, a {job2} from {town}.',
    '"I have lived here for {years} years and have never seen anything like it," said {B.full}.',
    '"nobody here will forget this {day2}," said {B.full}, who works as a {job2}.',
    "{B.full}, a {job2}, saw it from a window.",
    '"you can believe me, I was there," said {B.full}, a {job2}.',
    "the {job2} {B.full} told the story to everybody at the {spot2}.",
    '"everybody in {town} talks about it," said {B.full}, the {job2}.',
    "{B.full}, who lives near the {spot2}, heard the news on the radio.",
)
CLOSING: Step = (
    "the weather was {sky} all day.",
    "people from {town2} came to see for themselves.",
    "the town council will meet on {day2} to talk about it.",
    "on {day2} there will be a picture of it in the newspaper.",
    "more news is expected on {day2}.",
    "in {town2} nobody has heard of it yet.",
    "by the evening all was quiet again at the {spot2}.",
)
NEWS: dict[str, tuple[tuple[Step, ...], tuple[str, ...]]] = {
    "bridge": (
        (
            (
                "on {day} a new bridge over the River {river} was opened in {town}.",
                "{town} has a new bridge: since {day} one can walk over the River {river}.",
                "the new bridge over the River {river} in {town} was opened on {day}.",
            ),
            (
                "{A.full}, the mayor, cut a {colour1} ribbon in front of {count} people.",
                "mayor {A.full} was the first to cross it, and {count} people followed.",
            ),
            (
                "it took {number} months to build and is made of {material}.",
                "the builders worked for {number} months.",
                "the old bridge had fallen down in a storm {number} months ago.",
            ),
        ),
        (
            "{town} has opened a new bridge over the River {river}.",
            "a new bridge over the River {river} was opened in {town} by mayor {A.full}.",
            "mayor {A.full} opened the new bridge in {town} on {day}.",
        ),
    ),
    "fair": (
        (
            (
                "on {day} {count} people came to the {goods1} fair in {town}.",
                "the {goods1} fair in {town} had {count} guests on {day}.",
                "{count} guests visited the {goods1} fair, which was held in {town} on {day}.",
            ),
            (
                "the first prize went to {A.full}, a {job1}.",
                "{A.full}, a {job1}, won the first prize.",
            ),
            (
                "there was {dish} for all, and {music} played until midnight.",
                "children could ride on a {animal} around the {spot1}.",
                "at the {spot1} one could taste {dish} and dance.",
            ),
        ),
        (
            "{A.full} won the first prize at the {goods1} fair in {town}.",
            "{count} people visited the {goods1} fair in {town}.",
            "the {goods1} fair in {town} had {count} guests, and {A.full} took the first prize.",
        ),
    ),
    "pet": (
        (
            (
                "{N}, the {fur1} {animal1} of {A.full}, is back in {town}.",
                "in {town} the {fur1} {animal1} {N} has come home to {A.full}.",
                "{A.full} of {town} is happy again: {N}, a {fur1} {animal1}, has been found.",
            ),
            (
                "the animal had been missing for {number} days.",
                "it had run away {number} days ago.",
            ),
            (
                "{C.full}, a {job1}, found it behind the {spot1}.",
                "it was found behind the {spot1} by {C.full}, a {job1}.",
            ),
        ),
        (
            "{N}, the lost {animal1} of {A.full}, was found after {number} days.",
            "{C.full} found the {animal1} {N} behind the {spot1} in {town}.",
            "after {number} days {C.full} found the lost {animal1} {N}.",
        ),
    ),
    "election": (
        (
            (
                "{A.full} is the new mayor of {town}.",
                "the people of {town} have chosen {A.full} as their new mayor.",
                "on {day} {A.full} was elected mayor of {town}.",
            ),
            (
                "{count} people voted for {A.him}; {C.full} got {fewer} votes.",
                "{A.he} won with {count} votes against {C.full}, who had {fewer}.",
            ),
            (
                "{A.he} wants to build a new {public}.",
                "{A.family}, a {job1}, promised to mend the {public}.",
                "before the vote {A.he} had worked as a {job1}.",
            ),
        ),
        (
            "{A.full} was elected mayor of {town} with {count} votes.",
            "{A.full} beat {C.full} and is the new mayor of {town}.",
            "{town} has a new mayor, {A.full}.",
        ),
    ),
    "storm": (
        (
            (
                "a storm hit {town} on {day} and broke {number} roofs.",
                "on {day} a strong storm damaged {number} roofs in {town}.",
                "in {town} {number} houses lost their roofs in a storm on {day}.",
            ),
            (
                "nobody was hurt, but a tree fell on the {spot1}.",
                "a tree fell on the {spot1}, where luckily nobody was.",
            ),
            (
                "{A.full}, a {job1}, gave a bed to {few} people for the night.",
                "{few} people spent the night in the house of {A.full}, the {job1}.",
            ),
        ),
        (
            "a storm damaged {number} roofs in {town}.",
            "a storm in {town} broke {number} roofs, but nobody was hurt.",
            "after a storm in {town} {A.full} took in {few} people.",
        ),
    ),
    "library": (
        (
            (
                "the library of {town} has got {count} new books.",
                "since {day} there are {count} new books in the library of {town}.",
                "{count} new books have come to the library of {town}.",
            ),
            (
                "they are a gift from {A.full}, a {job1}.",
                "{A.full}, a {job1}, has given them to the town.",
            ),
            (
                "{A.he} had collected them for {number} years.",
                "most of them are about {subject}.",
                '"books must be read," said {A.family}.',
            ),
        ),
        (
            "{A.full} has given {count} books to the library of {town}.",
            "the library of {town} got {count} books from {A.full}.",
            "{count} books were given to the library of {town}.",
        ),
    ),
    "theft": (
        (
            (
                "a {colour1} {thing1} was stolen from the museum of {town} on {day}.",
                "on {day} somebody stole a {colour1} {thing1} from the museum of {town}.",
                "the museum of {town} misses a {colour1} {thing1}, which was stolen on {day}.",
            ),
            (
                "it is {years} years old and worth {count} coins.",
                "it is worth {count} coins and once belonged to a king.",
            ),
            (
                "the thief came through a window, said {A.full}, who looks after the museum.",
                '"the window was open," said {A.full}, who looks after the museum.',
            ),
        ),
        (
            "a {thing1} worth {count} coins was stolen from the museum of {town}.",
            "on {day} a thief stole a {colour1} {thing1} in {town}.",
            "the museum of {town} has lost a {colour1} {thing1} to a thief.",
        ),
    ),
    "record": (
        (
            (
                "{A.full} has grown the heaviest [pumpkin|cabbage|turnip] in {town}.",
                "the heaviest [pumpkin|cabbage|turnip] of {town} comes from the garden of {A.full}.",
                "in {town} nobody grows heavier [pumpkins|cabbages|turnips] than {A.full}.",
            ),
            (
                "on {day} it was put on the scales at the {spot1}: {number} kilos.",
                "it weighs {number} kilos, as was found at the {spot1} on {day}.",
            ),
            (
                "the old record was held by {C.full} of {town2}.",
                "{C.full} of {town2}, who held the record before, shook {A.his} hand.",
            ),
        ),
        (
            "{A.full} has broken the record of {C.full}.",
            "{A.full} of {town} set a record with {number} kilos.",
            "a record of {number} kilos was set by {A.full} in {town}.",
        ),
    ),
    "road": (
        (
            (
                "the road from {town} to {town2} is closed.",
                "since {day} nobody can drive from {town} to {town2}.",
                "there is no way from {town} to {town2}: the road is closed.",
            ),
            (
                "{number} [cows|sheep|geese] stand on it and will not move.",
                "the snow is {number} centimetres deep.",
                "a rock fell on it and broke {number} metres of the wall.",
            ),
            (
                "{A.full}, a driver, had to spend the night in the car.",
                '"I was late for work for the first time," said {A.full}, a {job1}.',
                "{A.full}, a {job1}, brought hot {dish} to the drivers.",
            ),
        ),
        (
            "the road between {town} and {town2} is closed.",
            "nobody can drive from {town} to {town2}.",
            "the closed road from {town} to {town2} [is a trouble for|keeps busy] {A.full}.",
        ),
    ),
    "rescue": (
        (
            (
                "on {day} {A.full} saved a {B.kid} from the River {river} in {town}.",
                "a {B.kid} who had fallen into the River {river} in {town} was saved by {A.full} on {day}.",
                "{A.full} pulled a {B.kid} out of the River {river} in {town} on {day}.",
            ),
            (
                "the {B.kid} is called {B.full} and is {few} years old.",
                "{B.full}, who is {few} years old, had slipped on the ice.",
            ),
            (
                "{A.family}, a {job1}, jumped into the cold water without a thought.",
                "{A.he} works as a {job1} and cannot even swim well.",
            ),
        ),
        (
            "{A.full} saved {B.full} from the River {river}.",
            "in {town} {A.full} saved a {B.kid} from the River {river}.",
            "{B.full}, {few} years old, was saved from the River {river} by {A.full}.",
        ),
    ),
}


def _facts(names: Names, dice: Dice) -> dict[str, str]:
    count = dice.integer(12, 99) * 10
    facts = {
        "town": names.town(),
        "town2": names.town(),
        "river": names.word(),
        "N": names.word(),
        "day": dice.pick(LEXICON["day"]),
        "count": str(count),
        "fewer": str(count - dice.integer(1, 11) * 10),
        "number": str(dice.integer(6, 60)),
        "few": str(dice.integer(3, 9)),
        "years": str(dice.integer(20, 80)),
    }
    for role in "ABC":
        facts |= names.person().slots(role)
    for kind in ("job", "spot"):
        facts |= {f"{kind}{i}": word for i, word in enumerate(dice.sample(LEXICON[kind], 2), start=1)}
    return facts


def news(names: Names, dice: Dice) -> Report:
    """News of the tiny world, in three to six sentences."""
    facts = _facts(names, dice)
    topic = dice.pick(tuple(NEWS))
    steps, summaries = NEWS[topic]
    extra = [step for step in (QUOTES, CLOSING) if dice.chance(0.6) and not (topic == "rescue" and step is QUOTES)]
    article = tell(dice, (*steps, *extra), facts)
    return Report(article, _told(article, [polish(fill(dice, summary, facts)) for summary in summaries]))


def _told(article: str, summaries: list[str]) -> tuple[str, ...]:
    """Those summaries whose every name and number stands in the article."""
    return tuple(s for s in summaries if all(fact in article for fact in facts_in(s)))


def facts_in(text: str) -> list[str]:
    """The names and numbers of a sentence: words with a capital (not the first word, unless invented) or digits."""
    words = [word.strip('.,:;!?"').removesuffix("'s") for word in text.split()]
    names = [word for word in words[1:] if word[:1].isupper()]
    return names + [word for word in words if any(letter.isdigit() for letter in word)]


def sport(names: Names, dice: Dice) -> Report:
    """A football match, or now and then a race."""
    return _match(names, dice) if dice.chance(0.7) else _race(names, dice)


def _match(names: Names, dice: Dice) -> Report:
    towns = [names.town(), names.town()]
    teams = [names.team(town) for town in towns]
    players = [[names.person() for _ in range(2)] for _ in teams]
    minutes = sorted(dice.sample(range(2, 90), dice.integer(1, 5)))
    score, goals, story = [0, 0], {}, []
    for minute in minutes:
        side = int(dice.chance(0.5))
        player = dice.pick(players[side])
        before, score = list(score), [score[0] + (side == 0), score[1] + (side == 1)]
        goals[player] = goals.get(player, 0) + 1
        # The goals a team is behind or ahead by before this goal say how to tell it.
        behind = before[1 - side] - before[side]
        told = (
            "{player} [put|brought] {team} in front after {minute} minutes.|after {minute} minutes {player} scored "
            "for {team}.|in minute {minute} {player} gave {team} the lead."
            if behind == 0
            else "{player} made it {level} after {minute} minutes.|in minute {minute} {player} brought {team} "
            "level.|{team} came back, and {player} scored in minute {minute}."
            if behind == 1
            else "{player} scored one for {team} in minute {minute}, but there was more to do.|in minute {minute} "
            "{player} gave {team} new hope."
            if behind > 1
            else "{player} scored again for {team} in minute {minute}.|in minute {minute} {player} made it {lead}."
            if goals[player] > 1
            else "in minute {minute} {player} made it {lead} for {team}.|{player} scored one more for {team} in minute "
            "{minute}."
        )
        facts = {
            "player": player.full,
            "team": teams[side],
            "minute": str(minute),
            "level": f"{score[side]}-{score[side]}",
            "lead": f"{score[side]}-{score[1 - side]}",
        }
        story.append(fill(dice, _any_of(dice, told), facts))
    winner = 0 if score[0] > score[1] else 1
    best = max(goals, key=lambda player: (player in players[winner], goals[player]))
    high, low = max(score), min(score)
    facts = {
        "home": teams[0],
        "town": towns[0],
        "winner": teams[winner],
        "loser": teams[1 - winner],
        "result": f"{high}-{low}",
        "day": dice.pick(LEXICON["day"]),
        "crowd": str(dice.integer(2, 90) * 100),
        "best": best.full,
        "goals": ("", "one goal", "two goals", "three goals", "four goals", "five goals")[goals[best]],
        "keeper": names.person().full,
    }
    if high == low:
        opener = (
            "{winner} and {loser} [played|drew] {result} in {town} on {day}.",
            "there was no winner in {town} on {day}: the game of {winner} and {loser} ended {result}.",
        )
        summaries = (
            "{winner} and {loser} drew {result}.",
            "the match between {winner} and {loser} ended {result}.",
            "nobody won in {town}, where {winner} and {loser} drew {result}.",
        )
    else:
        opener = (
            "{winner} beat {loser} {result} in {town} on {day}.",
            "on {day} {winner} won {result} against {loser} in {town}.",
            "{loser} lost {result} to {winner} in {town} on {day}.",
        )
        summaries = (
            "{winner} beat {loser} {result} with {goals} from {best}.",
            "{loser} lost {result} to {winner}.",
            "{winner} won {result} against {loser}, and {best} scored {goals}.",
        )
    turning = (
        "the {sky} weather made it hard to play.",
        "{crowd} people watched the match.",
        "{keeper}, the keeper of {loser}, stopped many shots.",
        "just before the break {keeper} of {loser} was sent off.",
        "the match was stopped for ten minutes because a {animal} ran onto the field.",
        "in the last minute a shot of {loser} hit the post.",
        '"we played with our hearts," said {best} after the match.',
        "next {day2} {winner} will play in another town.",
    )
    ending = [fill(dice, template, facts) for template in dice.sample(turning, dice.integer(1, 2))]
    article = polish(" ".join([fill(dice, dice.pick(opener), facts), *story, *ending]))
    return Report(article, tuple(polish(fill(dice, summary, facts)) for summary in summaries))


def _any_of(dice: Dice, told: str) -> str:
    """One of the sentences that stand side by side in `told`, which may have alternatives in brackets of their own."""
    return dice.pick([sentence if sentence.endswith(".") else sentence + "." for sentence in told.split(".|")])


RACE: tuple[Step, ...] = (
    (
        "{A.full} has won the {kind} race from {town} to {town2}.",
        "the {kind} race from {town} to {town2} was won by {A.full}.",
        "on {day} {A.full} came first in the {kind} race from {town} to {town2}.",
    ),
    (
        "{A.he} needed {time} minutes for the {length} km.",
        "for the {length} km {A.he} took {time} minutes.",
    ),
    (
        "{B.full} came second, {gap} minutes behind.",
        "second was {B.full}, {gap} minutes later.",
    ),
    (
        "for a long time {B.family} was in front, but on the last hill {B.he} grew tired.",
        "{C.full}, the favourite, fell near the {spot1} and had to give up.",
        "the {sky} weather made the road [slow|hard].",
        "{C.full} was third and promised to come back.",
    ),
    (
        '"I only thought of the next step," said {A.family}.',
        '"my legs hurt, but I am happy," {A.he} said.',
        "{count} people stood along the road.",
        "the winner, who works as a {job1}, got a {colour} cup.",
        "it is the third race that {A.family} has won.",
    ),
)
RACE_SUMMARIES = (
    "{A.full} won the {kind} race from {town} to {town2}.",
    "{A.full} won the {kind} race, {gap} minutes before {B.full}.",
    "{A.full} took {time} minutes and won the {kind} race before {B.full}.",
)


def _race(names: Names, dice: Dice) -> Report:
    kind, pace = dice.pick((("bicycle", 2), ("running", 4), ("rowing", 5), ("ski", 3)))
    length = dice.integer(8, 40)
    facts = _facts(names, dice) | {
        "kind": kind,
        "length": str(length),
        "time": str(length * pace + dice.integer(0, length)),
        "gap": str(dice.integer(2, 9)),
    }
    article = tell(dice, RACE, facts)
    return Report(article, tuple(polish(fill(dice, summary, facts)) for summary in RACE_SUMMARIES))
