"""What every tuning method promises: on and off without a trace, a frozen base, counts, files, generation, refusals."""

import copy
import json
from functools import partial

import pytest
import torch
from safetensors import safe_open
from torch import nn

from minitransformer.checkpoint import load_model, load_tensors, save_model, save_tensors
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.watch import watch_attention
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import classification_loss
from minitransformer.tuning import (
    Adapter,
    FullFineTuning,
    Infix,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    PTuning,
    Report,
    TopLayers,
    attached,
    attached_to,
    fingerprint,
    load,
    virtual_ids,
)
from minitransformer.tuning.adapter import Bottleneck
from minitransformer.tuning.lora import LowRank
from minitransformer.tuning.prefix import PrefixEncoder
from minitransformer.tuning.settings import Setting
from tests.helpers import (
    BERT_CONFIG,
    GPT_CONFIG,
    assert_close,
    mask_of,
    random_ids,
    randomise,
    tiny_bert,
    tiny_gpt,
    tiny_seq2seq,
)
from tests.tuning.helpers import (
    BASES,
    END,
    LENGTHS,
    METHODS,
    PAIR_NAMES,
    PAIRS,
    START,
    B,
    P,
    T,
    assert_no_trace,
    batch_for,
    insert,
    loss_of,
    make,
    needs_virtual_ids,
    outputs,
    traces,
    train_steps,
)

every_pair = pytest.mark.parametrize(("base", "method"), PAIRS, ids=PAIR_NAMES)
OWN = ("prefix", "prefix-mlp", "infix", "infix-mlp", "prompt", "p-tuning")  # methods that bring numbers of their own


# ------------------------------------------------------------------------------------------- on and off


@every_pair
def test_off_again_the_base_is_what_it_was_to_the_bit(base, method):
    base, method = make(base, method)
    base.token_embedding.weight.requires_grad_(False)  # a flag that must come back as it was, not as True
    plain, batch = batch_for(base), batch_for(base, method)
    before, output = traces(base), outputs(base, plain)
    method.attach(base).detach()
    assert_no_trace(base, before, "attach, detach")
    method.attach(base)
    train_steps(base, batch)
    loss_of(base)(base, batch)[0].backward()  # gradients that no optimizer has cleared
    assert not torch.equal(outputs(base, batch)[-1], output[-1]), "the method changes nothing while it is on"
    method.detach()
    assert_no_trace(base, before, "attach, train, detach")
    assert torch.equal(outputs(base, plain), output)


@every_pair
def test_on_again_it_is_the_tuned_model_to_the_bit(base, method):
    base, method = make(base, method)
    batch = batch_for(base, method)
    method.attach(base)
    train_steps(base, batch)
    tuned = outputs(base, batch)
    method.detach()
    assert method.base is None and attached_to(base) == []
    method.attach(base)
    assert attached_to(base) == [method] and method.base is base
    assert torch.equal(outputs(base, batch), tuned), "on again, the method gives other numbers than it was trained to"


@every_pair
def test_detached_it_may_go_onto_a_copy_of_its_base(base, method):
    base, method = make(base, method)
    other, batch = copy.deepcopy(base), batch_for(base, method)
    with attached(base, method):
        train_steps(base, batch)
        tuned = outputs(base, batch)
    with attached(other, method):
        assert torch.equal(outputs(other, batch), tuned), "the same weights in another object are the same base"


def test_a_class_of_the_same_name_does_not_take_a_methods_place_in_files():
    own = Method.kinds["TopLayers"]
    type("TopLayers", (TopLayers,), {})  # as a learner's version of it is
    assert Method.kinds["TopLayers"] is own is TopLayers


def test_a_class_of_a_new_name_is_found_by_it(monkeypatch):
    monkeypatch.setattr(Method, "kinds", dict(Method.kinds))
    new = type("LowestLayers", (TopLayers,), {})
    assert Method.kinds["LowestLayers"] is new, "load() finds a method's class by the name that its file holds"


def test_a_base_with_a_method_on_it_is_not_copied_in_silence():
    base = tiny_gpt()
    with attached(base, PrefixTuning(P)), pytest.raises(UserError, match="A PrefixTuning is on this base, and hooks"):
        copy.deepcopy(base)
    with attached(base, PrefixTuning(P), Scale()), pytest.raises(UserError, match="A PrefixTuning, Scale is on this"):
        copy.deepcopy(base)
    copy.deepcopy(base)


