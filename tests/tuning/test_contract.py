"""What holds for every method, those of tomorrow included: settings, what it begins as, precision, copies, its file."""

import copy
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

import minitransformer
from minitransformer.checkpoint import load_tensors, save_model, save_tensors
from minitransformer.course.answers import AnswerVectors
from minitransformer.errors import UserError
from minitransformer.models.classifier import Classifier
from minitransformer.tuning import (
    Adapter,
    Infix,
    LoRA,
    PrefixTuning,
    attached,
    attached_to,
    fingerprint,
    for_each_row,
    load,
    methods,
)
from minitransformer.tuning.bases import base_parameters
from minitransformer.tuning.settings import settings_of
from tests.helpers import assert_close, random_ids, tiny_bert, tiny_gpt
from tests.tuning.helpers import PAIR_NAMES, PAIRS, P, T, batch_for, loss_of, make, outputs, stir

every_pair = pytest.mark.parametrize(("base", "method"), PAIRS, ids=PAIR_NAMES)
ANSWERS = {"yes": {"good": [5]}, "no": {"bad": [6], "dull": [7, 8]}}


# --------------------------------------------------------------------------------------- being known


def test_every_method_is_known_and_says_what_it_does():
    known = methods()
    assert {"PrefixTuning", "Infix", "PromptTuning", "PTuning", "Adapter", "LoRA", "IA3"} < set(known)
    assert "Shift" in known, "a method of another file is known once the file is read"
    for name, kind in known.items():
        assert kind.summary().endswith(".") and len(kind.summary()) < 110, f"{name} says nothing in one line"
        for settings in kind.examples.values():
            assert set(kind(**settings).settings) == set(settings_of(kind)), f"{name}: a setting is no Setting"


def test_a_file_put_into_the_folder_is_a_method(tmp_path):
    """In a copy of the library: nothing else is changed."""
    package = Path(minitransformer.__file__).parent
    for source in package.rglob("*.py"):
        if "course" not in source.parts:
            target = tmp_path / "minitransformer" / source.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    toy = Path(__file__).with_name("toy.py").read_text(encoding="utf-8")
    (tmp_path / "minitransformer" / "tuning" / "shift.py").write_text(toy, encoding="utf-8")
    code = "from minitransformer.tuning import methods; print(*methods(), methods()['Shift'].__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == sorted(methods()) + ["minitransformer.tuning.shift"]


# ------------------------------------------------------------------------------------------ settings

