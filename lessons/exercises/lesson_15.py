"""Exercises of lesson 15: the mean of a text's vectors, UniLM's mask, and MASS's hole."""

import torch
from minitransformer.course.workbook import Exercise, tidy

# ---------------------------------------------------------------- 15.1


def mean_by_loop(hidden, attention_mask):
    """One text after another, one real token after another."""
    rows = []
    for vectors, real in zip(hidden, attention_mask, strict=True):
        kept = [vector for vector, is_real in zip(vectors, real.tolist(), strict=True) if is_real]
        total = kept[0]
        for vector in kept[1:]:
            total = total + vector
        rows.append(total / len(kept))
    return torch.stack(rows)


mean = Exercise(
    id="15.1",
    target="minitransformer.course.real.systems:mean_vector",
    title="The mean of the real tokens",
    minutes=10,
    difficulty=1,
    purpose="The published model of this lesson was trained to sum a text up by the mean of its tokens' vectors. In a batch, the shorter texts have padding, whose "
    "vectors mean nothing.",
    hints=(
        "Sum the vectors of the real tokens of each text, and divide by the number of its real tokens. That number differs from text to text.",
        "attention_mask[..., None] has the shape (B, T, 1), so that it can be combined with hidden. masked_fill sets the vectors of padding to 0.",
        "    real = attention_mask[..., None]\n    return hidden.masked_fill(~real, 0).sum(1) / real.sum(1)",
    ),
    given=("tensor.masked_fill(mask, value): a copy with this value wherever the mask is True.",),
    oracle=mean_by_loop,
)


@mean.case
def no_padding():
    """One text of two tokens."""
    return tidy(1, 2, 3), torch.tensor([[True, True]])


@mean.case
def padding_behind():
    """Two texts, one with padding behind it."""
    return tidy(2, 3, 2), torch.tensor([[True, True, True], [True, False, False]])


@mean.case
def padding_in_front():
    """Padding stands in front."""
    return tidy(2, 4, 3), torch.tensor([[False, True, True, True], [False, False, True, True]])


@mean.case
def padding_between_tokens():
    """Padding stands between the tokens, too; one of the vectors is all zeros."""
    hidden = tidy(2, 4, 3)
    hidden[0, 2] = 0
    return hidden, torch.tensor([[True, False, True, False], [False, True, False, True]])


@mean.case
def padding_is_no_number():
    """The vectors of padding are not numbers (nan)."""
    hidden = tidy(1, 3, 2)
    hidden[0, 2] = float("nan")
    return hidden, torch.tensor([[True, True, False]])


@mean.case(gradients=True)
def learned():
    """The gradients."""
    return tidy(2, 3, 2), torch.tensor([[True, True, False], [True, True, True]])


@mean.mistake
def padding_counts(hidden, attention_mask):
    """Your mean includes the padding: a short text in a wide batch is pulled towards vectors that mean nothing."""
    return hidden.mean(1)


@mean.mistake("padding counts")
def nan_left_out(hidden, attention_mask):
    return hidden.nanmean(1)


@mean.mistake
def padding_in_between_counts(hidden, attention_mask):
    """You take the mean from the first real token to the last. Padding may stand between them: attention_mask says of each token whether it is real."""
    rows = []
    for vectors, real in zip(hidden, attention_mask, strict=True):
        places = real.nonzero()[:, 0]
        rows.append(vectors[places[0] : places[-1] + 1].mean(0))
    return torch.stack(rows)


@mean.mistake("the first tokens, as many as are real")
def as_many_as_are_real(hidden, attention_mask):
    """You count the real tokens and take so many from the beginning. That is right only where all padding stands at the end: attention_mask says of each token whether it is real."""
    counts = attention_mask.sum(1).tolist()
    return torch.stack([vectors[:n].mean(0) for vectors, n in zip(hidden, counts, strict=True)])


@mean.mistake
def divided_by_the_width(hidden, attention_mask):
    """You sum real tokens only, but divide by the width of the batch. Divide by the number of real tokens in each text."""
    return hidden.masked_fill(~attention_mask[..., None], 0).sum(1) / hidden.size(1)


@mean.mistake
def not_divided(hidden, attention_mask):
    """You return the sum, so that a long text gets a long vector. Divide by the number of real tokens."""
    return hidden.masked_fill(~attention_mask[..., None], 0).sum(1)