class Scale(Method):
    """A method of another place, to stand beside the others: it multiplies what the first norm gives."""

    place = "first norm"

    def build(self, base):
        self.factor = nn.Parameter(torch.full((base.config.d_model,), 1.5))

    def install(self, base):
        return [base.blocks[0].norm1.register_forward_hook(lambda module, args, y: y * self.factor)]


@pytest.mark.parametrize("first_off", [0, 1])
def test_two_methods_at_two_places_go_off_in_any_order(first_off):
    base, batch = tiny_gpt(), batch_for(tiny_gpt())
    methods = [PrefixTuning(P), Scale()]
    before, output = traces(base), outputs(base, batch)
    alone = []
    for method in methods:
        with attached(base, method):
            alone.append(outputs(base, batch))
    for method in methods:
        method.attach(base)
    assert attached_to(base) == methods
    both = outputs(base, batch)
    assert not any(torch.equal(both, one) for one in alone), "one of the two is not felt"
    train_steps(base, batch)
    with torch.no_grad():
        methods[1].factor.fill_(1.5)
    methods[first_off].detach()
    assert attached_to(base) == [methods[1 - first_off]]
    assert not any(p.requires_grad for name, p in base.named_parameters() if not name.startswith("tuning."))
    if first_off == 0:
        assert torch.equal(outputs(base, batch), alone[1]), "the one that stays is disturbed by the one that went"
    methods[1 - first_off].detach()
    assert_no_trace(base, before, "both off")
    assert torch.equal(outputs(base, batch), output)


def test_the_with_statement_takes_methods_off_whatever_happens():
    base = tiny_gpt()
    before = traces(base)
    with pytest.raises(ZeroDivisionError), attached(base, PrefixTuning(P), Scale()):
        assert [type(m).__name__ for m in attached_to(base)] == ["PrefixTuning", "Scale"]
        raise ZeroDivisionError
    assert_no_trace(base, before, "after an error inside")
    with pytest.raises(UserError, match="cannot be on one base"), attached(base, PrefixTuning(P), PromptTuning(P)):
        pass
    assert_no_trace(base, before, "after an error at the second attach")
    method = PrefixTuning(P)
    with attached(base, method):
        method.detach()  # by hand, before the end
    assert_no_trace(base, before, "after a detach inside")


def test_a_refused_attach_leaves_no_trace():
    base = tiny_gpt()
    before = traces(base)
    for method in (TopLayers(4), PrefixTuning(24), PromptTuning(24), PrefixTuning(P, layers=4), PromptTuning(P, [40])):
        with pytest.raises(UserError):
            method.attach(base)
        assert method.base is None
        assert_no_trace(base, before, f"a refused {type(method).__name__}")


# -------------------------------------------------------------------------------------------- training


def behind_zeros(module):
    """The tensors whose effect goes through a matrix that is zero at first."""
    if isinstance(module, LowRank):
        return [module.a]
    if isinstance(module, Bottleneck) and not module.up.weight.any():
        return list(module.down.parameters())
    return []


@every_pair
def test_every_tuned_tensor_learns_at_both_of_two_steps_and_the_base_never(base, method):
    """Trap "stale prefix" (litgpt#1287): one computed once has no, or an old, gradient from the second step on."""
    base, method = make(base, method)
    batch = batch_for(base, method)
    own = dict(base.named_parameters())
    method.attach(base)
    tuned = method.trainable()
    assert {id(p) for p in base.parameters() if p.requires_grad} == {id(p) for p in tuned}
    frozen = {name: p for name, p in own.items() if not any(p is q for q in tuned)}
    before = {name: p.clone() for name, p in frozen.items()}
    optimizer = torch.optim.SGD(tuned, lr=0.05)
    # Behind a matrix of zeros (LoRA's B, an adapter's W_up) nothing can be learned before that matrix has moved.
    late = {id(p) for module in method.modules() for p in behind_zeros(module)}
    for step in (1, 2):
        loss_of(base)(base, batch)[0].backward()
        for i, p in enumerate(tuned):
            if step == 1 and id(p) in late:
                assert p.grad is not None and not p.grad.any(), f"tensor {i} learns through a matrix of zeros"
                continue
            assert p.grad is not None and p.grad.any(), f"step {step}: tensor {i} {tuple(p.shape)} gets no gradient"
        learning = [name for name, p in frozen.items() if p.grad is not None]
        assert not learning, f"step {step}: the frozen base's {learning} got gradients"
        optimizer.step()
        optimizer.zero_grad()
    changed = [name for name, p in frozen.items() if not torch.equal(p, before[name])]
    assert not changed, f"the frozen base's {changed} moved"


