"""One base, many tasks

question: One person asks questions, another has tables to be described, a third wants everything said by a pirate. How many models does that take?
minutes: 1.3
documents: 002 §核心思想, §优势, §应用场景, §示例, §对比, §实战演练, §Step1, §Step2, §Step3, §Step4, §PEFT Step1, §PEFT Step2, §Step5, §Step6, §Step7, §Step8; 000 §2.3 前缀微调的应用场景; 003 §1 Abstract(摘要), §2 Introduction(介绍); 001 §3.1.3 LoRA, §3.1.4 P-Tuning
needs: 8, 9, 10, 11, 12
"""

# %% [markdown]
# ## A base that was never asked
#
# 003 §1 begins with a cost: fine-tune a model for every task, and you store a model for every task. Its answer is one
# base and something small for each task (003 §2). Lessons 8 to 12 built the small things. This lesson is about the
# many tasks. Its first half follows the program of document 002, line by line, and trains a prefix for dialogue with it.
# Then ten tasks share one base.
#
# 002 §应用场景 begins with dialogue (对话生成). Our dialogue has fourteen kinds of requests, such as "What is the
# opposite of hot?" or "Write a note to thank Selin." For ten kinds only one answer is right. There we measure
# *exact*, the fraction of answers that are exactly right. A story or a note can be good in many ways. There we
# measure *names*: which fraction of the names in the request stand in the answer. (The data and the base of 002 are
# Chinese, `alpaca_data_zh` and `bloom-1b4-zh`. Ours are English and made for this course.)

# %%
import re

import torch
from minitransformer import metrics
from minitransformer.course.bases import load_base, prefix_path
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, figure, say, table, verbatim
from minitransformer.course.tasks import (
    TASKS,
    as_human,
    prompt_ids,
    slot_accuracy,
    task_ids,
    task_rows,
)
from minitransformer.generation.sampling import generate_texts

tokenizer, base = default_tokenizer(), load_base("gpt")
eot, n_positions = tokenizer.eot_id, base.config.n_positions
rows, xs, ys = {}, {}, {}
for split, most in (("train", None), ("valid", 24 if QUICK else None)):
    rows[split] = task_rows("dialogue", split)[:most]
    xs[split], ys[split] = (part[:most] for part in task_ids("dialogue", split, tokenizer))


def write(prompts: list, most: int = 64, **inputs) -> list[str]:
    """What the base, with whatever is on it, writes after each prompt."""
    new = generate_texts(base, tokenizer, prompts, min(most, 12) if QUICK else most, **inputs)
    return [text.strip() for text in new]


# %% [markdown]
# Two functions measure the answers. The first one finds the kind of a request by its words.

# %%
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


def kind_of(row: dict) -> str | None:
    """Which question with one right answer it is; None for a story, a note and the like."""
    kinds = (kind for kind, words in CLOSED.items() if re.search(words, row["instruction"]))
    return next(kinds, None)


# %% [markdown]
# The second one judges the answers. We let the base alone answer. It was pretrained on texts of the tiny world, and never
# on a dialogue in this form, "Human: …" and "Assistant: …".
#
# **Predict before you run:** will it answer more or less than half of the closed questions exactly?


# %%
def judge(texts: list[str], rows: list) -> tuple[float, float]:
    """Exact, and names."""
    exact, told, names = [], [], []
    for text, row in zip(texts, rows, strict=True):
        if kind_of(row):
            exact.append(text == row["output"])
            continue
        asked, given = (set(re.findall(r"[A-Z]\w+", row[key])) for key in ("instruction", "output"))
        if both := (asked & given) - {"Hello", "Good"}:
            told.append(text)
            names.append(list(both))
    return sum(exact) / len(exact), slot_accuracy(told, names)[0]


texts = {"untouched": write(xs["valid"])}
scores = {"untouched": judge(texts["untouched"], rows["valid"])}
for row, text in list(zip(rows["valid"], texts["untouched"], strict=True))[:3]:
    said = " / ".join(filter(None, (row["instruction"], row["input"])))
    written = " ".join(text.split())[:160] or "(nothing)"
    say(f"- {said}\n  → {written}  (right would be: {row['output'][:60]})")
say(f"exact: {scores['untouched'][0]:.0%}, names: {scores['untouched'][1]:.0%}")
assert QUICK or scores["untouched"][0] < 0.5

# %% [markdown]
# In a full run it answers less than half of them exactly. It often continues with another kind of text that it has read.

