"""Files of tensors: exact, atomic, and refused in a sentence where they are damaged or foreign."""

import errno
import os
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from minitransformer.checkpoint import load_model, load_tensors, save_model, save_tensors
from minitransformer.errors import UserError
from minitransformer.files import check_writable, read_utf8, sha256, write_aside
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.published import load_pretrained
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.tuning import LoRA, load
from minitransformer.tuning.exchange import from_peft, to_peft

CONFIG = GPTConfig(vocab_size=12, n_positions=8, n_layer=1, n_head=2, d_model=4, d_ff=8)


def test_tensors_and_text_come_back_exactly(tmp_path):
    tensors = {"a": torch.randn(3, 4).t(), "b": torch.arange(3), "empty": torch.zeros(0)}
    save_tensors(tmp_path / "x", tensors, {"what": "试验", "n": [1, 2.5]})
    loaded, about = load_tensors(tmp_path / "x")
    assert about == {"what": "试验", "n": [1, 2.5]} and loaded.keys() == tensors.keys()
    for name in tensors:
        assert torch.equal(loaded[name], tensors[name]) and loaded[name].dtype == tensors[name].dtype


def test_a_model_comes_back_with_its_sizes(tmp_path):
    model = GPT(CONFIG).eval()
    save_model(tmp_path / "deep" / "er" / "m.safetensors", model)
    again = load_model(tmp_path / "deep" / "er" / "m.safetensors", GPT, GPTConfig)
    ids = torch.tensor([[1, 2, 3]])
    assert again.config == CONFIG and torch.equal(again(ids), model(ids)) and not again.training


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x"
    save_tensors(path, {"a": torch.ones(2)}, {})
    for code, sentence in ((errno.ENOSPC, "The disk is full"), (errno.EACCES, "cannot be written")):
        with monkeypatch.context() as patch:

            def fail(*_, code=code):
                raise OSError(code, os.strerror(code))

            patch.setattr(os, "fsync", fail)
            with pytest.raises(UserError, match=sentence):
                save_tensors(path, {"a": torch.zeros(2)}, {})
        assert load_tensors(path)[0]["a"].tolist() == [1, 1], "the old file has to be whole"
        assert [p.name for p in tmp_path.iterdir()] == ["x"], "the half-written file was left behind"


def test_truncated_and_foreign_files(tmp_path):
    path = tmp_path / "m"
    save_model(path, GPT(CONFIG))
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is not a whole safetensors file"):
            load_tensors(path)
    path.write_bytes(b"PK\x03\x04 this is a zip file, as torch.save writes them" * 10)
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        load_tensors(path)
    save_file({"wte": torch.ones(2)}, path)
    with pytest.raises(UserError, match="this program did not write it"):
        load_tensors(path)
    with pytest.raises(UserError, match="There is no checkpoint"):
        load_tensors(tmp_path / "nothing")


def test_a_checkpoint_that_does_not_fit_the_model(tmp_path):
    model = GPT(CONFIG)
    about = {"model": "GPT", "config": CONFIG.__dict__}
    whole = dict(model.state_dict())
    for change, sentence in (
        (lambda t: t.pop("norm.bias"), "has no tensor 'norm.bias'"),
        (lambda t: t.update(extra=torch.ones(1)), "has a tensor 'extra' that GPT does not know"),
        (lambda t: t.update({"norm.bias": torch.ones(5)}), r"'norm.bias' has the shape \(5,\); the model's has \(4,\)"),
    ):
        tensors = dict(whole)
        change(tensors)
        save_tensors(tmp_path / "m", tensors, about)
        with pytest.raises(UserError, match=sentence):
            load_model(tmp_path / "m", GPT, GPTConfig)


# ------------------------------------------------------------------- precision, bytes, wrappers


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_comes_back_in_its_precision_and_takes_its_prefix(tmp_path, kind):
    from minitransformer.tuning import PrefixTuning, load

    model = GPT(CONFIG).to(kind).eval()
    save_model(tmp_path / "m", model)
    PrefixTuning(2).attach(model).save(tmp_path / "p")
    again = load_model(tmp_path / "m", GPT, GPTConfig)
    assert {p.dtype for p in again.parameters()} == {kind}
    load(tmp_path / "p", again)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(again(ids), model(ids))


