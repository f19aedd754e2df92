"""Text as probabilities

question: How can a machine say which of two sentences is likelier, and how do we measure how well it knows?
minutes: 1
documents: 000 §4.1 语言模型; 004 §4.2 交叉熵损失
needs: nothing
"""

# %% [markdown]
# ## Two sentences, one of them likely
#
# "It was a cold morning." "It was morning a cold." You know which of the two is likelier. A language model (语言模型) is a
# machine that knows it too: it estimates how probable a sentence is (000 §4.1). It does not need to understand the sentence.
# It needs to know what usually follows what. All later lessons build on this. They compute the probability better, or they
# use what a model has learned on the way.
#
# (This course follows five documents in Chinese, numbered 000 to 004, and makes their formulas run. "000 §4.1" is one of
# the sections of the first. You can follow the course without them. Where we find a document not exact, a paragraph says so.)
#
# The texts of this course come from a tiny world: made-up people, towns, films and weather, in plain English. The texts are
# divided once and for all. The model learns from `train`. We make our choices on `valid`, the validation text. We measure a
# model on `test` only once, at the very end of a lesson. No person's name occurs in more than one of the three.
#
# (In the code, `QUICK` stands for a shortened run, which only tests the code: it takes less text and fewer steps, and some
# results differ. What we say about results holds for a full run, which is the normal one.)

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
table(
    [(split, len(texts), sum(map(len, texts))) for split, texts in documents.items()],
    ["split", "documents", "characters"],
    [None, ",", ","],
)
say(documents["train"][1])

# %% [markdown]
# ## Text is numbers already: bytes
#
# A model computes with numbers. A computer stores text as numbers from 0 to 255, which are called bytes. The rule that turns
# characters into bytes is UTF-8. It gives the 128 characters of plain English one byte each. An accented letter such as é
# takes two bytes, a Chinese character three, and an emoji four. So 256 symbols are enough to write anything.
#
# **Predict before you run:** how many bytes has the text `aé河🎈`? (河 is a river.)

# %%
as_bytes = {character: list(character.encode()) for character in "aé河🎈"}
table(
    [(c, len(its_bytes), " ".join(map(str, its_bytes))) for c, its_bytes in as_bytes.items()],
    ["character", "bytes", "which"],
)
assert [len(its_bytes) for its_bytes in as_bytes.values()] == [1, 2, 3, 4]

# %% [markdown]
# It has 1 + 2 + 3 + 4 = 10 bytes.

# %% [markdown]
# ## Byte-pair encoding by hand
#
# Bytes make long sequences, and the model would have to spell every word again and again. Byte-pair encoding (字节对编码,
# BPE) turns frequent words into single symbols. Such a symbol is called a token (词元). The rule is short:
#
#     start with the bytes
#     repeat:
#         find the pair of neighbours that occurs most often
#         make this pair one new token, everywhere
#
# The text is first cut into words, each with the space before it (we print the space as `␣`). No pair crosses such a cut.
#
# Every token has a number, its *id* (编号). The bytes have the ids 0 to 255. The new tokens get the ids 256, 257, and so on, in
# the order in which they are made. If several pairs are equally frequent, the pair whose first token has the smallest id
# goes first. If these are equal too, the second token decides. (The ids of the letters follow the alphabet, and the id of
# the space is smaller than those of all letters.)
#
# **Predict before you run:** which two letters of `rain rain rainy train` are merged first? Which token does the fourth merge
# make?

# %%
from minitransformer.course.data import default_tokenizer
from minitransformer.text.tokenizer import Tokenizer, bpe_encode, encode_piece, train_bpe

tiny = "rain rain rainy train"
ranks = train_bpe(tiny, vocab_size=256 + 6)  # token → id (tiktoken calls it the rank)
rows = []
for n_merges in range(7):
    known = Tokenizer({token: rank for token, rank in ranks.items() if rank < 256 + n_merges})
    ids = known.encode(tiny)
    new = known.token(255 + n_merges) if n_merges else "–"
    rows.append((n_merges, new, len(ids), " ".join(known.token(i) for i in ids)))
table(rows, ["merges", "new token", "tokens", "the text, cut"])
assert [row[1] for row in rows[1:5]] == ["ai", "rai", "rain", "␣rain"]

# %% [markdown]
# The pairs `r a`, `a i` and `i n` occur four times each. Of their first tokens, `a` has the smallest id, so `a i` goes first.
# The fourth merge already makes a word with its space, `␣rain`.

# %% [markdown]
# ## The merges of the tiny world
#
# Now the same function reads the training text. It learns a vocabulary (词表): the 256 bytes, and one more token for each
# merge. We write V for the number of tokens in a vocabulary.
#
# **Predict before you run:** in English, which two neighbours stand together most often? A space counts as a letter here.

# %%
largest = 512 if QUICK else 4096
ranks = train_bpe("\n".join(documents["train"])[:800_000], vocab_size=largest)
learned = Tokenizer(ranks)
for first in (256, 356, 456):
    shown = " ".join(learned.token(i) for i in range(first, first + 20))
    verbatim(f"merges {first - 255:>3} to {first - 236}: {shown}")
assert learned.token(256) == "␣t"

