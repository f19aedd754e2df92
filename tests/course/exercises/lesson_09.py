"""Answers to the exercises of lesson 9."""

import torch

from minitransformer.models.attention import Prefix
from minitransformer.text.batches import IGNORE
from minitransformer.text.batches.completion import check_pairs
from minitransformer.tuning.hooks import before_each_call, check_not_given, is_prefill
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 9.1


@right("9.1")
def row_after_row(prompts, targets, end_id, whole=None):
    check_pairs(prompts, targets)
    rows, asked = [], []
    for i, (x, y) in enumerate(zip(prompts, targets, strict=True)):
        tail = list(y) + ([end_id] if whole is None or whole[i] else [])
        rows.append(list(x) + tail)
        asked.append([IGNORE] * len(x) + tail)
    width = max(map(len, rows))
    ids = torch.tensor([row + [end_id] * (width - len(row)) for row in rows])
    labels = torch.tensor([row + [IGNORE] * (width - len(row)) for row in asked])
    return {"ids": ids, "labels": labels}


@wrong("9.1", "ends within a text not asked")
def the_last_put_back(prompts, targets, end_id, whole=None):
    batch = row_after_row(prompts, targets, end_id, whole)
    ids, labels = batch["ids"], batch["labels"]
    labels[ids == end_id] = IGNORE
    for b, (x, y) in enumerate(zip(prompts, targets, strict=True)):
        if whole is None or whole[b]:
            labels[b, len(x) + len(y)] = end_id
    return {"ids": ids, "labels": labels}


edited(
    "9.1",
    "the end asked by its id",
    (
        "asked = attention_mask & (torch.arange(ids.size(1)) >= n_prompt)",
        "asked = (ids != end_id) & (torch.arange(ids.size(1)) >= n_prompt)",
    ),
    named=("ending not asked",),
)
edited(
    "9.1",
    "at least one token",
    ("[*x, *y, *[end_id] * ends]", "[*x, *y, *[end_id] * (ends or not y or y[-1] == end_id)]"),
    named=(),
)
edited("9.1", "no second end", ("[*x, *y, *[end_id] * ends]", "[*x, *y, *[end_id] * (ends and y[-1:] != [end_id])]"))
edited(
    "9.1",
    "whole if there is none",
    ("[True] * len(prompts) if whole is None else whole", "whole or [True] * len(prompts)"),
)

# ---------------------------------------------------------------- 9.2


@right("9.2")
def by_chunks(flat, n_layer, n_head):
    P = flat.size(0)
    cut = [part.reshape(P, n_head, -1).transpose(0, 1).unsqueeze(0) for part in flat.chunk(2 * n_layer, dim=1)]
    return [Prefix(cut[2 * i], cut[2 * i + 1]) for i in range(n_layer)]


edited(
    "9.2",
    "a tuple",
    ("return [Prefix(k[None], v[None]) for k, v in parts]", "return tuple(Prefix(k[None], v[None]) for k, v in parts)"),
    named=(),
)
edited(
    "9.2", "tokens before heads", (".permute(1, 2, 3, 0, 4)", ".permute(1, 2, 0, 3, 4)"), named=("tokens before heads",)
)
edited(
    "9.2",
    "layers inside",
    (".view(len(flat), n_layer, 2, n_head, -1)", ".view(len(flat), 2, n_layer, n_head, -1).transpose(1, 2)"),
    named=("all keys first",),
)

# ---------------------------------------------------------------- 9.3


@right("9.3")
def by_the_weights(layer, x, context=None):
    read = context if context is not None else x
    C = read.size(-1)
    parts = read @ layer.qkv.weight[C:].T + layer.qkv.bias[C:]
    k, v = (part.unflatten(-1, (layer.n_head, -1)).transpose(1, 2) for part in parts.split(C, -1))
    return Prefix(k, v)


edited("9.3", "no bias", ("layer.qkv(read)", "(read @ layer.qkv.weight.T)"), named=("no bias",))
edited("9.3", "detached", ("Prefix(k, v)", "Prefix(k.detach(), v.detach())"), named=())

