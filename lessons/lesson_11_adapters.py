"""Adapters: small layers between the frozen ones

question: If a frozen model may have a few small layers of its own, where do they belong, how should they begin, and how small can they be?
minutes: 1.4
documents: 001 §3.1.2 Adapter, §3.2 算法步骤详解 (§3.2.1 to §3.2.4); 003 §2 Introduction
needs: 2, 3, 5, 9
"""

# %% [markdown]
# ## A layer between layers
#
# A prefix (lesson 9) gives a frozen model something more to read. An adapter (适配器) gives it something more to compute: between
# two frozen layers it puts a small one that is trained (Houlsby et al. 2019). 001 §3.1.2 writes
#
#     h = PretrainedLayer(x)
#     z = Activation(W_down h)
#     o = W_up z + h
#
# with W_down ∈ R^{d×r} and W_up ∈ R^{r×d}. h has d numbers (our C) for each token. W_down presses them into r, the bottleneck
# dimension (瓶颈维度), r ≪ d; W_up spreads those r over d again; and h is added, so that the two matrices only have to say what
# should be *different* about h. Between them stands a non-linear activation, in 001 and here a ReLU: it makes negative
# numbers 0. In short o = A(h) = h + f(h).
#
# Where the document is loose: take its shapes and its products together.
#
# **Predict before you run:** which of these products stop?

# %%
import math

import torch
from minitransformer.course.show import say, table
from minitransformer.tuning import Adapter
from minitransformer.tuning.adapter import Bottleneck

d, r = 128, 16
torch.manual_seed(0)
h, W_down, W_up = torch.randn(d), torch.randn(d, r), torch.randn(r, d)
z = torch.randn(r)
products = {
    "W_down h": lambda: W_down @ h,
    "W_up z": lambda: W_up @ z,
    "h W_down": lambda: h @ W_down,
    "z W_up": lambda: z @ W_up,
}
outcome = {}
for name, product in products.items():
    try:
        outcome[name] = f"{len(product())} numbers"
    except RuntimeError as problem:
        outcome[name] = f"stops: {str(problem).split(', got')[0]}"
table(outcome.items(), ["W_down (d, r), W_up (r, d)", "gives"])
f = Bottleneck(d, r, "zero")
with torch.no_grad():
    f.down.weight.copy_(W_down.T)  # (r, C)
    f.up.weight.copy_(W_up.T)  # (C, r)
    by_rows = (h @ W_down).relu() @ W_up  # (C,)
    apart = ((f(h[None, None])[0, 0] - by_rows).norm() / by_rows.norm()).item()
say(
    f"Our f keeps down {tuple(f.down.weight.shape)} and up {tuple(f.up.weight.shape)}; from relu(h W_down) W_up it differs by {apart:.0e}."
)
assert (
    outcome["W_down h"].startswith("stops")
    and outcome["W_up z"].startswith("stops")
    and apart < 1e-5
)

# %% [markdown]
# The shapes are right for h as a *row* (h W_down), the formula is written for h as a *column*. PyTorch's `nn.Linear` keeps the
# transposed matrix, (r, d), and then W_down h is right and the printed shape is not. Our code also gives both maps a bias, as Houlsby
# et al. do; 001 names none.

# %% [markdown]
# ## The task
#
# Lesson 9's, so that the two can be compared: a table x is to become sentences y, by the frozen GPT base, under the same four measures
# (BLEU; *slots*, the values that are told; *whole*, the tables told with all of them; *a table again*, the texts that are no
# sentences). Beside them stands the loss on plain text of the tiny world, which the base has learned to read: what an adapter does to
# *that* will matter.
#
# **Predict before you run:** which of the losses is lower, that of a description below its table, or that of any text?

# %%
from minitransformer import metrics
from minitransformer.course import trial
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.course.tinyworld import slot_values
from minitransformer.generation.sampling import generate_texts
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.text.corpora import eval_windows, read_documents, token_stream
from minitransformer.training.loop import Log, TrainConfig, evaluate
from minitransformer.tuning import FullFineTuning, PrefixTuning, Report, attached, fingerprint, load

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, L, C = tokenizer.eot_id, base.config.n_layer, base.config.d_model
before = fingerprint(base)
xs, ys, rows = {}, {}, {}
for split, most in (
    ("train", 64 if QUICK else None),
    ("valid", 60),
    ("test_seen", 100),
    ("test_unseen", 100),
):
    most = min(8, most) if QUICK and split != "train" else most
    xs[split], ys[split] = (those[:most] for those in task_ids("table_to_text", split, tokenizer))
    rows[split] = task_rows("table_to_text", split)[:most]
