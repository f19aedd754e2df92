"""Adapters: small layers between the frozen ones

question: We may add a few small layers to a frozen model. Where should they stand, how should they begin, and how small can they be?
minutes: 1.5
documents: 001 §1.1 问题的由来, §1.2 研究现状, §1.3 研究意义, §3.1.2 Adapter, §3.2.1 模型结构设计, §3.2.2 模型初始化, §3.2.3 模型微调, §3.2.4 模型推理; 003 §2 Introduction(介绍)
needs: 2, 3, 5, 9
"""

# %% [markdown]
# ## A layer between layers
#
# A prefix (lesson 9) gives a frozen model more to read. An adapter (适配器) gives it more to compute. It is a small
# layer that stands between two frozen layers and is trained (Houlsby et al., 2019). 001 §1.2 names what all such
# methods share: the parameters of the pretrained model are fixed (固定预训练模型参数), and a few additional ones are
# learned (引入额外的可学习参数). 001 §3.1.2 writes for an adapter
#
#     h = PretrainedLayer(x)
#     z = Activation(W_down h)
#     o = W_up z + h
#
# h is what the frozen layer gives for one token: d numbers. (d is our C, the width of the model.) W_down makes r
# numbers from them. r is called the bottleneck dimension (瓶颈维度), and it is much smaller than d (r ≪ d). The
# activation is a ReLU, which replaces negative numbers by 0. W_up makes d numbers again. (This z is 001's letter. It
# is not the sequence z of lesson 9.) At the end h is added, so the two matrices only describe how o *differs* from h:
#
#     o = A(h) = h + f(h)          f(h) = W_up Activation(W_down h)
#
# 001 §3.1.2 also gives the shapes: W_down ∈ R^{d×r} and W_up ∈ R^{r×d}. We take d = 128 and r = 16.
#
# **Predict before you run:** PyTorch refuses a product where the shapes do not fit. Which of these four does it
# compute: W_down h, W_up z, h W_down, z W_up?

# %%
import torch
from minitransformer.course.show import QUICK, bar, figure, say, source, table

d, r = 128, 16
torch.manual_seed(0)
W_down, W_up = torch.randn(d, r), torch.randn(r, d)
h, z = torch.randn(d), torch.randn(r)
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
    except RuntimeError:
        outcome[name] = "refused: the shapes do not fit"
table(outcome.items(), ["W_down (d, r), W_up (r, d)", "gives"])
refused = [name for name, text in outcome.items() if text.startswith("refused")]
assert refused == ["W_down h", "W_up z"]

# %% [markdown]
# The products work when the matrix stands on the right. So the shapes belong to an h that is a row.
#
# *Where the document is not exact.* 001 §3.1.2 writes its formula for an h that is a column, and its shapes for an h that
# is a row. To agree, either the formula or the shapes have to be transposed. The formula also gives the two fully
# connected layers (两个全连接层) no bias. Our code has biases, as Houlsby et al. have.

# %% [markdown]
# ## In code
#
# PyTorch's `nn.Linear(d, r)` keeps the transposed matrix, of shape (r, d), and multiplies rows by its transpose. So
# `self.down(x)` is W_down h in the formula's order, for every token of a batch at once. The function below is f, without
# the addition of h. You write it yourself in exercise 11.1; until your version passes, only a hint stands here.
#
# To check the function, we give it the two matrices from above and 400 random vectors h. The numbers in all of them are
# as often negative as positive.
#
# **Predict before you run:** what fraction of the numbers in the bottleneck does the ReLU replace by 0?

# %%
from minitransformer.tuning.adapter import Bottleneck

source(Bottleneck.forward, docstring=False)
f = Bottleneck(d, r, "zero")
with torch.no_grad():
    f.down.weight.copy_(W_down.T)  # (r, C)
    f.up.weight.copy_(W_up.T)  # (C, r)
    many = torch.randn(4, 100, d)  # (B, T, C)
    by_rows = (many @ W_down).relu() @ W_up  # (B, T, C)
    difference = ((f(many) - by_rows).norm() / by_rows.norm()).item()
    zeros = (f.down(many) < 0).float().mean().item()
say(f"The package and the formula differ by {difference:.0e} of the length of f(h).")
say(f"The ReLU replaced {zeros:.0%} of the numbers in the bottleneck.")
assert difference < 1e-5 and 0.4 < zeros < 0.6

# %% [markdown]
# It is about half. A sum of such numbers is as often negative as positive, too.

# %% [markdown]
# ## The task
#
# The task is the one of lesson 9: the frozen GPT turns a table x into sentences y. So adapters and prefixes can be
# compared. The four measures are also those of lesson 9: *BLEU*; *slots*, the fraction of the values that are stated;
# *whole*, the fraction of the tables with all values stated; *a table again*, the fraction of the texts that are no
# sentences.

# %%
from minitransformer.course import trial
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.text.corpora import eval_windows, read_documents, token_stream
from minitransformer.training.loop import Log, TrainConfig, evaluate
from minitransformer.tuning import FullFineTuning, PrefixTuning, Report, attached, fingerprint, load

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, L, C = tokenizer.eot_id, base.config.n_layer, base.config.d_model
before = fingerprint(base)
xs, ys, rows = {}, {}, {}
sizes = {"train": 64 if QUICK else None, "valid": 60, "test_seen": 100, "test_unseen": 100}
for split, most in sizes.items():
    most = 8 if QUICK and split != "train" else most
    xs[split], ys[split] = (part[:most] for part in task_ids("table_to_text", split, tokenizer))
    rows[split] = task_rows("table_to_text", split)[:most]
