"""Soft prompts: words that no vocabulary has

question: A model reads words only as vectors. Why, then, should the words of a prompt be words?
minutes: 1.3
documents: 001 §3.1.4 P-Tuning; 000 §1.3 前缀微调：一种高效的微调方法, §2.1 前缀微调的原理, §2.2 前缀微调与传统微调的比较, §4.1 语言模型, §5 项目实践：代码实例和详细解释说明; 002 §什么是, §核心思想, §工作流程, §对比
needs: 3, 4, 7
"""

# %% [markdown]
# ## A model that does not do what we want
#
# Lesson 7 steered pretrained models with words alone. In this lesson the words are found by training.
#
# The task is table-to-text (表格生成文本): the model gets a table of facts and writes a few sentences that state them. The
# model is the GPT of lesson 3 after a longer pretraining. Its training data had tables and descriptions, but never a
# table with its own description. Often they had a table twice: once, and after a line break once more with its fields
# in another order.
#
# We use four measures:
#
# - *BLEU* (lesson 6): how many short word sequences the text shares with the right answers, 0 to 100;
# - *slots*: the fraction of a table's values that stand in the text;
# - *whole*: the fraction of the texts that state all values of their table;
# - *a table again*: the fraction of the texts that are no sentences, but one more table.
#
# **Predict before you run:** given a table and a line break, what will the base write? Which of the measures will not
# notice that the task is not done?

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
for i in (0, 1):
    say(f"**{tables['valid'][i]['source']}**\n\n> {untouched[i]}")
table(
    [("untouched", *table_scores(untouched, tables["valid"]))],
    ["on validation", *MEASURES],
    [None, *FORMATS],
)
assert QUICK or (table_scores(untouched, tables["valid"]).again > 0.5)

# %% [markdown]
# In a full run the base writes the table once more, as its training data did. So it states nearly all values, and
# *slots* looks good. BLEU and *a table again* notice that these are no sentences.

# %% [markdown]
# ## Vectors in front
#
# The embedding table E turns each token into a vector of d numbers. (d is called C in our code: the width of the
# model.) From there on the model knows no words, only vectors. So we can put m vectors of our own in front of the
# input (001 §3.1.4):
#
#     P = [p_1, p_2, ···, p_m] ∈ R^{m×d}
#     X = [P; E(input)]
#
# If every p_i is a row of E, then P is a prompt in words, a hard prompt (硬提示) as in lesson 7. If the p_i can be
# any vectors, P is a soft prompt (软提示). 002 §什么是 says it in this way: not a prompt in words, but a sequence of
# learnable embedding vectors (可学习的嵌入向量序列). Its m places hold virtual tokens (虚拟 token). In our code their ids
# are -1, -2, …, and the argument `vectors` holds the vectors that they stand for. (In the comments on shapes, P is the
# number m, as everywhere in the course, and not the matrix P.)
#
# We compare a hard prompt with the same prompt as vectors. The first time the words themselves stand in front of the
# input, the second time their rows of E.
#
# **Predict before you run:** how much do the scores of the two differ? How many rows of scores come out for a prompt
# of m tokens and an input of T tokens?

# %%
from minitransformer.tuning import virtual_ids

words = tokenizer.encode("The same in other words: ")
one = x["valid"][0]
with torch.inference_mode():
    E = base.token_embedding.weight  # (V, C)
    as_words = base(torch.tensor([words + one]))  # (1, P+T, V)
    marked = torch.tensor([virtual_ids(len(words)) + one])  # (1, P+T)
    as_vectors = base(marked, vectors=E[words])  # (1, P+T, V)
say(
    f"m = {len(words)} and T = {len(one)}. The scores have the shape {tuple(as_vectors.shape)}, and the two differ by "
    f"{(as_words - as_vectors).abs().max():.0e}."
)
say(
    f"There are {len(E):,} hard prompts of length 1. Soft ones of length 1 are all vectors of {E.size(1)} numbers."
)
assert torch.equal(as_words, as_vectors) and as_vectors.size(1) == len(words) + len(one)

# %% [markdown]
# The scores are exactly equal, and there are m + T rows of them.
#
# This shape hides a trap. There are m + T rows of scores, but only T labels. If you compare the first T rows with the
# labels, you train on rows that are shifted by m, and there is no error message. From now on `PromptTuning` puts the
# vectors in front for us. It also removes the first m rows, those of the virtual tokens.

# %%
from minitransformer.tuning import PromptTuning, attached

with torch.inference_mode(), attached(base, PromptTuning(len(words), init=words)):
    cut = base(torch.tensor([one]))  # (1, T, V)