# %% [markdown]
# The first merge is `␣t`, because many frequent words begin with t: the, to, two. The first merges are pairs of letters.
# Later merges are endings and short words, and then whole words. Most tokens begin with their space. So `␣the` is the word,
# and `the` without the space is a part of a longer word, such as `gather`.

# %% [markdown]
# ## Encoding replays the merges
#
# A new text is encoded by the same merges, in the order in which they were learned. This order is the order of the ids. So
# the rule is: look at all pairs of neighbours which together form a token, and merge the pair whose token has the lowest id.
# Repeat until no two neighbours form a token.
#
# Exercise 1.2 asks you to write this function yourself. (`make start-1` makes a file for your versions; the end of the lesson
# says more.) Until your version passes, only a hint stands here. Then ours is shown, to compare it with yours.
#
# Below it we encode one word with more and more tokens. The text from which we learned has about 8,000 different words.
# The word `grandmother` is about the 500th in the order of frequency. V = 4,096 leaves room for 3,840 merges.
#
# **Predict before you run:** is `␣grandmother` a single token when V = 4,096?

# %%
source(encode_piece)
word, cut = " grandmother", []
for size in [size for size in (256, 288, 320, 512, 1024, 4096) if size <= largest]:
    some_ranks = {token: rank for token, rank in ranks.items() if rank < size}
    cut = [learned.token(i) for i in encode_piece(word.encode(), some_ranks)]
    verbatim(f"V = {size:>5,}   {' '.join(cut)}")
assert QUICK or len(cut) == 1

# %% [markdown]
# It is. On the way there, the pieces are not always syllables. A pair is merged because it is frequent, and not because it
# means something.

# %% [markdown]
# ## The course's vocabulary, and a fast encoder
#
# Our function is slow. The library tiktoken does the same work fast, if we give it a list of tokens with their ids. The course
# has one stored vocabulary, `data/tokenizer.tiktoken`, which `train_bpe` learned from English and Chinese text. All models of
# the course use it. (Two later steps of this lesson return to the vocabularies that we have just learned, because they
# compare sizes.)
#
# We encode the whole validation text in both ways: with a loop of ours, `bpe_encode`, which calls the function above for each
# word, and with tiktoken. Both must give the same ids.

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
    f"There are {len(slow):,} ids, and all are equal. Our loop took {between - began:.2f} s, and tiktoken took "
    f"{ended - between:.3f} s."
)
say(
    f"The vocabulary has V = {tokenizer.n_vocab:,} tokens: 256 bytes, {len(tokenizer.ranks) - 256:,} merges, and "
    f"{len(tokenizer.special_ids)} special tokens, {' '.join(tokenizer.special_ids)}."
)

# %% [markdown]
# A special token is not a piece of text. `<|endoftext|>` marks the end of a document. From here on we call it *the end token*,
# and print it as ■. The others are explained where a lesson needs them.

# %% [markdown]
# ## Nothing is outside the vocabulary
#
# A character without a token of its own falls back to its bytes, because every byte is a token. So every text can be encoded,
# and decoding gives back every character.
#
# Nobody can make a special token by typing its name. The typed text `<|endoftext|>` is cut into ordinary tokens. Only our own
# code can insert the special token, with `allow_special=True`.
#
# **Predict before you run:** the balloon has no token of its own. How many tokens does it become?

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
say(f"With allow_special=True, {text} is one id: {tokenizer.encode(text, allow_special=True)}.")
assert len(tokenizer.encode("🎈")) == 4

# %% [markdown]
# The balloon becomes four tokens, one for each byte. In the table they are printed as `\xf0` and so on.

# %% [markdown]
# ## What a larger vocabulary saves
#
# Each merge makes the text shorter, so the model has fewer tokens to read. But each token also needs parameters in the model,
# and it must occur often enough to be learned. Here we measure only the advantage, how much shorter the text becomes:
#
#     compression = bytes of text / tokens
#
# The merges are learned in order. So the first V tokens of a large vocabulary are the vocabulary of size V, and one training
# is enough for all sizes.
#
# **Predict before you run:** if V is doubled, is the compression doubled too?

# %%
text = "\n".join(documents["valid"])
sizes = [size for size in (256, 288, 320, 384, 512, 768, 1024, 2048, 4096) if size <= largest]
compression = []
for size in sizes:
    some = Tokenizer({token: rank for token, rank in ranks.items() if rank < size})
    compression.append(len(text.encode()) / len(some.encode(text)))
with figure("compression", "Bytes of English per token, by the size of the vocabulary.") as axes:
    axes.plot(sizes, compression, "o-")
    axes.set(xscale="log", xlabel="vocabulary size V", ylabel="bytes per token (validation text)")
    axes.set(ylim=(0, None))
    axes.set_xticks(sizes[::2], [f"{size:,}" for size in sizes[::2]], minor=False)
    axes.minorticks_off()
table(
    [(v, c, bar(c, largest=max(compression))) for v, c in zip(sizes, compression, strict=True)],
    ["V", "bytes per token", ""],
    [",", ".2f", None],
)
assert compression == sorted(compression)
assert QUICK or compression[-1] < 1.25 * compression[-2]

