"""LoRA: a change of low rank

question: Fine-tuning changes every parameter of every matrix. How few parameters does it take to describe that change?
minutes: 1.4
documents: 001 §2 核心概念与联系, §3.1 算法原理概述, §3.1.3 LoRA, §3.1.4 P-Tuning, §3.2.2 模型初始化, §3.2.4 模型推理; 004 §4.1 自注意力机制
needs: 2, 5, 9, 11
"""

# %% [markdown]
# ## What does fine-tuning add?
#
# A prefix gives a frozen base more to read (lesson 9). An adapter gives it more to compute (lesson 11). LoRA
# (Low-Rank Adaptation, 低秩适配) changes the matrices themselves, but in a way that needs few parameters. To see why
# few can be enough, we begin with the expensive method. We fine-tune everything, as in lesson 5, and then look at what
# was added to each matrix W:
#
#     ΔW = W′ − W
#
# W′ is the same matrix after training. The task is the one of lesson 9: the GPT turns tables into sentences, and the
# measures are the same. The most important one is *slots*, the fraction of a table's values that the text states.

# %%
import torch
from minitransformer.course import trial
from minitransformer.course.bases import load_base
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, table
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.generation.sampling import generate_texts
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.training.loop import TrainConfig, evaluate
from minitransformer.tuning import FullFineTuning, LoRA, attached, fingerprint

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, n_layer, C = tokenizer.eot_id, base.config.n_layer, base.config.d_model
before = fingerprint(base)
xs, ys, rows = {}, {}, {}
for split, most in (("train", 2000), ("valid", 64), ("test_seen", 100), ("test_unseen", 100)):
    most = 8 if QUICK else most
    xs[split], ys[split] = (part[:most] for part in task_ids("table_to_text", split, tokenizer))
    rows[split] = task_rows("table_to_text", split)[:most]
valid = eval_completions(xs["valid"], ys["valid"], eot, batch_size=32)
STEPS = 2 if QUICK else 32
MOST = 16 if QUICK else 90  # tokens to write

# %% [markdown]
# Two helpers follow. The first trains any method, always on the same batches of 8 pairs. The second gives the base's
# matrices by name: W^Q, W^K, W^V and W^O of every attention (004 §4.1), which the code calls q, k, v and out, and the
# two matrices of every feed-forward layer, up and down.

# %%
from minitransformer.models.attention import Stacked
from minitransformer.tuning.merge import linear_maps

MAPS = ["q", "k", "v", "out", "up", "down"]
LR = {"full": 2.5e-4, "LoRA": 3e-3}  # each was best on validation


