"""Answers to the exercises of lesson 5."""

import math

import torch
from torch.nn.utils.rnn import pad_sequence

from minitransformer.errors import UserError
from minitransformer.metrics import _check_pairs
from minitransformer.models.classifier import last_token
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 5.1


def refuse(rows):
    if len(rows) == 0 or any(len(row) == 0 for row in rows):
        raise UserError("There is a row without a token, or no row.")


@right("5.1")
def row_after_row(rows, pad_id):
    refuse(rows)
    T = max(len(row) for row in rows)
    ids = torch.tensor([list(row) + [pad_id] * (T - len(row)) for row in rows])
    real = torch.tensor([[t < len(row) for t in range(T)] for row in rows])
    return ids, real


@right("5.1")
def by_pad_sequence(rows, pad_id):
    refuse(rows)
    ids = pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=pad_id)
    lengths = torch.tensor(list(map(len, rows)))
    return ids, torch.arange(ids.size(1))[None].lt(lengths[:, None])


@wrong("5.1", "rows changed")
def rows_extended(rows, pad_id):
    refuse(rows)
    lengths = [len(row) for row in rows]
    for row in rows:
        row += [pad_id] * (max(lengths) - len(row))
    return torch.tensor(rows), torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@wrong("5.1", "one place too many")
def one_too_many(rows, pad_id):
    refuse(rows)
    ids, _ = row_after_row(rows, pad_id)
    return ids, torch.arange(ids.size(1)) <= torch.tensor([len(row) for row in rows])[:, None]


@wrong("5.1", "mask read off the ids")
def mask_by_trailing_ids(rows, pad_id):
    ids, _ = row_after_row(rows, pad_id)
    real = ids.ne(pad_id)
    real[:, 0] = True
    return ids, real


@wrong("5.1", "mask up to the last word")
def mask_to_the_last_word(rows, pad_id):
    ids, _ = row_after_row(rows, pad_id)
    return ids, ids.ne(pad_id).flip(1).cumsum(1).flip(1) > 0


# ---------------------------------------------------------------- 5.2


@right("5.2")
def by_the_largest_place(ids, attention_mask=None):
    if attention_mask is None:
        attention_mask = torch.ones_like(ids, dtype=torch.bool)
    places = torch.arange(ids.size(1), device=ids.device) * attention_mask
    at = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    at.scatter_(1, places.argmax(dim=1, keepdim=True), True)
    return at


@right("5.2")
def nothing_real_behind(ids, attention_mask=None):
    if attention_mask is None:
        attention_mask = torch.ones_like(ids, dtype=torch.bool)
    behind = attention_mask.flip(1).cumsum(1).flip(1)
    return attention_mask & (behind == 1)


@wrong("5.2", "first token plus count")
def first_and_count(ids, attention_mask=None):
    if attention_mask is None:
        attention_mask = torch.ones_like(ids, dtype=torch.bool)
    last = attention_mask.int().argmax(dim=1) + attention_mask.sum(dim=1) - 1
    return torch.arange(ids.size(1), device=ids.device) == last[:, None]


@wrong("5.2", "every token before padding")
def where_the_next_is_padding(ids, attention_mask=None):
    if attention_mask is None:
        attention_mask = torch.ones_like(ids, dtype=torch.bool)
    following = torch.cat([attention_mask[:, 1:], torch.zeros_like(attention_mask[:, :1])], 1)
    return attention_mask & ~following


@wrong("5.2")
def on_the_processor(ids, attention_mask=None):
    last = torch.full((len(ids),), ids.size(1) - 1)
    if attention_mask is not None:
        last = last - attention_mask.flip(1).int().argmax(dim=1)
    return torch.arange(ids.size(1)) == last[:, None]


@wrong("5.2", "counted real tokens")
def the_sum_minus_one(ids, attention_mask=None):
    n = torch.full((len(ids),), ids.size(1)) if attention_mask is None else attention_mask.sum(1)
    at = torch.zeros(ids.shape, dtype=torch.bool)
    at[torch.arange(len(ids)), n - 1] = True
    return at


# ---------------------------------------------------------------- 5.3


@right("5.3")
def all_vectors_then_one(self, ids, attention_mask=None, **inputs):
    from minitransformer.models.bert import Bert

    if isinstance(self.base, Bert):
        s = self.base.pooled(self.base(ids, attention_mask, **inputs))
    else:
        s = self.base(ids, attention_mask, return_hidden=True, **inputs)[last_token(ids, attention_mask)]
    return self.head(torch.dropout(s, self.base.config.dropout, self.training))


edited(
    "5.3",
    "dropout in the middle of two",
    ("drop(summary, self.base.config.dropout, self.training)", "drop(summary, 0.1, self.training)"),
    named=("a dropout of its own",),
)
edited(
    "5.3",
    "the base's own training",
    ("self.base.config.dropout, self.training", "self.base.config.dropout, self.base.training"),
    named=("training asked of the base",),
)
edited(
    "5.3",
    "last_token without padding",
    ("last_token(ids, attention_mask)", "last_token(ids)"),
    named=("last column of a GPT",),
)
edited(
    "5.3",
    "no head",
    (
        "self.head(drop(summary, self.base.config.dropout, self.training))",
        "drop(summary, self.base.config.dropout, self.training)",
    ),
    named=("no head",),
)
edited(
    "5.3",
    "inputs for a bert only",
    ("return_hidden=True, **inputs", "return_hidden=True"),
    named=("a GPT's other inputs dropped",),
)

