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
# *Where the document is loose.* 004 §2.1 says that large language models usually have an encoder and a decoder, or only an
# encoder (编码器-解码器(Encoder-Decoder)架构或仅编码器(Encoder-only)架构). The third way is missing. But the GPT-3 that 004 §1.1
# names is a decoder only.

# %% [markdown]
# ## Why not just the next token?
#
# In lesson 3 every position predicted the next token. This was fair only because of the causal mask. In an encoder, position t
# can read position t + 1, so the answer is in plain sight. To see what this does, we train one encoder layer to predict the
# next token.
#
# First we need texts. They are the tiny world's stories, descriptions and reviews. We add a drill for copying: runs of random
# words that are written twice.

# %%
import math

from minitransformer.course.skills import draw
from minitransformer.text.corpora import Windows, eval_windows, token_stream

counts = {"story": 200, "description": 400, "review": 200, "copied run": 5000}


def corpus(split: str, size: float) -> list[str]:
    """Documents of the four kinds, in the same proportion in every split; of the runs the short."""
    drawn = [text for kind, n in counts.items() for text in draw(kind, round(size * n), split)]
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
# The time is short, so we give the model some help. The weights of the real BERT start at random. Our function `start_near`
# makes a better start. The position vectors are sines and cosines, as in the original Transformer. And W^K = W^Q in every
# head, so at first tokens read tokens that are like themselves. Training may change all of this.
#
# **Predict before you run:** how low does the first loss fall? And the second, where the next token is really not there? (A
# model that knows nothing has ln V, about 8.)

# %%
from minitransformer.course.pretrain import start_near
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import cross_entropy_sum


def next_token_loss(model, batch):
    """Every position predicts the next token, and may look at it."""
    logits = model.mlm_logits(model(batch["ids"]))[:, :-1]  # (B, T, V)
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
    [("in sight", peeking), ("not there", honest), ("no model: ln V", math.log(V))],
    ["the next token is", "validation loss"],
    [None, ".3f"],
)
say(f"The training took {log.seconds:.0f} s.")
assert QUICK or peeking < honest - 1

# %% [markdown]
# After a full run the first loss is much lower than the second. The model has learned to copy its right neighbour. This is of
# no use where the neighbour is not there.

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
# N is the number of chosen tokens, of all three kinds. In the code, `mask_tokens` gives the ids that the model reads and the
# labels that it has to predict. Where nothing is asked, the label is IGNORE.
#
# Why do some chosen tokens not become [MASK]? Because outside of training no text contains a [MASK]. With this rule, any token
# can be the one that is asked about, also a token in plain sight.
#
# **Predict before you run:** what percentage of all tokens becomes [MASK]?

# %%
from minitransformer.course.batches.masking import mask_tokens
from minitransformer.text.batches import IGNORE

