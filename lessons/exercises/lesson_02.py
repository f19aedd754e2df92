"""Exercises of lesson 2: heads, the formula, the mask, and a prefix in front."""

import math

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.attention import Attention, Prefix
from minitransformer.models.cache import KVCache

# ---------------------------------------------------------------- 2.1

split = Exercise(
    id="2.1",
    target="minitransformer.models.attention:split_heads",
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
        "D is the width of x over n_part · n_head. The view has the axes (B, T, part, head, D), permute makes them "
        "(part, B, head, T, D), and unbind makes a tuple of the parts.\n"
        "    x.view(B, T, n_part, n_head, D).permute(2, 0, 3, 1, 4).unbind(0)",
    ),
    oracle=lambda x, n_part, n_head: tuple(
        torch.stack([head for head in part.chunk(n_head, dim=-1)], dim=1)
        for part in x.chunk(n_part, dim=-1)
    ),
)


@split.case
def one_token():
    """One token, one part, two heads of three numbers."""
    return tidy(1, 1, 6), 1, 2


@split.case
def three_tokens():
    """Three tokens, one part, two heads of four numbers."""
    return tidy(1, 3, 8), 1, 2


@split.case
def two_parts():
    """One token, two parts (the keys and values of cross-attention), three heads of four numbers."""
    return tidy(1, 1, 24), 2, 3


@split.case
def two_parts_of_three_tokens():
    """Three tokens, two parts, one head of four numbers."""
    return tidy(1, 3, 8), 2, 1


@split.case(gradients=True)
def a_batch():
    """Two texts of five tokens, three parts, four heads of six numbers."""
    return tidy(2, 5, 72), 3, 4


@split.mistake
def heads_behind_tokens(x, n_part, n_head):
    """Your heads stand behind the tokens, (B, T, H, D): a product of queries and keys would then compare heads instead of tokens. The heads belong before the tokens, (B, H, T, D)."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // (n_part * n_head)).unbind(2)


@split.mistake
def view_in_place_of_transpose(x, n_part, n_head):
    """You give each part the shape (B, H, T, D) by view or reshape alone. That keeps the order in memory, so a head gets pieces of several tokens; exchanging axes takes transpose or permute."""
    B, T, width = x.shape
    return tuple(
        part.reshape(B, n_head, T, width // (n_part * n_head)) for part in x.chunk(n_part, dim=-1)
    )


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
def parts_cut_along_the_text(x, n_part, n_head):
    """Your view puts the parts before the tokens. Each token has its own q, k and v side by side, so in the view T stands before the parts: (B, T, n_part, H, D)."""
    B, T, width = x.shape
    return x.reshape(B, n_part, T, n_head, width // (n_part * n_head)).transpose(2, 3).unbind(1)


@split.mistake
def turned_keys(x, n_part, n_head):
    """Your heads are (B, H, D, T). Keys are turned round in the formula, not here: (B, H, T, D) for all parts."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // (n_part * n_head)).permute(2, 0, 3, 4, 1).unbind(0)


