"""What we write peft reads, and what peft writes we read: the same logits and the same text on the same base."""

import json

import pytest
import torch

from minitransformer.errors import UserError
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPTConfig
from minitransformer.published import from_transformers
from minitransformer.tuning import (
    IA3,
    Adapter,
    BitFit,
    FullFineTuning,
    Infix,
    LoRA,
    PrefixTuning,
    PromptTuning,
    PTuning,
    TopLayers,
    attached,
    attached_to,
    virtual_ids,
)
from minitransformer.tuning.exchange import from_peft, to_peft
from tests.helpers import GPT_CONFIG, assert_close, mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.parity.test_models import bart, bert, gpt2
from tests.tuning.helpers import stir

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.parity

V, P, T = 60, 3, 7
MAKE = {"gpt2": gpt2, "bert": bert, "bart": bart}


def both(kind):
    """A tiny random model of theirs, and ours with its weights."""
    theirs = MAKE[kind](d_model=16, n_head=4)
    return theirs, from_transformers(theirs.state_dict(), theirs.config)


def read_by_both(kind, tuned, ours, prompt=()):
    """What the two say about one batch. `prompt`: virtual tokens that our text has in front, and peft adds itself."""
    ids = random_ids(3, T, vocab_size=V - 10)
    if kind == "bart":
        target = random_ids(3, 5, vocab_size=V - 10, seed=1)
        theirs = tuned(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=target).logits
        return ours(target, source=ids), theirs
    theirs = tuned(ids, attention_mask=torch.ones_like(ids), output_hidden_states=kind == "bert")
    if kind == "bert":
        return ours(ids), theirs.hidden_states[-1]
    text = torch.cat([torch.tensor(prompt, dtype=torch.long).expand(3, -1), ids], dim=1)
    return ours(text)[:, len(prompt) :], theirs.logits[:, -T:]


def written_by_both(tuned, ours, prompt=()):
    """Ten tokens that the two write after one prompt, greedily."""
    ids = random_ids(1, 4, vocab_size=V - 10, seed=5)
    theirs = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    theirs = theirs[0, 4:].tolist()  # which ends where its config has an end
    return generate(ours, [[*prompt, *ids[0].tolist()]], max_new_tokens=10)[0][: len(theirs)], theirs


OURS = {
    "prefix": ("gpt2", lambda: PrefixTuning(P)),
    "prefix with its mlp": ("gpt2", lambda: PrefixTuning(P, reparametrise=5)),
    "prefix of a bert": ("bert", lambda: PrefixTuning(P)),
    "prompt": ("gpt2", lambda: PromptTuning(P)),
    "prompt of an encoder": ("bart", lambda: PromptTuning(P)),
    "p-tuning": ("gpt2", lambda: PTuning(P)),
    "lora": ("gpt2", lambda: LoRA(2, 6.0)),
    "lora of queries": ("gpt2", lambda: LoRA(3, 2.0, ["q"])),
    "lora of everything": ("gpt2", lambda: LoRA(2, 3.0, ["q", "k", "v", "attention.out", "up", "down"])),
    "lora in one layer": ("gpt2", lambda: LoRA(2, 3.0, ["blocks.1.attention.v", "blocks.0.mlp.up"])),
    "lora of a bert": ("bert", lambda: LoRA(2, 6.0, ["q", "v", "up"])),
    "lora of a bart": ("bart", lambda: LoRA(2, 6.0, ["q", "cross.k", "down"])),
    "ia3": ("gpt2", IA3),
    "ia3 of a bert": ("bert", IA3),
    "ia3 of a bart": ("bart", IA3),
}


@pytest.mark.parametrize(("kind", "make"), OURS.values(), ids=OURS)
@torch.no_grad()
def test_peft_reads_what_we_wrote(kind, make, tmp_path):
    theirs, ours = both(kind)
    method = stir(make().attach(ours), std=0.5)
    to_peft(method, tmp_path / "tuned")
    tuned = peft.PeftModel.from_pretrained(theirs, tmp_path / "tuned").eval()
    prompt = virtual_ids(P) if isinstance(method, PTuning) else []
    actual, expected = read_by_both(kind, tuned, ours, prompt)
    method.detach()
    if not prompt:
        plain, _ = read_by_both(kind, tuned, ours)
        assert (actual - plain).abs().max() > 0.01, "the method is not felt"
    assert_close(actual, expected, "peft says something else with what we wrote", tolerance=1e-5)
    with attached(ours, method):
        if kind == "gpt2":
            one, other = written_by_both(tuned, ours, prompt)
            assert one == other, "peft writes another text"
        again = stored_of(method)
        config = json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())
        assert config["inference_mode"] is True and not (tmp_path / "tuned" / "adapter_model.bin").exists()
        assert again == stored_of(method), "to_peft changes nothing"


