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
# All documents become one long row of ids. Between two documents stands the end token of lesson 1, ■. We use the stored
# vocabulary of lesson 1 (`data/tokenizer.tiktoken`), with V = 2,048 tokens for English and Chinese.
#
# **Predict before you run:** lesson 1 also learned a vocabulary of this size from English alone. There, a token stood for 3.6
# bytes of text. Does a token of our vocabulary stand for more bytes of English, or for fewer?

# %%
from minitransformer.course.data import DATA, default_tokenizer, own_text
from minitransformer.course.show import QUICK, bar, figure, say, source, table
from minitransformer.text.corpora import END_OF_TEXT, read_documents, token_stream

own = own_text()  # None, unless you give a text of your own
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
assert own or 3 < n_bytes / len(valid_stream) < 3.55

# %% [markdown]
# For fewer, because some of the tokens are needed for Chinese.

# %% [markdown]
# ## Windows and batches
#
# A text is too long to be read at once. So training cuts the long row into windows of T = 64 tokens, one after another. It takes
# B = 8 of them at a time, in random order. Such a group is called a batch (批次).
#
# The validation text is cut in the same way. Every model in this lesson is judged on the same windows of it.
#
# **Predict before you run:** can a window contain parts of two documents?

# %%
from minitransformer.text.corpora import Windows, eval_windows

T, B = 64, 8
windows = Windows(train_stream, length=T, batch_size=B, seed=0)
valid = eval_windows(valid_stream, length=T, batch_size=32, most=64 if QUICK else 192)
ids = windows(0)["ids"]  # (B, T+1)
say("The first window of the first batch begins like this:")
say("> " + tokenizer.decode(ids[0, :48].tolist()).replace(END_OF_TEXT, "■"))
say(
    f"A batch has the shape {tuple(ids.shape)}. There are {sum(len(b['ids']) for b in valid)} validation windows."
)
assert own or tokenizer.eot_id in ids[0, :48]

# %% [markdown]
# It can: this window begins in the middle of one document and goes on into the next, after the ■. A window has 65 ids, one
# more than T. A later step explains why.

# %% [markdown]
# ## A GPT in two formulas
#
# 003 §3.1 writes z = [x; y] for all tokens of a text in order: first the input x of a task, then its output y. Until we have
# a task, z is simply the text. The token at position i is z_i. A GPT computes
#
#     h_i = LM_φ(z_i, h_<i)
#     p_φ(z_{i+1} | h_≤i) = softmax(W_φ h_i^(n))
#
# φ stands for all parameters of the model. The model has n layers. (This n is not the n of an n-gram. In our code it is
# `n_layer`.) Layer number l computes one vector h_i^(l) of C numbers for the token at position i. h_i without (l) means the
# vectors of all n layers: h_i = [h_i^(1); ⋯; h_i^(n)]. h_<i means those of all positions before i, and h_≤i includes i. So
# the first formula says: *compute the vectors of token i from the token itself and from the vectors of all tokens before it*.
#
# The second formula takes the vector of the last layer, h_i^(n). The matrix W_φ turns it into V scores, one for each token
# of the vocabulary. Softmax turns the scores into the distribution of the next token.
#
# At its input, the model has a table with one vector of C numbers for each token (next step). In GPT-2 and in our model, W_φ
# is this same table. (This is called weight tying, 权重共享.) So a score is a dot product: h_i^(n) · (vector of the token). An
# untrained model can already compute all this; its answer is useless, but it is a distribution.
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
# *Where the document is not exact.* 003 §3.1 calls the vector itself the distribution: 最后一层的hi是Transformer训练后获得的概率分布.
# The distribution is softmax(W_φ h_i^(n)), as its own formula says.

# %% [markdown]
# ## One layer
#
# What does LM_φ do? First, two learned tables give each token a vector of C numbers: one for *what* it is, and one for *where*
# it stands. We call their sum x, as in lesson 2. (It is not the x of [x; y].) Then x passes through the n layers. Each layer
# has two parts, and each part is added to x (lesson 2: Norm, then Add):
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
# You write one layer yourself in exercise 3.1. When your version passes, ours is shown here. (`drop` does nothing in this
# lesson.)
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
# rows, so the model cannot read a longer text. More rows alone would not help: they would have to be trained, on longer
# windows.

