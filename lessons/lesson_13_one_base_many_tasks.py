"""One base, many tasks

question: One person asks questions, another has tables to be told, a third wants everything said by a pirate: how many models does that take?
minutes: 1.3
documents: 002 (all of it); 000 §2.3 前缀微调的应用场景; 003 §1 Abstract, §2 Introduction
needs: 8, 9, 10, 11, 12
"""

# %% [markdown]
# ## A base that was never asked
#
# 003 §1 begins with a bill: fine-tune a model for every task, and you keep a model for every task. Its answer is one base, and for
# each task something small beside it (§2). Lessons 8 to 12 built the small things. This lesson is about the many tasks, and about what
# has to be right so that the base in the middle stays one.
#
# 002 §应用场景 begins with a dialogue (对话生成), and so do we. The tiny world has requests of fourteen kinds: what is the opposite of hot, sort
# these names, write a note to thank Selin. Ten kinds have one right answer, and we count how many are answered with exactly that (*exact*).
# Stories, notes, greetings and lists have many; of those we ask that the names of the request come back (*names*).
#
# **Predict before you run:** the base has read requests and has read answers, never one behind the other. What will it do?

# %%
import re

import torch
from minitransformer import metrics
from minitransformer.course.bases import load_base, prefix_path
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, figure, say, table, verbatim
from minitransformer.course.tasks import TASKS, as_human, prompt_ids, task_ids, task_rows
from minitransformer.generation.sampling import generate_texts

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, n_positions = tokenizer.eot_id, base.config.n_positions
rows, xs, ys = {}, {}, {}
for split, most in (("train", None), ("valid", 24 if QUICK else None)):
    rows[split] = task_rows("dialogue", split)[:most]
    xs[split], ys[split] = (part[:most] for part in task_ids("dialogue", split, tokenizer))
CLOSED = {
    "opposites": "opposite",
    "larger or smaller": "larger|smaller",
    "sorting": "alphabetical|Sort these",
    "counting": "How many|Count",
    "first or last of a list": "name in this list|name of the list",
    "saying it n times": r"times\.",
    "finding a colour": "colour is named|Find the colour",
    "reading a text": "this text",
    "advice": "should I do|you advise",
    "true or not": "Is it true|Is that right|asks: is it",
}


def write(prompts: list, most: int = 64, **inputs) -> list[str]:
    """What the base, with whatever is on it, goes on with, until it ends the text."""
    new = generate_texts(base, tokenizer, prompts, min(most, 12) if QUICK else most, **inputs)
    return [text.strip() for text in new]


def kind_of(row: dict) -> str | None:
    """Which question with one right answer it is; None for a story, a note, a greeting or a list."""
    return next(
        (kind for kind, words in CLOSED.items() if re.search(words, row["instruction"])), None
    )


def judge(texts: list[str], rows: list) -> tuple[float, float]:
    """Exact, and names."""
    pairs = list(zip(texts, rows, strict=True))
    exact = [text == row["output"] for text, row in pairs if kind_of(row)]
    wanted = [
        (
            text,
            set(re.findall(r"[A-Z]\w+", row["output"]))
            & set(re.findall(r"[A-Z]\w+", row["instruction"])) - {"Hello", "Good"},
        )
        for text, row in pairs
        if not kind_of(row)
    ]
    told, names = zip(*((text, list(names)) for text, names in wanted if names), strict=True)
    return sum(exact) / len(exact), metrics.slot_accuracy(told, names)[0]


texts = {"untouched": write(xs["valid"])}
scores = {"untouched": judge(texts["untouched"], rows["valid"])}
n_open = sum(kind_of(row) is None for row in rows["valid"])
for row, text in list(zip(rows["valid"], texts["untouched"], strict=True))[:3]:
    said = " / ".join(filter(None, (row["instruction"], row["input"])))
    say(
        f"- {said}\n  → {' '.join(text.split())[:160] or '(nothing)'}  (on file: {row['output'][:60]})"
    )
say(
    f"Of {len(rows['valid']) - n_open} questions with one answer {scores['untouched'][0]:.0%} are answered; {scores['untouched'][1]:.0%} of the names come back in the other {n_open}. "
    "The base goes on with a text; nothing told it yet that there are two speakers."
)

# %% [markdown]
# ## Human, Assistant, the end
#
# 002 §Step3 writes an exchange as one text and asks for the answer only:
#
#     z = [x; y; end],   x = "Human: " instruction "\n" input "\n\nAssistant:",   labels = [−100, …, −100; y; end]
#
# in which "\n" input is left out where there is no input. It is lesson 9's z = [x; y] in the words of a dialogue; −100 is the label that
# asks for nothing (`IGNORE`). What is new is that two speakers share the text. Without the labels −100 the model would learn to ask as
# well as to answer.
#
# **Predict before you run:** which token is the first that is asked for, and which the last? And what does the model read when it has to
# say the first?

# %%
from minitransformer.text.batches import IGNORE
from minitransformer.text.batches.completion import (
    Completions,
    completion_batch,
    eval_completions,
    fit,
)
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import language_model_loss