@every_pair
def test_the_training_loop_trains_the_method_alone_and_the_loss_falls(base, method):
    base, method = make(base, method)
    batch, own = batch_for(base, method), dict(base.named_parameters())
    method.attach(base)
    tuned, before = method.trainable(), {name: p.detach().clone() for name, p in own.items()}
    frozen = {name: p for name, p in own.items() if not any(p is q for q in tuned)}
    log = train(base, lambda i: batch, TrainConfig(steps=8, lr=0.01), loss=loss_of(base), progress=False)
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in frozen.items()), "the base was trained"
    assert log.train[-1]["loss"] < log.train[0]["loss"], "eight steps on one batch, and the loss does not fall"


def test_a_gradient_left_over_on_the_base_does_not_count():
    norms = []
    for leftover in (False, True):
        torch.manual_seed(0)
        base = tiny_gpt()
        batch = batch_for(base)
        if leftover:
            (1000 * loss_of(base)(base, batch)[0]).backward()
        PrefixTuning(P).attach(base)
        config = TrainConfig(steps=1)
        norms.append(train(base, lambda i, b=batch: b, config, progress=False).train[0]["grad_norm"])
    assert norms[0] == norms[1], "gradients of the frozen base, left from before, are clipped together with ours"


# ---------------------------------------------------------------------------------------------- counts


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("base", BASES)
def test_the_report_counts_what_the_formulas_say(base):
    base = BASES[base]()
    C, total = base.config.d_model, count(base)
    layers = [2, 3, 3] if hasattr(base, "decoder") else [3]  # one number a slot
    hidden = 16
    mlp = sum(P * C + C * hidden + hidden + hidden * 2 * n * C + 2 * n * C for n in layers)
    lstm = sum(2 * (4 * C * (inside + C) + 8 * C) for inside in (C, 2 * C))  # two layers, two directions
    expected = {
        "prefix": (sum(2 * n * C * P for n in layers),) * 2,
        "prefix-mlp": (mlp, sum(2 * n * C * P for n in layers)),
        "prefix-top": (2 * len(layers) * C * P,) * 2,
        "prompt": (P * C,) * 2,
        "p-tuning": (P * C + lstm + 2 * C * C + C + C * C + C, P * C),
        "full": (total,) * 2,
    }
    for name, (trained, stored) in expected.items():
        with attached(base, method := METHODS[name]()):
            report = method.report()
        assert report == Report(type(method).__name__, trained, stored, 0, total), name
    assert expected["prefix-mlp"][0] > 2 * expected["prefix-mlp"][1], "002's MLP trains far more than is kept"


def test_the_report_speaks():
    base = Classifier(tiny_bert(), 3)
    with attached(base, method := PrefixTuning(P)):
        total = count(base.base) - count(method)
        said = str(method.report())
    assert said == (
        f"PrefixTuning: trains 144 parameters ({144 / total:.2%} of the base's {total:,}) and keeps 144 "
        f"({144 / total:.2%}), and a head of 27."
    )
    with attached(base.base, method):
        assert str(method.report()) == said.replace(", and a head of 27", ""), "there is no head to speak of"


def test_top_layers_are_the_top_layers():
    for base, prefix, above in (
        (tiny_gpt(), "blocks.{}.", ("norm.",)),
        (tiny_bert(), "blocks.{}.", ("pooler.",)),
        (tiny_seq2seq(), "decoder.{}.", ()),
    ):
        for n in (1, 2, 3):
            with attached(base, method := TopLayers(n)):
                names = {name for name, p in base.named_parameters() if p.requires_grad}
                assert names == set(method.names(base))
            tops = tuple(prefix.format(i) for i in range(3 - n, 3)) + above
            assert names == {name for name, _ in base.named_parameters() if name.startswith(tops)}