# %% [markdown]
# At the beginning it almost is, and later it is not. The most frequent pairs are merged first, so each later merge saves
# less. The last doubling, from 2,048 to 4,096, makes the text only a little shorter. So beyond some size a larger V costs
# parameters and saves little. The course takes V = 2,048.

# %% [markdown]
# ## The chain rule
#
# Now we come to the probabilities. 000 §4.1 writes a sentence as s = (w_1, w_2, ..., w_n), where each w is a token. Its
# probability is the probability that all these tokens stand there, in this order:
#
#     P(s) = P(w_1, w_2, ..., w_n)
#
# The chain rule (链式法则) splits it into factors. Each factor asks for one token, given the tokens before it:
#
#     P(s) = P(w_1) P(w_2|w_1) P(w_3|w_1, w_2) ... P(w_n|w_1, w_2, ..., w_{n-1})
#
# We write w_<t for all tokens before w_t. Then the same rule is P(s) = Π_t P(w_t | w_<t), where Π means a product.
#
# Let us count. How many documents begin with `In`? How many of these go on with a certain second word, and with a certain
# third? (In this step w_t is a whole word.) We take the most frequent beginning of three words. Each factor is a fraction of
# two counts, such as "documents that begin with In / all documents".
#
# **Predict before you run:** we multiply the three fractions. Which two counts are left?

# %%
from collections import Counter

begins = [tuple(document.split()[:3]) for document in documents["train"]]
beginning = Counter(words for words in begins if words[0] == "In").most_common(1)[0][0]
product, rows, before = 1.0, [], len(begins)
for t in (1, 2, 3):
    count = sum(words[:t] == beginning[:t] for words in begins)
    rows.append((" ".join(beginning[:t]), count, f"{count:,} / {before:,}", count / before))
    product *= count / before
    before = count
table(rows, ["the document begins", "documents", "P(w_t | w_<t)", ""], [None, ",", None, ".4f"])
say(
    f"The product is {product:.6f}. Of {len(begins):,} documents {count:,} begin with these three words, which is a "
    f"fraction of {count / len(begins):.6f}."
)
assert math.isclose(product, count / len(begins))

# %% [markdown]
# The counts in the middle cancel. What is left is "documents with this beginning / all documents". So the chain rule is
# exact: nothing is lost, and nothing is assumed. It also gives a machine a task that it can practise: *predict the next token
# from the tokens before it*. Every GPT is trained on this task.
#
# *Where the document is not exact.* 000 §4.1 says that the chain rule is used to simplify the computation (为了简化计算). The rule
# alone simplifies nothing. Its last factor needs all tokens before it, and is as hard to know as the whole. The next step
# simplifies.

# %% [markdown]
# ## A bigram model remembers one token
#
# The beginning of a longer sentence has often never occurred before, and then we have nothing to count. So we give something
# up. A bigram model (二元语法) forgets all tokens before w_t except the one directly before it:
#
#     P(w_t | w_<t) ≈ P(w_t | w_{t−1}) = N(w_{t−1} w_t) / N(w_{t−1})
#
# N(a b) is how often the token b follows the token a in the training text. N(a) is how often any token follows a. The sign ≈
# shows that this is an approximation; the chain rule was exact. (It is called the Markov assumption.)
#
# The first token of a document has no token before it. So we put an end token ■ between all documents. It is the token before
# each first token, and also the token after each last token.
#
# The model must also say where a sentence ends. Suppose that it could not. P(w_1), summed over all tokens, is 1, so the
# sentences of one token already use up the whole probability. The sentences of two tokens sum to 1 as well, and so on: the
# total is infinite. With an end token, each sentence also pays for its end, and all sentences together sum to 1.
#
# (From here on a comment such as `# (T, V)` gives the shape of a tensor: T rows and V columns. T is the number of tokens.)
#
# **Predict before you run:** 2,048 · 2,048 ≈ 4.2 million pairs are possible. The training text has about 700,000 tokens, so at
# most a sixth of the pairs can occur. Is the real fraction close to a sixth, or much smaller?

# %%
import torch
from minitransformer.course.bigram import NGram

train, valid, test = (
    token_stream(documents[split], tokenizer) for split in ("train", "valid", "test")
)  # (T)
V = tokenizer.n_vocab
bigram = NGram(train, V, n=2)
probs = bigram.next_probs(torch.tensor(tokenizer.encode(" went")))  # (V)
likeliest = probs.argsort(descending=True)[:6].tolist()
rows = [(tokenizer.token(i), probs[i].item(), bar(probs[i].item())) for i in likeliest]
table(rows, ["token b", "P(b | ␣went)", ""], [None, ".3f", None])
say(
    f"The {len(train):,} training tokens hold {bigram.n_grams:,} different pairs, which is {bigram.n_grams / V**2:.1%} of the "
    f"{V * V:,} that are possible."
)
assert bigram.n_grams < 0.02 * V * V and (QUICK or tokenizer.token(likeliest[0]) == "␣to")

# %% [markdown]
# It is much smaller, because the same pairs come again and again: after `␣went`, nearly every second token is `␣to`. The model
# has probability 0 for all pairs that never occur. This will need a repair.

