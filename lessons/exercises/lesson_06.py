"""Exercises of lesson 6: start and end tokens, cross-attention, one reading of the source, beam search."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from minitransformer.course.batches.translation import check_pairs
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.attention import Prefix
from minitransformer.models.cache import KVCache
from minitransformer.models.seq2seq import DecoderBlock, DecoderCache, Seq2Seq, Seq2SeqConfig
from minitransformer.text.batches import IGNORE, pad_right
from torch import nn

YES, NO = True, False


def sizes(**others):
    """A tiny encoder–decoder's sizes: 0 pads, 1 starts, 2 ends."""
    tiny = dict(
        vocab_size=12,
        n_positions=8,
        n_encoder_layer=1,
        n_decoder_layer=1,
        n_head=2,
        d_model=4,
        d_ff=6,
    )
    return Seq2SeqConfig(**(tiny | dict(pad_id=0, start_id=1, end_id=2) | others))


def lively(model):
    """A model with larger weights than fresh ones, so that what differs shows."""
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    return model.eval()


def random_prefix(length, batch=1):
    """Keys and values for two heads of two numbers, (batch, H, P, D) each."""
    return Prefix(tidy(batch, 2, length, 2), tidy(batch, 2, length, 2))


# ---------------------------------------------------------------- 6.1


def batch_by_loop(sources, targets, config):
    """Place after place."""
    B, S, T1 = len(sources), max(map(len, sources)), max(map(len, targets)) + 2
    source, ids = torch.full((B, S), config.pad_id), torch.full((B, T1), config.pad_id)
    source_mask, attention_mask = (
        torch.zeros(B, S, dtype=torch.bool),
        torch.zeros(B, T1, dtype=torch.bool),
    )
    labels = torch.full((B, T1), IGNORE)
    for b, (x, y) in enumerate(zip(sources, targets, strict=True)):
        for s, token in enumerate(x):
            source[b, s], source_mask[b, s] = token, True
        for t, token in enumerate([config.start_id, *y, config.end_id]):
            ids[b, t], attention_mask[b, t], labels[b, t] = token, True, token
    return {
        "source": source,
        "source_mask": source_mask,
        "ids": ids,
        "attention_mask": attention_mask,
        "labels": labels,
    }


pairs = Exercise(
    id="6.1",
    target="minitransformer.course.batches.translation:translation_batch",
    title="From start to end",
    minutes=15,
    difficulty=2,
    purpose="A translator reads a source and writes a target. The target begins with a start token and ends with an end token. Without the first the model has "
    "nothing to begin from. Without the second it never learns to stop. Both sides are padded, and padding has no loss.",
    given=(
        "check_pairs(xs, ys, config): refuses pairs that cannot be made into a batch.",
        "pad_right(rows, pad_id): the ids and the mask of rows of different lengths.",
        "config.start_id, config.end_id, config.pad_id: the special tokens.",
    ),
    hints=(
        "There are three steps. Call check_pairs; pad the sources as they are; add a token at both ends of each target, and pad the targets. pad_right gives "
        "the ids and the mask.",
        "A target y is the row [config.start_id, *y, config.end_id]. The labels are the same row, because the loss does the shift by one. They are "
        "IGNORE where attention_mask is False.",
        "Call check_pairs first.\n"
        "    source, source_mask = pad_right(sources, config.pad_id)\n"
        "    rows = [[config.start_id, *y, config.end_id] for y in targets]\n"
        "    ids, attention_mask = pad_right(rows, config.pad_id)\n"
        "    labels = ids.masked_fill(~attention_mask, IGNORE)\n"
        "    # all five by name in a dictionary",
    ),
    oracle=batch_by_loop,
)


@pairs.case
def one_pair():
    """One pair: two tokens become three."""
    return [[5, 6]], [[7, 8, 9]], sizes()


@pairs.case
def an_empty_target():
    """A target without a token: start and end are left."""
    return [[5]], [[]], sizes()


@pairs.case
def two_pairs():
    """Two pairs, padded on both sides."""
    return [[5, 6, 7], [8]], [[9], [10, 11, 3, 4]], sizes()


@pairs.case
def one_token_pads_and_ends():
    """The end token is the padding too."""
    return [[5, 6], [7]], [[8], [9, 10]], sizes(pad_id=2)


@pairs.case
def padding_id_in_a_source():
    """The padding id is a word of the sources, too."""
    return [[0, 6, 0], [7]], [[8], [9, 10]], sizes()


@pairs.case
def end_token_within_a_target():
    """A target has the end token within it and at its end, and the end token is the padding too."""
    return [[5, 6], [7]], [[8, 2, 9, 2], [10]], sizes(pad_id=2)


@pairs.case
def not_in_pairs():
    """Two sources and one target are refused."""
    return [[5], [6]], [[7]], sizes()


def wrong_batch(
    start=True, end=True, ignore="attention_mask", shift=False, around_source=False, checked=True
):
    """The function as a learner would write it, with one thing in it replaced."""

    def translation_batch(sources, targets, config):
        if checked:
            check_pairs(sources, targets, config)
        first, last = [config.start_id] * start, [config.end_id] * end
        if around_source:
            sources = [[config.start_id, *x, config.end_id] for x in sources]
        source, source_mask = pad_right(sources, config.pad_id)
        ids, attention_mask = pad_right(
            [[*first, *y, *last] or [config.pad_id] for y in targets], config.pad_id
        )
        labels = (
            ids.masked_fill(
                ~attention_mask if ignore == "attention_mask" else ids == config.pad_id, IGNORE
            )
            if ignore
            else ids.clone()
        )
        if shift:
            labels = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        return {
            "source": source,
            "source_mask": source_mask,
            "ids": ids,
            "attention_mask": attention_mask,
            "labels": labels,
        }

    return translation_batch


@pairs.mistake
def no_start_token(sources, targets, config):
    """Your targets have no start token. Then the model never learns to predict the first word, and a translation has nothing to begin from."""
    return wrong_batch(start=False)(sources, targets, config)


@pairs.mistake
def no_end_token(sources, targets, config):
    """Your targets have no end token. So the model never learns to stop, and every translation runs on to the limit."""
    return wrong_batch(end=False)(sources, targets, config)


@pairs.mistake
def loss_on_the_padding(sources, targets, config):
    """Your padding has labels. Then short sentences teach the model to predict padding, which is easy, and the loss looks better than it is. The label of padding is IGNORE."""
    return wrong_batch(ignore=None)(sources, targets, config)


