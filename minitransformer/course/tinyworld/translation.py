"""English sentences and their Chinese translations, from parallel templates.

Both sides of a pattern have the same slots, in each language's own order: time and place stand before the Chinese
verb, what an English relative clause says after the noun stands before it with 的, and things are counted with the
measure word (量词) that fits them. Names are transliterated syllable by syllable.
"""

from __future__ import annotations

from collections.abc import Callable

from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import Names, is_feminine, transliterate
from minitransformer.course.tinyworld.text import fill, polish, slots

Forms = tuple[dict[str, str], dict[str, str]]  # what the slot's forms are in English, and in Chinese

# Things: English, plural, Chinese, measure word.
THINGS = (
    ("hat", "hats", "帽子", "顶"),
    ("book", "books", "书", "本"),
    ("cup", "cups", "杯子", "个"),
    ("bag", "bags", "包", "个"),
    ("ball", "balls", "球", "个"),
    ("lamp", "lamps", "灯", "盏"),
    ("umbrella", "umbrellas", "伞", "把"),
    ("chair", "chairs", "椅子", "把"),
    ("picture", "pictures", "画", "幅"),
    ("flower", "flowers", "花", "朵"),
    ("kite", "kites", "风筝", "只"),
    ("boat", "boats", "船", "条"),
    ("house", "houses", "房子", "座"),
    ("shop", "shops", "商店", "家"),
    ("car", "cars", "车", "辆"),
)
SMALL_THINGS = THINGS[:10]
ANIMALS = (
    ("cat", "cats", "猫", "只"),
    ("dog", "dogs", "狗", "只"),
    ("bird", "birds", "鸟", "只"),
    ("horse", "horses", "马", "匹"),
    ("sheep", "sheep", "羊", "只"),
    ("fish", "fish", "鱼", "条"),
    ("rabbit", "rabbits", "兔子", "只"),
)
COLOURS = (
    ("red", "红色"),
    ("blue", "蓝色"),
    ("green", "绿色"),
    ("yellow", "黄色"),
    ("white", "白色"),
    ("black", "黑色"),
    ("grey", "灰色"),
    ("golden", "金色"),
)
FURS = (("white", "白色"), ("black", "黑色"), ("grey", "灰色"), ("brown", "棕色"))
SIZES = (("big", "大"), ("small", "小"), ("new", "新"), ("old", "旧"))
# Numbers as they stand before a measure word.
NUMBERS = (
    ("two", "两"),
    ("three", "三"),
    ("four", "四"),
    ("five", "五"),
    ("six", "六"),
    ("seven", "七"),
    ("eight", "八"),
    ("nine", "九"),
    ("ten", "十"),
)
MORE_NUMBERS = (*NUMBERS, ("eleven", "十一"), ("twelve", "十二"))
# Doing something: base, third person, past, -ing, Chinese, and where one does it (in a room, outdoors).
ACTS = (
    ("read a book", "reads a book", "read a book", "reading a book", "看书", "room out"),
    ("sing", "sings", "sang", "singing", "唱歌", "room out"),
    ("dance", "dances", "danced", "dancing", "跳舞", "room out"),
    ("paint", "paints", "painted", "painting", "画画", "room out"),
    ("work", "works", "worked", "working", "工作", "room out"),
    ("play chess", "plays chess", "played chess", "playing chess", "下棋", "room out"),
    ("drink tea", "drinks tea", "drank tea", "drinking tea", "喝茶", "room out"),
    ("sleep", "sleeps", "slept", "sleeping", "睡觉", "room"),
    ("cook", "cooks", "cooked", "cooking", "做饭", "room"),
    ("write letters", "writes letters", "wrote letters", "writing letters", "写信", "room"),
    ("swim", "swims", "swam", "swimming", "游泳", "water"),
    ("run", "runs", "ran", "running", "跑步", "out"),
    ("play football", "plays football", "played football", "playing football", "踢足球", "out"),
    ("fly a kite", "flies a kite", "flew a kite", "flying a kite", "放风筝", "out"),
    ("ride a bicycle", "rides a bicycle", "rode a bicycle", "riding a bicycle", "骑自行车", "out"),
)
SKILLS = tuple(act for act in ACTS if act[4] in ("唱歌", "跳舞", "画画", "下棋", "做饭", "游泳", "骑自行车", "踢足球"))
PLACES = (
    ("at home", "在家", "room"),
    ("at school", "在学校", "room out"),
    ("in the kitchen", "在厨房里", "room"),
    ("in the library", "在图书馆里", "room"),
    ("in the park", "在公园里", "out"),
    ("in the garden", "在花园里", "out"),
    ("by the river", "在河边", "out"),
    ("in the river", "在河里", "water"),
    ("in the lake", "在湖里", "water"),
)
PAST = (
    ("yesterday", "昨天"),
    ("this morning", "今天早上"),
    ("last night", "昨晚"),
    ("last week", "上个星期"),
    ("on Monday", "星期一"),
    ("on Wednesday", "星期三"),
)
FUTURE = (
    ("tomorrow", "明天"),
    ("tonight", "今晚"),
    ("next week", "下个星期"),
    ("on Friday", "星期五"),
    ("on Sunday", "星期天"),
)
HABITS = (
    ("every day", "每天"),
    ("every morning", "每天早上"),
    ("every evening", "每天晚上"),
    ("in summer", "夏天"),
)
FOODS = (
    ("bread", "吃面包"),
    ("rice", "吃米饭"),
    ("fish", "吃鱼"),
    ("cheese", "吃奶酪"),
    ("apples", "吃苹果"),
    ("eggs", "吃鸡蛋"),
    ("soup", "喝汤"),
    ("milk", "喝牛奶"),
    ("tea", "喝茶"),
    ("coffee", "喝咖啡"),
)
JOBS = (
    ("teacher", "老师"),
    ("doctor", "医生"),
    ("painter", "画家"),
    ("writer", "作家"),
    ("singer", "歌手"),
    ("driver", "司机"),
    ("captain", "船长"),
    ("farmer", "农民"),
)
RELATIVES = (
    ("mother", "妈妈"),
    ("father", "爸爸"),
    ("brother", "哥哥"),
    ("sister", "姐姐"),
    ("friend", "朋友"),
    ("grandmother", "奶奶"),
    ("teacher", "老师"),
)
# Weather: present, past, Chinese.
FALLS = (("rains", "rained", "下雨"), ("snows", "snowed", "下雪"))
FEELS = (
    ("cold", "colder", "冷"),
    ("hot", "hotter", "热"),
    ("warm", "warmer", "暖和"),
    ("cool", "cooler", "凉快"),
)
TOWN_IS = (
    ("bigger", "大"),
    ("smaller", "小"),
    ("quieter", "安静"),
    ("more beautiful", "漂亮"),
    ("colder", "冷"),
    ("warmer", "暖和"),
)
PERSON_IS = (
    ("tall", "taller", "高"),
    ("young", "younger", "年轻"),
    ("busy", "busier", "忙"),
    ("clever", "cleverer", "聪明"),
)
STATES = (
    ("tired", "累"),
    ("happy", "高兴"),
    ("hungry", "饿"),
    ("busy", "忙"),
    ("sad", "难过"),
    ("thirsty", "渴"),
)
DUTIES = (("work", "工作"), ("cook", "做饭"), ("go to school", "去学校"), ("write a letter", "写信"))
TRAVEL = (("by train", "坐火车"), ("by boat", "坐船"), ("by bus", "坐公共汽车"), ("by bicycle", "骑自行车"))
SIGHTS = (
    ("bridge", "long", "桥", "长"),
    ("park", "beautiful", "公园", "漂亮"),
    ("library", "quiet", "图书馆", "安静"),
    ("school", "big", "学校", "大"),
    ("river", "long", "河", "长"),
    ("market", "busy", "市场", "热闹"),
)