# %% [markdown]
# ## The whole model is a table
#
# A bigram model is a table with a row for each token a and a column for each token b. The cell holds P(b | a). Each row sums
# to 1. (A token that never occurs in the training text, such as a Chinese one, has a row of zeros.)
#
# We draw a corner of the table: the 16 most frequent tokens a, and the 24 tokens b that follow them most. (The figure writes
# (end) for ■.)
#
# **Predict before you run:** where is the brightest cell: after `␣the`, after `,`, or after `.`? Think of how many different
# tokens can follow.

# %%
rows = torch.bincount(train, minlength=V).topk(16).indices  # the most frequent tokens a
probs = torch.stack([bigram.next_probs(a[None]) for a in rows])  # (16, V)
columns = probs.sum(dim=0).topk(24).indices  # the tokens b that follow them most
corner = probs[:, columns]  # (16, 24)
a, b = divmod(corner.argmax().item(), 24)
with figure(
    "bigram_table", "P(b | a): each row is what follows one token a.", size=(9.0, 5.0)
) as axes:
    image = axes.imshow(corner, vmin=0)
    names = [
        ["(end)" if i == tokenizer.eot_id else tokenizer.token(i) for i in ids.tolist()]
        for ids in (rows, columns)
    ]
    axes.set_yticks(range(16), names[0])
    axes.set_xticks(range(24), names[1], rotation=90)
    axes.set(xlabel="next token b", ylabel="token a")
    axes.grid(False)
    axes.figure.colorbar(image, shrink=0.8, label="P(b | a)")
say(
    f"The brightest cell is P({tokenizer.token(columns[b])} | {tokenizer.token(rows[a])}) = {corner[a, b]:.2f}. "
    f"The rows sum to {probs.sum(dim=1).min():.4f} at least and {probs.sum(dim=1).max():.4f} at most."
)
assert QUICK or tokenizer.token(rows[a]) == ","
assert bigram.next_probs(torch.tensor(tokenizer.encode(" the"))).max() < 0.05
assert (bigram.next_probs(torch.tensor(tokenizer.encode(" the"))) > 0).sum() > 200

# %% [markdown]
# It is after the comma, where `␣and` follows very often. The row of `␣the` is dark everywhere. Hundreds of
# tokens can follow it, so each of them has a small probability.

# %% [markdown]
# ## The probability of a sentence
#
# Now we apply the chain rule to a real sentence. A product of many small numbers is inconvenient. Its logarithm is a sum:
#
#     log P(s) = Σ_t log P(w_t | w_{t−1})
#
# (log is the natural logarithm throughout this course. Its unit is called nat.) We call −log P(w_t | w_{t−1}) the *surprise*
# of a token. It is 0 for a token that was certain, and large for a token that nobody expected.
#
# We ask how likely a document is to begin with `It was a cold morning.` So the end token stands before the sentence, and no
# token stands after it.
#
# **Predict before you run:** the sentence has six tokens, five words and the full stop. Which of them surprises the model
# most?

# %%
sentence = "It was a cold morning."
ids = torch.tensor([tokenizer.eot_id, *tokenizer.encode(sentence)])  # (T)
log_probs = bigram.log_probs(ids)  # (T-1)
rows = []
for i, log_prob in zip(ids[1:].tolist(), log_probs.tolist(), strict=True):
    rows.append((tokenizer.token(i), math.exp(log_prob), log_prob, bar(-log_prob, 10, width=20)))
table(rows, ["w_t", "P(w_t | w_{t−1})", "log P", "surprise"], [None, ".5f", ".3f", None])
product, total = log_probs.exp().prod().item(), log_probs.sum().item()
say(
    f"The product is {product:.3e}. The logarithms sum to {total:.3f}, and e to this power is {math.exp(total):.3e}."
)
assert math.isclose(product, math.exp(total), rel_tol=1e-6)
assert QUICK or rows[log_probs.argmin()][0] == "␣cold" and rows[log_probs.argmax()][0] == "␣was"

# %% [markdown]
# It is `␣cold`, because many different tokens can follow `␣a`. The token `␣was` after `It` surprises it least.

# %% [markdown]
# ## Which sentence is likelier?
#
# This is the question of the lesson. The second sentence has the same words in another order.
#
# **Predict before you run:** is the second sentence a little less likely for the model, much less likely, or impossible?

# %%
compared = {}
for text in ("It was a cold morning.", "It was morning a cold."):
    ids = torch.tensor([tokenizer.eot_id, *tokenizer.encode(text)])
    compared[text] = bigram.log_probs(ids).sum().item()
    verbatim(f"log P = {compared[text]:7.2f}   {text}")
first, second = compared.values()
assert second == -math.inf < first

# %% [markdown]
# It is impossible. The words in the other order have other neighbours, and at least one of these pairs never occurred in the
# training text. One factor of the product is then 0, so P(s) is 0, and log 0 is −inf. So the model knows no grammar. It only
# knows which neighbours occurred. To call a sentence impossible for this reason is too strict; a later step mends it.

# %% [markdown]
# ## Why logarithms
#
# There is a second reason for logarithms. We multiply the probabilities of the training text from its start. The smallest
# positive number that 32-bit floating point can hold is about 1e-45; below that it is 0.
#
# **Predict before you run:** suppose that a typical factor is about 1/20. After how many tokens is the product exactly 0?

