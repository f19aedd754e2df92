"""Exercises of lesson 3: a layer, the whole GPT, the learning rate, top-p, the cache."""

import cmath
import math
from functools import partial

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import cost, same_memory
from minitransformer.errors import UserError
from minitransformer.models.attention import Prefix
from minitransformer.models.cache import KVCache
from minitransformer.models.gpt import GPT, Block, GPTConfig
from minitransformer.training.loop import TrainConfig
from torch import nn

SIZES = {"vocab_size": 6, "n_positions": 8, "n_layer": 2, "n_head": 2, "d_model": 4, "d_ff": 6}


def lively(model, frozen=True):
    """A model all of whose numbers are random, those of the norms too, so that no two of its parts are alike."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model.eval().requires_grad_(not frozen)


def a_block(dropout=0.0):
    """One layer of four numbers a token, two heads."""
    return lively(Block(GPTConfig(**SIZES, dropout=dropout)))


def a_gpt(dropout=0.0, n_layer=2):
    """Two layers (or as many as n_layer says), a vocabulary of six, eight positions."""
    return lively(GPT(GPTConfig(**SIZES | {"n_layer": n_layer}, dropout=dropout)))


def random_prefix(length, batch=1):
    """Keys and values for two heads of two numbers, (batch, H, P, D) each."""
    return Prefix(tidy(batch, 2, length, 2), tidy(batch, 2, length, 2))


# ---------------------------------------------------------------- 3.1


def torch_layer(block, x, attention_mask=None, *_):
    """PyTorch's own layer with the block's weights: norm first, causal."""
    layer = nn.TransformerEncoderLayer(
        x.size(-1),
        block.attention.n_head,
        block.mlp.up.out_features,
        dropout=0.0,
        batch_first=True,
        norm_first=True,
        activation=partial(F.gelu, approximate="tanh"),
    )
    layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = (
        block.attention.qkv.weight,
        block.attention.qkv.bias,
    )
    layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias = (
        block.attention.out.weight,
        block.attention.out.bias,
    )
    layer.linear1, layer.linear2, layer.norm1, layer.norm2 = (
        block.mlp.up,
        block.mlp.down,
        block.norm1,
        block.norm2,
    )
    later = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)  # (T, T)
    return layer(
        x, src_mask=later, src_key_padding_mask=None if attention_mask is None else ~attention_mask
    )


layer = Exercise(
    id="3.1",
    target="minitransformer.models.gpt:Block.forward",
    title="One layer",
    minutes=15,
    difficulty=2,
    purpose="A layer reads the stream of vectors x twice, and twice adds to it: what attention fetched from the tokens before, "
    "then what the feed-forward network made of it. Everything that a GPT knows stands in a few of these.",
    given=(
        "self.norm1, self.attention, self.norm2, self.mlp: the parts of the block.",
        "self.attention(x, context, attention_mask, prefix, cache): the context is None here.",
        "drop(y, self.dropout, self.training): dropout of what a sublayer gives. The x that was given stays as it is: the sums are new tensors.",
    ),
    hints=(
        "Two sublayers, self.attention and self.mlp, each with a norm before it (self.norm1, self.norm2) and a sum after it. "
        "Which x is added: the one before the norm, or after?",
        "x + sublayer(norm(x)), twice; the second begins with what the first gave. Attention takes (x, context, attention_mask, prefix, "
        "cache); there is no context here. What a sublayer gives passes through drop(…, self.dropout, self.training).",
        "    y = self.attention(self.norm1(x), None, attention_mask, prefix, cache)\n"
        "    x = x + drop(y, self.dropout, self.training)\n"
        "    y = self.mlp(self.norm2(x))\n"
        "    # then the same sum again",
    ),
)


@layer.case(oracle=torch_layer)
def one_token():
    """One token."""
    return a_block(), tidy(1, 1, 4), None, None, None


@layer.case(oracle=torch_layer, gradients=True)
def three_tokens():
    """Two texts of three tokens, and the gradient of x."""
    return a_block(), tidy(2, 3, 4), None, None, None


@layer.case
def with_padding():
    """The second text begins with padding."""
    return (
        a_block(),
        tidy(2, 3, 4),
        torch.tensor([[True, True, True], [False, True, True]]),
        None,
        None,
    )


@layer.case
def with_prefix():
    """A prefix of two columns."""
    return a_block(), tidy(2, 3, 4), None, random_prefix(2), None


@layer.case
def with_dropout():
    """In training, with dropout."""
    return a_block(dropout=0.5).train(), tidy(1, 3, 4), None, None, None


@layer.case
def dropout_at_rest():
    """Not in training, though the layer has dropout."""
    return a_block(dropout=0.5), tidy(1, 3, 4), None, None, None


@layer.scene
def token_by_token(Block):
    """Three tokens one by one, with a cache."""
    block = lively(Block(GPTConfig(vocab_size=7, n_head=2, d_model=4, d_ff=6)))
    x, cache = torch.randn(1, 3, 4), KVCache(3)
    pieces = [block(x[:, t : t + 1], None, None, cache) for t in range(3)]
    return {"columns in the cache": cache.length, "output": torch.cat(pieces, dim=1)}


ATTENTION = "y = self.attention(self.norm1(x), None, attention_mask, prefix, cache)"
FIRST, SECOND = (
    "x = x + drop(y, self.dropout, self.training)",
    "return x + drop(y, self.dropout, self.training)",
)
layer.slip(
    "norm after the sum",
    "You normalise after each sum (post-norm). That is the order of the Transformer's first figure and of BERT; GPT-2 "
    "normalises what a sublayer reads and leaves the stream itself alone, which is easier to train when it is deep.",
    (ATTENTION, "y = self.attention(x, None, attention_mask, prefix, cache)"),
    (FIRST, "x = self.norm1(x + drop(y, self.dropout, self.training))"),
    ("self.mlp(self.norm2(x))", "self.mlp(x)"),
    (SECOND, "return self.norm2(x + drop(y, self.dropout, self.training))"),
)
layer.slip(
    "stream lost",
    "You return what the sublayers gave without adding it to x. Then a layer has to say everything again, and the "
    "gradient reaches the lower layers only through all the others; the stream is what it comes down by.",
    (FIRST, "x = drop(y, self.dropout, self.training)"),
    (SECOND, "return drop(y, self.dropout, self.training)"),
)
layer.slip(
    "attention not added",
    "You replace x by what attention gave. What the token itself was is lost then; it is x + …, twice.",
    (FIRST, "x = drop(y, self.dropout, self.training)"),
)
layer.slip(
    "norms exchanged",
    "You normalise with norm2 before attention and with norm1 before the feed-forward network. Each sublayer has its own: norm1 is attention's.",
    ("self.attention(self.norm1(x)", "self.attention(self.norm2(x)"),
    ("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))"),
)
layer.slip(
    "feed-forward network first",
    "Your feed-forward network comes before attention. Attention fetches from the tokens before, and the network works on what was fetched.",
    (ATTENTION, "y = self.mlp(self.norm2(x))"),
    (
        "y = self.mlp(self.norm2(x))  # (B, T, C)\n        return",
        ATTENTION + "\n        return",
    ),
)
layer.slip(
    "attention's part lost",
    "Your second sum begins with the x from before the layer. What attention added is lost then: the second sum begins with what the first gave.",
    (ATTENTION, "given = x\n        " + ATTENTION),
    (SECOND, "return given + drop(y, self.dropout, self.training)"),
)
layer.slip(
    "the x that was given is changed",
    "You add to x in its place (+=). Whoever gave x may still need it, and PyTorch needs it for the gradients. x = x + … makes a new tensor.",
    (FIRST, "x += drop(y, self.dropout, self.training)"),
)


layer.slip(
    "norm on the stream",
    "You put norm(x) in the place of x and add to that. The norm belongs to what the sublayer reads; the stream that is "
    "added to stays as it was.",
    (
        ATTENTION,
        "x = self.norm1(x)\n        y = self.attention(x, None, attention_mask, prefix, cache)",
    ),
    ("self.mlp(self.norm2(x))", "self.mlp(x := self.norm2(x))"),
)
layer.slip(
    "one norm for both",
    "You normalise with norm1 both times. Each sublayer has a norm with scale and shift of its own.",
    ("self.norm2(x)", "self.norm1(x)"),
)
layer.slip(
    "feed-forward without norm",
    "Your feed-forward network reads x as it is. Both sublayers read a normalised x: norm2 stands before the second.",
    ("self.norm2(x)", "x"),
)
layer.slip(
    "side by side",
    "Both of your sublayers read the x from before the layer. The feed-forward network works on what attention has "
    "fetched: it reads the sum.",
    (ATTENTION, "before = x\n        " + ATTENTION),
    ("self.norm2(x)", "self.norm2(before)"),
)
layer.slip(
    "padding not passed on",
    "attention_mask does not reach attention: padding is read as if it were text.",
    ("None, attention_mask, prefix, cache", "None, None, prefix, cache"),
)
layer.slip(
    "prefix not passed on",
    "The prefix does not reach attention. The model would run, and a prefix would learn nothing, for nobody reads it.",
    ("None, attention_mask, prefix, cache", "None, attention_mask, None, cache"),
)
layer.slip(
    "cache not passed on",
    "The cache does not reach attention: each new token sees only itself, and writing word by word gives another text.",
    ("None, attention_mask, prefix, cache", "None, attention_mask, prefix, None"),
)
layer.slip(
    "dropout left out",
    "Your layer has no dropout in training: what attention and the feed-forward network give passes through drop before it is added.",
    (FIRST, "x = x + y"),
    (SECOND, "return x + y"),
)
layer.slip(
    "dropout on attention alone",
    "What the feed-forward network gives is added as it is. It passes through drop as well: x + drop(self.mlp(…), self.dropout, self.training).",
    (SECOND, "return x + y"),
)
layer.slip(
    "dropout on the feed-forward network alone",
    "What attention gives is added as it is. It passes through drop as well: x + drop(y, self.dropout, self.training).",
    (FIRST, "x = x + y"),
)
layer.slip(
    "dropout on what the feed-forward network reads",
    "Your dropout falls on what the feed-forward network reads. It falls on what the network gives: drop(self.mlp(self.norm2(x)), …), and then the sum.",
    ("self.mlp(self.norm2(x))", "self.mlp(drop(self.norm2(x), self.dropout, self.training))"),
    (SECOND, "return x + y"),
)
layer.slip(
    "dropout on what the sublayers read",
    "Your dropout falls on what the sublayers read, the normalised x. It falls on what they give, before that is added: x + drop(y, …).",
    (
        ATTENTION,
        "y = self.attention(drop(self.norm1(x), self.dropout, self.training), None, attention_mask, prefix, cache)",
    ),
    (FIRST, "x = x + y"),
    ("self.mlp(self.norm2(x))", "self.mlp(drop(self.norm2(x), self.dropout, self.training))"),
    (SECOND, "return x + y"),
)
layer.slip(
    "a context passed",
    "You pass a context, the second argument of attention; it is None here. With a context attention takes the cache for the context's, which "
    "does not grow: a token that comes later finds neither itself nor the tokens before it.",
    (
        ATTENTION,
        "y = self.norm1(x)\n        y = self.attention(y, y, attention_mask, prefix, cache)",
    ),
)
layer.slip(
    "x passed as the context",
    "You pass x as the context, the second argument of attention, so that keys and values are made of an x that no norm has seen. The context is None "
    "here: then queries, keys and values are made of the first argument.",
    ("self.norm1(x), None, attention_mask", "self.norm1(x), x, attention_mask"),
)
layer.slip(
    "arguments moved up",
    "You leave out the second argument of attention, the context, so that each after it arrives one place too early: the mask as the context, the "
    "prefix as the mask. There is no context here: None, or name them, attention_mask=attention_mask.",
    (ATTENTION, "y = self.attention(self.norm1(x), attention_mask, prefix, cache)"),
)
layer.slip(
    "dropout at rest",
    "Your dropout falls outside of training too. Whether the model is in training is self.training: drop(y, self.dropout, self.training).",
    (FIRST, "x = x + F.dropout(y, self.dropout)"),
    (SECOND, "return x + F.dropout(y, self.dropout)"),
)
layer.slip(
    "dropout on the sum",
    "Your dropout falls on the whole stream, x + y, and wipes out what lower layers said. Only what the sublayer adds passes through it: x + drop(y, …).",
    (FIRST, "x = drop(x + y, self.dropout, self.training)"),
    (SECOND, "return drop(x + y, self.dropout, self.training)"),
)

# ---------------------------------------------------------------- 3.2


def torch_gpt(model, ids, *_):
    """Embeddings, PyTorch's own layers, the product with the table."""
    x = (
        model.token_embedding.weight[ids] + model.position_embedding.weight[: ids.size(1)]
    )  # (B, T, C)
    for block in model.blocks:
        x = torch_layer(block, x)
    return torch.einsum("btc,vc->btv", model.norm(x), model.token_embedding.weight)  # (B, T, V)