@split.mistake
def parts_forgotten_in_the_width(x, n_part, n_head):
    """Your D is the whole width over H. The width holds n_part parts, so each head has width / (n_part · H) numbers."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // n_head).permute(2, 0, 3, 1, 4).unbind(0)


@split.mistake
def no_tuple_for_one_part(x, n_part, n_head):
    """You return one tensor with the parts as its first axis. The function promises a tuple of n_part tensors, also if there is only one."""
    B, T, width = x.shape
    return x.view(B, T, n_part, n_head, width // (n_part * n_head)).permute(2, 0, 3, 1, 4)


@split.mistake
def three_parts_in_any_case(x, n_part, n_head):
    """You cut the width into three. Self-attention has q, k and v, but cross-attention asks for one part and then for two: how many there are is n_part."""
    B, T, width = x.shape
    return tuple(
        part.view(B, T, n_head, width // 3 // n_head).transpose(1, 2)
        for part in x.split(width // 3, dim=-1)
    )


@split.mistake
def a_list_in_place_of_the_tuple(x, n_part, n_head):
    """You return a list. The function promises a tuple of n_part tensors: tuple(…) makes one of a list."""
    B, T, _ = x.shape
    return [part.reshape(B, T, n_head, -1).transpose(1, 2) for part in x.chunk(n_part, dim=-1)]


@split.mistake
def heads_and_width_exchanged(x, n_part, n_head):
    """You cut each part into (D, H): H is the last axis of your view, and D stands where the heads belong. Within a part head follows head, each of D numbers, so the view is (B, T, H, D)."""
    B, T, width = x.shape
    return tuple(
        part.reshape(B, T, width // n_part // n_head, n_head).transpose(1, 2)
        for part in x.chunk(n_part, dim=-1)
    )


# ---------------------------------------------------------------- 2.2

merge = Exercise(
    id="2.2",
    target="minitransformer.models.attention:merge_heads",
    title="Put the heads side by side",
    minutes=5,
    difficulty=1,
    purpose="Each head has given an answer of D numbers for each token. This is Concat(head_1, …, head_h) of 004 §4.1: the "
    "answers side by side, so that W^O can mix them. It undoes `split_heads` for one part.",
    hints=(
        "In the result, a token's row is the D numbers of head 1, then those of head 2, and so on. Which axes have to be "
        "neighbours for that?",
        "Bring the heads next to D first: (B, T, H, D). Only then can the last two axes become one of width H · D.",
        "The transpose gives (B, T, H, D), and reshape joins the last two axes. (view would complain: after a "
        "transpose the numbers no longer lie in order.)\n"
        "    x.transpose(1, 2).reshape(B, T, H * D)",
    ),
    oracle=lambda x: torch.cat([x[:, head] for head in range(x.size(1))], dim=-1),
)


@merge.case
def one_token_again():
    """One token, two heads of three numbers."""
    return tidy(1, 2, 1, 3)


@merge.case
def three_tokens_again():
    """Three tokens, two heads of four numbers."""
    return tidy(1, 2, 3, 4)


@merge.case(gradients=True)
def another_batch():
    """Two texts of four tokens, three heads of five numbers."""
    return tidy(2, 3, 4, 5)


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
def view_after_transpose(x):
    """You use view on a transposed tensor. view cannot move numbers, and after a transpose they do not lie in order any more: reshape copies them where it must (so does .contiguous() before view)."""
    B, H, T, D = x.shape
    return x.transpose(1, 2).view(B, T, H * D)


@merge.mistake
def heads_below_each_other(x):
    """Your result has a row for each head of each token, (B, T · H, D). The heads of a token belong side by side, in one row of H · D numbers: it is the last two axes that are joined."""
    return x.transpose(1, 2).flatten(1, 2)


@merge.mistake
def not_joined(x):
    """You exchange the axes, but H and D are still two: (B, T, H, D). Join them: reshape(B, T, H * D)."""
    return x.transpose(1, 2)


@merge.mistake
def texts_side_by_side(x):
    """You join the first axis, which is the batch: texts stand side by side. The heads are axis 1."""
    return torch.cat(list(x), dim=-1)


@merge.mistake
def mean_over_heads(x):
    """You average the heads. Concat keeps every head's numbers; mixing them is what W^O learns."""
    return x.mean(dim=1)


@merge.mistake
def sum_over_heads(x):
    """You add the heads up (the document's "weighted sum" is inside each head). Concat puts them side by side."""
    return x.sum(dim=1)


# ---------------------------------------------------------------- 2.3


def attention_by_loop(q, k, v, attention_mask=None):
    """The formula for one query after the other, in Python's own numbers."""
    B, H, T, D = q.shape
    S = k.size(2)
    weights = torch.zeros(B, H, T, S)
    seen = (
        torch.ones(B, H, T, S, dtype=torch.bool)
        if attention_mask is None
        else attention_mask.expand(B, H, T, S)
    )
    for b, h, t in torch.cartesian_prod(torch.arange(B), torch.arange(H), torch.arange(T)).tolist():
        visible = [s for s in range(S) if seen[b, h, t, s]]
        scores = {
            s: sum(float(x) * float(y) for x, y in zip(q[b, h, t], k[b, h, s], strict=True))
            / math.sqrt(D)
            for s in visible
        }
        total = sum(math.exp(score - max(scores.values())) for score in scores.values())
        for s, score in scores.items():
            weights[b, h, t, s] = math.exp(score - max(scores.values())) / total
    return torch.einsum("bhts,bhsd->bhtd", weights, v), weights


formula = Exercise(
    id="2.3",
    target="minitransformer.models.attention:attend_by_formula",
    title="The formula",
    minutes=15,
    difficulty=2,
    purpose="Attention itself: every query is compared with every key, softmax makes shares of that, and the answer is the "
    "mean of the values with these shares. Everything else in a transformer is built around it.",
    hints=(
        "Work in three lines: scores of shape (B, H, T, S), weights by softmax over the keys, weighted values. "
        "The mask belongs between the first and the second.",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(D). Where attention_mask is False a score has to become so low that softmax makes "
        "it 0; but a row that is low everywhere must not become nan.",
        "The second masked_fill empties rows that may look nowhere.\n"
        "    # the scores, as the hint before has them\n"
        "    if attention_mask is not None:\n"
        "        lowest = torch.finfo(scores.dtype).min\n"
        "        scores = scores.masked_fill(~attention_mask, lowest)\n"
        "    # weights by softmax over dim=-1\n"
        "    if attention_mask is not None:\n"
        "        weights = weights.masked_fill(~attention_mask, 0.0)\n"
        "    return weights @ v, weights",
    ),
    oracle=attention_by_loop,
)