def test_what_is_trained_if_no_number_is_said():
    """Lessons and experiments build on these: another default is a decision, not a slip."""
    for method, said in (
        (PrefixTuning, {"length": 10, "reparametrise": None, "init": "random", "slots": None, "layers": None}),
        (Infix, {"length": 10, "reparametrise": None, "init": "random"}),
        (PromptTuning, {"length": 10, "init": "vocabulary"}),
        (PTuning, {"length": 6, "init": "vocabulary", "encoder": True}),
        (LoRA, {"rank": 4, "alpha": 8.0, "targets": ["q", "v"], "dropout": 0.0}),
        (Adapter, {"width": 8, "placement": "houlsby", "init": "zero", "scale": 1.0, "norms": False}),
        (TopLayers, {"n_layer": 1}),
    ):
        assert method().settings == said
        assert method().head is None and method().fingerprint is None, "before attach() it belongs to nothing"


def test_a_setting_may_change_and_the_file_says_what_it_is_then(monkeypatch, tmp_path):
    def check(name, loudness):
        if loudness < 0:
            raise UserError("Nothing is less loud than silence.")
        return loudness

    monkeypatch.setattr(Method, "kinds", dict(Method.kinds))

    class Loud(Scale):
        loudness = Setting(check, "How loud.", may_change=True)
        colour = Setting(lambda name, colour: colour, "Anything will do.", may_change=True)

        def __init__(self, loudness, colour):
            super().__init__(loudness=loudness, colour=colour)

    assert Loud.loudness.__doc__ == "How loud."
    base, method = tiny_gpt(), Loud(3, "red")
    assert (method.loudness, method.colour) == (3, "red"), "a setting is what the constructor was called with"
    with pytest.raises(UserError, match="less loud than silence"):
        method.loudness = -1
    assert method.loudness == 3, "what was refused is kept"
    method.loudness, method.colour = 4, None
    with attached(base, method):
        method.save(tmp_path / "loud.safetensors")
    again = load(tmp_path / "loud.safetensors", base)
    assert (again.loudness, again.colour) == (method.loudness, method.colour) == (4, None)


# ----------------------------------------------------------------------------------------------- files


@every_pair
def test_saved_and_loaded_it_is_the_same_and_the_file_holds_the_tuned_part_alone(base, method, tmp_path):
    base, method = make(base, method)
    batch, fresh, path = batch_for(base, method), copy.deepcopy(base), tmp_path / "tuned.safetensors"
    method.attach(base)
    train_steps(base, batch)
    method.save(path)
    report = method.report()
    with safe_open(path, framework="pt") as file:
        assert sum(file.get_tensor(name).numel() for name in file.keys()) == report.stored
    loaded = load(path, fresh)
    assert type(loaded) is type(method) and attached_to(fresh) == [loaded]
    assert torch.equal(outputs(fresh, batch), outputs(base, batch)), "loaded, it gives other numbers"
    assert loaded.report().trained == loaded.report().stored == report.stored, "what only training needs was kept"
    loaded.save(tmp_path / "again.safetensors")
    loaded.detach()
    load(tmp_path / "again.safetensors", fresh)
    assert torch.equal(outputs(fresh, batch), outputs(base, batch)), "saved a second time, it gives other numbers"


@every_pair
def test_saved_to_resume_training_goes_on_as_if_nothing_had_happened(base, method, tmp_path):
    """Trap "reparametrisation" (transformers#35087): a file without the MLP could not go on."""
    base, method = make(base, method)
    batch, fresh, path = batch_for(base, method), copy.deepcopy(base), tmp_path / "tuned.safetensors"
    method.attach(base)
    train_steps(base, batch)
    method.save(path, resume=True)
    loaded = load(path, fresh)
    assert loaded.report() == method.report(), "what training needs was not kept"
    assert torch.equal(outputs(fresh, batch), outputs(base, batch))
    for model in (base, fresh):
        train_steps(model, batch)
    for ours, theirs in zip(loaded.trainable(), method.trainable(), strict=True):
        assert torch.equal(ours, theirs), "two more steps after loading are not two more steps"