say(
    f"With `PromptTuning` the scores have the shape {tuple(cut.shape)}: the rows from above without the first {len(words)}."
)
assert torch.allclose(cut, as_vectors[:, len(words) :], atol=1e-4) and cut.size(1) == len(one)

# %% [markdown]
# *Where the document is not exact.* The formula does not mention positions. In a GPT each place also adds the vector of
# its position. So the virtual tokens take the positions 0 to m − 1, and the input begins at position m.

# %% [markdown]
# ## Initialise, concatenate, freeze, train
#
# The workflow in 002 §工作流程 has four steps:
#
# 1. Initialise (初始化). The p_i begin as random numbers of the size that embeddings have, or as the rows of words
#    that are drawn from the vocabulary.
# 2. Concatenate (拼接). 002 draws `[Prefix1] [Prefix2] ... [PrefixN] I love this product!`. This is X = [P;
#    E(input)].
# 3. Freeze (冻结). No parameter of the model changes.
# 4. Train. The loop of lesson 3 minimises the loss of the description y alone.
#
# The loss comes from the chain rule of 000 §4.1, P(s) = P(w_1) P(w_2|w_1) ···: it is −log of this product, per token. The
# prompt P and the table x are given, so each factor has them as a condition:
#
#     loss = −1/N Σ_t log p(y_t | P, x, y_<t)          (N tokens of y)
#
# `attach` does the first three steps. We compute one loss and its gradient to see what would be trained.
#
# **Predict before you run:** m = 10 and d = 128. Which tensors get a gradient, and how many numbers are they?

# %%
from minitransformer.text.batches.completion import Completions, eval_completions
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import fingerprint

m, d, eot = 10, base.config.d_model, tokenizer.eot_id
before = fingerprint(base)
room = base.config.n_positions - m - 1
batches = Completions(x["train"], y["train"], eot, batch_size=8, n_positions=room)
valid = eval_completions(x["valid"], y["valid"], eot, batch_size=32)
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
say(f"The embedding table, in comparison, has {E.numel():,} numbers.")
assert list(with_gradient.values()) == [(m, d)] and report.trained == report.stored == m * d

# %% [markdown]
# One tensor gets a gradient, P with m · d = 1,280 numbers. This is what 001 §3.1.4 writes as O(md).
#
# *Where the document is not exact.* 001 §3.1.4 begins by saying that only the parameters of the embedding layer at the input
# are tuned (只微调输入端的embedding层参数). Later it says that only P is updated, and that the model's parameters, the
# embedding layer included (包括embedding层), stay as they are. The second sentence is right.

# %% [markdown]
# ## Training
#
# We train both prompts on the same batches. The learning rate is far higher than in lesson 3, because the prompt has
# learned nothing yet that a large step could destroy. There is no weight decay, because a virtual token has no reason to
# be small.
#
# **Predict before you run:** before training, which prompt disturbs the base more, ten random vectors or ten words drawn
# from the vocabulary? After training, will both be below the untouched base?

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
ends = {init: min(loss for _, loss in points) for init, points in curves.items()}
better = min(ends, key=ends.get)  # the prompt of the lower validation loss
NAMES = {"random": "random vectors", "vocabulary": "words"}
with figure(
    "prompt_tuning", "Validation loss while ten vectors learn; all else is frozen."
) as axes:
    for (init, points), style in zip(curves.items(), ("s--", "o-"), strict=True):
        axes.plot(*zip(*points, strict=True), style, label=f"begins as {NAMES[init]}")
    axes.axhline(loss_untouched, color="grey", linestyle=":", label="untouched, without a prompt")
    axes.set(xlabel="step", ylabel="loss, nats per token of the description")
    axes.legend()
table(
    [("without a prompt", loss_untouched, loss_untouched, loss_untouched)]
    + [
        (f"begins as {NAMES[init]}", points[0][1], points[1][1], ends[init])
        for init, points in curves.items()
    ],
    ["validation loss", "before training", f"after {curves['random'][1][0]} steps", "lowest"],
    [None, ".3f", ".3f", ".3f"],
)
assert fingerprint(base) == before
assert QUICK or max(ends.values()) < 0.9 * loss_untouched
assert curves["random"][0][1] > curves["vocabulary"][0][1]

# %% [markdown]
# Before training the random vectors disturb the base more, because it has never read such vectors. In a full run both
# prompts end below the untouched base: ten vectors are enough to change what the base does.
#
# The base itself is the same bit for bit, as its fingerprint shows. So without the prompt it can do all that it could
# before, as 001 §3.1.4 promises (保持预训练模型的通用语义表示能力). One seed cannot show which start is better in general;
# lesson 14 tests this with more seeds. From here on we use the prompt with the lower validation loss.

