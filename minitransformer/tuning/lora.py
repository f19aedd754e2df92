"""LoRA (低秩适配): a trained matrix of low rank beside a frozen one (001 §3.1.3).

    h = W x + (α/r) B A x,   A (r, d_in) random, B (d_out, r) zero at first

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), §4.1 Eq. 3. 001 §3.1.3 writes W + AB, for row
vectors, and names neither the scale α/r nor the start. With B = 0 the base begins as it was; if both were random it
would not, and if both were zero neither would ever get a gradient. Trained are r (d_in + d_out) parameters where W has
d_in · d_out; once trained, B A can be added to W and costs nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checks import PROBABILITY, names, nonzero
from minitransformer.errors import UserError
from minitransformer.models.attention import Stacked
from minitransformer.models.layers import drop
from minitransformer.tuning.bases import Base, module_of
from minitransformer.tuning.merge import Mergeable, linear_maps
from minitransformer.tuning.settings import Setting, size

NO_MAP = ("head", "lm_head", "embedding", "token_embedding")  # what people call the matrix before the vocabulary


class LowRank(nn.Module):
    """A and B of the maps number `parts` in one stack, or of a single map; each map has an A of its own.

    One A for all of q, k and v would be another, smaller family of changes than the paper's ΔW_q and ΔW_v.
    """

    def __init__(self, linear: nn.Linear, parts: Sequence[int], rank: int) -> None:
        super().__init__()
        self.n_part, self.parts = n_parts(linear), list(parts)
        a, b = new_factors(len(self.parts), linear.in_features, linear.out_features // self.n_part, rank)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """All A below one another, (n·r, d_in), and each B in the rows and columns of its own map, (all d_out, n·r)."""
        n, d_out, rank = self.b.shape
        b = self.b.new_zeros(self.n_part, n, d_out, rank)
        b = b.index_put((torch.tensor(self.parts), torch.arange(n)), self.b)  # zero wherever no B belongs
        return self.a.flatten(0, 1), b.transpose(1, 2).reshape(self.n_part * d_out, n * rank)

    def change(self) -> Tensor:
        """B A of the whole stack, (all d_out, d_in), without the scale."""
        a, b = self.matrices()
        return b @ a


def new_factors(n: int, d_in: int, d_out: int, rank: int) -> tuple[Tensor, Tensor]:
    """What A and B begin as, for n maps of d_in to d_out numbers (Hu et al. 2021, §4.1).

    Gives A (n, r, d_in), uniform between ±1/√d_in, and B (n, d_out, r), zero.
    """
    bound = 1 / math.sqrt(d_in)  # as fresh linear layers have it, and the paper's own code
    return torch.empty(n, rank, d_in).uniform_(-bound, bound), torch.zeros(n, d_out, rank)


def n_parts(linear: nn.Linear) -> int:
    """How many maps a module stacks; a plain one is a single map."""
    return linear.n_part if isinstance(linear, Stacked) else 1


class LoRA(Mergeable):
    """Train a change of low rank beside some of the base's linear maps.

    Targets are names of linear maps, or how such names end: "q" is the queries' matrix of every attention, "cross.v"
    the values' of every cross-attention, "blocks.0.mlp.up" one in one layer. ("q", "v") is the paper's choice.
    `linear_maps` gives all names; the matrix before the vocabulary is none, because it is the token embedding too.
    """

    examples = {"lora": {"rank": 2}, "lora-all": {"rank": 2, "targets": ["q", "k", "v", "attention.out", "up", "down"]}}

    rank = Setting(size("a change of rank 0 is none"), "r.")
    alpha = Setting(
        nonzero("what is learned is multiplied by alpha / rank"),
        "α; the change is scaled by α/r, so that another rank needs no other learning rate.",
        may_change=True,
    )
    targets = Setting(names('["q", "v"]'), "Names of linear maps, or how such names end.")
    dropout = Setting(PROBABILITY, "The fraction of x that is dropped on the way to A, while training.")

    def __init__(
        self, rank: int = 4, alpha: float = 8.0, targets: Sequence[str] = ("q", "v"), dropout: float = 0.0
    ) -> None:
        super().__init__(rank=rank, alpha=alpha, targets=targets, dropout=dropout)
        self.changes = nn.ModuleDict()  # the module's name with / for . → A and B

    @property
    def scale(self) -> float:
        """α/r, the only place where it stands; α is `alpha`, which may be changed later, and r is `rank`."""
        return self.alpha / self.rank

    def build(self, base: Base) -> None:
        """A and B for every target; refuses a target that names no map, and a rank that is not low."""
        chosen = chosen_maps(self.targets, linear_maps(base))
        self.changes.clear()  # what was made for a base that was then refused
        names = {module: name for name, module in base.named_modules()}
        for linear, parts in chosen.items():
            full = min(linear.in_features, linear.out_features // n_parts(linear))
            if self.rank > full:
                raise UserError(
                    f"rank = {self.rank}: {names[linear]} has matrices of rank {full} at most, and a change of rank "
                    f"{self.rank} has more parameters than the matrix itself."
                )
            self.changes[names[linear].replace(".", "/")] = LowRank(linear, sorted(parts), self.rank)

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Let each map give W x + (α/r) B A x."""

        def beside(low: Any, linear: nn.Linear, args: tuple, output: Tensor) -> Tensor:
            x, *part = args  # part: which maps of a stack were asked for, if not all
            rows = linear.rows(*part) if isinstance(linear, Stacked) else slice(None)
            return output + self.change_of(low, x.to(low.a.dtype), rows).to(output.dtype)

        # In front of other hooks: an infix replaces keys and values, whatever changed them before.
        return [
            module_of(base, key).register_forward_hook(partial(beside, low), prepend=True)
            for key, low in self.changes.items()
        ]

    def change_of(self, low: LowRank, x: Tensor, rows: slice) -> Tensor:
        """(α/r) B A x, in which A reads x after dropout, while the method is in training (Hu et al. 2021, Eq. 3).

        `low` holds A and B; x (B, T, d_in) is what the map reads. `rows` are the rows of B to take; where only some
        maps of a stack are asked for, theirs. Gives (B, T, so many rows).
        """
        a, b = low.matrices()
        x = drop(x, self.dropout, self.training)
        return self.scale * F.linear(F.linear(x, a), b[rows])

    def new_weights(self, base: Base) -> dict[nn.Parameter, Tensor]:
        """W + (α/r) B A."""
        weights = {}
        low: Any
        for key, low in self.changes.items():
            weight = module_of(base, key).weight
            weights[weight] = weight + self.scale * low.change()
        return weights


