"""LoRA (低秩适配): a trained matrix of low rank beside a frozen one (Hu et al. 2021; 001 §3.1.3).

    h = W x + (α/r) B A x,   A (r, d_in) random, B (d_out, r) zero at first

001 §3.1.3 writes W + AB, for row vectors, and names neither the scale α/r nor the start. With B = 0 the base begins as
it was; if both were random it would not, and if both were zero neither would ever get a gradient. What is trained has
r (d_in + d_out) numbers where W has d_in · d_out; once trained, it can be added to W and costs nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.attention import Stacked
from minitransformer.models.layers import drop
from minitransformer.tuning.merge import Mergeable, linear_maps
from minitransformer.tuning.method import Base, check_count, setting

TIED = ("head", "lm_head", "embedding", "token_embedding")  # what people call the matrix before the vocabulary


class LowRank(nn.Module):
    """A and B of some of the maps in one stack; each map has an A of its own.

    One A for all of q, k and v would be another, smaller family of changes than the paper's ΔW_q and ΔW_v.

    Args:
        linear: the stack, or a single map.
        parts: which maps of it.
        rank: r.
    """

    def __init__(self, linear: nn.Linear, parts: Sequence[int], rank: int) -> None:
        """Make the parameters `a` (n, r, d_in), uniform between ±1/√d_in, and `b` (n, d_out, r), zero.

        n maps are tuned, those whose numbers in the stack are `parts`. A map reads linear.in_features numbers, and the
        `n_part` maps of the stack together give linear.out_features.
        """
        super().__init__()
        self.n_part = n_parts(linear)
        # ⟨answer⟩
        d_in, d_out = linear.in_features, linear.out_features // self.n_part
        bound = 1 / math.sqrt(d_in)  # as fresh linear layers have it, and the paper's own code
        self.a = nn.Parameter(torch.empty(len(parts), rank, d_in).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(len(parts), d_out, rank))
        # ⟨/answer⟩
        self.parts = list(parts)

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


def n_parts(linear: nn.Linear) -> int:
    """How many maps a module stacks; a plain one is a single map."""
    return linear.n_part if isinstance(linear, Stacked) else 1


def check_alpha(alpha: float) -> None:
    """Refuse an α with which nothing could be learned.

    Raises:
        UserError: it is 0, infinite, or no number.
    """
    if not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha == 0:
        raise UserError(
            f"alpha = {alpha!r}: what is learned is multiplied by alpha / rank, so that it has to be a number other "
            "than 0."
        )


class LoRA(Mergeable):
    """Train a change of low rank for some of the base's linear maps, and nothing else.

    Args:
        rank: r.
        alpha: α; the change is scaled by α/r, so that another rank needs no other learning rate.
        targets: names of linear maps, or how such names end: "q" is the queries' matrix of every attention,
            "cross.v" the values' of every cross-attention, "blocks.0.mlp.up" one in one layer. ("q", "v") is the
            paper's choice. `linear_maps` gives all names.
        dropout: share of x that is dropped on the way to A, while training.

    Raises:
        UserError: a rank that is no whole number from 1 on, an α that is 0 or no number (also if it is set later), no
            target, a dropout that is no share. At `attach`: a target that the base does not have; the matrix before
            the vocabulary, which is the token embedding too; a rank that is not low.
    """

    alpha = setting("alpha", "α; what is changed while merged shows after `unmerge`.", check_alpha)

    def __init__(
        self, rank: int = 4, alpha: float = 8.0, targets: Sequence[str] = ("q", "v"), dropout: float = 0.0
    ) -> None:
        names = [] if isinstance(targets, str) else list(targets or ())
        super().__init__(rank=rank, alpha=alpha, targets=names, dropout=dropout)
        check_count("rank", rank, "a change of rank 0 is none")
        check_alpha(alpha)
        if not names:
            raise UserError(f'targets = {targets!r}: give a list of names, such as ["q", "v"].')
        if not 0 <= dropout < 1:
            raise UserError(f"dropout = {dropout}: it is a share of the numbers, from 0 to below 1.")
        self.rank, self.targets, self.dropout = rank, names, dropout
        self.changes = nn.ModuleDict()  # the module's name with / for . → A and B

    @property
    def scale(self) -> float:
        """α/r, the only place where it stands; α is `alpha`, which may be changed later, and r is `rank`."""
        return self.alpha / self.rank

    def build(self, base: Base) -> None:
        """A and B for every target.

        A target names every map of `linear_maps` that is called so, or whose name ends in it after a dot.
        linear_maps(base) has for each name, such as "blocks.0.attention.q", the module that holds the map and the map's
        number in the stack there. `chosen` collects them: module → the numbers of its maps, each once.

        Raises:
            UserError: a target that names no map (the sentence is self._unknown(target, maps)); a rank that is not low.
        """
        chosen: dict[nn.Linear, list[int]] = {}
        maps = linear_maps(base)
        for target in self.targets:
            # ⟨answer⟩
            found = [name for name in maps if f".{name}".endswith(f".{target}")]
            if not found:
                raise UserError(self._unknown(target, maps))
            for name in found:
                linear, part = maps[name]
                if part not in chosen.setdefault(linear, []):
                    chosen[linear].append(part)
            # ⟨/answer⟩
        self.changes.clear()  # what was made for a base that was then refused
        names = {module: name for name, module in base.named_modules()}
        for linear, parts in chosen.items():
            full = min(linear.in_features, linear.out_features // n_parts(linear))
            if self.rank > full:
                raise UserError(
                    f"rank = {self.rank}: {names[linear]} has matrices of rank {full} at most, and a change of rank "
                    f"{self.rank} has more numbers than the matrix itself."
                )
            self.changes[names[linear].replace(".", "/")] = LowRank(linear, sorted(parts), self.rank)

    def hooks(self, base: Base) -> Iterable[Any]:
        """Add (α/r) B A x to what each map gives; A reads x after `dropout`, if that is set. α/r is self.scale.

        `hook(low)` makes a function that PyTorch calls with (linear, args, output), args the tuple of what the map was
        called with, and whose answer takes output's place. low.matrices() gives A (n·r, d_in) and B (d_out, n·r); of a
        `Stacked` module d_out counts all its maps together, and it may be called as linear(x, first, last): only the
        maps number first to last - 1 are asked for, output has their rows alone, and linear.rows(first, last) is the
        slice of rows that they are. drop(x, share, training) is the dropout; whether this method is in training
        (self.training) decides about it, not whether the base is.
        """

        # ⟨answer⟩
        def hook(low: LowRank) -> Any:
            def add(linear: nn.Linear, args: tuple, output: Tensor) -> Tensor:
                x, *part = args
                a, b = low.matrices()
                if part:  # only some maps of the stack were asked for
                    b = b[linear.rows(*part)]
                return output + self.scale * F.linear(F.linear(drop(x, self.dropout, self.training), a), b)

            return add

        # ⟨/answer⟩

        # In front of other hooks: an infix replaces keys and values, whatever changed them before.
        return [
            base.get_submodule(name.replace("/", ".")).register_forward_hook(hook(low), prepend=True)
            for name, low in self.changes.items()
        ]

    def new_weights(self, base: Base) -> dict[nn.Parameter, Tensor]:
        """W + (α/r) B A."""
        weights = {}
        for name, low in self.changes.items():
            weight = base.get_submodule(name.replace("/", ".")).weight
            weights[weight] = weight + self.scale * low.change()
        return weights

    @staticmethod
    def _unknown(target: str, maps: Iterable[str]) -> str:
        if target in TIED:
            return (
                f"targets: {target!r} cannot be tuned. The matrix before the vocabulary is the token embedding again "
                "(weight tying), which is no linear map of its own: a change merged into it would also change what "
                "every token means when it is read."
            )
        endings = sorted({name.rpartition(".")[2] for name in maps})
        return f"targets: no linear map of this base ends in {target!r}; there are {', '.join(endings)}."
