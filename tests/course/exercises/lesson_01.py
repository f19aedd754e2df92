"""Answers to the exercises of lesson 1."""

import math

import torch
import torch.nn.functional as F

from minitransformer.course.bigram import _look_up
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 1.1


@right("1.1")
def on_a_stack(ids, pair, new_id):
    merged = []
    for i in ids:
        merged.append(i)
        if tuple(merged[-2:]) == tuple(pair):
            merged[-2:] = [new_id]
    return merged


@right("1.1")
def with_an_iterator(ids, pair, new_id):
    merged, skip = [], False
    for one, following in zip(ids, [*ids[1:], None], strict=False):
        if skip:
            skip = False
        elif (one, following) == pair:
            merged.append(new_id)
            skip = True
        else:
            merged.append(one)
    return merged


@wrong("1.1", "as text")
def replaced_in_a_text(ids, pair, new_id):
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(word) for word in text.split()]


@wrong("1.1", "as text")
def replaced_in_the_list_as_text(ids, pair, new_id):
    return eval(str(list(ids)).replace(f"{pair[0]}, {pair[1]}", str(new_id)))


@wrong("1.1", "zero behind the end")
def zero_is_no_id(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        following = ids[i + 1] if i + 1 < len(ids) else 0
        if (ids[i], following) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


edited(
    "1.1",
    "by identity",
    ("tuple(ids[i : i + 2]) == pair", "i + 1 < len(ids) and ids[i] is pair[0] and ids[i + 1] is pair[1]"),
    named=(),
)


@wrong("1.1")
def begun_with_the_first(ids, pair, new_id):
    merged = [ids[0]]
    for i in ids[1:]:
        if (merged[-1], i) == pair:
            merged[-1] = new_id
        else:
            merged.append(i)
    return merged


@wrong("1.1", "from the right")
def popped_from_the_end(ids, pair, new_id):
    rest, merged = list(ids), []
    while rest:
        last = rest.pop()
        if rest and (rest[-1], last) == pair:
            rest.pop()
            last = new_id
        merged.insert(0, last)
    return merged


@wrong("1.1", "in the list itself")
def deleted_while_walking(ids, pair, new_id):
    for i in range(len(ids) - 1, 0, -1):
        if i < len(ids) and (ids[i - 1], ids[i]) == pair and pair[0] != pair[1]:
            ids[i - 1] = new_id
            del ids[i]
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            ids[i] = new_id
            del ids[i + 1]
        i += 1
    return ids


# ---------------------------------------------------------------- 1.2


@right("1.2")
def by_a_loop_over_neighbours(piece, ranks):
    whole = ranks.get(piece)
    if whole is not None:
        return [whole]
    parts = [bytes([byte]) for byte in piece]
    while True:
        best = None
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1])
            if rank is not None and (best is None or rank < best[0]):
                best = rank, i
        if best is None:
            return [ranks[part] for part in parts]
        i = best[1]
        parts = parts[:i] + [parts[i] + parts[i + 1]] + parts[i + 2 :]


@wrong("1.2", "rank zero for none")
def rank_zero_is_no_rank(piece, ranks):
    if ranks.get(piece):
        return [ranks[piece]]
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 1:
        found = [ranks.get(a + b) or len(ranks) for a, b in zip(parts, parts[1:], strict=False)]
        if min(found) == len(ranks):
            break
        i = found.index(min(found))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


@wrong("1.2", "letters in place of bytes")
def letters_for_bytes(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts = list(piece.decode())
    while len(parts) > 1:
        found = [ranks.get((a + b).encode(), len(ranks)) for a, b in zip(parts, parts[1:], strict=False)]
        if min(found) == len(ranks):
            break
        i = found.index(min(found))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part.encode()] for part in parts]


@wrong("1.2", "letters in place of bytes")
def a_letter_for_each_byte(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts = [chr(byte).encode() for byte in piece]
    while len(parts) > 1:
        found = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:], strict=False)]
        if min(found) == len(ranks):
            break
        i = found.index(min(found))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


