"""A cell of the laboratory: two runs of it give the same row, and the row says all that it was made from."""

import json
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from minitransformer.course import trial
from minitransformer.course.data import default_tokenizer
from minitransformer.course.lab import cost, provenance, run, tasks
from minitransformer.course.lab.cells import ABILITIES, NO_METHOD, Cell
from minitransformer.course.lab.run import run_cell
from minitransformer.course.lab.tasks import LAB_TASKS
from minitransformer.course.tasks import task_ids, task_rows
from minitransformer.errors import UserError
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.tuning import fingerprint
from tests.course.lab.helpers import REVIEWS, SIZES, TABLES, TINY, use_tiny_bases
from tests.helpers import tiny_gpt


@pytest.fixture
def tiny(monkeypatch):
    """Cells run on tiny random bases in the place of the committed ones."""
    use_tiny_bases(monkeypatch)


def but_seconds(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize("cell", [TABLES, REVIEWS], ids=lambda cell: cell.task)
def test_two_runs_of_a_cell_give_the_same_row(tiny, cell):
    torch.manual_seed(123)  # whatever was drawn before
    first = run_cell(cell)
    torch.rand(7)
    again = run_cell(Cell(**json.loads(json.dumps(asdict(cell)))))
    assert but_seconds(first) == but_seconds(again), "something other than the cell decided the outcome"
    assert json.loads(json.dumps(first)) == first, "a row has to survive JSON as it is"
    assert set(first["scores"]) >= set(LAB_TASKS[cell.task].scores) and LAB_TASKS[cell.task].score in first["scores"]


@pytest.mark.parametrize("cell", [TABLES, REVIEWS], ids=lambda cell: cell.task)
@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 3e-2}, {"n_train": 4}, {"batch": 3}, {"settings": {"rank": 1}}])
def test_what_a_cell_names_decides(tiny, cell, change):
    a, b = run_cell(cell), run_cell(replace(cell, **change))
    assert a["train_loss"] != b["train_loss"], f"{change} made no difference to the training loss"


def test_each_seed_draws_its_own_few_examples():
    few = [tasks.drawn(range(100), replace(TABLES, n_train=5, seed=seed)) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2] and all(len(set(rows)) == 5 for rows in few)
    assert tasks.drawn(range(100), replace(TABLES, n_train=None)) == list(range(100))


@pytest.mark.parametrize("n_train", [0, 101])
def test_no_more_examples_than_there_are(n_train):
    with pytest.raises(UserError, match=f"n_train = {n_train}: table_to_text has 100 examples"):
        tasks.drawn(range(100), replace(TABLES, n_train=n_train))


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

    real = trial.train
    monkeypatch.setattr(trial, "train", watch)
    row = run_cell(replace(REVIEWS, method=NO_METHOD, settings={}))
    assert (row["trained"], row["stored"]) == (0, 0) and trained["names"] == {"head.weight", "head.bias"}
    with pytest.raises(UserError, match="Nothing here can be trained"):
        run_cell(replace(TABLES, method=NO_METHOD, settings={}))


def test_scores_are_those_of_the_split_that_is_named(tiny, monkeypatch):
    asked = []
    real = tasks.task_rows
    monkeypatch.setattr(tasks, "task_rows", lambda name, split: asked.append(split) or real(name, split))
    run_cell(replace(TABLES, split="test_unseen"))
    assert asked == ["test_unseen"]


@pytest.mark.parametrize(
    "change, says",
    [
        ({"task": "poker"}, "no task 'poker' in the laboratory; there are table_to_text, news_summary, reviews_gpt"),
        ({"method": "Magic"}, "no method 'Magic'; there are .*LoRA"),
        ({"settings": {"rank": 0}}, "rank = 0"),
        ({"split": "best"}, "best.jsonl"),
    ],
)
def test_a_cell_that_cannot_be_run(tiny, change, says):
    with pytest.raises(UserError, match=says):
        run_cell(replace(TABLES, **change))


NEWS = replace(TABLES, task="news_summary", split="test")


def test_what_is_scored_besides(tiny):
    row = run_cell(replace(NEWS, also=("valid", "sport_summary/test", ABILITIES)))
    assert set(row["also"]) == {"valid", "sport_summary/test", ABILITIES}
    for split, task in (("valid", NEWS), ("sport_summary/test", None)):
        alone = run_cell(replace(task, split=split)) if task else None
        found = row["also"][split]
        assert set(found) == {"loss", "rouge1", "rouge2", "rougeL"}
        assert alone is None or found == {"loss": alone["loss"], **alone["scores"]}
    assert row["also"]["sport_summary/test"]["loss"] != row["loss"], "sport was scored on news"
    assert set(row["also"][ABILITIES]) == {"prose", "skills"}


