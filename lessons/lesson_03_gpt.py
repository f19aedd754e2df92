"""A GPT, trained and talking

question: What does it take to turn "predict the next token" into a machine that writes?
minutes: 1.5
documents: 003 §3.1 Problem Statement; 000 §4.1 语言模型; 001 §2 核心概念与联系
needs: 1, 2
"""

# %% [markdown]
# ## The text
#
# The bigram model of lesson 1 sees one token back. The attention of lesson 2 sees all tokens before. In this lesson the two
# meet. We build a GPT (Generative Pre-trained Transformer) and train it from nothing on the tiny world, until it writes.
#
# (You can train it on a text of your own: `TEXT=my.txt make lesson-3`. With `TEXT=python make lesson-3` it reads the English
# manual that comes with every Python.)
#
# All documents become one long row of token ids. Between two documents stands the end-of-text token, which we print as ⏹.
#
# **Predict before you run:** the vocabulary is that of lesson 1, with 2,048 tokens. About how many bytes of English does one
# token stand for?

# %%
from minitransformer.course.data import DATA, default_tokenizer, own_text
from minitransformer.course.show import QUICK, bar, figure, say, source, table
from minitransformer.text.corpora import END_OF_TEXT, read_documents, token_stream

own = own_text()  # None, if the text is the tiny world's
train_documents, valid_documents = own or (
    read_documents(DATA / "text" / f"{part}.txt") for part in ("train", "valid")
)
tokenizer = default_tokenizer()
V = tokenizer.n_vocab
train_stream = token_stream(train_documents, tokenizer)  # one long row of ids
valid_stream = token_stream(valid_documents, tokenizer)
n_bytes = sum(len(document.encode()) for document in valid_documents)
say(
    f"There are {len(train_stream):,} tokens to train on, and {len(valid_stream):,} to validate on. The validation text has "
    f"{n_bytes / len(valid_stream):.2f} bytes per token."
)
assert own or 3 < n_bytes / len(valid_stream) < 4

# %% [markdown]
# ## Windows and batches
#
# A text is too long to be read at once. So training cuts the long row into windows of T = 64 tokens, wherever they fall. It
# takes B = 8 of them at a time. Such a group is called a batch (批次).
#
# The validation text is cut in the same way. Every model in this lesson is judged on the same windows of it.
#
# **Predict before you run:** will a window begin at the beginning of a sentence?

# %%
from minitransformer.text.corpora import Windows, eval_windows

T, B = 64, 8
windows = Windows(train_stream, length=T, batch_size=B, seed=0)
valid = eval_windows(valid_stream, length=T, batch_size=32, most=64 if QUICK else 192)
judged = valid_stream[: sum(batch["ids"][:, 1:].numel() for batch in valid) + 1]  # their tokens
ids = windows(0)["ids"]  # (B, T+1)
say("The first window of the first batch begins like this:")
say("> " + tokenizer.decode(ids[0, :48].tolist()).replace(END_OF_TEXT, "⏹"))
say(f"A batch has the shape {tuple(ids.shape)}. We judge on {len(judged) - 1:,} validation tokens.")

# %% [markdown]
# Usually it begins in the middle. A window has 65 ids, one more than T. A later step explains why.

# %% [markdown]
# ## A GPT in two formulas
#
# 003 §3.1 writes z = [x; y] for all tokens of a text in order: first the input x of a task, then its output y. Until we have
# a task, z is simply the text. The token at position i is z_i. A GPT computes
#
#     h_i = LM_φ(z_i, h_<i)
#     p_φ(z_{i+1} | h_≤i) = softmax(W_φ h_i^(n))
#
# φ stands for all parameters of the model. The model has n layers (in our code, `n_layer`), and each layer computes one
# vector of C numbers for each token. h_i is the list of these vectors at position i: h_i = [h_i^(1); ⋯; h_i^(n)]. So the
# first formula says: *compute the vectors of token i from the token itself and from the vectors of all tokens before it*.
#
# The second formula takes the vector of the last layer, h_i^(n). The matrix W_φ turns it into V scores, one for each token
# of the vocabulary. Softmax turns the scores into the distribution of the next token.
#
# In GPT-2 and in our model, W_φ is the token table again, in which each token has its vector (this is called weight tying,
# 权重共享). So a score is a dot product: h_i^(n) · (vector of the token). A fresh model can already compute all this; its
# answer is useless, but it is a distribution.
#
# **Predict before you run:** we read 5 tokens with a model of C = 128. What are the shapes of h^(n) and of the probabilities?
# Which of the two can contain negative numbers?

