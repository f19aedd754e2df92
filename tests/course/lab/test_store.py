"""The store: a row for each cell, kept whole; a damaged line is named."""

import json
import multiprocessing
import os
from dataclasses import replace

import pytest

from minitransformer.course.lab.store import Store
from minitransformer.errors import UserError
from tests.course.lab.helpers import REVIEWS, TABLES, fake_row, use_tiny_bases


@pytest.fixture
def tiny(monkeypatch):
    """Cells run on tiny random bases in the place of the committed ones."""
    use_tiny_bases(monkeypatch)


def test_a_store_keeps_a_row_for_each_cell(tiny, tmp_path):
    store = Store(tmp_path / "new" / "a.jsonl")
    assert store.rows == [] and store.row(TABLES) is None and not store.is_finished(TABLES)
    for cell in (TABLES, REVIEWS):
        store.add(fake_row(cell))
    store.add(fake_row(TABLES, loss=7.0))
    again = Store(store.path)
    assert len(again.rows) == 2 and again.row(TABLES)["loss"] == 7.0, "the newer row takes the older one's place"
    assert again.is_finished(TABLES) and not again.is_finished(replace(TABLES, seed=1))
    assert again.rows == sorted(again.rows, key=lambda row: json.dumps(row["cell"], sort_keys=True)), (
        "the file's order must not depend on which cell was ready first"
    )
    assert sorted(os.listdir(store.path.parent)) == [".a.jsonl.lock", "a.jsonl"], "something was left beside the file"


@pytest.mark.parametrize("part", ["code", "data", "base"])
def test_a_row_of_other_data_or_base_is_not_finished_one_of_other_code_if_asked(tiny, tmp_path, part):
    store = Store(tmp_path / "a.jsonl")
    row = fake_row(TABLES)
    store.add({**row, "made_from": {**row["made_from"], part: "other"}})
    assert store.is_finished(TABLES) == (part == "code") and store.row(TABLES) is not None
    assert not Store(store.path, same_code=True).is_finished(TABLES)


def test_two_programs_may_add(tiny, tmp_path):
    one, two = Store(tmp_path / "a.jsonl"), Store(tmp_path / "a.jsonl")
    one.add(fake_row(TABLES))
    two.add(fake_row(REVIEWS))
    assert len(Store(tmp_path / "a.jsonl").rows) == 2, "the second program overwrote the first one's row"


def _add_rows(path, seeds):
    store = Store(path)
    for seed in seeds:
        store.add(fake_row(replace(TABLES, seed=seed)))


def test_programs_that_add_at_the_same_moment_lose_no_row(tiny, tmp_path):
    """Each reads all rows, adds one and writes all."""
    many = [range(10 * number, 10 * number + 10) for number in range(4)]
    fork = multiprocessing.get_context("fork")  # the tiny bases come with it
    writers = [fork.Process(target=_add_rows, args=(tmp_path / "a.jsonl", seeds)) for seeds in many]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(Store(tmp_path / "a.jsonl").rows) == 40


DAMAGE = {
    "cut short": (lambda line: line[: len(line) // 2], "line 2, column .* not JSON"),
    "no object": (lambda line: "[1, 2]", "line 2: .* this is list"),
    "a field is missing": (lambda line: line.replace('"scores"', '"score"'), "line 2: .* no field 'scores'"),
    "no cell": (lambda line: line.replace('"seed"', '"sede"'), "row 2: this is no cell .*sede"),
    "the cell of another row": (lambda line: None, "row 2: a row before it is of the same cell"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_refused_and_named(tiny, tmp_path, damage):
    change, says = DAMAGE[damage]
    first, second = (json.dumps(fake_row(cell)) for cell in (TABLES, REVIEWS))
    path = tmp_path / "a.jsonl"
    path.write_text(f"{first}\n{change(second) or first}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"a.jsonl, {says}.*Delete that line"):
        Store(path)


def test_an_empty_file_holds_no_row(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert Store(tmp_path / "a.jsonl").rows == []
