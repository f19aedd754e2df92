"""Files of tensors: exact, atomic, and refused in a sentence where they are damaged or foreign."""

import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from minitransformer.checkpoint import load_model, load_tensors, save_model, save_tensors
from minitransformer.errors import UserError
from minitransformer.models.gpt import GPT, GPTConfig

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