@pairs.mistake
def ignored_by_id(sources, targets, config):
    """You ignore every token that has the id of the padding. Where the end token also serves as padding, the true end is ignored too, and the model never learns to stop. attention_mask says which tokens are real."""
    return wrong_batch(ignore="id")(sources, targets, config)


@pairs.mistake
def shifted_already(sources, targets, config):
    """You shift the labels by one. The loss does that itself: it compares place t with the label at t + 1. With your labels each place would learn to predict the token after the next one. A label stands where its token stands."""
    return wrong_batch(shift=True)(sources, targets, config)


@pairs.mistake
def start_and_end_around_the_source(sources, targets, config):
    """You put start and end tokens around the sources too. A source is only read, so it stays as it is."""
    return wrong_batch(around_source=True)(sources, targets, config)


@pairs.mistake
def pairs_not_checked(sources, targets, config):
    """You accept a different number of sources and targets. Then they no longer belong together. Call check_pairs, which refuses that."""
    return wrong_batch(checked=False)(sources, targets, config)


@pairs.mistake
def start_token_ignored(sources, targets, config):
    """You set the label of the start token to IGNORE. This does no harm, because the loss never uses the first label. But it is not what is asked: IGNORE stands at the padding only."""
    batch = wrong_batch()(sources, targets, config)
    batch["labels"][:, 0] = IGNORE
    return batch


@pairs.mistake
def source_mask_read_off_the_ids(sources, targets, config):
    """Your source_mask asks which ids are the padding id. But a source may hold that id as a word. pad_right computes the mask from the lengths instead."""
    batch = wrong_batch()(sources, targets, config)
    return batch | {"source_mask": batch["source"] != config.pad_id}


@pairs.mistake
def ignored_by_id_and_the_end_put_back(sources, targets, config):
    """You ignore whatever has the padding's id, and put the last end token back. An end token within the target is lost that way: attention_mask says what is real."""
    batch = wrong_batch(ignore="id")(sources, targets, config)
    rows = torch.arange(len(batch["ids"]))
    batch["labels"][rows, batch["attention_mask"].sum(1) - 1] = config.end_id
    return batch


@pairs.mistake
def cut_at_the_first_end_token(sources, targets, config):
    """You cut a target where it has the end token. Whatever a target holds is its text: it stays whole, and one end token comes behind it."""
    cut = [y[: y.index(config.end_id)] if config.end_id in y else y for y in targets]
    return wrong_batch()(sources, cut, config)


@pairs.mistake
def no_second_end_token(sources, targets, config):
    """You leave out the end token where a target already has one at its end. Whatever a target holds is its text, and the end token comes behind it in any case."""
    check_pairs(sources, targets, config)
    cut = [y[:-1] if y and y[-1] == config.end_id else y for y in targets]
    return wrong_batch()(sources, cut, config)


@pairs.mistake
def ids_and_labels_are_one(sources, targets, config):
    """Your labels are the same tensor as the ids. When you write IGNORE into the labels, the ids change too, and the decoder gets -100. masked_fill (without _) makes a new tensor."""
    batch = wrong_batch()(sources, targets, config)
    return batch | {"ids": batch["labels"]}


# ---------------------------------------------------------------- 6.2


def layer_by_torch(self, x, context, attention_mask, context_mask, prefix, cross_prefix, cache):
    """PyTorch's own decoder layer, with the same weights."""
    C = x.size(-1)
    layer = nn.TransformerDecoderLayer(
        C, self.attention.n_head, self.mlp.up.out_features, 0.0, F.gelu, batch_first=True
    )
    with torch.no_grad():
        for theirs, ours in ((layer.self_attn, self.attention), (layer.multihead_attn, self.cross)):
            theirs.in_proj_weight.copy_(ours.qkv.weight)
            theirs.in_proj_bias.copy_(ours.qkv.bias)
            theirs.out_proj.load_state_dict(ours.out.state_dict())
    layer.linear1, layer.linear2 = self.mlp.up, self.mlp.down
    layer.norm1, layer.norm2, layer.norm3 = self.norm1, self.norm2, self.norm3
    return layer(
        x,
        context,
        tgt_mask=torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1),
        tgt_key_padding_mask=None if attention_mask is None else ~attention_mask,
        memory_key_padding_mask=None if context_mask is None else ~context_mask,
    )


layer = Exercise(
    id="6.2",
    target="minitransformer.models.seq2seq:DecoderBlock.forward",
    title="One more attention",
    minutes=25,
    difficulty=3,
    purpose="A decoder layer is the layer of a GPT with one more attention in the middle. First the target reads itself. Then it reads the source "
    "(queries from the target, keys and values from the source). Then comes the feed-forward layer. After each of the three stands an Add & Norm.",
    given=(
        "self.attention, self.cross, self.mlp: the sublayers; self.norm1, self.norm2, self.norm3 follow them.",
        "self.attention(x, context, attention_mask, prefix, cache): self.cross is called alike.",
        "drop(y, self.dropout, self.training): dropout of what a sublayer gives.",
        "cache: the pair (own, cross) of their caches, or None.",
    ),
    hints=(
        "The same pattern comes three times, in the post-norm order: y = sublayer(x), then x = norm(x + y), with dropout on y. Which inputs belong to "
        "the self-attention of the target, and which to the cross-attention?",
        "own, cross = cache or (None, None). The self-attention gets x, no context, attention_mask, prefix, own. The cross-attention gets x, the "
        "context, context_mask, cross_prefix, cross. The norms are norm1, norm2, norm3 in that order.",
        "own and cross are the two parts of cache, or both are None.\n"
        "    y = self.attention(x, None, attention_mask, prefix, own)\n"
        "    x = self.norm1(x + drop(y, self.dropout, self.training))\n"
        "    y = self.cross(x, context, context_mask, cross_prefix, cross)\n"
        "    # norm2 likewise\n"
        "    y = self.mlp(x)\n"
        "    # norm3 likewise",
    ),
    oracle=layer_by_torch,
    tolerance=1e-4,
)


def block(dropout=0.0):
    """A decoder layer of width 4 with two heads."""
    return lively(DecoderBlock(sizes(dropout=dropout)))


@layer.case
def one_target_token():
    """One target token, two source tokens."""
    return block(), tidy(1, 1, 4), tidy(1, 2, 4), None, None, None, None, None


