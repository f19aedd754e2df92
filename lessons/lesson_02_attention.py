"""Attention, from Q K V to heads and masks

question: How does a token decide which other tokens to read, and what happens if we add two keys that nobody wrote?
minutes: 0.5
documents: 004 §2.2 自注意力机制, §4.1 自注意力机制; 003 §3.3 Method/Parametrization of Pθ
needs: 1
"""

# %% [markdown]
# ## A dictionary that blends
#
# The bigram model of lesson 1 reads one token back and no further. With attention (注意力) a token can read any
# other token, and it can choose which.
#
# Think of a dictionary. It holds pairs of a key and a value. You bring a query, and you get the value whose key
# matches. Attention is a soft dictionary. It compares the query with every key, and its answer is a blend of all
# values. The keys that match best contribute most.
#
# Queries, keys and values are vectors. How well two vectors match is their dot product, q · k. It is large where
# both point the same way. Here are five words, "Mira has a red kite". Each has a key of three numbers that we made
# by hand: person, colour, thing. (A kite is a thing, and often a coloured one, so its key is [0, 2, 3].) The key of
# "red" is [0, 4, 0]. Each word also has a value of one number, say how warm it is: 3 for Mira, 10 for red, 1 for kite.
#
# **Predict before you run:** the query is [0, 1, 0]; it asks for a colour. Which word gets the largest weight? Will the
# answer be nearer to 1 or to 10?

# %%
import torch
from minitransformer.course.show import QUICK, bar, figure, say, source, table, verbatim
from minitransformer.models.attention import attend_by_formula

words = ["Mira", "has", "a", "red", "kite"]
keys = torch.tensor([[4.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 4, 0], [0, 2, 3]])
values = torch.tensor([[3.0], [0], [0], [10], [1]])
query = torch.tensor([[0.0, 1, 0]])  # "which colour?"
scores = query @ keys.T  # (1, S)
weights = scores.softmax(dim=-1)  # (1, S)
rows = [
    (w, s, a, bar(a))
    for w, s, a in zip(words, scores[0].tolist(), weights[0].tolist(), strict=True)
]
table(rows, ["word", "q · k", "weight", ""], [None, ".1f", ".3f", None])
say(f"The answer is {(weights @ values).item():.2f}.")
assert weights.argmax() == words.index("red") and 5.5 < (weights @ values).item() < 10

# %% [markdown]
# The weights come from softmax. Lesson 1 used it to turn any numbers into a distribution: take e^(q·k) for each key, and
# divide by the sum. So no weight is 0, and the weights sum to 1. The answer is the weighted mean of the values:
#
#     answer = Σ_s weight_s · v_s
#
# Every step of this is smooth. Therefore gradient descent can learn all three parts: what to ask (q), what to offer (k),
# and what to hand over (v).

# %% [markdown]
# ## The formula
#
# The queries, keys and values of a text come from its own tokens. Each token is a vector of C numbers. (Lesson 3 learns
# these vectors; here they are random.) The rows of a matrix X are the tokens of one text. Three learned matrices turn every
# token into a query, a key and a value (004 §4.1):
#
#     Q = X W^Q     K = X W^K     V = X W^V
#     Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V
#
# The product Q Kᵀ compares every query with every key at once. Its entry (t, s) says how much token t wants to read token
# s. Softmax is taken along each row. The number d_k is the length of one key; a later step explains why √d_k is there. When
# a text reads itself in this way, it is called self-attention (自注意力). A token at the far end of the text is as near as
# the next one: both are one dot product away. The document calls this long-range dependency (长程依赖, 004 §2.2).
#
# Each line of our code ends with a shape. B is the number of texts, H the number of heads (a later step; 1 for now), T the
# number of queries, S the number of keys, and D is d_k. You write this function yourself in exercise 2.3. When yours passes,
# the package's version is printed here, with the mask of a later step in it.

# %%
source(attend_by_formula, docstring=False)

# %% [markdown]
# ## The formula against a loop
#
# To check the formula, we compute it once more with a plain loop: one query after another, one key after another. The text
# has T = 6 tokens.
#
# **Predict before you run:** how many weights are there, and what is the sum of all of them?

# %%
import math

