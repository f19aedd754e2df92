"""Exercises of lesson 2: heads, the formula, the mask, and a prefix in front."""

import math

import torch
import torch.nn.functional as F

from minitransformer.attention import Attention, KVCache, Prefix
from minitransformer.workbook import Exercise, tidy

# ---------------------------------------------------------------- 2.1

split = Exercise(
    id="2.1",
    target="minitransformer.attention:split_heads",
    title="Cut into heads",
    minutes=10,
    difficulty=1,
    purpose="One matrix product gives Q, K and V of all heads at once, side by side in one wide tensor. This function "
    "takes it apart: first into its parts, then each part into heads, so that each head is a batch entry of its own.",
    hints=(
        "The last axis holds part after part, within a part head after head, within a head its D numbers. Which `view` of x "
        "gives each of these an axis of its own?",
        "x.view(B, T, n_part, n_head, D) has the axes (B, T, part, head, D). Wanted are parts outside and (B, head, T, D) "
        "inside. `view` cannot exchange axes; `permute` can.",
        "x.view(B, T, n_part, n_head, D).permute(2, 0, 3, 1, 4) is (part, B, head, T, D); .unbind(0) makes a tuple of its "
        "parts.",
    ),
    oracle=lambda x, n_part, n_head: tuple(
        torch.stack([head for head in part.chunk(n_head, dim=-1)], dim=1) for part in x.chunk(n_part, dim=-1)
    ),
)


@split.case
def one_token():
    """One token, one part, two heads of two numbers."""
    return tidy(1, 1, 4), 1, 2


@split.case
def two_tokens():
    """Two tokens, one part, two heads."""
    return tidy(1, 2, 4), 1, 2


@split.case
def two_parts():
    """Three tokens, two parts (the keys and values of cross-attention), two heads."""
    return tidy(1, 3, 8), 2, 2


@split.case(gradients=True)
def a_batch():
    """Two texts of four tokens, three parts, three heads."""
    return tidy(2, 4, 18), 3, 3


@split.mistake
def heads_behind_tokens(x, n_part, n_head):
    """Your heads stand behind the tokens, (B, T, H, D): a product of queries and keys would then compare heads instead of tokens. The heads belong before the tokens, (B, H, T, D)."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // (n_part * n_head)).unbind(2)


@split.mistake
def view_in_place_of_transpose(x, n_part, n_head):
    """You give each part the shape (B, H, T, D) by view or reshape alone. That keeps the order in memory, so a head gets pieces of several tokens; exchanging axes takes transpose or permute."""
    B, T, width = x.shape
    return tuple(part.reshape(B, n_head, T, width // (n_part * n_head)) for part in x.chunk(n_part, dim=-1))


@split.mistake
def every_second_number(x, n_part, n_head):
    """Your heads take every H-th number. A head is a block of D neighbouring columns: in the view, H stands before D."""
    B, T, width = x.shape
    return x.view(B, T, n_part, width // (n_part * n_head), n_head).permute(2, 0, 4, 1, 3).unbind(0)


@split.mistake
def parts_inside_heads(x, n_part, n_head):
    """You read the columns as head after head with q, k, v inside each. They are stacked part after part: all of Q, then all of K, then all of V."""
    B, T, width = x.shape
    return x.view(B, T, n_head, n_part, width // (n_part * n_head)).permute(3, 0, 2, 1, 4).unbind(0)


@split.mistake
def no_tuple_for_one_part(x, n_part, n_head):
    """You return one tensor with the parts as its first axis. The function promises a tuple of n_part tensors, also if there is only one."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // (n_part * n_head)).permute(2, 0, 3, 1, 4)


# ---------------------------------------------------------------- 2.2

merge = Exercise(
    id="2.2",
    target="minitransformer.attention:merge_heads",
    title="Put the heads side by side",
    minutes=5,
    difficulty=1,
    purpose="Each head has given an answer of D numbers for each token. This is Concat(head_1, …, head_h) of 004 §4.1: the "
    "answers side by side, so that W^O can mix them. It undoes `split_heads` for one part.",
    hints=(
        "In the result, a token's row is the D numbers of head 1, then those of head 2, and so on. Which axes have to be "
        "neighbours for that?",
        "Bring the heads next to D first: (B, T, H, D). Only then can the last two axes become one of width H · D.",
        "x.transpose(1, 2) is (B, T, H, D); .reshape(B, T, H * D) joins the last two. (view would complain: after a "
        "transpose the numbers no longer lie in order.)",
    ),
    oracle=lambda x: torch.cat([x[:, head] for head in range(x.size(1))], dim=-1),
)