@wrong("1.2", "left to right")
def first_known_pair(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts, i = [bytes([byte]) for byte in piece], 0
    while i < len(parts) - 1:
        if parts[i] + parts[i + 1] in ranks:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i = 0
        else:
            i += 1
    return [ranks[part] for part in parts]


@right("1.2")
def each_token_once_in_order(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts = [bytes([byte]) for byte in piece]
    for token in sorted(ranks, key=ranks.get):
        i = 0
        while i < len(parts) - 1:
            if parts[i] + parts[i + 1] == token:
                parts[i : i + 2] = [token]
            i += 1
    return [ranks[part] for part in parts]


# ---------------------------------------------------------------- 1.3


@right("1.3")
def largest_taken_off(logits, targets):
    shifted = logits - logits.max(dim=-1, keepdim=True).values
    below = shifted.exp().sum(-1).log()
    return (below - shifted[torch.arange(len(targets)), targets]).mean()


@right("1.3")
def a_loop_over_rows(logits, targets):
    losses = [torch.logsumexp(row, 0) - row[target] for row, target in zip(logits, targets, strict=True)]
    return sum(losses) / len(losses)


@right("1.3")
def one_of_each_row_by_a_mask(logits, targets):
    log_probs = logits.log_softmax(-1)
    return -log_probs[F.one_hot(targets, logits.size(-1)).bool()].mean()


@wrong("1.3", "times one-hot")
def one_hot_literally(logits, targets):
    y = F.one_hot(targets, logits.size(1)).to(logits.dtype)
    return -(y * F.log_softmax(logits, dim=-1)).sum(dim=1).mean()


@wrong("1.3", "times one-hot")
def one_hot_by_einsum(logits, targets):
    y = torch.eye(logits.size(1), dtype=logits.dtype, device=logits.device)[targets]
    return -torch.einsum("tv,tv->", y, logits - logits.logsumexp(1, keepdim=True)) / len(targets)


@wrong("1.3", "an epsilon in the logarithm")
def an_epsilon(logits, targets):
    probabilities = logits.softmax(dim=-1)
    return -(probabilities[torch.arange(len(targets)), targets] + 1e-8).log().mean()


@wrong("1.3", "an epsilon in the logarithm")
def clamped(logits, targets):
    probabilities = logits.softmax(dim=-1).clamp(min=1e-9)
    return -probabilities.gather(1, targets.unsqueeze(1)).log().mean()


@wrong("1.3", "the sum of exponentials overflows")
def sum_of_exponentials(logits, targets):
    z = torch.log(torch.exp(logits).sum(dim=1))
    return (z - logits[torch.arange(len(targets)), targets]).mean()


@wrong("1.3", "softmax spelled out")
def odds_spelled_out(logits, targets):
    e = torch.exp(logits)
    p = e[range(len(targets)), targets] / e.sum(1)
    return -torch.log(p).mean()


@wrong("1.3", "the largest of all rows")
def largest_of_all(logits, targets):
    shifted = logits - logits.max()
    return (shifted.exp().sum(-1).log() - shifted.gather(-1, targets[:, None])[:, 0]).mean()


@wrong("1.3", "classes counted from the targets")
def as_many_classes_as_targets(logits, targets):
    y = F.one_hot(targets).bool()
    return -logits.log_softmax(-1)[y].mean()


@wrong("1.3", "a number without gradient")
def through_numpy(logits, targets):
    log_probs = logits.detach().log_softmax(-1)
    return float(-log_probs[torch.arange(len(targets)), targets].mean())


@wrong("1.3")
def detached(logits, targets):
    log_probs = logits.detach().log_softmax(-1)
    return -log_probs[torch.arange(len(targets)), targets].mean()


# ---------------------------------------------------------------- 1.4


@right("1.4")
def nan_made_zero(self, keys):
    above = self.alpha + _look_up(self._grams, keys)
    below = self.alpha * self.vocab_size + _look_up(
        self._contexts, torch.div(keys, self.vocab_size, rounding_mode="floor")
    )
    return (above / below).nan_to_num(0.0)


@right("1.4")
def key_after_key(self, keys):
    grams = {int(k): int(n) for k, n in zip(*self._grams, strict=True)}
    contexts = {int(k): int(n) for k, n in zip(*self._contexts, strict=True)}
    out = torch.zeros(len(keys), dtype=torch.float64)
    for i, key in enumerate(keys.tolist()):
        below = contexts.get(key // self.vocab_size, 0) + self.alpha * self.vocab_size
        if below > 0:
            out[i] = (grams.get(key, 0) + self.alpha) / below
    return out


@wrong("1.4", "α of an earlier call")
def kept_below(self, keys):
    if not hasattr(self, "_below"):
        self._below = self._contexts[1].double() + self.alpha * self.vocab_size
    context = keys // self.vocab_size
    at = torch.searchsorted(self._contexts[0], context).clamp(max=len(self._below) - 1)
    known = self._contexts[0][at] == context
    below = torch.where(known, self._below[at], self.alpha * self.vocab_size).double()
    together = _look_up(self._grams, keys) + self.alpha
    return torch.where(below > 0, together / below, 0.0)


@wrong("1.4")
def a_little_alpha_always(self, keys):
    alpha = self.alpha or 1e-3
    together = _look_up(self._grams, keys) + alpha
    return together / (_look_up(self._contexts, keys // self.vocab_size) + alpha * self.vocab_size)


@wrong("1.4")
def in_floats(self, keys):
    together = _look_up(self._grams, keys).float() + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size).float() + self.alpha * self.vocab_size
    return torch.where(context > 0, together / context, 0.0)


@wrong("1.4", "nan for the unseen")
def divided_where_alpha_is_not_zero(self, keys):
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size)
    return together / context if self.alpha == 0 else together / (context + self.alpha * self.vocab_size)


@wrong("1.4")
def v_minus_one(self, keys):
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha * (self.vocab_size - 1)
    return torch.where(context > 0, together / context, 0.0)


# ---------------------------------------------------------------- 1.5


@right("1.5")
def by_a_tensor_of_doubles(loss):
    return torch.tensor(loss, dtype=torch.float64).exp().item()


@right("1.5")
def by_the_largest_float(loss):
    import sys

    return math.exp(loss) if loss <= math.log(sys.float_info.max) else float("inf")


@wrong("1.5", "infinity too early")
def from_709_on(loss):
    return math.inf if loss > 709 else math.exp(loss)


@wrong("1.5", "overflows")
def e_to_the_power(loss):
    return math.e**loss


@wrong("1.5", "a large number for infinity")
def the_largest_float(loss):
    import sys

    try:
        return math.exp(loss)
    except OverflowError:
        return sys.float_info.max


@wrong("1.5")
def no_more_than_a_vocabulary(loss):
    return math.exp(min(loss, 700))


@wrong("1.5", "torch's small floats")
def by_a_tensor(loss):
    return float(torch.exp(torch.tensor(loss)))