special = tokenizer.special_ids.values()
generator = torch.Generator().manual_seed(0)
rows = streams["train"][: len(streams["train"]) // 64 * 64].view(-1, 64)  # (B, T)
masked, labels = mask_tokens(rows, tokenizer.mask_id, special, V, generator=generator)
words, asked = ~torch.isin(rows, torch.tensor(list(special))), labels != IGNORE
fates = {
    "[MASK]": masked == tokenizer.mask_id,
    "another token": (masked != rows) & (masked != tokenizer.mask_id),
    "kept as it is": asked & (masked == rows),
}
n_words, n_chosen = words.sum().item(), sum(fate.sum().item() for fate in fates.values())
in_loss = {name: (asked & fate).sum().item() for name, fate in fates.items()}
shown = [
    f"{tokenizer.token(j)}⟨{tokenizer.token(i)}⟩" if label != IGNORE else tokenizer.token(i)
    for i, j, label in zip(rows[0].tolist(), masked[0].tolist(), labels[0].tolist(), strict=True)
]
say("Chosen tokens as the model sees them, with the true token in ⟨⟩: " + " ".join(shown[:40]))
table(
    [("chosen, of all tokens", 0.15, n_chosen / n_words, None)]
    + [
        (
            f"{name}, of the chosen",
            rule,
            fate.sum().item() / n_chosen,
            in_loss[name] / fate.sum().item(),
        )
        for (name, fate), rule in zip(fates.items(), (0.8, 0.1, 0.1), strict=True)
    ],
    ["", "the rule", f"{n_words:,} tokens", "in the loss"],
    [None, ".1%", ".1%", ".0%"],
)
assert all((asked & fate).sum() == fate.sum() for fate in fates.values())
assert abs(n_chosen / n_words - 0.15) < 0.02

# %% [markdown]
# It is 80 % of 15 %, which is 12 %. The last column shows that all three kinds are in the loss. (The measured fraction of chosen
# tokens is not exactly 15 %, because `mask_tokens` rounds to whole tokens in each row.)

# %% [markdown]
# ## Neighbours and strangers
#
# BERT's second task is next-sentence prediction (下一句预测, NSP). Two sentences go in as one row:
#
#     [CLS] A [SEP] B [SEP]
#
# The model predicts whether B followed A in a text. [SEP] ends a sentence. [CLS] is not a word; the judgement about the whole
# row is read from its vector. A third vector is added to each token, beside those for token and position: its type, 0 in A and
# 1 in B.
#
# Half of the pairs are neighbours. In the other half, B is a stranger. A trap is hidden here. If a stranger could be any
# sentence, it would sometimes be the first sentence of its document. A true B never is, so the model could learn to recognise
# first sentences instead. Therefore a stranger is always the B of another pair.
#
# **Predict before you run:** read the pairs below without their labels. What tells you that two sentences are strangers?

# %%
from minitransformer.course.batches.pairs import (
    NEIGHBOURS,
    SentencePairs,
    encode_pair,
    split_sentences,
)

B, n_positions = 16, 80


def in_pairs(part: list[str], batch_size: int, seed: int) -> SentencePairs:
    """Pairs of single sentences; a run that is written twice has two lines, and gives one pair."""
    cut = [text.split("\n") if "\n" in text else split_sentences(text) for text in part]
    return SentencePairs(cut, tokenizer, batch_size, n_positions, span=1, seed=seed)


pairs, valid_pairs = in_pairs(texts["train"], B, seed=0), in_pairs(texts["valid"], 32, seed=1)
valid = [valid_pairs(i) for i in range(1 if QUICK else 36)]
batch = pairs(0)
for (a, b), label in list(zip(pairs.drawn(0), batch["next_label"].tolist(), strict=True))[:6]:
    answer = "neighbours" if label == NEIGHBOURS else "strangers"
    say(f"- {pairs.pairs[a][0]} **[SEP]** {pairs.pairs[b][1]} ({answer})")
say(
    f"The training text has {len(pairs.pairs):,} pairs of neighbours. The first batch has the shape {tuple(batch['ids'].shape)}, "
    f"with {int((batch['labels'] != IGNORE).sum())} tokens to predict and {B} pairs to judge."
)

# %% [markdown]
# Often the strangers talk about different things: another name, another place, another kind of text. A later step asks whether
# this makes the task too easy.
#
# *Where the document is loose.* 004 §3.1 draws adjacent or non-adjacent sentences (随机采样一对相邻句子或非相邻句子), and does not
# say where the non-adjacent ones come from. In BERT they come from another document, and ours do so too.

# %% [markdown]
# ## The model, before training
#
# BERT's layers are those of lesson 3 in another order. It normalises after each sum, x ← Norm(x + Layer(x)), as the figure in
# 004 §2.2 does (Add & Norm). Our GPT normalises before each layer.
#
# Two heads sit on top. For a masked token, its vector goes through one more layer, and then through the token table, as in the
# GPT. This gives V scores. For the pair, the vector of [CLS] goes through one more layer, and then to two scores.
#
# We help again, because the time is short. The scores of the V tokens have a bias, and it starts as the logarithm of each
# token's frequency. So the model need not learn that `.` is common. One part of the first help is taken back: W^Q and W^K
# start at random here. With W^K = W^Q, each token would read mostly itself, and so would [CLS], whose task is to read the
# others.
#
# **Predict before you run:** before training, the model knows nothing else. What is its loss for the pairs? Is its loss for
# the masked tokens above or below ln V?

# %%
from minitransformer.training.losses import bert_loss, mlm_loss, nsp_loss

sizes = BertConfig(vocab_size=V, n_positions=n_positions, n_layer=2)
frequent = torch.bincount(streams["train"], minlength=V).float() + 1  # lesson 1's α is 1 here
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
        ("masked tokens", before["masked tokens"], f"ln V = {math.log(V):.3f}"),
        ("pairs", before["pairs"], f"ln 2 = {math.log(2):.3f}"),
    ],
    ["task", "loss before training", "all answers alike"],
    [None, ".3f", None],
)
say(f"The model has {sizes.n_layer} layers and {n_parameters:,} parameters.")
assert before["masked tokens"] < math.log(V) and abs(before["pairs"] - math.log(2)) < 0.1