@layer.case
def three_target_tokens():
    """Three target tokens, two source tokens."""
    return block(), tidy(1, 3, 4), tidy(1, 2, 4), None, None, None, None, None


@layer.case
def padding_on_both_sides():
    """Two pairs, of which the one has a shorter target and the other a shorter source."""
    attention_mask = torch.tensor([[YES, YES], [YES, NO]])  # (B, T)
    context_mask = torch.tensor([[YES, NO, NO], [YES, YES, YES]])  # (B, S)
    return block(), tidy(2, 2, 4), tidy(2, 3, 4), attention_mask, context_mask, None, None, None


@layer.case(oracle=None)
def prefix_of_the_target():
    """A prefix of one column before the target."""
    return block(), tidy(1, 2, 4), tidy(1, 3, 4), None, None, random_prefix(1), None, None


@layer.case(oracle=None)
def prefix_beside_the_source():
    """A prefix of two columns beside the source."""
    return block(), tidy(1, 2, 4), tidy(1, 3, 4), None, None, None, random_prefix(2), None


@layer.case(gradients=True, oracle=None)
def gradients_of_both_texts():
    """The gradients that reach target and source."""
    return (
        block(),
        tidy(1, 2, 4),
        tidy(1, 3, 4),
        None,
        None,
        random_prefix(1),
        random_prefix(2),
        None,
    )


@layer.case(oracle=None)
def while_training():
    """While it trains, with a dropout of one half."""
    return block(0.5).train(), tidy(1, 2, 4), tidy(1, 3, 4), None, None, None, None, None


@layer.case(oracle=None)
def dropout_at_rest():
    """While it does not train, though it has dropout."""
    return block(0.5), tidy(1, 2, 4), tidy(1, 3, 4), None, None, None, None, None


@layer.scene
def word_by_word(DecoderBlock):
    """Three target tokens, one by one with a cache, and both prefixes."""
    one, x, context, cache = (
        block(),
        torch.randn(1, 3, 4),
        torch.randn(1, 2, 4),
        DecoderCache(KVCache(3), KVCache(2)),
    )
    own, beside = random_prefix(1), random_prefix(2)
    with torch.no_grad():
        pieces = [one(x[:, t : t + 1], context, None, None, own, beside, cache) for t in range(3)]
    return {
        "columns of the target in the cache": cache.own.length,
        "columns of the source in the cache": cache.cross.length,
        "output": torch.cat(pieces, 1),
    }


CROSS = "self.cross(x, context, context_mask, cross_prefix, cross)"
AFTER_CROSS = "self.norm2(x + drop(y, self.dropout, self.training))"
layer.slip(
    "the target reads itself twice",
    "Your cross-attention gets no context, so its keys and values come from the target. The decoder never sees the source, and "
    "translates every sentence alike.",
    (CROSS, "self.cross(x, None, attention_mask, cross_prefix, cross)"),
)
layer.slip(
    "queries from the source",
    "Your queries come from the source. They must come from the text that is being written: pass x first, then the context.",
    (CROSS, "self.cross(context, x, attention_mask, cross_prefix, cross)"),
)
layer.slip(
    "nothing added",
    "After the cross-attention you keep only its answer, so what the target knew about itself is lost. Add & Norm: norm2(x + y).",
    (AFTER_CROSS, "self.norm2(drop(y, self.dropout, self.training))"),
)
layer.slip(
    "norm before the sum",
    "You normalise the answer and then add it (or normalise before the sublayer, as a GPT does). This is BART's order, post-norm: the sum is "
    "normalised, norm2(x + y).",
    (AFTER_CROSS, "x + self.norm2(drop(y, self.dropout, self.training))"),
)
layer.slip(
    "the source's padding is read",
    "Your cross-attention gets no mask, so the padding of a short source is read as if it were words. The context needs "
    "context_mask.",
    (CROSS, "self.cross(x, context, None, cross_prefix, cross)"),
)
layer.slip(
    "masks exchanged",
    "Your two masks are exchanged. A mask says which keys may be read: attention_mask belongs to the target's own attention, context_mask to "
    "the cross-attention.",
    (
        "self.attention(x, None, attention_mask, prefix, own)",
        "self.attention(x, None, context_mask, prefix, own)",
    ),
    (CROSS, "self.cross(x, context, attention_mask, cross_prefix, cross)"),
)
layer.slip(
    "prefixes exchanged",
    "Your two prefixes are exchanged. prefix belongs to the target's own attention, cross_prefix to "
    "the cross-attention.",
    (
        "self.attention(x, None, attention_mask, prefix, own)",
        "self.attention(x, None, attention_mask, cross_prefix, own)",
    ),
    (CROSS, "self.cross(x, context, context_mask, prefix, cross)"),
)
layer.slip(
    "no prefix beside the source",
    "Your cross-attention gets no prefix. An encoder–decoder has three places for a prefix. Without this one, a third of what prefix tuning trains "
    "has no effect.",
    (CROSS, "self.cross(x, context, context_mask, None, cross)"),
)
layer.slip(
    "no dropout",
    "Your layer has no dropout in training. The output of each sublayer passes through drop(y, self.dropout, self.training) before it is added.",
    ("self.norm1(x + drop(y, self.dropout, self.training))", "self.norm1(x + y)"),
    (AFTER_CROSS, "self.norm2(x + y)"),
    ("self.norm3(x + drop(y, self.dropout, self.training))", "self.norm3(x + y)"),
)
layer.slip(
    "dropout at rest",
    "Your dropout also acts outside of training. self.training says whether the layer is in training: drop(y, self.dropout, self.training).",
    (
        "self.norm1(x + drop(y, self.dropout, self.training))",
        "self.norm1(x + F.dropout(y, self.dropout))",
    ),
    (AFTER_CROSS, "self.norm2(x + F.dropout(y, self.dropout))"),
    (
        "self.norm3(x + drop(y, self.dropout, self.training))",
        "self.norm3(x + F.dropout(y, self.dropout))",
    ),
)
layer.slip(
    "a GPT's order",
    "You normalise what each sublayer reads, x + sublayer(norm(x)), as a GPT does. This layer is BART's, post-norm: norm(x + sublayer(x)), three times.",
    (
        "self.attention(x, None, attention_mask, prefix, own)",
        "self.attention(self.norm1(x), None, attention_mask, prefix, own)",
    ),
    (
        "x = self.norm1(x + drop(y, self.dropout, self.training))",
        "x = x + drop(y, self.dropout, self.training)",
    ),
    (CROSS, "self.cross(self.norm2(x), context, context_mask, cross_prefix, cross)"),
    (AFTER_CROSS, "x + drop(y, self.dropout, self.training)"),
    ("self.mlp(x)", "self.mlp(self.norm3(x))"),
    (
        "return self.norm3(x + drop(y, self.dropout, self.training))",
        "return x + drop(y, self.dropout, self.training)",
    ),
)
layer.slip(
    "last norm left out",
    "You leave out the norm behind the feed-forward network. An Add & Norm stands after each of the three sublayers.",
    (
        "return self.norm3(x + drop(y, self.dropout, self.training))",
        "return x + drop(y, self.dropout, self.training)",
    ),
)
layer.slip(
    "norm1 at the end",
    "You use norm1 behind the feed-forward network. Each of the three has its own scale and shift; the third is norm3.",
    ("self.norm3(", "self.norm1("),
)
layer.slip(
    "no dropout on the cross-attention",
    "What the cross-attention gives is added as it is. It passes through drop like the others: norm2(x + drop(y, self.dropout, self.training)).",
    (AFTER_CROSS, "self.norm2(x + y)"),
)
layer.slip(
    "a cache is always there",
    "You take the cache apart without asking whether there is one. If cache is None, own and cross are None too.",
    ("own, cross = cache or (None, None)", "own, cross = cache"),
)
layer.slip(
    "no cache for the source",
    "Your cross-attention gets no cache. So the keys and values of the source are computed again for every word, and later calls may have no context.",
    (CROSS, "self.cross(x, context, context_mask, cross_prefix)"),
)
layer.slip(
    "one cache for both",
    "You give both attentions the same cache, so the keys and values of the source stand among those of the target. The pair has one cache for each: own and cross.",
    (CROSS, "self.cross(x, context, context_mask, cross_prefix, own)"),
)
layer.slip(
    "cross-attention reads what stood before",
    "Your cross-attention reads the x from before the self-attention. It must read the result of the first Add & Norm.",
    (
        "y = self.attention(x, None, attention_mask, prefix, own)",
        "before, y = x, self.attention(x, None, attention_mask, prefix, own)",
    ),
    (CROSS, "self.cross(before, context, context_mask, cross_prefix, cross)"),
)
layer.slip(
    "one norm for two",
    "You use norm1 twice. Each of the three has its own scale and shift; the second is norm2.",
    (AFTER_CROSS, "self.norm1(x + drop(y, self.dropout, self.training))"),
)
layer.slip(
    "the source is read first",
    "You read the source before the target has read itself. The order is self-attention, cross-attention, feed-forward. So a token knows "
    "what has been written before it reads the source.",
    (
        "self.attention(x, None, attention_mask, prefix, own)",
        "self.cross(x, context, context_mask, cross_prefix, cross)#",
    ),
    ("y = " + CROSS + "  #", "y = self.attention(x, None, attention_mask, prefix, own)  #"),
)