def showing(n_keys):
    """Values that show the weights: a 1 for each key in a column of its own, and a last column of ones, for their sum."""
    return torch.cat([torch.eye(n_keys), torch.ones(n_keys, 1)], dim=1)[
        None, None
    ]  # (1, 1, S, S+1)


@formula.case
def one_query_two_keys():
    """One query, two keys, no mask. With these values each row of the output is the weights, and then their sum."""
    return tidy(1, 1, 1, 3), tidy(1, 1, 2, 3), showing(2)


@formula.case
def two_queries_three_keys():
    """Two queries, three keys; each row of the output is the weights, and then their sum."""
    return tidy(1, 1, 2, 4), tidy(1, 1, 3, 4), showing(3)


@formula.case
def last_key_hidden():
    """The first of two queries may not look at the last key; each row of the output is the weights, and then their sum."""
    return (
        tidy(1, 1, 2, 4),
        tidy(1, 1, 3, 4),
        showing(3),
        torch.ones(2, 3, dtype=torch.bool).tril(1),
    )


@formula.case
def looking_nowhere():
    """Two queries, of which the first may look nowhere; each row of the output is the weights, and then their sum."""
    attention_mask = torch.tensor([[False, False, False], [True, True, False]])  # (T, S)
    return tidy(1, 1, 2, 4), tidy(1, 1, 3, 4), showing(3), attention_mask


@formula.case
def large_scores():
    """Scores in the thousands."""
    return 1000 * tidy(1, 1, 2, 4), tidy(1, 1, 3, 4), tidy(1, 1, 3, 4)


@formula.case
def low_scores():
    """Scores below −10,000, and the last key hidden; each row of the output is the weights, and then their sum."""
    q, k = 10_000 * (1 + tidy(1, 1, 2, 4).abs()), -1 - tidy(1, 1, 3, 4).abs()
    return q, k, showing(3), torch.tensor([[True, True, False]])


@formula.case
def heads_and_padding():
    """A batch of two with three heads, four queries, five keys, six numbers each; the second text ends in padding."""
    attention_mask = torch.tensor([[True] * 5, [True, True, True, False, False]])[
        :, None, None, :
    ]  # (B, 1, 1, S)
    return tidy(2, 3, 4, 6), tidy(2, 3, 5, 6), tidy(2, 3, 5, 6), attention_mask


@formula.case(gradients=True, oracle=None)
def gradients_of_all_three():
    """The gradients of q, k and v, under a mask."""
    return (
        tidy(1, 2, 3, 5),
        tidy(1, 2, 4, 5),
        tidy(1, 2, 4, 5),
        torch.ones(3, 4, dtype=torch.bool).tril(1),
    )


@formula.scene(tolerance=1e-4)
def beside_torch(attend_by_formula):
    """Keys of 64 numbers, beside PyTorch's own function."""
    q, k, v = (torch.randn(1, 2, 5, 64) for _ in range(3))
    y, weights = attend_by_formula(q, k, v)
    return {
        "y minus PyTorch's": y - F.scaled_dot_product_attention(q, k, v),
        "sum of each row": weights.sum(-1),
    }


LOW = torch.finfo(torch.float32).min


@formula.mistake
def no_scale(q, k, v, attention_mask=None):
    """Your scores are not divided by √d_k: with d_k = 64 the softmax is already saturated."""
    scores = q @ k.transpose(-2, -1)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=-1)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def divided_by_d(q, k, v, attention_mask=None):
    """Your scores are divided by d_k. The spread of a sum of d_k products grows as the root, so it is √d_k; with d_k itself long keys make all weights alike."""
    scores = q @ k.transpose(-2, -1) / q.size(-1)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=-1)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def softmax_over_queries(q, k, v, attention_mask=None):
    """Your softmax goes along the queries, dim=-2: each column of the weights sums to 1. A query shares its attention out over the keys, so each row has to: dim=-1."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=-2)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


def with_weights(q, k, v, attention_mask, scale, dim=-1):
    """The function as a learner would write it, with another scale or another axis."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(scale)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=dim)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def softmax_over_heads(q, k, v, attention_mask=None):
    """Your softmax goes along axis 1, the heads, so that the heads share out each weight among them. Each head attends by itself, over the keys: dim=-1."""
    return with_weights(q, k, v, attention_mask, q.size(-1), dim=1)


@formula.mistake
def softmax_over_the_batch(q, k, v, attention_mask=None):
    """Your softmax goes along axis 0, the batch: texts that have nothing to do with each other share out their weights. It goes over the keys: dim=-1."""
    return with_weights(q, k, v, attention_mask, q.size(-1), dim=0)


@formula.mistake
def root_of_the_number_of_keys(q, k, v, attention_mask=None):
    """You divide by √S, the number of keys. It is the width that makes scores large, for a score is a sum of d_k products: √D, and D is q.size(-1)."""
    return with_weights(q, k, v, attention_mask, k.size(-2))