whole = Exercise(
    id="3.2",
    target="minitransformer.models.gpt:GPT.forward",
    title="A GPT",
    minutes=30,
    difficulty=3,
    purpose="The whole model: from token ids to a score for each token that could come next, at every position at once. Two "
    "tables make vectors, the layers let them read each other, and the first table, once more, makes scores of them.",
    given=(
        "columns_before(prefix, cache, n_layer): the pair (n_before, n_prefix).",
        "embed(embedding, ids, vectors): looks tokens up, and refuses those that do not exist.",
        "embed_positions(embedding, ids, attention_mask, n_before, n_prefix): what is added to them.",
        "drop(x, p, training): dropout of their sum.",
        "block(x, attention_mask, prefix, cache): one of self.blocks, with its own prefix and cache, or None.",
    ),
    hints=(
        "Five steps: vectors of the tokens plus vectors of their positions; dropout; the layers one after the other, each with "
        "its own prefix and its own cache; the last norm; the product with the token table, unless `return_hidden` is wanted.",
        "columns_before(prefix, cache, n_layer) says what stands before this call's tokens: two numbers, which embed_positions "
        "takes as its last two. embed and embed_positions refuse what does not fit. x[at] picks the wanted positions; "
        "do that before the dear product.",
        "    before = columns_before(prefix, cache, self.config.n_layer)\n"
        "    x = embed(self.token_embedding, ids, vectors)\n"
        "    x = x + embed_positions(self.position_embedding, ids, attention_mask, *before)\n"
        "    # drop\n"
        "    for i, block in enumerate(self.blocks):\n"
        "        of_prefix = prefix[i] if prefix else None\n"
        "        of_cache = cache[i] if cache else None\n"
        "        x = block(x, attention_mask, of_prefix, of_cache)\n"
        "    # x[at] if at is given; self.norm;\n"
        "    # unless hidden, F.linear with the token table's weight",
    ),
)


