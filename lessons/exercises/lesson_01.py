"""Exercises of lesson 1: merges, encoding, surprise, counts with smoothing, perplexity."""

import math
import sys
from itertools import pairwise

import tiktoken
import torch
import torch.nn.functional as F
from minitransformer.course.bigram import NGram, _look_up
from minitransformer.course.workbook import Exercise, tidy

# ---------------------------------------------------------------- 1.1


def merge_by_replace(ids, pair, new_id):
    """Each id as a letter, then Python's own `str.replace`."""
    left, right = pair
    text = "".join(map(chr, ids)).replace(chr(left) + chr(right), chr(new_id))
    return [ord(letter) for letter in text]


merge = Exercise(
    id="1.1",
    target="minitransformer.text.tokenizer:_merge",
    title="One merge",
    minutes=10,
    difficulty=1,
    purpose="Byte-pair encoding has found the pair of neighbours that occurs most often. This function makes the two into "
    "one new token everywhere in a piece of text; training calls it for every merge that it learns.",
    hints=(
        "Walk through the ids with an index of your own, i, and build a new list. What goes into it at i, and how far does i "
        "go on?",
        "If ids[i] and ids[i + 1] are the pair, the new id goes in and i goes on by two; else ids[i] goes in and i goes on by "
        "one. The last id has no right neighbour: look out for the end.",
        "A slice that runs over the end is just shorter, and so no pair.\n"
        "    merged, i = [], 0\n"
        "    while i < len(ids):\n"
        "        if tuple(ids[i : i + 2]) == pair:\n"
        "            …  # append new_id; i goes on by 2\n"
        "        else:\n"
        "            …  # append ids[i]; i goes on by 1",
    ),
    oracle=merge_by_replace,
)


@merge.case
def just_the_pair():
    """Nothing but the pair."""
    return [5, 6], (5, 6), 300


@merge.case
def not_there():
    """The pair does not occur: 6 5 is another one."""
    return [6, 5, 7], (5, 6), 300


@merge.case
def two_of_them():
    """The pair twice, with something before, between and behind."""
    return [7, 5, 6, 8, 5, 6, 9], (5, 6), 300


@merge.case
def at_the_end():
    """Half a pair at the end."""
    return [5, 6, 5], (5, 6), 300


@merge.case
def three_alike():
    """Three alike in a row hold the pair only once."""
    return [5, 5, 5], (5, 5), 300


@merge.case
def five_alike():
    """Five alike in a row, and then another."""
    return [5, 5, 5, 5, 5, 6], (5, 5), 300


@merge.case
def looks_alike():
    """The digits of 15 6 and of 5 60 look like the pair 5 6, and are none."""
    return [15, 6, 7, 5, 60, 5, 6], (5, 6), 300


@merge.case
def with_a_zero():
    """0 is an id like any other, and half a pair stands at the end."""
    return [5, 0, 0, 5], (5, 0), 300


@merge.case
def large_ids():
    """Ids above 256, of which Python makes an object each: equal, and not the same object."""
    return [int(i) for i in "300 7000 5 300 7000".split()], (int("300"), int("7000")), 9000


@merge.case
def nothing_at_all():
    """A text without a token."""
    return [], (5, 6), 300


@merge.mistake
def used_twice(ids, pair, new_id):
    """You go on by one after a merge, so that a token takes part in two: 5 5 5 becomes two new tokens, and text is added that was not there. After a merge it goes on by two."""
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 1 if pair[0] == pair[1] and i + 2 < len(ids) else 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge.mistake
def only_the_first(ids, pair, new_id):
    """You stop after the first pair. One merge replaces the pair everywhere; text that is cut in two ways teaches the model two spellings of everything."""
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return list(ids)


@merge.mistake
def last_one_lost(ids, pair, new_id):
    """Your walk ends before the last id, which has no right neighbour, and so loses it. It is no pair, but it stays."""
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge.mistake
def last_one_always_added(ids, pair, new_id):
    """You add the last id in any case, also where a merge has just used it up. It is added only if the walk comes to it."""
    merged, i = [], 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return [*merged, ids[-1]]


@merge.mistake
def right_half_stays(ids, pair, new_id):
    """You go on by one after a merge (as every `for` does), so the pair's right half is added once more behind the new token. A merge uses up both: go on by two."""
    return [new_id if tuple(ids[i : i + 2]) == pair else ids[i] for i in range(len(ids))]


@merge.mistake
def a_list_is_no_tuple(ids, pair, new_id):
    """You compare ids[i : i + 2] with pair. The first is a list, the second a tuple, and those are never equal, whatever is in them: tuple(ids[i : i + 2]) == pair."""
    return list(ids)