# %% [markdown]
# The pairs cost about ln 2, which is guessing. The masked tokens cost less than ln V, because the frequencies are known.
#
# We also check what was said about W^K = W^Q. How much of its attention does [CLS] give to itself?


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
assert alike > 2 * apart

# %% [markdown]
# With W^K = W^Q it reads mostly itself. So we start the two at random.

# %% [markdown]
# ## Both, and each alone
#
# BERT adds the mean losses of both tasks. What does each task contribute? We train three times from the same start, on the same
# batches, for the same number of steps: on both tasks, on masked tokens alone, and on pairs alone.
#
# **Predict before you run:** a batch has 16 pairs and many more chosen tokens. Which of the two losses will fall first?

# %%
steps = 6 if QUICK else 400
config = TrainConfig(steps=steps, lr=2e-3, warmup=steps // 8, final_lr=0.02, eval_every=steps // 5)
objectives = {"both": bert_loss, "masked tokens alone": mlm_loss, "pairs alone": nsp_loss}
parts = {"masked tokens": mlm_loss, "pairs": nsp_loss}  # what each objective is judged by
models, curves, seconds = {}, {}, 0.0
for name, loss in objectives.items():
    models[name] = fresh()
    trained_on = [part for part in parts if loss in (bert_loss, parts[part])]
    curves[name] = {p: [(0, evaluate(models[name], valid[:8], parts[p]))] for p in trained_on}

    def note(step: int, _: float, net: Bert = models[name], mine: dict = curves[name]) -> None:
        """After every few steps, its losses on validation."""
        for part, curve in mine.items():
            curve.append((step, evaluate(net, valid[:8], parts[part])))

    seconds += train(models[name], pairs, config, valid=valid[:8], loss=loss, on_eval=note).seconds
with figure(
    "losses", "Both losses on validation, in the trainings that had that task.", (9.5, 3.8), 1, 2
) as axes:
    for ax, part in zip(axes, parts, strict=True):
        for (name, mine), style in zip(curves.items(), ("o-", "s--", "^-."), strict=True):
            if part in mine:
                ax.plot(*zip(*mine[part], strict=True), style, label=f"trained on {name}")
        ax.axhline(curves["both"][part][0][1], color="grey", linestyle=":", label="before training")
        ax.set(title=part, xlabel="step", ylabel="loss, nats", ylim=(0, None))
        ax.legend(fontsize=9, loc="lower left")
both = {part: (curve[0][1], curve[-1][1]) for part, curve in curves["both"].items()}
table(
    [(part, first, last) for part, (first, last) in both.items()],
    ["trained on both", "before", "after"],
    [None, ".3f", ".3f"],
)
say(f"Three trainings of {steps} steps took {seconds:.0f} s.")
assert QUICK or both["masked tokens"][1] < both["masked tokens"][0] - 0.3
assert QUICK or both["pairs"][1] < math.log(2) - 0.01

# %% [markdown]
# In a full run both losses fall. The figure shows when. Each step asks about many tokens but only 16 pairs, so a step teaches
# more about tokens.

# %% [markdown]
# ## How sure is a fraction?
#
# Losses are hard to imagine, so we count right answers. But a fraction of right answers is itself uncertain: with other
# examples it would be a little different. If p is the fraction of right answers in n tries, then in 95 of 100 cases the true
# value lies no further away than about
#
#     1.96 √(p (1 − p) / n)
#
# This is half the width of the 95 % confidence interval (置信区间). From here on it stands behind each ±. (We add two right and
# two wrong tries to p. Otherwise 0 of n would count as certain.) It does not cover everything. Another random seed of the
# training would give other numbers too, and we train only once.
#
# **Predict before you run:** a coin falls on heads 52 times in 100. Is it a fair coin? What about 5,200 times in 10,000?

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
    [(f"{n:,}", as_fraction((heads, n))) for heads, n in ((52, 100), (5200, 10000))],
    ["throws", "heads"],
)
assert not beyond((52, 100), 0.5) and beyond((5200, 10000), 0.5)

