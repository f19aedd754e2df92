"""Prefix tuning: keys and values at every layer

question: Can ten virtual tokens make a frozen GPT turn tables into sentences as well as a copy that was trained as a whole?
minutes: 1.4
documents: 003 (all of it); 000 §2.1 前缀微调的原理, §3.1 前缀设计, §4.2 前缀微调; 002 §工作流程
needs: 3, 7, 8
"""

# %% [markdown]
# ## From a table to sentences
#
# A soft prompt (lesson 8) is ten vectors at the input; what the text reads of them, in every layer, are keys and values that the
# frozen base computes. Prefix tuning (前缀微调) leaves the input alone and trains those keys and values themselves. This lesson is 003
# from end to end, every formula in it executed, on 003's own task. It is lesson 8's too: a table is to become sentences, by the
# same GPT base, under the same four measures (BLEU; *slots*, the values that are told; *whole*, the tables told with all of them;
# *a table again*, the texts that are no sentences).
#
# **Predict before you run:** lesson 8 had this table, for the untouched base. Which of the measures looks good?

# %%
import math

import torch
from minitransformer import metrics
from minitransformer.course.bases import load_base, prefix_path
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, table
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.course.tinyworld import slot_values
from minitransformer.generation.sampling import generate_texts

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, L, C = tokenizer.eot_id, base.config.n_layer, base.config.d_model
rows, xs, ys = {}, {}, {}
for split, most in (("train", None), ("valid", 8 if QUICK else 100)):
    rows[split] = task_rows("table_to_text", split)[:most]
    xs[split], ys[split] = (ids[:most] for ids in task_ids("table_to_text", split, tokenizer))
MOST = 16 if QUICK else 90  # tokens to write
texts = {"untouched base": generate_texts(base, tokenizer, xs["valid"], MOST)}
scores = {"untouched base": table_scores(texts["untouched base"], rows["valid"])}
row, text = rows["valid"][0], texts["untouched base"][0]
say(f"> x: {row['source']}\n\n> y: {row['target']}\n\n> the base: {' '.join(text.split())[:200]}")
SCORES, FORMS = ["BLEU", "slots", "whole", "a table again"], [".1f", ".1%", ".1%", ".0%"]
table(
    [(name, *score) for name, score in scores.items()], ["on validation", *SCORES], [None, *FORMS]
)
say(
    f"{len(rows['train']):,} pairs to train on, {len(rows['valid'])} to choose by; the test waits until the end."
)

# %% [markdown]
# ## z = [x; y]
#
# 003 §3.1 writes both as one sequence, z = [x; y]. X_idx are the positions of x in it, Y_idx those of y. A causal model reads
# all of z, but only y is asked of it:
#
#     max Σ_{i ∈ Y_idx} log p(z_i | h_<i)
#
# (h_<i is what the model knows at i of all that stands before; the next step looks into it.) In the code a label marks what is
# asked; the positions of x have the label "ignore". Two marks stand around: ⏹ begins x, so that it is a new text, and another
# one ends y, for ending must be learned too.
#
# Where the documents are loose: 003 explains the sum as one of probabilities, of x and y. It is a sum of *logarithms*, so a
# product of probabilities, of y alone. 000 §4.2 writes L(p) = 1/N Σ l(f(p, x), y) over N *examples*; where y is a text, l is
# itself a sum over its tokens, and we divide by their number, so that a long y weighs as much as its tokens do.
#
# **Predict before you run:** in this batch of two, how many labels are there? And which of the two means is larger?

# %%
from minitransformer.text.batches import IGNORE
from minitransformer.text.batches.completion import Completions, completion_batch, eval_completions
from minitransformer.training.loop import evaluate
from minitransformer.training.losses import language_model_loss

batch = completion_batch(xs["valid"][:2], ys["valid"][:2], eot)  # "ids" and "labels" (B, T+1)
z, labels = batch["ids"][0].tolist(), batch["labels"][0].tolist()
X_idx = range(len(xs["valid"][0]))
Y_idx = [i for i, label in enumerate(labels) if label != IGNORE]
shown = [
    (
        i,
        "x" if i in X_idx else "y",
        tokenizer.token(z[i]),
        "–" if labels[i] == IGNORE else tokenizer.token(labels[i]),
    )
    for i in (0, 1, 2, len(X_idx) - 1, len(X_idx), len(X_idx) + 1, Y_idx[-1])
]
table(shown, ["i", "part", "z_i", "asked"])
with torch.inference_mode():
    log_p = base(torch.tensor([z]))[0].log_softmax(-1)  # (T+1, V)
    by_hand = sum(log_p[i - 1, z[i]].item() for i in Y_idx)  # the scores at i-1 are about z_i
    one = {"ids": batch["ids"][:1], "labels": batch["labels"][:1]}
    loss, n = language_model_loss(base, one)
    losses = [
        language_model_loss(base, {key: part[i : i + 1] for key, part in batch.items()})
        for i in (0, 1)
    ]