valid = eval_completions(xs["valid"], ys["valid"], eot, batch_size=30)
say(f"> x: {rows['valid'][0]['source']}\n\n> y: {rows['valid'][0]['target']}")

# %% [markdown]
# One measure is new. We also take the loss on plain text of the tiny world, the kind of text on which the base was
# pretrained. It will show what a method changes in the base's other abilities.
#
# **Predict before you run:** which loss of the untouched base is lower, per token: on plain text, or on a description
# y that stands below its table x?

# %%
from minitransformer.generation.sampling import generate_texts

held_out = token_stream(read_documents(DATA / "text" / "valid.txt")[:200], tokenizer)
plain_text = eval_windows(held_out, 128, 16, most=2 if QUICK else 32)
MOST = 16 if QUICK else 90  # tokens to write
SCORES, FORMS = ["BLEU", "slots", "whole", "a table again"], [".1f", ".1%", ".1%", ".0%"]
texts = {"untouched base": generate_texts(base, tokenizer, xs["valid"], MOST)}
scores = {"untouched base": table_scores(texts["untouched base"], rows["valid"])}
loss_before, plain_before = evaluate(base, valid), evaluate(base, plain_text)
table(
    [("untouched base", plain_before, loss_before, *scores["untouched base"])],
    ["on validation", "loss, plain text", "loss, y", *SCORES],
    [None, ".3f", ".3f", *FORMS],
)
assert QUICK or loss_before < plain_before
assert QUICK or scores["untouched base"].again > 0.5

# %% [markdown]
# In a full run the description has the lower loss. Most of its values stand in the table above it, and the base can
# copy them. But the base writes no sentences. It mostly writes a table again, and a copied table states the values as
# well. So *slots* and *whole* mean nothing where *a table again* is high.

# %% [markdown]
# ## Where it stands
#
# 001 §3.2.1 draws a layer of a Transformer with its adapters:
#
#     [Self-Attention层] → [Adapter层] → [Feed-Forward层] → [Adapter层] → [Layer Norm层]
#
# So each layer gets two, one after the attention and one after the feed-forward layer (FFN). Houlsby et al. place
# them in this way. In our GPT each of the two sublayers reads the stream x, the vectors that go up from layer to
# layer, and adds its answer to it (Add & Norm, lesson 2). An adapter stands before that addition:
#
#     h = Attention(norm(x)),     x ← x + A₁(h)
#     h = FFN(norm(x)),           x ← x + A₂(h)
#
# Here is the whole base with these adapters, written out. The package does it in another way. It leaves the base as
# it is and hooks an adapter behind each sublayer. We compare the two; the adapters hold random numbers, so that they
# do something.
#
# **Predict before you run:** our base has L = 4 layers. How many adapters does it get? And how far apart are the scores
# of the package and of the code below?

# %%
from minitransformer.tuning import Adapter


def by_hand(ids: torch.Tensor, method: Adapter, stream: bool = True) -> torch.Tensor:
    """The base with Houlsby's adapters, written out: (B, T) → (B, T, V)."""
    x = base.token_embedding(ids) + base.position_embedding.weight[: ids.size(1)]  # (B, T, C)
    for i, block in enumerate(base.blocks):
        for place, norm in (("attention", block.norm1), ("mlp", block.norm2)):
            f = method.bottlenecks[f"blocks/{i}/{place}"]
            h = getattr(block, place)(norm(x))  # (B, T, C)
            o = h + f(h)  # (B, T, C)
            x = x + o if stream else o  # (B, T, C)
    return base.norm(x) @ base.token_embedding.weight.T  # (B, T, V)


ids = plain_text[0]["ids"][:4]  # (B, T)
method = Adapter(r, placement="houlsby", init="xavier")
with torch.inference_mode():
    with attached(base, method):
        hooked = base(ids)  # (B, T, V)
    moved = (hooked - base(ids)).abs().max().item()
    difference = (hooked - by_hand(ids, method)).abs().max().item()
say(
    f"There are {len(method.bottlenecks)} adapters. They move the scores by up to {moved:.1f}. The package and the "
    f"code above differ by {difference:.0e}."
)
assert L == 4 and len(method.bottlenecks) == 2 * L and difference < 1e-2 < moved

# %% [markdown]
# There are 2L = 8 adapters. The package and the written-out code compute the same; any difference is rounding.

# %% [markdown]
# ## The stream that is not drawn
#
# The drawing of 001 §3.2.1 has one arrow from box to box. It does not show the stream past the boxes, the residual
# connection (残差连接). Suppose we follow the drawing exactly: each box hands its answer to the next box, and nothing is
# added. The adapters change nothing here (f = 0). So the only thing that is missing is the stream.
#
# **Predict before you run:** a model that gives all 2,048 tokens the same probability has a loss of ln 2048 = 7.6. Will
# the loss of the drawing be nearer to this or to the loss of the untouched base?