@merge.mistake
def beyond_the_end(ids, pair, new_id):
    """You read ids[i + 1] where i is the last: there is no neighbour. Ask first whether i + 1 < len(ids); or take the slice ids[i : i + 2], which is just shorter there."""
    merged, i = [], 0
    while i < len(ids):
        if ids[i] == pair[0] and ids[i + 1] == pair[1]:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge.mistake
def either_order(ids, pair, new_id):
    """You merge 6 5 as well as 5 6. A token stands for its bytes in their order; "on" is not "no"."""
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) in (pair, pair[::-1]):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


@merge.mistake
def from_the_right(ids, pair, new_id):
    """You go from right to left, so that 5 5 5 becomes 5, new in place of new, 5. Where pairs overlap, training and encoding have to agree on an order: from left to right."""
    merged, i = [], len(ids)
    while i > 0:
        if i > 1 and (ids[i - 2], ids[i - 1]) == pair:
            merged.append(new_id)
            i -= 2
        else:
            merged.append(ids[i - 1])
            i -= 1
    return merged[::-1]


@merge.mistake
def in_the_list_itself(ids, pair, new_id):
    """You change the list that was given. Whoever gave it still needs it: training compares before and after to correct its counts."""
    i = 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == pair:
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


@merge.mistake
def as_text(ids, pair, new_id):
    """You make the ids a text and replace in it. In a text "5 6" stands within "15 6" and "5 60" as well, and so ids are cut in two. Compare the numbers themselves."""
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(word) for word in text.split()]


@merge.mistake
def zero_behind_the_end(ids, pair, new_id):
    """You put a 0 where the last id has no right neighbour. 0 is a token too, so the last id and this 0 can look like the pair. Ask first whether there is a neighbour."""
    merged, i = [], 0
    while i < len(ids):
        if (ids[i], ids[i + 1] if i + 1 < len(ids) else 0) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


# ---------------------------------------------------------------- 1.2


def encoded_by_tiktoken(piece, ranks):
    """The library's own encoding with these ranks; its pattern cuts nothing."""
    encoding = tiktoken.Encoding(
        "exercise", pat_str=r"(?s).+", mergeable_ranks=ranks, special_tokens={}
    )
    return encoding.encode_ordinary(piece.decode())


encode = Exercise(
    id="1.2",
    target="minitransformer.text.tokenizer:encode_piece",
    title="Replay the merges",
    minutes=20,
    difficulty=2,
    purpose="A tokenizer meets a word, perhaps for the first time. It spells it in bytes and repeats the merges in the order "
    "in which they were learned, so that a text is always cut as it was in training.",
    given=(
        "ranks: has every single byte, and for a join of two parts that is a token its rank, which is also its id.",
    ),
    hints=(
        "Keep a list of parts, at first the single bytes. In a loop: which neighbours form a token together, and which of these "
        "was learned first? Join that one pair, then look again, for the join has made new neighbours.",
        "ranks.get(left + right) says whether two neighbours are a token together. The lowest rank was learned first; among "
        "equal ones the leftmost goes. Stop when no pair is known. And first of all: is the whole piece a token?",
        "A pair that is no token has a rank above all others here, len(ranks).\n"
        "    if piece in ranks:\n"
        "        return [ranks[piece]]\n"
        "    parts = [piece[i : i + 1] for i in range(len(piece))]\n"
        "    while len(parts) > 1:\n"
        "        pairs = pairwise(parts)\n"
        "        pair_ranks = [ranks.get(a + b, len(ranks)) for a, b in pairs]\n"
        "        i = pair_ranks.index(min(pair_ranks))\n"
        "        # stop if the rank of pair i is len(ranks); else\n"
        "        parts[i : i + 2] = [parts[i] + parts[i + 1]]\n"
        "    # at the end ranks[part] of each part",
    ),
    oracle=encoded_by_tiktoken,
)


def numbered(*tokens):
    """Tokens as bytes, in the order in which they were learned → token → rank."""
    return {token: rank for rank, token in enumerate(tokens)}


@encode.case
def one_byte():
    """A single byte."""
    return b"a", numbered(b"a", b"b")


@encode.case
def nothing_known():
    """Two bytes that are no token together."""
    return b"ab", numbered(b"a", b"b", b"ba")


@encode.case
def two_merges():
    """Two merges, the second built on the first."""
    return b"rain", numbered(b"a", b"i", b"n", b"r", b"ai", b"ain")


@encode.case
def later_one_first():
    """The pair on the right was learned before the pair on the left."""
    return b"abc", numbered(b"a", b"b", b"c", b"bc", b"ab")


