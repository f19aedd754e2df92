"""Exercises of lesson 9: what is asked, P_θ as keys and values, words as a prefix, the MLP, the prefix in the model, the infix."""

from contextlib import contextmanager, suppress
from unittest import mock

import torch
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import calls
from minitransformer.errors import UserError
from minitransformer.models.attention import Attention, Prefix
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.models.watch import watch_attention
from minitransformer.text.batches import IGNORE, pad_right
from minitransformer.tuning import Infix, activations, attached
from minitransformer.tuning.hooks import before_each_call, check_not_given, is_prefill
from torch import nn

SIZES = {"vocab_size": 9, "n_positions": 12, "n_head": 2, "d_model": 6, "d_ff": 8, "init_std": 0.5}


def small_gpt():
    """A GPT of two layers."""
    return GPT(GPTConfig(**SIZES, n_layer=2))


def small_seq2seq():
    """An encoder–decoder of two layers and one."""
    config = Seq2SeqConfig(
        **SIZES, n_encoder_layer=2, n_decoder_layer=1, pad_id=0, start_id=1, end_id=2
    )
    return Seq2Seq(config)


# ---------------------------------------------------------------- 9.1


def batch_by_loop(prompts, targets, end_id, whole=None):
    """Each place of both tensors by itself."""
    ends = [1] * len(prompts) if whole is None else [int(one) for one in whole]
    width = max(len(x) + len(y) + end for x, y, end in zip(prompts, targets, ends, strict=True))
    ids, labels = (
        torch.full((len(prompts), width), end_id),
        torch.full((len(prompts), width), IGNORE),
    )
    for b, (x, y, end) in enumerate(zip(prompts, targets, ends, strict=True)):
        for i, token in enumerate([*x, *y] + [end_id] * end):
            ids[b, i] = token
            if i >= len(x):
                labels[b, i] = token
    return {"ids": ids, "labels": labels}


asked = Exercise(
    id="9.1",
    target="minitransformer.text.batches.completion:completion_batch",
    title="Only y is asked for",
    minutes=20,
    difficulty=2,
    purpose="z = [x; y; end]: the model reads all of it, but the loss Σ log p(z_i | h_<i) runs over i ∈ Y_idx alone. A place where nothing is "
    "asked has the label IGNORE, every other one its own token (the loss itself compares it with the scores one place earlier). Give "
    "both as a batch, ids and labels.",
    given=(
        "check_pairs(xs, ys): refuses what no batch can be made of.",
        "pad_right(rows, end_id): the ids of rows of different lengths, and a boolean tensor of the same shape, True at what is real.",
        "IGNORE: the label where nothing is asked.",
    ),
    hints=(
        "First the rows [x; y; end] (without the end where y was cut), then one tensor of them, and then the labels: a copy of the ids in "
        "which everything that is not asked for is IGNORE. Two parts are not asked for.",
        "pad_right(rows, end_id) gives the ids and a boolean attention_mask, True at real tokens. Asked is what is real and stands at the "
        "place len(x) or later: compare torch.arange(ids.size(1)) with a column (B, 1) of the prompts' lengths.",
        "whole is all True if it is None.\n"
        "    check_pairs(prompts, targets)\n"
        "    rows = [\n"
        "        [*x, *y, *[end_id] * ends]\n"
        "        for x, y, ends in zip(prompts, targets, whole)\n"
        "    ]\n"
        "    ids, attention_mask = pad_right(rows, end_id)\n"
        "    n_prompt = torch.tensor([len(x) for x in prompts])[:, None]\n"
        "    asked = attention_mask & (torch.arange(ids.size(1)) >= n_prompt)\n"
        "    # the labels are ids.masked_fill(~asked, IGNORE)",
    ),
    oracle=batch_by_loop,
)


@asked.case
def one_pair():
    """x of two tokens, y of one."""
    return [[5, 6]], [[7]], 0


@asked.case
def two_pairs():
    """Two pairs, x and y of different lengths."""
    return [[5, 6, 3], [4]], [[7], [8, 2]], 0


@asked.case
def padded():
    """Two pairs of which the second is filled up."""
    return [[5, 6], [4]], [[7, 3, 8], [2]], 0


@asked.case
def a_cut_target():
    """Two pairs; the second y was cut, so that its row has no end."""
    return [[5], [4]], [[7, 3], [2, 6]], 0, [True, False]


@asked.case
def a_cut_target_that_is_the_longest():
    """Two pairs; the second y was cut, and its row is the longest."""
    return [[5], [4, 3]], [[7], [2, 6, 8]], 0, [True, False]


@asked.case
def another_end():
    """The end is token 9, which also fills up."""
    return [[5, 6], [4]], [[7, 3, 8], [2]], 9


@asked.case
def an_end_within_a_text():
    """The end token within x and within y, where it is asked for like any other token of y."""
    return [[5, 0, 6], [4]], [[7, 0, 3, 8], [2]], 0


@asked.case
def a_cut_target_that_ends_with_the_end():
    """The first y was cut, and the last token that is left of it is the end token."""
    return [[5, 6], [4]], [[7, 0], [2, 3, 8]], 0, [False, True]


@asked.case
def an_empty_target():
    """An empty y: only the end is asked for."""
    return [[5], [4, 6]], [[], [7]], 0


@asked.case
def with_virtual_tokens():
    """Virtual tokens in the prompt."""
    return [[5, -1, -2]], [[7]], 0


@asked.case
def without_prompt():
    """An empty x is refused."""
    return [[]], [[7]], 0


def wrong_batch(
    want=lambda i, n, attention_mask, end: attention_mask & (i >= n),
    length=lambda n: n,
    ends=lambda end: end,
    filled=lambda end: end,
):
    """The function as a learner would write it, with one thing in it replaced."""

    def completion_batch(prompts, targets, end_id, whole=None):
        if not all(prompts):
            raise UserError("A prompt is empty.")
        whole = [True] * len(prompts) if whole is None else whole
        rows = [
            [*x, *y, *[end_id] * ends(int(end))]
            for x, y, end in zip(prompts, targets, whole, strict=True)
        ]
        ids, attention_mask = pad_right(rows, filled(end_id))  # (B, T+1)
        n_prompt = length(torch.tensor([len(x) for x in prompts])[:, None])  # (B, 1)
        asked = want(torch.arange(ids.size(1)), n_prompt, attention_mask, ids == end_id)  # (B, T+1)
        return {"ids": ids, "labels": ids.masked_fill(~asked, IGNORE)}

    return completion_batch


@asked.mistake
def x_is_asked_too(*arguments):
    """You ask for x too: the loss then counts the instruction or the table, which nobody wants the model to write, and a long x drowns y. Labels at x are IGNORE."""
    return wrong_batch(want=lambda i, n, attention_mask, end: attention_mask)(*arguments)


@asked.mistake
def padding_is_asked(*arguments):
    """You ask for the padding too: the model would be paid for writing end after end, most of all behind short texts. What is not real (attention_mask) is IGNORE."""
    return wrong_batch(want=lambda i, n, attention_mask, end: (i >= n).expand_as(attention_mask))(
        *arguments
    )


@asked.mistake
def ending_not_asked(*arguments):
    """Every end token is ignored, the real one, too, for padding has the same id. Then the model never learns to stop. Ask attention_mask, not the id, what is padding."""
    return wrong_batch(want=lambda i, n, attention_mask, end: attention_mask & (i >= n) & ~end)(
        *arguments
    )


