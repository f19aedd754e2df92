"""LoRA by plain loops: what it adds, where, and what becomes of it when it is merged; IA³ is merged beside it."""

import copy
import dataclasses
import json
import math
import random

import pytest
import torch
import torch.nn.functional as F

from minitransformer.checkpoint import load_model, save_model
from minitransformer.errors import UserError
from minitransformer.generation.sampling import generate
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import classification_loss
from minitransformer.tuning import (
    IA3,
    Adapter,
    FullFineTuning,
    Infix,
    LoRA,
    PrefixTuning,
    PromptTuning,
    attached,
    attached_to,
    fingerprint,
    load,
)
from minitransformer.tuning.exchange import from_peft, to_peft
from minitransformer.tuning.merge import linear_maps
from tests.helpers import GPT_CONFIG, assert_close, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.tuning.helpers import (
    BASES,
    P,
    T,
    assert_no_trace,
    batch_for,
    everything,
    loss_of,
    make,
    outputs,
    stir,
    traces,
    train_steps,
)

C = 8  # of the tiny bases
SELF = ("attention.q", "attention.k", "attention.v", "attention.out", "mlp.up", "mlp.down")
CROSS = ("cross.q", "cross.k", "cross.v", "cross.out")
ALL = ("q", "k", "v", "attention.out", "cross.out", "up", "down")
MERGEABLE = {"lora": lambda: LoRA(2), "lora-all": lambda: LoRA(2, targets=["q", "k", "v", "out", "up"]), "ia3": IA3}
every_base = pytest.mark.parametrize("base", BASES)
every_mergeable = pytest.mark.parametrize(
    ("base", "method"), [(b, m) for b in BASES for m in MERGEABLE], ids=[f"{b}-{m}" for b in BASES for m in MERGEABLE]
)


def with_changed_weights(base, method):
    """A copy of the bare base in which every target's matrix is W + (α/r) B A, number by number, without the method."""
    changed = copy.deepcopy(base)
    with attached(base, method), torch.no_grad():
        for key, low in method.changes.items():
            weight = changed.get_submodule(key.replace("/", ".")).weight
            for a, b, part in zip(low.a.tolist(), low.b.tolist(), low.parts, strict=True):
                first = part * len(b)  # the rows of W^Q come first, then W^K, then W^V
                for o in range(len(b)):
                    for i in range(len(a[0])):
                        weight[first + o, i] += (
                            method.alpha / method.rank * sum(b[o][r] * a[r][i] for r in range(method.rank))
                        )
    return changed


def stirred(base, method):
    """A tiny base that is bare again, and a method for it in which no number is zero any more."""
    base = BASES[base]() if isinstance(base, str) else base
    with attached(base, method):
        stir(method)
    return base, method


# ---------------------------------------------------------------------------------- what it adds, and where


def test_the_names_of_all_linear_maps():
    of_blocks = {f"blocks.{i}.{name}" for i in range(3) for name in SELF}
    assert linear_maps(tiny_gpt()).keys() == of_blocks
    assert linear_maps(tiny_bert()).keys() == of_blocks | {"pooler", "mlm.dense", "nsp"}
    encoder = {f"encoder.{i}.{name}" for i in range(2) for name in SELF}
    decoder = {f"decoder.{i}.{name}" for i in range(3) for name in SELF + CROSS}
    assert linear_maps(tiny_seq2seq()).keys() == encoder | decoder
    with attached(base := tiny_gpt(), Adapter(2)):
        assert linear_maps(base).keys() == of_blocks, "what another method brought is no map of the base"


TARGETS = [
    (base, target)
    for base, targets in {
        "gpt": ("q", "k", "v", "out", "up", "down", "blocks.1.attention.v", "blocks.2.mlp.up", "1.mlp.down"),
        "bert": ("q", "k", "v", "out", "up", "down", "pooler", "dense", "nsp", "blocks.0.attention.k"),
        "seq2seq": ("q", "k", "v", "attention.q", *CROSS, "up", "encoder.1.attention.k", "decoder.0.cross.q"),
    }.items()
    for target in targets
]