@whole.case(oracle=torch_gpt)
def one_id():
    """One token."""
    return a_gpt(), torch.tensor([[3]])


@whole.case(oracle=torch_gpt)
def two_texts():
    """Two texts of three tokens."""
    return a_gpt(), torch.tensor([[3, 1, 4], [1, 5, 2]])


@whole.case
def the_last_vector():
    """return_hidden: vectors in place of scores."""
    return a_gpt(), torch.tensor([[3, 1]]), None, None, None, None, True


@whole.case
def only_some():
    """at: the second position of the first text, the last of the other."""
    at = torch.tensor([[False, True, False], [False, False, True]])
    return a_gpt(), torch.tensor([[3, 1, 4], [1, 5, 2]]), None, None, None, at


@whole.case
def none_at_all():
    """at is False everywhere: no scores, (0, V)."""
    return (
        a_gpt(),
        torch.tensor([[3, 1]]),
        None,
        None,
        None,
        torch.zeros(1, 2, dtype=torch.bool),
    )


@whole.case(oracle=torch_gpt)
def three_layers():
    """A model of three layers."""
    return a_gpt(n_layer=3), torch.tensor([[3, 1, 4]])


@whole.scene
def only_what_is_wanted(GPT):
    """Scores at one of eight positions, in a vocabulary of 2,000: no others are computed."""
    model = lively(GPT(GPTConfig(2000, 8, n_layer=1, n_head=2, d_model=4, d_ff=6)))
    at = torch.zeros(1, 8, dtype=torch.bool)
    at[0, 5] = True
    with torch.inference_mode():
        work = cost(model, torch.arange(8)[None], at=at).work
    return {"fewer numbers are computed than eight positions have scores": work < 8 * 2000}


@whole.case
def padded_left():
    """The second text begins with padding."""
    attention_mask = torch.tensor([[True, True, True], [False, True, True]])
    return a_gpt(), torch.tensor([[3, 1, 4], [0, 5, 2]]), attention_mask


@whole.case
def with_prefixes():
    """One token behind a prefix of one column in each of the two layers."""
    return a_gpt(), torch.tensor([[3]]), None, [random_prefix(1), random_prefix(1)]


@whole.case
def virtual_tokens():
    """A virtual token, −1, before two of the vocabulary."""
    return a_gpt(), torch.tensor([[-1, 1, 4]]), None, None, None, None, False, tidy(1, 4)


@whole.case
def in_training():
    """In training, with dropout."""
    return a_gpt(dropout=0.5).train(), torch.tensor([[3, 1, 4]])


@whole.case
def at_rest():
    """Not in training, though the model has dropout."""
    return a_gpt(dropout=0.5), torch.tensor([[3, 1, 4]])


@whole.case
def some_vectors():
    """at and hidden together: the vectors of two positions."""
    return (
        a_gpt(),
        torch.tensor([[3, 1, 4]]),
        None,
        None,
        None,
        torch.tensor([[True, False, True]]),
        True,
    )


@whole.case
def outside_the_vocabulary():
    """An id that the vocabulary does not have is refused."""
    return a_gpt(), torch.tensor([[3, 6]])


@whole.case
def too_long():
    """Nine tokens, where the model has eight positions, are refused."""
    return a_gpt(), torch.arange(9)[None] % 6


@whole.scene
def piece_by_piece(GPT):
    """Two tokens and then one, with a cache and a prefix."""
    model, prefix = (
        lively(GPT(GPTConfig(7, 8, n_layer=2, n_head=2, d_model=4, d_ff=6))),
        [random_prefix(2), random_prefix(2)],
    )
    cache = model.new_cache()
    with torch.inference_mode():
        first, then = (
            model(torch.tensor([[3, 1]]), prefix=prefix, cache=cache),
            model(torch.tensor([[4]]), cache=cache),
        )
    return {
        "columns in each cache": [layer.length for layer in cache],
        "scores": torch.cat([first, then], dim=1),
    }


