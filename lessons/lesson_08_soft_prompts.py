"""Soft prompts: words that no vocabulary has

question: A model reads words only as vectors. Why, then, should the words of a prompt be words?
minutes: 1.3
documents: 001 §3.1.4 P-Tuning; 000 §1.3 前缀微调：一种高效的微调方法, §2.1 前缀微调的原理, §4.1 语言模型; 002 §工作流程
needs: 3, 4, 7
"""

# %% [markdown]
# ## A model that does not do what we want
#
# Lesson 7 steered pretrained models by words alone. Now the words will be found by training. The task is table-to-text
# (表格生成文本): a table of facts is to become a few sentences that say them. The model is this course's GPT base, the model of
# lesson 3 after a longer pre-training; it has read tables and descriptions, but never a table with its own description.
# What it did read is tables that stand there twice, a line break between them, the fields in another order.
#
# Four measures: BLEU (lesson 6) against the right answers; *slots*, the share of a table's values that stand in the text;
# *whole*, the share of texts that have all of theirs; and *a table again*, the share of texts that are no sentences at all.
#
# **Predict before you run:** given a table and a line break, what will the base write? And which of the measures will
# fail to notice?

# %%
import torch
from minitransformer import metrics
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.show import QUICK, ROOT, bar, figure, say, table
from minitransformer.course.tasks import table_scores, task_ids, task_rows
from minitransformer.generation.sampling import generate_texts

tokenizer = default_tokenizer()
base = load_base("gpt")
tables, x, y = {}, {}, {}
for split in ("train", "valid", "test_seen"):
    most = None if split == "train" else 4 if QUICK else 64  # writing takes time
    tables[split] = task_rows("table_to_text", split)[:most]
    x[split], y[split] = (ids[:most] for ids in task_ids("table_to_text", split, tokenizer))
MOST = 24 if QUICK else max(map(len, y["train"]))  # tokens to write
MEASURES, FORMATS = ["BLEU", "slots", "whole", "a table again"], [".1f", ".1%", ".1%", ".0%"]
untouched = generate_texts(base, tokenizer, x["valid"], MOST)
for row, text in list(zip(tables["valid"], untouched, strict=True))[:2]:
    say(f"**{row['source']}**\n\n> {text}")
table(
    [("untouched", *table_scores(untouched, tables["valid"]))], ["GPT", *MEASURES], [None, *FORMATS]
)

# %% [markdown]
# ## Vectors in front
#
# The table of embeddings E turns each token into a vector of d numbers (d is C in our code: the model's width), and from
# there on no token is a word any more. So put m vectors of our own in front (m is P in the code, the prompt's length):
#
#     X = [P; E(input)],   P = [p_1, …, p_m] ∈ R^{m×d}                 (001 §3.1.4)
#
# A prompt of words is the special case in which every p_i is a row of E: a hard prompt (硬提示), lesson 7. If the p_i may be
# any vectors, it is a soft prompt (软提示), and its m places hold virtual tokens (虚拟 token). In the code they are the ids -1,
# -2, …, and `vectors` says what they stand for.
#
# Where the document is loose: in a GPT each place adds its position's vector too, so that the virtual tokens take the
# positions 0 to m − 1, and the input begins at m.
#
# **Predict before you run:** m words in front as words, and their rows of E in front as vectors. How far do the scores
# differ? And how many rows of scores come out for an input of T tokens?

# %%
from minitransformer.tuning import virtual_ids

words = tokenizer.encode("The same in other words: ")
one = x["valid"][0]
with torch.inference_mode():
    E = base.token_embedding.weight  # (V, C)
    as_words = base(torch.tensor([words + one]))  # (1, P+T, V)
    as_vectors = base(
        torch.tensor([virtual_ids(len(words)) + one]), vectors=E[words]
    )  # (1, P+T, V)
say(
    f"m = {len(words)}, T = {len(one)}: the scores are {tuple(as_vectors.shape)} and differ by {(as_words - as_vectors).abs().max():.0e}. "
    f"E has {len(E):,} rows: so many hard prompts of length 1 there are, and all of R^{E.size(1)} for a soft one."
)
assert torch.equal(as_words, as_vectors)

# %% [markdown]
# A trap is in that shape. There are P + T rows of scores for T labels, and whoever compares the first T of them with the
# labels trains on rows that are shifted by P, without any error message. `PromptTuning`, which does the concatenation for
# us from now on, cuts the rows of the virtual tokens off.

