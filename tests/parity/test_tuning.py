"""Our prefix, prompt, LoRA and IA³ against the peft library: the same numbers on the same base, the same logits."""

import pytest
import torch

from minitransformer.published import BART_NAMES, BERT_NAMES, GPT2_NAMES, from_transformers, their_names
from minitransformer.tuning import IA3, LoRA, PrefixTuning, PromptTuning, attached
from tests.helpers import assert_close, mask_of, random_ids, randomise
from tests.parity.test_models import bart, bert, gpt2

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.parity

V, L, H, C, P, T = 60, 2, 4, 16, 3, 7
LENGTHS = [3, 7, 5]


def theirs_and_ours(kind, **more):
    """peft's model and ours on one tiny random GPT-2; the tuned numbers of both are still different."""
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=32, n_layer=L, n_head=H, n_embd=C, n_inner=40, bos_token_id=0, eos_token_id=3
    )
    base = randomise(transformers.GPT2LMHeadModel(config))
    ours = from_transformers(base.state_dict(), config)
    settings = {"num_virtual_tokens": P, "token_dim": C, "num_layers": L, "num_attention_heads": H, **more}
    tuned = peft.get_peft_model(base, kind(task_type="CAUSAL_LM", num_transformer_submodules=1, **settings))
    return tuned.eval(), ours


def their_logits(tuned, ids, attention_mask):
    """With the positions given, to which peft adds P: left to itself, it counts the padding too (peft#1093)."""
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.long()
    return tuned(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_prefix_in_pefts_layout_gives_pefts_logits(padded):
    tuned, ours = theirs_and_ours(peft.PrefixTuningConfig)
    table = tuned.prompt_encoder.default.embedding.weight  # (P, 2·L·C)
    table.normal_()
    ids, attention_mask = random_ids(3, T, vocab_size=V), mask_of(LENGTHS, T, left=True) if padded else None
    real = torch.ones(3, T, dtype=torch.bool) if attention_mask is None else attention_mask
    with attached(ours, method := PrefixTuning(P)):
        assert method.encoders["prefix"].free.shape == table.shape
        method.encoders["prefix"].free.copy_(table)
        actual = ours(ids, attention_mask=attention_mask)
    assert_close(actual[real], their_logits(tuned, ids, attention_mask)[real], "block 2l is K of layer l, 2l+1 its V")


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_prompt_gives_pefts_logits_behind_the_prompt(padded):
    tuned, ours = theirs_and_ours(peft.PromptTuningConfig)
    table = tuned.prompt_encoder.default.embedding.weight  # (P, C)
    table.normal_()
    ids, attention_mask = random_ids(3, T, vocab_size=V), mask_of(LENGTHS, T, left=True) if padded else None
    real = torch.ones(3, T, dtype=torch.bool) if attention_mask is None else attention_mask
    mask = real.long()
    # Prompt tuning in peft drops the positions it is given, so that its base is called with them directly.
    words = torch.cat([tuned.get_prompt(3), tuned.word_embeddings(ids)], dim=1)
    positions = torch.cat([torch.arange(P).expand(3, -1), P + (mask.cumsum(1) - 1).clamp(min=0)], dim=1)
    whole = torch.cat([torch.ones(3, P, dtype=torch.long), mask], dim=1)
    expected = tuned.base_model(inputs_embeds=words, attention_mask=whole, position_ids=positions).logits[:, P:]
    if not padded:
        assert_close(tuned(ids, attention_mask=mask).logits[:, P:], expected, "peft itself, where nothing is padded")
    with attached(ours, method := PromptTuning(P)):
        method.free.copy_(table)
        actual = ours(ids, attention_mask=attention_mask)
    assert_close(actual[real], expected[real], "the prompt's outputs are cut off: T logits come back")


# ------------------------------------------------------------------------------------------ LoRA and IA³

MODELS = {"gpt2": (gpt2, GPT2_NAMES), "bert": (bert, BERT_NAMES), "bart": (bart, BART_NAMES)}


def their_name(key, part, names):
    """Our name of a module, with / for . → their name of the map number `part` in it."""
    theirs = their_names(names, key.replace("/", "."))
    return theirs[part if len(theirs) > 1 else 0]


def both_outputs(kind, tuned, ours):
    """What the two give for one batch, with padding."""
    ids, attention_mask = random_ids(3, T, vocab_size=V), mask_of(LENGTHS, T, left=kind == "gpt2")
    if kind == "gpt2":
        return ours(ids, attention_mask=attention_mask)[attention_mask], their_logits(tuned, ids, attention_mask)[
            attention_mask
        ]
    if kind == "bert":
        hidden = tuned(ids, attention_mask=attention_mask.long(), output_hidden_states=True).hidden_states[-1]
        return ours(ids, attention_mask=attention_mask)[attention_mask], hidden[attention_mask]
    target = random_ids(3, 5, vocab_size=V, seed=1)
    logits = tuned(input_ids=ids, attention_mask=attention_mask.long(), decoder_input_ids=target).logits
    return ours(target, source=ids, source_mask=attention_mask), logits


@pytest.mark.parametrize(
    ("kind", "theirs", "targets"),
    [
        ("gpt2", ["c_proj", "c_fc"], ["out", "up", "down"]),
        ("gpt2", ["c_attn"], ["q", "k", "v"]),
        ("bert", ["query", "value"], ["q", "v"]),
        ("bert", ["key", "attention.output.dense", "intermediate.dense"], ["k", "attention.out", "up"]),
        ("bart", ["q_proj", "v_proj"], ["q", "v"]),
        ("bart", ["encoder_attn.q_proj", "encoder_attn.k_proj", "fc2"], ["cross.q", "cross.k", "down"]),
    ],
)
@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (4, 2.0), (3, 12.0)])
@torch.no_grad()
def test_lora_gives_pefts_outputs_hooked_in_and_merged(kind, theirs, targets, rank, alpha):
    """On GPT-2's c_attn peft has one A for q, k and v (trap peft#706): ours can say that too, with A three times."""
    make, names = MODELS[kind]
    model = make(d_model=16, n_head=4)
    ours = from_transformers(model.state_dict(), model.config)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=theirs, fan_in_fan_out=kind == "gpt2")
    tuned = peft.get_peft_model(model, config).eval()
    layers = {name: module for name, module in tuned.named_modules() if hasattr(module, "lora_A")}
    for layer in layers.values():
        layer.lora_A["default"].weight.normal_(std=0.3)
        layer.lora_B["default"].weight.normal_(std=0.3)
    plain, _ = both_outputs(kind, tuned, ours)
    used = set()
    with attached(ours, method := LoRA(rank, alpha, targets)):
        for key, low in method.changes.items():
            for i, part in enumerate(low.parts):
                name = their_name(key, part, names)
                (full,) = (n for n in layers if n.endswith(f".{name}"))
                used.add(full)
                b = layers[full].lora_B["default"].weight  # (d_out, r), of c_attn (3 d_out, r)
                low.a[i] = layers[full].lora_A["default"].weight  # (r, d_in)
                low.b[i] = b.chunk(3)[part] if name.endswith("c_attn") else b
        assert used == set(layers), "the names do not mean the same matrices"
        assert method.scale == layers[full].scaling["default"]
        actual, expected = both_outputs(kind, tuned, ours)
        assert (actual - plain).abs().max() > 0.1
        assert_close(actual, expected, "hooked in: h = W x + (α/r) B A x", tolerance=3e-5)
        method.merge()
        tuned.merge_adapter()
        assert_close(*both_outputs(kind, tuned, ours), "merged: W + (α/r) B A", tolerance=3e-5)
        tuned.unmerge_adapter()
        method.unmerge()
        assert torch.equal(both_outputs(kind, tuned, ours)[0], actual), "ours comes back to the bit"


