"""A BERT: guessing masked words

question: A model that sees the whole sentence cannot guess what comes next without cheating: what can it guess instead?
minutes: 1.1
documents: 004 §1.1 大语言模型的兴起, §2.1 大语言模型的架构, §2.2 自注意力机制, §2.3 预训练与微调, §3.1 预训练阶段, §4.2 交叉熵损失
needs: 1, 2, 3
"""

# %% [markdown]
# ## Three ways to stack the same layers
#
# A GPT writes a text, so each token may only look back. But often the text is already there, and we want to understand it. Is
# this review friendly? Which of these names is a town? Then it helps to look ahead as well. An encoder (编码器) has no causal
# mask: every token reads every other token. It does not give the next token. It gives a vector for each token, and this vector
# knows the whole sentence.
#
#     encoder only           every token sees all tokens                  BERT, this lesson
#     encoder and decoder    one part reads everything, one part writes   lesson 6
#     decoder only           every token sees the tokens before it        GPT, lesson 3
#
# **Predict before you run:** a text has eight tokens, and we change the fourth. At which positions does the output of a GPT
# change? At which positions does the output of a BERT change?

# %%
import torch
from minitransformer.course.data import default_tokenizer
from minitransformer.course.show import QUICK, bar, figure, say, table, verbatim
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig

tokenizer = default_tokenizer()
V = tokenizer.n_vocab
ids = torch.tensor([tokenizer.encode(" The wind comes from the west today")[:8]])  # (B, T)
changed = ids.clone()
changed[0, 3] = tokenizer.encode(" old")[0]
torch.manual_seed(0)
moved = {}
for name, net in (
    ("GPT", GPT(GPTConfig(vocab_size=V, n_layer=2))),
    ("BERT", Bert(BertConfig(vocab_size=V, n_layer=2))),
):
    with torch.inference_mode():
        moved[name] = (net.eval()(ids) - net(changed)).abs().amax(-1)[0]  # (T)
table(
    [
        (
            t + 1,
            tokenizer.token(i),
            *("changes" if moved[name][t] > 1e-6 else "–" for name in moved),
        )
        for t, i in enumerate(ids[0].tolist())
    ],
    ["t", "token", *moved],
)
assert not (moved["GPT"][:3] > 1e-6).any() and (moved["BERT"] > 1e-6).all()

# %% [markdown]
# In the GPT nothing changes before the fourth token. In the BERT every output changes.
#
# *Where the document is not exact.* 004 §2.1 says that large language models usually have an encoder and a decoder, or only an
# encoder (编码器-解码器(Encoder-Decoder)架构或仅编码器(Encoder-only)架构). The third way is missing. But the GPT-3 that 004 §1.1
# names is a decoder only.

# %% [markdown]
# ## Why not just the next token?
#
# In lesson 3 every position predicted the next token. This was fair only because of the causal mask. In an encoder,
# position t can read position t + 1, so the answer is in plain sight. To see what this does, we train one encoder layer to
# predict the next token.
#
# First we need texts. They are the tiny world's stories, descriptions and reviews. We add an exercise in copying, which we
# need near the end of the lesson: a list of random words, written twice.

# %%
import math

from minitransformer.course.skills import draw
from minitransformer.text.corpora import Windows, eval_windows, token_stream

counts = {"story": 200, "description": 400, "review": 200, "copied run": 5000}  # the word lists


def corpus(split: str, size: float) -> list[str]:
    """Documents of the four kinds, in the same proportion in every split."""
    drawn = [text for kind, n in counts.items() for text in draw(kind, round(size * n), split)]
    # Of the word lists we keep those of at most 8 words, written twice.
    return [text for text in drawn if "\n" not in text or len(text.split()) <= 2 * 8]


texts = {
    "train": corpus("train", 0.05 if QUICK else 1),
    "valid": corpus("valid", 0.03 if QUICK else 0.3),
}
streams = {split: token_stream(part, tokenizer) for split, part in texts.items()}
say(f"{len(streams['train']):,} tokens to train on, and {len(streams['valid']):,} to validate on.")

# %% [markdown]
# We measure the loss in two ways. First, every position predicts the next token and may look at it. Second, we ask honestly:
# the text ends at the last position, and this position predicts what would follow.
#
# To save time we do not start completely at random. Our function `start_near` makes two changes. Each position gets a
# vector of sines and cosines, as in the original Transformer, so neighbouring positions have similar vectors. And W^K = W^Q
# in every head, so a query matches the keys of similar vectors best. At first, therefore, each token reads itself and the
# positions near it. From there it is only a short way to reading the right neighbour.
#
# **Predict before you run:** which of the two losses will be lower? Will the other one be clearly below log V = 7.6, the loss of
# a model that knows nothing?

# %%
from minitransformer.course.pretrain import start_near
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import cross_entropy_sum


def next_token_loss(model, batch):
    """Every position predicts the next token, and may look at it."""
    logits = model.mlm_logits(model(batch["ids"]))[:, :-1]  # (B, T, V), the scores of the V tokens
    return cross_entropy_sum(logits.flatten(0, 1), batch["ids"][:, 1:].flatten())