ODD = {
    "None": None,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "nan": math.nan,
    "infinity": math.inf,
    "-infinity": -math.inf,
    "2.0": 2.0,
    "True": True,
    "a long word": "incomprehensible",
    "no word": "",
    "bytes": b"q",
    "an empty list": [],
    "fractions in a list": [1.5, 2.5],
    "nan in a list": [math.nan],
    "words in a list": ["q", "v"],
    "numbers in a list": [4, 5],
    "bools in a list": [True, False],
    "a table": {"q": 1},
    "an object": object(),
    "a tensor of a fraction": torch.tensor(1.5),
    "a tensor of whole numbers": torch.tensor([4, 5]),
    "numpy's whole number": numpy.int64(3),
    "numpy's fraction": numpy.float32(0.25),
    "numpy's nan": numpy.float64("nan"),
}
NEVER = ("nan", "infinity", "-infinity", "an object", "bytes", "fractions in a list", "nan in a list", "numpy's nan")
EVERY_SETTING = [(kind, name) for kind in (*methods().values(), AnswerVectors) for name in settings_of(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY_SETTING, ids=[f"{k.__name__}.{n}" for k, n in EVERY_SETTING])
@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_an_odd_setting_is_refused_when_the_method_is_made_or_it_works(kind, name, value, request, tmp_path):
    """One table for every setting of every method: 25 odd values each."""
    settings = next(iter(kind.examples.values()), {"answers": ANSWERS, "mask_id": 4})
    try:
        method = kind(**{**settings, name: value})
    except UserError as error:
        assert str(error).startswith(f"{name} = "), "the sentence has to name the setting"
        return
    assert request.node.callspec.id.partition("-")[0] not in NEVER, f"{name} = {value!r} is accepted"
    assert json.loads(json.dumps(method.settings)) == method.settings, "its file could not say this setting"
    base = tiny_gpt()
    try:
        method.attach(base)
    except UserError:  # it does not fit this base
        return
    method.save(tmp_path / "m.safetensors")
    method.detach()
    load(tmp_path / "m.safetensors", base)


def test_a_setting_that_was_settled_cannot_be_changed_in_silence():
    method = PrefixTuning(3)
    for name in ("length", "reparametrise", "init", "slots", "layers"):
        with pytest.raises(UserError, match=f"{name} of a PrefixTuning was settled when it was made: make another"):
            setattr(method, name, 5)
    for method, name in ((LoRA(), "alpha"), (Adapter(), "scale")):
        setattr(method, name, 3)
        assert getattr(method, name) == method.settings[name] == 3
        for value in (math.nan, math.inf, 0, "much", True, None):
            with pytest.raises(UserError, match=f"{name} = "):
                setattr(method, name, value)
        assert getattr(method, name) == 3


# ---------------------------------------------------------------------------------- what it begins as


@every_pair
def test_what_says_that_it_starts_as_the_base_does(base, method):
    base, method = make(base, method)
    batch = batch_for(base, method)
    if not method.starts_as_base:
        return
    plain = outputs(base, batch)
    with attached(base, method):
        assert torch.equal(outputs(base, batch), plain), "before anything is learned the base says something else"


# ------------------------------------------------------------------------------------------ precision


@every_pair
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_method_may_have_another_precision_than_its_base(base, method, dtype):
    """diffusers#6774, peft#1706: a float32 method on a bfloat16 base, by method.float(), .half() or .to()."""
    base, method = make(base, method)
    base = base.to(torch.float32 if dtype == torch.float64 else dtype)
    batch = batch_for(base, method)
    stir(method.attach(base))
    same = outputs(base, batch)
    method.to(torch.float64 if dtype == torch.float64 else torch.float32)
    other = outputs(base, batch)
    assert other.dtype == same.dtype == next(iter(base_parameters(base).values())).dtype
    assert_close(
        other.float(), same.float(), "the same numbers in another precision", 0.2 if dtype != torch.float64 else 1e-4
    )
    loss_of(base)(base, batch)[0].backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in method.parameters() if p.requires_grad)
    method.detach()


@every_pair
def test_under_autocast_it_runs_and_learns(base, method):
    """A prefix in float32 beside keys in bfloat16, and the reverse."""
    base, method = make(base, method)
    batch = batch_for(base, method)
    stir(method.attach(base))
    full = outputs(base, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = outputs(base, batch)
        loss = loss_of(base)(base, batch)[0]
    loss.backward()
    assert_close(mixed.float(), full, "under autocast it says something else", 0.3)
    assert all(p.grad is not None for p in method.trainable())


def test_a_classifiers_head_keeps_its_precision_when_the_method_changes_its_own():
    model = Classifier(tiny_bert(), 3).bfloat16()
    with attached(model, method := PrefixTuning(P)):
        method.float()
        assert model.head.weight.dtype == torch.bfloat16 and model(random_ids(1, T)).dtype == torch.bfloat16


def test_a_head_that_was_made_in_another_precision_follows_its_base():
    model = Classifier(tiny_bert().bfloat16(), 3)
    with attached(model, PrefixTuning(P)):
        assert model.head.weight.dtype == torch.bfloat16 and model(random_ids(2, T)).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_low_precision_base_and_its_float32_copy_are_one_base(dtype, tmp_path):
    """peft#2421: a model saved in bfloat16 and read as float32 refused its own prefix. The numbers are the same."""
    base = tiny_gpt().to(dtype)
    same, batch = copy.deepcopy(base).float(), batch_for(base)
    assert fingerprint(same) == fingerprint(base) != fingerprint(tiny_gpt())
    with attached(base, method := PrefixTuning(P)):
        method.save(tmp_path / "p.safetensors")
        low = outputs(base, batch)
    loaded = load(tmp_path / "p.safetensors", same)
    assert loaded.encoders["prefix"].free.dtype == dtype, "the file's precision is kept"
    assert_close(outputs(same, batch), low.float(), "the same prefix on the same numbers", 0.2)


def test_a_file_keeps_the_precision_that_was_trained_in(tmp_path):
    base = tiny_gpt().bfloat16()
    batch = batch_for(base)
    with attached(base, method := PrefixTuning(P)):
        method.float()
        stir(method)
        tuned = outputs(base, batch)
        method.save(tmp_path / "p.safetensors")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "p.safetensors", base).encoders["prefix"](), method.encoders["prefix"]())
    assert torch.equal(outputs(base, batch), tuned)