@pytest.mark.parametrize(("base", "target"), TARGETS, ids=map("-".join, TARGETS))
def test_every_target_by_its_name(base, target):
    """Trap "fused qkv" (peft#706): the rows of the other maps in the stack stay as they are."""
    base, method = stirred(base, LoRA(2, alpha=3.0, targets=[target]))
    batch, changed = batch_for(base), with_changed_weights(base, method)
    for name, weight in base.state_dict().items():
        module, _, letter = target.rpartition(".")
        if not name.endswith("qkv.weight"):
            continue
        for part, rows in zip("qkv", (weight != changed.state_dict()[name]).chunk(3), strict=True):
            assert rows.any() == (letter == part and module in name), f"{target}: the rows of W^{part} in {name}"
    plain, expected = everything(base, batch), everything(changed, batch)
    with attached(base, method):
        actual = everything(base, batch)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, f"{target}: the hook adds something else than (α/r) B A x")
    assert not all(torch.equal(a, b) for a, b in zip(plain, actual, strict=True)), f"{target} changes nothing"
    chosen = [name for name in linear_maps(base) if name == target or name.endswith("." + target)]
    n_out = sum(2 if name == "nsp" else 20 if name.endswith("up") else C for name in chosen)
    n_in = sum(20 if name.endswith("down") else C for name in chosen)
    assert sum(p.numel() for p in method.parameters()) == 2 * (n_in + n_out), "r (d_in + d_out) numbers for each map"


def test_one_map_by_hand():
    """h = W x + b + (α/r) B (A x), in that order of brackets, at one position after another."""
    base, method = stirred("gpt", LoRA(3, alpha=6.0, targets=["blocks.0.mlp.up"]))
    up, x = base.blocks[0].mlp.up, torch.randn(2, 4, C)
    low = method.changes["blocks/0/mlp/up"]
    with attached(base, method), torch.no_grad():
        actual = up(x)
        for row in range(2):
            for t in range(4):
                ax = low.a[0] @ x[row, t]  # (r)
                h = up.weight @ x[row, t] + up.bias + 6.0 / 3 * (low.b[0] @ ax)  # (d_out)
                assert_close(actual[row, t], h, "h = W x + b + (α/r) B A x")


@pytest.mark.parametrize("targets", [["q"], ["k", "v"], ["q", "k", "v"], ["cross.q"], ["cross.k"], ["cross.v"], ALL])
def test_the_decoder_writes_from_its_cache_what_it_writes_without(targets):
    """Cross-attention asks for q alone, then for k and v alone, and not again once they are cached."""
    base, method = stirred("seq2seq", LoRA(2, targets=[t for t in targets if "cross" in t or t != "cross.out"]))
    changed = with_changed_weights(base, method)
    ids, batch = random_ids(3, T), batch_for(base)
    source = {name: batch[name] for name in ("source", "source_mask")}
    with attached(base, method), torch.no_grad():
        cache, parts = base.new_cache(), []
        for t in range(T):
            parts.append(base(ids[:, t : t + 1], cache=cache, **source))
    expected = changed(ids, **source)
    assert_close(torch.cat(parts, dim=1), expected, f"{targets}: step by step it gives something else")


def test_overlapping_targets_count_once():
    base = tiny_gpt()
    with attached(base, twice := LoRA(2, targets=["q", "attention.q", "blocks.0.attention.q"])):
        with pytest.raises(UserError, match="cannot be on one base"):
            LoRA(2).attach(base)
        assert twice.report().trained == 3 * 2 * (C + C)


def test_each_map_of_a_stack_has_an_a_of_its_own():
    """Trap peft#706: with one A for q, k and v the stacked change has rank r at most, here it has 3 r."""
    base, method = stirred("gpt", LoRA(2, targets=["q", "k", "v"]))
    low = method.changes["blocks/0/attention/qkv"]
    assert low.a.shape == (3, 2, C) and low.b.shape == (3, C, 2)
    assert torch.linalg.matrix_rank(low.change()) == 6, "the rows of W^Q, W^K and W^V share an A"
    with torch.no_grad():
        low.b[1:] = 0
    assert low.change()[:C].any() and not low.change()[C:].any(), "q's B and A change other rows than those of W^Q"


# -------------------------------------------------------------------------------------------- how it begins


@every_base
def test_at_first_it_changes_nothing_and_only_b_can_learn(base):
    """001 §3.1.3 says nothing of the start: with B = 0, A gets no gradient at the first step, and B does."""
    base, method = make(base, "lora-all")
    batch = batch_for(base)
    before = outputs(base, batch)
    method.attach(base)
    assert torch.equal(outputs(base, batch), before), "B is zero: at first the base must give what it gave, to the bit"
    loss_of(base)(base, batch)[0].backward()
    for name, low in method.changes.items():
        assert low.a.any() and not low.b.any(), f"{name}: A random, B zero"
        assert not low.a.grad.any(), f"{name}: A learns though B is zero"
        assert all(part.any() for part in low.b.grad), f"{name}: B does not learn"