def test_parts_of_two_precisions_come_back_so(tmp_path):
    model = GPT(CONFIG).bfloat16()
    model.norm.float()
    save_model(tmp_path / "m", model)
    again = load_model(tmp_path / "m", GPT, GPTConfig)
    assert [p.dtype for p in again.parameters()] == [p.dtype for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_the_same_content_is_the_same_bytes_every_time(tmp_path):
    tensors, about = {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {"z": 1, "y": "文"}
    words = {name: str(value) for name, value in about.items()}
    assert len({save(tensors, words) for _ in range(30)}) > 1, "safetensors orders metadata anew"
    for i in range(30):
        save_tensors(tmp_path / str(i), tensors, about)
    assert len({(tmp_path / str(i)).read_bytes() for i in range(30)}) == 1
    assert load_file(tmp_path / "1")["a"].shape == (2, 2), "and it is a file that safetensors reads"


def test_two_names_of_one_tensor_are_both_saved(tmp_path):
    one = torch.arange(3.0)
    save_tensors(tmp_path / "x", {"a": one, "b": one, "c": one.view(1, 3)}, {})
    assert {name: t.tolist() for name, t in load_tensors(tmp_path / "x")[0].items()} == {
        "a": [0, 1, 2],
        "b": [0, 1, 2],
        "c": [[0, 1, 2]],
    }


def test_a_compiled_models_names_are_the_models(tmp_path):
    model = GPT(CONFIG).eval()
    save_model(tmp_path / "m", torch.compile(model))
    model.blocks[0] = torch.compile(model.blocks[0])
    save_model(tmp_path / "n", model)
    for name in "mn":
        assert load_model(tmp_path / name, GPT, GPTConfig).config == CONFIG


def test_a_model_that_could_not_be_built_again_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="A Classifier has no config to build it from again"):
        save_model(tmp_path / "k", Classifier(Bert(BertConfig(n_layer=1)), 2))
    broken = GPT(CONFIG)
    with torch.no_grad():
        broken.norm.weight[1] = torch.nan
    with pytest.raises(UserError, match="This GPT: 'norm.weight' has 1 values that are nan or infinite"):
        save_model(tmp_path / "k", broken)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------- damage


def rewrite(path, header=None, about=None, tensors=None):
    """The file again with other parts."""
    held, said = load_tensors(path)
    if tensors:
        tensors(held)
        save_tensors(path, held, said)
    if about is not None:
        save_file(held, path, {"format": "minitransformer", "about": about})
    if header is not None:
        (length,) = struct.unpack("<Q", path.read_bytes()[:8])
        rest = path.read_bytes()[8 + length :]
        path.write_bytes(struct.pack("<Q", len(header)) + header + rest)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"about": "{"}, "is damaged: it does not say what it holds"),
        ({"about": ""}, "is damaged: it does not say what it holds"),
        ({"about": "[" * 100_000}, "is damaged"),
        ({"about": "[1]"}, "what it says about itself has to be an object; this is a list"),
        ({"about": "{}"}, "holds a state of training, not a GPT"),
        ({"about": '{"tuning": "PrefixTuning"}'}, "holds a PrefixTuning, not a GPT"),
        ({"about": '{"model": "GPT"}'}, "is damaged: it has no config of a GPT"),
        ({"about": '{"model": "GPT", "config": [1]}'}, "is damaged: it has no config of a GPT"),
        ({"about": '{"model": "GPT", "config": {"n_layer": "two"}}'}, "n_layer = 'two': it has to be a whole number"),
        ({"about": '{"model": "GPT", "config": {"n_layer": null}}'}, "n_layer = None"),
        (
            {"about": '{"model": "GPT", "config": {"bias": true}}'},
            "has the setting 'bias', which GPTConfig does not know",
        ),
        ({"about": '{"model": {"a": 1}, "config": {}}'}, "not a GPT"),
        ({"header": b"{}"}, "is not a whole safetensors file"),
        ({"header": b'{"__metadata__": 3}'}, "is not a whole safetensors file"),
        ({"header": b"\xff\xfe"}, "is not a whole safetensors file"),
        ({"tensors": lambda t: t["norm.bias"].fill_(torch.nan)}, "'norm.bias' has 4 values that are nan or infinite"),
        ({"tensors": lambda t: t["norm.bias"][0].fill_(-torch.inf)}, "'norm.bias' has 1 values"),
        ({"tensors": lambda t: t.update({"norm.bias": torch.zeros(4).int()})}, "'norm.bias' is torch.int32"),
    ],
)
def test_a_damaged_file_says_so(tmp_path, change, sentence):
    path = tmp_path / "m"
    save_model(path, GPT(CONFIG))
    rewrite(path, **change)
    with pytest.raises(UserError, match=sentence) as caught:
        load_model(path, GPT, GPTConfig)
    assert str(path) in str(caught.value), "the sentence has to name the file"


def test_settings_that_a_file_lacks_have_their_defaults(tmp_path):
    """A file of an older version, which did not have them yet."""
    model = GPT(GPTConfig(vocab_size=12, n_positions=8, n_layer=1))
    about = {"model": "GPT", "config": {"vocab_size": 12, "n_positions": 8, "n_layer": 1}}
    save_tensors(tmp_path / "m", model.state_dict(), about)
    assert load_model(tmp_path / "m", GPT, GPTConfig).config == model.config


