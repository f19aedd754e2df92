"""Lesson 14 reads whatever the laboratory has measured: nothing, a part, or all; and it says what the rows say."""

import re
import shutil

import pytest

from minitransformer.course import figures, lab, runner, show
from minitransformer.course import lessons as course
from minitransformer.course.lab.claim import ANSWERED, FAILS, MISSING
from minitransformer.course.lab.experiment import used_rows
from minitransformer.course.lab.store import Store
from tests.course.lab.helpers import filled, rewritten

ARMS = [arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms]


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Store:
    """A store with a made-up row for every cell."""
    return filled(tmp_path_factory.mktemp("lab") / "rows.jsonl", ARMS)


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Runs the lesson on a copy of a store, or on none; gives what it prints less its code, with its folds undone."""

    def run(store: Store | None) -> str:
        if store:
            shutil.copy(store.path, tmp_path / "rows.jsonl")
        monkeypatch.setattr(lab, "FOLDER", tmp_path)
        monkeypatch.setattr(show, "ROOT", tmp_path)  # figures go there
        monkeypatch.setattr(show, "QUICK", False)
        monkeypatch.setenv("QUICK", "")
        # To lay the figures out takes longest.
        monkeypatch.setattr(figures, "picture", lambda figure, form: b"")
        runner.run(14)
        lines = capsys.readouterr().out.splitlines()
        return " ".join(" ".join(line for line in lines if not line.startswith("│")).split())

    run.figures = lambda: sorted(path.stem for path in (tmp_path / "figures" / "lesson_14").glob("*.png"))
    return run


def part_of(store: Store, path, *names: str) -> Store:
    """What these experiments rest on, and nothing else."""
    arms = [arm for name in names for arm in lab.EXPERIMENTS[name].arms]
    return rewritten(Store(path / "part.jsonl"), used_rows(arms, store))


def verdicts_in(text: str) -> list[str]:
    """The word for each claim, from the lesson's table of verdicts."""
    table = text.split("claim verdict", 1)[1]
    words = "holds here|does not hold here|not decided here|answered here|not measured yet"
    titles = [re.escape(claim.title) for claim in lab.CLAIMS]
    return [re.search(rf"\b{number} {title} ({words})", table)[1] for number, title in enumerate(titles, 1)]


def test_nothing_is_measured(told):
    text = told(None)
    assert f"0 of {len(lab.CLAIMS)} claims are measured so far" in text
    assert set(verdicts_in(text)) == {MISSING}
    for claim in lab.CLAIMS:
        assert f"Not measured yet: `make lab ARGS={claim.name}`" in text, f"nothing says how to measure {claim.name}"
    assert not told.figures(), "figures were drawn of nothing"


def test_a_part_is_measured(told, everything, tmp_path):
    whole = ("infix", "low_data")  # and with them, arms of other claims
    text = told(part_of(everything, tmp_path, *whole))
    expected = [claim.verdict(everything).word if claim.name in whole else MISSING for claim in lab.CLAIMS]
    assert verdicts_in(text) == expected
    assert f"{len(whole)} of {len(lab.CLAIMS)} claims are measured so far" in text
    assert "Not measured yet, but for 1 of 4 arms: `make lab ARGS=layers`" in text, "finished arms are not told"
    assert {"data", "paired", "prefixes"} <= set(told.figures())


def test_searches_alone(told, everything, tmp_path):
    searches = [row for row in used_rows(ARMS, everything) if row["cell"]["steps"] == 100 and not row["cell"]["write"]]
    text = told(rewritten(Store(tmp_path / "part.jsonl"), searches))
    assert re.search(r"[1-9]\d* of [1-9]\d* pairs change places", text) and "The searches are not run yet" not in text


def test_everything_is_measured(told, everything):
    text = told(everything)
    words = [claim.verdict(everything).word for claim in lab.CLAIMS]
    assert verdicts_in(text) == words
    assert "ot measured yet" not in text, "something is called not measured, though every cell has a row"
    for claim in lab.CLAIMS:
        verdict = claim.verdict(everything)
        for line in claim.outcomes(verdict)[: len(claim.checks)]:
            assert line in text, f"{claim.name}: its check is not told: {line}"
        # Between Chinese characters a line may end where there is no space.
        assert claim.untested.replace(" ", "") in text.replace(" ", ""), (
            f"{claim.name}: what it does not test is not told"
        )
    for word in set(words):
        assert f"{word}: {words.count(word)}" in text
    asked = [why for why in lab.WHYS if lab.EXPERIMENTS[why.why].verdict(everything).word in (FAILS, ANSWERED)]
    for why in asked:
        for line in why.outcomes(why.verdict(everything)):
            assert line in text, f"{why.name}: its check is not told: {line}"
    expected = ["budgets", "data", "elsewhere", "length", "methods", "paired", "prefixes", "price"]
    assert told.figures() == [*expected, *["why"] * bool(asked)]


def test_prose_states_no_measured_number():
    # A number in the prose would be true of some rows only. Sections, budgets and quantiles are not measured.
    prose = " ".join(cell.prose for cell in course.load(14).cells)
    numbers = re.findall(r"(?<![§\d.])\d+\.\d+", re.sub(r"§[\d.]+|0\.5 %|\b(1\.96|2\.8|2\.3)\b", "", prose))
    assert not numbers, f"measure these in the code instead: {numbers}"