def test_abilities_are_those_of_the_tuned_base(tiny):
    cells_of = [replace(TABLES, write=False, also=(ABILITIES,), **change) for change in ({}, {"lr": 0.5})]
    few, far = (run_cell(cell)["also"][ABILITIES]["prose"] for cell in cells_of)
    untouched = replace(cells_of[0], method=NO_METHOD, settings={}, steps=0, lr=0.0)
    assert len({few, far, run_cell(untouched)["also"][ABILITIES]["prose"]}) == 3


def test_without_writing_there_is_a_loss_and_no_score(tiny):
    silent, told = run_cell(replace(TABLES, write=False)), run_cell(TABLES)
    assert silent["scores"] == {} and told["scores"] and silent["loss"] == told["loss"]


def test_a_method_that_is_not_trained_scores_what_the_base_does(tiny):
    row = run_cell(replace(TABLES, method=NO_METHOD, settings={}, steps=0, lr=0.0))
    lora = run_cell(replace(TABLES, steps=0))  # B = 0: LoRA begins as nothing
    assert row["train_loss"] is None and row["trained"] == row["stored"] == 0 < lora["stored"]
    assert row["loss"] == pytest.approx(lora["loss"], abs=1e-6) and row["scores"] == lora["scores"]


@pytest.mark.parametrize("shots", [1, 2])
def test_a_hard_prompt_stands_before_every_task(tiny, monkeypatch, shots):
    seen = []
    monkeypatch.setattr(tasks, "eval_completions", lambda xs, *more: seen.append(xs) or real(xs, *more))
    real = eval_completions
    run_cell(replace(TABLES, method=NO_METHOD, settings={"shots": shots}, steps=0, write=False))
    tokenizer = default_tokenizer()
    plain = task_ids("table_to_text", "valid", tokenizer)[0][:3]
    for given, x in zip(seen[0], plain, strict=True):
        assert given[-len(x) :] == x and given.count(tokenizer.eot_id) == shots + 1, "an example begins with its mark"
    assert len({tuple(given[: -len(x)]) for given, x in zip(seen[0], plain, strict=True)}) == 1


@pytest.mark.parametrize("method, before", [("Infix", False), ("PTuning", True)])
def test_virtual_tokens_stand_where_the_method_wants_them(method, before):
    cell = replace(TABLES, method=method, settings={"length": 3})
    virtual = [-1, -2, -3]
    assert tasks.around(cell, []) == ((virtual, []) if before else ([], virtual))
    assert tasks.around(TABLES, []) == ([], [])


def test_a_text_that_is_the_table_again_tells_nothing():
    row = task_rows("table_to_text", "valid")[0]
    again, told = (tasks.judged_tables([text], [row]) for text in (row["source"], row["target"]))
    assert (again["slots"], again["again"]) == (0, 1) and (told["slots"], told["again"]) == (1, 0)


# ------------------------------------------------------------------------------------ what methods cost


def wide_gpt() -> GPT:
    """Wide enough for LoRA's rank of 11."""
    return tiny_gpt(config=GPTConfig(n_positions=256, **{**SIZES, "d_model": 16}))


def test_a_cost_cell_measures_every_method(monkeypatch):
    for module in (run, provenance):
        monkeypatch.setattr(module, "load_base", lambda kind: wide_gpt())
    monkeypatch.setattr(tasks, "costs", partial(cost.costs, rounds=2, most=3))
    settings = {"methods": list(cost.METHODS)}
    row = run_cell(replace(TABLES, task="cost", method=NO_METHOD, settings=settings, steps=0, lr=0.0, n_train=None))
    assert set(row["scores"]) == set(LAB_TASKS["cost"].scores) and min(row["scores"].values()) > 0
    rank, L, C = 11, 2, 16
    lora = L * 2 * (rank * C + C * rank)  # two layers, q and v, A and B
    assert row["scores"]["LoRA kept"] == pytest.approx(lora * 4 / 1e6)
    assert row["scores"]["LoRA memory"] == pytest.approx(3 * lora * 4 / 1e6)
    n_base = sum(p.numel() for p in wide_gpt().parameters())
    assert row["scores"]["full kept"] == pytest.approx(n_base * 4 / 1e6)
    made = row["scores"]["prefix kept"], row["scores"]["prefix memory"]
    assert made[1] > 3 * made[0], "the MLP that makes a prefix takes memory and is not kept"


def test_costs_leave_the_base_alone():
    base, tokenizer = wide_gpt(), default_tokenizer()
    before = fingerprint(base)
    xs, ys = task_ids("table_to_text", "valid", tokenizer)
    batches = Completions(xs, ys, tokenizer.eot_id, 2, base.config.n_positions, 0)
    cost.costs(base, batches, xs[:2], ["prefix", "LoRA"], rounds=1, most=2)
    assert fingerprint(base) == before and not hasattr(base, "tuning")


def test_what_is_timed_runs_in_turn():
    order = []
    seconds = cost.in_turn({name: partial(lambda name, i: order.append((name, i)), name) for name in "ab"}, rounds=2)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [len(times) for times in seconds.values()] == [2, 2], "the first round, which warms up, counts"
