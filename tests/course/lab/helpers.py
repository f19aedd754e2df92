"""What the tests of the laboratory share: tiny bases, cells of no work, stores of made-up rows."""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from minitransformer.course.lab import provenance, run, tasks
from minitransformer.course.lab.cells import ABILITIES, Cell
from minitransformer.course.lab.experiment import Arm
from minitransformer.course.lab.store import Store
from minitransformer.course.lab.tasks import score_names
from minitransformer.models.bert import BertConfig
from minitransformer.models.gpt import GPTConfig
from tests.helpers import tiny_bert, tiny_gpt

SIZES = {"vocab_size": 2048, "n_layer": 2, "n_head": 2, "d_model": 8, "d_ff": 16}
TINY = {
    "gpt": lambda: tiny_gpt(config=GPTConfig(n_positions=256, **SIZES)),
    "bert": lambda: tiny_bert(config=BertConfig(n_positions=192, **SIZES)),
}
TABLES = Cell("table_to_text", "LoRA", {"rank": 2}, 1e-2, steps=3, seed=0, batch=2, n_train=20, n_scored=3)
REVIEWS = replace(TABLES, task="reviews_bert", split="test")
MADE_UP = {"code": "x", "data": "x", "base": "x"}


def use_tiny_bases(monkeypatch) -> None:
    """Let cells run on tiny random bases in the place of the committed ones, and write little."""
    for module in (run, provenance):
        monkeypatch.setattr(module, "load_base", lambda kind: TINY[kind]())
    monkeypatch.setattr(tasks, "LONGEST", 5)


def fake_row(cell: Cell, made_from: dict | None = None, **more: object) -> dict:
    """What a cell would give, without being run: scores that depend on the cell alone."""
    dice = random.Random(cell.key)
    loss = dice.uniform(0.2, 0.5)

    def scores() -> dict[str, float]:
        return {name: dice.uniform(0.5, 0.9) for name in score_names(replace(cell, write=True))}

    def besides(split: str) -> dict[str, float]:
        if split == ABILITIES:
            return {"skills": dice.random(), "prose": dice.random()}
        return {"loss": dice.uniform(0.2, 0.5), **scores()}

    return {
        "cell": json.loads(json.dumps(asdict(cell))),
        "made_from": made_from or provenance.provenance(cell.task),
        "scores": scores(),
        "loss": loss,
        "also": {split: besides(split) for split in cell.also},
        "train_loss": loss if cell.steps else None,
        "trained": 30 * len(cell.settings),
        "stored": 10 * len(cell.settings),
        "share": len(cell.settings) / 1e5,
        "head": 0,
        "base": 1_000_000,
        "seconds": 1.0,
        "versions": {"python": "3", "torch": "2"},
        **more,
    }


def filled(path: Path, arms: Iterable[Arm]) -> Store:
    """A store with a made-up row for every cell of these arms."""
    arms, store = list(arms), Store(path)
    for _ in range(2):  # the searches first, which decide the other cells
        wanted = {cell.key: cell for arm in arms for cell in [*arm.search_cells(), *arm.cells(store)]}
        store = rewritten(store, [store.row(cell) or fake_row(cell, MADE_UP) for cell in wanted.values()])
    return store


def without(store: Store, cell: Cell) -> Store:
    """The store less one row."""
    return rewritten(store, [row for row in store.rows if Cell(**row["cell"]).key != cell.key])


def rewritten(store: Store, rows: Iterable[dict]) -> Store:
    """The store with these rows in the place of its own."""
    store.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Store(store.path)