@encode.case
def earlier_one_first():
    """The pair on the left was learned before the pair on the right."""
    return b"abcd", numbered(b"a", b"b", b"c", b"d", b"ab", b"bc")


@encode.case
def longest_is_wrong():
    """A long token whose beginnings another merge has used up."""
    return b"abcd", numbered(b"a", b"b", b"c", b"d", b"bc", b"ab", b"abc", b"cd")


@encode.case
def out_of_reach():
    """A long token inside the piece, to which no merges lead."""
    return b"abcd", numbered(b"a", b"b", b"c", b"d", b"abc")


@encode.case
def alike_ones():
    """Three alike: the leftmost pair goes first."""
    return b"aaa", numbered(b"a", b"aa")


@encode.case
def no_letters():
    """The letter ö, which is two bytes."""
    return "ö".encode(), numbered(b"\xc3", b"\xb6", b"\xb6\xc3")


@encode.case
def whole_piece():
    """The piece is a token, to which no merges lead."""
    return b"abc", numbered(b"a", b"b", b"c", b"abc")


@encode.case
def rank_zero():
    """A pair whose rank is 0: the rank of the first token that was numbered."""
    return b"aba", numbered(b"ab", b"a", b"b")


@encode.case
def whole_piece_of_rank_zero():
    """The piece is a token of rank 0."""
    return b"abc", numbered(b"abc", b"a", b"b", b"c")


@encode.mistake
def left_to_right(piece, ranks):
    """You join the first pair from the left that is a token. The merges have an order: of all pairs the one that was learned first, with the lowest rank, wherever it stands."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        for i in range(len(parts) - 1):
            if parts[i] + parts[i + 1] in ranks:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
                break
        else:
            return [ranks[part] for part in parts]


@encode.mistake
def longest_token_first(piece, ranks):
    """You take the longest token that fits, from the left. That is another tokenizer: BPE replays its merges, and a long token is reached only if the merges lead there."""
    ids, i = [], 0
    while i < len(piece):
        end = next(j for j in range(len(piece), i, -1) if piece[i:j] in ranks)
        ids.append(ranks[piece[i:end]])
        i = end
    return ids


def merged_by(piece, ranks, pick, whole=True, rounds=1000):
    """The function as a learner would write it, with another pick among the pairs (position → rank)."""
    if whole and piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    for _ in range(rounds):
        known = {i: ranks[a + b] for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks}
        if not known:
            break
        i = pick(known)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


@encode.mistake
def highest_rank_first(piece, ranks):
    """You take the pair of the highest rank, the one that was learned last. The merges come in the order of learning: the lowest rank first."""
    return merged_by(piece, ranks, lambda known: max(known, key=lambda i: known[i]))


@encode.mistake
def rightmost_of_equals(piece, ranks):
    """Of equal pairs you take the rightmost, so that aaa becomes a, aa. Training merges from the left, and encoding has to do the same: min and index find the first."""
    return merged_by(piece, ranks, lambda known: min(known, key=lambda i: (known[i], -i)))


@encode.mistake
def one_merge_only(piece, ranks):
    """You merge once and stop. A join makes new neighbours, which may be a token again: repeat until no pair is known."""
    return merged_by(piece, ranks, lambda known: min(known, key=lambda i: known[i]), rounds=1)


@encode.mistake
def whole_piece_not_looked_up(piece, ranks):
    """You never ask whether the whole piece is a token. A vocabulary can hold a word to which no merges lead; tiktoken takes it at once, and so should this."""
    return merged_by(piece, ranks, lambda known: min(known, key=lambda i: known[i]), whole=False)


@encode.mistake
def value_of_the_byte_for_its_id(piece, ranks):
    """A single byte has its own value as its id with you, 97 for "a". That happens to be so where the bytes were numbered first and in order; it is ranks that says."""
    ids = merged_by(piece, ranks, lambda known: min(known, key=lambda i: known[i]))
    if piece in ranks:
        return ids
    names = {rank: token for token, rank in ranks.items()}
    return [names[i][0] if len(names[i]) == 1 else i for i in ids]


@encode.mistake
def numbers_in_place_of_bytes(piece, ranks):
    """Your parts are numbers: list(b"ab") is [97, 98], and 97 + 98 is 195. A part is a piece of bytes, piece[i : i + 1], and b"a" + b"b" is b"ab"."""
    if piece in ranks and len(piece) > 1:
        return [ranks[piece]]
    return [ranks[part] for part in piece]


@encode.mistake
def unknown_pair_looked_up(piece, ranks):
    """You look up ranks[left + right] where the two are no token together, which raises a KeyError. ranks.get(left + right, len(ranks)) gives them a rank behind all others."""
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        pair_ranks = [ranks[left + right] for left, right in pairwise(parts)]
        i = pair_ranks.index(min(pair_ranks))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


@encode.mistake
def tokens_in_place_of_ids(piece, ranks):
    """You return the tokens' bytes. The model counts with their numbers: ranks[part]."""
    names = {rank: token for token, rank in ranks.items()}
    ids = merged_by(piece, ranks, lambda known: min(known, key=lambda i: known[i]))
    return [names[i] for i in ids]