# %%
import torch
from minitransformer.models.gpt import GPT, GPTConfig

torch.manual_seed(0)
model = GPT(GPTConfig(vocab_size=V, n_positions=T))
with torch.inference_mode():
    z = ids[:1, :5]  # (B, T)
    h = model(z, return_hidden=True)  # (B, T, C), the last layer's vectors
    p = (h @ model.token_embedding.weight.T).softmax(dim=-1)  # (B, T, V)
    difference = (p - model(z).softmax(dim=-1)).abs().max().item()
table(
    [
        ("h^(n)", tuple(h.shape), h.min().item(), h.max().item()),
        ("softmax(W h^(n))", tuple(p.shape), p.min().item(), p.max().item()),
    ],
    ["", "shape", "smallest number", "largest number"],
    [None, None, ".6f", ".6f"],
)
say(
    f"The probabilities of each row sum to {p.sum(-1).min():.4f} at least and {p.sum(-1).max():.4f} at most."
)
assert difference < 1e-6 and torch.allclose(p.sum(-1), torch.ones(1, 5)) and h.min() < 0

# %% [markdown]
# h^(n) has C numbers for each token, and some of them are negative. Only after W and softmax do we have V probabilities that
# sum to 1.
#
# *Where the document is loose.* 003 §3.1 calls the vector itself the distribution: 最后一层的hi是Transformer训练后获得的概率分布.
# The distribution is softmax(W_φ h_i^(n)), as its own formula says.

# %% [markdown]
# ## One layer
#
# What does LM_φ do? First, two learned tables give each token a vector of C numbers: one for *what* it is, and one for *where*
# it stands. Their sum is x. Then x passes through the n layers. Each layer has two parts, and each part is added to x
# (lesson 2: Norm, then Add):
#
#     x ← x + Attention(Norm(x))
#     x ← x + FeedForward(Norm(x))
#
# Attention brings information from the tokens before: this is the h_<i of the formula. The feed-forward network (前馈网络)
# then works on each token by itself:
#
#     FeedForward(x) = W_down · gelu(W_up x + b_up) + b_down
#
# W_up widens C numbers to 4 C numbers. gelu is a smooth version of max(0, x). W_down brings the 4 C numbers back to C. After
# the last layer there is one more Norm, and its result is h_i^(n).
#
# You write one layer yourself in exercise 3.1. When yours passes, the package's version is printed here. (`drop` does nothing
# in this lesson.)
#
# **Predict before you run:** which part of the model has the most parameters? Each of the 4 layers has 4 C² in its attention
# and 8 C² in its feed-forward network. The token table has V · C, and the position table T · C. (C = 128, V = 2,048, T = 64.)

# %%
from minitransformer.models.gpt import Block

source(Block.forward)
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
    [(part, count, count / total, bar(count / total)) for part, count in counts.items()],
    ["part", "parameters", "fraction", ""],
    [None, ",", ".1%", None],
)
say(f"There are {total:,} parameters in all.")
assert sum(counts.values()) == total and max(counts, key=counts.get) == "feed-forward"

# %% [markdown]
# Half of the parameters are in the feed-forward networks. This is usual for Transformers. The position table has only 64
# rows, so the model cannot read a longer text: a position that training never saw would have a vector without meaning.

# %% [markdown]
# ## Before training
#
# The fresh model knows nothing. Lesson 1 had a model that knows nothing, the uniform model.
#
# **Predict before you run:** what is the loss of the fresh model, approximately? What will it write?

# %%
import math

from minitransformer.generation.sampling import generate
from minitransformer.training.loop import evaluate

loss_before = evaluate(model, valid)
before = tokenizer.decode(generate(model, [[tokenizer.eot_id]], 30, temperature=0.5, seed=0)[0])
say(
    f"The loss is {loss_before:.3f} nats per token; ln V = ln {V:,} = {math.log(V):.3f}. It writes:"
)
say("> " + before.replace("\n", " ").replace(END_OF_TEXT, "⏹"))
assert 0 < loss_before - math.log(V) < 0.5

# %% [markdown]
# The loss is near to ln V. It is a little higher, because the scores are random and not quite equal. The text is a random
# sequence of tokens, English and Chinese.

