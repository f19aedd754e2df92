"""An encoder–decoder that translates

question: How can a model write one text while it reads another, and say in Chinese what stands there in English?
minutes: 1
documents: 004 §2.1 大语言模型的架构; 003 §3.1 Problem Statement; 000 §2.3 前缀微调的应用场景
needs: 3, 4, 5
"""

# %% [markdown]
# ## Two languages
#
# The GPT of lesson 3 writes what it likes. A translator has to say what somebody else has said: beside the text that it
# writes, the target (目标), there is one that it reads, the source (源). Ours are short English sentences and their Chinese
# translations (机器翻译 machine translation, 000 §2.3), from the tiny world.
#
# The two do not go word by word. Chinese puts time and place before the verb, has no articles and no endings, and counts
# things with measure words (量词). And every sentence names somebody or some town: names are spelled by sound, a character
# for each syllable, and no name of the validation text occurs in training.
#
# **Predict before you run:** in the first sentence, which word moves the furthest?

# %%
import re

import torch
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.show import QUICK, bar, chinese_font, figure, say, table, verbatim
from minitransformer.text.corpora import read_jsonl

pairs = {
    split: read_jsonl(DATA / "tasks" / "translation" / f"{split}.jsonl", ["en", "zh"])
    for split in ("train", "valid", "test")
}
if QUICK:
    pairs["valid"], pairs["test"] = pairs["valid"][:40], pairs["test"][:40]
PAST = "yesterday|this morning|last night|last week|on Monday|on Wednesday"
PLACED = rf"(?!It ).* (in|at|by) .*({PAST})\.$"  # somebody did something somewhere, some time ago
shown = [pair for pair in pairs["train"] if re.match(PLACED, pair["en"])][:2] + pairs["train"][:4]
table([(pair["en"], pair["zh"]) for pair in shown], ["English", "Chinese"])
say(", ".join(f"{len(part):,} pairs in {split}" for split, part in pairs.items()) + ".")

# %% [markdown]
# ## Names in pieces
#
# What does the model get to see of a name? Not its syllables: the tokens of lesson 1 were cut by how often letters stand
# together. Chinese characters are tokens of their own where they are frequent, and two or three bytes where they are
# not.
#
# **Predict before you run:** will a name be cut where its syllables are?

# %%
from minitransformer.course.tinyworld.names import syllables_of, transliterate

tokenizer = default_tokenizer()


def names_in(text: str) -> list[str]:
    """The invented names in an English sentence."""
    words = (word.removesuffix("'s") for word in text.strip(".?").replace(",", "").split())
    return [word for word in words if word[0].isupper() and syllables_of(word)]


def pieces_of(name: str, text: str) -> list[str]:
    """The tokens of a name as it stands in a sentence: at its beginning, or after a space."""
    return [
        tokenizer.token(i) for i in tokenizer.encode(name if text.startswith(name) else " " + name)
    ]


def cut_at_syllables(name: str, text: str) -> bool:
    """Whether the tokens of a name in a sentence are its syllables."""
    return [piece.strip("␣").lower() for piece in pieces_of(name, text)] == syllables_of(name)


ids = {
    split: [tokenizer.encode_batch([pair[side] for pair in part]) for side in ("en", "zh")]
    for split, part in pairs.items()
}
names = {
    split: {name for pair in part for name in names_in(pair["en"])} for split, part in pairs.items()
}
rows = []
for pair in pairs["valid"][:5]:
    name = names_in(pair["en"])[0]
    rows.append(
        (
            name,
            " ".join(pieces_of(name, pair["en"])),
            " ".join(syllables_of(name)),
            transliterate(name),
        )
    )
table(rows, ["name", "tokens", "syllables", "Chinese"])
cuts = [
    cut_at_syllables(name, pair["en"]) for pair in pairs["valid"] for name in names_in(pair["en"])
]
say(
    f"The validation text has {len(names['valid'])} names, {len(names['valid'] & names['train'])} of them in training too. They stand "
    f"there {len(cuts)} times, {sum(cuts) / len(cuts):.0%} cut at their syllables. A sentence has {sum(map(len, ids['train'][0])) / len(pairs['train']):.1f} "
    f"tokens in English and {sum(map(len, ids['train'][1])) / len(pairs['train']):.1f} in Chinese."
)
assert not names["valid"] & names["train"] and not names["test"] & (names["train"] | names["valid"])