# %%
from minitransformer.tuning import PromptTuning, attached

with torch.inference_mode(), attached(base, PromptTuning(len(words), init=words)):
    cut = base(torch.tensor([one]))  # (1, T, V)
say(f"By `PromptTuning` {tuple(cut.shape)}, the same as by hand from row {len(words)} on.")
assert torch.allclose(cut, as_vectors[:, len(words) :], atol=1e-4) and cut.size(1) == len(one)

# %% [markdown]
# ## Initialise, concatenate, freeze, train
#
# The workflow in 002 §工作流程 has four steps. Initialise (初始化): the p_i begin as something, here as random numbers of the size
# that embeddings have, or as the rows of words drawn from the vocabulary. Concatenate (拼接): the formula above. Freeze
# (冻结): no number of the model may change. Train: lesson 3's loop, with the loss over the description alone,
#
#     L(P) = −1/N Σ_t log P(y_t | P, x, y_<t)
#
# the chain rule of 000 §4.1 once more, with P among the things that are known. `attach` sees to the first three.
#
# Where the document is loose: 001 §3.1.4 begins with "only the parameters of the embedding layer are tuned" and ends with
# "only P is updated, the embedding layer stays as it is". One loss and its gradient decide which.
#
# **Predict before you run:** which tensors get a gradient, and how many numbers are they for m = 10?

# %%
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import fingerprint

m, d = 10, base.config.d_model
before = fingerprint(base)
batches = Completions(
    x["train"],
    y["train"],
    tokenizer.eot_id,
    batch_size=8,
    n_positions=base.config.n_positions - m - 1,
)
valid = eval_completions(x["valid"], y["valid"], tokenizer.eot_id, batch_size=32)
prompts = {}
for init in ("random", "vocabulary"):
    torch.manual_seed(0)
    prompts[init] = PromptTuning(m, init=init)
with attached(base, prompts["random"]):
    language_model_loss(base, batches(0))[0].backward()
    with_gradient = {
        name: tuple(p.shape) for name, p in base.named_parameters() if p.grad is not None
    }
    base.zero_grad()
    report = prompts["random"].report()
say(f"With a gradient: {with_gradient}. {report}")
say(
    f"m · d = {m} · {d} = {m * d:,} numbers, 001's O(m d). The embedding layer itself would be {E.numel():,}, {E.numel() // (m * d)} times as "
    "many: the document's last sentence is right, its first is not."
)
assert list(with_gradient.values()) == [(m, d)] and report.trained == report.stored == m * d

# %% [markdown]
# ## Training
#
# Two prompts, the same batches. The learning rate is far higher than lesson 3's, for there is nothing here that could be
# unlearned, and nothing is shrunk by weight decay: a virtual token has no reason to be small.
#
# **Predict before you run:** which beginning is the better one? How far can ten vectors get in so few steps?

# %%
steps = 3 if QUICK else 150
config = TrainConfig(
    steps=steps, lr=0.03, warmup=steps // 10, weight_decay=0.0, eval_every=max(1, steps // 6)
)
loss_untouched = evaluate(base, valid)
curves, started = {}, {}
for init, prompt in prompts.items():
    with attached(base, prompt):
        started[init] = prompt.vectors().detach().clone()
        curves[init] = [(0, evaluate(base, valid))]
        log = train(base, batches, config, valid=valid)
        curves[init] += [(row["step"], row["loss"]) for row in log.valid]
with figure(
    "prompt_tuning", "Validation loss while ten vectors learn; all else is frozen."
) as axes:
    for (init, points), style in zip(curves.items(), ("s--", "o-"), strict=True):
        axes.plot(
            *zip(*points, strict=True),
            style,
            label=f"begins as {init} {'vectors' if init == 'random' else 'words'}",
        )
    axes.axhline(loss_untouched, color="grey", linestyle=":", label="untouched, without a prompt")
    axes.set(xlabel="step", ylabel="loss, nats per token of the description")
    axes.legend()