# %% [markdown]
# ## The program of 002
#
# 002 §实战演练 is a program in eight steps. Here are its lines, shortened, with ours below each of them.
#
#     from datasets import Dataset                                            002 §Step1
#     from transformers import AutoTokenizer, …, Trainer
#     ds = Dataset.load_from_disk("../data/alpaca_data_zh/")                  002 §Step2
#
#     rows = task_rows("dialogue", "train")
#
#     tokenizer = AutoTokenizer.from_pretrained("Langboat/bloom-1b4-zh")      002 §Step3
#     tokenized_ds = ds.map(process_func, …)
#     model = AutoModelForCausalLM.from_pretrained("Langboat/bloom-1b4-zh")   002 §Step4
#
#     tokenizer, base = default_tokenizer(), load_base("gpt")
#     xs, ys = task_ids("dialogue", "train", tokenizer)
#
#     config = PrefixTuningConfig(num_virtual_tokens=10,                      002 §PEFT Step1
#                                 prefix_projection=True, …)
#     model = get_peft_model(model, config)                                   002 §PEFT Step2
#     model.print_trainable_parameters()
#
#     method = PrefixTuning(length=10, reparametrise=256).attach(base)
#     method.report()
#
#     args = TrainingArguments(per_device_train_batch_size=1,                 002 §Step5
#                gradient_accumulation_steps=8, num_train_epochs=1, …)
#     trainer = Trainer(model=model, args=args, …,                            002 §Step6
#                data_collator=DataCollatorForSeq2Seq(…, padding=True))
#     trainer.train()                                                         002 §Step7
#
#     config = TrainConfig(steps, lr, accumulate=8, …)
#     batches = Completions(xs, ys, eot, batch_size=1, …)
#     train(base, batches, config)
#
#     model.generate(**ipt, max_length=128, do_sample=True)                   002 §Step8
#
#     generate(base, prompts, max_new_tokens, temperature=1.0)
#
# The next steps run these lines and look at what each of them hides. We begin with `report()`.
#
# **Predict before you run:** a prefix with P = 10 keeps 2 · 4 · 10 · 128 = 10,240 parameters. In training it comes out of
# an MLP, whose output layer has 256 inputs and 2 · 4 · 128 outputs. Are the trained parameters above or below a tenth of
# our base (1,088,256 parameters)?

# %%
from minitransformer.tuning import PrefixTuning, attached, fingerprint

before = fingerprint(base)
with attached(base, method := PrefixTuning(length=10, reparametrise=256)):
    report = method.report()
say(str(report))
assert report.trained_fraction > 0.1 > report.stored_fraction

# %% [markdown]
# They are above it, because of the MLP: its output layer alone has more than 256 · 1,024 = 262,144. What is kept is far
# below it.

# %% [markdown]
# ## Human, Assistant, the end
#
# `process_func` of 002 §Step3 writes request and answer as one text, and only the answer gets labels:
#
#     input_ids = instruction["input_ids"] + response["input_ids"]
#     labels = [-100] * len(instruction["input_ids"]) + response["input_ids"]
#
# This is z = [x; y] of lesson 9. x is "Human: ", the instruction, the input below it if there is one, an empty line
# and "Assistant:". y is the answer, and its last token is the end of the text (`eos_token`). A position with the label
# −100 is not in the loss; our name for this label is `IGNORE`. Without it the model would learn to write requests as
# well as answers.
#
# 002 §Step3 then checks its work: it decodes the ids, and it decodes the labels that are not −100. We do the same.
#
# **Predict before you run:** which part of the text do the decoded labels show? Does the end of the text belong to it?

# %%
from minitransformer.text.batches import IGNORE
from minitransformer.text.batches.completion import (
    Completions,
    completion_batch,
    eval_completions,
    fit,
)

i = min(range(len(xs["valid"])), key=lambda i: len(xs["valid"][i]) + len(ys["valid"][i]))
batch = completion_batch([xs["valid"][i]], [ys["valid"][i]], eot)  # "ids", "labels" (1, T+1)
z, labels = batch["ids"][0].tolist(), batch["labels"][0].tolist()
verbatim(f"ids:    {tokenizer.decode(z)!r}")
verbatim(f"labels: {tokenizer.decode(list(filter(lambda x: x != IGNORE, labels)))!r}")
n_asked = sum(label != IGNORE for label in labels)
say(f"{n_asked} of {len(z)} positions have a label.")
assert n_asked == len(ys["valid"][i]) + 1 and labels[-1] == eot

# %% [markdown]
# They show the answer and the end. The end matters, because without its label the model would never learn to stop. The
# first token of the answer is predicted at the position of the colon.

# %% [markdown]
# ## The space after the colon
#
# In 002 §Step3, x ends with "Assistant: ", with a space, and x and y are cut into tokens separately. But a tokenizer
# learns a word together with the space in front of it (lesson 1). So x ends with a space that stands alone, and y
# begins with a word that has lost its space. We take the loss of the untouched base on the answers in both forms.
#
# **Predict before you run:** both forms have the same letters. Do they have the same tokens? And is one loss more than 20 %
# above the other?

# %%
from minitransformer.training.loop import TrainConfig, evaluate, train

asked = [TASKS["dialogue"].asked(row) + " " for row in rows["valid"]]
ways = {
    "'…Assistant: ' + 'word'": (
        [prompt_ids(text, tokenizer) for text in asked],
        [tokenizer.encode(row["output"]) for row in rows["valid"]],
    ),
    "'…Assistant:' + ' word'": (xs["valid"], ys["valid"]),
}
lines = []
for name, (x, y) in ways.items():
    n_labels = sum(len(one) + 1 for one in y)
    nats = evaluate(base, eval_completions(x, y, eot, 50)) * n_labels / len(y)
    ends = [tokenizer.token(one) for one in x[i][-2:]], [tokenizer.token(one) for one in y[i][:2]]
    lines.append((name, *map(" ".join, ends), nats))
table(lines, ["x + y", "x ends", "y begins", "nats per answer"], [None, None, None, ".2f"])
assert ways["'…Assistant: ' + 'word'"][0][i] != xs["valid"][i]
assert QUICK or max(lines[0][-1], lines[1][-1]) < 1.2 * min(lines[0][-1], lines[1][-1])

