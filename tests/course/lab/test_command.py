"""The command: trials change nothing, what is written is what the rows say, and the committed rows are not stale."""

import hashlib
import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from minitransformer.course import lab, show
from minitransformer.course.lab import pool
from minitransformer.course.lab.cells import Cell
from minitransformer.course.lab.claim import ANSWERED, FAILS, MISSING
from minitransformer.course.lab.experiment import used_rows
from minitransformer.course.lab.pool import PACES, work
from minitransformer.course.lab.report import markdown
from minitransformer.course.lab.run import run_cell
from minitransformer.course.lab.store import Store
from minitransformer.errors import UserError
from tests.course.lab.helpers import fake_row, filled, use_tiny_bases

README = "# Top\n\n<!-- verdicts -->\nold\n<!-- /verdicts -->\n\nEnd\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The laboratory in an empty folder, with cells that are no work."""
    use_tiny_bases(monkeypatch)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    monkeypatch.setattr(lab, "carry_out", lambda arms, store: pool.carry_out(arms, store, fake_row))
    monkeypatch.setattr(lab, "FOLDER", tmp_path / "lab")
    monkeypatch.setattr(lab, "README", tmp_path / "README.md")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    lab.README.write_text(README, encoding="utf-8")
    return tmp_path / "lab"


def test_unknown_experiment():
    with pytest.raises(UserError, match="no experiment 'alchemy'; there are first_claim, low_data.*, budgets"):
        lab.main(["alchemy"])


@pytest.mark.parametrize("draw", [False, True])
def test_without_a_name_claims_are_measured_and_everything_is_drawn(folder, draw, monkeypatch, capsys):
    arms = []
    monkeypatch.setattr(lab, "carry_out", lambda given, store: arms.extend(given))
    lab.main(draw=draw)
    claims = (*lab.CLAIMS, *lab.WHYS)
    expected = [] if draw else [arm for claim in claims for arm in (*claim.arms, *claim.company)]
    assert {id(arm) for arm in arms} == {id(arm) for arm in expected}
    told = capsys.readouterr().out
    assert all(claim.title in told for claim in lab.CLAIMS)
    assert ("Reviews, on the GPT" in told) == draw


def test_a_trial_leaves_the_rows_alone(folder, monkeypatch, capsys):
    monkeypatch.setattr(lab, "QUICK", True)
    lab.main()
    written = [path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*.*")]
    assert written == ["trial/rows.jsonl"]
    assert lab.README.read_text(encoding="utf-8") == README
    rows = Store(folder / "trial" / "rows.jsonl").rows
    claim = lab.EXPERIMENTS[lab.ON_TRIAL]
    assert rows and {row["cell"]["seed"] for row in rows} == {0}
    assert {row["cell"]["split"] for row in rows} == {"valid"}, "a trial is not judged by the test"
    told = capsys.readouterr().out
    assert claim.title in told and all(arm.name in told for arm in claim.arms)


def test_a_run_writes_rows_figure_and_both_readmes(folder, capsys):
    lab.main(["infix"])
    claim, store = lab.EXPERIMENTS["infix"], Store(folder / "rows.jsonl")
    assert len(store.rows) == 2 * (3 + 5)
    assert (folder / "README.md").read_text(encoding="utf-8") == lab.datasheet()
    top, word = lab.README.read_text(encoding="utf-8"), claim.verdict(store).word
    assert f"| [{claim.title}](data/lab/README.md#infix) | 003 §4.2 | **{word}** |" in top
    assert top.startswith("# Top\n\n<!-- verdicts -->\n") and top.endswith("\n<!-- /verdicts -->\n\nEnd\n")
    assert "\nold\n" not in top and lab.with_verdicts(top) == top
    told = capsys.readouterr().out
    assert "Figure saved: figures/claim/infix.png" in told and "other code" not in told


def test_the_rows_are_told_without_measuring(folder, monkeypatch, capsys):
    folder.mkdir()
    filled(folder / "rows.jsonl", lab.EXPERIMENTS["sport"].arms)
    monkeypatch.setattr(lab, "carry_out", None)
    lab.main(["sport"], draw=True)
    told = " ".join(capsys.readouterr().out.split())
    assert "Figure saved: figures/claim/sport.png" in told
    assert "16 of these 16 rows come from other code than today's; --again measures them anew." in told


def test_again_measures_what_other_code_has_measured(folder, monkeypatch, capsys):
    lab.main(["infix"])
    path = folder / "rows.jsonl"
    path.write_text(re.sub('"code": "[0-9a-f]{16}"', '"code": "y"', path.read_text(encoding="utf-8"), count=3))
    monkeypatch.setattr(lab, "carry_out", lambda arms, store: pool.carry_out(arms, store, None))
    lab.main(["infix"])  # nothing to be measured: None would be called otherwise
    assert "3 of these 16 rows" in capsys.readouterr().out
    monkeypatch.setattr(lab, "carry_out", lambda arms, store: pool.carry_out(arms, store, fake_row))
    lab.main(["infix"], again=True)
    assert "other code" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["nothing", README + README, README.replace("/verdicts", "verdicts")])