# ---------------------------------------------------------------- 6.3

whole = Exercise(
    id="6.3",
    target="minitransformer.models.seq2seq:Seq2Seq.forward",
    title="Read once, write often",
    minutes=20,
    difficulty=3,
    purpose="The encoder reads the source. The decoder writes, and reads the vectors that the encoder made. While a text is generated the source does not change, so it "
    "is encoded in the first call only. After that, the cache of the cross-attention holds its keys and values.",
    given=(
        "self.encode(source, source_mask, prefix, vectors): → (B, S, C); refuses what does not fit.",
        "self.decode(ids, context, context_mask, attention_mask, prefix, cross_prefix, cache, at): takes None for the context where the cache knows it.",
        "cache[0].cross.length: above 0 where the cache knows the context.",
    ),
    hints=(
        "There are two calls: self.encode and self.decode. Encode only if it is not done yet. The cache of the first layer shows this: is there a "
        "cache, and has cache[0].cross any columns (length)?",
        "If it is not done and there is no source, raise a UserError. If there is one, context = self.encode(…) with the source's mask, encoder_prefix "
        "and vectors. If it is done, context is None. Each prefix and each mask goes to one of the two calls; only source_mask goes to both.",
        "Raise a UserError where the source is needed and is None.\n"
        "    context = None\n"
        "    if not cache or not cache[0].cross.length:\n"
        "        context = self.encode(source, source_mask, encoder_prefix, vectors)\n"
        "    return self.decode(\n"
        "        ids, context, source_mask, attention_mask, prefix, cross_prefix, cache, at\n"
        "    )",
    ),
    tolerance=1e-4,
)


def tiny():
    """An encoder–decoder of one layer each."""
    return lively(Seq2Seq(sizes()))


@whole.scene
def two_tokens_of_a_target(Seq2Seq):
    """A source of three tokens, a target of two."""
    model = tiny()
    with torch.no_grad():
        return model(torch.tensor([[1, 5]]), source=torch.tensor([[6, 7, 8]]))


@whole.scene
def padded_source(Seq2Seq):
    """Two sources, one of them padded; the same two alone."""
    model, attention_mask = tiny(), torch.tensor([[YES, YES, YES], [YES, NO, NO]])  # (B, S)
    source, ids = torch.tensor([[6, 7, 8], [9, 0, 0]]), torch.tensor([[1, 5], [1, 4]])
    with torch.no_grad():
        together = model(ids, source=source, source_mask=attention_mask)
        return {
            "scores of the second text, read beside a longer source": together[1],
            "the same scores minus those of the text alone": together[1]
            - model(ids[1:], source=source[1:, :1])[0],
        }


@whole.scene
def three_prefixes(Seq2Seq):
    """A prefix in each of the three places, one after the other."""
    model, ids, source, prefix = (
        tiny(),
        torch.tensor([[1, 5]]),
        torch.tensor([[6, 7, 8]]),
        [random_prefix(2)],
    )
    with torch.no_grad():
        return {
            place: model(ids, source=source, **{place: prefix})
            for place in ("encoder_prefix", "prefix", "cross_prefix")
        }


@whole.scene
def logits_at_one_place(Seq2Seq):
    """Logits wanted at the last of three places only."""
    model = tiny()
    with torch.no_grad():
        return model(
            torch.tensor([[1, 5, 6]]),
            at=torch.tensor([[NO, NO, YES]]),
            source=torch.tensor([[6, 7]]),
        )


