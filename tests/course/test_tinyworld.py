"""The tiny world: the same bytes everywhere, nothing of a test in training, and correct text."""

from __future__ import annotations

import json
import random
import re
import zlib
from itertools import islice
from pathlib import Path

import pytest

from minitransformer.course import tinyworld
from minitransformer.course.tinyworld import reports, text
from minitransformer.course.tinyworld.categories import CATEGORIES
from minitransformer.course.tinyworld.names import FIRST_SYLLABLES, SYLLABLES, Names, syllables_of
from minitransformer.course.tinyworld.words import LEXICON, WORDS
from minitransformer.course.tinyworld.write import SIZES
from minitransformer.errors import UserError

DATA = Path(__file__).parents[2] / "data"


def rows(task: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / "tasks" / task / f"{split}.jsonl").read_text("utf-8").splitlines()]


def texts(name: str) -> list[str]:
    separator = f"\n{tinyworld.SEPARATOR}\n"
    return (DATA / "text" / f"{name}.txt").read_text("utf-8").removesuffix("\n").split(separator)


def everything(split: str) -> list[tuple[str, str]]:
    """Every text of a split, with where it stands; the fields of an example one by one."""
    found = [(f"text/{split}.txt", document) for document in texts(split)]
    if split == "train":
        found += [("text/chinese.txt", document) for document in texts("chinese")]
    for task, splits in SIZES.items():
        for part in splits:
            if part.partition("_")[0] == split:
                for row in rows(task, part):
                    values = [x for v in row.values() for x in (v if isinstance(v, list) else [v])]
                    found += [(f"{task}/{part}", value) for value in values if isinstance(value, str)]
    return found


@pytest.mark.slow  # all of the data
def test_written_again_the_committed_files_are_the_same_bytes(tmp_path):
    for path in tinyworld.write(tmp_path):
        name = path.relative_to(tmp_path)
        committed = DATA / name
        assert committed.exists(), f"data/{name} is missing; `make data` writes it."
        assert committed.read_bytes() == path.read_bytes(), (
            f"data/{name} is not what the generator writes now. If the generator was meant to change, run `make data`."
        )
    assert not list(tmp_path.rglob("*.part")), "write() left a file that it had not renamed."


def test_the_files_stay_small_enough_to_commit():
    size = sum(path.stat().st_size for path in (*DATA.glob("text/*"), *DATA.glob("tasks/*/*"), DATA / "DATASHEET.md"))
    assert size <= 9_000_000, f"The data has {size:,} bytes; at most 9 MB should be committed."


def test_dice_are_plain_functions_of_the_random_sequence():
    from hashlib import sha256

    def sequence():
        return random.Random(int.from_bytes(sha256(b"a/1").digest()[:8], "big")).random

    throw = sequence()
    dice = tinyworld.Dice("a", 1)
    assert [dice.integer(3, 9) for _ in range(50)] == [3 + int(throw() * 7) for _ in range(50)]
    assert [dice.pick("abc") for _ in range(50)] == ["abc"[int(throw() * 3)] for _ in range(50)]
    assert [dice.chance(0.3) for _ in range(50)] == [throw() < 0.3 for _ in range(50)]
    expected = list(range(8))
    for last in range(7, 0, -1):
        other = int(throw() * (last + 1))
        expected[last], expected[other] = expected[other], expected[last]
    assert dice.shuffle(range(8)) == expected
    counts = {"x": 0, "y": 0}
    for _ in range(4000):
        counts[dice.weighted({"x": 3, "y": 1})] += 1
    assert 2850 < counts["x"] < 3150, f"x weighs 3 of 4; in 4000 throws it fell {counts['x']} times."


