"""Exercises of lesson 4: three fates of a chosen word, pairs, the head over the words, and the losses."""

import math

import torch
import torch.nn.functional as F
from minitransformer.course.data import default_tokenizer
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import calls
from minitransformer.models.bert import Bert, BertConfig, MaskedWordHead
from minitransformer.text.batches import IGNORE
from minitransformer.training.losses import _masked_words, cross_entropy_sum
from torch import nn


def lively(model, frozen=True):
    """A model all of whose numbers are random, those of the norms too, so that no two of its parts are alike."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model.eval().requires_grad_(not frozen)


# ---------------------------------------------------------------- 4.1

fates = Exercise(
    id="4.1",
    target="minitransformer.course.batches.masking:corrupt",
    title="Three fates",
    minutes=20,
    difficulty=2,
    purpose="Which words are to be guessed is decided: `chosen` (B, T) says so. Now 80 of 100 of them become [MASK], 10 another "
    "word, 10 stay; and the labels keep what stood there. A model that saw [MASK] only would have nothing to say about texts "
    "without one.",
    given=(
        "torch.where(condition, a, b): a where the condition is True, b elsewhere; one of them may be a single number.",
        "draw(): random numbers (B, T) from 0 to 1, other ones at each call.",
        "IGNORE: the label where nothing is asked.",
    ),
    hints=(
        "Two tensors: labels, which are the ids where chosen and IGNORE elsewhere, and corrupted, what the model gets to read. "
        "torch.where(condition, a, b) makes both, without a loop and without touching ids.",
        "One draw decides the fate of each place: below 0.8 it becomes [MASK], from 0.8 to 0.9 another word, above that nothing "
        "happens. Which word it is needs a draw of its own: words holds the ids that may be put in, draw() is from 0 to 1.",
        "    labels = torch.where(chosen, ids, IGNORE)\n"
        "    fate = draw()\n"
        "    corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)\n"
        "    random_words = words[(draw() * len(words)).long()]\n"
        "    replaced = chosen & (fate >= 0.8) & (fate < 0.9)\n"
        "    corrupted = torch.where(replaced, random_words, corrupted)",
    ),
)


def fraction_of(mask):
    """How much of a boolean tensor is True."""
    return round(mask.double().mean().item(), 3)


def tried(corrupt, ids, chosen=None, mask_id=2, words=None, seed=0):
    """What becomes of a text; its words are the ids from 3 to 999, and all of them are chosen, if nothing else is said."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.ones_like(ids).bool() if chosen is None else chosen
    words = torch.arange(3, 1000) if words is None else words
    return corrupt(ids, chosen, mask_id, words, lambda: torch.rand(ids.shape, generator=generator))


@fates.scene
def labels_of_a_row(corrupt):
    """One row, four words of which are chosen; 2 is [MASK]."""
    ids = torch.tensor([[0, 5, 6, 7, 8, 9, 3, 4, 1]])
    chosen = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 1, 0]]).bool()
    _, labels = tried(corrupt, ids, chosen, seed=37)
    return {"labels": labels[0].tolist(), "type of the labels": str(labels.dtype)}


@fates.scene
def the_rest_is_left_alone(corrupt):
    """Where nothing is to be guessed, the text is as it was; and the tensor that was given is, everywhere."""
    ids = torch.arange(3, 403).view(4, 100)
    chosen = torch.rand(4, 100) < 0.5
    corrupted, labels = tried(corrupt, ids, chosen)
    return {
        "words changed that are not asked for": int(((corrupted != ids) & ~chosen).sum()),
        "whether exactly the chosen words have a label": torch.equal(labels != IGNORE, chosen),
        "whether the ids that were given are unchanged": torch.equal(
            ids, torch.arange(3, 403).view(4, 100)
        ),
    }


@fates.scene(tolerance=0.02)
def how_many_of_each(corrupt):
    """The fractions of the three fates among 24,000 chosen words."""
    ids = torch.randint(3, 1000, (40, 600))
    corrupted, _ = tried(corrupt, ids)
    return {
        "fraction that became [MASK]": fraction_of(corrupted == 2),
        "fraction that became another word": fraction_of((corrupted != 2) & (corrupted != ids)),
        "fraction that stayed as it was": fraction_of(corrupted == ids),
    }


@fates.scene(tolerance=0.04)
def in_small_batches(corrupt):
    """The fractions of the three fates in 800 batches of five chosen words each."""
    ids = torch.randint(3, 1000, (1, 12))
    chosen = torch.tensor([[1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0]]).bool()
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(3, 1000)
    many = [
        corrupt(ids, chosen, 2, words, lambda: torch.rand(1, 12, generator=generator))[0][chosen]
        for _ in range(800)
    ]
    found, own = torch.stack(many), ids[chosen]
    return {
        "fraction that became [MASK]": fraction_of(found == 2),
        "fraction that became another word": fraction_of((found != 2) & (found != own)),
        "fraction that stayed as it was": fraction_of(found == own),
    }


