"""The GPT: causality, positions, prefixes, the cache, weight tying. Parity with transformers is in test_parity_*."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minitransformer.errors import UserError
from minitransformer.models import gpt
from minitransformer.models.attention import Prefix, Stacked
from minitransformer.models.bert import BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.layers import FeedForward, gelu_tanh
from minitransformer.models.watch import watch_attention
from tests.helpers import record_drops, spreads

CONFIG = GPTConfig(vocab_size=40, n_positions=24, n_layer=3, n_head=2, d_model=8, d_ff=20)
B, T, P = 3, 6, 2


def tiny(config=CONFIG, seed=0):
    """A GPT in which no parameter is 0 or 1, so that a forgotten one shows."""
    torch.manual_seed(seed)
    model = GPT(config)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.eval()


def random_prefix(batch=1, length=P, config=CONFIG):
    shape = (batch, config.n_head, length, config.d_model // config.n_head)
    return [Prefix(torch.randn(shape), torch.randn(shape)) for _ in range(config.n_layer)]


def prompt_as_prefix(model, ids):
    """The keys and values that a real prompt leaves in every layer."""
    cache = model.new_cache()
    model(ids, cache=cache)
    return [Prefix(*layer.columns()) for layer in cache]


@pytest.fixture
def ids():
    torch.manual_seed(1)
    return torch.randint(CONFIG.vocab_size, (B, T))


def close(actual, expected, message, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0, msg=lambda default: f"{message}\n{default}")


def test_no_position_sees_a_later_token(ids):
    model = tiny()
    before = model(ids)
    for t in range(1, T):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 1) % CONFIG.vocab_size
        after = model(changed)
        close(after[:, :t], before[:, :t], f"token {t} changed the logits of an earlier position")
        assert not torch.allclose(after[:, t], before[:, t]), f"token {t} does not even change its own logits"


def test_logits_only_where_asked(ids):
    model, at = tiny(), torch.rand(B, T) > 0.5
    close(model(ids, at=at), model(ids)[at], "`at` has to pick rows of the full logits, in reading order")


def test_head_is_the_token_embedding(ids):
    model = tiny()
    F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    unread = sorted(set(range(CONFIG.vocab_size)) - set(ids.flatten().tolist()))
    assert model.token_embedding.weight.grad[unread].abs().max() > 0, (
        "tokens that were never read get their gradient through the tied head; it is missing"
    )
    assert sum(p.numel() for p in model.parameters()) == 40 * 8 + 24 * 8 + 3 * (4 * 8 + 4 * 64 + 32 + 2 * 160 + 28) + 16


def test_a_fresh_model_knows_nothing():
    torch.manual_seed(0)
    model = GPT(GPTConfig(init_std=0.02))  # so small that all scores are nearly equal
    ids = torch.randint(2048, (4, 64))
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()
    guessing = math.log(2048)
    assert abs(loss - guessing) < 0.1, f"a fresh loss is {loss:.3f}; guessing costs ln 2048 = {guessing:.3f}"


def test_how_weights_start():
    """GPT-2: normal, and those that are added to the stream smaller, so that 2 L sums are as wide as one part."""
    config = GPTConfig(vocab_size=200, n_positions=50, n_layer=2, n_head=2, d_model=32, d_ff=64, init_std=0.1)
    torch.manual_seed(0)
    for name, spread in spreads(GPT(config)).items():
        expected = 0.1 / math.sqrt(2 * 2) if "out" in name or "down" in name else 0.1
        assert math.isclose(spread, expected, rel_tol=0.1), f"{name}: {spread:.3f} wide, not {expected}"


def test_dropout_stands_behind_the_embeddings_and_each_sublayer(ids, monkeypatch):
    model = tiny(dataclasses.replace(CONFIG, dropout=0.3))
    for training in (True, False):
        seen = record_drops(monkeypatch, lambda: model.train(training)(ids), gpt)  # noqa: B023
        assert seen == [(0.3, training)] * (1 + 2 * 3)
    assert [m.dropout for m in model.modules() if hasattr(m, "dropout")] == [0.3] * 2 * 3, "block, attention, block, …"


def with_words(model, vectors):
    """A GPT whose embedding table has the vectors as further words: number i is the word 40 + i."""
    larger = tiny(GPTConfig(**{**vars(CONFIG), "vocab_size": CONFIG.vocab_size + len(vectors)}))
    weights = {**model.state_dict(), "token_embedding.weight": torch.cat([model.token_embedding.weight, vectors])}
    larger.load_state_dict(weights)
    return larger


@torch.no_grad()
def test_virtual_tokens_are_words_with_the_vectors_given(ids):
    model, vectors = tiny(), torch.randn(3, 8)
    ids[0, 1], ids[1, 4], ids[1, 5] = -1, -3, -1
    words = torch.where(ids < 0, 39 - ids, ids)
    close(model(ids, vectors=vectors), with_words(model, vectors)(words)[..., :40], "virtual token -1 - i is vector i")
    each = torch.randn(B, 3, 8)
    together = model(ids, vectors=each)
    for b in range(B):
        alone = with_words(model, each[b])(words[b : b + 1])[..., :40]
        close(together[b : b + 1], alone, f"row {b} has its own vectors")


def test_vectors_learn_and_without_virtual_tokens_change_nothing(ids):
    model, vectors = tiny().requires_grad_(False), nn.Parameter(torch.randn(2, 8))
    assert torch.equal(model(ids, vectors=vectors), model(ids))
    ids[0, 2], ids[2, 0] = -1, -2
    model(ids, vectors=vectors).square().sum().backward()
    assert (vectors.grad != 0).all(), "some vector gets no gradient"


@pytest.mark.parametrize("shape", [(2, 8), (3, 9), (2, 3, 8), (3, 2, 8), (8,), (1, 3, 3, 8)])
def test_vectors_that_do_not_fit_are_refused(ids, shape):
    ids[1, 3] = -3
    with pytest.raises(UserError, match=r"virtual tokens up to -3, the vectors .* at least \(3, 8\), or \(3, 3, 8\)"):
        tiny()(ids, vectors=torch.zeros(shape))


def test_vectors_do_not_hide_an_id_outside_the_vocabulary(ids):
    ids[0, 0], ids[2, 1] = -1, 40
    with pytest.raises(UserError, match="Token id 40 in row 2 at position 1"):
        tiny()(ids, vectors=torch.zeros(1, 8))


def test_left_padding_changes_nothing(ids):
    model = tiny()
    expected = model(ids)
    for pad in (1, 4):
        padded = torch.cat([torch.full((B, pad), 7), ids], 1)
        attention_mask = torch.arange(pad + T).expand(B, -1) >= pad
        actual = model(padded, attention_mask=attention_mask)[:, pad:]
        close(actual, expected, f"{pad} paddings on the left: positions count real tokens only")


def test_prefix_of_length_0_is_the_plain_model(ids):
    assert torch.equal(tiny()(ids, prefix=random_prefix(length=0)), tiny()(ids))


def test_a_real_prompt_as_prefix_is_that_prompt(ids):
    model = tiny()
    for length in (1, 3, T - 1):
        prefix = prompt_as_prefix(model, ids[:, :length])
        whole = model(ids)[:, length:]
        close(model(ids[:, length:], prefix=prefix), whole, f"prompt of {length}: tokens have to start at position P")


def test_prefix_and_left_padding_together(ids):
    model, prefix = tiny(), random_prefix(B)
    expected = model(ids, prefix=prefix)
    padded = torch.cat([torch.zeros(B, 3, dtype=torch.long), ids], 1)
    attention_mask = torch.arange(3 + T).expand(B, -1) >= 3
    close(
        model(padded, attention_mask=attention_mask, prefix=prefix)[:, 3:],
        expected,
        "padding must not hide or move the prefix",
    )


def test_a_prefix_for_each_row(ids):
    model, prefix = tiny(), random_prefix(B)
    together = model(ids, prefix=prefix)
    for b in range(B):
        own = [Prefix(layer.k[b : b + 1], layer.v[b : b + 1]) for layer in prefix]
        close(together[b : b + 1], model(ids[b : b + 1], prefix=own), f"row {b} with its own prefix, alone")


def test_every_prefix_tensor_gets_gradient_on_the_first_and_the_second_step(ids):
    model = tiny()
    tensors = [nn.Parameter(t) for layer in random_prefix() for t in layer]
    model.requires_grad_(False)
    optimizer = torch.optim.SGD(tensors, lr=0.1)
    for step in (1, 2):
        optimizer.zero_grad()
        logits = model(ids, prefix=[Prefix(k, v) for k, v in zip(tensors[::2], tensors[1::2], strict=True)])
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        for i, tensor in enumerate(tensors):
            name = f"{'kv'[i % 2]} of layer {i // 2}"
            assert tensor.grad is not None and tensor.grad.abs().max() > 0, f"step {step}: {name} gets no gradient"
        optimizer.step()


@pytest.mark.parametrize("with_prefix", [False, True])
def test_cached_equals_uncached(ids, with_prefix):
    model = tiny()
    prefix = random_prefix() if with_prefix else None
    whole = model(ids, prefix=prefix)
    cache = model.new_cache()
    parts = [model(part, prefix=prefix, cache=cache) for part in ids.split([3, 1, 2], 1)]
    close(torch.cat(parts, 1), whole, "three calls with a cache differ from one without")


@pytest.mark.parametrize("n_layer", [1, 3])
@pytest.mark.parametrize("with_prefix", [False, True])
def test_the_quick_step_is_forward(ids, with_prefix, n_layer):
    config = dataclasses.replace(CONFIG, n_layer=n_layer)
    model = tiny(config)
    prefix = random_prefix(B, config=config) if with_prefix else None
    slow, quick = model.new_cache(), model.new_cache()
    for cache in (slow, quick):
        model(ids[:, :2], prefix=prefix, cache=cache)
    step = model.decode_step(quick)
    for t in range(2, T):
        expected = model(ids[:, t : t + 1], cache=slow)[:, -1]
        close(step(ids[:, t : t + 1]), expected, f"token {t}: the shortcut and forward differ")
    for _ in range(CONFIG.n_positions - quick[0].length):
        step(ids[:, :1])
    with pytest.raises(UserError, match="25 positions are needed"):
        step(ids[:, :1])


class OtherLinear(Stacked):
    """A subclass, as a library of methods would put in a layer's place."""