def test_a_is_random_as_fresh_linear_layers_are():
    config = GPTConfig(vocab_size=40, n_positions=24, n_layer=2, n_head=2, d_model=64, d_ff=256)
    with attached(GPT(config), method := LoRA(16, targets=["q", "v", "down"])):
        for name, d_in in (("attention/qkv", 64), ("mlp/down", 256)):
            a = method.changes[f"blocks/0/{name}"].a.detach()
            fresh = torch.nn.Linear(d_in, 4096).weight.detach()
            assert a.abs().max() <= 1 / math.sqrt(d_in)
            assert math.isclose(a.std(), fresh.std(), rel_tol=0.06), f"{name}: {a.std():.4f}, not {fresh.std():.4f}"
            assert abs(a.mean()) < 0.1 * fresh.std()
        for one, other in (method.changes["blocks/0/attention/qkv"].a, [m.a[0] for m in method.changes.values()][::2]):
            assert not torch.equal(one, other), "two maps, of one stack or of two layers, begin with the same A"


# ---------------------------------------------------------------------------------- the scale and the dropout


def test_the_scale_stands_in_one_place(tmp_path):
    """Twice α is twice the change, hooked in, merged, and in the file."""
    base, method = stirred("gpt", LoRA(2, alpha=4.0, targets=["q", "up"]))
    up, x, fresh = base.blocks[1].mlp.up, torch.randn(1, 3, C), copy.deepcopy(base)
    weight, plain = up.weight.detach().clone(), up(x).detach()
    method.attach(base)
    assert method.scale == 2.0
    change = up(x).detach() - plain
    method.merge()
    merged = up.weight.detach() - weight
    method.unmerge()
    method.alpha = 12.0
    assert method.scale == 6.0
    assert_close(up(x) - plain, 3 * change, "three times α, and the hook adds something else than three times as much")
    batch, changed = batch_for(base), outputs(base, batch_for(base))
    method.save(tmp_path / "lora.safetensors")
    assert load(tmp_path / "lora.safetensors", fresh).alpha == 12.0, "the file says the α from before"
    assert_close(outputs(fresh, batch), changed, "saved, the change of α is lost")
    method.merge()
    assert_close(up.weight - weight, 3 * merged, "merged, the scale is another than hooked in")


def test_the_same_alpha_is_a_smaller_factor_at_a_higher_rank():
    assert [LoRA(rank, alpha=8.0).scale for rank in (1, 2, 8)] == [8.0, 4.0, 1.0]


def test_dropout_is_on_in_training_and_off_in_eval():
    """Traps peft#2066 and lit-llama#185: whoever overrides `eval()` is never called by `train(False)`."""
    base, method = stirred("gpt", LoRA(2, dropout=0.5))
    batch = batch_for(base)
    base.train()
    method.attach(base)
    assert not torch.equal(outputs(base, batch), outputs(base, batch)), "nothing is dropped while training"
    seen = []
    for switch_off in (lambda: base.eval(), lambda: base.train(False), lambda: base.train().eval()):
        base.train()
        switch_off()
        seen += [outputs(base, batch), outputs(base, batch)]
    assert all(torch.equal(seen[0], other) for other in seen), "in eval, something is still dropped"
    method.merge()
    assert_close(outputs(base, batch), seen[0], "merged and hooked in are compared in eval, where nothing is dropped")
    merged = outputs(base, batch)
    base.train()
    assert torch.equal(outputs(base, batch), merged), "train() must not take out what is merged, nor drop any of it"


def test_dropout_is_on_the_way_to_a_alone():
    base, method = stirred("gpt", LoRA(2, alpha=2.0, targets=["up"], dropout=0.5))
    up, x = base.blocks[0].mlp.up, torch.randn(2, 5, C)
    low, plain = method.changes["blocks/0/mlp/up"], up(x)
    with attached(base.train(), method), torch.no_grad():
        torch.manual_seed(3)
        actual = up(x)
        torch.manual_seed(3)
        expected = plain + F.dropout(x, 0.5) @ low.a[0].T @ low.b[0].T
    assert_close(actual, expected, "W reads all of x; only A reads what dropout leaves")


