"""Full fine-tuning: what transfer is worth

question: A model has read many texts; how much does that help it with a task for which there are few answers?
minutes: 1.1
documents: 000 §1.2 微调的必要性, §3.2 模型训练, §3.3 模型预测; 004 §1.2 大语言模型微调的重要性, §3.2 微调阶段, §4.2 交叉熵损失, §5 项目实践
needs: 1, 2, 3, 4
"""

# %% [markdown]
# ## A task with answers
#
# So far the text itself was the answer: the next token, the hidden word. Now somebody wants to know whether a film review
# is for or against the film, text classification (文本分类), and has to pay people to label (标注) examples. 000 §1.2 and 004
# §1.2 promise that a pre-trained model needs few of them: it is adjusted to the task, fine-tuning (微调), and brings along
# what it knows, transfer (迁移学习). This lesson measures what that is worth.
#
# No single word gives a verdict away: a good film may be "not dull at all", and every review concedes something to the
# other side. The reviews are split as lesson 1 split its text: `train` (训练集) to learn from, `valid` (验证集) to choose by,
# `test` (测试集) to be read once, at the end.
#
# **Predict before you run:** a model that answers "positive" to everything, how often is it right?

# %%
import re
from collections import Counter

import torch
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, table
from minitransformer.text.corpora import read_jsonl

CLASSES = ("negative", "positive")
tokenizer = default_tokenizer()
reviews = {
    split: read_jsonl(DATA / "tasks" / "reviews" / f"{split}.jsonl", ("text", "label"))
    for split in ("train", "valid", "test")
}
if QUICK:
    reviews = {split: rows[:60] for split, rows in reviews.items()}
for split in ("valid", "test"):
    reviews[split].sort(
        key=lambda row: len(row["text"])
    )  # their order does not matter, and like lengths need less padding
table(
    [
        (split, len(rows), *(Counter(row["label"] for row in rows)[name] for name in CLASSES))
        for split, rows in reviews.items()
    ],
    ["split", "reviews", *CLASSES],
    [None, ",", "d", "d"],
)
for row in reviews["train"][:2]:
    say(f"> {row['text']} **{row['label']}**")

# %% [markdown]
# ## Has anyone seen the test?
#
# What is measured on texts that a model has met is memory. Two checks, before anything is trained: no text of `valid` or
# `test` is in `train`, and no invented name of theirs is. (A name is a word with a capital that is made of the world's
# syllables. The texts that our models were pre-trained on keep to the same rule: names of `train` only.)

# %%
from minitransformer.course.tinyworld.names import syllables_of


def names_in(texts: list[str]) -> set[str]:
    """The invented names in some texts."""
    words = {word for text in texts for word in re.findall(r"\b[A-Z][a-z]+\b", text)}
    return {word for word in words if len(syllables_of(word) or ()) > 1}


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
# 004 §5.1 prepares a text in three moves: to ids, with [CLS] in front and [SEP] behind; pad to one length, for a batch
# is a rectangle; and an attention mask (注意力掩码) that says which tokens are real. It pads every text to 128 and cuts
# (truncates, 截断) what is longer. Both have a price. Padding is computed like text and thrown away; so we pad only to the
# longest text of the batch, and put texts of like length together. And a cut takes the end of a review, where the verdict
# tends to stand; so ours are never cut: what is too long is refused.
#
# **Predict before you run:** which share of a batch is padding, in each way?

# %%
from minitransformer.course.bases import load_base
from minitransformer.text.batches.classification import (
    LabelledTexts,
    Texts,
    encode_for_bert,
    encode_for_gpt,
)

encode = {"bert": encode_for_bert, "gpt": encode_for_gpt}
rows = {kind: {split: encode[kind](texts[split], tokenizer) for split in texts} for kind in encode}
B, n_positions = 8, load_base("bert").config.n_positions
lengths = [len(row) for row in rows["bert"]["train"]]
real = sum(lengths)
batches = Texts(rows["bert"]["train"], B, tokenizer.pad_id, n_positions)
rectangles = {
    "all to 128": 128 * len(lengths),
    f"to the longest of {B}": sum(
        len(part) * max(part) for part in (lengths[i : i + B] for i in range(0, len(lengths), B))
    ),
    "the same, like lengths together": sum(
        batches(i)["ids"].numel() for i in range(batches.batches_per_epoch)
    ),
}
table(
    [(name, n, 1 - real / n, bar(1 - real / n)) for name, n in rectangles.items()],
    ["padding", "tokens computed", "of them padding", ""],
    [None, ",", ".0%", None],
)
say(
    f"The reviews have {min(lengths)} to {max(lengths)} tokens, {real / len(lengths):.0f} on average."
)