def hook_everywhere(model):
    return nn.modules.module.register_module_forward_hook(lambda *_: None)


def own_forward(model):
    model.blocks[0].mlp.forward = lambda x: x


def own_kind(model):
    model.blocks[1].attention.qkv.__class__ = OtherLinear


def parametrized(model):
    nn.utils.parametrizations.weight_norm(model.blocks[1].mlp.up)


def in_training(model):
    model.blocks[1].train()


CHANGES = {
    "a hook": lambda model: model.blocks[1].mlp.register_forward_hook(lambda *_: None),
    "a pre-hook": lambda model: model.blocks[0].register_forward_pre_hook(lambda *_: None),
    "a backward hook": lambda model: model.norm.register_full_backward_hook(lambda *_: None),
    "a hook on all modules": hook_everywhere,
    "a pre-hook on all modules": lambda model: nn.modules.module.register_module_forward_pre_hook(lambda *_: None),
    "a module's own forward": own_forward,
    "a subclass": own_kind,
    "a parametrization": parametrized,
    "dropout": in_training,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_quick_step_steps_aside(change):
    model = tiny(dataclasses.replace(CONFIG, dropout=0.1))
    assert model.decode_step(model.new_cache()) is not None
    handle = CHANGES[change](model)
    try:
        assert model.decode_step(model.new_cache()) is None, f"{change} would be passed over"
    finally:
        if hasattr(handle, "remove"):
            handle.remove()


def test_the_quick_step_steps_aside_for_watchers_patched_classes_autocast_and_torch_func(monkeypatch):
    model = tiny()
    with watch_attention(model):
        assert model.decode_step(model.new_cache()) is None, "a watcher would see nothing"
    with torch.autocast("cpu", torch.bfloat16):
        assert model.decode_step(model.new_cache()) is None
    torch.func.grad(lambda x: x if model.decode_step(model.new_cache()) is None else pytest.fail())(torch.ones(()))
    with torch.autograd.forward_ad.dual_level():
        assert model.decode_step(model.new_cache()) is None
    monkeypatch.setattr(FeedForward, "forward", lambda self, x: x)
    assert model.decode_step(model.new_cache()) is None, "a replaced forward would be passed over"


def test_a_quick_step_does_not_pass_over_layers_that_have_no_cache():
    model = tiny()
    for wrong in (model.new_cache()[:2], model.new_cache() * 2):
        with pytest.raises(ValueError, match="zip"):
            model.decode_step(wrong)


def test_gelu_tanh_is_its_formula():
    x = torch.linspace(-90, 90, 1001, dtype=torch.double)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    close(gelu_tanh(x), expected, "GPT-2's GELU", 1e-12)


def test_attention_maps_by_layer(ids):
    model = tiny()
    with watch_attention(model) as maps:
        model(ids)
    assert list(maps) == [f"blocks.{i}.attention" for i in range(3)]
    assert all(w[0].shape == (B, 2, T, T) for w in maps.values())


# ----------------------------------------------------------------------- bad input


@pytest.mark.parametrize("bad", [-1, 40, 1 << 40])
def test_an_id_outside_the_vocabulary_is_named_with_its_place(ids, bad):
    ids[1, 4] = bad
    with pytest.raises(UserError, match=f"Token id {bad} in row 1 at position 4 .* ids run from 0 to 39"):
        tiny()(ids)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (5,)])
