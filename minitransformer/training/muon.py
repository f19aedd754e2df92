"""Muon for the matrices inside a model, AdamW for the rest.

Muon: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks", 2024. The momentum of a matrix is
replaced by the nearest matrix with singular values of about 1, so that rare directions move as far as common ones.
PyTorch has it as `torch.optim.Muon`, which computes in bfloat16. On a CPU without instructions for that format this
takes ten times as long as float32, which is what is used here. Matrices of one shape go together.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients a, b, c of a·X + b·(XXᵀ)X + c·(XXᵀ)²X
ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices (N, rows, columns), float32, with the singular vectors of these and singular values of 0.7 to 1.2."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.float()
    tall = x.size(1) > x.size(2)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # then no singular value is above 1
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `"muon": True`, AdamW with `betas` for the others: one optimizer to the training loop.

    Each group has its "params", "lr" and "weight_decay".
    """

    def __init__(self, groups: Iterable[dict], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"betas": betas, "muon": False})
        rest = [group for group in self.param_groups if not group["muon"]]
        self._adamw = torch.optim.AdamW(rest, lr=rest[0]["lr"], betas=betas, fused=True) if rest else None
        if self._adamw is not None:  # what is set or saved here is what AdamW uses
            self._adamw.param_groups = rest
            self._adamw.state = self.state

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # the training loop has no closure
        """One update of every parameter that has a gradient."""
        if self._adamw is not None:
            self._adamw.step()
        for group in self.param_groups:
            if not group["muon"]:
                continue
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, matrices in by_shape.items():
                for p in matrices:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                momenta = [self.state[p]["momentum"] for p in matrices]
                grads = [p.grad for p in matrices if p.grad is not None]
                torch._foreach_lerp_(momenta, grads, 1 - MOMENTUM)
                ahead = torch._foreach_lerp(grads, momenta, MOMENTUM)  # Nesterov: one step further along the momentum
                moves = orthogonalise(torch.stack(ahead))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                size = max(1.0, shape[0] / shape[1]) ** 0.5  # so that a tall matrix moves its output as far
                torch._foreach_add_(matrices, list(moves), alpha=-group["lr"] * size)


def parameter_groups(model: nn.Module, lr: float, matrix_lr: float, weight_decay: float) -> list[dict]:
    """The model's trainable parameters in groups: matrices between layers, other matrices, vectors.

    Embeddings, and heads that share their weights, are tables of vectors and not matrices between layers. `matrix_lr`
    is Muon's rate, `lr` AdamW's; where Muon's is 0, all matrices are AdamW's. Vectors have no weight decay.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    inside = {
        id(module.weight)
        for module in model.modules()
        if matrix_lr and isinstance(module, nn.Linear) and id(module.weight) not in tables
    }
    tuned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in tuned if id(p) in inside], "lr": matrix_lr, "weight_decay": weight_decay, "muon": True},
        {"params": [p for p in tuned if id(p) not in inside and p.dim() >= 2], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in tuned if p.dim() < 2], "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