@fates.scene(tolerance=0.02)
def all_three_count(corrupt):
    """Of each fate, the fraction that is in the loss."""
    ids = torch.randint(3, 1000, (40, 300))
    corrupted, labels = tried(corrupt, ids)
    asked = labels == ids  # (B, T)
    return {
        "of those that became [MASK], the fraction in the loss": fraction_of(asked[corrupted == 2]),
        "of those that became another word, the fraction in the loss": fraction_of(
            asked[(corrupted != 2) & (corrupted != ids)]
        ),
        "of those that stayed as they were, the fraction in the loss": fraction_of(
            asked[corrupted == ids]
        ),
    }


@fates.scene
def which_are_put_in(corrupt):
    """A text of 7s only: which other words appear in it, where 3, 4, 5, 6, 8 and 12 may be put in?"""
    ids = torch.full((30, 200), 7)
    corrupted, _ = tried(corrupt, ids, words=torch.tensor([3, 4, 5, 6, 8, 12]))
    return {"ids of the words put in": sorted(set(corrupted.unique().tolist()) - {2, 7})}


@fates.scene
def the_same_again(corrupt):
    """The same draws, the same masks."""
    ids = torch.arange(3, 203).view(2, 100)
    first, again = (tried(corrupt, ids, seed=3)[0] for _ in range(2))
    return {"whether the second text is like the first": torch.equal(first, again)}


LABELS = "labels = torch.where(chosen, ids, IGNORE)  # (B, T)\n    fate = draw()"
HIDDEN = "corrupted = torch.where(chosen & (fate < 0.8), mask_id, ids)"
OTHERS = "corrupted = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_words, corrupted)"
DRAWN = "random_words = words[(draw() * len(words)).long().clamp(max=len(words) - 1)]"
fates.slip(
    "only [MASK] in the loss",
    "Your labels ask for the [MASK]s alone. Then the model may copy every word in plain sight without a thought; the changed "
    "and the kept ones are there to be guessed as well.",
    (LABELS, "fate = draw()\n    labels = torch.where(chosen & (fate < 0.8), ids, IGNORE)"),
)
fates.slip(
    "kept ones not in the loss",
    "Your labels leave out the chosen words that stay as they are. Without them, a chosen word that can be seen is always a wrong one, "
    "and the model never learns that a word in plain sight may be right.",
    (LABELS, "fate = draw()\n    labels = torch.where(chosen & (fate < 0.9), ids, IGNORE)"),
)
fates.slip(
    "loss on every word",
    "Your labels ask for every word. The 85 % that stand there unhidden are answered by copying, and drown the others: IGNORE where not chosen.",
    (LABELS, "labels = ids.clone()\n    fate = draw()"),
)
fates.slip(
    "0 where nothing is asked",
    "Your labels are 0 where nothing is asked. 0 is a token; the loss would ask for it everywhere. IGNORE says that there is no question.",
    (LABELS, "labels = torch.where(chosen, ids, 0)\n    fate = draw()"),
)
fates.slip(
    "always [MASK]",
    "Every chosen word becomes [MASK]. No text outside of training has one, so the model would have learned nothing about words that stand there.",
    (HIDDEN, "corrupted = torch.where(chosen, mask_id, ids)"),
    (OTHERS, "pass"),
)
fates.slip(
    "words that were not chosen",
    "Your fates fall on all words, chosen or not: 80 % of the whole text become [MASK]. Every condition begins with chosen &.",
    (HIDDEN, "corrupted = torch.where(fate < 0.8, mask_id, ids)"),
    (OTHERS, "corrupted = torch.where((fate >= 0.8) & (fate < 0.9), random_words, corrupted)"),
)
fates.slip(
    "nothing stays",
    "Of your chosen words, 20 % become another one, and none stays as it is. From 0.8 to 0.9 another word, from 0.9 on nothing happens.",
    (OTHERS, "corrupted = torch.where(chosen & (fate >= 0.8), random_words, corrupted)"),
)
fates.slip(
    "nothing is exchanged",
    "None of your chosen words becomes another one: what does not become [MASK] stays. The model may then trust every word that it sees.",
    (OTHERS, "pass"),
)
fates.slip(
    "two draws for one fate",
    "You draw once for [MASK] and once more for another word, so that a second draw undoes the first: 72 % [MASK], 18 % kept. One draw decides among all three.",
    (OTHERS, "corrupted = torch.where(chosen & (draw() < 0.1), random_words, corrupted)"),
)
fates.slip(
    "word drawn by its fate",
    "The number that decided the fate also picks the word. It lies between 0.8 and 0.9, so that only a tenth of the vocabulary ever appears; the word needs a draw of its own.",
    (DRAWN, "random_words = words[(fate * len(words)).long()]"),
)
fates.slip(
    "special tokens put in",
    "You draw from all ids, so that [CLS], [SEP] or padding turn up in the middle of a text. words holds those that may be put in.",
    (DRAWN, "random_words = (draw() * (int(words.max()) + 1)).long()"),
)
fates.slip(
    "numbers between the words",
    "You draw numbers from the smallest word to the largest. words is a list of ids, and what lies between them need not be a word: draw a place in the list, words[place].",
    (
        DRAWN,
        "random_words = (draw() * (words.max() - words.min() + 1)).long() + words.min()",
    ),
)
fates.slip(
    "last word never put in",
    "Your draw never reaches the last of the words. draw() is below 1, so draw() * len(words), rounded down, is a place from 0 to len(words) − 1 already.",
    (DRAWN, "random_words = words[(draw() * (len(words) - 1)).long()]"),
)
fates.slip(
    "fates by rank",
    "You share the fates out by rank: the first 80 % of the chosen words of a row, and so on. A row has only a few chosen words, and 80 % of three is no whole number of words: some fates never occur. Each word draws its own fate: fate < 0.8.",
    (
        "fate = draw()",
        "rank = draw().masked_fill(~chosen, 2.0).argsort(dim=1).argsort(dim=1)\n    fate = rank / chosen.sum(dim=1, keepdim=True).clamp(min=1)",
    ),
)
fates.slip(
    "own generator not used",
    "You draw with torch.rand, which knows nothing of the generator: the same batch would be masked differently each time, and a resumed training would be another. draw() uses it.",
    ("fate = draw()", "fate = torch.rand(ids.shape)"),
)
fates.slip(
    "the text itself is changed",
    "You write into ids. Whoever gave it loses the text; and labels taken afterwards are [MASK]s. torch.where makes new tensors.",
    (HIDDEN, "ids[chosen & (fate < 0.8)] = mask_id\n    corrupted = ids"),
)
fates.slip(
    "labels of the hidden text",
    "You take the labels after hiding: the answer to most questions is then [MASK]. The labels are what stood there before.",
    (LABELS, "fate = draw()"),
    (OTHERS, OTHERS + "\n    labels = torch.where(chosen, corrupted, IGNORE)"),
)
fates.slip(
    "one word for every place",
    "You draw one other word and put it wherever one is to be exchanged. Each place has a draw of its own: a whole tensor (B, T) of words.",
    (DRAWN, "random_words = words[(draw() * len(words)).long().flatten()[0]]"),
)
fates.slip(
    "chosen once more",
    "You draw once more which words are chosen: of those that `chosen` marks, only some are asked for and changed then. That is decided already; what is left is the fate.",
    (LABELS, "chosen = chosen & (draw() < 0.15)\n    " + LABELS),
)
fates.slip(
    "mostly another word",
    "You have the fractions the wrong way round: 80 % another word, 10 % [MASK]. 80 % become [MASK].",
    (HIDDEN, "corrupted = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), mask_id, ids)"),
    (OTHERS, "corrupted = torch.where(chosen & (fate < 0.8), random_words, corrupted)"),
)