def test_no_ids(shape):
    with pytest.raises(UserError, match="Token ids come as"):
        tiny()(torch.zeros(shape, dtype=torch.long))


def test_too_many_positions_prefix_included(ids):
    long = torch.zeros(1, 23, dtype=torch.long)
    tiny()(long)
    with pytest.raises(UserError, match="25 positions are needed .* n_positions = 24"):
        tiny()(long, prefix=random_prefix())
    with pytest.raises(UserError, match="25 positions are needed"):
        tiny()(torch.zeros(1, 25, dtype=torch.long))
    cache = tiny().new_cache()
    tiny()(long, cache=cache)
    with pytest.raises(UserError, match="25 positions are needed .23 before this call"):
        tiny()(long[:, :2], cache=cache)


def test_prefix_for_another_number_of_layers(ids):
    with pytest.raises(UserError, match="The prefix is for 2 layers; this model has 3"):
        tiny()(ids, prefix=random_prefix()[:2])
    with pytest.raises(UserError, match="for 1 layers; this model has 3: give a list"):
        tiny()(ids, prefix=random_prefix()[0])


def test_a_cache_that_another_batch_or_model_has_filled(ids):
    """One row would be read against the keys of all rows that are there."""
    cache = tiny().new_cache()
    tiny()(ids, cache=cache)
    with pytest.raises(UserError, match="of another batch or model"):
        tiny()(ids[:1], cache=cache)


