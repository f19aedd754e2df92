"""Text as probabilities

question: How can a machine say which of two sentences is likelier, and how do we measure how well it knows?
minutes: 1
documents: 000 §4.1 语言模型; 004 §4.2 交叉熵损失
needs: nothing
"""

# %% [markdown]
# ## Two sentences, one of them likely
#
# A language model (语言模型) gives every sentence s a probability P(s). It need not understand s; it has
# to know what usually follows what. Everything later in this course, from GPT to prefix tuning
# (前缀微调), computes P(s) better or uses what was learned on the way.
#
# The texts come from a tiny world: made-up people, towns, films and weather, told in plain English. They
# are split once and for all: what is learned is learned from `train`, what is chosen is chosen on
# `valid`, and `test` is read once, at the end. No name in one of them occurs in another.

# %%
import math

from minitransformer.course.data import DATA
from minitransformer.course.show import QUICK, bar, figure, say, source, table, verbatim
from minitransformer.text.corpora import read_documents, token_stream

documents = {
    split: read_documents(DATA / "text" / f"{split}.txt") for split in ("train", "valid", "test")
}
if QUICK:
    documents["train"] = documents["train"][:1000]
rows = [(split, len(texts), sum(map(len, texts))) for split, texts in documents.items()]
table(rows, ["split", "documents", "characters"], [None, ",", ","])
say(documents["train"][1])

# %% [markdown]
# ## Text is numbers already: bytes
#
# A model computes with numbers. In a computer, text is stored as numbers from 0 to 255, the bytes of its
# UTF-8 form, so 256 symbols are enough to write anything.
#
# **Predict before you run:** how many bytes has `a`, how many `河` (river), how many a balloon?

# %%
table(
    [(c, len(c.encode()), " ".join(map(str, c.encode()))) for c in "aé河🎈"],
    ["character", "bytes", "which"],
)

# %% [markdown]
# ## Byte-pair encoding by hand
#
# Bytes make sequences long: the model would have to spell every word anew. Byte-pair encoding
# (字节对编码, BPE) makes a word that is often needed into one symbol, a token (词元). The rule is short:
#
#     start with the bytes; then, again and again:
#         find the pair of neighbours that occurs most often
#         make the two into one new token, everywhere
#
# Text is first cut into pieces, words with the space before them (shown as `␣`), and a merge never
# crosses a cut. When two pairs are equally frequent, the one with the smaller numbers goes first.
#
# **Predict before you run:** which two letters of `rain rain rainy train` are merged first? And what is
# the fourth token?

# %%
from minitransformer.course.data import default_tokenizer
from minitransformer.text.tokenizer import Tokenizer, bpe_encode, encode_piece, train_bpe

tiny = "rain rain rainy train"
ranks = train_bpe(tiny, vocab_size=256 + 6)  # token → rank, in the order of the merges
rows = []
for n_merges in range(7):
    known = Tokenizer({token: rank for token, rank in ranks.items() if rank < 256 + n_merges})
    ids = known.encode(tiny)
    new = known.token(255 + n_merges) if n_merges else "–"
    rows.append((n_merges, new, len(ids), " ".join(known.token(i) for i in ids)))
table(rows, ["merges", "new token", "tokens", "the text, cut"])

# %% [markdown]
# ## The merges of the tiny world
#
# The same function on real text. The first merges are letters that often stand together; soon they are
# endings and short words, then whole words. A token mostly begins with its space, so `␣the` is the word
# and `the` a piece of `gather`.
#
# **Predict before you run:** which two neighbours, the space included, stand together most often?

# %%
largest = 512 if QUICK else 4096
ranks = train_bpe("\n".join(documents["train"])[:800_000], vocab_size=largest)
learned = Tokenizer(ranks)
for first in (256, 356, 456):
    verbatim(
        " ".join(
            [
                f"merges {first - 255:>3} to {first - 236}:",
                " ".join(learned.token(i) for i in range(first, first + 20)),
            ]
        )
    )

# %% [markdown]
# ## Encoding replays the merges
#
# To encode new text, the merges are repeated in the order in which they were learned: of all neighbours
# that form a token, the pair of lowest rank goes first. You write this function yourself in exercise 1.2 of the
# workbook; once yours passes, the package's is printed here. Below: what it makes of one word when it knows more and
# more tokens.
#
# **Predict before you run:** `grandmother` is in the training text. Will it become one token?