# %% [markdown]
# The two forms have the same letters and different tokens. In a full run, before any training, the losses differ by less
# than 20 %: the base has not learned to answer in either form. In this course the space always belongs to y, because the
# base learned words with their space. (`tasks.py` says in one place how each task is asked.)
#
# *Where the document is not exact.* 002 §Step3 ends its x in "\n\nAssistant: ". Training can learn this form, too. But a word
# without its space after a space that stands alone is rare in what a base has read.

# %% [markdown]
# ## Padded, without losing the end
#
# The texts of a batch differ in length. In 002 §Step6 a collator (`DataCollatorForSeq2Seq`) makes them equally long: it
# pads ids with a padding token, and labels with −100. A GPT often has no padding token, and then the end token is used in
# its place. No real token ever reads the padding behind it.
#
# There is a trap. Suppose the padding is the end token, and somebody makes the labels with the rule "−100 wherever
# the padding token stands".
#
# **Predict before you run:** in a batch of 8, how many texts have a label for the end, with labels by position and
# with labels by this rule?

# %%
batch = completion_batch(xs["train"][:8], ys["train"][:8], eot)
ids, by_position = batch["ids"], batch["labels"]  # each (B, T+1)
by_token = by_position.masked_fill(ids == eot, IGNORE)  # (B, T+1)
ends = [int((labels == eot).sum()) for labels in (by_position, by_token)]
table(
    [("by position", ends[0]), ("by token", ends[1])],
    ["8 texts, labels", "texts with a label for the end"],
)
assert ends == [8, 0]

# %% [markdown]
# With labels by position all eight have one. By the rule none has. A model that is trained by the rule answers, and then
# it does not stop. `completion_batch` makes labels by position.

# %% [markdown]
# ## Cut, without losing the answer
#
# 002 §Step3 cuts what is too long (截断): `input_ids[:MAX_LENGTH]` and `labels[:MAX_LENGTH]`, with 256. The end is
# cut off first, then the answer. If the request alone has 256 tokens, only labels −100 are left. The loss is the mean
# over the other labels, and here there are no others: 0/0.
#
# Our requests are shorter, so we cut at fewer tokens. Our function `fit` cuts in another way. First x gets shorter, down
# to half of the room. It loses its middle, because its beginning says what is asked, and its end whose turn it is. Only then is y cut, and a y that was
# cut gets no label for the end.
#
# **Predict before you run:** if we cut at 32 tokens, are there requests that have no label left? And with `fit`?

# %%
import torch.nn.functional as F


def cut_as_002(x: list[int], y: list[int], most: int) -> tuple[list[int], list[int]]:
    """[x; y; end] and its labels, cut at their end."""
    return [*x, *y, eot][:most], [*[IGNORE] * len(x), *y, eot][:most]


pairs, counts = list(zip(xs["train"], ys["train"], strict=True)), []
for most in (24, 32, 48, 64):
    cut = [cut_as_002(x, y, most)[1] for x, y in pairs if len(x) + len(y) + 1 > most]
    no_label = sum(set(labels) == {IGNORE} for labels in cut)
    fitted = [fit(x, y, most) for x, y in pairs]
    no_label_fit = sum(not (pair.target or pair.whole) for pair in fitted)
    counts.append((most, len(cut), sum(eot in own for own in cut), no_label, no_label_fit))
table(
    counts,
    ["cut at", "too long", "with an end, [:n]", "without a label, [:n]", "without a label, fit"],
    [",", ",", ",", ",", ","],
)
x, y = max(pairs, key=lambda pair: len(pair[0]))
long_ids, no_labels = (torch.tensor(part)[None] for part in cut_as_002(x, y, len(x)))  # (1, T+1)
with torch.inference_mode():
    mean = F.cross_entropy(base(long_ids[:, :-1])[0], no_labels[0, 1:], ignore_index=IGNORE)
say(f"One request of {len(x)} tokens, cut at {len(x)}: the mean cross-entropy is {mean.item()}.")
assert mean.isnan() and counts[1][3] > 0 == sum(row[4] for row in counts)

# %% [markdown]
# If we cut at 32 tokens, some texts have no label left, and no text that was cut keeps its end. With `fit` each text keeps
# a label. One example without a label in a batch of one makes the loss nan, "not a number". What happens then depends on
# the program: some skip the example, and some lose the whole model, because the gradient of every parameter becomes nan.
# Our loop refuses:

# %%
from minitransformer.errors import UserError

refusal, only = None, {"ids": long_ids, "labels": no_labels}
with attached(base, PrefixTuning(10)):
    try:
        train(base, lambda i: only, TrainConfig(steps=1), progress=False)
    except UserError as error:
        refusal = error
say(f"“{refusal}”")
assert refusal is not None

# %% [markdown]
# ## Eight times one, once eight
#
# 002 §Step5 has batches of one example, and it sums the gradients of eight of them before each step (gradient
# accumulation, 梯度累积). This saves memory, because only one example's activations are held at a time. It should give
# the same step as one batch of eight.
#
# Does it? Suppose one answer has four labels and another has fifty. The mean of the eight means is not the mean over
# all labels. Many programs averaged the means. Our loop sums losses, counts labels, and divides once.
#
# **Predict before you run:** we train a prefix for four steps with one batch of eight (1 × 8), with eight batches of one
# (8 × 1), and with averaged means. Which of the last two gives the prefix of the first, apart from rounding?