@whole.scene
def virtual_source_tokens(Seq2Seq):
    """A virtual token in the source, with its vector."""
    model = tiny()
    with torch.no_grad():
        return model(
            torch.tensor([[1, 5]]), source=torch.tensor([[-1, 7]]), vectors=torch.ones(1, 4)
        )


@whole.scene
def target_padding(Seq2Seq):
    """Two targets, the first padded on the left."""
    model, attention_mask = tiny(), torch.tensor([[NO, YES, YES], [YES, YES, YES]])  # (B, T)
    with torch.no_grad():
        return model(
            torch.tensor([[0, 1, 5], [1, 4, 3]]),
            attention_mask=attention_mask,
            source=torch.tensor([[6, 7], [8, 9]]),
        )[:, -1]


@whole.scene
def writes_with_a_cache(Seq2Seq):
    """Three target tokens with a cache; the source is given with the first only."""
    model, cache, prefix = tiny(), tiny().new_cache(), [random_prefix(1)]
    given = {"source": torch.tensor([[6, 7, 8]]), "cross_prefix": prefix}
    with torch.no_grad():
        pieces = [
            model(torch.tensor([[token]]), cache=cache, **given if t == 0 else {})
            for t, token in enumerate((1, 5, 9))
        ]
    return {"columns of the source": cache[0].cross.length, "logits": torch.cat(pieces, dim=1)}


@whole.scene
def given_with_every_call(Seq2Seq):
    """Three target tokens with a cache; the source is given with each call, and read how often?"""
    model, cache, source, read = tiny(), tiny().new_cache(), torch.tensor([[6, 7, 8]]), []
    encode = model.encode
    model.encode = lambda *args, **kwargs: read.append(1) or encode(*args, **kwargs)
    with torch.no_grad():
        for token in (1, 5, 9):
            model(torch.tensor([[token]]), cache=cache, source=source)
    return {"how often the source was encoded": len(read)}


@whole.scene
def padding_id_as_a_word(Seq2Seq):
    """A source that holds the padding id as a word, without a mask."""
    model = tiny()
    with torch.no_grad():
        return model(torch.tensor([[1, 5]]), source=torch.tensor([[6, 0, 8]]))


@whole.scene
def two_texts(Seq2Seq):
    """One model writes two texts, each with a cache of its own."""
    model = tiny()
    with torch.no_grad():
        return {
            f"scores about source {number}": model(
                torch.tensor([[1]]), cache=model.new_cache(), source=source
            )
            for number, source in enumerate((torch.tensor([[6, 7]]), torch.tensor([[8, 9, 3]])), 1)
        }


@whole.scene
def no_source(Seq2Seq):
    """Without a source it is refused."""
    return tiny()(torch.tensor([[1, 5]]))


ENCODES = "self.encode(source, source_mask, encoder_prefix, vectors)"
DECODES = "self.decode(ids, context, source_mask, attention_mask, prefix, cross_prefix, cache, at)"
whole.slip(
    "the source is read for every token",
    "You encode the source in every call. While a text is written, later calls have no source. They need none, because the cache of the "
    "cross-attention holds its keys and values.",
    ("if not cache or not cache[0].cross.length:", "if True:"),
)
whole.slip(
    "read whenever it is given",
    "You encode the source whenever one is given. A beam search gives it with every call, so you would encode it again for each word. Ask whether the "
    "cache holds it already: cache[0].cross.length.",
    (
        "if not cache or not cache[0].cross.length:",
        "if source is not None or not cache or not cache[0].cross.length:",
    ),
)
whole.slip(
    "not read if there is a cache",
    "You do not read the source if there is a cache. But in the first call the cache is empty, cache[0].cross.length is 0, and the source has to be read.",
    ("if not cache or not cache[0].cross.length:", "if not cache:"),
)
whole.slip(
    "what was read is noted in the model",
    "You note in the model that a source was read. The next text has another source, and a cache of its own: what counts is whether this cache holds it already, cache[0].cross.length.",
    (
        "if not cache or not cache[0].cross.length:",
        'if not cache or not hasattr(self, "_has_read"):\n            self._has_read = True',
    ),
)
whole.slip(
    "source's mask made from its ids",
    "You make the source's mask yourself, from the padding's id. A source may hold that id as a word; source_mask says what is real, and None means all of it.",
    (ENCODES, "self.encode(source, source != self.config.pad_id, encoder_prefix, vectors)"),
)
whole.slip(
    "prefixes exchanged",
    "You give the decoder its two prefixes in the wrong order. prefix is for the self-attention and cross_prefix for the cross-attention, as in the signature of decode.",
    (
        DECODES,
        "self.decode(ids, context, source_mask, attention_mask, cross_prefix, prefix, cache, at)",
    ),
)
whole.slip(
    "the encoder does not know the padding",
    "Your encoder gets no mask. So the words of a short source read its padding, and a sentence gives other vectors beside a longer one.",
    (ENCODES, "self.encode(source, None, encoder_prefix, vectors)"),
)
whole.slip(
    "the decoder does not know the source's padding",
    "Your decoder gets no mask of the source. The encoder makes a vector for each padding token too, and cross-attention reads them. source_mask goes to "
    "both.",
    (DECODES, "self.decode(ids, context, None, attention_mask, prefix, cross_prefix, cache, at)"),
)
whole.slip(
    "masks exchanged",
    "You give the decoder its two masks in the wrong order. context_mask is about the source, and attention_mask about the target.",
    (
        DECODES,
        "self.decode(ids, context, attention_mask, source_mask, prefix, cross_prefix, cache, at)",
    ),
)
whole.slip(
    "no prefix for the encoder",
    "Your encoder gets no prefix. This is a known trap of prefix tuning on encoder–decoders: if only the decoder gets its prefix, the encoder's prefix is trained, but "
    "nothing reads it.",
    (ENCODES, "self.encode(source, source_mask, None, vectors)"),
)
whole.slip(
    "the decoder's prefix in the encoder",
    "You give the encoder the prefix of the decoder. The encoder has its own: encoder_prefix.",
    (ENCODES, "self.encode(source, source_mask, prefix, vectors)"),
)
whole.slip(
    "no prefix beside the source",
    "Your cross-attention gets no prefix. Pass cross_prefix to decode. There are three places: the encoder, the decoder, and the cross-attention between them.",
    (DECODES, "self.decode(ids, context, source_mask, attention_mask, prefix, None, cache, at)"),
)
whole.slip(
    "logits everywhere",
    "You leave out `at`, so logits are computed for every place, although only some are wanted. The product with the vocabulary is the most expensive of all.",
    (
        DECODES,
        "self.decode(ids, context, source_mask, attention_mask, prefix, cross_prefix, cache)",
    ),
)
whole.slip(
    "virtual tokens without vectors",
    "The vectors of virtual tokens in the source do not reach your encoder.",
    (ENCODES, "self.encode(source, source_mask, encoder_prefix)"),
)