# %% [markdown]
# ## Why two stacks
#
# A GPT could do it: put the source x in front of the target y, z = [x; y], and go on writing (003 §3.1). But the source is
# all there before the first word is written, so why should its first word not see its last, as in lesson 4's encoder? The
# encoder–decoder (编码器–解码器, 004 §2.1) gives each text a stack of layers of its own:
#
#     c = Encoder(x)
#     p(y_{t+1} | y_≤t, x) = softmax(W Decoder(y_≤t, c))
#
# c holds a vector for each token of x: the encoder only reads. A token of y sees what stands before it, and all of c: the
# decoder is lesson 3's GPT with one more attention in each layer.
#
# Where the document is loose: 003 §3.1 says of this case only that x and y are split. But h_i of the source is then no
# longer LM(z_i, h_<i), for it depends on what comes after i too.
#
# Lesson 4 told a GPT and a BERT apart by changing one token. Here both kinds are in one model, and the same probe tells its
# two stacks apart: change the last token of a text, and see whether its first vector moves.
#
# **Predict before you run:** which of the two first vectors moves?

# %%
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig

torch.manual_seed(0)
config = Seq2SeqConfig(
    vocab_size=tokenizer.n_vocab,
    n_positions=64,
    pad_id=tokenizer.pad_id,
    start_id=tokenizer.bos_id,
    end_id=tokenizer.eot_id,
)
model = Seq2Seq(config).eval()
x, y = (torch.tensor([ids["valid"][side][0]]) for side in (0, 1))  # (1, S), (1, T)
other_x, other_y = (torch.cat([text[:, :-1], text[:, -1:] - 1], dim=1) for text in (x, y))
with torch.inference_mode():
    c = model.encode(x)  # (1, S, C)
    moved = {
        "source (encoder)": (model.encode(other_x) - c)[0, 0].abs().max().item(),
        "target (decoder)": (model.decode(other_y, c) - model.decode(y, c))[0, 0]
        .abs()
        .max()
        .item(),
    }
table(moved.items(), ["last token changed in the", "first position moves by"], [None, ".4f"])
parts = {
    "token table (and W)": "token_embedding",
    "positions": "_positions",
    "encoder": "encoder.",
    "decoder": "decoder.",
}
counts = {
    part: sum(p.numel() for name, p in model.named_parameters() if key in name)
    for part, key in parts.items()
}
total = sum(p.numel() for p in model.parameters())
table(
    [(part, n, bar(n / total)) for part, n in counts.items()],
    ["part", "parameters", ""],
    [None, ",", None],
)
say(
    f"{total:,} parameters in all; {config.n_encoder_layer} + {config.n_decoder_layer} layers, C = {config.d_model}."
)
assert moved["source (encoder)"] > 1e-3 and moved["target (decoder)"] == 0

# %% [markdown]
# ## Cross-attention
#
# The one more attention is cross-attention (交叉注意力). It is lesson 2's formula, but who asks and who is read are two
# different texts: queries from the target's vectors X, keys and values from the source's vectors c.
#
#     Q = X W^Q     K = c W^K     V = c W^V
#     Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V
#
# T tokens ask, S tokens are read, so there are T × S weights for each head. No causal mask: the source may be read
# anywhere, at any time. In the code it is the same module as ever, called with a `context`.
#
# **Predict before you run:** S and T are printed in the first line. What shape have the answers?

# %%
from minitransformer.models.attention import attend_by_formula, merge_heads, split_heads

cross = model.decoder[0].cross
X = torch.randn(
    1, y.size(1), config.d_model
)  # (B, T, C)  what the decoder knows so far; any numbers will do
C = config.d_model
with torch.inference_mode():
    (Q,) = split_heads(X @ cross.qkv.weight[:C].T, 1, config.n_head)  # (B, H, T, D)
    K, V = split_heads(c @ cross.qkv.weight[C:].T, 2, config.n_head)  # (B, H, S, D)
    answer, weights = attend_by_formula(Q, K, V)  # (B, H, T, D), (B, H, T, S)
    by_hand = cross.out(merge_heads(answer))  # (B, T, C); fresh biases are 0
    difference = (by_hand - cross(X, context=c)).abs().max().item()