ends = {init: min(loss for _, loss in points) for init, points in curves.items()}
better, gap = min(ends, key=ends.get), max(ends.values()) - min(ends.values())
say(
    f"{steps} steps of 8 tables, {8 * steps / len(tables['train']):.1f} epochs. Without a prompt the loss is {loss_untouched:.3f}; with a trained one "
    + ", ".join(f"{loss:.3f} ({init})" for init, loss in ends.items())
    + f". After the first {curves['random'][1][0]} steps it was "
    + ", ".join(f"{points[1][1]:.3f} ({init})" for init, points in curves.items())
    + f". At the end of these two runs, one seed each, {better} is ahead by {gap:.3f}, {gap / (loss_untouched - ends[better]):.0%} of what its prompt gained. The "
    f"fingerprint of the base's {report.base:,} numbers is what it was."
)
assert fingerprint(base) == before and (QUICK or max(ends.values()) < loss_untouched)

# %% [markdown]
# ## What it writes now
#
# **Predict before you run:** will *slots* rise or fall?

# %%
texts = {"untouched": untouched}
for init, prompt in prompts.items():
    with attached(base, prompt):
        texts[f"{init}, trained"] = generate_texts(base, tokenizer, x["valid"], MOST)
scores = {name: table_scores(written, tables["valid"]) for name, written in texts.items()}
table([(name, *score) for name, score in scores.items()], ["GPT", *MEASURES], [None, *FORMATS])
for row, text in list(zip(tables["valid"], texts[f"{better}, trained"], strict=True))[:2]:
    say(f"**{row['source']}**\n\n> {text}")
(bleu, slots, _, again), (bleu_now, slots_now, _, again_now) = (
    scores["untouched"],
    scores[f"{better}, trained"],
)
say(
    f"With {m * d:,} trained numbers before it, the base repeats the table in {again_now:.0%} of the texts instead of {again:.0%}, and its BLEU is {bleu_now:.1f}, not "
    f"{bleu:.1f}. *Slots* went from {slots:.0%} to {slots_now:.0%}; to copy a table is one way of saying its values, so that slots alone do not tell who "
    "does the task. No weight was added: whatever is written now, the frozen base was able to write."
)
assert QUICK or (again_now < again and bleu_now > bleu)

# %% [markdown]
# ## What the vectors say
#
# Are the trained vectors readable? We look for the rows of E that are most like each of them, by the cosine (余弦相似度) of
# lesson 7, 1 for the same direction and 0 for none. To know what is much, the nearest rows of random vectors stand beside
# it. And the proof: replace each vector by its nearest word, and let the base read that.
#
# **Predict before you run:** a prompt that began as words was trained. Will it still be those words? And if we say it in
# words, will it work?

# %%
from minitransformer.tuning import nearest_words

rows = []
learned = {init: prompt.vectors().detach() for init, prompt in prompts.items()}
near = {init: nearest_words(vectors, base, k=3) for init, vectors in learned.items()}
origin = [nearest[0][0] for nearest in nearest_words(started["vocabulary"], base, k=1)]
for i in range(m):
    for_eye = {
        init: "  ".join(f"{tokenizer.token(word)} {cosine:.2f}" for word, cosine in near[init][i])
        for init in near
    }
    rows.append((i + 1, for_eye["random"], tokenizer.token(origin[i]), for_eye["vocabulary"]))
table(rows, ["i", "random: nearest now", "word: began as", "nearest now"])
torch.manual_seed(0)
chance = sum(nearest[0][1] for nearest in nearest_words(torch.randn(500, d), base, k=1)) / 500
same = sum(nearest[0][0] == word for nearest, word in zip(near["vocabulary"], origin, strict=True))
losses = {"no prompt": loss_untouched, "the trained vectors": ends[better]}
hard = [nearest[0][0] for nearest in near[better]]
with attached(base, PromptTuning(m, init=hard)):
    losses["their nearest words"] = evaluate(base, valid)
means = {init: sum(nearest[0][1] for nearest in near[init]) / m for init in near}
table(
    [(name, loss, bar(loss, max(losses.values()))) for name, loss in losses.items()],
    [f"prompt ({better})", "loss", ""],
    [None, ".3f", None],
)
say(
    f"The nearest word of a random vector has a cosine of {chance:.2f} on average; of the prompt that began at random, {means['random']:.2f}; of the one "
    f"that began as words, {means['vocabulary']:.2f}, where {same} of {m} are still nearest to the word that they were. Written out in its nearest words the "
    f"prompt reads “{' '.join(map(tokenizer.token, hard))}”, and the loss is {losses['their nearest words']:.3f}: "
    + (
        "what was learned is not in those words."
        if losses["their nearest words"] > (losses["no prompt"] + losses["the trained vectors"]) / 2
        else "part of what was learned is in those words."
    )
)
say(
    "Lester et al. (2021, §7) looked at their prompts in the same way: neighbours with a theme, but no sentence that one could "
    "read. 000 §1.3 counts interpretability (可解释性) among the advantages."
)

