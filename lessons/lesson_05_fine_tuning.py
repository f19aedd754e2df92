"""Full fine-tuning: what transfer is worth

question: A model has read many texts; how much does that help it with a task for which there are few answers?
minutes: 2.5
documents: 000 §1.2 微调的必要性, §3.2 模型训练, §3.3 模型预测; 004 §1.2 大语言模型微调的重要性, §3.2 微调阶段, §4.2 交叉熵损失, §5 项目实践
needs: 1, 2, 3, 4
"""

# %% A task with answers
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
# And there are reviews without labels, for those cost nothing: the same little world goes on writing them. They are
# what our models are pre-trained on.
#
# **Predict before you run:** a model that answers "positive" to everything, how often is it right?
import re
from collections import Counter
from itertools import islice

import torch

from minitransformer.datasets import DATA, read_jsonl
from minitransformer.show import QUICK, bar, figure, say, table
from minitransformer.tinyworld.tasks import examples
from minitransformer.tokenizer import default_tokenizer

CLASSES = ("negative", "positive")
tokenizer = default_tokenizer()
reviews = {split: read_jsonl(DATA / "tasks" / "reviews" / f"{split}.jsonl", ("text", "label"))
           for split in ("train", "valid", "test")}  # fmt: skip
if QUICK:
    reviews["train"], reviews["valid"] = reviews["train"][:160], reviews["valid"][:60]
unlabelled = [example["text"] for example in islice(examples("reviews", "train", seed=1), 400 if QUICK else 6000)]
table([(split, len(rows), *(Counter(row["label"] for row in rows)[name] for name in CLASSES)) for split, rows in reviews.items()]
      + [("without labels", len(unlabelled), None, None)], ["split", "reviews", *CLASSES], [None, ",", "d", "d"])  # fmt: skip
print()
for row in reviews["train"][:2]:
    say(f"> {row['text']} **{row['label']}**")

# %% Has anyone seen the test?
#
# What is measured on texts that a model has met is memory. Two checks, before anything is trained: no text of `valid` or
# `test` is among the others, and no invented name of theirs is. (A name is a word with a capital that is made of the
# world's syllables.)
from minitransformer.tinyworld.names import syllables_of


def names_in(texts: list[str]) -> set[str]:
    """The invented names in some texts."""
    words = {word for text in texts for word in re.findall(r"\b[A-Z][a-z]+\b", text)}
    return {word for word in words if len(syllables_of(word) or ()) > 1}


texts = {split: [row["text"] for row in rows] for split, rows in reviews.items()}
learned_from = texts["train"] + unlabelled
for split in ("valid", "test"):
    same_text = set(texts[split]) & set(learned_from)
    names = names_in(texts[split])
    same_name = names & names_in(learned_from)
    say(f"{split}: {len(same_text)} texts and {len(same_name)} of {len(names)} names occur in what we learn from.")
    assert not same_text and not same_name

# %% Tokenise, pad, mask
#
# 004 §5.1 prepares a text in three moves: to ids, with [CLS] in front and [SEP] behind; pad (填充) to one length, for a batch
# is a rectangle; and an attention mask (注意力掩码) that says which tokens are real. It pads every text to 128 and cuts
# (truncates, 截断) what is longer. Both have a price. Padding is computed like text and thrown away; so we pad only to the
# longest text of the batch, and put texts of like length together. And a cut takes the end of a review, where the verdict
# tends to stand; so ours are never cut: what is too long is refused.
#
# **Predict before you run:** which share of a batch is padding, in each way?
from minitransformer.batches.classification import LabelledTexts, MaskedTexts, Texts, encode_for_bert, encode_for_gpt

encode = {"bert": encode_for_bert, "gpt": encode_for_gpt}
rows = {kind: {split: encode[kind](texts[split], tokenizer) for split in texts} for kind in encode}
B, n_positions = 16, 128
lengths = [len(row) for row in rows["bert"]["train"]]
real = sum(lengths)
batches = Texts(rows["bert"]["train"], B, tokenizer.pad_id, n_positions)
rectangles = {
    "all to 128": n_positions * len(lengths),
    "to the longest of 16": sum(len(part) * max(part) for part in (lengths[i : i + B] for i in range(0, len(lengths), B))),
    "the same, like lengths together": sum(batches(i)["ids"].numel() for i in range(batches.batches_per_epoch)),
}
table([(name, n, 1 - real / n, bar(1 - real / n)) for name, n in rectangles.items()],
      ["padding", "tokens computed", "of them padding", ""], [None, ",", ".0%", None])  # fmt: skip