@merge.case
def one_token_again():
    """One token, two heads of two numbers."""
    return tidy(1, 2, 1, 2)


@merge.case
def two_tokens_again():
    """Two tokens, two heads."""
    return tidy(1, 2, 2, 2)


@merge.case(gradients=True)
def another_batch():
    """Two texts of four tokens, three heads of two numbers."""
    return tidy(2, 3, 4, 2)


@merge.mistake
def no_transpose(x):
    """You reshape without exchanging axes first. Then a row collects neighbouring tokens of one head; it should collect the heads of one token."""
    B, H, T, D = x.shape
    return x.reshape(B, T, H * D)


@merge.mistake
def heads_interleaved(x):
    """In each row the heads alternate, number by number. Each head's D numbers stay together: (B, T, H, D), not (B, T, D, H), before the last two axes are joined."""
    B, H, T, D = x.shape
    return x.permute(0, 2, 3, 1).reshape(B, T, H * D)


@merge.mistake
def wrong_axes_exchanged(x):
    """You exchange T and D. It is the heads that have to move behind the tokens: transpose(1, 2)."""
    B, H, T, D = x.shape
    return x.transpose(2, 3).reshape(B, T, H * D)


@merge.mistake
def mean_over_heads(x):
    """You average the heads. Concat keeps every head's numbers; mixing them is what W^O learns."""
    return x.mean(dim=1)


@merge.mistake
def sum_over_heads(x):
    """You add the heads up (the document's "weighted sum" is inside each head). Concat puts them side by side."""
    return x.sum(dim=1)


# ---------------------------------------------------------------- 2.3


def attention_by_loop(q, k, v, keep=None):
    """The formula for one query after the other, in Python's own numbers."""
    B, H, T, D = q.shape
    S = k.size(2)
    weights = torch.zeros(B, H, T, S)
    seen = torch.ones(B, H, T, S, dtype=torch.bool) if keep is None else keep.expand(B, H, T, S)
    for b, h, t in torch.cartesian_prod(torch.arange(B), torch.arange(H), torch.arange(T)).tolist():
        visible = [s for s in range(S) if seen[b, h, t, s]]
        scores = {s: sum(float(x) * float(y) for x, y in zip(q[b, h, t], k[b, h, s], strict=True)) / math.sqrt(D) for s in visible}
        total = sum(math.exp(score - max(scores.values())) for score in scores.values())
        for s, score in scores.items():
            weights[b, h, t, s] = math.exp(score - max(scores.values())) / total
    return torch.einsum("bhts,bhsd->bhtd", weights, v), weights


formula = Exercise(
    id="2.3",
    target="minitransformer.attention:attend_by_formula",
    title="The formula",
    minutes=15,
    difficulty=2,
    purpose="Attention itself: every query is compared with every key, softmax makes shares of that, and the answer is the "
    "mean of the values with these shares. Everything else in a transformer is built around it.",
    hints=(
        "Work in three lines: scores of shape (B, H, T, S), weights by softmax over the keys, weighted values. "
        "The mask belongs between the first and the second.",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(D). Where keep is False a score has to become so low that softmax makes "
        "it 0; but a row that is low everywhere must not become nan.",
        "scores.masked_fill(~keep, torch.finfo(scores.dtype).min), softmax over dim=-1, then once more "
        "weights.masked_fill(~keep, 0.0), which empties rows that may look nowhere. Return weights @ v, weights.",
    ),
    oracle=attention_by_loop,
)


@formula.case
def one_query_two_keys():
    """One query, two keys, no mask."""
    return tidy(1, 1, 1, 2), tidy(1, 1, 2, 2), tidy(1, 1, 2, 2)


@formula.case
def two_queries_three_keys():
    """Two queries, three keys."""
    return tidy(1, 1, 2, 4), tidy(1, 1, 3, 4), tidy(1, 1, 3, 4)