def stored_of(method):
    return {name: tensor.tolist() for name, tensor in method.stored()[1].items()}


def tuned_by_peft(theirs, config):
    """Their model with this config, everything that it trains random."""
    tuned = peft.get_peft_model(theirs, config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in tuned.named_parameters():
            if p.requires_grad:
                p.normal_(std=0.4, generator=generator)
                if "ia3_l" in name:
                    p.add_(1)
                    if "c_attn" in name:
                        p[:16] = 1  # ours does not scale queries
    return tuned


VIRTUAL = {"num_virtual_tokens": P, "num_transformer_submodules": 1}
GPT2_LORA = {"task_type": "CAUSAL_LM", "fan_in_fan_out": True}
THEIRS = {
    "prefix": ("gpt2", lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", **VIRTUAL)),
    "prefix with projection": (
        "gpt2",
        lambda: peft.PrefixTuningConfig(
            task_type="CAUSAL_LM", prefix_projection=True, encoder_hidden_size=5, **VIRTUAL
        ),
    ),
    "prefix of a bert": ("bert", lambda: peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", **VIRTUAL)),
    "prompt": ("gpt2", lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", **VIRTUAL)),
    "prompt of an encoder": ("bart", lambda: peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", **VIRTUAL)),
    "p-tuning": ("gpt2", lambda: peft.PromptEncoderConfig(task_type="CAUSAL_LM", encoder_hidden_size=5, **VIRTUAL)),
    "lora": ("gpt2", lambda: peft.LoraConfig(r=3, lora_alpha=5, target_modules=["c_attn"], **GPT2_LORA)),
    "lora of several": (
        "gpt2",
        lambda: peft.LoraConfig(r=2, lora_alpha=5, target_modules=["c_attn", "c_fc", "c_proj"], **GPT2_LORA),
    ),
    "lora of unequal ranks": (
        "gpt2",
        lambda: peft.LoraConfig(
            r=2,
            lora_alpha=5,
            target_modules=["c_attn", "c_fc"],
            rank_pattern={"c_fc": 4, "h.0.attn.c_attn": 1},
            alpha_pattern={"c_fc": 3},
            **GPT2_LORA,
        ),
    ),
    "rank-stabilised lora": (
        "gpt2",
        lambda: peft.LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=["c_fc"], **GPT2_LORA),
    ),
    "lora of a bert": ("bert", lambda: peft.LoraConfig(r=2, lora_alpha=3, target_modules=["query", "value"])),
    "lora of a bart": (
        "bart",
        lambda: peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "fc1", "encoder_attn.v_proj"]),
    ),
    "ia3": (
        "gpt2",
        lambda: peft.IA3Config(
            target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True
        ),
    ),
    "ia3 of keys alone": ("bert", lambda: peft.IA3Config(target_modules=["key"], feedforward_modules=[])),
    "ia3 of a bart": (
        "bart",
        lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"]),
    ),
}


@pytest.mark.parametrize(("kind", "config"), THEIRS.values(), ids=THEIRS)
@torch.no_grad()
def test_we_read_what_peft_wrote(kind, config, tmp_path):
    theirs, ours = both(kind)
    plain, _ = read_by_both(kind, theirs, ours)
    tuned = tuned_by_peft(theirs, config())
    tuned.save_pretrained(tmp_path)
    method = from_peft(tmp_path, ours)
    actual, expected = read_by_both(kind, tuned, ours)
    assert (actual - plain).abs().max() > 0.01, "the method is not felt"
    assert_close(actual, expected, "ours says something else with what peft wrote", tolerance=2e-5)
    if kind == "gpt2":
        one, other = written_by_both(tuned, ours)
        assert one == other, "ours writes another text"
    to_peft(method, tmp_path / "again")  # and back once more
    method.detach()
    from_peft(tmp_path / "again", ours)
    assert_close(read_by_both(kind, tuned, ours)[0], actual, "there and back it is another", tolerance=2e-5)


def test_random_configurations_say_the_same_there(tmp_path):
    """Small and seeded: sizes of the model, kind of method, its settings; each held to peft's own code."""
    generator = torch.Generator().manual_seed(0)

    def one_of(values):
        return values[int(torch.randint(len(values), (1,), generator=generator))]

    def some_lora(kind):
        names = [
            "q",
            "k",
            "v",
            "attention.out",
            "up",
            "down",
            *(["cross.q", "cross.v", "cross.out"] * (kind == "bart")),
        ]
        return LoRA(
            one_of([1, 2, 4]), one_of([0.5, 3.0, 16]), sorted({one_of(names) for _ in range(one_of([1, 2, 4]))})
        )

    makers = {
        "lora": some_lora,
        "ia3": lambda kind: IA3(),
        "prefix": lambda kind: PrefixTuning(one_of([1, 2, 6]), one_of([None, 7])),
        "prompt": lambda kind: PromptTuning(one_of([1, 2, 6])),
    }
    cannot = {("bart", "prefix"), ("bert", "prompt")}
    tried = set()
    for i in range(24):
        kind, what = one_of(["gpt2", "bert", "bart"]), one_of(list(makers))
        if (kind, what) in cannot:
            continue
        head = one_of([4, 6])
        sizes = {"n_layer": one_of([1, 2, 3]), "n_head": (heads := one_of([1, 2, 3])), "d_model": heads * head * 2}
        theirs = MAKE[kind](**sizes, d_ff=one_of([5, 24]), seed=i)
        ours = from_transformers(theirs.state_dict(), theirs.config)
        method = stir(makers[what](kind).attach(ours), seed=i, std=0.4)
        to_peft(method, tmp_path / str(i))
        tuned = peft.PeftModel.from_pretrained(theirs, tmp_path / str(i)).eval()
        with torch.no_grad():
            actual, expected = read_by_both(kind, tuned, ours)
        assert_close(actual, expected, f"{kind} {sizes}: {what} {method.settings}", tolerance=5e-5)
        tried.add((kind, what))
    assert len(tried) > 7, "too few kinds were tried"


@pytest.mark.parametrize(
    ("make", "base", "says"),
    [
        (lambda: Infix(P), tiny_gpt, "peft has nothing like a Infix: its virtual tokens stand inside the text"),
        (lambda: Adapter(2), tiny_gpt, "peft has nothing like a Adapter: it has no bottlenecks"),
        (FullFineTuning, tiny_gpt, "nothing like a FullFineTuning: save_model"),
        (TopLayers, tiny_gpt, "nothing like a TopLayers"),
        (BitFit, tiny_gpt, "nothing like a BitFit"),
        (
            lambda: PrefixTuning(P),
            tiny_seq2seq,
            "cannot express prefixes of an encoder–decoder.* encoder_prefix, prefix",
        ),
        (lambda: PrefixTuning(P, layers=1), tiny_gpt, "cannot express layers = 1: its prefixes stand in every layer"),
        (lambda: PromptTuning(P), tiny_bert, r"it puts the virtual tokens in front of \[CLS\]"),
        (lambda: PTuning(P), tiny_seq2seq, "cannot express P-tuning on an encoder–decoder"),
    ],
)
def test_what_peft_cannot_express_is_refused_by_name(make, base, says, tmp_path):
    method = make()
    with pytest.raises(UserError, match="on no base: attach"):
        to_peft(method, tmp_path / "x")
    with attached(base(), method), pytest.raises(UserError, match=says):
        to_peft(method, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def directory(tmp_path, **change):
    """A prefix for the tiny GPT of the tests, with these changes in its config."""
    base = tiny_gpt()
    with attached(base, method := PrefixTuning(P)):
        to_peft(method, tmp_path)
    path = tmp_path / "adapter_config.json"
    config = {k: v for k, v in {**json.loads(path.read_text()), **change}.items() if v is not ...}
    path.write_text(json.dumps(config))
    return base


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "LOHA"}, "holds peft's 'LOHA'; read can be PREFIX_TUNING, PROMPT_TUNING, P_TUNING, LORA, IA3"),
        ({"peft_type": ...}, "holds peft's None"),
        ({"peft_type": ["LORA"]}, "holds peft's"),
        ({"peft_type": "LORA"}, "'prompt_embeddings' .* which no LoRA here has"),
        ({"peft_type": "IA3"}, "'prompt_embeddings', which no IA3 here has"),
        ({"peft_type": "PROMPT_TUNING"}, r"virtual tokens \(3, 48\); this base has d_model = 8"),
        ({"num_virtual_tokens": 4}, "the config says 4 virtual tokens, the tensor has 3"),
        ({"num_layers": 5}, "for 5 layers of 2 heads; this base has 3 layers of 2 heads"),
        ({"num_attention_heads": 4}, "for 3 layers of 4 heads; this base has 3 layers of 2 heads"),
    ],
)
def test_a_directory_of_another_kind_is_refused(change, says, tmp_path):
    base = directory(tmp_path, **change)
    with pytest.raises(UserError, match=says):
        from_peft(tmp_path, base)
    assert attached_to(base) == []


