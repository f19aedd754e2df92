"""How each task is asked of a GPT: every row of the data fits, says what it holds, and is cut where the tokens are."""

import json
import shutil

import pytest

from minitransformer.course import tasks
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.pretrain import PREFIXES
from minitransformer.course.tasks import (
    TASKS,
    as_human,
    find_task,
    prompt_ids,
    slot_accuracy,
    table_scores,
    task_ids,
    task_rows,
)
from minitransformer.course.tinyworld import STYLES
from minitransformer.errors import UserError

STYLE_NAMES = [name for name in STYLES if name != "plain"]
SPLITS = [
    (name, split)
    for name in TASKS
    for split in ("train", "valid", *(("test_seen", "test_unseen") if name == "table_to_text" else ("test",)))
]
every_split = pytest.mark.parametrize(("name", "split"), SPLITS, ids=map("-".join, SPLITS))


def all_fields(name, x, y):
    """The fields that stand in x and y, found again without the task's own functions."""
    if name == "dialogue":
        said = x.removeprefix("Human: ").removesuffix("\n\nAssistant:")
        return {"said": said, "output": y.removeprefix(" ")}
    x = x.removesuffix("\n")
    if name == "qa":
        passage, _, question = x.rpartition("\n")
        return {"passage": passage, "question": question, "answer": y}
    source, target = {
        "table_to_text": ("source", "target"),
        "news_summary": ("article", "summary"),
        "sport_summary": ("article", "summary"),
    }.get(name, ("plain", "text"))
    return {source: x, target: y}


@every_split
def test_every_row_stands_in_its_x_and_y(name, split):
    rows = task_rows(name, split)
    assert len(rows) >= 40
    for i, row in enumerate(rows):
        x, y = TASKS[name].asked(row), TASKS[name].answer(row)
        found = all_fields(name, x, y)
        if "said" in found:
            said = found.pop("said")
            assert said == (f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]), f"row {i}"
        for field, value in found.items():
            assert value == row[field], f"row {i}: {field!r} cannot be read off x and y"
        assert y.strip() and not y.endswith((" ", "\n")), f"row {i}: y has to be an answer, and end where it ends"


@every_split
def test_every_row_fits_beside_a_prefix_and_is_cut_where_the_tokens_are(name, split):
    """[x; y] encoded apart has to be the text's own tokens: what is written at the seam must be what was learned."""
    tokenizer, limit = default_tokenizer(), load_base("gpt").config.n_positions - 20
    xs, ys = task_ids(name, split, tokenizer)
    rows = task_rows(name, split)
    assert len(xs) == len(ys) == len(rows)
    for i, (row, x, y) in enumerate(zip(rows, xs, ys, strict=True)):
        text = TASKS[name].asked(row) + TASKS[name].answer(row)
        assert x[0] == tokenizer.eot_id and tokenizer.eot_id not in x[1:] + y, f"row {i}: one end-of-text, in front"
        assert tokenizer.decode(x[1:] + y) == text, f"row {i}: the tokens say something else than the text"
        assert x[1:] + y == tokenizer.encode(text), f"row {i}: cut inside a token of {text!r}"
        assert y and len(x) + len(y) <= limit, f"row {i} needs {len(x) + len(y)} positions; a prefix leaves {limit}"


def test_the_styles_share_the_rows_of_one_file_among_them():
    for split in ("train", "valid", "test"):
        rows = read_jsonl(DATA / "tasks" / "styles" / f"{split}.jsonl")
        mine = [row for name in STYLE_NAMES for row in task_rows(name, split)]
        key = json.dumps
        assert sorted(map(key, mine)) == sorted(key(row) for row in rows if row["style"] != "plain")
        assert all(row["style"] == name for name in STYLE_NAMES for row in task_rows(name, split))


def test_what_a_person_says():
    assert as_human("Name a colour.") == "Human: Name a colour.\n\nAssistant:"
    assert as_human("Translate.", "It rains.") == "Human: Translate.\nIt rains.\n\nAssistant:"
    row = {"instruction": "Name a colour.", "input": "", "output": "Red."}
    assert TASKS["dialogue"].asked(row) + TASKS["dialogue"].answer(row) == "Human: Name a colour.\n\nAssistant: Red."
    tokenizer = default_tokenizer()
    assert prompt_ids("It rains.", tokenizer) == [tokenizer.eot_id, *tokenizer.encode("It rains.")]


def test_the_tasks_are_those_that_have_a_prefix():
    """`make pretrain` trains a prefix for each; a task without one could not be chosen in a conversation."""
    assert (
        set(TASKS)
        == set(PREFIXES)
        == {"dialogue", "table_to_text", "news_summary", "sport_summary", "qa", *STYLE_NAMES}
    )
    assert find_task("qa") is TASKS["qa"]