# %%
source(encode_piece)
word = " grandmother"
for size in (256, 288, 320, 512, 1024, 4096):
    some_ranks = {token: rank for token, rank in ranks.items() if rank < size}
    verbatim(
        " ".join(
            [
                f"V = {size:>5,}  ",
                " ".join(learned.token(i) for i in encode_piece(word.encode(), some_ranks)),
            ]
        )
    )

# %% [markdown]
# ## The same merges, handed to tiktoken
#
# That function is slow, so the library tiktoken is given our merges and does the rest. The course has one
# vocabulary for all its models, English and Chinese, trained by the same function and stored in
# `data/tokenizer.tiktoken`. Both ways must give the same ids (编号) for the whole validation text.

# %%
import time

tokenizer = default_tokenizer()
text = "\n".join(documents["valid"])
began = time.perf_counter()
slow = bpe_encode(text, tokenizer.ranks)
between = time.perf_counter()
fast = tokenizer.encode(text)
ended = time.perf_counter()
assert slow == fast
say(
    f"{len(slow):,} ids, all equal. Our loop took {between - began:.2f} s, tiktoken {ended - between:.3f} s. "
    f"The vocabulary has V = {tokenizer.n_vocab} tokens: 256 bytes, {len(tokenizer.ranks) - 256} merges and "
    f"{len(tokenizer.special_ids)} special tokens, {' '.join(tokenizer.special_ids)}."
)

# %% [markdown]
# ## Nothing is outside the vocabulary
#
# What has no token of its own falls back to bytes, and decoding gives back every character. Even the name
# of a special token is ordinary text, unless the caller says otherwise: nobody who types it can end a
# document.

# %%
rows = []
for text in (
    "The old woman went home.",
    "Mira lives in Bosewick.",
    "昨天河边下雨了。",
    "naïve 🎈",
    "<|endoftext|>",
):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    rows.append((text, len(text.encode()), len(ids), " ".join(tokenizer.token(i) for i in ids)))
table(rows, ["text", "bytes", "tokens", "the text, cut"])
say(f"With allow_special=True, {text} is the one id {tokenizer.encode(text, allow_special=True)}.")

# %% [markdown]
# ## How large should a vocabulary be?
#
# Each merge makes the text shorter. But each token also needs a row in the model's tables, and must occur
# often enough to be learned. Because merges are learned in order, the first V tokens of a large
# vocabulary are the vocabulary of size V: one training is enough to measure them all.
#
#     compression = bytes of text / tokens
#
# **Predict before you run:** does doubling V double the compression?

# %%
text = "\n".join(documents["valid"])
n_bytes = len(text.encode())
sizes = [size for size in (256, 288, 320, 384, 512, 768, 1024, 2048, 4096) if size <= largest]
compression = []
for size in sizes:
    some = Tokenizer({token: rank for token, rank in ranks.items() if rank < size})
    compression.append(n_bytes / len(some.encode(text)))
with figure("compression", "Bytes of English per token, by the size of the vocabulary.") as axes:
    axes.plot(sizes, compression, "o-")
    axes.set(xscale="log", xlabel="vocabulary size V", ylabel="bytes per token (validation text)")
    axes.set_xticks(sizes[::2], [f"{size:,}" for size in sizes[::2]], minor=False)
    axes.minorticks_off()
for size, value in zip(sizes, compression, strict=True):
    verbatim(
        f"V = {size:>5,}   {value:.2f} bytes per token  {bar(value, largest=max(compression))}"
    )

# %% [markdown]
# ## The chain rule
#
# Now the probabilities. A sentence is s = (w_1, …, w_n), its tokens in order, and w_<t is short for all
# tokens before the t-th. The chain rule (链式法则, 000 §4.1) takes P(s) apart:
#
#     P(s) = P(w_1) · P(w_2 | w_1) · … · P(w_n | w_1, …, w_{n−1}) = Π P(w_t | w_<t)
#
# 000 §4.1 says that this simplifies the computation. It does not: it is an identity, and the last factor
# is as hard to know as the whole. What it does give is a task for a machine: predict the next token from
# those before it.
#
# To see the identity, count how the training documents begin. The w_t are whole words here; we take the
# most frequent three words that begin with `In`.
#
# **Predict before you run:** the product of the last column is a fraction of two counts. Which two?