# %%
log_probs = bigram.log_probs(train[:2000])  # (T-1)
zero_from = {}
for dtype in (torch.float32, torch.float64):
    running = log_probs.exp().to(dtype).cumprod(0)  # (T-1)
    zero_from[dtype] = (running > 0).sum().item() + 1
    say(f"{dtype}: the product is 0 from token {zero_from[dtype]} on.")
say(f"The sum of all {len(log_probs):,} logarithms is {log_probs.sum():.1f}.")
assert 10 < zero_from[torch.float32] < 100 < zero_from[torch.float64] < 1000
assert log_probs.sum().isfinite()

# %% [markdown]
# A few dozen tokens are enough, and a few hundred at double precision. The sum of the logarithms is an ordinary number,
# however long the text is. So programs compute with logarithms.

# %% [markdown]
# ## Cross-entropy: the mean surprise
#
# How well does the model know a text? We need one number for it. 004 §4.2 measures one prediction by the cross-entropy loss
# (交叉熵损失):
#
#     L(x, y) = −Σ_{i=1}^{C} y_i log ŷ_i
#
# x is the example, here the tokens before; the prediction ŷ depends on it. C is the number of classes. For a language model the classes are the tokens, so C = V. (Later C has another meaning in
# this course, the width of a model. So we write V from now on.) ŷ is the predicted distribution: ŷ_i is the probability of
# token i. y is the truth: y_i is 1 for the token that really came, and 0 for all others. Such a vector is called one-hot.
#
# The loss of a text is the mean of this over all its predictions. We compute it for 200 of them in two ways: by the formula,
# and by the method `loss` of our bigram model, which only averages the surprise.
#
# **Predict before you run:** the sum over i has V terms. How many of them are not 0?

# %%
import torch.nn.functional as F

x, targets = train[:200], train[1:201]  # each token, and the one that follows it
y_hat = torch.stack([bigram.next_probs(token[None]) for token in x])  # (T, V)
y = F.one_hot(targets, V)  # (T, V)
terms = torch.xlogy(y, y_hat)  # y_i log ŷ_i, and 0 · log 0 counts as 0
by_formula = -terms.sum(dim=-1).mean()
by_method = bigram.loss(train[:201])
table(
    [("−Σ y log ŷ, averaged", by_formula.item()), ("NGram.loss", by_method)],
    ["computed by", "nats per token"],
    [None, ".6f"],
)
say(f"At most {(terms != 0).sum(dim=-1).max()} of the {V:,} terms of a prediction is not 0.")
assert abs(by_formula - by_method) < 1e-9 and (terms != 0).sum(dim=-1).max() == 1

# %% [markdown]
# Only the term of the right token is left: −log ŷ of the token that came. So cross-entropy is the surprise, and the loss of
# a text is its mean surprise. The lower the loss, the better the model knows the text.
#
# *Where the document is not exact.* The document's formula is for one example (对于一个样本x). In training one takes the mean over
# many examples. The document writes this mean only later, for BERT (lesson 4).

# %% [markdown]
# ## Softmax: from scores to a distribution
#
# The formula needs a distribution ŷ: no number below 0, and a sum of 1. Later models, which are neural networks, compute one
# score u_i for each token, and a score can be any number. These scores are called logits. Softmax turns them into a
# distribution:
#
#     softmax(u)_i = exp(u_i) / Σ_j exp(u_j)
#
# exp makes every number positive, and the division makes the sum 1. Our function `cross_entropy` takes logits: it applies
# softmax, and then averages the surprise. You write it in exercise 1.3 of the workbook. When your version passes, ours is shown here. PyTorch
# has the same function.
#
# Our bigram has no logits, but log ŷ will do, because softmax(log ŷ) = ŷ.
#
# **Predict before you run:** we add 5 to every logit. How does the loss change?

# %%
from minitransformer.course.bigram import bits_per_byte, cross_entropy
from minitransformer.metrics import perplexity

source(cross_entropy)
logits = y_hat.log() + 5.0  # (T, V)
with_logits = {
    "cross_entropy(logits)": cross_entropy(logits, targets).item(),
    "torch's own": F.cross_entropy(logits, targets).item(),
}
table(list(with_logits.items()), ["computed by", "nats per token"], [None, ".6f"])
assert all(abs(loss - by_method) < 1e-9 for loss in with_logits.values())

# %% [markdown]
# It does not change. The factor exp(5) stands above and below the fraction bar, and cancels. Only differences between logits
# matter.

# %% [markdown]
# ## What never occurred
#
# Now the bigram reads the validation text. Some pairs in it never occurred in the training text, and the model gives them
# probability 0.
#
# **Predict before you run:** suppose that only one of the pairs is new. What is the loss of the whole text?

# %%
unseen = bigram.log_probs(valid).isneginf()  # (T-1)
first = unseen.nonzero()[0].item()
pair = " ".join(f"`{tokenizer.token(i)}`" for i in valid[first : first + 2].tolist())
say(f"The loss is {bigram.loss(valid)}.")
say(f"Of {len(unseen):,} validation pairs {unseen.sum():,} are new. The first new pair is {pair}.")
assert bigram.loss(valid) == math.inf

# %% [markdown]
# A single new pair is enough: −log 0 is infinite, and so is every mean that contains it.