per_token = sum(part.item() for part, _ in losses) / sum(n for _, n in losses)
say(
    f"x has |X_idx| = {len(X_idx)} positions, y has |Y_idx| = {len(Y_idx)}. Σ log p over Y_idx is {by_hand:.3f}, and the training loop's loss {loss:.3f}: "
    f"the same with the sign turned. The mean over the batch's examples is {sum(part.item() for part, _ in losses) / 2:.2f}, over its "
    f"{sum(n for _, n in losses)} tokens {per_token:.3f}."
)
assert abs(by_hand + loss.item()) < 1e-2 and n == len(Y_idx) == len(ys["valid"][0]) + 1

# %% [markdown]
# ## What later positions read: h_<i
#
# 003 §3.1 goes on:
#
#     h_i = LM(z_i, h_<i)          p(z_{i+1} | h_≤i) = softmax(W h_i^(n))
#
# h_i = [h_i^(1); …; h_i^(n)] are the activations (激活) of position i in all n layers (n is our L). Read the first formula
# literally: to compute h_i, the model needs the token z_i and the activations before it, and no earlier *token* any more. That
# is lesson 3's cache: of h_<i it holds what others read of it, a key and a value in each layer, 2 · L · C numbers a position.
#
# Where the document is loose: it calls h_i^(n) "the probability distribution". Measure it.
#
# **Predict before you run:** what do the C numbers of h_i^(n) sum to, and the V numbers of softmax(W h_i^(n))?

# %%
with torch.inference_mode():
    at_once = base(torch.tensor([z]))[0]  # (T+1, V)
    cache = base.new_cache()
    one_by_one = torch.cat([base(torch.tensor([[i]]), cache=cache)[0] for i in z])  # (T+1, V)
    h = base(torch.tensor([z]), return_hidden=True)[0, -1]  # (C,)
    p = (base.token_embedding.weight @ h).softmax(-1)  # (V,)  W is the token table again
table(
    [
        ("h_i^(n)", h.numel(), h.min().item(), h.sum().item()),
        ("softmax(W h_i^(n))", p.numel(), p.min().item(), p.sum().item()),
    ],
    ["", "numbers", "smallest", "sum"],
    [None, ",", ".2g", ".4f"],
)
say(
    f"Token by token, from z_i and h_<i alone, the scores are those of the whole text, to {(at_once - one_by_one).abs().max():.0e}."
)
assert h.min() < 0 and abs(p.sum() - 1) < 1e-4 and (at_once - one_by_one).abs().max() < 1e-3

# %% [markdown]
# ## What words in front can do
#
# If everything that comes later sees the past through h_<i alone, then a text put in front of x works in two ways (003 §3.2):
# it changes what is taken from x, and through that what y is likely to be. So try it, in words (lesson 7): an instruction, a list
# of the words that tables are made of, a sentence about something else, and a whole solved example.
#
# **Predict before you run:** which of them lowers the validation loss?

# %%
valid = eval_completions(xs["valid"], ys["valid"], eot, batch_size=50)
words = tokenizer.encode("Read this table and tell it in sentences: ")[:10]
in_front = {
    "nothing": [],
    "an instruction": words,
    "words of tables": tokenizer.encode("kind name town river film person"),
    "other words": tokenizer.encode("The wind was cold and nobody spoke."),
    "a solved example": xs["train"][0] + ys["train"][0],
}
loss_with = {
    name: evaluate(base, eval_completions([[*ids, *x] for x in xs["valid"]], ys["valid"], eot, 50))
    for name, ids in in_front.items()
}
table(
    [
        (name, len(in_front[name]), loss, loss - loss_with["nothing"])
        for name, loss in loss_with.items()
    ],
    ["in front of x", "tokens", "validation loss", "change"],
    ["", "d", ".3f", "+.3f"],
)
best_words = min(loss_with, key=loss_with.get)
say(
    f"Best: {best_words}, {loss_with[best_words]:.3f} nats a token. There are {tokenizer.n_vocab:,}¹⁰ texts of ten tokens to try, and no slope "
    "between them to follow: this is why 003 §3.2 leaves words for vectors."
)

# %% [markdown]
# ## z = [PREFIX; x; y]
#
# Now the step of 003 §3.3. Put P positions in front, P_idx = {0, …, P−1}, that have no tokens, only activations, and keep these in
# a table of their own:
#
#     z = [PREFIX; x; y]
#     h_i = P_θ[i, :]            if i ∈ P_idx
#     h_i = LM(z_i, h_<i)        otherwise
#
# θ are the numbers of that table, and all that is trained; the model's own φ are frozen. (So the objective is the same sum as
# above, but max_θ; 003 §3.1 writes max_φ, which is full fine-tuning.) Since others read of h_i only keys and values, a row of
# P_θ is those: one key and one value for each layer.
#
# Lesson 3 took them from a real text's cache, lesson 8 from a soft prompt's. So a prefix *can* be a text: here it is
# set to the instruction of the last step (`init=words`), before any training.
#
# **Predict before you run:** how far is its validation loss from that of the instruction in words?

