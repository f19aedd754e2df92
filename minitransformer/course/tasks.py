"""The tiny world's tasks as texts for a GPT: what it is given, and what it should go on with (003 §3.1, z = [x; y]).

One place says how each task is asked, so that a prefix that was tuned in one program means the same in another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from minitransformer.course.data import DATA
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.tinyworld import STYLES, slot_values
from minitransformer.errors import UserError
from minitransformer.metrics import bleu
from minitransformer.text.tokenizer import Tokenizer

Row = Mapping[str, str]


@dataclass(frozen=True)
class TextTask:
    """A task as text for a GPT: where its data is, and how a row of it becomes x and y.

    x ends where y begins, after a line's end or a colon; y's first word brings its own space, as the tokenizer
    learned words, where it stands on the same line.
    """

    folder: str  # in data/tasks/
    fields: tuple[str, ...]  # that each row has to have
    asked: Callable[[Row], str]  # x
    answer: Callable[[Row], str]  # y
    chosen: Callable[[Row], bool] = lambda row: True  # which rows belong to it


def as_human(instruction: str, more: str = "") -> str:
    """What a person says, up to where the assistant answers: `Human: …`, an empty line, `Assistant:` (002 §Step3).

    Args:
        instruction: what is asked.
        more: what it is asked of, below it on a line of its own; "" if there is nothing more.
    """
    said = "\n".join(part for part in (instruction, more) if part)
    return f"Human: {said}\n\nAssistant:"


def _style(name: str) -> TextTask:
    return TextTask(
        "styles",
        ("style", "plain", "text"),
        lambda row: row["plain"] + "\n",
        lambda row: row["text"],
        lambda row: row["style"] == name,
    )


TASKS: dict[str, TextTask] = {
    "dialogue": TextTask(
        "dialogue",
        ("instruction", "input", "output"),
        lambda row: as_human(row["instruction"], row["input"]),
        lambda row: f" {row['output']}",
    ),
    "table_to_text": TextTask(
        "table_to_text", ("source", "target"), lambda row: row["source"] + "\n", lambda row: row["target"]
    ),
    "news_summary": TextTask(
        "news_summary", ("article", "summary"), lambda row: row["article"] + "\n", lambda row: row["summary"]
    ),
    "sport_summary": TextTask(
        "sport_summary", ("article", "summary"), lambda row: row["article"] + "\n", lambda row: row["summary"]
    ),
    "qa": TextTask(
        "qa",
        ("passage", "question", "answer"),
        lambda row: f"{row['passage']}\n{row['question']}\n",
        lambda row: row["answer"],
    ),
    **{name: _style(name) for name in STYLES if name != "plain"},
}


def task_rows(name: str, split: str = "train") -> list[Row]:
    """The rows of one split of a task.

    Args:
        name: of the task.
        split: "train", "valid" or "test"; table_to_text has "test_seen" and "test_unseen".

    Raises:
        UserError: no such task; a file that is missing or damaged, with the line.
    """
    task = find_task(name)
    path = DATA / "tasks" / task.folder / f"{split}.jsonl"
    return [row for row in read_jsonl(path, task.fields) if task.chosen(row)]


def prompt_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """x as the GPT is given it: the token that stands between documents, then the text."""
    return [tokenizer.eot_id, *tokenizer.encode(text)]


def task_ids(name: str, split: str, tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """Every x and every y of a split, as token ids.

    Raises:
        UserError: as `task_rows`.
    """
    task, rows = find_task(name), task_rows(name, split)
    return (
        [prompt_ids(task.asked(row), tokenizer) for row in rows],
        [tokenizer.encode(task.answer(row)) for row in rows],
    )


def find_task(name: str) -> TextTask:
    """The task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"There is no task {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name]


def slot_accuracy(texts: Sequence[str], values: Sequence[Sequence[str]]) -> tuple[float, float]:
    """How much of its table each text says, 0 … 1: the fraction of `values` that are in it, and of texts that have all.

    A value counts where it stands as whole words or numbers: "9 coins" is not in "19 coins". It does not matter how it
    is said, so that a text which copies the table has every value: this measure needs another one beside it.

    Args:
        texts: one for each table.
        values: of each table, one or more.

    Raises:
        UserError: nothing to measure, not in pairs, or what is no list of texts.
    """
    for some in (texts, values):
        if isinstance(some, str) or not isinstance(some, Sequence) or not some or len(some) != len(texts):
            raise UserError(f"Texts and lists of values come in pairs, at least one; one of the two is {some!r:.60}.")
    hits = []
    for i, (text, own) in enumerate(zip(texts, values, strict=True)):
        if not isinstance(text, str):
            raise UserError(f"Text {i} is {text!r}, and no text.")
        if isinstance(own, str) or not own or not all(isinstance(value, str) and value for value in own):
            raise UserError(f"The values of text {i} are {own!r}; give a list with at least one string, none empty.")
        hits.append([bool(re.search(rf"(?<![\w,.]){re.escape(v)}(?!\w|[,.]\d)", text)) for v in own])
    return sum(map(sum, hits)) / sum(map(len, hits)), sum(map(all, hits)) / len(hits)


class TableScores(NamedTuple):
    """How well texts tell their tables."""

    bleu: float  # 0 … 100, against a table's references
    slots: float  # the share of values that are told, 0 … 1
    whole: float  # the share of tables told with all of their values
    again: float  # the share of texts that are no sentences, but a table again


def table_scores(texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> TableScores:
    """Judge what a model wrote about tables of data/tasks/table_to_text.

    Args:
        texts: one for each table.
        rows: its "table" and its "references".

    Raises:
        UserError: nothing to measure, or not in pairs.
    """
    if len(texts) != len(rows):
        raise UserError(f"{len(texts)} texts and {len(rows)} tables: they have to come in pairs.")
    told = slot_accuracy(texts, [slot_values(row["table"]) for row in rows])
    again = sum(" | " in text for text in texts) / len(texts)  # what stands between a table's fields
    return TableScores(bleu(texts, [row["references"] for row in rows]), *told, again)
