"""Answers to the exercises of lesson 4."""

import math

import torch
import torch.nn.functional as F

from minitransformer.text.batches import IGNORE
from minitransformer.training.losses import _masked_words, _read, cross_entropy_sum
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 4.1


@right("4.1")
def by_indices(ids, chosen, mask_id, words, draw):
    corrupted, labels = ids.clone(), torch.full_like(ids, IGNORE)
    labels[chosen] = ids[chosen]
    fate, which = draw(), draw()
    corrupted[chosen & (fate < 0.8)] = mask_id
    exchanged = chosen & (fate >= 0.8) & (fate < 0.9)
    corrupted[exchanged] = words[(which * len(words)).long()][exchanged]
    return corrupted, labels


@right("4.1")
def fates_the_other_way_round(ids, chosen, mask_id, words, draw):
    u = draw()
    others = words[(len(words) * draw()).floor().long().clamp(max=len(words) - 1)]
    corrupted = torch.where(chosen & (u >= 0.2), mask_id, ids)
    corrupted = torch.where(chosen & (u >= 0.1) & (u < 0.2), others, corrupted)
    return corrupted, ids.masked_fill(~chosen, IGNORE)


@wrong("4.1", "fates by rank")
def by_rank(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    score = draw().masked_fill(~chosen, 2.0)
    rank = score.argsort(dim=1).argsort(dim=1)
    n = chosen.sum(dim=1, keepdim=True)
    others = words[(draw() * len(words)).long()]
    corrupted = torch.where(chosen & (rank < 0.8 * n), mask_id, ids)
    corrupted = torch.where(chosen & (rank >= 0.8 * n) & (rank < 0.9 * n), others, corrupted)
    return corrupted, labels


@wrong("4.1")
def by_a_permutation(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    places = chosen.flatten().nonzero()[:, 0]
    places = places[draw().flatten()[places].argsort()]
    n = len(places)
    corrupted = ids.clone().flatten()
    corrupted[places[: int(0.8 * n)]] = mask_id
    middle = places[int(0.8 * n) : int(0.9 * n)]
    corrupted[middle] = words[(draw().flatten()[middle] * len(words)).long()]
    return corrupted.view_as(ids), labels


@wrong("4.1")
def one_fate_a_row(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    fate, others = draw()[:, :1], words[(draw() * len(words)).long()]
    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), others, corrupted), labels


@wrong("4.1", "last word never put in")
def without_the_last_word(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    fate = draw()
    others = words[(draw() * (len(words) - 1)).long()]
    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), others, corrupted), labels


@wrong("4.1", "numbers between the words")
def numbers_not_words(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    fate = draw()
    others = (draw() * (words.max() - words.min() + 1)).long() + words.min()
    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), others, corrupted), labels


@wrong("4.1")
def minus_one_hundred_and_one(ids, chosen, mask_id, words, draw):
    corrupted, _ = by_indices(ids, chosen, mask_id, words, draw)
    return corrupted, torch.where(chosen, ids, -1)


@wrong("4.1")
def fifteen_percent_of_everything(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    fate = draw()
    others = words[(draw() * len(words)).long()]
    corrupted = torch.where(chosen & (fate < 0.85), mask_id, ids)
    return torch.where(chosen & (fate >= 0.85) & (fate < 0.9), others, corrupted), labels


@right("4.1")
def two_independent_draws(ids, chosen, mask_id, words, draw):
    labels = torch.where(chosen, ids, IGNORE)
    corrupted = torch.where(chosen & (draw() < 0.8), mask_id, ids)
    others = words[(draw() * len(words)).long()]
    return torch.where(chosen & (draw() < 0.5) & (corrupted != mask_id), others, corrupted), labels


# ---------------------------------------------------------------- 4.2


@right("4.2")
def step_by_step(tokenizer, a, b=None):
    ids = [tokenizer.cls_id] + list(tokenizer.encode(f" {a}")) + [tokenizer.sep_id]
    types = [0 for _ in ids]
    if b is not None:
        more = list(tokenizer.encode(f" {b}")) + [tokenizer.sep_id]
        ids += more
        types.extend([1] * len(more))
    return ids, types


@wrong("4.2")
def as_tensors(tokenizer, a, b=None):
    ids, types = step_by_step(tokenizer, a, b)
    return torch.tensor(ids), torch.tensor(types)


@wrong("4.2", "no space before b")
def space_once(tokenizer, a, b=None):
    first = [tokenizer.cls_id, *tokenizer.encode(" " + a), tokenizer.sep_id]
    second = [] if b is None else [*tokenizer.encode(b), tokenizer.sep_id]
    return first + second, [0] * len(first) + [1] * len(second)


@wrong("4.2", "spaces stripped")
def stripped(tokenizer, a, b=None):
    return step_by_step(tokenizer, a.strip(), b if b is None else b.strip())


@wrong("4.2", "[SEP] counted to b")
def types_by_index(tokenizer, a, b=None):
    ids, _ = step_by_step(tokenizer, a, b)
    end = ids.index(tokenizer.sep_id)
    return ids, [int(i >= end) for i in range(len(ids))]


# ---------------------------------------------------------------- 4.3


@right("4.3")
def spelled_out(self, x, embedding):
    h = self.dense(x)
    h = 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))
    return self.norm(h) @ embedding.transpose(0, 1) + self.bias