shortest = min(
    range(len(rows["valid"])),
    key=lambda i: (bool(rows["valid"][i]["input"]), len(xs["valid"][i]) + len(ys["valid"][i])),
)
batch = completion_batch(
    xs["valid"][shortest : shortest + 1], ys["valid"][shortest : shortest + 1], eot
)  # "ids", "labels" (1, T+1)
z, labels = batch["ids"][0].tolist(), batch["labels"][0].tolist()
table(
    [
        (
            i,
            "x" if i < len(xs["valid"][shortest]) else "y" if i < len(z) - 1 else "end",
            tokenizer.token(token),
            "−100" if label == IGNORE else tokenizer.token(label),
        )
        for i, (token, label) in enumerate(zip(z, labels, strict=True))
    ],
    ["i", "part", "z_i", "label"],
)
n_asked = sum(label != IGNORE for label in labels)
say(
    f"{n_asked} of {len(z)} tokens are asked for. The first is said by the position of the colon, so that all of the answer, its first "
    "space included, has to come from the model; the last is the end, without which it would never learn to stop."
)
assert (
    n_asked == len(ys["valid"][shortest]) + 1
    and z[len(xs["valid"][shortest]) - 1] == tokenizer.encode(" x:")[-1]
)

# %% [markdown]
# Where 002 is loose: its x ends in "Assistant: " with a space, and x and y are cut into tokens apart. But a tokenizer learns words with
# the space in front of them (lesson 1). So x ends in a space that stands alone, which no text that the base has read has at this
# place, and y begins with a word that has lost its own, and may be cut otherwise.
#
# **Predict before you run:** what does that cost, in nats an answer, before anything is trained?

# %%
apart = {
    "…Assistant: | word": [
        (prompt_ids(TASKS["dialogue"].asked(row) + " ", tokenizer), tokenizer.encode(row["output"]))
        for row in rows["valid"]
    ],
    "…Assistant: | ␣word": list(zip(xs["valid"], ys["valid"], strict=True)),
}
costs = {}
for name, pairs in apart.items():
    own_x, own_y = zip(*pairs, strict=True)
    n_labels = sum(len(y) + 1 for y in own_y)
    costs[name] = evaluate(base, eval_completions(own_x, own_y, eot, 50)) * n_labels / len(own_y)
    verbatim(
        f"{name:20}  {costs[name]:6.2f} nats an answer; x ends {[tokenizer.token(i) for i in own_x[shortest][-3:]]}, y begins {[tokenizer.token(i) for i in own_y[shortest][:2]]}"
    )
as_002, ours = costs.values()
say(
    f"The stray space {'costs' if as_002 > ours else 'saves'} {abs(as_002 - ours):.1f} nats an answer, {abs(as_002 / ours - 1):.1%}"
    + (
        ": a habit against the base's reading, which training has to mend."
        if as_002 > 1.02 * ours
        else ", so that a base that knows no dialogue hardly minds."
    )
    + " We leave the space to y in every task, as the words were learned (`tasks.py` says in one place how each is asked)."
)

# %% [markdown]
# ## Padded, without losing the end
#
# The rows of a batch differ in length. 002 leaves the filling to a collator (padding collator, `DataCollatorForSeq2Seq`): ids filled with
# a padding token, labels with −100. Which token fills is all the same to a GPT when nobody looks back from there; like many that have
# none for it, we take the end token.
#
# And there is a trap. If the padding is the end token, and somebody makes the labels by "−100 wherever the padding token stands", the
# true end goes with it.
#
# **Predict before you run:** in a batch of 8, how many texts are asked to end, made either way?

# %%
batch = completion_batch(xs["train"][:8], ys["train"][:8], eot)
ids, labels = batch["ids"], batch["labels"]  # each (B, T+1)
by_token = labels.masked_fill(ids == eot, IGNORE)  # (B, T+1)
filled = sum(
    ids.size(1) - len(x) - len(y) - 1 for x, y in zip(xs["train"][:8], ys["train"][:8], strict=True)
)
ends = {"by position": int((labels == eot).sum()), "by token": int((by_token == eot).sum())}
table(
    [
        ("labels by position", ends["by position"], int((labels != IGNORE).sum())),
        ("labels by token", ends["by token"], int((by_token != IGNORE).sum())),
    ],
    [f"8 texts, {filled / ids.numel():.0%} of the batch filled up", "ends asked for", "labels"],
)
say(
    "By token none is: such a model answers, and then goes on talking. `completion_batch` counts positions."
)
assert ends == {"by position": 8, "by token": 0}

# %% [markdown]
# ## Cut, without losing the answer
#
# 002 cuts what is too long (truncation, 截断): ids and labels, [:256]. The cut takes the end first, then the answer; where the request
# alone is as long, all that is left is labels −100. The loss is a mean over the labels that ask, here over none: 0/0.
#
# Our requests are short, so we cut at less. `fit` cuts otherwise: x gives way before y does, down to half of the room, and loses its middle,
# for its beginning says what is asked and behind its end the answer starts; and a y that had to be cut is not asked to end there.
#
# **Predict before you run:** how many of the requests have no label left at 32? And with `fit`?

# %%
import torch.nn.functional as F


def cut_as_002(x: list[int], y: list[int], most: int) -> tuple[list[int], list[int]]:
    """[x; y; end] and its labels, cut at their end."""
    return [*x, *y, eot][:most], [*[IGNORE] * len(x), *y, eot][:most]


pairs, counts, lost = list(zip(xs["train"], ys["train"], strict=True)), [], {}
for most in (24, 32, 48, 64, 96):
    cut = [cut_as_002(x, y, most)[1] for x, y in pairs if len(x) + len(y) + 1 > most]
    lost[most] = sum(set(labels) == {IGNORE} for labels in cut)
    fitted = [fit(x, y, most) for x, y in pairs]
    kept_whole = sum(pair.whole for pair in fitted)
    unasked = sum(not (pair.target or pair.whole) for pair in fitted)
    counts.append(
        (most, len(cut), sum(eot in labels for labels in cut), lost[most], kept_whole, unasked)
    )
    assert unasked == 0