@encode.mistake
def letters_in_place_of_bytes(piece, ranks):
    """Your parts are letters (decode, chr). A token is a piece of bytes, and a letter such as ö is two of them, which can belong to two tokens. Cut the bytes themselves: piece[i : i + 1]."""
    if piece in ranks:
        return [ranks[piece]]
    parts = list(piece.decode())
    while len(parts) > 1:
        pair_ranks = [ranks.get((a + b).encode(), len(ranks)) for a, b in pairwise(parts)]
        if min(pair_ranks) == len(ranks):
            break
        i = pair_ranks.index(min(pair_ranks))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part.encode()] for part in parts]


@encode.mistake("letters in place of bytes")
def letter_for_a_byte(piece, ranks):
    if piece in ranks:
        return [ranks[piece]]
    parts = [chr(byte).encode() for byte in piece]
    while known := {i: ranks[a + b] for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks}:
        i = min(known, key=lambda i: (known[i], i))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


@encode.mistake
def rank_zero_for_none(piece, ranks):
    """You ask whether a rank is true (if rank, rank or …). Rank 0 is a rank like any other, the very first, but it counts as false. Ask `is not None`, or `in ranks`."""
    if ranks.get(piece):
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        pair_ranks = [ranks.get(a + b) or len(ranks) for a, b in pairwise(parts)]
        if min(pair_ranks) == len(ranks):
            break
        i = pair_ranks.index(min(pair_ranks))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


# ---------------------------------------------------------------- 1.3

surprise = Exercise(
    id="1.3",
    target="minitransformer.course.bigram:cross_entropy",
    title="The mean surprise",
    minutes=10,
    difficulty=2,
    purpose="Cross-entropy says how much a model is surprised by a text: the mean of −log ŷ of what really came. Every model of "
    "the course is judged by it and trained on it.",
    hints=(
        "Two steps: from logits to log ŷ, for all V tokens of each row; then from each row the one number that belongs to its "
        "target. Then minus, and the mean.",
        "log softmax(u)_i = u_i − log Σ_j exp(u_j). If you compute exp(u) itself, it overflows from u = 89 on. "
        "logsumexp(dim=-1, keepdim=True) does not. gather takes one number from each row; it wants the targets as (T, 1).",
        "    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)\n"
        "    return -log_probs.gather(-1, targets[:, None]).mean()",
    ),
    oracle=F.cross_entropy,
)


@surprise.case
def one_of_two():
    """One prediction between two tokens."""
    return tidy(1, 2), torch.tensor([1])


@surprise.case
def two_of_three():
    """Two predictions among three tokens."""
    return tidy(2, 3), torch.tensor([2, 0])


@surprise.case
def a_few():
    """Four predictions among three tokens."""
    return tidy(4, 3), torch.tensor([2, 0, 1, 1])


@surprise.case
def impossible_ones():
    """Logits of −∞, as the lesson has them: tokens that never followed, and so are held for impossible."""
    return torch.tensor([[0.5, -math.inf, 0.1], [-math.inf, -math.inf, 2.0]]), torch.tensor([2, 2])


@surprise.case
def targets_below_the_last():
    """Four tokens, of which the last two are no targets."""
    return tidy(3, 4), torch.tensor([1, 0, 1])


@surprise.case
def all_far_below_zero():
    """Logits around −200: e to the power is 0 for all of them."""
    return tidy(2, 3) - 200, torch.tensor([1, 0])


@surprise.case
def far_apart_rows():
    """Two rows, one around 200 and one around 0."""
    return tidy(2, 3) + torch.tensor([[200.0], [0.0]]), torch.tensor([1, 0])


@surprise.case
def large_logits():
    """Logits in the hundreds, of which e to the power is no float any more."""
    return 100 * tidy(2, 3), torch.tensor([0, 2])


@surprise.case(gradients=True)
def its_gradient():
    """The gradient, which is (ŷ − y) / T."""
    return tidy(2, 4), torch.tensor([3, 1])


@surprise.mistake
def no_minus(logits, targets):
    """Your loss is negative: log ŷ is below 0, since ŷ is below 1. Surprise is −log ŷ; without the minus, training would make the right token ever less likely."""
    return logits.log_softmax(-1).gather(-1, targets[:, None]).mean()