# ---------------------------------------------------------------- 6.4


def repeated_by_loop(value, n_row, times):
    """Row after row."""
    if hasattr(value, "_fields"):
        return type(value)(*(repeated_by_loop(part, n_row, times) for part in value))
    if isinstance(value, list | tuple):
        return [repeated_by_loop(part, n_row, times) for part in value]
    if not isinstance(value, torch.Tensor) or value.size(0) != n_row:
        return value
    return torch.stack([row for row in value for _ in range(times)])


widen = Exercise(
    id="6.4",
    target="minitransformer.generation.beam:_repeat",
    title="k rows for each prompt",
    minutes=15,
    difficulty=2,
    purpose="In a beam search, k hypotheses of each prompt run side by side, as rows of one batch. So everything that has a row for each prompt (ids, "
    "masks, the source, prefixes) needs k rows for it, and the rows of one prompt have to stand together.",
    hints=(
        "There are four kinds of value: a tensor; a Prefix, which is a named tuple and has `_make`; a list or tuple of such values; and anything else, which "
        "stays as it is. For a Prefix and for a list the function can call itself.",
        "A tensor with a row for each prompt (size(0) == n_row) becomes n_row · times rows, in the order a a b b. A tensor with another number of "
        "rows, such as one prefix for all, stays as it is. PyTorch has repeat and repeat_interleave: which gives a a b b?",
        "Ask for the named tuple before list | tuple, because a Prefix is a tuple too. Return every other value "
        "as it is.\n"
        "    # a tensor of n_row rows\n"
        "    value.repeat_interleave(times, dim=0)\n"
        "    # a named tuple, which has _make\n"
        "    value._make(_repeat(part, n_row, times) for part in value)\n"
        "    # a list or another tuple\n"
        "    [_repeat(part, n_row, times) for part in value]",
    ),
    oracle=repeated_by_loop,
)


@widen.case
def two_prompts():
    """The ids of two prompts of four tokens, three hypotheses each."""
    return torch.tensor([[5, 6, 7, 3], [8, 9, 1, 4]]), 2, 3


@widen.case
def one_row_for_all():
    """One row for all of three prompts stays one row."""
    return tidy(1, 2), 3, 2


@widen.case
def nothing_given():
    """None stays None."""
    return None, 2, 3


@widen.case
def one_prompt():
    """The ids of a single prompt, three hypotheses."""
    return torch.tensor([[5, 6, 7, 3]]), 1, 3


@widen.case
def in_a_tuple():
    """A tuple of a mask for each of two prompts and nothing."""
    return (torch.tensor([[YES, NO], [YES, YES]]), None), 2, 2


@widen.case
def a_prefix_each():
    """A prefix for each of two prompts."""
    return random_prefix(1, batch=2), 2, 2


@widen.case
def a_prefix_a_layer():
    """For each of two layers one prefix, shared by both prompts in the second."""
    return [random_prefix(1, batch=2), random_prefix(1)], 2, 3


class Both(NamedTuple):
    """Another named tuple."""

    ids: torch.Tensor
    name: str


@widen.case
def another_named_tuple():
    """A named tuple that is no Prefix: it stays one of its kind."""
    return Both(torch.tensor([[5, 6], [7, 8]]), "two prompts"), 2, 2


@widen.case
def one_hypothesis():
    """One hypothesis for each of two prompts, in a tuple."""
    return (torch.tensor([[5, 6], [7, 8]]), None), 2, 1


@widen.case
def twice_as_many_rows():
    """A tensor of four rows for two prompts has none for each, and stays."""
    return tidy(4, 2), 2, 2