@asked.mistake
def ends_within_a_text_not_asked(prompts, targets, end_id, whole=None):
    """You ignore whatever has the id of the end token, and put the last one back. The end token may stand within y, too, and is asked for there like any other token: ask attention_mask, not the id, what is padding."""
    batch = wrong_batch()(prompts, targets, end_id, whole)
    labels = batch["labels"].masked_fill(batch["ids"] == end_id, IGNORE)
    for row, (x, y) in enumerate(zip(prompts, targets, strict=True)):
        if whole is None or whole[row]:
            labels[row, len(x) + len(y)] = end_id
    return {"ids": batch["ids"], "labels": labels}


@asked.mistake("ends within a text not asked")
def up_to_the_first_end(prompts, targets, end_id, whole=None):
    batch = wrong_batch()(prompts, targets, end_id, whole)
    labels = batch["labels"]
    ended = (labels == end_id).cumsum(dim=1)
    after = ended - (labels == end_id).long() > 0
    return {"ids": batch["ids"], "labels": labels.masked_fill(after, IGNORE)}


@asked.mistake
def no_end(*arguments):
    """There is no end token behind y, so that the model never learns to stop: the row is [x; y; end]."""
    return wrong_batch(ends=lambda end: 0)(*arguments)


@asked.mistake
def a_cut_text_ends(*arguments):
    """You put an end behind a y that was cut. It does not end there, and the model would learn to stop in the middle: `whole` says of each whether it ends."""
    return wrong_batch(ends=lambda end: 1)(*arguments)


@asked.mistake
def an_end_that_is_not_asked(prompts, targets, end_id, whole=None):
    """You put an end behind a y that was cut, and only give it the label IGNORE. Its row is [x; y], without the end: otherwise the batch becomes wider than its longest row."""
    batch = wrong_batch(ends=lambda end: 1)(prompts, targets, end_id)
    for row, (x, y) in enumerate(zip(prompts, targets, strict=True)):
        if whole is not None and not whole[row]:
            batch["labels"][row, len(x) + len(y)] = IGNORE
    return batch


@asked.mistake
def filled_up_with_zeros(*arguments):
    """You fill the rows up with 0 whatever the caller's end token is. end_id fills up: a model may have no token 0, or mean something by it."""
    return wrong_batch(filled=lambda end: 0)(*arguments)


@asked.mistake("filled up with IGNORE")
def filled_up_with_ignore(*arguments):
    """You fill the ids up with IGNORE. That is no token, and no row of the embedding: only the labels know it. The ids are filled up with end_id."""
    return wrong_batch(filled=lambda end: IGNORE)(*arguments)


@asked.mistake
def ids_overwritten(*arguments):
    """Your labels are the same tensor as the ids, so that IGNORE lands in both, and the model is given no token to read. Make a copy first: masked_fill, torch.where and clone() do."""
    labels = wrong_batch()(*arguments)["labels"]
    return {"ids": labels, "labels": labels}


@asked.mistake
def cut_into_inputs_and_targets(*arguments):
    """You cut off the last id and the first label, as one does where label i is the token after i. Here ids and labels are one and the same text, (B, T+1); the loss compares them one place apart."""
    batch = wrong_batch()(*arguments)
    return {"ids": batch["ids"][:, :-1], "labels": batch["labels"][:, 1:]}


@asked.mistake
def lengths_in_one_row(*arguments):
    """Your prompts' lengths are (B), and meet the places (T+1): with several rows PyTorch compares row b's length with place b, or not at all. As a column, (B, 1), each row has its own."""
    return wrong_batch(length=lambda n: n[:, 0])(*arguments)


@asked.mistake
def none_not_looked_at(prompts, targets, end_id, whole=None):
    """You go through `whole` as if it were always a list. It is None where every y is whole, as it mostly is."""
    return wrong_batch()(prompts, targets, end_id, list(iter(whole)))


@asked.mistake
def first_token_missing(*arguments):
    """The first token of y is not asked for: you begin one too late. It stands at the place len(x), and is what follows x."""
    return wrong_batch(want=lambda i, n, attention_mask, end: attention_mask & (i > n))(*arguments)


@asked.mistake
def last_of_x_asked(*arguments):
    """You begin one too early, and ask for the last token of x, too. Labels are not shifted here (the loss does that): y begins at the place len(x)."""
    return wrong_batch(want=lambda i, n, attention_mask, end: attention_mask & (i >= n - 1))(
        *arguments
    )


@asked.mistake
def longest_prompt_for_all(*arguments):
    """You ignore as many places in every row as the longest prompt has: the beginning of y is lost wherever x is shorter. Each row has its own length, (B, 1)."""
    return wrong_batch(length=lambda n: n.max())(*arguments)


@asked.mistake
def shifted_twice(*arguments):
    """Your labels are shifted by one place, as if label i were the token after i. The loss shifts them itself (scores at i − 1 are about z_i); twice, and the model is asked for the word after the next."""
    batch = wrong_batch()(*arguments)
    labels = torch.full_like(batch["labels"], IGNORE)
    labels[:, :-1] = batch["labels"][:, 1:]
    return {"ids": batch["ids"], "labels": labels}


# ---------------------------------------------------------------- 9.2


def prefixes_by_loop(flat, n_layer, n_head):
    """Cut out piece by piece."""
    prefixes = []
    for layer in flat.chunk(n_layer, dim=1):
        key, value = layer.chunk(2, dim=1)  # (P, C)
        prefixes.append(
            Prefix(*(torch.stack(part.chunk(n_head, dim=1))[None] for part in (key, value)))
        )
    return prefixes


unpack = Exercise(
    id="9.2",
    target="minitransformer.tuning.prefix:to_prefixes",
    title="P_θ as keys and values",
    minutes=15,
    difficulty=2,
    purpose="h_i = P_θ[i, :] for i ∈ P_idx: what others read of a virtual token is a key and a value in every layer, 2 · L · C numbers, "
    "and those are its row of the table. This function unpacks the table into what attention takes: for each layer a Prefix of keys and "
    "values, cut into heads, with a batch axis of 1, since one prefix serves all texts.",
    hints=(
        "The last axis holds layer after layer, in it key before value, in it head after head, in it D numbers. Give each of these an axis of "
        "its own, and then bring the axes into the wanted order.",
        "flat.view(P, n_layer, 2, n_head, -1) has the axes (P, layer, key or value, head, D). Wanted are layer and key or value outside, "
        "and (head, P, D) inside: permute.",
        "    parts = flat.view(len(flat), n_layer, 2, n_head, -1)\n"
        "    parts = parts.permute(1, 2, 3, 0, 4)  # (layer, 2, H, P, D)\n"
        "    [Prefix(k[None], v[None]) for k, v in parts]",
    ),
    oracle=prefixes_by_loop,
)


@unpack.case
def one_layer():
    """Three virtual tokens, one layer, two heads of one number."""
    return tidy(3, 4), 1, 2


@unpack.case
def wider_heads():
    """Three virtual tokens, one layer, two heads of four numbers."""
    return tidy(3, 16), 1, 2


@unpack.case
def three_layers():
    """One virtual token, three layers, one head of two numbers."""
    return tidy(1, 12), 3, 1


