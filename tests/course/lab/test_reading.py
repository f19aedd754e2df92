"""What lesson 14 reads from the rows: nothing is invented, and each number is the one that a plain loop finds."""

import statistics

import pytest

from minitransformer.course import lab
from minitransformer.course.lab import reading
from minitransformer.course.lab.claim import MISSING, outcome
from minitransformer.course.lab.experiment import SEEDS
from minitransformer.course.lab.intervals import Interval, t_interval, t_quantile
from minitransformer.course.lab.store import Store
from tests.course.lab.helpers import filled, rewritten, without

ARMS = [arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a made-up row for every cell."""
    return filled(tmp_path_factory.mktemp("lab") / "rows.jsonl", ARMS)


def test_two_arms_are_those_of_the_rows_and_made_up_ones_are_called_so(store, tmp_path):
    pair, infix = reading.two_arms(store), lab.EXPERIMENTS["infix"]
    assert (pair.one, pair.other) == tuple(arm.name for arm in infix.arms)
    assert pair.a == [row["scores"]["slots"] for row in infix.arms[0].rows(store)]
    nothing = reading.two_arms(Store(tmp_path / "none.jsonl"))
    assert nothing.one == "made up" and len(nothing.a) == len(nothing.b) == len(SEEDS)


def test_comparisons_are_with_the_first_arm_of_a_claim(store, tmp_path):
    found = reading.comparisons(store)
    init = lab.EXPERIMENTS["init"]
    two = found["init: random, 50 tables − task words, 50 tables"]
    assert two.drawn and two.a == [row["scores"]["slots"] for row in init.arm("random, 50 tables").rows(store)]
    assert not found["layers: top layer − embedding only"].drawn
    assert not any(label.startswith(("sport", "cost", "reparametrisation")) for label in found), "none states values"
    first = init.arms[0]
    less = without(rewritten(Store(tmp_path / "rows.jsonl"), store.rows), first.cells(store)[0])
    assert not any(label.startswith("init") for label in reading.comparisons(less))


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5.5], [0.3, -0.2, 0.25, 0.1, -0.1]])
def test_seeds_needed_are_the_first_number_whose_interval_keeps_clear_of_zero(values):
    mean, s = statistics.fmean(values), statistics.stdev(values)
    by_trying = next(n for n in range(2, 1001) if t_quantile(0.95, n - 1) * s / n**0.5 < abs(mean))
    assert reading.seeds_needed(t_interval(values)) == by_trying
    assert reading.seeds_needed(Interval(1e-9, 1.0, 5)) is None


def test_doubts_are_the_claims_that_do_not_hold(store):
    words = {claim.name: claim.verdict(store).word for claim in lab.CLAIMS}
    lines = reading.doubts(store)
    doubtful = [name for name, word in words.items() if word in ("does not hold here", "not decided here")]
    assert [line[:2] for line in lines] == [(name, words[name]) for name in doubtful] and doubtful
    assert all(len(line) == len(reading.DOUBTS) for line in lines)


def test_a_run_far_off_is_found(store, tmp_path):
    infix = lab.EXPERIMENTS["infix"]
    own, rows = [store.row(cell) for cell in infix.arms[0].cells(store)], []
    for row in store.rows:
        at = own.index(row) if row in own else None
        slots = row["scores"].get("slots") if at is None else 5.0 if at == 3 else 0.9 + at / 1000
        rows.append(row if slots is None else {**row, "scores": {**row["scores"], "slots": slots}})
    changed = rewritten(Store(tmp_path / "rows.jsonl"), rows)
    assert reading.far_off(infix, infix.checks[0], changed) == 3
    assert reading.far_off(infix, infix.checks[0], store) in (None, *SEEDS)


def test_the_best_arm_has_beside_it_what_cannot_be_told_from_it(store):
    arms = {arm.name: arm.rows(store) for arm in lab.EXPERIMENTS["layers"].arms}
    values = {name: [row["scores"]["slots"] for row in rows] for name, rows in arms.items()}
    best = max(values, key=lambda name: sum(values[name]))
    level = []
    for name, own in values.items():
        differences = [x - y for x, y in zip(values[best], own, strict=True)]
        if name != best and outcome(t_interval(differences)) == "open":
            level.append(name)
    said, beside = reading.best_of(arms, "slots")
    assert said.startswith(f"{best}: ") and beside == ("; ".join(level) or "nothing")
    least = min(values, key=lambda name: sum(values[name]))
    assert reading.best_of(arms, "slots", sign=-1)[0].startswith(f"{least}: ")
    assert reading.best_of({**arms, "another": None}, "slots") == (MISSING, "nothing")


def test_nothing_measured_gives_no_advice(tmp_path):
    store = Store(tmp_path / "none.jsonl")
    assert {best for _, best, _ in reading.advice(store)} == {MISSING}
    assert reading.doubts(store) == [] and reading.searches(store) == {} and reading.comparisons(store) == {}
    assert reading.smallest_near_full([], 0.95) is None
