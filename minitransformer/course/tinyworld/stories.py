"""Short stories: a few people, a thing or two, a place, and something that happens to them.

A plot is a list of steps, a step a choice of sentences. {A}, {B} and {C} are people, {A.he} their pronouns;
numbered slots ({thing1}, {colour1}) keep their word through the story, so that what comes later can be told from
what came first.
"""

from __future__ import annotations

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.text import tell
from minitransformer.course.tinyworld.words import LEXICON

Step = str | tuple[str, ...]

MORNING: Step = (
    "it was a {weather} {part_of_day} in {town}.",
    "one {weather} {part_of_day} {A} went to the {spot1} in {town}.",
    "on a [sunny|windy|rainy|cloudy|warm] {day} in {month}, {A} was at the {spot1}.",
    "it was {season}, and {town} was [quiet|busy|full of people].",
    "early one {day}, {A} woke up in {town}.",
    "once there was a {A.kid} called {A} who lived in {town}.",
    "in the town of {town} there lived a {job1} called {A}.",
    "last {season} something [strange|funny|small but good] happened in {town}.",
)
HAPPY: Step = (
    "that {part_of_day} {A} was very {mood}.",
    "{A} and {B} [laughed|smiled] all the way home.",
    "since that day {A} and {B} have been [good|the best of] friends.",
    "{A} thought about it for a long time and smiled.",
    "they [ate|shared] {food} together, and the day was over too soon.",
    "in {town} people still tell this story.",
    '"we should do this again," said {B}, and {A} agreed.',
    "that night {A} slept well.",
)