# %%
def cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> float:
    """Nats per token."""
    each = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    return each.item()


nothing = Adapter(r, init="zero")  # W_up = 0
with attached(base, nothing):
    pass  # now it has its bottlenecks
with torch.inference_mode():
    with_stream = cross_entropy(by_hand(ids, nothing), ids)
    as_drawn = cross_entropy(by_hand(ids, nothing, stream=False), ids)
table(
    [("with the stream", with_stream), ("exactly as drawn", as_drawn)],
    ["f = 0", "loss, plain text"],
    [None, ".2f"],
)
assert tokenizer.n_vocab == 2048 and as_drawn > with_stream + 4

# %% [markdown]
# Without the stream the trained layers are useless, because each was trained to give a change of x, not a new x. So we
# have to add the stream to the drawing in our mind.
#
# *Where the document is not exact.* 001 §3.2.1 puts the [Layer Norm层] behind the second adapter. This is the order of BERT,
# where a norm comes after each of the two additions. In a GPT a norm stands in front of each sublayer.

# %% [markdown]
# ## How many parameters?
#
# W_down and W_up have r · d parameters each, and the two biases have r + d. Houlsby's adapters stand 2L times in a
# model of L layers:
#
#     adapters: 2L (2dr + r + d)          prefix of length P (lesson 9): 2L P d
#
# Apart from its biases, one more unit in every bottleneck costs as much as two virtual tokens. 003 §2 speaks of
# adapters with 2–4 % of the parameters of the model.
#
# **Predict before you run:** the base has about 12 L d² parameters in its layers. Which fraction of them is 2L · 2dr?
# With d = 128, which of r = 1, 4, 16 and 64 comes to 2–4 %?

# %%
from minitransformer.models.gpt import GPT, GPTConfig


def n_houlsby(L: int, d: int, r: int) -> int:
    """How many parameters Houlsby's adapters have."""
    return 2 * L * (2 * d * r + r + d)


def count(method) -> Report:
    """What a method trains and keeps on this base."""
    with attached(base, method):
        return method.report()


with torch.device("meta"):  # tensors with a shape and without numbers (lesson 9)
    medium = GPT(GPTConfig(50257, 1024, n_layer=24, n_head=16, d_model=1024, d_ff=4096))
n_medium = sum(p.numel() for p in medium.parameters())
counted = {width: count(Adapter(width)) for width in (1, 4, 16, 64)}
on_medium = {width: n_houlsby(24, 1024, width) for width in counted}
table(
    [
        (width, own.trained, own.trained_fraction, on_medium[width], on_medium[width] / n_medium)
        for width, own in counted.items()
    ],
    ["r", "on our base", "of it", "on GPT-2 Medium", "of it"],
    ["d", ",", ".2%", ",", ".2%"],
)
assert all(own.trained == own.stored == n_houlsby(L, C, width) for width, own in counted.items())
assert C == 128 and 0.02 < counted[16].trained_fraction < 0.04
assert 0.01 < on_medium[64] / n_medium < 0.02

# %% [markdown]
# The fraction of the layers is 4Ldr / 12Ld² = r / (3d). It is a little less of the whole base, which also has
# embeddings. So r = 16 is about 3 % of our base, whose d is 128. GPT-2 Medium has d = 1,024, and there even r = 64 is
# less than 2 %.
#
# From here on the adapters have r = 16. Later we compare them with a prefix of nearly as many parameters.
#
# **Predict before you run:** which P does that prefix need? (Put r = 16 into the sentence about virtual tokens above.)

# %%
P = 33
kept = {
    f"adapters, r = {r}": count(Adapter(r)),
    "the same, and the norms of the layers": count(Adapter(r, norms=True)),
    f"prefix, P = {P}": count(PrefixTuning(P)),
    "full fine-tuning": count(FullFineTuning()),
}
table(
    [(name, own.stored, own.stored_fraction) for name, own in kept.items()],
    ["", "parameters kept", "of the base"],
    [None, ",", ".2%"],
)
of_adapters, of_prefix = kept[f"adapters, r = {r}"], kept[f"prefix, P = {P}"]
assert of_prefix.stored == 2 * L * P * C and abs(of_prefix.stored / of_adapters.stored - 1) < 0.02

# %% [markdown]
# The prefix needs P = 33: two virtual tokens for each of the 16 units, and one for the biases. The second row is what
# Houlsby et al. do: they also train the norms inside the layers. 001 §3.1.2 trains W_down and W_up only
# (只更新Adapter层的参数), and so do we.

