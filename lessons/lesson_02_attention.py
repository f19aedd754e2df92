"""Attention, from Q K V to heads and masks

question: How does a token decide which other tokens to read, and what happens if we slip in two that nobody wrote?
minutes: 0.5
documents: 004 §2.2 自注意力机制, §4.1 自注意力机制; 003 §3.3 Method/Parametrization of Pθ
needs: 1
"""

# %% [markdown]
# ## A dictionary that blends
#
# The bigram model of lesson 1 reads one token back and no further. Attention (注意力) lets a token read any
# other, and choose which. Think of a dictionary: it holds pairs of a key and a value, you bring a query, and
# get the value whose key matches. Attention is that, made soft: the query is compared with every key, and the
# answer is a blend of all values, most of it from the keys that match best.
#
# Queries, keys and values are vectors. A match is a dot product, q · k: large where two vectors point the
# same way. Here are five words, Mira has a red kite, each with a key made by hand of three numbers (person, colour, thing;
# kites are often coloured, so theirs has some of both) and a value of one number, say how warm it is.
#
# **Predict before you run:** the query asks for a colour. Which word gets the largest share, and what will the answer be near?

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
say(f"answer: {(weights @ values).item():.2f}")

# %% [markdown]
# The weights come from softmax, lesson 1's way from any numbers to a distribution: e^(q·k), divided by their
# sum. So no weight is 0, and they sum to 1. The answer is the weighted mean of the values,
#
#     answer = Σ_s weight_s · v_s
#
# and because everything in it is smooth, gradient descent can learn all three: what to ask (q), what to offer
# (k), and what to hand over (v).

# %% [markdown]
# ## The formula
#
# Where do q, k and v come from? From the token itself. Each token is a vector of C numbers (lesson 3 learns them; here they
# are random); the rows of a matrix X are the tokens of one text. Three learned matrices, the parameters of attention, make
# of every token a query, a key and a value (004 §4.1):
#
#     Q = X W^Q     K = X W^K     V = X W^V
#     Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V
#
# Q Kᵀ holds every query against every key at once: entry (t, s) says how much token t wants to read token s.
# softmax goes along each row. (d_k is the length of one key; the next step is about √d_k.) This is self-attention
# (自注意力): one text is both who asks and who answers.
#
# In the code, shapes stand at the line's end: B texts at once, H heads (a later step; 1 for now), T tokens that ask,
# S tokens that are read, D = d_k. The package's function is the formula, line by line. You write it yourself (exercise
# 2.3); once yours passes, the package's is printed here (its two `if attention_mask` blocks are the mask, three steps on).

# %%
source(attend_by_formula, docstring=False)

# %% [markdown]
# ## The formula against a loop
#
# **Predict before you run:** for T = 6 tokens, how many weights are there, and what is the sum of all of them?

# %%
import math

torch.manual_seed(0)
T, C = 6, 16
X = torch.randn(T, C)  # (T, C)
W_q, W_k, W_v = (torch.randn(C, C) / math.sqrt(C) for _ in range(3))
Q, K, V = X @ W_q, X @ W_k, X @ W_v  # (T, C)
out, weights = attend_by_formula(
    Q[None, None], K[None, None], V[None, None]
)  # (B, H, T, D), (B, H, T, S)

largest_difference = 0.0
for t in range(T):
    e = [math.exp(float(Q[t] @ K[s]) / math.sqrt(C)) for s in range(T)]
    answer = sum(e[s] / sum(e) * V[s] for s in range(T))
    largest_difference = max(largest_difference, (answer - out[0, 0, t]).abs().max().item())
say(
    f"{weights.numel()} weights, {T} rows that sum to 1 each, so {weights.sum():.4f} in all. The loop and the "
    f"formula differ by {largest_difference:.0e} at most, which is rounding."
)

# %% [markdown]
# ## Why √d_k
#
# A dot product of two vectors with d numbers is a sum of d products. If those numbers are random and independent, of mean 0
# and variance 1, each product has variance 1, and the sum has variance d: it spreads as √d. Softmax takes e to the power
# of that. So with long keys, without the division, one key wins everything before anything is learned.
#
# How one-sided a distribution is, its entropy (熵) tells: −Σ p log p. It is log S where all S keys get the same, and 0
# where one gets all. 004 §4.1 says that the division keeps the gradient from vanishing or exploding; that it vanishes without
# it is the consequence, and we measure it too (explode it does not, here). A softmax p changes with its scores z as ∂p_i/∂z_j = p_i (δ_ij − p_j) (δ_ij is 1
# where i = j, else 0): where p is almost 0 or almost 1, nothing moves any more.
#
# **Predict before you run:** entropy and slope, each with and without √d_k: which of the four lines stay flat?