def test_streams_depend_on_split_seed_and_number_alone():
    for mix in tinyworld.MIXES:
        first = list(islice(tinyworld.documents("train", mix), 30))
        assert first == list(islice(tinyworld.documents("train", mix), 30))
        assert first != list(islice(tinyworld.documents("train", mix, seed=1), 30))
        assert {document.kind for document in first} <= set(tinyworld.MIXES[mix])
    for task in tinyworld.TASKS:
        assert list(islice(tinyworld.examples(task, "valid"), 5)) == list(islice(tinyworld.examples(task, "valid"), 5))


def test_unknown_splits_mixes_and_tasks_are_named():
    with pytest.raises(UserError, match="no mix 'poems'.*prose"):
        next(tinyworld.documents("train", "poems"))
    with pytest.raises(UserError, match="no split 'dev'.*valid"):
        next(tinyworld.documents("dev"))
    with pytest.raises(UserError, match="no task 'chess'.*reviews"):
        next(tinyworld.examples("chess", "train"))
    with pytest.raises(UserError, match="reviews has no split 'test_seen'"):
        next(tinyworld.examples("reviews", "test_seen"))


INVENTED = re.compile(r"\b[A-Z][a-z]+\b")


def invented_names(pieces: list[tuple[str, str]]) -> dict[str, str]:
    """The words with a capital that are made of two or more syllables of the name table, and where they stand."""
    found = {}
    for where, piece in pieces:
        for word in INVENTED.findall(piece):
            if word not in found and word.lower() not in WORDS and len(syllables_of(word) or ()) > 1:
                found[word] = where
    return found


def test_names_of_one_split_never_occur_in_another():
    names = {split: invented_names(everything(split)) for split in ("train", "valid", "test")}
    for split, found in names.items():
        assert len(found) > 300, f"Only {len(found)} invented names in {split}; the test has lost its eyes."
        for other in set(names) - {split}:
            shared = sorted(set(found) & set(names[other]))
            assert not shared, (
                f"{shared[0]} occurs in {split} ({found[shared[0]]}) and in {other} ({names[other][shared[0]]}); "
                f"{len(shared)} such names."
            )


def test_titles_and_full_names_of_the_test_split_never_occur_in_training():
    train = "\n".join(piece for _, piece in everything("train"))
    words = set(re.findall(r"\w+", train))
    ordinary = {*LEXICON["month"], *LEXICON["day"]}
    values = {
        value
        for split in ("test_seen", "test_unseen")
        for row in rows("table_to_text", split)
        for value in tinyworld.slot_values(row["table"])
        if value[0].isupper() and value not in ordinary
    }
    assert len(values) > 1000, f"Only {len(values)} names were checked."
    for value in sorted(values):
        # Only a title of ordinary words has all its words in training; then the whole title must be missing.
        if words.issuperset(re.findall(r"\w+", value)) and value in train:  # which is looked up faster
            assert not re.search(rf"\b{re.escape(value)}\b", train), f"The test's {value!r} occurs in training."


def test_the_split_of_a_name_is_its_checksum():
    counts = {"train": 0, "valid": 0, "test": 0}
    for name in ("Mira", "Velo", "The Silver Owl", *(f"name {i}" for i in range(3000))):
        bucket = zlib.crc32(name.encode()) % 10
        assert tinyworld.split_of(name) == ("train" if bucket < 8 else ("valid", "test")[bucket - 8])
        counts[tinyworld.split_of(name)] += 1
    assert 2250 < counts["train"] < 2550


def test_names_translate_syllable_by_syllable_in_one_way():
    characters = {**FIRST_SYLLABLES, **SYLLABLES}
    assert len(set(characters.values())) == len(characters), "Two syllables share a character."
    assert all(len(character) == 1 for character in characters.values())
    assert tinyworld.transliterate("Mira") == "米拉"
    dice = tinyworld.Dice("names")
    names = Names("test", dice)
    for _ in range(300):
        name = names.word(dice.integer(2, 3))
        parts = syllables_of(name)
        assert "".join(parts) == name.lower() and tinyworld.split_of(name) == "test"
        assert tinyworld.transliterate(name) == "".join(characters[part] for part in parts)