@surprise.mistake
def sum_not_mean(logits, targets):
    """You add the surprises up. Then a long text is always worse than a short one; the mean over the T predictions can be compared."""
    return -logits.log_softmax(-1).gather(-1, targets[:, None]).sum()


@surprise.mistake
def no_softmax(logits, targets):
    """You take the logits for log ŷ. They sum to anything; only after softmax do they stand for a distribution, and so have a cost for raising all at once."""
    return -logits.gather(-1, targets[:, None]).mean()


@surprise.mistake
def softmax_over_the_text(logits, targets):
    """Your softmax goes along the text (dim 0): it shares out each token's probability over the positions. Each position has a distribution over the vocabulary: dim=-1."""
    return -logits.log_softmax(0).gather(-1, targets[:, None]).mean()


@surprise.mistake
def no_logarithm(logits, targets):
    """You average the probabilities, without the logarithm. Then a token that was held for impossible costs hardly more than one that was unlikely; −log ŷ grows without end."""
    return -logits.softmax(-1).gather(-1, targets[:, None]).mean()


@surprise.mistake
def divided_by_v_too(logits, targets):
    """You average over all T · V entries of −y log ŷ. The sum over the V classes is a sum, only one of them is not 0; the mean goes over the T predictions."""
    return -(F.one_hot(targets, logits.size(-1)) * logits.log_softmax(-1)).mean()


@surprise.mistake
def in_bits(logits, targets):
    """You take the logarithm to base 2, and so count in bits. The course's losses are in nats, by the natural logarithm; a bit is 0.693 of a nat."""
    return -logits.log_softmax(-1).gather(-1, targets[:, None]).mean() / math.log(2)


@surprise.mistake
def softmax_spelled_out(logits, targets):
    """You compute e^z yourself, and e^89 is already more than a float32 can hold; far below, it is 0, and its logarithm −∞. logsumexp gives the logarithm of the sum without either."""
    exponentials = logits.exp()
    y_hat = exponentials / exponentials.sum(-1, keepdim=True)
    return -y_hat.gather(-1, targets[:, None]).log().mean()


@surprise.mistake
def logarithm_of_softmax(logits, targets):
    """You take the logarithm of what softmax gives. Far below the largest score that is 0 in a float32, and its logarithm −∞; u − logsumexp(u) never leaves the logarithm, and log_softmax does not either."""
    return -logits.softmax(-1).log().gather(-1, targets[:, None]).mean()


@surprise.mistake("times one-hot")
def times_one_hot(logits, targets):
    """You multiply log ŷ by a one-hot y and add up. That is the formula, but where ŷ is 0, its logarithm is −∞, and 0 · (−∞) is nan. Take the one number that belongs to the target: gather, or [arange(T), targets]."""
    return -(F.one_hot(targets, logits.size(-1)) * logits.log_softmax(-1)).sum(-1).mean()


@surprise.mistake
def the_sum_of_exponentials_overflows(logits, targets):
    """You compute log Σ exp(u) yourself. e^89 is already more than a float32 can hold, and far below 0 all exponentials are 0, whose logarithm is −∞. logsumexp takes the largest logit off first."""
    below = logits.exp().sum(-1).log()
    return (below - logits.gather(-1, targets[:, None])[:, 0]).mean()


@surprise.mistake
def the_largest_of_all_rows(logits, targets):
    """You take the largest logit of all rows off. A row that lies far below it then has exponentials of 0, whose sum has the logarithm −∞. Each row needs its own largest: max(dim=-1, keepdim=True)."""
    shifted = logits - logits.max()
    return (shifted.exp().sum(-1).log() - shifted.gather(-1, targets[:, None])[:, 0]).mean()


def with_epsilon(epsilon, how=torch.add):
    """The function with a small number in the logarithm."""
    return lambda logits, targets: (
        -how(logits.softmax(-1).gather(-1, targets[:, None]), epsilon).log().mean()
    )


@surprise.mistake
def an_epsilon_in_the_logarithm(logits, targets):
    """You add a small number to ŷ (or clamp ŷ) before the logarithm. Then no surprise is larger than the logarithm of this number, and a very wrong model looks better than it is. u − logsumexp(u) needs no such number."""
    return with_epsilon(1e-9)(logits, targets)


for epsilon in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
    surprise.mistake("an epsilon in the logarithm")(with_epsilon(epsilon))
for epsilon in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12):
    surprise.mistake("an epsilon in the logarithm")(with_epsilon(epsilon, torch.clamp))