# %%
widths = [1, 4, 16, 64, 256, 1024]
S, n_queries = 32, 50 if QUICK else 400
spread, entropy, slope = [], {True: [], False: []}, {True: [], False: []}
for d in widths:
    q, k = torch.randn(n_queries, d), torch.randn(n_queries, S, d)
    z = (k @ q[:, :, None])[..., 0]  # one row of S scores for each query
    spread.append(z.std().item())
    for scaled in (True, False):
        p = (z / math.sqrt(d) if scaled else z).softmax(dim=-1)
        entropy[scaled].append(-torch.xlogy(p, p).sum(-1).mean().item())
        slope[scaled].append((p * (1 - p)).sum(-1).mean().item())  # Σ_i ∂p_i/∂z_i
with figure("sqrt_dk", "Without √d_k softmax hardens as keys get longer.", (9, 3.6), 1, 2) as (
    left,
    right,
):
    for axes, values, name in (
        (left, entropy, "entropy of the weights (nats)"),
        (right, slope, "Σ ∂p_i/∂z_i"),
    ):
        axes.plot(widths, values[True], "o-", label="q·k / √d_k")
        axes.plot(widths, values[False], "s--", label="q·k")
        axes.set(xscale="log", xlabel="width of a key, d_k", ylabel=name, ylim=(0, None))
        axes.legend()
    left.set_ylim(0, 1.15 * math.log(S))
    left.axhline(math.log(S), color="grey", linewidth=1, linestyle=":")
    left.text(
        widths[1], 1.03 * math.log(S), f"every key the same: ln {S}", color="grey", fontsize=9
    )
rows = list(
    zip(widths, spread, entropy[False], entropy[True], slope[False], slope[True], strict=True)
)
table(
    rows,
    ["d_k", "std of q·k", "entropy", "with √d_k", "slope", "with √d_k"],
    ["d", ".2f", ".2f", ".2f", ".3f", ".3f"],
)
say(
    f"From d_k = 1 to {widths[-1]} the scores spread from {spread[0]:.1f} to {spread[-1]:.1f} (√{widths[-1]} = "
    f"{math.sqrt(widths[-1]):.0f}). Undivided, the entropy falls to {entropy[False][-1]:.2f} of {math.log(S):.2f} nats, and "
    f"the slope that learning needs to {slope[False][-1]:.3f}; divided, both stay where they were."
)
assert entropy[False][-1] < 0.5 * entropy[True][-1]

# %% [markdown]
# ## A mask: who may look where
#
# A model that is to predict the next token must not see it. The causal mask (因果掩码) forbids query t every key
# s > t: the score becomes so low that softmax gives it exactly 0, and the others share what it had. A second
# kind forbids everyone the padding (填充), tokens that only fill up a batch of texts of different lengths. Our masks
# say where one *may* look (True = attention_mask).
#
# **Predict before you run:** under the causal mask, what does the first row look like, whatever Q and K are?

# %%
from minitransformer.models.attention import combined_mask

causal = combined_mask(
    n_query=T, n_key=T, n_prefix=0, causal=True, attention_mask=None
)  # (1, 1, T, S); prefixes come later
real = torch.tensor([[True, True, True, True, False, False]])  # the last two are padding
padded = combined_mask(T, T, 0, causal=False, attention_mask=real)  # (B, 1, 1, S)
maps = {
    name: attend_by_formula(Q[None, None], K[None, None], V[None, None], mask)[1][0, 0]
    for name, mask in (("everyone sees all", None), ("causal", causal), ("two are padding", padded))
}
with figure(
    "masks", "The same scores under three masks; each row sums to 1.", (9.5, 3.4), 1, 3
) as axes:
    for ax, (name, weight) in zip(axes, maps.items(), strict=True):
        ax.imshow(weight, vmin=0, vmax=1)
        ax.set(title=name, xlabel="read: s", xticks=range(T), yticks=range(T))
        ax.grid(False)
    axes[0].set_ylabel("reads: t")
say("causal:")
for row in maps["causal"]:
    verbatim("  " + " ".join(f"{value:.2f}" if value else "  · " for value in row.tolist()))
for weight in maps.values():
    assert torch.allclose(weight.sum(-1), torch.ones(T))

