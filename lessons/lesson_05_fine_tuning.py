"""Full fine-tuning: what transfer is worth

question: A model has read many texts. How much does that help it with a task that has few labelled examples?
minutes: 1.4
documents: 000 §1.1 大语言模型的崛起, §1.2 微调的必要性, §1.3 前缀微调：一种高效的微调方法, §2.2 前缀微调与传统微调的比较, §3.2 模型训练, §3.3 模型预测, §4.3 举例说明; 001 §1.1 问题的由来, §1.2 研究现状, §1.3 研究意义, §2 核心概念与联系; 003 §1 Abstract(摘要); 004 §1.2 大语言模型微调的重要性, §2.3 预训练与微调, §3.2 微调阶段, §4.2 交叉熵损失, §5.1 数据预处理, §5.2 模型定义和微调, §5.3 模型评估和预测
needs: 1, 2, 3, 4
"""

# %% [markdown]
# ## A task with labels
#
# So far the text itself was the answer: the next token, or the hidden word. Now we want something that does not stand in the
# text. Is this film review for the film or against it? This is text classification (文本分类). The right answers are called
# labels (标注). People have to write them, which is expensive, so there are few.
#
# 000 §1.2 says that a pre-trained model often does badly when it is applied to a task as it is
# (直接将其应用于特定任务时，往往难以达到理想效果). So we continue its training on a little data of the task (少量特定任务数据).
# This is fine-tuning (微调). 001 §1.2 promises a marked gain (显著提升). Knowledge that moves from one task to another in
# this way is called transfer (迁移学习, 001 §2). This lesson measures what transfer is worth.
#
# Our reviews are hard: almost no single word shows the label. A good film can be "not dull at all", and every positive
# review also criticises something, as every negative one also praises something. The reviews come in three splits, as the
# text of lesson 1 did. We learn from `train` (训练集) and choose by `valid` (验证集). We measure on `test` (测试集) once, at
# the end.
#
# **Predict before you run:** the code prints the first two reviews of `train`, with the labels behind them. Can you find a
# critical word in the positive one, and a word of praise in the negative one?

# %%
import torch
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.show import QUICK, bar, figure, say, table

CLASSES, SPLITS = ("negative", "positive"), ("train", "valid", "test")
files = {split: DATA / "tasks" / "reviews" / f"{split}.jsonl" for split in SPLITS}
reviews = {s: read_jsonl(files[s], ("text", "label"))[: 60 if QUICK else None] for s in SPLITS}
for split in ("valid", "test"):  # similar lengths together need less padding; the order is free
    reviews[split].sort(key=lambda row: len(row["text"]))
table(
    [
        (split, len(rows), *(sum(row["label"] == name for row in rows) for name in CLASSES))
        for split, rows in reviews.items()
    ],
    ["split", "reviews", *CLASSES],
    [None, ",", "d", "d"],
)
for row in reviews["train"][:2]:
    say(f"> {row['text']} **{row['label']}**")
assert [row["label"] for row in reviews["train"][:2]] == ["positive", "negative"]
assert "camera work is dull" in reviews["train"][0]["text"]
assert "acting is honest" in reviews["train"][1]["text"]

# %% [markdown]
# The first is positive, but the camera work is "dull". The second is negative, but the acting is "honest".

# %% [markdown]
# ## A judge that counts words
#
# Before any network, we try the simplest judge. It counts how often each word occurs in the positive and in the negative
# reviews of `train`. For a new review it takes the logarithm of the ratio for each word, and adds these numbers. If the sum
# is above 0, it says *positive*. (This is naive Bayes, 朴素贝叶斯.) Guessing would be right for half of the reviews.
#
# **Predict before you run:** is "clever" more frequent in positive or in negative reviews? And "dull"? On reviews that it has
# not counted, is the judge right in about 50 %, 75 % or 100 % of the cases?

# %%
import math
import re
from collections import Counter


def words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"[a-z]+", text.lower())


counts = {name: Counter() for name in CLASSES}
for row in reviews["train"]:
    counts[row["label"]].update(words(row["text"]))


def counting_judge(text: str) -> str:
    """The class whose reviews have these words more often; every count is raised by 1."""
    ratios = ((counts["positive"][w] + 1) / (counts["negative"][w] + 1) for w in words(text))
    return CLASSES[sum(map(math.log, ratios)) > 0]


def by_counting(split: str) -> float:
    """The fraction of a split's reviews for which the counting judge is right."""
    right = [counting_judge(row["text"]) == row["label"] for row in reviews[split]]
    return sum(right) / len(right)


counted = by_counting("valid")
table(
    [
        (word, counts["positive"][word], counts["negative"][word])
        for word in ("clever", "warm", "moving", "dull", "slow", "weak", "gladly", "worse")
    ],
    ["word", "in positive", "in negative"],
    [None, "d", "d"],
)
say(
    f"Learned from {len(reviews['train']):,} reviews, counting words is right for {counted:.1%} of {len(reviews['valid'])} others."
)
assert QUICK or 0.65 < counted < 0.85
assert QUICK or counts["positive"]["clever"] < counts["negative"]["clever"]
assert QUICK or counts["positive"]["dull"] > counts["negative"]["dull"]

# %% [markdown]
# In a full run "clever" is more frequent in negative reviews, and "dull" in positive ones! There are two reasons. Every
# review also says something for the other side, with the other side's words. And about half of the other remarks are turned
# around, like "not dull at all". Only a few sentences, such as "I would gladly see it again", have words that occur in one
# class alone. So the counting judge is better than guessing, but it is wrong for about every fourth review. We keep its
# number. A network has to do better.

