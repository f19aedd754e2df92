"""Published files as they are found: older names and buffers, wrappers, several files, and what is refused."""

import json
import re
import subprocess
import sys

import pytest
import torch

from minitransformer.errors import UserError
from minitransformer.published import from_transformers, load_pretrained
from tests.parity.test_models import bart, bert, gpt2, ours

pytestmark = pytest.mark.parity

OLD_BUFFERS = {
    gpt2: {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4), "transformer.h.7.attn.masked_bias": torch.tensor(-1e4)},
    bert: {"bert.embeddings.position_ids": torch.arange(4)[None], "bert.embeddings.token_type_ids": torch.zeros(1, 4)},
    bart: {"model.encoder.version": torch.ones(1), "model.decoder.version": torch.ones(1)},
}


@pytest.mark.parametrize("make", [gpt2, bert, bart])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrappers_old_norms_and_old_buffers_are_understood(make, prefix):
    theirs = make()
    old = {**theirs.state_dict(), **OLD_BUFFERS[make]}
    old = {
        re.sub(r"(?<=LayerNorm\.)weight$", "gamma", re.sub(r"(?<=LayerNorm\.)bias$", "beta", n)): t
        for n, t in old.items()
    }
    assert make is not bert or any(name.endswith("LayerNorm.gamma") for name in old)
    found = from_transformers({prefix + name: tensor for name, tensor in old.items()}, theirs.config)
    for name, tensor in ours(theirs).state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@pytest.mark.parametrize("make", [gpt2, bert, bart])
def test_weights_in_several_files_load(make, tmp_path):
    theirs = make()
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    found = load_pretrained(tmp_path)
    for name, tensor in ours(theirs).state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    index = tmp_path / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    for places, sentence in (
        ({**whole["weight_map"], "extra": next(iter(whole["weight_map"].values()))}, "promises a tensor 'extra'"),
        ({"a": "../elsewhere.safetensors"}, "does not say which file holds which tensor"),
        ({"a": "lost.safetensors"}, "There is no checkpoint"),
        ([], "does not say which file holds which tensor"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(UserError, match=sentence):
            load_pretrained(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 39), (2, 40), (1,)])
def test_a_final_bias_of_another_shape_is_refused(shape):
    theirs = bart()
    weights = {**theirs.state_dict(), "final_logits_bias": torch.ones(shape)}
    with pytest.raises(UserError, match="'final_logits_bias' has the shape"):
        from_transformers(weights, theirs.config)


def test_ids_of_a_config():
    theirs = bart()
    about = theirs.config.to_dict()
    end = about["eos_token_id"]
    assert from_transformers(theirs.state_dict(), {**about, "eos_token_id": [end]}).config.end_id == end
    assert from_transformers(theirs.state_dict(), {**about, "pad_token_id": None}).config.pad_id == end
    first = from_transformers(theirs.state_dict(), {**about, "decoder_start_token_id": None, "bos_token_id": 5})
    assert first.config.start_id == 5
    for change, sentence in (
        ({"eos_token_id": [1, 2]}, r"eos_token_id = \[1, 2\]; here it is one id"),
        ({"eos_token_id": None}, "eos_token_id = null"),
        ({"pad_token_id": -1}, "pad_id = -1: it has to be a whole number from 0"),
        ({"d_model": "16"}, "d_model = '16'"),
        ({"d_model": None}, "d_model = None"),
        ({"vocab_size": [40]}, r"vocab_size = \[40\]|makes no sense"),
        ({"model_type": ["bart"]}, "The config is that of a"),
    ):
        with pytest.raises(UserError, match=sentence):
            from_transformers(theirs.state_dict(), {**about, **change})


@pytest.mark.parametrize("make", [gpt2, bert, bart])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(make, bad):
    theirs = make()
    for name in list(theirs.state_dict())[:: max(1, len(theirs.state_dict()) // 6)]:
        weights = {n: t.clone() for n, t in theirs.state_dict().items()}
        weights[name].view(-1)[0] = bad
        with pytest.raises(UserError, match="nan or infinite|differs from"):
            from_transformers(weights, theirs.config)


@pytest.mark.parametrize("where", ["config", "generation config"])
def test_what_a_config_asks_of_generation_is_said(tmp_path, where):
    theirs = bart()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / ("config.json" if where == "config" else "generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "no_repeat_ngram_size": 3, "min_length": 56}))
    with pytest.warns(UserWarning, match="asks generation for .*min_length = 56.*no_repeat_ngram_size = 3"):
        load_pretrained(tmp_path)


def test_what_is_no_config_and_no_tensor():
    with pytest.raises(UserError, match="or a dictionary; this is a int"):
        from_transformers({}, 3)
    with pytest.raises(UserError, match="The weights are a state dict, which maps names to tensors; this is a GPT2"):
        from_transformers(gpt2(), gpt2().config)
    with pytest.raises(UserError, match="have to hold a tensor as 'a'; this is a list"):
        from_transformers({"a": [1.0]}, gpt2().config)


def test_the_way_out_of_a_pickle_works(tmp_path):
    """The sentence about pytorch_model.bin names a command; it is run here as it stands."""
    theirs = gpt2()
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle") as caught:
        load_pretrained(tmp_path)
    command = re.search(r'python -c "(.*)"', str(caught.value))[1]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert torch.equal(load_pretrained(tmp_path).token_embedding.weight, theirs.transformer.wte.weight)