POSITIONS = "x = x + embed_positions(self.position_embedding, ids, attention_mask, *before)"
whole.slip(
    "no positions",
    "You add no position vectors. Attention takes the tokens as a heap; only the causal mask would tell the model anything about order.",
    (POSITIONS, "pass"),
)
whole.slip(
    "positions from 0 in every call",
    "Your positions begin at 0 whatever stands before. With a prefix the tokens come after its P columns, and with a cache "
    "after all that was read: columns_before says how many.",
    (
        "attention_mask, *before)",
        "attention_mask[:, -ids.size(1):] if attention_mask is not None else None, 0, 0)",
    ),
)
whole.slip(
    "padding not passed to the layers",
    "The layers do not get attention_mask: the text reads its padding.",
    ("x = block(x, attention_mask, ", "x = block(x, None, "),
)
whole.slip(
    "positions count padding",
    "embed_positions does not get attention_mask, so that padding on the left takes up positions. The first real token is number 0, wherever it stands.",
    ("ids, attention_mask, *before)", "ids, None, *before)"),
)
whole.slip(
    "one prefix for all layers",
    "You give the first layer's prefix to every layer. Each layer has keys and values of its own: prefix[i].",
    ("prefix[i] if prefix", "prefix[0] if prefix"),
)
whole.slip(
    "prefix in the first layer only",
    "Only the first layer gets a prefix. Prefix tuning acts in every layer; that is what tells it from a soft prompt.",
    ("prefix[i] if prefix else None", "prefix[i] if prefix and i == 0 else None"),
)
whole.slip(
    "cache not handed out",
    "The layers do not get their caches, so that each call begins anew: the second call does not know the first.",
    ("cache[i] if cache else None", "None"),
)
whole.slip(
    "last norm left out",
    "You leave out the norm after the last layer. The stream has grown with every sum; the scores would grow with it, and be sure of themselves for no reason.",
    ("x = self.norm(x)", "pass"),
)
whole.slip(
    "hidden before the norm",
    "With hidden you return the stream before the last norm. h^(n), which heads other than the vocabulary read, is normalised.",
    (
        "x = self.norm(x)  # (B, T, C)\n        return x if return_hidden",
        "return x if return_hidden",
    ),
    ("F.linear(x, self.", "F.linear(self.norm(x), self."),
)
whole.slip(
    "probabilities in place of scores",
    "You return softmax of the scores. The loss and the sampler take scores, for log softmax of scores does not overflow, and a temperature divides them.",
    (
        "F.linear(x, self.token_embedding.weight)",
        "F.linear(x, self.token_embedding.weight).softmax(-1)",
    ),
)
whole.slip(
    "scores computed everywhere",
    "You compute the scores of all positions and pick the wanted ones afterwards. The product with the vocabulary is the dearest part of the call: pick first, x = x[at], then multiply.",
    ("x = pick(x, at)", "pass"),
    (
        "return x if return_hidden else F.linear(x, self.token_embedding.weight)",
        "x = x if return_hidden else F.linear(x, self.token_embedding.weight)\n        return x if at is None else x[at]",
    ),
)
whole.slip(
    "a fixed number of layers",
    "You call two layers. A model has as many as its config says: go through all of self.blocks.",
    ("enumerate(self.blocks)", "enumerate(self.blocks[:2])"),
)
whole.slip(
    "one cache for all layers",
    "You give the first layer's cache to every layer, so that it fills up with the columns of all of them. Each layer has a cache of its own: cache[i].",
    ("cache[i] if cache", "cache[0] if cache"),
)
whole.slip(
    "embeddings scaled",
    "You multiply the embeddings by √C. The Transformer's first paper does that; GPT-2 adds the two tables' vectors as they are.",
    (
        "x = embed(self.token_embedding, ids, vectors)",
        "x = embed(self.token_embedding, ids, vectors) * self.config.d_model**0.5",
    ),
)
whole.slip(
    "at ignored",
    "You compute scores at every position. Where `at` is given, only those are wanted: x[at], before the product with the vocabulary.",
    ("x = pick(x, at)", "pass"),
)
whole.slip(
    "table looked up without embed",
    'You look ids up in the table directly. An id that is not there ends in "index out of range", and virtual tokens find nothing; embed says which id it is, and knows the vectors.',
    ("embed(self.token_embedding, ids, vectors)", "self.token_embedding(ids)"),
)
whole.slip(
    "virtual vectors forgotten",
    "You do not pass `vectors` to embed: virtual tokens, the negative ids, have nothing to stand for.",
    ("self.token_embedding, ids, vectors)", "self.token_embedding, ids)"),
)
whole.slip(
    "no dropout on the input",
    "In training the sum of token and position vectors passes through drop too, before the first layer.",
    ("x = drop(x, self.config.dropout, self.training)", "pass"),
)
whole.slip(
    "at ignored with hidden",
    "With hidden you return all vectors, though at asks for some. The positions are picked first, for vectors as for scores.",
    ("if at is not None:", "if at is not None and not return_hidden:"),
)
whole.slip(
    "columns before exchanged",
    "embed_positions takes n_before and then n_prefix, in the order in which columns_before gives them; yours come the other way round.",
    ("attention_mask, *before)", "attention_mask, *before[::-1])"),
)
whole.slip(
    "dropout at rest",
    "Your dropout falls outside of training too. Whether the model is in training is self.training: drop(x, self.config.dropout, self.training).",
    ("x = drop(x, self.config.dropout, self.training)", "x = F.dropout(x, self.config.dropout)"),
)
whole.slip(
    "first norm instead of last",
    "You normalise before the first layer. Each layer has its norms; self.norm stands behind the last one, before the product with the table.",
    (
        "x = drop(x, self.config.dropout, self.training)",
        "x = self.norm(drop(x, self.config.dropout, self.training))",
    ),
    ("x = self.norm(x)", "pass"),
)

# ---------------------------------------------------------------- 3.3


def rate_by_turning(step, config):
    """The warm-up as a list; then a point goes half round a circle, step by step, and its shadow is the rate."""
    rates = [config.lr * k / config.warmup for k in range(1, config.warmup + 1)]
    n, point, end = config.steps - config.warmup or 1, 1 + 0j, config.lr * config.final_lr
    for _ in range(n + 1):
        rates.append(end + (config.lr - end) * (point.real + 1) / 2)
        point *= cmath.rect(1, math.pi / n)
    return rates[min(step, len(rates) - 1)]


rate = Exercise(
    id="3.3",
    target="minitransformer.training.loop:learning_rate",
    title="How far a step goes",
    minutes=15,
    difficulty=2,
    purpose="The learning rate of each step: small at first, while the optimizer's averages are still made of two or three "
    "gradients, then large, then smaller and smaller, so that the model settles down.",
    given=(
        "config.lr, config.warmup, config.steps, config.final_lr: the peak, the steps of the warm-up (it may be 0), all steps, and the fraction of the peak at the end.",
        "The half wave is cos from 0 to π, scaled so that it begins at lr in step `warmup`. If warmup = steps, step `warmup` has lr and all after it have final_lr · lr.",
    ),
    hints=(
        "Two pieces. During the first `warmup` steps a straight line: step 0 has one part of lr, step warmup − 1 all of it. "
        "After that, which share of the remaining steps is done?",
        "done = (step − warmup) / (steps − warmup) goes from 0 to 1. (1 + cos(π · done)) / 2 goes from 1 to 0. Wanted is "
        "something that goes from lr to final_lr · lr, and stays there afterwards.",
        "The max keeps the divisor from being 0 where warmup is as long as steps.\n"
        "    if step < config.warmup:\n"
        "        return config.lr * (step + 1) / config.warmup\n"
        "    n_steps = max(1, config.steps - config.warmup)\n"
        "    done = min(1, (step - config.warmup) / n_steps)\n"
        "    half_cosine = 0.5 * (1 + math.cos(math.pi * done))  # from 1 to 0\n"
        "    share = config.final_lr + (1 - config.final_lr) * half_cosine\n"
        "    return config.lr * share",
    ),
    oracle=rate_by_turning,
    tolerance=1e-6,
)