def tune(method, lr: float, steps: int = STEPS) -> float:
    """Train a method on the base, take it off again, and give its validation loss."""
    torch.manual_seed(0)
    room = base.config.n_positions
    batches = Completions(xs["train"], ys["train"], eot, 8, n_positions=room, seed=0)
    config = TrainConfig(steps, lr, warmup=steps // 12, final_lr=0.02, weight_decay=0.0)
    done = trial.tune(base, method, batches, config, lambda: evaluate(base, valid), progress=False)
    return done.judged


def matrices() -> dict[str, torch.Tensor]:
    """The base's own matrices by name, to be read and written; q, k and v lie in one stack."""
    return {
        name: linear.weight.detach()[linear.rows(part, part + 1)]
        if isinstance(linear, Stacked)
        else linear.weight.detach()
        for name, (linear, part) in linear_maps(base).items()
    }


# %% [markdown]
# Let ‖W‖ be the length of a matrix: the root of the sum of its squared numbers.
#
# **Predict before you run:** after the base has learned the task, is ΔW about as long as W, half as long, or less than a
# tenth as long?


# %%
def of_kind(kind: str) -> list[str]:
    """The names of one kind of matrix, one for each layer."""
    return [name for name in W if name.endswith(f".{kind}")]


def mean(values) -> float:
    """The mean of some numbers."""
    values = [float(value) for value in values]
    return sum(values) / len(values)


def slots() -> float:
    """The fraction of the tables' values that the base states on validation."""
    return table_scores(generate_texts(base, tokenizer, xs["valid"], MOST), rows["valid"]).slots


W, full = {name: own.clone() for name, own in matrices().items()}, FullFineTuning()
loss, stated = {"untouched base": evaluate(base, valid)}, {"untouched base": slots()}
loss["full fine-tuning"] = tune(full, LR["full"])
with attached(base, full):
    stated["full fine-tuning"] = slots()
    dW = {name: tuned - W[name] for name, tuned in matrices().items()}
    n_full = full.report().trained
relative = {name: (dW[name].norm() / W[name].norm()).item() for name in W}
table(
    [(name, loss[name], stated[name]) for name in loss],
    ["on validation", "loss, y", "slots"],
    [None, ".3f", ".1%"],
)
table(
    [
        (
            kind,
            "{} × {}".format(*W[of_kind(kind)[0]].shape),
            mean(W[name].norm() for name in of_kind(kind)),
            mean(dW[name].norm() for name in of_kind(kind)),
            mean(relative[name] for name in of_kind(kind)),
        )
        for kind in MAPS
    ],
    ["mean of all layers", "rows × columns", "‖W‖", "‖ΔW‖", "‖ΔW‖ / ‖W‖"],
    [None, None, ".2f", ".2f", ".1%"],
)
assert fingerprint(base) == before and (QUICK or loss["full fine-tuning"] < loss["untouched base"])
assert max(relative.values()) < 0.1

# %% [markdown]
# Each ΔW has less than a tenth of the length of its W (in a full run, a few per cent). So the change is small. (The
# untouched base has high *slots* only because it writes the table again, as in lesson 9.) The next question is how
# complicated the change is.

# %% [markdown]
# ## Singular values
#
# Every matrix M is a sum of simple ones (singular value decomposition, 奇异值分解):
#
#     M = σ_1 u_1 v_1ᵀ + σ_2 u_2 v_2ᵀ + …          σ_1 ≥ σ_2 ≥ … ≥ 0
#
# All u_k and v_k are columns of length 1. In the product M x each term does one thing. It reads how much of the
# direction v_k is in x, multiplies it by the singular value (奇异值) σ_k, and writes that much of the direction u_k. The
# number of terms with σ_k > 0 is the rank (秩) of M. If we keep the first r terms, we get the nearest matrix of rank r.
# The fraction of ‖M‖² that they hold is
#
#     (σ_1² + … + σ_r²) / (σ_1² + σ_2² + …)
#
# We compute this for ΔW, and for random matrices of the same shapes, which have no order at all.
#
# **Predict before you run:** the ΔW of q has 128 × 128 numbers, so it has 128 terms. Four of them are 3 % of the terms.
# Do the first four terms of a random matrix hold more than 3 %? And do those of ΔW hold more than those of a random
# matrix?


# %%
def held(sigma: torch.Tensor) -> torch.Tensor:
    """What fraction of ‖M‖² the first r terms hold: (n_layer, C) → (C), the mean of layers."""
    return (sigma.square().cumsum(-1) / sigma.square().sum(-1, keepdim=True)).mean(0)


torch.manual_seed(0)
RANKS = (1, 4, 16, 64)
sigmas = {}  # each (n_layer, C)
for kind in ("q", "v", "up", "down"):
    sigmas[f"ΔW of {kind}"] = torch.stack([torch.linalg.svdvals(dW[own]) for own in of_kind(kind)])
sigmas["random, as q"] = torch.linalg.svdvals(torch.randn(n_layer, C, C))
sigmas["random, as up"] = torch.linalg.svdvals(torch.randn(n_layer, 4 * C, C))
table(
    [(name, *(held(sigma)[r - 1].item() for r in RANKS)) for name, sigma in sigmas.items()],
    ["fraction of ‖M‖² held by", *(f"r = {r}" for r in RANKS)],
    [None, *[".0%"] * len(RANKS)],
)
with figure("spectrum", "What the first r terms of a matrix hold; means over layers.") as axes:
    for name, sigma in sigmas.items():
        grey = {"color": "grey", "linestyle": ":" if "q" in name else "--"}
        style = grey if name.startswith("random") else {}
        axes.plot(range(1, C + 1), held(sigma), label=name, **style)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="r", ylabel="fraction of ‖M‖² held")
    axes.set_xticks([1, 4, 16, 64, 128], ["1", "4", "16", "64", "128"])
    axes.minorticks_off()
    axes.legend()
four = {name: held(sigma)[3].item() for name, sigma in sigmas.items()}
at_random = max(four.pop("random, as q"), four.pop("random, as up"))
assert QUICK or (0.04 < at_random < 0.2 and min(four.values()) > 1.5 * at_random)

# %% [markdown]
# In a full run the first four terms of a random matrix hold more than 3 %, because the terms are sorted, but less than
# 20 %. The first four terms of a ΔW hold much more. So there is order in the change: a few directions got a large part
# of it. The other terms are a long tail of small ones. The table does not show whether the task needs this tail.

# %% [markdown]
# ## A change, cut down
#
# So we let the task decide. We put W + (the first r terms of ΔW) into the base, in every matrix, and measure. Full
# fine-tuning also changed embeddings, biases and norms. Here they stay as they are in the base, except in the last row.
#
# **Predict before you run:** with a single term in each matrix, r = 1, is more or less than half of the gain left?


# %%
def put(new: dict[str, torch.Tensor]) -> None:
    """Write other matrices into the base."""
    for name, own in matrices().items():
        own.copy_(new[name])


terms = {name: torch.linalg.svd(own, full_matrices=False) for name, own in dW.items()}  # U, σ, Vᵀ
cut, cut_slots = {}, {}
for r in (*RANKS, C):
    put({name: W[name] + (U[:, :r] * sigma[:r]) @ Vt[:r] for name, (U, sigma, Vt) in terms.items()})
    cut[r], cut_slots[r] = evaluate(base, valid), slots()
put(W)
gain = loss["untouched base"] - cut[C]
lines = [("nothing", loss["untouched base"], stated["untouched base"])]
lines += [(f"r = {r}", cut[r], cut_slots[r]) for r in RANKS]
lines += [("all of ΔW", cut[C], cut_slots[C])]
lines += [("and all else", loss["full fine-tuning"], stated["full fine-tuning"])]
table(
    [(name, of_y, (loss["untouched base"] - of_y) / gain, own) for name, of_y, own in lines],
    ["added to W", "loss, y", "of the gain", "slots"],
    [None, ".3f", ".0%", ".1%"],
)
assert fingerprint(base) == before, "put(W) should have restored every bit"
assert QUICK or loss["untouched base"] - cut[1] > 0.5 * gain
assert QUICK or loss["untouched base"] - cut[16] > 0.85 * gain

