"""What the models share besides attention, by itself: dropout, token ids, positions, how weights start."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minitransformer.errors import UserError
from minitransformer.models.layers import _all_inside, check_text, drop, embed, embed_positions, gelu_tanh, init_weights
from tests.helpers import OnGPU, assert_close, mask_of


def table(n, width=4):
    torch.manual_seed(0)
    return nn.Embedding(n, width)


def test_gelu_and_its_slope_are_torchs():
    x = torch.linspace(-6, 6, 101, dtype=torch.double)
    for grad in (True, False):
        x.requires_grad_(grad)
        assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), "another GELU", tolerance=1e-12)
    x.requires_grad_(True)
    weights = torch.linspace(1, 2, 101, dtype=torch.double)
    ours, theirs = (
        torch.autograd.grad((f(x) * weights).sum(), x)[0] for f in (gelu_tanh, lambda x: F.gelu(x, approximate="tanh"))
    )
    assert_close(ours, theirs, "another slope", tolerance=1e-12)


def test_dropout_keeps_the_mean_and_is_off_outside_training():
    torch.manual_seed(0)
    x = torch.ones(100_000)
    dropped = drop(x, 0.2, training=True)
    assert set(dropped.tolist()) == {0.0, 1.25}, "what stays grows by 1 / (1 - 0.2)"
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.004)  # 3 √(0.2 · 0.8 / 100,000)
    assert drop(x, 0.2, training=False) is x and drop(x, 0.0, training=True) is x


def test_ids_outside_the_vocabulary_are_found_without_a_look_up():
    """What is asked on a GPU, where a look-up outside the table would end the process."""
    assert _all_inside(torch.tensor([[0, 39], [5, 5]]), 40)
    assert not _all_inside(torch.tensor([[0, 40]]), 40) and not _all_inside(torch.tensor([[3, -1]]), 40)


def test_on_a_gpu_ids_are_looked_up_only_if_they_are_inside():
    words, looked_up = table(9), []
    words.register_forward_pre_hook(lambda module, args: looked_up.append(args[0].tolist()))
    found = embed(words, torch.tensor([[0, 8]]).as_subclass(OnGPU))
    assert torch.equal(found[0], words.weight[[0, 8]])
    with pytest.raises(UserError, match="id 9 in row 0 at position 1"):
        embed(words, torch.tensor([[1, 9]]).as_subclass(OnGPU))
    assert looked_up == [[[0, 8]]], "a look-up of an id outside the table would end the process there"


@pytest.mark.parametrize(
    "ids, says",
    [
        ([[1, 2], [3, 9]], "id 9 in row 1 at position 1 .* 0 to 8"),
        ([[1, -1], [9, 2]], "id -1 in row 0 at position 1 .* 0 to 8"),
        ([1, 2], r"\(batch, length\).* \(2,\)"),
        ([[], []], r"neither of them 0; these are \(2, 0\)"),
        ([[1.0]], "whole numbers; these are torch.float32"),
    ],
)
def test_wrong_ids_are_named_with_their_place(ids, says):
    with pytest.raises(UserError, match=says):
        embed(table(9), torch.tensor(ids))


@pytest.mark.parametrize("each", [False, True])
def test_virtual_ids_stand_for_the_vectors(each):
    words, ids = table(9), torch.tensor([[-2, 3, -1], [4, -1, 0]])
    vectors = torch.randn(2, 3, 4) if each else torch.randn(3, 4)
    found = embed(words, ids, vectors)
    for row in range(2):
        for column, id in enumerate(ids[row].tolist()):
            own = vectors[row] if each else vectors
            expected = words.weight[id] if id >= 0 else own[-1 - id]
            assert torch.equal(found[row, column], expected), f"row {row}, id {id}"
    assert torch.equal(embed(words, ids.clamp(min=0), vectors), words(ids.clamp(min=0))), "no virtual id: as without"


@pytest.mark.parametrize("shape", [(1, 4), (3, 5), (4,), (3, 3, 4), (2, 1, 4), (1, 1, 3, 4)])
def test_vectors_that_do_not_fit_the_virtual_ids(shape):
    ids = torch.tensor([[-2, 3, -1], [4, -1, 0]])
    with pytest.raises(UserError, match=r"up to -2, the vectors .* at least \(2, 4\), or \(2, 2, 4\)"):
        embed(table(9), ids, torch.zeros(shape))


@pytest.mark.parametrize("n_prefix", [0, 2])
@pytest.mark.parametrize("left", [False, True])
def test_positions_are_counted_by_hand(left, n_prefix):
    positions, ids = table(12), torch.zeros(3, 4, dtype=torch.long)
    attention_mask = mask_of([4, 2, 3], 4, left)
    found = embed_positions(positions, ids, attention_mask, n_prefix, n_prefix)
    last = embed_positions(positions, ids[:, -1:], attention_mask, n_prefix + 3, n_prefix)
    for row in range(3):
        position = n_prefix
        for column in range(4):
            if attention_mask[row, column]:
                assert torch.equal(found[row, column], positions.weight[position]), f"row {row}, column {column}"
                position += 1
        assert torch.equal(last[row, 0], positions.weight[position - 1]), f"row {row}: a step from the cache"
    plain = embed_positions(positions, ids, None, n_prefix, n_prefix)
    assert torch.equal(plain.expand(3, 4, 4), positions.weight[n_prefix : n_prefix + 4].expand(3, 4, 4))


def test_all_positions_can_be_used_and_no_more():
    ids, attention_mask = torch.zeros(3, 4, dtype=torch.long), mask_of([2, 4, 3], 4)
    assert len(embed_positions(table(6), ids, None, 2, 2)) == 4
    assert torch.equal(embed_positions(table(6), ids, attention_mask, 2, 2)[1], table(6).weight[2:])
    with pytest.raises(UserError, match=r"7 positions .*\(3 before .* 2 for a prefix, and 4 .*the text \(row 0"):
        embed_positions(table(6), ids, None, 3, 2)
    with pytest.raises(UserError, match=r"n_positions = 5. Shorten the source \(row 1 is the longest"):
        embed_positions(table(5), ids, attention_mask, 2, 2, "source")
    for wrong in (attention_mask[:, :3], attention_mask[:2]):
        with pytest.raises(UserError, match=r"every token so far, \(3, 4\), without a prefix"):
            embed_positions(table(6), ids, wrong, 2, 2)


def test_a_row_of_padding_alone_is_named():
    check_text(None)
    check_text(mask_of([1, 3], 3))
    with pytest.raises(UserError, match="Row 1 of the source is padding alone"):
        check_text(mask_of([2, 0, 3], 3), "source")
    with pytest.raises(UserError, match="Row 0 of the text"):
        check_text(mask_of([0, 0], 3))


def test_weights_start_with_the_width_asked_for():
    torch.manual_seed(0)
    linear, embedding, norm = nn.Linear(200, 200), nn.Embedding(400, 100), nn.LayerNorm(100)
    for settings, std in (({}, 0.02), ({"std": 0.5}, 0.5)):
        for module in (linear, embedding, norm):
            init_weights(module, **settings)
        for module in (linear, embedding):  # of 40,000 numbers: 3 / √80,000 is 0.011
            assert module.weight.std().item() == pytest.approx(std, rel=0.011), f"{module}, std = {std}"
            assert abs(module.weight.mean().item()) < 0.015 * std
    assert not linear.bias.any() and bool((norm.weight == 1).all())