@formula.case
def causal():
    """Three tokens under the causal mask."""
    return tidy(1, 1, 3, 4), tidy(1, 1, 3, 4), tidy(1, 1, 3, 4), torch.ones(3, 3, dtype=torch.bool).tril()


@formula.case
def looking_nowhere():
    """Two queries, of which the first may look nowhere."""
    return tidy(1, 1, 2, 2), tidy(1, 1, 2, 2), tidy(1, 1, 2, 2), torch.tensor([[False, False], [True, True]])


@formula.case
def large_scores():
    """Scores in the thousands."""
    return 1000 * tidy(1, 1, 2, 4), tidy(1, 1, 3, 4), tidy(1, 1, 3, 4)


@formula.case
def heads_and_padding():
    """A batch of two with two heads; the second text ends in padding."""
    keep = torch.tensor([[True, True, True], [True, True, False]])[:, None, None, :]  # (B, 1, 1, S)
    return tidy(2, 2, 3, 4), tidy(2, 2, 3, 4), tidy(2, 2, 3, 4), keep


@formula.case(gradients=True, oracle=None)
def gradients_of_all_three():
    """The gradients of q, k and v."""
    return tidy(1, 2, 3, 4), tidy(1, 2, 3, 4), tidy(1, 2, 3, 4), torch.ones(3, 3, dtype=torch.bool).tril()


@formula.scene(tolerance=1e-4)
def beside_torch(attend_by_formula):
    """Keys of 64 numbers, beside PyTorch's own function."""
    q, k, v = (torch.randn(1, 2, 5, 64) for _ in range(3))
    y, weights = attend_by_formula(q, k, v)
    return {"y minus PyTorch's": y - F.scaled_dot_product_attention(q, k, v), "sum of each row": weights.sum(-1)}


LOW = torch.finfo(torch.float32).min


@formula.mistake
def no_scale(q, k, v, keep=None):
    """Your scores are not divided by √d_k: with d_k = 64 the softmax is already saturated."""
    scores = q @ k.transpose(-2, -1)
    if keep is not None:
        scores = scores.masked_fill(~keep, LOW)
    weights = scores.softmax(dim=-1)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0.0)
    return weights @ v, weights


@formula.mistake
def divided_by_d(q, k, v, keep=None):
    """Your scores are divided by d_k. The spread of a sum of d_k products grows as the root, so it is √d_k; with d_k itself long keys make all weights alike."""
    scores = q @ k.transpose(-2, -1) / q.size(-1)
    if keep is not None:
        scores = scores.masked_fill(~keep, LOW)
    weights = scores.softmax(dim=-1)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0.0)
    return weights @ v, weights


@formula.mistake
def softmax_over_queries(q, k, v, keep=None):
    """Your softmax goes along the queries: each column sums to 1. A query shares its attention out over the keys, so each row has to: dim=-1."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(~keep, LOW)
    weights = scores.softmax(dim=-2)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0.0)
    return weights @ v, weights


@formula.mistake
def mask_turned_round(q, k, v, keep=None):
    """Your mask hides what it should keep: keep is True where the query may look, so it is ~keep that is filled."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(keep, LOW)
    weights = scores.softmax(dim=-1)
    if keep is not None:
        weights = weights.masked_fill(keep, 0.0)
    return weights @ v, weights


@formula.mistake
def mask_only_after_softmax(q, k, v, keep=None):
    """You mask the weights but not the scores. What the hidden keys had is then lost, not shared out among the others: the rows no longer sum to 1."""
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).softmax(dim=-1)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0.0)
    return weights @ v, weights


@formula.mistake
def hidden_scores_of_zero(q, k, v, keep=None):
    """You give hidden keys the score 0. Softmax takes e⁰ = 1 of it, so they still get a share, often a large one; the score has to be as low as it can be."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(~keep, 0.0)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def nan_for_an_empty_row(q, k, v, keep=None):
    """With -inf in every place of a row softmax computes 0/0 = nan. A query that may look nowhere (padding at the left) has to get zeros."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(~keep, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def empty_row_reads_all(q, k, v, keep=None):
    """A row whose scores are all equally low becomes equal shares of everything, so a query that may look nowhere reads what it must not see. Its weights have to be emptied after softmax."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(~keep, LOW)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def softmax_by_hand(q, k, v, keep=None):
    """You compute e^score yourself, and e^89 is already more than a float32 can hold. softmax subtracts the largest score first, which changes nothing but the overflow."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    exponentials = scores.exp()
    if keep is not None:
        exponentials = exponentials.masked_fill(~keep, 0.0)
    weights = exponentials / exponentials.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return weights @ v, weights