# %% [markdown]
# In a full run one term in each matrix is enough for more than half of the gain, and sixteen are enough for nearly all
# of it. The task hardly needs the long tail. Nothing in this training asked for a change of low rank. What if we ask for
# it from the start?

# %% [markdown]
# ## Two thin matrices
#
# A matrix of rank r is a product of two thin ones. So we train the two thin ones and leave W frozen. 001 §3.1.3
# writes
#
#     W_LoRA = W + A B          A ∈ R^{d×r}, B ∈ R^{r×d}
#
# Hu et al. (2021) write, and so does our code,
#
#     h = W x + (α/r) B A x     A ∈ R^{r×d_in}, B ∈ R^{d_out×r}
#
# W reads d_in numbers and gives d_out. The number α/r is a scale; a later step explains it. (This α has nothing to do with
# the α of lessons 1 and 6.) In Hu's formula x is a column, and A multiplies it first. In 001's formula x can be a row or a
# column; 001 does not say which.
#
# **Predict before you run:** for a row, 001's formula means x (W + A B), so 001's A multiplies x first. Which of Hu's two
# matrices does the same work? And for a column, (W + A B) x, which of Hu's two is 001's A?

# %%
r, s = 4, 2.0
torch.manual_seed(0)
own, A, B, x = W[of_kind("q")[0]], torch.randn(r, C), torch.randn(C, r), torch.randn(C)
ours = own @ x + s * B @ (A @ x)  # (C,)
as_rows = x @ (own.T + s * A.T @ B.T)  # (C,)  001's A is our Aᵀ, its B our Bᵀ
as_columns = (own + s * B @ A) @ x  # (C,)  001's A is our B, its B our A
table(
    [
        ("a row: x (W + A B)", "Aᵀ", "Bᵀ", ((as_rows - ours).norm() / ours.norm()).item()),
        ("a column: (W + A B) x", "B", "A", ((as_columns - ours).norm() / ours.norm()).item()),
    ],
    ["x is", "001's A is", "001's B is", "relative difference"],
    [None, None, None, ".0e"],
)
say(f"B A has {C} × {C} numbers, and its rank is {int(torch.linalg.matrix_rank(B @ A))}.")
assert all((other - ours).norm() < 1e-5 * ours.norm() for other in (as_rows, as_columns))

# %% [markdown]
# For a row, 001's A is Hu's A, transposed. For a column, 001's A is Hu's B. Both readings are the same function; only the
# letters change. From here on we use Hu's letters: A reads, and B writes.
#
# 001 §3.1.3 calls the idea similar to an adapter (与Adapter类似): down to r numbers, up again. There are two
# differences. First, nothing stands between A and B. Without an activation the product B A is *one* matrix. Second, that
# matrix stands beside W and reads what W reads. Therefore it can be added to W.
#
# *Where the document is not exact.* 001 §3.1.3 takes W as square (W ∈ R^{d×d}). The matrices of a feed-forward layer are
# not square, so A and B need the two sizes d_in and d_out. 001 §3.1.3 also names no scale and, for LoRA, no start. The
# next steps add them.

# %% [markdown]
# ## How many parameters?
#
# 001 §3.1.3 says that the number of trained parameters falls from O(d²) to O(dr). Counted exactly, for a matrix with
# d_in columns and d_out rows:
#
#     W: d_in · d_out          A and B together: r (d_in + d_out)
#
# **Predict before you run:** W is square, d × d. From which r on do A and B together have *more* parameters than W?


# %%
def n_lora(rank: int, targets: list[str]) -> int:
    """How many parameters LoRA trains, by the formula."""
    return sum(rank * sum(W[name].shape) for target in targets for name in of_kind(target))


shapes = {"our q": (C, C), "our up": (C, 4 * C), "GPT-3's q": (12288, 12288)}
table(
    [
        (name, d_in, d_out, d_in * d_out, r * (d_in + d_out), d_in * d_out / (d_in + d_out))
        for name, (d_in, d_out) in shapes.items()
    ],
    ["", "d_in", "d_out", "W", f"A and B, r = {r}", "as many from r ="],
    [None, "d", "d", ",", ",", ",.0f"],
)
for targets in (["q", "v"], MAPS):
    for rank in RANKS:
        with attached(base, method := LoRA(rank, targets=targets)):
            assert method.report().trained == n_lora(rank, targets)