print()
say(f"The reviews have {min(lengths)} to {max(lengths)} tokens, {real / len(lengths):.0f} on average.")

# %% A base for each architecture
#
# Fine-tuning begins with a pre-trained model; published ones have read the internet for weeks. Ours have some
# seconds each, on the reviews without labels: a BERT that guesses masked words (lesson 4) and a GPT that says the next
# token (lesson 3), both with two layers of width 64.
#
# Lesson 4 hid 15 % of the words, as the document has it. Here it is 40 %: more to guess in each text, and with so
# little time that counts for more than the context that is lost.
#
# **Predict before you run:** which of the two sees more exercises in the same time, and how many times as many?
import copy

from minitransformer.bert import Bert, BertConfig
from minitransformer.datasets import Windows, token_stream
from minitransformer.gpt import GPT, GPTConfig
from minitransformer.objectives import mlm_loss
from minitransformer.training import TrainConfig, language_model_loss, train

sizes = {"vocab_size": tokenizer.n_vocab, "n_positions": n_positions, "n_layer": 2, "n_head": 4, "d_model": 64, "d_ff": 256}
torch.manual_seed(0)
fresh = {"bert": Bert(BertConfig(**sizes)), "gpt": GPT(GPTConfig(**sizes))}
pretraining = {
    "bert": (MaskedTexts(encode_for_bert(unlabelled, tokenizer), tokenizer, 8, n_positions, share=0.4), mlm_loss, 4e-3, 450),
    "gpt": (Windows(token_stream(unlabelled, tokenizer), length=64, batch_size=8), language_model_loss, 6e-3, 450),
}
base = copy.deepcopy(fresh)
logs = {}
for kind, (source, loss, lr, steps) in pretraining.items():
    steps = 30 if QUICK else steps
    config = TrainConfig(steps=steps, lr=lr, warmup=steps // 10, final_lr=0.02)
    logs[kind] = train(base[kind], source, config, loss=loss)


def mean_loss(log, first: int, last: int) -> float:
    """The mean training loss over some steps."""
    return sum(row["loss"] for row in log.train[first:last]) / len(log.train[first:last])


table(
    [(kind.upper(), log.seconds, sum(row["tokens"] for row in log.train), mean_loss(log, 0, 5), mean_loss(log, -20, None))
     for kind, log in logs.items()],
    ["base", "seconds", "exercises", "loss at first", "at last"], [None, ".0f", ",", ".2f", ".2f"],
)  # fmt: skip

# %% A head for the classes
#
# A vector s sums up the text, and one new matrix makes of it a score for each of the C classes:
#
#     ŷ = softmax(W s + b)        L = −Σ_i y_i log ŷ_i,   i = 1 … C
#
# the cross-entropy of lesson 1 again (004 §4.2), with C = 2 now; y is 1 at the right class. A BERT's s is what its pooler
# makes of [CLS]; a GPT's is the vector of its last token, the only one that has read everything. W starts out
# random, all else is the base's.
#
# If the mask is forgotten, padding is read as if it were text. One review alone, and the same beside a longer one:
#
# **Predict before you run:** how much do its two probabilities move, with the mask and without?
from minitransformer.classifier import Classifier


def classifier(model: Bert | GPT, seed: int = 0) -> Classifier:
    """A copy of a base, with a fresh head on it."""
    torch.manual_seed(seed)
    return Classifier(copy.deepcopy(model), len(CLASSES))


model = classifier(base["bert"]).eval()
short, long = sorted(rows["bert"]["train"], key=len)[0], sorted(rows["bert"]["train"], key=len)[-1]
pair = Texts([short, long], 2, tokenizer.pad_id, n_positions).in_order()[0]
with torch.inference_mode():
    alone = model(torch.tensor([short])).softmax(-1)[0]  # (2)
    masked = model(pair["ids"], pair["keep"]).softmax(-1)[0]  # (2)
    forgotten = model(pair["ids"]).softmax(-1)[0]  # (2)
moved = {name: (p - alone).abs().max().item() for name, p in (("with the mask", masked), ("without", forgotten))}
say(f"P(positive) alone is {alone[1]:.6f}; beside a longer text it moves by {moved['with the mask']:.0e} with the mask, "
    f"by {moved['without']:.0e} without.")  # fmt: skip
assert moved["with the mask"] < 1e-5 < moved["without"]

# %% Which parameters are adjusted?
#
# Where the document is loose: 004 §1.2 says that fine-tuning keeps most of the parameters and adjusts "a small part" of
# them. Two steps of training can be asked: which parameters got a gradient, and which are different afterwards?
#
# **Predict before you run:** about which share of this model's parameters will have changed?
from minitransformer.objectives import classification_loss


def labelled(kind: str, split: str, n: int | None = None, seed: int = 0) -> LabelledTexts:
    """The first n reviews of a split, as batches."""
    labels = [row["label"] for row in reviews[split][:n]]
    return LabelledTexts(rows[kind][split][:n], labels, CLASSES, B, tokenizer.pad_id, n_positions, seed)


model = classifier(base["bert"])
before = {name: p.detach().clone() for name, p in model.named_parameters()}
classification_loss(model, labelled("bert", "train")(0))[0].backward()
parts = {"token table": "token_embedding", "positions, types": "(position|type)_embedding", "attention": "attention",
         "feed-forward": r"blocks.*\bmlp", "norms": "norm", "pooler and new head": "pooler|^head",
         "heads of pre-training": r"^base\.(mlm|nsp)"}  # fmt: skip
gradients = {name: int((p.grad != 0).sum()) if p.grad is not None else 0 for name, p in model.named_parameters()}
model.zero_grad()
train(model, labelled("bert", "train"), TrainConfig(steps=2, lr=1e-3), loss=classification_loss, progress=False)
table_rows = {part: [0, 0, 0] for part in parts}
for name, p in model.named_parameters():
    part = next(part for part in reversed(parts) if re.search(parts[part], name))
    for column, n in enumerate((p.numel(), gradients[name], int((p.detach() != before[name]).sum()))):
        table_rows[part][column] += n
table([(part, *counts) for part, counts in table_rows.items()],
      ["part", "parameters", "gradient not 0, one batch", "changed, two steps"], [None, ",", ",", ","])  # fmt: skip
total, _, changed = (sum(column) for column in zip(*table_rows.values(), strict=True))
unused = table_rows["heads of pre-training"][0]
print()
say(
    f"{changed:,} of {total:,} changed, {changed / total:.0%}; the rest are the heads of pre-training, {unused:,}, which this task "
    "does not read. In one batch only the rows of its own tokens get a gradient in the token table; weight decay moves the "
    "others too."
)
assert changed > 0.9 * (total - unused)

# %%
# So full fine-tuning (全参数微调) adjusts everything that the task reads, and by 000 §2.2's own table too: "all parameters"
# (全部参数). What is small is how far each one moves, and how much has to be trained anew. Methods that train few parameters
# are the subject of lessons 8 to 13.

# %% The six steps, and a search
#
# 000 §3.2 names six: prepare the data, load the pre-trained model, forward pass, loss, backward pass, and evaluation on the
# validation set, to adjust the hyper-parameters (超参数). Steps three to five are the loop of lesson 3, unchanged. The
# sixth is where care is needed: learning rate and number of epochs are chosen by validation, never by test. 004 §3.2 adds
# early stopping (早停): the model is kept as it was when its validation loss was lowest, and training ends when that has
# not improved for some time.
#
# The search looks at validation after every epoch, so that a run of two says something about one as well.
#
# **Predict before you run:** pre-training used a learning rate of 4e-3. Should fine-tuning use more or less?
def predict(model: Classifier, batches: list[dict]) -> torch.Tensor:
    """The probabilities of the classes for each text, (number of texts, 2)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch["ids"], batch["keep"]).softmax(-1) for batch in batches])


def accuracy_on(model: Classifier, batches: list[dict]) -> float:
    """The share of texts whose likelier class is the right one."""
    right = predict(model, batches).argmax(-1) == torch.cat([batch["label"] for batch in batches])
    return right.float().mean().item()


valid = {kind: labelled(kind, "valid").in_order() for kind in base}


def fine_tune(start: Bert | GPT, n: int, epochs: int, lr: float, seed: int = 0, patience: int = 0):
    """A classifier trained on n reviews, its log, and its validation accuracy after each epoch."""
    kind = "bert" if isinstance(start, Bert) else "gpt"
    model, batches, accuracies = classifier(start, seed), labelled(kind, "train", n, seed), []
    per_epoch = batches.batches_per_epoch
    config = TrainConfig(steps=epochs * per_epoch, lr=lr, warmup=max(1, epochs * per_epoch // 10), final_lr=0.02,
                         eval_every=per_epoch, patience=patience)  # fmt: skip

    def note(step: int, loss: float) -> None:
        accuracies.append(accuracy_on(model, valid[kind]))
        model.train()

    log = train(model, batches, config, valid=valid[kind], loss=classification_loss, progress=False, on_eval=note)
    return model, log, accuracies


few, many = (64, 160) if QUICK else (800, 2000)
tried = {rate: fine_tune(base["bert"], many, 2, rate, patience=1) for rate in (5e-4, 1.5e-3)}
search = {(rate, epoch): (row["loss"], accuracy) for rate, (_, log, accuracies) in tried.items()
          for epoch, (row, accuracy) in enumerate(zip(log.valid, accuracies, strict=True), 1)}  # fmt: skip
table([(*key, *value) for key, value in search.items()], ["learning rate", "epochs", "validation loss", "accuracy"],
      [".1e", "d", ".3f", ".1%"])  # fmt: skip
lr, epochs = min(search, key=lambda key: search[key][0])
print()
say(f"Lowest validation loss: learning rate {lr:.1e}, {epochs} epochs.")

# %% Fine-tuning the BERT
#
# The winner of the search is the model to keep. Beside it, the same from nothing (从头训练): the same model, data and
# learning rate, the base's weights random.
#
# **Predict before you run:** after which epoch will the base's knowledge show more?
runs = {"pre-trained": tried[lr], "from nothing": fine_tune(fresh["bert"], many, 2, lr, patience=1)}
for name, (_, log, accuracies) in runs.items():
    say(f"{name}: validation accuracy by epoch {', '.join(f'{a:.1%}' for a in accuracies)}"
        + (", stopped early." if log.stopped_early else "."))  # fmt: skip
with figure("bert", "The BERT on the reviews, epoch by epoch.", (9, 3.6), 1, 2) as (left, right):
    for (name, (_, log, accuracies)), mark in zip(runs.items(), ("o-", "s--"), strict=True):
        at = range(1, len(accuracies) + 1)
        left.plot(at, [row["loss"] for row in log.valid], mark, label=name)
        right.plot(at, accuracies, mark, label=name)
    for ax, label, limits in ((left, "validation loss", (0, None)), (right, "validation accuracy", (0.45, 1))):
        ax.set(xlabel="epoch", ylabel=label, ylim=limits, xticks=(1, 2))
        ax.legend()
last = {name: accuracies[-1] for name, (_, _, accuracies) in runs.items()}
gain, error = last["pre-trained"] - last["from nothing"], (0.5 / len(reviews["valid"])) ** 0.5
say(
    f"Pre-training changed the BERT's validation accuracy by {100 * gain:+.1f} points; two accuracies on {len(reviews['valid'])} reviews may "
    f"differ by ± {100 * error:.1f} by chance, and this is one seed, with the learning rate chosen for the pre-trained one. "
    + ("It did not help here." if gain <= 0 else "It helped here.")
)
bert = runs["pre-trained"][0]

# %% The test, once
#
# Prediction (000 §3.3) is one forward pass and the likelier class. Accuracy is the share of right answers. The confusion
# matrix (混淆矩阵) shows which mistakes are made; F1 (F1 值) is the harmonic mean of precision (精确率: of those called positive,
# how many are) and recall (召回率: of the positive, how many were found).
#
# **Predict before you run:** by how much will test differ from validation, just by chance? (With n reviews and accuracy a,
# the standard error is √(a (1 − a) / n).)
from minitransformer.metrics import accuracy, confusion_matrix, f1

test = {kind: labelled(kind, "test").in_order() for kind in base}
truths = [row["label"] for row in reviews["test"]]


def judge(model: Classifier, kind: str) -> tuple[list[str], torch.Tensor]:
    """The classes that a model gives to the test's reviews, and the probabilities."""
    probs = predict(model, test[kind])  # (500, 2)
    predictions = [CLASSES[i] for i in probs.argmax(-1).tolist()]
    a = accuracy(predictions, truths)
    say(f"{kind.upper()}: test accuracy {a:.1%} ± {(a * (1 - a) / len(truths)) ** 0.5:.1%}; "
        f"F1 of positive {f1(predictions, truths, 'positive'):.3f}, of negative {f1(predictions, truths, 'negative'):.3f}. "
        f"Validation said {accuracy_on(model, valid[kind]):.1%}.")  # fmt: skip
    return predictions, probs


bert_predictions, _ = judge(bert, "bert")

# %% The same on a GPT
#
# The GPT's head reads the last token. It gets its own little search, for what suits one architecture need not suit another; the
# model from nothing gets the same search, or the comparison would not be fair.
#
# **Predict before you run:** the BERT reads in both directions, the GPT in one only. Which will classify better here?
starts = {"pre-trained": base["gpt"], "from nothing": fresh["gpt"]}
gpt_lr, models = {}, {}  # models by (start, reviews), one for each seed
for name, start in starts.items():
    tried = {rate: fine_tune(start, few, 2, rate) for rate in (1e-3, 3e-3)}
    lowest = {rate: min(row["loss"] for row in log.valid) for rate, (_, log, _) in tried.items()}
    gpt_lr[name] = min(lowest, key=lowest.get)
    models[name, few] = [tried[gpt_lr[name]][0]]
    say(f"{name}, {few} reviews: " + "; ".join(f"learning rate {r:.0e}, validation loss {x:.3f}" for r, x in lowest.items()))
seeds = (0, 1)
for name, start in starts.items():
    models[name, many] = [fine_tune(start, many, 2, gpt_lr[name], seed)[0] for seed in seeds]
gpt = models["pre-trained", many][0]  # seed 0, whatever the others did
gpt_predictions, gpt_probs = judge(gpt, "gpt")
with figure("confusion", "What each model took the 500 test reviews for.", (7.5, 3.4), 1, 2) as axes:
    for ax, name, predictions in zip(axes, ("BERT", "GPT"), (bert_predictions, gpt_predictions), strict=True):
        counts = confusion_matrix(predictions, truths, CLASSES)
        ax.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum() / 2)
        ax.grid(False)
        ax.set(title=name, xlabel="predicted", xticks=(0, 1), xticklabels=CLASSES, yticks=(0, 1), yticklabels=CLASSES)
        for i in (0, 1):
            for j in (0, 1):
                ax.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if counts[i, j] > counts.sum() / 4 else "black")
    axes[0].set_ylabel("is")

