"""LoRA: a change of low rank

question: Fine-tuning changes every number of every matrix. How few numbers does it take to say what changed?
minutes: 1.4
documents: 001 §3.1.3 LoRA, §3.2.2 模型初始化, §3.2.4 模型推理
needs: 2, 5, 9, 11
"""

# %% [markdown]
# ## What does fine-tuning add?
#
# A prefix gave the frozen base more to read (lesson 9), an adapter more to compute (lesson 11). LoRA (Low-Rank Adaptation,
# 低秩适配) goes to the matrices themselves. To see why that can be cheap, begin at the dear end: fine-tune everything, as lesson 5
# did, and then look at what was added to each matrix W,
#
#     ΔW = W′ − W
#
# where W′ is the same matrix after training. The task is lesson 9's, tables into sentences by the GPT base, under the same four
# measures. Its matrices are W^Q, W^K, W^V and W^O in every attention (004 §4.1; here q, k, v, out), and up and down in every
# feed-forward layer. ‖W‖ is the length of a matrix, the root of the sum of its squared numbers.
#
# **Predict before you run:** what must be added to a matrix to turn the base into one that does the task: about a hundredth of
# its own length, a tenth, or as much as is there already?

# %%
import torch
from minitransformer.course import trial
from minitransformer.course.bases import load_base
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, table
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.generation.sampling import generate, generate_texts
from minitransformer.models.attention import Stacked
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.training.loop import TrainConfig, evaluate
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import FullFineTuning, LoRA, attached, fingerprint
from minitransformer.tuning.merge import linear_maps

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, L, C = tokenizer.eot_id, base.config.n_layer, base.config.d_model
before = fingerprint(base)
xs, ys, rows = {}, {}, {}
for split, most in (("train", 2000), ("valid", 64), ("test_seen", 100), ("test_unseen", 100)):
    most = 8 if QUICK else most
    xs[split], ys[split] = (ids[:most] for ids in task_ids("table_to_text", split, tokenizer))
    rows[split] = task_rows("table_to_text", split)[:most]
valid = eval_completions(xs["valid"], ys["valid"], eot, batch_size=32)
STEPS = 2 if QUICK else 32
MOST = 16 if QUICK else 90  # tokens to write
LR = {"full": 2.5e-4, "LoRA": 3e-3}  # of those tried on validation, the best for each