def test_unseen_categories_stay_out_of_the_tuning_data():
    for split, kinds in (
        ("train", tinyworld.SEEN),
        ("valid", tinyworld.SEEN),
        ("test_seen", tinyworld.SEEN),
        ("test_unseen", tinyworld.UNSEEN),
    ):
        found = {row["category"] for row in rows("table_to_text", split)}
        assert found == set(kinds), f"table_to_text/{split} should have the categories {kinds}; it has {found}."
    assert not set(tinyworld.SEEN) & set(tinyworld.UNSEEN)


@pytest.mark.parametrize("split", SIZES["table_to_text"])
def test_every_reference_tells_every_value(split):
    for row in rows("table_to_text", split):
        assert row["target"] == row["references"][0] and len(set(row["references"])) == len(row["references"]) >= 2
        for reference in row["references"]:
            for value in tinyworld.slot_values(row["table"]):
                assert value.lower() in reference.lower(), (
                    f"{value!r} of {row['source']!r} is missing in {reference!r}."
                )


def test_no_test_example_occurs_in_training():
    for task, splits in SIZES.items():
        key = tinyworld.TASKS[task].key
        seen: dict[tuple, str] = {}
        for split, size in splits.items():
            found = rows(task, split)
            assert len(found) == size, f"{task}/{split} should have {size} examples; it has {len(found)}."
            for row in found:
                parts = tuple(row[field] for field in key)
                assert parts not in seen, f"{task}/{split} and {task}/{seen[parts]} share {parts}."
                seen[parts] = split
    documents = {split: set(texts(split)) for split in ("train", "valid", "test")}
    assert not documents["train"] & documents["test"] and not documents["train"] & documents["valid"]


FLAWS = {
    "an unfilled slot or alternative": re.compile(r"[{}\[\]]"),
    "two spaces": re.compile(r"  "),
    "a for an": re.compile(r"\b[Aa] (?=[aeiou]|8|11\b|18\b)"),
    "an for a": re.compile(r"\b[Aa]n (?=[bcdfgjklmnpqrstvwxz])"),
    "a space before a stop": re.compile(r" [.,?!]"),
    "two stops": re.compile(r"\.\.|,,|\?\.|!\."),
    "a sentence without a capital": re.compile(r"[a-z]{2}\. [a-z]"),
    "a pronoun in the wrong case": re.compile(r"\b(to|find|than|for|of|with) (he|she)\b"),
    "a word twice": re.compile(r"\b([a-z]+) \1\b"),
}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_text_has_no_flaw_that_a_rule_can_see(split):
    streamed = [
        ("pretrain", document.text)
        for document in islice(tinyworld.documents(split, "pretrain", seed=7), 1500)
        if document.kind != "copied run"
    ]
    for where, piece in everything(split) + streamed:
        for flaw, pattern in FLAWS.items():
            found = pattern.search(piece)
            assert not found, f"{where}: {flaw} in …{piece[max(0, found.start() - 30) : found.end() + 30]}…"


def test_chinese_is_chinese():
    pattern = re.compile(r"[\u4e00-\u9fff，。？]+")
    for document in texts("chinese") + [row["zh"] for row in rows("translation", "train")]:
        assert pattern.fullmatch(document), f"Something other than Chinese in {document!r}."
        assert document[-1] in "。？" and "二顶" not in document
    for row in rows("translation", "test"):
        for name in invented_names([("", row["en"])]):
            assert tinyworld.transliterate(name) in row["zh"], f"{name} is missing in {row['zh']!r}."


@pytest.mark.parametrize("task", ["news_summary", "sport_summary"])
def test_the_facts_of_a_summary_stand_in_the_article(task):
    for split in SIZES[task]:
        for row in rows(task, split):
            for fact in reports.facts_in(row["summary"]):
                assert fact in row["article"], f"{fact!r} of {row['summary']!r} is not in {row['article']!r}."
            assert row["summary"] not in row["article"], f"Merely copied: {row['summary']!r}"