# %% [markdown]
# ## Has anyone seen the test?
#
# If a model has read a test text before, we measure its memory. So we make two checks before anything is trained. No text of
# `valid` or `test` may be in `train`. And no invented name of theirs may be there either. (A name is a word with a capital
# letter that is made of the tiny world's syllables.) The texts on which our models were pre-trained follow the same rule.

# %%
from minitransformer.course.tinyworld.names import syllables_of


def names_in(texts: list[str]) -> set[str]:
    """The invented names in some texts."""
    capitals = {word for text in texts for word in re.findall(r"\b[A-Z][a-z]+\b", text)}
    return {word for word in capitals if len(syllables_of(word) or ()) > 1}


texts = {split: [row["text"] for row in rows] for split, rows in reviews.items()}
for split in ("valid", "test"):
    same_text = set(texts[split]) & set(texts["train"])
    names = names_in(texts[split])
    same_name = names & names_in(texts["train"])
    say(
        f"{split}: {len(same_text)} texts and {len(same_name)} of {len(names)} names occur in what we learn from."
    )
    assert not same_text and not same_name

# %% [markdown]
# ## Tokenise, pad, mask
#
# 004 §5.1 prepares the texts in three steps:
#
# - Each text becomes ids, with [CLS] in front and [SEP] behind.
# - Each row is padded to the same length, because a batch is a rectangle.
# - An attention mask (注意力掩码) says which tokens are real.
#
# The document pads every text to 128 tokens and cuts off what is longer (truncation, 截断). Both have a price. Padding is
# computed like text and then thrown away. And a cut removes the end of a review, where the verdict often stands. So we pad
# only to the longest text of a batch, and we never cut: a text that is too long is refused. We save more if we put texts of
# similar length into the same batch.
#
# Our reviews have about 65 tokens on average, and a batch has B = 8 texts.
#
# **Predict before you run:** which fraction of all tokens is padding if all texts get 128 tokens? With similar lengths
# together, is it more or less than 10 %?

# %%
from minitransformer.course.bases import about_base, load_base
from minitransformer.course.batches.classification import (
    LabelledTexts,
    Texts,
    encode_for_bert,
    encode_for_gpt,
)

tokenizer = default_tokenizer()
encode = {"bert": encode_for_bert, "gpt": encode_for_gpt}
rows = {kind: {split: encode[kind](texts[split], tokenizer) for split in texts} for kind in encode}
B, n_positions = 8, load_base("bert").config.n_positions
lengths = [len(row) for row in rows["bert"]["train"]]
as_they_come = [lengths[i : i + B] for i in range(0, len(lengths), B)]
batches = Texts(rows["bert"]["train"], B, tokenizer.pad_id, n_positions)
rectangles = {
    "all to 128": 128 * len(lengths),
    "to the longest of its batch": sum(len(part) * max(part) for part in as_they_come),
    "the same, similar lengths together": sum(
        batches(i)["ids"].numel() for i in range(batches.batches_per_epoch)
    ),
}
padding = {name: 1 - sum(lengths) / n for name, n in rectangles.items()}
table(
    [(name, n, padding[name], bar(padding[name])) for name, n in rectangles.items()],
    ["padding", "tokens computed", "of them padding", ""],
    [None, ",", ".0%", None],
)
say(f"The reviews have {min(lengths)} to {max(lengths)} tokens.")
assert 60 < sum(lengths) / len(lengths) < 70 and max(lengths) <= 128
assert QUICK or padding["all to 128"] > 0.4 > 0.1 > padding["the same, similar lengths together"]

# %% [markdown]
# If all texts get 128 tokens, about half of them are padding. With similar lengths together it is less than 10 % in a full
# run.

# %% [markdown]
# ## Two bases
#
# Fine-tuning starts from a pre-trained model, which we call a base. A large language model has billions of parameters and
# has read massive amounts of text (海量文本数据, 000 §1.1). To train one costs more than most people can pay (001 §1.1). Ours
# are the two models of lessons 3 and 4, and they have read the tiny world. Their texts contain reviews, but no review of
# `valid` or `test`. `load_base` loads a base in a moment, and `make pretrain` trains it again.
#
# **Predict before you run:** this lesson fine-tunes for a minute or so. Did each pre-training take less or more than ten
# minutes?

# %%
histories = {kind: about_base(kind) for kind in encode}
table(
    [
        (
            {"bert": "BERT", "gpt": "GPT"}[kind],
            sum(p.numel() for p in load_base(kind).parameters()),
            sum(phase["steps"] for phase in about["phases"]),
            about["seconds"] / 60,
        )
        for kind, about in histories.items()
    ],
    ["base", "parameters", "steps of pre-training", "minutes"],
    [None, ",", ",", ".0f"],
)
assert all(about["seconds"] > 600 for about in histories.values())

# %% [markdown]
# Each took more than ten minutes. Somebody pays for the pre-training once. Everyone who fine-tunes the base afterwards pays
# only for the task. 001 §1.3 expects of efficient fine-tuning that more people can use such models
# (使更多研究者和开发者能够使用).

# %% [markdown]
# ## A head for the classes
#
# 004 §2.3 calls fine-tuning the second stage (两阶段训练策略): input, output and loss are changed to fit the task. The input is
# prepared. The new output is a head. A vector s stands for the whole text, and a new matrix W with a bias b makes a score for
# each class:
#
#     ŷ = softmax(W s + b)
#
# The new loss is the cross-entropy of lesson 1 over the classes (004 §4.2):
#
#     L_classification = −Σ_{i=1}^{C} y_i log ŷ_i
#
# Here C is the number of classes, in the document's letter; it is 2. (Everywhere else in this course, C is the model's
# width.) y_i is 1 for the right class and 0 for the other.
#
# For a BERT, the vector s is the output of its pooler, which reads [CLS] (lesson 4). For a GPT, s is the vector of the
# text's last token, because only this token has read all others. W starts at random. Everything else comes from the base.
#
# The model needs the attention mask. Without it, padding would be read as text. To see this, we compute a short review
# twice: alone, and in a batch beside a longer one.
#
# **Predict before you run:** does its probability change because of the longer review, with the mask and without?