@pytest.mark.parametrize("config", [None, "gpt", {}, GPTConfig, BertConfig()])
def test_a_config_of_another_kind(config):
    with pytest.raises(UserError, match="its own config, GPTConfig"):
        GPT(config)


def test_keep_of_the_wrong_width(ids):
    with pytest.raises(
        UserError, match=r"attention_mask has the shape \(3, 5\); it has to mark every token so far, \(3, 6\)"
    ):
        tiny()(ids, attention_mask=torch.ones(B, T - 1, dtype=torch.bool))


# ------------------------------------------------------------------- padding, and a text read in parts


def padded(ids):
    """The text, padded on the left in row 0, and its mask."""
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, :2] = False
    return ids, mask


@pytest.mark.parametrize("with_prefix", [False, True])
def test_a_padded_text_in_parts_is_the_text_as_a_whole(ids, with_prefix):
    model, prefix = tiny(), random_prefix() if with_prefix else None
    ids, mask = padded(ids)
    whole, cache = model(ids, attention_mask=mask, prefix=prefix), model.new_cache()
    parts = [model(ids[:, a:b], attention_mask=mask[:, :b], prefix=prefix, cache=cache) for a, b in ((0, 3), (3, T))]
    close(torch.cat(parts, 1)[mask], whole[mask], "two calls with a cache differ from one without")