torch.manual_seed(0)
T, C = 6, 16
X = torch.randn(T, C)  # (T, C)
W_q, W_k, W_v = (torch.randn(C, C) / math.sqrt(C) for _ in range(3))
Q, K, V = X @ W_q, X @ W_k, X @ W_v  # (T, C)
q, k, v = Q[None, None], K[None, None], V[None, None]  # (B, H, T, D): one text, one head
out, weights = attend_by_formula(q, k, v)  # (B, H, T, D), (B, H, T, S)

difference = 0.0
for t in range(T):
    e = [math.exp(float(Q[t] @ K[s]) / math.sqrt(C)) for s in range(T)]
    answer = sum(e[s] / sum(e) * V[s] for s in range(T))
    difference = max(difference, (answer - out[0, 0, t]).abs().max().item())
say(
    f"There are {weights.numel()} weights in {T} rows. Each row sums to 1, so all of them sum to "
    f"{weights.sum():.4f}. The loop and the formula differ by {difference:.0e} at most, which is rounding."
)
assert difference < 1e-5

# %% [markdown]
# ## Why √d_k
#
# A dot product of two vectors with d numbers is a sum of d products. Suppose the numbers are random and independent, with
# mean 0 and variance 1. Then each product has variance 1, and the sum has variance d. Its standard deviation is √d.
# Softmax takes e to the power of these scores. So where keys are long and nothing is divided, one key gets nearly all
# of the weight before anything is learned.
#
# Two measures show it. The first is the entropy (熵) of the weights, −Σ p log p. It is log S where all S keys get the same
# weight, and 0 where one key gets everything. The second is the slope of softmax, Σ_i ∂p_i/∂u_i. A softmax p changes with its scores u as
#
#     ∂p_i/∂u_j = p_i (δ_ij − p_j)          (δ_ij is 1 where i = j, and 0 elsewhere)
#
# Where p is almost 0 or almost 1, the slope is almost 0, and nothing can be learned.
#
# **Predict before you run:** we measure entropy and slope for longer and longer keys, each with and without the division by
# √d_k. Which of these four lines stay flat?

# %%
widths = [1, 4, 16, 64, 256, 1024]
S, n_queries = 32, 50 if QUICK else 400
spread, entropy, slope = [], {True: [], False: []}, {True: [], False: []}
for d in widths:
    queries, longer_keys = torch.randn(n_queries, d), torch.randn(n_queries, S, d)
    u = (longer_keys @ queries[:, :, None])[..., 0]  # one row of S scores for each query
    spread.append(u.std().item())
    for divided in (True, False):
        p = (u / math.sqrt(d) if divided else u).softmax(dim=-1)
        entropy[divided].append(-torch.xlogy(p, p).sum(-1).mean().item())
        slope[divided].append((p * (1 - p)).sum(-1).mean().item())  # Σ_i ∂p_i/∂u_i
with figure(
    "sqrt_dk",
    "Without √d_k, entropy and slope fall as keys get longer; with it they stay.",
    (9, 3.6),
    1,
    2,
) as (left, right):
    for axes, lines, name in (
        (left, entropy, "entropy of the weights (nats)"),
        (right, slope, "Σ ∂p_i/∂u_i"),
    ):
        axes.plot(widths, lines[True], "o-", label="q·k / √d_k")
        axes.plot(widths, lines[False], "s--", label="q·k")
        axes.set(xscale="log", xlabel="width of a key, d_k", ylabel=name, ylim=(0, None))
        axes.legend()
    left.set_ylim(0, 1.15 * math.log(S))
    left.axhline(math.log(S), color="grey", linewidth=1, linestyle=":")
    left.text(widths[1], 1.03 * math.log(S), f"all keys alike: ln {S}", color="grey", fontsize=9)
table(
    list(
        zip(widths, spread, entropy[False], entropy[True], slope[False], slope[True], strict=True)
    ),
    ["d_k", "std of q·k", "entropy", "with √d_k", "slope", "with √d_k"],
    ["d", ".2f", ".2f", ".2f", ".3f", ".3f"],
)
assert entropy[False][-1] < 0.5 * entropy[True][-1] and slope[False][-1] < 0.3 * slope[True][-1]
assert all(abs(one - entropy[True][-1]) < 0.3 for one in entropy[True])