valid = eval_completions(xs["valid"], ys["valid"], eot, batch_size=30)
plain_text = eval_windows(
    token_stream(read_documents(DATA / "text" / "valid.txt")[:200], tokenizer),
    128,
    16,
    most=2 if QUICK else 32,
)
MOST = 16 if QUICK else 90  # tokens to write
SCORES, FORMS = ["BLEU", "slots", "whole", "a table again"], [".1f", ".1%", ".1%", ".0%"]
texts = {"untouched base": generate_texts(base, tokenizer, xs["valid"], MOST)}
scores = {"untouched base": table_scores(texts["untouched base"], rows["valid"])}
loss_before, plain_before = evaluate(base, valid), evaluate(base, plain_text)
say(
    f"> x: {rows['valid'][0]['source']}\n\n> y: {rows['valid'][0]['target']}\n\n> the base: {' '.join(texts['untouched base'][0].split())[:200]}"
)
table(
    [("untouched base", plain_before, loss_before, *scores["untouched base"])],
    ["on validation", "loss, plain text", "loss, y", *SCORES],
    [None, ".3f", ".3f", *FORMS],
)

# %% [markdown]
# ## Where it stands
#
# 001 §3.2.1 draws: self-attention → adapter → feed-forward → adapter → layer norm. Two adapters a layer, then, as Houlsby et al. have
# it. What the drawing leaves out is the stream that a layer reads from and adds to, the residual connection (残差连接; lesson 2). The adapter stands *inside* it: it
# changes what a sublayer gives, before that is added, and before any norm (our GPT's norms stand in front of the sublayers; in a
# BERT, as in the drawing, one comes behind). So for our layer
#
#     h = Attention(norm(x)),     x ← x + A₁(h)
#     h = FFN(norm(x)),           x ← x + A₂(h)
#
# Two later variants: Pfeiffer et al. (2021) leave A₁ out; He et al. (2022) let the bottleneck read what the feed-forward layer *reads* and not what it
# gives, beside it and not behind it, parallel (并行): x ← x + FFN(norm(x)) + s · f(norm(x)), with a scale s.
#
# The whole base is written out here with all three, and compared with the package's adapters, which only hook into the base. Random
# numbers are in them, so that they do something.
#
# **Predict before you run:** adapters that change nothing at all, f = 0, but the drawing as it is, without a stream to add to: what loss on plain text?


# %%
def by_hand(ids: torch.Tensor, method: Adapter, residual: bool = True) -> torch.Tensor:
    """The base with adapters, written out: (B, T) → (B, T, V)."""
    x = base.token_embedding(ids) + base.position_embedding.weight[: ids.size(1)]  # (B, T, C)
    for i, block in enumerate(base.blocks):
        f = {
            place: method.bottlenecks[f"blocks/{i}/{place}"]
            for place in ("attention", "mlp")
            if f"blocks/{i}/{place}" in method.bottlenecks
        }
        h = block.attention(block.norm1(x))  # (B, T, C)
        o = h + f["attention"](h) if "attention" in f else h  # (B, T, C)
        x = x + o if residual else o  # (B, T, C)
        read = block.norm2(x)  # (B, T, C)
        h = block.mlp(read)  # (B, T, C)
        o = h + method.scale * f["mlp"](read if method.placement == "parallel" else h)  # (B, T, C)
        x = x + o if residual else o  # (B, T, C)
    return base.norm(x) @ base.token_embedding.weight.T  # (B, T, V)


def cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> float:
    """Nats per token."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    ).item()


ids = plain_text[0]["ids"][:4]  # (B, T+1)
placed = []
with torch.inference_mode():
    for placement, width, reads in (
        ("houlsby", r, "what each sublayer gives"),
        ("pfeiffer", 2 * r, "what the feed-forward layer gives"),
        ("parallel", 2 * r, "what the feed-forward layer reads"),
    ):
        method = Adapter(
            width, placement, init="xavier", scale=4.0 if placement == "parallel" else 1.0
        )
        with attached(base, method):
            hooked, n = base(ids), method.report().trained
        placed.append(
            (
                placement,
                width,
                reads,
                len(method.bottlenecks),
                n,
                (hooked - base(ids)).abs().max().item(),
                (hooked - by_hand(ids, method)).abs().max().item(),
            )
        )
    nothing = Adapter(r)
    with attached(base, nothing):
        pass
    plain, drawn = (
        cross_entropy(base(ids), ids),
        cross_entropy(by_hand(ids, nothing, residual=False), ids),
    )
table(
    placed,
    ["", "r", "f reads", "adapters", "numbers", "logits move by", "package − by hand"],
    [None, "d", None, "d", ",", ".1f", ".0e"],
)
say(
    f"On this text the base has a loss of {plain:.2f}. With the drawing as it is, and adapters that are exactly A(h) = h, it has {drawn:.2f}; a model that holds "
    f"all {tokenizer.n_vocab:,} tokens equally likely has ln V = {math.log(tokenizer.n_vocab):.2f}. The residual has to be read into it."
)
assert all(row[-1] < 1e-2 < row[-2] for row in placed) and drawn > plain + 1

# %% [markdown]
# Since A(h) = h + f(h) has a path of its own around f, "before the sum" and "behind it" would both give x + h + f(·). The
# places differ in what f gets to read: the sublayer's news h, or the stream x + h, or, in parallel, what the sublayer itself got.

# %% [markdown]
# ## How many numbers?
#
# A bottleneck has r · d numbers in W_down, d · r in W_up, and r + d biases:
#
#     Houlsby: 2L (2dr + r + d)          Pfeiffer, parallel: L (2dr + r + d)          prefix (lesson 9): 2L P d
#
# Biases aside, one more number in every bottleneck costs as much as two virtual tokens. A layer of the base itself has about 12 d² numbers,
# so that Houlsby's adapters come to about r / 3d of the base (of its layers): what r has to be for 2–4 % depends on the width of the base alone.
#
# `report()` counts, and the formula is asserted; beside it stands GPT-2 Medium, by the formula.
#
# **Predict before you run:** what r is 2–4 % of our base, with d = 128?

# %%
from minitransformer.models.gpt import GPT, GPTConfig


def n_houlsby(L: int, d: int, r: int) -> int:
    """Numbers in Houlsby's adapters."""
    return 2 * L * (2 * d * r + r + d)


