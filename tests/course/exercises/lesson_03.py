"""Answers to the exercises of lesson 3."""

import math

import torch
import torch.nn.functional as F

from minitransformer.errors import UserError
from minitransformer.models.layers import drop
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 3.1


@right("3.1")
def in_one_line_each(self, x, attention_mask, prefix, cache):
    h = (
        drop(
            self.attention(self.norm1(x), attention_mask=attention_mask, prefix=prefix, cache=cache),
            self.dropout,
            self.training,
        )
        + x
    )
    return F.dropout(self.mlp(self.norm2(h)), self.dropout, self.training) + h


edited(
    "3.1",
    "in place on its own sum",
    ("return x + drop(", "x += drop("),
    ("self.training)  # (B, T, C)\n        y = self.mlp", "self.training)\n        y = self.mlp"),
    ("x += drop(y, self.dropout, self.training)", "x += drop(y, self.dropout, self.training)\n        return x"),
    named=(),
)
edited(
    "3.1", "in place on what was given", ("x = x + drop(y", "x += drop(y"), named=("the x that was given is changed",)
)
edited(
    "3.1",
    "the second from the first x",
    ("return x + drop(y", "return x0 + drop(y"),
    ("y = self.attention(", "x0 = x\n        y = self.attention("),
    named=("attention's part lost",),
)
edited(
    "3.1",
    "norms exchanged",
    ("self.norm1", "self.norm9"),
    ("self.norm2", "self.norm1"),
    ("self.norm9", "self.norm2"),
    named=("norms exchanged",),
)
edited(
    "3.1",
    "mlp before attention",
    ("self.attention(self.norm1(x), None, attention_mask, prefix, cache)", "self.mlp(self.norm2(x))"),
    (
        "y = self.mlp(self.norm2(x))  # (B, T, C)\n        return",
        "y = self.attention(self.norm1(x), None, attention_mask, prefix, cache)\n        return",
    ),
    named=("feed-forward network first",),
)
edited(
    "3.1", "always dropping none", ("self.dropout, self.training", "0.0, self.training"), named=("dropout left out",)
)

# ---------------------------------------------------------------- 3.2

edited(
    "3.2",
    "ids embedded at the last, all at once",
    ("self.token_embedding.weight)  # (B, T, V)", "self.token_embedding.weight)"),
    (
        "return x if return_hidden else F.linear(x, self.token_embedding.weight)",
        "if return_hidden:\n            return x\n        return x @ self.token_embedding.weight.t()",
    ),
)
edited(
    "3.2",
    "norm before at",
    (
        "        if at is not None:\n            x = pick(x, at)  # rows of width C, one for each True in `at`\n        x = self.norm(x)  # (B, T, C)\n",
        "        x = self.norm(x)\n        x = x if at is None else x[at]\n",
    ),
)
edited(
    "3.2",
    "at after the product",
    ("        if at is not None:\n            x = pick(x, at)  # rows of width C, one for each True in `at`\n", ""),
    (
        "return x if return_hidden else F.linear(x, self.token_embedding.weight)",
        "y = x if return_hidden else F.linear(x, self.token_embedding.weight)\n        return y if at is None else y[at]",
    ),
    named=("scores computed everywhere",),
)
edited("3.2", "at of none", ("if at is not None:", "if at is not None and at.any():"), named=())
edited("3.2", "prefix to every call", ("prefix[i] if prefix else None", "prefix[i] if prefix is not None else None"))
edited(
    "3.2",
    "only two layers",
    ("for i, block in enumerate(self.blocks):", "for i, block in enumerate(list(self.blocks)[:2]):"),
    named=("a fixed number of layers",),
)
edited(
    "3.2",
    "mask only at the first layer",
    ("x = block(x, attention_mask,", "x = block(x, attention_mask if i == 0 else None,"),
    named=(),
)
edited(
    "3.2",
    "scaled by the root of the width",
    (
        "x = embed(self.token_embedding, ids, vectors)",
        "x = embed(self.token_embedding, ids, vectors) * self.config.d_model**0.5",
    ),
    named=("embeddings scaled",),
)
edited("3.2", "norm twice", ("x = self.norm(x)", "x = self.norm(self.norm(x))"), named=())
edited(
    "3.2",
    "cache in the first layer alone",
    ("cache[i] if cache else None", "cache[0] if cache else None"),
    named=("one cache for all layers",),
)

# ---------------------------------------------------------------- 3.3


@right("3.3")
def by_sine(step, config):
    if step < config.warmup:
        return (step + 1) * config.lr / config.warmup
    n = config.steps - config.warmup
    done = 1.0 if step >= config.steps and n else (step - config.warmup) / (n or 1)
    low = config.lr * config.final_lr
    return config.lr - (config.lr - low) * math.sin(math.pi / 2 * min(done, 1.0)) ** 2


def with_(final=lambda c: c.final_lr, warmup=lambda c: c.warmup, steps=lambda c: c.steps):
    def learning_rate(step, config):
        w, s, end = warmup(config), steps(config), final(config)
        if step < w:
            return config.lr * (step + 1) / w
        done = min(1, (step - w) / max(1, s - w))
        return config.lr * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done)))

    return learning_rate


@wrong("3.3", "no end of zero")
def or_a_tenth(step, config):
    return with_(final=lambda c: c.final_lr or 0.1)(step, config)


@wrong("3.3")
def at_least_a_hundredth(step, config):
    return with_(final=lambda c: max(c.final_lr, 0.01))(step, config)


@wrong("3.3", "one step of warmup at least")
def or_one(step, config):
    return with_(warmup=lambda c: c.warmup or 1)(step, config)