# %% [markdown]
# ## What is learned: shift by one
#
# By the chain rule (000 §4.1), a text of T + 1 tokens gives T predictions, one at each position: read all tokens so far, and
# predict the next one. Because of the causal mask, position t cannot see position t + 1. So the model makes all T predictions
# in one pass over the text. The loss is the mean cross-entropy of lesson 1, over all N predictions:
#
#     L = −1/N Σ_t log P(w_t | w_<t)
#
# 003 §3.1 writes its goal as
#
#     max_φ log p_φ(y | x) = Σ_{i ∈ Y_idx} log p_φ(z_i | h_<i)
#
# Y_idx are the positions of y, the output of a task. So 003 counts only the tokens of y. In this lesson there is no task yet,
# and every token counts. Apart from this, both goals are the same: when the sum of the logarithms grows, L falls.
#
# **Predict before you run:** a window has 9 tokens. How many predictions does it give? The model is still the fresh one. About
# how many nats do they cost in all?

# %%
from minitransformer.training.losses import language_model_loss

ids = windows(0)["ids"][:1, :9]  # (1, T+1)
shown = [tokenizer.token(i) for i in ids[0].tolist()]
summed, count = language_model_loss(model, {"ids": ids})
table(
    [(t + 1, " ".join(shown[: t + 1]), shown[t + 1]) for t in range(8)],
    ["t", "reads", "predicts"],
)
say(
    f"{count} predictions cost {summed.item():.1f} nats in all, which is {summed.item() / count:.2f} nats each."
)
assert count == 8 and abs(summed.item() / count - math.log(V)) < 1.5

# %% [markdown]
# ## Training
#
# One step of training has four parts: take a batch, compute its mean loss, compute the gradient, and change every parameter.
# The rule for the change is AdamW. It is lesson 1's Adam, and it also makes every matrix a little smaller in each step.
#
# Two more rules keep the training stable. The learning rate (学习率), which is the size of a step, first grows (this is called
# warm-up) and then falls along a cosine, to `final_lr` times its peak. And a gradient that is longer than 1 is shortened to 1
# (clipping), so that one strange batch cannot do damage.
#
# The whole loop is in `minitransformer/training/loop.py`, and all models of this course go through it. From time to time it
# measures the loss on the validation text. It never trains on that text.
#
# **Predict before you run:** a full run takes 1,200 steps of 8 · 64 tokens. There are about 700,000 tokens to train on. How
# often does the model see each token?

# %%
from minitransformer.training.loop import TrainConfig, train

steps = 40 if QUICK else 1200
config = TrainConfig(steps=steps, lr=4e-3, warmup=steps // 12, final_lr=0.02, eval_every=steps // 6)
log = train(model, windows, config, valid=valid)
loss_after = log.valid[-1]["loss"]
table(
    [(row["step"], row["loss"], math.exp(row["loss"])) for row in log.valid],
    ["step", "validation loss", "perplexity"],
    ["d", ".3f", ".1f"],
)
say(
    f"{steps:,} steps took {log.seconds:.0f} s, at {log.tokens_per_second:,.0f} tokens per second. They saw each training token "
    f"{steps * B * T / len(train_stream):.2f} times on average."
)
assert loss_after < loss_before - 0.5

# %% [markdown]
# In a full run it sees each token less than once. To see all tokens once is called an epoch (轮次).

# %% [markdown]
# ## The curves
#
# Is it worth it to look further back? We compare the GPT with two counted models of lesson 1, on the same tokens: the bigram,
# which sees one token back, and the trigram, which sees two. Each has its best smoothing.
#
# **Predict before you run:** in less than one epoch, can the training loss be much lower than the validation loss? (Lesson 1
# called that overfitting.)

# %%
from minitransformer.models.bigram import NGram, bits_per_byte

counted = {}
for name, length in (("bigram", 2), ("trigram", 3)):
    ngram, tried = NGram(train_stream, V, n=length), []
    for ngram.alpha in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1):
        tried.append(ngram.loss(judged))
    counted[name] = min(tried)