# %% [markdown]
# Where do the vectors lie? Each grey dot is a word: how long its vector is, and how near its nearest other word.
#
# **Predict before you run:** will the trained vectors lie among the words?

# %%
nearest_other = torch.tensor([pair[1][1] for pair in nearest_words(E.detach(), base, k=2)])
with figure(
    "vectors",
    "Words (grey) and the trained virtual tokens: length, and cosine to the nearest word.",
) as axes:
    axes.scatter(E.detach().norm(dim=1), nearest_other, s=6, color="lightgrey", label="words")
    for (init, vectors), marker in zip(learned.items(), "s^", strict=True):
        cosines = [nearest[0][1] for nearest in near[init]]
        axes.scatter(vectors.norm(dim=1), cosines, marker=marker, label=f"trained, began as {init}")
    axes.axhline(chance, color="grey", linestyle=":", label="random vectors, on average")
    axes.set(xlabel="length of the vector", ylabel="cosine to the nearest (other) word")
    axes.legend(fontsize=9)
counts = torch.bincount(
    torch.tensor([i for row in x["train"] + y["train"] for i in row]), minlength=len(E)
)
alike = nearest_other > 0.98
say(
    f"A word's vector is {E.norm(dim=1).mean():.2f} long on average, the longest {E.norm(dim=1).max():.2f}; a trained one "
    f"{learned['random'].norm(dim=1).mean():.2f} (random) or {learned['vocabulary'].norm(dim=1).mean():.2f} (words). The dots at the very top are {int(alike.sum())} tokens "
    f"that point where another points too, with a cosine above 0.98: in our tables and descriptions they occur {counts[alike].float().mean():.1f} times each, the others "
    f"{counts[~alike].float().mean():.0f} times. Pre-training never had to tell them apart; a prompt that begins as words drawn by chance may begin as such."
)

# %% [markdown]
# ## A prompt is a prefix
#
# Lesson 3 ended on a prefix: the keys and values that a text leaves in every layer act like that text. It does not matter
# whether the text is one: virtual tokens leave keys and values too. So every soft prompt is a prefix, one that the base
# computes itself from m · d numbers, layer by layer; and a prefix with numbers of its own has m · 2 · L · d of them, for L layers.
#
# We let the base read the virtual tokens alone, take what is in the cache, throw the prompt away, and give the rest as
# `prefix`.
#
# **Predict before you run:** how far do the probabilities by prompt differ from those by prefix?

# %%
from minitransformer.models.attention import Prefix

with torch.inference_mode():
    with attached(base, prompts[better]):
        by_prompt = base(torch.tensor([one])).softmax(-1)  # (1, T, V)
    cache = base.new_cache()
    base(torch.tensor([virtual_ids(m)]), cache=cache, vectors=learned[better])
    prefix = [Prefix(*layer.columns()) for layer in cache]  # each (1, H, P, D)
    by_prefix = base(torch.tensor([one]), prefix=prefix).softmax(-1)  # (1, T, V)
    alone = base(torch.tensor([one])).softmax(-1)  # (1, T, V)
numbers = sum(k.numel() + v.numel() for k, v in prefix)
say(
    f"By prompt and by prefix the probabilities differ by {(by_prompt - by_prefix).abs().max():.0e} at most; by prompt and without either, by {(by_prompt - alone).abs().max():.2f}. "
    f"The prompt has {m * d:,} numbers, the prefix that it becomes {numbers:,} = m · 2 · L · d, {numbers // (m * d)} times as many. The reverse does not hold: "
    "most prefixes come from no prompt. To train those numbers themselves is lesson 9."
)
assert (by_prompt - by_prefix).abs().max() < 1e-5 and numbers == m * 2 * base.config.n_layer * d

