"""The comparison on a published BERT: the search's rule, resuming, and what a row says, on a tiny BERT."""

import json

import pytest
import torch

from minitransformer.course.data import default_tokenizer
from minitransformer.course.fingerprints import fingerprint as fingerprint_of
from minitransformer.course.own.base import Loaded
from minitransformer.course.real import measure, minilm
from minitransformer.course.real.measure import ARMS, RATES, Cell, search_cells
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.tuning import fingerprint


@pytest.fixture
def small(monkeypatch, tmp_path):
    torch.manual_seed(0)
    words = default_tokenizer()
    base = Bert(BertConfig(words.n_vocab, 64, n_layer=1, n_head=2, d_model=16, d_ff=32)).eval()
    monkeypatch.setattr(minilm, "load_minilm", lambda: Loaded(base, words, "tiny"))
    monkeypatch.setattr(minilm, "version", lambda: "tiny 1")
    for name, value in {"ROWS": tmp_path / "rows.jsonl", "STEPS": 3, "SEARCH_STEPS": 2, "N_VALID": 20}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(measure, "SEEDS", (1, 2))
    some = ("head alone", "head alone, on the mean", "prefix, P = 5", "full fine-tuning")
    monkeypatch.setattr(measure, "ARMS", {name: ARMS[name] for name in some})
    read = measure.topics.read
    monkeypatch.setattr(measure.topics, "read", lambda split: read(split)[:40])
    return base


def row_of(cell, loss):
    return {"cell": vars(cell), "loss": loss}


def test_the_search_moves_until_the_best_is_not_at_its_end():
    def rows(*losses, arm="LoRA, r = 8"):
        at = RATES.index(ARMS[arm].middle) - 1
        cells = [Cell(arm, lr, 0, measure.SEARCH_STEPS, "valid") for lr in RATES[at : at + len(losses)]]
        return {cell.key: row_of(cell, loss) for cell, loss in zip(cells, losses, strict=True)}

    tried = lambda found: [cell.lr for cell in search_cells("LoRA, r = 8", found)]  # noqa: E731
    assert tried({}) == tried(rows(1.0, 2.0)) == [1e-3, 3e-3, 1e-2], "a search that is not finished stays"
    assert tried(rows(2.0, 1.0, 2.0)) == [1e-3, 3e-3, 1e-2]
    assert tried(rows(3.0, 2.0, 1.0)) == [1e-3, 3e-3, 1e-2, 3e-2]
    assert tried(rows(3.0, 2.0, 1.0, 0.5)) == [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    assert tried(rows(1.0, 2.0, 3.0)) == [3e-4, 1e-3, 3e-3, 1e-2]
    assert measure.chosen("LoRA, r = 8", rows(3.0, 2.0, 1.0)) is None, "the next rate is not tried yet"
    assert measure.chosen("LoRA, r = 8", rows(2.0, 1.0, 1.5)) == 3e-3


@pytest.mark.slow
def test_it_measures_all_resumes_and_leaves_the_base_as_it_was(small, capsys):
    before = fingerprint(small)
    cells = measure.open_cells({})
    first = next(cells)
    measure.store(measure.Laboratory().run(first))
    measure.main()
    lines = capsys.readouterr().out.splitlines()
    assert not any(f"{first.arm} " in line and f"lr {first.lr:<7g} seed 0" in line for line in lines), "measured twice"
    rows = measure.read_rows()
    assert [one.arm for one in measure.results(rows)] == list(measure.ARMS)
    assert fingerprint(small) == before
    for row in rows.values():
        cell = row["cell"]
        assert (cell["split"] == "test") == (cell["seed"] != 0), "the test is scored with other seeds than the search"
        assert row["head"] == 16 * 8 + 8 and row["trained"] == trained(cell["arm"], small)
        assert row["made_from"]["torch"] == torch.__version__
    measure.main()
    assert measure.read_rows() == rows
    again = measure.Laboratory().run(Cell(**next(iter(rows.values()))["cell"]))
    stored = next(iter(rows.values()))
    assert {**again, "seconds": 0} == {**json.loads(json.dumps(stored)), "seconds": 0}


def trained(arm, base):
    config = base.config
    return {
        "prefix, P = 5": 5 * config.n_layer * 2 * config.d_model,
        "full fine-tuning": sum(p.numel() for p in base.parameters()),
    }.get(arm, 0)


def test_the_heads_alone_read_what_the_model_says(small):
    """The cached vectors are those of the model: the pooled one, and the mean over real tokens, one text at a time."""
    laboratory = measure.Laboratory()
    pooled, mean = (laboratory.frozen(arm)["test"] for arm in ("head alone", "head alone, on the mean"))
    for i, ids in enumerate(laboratory.ids["test"][:10]):
        with torch.no_grad():
            hidden = small(torch.tensor([ids]))  # (1, T, C)
            torch.testing.assert_close(pooled[i], small.pooled(hidden)[0])
        torch.testing.assert_close(mean[i], hidden[0].mean(0))


def test_the_stored_rows_rest_on_the_stored_sentences():
    stored = measure.read_rows()
    data = "-".join(fingerprint_of(measure.topics.FOLDER / f"{split}.jsonl") for split in measure.topics.SPLITS)
    for row in stored.values():
        cell = Cell(**row["cell"])
        assert cell.arm in ARMS and row["made_from"]["data"] == data, "make real measures it again; delete the old row"
        assert (cell.split, cell.steps) == (
            ("valid", measure.SEARCH_STEPS) if cell.seed == measure.SEARCH_SEED else ("test", measure.STEPS)
        )
