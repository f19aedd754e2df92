"""The encoder–decoder without the transformers library: torch's own layer, three prefixes, the cache, errors."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from minitransformer.checkpoint import load_model, save_model
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models import bert, seq2seq
from minitransformer.models.attention import Prefix
from minitransformer.models.seq2seq import DecoderBlock, Seq2Seq, Seq2SeqConfig
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import seq2seq_loss
from tests.helpers import (
    SEQ2SEQ_CONFIG,
    assert_close,
    mask_of,
    random_ids,
    random_prefix,
    randomise,
    record_drops,
    record_keys_and_values,
    spreads,
    tiny_seq2seq,
)

B, S, T, H, D = 3, 7, 5, 2, 4
N_LAYER = {"encoder_prefix": 2, "prefix": 3, "cross_prefix": 3}
SLOTS = list(N_LAYER)
LENGTHS = [7, 3, 5]
START, END = SEQ2SEQ_CONFIG.start_id, SEQ2SEQ_CONFIG.end_id


def prefix_for(slot, length=2, batch=1):
    return random_prefix(N_LAYER[slot], H, D, length, batch, seed=SLOTS.index(slot))


def all_prefixes(length=2, batch=1):
    return {slot: prefix_for(slot, length, batch) for slot in SLOTS}


@pytest.fixture
def model():
    return tiny_seq2seq()


@pytest.fixture
def batch():
    return {
        "ids": random_ids(B, T, seed=1),
        "attention_mask": mask_of([5, 2, 4], T),
        "source": random_ids(B, S),
        "source_mask": mask_of(LENGTHS, S),
    }


def copy_linear(pairs):
    for theirs, ours in pairs:
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)


@torch.no_grad()
def test_a_decoder_layer_is_torchs_own():
    ours = randomise(DecoderBlock(SEQ2SEQ_CONFIG))
    theirs = nn.TransformerDecoderLayer(8, 2, 20, 0.0, "gelu", 1e-5, batch_first=True, norm_first=False).eval()
    for a, b in ((theirs.self_attn, ours.attention), (theirs.multihead_attn, ours.cross)):
        a.in_proj_weight.copy_(b.qkv.weight)
        a.in_proj_bias.copy_(b.qkv.bias)
        copy_linear([(a.out_proj, b.out)])
    copy_linear([(theirs.linear1, ours.mlp.up), (theirs.linear2, ours.mlp.down)])
    copy_linear([(theirs.norm1, ours.norm1), (theirs.norm2, ours.norm2), (theirs.norm3, ours.norm3)])
    x, context, attention_mask = torch.randn(B, T, 8), torch.randn(B, S, 8), mask_of(LENGTHS, S)
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected = theirs(x, context, tgt_mask=later, memory_key_padding_mask=~attention_mask)
    assert_close(
        ours(x, context, None, attention_mask, None, None, None), expected, "self-attention, cross-attention, MLP"
    )


def test_how_weights_start():
    torch.manual_seed(0)
    config = Seq2SeqConfig(200, 50, 1, 1, 2, 32, 64, pad_id=1, start_id=2, end_id=3, init_std=0.1)
    for name, spread in spreads(Seq2Seq(config)).items():
        assert math.isclose(spread, 0.1, rel_tol=0.1), f"{name}: {spread:.3f} wide, not 0.1"


def test_dropout_stands_behind_both_embeddings_and_each_sublayer(batch, monkeypatch):
    model = tiny_seq2seq(config=dataclasses.replace(SEQ2SEQ_CONFIG, dropout=0.3))
    for training in (True, False):
        seen = record_drops(monkeypatch, lambda: model.train(training)(**batch), bert, seq2seq)  # noqa: B023
        assert seen == [(0.3, training)] * (2 + 2 * 2 + 3 * 3), "2 encoder layers of 2 sublayers, 3 decoder layers of 3"
    dropping = [m.dropout for m in model.modules() if hasattr(m, "dropout")]
    assert dropping == [0.3] * (2 * 2 + 3 * 3), "each layer and its attentions: 2 in the encoder's, 3 in the decoder's"


def test_the_norms_add_to_the_variance_what_barts_own_add():
    assert {m.eps for m in tiny_seq2seq().modules() if isinstance(m, nn.LayerNorm)} == {1e-5}


def test_the_target_is_causal_and_every_position_sees_the_whole_source(model, batch):
    batch = {"ids": batch["ids"], "source": batch["source"]}
    before = model(**batch)
    for t in range(1, T):
        changed = batch["ids"].clone()
        changed[:, t] = (changed[:, t] + 1) % 40
        after = model(changed, source=batch["source"])
        assert_close(after[:, :t], before[:, :t], f"target token {t} was seen before its time")
    for s in range(S):
        changed = batch["source"].clone()
        changed[:, s] = (changed[:, s] + 1) % 40
        moved = (model(batch["ids"], source=changed) - before).abs().amax(-1)
        assert (moved > 1e-6).all(), f"source token {s} must reach every target position"


def test_padding_changes_nothing(model, batch):
    together = model(**batch, **all_prefixes())
    for row, (n_target, n_source) in enumerate(zip([5, 2, 4], LENGTHS, strict=True)):
        ids, source = batch["ids"][row : row + 1, :n_target], batch["source"][row : row + 1, :n_source]
        alone = model(ids, source=source, **all_prefixes())
        assert_close(together[row, :n_target], alone[0], f"row {row}: padding was read, or took a position")


def test_left_padded_targets(model, batch):
    ids, attention_mask = batch["ids"], mask_of([5, 2, 4], T, left=True)
    together = model(ids, attention_mask=attention_mask, source=batch["source"], source_mask=batch["source_mask"])
    for row, n in enumerate([5, 2, 4]):
        source = batch["source"][row : row + 1, : LENGTHS[row]]
        alone = model(ids[row : row + 1, T - n :], source=source)
        assert_close(together[row, T - n :], alone[0], f"row {row}: left padding of the target")


def test_left_padded_sources(model, batch):
    source = batch["source"]
    together = model(batch["ids"], source=source, source_mask=mask_of(LENGTHS, S, left=True))
    for row, n in enumerate(LENGTHS):
        alone = model(batch["ids"][row : row + 1], source=source[row : row + 1, S - n :])
        assert_close(together[row], alone[0], f"row {row}: left padding of the source")


def test_forward_is_encode_and_decode(model, batch):
    context = model.encode(batch["source"], batch["source_mask"])
    expected = model(**batch)
    assert torch.equal(model.decode(batch["ids"], context, batch["source_mask"], batch["attention_mask"]), expected)
    at = mask_of([1, 0, 3], T)
    assert_close(model(**batch, at=at), expected[at], "logits only where asked")


@torch.no_grad()
def test_virtual_tokens_in_the_source_are_words_with_the_vectors_given(model, batch):
    vectors, source = torch.randn(2, 8), batch["source"]
    source[0, 1], source[0, 2], source[1, 0] = -2, -1, -1
    larger = tiny_seq2seq(config=Seq2SeqConfig(**{**vars(SEQ2SEQ_CONFIG), "vocab_size": 42}))
    table = torch.cat([model.token_embedding.weight, vectors])
    bias = torch.cat([model.final_logits_bias, torch.zeros(2)])
    larger.load_state_dict({**model.state_dict(), "token_embedding.weight": table, "final_logits_bias": bias})
    expected = larger(**{**batch, "source": torch.where(source < 0, 39 - source, source)})[..., :40]
    assert_close(model(**batch, vectors=vectors), expected, "virtual token -1 - i is vector i")
    with pytest.raises(UserError, match="Token id -1 in row 0"):
        model(batch["ids"].index_fill(1, torch.tensor([0]), -1), source=source, vectors=vectors)


# --------------------------------------------------------------------------------------------- prefixes


@pytest.mark.parametrize("slot", SLOTS)
def test_an_empty_prefix_is_the_plain_model_to_the_bit(model, batch, slot):
    assert torch.equal(model(**batch, **{slot: prefix_for(slot, 0)}), model(**batch))


@pytest.mark.parametrize("slot", SLOTS)
def test_each_sample_may_have_its_own_prefix(model, batch, slot):
    prefix = prefix_for(slot, batch=B)
    together = model(**batch, **{slot: prefix})
    for row in range(B):
        own = [Prefix(k[row : row + 1], v[row : row + 1]) for k, v in prefix]
        one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        alone, real = model(**one, **{slot: own}), batch["attention_mask"][row]
        assert_close(together[row, real], alone[0, real], f"row {row} got another's {slot}")
        assert not torch.allclose(alone[0, real], model(**one)[0, real], atol=1e-4), f"{slot} changes nothing"


def test_only_the_encoder_prefix_changes_what_was_read(model, batch):
    plain = model.encode(batch["source"], batch["source_mask"])
    read = model.encode(batch["source"], batch["source_mask"], prefix_for("encoder_prefix"))
    assert not torch.allclose(plain, read, atol=1e-3), "the encoder does not see its prefix"


def test_positions_start_after_the_prefix_except_in_cross_attention(model, batch):
    seen = {}
    for name in ("source_positions", "target_positions"):
        module = getattr(model, name)
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0][0].tolist()}))
    model(**batch, encoder_prefix=prefix_for("encoder_prefix", 4), prefix=prefix_for("prefix", 3))
    assert seen == {"source_positions": list(range(4, 4 + S)), "target_positions": list(range(3, 3 + T))}
    model(**batch, cross_prefix=prefix_for("cross_prefix", 6))
    assert seen == {"source_positions": list(range(S)), "target_positions": list(range(T))}


def test_a_decoder_prefix_from_a_real_prompt_is_that_prompt(model, batch):
    inputs = {"source": batch["source"], "source_mask": batch["source_mask"]}
    prompt, cache = random_ids(B, 3, seed=5), model.new_cache()
    model(prompt, cache=cache, **inputs)
    prefix = [Prefix(*layer.own.columns()) for layer in cache]
    expected = model(torch.cat([prompt, batch["ids"]], dim=1), **inputs)[:, 3:]
    assert_close(model(batch["ids"], prefix=prefix, **inputs), expected, "the prompt's K and V must stand for it")


def test_a_cross_prefix_from_a_real_source_is_that_source_in_front(model, batch):
    other, cache = random_ids(B, 4, seed=5), model.new_cache()
    model(batch["ids"], source=other, cache=cache)
    prefix = [Prefix(*layer.cross.columns()) for layer in cache]
    source = model.encode(batch["source"])
    expected = model.decode(batch["ids"], torch.cat([model.encode(other), source], dim=1))
    assert_close(model.decode(batch["ids"], source, cross_prefix=prefix), expected, "K and V of two sources")


def test_an_encoder_prefix_stands_for_a_prompt_only_if_it_has_read_on():
    # The encoder reads both ways, so a prompt's deeper keys and values know the text behind it: taken from both
    # together they replace the prompt exactly, taken from the prompt alone only in a single layer.
    prompt, text = random_ids(1, 3, seed=1), random_ids(1, S, seed=2)
    for n_layer in (1, 2):
        model = tiny_seq2seq(config=Seq2SeqConfig(40, 24, n_layer, 1, 2, 8, 20, pad_id=1, start_id=2, end_id=3))
        attentions, whole = [block.attention for block in model.encoder], torch.cat([prompt, text], dim=1)
        expected = model.encode(whole)[:, 3:]
        joint = record_keys_and_values(attentions, lambda m=model, w=whole: m.encode(w))
        joint = [Prefix(k[:, :, :3], v[:, :, :3]) for k, v in joint]
        assert_close(model.encode(text, prefix=joint), expected, "K and V of the prompt, the text read with it")
        alone = record_keys_and_values(attentions, lambda m=model: m.encode(prompt))
        same = torch.allclose(model.encode(text, prefix=alone), expected, atol=1e-5)
        assert same == (n_layer == 1)


def test_every_prefix_tensor_learns_at_both_of_two_steps(model, batch):
    model.requires_grad_(False)
    tuned = {slot: [[nn.Parameter(part) for part in layer] for layer in prefix_for(slot)] for slot in SLOTS}
    prefixes = {slot: [Prefix(*layer) for layer in layers] for slot, layers in tuned.items()}
    parts = [(slot, i, "KV"[j], p) for slot in SLOTS for i, kv in enumerate(tuned[slot]) for j, p in enumerate(kv)]
    optimizer = torch.optim.SGD([p for *_, p in parts], lr=0.1)
    labelled = {**batch, "labels": batch["ids"].masked_fill(~batch["attention_mask"], -100)}

    class WithPrefixes(nn.Module):
        def forward(self, ids, **inputs):
            return model(ids, **inputs, **prefixes)

    for step in (1, 2):
        optimizer.zero_grad()
        seq2seq_loss(WithPrefixes(), labelled)[0].backward()
        for slot, i, part, p in parts:
            assert p.grad is not None and p.grad.abs().amin() > 0, f"step {step}: {slot} {i} {part}: no gradient"
        optimizer.step()


# -------------------------------------------------------------------------------------------- the cache


def write(model, use_cache, **more):
    source, source_mask = random_ids(B, S), mask_of(LENGTHS, S)
    prompts = [[START], [START, 9, 8], [START, 7]]
    return generate(
        model, prompts, 12, stop_id=END, use_cache=use_cache, source=source, source_mask=source_mask, **more
    )


@pytest.mark.parametrize("slots", [[], *([slot] for slot in SLOTS), SLOTS])
@pytest.mark.parametrize("choice", [{}, {"temperature": 0.8, "top_k": 9, "seed": 4}])
def test_cached_is_uncached(model, slots, choice):
    prefixes = {slot: prefix_for(slot, batch=B) for slot in slots}
    cached, uncached = write(model, True, **choice, **prefixes), write(model, False, **choice, **prefixes)
    assert cached == uncached, "the cache changes the text: a prefix lost after the first call, or a position moved"


def test_each_prefix_is_felt_to_the_last_step_of_a_cached_generation(model):
    # Logits, not tokens: a prefix that is lost after the first call would show from the second on.
    source, ids = random_ids(1, S), random_ids(1, 6, seed=3)
    prefixes = all_prefixes()
    expected, cache = model(ids, source=source, **prefixes), model.new_cache()
    for t in range(6):
        now = model(ids[:, t : t + 1], cache=cache, source=source, **(prefixes if t == 0 else {}))
        assert_close(now[:, 0], expected[:, t], f"step {t} lost a prefix that the first call had")


def test_the_source_is_encoded_once(model, monkeypatch):
    calls, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda *args: calls.append(1) or encode(*args))
    write(model, True)
    assert len(calls) == 1, f"the source was encoded {len(calls)} times in one cached generation"


def test_a_cross_prefix_takes_no_position(model):
    # Source and target may both be as long as the model can read, with a cross prefix on top.
    n = SEQ2SEQ_CONFIG.n_positions
    source, ids, cache = random_ids(1, n), random_ids(1, n, seed=1), model.new_cache()
    cross = prefix_for("cross_prefix", 10)
    expected = model(ids, source=source, cross_prefix=cross)
    assert_close(model(ids, source=source, cross_prefix=cross, cache=cache), expected, "cached ≡ uncached")


def test_beams_with_all_prefixes_cached_and_not(model):
    inputs = {"source": random_ids(B, S), "source_mask": mask_of(LENGTHS, S), **all_prefixes(batch=B)}
    prompts = [[START], [START, 9, 8], [START, 7]]
    cached = beam_search(model, prompts, 10, n_beam=3, stop_id=END, **inputs)
    uncached = beam_search(model, prompts, 10, n_beam=3, stop_id=END, use_cache=False, **inputs)
    assert [[h.tokens for h in row] for row in cached] == [[h.tokens for h in row] for row in uncached]
    assert cached[0] != beam_search(model, prompts, 10, n_beam=3, stop_id=END, **{**inputs, "cross_prefix": None})[0]


# ------------------------------------------------------------------------------------- learning, saving


def test_it_learns_to_write_the_source_backwards():
    def batch(i):
        words = torch.randint(3, 13, (64, 4), generator=torch.Generator().manual_seed(i))
        ids = torch.cat([torch.full((64, 1), 1), words.flip(1), torch.full((64, 1), 2)], dim=1)
        return {"source": words, "ids": ids}

    torch.manual_seed(0)
    sizes = {"d_model": 48, "d_ff": 96, "pad_id": 0, "start_id": 1, "end_id": 2}
    model = Seq2Seq(Seq2SeqConfig(vocab_size=13, n_positions=8, n_encoder_layer=1, n_decoder_layer=1, **sizes))
    train(model, batch, TrainConfig(steps=250, lr=5e-3, warmup=25), loss=seq2seq_loss, progress=False)
    source = batch(10_000)["source"]
    written = generate(model, [[1]] * 64, 6, stop_id=2, source=source)
    right = sum(w == s for w, s in zip(written, source.flip(1).tolist(), strict=True))
    assert right >= 55, f"only {right} of 64 rows of 4 were reversed"


def test_saved_and_loaded_it_is_the_same(model, batch, tmp_path):
    save_model(tmp_path / "s.safetensors", model)
    loaded = load_model(tmp_path / "s.safetensors", Seq2Seq, Seq2SeqConfig)
    assert loaded.config == model.config
    assert torch.equal(loaded(**batch), model(**batch)), "final_logits_bias is a buffer and has to be saved too"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m, b: m(b["ids"]), "writes about a source"),
        (lambda m, b: m(b["ids"], source=b["source"][:2]), "2 sources for 3 targets"),
        (lambda m, b: m.decode(b["ids"], None), "0 sources for 3 targets"),
        (lambda m, b: m(b["ids"], source=random_ids(3, 25)), r"25 positions .* Shorten the source \(row 0 is the"),
        (
            lambda m, b: m(b["ids"], source=random_ids(3, 25), source_mask=mask_of([4, 25, 9], 25)),
            r"Shorten the source \(row 1 is the longest",
        ),
        (lambda m, b: m(random_ids(3, 25), source=b["source"]), r"25 positions .* Shorten the target"),
        (lambda m, b: m(b["ids"], source=random_ids(3, 22), encoder_prefix=prefix_for("encoder_prefix", 3)), "25 pos"),
        (lambda m, b: m(random_ids(3, 22), source=b["source"], prefix=prefix_for("prefix", 3)), "of which 3 for"),
        (lambda m, b: m(b["ids"], source=b["source"], source_mask=mask_of([7, 7, 0], S)), "Row 2 of the source is pad"),
        (
            lambda m, b: m(b["ids"], attention_mask=mask_of([5, 0, 5], T), source=b["source"]),
            "Row 1 of the target is padding",
        ),
        (lambda m, b: m(b["ids"], source=b["source"], cross_prefix=prefix_for("encoder_prefix")), "for 2 layers"),
        (lambda m, b: m(b["ids"], source=torch.full((3, 4), 99)), "Token id 99 in row 0 at position 0"),
        (lambda m, b: Seq2SeqConfig(vocab_size=10), "pad_id = 2043: it has to be a whole number from 0 to 9"),
        (lambda m, b: Seq2SeqConfig(vocab_size=2047), "start_id = 2047: it has to be a whole number from 0 to 2046"),
        (lambda m, b: Seq2SeqConfig(end_id=-1), "end_id = -1: it has to be a whole number from 0 to 2047"),
    ],
)
def test_bad_input_says_why(model, batch, make, says):
    with pytest.raises(UserError, match=says):
        make(model, batch)


def test_a_sources_mask_that_a_later_call_has_forgotten_is_refused(model, batch):
    """The target's later tokens would read the source's padding."""
    source, source_mask, ids = batch["source"], batch["source_mask"], batch["ids"]
    assert not source_mask.all()
    cache = model.new_cache()
    model(ids[:, :1], source=source, source_mask=source_mask, cache=cache)
    with pytest.raises(UserError, match="The text has padding, and this call with its cache had no mask for it"):
        model(ids[:, 1:2], cache=cache)


def test_places_of_the_target_may_be_marked_by_numbers(model, batch):
    at = torch.rand(batch["ids"].shape) < 0.5
    assert torch.equal(model(**batch, at=at.long()), model(**batch)[at])
