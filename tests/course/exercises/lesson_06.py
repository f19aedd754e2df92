"""Answers to the exercises of lesson 6."""

import torch

from minitransformer.course.batches.translation import check_pairs
from minitransformer.generation.beam import Hypothesis
from minitransformer.text.batches import IGNORE, pad_right
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 6.1


@right("6.1")
def labels_padded_by_themselves(sources, targets, config):
    check_pairs(sources, targets, config)
    rows = [[config.start_id] + list(y) + [config.end_id] for y in targets]
    source, source_mask = pad_right(sources, config.pad_id)
    ids, mask = pad_right(rows, config.pad_id)
    labels, _ = pad_right(rows, IGNORE)
    return dict(labels=labels, attention_mask=mask, ids=ids, source_mask=source_mask, source=source)


edited(
    "6.1",
    "source mask by id",
    (
        "source, source_mask = pad_right(sources, config.pad_id)",
        "source, _ = pad_right(sources, config.pad_id)\n    source_mask = source != config.pad_id",
    ),
    named=("source mask read off the ids",),
)
edited(
    "6.1",
    "the last one put back",
    (
        "labels = ids.masked_fill(~attention_mask, IGNORE)",
        "labels = ids.masked_fill(ids == config.pad_id, IGNORE)\n    labels[torch.arange(len(ids)), attention_mask.sum(1) - 1] = config.end_id",
    ),
    named=("ignored by id and the end put back",),
)
edited(
    "6.1",
    "cut at the end token",
    ("*y, config.end_id", "*(y[: y.index(config.end_id)] if config.end_id in y else y), config.end_id"),
    named=("cut at the first end token",),
)
edited(
    "6.1",
    "the end in place",
    ("labels = ids.masked_fill(~attention_mask, IGNORE)", "labels = ids.masked_fill_(~attention_mask, IGNORE)"),
    named=("ids and labels are one",),
)
edited(
    "6.1",
    "end only once",
    ("*y, config.end_id]", "*y, *([] if y and y[-1] == config.end_id else [config.end_id])]"),
    named=("no second end token",),
)

# ---------------------------------------------------------------- 6.2

edited(
    "6.2",
    "caches by index",
    (
        "own, cross = cache or (None, None)",
        "own = None if cache is None else cache[0]\n        cross = None if cache is None else cache[1]",
    ),
)
edited(
    "6.2",
    "named arguments",
    (
        "self.cross(x, context, context_mask, cross_prefix, cross)",
        "self.cross(x, context=context, attention_mask=context_mask, prefix=cross_prefix, cache=cross)",
    ),
)
edited(
    "6.2",
    "last norm left out",
    ("return self.norm3(x + drop(y, self.dropout, self.training))", "return x + drop(y, self.dropout, self.training)"),
    named=("last norm left out",),
)
edited(
    "6.2",
    "no attention of its own",
    (
        "y = self.attention(x, None, attention_mask, prefix, own)",
        "y = self.attention(x, context, attention_mask, prefix, own)",
    ),
    named=(),
)
edited("6.2", "norms one to the left", ("self.norm3", "self.norm1"), named=("norm1 at the end",))
edited(
    "6.2",
    "dropout on two",
    ("x = self.norm2(x + drop(y, self.dropout, self.training))", "x = self.norm2(x + y)"),
    named=("no dropout on the cross-attention",),
)
edited("6.2", "prefix in both", ("cross_prefix, cross)", "cross_prefix or prefix, cross)"), named=())

# ---------------------------------------------------------------- 6.3

edited(
    "6.3",
    "asked the other way round",
    (
        "context = None\n        if not cache or not cache[0].cross.length:",
        "known = cache is not None and cache[0].cross.length > 0\n        context = None\n        if not known:",
    ),
)
edited(
    "6.3",
    "by name",
    (
        "self.decode(ids, context, source_mask, attention_mask, prefix, cross_prefix, cache, at)",
        "self.decode(ids, context, context_mask=source_mask, attention_mask=attention_mask, prefix=prefix, cross_prefix=cross_prefix, cache=cache, at=at)",
    ),
)
edited("6.3", "by the decoder's own cache", ("cache[0].cross.length", "cache[0].own.length"))
edited(
    "6.3",
    "read if it is there",
    (
        "if not cache or not cache[0].cross.length:\n            if source is None:",
        "if source is not None or not cache:\n            if source is None:",
    ),
    named=("read whenever it is given",),
)
edited("6.3", "nothing refused", ("if source is None:", "if False:"))
edited(
    "6.3",
    "source mask from the ids",
    ("context = self.encode(source, source_mask, ", "context = self.encode(source, source != self.config.pad_id, "),
    named=("source's mask made from its ids",),
)
edited(
    "6.3",
    "once in its life",
    (
        "if not cache or not cache[0].cross.length:",
        "if not cache or not hasattr(self, '_read'):\n            self._read = True",
    ),
    named=("what was read is noted in the model",),
)