def test_a_base_that_does_not_train_gets_no_dropout_with_a_method(tmp_path):
    base, method = stirred("gpt", LoRA(2, dropout=0.5))
    with attached(base, method):
        method.save(tmp_path / "lora.safetensors")
    assert not base.training and load(tmp_path / "lora.safetensors", base).dropout == 0.5
    ids = random_ids(2, T)
    assert torch.equal(base(ids), base(ids)), "loaded onto a base in eval mode, it drops as if it were trained"


# ------------------------------------------------------------------------------------------------- merging


@every_mergeable
def test_merged_it_gives_what_it_gave_hooked_in(base, method):
    base, method = stirred(base, MERGEABLE[method]())
    batch = batch_for(base)
    before = {name: t.clone() for name, t in base.state_dict().items()}
    method.attach(base)
    hooked = everything(base, batch)
    assert not method.merged
    method.merge()
    assert method.merged and not any(m._forward_hooks or m._forward_pre_hooks for m in base.modules())
    merged = everything(base, batch)
    for ours, theirs in zip(merged, hooked, strict=True):
        assert_close(ours, theirs, "merged, it gives something else than hooked in")
    method.merge()
    for once, twice in zip(merged, everything(base, batch), strict=True):
        assert torch.equal(once, twice), "merged a second time, the change is in it twice"
    method.unmerge()
    after = base.state_dict()
    wrong = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    assert not wrong, f"unmerged, {wrong} differ from before: put the kept numbers back, subtracting leaves an error"
    for again, first in zip(everything(base, batch), hooked, strict=True):
        assert torch.equal(again, first), "unmerged, it is not hooked in as it was"
    method.unmerge()
    assert all(len(m._forward_hooks) + len(m._forward_pre_hooks) <= 1 for m in base.modules()), "hooked in twice"


@every_mergeable
def test_taken_off_while_merged_it_leaves_no_trace(base, method):
    base, method = stirred(base, MERGEABLE[method]())
    batch = batch_for(base)
    before, output = traces(base), outputs(base, batch)
    method.attach(base)
    tuned = outputs(base, batch)
    method.merge()
    method.detach()
    assert_no_trace(base, before, "attach, merge, detach")
    assert torch.equal(outputs(base, batch), output) and not method.merged
    method.attach(base)
    assert torch.equal(outputs(base, batch), tuned), "on again, it is the method that it was"
    train_steps(base, batch)
    assert not torch.equal(outputs(base, batch), tuned), "on again after a merge, it does not learn any more"


@every_mergeable
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_merging_in_other_kinds_of_number(base, method, dtype):
    """Trap peft#1388: in bf16 merging rounds every weight to 8 bits; what comes back must be exact all the same."""
    base, method = stirred(BASES[base]().to(dtype), MERGEABLE[method]())
    batch, before = batch_for(base), {name: t.clone() for name, t in base.state_dict().items()}
    method.attach(base)
    hooked = outputs(base, batch)
    method.merge()
    merged = outputs(base, batch)
    assert hooked.dtype == merged.dtype == dtype
    size = hooked.double().abs().max().item()
    error = (merged.double() - hooked.double()).abs().max().item() / size
    assert error <= 10 * torch.finfo(dtype).eps, f"{error:.1e} of the largest number is more than {dtype} rounds away"
    method.detach()
    assert all(torch.equal(tensor, base.state_dict()[name]) for name, tensor in before.items())


@every_mergeable
def test_while_merged_there_is_nothing_to_train(base, method):
    base, method = stirred(base, MERGEABLE[method]())
    batch = batch_for(base)
    method.attach(base)
    method.merge()
    with pytest.raises(UserError, match="Nothing here can be trained"):
        train_steps(base, batch)
    method.unmerge()
    before = outputs(base, batch)
    train_steps(base, batch)
    assert not torch.equal(outputs(base, batch), before), "unmerged, it does not learn again"
    assert method.report().trained == sum(p.numel() for p in base.parameters() if p.requires_grad)


def test_a_classifiers_head_goes_on_learning_while_merged_and_afterwards():
    torch.manual_seed(0)
    model = Classifier(tiny_bert(), 3)
    batch = {"ids": random_ids(3, T), "label": torch.tensor([0, 1, 2])}
    method = stir(LoRA(2).attach(model))
    method.merge()
    merged = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, lambda i: batch, TrainConfig(steps=2), loss=classification_loss, progress=False)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, merged[name])}
    assert changed == {"head.weight", "head.bias"}
    method.merge_for_good()
    assert all(p.requires_grad for p in model.parameters()), "the classifier's head is left frozen"