# ---------------------------------------------------------------- 4.2


def pair_by_spelling(tokenizer, a, b=None):
    """The row written out as text, whose special tokens the tokenizer may read as such."""
    text = f"[CLS] {a}[SEP]" + (f" {b}[SEP]" if b is not None else "")
    ids, types, kind = tokenizer.encode(text, allow_special=True), [], 0
    for i in ids:
        types.append(kind)
        if i == tokenizer.sep_id:
            kind = 1
    return ids, types


pair = Exercise(
    id="4.2",
    target="minitransformer.course.batches.pairs:encode_pair",
    title="Two sentences, one row",
    minutes=10,
    difficulty=1,
    purpose="BERT reads two sentences as one row and judges whether the second follows the first. [CLS] is the place where the "
    "judgement is read off, [SEP] ends a sentence, and the token types tell which sentence a token belongs to.",
    given=(
        "tokenizer.encode(text): a list of ids; whatever the text holds is text.",
        "tokenizer.cls_id, tokenizer.sep_id: the special tokens.",
    ),
    hints=(
        "Make two lists of ids: the first with [CLS] in front and [SEP] at the end, the second with [SEP] at the end, or "
        "nothing if there is no B. The types follow from their lengths.",
        "tokenizer.cls_id and tokenizer.sep_id are the ids. Each sentence is encoded with a space before it. The first [SEP] "
        "still belongs to A.",
        '    first = [tokenizer.cls_id, *tokenizer.encode(" " + a), tokenizer.sep_id]\n'
        "    second = []\n"
        "    if b is not None:\n"
        '        second = [*tokenizer.encode(" " + b), tokenizer.sep_id]\n'
        "    return first + second, [0] * len(first) + [1] * len(second)",
    ),
    oracle=pair_by_spelling,
)


@pair.case
def a_word_alone():
    """One sentence of one word."""
    return default_tokenizer(), "Rain."


@pair.case
def two_words():
    """Two sentences of different length."""
    return default_tokenizer(), "Rain.", "It was cold."


@pair.case
def nothing_second():
    """A second sentence that is empty is still a sentence."""
    return default_tokenizer(), "Rain.", ""


@pair.case(oracle=None)
def signs_in_a_text():
    """A sentence that has [SEP] in it, in letters: they stay letters."""
    return default_tokenizer(), "Rain [SEP] snow.", "It was cold."


@pair.case
def spaces_at_the_edges():
    """A sentence that ends with a space, and one that begins with two."""
    return default_tokenizer(), "Rain. ", "  It was cold."


@pair.case
def two_sentences():
    """Two longer sentences."""
    return default_tokenizer(), "Yesterday it was rainy in Bosewick.", "So they went to the lake."


def wrong_pair(cls=True, space=" ", sep=True, last=True, types=None, without=()):
    """The function as a learner would write it, with one thing in it replaced."""

    def encode_pair(tokenizer, a, b=None):
        first = [tokenizer.cls_id] * cls + tokenizer.encode(space + a) + [tokenizer.sep_id] * sep
        second = (
            list(without) if b is None else tokenizer.encode(space + b) + [tokenizer.sep_id] * last
        )
        return first + second, types(first, second) if types else [0] * len(first) + [1] * len(
            second
        )

    return encode_pair