# %% [markdown]
# ## A base, and a head for the classes
#
# Fine-tuning begins with a pre-trained model. Published ones have read much of the internet; ours, a BERT (lesson 4) and a
# GPT (lesson 3), have read the tiny world (`make pretrain`), reviews among the rest, none of them with a label. `load_base`
# gives them at once.
#
# A vector s sums up the text, and one new matrix makes of it a score for each of the C classes:
#
#     ŷ = softmax(W s + b)        L = −Σ_i y_i log ŷ_i,   i = 1 … C
#
# the cross-entropy of lesson 1 again (004 §4.2), with C = 2 now (004's letter; in the shapes C is still the width); y is 1 at
# the right class. A BERT's s is what its pooler makes of [CLS]; a GPT's is the vector of the text's last token, the only one
# that has read everything. (No end-of-text token stands after it: a GPT that has read one is about to begin another text,
# and has no more need of this one.) W starts out random, all else is the base's.
#
# If the mask is forgotten, padding is read as if it were text. One review alone, and the same beside a longer one:
#
# **Predict before you run:** how much do its two probabilities move, with the mask and without?

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
    alone = model(torch.tensor([short])).softmax(-1)[0]  # (2)
    masked = model(pair["ids"], pair["attention_mask"]).softmax(-1)[0]  # (2)
    forgotten = model(pair["ids"]).softmax(-1)[0]  # (2)
moved = {
    name: (p - alone).abs().max().item()
    for name, p in (("with the mask", masked), ("without", forgotten))
}
say(
    f"P(positive) alone is {alone[1]:.6f}; beside a longer text it moves by {moved['with the mask']:.0e} with the mask, "
    f"by {moved['without']:.0e} without."
)
assert moved["with the mask"] < 1e-5 < moved["without"]

# %% [markdown]
# ## Which parameters are adjusted?
#
# Where the document is loose: 004 §1.2 says that fine-tuning keeps most of the parameters and adjusts "a small part" of
# them. Two steps of training can be asked: which parameters got a gradient, and which are different afterwards?
#
# **Predict before you run:** about which share of this model's parameters will have changed?

# %%
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import classification_loss


def labelled(
    kind: str, split: str, n: int | None = None, batch_size: int = B, seed: int = 0
) -> LabelledTexts:
    """The first n reviews of a split, as batches."""
    labels = [row["label"] for row in reviews[split][:n]]
    return LabelledTexts(
        rows[kind][split][:n], labels, CLASSES, batch_size, tokenizer.pad_id, n_positions, seed
    )


model = classifier("bert")
before = {name: p.detach().clone() for name, p in model.named_parameters()}
classification_loss(model, labelled("bert", "train")(0))[0].backward()
parts = {
    "token table": "token_embedding",
    "positions, types": "(position|type)_embedding",
    "attention": "attention",
    "feed-forward": r"blocks.*\bmlp",
    "norms": "norm",
    "pooler and new head": "pooler|^head",
    "heads of pre-training": r"^base\.(mlm|nsp)",
}
gradients = {
    name: int((p.grad != 0).sum()) if p.grad is not None else 0
    for name, p in model.named_parameters()
}
model.zero_grad()
train(
    model,
    labelled("bert", "train"),
    TrainConfig(steps=2, lr=1e-3),
    loss=classification_loss,
    progress=False,
)
table_rows = {part: [0, 0, 0] for part in parts}
for name, p in model.named_parameters():
    part = next(part for part in reversed(parts) if re.search(parts[part], name))
    for column, n in enumerate(
        (p.numel(), gradients[name], int((p.detach() != before[name]).sum()))
    ):
        table_rows[part][column] += n
table(
    [(part, *counts) for part, counts in table_rows.items()],
    ["part", "parameters", "gradient not 0, one batch", "changed, two steps"],
    [None, ",", ",", ","],
)
total, _, changed = (sum(column) for column in zip(*table_rows.values(), strict=True))
unused = table_rows["heads of pre-training"][0]
say(
    f"{changed:,} of {total:,} changed, {changed / total:.0%}. The heads of pre-training, {unused:,} numbers, are not read by this task "
    "and stay. In the tables of tokens, positions and types one batch reaches only the rows that it reads; weight decay moves the "
    "others too."
)
assert changed > 0.9 * (total - unused)