def plan(steps=14, warmup=4, lr=2.0, final_lr=0.1):
    """Fourteen steps, of which four are warm-up, to a peak of 2."""
    return TrainConfig(steps=steps, warmup=warmup, lr=lr, final_lr=final_lr)


@rate.case
def very_first():
    """The first step of the warm-up."""
    return 0, plan()


@rate.case
def end_of_warmup():
    """The last step of the warm-up."""
    return 3, plan()


@rate.case
def peak():
    """The first step after the warm-up."""
    return 4, plan()


@rate.case
def a_quarter():
    """Some way down the cosine."""
    return 6, plan()


@rate.case
def half_way():
    """Half-way down the cosine."""
    return 9, plan()


@rate.case
def last_step():
    """The last of the 14 steps."""
    return 13, plan()


@rate.case
def at_the_end():
    """When all steps are done."""
    return 14, plan()


@rate.case
def beyond_the_end():
    """A step beyond the end: it stays where it is."""
    return 18, plan()


@rate.case
def without_warmup():
    """No warm-up at all."""
    return 0, plan(steps=5, warmup=0)


@rate.case
def warmup_alone():
    """The warm-up takes all steps, and they are done: the rate of the step after them."""
    return 4, plan(steps=4, warmup=4)


@rate.case
def beyond_the_warmup_alone():
    """The warm-up takes all steps: the rate from the second step after them on."""
    return 5, plan(steps=4, warmup=4)


@rate.case
def down_to_nothing():
    """final_lr = 0 is allowed: the rate ends at 0."""
    return 14, plan(final_lr=0.0)


@rate.case
def always_the_same():
    """final_lr = 1: behind the warm-up the rate stays at its peak."""
    return 11, plan(final_lr=1.0)


@rate.case
def on_the_way_without_warmup():
    """No warm-up at all, in the step of number 2."""
    return 2, plan(steps=5, warmup=0)


def wrong_rate(warm=1, cosine=0.5, angle=math.pi, start=True, final=None, most=1.0, shape=None):
    """The function as a learner would write it, with one thing in it replaced."""

    def learning_rate(step, config):
        if step < config.warmup:
            return config.lr * (step + warm) / config.warmup
        first = config.warmup if start else 0
        done = min(most, (step - first) / max(1, config.steps - first))
        share = shape(done) if shape else cosine * (1 + math.cos(angle * done))
        if final is not None:
            return final(config, share)
        return config.lr * (config.final_lr + (1 - config.final_lr) * share)

    return learning_rate


@rate.mistake
def begins_at_zero(step, config):
    """Your warm-up begins at 0: the first step changes nothing, its batch is wasted, and the peak comes a step late. Steps count from 0, so it is (step + 1) / warmup."""
    return wrong_rate(warm=0)(step, config)


@rate.mistake
def warmup_a_step_too_long(step, config):
    """Your warm-up takes one step more (step <= warmup), and goes beyond the peak in it. Its steps are 0 … warmup − 1: step < config.warmup."""
    if step == config.warmup and step:
        return config.lr * (step + 1) / config.warmup
    return wrong_rate()(step, config)


@rate.mistake
def peak_not_reached(step, config):
    """Your warm-up divides by warmup + 1 and so ends below lr. Step 0 has one part of warmup, step warmup − 1 all of them: (step + 1) / warmup."""
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    return wrong_rate()(step, config)


@rate.mistake
def cosine_over_all_steps(step, config):
    """Your cosine counts the warm-up's steps too, so that the rate jumps when the warm-up ends. It begins behind the warm-up, at the peak: (step − warmup) / (steps − warmup)."""
    return wrong_rate(start=False)(step, config)


@rate.mistake
def down_to_zero(step, config):
    """Your rate falls to 0 and does not know final_lr. The cosine ends at final_lr times the peak."""
    return wrong_rate(final=lambda config, share: config.lr * share)(step, config)


@rate.mistake
def final_lr_as_a_rate(step, config):
    """You take final_lr for a rate. It is a share of the peak, so that another lr does not need another final_lr: the end is final_lr · lr."""
    return wrong_rate(
        final=lambda config, share: config.final_lr + (config.lr - config.final_lr) * share
    )(step, config)


@rate.mistake
def final_lr_on_top(step, config):
    """You add final_lr to the whole cosine, so that the peak is (1 + final_lr) · lr. What is left for the cosine is 1 − final_lr."""
    return wrong_rate(final=lambda config, share: config.lr * (config.final_lr + share))(
        step, config
    )


@rate.mistake
def twice_the_peak(step, config):
    """You use 1 + cos, which goes from 2 to 0, without the half. The rate would jump up behind the warm-up."""
    return wrong_rate(cosine=1.0)(step, config)


@rate.mistake
def a_whole_wave(step, config):
    """You go round the whole circle, 2π: the rate is lowest half-way and back at its peak at the end. Half a cosine, π, goes down once."""
    return wrong_rate(angle=2 * math.pi)(step, config)


@rate.mistake
def a_straight_line_down(step, config):
    """Your rate falls along a straight line. The cosine stays high for longer, then falls, then flattens out: (1 + cos(π · d)) / 2, where d goes from 0 at the peak to 1 at the end."""
    return wrong_rate(shape=lambda done: 1 - done)(step, config)


@rate.mistake
def at_the_end_a_step_early(step, config):
    """Your cosine is at its end in the last step, number steps − 1. It is to get there when all steps are done, at number `steps`: (step − warmup) / (steps − warmup)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = min(1, (step - config.warmup) / max(1, config.steps - config.warmup - 1))
    return config.lr * (
        config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    )


@rate.mistake
def cosine_from_the_last_of_the_warmup(step, config):
    """Your cosine is one step ahead: step `warmup` is already below the peak. It begins there at lr: (step − warmup) / (steps − warmup), without + 1."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = min(1, (step - config.warmup + 1) / max(1, config.steps - config.warmup))
    return config.lr * (
        config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    )


@rate.mistake
def rises_again(step, config):
    """Beyond the last step your cosine goes up again. It stays at its end, for a run may be a few steps longer than planned: of the steps behind the warm-up no larger share than 1 can be done, min(1, …)."""
    return wrong_rate(most=math.inf)(step, config)


@rate.mistake
def cut_off_at_the_floor(step, config):
    """You cut the cosine off where it falls below final_lr. It has to be scaled, so that it goes down to final_lr and flattens out there: final_lr + (1 − final_lr) · (1 + cos(…)) / 2, times lr."""
    return wrong_rate(final=lambda config, share: config.lr * max(config.final_lr, share))(
        step, config
    )