@unpack.case(gradients=True)
def all_sizes_differ():
    """Five virtual tokens, three layers, two heads of four numbers."""
    return tidy(5, 48), 3, 2


@unpack.mistake
def view_in_place_of_permute(flat, n_layer, n_head):
    """You give the table its shape by view or reshape alone. That keeps the order in memory, in which virtual tokens come first, so that pieces of different tokens get mixed up; exchanging axes takes permute."""
    parts = flat.reshape(n_layer, 2, n_head, len(flat), -1)
    return [Prefix(k[None], v[None]) for k, v in parts]


@unpack.mistake
def values_before_keys(flat, n_layer, n_head):
    """Your keys and values are exchanged. Keys decide how much a virtual token is read, values what is read; the key stands first."""
    return [Prefix(v, k) for k, v in prefixes_by_loop(flat, n_layer, n_head)]


@unpack.mistake
def all_keys_first(flat, n_layer, n_head):
    """You take the keys of all layers first and then all values, (P, 2, L, …). In a row a layer's key and value stand side by side: (P, L, 2, …)."""
    parts = flat.view(len(flat), 2, n_layer, n_head, -1).permute(2, 1, 3, 0, 4)
    return [Prefix(k[None], v[None]) for k, v in parts]


@unpack.mistake
def every_second_number(flat, n_layer, n_head):
    """Your heads take every H-th number. A head is D neighbouring numbers: in the view, H stands before D."""
    parts = flat.view(len(flat), n_layer, 2, -1, n_head).permute(1, 2, 4, 0, 3)
    return [Prefix(k[None], v[None]) for k, v in parts]


@unpack.mistake
def keys_and_values_inside_heads(flat, n_layer, n_head):
    """You read a row as head after head with key and value inside each. In a layer all heads of the key come first, then all heads of the value: (P, L, 2, H, D)."""
    parts = flat.view(len(flat), n_layer, n_head, 2, -1).permute(1, 3, 2, 0, 4)
    return [Prefix(k[None], v[None]) for k, v in parts]


@unpack.mistake
def plain_pairs(flat, n_layer, n_head):
    """You return plain tuples. Attention reads prefix.k and prefix.v by name: each is a Prefix(k, v)."""
    return [tuple(prefix) for prefix in prefixes_by_loop(flat, n_layer, n_head)]


@unpack.mistake
def tokens_last(flat, n_layer, n_head):
    """Your virtual tokens stand behind the D numbers of a head, (1, H, D, P). Each is a column with D numbers: (1, H, P, D)."""
    return [
        Prefix(k.transpose(2, 3), v.transpose(2, 3))
        for k, v in prefixes_by_loop(flat, n_layer, n_head)
    ]


@unpack.mistake
def no_batch_axis(flat, n_layer, n_head):
    """Your keys and values are (H, P, D). Attention expands a prefix over the batch, for which it needs an axis of 1 in front: (1, H, P, D)."""
    return [Prefix(k[0], v[0]) for k, v in prefixes_by_loop(flat, n_layer, n_head)]


@unpack.mistake
def tokens_before_heads(flat, n_layer, n_head):
    """Your virtual tokens stand before the heads, (1, P, H, D): attention would put heads where it counts columns. Wanted is (1, H, P, D)."""
    return [
        Prefix(k.transpose(1, 2), v.transpose(1, 2))
        for k, v in prefixes_by_loop(flat, n_layer, n_head)
    ]


@unpack.mistake
def one_layer_for_all(flat, n_layer, n_head):
    """Every layer gets the keys and values of the first. Each has its own 2 · C numbers in a row; that is what a prefix has beyond a soft prompt."""
    return prefixes_by_loop(flat, n_layer, n_head)[:1] * n_layer


@unpack.mistake
def detached_table(flat, n_layer, n_head):
    """Your keys and values have lost the table's gradient (detach, .data, torch.tensor), and the table is all there is to train."""
    return prefixes_by_loop(flat.detach(), n_layer, n_head)


# ---------------------------------------------------------------- 9.3


def keys_and_values_by_hand(layer, x, context=None):
    """The formula's W^K and W^V one by one, and head after head."""
    read = x if context is None else context
    C = x.size(-1)
    parts = []
    for first in (C, 2 * C):  # the rows of W^K, those of W^V
        y = read @ layer.qkv.weight[first : first + C].T + layer.qkv.bias[first : first + C]
        parts.append(torch.stack(y.chunk(layer.n_head, dim=-1), dim=1))
    return Prefix(*parts)


words = Exercise(
    id="9.3",
    target="minitransformer.tuning.prefix:keys_and_values_of",
    title="Words as a prefix",
    minutes=15,
    difficulty=2,
    purpose="A prefix that begins as real words begins as their activations: not as their embeddings, but as the keys and values that they "
    "have in every layer. Set to them, it is those words. This function is called in each layer of attention while the words are read, and gives "
    "the keys and values that the layer makes of them.",
    hints=(
        "A layer makes queries, keys and values of what it reads by one stacked map, layer.qkv, and split_heads cuts them into heads. Whose "
        "keys and values does cross-attention read?",
        "Read is x, the text itself, unless there is a context. layer.qkv(read) is (B, T, 3·C): queries, keys, values side by side; "
        "split_heads(…, 3, layer.n_head) gives the three, (B, H, T, D) each.",
        "    read = x if context is None else context\n"
        "    _, k, v = split_heads(layer.qkv(read), 3, layer.n_head)\n"
        "    return Prefix(k, v)",
    ),
    given=(
        "layer.qkv(read): queries, keys and values of what is read, (B, T, C) → (B, T, 3·C), side by side.",
        "split_heads(stacked, n_part, n_head): cuts (B, T, n_part·C) into a tuple of n_part tensors (B, H, T, D).",
        "Prefix(k, v): a pair of keys and values, which attention reads by name.",
    ),
    oracle=keys_and_values_by_hand,
)


def attention(n_head=2):
    """An attention of width 6 whose bias is not 0."""
    layer = Attention(6, n_head)
    with torch.no_grad():
        layer.qkv.bias.copy_(tidy(18))
    return layer


@words.case
def four_words():
    """Four words, two heads of three numbers."""
    return attention(), tidy(1, 4, 6)


@words.case
def one_word():
    """One word."""
    return attention(), tidy(1, 1, 6)


@words.case
def read_across():
    """Cross-attention: two words of a target read a source of three."""
    return attention(), tidy(1, 2, 6), tidy(1, 3, 6)


@words.case
def two_at_once():
    """Two texts of three words, three heads of two numbers."""
    return attention(3), tidy(2, 3, 6)


@words.case(gradients=True)
def what_is_read_learns():
    """The gradient of what is read."""
    return attention(), tidy(1, 2, 6)


@words.scene(tolerance=1e-4)
def set_to_real_words(keys_and_values_of):
    """A text behind a prefix that is set to three words: as behind the words themselves."""
    base, instruction, text = small_gpt().eval(), torch.tensor([[5, 1, 7]]), torch.tensor([[3, 8]])
    return base(text, prefix=activations(base, instruction)["prefix"])