# ---------------------------------------------------------------- 5.4

edited(
    "5.4",
    "the best looked up",
    (
        'since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)',
        "steps = [row['step'] for row in self.log.valid]\n        since_best = len(steps) - 1 - steps.index(self.log.best_step)",
    ),
)
edited(
    "5.4",
    "better than all",
    (
        'best_before = min((row["loss"] for row in self.log.valid), default=math.inf)\n',
        "is_best = all(value < row['loss'] for row in self.log.valid)\n",
    ),
    ("if value < best_before:", "if is_best:"),
)


@wrong("5.4", "lowest loss kept on the side")
def counter_of_its_own(self, value):
    if not math.isfinite(value):
        raise UserError("no")
    self.lowest = min(getattr(self, "lowest", math.inf), math.inf)
    self.log.valid.append({"step": self.step, "loss": value})
    if value < self.lowest:
        self.lowest, self.waited = value, 0
        self.best = {name: p.detach().clone() for name, p in self.tuned.items()}
        self.log.best_step = self.step
    else:
        self.waited += 1
    self.log.stopped_early = self.config.patience > 0 and self.waited >= self.config.patience


@wrong("5.4", "patience counted on the side")
def waited_alone(self, value):
    if not math.isfinite(value):
        raise UserError("no")
    best_before = min((row["loss"] for row in self.log.valid), default=math.inf)
    self.log.valid.append({"step": self.step, "loss": value})
    self.waited = getattr(self, "waited", 0) + 1
    if value < best_before:
        self.waited = 0
        self.best = {name: p.detach().clone() for name, p in self.tuned.items()}
        self.log.best_step = self.step
    self.log.stopped_early = self.config.patience > 0 and self.waited >= self.config.patience


edited("5.4", "nan not refused", ("if not math.isfinite(value):", "if False:"), named=("nan not refused",))
edited("5.4", "0 for none", ("default=math.inf)", "default=math.inf) or math.inf"), named=("a loss of 0 forgotten",))
edited("5.4", "kept on the side of numpy", ("p.detach().clone()", "p.detach().float().numpy().copy()"), named=())
edited(
    "5.4",
    "stops for ever",
    ("self.log.stopped_early = bool(", "self.log.stopped_early = self.log.stopped_early or bool("),
)
edited(
    "5.4",
    "the last patience all higher than the first",
    (
        'since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)',
        "since_best = sum(row['loss'] > best_before for row in self.log.valid)",
    ),
    named=(),
)

# ---------------------------------------------------------------- 5.5


@right("5.5")
def by_precision_and_recall(predictions, truths, positive):
    _check_pairs(predictions, truths, "truths")
    hits = sum(1 for p, t in zip(predictions, truths, strict=True) if p == positive and t == positive)
    if hits == 0:
        return 0.0
    precision = hits / list(predictions).count(positive)
    recall = hits / list(truths).count(positive)
    return 2 / (1 / precision + 1 / recall)


@wrong("5.5", "class 0 never counted")
def truthy(predictions, truths, positive):
    _check_pairs(predictions, truths, "truths")
    pairs = list(zip(predictions, truths, strict=True))
    both = sum(bool(p and p == t == positive) for p, t in pairs)
    either = sum((p == positive) + (t == positive) for p, t in pairs)
    return 2 * both / either if either else 0.0


@wrong("5.5")
def macro(predictions, truths, positive):
    _check_pairs(predictions, truths, "truths")
    scores = [by_precision_and_recall(predictions, truths, c) for c in set(truths) | {positive}]
    return sum(scores) / len(scores)


@wrong("5.5", "in percent")
def in_percent(predictions, truths, positive):
    return 100 * by_precision_and_recall(predictions, truths, positive)


# ---------------------------------------------------------------- 5.6

edited(
    "5.6",
    "a loop each",
    (
        "if name in self.tuned:\n                own[name].data.copy_(self.tuned[name])",
        "with torch.no_grad():\n                own[name].copy_(self.tuned.get(name, own[name]))",
    ),
)
edited(
    "5.6",
    "kept once",
    ("self.before[name] = own[name].detach().clone()", "self.before.setdefault(name, own[name].detach().clone())"),
)
edited(
    "5.6",
    "new parameters",
    ("own[name].data.copy_(self.tuned[name])", "base.get_parameter(name).data = self.tuned[name]"),
)
edited(
    "5.6",
    "everything learns",
    ("own[name].requires_grad_(True)", "base.requires_grad_(True)"),
    named=("everything learns",),
)
edited(
    "5.6",
    "the tuned ones before",
    (
        "self.before[name] = own[name].detach().clone()",
        "self.before[name] = self.tuned.get(name, own[name]).detach().clone()",
    ),
    named=("kept too late",),
)