@formula.mistake
def root_of_the_number_of_queries(q, k, v, attention_mask=None):
    """You divide by √T, the number of queries. It is the width that makes scores large, for a score is a sum of d_k products: √D, and D is q.size(-1)."""
    return with_weights(q, k, v, attention_mask, q.size(-2))


@formula.mistake
def root_of_the_whole_width(q, k, v, attention_mask=None):
    """You divide by √C, the width of all heads together. A head's score is a sum over its own D numbers: √D."""
    return with_weights(q, k, v, attention_mask, q.size(1) * q.size(-1))


@formula.mistake
def multiplied_by_the_root(q, k, v, attention_mask=None):
    """You multiply by √d_k. The scores are too large already; dividing brings them back to a spread of about 1."""
    return with_weights(q, k, v, attention_mask, 1 / q.size(-1))


@formula.mistake
def weights_divided(q, k, v, attention_mask=None):
    """You divide by √d_k after the softmax: the weights no longer sum to 1, and are as saturated as without. The scale belongs to the scores."""
    y, weights = with_weights(q, k, v, attention_mask, 1)
    return y / math.sqrt(q.size(-1)), weights / math.sqrt(q.size(-1))


@formula.mistake("k.T")
def all_axes_turned(q, k, v, attention_mask=None):
    """k.T turns round all four axes, to (D, S, H, B). Only the last two are to be exchanged: k.transpose(-2, -1), or k.mT."""
    return with_weights(q, k.permute(3, 2, 1, 0).transpose(-2, -1), v, attention_mask, q.size(-1))


@formula.mistake
def keys_not_transposed(q, k, v, attention_mask=None):
    """You multiply Q by K itself: (T, D) times (S, D). For a product of each query with each key K is turned round, (D, S): k.transpose(-2, -1)."""
    return with_weights(q, k.transpose(-2, -1), v, attention_mask, q.size(-1))


@formula.mistake("~None")
def opposite_of_none(q, k, v, attention_mask=None):
    """You write ~attention_mask where there is no mask: attention_mask may be None, and then nothing is hidden. Ask `if attention_mask is not None` first."""
    return with_weights(q, k, v, ~attention_mask, q.size(-1))


@formula.mistake("not attention_mask")
def not_of_a_tensor(q, k, v, attention_mask=None):
    """`not attention_mask` (and `if attention_mask`) asks a whole table for one answer, yes or no, which it does not have. Each place turned round is ~attention_mask, and whether there is a mask is `attention_mask is not None`."""
    if attention_mask:
        return with_weights(q, k, v, attention_mask, q.size(-1))
    return with_weights(q, k, v, None, q.size(-1))


@formula.mistake
def mask_added_as_a_number(q, k, v, attention_mask=None):
    """You add the mask to the scores: True is 1, so that what may be seen gets a little more. What is hidden has to get a score as low as can be: masked_fill(~attention_mask, …)."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def hidden_score_not_low_enough(q, k, v, attention_mask=None):
    """You give hidden keys a fixed score that is low, but not low enough: real scores may lie far below it, and the hidden key then takes all. Take the lowest number there is, torch.finfo(scores.dtype).min."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is None:
        return scores.softmax(dim=-1) @ v, scores.softmax(dim=-1)
    weights = (
        scores.masked_fill(~attention_mask, -1e4).softmax(dim=-1).masked_fill(~attention_mask, 0.0)
    )
    return weights @ v, weights


@formula.mistake
def mask_turned_round(q, k, v, attention_mask=None):
    """Your mask hides what it should show: attention_mask is True where the query may look, so it is ~attention_mask that is filled."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(attention_mask, LOW)
    weights = scores.softmax(dim=-1)
    if attention_mask is not None:
        weights = weights.masked_fill(attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def mask_only_after_softmax(q, k, v, attention_mask=None):
    """You mask the weights but not the scores. What the hidden keys had is then lost, not shared out among the others: the rows no longer sum to 1."""
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).softmax(dim=-1)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def hidden_scores_of_zero(q, k, v, attention_mask=None):
    """You give hidden keys the score 0. Softmax takes e⁰ = 1 of it, so they still get a share, often a large one; the score has to be as low as it can be."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, 0.0)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def nan_for_an_empty_row(q, k, v, attention_mask=None):
    """With -inf in every place of a row softmax computes 0/0 = nan. A query that may look nowhere (padding at the left) has to get zeros."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def empty_row_reads_all(q, k, v, attention_mask=None):
    """A row whose scores are all equally low becomes equal shares of everything, so a query that may look nowhere reads what it must not see. Its weights have to be emptied after softmax."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