verbatim(f"S = {x.size(1)}, T = {y.size(1)}")
for name, tensor in (
    ("X", X),
    ("c", c),
    ("Q", Q),
    ("K and V", K),
    ("weights", weights),
    ("answers", by_hand),
):
    verbatim(f"{name:8} {tuple(tensor.shape)}")
say(f"By hand and by the module they differ by {difference:.0e}.")
assert difference < 1e-5

# %% [markdown]
# ## Start, end, and a shift
#
# Lesson 3 shifted by one: read so far, say the next. Here the first target token has nothing before it in its own language,
# so a start token (起始符) stands there, written `▶` below; and the model must say when it is done, so the last thing it has
# to say is an end token (结束符), `⏹`. For a target of n tokens the decoder reads [▶, y] and has to say [y, ⏹], n + 1 exercises
# in one pass. What it reads is always the true beginning, whatever it would have said itself (teacher forcing).
#
# **Predict before you run:** how many rows will the table have for this target?

# %%
from minitransformer.text.batches.translation import translation_batch
from minitransformer.training.losses import seq2seq_loss

MARKS = {config.start_id: "▶", config.end_id: "⏹", config.pad_id: "·"}


def token(i: int) -> str:
    """A token for the eye, special ones as a sign."""
    return MARKS.get(i) or tokenizer.token(i)


batch = translation_batch(*(ids["valid"][side][:1] for side in (0, 1)), config)
row = batch["ids"][0].tolist()  # [start, y, end]
say(f"Source: {' '.join(map(token, batch['source'][0].tolist()))}")
table(
    [(t + 1, " ".join(map(token, row[: t + 1])), token(row[t + 1])) for t in range(len(row) - 1)],
    ["t", "reads", "has to say"],
)
summed, count = seq2seq_loss(model, batch)
say(f"{count} exercises for a target of {len(ids['valid'][1][0])} tokens.")
assert count == len(ids["valid"][1][0]) + 1

# %% [markdown]
# ## Padding on both sides
#
# The sentences of a batch differ in length, twice: as sources and as targets. The shorter ones are padded on the right, as in
# lesson 5, and three things keep it from mattering: nobody reads the source's padding, in the encoder or from the
# decoder (`source_mask`); the target's padding comes after all real tokens, so that causality hides it; and it gets no
# loss (its label says: ignore).
#
# It should change nothing: not what the padding *is*, and not whether a sentence has any. We measure both, and what
# happens to those who forget the mask.
#
# **Predict before you run:** which of the three rows is not (nearly) 0?

# %%
from minitransformer.text.batches.translation import TranslationBatches, eval_translation_batches

with torch.inference_mode():
    alone = translation_batch([ids["valid"][0][0]], [ids["valid"][1][0]], config)
    longest = max(
        range(len(pairs["valid"])), key=lambda i: len(ids["valid"][0][i]) + len(ids["valid"][1][i])
    )
    both = translation_batch(
        *([ids["valid"][side][i] for i in (0, longest)] for side in (0, 1)), config
    )
    garbage = both | {"source": torch.where(both["source_mask"], both["source"], 7)}
    garbage["ids"] = torch.where(both["attention_mask"], both["ids"], 7)
    forgotten = both | {"source_mask": None}

    def scores(batch: dict) -> torch.Tensor:
        """Logits of the first sentence where it has tokens, (T, V)."""
        out = model(
            batch["ids"],
            attention_mask=batch["attention_mask"],
            source=batch["source"],
            source_mask=batch["source_mask"],
        )
        return out[0, : alone["ids"].size(1)]  # (T, V)

    changes = {
        "padded, against alone": (scores(both) - scores(alone)).abs().max().item(),
        "another padding token": (scores(garbage) - scores(both)).abs().max().item(),
        "padded, mask forgotten": (scores(forgotten) - scores(alone)).abs().max().item(),
    }
verbatim(
    " ".join(
        [
            " ".join(map(token, both["source"][0].tolist())),
            "│",
            " ".join(map(token, both["ids"][0].tolist())),
        ]
    )
)
table(changes.items(), ["first sentence of two", "largest change of a score"], [None, ".1e"])
assert (
    changes["padded, against alone"] < 1e-4
    and changes["another padding token"] < 1e-4 < changes["padded, mask forgotten"]
)