# %%
import time

from minitransformer.training.losses import language_model_loss


def mean_of_each(model, batch: dict) -> tuple[torch.Tensor, int]:
    """The mean of one example, counted as one label: averaging means comes down to this."""
    loss, n = language_model_loss(model, batch)
    return loss / n, 1


three = {
    "1 × 8": (8, 1, language_model_loss),
    "8 × 1": (1, 8, language_model_loss),
    "8 × 1, means averaged": (1, 8, mean_of_each),
}
after = {}
for name, (size, times, loss) in three.items():
    torch.manual_seed(0)
    with attached(base, method := PrefixTuning(10)):
        batches = Completions(xs["train"], ys["train"], eot, size, n_positions - 10, seed=0)
        config = TrainConfig(steps=4, lr=1e-2, accumulate=times, weight_decay=0.0)
        train(base, batches, config, loss=loss, progress=False)
        after[name] = method.encoders["prefix"]().detach()
moved = {name: (P_theta - after["1 × 8"]).abs().max().item() for name, P_theta in after.items()}
table(list(moved.items()), ["batches × examples", "difference from 1 × 8, at most"], [None, ".1e"])
assert moved["8 × 1"] < 0.05 * moved["8 × 1, means averaged"]

# %% [markdown]
# 8 × 1 gives the prefix of 1 × 8, apart from rounding. Averaged means do not, because they are another loss: a token of a
# short answer counts more in it than a token of a long one.

# %% [markdown]
# ## Training the dialogue
#
# Now the training of 002 §Step7. The prefix goes through an MLP (`prefix_projection=True`), and the base is frozen.
# We take P = 20, because the prefixes that the course keeps have this length. We compare it with prompt tuning of the
# same length (lesson 8) and with full fine-tuning (lesson 5). Each has a learning rate that was best on validation, and
# all have the same batches. (002 trains for one epoch; we train for fewer steps.)
#
# **Predict before you run:** which of the three will have the lowest loss after these few steps?

# %%
from minitransformer.course.trial import tune
from minitransformer.tuning import FullFineTuning, PromptTuning

P, STEPS = 20, 4 if QUICK else 160
methods = {
    "prefix": PrefixTuning(P, reparametrise=256),
    "prompt": PromptTuning(P, init="vocabulary"),
    "full fine-tuning": FullFineTuning(),
}
RATES = {"prefix": 4e-3, "prompt": 3e-1, "full fine-tuning": 1e-3}
valid = eval_completions(xs["valid"], ys["valid"], eot, 50)
losses, reports, per_step = {"untouched": evaluate(base, valid)}, {}, {}