@pytest.mark.parametrize(
    ("kind", "attention", "feed_forward"),
    [
        ("gpt2", ["c_attn"], ["mlp.c_proj"]),
        ("bert", ["key", "value"], [f"encoder.layer.{i}.output.dense" for i in range(2)]),
        ("bart", ["k_proj", "v_proj"], ["fc2"]),
    ],
)
@torch.no_grad()
def test_ia3_gives_pefts_outputs_hooked_in_and_merged(kind, attention, feed_forward):
    """On GPT-2's c_attn peft scales the queries too: there, their factors are set to 1."""
    make, names = MODELS[kind]
    model = make(d_model=16, n_head=4)
    ours = from_transformers(model.state_dict(), model.config)
    config = peft.IA3Config(
        target_modules=attention + feed_forward, feedforward_modules=feed_forward, fan_in_fan_out=kind == "gpt2"
    )
    tuned = peft.get_peft_model(model, config).eval()
    layers = {name: module for name, module in tuned.named_modules() if hasattr(module, "ia3_l")}
    for layer in layers.values():
        layer.ia3_l["default"].normal_(mean=1.0, std=0.4)

    def factor_of(key, part):
        name = their_name(key, part, names)
        return next(layer for n, layer in layers.items() if n.endswith(f".{name}")).ia3_l["default"].data

    plain, _ = both_outputs(kind, tuned, ours)
    with attached(ours, method := IA3()):
        for key, factor in method.factors.items():
            if key.endswith("mlp"):
                factor.copy_(factor_of(f"{key}/down", 0).flatten())
            elif kind == "gpt2":
                factor_of(f"{key}/qkv", 0)[:C] = 1
                factor.copy_(factor_of(f"{key}/qkv", 0).flatten()[C:])
            else:
                factor.copy_(torch.cat([factor_of(f"{key}/qkv", part).flatten() for part in (1, 2)]))
        actual, expected = both_outputs(kind, tuned, ours)
        assert (actual - plain).abs().max() > 0.1
        assert_close(actual, expected, "hooked in: l_k ⊙ k, l_v ⊙ v, l_ff ⊙ σ(W_up x)", tolerance=3e-5)
        method.merge()
        tuned.merge_adapter()
        assert_close(*both_outputs(kind, tuned, ours), "merged: rows of W^K, W^V and b, columns of W_down", 3e-5)
