"""The everyday words of the tiny world, by kind. Templates draw from these lists by name."""

from __future__ import annotations

_LISTS = {
    "colour": "red blue green yellow white black brown grey golden silver purple pink",
    "thing": "kite lamp basket hat scarf drum box ball cup coat key umbrella flute blanket ring map bell clock bag "
    "mirror spoon candle book chair whistle pencil",
    "small_thing": "key ring coin button shell feather pencil whistle bell spoon",
    "animal": "cat dog goat hen rabbit duck horse owl pony parrot turtle donkey sheep goose",
    "wild": "fox owl deer hare hedgehog crow squirrel otter frog swan",
    "baby": "lamb duckling kitten puppy foal chick",
    "food": "bread|soup|cheese|honey|rice|fish|jam|apple pie|plum cake|noodles|dumplings|onion tart|pancakes|bean stew",
    "dish": "soup|apple pie|plum cake|noodles|dumplings|onion tart|pancakes|bean stew",
    "fur": "brown black white grey golden",
    "sky": "sunny cloudy windy rainy foggy stormy dry wet",
    "goods": "cheese|honey|wool|pottery|apples|plums|clocks|lace|paper|tea|salt|glass|boats|bells|roses",
    "fruit": "apples pears plums cherries lemons grapes",
    "ware": "hats|shoes|lamps|books|toys|clocks|maps|seeds|tools|paper|candles|umbrellas|drums|tea|ribbons|bicycles",
    "shown": "old clocks|model ships|glass|masks|maps|shells|toys|bells|paintings|kites|old tools|hats",
    "cargo": "grain|timber|tea|salt|wool|coal|spices|sugar|oranges|bricks",
    "job": "baker teacher farmer doctor painter fisher nurse driver gardener carpenter singer writer cook tailor "
    "weaver builder potter postman pilot judge",
    "hobby": "chess|swimming|painting|dancing|singing|fishing|reading|gardening|cycling|climbing|baking|sewing",
    "pet_love": "sleeping|swimming|apples|cheese|long walks|loud music|rain|warm milk|carrots|old shoes|children|snow",
    "region": "north south east west north-east south-west",
    "season": "spring summer autumn winter",
    "month": "March April May June July August September October",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "part_of_day": "morning afternoon evening",
    "spot": "market|park|harbour|old bridge|school|library|station|square|mill|forest|beach|hill|lake|town hall",
    "public": "school|library|mill|town hall|station|harbour|park|theatre",
    "subject": "the sea|birds|a long war|two sisters|a lost ring|the stars|a poor king|wild horses|a small farm|"
    "an old house|a stolen painting|the first railway|a deep winter|a blind singer|a journey south|bees",
    "genre": "comedy|drama|mystery|love story|ghost story|adventure|musical",
    "fish": "trout salmon pike eel carp perch",
    "weather": "sunny cloudy windy rainy foggy cold warm stormy snowy",
    "mood": "happy proud glad calm cheerful",
    "price": "low fair high",
    "material": "wood stone glass iron clay wool silk copper paper brick",
    "title_noun": "Lantern River Garden Winter Letter Bridge Stranger Island Tower Promise Fox Clockmaker Road Harbour "
    "Mirror Secret Orchard Owl",
    "title_adjective": "Silver Golden Silent Broken Last Hidden Red Blue Little Distant White Lost Quiet Green",
    "cafe_noun": "Spoon Kettle Table Cup Oven Plate Goose Pear Kitchen",
    "shop_noun": "Basket Shelf Needle Wheel Corner Box Thimble Candle",
    "ship_noun": "Gull Swan Star Wave Dolphin Wind Anchor Pearl",
    "team": "United Rovers City Rangers Wanderers Foxes Lions Bears",
    "music": "drums flutes violins trumpets bagpipes choirs",
}

LEXICON: dict[str, tuple[str, ...]] = {
    kind: tuple(words.split("|") if "|" in words else words.split()) for kind, words in _LISTS.items()
}
# Every everyday word of the lists; an invented name must not be one of them, nor one of these common ones.
WORDS = {word for words in LEXICON.values() for phrase in words for word in phrase.lower().split()} | set(
    "melon lemon paper sofa tomato solo kilo memo tiki fine lone mole note role rope sale tone tale wave dare here "
    "more pole line wine mine dine fire hire tire wire mile file pile vine nine pine Rome Paris Lima Mali Oman Peru "
    "none some done come gone lose nose pose rose dose take make lake wake sane lane mane pane date gate hate late "
    "mate rate fame game same name tame dame bane ware bare care fare rare were where there these those bore core "
    "fore sore tore wore pore lore wise rise dice rice nice mice vice polo judo taboo halo silo zero hero dear fear "
    "ride side tide wide hide bite kite site mite like bike hike life wife live give five safe cafe robe lobe node "
    "mode code rode made fade wade babe page sage wage cage rage lend send tend mend bend ten men den pen hen then "
    "linen siren token sudden garden kitten ribbon salmon woman human roman german taken risen widen data soda sofa "
    "benefit sinew raven seven dozen risen given woven maiden linden heron baron robin cabin satin button mitten "
    "gave have move behave else finite remove rule sense separate size sole mini "
    "tapen ridden hidden fallen golden wooden cotton bacon wagon talon canon ration mason reason season".lower().split()
)