def count(method) -> Report:
    """What a method trains and keeps on this base."""
    with attached(base, method):
        return method.report()


with torch.device("meta"):  # tensors with a shape and no numbers (lesson 9)
    medium = GPT(
        GPTConfig(
            vocab_size=50257, n_positions=1024, n_layer=24, n_head=16, d_model=1024, d_ff=4096
        )
    )
n_medium = sum(p.numel() for p in medium.parameters())
counted = {width: count(Adapter(width)) for width in (1, 4, 16, 64)}
table(
    [
        (
            width,
            own.trained,
            own.trained_fraction,
            n_houlsby(24, 1024, width),
            n_houlsby(24, 1024, width) / n_medium,
        )
        for width, own in counted.items()
    ],
    ["r", "numbers", "of our base", "on GPT-2 Medium", "of it"],
    ["d", ",", ".2%", ",", ".2%"],
)
R, P = 16, 33  # for nearly the same number of numbers
kept = {
    f"adapters, r = {R}": count(Adapter(R)),
    "… and the norms of the layers, which Houlsby et al. train too": count(Adapter(R, norms=True)),
    f"prefix, P = {P}": count(PrefixTuning(P)),
    "full fine-tuning": count(FullFineTuning()),
}
table(
    [(name, own.stored, own.stored_fraction) for name, own in kept.items()],
    ["", "numbers kept", "of the base"],
    [None, ",", ".2%"],
)
ours, theirs = kept[f"adapters, r = {R}"], kept[f"prefix, P = {P}"]
say(
    f"r = {R} is {ours.stored_fraction:.1%} of our base. 001 names W_down and W_up alone; without biases it would be {2 * L * 2 * C * R:,}, "
    f"{1 - 2 * L * 2 * C * R / ours.stored:.1%} less."
)
assert all(own.trained == own.stored == n_houlsby(L, C, width) for width, own in counted.items())
assert (
    theirs.stored == 2 * L * P * C
    and abs(theirs.stored / ours.stored - 1) < 0.02
    and 0.02 < ours.stored_fraction < 0.04
)

# %% [markdown]
# ## How it begins
#
# 001 §3.2.2 lets both matrices begin by Xavier's rule (Xavier 初始化): normally distributed, mean 0, variance 2 / (d_in + d_out).
# That rule was made for a network in which every layer is new: it keeps signals as large as they came in. But here
# the other layers are trained already, and each expects what it was trained to read. Houlsby et al. ask for the opposite: begin
# *near the identity* (恒等), f ≈ 0, by a standard deviation of 0.01 for both. Or exactly there, with W_up = 0.
#
# How far from the identity is A(h)? With variance v in both matrices, each of the r numbers in the bottleneck has the variance
# v ‖h‖²; the ReLU takes away half of its square; and W_up brings r of them to each of d places. So on average
#
#     ‖A(h) − h‖ / ‖h‖  ≈  v √(d r / 2)          Xavier, v = 2 / (d + r):   √(2 d r) / (d + r)
#
# **Predict before you run:** put in d = 128 and r = 16, for Xavier and for v = 0.01². Then: what does each do to the loss on plain text?