PLOTS: dict[str, tuple[Step, ...]] = {
    "the gift": (
        MORNING,
        (
            "{A} had a {colour1} {thing1} that {A.he} [did not need|never used] any more.",
            "under the bed {A} found an old {colour1} {thing1}.",
            "{A} [made|bought] a {colour1} {thing1} [with great care|from an old woman at the market].",
        ),
        (
            "{A.he} gave the {thing1} to {B}, because {B} [was sad|had a birthday|had always wanted one].",
            "{A.he} took the {thing1} to {B}, who was [ill in bed|all alone that day].",
            '"this is for you," {A} said to {B} and held out the {thing1}.',
        ),
        (
            "{B} [turned it over|held it up to the light] and [smiled|laughed with joy].",
            '"thank you, {A}!" said {B}. "{colour1} is my favourite colour."',
            "{B} did not know what to say.",
        ),
        (
            "but the next day {B} met {C}, who had nothing at all.",
            "a week later {C} came to visit {B} and could not stop looking at the {thing1}.",
            "on the way home {B} saw {C} crying by the {spot2}.",
        ),
        (
            "so {B} gave the {colour1} {thing1} to {C}.",
            'so {B} said, "Take it, {C}. You need it more than I do."',
            "{B} thought for a moment, and then the {thing1} belonged to {C}.",
        ),
        (
            "when {A} heard of it, {A.he} was not angry at all.",
            "{A} saw {C} with the {thing1} and understood at once.",
            '{A} laughed. "A good {thing1} likes to travel," {A.he} said.',
        ),
        (
            "now the {colour1} {thing1} is with {C}, and all three are friends.",
            "{A}, {B} and {C} are still friends today.",
            "to this day the {thing1} stands in the window of {C}.",
        ),
    ),
    "lost and found": (
        MORNING,
        (
            "{A} had lost a {colour1} {small_thing1}.",
            "{A} put a hand into a pocket: the {colour1} {small_thing1} was gone!",
            "on the way to the {spot1} {A} had dropped a {colour1} {small_thing1}.",
        ),
        (
            "it had belonged to {A.his} grandmother.",
            "it was small and not worth much, but {A} loved it.",
            "without it {A} [could not go home|did not want to eat or sleep].",
        ),
        (
            "{A} looked in the {spot2} and behind the {spot3}, but [it was not there|found nothing].",
            "{A.he} asked the {job1} and the {job2}, but nobody had seen it.",
            "{A.he} looked under every [stone|bench|tree] near the {spot2}.",
        ),
        (
            '"what are you looking for?" asked {B}, {A.his} neighbour.',
            "then {A} met {B}, who had very good eyes.",
            "{B} saw that {A} was sad and came to help.",
        ),
        (
            '"my {small_thing1}," said {A}. "It is {colour1}."',
            '"a {colour1} {small_thing1}," said {A}. "Have you seen it?"',
        ),
        (
            "they [searched|looked everywhere] until it grew dark.",
            '"I saw a {wild1} with something {colour1} near the {spot3}," said {B}.',
            '"let us go back the way you came," said {B}.',
        ),
        (
            "at last {B} found the {small_thing1} in the grass by the {spot3}.",
            "and there, in the nest of a {wild1}, lay the {small_thing1}.",
            "in the end the {small_thing1} was where nobody had looked: in {A.his} own shoe.",
        ),
        (
            '"how can I thank you, {B}?" asked {A}.',
            "{A} was so glad that {A.he} [danced around the {spot3}|gave {B} {food}].",
            "{A} never lost the {colour1} {small_thing1} again.",
        ),
        HAPPY,
    ),
    "the swap": (
        MORNING,
        (
            "{A} had a {colour1} {thing1}, and {B} had a {colour2} {thing2}.",
            "{A} was proud of {A.his} {colour1} {thing1}, while {B} carried a {colour2} {thing2}.",
        ),
        (
            "{A} liked the {thing2} better than {A.his} own {thing1}.",
            "but {B} kept looking at the {thing1}, and {A} kept looking at the {thing2}.",
        ),
        (
            '"shall we swap?" asked {A}.',
            '"I will give you my {thing1} if you give me your {thing2}," said {A}.',
        ),
        (
            "{B} [nodded|thought about it|did not have to be asked twice], and so they did.",
            '"yes," said {B}, "but only for one day."',
        ),
        (
            "so {A} went home with the {colour2} {thing2}, and {B} with the {colour1} {thing1}.",
            "now the {thing2} was in {A.his} hands, and {B} had the {thing1}.",
        ),
        (
            "that night neither of them could sleep.",
            "but the {thing2} was too [big|small|heavy] for {A}.",
            "{A} soon missed {A.his} old {thing1}.",
            "both of them were happy with what they had got.",
        ),
        (
            "the next {part_of_day} they met at the {spot1} and laughed.",
            '"a thing is best when a friend has had it before," said {B}.',
            "when they met again, {B} was [singing|in a good mood].",
        ),
        HAPPY,
    ),
    "the storm": (
        (
            "dark clouds came up over {town}.",
            "all day the air in {town} had been hot and still.",
            "the people of {town} looked at the sky and closed their windows.",
        ),
        (
            "{A} and {B} were on their way to the {spot1}.",
            "{A} was out at the {spot1} with {B}, far from any house.",
            "{A} and {B} were in a small {colour1} boat on the lake.",
        ),
        (
            "then the wind began to blow, and rain fell on their heads.",
            "suddenly there was thunder, and it grew as dark as night.",
            "a [cold|strong] wind came from the {region}.",
        ),
        (
            '"are you afraid?" asked {B}. "Not at all," said {A}, but {A.he} was.',
            "the wind took the {colour2} hat of {A} and carried it away.",
            "{A} held on to {B}, and {B} held on to {A}.",
        ),
        (
            "they saw a light: it was the house of {C}, the {job1}.",
            '"come in!" called {C}, the old {job1}, from an open door.',
            "luckily {C}, a {job1}, lived close by.",
        ),
        (
            "{C} gave them dry coats and hot {dish1}.",
            "in the house there was a fire, and {C} had made {dish1}.",
            "they sat by the fire with {C} and listened to the rain.",
        ),
        (
            "{C} told them of [the great storm of {year}|a ship that never came back|the days when {town} was small].",
            "to pass the time, {C} [sang an old song|played the flute|taught them a game with stones].",
        ),
        (
            "by {part_of_day} the storm was over, and the sky was {clear_sky}.",
            "when the rain stopped, there was a rainbow over the {spot2}.",
            "hours later the wind lay down like a tired dog.",
        ),
        (
            "{A} and {B} thanked {C} and went home.",
            "since then {A} and {B} visit {C} every {day}.",
            "they never forgot the kindness of {C}.",
        ),
    ),
    "the race": (
        MORNING,
        (
            "{A} said that nobody in {town} could [run|ride|swim] faster.",
            "there was a race from the {spot1} to the {spot2}.",
            '"I am faster than you," said {A} to {B}.',
        ),
        (
            "{B} was small, but {B.he} was not afraid.",
            '"we will see," said {B}.',
            "nobody thought that {B} could win.",
        ),
        (
            "{C} raised a {colour1} flag, and off they went.",
            "when {C} clapped, they both began.",
            "half the town came to watch, and {C} counted to three.",
        ),
        (
            "at first {A} was far ahead.",
            "{A} was so sure of winning that {A.he} stopped to [eat {food}|talk to the {job}|tie a shoe].",
            "by the {spot3} {A} fell over a {animal1}.",
        ),
        (
            "{B} did not stop, not even for a moment.",
            "step by step {B} came closer.",
            "{B} heard the people call {B.his} name.",
        ),
    ),
    "the bread": (
        (
            "{A} was the best baker in {town}.",
            "{A} wanted to make {dish1} for {B}.",
            "it was the birthday of {B}, and {A} wanted to make {dish1}.",
        ),
        (
            "but there was no [flour|salt|milk|butter] in the house.",
            "but the oven was cold, and there was no wood.",
            "but {A} had never cooked before.",
        ),
        (
            "so {A.he} went to {C}, the {job1} next door.",
            "so {A.he} asked {C}, who was a {job1}.",
            "{A} ran past the {spot1} to the house of {C}.",
        ),
        (
            '"I can help you," said {C}, "if you help me [to mend my {thing1}|to catch my {animal1}] first."',
            '"of course," said {C}. "But first hold my {thing1} for a moment."',
            "{C} gave {A.him} all {A.he} needed and wanted nothing for it.",
        ),
        (
            "two hours later {A} stood in the kitchen again.",
            "it took the whole {part_of_day}.",
            "{A} worked so hard that {A.his} face was white with flour.",
        ),
        (
            "the first try was [black|as hard as a stone|too salty], but the second was good.",
            "soon the whole street smelled of {dish1}.",
            "the {dish1} did not look pretty, but the taste was wonderful.",
        ),
        (
            "{B} ate three plates and asked for more.",
            '"I have never eaten such good {dish1}!" said {B}.',
            "{B} took a bite, closed {B.his} eyes and smiled.",
        ),
        (
            "{A} kept a piece for {C}, who had helped.",
            "{C} came too, and so there were three at the table.",
            '"without {C} I could not have done it," said {A}.',
        ),
    ),
    "the animal": (
        MORNING,
        (
            "by the {spot2} {A} heard a small sound.",
            "something moved in the grass near the {spot2}.",
            "{A} saw something {colour1} behind the {spot2}.",
        ),
        (
            "it was a {baby1} that had lost its mother.",
            "a little {baby1} sat there, wet and cold.",
            "a {baby1} had hurt its leg and could not walk.",
        ),
        (
            '"poor thing," said {A} and [picked it up|put {A.his} coat around it].',
            "{A} sat down beside it and spoke in a soft voice.",
            "at first the {baby1} was afraid of {A}.",
        ),
        (
            "{A} carried it to {B}, who was a {job1} and knew much about animals.",
            "{A} ran to fetch {B}, {A.his} best friend.",
            "just then {B} came by with a {thing1}.",
        ),
        (
            '"it needs [milk|warmth|sleep]," said {B}.',
            "{B} looked at the {baby1} for a long time.",
            "{B} had an idea and made a bed out of an old {thing2}.",
        ),
        (
            "all night they took turns to sit beside the {baby1}.",
            "for three days they fed it with warm milk.",
            "they called it {N}, after a [song|hero in a book|place by the sea].",
        ),
        (
            "soon the {baby1} was well again and jumped about.",
            "on {day} the {baby1} stood up and made its first steps.",
            "then one {part_of_day} its mother came to the gate, and the {baby1} ran to her.",
        ),
        (
            "{A} was [sad and glad|a little sad but also happy] when it left.",
            "now the {baby1} lives with {A}, and {B} visits every {day}.",
            '"you did well," said {B} to {A}.',
        ),
    ),
    "the letter": (
        (
            "{A} was the postman of {town}.",
            "every day {A} carried letters from house to house in {town}.",
            "in {town} {A} brought the post, in sun and in rain.",
        ),
        (
            "one {day} there was a {colour1} letter for {B}.",
            "at the bottom of the bag lay an old letter for {B}, the {job1}.",
            "a letter came that had been on its way for {number} years. It was for {B}.",
        ),
        (
            "but {B} had moved to {town2}.",
            "{B} did not live in the house by the {spot1} any more.",
            "nobody knew where {B} lived now.",
        ),
        (
            "{A} asked at the {spot2}, and {C} [told {A.him}|remembered] the way.",
            "{C}, the {job2}, had heard that {B} was now in {town2}.",
            '"go to {town2}," said {C}. "It is the house with the {colour2} door."',
        ),
        (
            "so {A} walked all the way to {town2}.",
            "{A} took the [boat|train|bus] to {town2}.",
            "on {A.his} free day {A} set out for {town2}.",
        ),
        (
            "when {B} opened the letter, {B.his} hands shook.",
            "{B} read it twice and began to [cry|laugh|sing].",
            '"it is from my {relative}!" said {B}.',
        ),
        (
            'it said only: "Come home. All is forgiven."',
            'inside there was a picture and the words "I have not forgotten you".',
            "in the letter lay a {small_thing1}, and {B} knew at once what it meant.",
        ),
        (
            '"thank you, {A}," said {B}. "You have brought me more than a letter."',
            "{A} went back to {town} that night and was content.",
            "the next {day} {B} came back to {town}.",
        ),
    ),
    "the market": (
        (
            "on {day} there is a market in {town}.",
            "{A} went to the market of {town} with {number} coins.",
            "the market in {town} was full of people and noise.",
        ),
        (
            "{A} wanted to buy {fruit1} for {A.his} {relative}.",
            "{A.his} {relative} had asked {A} to bring {fruit1}.",
            '"bring me {fruit1}," {A.his} {relative} had said to {A}.',
        ),
        (
            "but then {A} saw a {colour1} {thing1}.",
            "on the way to the {fruit1} {A} passed a table with a {colour1} {thing1} on it.",
        ),
        (
            '"how much is the {thing1}?" {A} asked {B}, who sold it.',
            '"that is a fine {thing1}," said {B}, the {job1}, "and not dear at all."',
            "{B}, the seller, saw {A.his} eyes and smiled.",
        ),
        (
            "it cost all the money that {A} had.",
            "{A} counted the coins again and again.",
            "{A} thought of the {fruit1} and then of the {thing1}.",
        ),
        (
            "in the end {A} bought the {fruit1} and went home without the {thing1}.",
            "{A} took the {thing1} and came home without {fruit1}.",
            '{B} said, "Take both. You can work for me on {day}."',
            "{A} shook {A.his} head and bought the {fruit1}.",
        ),
        (
            "{A.his} {relative} [looked at {A.him}|said nothing at first], and then [laughed|gave {A.him} a hug].",
            "at home {A} told everything, and {A.his} {relative} was not angry.",
            '"it was a hard choice," {A} said at home.',
        ),
        (
            "{A} still thinks of the {colour1} {thing1} sometimes.",
            "from that day on {A} often helped {B} at the market.",
            "the next week {A} came back to the table of {B}.",
        ),
    ),
    "the new neighbour": (
        (
            "a new family moved into the house by the {spot1} in {town}.",
            "for years the {colour1} house in {town} had been empty. Now there was light in it.",
            "one {weather} {day} a cart full of chairs and boxes came to {town}.",
        ),
        (
            "{A} looked out of the window and saw {B}.",
            "the {A.kid} next door was called {A}, the new one {B}.",
            "{B} was new in town and knew nobody. {A} lived next door.",
        ),
        (
            "{B} [did not talk|looked at the ground] and held a {colour2} {thing1}.",
            "{B} spoke with a strange accent, as people do in {town2}.",
            "{B} came from {town2}, which is far away.",
        ),
        (
            '"can you play [chess|football|the drum]?" asked {A}.',
            "{A} took some {dish1} and knocked at the door.",
            '"do you want to see the {spot2}?" {A} asked.',
        ),
        (
            '"no," said {B}, "but I can learn."',
            "{B} was [shy|surprised], but then {B.he} nodded.",
            '"I would like that," said {B}.',
        ),
        (
            "they spent the whole {part_of_day} at the {spot2}.",
            "{A} showed {B} where the [best {fruit} grow|{wild1} lives|water is warm].",
            "before long they talked as if they had always known each other.",
        ),
        (
            "in return {B} [taught {A} a song from {town2}|told {A} about {town2}|let {A} hold the {thing1}].",
            'at home {B} said, "I think I shall like {town}."',
            "{A} learned that in {town2} people eat {food} for breakfast.",
        ),
        HAPPY,
    ),
    "building": (
        (
            "there was no {built1} in {town}, and the children were sad about it.",
            "{A} wanted to build a {built1}.",
            '"{town} needs a {built1}," said {A}, who was a {job1}.',
        ),
        (
            "{A} had the [wood|stones|nails], but no one to help.",
            "alone it was too hard.",
            "{B} laughed at {A} and said that it could not be done.",
        ),
        (
            "so {A} asked {B} and {C}.",
            "{A} went from door to door until {B} and {C} said yes.",
            "but then {C} came with a ladder, and even {B} took off {B.his} coat.",
        ),
        (
            "{B} cut the wood, and {C} painted it {colour1}.",
            "{C} carried stones while {B} drew a plan.",
            "{A} held the ladder, {B} used the hammer, and {C} made {dish}.",
        ),
        (
            "on the second day [it rained|the roof fell in|the wind blew everything down], but they began again.",
            "it took them {number} days.",
            "when {A} wanted to give up, {C} told a joke, and they went on.",
        ),
        (
            "at last the {built1} was ready, and it was {colour1}.",
            "on {day} the {built1} stood there, a little crooked but strong.",
            "when the {built1} was done, the whole town came to see it.",
        ),
        (
            '"I did not believe in it," said {B}. "I was wrong."',
            "{A} wrote three names above it: {A}, {B} and {C}.",
            "the children called it the {colour1} wonder.",
        ),
    ),
    "learning": (
        MORNING,
        (
            "{A} could not {skill1}.",
            "{A} wanted to learn to {skill1}, but {A.he} was afraid.",
            "all the others could {skill1}, only {A} could not.",
        ),
        (
            '"I will teach you," said {B}, {A.his} {relative}.',
            "{A.his} {relative} {B} knew how.",
            "so {A} went to {B}, who could {skill1} better than anyone in {town}.",
        ),
        (
            "on the first day {A} [failed|wanted to run away|did everything wrong].",
            "the first try ended [badly|with wet feet|with tears].",
            "at first it [was hard|hurt|looked very funny].",
        ),
        (
            '"try again," said {B}. "Nobody learns to {skill1} in one day."',
            "{B} never laughed at {A} and never got angry.",
            '"you are too stiff," said {B}. "Think of a {wild1}."',
        ),
        (
            "so {A} tried again on {day1}, and again on {day2}.",
            "every {part_of_day} after school they met at the {spot2}.",
            "a week went by, and then another.",
        ),
        (
            "then, all at once, {A} could do it.",
            "one {weather} {part_of_day} {A} suddenly knew how.",
            "and then it [was easy|was not hard any more].",
        ),
        (
            '"look, {B}!" called {A}. "I can {skill1}!"',
            "{B} was even happier than {A}.",
            "now {A} teaches the little ones of {town} to {skill1}.",
        ),
    ),
    "a quiet day": (
        (
            "{A} works as a {job1} in {town}.",
            "{A} is a {job1} and lives near the {spot1} in {town}.",
            "the {job1} of {town} is called {A}.",
        ),
        (
            "every {part_of_day} {A} [drinks tea|eats {food}] with {B}.",
            "on {day1} {A} always meets {B} at the {spot1}.",
            "{A} has a {fur1} {animal1}, and {B}, {A.his} neighbour, has a {fur2} one.",
        ),
        (
            "they talk about the weather, about {goods} and about [old times|the news|their children].",
            "sometimes they sit there for hours and say nothing.",
            "{B} talks, and {A} listens.",
        ),
        (
            "yesterday it was {weather}, and so they went to the {spot2} instead.",
            "yesterday {B} did not come, and {A} began to worry.",
            "but yesterday everything was different.",
        ),
        (
            "{B} had hurt {B.his} foot on the stairs.",
            "a {wild1} sat in the middle of the road and would not move.",
            "there they met {C}, whom they had not seen for {number} years.",
            "there was a {colour2} balloon in the tree, and nobody knew how it had got there.",
        ),
        (
            '"well," said {A}, "that is something new."',
            '"what shall we do?" asked {A}. "Nothing," said {B}.',
            "{A} looked at it from all sides and scratched {A.his} head.",
        ),
        (
            "in the end they went home and [made {dish}|slept until evening].",
            "they laughed about it the whole {part_of_day}.",
            "that was all that happened in {town} that week, and it was enough.",
        ),
    ),
}
# How the race ends; the winner of the first half of the plot depends on it.
RACE_ENDS: tuple[tuple[Step, ...], ...] = (
    (
        (
            "in the end {B} won, and {A} came in second.",
            "at the {spot2} {B} was the first, by no more than a nose.",
        ),
        (
            '"you were better today," said {A} and shook {B.his} hand.',
            "{A} learned that being fast is not everything.",
            "{C} gave {B} a {colour2} {thing1} as a prize.",
        ),
    ),
    (
        (
            "it was close, but {A} won by one step.",
            "{A} reached the {spot2} first, and {B} came right behind {A.him}.",
        ),
        (
            "{A} got a {colour2} {thing1} from {C} and shared the prize with {B}.",
            '"next year I will win," said {B}, and {A} believed it.',
            "{A} was glad, but the people clapped just as loudly for {B}.",
        ),
    ),
    (
        (
            "then {B} fell, and {A} turned back to help.",
            "a few steps from the end {A} waited for {B}.",
        ),
        (
            "so they crossed the line together, hand in hand, and {C} had to cut the prize in two.",
            "nobody won that day, but everybody clapped.",
        ),
    ),
)
RELATIVES = ("grandmother", "grandfather", "mother", "father", "aunt", "uncle", "sister", "brother")
SKILLS = (
    "swim",
    "dance",
    "read",
    "whistle",
    "ride a bicycle",
    "play the flute",
    "climb trees",
    "cook",
    "sew",
    "skate",
)
BUILDINGS = ("bridge", "swing", "boat house", "bench", "stage", "tree house", "well", "playground")
SKIES = ("blue again", "red and gold", "clear and full of stars", "as clean as new glass")