SPLIT = "_, k, v = split_heads(layer.qkv(read), 3, layer.n_head)"
READ = "read = x if context is None else context"
words.slip(
    "keys and values exchanged",
    "You have exchanged keys and values: of the three parts the second are the keys, the third the values.",
    (SPLIT, "_, v, k = split_heads(layer.qkv(read), 3, layer.n_head)"),
)
words.slip(
    "queries as keys",
    "You give the queries in place of the keys. A query is what a position asks; what others read of it are its key and its value, the second and "
    "third of the parts.",
    (SPLIT, "k, _, v = split_heads(layer.qkv(read), 3, layer.n_head)"),
)
words.slip(
    "embeddings in place of activations",
    "You give the vectors that the layer reads, not the keys and values that it makes of them. A prefix stands where keys and values stand: "
    "layer.qkv comes first.",
    (SPLIT, "k, v = split_heads(torch.cat([read, read], dim=-1), 2, layer.n_head)"),
)
words.slip(
    "target in place of the source",
    "In cross-attention you read x. Its keys and values come from the context; x gives only the queries.",
    (READ, "read = x"),
)
words.slip(
    "always the context",
    "You read the context in every case. In self-attention there is none, it is None there: keys and values come from x.",
    (READ, "read = context"),
)
words.slip(
    "not cut into heads",
    "Your keys and values are (B, T, C), all heads side by side; a Prefix has them in heads, (B, H, T, D).",
    (SPLIT, "_, k, v = layer.qkv(read).chunk(3, dim=-1)"),
)
words.slip(
    "queries and keys",
    "You take the first two of the three parts, queries and keys. Keys and values are the second and the third.",
    (SPLIT, "k, v, _ = split_heads(layer.qkv(read), 3, layer.n_head)"),
)
words.slip(
    "nothing returned",
    "You make the Prefix and do not return it. return Prefix(k, v).",
    ("return Prefix(k, v)", "Prefix(k, v)"),
)
words.slip(
    "plain pairs",
    "You return a plain tuple. Attention reads prefix.k and prefix.v by name: Prefix(k, v).",
    ("return Prefix(k, v)", "return (k, v)"),
)
words.slip(
    "a tensor asked whether it is true",
    "Python cannot say whether a tensor of many numbers is true, as `if context` and `context or x` ask. Ask whether it is there: "
    "context is None.",
    (READ, "read = context or x"),
)
words.slip(
    "no bias",
    "You multiply by the weights of layer.qkv and leave its bias out. Called, layer.qkv(read), it adds it.",
    ("layer.qkv(read)", "(read @ layer.qkv.weight.T)"),
)
words.slip(
    "only the last word",
    "You give the last position alone. In a prefix every word is a virtual token with a key and a value of its own.",
    ("return Prefix(k, v)", "return Prefix(k[:, :, -1:], v[:, :, -1:])"),
)

# ---------------------------------------------------------------- 9.4

encoder = Exercise(
    id="9.4",
    target="minitransformer.tuning.prefix:PrefixEncoder.__init__",
    title="Reparametrisation",
    minutes=15,
    difficulty=2,
    purpose="P_θ is hard to train by itself; while it is trained, an MLP makes it from a smaller matrix, P_θ[i, :] = MLP_θ(P'_θ[i, :]), and all rows and "
    "layers move together. You make what is trained: `start` (P, width) is what P_θ should begin as, `hidden` the width inside the MLP, or "
    "None for a free P_θ, d_small the width of P'_θ. `fit` says whether `start` matters to the MLP: then self.fit(start) brings MLP and P'_θ there "
    "(it is written already, and so is forward).",
    hints=(
        "Two kinds of encoder in one class: with `hidden` None it is one parameter, a copy of `start`. Otherwise two things are trained, P'_θ and the "
        "MLP, and `start` matters only to the fit. What an optimizer is to find has to be an nn.Parameter or an nn.Module.",
        "super().__init__() comes first. Free: self.free = nn.Parameter(start.clone()), and no more. Otherwise self.free = None, self.small with P rows "
        "of d_small numbers, and self.mlp from d_small over hidden to width, with Tanh between; where fit is True, self.to(start) and self.fit(start).",
        "    self.small = nn.Parameter(torch.randn(P, d_small))\n"
        "    self.mlp = nn.Sequential(\n"
        "        nn.Linear(d_small, hidden), nn.Tanh(), nn.Linear(hidden, width)\n"
        "    )\n"
        "    if fit:\n"
        "        self.to(start).fit(start)",
    ),
    given=(
        "nn.Module: what a PrefixEncoder is. The __init__ of nn.Module takes nothing, and comes first.",
        "self.to(start): moves the module to where `start` lies, and into its precision; gives the module.",
        "self.fit(start): trains MLP and P'_θ until they give `start`, as nearly as they can.",
    ),
)


def numbered(module):
    """A module with known numbers in place of random ones."""
    with torch.no_grad():
        for _, p in sorted(module.named_parameters()):
            p.copy_(torch.linspace(-1, 1.5, p.numel()).view(p.shape))
    return module


@contextmanager
def fitted_at_once(PrefixEncoder):
    """While the block runs, fit solves for the last map, where it can: its 200 steps take long."""
    slowly = PrefixEncoder.fit

    def fit(self, target, steps=200):
        with torch.no_grad(), suppress(AttributeError, RuntimeError, TypeError, ValueError):
            *inside, last = self.mlp
            before = last.weight.clone(), last.bias.clone()
            read = nn.Sequential(*inside)(self.small)
            read = torch.cat([read, torch.ones_like(read[:, :1])], dim=1)
            found = torch.linalg.lstsq(read, target).solution
            last.weight.copy_(found[:-1].T)
            last.bias.copy_(found[-1])
            if (self() - target).square().mean() < 1e-4:
                return
            last.weight.copy_(before[0])
            last.bias.copy_(before[1])
        slowly(self, target, steps)

    with mock.patch.object(PrefixEncoder, "fit", fit):
        yield


@encoder.scene
def free_numbers(PrefixEncoder):
    """A free P_θ for two virtual tokens; then it is changed."""
    start = tidy(2, 3)
    made = PrefixEncoder(start, None, 0, False)
    before = made().detach().clone()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(1)
    return {
        "P_θ": before,
        "P_θ after training": made().detach(),
        "the tensor that was given": start,
    }


@encoder.scene
def what_is_trained(PrefixEncoder):
    """What training changes, with an MLP of width 5 and P'_θ of width 3."""
    made = PrefixEncoder(tidy(2, 4), 5, 3, False)
    return {name: tuple(p.shape) for name, p in sorted(made.named_parameters())}


@encoder.scene
def by_the_formula(PrefixEncoder):
    """P_θ of known numbers; again after they were changed; and the gradients."""
    made = numbered(PrefixEncoder(tidy(2, 4), 5, 3, False))
    first = made().detach().clone()
    with torch.no_grad():
        for _, p in sorted(made.named_parameters()):
            p.mul_(0.5)
    then = made()
    then.square().sum().backward()
    return {
        "P_θ": first,
        "P_θ after the change": then.detach(),
        "gradients": {name: p.grad for name, p in sorted(made.named_parameters())},
    }


@encoder.scene(tolerance=0.1)
def how_the_small_one_begins(PrefixEncoder):
    """The numbers that P'_θ begins with, 128 rows of 32."""
    small = PrefixEncoder(5 + tidy(128, 40), 2, 32, False).small.detach()
    return {
        "mean of the numbers in P'_θ": round(small.mean().item(), 2),
        "standard deviation of all of them": round(small.std().item(), 2),
        "standard deviation of each column, their mean": round(small.std(dim=0).mean().item(), 2),
        "whether some of the numbers in P'_θ are 0": bool((small == 0).any()),
        "whether some of them are negative": bool((small < 0).any()),
    }