def test_merged_a_gpt_writes_at_its_own_speed():
    """Nothing is hooked in, so generation takes the way that calls no modules; and it writes the same text."""
    base, method = stirred("gpt", LoRA(2, targets=["q", "k", "v", "out", "up", "down"]))
    prompt = random_ids(1, 4)

    def quick():
        cache = base.new_cache()
        base(prompt, cache=cache)
        return base.decode_step(cache)

    plain = generate(base, prompt.tolist(), max_new_tokens=12)
    method.attach(base)
    assert quick() is None, "hooked in, the quick way would forget the method"
    hooked = generate(base, prompt.tolist(), max_new_tokens=12)
    assert hooked != plain
    method.merge()
    step = quick()
    assert step is not None, "merged, nothing stands in the way of the quick way"
    token = random_ids(1, 1, seed=5)
    assert_close(step(token), base(torch.cat([prompt, token], dim=1))[:, -1], "the quick way on merged weights")
    assert generate(base, prompt.tolist(), max_new_tokens=12) == hooked
    method.unmerge()
    assert quick() is None
    method.detach()
    assert quick() is not None and generate(base, prompt.tolist(), max_new_tokens=12) == plain


@every_mergeable
def test_saved_while_merged_the_file_holds_what_is_trained(base, method, tmp_path):
    base, method = stirred(base, MERGEABLE[method]())
    fresh, batch, path = copy.deepcopy(base), batch_for(base), tmp_path / "tuned.safetensors"
    method.attach(base)
    hooked = outputs(base, batch)
    method.merge()
    method.save(path)
    assert method.report().stored == sum(p.numel() for p in method.parameters())
    loaded = load(path, fresh)
    assert torch.equal(outputs(fresh, batch), hooked), "the file of a merged method gives another model"
    loaded.merge()
    assert_close(outputs(fresh, batch), outputs(base, batch), "and so does merging it")


# --------------------------------------------------------------------------------------- merged for good


@pytest.mark.parametrize(
    ("base", "classes"),
    [("gpt", (GPT, GPTConfig)), ("bert", (Bert, BertConfig)), ("seq2seq", (Seq2Seq, Seq2SeqConfig))],
)
@pytest.mark.parametrize("method", MERGEABLE)
@pytest.mark.parametrize("already", [False, True])
def test_merged_for_good_it_is_another_base_that_can_be_saved(base, classes, method, already, tmp_path):
    base, method = stirred(base, MERGEABLE[method]())
    batch, own, before = batch_for(base), fingerprint(base), traces(base)
    method.attach(base)
    hooked = outputs(base, batch)
    if already:
        method.merge()
    method.merge_for_good()
    assert attached_to(base) == [] and method.base is None and not method.merged
    assert_close(outputs(base, batch), hooked, "merged for good, it gives something else than hooked in")
    assert fingerprint(base) != own, "other weights, and still the base's own fingerprint"
    after = traces(base)
    for what in ("requires_grad", "hooks", "attributes", "modules", "modes"):
        assert after[what] == before[what], f"merged for good, the base's {what} are not what they were"
    save_model(tmp_path / "merged.safetensors", base)
    again = load_model(tmp_path / "merged.safetensors", *classes)
    assert torch.equal(outputs(again, batch), outputs(base, batch)) and fingerprint(again) == fingerprint(base)


@pytest.mark.parametrize("method", MERGEABLE)
def test_merged_for_good_it_belongs_to_the_old_weights_still(method):
    """On the new weights it would be there twice; on the old ones it is what it was, and learns on."""
    base, method = stirred("gpt", MERGEABLE[method]())
    old, batch = copy.deepcopy(base), batch_for(base)
    method.attach(base)
    hooked = outputs(base, batch)
    method.merge_for_good()
    with pytest.raises(UserError, match="made for a base with the fingerprint"):
        method.attach(base)
    method.attach(old)
    assert torch.equal(outputs(old, batch), hooked), "back on the old weights, it is not what it was"
    train_steps(old, batch)
    assert not torch.equal(outputs(old, batch), hooked), "back on the old weights, it does not learn any more"
    new = type(method)(**method.settings).attach(base)  # a second one begins at the new weights
    assert_close(outputs(base, batch), hooked, "a fresh one on the merged base begins as something else")
    train_steps(base, batch)
    assert new.report().trained == method.report().trained