# %% [markdown]
# With 100 throws the interval contains 50 %, so the coin may well be fair. With 10,000 throws it does not.

# %% [markdown]
# ## What each of them teaches
#
# How many [MASK]s does each model fill with the right token? How many pairs does it judge rightly? (We count only the [MASK]s,
# because a kept token is easy.) A head that was not trained has nothing to say, and is left out.
#
# Two judges without a neural network stand beside the models. For tokens, the judge always says the most frequent token. For
# pairs, it says "neighbours" if the two sentences share a name, which is a word with a capital letter that does not begin its
# sentence.
#
# **Predict before you run:** do the masked tokens help to judge pairs? Do the pairs help to predict tokens?

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
# And the two judges that learn nothing, except which token is frequent:


# %%
import re


def names(sentence: str) -> set[str]:
    """Its words with a capital, the first word left out."""
    return set(re.findall(r"(?<=\s)[A-Z]\w+", sentence))


def no_network(source: SentencePairs, batches: list[dict]) -> list[tuple[int, int]]:
    """The same counts for the judges without a network."""
    truth = torch.cat([batch["labels"][batch["ids"] == tokenizer.mask_id] for batch in batches])
    drawn = [couple for i in range(len(batches)) for couple in source.drawn(i)]
    right = sum(
        bool(names(source.pairs[a][0]) & names(source.pairs[b][1])) == (a == b) for a, b in drawn
    )
    return [(int((truth == frequent.argmax()).sum()), len(truth)), (right, len(drawn))]


found = {name: right_answers(net, valid) for name, net in models.items()}
rule = no_network(valid_pairs, valid)
rows = []
for name in models:
    cells = zip(parts, found[name], strict=True)
    rows.append(
        (f"trained on {name}", *(as_fraction(c) if p in curves[name] else None for p, c in cells))
    )
table([*rows, ("no network", *map(as_fraction, rule))], ["", "[MASK]s right", "pairs right"])
assert QUICK or beyond(found["both"][0], rule[0][0] / rule[0][1])
assert QUICK or beyond(found["both"][1], 0.5)

# %% [markdown]
# In a full run the model that was trained on both is better than the most frequent token, and better than guessing at pairs.
#
# Now compare it with each task alone. If two intervals overlap, no difference is shown. If they do not overlap, one training
# was better at that task, at least with this seed.

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
# Both models fill in blanks. For each [MASK] we print the five likeliest tokens with their probabilities. The hidden word
# stands in brackets.
#
# **Predict before you run:** read the five pairs in the code. Which blank could you fill without the words to its right? Which
# could you not fill without the other sentence?

# %%
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
    say(f"- {''.join(text[1:-1]).strip().replace('[SEP]', ' [SEP]')} ({word})")
    for name, net in contenders.items():
        with torch.inference_mode():
            hidden = net(torch.tensor([ids]), types=torch.tensor([types]))  # (1, T, C)
            probs = net.mlm_logits(hidden)[0, at].softmax(-1)  # (V)
        top = "   ".join(
            f"{tokenizer.token(i)} {probs[i]:.3f}" for i in probs.topk(5).indices.tolist()
        )
        verbatim(f"  {name:15} {top}")

# %% [markdown]
# ## A copy looks at its twin
#
# The last blank can be filled only by looking at the other sentence, where the same run of words stands. If attention does
# this, then some head at the [MASK] must read the twin of the hidden word. We test it with many runs. Each run is its own
# neighbour, and the middle token of the second copy is hidden.
#
# We choose the head that reads the twin most on the first half of the runs. We measure it on the second half. An untrained
# model of the course's shape stands beside the two. (It starts with W^K = W^Q.)

# %%
runs = [text.split("\n")[0] for text in draw("copied run", 12 if QUICK else 160, "valid")]