# %% [markdown]
# ## What it writes now
#
# The untouched base stated nearly all values, because it wrote the table again.
#
# **Predict before you run:** with a prompt in front, will *slots* rise or fall?

# %%
texts = {"untouched": untouched}
for init, prompt in prompts.items():
    with attached(base, prompt):
        texts[f"prompt that began as {NAMES[init]}"] = generate_texts(
            base, tokenizer, x["valid"], MOST
        )
scores = {name: table_scores(written, tables["valid"]) for name, written in texts.items()}
table(
    [(name, *score) for name, score in scores.items()],
    ["on validation", *MEASURES],
    [None, *FORMATS],
)
now = f"prompt that began as {NAMES[better]}"
for i in (0, 1):
    say(f"**{tables['valid'][i]['source']}**\n\n> {texts[now][i]}")
assert QUICK or scores[now].again < 0.5 * scores["untouched"].again
assert QUICK or (
    scores[now].bleu > scores["untouched"].bleu and scores[now].slots < scores["untouched"].slots
)

# %% [markdown]
# In a full run the base now writes sentences in most cases, and BLEU rises. *Slots* falls. But the model did not get
# worse: a copy of the table states all values without doing the task, and sentences are harder to write than a copy.
# Therefore one measure alone cannot judge this task.
#
# No parameter of the model was changed. So the frozen base was able to write such sentences before; it only had to be
# steered.

# %% [markdown]
# ## What the vectors say
#
# Can we read the trained vectors? For each of them we look for the most similar rows of E, by the cosine (余弦相似度)
# of lesson 7. It is 1 for the same direction and 0 for no similarity. To judge the cosines, we also take the nearest
# rows of random vectors. Then comes a test: we replace each trained vector by its nearest word, and the base reads these
# words.
#
# **Predict before you run:** one prompt began as words. Are most of its ten vectors still nearest to those words? And does
# the base do the task as well with the nearest words of the better prompt?

# %%
from minitransformer.tuning import nearest_words

learned = {init: prompt.vectors().detach() for init, prompt in prompts.items()}
near = {init: nearest_words(vectors, base, k=2) for init, vectors in learned.items()}
origin = [nearest[0][0] for nearest in nearest_words(started["vocabulary"], base, k=1)]
torch.manual_seed(0)
by_chance = nearest_words(torch.randn(500, d), base, k=1)
chance = sum(nearest[0][1] for nearest in by_chance) / 500
means = {init: sum(nearest[0][1] for nearest in near[init]) / m for init in near}
losses = {"no prompt": loss_untouched, "the trained vectors": ends[better]}
hard = [nearest[0][0] for nearest in near[better]]
with attached(base, PromptTuning(m, init=hard)):
    losses["their nearest words"] = evaluate(base, valid)


def for_eye(init: str, i: int) -> str:
    """The nearest words of a vector, with their cosines."""
    return "  ".join(f"{tokenizer.token(word)} {cosine:.2f}" for word, cosine in near[init][i])


table(
    [
        (i + 1, for_eye("random", i), tokenizer.token(origin[i]), for_eye("vocabulary", i))
        for i in range(m)
    ],
    ["i", "began at random: nearest", "began as", "nearest now"],
)
table(
    [
        ("500 random vectors", chance),
        ("the prompt that began at random", means["random"]),
        ("the prompt that began as words", means["vocabulary"]),
    ],
    ["mean cosine to the nearest word", ""],
    [None, ".2f"],
)
table(
    [(name, loss, bar(loss, max(losses.values()))) for name, loss in losses.items()],
    ["the base reads", "validation loss", ""],
    [None, ".3f", None],
)
same = sum(near["vocabulary"][i][0][0] == origin[i] for i in range(m))
assert QUICK or losses["their nearest words"] > losses["the trained vectors"] + 0.02
assert QUICK or same < m / 2

# %% [markdown]
# In a full run most of the vectors have left their words. And the nearest words work worse than the vectors. So these
# words hold at most a part of what was learned. Nobody can see from them what the task is.
#
# Lester et al. (2021, §7) looked at their prompts in the same way. They found neighbours with a common theme, but no
# sentence that one could read. 000 §1.3 counts interpretability (可解释性) among the advantages of the method, and in the
# table of 000 §2.2 it is stronger (更强) than with full fine-tuning. These vectors do not support that.