# %% When validation and test disagree
#
# Both splits were kept from training, so both should tell the same story, within their standard errors. Where they do not, there
# are two suspects: chance, and a leak (数据泄漏), something of the test in what was learned from. The names were checked above;
# but a review told again with other names would pass that check. So blank out the names and look for copies; plant
# some, to see that the search can find any. And our world can write more: new reviews of the test's split, far more
# than either, say what the accuracy really is.
#
# **Predict before you run:** a model gets 80 % right. By how much do 300 reviews and 500 reviews differ, by chance alone?
from minitransformer.tinyworld.names import FAMILY_ENDINGS, TOWN_ENDINGS


def blanked(text: str) -> str:
    """A text with every invented name replaced by N."""
    endings = "|".join(TOWN_ENDINGS + FAMILY_ENDINGS)

    def blank(match: re.Match) -> str:
        stem = re.sub(f"({endings})$", "", match[0])
        least = 1 if stem == match[0] else 0  # with an ending, one syllable is enough
        return "N" if len(syllables_of(stem) or ()) > least else match[0]

    return re.sub(r"\b[A-Z][a-z]+\b", blank, text)


known = {blanked(text) for text in learned_from}
copies = {split: sum(blanked(text) in known for text in texts[split]) for split in ("valid", "test")}
planted = [re.sub(r"\b[A-Z][a-z]+\b", lambda m: "Mira" if blanked(m[0]) == "N" else m[0], text) for text in texts["train"]]
found = sum(blanked(text) in known for text in planted)
say(f"Copies with other names: {copies['valid']} in valid, {copies['test']} in test; of {len(planted):,} planted ones, {found:,} found.")
new = list(islice(examples("reviews", "test", seed=1), 200 if QUICK else 3000))
new_rows, new_labels = [row["text"] for row in new], [row["label"] for row in new]
more = {kind: LabelledTexts(encode[kind](new_rows, tokenizer), new_labels, CLASSES, 50, tokenizer.pad_id, n_positions).in_order()
        for kind in encode}  # fmt: skip
