"""The laboratory: cells repeat, runs go on where they were stopped, what is told is what the rows say."""

import ast
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from minitransformer import lab, show
from minitransformer.bert import BertConfig
from minitransformer.errors import UserError
from minitransformer.gpt import GPTConfig
from minitransformer.lab import budgets, cells
from minitransformer.lab import run as lab_run
from minitransformer.lab.cells import NO_METHOD, TASKS, Cell, code_hash, provenance, run_cell
from minitransformer.lab.intervals import t_interval, t_quantile
from minitransformer.lab.report import interval, markdown, shown
from minitransformer.lab.run import measure, progress
from minitransformer.lab.store import Store
from minitransformer.tuning import IA3, LoRA
from tests.conftest import ROOT
from tests.helpers import tiny_bert, tiny_gpt

SIZES = {"vocab_size": 2048, "n_layer": 2, "n_head": 2, "d_model": 8, "d_ff": 16}
TINY = {
    "gpt": lambda: tiny_gpt(config=GPTConfig(n_positions=256, **SIZES)),
    "bert": lambda: tiny_bert(config=BertConfig(n_positions=192, **SIZES)),
}
TABLES = Cell("table_to_text", "LoRA", {"rank": 2}, 1e-2, steps=3, seed=0, batch=2, n_train=20, n_scored=3)
REVIEWS = replace(TABLES, task="reviews_bert", split="test")


@pytest.fixture
def tiny(monkeypatch):
    """Cells run on tiny random bases in the place of the committed ones."""
    monkeypatch.setattr(cells, "load_base", lambda kind: TINY[kind]())
    monkeypatch.setattr(cells, "LONGEST", 5)


def but_seconds(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


# ------------------------------------------------------------------------------------ a cell


@pytest.mark.parametrize("cell", [TABLES, REVIEWS], ids=lambda cell: cell.task)
def test_two_runs_of_a_cell_give_the_same_row(tiny, cell):
    torch.manual_seed(123)  # whatever was drawn before
    first = run_cell(cell)
    torch.rand(7)
    again = run_cell(Cell(**json.loads(json.dumps(asdict(cell)))))
    assert but_seconds(first) == but_seconds(again), "something other than the cell decided the outcome"
    assert json.loads(json.dumps(first)) == first, "a row has to survive JSON as it is"
    assert set(first["scores"]) >= set(TASKS[cell.task].scores) and TASKS[cell.task].score in first["scores"]


@pytest.mark.parametrize("cell", [TABLES, REVIEWS], ids=lambda cell: cell.task)
@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 3e-2}, {"n_train": 4}, {"batch": 3}, {"settings": {"rank": 1}}])
def test_what_a_cell_names_decides(tiny, cell, change):
    a, b = run_cell(cell), run_cell(replace(cell, **change))
    assert a["train_loss"] != b["train_loss"], f"{change} made no difference to the training loss"


def test_each_seed_draws_its_own_few_examples():
    few = [cells.drawn(range(100), replace(TABLES, n_train=5, seed=seed)) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2] and all(len(set(rows)) == 5 for rows in few)
    assert cells.drawn(range(100), replace(TABLES, n_train=None)) == list(range(100))


@pytest.mark.parametrize("n_train", [0, 101])
def test_no_more_examples_than_there_are(n_train):
    with pytest.raises(UserError, match=f"n_train = {n_train}: table_to_text has 100 examples"):
        cells.drawn(range(100), replace(TABLES, n_train=n_train))


def test_a_row_counts_what_is_trained_and_kept(tiny):
    n_base = sum(p.numel() for p in TINY["bert"]().parameters())
    lora = run_cell(REVIEWS)
    by_hand = 2 * 2 * (2 * 8 + 8 * 2)  # two layers, q and v, A (r, C) and B (C, r)
    assert (lora["trained"], lora["stored"], lora["base"], lora["head"]) == (by_hand, by_hand, n_base, 8 * 2 + 2)
    assert lora["share"] == by_hand / n_base
    prefix = run_cell(replace(REVIEWS, method="PrefixTuning", settings={"length": 3, "reparametrise": 16}))
    assert prefix["stored"] == 3 * 2 * 2 * 8 < prefix["trained"], "the MLP that makes a prefix is trained, not kept"