# %% [markdown]
# ## Where the vectors lie
#
# In the next figure each grey dot is a word, a row of E. It shows the length of the row, and the cosine to the most similar
# other row. The trained vectors are drawn in the same way.
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
        axes.scatter(vectors.norm(dim=1), cosines, marker=marker, label=f"began as {NAMES[init]}")
    axes.axhline(chance, color="grey", linestyle=":", label="random vectors, on average")
    axes.set(xlabel="length of the vector", ylabel="cosine to the nearest (other) word")
    axes.legend(fontsize=9)
read = torch.tensor([i for row in x["train"] + y["train"] for i in row])
counts = torch.bincount(read, minlength=len(E))  # (V,)  how often each token occurs
alike = nearest_other > 0.98
table(
    [
        ("of a word", E.norm(dim=1).mean().item()),
        *(
            (f"of a vector that began as {NAMES[init]}", v.norm(dim=1).mean().item())
            for init, v in learned.items()
        ),
    ],
    ["mean length", ""],
    [None, ".2f"],
)
say(
    f"{int(alike.sum())} tokens have another token with a cosine above 0.98 to them. They occur {counts[alike].float().mean():.1f} "
    f"times each in our pairs; the other tokens {counts[~alike].float().mean():.0f} times."
)
assert counts[alike].float().mean() < 0.5 * counts[~alike].float().mean()
assert QUICK or all(
    v.norm(dim=1).mean() > 1.5 * E.norm(dim=1).mean() and means[init] < nearest_other.mean()
    for init, v in learned.items()
)

# %% [markdown]
# In a full run the trained vectors do not lie among the words. On average they are longer, and less similar to their
# nearest word than a word is to its nearest other word.
#
# Each token at the very top of the figure has nearly the same direction as another token. These tokens are rare, so
# pretraining hardly had to distinguish them. A prompt that begins as words drawn by chance can begin as such words.

# %% [markdown]
# ## A prompt is a prefix
#
# Lesson 3 ended with a prefix: the keys and values that a text leaves in every layer act like the text itself.
# Virtual tokens leave keys and values, too. So every soft prompt is a prefix. The base computes this prefix, layer by
# layer, from m · d numbers. The prefix itself has a key and a value of d numbers for each virtual token and each layer.
# With L layers these are 2 L m d numbers.
#
# We let the base read the virtual tokens alone and take the keys and values from the cache. Then we remove the prompt
# and give them to the base as `prefix`.
#
# **Predict before you run:** how much do the probabilities with the prompt and with the prefix differ? With L = 4 layers,
# how many times as many numbers has the prefix?

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
table(
    [
        ("prompt and prefix", (by_prompt - by_prefix).abs().max().item()),
        ("prompt and neither", (by_prompt - alone).abs().max().item()),
    ],
    ["probabilities with", "largest difference"],
    [None, ".0e"],
)
say(
    f"The prompt has {m * d:,} numbers, the prefix {numbers:,}. That is {numbers // (m * d)} times as many."
)
assert (by_prompt - by_prefix).abs().max() < 1e-5 and numbers == m * 2 * base.config.n_layer * d
assert QUICK or (by_prompt - alone).abs().max() > 0.01

# %% [markdown]
# Apart from rounding, prompt and prefix act in the same way. So every prompt gives a prefix. But most prefixes come from no
# prompt, because a prompt only gives the keys and values that the frozen layers compute from it. Lesson 9 trains the
# keys and values themselves.

# %% [markdown]
# ## Inside the template: P-tuning
#
# P-tuning (Liu et al., 2021) lets a model fill a gap, as in lesson 7. Virtual tokens stand in the template, before the
# text, behind it, or both:
#
#     X = [v_1, …, v_i, E(text), v_{i+1}, …, v_m, E(It was [MASK])]
#     [v_1, …, v_m] = MLP(LSTM([p_1, …, p_m]))
#
# The second line is the other half of the method. The p_i are trained, but the model does not read them. It reads the
# v_i, which an encoder (提示编码器) computes from them. The encoder is an LSTM and a small network, an MLP. An LSTM reads
# a sequence step by step and keeps a memory of what it has read. Ours reads in both directions. So each v_i depends on
# all p_i. The encoder is trained as well. After training only the v_i are needed, and the encoder is dropped.
#
# First the template, filled with a review. ⟨1⟩ is the first virtual token.

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
say(f"The template, filled: {shown(ids[:12])} … {shown(ids[-9:])}")

# %% [markdown]
# Now we count the encoder's parameters. And we test what each v_i depends on. Without the encoder, v_i is p_i.
#
# **Predict before you run:** we change p_1 alone. How many of the six v_i change, with the encoder and without it?