def story(names: Names, dice: Dice) -> str:
    """A story of four to ten sentences."""
    people = [names.person() for _ in range(3)]
    facts = {
        "town": names.town(),
        "town2": names.town(),
        "N": names.word(),
        "year": str(dice.integer(1850, 1990)),
        "number": str(dice.integer(2, 30)),
        "relative": dice.pick(RELATIVES),
        "skill1": dice.pick(SKILLS),
        "built1": dice.pick(BUILDINGS),
        "clear_sky": dice.pick(SKIES),
    }
    for role, person in zip("ABC", people, strict=True):
        facts |= person.slots(role)
    for kind, count in (("spot", 3), ("colour", 2), ("fur", 2), ("thing", 2), ("job", 2), ("day", 2)):
        facts |= {f"{kind}{i}": word for i, word in enumerate(dice.sample(LEXICON[kind], count), start=1)}
    plot = dice.pick(tuple(PLOTS))
    steps = PLOTS[plot] + (dice.pick(RACE_ENDS) if plot == "the race" else ())
    return tell(dice, steps, facts)


WEATHER: tuple[Step, ...] = (
    (
        "the weather in {town} for {day1}:",
        "here is the weather for {town} and the {region1}.",
        "in {town} it [will be|stays] {sky1} on {day1}.",
        "the {region1} of the country will have a {sky1} {day1}.",
    ),
    (
        "in the morning it will be {sky1}, with {low} degrees.",
        "the day begins {sky1}, at {low} degrees.",
        "the morning is {sky2}, and it is {low} degrees at the {spot1}.",
        "at sunrise there are {low} degrees and a few clouds over the {spot1}.",
    ),
    (
        "by noon it will reach {high} degrees.",
        "later the sun comes out, and {high} degrees are possible.",
        "in the afternoon the rain stops and it gets as warm as {high} degrees.",
        "at noon one can expect {high} degrees, but it will feel colder in the wind.",
    ),
    (
        "the wind comes from the {region2} and will be [weak|strong|very strong].",
        "a [light|fresh|sharp] wind blows from the {region2}.",
        "there is hardly any wind.",
        "towards evening a storm may come from the {region2}.",
    ),
    (
        "in {town2} it will be {sky2}.",
        "the people of {town2} should take an umbrella.",
        "only {town2} will see {fall}.",
        "for {town2} the forecast is better than for {town}.",
        "fishers in {town2} should stay in the harbour.",
    ),
    (
        "{day2} will be {sky2}.",
        "on {day2} it will be warmer, with up to {next} degrees.",
        "the night will be cold, and {day2} begins with fog.",
        '"I have not seen such a {month} for years," says {A.full}, who has watched the weather for {number} years.',
        "{A.full}, a farmer from {town}, is glad about the rain.",
        "the next days will be {sky2} as well.",
    ),
)


def weather_report(names: Names, dice: Dice) -> str:
    """A forecast for one town and its neighbour."""
    low = dice.integer(2, 18) - 7 * dice.chance(0.2)
    high = low + dice.integer(2, 12)
    facts = {
        "town": names.town(),
        "town2": names.town(),
        "fall": "some snow" if low < 4 else "some rain",
        "low": str(low),
        "high": str(high),
        "next": str(high + dice.integer(1, 5)),
        "number": str(dice.integer(5, 40)),
    } | names.person().slots("A")
    for kind in ("day", "region", "sky"):
        facts |= {f"{kind}{i}": word for i, word in enumerate(dice.sample(LEXICON[kind], 2), start=1)}
    return tell(dice, WEATHER, facts)