assert n_lora(C // 2, ["q"]) == sum(W[name].numel() for name in of_kind("q"))

# %% [markdown]
# For a square W the two are equal at r = d/2, and above it A and B have more. So "low" depends on d: r = 4 is very low
# for GPT-3, and less low for our base.

# %% [markdown]
# ## Beside the other methods
#
# 001 §3.1 explains four methods: Prompt, Adapter, LoRA and P-Tuning. A hard prompt trains nothing. About the other
# three there are two claims. LoRA reduces the parameters further than an adapter does (进一步减少参数量, 001 §3.1.3).
# And P-Tuning trains O(md) parameters, for m vectors at the input, and is more parameter-efficient than both
# (比Adapter和LoRA更加参数高效, 001 §3.1.4). Its P-Tuning is the prompt tuning of lesson 8.
#
# **Predict before you run:** an adapter of width r stands twice in each layer. Each time it has 2dr weights and r + d
# biases (lesson 11). LoRA of the same rank r stands at q and at v in each layer, as in Hu et al. Which of the two has more
# parameters?

# %%
from minitransformer.tuning import Adapter, PromptTuning

candidates = {
    "P-Tuning, m = 10": PromptTuning(10),
    "P-Tuning, m = 100": PromptTuning(100),
    "LoRA on q, v, r = 1": LoRA(1),
    "LoRA on q, v, r = 4": LoRA(4),
    "LoRA on all, r = 4": LoRA(4, targets=MAPS),
    "adapters, r = 1": Adapter(1),
    "adapters, r = 4": Adapter(4),
}
counted = {}
for name, method in candidates.items():
    with attached(base, method):
        counted[name] = method.report()
table(
    [(name, own.trained, own.trained_fraction) for name, own in counted.items()],
    ["", "parameters", "of the base"],
    [None, ",", ".2%"],
)
more = counted["adapters, r = 4"].trained - counted["LoRA on q, v, r = 4"].trained
assert more == 2 * n_layer * (4 + C)
n_trained = {name: own.trained for name, own in counted.items()}
assert n_trained["P-Tuning, m = 100"] > n_trained["adapters, r = 4"]
assert min(n_trained, key=n_trained.get) == "P-Tuning, m = 10"

# %% [markdown]
# The adapters have more, but only their biases: without these, LoRA on q and v has exactly as many parameters. LoRA on all
# matrices has many more than the adapters.
#
# *Where the document is not exact.* The first claim: both methods have O(dr) parameters. Low rank (低秩矩阵分解, 001 §3.1.3)
# saves nothing further, because the product of an adapter's two matrices has a low rank, too. The second claim depends
# on m, r and the number of layers: ten vectors cost less than any of the others, and a hundred cost more than most of
# them.

# %% [markdown]
# ## Where it starts
#
# What do A and B hold before training? 001 §3.1.3 does not say. For adapters 001 §3.2.2 has Xavier's rule (lesson 11). If
# we use it here too, both A and B are random. Hu et al. let A be random and B be 0. Why not both 0?
#
# The gradients answer this. Let L be the loss, and G = ∂L/∂W the gradient that W itself would get. Write s for the scale
# α/r. The model computes with W + s B A, so the chain rule gives
#
#     ∂L/∂B = s G Aᵀ          ∂L/∂A = s Bᵀ G
#
# The function `fresh` below makes LoRA with one of the three starts.

# %%
from minitransformer.training.losses import language_model_loss

STARTS = ("A random, B = 0", "both random (Xavier)", "both zero")


def fresh(start: str) -> LoRA:
    """LoRA beside every matrix, with one of three starts; it is off the base again."""
    torch.manual_seed(0)
    with attached(base, method := LoRA(r, targets=MAPS)), torch.no_grad():
        for low in method.changes.values():  # A is (n, r, d_in), B is (n, d_out, r)
            for p in (low.a, low.b):
                if start == "both zero":
                    p.zero_()
                if start == "both random (Xavier)":
                    p.normal_(std=(2 / sum(p.shape[1:])) ** 0.5)
    return method


# %% [markdown]
# First we check the two formulas, for q in the lowest layer, with both matrices random. For this check only, W must have a
# gradient, too.

# %%
method, room = fresh("both random (Xavier)"), base.config.n_positions
batch = Completions(xs["train"], ys["train"], eot, 8, n_positions=room)(0)
with attached(base, method):
    stack, low = base.blocks[0].attention.qkv, method.changes["blocks/0/attention/qkv"]
    stack.weight.requires_grad_(True)  # only to look at G
    language_model_loss(base, batch)[0].backward()
    G, s = stack.weight.grad[stack.rows(0, 1)], method.scale  # (C, C)
    stack.weight.requires_grad_(False)
    stack.weight.grad = None
errors = {
    "∂L/∂B": (low.b.grad[0] - s * G @ low.a[0].T).norm() / G.norm(),
    "∂L/∂A": (low.a.grad[0] - s * low.b[0].T @ G).norm() / G.norm(),
}
say("The formulas hold: " + ", ".join(f"{name} to {error:.0e}" for name, error in errors.items()))
assert max(errors.values()) < 1e-4 and fingerprint(base) == before

# %% [markdown]
# **Predict before you run:** there are three starts: A random and B = 0; both random; both 0. With which of them does
# the model begin as the untouched base? And with which of them has A a gradient at the first step, and with which B?

# %%
starting, lines = {start: fresh(start) for start in STARTS}, []
for start, method in starting.items():
    with attached(base, method):
        at_start = evaluate(base, valid)
        language_model_loss(base, batch)[0].backward()
    squares = {
        letter: sum(getattr(low, letter).grad.square().sum() for low in method.changes.values())
        for letter in "ab"
    }
    method.zero_grad()
    lines.append((start, at_start, *(float(square) ** 0.5 for square in squares.values())))
table(
    lines,
    [f"r = {r}, before training", "loss, y", "‖∂L/∂A‖", "‖∂L/∂B‖"],
    [None, ".3f", ".3g", ".3g"],
)
(_, half, half_a, half_b), (_, both, both_a, both_b), (_, none, none_a, none_b) = lines
assert half == none == loss["untouched base"] and half_a == 0 < half_b
assert none_a == none_b == 0 < min(both_a, both_b) and both > loss["untouched base"] + 0.1

# %% [markdown]
# With B = 0 the model begins as the base, whatever A is. If A is random, only B has a gradient at the first step. Then B is
# no longer 0, and from the second step on both have one. If both are 0, neither has a gradient at any step. If both are
# random, both can learn at once, but the base is disturbed before anything is learned.
#
# Does training repair the disturbance? All get the same batches and the same learning rate. "Both zero" gets two steps
# only, which is enough to see the effect.
#
# **Predict before you run:** what is the loss of "both zero" after training? And does "both random" end behind "A random,
# B = 0"?

# %%
after = {}
for start, method in starting.items():
    after[start] = tune(method, LR["LoRA"], STEPS if start != "both zero" else 2)
table(
    [(start, at_start, after[start]) for start, at_start, *_ in lines],
    [f"r = {r}, all matrices", "loss, y, before", "after"],
    [None, ".3f", ".3f"],
)
assert after["both zero"] == loss["untouched base"]
assert QUICK or after["A random, B = 0"] < after["both random (Xavier)"]

# %% [markdown]
# "Both zero" has the loss of the untouched base, bit for bit. In a full run "both random" ends behind "A random, B = 0",
# because its first steps only undo the disturbance. With adapters it was the same.

# %% [markdown]
# ## Rank against quality
#
# In "A change, cut down" a finished change was cut to rank r. Now we *train* a change of rank r. LoRA stands beside every
# matrix. Steps and batches are the same as for full fine-tuning.
#
# **Predict before you run:** r = 1 has a 64th of the parameters of r = 64. Does it reach more or less than half of the
# best gain?

# %%
loras, trained = {4: starting["A random, B = 0"]}, {4: after["A random, B = 0"]}
for rank in (1, 16, 64):
    loras[rank] = LoRA(rank, targets=MAPS)
    trained[rank] = tune(loras[rank], LR["LoRA"])
with figure("rank", "LoRA trained at rank r, and the ΔW of full fine-tuning cut to it.") as axes:
    axes.plot(RANKS, [trained[rank] for rank in RANKS], "o-", label="LoRA, trained at rank r")
    axes.plot(RANKS, [cut[rank] for rank in RANKS], "s--", label="ΔW, cut to rank r")
    tuned = loss["full fine-tuning"]
    axes.axhline(tuned, color="black", linestyle="--", linewidth=1, label="full fine-tuning")
    axes.axhline(loss["untouched base"], color="grey", linestyle=":", label="untouched base")
    axes.set(xscale="log", xlabel="rank r", ylabel="nats per token of y", ylim=(0, None))
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.minorticks_off()
    axes.legend(loc="lower left")
table(
    [
        (rank, n_lora(rank, MAPS), n_lora(rank, MAPS) / n_full, trained[rank], cut[rank])
        for rank in RANKS
    ],
    ["r", "parameters", "of the base", "trained at rank r", "ΔW cut to rank r"],
    ["d", ",", ".1%", ".3f", ".3f"],
)
best_gain = loss["untouched base"] - min(trained.values())
assert QUICK or loss["untouched base"] - trained[1] > 0.6 * best_gain
assert 0.02 < n_lora(4, MAPS) / n_full < 0.05
assert QUICK or trained[4] - loss["full fine-tuning"] < 0.25 * best_gain

# %% [markdown]
# In a full run r = 1 reaches most of the gain of the best rank. With r = 4, which is about 3 % of the base's
# parameters, the loss is close to the loss of full fine-tuning. (This is one seed, and each method has the best of a
# few learning rates.)

# %% [markdown]
# ## The scale α/r
#
# 001 §3.1.3 has no number in front of A B. Hu et al. have α/r. What is it for? B A is a sum of r terms, one for each
# column of B and row of A. In its first step Adam moves each number of B by about the learning rate, however small the
# gradient is. So each term gets about the same length, and more terms make a longer sum. It is about √r times as long if
# the terms point in unrelated directions, and r times as long if all point in the same direction. The division by r is meant
# to balance this growth. Then a learning rate that is good at one rank is also good at another.
#
# We measure the length of the change, ‖s B A‖, after one step. We do this with a fixed scale s = 2, and with s = α/r and
# α = 8. At r = 4 both are s = 2. A starts with random rows.
#
# **Predict before you run:** with the fixed scale, how does the length grow from r = 1 to r = 64: about 8 times or
# about 64 times? And with α/r: does it grow, stay, or shrink?

# %%
ALPHA = 8.0
ALPHAS = {"fixed": {rank: 2.0 * rank for rank in RANKS}, "α/r": {rank: ALPHA for rank in RANKS}}
first = {}
for name, alphas in ALPHAS.items():
    for rank in RANKS:
        method = LoRA(rank, alphas[rank], MAPS)
        tune(method, LR["LoRA"], steps=1)
        first[name, rank] = mean(
            (method.scale * low.change()).detach().norm() for low in method.changes.values()
        )
table(
    [(name, *(first[name, rank] for rank in RANKS)) for name in ALPHAS],
    ["‖s B A‖ after one step", *(f"r = {rank}" for rank in RANKS)],
    [None, *[".3f"] * len(RANKS)],
)
grows = {name: first[name, 64] / first[name, 1] for name in ALPHAS}
say(
    f"From r = 1 to r = 64: {grows['fixed']:.1f} times with s = 2, {grows['α/r']:.2f} times with α/r."
)
assert 4 < grows["fixed"] < 20 and grows["α/r"] < 0.6

# %% [markdown]
# With the fixed scale the growth is nearer to √64 = 8 than to 64, because the rows of a random A point in unrelated
# directions. So α/r does more than balance the growth: at high ranks the first step becomes shorter. (Kalajdzievski,
# 2023, therefore proposes α/√r.)
#
# Does this help the training? The learning rate was chosen at r = 4. We train r = 64 with the fixed scale, too.
#
# **Predict before you run:** at r = 64, with this learning rate, which of the two scales ends with the lower loss?

# %%
too_large = LoRA(64, ALPHAS["fixed"][64], MAPS)
at_64 = {"fixed, s = 2": tune(too_large, LR["LoRA"]), f"α/r, s = {ALPHA / 64:g}": trained[64]}
table(
    [*at_64.items(), ("r = 4, s = 2", trained[4])],
    ["r = 64, learning rate of r = 4", "loss, y"],
    [None, ".3f"],
)
assert QUICK or at_64["fixed, s = 2"] > trained[64]

# %% [markdown]
# In a full run the fixed scale is worse at r = 64. With α/r we did not have to search for a new learning rate: the one of
# r = 4 works here too.

# %% [markdown]
# ## Which matrices?
#
# 001 §2 puts the low-rank matrices on every layer (在预训练模型的每一层上添加低秩分解矩阵) and does not say which
# matrices of a layer. The same number of parameters can be spent on few matrices with a high rank, or on many with a
# low one. Hu et al. tried this on GPT-3, and here is the fraction of correct answers that they report for WikiSQL, in
# per cent (±0.5):
#
# - q alone, r = 8: 70.4;
# - v alone, r = 8: 73.0;
# - q and v, r = 4: 73.7;
# - all of attention, r = 2: 73.7.
#
# They did not change the feed-forward layers, and used q and v in most of their experiments. We try these four places, and
# two more: the feed-forward layers, and all matrices.
#
# **Predict before you run:** of these four q alone is the poorest. Will q alone be behind v alone on our base, too? What does
# a query decide in attention, and what does a value decide?

# %%
PLACES = {
    "q": (36, ["q"]),
    "v": (36, ["v"]),
    "q, v": (18, ["q", "v"]),
    "all of attention": (9, ["q", "k", "v", "out"]),
    "feed-forward": (7, ["up", "down"]),
    "all": (4, MAPS),
}
placed, spent = {"all": loras[4]}, {"all": trained[4]}
for name, (rank, targets) in PLACES.items():
    if name not in placed:
        placed[name] = LoRA(rank, targets=targets)
        spent[name] = tune(placed[name], LR["LoRA"])
with attached(base, placed["q, v"]):
    placed["q, v"].merge()
    k_stays = all(torch.equal(matrices()[name], W[name]) for name in of_kind("k"))
gained = {name: max(0.0, loss["untouched base"] - spent[name]) for name in PLACES}
table(
    [
        (name, rank, n_lora(rank, own), spent[name], bar(gained[name], max(0.01, *gained.values())))
        for name, (rank, own) in PLACES.items()
    ],
    ["LoRA on", "r", "parameters", "loss, y", "gain over the untouched base"],
    [None, "d", ",", ".3f", None],
)
size = [n_lora(*place) for place in PLACES.values()]
assert max(size) < 1.05 * min(size) and k_stays
assert QUICK or spent["q"] > max(spent[name] for name in ("v", "q, v", "all"))

# %% [markdown]
# In a full run q alone is behind v alone and behind q with v, as in the paper. It is behind all matrices, too. A query
# decides only where a token looks. The values, the output matrix and the feed-forward layers decide what is then added to the token's vector.
#
# There is a trap. Our base, like GPT-2, keeps W^Q, W^K and W^V in one matrix of 3C × C. LoRA beside *that* matrix would
# have one A for all three, and it would change k, which nobody asked for. That is another method with the same name and
# the same r. In our LoRA each of q and v has an A of its own, and k stays as it is.

# %% [markdown]
# ## Merged
#
# B A is a matrix of the size of W. So far a *hook*, a function that PyTorch calls after a layer, adds (α/r) B A x to W x.
# But we can also compute W + (α/r) B A once, write it into the base, and remove the hooks. This is called merging
# (合并). 001 §3.1.3 says that A and B are fused into the weights by addition (通过加法融合到原始权重矩阵中). With an
# adapter this is impossible, because an activation stands between its matrices. With a prefix it is impossible, too,
# because the softmax stands between the keys and the values.
#
# 001 §3.2.4 inserts the trained layers for inference. With LoRA there are two ways to do this: hooked in, or merged.
#
# **Predict before you run:** how far apart are the scores of the two ways? Is the base itself again after `detach`?

# %%
lora = loras[4].attach(base)
one = torch.tensor([xs["valid"][0] + ys["valid"][0]])  # (B, T)
with torch.inference_mode():
    hooked = base(one)  # (B, T, V)
    lora.merge()
    merged = base(one)  # (B, T, V)
hooks = sum(len(module._forward_hooks) for module in base.modules())
lora.detach()
with torch.inference_mode():
    plain = base(one)  # (B, T, V)
apart, moved = ((own - hooked).abs().max().item() for own in (merged, plain))
say(
    f"Hooked in, LoRA moves the scores by up to {moved:.1f}. Merged, they differ from the hooked ones by {apart:.0e}, "
    f"and {hooks} hooks are on the base."
)
assert apart < 1e-3 < moved and hooks == 0 and fingerprint(base) == before

# %% [markdown]
# The two are the same function, apart from rounding. After `detach` the base is itself, bit for bit.

# %% [markdown]
# ## And out again
#
# To serve another task, the change has to come out again. It seems enough to subtract what was added. But numbers in
# a computer have a fixed count of digits, and there (W + Δ) − Δ is not always W. We try it in fp32 (4 bytes a number,
# about 7 decimal digits) and in bf16 (2 bytes, about 2 to 3 digits), in which large models are kept.
#
# **Predict before you run:** do all numbers of W come back unchanged in fp32? In which of the two formats are the errors
# larger?

# %%
stacks = [base.get_submodule(key.replace("/", ".")).weight for key in lora.changes]
weights = torch.cat([weight.detach().flatten() for weight in stacks])
with torch.no_grad():
    change = torch.cat([(lora.scale * low.change()).flatten() for low in lora.changes.values()])
lines = []
for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
    own, delta = weights.to(dtype), change.to(dtype)
    back = (own + delta) - delta
    changed, lost = ((back != own).float().mean(), (own + delta == own).float().mean())
    lines.append((name, changed.item(), (back - own).abs().max().item(), lost.item()))
table(
    lines,
    ["", "came back changed", "largest error", "never changed by W + Δ"],
    [None, ".0%", ".0e", ".0%"],
)
(_, in_fp32, error_fp32, _), (_, in_bf16, error_bf16, lost) = lines
assert error_bf16 > 100 * error_fp32
assert QUICK or (min(in_fp32, in_bf16) > 0.01 and lost > 0.02)

# %% [markdown]
# In a full run part of the numbers come back changed in both formats, and in bf16 the errors are much larger. After
# many tasks the base would be another model, without any message. So our `unmerge` does not subtract. It keeps a copy
# of W and puts it back.
#
# The last column shows one more weakness of bf16. Some numbers stay as they were when Δ is added, because Δ is smaller
# than their last digit. Merging in bf16 loses that part of the training.

# %% [markdown]
# ## At the base's own speed
#
# Hooked in, each matrix has two thin products more to compute. Merged, the model has the same matrices as before with
# other numbers in them. We measure how long a token takes. The four models take turns, so that other work on the machine
# disturbs all of them equally. (Our `generate` has a faster path for models without hooks. A base with a hook that does
# nothing shows how much this path saves.)
#
# **Predict before you run:** does a token take longer than with the base when LoRA is hooked in? And when it is merged?

# %%
import statistics
import time
from contextlib import nullcontext

from minitransformer.generation.sampling import generate

N, ROUNDS = (8, 1) if QUICK else (60, 7)
NAMES = ("base", "base, with an idle hook", "LoRA, hooked in", "LoRA, merged")
seconds, written = {name: [] for name in NAMES}, {}
for _ in range(ROUNDS):
    for name in NAMES:
        idle = base.norm.register_forward_hook(lambda *_: None) if "idle" in name else None
        with attached(base, lora) if name.startswith("LoRA") else nullcontext():
            if "merged" in name:
                lora.merge()
            began = time.perf_counter()
            written[name] = generate(base, xs["valid"][:1], N)
            seconds[name].append(time.perf_counter() - began)
        if idle:
            idle.remove()
ratio = {}
for name, own in seconds.items():
    ratio[name] = statistics.median(a / b for a, b in zip(own, seconds["base"], strict=True))
table(
    [(name, 1000 * statistics.median(own) / N, ratio[name]) for name, own in seconds.items()],
    ["", "ms per token", "base = 1"],
    [None, ".2f", ".2f"],
)
assert QUICK or ratio["LoRA, merged"] < ratio["LoRA, hooked in"]

# %% [markdown]
# Hooked in, LoRA makes a token slower. Merged, it costs nothing at inference, because the base only has other numbers in
# its matrices. An adapter cannot do this. But merging has a price: the base can then serve only one task at a time. Hooked
# in, the same base can serve several tasks (lesson 13).

# %% [markdown]
# ## The matrix that the package refuses
#
# We did not tune the largest matrix of the base: the one that turns the last vector into scores for the vocabulary. Its
# rows are also the token embeddings (weight tying, 权重共享, lesson 3). Hooked in, a change of this matrix acts on the
# scores only. Merged, it also changes the embedding of every token that is read.
#
# The package refuses to tune this matrix. We do by hand what it refuses, with random A and B whose numbers are as large
# as trained ones.
#
# **Predict before you run:** by how much do the merged scores differ from the hooked ones: by rounding, or more?

# %%
import copy

from minitransformer.errors import UserError

refusal = None
try:
    LoRA(targets=["head"]).attach(base)
except UserError as error:
    refusal = error
say(f"“{refusal}”")
assert refusal is not None
torch.manual_seed(0)
low, E = next(iter(lora.changes.values())), base.token_embedding.weight.detach()
A = torch.randn(r, C) * low.a.std().item()  # (r, C)
B = torch.randn(len(E), r) * low.b.std().item()  # (V, r)
other = copy.deepcopy(base)
with torch.inference_mode():
    as_meant = base(one, return_hidden=True) @ (E + lora.scale * B @ A).T  # (B, T, V)
    other.token_embedding.weight += lora.scale * B @ A
    as_merged = other(one)  # (B, T, V)
on_top = (as_merged - as_meant).abs().max().item()
table(
    [("all matrices of the layers", apart), ("the tied matrix", on_top)],
    ["merged and hooked in differ by", "score, at most"],
    [None, ".0e"],
)
assert on_top > 100 * apart

# %% [markdown]
# They differ by much more than rounding. Without the refusal the merged model would be another model, and no message
# would say so.

# %% [markdown]
# ## What the base still knows
#
# 001 §3.1.3 says that LoRA keeps the general semantic representations of the pretrained model
# (很好地保持预训练模型的通用语义表示能力), because A and B come in by addition. We test it as in lesson 11: with the
# method on, on plain text of the tiny world.
#
# **Predict before you run:** does the loss on plain text rise with full fine-tuning, with LoRA, with both, or with neither?

# %%
from minitransformer.course.data import DATA
from minitransformer.text.corpora import eval_windows, read_documents, token_stream

held_out = token_stream(read_documents(DATA / "text" / "valid.txt")[:200], tokenizer)
plain_text = eval_windows(held_out, 128, 16, most=2 if QUICK else 32)
knows = {"untouched base": evaluate(base, plain_text)}
names = {"full fine-tuning": full} | {f"LoRA on all, r = {rank}": loras[rank] for rank in RANKS}
for name, method in names.items():
    with attached(base, method):
        knows[name] = evaluate(base, plain_text)
knows["everything detached"] = evaluate(base, plain_text)
table(
    [(name, value, value - knows["untouched base"]) for name, value in knows.items()],
    ["", "loss, plain text", "change"],
    [None, ".3f", "+.3f"],
)
assert knows["everything detached"] == knows["untouched base"]
assert QUICK or min(knows[name] for name in names) > knows["untouched base"]

# %% [markdown]
# In a full run the loss on plain text rises with each of them. Biderman et al. (2024) find in large models that LoRA
# forgets less than full fine-tuning. The rows of our table show whether that is so in this small run.
#
# *Where the document is not exact.* The addition alone keeps nothing, because a change in a few directions can also do harm.
# One thing is certain: after LoRA is detached, the base is the old one, bit for bit.

# %% [markdown]
# ## Once, on the test
#
# Nothing was chosen on these tables. Some are of the kinds that training had (seen), some of kinds that it had not
# (unseen). For GPT-2 Medium on E2E, Hu et al. report BLEU 70.4 for LoRA with 0.35 million parameters, 69.7 for a
# prefix with as many, 66.3 for adapters with 0.37 million, and 68.2 for full fine-tuning. Only the pattern can be
# compared.
#
# As in lesson 11 we take the mean of the differences in *slots*, table by table, and its standard error (标准误). A
# difference of less than two standard errors can be chance.
#
# **Predict before you run:** is LoRA, with about 3 % of the parameters, more than ten points of slots behind full
# fine-tuning?

# %%
from minitransformer.course.tasks import slot_accuracy
from minitransformer.course.tinyworld import slot_values

final, each = {}, {}  # the measures; and for each table the fraction of its values that is stated
for name, method in {"full fine-tuning": full, "LoRA": lora}.items():
    for split in ("test_seen", "test_unseen"):
        with attached(base, method):
            texts = generate_texts(base, tokenizer, xs[split], MOST)
        final[name, split] = table_scores(texts, rows[split])
        each[name, split] = torch.tensor(
            [
                slot_accuracy([text], [slot_values(row["table"])])[0]
                for text, row in zip(texts, rows[split], strict=True)
            ]
        )
table(
    [(name, split.removeprefix("test_"), *score) for (name, split), score in final.items()],
    ["on the test", "kinds", "BLEU", "slots", "whole", "a table again"],
    [None, None, ".1f", ".1%", ".1%", ".0%"],
)
lead = torch.cat(
    [
        each["LoRA", split] - each["full fine-tuning", split]
        for split in ("test_seen", "test_unseen")
    ]
)
say(
    f"In slots, LoRA is {100 * lead.mean():+.1f} points against full fine-tuning, with a standard error of "
    f"{100 * (lead.var() / len(lead)) ** 0.5:.1f}."
)
assert QUICK or (final["LoRA", "test_seen"].slots > 0.6 and final["LoRA", "test_seen"].again < 0.1)
assert QUICK or lead.mean() > -0.1
assert fingerprint(base) == before

# %% [markdown]
# In a full run LoRA is not more than ten points behind. Compare the difference with two standard errors: only a larger
# one is more than chance. Both methods had the same few steps, and this is one seed. Lesson 14 gives them more.

# %% [markdown]
# ## The answer
#
# It takes few. The change that fine-tuning adds to a matrix is small, and a few directions hold what the task needs of it.
# Two thin matrices beside each frozen one, about 3 % of the base's parameters, come near full fine-tuning on our task.
# Once they are added to W, they cost nothing at inference.
#
# To try next:
#
# - Let A be 0 and B random. Does the model begin as the base? Which matrix gets the first gradient?
# - Set `dropout=0.1` on the way to A, and compare merged with hooked in, once in `base.train()` and once in
#   `base.eval()`. Which comparison is fair?
# - Cut the trained LoRA of r = 64 down to its first term, as we did with ΔW. Is it as good as the LoRA of r = 1?
#
# Exercises: `make start-12` writes the stubs of this lesson's exercises to `workbook/lesson_12.py`, and `make
# check-12` checks them. Lesson 13 lets one base serve many tasks at once.
#
# Further reading: "LoRA: Low-Rank Adaptation of Large Language Models" (Hu et al., 2021); "Intrinsic Dimensionality
# Explains the Effectiveness of Language Model Fine-Tuning" (Aghajanyan et al., 2021); "A Rank Stabilization Scaling
# Factor for Fine-Tuning with LoRA" (Kalajdzievski, 2023); "LoRA Learns Less and Forgets Less" (Biderman et al.,
# 2024).