@encoder.scene
def fitted_to_words(PrefixEncoder):
    """Fitted to numbers, made while gradients are switched off: is the mean square error below 0.01?"""
    start = 2 * tidy(3, 4)
    with torch.no_grad(), fitted_at_once(PrefixEncoder):
        made = PrefixEncoder(start, 16, 4, True)
    return {
        "whether the mean square error is below 0.01": bool((made() - start).square().mean() < 0.01)
    }


@encoder.scene
def in_double_precision(PrefixEncoder):
    """Fitted to float64 numbers: the precision of each part."""
    with fitted_at_once(PrefixEncoder):
        made = PrefixEncoder(tidy(2, 4).double(), 5, 3, True)
    return {name: str(p.dtype) for name, p in sorted(made.named_parameters())}


@encoder.scene
def nothing_to_fit(PrefixEncoder):
    """With fit=False: is it far from `start`, as it fell out?"""
    start = 5 + tidy(3, 4)
    return {
        "whether the mean square error is above 1": bool(
            (PrefixEncoder(start, 16, 4, False)() - start).square().mean() > 1
        ),
    }


encoder.slip(
    "start not copied",
    "Your free P_θ is the tensor `start` itself, not a copy: training changes what it was started from. start.clone().",
    ("start.clone()", "start"),
)
encoder.slip(
    "P_θ not trained",
    "Your free P_θ is a plain tensor: no optimizer finds it, and it is not saved. A PrefixEncoder is an nn.Module, and nn.Parameter(start.clone()) makes P_θ a part of it.",
    ("nn.Parameter(start.clone())", "start.clone()"),
)
encoder.slip("P_θ not trained", "", ("nn.Parameter(start.clone())", "start"))
encoder.slip(
    "P'_θ not trained",
    "P'_θ is a plain tensor: no optimizer finds it, it is not saved, and it does not move with .to(device). nn.Parameter makes it a part of the module.",
    ("nn.Parameter(torch.randn(P, d_small))", "torch.randn(P, d_small)"),
)
encoder.slip(
    "handed on to nn.Module",
    "You hand `start` and the rest on to super().__init__. A PrefixEncoder is an nn.Module, and its own __init__ takes nothing: super().__init__().",
    ("super().__init__()", "super().__init__(start, hidden, d_small, fit)"),
)
encoder.slip(
    "P'_θ as wide as the MLP",
    "P'_θ has rows of `hidden` numbers. `hidden` is the width inside the MLP; P'_θ has d_small numbers in a row, and the MLP begins with a map from d_small to hidden.",
    ("torch.randn(P, d_small)", "torch.randn(P, hidden)"),
    ("nn.Linear(d_small, hidden)", "nn.Linear(hidden, hidden)"),
)
encoder.slip(
    "no bend between the maps",
    "Two linear maps after one another are one linear map. Between them stands Tanh.",
    ("nn.Tanh()", "nn.Identity()"),
)
encoder.slip(
    "another bend",
    "Between the two maps stands another function than Tanh. ReLU would leave half of the numbers without a gradient; 003's authors take Tanh.",
    ("nn.Tanh()", "nn.ReLU()"),
)
encoder.slip(
    "not fitted",
    "With fit=True your P_θ is as random as it fell out. A prefix that is to begin as words would begin as noise: fit MLP and P'_θ to `start` first.",
    ("self.to(start).fit(start)", "self.to(start)"),
)
encoder.slip(
    "left where it was made",
    "You fit, but MLP and P'_θ stay on the processor and in float32, also where the base, and so `start`, lies on another device or has another "
    "precision. self.to(start) comes before the fit.",
    ("self.to(start).fit(start)", "self.fit(start)"),
)
SMALL = "torch.randn(P, d_small)"
encoder.slip(
    "begins at zero",
    "P'_θ begins as zeros. The MLP then gives the same keys and values for every virtual token: P times the same one. Standard normal random numbers "
    "make each another: torch.randn.",
    (SMALL, "torch.zeros(P, d_small)"),
)
encoder.slip(
    "begins as ones",
    "P'_θ begins as ones. All its rows are alike, and so are the virtual tokens that the MLP makes of them. Standard normal random numbers make each "
    "another: torch.randn.",
    (SMALL, "torch.ones(P, d_small)"),
)
encoder.slip(
    "begins almost at zero",
    "The numbers of P'_θ begin far too small, as one begins embeddings: the MLP, made for inputs of size 1, then gives nearly the same for every "
    "virtual token. They have the standard deviation 1: torch.randn, without a factor.",
    (SMALL, "0.02 * torch.randn(P, d_small)"),
)
encoder.slip(
    "uniform in place of normal",
    "torch.rand gives numbers between 0 and 1, all equally likely. Wanted is the standard normal distribution, which is torch.randn: mean 0, standard "
    "deviation 1, negative as often as positive.",
    (SMALL, "torch.rand(P, d_small)"),
)
encoder.slip(
    "one row for all",
    "Every row of P'_θ begins alike, so that all virtual tokens are one and the same at first. Each row has random numbers of its own.",
    (SMALL, "torch.randn(1, d_small).repeat(P, 1)"),
)
encoder.slip(
    "no module yet",
    "PyTorch notes parameters in what nn.Module's own __init__ makes, and you never call it: super().__init__() comes first.",
    ("super().__init__()\n", "pass\n"),
)
encoder.slip(
    "free left out",
    "With an MLP there is no attribute `free`, and forward asks for it, to see which kind of encoder this is. self.free = None says that P_θ "
    "is not free.",
    ("self.free = None\n", "pass\n"),
)
encoder.slip(
    "started at random",
    "Your free P_θ ignores `start`. Also without an MLP P_θ begins as `start`, whatever `fit` says: fit is about the MLP.",
    ("nn.Parameter(start.clone())", "nn.Parameter(torch.randn(P, width))"),
)
encoder.slip(
    "a Tanh too many",
    "A second Tanh stands behind the last map: your keys and values could never be larger than 1. Linear, Tanh, Linear.",
    ("nn.Linear(hidden, width))", "nn.Linear(hidden, width), nn.Tanh())"),
)
encoder.slip(
    "fitted in any case",
    "You fit the MLP to `start` also where fit is False: there `start` is noise, and an MLP that was fitted to noise is a worse beginning than a fresh one.",
    ("        if fit:", "        if True:"),
)
encoder.slip(
    "free in any case",
    "Your P_θ is free also where `hidden` asks for an MLP: nothing is reparametrised.",
    ("        if hidden is None:", "        if True:"),
)

# ---------------------------------------------------------------- 9.5