def test_the_head_alone(tiny, monkeypatch):
    trained = {}

    def watch(model, *args, **more):
        trained["names"] = {name for name, p in model.named_parameters() if p.requires_grad}
        return real(model, *args, **more)

    real = cells.train
    monkeypatch.setattr(cells, "train", watch)
    row = run_cell(replace(REVIEWS, method=NO_METHOD, settings={}))
    assert (row["trained"], row["stored"]) == (0, 0) and trained["names"] == {"head.weight", "head.bias"}
    with pytest.raises(UserError, match="Nothing here can be trained"):
        run_cell(replace(TABLES, method=NO_METHOD, settings={}))


def test_scores_are_those_of_the_split_that_is_named(tiny, monkeypatch):
    asked = []
    real = cells.task_rows
    monkeypatch.setattr(cells, "task_rows", lambda name, split: asked.append(split) or real(name, split))
    run_cell(replace(TABLES, split="test_unseen"))
    assert asked == ["test_unseen"]


@pytest.mark.parametrize(
    "change, says",
    [
        ({"task": "poker"}, "no task 'poker' in the laboratory; there are table_to_text, reviews_gpt, reviews_bert"),
        ({"method": "Magic"}, "no method 'Magic'; there are .*LoRA"),
        ({"settings": {"rank": 0}}, "rank = 0"),
        ({"split": "best"}, "best.jsonl"),
    ],
)
def test_a_cell_that_cannot_be_run(tiny, change, says):
    with pytest.raises(UserError, match=says):
        run_cell(replace(TABLES, **change))


# ------------------------------------------------------------------------------------ what a row was made from


def test_comments_and_docstrings_are_not_code():
    plain = 'def f(x: int) -> int:\n    return x + 1\n\n\nTEXT = """a # b\n\n"""\n'
    told = (
        '"""A module."""\n\n# first\ndef f(x: int) -> int:  # adds\n    """One more.\n\n    x: a number.\n    """\n'
        '    # now\n    return x + 1\n\n\n\nTEXT = """a # b\n\n"""  # kept\n'
    )
    assert cells.bare(told) == cells.bare(plain), "a comment or a docstring counts as code"
    for other in (plain.replace("+ 1", "+ 2"), plain.replace("a # b", "a # c"), plain.replace("return x", "return  x")):
        assert cells.bare(other) != cells.bare(plain), f"a change of the code was missed:\n{other}"


def test_the_code_hash_sees_every_file(tmp_path, monkeypatch):
    package = tmp_path / "minitransformer"
    shutil.copytree(ROOT / "minitransformer", package, ignore=shutil.ignore_patterns("__pyc*"))
    monkeypatch.setattr(cells, "PACKAGE", package)
    before = cells.code_hash.__wrapped__()
    assert before == code_hash()
    for name in ("lab/cells.py", "tuning/lora.py", "training.py", "attention.py", "batches/completion.py"):
        path = package / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "\nNEW = 1\n", encoding="utf-8")
        assert cells.code_hash.__wrapped__() != before, f"a change of {name} leaves the hash as it is"
        path.write_text(text + "\n# a remark\n", encoding="utf-8")
        assert cells.code_hash.__wrapped__() == before, f"a comment in {name} changes the hash"