@wrong("3.3", "a tenth in any case")
def fixed_final(step, config):
    return with_(final=lambda c: 0.1)(step, config)


@wrong("3.3")
def zero_behind(step, config):
    return 0.0 if step > config.steps else with_()(step, config)


@wrong("3.3")
def from_final(step, config):
    if step < config.warmup:
        low = config.lr * config.final_lr
        return low + (config.lr - low) * (step + 1) / config.warmup
    return with_()(step, config)


# ---------------------------------------------------------------- 3.4


@right("3.4")
def by_a_threshold_per_row(logits, p):
    out = torch.full_like(logits, -math.inf)
    for b in range(logits.size(0)):
        probabilities = logits[b].double().softmax(-1)
        held = 0.0
        for i in probabilities.argsort(descending=True).tolist():
            if held >= p and p < 1:
                break
            out[b, i] = logits[b, i]
            held += probabilities[i].item()
    return out


@right("3.4")
def shifted_to_the_right(logits, p):
    values, order = torch.sort(logits, dim=-1, descending=True)
    total = values.double().softmax(-1).cumsum(-1)
    remove = torch.zeros_like(total, dtype=torch.bool)
    remove[:, 1:] = total[:, :-1] >= p
    if p >= 1:
        remove[:] = False
    return logits.masked_fill(torch.zeros_like(remove).scatter(1, order, remove), -math.inf)


@wrong("3.4", "one more at the boundary")
def more_than_p(logits, p):
    values, order = logits.sort(dim=-1, descending=True)
    probabilities = values.double().softmax(-1)
    remove = probabilities.cumsum(-1) - probabilities > p
    return logits.masked_fill(remove.scatter(-1, order, remove), -math.inf)


@wrong("3.4", "one more at the boundary")
def hugging_face_way(logits, p):
    values, order = logits.sort(dim=-1, descending=True)
    remove = values.softmax(-1).cumsum(-1) > p
    remove[..., 1:] = remove[..., :-1].clone()
    remove[..., 0] = False
    return logits.masked_fill(remove.scatter(-1, order, remove), -math.inf)


@wrong("3.4", "the first row for all")
def first_row_for_all(logits, p):
    values, order = logits.sort(dim=-1, descending=True)
    n = int((values[0].softmax(-1).cumsum(-1) < p).sum()) + 1
    kept = logits.topk(min(n, logits.size(-1))).values[:, -1:]
    return logits.masked_fill(logits < kept, -math.inf)


@wrong("3.4", "ties kept together")
def all_of_a_tie(logits, p):
    values, _ = logits.sort(dim=-1, descending=True)
    probabilities = values.double().softmax(-1)
    keep = probabilities.cumsum(-1) - probabilities < p
    lowest = values.masked_fill(~keep, math.inf).min(-1, keepdim=True).values
    return logits.masked_fill(logits < lowest, -math.inf)


@wrong("3.4")
def its_own_input(logits, p):
    if p >= 1:
        return logits
    return by_a_threshold_per_row(logits, p)


# ---------------------------------------------------------------- 3.5


@right("3.5")
def by_slices(self, k, v):
    most = self.n_prefix + self.capacity
    if self.length + k.shape[2] > most:
        raise UserError(f"{most} columns fit, {self.length + k.shape[2]} are too many.")
    if self.length == 0 and self.k is None:
        shape = (*k.shape[:2], most, k.shape[3])
        self.k, self.v = (
            torch.zeros(shape, dtype=k.dtype, device=k.device),
            torch.zeros(shape, dtype=v.dtype, device=v.device),
        )
    new = slice(self.length, self.length + k.shape[2])
    self.k[:, :, new], self.v[:, :, new] = k, v
    self.length += k.shape[2]
    return self.columns()


@wrong("3.5", "new room at each call")
def joined_at_each_call(self, k, v):
    n = self.length + k.size(2)
    if n > self.n_prefix + self.capacity:
        raise UserError("full")
    self.k = k.clone() if self.k is None else torch.cat([self.k, k], 2)
    self.v = v.clone() if self.v is None else torch.cat([self.v, v], 2)
    self.length = n
    return self.columns()


@wrong("3.5", "new room at each call")
def room_later(self, k, v):
    n = self.length + k.size(2)
    if n > self.n_prefix + self.capacity:
        raise UserError("full")
    if self.k is None:
        self.k, self.v = k.new_empty(*k.shape[:2], n, k.size(3)), v.new_empty(*v.shape[:2], n, v.size(3))
    if self.k.size(2) < n:
        more = self.k.new_empty(*k.shape[:2], n - self.k.size(2), k.size(3))
        self.k, self.v = torch.cat([self.k, more], 2), torch.cat([self.v, more], 2)
    self.k[:, :, self.length : n], self.v[:, :, self.length : n] = k, v
    self.length = n
    return self.columns()


edited(
    "3.5",
    "in floats",
    ("k.new_empty(B, H, most, D)", "torch.empty(B, H, most, D)"),
    ("v.new_empty(B, H, most, D)", "torch.empty(B, H, most, D)"),
    named=(),
)
edited(
    "3.5",
    "a room for one text",
    ("k.new_empty(B, H, most, D)", "k.new_empty(1, H, most, D)"),
    ("v.new_empty(B, H, most, D)", "v.new_empty(1, H, most, D)"),
    named=(),
)
edited("3.5", "an assertion", ("raise UserError(", "raise ValueError("), named=())
edited("3.5", "room at each call", ("if self.k is None or self.v is None:", "if True:"), named=())
edited("3.5", "gone wrong at the capacity", ("end > most", "end > self.capacity"), named=("prefix counted as text",))