# %%
from collections import Counter

begins = [tuple(document.split()[:3]) for document in documents["train"]]
beginning = Counter(words for words in begins if words[0] == "In").most_common(1)[0][0]
n_all = before = len(begins)
product, rows = 1.0, []
for t in (1, 2, 3):
    count = sum(words[:t] == beginning[:t] for words in begins)
    rows.append((" ".join(beginning[:t]), count, f"{count:,} / {before:,}", count / before))
    product *= count / before
    before = count
table(rows, ["the document begins", "documents", "P(w_t | w_<t)", ""], [None, ",", None, ".4f"])
say(
    f"The product is {product:.6f}. Of {n_all:,} documents {count} begin so, a share of {count / n_all:.6f}: "
    "the counts between cancel."
)
assert math.isclose(product, count / n_all)

# %% [markdown]
# ## A bigram model remembers one token
#
# A longer sentence soon has a beginning that never occurred, and then counting is at its end. Here
# something has to be given up. A bigram model (二元语法) forgets all but the last token:
#
#     P(w_t | w_<t) ≈ P(w_t | w_{t−1}) = N(w_{t−1} w_t) / N(w_{t−1})
#
# N(a b) counts how often b follows a in the training text, N(a) how often anything does. This is the
# simplification (Markov's assumption), and it loses information; the chain rule loses none.
#
# The document's P(w_1) has nothing before it, and no end. We put `<|endoftext|>` between all documents:
# it is the token before the first word and the one after the last. Without an end the probabilities of
# the sentences of each length would sum to 1, and those of all sentences together to infinity.

# %%
import torch
from minitransformer.models.bigram import NGram

train, valid, test = (
    token_stream(documents[split], tokenizer) for split in ("train", "valid", "test")
)  # (T)
V = tokenizer.n_vocab
bigram = NGram(train, V, n=2)
say(
    f"{len(train):,} training tokens hold {bigram.n_grams:,} different pairs, "
    f"of {V * V:,} that could be. What follows `␣went`?"
)
probs = bigram.next_probs(torch.tensor(tokenizer.encode(" went")))  # (V)
likeliest = probs.argsort(descending=True)[:6].tolist()
rows = [(tokenizer.token(i), probs[i].item(), bar(probs[i].item())) for i in likeliest]
table(rows, ["token b", "P(b | ␣went)", ""], [None, ".3f", None])

# %% [markdown]
# ## The whole model is a table
#
# A bigram model has a row for every token a, a column for every token b, and in it P(b | a). The row of
# each token that occurs sums to 1 (one that never occurs, a Chinese one, has an empty row). Here is a piece of it: the most frequent tokens a, and the tokens b that follow them most.
#
# **Predict before you run:** which pair will be brightest?

# %%
rows = torch.bincount(train, minlength=V).topk(16).indices  # the most frequent tokens a
probs = torch.stack([bigram.next_probs(a[None]) for a in rows])  # (16, V)
columns = probs.sum(dim=0).topk(24).indices  # the tokens b that follow them most
corner = probs[:, columns]  # (16, 24)
with figure(
    "bigram_table", "P(b | a): each row is what follows one token a.", size=(9.0, 5.5)
) as axes:
    image = axes.imshow(corner, vmin=0)
    axes.set_xticks(range(24), [tokenizer.token(b) for b in columns.tolist()], rotation=90)
    axes.set_yticks(range(16), [tokenizer.token(a) for a in rows.tolist()])
    axes.set(xlabel="next token b", ylabel="token a")
    axes.grid(False)
    axes.figure.colorbar(image, shrink=0.8, label="P(b | a)")
a, b = divmod(corner.argmax().item(), 24)
brightest = f"P({tokenizer.token(columns[b])} | {tokenizer.token(rows[a])}) = {corner[a, b]:.2f}"
say(
    f"The brightest cell is {brightest}. Rows sum to {probs.sum(dim=1).min():.4f} to {probs.sum(dim=1).max():.4f}."
)