@pair.mistake("no [CLS]")
def no_cls(tokenizer, a, b=None):
    """Your row does not begin with [CLS]. The pooler reads the vector at place 0, which would then be that of the first word."""
    return wrong_pair(cls=False)(tokenizer, a, b)


@pair.mistake
def no_space(tokenizer, a, b=None):
    """You encode the sentences without a space before them. "Rain" and " Rain" are different tokens, and the second is the one that the model knows from running text."""
    return wrong_pair(space="")(tokenizer, a, b)


@pair.mistake
def no_space_before_b(tokenizer, a, b=None):
    """You encode B without a space before it. "It" and " It" are different tokens; each of the two sentences is encoded with a space before it."""
    first = [tokenizer.cls_id, *tokenizer.encode(" " + a), tokenizer.sep_id]
    second = [] if b is None else [*tokenizer.encode(b), tokenizer.sep_id]
    return first + second, [0] * len(first) + [1] * len(second)


@pair.mistake
def spaces_stripped(tokenizer, a, b=None):
    """You strip the sentences. Whatever a sentence holds is text, spaces too: encode it as it is, with one more space before it."""
    return wrong_pair()(tokenizer, a.strip(), b if b is None else b.strip())


@pair.mistake("no [SEP] between")
def no_sep_between(tokenizer, a, b=None):
    """There is no [SEP] behind A. It ends every sentence; without it only the types tell where A stops."""
    return wrong_pair(sep=False)(tokenizer, a, b)


@pair.mistake("no [SEP] at the end")
def no_sep_at_the_end(tokenizer, a, b=None):
    """There is no [SEP] behind B. It ends each of the two, it does not only stand between them."""
    return wrong_pair(last=False)(tokenizer, a, b)


@pair.mistake("[SEP] counted to b")
def sep_counted_to_b(tokenizer, a, b=None):
    """Your first [SEP] has type 1. It ends A and belongs to it: type 0 up to the first [SEP], and 1 after it."""
    return wrong_pair(types=lambda first, second: [0] * (len(first) - 1) + [1] * (len(second) + 1))(
        tokenizer, a, b
    )


@pair.mistake
def one_type_for_all(tokenizer, a, b=None):
    """All of your types are 0, so that the model cannot tell which sentence a word belongs to. B has type 1."""
    return wrong_pair(types=lambda first, second: [0] * len(first + second))(tokenizer, a, b)


@pair.mistake
def types_from_one(tokenizer, a, b=None):
    """Your types are 1 and 2. They are rows of a table of two: 0 and 1."""
    return wrong_pair(types=lambda first, second: [1] * len(first) + [2] * len(second))(
        tokenizer, a, b
    )


@pair.mistake("empty for None")
def empty_for_none(tokenizer, a, b=None):
    """Without B you still put a second [SEP]. A text alone is [CLS] A [SEP]; that is how a classifier is asked later."""
    return wrong_pair(without=[tokenizer.sep_id])(tokenizer, a, b)


@pair.mistake("empty taken for None")
def empty_taken_for_none(tokenizer, a, b=None):
    """You ask `if b`, which an empty sentence fails like None. It is `b is None` that says that there is no second sentence."""
    return wrong_pair()(tokenizer, a, b or None)


@pair.mistake
def spelled_as_text(tokenizer, a, b=None):
    """You write "[CLS]" and "[SEP]" into the text. There they are ordinary characters, so that nobody can slip them in; their ids are tokenizer.cls_id and tokenizer.sep_id."""
    first = tokenizer.encode(f"[CLS] {a}[SEP]")
    second = [] if b is None else tokenizer.encode(f" {b}[SEP]")
    return first + second, [0] * len(first) + [1] * len(second)


@pair.mistake
def signs_taken_for_tokens(tokenizer, a, b=None):
    """You let the tokenizer read "[CLS]" and "[SEP]" as special tokens (allow_special=True). Then whoever writes the text can end a sentence in its middle; put the ids in yourself."""
    return pair_by_spelling(tokenizer, a, b)


@pair.mistake("[CLS] before b")
def cls_before_b(tokenizer, a, b=None):
    """You begin the second sentence with [CLS] too. There is one, at place 0, for the whole row; between the sentences stands [SEP]."""
    first = [tokenizer.cls_id, *tokenizer.encode(" " + a), tokenizer.sep_id]
    second = [] if b is None else [tokenizer.cls_id, *tokenizer.encode(" " + b), tokenizer.sep_id]
    return first + second, [0] * len(first) + [1] * len(second)


@pair.mistake
def types_turned_round(tokenizer, a, b=None):
    """Your types are 1 for A and 0 for B. The first sentence is 0, also where it is the only one."""
    return wrong_pair(types=lambda first, second: [1] * len(first) + [0] * len(second))(
        tokenizer, a, b
    )


# ---------------------------------------------------------------- 4.3