# %% [markdown]
# ## Before training
#
# The untrained model knows nothing. Lesson 1 had a model that knows nothing, the uniform model.
#
# We also let it write. `generate` works as in lesson 1: draw a token from the distribution, append it, and ask again.
#
# **Predict before you run:** what is the loss of the untrained model, approximately? What will it write?

# %%
import math

from minitransformer.generation.sampling import generate
from minitransformer.training.loop import evaluate

loss_before = evaluate(model, valid)
before = tokenizer.decode(generate(model, [[tokenizer.eot_id]], 30, temperature=1.0, seed=0)[0])
say(
    f"The loss is {loss_before:.3f} nats per token; log V = log {V:,} = {math.log(V):.3f}. It writes:"
)
say("> " + before.replace("\n", " ").replace(END_OF_TEXT, "■"))
assert 0 < loss_before - math.log(V) < 0.5

# %% [markdown]
# The loss is near to log V. It is a little higher, because the scores are random and not quite equal. The text is a random
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
# 003 §3.1 maximises, over all φ, the probability of y given x:
#
#     max_φ log p_φ(y | x) = Σ_{i ∈ Y_idx} log p_φ(z_i | h_<i)
#
# (The right side is log p_φ(y | x) itself, and not yet its maximum.) Y_idx are the positions of y, the output of a task. So 003 counts only the tokens of y. In this lesson there is no task yet,
# and every token counts. Apart from this, both goals are the same: when the sum of the logarithms grows, L falls.
#
# **Predict before you run:** we take only the first 9 tokens of a window. How many predictions do they give? The model is still
# untrained. About how many nats do the predictions cost in all?

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
# 9 tokens give 8 predictions. Each costs about log V, so together they cost about 8 · log V, which is 61 nats.

# %% [markdown]
# ## Training
#
# One step of training has four parts: take a batch, compute its mean loss, compute the gradient, and change every parameter.
# The rule for the change is AdamW. It is lesson 1's Adam, and it also moves all entries of the matrices a little towards 0 in
# each step.
#
# Two more rules keep the training stable. The learning rate (学习率) first grows (this is called warm-up) and then falls along a
# cosine, to `final_lr` times its peak. And a gradient whose norm is larger than 1 is scaled down to norm 1 (clipping). So one
# strange batch cannot do damage.
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
    f"{steps:,} steps took {log.seconds:.0f} s, at {log.tokens_per_second:,.0f} tokens per second. The model saw each training "
    f"token {steps * B * T / len(train_stream):.2f} times on average."
)
assert loss_after < loss_before - 0.5

# %% [markdown]
# A full run has 1,200 · 512 ≈ 614,000 tokens, so the model sees each token a little less than once. One pass over all tokens is
# called an epoch (轮次).

# %% [markdown]
# ## The curves
#
# We compare the GPT with two counted models of lesson 1, on the same tokens: the bigram, which sees one token back, and the
# trigram, which sees two. We give each the α that is best on exactly these tokens, which is a small advantage for them.
#
# **Predict before you run:** in less than one epoch, can the training loss be much lower than the validation loss? (Lesson 1
# called that overfitting.)

# %%
from minitransformer.course.bigram import NGram, bits_per_byte

n_judged = sum(batch["ids"][:, 1:].numel() for batch in valid)  # the tokens that the GPT predicts
judged = valid_stream[: n_judged + 1]
judged_bytes = len(tokenizer.decode(judged[1:].tolist()).replace(END_OF_TEXT, "").encode())
counted = {}
for name, length in (("bigram", 2), ("trigram", 3)):
    ngram, tried = NGram(train_stream, V, n=length), []
    for alpha in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1):
        ngram.alpha = alpha
        tried.append(ngram.loss(judged))
    counted[name] = min(tried)