# %% [markdown]
# ## How it begins
#
# 001 §3.2.2 starts both matrices by Xavier's rule (Xavier初始化): Gaussian numbers with mean 0 and variance
#
#     2 / (d_in + d_out)
#
# The rule was made for a network in which every layer is new (Glorot & Bengio, 2010). It keeps the size of the
# signals from layer to layer. Here the other layers are trained already, and each expects to read what it was trained
# to read. So Houlsby et al. start *near the identity* (恒等): with a standard deviation of 0.01, f(h) is almost 0.
# Our package can also start exactly there, with W_up = 0. The code calls these three starts `xavier`, `normal` and
# `zero`.
#
# How far from the identity is A(h) at the start? Let v be the variance of the numbers in both matrices, and ‖h‖ the
# length of h. We follow the mean of the squares through f:
#
#     a number in the bottleneck     v ‖h‖²
#     after the ReLU                 v ‖h‖² / 2           (the negative half is gone)
#     a number of f(h)               r v · v ‖h‖² / 2     (W_up adds r products)
#     ‖f(h)‖²                        d r v² ‖h‖² / 2      (d such numbers)
#
# A(h) − h is f(h), so the root of the last row gives
#
#     ‖A(h) − h‖ / ‖h‖ ≈ v √(d r / 2)
#
# **Predict before you run:** d = 128 and r = 16, so √(d r / 2) = 32. What comes out for Xavier's v = 2 / (128 + 16), and
# what for v = 0.01²?


# %%
def distances(method: Adapter) -> list[float]:
    """‖A(h) − h‖ / ‖h‖ of each sublayer on plain text, the mean over tokens."""
    ratios = []

    def measure(bottleneck: Bottleneck, args: tuple, f_h: torch.Tensor) -> None:
        ratios.append((f_h.norm(dim=-1) / args[0].norm(dim=-1)).mean().item())

    hooks = [own.register_forward_hook(measure) for own in method.bottlenecks.values()]
    with torch.inference_mode():
        base(ids)
    for hook in hooks:
        hook.remove()
    return ratios


variance = {"xavier": 2 / (C + r), "normal": 0.01**2, "zero": 0.0}
methods, moved_by = {}, {}
for init in variance:
    torch.manual_seed(0)
    methods[init] = Adapter(r, init=init)
    with attached(base, methods[init]):
        moved_by[init] = distances(methods[init])
by_formula = {init: v * (C * r / 2) ** 0.5 for init, v in variance.items()}
mean_of = {init: sum(values) / len(values) for init, values in moved_by.items()}
table(
    [
        (init, v, by_formula[init], mean_of[init], min(moved_by[init]), max(moved_by[init]))
        for init, v in variance.items()
    ],
    ["start", "v", "by the formula", "measured, mean", "least", "most"],
    [None, ".1e", ".4f", ".4f", ".4f", ".4f"],
)
assert all(0.5 < mean_of[init] / by_formula[init] < 2 for init in ("xavier", "normal"))
assert max(moved_by["zero"]) == 0 and min(moved_by["xavier"]) > 0.2

# %% [markdown]
# The formula gives 0.44 and 0.0032, and the measured means are near it. With Xavier's rule each sublayer's answer is
# changed by nearly half of its length, in a random direction, before anything is learned. With a standard deviation of
# 0.01 the change is less than one per cent, and with W_up = 0 it is exactly 0.

# %% [markdown]
# ## What the start costs
#
# With Xavier's rule each of the eight sublayers gives a disturbed answer, and the next ones read it. We measure the loss
# of the base with each kind of fresh adapters, before any training.
#
# **Predict before you run:** with Xavier's adapters, does the loss on plain text rise by a tenth, by a half, or to
# more than double?

# %%
at_start = {}  # loss on y, loss on plain text
for init, method in methods.items():
    with attached(base, method):
        at_start[init] = evaluate(base, valid), evaluate(base, plain_text)
table(
    [
        (init, plain, plain - plain_before, of_y, of_y - loss_before)
        for init, (of_y, plain) in at_start.items()
    ],
    ["before training", "loss, plain text", "change", "loss, y", "change"],
    [None, ".3f", "+.4f", ".3f", "+.4f"],
)
assert at_start["zero"] == (loss_before, plain_before)
assert at_start["xavier"][1] > 2 * plain_before and at_start["xavier"][0] > loss_before + 0.3
assert abs(at_start["normal"][1] - plain_before) < 0.02

# %% [markdown]
# With Xavier's start the loss on plain text more than doubles: much of what the base has learned no longer works. Near the
# identity almost nothing changes. With W_up = 0 the losses are those of the untouched base, bit for bit.
#
# *Where the document is not exact.* 001 §3.2.2 says that Xavier's rule is usual (通常采用Xavier初始化方法) for adapters.
# Houlsby et al. ask for a start near the identity instead.

# %% [markdown]
# ## The first hundred steps
#
# Does a bad start matter once there is training? 001 §3.2.3 describes the training, and it is that of lesson 5 with a
# frozen base: freeze all parameters of the pretrained model, and let Adam change those of the adapters by the
# cross-entropy on the task's data. One function does it for every method of this lesson. The batches of 8 pairs are
# the same for all.

# %%
FEW, MANY = (3, 6) if QUICK else (15, 100)  # steps of a comparison, and of a training
LR = {"xavier": 1e-2, "normal": 3e-3, "zero": 3e-3, "prefix": 3e-3, "full": 1e-4}


def tune(method, lr: float, steps: int, every: int = 0) -> Log:
    """Train a method on the base and take it off again; the seed fixes start and batches."""
    torch.manual_seed(0)
    room = base.config.n_positions - P
    batches = Completions(
        xs["train"], ys["train"], eot, 2 if QUICK else 8, n_positions=room, seed=0
    )
    config = TrainConfig(
        steps,
        lr,
        warmup=steps // 12,
        final_lr=0.02,
        weight_decay=0.0,
        eval_every=every,
    )
    return trial.tune(base, method, batches, config, valid=valid, progress=False).log