print()
rows_shown = []
for kind, model in (("bert", bert), ("gpt", gpt)):
    a = accuracy_on(model, more[kind])
    error = {n: (a * (1 - a) * (1 / n + 1 / len(new))) ** 0.5 for n in (len(reviews["valid"]), len(truths))}
    v, t = accuracy_on(model, valid[kind]), accuracy_on(model, test[kind])
    rows_shown.append((kind.upper(), v, t, a, (v - a) / error[len(reviews["valid"])], (t - a) / error[len(truths)]))
table(rows_shown, ["model", "valid", "test", f"{len(new):,} new", "valid off by", "test off by"],
      [None, ".1%", ".1%", ".1%", "+.1f", "+.1f"])  # fmt: skip
print()
say("The last two columns count standard errors; beyond 2 is rare, beyond 3 very rare. "
    "A review retold with other names is not the reason, for there is none; "
    + ("but chance alone would seldom do this, and what else it is we have not found. "
       if max(abs(x) for row in rows_shown for x in row[4:]) > 3 else "chance is enough to explain what is left. ")
    + "We go on with the new reviews, which are many, and compare methods on the same ones.")  # fmt: skip
assert found == len(planted) and not any(copies.values())

# %% The worst mistakes
#
# A number says how often a model is wrong, not why. These are the test reviews of whose wrong class the GPT was surest.
#
# **Predict before you run:** which turn of phrase will they have in common?
right = torch.tensor([CLASSES.index(label) for label in truths])
p_right = gpt_probs[torch.arange(len(right)), right]
for i in p_right.argsort()[:4].tolist():
    say(f"> {reviews['test'][i]['text']}")
    say(f"Is {truths[i]}; the model gave that {p_right[i]:.3f}.")
    print()