# %% [markdown]
# ## The probability of a sentence
#
# Now the chain rule on a real sentence. Products of small numbers get unhandy, and a logarithm turns them
# into sums:
#
#     log P(s) = Σ log P(w_t | w_{t−1})
#
# (log is the natural logarithm throughout.) We ask how likely a document is to begin like this, so the
# end token stands before the sentence as w_0, and none after it.
#
# **Predict before you run:** in `It was a cold morning.`, which token has the smallest probability?

# %%
sentence = "It was a cold morning."
ids = torch.tensor([tokenizer.eot_id, *tokenizer.encode(sentence)])
log_probs = bigram.log_probs(ids)  # (T-1)
rows = []
for i, log_prob in zip(ids[1:].tolist(), log_probs.tolist(), strict=True):
    rows.append(
        (tokenizer.token(i), math.exp(log_prob), log_prob, bar(-log_prob, largest=10, width=20))
    )
table(
    rows, ["w_t", "P(w_t | w_{t−1})", "log P", "−log P: the surprise"], [None, ".5f", ".3f", None]
)
product, total = log_probs.exp().prod().item(), log_probs.sum().item()
say(
    f"The product is {product:.3e}; the logarithms sum to {total:.3f}, and exp of that is {math.exp(total):.3e}."
)

# %% [markdown]
# ## Which sentence is likelier?
#
# The question of the lesson. The same words in another order have other neighbours, and the model need
# not know any grammar to object. A value of −inf would say that some pair never occurred in the training
# text, and that the model therefore takes the sentence for impossible; we come back to that.

# %%
for text in ("It was a cold morning.", "It was morning a cold."):
    ids = torch.tensor([tokenizer.eot_id, *tokenizer.encode(text)])
    verbatim(f"log P = {bigram.log_probs(ids).sum():7.2f}   {text}")

# %% [markdown]
# ## Why logarithms
#
# **Predict before you run:** we multiply the probabilities of the training text from its start. The
# smallest positive number of 32-bit floating point is about 1e-45. After how many tokens is the product
# exactly 0?

# %%
for dtype in (torch.float32, torch.float64):
    running = bigram.log_probs(train[:2000]).exp().to(dtype).cumprod(0)  # (T-1)
    say(f"{dtype}: the product is 0 from token {(running > 0).sum().item() + 1} on")
say(
    f"The sum of all {len(train[:2000]) - 1:,} logarithms is a plain number: {bigram.log_probs(train[:2000]).sum():.1f}"
)

# %% [markdown]
# ## Cross-entropy: the mean surprise
#
# How well does the model know a text? 004 §4.2 measures one prediction by cross-entropy (交叉熵):
#
#     L(x, y) = −Σ_i y_i log ŷ_i        i = 1 … C
#
# ŷ is the predicted distribution over C classes; y is the truth, a 1 at the right class and 0 elsewhere
# (one-hot), so that of the whole sum only −log ŷ of the right class is left: the surprise. For a language
# model the classes are the tokens, C = V. Where the document is brief: its formula is for one example,
# and training takes the mean over all N of them (as its L_MLM does); its formula for classification is
# the same one again; and ŷ has to be a distribution, so what a network puts out, the logits z, first goes
# through
#
#     softmax(z)_i = exp(z_i) / Σ_j exp(z_j)
#
# By hand, by our function and by PyTorch's, on the first training tokens (0 · log 0 counts as 0):

# %%
import torch.nn.functional as F
from minitransformer.models.bigram import bits_per_byte, cross_entropy, perplexity

x, targets = train[:200], train[1:201]  # each token, and the one that follows it
y_hat = torch.stack([bigram.next_probs(token[None]) for token in x])  # (T, V)
y = F.one_hot(targets, V)  # (T, V)
by_hand = -torch.xlogy(y, y_hat).sum(dim=-1).mean()
logits = y_hat.log() + 5.0  # softmax does not mind a constant
for name, loss in (
    ("−Σ y log ŷ, averaged", by_hand),
    ("cross_entropy(logits)", cross_entropy(logits, targets)),
    ("torch's own", F.cross_entropy(logits, targets)),
    ("NGram.loss", bigram.loss(train[:201])),
):
    verbatim(f"{name:24} {loss:.6f}")
    assert abs(loss - by_hand) < 1e-9

# %% [markdown]
# ## What never occurred
#
# **Predict before you run:** now the validation text. It holds pairs that the training text does not, and
# the counted model gives them probability 0. What is its loss?