def test_the_file_says_what_it_was_made_for(tmp_path):
    base, path = tiny_gpt(), tmp_path / "p.safetensors"
    with attached(base, method := PrefixTuning(P, reparametrise=16, init=[5, 6])):
        method.save(path)
    _, about = load_tensors(path)
    assert about["fingerprint"] == fingerprint(base) and about["base"] == "GPT"
    assert about["positions"] == "a prefix of length P takes positions 0 to P-1, the text starts at P"
    assert about["base_config"]["n_layer"] == 3
    assert about["made_with"] == {"length": P, "reparametrise": 16, "init": [5, 6], "slots": None, "layers": None}
    assert about["settings"] == {"length": P, "reparametrise": None, "init": "random", "slots": None, "layers": None}


@pytest.mark.parametrize("make", [PrefixTuning, Infix, PromptTuning, PTuning])
def test_the_words_it_started_from_are_not_kept_beside_what_became_of_them(make, tmp_path):
    with attached(tiny_gpt(), method := make(P, init=[5, 6])):
        method.save(tmp_path / "p.safetensors")
    _, about = load_tensors(tmp_path / "p.safetensors")
    assert (about["settings"]["init"], about["made_with"]["init"]) == ("random", [5, 6])


def test_the_fingerprint_is_that_of_the_function():
    base = tiny_gpt()
    own = fingerprint(base)
    assert fingerprint(copy.deepcopy(base)) == own
    with attached(base, PrefixTuning(P)):
        assert fingerprint(base) == own, "what is attached is no part of the base"
    others = {
        "other weights": tiny_gpt(seed=1),
        "other heads": tiny_gpt(config=GPTConfig(**{**vars(GPT_CONFIG), "n_head": 4})),
        "another architecture": tiny_bert(),
    }
    assert torch.equal(others["other heads"].state_dict()["norm.weight"], base.norm.weight)
    for name, other in others.items():
        assert fingerprint(other) != own, f"{name} and the same fingerprint"
    other = type("OtherGPT", (GPT,), {})(GPT_CONFIG)
    other.load_state_dict(base.state_dict())
    assert fingerprint(other) != own, "the same numbers in another architecture are another function"
    assert len(own) == 16 and int(own, 16) >= 0, "16 hexadecimal digits, as the files have them that were saved so far"
    dropping = tiny_gpt(config=GPTConfig(**{**vars(GPT_CONFIG), "dropout": 0.5}))
    assert fingerprint(dropping) == own, "dropout is how one trains, not what the base says"


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_a_classifiers_head_is_trained_saved_and_loaded_along(kind, tmp_path):
    torch.manual_seed(0)
    model, path = Classifier(BASES[kind](), 3), tmp_path / "c.safetensors"
    batch = {
        "ids": random_ids(B, T),
        "attention_mask": mask_of(LENGTHS, T, left=kind == "gpt"),
        "label": torch.tensor([0, 1, 2]),
    }
    fresh = copy.deepcopy(model)
    before, head = traces(model.base), model.head.weight.clone()
    method = PrefixTuning(P, reparametrise=16).attach(model)
    train(model, lambda i: batch, TrainConfig(steps=3, lr=0.02), loss=classification_loss, progress=False)
    assert not torch.equal(model.head.weight, head), "the head was not trained"
    assert method.report().head == count(model.head) == 27
    assert method.report().stored == 2 * 3 * 8 * P, "the head counts apart"
    assert {name.split(".")[0] for name in method.tensors()} == {"encoders"}, "the head is no part of the method"
    inputs = {"ids": batch["ids"], "attention_mask": batch["attention_mask"]}
    method.save(path)
    load(path, fresh)
    assert torch.equal(fresh(**inputs), model(**inputs))
    method.detach()
    assert_no_trace(model.base, before, "off a classifier")

    with pytest.raises(UserError, match="holds a classifier's head: load it onto a Classifier"):
        load(path, BASES[kind]())
    with attached(plain := BASES[kind](), method):
        method.save(tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match=f"has no classifier's head: load it onto a {type(plain).__name__}"):
        load(tmp_path / "plain.safetensors", Classifier(BASES[kind](), 3))
    two = Classifier(BASES[kind](), 2)
    with pytest.raises(UserError, match=r"c.safetensors: 'weight' has the shape \(3, 8\); the model's has \(2, 8\)"):
        load(path, two)
    assert attached_to(two) == [], "a refused file leaves nothing on the base"