@mean.mistake
def times_the_mask(hidden, attention_mask):
    """You multiply by the mask. 0 times nan is nan, so a vector of padding that is no number spoils the mean. Use masked_fill."""
    real = attention_mask[..., None]
    return (hidden * real).sum(1) / real.sum(1)


@mean.mistake
def one_count_for_all(hidden, attention_mask):
    """You divide every text by the real tokens of the whole batch. Each text has a number of its own."""
    return hidden.masked_fill(~attention_mask[..., None], 0).sum(1) / attention_mask.sum()


# ---------------------------------------------------------------- 15.2


def mask_by_loop(n_source, n_target):
    """One query after another, one key after another."""
    n = n_source + n_target
    rows = [[key < n_source or key <= query for key in range(n)] for query in range(n)]
    return torch.tensor(rows, dtype=torch.bool).view(n, n)


mask = Exercise(
    id="15.2",
    target="minitransformer.course.real.systems:prefix_lm_mask",
    title="Both ways in x, backwards in y",
    minutes=15,
    difficulty=2,
    purpose="UniLM's third mask lets a model read x like a BERT and write y like a GPT.",
    hints=(
        "A key may be looked at in two cases: it belongs to x, or it does not come after the query.",
        "place = torch.arange(n) numbers the keys along a row; place[:, None] numbers the queries down a column. Comparing the two gives a matrix. "
        "Join the two cases with |.",
        "    place = torch.arange(n_source + n_target)\n"
        "    return (place < n_source) | (place <= place[:, None])",
    ),
    given=("torch.arange(n): the numbers 0 … n − 1.",),
    oracle=mask_by_loop,
)


@mask.case
def two_and_two():
    """Two tokens in x, two in y."""
    return 2, 2


@mask.case
def three_and_one():
    """Three tokens in x, one in y."""
    return 3, 1


@mask.case
def one_and_four():
    """One token in x, four in y."""
    return 1, 4


@mask.case
def no_x():
    """No x: a GPT."""
    return 0, 3


@mask.case
def no_y():
    """No y: a BERT."""
    return 3, 0


@mask.mistake
def causal(n_source, n_target):
    """Your mask is causal everywhere: a word of x does not see the words of x that follow it."""
    n = n_source + n_target
    return torch.ones(n, n, dtype=torch.bool).tril()


@mask.mistake
def y_is_seen_both_ways(n_source, n_target):
    """Your queries in y see what comes after them in y. Each word of y would be there to be copied before it is predicted: in y a query looks only backwards."""
    mask = torch.ones(n_source + n_target, n_source + n_target, dtype=torch.bool)
    mask[:n_source, n_source:] = False
    return mask


@mask.mistake("True is hidden")
def true_is_hidden(n_source, n_target):
    """Your mask is True where looking is forbidden. Here True means: may look."""
    return ~mask_by_loop(n_source, n_target)


@mask.mistake
def x_sees_y(n_source, n_target):
    """Your queries in x see y. Then x knows the answer, and y's own words could be copied through it."""
    place = torch.arange(n_source + n_target)
    return (place[:, None] < n_source) | (place < n_source) | (place <= place[:, None])


@mask.mistake
def not_itself(n_source, n_target):
    """A token of y does not see itself in your mask. It may look up to and including its own place."""
    place = torch.arange(n_source + n_target)
    return (place < n_source) | (place < place[:, None])


@mask.mistake
def queries_and_keys_exchanged(n_source, n_target):
    """Your rows and columns are exchanged: rows have to be queries, columns keys."""
    place = torch.arange(n_source + n_target)
    return ((place < n_source) | (place <= place[:, None])).T


@mask.mistake
def y_is_blind(n_source, n_target):
    """Your queries in y see only y. They have to see all of x, or they could not answer it."""
    place = torch.arange(n_source + n_target)
    in_x = place < n_source
    return torch.where(in_x[:, None], in_x, ~in_x & (place <= place[:, None]))


# ---------------------------------------------------------------- 15.3