@formula.mistake
def zeros_in_the_weights_alone(q, k, v, attention_mask=None):
    """You multiply by V before you empty the weights, so that a query that may look nowhere gets zeros as its weights, but still the mean of all values. Empty the weights first, then multiply."""
    y, weights = with_weights(q, k, v, None, q.size(-1))
    if attention_mask is not None:
        scores = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).masked_fill(~attention_mask, LOW)
        y, weights = (
            scores.softmax(-1) @ v,
            scores.softmax(-1).masked_fill(~attention_mask, 0.0),
        )
    return y, weights


@formula.mistake
def zeros_in_the_output_alone(q, k, v, attention_mask=None):
    """You return the weights as they were before you emptied them. A query that may look nowhere gets zeros in its output and in its weights."""
    y, weights = with_weights(q, k, v, attention_mask, q.size(-1))
    if attention_mask is not None:
        scores = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).masked_fill(~attention_mask, LOW)
        weights = scores.softmax(-1)
    return y, weights


for low in (-1e2, -1e3):
    formula.mistake("hidden score not low enough")(
        lambda q, k, v, attention_mask=None, low=low: (
            with_weights(q, k, v, None, q.size(-1))
            if attention_mask is None
            else _filled(q, k, v, attention_mask, low)
        )
    )


def _filled(q, k, v, attention_mask, low):
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).masked_fill(~attention_mask, low)
    weights = scores.softmax(-1).masked_fill(~attention_mask, 0.0)
    return weights @ v, weights


@formula.mistake
def softmax_by_hand(q, k, v, attention_mask=None):
    """You compute e^score yourself, and e^89 is already more than a float32 can hold. softmax subtracts the largest score first, which changes nothing but the overflow."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    exponentials = scores.exp()
    if attention_mask is not None:
        exponentials = exponentials.masked_fill(~attention_mask, 0.0)
    weights = exponentials / exponentials.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return weights @ v, weights


@formula.mistake
def only_the_values(q, k, v, attention_mask=None):
    """You return the weighted values alone; the weights are wanted too, as a second result."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, LOW)
    weights = scores.softmax(dim=-1)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, 0.0)
    return weights @ v


# ---------------------------------------------------------------- 2.4


def mask_by_loop(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    """Each place of the mask by itself."""
    causal = causal and n_query > 1
    if not causal and attention_mask is None:
        return None
    B, T = 1 if attention_mask is None else attention_mask.size(0), n_query if causal else 1
    mask = torch.ones(B, 1, T, n_prefix + n_key, dtype=torch.bool)
    for b in range(B):
        for t in range(T):
            for s in range(n_key):
                padding = attention_mask is not None and not attention_mask[b, s]
                later = causal and s > n_key - n_query + t
                mask[b, 0, t, n_prefix + s] = not (padding or later)
    return mask


mask = Exercise(
    id="2.4",
    target="minitransformer.models.attention:combined_mask",
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
        "For one query, the last, causality forbids nothing. Return None if there is neither causality nor padding.\n"
        "    position = torch.arange(n_key, device=device)\n"
        "    mask = position <= position[n_key - n_query :, None]\n"
        "    mask = mask[None, None]  # (1, 1, T, S), where causality says something\n"
        "    padding = attention_mask[:, None, None, :]  # (B, 1, 1, S), where there is an attention_mask\n"
        "    # mask, padding, or both with &\n"
        "    mask = F.pad(mask, (n_prefix, 0), value=True)  # P columns in front",
    ),
    oracle=mask_by_loop,
)


@mask.case
def causal_three():
    """Three tokens, causal."""
    return 3, 3, 0, True, None


@mask.case
def last_two_of_five():
    """Two new queries, causal, behind three tokens that a cache holds: they are number 3 and 4 of five."""
    return 2, 5, 0, True, None


@mask.case
def nothing_to_hide():
    """Nothing causal, nothing padded: None."""
    return 3, 4, 0, False, None


@mask.case
def one_query():
    """One query, the last of four tokens, causal: it sees all, so None."""
    return 1, 4, 2, True, None


@mask.case
def prefix_and_causal():
    """A prefix of two columns before three causal tokens."""
    return 3, 3, 2, True, None


@mask.case
def prefix_and_padding():
    """A prefix of one column before two padded texts of three tokens, at which four queries look."""
    return 4, 3, 1, False, torch.tensor([[True, False, False], [True, True, True]])


@mask.case
def both():
    """Causal, and the first of two texts begins with padding."""
    return 3, 3, 0, True, torch.tensor([[False, True, True], [True, True, True]])


@mask.case
def one_query_and_padding():
    """One query, the last of four tokens, causal, of which the first is padding."""
    return 1, 4, 1, True, torch.tensor([[False, True, True, True]])


@mask.case
def all_at_once():
    """A cache, padding and a prefix together."""
    return (
        3,
        5,
        2,
        True,
        torch.tensor([[False, True, True, True, True], [True, True, True, True, False]]),
    )