def damaged(path, change=None, drop=(), add=None):
    """Write a saved file again, changed."""
    tensors, about = load_tensors(path)
    about.update(change or {})
    save_tensors(path, {**{n: t for n, t in tensors.items() if n not in drop}, **(add or {})}, about)


def test_files_that_are_refused(tmp_path):
    base, path = tiny_gpt(), tmp_path / "p.safetensors"
    method = PrefixTuning(P).attach(base)
    method.save(path)
    method.detach()
    before = traces(base)
    whole = path.read_bytes()

    def refused(says, model=base):
        with pytest.raises(UserError, match=says):
            load(path, model)
        assert attached_to(model) == []

    def config(**more):
        return {**vars(GPT_CONFIG), **more}

    own = fingerprint(base)
    refused(
        rf"tuned on another base: a GPT with the fingerprint {own}; this GPT has \w+, with the same sizes but other "
        "weights. Load the base",
        tiny_gpt(seed=1),
    )
    refused(r"this GPT has \w+ \(d_model = 8 there, 16 here\)", tiny_gpt(config=GPTConfig(**config(d_model=16))))
    refused(r"\(n_layer = 3 there, 2 here\)", tiny_gpt(config=GPTConfig(**config(n_layer=2))))
    refused(r"\(n_head = 2 there, 4 here\)", tiny_gpt(config=GPTConfig(**config(n_head=4))))
    two = tiny_gpt(config=GPTConfig(**config(n_layer=2, d_model=16)))
    refused(r"\(n_layer = 3 there, 2 here, d_model = 8 there, 16 here\)", two)
    refused("same sizes but other weights", tiny_gpt(1, GPTConfig(**config(dropout=0.1))))
    refused(rf"a GPT with the fingerprint {own}; this Bert has {fingerprint(tiny_bert())}\. Load", tiny_bert())

    damaged(path, {"positions": "the text starts at 0"})
    refused(r"another convention \(the text starts at 0\); here a prefix of length P takes positions 0 to P-1")
    path.write_bytes(whole)
    damaged(path, drop=["encoders.prefix.free"])
    refused("p.safetensors has no tensor 'encoders.prefix.free', which PrefixTuning needs")
    path.write_bytes(whole)
    damaged(path, add={"more": torch.zeros(1)})
    refused("has a tensor 'more' that PrefixTuning does not know")
    path.write_bytes(whole)
    damaged(path, add={"encoders.prefix.free": torch.zeros(P, 5)})
    refused(r"'encoders.prefix.free' has the shape \(3, 5\); the model's has \(3, 48\)")
    path.write_bytes(whole[: len(whole) // 2])
    refused("not a whole safetensors file")
    path.unlink()
    refused("There is no checkpoint")
    path.write_bytes(whole)
    damaged(path, {"tuning": "Magic"})
    refused("was tuned by a Magic, a method that is not known here; known are Adapter, BitFit, .* Import")
    save_model(path, base)
    refused("holds a GPT, no tuned part: give a file that a method's save")
    save_tensors(path, {"random": torch.get_rng_state()}, {"step": 3})  # as the training loop writes it
    refused("holds a state of training, no tuned part")
    assert_no_trace(base, before, "after every refusal")


@every_pair
def test_a_model_is_saved_without_what_is_on_it_or_not_at_all(base, method, tmp_path):
    """A file with a method's tensors in it is one that `load_model` refuses; what tunes the base's own has none."""
    path = tmp_path / "model.safetensors"
    base, method = make(base, method)
    method.attach(base)
    if list(method.parameters()):
        with pytest.raises(UserError, match=rf"A {type(method).__name__} is on this {type(base).__name__}, .* detach"):
            save_model(path, base)
        assert not path.exists(), "what was refused stands on the disk"
        method.detach()
    else:
        train_steps(base, batch_for(base))
    save_model(path, base)
    again = load_model(path, type(base), type(base.config))
    assert torch.equal(outputs(again, batch_for(again)), outputs(base, batch_for(base)))


def test_full_fine_tuning_refuses_the_tensors_of_another(tmp_path):
    base, path = tiny_gpt(), tmp_path / "f.safetensors"
    with attached(base, method := TopLayers(1)):
        method.save(path)
    before = traces(base)
    damaged(path, drop=["norm.bias"])
    with pytest.raises(UserError, match="has no tensor 'norm.bias', which this TopLayers needs"):
        load(path, base)
    assert_no_trace(base, before, "a refused file")


@pytest.mark.parametrize("make", [PrefixTuning, Infix])
def test_loading_starts_from_the_file_and_not_from_words(make, tmp_path, monkeypatch):
    base, path = tiny_gpt(), tmp_path / "p.safetensors"
    monkeypatch.setattr(PrefixEncoder, "fit", lambda *args: None)
    with attached(base, method := make(P, reparametrise=16, init=[5, 6, 7])):
        method.save(path, resume=True)
    monkeypatch.setattr(
        PrefixEncoder, "fit", lambda *args: pytest.fail("an MLP is fitted to words, only to be overwritten")
    )
    assert load(path, base).settings == json.loads(json.dumps(method.settings))


# ------------------------------------------------------------------------------------------ generation

WRITING = [pair for pair in PAIRS if pair[0] != "bert"]


def writer(base, method):
    """A base with a trained method on it, unequal prompts (left padding), and what else its calls need."""
    base, method = make(base, method)
    method.attach(base)
    train_steps(base, batch_for(base, method), lr=0.1)
    if isinstance(base, GPT):
        prompts = [random_ids(n, seed=n).tolist() for n in (6, 2, 4)]
        if needs_virtual_ids(method):
            prompts = [insert(torch.tensor([p]), 1, virtual_ids(P))[0].tolist() for p in prompts]
        return base, prompts, {}
    batch = batch_for(base, method)
    return base, [[START], [START, 9, 8], [START, 7]], {name: batch[name] for name in ("source", "source_mask")}


def row_of(inputs, row):
    """The inputs of one row alone, without its padding."""
    if not inputs:
        return {}
    return {"source": inputs["source"][row : row + 1, inputs["source_mask"][row]]}


@pytest.mark.parametrize(("base", "method"), WRITING, ids=map("-".join, WRITING))
def test_cached_and_uncached_it_writes_the_same_and_so_does_each_row_alone(base, method):
    """Traps "cache" (peft#222, peft#2134), "left padding" (transformers#18478) and "masks" (transformers#41696)."""
    base, prompts, inputs = writer(base, method)
    for write in (
        partial(generate, max_new_tokens=6, stop_id=END),
        partial(generate, max_new_tokens=6, temperature=1.0, top_k=20, seed=4),
        lambda *args, **more: [
            [h.tokens for h in row] for row in beam_search(*args, max_new_tokens=4, n_beam=3, stop_id=END, **more)
        ],
    ):
        together = write(base, prompts, **inputs)
        assert write(base, prompts, use_cache=False, **inputs) == together, "the cache changes the text"
        if getattr(write, "keywords", {}).get("temperature"):
            continue  # alone, a row draws other random numbers
        for row, prompt in enumerate(prompts):
            alone = write(base, [prompt], **row_of(inputs, row))
            assert alone[0] == together[row], f"row {row} writes another text alone than in its padded batch"


@pytest.mark.parametrize(("base", "method"), WRITING, ids=map("-".join, WRITING))
def test_cached_and_uncached_the_logits_agree_to_the_last_position(base, method):
    """Trap "positions" (PrefixTuning#40): prefix and text have to fit n_positions together, and may fill it."""
    base, prompts, inputs = writer(base, method)
    prompt, inputs = torch.tensor([prompts[0]]), row_of(inputs, 0)
    # Only a prefix from the lowest layer on takes positions, and a prompt in the text that is written.
    takes = method in ("prefix", "prefix-mlp") or (method == "prompt" and not inputs)
    room = base.config.n_positions - P * takes - prompt.size(1)
    more = random_ids(1, room, seed=9)
    with torch.no_grad():
        whole = base(torch.cat([prompt, more], dim=1), **inputs)[:, prompt.size(1) - 1 :]
        cache = base.new_cache()
        parts = [base(prompt, cache=cache, **inputs)[:, -1:]]
        for t in range(room):
            parts.append(base(more[:, t : t + 1], cache=cache, **inputs))
    assert_close(torch.cat(parts, dim=1), whole, "cached ≢ uncached: the prefix has to go in once, at the first call")
    with pytest.raises(UserError, match="25 positions are needed .* n_positions = 24"):
        base(torch.cat([prompt, more, more[:, :1]], dim=1), **inputs)


def test_what_is_attached_is_seen_by_those_who_watch():
    base = tiny_gpt()
    with attached(base, PrefixTuning(P)), watch_attention(base) as maps:
        base(random_ids(1, T))
    shapes = {tuple(weights.shape) for name in maps for weights in maps[name]}
    assert shapes == {(1, 2, T, P + T)}, "every layer's map has P columns for the prefix"


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: PrefixTuning(P).attach(m).attach(m), "This PrefixTuning is on a base already: detach.. it first"),
        (lambda m: PrefixTuning(P).detach(), "This PrefixTuning is on no base"),
        (lambda m: PrefixTuning(P).report(), r"PrefixTuning is on no base: attach\(\) it first, then report\(\)"),
        (lambda m: PrefixTuning(P).save("x.safetensors"), r"on no base: attach\(\) it first, then save\(\)"),
        (lambda m: FullFineTuning().trainable(), r"Tuning is on no base: attach\(\) it first, then trainable\(\)"),
        (lambda m: FullFineTuning().tensors(), r"FullFineTuning is on no base: attach\(\) it first, then save\(\)"),
        (lambda m: PrefixTuning(P).attach(nn.Linear(2, 2)), "onto a GPT, Bert, Seq2Seq or a Classifier .* is a Linear"),
        (lambda m: attached_to(nn.Linear(2, 2)), "this is a Linear"),
        (
            lambda m: (PrefixTuning(P).attach(m), PromptTuning(P).attach(m)),
            r"PromptTuning and PrefixTuning cannot be on one base: both take the place 'context'. detach\(\) the",
        ),
        (lambda m: (Infix(P).attach(m), PTuning(P).attach(m)), "PTuning and Infix cannot be on one base"),
        (
            lambda m: (FullFineTuning().attach(m), PrefixTuning(P).attach(m)),
            "PrefixTuning and FullFineTuning cannot be on one base: one of them changes the base's own weights",
        ),
        (lambda m: (PrefixTuning(P).attach(m), TopLayers(1).attach(m)), "TopLayers and PrefixTuning cannot be on one"),
        (lambda m: TopLayers(0), "n_layer = 0: at least one layer"),
        (lambda m: TopLayers(1.5), "n_layer = 1.5: it has to be a whole number"),
        (lambda m: TopLayers(4).attach(m), "The top 4 layers are to be tuned; this base has 3"),
    ],
)
def test_what_cannot_be_is_said(make, says):
    with pytest.raises(UserError, match=says):
        make(tiny_gpt())