def test_a_row_of_a_prefix_may_have_another_precision():
    base = tiny_gpt()
    with attached(base, method := PrefixTuning(P)):
        method.half()
    rows = for_each_row([method] * 2)
    assert base.bfloat16()(random_ids(2, T), **rows).dtype == torch.bfloat16


# ------------------------------------------------------------------------------- torch.func, copies


@every_pair
def test_torch_func_gives_the_gradients_of_backward(base, method):
    base, method = make(base, method)
    batch = batch_for(base, method)
    stir(method.attach(base))
    inputs = {name: batch[name] for name in ("ids", "attention_mask", "source", "source_mask") if name in batch}

    def loss(parameters):
        return torch.func.functional_call(base, parameters, (), inputs)[batch["attention_mask"]].square().mean()

    named = {name: p for name, p in base.named_parameters() if p.requires_grad}
    loss({}).backward()
    found = torch.func.grad(loss)({name: p.detach() for name, p in named.items()})
    for name, p in named.items():
        expected = torch.zeros_like(p) if p.grad is None else p.grad
        assert_close(found[name], expected, f"torch.func.grad of {name}", 1e-4)


@pytest.mark.parametrize("name", ["prefix", "prefix-mlp", "lora-all", "houlsby", "ia3", "toy-shift"])
def test_per_sample_gradients_are_those_of_each_text_alone(name):
    """torch.func.vmap over a tuned base, for the methods that look at no ids."""
    base, method = make("gpt", name)
    stir(method.attach(base))
    named = {n: p.detach() for n, p in base.named_parameters() if p.requires_grad}
    ids = random_ids(3, T)

    def loss(parameters, row):
        return torch.func.functional_call(base, parameters, (row[None],)).square().mean()

    every = torch.func.vmap(torch.func.grad(loss), (None, 0))(named, ids)
    for row in range(len(ids)):
        alone = torch.func.grad(loss)(named, ids[row])
        for n in named:
            assert_close(every[n][row], alone[n], f"the gradient of {n} from text {row}", 1e-4)


def test_a_base_with_a_method_is_neither_copied_nor_pickled_nor_saved_in_silence(tmp_path):
    base = tiny_gpt()
    with attached(base, method := PrefixTuning(P)):
        for copied in (copy.deepcopy, pickle.dumps):
            for what in (base, method):
                with pytest.raises(
                    UserError, match=r"A PrefixTuning is on this base, and hooks can be neither copied nor pickled"
                ):
                    copied(what)
        with pytest.raises(
            UserError, match="A PrefixTuning is on this base, and hooks can be neither copied nor pickled"
        ):
            torch.save(base, tmp_path / "base.pt")
        with pytest.raises(UserError, match="A PrefixTuning is on this GPT, and what it learned is no part"):
            save_model(tmp_path / "base.safetensors", base)
    again = pickle.loads(pickle.dumps(method))
    with attached(base, again):
        assert torch.equal(again.encoders["prefix"](), method.encoders["prefix"]())
    pickle.loads(pickle.dumps(copy.deepcopy(base)))