# %% [markdown]
# The two divided lines are flat. Without the division, entropy and slope both fall towards 0: the longer the keys, the less
# a fresh layer can learn.
#
# *Where the document is loose.* 004 §4.1 says that the division keeps the gradient from vanishing or exploding (梯度消失或爆炸).
# We measure the first half of that. We see nothing explode here, because Σ_i p_i (1 − p_i) = 1 − Σ_i p_i² is never more than 1.

# %% [markdown]
# ## A mask: who may look where
#
# A model that predicts the next token must not see that token. The causal mask (因果掩码) forbids query t every key s > t. A
# forbidden key gets so low a score that softmax gives it exactly 0, and the other keys share its weight. A second kind
# of mask forbids everyone to read the padding (填充), which are tokens that only fill up a batch of texts of different
# lengths. In our masks True means that a query *may* look.
#
# **Predict before you run:** under the causal mask, what does the first row of weights look like, whatever Q and K are?

# %%
from minitransformer.models.attention import combined_mask

causal = combined_mask(T, T, n_prefix=0, causal=True, attention_mask=None)  # (1, 1, T, S)
real = torch.tensor([[True, True, True, True, False, False]])  # the last two are padding
padded = combined_mask(T, T, n_prefix=0, causal=False, attention_mask=real)  # (B, 1, 1, S)
maps = {
    name: attend_by_formula(q, k, v, mask)[1][0, 0]  # (T, S)
    for name, mask in (("no mask", None), ("causal", causal), ("two are padding", padded))
}
with figure(
    "masks", "The same scores under three masks; each row sums to 1.", (9.5, 3.6), 1, 3
) as axes:
    for ax, (name, weight) in zip(axes, maps.items(), strict=True):
        ax.imshow(weight, vmin=0, vmax=1)
        ax.set(title=name, xlabel="key s", xticks=range(T), yticks=range(T))
        ax.grid(False)
    axes[0].set_ylabel("query t")
say("The weights under the causal mask:")
for row in maps["causal"]:
    verbatim("  " + " ".join(f"{value:.2f}" if value else "  · " for value in row.tolist()))
assert maps["causal"][0, 0] == 1 and all(
    torch.allclose(weight.sum(-1), torch.ones(T)) for weight in maps.values()
)

# %% [markdown]
# The first token can read only itself, so its row is 1 followed by zeros.

# %% [markdown]
# ## Attention does not know the order
#
# Nothing in the formula says which token comes first. If we shuffle the tokens, each token still gets the
# same answer; only the answers' order is shuffled, too. To such a model "Mira saw Fado" and "Fado saw Mira" are one text.
#
# **Predict before you run:** does this also hold under the causal mask?

# %%
order = torch.randperm(T)
changes = {}
for name, mask in (("no mask", None), ("causal", causal)):
    straight, _ = attend_by_formula(q, k, v, mask)  # (B, H, T, D)
    shuffled, _ = attend_by_formula(q[:, :, order], k[:, :, order], v[:, :, order], mask)
    changes[name] = (straight[:, :, order] - shuffled).abs().max().item()
table(list(changes.items()), ["mask", "largest change after unshuffling"], [None, ".6f"])
assert changes["no mask"] < 1e-5 < 1e-2 < changes["causal"]

# %% [markdown]
# Without a mask nothing changes. The causal mask breaks the symmetry, because it hides what comes later. Models do not rely
# on that. They add a second vector to each token's vector, which stands for its position (位置编码). Lesson 3 does so.

# %% [markdown]
# ## Heads
#
# One row of weights is one decision. But a token may need several things at once, such as the subject of the verb *and* the
# last colour. Multi-head attention (多头注意力, 004 §4.1) cuts the width C into H heads of width D = C / H. Each head attends
# by itself, and the answers are put side by side:
#
#     MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O
#     head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)
#
# (The document writes h for the number of heads; we write H.) W^O is one more learned matrix. It mixes the heads' answers.
#
# The course has one attention module, and every model uses it. It stacks W^Q, W^K and W^V in one matrix, `qkv`. W^O is `out`.
# Each of the two also has a bias, a learned vector that is added. We compare it with PyTorch's own module.
#
# **Predict before you run:** does the number of parameters depend on the number of heads?