def next_token_loss_honest(model, batch):
    """The last position predicts what follows, and the text ends there."""
    logits = model.mlm_logits(model(batch["ids"][:, :-1])[:, -1:])[:, 0]  # (B, V)
    return cross_entropy_sum(logits, batch["ids"][:, -1])


torch.manual_seed(0)
cheat = start_near(Bert(BertConfig(vocab_size=V, n_positions=32, n_layer=1)))
steps = 4 if QUICK else 160
config = TrainConfig(steps=steps, lr=5e-3, warmup=steps // 10, final_lr=0.1)
log = train(cheat, Windows(streams["train"], 16, batch_size=16), config, loss=next_token_loss)
unseen = eval_windows(streams["valid"], length=16, batch_size=64, most=512)
peeking = evaluate(cheat, unseen, next_token_loss)
honest = evaluate(cheat, unseen, next_token_loss_honest)
table(
    [("in sight", peeking), ("not there", honest), ("no model: log V", math.log(V))],
    ["the next token is", "validation loss"],
    [None, ".3f"],
)
say(f"The training took {log.seconds:.0f} s.")
assert QUICK or peeking < 4 and honest > math.log(V) - 1

# %% [markdown]
# After a full run the first loss is much lower. The second is not: it stays about as high as the loss of a model that knows
# nothing.
#
# Has the model learned to copy its right neighbour? We can test it. In each validation window we put another token at one
# position, t + 1. If the model copies, its prediction at position t becomes that token.
#
# **Predict before you run:** in how many of the windows will it: in few, or in most?

# %%
ids = unseen[0]["ids"].clone()  # (B, T+1)
t = 7
ids[:, t + 1] = ids[:, t + 1].roll(1)  # each window gets the token of another window there
with torch.inference_mode():
    predicted = cheat.mlm_logits(cheat(ids))[:, t].argmax(-1)  # (B)
copied = (predicted == ids[:, t + 1]).float().mean().item()
say(f"In {copied:.0%} of {len(ids)} windows the prediction is the token that we put there.")
assert QUICK or copied > 0.5

# %% [markdown]
# In most of them, after a full run. So the model reads the answer instead of predicting it. This is of no use where the
# answer is not there.

# %% [markdown]
# ## Hide what is to be guessed
#
# So we have to hide the answer. 004 §2.3 describes training in two stages (两阶段训练策略). The first stage is pre-training on
# plain text, with self-supervised tasks (自监督学习). It names two of them: masked language modelling and next-sentence
# prediction. The second stage, fine-tuning, is the subject of lesson 5.
#
# Masked language modelling (掩码语言模型, MLM) works like this (004 §3.1). Choose 15 % of the tokens at random. Of the chosen
# tokens, 80 % become the special token [MASK], 10 % become another random token, and 10 % stay as they are. The model predicts
# for each chosen position which token stood there. The loss is the cross-entropy of lesson 1, over the chosen positions only
# (004 §4.2):
#
#     L_MLM = −1/N Σ_{i=1}^{N} log P(x_i^masked | x^input)
#
# N is the number of chosen tokens, of all three kinds. x_i^masked is the true token at the i-th chosen position, and x^input
# is the text that the model reads. In the code, `mask_tokens` gives the ids that the model reads, and the labels, which are
# the true ids. Where no token was chosen, the label is IGNORE, and the position is not in the loss.
#
# Why do some chosen tokens not become [MASK]? Outside of training no text contains a [MASK]. If the loss asked only about
# [MASK]s, the model would need a good vector only there. But the loss also asks about ordinary tokens, and the model does not
# know about which. So it must compute a good vector for *every* token.
#
# **Predict before you run:** what percentage of all tokens becomes [MASK]?

# %%
from minitransformer.course.batches.masking import mask_tokens
from minitransformer.text.batches import IGNORE

special = tokenizer.special_ids.values()
generator = torch.Generator().manual_seed(0)
rows = streams["train"][: len(streams["train"]) // 64 * 64].view(-1, 64)  # (B, T)
masked, labels = mask_tokens(rows, tokenizer.mask_id, special, V, generator=generator)
chosen = labels != IGNORE  # (B, T)
fates = {
    "[MASK]": chosen & (masked == tokenizer.mask_id),
    "another token": chosen & (masked != tokenizer.mask_id) & (masked != rows),
    "the same token": chosen & (masked == rows),
}
n_chosen = chosen.sum().item()
# Special tokens are never chosen.
n_tokens = (~torch.isin(rows, torch.tensor(list(special)))).sum().item()
say(
    "Chosen tokens as the model sees them, with the true token in ⟨⟩: "
    + " ".join(
        f"{tokenizer.token(seen)}⟨{tokenizer.token(true)}⟩" if ask else tokenizer.token(true)
        for true, seen, ask in zip(
            *(one[0, :40].tolist() for one in (rows, masked, chosen)), strict=True
        )
    )
)
table(
    [("chosen, of all tokens", 0.15, n_chosen / n_tokens)]
    + [
        (f"{name}, of the chosen", rule, fate.sum().item() / n_chosen)
        for (name, fate), rule in zip(fates.items(), (0.8, 0.1, 0.1), strict=True)
    ]
    + [("[MASK], of all tokens", 0.8 * 0.15, fates["[MASK]"].sum().item() / n_tokens)],
    ["", "the rule", f"measured on {n_tokens:,} tokens"],
    [None, ".1%", ".1%"],
)
assert torch.equal(masked[~chosen], rows[~chosen]) and torch.equal(labels[chosen], rows[chosen])
assert abs(n_chosen / n_tokens - 0.15) < 0.02

# %% [markdown]
# It is 80 % of 15 %, which is 12 %. (The measured fraction of chosen tokens is not exactly 15 %, because `mask_tokens` rounds
# to whole tokens in each row.)

# %% [markdown]
# ## Neighbours and strangers
#
# BERT's second task is next-sentence prediction (下一句预测, NSP). Two sentences go in as one row:
#
#     [CLS] A [SEP] B [SEP]
#
# The model predicts whether B followed A in a text. (Here B is the second sentence. As a shape, B is still the number of
# rows.) [SEP] ends a sentence. [CLS] is not a word; the judgement about the whole row is read from its vector. A third
# vector is added to each token, beside the vectors for token and position: its type, 0 in A and 1 in B.
#
# Half of the pairs are neighbours. In the other half, B is a stranger. If strangers were random sentences, some of them would
# be the first sentence of a document. A true B is never a first sentence. So the model could learn "a first sentence is a
# stranger" and not read A at all. Therefore a stranger is always the B of another pair.
#
# Here are the first six pairs of a batch.

# %%
from minitransformer.course.batches.pairs import (
    NEIGHBOURS,
    SentencePairs,
    encode_pair,
    split_sentences,
)

n_positions = 80


def in_pairs(part: list[str], batch_size: int, seed: int) -> SentencePairs:
    """Pairs of single sentences; a word list that is written twice has two lines, and gives one pair."""
    cut = [text.split("\n") if "\n" in text else split_sentences(text) for text in part]
    return SentencePairs(cut, tokenizer, batch_size, n_positions, span=1, seed=seed)


pairs, valid_pairs = in_pairs(texts["train"], 16, seed=0), in_pairs(texts["valid"], 32, seed=1)
valid = [valid_pairs(i) for i in range(1 if QUICK else 36)]
batch = pairs(0)
six = [(pairs.pairs[a][0], pairs.pairs[b][1]) for a, b in pairs.drawn(0)[:6]]
say("\n".join(f"{number}. {a} **[SEP]** {b}" for number, (a, b) in enumerate(six, 1)))

# %% [markdown]
# **Predict before you run:** which of these six pairs are strangers?

# %%
answers = [
    "neighbours" if label == NEIGHBOURS else "strangers" for label in batch["next_label"].tolist()
]
say(", ".join(f"{number}: {answer}" for number, answer in enumerate(answers[:6], 1)) + ".")
say(
    f"The training text has {len(pairs.pairs):,} pairs of neighbours. The first batch has the shape {tuple(batch['ids'].shape)}, "
    f"with {int((batch['labels'] != IGNORE).sum())} tokens to predict and {len(answers)} pairs to judge."
)

# %% [markdown]
# You could probably tell most of them. Often strangers are about different things: another name, another place, another kind
# of text. A later step asks whether this makes the task too easy.
#
# *Where the document is not exact.* 004 §3.1 draws adjacent or non-adjacent sentences (随机采样一对相邻句子或非相邻句子), and does not
# say where the non-adjacent ones come from. In BERT they come from another document, and ours do so too.

# %% [markdown]
# ## The model, before training
#
# BERT's layers are those of lesson 3 in another order. It normalises after each sum, x ← Norm(x + Layer(x)), as the figure in
# 004 §2.2 does (Add & Norm). Our GPT normalises before each layer.
#
# Two small output networks stand on top. (They are also called heads of the model. They have nothing to do with the heads of
# attention, so we say *outputs*.) For a masked token, its vector goes through one more layer, and then through the token
# table, as in the GPT. This gives V scores. For the pair, the vector of [CLS] goes through one more layer, and then to two
# scores.
#
# This model starts with two changes, again to save time. First, the V scores have a bias, and it starts as the logarithm of
# each token's frequency. So the model need not learn that `.` is common. Second, its positions start as sines and cosines,
# as above, but W^Q and W^K start at random. The next step says why.
#
# **Predict before you run:** before training, the model knows nothing else. What is its loss for the pairs? Is its loss for
# the masked tokens above or below log V?

# %%
from minitransformer.training.losses import bert_loss, mlm_loss, nsp_loss

sizes = BertConfig(vocab_size=V, n_positions=n_positions, n_layer=2)
# How often each token occurs, smoothed with α = 1 (lesson 1).
frequent = torch.bincount(streams["train"], minlength=V).float() + 1
frequent[list(special)] = 0.01  # never the answer


@torch.no_grad()
def fresh() -> Bert:
    """An untrained BERT, the same each time."""
    torch.manual_seed(0)
    model = start_near(Bert(sizes)).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.qkv.weight, std=sizes.init_std)
    model.mlm.bias.copy_((frequent / frequent.sum()).log())
    return model


model = fresh()
before = {
    "masked tokens": evaluate(model, valid, mlm_loss),
    "pairs": evaluate(model, valid, nsp_loss),
}
n_parameters = sum(p.numel() for p in model.parameters())
table(
    [
        ("masked tokens", before["masked tokens"], f"log V = {math.log(V):.3f}"),
        ("pairs", before["pairs"], f"log 2 = {math.log(2):.3f}"),
    ],
    ["task", "loss before training", "all answers alike"],
    [None, ".3f", None],
)
say(f"The model has {sizes.n_layer} layers and {n_parameters:,} parameters.")
assert before["masked tokens"] < math.log(V) and abs(before["pairs"] - math.log(2)) < 0.1

# %% [markdown]
# The pairs cost about log 2, which is guessing. The masked tokens cost less than log V, because the frequencies are known.

# %% [markdown]
# ## Why [CLS] must not read itself
#
# With W^K = W^Q each token at first reads tokens like itself. For copying a neighbour this was a good start. But [CLS] has to
# collect what the other tokens say.
#
# **Predict before you run:** with which start does an untrained [CLS] give more of its attention to itself, with W^K = W^Q or
# with two random matrices?


# %%
from minitransformer.models.watch import watch_attention


@torch.inference_mode()
def at_itself(net: Bert) -> float:
    """How much of its attention [CLS] gives to [CLS], the mean over heads and layers."""
    with watch_attention(net) as maps:
        net(batch["ids"], batch["attention_mask"], batch["types"])
    return torch.stack([weights[0][:, :, 0, 0] for weights in maps.values()]).mean().item()


alike, apart = at_itself(start_near(Bert(sizes)).eval()), at_itself(model)
table(
    [("W^K = W^Q", alike), ("random and different", apart)],
    ["W^Q and W^K start", "[CLS] reads itself"],
    [None, ".0%"],
)
assert alike > 0.5 and apart < 0.15

# %% [markdown]
# With W^K = W^Q, [CLS] gives most of its attention to itself. With random matrices it gives itself only a few per cent. So in
# this model the two matrices start at random.

# %% [markdown]
# ## Both, and each alone
#
# BERT adds the mean losses of both tasks. What does each task contribute? We train three times from the same start, on the same
# batches, for the same number of steps: on both tasks, on masked tokens alone, and on pairs alone. Every few steps we measure
# the losses on validation.
#
# **Predict before you run:** a batch has 16 pairs and many more chosen tokens. Which of the two losses will fall first?

# %%
steps = 6 if QUICK else 400
config = TrainConfig(steps=steps, lr=2e-3, warmup=steps // 8, final_lr=0.02, eval_every=steps // 5)
measures = {"masked tokens": mlm_loss, "pairs": nsp_loss}


def train_on(loss, tasks):
    """A BERT trained on a loss; the losses of its tasks on validation, every few steps; seconds."""
    net, curves = fresh(), {task: [] for task in tasks}

    def measure(step: int, _) -> None:
        for task in tasks:
            curves[task].append((step, evaluate(net, valid[:8], measures[task])))

    measure(0, None)
    log = train(net, pairs, config, valid=valid[:8], loss=loss, on_eval=measure)
    return net, curves, log.seconds


trainings = {
    "both": train_on(bert_loss, ["masked tokens", "pairs"]),
    "masked tokens alone": train_on(mlm_loss, ["masked tokens"]),
    "pairs alone": train_on(nsp_loss, ["pairs"]),
}
models = {name: net for name, (net, _, _) in trainings.items()}
curves = {name: mine for name, (_, mine, _) in trainings.items()}
with figure(
    "losses", "Both losses on validation, in the trainings that had that task.", (9.5, 3.8), 1, 2
) as axes:
    for ax, task in zip(axes, measures, strict=True):
        for (name, mine), style in zip(curves.items(), ("o-", "s--", "^-."), strict=True):
            if task in mine:
                ax.plot(*zip(*mine[task], strict=True), style, label=f"trained on {name}")
        ax.axhline(curves["both"][task][0][1], color="grey", linestyle=":", label="before training")
        ax.set(title=task, xlabel="step", ylabel="loss, nats", ylim=(0, None))
        ax.legend(fontsize=9, loc="lower left")
both = {task: [loss for _, loss in curve] for task, curve in curves["both"].items()}
table(
    [
        (f"{step}", *(curve[k] for curve in both.values()))
        for k, (step, _) in enumerate(curves["both"]["pairs"])
    ],
    ["step, trained on both", *both],
    [None, ".3f", ".3f"],
)
say(f"Three trainings of {steps} steps took {sum(took for *_, took in trainings.values()):.0f} s.")
assert QUICK or both["masked tokens"][-1] < both["masked tokens"][0] - 0.3
assert QUICK or both["pairs"][-1] < math.log(2) - 0.01
assert QUICK or both["masked tokens"][1] < both["masked tokens"][0] - 0.1
assert QUICK or both["pairs"][1] > math.log(2) - 0.02

# %% [markdown]
# In a full run the loss of the masked tokens falls first. After a fifth of the steps the loss of the pairs is still close to
# log 2 = 0.693, which is guessing. Which tokens are frequent can be learned without reading a sentence, and a batch has many
# chosen tokens to learn it from. For a pair, [CLS] has to find what two sentences share, and each pair has one label.

# %% [markdown]
# ## How sure is a fraction?
#
# Losses are hard to imagine, so we count right answers. But a fraction of right answers is itself uncertain: with other
# examples it would be a little different. If p is the fraction of right answers in n tries, then in 95 of 100 cases the true
# value lies no further away than about
#
#     1.96 √(p (1 − p) / n)
#
# This is half the width of the 95 % confidence interval (置信区间). From here on it stands behind each ±. By this formula, 0 of
# n would count as certain. So we compute the ± as if two more answers had been right and two more wrong: n + 4 stands in the
# place of n, and the number of right answers grows by 2.
#
# The interval covers only the chance in the choice of the examples. It does not cover the chance in the training: another
# random seed would give other numbers, and we train only once.
#
# **Predict before you run:** a coin falls on the same side 52 times in 100. Could it be a fair coin? And a coin that falls on
# one side 5,200 times in 10,000?

# %%
PROBABLE = 1.96  # 95 % of a normal distribution lie within so many standard deviations


def margin(right: int, n: int) -> float:
    """Half the width of the 95 % confidence interval of right / n."""
    p = (right + 2) / (n + 4)
    return PROBABLE * math.sqrt(p * (1 - p) / (n + 4))


def as_fraction(counted: tuple[int, int]) -> str:
    """As "61.3 % ± 2.9"."""
    right, n = counted
    return f"{100 * right / n:.1f} % ± {100 * margin(right, n):.1f}"


def beyond(counted: tuple[int, int], other: float) -> bool:
    """Whether the whole interval lies above `other`."""
    return counted[0] / counted[1] - margin(*counted) > other


table(
    [(f"{n:,}", as_fraction((count, n))) for count, n in ((52, 100), (5200, 10000))],
    ["throws", "on one side"],
)
assert not beyond((52, 100), 0.5) and beyond((5200, 10000), 0.5)

# %% [markdown]
# The first coin could be fair: with 100 throws the interval contains 50 %. With 10,000 throws it does not, so the second coin
# is hardly fair.

# %% [markdown]
# ## What each of them teaches
#
# How many [MASK]s does each model fill with the right token? How many pairs does it judge rightly? (We count only the [MASK]s,
# because a token that was kept is easy.)

# %%
TASKS = 2  # [MASK]s, and pairs


@torch.inference_mode()
def right_answers(net: Bert, batches: list[dict]) -> list[tuple[int, int]]:
    """How many [MASK]s and how many pairs the model gets right, each with how many there are."""
    right, n = [0] * TASKS, [0] * TASKS
    for batch in batches:
        hidden = net(batch["ids"], batch["attention_mask"], batch["types"])  # (B, T, C)
        at = batch["ids"] == tokenizer.mask_id  # (B, T)
        answers = (net.mlm_logits(hidden, at), batch["labels"][at])
        judgements = (net.nsp_logits(hidden), batch["next_label"])
        for k, (logits, truth) in enumerate([answers, judgements]):
            right[k] += int((logits.argmax(-1) == truth).sum())
            n[k] += len(truth)
    return list(zip(right, n, strict=True))


# %% [markdown]
# Two rules without a neural network stand beside the models. For tokens, the rule always says the most frequent token. For
# pairs, the rule says "neighbours" if both sentences contain the same name. A name is a word with a capital letter that does
# not begin its sentence.


# %%
import re


def names(sentence: str) -> set[str]:
    """Its words with a capital, the first word left out."""
    return set(re.findall(r"(?<=\s)[A-Z]\w+", sentence))


def no_network(source: SentencePairs, batches: list[dict]) -> list[tuple[int, int]]:
    """The same counts for the two rules."""
    truth = torch.cat([batch["labels"][batch["ids"] == tokenizer.mask_id] for batch in batches])
    right, n = 0, 0
    for i in range(len(batches)):
        for a, b in source.drawn(
            i
        ):  # the number of the pair that gives A, and of the one that gives B
            says_neighbours = bool(names(source.pairs[a][0]) & names(source.pairs[b][1]))
            right, n = right + (says_neighbours == (a == b)), n + 1
    return [(int((truth == frequent.argmax()).sum()), len(truth)), (right, n)]


# %% [markdown]
# Now we count. A task on which a model was not trained is left out.
#
# **Predict before you run:** does the training on pairs help the masked tokens? Does the training on masked tokens help the
# pairs? And does the model judge pairs better than the rule about names?

# %%
found = {name: right_answers(net, valid) for name, net in models.items()}
rule = no_network(valid_pairs, valid)
fractions = {name: [right / n for right, n in those] for name, those in found.items()}
table(
    [
        (
            f"trained on {name}",
            *(
                as_fraction(counted) if task in curves[name] else None
                for task, counted in zip(measures, found[name], strict=True)
            ),
        )
        for name in models
    ]
    + [("rules without a network", *map(as_fraction, rule))],
    ["", "[MASK]s right", "pairs right"],
)
assert QUICK or beyond(found["both"][0], rule[0][0] / rule[0][1])
assert QUICK or beyond(found["both"][1], fractions["pairs alone"][1])
assert QUICK or not beyond(found["both"][0], fractions["masked tokens alone"][0])
assert QUICK or not beyond(found["masked tokens alone"][0], fractions["both"][0])
assert QUICK or not beyond(found["both"][1], rule[1][0] / rule[1][1])

# %% [markdown]
# In a full run the help goes one way. The model that was trained on pairs alone judges fewer pairs rightly than the one that was
# trained on both. So the masked tokens help the pairs: they teach the model its words, and a pair is judged by words. That
# the pairs help the masked tokens cannot be seen. The two fractions of [MASK]s differ by less than their intervals.
#
# And the model is not better than the rule about names. After so short a training, one look at the names is worth as much as
# the whole network.

# %% [markdown]
# ## What a longer training buys
#
# The course has a BERT of its own, which the lessons on tuning start from. It was trained on both tasks for longer. It has
# more layers, reads more kinds of text, and sees passages instead of single sentences. More of its tokens are chosen at a
# time. (The recipe is in `minitransformer/course/pretrain.py`, and `make pretrain` makes the model again.)

# %%
from minitransformer.course.bases import load_base
from minitransformer.course.pretrain import MASKED, RECIPES

base = load_base("bert")
contenders = {"this lesson's": models["both"], "the course's": base}
recipes = {
    "this lesson's": (steps, pairs.fraction),
    "the course's": (RECIPES["bert"].phases[0].steps, MASKED),
}
table(
    [
        (name, net.config.n_layer, sum(p.numel() for p in net.parameters()), *recipes[name])
        for name, net in contenders.items()
    ],
    ["BERT", "layers", "parameters", "steps", "tokens chosen"],
    [None, None, ",", ",", ".0%"],
)

# %% [markdown]
# Both models fill in blanks. These are the five texts. Each is a pair, and the blank is the [MASK]:
#
# 1. The wind comes from the ___. It will rain in the evening.
# 2. The boy next door was ___ Nekin. Nekin looked out of the window.
# 3. Yesterday it was rainy. So they ___ to the lake instead.
# 4. The museum ___ in 1959. The price of a ticket is 20 coins.
# 5. yellow horse key drum town park red cup. yellow horse key ___ town park red cup.
#
# We print the five likeliest tokens for each [MASK], with their probabilities. The hidden word stands at the end of the
# text, in parentheses.
#
# **Predict before you run:** in which text does the blank have one right answer that only the other sentence gives? In which
# text do several words fit equally well?

# %%
most = {}  # the probability of the likeliest token
drum = "yellow horse key drum town park red cup"
blanks = (
    ("The wind comes from the west.", "It will rain in the evening.", "west"),
    ("The boy next door was called Nekin.", "Nekin looked out of the window.", "called"),
    ("Yesterday it was rainy.", "So they went to the lake instead.", "went"),
    ("The museum opened in 1959.", "The price of a ticket is 20 coins.", "opened"),
    (drum, drum, "drum"),
)
for a, b, word in blanks:
    ids, types = encode_pair(tokenizer, a, b)
    (target,) = tokenizer.encode(" " + word)
    at = [t for t, i in enumerate(ids) if i == target][-1]  # its last place
    ids[at] = tokenizer.mask_id
    text = [tokenizer.decode([i]) for i in ids]
    text[at] = " [MASK]"
    say(f"{''.join(text[1:-1]).strip().replace('[SEP]', ' [SEP]')} ({word})")
    for name, net in contenders.items():
        with torch.inference_mode():
            hidden = net(torch.tensor([ids]), types=torch.tensor([types]))  # (1, T, C)
            probs = net.mlm_logits(hidden)[0, at].softmax(-1)  # (V)
        most[word, name] = probs.max().item()
        top = "   ".join(
            f"{tokenizer.token(i)} {probs[i]:.3f}" for i in probs.topk(5).indices.tolist()
        )
        verbatim(f"  {name:15} {top}")
assert most["west", "the course's"] < 0.5

# %% [markdown]
# In text 5, only the other sentence gives the word; the next step looks at that. In text 1, every direction of the wind fits,
# and the course's model gives none of them half of its probability.

# %% [markdown]
# ## Does the [MASK] read the copy of its word?
#
# The blank of text 5 can be filled only by looking at the other sentence, where the same list of words stands. The *twin* is
# the hidden word in the other copy. If attention finds the word, then some head at the [MASK] must read the twin. We test it
# with many word lists. Each list is its own neighbour, and the middle token of the second copy is hidden.
#
# A head may read the twin by chance. So we choose the head that reads the twin most on the first half of the lists, and
# measure it on the second half.

# %%
word_lists = [text.split("\n")[0] for text in draw("copied run", 12 if QUICK else 160, "valid")]


@torch.inference_mode()
def look(net: Bert, words: str) -> tuple[torch.Tensor, int, bool]:
    """What each head reads at the [MASK] (layers, H, T), the twin's position, if the model is right."""
    ids, types = encode_pair(tokenizer, words, words)
    n = (len(ids) - 3) // 2  # tokens of one copy
    twin = 1 + n // 2
    hidden_at = twin + n + 1  # [SEP] stands between
    answer, ids[hidden_at] = ids[hidden_at], tokenizer.mask_id
    with watch_attention(net) as maps:
        vectors = net(torch.tensor([ids]), types=torch.tensor([types]))  # (1, T, C)
    reads = torch.stack([weights[0][0, :, hidden_at] for weights in maps.values()])
    return reads, twin, net.mlm_logits(vectors[:, hidden_at]).argmax().item() == answer


def around_twin(seen: list, layer: int, head: int) -> dict[int, float]:
    """What a head reads from 6 tokens before the twin to 6 after it, inside its copy; the mean."""
    found = {away: [] for away in range(-6, 7)}
    for reads, twin, _ in seen:
        for away in found:
            if 1 <= twin + away < reads.size(-1) // 2:
                found[away].append(reads[layer, head, twin + away].item())
    return {away: sum(values) / len(values) for away, values in found.items() if values}


# %% [markdown]
# A list of 12 tokens gives a row of 27: twice the list, [CLS], and two [SEP]. A head that reads all tokens alike gives the twin
# 1/27 of its attention. We compare an untrained model of the course's shape (it starts with W^K = W^Q), this lesson's model,
# and the course's.
#
# **Predict before you run:** which of the three has the head that reads the twin most?

# %%
torch.manual_seed(0)
looking = {"untrained": start_near(Bert(base.config)).eval()} | contenders
rows, around, to_twin = [], {}, {}
for name, net in looking.items():
    fits = [
        w for w in word_lists if 2 * len(tokenizer.encode(" " + w)) + 3 <= net.config.n_positions
    ]
    seen = [look(net, words) for words in fits]
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    means = torch.stack([reads[:, :, twin] for reads, twin, _ in first]).mean(0)  # (n_layer, H)
    layer, head = divmod(means.argmax().item(), net.config.n_head)  # the best head
    to_twin[name] = sum(reads[layer, head, twin].item() for reads, twin, _ in second) / len(second)
    evenly = sum(1 / reads.size(-1) for reads, *_ in second) / len(second)
    right = sum(ok for *_, ok in second), len(second)
    rows.append(
        (name, f"{head + 1} of layer {layer + 1}", to_twin[name], evenly, as_fraction(right))
    )
    around[name] = around_twin(second, layer, head)
table(
    rows,
    ["BERT", "best head", "reads the twin", "reads all alike", "[MASK]s right"],
    [None, None, ".3f", ".3f", None],
)
with figure(
    "twins",
    "What the [MASK] reads in the other sentence, around the twin of its hidden word.",
    (8.5, 4),
) as axes:
    for (name, curve), style in zip(around.items(), ("^-.", "s--", "o-"), strict=True):
        axes.plot(list(curve), list(curve.values()), style, label=name)
    axes.axhline(rows[-1][3], color="grey", linestyle=":", label="reads all alike")
    axes.set(xlabel="tokens to the right of the twin", ylabel="attention of the best head")
    axes.set(ylim=(0, None), xticks=range(-6, 7))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
assert QUICK or max(to_twin, key=to_twin.get) == "the course's"
assert (
    QUICK or to_twin["the course's"] > 2 * rows[2][3] and to_twin["this lesson's"] < 2 * rows[1][3]
)
assert QUICK or to_twin["untrained"] < rows[0][3]

# %% [markdown]
# In a full run it is the course's model. Its best head gives the twin more than twice what it would give if it read all tokens
# alike. In this lesson's model no head does that: 400 steps are too few. In the untrained model the [MASK] looks for tokens
# like itself, and the twin is none.

# %% [markdown]
# ## Is the pair task too easy?
#
# Strangers come from another document, and often from another kind of text: a story here, a review there. So a model can do
# well by recognising the kind of text, and never notice names or order. We ask the course's BERT harder questions.

# %%
from minitransformer.text.batches import pad_right


@torch.inference_mode()
def called_neighbours(couples: list[tuple[str, str]]) -> tuple[int, int]:
    """How many of these pairs the course's BERT takes for neighbours, and how many there are."""
    encoded = [encode_pair(tokenizer, a, b) for a, b in couples]
    ids, attention_mask = pad_right([row for row, _ in encoded], tokenizer.pad_id)  # (B, T)
    types, _ = pad_right([row for _, row in encoded], 0)  # (B, T)
    judged = base.nsp_logits(base(ids, attention_mask, types)).argmax(-1)  # (B)
    return int((judged == NEIGHBOURS).sum()), len(couples)


# %% [markdown]
# Each story gives three passages of two sentences. We combine them in five ways: neighbours; neighbours in the wrong order; the
# first and the third passage of one story, which are not adjacent; strangers from another story; strangers from a review.
#
# **Predict before you run:** suppose that the model goes by the kind of text alone. Which of the five does it then call
# neighbours? And which will it really call neighbours?

# %%
cut = [split_sentences(text) for text in draw("story", 30 if QUICK else 250, "valid")]
told = [[" ".join(text[k : k + 2]) for k in (0, 2, 4)] for text in cut if len(text) >= 6]
reviews = map(split_sentences, draw("review", 2 * len(told), "valid"))
reviewed = [" ".join(text[2:4]) for text in reviews if len(text) >= 4]
others = told[1:] + told[:1]  # for each story another one
couples = {
    "neighbours": [(text[0], text[1]) for text in told],
    "neighbours in the wrong order": [(text[1], text[0]) for text in told],
    "same story, not adjacent": [(text[0], text[2]) for text in told],
    "strangers from another story": [(a[0], b[1]) for a, b in zip(told, others, strict=True)],
    "strangers from a review": [(a[0], b) for a, b in zip(told, reviewed, strict=False)],
}
called = {name: called_neighbours(some) for name, some in couples.items()}
table(
    [
        (name, as_fraction(counted), bar(counted[0] / counted[1]))
        for name, counted in called.items()
    ],
    ["pairs", "called neighbours", ""],
)
*same_kind, other_kind = (right / n for right, n in called.values())
assert QUICK or min(same_kind) > 0.6 and other_kind < 0.2

# %% [markdown]
# By the kind of text alone, the first four would be neighbours and the last would not. The course's BERT really judges like
# this. It calls most pairs of the first four kinds neighbours, strangers from another story included, and hardly any pair of
# the last kind. So it goes by the kind of text: the task was too easy. Later models ask for the order of two neighbours
# (ALBERT), or leave the task out (RoBERTa).
#
# *Where the document is not exact.* 004 §3.1 asks whether two sentences are adjacent (判断两个句子是否相邻). Neighbours in the wrong
# order are adjacent too. BERT asks whether B *follows* A, and they do not.

# %% [markdown]
# ## On test text
#
# Everything so far was measured on validation text. Each training also kept the parameters with the lowest validation loss,
# so these numbers may be a little too good. The test texts contain names that occur nowhere else. We measure on them once:
# single sentences of this lesson's kinds of text, for both models.
#
# **Predict before you run:** on names that it has never seen, will this lesson's model still beat the most frequent token and
# guessing? Will the course's model beat this lesson's?

# %%
test_pairs = in_pairs(corpus("test", 0.03 if QUICK else 0.3), 32, seed=2)
test = [test_pairs(i) for i in range(1 if QUICK else 36)]
judged = {name: right_answers(net, test) for name, net in contenders.items()}
judged["no network"] = no_network(test_pairs, test)
table(
    [(name, *map(as_fraction, counted)) for name, counted in judged.items()],
    ["BERT", "[MASK]s right", "pairs right"],
)
ours, (rule_words, _) = judged["this lesson's"], judged["no network"]
say(f"There are {ours[0][1]:,} [MASK]s and {ours[1][1]:,} pairs.")
assert QUICK or beyond(ours[0], rule_words[0] / rule_words[1])
assert QUICK or beyond(ours[1], 0.5)
assert QUICK or beyond(judged["the course's"][0], ours[0][0] / ours[0][1])

# %% [markdown]
# In a full run it does: it fills more [MASK]s than the most frequent token, and it judges more than half of the pairs rightly.
# The names are new, but most of the words around them are not. The course's model fills many more [MASK]s than this lesson's.

# %% [markdown]
# ## The answer
#
# It can guess what was taken away. Hide 15 % of the tokens, and the text on both sides says what they were. The price: only
# these 15 % teach the model something, while a GPT learns from every token.
#
# To try next:
#
# - Train on masked tokens with `fraction=0.4` in `SentencePairs`. Does the validation loss (at 0.15) fall sooner?
# - Use neighbours in the wrong order as strangers. Can the model learn this at all in so short a time?
# - Ask about the [MASK]s alone (label IGNORE where the id is not [MASK]). How much probability does the model then give to a
#   token in plain sight?
#
# Exercises: `make start-4` writes the stubs of this lesson's exercises to `workbook/lesson_04.py`, and `make check-4` checks
# them. Lesson 5 carries out the second stage: it fine-tunes such a model on a task.
#
# Further reading: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (Devlin et al., 2019);
# "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (Liu et al., 2019); "ALBERT: A Lite BERT for Self-supervised
# Learning of Language Representations" (Lan et al., 2020); "Should You Mask 15% in Masked Language Modeling?" (Wettig et
# al., 2023).
