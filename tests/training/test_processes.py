"""Several processes train as one does: the same losses, weights and checkpoints, whatever each has to do of a batch."""

import os
import signal

import pytest
import torch
from torch import nn

from minitransformer.course.together import of_the_first
from minitransformer.models.classifier import Classifier
from minitransformer.text.batches import IGNORE
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import bert_loss, classification_loss, language_model_loss, seq2seq_loss
from minitransformer.training.processes import OtherProcessEnded, is_first, over_all_rows, own_rows
from minitransformer.tuning import FullFineTuning, LoRA, PrefixTuning, PromptTuning
from tests.helpers import GPT_CONFIG, mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.processes import needs_gloo, together

pytestmark = needs_gloo


def batches(i):
    """Six rows with unlike numbers of labels; in some batches a process has none, or fewer rows than processes."""
    n = 1 if i % 4 == 3 else 6
    ids = random_ids(n, 9, seed=i)
    labels = ids.clone()
    for row in range(n):
        labels[row, : 1 + (3 * row + i) % 8] = IGNORE
    if i % 4 == 2:
        labels[1::2] = IGNORE
    return {"ids": ids, "labels": labels}


def pairs(i):
    ids, source = random_ids(5, 7, seed=i), random_ids(5, 6, seed=100 + i)
    return {"ids": ids, "source": source, "source_mask": mask_of([6, 2, 4, 1, 5], 6)}


def classes(i):
    return {"ids": random_ids(5, 7, seed=i), "label": torch.arange(5) % 3}


def hidden(i):
    """Masked words of a BERT, more of them in the first rows, and whether the second sentence follows."""
    ids = random_ids(5, 8, seed=i)
    labels = torch.where(torch.arange(8) < torch.tensor([[6], [1], [3], [2], [5]]), ids, IGNORE)
    return {"ids": ids, "labels": labels, "next_label": torch.arange(5) % 2}


def plain():
    return tiny_gpt().requires_grad_(True)


def tuned(method, base=tiny_gpt):
    def make():
        torch.manual_seed(0)
        model = base()
        method().attach(model)
        return model

    return make


def classifier():
    torch.manual_seed(0)
    model = Classifier(tiny_bert(), 3)
    PrefixTuning(3).attach(model)
    return model


CASES = {
    "everything": (plain, batches, language_model_loss),
    "prefix": (tuned(lambda: PrefixTuning(3)), batches, language_model_loss),
    "prefix by an MLP": (tuned(lambda: PrefixTuning(3, reparametrise=6)), batches, language_model_loss),
    "prompt": (tuned(lambda: PromptTuning(3)), batches, language_model_loss),
    "lora": (tuned(lambda: LoRA(2)), batches, language_model_loss),
    "full": (tuned(FullFineTuning), batches, language_model_loss),
    "classifier": (classifier, classes, classification_loss),
    "two texts": (tuned(lambda: PrefixTuning(3), tiny_seq2seq), pairs, seq2seq_loss),
    "masked words": (lambda: tiny_bert().requires_grad_(True), hidden, bert_loss),
}


def run(case, checkpoint=None, steps=6, stop=None, **settings):
    """Losses, validation losses and trained weights of a run."""
    make, source, loss = CASES[case]
    model = make()

    def give(i):
        if i == stop:
            raise KeyboardInterrupt
        return source(i)

    if checkpoint is None:
        settings.pop("checkpoint_every", None)
    config = TrainConfig(steps, lr=0.01, eval_every=2, **settings)
    valid = [source(1000), source(1001)]
    try:
        log = train(model, give, config, valid=valid, loss=loss, checkpoint=checkpoint, progress=False)
    except KeyboardInterrupt:
        return None
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return [[row["loss"], row["grad_norm"], row["tokens"]] for row in log.train], log.valid, weights


def assert_same(one, other, exactly=False):
    near = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(torch.tensor(one[0]), torch.tensor(other[0]), **near)
    validated = [torch.tensor([row["loss"] for row in valid]) for valid in (one[1], other[1])]
    torch.testing.assert_close(*validated, **near)
    if exactly:  # to rounding they need not be alike: a key's bias has no gradient but rounding, and Adam scales it up
        torch.testing.assert_close(one[2], other[2], **near)


QUICK = ("everything", "prefix", "masked words")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_two_processes_train_as_one_does(tmp_path, case):
    alone = run(case)
    first, second = together(2, tmp_path, lambda rank: run(case))
    assert_same(first, alone)
    assert_same(first, second, exactly=True)