# %% [markdown]
# What padding does cost is time: it is computed like everything else. So pairs of similar length go together: an epoch
# is shuffled, cut into pools of five batches, and each pool is sorted before it is cut into batches.

# %%
filled = {}
for name, pool in (("drawn at random", 1), ("similar lengths together", 5)):
    batches = TranslationBatches(*ids["train"], config, batch_size=16, seed=0, pool=pool)
    some = [batches(i) for i in range(100)]
    real = sum(int(b["source_mask"].sum() + b["attention_mask"].sum()) for b in some)
    filled[name] = real / sum(b["source"].numel() + b["ids"].numel() for b in some)
table(
    [(name, share, bar(share)) for name, share in filled.items()],
    ["batches of 16", "real tokens", ""],
    [None, ".0%", None],
)

# %% [markdown]
# ## Before training
#
# To translate, the decoder starts from ▶, and what it says is fed back to it until it says ⏹; the source is encoded once
# (`minitransformer/generation/sampling.py`, as in lesson 3, greedy). Three measures, each against the one reference: BLEU counts
# which runs of one to four characters the reference has too; chrF takes runs of up to six, and asks also how much of the
# reference was said; both go from 0 to 100. *exact* is the share of sentences that are the reference to the last character.
#
# **Predict before you run:** what will a fresh model say, and what is its BLEU?

# %%
from minitransformer import metrics
from minitransformer.generation.sampling import generate
from minitransformer.text.batches import pad_right

MOST = max(map(len, ids["train"][1])) + 8  # tokens to write; no training target has so many


def inputs(split: str) -> dict:
    """All sources of a split, padded, and a start token for each."""
    source, attention_mask = pad_right(ids[split][0], config.pad_id)  # (B, S), (B, S)
    return {
        "prompts": [[config.start_id]] * len(source),
        "source": source,
        "source_mask": attention_mask,
    }


def translate(split: str) -> list[str]:
    """Greedy translations of a split."""
    out = generate(model, max_new_tokens=MOST, stop_id=config.end_id, **inputs(split))
    return [tokenizer.decode(row) for row in out]


def judge(texts: list[str], split: str = "valid") -> tuple[float, float, float]:
    """BLEU, chrF and the share of exact translations."""
    right = [pair["zh"] for pair in pairs[split]]
    one_each = [[text] for text in right]
    return (
        metrics.bleu(texts, one_each, chinese=True),
        metrics.chrf(texts, one_each),
        metrics.accuracy(texts, right),
    )


before = translate("valid")
table([("fresh", *judge(before))], ["model", "BLEU", "chrF", "exact"], [None, ".1f", ".1f", ".1%"])
say("> " + before[0][:60])

# %% [markdown]
# ## Training
#
# The loop of lesson 3, the loss Σ log p of 003 §3.1 over the target alone: nothing is asked of the source.
#
# Beside the usual validation loss we take a second one, in which every target gets the source of another sentence. Whoever
# does not read the source has the same loss in both: a mere language model of Chinese. The distance between the two is
# what reading is worth.
#
# **Predict before you run:** what is learned first, to write Chinese or to read English?

# %%
import math

from minitransformer.training.loop import TrainConfig, evaluate, train

steps = 20 if QUICK else 800
batches = TranslationBatches(*ids["train"], config, batch_size=16, seed=0, pool=5)
valid = eval_translation_batches(*ids["valid"], config, batch_size=50)
sources = ids["valid"][0]
swapped = eval_translation_batches(
    sources[1:] + sources[:1], ids["valid"][1], config, batch_size=50
)
curves = {
    "its own source": [(0, evaluate(model, valid, seq2seq_loss))],
    "another's source": [(0, evaluate(model, swapped, seq2seq_loss))],
}


young: dict[str, torch.Tensor] = {}  # the weights at a third of the way, for later


def compare(step: int, loss: float) -> None:
    """Note both losses."""
    if not young and 3 * step >= steps:
        young.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
    curves["its own source"].append((step, loss))
    curves["another's source"].append((step, evaluate(model, swapped, seq2seq_loss)))