hole = Exercise(
    id="15.3",
    target="minitransformer.course.real.systems:with_a_hole",
    title="A hole of half the text",
    minutes=15,
    difficulty=2,
    purpose="MASS trains an encoder–decoder with this: the encoder reads a text with a hole, and the decoder writes what is missing.",
    hints=(
        "First decide how many tokens are hidden, then draw where the hole begins, then cut the text there.",
        "n // 2 tokens are hidden. A run of that length fits at the places 0 … n − n // 2, the last one included. torch.randint excludes its upper end.",
        "    n_hidden = len(ids) // 2\n"
        "    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))\n"
        "    missing = list(ids[at : at + n_hidden])\n"
        "    return [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]], missing",
    ),
    given=(
        "torch.randint(high, (), generator=generator): one whole number from 0 to high − 1, all equally likely.",
    ),
)


def seeded(seed):
    """A generator that draws the same for everyone."""
    return torch.Generator().manual_seed(seed)


@hole.case
def four_tokens():
    """Four tokens, of which two are hidden."""
    return [11, 12, 13, 14], 9, seeded(0)


@hole.case
def five_tokens():
    """Five tokens: half is rounded down."""
    return [11, 12, 13, 14, 15], 9, seeded(1)


@hole.case
def one_token():
    """One token: nothing is hidden."""
    return [11], 9, seeded(0)


@hole.case
def no_token():
    """A text without a token."""
    return [], 9, seeded(0)


@hole.case
def the_mask_in_the_text():
    """A text that holds the id of [MASK] already, at both ends."""
    return [9, 11, 12, 13, 14, 9], 9, seeded(2)


@hole.case
def repeated_tokens():
    """The same token again and again."""
    return [7, 7, 7, 8, 7, 7], 9, seeded(3)


@hole.scene
def every_place(with_a_hole):
    """Where the hole begins in a text of six tokens, over 200 draws."""
    generator = seeded(5)
    starts = [with_a_hole(range(6), 9, generator)[0].index(9) for _ in range(200)]
    return {"all places where it begins": sorted(set(starts))}


@hole.mistake
def last_place_left_out(ids, mask_id, generator):
    """Your hole never reaches the end of the text. torch.randint excludes its upper end: add 1."""
    n_hidden = len(ids) // 2
    at = int(torch.randint(max(1, len(ids) - n_hidden), (), generator=generator))
    missing = list(ids[at : at + n_hidden])
    return [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]], missing


@hole.mistake
def one_mask_for_all(ids, mask_id, generator):
    """You put one [MASK] in the place of the whole run, as BART does. MASS has one for each hidden token."""
    n_hidden = len(ids) // 2
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    missing = list(ids[at : at + n_hidden])
    return [*ids[:at], *[mask_id] * bool(n_hidden), *ids[at + n_hidden :]], missing


@hole.mistake("found by the mask's id")
def found_by_the_masks_id(ids, mask_id, generator):
    """You look for [MASK] in the text to see what is missing. A text may hold this id already: what is missing stands from where the hole begins, n // 2 tokens of it."""
    n_hidden = len(ids) // 2
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    text = [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]]
    return text, [token for token, now in zip(ids, text, strict=True) if now == mask_id]


@hole.mistake
def one_token_at_least(ids, mask_id, generator):
    """You hide one token at least. Half of one token, rounded down, is none."""
    n_hidden = max(1, len(ids) // 2)
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    missing = list(ids[at : at + n_hidden])
    return [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]], missing


@hole.mistake
def rounded_up(ids, mask_id, generator):
    """You round half of the length up. It is rounded down: five tokens have a hole of two."""
    n_hidden = (len(ids) + 1) // 2
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    missing = list(ids[at : at + n_hidden])
    return [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]], missing


@hole.mistake
def all_is_written(ids, mask_id, generator):
    """Your decoder has to write the whole text, as BART's does. MASS asks for what is missing only."""
    n_hidden = len(ids) // 2
    at = int(torch.randint(len(ids) - n_hidden + 1, (), generator=generator))
    return [*ids[:at], *[mask_id] * n_hidden, *ids[at + n_hidden :]], list(ids)


@hole.mistake
def always_in_front(ids, mask_id, generator):
    """Your hole always begins at the first token. Draw its place."""
    n_hidden = len(ids) // 2
    return [*[mask_id] * n_hidden, *ids[n_hidden:]], list(ids[:n_hidden])