@mask.case
def padding_alone():
    """The padding of two texts, without a prefix."""
    return 2, 3, 0, False, torch.tensor([[True, True, True], [True, False, False]])


def wrong_mask(
    compare=lambda s, t: s <= t,
    join=torch.logical_and,
    offset=True,
    front=True,
    see_prefix=True,
    padded=lambda attention_mask: attention_mask,
    shape=lambda attention_mask: attention_mask[:, None, None, :],
    one_query=False,
    prefix=True,
):
    """The function as a learner would write it, with one thing in it replaced."""

    def combined_mask(n_query, n_key, n_prefix, causal, attention_mask, device=None):
        mask = None
        if causal and (n_query > 1 or one_query):
            position = torch.arange(n_key, device=device)
            mask = compare(position, position[n_key - n_query if offset else 0 :, None][:n_query])[
                None, None
            ]
        if attention_mask is not None:
            padding = shape(padded(attention_mask))
            mask = padding if mask is None else join(mask, padding)
        if mask is not None and n_prefix and prefix:
            mask = F.pad(mask, (n_prefix, 0) if front else (0, n_prefix), value=see_prefix)
        return mask

    return combined_mask


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
    """Your causal mask is True where looking is forbidden. Here True means that it may look (in torch.nn.Transformer it is the other way round)."""
    return wrong_mask(compare=lambda s, t: s > t)(*arguments)


@mask.mistake
def queries_counted_from_the_start(*arguments):
    """You number the queries from 0 (tril() without a diagonal does). With a cache they are the last n_query of the n_key tokens: query t is number n_key - n_query + t, and sees all that the cache holds; for tril that is diagonal=n_key - n_query."""
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


@mask.mistake
def prefix_columns_forgotten(*arguments):
    """Your mask has no columns for the prefix. The keys are [prefix; text], P + S of them, so P columns of True come in front."""
    return wrong_mask(prefix=False)(*arguments)


@mask.mistake
def causality_counted_from_the_prefix(
    n_query, n_key, n_prefix, causal, attention_mask, device=None
):
    """Your causal staircase begins at the first column of the prefix, so that the prefix hides the text (and itself). Make the mask of the text alone, (T, S), and put the P columns of True in front of it at the end."""
    mask = None
    if causal and n_query > 1:
        mask = torch.ones(n_query, n_prefix + n_key, dtype=torch.bool).tril(n_key - n_query)[
            None, None
        ]
    if attention_mask is not None:
        padding = F.pad(attention_mask, (n_prefix, 0), value=True)[:, None, None, :]
        mask = padding if mask is None else mask & padding
    return mask


@mask.mistake
def padding_turned_round(*arguments):
    """You show the padding and hide the real tokens. attention_mask is True at real tokens, and True in the mask means: may look. It goes in as it is."""
    return wrong_mask(padded=lambda attention_mask: ~attention_mask)(*arguments)


@mask.mistake
def padding_forgotten_for_one_query(*arguments):
    """You return early for one query, and so forget its padding. Causality hides nothing from the last token, but padding before it stays hidden."""
    n_query, n_key, n_prefix, causal, attention_mask, *device = arguments
    one = causal and n_query == 1
    return wrong_mask()(n_query, n_key, n_prefix, causal, None if one else attention_mask, *device)


@mask.mistake("padding forgotten for one query")
def padding_forgotten_for_any_one_query(*arguments):
    n_query, n_key, n_prefix, causal, attention_mask, *device = arguments
    attention_mask = attention_mask if n_query > 1 else None
    return wrong_mask()(n_query, n_key, n_prefix, causal, attention_mask, *device)


@mask.mistake
def padding_in_the_rows(*arguments):
    """Your padding hides queries, not keys: it lies along the rows. The columns are the keys, and nobody may look at those that are padding: attention_mask[:, None, None, :]."""
    return wrong_mask(shape=lambda attention_mask: attention_mask[:, None, :, None])(*arguments)


@mask.mistake
def an_axis_too_few(*arguments):
    """Your padding has three axes, so that its texts stand where the heads belong: the weights are (B, H, T, S), and attention_mask[:, None, None, :] has a 1 for H and a 1 for T."""
    return wrong_mask(shape=lambda attention_mask: attention_mask[:, None, :])(*arguments)


@mask.mistake
def a_table_for_one_query(*arguments):
    """For one query, the last token, you make a table that is all True. Causality hides nothing from it: without padding the answer is None, and attention goes without a mask."""
    return wrong_mask(one_query=True)(*arguments)