log = train(
    model,
    batches,
    TrainConfig(
        steps=steps, lr=2e-3, warmup=steps // 14, final_lr=0.02, eval_every=max(1, steps // 14)
    ),
    valid=valid,
    loss=seq2seq_loss,
    on_eval=compare,
)
smooth = max(1, steps // 50)
means = [
    sum(row["loss"] for row in log.train[i : i + smooth]) / smooth
    for i in range(0, steps - smooth + 1, smooth)
]
with figure(
    "loss",
    "Validation loss with the right source and with another sentence's; their distance is what reading is worth.",
) as axes:
    axes.plot(
        [smooth * (i + 0.5) for i in range(len(means))],
        means,
        color="lightgrey",
        label=f"training (means of {smooth} steps)",
    )
    for (name, points), style in zip(curves.items(), ("o-", "s--"), strict=True):
        axes.plot(*zip(*points, strict=True), style, label=f"validation, {name}")
    axes.axhline(
        math.log(config.vocab_size), color="grey", linestyle=":", label="knowing nothing, ln V"
    )
    axes.set(xlabel="step", ylabel="loss, nats per target token", ylim=(0, None))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.12))
(_, own), (_, others) = (points[-1] for points in curves.values())
parted = next(
    (step for (step, a), (_, b) in zip(*curves.values(), strict=True) if b - a > 0.5), None
)
say(
    f"{steps} steps of 16 pairs, {steps * 16 / len(pairs['train']):.1f} epochs in {log.seconds:.0f} s. At the end the loss is {own:.3f} "
    f"nats a token with its own source, {others:.3f} with another's."
    + (
        f" The two are half a nat apart from step {parted} on."
        if parted
        else " The two have not parted yet."
    )
)
assert QUICK or others > own + 2

# %% [markdown]
# ## After training
#
# **Predict before you run:** what will be harder, word order or names?

# %%
after = translate("valid")
table(
    [("fresh", *judge(before)), ("trained", *judge(after))],
    ["model", "BLEU", "chrF", "exact"],
    [None, ".1f", ".1f", ".1%"],
)
table(
    [
        (pair["en"], text, "✓" if text == pair["zh"] else pair["zh"])
        for pair, text in list(zip(pairs["valid"], after, strict=True))[:8]
    ],
    ["English", "the model", "right"],
)

# %% [markdown]
# ## Names, a character for each syllable
#
# None of these names was seen in training, so none can be known by heart. The model has to find the name's letters in the
# source, cut anywhere, put the syllables together again, and say a character for each. A name is right if its Chinese
# form stands in the translation.
#
# **Predict before you run:** what share of the names is right?


# %%
def check_names(texts: list[str], split: str) -> list[tuple[bool, bool]]:
    """For every name of a split's sentences whether it is cut at its syllables, and whether its translation is right."""
    return [
        (cut_at_syllables(name, pair["en"]), transliterate(name) in text)
        for pair, text in zip(pairs[split], texts, strict=True)
        for name in names_in(pair["en"])
    ]


def share_right(checked: list[tuple[bool, bool]]) -> float:
    """The share of names that are right."""
    return sum(right for _, right in checked) / len(checked)


checked = check_names(after, "valid")
kinds = {
    "all": checked,
    "cut at their syllables": [pair for pair in checked if pair[0]],
    "cut elsewhere": [pair for pair in checked if not pair[0]],
}
table(
    [(kind, len(some), share_right(some)) for kind, some in kinds.items()],
    ["names", "number", "right"],
    [None, "d", ".1%"],
)
wrong = [
    (pair["en"], text, pair["zh"])
    for pair, text in zip(pairs["valid"], after, strict=True)
    if text != pair["zh"]
]
misnamed = sum(
    any(transliterate(name) not in text for name in names_in(source)) for source, text, _ in wrong
)
say(f"{len(wrong)} of {len(after)} sentences are not exact; in {misnamed} of them a name is wrong.")
table(wrong[:6], ["English", "the model", "right"])

# %% [markdown]
# ## What the decoder reads
#
# The weights of cross-attention say which source tokens were read when a target token was said: an alignment (对齐), which
# nobody taught. We draw one sentence that has a place and a time at its end, where English puts them; Chinese wants them
# before the verb. A character that is two or three tokens gets one row.
#
# Where no installed font can draw Chinese, the rows are numbered, and the table below says what the numbers stand for.
#
# **Predict before you run:** read the rows from top to bottom. Where does the bright spot jump back to the left?

