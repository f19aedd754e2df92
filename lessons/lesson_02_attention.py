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
# both point the same way. Softmax turns these scores into weights. Lesson 1 used it to turn any numbers into a
# distribution: take e^(q·k) for each key, and divide by the sum. So no weight is 0, and the weights sum to 1. The
# answer is the weighted mean of the values:
#
#     weight_s = e^(q·k_s) / Σ_j e^(q·k_j)
#     answer = Σ_s weight_s · v_s
#
# Here are five words, "Mira has a red kite". Each has a key of three numbers that we made by hand: person, colour,
# thing. The key of "Mira" is [4, 0, 0], and the key of "red" is [0, 4, 0]. (A kite is a thing, and often a coloured
# one, so its key is [0, 2, 3].) The keys of "has" and "a" are zeros. Each word also has a value of one number, say how
# warm it is: 3 for Mira, 10 for red, 1 for kite, and 0 for the other two.
#
# **Predict before you run:** the query is [0, 1, 0]; it asks for a colour. Which word gets the largest weight? Will the
# answer be nearer to 1 or to 10? (e⁴ is about 55, and e² is about 7.)

# %%
import torch
from minitransformer.course.show import QUICK, bar, figure, say, source, table, verbatim
from minitransformer.models.attention import attend_by_formula

words = ["Mira", "has", "a", "red", "kite"]
keys = torch.tensor([[4.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 4, 0], [0, 2, 3]])
values = torch.tensor([[3.0], [0], [0], [10], [1]])
query = torch.tensor([[0.0, 1, 0]])  # "which colour?"
scores = query @ keys.T  # (1, S): one row, and a column for each of the S = 5 keys
weights = scores.softmax(dim=-1)  # (1, S)
answer = (weights @ values).item()
rows = [
    (w, s, a, bar(a))
    for w, s, a in zip(words, scores[0].tolist(), weights[0].tolist(), strict=True)
]
table(rows, ["word", "q · k", "weight", ""], [None, ".1f", ".3f", None])
say(f"The answer is {answer:.2f}.")
assert weights.argmax() == words.index("red") and 8 < answer < 9

# %% [markdown]
# The word `red` gets the largest weight, because its key matches best. The answer is nearer to 10. It is not 10 itself,
# because every other word keeps a small weight.
#
# Every step of this is smooth. Therefore gradient descent can learn all three parts: what to ask (q), what to offer
# (k), and what to hand over (v).

# %% [markdown]
# ## The formula
#
# The queries, keys and values of a text come from its own tokens. Each token is a vector of C numbers. (Lesson 3
# learns these vectors; here they are random.) The rows of a matrix X are the tokens of one text. Three learned matrices
# turn every token into a query, a key and a value (004 §4.1):
#
#     Q = X W^Q     K = X W^K     V = X W^V
#     Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V
#
# In W^Q the Q is a part of the name, and not a power. The raised ᵀ of Kᵀ is the transpose. And one letter has two
# meanings in this course: beside Q and K, V is the matrix of values; everywhere else, V is the size of the vocabulary.
#
# The product Q Kᵀ compares every query with every key at once. Its entry (t, s) is the score of key s for query t.
# Softmax along row t turns the scores of query t into its weights. The number d_k is the width of a key: how many
# numbers one key has. A later step explains why √d_k is there.
#
# When a text reads itself in this way, it is called self-attention (自注意力). The distance in the text does not matter: a
# token far away and the next token cost one dot product each. The document calls this long-range dependency
# (长程依赖, 004 §2.2).
#
# Where a line of our code makes a tensor, a comment gives its shape. These letters occur:
#
#     B   the number of texts          T   the number of queries
#     H   the number of heads          S   the number of keys
#                                      D   d_k, the width of a query and of a key
#
# (Heads come in a later step; until then H = 1.) You write this function yourself in exercise 2.3; the end of the lesson
# says how. Until your version passes, only a hint stands here. Then our version is shown, to compare it with yours. The
# argument `attention_mask` belongs to a later step.

# %%
source(attend_by_formula, docstring=False)

# %% [markdown]
# ## The formula against a loop
#
# To check the formula, we compute it once more with a plain loop: one query after another, one key after another. The
# text has T = 6 tokens. It reads itself, so S = T.
#
# **Predict before you run:** how many weights are there, and what is the sum of all of them?

# %%
import math

