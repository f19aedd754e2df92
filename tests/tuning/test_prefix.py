"""Prefix and infix: what they start as, where they go, how many numbers they are, and a prefix for each row."""

import copy
import dataclasses
import math

import pytest
import torch

from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.attention import Prefix
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2SeqConfig
from minitransformer.models.watch import watch_attention
from minitransformer.tuning import (
    Infix,
    PrefixTuning,
    PromptTuning,
    Report,
    activations,
    attached,
    for_each_row,
    load,
    virtual_ids,
)
from minitransformer.tuning.prefix import RANDOM_STD, PrefixEncoder, to_flat, to_prefixes
from minitransformer.tuning.virtual import ids_to_start_from
from tests.helpers import (
    GPT_CONFIG,
    SEQ2SEQ_CONFIG,
    assert_close,
    keys_and_values,
    mask_of,
    random_ids,
    random_prefix,
    record_keys_and_values,
    tiny_bert,
    tiny_gpt,
    tiny_seq2seq,
)
from tests.tuning.helpers import BASES, LENGTHS, START, B, P, T, batch_for, insert, loss_of, outputs, train_steps

SLOTS = {"encoder_prefix": 2, "prefix": 3, "cross_prefix": 3}  # of the tiny encoder–decoder, with their layers


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ------------------------------------------------------------------------------------- what it starts as


@pytest.mark.parametrize("length", [1, 4])
def test_a_prefix_that_starts_as_words_is_that_prompt(length):
    """Traps "positions" (PrefixTuning#40) and "init from words" (PrefixTuning#39): K and V of words, the text at P."""
    base, words, ids = tiny_gpt(), random_ids(1, length, seed=3), random_ids(B, T)
    expected = base(torch.cat([words.expand(B, -1), ids], dim=1))[:, length:]
    with attached(base, PrefixTuning(length, init=words[0].tolist())):
        assert_close(base(ids), expected, "the words' keys and values stand for them, and the text begins at P")


def test_a_prefix_that_starts_as_words_is_that_prompt_in_a_padded_batch():
    """Trap "left padding" (transformers#18478, peft#1093): padding takes no position and hides no prefix."""
    base, words, ids = tiny_gpt(), random_ids(1, 4, seed=3), random_ids(B, T)
    expected = [base(torch.cat([words, ids[row : row + 1, T - n :]], dim=1))[0, 4:] for row, n in enumerate(LENGTHS)]
    with attached(base, PrefixTuning(4, init=words[0])):
        together = base(ids, attention_mask=mask_of(LENGTHS, T, left=True))
    for row, n in enumerate(LENGTHS):
        assert_close(together[row, T - n :], expected[row], f"row {row}, {T - n} paddings: it is not the prompt")


def test_words_are_repeated_or_cut_to_the_length():
    base, ids = tiny_gpt(), random_ids(1, T)
    for length, prompt in ((5, [7, 8, 7, 8, 7]), (1, [7])):
        expected = base(torch.cat([torch.tensor([prompt]), ids], dim=1))[:, length:]
        with attached(base, PrefixTuning(length, init=[7, 8])):
            assert_close(base(ids), expected, f"[7, 8] to the length {length} is {prompt}")


@pytest.mark.parametrize("kind", BASES)
def test_activations_are_the_keys_and_values_of_the_text(kind):
    base, ids = BASES[kind](), random_ids(1, 4)
    if kind == "seq2seq":
        context = base.encode(ids)
        expected = {
            "encoder_prefix": record_keys_and_values([b.attention for b in base.encoder], lambda: base.encode(ids)),
            "prefix": record_keys_and_values([b.attention for b in base.decoder], lambda: base.decode(ids, context)),
            "cross_prefix": [keys_and_values(block.cross, context) for block in base.decoder],
        }
    else:
        expected = {"prefix": record_keys_and_values([b.attention for b in base.blocks], lambda: base(ids))}
    found = activations(base, ids)
    assert found.keys() == expected.keys()
    for slot, layers in expected.items():
        assert len(found[slot]) == len(layers)
        for i, (ours, theirs) in enumerate(zip(found[slot], layers, strict=True)):
            assert_close(ours.k, theirs.k, f"keys of {slot}, layer {i}")
            assert_close(ours.v, theirs.v, f"values of {slot}, layer {i}")


