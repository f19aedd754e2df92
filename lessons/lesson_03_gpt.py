"""A GPT, trained and talking

question: What does it take to turn "predict the next token" into a machine that writes?
minutes: 1.5
documents: 003 §3.1 Problem Statement; 000 §4.1 语言模型; 001 §2 核心概念与联系
needs: 1, 2
"""

# %% [markdown]
# ## The text
#
# Lesson 1's bigram model saw one token back; lesson 2's attention sees them all. Here the two meet: a GPT (Generative
# Pre-trained Transformer), trained from nothing on the tiny world, until it writes.
#
# All documents become one long row of token ids, an end-of-text token between them (shown as ⏹). Training cuts it into
# windows of T = 64 tokens, wherever they fall, and takes B = 8 of them at a time, a batch. (`TEXT=my.txt make lesson-3`
# trains on a text of your own; `TEXT=python make lesson-3` on the English of Python's own manual, which every Python
# carries.)
#
# **Predict before you run:** about how many bytes of English make one token?

# %%
import os
from pathlib import Path

import torch
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, source, table
from minitransformer.text.corpora import (
    END_OF_TEXT,
    Windows,
    eval_windows,
    read_documents,
    token_stream,
)

own = os.environ.get("MINITRANSFORMER_TEXT")
if not own:
    train_documents, valid_documents = (
        read_documents(DATA / "text" / f"{part}.txt") for part in ("train", "valid")
    )
else:
    if own == "python":
        from pydoc_data.topics import topics

        documents = list(topics.values())
    else:
        documents = read_documents(own)
    paragraphs = [part for document in documents for part in document.split("\n\n") if part.strip()]
    n_valid = max(1, len(paragraphs) // 20)
    train_documents, valid_documents = paragraphs[n_valid:], paragraphs[:n_valid]

tokenizer = default_tokenizer()
T, B = 64, 8
train_stream, valid_stream = (
    token_stream(part, tokenizer) for part in (train_documents, valid_documents)
)
windows = Windows(train_stream, length=T, batch_size=B, seed=0)
valid = eval_windows(valid_stream, length=T, batch_size=32, most=64 if QUICK else 192)
judged = valid_stream[
    : sum(batch["ids"][:, 1:].numel() for batch in valid) + 1
]  # the tokens in those windows
n_bytes = len(tokenizer.decode([i for i in judged[1:].tolist() if i != tokenizer.eot_id]).encode())
say(
    f"{len(train_stream):,} training tokens; every model here is judged on the same {len(judged) - 1:,} validation tokens, "
    f"{n_bytes / (len(judged) - 1):.2f} bytes each. The first window of the first batch begins, in mid-text:"
)
say(tokenizer.decode(windows(0)["ids"][0, :48].tolist()).replace(END_OF_TEXT, "⏹"))

# %% [markdown]
# ## The model, part by part
#
# A GPT is short to say (003 §3.1):
#
#     h_i = LM(z_i, h_<i)
#     p(z_{i+1} | h_≤i) = softmax(W h_i^(n))
#
# z_i is the i-th token. Two learned tables give it a vector of C numbers, one for what it is and one for where it stands;
# their sum is x. Then come n layers, each of two parts, each part added to x (lesson 2's Norm, then Add):
#
# - attention that may look back: h_<i are the vectors of all tokens before i, in every layer;
# - a feed-forward network (前馈网络), for each token by itself: W_down · gelu(W_up x + b_up) + b_down. W_up widens C numbers
#   to 4 C, gelu (a smooth version of max(0, x)) bends them, W_down brings them back to C. What attention has fetched from
#   elsewhere is worked on here.
#
# After the last layer one more Norm gives h_i^(n), and W turns it into one score for each token of the vocabulary. You
# write one layer yourself (exercise 3.1); once yours passes, the package's is printed here (`drop` does nothing in this
# lesson).
#
# Where the document is loose: it calls h_i^(n) itself the distribution over the vocabulary. It is a vector of C
# numbers; softmax(W h) is the distribution. And W is not a matrix of its own: in GPT-2 it is the token table again (weight
# tying, 权重共享), so a token's vector is both what it means when read and what h must point at for it to be said.
#
# **Predict before you run:** which part holds most of the parameters? There are n = 4 layers, each with 4 C² numbers in
# its attention and 8 C² in its feed-forward; C = 128, V = 2,048, and T = 64 places: a place
# that training never saw would have a vector that means nothing.

# %%
from minitransformer.models.gpt import GPT, Block, GPTConfig

source(Block.forward)
torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=tokenizer.n_vocab, n_positions=T))
parts = {
    "token table (and W)": "token_embedding",
    "position table": "position_embedding",
    "attention": ".attention.",
    "feed-forward": ".mlp.",
    "norms": "norm",
}
counts = dict.fromkeys(parts, 0)
for name, parameter in model.named_parameters():
    counts[next(part for part, key in parts.items() if key in name)] += parameter.numel()