give = Exercise(
    id="9.5",
    target="minitransformer.tuning.prefix:PrefixTuning.install",
    title="The prefix goes in",
    minutes=20,
    difficulty=3,
    purpose="The base knows nothing of tuning: a hook hands it the prefix, as arguments that it takes anyway. self.prefixes() gives them (slot → a Prefix for "
    "each layer), before_each_call(base, change) makes a hook of a function from inputs to inputs, and what is returned here, a list of the "
    "hooks' handles, lets detach() take them out. A prefix that the caller gives, too, is refused.",
    hints=(
        "Write a function inside: it gets the call's inputs by name, and returns them with the prefix among them. When must it leave them as they are? "
        "And when has the prefix to be computed: once, or at every call?",
        'is_prefill(inputs.get("cache")) is True without a cache, and at the first call with one; at later calls the cache has the prefix '
        "already. The table changes with every training step, so self.prefixes() belongs inside the function.",
        "    def give(inputs):\n"
        '        if not is_prefill(inputs.get("cache")):\n'
        "            return inputs\n"
        "        check_not_given(self, inputs, self.encoders)\n"
        "        return {**inputs, **self.prefixes()}\n"
        "\n"
        "    return [before_each_call(base, give)]",
    ),
    given=(
        "self.prefixes(): the prefix as it is now, slot → a list with a Prefix for each layer. A slot is the name of an argument of the base.",
        "before_each_call(base, change): hooks in `change`, a function from the call's inputs, a dictionary by argument, to what the base is given instead. It gives the hook's handle.",
        "is_prefill(cache): True without a cache (None), and while the cache is empty.",
        "check_not_given(self, inputs, names): refuses what the caller gives under one of these names; None counts as not given.",
        "self.encoders: a dictionary whose keys are the slots of this prefix.",
    ),
    tolerance=1e-4,
)


def given_to(base, *arguments, **inputs):
    """What a base is given with all that is on it, but for the cache, and what comes out."""
    given = {}

    def note(module, args, inputs):
        given.update({f"given: {name}": value for name, value in inputs.items() if name != "cache"})

    handle = base.register_forward_pre_hook(note, with_kwargs=True)
    try:
        output = base(*arguments, **inputs)
    finally:
        handle.remove()
    return {**given, "output": output}


@give.scene
def one_text(PrefixTuning):
    """Two words behind a prefix of one virtual token."""
    base = small_gpt()
    with attached(base, PrefixTuning(1)):
        return given_to(base, torch.tensor([[3, 5]]))


@give.scene
def share_of_attention(PrefixTuning):
    """λ, the share of its attention that each query gives to the prefix, by head, in each layer."""
    base = small_gpt()
    with attached(base, PrefixTuning(2)), watch_attention(base) as maps:
        base(torch.tensor([[3, 5, 1]]))
    return {name: calls[0][0, :, :, :-3].sum(-1) for name, calls in maps.items()}


@give.scene
def with_a_cache(PrefixTuning):
    """Written with a cache: two words, then one."""
    base = small_gpt()
    cache = base.new_cache()
    with attached(base, PrefixTuning(2)):
        first, then = (given_to(base, torch.tensor([ids]), cache=cache) for ids in ([3, 5], [1]))
    return {
        "inputs and output of the first call": first,
        "inputs and output of the second call": then,
        "columns in the cache": cache[0].length,
        "columns of the prefix": cache[0].n_prefix,
    }


@give.scene
def after_a_change(PrefixTuning):
    """P'_θ gets other numbers after the prefix was attached, as in training."""
    base, method = small_gpt(), PrefixTuning(2, reparametrise=3)
    with attached(base, method):
        method.encoders["prefix"].small.data.mul_(-1)
        return base(torch.tensor([[3, 5]]))