# %%
from minitransformer.models.classifier import Classifier


def classifier(kind: str, pretrained: bool = True, seed: int = 0) -> Classifier:
    """A base, or a fresh model of its sizes, with a fresh head on it."""
    base = load_base(kind)
    torch.manual_seed(seed)
    return Classifier(base if pretrained else type(base)(base.config), len(CLASSES))


model = classifier("bert").eval()
by_length = sorted(rows["bert"]["train"], key=len)
short, long = by_length[0], by_length[-1]
pair = Texts([short, long], 2, tokenizer.pad_id, n_positions).in_order()[0]
with torch.inference_mode():
    alone = model(torch.tensor([short])).softmax(-1)[0]  # ŷ of one text, two numbers
    masked = model(pair["ids"], pair["attention_mask"]).softmax(-1)[0]
    forgotten = model(pair["ids"]).softmax(-1)[0]
moved = [(p - alone).abs().max().item() for p in (masked, forgotten)]
say(
    f"Alone, the short review is positive with probability {alone[1]:.4f}. Beside the long one this changes by {moved[0]:.0e} "
    f"with the mask, and by {moved[1]:.0e} without."
)
assert moved[0] < 1e-5 < moved[1]

# %% [markdown]
# With the mask the probability stays the same, apart from rounding. Without it, the answer would depend on the other reviews
# of the batch.

# %% [markdown]
# ## Which parameters are adjusted?
#
# We look twice. After one batch: which parameters got a gradient? After two steps of training: which parameters have
# changed?

# %%
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import classification_loss


def labelled(
    kind: str, split: str, n: int | None = None, batch_size: int = B, seed: int = 0
) -> LabelledTexts:
    """The first n reviews of a split, as batches."""
    answers = [row["label"] for row in reviews[split][:n]]
    ids = rows[kind][split][:n]
    return LabelledTexts(ids, answers, CLASSES, batch_size, tokenizer.pad_id, n_positions, seed)


model = classifier("bert")
before = {name: p.detach().clone() for name, p in model.named_parameters()}
classification_loss(model, labelled("bert", "train")(0))[0].backward()
gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
nonzero = {name: int((grad != 0).sum()) for name, grad in gradients.items()}
two_steps = TrainConfig(steps=2, lr=1e-3)
train(model, labelled("bert", "train"), two_steps, loss=classification_loss, progress=False)
changed = {name: int((p.detach() != before[name]).sum()) for name, p in model.named_parameters()}

# %% [markdown]
# We add up three numbers for each part of the model: its parameters, those with a gradient, and those that have changed.
#
# **Predict before you run:** about which fraction of the model's parameters will have changed after two steps?

# %%
parts = {
    "heads of pre-training": r"^base\.(mlm|nsp)",
    "pooler and new head": "pooler|^head",
    "token table": "token_embedding",
    "positions, types": "(position|type)_embedding",
    "norms": "norm",
    "attention": "attention",
    "feed-forward": "mlp",
}
sums = {part: [0, 0, 0] for part in parts}
for name, p in model.named_parameters():
    part = next(part for part, pattern in parts.items() if re.search(pattern, name))
    of_this = (p.numel(), nonzero.get(name, 0), changed[name])
    sums[part] = [a + b for a, b in zip(sums[part], of_this, strict=True)]
table(
    [(part, *counted_here) for part, counted_here in sums.items()],
    ["part", "parameters", "gradient after one batch", "changed after two steps"],
    [None, ",", ",", ","],
)
total, _, all_changed = (sum(column) for column in zip(*sums.values(), strict=True))
say(f"{all_changed:,} of {total:,} parameters have changed, {all_changed / total:.0%}.")
assert sums["heads of pre-training"][2] == 0 < sums["heads of pre-training"][0]
assert all_changed > 0.99 * (total - sums["heads of pre-training"][0])
assert sums["token table"][1] < 0.5 * sums["token table"][0]

# %% [markdown]
# Nearly all parameters have changed. Only the heads of pre-training stay, because this task does not use them. One batch
# gives a gradient to few rows of the token table: those of its own tokens. The other rows still change, because AdamW makes
# all weights of a matrix a little smaller in every step (weight decay).
#
# *Where the document is not exact.* 004 §1.2 says that fine-tuning keeps most of the parameters and adjusts a small part
# (保留预训练模型大部分参数的同时，对一小部分参数进行调整). The fine-tuning of this lesson adjusts all of them. 000 §1.3 and the
# table in 000 §2.2 describe it so: the parameters of the whole model (整个模型参数), all parameters (全部参数). It is called full
# fine-tuning (全参数微调).

# %% [markdown]
# ## The document's loop and ours
#
# 004 §3.2 lists five steps of fine-tuning:
#
# 1) 准备标注数据集: labelled data, prepared for the task. Done.
# 2) 输入表示和输出表示: a form for input and output. Done: ids and mask, two scores.
# 3) 调整输入、输出和损失: input, output and loss fitted to the task. Done: head and cross-entropy.
# 4) 有监督训练: supervised training updates the parameters. Now.
# 5) 在验证集上评估: validation; hyper-parameters; early stopping. Next.
#
# The program of 004 §5.2 has step 4 as a loop over batches. Its lines are in the code below: clear the gradients, forward
# pass, loss, `backward`, `step`. Our `train` does the same, and more: a warm-up, a falling learning rate, and a limit for
# the length of the gradient. We switch these additions off. Then we train two copies of a model with the same three
# batches, one with each loop. In the end both copies judge the fourth batch.
#
# **Predict before you run:** by how much do their probabilities differ?