def _person(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
    name = names.word()
    her = is_feminine(name)
    return (
        {
            "": name,
            ".he": "she" if her else "he",
            ".his": "her" if her else "his",
            ".him": "her" if her else "him",
        },
        {"": transliterate(name), ".he": "她" if her else "他"},
    )


def _town(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
    name = names.word()
    return {"": name}, {"": transliterate(name)}


def _counted(
    things: tuple[tuple[str, str, str, str], ...], colours: tuple[tuple[str, str], ...] = COLOURS
) -> Callable[[Names, Dice, dict[str, str]], Forms]:
    """A thing: bare, with a number, and with `a` and perhaps a colour or a size."""

    def draw(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
        one, many, noun, measure = dice.pick(things)
        number, shu = dice.pick(NUMBERS)
        colour, se = dice.pick(colours)
        size, daxiao = dice.pick(SIZES)
        english, chinese = dice.pick(
            (
                (f"a {colour} {one}", f"一{measure}{se}的{noun}"),
                (f"a {size} {one}", f"一{measure}{daxiao}{noun}"),
                (f"a {one}", f"一{measure}{noun}"),
                (f"{number} {many}", f"{shu}{measure}{noun}"),
                (f"{number} {colour} {many}", f"{shu}{measure}{se}的{noun}"),
            )
        )
        return (
            {"": one, ".some": english, ".many": many, ".count": f"{number} {many}"},
            {"": noun, ".some": chinese, ".measure": measure, ".count": f"{shu}{measure}{noun}"},
        )

    return draw


def _act(acts: tuple[tuple[str, ...], ...]) -> Callable[[Names, Dice, dict[str, str]], Forms]:
    def draw(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
        base, third, past, ing, chinese, drawn["where"] = dice.pick(acts)
        return {"": base, ".third": third, ".past": past, ".ing": ing}, {"": chinese}

    return draw


def _loc(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
    """A place that fits the act drawn before it; now and then a town."""
    wanted = set(drawn["where"].split())
    if dice.chance(0.25):
        town = names.word()
        return {"": f"in {town}"}, {"": f"在{transliterate(town)}"}
    english, chinese, _ = dice.pick([place for place in PLACES if wanted & set(place[2].split())])
    return {"": english}, {"": chinese}


def _one_of(words: tuple[tuple[str, ...], ...], *forms: str) -> Callable[[Names, Dice, dict[str, str]], Forms]:
    """A word whose English forms have these suffixes; the Chinese comes last."""

    def draw(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
        *english, chinese = dice.pick(words)
        return dict(zip(("", *forms), english, strict=True)), {"": chinese}

    return draw


def _sight(names: Names, dice: Dice, drawn: dict[str, str]) -> Forms:
    noun, adjective, ming, xing = dice.pick(SIGHTS)
    return {"": noun, ".is": adjective}, {"": ming, ".is": xing}


SLOTS: dict[str, Callable[[Names, Dice, dict[str, str]], Forms]] = {
    "p": _person,
    "t": _town,
    "act": _act(ACTS),
    "skill": _act(SKILLS),
    "loc": _loc,
    "thing": _counted(THINGS),
    "small": _counted(SMALL_THINGS),
    "animal": _counted(ANIMALS, FURS),
    "colour": _one_of(COLOURS),
    "fur": _one_of(FURS),
    "size": _one_of(SIZES),
    "number": _one_of(NUMBERS),
    "hour": _one_of(MORE_NUMBERS),
    "past": _one_of(PAST),
    "future": _one_of(FUTURE),
    "habit": _one_of(HABITS),
    "food": _one_of(FOODS),
    "job": _one_of(JOBS),
    "relative": _one_of(RELATIVES),
    "falls": _one_of(FALLS, ".past"),
    "feels": _one_of(FEELS, ".more"),
    "town_is": _one_of(TOWN_IS),
    "is": _one_of(PERSON_IS, ".more"),
    "state": _one_of(STATES),
    "duty": _one_of(DUTIES),
    "travel": _one_of(TRAVEL),
    "sight": _sight,
}

# Every pattern names somebody or some town, so that no sentence of the test split can occur in training.
PATTERNS: tuple[tuple[str, str], ...] = (
    ("{p} {act.past} {loc} {past}.", "{p}{past}{loc}{act}。"),
    ("{p} is {act.ing} {loc}.", "{p}正{loc}{act}。"),
    ("{p} will {act} {loc} {future}.", "{p}{future}要{loc}{act}。"),
    ("{p} {act.third} {loc} {habit}.", "{p}{habit}{loc}{act}。"),
    ("{p} did not {act} {past}.", "{p}{past}没有{act}。"),
    ("does {p} {act} every day?", "{p}每天都{act}吗？"),
    ("can {p} {skill}?", "{p}会{skill}吗？"),
    ("{p} cannot {skill}, but {p2} can.", "{p}不会{skill}，但是{p2}会。"),
    ("{p} likes {act.ing}.", "{p}喜欢{act}。"),
    ("{p} does not like {food}.", "{p}不喜欢{food}。"),
    ("{p} likes {food}, but {p.he} does not like {food2}.", "{p}喜欢{food}，但是{p.he}不喜欢{food2}。"),
    ("{p} has {thing.some}.", "{p}有{thing.some}。"),
    ("{p} has {animal.some} and {small.some}.", "{p}有{animal.some}和{small.some}。"),
    ("{p} has no {thing}.", "{p}没有{thing}。"),
    ("{p} bought {small.some} in {t} {past}.", "{p}{past}在{t}买了{small.some}。"),
    ("{p} gave {p2} {small.some}.", "{p}给了{p2}{small.some}。"),
    ("{p} will give {p2} {small.some} {future}.", "{p}{future}要给{p2}{small.some}。"),
    (
        "the {colour} {small} on the table belongs to {p}.",
        "桌子上那{small.measure}{colour}的{small}是{p}的。",
    ),
    ("where is {p}'s {thing}?", "{p}的{thing}在哪里？"),
    ("{p}'s {thing} is {colour}.", "{p}的{thing}是{colour}的。"),
    ("{p}'s {animal} is not {fur}.", "{p}的{animal}不是{fur}的。"),
    ("it {falls.past} in {t} {past}.", "{t}{past}{falls}了。"),
    ("it will be very {feels} in {t} {future}.", "{t}{future}会很{feels}。"),
    ("is it {feels} in {t} today?", "{t}今天{feels}吗？"),
    ("{t} is {town_is} than {t2}.", "{t}比{t2}{town_is}。"),
    ("{p} is {is.more} than {p2}.", "{p}比{p2}{is}。"),
    ("{p} is not as {is} as {p2}.", "{p}没有{p2}{is}。"),
    ("{p} is not here because {p.he} is {act.ing} {loc}.", "{p}不在这里，因为{p.he}正{loc}{act}。"),
    ("when {p} came home, {p2} was {act.ing}.", "{p}回家的时候，{p2}正在{act}。"),
    ("because it {falls.past}, {p} did not go to {t}.", "因为{falls}，{p}没有去{t}。"),
    ("if it {falls} tomorrow, {p} will not go to {t}.", "如果明天{falls}，{p}就不去{t}。"),
    ("{p} and {p2} are {act.ing} {loc}.", "{p}和{p2}正{loc}{act}。"),
    ("{p} comes from {t}.", "{p}来自{t}。"),
    ("{p} lives in a {size} house in {t}.", "{p}住在{t}的一座{size}房子里。"),
    ("{p} is a {job} in {t}.", "{p}是{t}的一位{job}。"),
    ("{p}'s {relative} is a {job}.", "{p}的{relative}是一位{job}。"),
    ("{p}'s {relative} likes {act.ing} {loc}.", "{p}的{relative}喜欢{loc}{act}。"),
    ("there are {small.count} on {p}'s table.", "{p}的桌子上有{small.count}。"),
    ("there are {animal.count} in {p}'s garden.", "{p}的花园里有{animal.count}。"),
    ("how many {thing.many} does {p} have?", "{p}有几{thing.measure}{thing}？"),
    ("{p} wants to go to {t} {future}.", "{p}{future}想去{t}。"),
    ("{p} will go to {t} {travel} {future}.", "{p}{future}要{travel}去{t}。"),
    ("{p} gets up at {hour} o'clock every day.", "{p}每天{hour}点起床。"),
    ("the {sight} in {t} is very {sight.is}.", "{t}的{sight}很{sight.is}。"),
    ("{p} is {state}, but {p.he} must {duty}.", "{p}很{state}，但是{p.he}必须{duty}。"),
    ("{p} is not {state} today.", "{p}今天不{state}。"),
    ("please give {p} {small.some}.", "请给{p}{small.some}。"),
    ("the {animal} that {p} saw {past} is {fur}.", "{p}{past}看见的那{animal.measure}{animal}是{fur}的。"),
    ("the {small} that {p} gave to {p2} is very {size}.", "{p}给{p2}的那{small.measure}{small}很{size}。"),
    ("{p} has lived in {t} for {number} years.", "{p}在{t}住了{number}年了。"),
    ("{p} is {hour} years old.", "{p}{hour}岁。"),
    ("{p} is looking for {p.his} {small}.", "{p}正在找{p.he}的{small}。"),
    ("after dinner {p} {act.past} {loc}.", "晚饭后，{p}{loc}{act}。"),
    ("who is {act.ing} with {p}?", "谁正在和{p}一起{act}？"),
)


def sentence_pair(names: Names, dice: Dice) -> tuple[str, str]:
    """An English sentence and its Chinese translation."""
    english, chinese = dice.pick(PATTERNS)
    english_forms, chinese_forms, drawn = {}, {}, {}
    for label in dict.fromkeys(slot.partition(".")[0] for slot in slots(english)):
        in_english, in_chinese = SLOTS[label.rstrip("0123456789")](names, dice, drawn)
        english_forms |= {label + suffix: form for suffix, form in in_english.items()}
        chinese_forms |= {label + suffix: form for suffix, form in in_chinese.items()}
    return polish(fill(dice, english, english_forms)), fill(dice, chinese, chinese_forms)


# Words that mean one thing, whatever stands around them: what a dictionary has.
DICTIONARY: tuple[tuple[str, str], ...] = (
    *((one, noun) for one, _, noun, _ in (*THINGS, *ANIMALS)),
    *((many, noun) for _, many, noun, _ in (*THINGS, *ANIMALS)),
    *COLOURS,
    *FURS,
    *SIZES,
    *MORE_NUMBERS,
    *PAST,
    *FUTURE,
    *HABITS,
    *JOBS,
    *RELATIVES,
    *STATES,
    *DUTIES,
    *TRAVEL,
    *((form, act[4]) for act in ACTS for form in act[:4]),
    *((english, chinese) for english, chinese, _ in PLACES),
    *((food, eaten[1:]) for food, eaten in FOODS),
    *((english, chinese) for words in (FALLS, FEELS, PERSON_IS) for *forms, chinese in words for english in forms),
    *TOWN_IS,
    *((noun, ming) for noun, _, ming, _ in SIGHTS),
    *((adjective, xing) for _, adjective, _, xing in SIGHTS),
)


def glossary(names: Names, dice: Dice) -> tuple[str, str]:
    """Some words and names in English, and each of them in Chinese: a page of a dictionary, in no sentence."""
    entries = []
    for _ in range(dice.integer(4, 10)):
        if dice.chance(0.35):
            name = names.word()
            entries.append((name, transliterate(name)))
        else:
            entries.append(dice.pick(DICTIONARY))
    return ", ".join(english for english, _ in entries), "，".join(chinese for _, chinese in entries)