def head_by_loop(head, x, embedding):
    """One number after the other: dense, gelu by its definition, the norm, the product with each word."""
    logits = torch.zeros(*x.shape[:-1], embedding.size(0))
    for at in torch.cartesian_prod(*map(torch.arange, x.shape[:-1]), torch.arange(1)).tolist():
        vector = x[tuple(at[:-1])].tolist()
        dense = [
            sum(w * n for w, n in zip(row, vector, strict=True)) + b
            for row, b in zip(head.dense.weight.tolist(), head.dense.bias.tolist(), strict=True)
        ]
        bent = [z * 0.5 * (1 + math.erf(z / math.sqrt(2))) for z in dense]
        mean = sum(bent) / len(bent)
        spread = math.sqrt(sum((z - mean) ** 2 for z in bent) / len(bent) + head.norm.eps)
        scale, shift = head.norm.weight.tolist(), head.norm.bias.tolist()
        normed = [(z - mean) / spread * s + t for z, s, t in zip(bent, scale, shift, strict=True)]
        for word, row in enumerate(embedding.tolist()):
            logits[(*at[:-1], word)] = (
                sum(w * n for w, n in zip(row, normed, strict=True)) + head.bias[word].item()
            )
    return logits


head = Exercise(
    id="4.3",
    target="minitransformer.models.bert:MaskedWordHead.forward",
    title="A score for each word",
    minutes=10,
    difficulty=2,
    purpose="What stood behind the [MASK]? The head turns the position's vector into a score for each word of the vocabulary: a "
    "layer of its own, then the product with the token table, so that a word is said by the vector by which it is read.",
    given=(
        "self.dense, self.norm, self.bias: W and b, the norm, the bias.",
        "F.gelu(x): the exact GELU.",
    ),
    hints=(
        "Four steps: self.dense, gelu, self.norm, and the product with the embedding, to which the bias of each word is added.",
        "The exact gelu, F.gelu(x), as everywhere in BERT; the norm comes after it. F.linear(x, W, b) is x Wᵀ + b: its W has "
        "one row for each output, and the embedding has one for each word.",
        "    F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias)",
    ),
    oracle=head_by_loop,
)


def a_head():
    """For five words and vectors of three numbers."""
    return lively(MaskedWordHead(5, 3))


@head.case
def one_position():
    """One position, a vector of three numbers, five words."""
    return a_head(), tidy(1, 3), tidy(5, 3)


@head.case
def four_positions():
    """Four positions."""
    return a_head(), tidy(4, 3), tidy(5, 3)


@head.case
def whole_texts():
    """Two texts of four positions."""
    return a_head(), tidy(2, 4, 3), tidy(5, 3)


@head.case(gradients=True, oracle=None)
def both_learn():
    """The gradients of the vectors and of the embedding."""
    return a_head(), tidy(2, 3), tidy(5, 3)


@head.mistake
def bias_forgotten(self, x, embedding):
    """You leave out the bias. It knows how frequent each word is, so that the vectors need not say so."""
    return F.linear(self.norm(F.gelu(self.dense(x))), embedding)


@head.mistake("no GELU")
def no_gelu(self, x, embedding):
    """There is no gelu between dense and norm. Without it the head only turns and scales what it is given; what bends is the gelu."""
    return F.linear(self.norm(self.dense(x)), embedding, self.bias)


@head.mistake("norm before GELU")
def norm_before_gelu(self, x, embedding):
    """You normalise before the gelu. In BERT's head it is dense, gelu, norm; published weights fit that order only."""
    return F.linear(F.gelu(self.norm(self.dense(x))), embedding, self.bias)


@head.mistake
def no_norm(self, x, embedding):
    """You leave out the norm, so that long vectors give large scores whatever they say."""
    return F.linear(F.gelu(self.dense(x)), embedding, self.bias)


@head.mistake
def dense_left_out(self, x, embedding):
    """You leave out the dense layer. What a vector says of its token and what stands behind a [MASK] are not the same; the layer translates."""
    return F.linear(self.norm(F.gelu(x)), embedding, self.bias)


@head.mistake("GPT's GELU")
def gpt_gelu(self, x, embedding):
    """You use the tanh form of gelu, which is GPT-2's. BERT has the exact one; they differ by up to 0.0005, enough to spoil published weights a little."""
    return F.linear(self.norm(F.gelu(self.dense(x), approximate="tanh")), embedding, self.bias)


@head.mistake("ReLU for GELU")
def relu_for_gelu(self, x, embedding):
    """You use relu. BERT's activation is gelu, here as in its layers."""
    return F.linear(self.norm(F.relu(self.dense(x))), embedding, self.bias)


@head.mistake
def softmaxed(self, x, embedding):
    """You return probabilities. The loss wants scores and makes log softmax of them itself, which does not overflow."""
    return F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias).softmax(-1)


@head.mistake
def embedding_detached(self, x, embedding):
    """The embedding enters without its gradient. The table is shared: it learns from being said as well as from being read."""
    return F.linear(self.norm(F.gelu(self.dense(x))), embedding.detach(), self.bias)


@head.mistake
def embedding_not_turned(self, x, embedding):
    """You multiply by the embedding as it is, (V, C). For a score with each of its rows it has to be turned round: x @ embedding.T, or F.linear(x, embedding)."""
    return self.norm(F.gelu(self.dense(x))) @ embedding + self.bias


