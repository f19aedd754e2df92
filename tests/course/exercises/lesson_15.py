"""Answers to the exercises of lesson 15."""

import torch

from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 15.1


@right("15.1")
def text_after_text(hidden, attention_mask):
    return torch.stack([vectors[real].mean(0) for vectors, real in zip(hidden, attention_mask, strict=True)])


@right("15.1")
def by_einsum(hidden, attention_mask):
    weights = attention_mask.to(hidden.dtype) / attention_mask.sum(1, keepdim=True)
    return torch.einsum("bt,btc->bc", weights, torch.where(attention_mask[..., None], hidden, 0.0))


@wrong("15.1", "padding in between counts")
def up_to_the_last_real(hidden, attention_mask):
    rows = []
    for vectors, real in zip(hidden, attention_mask, strict=True):
        places = real.nonzero()[:, 0]
        rows.append(vectors[places[0] : places[-1] + 1].mean(0))
    return torch.stack(rows)


@wrong("15.1", "the first tokens, as many as are real")
def as_many_as_are_real(hidden, attention_mask):
    return torch.stack([v[: int(n)].mean(0) for v, n in zip(hidden, attention_mask.sum(1), strict=True)])


@wrong("15.1")
def zeros_are_padding(hidden, attention_mask):
    real = (hidden.nan_to_num() != 0).any(-1, keepdim=True) & attention_mask[..., None]
    return hidden.masked_fill(~real, 0).sum(1) / real.sum(1)


@wrong("15.1", "padding counts")
def nan_left_out(hidden, attention_mask):
    return hidden.nanmean(1)


# ---------------------------------------------------------------- 15.2


@right("15.2")
def four_pieces(n_source, n_target):
    n = n_source + n_target
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    mask[:, :n_source] = True
    return mask


@wrong("15.2", "y is seen both ways")
def y_both_ways(n_source, n_target):
    n = n_source + n_target
    mask = torch.ones(n, n, dtype=torch.bool)
    mask[:n_source, n_source:] = False
    return mask


@wrong("15.2", "True is hidden")
def hidden_ones(n_source, n_target):
    return ~four_pieces(n_source, n_target)


@wrong("15.2")
def numbers(n_source, n_target):
    return four_pieces(n_source, n_target).float()


# ---------------------------------------------------------------- 15.3


@right("15.3")
def by_a_copy(ids, mask_id, generator):
    text, n = list(ids), len(ids) // 2
    at = torch.randint(0, len(text) + 1 - n, (1,), generator=generator).item()
    missing = text[at : at + n]
    text[at : at + n] = [mask_id] * n
    return text, missing


@wrong("15.3", "found by the mask's id")
def found_by_the_id(ids, mask_id, generator):
    text, _ = by_a_copy(ids, mask_id, generator)
    return text, [token for token, now in zip(ids, text, strict=True) if now == mask_id]


@wrong("15.3")
def single_places(ids, mask_id, generator):
    places = torch.randperm(len(ids), generator=generator)[: len(ids) // 2].sort().values.tolist()
    return [mask_id if i in places else token for i, token in enumerate(ids)], [ids[i] for i in places]


edited(
    "15.3",
    "at least one",
    ("n_hidden = len(ids) // 2", "n_hidden = max(1, len(ids) // 2)"),
    named=("one token at least",),
)
edited("15.3", "a generator of its own", ("generator=generator", "generator=None"), named=())