@pytest.mark.parametrize("ask", [find_task, task_rows, lambda name: task_ids(name, "train", default_tokenizer())])
@pytest.mark.parametrize("name", ["plain", "reviews", "", "Dialogue"])
def test_an_unknown_task(ask, name):
    with pytest.raises(UserError, match=f"There is no task {name!r}; there are dialogue, table_to_text, .*, pirate"):
        ask(name)


def test_an_unknown_split():
    with pytest.raises(UserError, match="table_to_text/test.jsonl cannot be read: .*No such file"):
        task_rows("table_to_text", "test")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"passage": "It rains.", "question": "Does it?"}', "line 3: the example has no field 'answer'"),
        ('{"passage": "It rains.", "quest', "line 3, column 26: this is not JSON"),
        ('["It rains."]', "line 3: an example is a JSON object"),
        ('{"passage": "", "question": "", "answer": null}', "line 3: 'answer' has to be a text; it is null"),
        ('{"passage": "", "question": 7, "answer": "yes"}', "line 3: 'question' has to be a text; it is 7"),
    ],
)
def test_a_damaged_file(line, says, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "DATA", tmp_path)
    path = tmp_path / "tasks" / "qa" / "train.jsonl"
    path.parent.mkdir(parents=True)
    shutil.copy(DATA / "tasks" / "qa" / "train.jsonl", path)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:9]]), encoding="utf-8")
    with pytest.raises(UserError, match=f"qa/train.jsonl, {says}"):
        task_rows("qa")


def test_slots_are_whole_words_and_numbers():
    assert slot_accuracy(["Velo sells tea.", "It is Mira's."], [["Velo", "tea", "rice"], ["Mira"]]) == (3 / 4, 1 / 2)
    # Not inside a longer number or word; but before a full stop, a comma, an apostrophe.
    for text in ("It costs 19 coins.", "It has 1,900 guests.", "9.5 it is", "Velona", "aVelo"):
        assert slot_accuracy([text], [["9 coins", "9", "900", "Velo"]]) == (0, 0), text
    for text in ("9", "Pay 9.", "It was 9, not 10.", '"9"', "9's"):
        assert slot_accuracy([text], [["9"]]) == (1, 1), text
    assert slot_accuracy(["4 out of 5 (Fado)"], [["4 out of 5", "(Fado)"]]) == (1, 1)  # nothing in it is a pattern


def test_every_reference_of_the_tables_has_every_slot():
    rows = read_jsonl(DATA / "tasks" / "table_to_text" / "valid.jsonl", ["source"])
    for row in rows:
        values = [value for field, value in row["table"].items() if field != "kind"]
        for text in row["references"]:
            assert slot_accuracy([text], [values]) == (1, 1), f"A right answer counts as wrong: {values} in {text!r}."


def test_slots_need_values():
    with pytest.raises(UserError, match="values of text 1 are \\[\\]"):
        slot_accuracy(["a", "b"], [["a"], []])
    with pytest.raises(UserError, match="a list with at least one string"):
        slot_accuracy(["a"], ["a"])
    with pytest.raises(UserError, match="none empty"):
        slot_accuracy(["a"], [["a", ""]])
    with pytest.raises(UserError, match="none empty"):
        slot_accuracy(["9"], [[9]])
    with pytest.raises(UserError, match="Text 0 is None"):
        slot_accuracy([None], [["a"]])
    for texts, values in ((["a", "b"], [["a"]]), ([], []), ("a", [["a"]]), (["a"], "a")):
        with pytest.raises(UserError, match="in pairs"):
            slot_accuracy(texts, values)


def test_a_right_answer_about_tables_and_a_table_again():
    rows = read_jsonl(DATA / "tasks" / "table_to_text" / "valid.jsonl", ["source", "target"])[:20]
    right = table_scores([row["target"] for row in rows], rows)
    assert right.bleu == pytest.approx(100) and right[1:] == (1, 1, 0)
    again = table_scores([row["source"] for row in rows], rows)  # all values are there, and nothing is told
    assert again.bleu < 20 and again[1:] == (1, 1, 1)
    half = table_scores([row["target"] if i % 2 else "" for i, row in enumerate(rows)], rows)
    assert half.whole == 1 / 2 and half.slots == pytest.approx(
        sum(len(row["table"]) - 1 for row in rows[1::2]) / sum(len(row["table"]) - 1 for row in rows)
    ), "the kind is no value to be told"
    with pytest.raises(UserError, match="19 texts and 20 tables"):
        table_scores([""] * 19, rows)