# %%
unseen = bigram.log_probs(valid).isneginf()  # (T-1)
first = unseen.nonzero()[0].item()
pair = " ".join(f"`{tokenizer.token(i)}`" for i in valid[first : first + 2].tolist())
say(
    f"The loss is {bigram.loss(valid)}. Of {len(unseen):,} validation pairs {unseen.sum():,} are unseen; "
    f"the first is {pair}. One is enough: −log 0 = ∞."
)

# %% [markdown]
# ## Smoothing, chosen on validation
#
# Never seen does not mean impossible. Smoothing (平滑) pretends that every pair was seen α more times
# than it was:
#
#     P(b | a) = (N(a b) + α) / (N(a) + αV)
#
# α is chosen by us and not counted: a hyper-parameter (超参数). On the training text the best α is always
# 0, so it cannot be chosen there; and if it were chosen on the test text, the test would no longer be a
# test. That is what the validation split is for.
#
# **Predict before you run:** what happens to the two losses when α gets very large?

# %%
alphas = [10**exponent for exponent in torch.arange(-4, 2.01, 1.0 if QUICK else 0.5).tolist()]


def losses(model: NGram, text: torch.Tensor) -> list[float]:
    """The model's loss on the text for each α."""
    found = []
    for alpha in alphas:
        model.alpha = alpha
        found.append(model.loss(text))
    return found


on_train, on_valid = losses(bigram, train), losses(bigram, valid)
best_alpha = alphas[on_valid.index(min(on_valid))]
with figure("smoothing", "Training loss only grows with α; validation loss has a minimum.") as axes:
    axes.plot(alphas, on_train, "o-", label="train")
    axes.plot(alphas, on_valid, "s-", label="validation")
    axes.axvline(best_alpha, color="grey", linestyle=":", label="chosen")
    axes.set(xscale="log", xlabel="α", ylabel="loss, nats per token")
    axes.set_ylim(min(on_train) - 0.03, min(on_valid) + 0.15)  # the rest runs out of the picture
    axes.set_xlim(alphas[0] / 2, 2)
    axes.legend()
assert on_train == sorted(on_train)
bigram.alpha = best_alpha
say(
    f"Best on validation: α = {best_alpha:.2g}, loss {min(on_valid):.3f}. As α grows, every row gets "
    f"more uniform: at α = {alphas[-1]:.0f} the loss is {on_valid[-1]:.3f}, and ln V = {math.log(V):.3f}."
)

# %% [markdown]
# ## Perplexity, and what to compare with
#
# A loss in nats is hard to picture. Perplexity (困惑度) turns it into a number of choices:
#
#     perplexity = exp(loss)
#
# A model that is in doubt among k equally likely tokens has loss ln k and perplexity k. So the worst
# sensible model, all V tokens equally likely, has loss ln V; and one that counts single tokens only (a
# unigram model, 一元语法) shows what is gained without looking at any context.
#
# **Predict before you run:** what is the perplexity of the uniform model, to the last digit?

# %%
unigram = NGram(train, V, n=1, alpha=best_alpha)
baselines = {"uniform": math.log(V), "unigram": unigram.loss(valid), "bigram": bigram.loss(valid)}
rows = [(name, loss, perplexity(loss)) for name, loss in baselines.items()]
table(rows, ["model", "loss on validation", "perplexity"], [None, ".3f", ".1f"])

# %% [markdown]
# ## A longer memory, and overfitting
#
# If one token of context helps so much, why not two, or four? An n-gram model (n 元语法) looks at the n −
# 1 tokens before. There are V to the power n possible n-grams, and the text holds only so many.
#
# **Predict before you run:** which n is best on the training text? On validation?

# %%
rows, models = [], {}
for n in (1, 2, 3, 4, 5):
    model = NGram(train, V, n)
    on_valid = losses(model, valid)
    model.alpha = alphas[on_valid.index(min(on_valid))]  # its own best
    models[n] = model
    rows.append((n, model.n_grams, model.alpha, model.loss(train), min(on_valid)))