# %%
ENCODERS = {"with encoder": True, "without encoder": False}
counted, parts = [], {}
for name, encoder in ENCODERS.items():
    torch.manual_seed(0)
    fresh = PTuning(soft_template.n_virtual, encoder=encoder)
    with attached(bert, fresh), torch.no_grad():
        v = fresh.vectors().clone()  # (P, C)
        fresh.free[0] += torch.randn(d) * fresh.free[0].std()  # change p_1
        moved = int(((fresh.vectors() - v).abs().amax(dim=1) > 1e-6).sum())
        count = fresh.report()
        for part, module in fresh.named_children():
            parts[part] = sum(p.numel() for p in module.parameters())
    counted.append(
        (name, moved, count.trained, count.trained_fraction, count.stored, count.stored_fraction)
    )
table(
    counted,
    ["P-tuning", "of v_i change", "trained", "of the base", "kept", "of the base"],
    [None, None, ",", ".1%", ",", ".2%"],
)
say(f"The LSTM has {parts['lstm']:,} parameters, and the MLP has {parts['mlp']:,}.")
# two layers; each reads in two directions and has four gates
two_layers = 2 * (4 * d * (d + d) + 8 * d) + 2 * (4 * d * (2 * d + d) + 8 * d)
assert parts["lstm"] == two_layers and parts["mlp"] == (2 * d * d + d) + (d * d + d)
assert counted[0][1] == soft_template.n_virtual and counted[1][1] == 1
assert counted[0][2] > 100 * counted[0][4] and counted[0][3] > 0.5

# %% [markdown]
# With the encoder all six change, without it only one does. Both keep 6 · 128 numbers. But in training the encoder has far
# more parameters than that, more than half as many as our small base. So "few parameters" is true only of what is kept.
#
# *Where the document is not exact.* 001 §3.1.4 writes P-Tuning(Prompt Tuning), as if they were one method. Then it describes
# free vectors in front of the input, with O(md) parameters. This is prompt tuning; it mentions neither a template nor an
# encoder. In one point we are stricter than Liu et al.: on some of their tasks they also tuned the model; here the base
# stays frozen.

# %% [markdown]
# ## Two tasks for P-tuning
#
# We use one template for two tasks and two models. In *styles*, for the GPT, a sentence is written in one of six styles,
# such as a headline or a pirate's speech. Which style is it? In *reviews*, for the BERT: is a review positive or
# negative? The reviews are hard on purpose. Praise and criticism use the same words, and each review has both.
#
# The answer mapping (lesson 7) is made by hand, one word for each label. The loss is the cross-entropy of the labels'
# words in the gap.

# %%
from minitransformer.course.answers import by_hand
from minitransformer.course.hard import label_log_probs, predict
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import last_token
from minitransformer.models.gpt import GPT
from minitransformer.training.losses import cross_entropy_sum

MODEL = {"styles": base, "reviews": bert}
LABEL = {"styles": "style", "reviews": "label"}  # the field that holds it
styles = ("plain", "formal", "headline", "child", "poetic", "pirate")
style_words = ("story", "letter", "news", "boy", "music", "ship")
answers = {
    "styles": by_hand(dict(zip(styles, style_words, strict=True)), tokenizer),
    "reviews": by_hand({"positive": "fine", "negative": "dull"}, tokenizer),
}


def right(template: Template, task: str, split: str) -> float:
    """The fraction of texts whose label is the likeliest in the gap."""
    rows = texts_of[task][split]
    log_probs = label_log_probs(MODEL[task], tokenizer, template, rows, answers[task])
    return metrics.accuracy(predict(log_probs, answers[task]), [row[LABEL[task]] for row in rows])


# %% [markdown]
# Before any training we let the hard template "{text} It was {mask}" answer. The last column is the accuracy of guessing
# plus 1.96 standard errors, the ± of lesson 7. Only above this is a method shown to be better than guessing.
#
# **Predict before you run:** the six styles have answer words such as `story` and `ship`, the reviews `fine` and `dull`.
# On which of the two tasks, if on any, does the hard template answer three quarters of the texts correctly?

# %%
accuracy, guessing = {}, {}
for task, mapping in answers.items():
    accuracy[task, "hard template"] = right(hard_template, task, "valid")
    guess = 1 / len(mapping)
    error = metrics.standard_error(guess, len(texts_of[task]["valid"]))
    guessing[task] = guess + 1.96 * error
table(
    [
        (task, accuracy[task, "hard template"], 1 / len(answers[task]), guessing[task])
        for task in answers
    ],
    ["validation", "hard template right", "guessing", "guessing, upper end"],
    [None, ".1%", ".1%", ".1%"],
)
assert QUICK or all(accuracy[task, "hard template"] < 0.75 for task in answers)

# %% [markdown]
# In a full run it does so on neither task. Compare each row with the upper end of guessing: below it, the hard template
# is not shown to be better than guessing.