# %% [markdown]
# So full fine-tuning (全参数微调) adjusts everything that the task reads, and by 000 §2.2's own table too: "all parameters"
# (全部参数). What is small is how far each one moves, and how much has to be trained anew. Methods that train few parameters
# are the subject of lessons 8 to 13.

# %% [markdown]
# ## The six steps, and a search
#
# 000 §3.2 names six: prepare the data, load the pre-trained model, forward pass, loss, backward pass, and evaluation on the
# validation set, to adjust the hyper-parameters. Steps three to five are the loop of lesson 3, unchanged. The
# sixth is where care is needed: learning rate and number of epochs are chosen by validation, never by test. 004 §3.2 adds
# early stopping (早停): the model is kept as it was when its validation loss was lowest, and training ends when that has
# not improved for a while. How long a while is called the patience (耐心); here it is one epoch.
#
# The search looks at validation after every epoch, so that one run says something about every length. (The learning rate
# still falls as planned for the longest.)
#
# **Predict before you run:** one learning rate is more than three times the other. Too low, the model has not learned by the end; too
# high, it forgets what it knew. Which of the two will do better?

# %%
from minitransformer.models.bert import Bert
from minitransformer.training.loop import Log
from minitransformer.training.losses import CountedClassification

valid = {kind: labelled(kind, "valid", batch_size=20).in_order() for kind in encode}


def fine_tune(
    model: Classifier,
    batches: LabelledTexts,
    lr: float,
    steps: int,
    eval_every: int = 0,
    patience: int = 0,
) -> tuple[Log, list[float]]:
    """Train all parameters of a classifier; gives its log and its validation accuracy at each evaluation."""
    counted = CountedClassification()
    config = TrainConfig(
        steps, lr, warmup=steps // 10, final_lr=0.1, eval_every=eval_every, patience=patience
    )
    log = train(
        model,
        batches,
        config,
        valid=valid["bert" if isinstance(model.base, Bert) else "gpt"],
        loss=counted.loss,
        progress=False,
        on_eval=counted.on_eval,
    )
    return log, counted.accuracies


n_bert, epochs = (24, 2) if QUICK else (320, 3)
berts = {}
for lr in (3e-4, 1e-3):
    model, batches = classifier("bert"), labelled("bert", "train", n_bert)
    epoch = batches.batches_per_epoch
    berts[lr] = model, *fine_tune(model, batches, lr, epochs * epoch, eval_every=epoch, patience=1)
search = {
    (lr, i): (row["loss"], accuracy)
    for lr, (_, log, accuracies) in berts.items()
    for i, (row, accuracy) in enumerate(zip(log.valid, accuracies, strict=True), 1)
}
table(
    [(*key, *value) for key, value in search.items()],
    ["learning rate", "epochs", "validation loss", "accuracy"],
    [".0e", "d", ".3f", ".1%"],
)
lr_bert, epoch_bert = min(search, key=lambda key: search[key][0])
bert = berts[lr_bert][0]  # `train` has put its best epoch's weights back
say(
    f"Lowest validation loss: learning rate {lr_bert:.0e}, {epoch_bert} epoch{'s' * (epoch_bert > 1)} of {n_bert} reviews. "
    + " ".join(
        f"The run with {lr:.0e} was stopped early, after {log.valid[-1]['step'] // epoch} epochs."
        for lr, (_, log, _) in berts.items()
        if log.stopped_early
    )
)

# %% [markdown]
# The curves, epoch by epoch. Beside the accuracy stands a band: if a model only guesses, its accuracy on n reviews strays
# from a half by about √(0.25 / n), the standard error (标准误); twice that is the band. A point in it proves nothing.
#
# **Predict before you run:** can the validation loss rise while the accuracy rises too?

# %%
import math

n_valid = len(reviews["valid"])


def guessing(n: int) -> float:
    """Two standard errors of the accuracy of a model that guesses, on n reviews."""
    return 2 * math.sqrt(0.25 / n)


