"""What a computation makes for itself (positions, masks, rows), it makes where its inputs are.

A second device stands in for a GPU: "meta", whose tensors have no numbers. It is made the default one, so that whatever
does not ask for the inputs' device ends up there and cannot be computed with.
"""

import pytest
import torch

from minitransformer.models.classifier import Classifier
from minitransformer.models.layers import embed
from minitransformer.training import loop as training
from minitransformer.training.loop import TrainConfig, make_optimizer, train
from tests.helpers import mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
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
