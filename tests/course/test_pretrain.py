"""How the bases are made, as far as it can be seen without making them."""

import math

import torch

from minitransformer.course.pretrain import start_near
from minitransformer.models.bert import Bert, BertConfig
from tests.helpers import spreads


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