@pytest.mark.parametrize("with_prefix", [False, True])
@pytest.mark.parametrize("forgotten", ["first", "second"])
def test_a_mask_that_one_of_two_calls_has_forgotten_is_refused(ids, forgotten, with_prefix):
    """The second call would read the padding as words, or take other positions than the first."""
    model, prefix = tiny(), random_prefix() if with_prefix else None
    ids, mask = padded(ids)
    first, second = (None, mask) if forgotten == "first" else (mask[:, :3], None)
    cache = model.new_cache()
    model(ids[:, :3], attention_mask=first, prefix=prefix, cache=cache)
    with pytest.raises(UserError, match="The text has padding, and (this|an earlier) call with its cache had no mask"):
        model(ids[:, 3:], attention_mask=second, cache=cache)
    assert {layer.length for layer in cache} == {3 + cache[0].n_prefix}, "the cache is as it was"
    assert model.decode_step(cache) is None or forgotten == "first"


def test_a_mask_that_hides_nothing_may_come_and_go(ids):
    model, mask = tiny(), torch.ones(B, T)
    whole, cache = model(ids), model.new_cache()
    parts = [
        model(ids[:, :2], attention_mask=mask[:, :2], cache=cache),
        model(ids[:, 2:4], cache=cache),
        model(ids[:, 4:], attention_mask=mask, cache=cache),
    ]
    close(torch.cat(parts, 1), whole, "a mask of ones is no mask")


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.float32])
def test_places_may_be_marked_by_numbers(ids, kind):
    at = torch.rand(B, T) < 0.5
    assert torch.equal(tiny()(ids, at=at.to(kind)), tiny()(ids)[at])


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        (torch.tensor([[1, 2, 3, 0, 0, 0]] * 3), r"at has to be True \(or 1\) at the places that are wanted"),
        (torch.tensor([5, 5, 5]), r"at has the shape \(3,\)"),
        (torch.ones(3, 5, dtype=torch.bool), r"at has the shape \(3, 5\); it has to mark every token so far, \(3, 6\)"),
        ([[True]], "at is a tensor of booleans, True at the places that are wanted; this is a list"),
        (-1, "this is a int"),
    ],
)
def test_places_that_no_mask_marks(ids, at, sentence):
    with pytest.raises(UserError, match=sentence):
        tiny()(ids, at=at)


@pytest.mark.parametrize("capacity", [-1, 2.5, "8", True])
def test_a_cache_has_room_for_a_whole_number_of_columns(capacity):
    with pytest.raises(UserError, match="capacity = .*: it has to be a whole number of at least 0"):
        tiny().new_cache(capacity)


def test_a_cache_without_room_is_full(ids):
    with pytest.raises(UserError, match="The cache holds 0 columns"):
        tiny()(ids, cache=tiny().new_cache(0))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_vectors_of_another_precision_are_taken_in_the_words(ids, kind):
    vectors, ids = torch.randn(2, CONFIG.d_model).to(kind), ids.clone()
    ids[:, 1], ids[:, 2] = -1, -2
    assert torch.equal(tiny()(ids, vectors=vectors), tiny()(ids, vectors=vectors.float()))