@rate.mistake
def a_quarter_of_a_cosine(step, config):
    """Yours is a quarter of a cosine, cos from 0 to π/2: it falls fastest at the end. Half a cosine is cos from 0 to π, which goes from 1 to −1: (1 + cos) / 2 brings that to 1 … 0."""
    return wrong_rate(shape=lambda done: math.cos(math.pi / 2 * done))(step, config)


@rate.mistake
def stops_half_way_down(step, config):
    """Your cosine goes from 0 to π/2 only, so that (1 + cos) / 2 stops half-way down, at 1/2. It goes to π."""
    return wrong_rate(angle=math.pi / 2)(step, config)


@rate.mistake
def no_end_of_zero(step, config):
    """You take another number where final_lr is 0 (final_lr or …). 0 is a number like any other: the rate then ends at 0."""
    return wrong_rate(
        final=lambda config, share: config.lr * ((config.final_lr or 0.1) * (1 - share) + share)
    )(step, config)


@rate.mistake
def a_tenth_in_any_case(step, config):
    """Your rate ends at a tenth of the peak, whatever final_lr is. The fraction that is left at the end is config.final_lr."""
    return wrong_rate(final=lambda config, share: config.lr * (0.1 + 0.9 * share))(step, config)


@rate.mistake
def one_step_of_warmup_at_least(step, config):
    """You count one step of warm-up where there is none (warmup or 1, max(1, warmup)). With warmup = 0 the half wave begins in step 0."""
    first = max(1, config.warmup)
    if step < first:
        return config.lr * (step + 1) / first
    done = min(1, (step - first) / max(1, config.steps - first))
    return config.lr * (
        config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    )


rate.slip(
    "divided by no steps",
    "You divide by steps − warmup, which is 0 where the warm-up takes all steps. The cosine then counts as one of a single step: divide by "
    "max(1, steps − warmup).",
    ("max(1, config.steps - config.warmup)", "(config.steps - config.warmup)"),
)


# ---------------------------------------------------------------- 3.4


def top_p_by_loop(logits, p):
    """Row by row, the likeliest first, until their probabilities reach p."""
    kept = torch.full_like(logits, -math.inf)
    for row, scores in enumerate(logits.tolist()):
        total, held = sum(math.exp(score) for score in scores), 0.0
        for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
            if held >= p:
                break
            kept[row, i] = logits[row, i]
            held += math.exp(scores[i]) / total
    return kept


nucleus = Exercise(
    id="3.4",
    target="minitransformer.generation.sampling:keep_top_p",
    title="The nucleus",
    minutes=20,
    difficulty=3,
    purpose="Most of a vocabulary is nonsense at any one place, and together the nonsense is likely enough to be drawn now and "
    "then. Top-p leaves the few tokens that hold most of the probability, few where the model is sure, many where it is not.",
    hints=(
        "Sort each row, the likeliest first, and make probabilities of it. A token may go if those before it hold p already. "
        "How much do those before it hold?",
        "probs.cumsum(-1) counts the token itself; minus probs it is what stood before, which is 0 for the first: that one always "
        "stays. The mask that you have is in sorted order; `order` from sort says where each of its places belongs.",
        "    sorted_logits, order = logits.sort(dim=-1, descending=True)\n"
        "    probs = sorted_logits.softmax(dim=-1)\n"
        "    before = probs.cumsum(dim=-1) - probs\n"
        "    mask = before >= p\n"
        "    mask = mask.scatter(-1, order, mask)  # puts it back in place\n"
        "    # masked_fill with -inf",
    ),
    oracle=top_p_by_loop,
)


def shares(*rows):
    """Logits whose softmax gives these probabilities."""
    return torch.tensor(rows).log()


@nucleus.case
def two_left():
    """Probabilities 0.6, 0.3, 0.1; p = 0.8."""
    return shares([0.6, 0.3, 0.1]), 0.8


@nucleus.case
def sure_of_one():
    """Probabilities 0.9, 0.06, 0.04; p = 0.5: the first alone is more."""
    return shares([0.9, 0.06, 0.04]), 0.5


@nucleus.case
def not_in_order():
    """The same as at first, in another order."""
    return shares([0.1, 0.6, 0.3]), 0.8


@nucleus.case
def five_tokens():
    """Five tokens in no order; p = 0.7."""
    return shares([0.1, 0.4, 0.05, 0.15, 0.3]), 0.72


@nucleus.case
def all_of_it():
    """p = 1: nobody goes."""
    return shares([0.2, 0.5, 0.3]), 1.0


@nucleus.case
def rows_by_themselves():
    """Two texts: one sure, one in doubt."""
    return shares([0.02, 0.95, 0.02, 0.01], [0.2, 0.22, 0.28, 0.3]), 0.6


@nucleus.case
def scores_of_a_model():
    """Scores that are no logarithms of probabilities."""
    return tidy(2, 6) + 3, 0.85


@nucleus.case
def some_ruled_out_before():
    """Two tokens are ruled out already (−∞), as where top-k came before."""
    return torch.tensor([[2.0, -math.inf, 1.0, 0.5, -math.inf]]), 0.7


@nucleus.scene
def exactly_p(keep_top_p):
    """Four tokens, equally likely: how many are left with p = 0.25, 0.5 and 0.75?"""
    return {
        f"how many are left with p = {p}": int(keep_top_p(torch.zeros(1, 4), p).isfinite().sum())
        for p in (0.25, 0.5, 0.75)
    }


def wrong_top_p(
    rule_out=lambda probs, p: probs.cumsum(-1) - probs >= p,
    fill=-math.inf,
    descending=True,
    shares=lambda x: x.softmax(-1),
    back=lambda mask, order: mask.scatter(-1, order, mask),
):
    """The function as a learner would write it, with one thing in it replaced."""

    def keep_top_p(logits, p):
        sorted_logits, order = logits.sort(dim=-1, descending=descending)
        return logits.masked_fill(back(rule_out(shares(sorted_logits), p), order), fill)

    return keep_top_p


@nucleus.mistake
def crossing_token_gone(logits, p):
    """You rule out the token with which the sum passes p. Then what is left holds less than p, and where one token alone holds more, nothing is left at all. What counts is the sum before the token."""
    return wrong_top_p(rule_out=lambda probs, p: probs.cumsum(-1) > p)(logits, p)


@nucleus.mistake
def one_too_many(logits, p):
    """You keep one token more than it takes: the first of those that were to go. The fewest whose sum reaches p are wanted."""
    return wrong_top_p(
        rule_out=lambda probs, p: F.pad(probs.cumsum(-1) - probs >= p, (1, 0))[:, :-1]
    )(logits, p)