# %% [markdown]
# ## Training P-tuning
#
# Now the virtual tokens are trained, for each task with the encoder and without it. The encoder gets a smaller learning
# rate, because each of its parameters changes all v_i. First we need the loss and the batches.

# %%
import math
from functools import partial

from minitransformer.course.batches.classification import LabelledTexts


def gap_loss(model: GPT | Bert, batch: dict, words: list[int]) -> tuple[torch.Tensor, int]:
    """-Σ log p(the label's word | one of the labels' words is in the gap), and how many."""
    ids, mask = batch["ids"], batch["attention_mask"]  # (B, T)
    if model is bert:
        logits = bert.mlm_logits(bert(ids, attention_mask=mask), ids == tokenizer.mask_id)  # (B, V)
    else:
        logits = model(ids, attention_mask=mask, at=last_token(ids, mask))  # (B, V)
    return cross_entropy_sum(logits[:, words], batch["label"])


def labelled(task: str, split: str, batch_size: int) -> LabelledTexts:
    """The texts of a split in the soft template, with their labels."""
    rows, model = texts_of[task][split], MODEL[task]
    if model is bert:
        ids = [soft_template.for_bert(row, tokenizer)[0] for row in rows]
    else:
        ids = [soft_template.for_gpt(row, tokenizer) for row in rows]
    labels, room = [row[LABEL[task]] for row in rows], model.config.n_positions
    return LabelledTexts(ids, labels, list(answers[task]), batch_size, tokenizer.pad_id, room)


# %% [markdown]
# The rest is the training loop, four times. With six styles, guessing is right in 17 % of the cases, and with two kinds of
# reviews in 50 %.
#
# **Predict before you run:** on which of the two tasks will the accuracy rise more over the hard template?