def test_a_readme_without_its_marks_is_refused(text):
    with pytest.raises(UserError, match="needs the marks <!-- verdicts --> and <!-- /verdicts --> once each"):
        lab.with_verdicts(text)


def test_tables_of_markdown():
    assert markdown(["a", "b"], [["x", "1"]], text=1) == ["| a | b |", "| --- | ---: |", "| x | 1 |"]


# ------------------------------------------------------------------------------------ what is committed

STORE = Store(lab.FOLDER / "rows.jsonl")


def test_the_committed_readmes_are_what_the_committed_rows_say():
    text = (lab.FOLDER / "README.md").read_text(encoding="utf-8")
    assert text == lab.datasheet(), "run python -m minitransformer lab --draw"
    text = lab.README.read_text(encoding="utf-8")
    assert text == lab.with_verdicts(text), "run python -m minitransformer lab --draw"


def test_committed_rows_are_of_the_committed_data_and_bases():
    for name, experiment in lab.EXPERIMENTS.items():
        for row in used_rows(experiment.arms, STORE):
            cell = Cell(**row["cell"])
            assert STORE.is_finished(cell), f"{cell}: made from other data or another base. make lab ARGS={name}"


def test_committed_rows_are_numbers():
    for row in STORE.rows:
        besides = [value for scores in row.get("also", {}).values() for value in scores.values()]
        assert all(map(math.isfinite, [*row["scores"].values(), row["loss"], *besides])), row["cell"]
        assert re.fullmatch(r"[0-9a-f]{16}", row["made_from"]["code"])


NEXT = {"low_data_news", "length_by_task"}
"""Claims whose plan is written down, and whose runs come with the next measurement of all."""


def test_every_claim_has_its_verdict():
    missing = {claim.name for claim in (*lab.CLAIMS, *lab.WHYS) if claim.verdict(STORE).word == MISSING} - NEXT
    assert not missing, f"not measured: make lab ARGS='{' '.join(missing)}'"


def test_of_every_claim_that_fails_it_is_asked_why():
    failing = {claim.name for claim in lab.CLAIMS if claim.verdict(STORE).word in (FAILS, ANSWERED)}
    assert failing == {why.why for why in lab.WHYS}, "claims/why.py asks about those that fail, and about no others"


def sample() -> list[Cell]:
    """Of every task the cell that is soonest trained and scored, once with texts, if it is one of texts, and once
    without; if several are, the one whose key has the lowest hash.
    """  # noqa: D205
    first: dict[tuple, tuple] = {}
    for row in used_rows((arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms), STORE):
        cell = Cell(**row["cell"])
        if cell.steps:
            rank = work(cell), hashlib.sha256(cell.key.encode()).hexdigest()
            kind = cell.task, cell.write and PACES[cell.task].text > 0
            first[kind] = min(first.get(kind, (rank, cell)), (rank, cell), key=lambda one: one[0])
    return [cell for _, cell in first.values()]


@pytest.mark.slow
@pytest.mark.parametrize("cell", sample(), ids=str)
def test_a_sample_of_committed_cells_is_measured_again(cell):
    """The rounding of another machine may move a loss by 0.02, a share by 0.05, BLEU and ROUGE by 3 of 100."""
    row, again = STORE.row(cell), run_cell(cell)
    advice = f"{cell} gives something else than its row says: python -m minitransformer lab --again"
    assert again["loss"] == pytest.approx(row["loss"], abs=0.02), advice
    for name, value in row["scores"].items():
        assert again["scores"][name] == pytest.approx(value, abs=0.05 if value <= 1 else 3.0), f"{name}: {advice}"
    assert (again["stored"], again["trained"]) == (row["stored"], row["trained"]), advice