@pytest.mark.slow
def test_so_do_three_with_batches_that_are_summed_some_without_a_label(tmp_path, monkeypatch):
    def some_empty(i):
        batch = batches(i)
        return batch if i % 3 else {**batch, "labels": torch.full_like(batch["labels"], IGNORE)}

    make, _, loss = CASES["prefix"]
    monkeypatch.setitem(CASES, "prefix", (make, some_empty, loss))
    alone = run("prefix", accumulate=2)
    for found in together(3, tmp_path, lambda rank: run("prefix", accumulate=2)):
        assert_same(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, before, after):
    def some(size, work):
        return together(size, tmp_path, work)[0] if size > 1 else work(0)

    alone, path = run("everything", checkpoint_every=2), tmp_path / "state"
    assert some(before, lambda rank: run("everything", path, stop=5, checkpoint_every=2)) is None
    assert path.is_file()
    assert_same(some(after, lambda rank: run("everything", path, checkpoint_every=2)), alone)


@pytest.mark.slow
def test_a_resumed_run_of_two_drops_out_what_one_that_never_stopped_does(tmp_path, monkeypatch):
    def work(path, stop=None):
        def of(rank):
            torch.manual_seed(3)
            return run("dropout", path, stop=stop, checkpoint_every=2)

        return of

    config = type(GPT_CONFIG)(**{**vars(GPT_CONFIG), "dropout": 0.3})
    case = (lambda: tiny_gpt(config=config).requires_grad_(True), batches, language_model_loss)
    monkeypatch.setitem(CASES, "dropout", case)
    whole, _ = together(2, tmp_path, work(tmp_path / "whole"))
    together(2, tmp_path, work(tmp_path / "state", stop=5))
    resumed, _ = together(2, tmp_path, work(tmp_path / "state"))
    assert_same(resumed, whole, exactly=True)


@pytest.mark.slow
def test_processes_drop_out_differently(tmp_path):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(200))

        def forward(self, ids):
            return nn.functional.dropout(self.weight, 0.5)

    def work(rank):
        model, seen = Dropped(), []

        def loss(model, batch):
            seen.append(model(batch["ids"]))
            return seen[-1].sum(), 1

        over_all_rows(model, loss)(model, {"ids": random_ids(2, 3)})
        return seen[0].detach() > 0, torch.get_rng_state()

    (one, state), (other, other_state) = together(2, tmp_path, work)
    assert 50 < int((one != other).sum()) < 150, "of 200 coins about half fall differently"
    assert torch.equal(state, other_state), "outside of the loss all processes draw alike"


def test_one_killed_ends_the_other_which_saves(tmp_path):
    path = tmp_path / "state"

    def work(rank):
        def give(i):
            if rank == 1 and i == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return batches(i)

        train(plain(), give, TrainConfig(6, lr=0.01), checkpoint=path, progress=False)

    alone = run("everything")
    error, _ = together(2, tmp_path, work)
    assert isinstance(error, OtherProcessEnded)
    assert str(error).startswith("Another process of this training has ended, so this one ends too, after 3 steps. ")
    assert f"{path} holds the last checkpoint" in str(error)
    model = plain()
    log = train(model, batches, TrainConfig(6, lr=0.01), checkpoint=path, progress=False)
    assert [row["loss"] for row in log.train] == pytest.approx([row[0] for row in alone[0]], rel=1e-4)


@pytest.mark.slow
def test_an_error_of_the_models_own_is_no_lost_process(tmp_path):
    def work(rank):
        def loss(model, batch):
            raise RuntimeError("shapes do not fit")

        with pytest.raises(RuntimeError, match="shapes do not fit"):
            train(plain(), batches, TrainConfig(1), loss=loss, progress=False)
        return True

    assert together(2, tmp_path, work) == [True, True]


@pytest.mark.slow
def test_a_loss_that_is_nan_ends_all_of_them_alike(tmp_path):
    def work(rank):
        def loss(model, batch):
            total, count = language_model_loss(model, batch)
            return total * (float("nan") if rank == 1 else 1), count

        train(plain(), batches, TrainConfig(2), loss=loss, progress=False)

    for error in together(2, tmp_path, work):
        assert "The loss became nan" in str(error)


def test_the_first_process_speaks_for_all(tmp_path):
    assert together(2, tmp_path, lambda rank: (is_first(), of_the_first({"rank": rank}))) == [
        (True, {"rank": 0}),
        (False, {"rank": 0}),
    ]
    assert is_first() and of_the_first(3) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_row_is_taken_once(size):
    batch = {"ids": random_ids(4, 3), "labels": torch.tensor([[5, 6, IGNORE]] * 4)}
    parts = [own_rows(batch, rank, size) for rank in range(size)]
    rows = torch.cat([part["ids"] for part, counts in parts if counts])
    assert sorted(rows.tolist()) == sorted(batch["ids"].tolist())
    assert all(len(part["ids"]) and part["whole"].tolist() == [8, 4] for part, _ in parts)


def test_alone_the_loss_is_itself():
    assert over_all_rows(plain(), language_model_loss) is language_model_loss
    assert evaluate(plain(), [batches(0)]) > 0