@mask.mistake("never None")
def never_none(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    """You make a table even where nothing is hidden. Attention runs faster without one: return None if there is neither causality nor padding."""
    found = wrong_mask()(n_query, n_key, n_prefix, causal, attention_mask, device)
    return torch.ones(1, 1, n_query, n_prefix + n_key, dtype=torch.bool) if found is None else found


@mask.mistake
def a_row_for_each_query(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    """With padding alone you give each query a row, and all rows are the same. One row serves all, (B, 1, 1, P + S): it is spread over the queries where it is used."""
    found = wrong_mask()(n_query, n_key, n_prefix, causal, attention_mask, device)
    return None if found is None else found.expand(-1, -1, n_query, -1).clone()


@mask.mistake
def either_one_or_the_other(n_query, n_key, n_prefix, causal, attention_mask, device=None):
    """Where there is causality you forget the padding (an elif?). Both may have to be seen to: a causal text can be padded, and then a key has to be allowed by both."""
    return wrong_mask()(
        n_query, n_key, n_prefix, causal, None if causal and n_query > 1 else attention_mask, device
    )


# ---------------------------------------------------------------- 2.5

front = Exercise(
    id="2.5",
    target="minitransformer.models.attention:prepend",
    title="A prefix in front",
    minutes=15,
    difficulty=2,
    purpose="Here prefix tuning enters the model: keys and values that nobody wrote are put in front of those of the text, "
    "K ← [P_K; K], V ← [P_V; V], and every token reads them. `Attention.forward` calls this function with the text's keys and "
    "values, and goes on with what it gives.",
    given=(
        "check_prefix(prefix, batch, n_head, d_head): refuses a prefix that does not fit.",
        "prefix.k.to(dtype): the same values in another kind of number, that of k; without a copy if it is the same.",
    ),
    hints=(
        "Two things: refuse a prefix that does not fit (check_prefix), and put its keys in front of k, its values in front of v.",
        "One prefix serves the whole batch: its first axis may be 1 where k has B. torch.cat does not broadcast; expand "
        "does it without copying. Which axis counts the columns?",
        "    B, H, S, D = k.shape\n"
        "    check_prefix(prefix, B, H, D)\n"
        "    shared = prefix.k.to(k.dtype).expand(B, -1, -1, -1)\n"
        "    k = torch.cat([shared, k], dim=2)  # (B, H, P+S, D)\n"
        "    # and the same for v; then return both",
    ),
    tolerance=1e-5,
)


def random_prefix(length, n_head=2, d_head=3, batch=1):
    """Keys and values, (batch, H, P, D) each."""
    return Prefix(tidy(batch, n_head, length, d_head), tidy(batch, n_head, length, d_head))


def keys_and_values(batch, length, n_head=2, d_head=3):
    """Those of a text, (B, H, S, D) each."""
    return tidy(batch, n_head, length, d_head), tidy(batch, n_head, length, d_head)


@front.case
def one_token_one_column():
    """One token, a prefix of one column, two heads of three numbers."""
    return random_prefix(1), *keys_and_values(1, 1)


@front.case
def one_prefix_for_three_texts():
    """Three texts share a prefix of four columns."""
    return random_prefix(4), *keys_and_values(3, 2)


@front.case
def one_prefix_each():
    """Three texts, each with a prefix of its own."""
    return random_prefix(4, batch=3), *keys_and_values(3, 2)


@front.case
def no_column_at_all():
    """A prefix of length 0."""
    return random_prefix(0), *keys_and_values(2, 3)


@front.case(gradients=True)
def the_prefix_learns():
    """The gradients of the prefix."""
    return random_prefix(4), *keys_and_values(2, 3)


@front.case
def another_kind_of_number():
    """A prefix of float32 before a text of float64, as where a prefix was trained beside a model of another precision."""
    k, v = keys_and_values(2, 3)
    return random_prefix(4), k.double(), v.double()


@front.case
def a_text_of_fewer_digits():
    """A prefix of float32 before a text of bfloat16, as where a base is kept in 16 bits."""
    k, v = keys_and_values(2, 3)
    return random_prefix(4), k.bfloat16(), v.bfloat16()


@front.case
def for_another_width():
    """A prefix for heads of another width is refused."""
    return random_prefix(1, d_head=4), *keys_and_values(1, 2)


@front.case
def for_another_batch():
    """Two prefixes for three texts are refused."""
    return random_prefix(1, batch=2), *keys_and_values(3, 1)


@front.scene
def in_the_model(prepend):
    """Attention over three tokens, with a prefix of two columns: prepend is called by `Attention.forward`."""
    layer, x = Attention(6, 2, causal=True), torch.randn(1, 3, 6)
    return layer(x, prefix=random_prefix(2))


@front.scene
def word_by_word(prepend):
    """A text read word by word with a cache gives what it gives read at once."""
    layer, x, prefix, cache = (
        Attention(6, 2, causal=True),
        torch.randn(1, 3, 6),
        random_prefix(4),
        KVCache(3),
    )
    pieces = [layer(x[:, t : t + 1], prefix=prefix, cache=cache) for t in range(3)]
    return {
        "columns in the cache": cache.length,
        "columns of the prefix": cache.n_prefix,
        "output": torch.cat(pieces, dim=1),
    }


K, V = (
    "[prefix.k.to(k.dtype).expand(B, -1, -1, -1), k]",
    "[prefix.v.to(v.dtype).expand(B, -1, -1, -1), v]",
)
front.slip(
    "not expanded over the batch",
    "Your prefix has one row and the batch has more: torch.cat does not broadcast. expand(B, -1, -1, -1) repeats it for "
    "each row without copying.",
    (K, "[prefix.k.to(k.dtype), k]"),
    (V, "[prefix.v.to(v.dtype), v]"),
)
front.slip(
    "behind the text",
    "Your prefix stands behind the text's keys and values. Without a mask no one would notice, because attention knows no order; but "
    "causality and padding are counted from the front: [prefix; text].",
    (K, "[k, prefix.k.to(k.dtype).expand(B, -1, -1, -1)]"),
    (V, "[v, prefix.v.to(v.dtype).expand(B, -1, -1, -1)]"),
)
front.slip(
    "keys where values belong",
    "You put the prefix's keys in front of the values too. Keys decide how much a prefix is read, values what is read: v takes prefix.v.",
    (V, "[prefix.k.to(v.dtype).expand(B, -1, -1, -1), v]"),
)
front.slip(
    "only the first text",
    "You take row 0 of the prefix for every text. Where each text brings a prefix of its own, expand(B, -1, -1, -1) leaves "
    "it as it is.",
    (K, "[prefix.k[:1].to(k.dtype).expand(B, -1, -1, -1), k]"),
    (V, "[prefix.v[:1].to(v.dtype).expand(B, -1, -1, -1), v]"),
)
front.slip(
    "detached",
    "Your prefix enters without its gradient (detach, .data, torch.tensor), so training could never change it.",
    (K, "[prefix.k.detach().to(k.dtype).expand(B, -1, -1, -1), k]"),
    (V, "[prefix.v.detach().to(v.dtype).expand(B, -1, -1, -1), v]"),
)
front.slip(
    "not checked",
    "A prefix that does not fit reaches torch.cat, whose message speaks of tensors and sizes. check_prefix says in a sentence what "
    "is wrong with the prefix.",
    ("check_prefix(prefix, B, H, D)\n", "pass\n"),
)
front.slip(
    "keys and values exchanged",
    "Your prefix's values stand before the keys, and its keys before the values. A prefix is (k, v): prefix.k belongs to k, prefix.v to v.",
    (K, "[prefix.v.to(k.dtype).expand(B, -1, -1, -1), k]"),
    (V, "[prefix.k.to(v.dtype).expand(B, -1, -1, -1), v]"),
)
front.slip(
    "returned the other way round",
    "You return values and keys. The order is that of the arguments: keys first, then values.",
    ("return k, v", "return v, k"),
)
front.slip(
    "joined along the heads",
    "You join along axis 1, so that the prefix becomes more heads. Columns are axis 2 of (B, H, S, D): dim=2.",
    (K + ", dim=2)", K + ", dim=1)"),
    (V + ", dim=2)", V + ", dim=1)"),
)
front.slip(
    "result not kept",
    "You return the k and v that you were given. What you join has to be returned: k = torch.cat(…), v = torch.cat(…).",
    ("k = torch.cat([prefix", "both_k = torch.cat([prefix"),
    ("v = torch.cat([prefix", "both_v = torch.cat([prefix"),
)
front.slip(
    "repeated for every text",
    "You repeat the prefix B times even where each text brings its own, which makes B · B rows. expand(B, -1, -1, -1) makes B rows of one and leaves "
    "B as they are.",
    (K, "[prefix.k.to(k.dtype).repeat(B, 1, 1, 1), k]"),
    (V, "[prefix.v.to(v.dtype).repeat(B, 1, 1, 1), v]"),
)
front.slip(
    "in the wider kind of number",
    "You join a prefix and a text of different precision. torch.cat gives the wider of the two, so that keys and values of float32 meet queries of bfloat16, "
    "and attention refuses that. Give the prefix the dtype of k.",
    ("prefix.k.to(k.dtype)", "prefix.k"),
    ("prefix.v.to(v.dtype)", "prefix.v"),
)
front.slip(
    "in the prefix's own kind of number",
    "You join a float32 prefix and a text of another precision. torch.cat then gives the wider of the two, and the queries stay in theirs: attention fails or "
    "changes its precision. Give the prefix the dtype of k.",
    (
        K,
        "[prefix.k.expand(B, -1, -1, -1), k.to(torch.promote_types(k.dtype, prefix.k.dtype)).to(prefix.k.dtype)]",
    ),
    (
        V,
        "[prefix.v.expand(B, -1, -1, -1), v.to(torch.promote_types(v.dtype, prefix.v.dtype)).to(prefix.v.dtype)]",
    ),
)