table(
    counts,
    ["at most", "too long", "end left, [:n]", "no label, [:n]", "y whole, fit", "no label, fit"],
    [",", ",", ",", ",", ",", ","],
)
x, y = max(pairs, key=lambda pair: len(pair[0]))
z, labels = (torch.tensor(part) for part in cut_as_002(x, y, len(x)))  # each (T+1)
with torch.no_grad():
    mean = F.cross_entropy(base(z[None, :-1])[0], labels[1:], ignore_index=IGNORE)
x_fit, y_fit, whole = fit(x, y, len(x))
fit_loss, n = language_model_loss(base, completion_batch([x_fit], [y_fit], eot, [whole]))
say(
    f"One of {len(x)} tokens of request, cut at {len(x)}: the mean cross-entropy is {mean.item()}; made to fit, {fit_loss.item() / n:.2f} over {n} labels."
)
assert mean.isnan() and fit_loss.isfinite() and (QUICK or lost[32] > 0)

# %% [markdown]
# What does such an example do to the training? It depends on who divides. `F.cross_entropy` skips the labels −100 on the way back too. A mean
# written by hand, losses × mask / number of labels, does not: the division by 0 sends infinity back, and infinity × 0 is no number again. One AdamW
# step on a fresh prefix, either way:
#
# **Predict before you run:** how many of its numbers survive? And what does this course's training loop do with the same labels?

# %%
from minitransformer.errors import UserError
from minitransformer.tuning import PrefixTuning, attached, fingerprint

before, probe = fingerprint(base), torch.tensor([xs["valid"][0]])
with torch.inference_mode():
    logits_before = base(probe)  # (1, T, V)


