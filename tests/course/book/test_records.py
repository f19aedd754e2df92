"""Records: which are stale, what counts as the same outcome, and that the committed ones hold."""

import json

import pytest

from minitransformer.course.book import living, living_record, records


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("loss 1.234", "loss 1.235", True),
        ("loss 1.234", "loss 1.534", False),
        ("loss 1.234", "cost 1.234", False),
        ("took 3 seconds", "took 9 seconds", True),
        ("20,480 parameters", "20,480 parameters", True),
        ("−0.5 nats", "0.5 nats", False),
        ("2e-07 apart", "1e-07 apart", True),
    ],
)
def test_alike(one, other, same):
    assert records.alike({"kind": "say", "text": one}, {"kind": "say", "text": other}) is same


def test_alike_of_tables():
    table = {"kind": "table", "headers": ["a"], "rows": [["0.50", {"text": "██", "bar": 0.5}]], "right": [True]}
    other = json.loads(json.dumps(table).replace("0.50", "0.70"))
    assert records.alike(table, table)
    assert not records.alike(table, other)


def test_every_figure_has_its_script_and_its_numbers():
    numbers = living.read(living_record.LIVING)
    for figure in living.FIGURES:
        assert (living.PAGE / "living" / f"{figure.name}.js").is_file()
        page = living.html(figure, numbers[figure.name])
        assert '<div class="still"><' in page, f"{figure.name} has no still picture"


@pytest.mark.ci
def test_the_figures_numbers_are_those_of_the_committed_base():
    assert not living_record.is_stale(), "the living figures' numbers are stale: make record"


@pytest.mark.ci
def test_committed_records_hold():
    kept = records.read_all()
    assert kept, "no lesson is recorded: make record"
    wrong = [sentence for number, sentence in records.stale(kept).items() if number in kept]
    assert not wrong, "\n".join(wrong)
