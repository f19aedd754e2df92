"""Streams of examples: what the base models are tuned to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from minitransformer.course.tinyworld import dialogue, qa, reports, reviews, styles, translation
from minitransformer.course.tinyworld.categories import SEEN, UNSEEN
from minitransformer.course.tinyworld.dice import Dice
from minitransformer.course.tinyworld.names import SPLITS, Names
from minitransformer.course.tinyworld.tables import describe, draw_table, linearise
from minitransformer.errors import UserError

Example = dict[str, object]


@dataclass(frozen=True)
class TaskSource:
    """How to make example number `index` of a task, and the splits that the task has.

    `key` names the fields that make an example what it is: no two examples of the committed files agree in them.
    """

    make: Callable[[Names, Dice, str, int], Example]
    key: tuple[str, ...]
    splits: tuple[str, ...] = SPLITS


def _table_to_text(names: Names, dice: Dice, split: str, index: int) -> Example:
    """A table and two descriptions of it (three to measure by). The kinds of `test_unseen` tuning never meets."""
    table = draw_table(names, dice, kinds=UNSEEN if split == "test_unseen" else SEEN)
    references: list[str] = []
    while len(references) < (2 if split == "train" else 3):
        description = describe(dice, table)
        if description not in references:
            references.append(description)
    return {
        "source": linearise(table),
        "target": references[0],
        "references": references,
        "category": table["kind"],
        "seen": table["kind"] in SEEN,
        "table": table,
    }


def _review(names: Names, dice: Dice, split: str, index: int) -> Example:
    label = reviews.LABELS[index % 2]
    return {"text": reviews.review(names, dice, label), "label": label}


def _translation(names: Names, dice: Dice, split: str, index: int) -> Example:
    english, chinese = translation.sentence_pair(names, dice)
    return {"en": english, "zh": chinese}


def _summary(report: Callable[[Names, Dice], reports.Report]) -> Callable[[Names, Dice, str, int], Example]:
    def make(names: Names, dice: Dice, split: str, index: int) -> Example:
        made = report(names, dice)
        return {"article": made.article, "summary": dice.pick(made.summaries)}

    return make


def _styled(names: Names, dice: Dice, split: str, index: int) -> Example:
    return styles.styled(names, dice, tuple(styles.STYLES)[index % len(styles.STYLES)])


TASKS: dict[str, TaskSource] = {
    "table_to_text": TaskSource(_table_to_text, ("source",), ("train", "valid", "test_seen", "test_unseen")),
    "reviews": TaskSource(_review, ("text",)),
    "translation": TaskSource(_translation, ("en",)),
    "news_summary": TaskSource(_summary(reports.news), ("article",)),
    "sport_summary": TaskSource(_summary(reports.sport), ("article",)),
    "qa": TaskSource(lambda names, dice, split, index: qa.question(names, dice), ("passage", "question")),
    "dialogue": TaskSource(lambda names, dice, split, index: dialogue.exchange(names, dice), ("instruction", "input")),
    "styles": TaskSource(_styled, ("text",)),
}


def examples(task: str, split: str, seed: int = 0) -> Iterator[Example]:
    """An endless stream of a task's examples. Example number i depends on (task, split, seed, i) alone.

    Reviews alternate between the labels, styles go round the six styles, so that any even part of the stream is
    balanced.

    Raises:
        UserError: no such task, or the task has no such split.
    """
    if task not in TASKS:
        raise UserError(f"There is no task {task!r}; it should be one of {', '.join(TASKS)}.")
    if split not in TASKS[task].splits:
        raise UserError(f"The task {task} has no split {split!r}; its splits are {', '.join(TASKS[task].splits)}.")
    for index in count():
        yield example(task, split, seed, index)


def example(task: str, split: str, seed: int, index: int) -> Example:
    """Example number `index` of the stream that `examples` gives."""
    dice = Dice("examples", task, split, seed, index)
    return TASKS[task].make(Names(split.partition("_")[0], dice), dice, split, index)