def test_what_fails_while_it_hooks_in_leaves_the_base_as_it_was(monkeypatch):
    base, method = tiny_gpt(), PrefixTuning(P)
    monkeypatch.setattr(PrefixTuning, "install", lambda self, base: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        method.attach(base)
    assert attached_to(base) == [] and method.base is None and all(p.requires_grad for p in base.parameters())


# ---------------------------------------------------------------------------------------------- files


def saved_prefix(tmp_path, **how):
    base, path = tiny_gpt(), tmp_path / "p.safetensors"
    with attached(base, method := PrefixTuning(P)):
        method.save(path, **how)
    return base, path


@pytest.mark.parametrize("kind", ["missing", "null", "a number", "a list", "a text", "a table"])
@pytest.mark.parametrize(
    "name", ["tuning", "settings", "made_with", "base", "base_config", "fingerprint", "positions", "made_by"]
)
def test_a_damaged_description_is_refused_with_the_files_name(name, kind, tmp_path):
    base, path = saved_prefix(tmp_path)
    tensors, about = load_tensors(path)
    values = {"null": None, "a number": 3, "a list": [1], "a text": "x", "a table": {"x": 1}}
    if kind == "missing":
        about.pop(name, None)
    else:
        about[name] = values[kind]
    save_tensors(path, tensors, about)
    try:
        load(path, base)
    except UserError as error:
        assert "p.safetensors" in str(error) and attached_to(base) == []
    else:
        harmless = name == "made_by" or (name, kind) in (
            ("made_with", "a table"),
            ("base_config", "a table"),
            ("base", "a text"),
        )
        assert harmless, f"{name}: {kind} is taken"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bias": None}, "has the setting 'bias', which PrefixTuning does not know here: a newer version"),
        ({"length": ...}, "lacks the setting 'length' of PrefixTuning"),
        ({"length": 2.5}, "has a setting that means nothing. length = 2.5: it has to be a whole number"),
        ({"length": 4}, r"'encoders.prefix.free' has the shape \(3, 48\); the model's has \(4, 48\)"),
        ({"layers": 9}, "layers = 9: this base has 3 layers"),
        ({"slots": "prefix"}, "has a setting that means nothing. slots = 'prefix'"),
        ({"init": [0.5]}, r"has a setting that means nothing. init = \[0.5\]"),
    ],
)
def test_the_settings_of_a_file_are_checked(change, says, tmp_path):
    base, path = saved_prefix(tmp_path)
    tensors, about = load_tensors(path)
    about["settings"] = {k: v for k, v in {**about["settings"], **change}.items() if v is not ...}
    save_tensors(path, tensors, about)
    with pytest.raises(UserError, match=says):
        load(path, base)
    assert attached_to(base) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_tensor_that_is_not_finite_is_refused(value, tmp_path):
    base, path = saved_prefix(tmp_path)
    tensors, about = load_tensors(path)
    tensors["encoders.prefix.free"][1, 2] = value
    save_tensors(path, tensors, about)
    with pytest.raises(UserError, match=r"p.safetensors.*'encoders.prefix.free' has .*nan or infinite"):
        load(path, base)
    save_tensors(path, {"encoders.prefix.free": torch.ones(P, 48, dtype=torch.long)}, about)
    with pytest.raises(UserError, match=r"p.safetensors.*'encoders.prefix.free' has torch.int64 numbers"):
        load(path, base)


def test_the_names_that_older_files_have_are_read(tmp_path):
    for kind, old, new in (
        (PrefixTuning, "tables.prefix.free", "encoders.prefix.free"),
        (Infix, "table.free", "encoder.free"),
    ):
        base, path = tiny_gpt(), tmp_path / "old.safetensors"
        with attached(base, method := kind(P)):
            method.save(path)
            kept = method.stored()[1][new].clone()
        tensors, about = load_tensors(path)
        save_tensors(path, {old: tensors[new]}, about)
        assert torch.equal(load(path, base).stored()[1][new], kept)
        with attached(other := tiny_gpt(), method := kind(P, reparametrise=4)):
            method.save(path, resume=True)
        tensors, about = load_tensors(path)
        save_tensors(path, {name.replace("encoder", "table"): t for name, t in tensors.items()}, about)
        assert load(path, other).reparametrise == 4


def test_equal_prefixes_are_equal_bytes(tmp_path):
    base, method = tiny_gpt(), PrefixTuning(P, init=[5, 6])
    with attached(base, method):
        for i in range(8):
            method.save(tmp_path / f"{i}.safetensors")
    assert len({(tmp_path / f"{i}.safetensors").read_bytes() for i in range(8)}) == 1


def test_another_base_is_told_which_command_makes_both(tmp_path):
    _, path = saved_prefix(tmp_path, made_by="make pretrain")
    with pytest.raises(UserError, match="train it again on this one: `make pretrain` makes both anew"):
        load(path, tiny_gpt(seed=1))
    assert load_tensors(path)[1]["made_by"] == "make pretrain"


def test_a_method_that_is_not_known_here_is_named(tmp_path):
    base, path = saved_prefix(tmp_path)
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | {"tuning": "VeRA"})
    with pytest.raises(UserError, match="was tuned by a VeRA, a method that is not known here; known are Adapter, "):
        load(path, base)