# %% [markdown]
# ## Smoothing, chosen on validation
#
# A pair that was never seen is not impossible. Smoothing (平滑) acts as if every pair had occurred α more times than it did:
#
#     P(b | a) = (N(a b) + α) / (N(a) + αV)
#
# We have to choose α; it cannot be counted. Such a number is called a hyper-parameter (超参数). We cannot choose it on the
# training text. There α = 0 is always the best, because no other table fits a text as well as its own counts. We must not
# choose it on the test text, because then the test would no longer be a test. The validation text exists for such choices.
#
# **Predict before you run:** we measure the training loss and the validation loss for many values of α. What do the two do
# when α gets very large? Is there a value that they come near to?

# %%
alphas = [10**exponent for exponent in torch.arange(-4, 3.01, 1.0 if QUICK else 0.5).tolist()]


def losses(model: NGram, text: torch.Tensor) -> list[float]:
    """The model's loss on the text for each α."""
    found = []
    for alpha in alphas:
        model.alpha = alpha
        found.append(model.loss(text))
    return found


on_train, on_valid = losses(bigram, train), losses(bigram, valid)
best_alpha = alphas[on_valid.index(min(on_valid))]
bigram.alpha = best_alpha
with figure(
    "smoothing",
    "Loss by α: for all α on the left; on the right, the lowest part enlarged.",
    (9.5, 3.8),
    1,
    2,
) as (whole, enlarged):
    for axes in (whole, enlarged):
        axes.plot(alphas, on_train, "o-", label="train")
        axes.plot(alphas, on_valid, "s-", label="validation")
        axes.set(xscale="log", xlabel="α")
    whole.axhline(math.log(V), color="grey", linestyle=":", label="all tokens alike, log V")
    whole.set(ylabel="loss, nats per token", ylim=(0, 1.1 * math.log(V)))
    whole.legend(loc="lower right")
    enlarged.axvline(best_alpha, color="grey", linestyle="--", label="the chosen α")
    enlarged.set(xlim=(alphas[0] / 2, 0.3), ylim=(min(on_train) - 0.1, min(on_valid) + 0.4))
    enlarged.legend(loc="upper left", bbox_to_anchor=(0.0, 0.62))
say(
    f"The best on validation is α = {best_alpha:.2g}, with a loss of {min(on_valid):.3f}. At α = {alphas[-1]:,.0f} the "
    f"loss is {on_valid[-1]:.3f}; log V is {math.log(V):.3f}."
)
assert on_train == sorted(on_train) and alphas[0] < best_alpha < 1
assert 0.95 * math.log(V) < min(on_train[-1], on_valid[-1]) <= on_valid[-1] < 1.01 * math.log(V)

# %% [markdown]
# Both come near to log V. When α is very large, the counts no longer matter: P(b | a) ≈ α / (αV) = 1/V, and −log(1/V) = log V.
# From the smallest α to the largest, the training loss only grows. The validation loss first falls, because new pairs get some probability, and then
# grows too. We take the α at its lowest point.

# %% [markdown]
# ## Perplexity, and what to compare with
#
# A loss in nats is hard to imagine. Perplexity (困惑度) turns it into a number of choices:
#
#     perplexity = exp(loss)
#
# If a model hesitates between k equally likely tokens, its loss is log k, and its perplexity is k.
#
# A number needs something to compare it with. We take two simpler models. The uniform model gives all V tokens the same
# probability. A unigram model (一元语法) knows how frequent each token is, and looks at nothing before it.
#
# **Predict before you run:** what exactly is the perplexity of the uniform model? (V was printed above, with the special
# tokens.)

# %%
unigram = NGram(train, V, n=1, alpha=best_alpha)
baselines = {"uniform": math.log(V), "unigram": unigram.loss(valid), "bigram": bigram.loss(valid)}
rows = [(name, loss, perplexity(loss)) for name, loss in baselines.items()]
table(rows, ["model", "loss on validation", "perplexity"], [None, ".3f", ".1f"])
assert baselines["bigram"] < 0.7 * baselines["unigram"] < baselines["unigram"] < math.log(V)

# %% [markdown]
# It is V: the model hesitates between all tokens. To know the frequencies helps. To know one token before helps much more.

# %% [markdown]
# ## A longer memory, and overfitting
#
# If one token before helps so much, what about two, or four? An n-gram model (n 元语法) looks at the n − 1 tokens before. For
# n = 2 it is the bigram. (In 000 §4.1 above, n was the number of tokens of a sentence. From here on it is that of an n-gram.)
# There are V^n possible n-grams, and the text holds only a few of them.
#
# Each n gets its own best α, chosen on validation.
#
# **Predict before you run:** which n has the lowest loss on the training text? Which on the validation text?

# %%
rows, models = [], {}
for n in (1, 2, 3, 4, 5):
    model = NGram(train, V, n)
    on_valid = losses(model, valid)
    model.alpha = alphas[on_valid.index(min(on_valid))]  # its own best
    models[n] = model
    rows.append((n, model.n_grams, model.alpha, model.loss(train), min(on_valid)))