@formula.mistake
def only_the_values(q, k, v, keep=None):
    """You return the weighted values alone; the weights are wanted too, as a second result."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if keep is not None:
        scores = scores.masked_fill(~keep, LOW)
    weights = scores.softmax(dim=-1)
    if keep is not None:
        weights = weights.masked_fill(~keep, 0.0)
    return weights @ v


# ---------------------------------------------------------------- 2.4


def mask_by_loop(n_query, n_key, n_prefix, causal, keep, device=None):
    """Each place of the mask by itself."""
    causal = causal and n_query > 1
    if not causal and keep is None:
        return None
    B, T = 1 if keep is None else keep.size(0), n_query if causal else 1
    mask = torch.ones(B, 1, T, n_prefix + n_key, dtype=torch.bool)
    for b in range(B):
        for t in range(T):
            for s in range(n_key):
                padding = keep is not None and not keep[b, s]
                later = causal and s > n_key - n_query + t
                mask[b, 0, t, n_prefix + s] = not (padding or later)
    return mask


mask = Exercise(
    id="2.4",
    target="minitransformer.attention:keep_mask",
    title="Who may look where",
    minutes=20,
    difficulty=2,
    purpose="One boolean table says which key each query may look at: no query sees what comes after it, nobody sees padding, "
    "and everybody sees the prefix. It is made once for all layers' scores of a call.",
    hints=(
        "Build it in three steps, each of which may be left out: causality (T, S), padding (B, 1, 1, S), prefix columns in "
        "front. True means: may look.",
        "Query t of the T is number n_key - n_query + t of the text; it may look at keys up to and including itself. Compare "
        "torch.arange(n_key) with a column of those numbers. Two masks both have to allow a key: &.",
        "position = torch.arange(n_key); mask = (position <= position[n_key - n_query:, None])[None, None]; padding = "
        "keep[:, None, None, :]; F.pad(mask, (n_prefix, 0), value=True). Return None if there was neither (for one query, "
        "the last, causality forbids nothing).",
    ),
    oracle=mask_by_loop,
)


@mask.case
def causal_three():
    """Three tokens, causal."""
    return 3, 3, 0, True, None


@mask.case
def nothing_to_hide():
    """Nothing causal, nothing padded: None."""
    return 3, 3, 0, False, None


@mask.case
def padding_alone():
    """The padding of two texts."""
    return 2, 3, 0, False, torch.tensor([[True, True, True], [True, False, False]])


@mask.case
def both():
    """Causal, and the first text begins with padding."""
    return 3, 3, 0, True, torch.tensor([[False, True, True], [True, True, True]])


@mask.case
def last_two_of_five():
    """Two new queries behind three tokens that a cache holds."""
    return 2, 5, 0, True, None


@mask.case
def prefix_and_causal():
    """A prefix of two columns before three causal tokens."""
    return 3, 3, 2, True, None


@mask.case
def prefix_and_padding():
    """A prefix of one column before padded texts."""
    return 2, 2, 1, False, torch.tensor([[True, False], [True, True]])


@mask.case
def one_query():
    """One query, the last: it sees all, so None."""
    return 1, 4, 2, True, None


@mask.case
def all_at_once():
    """A cache, padding and a prefix together."""
    return 3, 5, 2, True, torch.tensor([[False, True, True, True, True], [True, True, True, True, False]])


def wrong_mask(compare=lambda s, t: s <= t, join=torch.logical_and, offset=True, front=True, see_prefix=True):
    """The function as a learner would write it, with one thing in it replaced."""

    def keep_mask(n_query, n_key, n_prefix, causal, keep, device=None):
        mask = None
        if causal and n_query > 1:
            position = torch.arange(n_key, device=device)
            mask = compare(position, position[n_key - n_query if offset else 0 :, None][:n_query])[None, None]
        if keep is not None:
            padding = keep[:, None, None, :]
            mask = padding if mask is None else join(mask, padding)
        if mask is not None and n_prefix:
            mask = F.pad(mask, (n_prefix, 0) if front else (0, n_prefix), value=see_prefix)
        return mask

    return keep_mask


@mask.mistake
def does_not_see_itself(*arguments):
    """Your queries see only what stands before them, not themselves: the diagonal is missing. Then the first token sees nothing at all. It is s <= t, not s < t."""
    return wrong_mask(compare=lambda s, t: s < t)(*arguments)


@mask.mistake
def one_too_many(*arguments):
    """Your mask is shifted by one: each query sees one token of the future, the very one that it is to predict. The loss will look wonderful, and the texts will not."""
    return wrong_mask(compare=lambda s, t: s <= t + 1)(*arguments)


@mask.mistake
def future_in_place_of_past(*arguments):
    """Your mask is turned over: each query sees itself and the future. True is where it may look: s <= t."""
    return wrong_mask(compare=lambda s, t: s >= t)(*arguments)


@mask.mistake("True is hidden")
def true_is_hidden(*arguments):
    """Your causal mask is True where looking is forbidden. Here True means keep (in torch.nn.Transformer it is the other way round)."""
    return wrong_mask(compare=lambda s, t: s > t)(*arguments)


@mask.mistake
def queries_counted_from_the_start(*arguments):
    """You number the queries from 0. With a cache they are the last n_query of the n_key tokens: query t is number n_key - n_query + t, and sees all that the cache holds."""
    return wrong_mask(offset=False)(*arguments)


@mask.mistake
def either_in_place_of_both(*arguments):
    """You join causality and padding by "or": a key that either allows is seen, so padding and future come back in. Both have to allow it: &."""
    return wrong_mask(join=torch.logical_or)(*arguments)


@mask.mistake
def prefix_masked_out(*arguments):
    """Your prefix columns are False: nobody sees the prefix, and it does nothing at all. Every query sees every prefix column, whatever the padding says."""
    return wrong_mask(see_prefix=False)(*arguments)


@mask.mistake
def prefix_behind_the_text(*arguments):
    """Your prefix columns stand behind those of the text. Keys and values are [prefix; text], so its columns come first; here the mask of each token belongs to another one."""
    return wrong_mask(front=False)(*arguments)


# ---------------------------------------------------------------- 2.5

front = Exercise(
    id="2.5",
    target="minitransformer.attention:Attention.forward",
    title="A prefix in front",
    minutes=15,
    difficulty=3,
    purpose="Here prefix tuning enters the model: keys and values that nobody wrote are put in front of those of the text, "
    "K ← [P_K; K], V ← [P_V; V], and every token reads them. The lines before and after are given; at the place to write, k and "
    "v are the text's keys and values (B, H, S, D), and n_prefix still says 0.",
    hints=(
        "Four things: refuse a prefix that does not fit (check_prefix), note its length in n_prefix, and put its keys in front of k, "
        "its values in front of v.",
        "One prefix serves the whole batch: its first axis may be 1 where k has B. torch.cat does not broadcast; expand "
        "does it without copying. Which axis counts the columns?",
        "check_prefix(prefix, x.size(0), self.n_head, self.d_head); n_prefix = prefix.k.size(2); "
        "k = torch.cat([prefix.k.expand(k.size(0), -1, -1, -1), k], dim=2), and the same for v.",
    ),
    tolerance=1e-5,
)


def random_prefix(length, n_head=2, d_head=2, batch=1):
    """Keys and values, (batch, H, P, D) each."""
    return Prefix(tidy(batch, n_head, length, d_head), tidy(batch, n_head, length, d_head))


@front.case
def one_token_one_column():
    """One token, a prefix of one column."""
    return Attention(4, 2), tidy(1, 1, 4), None, None, random_prefix(1)


@front.case
def one_prefix_for_two_texts():
    """Two texts share a prefix of three columns."""
    return Attention(4, 2), tidy(2, 2, 4), None, None, random_prefix(3)


@front.case
def prefix_under_a_causal_mask():
    """Three tokens under the causal mask, a prefix of two columns."""
    return Attention(4, 2, causal=True), tidy(1, 3, 4), None, None, random_prefix(2)


@front.case
def prefix_beside_padding():
    """Two texts, one with padding, and a prefix."""
    keep = torch.tensor([[True, True, True], [True, True, False]])  # (B, S)
    return Attention(4, 2), tidy(2, 3, 4), None, keep, random_prefix(2)


@front.case
def one_prefix_each():
    """Two texts, each with a prefix of its own."""
    return Attention(4, 2), tidy(2, 2, 4), None, None, random_prefix(2, batch=2)


@front.case
def before_a_context():
    """Cross-attention: the prefix stands before the context."""
    return Attention(4, 2), tidy(2, 2, 4), tidy(2, 3, 4), None, random_prefix(2)


@front.case(gradients=True)
def the_prefix_learns():
    """The gradients of the prefix."""
    return Attention(4, 2, causal=True).requires_grad_(False), tidy(1, 2, 4), None, None, random_prefix(2)


@front.case
def for_another_width():
    """A prefix for heads of another width is refused."""
    return Attention(4, 2), tidy(1, 2, 4), None, None, random_prefix(1, d_head=3)


@front.scene
def word_by_word(Attention):
    """A text read word by word with a cache gives what it gives read at once."""
    layer, x, prefix, cache = Attention(4, 2, causal=True), torch.randn(1, 3, 4), random_prefix(2), KVCache(3)
    pieces = [layer(x[:, t : t + 1], prefix=prefix, cache=cache) for t in range(3)]
    return {"columns in the cache": cache.length, "of the prefix": cache.n_prefix, "output": torch.cat(pieces, dim=1)}


K, V = "[prefix.k.expand(k.size(0), -1, -1, -1), k]", "[prefix.v.expand(v.size(0), -1, -1, -1), v]"
front.slip(
    "not expanded over the batch",
    "Your prefix has one row and the batch has more: torch.cat does not broadcast. expand(k.size(0), -1, -1, -1) repeats it for "
    "each row without copying.",
    (K, "[prefix.k, k]"), (V, "[prefix.v, v]"),
)  # fmt: skip
front.slip(
    "behind the text",
    "Your prefix stands behind the text's keys and values. Without a mask no one would notice, for attention knows no order; but "
    "causality and padding are counted from the front: [prefix; text].",
    (K, "[k, prefix.k.expand(k.size(0), -1, -1, -1)]"), (V, "[v, prefix.v.expand(v.size(0), -1, -1, -1)]"),
)  # fmt: skip
front.slip(
    "keys where values belong",
    "You put the prefix's keys in front of the values too. Keys decide how much a prefix is read, values what is read: v takes prefix.v.",
    (V, "[prefix.k.expand(v.size(0), -1, -1, -1), v]"),
)
front.slip(
    "length not noted",
    "n_prefix is still 0, so the prefix's columns count as words of the text: padding no longer fits its columns, and the "
    "cache takes the prefix for text. n_prefix = prefix.k.size(2).",
    ("n_prefix = prefix.k.size(2)\n", "pass\n"),
)
front.slip(
    "only the first text",
    "You take row 0 of the prefix for every text. Where each text brings a prefix of its own, expand(k.size(0), -1, -1, -1) leaves "
    "it as it is.",
    (K, "[prefix.k[:1].expand(k.size(0), -1, -1, -1), k]"), (V, "[prefix.v[:1].expand(v.size(0), -1, -1, -1), v]"),
)  # fmt: skip
front.slip(
    "detached",
    "Your prefix enters without its gradient (detach, .data, torch.tensor), so training could never change it.",
    (K, "[prefix.k.detach().expand(k.size(0), -1, -1, -1), k]"), (V, "[prefix.v.detach().expand(v.size(0), -1, -1, -1), v]"),
)  # fmt: skip
front.slip(
    "not checked",
    "A prefix that does not fit reaches torch.cat, whose message speaks of tensors and sizes. check_prefix says in a sentence what "
    "is wrong with the prefix.",
    ("check_prefix(prefix, x.size(0), self.n_head, self.d_head)\n", "pass\n"),
)