# %%
from minitransformer.models.watch import watch_attention

picked = next(i for i, pair in enumerate(pairs["valid"]) if re.match(PLACED, pair["en"]))
given = ids["valid"][0][picked]
said = generate(
    model, [[config.start_id]], MOST, stop_id=config.end_id, source=torch.tensor([given])
)[0]
with torch.inference_mode(), watch_attention(model.decoder) as maps:
    model(torch.tensor([[config.start_id, *said]]), source=torch.tensor([given]))
reads = torch.stack(
    [maps[f"{layer}.cross"][0][0].mean(0) for layer in range(config.n_decoder_layer)]
)  # every row: T to S

groups, start = [], 0  # runs of tokens that are whole characters together
for end in range(1, len(said) + 1):
    if "\ufffd" not in tokenizer.decode(said[start:end]):
        groups, start = [*groups, range(start, end)], end
groups.append(range(start, len(said) + 1))  # what is left, and the end token
written = [
    tokenizer.decode(said[g.start : g.stop]) + ("⏹" if g.stop > len(said) else "") for g in groups
]
rows_read = torch.stack(
    [reads[:, g.start : g.stop].mean(1) for g in groups], dim=1
)  # of each layer
english = [tokenizer.token(i) for i in given]
labels = [f"{n}  {text}" if chinese_font() else str(n) for n, text in enumerate(written, 1)]
labels[-1] = labels[-1].replace("⏹", "(end)")
height = 1.6 + 0.36 * len(written)
with figure(
    "alignment",
    "What the decoder reads (columns) when it says each part of its translation (rows, "
    + (
        "in Chinese"
        if chinese_font()
        else "numbered as in the table below, for want of a Chinese font"
    )
    + "); means over the heads.",
    (10, height),
    1,
    config.n_decoder_layer,
) as axes:
    for layer, ax in enumerate(axes):
        ax.imshow(rows_read[layer], vmin=0, vmax=1, aspect="auto")
        ax.grid(False)
        ax.set_title(f"decoder layer {layer + 1}")
        ax.set_xticks(range(len(english)), english, rotation=60, ha="right", fontsize=9)
        ax.set_yticks(range(len(written)), labels if layer == 0 else [])
sharpest = int(rows_read.max(-1).values.mean(-1).argmax())
most = rows_read[sharpest].max(-1)
say(f"> {pairs['valid'][picked]['en']}")
table(
    [
        (n, text, english[at], share, bar(share, width=20))
        for n, (text, at, share) in enumerate(
            zip(written, most.indices.tolist(), most.values.tolist(), strict=True), 1
        )
    ],
    ["row", "it says", "and reads most", "weight", ""],
    [None, None, None, ".2f", None],
)
jumps = sum(b < a for a, b in zip(most.indices.tolist(), most.indices.tolist()[1:], strict=False))
say(
    f"(Decoder layer {sharpest + 1}, whose weights are the sharpest.) From row to row the place that is read most jumps back to the left {jumps} "
    "time"
    + "s"
    * (jumps != 1)
    + ": the source is read in Chinese order. The weights show where was read, not what was taken from there: what an encoder "
    "vector holds may come from its neighbours."
)
assert QUICK or jumps > 0

# %% [markdown]
# ## Beam search
#
# Greedy decoding takes the likeliest token each time, and may so miss the likeliest text. Beam search (束搜索) keeps the k
# likeliest beginnings side by side and lets each go on in every way. Its measure of a text of |y| tokens, ⏹ among them:
#
#     score(y) = Σ_t log p(y_t | y_<t, x) / |y|^α
#
# Every token adds a negative number to the sum, so with α = 0 short texts are preferred; the length penalty (长度惩罚) α makes
# up for it. With k = 1 it is greedy decoding.
#
# A search can only help where the model is in doubt. So we search twice: with our model, and with itself when young, from
# the weights that it had a third of the way through training.
#
# **Predict before you run:** in how many of a hundred sentences will a beam of 4 find another text than greedy?

# %%
import time

from minitransformer.generation.beam import beam_search