table(
    rows,
    ["n", "different n-grams", "best α", "train loss", "validation loss"],
    [None, ",", ".2g", ".3f", ".3f"],
)
best_n = min(rows, key=lambda row: row[-1])[0]
n_values, on_train, on_valid = ([row[column] for row in rows] for column in (0, 3, 4))
assert on_train == sorted(on_train, reverse=True)
assert on_valid[best_n - 1 :] == sorted(on_valid[best_n - 1 :])
with figure(
    "ngrams", "A longer memory: the training text is learned by heart, the validation text is not."
) as axes:
    axes.plot(n_values, on_train, "o-", label="train")
    axes.plot(n_values, on_valid, "s-", label="validation")
    axes.set(xlabel="n", ylabel="loss, nats per token", xticks=n_values)
    axes.legend()
say(
    f"On validation n = {best_n} is best. Beyond it the two part: the longer memory holds contexts of the "
    "training text that never come again. To learn by heart instead of learning is overfitting (过拟合)."
)

# %% [markdown]
# ## Bits per byte: comparing vocabularies
#
# May two models with different vocabularies be compared by perplexity? A token of a large vocabulary says
# more, so to guess it is harder. What stays the same is the text. So share the whole surprise out over
# its bytes, and count in bits (a nat is 1 / ln 2 bits):
#
#     bits per byte = loss · tokens / bytes / ln 2
#
# **Predict before you run:** of V = 256, 512, 1,024 and 2,048, which gives a bigram the lowest perplexity?
# The fewest bits?

# %%
rows = []
n_bytes = sum(len(text.encode()) for text in documents["valid"])
for size in [size for size in (256, 512, 1024, 2048) if size <= largest]:
    some = Tokenizer({token: rank for token, rank in ranks.items() if rank < size})
    some_train, some_valid = (
        token_stream(documents[split], some) for split in ("train", "valid")
    )  # (T)
    loss = min(losses(NGram(some_train, some.n_vocab), some_valid))
    rows.append((size, loss, perplexity(loss), bits_per_byte(loss, len(some_valid), n_bytes)))
table(rows, ["V", "loss per token", "perplexity", "bits per byte"], [",", ".3f", ".1f", ".3f"])
assert min(rows, key=lambda row: row[2]) == max(rows, key=lambda row: row[3]) == rows[0]
say(
    "Single bytes have the lowest perplexity, and yet they need the most bits: perplexity compares models "
    "of one vocabulary only."
)

# %% [markdown]
# ## The test, once
#
# n and α were chosen on validation, so the validation loss may flatter them. No model has been asked about
# the test text until now, and after this line it is not used again.

# %%
model = models[best_n]
n_bytes = sum(len(text.encode()) for text in documents["test"])
loss = model.loss(test)
say(
    f"n = {best_n}, α = {model.alpha:.2g}: validation loss {model.loss(valid):.3f}, test loss {loss:.3f}, "
    f"perplexity {perplexity(loss):.1f}, {bits_per_byte(loss, len(test), n_bytes):.3f} bits per byte."
)

# %% [markdown]
# ## Let it write
#
# A model of the next token can write: draw a token from its distribution, append it, ask again, until the
# end token comes. All models go on from the same beginning, with α = 0, so that each writes only what it
# has seen. `copied` is the longest piece that stands in the training text letter by letter.
#
# **Predict before you run:** where will a bigram's sentence go wrong, and what is wrong with the fluent
# ones?

# %%
corpus = "\n".join(documents["train"])
start = train[:6]  # the end token and the first five tokens of the training text
for n, model in models.items():
    model.alpha = 0.0
    ids = model.sample(start, length=60, stop=tokenizer.eot_id, seed=2)
    text = tokenizer.decode(ids[1:]).removesuffix("<|endoftext|>")
    copied = 0
    for i in range(len(text)):
        while i + copied < len(text) and text[i : i + copied + 1] in corpus:
            copied += 1
    say(f"n = {n}, {copied} of {len(text)} characters copied: {text}\n")

# %% [markdown]
# ## The same bigram, learned
#
# So far we counted. A neural network (神经网络) cannot count: it is a function with adjustable numbers, its
# parameters, and these are changed step by step so that the loss falls. The smallest such function is a
# table, and the bigram can be had in this way too. Its parameters are logits, row a for what follows a:
#
#     P(b | a) = softmax(table[a])_b
#
# It starts from zeros. **Predict before you run:** which loss has it before the first step?

# %%
from minitransformer.models.bigram import BigramTable

