"""The bases in data/bases/: they load, they are what their recipe says, they can do what stands beside them."""

import math
from pathlib import Path

import pytest

from minitransformer.checkpoint import load_tensors
from minitransformer.course import pretrain, skills
from minitransformer.course.bases import FOLDER, KINDS, TUNED, about_base, load_base, prefix_path
from minitransformer.course.data import default_tokenizer
from minitransformer.errors import UserError
from minitransformer.tuning import PrefixTuning, load


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_is_what_its_recipe_says(kind):
    model, about = load_base(kind), about_base(kind)
    assert model.config == pretrain.RECIPES[kind].config, "the checkpoint and the recipe have other sizes"
    assert not model.training
    assert [(p["mix"], p["steps"], p["lr"]) for p in about["phases"]] == [
        (p.mix, p.steps, p.lr) for p in pretrain.RECIPES[kind].phases
    ], "data/bases/ was made by another recipe than pretrain.py has: run make pretrain"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_skills_are_measured_again(kind):
    """What stands beside the weights is what a measurement gives now, up to the rounding of another machine."""
    model = load_base(kind)
    measured = skills.SKILLS[type(model)](model, default_tokenizer())
    stored = about_base(kind)["skills"]
    assert measured.keys() == stored.keys()
    for skill, value in measured.items():
        assert math.isclose(value, stored[skill], abs_tol=0.03), f"{kind}, {skill}: stored {stored[skill]}, now {value}"


def test_datasheet_is_about_these_files():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == pretrain.datasheet()


def test_unknown_base():
    with pytest.raises(UserError, match="no base 'llama'; there are gpt, bert, seq2seq"):
        load_base("llama")
    with pytest.raises(UserError, match="no base 'llama'; there are gpt, bert, seq2seq"):
        pretrain.build("llama")


def test_missing_base(tmp_path, monkeypatch):
    monkeypatch.setattr("minitransformer.course.bases.FOLDER", tmp_path)
    with pytest.raises(UserError, match="gpt.safetensors is missing.*make pretrain"):
        load_base("gpt")


def test_counting_what_was_copied():
    assert skills.copied("a b c", "a x c d") == (2, 3)
    assert skills.copied("a b c", "a") == (1, 3)
    assert skills.kept(["Mira", "12"], "In 12 days Mira came.") == (2, 2)
    assert skills.share([(1, 2), (0, 2)]) == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pretraining_runs_and_repeats(kind, tmp_path, monkeypatch):
    """A run of 20 steps, twice, gives the same weights: what a base is depends on its recipe alone."""
    monkeypatch.setattr(pretrain, "SKILLS", {model: lambda model, tokenizer: {} for model, _ in KINDS.values()})
    for folder in ("a", "b"):
        pretrain.build(kind, tmp_path / folder, shrink=10_000)
    a, b = (load_tensors(tmp_path / folder / f"{kind}.safetensors")[0] for folder in ("a", "b"))
    assert all(a[name].equal(b[name]) for name in a)
    if len(pretrain.RECIPES[kind].phases) == 1:
        return
    states = sorted((tmp_path / "a" / pretrain.UNFINISHED.name).iterdir())
    states[-1].unlink()  # as if it had been stopped before the last phase
    pretrain.build(kind, tmp_path / "a", shrink=10_000)
    again = load_tensors(tmp_path / "a" / f"{kind}.safetensors")[0]
    assert all(again[name].equal(b[name]) for name in b), "a run taken up after a finished phase ends elsewhere"


@pytest.mark.parametrize("task", pretrain.PREFIXES)
def test_the_tuned_prefixes_belong_to_the_gpt(task):
    """All of one length, so that a batch may mix them."""
    method = load(prefix_path(task), load_base("gpt"))
    assert isinstance(method, PrefixTuning) and method.length == 20


def test_there_is_a_prefix_file_for_each_task_and_no_other():
    assert set(TUNED.glob("*.safetensors")) == {prefix_path(task) for task in pretrain.PREFIXES}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["qa", "pirate"])
def test_tuning_a_prefix_repeats(task, tmp_path):
    for name in ("a", "b"):
        pretrain.tune_prefix(task, tmp_path / name, shrink=10_000)
    a, b = (load_tensors(prefix_path(task, tmp_path / name))[0] for name in ("a", "b"))
    assert a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


@pytest.mark.parametrize(
    ("asked", "quick", "bases", "prefixes"),
    [
        ((), False, ["gpt", "bert", "seq2seq"], True),
        (["gpt"], True, ["gpt"], True),  # the prefixes belong to its weights
        (["bert"], False, ["bert"], False),
        (["prefixes"], False, [], True),
        (["prefixes"], True, [], True),
        (["seq2seq", "prefixes"], True, ["seq2seq"], True),
    ],
)
def test_what_make_pretrain_trains_and_where(asked, quick, bases, prefixes, monkeypatch):
    """A trial run (QUICK=1) takes a 200th of the steps, and writes beside the committed files, not over them."""
    trained, tuned = [], []
    monkeypatch.setattr(pretrain, "QUICK", quick)
    monkeypatch.setattr(pretrain, "for_each", lambda work, items: [work(item) for item in items])
    monkeypatch.setattr(pretrain, "pretrain", lambda kinds, how: trained.extend(kinds))

    def tune(task: str, folder: Path, shrink: int, device: str, precision: str) -> None:
        assert (device, precision) == ("cpu", "fp32"), "without a wish, on the CPU in full precision"
        tuned.append((task, folder, shrink))

    monkeypatch.setattr(pretrain, "tune_prefix", tune)
    pretrain.main(asked)
    assert trained == bases
    folder, shrink = (TUNED / "trial", 200) if quick else (TUNED, 1)
    assert tuned == [(task, folder, shrink) for task in pretrain.PREFIXES if prefixes]


def test_unknown_things_to_pretrain():
    with pytest.raises(UserError, match="no base 'prefix'; there are gpt, bert, seq2seq"):
        pretrain.main(["prefix"])
    with pytest.raises(UserError, match="There is no task 'poems'; there are dialogue"):
        pretrain.tune_prefix("poems")