def test_answers_stand_where_they_are_said_to():
    for split in SIZES["qa"]:
        for row in rows("qa", split):
            start, answer, passage = row["answer_start"], row["answer"], row["passage"]
            assert passage[start : start + len(answer)] == answer, f"{answer!r} is not at {start} of {passage!r}."


def test_labels_are_balanced_and_no_word_gives_them_away():
    for split in SIZES["reviews"]:
        labels = [row["label"] for row in rows("reviews", split)]
        assert labels.count("positive") == labels.count("negative") == len(labels) / 2
    train = rows("reviews", "train")
    sides: dict[str, list[int]] = {}
    for row in train:
        for word in set(re.findall(r"[a-z']+", row["text"].lower())):
            sides.setdefault(word, [0, 0])[row["label"] == "positive"] += 1
    for word, (bad, good) in sides.items():
        accuracy = 0.5 + abs(good - bad) / len(train)
        assert accuracy < 0.7, f"The word {word!r} alone tells the label of {accuracy:.0%} of the reviews."


def test_each_style_has_its_marks_and_no_other():
    for split in SIZES["styles"]:
        found = rows("styles", split)
        assert all(sum(row["style"] == style for row in found) == len(found) / 6 for style in tinyworld.STYLES)
        for row in found:
            assert tinyworld.style_of(row["text"]) == row["style"], f"Not {row['style']}: {row['text']!r}"
            assert tinyworld.style_of(row["plain"]) == "plain"
    assert tinyworld.style_of("Arr! Lo! We sail.") is None
    assert tinyworld.style_of("") is None


def test_tables_are_written_on_a_line_and_read_back():
    for row in rows("table_to_text", "test_seen"):
        assert tinyworld.parse_table(row["source"]) == row["table"]
        assert tinyworld.linearise(row["table"]) == row["source"]
    line = "kind: town | name: Velo | known for: cheese"
    assert tinyworld.slot_values(tinyworld.parse_table(line)) == ["Velo", "cheese"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("kind: town | name: Velo | height: 3", "A town has no field 'height'; its fields are name, region"),
        ("kind: town | region: north", "The table has no 'name'"),
        ("name: Velo", "The table has no 'kind'"),
        ("kind: planet | name: Velo", "The table's kind is 'planet'; it should be one of person, town"),
        ("kind: town | Velo", "Part 2 of the table is 'Velo'"),
        ("kind: town | name: Velo | name: Mira", "names the field 'name' twice"),
        ("kind: town | name:  ", "Part 2 of the table is 'name:'"),
        ("", "Part 1 of the table is ''"),
    ],
)
def test_a_bad_table_is_told_what_is_wrong(line, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        tinyworld.parse_table(line)


def test_a_value_that_would_break_the_line_is_refused():
    with pytest.raises(UserError, match="the value 'a | b'"):
        tinyworld.linearise({"kind": "town", "name": "a | b"})


def test_every_field_has_sentences_and_questions():
    for kind, category in CATEGORIES.items():
        values = category.fields(Names("train", tinyworld.Dice(kind)), tinyworld.Dice(kind))
        told = [slot for template in category.sentences for slot in text.slots(template)]
        for field in values:
            if field != "name":
                count = told.count(field.replace(" ", "_"))
                assert count >= 3, f"Only {count} sentences tell the {field} of a {kind}."
                assert len(category.questions[field]) >= 2


def test_both_sides_of_a_task_never_share_a_document():
    for document in islice(tinyworld.documents("train", "pretrain"), 3000):
        if document.kind in ("table", "shuffled table"):
            assert all(" | " in line for line in document.text.split("\n"))
        elif document.kind == "copied run":
            first, second = document.text.split("\n")
            assert first == second
        else:
            assert " | " not in document.text
        assert "Assistant:" not in document.text
        both = re.search(r"[a-z]", document.text) and re.search(r"[\u4e00-\u9fff]", document.text)
        assert not both, f"English and Chinese in one document: {document.text!r}"