network = BigramTable(V)
x, targets = train[:2000], train[1:2001]
loss = F.cross_entropy(network(x), targets)
say(f"loss {loss.item():.4f}, ln V {math.log(V):.4f}")

# %% [markdown]
# ## Which way is down?
#
# The gradient says how each logit changes the loss. For one prediction it has a simple form:
#
#     ∂L / ∂z_i = ŷ_i − y_i
#
# The logit of the right token is pushed up, all others down, each by as much as it was wrong. PyTorch
# computes it by itself (`backward()` puts every derivative of the loss into `.grad`); here is the check.

# %%
z = torch.randn(V, generator=torch.Generator().manual_seed(0), requires_grad=True)
F.cross_entropy(z, targets[0]).backward()
formula = z.detach().softmax(dim=-1) - F.one_hot(targets[0], V)  # (V)
say(f"largest difference between the gradient and ŷ − y: {(z.grad - formula).abs().max():.1e}")

# %% [markdown]
# ## Gradient descent finds the counts
#
# Take some pairs, compute the loss, go a little way down, repeat: gradient descent (梯度下降), here with
# Adam, which chooses the length of the way for each parameter: `optimizer.step()` moves each against its
# `.grad`, at most about `lr` far, and `zero_grad()` clears them for the next step. No bigram table can have a lower training
# loss than the counted one with α = 0: that is the dotted line.
#
# **Predict before you run:** will the learned table get below, onto, or only near to that line? And on
# validation?

# %%
from tqdm import tqdm

torch.manual_seed(0)
optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
steps, history = (20 if QUICK else 160), []
for step in tqdm(range(steps + 1), desc="learning the bigram", mininterval=0.5):
    at = torch.randint(len(train) - 1, (2048,))  # (B)
    loss = F.cross_entropy(network(train[at]), train[at + 1])
    if step % 20 == 0:
        table_of_logs = network.table.detach().log_softmax(dim=-1)  # (V, V)
        history.append(
            [step, *(-table_of_logs[text[:-1], text[1:]].mean().item() for text in (train, valid))]
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

bigram.alpha = 0.0
optimum = bigram.loss(train)
bigram.alpha = best_alpha
smoothed = bigram.loss(valid)
at, on_train, on_valid = zip(*history, strict=True)
with figure("learned_bigram", "The learned table approaches the counted one.") as axes:
    axes.plot(at, on_train, label="learned, train")
    axes.plot(at, on_valid, label="learned, validation")
    axes.axhline(optimum, color="black", linestyle=":", label="counted (α = 0), train")
    axes.axhline(smoothed, color="grey", linestyle="--", label="counted (best α), validation")
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.legend()
rows = [("train", optimum, on_train[-1]), ("validation", smoothed, on_valid[-1])]
table(rows, ["split", "counted", "learned"], [None, ".3f", ".3f"])
assert on_train[-1] > optimum and on_valid[-1] > smoothed

# %% [markdown]
# ## What was gained
#
# Here counting is better. But look at what the learned way needed: a function from context to
# logits, the cross-entropy, and a gradient. Nothing in it asks how long the context is, or that a context
# was seen before. Put a Transformer in the place of the table, and the same few lines train it: that is
# lesson 3, and lesson 2 builds the part that lets it look further back than one token.
#
# **The answer.** A language model cuts text into tokens and, by the chain rule, multiplies the
# probabilities of each token given those before it; the likelier sentence has the larger product, and how
# well a model knows a text is its mean surprise there, the cross-entropy: the lower, the better.
#
# To try:
#
# - Put your own sentences into "Which sentence is likelier?". Can you find a pair that a bigram gets
#   wrong?
# - Write one sentence of Chinese in "Nothing is outside the vocabulary". Which characters are single
#   tokens?
# - Give "The merges of the tiny world" another text, in another language.
# - In the last step, what do more steps do to the validation loss? Why is it no longer the same picture
#   as for training?
#
# Further reading: Sennrich, Haddow, Birch, “Neural Machine Translation of Rare Words with Subword Units”
# (2016); Shannon, “Prediction and Entropy of Printed English” (1951); Jurafsky, Martin, “Speech and
# Language Processing”, the chapter on n-gram language models; Chen, Goodman, “An Empirical Study of
# Smoothing Techniques for Language Modeling” (1999).