best_n = min(rows, key=lambda row: row[-1])[0]
table(
    rows,
    ["n", "different n-grams", "best α", "train loss", "validation loss"],
    [None, ",", ".2g", ".3f", ".3f"],
)
n_values, on_train, on_valid = ([row[column] for row in rows] for column in (0, 3, 4))
with figure("ngrams", "The loss by the length of the memory.") as axes:
    axes.plot(n_values, on_train, "o-", label="train")
    axes.plot(n_values, on_valid, "s-", label="validation")
    axes.set(xlabel="n", ylabel="loss, nats per token", xticks=n_values, ylim=(0, None))
    axes.legend()
say(f"The lowest validation loss is that of n = {best_n}.")
assert on_train == sorted(on_train, reverse=True) and 1 < best_n < 5
assert on_valid[best_n - 1 :] == sorted(on_valid[best_n - 1 :])

# %% [markdown]
# On the training text, a longer memory is always better. On the validation text it is better at first, and then worse. The
# long contexts of the training text almost never come again in another text. The model has learned the text by heart, and
# not the language. This is called overfitting (过拟合). We see it only because we have kept a text apart.

# %% [markdown]
# ## Bits per byte: comparing vocabularies
#
# Can we compare two models by perplexity if their vocabularies differ? A token of a large vocabulary stands for more text, so
# it is harder to predict. But the text itself is the same for both. So we divide the whole surprise by the number of bytes,
# and count in bits (one nat is 1 / log 2 bits):
#
#     bits per byte = loss · tokens / bytes / log 2
#
# **Predict before you run:** we count bigrams for several V, the smallest being 256 (single bytes). Which V gives the lowest
# perplexity? Which gives the fewest bits per byte?

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
assert min(rows, key=lambda row: row[3]) == rows[-1]

# %% [markdown]
# Single bytes have the lowest perplexity, and yet they need the most bits. The largest vocabulary needs the fewest.
# Perplexity compares models of one vocabulary only. Bits per byte compare all of them.

# %% [markdown]
# ## The test, once
#
# We chose n and α on the validation text: the values with the lowest loss. The test text had no part in any choice. We measure
# the best model of this lesson on it now, once.
#
# **Predict before you run:** will the test loss be near the validation loss of the same model, or far above it?

# %%
model = models[best_n]
n_bytes = sum(len(text.encode()) for text in documents["test"])
loss = model.loss(test)
say(
    f"n = {best_n}, α = {model.alpha:.2g}: the validation loss is {model.loss(valid):.3f}, and the test loss is {loss:.3f}. "
    f"That is a perplexity of {perplexity(loss):.1f}, or {bits_per_byte(loss, len(test), n_bytes):.3f} bits per byte."
)
assert abs(loss - model.loss(valid)) < 0.3

# %% [markdown]
# It is near. A chosen minimum looks a little too good in general. But two choices among a few values cannot fit a text of this
# size by chance.

# %% [markdown]
# ## Let it write
#
# A model of the next token can write. We draw a token from its distribution, append it, and ask again, until the end token
# comes. All five models go on from the same beginning. We set α = 0, so each model writes only n-grams that it has seen.
#
# **Predict before you run:** how do the texts of n = 2 and of n = 5 differ? Each has one fault. Which?

# %%
corpus, longest = "\n".join(documents["train"]), {}
start = train[:6]  # the end token and the first five tokens of the training text
for n, model in models.items():
    model.alpha = 0.0
    ids = model.sample(start, length=60, stop=tokenizer.eot_id, seed=2)
    begun, text = tokenizer.decode(start[1:]), tokenizer.decode(ids[len(start) :])
    text = text.removesuffix("<|endoftext|>")
    copied = 0  # the characters of the longest piece that also stands in the training text
    for i in range(len(text)):
        while i + copied < len(text) and text[i : i + copied + 1] in corpus:
            copied += 1
    longest[n] = copied
    say(
        f"**n = {n}**, {copied} of {len(text)} new characters copied in one piece: **{begun}**{text}\n"
    )
assert QUICK or longest[5] > 2 * max(longest[1], longest[2])

# %% [markdown]
# In the bigram's text every two neighbours fit, but the sentence as a whole goes nowhere. With n = 5 the text is fluent. But we
# also measured the longest piece of the new text that stands in the training text, letter by letter, and for n = 5 it is
# long: the model copies. A good model has to do what neither can: look far back, and still write something new.

# %% [markdown]
# ## The same bigram, learned
#
# So far we have counted. A neural network (神经网络) does not count. It is a function with adjustable numbers, which are called
# its parameters (参数). Training changes the parameters step by step, so that the loss falls.
#
# The smallest such function is a table. Its V × V parameters are logits. Row a holds the logits of what follows token a:
#
#     P(b | a) = softmax(table[a])_b
#
# So this network is a bigram model too. We start it with zeros everywhere.
#
# **Predict before you run:** what is its loss before the first step?

# %%
from minitransformer.course.bigram import BigramTable

network = BigramTable(V)
x, targets = train[:2000], train[1:2001]  # (T)
loss = F.cross_entropy(network(x), targets)
say(f"The loss is {loss.item():.4f}, and log V is {math.log(V):.4f}.")
assert abs(loss.item() - math.log(V)) < 1e-4

# %% [markdown]
# Equal logits give equal probabilities, so this is the uniform model, with the loss log V.