# %% [markdown]
# ## Attention does not know order
#
# Nothing in the formula says which token comes first. Shuffle the tokens, and every answer is the same as before,
# only shuffled along: "Mira saw Fado" would be "Fado saw Mira".
#
# **Predict before you run:** does that hold under the causal mask too?

# %%
order = torch.randperm(T)
for name, mask in (("everyone sees all", None), ("causal", causal)):
    straight = attend_by_formula(Q[None, None], K[None, None], V[None, None], mask)[0][
        0, 0
    ]  # (T, C)
    shuffled = attend_by_formula(
        Q[order][None, None], K[order][None, None], V[order][None, None], mask
    )[0][0, 0]
    verbatim(
        f"{name:18} largest difference after unshuffling: {(straight[order] - shuffled).abs().max():.6f}"
    )
say(
    "That is why models add to each token's vector a second one that stands for its position (位置编码); lesson 3 does. "
    "The causal mask alone already breaks the symmetry, for it hides what comes later."
)

# %% [markdown]
# ## Heads
#
# One row of weights is one decision, but a token may want several things at once: the verb's subject *and* the last
# colour. Multi-head attention (多头注意力, 004 §4.1) cuts the width C into H heads of D = C / H, lets each attend by itself,
# and puts the answers side by side:
#
#     MultiHead(Q, K, V) = Concat(head_1, …, head_H) W^O
#     head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)
#
# W^O is one more learned matrix, which mixes the answers of the heads.
#
# Where the document is loose: having defined Q = X W^Q it multiplies Q by W_i^Q again. There is one projection, not two:
# W_i^Q is a block of columns of W^Q, so the inputs of MultiHead are X three times. And the document calls the line a
# "weighted sum": the weighted sum happens inside each head; Concat only puts H of them side by side.
#
# The course has one attention module, used by every model. It stacks W^Q, W^K and W^V to one matrix, `qkv`; W^O
# is `out`; each has a bias besides, a learned vector that is added. PyTorch's own module is a fair judge.
#
# **Predict before you run:** does the number of parameters depend on the number of heads?

# %%
from minitransformer.models.attention import Attention
from torch import nn