def test_a_directory_for_another_base_is_refused(tmp_path):
    directory(tmp_path)
    wider = tiny_gpt(config=GPTConfig(**{**vars(GPT_CONFIG), "d_model": 16}))
    with pytest.raises(UserError, match=r"a prefix \(3, 48\) for 3 layers of 2 heads; .* it has to be \(P, 96\)"):
        from_peft(tmp_path, wider)
    with pytest.raises(UserError, match="holds a prefix for a decoder alone"):
        from_peft(tmp_path, tiny_seq2seq())
    theirs, ours = both("gpt2")
    tuned_by_peft(theirs, THEIRS["lora"][1]()).save_pretrained(tmp_path / "lora")
    with pytest.raises(UserError, match="which is no linear map of this Bert. Was it trained on another architecture"):
        from_peft(tmp_path / "lora", tiny_bert())
    with pytest.raises(UserError, match=r"lora_A \(3, 16\) .* do not fit blocks.0.attention.qkv of this base"):
        from_peft(tmp_path / "lora", tiny_gpt())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"use_dora": True}, "has use_dora = True, which a LoRA here does not have"),
        ({"bias": "all"}, "has bias = 'all'"),
        ({"modules_to_save": ["wte"]}, r"has modules_to_save = \['wte'\]"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights = 'pissa'"),
    ],
)
def test_a_lora_that_ours_cannot_express_is_refused(more, says, tmp_path):
    theirs, ours = both("gpt2")
    config = peft.LoraConfig(r=2, target_modules=["c_fc"], **GPT2_LORA, **more)
    peft.get_peft_model(theirs, config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=says):
        from_peft(tmp_path, ours)