@head.mistake("tanh for GELU")
def tanh_for_gelu(self, x, embedding):
    """You use tanh. That is the pooler's; before the words BERT has gelu, as in its layers."""
    return F.linear(self.norm(torch.tanh(self.dense(x))), embedding, self.bias)


# ---------------------------------------------------------------- 4.4


def a_bert():
    """One layer, eleven words, vectors of four numbers."""
    return lively(
        Bert(BertConfig(vocab_size=11, n_positions=8, n_layer=1, n_head=2, d_model=4, d_ff=6))
    )


def words_by_torch(model, hidden, batch):
    """All positions' scores, and PyTorch's own ignore_index."""
    logits, labels = model.mlm_logits(hidden).flatten(0, 1), batch["labels"].flatten()
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total, sum(label != IGNORE for label in labels.tolist())


words = Exercise(
    id="4.4",
    target="minitransformer.training.losses:_masked_words",
    title="The loss on masked words",
    minutes=15,
    difficulty=2,
    purpose="L_MLM is lesson 1's cross-entropy over the chosen positions only. As every loss of the course it comes as a sum and a "
    "count, for sums of several batches can be added up, and means cannot.",
    given=(
        "model.mlm_logits(hidden, at): the scores of all words where the boolean `at` (B, T) is True, in reading order, (number of True, V).",
        "cross_entropy_sum(logits, labels): the sum, a tensor, and the count, an int, of (N, V) and (N).",
    ),
    hints=(
        "Where is something asked? labels != IGNORE, a boolean (B, T). Only there are scores needed, and only those labels.",
        "model.mlm_logits(hidden, at) gives the scores at these places, in reading order; labels[at] gives the labels in the same "
        "order. cross_entropy_sum makes both results of them. A question at padding has no answer: look for one first.",
        '    at = batch["labels"] != IGNORE\n'
        "    # if the batch has an attention_mask, and (at & ~attention_mask).any():\n"
        "    #     raise UserError(…)\n"
        "    logits = model.mlm_logits(hidden, at)\n"
        '    return cross_entropy_sum(logits, batch["labels"][at])',
    ),
    oracle=words_by_torch,
)

NO = IGNORE


@words.case
def one_question():
    """Two tokens, of which the second is asked for."""
    return a_bert(), tidy(1, 2, 4), {"labels": torch.tensor([[NO, 7]])}


@words.case
def three_questions():
    """Two texts, three questions."""
    return a_bert(), tidy(2, 3, 4), {"labels": torch.tensor([[NO, 7, NO], [3, NO, 5]])}


@words.case
def beside_padding():
    """The second text ends in padding."""
    attention_mask = torch.tensor([[True, True, True], [True, True, False]])
    return (
        a_bert(),
        tidy(2, 3, 4),
        {"labels": torch.tensor([[NO, 7, 1], [3, NO, NO]]), "attention_mask": attention_mask},
    )


@words.case
def word_zero():
    """The first word of the vocabulary, 0, is asked for."""
    return a_bert(), tidy(1, 3, 4), {"labels": torch.tensor([[0, NO, 7]])}


@words.case
def no_question():
    """Nothing is asked: a sum of 0, a count of 0."""
    return a_bert(), tidy(1, 2, 4), {"labels": torch.tensor([[NO, NO]])}


@words.case(gradients=True)
def hidden_learns():
    """The gradient of what was read."""
    return a_bert(), tidy(1, 4, 4), {"labels": torch.tensor([[NO, 7, 2, NO]])}


@words.case
def asked_at_padding():
    """A label at padding is refused."""
    attention_mask = torch.tensor([[True, True, False]])
    return (
        a_bert(),
        tidy(1, 3, 4),
        {"labels": torch.tensor([[NO, 7, 4]]), "attention_mask": attention_mask},
    )


@words.case
def no_such_word():
    """A label outside the vocabulary is refused."""
    return a_bert(), tidy(1, 2, 4), {"labels": torch.tensor([[NO, 11]])}