for name, method in methods.items():
    torch.manual_seed(0)
    batches = Completions(xs["train"], ys["train"], eot, 8, n_positions - P, seed=0)
    config = TrainConfig(STEPS, RATES[name], warmup=STEPS // 10, final_lr=0.02, weight_decay=0.0)
    done = tune(base, method, batches, config, lambda: (evaluate(base, valid), write(xs["valid"])))
    reports[name], per_step[name] = done.report, done.log.seconds / STEPS
    losses[name], texts[name] = done.judged
    scores[name] = judge(texts[name], rows["valid"])
lines = [("untouched", 0, 0, losses["untouched"], *scores["untouched"])]
for name in methods:
    own = reports[name]
    lines.append((name, own.trained, own.stored, losses[name], *scores[name]))
table(
    lines,
    [f"after {STEPS} steps of 8, validation", "trained", "kept", "loss", "exact", "names"],
    [None, ",", ",", ".3f", ".0%", ".0%"],
)
assert fingerprint(base) == before
assert QUICK or max(losses[name] for name in methods) < losses["untouched"] - 0.1
assert QUICK or losses["full fine-tuning"] == min(losses.values())

# %% [markdown]
# In a full run full fine-tuning has the lowest loss. The loss of all three falls, so all three learn something of this
# form. *Exact* is harder than the form, because it needs the right word.

# %% [markdown]
# ## What it says
#
# The course also keeps a prefix for dialogue that was trained for longer, in `data/tuned/`. We read some answers, and
# then count the exact ones for each kind of question. For one kind the model has to find the colour that the request
# names. For another kind it has to sort words.
#
# **Predict before you run:** which of these two kinds does the longer trained prefix answer better?

# %%
from minitransformer.tuning import load

path = prefix_path("dialogue")
longer = load(path, base)
texts["prefix, longer"] = write(xs["valid"])
scores["prefix, longer"] = judge(texts["prefix, longer"], rows["valid"])
for kind in ("opposites", "sorting", None):
    i = next((i for i, row in enumerate(rows["valid"]) if kind_of(row) == kind), 0)
    row = rows["valid"][i]
    say(f"> {' / '.join(filter(None, (row['instruction'], row['input'])))}\n")
    for name in texts:
        mark = " ✓" if texts[name][i] == row["output"] else ""
        say(f"- {name}: {' '.join(texts[name][i].split())[:170] or '(nothing)'}{mark}")
lines = []
for kind in CLOSED:
    which = [i for i, row in enumerate(rows["valid"]) if kind_of(row) == kind]
    right = (sum(own[i] == rows["valid"][i]["output"] for i in which) for own in texts.values())
    lines.append((kind, len(which), *right))
table(lines, ["answered exactly, validation", "of", *texts])
by_kind = {kind: right[-1] / max(1, n) for kind, n, *right in lines}
assert QUICK or by_kind["finding a colour"] > by_kind["sorting"]

# %% [markdown]
# In a full run it is better at finding the colour. This needs only a copy of a word that stands in the request. The numbers
# of questions are small, so smaller differences in the table can be chance.

# %% [markdown]
# ## Drawn answers
#
# 002 §示例 has the question "What is the weather like today?", and 002 §Step8 lets its model draw (`do_sample=True`),
# up to `max_length=128` tokens, the request included. Drawing means that each token is drawn by its probability
# (lesson 3). For a story this is welcome, because each time it is another story.
#
# **Predict before you run:** for questions with one right answer, does drawing raise or lower *exact*?

# %%
drawn = judge(write(xs["valid"], temperature=1.0, seed=0), rows["valid"])
x = prompt_ids(as_human("What is the weather like today?"), tokenizer)
say(f"> What is the weather like today?\n\n> {write([x])[0]}")
x = prompt_ids(as_human("Tell me a story about Mira and a red kite."), tokenizer)
# max_length counts the request, and the prefix takes room, too.
most = min(128, n_positions - P) - len(x)
for seed in range(3):
    say(f"- {write([x], most, temperature=1.0, seed=seed)[0]}")
longer.detach()
table(
    [("the most probable token", *scores["prefix, longer"]), ("drawn", *drawn)],
    ["dialogue, validation", "exact", "names"],
    [None, ".0%", ".0%"],
)
assert QUICK or drawn[0] < scores["prefix, longer"][0]

# %% [markdown]
# In a full run drawing lowers it, because a less probable token is drawn now and then.

# %% [markdown]
# ## Ten tasks in one batch
#
# Now the many tasks. 002 §优势 says that prefixes suit switching between tasks (适合需要多任务切换的场景), because
# only a prefix is trained and saved for each. Ten prefixes stand in `data/tuned/`, all for this base and all with P =
# 20: dialogue, table-to-text, summaries of news and of sport, questions about a passage, and five styles.
#
# The tasks do not even have to take turns. `for_each_row` (lesson 10) gives each row of a batch its own prefix, so one
# batch can serve all ten tasks. The texts are padded on the left. We also compute each text alone, with its prefix.
#
# **Predict before you run:** how far apart will the scores of the next token be, in the mixed batch and alone?

# %%
from minitransformer.generation.sampling import left_pad
from minitransformer.tuning import for_each_row

tuned, mixed = {}, []
for task in TASKS:
    tuned[task] = load(prefix_path(task), base)
    tuned[task].detach()
    some = task_rows(task, "valid")[: 1 if QUICK else 3]
    mixed += [(task, prompt_ids(TASKS[task].asked(row), tokenizer)) for row in some]
each = for_each_row([tuned[task] for task, _ in mixed])
began = time.perf_counter()
together = write([x for _, x in mixed], **each)
at_once = time.perf_counter() - began
began = time.perf_counter()
alone = [write([x], **for_each_row([tuned[task]]))[0] for task, x in mixed]
one_by_one = time.perf_counter() - began
ids, attention_mask = left_pad([x for _, x in mixed])  # (B, T), (B, T)
with torch.inference_mode():
    last = base(ids, attention_mask=attention_mask, **each)[:, -1]  # (B, V)
    own = [base(torch.tensor([x]), **for_each_row([tuned[task]]))[:, -1] for task, x in mixed]
apart = (last - torch.cat(own)).abs().max().item()
table(
    [
        (task, " ".join(text.split())[:72])
        for (task, _), text in list(zip(mixed, together, strict=True))[:: len(mixed) // len(TASKS)]
    ],
    ["prefix of the row", "what it writes"],
)
say(
    f"{sum(a != b for a, b in zip(together, alone, strict=True))} of {len(mixed)} texts differ, and the scores differ "
    f"by {apart:.0e} at most. The batch took {at_once:.2f} s, one text after another {one_by_one:.2f} s."
)
assert apart < 1e-3

# %% [markdown]
# The scores differ only by rounding, so the rows do not disturb each other. (Where two tokens are almost equally probable,
# rounding can change a text.) With ten fine-tuned models these would be ten batches in ten models. A merged LoRA
# (lesson 12) makes its base a model for one task, too.

# %% [markdown]
# ## One sentence, five styles
#
# 000 §2.3 names style first among the uses of a prefix (引导模型生成符合特定风格或主题的文本), and 002 §应用场景
# speaks of dialogue in a particular style (具有特定风格或语境的对话). Each of our five styles was learned from its
# own two hundred sentences. Here all five get the same sentence, in one batch. Then we measure 30 sentences: how
# often the text is in the style, and how many of six facts it keeps (who, which colour, what, where, in which town, on
# which day). The styles are a formal letter, a headline, a child's words, a poem, and a pirate's speech.
#
# **Predict before you run:** in which style will the most facts get lost?

# %%
from minitransformer.course.tinyworld import style_of

STYLED = [task for task in TASKS if TASKS[task].folder == "styles"]
plain = [row["plain"] for row in task_rows(STYLED[0], "valid")][: 3 if QUICK else 30]
FACTS = re.compile(r"(\w+) \w+ an? (\w+) (.+) at the (.+) in (.+) on (\w+)\.")
facts = [[fact.lower() for fact in FACTS.fullmatch(text).groups()] for text in plain]
prompts = [prompt_ids(f"{text}\n", tokenizer) for text in plain]
one_batch = write([prompts[0]] * 5, **for_each_row([tuned[style] for style in STYLED]))
say(f"> {plain[0]}\n")
for style, text in zip(STYLED, one_batch, strict=True):
    say(f"- {style}: {' '.join(text.split())}")
lines = []
for style in STYLED:
    styled = write(prompts, **for_each_row([tuned[style]]))
    in_style = sum(style_of(text) == style for text in styled) / len(plain)
    kept = slot_accuracy([text.lower() for text in styled], facts)[0]
    lines.append((style, in_style, kept))
table(
    lines,
    [f"{len(plain)} sentences, validation", "in the style", "facts kept"],
    [None, ".0%", ".0%"],
)
assert QUICK or sum(line[1] for line in lines) / len(lines) > 0.6
assert QUICK or min(lines, key=lambda line: line[2])[0] == "headline"

# %% [markdown]
# In a full run most texts are in the style that was asked for. The headline loses the most facts, because it is short.
#
# 000 §2.3 names more uses. Two of them are in lesson 10: classification, where the prefix is seen as a selection of
# features (特征选择机制), and translation, with prefixes for the encoder and the decoder. Question answering is among our
# ten. There the document has a prefix for the question and a prefix for the answer; ours has one for both.

# %% [markdown]
# ## Switching
#
# A program that serves several tasks changes between them while it runs. There are four ways. With full fine-tuning the
# program has to load another model. A prefix can be loaded from its file. If it is in memory, it can be put on and taken
# off. Or nothing is put on, and the prefix is an argument of the call.
#
# **Predict before you run:** is the last way a little faster than the first, or more than five times as fast?


# %%
def time_of(change, times: int = 2 if QUICK else 8) -> float:
    """Milliseconds, the middle one of several tries."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        change()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)[times // 2]


def put_on() -> None:
    """One prefix on, and off again."""
    tuned["pirate"].attach(base)
    tuned["pirate"].detach()


switch = {
    "another fine-tuned model, from its file": time_of(lambda: load_base("gpt")),
    "a prefix, from its file": time_of(lambda: load(path, base).detach()),
    "a prefix, put on and off": time_of(put_on),
    "a prefix, as an argument of the call": time_of(lambda: for_each_row([tuned["pirate"]])),
}
table(list(switch.items()), ["a change of task", "ms"], [None, ".2f"])
say(f"The checksum of the base takes {time_of(lambda: fingerprint(base)):.1f} ms.")
slow, *_, fast = switch.values()
assert 5 * fast < slow

# %% [markdown]
# The last way is more than five times as fast. The second and the third way use `attach`, which computes a checksum over
# the whole base, to be sure that the prefix belongs to it. The last way needs none. `make chat TASK=dialogue` works in
# this way: there `/task pirate` changes the prefix between two lines, and `/plain` takes it away.

# %% [markdown]
# ## What a hundred tasks weigh
#
# Now we measure the cost with which 003 §1 begins. We put each method onto the base, save it, and take the size of its
# file. The documents give these sizes: all parameters for full fine-tuning and 0.1 % for a prefix (003 §1), 2–4 % for
# adapters (003 §2), O(dr) for LoRA (001 §3.1.3), O(md) for m vectors at the input (001 §3.1.4).

# %%
from minitransformer.course.data import DATA
from minitransformer.course.show import ROOT
from minitransformer.tuning import Adapter, LoRA

folder = ROOT / "figures" / "lesson_13"
folder.mkdir(parents=True, exist_ok=True)
KINDS = {
    "full fine-tuning": FullFineTuning(),
    "adapters, r = 16": Adapter(16),
    "prefix, P = 20": PrefixTuning(20),
    "LoRA, r = 4": LoRA(4),
    "prompt, P = 20": PromptTuning(20),
}
base_bytes = (DATA / "bases" / "gpt.safetensors").stat().st_size
weighed = {}
for name, method in KINDS.items():
    with attached(base, method):
        method.save(folder / "weighed.safetensors")
        weighed[name] = method.report(), (folder / "weighed.safetensors").stat().st_size
(folder / "weighed.safetensors").unlink()

# %% [markdown]
# Full fine-tuning stores a whole model for each task. The other methods store the base once, and a small file for each
# task. The base has 1,088,256 parameters, and a prefix keeps 20,480. So a file of full fine-tuning is about 53 times as
# large as the file of a prefix.
#
# **Predict before you run:** for a hundred tasks, with the base, does full fine-tuning need more or less than 53 times as
# much room as prefixes?


# %%
def megabytes(name: str, n_tasks: int) -> float:
    """What is stored for so many tasks: a file for each, and the base once where it is needed."""
    return (weighed[name][1] * n_tasks + (0 if name == "full fine-tuning" else base_bytes)) / 1e6


table(
    [
        (
            name,
            own.stored,
            own.stored_fraction,
            size / 1024,
            megabytes(name, 1),
            megabytes(name, 100),
        )
        for name, (own, size) in weighed.items()
    ],
    ["method", "parameters kept", "of the base", "KiB per task", "MB, 1 task", "MB, 100 tasks"],
    [None, ",", ".2%", ".0f", ".1f", ".1f"],
)
with figure("storage", "What is stored for 1 to 100 tasks, the base included.", (7.5, 4.4)) as axes:
    for name, style in zip(weighed, ("-", "--", "-", "-.", ":"), strict=True):
        axes.plot(range(1, 101), [megabytes(name, n) for n in range(1, 101)], style, label=name)
    axes.axhline(base_bytes / 1e6, color="grey", linewidth=1, ls=":", label="the base alone")
    axes.set(xscale="log", yscale="log", xlabel="tasks", ylabel="MB")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], [1, 2, 5, 10, 20, 50, 100])
    axes.set_yticks([5, 10, 20, 50, 100, 200, 400], [5, 10, 20, 50, 100, 200, 400])
    axes.minorticks_off()
    axes.legend()
files = weighed["full fine-tuning"][1] / weighed["prefix, P = 20"][1]
tasks = megabytes("full fine-tuning", 100) / megabytes("prefix, P = 20", 100)
say(f"File against file {files:.0f} times, a hundred tasks with the base {tasks:.0f} times.")
with_one = [megabytes(name, 1) for name in weighed]
assert 1 < tasks < files < 53.5 and max(with_one) < 1.1 * min(with_one)

# %% [markdown]
# It needs less than 53 times as much, because the base has to be stored as well. With one task only, all methods need
# about the same room.
#
# Our fractions are larger than those of the documents, because our base is small. What is kept grows with the width,
# and the base grows with the square of the width. Lesson 9 counts the same prefix on GPT-2 Medium.

# %% [markdown]
# ## What the base can still do
#
# 002 §优势 says that prefix tuning keeps the model's abilities (保留模型原始能力), because no weight is changed
# (由于不微调整个模型的权重，Prefix-Tuning 在执行特定任务时能保留模型原始的生成能力). The important words are
# 在执行特定任务时: *while* it does its task. So we measure in two states. With everything off, the loss must be exactly the
# loss of the beginning. With a method on, we test what the base could do before (`skills.py`): copying words, reading a
# table, and others. And we take the loss on plain text.
#
# **Predict before you run:** does the loss on plain text stay as it was while the prefix is on?

# %%
from minitransformer.course.skills import gpt_skills
from minitransformer.text.corpora import eval_windows, read_documents, token_stream

held_out = token_stream(read_documents(DATA / "text" / "valid.txt")[:60], tokenizer)
plain_text = eval_windows(held_out, 128, 16, most=4 if QUICK else 32)
states = {
    "untouched": None,
    "prefix on": methods["prefix"],
    "prompt on": methods["prompt"],
    "fine-tuned": methods["full fine-tuning"],
}
able, nats = {}, {}
for name, method in states.items():
    with attached(base, *[method] * (method is not None)):
        able[name] = gpt_skills(base, tokenizer, 3 if QUICK else 36)
        nats[name] = evaluate(base, plain_text)
table(
    [(skill, *(able[name][skill] for name in states)) for skill in able["untouched"]],
    ["skill, fraction", *states],
    [None, *[".2f"] * len(states)],
)
table([("plain text, loss", *nats.values())], ["", *states], [None, *[".3f"] * len(states)])
assert fingerprint(base) == before and evaluate(base, plain_text) == nats["untouched"]
assert QUICK or min(nats["prefix on"], nats["fine-tuned"]) > nats["untouched"]

# %% [markdown]
# It does not stay. In a full run the loss on plain text rises while the prefix is on, as it does after fine-tuning. A prefix
# is trained to change what the model does, and it acts on every text. (Losing old abilities is called forgetting, 遗忘.)
#
# With everything off, the base is bit for bit what it was. In this sense 002 is right, for every method that can be taken
# off.

# %% [markdown]
# ## The table, measured
#
# 002 §对比 compares three methods in a table: parameters (参数量), what they are good for (适用场景), cost of computing
# (计算开销), and whether the abilities are kept (保留模型能力). Here are its entries, and our numbers below them.
#
# **Predict before you run:** in the first and the last row the table says *few* and *yes* for the prefix. With which
# addition would you write these two entries?

# %%
columns = ("prefix", "prompt", "full fine-tuning")
lines = [("参数量: 002", "few", "few", "many")]
lines.append(("  parameters kept", *(f"{reports[name].stored:,}" for name in columns)))
lines.append(("  parameters trained", *(f"{reports[name].trained:,}" for name in columns)))
lines.append(("适用场景: 002", "conditional generation", "classification, generation", "all"))
lines.append(("  exact, dialogue", *(f"{scores[name][0]:.0%}" for name in columns)))
lines.append(("计算开销: 002", "lower", "lower", "higher"))
full_time = per_step["full fine-tuning"]
lines.append(("  time of a step", *(f"{per_step[name] / full_time:.2f}" for name in columns)))
lines.append(("保留模型能力: 002", "yes", "yes", "no"))
change = [nats[name] - nats["untouched"] for name in list(states)[1:]]
lines.append(("  plain text, while on", *(f"{one:+.2f} nats" for one in change)))
table(lines, ["", *columns])
assert reports["prefix"].trained > 5 * reports["prefix"].stored

# %% [markdown]
# - 参数量 (只优化前缀嵌入, only the prefix embeddings are trained): "few" is true of what is *kept*. With the MLP of 002's
#   own program many more are trained.
# - 适用场景: 002 §核心思想 says that prefix tuning is designed more for conditional generation (条件生成). Lesson 10 uses
#   prefixes elsewhere and shows where they help.
# - 计算开销: this row of the table above has our numbers. 002 §优势 also names storage (存储和计算成本), which "What a hundred
#   tasks weigh" measures.
# - 保留模型能力: "yes" is true of the base, and so of the model when the prefix is *off*. The last row is measured with
#   the method on.

# %% [markdown]
# ## Once, on the test
#
# Nothing was chosen on these rows. First comes the dialogue, with names that do not occur in training; ± is twice the
# standard error.

# %%
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

# %% [markdown]
# Now all ten prefixes work on their own tasks, and the base works on them alone. Each task has its measure: for summaries
# the words in common with a good summary (ROUGE-L), for questions the exact answers, for styles the fraction of the texts
# in the style. Tables are measured twice. The first measure is the laboratory's: the fraction of the values that are stated
# in sentences. In it a text that repeats the table states none of them. In the second, all values count that stand in the
# text.
#
# **Predict before you run:** lesson 8 showed what the base writes below a table. By which of the two measures is the base
# alone ahead of the prefix?

# %%
from minitransformer.course.lab.tasks import judged_tables
from minitransformer.course.tinyworld import slot_values


def score(task: str, texts: list[str], rows: list) -> float:
    """A task's own measure, 0 … 1; for dialogue it is exact."""
    if task == "dialogue":
        return judge(texts, rows)[0]
    if task == "qa":
        return metrics.accuracy(texts, [row["answer"] for row in rows])
    if task == "table_to_text":
        return judged_tables(texts, rows)["slots"]
    if task.endswith("_summary"):
        return metrics.rouge(texts, [[row["summary"]] for row in rows])["rougeL"] / 100
    return sum(style_of(text) == task for text in texts) / len(texts)


results = {}
for task in TASKS:
    own = task_rows(task, "test_seen" if task == "table_to_text" else "test")[: 4 if QUICK else 40]
    x = [prompt_ids(TASKS[task].asked(row), tokenizer) for row in own]
    most = 90 if task == "table_to_text" else 48
    pair = write(x, most), write(x, most, **for_each_row([tuned[task]]))
    results[task] = tuple(score(task, texts, own) for texts in pair)
    if task == "table_to_text":
        values = [slot_values(row["table"]) for row in own]
        anywhere = tuple(slot_accuracy(texts, values)[0] for texts in pair)
table(
    [(task, *both) for task, both in results.items()]
    + [("table_to_text, all values in the text", *anywhere)],
    ["test", "base alone", "its prefix"],
    [None, ".0%", ".0%"],
)
means = [sum(both[i] for both in results.values()) / len(results) for i in (0, 1)]
say(f"The mean of the ten rises from {means[0]:.0%} to {means[1]:.0%}.")
assert fingerprint(base) == before and (QUICK or means[1] > means[0] + 0.1)
in_sentences = results["table_to_text"]
assert QUICK or (anywhere[0] > anywhere[1] and in_sentences[0] < 0.2 < 0.6 < in_sentences[1])

# %% [markdown]
# In a full run the base is ahead by the second measure, because it writes the table again (lesson 8), and then every
# value is in its text. By the first measure it has almost nothing, and the prefix states more than half of the values.
# The mean is over the ten tasks, with the first measure. By it the prefixes are far better.

# %% [markdown]
# ## The answer
#
# It takes one model, and a small file for each person. 002 §总结 says it in this way: the model adapts to a task, and not
# all of its parameters have to be changed (无需调整模型的所有参数). On one frozen base, ten prefixes do ten tasks, all in
# one batch if needed. In a full run they are much better than the base alone, on the mean of the ten. They take nothing
# away from the base: when they are off, it is bit for bit what it was. For a hundred tasks this needs a small part of
# the room that a hundred fine-tuned models need. Whether a prefix answers as well as a fine-tuned model is another
# question. The first table of the last step answers it for dialogue.
#
# To try next:
#
# - Talk with it: `make chat TASK=dialogue`. Ask something, then type `/plain`, and ask the same again. Then type
#   `/task pirate`, and a plain sentence.
# - Make a task of your own: exchange x and y of a style, so that the style becomes plain text. Does a prefix with P =
#   20 learn it in 100 steps?
# - Train the dialogue with `LoRA(4)` in place of the prefix, with the same steps. What can no longer be mixed in one
#   batch?
#
# Exercises: `make start-13` writes the stubs of this lesson's exercises to `workbook/lesson_13.py`, and `make
# check-13` checks them. Lesson 14 is the laboratory: it measures what the documents claim.
#
# Further reading: "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021), its discussion of
# personalisation and batching; "The Power of Scale for Parameter-Efficient Prompt Tuning" (Lester et al., 2021);
# "Overcoming catastrophic forgetting in neural networks" (Kirkpatrick et al., 2017); "S-LoRA: Serving Thousands of
# Concurrent LoRA Adapters" (Sheng et al., 2024).
