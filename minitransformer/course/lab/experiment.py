"""What an experiment measures: arms, each one method under one setting, and the search for its learning rate.

An arm is not a cell. It stands for five of them, one a seed; and which cells those are is known only once the search
for its learning rate has run. Whatever two experiments both need is the same cell, and runs once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minitransformer.course.lab.cells import NO_METHOD, Cell, Row
from minitransformer.course.lab.store import Store
from minitransformer.tuning import Method

SEEDS = range(5)
RATES = tuple(float(f"{m}e{e}") for e in range(-5, 0) for m in (1, 3))  # 1e-5, 3e-5, …, 3e-1


@dataclass(frozen=True, eq=False)
class Search:
    """A search for a method's learning rate: three values half a power of ten apart; the lowest loss decides.

    It runs on validation data with seed 0, and is as large for each method as for any other.
    """

    task: str
    method: Method | None  # None: no method, a classifier's head alone
    middle: float  # of the three; one of `RATES`
    n_train: int | None = None
    steps: int = 100
    batch: int = 8
    n_scored: int | None = 100  # of the validation data

    def cells(self) -> list[Cell]:
        """One for each learning rate, the lowest first."""
        at = RATES.index(self.middle)
        return [
            Cell(
                self.task,
                *named(self.method),
                lr,
                self.steps,
                0,
                self.batch,
                self.n_train,
                "valid",
                self.n_scored,
                write=False,
            )
            for lr in RATES[at - 1 : at + 2]
        ]

    def chosen(self, store: Store) -> float | None:
        """The learning rate with the lowest validation loss; None as long as a cell is missing."""
        rows = [store.row(cell) for cell in self.cells()]
        return None if None in rows else min(rows, key=lambda row: row["loss"])["cell"]["lr"]


@dataclass(frozen=True, eq=False)
class Arm:
    """One of the things that an experiment compares (实验组). What is not said here is alike for all."""

    name: str
    task: str
    method: Method | None  # None: no method
    lr: Search | float  # how its learning rate is found, or what it is
    x: float | None = None  # where it stands on a figure's axis
    steps: int = 250
    batch: int = 8
    n_train: int | None = None
    split: str = "test_seen"
    n_scored: int | None = 100
    also: Sequence[str] = ()  # what is scored besides
    write: bool = True
    shots: int | None = None  # of no method: a hard prompt of so many examples
    methods: Sequence[str] | None = None  # of no method: those whose cost one cell measures in turn
    seeds: Sequence[int] = SEEDS

    def cells_at(self, lr: float) -> list[Cell]:
        """One for each seed, with this learning rate."""
        return [
            Cell(
                self.task,
                *named(self.method, self.shots, self.methods),
                lr,
                self.steps,
                seed,
                self.batch,
                self.n_train,
                self.split,
                self.n_scored,
                self.also,
                self.write,
            )
            for seed in self.seeds
        ]

    def search_cells(self) -> list[Cell]:
        """Those that find its learning rate; none if it is given."""
        return self.lr.cells() if isinstance(self.lr, Search) else []

    def chosen(self, store: Store) -> float | None:
        """Its learning rate; None as long as that is not found."""
        return self.lr.chosen(store) if isinstance(self.lr, Search) else self.lr

    def cells(self, store: Store) -> list[Cell]:
        """One for each seed; none as long as its learning rate is not found."""
        lr = self.chosen(store)
        return [] if lr is None else self.cells_at(lr)

    def expected(self) -> list[Cell]:
        """As `cells`, with the middle learning rate where none is chosen yet: as much work."""
        return self.cells_at(self.lr.middle if isinstance(self.lr, Search) else self.lr)

    def rows(self, store: Store) -> list[Row] | None:
        """The rows of its cells, in the order of the seeds; None as long as one is missing."""
        rows = [store.row(cell) for cell in self.cells(store)]
        return None if not rows or None in rows else rows


def searched(name: str, task: str, method: Method, middle: float, **more: object) -> Arm:
    """An arm with a search of its own, on as many examples as it learns from."""
    return Arm(name, task, method, Search(task, method, middle, more.get("n_train")), **more)


def named(
    method: Method | None, shots: int | None = None, methods: Sequence[str] | None = None
) -> tuple[str, dict[str, Any]]:
    """A method as a cell says it: its class's name, and its settings as JSON has them."""
    if method is None:
        settings = {"shots": shots, "methods": methods and list(methods)}
        return NO_METHOD, {name: value for name, value in settings.items() if value is not None}
    return type(method).__name__, json.loads(json.dumps(method.settings))


def trial(arm: Arm) -> Arm:
    """The arm in small: one seed, a few steps, few examples, the validation split; it shows that all of it works."""
    lr = replace(arm.lr, steps=10, n_scored=10) if isinstance(arm.lr, Search) else arm.lr
    return replace(arm, lr=lr, steps=min(arm.steps, 40), split="valid", n_scored=10, seeds=arm.seeds[:1])


def used_rows(arms: Iterable[Arm], store: Store) -> list[Row]:
    """Every row that arms rest on: the searches', and their own as far as these are finished; each once."""
    cells = {cell.key: cell for arm in arms for cell in [*arm.search_cells(), *arm.cells(store)]}
    return [row for row in map(store.row, cells.values()) if row]