RETURNED = "return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])"
words.slip(
    "mean in place of sum",
    "You return the mean. The loop adds up the losses of several batches and divides by all their labels; of means that would give a batch with few questions too much weight.",
    (
        RETURNED,
        "total, count = cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])\n    return total / count, count",
    ),
)
words.slip(
    "all positions counted",
    "Your count is that of all positions. Only the chosen ones have a loss: 15 %, so that your mean would be about a seventh of L_MLM.",
    (
        RETURNED,
        "return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])[0], labels.numel()",
    ),
)
words.slip(
    "loss at every position",
    "You ask at every position, and take token 0 for the answer where nothing is asked. IGNORE means: no question here.",
    (
        RETURNED,
        "return cross_entropy_sum(model.mlm_logits(hidden).flatten(0, 1), labels.clamp(min=0).flatten())",
    ),
)
words.slip(
    "word 0 never asked for",
    "You take label 0 for no question. 0 is the first word of the vocabulary; only IGNORE says that nothing is asked.",
    ("at = labels != IGNORE", "at = labels > 0"),
)
words.slip(
    "labels not picked out",
    "You pick out the scores and not the labels: at has to go into both, so that each score meets its own label.",
    (RETURNED, "return cross_entropy_sum(model.mlm_logits(hidden, at), labels.flatten())"),
)
words.slip(
    "what is asked turned round",
    "You pick the positions where nothing is asked: at is labels != IGNORE.",
    ("at = labels != IGNORE", "at = labels == IGNORE"),
)
words.slip(
    "padding not looked at",
    "You do not look whether a question stands at padding. Its vector means nothing, and neither would the answer: such a batch is put together wrongly, and has to be refused.",
    (
        "if attention_mask is not None and (outside := at & ~as_mask(attention_mask)).any():",
        "if (outside := at & False).any():",
    ),
)
words.slip(
    "gradient cut",
    "Your loss is detached from the model (item, detach, no_grad), so that nothing can be learned from it.",
    (
        "(model.mlm_logits(hidden, at), labels[at])",
        "(model.mlm_logits(hidden.detach(), at), labels[at])",
    ),
)
words.slip(
    "no refusal of a strange label",
    "A label outside the vocabulary reaches PyTorch, whose message speaks of targets and bounds (and on a GPU ends the process). cross_entropy_sum says which label it is.",
    (
        RETURNED,
        'return F.cross_entropy(model.mlm_logits(hidden, at), labels[at], reduction="sum"), int(at.sum())',
    ),
)
words.slip(
    "padding passed over",
    "You leave out the questions at padding without a word. Such a batch is put together wrongly, and whoever made it has to hear of it: a UserError.",
    (
        "if attention_mask is not None and (outside := at & ~as_mask(attention_mask)).any():",
        "if attention_mask is not None:\n        at = at & attention_mask\n    if (outside := at & False).any():",
    ),
)
words.slip(
    "attention_mask demanded",
    'You take batch["attention_mask"], which a batch without padding does not have: batch.get("attention_mask") is None there.',
    ('batch.get("attention_mask")', 'batch["attention_mask"]'),
)
words.slip(
    "count as a tensor",
    "Your count is a tensor. It is to be a plain int, as cross_entropy_sum gives it: .item(), or int(…).",
    (RETURNED, "return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])[0], at.sum()"),
)
words.slip(
    "attention_mask taken for what is asked",
    "You ask at every real token. attention_mask says where the text is; what is to be guessed, the labels say: those that are not IGNORE.",
    (
        "at = labels != IGNORE  # (B, T)",
        "at = labels != IGNORE  # (B, T)\n    at = at if attention_mask is None else attention_mask",
    ),
    (RETURNED, "return cross_entropy_sum(model.mlm_logits(hidden, at), labels[at].clamp(min=0))"),
)
words.slip(
    "divided by the count",
    'You return the sum already divided by all positions (reduction="mean" over the flattened scores, or .mean()). Wanted is the sum, and beside it the count.',
    (
        RETURNED,
        "total, count = cross_entropy_sum(model.mlm_logits(hidden, at), labels[at])\n    return total / labels.numel(), count",
    ),
)

# ---------------------------------------------------------------- 4.5


def both_by_torch(model, batch):
    """Two means by PyTorch's own function, from the scores at all positions."""
    hidden = model(batch["ids"], batch.get("attention_mask"), batch["types"])
    labels = batch["labels"].flatten()
    first = F.cross_entropy(model.mlm_logits(hidden).flatten(0, 1), labels, ignore_index=IGNORE)
    n = sum(label != IGNORE for label in labels.tolist())
    return n * (first + F.cross_entropy(model.nsp_logits(hidden), batch["next_label"])), n


both = Exercise(
    id="4.5",
    target="minitransformer.training.losses:bert_loss",
    title="Two losses at once",
    minutes=15,
    difficulty=2,
    purpose="BERT learns from both exercises in one step: masked words and pairs, the sum of the two means. The loop divides what a "
    "loss gives by its count, so this sum has to come multiplied by the count of the words.",
    given=(
        "_read(model, batch): gives the model what the batch has of ids, attention_mask and types, → (B, T, C).",
        "_masked_words(model, hidden, batch): the sum over the chosen words, and their number.",
        "cross_entropy_sum(logits, labels): a sum and a count.",
        "model.nsp_logits(hidden): the scores (B, 2) for next_label.",
    ),
    hints=(
        "Read the text once (_read), then make both losses of the same vectors: _masked_words, and cross_entropy_sum of the "
        "scores for the pairs with next_label. Each gives a sum and a count.",
        "Wanted after division by n_words: words / n_words + order / n_order. So what has to be returned before it?",
        "    hidden = _read(model, batch)\n"
        "    words, n_words = _masked_words(model, hidden, batch)\n"
        "    logits = model.nsp_logits(hidden)\n"
        '    order, n_order = cross_entropy_sum(logits, batch["next_label"])\n'
        "    return words + n_words * order / n_order, n_words",
    ),
    oracle=both_by_torch,
)


def pairs_of(labels, next_label, attention_mask=None):
    """A batch of rows of four: ids, types, and what is asked."""
    labels = torch.tensor(labels)  # (B, T)
    batch = {
        "ids": torch.arange(labels.numel()).view(labels.shape) % 11,
        "types": torch.tensor([[0, 0, 1, 1]]).expand(labels.shape).clone(),
        "labels": labels,
        "next_label": torch.tensor(next_label),
    }
    return batch | (
        {} if attention_mask is None else {"attention_mask": torch.tensor(attention_mask)}
    )