# %% [markdown]
# ## Inside the template: P-tuning
#
# P-tuning (Liu et al. 2021) asks a model to fill a gap, as in lesson 7, and lets the words *around* the gap be virtual. Its
# virtual tokens stand inside the template, on whatever sides of the text one likes:
#
#     T = [v_1, …, v_i, E(text), v_{i+1}, …, v_m, E(It was [MASK])]
#     [v_1, …, v_m] = MLP(LSTM([p_1, …, p_m]))
#
# and the second line is its other half. Trained are p_1 … p_m, but the model reads what an encoder (提示编码器) makes of them. Its
# LSTM reads a sequence step by step, carrying a memory along, here from both ends; so that each v_i knows its neighbours,
# as words in a sentence do. A small network (MLP) follows. After training only the v_i are needed, and the encoder is dropped.
#
# Where the document is loose: 001 §3.1.4 is headed "P-Tuning (Prompt Tuning)", as if they were one. What it then describes
# (vectors in front, free, m · d) is prompt tuning; template and encoder do not occur. In one thing we are stricter than Liu et
# al.: on some of their tasks they tuned the model as well, here the base stays frozen.
#
# **Predict before you run:** if p_1 alone is changed, how many of the v_i move? And how many numbers has the encoder, beside
# the base?

# %%
from minitransformer.course.hard import Template
from minitransformer.tuning import PTuning

bert = load_base("bert")
bert_before = fingerprint(bert)
hard_template = Template("{text} It was {mask}")
soft_template = Template("{virtual:3} {text} {virtual:3} It was {mask}")
texts_of = {
    task: {
        split: read_jsonl(DATA / "tasks" / task / f"{split}.jsonl", ["text"])[
            : 16 if QUICK else None
        ]
        for split in ("train", "valid", "test")
    }
    for task in ("styles", "reviews")
}


def shown(ids: list[int]) -> str:
    """Tokens for the eye, virtual ones as ⟨1⟩."""
    return " ".join(f"⟨{-i}⟩" if i < 0 else tokenizer.token(i) for i in ids)


ids, _ = soft_template.for_bert(texts_of["reviews"]["valid"][0], tokenizer)
say(f"{shown(ids[:12])} … {shown(ids[-9:])}")
ENCODERS = {"with encoder": True, "without encoder": False}
rows, parts = [], {}
for name, encoder in ENCODERS.items():
    torch.manual_seed(0)
    fresh = PTuning(soft_template.n_virtual, encoder=encoder)
    with attached(bert, fresh), torch.no_grad():
        v = fresh.vectors().clone()  # (P, C)
        fresh.free[0] += torch.randn(d) * fresh.free[0].std()
        moved = int(((fresh.vectors() - v).abs().amax(dim=1) > 1e-6).sum())
        count = fresh.report()
        parts |= {
            part: sum(p.numel() for p in module.parameters())
            for part, module in fresh.named_children()
        }
    rows.append(
        (name, moved, count.trained, count.trained_fraction, count.stored, count.stored_fraction)
    )
table(
    rows,
    ["P-tuning", "of v_i move", "trained", "of the base", "kept", "of the base"],
    [None, None, ",", ".1%", ",", ".2%"],
)
by_formula = (
    2 * (4 * d * (d + d) + 8 * d)
    + 2 * (4 * d * (2 * d + d) + 8 * d)
    + (2 * d * d + d)
    + (d * d + d)
)
say(
    f"{soft_template.n_virtual} · {d} numbers are kept either way. The LSTM (two layers, each from both ends, four gates) has {parts['lstm']:,} and the MLP {parts['mlp']:,}: while it "
    f"trains, P-tuning is as large as {rows[0][3]:.0%} of our small base. “Few parameters” is said of what is kept."
)
assert (
    parts["lstm"] + parts["mlp"] == by_formula
    and rows[0][1] == soft_template.n_virtual
    and rows[1][1] == 1
)

# %% [markdown]
# ## Training P-tuning
#
# One template, two tasks, two models. *Styles*, for the GPT: a sentence was put into one of six styles, such as a headline's
# or a pirate's; which? (The title of Liu et al. is "GPT Understands, Too".) *Reviews*, for the BERT: positive or negative?
# These are hard on purpose: praise and blame use the same words, and each review has both.
#
# The answer mapping is by hand, one word for each label; the loss is the cross-entropy between the labels' words in the gap.
# The encoder gets a smaller learning rate than free vectors, for each of its numbers moves all v_i. The hard template stands
# beside it, without any training.
#
# **Predict before you run:** how right is the hard template on each task? On which will six vectors do more? And which of
# the two learns faster, with the encoder or without?

# %%
import math
from functools import partial