def test_factors_of_queries_are_refused(tmp_path):
    theirs, ours = both("bert")
    peft.get_peft_model(theirs, peft.IA3Config(target_modules=["query"], feedforward_modules=[])).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match="scales queries, which an IA3 here does not"):
        from_peft(tmp_path, ours)


def test_damaged_directories_are_refused(tmp_path):
    base = directory(tmp_path)
    config, tensors = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    whole = config.read_text(), tensors.read_bytes()
    with pytest.raises(UserError, match="config of peft's .*adapter_config.json cannot be read: .* Name a directory"):
        from_peft(tmp_path / "nowhere", base)
    for text, says in (
        (whole[0][:20], "is not JSON"),
        ("[1]", "it has to hold an object .*; this is a list"),
        ("", "JSON"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=says):
            from_peft(tmp_path, base)
    config.write_text(whole[0])
    tensors.write_bytes(whole[1][:60])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        from_peft(tmp_path, base)
    tensors.unlink()
    with pytest.raises(UserError, match="There is no checkpoint .*adapter_model.safetensors"):
        from_peft(tmp_path, base)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="adapter_model.bin, a pickle, and loading one can run any code"):
        from_peft(tmp_path, base)
    assert attached_to(base) == []


@pytest.mark.parametrize("make", [lambda: LoRA(2, 6.0), IA3])
def test_a_model_without_a_head_reads_it_by_its_own_names(make, tmp_path):
    theirs, ours = both("gpt2")
    method = stir(make().attach(ours), std=0.5)
    to_peft(method, tmp_path, bare=True, task_type="FEATURE_EXTRACTION")
    tuned = peft.PeftModel.from_pretrained(theirs.transformer, tmp_path).eval()
    ids = random_ids(3, T, vocab_size=V)
    with torch.no_grad():
        assert_close(ours(ids, return_hidden=True), tuned(input_ids=ids).last_hidden_state, "without a head", 3e-5)
        method.detach()
        from_peft(tmp_path, ours)
        assert_close(ours(ids, return_hidden=True), tuned(input_ids=ids).last_hidden_state, "read again", 3e-5)


def test_padding_is_read_alike(tmp_path):
    """peft counts padding as positions unless it is told better (peft#1093); told, it agrees."""
    theirs, ours = both("gpt2")
    method = stir(PrefixTuning(P).attach(ours), std=0.5)
    to_peft(method, tmp_path)
    tuned = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
    ids, mask = random_ids(3, T, vocab_size=V), mask_of([3, 7, 5], T, left=True)
    with torch.no_grad():
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        expected = tuned(ids, attention_mask=mask.long(), position_ids=positions).logits
        assert_close(ours(ids, attention_mask=mask)[mask], expected[mask], "beside padding")