# %% What transfer is worth
#
# 004 §1.2 lists data efficiency (数据效率) among the advantages: with few labelled examples, fine-tuning should beat training
# from nothing the most. The same two GPTs, at three sizes, scored on the new reviews, which are many and chose nothing. A
# seed draws the head and the order of the reviews; at the largest size there are two, and they are all shown.
#
# **Predict before you run:** at which size will the gap be widest? And is it wider than the spread between seeds?
least, n_epochs = (40, 2) if QUICK else (200, 6)
for name, start in starts.items():
    models[name, least] = [fine_tune(start, least, n_epochs, gpt_lr[name])[0]]
amounts = (least, few, many)
scores = {key: [accuracy_on(model, more["gpt"]) for model in group] for key, group in models.items()}
table([(n, *(", ".join(f"{a:.1%}" for a in scores[name, n]) for name in starts)) for n in amounts],
      ["reviews", *starts], [",", None, None])  # fmt: skip
with figure("transfer", "Accuracy of a GPT by the number of labelled reviews; a dot is a seed.") as axes:
    for name, style, color in (("pre-trained", "-", "C0"), ("from nothing", "--", "C1")):
        axes.plot(amounts, [sum(scores[name, n]) / len(scores[name, n]) for n in amounts], style, color=color, label=name)
        axes.plot(*zip(*((n, a) for n in amounts for a in scores[name, n]), strict=True), "o", color=color)
    axes.axhline(0.5, color="grey", linestyle=":", label="guessing")
    axes.set(xscale="log", xlabel="labelled reviews", ylabel="accuracy on new reviews", ylim=(0.45, 1))
    axes.set_xticks(amounts, [f"{n:,}" for n in amounts])
    axes.minorticks_off()
    axes.legend()
