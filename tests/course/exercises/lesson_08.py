"""Answers to the exercises of lesson 8."""

import torch
import torch.nn.functional as F

from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 8.1


@right("8.1")
def by_a_range(length):
    return list(range(-1, -1 - length, -1))


@right("8.1")
def by_a_tensor(length):
    return (-1 - torch.arange(length)).tolist()


@wrong("8.1")
def at_least_one(length):
    return [-1 - i for i in range(max(1, length))]


@wrong("8.1", "one too few")
def stops_early(length):
    return [-i for i in range(1, length)]


# ---------------------------------------------------------------- 8.2


@right("8.2")
def by_a_mask(words, ids, vectors):
    out = words.clone()
    virtual = ids < 0
    own = vectors if vectors.dim() == 3 else vectors.expand(len(ids), -1, -1)
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    out[virtual] = own[rows[virtual], -1 - ids[virtual]]
    return out


@right("8.2")
def by_gather(words, ids, vectors):
    own = vectors if vectors.dim() == 3 else vectors[None].expand(ids.size(0), -1, -1)
    number = ids.neg().sub(1).clamp(min=0)[..., None].expand(-1, -1, words.size(-1))
    return torch.where((ids < 0).unsqueeze(-1), own.gather(1, number), words)


edited(
    "8.2",
    "chosen by products",
    ("torch.where(ids[..., None] < 0, chosen, words)", "chosen * (ids[..., None] < 0) + words * (ids[..., None] >= 0)"),
    named=(),
)


@wrong("8.2", "first row for all")
def the_table_of_the_first(words, ids, vectors):
    table = vectors[0] if vectors.dim() == 3 else vectors
    return torch.where((ids < 0)[..., None], table[(-1 - ids).clamp(min=0)], words)


@wrong("8.2")
def one_place_each(words, ids, vectors):
    out = words.clone()
    for b in range(len(ids)):
        own = vectors[b] if vectors.dim() == 3 else vectors
        for i in range(len(own)):
            found = (ids[b] == -1 - i).nonzero()
            if len(found):
                out[b, found[0, 0]] = own[i]
    return out


@wrong("8.2")
def the_front_of_the_text(words, ids, vectors):
    own = vectors if vectors.dim() == 3 else vectors.expand(len(ids), -1, -1)
    n = int((ids < 0).sum(1).max())
    return torch.cat([own[:, :n], words[:, n:]], dim=1)


# ---------------------------------------------------------------- 8.3

edited(
    "8.3",
    "as a copy",
    (
        'inputs = {**inputs, "vectors": self.vectors()}',
        'inputs = dict(inputs)\n            inputs["vectors"] = self.vectors()',
    ),
)
edited(
    "8.3",
    "the cache asked",
    (
        'first = is_prefill(inputs.get("cache"))',
        'cache = inputs.get("cache")\n        first = cache is None or is_prefill(cache)',
    ),
)
edited(
    "8.3",
    "written into the arguments",
    ('inputs = {**inputs, "vectors": self.vectors()}', 'inputs["vectors"] = self.vectors()'),
    named=("the caller's arguments changed",),
)
edited(
    "8.3",
    "vectors as a parameter",
    ('"vectors": self.vectors()', '"vectors": self.free'),
)
edited("8.3", "three tokens", ("P = self.length", "P = min(self.length, 1)"), named=())
edited(
    "8.3",
    "attention mask of booleans on types",
    ('new["types"] = torch.zeros(P)', 'new["types"] = torch.ones(P)'),
    named=("types of sentence B",),
)

# ---------------------------------------------------------------- 8.4


@right("8.4")
def spelled_out(self):
    x = self.free
    if not self.encoder:
        return x
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    states, _ = self.lstm(x.unsqueeze(0))
    return self.mlp(states).squeeze(0)


@wrong("8.4", "each alone")
def tokens_as_a_batch(self):
    if not self.encoder:
        return self.free
    return self.mlp(self.lstm(F.layer_norm(self.free, self.free.shape[1:])[:, None])[0]).squeeze(1)


@wrong("8.4")
def squeezed(self):
    if not self.encoder:
        return self.free
    return self.mlp(self.lstm(F.layer_norm(self.free, self.free.shape[-1:])[None])[0]).squeeze()


@wrong("8.4")
def forward_states_alone(self):
    if not self.encoder:
        return self.free
    states = self.lstm(F.layer_norm(self.free, self.free.shape[-1:])[None])[0][0]
    C = self.free.size(1)
    return self.mlp(torch.cat([states[:, :C], states[:, :C]], dim=1))


@wrong("8.4", "not normalised")
def normalised_only_if_large(self):
    if not self.encoder:
        return self.free
    return self.mlp(self.lstm(self.free.unsqueeze(0))[0].squeeze(0))


# ---------------------------------------------------------------- 8.5


@right("8.5")
def by_cosine_similarity(vectors, base, k=5):
    table = base.token_embedding.weight.detach()
    found = F.cosine_similarity(vectors[:, None], table[None], dim=-1)
    values, ids = found.sort(dim=-1, descending=True)
    return [[(int(i), float(v)) for i, v in zip(a[:k], b[:k], strict=True)] for a, b in zip(ids, values, strict=True)]


@wrong("8.5")
def first_left_out(vectors, base, k=5):
    return (
        [row[1:] for row in by_cosine_similarity(vectors, base, k + 1)]
        if k < base.config.vocab_size
        else by_cosine_similarity(vectors, base, k)
    )


@wrong("8.5")
def lists_for_pairs(vectors, base, k=5):
    return [[[i, v] for i, v in row] for row in by_cosine_similarity(vectors, base, k)]


@wrong("8.5")
def one_flat_list(vectors, base, k=5):
    return [pair for row in by_cosine_similarity(vectors, base, k) for pair in row]


@wrong("8.5", "distance in place of cosine")
def by_distance(vectors, base, k=5):
    far = (vectors[:, None] - base.token_embedding.weight[None]).norm(dim=-1)
    values, ids = far.sort(dim=-1)
    return [[(int(i), float(v)) for i, v in zip(a[:k], b[:k], strict=True)] for a, b in zip(ids, values, strict=True)]