total = sum(p.numel() for p in model.parameters())
table(
    [(part, n, n / total, bar(n / total)) for part, n in counts.items()],
    ["part", "parameters", "share", ""],
    [None, ",", ".1%", None],
)
say(
    f"{total:,} parameters in all, {model.config.n_layer} layers, {model.config.n_head} heads, C = {model.config.d_model}."
)
assert sum(counts.values()) == total

# %% [markdown]
# ## Before training
#
# **Predict before you run:** the fresh model knows nothing. What is its loss, if the vocabulary has V tokens? (Lesson 1
# had the worst sensible model.) And what does it write?

# %%
import math

from minitransformer.generation.sampling import generate
from minitransformer.training.loop import evaluate

loss_before = evaluate(model, valid)
before = tokenizer.decode(generate(model, [[tokenizer.eot_id]], 30, temperature=0.5, seed=0)[0])
say(
    f"Loss {loss_before:.3f} nats per token; ln V = ln {tokenizer.n_vocab} = {math.log(tokenizer.n_vocab):.3f}. (The rest is the price of "
    "random scores, which are not quite equal scores.) It writes:"
)
say("> " + before.replace("\n", " ").replace(END_OF_TEXT, "⏹"))
assert 0 < loss_before - math.log(tokenizer.n_vocab) < 0.5

# %% [markdown]
# ## What is learned: shift by one
#
# The chain rule makes of a text of T + 1 tokens T exercises, one at each position: all tokens so far in, the next one
# out. The causal mask lets the model do all of them in one pass, without repeating the text T times, for position t cannot
# see t + 1. The loss is their mean cross-entropy (lesson 1), the negative logarithm of 000 §4.1's product, divided by its number of
# factors:
#
#     L = −1/N Σ_t log P(w_t | w_<t)

# %%
from minitransformer.training.losses import language_model_loss

ids = windows(0)["ids"][:1, :9]  # (1, T+1)
shown = [tokenizer.token(i) for i in ids[0].tolist()]
table(
    [(t + 1, " ".join(shown[: t + 1]), shown[t + 1]) for t in range(8)],
    ["t", "reads", "has to say"],
)
summed, count = language_model_loss(model, {"ids": ids})
say(f"{count} exercises, {summed.item():.2f} nats in all, {summed.item() / count:.3f} each.")

# %% [markdown]
# ## Training
#
# One step: a batch in, its mean loss, the gradient, an update of every parameter. The update is AdamW: lesson 1's Adam,
# which here also shrinks every matrix a little. The learning rate (学习率), how far one step goes, rises for the first
# steps (warm-up) and then falls along a cosine to `final_lr` times its peak; the gradient is clipped to length 1, so that
# one odd batch cannot throw the model off. The whole loop is `minitransformer/training/loop.py`, and every model of the course
# goes through it. Every so often it reads the validation text, which it never trains on.
#
# **Predict before you run:** the training lasts one epoch (轮次): every token is trained on about once. Can the training
# loss be much lower than the validation loss at the end?