@surprise.mistake
def classes_counted_from_the_targets(logits, targets):
    """You let one_hot count the classes. It takes the largest target that is there for the last token. The vocabulary has V tokens: F.one_hot(targets, V)."""
    return -logits.log_softmax(-1)[F.one_hot(targets).bool()].mean()


@surprise.mistake
def a_number_without_gradient(logits, targets):
    """You return a Python number (.item(), float). It knows nothing of the logits that it came from, so nothing could be learned from it: return the tensor."""
    return -logits.log_softmax(-1).gather(-1, targets[:, None]).mean().item()


@surprise.mistake
def rows_picked_by_targets(logits, targets):
    """You index log_probs[targets], which picks whole rows, that is positions. The targets are columns: row t has target t, gather(-1, targets[:, None]) or [arange(T), targets]."""
    return -logits.log_softmax(-1)[targets].mean()


@surprise.mistake
def targets_of_one_axis(logits, targets):
    """gather wants the targets with as many axes as the logits have: (T, 1), which is targets[:, None], for (T, V)."""
    return -logits.log_softmax(-1).gather(-1, targets).mean()


@surprise.mistake
def not_averaged(logits, targets):
    """You return the surprise of each of the T predictions. One number is wanted, their mean."""
    return -logits.log_softmax(-1).gather(-1, targets[:, None])


@surprise.mistake
def every_target_in_every_row(logits, targets):
    """You index logits[:, targets], which takes every target from every row, T · T numbers. Row t has target t: gather, or [arange(T), targets]."""
    return -logits.log_softmax(-1)[:, targets].mean()


# ---------------------------------------------------------------- 1.4


