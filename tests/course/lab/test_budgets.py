"""The experiment "budgets": sizes meet their budgets, and what is told is what the rows say."""

import pytest

from minitransformer.course import show
from minitransformer.course.lab import budgets, cost, families
from minitransformer.course.lab.budgets import Budgets
from minitransformer.course.lab.families import BUDGETS, FAMILIES, FULL, PROTOCOLS, sized
from minitransformer.course.lab.report import shown
from minitransformer.course.lab.roster import own_methods
from minitransformer.course.lab.store import Store
from minitransformer.course.lab.tasks import LAB_TASKS
from minitransformer.errors import UserError
from minitransformer.tuning import IA3, LoRA
from tests.course.lab.helpers import TINY, filled, without
from tests.tuning.toy import Shift

PLAN = Budgets()
EVERY = [one for task in PROTOCOLS for one in sized(task)]


@pytest.fixture
def store(tmp_path):
    """A store with a made-up row for every cell of the experiment."""
    return filled(tmp_path / "rows.jsonl", PLAN.arms)


def test_sizes_meet_their_budgets():
    """Counted on the committed bases, by building each method."""
    for family, budget, size, arm in EVERY:
        if budget is not None:
            stored = families.count(family.of_size(size), families.one_base(LAB_TASKS[arm.task].base))
            off = stored / BUDGETS[budget] - 1
            assert abs(off) <= 0.1, f"{arm.name} on {arm.task}: {stored:,} parameters, {off:+.1%} off"


def test_budgets_are_the_shares_that_their_names_say():
    n_base = sum(p.numel() for p in families.one_base("gpt").parameters())
    for name, budget in BUDGETS.items():
        assert 100 * budget / n_base == pytest.approx(float(name.split()[0]), rel=0.05), name


@pytest.mark.parametrize("budget", [100, 330, 1000, 1400])
def test_the_closest_size_is_the_closest(budget):
    base = TINY["gpt"]()
    by_trying = {rank: families.count(LoRA(rank), base) for rank in range(1, 9)}  # r (2 C) numbers, q and v, two layers
    best = min(abs(stored - budget) for stored in by_trying.values())
    try:
        size = families.closest_size(LoRA, base, budget, most=8)
    except UserError as error:
        assert best > 0.1 * budget and "Leave it out" in str(error)
    else:
        assert abs(by_trying[size] - budget) == best <= 0.1 * budget


def test_no_size_comes_near():
    with pytest.raises(UserError, match="No size of IA3 keeps about 1,000,000 parameters on this GPT"):
        families.closest_size(lambda _: IA3(), TINY["gpt"](), 1_000_000, most=2)


def test_every_method_of_the_library_is_compared_and_its_cost_measured():
    compared = {type(family.of_size(1)).__name__ for family in FAMILIES if family.of_size}
    assert compared | set(families.NOT_COMPARED) == set(own_methods()), "no family, and no reason"
    measured = {type(make()) for make in cost.METHODS.values()}
    left = {name for name, kind in own_methods().items() if kind not in measured}
    assert all(own_methods()[name].reads_virtual_ids for name in left), f"nobody measures what {left} cost"


class Wide(LoRA):
    """A new method with a size: its first argument. It has no examples, for only this file is to know of it."""

    examples = {}

    def __init__(self, rank: int = 4) -> None:
        super().__init__(rank)


def test_a_new_method_is_compared_without_being_named(monkeypatch):
    monkeypatch.setattr(families, "own_methods", lambda: {**own_methods(), "Shift": Shift, "Wide": Wide})
    with_size, without = sorted(families.others(), key=lambda family: family.size, reverse=True)
    assert (with_size.name, with_size.size, with_size.budgets) == ("Wide", "rank", ("2 %",))
    size = families.closest_size(with_size.of_size, families.one_base("gpt"), BUDGETS["2 %"])
    assert with_size.of_size(size).settings["rank"] == 11, "as many as LoRA in q and v"
    assert (without.name, without.size, without.budgets) == ("Shift", "", ()) and isinstance(without.of_size(0), Shift)
    assert len({family.look for family in (*FAMILIES, with_size, without)}) == len(FAMILIES) + 2