@nucleus.mistake
def one_more_at_the_boundary(logits, p):
    """You go on where those before hold exactly p (> in place of >=). They hold p already, and the fewest tokens are wanted: a token may go if those before it hold p or more."""
    return wrong_top_p(rule_out=lambda probs, p: probs.cumsum(-1) - probs > p)(logits, p)


@nucleus.mistake
def ties_kept_together(logits, p):
    """You keep every token that is as likely as the last one that was kept. Of equally likely tokens only as many are wanted as it takes to reach p: rule out by place in the sorted row, not by value."""
    probs = logits.softmax(-1)
    ordered = probs.sort(dim=-1, descending=True).values
    kept = ordered.cumsum(-1) - ordered < p
    lowest = ordered.masked_fill(~kept, math.inf).min(-1, keepdim=True).values
    return logits.masked_fill(probs < lowest, -math.inf)


@nucleus.mistake
def the_first_row_for_all(logits, p):
    """You keep as many tokens in every row as in the first. Where one text is sure, another may be in doubt: each row has its own number of tokens."""
    probs = logits[0].softmax(-1).sort(descending=True).values
    n = int((probs.cumsum(-1) - probs < p).sum())
    return logits.masked_fill(logits < logits.topk(n).values[:, -1:], -math.inf)


@nucleus.mistake
def not_put_back(logits, p):
    """Your mask is in sorted order, and you lay it on logits that are not. Place i of the mask belongs to token order[i]: scatter puts it there."""
    return wrong_top_p(back=lambda mask, order: mask)(logits, p)


@nucleus.mistake
def gather_for_scatter(logits, p):
    """You put the mask back with gather (or mask[order]). gather asks what lies at order[i], which sorts once more; scatter lays what is at i down at order[i], which undoes the sorting."""
    return wrong_top_p(back=lambda mask, order: mask.gather(-1, order))(logits, p)


@nucleus.mistake
def unlikely_ones_kept(logits, p):
    """You sort from the unlikeliest up, and so keep the tail and drop the head: descending=True."""
    return wrong_top_p(descending=False)(logits, p)


@nucleus.mistake
def zero_for_minus_infinity(logits, p):
    """You set ruled-out scores to 0. Softmax makes e⁰ = 1 of that, often more than any other token has; only −inf becomes probability 0."""
    return wrong_top_p(fill=0.0)(logits, p)


@nucleus.mistake
def sums_of_scores(logits, p):
    """You add up scores. They are no probabilities and may be negative; softmax first, then cumsum."""
    return wrong_top_p(shares=lambda x: x)(logits, p)


@nucleus.mistake
def each_token_by_itself(logits, p):
    """You drop each token whose own probability is below p. It is the sum of the likeliest that has to reach p; of a distribution in doubt no single token does."""
    return logits.masked_fill(logits.softmax(-1) < p, -math.inf)


@nucleus.mistake
def below_one_minus_p(logits, p):
    """You drop each token that is itself less likely than 1 − p. It is the tail together that holds at most 1 − p, and the number of tokens in it is what differs from place to place."""
    return logits.masked_fill(logits.softmax(-1) < 1 - p, -math.inf)


@nucleus.mistake
def shares_over_the_batch(logits, p):
    """Your softmax goes along the batch, dim=0, so that texts share out each token among them. Each text has a distribution over the vocabulary: dim=-1."""
    return wrong_top_p(shares=lambda x: x.softmax(0))(logits, p)


@nucleus.mistake
def shares_in_the_old_order(logits, p):
    """You sort, and then add up probabilities that are not sorted (softmax of logits, not of what sort gave). Those before a token have to be the likelier ones."""
    order = logits.argsort(dim=-1, descending=True)
    probs = logits.softmax(-1)
    mask = probs.cumsum(-1) - probs >= p
    return logits.masked_fill(mask.scatter(-1, order, mask), -math.inf)


@nucleus.mistake
def left_in_order_of_likelihood(logits, p):
    """You return the row as it was sorted, the likeliest first. Place i of it is no longer token i: the result has the order of the vocabulary."""
    sorted_logits = logits.sort(dim=-1, descending=True).values
    probs = sorted_logits.softmax(-1)
    return sorted_logits.masked_fill(probs.cumsum(-1) - probs >= p, -math.inf)


@nucleus.mistake
def large_number_for_minus_infinity(logits, p):
    """You set ruled-out scores to a large negative number. It works until something is added or divided by a temperature; −inf, float("-inf"), is what stays ruled out whatever comes."""
    return wrong_top_p(fill=-1e9)(logits, p)


@nucleus.mistake
def input_changed(logits, p):
    """You write into the logits that were given. Whoever gave them may still need them: masked_fill (without _) and torch.where make new ones."""
    return logits.copy_(top_p_by_loop(logits, p))


@nucleus.mistake
def probabilities_returned(logits, p):
    """You return probabilities. The next step takes scores and makes one softmax of what is left, so that it sums to 1 again."""
    return top_p_by_loop(logits, p).softmax(-1)


# ---------------------------------------------------------------- 3.5

cache = Exercise(
    id="3.5",
    target="minitransformer.models.cache:KVCache.append",
    title="The cache",
    minutes=20,
    difficulty=3,
    purpose="The keys and values of tokens that were read do not change any more. The cache keeps them, so that writing a "
    "token costs one column instead of all; this method puts new columns behind those that are there.",
    given=(
        "self.length: how many columns are filled, at first 0.",
        "self.columns(): the filled columns of self.k and self.v.",
        "self.n_prefix, self.capacity: their sum is the most columns that fit.",
    ),
    hints=(
        "Make room once, at the first call, for all columns that will ever come: (B, H, n_prefix + capacity, D). Then copy the "
        "T new ones in behind the self.length that are filled, move length on, and return everything that is filled.",
        "Refuse first: self.length + T must be at most self.n_prefix + self.capacity. k.new_empty(…) makes room in the type of "
        "k; self.k.narrow(2, start, T).copy_(k) writes columns start to start + T.",
        "    start, end = self.length, self.length + T\n"
        "    # raise UserError if end > self.n_prefix + self.capacity\n"
        "    if self.k is None:\n"
        "        …  # make self.k and self.v\n"
        "    self.length = end\n"
        "    self.k.narrow(2, start, T).copy_(k)\n"
        "    # and the same for v\n"
        "    return self.columns()",
    ),
)


@cache.case
def first_column():
    """The first column of an empty cache, two heads of three numbers."""
    return KVCache(4), tidy(1, 2, 1, 3), tidy(1, 2, 1, 3)


@cache.case
def a_few_at_once():
    """Three columns at once: the cache is full."""
    return KVCache(3), tidy(2, 1, 3, 4), tidy(2, 1, 3, 4)