# %%
INITS = ("xavier", "normal", "zero")
VARIANCE = {"xavier": 2 / (C + R), "normal": 0.01**2, "zero": 0.0}
changes, losses_at_start, plain_at_start = {}, {}, {}
methods = {}
for init in INITS:
    torch.manual_seed(0)
    methods[init] = Adapter(R, init=init).attach(base)
    changes[init] = []  # one number for each sublayer, in the order in which they are run

    def measure(
        bottleneck: Bottleneck, args: tuple, f_h: torch.Tensor, into: list = changes[init]
    ) -> None:
        """‖A(h) − h‖ / ‖h‖, the mean over tokens."""
        into.append((f_h.norm(dim=-1) / args[0].norm(dim=-1)).mean().item())

    watching = [
        bottleneck.register_forward_hook(measure)
        for bottleneck in methods[init].bottlenecks.values()
    ]
    with torch.inference_mode():
        base(ids)
    for handle in watching:
        handle.remove()
    losses_at_start[init], plain_at_start[init] = evaluate(base, valid), evaluate(base, plain_text)
    methods[init].detach()
SUBLAYERS = [f"{kind} {i + 1}" for i in range(L) for kind in ("attn", "ffn")]
expected = {init: v * math.sqrt(C * R / 2) for init, v in VARIANCE.items()}
table(
    [(name, *(changes[init][i] for init in INITS)) for i, name in enumerate(SUBLAYERS)]
    + [
        ("mean", *(sum(changes[init]) / len(SUBLAYERS) for init in INITS)),
        ("by the formula", *expected.values()),
    ],
    ["‖A(h) − h‖ / ‖h‖", *INITS],
    [None, ".3f", ".4f", ".0f"],
)
table(
    [
        (
            init,
            plain_at_start[init],
            plain_at_start[init] - plain_before,
            losses_at_start[init],
            losses_at_start[init] - loss_before,
        )
        for init in INITS
    ],
    ["before any training", "loss, plain text", "change", "loss, y", "change"],
    [None, ".3f", "+.4f", ".3f", "+.4f"],
)
say(
    f"By Xavier's rule every sublayer's answer is changed by {min(changes['xavier']):.0%} to {max(changes['xavier']):.0%} of its size, in a random direction, before anything was learned: on plain text that "
    f"costs {plain_at_start['xavier'] - plain_before:+.3f} nats a token. With 0.01 it is {max(changes['normal']):.1%} at most, and with W_up = 0 nothing, to the last bit. The formula also says when Xavier is worst: "
    f"at r = d ({math.sqrt(2) / 2:.0%}); and for GPT-2 Medium with r = 64 it is {math.sqrt(2 * 1024 * 64) / (1024 + 64):.0%}: a larger model is not spared."
)
assert plain_at_start["zero"] == plain_before and losses_at_start["zero"] == loss_before
assert plain_at_start["xavier"] - plain_before > 10 * abs(plain_at_start["normal"] - plain_before)
assert all(
    0.5 < sum(changes[init]) / len(SUBLAYERS) / expected[init] < 2 for init in ("xavier", "normal")
)

# %% [markdown]
# ## The first hundred steps
#
# Does a bad beginning matter, once there is training? The three get the same batches of 8 in the same order, and each the learning rate that
# did best for it on validation (Xavier's got the largest).
#
# **Predict before you run:** after how many steps is Xavier's loss back at that of the untouched base? Will it have caught up with the others at the end?