def test_a_method_of_another_base_is_refused():
    with attached(tiny_gpt(), method := PrefixTuning(P)):
        pass
    for other in (tiny_gpt(seed=1), tiny_bert()):
        says = f"{method.fingerprint}; this {type(other).__name__} has {fingerprint(other)}. .* load the base that"
        with pytest.raises(UserError, match=f"made for a base with the fingerprint {says}"):
            method.attach(other)


def test_loading_beside_a_method_names_that_method(tmp_path):
    base, path = tiny_gpt(), tmp_path / "p.safetensors"
    with attached(base, method := PrefixTuning(P)):
        method.save(path)
        with pytest.raises(UserError, match="PrefixTuning and PrefixTuning cannot be on one base"):
            load(path, base)
    full = FullFineTuning().attach(base)
    train_steps(base, batch_for(base))
    with pytest.raises(UserError, match="PrefixTuning and FullFineTuning cannot be on one base"):
        load(path, base)
    full.detach()
    load(path, base)


def test_a_base_in_double_precision_is_tuned_in_double_precision():
    for name in OWN:
        base, method = make("gpt", name)
        method.attach(base.double())
        assert outputs(base, batch_for(base, method)).dtype == torch.double, name
        assert {p.dtype for p in method.parameters()} == {torch.double}, name


def test_the_sizes_of_the_helpers_are_those_that_the_numbers_above_come_from():
    assert (GPT_CONFIG.n_layer, GPT_CONFIG.d_model, GPT_CONFIG.n_positions) == (3, 8, 24)
    assert (BERT_CONFIG.n_layer, BERT_CONFIG.d_model) == (3, 8)
    assert isinstance(randomise(GPT(GPT_CONFIG)), GPT)