def by_hand(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over the labels that ask, with a mask."""
    mask = (labels != IGNORE).float()
    return (
        F.cross_entropy(scores, labels.clamp(min=0), reduction="none") * mask
    ).sum() / mask.sum()


dead = {}
for name, mean_loss in {
    "F.cross_entropy": F.cross_entropy,
    "losses × mask / labels": by_hand,
}.items():
    prefix = PrefixTuning(10)
    with attached(base, prefix):
        optimizer = torch.optim.AdamW(prefix.parameters(), lr=1e-3)
        loss = mean_loss(base(z[None, :-1])[0], labels[1:])
        loss.backward()
        optimizer.step()
        dead[name] = (
            loss.item(),
            sum(int(p.isnan().sum()) for p in prefix.parameters()),
            prefix.report().trained,
        )
table(
    [(name, *numbers) for name, numbers in dead.items()],
    ["no label", "loss", "nan after a step", "of"],
    [None, ".1f", ",", ","],
)
with attached(base, PrefixTuning(10)):
    try:
        train(
            base,
            lambda i: {"ids": z[None], "labels": labels[None]},
            TrainConfig(steps=1),
            progress=False,
        )
    except UserError as refused:
        say(f"The loop: {refused}")
say(
    "So with the library's mean the example is lost and the log says nan; with the other the prefix is. With `fit` neither can happen."
)
assert [n for _, n, _ in dead.values()] == [0, 2 * base.config.n_layer * base.config.d_model * 10]

# %% [markdown]
# ## Eight times one, once eight
#
# 002 §Step5 has batches of one example, and sums the gradients of eight of them before a step (gradient accumulation, 梯度累积). The
# purpose is memory: only one example's activations are held at a time. It should be the same step as with a batch of eight.
#
# Is it? The mean over eight examples' means is not the mean over all their labels, when one answer has four labels and another fifty.
# Many loops averaged the means. Ours sums losses and counts labels, and divides once (`TrainConfig.accumulate`).
#
# **Predict before you run:** by how much do the prefixes differ after four steps, 8 × 1 against 1 × 8? And if means are averaged?

# %%
import time


def mean_of_each(model, batch: dict) -> tuple[torch.Tensor, int]:
    """An example's own mean, counted as one: what averaging the means comes to."""
    loss, n = language_model_loss(model, batch)
    return loss / n, 1


ways = {
    "1 × 8": (8, 1, language_model_loss),
    "8 × 1": (1, 8, language_model_loss),
    "8 × 1, means averaged": (1, 8, mean_of_each),
}
after, seconds = {}, {}
for name, (size, times, loss) in ways.items():
    torch.manual_seed(0)
    prefix = PrefixTuning(10)
    with attached(base, prefix):
        batches = Completions(xs["train"], ys["train"], eot, size, n_positions - 10, seed=0)
        log = train(
            base,
            batches,
            TrainConfig(steps=4, lr=1e-2, accumulate=times, weight_decay=0.0),
            loss=loss,
            progress=False,
        )
    after[name], seconds[name] = prefix.encoders["prefix"]().detach(), log.seconds / 4
moved = {name: (P_theta - after["1 × 8"]).abs().max().item() for name, P_theta in after.items()}
table(
    [(name, moved[name], seconds[name] * 1000) for name in ways],
    ["batches × examples", "largest difference from 1 × 8", "ms a step"],
    [None, ".1e", ".0f"],
)
labels_of = [len(y) + 1 for y in ys["train"][:8]]
say(
    f"8 × 1 is 1 × 8, but for rounding, and takes {seconds['8 × 1'] / seconds['1 × 8']:.1f} times as long on this machine. Averaged means are another objective: in one that has "
    f"answers of {min(labels_of)} to {max(labels_of)} labels, a token of the shortest weighs {max(labels_of) / min(labels_of):.0f} times as much as one of the longest."
)
assert moved["8 × 1"] < 0.05 * moved["8 × 1, means averaged"]

# %% [markdown]
# ## Training the dialogue
#
# Now 002's program in earnest: P virtual tokens made by an MLP (002 §PEFT Step1, `prefix_projection=True`), the base frozen. We take P = 20;
# the prefixes that the course keeps have that length too. Beside it stand prompt tuning (lesson 8) of the same length and full
# fine-tuning (lesson 5), each with a learning rate found on validation, on the same batches.
#
# **Predict before you run:** the order of the three after so few steps?

# %%
from minitransformer.course.trial import tune
from minitransformer.tuning import FullFineTuning, PromptTuning

STEPS, P = (4, 20) if QUICK else (160, 20)
methods = {
    "prefix": PrefixTuning(P, reparametrise=256),
    "prompt": PromptTuning(P, init="vocabulary"),
    "full fine-tuning": FullFineTuning(),
}
RATES = {
    "prefix": 4e-3,
    "prompt": 3e-1,
    "full fine-tuning": 1e-3,
}  # of those tried on validation, the best
valid = eval_completions(xs["valid"], ys["valid"], eot, 50)
losses = {"untouched": evaluate(base, valid)}
reports, per_step = {}, {}


def loss_and_texts() -> tuple[float, list[str]]:
    """Of the base with what is on it."""
    return evaluate(base, valid), write(xs["valid"])


for name, method in methods.items():
    torch.manual_seed(0)
    batches = Completions(xs["train"], ys["train"], eot, 8, n_positions - P, seed=0)
    config = TrainConfig(STEPS, RATES[name], warmup=STEPS // 10, final_lr=0.02, weight_decay=0.0)
    done = tune(base, method, batches, config, loss_and_texts)
    reports[name], per_step[name] = done.report, done.log.seconds / STEPS
    losses[name], texts[name] = done.judged
    scores[name] = judge(texts[name], rows["valid"])
table(
    [
        (
            name,
            reports[name].trained if name in reports else 0,
            reports[name].stored if name in reports else 0,
            losses[name],
            *scores[name],
            1000 * per_step[name] if name in per_step else None,
        )
        for name in scores
    ],
    [f"{STEPS} steps of 8, validation", "trained", "kept", "loss", "exact", "names", "ms a step"],
    [None, ",", ",", ".3f", ".0%", ".0%", ".0f"],
)
say(
    f"`print_trainable_parameters` in 002 §PEFT Step2 is `report()` here. {reports['prefix']} That is {reports['full fine-tuning'].stored // reports['prefix'].stored} times fewer to keep than with full fine-tuning, and a step takes "
    f"{per_step['prefix'] / per_step['full fine-tuning']:.2f} of the time."
)
assert fingerprint(base) == before and (
    QUICK or max(losses[name] for name in methods) < losses["untouched"] - 0.2
)

# %% [markdown]
# ## What it says
#
# The course keeps a prefix for dialogue that was trained for longer (`data/tuned/`, by `make pretrain`). It stands beside the others.
#
# **Predict before you run:** which kinds of question are the last to be answered: those about the world, or those that take counting and sorting?

# %%
from minitransformer.tuning import load

path = prefix_path("dialogue")
longer = load(path, base)
texts["prefix, longer"] = write(xs["valid"])
scores["prefix, longer"] = judge(texts["prefix, longer"], rows["valid"])
for kind in ("opposites", "sorting", "true or not", None):
    i = next((i for i, row in enumerate(rows["valid"]) if kind_of(row) == kind), 0)
    row = rows["valid"][i]
    say(f"> {' / '.join(filter(None, (row['instruction'], row['input'])))}\n")
    for name in texts:
        say(
            f"- {name}: {' '.join(texts[name][i].split())[:170] or '(nothing)'}{' ✓' if texts[name][i] == row['output'] else ''}"
        )
of_kind = {
    kind: [i for i, row in enumerate(rows["valid"]) if kind_of(row) == kind] for kind in CLOSED
}
right = {
    (kind, name): sum(texts[name][i] == rows["valid"][i]["output"] for i in which)
    for kind, which in of_kind.items()
    for name in texts
}
table(
    [
        (kind, len(which), *(right[kind, name] for name in texts))
        for kind, which in of_kind.items()
        if which
    ],
    ["answered exactly, validation", "of", *texts],
)
hardest = sorted(
    (kind for kind in of_kind if of_kind[kind]),
    key=lambda kind: right[kind, "prefix, longer"] / len(of_kind[kind]),
)[:3]
say(
    f"With longer training: exact {scores['prefix, longer'][0]:.0%}, names {scores['prefix, longer'][1]:.0%}. Hardest for it: {', '.join(hardest)}."
)

# %% [markdown]
# 002 §Step8 draws its answers (`do_sample=True`), up to `max_length=128`, which counts the request too. For a story one wants a draw: each time
# another. For the opposite of hot one does not.
#
# **Predict before you run:** what does drawing (temperature 1) cost in *exact*?

# %%
drawn = judge(write(xs["valid"], temperature=1.0, seed=0), rows["valid"])
asked = prompt_ids(as_human("Tell me a story about Mira and a red kite."), tokenizer)
for seed in range(3):
    say(f"- {write([asked], temperature=1.0, seed=seed)[0]}")
longer.detach()
say(
    f"Likeliest word always: exact {scores['prefix, longer'][0]:.0%}, names {scores['prefix, longer'][1]:.0%}. Drawn: {drawn[0]:.0%} and {drawn[1]:.0%}."
)

# %% [markdown]
# ## One sentence, five styles
#
# Now the many tasks. Ten prefixes stand in `data/tuned/`, all for this base, all of P = 20: dialogue, table-to-text, summaries of news and of
# sport, questions about a passage, and five styles. 000 §2.3 names style first among the uses of a prefix. Each style learned from its own
# two hundred sentences; here all five get the same ones.
#
# **Predict before you run:** all five in one batch, each row under another prefix (`for_each_row`, lesson 10). In which style will a fact get lost?

# %%
from minitransformer.course.tinyworld import style_of
from minitransformer.tuning import for_each_row

tuned = {}
for task in TASKS:
    tuned[task] = load(prefix_path(task), base)
    tuned[task].detach()
STYLED = [task for task in TASKS if TASKS[task].folder == "styles"]
plain = [row["plain"] for row in task_rows(STYLED[0], "valid")][: 3 if QUICK else 30]
FACTS = re.compile(r"(\w+) \w+ an? (\w+) (.+) at the (.+) in (.+) on (\w+)\.")
facts = [[fact.lower() for fact in FACTS.fullmatch(text).groups()] for text in plain]
styled = {}
for style in STYLED:
    styled[style] = write(
        [prompt_ids(f"{text}\n", tokenizer) for text in plain], **for_each_row([tuned[style]])
    )
one_batch = write(
    [prompt_ids(f"{plain[0]}\n", tokenizer)] * 5, **for_each_row([tuned[style] for style in STYLED])
)
say(f"> {plain[0]}\n")
for style, text in zip(STYLED, one_batch, strict=True):
    say(f"- {style}: {' '.join(text.split())}")
in_style = {
    style: sum(style_of(text) == style for text in styled[style]) / len(plain) for style in STYLED
}
facts_kept = {
    style: metrics.slot_accuracy([text.lower() for text in styled[style]], facts)[0]
    for style in STYLED
}
table(
    [(style, in_style[style], facts_kept[style]) for style in STYLED],
    [f"{len(plain)} sentences, validation", "in the style", "facts kept"],
    [None, ".0%", ".0%"],
)
say(
    f"(A style is told by its marks, `style_of`; a fact is who, which colour, what, where, in which town, on which day.) The fewest facts survive in {min(facts_kept, key=facts_kept.get)}."
)

# %% [markdown]
# ## Switching
#
# A program that serves several tasks changes between them while it runs. What does a change cost? With full fine-tuning another model has to be
# loaded. A prefix can be read from its file; or, if it is in memory, taken off and another put on; or nothing is put on at all, and it is
# handed over with the call.
#
# **Predict before you run:** how many times faster is the last than the first?


# %%
def time_of(change, times: int = 2 if QUICK else 8) -> float:
    """Milliseconds, the middle one of several tries."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        change()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)[times // 2]


def put_on(task: str) -> None:
    """One prefix on, and off again."""
    tuned[task].attach(base)
    tuned[task].detach()


switch = {
    "another fine-tuned model, from its file": time_of(lambda: load_base("gpt")),
    "a prefix, from its file": time_of(lambda: load(path, base).detach()),
    "a prefix, put on and off": time_of(lambda: put_on("pirate")),
    "a prefix, handed over with the call": time_of(lambda: for_each_row([tuned["pirate"]])),
}
checksum = time_of(lambda: fingerprint(base))
table(list(switch.items()), ["a change of task", "ms"], [None, ".2f"])
slow, *_, fast = switch.values()
say(
    f"{slow / fast:.0f} times. To put a prefix on takes as long as it does because `attach` first checks, by a checksum over all numbers of the base, that it is the base that the prefix was "
    f"trained on ({checksum:.1f} ms). The last way is that of the course's conversation: `make chat TASK=dialogue`, and there `/task pirate` changes the prefix between two lines, `/plain` takes it away."
)

# %% [markdown]
# ## Ten tasks in one batch
#
# Handed over with the call, the prefixes need not even take turns. One batch, ten tasks, each row under its own prefix; the texts are padded on the
# left. With ten fine-tuned models these would be ten batches in ten models; and a LoRA that is merged (lesson 12) makes its model one task's too.
#
# **Predict before you run:** how many of the texts differ from what each task's prefix writes alone?

# %%
from minitransformer.generation.sampling import left_pad

mixed = [
    (task, prompt_ids(TASKS[task].asked(row), tokenizer))
    for task in TASKS
    for row in task_rows(task, "valid")[: 1 if QUICK else 3]
]
each = for_each_row([tuned[task] for task, _ in mixed])
began = time.perf_counter()
together = write([x for _, x in mixed], **each)
at_once = time.perf_counter() - began
began = time.perf_counter()
alone = [write([x], **for_each_row([tuned[task]]))[0] for task, x in mixed]
one_by_one = time.perf_counter() - began
ids, attention_mask = left_pad([x for _, x in mixed])  # (B, T), (B, T)
with torch.inference_mode():
    scores_together = base(ids, attention_mask=attention_mask, **each)[:, -1]  # (B, V)
    scores_alone = torch.cat(
        [base(torch.tensor([x]), **for_each_row([tuned[task]]))[:, -1] for task, x in mixed]
    )  # (B, V)
apart_by = (scores_together - scores_alone).abs().max().item()
step = max(1, len(mixed) // len(TASKS))
table(
    [
        (task, " ".join(text.split())[:72])
        for (task, _), text in list(zip(mixed, together, strict=True))[::step]
    ],
    ["prefix of the row", "what it writes"],
)
say(
    f"{sum(a != b for a, b in zip(together, alone, strict=True))} of {len(mixed)} texts differ; the scores of the next word differ by {apart_by:.0e} at most. One batch took {at_once:.2f} s, "
    f"one text after another {one_by_one:.2f} s."
)
assert apart_by < 1e-3

# %% [markdown]
# ## What a hundred tasks weigh
#
# 003 §1's bill, itemised. Each method goes onto the base, is saved, and its file weighed: that, times the number of tasks, and the base once.
# (Full fine-tuning needs no base beside it.) Each has a usual size: P = 20, adapters of width 16 after both sublayers, LoRA of rank 4 for queries and
# values.
#
# **Predict before you run:** with a hundred tasks, how many times heavier is full fine-tuning than the prefixes, base included? Why less than
# one file against one file?

# %%
from minitransformer.course.data import DATA
from minitransformer.course.show import ROOT
from minitransformer.tuning import IA3, Adapter, BitFit, LoRA

folder = ROOT / "figures" / "lesson_13"
folder.mkdir(parents=True, exist_ok=True)
KINDS = {
    "full fine-tuning": FullFineTuning(),
    "adapters, r = 16": Adapter(16),
    "prefix, P = 20": PrefixTuning(20),
    "LoRA, r = 4": LoRA(4),
    "biases": BitFit(),
    "IA³": IA3(),
    "prompt, P = 20": PromptTuning(20),
}
weighed = {}
for name, method in KINDS.items():
    with attached(base, method):
        method.save(folder / "weighed.safetensors")
        weighed[name] = method.report(), (folder / "weighed.safetensors").stat().st_size
(folder / "weighed.safetensors").unlink()
base_bytes = (DATA / "bases" / "gpt.safetensors").stat().st_size


def megabytes(name: str, n_tasks: int) -> float:
    """What has to be kept for so many tasks."""
    return (weighed[name][1] * n_tasks + (0 if name == "full fine-tuning" else base_bytes)) / 1e6


SAID = {
    "full fine-tuning": "all (003 §1)",
    "adapters, r = 16": "2–4 % (003 §2)",
    "prefix, P = 20": "0.1 % (003 §1)",
    "LoRA, r = 4": "O(dr) (001 §3.1.3)",
    "prompt, P = 20": "O(md) (001 §3.1.4)",
}
table(
    [
        (
            name,
            report.stored,
            report.stored_fraction,
            SAID.get(name, "–"),
            size / 1024,
            megabytes(name, 100),
        )
        for name, (report, size) in weighed.items()
    ],
    ["method", "numbers kept", "of the base", "document", "KiB a task", "MB, 100 tasks"],
    [None, ",", ".2%", None, ".0f", ".1f"],
)
with figure(
    "storage",
    "What has to be kept for 1 to 100 tasks: the base once and a file for each task; full fine-tuning keeps a model for each.",
    (7.5, 4.4),
) as axes:
    n_tasks = range(1, 101)
    for name, style in zip(weighed, ("-", "--", "-", "-.", ":", "--", "-"), strict=True):
        axes.plot(
            n_tasks,
            [megabytes(name, n) for n in n_tasks],
            style,
            label=f"{name} ({weighed[name][0].stored_fraction:.1%})",
        )
    axes.axhline(base_bytes / 1e6, color="grey", linewidth=1, linestyle=":")
    axes.text(
        100,
        base_bytes / 1e6 * 0.93,
        "the base alone",
        ha="right",
        va="top",
        color="grey",
        fontsize=9,
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="tasks",
        ylabel="MB to keep",
        yticks=[5, 10, 20, 50, 100, 200, 400],
        yticklabels=[5, 10, 20, 50, 100, 200, 400],
        xticks=[1, 2, 5, 10, 20, 50, 100],
        xticklabels=[1, 2, 5, 10, 20, 50, 100],
    )
    axes.minorticks_off()
    axes.legend(title="kept for a task (of the base)", fontsize=9, title_fontsize=9)
ratio = {n: megabytes("full fine-tuning", n) / megabytes("prefix, P = 20", n) for n in (1, 100)}
say(
    f"With one task full fine-tuning is the lightest of all ({ratio[1]:.2f} times the prefix with its base); with a hundred it is {ratio[100]:.0f} times the prefixes. File against file it is "
    f"{weighed['full fine-tuning'][1] / weighed['prefix, P = 20'][1]:.0f} times: the base is paid once, and divided among the tasks."
)

# %% [markdown]
# Our shares are larger than the documents', for our base is small: what is kept grows with L · C, the base with L · C². With the same settings on
# GPT-2 Medium (L = 24, C = 1024), by formulas that first have to give what was just counted:
#
# **Predict before you run:** which of the documents' shares does GPT-2 Medium come to?

# %%
FORMULAS = {
    "full fine-tuning": lambda L, C, n: n,
    "adapters, r = 16": lambda L, C, n: (
        L * 2 * (2 * C * 16 + 16 + C)
    ),  # two a layer: W_down, W_up, and their biases
    "prefix, P = 20": lambda L, C, n: 20 * 2 * L * C,
    "LoRA, r = 4": lambda L, C, n: L * 2 * 4 * (C + C),  # for W_q and W_v an A and a B
    "prompt, P = 20": lambda L, C, n: 20 * C,
}
own = base.config.n_layer, base.config.d_model, weighed["full fine-tuning"][0].base
medium = 24, 1024, 354_823_168  # counted in lesson 9
for name, formula in FORMULAS.items():
    assert formula(*own) == weighed[name][0].stored, name
table(
    [
        (
            name,
            formula(*own) / own[2],
            formula(*medium),
            formula(*medium) / medium[2],
            4e-9 * (formula(*medium) * 100 + (0 if name == "full fine-tuning" else medium[2])),
        )
        for name, formula in FORMULAS.items()
    ],
    ["method", "of our base", "GPT-2 Medium: kept", "of it", "GB, 100 tasks"],
    [None, ".2%", ",", ".3%", ".1f"],
)
adapters, prefixed = (
    FORMULAS[name](*medium) / medium[2] for name in ("adapters, r = 16", "prefix, P = 20")
)
say(
    f"There twenty virtual tokens are {prefixed:.2%}; 003 §1's 0.1 % would be {0.001 / prefixed * 20:.0f} of them. Adapters of width 16 are {adapters:.2%}; 003 §2's 2 to 4 % would be "
    f"{0.02 / adapters * 16:.0f} to {0.04 / adapters * 16:.0f} wide."
)

# %% [markdown]
# ## What the base can still do
#
# The last claim in 002 §优势: prefix tuning keeps the model's abilities (保留模型原始能力), fine-tuning does not, because it changes all parameters. The first half can be
# had exactly. All prefixes are off: are the scores that the base gave at the beginning still these, bit for bit?
#
# The second half has to be measured. So we ask for what the base could do before (`skills.py`): copy words, read a table, say it in other words, go on in a style; and
# how well it foresees prose that it never saw, in nats a token. Untouched; with the dialogue's prefix on; and fine-tuned on dialogue.
#
# **Predict before you run:** 002 says "yes" for the prefix. Is it a yes while the prefix is *on*?

# %%
from minitransformer.course.skills import gpt_skills
from minitransformer.text.corpora import eval_windows, read_documents, token_stream

with torch.inference_mode():
    same = torch.equal(base(probe), logits_before)
say(
    f"After {len(methods)} trainings and {len(tuned)} prefixes, detached: scores bit for bit the same: {same}; fingerprint {before} and {fingerprint(base)}."
)
assert same and fingerprint(base) == before
prose = eval_windows(
    token_stream(read_documents(DATA / "text" / "valid.txt")[:60], tokenizer),
    128,
    16,
    most=4 if QUICK else 32,
)
n_each = 3 if QUICK else 36
states = {
    "untouched": None,
    "prefix on": methods["prefix"],
    "prompt on": methods["prompt"],
    "fine-tuned": methods["full fine-tuning"],
}
able, foresees = {}, {}
for name, method in states.items():
    with attached(base, *[method] * (method is not None)):
        able[name], foresees[name] = gpt_skills(base, tokenizer, n_each), evaluate(base, prose)
table(
    [(skill, *(able[name][skill] for name in states)) for skill in able["untouched"]],
    ["skill (share of 1)", *states],
    [None, *[".2f"] * len(states)],
)
table([("prose, nats a token", *foresees.values())], ["", *states], [None, *[".3f"] * len(states)])


def loss_of_skill(name: str) -> float:
    """How much of what the untouched base can do is gone, the mean over the skills."""
    return sum(able["untouched"][skill] - able[name][skill] for skill in able[name]) / len(
        able[name]
    )


gone = {name: loss_of_skill(name) for name in states}
say(
    f"Fine-tuned on dialogue for {STEPS} steps, the model has lost {100 * gone['fine-tuned']:.0f} points of 100 of these skills on average (forgetting, 遗忘), and prose costs it {foresees['fine-tuned'] - foresees['untouched']:+.2f} nats a "
    f"token. With dialogue's prefix on, {100 * gone['prefix on']:.0f} points and {foresees['prefix on'] - foresees['untouched']:+.2f} nats: a prefix is made to change what the model does. What can be said with 002 is that it can be taken off, and that then nothing is gone, "
    "not a bit."
)
assert fingerprint(base) == before

# %% [markdown]
# ## The table, measured
#
# 002 §对比 compares in a table: parameters (参数量), where it fits (适用场景), what it costs to compute (计算开销), whether the model's abilities are kept
# (保留模型能力). Here it stands again, with what this lesson measured in the place of words.
#
# **Predict before you run:** which of 002's twelve entries would you write differently by now?

# %%
columns = ("prefix", "prompt", "full fine-tuning")
ours = {
    "参数量, kept": [f"{reports[name].stored:,}" for name in columns],
    "  trained": [f"{reports[name].trained:,}" for name in columns],
    "适用场景, exact in dialogue": [f"{scores[name][0]:.0%}" for name in columns],
    "计算开销, time of a step": [
        f"{per_step[name] / per_step['full fine-tuning']:.2f}" for name in columns
    ],
    "保留模型能力, taken off": ["bit for bit", "bit for bit", "by a second copy"],
    "  share of skills lost while on": [
        *(f"{gone[name]:.2f}" for name in ("prefix on", "prompt on", "fine-tuned"))
    ],
}
said = {
    "参数量": ("few", "few", "many"),
    "适用场景": ("conditional generation", "classification, generation", "all tasks"),
    "计算开销": ("lower", "lower", "higher"),
    "保留模型能力": ("yes", "yes", "no"),
}
table([(name, *entries) for name, entries in said.items()], ["002 says", *columns])
table([(name, *entries) for name, entries in ours.items()], ["measured here", *columns])
saved = 1 - per_step["prefix"] / per_step["full fine-tuning"]
say(
    f"- 参数量: of what is *kept* it is true. Of what is trained it is not, with the MLP of 002's own example: {reports['prefix'].trained_fraction:.0%} of the base's number (lesson 9).\n"
    "- 适用场景: too narrow for the prefix. Lesson 10 had it classify reviews, translate and answer questions. And the entry for prompts does not say how well: here, after as many steps, "
    f"exact {scores['prompt'][0]:.0%} against {scores['prefix'][0]:.0%} with the prefix, names {scores['prompt'][1]:.0%} against {scores['prefix'][1]:.0%}.\n"
    f"- 计算开销: {'lower, by' if saved > 0.05 else 'hardly lower:'} {saved:.0%} a step here. What is lower by far is what a task takes on the disk, and what a switch takes.\n"
    "- 保留模型能力: yes, in the one sense that the base is not touched. It holds for every method that can be taken off, so also for adapters and LoRA."
)

# %% [markdown]
# ## Once, on the test
#
# Nothing was chosen on these. First dialogue, with names that nobody saw, under every method; ± is twice the standard error.
#
# Then all ten prefixes on their own tasks, against the base alone that is asked in the same words: the words of the answer in common (ROUGE-L) for
# summaries, exact answers for questions, values told for tables, the style for styles. These are 000 §2.3's uses (应用场景) with one base: text in a
# style, question answering; classification and translation were lesson 10's, on the other two bases.
#
# **Predict before you run:** for which of the ten tasks is the base alone already half as good?

# %%
from minitransformer.course.tinyworld import slot_values

rows["test"] = task_rows("dialogue", "test")[: 24 if QUICK else None]
xs["test"] = [prompt_ids(TASKS["dialogue"].asked(row), tokenizer) for row in rows["test"]]
final = {}
for name, method in {"untouched": None, **methods, "prefix, longer": tuned["dialogue"]}.items():
    with attached(base, *[method] * (method is not None)):
        final[name] = judge(write(xs["test"]), rows["test"])
n_closed = sum(kind_of(row) is not None for row in rows["test"])
table(
    [
        (name, exact, 2 * metrics.standard_error(exact, n_closed), names)
        for name, (exact, names) in final.items()
    ],
    [f"dialogue, test ({n_closed} with one answer)", "exact", "±", "names"],
    [None, ".1%", ".1%", ".1%"],
)
MEASURE = {
    "dialogue": "exact or names",
    "qa": "exact",
    "table_to_text": "values told",
    "news_summary": "ROUGE-L",
    "sport_summary": "ROUGE-L",
}


def score(task: str, texts: list[str], rows: list) -> float:
    """A task's own measure, 0 … 1."""
    if task == "dialogue":
        exact, names = judge(texts, rows)
        share = sum(kind_of(row) is None for row in rows) / len(rows)
        return (1 - share) * exact + share * names
    if task == "qa":
        return metrics.accuracy(texts, [row["answer"] for row in rows])
    if task == "table_to_text":
        return metrics.slot_accuracy(texts, [slot_values(row["table"]) for row in rows])[0]
    if task in MEASURE:
        return metrics.rouge(texts, [[row["summary"]] for row in rows])["rougeL"] / 100
    return sum(style_of(text) == task for text in texts) / len(texts)


results = {}
for task in TASKS:
    own = task_rows(task, "test_seen" if task == "table_to_text" else "test")[: 4 if QUICK else 40]
    asked = [prompt_ids(TASKS[task].asked(row), tokenizer) for row in own]
    most = 90 if task == "table_to_text" else 48
    results[task] = (
        score(task, write(asked, most), own),
        score(task, write(asked, most, **for_each_row([tuned[task]])), own),
    )
table(
    [
        (task, MEASURE.get(task, "in the style"), *both, weighed["prefix, P = 20"][0].stored)
        for task, both in results.items()
    ],
    ["test", "measure", "base alone", "its prefix", "numbers"],
    [None, None, ".0%", ".0%", ","],
)
assert fingerprint(base) == before

# %% [markdown]
# ## The answer

# %%
alone, prefixed = (sum(both[i] for both in results.values()) / len(results) for i in (0, 1))
small = weighed["prefix, P = 20"]
say(
    f"One, and {small[1] / 1024:.0f} KiB for each of them: on one frozen base ten prefixes of {small[0].stored_fraction:.1%} of its numbers bring ten tasks from {alone:.0%} to {prefixed:.0%} of their measures on the test, all ten in one batch if need "
    "be, and take nothing away from the base, which is bit for bit what it was"
    + (
        f"; a model of its own for each task would weigh {ratio[100]:.0f} times as much for a hundred tasks"
        if ratio[100] > 1
        else ""
    )
    + (
        f", and is not needed for dialogue: exact {final['prefix, longer'][0]:.0%} with the prefix that was trained for longer, {final['full fine-tuning'][0]:.0%} after {STEPS} steps of all of it."
        if final["prefix, longer"][0] >= final["full fine-tuning"][0]
        else f"; it would have answered more, though: exact {final['full fine-tuning'][0]:.0%} in dialogue after {STEPS} steps, where the prefix that was trained for longer has {final['prefix, longer'][0]:.0%}."
    )
)

# %% [markdown]
# To try next:
#
# - Talk with it: `make chat TASK=dialogue`. Ask, then `/plain`, and ask the same. Then `/task pirate`, and a plain sentence.
# - Make a task of your own: `task_ids` with x and y exchanged gives sentences in a style that are to become plain again. Does a prefix of P = 20 learn it
#   in 100 steps?
# - Train dialogue with `LoRA(4)` in the place of the prefix, same steps. What does it attention_mask, and what can no longer be mixed in one batch?
#
# Further reading: "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021), its discussion of personalisation and of batching
# across users; "The Power of Scale for Parameter-Efficient Prompt Tuning" (Lester et al., 2021); "Overcoming catastrophic forgetting in neural
# networks" (Kirkpatrick et al., 2017); "LoRA Learns Less and Forgets Less" (Biderman et al., 2024); "S-LoRA: Serving Thousands of Concurrent LoRA
# Adapters" (Sheng et al., 2024).
