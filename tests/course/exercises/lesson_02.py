"""Answers to the exercises of lesson 2."""

import math

import torch
import torch.nn.functional as F

from minitransformer.models.attention import check_prefix
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 2.1


@right("2.1")
def by_slices(x, n_part, n_head):
    d = x.size(-1) // n_part // n_head
    parts = x.reshape(*x.shape[:2], n_part * n_head, d).transpose(1, 2)
    return tuple(parts[:, i * n_head : (i + 1) * n_head] for i in range(n_part))


@right("2.1")
def parts_chunked_first(x, n_part, n_head):
    return tuple(part.unflatten(-1, (n_head, -1)).transpose(1, 2).contiguous() for part in x.chunk(n_part, -1))


@wrong("2.1", "three parts in any case")
def always_three(x, n_part, n_head):
    B, T, C = x.shape
    d = C // 3 // n_head
    q, k, v = x.split(C // 3, dim=-1)
    return tuple(y.view(B, T, n_head, d).transpose(1, 2) for y in (q, k, v))


@wrong("2.1", "heads behind tokens")
def not_transposed(x, n_part, n_head):
    B, T, C = x.shape
    return tuple(y.reshape(B, T, n_head, C // n_part // n_head) for y in torch.chunk(x, n_part, dim=2))


@wrong("2.1", "a list in place of the tuple")
def a_list(x, n_part, n_head):
    B, T, C = x.shape
    return [y.reshape(B, T, n_head, -1).transpose(1, 2) for y in torch.chunk(x, n_part, dim=2)]


@wrong("2.1")
def first_text(x, n_part, n_head):
    _, T, C = x.shape
    return tuple(y[:1].reshape(1, T, n_head, -1).transpose(1, 2) for y in torch.chunk(x, n_part, dim=2))


@wrong("2.1", "heads and width exchanged")
def exchanged(x, n_part, n_head):
    B, T, C = x.shape
    d = C // n_part // n_head
    return tuple(y.reshape(B, T, d, n_head).transpose(1, 2) for y in torch.chunk(x, n_part, dim=2))


# ---------------------------------------------------------------- 2.2


@right("2.2")
def concatenated(x):
    return torch.cat(list(x.unbind(1)), dim=-1)


@right("2.2")
def contiguous_first(x):
    return x.permute(0, 2, 1, 3).contiguous().view(x.shape[0], x.shape[2], -1)


@wrong("2.2", "no transpose")
def flattened(x):
    B, H, T, D = x.shape
    return x.contiguous().view(B, T, -1)


@wrong("2.2")
def squeezed(x):
    return torch.cat(list(x.unbind(1)), dim=-1).squeeze(1)


@wrong("2.2", "view after transpose")
def a_view(x):
    return x.transpose(1, 2).view(x.size(0), x.size(2), -1)


# ---------------------------------------------------------------- 2.3


@right("2.3")
def by_einsum(q, k, v, attention_mask=None):
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * q.shape[-1] ** -0.5
    if attention_mask is not None:
        scores = torch.where(attention_mask, scores, float("-inf"))
    weights = torch.nan_to_num(torch.softmax(scores, dim=-1))
    return torch.einsum("bhts,bhsd->bhtd", weights, v), weights


@right("2.3")
def scaled_queries_and_a_bias(q, k, v, attention_mask=None):
    weights = (q / math.sqrt(k.size(-1))) @ k.mT
    if attention_mask is not None:
        weights = weights.masked_fill(attention_mask.logical_not(), torch.finfo(q.dtype).min)
    weights = F.softmax(weights, -1)
    if attention_mask is not None:
        weights = weights * attention_mask
    return torch.matmul(weights, v), weights


@wrong("2.3", "zeros in the weights alone")
def zeros_in_the_weights_alone(q, k, v, attention_mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    output = weights @ v
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0)
    return output, weights


@wrong("2.3", "zeros in the output alone")
def zeros_in_the_output_alone(q, k, v, attention_mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if attention_mask is None:
        return weights @ v, weights
    return weights.masked_fill(~attention_mask, 0) @ v, weights


@wrong("2.3", "hidden score not low enough")
def minus_ten_to_the_ninth(q, k, v, attention_mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is None:
        weights = scores.softmax(-1)
    else:
        weights = scores.masked_fill(~attention_mask, -100.0).softmax(-1) * attention_mask
    return weights @ v, weights


@wrong("2.3", "nan for an empty row")
def minus_infinity(q, k, v, attention_mask=None):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores + torch.zeros_like(scores).masked_fill(~attention_mask, -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


@wrong("2.3")
def without_weights(q, k, v, attention_mask=None):
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
    return y, (q @ k.mT).softmax(-1)


# ---------------------------------------------------------------- 2.4


@right("2.4")
def by_ones_and_tril(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    mask = None
    if causal and n_query != 1:
        mask = torch.ones(n_query, n_key, dtype=torch.bool, device=device).tril(n_key - n_query)[None, None]
    if attention_mask is not None:
        pad = attention_mask.view(attention_mask.size(0), 1, 1, -1)
        mask = pad if mask is None else mask.logical_and(pad)
    if mask is None:
        return None
    columns = torch.ones(*mask.shape[:3], n_prefix, dtype=torch.bool, device=mask.device)
    return torch.cat([columns, mask], dim=-1)


@wrong("2.4")
def ones_on_the_processor(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    mask = None
    if causal and n_query > 1:
        mask = torch.ones(n_query, n_key, dtype=torch.bool).tril(n_key - n_query)[None, None]
    if attention_mask is not None:
        pad = attention_mask[:, None, None, :]
        mask = pad if mask is None else mask & pad
    if mask is not None and n_prefix:
        mask = F.pad(mask, (n_prefix, 0), value=True)
    return mask


edited(
    "2.4",
    "the prefix with padding alone",
    ("if mask is not None and n_prefix:", "if mask is not None and n_prefix and attention_mask is not None:"),
    named=(),
)
edited("2.4", "queries numbered from the end", ("position[n_key - n_query :, None]", "position[-n_query:, None]"))
edited(
    "2.4",
    "no_savings",
    (
        "padding = attention_mask[:, None, None, :]",
        "padding = attention_mask[:, None, None, :].expand(-1, 1, n_query, -1)",
    ),
    named=("a row for each query",),
)
edited(
    "2.4",
    "one query never hides",
    ("if attention_mask is not None:", "if attention_mask is not None and n_query > 1:"),
    named=("padding forgotten for one query",),
)
edited("2.4", "0 and 1 for a mask", ("return mask", "return None if mask is None else mask.float()"), named=())
edited(
    "2.4",
    "the cache forgotten",
    ("position[n_key - n_query :, None]", "position[:n_query, None]"),
    named=("queries counted from the start",),
)

# ---------------------------------------------------------------- 2.5


@right("2.5")
def written_into_new_tensors(prefix, k, v):
    check_prefix(prefix, k.size(0), k.size(1), k.size(3))
    both = []
    for own, given in zip(prefix, (k, v), strict=True):
        new = given.new_zeros(k.size(0), k.size(1), own.size(2) + k.size(2), k.size(3))
        new[:, :, : own.size(2)] = own
        new[:, :, own.size(2) :] = given
        both.append(new)
    return both[0], both[1]


@right("2.5")
def padded_and_added(prefix, k, v):
    check_prefix(prefix, k.size(0), k.size(1), k.size(3))
    P, S = prefix.k.size(2), k.size(2)
    return tuple(
        F.pad(one.to(given.dtype), (0, 0, 0, S)) + F.pad(given, (0, 0, P, 0))
        for one, given in ((prefix.k, k), (prefix.v, v))
    )


edited("2.5", "repeated over the batch", (".expand(B, -1, -1, -1)", ".repeat(B // prefix.k.size(0), 1, 1, 1)"))
edited(
    "2.5",
    "types not matched",
    ("prefix.k.to(k.dtype)", "prefix.k"),
    ("prefix.v.to(v.dtype)", "prefix.v"),
    named=("in the wider kind of number",),
)
edited("2.5", "a list of two", ("return k, v", "return [k, v]"), named=())
edited("2.5", "a prefix of it", ("return k, v", "return Prefix(k, v)"), named=())
edited(
    "2.5",
    "float in any case",
    ("prefix.k.to(k.dtype)", "prefix.k.float()"),
    ("prefix.v.to(v.dtype)", "prefix.v.float()"),
    named=("in the wider kind of number",),
)
edited(
    "2.5",
    "an average for the batch",
    ("prefix.k.to(k.dtype).expand", "prefix.k.to(k.dtype).mean(0, keepdim=True).expand"),
    named=(),
)
