"""What a computation makes for itself (positions, masks, rows), it makes where its inputs are.

A second device stands in for a GPU: "meta", whose tensors have no numbers. It is made the default one, so that whatever
does not ask for the inputs' device ends up there and cannot be computed with.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minitransformer.models.classifier import Classifier
from minitransformer.models.layers import embed
from minitransformer.training import loop as training
from minitransformer.training.loop import TrainConfig, make_optimizer, train
from minitransformer.training.state import _random_states, _set_random_states
from tests.helpers import GPT_CONFIG, mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.tuning.helpers import PAIRS, batch_for, loss_of, make, outputs

# These two make some whole numbers on the CPU, and PyTorch carries them over; from "meta" there is nothing to carry.
CARRIED = ("prompt", "lora", "lora-all")


@pytest.mark.parametrize("base, method", [pair for pair in PAIRS if pair[1] not in CARRIED])
def test_a_tuned_model_computes_where_its_inputs_are(base, method):
    base, method = make(base, method)
    method.attach(base)
    batch = batch_for(base, method)
    output, loss = outputs(base, batch), loss_of(base)(base, batch)[0]
    with torch.device("meta"):
        same, same_loss = outputs(base, batch), loss_of(base)(base, batch)[0]
    assert torch.equal(same, output) and torch.equal(same_loss, loss)


@pytest.mark.parametrize("make", [tiny_gpt, tiny_seq2seq])
def test_so_does_a_decoder_with_its_cache(make):
    model, ids = make(), random_ids(3, 8)
    inputs = {"source": random_ids(3, 5, seed=1)} if make is tiny_seq2seq else {}
    for attention_mask in (None, mask_of([8, 4, 6], 8, left=True)):
        for n in (1, 3):  # columns in the last call
            logits = []
            for device in ("cpu", "meta"):
                with torch.device("cpu"):
                    cache = model.new_cache()
                with torch.device(device):
                    model(
                        ids[:, :-n],
                        attention_mask=None if attention_mask is None else attention_mask[:, :-n],
                        cache=cache,
                        **inputs,
                    )
                    logits.append(model(ids[:, -n:], attention_mask=attention_mask, cache=cache, **inputs))
            assert torch.equal(*logits)


@pytest.mark.parametrize("make", [tiny_gpt, tiny_bert])
def test_so_does_a_classifier(make):
    model, ids, attention_mask = Classifier(make(), 3).eval(), random_ids(3, 6), mask_of([6, 2, 4], 6)
    expected = model(ids, attention_mask)
    with torch.device("meta"):
        assert torch.equal(model(ids, attention_mask), expected)


def test_so_do_virtual_tokens_of_each_row():
    words, ids, vectors = torch.nn.Embedding(5, 4), torch.tensor([[1, -1], [-2, 3]]), torch.randn(2, 2, 4)
    expected = embed(words, ids, vectors)
    with torch.device("meta"):
        assert torch.equal(embed(words, ids, vectors), expected)


def test_a_resumed_run_has_what_the_optimizer_remembers_where_the_weights_are(tmp_path, monkeypatch):
    ids, config, optimizers = random_ids(2, 6), TrainConfig(steps=2), []
    train(tiny_gpt(), lambda i: {"ids": ids}, config, checkpoint=tmp_path / "run", progress=False)

    def noted(*args):
        optimizers.append(make_optimizer(*args))
        return optimizers[-1]

    monkeypatch.setattr(training, "make_optimizer", noted)
    train(tiny_gpt().to("meta"), None, config, checkpoint=tmp_path / "run", progress=False)  # nothing is left to do
    (optimizer,) = optimizers
    assert optimizer.state
    for p, state in optimizer.state.items():
        assert {name: value.device.type for name, value in state.items()} == {
            "step": "cpu",
            "exp_avg": p.device.type,
            "exp_avg_sq": p.device.type,
        }, "AdamW counts steps on the CPU, and needs its averages beside the weights"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_run_that_goes_on_on_a_gpu_drops_out_what_it_would_have(tmp_path):
    """The checkpoint holds the GPU's random state, too."""
    config = TrainConfig(steps=6, checkpoint_every=1)

    def run(path, stop=None):
        def batches(i):
            if i == stop:
                raise KeyboardInterrupt
            return {"ids": random_ids(2, 6, seed=i).to("cuda")}

        torch.manual_seed(0)
        model = tiny_gpt(config=replace(GPT_CONFIG, dropout=0.3)).to("cuda")
        train(model, batches, config, checkpoint=path, progress=False)
        return [p.detach().clone() for p in model.parameters()]

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "state", stop=3)
    assert all(torch.equal(one, other) for one, other in zip(run(tmp_path / "state"), whole, strict=True))


def test_the_random_state_of_every_accelerator_with_tuned_weights_is_kept(monkeypatch):
    """As far as it can be seen without one: it is asked for, and given back to the device that it came from."""
    given = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([7, device.index]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: given.update({str(device): state.tolist()}))
    weights = {str(i): SimpleNamespace(device=torch.device("cuda", i)) for i in (0, 1)}
    states = _random_states(weights)
    assert sorted(states) == ["cpu", "cuda:0", "cuda:1"]
    _set_random_states(states)
    assert given == {"cuda:0": [7, 0], "cuda:1": [7, 1]}