def test_the_code_hash_forgets_no_module():
    """Follow the imports from cells.py: what is not hashed cannot change a score, only where and how it is read."""
    package, seen, todo = ROOT / "minitransformer", set(), ["lab/cells.py"]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((package / name).read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("minitransformer"):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                path = "/".join(module.split(".")[1:])
                todo += [p for p in (f"{path}.py", f"{path}/__init__.py") if path and (package / p).is_file()]
    hashed = {p for p in seen if any(p == name or p.startswith(f"{name}/") for name in cells.CODE)}
    harmless = {"errors.py", "checkpoint.py", "bases.py", "bigram.py"}
    left = {p for p in seen - hashed - harmless if not p.startswith("tinyworld/")}  # of it, only tables.py gives values
    left -= {"lab/__init__.py"}
    assert not left, f"cells depend on {sorted(left)}: name them in lab/cells.py's CODE"


def test_a_row_belongs_to_code_data_and_base(tiny):
    row = run_cell(TABLES)
    assert row["made_from"] == provenance("table_to_text")
    assert set(row["made_from"]) == {"code", "data", "base"}
    assert provenance("table_to_text")["data"] != provenance("reviews_bert")["data"]


# ------------------------------------------------------------------------------------ the store


def fake_row(cell: Cell, **more: object) -> dict:
    """What a cell would give, without a cell being run: scores that depend on the cell alone."""
    value = 0.5 + 0.4 * (hash_of(cell) % 1000) / 1000
    stored = 10 * len(cell.settings)
    scores = dict.fromkeys(TASKS[cell.task].scores, value)
    return {
        "cell": asdict(cell), "made_from": provenance(cell.task), "scores": scores, "loss": 1 - value,
        "train_loss": 1 - value, "trained": stored, "stored": stored, "share": stored / 1e6, "head": 0,
        "base": 1_000_000, "seconds": 1.0, "versions": {"python": "3", "torch": "2"}, **more,
    }  # fmt: skip


def hash_of(cell: Cell) -> int:
    return sum(i * ord(char) for i, char in enumerate(cell.key))


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
    assert os.listdir(store.path.parent) == ["a.jsonl"], "something was left beside the file"


@pytest.mark.parametrize("part", ["code", "data", "base"])
def test_a_row_of_other_code_data_or_base_is_not_finished(tiny, tmp_path, part):
    store = Store(tmp_path / "a.jsonl")
    row = fake_row(TABLES)
    store.add({**row, "made_from": {**row["made_from"], part: "other"}})
    assert not store.is_finished(TABLES) and store.row(TABLES) is not None


def test_two_programs_may_add(tiny, tmp_path):
    one, two = Store(tmp_path / "a.jsonl"), Store(tmp_path / "a.jsonl")
    one.add(fake_row(TABLES))
    two.add(fake_row(REVIEWS))
    assert len(Store(tmp_path / "a.jsonl").rows) == 2, "the second program overwrote the first one's row"


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


# ------------------------------------------------------------------------------------ many cells


@pytest.fixture
def threads(monkeypatch, tiny):
    """Two threads in the place of two processes, which take seconds to start."""
    monkeypatch.setattr(lab_run, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))


MANY = [replace(TABLES, seed=seed) for seed in range(8)]


def quick_run(cell: Cell) -> dict:
    """A cell that is no work."""
    return fake_row(cell)


def slow_run(cell: Cell) -> dict:
    """Beats every tenth of a second while it runs: the first cell for half a second, the others for longer."""
    for _ in range(5 if cell.seed == 0 else 30):
        time.sleep(0.1)
        with open(os.environ["HEART"], "a") as file:
            file.write(".")
    return fake_row(cell)


def failing_run(cell: Cell) -> dict:
    if cell.seed == 3:
        raise UserError("The loss became nan.")
    if cell.seed == 5:
        raise ZeroDivisionError("division by zero")
    return fake_row(cell)


def dying_run(cell: Cell) -> dict:
    os._exit(9)


def run_all(path: Path, run, which=MANY) -> dict:
    with progress(sum(cell.steps for cell in which)) as bar:
        return measure(which, Store(path), bar, run)


def test_every_cell_runs_once(threads, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    assert run_all(path, quick_run) == {}
    assert [row["cell"]["seed"] for row in Store(path).rows] == list(range(8))
    assert "24/24" in capsys.readouterr().err, "the bar does not arrive at the last step"
    before = path.read_bytes()
    assert run_all(path, dying_run) == {}, "a finished cell ran again"
    assert path.read_bytes() == before


def test_a_failed_cell_is_named_and_the_others_go_on(threads, tmp_path, capsys):
    failed = run_all(tmp_path / "a.jsonl", failing_run)
    assert {json.loads(key)["seed"] for key in failed} == {3, 5}
    assert [row["cell"]["seed"] for row in Store(tmp_path / "a.jsonl").rows] == [0, 1, 2, 4, 6, 7]
    told = capsys.readouterr().err
    assert "Failed: table_to_text, LoRA(rank=2), lr 0.01, seed 3, 3 steps. UserError: The loss became nan." in told
    assert "seed 5, 3 steps. ZeroDivisionError" in told


def test_a_killed_process_ends_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="was killed, perhaps because memory ran out.*the same command goes on"):
        run_all(tmp_path / "a.jsonl", dying_run, MANY[:2])