def test_a_family_is_searched_once_at_its_middle_size():
    for task in PROTOCOLS:
        for family in FAMILIES:
            own = [one for one in sized(task) if one.family is family]
            if own and family.shots is None:
                assert len({one.arm.lr for one in own}) == 1, f"{family.name} on {task} is searched more than once"
                assert own[0].arm.lr.method is own[len(own) // 2].arm.method


def test_no_two_methods_have_the_same_cells():
    keys = [cell.key for one in EVERY for cell in one.arm.cells_at(0.1)]
    assert len(set(keys)) == len(keys)


def test_results_are_those_of_the_rows(store):
    for task in PROTOCOLS:
        found, main = PLAN.results(task, store), LAB_TASKS[task].score
        assert len(found) == len(sized(task))
        by_hand = {
            (one.family.name, one.budget): sum(row["scores"][main] for row in one.arm.rows(store)) / 5
            for one in sized(task)
        }
        for result in found:
            mean = by_hand[result.name, result.budget]
            assert result.scores[main].mean == pytest.approx(mean)
            assert result.of_full == pytest.approx(mean / by_hand[FULL, None])


def test_a_size_without_all_seeds_is_not_told(store):
    full = next(one for one in sized("reviews_gpt") if one.family.name == FULL)
    less = without(store, full.arm.cells(store)[3])
    names = [result.name for result in PLAN.results("reviews_gpt", less)]
    assert names and FULL not in names


def test_the_figure_is_drawn_from_the_rows(store, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    for task in PROTOCOLS:
        axes, found = Figure().subplots(), PLAN.results(task, store)
        budgets.plot(axes, found, task)
        main, lines = LAB_TASKS[task].score, {}
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
            lines[tick] = label.get_text()
        drawn = {}  # what stands at a line → where its mark and the ends of its bar are
        for bars in axes.containers:
            (x,), (y,) = bars.lines[0].get_data()
            ((left, _), (right, _)) = bars.lines[2][0].get_segments()[0]
            drawn[lines[y]] = (bars.get_label(), x, left, right)
        beside = [text.get_text() for text in axes.texts]
        assert len(lines) == len(found) == len(set(lines.values())), "a method has no line of its own"
        for result in found:
            value, own = result.scores[main], [line for line in drawn.values() if line[0] == result.name]
            expected = pytest.approx((value.mean, value.low, value.high))
            assert any(line[1:] == expected for line in own) or f"◂ {shown(value)}" in beside, result
    looks = [family.look for family in FAMILIES]
    assert len(set(looks)) == len(looks), "two methods look alike"
    monkeypatch.setattr(show, "ROOT", tmp_path)
    PLAN.draw(store)
    assert (tmp_path / "figures" / "budgets" / "quality.png").stat().st_size > 10_000


def test_the_readme_says_what_the_rows_say(store, monkeypatch):
    text = "\n".join(PLAN.section(store))
    for task in PROTOCOLS:
        _, _, told = text.partition(f"### {budgets.TITLES[task]}\n")
        for result in PLAN.results(task, store):
            start = f"| {result.name} | {result.size or '–'} | {result.stored:,} |"
            line = next(line for line in told.splitlines() if line.startswith(start))
            assert shown(result.scores[LAB_TASKS[task].score]) in line and f"{result.of_full:.1%}" in line
    searches = {one.arm.lr for one in EVERY if one.family.shots is None}
    assert text.count("**") == 2 * len(searches), "of each search, one learning rate is in bold"
    monkeypatch.setitem(EVERY[-2].arm.rows(store)[0], "scores", {"accuracy": 0.0})
    assert "\n".join(PLAN.section(store)) != text, "a row's score does not reach the README"


def test_an_experiment_that_is_mixed_says_so(store, monkeypatch):
    assert "code `x`;" in "\n".join(PLAN.section(store))
    monkeypatch.setitem(store.rows[0], "made_from", {"code": "y", "data": "x", "base": "x"})
    assert "code `x`, `y`;" in "\n".join(PLAN.section(store))


def test_nothing_measured_yet(tmp_path, monkeypatch):
    store = Store(tmp_path / "a.jsonl")
    assert "Nothing has been measured yet." in "\n".join(PLAN.section(store))
    monkeypatch.setattr(show, "ROOT", tmp_path)
    PLAN.draw(store)
    assert not (tmp_path / "figures").exists(), "a figure of nothing was drawn"