# %%
FEW, MANY = (3, 6) if QUICK else (15, 100)
EVERY = max(1, MANY // 10)
LR = {"xavier": 1e-2, "normal": 3e-3, "zero": 3e-3, "prefix": 3e-3, "full": 1e-4}


def tune(method, lr: float, steps: int, every: int = 0) -> Log:
    """Train a method on batches of 8, and take it off again; where it has no numbers yet, seed 0 decides them."""
    torch.manual_seed(0)
    batches = Completions(
        xs["train"],
        ys["train"],
        eot,
        batch_size=2 if QUICK else 8,
        n_positions=base.config.n_positions - P,
        seed=0,
    )
    config = TrainConfig(
        steps, lr, warmup=steps // 12, final_lr=0.02, weight_decay=0.0, eval_every=every
    )
    return trial.tune(base, method, batches, config, valid=valid, progress=False).log


logs = {}
for init, method in methods.items():  # each as it was measured above
    logs[init] = tune(method, LR[init], MANY, EVERY)
curves = {
    init: [(0, losses_at_start[init])] + [(row["step"], row["loss"]) for row in logs[init].valid]
    for init in INITS
}
with figure(
    "start",
    "Left: how far each adapter is from the identity before training (with W_up = 0 it is 0, and not drawn). Right: validation loss in the first steps.",
    (11, 4),
    1,
    2,
) as (left, right):
    for init, mark in (("xavier", "o"), ("normal", "s")):
        left.plot(range(len(SUBLAYERS)), changes[init], mark, label=init)
        left.axhline(
            expected[init],
            color="grey",
            linestyle=":",
            label="by the formula" if init == "normal" else None,
        )
    left.set(yscale="log", ylim=(1e-3, 1), ylabel="‖A(h) − h‖ / ‖h‖", xticks=range(len(SUBLAYERS)))
    left.set_xticklabels(SUBLAYERS, rotation=45, ha="right")
    for (init, curve), style in zip(curves.items(), ("o-", "s--", "^:"), strict=True):
        right.plot(*zip(*curve, strict=True), style, label=init)
    right.axhline(loss_before, color="grey", linestyle=":", label="untouched base")
    right.set(
        xlabel="step (8 tables each)", ylabel="validation loss, nats per token of y", yscale="log"
    )
    right.set_yticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"])
    right.minorticks_off()
    for ax in (left, right):
        ax.legend(fontsize=9)
end = {
    init: min(loss for _, loss in curve[1:]) for init, curve in curves.items()
}  # training keeps the weights that validated best
steps = [step for step, _ in curves["zero"]]
shown = sorted({*steps[:2], *steps[::2]})
table(
    [(init, *(dict(curves[init])[step] for step in shown)) for init in INITS],
    ["loss after step", *map(str, shown)],
    [None] + [".3f"] * len(shown),
)


def reaches(curve: list, loss: float) -> float | None:
    """The step at which a curve is first down at this loss, between two evaluations by a straight line; None: never."""
    for (step0, loss0), (step1, loss1) in zip(curve, curve[1:], strict=False):
        if loss0 <= loss:
            return step0
        if loss1 <= loss:
            return step0 + (step1 - step0) * (loss0 - loss) / (loss0 - loss1)
    return None


back, overtaken = reaches(curves["xavier"], loss_before), reaches(curves["zero"], end["xavier"])
behind = end["xavier"] - end["zero"]
say(
    (
        "Xavier begins no worse on y than the untouched base"
        if back == 0
        else f"Xavier is back at the untouched base's loss after about {back:.0f} steps"
        if back is not None
        else f"Xavier is not back at the untouched base's loss after {MANY} steps"
    )
    + (
        f"; at the end it is {behind:.3f} nats behind the zero start, which had been there after about {overtaken:.0f} of {MANY} steps. "
        if behind > 0 and overtaken is not None
        else f"; at the end it is {abs(behind):.3f} nats {'behind' if behind > 0 else 'ahead of'} the zero start. "
    )
    + (
        "What the document's start costs is steps: the random part has to be unlearned before anything is gained. "
        if behind > 0.003
        else "So training makes up for the document's start, within these steps. "
    )
    + f"Nearly the identity ends {abs(end['normal'] - end['zero']):.3f} nats {'behind' if end['normal'] > end['zero'] else 'ahead of'} exactly the identity"
    + (
        ": where both matrices are tiny, each lets only a tiny gradient through to the other; where W_up alone is 0, W_down is of full size. "
        if end["normal"] > end["zero"] + 0.003
        else ". "
    )
    + "(One seed; lesson 14 measures with many.) From here on: W_up = 0."
)
assert QUICK or all(loss < loss_before for loss in end.values())
assert curves["xavier"][0][1] > loss_before + 0.1 and curves["xavier"][1][1] > curves["zero"][1][1]

# %% [markdown]
# ## Three places, one budget
#
# Houlsby's adapters are twice as many as Pfeiffer's or the parallel ones, so those may be twice as wide for nearly the same count.
#
# **Predict before you run:** which is better, many narrow ones or few wide ones? And does it matter what they read?


# %%
def try_out(method, lr: float = LR["zero"]) -> float:
    """The validation loss of a method after a few steps."""
    return tune(method, lr, FEW).valid[-1]["loss"]


places = {
    "houlsby": {"width": R},
    "pfeiffer": {"width": 2 * R, "placement": "pfeiffer"},
    "parallel": {"width": 2 * R, "placement": "parallel", "scale": 4.0},
}
sizes = {name: count(Adapter(**settings)).stored for name, settings in places.items()}
few = {name: try_out(Adapter(**settings)) for name, settings in places.items()}
gained = {name: loss_before - loss for name, loss in few.items()}
table(
    [
        (
            name,
            places[name]["width"],
            sizes[name],
            few[name],
            bar(gained[name], max(0.01, *gained.values())),
        )
        for name in places
    ],
    ["placement", "r", "numbers", f"loss after {FEW} steps", "gained on the untouched base"],
    [None, "d", ",", ".3f", None],
)
best, worst = min(few, key=few.get), max(few, key=few.get)
say(
    f"After {FEW} steps '{best}' is ahead, '{worst}' {few[worst] - few[best]:.3f} nats behind it, with as many numbers. Half as many adapters are also half as many "
    "additional layers to run through, and a parallel one need not wait for the layer that it stands beside."
)
assert max(sizes.values()) < 1.02 * min(sizes.values())

# %% [markdown]
# ## How narrow?
#
# r ≪ d, says 001 §3.1.2, and leaves open how much less. Four widths of Houlsby's adapters, as few steps each as before, the same learning rate.
#
# **Predict before you run:** how much of what r = 64 gains does r = 1 gain, a single number between W_down and W_up?

# %%
widths = {width: few["houlsby"] if width == R else try_out(Adapter(width)) for width in counted}
full_few = try_out(FullFineTuning(), LR["full"])
with figure(
    "width", f"Validation loss after {FEW} steps, by the adapters' numbers as a share of the base."
) as axes:
    axes.plot(
        [counted[width].stored_fraction for width in widths],
        list(widths.values()),
        "o-",
        label="adapters (Houlsby)",
    )
    for width, loss in widths.items():
        axes.annotate(
            f"r = {width}",
            (counted[width].stored_fraction, loss),
            textcoords="offset points",
            xytext=(0, 9),
            ha="center",
        )
    axes.axvspan(0.02, 0.04, color="grey", alpha=0.2, label="2–4 %")
    axes.axhline(full_few, color="black", linestyle="--", label="full fine-tuning, 100 %")
    axes.axhline(loss_before, color="grey", linestyle=":", label="untouched base")
    axes.set(
        xscale="log",
        xlabel="numbers trained, as a share of the base",
        ylabel="validation loss, nats per token of y",
        ylim=(0, None),
    )
    axes.set_xticks([0.003, 0.01, 0.03, 0.1], ["0.3 %", "1 %", "3 %", "10 %"])
    axes.minorticks_off()
    axes.legend(fontsize=9, loc="lower left")
table(
    [
        (
            width,
            counted[width].stored_fraction,
            loss,
            bar(loss_before - loss, max(0.01, loss_before - min(widths.values()))),
        )
        for width, loss in widths.items()
    ],
    ["r", "of the base", f"loss after {FEW} steps", "gained on the untouched base"],
    ["d", ".2%", ".3f", None],
)
losses = list(widths.values())  # each width is four times the one before
bought = [narrow - wide for narrow, wide in zip(losses, losses[1:], strict=False)]
say(
    f"r = 1 gains {(loss_before - losses[0]) / (loss_before - losses[-1]):.0%} of what r = 64 gains, with {counted[1].stored / counted[64].stored:.0%} of its numbers. Four times the width buys "
    f"{bought[0]:+.3f}, then {bought[1]:+.3f}, then {bought[2]:+.3f} nats: "
    + (
        "less each time, while the price is fourfold each time. "
        if bought[0] > bought[1] > bought[2]
        else "not steadily less, within so few steps; but the price is fourfold each time. "
    )
    + f"Everything, trained for as long, comes to {full_few:.3f}."
)

# %% [markdown]
# ## A larger learning rate
#
# 001 §3.2.3: since an adapter has so many fewer parameters than the model, it can be trained with a larger learning rate and for fewer
# epochs, which is faster. Two claims and a conclusion; first the learning rate. Both get the same five, and the same few steps.
#
# **Predict before you run:** at which of the five is each best?

# %%
RATES = (3e-5, 1e-4, 1e-3, 3e-3, 1e-2)
at = {
    ("adapters", lr): few["houlsby"] if lr == LR["zero"] else try_out(Adapter(R), lr)
    for lr in RATES
}
at |= {
    ("full fine-tuning", lr): full_few if lr == LR["full"] else try_out(FullFineTuning(), lr)
    for lr in RATES
}
best_rate = {
    name: min(RATES, key=lambda lr, name=name: at[name, lr])
    for name in ("adapters", "full fine-tuning")
}
table(
    [(name, *(at[name, lr] for lr in RATES), f"{best_rate[name]:.0e}") for name in best_rate],
    [f"loss after {FEW} steps, learning rate", *(f"{lr:.0e}" for lr in RATES), "best"],
    [None, *[".3f"] * len(RATES), None],
)
ratio = best_rate["adapters"] / best_rate["full fine-tuning"]
penalty = {name: at[name, RATES[-1]] - at[name, best_rate[name]] for name in best_rate}
say(
    f"The adapters are best at {best_rate['adapters']:.0e}, full fine-tuning at {best_rate['full fine-tuning']:.0e}: "
    + (
        "a larger learning rate, as 001 says. "
        if ratio > 1
        else "no larger learning rate, of those tried. "
        if ratio == 1
        else "the reverse of what 001 says. "
    )
    + f"At {RATES[-1]:.0e} the adapters are {penalty['adapters']:.3f} nats behind their best, full fine-tuning {penalty['full fine-tuning']:.3f}. "
    "Hardly because they are few: the same step of Adam moves every number of the model that it trains by about the learning rate, whatever their count. But a weight of the base "
    "carries what pretraining put into it, and can lose it; the adapters' numbers carry nothing yet."
)

# %% [markdown]
# ## Two to four per cent
#
# 003 §2 says that tuning 2–4 % of the parameters with adapters reaches the effect of full fine-tuning (全参数微调). The adapters with the zero
# start are trained already; for as many steps, on the same batches, we train a prefix that keeps as many numbers (lesson 9, with the MLP) and everything.
# The learning rate of each was chosen on validation, for this number of steps.
#
# The curves also answer the second claim of 001 §3.2.3: is an adapter done in fewer epochs (训练轮数)?
#
# **Predict before you run:** the order of the three after these steps. And which of them is fastest by the step?

# %%
NAMES = {"adapters": "zero", "prefix": "prefix", "full fine-tuning": "full"}
methods["prefix"], methods["full"] = PrefixTuning(P, reparametrise=256), FullFineTuning()
reports = {"zero": ours}
for name in ("prefix", "full"):
    logs[name] = tune(methods[name], LR[name], MANY, EVERY)
    with attached(base, methods[name]):
        reports[name] = methods[name].report()
        if name == "prefix":
            methods[name].drop_mlp()
    curves[name] = [(0, loss_before)] + [(row["step"], row["loss"]) for row in logs[name].valid]
    end[name] = min(row["loss"] for row in logs[name].valid)
for name, key in NAMES.items():
    with attached(base, methods[key]):
        texts[name] = generate_texts(base, tokenizer, xs["valid"], MOST)
    scores[name] = table_scores(texts[name], rows["valid"])
with figure(
    "loss",
    "Validation loss while adapters, a prefix of as many numbers, or the whole base are trained.",
) as axes:
    for (name, key), style in zip(NAMES.items(), ("o-", "^:", "s--"), strict=True):
        axes.plot(
            *zip(*curves[key], strict=True),
            style,
            label=f"{name}: {reports[key].stored:,} numbers kept",
        )
    axes.set(
        xlabel="step (8 tables each)", ylabel="validation loss, nats per token of y", ylim=(0, None)
    )
    axes.legend()
table(
    [("untouched base", None, loss_before, *scores["untouched base"], None)]
    + [
        (name, reports[key].stored_fraction, end[key], *scores[name], logs[key].seconds)
        for name, key in NAMES.items()
    ],
    ["on validation", "kept", "loss", *SCORES, "s"],
    [None, ".1%", ".3f", *FORMS, ".0f"],
)
lead = end["full"] - end["zero"]
slower, faster = ("adapters", "full fine-tuning")[:: 1 if lead < 0 else -1]
met = reaches(curves[NAMES[faster]], end[NAMES[slower]])
say(
    f"After {MANY} steps, {MANY * 8 / len(xs['train']):.2f} epochs, the adapters are {abs(lead):.3f} nats {'ahead of' if lead > 0 else 'behind'} full fine-tuning, each at the learning "
    f"rate that did best for it. Where {slower} ended, {faster} had been after about {met:.0f} steps: "
    + ("fewer epochs, as 001 says. " if lead > 0 else "not fewer epochs, but more. ")
    + f"A step with the frozen base took {logs['zero'].seconds / logs['full'].seconds:.2f} of the time of a step that trains everything."
)
for i in (0, 1):
    say(f"> {rows['valid'][i]['source']}\n")
    for name in texts:
        missing = [
            value for value in slot_values(rows["valid"][i]["table"]) if value not in texts[name][i]
        ]
        say(
            f"- {name}: {' '.join(texts[name][i].split())[:220]}"
            + (f" [{', '.join(missing)}]" if missing else " ✓")
        )

# %% [markdown]
# ## Back in, at inference
#
# 001 §3.2.4: for inference (推理) the tuned adapters are put into the pretrained model again. So they, and nothing else, have to be stored; here they
# go through a file onto a base that was loaded anew. Off again, the old base is what it was.
#
# A price remains. An adapter is a layer more, and since a ReLU stands in it, it cannot be multiplied into the frozen matrices; every token
# passes through it, in training and ever after.
#
# **Predict before you run:** do the scores from the file differ? And how much longer does a forward pass take?

# %%
import time

from minitransformer.course.show import ROOT

folder = ROOT / "figures" / "lesson_11"
folder.mkdir(parents=True, exist_ok=True)
fresh = load_base("gpt")
seconds = {"base": [], "adapters": []}
with torch.inference_mode():
    with attached(base, methods["zero"]):
        tuned = base(ids)  # (B, T, V)
        methods["zero"].save(folder / "adapters.safetensors")
    from_file = load(folder / "adapters.safetensors", fresh)
    again, n_file = fresh(ids), from_file.report().stored  # (B, T, V)
    for _ in range(2 if QUICK else 7):  # in turns, for a machine is not equally fast at all times
        for name, model in (("base", base), ("adapters", fresh)):
            began = time.perf_counter()
            model(plain_text[0]["ids"])
            seconds[name].append(time.perf_counter() - began)
longer = (
    sorted(seconds["adapters"])[len(seconds["adapters"]) // 2]
    / sorted(seconds["base"])[len(seconds["base"]) // 2]
    - 1
)
say(
    f"The file has {(folder / 'adapters.safetensors').stat().st_size / 1024:.0f} KiB for {n_file:,} numbers; the scores from it differ by {(again - tuned).abs().max():.0e}. "
    f"A forward pass takes {longer:+.0%} with the adapters (the median of a few). Lesson 12's method keeps the adapter's idea and loses this price."
)
assert torch.equal(again, tuned) and fingerprint(base) == before, (
    "detached, the base should be bit for bit what it was"
)

# %% [markdown]
# ## Once, on the test
#
# New tables of the kinds that training had, and of kinds that no table in training was about (lesson 9). Beside them stand published numbers for GPT-2
# Medium (Li & Liang, 2021); other models, other data: only the pattern can be compared.
#
# **Predict before you run:** is the difference between adapters and full fine-tuning larger than its standard error?

# %%
final, told = {}, {}  # the scores; for each table the share of its values that is told
for name, key in NAMES.items():
    with attached(base, methods[key]):
        for split in ("test_seen", "test_unseen"):
            written = generate_texts(base, tokenizer, xs[split], MOST)
            final[name, split] = table_scores(written, rows[split])
            told[name, split] = torch.tensor(
                [
                    metrics.slot_accuracy([text], [slot_values(row["table"])])[0]
                    for text, row in zip(written, rows[split], strict=True)
                ]
            )
table(
    [(name, split.removeprefix("test_"), *score) for (name, split), score in final.items()],
    ["on the test", "kinds", *SCORES],
    [None, None, *FORMS],
)
table(
    [
        ("adapters, 3 %", 68.9, 60.4, 48.3),
        ("adapters, 0.1 %", 66.3, 54.5, 45.1),
        ("prefix, 0.1 %", 69.7, 62.9, 45.6),
        ("full fine-tuning", 68.2, 64.2, 27.7),
    ],
    ["published, BLEU", "E2E", "WebNLG, seen", "unseen"],
)
verdicts = {}
for split in ("test_seen", "test_unseen"):
    lead = told["adapters", split] - told["full fine-tuning", split]  # one for each table
    verdicts[split] = lead.mean().item(), math.sqrt(lead.var().item() / len(lead))
reached = {
    split: final["adapters", split].slots / max(1e-9, final["full fine-tuning", split].slots)
    for split in verdicts
}
say(
    "A table's values told, adapters against full fine-tuning: "
    + ", ".join(
        f"{100 * mean:+.1f} points on {split.removeprefix('test_')} kinds (standard error, over the tables, {100 * error:.1f})"
        for split, (mean, error) in verdicts.items()
    )
    + ". "
    + (
        "Of 003's claim that 2–4 % are about as good: "
        + (
            "here too they cannot be told apart"
            if all(abs(mean) < 2 * error for mean, error in verdicts.values())
            else "here the adapters are ahead"
            if all(mean > -2 * error for mean, error in verdicts.values())
            else f"here it does not hold after {MANY} steps: they are at {min(reached.values()):.0%} of full fine-tuning"
            if min(reached.values()) < 0.97
            else f"here it nearly holds: a difference can be measured, but they are at {min(reached.values()):.0%} of full fine-tuning or above"
        )
    )
    + f", {reports['zero'].stored_fraction:.1%} of the numbers being trained. (Houlsby et al. report 0.4 points of GLUE between their 3.6 % and full fine-tuning, after training both to the end.)"
)

# %% [markdown]
# ## The answer

# %%
seen = {name: final[name, "test_seen"] for name in NAMES}
say(
    f"Adapters belong inside the residual, before what a sublayer gives is added to the stream; they should begin as the identity, or the first steps go into undoing a disturbance; and "
    f"they can be as narrow as r = {R} of {C} ({ours.stored_fraction:.1%} of the base's numbers), with which the frozen GPT tells {seen['adapters'].slots:.0%} of a new table's values after {MANY} "
    f"steps, a prefix of as many numbers {seen['prefix'].slots:.0%} and full fine-tuning {seen['full fine-tuning'].slots:.0%}."
)

# %% [markdown]
# To try next:
#
# - Train Xavier's adapters with r = 64 and r = 1, a hundred steps each. The formula says which starts worse; which ends worse?
# - Take the activation away (`F.relu` in `Bottleneck`). What is f then, and what would it have to do with lesson 12?
# - Put adapters and a prefix on the base together (`attached` takes several methods), half as large each. Do they add up?
#
# Further reading: "Parameter-Efficient Transfer Learning for NLP" (Houlsby et al., 2019); "AdapterFusion: Non-Destructive Task
# Composition for Transfer Learning" (Pfeiffer et al., 2021); "Towards a Unified View of Parameter-Efficient Transfer Learning" (He et al.,
# 2022); "Understanding the Difficulty of Training Deep Feedforward Neural Networks" (Glorot & Bengio, 2010), whose rule Xavier's is.