def test_activations_drop_nothing_and_leave_the_mode():
    base = tiny_gpt(config=GPTConfig(**{**vars(GPT_CONFIG), "dropout": 0.5}))
    expected = activations(base, random_ids(1, 4))
    for i, layer in enumerate(activations(base.train(), random_ids(1, 4))["prefix"]):
        assert torch.equal(layer.k, expected["prefix"][i].k), "words were read with dropout: another text each time"
    assert base.training, "reading words switched the base to eval mode"


def test_vocabulary_starts_as_some_words():
    base = tiny_gpt()
    every_key = base.blocks[0].norm1(base.token_embedding.weight[:, None] + base.position_embedding.weight)  # (V, P, C)
    with attached(base, method := PrefixTuning(1, init="vocabulary")):
        (key,) = keys_and_values(base.blocks[0].attention, every_key[:, :1]).k[:, :, 0].flatten(1).unsqueeze(0)
        own = method.prefixes()["prefix"][0].k[0, :, 0].flatten()
    assert (key - own).abs().amax(dim=1).min() < 1e-5, "its first key is that of no word of the vocabulary"


def test_under_an_mlp_it_is_fitted_to_the_words():
    """Trap "init from words" (PrefixTuning#39): the MLP that makes the prefix has to begin at the words' K and V."""
    base, words = tiny_gpt(), [7, 8, 9]
    wanted = to_flat(activations(base, torch.tensor([words]))["prefix"])
    ids = random_ids(B, T)
    prompt = base(torch.cat([torch.tensor([words]).expand(B, -1), ids], dim=1))[:, 3:]
    with attached(base, method := PrefixTuning(3, reparametrise=32, init=words)):
        missed = (method.encoders["prefix"]() - wanted).square().mean() / wanted.square().mean()
        near = (base(ids) - prompt).abs().mean()
    with attached(base, PrefixTuning(3, reparametrise=32)):
        far = (base(ids) - prompt).abs().mean()
    assert missed < 0.02, f"the MLP misses {missed:.1%} of the words' keys and values"
    assert near < far / 4, f"it begins {near:.3f} away from the words' logits, a random one {far:.3f}"


def test_an_mlp_that_can_meet_the_words_does():
    wanted = torch.randn(10, 200)  # more numbers in the MLP than here
    missed = (PrefixEncoder(wanted, hidden=64, d_small=8, fit=True)() - wanted).square().mean() / wanted.square().mean()
    assert missed < 1e-3, f"the fit stops {missed:.1%} away: too few steps, or steps of the wrong size"


def test_a_table_is_fitted_where_the_words_are():
    """A base in double precision has words in double precision: an MLP in single precision could not meet them."""
    table = PrefixEncoder(torch.randn(P, 10, dtype=torch.double), hidden=6, d_small=4, fit=True)
    assert {p.dtype for p in table.parameters()} == {torch.double}


def test_an_infix_under_an_mlp_is_fitted_to_the_words():
    base, words = tiny_gpt(), [7, 8, 9]
    wanted = to_flat(activations(base, torch.tensor([words]))["prefix"])
    method = Infix(3, reparametrise=32, init=words)
    assert method.encoder is None, "before it is on a base there are no words' keys and values to start from"
    with attached(base, method):
        missed = (method.encoder() - wanted).square().mean() / wanted.square().mean()
        assert method.encoder.free is None and method.encoder.mlp[0].out_features == 32, "the numbers are free: no MLP"
    assert missed < 0.02, f"the MLP misses {missed:.1%} of the words' keys and values"


@pytest.mark.parametrize("make", [PrefixTuning, Infix])
def test_a_random_start_has_the_size_that_keys_and_values_have(make):
    with attached(tiny_gpt(), method := make(20)):
        (numbers,) = (p.detach() for p in method.parameters())
    assert math.isclose(numbers.std(), RANDOM_STD, rel_tol=0.1) and abs(numbers.mean()) < 0.1 * RANDOM_STD


def test_words_are_one_text_where_the_base_is():
    # A second device stands in for a GPU: "meta", whose tensors have no numbers.
    base = tiny_gpt()
    assert ids_to_start_from([7, 8], 5, base).tolist() == [[7, 8, 7, 8, 7]]
    drawn = ids_to_start_from("vocabulary", 200, base)
    assert drawn.shape == (1, 200) and set(drawn[0].tolist()) == set(range(40)), "all words can be drawn, and no others"
    for init in ("vocabulary", [7, 8]):
        assert ids_to_start_from(init, 5, tiny_gpt().to("meta")).device.type == "meta"


