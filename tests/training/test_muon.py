"""Muon: PyTorch's own is the oracle, and a run that was stopped goes on with the same bits."""

import pytest
import torch
from torch import nn

from minitransformer.errors import UserError
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.training import loop
from minitransformer.training.loop import TrainConfig, make_optimizer, train
from minitransformer.training.muon import Muon, orthogonalise, parameter_groups


def small_gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=30, n_positions=8, n_layer=2, n_head=2, d_model=16, d_ff=64))


def batches(i: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(30, (4, 9), generator=torch.Generator().manual_seed(i))
    return {"ids": ids, "labels": ids}


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 48, 12), (2, 12, 48)])
def test_singular_values_become_about_one_and_the_directions_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    moved = orthogonalise(matrices)
    assert moved.shape == matrices.shape
    values = torch.linalg.svdvals(moved)
    big = s > 0.1 * s.amax(1, keepdim=True)  # five iterations do not lift the smallest all the way
    assert values.max() < 1.25 and torch.linalg.svdvals(moved).amin() > 0
    inner = torch.einsum("nij,nik,nkl->njl", u, moved, vh.mT)  # diagonal if the singular vectors are the same
    diagonal = inner.diagonal(dim1=1, dim2=2)
    assert torch.allclose(inner, torch.diag_embed(diagonal), atol=1e-4)
    assert (diagonal[big] > 0.6).all()
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon to compare with")
def test_steps_are_those_of_torch_within_the_digits_of_bfloat16():
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(shape, generator=generator) for shape in ((16, 16), (48, 16), (16, 16), (16, 64))]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    optimizer = Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1, "muon": True}], (0.9, 0.95))
    oracle = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        optimizer.step()
        oracle.step()
    for p, q, s in zip(ours, theirs, start, strict=True):
        assert (p - q).norm() < 0.03 * (q - s).norm()


def test_what_is_no_matrix_between_layers_is_moved_as_by_adamw():
    ours, theirs = small_gpt(), small_gpt()
    config = TrainConfig(3, lr=1e-2, matrix_lr=0.02)
    optimizer = make_optimizer(ours, config)
    oracle = make_optimizer(theirs, TrainConfig(3, lr=1e-2))
    assert isinstance(optimizer, Muon) and isinstance(oracle, torch.optim.AdamW)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        optimizer.step()
        oracle.step()
    inside = {id(p) for group in parameter_groups(ours, 1.0, 1.0, 0.0) if group.get("muon") for p in group["params"]}
    named = {name for name, p in ours.named_parameters() if id(p) in inside}
    assert named == {name for name, p in ours.named_parameters() if p.dim() == 2 and "embedding" not in name}, (
        "Muon is for the matrices between layers: all of them, and no embedding."
    )
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q) == (name not in named), name


def test_every_parameter_is_in_one_group():
    model = small_gpt()
    groups = parameter_groups(model, 1.0, 2.0, 0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert {(bool(group.get("muon")), group["lr"]) for group in groups} == {(True, 2.0), (False, 1.0)}
    model.requires_grad_(False)
    model.token_embedding.weight.requires_grad_(True)
    assert [[id(p) for p in g["params"]] for g in parameter_groups(model, 1.0, 2.0, 0.1)] == [
        [id(model.token_embedding.weight)]
    ]


def test_the_rates_follow_one_schedule():
    model = small_gpt()
    config = TrainConfig(10, lr=1e-2, matrix_lr=0.05, warmup=4)
    run = loop._Run(model, config, None)
    for step in range(6):
        loop._update(run, batches, loop.language_model_loss)
        lr = loop.learning_rate(step, config)
        assert {bool(g["muon"]): pytest.approx(g["lr"]) for g in run.optimizer.param_groups} == {
            True: lr * 5,
            False: lr,
        }


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path):
    config = TrainConfig(8, lr=1e-2, matrix_lr=0.02, warmup=2, eval_every=4)
    whole, parted = small_gpt(), small_gpt()
    log = train(whole, batches, config, valid=[batches(99)], progress=False)

    class Stopped(Exception):
        pass

    def until_five(i: int) -> dict[str, torch.Tensor]:
        if i == 5:
            raise Stopped
        return batches(i)

    path = tmp_path / "state.safetensors"
    with pytest.raises(Stopped):
        train(parted, until_five, config, valid=[batches(99)], progress=False, checkpoint=path)
    again = small_gpt()
    second = train(again, batches, config, valid=[batches(99)], progress=False, checkpoint=path)
    assert [row["loss"] for row in second.train] == [row["loss"] for row in log.train]
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("rate", [-0.1, float("inf"), float("nan")])
def test_a_rate_without_meaning(rate):
    with pytest.raises(UserError, match="matrix_lr"):
        TrainConfig(1, matrix_lr=rate)