def test_merged_for_good_only_alone():
    base, batch = tiny_gpt(), batch_for(tiny_gpt())
    before = traces(base)
    with attached(base, lora := LoRA(2), PrefixTuning(P), Adapter(2)):
        output = outputs(base, batch)
        with pytest.raises(UserError, match="PrefixTuning, Adapter learned on the base's old weights"):
            lora.merge_for_good()
        assert not lora.merged and torch.equal(outputs(base, batch), output), "a refused merge has changed something"
    assert_no_trace(base, before, "a refused merge")


def test_what_the_others_learned_is_refused_by_the_merged_base():
    base = tiny_gpt()
    with attached(base, prefix := PrefixTuning(P)):
        pass
    stirred(base, lora := LoRA(2))
    lora.attach(base).merge_for_good()
    with pytest.raises(UserError, match="made for a base with the fingerprint"):
        prefix.attach(base)


# ------------------------------------------------------------------------------------ beside other methods


@pytest.mark.parametrize("base", ["gpt", "bert"])
@pytest.mark.parametrize("lora_first", [True, False])
def test_lora_and_a_prefix_together(base, lora_first):
    base, lora = stirred(base, LoRA(2, targets=["q", "k", "v", "up"]))
    _, prefix = stirred(base, PrefixTuning(P))
    changed, batch = with_changed_weights(base, lora), batch_for(base)
    with torch.no_grad():
        expected = changed(batch["ids"], attention_mask=batch["attention_mask"], **prefix.prefixes())[
            batch["attention_mask"]
        ]
    with attached(base, *([lora, prefix] if lora_first else [prefix, lora])):
        assert_close(outputs(base, batch), expected, "a prefix and LoRA are the prefix on the changed weights")
        lora.merge()
        assert_close(outputs(base, batch), expected, "merged, with the prefix still on it")
        train_steps(base, batch)  # the prefix goes on learning
        assert not torch.equal(outputs(base, batch), expected)
        lora.unmerge()


@every_base
@pytest.mark.parametrize("lora_first", [True, False])
def test_lora_and_an_adapter_together(base, lora_first):
    base, lora = stirred(base, LoRA(2, targets=["q", "v", "out", "down"]))
    _, adapter = stirred(base, Adapter(3, norms=True))
    changed, batch = with_changed_weights(base, lora), batch_for(base)
    with attached(changed, there := Adapter(3, norms=True)):
        there.load_state_dict(adapter.state_dict())
        expected = outputs(changed, batch)
    with attached(base, *([lora, adapter] if lora_first else [adapter, lora])):
        assert_close(outputs(base, batch), expected, "an adapter and LoRA are the adapter on the changed weights")
        lora.merge()
        assert_close(outputs(base, batch), expected, "merged, with the adapter still on it")


@pytest.mark.parametrize("method", [lambda: LoRA(2, targets=["q", "k", "v", "up"]), IA3], ids=["lora", "ia3"])
@pytest.mark.parametrize("order", ["method first", "infix first", "merged and unmerged"])
def test_an_infix_keeps_its_keys_and_values_whatever_changes_those_of_the_text(method, order):
    base, method = stirred("gpt", method())
    _, infix = stirred(base, Infix(P))
    batch = batch_for(base, infix)
    changed = copy.deepcopy(base)
    method.attach(changed)
    method.merge_for_good()  # which is W + (α/r) B A, as the tests above say
    with attached(changed, there := Infix(P)):
        there.load_state_dict(infix.state_dict())
        expected = outputs(changed, batch)
    _, method = stirred(base, type(method)(**method.settings))
    with attached(base, *([infix, method] if order == "infix first" else [method, infix])):
        if order == "merged and unmerged":
            method.merge()
            assert_close(outputs(base, batch), expected, "merged, with an infix on it")
            method.unmerge()
        assert_close(outputs(base, batch), expected, f"{order}: the infix's own keys and values were changed too")


def test_a_prefix_from_words_reads_them_with_what_is_on_the_base():
    """The keys and values of words are those that the tuned model computes, not those of the bare base."""
    base, lora = stirred("gpt", LoRA(2, targets=["q", "k", "v", "down"]))
    words, ids = [5, 9, 7], random_ids(2, T)
    with attached(base, lora):
        expected = base(torch.cat([torch.tensor([words, words]), ids], dim=1))[:, P:]
        with attached(base, PrefixTuning(P, init=words)):
            assert_close(base(ids), expected, "a prefix of words is those words as a prompt, under LoRA too")