torch.manual_seed(0)
T, C = 6, 16
X = torch.randn(T, C)  # (T, C)
# 1/√C keeps the numbers of Q, K and V at variance 1. It is not the √d_k of the formula.
W_q, W_k, W_v = (torch.randn(C, C) / math.sqrt(C) for _ in range(3))  # (C, C) each
Q, K, V = X @ W_q, X @ W_k, X @ W_v  # (T, C)
q, k, v = Q[None, None], K[None, None], V[None, None]  # (B, H, T, D): one text, one head
out, weights = attend_by_formula(q, k, v)  # (B, H, T, D), (B, H, T, S)

difference = 0.0
for t in range(T):
    e = [math.exp(float(Q[t] @ K[s]) / math.sqrt(C)) for s in range(T)]
    answer = sum(e[s] / sum(e) * V[s] for s in range(T))
    difference = max(difference, (answer - out[0, 0, t]).abs().max().item())
say(
    f"There are {weights.numel()} weights in {T} rows, and their sum is {weights.sum():.4f}. The loop and the formula "
    f"differ by {difference:.0e} at most, which is rounding."
)
assert difference < 1e-5 and weights.numel() == 36

# %% [markdown]
# There are T · S = 36 weights. Each of the 6 rows sums to 1, so all of them sum to 6.

# %% [markdown]
# ## Why √d_k
#
# A dot product of two vectors with d numbers each is a sum of d products. Suppose the numbers are random and
# independent, with mean 0 and variance 1. Then each product has variance 1, and the sum has variance d. Its standard
# deviation is √d. Softmax takes e to the power of these scores, so it matters how far apart they are.
#
# Let u_1, …, u_S be the scores of one query, and p = softmax(u) its weights. Two measures show what happens to them. The
# first is the entropy (熵) of the weights, −Σ_i p_i log p_i. It is log S where all S keys get the same weight, and 0 where
# one key gets everything.
#
# The second is the slope of softmax. The weights change with the scores as
#
#     ∂p_i/∂u_j = p_i (δ_ij − p_j)          (δ_ij is 1 where i = j, and 0 elsewhere)
#
# For j = i this is p_i (1 − p_i). It is almost 0 where p_i is almost 0 or almost 1. There, a change of the score changes
# almost nothing, so gradient descent gets no signal. We take Σ_i p_i (1 − p_i) as the slope.
#
# **Predict before you run:** we draw random queries, with S = 32 random keys each. The scores are not divided. What is
# their standard deviation when d_k = 1,024? Does the entropy then come near to log 32 = 3.47, or to 0?

# %%
widths = [1, 4, 16, 64, 256, 1024]
S, n_queries = 32, 50 if QUICK else 400
spread, entropy, slope = [], {True: [], False: []}, {True: [], False: []}
for d in widths:
    queries, wide_keys = torch.randn(n_queries, d), torch.randn(n_queries, S, d)
    u = (wide_keys @ queries[:, :, None])[..., 0]  # one row of S scores for each query
    spread.append(u.std().item())
    for divided in (True, False):
        p = (u / math.sqrt(d) if divided else u).softmax(dim=-1)
        entropy[divided].append(-torch.xlogy(p, p).sum(-1).mean().item())
        slope[divided].append((p * (1 - p)).sum(-1).mean().item())  # Σ_i ∂p_i/∂u_i