def search(model: Seq2Seq, k: int, alpha: float, split: str = "valid") -> dict:
    """The best translations that a beam search finds, their Σ log p, their lengths with ⏹, and the seconds it took."""
    began = time.perf_counter()
    found = beam_search(
        model,
        max_new_tokens=MOST,
        n_beam=k,
        length_penalty=alpha,
        stop_id=config.end_id,
        **inputs(split),
    )
    seconds = time.perf_counter() - began
    best = [hypotheses[0] for hypotheses in found]
    lengths = [min(len(text.tokens) + 1, MOST) for text in best]
    sums = [text.score * n**alpha for text, n in zip(best, lengths, strict=True)]
    texts = [tokenizer.decode(text.tokens) for text in best]
    return {"texts": texts, "sums": sums, "lengths": lengths, "seconds": seconds}


young_model = Seq2Seq(config)
young_model.load_state_dict(young)
found = {
    ("young", k, alpha): search(young_model, k, alpha)
    for k, alpha in ((1, 0.0), (4, 0.0), (4, 1.0), (4, 2.0))
}
found |= {("trained", k, alpha): search(model, k, alpha) for k, alpha in ((1, 0.0), (4, 1.0))}
rows = []
for (which, k, alpha), result in found.items():
    other = [a != b for a, b in zip(result["texts"], found[which, 1, 0.0]["texts"], strict=True)]
    mean = {
        name: sum(values) / len(other)
        for name, values in (
            ("sums", result["sums"]),
            ("lengths", result["lengths"]),
            ("other", other),
        )
    }
    rows.append(
        (
            which,
            "greedy" if k == 1 else f"beam {k}, α = {alpha:g}",
            *judge(result["texts"]),
            *mean.values(),
            result["seconds"],
        )
    )
table(
    rows,
    ["model", "search", "BLEU", "chrF", "exact", "Σ log p", "|y|", "other text", "s"],
    [None, None, ".1f", ".1f", ".1%", ".2f", ".2f", ".1%", ".1f"],
)
assert found["trained", 1, 0.0]["texts"] == after, "a beam of one should be greedy decoding"

# %% [markdown]
# Side by side, with their sums, where the young model's searches part (k = 4, α = 1). Is the text that was found likelier?
# And is it better? (α = 1 compares means, so that a longer text may win with a smaller sum.)
#
# A few sentences more or less may be chance. If the beam did not matter, each sentence that only one of the two got right
# would be a coin toss, and p is the probability that tosses come out at least as one-sided (sign test, 符号检验).

# %%
right = [pair["zh"] for pair in pairs["valid"]]
for which in ("young", "trained"):
    greedy, wide = found[which, 1, 0.0], found[which, 4, 1.0]
    parting = [i for i in range(len(right)) if greedy["texts"][i] != wide["texts"][i]]
    if which == "young":
        for i in parting[:3]:
            say(f"> {pairs['valid'][i]['en']}")
            for name, result in (("greedy", greedy), ("beam", wide)):
                say(
                    f"    {name:7} {result['sums'][i]:7.2f}  {result['texts'][i]}"
                    + ("  ✓" if result["texts"][i] == right[i] else "")
                )
            say(f"    {'right':15}  {right[i]}\n")
    likelier = sum(wide["sums"][i] > greedy["sums"][i] for i in parting)
    better, worse = (
        sum(result["texts"][i] == right[i] for i in parting) for result in (wide, greedy)
    )
    n = better + worse
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(min(better, worse) + 1)) / 2**n)
    verdict = (
        "too little to tell from chance"
        if p > 0.05
        else "it helps"
        if better > worse
        else "it harms"
    )
    say(
        f"The {which} model: another text for {len(parting)} of {len(right)} sentences, a likelier one for {likelier} of these; {better} became "
        f"exact and {worse} ceased to be: {100 * (better - worse) / len(right):+.1f} points of exact sentences (p = {p:.2f}, {verdict}), in "
        f"{wide['seconds'] / greedy['seconds']:.1f} times the time.\n"
    )
lengths = [sum(found["young", 4, alpha]["lengths"]) / len(right) for alpha in (0.0, 1.0, 2.0)]
say(
    f"And α: with 0, 1 and 2 the young model's texts have {lengths[0]:.2f}, {lengths[1]:.2f} and {lengths[2]:.2f} tokens on average."
)
assert QUICK or lengths[0] <= lengths[1] <= lengths[2]