mean = {key: sum(group) / len(group) for key, group in scores.items()}
gains = {n: mean["pre-trained", n] - mean["from nothing", n] for n in amounts}
spread = max(max(scores[name, many]) - min(scores[name, many]) for name in starts)
apart = min(scores["pre-trained", many]) > max(scores["from nothing", many])
widest = max(gains, key=gains.get)
say(
    "The gap is " + ", ".join(f"{100 * gain:+.1f} points at {n:,}" for n, gain in gains.items()) + f"; two seeds of one method differ "
    f"by up to {100 * spread:.1f} points. "
    + ("Every pre-trained seed beats every one from nothing at the largest size, " if apart else "At the largest size the seeds overlap, ")
    + "but two seeds and one base are few: the size of the gap is not known well."
)
if widest != least:
    say(f"\nThe document's claim, that the fewest examples gain the most, does not show here: the widest gap is at {widest:,}.")

# %% Why? Ask the bases themselves
#
# One guess: the base already knows verdicts, and fine-tuning only brings that out. Then it should show before any label was
# seen. So ask each base: put " The acting is" after a
# validation review, and compare the probability of words of praise with that of blame. Take every pair of a positive
# and a negative review: in which share does the positive one lean more to praise? Guessing gives a half.
#
# **Predict before you run:** which base knows more about verdicts, without ever having been told of them?
praise, blame = ([tokenizer.encode(" " + word)[0] for word in words]
                 for words in (("honest", "fine", "warm"), ("stiff", "loud", "weak")))  # fmt: skip