# %%
import torch.nn.functional as F
from minitransformer.training.loop import make_optimizer

config = TrainConfig(steps=3, lr=3e-4, final_lr=1.0, clip=0.0)
batches = labelled("bert", "train")
theirs, ours = classifier("bert"), classifier("bert")
optimizer = make_optimizer(theirs, config)
for batch in map(batches, range(3)):  # the loop of 004 §5.2
    optimizer.zero_grad()
    logits = theirs(batch["ids"], batch["attention_mask"])
    loss = F.cross_entropy(logits, batch["label"])
    loss.backward()
    optimizer.step()
train(ours, batches, config, loss=classification_loss, progress=False)
batch = batches(3)
with torch.inference_mode():
    one, other = (m(batch["ids"], batch["attention_mask"]).softmax(-1) for m in (theirs, ours))
apart = (one - other).abs().max().item()
say(f"On the next batch, no probability differs by more than {apart:.0e}.")
assert apart < 1e-3

# %% [markdown]
# The two loops do the same; any difference is rounding.
#
# *Where the document is not exact.* Step 5 of 004 §3.2 names early stopping, and the program of 004 §5.2 has none. It prints
# the validation accuracy after each epoch, and it ends with the weights of the last epoch, whatever the accuracy was.

# %% [markdown]
# ## Choosing by validation
#
# Step 5 needs the most care. We choose the learning rate and the number of epochs by validation, never by test. Early
# stopping (早停) works like this: after every epoch we measure the validation loss. Training ends when this loss has not
# improved for some epochs, and the model gets back the parameters of its best epoch. The number of epochs to wait is called
# patience (耐心); ours is one.
#
# An accuracy is measured on few reviews, so it has an error. A model that only guesses has an accuracy around 50 %. On n
# reviews it typically differs from 50 % by √(0.25 / n), the standard error (标准误). We draw a band of two standard errors.
# A point inside the band is not shown to be better than guessing.
#
# `fine_tune` trains all parameters that are not frozen, and measures on the validation reviews after every `eval_every`
# steps.

# %%
from minitransformer.course.trial import CountedClassification
from minitransformer.models.bert import Bert
from minitransformer.training.loop import Log

valid = {kind: labelled(kind, "valid", batch_size=20).in_order() for kind in encode}