@pytest.mark.parametrize("kind", BASES)
def test_random_starts_follow_the_seed(kind):
    base, batch, seen = BASES[kind](), batch_for(BASES[kind]()), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with attached(base, PrefixTuning(P)):
            seen.append(outputs(base, batch))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("kind", [PrefixTuning, Infix, PromptTuning])
def test_words_to_begin_as_may_come_in_anything_and_are_noted_as_a_list(kind):
    for given in ((7, 8), torch.tensor([7, 8]), range(7, 9)):
        assert kind(2, init=given).settings["init"] == [7, 8], "a file of settings can hold a list of whole numbers"


def test_a_cached_generation_asks_the_mlp_once():
    base, method, calls = tiny_gpt(), PrefixTuning(P, reparametrise=16), []
    with attached(base, method):
        for table in method.encoders.values():
            table.register_forward_hook(lambda module, args, output: calls.append(module))
        generate(base, [[5, 6, 7]], 5)
    assert len(calls) == 1, f"the prefix was made {len(calls)} times for 5 tokens; after the first the cache holds it"


def test_a_prefix_of_one_slot_is_one_when_it_is_loaded(tmp_path):
    base = tiny_seq2seq()
    with attached(base, method := PrefixTuning(P, slots=["cross_prefix"])):
        method.save(tmp_path / "p")
        inside = set(method.encoders)
    loaded = load(tmp_path / "p", base)
    assert set(loaded.encoders) == inside == {"cross_prefix"}, "the file has to say which slots it fills"


def test_flat_and_layered_are_the_same_numbers():
    prefixes = random_prefix(3, 2, 4, length=5)
    flat = to_flat(prefixes)
    assert flat.shape == (5, 3 * 2 * 8)
    for p in range(5):
        for layer in range(3):
            for part in range(2):
                for head in range(2):
                    start = ((layer * 2 + part) * 2 + head) * 4
                    assert torch.equal(flat[p, start : start + 4], prefixes[layer][part][0, head, p])
    for ours, theirs in zip(to_prefixes(flat, 3, 2), prefixes, strict=True):
        assert torch.equal(ours.k, theirs.k) and torch.equal(ours.v, theirs.v)


# ------------------------------------------------------------------------------------------ where it goes


@pytest.mark.parametrize("kind", BASES)
def test_attached_is_the_same_as_handed_over(kind):
    base = BASES[kind]()
    batch = {
        name: t for name, t in batch_for(base).items() if name in ("ids", "attention_mask", "source", "source_mask")
    }
    with attached(base, method := PrefixTuning(P)):
        on = outputs(base, batch)
        prefixes = method.prefixes()
    with torch.no_grad():
        assert torch.equal(base(**batch, **prefixes)[batch["attention_mask"]], on)
    assert list(prefixes) == (list(SLOTS) if kind == "seq2seq" else ["prefix"])


@pytest.mark.parametrize("kind", BASES)
def test_a_zero_prefix_is_not_the_identity(kind):
    """He et al. 2022: λ is the prefix's share of Σ exp(q·k); for keys of 0 it is P / (P + Σ exp), which is not 0."""
    base, batch = BASES[kind](), batch_for(BASES[kind]())
    plain = outputs(base, batch)
    with attached(base, method := PrefixTuning(P)):
        for table in method.encoders.values():
            table.free.data.zero_()
        assert (outputs(base, batch) - plain).abs().max() > 0.01, "zeros took no share of the attention"


def test_every_query_sees_the_prefix_whatever_the_padding():
    """Trap "masks" (transformers#41696, adapters#559): the mask has P columns more than the text."""
    base = tiny_gpt()
    attention_mask = mask_of(LENGTHS, T, left=True)
    with attached(base, PrefixTuning(P)), watch_attention(base) as maps:
        base(random_ids(B, T), attention_mask=attention_mask)
    for name, (weights,) in maps.items():
        assert weights.shape == (B, 2, T, P + T)
        assert (weights[..., :P] > 0).all(), f"{name}: some query does not see some prefix column"
        assert (weights[:, :, :, P:].masked_select(~attention_mask[:, None, None, :]) == 0).all(), (
            f"{name}: padding is read"
        )