# %%
from minitransformer.models.attention import Attention
from minitransformer.models.watch import watch_attention
from torch import nn

x = torch.randn(2, T, C)  # (B, T, C)
rows = []
for H in (1, 2, 4, 8):
    ours, theirs = Attention(C, H), nn.MultiheadAttention(C, H, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    difference = (ours(x) - theirs(x, x, x, need_weights=False)[0]).abs().max().item()
    rows.append((H, C // H, sum(p.numel() for p in ours.parameters()), difference))
table(rows, ["H", "D", "parameters", "differs from torch's"], ["d", "d", ",", ".0e"])
with watch_attention(ours) as watched:  # the last of them, with eight heads
    ours(x)
one, other = watched[""][0][0, :2].flatten(1)  # the maps of two of the eight heads, (T·S) each
correlation = torch.corrcoef(torch.stack([one, other]))[0, 1].item()
say(f"The weights of two of the eight heads have a correlation of {correlation:.2f}.")
assert all(row[2] == 4 * C * C + 4 * C and row[3] < 1e-5 for row in rows) and correlation < 0.9

# %% [markdown]
# There are 4 C² + 4 C parameters, whatever H is. The heads do not need more parameters; they divide them. And even with
# fresh weights two heads read differently. This is what 004 §4.1 means by different subspaces (不同的子空间).
#
# *Where the document is loose.* It first defines Q = X W^Q and then multiplies Q by W_i^Q again. There is one projection, not
# two: W_i^Q is a block of columns of W^Q, and the inputs of MultiHead are X three times. It also calls this line a weighted
# sum (加权和). The weighted sum happens inside each head; Concat only puts the results side by side.

# %% [markdown]
# ## The fused path
#
# The formula stores T × S weights for every head. PyTorch has the same function as one fused routine, which works in small
# blocks and need not store the weights. Our models run on that routine. The formula is there to be read, and to draw maps.

# %%
import time

from minitransformer.models.attention import attend

q_long, k_long, v_long = (torch.randn(4, 4, 512, 32) for _ in range(3))  # (B, H, T, D)
mask = combined_mask(512, 512, n_prefix=0, causal=True, attention_mask=None)
seconds = {}
for name, function in (("formula", attend_by_formula), ("fused", attend)):
    times = []
    for _ in range(3 if QUICK else 15):
        began = time.perf_counter()
        function(q_long, k_long, v_long, mask)
        times.append(time.perf_counter() - began)
    seconds[name] = sorted(times)[len(times) // 2]
fused, formula = (f(q_long, k_long, v_long, mask) for f in (attend, attend_by_formula))
difference = (fused - formula[0]).abs().max().item()
table([(name, 1000 * s) for name, s in seconds.items()], ["path", "ms at T = 512"], [None, ".1f"])
say(f"The two results differ by {difference:.0e}.")
assert difference < 1e-5

# %% [markdown]
# ## Add & Norm
#
# Two small things follow each attention layer, and they make deep models trainable (004 §2.2). *Add* (residual connection,
# 残差连接) adds what the layer computes to what it was given. *Norm* (layer normalization, 层归一化) brings each token's vector
# to mean 0 and variance 1, and then scales and shifts it by learned parameters. The two can stand in either order:
#
#     x ← Norm(x + Layer(x))      after the sum: the original order, and BERT's
#     x ← x + Layer(Norm(x))      before the layer: GPT-2's order; the sum itself is never normalised
#
# The figure in 004 §2.2 shows the first order. Most models since GPT-2 use the second, and our GPT does so too.
#
# Their effect shows in depth. We stack 24 fresh attention layers of width C = 32 (without biases, which would be alike for all tokens). Then
# we measure two things. The first is how alike the tokens are at the top, as the cosine of two of them. The second is how
# much gradient arrives at the bottom when a gradient of size 1 enters every number at the top.
#
# **Predict before you run:** there are four stacks: the layer alone; with Add; Add, then Norm; Norm, then Add. In which of
# them does almost no gradient arrive at the bottom?

# %%
depth, C = 24, 32
stacks = {
    "the layer alone": lambda layer, norm, x: layer(x),
    "Add": lambda layer, norm, x: x + layer(x),
    "Add, then Norm": lambda layer, norm, x: norm(x + layer(x)),
    "Norm, then Add": lambda layer, norm, x: x + layer(norm(x)),
}
measured = {}
for name, step in stacks.items():
    torch.manual_seed(0)
    layers = [Attention(C, 4) for _ in range(depth)]
    for layer in layers:
        nn.init.zeros_(layer.qkv.bias), nn.init.zeros_(layer.out.bias)
    bottom = torch.randn(4, T, C, requires_grad=True)  # (B, T, C)
    x = bottom
    for layer in layers:
        x = step(layer, nn.LayerNorm(C), x)
    (gradient,) = torch.autograd.grad((x * torch.randn_like(x)).sum(), bottom)
    one, other = (nn.functional.normalize(x[:, t].double(), dim=-1, eps=0.0) for t in (0, 1))
    cosine = (one * other).sum(-1).mean().item()
    measured[name] = (x.std().item(), cosine, gradient.square().mean().sqrt().item())
table(
    [(name, *numbers) for name, numbers in measured.items()],
    ["a layer is", "std of the output", "cosine of two tokens", "gradient at the bottom"],
    [None, ".1e", ".3f", ".1e"],
)
alone, *with_add = measured.values()
assert alone[2] < 1e-3 * min(row[2] for row in with_add)
assert alone[1] > 0.99 > max(row[1] for row in with_add)

# %% [markdown]
# Alone, the layers make all tokens alike, because each layer averages the tokens a little more. Almost no gradient arrives at
# the bottom. With Add, both the tokens and the gradient have a way past the layers. Norm after the sum keeps the size of the
# output at 1. Norm before the layer lets the sum grow, a little with each layer.

# %% [markdown]
# ## Two keys that nobody wrote
#
# Here is the idea on which the second half of this course rests. A query does not know where keys and values come from. So we
# can put two more in front of those of the text, a prefix (前缀) of length P = 2. 003 §3.3 writes for all that is read
#
#     z = [PREFIX; x; y]
#
# where x is the input of a task and y its output. For the keys and values of one layer this means
#
#     K ← [P_K; K]       V ← [P_V; V]
#
# No token was written for these two, and no weight of the model changes. Still every token reads them, so every answer
# changes. In our attention module the prefix is an argument. Its columns are visible to every query, also under the causal
# mask.
#
# **Predict before you run:** how many weights are in each row now? Does a prefix whose keys and values are all 0 change
# anything?

# %%
from minitransformer.models.attention import Prefix

torch.manual_seed(1)
layer = Attention(C, n_head=2, causal=True).requires_grad_(False)
x = torch.randn(1, T, C)  # (B, T, C)
shape = (1, 2, 2, 16)  # (B, H, P, D)
prefix = Prefix(k=torch.randn(shape), v=torch.randn(shape))
with watch_attention(layer) as watched:
    layer(x), layer(x, prefix=prefix)
before, after = (weight[0, 0] for weight in watched[""])  # the first head's: (T, T), (T, P+T)
for row in after:  # the two columns of the prefix, then those of the text
    parts = [
        " ".join(f"{w:.2f}" if w else "  · " for w in part.tolist()) for part in row.split([2, T])
    ]
    verbatim("  " + "  │  ".join(parts))
zeros = Prefix(torch.zeros(shape), torch.zeros(shape))
empty = Prefix(torch.zeros(1, 2, 0, 16), torch.zeros(1, 2, 0, 16))
change = {
    name: (layer(x, prefix=p) - layer(x)).abs().max().item()
    for name, p in (("random", prefix), ("zeros", zeros), ("of length 0", empty))
}
table(list(change.items()), ["prefix", "largest change of an output"], [None, ".4f"])
assert change["of length 0"] == 0 and change["zeros"] > 1e-3

# %% [markdown]
# A prefix of zeros does change the output. A key of zeros has the score 0, and e⁰ = 1 still takes part of the attention. Only
# a prefix of length 0 changes nothing.

# %% [markdown]
# ## What a prefix does, exactly
#
# Let λ be the fraction of its attention that a query gives to the prefix. In the rows of weights printed in the step before, it is the sum of the first two
# columns. He et al. (2022, Equations 7–10) rearranged the sums of softmax and found that a head with a prefix is a blend of
# two heads:
#
#     head = (1 − λ) Attention(q, K, V) + λ softmax(q P_Kᵀ / √d_k) P_V
#
# The first is the head as it was. The second attends to the prefix alone. So a prefix can turn down the reading of the text
# and put something of its own in its place. In that layer it cannot make a query prefer one token of the text over another,
# because their weights keep their ratio. In the next layer it can, because the queries there come from changed vectors.
#
# **Predict before you run:** how large is the difference between the two sides?

# %%
from minitransformer.models.attention import split_heads

q, k, v = split_heads(layer.qkv(x), 3, 2)  # (B, H, T, D)
mask = combined_mask(T, T, n_prefix=0, causal=True, attention_mask=None)
wider = combined_mask(T, T, n_prefix=2, causal=True, attention_mask=None)
whole, weights = attend_by_formula(
    q, torch.cat([prefix.k, k], 2), torch.cat([prefix.v, v], 2), wider
)
text_alone, _ = attend_by_formula(q, k, v, mask)  # (B, H, T, D)
prefix_alone, _ = attend_by_formula(q, prefix.k, prefix.v)  # (B, H, T, D)
lam = weights[..., :2].sum(-1, keepdim=True)  # λ of each head and query
blend = (1 - lam) * text_alone + lam * prefix_alone  # (B, H, T, D)
difference = (blend - whole).abs().max().item()
say("λ of the first head, query by query: " + ", ".join(f"{one:.2f}" for one in lam[0, 0, :, 0]))
say(f"The two sides differ by {difference:.0e}, which is rounding.")
ratios = (before[-1, 0] / before[-1, 1]).item(), (after[-1, 2] / after[-1, 3]).item()
say(
    f"The last query reads its first token {ratios[0]:.4f} times as much as its second without the prefix, and "
    f"{ratios[1]:.4f} times with it."
)
assert difference < 1e-5 and abs(ratios[0] - ratios[1]) < 1e-4

# %% [markdown]
# ## It can be learned
#
# Two keys and values change every answer. So gradient descent can look for those that change the answers as we want. The layer
# is frozen, and only the prefix gets a gradient. Our goal is arbitrary: the mean of the outputs shall become a certain vector.
#
# **Predict before you run:** there are P = 2 keys and values, H = 2 heads and D = 16. How many parameters are trained?

# %%
goal = torch.randn(C) / 4
tuned = Prefix(*(part.clone().requires_grad_() for part in prefix))
optimizer = torch.optim.Adam(tuned, lr=0.05)
losses = []
for _ in range(30 if QUICK else 300):
    loss = (layer(x, prefix=tuned).mean(dim=(0, 1)) - goal).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
trained, frozen = sum(t.numel() for t in tuned), sum(p.numel() for p in layer.parameters())
say(f"{trained} parameters were trained, and {frozen:,} were frozen.")
say(f"In {len(losses)} steps the mean squared error fell from {losses[0]:.4f} to {losses[-1]:.4f}.")
assert trained == 2 * 2 * 2 * 16 and losses[-1] < 0.5 * losses[0]

# %% [markdown]
# ## The answer
#
# A token compares its query with the keys of other tokens and takes a blend of their values: softmax(Q Kᵀ / √d_k) V. Two keys
# and values that nobody wrote take a fraction λ of that attention. They steer the layer without changing its weights.
#
# To try next:
#
# - Set the first key of the prefix to ten times a query. What is λ now, and how much of the text is left?
# - Draw the entropy figure for S = 8 and for S = 512 keys. Which of its lines move?
# - Train the prefix towards a goal for one token only. Do the other tokens change as well? Could you prevent it?
#
# Exercises: `make start-2` writes the stubs of this lesson's exercises to `workbook/lesson_02.py`, and `make check-2` checks
# them. Lesson 3 builds a whole GPT from these layers.
#
# Further reading: "Attention Is All You Need" (Vaswani et al., 2017); "Prefix-Tuning: Optimizing Continuous Prompts
# for Generation" (Li & Liang, 2021); "Towards a Unified View of Parameter-Efficient Transfer Learning" (He et al., 2022),
# Equations 7–10; "On Layer Normalization in the Transformer Architecture" (Xiong et al., 2020).