def fine_tune(
    model: Classifier, batches: LabelledTexts, lr: float, steps: int, **more: int
) -> tuple[Log, list[float]]:
    """Train what is not frozen; gives the log, and the validation accuracy at each evaluation."""
    accuracies = CountedClassification()
    log = train(
        model,
        batches,
        TrainConfig(steps, lr, warmup=steps // 10, **more),
        valid=valid["bert" if isinstance(model.base, Bert) else "gpt"],
        loss=accuracies.loss,
        progress=False,
        on_eval=accuracies.on_eval,
    )
    return log, accuracies.accuracies


# %% [markdown]
# We try two learning rates, 0.0003 and 0.001. If the rate is too low, the model has not learned enough by the end. If it is
# too high, training destroys what the model knew. The line below the table names the better one.
#
# **Predict before you run:** which of the two rates is better? And is it possible that the validation loss rises although
# the accuracy rises too?

# %%
n_bert, epochs = (24, 2) if QUICK else (320, 3)
berts = {}
for lr in (3e-4, 1e-3):
    model, batches = classifier("bert"), labelled("bert", "train", n_bert)
    epoch = batches.batches_per_epoch
    berts[lr] = model, *fine_tune(model, batches, lr, epochs * epoch, eval_every=epoch, patience=1)
n_valid = len(reviews["valid"])
band = 2 * math.sqrt(0.25 / n_valid)  # two standard errors of guessing
search = {
    (lr, i): (row["loss"], accuracy)
    for lr, (_, log, accuracies) in berts.items()
    for i, (row, accuracy) in enumerate(zip(log.valid, accuracies, strict=True), 1)
}
with figure(
    "bert",
    f"The BERT on {n_valid} validation reviews, after each epoch of {n_bert} reviews.",
    (9, 3.6),
    1,
    2,
) as (left, right):
    for (lr, (_, log, accuracies)), mark in zip(berts.items(), ("o-", "s--"), strict=True):
        at = range(1, len(accuracies) + 1)
        left.plot(at, [row["loss"] for row in log.valid], mark, label=f"learning rate {lr:.0e}")
        right.plot(at, accuracies, mark, label=f"learning rate {lr:.0e}")
    left.axhline(math.log(2), color="grey", linestyle=":", label="guessing, ln 2")
    left.set(ylabel="validation loss (nats)", ylim=(0, None))
    right.axhspan(0.5 - band, 0.5 + band, color="grey", alpha=0.2, label="guessing")
    right.axhline(counted, color="black", linestyle=":", label="counting words")
    right.set(ylabel="validation accuracy", ylim=(0.4, 1))
    for ax in (left, right):
        ax.set(xlabel="epoch", xticks=range(1, epochs + 1))
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
table(
    [(*key, *value) for key, value in search.items()],
    ["learning rate", "epoch", "validation loss", "accuracy"],
    [".0e", "d", ".3f", ".1%"],
)
lr_bert, epoch_bert = min(search, key=lambda key: search[key][0])
bert, best_bert = berts[lr_bert][0], search[lr_bert, epoch_bert][1]
say(f"Lowest validation loss: learning rate {lr_bert:.0e}, epoch {epoch_bert}.")
assert berts[lr_bert][1].best_step == epoch_bert * epoch
assert QUICK or (best_bert > 0.5 + band and search[lr_bert, epoch_bert][0] < math.log(2))

# %% [markdown]
# In a full run the chosen BERT is above the band, so it has learned something. Its parameters are those of the chosen epoch;
# `train` has put them back.
#
# It is possible that loss and accuracy rise together. The loss depends on how sure the model is. If the model becomes surer
# of its mistakes, the loss rises, even if there are fewer mistakes.

# %% [markdown]
# ## The same on a GPT
#
# Now we take the other base, whose head reads the last token. It gets a small search of its own, because the best learning
# rate can differ from model to model. We compare it with a GPT that is trained from nothing (从头训练): it has the same sizes,
# but random parameters. It gets the same search, because otherwise the comparison would not be fair. In a full run each
# training has 100 steps of B = 8 reviews, and reads each of its 800 reviews once.
#
# **Predict before you run:** after 800 reviews, is the GPT from nothing right for more than 65 % of the validation reviews?

# %%
steps = 6 if QUICK else 100
many = B * steps  # reviews that are seen once in so many steps
tried = {}
for start in ("pre-trained", "from nothing"):
    for lr in (5e-4, 1e-3):
        model = classifier("gpt", pretrained=start == "pre-trained")
        log, accuracies = fine_tune(model, labelled("gpt", "train", many), lr, steps)
        tried[start, lr] = log.valid[-1]["loss"], accuracies[-1], model, log
table(
    [(*key, loss, accuracy) for key, (loss, accuracy, *_) in tried.items()],
    [f"GPT, {many} reviews", "learning rate", "validation loss", "accuracy"],
    [None, ".0e", ".3f", ".1%"],
)
chosen = {}  # by start: learning rate, accuracy, model, log
for start in ("pre-trained", "from nothing"):
    _, lr = min((loss, lr) for (which, lr), (loss, *_) in tried.items() if which == start)
    chosen[start] = lr, *tried[start, lr][1:]
gpt = chosen["pre-trained"][2]
say(f"Chosen by validation loss: {', '.join(f'{chosen[s][0]:.0e} {s}' for s in chosen)}.")
assert QUICK or chosen["pre-trained"][1] > chosen["from nothing"][1] + band
assert QUICK or chosen["from nothing"][1] < 0.65

# %% [markdown]
# In a full run it is not, and the pre-trained GPT is clearly better. To compare the GPT with the BERT would not be fair. The
# two have learned from different numbers of reviews, and their bases have read different texts for different times.

# %% [markdown]
# ## What transfer is worth
#
# 004 §1.2 lists three advantages of fine-tuning:
#
# - *Efficiency* (高效性): it takes less time than training from nothing (从头训练).
# - *Generalisation* (泛化能力): what the base knows helps on new examples of the task.
# - *Data efficiency* (数据效率): with little data, the base's knowledge makes up for missing labels.
#
# One experiment tests all three. We train with fewer and fewer reviews, but with the same number of steps, so few reviews
# are read many times. Each start keeps the learning rate that was chosen for it. The validation reviews are the new
# examples; their names do not occur in training. "Training loss" is the mean over the last tenth of the steps.
#
# **Predict before you run:** will the pre-trained GPT with 50 reviews be better than the GPT from nothing with 800? Is a
# small training loss a good sign?

# %%
from minitransformer.metrics import standard_error

amounts = (8, 24, many) if QUICK else (many // 16, many // 4, many)
points = {}
for n in amounts:
    for start, (lr, accuracy, _, log) in chosen.items():
        if n < many:
            model = classifier("gpt", pretrained=start == "pre-trained")
            log, (accuracy,) = fine_tune(model, labelled("gpt", "train", n), lr, steps)
        last = [row["loss"] for row in log.train[-max(1, steps // 10) :]]
        points[start, n] = sum(last) / len(last), log.valid[-1]["loss"], accuracy
table(
    [(n, steps * B / n, start, *points[start, n]) for n in amounts for start in chosen],
    ["reviews", "times read", "GPT", "training loss", "validation loss", "accuracy"],
    ["d", ".0f", None, ".3f", ".3f", ".1%"],
)
with figure(
    "transfer",
    f"Accuracy on {n_valid} validation reviews by the number of labelled reviews; bars are one standard error.",
) as axes:
    for start, mark in zip(chosen, ("o-", "s--"), strict=True):
        values = [points[start, n][2] for n in amounts]
        errors = [standard_error(a, n_valid) for a in values]
        axes.errorbar(amounts, values, errors, fmt=mark, capsize=3, label=start)
    axes.axhspan(0.5 - band, 0.5 + band, color="grey", alpha=0.2, label="guessing")
    axes.set(xscale="log", ylabel="validation accuracy", ylim=(0.4, 1))
    axes.set_xlabel(f"labelled reviews ({steps} steps of {B} for each point)")
    axes.set_xticks(amounts, [f"{n:,}" for n in amounts])
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
fewest = points["pre-trained", amounts[0]]
gaps = {n: points["pre-trained", n][2] - points["from nothing", n][2] for n in amounts}
say(
    "The gap is "
    + ", ".join(f"{100 * gap:+.1f} points at {n} reviews" for n, gap in gaps.items())
    + "."
)
assert QUICK or min(gaps.values()) > 0
assert QUICK or fewest[2] > points["from nothing", many][2] + band
learned_by_heart = points["from nothing", amounts[0]]
assert QUICK or (learned_by_heart[0] < 0.1 < math.log(2) < learned_by_heart[1])
assert QUICK or (fewest[0] < 0.1 and fewest[1] < learned_by_heart[1])

# %% [markdown]
# What a full run shows:
#
# - *Efficiency*: after equally many steps, the pre-trained GPT is ahead at every size.
# - *Data efficiency*: with the fewest labels it is better than the GPT from nothing with sixteen times as many.
# - *Generalisation*: look at the fewest labels. Both models have a training loss of almost 0: they know those reviews by
#   heart. So a small training loss alone is no good sign. On new reviews the loss of the GPT from nothing is above ln 2, the
#   loss of guessing. This is the overfitting of lesson 1. The loss of the pre-trained GPT is lower, and it is right more
#   often.
#
# Each point has one seed. With another seed all points would change a little.

# %% [markdown]
# ## Six steps, with a prefix
#
# 000 §3.2 also lists the steps of training, and there are six. The document means them for a prefix. At the end of lesson 2 we
# added two keys and values that came from no token. `PrefixTuning(5)` puts P = 5 of them in front of the text, in every
# layer of the model. Only the prefix and the new head are trained. The base is frozen. (Lesson 9 explains the method in
# full; here we only follow the six steps.)
#
# 1. 数据准备: training, validation and test data. Done.
# 2. 模型初始化: load the base; initialise the prefix. At random.
# 3. 前向传播: input and prefix go through the model.
# 4. 损失函数计算: a loss that fits the task. The cross-entropy.
# 5. 反向传播: gradients; the optimizer updates the prefix.
# 6. 模型评估: validation; adjust hyper-parameters. The next step of this lesson.
#
# **Predict before you run:** the GPT has 4 layers and the width C = 128. A key has C numbers, and so has a value. How many
# parameters does the prefix have? And how many parameters of the base get a gradient in step 5?

# %%
from minitransformer.tuning import FullFineTuning, PrefixTuning
from minitransformer.tuning.bases import base_parameters

batch = labelled("gpt", "train")(0)  # step 1
model = classifier("gpt")  # step 2: the base, and a new head
before = {name: p.detach().clone() for name, p in base_parameters(model.base).items()}
prefix = PrefixTuning(5).attach(model)  # step 2: the prefix
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
logits = model(batch["ids"], batch["attention_mask"])  # step 3
loss = F.cross_entropy(logits, batch["label"])  # step 4
loss.backward()  # step 5
optimizer.step()
parts = {
    "prefix": list(prefix.parameters()),
    "new head": list(model.head.parameters()),
    "base": list(base_parameters(model.base).values()),
}
table(
    [
        (
            part,
            sum(p.numel() for p in those),
            sum(p.numel() for p in those if p.grad is not None),
        )
        for part, those in parts.items()
    ],
    ["part", "parameters", "got a gradient"],
    [None, ",", ","],
)
assert all(torch.equal(p, before[name]) for name, p in base_parameters(model.base).items())
assert sum(p.numel() for p in parts["prefix"]) == 5 * 4 * 2 * 128
assert all(p.grad is None for p in parts["base"])

# %% [markdown]
# The prefix has 5 · 4 · 2 · 128 = 5,120 parameters. No parameter of the base got a gradient, and the base is bit for bit
# what it was.

# %% [markdown]
# ## Step six, and an honest baseline
#
# Now the loop: as many steps as for full fine-tuning, on the same reviews, with two learning rates to choose from. The
# parameters of a prefix start at random, so a prefix needs higher rates than pre-trained parameters.
#
# The head is trained together with the prefix. To see what the prefix adds, we also train the head alone, on the frozen
# base.
#
# **Predict before you run:** will the prefix be clearly better than full fine-tuning, by more than two standard errors?

# %%
prefixes = {}
for lr in (1e-2, 3e-2):
    model = classifier("gpt")
    PrefixTuning(5).attach(model)
    log, accuracies = fine_tune(model, labelled("gpt", "train", many), lr, steps)
    prefixes[lr] = log.valid[-1]["loss"], accuracies[-1], model
lr_prefix = min(prefixes, key=lambda lr: prefixes[lr][0])
with_prefix = prefixes[lr_prefix][2]
head_alone = classifier("gpt")
head_alone.base.requires_grad_(False)
log, (head_accuracy,) = fine_tune(head_alone, labelled("gpt", "train", many), 1e-2, steps)
methods = {
    "head alone": (1e-2, log.valid[-1]["loss"], head_accuracy),
    **{f"prefix, P = 5, {lr:.0e}": (lr, *prefixes[lr][:2]) for lr in prefixes},
    "full fine-tuning": (
        chosen["pre-trained"][0],
        points["pre-trained", many][1],
        chosen["pre-trained"][1],
    ),
}
table(
    [(name, *numbers) for name, numbers in methods.items()],
    [f"GPT, {many} reviews", "learning rate", "validation loss", "accuracy"],
    [None, ".0e", ".3f", ".1%"],
)
prefix_accuracy = prefixes[lr_prefix][1]
say(
    f"Chosen for the prefix: {lr_prefix:.0e}. Two standard errors are about {100 * band:.0f} points. The prefix is "
    f"{100 * (prefix_accuracy - head_accuracy):+.1f} points against the head alone."
)
assert QUICK or chosen["pre-trained"][1] > prefix_accuracy - band

# %% [markdown]
# In a full run it is not. Compare the prefix with the head alone, too: a difference of less than two standard errors shows
# nothing. Lesson 10 trains a prefix on the BERT, which is the document's own example (000 §4.3).

# %% [markdown]
# ## A table of the document, row by row
#
# 000 §2.2 compares prefix tuning (前缀微调) with traditional fine-tuning (传统微调), in five rows: adjusted parameters, speed
# of training, use of computing resources, adaptation to the task, and interpretability. Three of the rows can be
# measured on one batch, without a task.
#
# - *Speed*: seconds per step, the median of several. The two methods take turns.
# - *Resources*: the document does not say which. We count the memory for training. Every trained parameter needs a
#   gradient and the two running means of AdamW, which are three numbers of 4 bytes.
#
# **Predict before you run:** the prefix trains half a percent of the parameters. Is its step a hundred times as fast, or less
# than ten times?

# %%
import time

batch = labelled("gpt", "train")(0)
step_times, reports = {}, {}
for name, method in (("prefix", PrefixTuning(5)), ("full", FullFineTuning())):
    model = classifier("gpt")
    reports[name] = method.attach(model).report()
    trained = [p for p in model.parameters() if p.requires_grad]
    step_times[name] = [], model, torch.optim.AdamW(trained, lr=0.0)
for _ in range(2 if QUICK else 15):
    for times, model, optimizer in step_times.values():
        began = time.perf_counter()
        F.cross_entropy(model(batch["ids"], batch["attention_mask"]), batch["label"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - began)
ms = {name: 1000 * sorted(times)[len(times) // 2] for name, (times, *_) in step_times.items()}
trained = {name: report.trained + report.head for name, report in reports.items()}
megabytes = {name: 3 * 4 * n / 1e6 for name, n in trained.items()}
reached = {"prefix": prefix_accuracy, "full": chosen["pre-trained"][1]}
table(
    [
        (row, *said, *(form.format(ours.get(name)) for name in ("prefix", "full")))
        for row, *said, ours, form in (
            ("调整参数 (parameters)", "前缀参数", "全部参数", trained, "{:,}"),
            ("训练速度 (speed)", "更快", "更慢", ms, "{:.0f} ms a step"),
            ("计算资源消耗 (resources)", "更低", "更高", megabytes, "{:.2f} MB"),
            ("任务适应能力 (adaptation)", "更强", "较弱", reached, "{:.1%}"),
            ("可解释性 (interpretability)", "更强", "较弱", {}, "lesson 8"),
        )
    ],
    ["000 §2.2", "前缀微调", "传统微调", "prefix here", "full here"],
)
assert trained["prefix"] < 0.01 * trained["full"]
assert QUICK or 0.1 * ms["full"] < ms["prefix"] < ms["full"]

# %% [markdown]
# How the rows stand in a full run:
#
# - *Adjusted parameters*: true. It is half a percent, head included.
# - *Speed*: true, but less than ten times. The forward pass is the same, and the gradient still has to go back through all
#   layers to reach the prefix. Only the gradients of the base's parameters and their updates are left out.
# - *Resources*: true for this memory. The memory for activations is not counted.
# - *Adaptation*: not shown here. In this run the prefix is not clearly better than full fine-tuning. Lessons 9, 10 and 14
#   compare the two on more tasks.
# - *Interpretability*: not measured here. Lesson 8 looks at what trained vectors mean.
#
# *Where the document is not exact.* The table's words are 更快, 更低, 更强: faster, lower, stronger. It gives no number and no
# source, and 任务适应能力 and 可解释性 have no measure.

# %% [markdown]
# ## The test, once
#
# Everything has been chosen. Prediction is one forward pass; the class with the higher score is the answer. With a prefix,
# input and prefix go in together (将输入序列和前缀输入模型, 000 §3.3). 004 §5.3 has a function for evaluation, but our copy of
# the document ends in its first line. Accuracy is the fraction of right answers. The confusion matrix (混淆矩阵) shows the
# kinds of mistakes: it has a row for each label and a column for each answer of the model. Three more measures come from
# it, here for the class *positive*:
#
#     precision (精确率) = TP / (TP + FP)      of the reviews that the model calls positive, the fraction that are positive
#     recall (召回率)    = TP / (TP + FN)      of the positive reviews, the fraction that the model calls positive
#     F1 (F1 值)         = 2 · precision · recall / (precision + recall)
#
# TP is the number of positive reviews that the model calls positive. FP counts negative reviews that it calls positive, and
# FN counts positive reviews that it calls negative.
#
# **Predict before you run:** we chose every model because it did well on validation. Do you expect the test to be a little
# higher, or a little lower?

# %%
from minitransformer.metrics import confusion_matrix, f1

truths = [row["label"] for row in reviews["test"]]
judged = {
    "BERT": ("bert", bert, best_bert),
    "GPT": ("gpt", gpt, chosen["pre-trained"][1]),
    "GPT from nothing": ("gpt", chosen["from nothing"][2], chosen["from nothing"][1]),
    "GPT with a prefix": ("gpt", with_prefix, prefix_accuracy),
}
probs, confused, rows_shown = {}, {}, []
for name, (kind, model, on_valid) in judged.items():
    batches = labelled(kind, "test", batch_size=20).in_order()
    with torch.inference_mode():
        logits = torch.cat([model(batch["ids"], batch["attention_mask"]) for batch in batches])
    probs[name] = logits.softmax(-1)  # ŷ, a row of two for each review
    predictions = [CLASSES[i] for i in logits.argmax(-1).tolist()]
    confused[name] = confusion_matrix(predictions, truths, CLASSES)
    (TN, FP), (FN, TP) = confused[name].tolist()
    right, precision, recall = (TP + TN) / len(truths), TP / max(1, TP + FP), TP / (TP + FN)
    F1 = 2 * precision * recall / max(1e-9, precision + recall)
    rows_shown.append(
        (name, on_valid, right, standard_error(right, len(truths)), precision, recall, F1)
    )
    assert abs(F1 - f1(predictions, truths, "positive")) < 1e-9
on_test = {row[0]: row[2] for row in rows_shown}
table(
    [*rows_shown, ("counting words", counted, by_counting("test"), None, None, None, None)],
    ["model", "validation", "test", "±", "precision", "recall", "F1"],
    [None, ".1%", ".1%", ".1%", ".3f", ".3f", ".3f"],
)
with figure(
    "confusion", f"The {len(truths)} test reviews by label and by answer.", (7.5, 3.6), 1, 2
) as axes:
    for ax, name in zip(axes, ("BERT", "GPT"), strict=True):
        ax.imshow(confused[name], cmap="Blues", vmin=0, vmax=len(truths) / 2)
        ax.grid(False)
        ax.set(title=name, xlabel="answer of the model", xticks=(0, 1), xticklabels=CLASSES)
        ax.set(yticks=(0, 1), yticklabels=CLASSES)
        for (i, j), n in ((at, confused[name][at]) for at in ((0, 0), (0, 1), (1, 0), (1, 1))):
            dark = n > len(truths) / 4
            ax.text(j, i, str(n), ha="center", va="center", color="white" if dark else "black")
    axes[0].set_ylabel("label")
assert QUICK or on_test["GPT"] > on_test["GPT from nothing"] + 2 * rows_shown[2][3]

# %% [markdown]
# Choosing makes the validation number a little too good, so we expect a slightly lower test. But chance can be larger than
# this. The column ± is one standard error.

# %% [markdown]
# ## The worst mistakes
#
# An accuracy shows how often a model is wrong, but not why. We read the test reviews for which the GPT was surest of the
# wrong class.
#
# **Predict before you run:** which kinds of remarks do you expect in these reviews?

# %%
right_class = torch.tensor([CLASSES.index(label) for label in truths])
p_right = probs["GPT"][torch.arange(len(truths)), right_class]  # one probability for each review
for i in p_right.argsort()[:4].tolist():
    say(f"> {reviews['test'][i]['text']}")
    say(f"It is {truths[i]}. The model gave this class a probability of {p_right[i]:.3f}.")

# %% [markdown]
# One guess is that turned remarks are hard: "not dull at all", or "I expected the music to be dull. It is fine." To test the
# guess, we count such remarks in every test review. We compare the GPT with the judge that counts words.
#
# **Predict before you run:** for the counting judge, "dull" is a sign of a positive review. Where is it worse, in reviews
# with turned remarks or in those without? Is the GPT better than the judge in those without?

# %%
TURNED = (
    r"not \w+ at all|obody can call|anything but|was told that|I expected|do not agree|never felt"
)
groups = {"none": [], "one": [], "two or more": []}
for row, p in zip(reviews["test"], p_right.tolist(), strict=True):
    group = list(groups)[min(2, len(re.findall(TURNED, row["text"])))]
    groups[group].append((p > 0.5, counting_judge(row["text"]) == row["label"]))
hits = {
    name: [sum(column) / len(group) for column in zip(*group, strict=True)]
    for name, group in groups.items()
}
table(
    [
        (name, len(groups[name]), *hits[name], standard_error(hits[name][0], len(groups[name])))
        for name in groups
    ],
    ["turned remarks", "test reviews", "GPT right", "counting words right", "±"],
    [None, "d", ".1%", ".1%", ".1%"],
)
assert QUICK or hits["none"][1] < hits["two or more"][1] - 0.2
assert QUICK or hits["none"][0] > hits["none"][1] + 0.15

# %% [markdown]
# In a full run the counting judge is worst in reviews without turned remarks. There "dull" means dull, and the judge counts it
# as praise. The GPT is far better in these reviews. So it has learned more than counts of words: it uses the words around
# them.

# %% [markdown]
# ## What has to be kept
#
# 003 §1 names a problem of full fine-tuning (FFT): each task needs a whole new model
# (针对不同的下游任务都需要产生一个新的微调后大模型). With a prefix we only have to keep the prefix and the head; the base stays the same for all tasks.
#
# **Predict before you run:** a number takes 4 bytes. The GPT has 1,088,256 parameters, a prefix 5,120, and a head 258. How many
# megabytes do ten tasks take, with each method?

# %%
for report in reports.values():
    say(f"{report} Ten tasks: {10 * 4 * (report.stored + report.head) / 1e6:.1f} MB.")
assert reports["full"].stored == reports["full"].base == 1_088_256
assert (reports["prefix"].stored, reports["prefix"].head) == (5_120, 258)

# %% [markdown]
# Ten models take about 44 megabytes, and ten prefixes about 0.2. Methods that train few parameters are the subject of
# lessons 8 to 13.

# %% [markdown]
# ## The answer

# %%
gap = 100 * (on_test["GPT"] - on_test["GPT from nothing"])
say(
    f"With {many} labelled reviews, read once, the pre-trained GPT is right for {on_test['GPT']:.1%} of the test, and the GPT "
    f"from nothing for {on_test['GPT from nothing']:.1%}. Transfer is worth {gap:.0f} points."
)

# %% [markdown]
# What a model has read helps it a great deal with a new task. In a full run a pre-trained model with 50 labels is better than
# a model from nothing with 800.
#
# To try next:
#
# - Give the smallest size of the transfer figure three seeds (`classifier` and `labelled` take one). How far apart are they?
# - Let the GPT from nothing train on all 2,000 reviews for five times as many steps. Does it catch up?
# - Append `tokenizer.eot_id` to every row of `rows["gpt"]`, so that the head reads that token. Why does this cost accuracy?
#
# Exercises: `make start-5` writes the stubs of this lesson's exercises to `workbook/lesson_05.py`, and `make check-5` checks
# them. Lesson 6 builds the third kind of model, which reads one text and writes another.
#
# Further reading: "Universal Language Model Fine-tuning for Text Classification" (Howard & Ruder, 2018); "BERT: Pre-training
# of Deep Bidirectional Transformers" (Devlin et al., 2019); "Don't Stop Pretraining" (Gururangan et al., 2020); "Fine-Tuning
# Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping" (Dodge et al., 2020).
