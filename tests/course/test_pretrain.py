"""How the bases are made, as far as it can be seen without making them."""

import math

import pytest
import torch

from minitransformer.checkpoint import load_model
from minitransformer.course import pretrain, together
from minitransformer.course.pretrain import Phase, Recipe, start_near
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.training.losses import language_model_loss
from tests.helpers import random_ids, spreads
from tests.processes import needs_gloo
from tests.processes import together as in_processes


def test_a_bert_starts_with_sines_keys_like_queries_and_small_sums():
    torch.manual_seed(0)
    model = start_near(Bert(BertConfig(200, 50, n_layer=2, n_head=2, d_model=32, d_ff=64, init_std=0.1)))
    for position in range(50):
        for i in range(32):
            angle = position / 100 ** ((i - i % 2) / 32)
            expected = 0.1 * 5 / 3 * (math.cos(angle) if i % 2 else math.sin(angle))
            found = model.position_embedding.weight[position, i].item()
            assert abs(found - expected) < 1e-5, f"position {position}, channel {i}: {found:.4f}, not {expected:.4f}"
    for block in model.blocks:
        q, k, _ = block.attention.qkv.weight.chunk(3)
        assert torch.equal(q, k), "each position is to find what is like it"
    for name, spread in spreads(model).items():
        if name.startswith(("position", "type", "nsp")):
            continue  # sines; too few weights to tell
        expected = 0.1 / math.sqrt(2 * 2) if "out" in name or "down" in name else 0.1
        expected *= 2 if name.endswith(("qkv.weight0", "qkv.weight1")) else 1
        assert math.isclose(spread, expected, rel_tol=0.1), f"{name} has the spread {spread:.3f}, not {expected}"


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_processes_make_a_base_as_one_does(tmp_path, monkeypatch, precision):
    def source(phase, tokenizer, model):
        return lambda i: {"ids": random_ids(4, 9, seed=i)}, [{"ids": random_ids(3, 9, seed=1000)}]

    phases = (Phase("one", 20, 1e-2, warmup=2), Phase("two", 20, 3e-3, warmup=2))
    recipe = Recipe(GPTConfig(40, 16, n_layer=1, n_head=2, d_model=8, d_ff=16), phases, source, language_model_loss)
    monkeypatch.setattr(pretrain, "RECIPES", {"gpt": recipe})
    monkeypatch.setattr(pretrain, "SKILLS", {GPT: lambda model, tokenizer: {"counting": 0.5}})
    monkeypatch.setattr(pretrain, "EVAL_EVERY", 5)
    alone = pretrain.build("gpt", tmp_path / "alone", precision=precision)

    def work(rank):
        def build(kind):
            return pretrain.build(kind, tmp_path / "out", precision=precision)

        return pretrain.each(build, ["gpt"])

    first, second = in_processes(2, tmp_path, work)
    assert first == second and first[0]["skills"] == {"counting": 0.5}
    for ours, theirs in zip(first[0]["phases"], alone["phases"], strict=True):
        near = {"rtol": 1e-4 if precision == "fp32" else 1e-2, "atol": 0}
        torch.testing.assert_close(torch.tensor(ours["valid"]), torch.tensor(theirs["valid"]), **near)
        assert ours["tokens"] == theirs["tokens"]
    models = [load_model(tmp_path / folder / "gpt.safetensors", GPT, GPTConfig) for folder in ("alone", "out")]
    logits = [model(random_ids(2, 5)) for model in models]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-3 if precision == "fp32" else 5e-2)


@pytest.mark.parametrize(
    "device, gpus, says",
    [("mps", 0, "--device mps goes with one process"), ("cuda", 1, "There are 2 processes on this machine and 1 GPUs")],
)
def test_devices_that_processes_cannot_share_are_refused(monkeypatch, device, gpus, says):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UserError, match=says), together.joined(device):
        raise AssertionError("they were let in")
