"""BERT without the transformers library: torch's own layer, both directions, padding, prefixes, errors."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from minitransformer.checkpoint import load_model, save_model
from minitransformer.course.batches.masking import mask_tokens
from minitransformer.errors import UserError
from minitransformer.models import bert
from minitransformer.models.attention import Prefix
from minitransformer.models.bert import Bert, BertConfig, PostNormBlock
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import bert_loss
from tests.helpers import (
    BERT_CONFIG,
    assert_close,
    mask_of,
    random_ids,
    random_prefix,
    randomise,
    record_drops,
    record_keys_and_values,
    spreads,
    tiny_bert,
)

B, T, L, H, D = 3, 7, 3, 2, 4


def prefix_of(length, batch=1, seed=0):
    return random_prefix(L, H, D, length, batch, seed)


@torch.no_grad()
def test_a_layer_is_torchs_own():
    ours = randomise(PostNormBlock(8, 2, 20, dropout=0.0, eps=1e-12))
    theirs = nn.TransformerEncoderLayer(8, 2, 20, 0.0, "gelu", 1e-12, batch_first=True, norm_first=False).eval()
    attention = theirs.self_attn
    pairs = [
        (attention.in_proj_weight, ours.attention.qkv.weight),
        (attention.in_proj_bias, ours.attention.qkv.bias),
        (attention.out_proj.weight, ours.attention.out.weight),
        (attention.out_proj.bias, ours.attention.out.bias),
    ]
    modules = [(theirs.linear1, ours.mlp.up), (theirs.linear2, ours.mlp.down)]
    modules += [(theirs.norm1, ours.norm1), (theirs.norm2, ours.norm2)]
    for a, b in modules:
        pairs += [(a.weight, b.weight), (a.bias, b.bias)]
    for a, b in pairs:
        a.copy_(b)
    x, attention_mask = torch.randn(B, T, 8), mask_of([7, 3, 5], T)
    expected = theirs(x, src_key_padding_mask=~attention_mask)
    assert_close(
        ours(x, attention_mask, None)[attention_mask], expected[attention_mask], "post-norm: normalise after each sum"
    )


def test_how_weights_start():
    model = Bert(BertConfig(200, 50, n_layer=2, n_head=2, d_model=32, d_ff=64, init_std=0.1))
    for name, spread in spreads(model).items():
        if name.startswith(("type", "nsp")):
            continue  # too few weights to tell
        assert math.isclose(spread, 0.1, rel_tol=0.1), f"{name} has the standard deviation {spread:.3f}, not 0.1"


def test_dropout_stands_behind_the_embeddings_and_each_sublayer(monkeypatch):
    model = tiny_bert(config=dataclasses.replace(BERT_CONFIG, dropout=0.3))
    for training in (True, False):
        seen = record_drops(monkeypatch, lambda: model.train(training)(random_ids(1, T)), bert)  # noqa: B023
        assert seen == [(0.3, training)] * (1 + 2 * L)
    assert [m.dropout for m in model.modules() if hasattr(m, "dropout")] == [0.3] * 2 * L, "block, attention, block, …"


def test_the_norms_add_to_the_variance_what_berts_own_add():
    assert {m.eps for m in tiny_bert().modules() if isinstance(m, nn.LayerNorm)} == {1e-12}


def test_every_position_sees_every_other():
    model, ids = tiny_bert(), random_ids(1, T)
    before = model(ids)
    for t in range(T):
        changed = ids.clone()
        changed[0, t] = (changed[0, t] + 1) % 40
        moved = (model(changed) - before).abs().amax(-1)[0]
        assert (moved > 1e-6).all(), f"a change at {t} must reach every position, before it and after"


def test_padding_changes_nothing():
    model, ids, types = tiny_bert(), random_ids(B, T), (torch.arange(T) > 2).long().expand(B, T)
    lengths = [7, 3, 5]
    together = model(ids, attention_mask=mask_of(lengths, T), types=types)
    for row, n in enumerate(lengths):
        alone = model(ids[row : row + 1, :n], types=types[:1, :n])
        assert_close(together[row, :n], alone[0], f"row {row}: padding was read, or took a position")


def test_padding_on_the_left_changes_nothing_either():
    model, ids = tiny_bert(), random_ids(B, T)
    together = model(ids, attention_mask=mask_of([7, 3, 5], T, left=True))
    for row, n in enumerate([7, 3, 5]):
        alone = model(ids[row : row + 1, T - n :])
        assert_close(together[row, T - n :], alone[0], f"row {row}: padding was read, or took a position")


def test_types_matter_and_none_is_zero():
    model, ids = tiny_bert(), random_ids(B, T)
    assert torch.equal(model(ids), model(ids, types=torch.zeros_like(ids)))
    assert not torch.allclose(model(ids), model(ids, types=torch.ones_like(ids)))


def test_heads_have_their_shapes_and_at_selects():
    model, ids = tiny_bert(), random_ids(B, T)
    hidden = model(ids)
    assert model.pooled(hidden).shape == (B, 8) and model.nsp_logits(hidden).shape == (B, 2)
    at = mask_of([1, 0, 3], T)
    assert_close(model.mlm_logits(hidden, at), model.mlm_logits(hidden)[at], "logits only where asked")
    assert model.mlm_logits(hidden, at).shape == (4, 40)


@torch.no_grad()
def test_the_mlm_head_by_torchs_own_layers():
    model, x = tiny_bert(), torch.randn(B, T, 8)
    theirs = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8, 1e-12), nn.Linear(8, 40))
    for name, p in (("0", model.mlm.dense), ("2", model.mlm.norm)):
        theirs.get_submodule(name).load_state_dict(p.state_dict())
    theirs[3].load_state_dict({"weight": model.token_embedding.weight, "bias": model.mlm.bias})
    assert_close(model.mlm_logits(x), theirs(x), "Norm(gelu(W x + b)), then the embedding and a bias")


def test_the_mlm_head_is_tied_to_the_embedding():
    model = tiny_bert()
    model.mlm_logits(model(random_ids(1, T))).sum().backward()
    names = [name for name, p in model.named_parameters() if p.dim() == 2 and p.size(0) == 40]
    assert names == ["token_embedding.weight"], "one matrix both reads and says words"


@torch.no_grad()
def test_virtual_tokens_are_words_with_the_vectors_given():
    model, ids, vectors = tiny_bert(), random_ids(B, T), torch.randn(2, 8)
    ids[0, 1], ids[0, 2], ids[2, 6] = -2, -1, -1
    larger = tiny_bert(config=BertConfig(**{**vars(BERT_CONFIG), "vocab_size": 42}))
    table = torch.cat([model.token_embedding.weight, vectors])
    bias = torch.zeros(42)  # of the head for masked words, which is not asked
    larger.load_state_dict({**model.state_dict(), "token_embedding.weight": table, "mlm.bias": bias})
    attention_mask = mask_of([7, 3, 7], T)
    expected = larger(torch.where(ids < 0, 39 - ids, ids), attention_mask=attention_mask)
    assert_close(
        model(ids, attention_mask=attention_mask, vectors=vectors)[attention_mask],
        expected[attention_mask],
        "virtual token -1 - i is vector i",
    )


# --------------------------------------------------------------------------------------------- prefixes


def test_an_empty_prefix_is_the_plain_model_to_the_bit():
    model, ids, attention_mask = tiny_bert(), random_ids(B, T), mask_of([7, 3, 5], T)
    assert torch.equal(
        model(ids, attention_mask=attention_mask, prefix=prefix_of(0)), model(ids, attention_mask=attention_mask)
    )


def test_each_sample_may_have_its_own_prefix():
    model, ids, attention_mask = tiny_bert(), random_ids(B, T), mask_of([7, 3, 5], T)
    prefix = prefix_of(2, batch=B)
    together = model(ids, attention_mask=attention_mask, prefix=prefix)
    for row in range(B):
        own = [Prefix(k[row : row + 1], v[row : row + 1]) for k, v in prefix]
        alone = model(ids[row : row + 1], attention_mask=attention_mask[row : row + 1], prefix=own)
        n = attention_mask[row].sum()
        assert_close(together[row, :n], alone[0, :n], f"row {row} got another's prefix, or lost its own to padding")
        assert not torch.allclose(alone[0, :n], model(ids)[row, :n])


def test_a_prefix_from_the_joint_text_is_that_text():
    # Every layer of an encoder reads both ways: the prompt's keys and values know the text behind it. Taken from
    # prompt and text together they replace the prompt exactly; taken from the prompt alone, they cannot.
    prompt, text = random_ids(1, 3, seed=1), random_ids(1, 5, seed=2)
    for n_layer in (1, 3):
        model = tiny_bert(config=BertConfig(40, 24, n_layer, 2, 8, 20))
        attentions = [block.attention for block in model.blocks]
        whole = torch.cat([prompt, text], dim=1)
        expected = model(whole)[:, 3:]
        joint = record_keys_and_values(attentions, lambda m=model, w=whole: m(w))
        joint = [Prefix(k[:, :, :3], v[:, :, :3]) for k, v in joint]
        assert_close(model(text, prefix=joint), expected, "the prompt's K and V must stand for the prompt")
        alone = record_keys_and_values(attentions, lambda m=model: m(prompt))
        same = torch.allclose(model(text, prefix=alone), expected, atol=1e-5)
        assert same == (n_layer == 1), "the first layer's K and V know one token each; deeper ones know the text"


def test_every_prefix_tensor_learns_at_both_of_two_steps():
    model = tiny_bert().requires_grad_(False)
    tuned = [nn.Parameter(part) for layer in prefix_of(2) for part in layer]
    prefix = [Prefix(tuned[2 * i], tuned[2 * i + 1]) for i in range(L)]
    optimizer = torch.optim.SGD(tuned, lr=0.1)
    for step in (1, 2):
        optimizer.zero_grad()
        model.pooled(model(random_ids(B, T), prefix=prefix)).square().sum().backward()
        for i, p in enumerate(tuned):
            assert p.grad.abs().amin() > 0, f"step {step}: layer {i // 2}, {'KV'[i % 2]}: a part gets no gradient"
        optimizer.step()


# ------------------------------------------------------------------------------------- learning, saving


def test_it_learns_masked_words_and_the_order_of_sentences():
    # Sentence A is aaaa, and B follows if it is aaaa too: both heads have something to learn.
    def batch(i):
        generator = torch.Generator().manual_seed(i)
        a, b = torch.randint(4, 12, (2, 32, 1), generator=generator)
        follows = torch.rand(32, 1, generator=generator) < 0.5
        ids = torch.cat([torch.zeros_like(a), a.expand(-1, 4), torch.where(follows, a, b).expand(-1, 4)], dim=1)
        corrupted, labels = mask_tokens(ids, 2, [0, 1, 2, 3], 12, generator=generator)
        types = (torch.arange(9) > 4).long().expand_as(ids)
        next_label = (ids[:, 1] != ids[:, -1]).long()
        return {"ids": corrupted, "labels": labels, "types": types, "next_label": next_label}

    torch.manual_seed(0)
    model = Bert(BertConfig(vocab_size=12, n_positions=9, n_layer=2, n_head=2, d_model=32, d_ff=64))
    log = train(model, batch, TrainConfig(steps=150, lr=3e-3, warmup=15), loss=bert_loss, progress=False)
    first, last = log.train[0]["loss"], sum(row["loss"] for row in log.train[-10:]) / 10
    assert last < first / 3, f"four copies of a word, and it cannot tell: loss {first:.2f}, then {last:.2f}"


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = tiny_bert(config=BertConfig(40, 24, 1, 2, 8, 20, nsp=False))
    save_model(tmp_path / "bert.safetensors", model)
    loaded = load_model(tmp_path / "bert.safetensors", Bert, BertConfig)
    assert loaded.config == model.config
    assert torch.equal(loaded(random_ids(1, 5)), model(random_ids(1, 5)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: m(random_ids(1, 25)), "25 positions are needed .* n_positions = 24"),
        (lambda m: m(random_ids(1, 20), prefix=prefix_of(5)), r"25 positions are needed \(5 before .* of which 5"),
        (lambda m: m(torch.tensor([[3, 40]])), "Token id 40 in row 0 at position 1"),
        (lambda m: m(random_ids(2, 4), types=torch.tensor([[0, 0, 1, 1], [0, 0, 2, 1]])), "type 2 in row 1 at pos.* 2"),
        (lambda m: m(random_ids(2, 4), types=torch.zeros(2, 3, dtype=torch.long)), "one type for each token"),
        (lambda m: m(random_ids(2, 4), types=torch.zeros(2, 4)), "a whole number"),
        (lambda m: m(random_ids(2, 4), types=[[0] * 4] * 2), "one type for each token"),
        (lambda m: m(random_ids(3, 4), attention_mask=mask_of([4, 0, 2], 4)), "Row 1 of the text is padding alone"),
        (lambda m: m(random_ids(3, 4), attention_mask=mask_of([4, 2], 4)), "attention_mask has the shape"),
        (lambda m: m(random_ids(1, 4), prefix=random_prefix(2, H, D)), "for 2 layers; this model has 3"),
        (lambda m: m(random_ids(1, 4), prefix=random_prefix(3, H, D + 1)), "head width 4"),
        (lambda m: Bert(BertConfig(40, 24, 1, 2, 8, 20, mlm=False)).mlm_logits(m(random_ids(1, 4))), "no mlm"),
        (lambda m: Bert(BertConfig(40, 24, 1, 2, 8, 20, nsp=False)).nsp_logits(m(random_ids(1, 4))), "no nsp head"),
        (
            lambda m: Bert(BertConfig(40, 24, 1, 2, 8, 20, pooler=False, nsp=False)).pooled(m(random_ids(1, 4))),
            "no pooler head",
        ),
        (lambda m: BertConfig(pooler=False), "nsp = True needs pooler = True"),
        (lambda m: Bert(BertConfig(d_model=10, n_head=4)), "cannot be cut into n_head = 4"),
    ],
)
def test_bad_input_says_why(make, says):
    assert BERT_CONFIG.n_positions == 24
    with pytest.raises(UserError, match=says):
        make(tiny_bert())