def test_no_other_method_comes_onto_a_merged_base(tmp_path):
    base, path = tiny_gpt(), tmp_path / "prefix.safetensors"
    with attached(base, prefix := PrefixTuning(P)):
        prefix.save(path)
    lora = LoRA(2).attach(base)
    lora.merge()
    before = traces(base)
    says = r"A LoRA is merged into this base: a {} would learn .* unmerge\(\) the LoRA first"
    for method in (PrefixTuning(P), PromptTuning(P), Adapter(2), FullFineTuning(), LoRA(2), IA3()):
        with pytest.raises(UserError, match=says.format(type(method).__name__)):
            method.attach(base)
    with pytest.raises(UserError, match=says.format("PrefixTuning")):
        load(path, base)
    assert_no_trace(base, before, "methods that were refused")
    lora.unmerge()
    assert isinstance(load(path, base), PrefixTuning)


@pytest.mark.parametrize("other", [lambda: LoRA(1), IA3])
def test_two_changes_of_the_same_maps_are_refused(other):
    base = tiny_gpt()
    with attached(base, LoRA(2)), pytest.raises(UserError, match="both take the place 'linear maps'"):
        other().attach(base)


@pytest.mark.parametrize("seed", range(3))
def test_in_whatever_order_methods_come_go_and_merge(seed):
    """What the base gives depends on what is on it now, not on how that came about; what is refused changes nothing."""
    base, batch, choose = tiny_gpt(), batch_for(tiny_gpt()), random.Random(seed)
    methods = {"lora": LoRA(2, targets=["q", "k", "v", "up"]), "prefix": PrefixTuning(P), "adapter": Adapter(3)}
    for method in methods.values():
        stirred(base, method)
    before, lora, on, seen = traces(base), methods["lora"], set(), {}
    for _ in range(80):
        name = choose.choice(list(methods))
        call = choose.choice(["attach", "detach", *(["merge", "merge", "unmerge"] if name == "lora" else [])])
        allowed = name in on if call != "attach" else name not in on and not lora.merged
        after = {"merge": True, "unmerge": False, "detach": False} if name == "lora" and allowed else {}
        merged = after.get(call, lora.merged)
        try:
            getattr(methods[name], call)(*([base] if call == "attach" else []))
            assert allowed, f"{name}.{call}() with {sorted(on)} on the base was not refused"
            on ^= {name} if call in ("attach", "detach") else set()
        except UserError as error:
            assert not allowed, f"{name}.{call}() with {sorted(on)} on the base: {error}"
        assert lora.merged == merged and {m for m in methods if methods[m].base} == on
        output = outputs(base, batch)
        first = seen.setdefault(frozenset(on), output)
        assert_close(output, first, f"after {name}.{call}(), {sorted(on)} on the base give something else than before")
    assert len(seen) == 8, "not every combination was tried"
    for name in on:
        methods[name].detach()
    assert_no_trace(base, before, "eighty calls")


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("target", ["head", "lm_head", "token_embedding", "embedding"])
def test_the_tied_head_is_refused_and_why(base, target):
    """Trap "tied head" (peft#2018): merged into the head, LoRA would change what every token means when read."""
    says = (
        r"^targets: {} cannot be tuned\. The matrix .* token embedding again \(weight tying\), which is no linear map"
        r" .* would also change what every token means when it is read\.$"
    )
    with pytest.raises(UserError, match=says.format(repr(target))):
        LoRA(2, targets=["q", target]).attach(BASES[base]())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank": 0}, "rank = 0: a change of rank 0 is none"),
        ({"rank": -1}, "rank = -1"),
        ({"rank": 2.5}, "rank = 2.5: it has to be a whole number"),
        ({"rank": "2"}, "rank = '2': it has to be a whole number"),
        ({"alpha": 0}, "alpha = 0: what is learned is multiplied by alpha / rank. It has to be a finite number"),
        ({"alpha": float("nan")}, "alpha = nan"),
        ({"alpha": float("inf")}, "alpha = inf"),
        ({"alpha": "8"}, "alpha = '8'"),
        ({"targets": "qv"}, r"targets = 'qv': it has to be a list of names, such as \[\"q\", \"v\"\]"),
        ({"targets": ""}, "targets = '': it has to be a list"),
        ({"targets": []}, r"targets = \[\]: it has to be a list"),
        ({"targets": None}, "targets = None: it has to be a list"),
        ({"targets": ["c_attn"]}, "no linear map of this base ends in 'c_attn'; there are down, k, out, q, up, v"),
        ({"targets": ["q", "cross.v"]}, "ends in 'cross.v'"),
        ({"targets": ["ttention.q"]}, "ends in 'ttention.q'"),
        ({"targets": ["blocks.3.attention.q"]}, "ends in 'blocks.3.attention.q'"),
        ({"targets": [""]}, "targets = .*: it has to be a list of names"),
        ({"rank": 9}, "rank = 9: blocks.0.attention.qkv has matrices of rank 8 at most, and a change of rank 9"),
        ({"rank": 9, "targets": ["up"]}, "rank = 9: blocks.0.mlp.up has matrices of rank 8 at most"),
        ({"rank": 9, "targets": ["down"]}, "rank = 9: blocks.0.mlp.down has matrices of rank 8 at most"),
        ({"dropout": 1.0}, "dropout = 1.0: it has to be a finite number of at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout = -0.1"),
        ({"dropout": float("nan")}, "dropout = nan"),
    ],
)
def test_what_cannot_be_is_said(settings, says):
    base = tiny_gpt()
    before = traces(base)
    with pytest.raises(UserError, match=says):
        LoRA(**settings).attach(base)
    assert_no_trace(base, before, "a refused LoRA")
    LoRA(8, targets=["q", "up", "down"]).attach(base)  # as high as can be