def test_a_disk_that_is_full_is_no_failed_cell(threads, tmp_path, monkeypatch):
    def full(self, row):
        raise UserError("The disk is full.")

    monkeypatch.setattr(Store, "add", full)
    with pytest.raises(UserError, match="The disk is full"):
        run_all(tmp_path / "a.jsonl", quick_run, MANY[:2])


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch, kill):
    path, heart = tmp_path / "a.jsonl", tmp_path / "heart"
    program = f"from tests.test_lab import *; run_all(Path({str(path)!r}), slow_run)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "HEART": str(heart)},
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    end = time.time() + 120
    while time.time() < end and not path.is_file():
        time.sleep(0.05)
    process.send_signal(kill)
    process.wait(timeout=20)
    time.sleep(1)
    beats = heart.stat().st_size
    time.sleep(0.5)
    assert heart.stat().st_size == beats, "cells go on running after the program has ended"
    before = Store(path).rows
    assert 0 < len(before) < len(MANY), f"{len(before)} of {len(MANY)} cells: the test stopped nothing"
    monkeypatch.setattr(lab_run, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    assert run_all(path, quick_run) == {}
    run_all(tmp_path / "b.jsonl", quick_run)
    assert path.read_bytes() == (tmp_path / "b.jsonl").read_bytes(), "a run that was stopped gives other rows"


# ------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize(
    "freedom, t", [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_students_t_is_that_of_the_printed_tables(freedom, t):
    assert t_quantile(0.95, freedom) == pytest.approx(t, abs=6e-4)


def test_more_quantiles_of_printed_tables():
    assert t_quantile(0.99, 4) == pytest.approx(4.604, abs=6e-4)
    assert t_quantile(0.90, 7) == pytest.approx(1.895, abs=6e-4)


def test_an_interval_by_hand():
    # mean 3, s² = (4 + 1 + 0 + 1 + 4) / 4 = 2.5; 2.776 · √(2.5 / 5) = 1.963
    value = t_interval([1, 2, 3, 4, 5])
    assert value.mean == 3 and value.n == 5
    assert value.half == pytest.approx(1.963, abs=1e-3)
    assert (value.low, value.high) == (3 - value.half, 3 + value.half)


def test_intervals_cover_as_often_as_they_say():
    draws = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    intervals = [t_interval(values) for values in draws]
    covered = sum(value.low < 0 < value.high for value in intervals) / len(intervals)
    assert abs(covered - 0.95) < 0.012, f"{covered:.1%} of the 95 % intervals cover the true mean"


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values):
    with pytest.raises(UserError, match="needs two values or more"):
        t_interval(values)


def test_meaningless_quantiles():
    for confidence, freedom in ((0, 3), (1, 3), (0.95, 0)):
        with pytest.raises(UserError, match="between 0 and 1, and 1 or more"):
            t_quantile(confidence, freedom)


def test_how_an_interval_is_shown():
    assert shown(t_interval([0.5, 0.5])) == "0.500 ± 0.000"
    assert shown(interval([0.25])) == "0.250", "of one seed nobody knows how far it reaches"


# ------------------------------------------------------------------------------------ budgets


def every_arm():
    for task in budgets.PLAN.protocols:
        for family in budgets.families(budgets.PLAN, task):
            for budget in budgets.measured_at(budgets.PLAN, task, family):
                yield task, family, budget


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with a made-up row for every cell of the experiment."""
    monkeypatch.setattr(sys.modules[__name__], "provenance", lambda task: dict.fromkeys(("code", "data", "base"), "x"))
    own = Store(tmp_path / "budgets.jsonl")
    for _ in range(2):  # the search first, which decides the final cells
        rows = [own.row(cell) or fake_row(cell) for cell in budgets.every_cell(budgets.PLAN, own)]
        own.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        own = Store(own.path)
    return own


def test_sizes_meet_their_budgets():
    """Counted on the committed bases, by building each method."""
    for task, family, budget in every_arm():
        if budget is None:
            continue
        arm = budgets.arm(family, budget, TASKS[task].base)
        stored = budgets.count(family.of_size(arm.size), budgets.one_base(TASKS[task].base))
        off = stored / budgets.BUDGETS[budget] - 1
        assert abs(off) <= 0.1, f"{family.name} at {budget} on {task}: {stored:,} numbers, {off:+.1%} off"


def test_budgets_are_the_shares_that_their_names_say():
    for kind in ("gpt", "bert"):
        n_base = sum(p.numel() for p in budgets.one_base(kind).parameters())
        for name, budget in budgets.BUDGETS.items():
            assert 100 * budget / n_base == pytest.approx(float(name.split()[0]), rel=0.05), f"{name} on the {kind}"


@pytest.mark.parametrize("budget", [100, 330, 1000, 1400])
def test_the_closest_size_is_the_closest(budget):
    base = TINY["gpt"]()
    by_trying = {rank: budgets.count(LoRA(rank), base) for rank in range(1, 9)}  # r (2 C) numbers, q and v, two layers
    best = min(abs(stored - budget) for stored in by_trying.values())
    try:
        size = budgets.closest_size(LoRA, base, budget, most=8)
    except UserError as error:
        assert best > 0.1 * budget and "Leave it out" in str(error)
    else:
        assert abs(by_trying[size] - budget) == best <= 0.1 * budget


def test_no_size_comes_near():
    with pytest.raises(UserError, match="No size of IA3 keeps about 1,000,000 numbers on this GPT"):
        budgets.closest_size(lambda _: IA3(), TINY["gpt"](), 1_000_000, most=2)


def test_all_methods_are_searched_alike():
    for task in budgets.PLAN.protocols:
        protocol = budgets.PLAN.protocols[task]
        for family in budgets.families(budgets.PLAN, task):
            searched = budgets.search_cells(budgets.PLAN, task, family)
            lrs = [cell.lr for cell in searched]
            assert len(lrs) == 3 and all(2.9 < b / a < 3.4 for a, b in zip(lrs, lrs[1:], strict=False))
            alike = {(cell.split, cell.seed, cell.steps, cell.n_scored) for cell in searched}
            assert alike == {("valid", 0, protocol.search_steps, protocol.n_searched)}, f"{family.name} on {task}"


def test_the_test_is_scored_by_final_cells_with_five_seeds_alone(store):
    plan = budgets.PLAN
    families = [(task, family) for task in plan.protocols for family in budgets.families(plan, task)]
    final = [cell for pair in families for _, own in budgets.arms(plan, *pair, store) for cell in own]
    assert {cell.split for cell in final} == {"test_seen", "test"}
    assert all(cell.split == "valid" for cell in budgets.every_cell(budgets.PLAN, store) if cell not in final)
    by_arm: dict[tuple, list[int]] = {}
    for cell in final:
        by_arm.setdefault((cell.task, cell.method, json.dumps(cell.settings)), []).append(cell.seed)
    assert all(seeds == [0, 1, 2, 3, 4] for seeds in by_arm.values())
    assert len(by_arm) == len(list(every_arm())), "two methods have the same cells"
    total = sum(cell.steps for cell in budgets.every_cell(budgets.PLAN, store))
    assert total == budgets.all_steps(budgets.PLAN), "the bar does not end where the cells do"


def test_the_lowest_validation_loss_decides(store):
    for task, family, _ in every_arm():
        rows = [store.row(cell) for cell in budgets.search_cells(budgets.PLAN, task, family)]
        best = sorted(rows, key=lambda row: row["loss"])[0]["cell"]["lr"]
        assert budgets.chosen_rate(budgets.PLAN, task, family, store) == best
        for _, final in budgets.arms(budgets.PLAN, task, family, store):
            assert {cell.lr for cell in final} == {best}


def without(store: Store, cell: Cell) -> Store:
    """The store less one row."""
    rows = [row for row in store.rows if Cell(**row["cell"]) != cell]
    store.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Store(store.path)


def test_no_final_cell_before_the_search_is_whole(store):
    family = budgets.families(budgets.PLAN, "reviews_gpt")[0]
    less = without(store, budgets.search_cells(budgets.PLAN, "reviews_gpt", family)[1])
    assert budgets.chosen_rate(budgets.PLAN, "reviews_gpt", family, less) is None
    assert all(final == [] for _, final in budgets.arms(budgets.PLAN, "reviews_gpt", family, less))


def test_results_are_those_of_the_rows(store):
    for task in budgets.PLAN.protocols:
        found = budgets.results(budgets.PLAN, task, store)
        assert len(found) == sum(task == own for own, *_ in every_arm())
        main = TASKS[task].score
        full = next(result for result in found if result.name == budgets.FULL)
        assert full.of_full == 1
        for family in budgets.families(budgets.PLAN, task):
            for own, final in budgets.arms(budgets.PLAN, task, family, store):
                result = next(r for r in found if (r.name, r.budget) == (family.name, own.budget))
                values = [store.row(cell)["scores"][main] for cell in final]
                assert result.scores[main].mean == pytest.approx(sum(values) / 5)
                assert result.of_full == pytest.approx(sum(values) / 5 / full.scores[main].mean)


def test_a_size_without_all_seeds_is_not_told(store):
    family = next(f for f in budgets.FAMILIES if f.name == budgets.FULL)
    _, final = next(budgets.arms(budgets.PLAN, "reviews_gpt", family, store))
    less = without(store, final[3])
    names = [result.name for result in budgets.results(budgets.PLAN, "reviews_gpt", less)]
    assert names and budgets.FULL not in names


def test_the_figure_is_drawn_from_the_rows(store, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    for task in budgets.PLAN.protocols:
        axes = Figure().subplots()
        budgets.plot(axes, budgets.PLAN, task, store)
        drawn = {line.get_label(): line for line in axes.lines}
        drawn |= {bars.get_label(): bars.lines[0] for bars in axes.containers}
        for name in {result.name for result in budgets.results(budgets.PLAN, task, store)}:
            own = [r for r in budgets.results(budgets.PLAN, task, store) if r.name == name]
            heights = [r.scores[TASKS[task].score].mean for r in own]
            if name in (budgets.FULL, budgets.HEAD):
                assert list(drawn[name].get_ydata()) == heights * 2
            else:
                assert list(drawn[name].get_ydata()) == heights, f"{name} is not drawn where its rows are"
                at = list(drawn[name].get_xdata())
                assert at == pytest.approx([r.stored for r in own], rel=0.2), f"{name} stands at another size"
        assert axes.get_xscale() == "log"
        looks = [family.look for family in budgets.FAMILIES]
        assert len(set(looks)) == len(looks), "two methods look alike"
    monkeypatch.setattr(show, "ROOT", tmp_path)
    budgets.draw(budgets.PLAN, store)
    assert (tmp_path / "figures" / "budgets" / "quality.png").stat().st_size > 10_000


def test_the_readme_says_what_the_rows_say(store, monkeypatch):
    text = "\n".join(budgets.section(budgets.PLAN, store))
    for task in budgets.PLAN.protocols:
        _, _, told = text.partition(f"### {budgets.TITLES[task]}\n")
        for result in budgets.results(budgets.PLAN, task, store):
            start = f"| {result.name} | {result.size or '–'} | {result.stored:,} |"
            line = next(line for line in told.splitlines() if line.startswith(start))
            assert shown(result.scores[TASKS[task].score]) in line and f"{result.of_full:.1%}" in line
    assert text.count("**") == 2 * sum(len(budgets.families(budgets.PLAN, task)) for task in budgets.PLAN.protocols)
    family = budgets.families(budgets.PLAN, "reviews_gpt")[0]
    _, final = next(budgets.arms(budgets.PLAN, "reviews_gpt", family, store))
    row = store.row(final[0])
    monkeypatch.setitem(row, "scores", {"accuracy": 0.0})
    assert "\n".join(budgets.section(budgets.PLAN, store)) != text, "a row's score does not reach the README"


def test_an_experiment_that_is_mixed_says_so(store, monkeypatch):
    assert "code `x`;" in "\n".join(budgets.section(budgets.PLAN, store))
    monkeypatch.setitem(store.rows[0], "made_from", {"code": "y", "data": "x", "base": "x"})
    assert "code `x`, `y`;" in "\n".join(budgets.section(budgets.PLAN, store))


def test_nothing_measured_yet(tmp_path):
    assert "Nothing has been measured yet." in "\n".join(budgets.section(budgets.PLAN, Store(tmp_path / "a.jsonl")))


def test_tables_of_markdown():
    assert markdown(["a", "b"], [["x", "1"]], text=1) == ["| a | b |", "| --- | ---: |", "| x | 1 |"]


# ------------------------------------------------------------------------------------ the command


def test_unknown_experiment():
    with pytest.raises(UserError, match="no experiment 'alchemy'; there are first_claim, budgets"):
        lab.main(["alchemy"])


@pytest.fixture
def folder(threads, tmp_path, monkeypatch):
    """The laboratory in an empty folder, with cells that are no work."""
    monkeypatch.setattr(lab, "FOLDER", tmp_path / "lab")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    monkeypatch.setattr(budgets, "measure", lambda which, store, bar: measure(which, store, bar, quick_run))
    return tmp_path / "lab"


def test_a_trial_leaves_the_rows_alone(folder, monkeypatch, capsys):
    monkeypatch.setattr(lab, "QUICK", True)
    lab.main(["budgets"])
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == ["trial/budgets.jsonl"]
    rows = Store(folder / "trial" / "budgets.jsonl").rows
    assert len(rows) == 8 and {row["cell"]["method"] for row in rows} == {"LoRA"}
    assert {row["cell"]["seed"] for row in rows} == {0}
    assert {row["cell"]["split"] for row in rows} == {"valid"}, "a trial has no business with the test"
    assert "LoRA, q and v" in capsys.readouterr().out


def test_a_failure_is_told_at_the_end(folder, monkeypatch):
    monkeypatch.setattr(lab, "QUICK", True)
    fail = Cell(**asdict(budgets.search_cells(budgets.TRIAL, "reviews_gpt", budgets.TRIAL.families[0])[0])).key
    monkeypatch.setattr(budgets, "measure", lambda which, store, bar: (
        measure([c for c in which if c.key != fail], store, bar, quick_run),
        {c.key: ValueError() for c in which if c.key == fail},
    )[1])  # fmt: skip
    with pytest.raises(UserError, match="1 cell failed, as named above; the others are in budgets.jsonl"):
        lab.main(["budgets"])
    tasks = [row["cell"]["task"] for row in Store(folder / "trial" / "budgets.jsonl").rows]
    assert tasks.count("table_to_text") == 4
    assert tasks.count("reviews_gpt") == 2, "a method whose search is not whole has no final cells"


def test_the_rows_are_told_without_measuring(folder, store, monkeypatch, capsys):
    shutil.copytree(store.path.parent, folder, ignore=lambda path, names: [n for n in names if n != store.path.name])
    monkeypatch.setattr(budgets, "measure", None)
    lab.main(["budgets"], draw=True)
    assert (folder / "README.md").read_text(encoding="utf-8") == lab.datasheet()
    assert "Figure saved: figures/budgets/quality.png" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ what is committed


def test_the_committed_readme_is_what_the_committed_rows_say():
    text = (lab.FOLDER / "README.md").read_text(encoding="utf-8")
    assert text == lab.datasheet(), "run python -m minitransformer lab --draw"


def test_committed_rows_are_whole():
    path = lab.FOLDER / "budgets.jsonl"
    if not path.is_file():
        pytest.skip("the experiment has not been run: make lab")
    rows, wanted = Store(path).rows, list(budgets.every_cell(budgets.PLAN, Store(path)))
    missing = [str(cell) for cell in wanted if Store(path).row(cell) is None]
    assert not missing, f"{len(missing)} cells have no row: run make lab. The first: {missing[0]}"
    for row in rows:
        assert all(math.isfinite(value) for value in [*row["scores"].values(), row["loss"]])
        assert re.fullmatch(r"[0-9a-f]{16}", row["made_from"]["code"])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_committed_row_is_measured_again(task):
    """A cell of the search, which are the shortest: the same loss, up to the rounding of another machine."""
    store = Store(lab.FOLDER / "budgets.jsonl")
    family = next(f for f in budgets.FAMILIES if f.name == "LoRA, q and v")
    cell = budgets.search_cells(budgets.PLAN, task, family)[1]
    row = store.row(cell)
    if row is None:
        pytest.skip("the experiment has not been run: make lab")
    again = run_cell(cell)
    assert again["loss"] == pytest.approx(row["loss"], abs=0.02), f"{cell}: stored {row['loss']}, now {again['loss']}"
