"""The claims: judged by the rule, against rows made by hand; all can be run, are searched alike and fit the time."""

import json
from dataclasses import replace

import pytest
import torch

from minitransformer.course import lab, show
from minitransformer.course.bases import load_base
from minitransformer.course.data import default_tokenizer
from minitransformer.course.lab import families
from minitransformer.course.lab.cells import Cell
from minitransformer.course.lab.claim import (
    ANSWERED,
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    Check,
    Claim,
    Panel,
    in_a_word,
    score,
    verdict_table,
)
from minitransformer.course.lab.experiment import SEEDS, Arm, Search, named, trial
from minitransformer.course.lab.pool import work
from minitransformer.course.lab.store import Store
from minitransformer.course.lab.tasks import LAB_TASKS, LONGEST
from minitransformer.course.tasks import task_ids
from minitransformer.tuning import LoRA, Method, attached
from tests.course.lab.helpers import MADE_UP, fake_row, filled, rewritten, without

CLAIMS = pytest.mark.parametrize("claim", (*lab.CLAIMS, *lab.WHYS), ids=lambda claim: claim.name)
ARMS = [arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms]
CELLS = {cell.key: cell for arm in ARMS for cell in [*arm.search_cells(), *arm.expected()]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a made-up row for every cell of the laboratory."""
    return filled(tmp_path_factory.mktemp("lab") / "rows.jsonl", ARMS)


# ------------------------------------------------------------------------------------ the rule

A, B = (Arm(name, "table_to_text", LoRA(rank), 1e-2) for name, rank in (("a", 1), ("b", 2)))
ALONE = Arm("alone", "table_to_text", None, 0.0, steps=0, seeds=(0,))


def claim_of(*checks: Check, arms=(A, B), **more: object) -> Claim:
    return Claim(
        "try",
        "A tries harder",
        "009 §1",
        "says",
        "published",
        "design",
        arms,
        checks,
        {"slots": "slots"},
        (Panel({"slots": ("slots", [arm.name for arm in arms])}, "share"),),
        "untested",
        **more,
    )


def rows_of(path, **slots: list[float]) -> Store:
    """A store in which the arms told these shares, one for each seed."""
    rows = []
    for arm in (A, B, ALONE):
        for cell, value in zip(arm.expected(), slots.get(arm.name, ()), strict=False):
            row = fake_row(cell, MADE_UP)
            rows.append({**row, "scores": {**row["scores"], "slots": value}})
    return rewritten(Store(path / "rows.jsonl"), rows)


def better(one: str = "a", other: str = "b", margin: float = 0.0) -> Check:
    return Check(f"{one} − {other} − {margin}", lambda of: of(one, "slots") - of(other, "slots") - margin)


def test_by_hand_a_claim_holds_fails_or_is_open(tmp_path):
    # a − b = 1, 2, 3, 4, 5: mean 3, s² = 2.5, 2.776 · √(2.5 / 5) = 1.963: from 1.037 to 4.963
    store = rows_of(tmp_path, a=[2, 4, 6, 8, 10], b=[1, 2, 3, 4, 5])
    verdict = claim_of(better()).verdict(store)
    value = verdict.found["a − b − 0.0"]
    assert verdict.word == HOLDS and value.mean == 3 and value.half == pytest.approx(1.963, abs=1e-3)
    for margin, word in ((1.03, HOLDS), (1.04, OPEN), (3, OPEN), (4.96, OPEN), (4.97, FAILS)):
        assert claim_of(better(margin=margin)).verdict(store).word == word, f"of 3 ± 1.963, less {margin}"
    assert claim_of(better("b", "a")).verdict(store).word == FAILS


def test_seeds_are_compared_one_by_one(tmp_path):
    """The same means and spreads; but seed by seed, a is always 0.01 ahead."""
    paired = rows_of(tmp_path, a=[0.11, 0.31, 0.51, 0.71, 0.91], b=[0.1, 0.3, 0.5, 0.7, 0.9])
    assert claim_of(better()).verdict(paired).word == HOLDS
    shuffled = rows_of(tmp_path, a=[0.11, 0.31, 0.51, 0.71, 0.91], b=[0.9, 0.5, 0.1, 0.3, 0.7])
    assert claim_of(better()).verdict(shuffled).word == OPEN


def test_all_checks_together_decide(tmp_path):
    store = rows_of(tmp_path, a=[2, 4, 6, 8, 10], b=[1, 2, 3, 4, 5])
    holds, fails, is_open = better(), better("b", "a"), better(margin=3)
    for checks, word in (
        ([holds, holds], HOLDS),
        ([holds, is_open], OPEN),
        ([is_open, fails], FAILS),
        ([fails, holds], FAILS),
    ):
        assert claim_of(*checks).verdict(store).word == word
    verdict = claim_of(holds, beside=(fails,)).verdict(store)
    assert verdict.word == HOLDS and set(verdict.found) == {holds.says, fails.says}, "what is beside does not judge"


def test_a_missing_cell_leaves_the_claim_unmeasured(tmp_path):
    store = rows_of(tmp_path, a=[2, 4, 6, 8, 10], b=[1, 2, 3, 4])
    claim = claim_of(better())
    assert claim.verdict(store) == (MISSING, {})
    told = "\n".join(claim.section(store))
    assert "A tries harder: not measured yet" in told and "| a |" in told and "| b |" not in told


def test_one_seed_decides_nothing(tmp_path):
    small = [trial(arm) for arm in (A, B)]
    store = filled(tmp_path / "rows.jsonl", small)
    assert claim_of(better(), arms=small).verdict(store).word == OPEN


def test_no_difference_at_all_is_open(tmp_path):
    store = rows_of(tmp_path, a=[1, 2, 3, 4, 5], b=[1, 2, 3, 4, 5])
    assert claim_of(better()).verdict(store).word == OPEN


def test_an_arm_of_one_row_is_compared_with_every_seed(tmp_path):
    store = rows_of(tmp_path, a=[0.6, 0.7, 0.8, 0.9, 1.0], alone=[0.5])
    verdict = claim_of(better("a", "alone"), arms=(A, ALONE)).verdict(store)
    assert verdict.found["a − alone − 0.0"].mean == pytest.approx(0.3) and verdict.word == HOLDS


def test_scores_by_name():
    also = {"sport/test": {"rougeL": 3.0}, "abilities": {"prose": 4.0}}
    row = {"scores": {"slots": 1.0}, "loss": 2.0, "also": also, "stored": 5}
    names = ("slots", "loss", "sport/test/rougeL", "abilities/prose", "stored")
    assert [score(row, name) for name in names] == [1, 2, 3, 4, 5]
    with pytest.raises(KeyError):
        score(row, "sport/test/slots")


# ------------------------------------------------------------------------------------ each claim


@CLAIMS
def test_a_claim_can_be_judged_told_and_drawn(claim, store, tmp_path, monkeypatch, capsys):
    """Every arm and score that a check, the table or the figure names is there."""
    verdict = claim.verdict(store)
    assert verdict.word in ((ANSWERED, OPEN) if claim.question else (HOLDS, FAILS, OPEN))
    says = [check.says for check in (*claim.checks, *claim.beside)]
    assert len(set(says)) == len(says) == len(verdict.found)
    names = [arm.name for arm in claim.arms]
    assert len(set(names)) == len(names), "two arms of one name"
    text = "\n".join(claim.section(store))
    for part in (claim.title, claim.says, claim.published, claim.design, claim.untested, verdict.word, *says, *names):
        assert part in text
    headers, lines = claim.numbers(store)
    assert len(lines) == len(names) and all(len(line) == len(headers) for line in lines)
    claim.tell(store)
    assert claim.title in capsys.readouterr().out
    monkeypatch.setattr(show, "ROOT", tmp_path)
    claim.draw(store)
    assert (tmp_path / "figures" / "claim" / f"{claim.name}.png").stat().st_size > 5_000


@CLAIMS
def test_every_check_is_moved_by_what_is_measured(claim, store, tmp_path):
    """A check that no row can change would decide nothing."""
    own, rows = {cell.key for arm in claim.arms for cell in arm.cells(store)}, []
    own -= {cell.key for arm in claim.arms for cell in arm.search_cells()}  # they say which cells are asked for
    for row in store.rows:
        cell = Cell(**row["cell"])
        other = fake_row(replace(cell, seed=cell.seed + 100), MADE_UP)
        rows.append({**other, "cell": row["cell"]} if cell.key in own else row)
    changed = rewritten(Store(tmp_path / "rows.jsonl"), rows)
    before, after = claim.verdict(store).found, claim.verdict(changed).found
    assert not [says for says in before if before[says] == after[says]]


@CLAIMS
def test_a_claim_without_one_of_its_rows_is_not_measured(claim, store, tmp_path):
    less = rewritten(Store(tmp_path / "rows.jsonl"), store.rows)
    less = without(less, claim.arms[-1].cells(store)[-1])
    assert claim.verdict(less).word == MISSING


def test_a_panel_is_drawn_from_the_rows(store):
    from matplotlib.figure import Figure

    for name in ("length", "infix"):
        claim, axes = lab.EXPERIMENTS[name], Figure().subplots()
        claim.plot(axes, claim.panels[0], store)
        lines = axes.containers if name == "infix" else axes.lines
        for drawn, (label, (which, arms)) in zip(lines, claim.panels[0].lines.items(), strict=True):
            means = [sum(row["scores"][which] for row in claim.arm(arm).rows(store)) / 5 for arm in arms]
            line = drawn.lines[0] if name == "infix" else drawn
            assert drawn.get_label() == label and list(line.get_ydata()) == pytest.approx(means)
        if name == "length":
            assert list(line.get_xdata()) == [1, 5, 10, 22, 87] and axes.get_xscale() == "log"


def test_the_table_of_verdicts(store, tmp_path):
    lines = verdict_table(lab.CLAIMS, lab.WHYS, store)
    assert len(lines) == 2 + len(lab.CLAIMS)
    for claim, line in zip(lab.CLAIMS, lines[2:], strict=True):
        assert line.startswith(f"| [{claim.title}](#{claim.name}) | {claim.source} |")
        assert line.endswith(f"| {in_a_word(claim, lab.WHYS, store)} |")
    empty = verdict_table(lab.CLAIMS, lab.WHYS, Store(tmp_path / "none.jsonl"))
    assert all(line.endswith("| – | **not measured yet** |") for line in empty[2:])


def test_a_claim_that_fails_leads_to_what_asks_why(tmp_path):
    store, claim = rows_of(tmp_path, a=[2, 4, 6, 8, 10], b=[1, 2, 3, 4, 5]), claim_of(better("b", "a"))
    whys = [replace(claim, name="supposed", why=claim.name), replace(claim, name="unasked", why="another")]
    assert in_a_word(claim, whys, store, "page.md") == f"**{FAILS}** [why?](page.md#supposed)"
    assert in_a_word(claim_of(better("a", "b")), whys, store, "page.md") == f"**{HOLDS}**"


def test_whys_ask_about_claims():
    assert {why.why for why in lab.WHYS} <= {claim.name for claim in lab.CLAIMS}
    assert all(claim.why is None for claim in lab.CLAIMS)


# ------------------------------------------------------------------------------------ fairness


def test_all_methods_are_searched_alike():
    for experiment in lab.EXPERIMENTS.values():
        alike: dict[str, set] = {}
        for arm in experiment.arms:
            cells = arm.search_cells()
            if cells:
                lrs = [cell.lr for cell in cells]
                assert len(lrs) == 3 and all(2.9 < b / a < 3.4 for a, b in zip(lrs, lrs[1:], strict=False)), arm.name
                size = {(cell.split, cell.seed, cell.steps, cell.batch, cell.n_scored, cell.write) for cell in cells}
                alike.setdefault(arm.task, set()).update(size)
        for task, sizes in alike.items():
            assert len(sizes) == 1, f"{experiment.name}: not all searches on {task} are of one size: {sizes}"
            split, seed, *_, write = sizes.pop()
            assert (split, seed, write) == ("valid", 0, False)


def test_a_search_learns_from_as_many_examples_as_what_it_is_for():
    for arm in lab.EXPERIMENTS["init"].arms:
        assert {cell.n_train for cell in arm.search_cells()} == {arm.n_train}, arm.name
    sizes = {cell.n_train for arm in lab.EXPERIMENTS["low_data"].arms for cell in arm.search_cells()}
    assert sizes == {100}, "one search for the four sizes, at one of the middle ones"


def test_the_lowest_validation_loss_decides(store):
    for arm in ARMS:
        if isinstance(arm.lr, Search):
            rows = [store.row(cell) for cell in arm.search_cells()]
            best = sorted(rows, key=lambda row: row["loss"])[0]["cell"]["lr"]
            assert {cell.lr for cell in arm.cells(store)} == {best}


def test_no_cell_before_its_search_is_whole(store, tmp_path):
    arm = lab.EXPERIMENTS["infix"].arms[1]
    less = without(rewritten(Store(tmp_path / "rows.jsonl"), store.rows), arm.search_cells()[1])
    assert arm.chosen(less) is None and arm.cells(less) == [] and arm.rows(less) is None


@CLAIMS
def test_what_is_compared_differs_in_what_the_claim_is_about_alone(claim):
    """Within an experiment, arms that are tuned see as many examples, are scored on the same, with the same seeds."""
    of_steps = ("adapter_training", "unseen_longer", "compared_longer", "abilities_longer")  # whose subject they are
    if claim.name in of_steps:
        claim = replace(claim, arms=[arm for arm in claim.arms if " steps" not in arm.name])
    alike: dict[str, set] = {}
    for arm in claim.arms:
        if arm.steps:
            asked = (arm.steps, arm.batch, arm.split, arm.n_scored, arm.write, tuple(arm.seeds))
            alike.setdefault(arm.task, set()).add(asked)
    assert all(len(settings) == 1 for settings in alike.values())
    assert len(alike) <= 1 or claim.name == "length_by_task", "two tasks, where a claim compares on one"
    assert all(tuple(arm.seeds) == tuple(SEEDS) for arm in claim.arms if arm.steps)


def test_matched_budgets_are_the_cells_of_budgets():
    """Sizes and searches stand in the claims as numbers; `budgets` finds them by counting."""
    found = {one.arm.cells_at(0.1)[0].key: one.arm for one in families.sized("table_to_text")}
    of_length = [lab.EXPERIMENTS["length"].arm(f"P = {P}") for P in (5, 22, 87)]
    for arm in (*lab.EXPERIMENTS["shares"].arms, *lab.EXPERIMENTS["compared"].arms, *of_length):
        own = found.get(arm.cells_at(0.1)[0].key)
        assert own, f"{arm.name}: no cell of budgets. Has the base changed? Then other sizes meet the budgets."
        assert [cell.key for cell in arm.search_cells()] == [cell.key for cell in own.search_cells()], arm.name


# ------------------------------------------------------------------------------------ that it can be run


def test_every_method_goes_onto_its_base():
    seen = set()
    for cell in CELLS.values():
        kind, settings = LAB_TASKS[cell.task].base, json.dumps(cell.settings)
        if cell.method in Method.kinds and (kind, cell.method, settings) not in seen:
            seen.add((kind, cell.method, settings))
            torch.manual_seed(0)
            with attached(families.one_base(kind), Method.kinds[cell.method](**cell.settings)):
                pass
    assert len(seen) > 20


def test_every_text_has_room_beside_the_longest_prefix():
    n_positions, longest = load_base("gpt").config.n_positions, {}
    for task, split in (("table_to_text", "test_seen"), ("news_summary", "test"), ("sport_summary", "test")):
        longest[task] = max(map(len, task_ids(task, split, default_tokenizer())[0])) + LONGEST
    for cell in CELLS.values():
        tasks = [cell.task, *(split.split("/")[0] for split in cell.also if "/" in split)]
        for task in tasks if cell.write else ():
            asked = cell.settings.get("length", 0) + longest.get(task, 0)
            assert asked <= n_positions, f"{cell}: {asked} positions on {task}, and the base has {n_positions}"


def test_settings_survive_json():
    for cell in CELLS.values():
        assert Cell(**json.loads(cell.key)).key == cell.key
    assert named(None) == ("none", {}) and named(None, 1) == ("none", {"shots": 1})


BY_DEFAULT = [claim.name for claim in (*lab.CLAIMS, *lab.WHYS)]


@pytest.mark.parametrize("names", [BY_DEFAULT, ["budgets"]], ids=["claims", "budgets"])
def test_a_run_fits_in_three_hours_on_two_cores(names):
    """`make lab` is all claims; `budgets` runs by its name."""
    arms = [arm for name in names for arm in lab.EXPERIMENTS[name].arms]
    cells = {cell.key: cell for arm in arms for cell in [*arm.search_cells(), *arm.expected()]}
    seconds = sum(map(work, cells.values()))
    assert seconds <= 2 * 3 * 3600, f"{len(cells)} cells take about {seconds / 7200:.1f} hours on two cores"


def test_a_trial_is_small():
    for experiment in lab.EXPERIMENTS.values():
        arms = experiment.trial().arms
        cells = {cell.key: cell for arm in arms for cell in [*arm.search_cells(), *arm.expected()]}.values()
        assert {cell.split for cell in cells} == {"valid"} and {cell.seed for cell in cells} == {0}
        if experiment.name == lab.ON_TRIAL:
            assert sum(map(work, cells)) < 2 * 120, "QUICK=1 has to end within three minutes"