# %% [markdown]
# ## Once, on the test
#
# Everything was chosen on validation, the way of searching too: whichever had more exact sentences there, greedy where they
# tie. Now, once, the sentences and names that nothing was chosen on.
#
# **Predict before you run:** higher or lower than on validation?

# %%
k, alpha = max(
    [(1, 0.0), (4, 1.0)], key=lambda setting: judge(found[("trained", *setting)]["texts"])[2]
)  # the first of equals
final = search(model, k, alpha, "test")["texts"]
on = {"validation": (found["trained", k, alpha]["texts"], "valid"), "test": (final, "test")}
table(
    [(name, *judge(*texts), share_right(check_names(*texts))) for name, texts in on.items()],
    ["greedy" if k == 1 else f"beam {k}, α = {alpha:g}", "BLEU", "chrF", "exact", "names right"],
    [None, ".1f", ".1f", ".1%", ".1%"],
)
assert QUICK or judge(final, "test")[2] > 0.5

# %% [markdown]
# ## Three places for a prefix
#
# 000 §2.3 proposes for translation a prefix of the source language and one of the target language, to steer encoder and
# decoder separately. There is a third place: cross-attention has keys and values of its own, so a prefix can stand
# beside the source as well, seen by the decoder alone.
#
# **Predict before you run:** which of the three changes what the encoder makes of the source?

# %%
from minitransformer.models.attention import Prefix

P, H, D = 5, config.n_head, config.d_model // config.n_head
torch.manual_seed(0)
prefix = [
    Prefix(*torch.randn(2, 1, H, P, D)) for _ in range(config.n_decoder_layer)
]  # each (1, H, P, D); 2 + 2 layers
ids_in, text = torch.tensor([[config.start_id]]), torch.tensor([given])
with torch.inference_mode():
    plain = model(ids_in, source=text).softmax(-1)  # (1, 1, V)
    c, c_prefixed = model.encode(text), model.encode(text, prefix=prefix)  # (1, S, C)
    rows = []
    for place in ("encoder_prefix", "prefix", "cross_prefix"):
        p = model(ids_in, source=text, **{place: prefix}).softmax(-1)  # (1, 1, V)
        rows.append((place, (p - plain).abs().sum().item() / 2))
table(rows, ["random prefix", "probability that it moves at the first token"], [None, ".4f"])
say(
    f"Each is {sum(k.numel() + v.numel() for k, v in prefix):,} numbers for P = {P}. The first moves the encoder's vectors (by up to "
    f"{(c_prefixed - c).abs().max():.2f}) and so what the decoder reads; the other two are given to the decoder alone. A later lesson trains all "
    "three."
)
assert all(moved > 0 for _, moved in rows)

# %% [markdown]
# ## Keep it
#
# The model goes into a file, as in lesson 3.

# %%
from minitransformer.checkpoint import load_model, save_model
from minitransformer.course.show import ROOT

path = ROOT / "figures" / "lesson_06" / "translator.safetensors"
save_model(path, model)
again = load_model(path, Seq2Seq, Seq2SeqConfig)
assert torch.equal(again(ids_in, source=text), model(ids_in, source=text))
say(f"Saved: {path.relative_to(ROOT).as_posix()}, {path.stat().st_size / 1e6:.1f} MB.")

# %% [markdown]
# ## The answer
#
# One stack reads the whole source, another writes the target token by token, and in each of its layers cross-attention
# lets the token that is being written ask for what it needs of the source, wherever that stands.
#
# To try next:
#
# - `init_std=0.02`, BART's start for a model eight times as wide. When do the two curves of the training figure part?
# - Turn the languages around, English from Chinese. What has English to say that Chinese leaves open?
# - Change `pool` to 20. Batches get fuller and more alike; what is the validation loss after as many steps?
#
# Further reading: "Attention Is All You Need" (Vaswani et al., 2017), §3; "Neural Machine Translation by Jointly Learning to
# Align and Translate" (Bahdanau et al., 2015); "BART: Denoising Sequence-to-Sequence Pre-training" (Lewis et al., 2020);
# "A Call for Clarity in Reporting BLEU Scores" (Post, 2018); "If Beam Search Is the Answer, What Was the Question?" (Meister
# et al., 2020).