@torch.inference_mode()
def look(net: Bert, run: str) -> tuple[torch.Tensor, int, int, int, bool]:
    """All maps (layers, H, T, T), the hole, its twin, the number of ids, if the guess is right."""
    ids, types = encode_pair(tokenizer, run, run)
    n = (len(ids) - 3) // 2  # tokens of one copy
    twin = 1 + n // 2
    hole = twin + n + 1  # [SEP] stands between
    answer, ids[hole] = ids[hole], tokenizer.mask_id
    with watch_attention(net) as maps:
        hidden = net(torch.tensor([ids]), types=torch.tensor([types]))  # (1, T, C)
    guess = net.mlm_logits(hidden[:, hole]).argmax().item()
    stacked = torch.stack([weights[0][0] for weights in maps.values()])
    return stacked, hole, twin, len(ids), guess == answer


# %% [markdown]
# **Predict before you run:** a run of 12 tokens gives a row of 27: twice the run, [CLS], and two [SEP]. If attention were
# spread evenly, how much would the twin get?

# %%
torch.manual_seed(0)
looking = contenders | {"untrained": start_near(Bert(base.config)).eval()}
rows, around = [], {}
for name, net in looking.items():
    short = [r for r in runs if len(tokenizer.encode(" " + r)) * 2 + 3 <= net.config.n_positions]
    seen = [look(net, run) for run in short]
    to_twin = torch.stack([maps[:, :, hole, twin] for maps, hole, twin, _, _ in seen])
    half = len(seen) // 2
    layer, head = divmod(to_twin[:half].mean(0).argmax().item(), net.config.n_head)
    even = sum(1 / length for *_, length, _ in seen[half:]) / (len(seen) - half)
    right = sum(ok for *_, ok in seen[half:]), len(seen) - half
    best = to_twin[half:, layer, head].mean().item()
    rows.append((name, f"{head + 1} of layer {layer + 1}", best, even, as_fraction(right)))
    reads = {
        away: [
            maps[layer, head, hole, twin + away].item()
            for maps, hole, twin, length, _ in seen[half:]
            if 1 <= twin + away < length // 2
        ]
        for away in range(-6, 7)
    }
    around[name] = {away: sum(values) / len(values) for away, values in reads.items() if values}
table(
    rows,
    ["BERT", "best head", "reads the twin", "evenly spread", "fills the hole"],
    [None, None, ".3f", ".3f", None],
)
with figure(
    "twins",
    "What the [MASK] reads in the other sentence, around the twin of its hidden word.",
    (8.5, 4),
) as axes:
    for (name, curve), style in zip(around.items(), ("s--", "o-", "^-."), strict=True):
        axes.plot(list(curve), list(curve.values()), style, label=name)
    axes.axhline(rows[1][3], color="grey", linestyle=":", label="evenly spread")
    axes.set(xlabel="tokens to the right of the twin", ylabel="attention of the best head")
    axes.set(ylim=(0, None), xticks=range(-6, 7))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

# %% [markdown]
# Spread evenly, the twin would get 1/27. (The runs have different lengths, and the table gives the mean.) Compare the two
# columns in the middle of the table. A head that has learned to find the same word elsewhere gives the twin much more than
# that. The last column shows whether the model also uses it.

# %% [markdown]
# ## Is the pair task too easy?
#
# Strangers come from another document, and often from another kind of text: a story here, a review there. So a model can do
# well by recognising the kind of text, and never notice names or order. Harder questions show it: strangers from another
# story, two passages of one story that are not adjacent, and neighbours in the wrong order. The course's BERT answers.
#
# **Predict before you run:** which of these pairs does it still call neighbours?

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
# Each story gives three passages of two sentences. We combine them in five ways.

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

# %% [markdown]
# Compare each row with the first. Where the fractions are alike, the model does not see that difference. If only the last row
# is far below the first, the model goes by the kind of text, and the task was too easy. Later models ask for the order of two
# neighbours (ALBERT), or leave the task out (RoBERTa).
#
# *Where the document is loose.* 004 §3.1 asks whether two sentences are adjacent (判断两个句子是否相邻). Neighbours in the wrong
# order are adjacent too. BERT asks whether B *follows* A, and they do not.

# %% [markdown]
# ## On test text
#
# Everything so far was measured on validation text, which has also chosen the best weights of each training. The test texts
# contain names that occur nowhere else. We read them once, now: single sentences of this lesson's kinds of text, for both
# models.
#
# **Predict before you run:** which gains more from the longer training, the [MASK]s or the pairs?

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

# %% [markdown]
# In a full run this lesson's small model beats the most frequent token and beats guessing, on names that it has never seen.
# Whether it also beats the rule about names, the last row shows.

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