# %%
from minitransformer.tuning import (
    FullFineTuning,
    Infix,
    PrefixTuning,
    PromptTuning,
    fingerprint,
    load,
)

before = fingerprint(base)
prefix = PrefixTuning(length=len(words), init=words).attach(base)
as_prefix = evaluate(base, valid)
P_theta = prefix.encoders["prefix"]()  # (P, n_layer*2*C)
prefix.detach()
say(
    f"P_θ has the shape {tuple(P_theta.shape)}. Loss with the words {loss_with['an instruction']:.5f}, with the prefix {as_prefix:.5f}. The words are one point in a "
    f"space of {P_theta.numel():,} directions, and from that point on one can walk."
)
assert abs(as_prefix - loss_with["an instruction"]) < 1e-4 and P_theta.shape == (10, 2 * L * C)

# %% [markdown]
# ## How large is it?
#
# P_θ has |P_idx| rows of dim(h_i) numbers (003 §3.3). Taken literally dim(h_i) is L · C, one vector a layer; what is kept of it is a
# key and a value, so that the table has |P_idx| · 2 · L · C. 003 §1 speaks of 0.1 % of the parameters of GPT-2. We can count: GPT-2 Medium is our class with other sizes (built here on the "meta" device, where tensors have a shape
# and no numbers).
#
# 000 §2.1 describes something smaller: vectors in front of the input, (p; x). That is lesson 8's prompt tuning, or 003 §4.2's
# embedding-only: |P_idx| · C.
#
# **Predict before you run:** does a small model pay a smaller or a larger *share*?

# %%
from minitransformer.models.gpt import GPT, GPTConfig

with torch.device("meta"):
    medium = GPT(
        GPTConfig(
            vocab_size=50257, n_positions=1024, n_layer=24, n_head=16, d_model=1024, d_ff=4096
        )
    )
sizes = []
for name, net in (("GPT-2 Medium", medium), ("our base", base)):
    total = sum(p.numel() for p in net.parameters())
    for P in (5, 10):
        n = P * 2 * net.config.n_layer * net.config.d_model
        sizes.append((name, total, P, n, n / total, P * net.config.d_model / total))
table(
    sizes,
    ["base", "parameters", "P", "numbers in P_θ", "share", "embedding-only"],
    [None, ",", "d", ",", ".3%", ".4%"],
)
say(
    f"So 0.1 % is GPT-2 Medium between P = 5 and P = 10; {sizes[2][4] / sizes[0][4]:.0f} times that for a base as small as ours."
)
assert (
    sizes[0][3] == 245_760 and sizes[0][4] < 0.001 < sizes[1][4] and P_theta.numel() == sizes[3][3]
)

# %% [markdown]
# ## Free, or through an MLP
#
# The authors found it hard to train P_θ itself. They let a small network make it, from a smaller table P'_θ, and train both; this
# is reparametrisation (重参数化):
#
#     P_θ[i, :] = MLP_θ(P'_θ[i, :])
#
# All rows go through the same network, so that one step moves all layers and all rows together. We try both for a few
# steps, from random numbers, each with the learning rate that did best for it on validation.
#
# **Predict before you run:** how many numbers are trained with the MLP, as a share of the base?

# %%
from minitransformer.training.loop import Log, TrainConfig, train

FEW, MANY = (4, 6) if QUICK else (40, 160)
FREE, MLP = {"reparametrise": None}, {"reparametrise": 256}  # the width inside the MLP
LR = {"free": 1e-1, "MLP": 3e-3, "input": 1e-1, "full": 1e-3}