@right("4.3")
def by_einsum(self, x, embedding):
    return torch.einsum(
        "...c,vc->...v", self.norm(F.gelu(F.linear(x, self.dense.weight, self.dense.bias))), embedding
    ).add(self.bias)


@wrong("4.3", "norm before GELU")
def gelu_after(self, x, embedding):
    return F.linear(F.gelu(self.norm(self.dense(x))), embedding) + self.bias


@wrong("4.3")
def only_three_axes(self, x, embedding):
    B, T, C = x.shape
    return F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias)


@wrong("4.3")
def bias_detached(self, x, embedding):
    with torch.no_grad():
        return F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias)


@wrong("4.3")
def a_residual(self, x, embedding):
    return F.linear(x + self.norm(F.gelu(self.dense(x))), embedding, self.bias)


# ---------------------------------------------------------------- 4.4


@right("4.4")
def all_refusals_of_its_own(model, hidden, batch):
    labels, mask = batch["labels"], batch.get("attention_mask")
    where = labels.ne(IGNORE)
    if mask is not None and bool((where & mask.logical_not()).any()):
        from minitransformer.errors import UserError

        raise UserError("A question at padding.")
    rows = model.mlm_logits(hidden, where)
    total, count = cross_entropy_sum(rows, labels.masked_select(where))
    return total, int(count)


edited(
    "4.4",
    "scores of all positions",
    (
        "return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])",
        "return cross_entropy_sum(model.mlm_logits(hidden)[at], labels[at])",
    ),
)
edited("4.4", "label 0 is none", ("at = labels != IGNORE", "at = labels > 0"), named=("word 0 never asked for",))
edited(
    "4.4",
    "no questions",
    (
        "return cross_entropy_sum",
        "if not at.any():\n        return hidden.new_zeros(()), 1\n    return cross_entropy_sum",
    ),
    named=(),
)
edited(
    "4.4",
    "zero questions as a number",
    ("return cross_entropy_sum", "if not at.any():\n        return 0.0, 0\n    return cross_entropy_sum"),
    named=(),
)
edited("4.4", "flattened", ("labels[at])", "labels.flatten()[at.flatten()])"))

# ---------------------------------------------------------------- 4.5


@right("4.5")
def means_first(model, batch):
    hidden = _read(model, batch)
    pair_sum, pairs = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    word_sum, n = _masked_words(model, hidden, batch)
    return n * (word_sum / n + pair_sum / pairs), n


@right("4.5")
def read_by_hand(model, batch):
    hidden = model(batch["ids"], batch.get("attention_mask"), batch["types"])
    words, n = _masked_words(model, hidden, batch)
    order, m = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + order * (n / m), n


@wrong("4.5", "read twice")
def two_readings(model, batch):
    words, n = _masked_words(model, _read(model, batch), batch)
    order, m = cross_entropy_sum(model.nsp_logits(_read(model, batch)), batch["next_label"])
    return words + n * order / m, n


@wrong("4.5")
def by_two(model, batch):
    hidden = _read(model, batch)
    words, n = _masked_words(model, hidden, batch)
    order, m = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + n * order / max(m, 2), n


@wrong("4.5")
def without_the_check(model, batch):
    hidden = _read(model, batch)
    words, n = _masked_words(model, hidden, batch)
    order = F.cross_entropy(model.nsp_logits(hidden), batch["next_label"])
    return words + n * order, n


@wrong("4.5", "types and padding not read")
def types_left_out(model, batch):
    hidden = model(batch["ids"], batch.get("attention_mask"))
    words, n = _masked_words(model, hidden, batch)
    order, m = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + n * order / m, n


@wrong("4.5")
def padding_left_out(model, batch):
    hidden = model(batch["ids"], None, batch["types"])
    words, n = _masked_words(model, hidden, batch)
    order, m = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + n * order / m, n