# ---------------------------------------------------------------- 9.4

edited(
    "9.4",
    "layer after layer",
    (
        "nn.Sequential(nn.Linear(d_small, hidden), nn.Tanh(), nn.Linear(hidden, width))",
        "nn.Sequential()\n        for one in (nn.Linear(d_small, hidden), nn.Tanh(), nn.Linear(hidden, width)):\n            self.mlp.append(one)",
    ),
)
edited("9.4", "normal in place", ("torch.randn(P, d_small)", "torch.empty(P, d_small).normal_()"))
edited("9.4", "the tensor itself", ("nn.Parameter(start.clone())", "start"), named=("P_θ not trained",))
edited(
    "9.4",
    "handed on",
    ("super().__init__()", "super().__init__(start, hidden, d_small, fit)"),
    named=("handed on to nn.Module",),
)
edited(
    "9.4",
    "a small of the wrong width",
    ("torch.randn(P, d_small)", "torch.randn(P, hidden)"),
    ("nn.Linear(d_small, hidden)", "nn.Linear(hidden, hidden)"),
    named=("P'_θ as wide as the MLP",),
)
edited("9.4", "no second bias", ("nn.Linear(hidden, width))", "nn.Linear(hidden, width, bias=False))"), named=())
edited("9.4", "fit of the free one", ("if hidden is None:", "if hidden is None or not fit:"), named=())

# ---------------------------------------------------------------- 9.5


@right("9.5")
def updates_the_inputs(self, base):
    def hook(inputs):
        if is_prefill(inputs.get("cache")):
            check_not_given(self, inputs, list(self.encoders))
            inputs = dict(inputs)
            inputs.update(self.prefixes())
        return inputs

    return (before_each_call(base, hook),)


@wrong("9.5", "made at every call")
def made_first(self, base):
    def hook(inputs):
        check = is_prefill(inputs.get("cache"))
        prefixes = self.prefixes()
        if check:
            check_not_given(self, inputs, self.encoders)
        return {**inputs, **prefixes} if check else inputs

    return [before_each_call(base, hook)]


@wrong("9.5", "computed once")
def kept_outside(self, base):
    kept = {}

    def hook(inputs):
        if not is_prefill(inputs.get("cache")):
            return inputs
        check_not_given(self, inputs, self.encoders)
        if not kept:
            kept.update(self.prefixes())
        return {**inputs, **kept}

    return [before_each_call(base, hook)]


# ---------------------------------------------------------------- 9.6


@right("9.6")
def virtual_token_after_virtual_token(qkv, ids, flat, layer):
    C = qkv.size(-1) // 3
    out = qkv.clone()
    for i, row in enumerate(flat[:, 2 * C * layer : 2 * C * (layer + 1)]):
        here = (ids == -1 - i)[..., None]
        out = torch.cat([out[..., :C], torch.where(here, row, out[..., C:])], dim=-1)
    return out


@right("9.6")
def by_one_index(qkv, ids, flat, layer):
    q, kv = qkv[..., : qkv.size(-1) // 3], qkv[..., qkv.size(-1) // 3 :].clone()
    own = flat.unflatten(1, (-1, kv.size(-1)))[:, layer]
    at = ids < 0
    kv[at] = own[-1 - ids[at]]
    return torch.cat([q, kv], -1)


@wrong("9.6")
def the_first_of_each(qkv, ids, flat, layer):
    C = qkv.size(-1) // 3
    out = qkv.clone()
    for b in range(len(ids)):
        for i, row in enumerate(flat[:, 2 * C * layer : 2 * C * (layer + 1)]):
            found = (ids[b] == -1 - i).nonzero()
            if len(found):
                out[b, found[0, 0], C:] = row
    return out


edited(
    "9.6",
    "a layer of C columns",
    ("2 * C * layer : 2 * C * (layer + 1)", "C * layer : C * layer + 2 * C"),
    named=("layers overlap",),
)
edited(
    "9.6", "one less", ("number = (-1 - ids).clamp(min=0)", "number = (-ids).clamp(min=0, max=len(flat) - 1)"), named=()
)