x = torch.randn(2, T, C)  # (B, T, C)
for H in (1, 2, 4, 8):
    ours, theirs = Attention(C, H), nn.MultiheadAttention(C, H, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    difference = (ours(x) - theirs(x, x, x, need_weights=False)[0]).abs().max().item()
    verbatim(
        f"H = {H}   D = {C // H:2}   {sum(p.numel() for p in ours.parameters()):,} parameters   differs from torch's by {difference:.0e}"
    )
    assert difference < 1e-5
say(f"They are 4 C² + 4 C = {4 * C * C + 4 * C:,}, whatever H.")

# %% [markdown]
# ## The fused path
#
# The formula stores T × S weights for every head. PyTorch has the same function as one fused routine, which works in small
# blocks and need not store them. Models run on it; the formula is there to be read, and to draw maps with.

# %%
import time

from minitransformer.models.attention import attend

q, k, v = (torch.randn(4, 4, 512, 32) for _ in range(3))  # (B, H, T, D)
mask = combined_mask(512, 512, 0, causal=True, attention_mask=None)
seconds = {}
for name, function in (("formula", attend_by_formula), ("fused", attend)):
    times = []
    for _ in range(3 if QUICK else 15):
        began = time.perf_counter()
        result = function(q, k, v, mask)
        times.append(time.perf_counter() - began)
    seconds[name] = sorted(times)[len(times) // 2]
difference = (attend(q, k, v, mask) - attend_by_formula(q, k, v, mask)[0]).abs().max().item()
say(
    f"At T = 512 the formula takes {1000 * seconds['formula']:.1f} ms, the fused path {1000 * seconds['fused']:.1f} ms "
    f"({seconds['formula'] / seconds['fused']:.1f} times as fast here); they differ by {difference:.0e}."
)
assert difference < 2e-6

# %% [markdown]
# ## Add & Norm
#
# Attention is followed by two small things that make deep models trainable (004 §2.2). Add (residual connection, 残差连接):
# what a layer computes is added to what it was given. Norm (layer normalization, 层归一化): each token's vector is brought to
# mean 0 and variance 1, and then stretched and moved by learned numbers.
#
#     x ← Norm(x + Layer(x))      after the sum: the original order, and BERT's
#     x ← x + Layer(Norm(x))      before the layer: GPT-2's; the sum itself is never squashed
#
# The document's figure is the first; most models since GPT-2 use the second, and so does our GPT. What they are
# for shows in depth. We stack 24 attention layers, fresh as PyTorch makes them (without biases, which would be alike in all
# tokens), and ask two things: how alike the tokens come out, as the cosine between two of them, and how much gradient
# arrives at the bottom if a gradient of size 1 enters every number at the top.
#
# **Predict before you run:** four stacks: the layer alone; with Add; Add, then Norm; Norm, then Add. Which of them starves its
# lowest layer?

# %%
depth, C = 24, 32
stacks = {
    "the layer alone": lambda layer, norm, x: layer(x),
    "Add": lambda layer, norm, x: x + layer(x),
    "Add, then Norm": lambda layer, norm, x: norm(x + layer(x)),
    "Norm, then Add": lambda layer, norm, x: x + layer(norm(x)),
}
rows = []
for name, step in stacks.items():
    torch.manual_seed(0)
    layers, norms = [Attention(C, 4) for _ in range(depth)], [nn.LayerNorm(C) for _ in range(depth)]
    for layer in layers:
        nn.init.zeros_(layer.qkv.bias)
        nn.init.zeros_(layer.out.bias)
    bottom = torch.randn(4, T, C, requires_grad=True)  # (B, T, C)
    x = bottom
    for layer, norm in zip(layers, norms, strict=True):
        x = step(layer, norm, x)
    (gradient,) = torch.autograd.grad((x * torch.randn_like(x)).sum(), bottom)
    one, other = (
        nn.functional.normalize(x[:, t].double(), dim=-1, eps=0.0) for t in (0, 1)
    )  # (B, C)
    alike = (one * other).sum(-1).mean().item()
    rows.append((name, x.std().item(), alike, gradient.norm().item() / math.sqrt(gradient.numel())))
table(
    rows,
    ["a layer is", "std of the output", "cosine of two tokens", "gradient at the bottom"],
    [None, ".1e", ".3f", ".1e"],
)
say(
    f"Alone, {depth} layers make all tokens alike (cosine {rows[0][2]:.3f}), for each layer averages them a little more, and fresh "
    f"weights shrink them besides; of the gradient, {rows[0][3]:.0e} arrives. The sum gives both a way past the layers "
    f"(cosine {rows[1][2]:.3f}, gradient {rows[1][3]:.1f}). Norm after the sum holds its size at {rows[2][1]:.1f}; before the layer, it "
    f"lets the sum grow (to {rows[3][1]:.1f})."
)
assert rows[0][3] < 1e-3 * min(row[3] for row in rows[1:]) and rows[0][2] > 0.99 > max(
    row[2] for row in rows[1:]
)

# %% [markdown]
# ## Two that nobody wrote
#
# Now the idea on which the second half of this course rests. A query does not know where keys and values come from. So
# slip in two more, in front of the text's own: a prefix (前缀), P = 2 (003 §3.3):
#
#     K ← [P_K; K]       V ← [P_V; V]         z = [prefix; x; y]
#
# (z is all that is read: the prefix, a task's input x, and its output y.) No token was written for them, no weight of the model is changed, and yet every token reads them, and every answer
# moves. In our attention it is an argument, and its columns are visible to all, also under the causal mask.
#
# **Predict before you run:** how many weights are in each row now, and how many of them are not 0? Does a prefix of zeros
# change anything?

# %%
from minitransformer.models.attention import Prefix
from minitransformer.models.watch import watch_attention

torch.manual_seed(1)
layer = Attention(C, n_head=2, causal=True).requires_grad_(False)
x = torch.randn(1, T, C)  # (B, T, C)
prefix = Prefix(
    torch.randn(1, 2, 2, 16), torch.randn(1, 2, 2, 16)
)  # keys and values, each (1, H, P, D)
with watch_attention(layer) as maps:
    layer(x), layer(x, prefix=prefix)
plain = layer(x)  # (B, T, C)
before, after = (
    weight[0, 0] for weight in maps[""]
)  # the first head's; "" is the layer itself, which has no name
for row in after:
    verbatim(
        " ".join(
            [
                "  " + " ".join(f"{value:.2f}" if value else "  · " for value in row[:2].tolist()),
                " │ ",
                " ".join(f"{value:.2f}" if value else "  · " for value in row[2:].tolist()),
            ]
        )
    )
zero = Prefix(torch.zeros(1, 2, 2, 16), torch.zeros(1, 2, 2, 16))
none = Prefix(torch.zeros(1, 2, 0, 16), torch.zeros(1, 2, 0, 16))
table(
    [
        (name, (layer(x, prefix=p) - plain).abs().max().item())
        for name, p in (("random", prefix), ("zeros", zero), ("of length 0", none))
    ],
    ["prefix", "largest change of an output"],
    [None, ".4f"],
)
say(
    "Zeros do change the output: a key of zeros scores 0, and e⁰ = 1 still takes its share. Only a prefix of "
    "length 0 is no prefix."
)
assert (
    torch.equal(layer(x, prefix=none), plain) and (layer(x, prefix=zero) - plain).abs().max() > 1e-3
)

# %% [markdown]
# ## What a prefix does, exactly
#
# Call λ the share of its attention that a query gives to the prefix, the sum of the first two columns above. He et al.
# (2022) showed by rearranging the sums of softmax that a head with a prefix is a blend of two heads:
#
#     head = (1 − λ) Attention(q, K, V) + λ softmax(q P_Kᵀ / √d_k) P_V
#
# the head as it was, and attention over the prefix alone. So a prefix can turn the reading of the text down, and put
# something of its own in its place; it cannot make a query prefer one token of the text over another *in that layer*, for
# the shares among them stay as they were. (In the next layer it can: there the queries come from moved vectors.)
#
# **Predict before you run:** how large is the difference between the two sides?

# %%
from minitransformer.models.attention import split_heads

q, k, v = split_heads(layer.qkv(x), 3, 2)  # (B, H, T, D)
mask = combined_mask(T, T, 0, causal=True, attention_mask=None)
text_only, _ = attend_by_formula(q, k, v, mask)  # (B, H, T, D)
prefix_only, _ = attend_by_formula(q, prefix.k, prefix.v)  # (B, H, T, D)
share = maps[""][1][..., :2].sum(-1, keepdim=True)  # λ, one for each head and query
blend = (1 - share) * text_only + share * prefix_only  # (B, H, T, D)
whole, _ = attend_by_formula(
    q,
    torch.cat([prefix.k, k], 2),
    torch.cat([prefix.v, v], 2),
    combined_mask(T, T, 2, causal=True, attention_mask=None),
)
shares = ", ".join(f"{value:.2f}" for value in share[0, 0, :, 0].tolist())
say(
    f"λ of the first head, query by query: {shares}. The two sides differ by {(blend - whole).abs().max():.0e}."
)
ratio_before, ratio_after = before[-1, 0] / before[-1, 1], after[-1, 2] / after[-1, 3]
say(
    f"And the last query reads its first token {ratio_before:.4f} times as much as its second without the prefix, "
    f"{ratio_after:.4f} times with it."
)
assert (blend - whole).abs().max() < 1e-5 and abs(ratio_before - ratio_after) < 1e-4

# %% [markdown]
# ## It can be learned
#
# If two keys and values can move every answer, gradient descent can look for those that move them where we want. The layer
# is frozen; only the prefix gets a gradient. We ask for an arbitrary goal: that the mean of the outputs become a certain
# vector.
#
# **Predict before you run:** how many numbers are trained, and how many are frozen?

# %%
goal = torch.randn(C) / 4
tuned = Prefix(*(t.clone().requires_grad_() for t in prefix))
optimizer = torch.optim.Adam(tuned, lr=0.05)
losses = []
for _ in range(30 if QUICK else 300):
    loss = (layer(x, prefix=tuned).mean(dim=(0, 1)) - goal).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
say(
    f"{sum(t.numel() for t in tuned)} numbers trained, {sum(p.numel() for p in layer.parameters()):,} frozen. The mean "
    f"squared error fell from {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps: nearer, if not there."
)
assert losses[-1] < 0.5 * losses[0]

# %% [markdown]
# ## The answer
#
# A token reads others by comparing its query with their keys, and takes a blend of their values, softmax(Q Kᵀ / √d_k) V;
# two keys and values that nobody wrote draw a share λ of that reading to themselves, which steers the layer without
# touching its weights.
#
# To try next:
#
# - Set the first key of the prefix to ten times a query. What is λ now, and what is left of the text?
# - Draw the entropy figure for S = 8 and S = 512 keys. Which of its lines move?
# - Train the prefix towards a goal for one token only. Do the others move as well? Could you stop them?
#
# Further reading: "Attention Is All You Need" (Vaswani et al., 2017); "Prefix-Tuning: Optimizing Continuous Prompts
# for Generation" (Li & Liang, 2021); "Towards a Unified View of Parameter-Efficient Transfer Learning" (He et al., 2022),
# Equations 7–10; "On Layer Normalization in the Transformer Architecture" (Xiong et al., 2020).