@pytest.mark.parametrize("seed", range(60))
def test_a_file_with_any_byte_changed_is_refused_in_a_sentence_or_whole(tmp_path, seed):
    """Flipped, cut, doubled, zeroed: nothing but a UserError, and what loads is finite and of the right shape."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return int(torch.randint(n, (1,), generator=generator))

    path = tmp_path / "m"
    save_model(path, GPT(CONFIG))
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    at = draw(8 + length) if seed % 3 else draw(len(data))  # mostly in the header, where the most can go wrong
    kind = seed % 4
    if kind == 0:
        data[at] ^= 1 << draw(8)
    elif kind == 1:
        del data[at : at + 1 + draw(20)]
    elif kind == 2:
        data[at:at] = data[at : at + 1 + draw(20)]
    else:
        data[at : at + 1 + draw(20)] = bytes(1 + draw(20))
    path.write_bytes(data)
    try:
        model = load_model(path, GPT, GPTConfig)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(p.isfinite().all() for p in model.parameters())


def test_a_folder_in_the_place_of_a_file(tmp_path):
    with pytest.raises(UserError, match="is a folder: name the file in it"):
        load_tensors(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        save_tensors(tmp_path, {"a": torch.ones(1)}, {})
    assert [p for p in tmp_path.parent.iterdir() if p.name.endswith(".tmp")] == []


# ------------------------------------------------------------------- files


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".x.{ended.pid}.tmp"
    others = [tmp_path / f".x.{os.getppid()}.tmp", tmp_path / f".y.{ended.pid}.tmp", tmp_path / ".x.notes.tmp"]
    for path in (left, *others):
        path.write_bytes(b"half a file")
    write_aside(tmp_path / "x", b"whole")
    found = {p.name for p in tmp_path.iterdir()}
    assert found == {"x", *(p.name for p in others)}, "only what an ended process left of this very file goes"


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_aside(tmp_path / "x", b"whole")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["[a]*?.x", "a b", "文.json"])
def test_names_with_signs(tmp_path, name):
    for content in (b"one", b"two"):
        write_aside(tmp_path / name, content)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"two")]


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folder" / "x")
    (tmp_path / "file").write_bytes(b"")
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "file" / "x", "file is a file and no folder")):
        with pytest.raises(UserError, match=sentence):
            check_writable(path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is read-only for you"):
        check_writable(tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "asking makes nothing"


def test_utf8_is_read_as_it_is(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfone\r\ntwo \xe2\x80\xa8 three\n")
    assert read_utf8(tmp_path / "x") == "one\ntwo \u2028 three\n"
    (tmp_path / "x").write_bytes(b"one\ntwo \xff\n")
    with pytest.raises(UserError, match="line 2: this is not UTF-8 text .byte 0xff"):
        read_utf8(tmp_path / "x")
    with pytest.raises(UserError, match=r"The list .* cannot be read: No such file or directory\."):
        read_utf8(tmp_path / "y", "list")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_utf8(tmp_path)


def test_checksums(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


# ------------------------------------------------------------------- what stands in the wrong place


@pytest.mark.parametrize(
    "swapped",
    [
        lambda model, path: save_model(model, path),
        lambda model, path: save_tensors(model.state_dict(), path, {}),
        lambda model, path: load_tensors(model),
        lambda model, path: load_model(GPT, path, GPTConfig),
        lambda model, path: load_pretrained(model),
        lambda model, path: load(model, path),
        lambda model, path: to_peft(path, LoRA().attach(model)),
        lambda model, path: from_peft(model, path),
        lambda model, path: LoRA().attach(model).save(model),
        lambda model, path: Tokenizer.load(None),
        lambda model, path: read_utf8(3),
        lambda model, path: check_writable(b"bytes"),
    ],
)
def test_something_else_in_the_place_of_a_file_is_refused(tmp_path, swapped):
    with pytest.raises(UserError, match="named by a text or a Path; this is a|takes a (path|method), then a "):
        swapped(GPT(CONFIG), tmp_path / "m")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("save", "sentence"),
    [
        (lambda path: save_model(path, path), "save_model.. takes a path, then a model; this is a"),
        (lambda path: save_model(path, GPT(CONFIG), {"made": {1, 2}}), "what JSON can.*set is not JSON serializable"),
        (lambda path: save_model(path, GPT(CONFIG), {"made": torch.ones(2)}), "Tensor is not JSON serializable"),
        (lambda path: save_model(path, GPT(CONFIG), {(1, 2): 3}), "what JSON can.*keys must be str"),
        (lambda path: save_tensors(path, {}, "about"), "What a file says about itself is a dictionary; this is a str"),
        (lambda path: save_tensors(path, {"a": [1.0]}, {}), "'a' has to be a tensor; this is a list"),
    ],
)
def test_what_no_file_can_hold(tmp_path, save, sentence):
    with pytest.raises(UserError, match=sentence):
        save(tmp_path / "m")
    assert not any(tmp_path.iterdir())


def test_parts_of_one_memory_are_saved_each(tmp_path):
    whole = torch.arange(6.0)
    save_tensors(tmp_path / "x", {"a": whole[:2], "b": whole[2:], "c": whole[1:4], "all": whole}, {})
    found = load_tensors(tmp_path / "x")[0]
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [0, 1],
        "b": [2, 3, 4, 5],
        "c": [1, 2, 3],
        "all": [0, 1, 2, 3, 4, 5],
    }