@give.scene
def two_training_steps(PrefixTuning):
    """Two steps of training."""
    base, method = small_gpt(), PrefixTuning(2)
    losses = []
    with attached(base, method):
        optimizer = torch.optim.SGD(method.trainable(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            loss = base(torch.tensor([[3, 5, 1]])).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {"losses": losses, "P_θ": method.encoders["prefix"]().detach()}


@give.scene
def in_an_encoder_decoder(PrefixTuning):
    """An encoder–decoder: source and target."""
    base = small_seq2seq()
    with attached(base, PrefixTuning(2)):
        return base(torch.tensor([[1, 4]]), source=torch.tensor([[3, 5, 7]]))


@give.scene
def a_second_prefix(PrefixTuning):
    """A prefix given beside this one is refused."""
    base = small_gpt()
    other = [Prefix(tidy(1, 2, 1, 3), tidy(1, 2, 1, 3)) for _ in range(2)]
    with attached(base, PrefixTuning(2)):
        return base(torch.tensor([[3, 5]]), prefix=other)


@give.scene
def one_in_another_slot(PrefixTuning):
    """A prefix given for the encoder is refused as well."""
    base = small_seq2seq()
    other = [Prefix(tidy(1, 2, 1, 3), tidy(1, 2, 1, 3)) for _ in range(2)]
    with attached(base, PrefixTuning(2)):
        return base(torch.tensor([[1, 4]]), source=torch.tensor([[3, 5, 7]]), encoder_prefix=other)


@give.scene
def none_said_outright(PrefixTuning):
    """Called with prefix=None, which is no prefix."""
    base = small_gpt()
    with attached(base, PrefixTuning(2)):
        return base(torch.tensor([[3, 5]]), prefix=None)


@give.scene
def two_generations(PrefixTuning):
    """In use, two generations one after the other, each with a cache of its own."""
    base, caches = small_gpt().eval(), []
    with attached(base, PrefixTuning(2)):
        for _ in range(2):
            caches.append(base.new_cache())
            logits = base(torch.tensor([[3, 5]]), cache=caches[-1])
    return {
        "scores of the second generation": logits,
        "columns in each cache": [cache[0].length for cache in caches],
    }


@give.scene
def made_once(PrefixTuning):
    """Three calls of a generation with a cache: how often is the prefix made?"""
    base, method = small_gpt(), PrefixTuning(2)
    cache = base.new_cache()
    with attached(base, method), calls(method, "prefixes") as seen, torch.no_grad():
        for token in (3, 5, 1):
            base(torch.tensor([[token]]), cache=cache)
    return {"how often the prefix is made": len(seen)}


@give.scene
def detached_again(PrefixTuning):
    """After detach() the base is what it was."""
    base = small_gpt()
    PrefixTuning(2).attach(base).detach()
    return base(torch.tensor([[3, 5]]))


def wrong_install(
    self,
    base,
    first=True,
    check=True,
    change=lambda inputs, prefixes: {**inputs, **prefixes},
    attention_mask=True,
    when=is_prefill,
):
    """The method as a learner would write it, with one thing in it replaced."""

    def give(inputs):
        if first and not when(inputs.get("cache")):
            return inputs
        if check:
            check_not_given(self, inputs, self.encoders)
        return change(inputs, self.prefixes())

    handle = before_each_call(base, give)
    return [handle] if attention_mask else []


@give.mistake
def made_at_every_call(self, base):
    """You make the prefix at every call, also where it is not handed over. Later calls of a generation find it in the cache, and an MLP would run for every token in vain: call self.prefixes() only where it goes in."""

    def give(inputs):
        prefixes = self.prefixes()
        if not is_prefill(inputs.get("cache")):
            return inputs
        check_not_given(self, inputs, self.encoders)
        return {**inputs, **prefixes}

    return [before_each_call(base, give)]


@give.mistake
def the_handle_alone(self, base):
    """You return the handle itself. A method may have several hooks, so what is returned is a list of their handles, here of one: [before_each_call(…)]."""
    return wrong_install(self, base)[0]


@give.mistake
def inputs_not_given_back(self, base):
    """Your function changes the inputs and returns nothing. What it returns is what the base is called with: return the dictionary, in every case."""
    return wrong_install(self, base, change=lambda inputs, prefixes: inputs.update(prefixes))


@give.mistake
def all_under_one_name(self, base):
    """You give the whole dictionary of self.prefixes() as the one argument `prefix`. It is arguments by name already, one for each slot: {**inputs, **self.prefixes()}."""
    return wrong_install(self, base, change=lambda inputs, prefixes: {**inputs, "prefix": prefixes})


@give.mistake
def one_slot_alone(self, base):
    """You hand over the slot “prefix” alone. An encoder–decoder has three, and all that self.prefixes() gives goes in."""
    return wrong_install(
        self, base, change=lambda inputs, prefixes: {**inputs, "prefix": prefixes["prefix"]}
    )


@give.mistake
def one_slot_checked(self, base):
    """You refuse only what is given as `prefix`. An encoder–decoder has three slots, and what is given for another is silently replaced: check_not_given(self, inputs, self.encoders)."""

    def give(inputs):
        check_not_given(self, inputs, ["prefix"] * is_prefill(inputs.get("cache")))
        return {**inputs, **self.prefixes()} if is_prefill(inputs.get("cache")) else inputs

    return [before_each_call(base, give)]


@give.mistake
def checked_too_late(self, base):
    """You check after your prefix has gone in, and so refuse your own. check_not_given looks at what the caller gave: it comes first."""

    def given(inputs, prefixes):
        check_not_given(self, {**inputs, **prefixes}, self.encoders)
        return {**inputs, **prefixes}

    return wrong_install(self, base, change=given)


@give.mistake
def the_callers_none_wins(self, base):
    """You put the caller's inputs over the prefix, so that prefix=None, which says that there is none, takes it out again. The prefix comes last: {**inputs, **self.prefixes()}."""
    return wrong_install(self, base, change=lambda inputs, prefixes: {**prefixes, **inputs})


@give.mistake
def never_with_a_cache(self, base):
    """Wherever there is a cache you give no prefix. At the first call of a generation the cache is there and still empty, and the prefix has to go in: is_prefill looks whether it is."""
    return wrong_install(self, base, when=lambda cache: cache is None)


@give.mistake
def only_while_training(self, base):
    """You give the prefix only while the base is training. It belongs in front of every text, above all when the model is used."""
    return wrong_install(self, base, when=lambda cache: base.training and is_prefill(cache))


@give.mistake
def only_the_first_generation(self, base):
    """You remember that the prefix has been given, and never give it again to a call with a cache. Each generation has a cache of its own, which begins empty: is_prefill looks at that."""
    given = []

    def when(cache):
        first = cache is None or not given
        given.append(True)
        return first

    return wrong_install(self, base, when=when)


@give.mistake
def a_cache_that_is_not_given(self, base):
    """inputs has only what the caller gave, and mostly that is no cache: inputs["cache"] fails. inputs.get("cache") is None then."""
    handle = before_each_call(
        base,
        lambda inputs: {**inputs, **self.prefixes()} if is_prefill(inputs["cache"]) else inputs,
    )
    return [handle]


@give.mistake
def given_at_every_call(self, base):
    """You hand the prefix over at later calls of a cached generation, too. There the cache has its keys and values already: give it at the first call alone, or it is computed (and in other libraries read) twice."""
    return wrong_install(self, base, first=False)


@give.mistake
def computed_once(self, base):
    """You compute the prefix once, when it is attached. After one training step it is stale, and its gradient's graph is used up: self.prefixes() belongs inside the hook."""
    made = self.prefixes()
    return wrong_install(self, base, change=lambda inputs, prefixes: {**inputs, **made})


@give.mistake("computed once")
def computed_at_the_first_call(self, base):
    kept = {}

    def change(inputs, prefixes):
        if not kept:
            kept.update(prefixes)
        return {**inputs, **kept}

    return wrong_install(self, base, change=change)


@give.mistake
def without_gradient(self, base):
    """Your prefix enters without its gradient (no_grad, detach, .data): it would never learn."""

    def cut_off(inputs, prefixes):
        return {
            **inputs,
            **{
                slot: [Prefix(k.detach(), v.detach()) for k, v in layers]
                for slot, layers in prefixes.items()
            },
        }

    return wrong_install(self, base, change=cut_off)


@give.mistake
def other_inputs_lost(self, base):
    """You return the prefix alone, and the base is then called without its ids. The inputs stay, and the prefix comes on top: {**inputs, **self.prefixes()}."""
    return wrong_install(self, base, change=lambda inputs, prefixes: dict(prefixes))


@give.mistake
def only_with_a_cache(self, base):
    """A call without any cache, as in training, gets no prefix: it has to have one every time. is_prefill(None) is True."""
    return wrong_install(self, base, when=lambda cache: cache is not None and is_prefill(cache))


@give.mistake
def another_prefix_overwritten(self, base):
    """If somebody gives the base a prefix beside this one, yours silently takes its place. check_not_given refuses that, with a sentence."""
    return wrong_install(self, base, check=False)


@give.mistake
def no_handle(self, base):
    """You do not return the hook's handle: detach() cannot take the hook out, and the base stays tuned for ever."""
    return wrong_install(self, base, attention_mask=False)


# ---------------------------------------------------------------- 9.6

infix = Exercise(
    id="9.6",
    target="minitransformer.tuning.infix:replace_kv",
    title="Between x and y",
    minutes=20,
    difficulty=3,
    purpose="An infix is z = [x; INFIX; y]: its virtual tokens stand in the text, and where attention makes keys and values of them, those of P_θ are put "
    "instead. You get a layer's stacked projections, qkv (B, T, 3·C), and give the same with other keys and values at the virtual tokens. The ids say which "
    "virtual token stands where: -1 is number 0, -2 number 1. P_θ (P, L·2·C) has a row for each, in it layer after layer a key and a value.",
    hints=(
        "Three steps: this layer's columns of P_θ, the row that belongs to each place of the text, and a choice between it and what stands there, in the last "
        "2·C columns of qkv.",
        "Layer i has the columns 2·C·i to 2·C·(i + 1). -1 - ids is the number of the virtual token; at words it is negative, and clamp(min=0) makes an index "
        "of it that does no harm. torch.where(mask, a, b) chooses place by place, and the mask needs an axis for the columns: [..., None].",
        "    C = qkv.size(-1) // 3\n"
        "    kv = flat[:, 2 * C * layer : 2 * C * (layer + 1)]\n"
        "    number = (-1 - ids).clamp(min=0)\n"
        "    at = (ids < 0)[..., None]\n"
        "    replaced = torch.where(at, kv[number], qkv[..., C:])\n"
        "    # queries and these, side by side",
    ),
    given=(
        "torch.where(mask, a, b): a where the mask is True, b elsewhere; the three are broadcast against one another.",
        "tensor.clamp(min=0): negative numbers become 0.",
    ),
    tolerance=1e-4,
)


@infix.case
def one_between_two():
    """One virtual token between two words; C is 2, and this is the first of two layers."""
    return tidy(1, 3, 6), torch.tensor([[3, -1, 5]]), tidy(1, 8), 0


@infix.case
def the_second_layer():
    """The same in the second layer."""
    return tidy(1, 3, 6), torch.tensor([[3, -1, 5]]), tidy(1, 8), 1


@infix.case
def two_texts():
    """Two texts, the infix at different places, in the second of three layers."""
    ids = torch.tensor([[3, 4, -1, -2, 5], [6, -1, -2, 7, 1]])
    return tidy(2, 5, 6), ids, tidy(2, 12), 1


@infix.case
def in_another_order():
    """Virtual tokens that stand in another order."""
    return tidy(1, 4, 6), torch.tensor([[3, -2, -1, 5]]), tidy(2, 4), 0


@infix.case
def three_in_one_text():
    """Three virtual tokens, not side by side; C is 4."""
    return tidy(1, 5, 12), torch.tensor([[-1, 3, -2, 0, -3]]), tidy(3, 16), 1


@infix.case
def one_of_them_twice():
    """A virtual token that stands in a text twice."""
    return tidy(1, 5, 6), torch.tensor([[-2, 3, -2, -1, 4]]), tidy(2, 8), 1


@infix.case
def no_virtual_token():
    """A text of words alone stays as it is."""
    return tidy(1, 3, 6), torch.tensor([[3, 0, 5]]), tidy(2, 8), 0


@infix.case(gradients=True)
def all_learn():
    """The gradients of qkv and of P_θ."""
    return tidy(2, 3, 6), torch.tensor([[3, -1, -2], [-2, -1, 4]]), tidy(2, 8), 1


@infix.scene
def x_cannot_see_it(replace_kv):
    """How far the infix moves the scores at x, which stands before it, in a GPT."""
    base = small_gpt()
    plain = base(torch.tensor([[3, 4]]))
    with attached(base, Infix(2)):
        return base(torch.tensor([[3, 4, -1, -2]]))[:, :2] - plain


@infix.scene
def word_by_word(replace_kv):
    """x and the infix first, then y with a cache."""
    base = small_gpt()
    cache = base.new_cache()
    with attached(base, Infix(2)):
        return {
            "scores of the first call": base(torch.tensor([[3, -1, -2]]), cache=cache),
            "scores of the second call": base(torch.tensor([[5]]), cache=cache),
        }


KV = "kv = flat[:, 2 * C * layer : 2 * C * (layer + 1)]"
NUMBER = "number = (-1 - ids).clamp(min=0)"
WHERE = "torch.where((ids < 0)[..., None], kv[number], qkv[..., C:])"
JOINED = "torch.cat([qkv[..., :C], replaced], dim=-1)"
infix.slip(
    "one layer for all",
    "Every layer gets the first layer's keys and values. Layer i has the columns from 2·C·i on.",
    (KV, "kv = flat[:, : 2 * C]"),
)
infix.slip(
    "layers overlap",
    "Your layers overlap: you step by C columns. A layer has a key and a value, 2·C columns, so that layer i begins at 2·C·i.",
    (KV, "kv = flat[:, C * layer : C * (layer + 2)]"),
)
infix.slip(
    "values before keys",
    "You put the value where the key belongs, and the reverse. In qkv and in P_θ the key stands first.",
    ("kv[number]", "kv.roll(C, dims=1)[number]"),
)
infix.slip(
    "queries and keys replaced",
    "You replace the first 2·C columns of qkv, queries and keys. Queries, keys, values stand side by side, so that keys and values are the last 2·C: from "
    "column C on.",
    ("qkv[..., C:])", "qkv[..., : 2 * C])"),
    (JOINED, "torch.cat([replaced, qkv[..., 2 * C :]], dim=-1)"),
)
infix.slip(
    "nothing replaced",
    "qkv comes out as it went in. Perhaps you write into a copy: out[mask][:, C:] = … indexes twice, and the first makes a new tensor. One index does both, "
    "out[mask, C:] = …",
    (JOINED, "qkv.clone()"),
)
infix.slip(
    "nothing returned",
    "You make the new tensor and do not return it: return torch.cat(…).",
    (f"return {JOINED}", JOINED),
)
infix.slip(
    "queries left out",
    "You return keys and values alone, (B, T, 2·C). The queries belong in front of them: the result is as wide as qkv.",
    (JOINED, "replaced"),
)
infix.slip(
    "only the keys",
    "You replace the keys alone. Then a virtual token is found by P_θ's key and says what its zeros say: the value belongs to it, 2·C columns in all.",
    (JOINED, "torch.cat([qkv[..., :C], replaced[..., :C], qkv[..., 2 * C :]], dim=-1)"),
)
infix.slip(
    "only the values",
    "You replace the values alone. How much a virtual token is read is decided by its key: that, too, is P_θ's.",
    (JOINED, "torch.cat([qkv[..., : 2 * C], replaced[..., C:]], dim=-1)"),
)
infix.slip(
    "all keys first",
    "You read P_θ as the keys of all layers and then all values. A layer's key and value stand side by side: layer i has the 2·C columns from "
    "2·C·i on.",
    (KV, "kv = flat.view(len(flat), 2, -1, C)[:, :, layer].flatten(1)"),
)
infix.slip(
    "words lost",
    "Outside the virtual tokens your keys and values are zeros. There they stay what the words gave.",
    ("kv[number], qkv[..., C:])", "kv[number], 0.0)"),
)
infix.slip(
    "words taken for virtual tokens",
    "You replace the keys and values of words, too: you never ask which ids are negative. Only those stand for virtual tokens.",
    ("(ids < 0)[..., None]", "torch.tensor(True)"),
)
infix.slip(
    "word 0 taken for a virtual token",
    "You take the id 0 for a virtual token. It is a word; virtual tokens are -1, -2, …: ids < 0.",
    ("(ids < 0)[..., None]", "(ids <= 0)[..., None]"),
)
infix.slip(
    "the ids as indices",
    "You index P_θ with the ids themselves. Python reads -1 as the last row and -2 as the one before; number 0 is the first row: -1 - ids.",
    (NUMBER, "number = ids.clamp(max=-1)"),
)
infix.slip(
    "in the order of the text",
    "You hand the rows of P_θ out in the order in which the virtual tokens stand. Which row one takes is said by its id.",
    (NUMBER, "number = ((ids < 0).cumsum(dim=1) - 1).clamp(min=0)"),
)
infix.slip(
    "added to what they read",
    "You add P_θ to the keys and values that the virtual tokens have by themselves (as the authors' own code does). In 003's formula h_i is P_θ[i, :] "
    "and nothing else: they are replaced.",
    ("kv[number], qkv[..., C:])", "qkv[..., C:] + kv[number], qkv[..., C:])"),
)
infix.slip(
    "in front of x",
    "You replace the first P positions of the text. That is where a prefix would stand; an infix stands where the text says: where the ids are negative.",
    ("(ids < 0)[..., None]", "(torch.arange(ids.size(1)) < len(flat))[:, None]"),
    (NUMBER, "number = torch.arange(ids.size(1)).clamp(max=len(flat) - 1).expand_as(ids)"),
)
infix.slip(
    "detached",
    "The gradient of P_θ is lost on the way (detach, .data), and P_θ is all there is to train.",
    (KV, "kv = flat.detach()[:, 2 * C * layer : 2 * C * (layer + 1)]"),
)
infix.slip(
    "written into qkv",
    "You write into the tensor that you were given. Its gradient needs it as it was, and whoever holds it sees it changed: make a new one.",
    (f"return {JOINED}", "qkv[..., C:] = replaced\n    return qkv"),
)