positive = torch.tensor([row["label"] == "positive" for row in reviews["valid"]])


def leaning(model: Bert | GPT) -> torch.Tensor:
    """log P(praise) − log P(blame) after each validation review, (number of reviews)."""
    values = []
    for text in texts["valid"]:
        ids = tokenizer.encode(text + " The acting is")
        with torch.inference_mode():
            if isinstance(model, GPT):
                logits = model(torch.tensor([[tokenizer.eot_id, *ids]]))[0, -1]  # (V)
            else:
                row = [tokenizer.cls_id, *ids, tokenizer.mask_id, *tokenizer.encode("."), tokenizer.sep_id]
                logits = model.mlm_logits(model(torch.tensor([row])))[0, len(ids) + 1]  # (V)
        log_probs = logits.log_softmax(-1)  # (V)
        values.append(log_probs[praise].logsumexp(0) - log_probs[blame].logsumexp(0))
    return torch.stack(values)


knows = {}
for kind, model in base.items():
    lean = leaning(model.eval())
    knows[kind] = (lean[positive][:, None] > lean[~positive][None]).float().mean().item()
table([(kind.upper(), sum(row["tokens"] for row in logs[kind].train), share, bar(share)) for kind, share in knows.items()],
      ["base", "exercises", "pairs in the right order", ""], [None, ",", ".1%", None])  # fmt: skip
print()
say(
    "The guess is not borne out: asked in this way, neither base knows much more than chance. Why the GPT gains where it does is open."
    if max(knows.values()) < 0.6 else "The guess has something for it: a base orders such pairs better than chance."
)

# %% The answer
#
# Full fine-tuning adjusts every parameter that the task reads; how much that gains over training from nothing has to be
# measured, at several sizes and with several seeds, for one run can say almost anything. Here it came to this.
say(
    f"With {many:,} labelled reviews: GPT {mean['pre-trained', many]:.1%} after pre-training, {mean['from nothing', many]:.1%} from nothing, "
    f"on {len(new):,} new reviews (means of {len(seeds)} seeds)."
)
# %%
# To try next:
#
# - Pre-train on lesson 3's text instead of reviews, for as many steps. What is left of the gap?
# - Run the largest size with five seeds. How many would you need to tell the two methods apart?
# - Forget the mask (`keep`) in training and in testing. What does it cost?
#
# Further reading: "Universal Language Model Fine-tuning for Text Classification" (Howard & Ruder, 2018); "BERT: Pre-training of
# Deep Bidirectional Transformers" (Devlin et al., 2019); "Don't Stop Pretraining" (Gururangan et al., 2020); "Fine-Tuning
# Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping" (Dodge et al., 2020); "Should You Mask 15%
# in Masked Language Modeling?" (Wettig et al., 2023).