@widen.mistake
def in_turns(value, n_row, times):
    """Your rows stand in the order a b a b. The search takes row i for prompt i // k, so a hypothesis would go on with the source of another prompt. The order must be a a b b: use repeat_interleave."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value] * times) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(in_turns(part, n_row, times) for part in value)
    return (
        [in_turns(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def shared_ones_too(value, n_row, times):
    """You also repeat a tensor that has one row for all prompts. It already fits every row. With k rows it would fit neither one prompt nor all."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0)
    if hasattr(value, "_make"):
        return value._make(shared_ones_too(part, n_row, times) for part in value)
    return (
        [shared_ones_too(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def prefix_becomes_a_list(value, n_row, times):
    """Your Prefix comes back as a plain list. A named tuple is a tuple too, so ask for it first and rebuild it with _make; attention reads prefix.k and prefix.v."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value
    return (
        [prefix_becomes_a_list(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def one_row_is_never_repeated(value, n_row, times):
    """You leave every tensor of one row as it is. With a single prompt, one row is a row for each prompt: compare size(0) with n_row."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) > 1 else value
    if hasattr(value, "_make"):
        return value._make(one_row_is_never_repeated(part, n_row, times) for part in value)
    return (
        [one_row_is_never_repeated(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def only_lists_are_looked_into(value, n_row, times):
    """You look into lists alone, not into tuples. Both may hold tensors: isinstance(value, list | tuple), behind the named tuple."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(only_lists_are_looked_into(part, n_row, times) for part in value)
    return (
        [only_lists_are_looked_into(part, n_row, times) for part in value]
        if isinstance(value, list)
        else value
    )


@widen.mistake("every named tuple becomes a Prefix")
def always_a_prefix(value, n_row, times):
    """You make a Prefix of every named tuple. But a named tuple has to keep its own kind: value._make(…)."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return Prefix(*(always_a_prefix(part, n_row, times) for part in value))
    return (
        [always_a_prefix(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def tensors_only(value, n_row, times):
    """You repeat tensors, but not the tensors inside a Prefix or a list. So a prefix with one row for each prompt keeps its two rows, while everything else has 2 · k."""
    return (
        value.repeat_interleave(times, dim=0)
        if isinstance(value, torch.Tensor) and value.size(0) == n_row
        else value
    )


@widen.mistake
def along_the_last_axis(value, n_row, times):
    """You repeat along the wrong axis, so every token comes twice. The rows are the first axis, dim=0."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=-1) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(along_the_last_axis(part, n_row, times) for part in value)
    return (
        [along_the_last_axis(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def nothing_but_tensors_and_lists(value, n_row, times):
    """You do not handle other values. None (no mask, no prefix), and everything that contains no tensors, stays as it is."""
    if hasattr(value, "_make"):
        return value._make(nothing_but_tensors_and_lists(part, n_row, times) for part in value)
    if isinstance(value, list | tuple):
        return [nothing_but_tensors_and_lists(part, n_row, times) for part in value]
    return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value


@widen.mistake
def an_axis_of_its_own(value, n_row, times):
    """Your copies have an axis of their own, (B, k, …). The search needs one batch of B · k rows, so make the first two axes one."""
    if isinstance(value, torch.Tensor):
        return (
            value[:, None].expand(-1, times, *value.shape[1:]) if value.size(0) == n_row else value
        )
    if hasattr(value, "_make"):
        return value._make(an_axis_of_its_own(part, n_row, times) for part in value)
    return (
        [an_axis_of_its_own(part, n_row, times) for part in value]
        if isinstance(value, list | tuple)
        else value
    )


@widen.mistake
def lists_taken_as_rows(value, n_row, times):
    """You repeat the elements of a list. A list holds one prefix for each layer. Repeat the tensors inside it, which have a row for each prompt."""
    if isinstance(value, torch.Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value
    if hasattr(value, "_make"):
        return value._make(lists_taken_as_rows(part, n_row, times) for part in value)
    return (
        [part for part in value for _ in range(times)] if isinstance(value, list | tuple) else value
    )


# ---------------------------------------------------------------- 6.5

search = Exercise(
    id="6.5",
    target="minitransformer.generation.beam:_Search.select",
    title="Which texts go on",
    minutes=30,
    difficulty=3,
    purpose="This is one step of a beam search for one prompt. There are k running texts and 2k candidates, each with one token more. This method decides which "
    "candidates are finished, with which score, and which k go on. The search calls it in every step, and goes on with the scores and the indices that it returns.",
    given=(
        "self.n_beam, self.length_penalty: k and α.",
        "self.finished: the list of Hypothesis(tokens, score), best first, the score a float.",
        "self.done: whether the search is over; do not change it here.",
        "Hypothesis(tokens, score): a finished text, without its end token.",
    ),
    hints=(
        "Find three things: the scores of all candidates, which of them end, and the indices of the first k that do not end. Unless self.done is True, "
        "those of the first k candidates that end become a Hypothesis(tokens, score) in self.finished.",
        "score = Σ log p / |y|^α. All candidates are equally long, len(texts[0]), the end token counted. A text that ends with one of stop_ids is kept without "
        "it. A text that ends because of at_end is kept whole. Then sort self.finished by score, best first, and cut it to n_beam.",
        "    scores = sums / len(texts[0]) ** self.length_penalty\n"
        "    ends = [at_end or text[-1] in stop_ids for text in texts]\n"
        "    for i in range(self.n_beam):  # not once the search is done\n"
        "        if ends[i]:\n"
        "            tokens = texts[i][:-1] if texts[i][-1] in stop_ids else texts[i]\n"
        "            self.finished.append(Hypothesis(tokens, scores[i].item()))\n"
        "    # sort self.finished by -score, and cut it after the best k\n"
        "    return scores, [i for i, end in enumerate(ends) if not end][: self.n_beam]",
    ),
)

END = 2


def searched(_Search, n_beam, alpha, steps, stop_ids=(END,)):
    """What a search holds after these steps of (sums, beams, tokens, at_end)."""
    one = _Search(n_beam, alpha)
    going = [
        one.step(torch.tensor(sums), beams, tokens, stop_ids, at_end)
        for sums, beams, tokens, at_end in steps
    ]
    return {
        "what each step returned": going,
        "running, the texts that go on": one.running,
        "finished, the list of hypotheses": list(one.finished),
        "done, whether the search is": one.done,
    }


@search.scene
def nothing_ends(_Search):
    """A beam of one, a step in which nothing ends."""
    return searched(_Search, 1, 1.0, [([-0.5, -1.0], [0, 0], [7, 8], False)])


@search.scene
def one_ends(_Search):
    """A beam of two; in the second step the likeliest candidate ends."""
    first = ([-0.5, -1.0, -1.5, -2.0], [0, 0, 0, 0], [7, 8, 9, 3], False)
    return searched(
        _Search, 2, 1.0, [first, ([-0.8, -1.1, -1.4, -1.6], [0, 1, 0, 1], [END, 5, 6, 4], False)]
    )


@search.scene
def an_unlikely_end(_Search):
    """The end token is among the candidates, but not among the likeliest two."""
    return searched(
        _Search, 2, 1.0, [([-0.5, -1.0, -1.5, -2.0], [0, 0, 0, 0], [7, 8, END, 9], False)]
    )


@search.scene
def the_last_step(_Search):
    """The second step is the last that may be: what has no end token ends there as it is."""
    first = ([-0.5, -1.0, -1.5, -2.0], [0, 0, 0, 0], [7, 8, 9, 3], False)
    return searched(
        _Search, 2, 2.0, [first, ([-0.9, -1.2, -1.4, -1.6], [1, 0, 0, 1], [5, END, 6, 4], True)]
    )


@search.scene
def a_longer_and_better_one(_Search):
    """Texts of one, two and three tokens end, of which two are kept; α = 1."""
    return searched(
        _Search,
        2,
        1.0,
        [
            ([-1.0, -1.1, -1.2, -1.3], [0, 0, 0, 0], [END, 7, 8, 9], False),
            ([-1.4, -1.5, -1.6, -1.7], [0, 1, 0, 1], [5, END, 6, 4], False),
            ([-1.5, -1.9, -2.0, -2.5], [0, 0, 1, 1], [END, 5, 4, 3], False),
        ],
    )


@search.scene
def no_penalty(_Search):
    """The same with α = 0, where short texts win; then the search is done and goes on in vain."""
    return searched(
        _Search,
        2,
        0.0,
        [
            ([-1.0, -1.1, -1.2, -1.3], [0, 0, 0, 0], [END, 7, 8, 9], False),
            ([-1.4, -1.5, -1.6, -1.7], [0, 1, 0, 1], [5, END, 6, 4], False),
            ([-1.55, -1.9, -2.0, -2.5], [0, 0, 1, 1], [5, 6, 4, 3], False),
            ([-1.56, -2.0, -2.1, -2.6], [0, 0, 1, 1], [END, 5, 4, 3], False),
        ],
    )


@search.scene
def done_before(_Search):
    """A search that is done finishes nothing more, however good."""
    one = _Search(1, 1.0)
    one.done = True
    return (
        one.step(torch.tensor([-0.1, -0.2]), [0, 0], [END, 5], [END], False),
        list(one.finished),
        one.running,
    )


@search.scene
def what_it_gives(_Search):
    """The scores of four candidates of two tokens, and who of them goes on, three at most; two tokens end a text, α = 2."""
    texts = [[7, 5], [8, END], [7, 6], [8, 4]]
    scores, going = _Search(3, 2.0).select(
        texts, torch.tensor([-0.8, -1.2, -1.6, -2.0]), [END, 4], False
    )
    return {"scores of all candidates": scores, "indices of those that go on": going}


SCORES = "scores = sums / len(texts[0]) ** self.length_penalty"
search.slip(
    "no length penalty",
    "Your score is only the sum. Every token adds a negative number to it, so the shortest text wins. Divide by |y|^α.",
    (SCORES, "scores = sums"),
)
search.slip(
    "multiplied by the length",
    "You multiply the sum by the length. The sums are negative, so long texts are punished twice. Divide instead.",
    (SCORES, "scores = sums * len(texts[0]) ** self.length_penalty"),
)
search.slip(
    "length divided by α",
    "You divide by α · |y|. The formula has a power, |y|^α. With α = 0 the sum stays as it is, and with α = 1 means are compared.",
    (SCORES, "scores = sums / max(1e-9, len(texts[0]) * self.length_penalty)"),
)
search.slip(
    "end token not counted",
    "Your |y| leaves out the newest token. The end token's log p is in the sum, so it counts in the length too.",
    (SCORES, "scores = sums / max(1, len(texts[0]) - 1) ** self.length_penalty"),
)
search.slip(
    "end token kept",
    "Your finished texts still have their end token. Hypothesis.tokens leaves it out; a decoder of tokens would print it.",
    ("texts[i][:-1] if texts[i][-1] in stop_ids else texts[i]", "texts[i]"),
)
search.slip(
    "last token cut off",
    "At the last step you cut off a real word. Only an end token is left out of a finished text, and at the limit a text can end without one.",
    ("texts[i][:-1] if texts[i][-1] in stop_ids else texts[i]", "texts[i][:-1]"),
)
search.slip(
    "one end token alone",
    "You look for one of stop_ids only. There may be several, and each of them ends a text: text[-1] in stop_ids.",
    ("text[-1] in stop_ids for", "text[-1] == min(stop_ids) for"),
)
search.slip(
    "the sum in the hypothesis",
    "The score in your Hypothesis is the sum. Finished texts of different lengths are compared by it: it is the sum divided by |y|^α.",
    ("scores[: self.n_beam].tolist()", "sums[: self.n_beam].tolist()"),
)
search.slip(
    "the first ones that end stay",
    "You add no finished text once there are k. A later one may be better: add it, sort, and cut the list after the best k.",
    ("if ends[i]:", "if ends[i] and len(self.finished) < self.n_beam:"),
)
search.slip(
    "scores of the first k alone",
    "You return the scores of the first k candidates. Those that go on may stand behind them: the scores of all candidates are wanted.",
    ("return scores, [", "return scores[: self.n_beam], ["),
)
search.slip(
    "any candidate may finish",
    "You let all 2k candidates finish. Only the first k may finish. The second k are there so that k texts can go on even if the first k all end. If they may finish too, "
    "bad texts fill the list, and the search stops too soon.",
    ("scores[: self.n_beam].tolist()", "scores.tolist()"),
)
search.slip(
    "finished texts go on",
    "Your finished texts go on as well. A text would be continued after its end token, and it takes the place of one that is not finished.",
    (
        "[i for i, end in enumerate(ends) if not end][: self.n_beam]",
        "list(range(self.n_beam)) if not at_end else []",
    ),
)
search.slip(
    "the limit does not end a text",
    "At the last step you finish only texts with an end token. There a text without one is finished too, as it is. Otherwise a search could end "
    "without any text.",
    ("at_end or text[-1] in stop_ids for", "text[-1] in stop_ids for"),
)
search.slip(
    "worst first",
    "Your finished texts stand worst first, so the cut to k throws away the best. Scores are negative, and the greatest is the best: sort by -score.",
    ("-hypothesis.score", "hypothesis.score"),
)
search.slip(
    "finished texts pile up",
    "You keep every finished text. Keep only the best k, because their number also decides when the search may stop.",
    ("del self.finished[self.n_beam :]\n", "pass\n"),
)
search.slip(
    "more after it is done",
    "You finish texts although the search is done. The rows of a batch run on until all of them are done, but a row that is done must stay as it is.",
    ("if not self.done:", "if True:"),
)
search.slip(
    "more than k go on",
    "You let all candidates go on that do not end. Only k run side by side. Take the first k of them, because the likeliest stand first.",
    (
        "[i for i, end in enumerate(ends) if not end][: self.n_beam]",
        "[i for i, end in enumerate(ends) if not end]",
    ),
)
search.slip(
    "scores as a list",
    "Your scores are a list of numbers. Return a tensor, because the search goes on with scores[…].item().",
    ("return scores, [", "return scores.tolist(), ["),
)
search.slip(
    "score as a tensor",
    "The score in your Hypothesis is a tensor. It must be a float: use .item(), or .tolist() for all at once.",
    ("scores[: self.n_beam].tolist()", "scores[: self.n_beam]"),
)
search.slip(
    "only the second half goes on",
    "You let only candidates behind the first k go on. The likeliest candidates that do not end go on, wherever they stand.",
    (
        "[i for i, end in enumerate(ends) if not end][: self.n_beam]",
        "[i for i, end in enumerate(ends) if not end and i >= self.n_beam][: self.n_beam]",
    ),
)
search.slip(
    "an end takes a place",
    "You look only among the first k for the texts that go on. If one of them ends, the next candidate that does not end takes its place. The second k are there for this.",
    (
        "[i for i, end in enumerate(ends) if not end][: self.n_beam]",
        "[i for i, end in enumerate(ends) if not end and i < self.n_beam]",
    ),
)
search.slip(
    "nobody goes on when it is done",
    "You return nothing when the search is done. The rows of a batch run on side by side until all of them are done, so k indices are needed here too.",
    ("if not self.done:", "if self.done:\n            return scores, []\n        if True:"),
)
