"""A cell (实验单元) of the laboratory: one method, tuned once on one task with one seed, and scored.

Everything that a cell's outcome depends on is in the cell, or has a fingerprint in its row: the code, the data, the
base. Two runs of a cell give the same row, up to the seconds that they took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from minitransformer.course.jsonl import KINDS, is_a
from minitransformer.errors import UserError

Row = dict[str, Any]

NO_METHOD = "none"  # of a classifier, the head alone is trained
ABILITIES = "abilities"  # of the base, in the place of a split


CELL = {  # the kind of each field but `also`
    **dict.fromkeys(("task", "method", "split"), str),
    **dict.fromkeys(("steps", "seed", "batch", "n_train", "n_scored"), int),
    **{"settings": dict, "lr": float, "write": bool},
}
MAY_BE_NONE = ("n_train", "n_scored")


@dataclass(frozen=True)
class Cell:
    """What is to be run: as much as decides the outcome, and no more. JSON can say all of it."""

    task: str  # in TASKS
    method: str  # the name of a class in minitransformer.tuning, or "none"
    settings: Mapping[str, object]  # what that class is called with
    lr: float
    steps: int
    seed: int  # of what the method and the head begin as, which examples are learned from, and in which order
    batch: int = 8
    n_train: int | None = None  # examples to learn from, drawn by the seed; None for all
    split: str = "valid"  # what is scored
    n_scored: int | None = None  # the first so many examples of it; None for all
    also: Sequence[str] = ()  # what is scored besides: "test_unseen", another task's "sport_summary/test", or ABILITIES
    write: bool = True  # whether texts are written and judged; without, only the loss is measured

    def __post_init__(self) -> None:
        """Refuse what is no cell.

        Raises:
            UserError: a field of another kind than it should be; the sentence names it.
        """
        for name, kind in CELL.items():
            value = getattr(self, name)
            if value is None and name in MAY_BE_NONE:
                continue
            if not is_a(value, kind):
                raise UserError(f"A cell's {name!r} has to be {KINDS[kind]}; it is {value!r}.")
        if isinstance(self.also, str) or not all(isinstance(split, str) for split in self.also):
            raise UserError(f"A cell's 'also' has to be a list of texts; it is {self.also!r}.")

    @property
    def key(self) -> str:
        """The cell as one line of JSON: two cells are the same if their keys are."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        """As a person would name it."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.task}, {self.method}({settings}), lr {self.lr:g}, seed {self.seed}, {self.steps} steps"