def test_a_map_without_a_dot_in_its_name_is_named_too():
    with pytest.raises(UserError, match="'c_attn'; there are dense, down, k, nsp, out, pooler, q, up, v\\.$"):
        LoRA(targets=["c_attn"]).attach(tiny_bert())


@pytest.mark.parametrize("alpha", [0.0, float("nan")])
def test_alpha_cannot_become_later_what_it_cannot_be_at_first(alpha):
    """Otherwise `save` would write a file that `load` refuses."""
    method = LoRA(2, alpha=3.0)
    with pytest.raises(UserError, match=f"alpha = {alpha}"):
        method.alpha = alpha
    assert method.alpha == 3.0


@pytest.mark.parametrize("what", ["merge", "unmerge", "merge_for_good"])
def test_merging_on_no_base_is_refused(what):
    for method in (LoRA(2), IA3()):
        with pytest.raises(UserError, match=rf"is on no base: attach\(\) it first, then {what}\(\)"):
            getattr(method, what)()


def test_targets_may_come_from_any_collection():
    assert LoRA(2, targets=(name for name in "qv")).targets == ["q", "v"]
    with attached(tiny_gpt(), method := LoRA(2, targets={"up": 1}.keys())):
        assert sorted(method.changes) == [f"blocks/{i}/mlp/up" for i in range(3)]


def test_a_refused_base_leaves_nothing_behind_in_the_method():
    """The rank is too high for one of the targets: what was made for the others must not go onto the next base."""
    method = LoRA(7, targets=["q", "up"])
    with pytest.raises(UserError, match="blocks.0.mlp.up has matrices of rank 6 at most"):
        method.attach(tiny_gpt(config=dataclasses.replace(GPT_CONFIG, d_ff=6)))
    with attached(tiny_gpt(config=dataclasses.replace(GPT_CONFIG, n_layer=2)), method):
        assert len(method.changes) == 4


@pytest.mark.parametrize(
    "change", [{"lora_alpha": "8"}, {"lora_alpha": None}, {"alpha_pattern": [1]}, {"alpha_pattern": {"(": 1.0}}]
)
def test_a_config_of_pefts_that_makes_no_sense_is_refused(tmp_path, change):
    to_peft(LoRA(rank=2, targets=["up"]).attach(tiny_gpt()), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="adapter_config.json is damaged: it makes no sense as a LORA"):
        from_peft(tmp_path, tiny_gpt())


@pytest.mark.parametrize("targets", [["q"], ["q", "v", "up"]])
@pytest.mark.parametrize("make_base", [tiny_gpt, tiny_bert], ids=["stacked there", "apart there"])
def test_what_is_written_for_peft_comes_back(tmp_path, make_base, targets):
    base, ids = make_base(), random_ids(2, 5)
    method = LoRA(rank=2, targets=targets).attach(base)
    for p in method.parameters():
        torch.nn.init.normal_(p)
    to_peft(method, tmp_path)
    again = make_base()
    from_peft(tmp_path, again)
    assert_close(again(ids), base(ids), "what was learned is another change there", 1e-4)