# ---------------------------------------------------------------- 6.4


@right("6.4")
def by_index(value, n_row, times):
    if torch.is_tensor(value):
        return value[torch.arange(n_row).repeat_interleave(times)] if len(value) == n_row else value
    if not isinstance(value, tuple | list):
        return value
    parts = [by_index(part, n_row, times) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else parts


edited(
    "6.4",
    "one hypothesis as it is",
    ("if isinstance(value, Tensor):", "if times == 1:\n        return value\n    if isinstance(value, Tensor):"),
    named=(),
)
edited("6.4", "rows that can be divided", ("value.size(0) == n_row", "value.size(0) % n_row == 0"), named=())


@wrong("6.4", "one row is never repeated")
def more_than_one_row(value, n_row, times):
    if torch.is_tensor(value):
        return value.repeat_interleave(times, 0) if value.size(0) > 1 else value
    if hasattr(value, "_make"):
        return value._make(more_than_one_row(part, n_row, times) for part in value)
    if isinstance(value, list | tuple):
        return [more_than_one_row(part, n_row, times) for part in value]
    return value


@wrong("6.4", "only lists are looked into")
def lists_only(value, n_row, times):
    if torch.is_tensor(value):
        return value.repeat_interleave(times, 0) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(lists_only(part, n_row, times) for part in value)
    if isinstance(value, list):
        return [lists_only(part, n_row, times) for part in value]
    return value


@wrong("6.4", "in turns")
def by_repeat(value, n_row, times):
    if torch.is_tensor(value):
        return value.repeat(times, *[1] * (value.dim() - 1)) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(by_repeat(part, n_row, times) for part in value)
    if isinstance(value, list | tuple):
        return [by_repeat(part, n_row, times) for part in value]
    return value


@wrong("6.4", "every named tuple becomes a Prefix")
def always_a_prefix(value, n_row, times):
    from minitransformer.models.attention import Prefix

    if torch.is_tensor(value):
        return value.repeat_interleave(times, 0) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return Prefix(*(always_a_prefix(part, n_row, times) for part in value))
    if isinstance(value, list | tuple):
        return [always_a_prefix(part, n_row, times) for part in value]
    return value


# ---------------------------------------------------------------- 6.5


@right("6.5")
def in_a_loop(self, texts, sums, stop_ids, at_end):
    scores = sums / float(len(texts[0])) ** self.length_penalty
    going = []
    for i, text in enumerate(texts):
        stops = text[-1] in stop_ids
        if not (stops or at_end):
            going.append(i)
        elif i < self.n_beam and not self.done:
            self.finished.append(Hypothesis(text[: len(text) - stops], float(scores[i])))
    if not self.done:
        self.finished[:] = sorted(self.finished, key=lambda h: h.score, reverse=True)[: self.n_beam]
    return scores, going[: self.n_beam]


@wrong("6.5", "the first ones that end stay")
def compared_with_the_worst(self, texts, sums, stop_ids, at_end):
    scores = sums / len(texts[0]) ** self.length_penalty
    for i, text in enumerate(texts[: self.n_beam]):
        if (at_end or text[-1] in stop_ids) and not self.done and len(self.finished) < self.n_beam:
            self.finished.append(Hypothesis(text[:-1] if text[-1] in stop_ids else text, scores[i].item()))
    self.finished.sort(key=lambda h: -h.score)
    return scores, [i for i, text in enumerate(texts) if not at_end and text[-1] not in stop_ids][: self.n_beam]


edited(
    "6.5",
    "the lowest id ends",
    ("text[-1] in stop_ids for", "text[-1] == min(stop_ids) for"),
    named=("one end token alone",),
)
edited(
    "6.5",
    "every end token removed",
    ("texts[i][:-1] if texts[i][-1] in stop_ids else texts[i]", "[t for t in texts[i] if t not in stop_ids]"),
)
edited(
    "6.5",
    "sums kept",
    ("scores[: self.n_beam].tolist()", "sums[: self.n_beam].tolist()"),
    named=("the sum in the hypothesis",),
)
edited(
    "6.5",
    "scores of those going",
    ("return scores, [", "return scores[: self.n_beam], ["),
    named=("scores of the first k alone",),
)