with figure(
    "bert",
    "The BERT on the validation reviews, epoch by epoch, for each learning rate.",
    (9, 3.6),
    1,
    2,
) as (left, right):
    for (lr, (_, log, accuracies)), mark in zip(berts.items(), ("o-", "s--"), strict=True):
        at = range(1, len(accuracies) + 1)
        left.plot(at, [row["loss"] for row in log.valid], mark, label=f"learning rate {lr:.0e}")
        right.plot(at, accuracies, mark, label=f"learning rate {lr:.0e}")
    left.axhline(math.log(2), color="grey", linestyle=":", label="guessing, ln 2")
    right.axhspan(
        0.5 - guessing(n_valid), 0.5 + guessing(n_valid), color="grey", alpha=0.2, label="guessing"
    )
    left.set(ylabel="validation loss, nats", ylim=(0, 1))
    right.set(ylabel="validation accuracy", ylim=(0.4, 1))
    for ax in (left, right):
        ax.set(xlabel="epoch", xticks=range(1, epochs + 1))
        ax.legend(fontsize=9)
best_bert = search[lr_bert, epoch_bert][1]
say(
    f"The BERT that we keep is right on {best_bert:.1%} of {n_valid} validation reviews; guessing would stray to {0.5 + guessing(n_valid):.1%}. "
    + (
        "So it has learned something."
        if best_bert > 0.5 + guessing(n_valid)
        else f"So what it has learned from {n_bert} reviews cannot be told from guessing."
    )
)

# %% [markdown]
# ## The same on a GPT
#
# The GPT's head reads the last token. It gets its own little search, for what suits one architecture need not suit another.
# And so does a model from nothing (从头训练), of the same sizes but with random weights, or a comparison of the two would not
# be fair. Every run has the same number of steps, in which it sees each of its reviews once.
#
# **Predict before you run:** the BERT reads in both directions, the GPT in one only. Which will classify better here?

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
say(
    f"By validation loss the pre-trained GPT gets {chosen['pre-trained'][0]:.0e}, the one from nothing {chosen['from nothing'][0]:.0e}. The GPT is right on "
    f"{chosen['pre-trained'][1]:.1%} of the validation reviews, the BERT on {best_bert:.1%}. That is no contest of architectures: the two have learned from "
    "other numbers of reviews, and their bases were pre-trained on other mixes, for other times."
)

# %% [markdown]
# ## What transfer is worth
#
# 004 §1.2 lists data efficiency (数据效率) among the advantages: pre-trained knowledge makes up for labels that are missing. So
# take fewer reviews, and read them more often: the same number of steps, and for each start the learning rate that was
# chosen for it above. The bars are one standard error of an accuracy a on n reviews, √(a (1 − a) / n). The training loss is
# the mean of the last tenth of the steps.
#
# **Predict before you run:** at which size will the gap be widest?

# %%
from minitransformer.metrics import standard_error