def counted_by_loop(model, keys):
    """The formula with the n-grams counted out of the model's table, one key after the other."""
    V, alpha, counts = (
        model.vocab_size,
        model.alpha,
        dict(zip(*(part.tolist() for part in model._grams), strict=True)),
    )
    probs = []
    for key in keys.tolist():
        same_context = sum(count for other, count in counts.items() if other // V == key // V)
        below = same_context + alpha * V
        probs.append((counts.get(key, 0) + alpha) / below if below else 0.0)
    return torch.tensor(probs, dtype=torch.double)


smoothing = Exercise(
    id="1.4",
    target="minitransformer.course.bigram:NGram._probs",
    title="Count, and smooth",
    minutes=15,
    difficulty=2,
    purpose="The whole of an n-gram model: how often a token followed its context, divided by how often anything did. A bit of "
    "α for every token of the vocabulary keeps what was never seen from being impossible.",
    given=(
        "_look_up(table, keys): the count of each key, 0 where there is none.",
        "self._grams, self._contexts: the tables of the runs, and of the runs without their last token.",
        "self.alpha, self.vocab_size: α and V.",
    ),
    hints=(
        "Two counts for each key: of the whole run, and of its context. A key is context · V + w, like a number with digits: "
        "how do you get rid of the last digit?",
        "_look_up(self._grams, keys) counts the runs; keys // self.vocab_size are their contexts, and self._contexts has the "
        "counts of those. α goes to each of the V tokens, so the context's count grows by V times as much.",
        "0/0 is nan; torch.where puts a 0 in its place.\n"
        "    together = _look_up(self._grams, keys) + self.alpha\n"
        "    context = _look_up(self._contexts, keys // self.vocab_size)\n"
        "    context = context + self.alpha * self.vocab_size\n"
        "    return torch.where(context > 0, together / context, 0.0)",
    ),
    oracle=counted_by_loop,
    tolerance=1e-9,
)

TEXT = (0, 1, 0, 2, 0, 1, 1, 3)  # of four tokens; nothing follows 3


def counted(n=2, alpha=0.0, vocab_size=4):
    """A model of the little text."""
    return NGram(torch.tensor(TEXT), vocab_size, n, alpha)


@smoothing.case
def seen_pairs():
    """α = 0: the pairs 0 1 (key 0 · 4 + 1) and 2 0 (key 2 · 4 + 0), in the text 0 1 0 2 0 1 1 3 with V = 4."""
    return counted(), torch.tensor([1, 8])


@smoothing.case
def unseen_pair():
    """α = 0: the pair 1 2, which does not occur."""
    return counted(), torch.tensor([6])


@smoothing.case
def unseen_context():
    """α = 0: the pair 3 0, after a token that nothing follows."""
    return counted(), torch.tensor([12])


@smoothing.case
def smoothed_pair():
    """α = 0.5, V = 6: the pair 0 1 again."""
    return counted(alpha=0.5, vocab_size=6), torch.tensor([1])


@smoothing.case
def all_after_a_token():
    """α = 0.5: each token after 0."""
    return counted(alpha=0.5), torch.tensor([0, 1, 2, 3])


@smoothing.case
def all_after_nothing():
    """α = 0.5: each token after 3, which nothing followed."""
    return counted(alpha=0.5), torch.tensor([12, 13, 14, 15])


@smoothing.case
def single_tokens():
    """n = 1: single tokens, whose context is empty."""
    return counted(n=1, alpha=1.0), torch.tensor([0, 1, 2, 3])


@smoothing.case
def runs_of_three():
    """n = 3, in a vocabulary of five: 0 1 0 and 0 1 1, and 2 2 2."""
    return counted(n=3, alpha=0.1, vocab_size=5), torch.tensor([5, 6, 62])


@smoothing.scene
def they_sum_to_one(NGram):
    """What can follow a token sums to 1."""
    model = NGram(torch.tensor([0, 1, 0, 2, 0, 1, 1, 3]), 4, alpha=0.3)
    return {f"after {a}": model.next_probs(torch.tensor([a])).sum() for a in range(4)}


@smoothing.scene
def alpha_is_changed(NGram):
    """α may be changed at any time: 0 at first, then 0.5, for the pair 0 1 each time."""
    model, found = NGram(torch.tensor([0, 1, 0, 2, 0, 1, 1, 3]), 4), {}
    for alpha in (0.0, 0.5):
        model.alpha = alpha
        found[f"P with α = {alpha}"] = model.next_probs(torch.tensor([0]))[1]
    return found


@smoothing.mistake
def alpha_not_times_v(self, keys):
    """You add α to the context's count only once. Each of the V tokens was given α, so the context got αV; as it is, a row sums to more than 1."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def alpha_above_only(self, keys):
    """You smooth the numerator only. What is given to the unseen has to be taken from the seen: the context's count grows by αV."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size)
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def no_alpha(self, keys):
    """You do not use α: what was never seen stays impossible, and one such pair makes the loss of a whole text infinite."""
    together, context = (
        _look_up(self._grams, keys),
        _look_up(self._contexts, keys // self.vocab_size),
    )
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def nan_for_the_unseen(self, keys):
    """With α = 0 and a context that never occurred you compute 0/0 = nan, which spreads into every sum. The docstring promises 0 there."""
    together = _look_up(self._grams, keys) + self.alpha
    return together / (
        _look_up(self._contexts, keys // self.vocab_size) + self.alpha * self.vocab_size
    )


@smoothing.mistake
def divided_by_all(self, keys):
    """You divide by the number of all runs: that is P(context w), how often the two stand together. Wanted is P(w | context): divide by the count of this context."""
    together = _look_up(self._grams, keys) + self.alpha
    return together / (self._grams[1].sum() + self.alpha * self.vocab_size)


@smoothing.mistake
def last_token_for_context(self, keys):
    """You take keys % V, the last token, for the context. It is the one that is predicted; what stands before it is keys // V."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys % self.vocab_size) + self.alpha * self.vocab_size
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def whole_key_for_context(self, keys):
    """You look the whole key up among the contexts. A key is context · V + w; its context is the key without its last digit, keys // V."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys) + self.alpha * self.vocab_size
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def equal_shares_for_the_unseen(self, keys):
    """With α = 0 you give 1/V after a context that never occurred. That is a choice one can make, and it is α > 0 that makes it; the docstring promises 0 there."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha * self.vocab_size
    return torch.where(context > 0, together / context, 1 / self.vocab_size)


@smoothing.mistake
def nothing_after_the_unseen(self, keys):
    """You give 0 after every context that never occurred, although α is above 0. Then (0 + α) / (0 + αV) = 1/V: all tokens are equally likely. Only 0/0, with α = 0, is to be 0."""
    count = _look_up(self._contexts, keys // self.vocab_size)
    together = _look_up(self._grams, keys) + self.alpha
    return torch.where(count > 0, together / (count + self.alpha * self.vocab_size), 0.0)


@smoothing.mistake
def divided_by_one_at_least(self, keys):
    """You keep what you divide by at 1 or above, so as not to divide by 0. But αV alone may be less than 1, and is right as it is: only where it is 0 has P to be set to 0."""
    together = _look_up(self._grams, keys) + self.alpha
    return together / (
        _look_up(self._contexts, keys // self.vocab_size) + self.alpha * self.vocab_size
    ).clamp(min=1)


@smoothing.mistake
def seen_contexts_for_v(self, keys):
    """You multiply α by the number of contexts that occurred. Every token of the vocabulary gets an α, whether it occurred or not: V is self.vocab_size."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha * len(
        self._contexts[0]
    )
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake
def seen_ones_for_v(self, keys):
    """You multiply α by the number of different runs that were seen. Every token of the vocabulary gets an α after every context, seen or not: it is αV."""
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha * self.n_grams
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake("α of an earlier call")
def alpha_of_an_earlier_call(self, keys):
    """You keep what you computed with α in an earlier call. α may be changed at any time, so compute with self.alpha in each call."""
    if not hasattr(self, "_kept"):
        self._kept = self.alpha
    together = _look_up(self._grams, keys) + self._kept
    context = _look_up(self._contexts, keys // self.vocab_size) + self._kept * self.vocab_size
    return torch.where(context > 0, together / context, 0.0)


@smoothing.mistake("α of an earlier call")
def divisor_of_an_earlier_call(self, keys):
    if not hasattr(self, "_kept"):
        self._kept = self.alpha
    together = _look_up(self._grams, keys) + self.alpha
    context = _look_up(self._contexts, keys // self.vocab_size) + self._kept * self.vocab_size
    return torch.where(context > 0, together / context, 0.0)


# ---------------------------------------------------------------- 1.5

choices = Exercise(
    id="1.5",
    target="minitransformer.metrics:perplexity",
    title="A number of choices",
    minutes=5,
    difficulty=1,
    purpose="A loss in nats is hard to picture. Perplexity turns it into a number of choices: a model in doubt among k equally "
    "likely tokens has loss ln k, and perplexity k. A model that held something for impossible has infinitely many.",
    hints=(
        "ln k has to become k again. Which function undoes the natural logarithm? And what does it do with very large numbers?",
        "math.exp(loss). From about 710 on the result is larger than any float, and math.exp raises OverflowError where "
        "infinity is the sensible answer.",
        "    try:\n"
        "        return math.exp(loss)\n"
        "    except OverflowError:\n"
        "        return math.inf",
    ),
    oracle=lambda loss: torch.tensor(loss, dtype=torch.double).exp().item(),
)


@choices.case
def no_doubt():
    """Loss 0: no doubt at all."""
    return 0.0


@choices.case
def two_choices():
    """Loss ln 2."""
    return math.log(2)


@choices.case
def a_vocabulary():
    """Loss ln 2048."""
    return math.log(2048)


@choices.case
def a_bad_model():
    """Loss 100: a perplexity of 2.7e43, a large number but a number."""
    return 100.0


@choices.case
def nearly_the_largest_float():
    """Loss 709.7: a perplexity of 1.65e308, which a float can just hold."""
    return 709.7


@choices.case
def beyond_floats():
    """Loss 1000: more than a float can hold."""
    return 1000.0


@choices.case
def impossible():
    """An infinite loss."""
    return math.inf


@choices.mistake
def to_base_two(loss):
    """You raise 2 to the power. That belongs to a loss in bits; ours is in nats, by the natural logarithm, and is undone by e."""
    return 2.0**loss if loss < 1000 else math.inf


@choices.mistake
def of_minus_the_loss(loss):
    """You take exp(−loss). That is the (geometric) mean probability of a token, 1/k; the number of choices is its inverse."""
    return math.exp(-loss)


@choices.mistake
def turned_into_bits_first(loss):
    """You divide by ln 2 first. Either stay in nats and take e, or turn into bits and take 2; the two mixed give neither."""
    return math.exp(loss / math.log(2)) if loss < 491 else math.inf


@choices.mistake
def one_step_of_the_series(loss):
    """You compute 1 + loss, which is near exp(loss) for tiny losses only."""
    return 1 + loss


@choices.mistake
def overflows(loss):
    """math.exp raises OverflowError from about 710 on, and a training that goes wrong gets there. The answer then is math.inf."""
    return math.exp(loss)


@choices.mistake("overflows")
def a_power_that_overflows(loss):
    return math.e**loss


@choices.mistake("torch's small floats")
def small_floats(loss):
    """You compute with a tensor of torch's usual floats, float32, which end at 3.4e38: from a loss of 89 on you say infinity. Python's own floats reach 1.8e308, and so does math.exp."""
    return torch.tensor(loss).exp().item()


@choices.mistake
def infinity_too_early(loss):
    """You say infinity while the perplexity is still a number that a float can hold. Where that ends, at a loss of about 709.8, math.exp says itself: it raises OverflowError."""
    return math.exp(loss) if loss <= 709 else math.inf


@choices.mistake
def a_large_number_for_infinity(loss):
    """You return a large number where the perplexity is infinite. Such numbers end up in tables and averages; math.inf says what it is."""
    return math.exp(min(loss, 709.78))


@choices.mistake("a large number for infinity")
def the_largest_float(loss):
    return math.exp(loss) if loss < 709.78 or loss == math.inf else sys.float_info.max