# %%
from minitransformer.training.loop import TrainConfig, train

steps = 40 if QUICK else 1200
config = TrainConfig(steps=steps, lr=4e-3, warmup=steps // 12, final_lr=0.02, eval_every=steps // 6)
log = train(model, windows, config, valid=valid)
table(
    [(row["step"], row["loss"], math.exp(row["loss"])) for row in log.valid],
    ["step", "validation loss", "perplexity"],
    ["d", ".3f", ".1f"],
)
say(
    f"{steps} steps of {B * T} tokens, {steps * B * T / len(train_stream):.2f} epochs, in {log.seconds:.0f} s: "
    f"{log.tokens_per_second:,.0f} tokens a second."
)
loss_after = log.valid[-1]["loss"]

# %% [markdown]
# ## The curves
#
# Lesson 1's counted models, on the very same tokens, judge whether looking further back was worth it: the bigram, and
# n = 3.

# %%
from minitransformer.models.bigram import NGram, bits_per_byte

counted = {}
for n in (2, 3):
    ngram, tried = NGram(train_stream, tokenizer.n_vocab, n=n), []
    for ngram.alpha in (
        0.0003,
        0.001,
        0.003,
        0.01,
        0.03,
        0.1,
    ):  # lesson 1's smoothing, chosen on validation
        tried.append(ngram.loss(judged))
    counted[n] = min(tried)
smooth = max(1, steps // 50)
means = [
    sum(row["loss"] for row in log.train[i : i + smooth]) / smooth
    for i in range(0, steps - smooth + 1, smooth)
]
with figure("loss", "The loss on training and validation text while the GPT learns.") as axes:
    axes.plot(
        [smooth * (i + 0.5) for i in range(len(means))],
        means,
        label=f"training (means of {smooth} steps)",
    )
    axes.plot(
        [0] + [row["step"] for row in log.valid],
        [loss_before] + [row["loss"] for row in log.valid],
        "o-",
        label="validation",
    )
    axes.axhline(
        math.log(tokenizer.n_vocab), color="grey", linestyle=":", label="knowing nothing, ln V"
    )
    for n, style in ((2, "--"), (3, "-.")):
        axes.axhline(
            counted[n], color="grey", linestyle=style, label=f"counted, n = {n} (lesson 1)"
        )
    axes.set(xlabel="step", ylabel="loss, nats per token", ylim=(0, None))
    axes.legend()
bits = [
    bits_per_byte(loss, len(judged) - 1, n_bytes) for loss in (counted[2], counted[3], loss_after)
]
last_train = sum(row["loss"] for row in log.train[-steps // 10 :]) / len(log.train[-steps // 10 :])
say(
    f"Bits per byte on validation: bigram {bits[0]:.3f}, n = 3 {bits[1]:.3f}, GPT {bits[2]:.3f}. The last tenth of training "
    f"has a mean loss of {last_train:.3f}, validation {loss_after:.3f}. In the first epoch each window is scored before it is "
    "learned from, so the training loss is itself a loss on text not seen before; learning by heart (lesson 1) would show only "
    "when windows come again."
)
assert QUICK or own or loss_after < min(counted.values())

# %% [markdown]
# ## After training
#
# The same request as before training, and some beginnings to go on from. (Both are drawn at temperature 0.5, which the
# next step explains.) Read them with three questions: are the words words? the sentences sentences? and does what one
# sentence says still hold in the next?

# %%
say("Before: " + before.replace("\n", " ").replace(END_OF_TEXT, "⏹")[:160])
say("After:")
starts = ["", "One snowy morning", "The museum of", "On Sunday"] if not own else [""] * 4
ids = [[tokenizer.eot_id, *tokenizer.encode(start)] for start in starts]
texts = generate(model, ids, 56, temperature=0.5, seed=1, stop_id=tokenizer.eot_id)
for start, text in zip(starts, texts, strict=True):
    say(
        f"> **{start}**" + tokenizer.decode(text)
        if start
        else "> " + tokenizer.decode(text).strip()
    )

# %% [markdown]
# ## How to choose: temperature, top-k, top-p
#
# The model gives a distribution; the sampler (`minitransformer/generation/sampling.py`) has to choose one token from it.
#
#     greedy            the likeliest token, always
#     temperature τ     divide the scores by τ before softmax: below 1 the likely gets likelier
#     top-k             keep the k likeliest, draw among them
#     top-p (nucleus)   keep the fewest that hold a share p of the probability, draw among them
#
# Here is what they do to one distribution; and below it, how many tokens top-k and top-p leave at three places.
#
# **Predict before you run:** which of the two leaves few tokens at one place and many at another?

# %%
from minitransformer.generation.sampling import apply_temperature, keep_top_k, keep_top_p

start = [tokenizer.eot_id, *tokenizer.encode("The wind comes from the" if not own else "The")]
with torch.inference_mode():
    logits = model(torch.tensor([start]))[:, -1]  # (1, V)
choices = {
    "the model": logits,
    "τ = 0.5": apply_temperature(logits, 0.5),
    "τ = 2": apply_temperature(logits, 2.0),
    "top-k 3": keep_top_k(logits, 3),
    "top-p 0.8": keep_top_p(logits, 0.8),
}
best = logits[0].topk(8).indices.tolist()
table(
    [(tokenizer.token(i), *(c.softmax(-1)[0, i].item() for c in choices.values())) for i in best],
    ["token", *choices],
    [None] + [lambda p: f"{p:.3f}" if p else "·"] * len(choices),
)
rows = []
for beginning in ("The wind comes from the", "", "Mira") if not own else ("The", "", "A"):
    with torch.inference_mode():
        logits = model(torch.tensor([[tokenizer.eot_id, *tokenizer.encode(beginning)]]))[
            :, -1
        ]  # (1, V)
    left = [
        int((kept > -math.inf).sum()) for kept in (keep_top_k(logits, 3), keep_top_p(logits, 0.8))
    ]
    rows.append((beginning or "(a new text)", *left))
table(rows, ["after", "top-k 3 leaves", "top-p 0.8 leaves"])

# %% [markdown]
# What that does to a text, over 12 of them: `surprise` is the mean of −log P that the model itself gives to what was written;
# `different` is the share of words that are no repetition. (Greedy writes the same text twelve times.) Whether surprise is
# variety or a mistake, no number says here: read the beginnings.
#
# **Predict before you run:** which row repeats itself most, which is the most surprising?

# %%
samplers = {
    "greedy": {"temperature": 0.0},
    "τ = 0.5": {"temperature": 0.5},
    "τ = 1": {"temperature": 1.0},
    "τ = 1.5": {"temperature": 1.5},
    "top-k 10": {"temperature": 1.0, "top_k": 10},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
}
n_texts, length = 12, 50
rows = []
for name, settings in samplers.items():
    texts = generate(model, [[tokenizer.eot_id]] * n_texts, length, seed=2, **settings)
    ids = torch.tensor([[tokenizer.eot_id, *text] for text in texts])  # (B, T+1)
    surprise = evaluate(model, [{"ids": ids}])
    words = tokenizer.decode([i for text in texts for i in text]).split()
    rows.append(
        (
            name,
            surprise,
            len(set(words)) / max(1, len(words)),
            tokenizer.decode(texts[0][:12]).strip(),
        )
    )
table(
    rows,
    ["sampler", "surprise", "different", "the first begins"],
    [None, ".2f", ".0%", lambda s: s.replace("\n", " ")],
)

# %% [markdown]
# ## The cache
#
# To write token 100, the model needs the keys and values of tokens 1 to 99 in every layer. They were computed when
# those tokens were read, and cannot change: under the causal mask nothing that comes later touches them. So they are
# kept, in the K/V cache (键值缓存), and each step computes one row of the attention, that of the new token, instead of all.
# The text must be the same, only sooner.
#
# **Predict before you run:** how does the time for n tokens grow with n, without the cache and with it?

# %%
import time

longest = 64 if QUICK else 256
lengths = [n for n in (16, 32, 64, 128, 256) if n <= longest]
torch.manual_seed(0)
long_model = GPT(
    GPTConfig(vocab_size=tokenizer.n_vocab, n_positions=longest + 8)
).eval()  # untrained: speed is the same
seconds: dict[bool, list[float]] = {True: [], False: []}
for n in lengths:
    written = {}
    for use_cache in (True, False):
        began = time.perf_counter()
        written[use_cache] = generate(long_model, [[0] * 8], n, use_cache=use_cache)
        seconds[use_cache].append(time.perf_counter() - began)
    assert written[True] == written[False]
with figure("cache", "Time to write n tokens, with and without the K/V cache.") as axes:
    axes.plot(lengths, seconds[False], "s--", label="without: everything again for each token")
    axes.plot(lengths, seconds[True], "o-", label="with the cache")
    axes.set(xlabel="tokens written", ylabel="seconds", ylim=(0, None))
    axes.legend()
say(
    f"For {longest} tokens: {seconds[False][-1]:.2f} s without, {seconds[True][-1]:.2f} s with, {seconds[False][-1] / seconds[True][-1]:.1f} "
    f"times as fast; the same tokens every time. At {lengths[0]} tokens it was {seconds[False][0] / seconds[True][0]:.1f} times: "
    "without the cache the n-th token costs the work of n tokens, so that n of them cost about n²/2; with it, about n."
)

# %% [markdown]
# ## What the heads look at
#
# The weights of lesson 2, in a model that has learned something. Each small picture is one head; a row is the token that
# reads, a column the token that is read.
#
# **Predict before you run:** a head that looks exactly one token back would be a bright line beside the diagonal. Has any
# head become one, or at least leaned that way, compared with an untrained model?

# %%
from minitransformer.models.watch import watch_attention

sentence = "Mira gave Fado a red kite. Fado was glad." if not own else train_documents[0][:60]
ids = torch.tensor([tokenizer.encode(sentence)])  # (1, T)


def head_maps(net: GPT) -> torch.Tensor:
    """The weights of every head of every layer on the sentence."""
    with torch.inference_mode(), watch_attention(net) as maps:
        net(ids)
    return torch.stack([weights[0][0] for weights in maps.values()])  # a (H, T, T) for each layer


grid = head_maps(model)
labels = [tokenizer.token(i) for i in ids[0].tolist()]
with figure(
    "heads",
    "What every head reads in one sentence: rows read, columns are read.",
    (11, 11),
    *grid.shape[:2],
) as axes:
    for layer in range(grid.shape[0]):
        for head in range(grid.shape[1]):
            ax = axes[layer][head]
            ax.imshow(grid[layer, head], vmin=0, vmax=1)
            ax.grid(False)
            ax.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
            ax.set_yticks(range(len(labels)), labels if head == 0 else [], fontsize=7)
            ax.set_xticks(
                range(len(labels)),
                labels if layer == grid.shape[0] - 1 else [],
                fontsize=7,
                rotation=90,
            )
one_back = grid.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)  # for each layer and head
layer, head = divmod(one_back.argmax().item(), grid.shape[1])
torch.manual_seed(0)
untrained = head_maps(GPT(model.config).eval()).diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1).max()
say(
    f"Of the {one_back.numel()} heads, head {head + 1} of layer {layer + 1} looks one token back the most: it gives {one_back.max():.2f} of its "
    f"attention there, on average. Spread evenly it would be {(1 / torch.arange(2, len(labels) + 1)).mean():.2f}, and the best head of an "
    f"untrained model gives {untrained:.2f}."
)

# %% [markdown]
# ## A prefix from a real prompt
#
# Lesson 2 slipped two invented keys and values into one layer. A GPT takes a prefix in every layer, and there is one that
# we can check: the keys and values that a real text leaves in the cache. Given as a prefix, they must act exactly like
# that text, and the tokens after it start at position P, where they would have stood.
#
# **Predict before you run:** how many numbers is a prefix of P = 1? (One key and one value of C numbers, in each of 4
# layers.)

# %%
from minitransformer.models.attention import Prefix

prompt, rest = tokenizer.encode("Once there was a"), tokenizer.encode(" boy")
cache = model.new_cache()
with torch.inference_mode():
    model(torch.tensor([prompt]), cache=cache)
    prefix = [Prefix(*layer.columns()) for layer in cache]  # each (1, H, P, D)
    as_text = model(torch.tensor([prompt + rest]))[0, -1]  # (V)
    as_prefix = model(torch.tensor([rest]), prefix=prefix)[0, -1]  # (V)
    alone = model(torch.tensor([rest]))[0, -1]  # (V)
numbers = sum(k.numel() + v.numel() for k, v in prefix)
say(
    f"P = {len(prompt)}, {numbers:,} numbers. As text and as prefix the next-token scores differ by {(as_text - as_prefix).abs().max():.0e}; "
    f"without either they differ by {(as_text - alone).abs().max():.1f}."
)
say(
    "Prefix tuning (前缀微调) starts from here: if a text acts only through these numbers, we may as well train the numbers, "
    "and need not care whether any text has them."
)
assert (as_text - as_prefix).abs().max() < 1e-3

# %% [markdown]
# ## Words for what comes
#
# What we did is pre-training (预训练): learning from plain text, with the text itself as the answer. 001 §2 lays out what can
# follow. Fine-tuning (微调) trains on the examples of a task, and uses what was learned before: transfer (迁移学习). It changes
# all parameters. Parameter-efficient tuning (参数高效微调) freezes them and trains few others; for this model:

# %%
P = 10
sizes = {
    "fine-tuning, all": total,
    f"a prefix of {P} in every layer": P * 2 * model.config.n_layer * model.config.d_model,
    f"{P} trained vectors before the input only (a soft prompt, 软提示)": P * model.config.d_model,
}
table(
    [(name, n, n / total) for name, n in sizes.items()],
    ["method", "trained numbers", "share"],
    [None, ",", ".2%"],
)

# %% [markdown]
# ## Keep it
#
# The weights go into a safetensors file: tensors and their names, no code. A model that is loaded again is the same, to
# the last bit.

# %%
from minitransformer.checkpoint import load_model, save_model
from minitransformer.course.show import ROOT

path = ROOT / "figures" / "lesson_03" / "gpt.safetensors"
save_model(path, model)
again = load_model(path, GPT, GPTConfig)
ids = torch.tensor([prompt])
assert torch.equal(again(ids), model(ids))
say(
    f"Saved: {Path(path).relative_to(ROOT).as_posix()}, {path.stat().st_size / 1e6:.1f} MB for {total:,} numbers of 4 bytes."
)

# %% [markdown]
# ## The answer
#
# It takes a table of vectors, a few layers that let each token read those before it, one exercise at every position of a
# text, and a minute or two: a model that gives good probabilities to the next token writes when its choices are fed back to
# it.
#
# To try next:
#
# - `TEXT=python make lesson-3`: the same minute on real English. What is the validation loss, and why is it higher?
# - Set `n_layer=1`. Do its heads lean one token back more, or less? What happens to the loss?
# - Halve `steps`. Which kind of mistake in the texts goes away last?
#
# Further reading: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019); "Using the Output Embedding
# to Improve Language Models" (Press & Wolf, 2017); "The Curious Case of Neural Text Degeneration" (Holtzman et al., 2020);
# "In-context Learning and Induction Heads" (Olsson et al., 2022).