# %% [markdown]
# ## Which way is down?
#
# The gradient (梯度) tells for each parameter how the loss changes when the parameter grows a little. For one prediction with
# logits u it has a simple form:
#
#     ∂L/∂u_i = ŷ_i − y_i
#
# PyTorch computes gradients by itself: `backward()` puts the derivative of the loss for each parameter into `.grad`. We take
# random logits, and compare.
#
# **Predict before you run:** there are V tokens, and the logits are random, so each ŷ_i is small. What is the gradient of the
# right token's logit, approximately?

# %%
u = torch.randn(V, generator=torch.Generator().manual_seed(0), requires_grad=True)
F.cross_entropy(u, targets[0]).backward()
formula = u.detach().softmax(dim=-1) - F.one_hot(targets[0], V)  # (V)
difference = (u.grad - formula).abs().max().item()
say(f"The gradient of the right token's logit is {u.grad[targets[0]]:.4f}.")
say(f"PyTorch's gradient and ŷ − y differ by {difference:.0e} at most, which is rounding.")
assert difference < 1e-6 and -1 <= u.grad[targets[0]] < -0.9

# %% [markdown]
# It is nearly −1. A negative gradient says that the loss falls when this logit grows. So a step against the gradient raises
# the logit of the right token and lowers all others, each in proportion to the error of its probability.

# %% [markdown]
# ## Gradient descent against counting
#
# Gradient descent (梯度下降) repeats five actions. It takes some pairs of tokens, computes the loss, clears the old gradient
# (`zero_grad()`), computes the new one, and moves each parameter a little against its gradient (`optimizer.step()`). The rule
# for the size of the step is Adam's: no parameter moves much further than the learning rate `lr`.
#
# Counting with α = 0 gives the lowest training loss that any bigram table can have. So we know where the learned table can go
# at best.
#
# **Predict before you run:** one round takes 2,048 of the training pairs. There are about 700,000 pairs and 160 rounds. Will the learned table reach that lowest loss, or only come near to it?

# %%
from minitransformer.training.progress import progress

torch.manual_seed(0)
optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
steps, history = (20 if QUICK else 160), []
for step in progress(range(steps + 1), desc="learning the bigram"):
    at = torch.randint(len(train) - 1, (2048,))  # (B)
    loss = F.cross_entropy(network(train[at]), train[at + 1])
    if step % 20 == 0:
        table_of_logs = network.table.detach().log_softmax(dim=-1)  # (V, V)
        mean_loss = [-table_of_logs[text[:-1], text[1:]].mean().item() for text in (train, valid)]
        history.append((step, *mean_loss))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

bigram.alpha = best_alpha
smoothed = bigram.loss(valid)
bigram.alpha = 0.0
optimum = bigram.loss(train)
at, on_train, on_valid = zip(*history, strict=True)
with figure("learned_bigram", "The loss of the learned table, step by step.") as axes:
    axes.plot(at, on_train, "o-", label="learned, train")
    axes.plot(at, on_valid, "s-", label="learned, validation")
    axes.axhline(smoothed, color="grey", linestyle="--", label="counted, validation (best α)")
    axes.axhline(optimum, color="black", linestyle=":", label="counted, train (α = 0)")
    axes.set(xlabel="step", ylabel="loss, nats per token", ylim=(0, None))
    axes.legend(loc="upper right")
rows = [("train", optimum, on_train[-1]), ("validation", smoothed, on_valid[-1])]
table(rows, ["split", "counted", "learned"], [None, ".3f", ".3f"])
assert on_train[-1] > optimum and on_valid[-1] > smoothed
assert QUICK or (on_train[-1] < optimum + 0.6 and on_valid[-1] < smoothed + 0.6)

# %% [markdown]
# It comes near, and does not reach it. Frequent pairs are learned quickly. Rare pairs are seen too seldom in so
# few rounds. So for a bigram, counting is better.
#
# But look at what the learned way needs: a function from the context to logits, the cross-entropy, and a gradient. It does not
# matter how long the context is, or whether it has occurred before. If we put a Transformer in the place of the table, the
# same few lines train it. This is what lesson 3 does.

# %% [markdown]
# ## The answer
#
# A language model cuts a text into tokens and multiplies the probabilities of each token given the tokens before it. The
# likelier sentence has the larger product. The mean surprise on a held-out text, the cross-entropy, measures how well the
# model knows the language; lower is better.
#
# To try next:
#
# - Put sentences of your own into "Which sentence is likelier?". Can you find a pair for which the bigram is wrong?
# - Write a sentence in Chinese into "Nothing is outside the vocabulary". Which characters are single tokens?
# - Give "The merges of the tiny world" a text in another language.
# - Take more steps in the last training. What happens to the validation loss, and why is it not the same picture as for the
#   training loss?
#
# Exercises: `make start-1` writes the stubs of this lesson's exercises to `workbook/lesson_01.py`, and `make check-1` checks
# them. Lesson 2 builds attention, which looks further back than one token.
#
# Further reading: "Neural Machine Translation of Rare Words with Subword Units" (Sennrich et al., 2016); "Prediction and
# Entropy of Printed English" (Shannon, 1951); "Speech and Language Processing" (Jurafsky & Martin), the chapter on n-gram
# language models; "An Empirical Study of Smoothing Techniques for Language Modeling" (Chen & Goodman, 1999).