@cache.case
def too_many():
    """Four columns for a cache of three are refused."""
    return KVCache(3), tidy(1, 1, 4, 2), tidy(1, 1, 4, 2)


@cache.scene
def two_then_one(KVCache):
    """Two columns, then one more."""
    cache = KVCache(4)
    cache.append(tidy(1, 2, 2, 3), tidy(1, 2, 2, 3))
    k, v = cache.append(tidy(1, 2, 1, 3), tidy(1, 2, 1, 3))
    return {"columns filled": cache.length, "keys": k, "values": v}


@cache.scene
def behind_a_prefix(KVCache):
    """A prefix of two columns does not count against the capacity."""
    cache = KVCache(2)
    cache.n_prefix = 2
    cache.append(tidy(1, 1, 3, 2), tidy(1, 1, 3, 2))
    k, v = cache.append(tidy(1, 1, 1, 2), tidy(1, 1, 1, 2))
    return {"columns filled": cache.length, "keys": k, "values": v}


@cache.scene
def given_tensor_changes(KVCache):
    """The caller goes on to use its tensor; the cache keeps what it was given."""
    cache, k = KVCache(2), torch.ones(1, 1, 1, 2)
    cache.append(k, k.clone())
    k.zero_()
    return {"keys": cache.columns()[0].clone()}


@cache.scene
def refused_and_unharmed(KVCache):
    """A call that is refused leaves the cache as it was."""
    cache = KVCache(2)
    cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    try:
        cache.append(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        refused = "not at all"
    except Exception as error:
        refused = type(error).__name__
    return {"what the second call raises": refused, "columns filled": cache.length}


@cache.scene
def room_is_made_once(KVCache):
    """Two columns for a cache of four behind a prefix of one, then two more: room is made once, for all five."""
    cache = KVCache(4)
    cache.n_prefix = 1
    cache.append(tidy(1, 2, 2, 3), tidy(1, 2, 2, 3))
    k, v = cache.k, cache.v
    room = k.size(2), v.size(2)
    cache.append(tidy(1, 2, 2, 3), tidy(1, 2, 2, 3))
    return {
        "columns for which the first call makes room": room,
        "the second call writes into the same keys": same_memory(k, cache.k),
        "the second call writes into the same values": same_memory(v, cache.v),
    }


cache.slip(
    "always from the start",
    "You write every call's columns at 0, over those that are there. They belong behind the self.length that are filled.",
    ("self.k.narrow(2, start, T)", "self.k.narrow(2, 0, T)"),
    ("self.v.narrow(2, start, T)", "self.v.narrow(2, 0, T)"),
    (
        "new_empty(B, H, most, D)\n            self.v = v.new_empty",
        "new_zeros(B, H, most, D)\n            self.v = v.new_zeros",
    ),
)
cache.slip(
    "length stays",
    "You do not move self.length on, so that the next call writes over this one, and columns() gives nothing.",
    ("self.length = end\n", "pass\n"),
)
cache.slip(
    "keys for values",
    "You store the keys as values too. Keys decide who is read, values what is read.",
    ("self.v.narrow(2, start, T).copy_(v)", "self.v.narrow(2, start, T).copy_(k)"),
)
cache.slip(
    "only the new columns",
    "You return only this call's columns. The query has to compare itself with all keys so far.",
    ("return self.columns()", "return k.clone(), v.clone()"),
)
cache.slip(
    "empty columns too",
    "You return the whole room, columns that nobody has filled included. Attention would read what lies there: narrow to self.length.",
    (
        "new_empty(B, H, most, D)\n            self.v = v.new_empty",
        "new_zeros(B, H, most, D)\n            self.v = v.new_zeros",
    ),
    ("return self.columns()", "return self.k, self.v"),
)
cache.slip(
    "prefix counted as text",
    "Your cache is full too early: capacity is for the text, and the n_prefix columns of a prefix come on top.",
    (
        "most = self.length, self.length + T, self.n_prefix + self.capacity",
        "most = self.length, self.length + T, self.capacity",
    ),
)
cache.slip("prefix counted as text", "", ("if end > most:", "if end > self.capacity:"))
cache.slip(
    "no room for the prefix",
    "You make room for `capacity` columns. Those are for the text, and the n_prefix columns of a prefix come on top.",
    ("self.k = k.new_empty(B, H, most, D)", "self.k = k.new_empty(B, H, self.capacity, D)"),
    ("self.v = v.new_empty(B, H, most, D)", "self.v = v.new_empty(B, H, self.capacity, D)"),
)
cache.slip(
    "one room for both",
    "Your keys and values lie in the same memory, so that the one is written over by the other. Make room twice.",
    ("self.v = v.new_empty(B, H, most, D)", "self.v = self.k"),
)
cache.slip(
    "one column too few",
    "Your cache refuses the column that just fills it. Full is allowed, only more is not: >, not >=.",
    ("if end > most:", "if end >= most:"),
)
cache.slip(
    "not refused",
    "You do not refuse more columns than there is room for: what comes is an error that speaks of tensors and sizes, where a sentence is promised (UserError).",
    ("if end > most:", "if False:"),
)
cache.slip(
    "length moved before the refusal",
    "You move self.length on and refuse afterwards. Whoever catches the refusal has a cache that believes it is fuller than it is: refuse first.",
    ("if end > most:", "self.length = end\n        if end > most:"),
)


@cache.mistake
def new_in_front(self, k, v):
    """Your new columns stand before the old ones. The order is the text's; the mask counts on the queries being the last."""
    n = self.length + k.size(2)
    if n > self.n_prefix + self.capacity:
        raise UserError("The cache is full.")
    self.k, self.v = (
        new.clone() if old is None else torch.cat([new, old], dim=2)
        for new, old in ((k, self.k), (v, self.v))
    )
    self.length = n
    return self.columns()


@cache.mistake
def the_tensor_itself(self, k, v):
    """You keep the caller's tensor itself at the first call. Whatever happens to it later happens to the cache; make room of your own and copy."""
    n = self.length + k.size(2)
    if n > self.n_prefix + self.capacity:
        raise UserError("The cache is full.")
    self.k, self.v = (
        new if old is None else torch.cat([old, new], dim=2)
        for new, old in ((k, self.k), (v, self.v))
    )
    self.length = n
    return self.columns()


@cache.mistake
def new_room_at_each_call(self, k, v):
    """You make a new tensor at each call (torch.cat), and so copy all earlier columns for every token. Make room for n_prefix + capacity columns at the first call, and write into it."""
    n = self.length + k.size(2)
    if n > self.n_prefix + self.capacity:
        raise UserError("The cache is full.")
    self.k, self.v = (
        new.clone() if old is None else torch.cat([old, new], dim=2)
        for new, old in ((k, self.k), (v, self.v))
    )
    self.length = n
    return self.columns()