def chosen_maps(targets: Sequence[str], maps: Mapping[str, tuple[nn.Linear, int]]) -> dict[nn.Linear, list[int]]:
    """The linear maps that some names mean; raises `UserError` for a name that means none.

    A target means every map that is called so, or whose name ends in it after a dot. `maps` gives for a map's full name
    the module that holds it, and its number in the stack there. Gives module → the numbers of its maps that are meant,
    each once, in the order in which they were named.
    """
    chosen: dict[nn.Linear, list[int]] = {}
    for target in targets:
        found = [name for name in maps if f".{name}".endswith(f".{target}")]
        if not found:
            raise UserError(unknown_target(target, maps))
        for name in found:
            linear, part = maps[name]
            if part not in chosen.setdefault(linear, []):
                chosen[linear].append(part)
    return chosen


def unknown_target(target: str, maps: Iterable[str]) -> str:
    """The sentence for a target that names no map."""
    if target in NO_MAP:
        return (
            f"targets: {target!r} cannot be tuned. The matrix before the vocabulary is the token embedding again "
            "(weight tying), which is no linear map of its own: a change merged into it would also change what "
            "every token means when it is read."
        )
    endings = sorted({name.rpartition(".")[2] for name in maps})
    return f"targets: no linear map of this base ends in {target!r}; there are {', '.join(endings)}."