last_tenth = [row["loss"] for row in log.train[-max(1, steps // 10) :]]
last_train = sum(last_tenth) / len(last_tenth)
judged_bytes = len(tokenizer.decode(judged[1:].tolist()).replace(END_OF_TEXT, "").encode())
losses = counted | {"GPT": loss_after}
every = max(1, steps // 50)  # steps that are averaged to one point of the figure
means = [
    sum(row["loss"] for row in log.train[i : i + every]) / every for i in range(0, steps, every)
]
with figure(
    "loss", "The loss on training and validation text while the GPT learns.", (8, 4.5)
) as axes:
    axes.plot([every * (i + 0.5) for i in range(len(means))], means, label="training")
    validated = [(0, loss_before)] + [(row["step"], row["loss"]) for row in log.valid]
    axes.plot(*zip(*validated, strict=True), "o-", label="validation")
    lines = {"knows nothing, ln V": math.log(V)} | counted
    for (name, loss), style in zip(lines.items(), (":", "--", "-."), strict=True):
        axes.axhline(loss, color="grey", linestyle=style, label=name)
    axes.set(xlabel="step", ylabel="loss, nats per token", ylim=(0, None))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
table(
    [(n, loss, bits_per_byte(loss, len(judged) - 1, judged_bytes)) for n, loss in losses.items()],
    ["model", "validation loss", "bits per byte"],
    [None, ".3f", ".3f"],
)
say(f"The mean training loss of the last tenth of the steps is {last_train:.3f}.")
assert QUICK or own or loss_after < min(counted.values()) and last_train > loss_after - 0.2

# %% [markdown]
# In a full run the GPT is better than both counted models. Looking further back is worth it.
#
# The training loss is not much lower than the validation loss. In the first epoch the model meets each window for the first
# time. Its loss is measured before it learns from the window. So this is also a loss on text that it has never seen.
# Overfitting can show only when windows come again.

# %% [markdown]
# ## After training
#
# We let the model write: first a new text, then three texts that go on from a beginning of ours. (The tokens are drawn at
# temperature 0.5, which the next step explains.) While you read, ask three questions. Are the words words? Are the sentences
# sentences? Does a sentence agree with the one before it?
#
# **Predict before you run:** which of the three will this small model do worst?

# %%
starts = ["", "One snowy morning", "The museum of", "On Sunday"] if not own else [""] * 4
ids = [[tokenizer.eot_id, *tokenizer.encode(start)] for start in starts]
texts = generate(model, ids, 56, temperature=0.5, seed=1, stop_id=tokenizer.eot_id)
say("Before training: " + before.replace("\n", " ").replace(END_OF_TEXT, "⏹")[:160])
say("After training:")
for start, text in zip(starts, texts, strict=True):
    rest = tokenizer.decode(text)
    say(f"> **{start}**{rest}" if start else f"> {rest.strip()}")

# %% [markdown]
# After a full run almost all words are words, and most sentences are sentences. The agreement between sentences is the hardest: it
# needs the longest memory. A model of this size, after so short a training, loses names and reasons on the way.

# %% [markdown]
# ## Temperature, top-k, top-p
#
# The model gives a distribution. A *sampler* chooses one token from it. There are four usual ways:
#
#     greedy            take the likeliest token, always
#     temperature τ     divide the scores by τ before softmax, then draw
#     top-k             keep only the k likeliest tokens, then draw
#     top-p             keep only the likeliest tokens that together have probability p, then draw
#
# With τ below 1 the likely tokens become still likelier; with τ above 1 the unlikely ones gain. Top-p is also called nucleus
# sampling. You write it in exercise 3.4.
#
# **Predict before you run:** the table shows the probabilities of the 8 likeliest tokens, before and after. In which columns
# are some of them exactly 0?

# %%
from minitransformer.generation.sampling import apply_temperature, keep_top_k, keep_top_p

beginning = "The wind comes from the" if not own else "The"
ids = torch.tensor([[tokenizer.eot_id, *tokenizer.encode(beginning)]])  # (1, T)
with torch.inference_mode():
    logits = model(ids)[:, -1]  # (1, V)
choices = {
    "the model": logits,
    "τ = 0.5": apply_temperature(logits, 0.5),
    "τ = 2": apply_temperature(logits, 2.0),
    "top-k 3": keep_top_k(logits, 3),
    "top-p 0.8": keep_top_p(logits, 0.8),
}
probs = {name: scores.softmax(dim=-1)[0] for name, scores in choices.items()}  # each (V)
likeliest = logits[0].topk(8).indices.tolist()
say(f"After `{beginning}`:")
table(
    [(tokenizer.token(i), *(p[i].item() for p in probs.values())) for i in likeliest],
    ["token", *choices],
    [None] + [lambda p: f"{p:.3f}" if p else "·"] * len(choices),
)
assert (probs["top-k 3"] > 0).sum() == 3 and (probs["τ = 2"] > 0).all()
assert probs["τ = 0.5"].max() > probs["the model"].max() > probs["τ = 2"].max()

# %% [markdown]
# Only top-k and top-p rule tokens out; these stand as `·`. The tokens that stay share the probability of the others.
# Temperature rules nothing out. It only moves probability from unlikely to likely tokens (τ = 0.5) or back (τ = 2).

# %% [markdown]
# ## How many tokens are left?
#
# In some places of a text only few tokens make sense. In other places many do: any name can begin a story.
#
# **Predict before you run:** which of the two, top-k with k = 3 or top-p with p = 0.8, leaves few tokens in one place and many
# in another?

# %%
rows = []
for beginning in ("The wind comes from the", "", "Mira") if not own else ("The", "", "A"):
    ids = torch.tensor([[tokenizer.eot_id, *tokenizer.encode(beginning)]])  # (1, T)
    with torch.inference_mode():
        logits = model(ids)[:, -1]  # (1, V)
    left = [int((s > -math.inf).sum()) for s in (keep_top_k(logits, 3), keep_top_p(logits, 0.8))]
    rows.append((beginning or "(a new text)", *left))
table(rows, ["after", "top-k 3 leaves", "top-p 0.8 leaves"])
assert all(row[1] == 3 for row in rows)
assert QUICK or own or max(row[2] for row in rows) > 3 * min(row[2] for row in rows)

# %% [markdown]
# Top-k always leaves k tokens. Top-p adapts: where the model is sure, it leaves few tokens, and where the model is in doubt,
# it leaves many.

# %% [markdown]
# ## What a sampler does to a text
#
# We let each sampler write 12 texts, and measure two things. *Surprise* is the mean of −log P that the model itself gives to
# the tokens that were chosen. *Different words* is the fraction of words that are not a repetition of an earlier word.
#
# **Predict before you run:** which sampler repeats itself most? Which has the highest surprise?

# %%
samplers = {
    "greedy": {"temperature": 0.0},
    "τ = 0.5": {"temperature": 0.5},
    "τ = 1": {"temperature": 1.0},
    "τ = 1.5": {"temperature": 1.5},
    "top-k 10": {"temperature": 1.0, "top_k": 10},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
}
rows = []
for name, settings in samplers.items():
    texts = generate(model, [[tokenizer.eot_id]] * 12, 50, seed=2, **settings)
    ids = torch.tensor([[tokenizer.eot_id, *text] for text in texts])  # (B, T+1)
    words = tokenizer.decode([i for text in texts for i in text]).split()
    begins = tokenizer.decode(texts[0][:12]).strip().replace("\n", " ")
    different = len(set(words)) / max(1, len(words))
    rows.append((name, evaluate(model, [{"ids": ids}]), different, begins))
table(
    rows,
    ["sampler", "surprise", "different words", "the first text begins"],
    [None, ".2f", ".0%", None],
)
surprise, different = ({row[0]: row[k] for row in rows} for k in (1, 2))
assert QUICK or max(surprise, key=surprise.get) == "τ = 1.5"
assert QUICK or min(different, key=different.get) == "greedy"

# %% [markdown]
# Greedy repeats itself most: it writes the same text twelve times. The highest surprise is that of τ = 1.5, where unlikely
# tokens are chosen often. A high surprise can mean variety, and it can mean mistakes; no
# number here tells which. Read the beginnings.

# %% [markdown]
# ## The cache
#
# To write token 100, the model needs the keys and values of tokens 1 to 99, in every layer. It has computed them before, when
# it read those tokens. They have not changed since, because under the causal mask nothing that comes later can change them.
#
# So we keep them, in the K/V cache (键值缓存). Each step then computes only what belongs to the new token. The text must be the
# same, and it must come sooner. Speed does not depend on what a model has learned, so we take a fresh model with room for more
# tokens.
#
# **Predict before you run:** we double the number of tokens to write. How much longer does it take without the cache?

# %%
import time

lengths = [length for length in (16, 32, 64, 128, 256) if length <= (64 if QUICK else 256)]
torch.manual_seed(0)
long_model = GPT(GPTConfig(vocab_size=V, n_positions=lengths[-1] + 8)).eval()
seconds: dict[bool, list[float]] = {True: [], False: []}
for length in lengths:
    written = {}
    for use_cache in (True, False):
        began = time.perf_counter()
        written[use_cache] = generate(long_model, [[0] * 8], length, use_cache=use_cache)
        seconds[use_cache].append(time.perf_counter() - began)
    assert written[True] == written[False]
with figure("cache", "The time to write a text, with and without the K/V cache.") as axes:
    axes.plot(lengths, seconds[False], "s--", label="without: all again for each token")
    axes.plot(lengths, seconds[True], "o-", label="with the cache")
    axes.set(xlabel="tokens written", ylabel="seconds", ylim=(0, None))
    axes.legend(loc="upper left")
table(
    [(n, a, b, a / b) for n, a, b in zip(lengths, seconds[False], seconds[True], strict=True)],
    ["tokens", "seconds without", "seconds with", "times as fast"],
    ["d", ".2f", ".2f", ".1f"],
)
say("The tokens are the same every time.")
assert QUICK or seconds[False][-1] > 1.5 * seconds[True][-1]

# %% [markdown]
# Without the cache, each new token costs the work of all tokens so far. So m tokens cost about m²/2 units of work, and twice
# as many tokens cost up to four times as much. With the cache they cost about twice as much. (For short texts the difference
# is small, because calling the model takes most of the time.)

# %% [markdown]
# ## What the heads look at
#
# These are the attention weights of lesson 2, in a model that has learned something. Each small picture is one head. A row is
# the token that reads, and a column is the token that is read. A head that always reads the token just before would be a
# bright line right below the diagonal.
#
# For each head we measure how much of its attention goes one token back, as a mean over all tokens. We compare three models: a
# fresh one, this lesson's, and the course's own GPT, which has the same layers and was trained for longer.
#
# **Predict before you run:** which of the three has the head that looks one token back most?

# %%
from minitransformer.course.bases import load_base
from minitransformer.models.watch import watch_attention

sentence = "Mira gave Fado a red kite. Fado was glad." if not own else train_documents[0][:60]
ids = torch.tensor([tokenizer.encode(sentence)])  # (1, T)


def head_maps(net: GPT) -> torch.Tensor:
    """The weights of every head of every layer on the sentence: (layers, H, T, T)."""
    with torch.inference_mode(), watch_attention(net) as maps:
        net(ids)
    return torch.stack([weights[0][0] for weights in maps.values()])


grid = head_maps(model)
torch.manual_seed(0)
nets = {"fresh": GPT(model.config).eval(), "this lesson's": model, "the course's": load_base("gpt")}
one_back = {
    name: head_maps(net).diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1).max().item()
    for name, net in nets.items()
}
labels = [tokenizer.token(i) for i in ids[0].tolist()]
with figure(
    "heads", "What each head reads: rows read, columns are read.", (11, 11), *grid.shape[:2]
) as axes:
    for layer, head in [(i, j) for i in range(grid.shape[0]) for j in range(grid.shape[1])]:
        ax = axes[layer][head]
        ax.imshow(grid[layer, head], vmin=0, vmax=1)
        ax.grid(False)
        ax.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
        ax.set_yticks(range(len(labels)), labels if head == 0 else [], fontsize=7)
        bottom = layer == grid.shape[0] - 1
        ax.set_xticks(range(len(labels)), labels if bottom else [], fontsize=7, rotation=90)
even = (1 / torch.arange(2, len(labels) + 1)).mean().item()
table(
    [*one_back.items(), ("attention spread evenly", even)],
    ["model", "most attention one token back"],
    [None, ".2f"],
)
assert own or one_back["the course's"] > max(one_back["fresh"], one_back["this lesson's"]) + 0.1

# %% [markdown]
# It is the course's GPT. One of its heads gives much more attention to the token before than any head of the other two. Nobody
# told it to. The token before is useful for the prediction (a bigram lives on it), so training finds it. But it takes longer
# than this lesson's training.

# %% [markdown]
# ## A prefix from a real prompt
#
# Lesson 2 put two invented keys and values in front of one layer. A GPT takes a prefix in every layer. There is one prefix that
# we can check: the keys and values that a real text leaves in the cache. If we give them as a prefix, they must act exactly as
# that text does. The tokens after the prefix start at position P, because the text would have filled the positions before.
#
# **Predict before you run:** each layer has one key and one value of C = 128 numbers per token, and there are 4 layers. How
# many numbers does a prefix of length P = 1 have?

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
n_numbers = sum(k.numel() + v.numel() for k, v in prefix)
P = len(prompt)
table(
    [
        ("the same text as a prefix", (as_text - as_prefix).abs().max().item()),
        ("nothing in front", (as_text - alone).abs().max().item()),
    ],
    ["instead of the text", "largest difference of a score"],
    [None, ".0e"],
)
say(
    f"P = {P}. The prefix has {n_numbers:,} numbers, which is {n_numbers // P:,} for each of its tokens."
)
assert (as_text - as_prefix).abs().max() < 1e-3 < 1e-2 < (as_text - alone).abs().max()
assert n_numbers == P * 2 * 4 * 128

# %% [markdown]
# A text acts on what follows only through these numbers. So we can train the numbers directly, and need not care whether any
# text has them. This is prefix tuning (前缀微调), the subject of the second half of the course.

# %% [markdown]
# ## Words for what comes
#
# 001 §2 defines the words that we need from here on. A large language model (大规模语言模型) is a deep network with hundreds of
# millions to hundreds of billions of parameters (数亿到上千亿量级). Ours has one million. The ideas are the same.
#
# - Pre-training (预训练) is what we did: self-supervised learning from plain text, where the text itself is the answer.
# - Fine-tuning (微调) trains on labelled examples of a task, starting from the pre-trained model.
# - Transfer learning (迁移学习) means that what was learned in one task is used in another. Pre-training followed by
#   fine-tuning is its typical case.
# - Parameter-efficient fine-tuning (参数高效微调) keeps the parameters of the model fixed, and trains a few new ones.
#
# The document draws how they hang together:
#
#     大规模语言模型 → 预训练 → 微调 → 参数高效微调 → Prompt, Adapter, LoRA, P-Tuning
#     大规模语言模型 → 迁移学习 → 微调
#
# Lesson 5 is about fine-tuning. Prompts are in lesson 7, P-Tuning in 8, adapters in 11 and LoRA in 12.
#
# **Predict before you run:** how small is "a few"? A prefix of P = 10 has 10 times the numbers of the last step. What fraction
# of our model's million parameters is that?

# %%
P = 10
trained = {
    "all parameters (fine-tuning)": total,
    f"a prefix of {P} in every layer": P * 2 * model.config.n_layer * model.config.d_model,
    f"{P} vectors in front of the input (a soft prompt, 软提示)": P * model.config.d_model,
}
table(
    [(name, count, count / total) for name, count in trained.items()],
    ["what is trained", "parameters", "fraction"],
    [None, ",", ".2%"],
)
assert list(trained.values())[1] < 0.01 * total

# %% [markdown]
# It is less than one per cent.

# %% [markdown]
# ## Keep it
#
# We store the model in a safetensors file. It contains tensors and their names, and no code. A model that is loaded again is
# the same to the last bit.

# %%
from minitransformer.checkpoint import load_model, save_model
from minitransformer.course.show import ROOT

path = ROOT / "figures" / "lesson_03" / "gpt.safetensors"
save_model(path, model)
again = load_model(path, GPT, GPTConfig)
ids = torch.tensor([prompt])
assert torch.equal(again(ids), model(ids))
say(f"Saved: {path.relative_to(ROOT).as_posix()}, {path.stat().st_size / 1e6:.1f} MB.")
say(f"It has {total:,} parameters of 4 bytes each.")

# %% [markdown]
# ## The answer
#
# It takes a table of vectors, a few layers in which each token reads the tokens before it, and training on one task at every
# position: predict the next token. Such a model writes as soon as each token that it chooses becomes the input of its next
# prediction.
#
# To try next:
#
# - `TEXT=python make lesson-3` trains on real English. What is the validation loss, and why is it higher?
# - Set `n_layer=1`. Do its heads look one token back more, or less? What happens to the loss?
# - Halve `steps`. Which kind of mistake in the texts goes away last?
#
# Exercises: `make start-3` writes the stubs of this lesson's exercises to `workbook/lesson_03.py`, and `make check-3` checks
# them. Lesson 4 builds a BERT, which reads a text in both directions.
#
# Further reading: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019); "Using the Output Embedding
# to Improve Language Models" (Press & Wolf, 2017); "The Curious Case of Neural Text Degeneration" (Holtzman et al., 2020);
# "In-context Learning and Induction Heads" (Olsson et al., 2022).