amounts = (many // 16, many // 4, many) if not QUICK else (8, 24, many)
scores, table_rows = {}, []
for n in amounts:
    for start, (lr, accuracy, _, log) in chosen.items():
        if n < many:
            model = classifier("gpt", pretrained=start == "pre-trained")
            log, (accuracy,) = fine_tune(model, labelled("gpt", "train", n), lr, steps)
        last = [row["loss"] for row in log.train[-max(1, steps // 10) :]]
        scores[start, n] = accuracy
        table_rows.append(
            (n, steps * B / n, start, sum(last) / len(last), log.valid[-1]["loss"], accuracy)
        )
table(
    table_rows,
    ["reviews", "times read", "GPT", "training loss", "validation loss", "accuracy"],
    ["d", ".0f", None, ".3f", ".3f", ".1%"],
)
with figure(
    "transfer",
    "Validation accuracy of a GPT by the number of labelled reviews, one seed; bars are a standard error.",
) as axes:
    for start, mark in zip(chosen, ("o-", "s--"), strict=True):
        values = [scores[start, n] for n in amounts]
        axes.errorbar(
            amounts,
            values,
            [standard_error(a, n_valid) for a in values],
            fmt=mark,
            capsize=3,
            label=start,
        )
    axes.axhspan(
        0.5 - guessing(n_valid), 0.5 + guessing(n_valid), color="grey", alpha=0.2, label="guessing"
    )
    axes.set(
        xscale="log",
        xlabel=f"labelled reviews ({steps} steps of {B} each time)",
        ylabel="validation accuracy",
        ylim=(0.4, 1),
    )
    axes.set_xticks(amounts, [f"{n:,}" for n in amounts])
    axes.minorticks_off()
    axes.legend()
rows_shown = []
for n in amounts:
    ours, theirs = scores["pre-trained", n], scores["from nothing", n]
    rows_shown.append(
        (
            n,
            ours - theirs,
            math.hypot(standard_error(ours, n_valid), standard_error(theirs, n_valid)),
        )
    )
say(
    "Transfer was worth "
    + ", ".join(f"{100 * gap:+.1f} points at {n}" for n, gap, _ in rows_shown)
    + f"; the standard error of such a gap is about {100 * max(error for *_, error in rows_shown):.1f}, from the validation reviews alone."
)
clear = [n for n, gap, error in rows_shown if gap > 2 * error]
widest = max(rows_shown, key=lambda row: row[1])[0]
say(
    "\n"
    + (
        "At no size is that clear."
        if not clear
        else f"It is clear (more than two standard errors) at {', '.join(map(str, clear))} reviews, and widest at {widest}. "
        + (
            "The fewer the labels, the more it was worth: the document's claim, as it stands."
            if widest == amounts[0]
            else f"The claim is often read as: the fewer the labels, the larger the gap. Here it is not so: from {amounts[0]} reviews the pre-trained "
            f"GPT gets to {scores['pre-trained', amounts[0]]:.1%}."
        )
    )
)
fewest, most = scores["pre-trained", amounts[0]], scores["from nothing", many]
if fewest > most + 2 * math.hypot(standard_error(fewest, n_valid), standard_error(most, n_valid)):
    say(
        f"But read it across: after as many steps, {amounts[0]} labels with pre-training ({fewest:.1%}) go further than {many} without ({most:.1%})."
    )
by_heart = next(row for row in table_rows if row[2] == "pre-trained")
if by_heart[4] > by_heart[3] + 0.2:
    say(
        f"With {amounts[0]} reviews the pre-trained GPT has a training loss of {by_heart[3]:.3f} and a validation loss of {by_heart[4]:.3f}: it knows those "
        "reviews by heart, lesson 1's overfitting."
    )
say(
    "One seed for each point: another head, other weights and another order of the reviews would move them all."
)

# %% [markdown]
# ## The test, once
#
# Everything has been chosen. Prediction (000 §3.3) is one forward pass and the likelier class. Accuracy is the share of right answers.
# The confusion matrix (混淆矩阵) shows which mistakes are made: its rows are what a review is, its columns what it was
# taken for. From it come, for the class positive,
#
#     precision (精确率) = TP / (TP + FP)      of those called positive, how many are
#     recall (召回率)    = TP / (TP + FN)      of those that are positive, how many were found
#     F1 (F1 值)         = 2 · precision · recall / (precision + recall)
#
# with TP positives called positive, FP negatives called positive, FN positives called negative.
#
# **Predict before you run:** by how much will test differ from validation, just by chance? And in which direction would it
# differ because we chose on validation?

# %%
from minitransformer.metrics import confusion_matrix, f1

truths = [row["label"] for row in reviews["test"]]
judged = {
    "BERT": (bert, best_bert),
    "GPT": (gpt, chosen["pre-trained"][1]),
    "GPT from nothing": (chosen["from nothing"][2], chosen["from nothing"][1]),
}
probs, counts, table_rows = {}, {}, []
for name, (model, on_valid) in judged.items():
    batches = labelled("bert" if model is bert else "gpt", "test", batch_size=20).in_order()
    with torch.inference_mode():
        probs[name] = torch.cat(
            [model(batch["ids"], batch["attention_mask"]).softmax(-1) for batch in batches]
        )  # (500, 2)
    predictions = [CLASSES[i] for i in probs[name].argmax(-1).tolist()]
    counts[name] = confusion_matrix(predictions, truths, CLASSES)
    (TN, FP), (FN, TP) = counts[name].tolist()
    accuracy, precision, recall = (TP + TN) / len(truths), TP / max(1, TP + FP), TP / (TP + FN)
    F1 = 2 * precision * recall / max(1e-9, precision + recall)
    assert abs(F1 - f1(predictions, truths, "positive")) < 1e-9
    table_rows.append(
        (name, on_valid, accuracy, standard_error(accuracy, len(truths)), precision, recall, F1)
    )
table(
    table_rows,
    ["model", "validation", "test", "±", "precision", "recall", "F1"],
    [None, ".1%", ".1%", ".1%", ".3f", ".3f", ".3f"],
)
on_test = {row[0]: row[2] for row in table_rows}
with figure(
    "confusion", f"What each model took the {len(truths)} test reviews for.", (7.5, 3.6), 1, 2
) as axes:
    for ax, name in zip(axes, ("BERT", "GPT"), strict=True):
        ax.imshow(counts[name], cmap="Blues", vmin=0, vmax=len(truths) / 2)
        ax.grid(False)
        ax.set(
            title=name,
            xlabel="was taken for",
            xticks=(0, 1),
            xticklabels=CLASSES,
            yticks=(0, 1),
            yticklabels=CLASSES,
        )
        for i in (0, 1):
            for j in (0, 1):
                n = counts[name][i, j]
                ax.text(
                    j,
                    i,
                    str(n),
                    ha="center",
                    va="center",
                    color="white" if n > len(truths) / 4 else "black",
                )
    axes[0].set_ylabel("is")

# %% [markdown]
# ## The worst mistakes
#
# A number says how often a model is wrong, not why. These are the test reviews of whose wrong class the GPT was surest.
#
# **Predict before you run:** what will they have in common?

# %%
right = torch.tensor([CLASSES.index(label) for label in truths])  # (B)
p_right = probs["GPT"][torch.arange(len(right)), right]  # (B)
for i in p_right.argsort()[:4].tolist():
    say(f"> {reviews['test'][i]['text']}")
    say(f"Is {truths[i]}; the model gave that {p_right[i]:.3f}.")

# %% [markdown]
# A guess at the reason: remarks that are turned around, "not dull at all", "I expected the music to be dull. It is fine". Who
# only adds up words of praise and blame is wrong about them. So count them in each test review.
#
# **Predict before you run:** is the GPT wrong more often where there are more of them?

# %%
TURNED = (
    r"not \w+ at all|obody can call|anything but|was told that|I expected|do not agree|never felt"
)
groups = {"none": [], "one": [], "two or more": []}
for row, p in zip(reviews["test"], p_right.tolist(), strict=True):
    groups[list(groups)[min(2, len(re.findall(TURNED, row["text"])))]].append(p > 0.5)
shares = {name: (sum(group) / len(group), len(group)) for name, group in groups.items()}
table(
    [(name, n, share, standard_error(share, n)) for name, (share, n) in shares.items()],
    ["turned remarks", "test reviews", "GPT right", "±"],
    [None, "d", ".1%", ".1%"],
)
drop = shares["none"][0] - shares["two or more"][0]
error = math.hypot(standard_error(*shares["none"]), standard_error(*shares["two or more"]))
say(
    "So the guess is right: they are harder."
    if drop > 2 * error
    else "So the guess is not borne out: reviews full of them are not clearly harder (by more than two standard errors)."
)

# %% [markdown]
# ## What has to be kept
#
# The base is one file; every task that was fine-tuned on it is another one as large, for every parameter is its own now.
# `FullFineTuning` does the same as this lesson by hand, as a method that goes onto a base and off again, so that lessons 8
# to 13 can put others in its place and compare.
#
# **Predict before you run:** how many numbers has it to keep for one task, as a share of the base?

# %%
from minitransformer.tuning import FullFineTuning

model = classifier("gpt")
method = FullFineTuning().attach(model)
report = method.report()
say(
    f"{report} In a file, at 4 bytes a number: {4 * (report.stored + report.head) / 1e6:.1f} MB a task."
)
method.detach()

# %% [markdown]
# ## The answer
#
# Full fine-tuning adjusts every parameter that the task reads, and what that gains over training from nothing has to be
# measured on reviews that nobody learned from. Here it came to this.

# %%
gap = on_test["GPT"] - on_test["GPT from nothing"]
error = math.hypot(
    *(standard_error(on_test[name], len(truths)) for name in ("GPT", "GPT from nothing"))
)
say(
    f"With {many} labelled reviews, each read once, a GPT that had read many texts before is right on {on_test['GPT']:.1%} of the test, and one "
    f"that had not on {on_test['GPT from nothing']:.1%}: "
    + ("a clear gain." if gap > 2 * error else "no clear gain.")
)

# %% [markdown]
# To try next:
#
# - Give the small sizes of the transfer figure three seeds (`classifier` and `labelled` take one). How far apart are they?
# - Let the GPT from nothing train on all 2,000 reviews for five times as many steps. Does it catch up?
# - Append `tokenizer.eot_id` to every row of `rows["gpt"]`, so that the GPT's head reads that token. What does it cost, and why?
#
# Further reading: "Universal Language Model Fine-tuning for Text Classification" (Howard & Ruder, 2018); "BERT: Pre-training of
# Deep Bidirectional Transformers" (Devlin et al., 2019); "Don't Stop Pretraining" (Gururangan et al., 2020); "Fine-Tuning
# Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping" (Dodge et al., 2020).
