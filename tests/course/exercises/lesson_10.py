"""Answers to the exercises of lesson 10."""

import torch
import torch.nn.functional as F

from minitransformer.models.attention import Attention, Prefix
from minitransformer.tuning.prefix import to_prefixes
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 10.1


@right("10.1")
def asked_by_attributes(base):
    if hasattr(base, "blocks"):
        return {"prefix": [layer.attention for layer in base.blocks]}
    slots = {"encoder_prefix": [], "prefix": [], "cross_prefix": []}
    for layer in base.encoder:
        slots["encoder_prefix"].append(layer.attention)
    for layer in base.decoder:
        slots["prefix"].append(layer.attention)
        slots["cross_prefix"].append(layer.cross)
    return slots


@wrong("10.1", "every attention in one slot")
def all_modules(base):
    return {"prefix": [m for m in base.modules() if isinstance(m, Attention)]}


edited(
    "10.1",
    "modules in a tuple",
    ("[block.cross for block in base.decoder]", "tuple(block.cross for block in base.decoder)"),
    named=(),
)
edited(
    "10.1",
    "encoder of the decoder's height",
    (
        "[block.attention for block in base.encoder]",
        "[block.attention for block, _ in zip(base.encoder, base.decoder)]",
    ),
    named=(),
)

# ---------------------------------------------------------------- 10.2


@right("10.2")
def empty_ones_of_zeros(self):
    found = {}
    for slot in self.encoders:
        flat, n = self.encoders[slot](), self._n_layer[slot]
        top = to_prefixes(flat, n if self.layers is None else self.layers, self._n_head)
        k, v = top[-1]
        nothing = Prefix(k.new_zeros(1, k.size(1), 0, k.size(3)), v.new_zeros(1, v.size(1), 0, v.size(3)))
        found[slot] = [nothing for _ in range(n - len(top))] + top
    return found


@wrong("10.2", "made for each layer")
def layer_after_layer(self):
    found = {}
    for slot, encoder in self.encoders.items():
        n, n_top = self._n_layer[slot], self.layers or self._n_layer[slot]
        found[slot] = []
        for i in range(n):
            layers = to_prefixes(encoder(), n_top, self._n_head)
            if i < n - n_top:
                found[slot].append(Prefix(*(part[:, :, :0] for part in layers[0])))
            else:
                found[slot].append(layers[i - n + n_top])
    return found


edited(
    "10.2",
    "the last slot alone returned",
    ("prefixes[slot] = [none]", "prefixes = {slot: [none]"),
    ("+ top\n", "+ top}\n"),
    named=(),
)
edited(
    "10.2",
    "one layer of nothing too few",
    ("(self._n_layer[slot] - n_top)", "max(0, self._n_layer[slot] - n_top - 1)"),
    named=("empty ones missing",),
)

# ---------------------------------------------------------------- 10.3


@right("10.3")
def row_after_row(attention_mask, n_new, n_prefix):
    rows = []
    for row in attention_mask.tolist():
        found, at = [], n_prefix
        for real in row:
            found.append(at)
            at += bool(real)
        rows.append(found[len(found) - n_new :])
    return torch.tensor(rows)


@right("10.3")
def counted_before(attention_mask, n_new, n_prefix):
    before = F.pad(attention_mask.long(), (1, 0))[:, :-1].cumsum(1) + n_prefix
    return before[:, before.size(1) - n_new :]


@wrong("10.3", "only padding in front seen")
def from_the_first_real(attention_mask, n_new, n_prefix):
    first = attention_mask.int().argmax(1)[:, None]
    order = n_prefix + torch.arange(attention_mask.size(1))[None] - first
    return order[:, -n_new:].clamp(min=0)


@wrong("10.3")
def in_floats(attention_mask, n_new, n_prefix):
    return (n_prefix + attention_mask.float().cumsum(1) - 1)[:, -n_new:].clamp(min=0)


# ---------------------------------------------------------------- 10.4

edited(
    "10.4",
    "by zip",
    (
        "for i, block in enumerate(self.blocks):\n            x = block(x, attention_mask, prefix[i] if prefix else None)",
        "for block, own in zip(self.blocks, prefix or [None] * len(self.blocks)):\n            x = block(x, attention_mask, own)",
    ),
)
edited(
    "10.4",
    "the sums in another order",
    ("        x = x + self._types(ids, types)  # (B, T, C)\n", ""),
    (
        "x = embed(self.token_embedding, ids, vectors)",
        "x = self._types(ids, types) + embed(self.token_embedding, ids, vectors)",
    ),
)
edited(
    "10.4",
    "norm before the types",
    ("drop(self.norm(x), ", "drop(x, "),
    ("x = x + self._types(ids, types)", "x = self.norm(x) + self._types(ids, types)"),
    named=(),
)
edited(
    "10.4",
    "one row of a prefix for all",
    ("prefix[i] if prefix else None)", "type(prefix[i])(prefix[i].k[:1], prefix[i].v[:1]) if prefix else None)"),
    named=(),
)

# ---------------------------------------------------------------- 10.5


@right("10.5")
def all_then_the_first(self, hidden):
    return self._head("pooler")(hidden).tanh().select(1, 0)


@wrong("10.5")
def squeezed(self, hidden):
    return torch.tanh(self._head("pooler")(hidden[:, 0])).squeeze()


@wrong("10.5")
def detached(self, hidden):
    return torch.tanh(self._head("pooler")(hidden[:, 0].detach()))


@wrong("10.5", "largest of all")
def the_maximum(self, hidden):
    return self._head("pooler")(hidden.amax(dim=1)).tanh()
