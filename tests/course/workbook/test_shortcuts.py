"""No fast path hides a learner's function."""

import types

import pytest
import torch

from minitransformer.course.workbook import mine
from minitransformer.course.workbook.shortcuts import attend, plain_paths
from minitransformer.models import attention
from minitransformer.models.attention import Attention
from minitransformer.training import loop as training
from tests.helpers import GPT_CONFIG, random_ids, tiny_gpt


def counted(function):
    calls = []

    def wrapper(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    wrapper.calls = calls
    return wrapper


def copy_of(function):
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)


@pytest.mark.parametrize("name", ["split_heads", "merge_heads", "attend_by_formula", "combined_mask"])
def test_no_fast_path_hides_the_learners_attention(name):
    """Training, reading and writing with the cache all run on what was switched in."""
    from minitransformer.generation.sampling import generate

    target = f"minitransformer.models.attention:{name}"
    own = counted(copy_of(getattr(attention, name)))
    model, ids = tiny_gpt(), random_ids(2, 8)
    expected = model(ids)
    written = generate(model, [[5, 6]], 6, temperature=0.0)
    with mine.in_use({target: own}):
        close = torch.testing.assert_close
        close(model(ids), expected, atol=1e-5, rtol=0)
        reading = len(own.calls)
        training.language_model_loss(model.train(), {"ids": ids})[0].backward()
        learning = len(own.calls) - reading
        assert generate(model.eval(), [[5, 6]], 6, temperature=0.0) == written
        writing = len(own.calls) - reading - learning
    assert reading == GPT_CONFIG.n_layer and learning == GPT_CONFIG.n_layer, f"{name} was passed by"
    assert writing >= GPT_CONFIG.n_layer
    assert model.decode_step(model.new_cache()) is not None, "the fast paths are back"
    model(ids)
    assert len(own.calls) == reading + learning + writing, "the switch is off"


def test_the_plain_path_is_the_fast_one():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 4) for _ in range(3))
    k, v = torch.cat([k, k[:, :, :2]], 2), torch.cat([v, v[:, :, :2]], 2)  # two columns of a prefix
    for causal in (False, True):
        torch.testing.assert_close(attend(q, k, v, causal=causal), attention.attend(q, k, v, causal=causal))
    torch.manual_seed(0)
    dropped = attend(q, k, v, dropout=0.5)
    assert not torch.allclose(dropped, attend(q, k, v))


def test_plain_paths_only_where_they_are_needed():
    assert plain_paths(["minitransformer.text.tokenizer:Tokenizer"]) == {}
    assert set(plain_paths(["minitransformer.models.layers:drop"])) == {"minitransformer.models.gpt:GPT.decode_step"}
    assert "minitransformer.models.attention:attend" not in plain_paths(["minitransformer.models.attention:attend"])


def test_an_exercise_on_a_marked_part_of_attention_reaches_the_models():
    own = counted(copy_of(Attention.forward))
    model = tiny_gpt()
    with mine.in_use({"minitransformer.models.attention:Attention.forward": own}):
        model(random_ids(1, 4))
    assert len(own.calls) == GPT_CONFIG.n_layer
