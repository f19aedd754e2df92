"""Answers to the exercises of lesson 12."""

import math

import torch

from minitransformer.errors import UserError
from minitransformer.tuning.lora import unknown_target
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 12.1


@right("12.1")
def by_rand(n, d_in, d_out, rank):
    bound = d_in**-0.5
    return (2 * torch.rand(n, rank, d_in) - 1) * bound, torch.zeros((n, d_out, rank))


@right("12.1")
def by_kaiming_for_each(n, d_in, d_out, rank):
    a = [torch.nn.init.kaiming_uniform_(torch.empty(rank, d_in), a=math.sqrt(5)) for _ in range(n)]
    return torch.stack(a), torch.zeros(n, d_out, rank)


@wrong("12.1", "widths exchanged")
def exchanged(n, d_in, d_out, rank):
    return torch.empty(n, rank, d_out).uniform_(-(d_in**-0.5), d_in**-0.5), torch.zeros(n, d_in, rank)


edited("12.1", "bound of d_out", ("math.sqrt(d_in)", "math.sqrt(d_out)"), named=())
edited("12.1", "bound without a root", ("1 / math.sqrt(d_in)", "1 / d_in"), named=())
edited("12.1", "the same A at every call", ("bound = 1", "torch.manual_seed(0)\n    bound = 1"), named=())
edited(
    "12.1",
    "one B for all",
    ("torch.zeros(n, d_out, rank)", "torch.zeros(1, d_out, rank).expand(n, d_out, rank)"),
    named=(),
)
edited("12.1", "B of ones", ("torch.zeros(n, d_out, rank)", "torch.ones(n, d_out, rank)"), named=())

# ---------------------------------------------------------------- 12.2

edited("12.2", "by matrix products", ("F.linear(F.linear(x, a), b[rows])", "(x @ a.T @ b[rows].T)"))
edited(
    "12.2",
    "by einsum",
    (
        "F.linear(F.linear(x, a), b[rows])",
        'torch.einsum("...r,dr->...d", torch.einsum("...i,ri->...r", x, a), b[rows])',
    ),
)
edited(
    "12.2",
    "the product first",
    ("F.linear(F.linear(x, a), b[rows])", "x @ (b[rows] @ a).T"),
    named=("B A written down",),
)
edited("12.2", "scale twice", ("return self.scale *", "return self.scale * self.scale *"), named=())
edited("12.2", "cut afterwards", ("b[rows])", "b)[..., rows]"))

# ---------------------------------------------------------------- 12.3


@right("12.3")
def by_a_power(self):
    return self.alpha * self.rank**-1


@wrong("12.3", "computed once")
def kept(self):
    self.__dict__.setdefault("kept", self.alpha / self.rank)
    return self.__dict__["kept"]


@wrong("12.3")
def one_at_most(self):
    return min(1.0, self.alpha / self.rank)


# ---------------------------------------------------------------- 12.4


@right("12.4")
def by_whole_words(targets, maps):
    chosen = {}
    for target in targets:
        words = target.split(".")
        names = [name for name in maps if name.split(".")[-len(words) :] == words]
        if not names:
            raise UserError(unknown_target(target, maps))
        for name in names:
            linear, part = maps[name]
            parts = chosen.get(linear, [])
            chosen[linear] = parts if part in parts else [*parts, part]
    return chosen


edited(
    "12.4",
    "a set",
    (
        "if part not in chosen.setdefault(linear, []):\n                chosen[linear].append(part)",
        "chosen[linear] = sorted({*chosen.get(linear, []), part})",
    ),
    named=("in order of their numbers",),
)
edited(
    "12.4",
    "ends or equals",
    ('if f".{name}".endswith(f".{target}")', 'if name == target or name.endswith("." + target)'),
)
edited("12.4", "only one refused", ("if not found:", "if not found and target != targets[0]:"), named=())
edited("12.4", "any word of it", ('if f".{name}".endswith(f".{target}")', 'if f".{target}" in f".{name}"'), named=())

# ---------------------------------------------------------------- 12.5

edited("12.5", "by data", ("weight.copy_(value)", "weight.data.copy_(value)"))
edited(
    "12.5",
    "all computed first",
    (
        "for weight, value in self.new_weights(base).items():",
        "new = self.new_weights(base)\n        self.own.update({weight: weight.detach().clone() for weight in new})\n        for weight, value in new.items():",
    ),
    ("            self.own[weight] = weight.detach().clone()\n", ""),
)
edited("12.5", "another memory", ("weight.copy_(value)", "weight.data = value"))
edited(
    "12.5",
    "of LoRA's own",
    (
        "for weight, value in self.new_weights(base).items():",
        "assert self.changes is not None\n        for weight, value in self.new_weights(base).items():",
    ),
    named=("for LoRA alone",),
)
edited(
    "12.5",
    "the first hook taken out",
    ("for handle in self._handles:\n            handle.remove()\n", "self._handles[0].remove()\n"),
    named=(),
)

# ---------------------------------------------------------------- 12.6

edited("12.6", "asked first", ("if self.merged:", "if not self.merged:\n            return\n        if True:"))
edited(
    "12.6", "handles added", ("self._handles = list(self.install(base))", "self._handles.extend(self.install(base))")
)
edited(
    "12.6",
    "only A and B of LoRA",
    ("self.requires_grad_(True)", "for low in self.changes.values():\n                low.requires_grad_(True)"),
    named=("LoRA's own parameters alone",),
)
edited(
    "12.6",
    "hooked in before",
    ("self._put_back()\n", "list(self.install(base))\n            self._put_back()\n"),
    named=(),
)