def tune(method, lr: float, steps: int, x: list | None = None, **more) -> Log:
    """Put a method onto the base and train it on batches of 8; seed 0 decides where it starts and what it reads when."""
    torch.manual_seed(0)
    method.attach(base)
    batches = Completions(
        x or xs["train"],
        ys["train"],
        eot,
        batch_size=8,
        n_positions=base.config.n_positions,
        seed=0,
    )
    config = TrainConfig(
        steps=steps,
        lr=lr,
        warmup=steps // 12,
        final_lr=0.02,
        weight_decay=0.0,
        eval_every=max(1, steps // 5),
    )
    return train(base, batches, config, **more)


def try_out(method, lr: float, x: list | None = None, judged_on: list = valid) -> float:
    """The validation loss of a method after a few steps; it is off the base again afterwards."""
    tune(method, lr, FEW, x, progress=False)
    loss, reports[type(method).__name__, method.settings.get("reparametrise")] = (
        evaluate(base, judged_on),
        method.report(),
    )
    method.detach()
    return loss


reports: dict = {}  # what was trained and kept, by class and width of the MLP
few = {
    "free, random": try_out(PrefixTuning(10, **FREE), LR["free"]),
    "MLP, random": try_out(PrefixTuning(10, **MLP), LR["MLP"]),
}
free_report, mlp_report = reports["PrefixTuning", None], reports["PrefixTuning", 256]
table(
    [("nothing", None, None, loss_with["nothing"])]
    + [
        (
            name,
            f"{r.trained:,} ({r.trained_fraction:.1%})",
            f"{r.stored:,} ({r.stored_fraction:.1%})",
            few[name],
        )
        for name, r in zip(few, (free_report, mlp_report), strict=True)
    ],
    ["P = 10", "trained", "kept", f"validation loss after {FEW} steps"],
    [None, None, None, ".3f"],
)
better, worse = sorted(few, key=few.get)
say(
    f"After {FEW} steps of 8 '{better}' is ahead, by {few[worse] - few[better]:.3f} nats. (One seed and few steps, here and in what follows: a hint, "
    "not a proof. Lesson 14 measures with many.)"
)
assert mlp_report.stored == free_report.stored < mlp_report.trained

# %% [markdown]
# ## Trained and kept
#
# Where 002 is loose: its example sets `prefix_projection=True`, which is this MLP, and its table says that few parameters are
# optimised, the prefix alone. The table above says otherwise: what is *trained* is many times what is *kept*. For after training
# only the MLP's output matters: compute P_θ once, store it, and drop the rest, as lesson 8 dropped P-tuning's encoder.
#
# **Predict before you run:** how much do the scores change when the MLP is dropped? And what can no longer be done with the small
# file?

# %%
from minitransformer.course.show import ROOT

folder = ROOT / "figures" / "lesson_09"
folder.mkdir(parents=True, exist_ok=True)
method = PrefixTuning(10, **MLP).attach(base)  # a fresh one: this holds for any numbers
with torch.inference_mode():
    with_mlp = base(torch.tensor([z]))  # (1, T+1, V)
    method.save(folder / "kept.safetensors")
    method.save(folder / "to_go_on.safetensors", resume=True)
    method.drop_mlp()
    without = base(torch.tensor([z]))  # (1, T+1, V)
    method.detach()
    again = load(folder / "to_go_on.safetensors", base)
    from_file = base(torch.tensor([z]))  # (1, T+1, V)
table(
    [
        (path.name, path.stat().st_size / 1024)
        for path in (folder / "kept.safetensors", folder / "to_go_on.safetensors")
    ],
    ["file", "KiB"],
    [None, ".0f"],
)
say(
    f"The scores with the MLP and without it differ by {(with_mlp - without).abs().max():.0e}. The larger file has MLP and P'_θ in it and can "
    f"go on training as before ({again.report().trained:,} numbers); the smaller is for use."
)
again.detach()
assert (with_mlp - without).abs().max() < 1e-5 and torch.equal(with_mlp, from_file)

# %% [markdown]
# ## Where it starts
#
# Three starts (初始化) for a free P_θ (000 §3.1, 003 §4.2): random numbers; the activations, keys and values, of words drawn from
# the vocabulary; those of our instruction. 003 has random far behind, and says that starts unrelated to the task may not
# converge. (In the paper this is about very little data, and unrelated words still beat random numbers.)
#
# **Predict before you run:** does the meaning of the words matter, or that they are words?

# %%
few["free, words of the vocabulary"] = try_out(PrefixTuning(10, init="vocabulary"), LR["free"])
few["free, the instruction"] = try_out(PrefixTuning(10, init=words), LR["free"])
table(
    sorted(few.items(), key=lambda pair: pair[1]),
    ["P = 10", f"loss after {FEW} steps"],
    [None, ".3f"],
)
drawn, chosen = few["free, words of the vocabulary"], few["free, the instruction"]
say(
    f"Free and from random numbers the loss is {few['free, random'] - min(drawn, chosen):+.3f} nats against the better of the two texts; related and "
    f"unrelated words are {abs(drawn - chosen):.3f} apart. The keys and values of a text, any text, are numbers that this model knows how to read; from "
    "random ones a way to such numbers has to be found first. An MLP starts from random numbers too, but moves them all together."
)

# %% [markdown]
# ## Training, beside full fine-tuning
#
# Now in earnest: the way that was ahead so far, and beside it full fine-tuning (lesson 5) of a copy of everything, for the same
# number of steps, on the same batches.
#
# **Predict before you run:** which of the two curves falls faster? And what does the frozen base save: half of the time?

# %%
WAYS = {
    "free, random": FREE,
    "MLP, random": MLP,
    "free, words of the vocabulary": {"init": "vocabulary"},
    "free, the instruction": {"init": words},
}
best = min(few, key=few.get)
say(f"The way that was ahead: {best}")
methods = {"prefix": PrefixTuning(10, **WAYS[best]), "full fine-tuning": FullFineTuning()}
rates = {"prefix": LR[best.split(",")[0]], "full fine-tuning": LR["full"]}
logs, kept = {}, {}
for name, method in methods.items():
    logs[name] = tune(method, rates[name], MANY, valid=valid)
    kept[name] = method.report()
    texts[name] = generate_texts(base, tokenizer, xs["valid"], MOST)
    scores[name] = table_scores(texts[name], rows["valid"])
    method.detach()
with figure(
    "loss", "Validation loss of table-to-text while a prefix of ten, or the whole base, is trained."
) as axes:
    for (name, log), style in zip(logs.items(), ("o-", "s--"), strict=True):
        curve = [(0, loss_with["nothing"])] + [(row["step"], row["loss"]) for row in log.valid]
        axes.plot(
            *zip(*curve, strict=True), style, label=f"{name}: {kept[name].stored:,} numbers kept"
        )
    axes.axhline(
        loss_with[best_words],
        color="grey",
        linestyle=":",
        label=f"untouched, best words in front: {best_words}",
    )
    axes.set(
        xlabel="step (8 tables each)", ylabel="validation loss, nats per token of y", ylim=(0, None)
    )
    axes.legend()
table(
    [
        (
            name,
            kept[name].stored if name in kept else 0,
            logs[name].valid[-1]["loss"] if name in logs else loss_with["nothing"],
            *scores[name],
            logs[name].seconds if name in logs else 0.0,
        )
        for name in scores
    ],
    ["on validation", "kept", "loss", *SCORES, "s"],
    [None, ",", ".3f", *FORMS, ".0f"],
)
gap = logs["prefix"].valid[-1]["loss"] - logs["full fine-tuning"].valid[-1]["loss"]
say(
    f"After {MANY} steps the prefix is {abs(gap):.3f} nats {'behind' if gap > 0 else 'ahead of'} full fine-tuning, and keeps "
    f"{kept['full fine-tuning'].stored // kept['prefix'].stored} times fewer numbers. A step with the frozen base took "
    f"{logs['prefix'].seconds / logs['full fine-tuning'].seconds:.2f} of the time: the gradient still has to travel down through every "
    "layer to reach the prefix; only the weights' own gradients and their update are saved. (000 §1.3 promises faster training; this is how much.)"
)
assert fingerprint(base) == before, "detached, the base should be bit for bit what it was"
assert QUICK or all(log.valid[-1]["loss"] < loss_with["nothing"] - 0.1 for log in logs.values())

# %% [markdown]
# ## What it writes
#
# Read with the eyes of a person who asked for this: is it English? Is everything said? Is anything said that is not in the table?
# (A value that is missing from the text stands in brackets.)

# %%
for i in (0, 1, 2):
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
# ## What longer training gives
#
# That training was a beginning. The course keeps a prefix that was trained for longer, by the same code on the same tables, in
# `data/tuned/`: P_θ and nothing else, with the fingerprint of the base that it belongs to, so that it cannot be put before another
# by mistake.
#
# **Predict before you run:** which grows more with longer training, BLEU or *whole*?

# %%
from minitransformer.errors import UserError

path = prefix_path("table_to_text")
try:
    methods["prefix, longer"] = load(path, base)
except UserError as problem:
    say(f"This step is left out. {problem}")
else:
    longer = methods["prefix, longer"]
    texts["prefix, longer"] = generate_texts(base, tokenizer, xs["valid"], MOST)
    scores["prefix, longer"] = table_scores(texts["prefix, longer"], rows["valid"])
    table(
        [(name, *score) for name, score in scores.items()],
        ["on validation", *SCORES],
        [None, *FORMS],
    )
    for i in (0, 1):
        say(f"> {rows['valid'][i]['source']}\n\n> {texts['prefix, longer'][i]}")
    say(
        f"Its P is {longer.length}; the file has {path.stat().st_size / 1024:.0f} KiB, {longer.report().stored_fraction:.1%} of the base's numbers."
    )
    longer.detach()

# %% [markdown]
# ## Where the prefix is read
#
# Lesson 2 rewrote a head with a prefix, exactly, as a blend of two (He et al. 2022):
#
#     head = (1 − λ) Attention(q, K, V) + λ Attention(q, P_K, P_V)
#
# λ is the share of its attention that a query gives to the prefix. With `watch_attention` we read it off the trained prefix, for each
# layer and head, at the positions of x (while the table is read) and of y (while the text is written), and draw one head whole. The
# identity itself is executed in every layer, on what really flows there.
#
# A query early in the text has little else to read, so the last line gives the share that the prefix would have if all were
# read alike.
#
# **Predict before you run:** when does the model consult its prefix more, while it reads or while it writes?

# %%
from minitransformer.models.attention import attend_by_formula, combined_mask, split_heads
from minitransformer.models.watch import watch_attention

differences = []


def both_sides(layer, args: tuple) -> None:
    """The two sides of the identity, in one layer."""
    x, own = args[0], args[3]  # (1, T, C), and the layer's Prefix
    q, k, v = split_heads(layer.qkv(x), 3, layer.n_head)  # (1, H, T, D)
    T, P = x.size(1), own.k.size(2)
    whole, weights = attend_by_formula(
        q, torch.cat([own.k, k], 2), torch.cat([own.v, v], 2), combined_mask(T, T, P, True, None)
    )
    share = weights[..., :P].sum(-1, keepdim=True)  # λ (1, H, T, 1)
    without, only = (
        attend_by_formula(q, k, v, combined_mask(T, T, 0, True, None))[0],
        attend_by_formula(q, own.k, own.v)[0],
    )
    differences.append((whole - ((1 - share) * without + share * only)).abs().max().item())


prefix = methods["prefix"].attach(base)
P, H = prefix.length, base.config.n_head
hooks = [block.attention.register_forward_pre_hook(both_sides) for block in base.blocks]
with torch.inference_mode():
    base(torch.tensor([z]))
for hook in hooks:
    hook.remove()
shares, evenly = {"x": [], "y": []}, {"x": [], "y": []}
with torch.inference_mode():
    for x, y in zip(xs["valid"][:20], ys["valid"][:20], strict=True):
        with watch_attention(base) as maps:
            base(torch.tensor([[*x, *y]]))
        weights = torch.stack([calls[0][0] for calls in maps.values()])  # (n_layer, H, T, P+T)
        taken = weights[..., :P].sum(-1)  # (n_layer, H, T)  λ
        shares["x"].append(taken[..., : len(x)].mean(-1))
        shares["y"].append(taken[..., len(x) :].mean(-1))
        even = P / (
            P + 1.0 + torch.arange(len(x) + len(y))
        )  # (T,)  if a query read all it may see alike
        evenly["x"].append(even[: len(x)].mean())
        evenly["y"].append(even[len(x) :].mean())
prefix.detach()
lam = {part: torch.stack(values).mean(0) for part, values in shares.items()}  # each (n_layer, H)
layer, head = divmod(int((lam["x"] - 0.5).abs().argmin()), H)
with figure(
    "lambda",
    "λ, the share of attention that the trained prefix takes, by layer and head; and the head that parts its "
    "attention most evenly while it reads x, on one text (left of the line: the prefix).",
    (11, 3.8),
    1,
    3,
) as axes:
    for ax, (part, values) in zip(axes, lam.items(), strict=False):
        ax.imshow(values, vmin=0, vmax=1)
        ax.set(
            title=f"λ at the positions of {part}",
            xlabel="head",
            xticks=range(H),
            xticklabels=range(1, H + 1),
            yticks=range(L),
            yticklabels=range(1, L + 1),
            ylabel="layer",
        )
        for i in range(L):
            for j in range(H):
                ax.text(
                    j,
                    i,
                    f"{values[i, j]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if values[i, j] < 0.6 else "black",
                )
    axes[2].imshow(weights[layer, head], vmin=0, vmax=0.3, aspect="auto")
    axes[2].axvline(P - 0.5, color="white", linewidth=1)
    axes[2].axhline(len(x) - 0.5, color="white", linewidth=1, linestyle=":")
    axes[2].set(
        title=f"layer {layer + 1}, head {head + 1}",
        xlabel="read: prefix | x, y",
        ylabel="reads: x, then y",
    )
    for ax in axes:
        ax.grid(False)
mean = {part: values.mean().item() for part, values in lam.items()}
even = {part: torch.stack(values).mean().item() for part, values in evenly.items()}
table(
    [(f"layer {i + 1}", lam["x"][i].mean().item(), lam["y"][i].mean().item()) for i in range(L)]
    + [("all layers", mean["x"], mean["y"]), ("if all were read alike", even["x"], even["y"])],
    ["mean λ", "at x", "at y"],
    [None, ".2f", ".2f"],
)
more = {part: mean[part] / even[part] for part in mean}
say(
    f"At x the prefix gets {more['x']:.1f} times its even share, at y {more['y']:.1f} times. The head most devoted to it gives it "
    f"{lam['x'].max():.0%} of its attention at x, {lam['y'].max():.0%} at y; the least {lam['x'].min():.0%} and {lam['y'].min():.0%}. In every layer the identity holds, to {max(differences):.0e}. These are the two "
    "roles of 003 §3.2: what is read of the prefix at x changes what later layers find in the table; at y, what is said."
)
assert max(differences) < 1e-4

# %% [markdown]
# ## Zeros are no beginning
#
# A tempting start for a prefix: all zeros, so that training begins from the untouched base, as LoRA does (lesson 12). Lesson 2 said
# why it cannot be: a key of zeros still scores e⁰ = 1.
#
# **Predict before you run:** what does it cost in loss? And what share do ten zeros get?

# %%
zeros = PrefixTuning(10).attach(base)
with torch.no_grad():
    zeros.encoders["prefix"].free.zero_()
loss_zeros = evaluate(base, valid)
with torch.inference_mode(), watch_attention(base) as maps:
    base(torch.tensor([z]))
zeros_take = (
    torch.stack([calls[0][..., :10].sum(-1).mean() for calls in maps.values()]).mean().item()
)
zeros.detach()
say(
    f"Ten zeros take λ = {zeros_take:.2f} on average and move the loss from {loss_with['nothing']:.3f} to {loss_zeros:.3f}. That the text now starts at "
    f"position 10 is not to blame: ten tokens of instruction moved it just as far, and cost {loss_with['an instruction'] - loss_with['nothing']:+.3f}. What they take is "
    "missing elsewhere: of every head's answer, a share λ is now zero."
)
assert abs(loss_zeros - loss_with["nothing"]) > 1e-4

# %% [markdown]
# ## How long?
#
# 003 §4.2: longer is better up to a threshold, then worse; 000 §3.1: longer says more and is harder to train. From here on the
# variants differ in one thing each from the MLP's prefix above: same few steps, same batches.
#
# **Predict before you run:** how much of what P = 10 gains does a single virtual token gain?

# %%
full_prefix = few["MLP, random"]  # P = 10
lengths = {
    P: full_prefix if P == 10 else try_out(PrefixTuning(P, **MLP), LR["MLP"]) for P in (1, 10, 40)
}
gained = {P: loss_with["nothing"] - loss for P, loss in lengths.items()}
table(
    [
        (P, P * 2 * L * C, loss, bar(gained[P], max(0.01, *gained.values())))
        for P, loss in lengths.items()
    ],
    ["P", "kept", f"loss after {FEW} steps", "gained on the base alone"],
    ["d", ",", ".3f", None],
)
say(
    f"P = 1 gains {gained[1] / gained[10]:.0%} of what P = 10 does, P = 40 {gained[40] / gained[10]:.0%}. A threshold beyond which more harms is a matter of long training "
    "on little data (in the paper the training loss goes on falling where the test score no longer rises); so few steps cannot show it."
)

# %% [markdown]
# ## At the input alone
#
# Embedding-only: P vectors at the input, whose keys and values the model computes in every layer, as it does for words. It is lesson
# 8's prompt tuning: P · C numbers, 2 · L times fewer. 003 §4.2 finds it much worse. To be fair, it stands beside the prefix that
# starts as it does, free, as words of the vocabulary; and beside a single virtual token at every layer, which has about as many numbers.
#
# **Predict before you run:** the order of the three.

# %%
embedding_only = try_out(PromptTuning(10, init="vocabulary"), LR["input"])
table(
    [
        ("every layer, P = 10, free, words", 10 * 2 * L * C, drawn),
        ("every layer, P = 1, MLP", 2 * L * C, lengths[1]),
        ("at the input, P = 10, free, words", 10 * C, embedding_only),
    ],
    ["prefix", "kept", f"loss after {FEW} steps"],
    [None, ",", ".3f"],
)
say(
    f"At the input alone it is {abs(embedding_only - drawn):.3f} nats {'worse' if embedding_only > drawn else 'better'} than at every layer, and "
    f"{abs(embedding_only - lengths[1]):.3f} {'worse' if embedding_only > lengths[1] else 'better'} than one virtual token at every layer. What is put in at the input has to "
    "find its way through frozen layers; what is put into a layer is there."
)

# %% [markdown]
# ## Between x and y
#
# An infix (中缀): z = [x; INFIX; y]. The same table, in another place. y sees it as before, x cannot: 003 §4.2 guesses that this
# is why it is worse. That x cannot see it can be checked: compare what the last layer makes of x with what it makes without anything.
#
# **Predict before you run:** the largest change of h^(n) at the positions of x, for either?

# %%
from minitransformer.tuning import virtual_ids

virtual = virtual_ids(10)  # [-1, …, -10]: they mark the place in the text
with_infix = {split: [[*x, *virtual] for x in xs[split]] for split in ("train", "valid")}
changed = {}
with torch.inference_mode():
    x = torch.tensor(xs["valid"][:1])  # (1, T)
    plain = base(x, return_hidden=True)  # (1, T, C)
    for name, method, text in (
        ("prefix", methods["prefix"], x),
        ("infix", Infix(10), torch.tensor(with_infix["valid"][:1])),
    ):
        method.attach(base)
        changed[name] = (base(text, return_hidden=True)[:, : x.size(1)] - plain).abs().max().item()
        method.detach()
infix = try_out(
    Infix(10, **MLP),
    LR["MLP"],
    with_infix["train"],
    eval_completions(with_infix["valid"], ys["valid"], eot, 50),
)
table(
    [
        ("[PREFIX; x; y]", changed["prefix"], full_prefix),
        ("[x; INFIX; y]", changed["infix"], infix),
    ],
    ["P = 10, MLP", "change at x", f"loss after {FEW} steps"],
    [None, ".1e", ".3f"],
)
say(
    f"The infix leaves x as it was. After {FEW} steps it is {abs(infix - full_prefix):.3f} nats {'worse' if infix > full_prefix else 'better'} than the prefix. (The paper, after "
    "full training, P = 10: BLEU 69.7 for the prefix, 67.2 for the infix.)"
)
assert changed["infix"] < 1e-4 < changed["prefix"]

# %% [markdown]
# ## Once, on the test
#
# Nothing was chosen on these: new tables of the eight kinds of things that training had, and, for extrapolation (外推), of four kinds that
# no table in training was about: museum, ship, mountain, festival.
#
# Beside them stands what Li & Liang measured on GPT-2 Medium with the WebNLG data, whose test has seen and unseen categories
# too. Another model, other data: only the pattern can be compared.
#
# **Predict before you run:** which method loses more from seen to unseen?

# %%
final, told = {}, {}  # the scores; for each table the share of its values that is told
for split in ("test_seen", "test_unseen"):
    most = 8 if QUICK else 200
    rows[split], xs[split] = (
        task_rows("table_to_text", split)[:most],
        task_ids("table_to_text", split, tokenizer)[0][:most],
    )
for name, method in methods.items():
    method.attach(base)
    for split in ("test_seen", "test_unseen"):
        written = generate_texts(base, tokenizer, xs[split], MOST)
        final[name, split] = table_scores(written, rows[split])
        told[name, split] = torch.tensor(
            [
                metrics.slot_accuracy([text], [slot_values(row["table"])])[0]
                for text, row in zip(written, rows[split], strict=True)
            ]
        )
    method.detach()
table(
    [(name, split.removeprefix("test_"), *score) for (name, split), score in final.items()],
    ["on the test", "kinds", *SCORES],
    [None, None, *FORMS],
)
table(
    [("prefix, 0.1 %", 62.9, 45.6), ("full fine-tuning", 64.2, 27.7)],
    ["published (Li & Liang, 2021)", "BLEU, seen", "unseen"],
)

lead = {
    split: told["prefix", split] - told["full fine-tuning", split]
    for split in ("test_seen", "test_unseen")
}  # one for each table
moved = (lead["test_unseen"].mean() - lead["test_seen"].mean()).item()
error = math.sqrt(sum(values.var().item() / len(values) for values in lead.values()))
verdict = (
    "too little to tell from chance"
    if abs(moved) < 2 * error
    else "as in the paper"
    if moved > 0
    else "the reverse of the paper"
)
say(
    f"A table's values told, prefix against full fine-tuning after as many steps: {100 * lead['test_seen'].mean():+.1f} points on seen kinds, "
    f"{100 * lead['test_unseen'].mean():+.1f} on unseen ones. From seen to unseen the balance moves {abs(100 * moved):.1f} points towards "
    f"{'the prefix' if moved > 0 else 'full fine-tuning'} (standard error {100 * error:.1f}): {verdict}. Our unseen kinds are an easier test than the paper's: the base met "
    "them in pretraining, and their tables share fields with the seen ones."
)
say(
    "003 §4.1 has more experiments: little data, which lesson 14 measures, and summarisation with an encoder–decoder, lesson 10."
)

# %% [markdown]
# ## The answer

# %%
on_new = {name: final[name, "test_seen"] for name in methods}
behind = on_new["full fine-tuning"][1] - on_new["prefix"][1]
say(
    f"Ten virtual tokens, a key and a value each in every layer ({kept['prefix'].stored_fraction:.1%} of the base's numbers), turned the frozen GPT within {MANY} steps "
    f"into one that tells {on_new['prefix'][1]:.0%} of a new table's values in sentences (BLEU {on_new['prefix'][0]:.1f}); a copy trained as a whole tells "
    f"{on_new['full fine-tuning'][1]:.0%} ({on_new['full fine-tuning'][0]:.1f})"
    + (
        f", a prefix that was trained for longer {on_new['prefix, longer'][1]:.0%} ({on_new['prefix, longer'][0]:.1f})"
        if "prefix, longer" in on_new
        else ""
    )
    + (
        ": it does the task without a weight being changed, if not as well in so few steps."
        if behind > 0.02
        else ": as well, without a weight being changed."
    )
)

# %% [markdown]
# To try next:
#
# - Start the prefix as a whole solved example, its P as long as that is. Is the loss before training that of the fourth table?
# - Train on the first 50 tables only, both methods. Does the prefix lead where data is scarce (003 §4.1)?
# - Give only the top two layers a prefix, `layers=2`, and then only half of P. Which hurts more?
#
# Further reading: "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021); "Towards a Unified View of
# Parameter-Efficient Transfer Learning" (He et al., 2022); "The Power of Scale for Parameter-Efficient Prompt Tuning" (Lester et al.,
# 2021); "When Do Prompting and Prefix-Tuning Work? A Theory of Capabilities and Limitations" (Petrov et al., 2024).
