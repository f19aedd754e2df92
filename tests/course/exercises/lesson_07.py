"""Answers to the exercises of lesson 7."""

import math

import torch

from minitransformer.models.bert import Bert
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 7.1


@right("7.1")
def places_looked_up(self, example, tokenizer, n_answer=1):
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id] + before + n_answer * [tokenizer.mask_id] + after + [tokenizer.sep_id]
    return ids, [i for i, token in enumerate(ids) if token == tokenizer.mask_id]


edited(
    "7.1",
    "from the end",
    ("list(range(len(before), len(before) + n_answer))", "list(range(len(before), len(before) + 1 + len(gap)))[:-1]"),
)
edited(
    "7.1",
    "counted backwards",
    ("list(range(len(before), len(before) + n_answer))", "[-len(after) - 1 - n_answer + i for i in range(n_answer)]"),
    named=(),
)
edited(
    "7.1",
    "positions in a tensor",
    ("list(range(len(before), len(before) + n_answer))", "torch.arange(len(before), len(before) + n_answer)"),
    named=(),
)
edited("7.1", "masks of two", ("[tokenizer.mask_id] * n_answer", "[tokenizer.mask_id] * max(2, n_answer)"), named=())

# ---------------------------------------------------------------- 7.2

edited(
    "7.2",
    "a set of all words",
    (
        "others = [other for other, taken in answers.items() if word in taken]",
        "others = [other for other in answers if word in answers[other]]",
    ),
)
edited("7.2", "two spaces", ('tokenizer.encode(" " + word)', 'tokenizer.encode("  " + word)'), named=())
edited("7.2", "lower case", ("word = word.strip()", "word = word.strip().lower()"), named=("small letters",))
edited(
    "7.2",
    "special by name",
    (
        "{*tokenizer.special_ids.values()} & {*tokenizer.encode(word, allow_special=True)}",
        "word in tokenizer.special_ids",
    ),
    named=("only a special token alone",),
)
edited(
    "7.2",
    "read with special tokens",
    ('tokenizer.encode(" " + word)', 'tokenizer.encode(" " + word, allow_special=True)'),
)
edited(
    "7.2",
    "only the last label checked",
    ("if not answers[label]:", "if not answers[label] and label == list(words)[0]:"),
    named=("label without words",),
)
edited("7.2", "exactly two labels", ("if len(answers) < 2:", "if len(answers) != 2:"), named=())

# ---------------------------------------------------------------- 7.3


@right("7.3")
def row_after_row(model, ids, attention_mask, n_before, words):
    is_bert = isinstance(model, Bert)
    if is_bert:
        logits = model.mlm_logits(model(ids, attention_mask=attention_mask))
    else:
        logits = model(ids, attention_mask)
    log_probs = logits.log_softmax(-1)
    out = torch.zeros(len(ids), len(words))
    for b in range(len(ids)):
        for w, word in enumerate(words):
            first = int(n_before[b]) - (0 if is_bert else 1)
            out[b, w] = sum(log_probs[b, first + i, token] for i, token in enumerate(word))
    return out


@right("7.3")
def by_gather(model, ids, attention_mask, n_before, words):
    tokens = torch.tensor(words, device=ids.device)  # (W, n)
    W, n = tokens.shape
    offset = torch.arange(n, device=ids.device)
    where = n_before[:, None] + offset - (0 if isinstance(model, Bert) else 1)  # (B, n)
    logits = model.mlm_logits(model(ids, attention_mask)) if isinstance(model, Bert) else model(ids)
    picked = torch.log_softmax(logits.gather(1, where[..., None].expand(-1, -1, logits.size(-1))), -1)  # (B, n, V)
    return torch.stack([picked[:, i, tokens[:, i]] for i in range(n)]).sum(0)


edited(
    "7.3",
    "product of probabilities",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
    ("log_probs[:, range(n), word].sum(dim=1)", "log_probs[:, range(n), word].prod(dim=1).log()"),
    named=("logarithm of the product",),
)
edited("7.3", "an epsilon", (".log_softmax(dim=-1)", ".softmax(dim=-1).add(1e-12).log()"), named=())


@wrong("7.3", "read anew for every word")
def word_after_word(model, ids, attention_mask, n_before, words):
    return torch.cat([by_gather(model, ids, attention_mask, n_before, [word]) for word in words], dim=1)


edited(
    "7.3",
    "summed over all places",
    ("log_probs[:, range(n), word].sum(dim=1)", "log_probs[:, 0, word].sum(dim=1)"),
    named=(),
)
edited("7.3", "the last row's gap", ("n_before[:, None] -", "n_before.max() -"), named=())

# ---------------------------------------------------------------- 7.4


@right("7.4")
def column_after_column(log_probs, answers, normalise=True, neutral=None):
    columns, at = [], 0
    for own in answers.values():
        parts = []
        for ids in own.values():
            parts.append(log_probs[:, at] / len(ids) if normalise else log_probs[:, at])
            at += 1
        columns.append(torch.stack(parts).logsumexp(0) - math.log(len(parts)))
    scores = torch.stack(columns, dim=-1)
    return scores if neutral is None else scores.sub(neutral)


@wrong("7.4", "probabilities spelled out")
def weighted_by_a_matrix(log_probs, answers, normalise=True, neutral=None):
    lengths = [len(ids) for own in answers.values() for ids in own.values()]
    belongs = torch.zeros(len(lengths), len(answers), dtype=log_probs.dtype)
    at = 0
    for label, own in enumerate(answers.values()):
        belongs[at : at + len(own), label] = 1 / len(own)
        at += len(own)
    if normalise:
        log_probs = log_probs / torch.tensor(lengths)
    scores = (log_probs.exp() @ belongs).log()
    return scores if neutral is None else scores - neutral


edited(
    "7.4",
    "by characters",
    (
        "len(ids) if normalise else 1 for own in answers.values() for ids in own.values()",
        "len(word) if normalise else 1 for own in answers.values() for word in own",
    ),
    named=("divided by the letters",),
)
edited(
    "7.4",
    "neutral of the sum",
    ("scores if neutral is None else scores - neutral", "scores if neutral is None else scores / neutral"),
    named=("divided by neutral",),
)
edited(
    "7.4",
    "mean of all words",
    ("- math.log(own.size(1))", "- math.log(log_probs.size(1))"),
    named=("mean over the words of all labels",),
)
edited(
    "7.4",
    "largest length",
    ("[len(ids) if normalise else 1 for own", "[max(len(i) for i in own.values()) if normalise else 1 for own"),
    named=(),
)

# ---------------------------------------------------------------- 7.5

edited(
    "7.5",
    "counted over all labels",
    (
        "twice = {word for i, own in enumerate(near) for other in near[:i] for word in own if word in other}",
        "all_of_them = [word for own in near for word in own]\n    twice = {word for word in all_of_them if all_of_them.count(word) > 1}",
    ),
)
edited(
    "7.5",
    "any among",
    ("among is None or word in among", "not among or word in among"),
    named=("among no words is among all",),
)
edited(
    "7.5",
    "double ones dropped before k",
    ("word not in taken and (among", "word not in taken and word not in {w for o in near for w in o} and (among"),
    named=(),
)
edited("7.5", "words of the label in front", ("word not in taken", "word not in list(taken)[:1]"), named=())
edited("7.5", "one too many", ("][:k])", "][: k + 1])"), named=())