from minitransformer.course.answers import by_hand
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.course.hard import label_log_probs, predict
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import last_token
from minitransformer.models.gpt import GPT
from minitransformer.training.losses import cross_entropy_sum

MODEL = {"styles": base, "reviews": bert}
LABEL = {"styles": "style", "reviews": "label"}  # the field that holds it
answers = {
    "styles": by_hand(
        {
            "plain": "story",
            "formal": "letter",
            "headline": "news",
            "child": "boy",
            "poetic": "music",
            "pirate": "ship",
        },
        tokenizer,
    ),
    "reviews": by_hand({"positive": "fine", "negative": "dull"}, tokenizer),
}


def gap_loss(model: GPT | Bert, batch: dict, words: list[int]) -> tuple[torch.Tensor, int]:
    """-Σ log p(the label's word | one of the labels' words is in the gap), and how many."""
    ids, attention_mask = batch["ids"], batch["attention_mask"]  # (B, T)
    if model is bert:
        logits = bert.mlm_logits(
            bert(ids, attention_mask=attention_mask), ids == tokenizer.mask_id
        )  # (B, V)
    else:
        logits = model(
            ids, attention_mask=attention_mask, at=last_token(ids, attention_mask)
        )  # (B, V)
    return cross_entropy_sum(logits[:, words], batch["label"])


def right(template: Template, task: str, split: str) -> float:
    """The share of texts whose label is the likeliest in the gap."""
    rows = texts_of[task][split]
    guesses = predict(
        label_log_probs(MODEL[task], tokenizer, template, rows, answers[task]), answers[task]
    )
    return metrics.accuracy(guesses, [row[LABEL[task]] for row in rows])


def labelled(task: str, split: str, batch_size: int) -> LabelledTexts:
    """The texts of a split in the soft template, with their labels."""
    rows, model = texts_of[task][split], MODEL[task]
    ids = [
        soft_template.for_bert(row, tokenizer)[0]
        if model is bert
        else soft_template.for_gpt(row, tokenizer)
        for row in rows
    ]
    return LabelledTexts(
        ids,
        [row[LABEL[task]] for row in rows],
        list(answers[task]),
        batch_size,
        tokenizer.pad_id,
        model.config.n_positions,
    )