with figure(
    "sqrt_dk",
    "Without √d_k, entropy and slope fall as keys get wider; with it they stay.",
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
    left.text(widths[1], 1.03 * math.log(S), f"all keys alike: log {S}", color="grey", fontsize=9)
table(
    list(
        zip(widths, spread, entropy[False], entropy[True], slope[False], slope[True], strict=True)
    ),
    ["d_k", "std of q·k", "entropy", "with √d_k", "slope", "with √d_k"],
    ["d", ".2f", ".2f", ".2f", ".3f", ".3f"],
)
assert 28 < spread[-1] < 36 and entropy[False][-1] < 0.3 and slope[False][-1] < 0.15
assert all(abs(one - entropy[True][-1]) < 0.3 for one in entropy[True])
assert all(abs(one - slope[True][-1]) < 0.1 for one in slope[True])

# %% [markdown]
# The standard deviation is about √1,024 = 32. Scores so far apart give one key nearly all of the weight, so the entropy
# comes near to 0. The slope does the same. Therefore, where keys are wide, almost no gradient reaches Q and K, before
# anything is learned. The division brings the standard deviation of the scores back to 1 for every d_k. Both divided
# lines are flat.
#
# *Where the document is not exact.* 004 §4.1 says that the division keeps the gradient from vanishing or exploding
# (梯度消失或爆炸). We measure the first half of that. We see nothing explode here, because Σ_i p_i (1 − p_i) = 1 − Σ_i p_i² is
# never more than 1.

# %% [markdown]
# ## A mask: who may look where
#
# A model that predicts the next token must not see that token. Under the causal mask (因果掩码), query t may read the keys
# s ≤ t, and no key s > t. A forbidden key gets so low a score that softmax gives it exactly 0. The other keys share its
# weight.
#
# A second kind of mask hides the padding (填充). Texts that are computed together must have one length. So short texts are
# filled up with tokens that mean nothing, and no query may read these.
#
# In our masks True means that a query *may* read a key.
#
# **Predict before you run:** under the causal mask, what does the first row of weights look like, whatever Q and K are?

# %%
causal = torch.ones(T, T, dtype=torch.bool).tril()  # (T, S): query t may read the keys s ≤ t
real = torch.tensor([True, True, True, True, False, False])  # (S): the last two are padding
padded = real.expand(T, -1)  # (T, S): the same for every query
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
# The first token can read only itself, so its row is 1 followed by zeros. (The package makes both masks with one function,
# `combined_mask`. You write it in exercise 2.4.)

# %% [markdown]
# ## Attention does not know the order
#
# Nothing in the formula says which token comes first. If we shuffle the tokens, each token still gets the same answer;
# only the order of the answers is shuffled, too. For such a model "Mira saw Fado" and "Fado saw Mira" are the same text.
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
# It does not. Without a mask nothing changes. Under the causal mask the answers change, because the mask hides what comes
# later, and after shuffling other tokens come later. Models do not rely on that. They add a second vector to each token's
# vector, which stands for its position (位置编码). Lesson 3 does so.

# %% [markdown]
# ## Heads
#
# So far a token has one row of weights, and so it gets one blend of values. But it may need two different things at once,
# such as the subject of the verb *and* the last colour. Multi-head attention (多头注意力, 004 §4.1) cuts the width C into H
# heads of width D = C / H. Each head attends by itself, and the answers are put side by side:
#
#     MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O
#     head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)
#
# (The document writes h for the number of heads; we write H, because h means something else from lesson 3 on.) W^O is one
# more learned matrix. It mixes the answers of the heads.
#
# The course has one attention module, and every model uses it. It stacks W^Q, W^K and W^V in one matrix, `qkv`, of 3 C²
# numbers. W^O is `out`, with C² numbers. Each of the two also has a bias, a learned vector that is added: 3 C and C
# numbers. We compare the module with PyTorch's own.
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
# It does not. There are 4 C² + 4 C parameters, whatever H is. The heads share them: each head gets C / H columns of W^Q,
# W^K and W^V. So each head works in a subspace of its own (不同的子空间, 004 §4.1), and two heads read differently even
# before training. Whether training makes them look at different things is a question for lesson 3.
#
# *Where the document is not exact.* It first defines Q = X W^Q and then multiplies Q by W_i^Q again. There is one projection, not
# two: W_i^Q is a block of columns of W^Q, and the inputs of MultiHead are X three times. It also calls this line a weighted
# sum (加权和). The weighted sum happens inside each head; Concat only puts the results side by side.

# %% [markdown]
# ## The same function, faster
#
# The formula stores all weights of every text and every head. PyTorch also has the same function as one *fused* routine: it
# does all steps together, in small blocks, and never stores the whole table of weights. Our models use that routine. We
# keep the formula to read it, and to draw pictures of the weights.
#
# **Predict before you run:** we take B = 4 texts of T = S = 512 tokens, and H = 4 heads. How many weights does the formula
# store?

# %%
import time

from minitransformer.models.attention import attend

q_long, k_long, v_long = (torch.randn(4, 4, 512, 32) for _ in range(3))  # (B, H, T, D)
mask = torch.ones(512, 512, dtype=torch.bool).tril()  # (T, S)
seconds = {}
for name, function in (("formula", attend_by_formula), ("fused", attend)):
    times = []
    for _ in range(3 if QUICK else 15):
        began = time.perf_counter()
        function(q_long, k_long, v_long, mask)
        times.append(time.perf_counter() - began)
    seconds[name] = sorted(times)[len(times) // 2]
answers, stored = attend_by_formula(q_long, k_long, v_long, mask)  # (B, H, T, D), (B, H, T, S)
difference = (attend(q_long, k_long, v_long, mask) - answers).abs().max().item()
rows = [
    ("formula", stored.numel(), 1000 * seconds["formula"]),
    ("fused", 0, 1000 * seconds["fused"]),
]
table(rows, ["computed by", "stored weights", "milliseconds"], [None, ",", ".1f"])
say(f"The two results differ by {difference:.0e}, which is rounding.")
assert difference < 1e-5 and stored.numel() == 4 * 4 * 512 * 512

# %% [markdown]
# It stores 4 · 4 · 512 · 512 weights, about 4.2 million. The fused routine stores none and gives the same result. How much
# time it saves depends on the computer.

# %% [markdown]
# ## Add & Norm
#
# Two small things stand around each attention layer, and they make deep models trainable (004 §2.2). *Add* (residual
# connection, 残差连接) adds what the layer computes to what it was given. *Norm* (layer normalization, 层归一化) brings each
# token's vector to mean 0 and variance 1, and then scales and shifts it by learned parameters. Let x be the tokens' vectors.
# The two can stand in either order:
#
#     x ← Norm(x + Layer(x))      after the sum: the original order, and BERT's
#     x ← x + Layer(Norm(x))      before the layer: GPT-2's order
#
# In the second order the sum passes on as it is, and one more Norm stands at the very end (lesson 3). The figure in
# 004 §2.2 shows the first order. Most models since GPT-2 use the second, and our GPT does so too.
#
# In a deep model one can see what they do. We stack 24 untrained attention layers of width C = 32. All their biases are 0,
# because a bias adds the same vector to all tokens. It would make the tokens alike, and that would have nothing to do with
# attention. Then we measure two things. The first is how alike the tokens are at the top: the cosine of two tokens, which
# is 1 where they point the same way. For the second, a random gradient of standard deviation 1 enters at the top. How large
# is the gradient that arrives at the bottom?
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
assert abs(measured["Add, then Norm"][0] - 1) < 0.01 < measured["Norm, then Add"][0] - 1
assert alone[2] < 1e-3 * min(row[2] for row in with_add)
assert alone[1] > 0.99 > max(row[1] for row in with_add)

# %% [markdown]
# It is the stack of the layer alone. There, each layer averages the tokens once more, so all tokens become alike, and almost no
# gradient arrives. With Add, both the tokens and the gradient have a way past the layers. Norm after the sum keeps the standard
# deviation of the output at 1. Norm before the layer lets the sum grow, a little with each layer.

# %% [markdown]
# ## Two keys that nobody wrote
#
# Here is the idea on which the second half of this course rests. A query does not know where keys and values come from. So
# we can put two more in front of those of the text, a prefix (前缀) of length P = 2. (P alone is this length; P(…) with
# parentheses is still a probability.) For the keys and values of one layer this means
#
#     K ← [P_K; K]       V ← [P_V; V]
#
# 003 §3.3 writes the whole sequence as
#
#     z = [PREFIX; x; y]
#
# First comes the prefix, then the input x and the output y of a task. (This x is a text, and not the x of the step before.)
# Here we have no task yet, so [x; y] is just our text of T = 6 tokens.
#
# No token was written for the prefix, and no parameter of the model changes. Still every token can read it. In the table of
# weights, the prefix adds two columns. Every row may read them, also under the causal mask. In our attention module the
# prefix is an argument.
#
# **Predict before you run:** how many columns does each row of weights have now? Does a prefix whose keys and values are all
# 0 change the answers?

# %%
from minitransformer.models.attention import Prefix

torch.manual_seed(1)
layer = Attention(C, n_head=2, causal=True).requires_grad_(False)
text = torch.randn(1, T, C)  # (B, T, C)
shape = (1, 2, 2, 16)  # (B, H, P, D)
prefix = Prefix(k=torch.randn(shape), v=torch.randn(shape))
with watch_attention(layer) as watched:
    layer(text), layer(text, prefix=prefix)
before, after = (weight[0, 0] for weight in watched[""])  # the first head's: (T, T), (T, P+T)
for row in after:  # the two columns of the prefix, then those of the text
    parts = [
        " ".join(f"{w:.2f}" if w else "  · " for w in part.tolist()) for part in row.split([2, T])
    ]
    verbatim("  " + "  │  ".join(parts))
zeros = Prefix(torch.zeros(shape), torch.zeros(shape))
empty = Prefix(torch.zeros(1, 2, 0, 16), torch.zeros(1, 2, 0, 16))
change = {
    name: (layer(text, prefix=p) - layer(text)).abs().max().item()
    for name, p in (("random", prefix), ("zeros", zeros), ("of length 0", empty))
}
table(list(change.items()), ["prefix", "largest change of an output"], [None, ".4f"])
assert change["of length 0"] == 0 and change["zeros"] > 1e-3 and after.shape == (T, 2 + T)

# %% [markdown]
# Each row has P + T = 8 columns. (The causal mask still hides some of those of the text.) A prefix of zeros does change the
# answers. A key of zeros has the score 0, and e⁰ = 1 still takes part of the attention. Only a prefix of length 0 changes
# nothing.

# %% [markdown]
# ## What a prefix does to a head
#
# Let λ be the fraction of its attention that a query gives to the prefix. In the rows of weights of the last step, λ is the
# sum of the first two columns. He et al. (2022, Equations 7–10) rearranged the sums of softmax and found that a head with a
# prefix is a blend of two heads:
#
#     head = (1 − λ) Attention(q, K, V) + λ softmax(q P_Kᵀ / √d_k) P_V
#
# The first is the head as it was. The second reads the prefix alone. (The causal mask does not change this. Both sides then
# read only what the query may read.) We compute both sides, and the difference should be rounding.
#
# **Predict before you run:** without the prefix, the last query reads the first token r times as much as the second. Is r
# larger, smaller or the same with the prefix? Remember that softmax divides all e^u by one sum.

# %%
from minitransformer.models.attention import split_heads

q, k, v = split_heads(layer.qkv(text), 3, 2)  # (B, H, T, D)
wider = torch.cat([torch.ones(T, 2, dtype=torch.bool), causal], dim=1)  # (T, P+S)
k_wider, v_wider = torch.cat([prefix.k, k], dim=2), torch.cat([prefix.v, v], dim=2)
whole, weights = attend_by_formula(q, k_wider, v_wider, wider)
text_alone, _ = attend_by_formula(q, k, v, causal)  # (B, H, T, D)
prefix_alone, _ = attend_by_formula(q, prefix.k, prefix.v)  # (B, H, T, D)
lam = weights[..., :2].sum(-1, keepdim=True)  # λ of each head and query
blend = (1 - lam) * text_alone + lam * prefix_alone  # (B, H, T, D)
difference = (blend - whole).abs().max().item()
say("λ of the first head, query by query: " + ", ".join(f"{one:.2f}" for one in lam[0, 0, :, 0]))
say(f"The two sides differ by {difference:.0e}, which is rounding.")
ratios = (before[-1, 0] / before[-1, 1]).item(), (after[-1, 2] / after[-1, 3]).item()
say(f"Without the prefix r is {ratios[0]:.4f}, and with it r is {ratios[1]:.4f}.")
assert difference < 1e-5 and abs(ratios[0] - ratios[1]) < 1e-4

# %% [markdown]
# The two sides are equal, and r stays the same. The prefix makes the sum in softmax larger, and so it makes all weights of
# the text smaller by the same factor, 1 − λ. A prefix can therefore turn down the reading of the text and put something of
# its own in its place. In that layer it cannot make a query prefer one token of the text over another. It can do so in the next
# layer, because the queries there come from changed vectors.

# %% [markdown]
# ## It can be learned
#
# Two keys and values change every answer. So gradient descent can look for keys and values that change the answers as we
# want. The layer is frozen (冻结): its parameters do not change, and only the prefix is trained. We choose an arbitrary goal:
# the mean of the outputs should come close to one fixed random vector.
#
# **Predict before you run:** there are P = 2 keys and values, H = 2 heads and D = 16. How many parameters are trained?

# %%
goal = torch.randn(C) / 4
tuned = Prefix(*(part.clone().requires_grad_() for part in prefix))
optimizer = torch.optim.Adam(tuned, lr=0.05)
losses = []
for _ in range(30 if QUICK else 300):
    loss = (layer(text, prefix=tuned).mean(dim=(0, 1)) - goal).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
trained, frozen = sum(t.numel() for t in tuned), sum(p.numel() for p in layer.parameters())
say(f"{trained} parameters were trained, and {frozen:,} were frozen.")
say(f"In {len(losses)} steps the mean squared error fell from {losses[0]:.4f} to {losses[-1]:.4f}.")
assert trained == 2 * 2 * 2 * 16 and losses[-1] < 0.5 * losses[0]

# %% [markdown]
# A key and a value, for each of the 2 positions of the prefix and each of the 2 heads, with 16 numbers each: 2 · 2 · 2 · 16 =
# 128 parameters. Training them brings the outputs much nearer to the goal, although the layer itself does not change.

# %% [markdown]
# ## The answer
#
# A token compares its query with the keys of other tokens and takes a blend of their values: softmax(Q Kᵀ / √d_k) V. Two
# keys and values that nobody wrote take a fraction λ of that attention. They steer the layer without changing its parameters.
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