# %% [markdown]
# The three adapters above are trained for 100 steps. Each has the learning rate that was best for it on
# validation. Xavier's has the largest.
#
# **Predict before you run:** does Xavier's loss on y fall below that of the untouched base within the first 50 steps, in
# the other 50, or not at all? At the end, is it still above the losses of the other two?

# %%
logs, curves, end = {}, {}, {}
for init, method in methods.items():
    logs[init] = tune(method, LR[init], MANY, every=max(1, MANY // 10))
    measured = [(row["step"], row["loss"]) for row in logs[init].valid]
    curves[init] = [(0, at_start[init][0]), *measured]
    end[init] = min(loss for _, loss in measured)  # training keeps the weights that were best
with figure("start", "Validation loss of adapters that start in three ways.", (7, 4)) as axes:
    for (init, curve), style in zip(curves.items(), ("o-", "s--", "^:"), strict=True):
        axes.plot(*zip(*curve, strict=True), style, label=init)
    axes.axhline(loss_before, color="grey", linestyle=":", label="untouched base")
    axes.set(xlabel="step (8 pairs each)", ylabel="nats per token of y", yscale="log")
    axes.set_yticks([0.2, 0.5, 1, 2, 4], ["0.2", "0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.legend()
steps = [step for step, _ in curves["zero"]]
shown = sorted({*steps[:2], *steps[::2]})
table(
    [(init, *(dict(curves[init])[step] for step in shown)) for init in curves],
    ["loss after step", *map(str, shown)],
    [None] + [".3f"] * len(shown),
)
assert curves["xavier"][1][1] > curves["zero"][1][1]
assert QUICK or dict(curves["xavier"])[MANY // 2] < loss_before
assert QUICK or end["zero"] < end["xavier"] < loss_before
assert QUICK or max(end.values()) - end["zero"] < 0.25 * (loss_before - end["zero"])

# %% [markdown]
# In a full run Xavier's adapters are below the untouched base within the first 50 steps. Even so they are behind the
# others at the first measurement and at the last, because their first steps only undo the disturbance. The two starts
# near the identity disturb nothing, so all of their steps can learn. At the end the three are close to each other.
# (This is one seed; lesson 14 has many.) From here on we use W_up = 0.

# %% [markdown]
# ## Three places, one budget
#
# Two later papers move the adapter. Pfeiffer et al. (2021) leave out the adapter after the attention. He et al. (2022)
# put the bottleneck *beside* the feed-forward layer. This is called parallel (并行): it reads what that layer reads,
# and a scale s stands in front of it (s = 4, as in their paper):
#
#     x ← x + FFN(norm(x)) + s · f(norm(x))
#
# Both have one bottleneck in a layer, and Houlsby et al. have two. So with the same number of parameters each bottleneck
# can be twice as wide. We train each of the three for 15 steps.
#
# **Predict before you run:** does one of the three gain much more than the others, or are they close to each other?


# %%
def try_out(method, lr: float = LR["zero"]) -> float:
    """The validation loss of a method after a few steps."""
    return tune(method, lr, FEW).valid[-1]["loss"]


places = {
    "houlsby": Adapter(r),
    "pfeiffer": Adapter(2 * r, "pfeiffer"),
    "parallel": Adapter(2 * r, "parallel", scale=4.0),
}
few = {name: try_out(method) for name, method in places.items()}
gained = {name: loss_before - loss for name, loss in few.items()}
size = {name: count(method).stored for name, method in places.items()}
table(
    [
        (
            name,
            own.width,
            size[name],
            few[name],
            bar(max(0, gained[name]), max(0.01, *gained.values())),
        )
        for name, own in places.items()
    ],
    ["placement", "r", "parameters", f"loss after {FEW} steps", "gain over the untouched base"],
    [None, "d", ",", ".3f", None],
)
assert max(size.values()) < 1.02 * min(size.values())
assert QUICK or max(few.values()) - min(few.values()) < 0.3 * max(gained.values())

# %% [markdown]
# In a full run the three are close to each other, and their order after so few steps means little. But the second and the
# third add only half as many layers, so they cost less time.

# %% [markdown]
# ## How narrow?
#
# 001 §3.1.2 only says that usually r ≪ d (通常 r ≪ d). We try four widths of Houlsby's adapters, and full fine-tuning with
# the same number of steps. The gain is the distance to the loss of the untouched base.
#
# **Predict before you run:** with r = 1, a single number passes through each bottleneck. Does it reach almost nothing of
# the gain of r = 64, a good part of it, or all?

# %%
by_width = {width: few["houlsby"] if width == r else try_out(Adapter(width)) for width in counted}
full_few = try_out(FullFineTuning(), LR["full"])
gain = {width: loss_before - loss for width, loss in by_width.items()}
with figure("width", f"Validation loss after {FEW} steps, by what is trained.", (7, 4)) as axes:
    fractions = [counted[width].stored_fraction for width in by_width]
    axes.plot(fractions, list(by_width.values()), "o-", label="adapters")
    for x, (width, loss) in zip(fractions, by_width.items(), strict=True):
        axes.annotate(f"r = {width}", (x, loss), (0, -18), textcoords="offset points", ha="center")
    axes.axvspan(0.02, 0.04, color="grey", alpha=0.2, label="2–4 %")
    axes.axhline(full_few, color="black", linestyle="--", label="full fine-tuning, 100 %")
    axes.axhline(loss_before, color="grey", linestyle=":", label="untouched base")
    axes.set(xscale="log", xlabel="fraction of the base's parameters that is trained")
    axes.set(ylabel="nats per token of y", ylim=(0, None))
    axes.set_xticks([0.003, 0.01, 0.03, 0.1], ["0.3 %", "1 %", "3 %", "10 %"])
    axes.minorticks_off()
    axes.legend(loc="lower left")
table(
    [
        (width, counted[width].stored_fraction, loss, gain[width] / max(1e-9, gain[64]))
        for width, loss in by_width.items()
    ],
    ["r", "of the base", f"loss after {FEW} steps", "of the gain of r = 64"],
    ["d", ".2%", ".3f", ".0%"],
)
assert QUICK or (0.2 * gain[64] < gain[1] < gain[4] < gain[64])
assert QUICK or gain[4] - gain[1] > gain[64] - gain[16]

# %% [markdown]
# In a full run even r = 1 gains a good part. Wider bottlenecks gain more, but each row of the table has three to four
# times as many parameters as the row above, and the further gain shrinks: from 1 to 4 the loss falls more than from 16
# to 64.

# %% [markdown]
# ## A larger learning rate
#
# 001 §3.2.3 says that adapters can be trained with a larger learning rate and for fewer epochs
# (更大的学习率和更少的训练轮数), which makes training faster. First we test the learning rate. We train the adapters and
# the whole base for 15 steps each with 0.00003, 0.0001, 0.001, 0.003 and 0.01.
#
# **Predict before you run:** with 0.01, the largest, which of the two still learns? Does the other one stay near the
# untouched base, or does it get worse?

# %%
RATES = (3e-5, 1e-4, 1e-3, 3e-3, 1e-2)
tried = {
    "adapters": {
        lr: few["houlsby"] if lr == LR["zero"] else try_out(Adapter(r), lr) for lr in RATES
    },
    "full fine-tuning": {
        lr: full_few if lr == LR["full"] else try_out(FullFineTuning(), lr) for lr in RATES
    },
}
best_rate = {name: min(losses, key=losses.get) for name, losses in tried.items()}
table(
    [(name, *losses.values(), f"{best_rate[name]:.0e}") for name, losses in tried.items()],
    [f"loss after {FEW} steps, learning rate", *(f"{lr:.0e}" for lr in RATES), "best"],
    [None, *[".3f"] * len(RATES), None],
)
assert QUICK or best_rate["adapters"] > 3 * best_rate["full fine-tuning"]
assert QUICK or tried["full fine-tuning"][1e-2] > loss_before > tried["adapters"][1e-2]

# %% [markdown]
# In a full run the document is right: the best learning rate of the adapters is more than three times as large. With the
# largest one the adapters still learn, and full fine-tuning is worse than no training.
#
# *Where the document is not exact.* 001 §3.2.3 gives as the reason that adapters have far fewer parameters
# (由于Adapter层的参数量远小于预训练模型). But a step of Adam moves each parameter by about the learning rate, however
# many there are. Another reason is more likely. The parameters of the base hold what pretraining taught them, and a
# large step destroys that. The adapters hold nothing yet.

# %% [markdown]
# ## Two to four per cent
#
# 003 §2 reports that adapters with 2–4 % of the parameters reach the results of full fine-tuning. Our adapters have
# about 3 %. They are trained already. Now we train two more methods with the same steps and batches. One is a prefix
# that keeps as many parameters (it is trained through an MLP, lesson 9). The other is full fine-tuning, which trains all
# parameters. Each has the learning rate that was best on validation.
#
# **Predict before you run:** is the loss of full fine-tuning far below the loss of the adapters at the end, or near it?

# %%
NAMES = {"adapters": "zero", "prefix": "prefix", "full fine-tuning": "full"}
methods |= {"prefix": PrefixTuning(P, reparametrise=256), "full": FullFineTuning()}
reports = {"zero": of_adapters}
for name in ("prefix", "full"):
    logs[name] = tune(methods[name], LR[name], MANY, every=max(1, MANY // 10))
    with attached(base, methods[name]):
        reports[name] = methods[name].report()
    measured = [(row["step"], row["loss"]) for row in logs[name].valid]
    curves[name] = [(0, loss_before), *measured]
    end[name] = min(loss for _, loss in measured)
for name, key in NAMES.items():
    with attached(base, methods[key]):
        texts[name] = generate_texts(base, tokenizer, xs["valid"], MOST)
    scores[name] = table_scores(texts[name], rows["valid"])
with figure("loss", "Validation loss of three methods.", (7, 4)) as axes:
    for (name, key), style in zip(NAMES.items(), ("o-", "^:", "s--"), strict=True):
        axes.plot(
            *zip(*curves[key], strict=True), style, label=f"{name}: {reports[key].stored:,} kept"
        )
    axes.set(xlabel="step (8 pairs each)", ylabel="nats per token of y", ylim=(0, None))
    axes.legend(loc="lower left")
table(
    [("untouched base", None, loss_before, *scores["untouched base"])]
    + [(name, reports[k].stored_fraction, end[k], *scores[name]) for name, k in NAMES.items()],
    ["on validation", "kept", "loss", *SCORES],
    [None, ".1%", ".3f", *FORMS],
)
assert QUICK or all(end[key] < 0.8 * loss_before for key in NAMES.values())
assert QUICK or abs(end["zero"] - end["full"]) < 0.25 * (loss_before - end["full"])

# %% [markdown]
# In a full run all three learn the task. The adapters end near full fine-tuning, with about 3 % of the parameters. That
# agrees with 003 §2, as far as one seed and a hundred steps can show. The last step of this lesson asks again, on the
# test.

# %% [markdown]
# ## What it writes
#
# Read some texts before you trust the numbers. If values of the table are missing from a text, they stand in brackets
# behind it.

# %%
from minitransformer.course.tinyworld import slot_values

for i in (0, 1):
    say(f"> {rows['valid'][i]['source']}\n")
    values = slot_values(rows["valid"][i]["table"])
    for name in texts:
        missing = [value for value in values if value not in texts[name][i]]
        mark = f"[{', '.join(missing)}]" if missing else "✓"
        say(f"- {name}: {' '.join(texts[name][i].split())[:220]} {mark}")

# %% [markdown]
# ## What a step costs
#
# Training large models takes much computation and time; 001 §1.1 starts from this (大量的计算资源和时间成本). From
# efficient methods 001 §1.3 expects that they need fewer resources (降低计算资源需求) and speed training up
# (提高模型微调效率). Two things can be counted here. The first is memory: for each trained parameter, training holds
# a gradient and the two running means of Adam. The second is the time of a step.
#
# **Predict before you run:** the adapters train about 3 % of the parameters. Does a step take 3 % of the time?


# %%
def trained_memory(report: Report) -> float:
    """MiB for a gradient and Adam's two means of each trained parameter, 4 bytes each."""
    return 3 * 4 * report.trained / 2**20


cost, there = {}, {}  # the time of a step; the step at which the adapters' last loss is reached
for name, key in NAMES.items():
    cost[name] = logs[key].seconds / logs["full"].seconds
    there[name] = next((step for step, loss in curves[key] if loss <= end["zero"]), None)
table(
    [
        (name, reports[k].trained, trained_memory(reports[k]), cost[name], there[name])
        for name, k in NAMES.items()
    ],
    [
        "",
        "trained",
        "gradients, Adam: MiB",
        "time (full = 1)",
        "reaches the adapters' best loss at step",
    ],
    [None, ",", ".1f", ".2f", "d"],
)
assert trained_memory(reports["zero"]) < 0.05 * trained_memory(reports["full"])

# %% [markdown]
# It does not. The memory falls with the number of trained parameters, but most of the time remains. A step still runs
# forward through all frozen layers, and the gradient comes back through all of them to reach the lowest adapter. Only
# the gradients of the frozen parameters and their updates are left out. (The prefix trains more than it keeps, because
# of its MLP.)
#
# 001 §3.2.3 also expects fewer epochs (更少的训练轮数). The last column tests this for our task and one seed. It is the
# first measured step at which the loss of a method is as low as the best loss of the adapters (– means never). The
# document is right only if the adapters have the smallest number there.

# %% [markdown]
# ## What the base still knows
#
# 001 §3.1.2 says that the adapters keep the general semantic representations of the pretrained model
# (保持预训练模型的通用语义表示能力), because its parameters do not change. We test it on plain text, the text of
# pretraining, while the trained method is on the base.
#
# **Predict before you run:** the base's own parameters are unchanged. Is its loss on plain text unchanged too, while the
# adapters are on?

# %%
knows = {"untouched base": plain_before}
for name, key in NAMES.items():
    with attached(base, methods[key]):
        knows[name] = evaluate(base, plain_text)
knows["everything detached"] = evaluate(base, plain_text)
table(
    [(name, loss, loss - plain_before) for name, loss in knows.items()],
    ["", "loss, plain text", "change"],
    [None, ".3f", "+.3f"],
)
assert knows["everything detached"] == plain_before and fingerprint(base) == before
assert QUICK or min(knows[name] for name in NAMES) > plain_before

# %% [markdown]
# In a full run the loss on plain text rises with each of the methods on. The adapters were trained for one task, and they
# act on every text. One thing is certain: without the adapters the base is the old one, bit for bit.
#
# *Where the document is not exact.* Unchanged parameters do not mean unchanged representations. 001 §3.1.2 does not say
# when the ability is kept. It is fully kept only when the adapters are off.

# %% [markdown]
# ## Back in, at inference
#
# For inference (推理) the trained adapters are put into the pretrained model again
# (将微调后的Adapter层插入到预训练模型中, 001 §3.2.4). So they are all that must be stored for a task. We write them
# to a file, load the base anew, and put them on.
#
# One cost remains. An adapter is one more layer. Because of its ReLU it cannot be multiplied into the frozen
# matrices. So every token passes through it, in training and at inference. (Timings vary from machine to machine.)
#
# **Predict before you run:** do the scores differ when the adapters come from the file? Does a forward pass take twice as
# long with the adapters, or only a little longer?

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
    load(folder / "adapters.safetensors", fresh)
    again = fresh(ids)  # (B, T, V)
    for _ in range(2 if QUICK else 9):  # in turns, because a machine is not always equally fast
        for name, model in (("base", base), ("adapters", fresh)):
            began = time.perf_counter()
            model(plain_text[0]["ids"])
            seconds[name].append(time.perf_counter() - began)
middle = {name: sorted(own)[len(own) // 2] for name, own in seconds.items()}
say(
    f"The file has {(folder / 'adapters.safetensors').stat().st_size / 1024:.0f} KiB. The scores from it differ by "
    f"{(again - tuned).abs().max():.0e}. A forward pass takes {middle['adapters'] / middle['base']:.2f} times as long "
    "with the adapters."
)
assert torch.equal(again, tuned) and fingerprint(base) == before

# %% [markdown]
# The scores are the same, bit for bit. The adapters are small, so a pass takes only a little longer.

# %% [markdown]
# ## Once, on the test
#
# The test has new tables of the kinds that training had (seen), and of kinds that it had not (unseen). Li & Liang
# (2021) report BLEU for GPT-2 Medium on two data sets, E2E and WebNLG:
#
# - adapters with 3 %: 68.9 on E2E; 60.4 on the seen and 48.3 on the unseen categories of WebNLG;
# - adapters with 0.1 %: 66.3; 54.5 and 45.1;
# - a prefix with 0.1 %: 69.7; 62.9 and 45.6;
# - full fine-tuning: 68.2; 64.2 and 27.7.
#
# Model and data are others than ours, so only the pattern can be compared.
#
# For our models we count *slots* table by table, and take the mean of the differences between adapters and full
# fine-tuning. The standard error (标准误) of this mean is the size of the difference that chance alone would give,
# typically. A difference of less than two standard errors can be chance.
#
# **Predict before you run:** do our adapters and full fine-tuning differ by more than ten points of slots on the seen
# kinds?

# %%
from minitransformer.course.tasks import slot_accuracy

final, stated = {}, {}  # the measures; and for each table the fraction of its values that is stated
for name, key in NAMES.items():
    with attached(base, methods[key]):
        for split in ("test_seen", "test_unseen"):
            written = generate_texts(base, tokenizer, xs[split], MOST)
            final[name, split] = table_scores(written, rows[split])
            each = zip(written, rows[split], strict=True)
            stated[name, split] = torch.tensor(
                [slot_accuracy([text], [slot_values(row["table"])])[0] for text, row in each]
            )
table(
    [(name, split.removeprefix("test_"), *score) for (name, split), score in final.items()],
    ["on the test", "kinds", *SCORES],
    [None, None, *FORMS],
)
lead = {
    split: stated["adapters", split] - stated["full fine-tuning", split]
    for split in ("test_seen", "test_unseen")
}
table(
    [
        (split.removeprefix("test_"), 100 * one.mean(), 100 * (one.var() / len(one)) ** 0.5)
        for split, one in lead.items()
    ],
    ["kinds", "adapters against full fine-tuning, points of slots", "standard error"],
    [None, "+.1f", ".1f"],
)
assert QUICK or final["adapters", "test_seen"].again < 0.1
assert QUICK or final["adapters", "test_seen"].slots > 0.6
assert QUICK or abs(lead["test_seen"].mean()) < 0.1

# %% [markdown]
# In a full run they differ by less than ten points, after this short training. Compare each difference with two of its
# standard errors: only a larger one is more than chance. Houlsby et al. trained both to the end, and they report 0.4
# points of GLUE between their adapters of 3.6 % and full fine-tuning.

# %% [markdown]
# ## The answer
#
# An adapter stands behind a sublayer, and changes the sublayer's answer before this is added to the stream. It should
# begin as the identity, because otherwise its first steps only undo a disturbance. It can be narrow: with r = 16 of 128,
# about 3 % of the parameters, the frozen GPT writes sentences in a full run, and it comes near full fine-tuning. The
# cost is more layers for every token, at inference too.
#
# To try next:
#
# - Train Xavier's adapters with r = 64 and with r = 1, a hundred steps each. The formula of "How it begins" says
#   which starts worse. Which ends worse?
# - Take the ReLU out of `Bottleneck.forward`. What is f then? Remember it in lesson 12.
# - Put adapters and a prefix on the base together, each half as large. (`attached` takes several methods.) Do their
#   gains add up?
#
# Exercises: `make start-11` writes the stubs of this lesson's exercises to `workbook/lesson_11.py`, and `make
# check-11` checks them. Lesson 12 keeps the bottleneck, drops the ReLU, and loses the cost at inference.
#
# Further reading: "Parameter-Efficient Transfer Learning for NLP" (Houlsby et al., 2019); "AdapterFusion:
# Non-Destructive Task Composition for Transfer Learning" (Pfeiffer et al., 2021); "Towards a Unified View of
# Parameter-Efficient Transfer Learning" (He et al., 2022); "Understanding the Difficulty of Training Deep Feedforward
# Neural Networks" (Glorot & Bengio, 2010).