gap_steps = 3 if QUICK else 150
tuned, gap_curves, rows = {}, {}, []
accuracy = {(task, "hard template"): right(hard_template, task, "valid") for task in answers}
for task, mapping in answers.items():
    loss = partial(gap_loss, words=[ids[0] for own in mapping.values() for ids in own.values()])
    train_batches, valid_batches = (
        labelled(task, "train", 8),
        labelled(task, "valid", 50).in_order(),
    )
    for name, lr in (("with encoder", 3e-3), ("without encoder", 3e-2)):
        config = TrainConfig(
            gap_steps,
            lr=lr,
            warmup=gap_steps // 10,
            weight_decay=0.0,
            eval_every=max(1, gap_steps // 5),
        )
        torch.manual_seed(0)
        tuned[task, name] = PTuning(soft_template.n_virtual, encoder=ENCODERS[name])
        with attached(MODEL[task], tuned[task, name]):
            points = [(0, evaluate(MODEL[task], valid_batches, loss))]
            log = train(MODEL[task], train_batches, config, valid=valid_batches, loss=loss)
            gap_curves[task, name] = points + [(row["step"], row["loss"]) for row in log.valid]
            accuracy[task, name] = right(soft_template, task, "valid")
with figure(
    "p_tuning", "Validation loss of P-tuning, with and without its encoder.", (10, 4), 1, 2
) as axes:
    for ax, (task, mapping) in zip(axes, answers.items(), strict=True):
        for name, style in (("with encoder", "o-"), ("without encoder", "s--")):
            ax.plot(*zip(*gap_curves[task, name], strict=True), style, label=name)
        ax.axhline(
            math.log(len(mapping)),
            color="grey",
            linestyle=":",
            label=f"knowing nothing, ln {len(mapping)}",
        )
        ax.set(xlabel="step", title=f"{task}, {type(MODEL[task]).__name__}")
        ax.legend()
    axes[0].set_ylabel("loss, nats per text")
table(
    [
        (task, name, value, bar(value))
        for (task, name), value in sorted(
            accuracy.items(), key=lambda item: item[0][0], reverse=True
        )
    ],
    ["validation", "template", "right", ""],
    [None, None, ".1%", None],
)
chosen = {}
for task, mapping in answers.items():
    chosen[task] = min(ENCODERS, key=lambda name: min(loss for _, loss in gap_curves[task, name]))
    n, guess = len(texts_of[task]["valid"]), 1 / len(mapping)
    noise = 1.96 * (guess * (1 - guess) / n) ** 0.5
    value = accuracy[task, chosen[task]]
    say(
        f"*{task.capitalize()}*: guessing gets {guess:.0%} ± {noise:.0%} of {n} texts right. The lower validation loss has P-tuning {chosen[task]}, with {value:.1%}: "
        + (
            "more than a guess."
            if value > guess + noise
            else f"no more than a guess. {soft_template.n_virtual} vectors and {gap_steps} steps do not get it out of this frozen model."
        )
    )
assert fingerprint(base) == before and fingerprint(bert) == bert_before
assert QUICK or accuracy["styles", chosen["styles"]] > accuracy["styles", "hard template"]

# %% [markdown]
# ## Dropped, saved, loaded
#
# `save` writes what a user of the tuned model needs: the v_i, as they come out of the encoder, and a line that says for which
# base (its fingerprint). Loaded again, they are free vectors, and must act the same.
#
# **Predict before you run:** how many bytes is the file? And what happens if it is loaded onto the wrong base?

# %%
from minitransformer.errors import UserError
from minitransformer.tuning import load

folder = ROOT / "figures" / "lesson_08"
folder.mkdir(parents=True, exist_ok=True)
some = labelled("reviews", "valid", 8).in_order()[0]
rows = []
for model, method, name in (
    (base, prompts[better], "prompt"),
    (bert, tuned["reviews", "with encoder"], "p_tuning"),
):
    given = (
        {"ids": torch.tensor([one])}
        if model is base
        else {"ids": some["ids"], "attention_mask": some["attention_mask"]}
    )
    with torch.inference_mode(), attached(model, method):
        before_saving = model(**given)
        method.save(folder / f"{name}.safetensors")
        trained = method.report().trained
    again = load(folder / f"{name}.safetensors", model)
    with torch.inference_mode():
        difference = (model(**given) - before_saving).abs().max().item()
    rows.append(
        (
            f"{name}.safetensors",
            trained,
            again.report().stored,
            (folder / f"{name}.safetensors").stat().st_size,
            difference,
        )
    )
    again.detach()
table(
    rows,
    ["file", "trained", "kept", "bytes", "loaded, the outputs differ by"],
    [None, ",", ",", ",", ".0e"],
)
try:
    load(folder / "p_tuning.safetensors", base)
except UserError as error:
    say(f"Loaded onto the GPT: “{str(error).replace(str(folder), '…')}”")
else:
    raise AssertionError("a prompt went onto a base that it was not made for")
assert all(row[-1] < 1e-4 for row in rows)

# %% [markdown]
# ## Three names, three things
#
# In front at the input: prompt tuning (提示微调). Inside a template, made by an encoder: P-tuning. Keys and values in every layer:
# prefix tuning (前缀微调), lesson 9. Our documents exchange the names:
#
# - 000 §1.3 and §2.1 say *prefix* and describe vectors at the input layer, in front of x: prompt tuning.
# - 001 §3.1.4 says *P-Tuning* and describes prompt tuning.
# - 002 says *prefix*, "of the same dimension as the input's embeddings": prompt tuning again. But the library that its code
#   calls for it trains keys and values. And its table puts prompt tuning and P-tuning into one column, prefix tuning into
#   another, and writes "few" into both.
#
# We count. `enter` is how many rows of vectors enter the first layer for an input of T tokens, `read` how many keys its
# attention reads: a prefix never enters, it is only read.
#
# **Predict before you run:** in which rows do the two differ?

# %%
from minitransformer.models.watch import watch_attention
from minitransformer.tuning import FullFineTuning, PrefixTuning

rows = []
for method in (
    PromptTuning(m),
    PTuning(m),
    PrefixTuning(m),
    PrefixTuning(m, reparametrise=512),
    FullFineTuning(),
):
    inside = isinstance(method, PTuning)
    given = torch.tensor(
        [one[:-1] + virtual_ids(m) + one[-1:] if inside else one]
    )  # (1, T), or (1, T+P)
    torch.manual_seed(0)
    with attached(base, method), torch.inference_mode(), watch_attention(base) as maps:
        base(given)
        enter, read = maps["blocks.0.attention"][0].shape[-2:]
        count = method.report()
    extra = " with an MLP" if getattr(method, "reparametrise", None) else ""
    rows.append(
        (
            count.method + extra,
            enter - len(one),
            read - len(one),
            count.trained,
            count.stored,
            count.stored_fraction,
        )
    )
table(
    rows,
    ["method", "enter: T +", "read: T +", "trained", "kept", "of the base"],
    [None, None, None, ",", ",", ".2%"],
)
found = {row[0]: row for row in rows}
say(
    f"The column that 002 lacks is *kept*: a prefix keeps {found['PrefixTuning'][4] // found['PromptTuning'][4]} times what a prompt of the same length does; and in "
    "*trained*, with what is thrown away afterwards, “few” is not true of all."
)
assert (
    found["PrefixTuning"][1] == 0
    and found["PromptTuning"][1] == found["PTuning"][1] == found["PrefixTuning"][2] == m
)

# %% [markdown]
# The place has consequences. 000 §5 puts its vectors in front of all of a BERT's input. But what a BERT says of a whole text
# is read at index 0, where [CLS] should be (lesson 4). There would then be a virtual token. `PromptTuning` puts them
# after [CLS] therefore. We build both orders by hand and compare what stands at index 0.
#
# **Predict before you run:** which of the two is what `PromptTuning` computes?

# %%
text = [
    tokenizer.cls_id,
    *tokenizer.encode(" " + texts_of["reviews"]["valid"][0]["text"]),
    tokenizer.sep_id,
]
torch.manual_seed(0)
prompt = PromptTuning(5)
with torch.inference_mode():
    with attached(bert, prompt):
        by_method = bert(torch.tensor([text]))[0, 0]  # (C)
    orders = {
        "⟨1⟩ … ⟨5⟩ [CLS] text [SEP]": virtual_ids(5) + text,
        "[CLS] ⟨1⟩ … ⟨5⟩ text [SEP]": text[:1] + virtual_ids(5) + text[1:],
    }
    differences = {
        name: (bert(torch.tensor([ids]), vectors=prompt.vectors())[0, 0] - by_method)
        .abs()
        .max()
        .item()
        for name, ids in orders.items()
    }
table(
    [(name, shown([ids[0]]), differences[name]) for name, ids in orders.items()],
    ["order", "at index 0", "differs from PromptTuning's by"],
    [None, None, ".0e"],
)
front, behind = differences.values()
assert behind < 1e-5 < 1e-2 < front

# %% [markdown]
# ## Once, on the test
#
# The two choices (how a prompt begins, with or without an encoder) were made by validation loss. Now, once, on texts that
# nothing was chosen on.
#
# **Predict before you run:** will the numbers be near those of validation?

# %%
tests = {"untouched": generate_texts(base, tokenizer, x["test_seen"], MOST)}
with attached(base, prompts[better]):
    tests[f"prompt tuning ({better})"] = generate_texts(base, tokenizer, x["test_seen"], MOST)
table(
    [(name, *table_scores(written, tables["test_seen"])) for name, written in tests.items()],
    ["tables, test", *MEASURES],
    [None, *FORMATS],
)
rows = []
for task in answers:
    rows.append((task, "hard template", right(hard_template, task, "test")))
    with attached(MODEL[task], tuned[task, chosen[task]]):
        rows.append((task, f"P-tuning {chosen[task]}", right(soft_template, task, "test")))
table(
    [(*row, bar(row[2])) for row in rows],
    ["test", "template", "right", ""],
    [None, None, ".1%", None],
)

# %% [markdown]
# ## The answer
#
# The words of a prompt need not be words. All that a model reads of them is vectors, and vectors can be trained while the
# model stays as it is: ten of them steer it to another task, at the price that nobody can read them.
#
# To try next:
#
# - Make m 1, then 40. Does the loss go on falling? (Lester et al. saw little gain past 20.)
# - Begin as `init=tokenizer.encode("The same in other words: ")`. Is it better than words drawn by chance?
# - Put the virtual tokens elsewhere: `Template("{text} {virtual:6} It was {mask}")`. Does the place matter?
#
# Further reading: "The Power of Scale for Parameter-Efficient Prompt Tuning" (Lester et al., 2021); "GPT Understands, Too" (Liu
# et al., 2021); "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021).