@both.case
def one_pair():
    """One pair, three words to guess."""
    return a_bert(), pairs_of([[5, NO, 7, 2]], [1])


@both.case
def two_pairs():
    """Two pairs, three words to guess."""
    return a_bert(), pairs_of([[NO, 5, NO, 7], [NO, NO, 2, NO]], [0, 1])


@both.case
def three_with_padding():
    """Three pairs, of which one ends in padding; two words to guess."""
    attention_mask = [[True] * 4, [True, True, True, False], [True] * 4]
    return a_bert(), pairs_of(
        [[NO, 5, NO, NO], [NO] * 4, [NO, NO, 2, NO]], [0, 0, 1], attention_mask
    )


@both.case
def no_such_class():
    """A next_label other than 0 and 1 is refused."""
    return a_bert(), pairs_of([[NO, 5, NO, 7]], [2])


@both.scene
def its_gradient(bert_loss):
    """The gradients that reach the two heads, by the length of each."""
    model = a_bert().requires_grad_()
    total, count = bert_loss(model, pairs_of([[NO, 5, NO, 7], [3, NO, 2, NO]], [0, 1]))
    (total / count).backward()
    return {
        "length of the gradient at the head for words": model.mlm.bias.grad.norm(),
        "length of the gradient at the head for pairs": model.nsp.bias.grad.norm(),
        "length of the gradient at the pooler": model.pooler.weight.grad.norm(),
    }


@both.scene
def read_once(bert_loss):
    """How often the model reads the text."""
    with calls(Bert, "forward") as seen:
        bert_loss(a_bert(), pairs_of([[NO, 5, NO, 7]], [0]))
    return {"how often the model is called": len(seen)}


SUM = "return words + n_all_words * order / n_all_order, n_words"
both.slip(
    "sums added",
    "You add the two sums. Divided by n_MLM, the number of words asked for, the pairs weigh n_pairs / n_MLM, the less the more words are asked for; BERT adds the means.",
    (SUM, "return words + order, n_words"),
)
both.slip(
    "counts added",
    "You add sums and counts. That is the mean over all questions of both kinds, in which the many words drown the few pairs; BERT adds two means.",
    (SUM, "return words + order, n_words + n_order"),
)
both.slip(
    "mean not multiplied",
    "You add the pairs' mean to the words' sum. The loop divides all of it by n_MLM, the number of words asked for, and hardly anything is left of the pairs.",
    (SUM, "return words + order / n_order, n_words"),
)
both.slip(
    "means returned",
    "You return the sum of the means itself. The loop divides by the count once more; what it wants is n_MLM times that, the number of words asked for.",
    (SUM, "return words / n_words + order / n_order, n_words"),
)
both.slip(
    "read twice",
    "You call the model twice, once for each loss. Both losses need the same vectors, and the model is nearly all of the work: read once, hidden = _read(model, batch), and use hidden for both.",
    ("model.nsp_logits(hidden)", "model.nsp_logits(_read(model, batch))"),
)
both.slip(
    "half of each",
    "You take the mean of the two means. BERT adds them.",
    (SUM, "return (words + n_words * order / n_order) / 2, n_words"),
)
both.slip(
    "counted by pairs",
    "You return the count of the pairs with a sum that is meant for the words'. Sum and count belong together: n_MLM both times, the number of words asked for.",
    (SUM, "return words + n_words * order / n_order, n_order"),
)
both.slip(
    "pairs left out",
    "Your loss is that of the words alone: nothing is learned about pairs.",
    (SUM, "return words, n_words"),
)
both.slip(
    "words left out",
    "Your loss is that of the pairs alone: nothing is learned about words.",
    (SUM, "return n_words * order / n_order, n_words"),
)
both.slip(
    "pairs judged without gradient",
    "The pairs' loss enters as a number (item, detach): its value is right, and nothing is learned from it.",
    (SUM, "return words + n_words * order.detach() / n_order, n_words"),
)


@both.mistake
def types_and_padding_not_read(model, batch):
    """You give the model the ids alone. Without types it cannot tell A from B, without attention_mask it reads the padding: _read passes on what the batch has."""
    hidden = model(batch["ids"])  # (B, T, C)
    words, n_words = _masked_words(model, hidden, batch)
    order, n_order = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + n_words * order / n_order, n_words


@both.mistake
def two_sums_and_two_counts(model, batch):
    """You return both sums and both counts. A loss gives one sum and one count: n_MLM times the sum of the two means, and n_MLM, the number of words asked for."""
    hidden = model(
        **{name: batch[name] for name in ("ids", "attention_mask", "types") if name in batch}
    )
    return _masked_words(model, hidden, batch), cross_entropy_sum(
        model.nsp_logits(hidden), batch["next_label"]
    )


@both.mistake
def pairs_divided_by_the_words(model, batch):
    """You divide the pairs' sum by the number of words and multiply by that of pairs. It is the other way round: divided by the number of pairs it is their mean, and n_MLM times that, the number of words asked for, survives the division by n_MLM."""
    hidden = model(
        **{name: batch[name] for name in ("ids", "attention_mask", "types") if name in batch}
    )
    words, n_words = _masked_words(model, hidden, batch)
    order, n_order = cross_entropy_sum(model.nsp_logits(hidden), batch["next_label"])
    return words + n_order * order / n_words, n_words