# %%
gap_steps = 3 if QUICK else 150
more = {"weight_decay": 0.0, "eval_every": max(1, gap_steps // 5)}
tuned, gap_curves, chosen = {}, {}, {}
for task, mapping in answers.items():
    loss = partial(gap_loss, words=[ids[0] for own in mapping.values() for ids in own.values()])
    train_batches = labelled(task, "train", 8)
    valid_batches = labelled(task, "valid", 50).in_order()
    for name, lr in (("with encoder", 3e-3), ("without encoder", 3e-2)):
        config = TrainConfig(gap_steps, lr=lr, warmup=gap_steps // 10, **more)
        torch.manual_seed(0)
        tuned[task, name] = PTuning(soft_template.n_virtual, encoder=ENCODERS[name])
        with attached(MODEL[task], tuned[task, name]):
            points = [(0, evaluate(MODEL[task], valid_batches, loss))]
            log = train(MODEL[task], train_batches, config, valid=valid_batches, loss=loss)
            gap_curves[task, name] = points + [(row["step"], row["loss"]) for row in log.valid]
            accuracy[task, name] = right(soft_template, task, "valid")
    chosen[task] = min(ENCODERS, key=lambda name: min(loss for _, loss in gap_curves[task, name]))
with figure(
    "p_tuning", "Validation loss of P-tuning, with and without its encoder.", (10, 4), 1, 2
) as axes:
    for ax, (task, mapping) in zip(axes, answers.items(), strict=True):
        for name, style in (("with encoder", "o-"), ("without encoder", "s--")):
            ax.plot(*zip(*gap_curves[task, name], strict=True), style, label=name)
        ax.axhline(
            math.log(len(mapping)), color="grey", ls=":", label=f"guessing, ln {len(mapping)}"
        )
        ax.set(xlabel="step", title=f"{task}, {type(MODEL[task]).__name__.upper()}")
        ax.legend()
    axes[0].set_ylabel("loss, nats per text")
table(
    [
        (task, name, accuracy[task, name], guessing[task], bar(accuracy[task, name]))
        for task in answers
        for name in ("hard template", *ENCODERS)
    ],
    ["validation", "template", "right", "guessing, upper end", ""],
    [None, None, ".1%", ".1%", None],
)
assert fingerprint(base) == before and fingerprint(bert) == bert_before
rise = {task: accuracy[task, chosen[task]] - accuracy[task, "hard template"] for task in answers}
assert QUICK or (rise["styles"] > max(0, rise["reviews"]))
assert QUICK or accuracy["styles", chosen["styles"]] > guessing["styles"]

# %% [markdown]
# In a full run it rises more on the styles. There P-tuning is better than guessing and better than the hard template. For
# the reviews, compare with the upper end of guessing: below it, six vectors and these few steps are not shown to solve
# the task with the frozen model. On each task we continue with the variant of the lower validation loss.

# %% [markdown]
# ## Dropped, saved, loaded
#
# `save` writes what a user of the tuned model needs: the v_i, as they come out of the encoder, and the fingerprint of
# the base. When they are loaded again, they are free vectors, and the outputs must be the same.
#
# **Predict before you run:** a number takes four bytes. Which of the two files is larger, the file of the prompt with 10
# vectors, or the file of P-tuning, which was trained with 6 vectors and an encoder?

# %%
from minitransformer.tuning import load

folder = ROOT / "figures" / "lesson_08"
folder.mkdir(parents=True, exist_ok=True)
some = labelled("reviews", "valid", 8).in_order()[0]
to_bert = {"ids": some["ids"], "attention_mask": some["attention_mask"]}
cases = {
    "prompt": (base, prompts[better], {"ids": torch.tensor([one])}),
    "p_tuning": (bert, tuned["reviews", "with encoder"], to_bert),
}
saved = []
for name, (model, method, given) in cases.items():
    path = folder / f"{name}.safetensors"
    with torch.inference_mode(), attached(model, method):
        before_saving = model(**given)
        method.save(path)
    again = load(path, model)
    with torch.inference_mode():
        difference = (model(**given) - before_saving).abs().max().item()
    saved.append((path.name, again.report().stored, path.stat().st_size, difference))
    again.detach()
table(
    saved,
    ["file", "numbers", "bytes", "loaded, the outputs differ by"],
    [None, ",", ",", ".0e"],
)
assert all(row[-1] < 1e-4 for row in saved) and saved[1][2] < saved[0][2]

# %% [markdown]
# P-tuning's file is the smaller one, because the encoder is not in it.
#
# Next we load the file that was made for the BERT onto the GPT. The two models have the same width, so the vectors would
# fit.
#
# **Predict before you run:** does it load?

# %%
from minitransformer.errors import UserError

try:
    load(folder / "p_tuning.safetensors", base)
except UserError as error:
    refusal = str(error).replace(str(folder), "…")
say(f"It says: “{refusal}”")
assert refusal, "a prompt went onto a base that it was not made for"

# %% [markdown]
# It does not load. The fingerprint shows that it is the wrong base.

# %% [markdown]
# ## Three names, three things
#
# Three methods have been named so far:
#
# - prompt tuning (提示微调): vectors in front, at the input;
# - P-tuning: vectors inside a template, made by an encoder;
# - prefix tuning (前缀微调): keys and values in every layer, which is lesson 9.
#
# The documents mix these names:
#
# - 000 §1.3 and §2.1 say *prefix* and describe vectors at the input, in front of x. That is prompt tuning.
# - 001 §3.1.4 says *P-Tuning* and describes prompt tuning.
# - 002 §核心思想 and §工作流程 say *prefix*, in front of the input (在模型的输入前), with the dimension of the input
#   embeddings (与模型的输入嵌入维度相同). That is prompt tuning. But the library that its program calls trains keys and
#   values. And 002 §对比 puts "Prompt Tuning / P-tuning" into one column and Prefix-Tuning into another, with few (少量)
#   parameters in both.
#
# We measure the difference. *Enter* is the number of rows that enter the first layer for an input of T tokens. *Read* is
# the number of keys that its attention reads.
#
# **Predict before you run:** for which of the methods do *enter* and *read* differ?

# %%
from minitransformer.models.watch import watch_attention
from minitransformer.tuning import FullFineTuning, PrefixTuning

compared = {
    "prompt tuning": PromptTuning(m),
    "P-tuning": PTuning(m),
    "prefix tuning": PrefixTuning(m),
    "prefix tuning with an MLP": PrefixTuning(m, reparametrise=512),
    "full fine-tuning": FullFineTuning(),
}
found = {}
for name, method in compared.items():
    inside = [*one[:-1], *virtual_ids(m), one[-1]]  # P-tuning needs its places in the text
    given = torch.tensor([inside if name == "P-tuning" else one])  # (1, T), or (1, P+T)
    torch.manual_seed(0)
    with attached(base, method), torch.inference_mode(), watch_attention(base) as maps:
        base(given)
        enter, read = maps["blocks.0.attention"][0].shape[-2:]
        count = method.report()
    more = (enter - len(one), read - len(one))
    found[name] = (*more, count.trained, count.stored, count.stored_fraction)
table(
    [(name, *row) for name, row in found.items()],
    ["m = 10", "enter: T +", "read: T +", "trained", "kept", "of the base"],
    [None, None, None, ",", ",", ".2%"],
)
assert found["prefix tuning"][:2] == (0, m) and found["prompt tuning"][:2] == (m, m)
assert found["P-tuning"][:2] == (m, m) and found["full fine-tuning"][:2] == (0, 0)
assert found["prefix tuning"][3] == 2 * base.config.n_layer * found["prompt tuning"][3]

# %% [markdown]
# They differ only for a prefix: its keys are read, but no rows enter. The table of 002 §对比 does not separate what is
# *trained* from what is *kept*. A prefix keeps 2L = 8 times as many parameters as a prompt of the same length. And where
# an encoder or an MLP is trained as well, what is trained is not "few".
#
# The place of the vectors has one more consequence. 000 §5 puts its vectors in front of the whole input of a BERT. But
# what a BERT says about a whole text is read at index 0, where [CLS] should stand (lesson 4). There are two orders:
#
#     ⟨1⟩ … ⟨5⟩ [CLS] text [SEP]
#     [CLS] ⟨1⟩ … ⟨5⟩ text [SEP]
#
# We build both by hand and compare the output at index 0 with the output of a BERT with `PromptTuning`.
#
# **Predict before you run:** which of the two orders should `PromptTuning` use? Does it?

# %%
review = tokenizer.encode(" " + texts_of["reviews"]["valid"][0]["text"])
text = [tokenizer.cls_id, *review, tokenizer.sep_id]
torch.manual_seed(0)
prompt = PromptTuning(5)
with torch.inference_mode():
    with attached(bert, prompt):
        by_method = bert(torch.tensor([text]))[0, 0]  # (C)
    orders = {
        "⟨1⟩ … ⟨5⟩ [CLS] text [SEP]": virtual_ids(5) + text,
        "[CLS] ⟨1⟩ … ⟨5⟩ text [SEP]": text[:1] + virtual_ids(5) + text[1:],
    }
    differences = {}
    for name, ids in orders.items():
        by_order = bert(torch.tensor([ids]), vectors=prompt.vectors())[0, 0]  # (C)
        differences[name] = (by_order - by_method).abs().max().item()
table(
    [(name, shown([ids[0]]), differences[name]) for name, ids in orders.items()],
    ["order", "at index 0", "differs from PromptTuning by"],
    [None, None, ".0e"],
)
front, behind = differences.values()
assert behind < 1e-5 < 1e-2 < front

# %% [markdown]
# It puts the vectors after [CLS], as it should. In the other order a virtual token stands at index 0.

# %% [markdown]
# ## Once, on the test
#
# We made two choices by validation loss: how the prompt begins, and whether P-tuning has an encoder. Now we measure
# once on texts by which nothing was chosen.
#
# **Predict before you run:** will the numbers be near those of validation?

# %%
tests = {"untouched": generate_texts(base, tokenizer, x["test_seen"], MOST)}
with attached(base, prompts[better]):
    tests["prompt tuning"] = generate_texts(base, tokenizer, x["test_seen"], MOST)
on_test = []
for task in answers:
    on_test.append((task, "hard template", right(hard_template, task, "test")))
    with attached(MODEL[task], tuned[task, chosen[task]]):
        on_test.append((task, f"P-tuning {chosen[task]}", right(soft_template, task, "test")))
table(
    [(name, *table_scores(written, tables["test_seen"])) for name, written in tests.items()],
    ["tables, test", *MEASURES],
    [None, *FORMATS],
)
table(
    [(*row, bar(row[2])) for row in on_test],
    ["test", "template", "right", ""],
    [None, None, ".1%", None],
)
assert QUICK or all(
    abs(row[2] - accuracy[row[0], row[1].removeprefix("P-tuning ")]) < 0.1 for row in on_test
)

# %% [markdown]
# In a full run the accuracies on the test differ from those on validation by less than ten points. We made only two
# choices, so the validation results were not much too good.

# %% [markdown]
# ## The answer
#
# They need not be words. The model reads a word only as a vector, and vectors can be trained while the model stays as it
# is. Ten of them steer it to another task. The price is that nobody can read them.
#
# To try next:
#
# - Set m to 1, then to 40. Does the loss go on falling? (Lester et al. saw little gain beyond 20.)
# - Start as `init=tokenizer.encode("The same in other words: ")`. Is this better than words drawn by chance?
# - Put the virtual tokens elsewhere: `Template("{text} {virtual:6} It was {mask}")`. Does the place matter?
#
# Exercises: `make start-8` writes the stubs of this lesson's exercises to `workbook/lesson_08.py`, and `make check-8`
# checks them. Lesson 9 trains keys and values in every layer.
#
# Further reading: "The Power of Scale for Parameter-Efficient Prompt Tuning" (Lester et al., 2021); "GPT Understands,
# Too" (Liu et al., 2021); "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021).