@pytest.mark.parametrize("slot", SLOTS)
def test_each_slot_alone_changes_the_logits_and_holds_its_own_numbers(slot):
    """Trap "three prefixes" (peft#1188, peft#410): encoder, decoder and cross-attention each have their own."""
    base, batch = tiny_seq2seq(), batch_for(tiny_seq2seq())
    plain, read = outputs(base, batch), []
    base.encoder[-1].register_forward_hook(lambda module, args, y: read.append(y.detach()))
    outputs(base, batch)
    with attached(base, method := PrefixTuning(P, slots=[slot])):
        assert list(method.prefixes()) == [slot] and len(method.prefixes()[slot]) == SLOTS[slot]
        assert method.report().trained == 2 * SLOTS[slot] * 8 * P
        assert (outputs(base, batch) - plain).abs().max() > 0.01, f"{slot} changes nothing"
    same = torch.equal(read[0], read[1])
    assert same == (slot != "encoder_prefix"), "the encoder's output changes with the encoder's prefix, and only then"


@pytest.mark.parametrize("mlp", [None, 16])
@pytest.mark.parametrize("kind", BASES)
def test_keys_and_values_of_every_layer_and_slot_learn_at_both_of_two_steps(kind, mlp):
    """Traps "stale prefix" (litgpt#1287) and "three prefixes" (peft 0.21.2: half of the blocks get no gradient)."""
    base = BASES[kind]()
    batch, method = batch_for(base), PrefixTuning(P, reparametrise=mlp).attach(base)
    made = {}  # slot → what its table gave in the call that is running
    for slot, table in method.encoders.items():

        def note(module, args, flat, slot=slot):
            flat = flat * 1  # a tensor of this call's own graph
            flat.retain_grad()
            made[slot] = flat
            return flat

        table.register_forward_hook(note)
    optimizer = torch.optim.SGD(method.trainable(), lr=0.05)
    for step in (1, 2):
        loss_of(base)(base, batch)[0].backward()
        assert list(made) == (list(SLOTS) if kind == "seq2seq" else ["prefix"])
        for slot, flat in made.items():
            for i, layer in enumerate(to_prefixes(flat.grad, flat.size(1) // 16, 2)):
                for part, gradient in zip(("keys", "values"), layer, strict=True):
                    assert (gradient != 0).all(), f"step {step}: {part} of {slot}, layer {i}: a part does not learn"
        optimizer.step()
        optimizer.zero_grad()


def test_only_the_top_layers_get_a_prefix():
    base, ids = tiny_gpt(), random_ids(B, T)
    with attached(base, method := PrefixTuning(P, layers=2)), watch_attention(base) as maps:
        on = base(ids)
        table = method.encoders["prefix"]()
    assert [maps[f"blocks.{i}.attention"][0].size(-1) for i in range(3)] == [T, P + T, P + T]
    empty = Prefix(torch.zeros(1, 2, 0, 4), torch.zeros(1, 2, 0, 4))
    top = [Prefix(*table[:, i * 16 : i * 16 + 16].view(P, 2, 1, 2, 4).permute(1, 2, 3, 0, 4)) for i in range(2)]
    assert_close(base(ids, prefix=[empty, *top]), on, "the text's positions start at 0 where layer 0 has no prefix")
    words = activations(base, torch.tensor([[7, 8, 9]]))["prefix"]
    expected = base(ids, prefix=[empty, *words[1:]])
    with attached(base, PrefixTuning(P, layers=2, init=[7, 8, 9])):
        assert_close(base(ids), expected, "the top layers start as the words' activations in those layers")


def test_a_prefix_of_the_top_layers_leaves_all_positions_to_a_cached_text():
    base, ids = tiny_gpt(), random_ids(1, GPT_CONFIG.n_positions)
    with attached(base, PrefixTuning(P, layers=1)), torch.no_grad():
        whole, cache = base(ids), base.new_cache()
        parts = [base(ids[:, :5], cache=cache), base(ids[:, 5:], cache=cache)]
    assert_close(torch.cat(parts, dim=1), whole, "cached ≢ uncached at the last positions")


@pytest.mark.parametrize("layers", [1, 2])
def test_a_prefix_of_the_top_layers_in_a_cached_encoder_decoder(layers):
    base, source = tiny_seq2seq(), random_ids(1, T)
    with attached(base, PrefixTuning(P, layers=layers)):
        cached = generate(base, [[START]], 8, source=source)
        assert generate(base, [[START]], 8, source=source, use_cache=False) == cached


@pytest.mark.parametrize("kind", ["gpt", "seq2seq"])
def test_a_base_of_one_layer_knows_its_first_call_too(kind):
    sizes = {"gpt": {"n_layer": 1}, "seq2seq": {"n_encoder_layer": 1, "n_decoder_layer": 1}}[kind]
    config = dataclasses.replace({"gpt": GPT_CONFIG, "seq2seq": SEQ2SEQ_CONFIG}[kind], **sizes)
    base, ids = BASES[kind](config=config), random_ids(1, T)
    inputs = {"source": ids} if kind == "seq2seq" else {}
    with attached(base, PrefixTuning(P)), torch.no_grad():
        whole, cache = base(ids, **inputs), base.new_cache()
        parts = [base(part, cache=cache, **inputs) for part in ids.split([1, 1, T - 2], dim=1)]
    assert_close(torch.cat(parts, dim=1), whole, "the prefix has to go in once, at the first call")


def test_the_cross_prefix_survives_cached_decoding():
    base, source, ids = tiny_seq2seq(), random_ids(1, T), random_ids(1, 8, seed=1)
    with attached(base, PrefixTuning(P, slots=["cross_prefix"])), torch.no_grad():
        whole, cache = base(ids, source=source), base.new_cache()
        steps = [base(ids[:, t : t + 1], cache=cache, source=source) for t in range(8)]
        assert [layer.cross.length for layer in cache] == [P + T] * 3, "the cross prefix enters the cache once"
    assert_close(torch.cat(steps, dim=1), whole, "a cross prefix that is lost after the first step")


def test_a_classifiers_class_token_stays_at_index_0():
    """000 §5: vectors in front of a BERT's input move [CLS]; a prefix of keys and values does not."""
    model, ids = Classifier(tiny_bert(), 3), random_ids(B, T)
    with attached(model, PrefixTuning(P)):
        hidden = model.base(ids)
        assert hidden.shape == (B, T, 8), "trap logit length (trl#3812): K and V give T outputs, not P + T"
        assert_close(model(ids), model.head(torch.tanh(model.base.pooler(hidden[:, 0]))), "the pooler reads [CLS]")


# ------------------------------------------------------------------------------------------- how many


def test_003s_share_on_gpt2_medium():
    """003 §1's "0.1 %": 2 · 24 · 1024 · 5 = 245,760 numbers, 0.069 % of 355M; at P = 10 0.139 %."""
    with torch.device("meta"):  # sizes without numbers
        base = GPT(GPTConfig(vocab_size=50257, n_positions=1024, n_layer=24, n_head=16, d_model=1024, d_ff=4096))
    n_base = sum(p.numel() for p in base.parameters())
    for length, number, share in ((5, 245_760, "0.069%"), (10, 491_520, "0.139%")):
        method = PrefixTuning(length)
        method.build(base)
        trained = sum(p.numel() for p in method.trainable())
        assert trained == 2 * 24 * 1024 * length == number
        assert f"{Report('PrefixTuning', trained, trained, 0, n_base).trained_fraction:.3%}" == share


@pytest.mark.parametrize("kind", BASES)
def test_without_its_mlp_it_is_the_same_prefix_and_goes_on_learning(kind, tmp_path):
    """Trap "reparametrisation": the output is equal after the MLP is dropped (003 §3.3)."""
    base = BASES[kind]()
    batch, method = batch_for(base), PrefixTuning(P, reparametrise=16).attach(base)
    train_steps(base, batch)
    before, stored = outputs(base, batch), method.report().stored
    assert method.report().trained > 2 * stored
    method.drop_mlp()
    assert torch.equal(outputs(base, batch), before), "the prefix changed with its MLP dropped"
    assert method.report().trained == method.report().stored == stored
    assert method.reparametrise is None, "there is no MLP, and the method says there is"
    method.save(tmp_path / "p.safetensors", resume=True)
    train_steps(base, batch)
    assert not torch.equal(outputs(base, batch), before)
    method.detach()
    load(tmp_path / "p.safetensors", base)
    assert torch.equal(outputs(base, batch), before)


def test_the_table_is_the_mlp_of_the_small_one():
    table = PrefixEncoder(torch.zeros(P, 10), hidden=6, d_small=4, fit=False)
    first, second = table.mlp[0], table.mlp[2]
    for i in range(P):
        hidden = torch.tanh(first.weight @ table.small[i] + first.bias)
        assert_close(table()[i], second.weight @ hidden + second.bias, f"P_θ[{i}, :] = MLP_θ(P'_θ[{i}, :])", 1e-6)


# --------------------------------------------------------------------------------- a prefix for each row


def three_prefixes(base, **settings):
    methods = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        with attached(base, method := PrefixTuning(P, **settings)):
            methods.append(method)
    return methods


@pytest.mark.parametrize("kind", BASES)
def test_a_prefix_for_each_row_gives_what_each_gives_alone(kind):
    base = BASES[kind]()
    batch = {
        name: t for name, t in batch_for(base).items() if name in ("ids", "attention_mask", "source", "source_mask")
    }
    methods = three_prefixes(base)
    rows = [methods[0], methods[2], methods[1]]
    together = base(**batch, **for_each_row(rows))
    for row, method in enumerate(rows):
        one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        with attached(base, method):
            alone, real = base(**one), batch["attention_mask"][row]
        assert_close(together[row, real], alone[0, real], f"row {row} with its own prefix differs from the row alone")


def test_a_batch_may_have_one_row():
    (method, *_), ids = three_prefixes(tiny_gpt()), random_ids(1, T)
    assert torch.equal(tiny_gpt()(ids, **for_each_row([method])), tiny_gpt()(ids, **method.prefixes()))


@pytest.mark.parametrize("layers", [None, 1])
def test_a_prefix_for_each_row_in_generation(layers):
    base, methods = tiny_gpt(), three_prefixes(tiny_gpt(), layers=layers)
    prompts = [random_ids(n, seed=n).tolist() for n in (6, 2, 4)]
    prefixes = for_each_row(methods)
    together = generate(base, prompts, 8, **prefixes)
    assert generate(base, prompts, 8, use_cache=False, **prefixes) == together
    beams = beam_search(base, prompts, 5, n_beam=3, **prefixes)
    for row, method in enumerate(methods):
        with attached(base, method):
            assert generate(base, [prompts[row]], 8)[0] == together[row], f"row {row} writes another text alone"
            alone = beam_search(base, [prompts[row]], 5, n_beam=3)[0]
        assert [h.tokens for h in alone] == [h.tokens for h in beams[row]], f"row {row}: beams"


# -------------------------------------------------------------------------------------------------- infix


def infixed(ids, at=3, length=P):
    return insert(ids, at, virtual_ids(length))


@pytest.mark.parametrize("mlp", [None, 16])
def test_x_cannot_see_the_infix_and_y_can(mlp):
    base, ids, outs = tiny_gpt(), random_ids(B, T), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with attached(base, Infix(P, reparametrise=mlp)):
            outs.append(base(infixed(ids)))
    plain = base(ids)
    for out in outs:
        assert_close(out[:, :3], plain[:, :3], "x stands before the infix and cannot see it")
    assert ((outs[0] - outs[1])[:, 3 + P :].abs().amax(dim=-1) > 1e-3).all(), "y does not see the infix"


def test_keys_and_values_at_virtual_tokens_are_the_table_in_every_layer():
    base, ids, cache = tiny_gpt(), infixed(random_ids(B, T)), tiny_gpt().new_cache()
    ids[1] = ids[1].roll(2)  # its infix stands elsewhere
    ids[2, [3, 4]] = ids[2, [4, 3]]  # its virtual tokens stand in another order
    with attached(base, method := Infix(P)):
        base(ids, cache=cache)
        table = method.encoder()
    for i, layer in enumerate(cache):
        wanted = table[:, i * 16 : i * 16 + 16].view(P, 2, 2, 4)  # key or value, head
        for row in range(B):
            for t in (ids[row] < 0).nonzero()[:, 0].tolist():
                number = -1 - ids[row, t]
                for part, columns in enumerate((layer.k, layer.v)):
                    found = columns[row, :, t]
                    assert torch.equal(found, wanted[number, part]), f"layer {i}, row {row}, position {t}: not P_θ"


def test_an_infix_that_starts_as_words_has_their_keys_and_values():
    base, words = tiny_gpt(), torch.tensor([[7, 8, 9]])
    with attached(base, method := Infix(3, init=[7, 8, 9])):
        table = method.encoder()
        # With no x before it, an infix stands where a prefix would. Only the outputs at the virtual tokens differ.
        y = random_ids(1, T)
        infix = base(infixed(y, at=0))[:, 3:]
    assert_close(table, to_flat(activations(base, words)["prefix"]), "the words' activations", 0)
    assert_close(infix, base(torch.cat([words, y], dim=1))[:, 3:], "in front of the text it is that prompt")


def test_an_infix_is_written_after_in_a_cache_by_later_calls_alone():
    base, ids = tiny_gpt(), infixed(random_ids(B, T))
    with attached(base, Infix(P)), torch.no_grad():
        whole, cache = base(ids), base.new_cache()
        parts = [base(part, cache=cache) for part in ids.split([3 + P, 1, 3], dim=1)]
        text = random_ids(1, T)
        with pytest.raises(UserError, match="Row 0 has the virtual tokens"):
            base(text)
    assert_close(torch.cat(parts, dim=1), whole, "cached ≢ uncached")


# ----------------------------------------------------------------------------------------------- refusals


def on(make_base, method, call):
    def run():
        base = make_base()
        method().attach(base)
        call(base)

    return run


REFUSALS = {
    "no length": (lambda: PrefixTuning(0), "length = 0: a method without virtual tokens"),
    "no length of an infix": (lambda: Infix(-1), "length = -1"),
    "half a token": (lambda: PrefixTuning(2.5), "length = 2.5: it has to be a whole number"),
    "half a layer": (lambda: PrefixTuning(P, layers=1.5), "layers = 1.5: it has to be a whole number"),
    "no layer": (lambda: PrefixTuning(P, layers=0), "layers = 0: a prefix in no layer would tune nothing"),
    "an MLP of half a number": (lambda: PrefixTuning(P, 1.5), "reparametrise = 1.5: it has to be a whole number"),
    "an MLP of no number": (lambda: Infix(P, reparametrise=0), "reparametrise = 0: an MLP has at least one unit"),
    "an unknown init": (lambda: PrefixTuning(P, init="words"), "init = 'words': it has to be \"random\""),
    "an init of no word": (lambda: Infix(P, init=[]), r"init = \[\]: it has to be"),
    "a word outside the vocabulary": (
        lambda: PrefixTuning(P, init=[4, 40]).attach(tiny_gpt()),
        "Token id 40 in row 0 at position 1 is outside",
    ),
    "a prefix as long as the model": (
        lambda: PrefixTuning(24).attach(tiny_gpt()),
        "24 virtual tokens leave no room for a text: .* n_positions = 24",
    ),
    "an infix as long as the model": (lambda: Infix(30).attach(tiny_gpt()), "30 virtual tokens leave no room"),
    "an unknown slot": (
        lambda: PrefixTuning(P, slots=["prefix", "decoder"]).attach(tiny_seq2seq()),
        r"slots = \['prefix', 'decoder'\]: a Seq2Seq has encoder_prefix, prefix, cross_prefix, and no 'decoder'",
    ),
    "a slot of another architecture": (
        lambda: PrefixTuning(P, slots=["cross_prefix"]).attach(tiny_gpt()),
        "a GPT has prefix, and no 'cross_prefix'",
    ),
    "no slot": (lambda: PrefixTuning(P, slots=[]).attach(tiny_gpt()), r"slots = \[\]: it has to be a list of names"),
    "too many layers": (
        lambda: PrefixTuning(P, layers=4).attach(tiny_gpt()),
        "layers = 4: this base has 3 layers .* 1 to 3",
    ),
    "more layers than the encoder has": (
        lambda: PrefixTuning(P, layers=3).attach(tiny_seq2seq()),
        "layers = 3: this base has 2 layers for a prefix",
    ),
    "an infix in a BERT": (lambda: Infix(P).attach(tiny_bert()), "This Infix goes onto a GPT, not onto a Bert"),
    "an infix in an encoder-decoder": (
        lambda: Infix(P).attach(tiny_seq2seq()),
        "This Infix goes onto a GPT, not onto a Seq2Seq",
    ),
    "prefix and text together too long": (
        on(tiny_gpt, lambda: PrefixTuning(P), lambda m: m(random_ids(1, 22))),
        r"25 positions are needed \(3 before this call, of which 3 for a prefix, and 22 in it\).* or the prefix",
    ),
    "a second prefix": (
        on(tiny_gpt, lambda: PrefixTuning(P), lambda m: m(random_ids(1, T), prefix=random_prefix(3, 2, 4))),
        r"'prefix' was given to a base that a PrefixTuning is on, .* detach\(\) the method, or leave",
    ),
    "a second prefix, by position": (
        on(tiny_gpt, lambda: PrefixTuning(P), lambda m: m(random_ids(1, T), None, random_prefix(3, 2, 4))),
        "'prefix' was given to a base that a PrefixTuning is on",
    ),
    "a second cross prefix": (
        on(
            tiny_seq2seq,
            lambda: PrefixTuning(P),
            lambda m: m(random_ids(1, T), source=random_ids(1, T), cross_prefix=random_prefix(3, 2, 4)),
        ),
        "'cross_prefix' was given",
    ),
    "an infix nowhere": (
        on(tiny_gpt, lambda: Infix(2), lambda m: m(insert(random_ids(1, T), 1, [-1]))),
        r"Row 0 has the virtual tokens \[-1\] where an infix of length 2 belongs: put virtual_ids\(2\)",
    ),
    "a virtual token twice": (
        on(tiny_gpt, lambda: Infix(2), lambda m: m(insert(random_ids(1, T), 1, [-1, -1]))),
        r"\[-1, -1\] where an in",
    ),
    "a virtual token that there is not": (
        on(tiny_gpt, lambda: Infix(2), lambda m: m(insert(random_ids(1, T), 1, [-1, -3]))),
        r"\[-1, -3\] where an in",
    ),
    "vectors beside an infix": (
        on(tiny_gpt, lambda: Infix(1), lambda m: m(insert(random_ids(1, T), 1, [-1]), vectors=torch.zeros(1, 8))),
        "'vectors' was given to a base that a Infix is on",
    ),
    "no row": (lambda: for_each_row([]), "There is no row"),
    "a prefix that was never made": (lambda: for_each_row([PrefixTuning(P)]), "once attached has parameters"),
    "a prompt for a row": (lambda: for_each_row([PromptTuning(P)]), "A PromptTuning has no prefix to give"),
}


@pytest.mark.parametrize(("make", "says"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_said(make, says):
    with pytest.raises(UserError, match=says):
        make()


def built(base, *args, **settings):
    with attached(base, method := PrefixTuning(*args, **settings)):
        return method


def test_rows_that_differ_are_refused():
    base = tiny_gpt()
    for other, says in (
        (built(base, 2), r"have the lengths \[3, 2\]"),
        (built(base, P, layers=1), r"layers = \[None, 1\]: in one batch all have to be alike"),
        (built(tiny_gpt(seed=1), P), "different bases; one batch runs on one base"),
    ):
        with pytest.raises(UserError, match=says):
            for_each_row([built(base, P), other])
    base = tiny_seq2seq()
    with pytest.raises(UserError, match=r"the slots \[\['cross_prefix', 'encoder_prefix', 'prefix'\], \['prefix'\]\]"):
        for_each_row([built(base, P), built(base, P, slots=["prefix"])])


def test_where_both_stacks_are_deep_enough_layers_may_be_as_many():
    base = tiny_seq2seq(config=Seq2SeqConfig(**{**vars(SEQ2SEQ_CONFIG), "n_encoder_layer": 3}))
    whole = PrefixTuning(P).attach(base)
    output = outputs(base, batch_for(base))
    whole.detach()
    top = built(base, P, layers=3)
    top.encoders = copy.deepcopy(whole.encoders)
    with attached(base, top):
        assert torch.equal(outputs(base, batch_for(base)), output), "the top 3 of 3 layers are all layers"
    with attached(tiny_seq2seq(), PrefixTuning(P, layers=3, slots=["prefix", "cross_prefix"])):
        pass