def tune(method, lr: float, steps: int = STEPS) -> float:
    """Train a method on batches of 8 tables and give its validation loss; it is off the base again. Seed 0 decides where it starts."""
    torch.manual_seed(0)
    batches = Completions(
        xs["train"], ys["train"], eot, batch_size=8, n_positions=base.config.n_positions, seed=0
    )
    config = TrainConfig(steps, lr=lr, warmup=steps // 12, final_lr=0.02, weight_decay=0.0)
    return trial.tune(
        base, method, batches, config, lambda: evaluate(base, valid), progress=False
    ).judged


def matrices() -> dict[str, torch.Tensor]:
    """The base's own matrices by name, to be read and written. (q, k and v lie in one stack, below one another.)"""
    return {
        name: linear.weight.detach()[linear.rows(part, part + 1)]
        if isinstance(linear, Stacked)
        else linear.weight.detach()
        for name, (linear, part) in linear_maps(base).items()
    }


W, full = {name: own.clone() for name, own in matrices().items()}, FullFineTuning()
loss = {"untouched base": evaluate(base, valid)}
scores = {
    "untouched base": table_scores(
        generate_texts(base, tokenizer, xs["valid"], MOST), rows["valid"]
    )
}
loss["full fine-tuning"] = tune(full, LR["full"])
with attached(base, full):
    scores["full fine-tuning"] = table_scores(
        generate_texts(base, tokenizer, xs["valid"], MOST), rows["valid"]
    )
    dW = {name: tuned - W[name] for name, tuned in matrices().items()}
    n_full = full.report().trained
MAPS = ["q", "k", "v", "out", "up", "down"]


def of_kind(kind: str) -> list[str]:
    """The names of one kind of matrix, one a layer."""
    return [name for name in W if name.endswith(f".{kind}")]


def mean(values) -> float:
    """Of numbers."""
    values = [float(value) for value in values]
    return sum(values) / len(values)


SCORES, FORMS = ["BLEU", "slots", "whole", "a table again"], [".1f", ".1%", ".1%", ".0%"]
table(
    [(name, loss[name], *scores[name]) for name in scores],
    ["on validation", "loss, y", *SCORES],
    [None, ".3f", *FORMS],
)
table(
    [
        (
            kind,
            "{} × {}".format(*W[of_kind(kind)[0]].shape),
            mean(W[name].norm() for name in of_kind(kind)),
            mean(dW[name].norm() for name in of_kind(kind)),
            mean(dW[name].norm() / W[name].norm() for name in of_kind(kind)),
        )
        for kind in MAPS
    ],
    ["mean of all layers", "rows × columns", "‖W‖", "‖ΔW‖", "‖ΔW‖ / ‖W‖"],
    [None, None, ".2f", ".2f", ".1%"],
)
relative = [(dW[name].norm() / W[name].norm()).item() for name in W]
say(
    f"{STEPS} steps on 8 tables each moved all {n_full:,} numbers; and yet each matrix by {min(relative):.1%} to {max(relative):.1%} of its length. "
    "That is how large the change is. Next: how complicated it is."
)
assert fingerprint(base) == before and (QUICK or loss["full fine-tuning"] < loss["untouched base"])

# %% [markdown]
# ## Singular values
#
# Every matrix M can be taken apart into simple ones (singular value decomposition, 奇异值分解):
#
#     M = σ_1 u_1 v_1ᵀ + σ_2 u_2 v_2ᵀ + …          σ_1 ≥ σ_2 ≥ … ≥ 0
#
# Each term does one thing: it reads how much of the direction v_k there is in x, and writes that much of the direction u_k,
# times the singular value (奇异值) σ_k. How many terms there are with σ_k > 0 is the rank (秩) of M. If all but the first r are
# left out, what remains is the nearest of all matrices of rank r (Eckart and Young), and it holds
#
#     (σ_1² + … + σ_r²) / (σ_1² + σ_2² + …)
#
# of ‖M‖². We do this to every ΔW. Beside them stand random matrices of the same shapes: what a change looks like that has no
# order at all.
#
# **Predict before you run:** a ΔW of 128 × 128 numbers has 128 terms. How much of it do 4 of them hold? And of a random matrix?

# %%
SHOWN = {"ΔW of q": "q", "ΔW of v": "v", "ΔW of up": "up", "ΔW of down": "down"}
torch.manual_seed(0)
sigmas = {
    name: torch.stack([torch.linalg.svdvals(dW[own]) for own in of_kind(kind)])
    for name, kind in SHOWN.items()
}  # each (n_layer, C)
sigmas["random, as q"] = torch.linalg.svdvals(torch.randn(L, C, C))  # (n_layer, C)
sigmas["random, as up"] = torch.linalg.svdvals(torch.randn(L, 4 * C, C))  # (n_layer, C)


def held(sigma: torch.Tensor) -> torch.Tensor:
    """How much of ‖M‖² the first r terms hold, r = 1, 2, …: (n_layer, C) → (C), the mean over layers."""
    return (sigma.square().cumsum(-1) / sigma.square().sum(-1, keepdim=True)).mean(0)


RANKS = (1, 4, 16, 64)
table(
    [
        (name, *(held(sigma)[r - 1].item() for r in RANKS), int((held(sigma) < 0.9).sum()) + 1)
        for name, sigma in sigmas.items()
    ],
    ["share of ‖M‖² held by", *(f"r = {r}" for r in RANKS), "90 % need r ="],
    [None, *[".0%"] * len(RANKS), "d"],
)
with figure(
    "spectrum",
    "Singular values of what full fine-tuning added (means over the layers), beside random matrices; and how much of it the first r terms hold.",
    (11, 4),
    1,
    2,
) as (left, right):
    for name, sigma in sigmas.items():
        style = (
            {"color": "grey", "linestyle": ":" if "q" in name else "--"}
            if name.startswith("random")
            else {}
        )
        left.plot(range(1, C + 1), (sigma / sigma[:, :1]).mean(0), label=name, **style)
        right.plot(range(1, C + 1), held(sigma), label=name, **style)
    left.set(yscale="log", ylim=(1e-2, 1.2), xlabel="k", ylabel="σ_k / σ_1")
    right.set(xscale="log", ylim=(0, 1.02), xlabel="r", ylabel="share of ‖M‖² held")
    right.set_xticks([1, 4, 16, 64, 128], ["1", "4", "16", "64", "128"])
    right.minorticks_off()
    left.legend(fontsize=8, loc="lower left")
four = {name: held(sigma)[3].item() for name, sigma in sigmas.items()}
say(
    f"Four terms hold {min(four[name] for name in SHOWN):.0%} to {max(four[name] for name in SHOWN):.0%} of a ΔW and {four['random, as q']:.0%} "
    "of a random matrix of the size of q. So there is order in it: "
    "a few directions got most. But there is a long tail too, and whether that matters is not a question of squares."
)
assert QUICK or min(four[name] for name in SHOWN) > 1.5 * max(
    four["random, as q"], four["random, as up"]
)

# %% [markdown]
# ## A change, cut down
#
# So ask the task. Put W + (the first r terms of ΔW) into the base, in every matrix, and let it write. (Full fine-tuning changed
# more than matrices: embeddings, biases and norms too. They stay the base's own here, except in the last row. And
# mind the first row's slots: an untouched base has a table's values where it writes the table again, as the first step counted.)
#
# **Predict before you run:** how much of the gain is left with one term, r = 1?


# %%
def put(new: dict[str, torch.Tensor]) -> None:
    """Write other matrices into the base."""
    for name, own in matrices().items():
        own.copy_(new[name])


terms = {
    name: torch.linalg.svd(change, full_matrices=False) for name, change in dW.items()
}  # U, σ, Vᵀ
cut, cut_slots = {}, {}
for r in (*RANKS, C):
    put({name: W[name] + (U[:, :r] * sigma[:r]) @ Vt[:r] for name, (U, sigma, Vt) in terms.items()})
    cut[r], cut_slots[r] = (
        evaluate(base, valid),
        table_scores(generate_texts(base, tokenizer, xs["valid"], MOST), rows["valid"]).slots,
    )
put(W)
gain = loss["untouched base"] - cut[C]
per_r = sum(
    sum(change.shape) for change in dW.values()
)  # numbers that one term of every matrix takes
lines = [("nothing, W", 0, loss["untouched base"], 0.0, scores["untouched base"].slots)]
lines += [
    (f"r = {r}", r * per_r, cut[r], (loss["untouched base"] - cut[r]) / gain, cut_slots[r])
    for r in RANKS
]
lines += [
    ("all of ΔW", sum(change.numel() for change in dW.values()), cut[C], 1.0, cut_slots[C]),
    (
        "and all else that was tuned",
        n_full,
        loss["full fine-tuning"],
        (loss["untouched base"] - loss["full fine-tuning"]) / gain,
        scores["full fine-tuning"].slots,
    ),
]
table(
    lines,
    ["added to W", "numbers", "loss, y", "of the gain", "slots"],
    [None, ",", ".3f", ".0%", ".1%"],
)
enough, best_cut = (
    next((r for r in RANKS if loss["untouched base"] - cut[r] > 0.9 * gain), C),
    min(cut, key=cut.get),
)
say(
    f"r = {enough} is the first here that keeps 90 % of the gain; its two factors (next step) have {enough * per_r:,} numbers. "
    + (
        f"The best is r = {best_cut}, better than all of ΔW by {cut[C] - cut[best_cut]:.3f} nats: so part of the long tail does harm, like the noise "
        "that a short training leaves in every number. "
        if cut[C] - cut[best_cut] > 0.002
        else ""
    )
    + "Nobody had asked this training for a change of low rank. What if one asks from the start?"
)
assert fingerprint(base) == before, "put(W) should have restored every bit"

# %% [markdown]
# ## Two thin matrices
#
# A matrix of rank r is a product of two thin ones. So do not cut afterwards: train the two from the start, and leave W frozen.
# 001 §3.1.3 writes it
#
#     W_LoRA = W + A B,     A ∈ R^{d×r}, B ∈ R^{r×d}
#
# and Hu et al. (2021), and our code, write
#
#     h = W x + (α/r) B A x,     A ∈ R^{r×d_in}, B ∈ R^{d_out×r}
#
# Are they the same? It depends on what stands on which side. If x is a row, x (W + A B), then A reads first and B writes, as in
# our code; everything is transposed. If x is a column, as where 001 writes its adapters (W_down h), then (W + A B) x is read by
# *B*: letters exchanged. Both pairs of shapes fit, since 001's W is square; for a feed-forward layer, which is not, neither
# would.
#
# Where the document is loose, besides: it names no scale, and no start. The next steps take these up.
#
# **Predict before you run:** which of 001's letters is our A, for rows? And for columns?

# %%
r, s = 4, 2.0
torch.manual_seed(0)
own, A, B, x = W[of_kind("q")[0]], torch.randn(r, C), torch.randn(C, r), torch.randn(C)
ours = own @ x + s * B @ (A @ x)  # (C,)
as_rows = x @ (own.T + s * A.T @ B.T)  # (C,)  001's A is our Aᵀ, its B our Bᵀ
as_columns = (own + s * B @ A) @ x  # (C,)  001's A is our B, its B our A
table(
    [
        ("x a row: x (W + A B)", "Aᵀ", "Bᵀ", ((as_rows - ours).norm() / ours.norm()).item()),
        ("x a column: (W + A B) x", "B", "A", ((as_columns - ours).norm() / ours.norm()).item()),
    ],
    ["001 read with", "its A is our", "its B is our", "relative difference"],
    [None, None, None, ".0e"],
)
say(
    f"B A has {C} × {C} numbers and the rank {int(torch.linalg.matrix_rank(B @ A))}. Computed as B (A x), it never has to be written down: x goes "
    "down to r numbers, and up again."
)
assert all((other - ours).norm() < 1e-5 * ours.norm() for other in (as_rows, as_columns))

# %% [markdown]
# That looks like an adapter (lesson 11): down to r, up to d. 001 §3.1.3 says, too, that the idea is "similar". There are two
# differences. Nothing stands between A and B, no activation: so the two are *one* matrix. And it stands beside W, reading what
# W reads, not behind it: so that one matrix can be added to W. More of that below.

# %% [markdown]
# ## How many numbers?
#
# 001 §3.1.3: the parameters go down from O(d²) to O(d r). Counted, for a matrix with d_in columns and d_out rows:
#
#     W has d_in · d_out numbers,     A and B together r (d_in + d_out)
#
# What O(·) leaves out is a factor of 2, and with small matrices that matters.
#
# **Predict before you run:** from which r on do A and B have *more* numbers than a square W?

# %%
shapes = {"our q": (C, C), "our up": (C, 4 * C), "GPT-3's q": (12288, 12288)}
table(
    [
        (
            name,
            d_in,
            d_out,
            d_in * d_out,
            r * (d_in + d_out),
            r * (d_in + d_out) / (d_in * d_out),
            d_in * d_out / (d_in + d_out),
        )
        for name, (d_in, d_out) in shapes.items()
    ],
    ["", "d_in", "d_out", "W", f"A and B, r = {r}", "share", "as many from r ="],
    [None, "d", "d", ",", ",", ".2%", ",.0f"],
)


def n_lora(rank: int, targets: list[str]) -> int:
    """What LoRA trains, by the formula."""
    return sum(rank * sum(W[name].shape) for target in targets for name in of_kind(target))


counts = []
for targets in (["q", "v"], MAPS):
    for rank in RANKS:
        with attached(base, method := LoRA(rank, targets=targets)):
            counts.append(
                (
                    ", ".join(targets),
                    rank,
                    method.report().trained,
                    method.report().trained_fraction,
                )
            )
        assert method.changes and counts[-1][2] == n_lora(rank, targets)
table(counts, ["LoRA on", "r", "numbers", "of the base"], [None, "d", ",", ".2%"])
say(
    "At r = d/2 nothing is saved any more on a square matrix. “Low” is said beside d: r = 4 is low for GPT-3, and for our d less so."
)
assert n_lora(C // 2, ["q"]) == sum(W[name].numel() for name in of_kind("q"))

# %% [markdown]
# ## Where it starts
#
# What do A and B hold before training? 001 does not say, for LoRA. For its adapters, §3.2.2 has Xavier's rule for both matrices
# (lesson 11); taken over, both would be random. Hu et al. let A be random and B be zero. And why not both zero?
#
# One formula answers that. Let G = ∂L/∂W be the gradient that W itself would get. Then, since W + s B A depends on A only
# through B and on B only through A (s is the scale),
#
#     ∂L/∂B = s G Aᵀ          ∂L/∂A = s Bᵀ G
#
# **Predict before you run:** for each of the three starts: does the model begin as the untouched base? Which of the two
# matrices can learn at the first step?

# %%
STARTS = ("A random, B = 0", "both random (Xavier)", "both zero")
batch = Completions(
    xs["train"], ys["train"], eot, batch_size=8, n_positions=base.config.n_positions
)(0)
starting, lines, identity = {}, [], []
for start in STARTS:
    torch.manual_seed(0)
    method = starting[start] = LoRA(r, targets=MAPS).attach(base)
    with torch.no_grad():
        for low in method.changes.values():
            if start == "both zero":
                low.a.zero_()
            if start == "both random (Xavier)":
                for p in (low.a, low.b):  # (n, r, d_in), (n, d_out, r)
                    p.normal_(std=(2 / sum(p.shape[1:])) ** 0.5)
    stack, low = base.blocks[0].attention.qkv, method.changes["blocks/0/attention/qkv"]
    stack.weight.requires_grad_(True)  # for a look at G; it is not trained
    language_model_loss(base, batch)[0].backward()
    G = stack.weight.grad[stack.rows(0, 1)]  # (C, C)  of q, in the lowest layer
    for there, by_formula in (
        (low.b.grad[0], method.scale * G @ low.a[0].T),
        (low.a.grad[0], method.scale * low.b[0].T @ G),
    ):
        identity.append(((there - by_formula).norm() / G.norm()).item())
    sizes = {
        letter: sum(getattr(low, letter).grad.norm().item() ** 2 for low in method.changes.values())
        ** 0.5
        for letter in "ab"
    }
    lines.append(
        (
            start,
            evaluate(base, valid),
            evaluate(base, valid) - loss["untouched base"],
            sizes["a"],
            sizes["b"],
        )
    )
    stack.weight.requires_grad_(False)
    base.zero_grad()
    method.detach()
table(
    lines,
    [f"r = {r}, before training", "loss, y", "change", "‖∂L/∂A‖", "‖∂L/∂B‖"],
    [None, ".3f", "+.3f", ".3g", ".3g"],
)
say(
    f"The two formulas hold, to {max(identity):.0e} of ‖G‖. With B = 0 the model begins as the base, A stands still for one step, and B moves; "
    "from the second step on both do. "
    "With both zero each waits for the other, for ever. With both random there is a gradient for both, and a base that was disturbed before it "
    "learned anything."
)
by_start = {line[0]: line for line in lines}
assert (
    by_start["A random, B = 0"][2] == 0
    and by_start["A random, B = 0"][3] == 0 < by_start["A random, B = 0"][4]
)
assert by_start["both zero"][3] == by_start["both zero"][4] == 0 and max(identity) < 1e-4
assert by_start["both random (Xavier)"][2] > 0.1 and by_start["both random (Xavier)"][3] > 0

# %% [markdown]
# Does training make up for it? Same batches, same steps, same learning rate.
#
# **Predict before you run:** the loss of the third?

# %%
after = {}
for start, method in starting.items():
    after[start] = tune(method, LR["LoRA"], STEPS if start != "both zero" else 2)
table(
    [
        (start, by_start[start][1], after[start], bar(after[start], max(after.values())))
        for start in STARTS
    ],
    [f"r = {r}, all matrices", "loss, y, before", "after", ""],
    [None, ".3f", ".3f", None],
)
behind = after["both random (Xavier)"] - after["A random, B = 0"]
say(
    f"After {STEPS} steps the start with both random is {abs(behind):.3f} nats {'behind' if behind > 0 else 'ahead'}. (Both zero was stopped "
    "after 2 steps: its loss is the base's, to the last bit.)"
)
assert after["both zero"] == loss["untouched base"]

# %% [markdown]
# ## Rank against quality
#
# Now the question of the third step, asked the other way round: not "how well does a change do that was cut down to rank r",
# but "how well does one that was trained as rank r". LoRA beside every matrix, four ranks, the steps and batches of full
# fine-tuning.
#
# **Predict before you run:** how much is lost from r = 64 to r = 1, a 64th of the numbers?

# %%
loras = {4: starting["A random, B = 0"]}
ranked = {4: after["A random, B = 0"]}
for rank in RANKS:
    if rank not in loras:
        loras[rank] = LoRA(rank, targets=MAPS)
        ranked[rank] = tune(loras[rank], LR["LoRA"])
table(
    [
        (rank, n_lora(rank, MAPS), n_lora(rank, MAPS) / n_full, ranked[rank], cut[rank])
        for rank in RANKS
    ],
    ["r", "numbers", "of the base", "trained at rank r", "ΔW cut to rank r"],
    ["d", ",", ".1%", ".3f", ".3f"],
)
with figure(
    "rank",
    "Validation loss at rank r: LoRA, trained at that rank; and full fine-tuning's ΔW, cut down to it.",
) as axes:
    axes.plot(RANKS, [ranked[rank] for rank in RANKS], "o-", label="LoRA, trained at rank r")
    axes.plot(
        RANKS, [cut[rank] for rank in RANKS], "s--", label="full fine-tuning, ΔW cut to rank r"
    )
    axes.axhline(
        loss["full fine-tuning"],
        color="black",
        linestyle="--",
        linewidth=1,
        label="full fine-tuning",
    )
    axes.axhline(loss["untouched base"], color="grey", linestyle=":", label="untouched base")
    axes.set(xscale="log", xlabel="rank r", ylabel="validation loss, nats per token of y")
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.minorticks_off()
    axes.legend(fontsize=9)
gains = {rank: loss["untouched base"] - ranked[rank] for rank in RANKS}
beside = ranked[4] - loss["full fine-tuning"]
say(
    f"r = 1 gains {gains[1] / max(gains.values()):.0%} of what the best rank here does. At r = 1 the trained change is "
    f"{abs(cut[1] - ranked[1]):.3f} nats {'better' if ranked[1] < cut[1] else 'worse'} than the one that was cut: "
    f"the few directions that fine-tuning happened to use most are one thing, the best that few directions can do another. After these {STEPS} "
    f"steps r = 4, {n_lora(4, MAPS) / n_full:.1%} of the numbers, is "
    f"{abs(beside):.3f} nats {'behind' if beside > 0 else 'ahead of'} full fine-tuning. (One seed, and each at the best of the few learning rates that were tried.)"
)

# %% [markdown]
# ## The scale α/r
#
# In front of B A stands α/r, which 001 leaves out. What for? A change of rank r is a sum of r terms, and in a first step Adam
# moves each number of B by about the learning rate, however small its gradient. So more terms make a larger change: √r times as
# large if their directions have nothing to do with each other, r times if they pull the same way. Dividing by r is meant to
# make up for that, so that a learning rate that was found at one rank serves for another. We measure the change ‖s B A‖ after
# one step and at the end, and compare with a fixed scale s, the one that r = 4 has.
#
# **Predict before you run:** at a fixed scale, by how much does the first step grow from r = 1 to r = 64: 8 times, or 64? And
# where will the loss be worse for it?

# %%
ALPHA = 8.0
SCALES = {
    "α/r": {rank: ALPHA for rank in RANKS},
    "fixed": {rank: ALPHA / 4 * rank for rank in RANKS},
}


def size(method: LoRA) -> float:
    """‖s B A‖, the mean over the stacks and single matrices."""
    return mean((method.scale * low.change()).norm().item() for low in method.changes.values())


first, end, reached = {}, {}, {}
for name, alphas in SCALES.items():
    for rank in RANKS:
        method = LoRA(rank, alphas[rank], MAPS)
        tune(method, LR["LoRA"], steps=1)
        first[name, rank] = size(method)
        if alphas[rank] == ALPHA:  # trained above
            reached[name, rank], end[name, rank] = ranked[rank], size(loras[rank])
        elif rank != 16:
            method = LoRA(rank, alphas[rank], MAPS)
            reached[name, rank], end[name, rank] = tune(method, LR["LoRA"]), size(method)
table(
    [
        (
            name,
            rank,
            alphas[rank] / rank,
            first[name, rank],
            end.get((name, rank)),
            reached.get((name, rank)),
        )
        for name, alphas in SCALES.items()
        for rank in RANKS
    ],
    ["scale", "r", "s", "‖s B A‖ after a step", "at the end", "loss, y"],
    [None, "d", ".3g", ".3f", ".2f", ".3f"],
)
grows = {name: (first[name, 64] / first[name, 1], end[name, 64] / end[name, 1]) for name in SCALES}
spread = {
    name: max(reached[name, rank] for rank in (1, 4, 64))
    - min(reached[name, rank] for rank in (1, 4, 64))
    for name in SCALES
}
say(
    f"From r = 1 to r = 64 the first step becomes {grows['fixed'][0]:.1f} times as large at a fixed scale: nearer to √64 than to 64, for the rows of a random A point "
    f"every way. By the end the factor is {grows['fixed'][1]:.1f}. With α/r the two are {grows['α/r'][0]:.2f} and {grows['α/r'][1]:.2f}"
    + (
        ": it makes more than up for it, and a high rank is held back. "
        if max(grows["α/r"]) < 0.8
        else ". "
    )
    + f"With the learning rate found at r = 4 the losses at r = 1, 4 and 64 lie {spread['α/r']:.3f} nats apart under α/r, {spread['fixed']:.3f} at a fixed scale. "
    + (
        "So the scale spares a search: one learning rate does for all ranks."
        if spread["α/r"] < 0.7 * spread["fixed"]
        else "So here the scale does not spare a search."
    )
    + " (Kalajdzievski 2023 finds α/r too strong a brake, and proposes α/√r.)"
)
assert 4 < grows["fixed"][0] < 16
assert QUICK or grows["fixed"][0] > 4 * grows["α/r"][0]

# %% [markdown]
# ## Which matrices?
#
# A budget of numbers can be spent on few matrices at a high rank or on many at a low one. Hu et al. gave 18 million numbers to
# GPT-3 and found that q alone or k alone is poor, q with v good; and that was their choice in most of their experiments. They
# left the feed-forward layers alone. Here each has about what r = 4 beside all matrices costs.
#
# **Predict before you run:** which is better, q at a high rank, or all at a low one?

# %%
PLACES = {
    "q": (36, ["q"]),
    "v": (36, ["v"]),
    "q, v": (18, ["q", "v"]),
    "all of attention": (9, ["q", "k", "v", "out"]),
    "feed-forward": (7, ["up", "down"]),
    "all": (4, MAPS),
}
placed, spent = {"all": loras[4]}, {"all": ranked[4]}
for name, (rank, targets) in PLACES.items():
    if name not in placed:
        placed[name] = LoRA(rank, targets=targets)
        spent[name] = tune(placed[name], LR["LoRA"])
largest = max(0.01, loss["untouched base"] - min(spent.values()))
table(
    [
        (
            name,
            rank,
            n_lora(rank, targets),
            spent[name],
            bar(max(loss["untouched base"] - spent[name], 0), largest),
        )
        for name, (rank, targets) in PLACES.items()
    ],
    ["LoRA on", "r", "numbers", "loss, y", "gained on the untouched base"],
    [None, "d", ",", ".3f", None],
)
table(
    [
        ("q", 8, 70.4, 91.0),
        ("k", 8, 70.0, 90.8),
        ("v", 8, 73.0, 91.0),
        ("out", 8, 73.2, 91.3),
        ("q, k", 4, 71.4, 91.3),
        ("q, v", 4, 73.7, 91.3),
        ("all of attention", 2, 73.7, 91.7),
    ],
    ["published (Hu et al., 2021): GPT-3", "r", "WikiSQL, % (±0.5)", "MultiNLI, % (±0.1)"],
)
best = min(spent, key=spent.get)
order = sorted(spent, key=spent.get)
pattern = [
    spent["q, v"] < spent["q"],
    spent["all of attention"] < spent["q"],
    spent["v"] < spent["q"],
]
say(
    f"Here the order is: {'; '.join(order)}. Of what can be compared with the paper (q with v before q alone, all of attention before q alone, v "
    f"before q), {sum(pattern)} of 3 "
    f"hold. q decides only where to look; v, out and the feed-forward layers decide what is then said. From here on: {best}, the lowest validation loss."
)
assert max(n_lora(*place) for place in PLACES.values()) < 1.05 * min(
    n_lora(*place) for place in PLACES.values()
)

# %% [markdown]
# ## One stack, three matrices
#
# A trap. Like GPT-2, our base keeps W^Q, W^K and W^V below one another in one matrix of 3C × C, since one product is faster
# than three. Whoever puts LoRA beside *that* matrix gets one B of 3C × r, and one A of r × C: then q, k and v have to read the
# same r directions, and k changes too, unasked. That is another, smaller family of changes than the paper's ΔW_q and ΔW_v,
# under the same name and with the same r. In our LoRA every map has an A of its own.
#
# What one A costs can be asked of full fine-tuning's ΔW: how much of ΔW_q and ΔW_v do r terms of each hold, and r terms of the
# two stacked?
#
# **Predict before you run:** one A for two maps saves numbers. If they are spent on a higher rank, which way is ahead?


# %%
def kept(parts: list[torch.Tensor], rank: int) -> float:
    """How much of ‖·‖² the nearest matrices of this rank hold."""
    squares = [torch.linalg.svdvals(part).square() for part in parts]
    return (
        sum(square[:rank].sum() for square in squares) / sum(square.sum() for square in squares)
    ).item()


lines = []
layers = [
    [dW[f"blocks.{i}.attention.{kind}"] for kind in "qv"] for i in range(L)
]  # n_layer × 2 × (C, C)
for rank in (3, 12):
    wider = rank * 4 // 3
    lines += [
        ("an A for each", rank, 4 * rank * C, mean(kept(two, rank) for two in layers)),
        (
            "one A for both",
            rank,
            3 * rank * C,
            mean(kept([torch.cat(two)], rank) for two in layers),
        ),
        (
            "one A for both",
            wider,
            3 * wider * C,
            mean(kept([torch.cat(two)], wider) for two in layers),
        ),
    ]
table(lines, ["ΔW_q and ΔW_v", "r", "numbers a layer", "share held"], [None, "d", ",", ".1%"])
x = torch.randn(1, 5, C)  # (B, T, C)
stack = base.blocks[0].attention.qkv
with torch.inference_mode(), attached(base, placed["q, v"]):
    moved = (
        (stack(x) - torch.nn.functional.linear(x, stack.weight, stack.bias))
        .abs()
        .amax(dim=(0, 1))
        .view(3, C)
        .amax(1)
    )  # (3,)
say(
    f"At the same r one A for both holds less; for the same number of numbers it holds {lines[2][3] - lines[0][3]:+.1%} at r = {lines[0][1]} and "
    f"{lines[5][3] - lines[3][3]:+.1%} at r = {lines[3][1]}, of ‖ΔW‖². So a fair comparison names what it shares, "
    f"not r alone. And our LoRA on q and v, asked through the stack: q moves by up to {moved[0]:.2f}, k by {moved[1]:.2f}, v by {moved[2]:.2f}."
)
assert all(lines[i][3] >= lines[i + 1][3] for i in (0, 3)) and moved[1] == 0 < min(
    moved[0], moved[2]
)

# %% [markdown]
# ## Merged
#
# Now the best of it. Since B A is a matrix of the size of W, it can be added: compute W + (α/r) B A once, write it into the
# base, take the hooks out (merging, 合并). 001 §3.1.3 says that A and B are fused into the weights "by addition". With an adapter
# this cannot be done, nor with a prefix: an activation, or the softmax, stands in between.
#
# 001 §3.2.4 speaks of inserting the tuned layers at inference. Here there are two ways, hooked in and merged. They are the same
# function, if not in the same roundings.
#
# **Predict before you run:** how far apart are the scores? And if one merges a second time?

# %%
lora = placed[best].attach(base)
one = torch.tensor([xs["valid"][0] + ys["valid"][0]])  # (B, T)
with torch.inference_mode():
    hooked = base(one)  # (B, T, V)
    lora.merge()
    merged = base(one)  # (B, T, V)
    lora.merge()
    twice = base(one)  # (B, T, V)
hooks = sum(len(module._forward_hooks) for module in base.modules())
lora.detach()
with torch.inference_mode():
    apart = (merged - hooked).abs().max().item()
    does = (hooked - base(one)).abs().max().item()
say(
    f"Hooked in, LoRA moves the scores by up to {does:.1f}; merged, they differ from that by {apart:.0e}. After merging there are {hooks} hooks "
    "on the base. The second merge did nothing, for it was merged already: the same bits. Detached, the base is "
    f"{'itself again' if fingerprint(base) == before else 'another'}."
)
assert (
    apart < 1e-3 < does
    and torch.equal(merged, twice)
    and hooks == 0
    and fingerprint(base) == before
)

# %% [markdown]
# ## And out again
#
# To serve another task the change has to come out. The formula suggests: subtract what was added. In numbers with a fixed count
# of digits (W + Δ) − Δ is not W. We do it in fp32 (4 bytes a number, about 7 decimal digits), and in bf16 (2 bytes, about 2 to
# 3 digits), in which large models are kept. Then a hundred times, with the changes of four ranks in turn, as if there were four
# tasks. Our `unmerge` does not subtract: it keeps W aside and puts it back.
#
# **Predict before you run:** how many of W's numbers come back wrong, in fp32 and in bf16?

# %%
import copy


def in_a_row(parts: list[torch.Tensor]) -> torch.Tensor:
    """All numbers of some matrices, one after another."""
    return torch.cat([part.detach().flatten() for part in parts])


returned, rounded = [], {}
for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
    model = copy.deepcopy(base).to(dtype)
    low = LoRA(**lora.settings).attach(model)
    for p, learned in zip(low.trainable(), lora.trainable(), strict=True):
        p.data.copy_(learned)
    weights = [model.get_submodule(part.replace("/", ".")).weight for part in low.changes]
    own = in_a_row(weights)
    change = in_a_row([low.scale * part.change() for part in low.changes.values()])
    with torch.inference_mode():
        as_hooked, loss_hooked = model(one).float(), evaluate(model, valid)
    low.merge()
    with torch.inference_mode():
        as_merged, loss_merged, now = model(one).float(), evaluate(model, valid), in_a_row(weights)
    low.unmerge()
    often = own.clone()
    for i in range(100):
        other = loras[RANKS[i % len(RANKS)]]
        added = in_a_row([other.scale * other.changes[part].change() for part in low.changes]).to(
            dtype
        )
        often = (often + added) - added
    for how, back in (
        ("subtracted", now - change),
        ("subtracted, 100 times", often),
        ("put back (ours)", in_a_row(weights)),
    ):
        returned.append(
            (name, how, (back - own).abs().max().item(), (back != own).float().mean().item())
        )
    low.detach()
    same = (now == own)[change != 0].float().mean().item()
    rounded[name] = (
        (as_hooked - hooked).abs().max().item(),
        (as_merged - hooked).abs().max().item(),
        loss_hooked,
        loss_merged,
        same,
    )
table(
    returned,
    ["", "un-merged by", "largest error", "numbers of W that came back wrong"],
    [None, None, ".0e", ".1%"],
)
table(
    [(name, *values) for name, values in rounded.items()],
    [
        "",
        "scores off, hooked",
        "scores off, merged",
        "loss, hooked",
        "loss, merged",
        "stay as they were",
    ],
    [None, ".0e", ".0e", ".4f", ".4f", ".1%"],
)
wrong = {(name, how): (largest, share) for name, how, largest, share in returned}
say(
    f"Subtracted in fp32, {wrong['fp32', 'subtracted'][1]:.0%} of the numbers come back changed, in their last digits: a base that no fingerprint knows. In bf16 "
    f"{wrong['bf16', 'subtracted'][1]:.0%}, by up to {wrong['bf16', 'subtracted'][0]:.0e}; after a hundred rounds {wrong['bf16', 'subtracted, 100 times'][1]:.0%}. Put back "
    f"from a copy, W is bit for bit what it was, in both.\n\nAnd bf16 loses something on the way in: {rounded['bf16'][4]:.0%} of the numbers that LoRA would change stay as they "
    f"were, since the change is below their last digit. (“Scores off” is measured from fp32, hooked in.) Merging in bf16 moves the loss by {rounded['bf16'][3] - rounded['bf16'][2]:+.4f}."
)
assert all(
    wrong[name, "put back (ours)"] == (0, 0) and wrong[name, "subtracted"][1] > 0
    for name in rounded
)
assert wrong["bf16", "subtracted"][0] > 100 * wrong["fp32", "subtracted"][0]

# %% [markdown]
# ## At the base's own speed
#
# What does it cost to write with LoRA? Hooked in, each tuned matrix has two thin products to add. Merged, there is nothing that
# could cost time: the same matrices, other numbers. Measured in turns, one text at a time, so that the machine's moods fall on
# all alike. (Our `generate` has a short way for one token that does without the calling of modules; a model with any hook on it
# cannot take it. So that this is not held against LoRA, a base with a hook that does nothing runs along.)
#
# **Predict before you run:** hooked in, how much longer does a token take?

# %%
import statistics
import time

N, ROUNDS = (8, 1) if QUICK else (80, 7)
seconds: dict[str, list[float]] = {
    "base": [],
    "base, with an idle hook": [],
    "LoRA, hooked in": [],
    "LoRA, merged": [],
}
written = {}
for _ in range(ROUNDS):
    for name in seconds:
        idle = base.norm.register_forward_hook(lambda *_: None) if "idle" in name else None
        if name.startswith("LoRA"):
            lora.attach(base)
        if "merged" in name:
            lora.merge()
        began = time.perf_counter()
        written[name] = generate(base, xs["valid"][:1], N)
        seconds[name].append(time.perf_counter() - began)
        if idle:
            idle.remove()
        if name.startswith("LoRA"):
            lora.detach()
ratios = {
    name: statistics.median(a / b for a, b in zip(own, seconds["base"], strict=True))
    for name, own in seconds.items()
}
table(
    [
        (
            name,
            1000 * statistics.median(own) / N,
            ratios[name],
            bar(ratios[name], max(ratios.values())),
        )
        for name, own in seconds.items()
    ],
    ["", "ms a token", "times the base's", ""],
    [None, ".2f", ".2f", None],
)
say(
    f"Merged it takes {ratios['LoRA, merged']:.2f} of the base's time, hooked in {ratios['LoRA, hooked in']:.2f}, of which "
    f"{ratios['base, with an idle hook']:.2f} would be so with any hook. The texts of the two are "
    + (
        "the same."
        if written["LoRA, hooked in"] == written["LoRA, merged"]
        else "not the same to the last token: where two tokens are nearly as likely, a rounding decides."
    )
    + " The price of merging: one base, one task at a time. Hooked in, the base stays free for another (lesson 13)."
)
assert QUICK or ratios["LoRA, merged"] < ratios["LoRA, hooked in"]

# %% [markdown]
# ## The matrix that it refuses
#
# One more matrix is in the base, the largest: the one before the vocabulary, which turns h into scores. Why is it not among
# `MAPS`? Ask for it.
#
# Its rows are the token embeddings E: a token's vector when it is read, and what h has to point at when it is to be said
# (weight tying, 权重共享; lesson 3). Hooked in, a change there would act on the scores alone; merged, on every token that is read
# as well. That is no merging any more. We do by hand what the package refuses, with A and B at random, of the size of those
# that were trained, as the scores are the only place where the change was meant to act.
#
# **Predict before you run:** merged, will the scores be farther from the hooked ones than those are from the base's?

# %%
from minitransformer.errors import UserError

try:
    LoRA(targets=["head"]).attach(base)
except UserError as error:
    say(f"“{error}”")
else:
    raise AssertionError("LoRA went onto the tied matrix")
torch.manual_seed(0)
some = next(iter(lora.changes.values()))
E = base.token_embedding.weight.detach()
A = torch.randn(r, C) * some.a.std().item()  # (r, C)
B = torch.randn(len(E), r) * some.b.std().item()  # (V, r)
changed = copy.deepcopy(base)
with torch.inference_mode():
    as_meant = base(one, return_hidden=True) @ (E + lora.scale * B @ A).T  # (B, T, V)
    changed.token_embedding.weight += lora.scale * B @ A
    as_merged = changed(one)  # (B, T, V)
    plain = base(one)  # (B, T, V)
meant, on_top = ((a - b).abs().max().item() for a, b in ((as_meant, plain), (as_merged, as_meant)))
table(
    [
        ("the head, hooked in: from the base", meant),
        ("the head, merged: from hooked in", on_top),
        ("LoRA above, merged: from hooked in", apart),
    ],
    ["", "largest difference of a score"],
    [None, ".1e"],
)
say(
    f"Where the matrix is tied, merging moves the scores {on_top / meant:.1f} times as far as the change itself was meant to, on top of it: another model, "
    "and no error message in sight. So it is refused."
)
assert on_top > 100 * apart

# %% [markdown]
# ## What the base still knows
#
# 001 §3.1.3: since A and B are fused in by addition, LoRA "keeps the general semantic representations of the pretrained model".
# Test it where the base is at home, on plain texts of the tiny world.
#
# **Predict before you run:** which forgets more, full fine-tuning or LoRA?

# %%
from minitransformer.course.data import DATA
from minitransformer.text.corpora import eval_windows, read_documents, token_stream

plain_text = eval_windows(
    token_stream(read_documents(DATA / "text" / "valid.txt")[:200], tokenizer),
    128,
    16,
    most=2 if QUICK else 32,
)
knows = {"untouched base": evaluate(base, plain_text)}
for name, method in {
    "full fine-tuning": full,
    **{f"LoRA on all, r = {rank}": loras[rank] for rank in (1, 64)},
    f"LoRA on {best}, r = {lora.rank}": lora,
}.items():
    with attached(base, method):
        knows[name] = evaluate(base, plain_text)
knows["base, everything detached"] = evaluate(base, plain_text)
table(
    [(name, value, value - knows["untouched base"]) for name, value in knows.items()],
    ["", "loss, plain text", "change"],
    [None, ".3f", "+.3f"],
)
ours, theirs = (
    knows[name] - knows["untouched base"]
    for name in (f"LoRA on {best}, r = {lora.rank}", "full fine-tuning")
)
say(
    f"While it is on, LoRA costs the base {ours:+.3f} nats a token on texts that are none of its business, full fine-tuning {theirs:+.3f}. "
    + (
        "So addition keeps nothing by itself: a matrix of low rank can do harm in a few directions as well. "
        if ours > 0.05
        else ""
    )
    + "What is kept for certain is what can be taken off: detached, the base is the old one to the last bit."
)
assert knows["base, everything detached"] == knows["untouched base"]

# %% [markdown]
# ## Once, on the test
#
# Nothing was chosen on these: new tables of the kinds that training had, and of four kinds that it had not (lesson 9).
#
# **Predict before you run:** who tells more of a table's values, LoRA or full fine-tuning?

# %%
import math

from minitransformer.course.tinyworld import slot_values
from minitransformer.metrics import slot_accuracy

final, told = {}, {}
for name, method in {
    "untouched base": None,
    "full fine-tuning": full,
    f"LoRA on {best}": lora,
}.items():
    for split in ("test_seen", "test_unseen"):
        with attached(base, *([method] if method else [])):
            texts = generate_texts(base, tokenizer, xs[split], MOST)
        final[name, split] = table_scores(texts, rows[split])
        told[name, split] = torch.tensor(
            [
                slot_accuracy([text], [slot_values(row["table"])])[0]
                for text, row in zip(texts, rows[split], strict=True)
            ]
        )
table(
    [(name, split.removeprefix("test_"), *score) for (name, split), score in final.items()],
    ["on the test", "kinds", *SCORES],
    [None, None, *FORMS],
)
table(
    [
        ("full fine-tuning", 354_920_000, 68.2),
        ("adapters", 370_000, 66.3),
        ("prefix", 350_000, 69.7),
        ("LoRA", 350_000, 70.4),
    ],
    ["published (Hu et al., 2021): GPT-2 Medium on E2E", "numbers", "BLEU"],
    [None, ",", ".1f"],
)
lead = torch.cat(
    [
        told[f"LoRA on {best}", split] - told["full fine-tuning", split]
        for split in ("test_seen", "test_unseen")
    ]
)
error = math.sqrt(lead.var().item() / len(lead))
say(
    f"Over both, LoRA tells {100 * lead.mean():+.1f} points of a table's values against full fine-tuning (standard error {100 * error:.1f}): "
    + (
        "no difference that could be told from chance."
        if abs(lead.mean()) < 2 * error
        else "more than chance explains."
        if lead.mean() > 0
        else "less, and more clearly than by chance."
    )
    + f" Both had {STEPS} steps, and this is one seed; lesson 14 gives them more."
)
assert fingerprint(base) == before

# %% [markdown]
# ## The answer

# %%
n, (slots, slots_full) = (
    n_lora(*PLACES[best]),
    (final[name, "test_seen"].slots for name in (f"LoRA on {best}", "full fine-tuning")),
)
say(
    f"Few: {n:,} of them, {n / n_full:.1%} of the base's, in two thin matrices beside each of the frozen ones ({best}, r = {lora.rank}), tell "
    f"{slots:.0%} of a new table's values, where a copy with all {n_full:,} changed tells {slots_full:.0%}. "
    f"And once added to W they cost nothing any more: the model writes at {1 / ratios['LoRA, merged']:.2f} times the base's own speed."
)

# %% [markdown]
# To try next:
#
# - Let A be zero and B random. Does it begin as the base, and who gets the first gradient? Is it as good after training?
# - Set `dropout=0.1` on the way to A and compare merged with hooked in, once in `base.train()` and once in `base.eval()`. Which is fair?
# - Cut the trained LoRA of r = 64 down to its first term, by its singular values, as we did with ΔW. Is it as good as the one of r = 1?
#
# Further reading: "LoRA: Low-Rank Adaptation of Large Language Models" (Hu et al., 2021); "Intrinsic Dimensionality Explains
# the Effectiveness of Language Model Fine-Tuning" (Aghajanyan et al., 2021); "A Rank Stabilization Scaling Factor for
# Fine-Tuning with LoRA" (Kalajdzievski, 2023); "LoRA Learns Less and Forgets Less" (Biderman et al., 2024); "Towards a Unified
# View of Parameter-Efficient Transfer Learning" (He et al., 2022).