losses = counted | {"GPT": loss_after}
last_tenth = [row["loss"] for row in log.train[-max(1, steps // 10) :]]
last_train = sum(last_tenth) / len(last_tenth)
with figure(
    "loss", "The loss on training and validation text while the GPT learns.", (8, 4.5)
) as axes:
    every = max(1, steps // 50)  # steps that are averaged to one point
    means = [
        sum(row["loss"] for row in log.train[i : i + every]) / every for i in range(0, steps, every)
    ]
    axes.plot([every * (i + 0.5) for i in range(len(means))], means, label="training")
    validated = [(0, loss_before)] + [(row["step"], row["loss"]) for row in log.valid]
    axes.plot(*zip(*validated, strict=True), "o-", label="validation")
    lines = {"knows nothing, log V": math.log(V)} | counted
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
# It cannot. In the first epoch the model meets each window for the first time. Its loss is measured before it learns from the
# window. So the training loss is also a loss on text that the model has never seen. Overfitting can show only when windows
# come again.
#
# After a full run the GPT is better than both counted models.

# %% [markdown]
# ## What a long memory is worth
#
# In lesson 1, a longer memory helped only up to n = 3. Then the counted models became worse, because a long context almost
# never comes again exactly. A GPT does not count exact contexts. It computes with vectors, and similar contexts have similar
# vectors. So a longer memory may go on helping.
#
# We can see it inside a window. The first position has read one token, like the bigram. The last one has read 64.
#
# **Predict before you run:** we take the mean validation loss at the positions 1, 2, 3–8, 9–32 and 33–64. Where does it stop
# falling, if it does?

# %%
import torch.nn.functional as F

ids = torch.cat([batch["ids"] for batch in valid])  # (B, T+1)
with torch.inference_mode():
    logits = model(ids[:, :-1])  # (B, T, V)
cost = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").mean(0)  # (T)
by_memory = {
    f"{first} to {last}" if last > first else f"{first}": cost[first - 1 : last].mean().item()
    for first, last in ((1, 1), (2, 2), (3, 8), (9, 32), (33, 64))
}
table(
    [(tokens, loss, bar(loss, math.log(V))) for tokens, loss in by_memory.items()],
    ["tokens read", "loss", ""],
    [None, ".3f", None],
)
assert QUICK or own or list(by_memory.values()) == sorted(by_memory.values(), reverse=True)
assert QUICK or own or by_memory["1"] > counted["bigram"]

# %% [markdown]
# After a full run it does not stop. Every part of the window has a lower loss than the part before it, so the model makes use
# of tokens that stand far back. (With only one token to read, the GPT is worse than the bigram, which has counted exactly
# this case.)

# %% [markdown]
# ## After training
#
# We let the model write: first a new text, then three texts that go on from a beginning of ours. (The tokens are drawn at
# temperature 0.5, which the next step explains.) While you read, ask three questions:
#
# 1. Does every word exist?
# 2. Is every sentence grammatical?
# 3. Do two sentences that follow each other fit together: the same person, the same place, the same matter?
#
# We compute the first one: the fraction of the words that occur in the training text.
#
# **Predict before you run:** which of the three will this small model do worst?

# %%
import re

starts = ["", "One snowy morning", "The museum of", "On Sunday"] if not own else [""] * 4
ids = [[tokenizer.eot_id, *tokenizer.encode(start)] for start in starts]
texts = generate(model, ids, 56, temperature=0.5, seed=1, stop_id=tokenizer.eot_id)
known = set(re.findall(r"[A-Za-z]+", " ".join(train_documents)))
written = re.findall(r"[A-Za-z]+", " ".join(map(tokenizer.decode, texts)))
exist = sum(word in known for word in written) / max(1, len(written))
say("Before training: " + before.replace("\n", " ").replace(END_OF_TEXT, "■")[:160])
say("After training:")
for start, text in zip(starts, texts, strict=True):
    rest = tokenizer.decode(text)
    say(f"> **{start}**{rest}" if start else f"> {rest.strip()}")
say(f"Of {len(written)} words {exist:.0%} occur in the training text.")
assert QUICK or own or exist > 0.85

# %% [markdown]
# After a full run nearly every word exists, and most sentences are grammatical. The third is the hardest: to fit to the sentence
# before needs the longest memory. A model of this size, after so short a training, changes the person, the place or the
# matter from one sentence to the next.

# %% [markdown]
# ## Temperature, top-k, top-p
#
# The model gives a distribution. A *sampler* chooses one token from it. There are four usual ways:
#
#     greedy            take the likeliest token, always
#     temperature τ     divide the scores by τ before softmax, then draw
#     top-k             keep only the k likeliest tokens, then draw
#     top-p             sort the tokens by probability, keep as few as needed so that together they have at
#                       least p, then draw
#
# With τ below 1 the likely tokens become still likelier; with τ above 1 the unlikely ones gain. Top-p is also called nucleus
# sampling. You write it in exercise 3.4.
#
# **Predict before you run:** after `The wind comes from the` we apply τ = 0.5, τ = 2, top-k with k = 3, and top-p with p = 0.8.
# Which of the four can give a token the probability 0?

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
assert (probs["top-k 3"] > 0).sum() == 3 and (probs["top-p 0.8"] == 0).any()
assert (probs["τ = 0.5"] > 0).all() and (probs["τ = 2"] > 0).all()
assert probs["τ = 0.5"].max() > probs["the model"].max() > probs["τ = 2"].max()

# %% [markdown]
# Only top-k and top-p can: they rule tokens out. In the table of the 8 likeliest tokens, these stand as `·`. The tokens that
# stay share the probability of the others.
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
# We compare six samplers: greedy, τ = 0.5, τ = 1, τ = 1.5, top-k with k = 10, and top-p with p = 0.9. Each writes 12 new texts.
# We measure two things over all 12 texts together. *Surprise* is the mean of −log P that the model itself gives to the tokens
# that were chosen. *Different words* is the number of different words, divided by the number of all words.
#
# **Predict before you run:** which of the six has the fewest different words? Which has the highest surprise?

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
# Greedy has the fewest different words. It leaves nothing to chance, so it writes the same text twelve times. The highest
# surprise is that of τ = 1.5, where unlikely tokens are chosen often. A high surprise can mean variety, and it can mean
# mistakes. No number here tells which. Read the beginnings.

# %% [markdown]
# ## The cache
#
# To write token 100, the model needs the keys and values of tokens 1 to 99, in every layer. It has computed them before, when
# it read those tokens. They have not changed since, because under the causal mask nothing that comes later can change them.
#
# So we keep them, in the K/V cache (键值缓存). Each step then computes only what belongs to the new token. We expect the same text
# in less time. Speed does not depend on what a model has learned, so we take an untrained model with room for more tokens.
#
# **Predict before you run:** for long texts, we double the number of tokens to write. How many times as long does it take
# without the cache? How many times as long with it?

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
# Without the cache, the model processes 1 + 2 + … + m ≈ m²/2 tokens to write m of them. So twice as many tokens take up to
# four times as long. With the cache it processes m tokens, and twice as many take about twice as long. (For short texts the
# difference is small, because calling the model takes most of the time.)

# %% [markdown]
# ## What the heads look at
#
# We look at the attention weights of lesson 2 in a model that has learned something. A head that always reads the token just
# before would be useful: the bigram knows only that token, and predicts much better than nothing. Does training make such a
# head?
#
# For each head we measure how much of its attention goes one token back, as a mean over all tokens of 8 validation windows.
# We compare three models: an untrained one, this lesson's, and the course's own GPT. It has the same layers, and was trained
# for longer on more text. A head that reads all visible tokens alike would give 0.06 of its attention to the token before.
#
# **Predict before you run:** how much does the best head of each of the three models give: about 0.06, two or three times
# that, or even more?

# %%
from minitransformer.course.bases import load_base
from minitransformer.models.watch import watch_attention


def maps_of(net: GPT, ids: torch.Tensor) -> torch.Tensor:
    """The weights of every head of every layer, (layers, B, H, T, T)."""
    with torch.inference_mode(), watch_attention(net) as maps:
        net(ids)
    return torch.stack([weights[0] for weights in maps.values()])


torch.manual_seed(0)
untrained = GPT(model.config).eval()
nets = {"untrained": untrained, "this lesson's": model, "the course's": load_base("gpt")}
one_back, best = {}, {}
for name, net in nets.items():
    maps = maps_of(net, valid[0]["ids"][:8, :-1])  # (n_layer, B, H, T, T)
    before_it = maps.diagonal(offset=-1, dim1=-2, dim2=-1).mean((1, -1))  # (n_layer, H)
    one_back[name] = before_it.max().item()
    best[name] = divmod(before_it.argmax().item(), before_it.size(1))  # layer and head
table(
    [
        (name, f"{best[name][1] + 1} of layer {best[name][0] + 1}", weight, bar(weight))
        for name, weight in one_back.items()
    ],
    ["model", "best head", "attention one token back", ""],
    [None, None, ".2f", None],
)
even = (1 / torch.arange(2, T + 1)).mean().item()
assert 0.055 < even < 0.065
assert one_back["untrained"] < 0.09
assert QUICK or own or 0.1 < one_back["this lesson's"] < one_back["the course's"] - 0.05

# %% [markdown]
# The best head of the untrained model is like one that reads all tokens alike. After a full run, the best head of this lesson's
# model gives two or three times as much, and the course's gives still more. So training makes such a head, and longer
# training makes it clearer. Nobody told the model to do so. It is useful for the prediction, so training finds it.
#
# The figure shows the best head of each model on one sentence. A row is the token that reads, and a column is the token that
# is read. A head that always reads the token before would be a bright line right below the diagonal.

# %%
sentence = "Mira gave Fado a red kite. Fado was glad." if not own else train_documents[0][:60]
ids = torch.tensor([tokenizer.encode(sentence)])  # (1, T)
with figure(
    "heads", "The best head of each model: rows read, columns are read.", (12, 4.6), 1, 3
) as axes:
    labels = [tokenizer.token(i) for i in ids[0].tolist()]
    for ax, (name, net) in zip(axes, nets.items(), strict=True):
        layer, head = best[name]
        ax.imshow(maps_of(net, ids)[layer, 0, head], vmin=0, vmax=1)
        ax.grid(False)
        ax.set_title(f"{name}: layer {layer + 1}, head {head + 1}")
        ax.set_yticks(range(len(labels)), labels if ax is axes[0] else [], fontsize=9)
        ax.set_xticks(range(len(labels)), labels, fontsize=9, rotation=90)

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
# One key and one value in each of 4 layers have 2 · 4 · 128 = 1,024 numbers. The prefix acts as the text; with nothing in front
# (there, ` boy` also stands at position 0) the scores are others.
#
# A text acts on what follows only through these numbers. So we can also choose the numbers freely, by training, even if no text
# in the world would produce them. This is prefix tuning (前缀微调), the subject of the second half of the course.

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
# The document shows the relations in a diagram. An arrow means "leads to" or "has as a special case":
#
#     大规模语言模型 → 预训练 → 微调 → 参数高效微调 → Prompt, Adapter, LoRA, P-Tuning
#     大规模语言模型 → 迁移学习 → 微调
#
# Lesson 5 is about fine-tuning. Prompts are in lesson 7, P-Tuning in 8, adapters in 11 and LoRA in 12.
#
# **Predict before you run:** how small is "a few"? A prefix of length P = 10 has 10 · 1,024 numbers (the last step). What
# fraction of our model's million parameters is that?

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
# It is about one per cent.

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
# - `TEXT=my.txt make lesson-3` trains on a text of your own. `TEXT=python make lesson-3` takes the English manual that comes with
#   every Python. What is its validation loss, and why is it higher?
# - Set `n_layer=1`. Do its heads look one token back more, or less? What happens to the loss?
# - Halve `steps`. Which kind of mistake in the texts goes away last?
#
# Exercises: `make start-3` writes the stubs of this lesson's exercises to `workbook/lesson_03.py`, and `make check-3` checks
# them. Lesson 4 builds a BERT, which reads a text in both directions.
#
# Further reading: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019); "Using the Output Embedding
# to Improve Language Models" (Press & Wolf, 2017); "The Curious Case of Neural Text Degeneration" (Holtzman et al., 2020);
# "In-context Learning and Induction Heads" (Olsson et al., 2022).
