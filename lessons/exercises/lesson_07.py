"""Exercises of lesson 7: a template for a BERT, words for labels, words of several tokens, scores, nearest words."""

import math
from types import SimpleNamespace

import torch
from minitransformer.course.data import default_tokenizer
from minitransformer.course.hard import Template, _word_log_probs
from minitransformer.course.workbook import Exercise, call, tidy
from minitransformer.course.workbook.costs import calls
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches import pad_right


def lively(model):
    """A model with larger weights than fresh ones, so that what differs shows."""
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
        model.token_embedding.weight *= 3
    return model.eval()


def tiny_bert(vocab_size=20):
    """A BERT of one layer and width 4, with its mlm head."""
    return lively(Bert(BertConfig(vocab_size, 24, 1, 2, 4, 6, pooler=False, nsp=False)))


def tiny_gpt(vocab_size=20):
    """A GPT of one layer and width 4."""
    return lively(GPT(GPTConfig(vocab_size, 24, 1, 2, 4, 6)))


# ---------------------------------------------------------------- 7.1


def sentence_by_sentence(self, example, tokenizer, n_answer=1):
    """What stands before the gap and what stands after it, each written out and then encoded."""
    before, after = (side.format(**example) for side in self.text.split(" {mask}"))
    ids = [tokenizer.cls_id, *(tokenizer.encode(" " + before) if before else [])]
    ids += [tokenizer.mask_id] * n_answer + tokenizer.encode(after) + [tokenizer.sep_id]
    return ids, [place for place, token in enumerate(ids) if token == tokenizer.mask_id]


gap = Exercise(
    id="7.1",
    target="minitransformer.course.hard:Template.for_bert",
    title="A text with a gap",
    minutes=15,
    difficulty=2,
    purpose="A template makes of an example a text with a gap, which a BERT can fill: [CLS], what stands before the gap, a [MASK] for each token of "
    "the answer, what stands after it, [SEP]. Where the [MASK]s stand is wanted too, for there the answer will be read.",
    hints=(
        'before, after = self._encode(example, tokenizer, " ") are the ids on both sides of the gap. What remains is putting five pieces in a row and '
        "counting.",
        "The special ids are tokenizer.cls_id, mask_id and sep_id. The first [MASK] stands behind [CLS] and the ids before the gap: at which "
        "place, counted from 0? There are n_answer of them, side by side.",
        '    before, after = self._encode(example, tokenizer, " ")\n'
        "    before = [tokenizer.cls_id, *before]\n"
        "    ids = before + [tokenizer.mask_id] * n_answer\n"
        "    ids = ids + [*after, tokenizer.sep_id]\n"
        "    places = list(range(len(before), len(before) + n_answer))\n"
        "    # return both",
    ),
    given=(
        "self._encode(example, tokenizer, in_front): the ids before the gap and those after it, two lists. in_front is a string that goes in front of the first word; here that is a space, which every other word has, too.",
        "tokenizer.cls_id, tokenizer.mask_id, tokenizer.sep_id: the special ids.",
    ),
    oracle=sentence_by_sentence,
)


@gap.case
def gap_at_the_end():
    """The gap ends the text: {text} It was {mask}."""
    return Template("{text} It was {mask}"), {"text": "A good film."}, default_tokenizer()


@gap.case
def words_behind_the_gap():
    """Words behind the gap, too: {text} It was {mask} to me."""
    return Template("{text} It was {mask} to me."), {"text": "A film."}, default_tokenizer()


@gap.case
def three_tokens():
    """An answer of three tokens: {text} It was {mask}."""
    return Template("{text} It was {mask}."), {"text": "A film."}, default_tokenizer(), 3


@gap.case
def two_fields():
    """Two fields, one of them behind the gap: {one} is {mask} than {other}."""
    return (
        Template("{one} is {mask} than {other}."),
        {"one": "Velo", "other": "the town"},
        default_tokenizer(),
        2,
    )


@gap.case(oracle=None)
def gap_at_the_beginning():
    """The gap begins the text: {mask} was {text}"""
    return Template("{mask} was {text}"), {"text": "a film."}, default_tokenizer()


@gap.case
def a_mask_written_out():
    """A text that holds [MASK] in letters: they stay letters, and are no gap."""
    return Template("{text} It was {mask}."), {"text": "A [MASK] film."}, default_tokenizer()


@gap.case
def field_missing():
    """An example without the field is refused."""
    return Template("{text} It was {mask}."), {"review": "A film."}, default_tokenizer()


@gap.mistake("no [CLS]")
def no_cls(self, example, tokenizer, n_answer=1):
    """Your text does not begin with [CLS]. Every text that this BERT was pre-trained on did."""
    before, after = self._encode(example, tokenizer, " ")
    return before + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id], list(
        range(len(before), len(before) + n_answer)
    )


@gap.mistake("places without [CLS]")
def places_without_cls(self, example, tokenizer, n_answer=1):
    """Your places are one too small: [CLS] stands in front and counts. The answer would be read where the word before the gap stands."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(len(before), len(before) + n_answer))


@gap.mistake
def one_mask_only(self, example, tokenizer, n_answer=1):
    """You put one [MASK] for an answer of several tokens. A BERT fills place by place: as many [MASK]s as tokens."""
    before, after = self._encode(example, tokenizer, " ")
    return [tokenizer.cls_id, *before, tokenizer.mask_id, *after, tokenizer.sep_id], [
        1 + len(before)
    ]


@gap.mistake
def gap_at_the_end_always(self, example, tokenizer, n_answer=1):
    """You put the gap behind everything. That is what a GPT needs; a BERT reads both sides of it, so the words after the gap stay after it."""
    before, after = self._encode(example, tokenizer, " ")
    before = [tokenizer.cls_id, *before, *after]
    return [*before, *[tokenizer.mask_id] * n_answer, tokenizer.sep_id], list(
        range(len(before), len(before) + n_answer)
    )


@gap.mistake
def no_space_in_front(self, example, tokenizer, n_answer=1):
    """Your first word is encoded without a space before it. Here a word's space belongs to the word (" A"), and without one it is another token, which a BERT never met behind [CLS]: _encode(example, tokenizer, " ")."""
    before, after = self._encode(example, tokenizer, "")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake("no [SEP]")
def no_sep(self, example, tokenizer, n_answer=1):
    """Your text does not end with [SEP]. Every text that this BERT was pre-trained on did."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + after
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake
def counted_from_one(self, example, tokenizer, n_answer=1):
    """Your places are one too large: [CLS] is place 0, so the first word is 1 and the gap begins at 1 + len(before). The answer would be read behind the gap."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(2 + len(before), 2 + len(before) + n_answer))


@gap.mistake
def a_range(self, example, tokenizer, n_answer=1):
    """Your places are a range. It is a list that is promised: list(range(…))."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, range(1 + len(before), 1 + len(before) + n_answer)


@gap.mistake
def first_place_only(self, example, tokenizer, n_answer=1):
    """You give the place of the first [MASK] alone. An answer of several tokens is read at as many places."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, [1 + len(before)]


@gap.mistake
def template_in_front(self, example, tokenizer, n_answer=1):
    """You give _encode the template as what stands in front of the first word, so that its text comes twice, once with the slots not filled in. _encode knows the template; what stands in front of the first word is a space: _encode(example, tokenizer, " ")."""
    before, after = self._encode(example, tokenizer, self.text)
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake("[SEP] before the gap")
def sep_before_the_gap(self, example, tokenizer, n_answer=1):
    """You put a [SEP] before the gap, as if the template were a second sentence. Text and template are one sentence, which ends with the one [SEP]."""
    before, after = self._encode(example, tokenizer, " ")
    before = [tokenizer.cls_id, *before, tokenizer.sep_id]
    ids = before + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(len(before), len(before) + n_answer))


# ---------------------------------------------------------------- 7.2


def tokens_in_a_sentence(words, tokenizer):
    """The tokens that each word has at the end of a sentence."""
    n = len(tokenizer.encode("It was"))
    lists = {label: [own] if isinstance(own, str) else own for label, own in words.items()}
    return {
        label: {word.strip(): tokenizer.encode("It was " + word.strip())[n:] for word in own}
        for label, own in lists.items()
    }


mapping = Exercise(
    id="7.2",
    target="minitransformer.course.answers:by_hand",
    title="Words for labels",
    minutes=20,
    difficulty=2,
    purpose="The answer mapping says which words in the gap stand for which label, and the model knows words only as token ids. A mapping that "
    "cannot be read backwards (a word for two labels, a label without words) is refused before anything is measured.",
    hints=(
        "A dictionary of dictionaries: label → word → ids. A label's words may be one string or several. The space before the gap belongs to the "
        'answer: what is encoded is " good", not "good".',
        "Go through words.items(); make a list of a lone string; strip each word. Refuse a word that is already there (in any label), one that is empty or "
        "has a special token in it; refuse fewer than two labels, and a label that got no word.",
        "Each refusal is a raise UserError(a sentence). A word has a special token in it if this set is not empty:\n"
        "    special = {*tokenizer.special_ids.values()}\n"
        "    special & {*tokenizer.encode(word, allow_special=True)}\n"
        "And a word that is not refused is noted:\n"
        '    answers[label][word] = tokenizer.encode(" " + word)',
    ),
    given=(
        "tokenizer.encode(text): the ids of a text. With allow_special=True special tokens that are written out in it become their ids; without, they are letters.",
        "tokenizer.special_ids: the special tokens' ids by name.",
        "UserError(sentence): the refusal, to be raised.",
    ),
    oracle=tokens_in_a_sentence,
)


@mapping.case
def one_word_each():
    """Two labels, one word each."""
    return {"yes": "good", "no": "dull"}, default_tokenizer()


@mapping.case
def several_words():
    """Two words for a label, and words of several tokens."""
    return {"yes": ["good", "great"], "no": ["terrible"]}, default_tokenizer()


@mapping.case
def spaces_around():
    """Words that bring spaces of their own."""
    return {"yes": " good ", "no": ["dull ", " bad"]}, default_tokenizer()


@mapping.case
def words_in_a_tuple():
    """Words in a tuple, one of them with a capital letter."""
    return {"yes": ("Good", "great"), "no": ("dull",)}, default_tokenizer()


@mapping.case
def three_labels():
    """Three labels."""
    return {"yes": "good", "no": "dull", "maybe": "fine"}, default_tokenizer()


@mapping.case
def a_special_token_within():
    """A word with a special token within it is refused."""
    return {"yes": "good", "no": "so [SEP] dull"}, default_tokenizer()


@mapping.case
def one_label():
    """One label alone is refused."""
    return {"yes": "good"}, default_tokenizer()


@mapping.case
def a_word_for_two_labels():
    """A word for two labels is refused."""
    return {"yes": ["good", "fine"], "no": ["dull", "fine"]}, default_tokenizer()


@mapping.case
def a_word_twice():
    """A word that stands twice under one label is refused."""
    return {"yes": ["good", " good"], "no": "dull"}, default_tokenizer()


@mapping.case
def a_label_without_words():
    """A label without words is refused."""
    return {"yes": ["good"], "no": []}, default_tokenizer()


@mapping.case
def a_special_token():
    """A special token is refused."""
    return {"yes": "good", "no": "[MASK]"}, default_tokenizer()


@mapping.case
def an_empty_word():
    """An empty word is refused."""
    return {"yes": "good", "no": " "}, default_tokenizer()


def wrong_mapping(
    space=" ",
    strip=True,
    letters=False,
    first=False,
    flat=False,
    refuse=("labels", "twice", "again", "none", "special", "empty"),
):
    """The function as a learner would write it, with one thing in it replaced."""

    def mapping(words, tokenizer):
        answers = {label: {} for label in words}
        if "labels" in refuse and len(answers) < 2:
            raise UserError("There have to be at least two labels.")
        special = {*tokenizer.special_ids.values()}
        for label, own in words.items():
            for word in [own] if isinstance(own, str) and not letters else own:
                word = word.strip() if strip else word
                if "twice" in refuse and any(
                    word in taken for other, taken in answers.items() if other != label
                ):
                    raise UserError(f"The word {word!r} stands there for two labels.")
                if "again" in refuse and word in answers[label]:
                    raise UserError(f"The word {word!r} stands there twice.")
                if "empty" in refuse and not word.strip():
                    raise UserError("A word is empty.")
                if "special" in refuse and special & {*tokenizer.encode(word, allow_special=True)}:
                    raise UserError(f"The word {word!r} is a special token.")
                ids = tokenizer.encode(space + word)
                answers[label][word] = ids[:1] if first else ids
            if "none" in refuse and not answers[label]:
                raise UserError(f"The label {label!r} has no words.")
        return (
            {label: [i for ids in own.values() for i in ids] for label, own in answers.items()}
            if flat
            else answers
        )

    return mapping


@mapping.mistake
def exactly_two_labels(words, tokenizer):
    """You refuse more than two labels. At least two are asked for: len(answers) < 2 is refused."""
    if len(words) != 2:
        raise UserError("There have to be two labels.")
    return wrong_mapping()(words, tokenizer)


@mapping.mistake
def small_letters(words, tokenizer):
    """You turn the words into small letters. "Good" and "good" are different tokens; a word stays as it was written."""
    small = {
        label: own.lower() if isinstance(own, str) else [word.lower() for word in own]
        for label, own in words.items()
    }
    return wrong_mapping()(small, tokenizer)


@mapping.mistake
def only_lists_hold_words(words, tokenizer):
    """You take everything but a list for a lone word. Words may come in a tuple, too: ask whether it is a string, isinstance(own, str)."""
    lists = {label: own if isinstance(own, list) else [own] for label, own in words.items()}
    return wrong_mapping()(lists, tokenizer)


@mapping.mistake
def only_a_special_token_alone(words, tokenizer):
    """You refuse a word that is a special token, but not one that has a special token within it. Encode it with allow_special=True, and look for a special id in what comes."""
    answers = wrong_mapping(refuse=all_refusals_but("special"))(words, tokenizer)
    if {word for own in answers.values() for word in own} & {*tokenizer.special_ids}:
        raise UserError("A special token.")
    return answers


def all_refusals_but(*some):
    """The others."""
    return tuple({"labels", "twice", "again", "none", "special", "empty"} - {*some})


@mapping.mistake
def no_space_before_the_word(words, tokenizer):
    """You encode "good" in place of " good". Inside a text a word's token has its space in it; without one it is another token, which no text has in that place, and every score would be far too low."""
    return wrong_mapping(space="")(words, tokenizer)


@mapping.mistake
def spaces_not_taken_off(words, tokenizer):
    """You keep the spaces that a word brings along: with yours in front there are two. strip() takes them off."""
    return wrong_mapping(strip=False)(words, tokenizer)


@mapping.mistake
def a_string_taken_letter_by_letter(words, tokenizer):
    """You go through a lone word as if it were a list: Python then gives its letters. Make [word] of a string first."""
    return wrong_mapping(letters=True, refuse=all_refusals_but("twice", "again"))(words, tokenizer)


@mapping.mistake
def first_token_only(words, tokenizer):
    """You keep the first token of a word. "terrible" begins like many other words; all of its tokens are needed."""
    return wrong_mapping(first=True)(words, tokenizer)


@mapping.mistake
def words_run_together(words, tokenizer):
    """Your labels have one list of ids each. Which of them make up which word is then lost: label → word → ids."""
    return wrong_mapping(flat=True)(words, tokenizer)


@mapping.mistake
def one_word_for_two(words, tokenizer):
    """You let one word stand for two labels. When the model says it, which of them has it chosen? Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("twice"))(words, tokenizer)


@mapping.mistake
def twice_under_one_label(words, tokenizer):
    """You look for a word among the other labels' only. Twice under one label it counts as one word with you, and as two to whoever wrote it: refuse it as well. (Spaces around it make no difference.)"""
    return wrong_mapping(refuse=all_refusals_but("again"))(words, tokenizer)


@mapping.mistake
def no_word_is_twice(words, tokenizer):
    """You accept a word that is there already, under this label or another. When the model says it, which of the two has it chosen? Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("twice", "again"))(words, tokenizer)


@mapping.mistake
def nothing_refused(words, tokenizer):
    """You refuse nothing. The docstring names five things that make a mapping useless: each is a raise UserError(a sentence)."""
    return wrong_mapping(refuse=())(words, tokenizer)


@mapping.mistake
def one_label_is_enough(words, tokenizer):
    """You accept a single label. Whatever the model says, that one wins, with 100 % accuracy: refuse fewer than two."""
    return wrong_mapping(refuse=all_refusals_but("labels"))(words, tokenizer)


@mapping.mistake
def label_without_words(words, tokenizer):
    """You accept a label without words. It can never be chosen (and its mean probability is 0/0): refuse it."""
    return wrong_mapping(refuse=all_refusals_but("none"))(words, tokenizer)


@mapping.mistake
def special_tokens_accepted(words, tokenizer):
    """You accept a special token such as [MASK] as an answer. Encoded as a word it is brackets and letters, which nobody would write in the gap: refuse it."""
    return wrong_mapping(refuse=all_refusals_but("special"))(words, tokenizer)


@mapping.mistake
def empty_words_accepted(words, tokenizer):
    """You accept an empty word. What is scored then is a lone space: refuse it."""
    return wrong_mapping(refuse=all_refusals_but("empty"))(words, tokenizer)


# ---------------------------------------------------------------- 7.3


@torch.no_grad()
def words_by_loop(model, ids, attention_mask, n_before, words):
    """Row after row, word after word, token after token, each read alone and without padding."""
    sums = torch.zeros(len(ids), len(words))
    for b, n in enumerate(n_before.tolist()):
        text = ids[b, attention_mask[b]][None]
        for w, word in enumerate(words):
            for i, token in enumerate(word):
                if isinstance(model, Bert):
                    logits = model.mlm_logits(model(text))[0, n + i]
                else:
                    logits = model(text[:, : n + i])[0, -1]
                sums[b, w] += math.log(float(logits.double().softmax(dim=-1)[token]))
    return sums


chain = Exercise(
    id="7.3",
    target="minitransformer.course.hard:log_probs_in_gap",
    title="Words of several tokens",
    minutes=30,
    difficulty=3,
    purpose="How likely is a word in the gap? A GPT says its tokens one after the other, each after those before it; a BERT fills n [MASK]s at once. You get "
    "a batch of texts with a gap each, and words of n tokens for which the model reads the same in the gap. You let the model read it once, and give each "
    "word's Σ log p in each gap.",
    hints=(
        "Where is the first of the n tokens predicted? A BERT says a token at its own [MASK], and the first stands at place n_before. A GPT's logits at place t "
        "are about place t + 1. And n_before is another number in each row.",
        "at (B, T) is True at n places of each row, from n_before on for a BERT, from n_before - 1 on for a GPT. What the models give at these places is "
        "(B · n, V), in reading order; log_softmax, then view(B, n, V).",
        "    first = n_before[:, None] - int(not isinstance(model, Bert))\n"
        "    place = torch.arange(ids.size(1))\n"
        "    at = (place >= first) & (place < first + n)\n"
        "    # logits (number of True, V), of each model as it makes them\n"
        "    log_probs = logits.log_softmax(dim=-1).view(len(ids), n, -1)\n"
        "    # of each word, then all words side by side\n"
        "    log_probs[:, range(n), word].sum(dim=1)",
    ),
    given=(
        "model(ids, attention_mask=attention_mask): of a BERT, a vector for each place, (B, T, C).",
        "model.mlm_logits(vectors, at): of a BERT, scores of all words at the places that `at` marks, boolean (B, T): (number of True, V), in reading order.",
        "model(ids, at=at): of a GPT, scores about the next token at the places that `at` marks, in the same form. It does not see the padding behind its text.",
    ),
    oracle=words_by_loop,
    tolerance=1e-4,
)

MASK = 1


def gaps(*texts, n=0):
    """ids, attention_mask and n_before of some texts (before, after), with n [MASK]s in the gap."""
    ids, attention_mask = pad_right([[*one, *[MASK] * n, *other] for one, other in texts], 0)
    return ids, attention_mask, torch.tensor([len(one) for one, _ in texts])


@chain.case
def one_token_on_a_gpt():
    """A GPT, one text of three tokens, two words of one token."""
    return tiny_gpt(), *gaps(([3, 4, 12], [])), [[5], [6]]


@chain.case
def one_token_on_a_bert():
    """A BERT, one gap with three tokens before and one behind it, two words of one token."""
    return tiny_bert(), *gaps(([2, 4, 12], [3]), n=1), [[5], [6]]


@chain.case
def two_tokens_on_a_gpt():
    """A GPT, two words of two tokens that begin alike; it reads the first."""
    return tiny_gpt(), *gaps(([3, 4], [6])), [[6, 7], [6, 8]]


@chain.case
def two_tokens_on_a_bert():
    """A BERT, three words of two tokens."""
    return tiny_bert(), *gaps(([2, 4], [3]), n=2), [[6, 7], [6, 8], [9, 7]]


@chain.case
def gaps_of_a_gpt():
    """A GPT, two texts of different lengths, three words of three tokens; it reads the first two."""
    before = [3, 4], [3, 12, 13, 14]
    return tiny_gpt(), *gaps(*((one, [9, 6]) for one in before)), [[9, 6, 7], [9, 6, 8], [9, 6, 6]]


@chain.case
def gaps_of_a_bert():
    """A BERT, two texts of different lengths."""
    texts = ([2, 4], [3]), ([2, 12, 13, 14], [15, 3])
    return tiny_bert(), *gaps(*texts, n=2), [[6, 7], [6, 8]]


def sure(model, times):
    """The model with a token table so many times as large: of most words it is sure that they do not come."""
    with torch.no_grad():
        model.token_embedding.weight *= times
    return model


@chain.case(tolerance=1e-3)
def nearly_impossible_words():
    """A GPT that holds words for so unlikely that their probability is no float32 any more; its logarithm is."""
    return sure(tiny_gpt(), 100), *gaps(([3, 4], [6])), [[6, 7], [6, 8], [6, 11]]


@chain.case(tolerance=1e-3)
def unlikely_one_after_another():
    """A GPT, words of three tokens: each token's probability is a float32, their product is not."""
    return sure(tiny_gpt(), 30), *gaps(([3, 4], [6, 7])), [[6, 7, 8], [6, 7, 11]]


@chain.scene
def read_once(log_probs_in_gap):
    """How often the model reads the texts for five words."""
    with calls(GPT, "forward") as seen:
        log_probs_in_gap(tiny_gpt(), *gaps(([3, 4, 12], [])), [[5], [6], [7], [8], [9]])
    return {"how often the model is called": len(seen)}


@chain.scene
def in_three_passes(log_probs_in_gap):
    """A GPT, words of one, two and three tokens: the package calls the function for those that share what is read."""
    tokenizer = SimpleNamespace(mask_id=MASK, pad_id=0)
    words = [[5], [6, 7], [6, 8], [9, 10, 11]]
    return _word_log_probs(tiny_gpt(), tokenizer, [([3, 4], [])], words)


FIRST = "n_before[:, None] - int(not isinstance(model, Bert))"
READ = "log_probs[:, range(n), word].sum(dim=1)"
chain.slip(
    "a GPT read at the token's own place",
    "You read a GPT where the token itself would stand. Its logits at place t are about place t + 1, so a token is predicted one place before it.",
    (FIRST, "n_before[:, None]"),
)
chain.slip(
    "a BERT read one place before",
    "You read a BERT one place before the gap, like a GPT. A BERT fills a gap where it is: at its own [MASK].",
    (FIRST, "n_before[:, None] - 1"),
)
chain.slip(
    "first token only",
    "You score a word by its first token alone. Words that begin alike are then the same; the chain rule multiplies all of them, "
    "so the logarithms are added.",
    (READ, "log_probs[:, 0, word[0]]"),
)
chain.slip(
    "last token only",
    "You score a word by its last token alone. The chain rule multiplies the probabilities of all its tokens, so the logarithms are added.",
    (READ, "log_probs[:, -1, word[-1]]"),
)
chain.slip(
    "mean in place of sum",
    "You take the mean over a word's tokens here. log P(w) is the sum; whether to divide by the length is decided later, by normalise.",
    (READ, "log_probs[:, range(n), word].mean(dim=1)"),
)
chain.slip(
    "probabilities added",
    "You add probabilities where logarithms are to be added. The probability of a word is a product: Σ log p.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
)
chain.slip(
    "logits in place of log p",
    "You add logits. Only softmax makes probabilities of them, and logits of different places cannot be compared: log_softmax first.",
    (".log_softmax(dim=-1)", ""),
)
chain.slip(
    "every word scored as the first",
    "All words get the score of the first. They share what is read, not what is said: each word's own token ids.",
    (READ, "log_probs[:, range(n), words[0]].sum(dim=1)"),
)
chain.slip(
    "padding read",
    "Your BERT gets no mask, so a short text reads its padding and its scores depend on the texts beside it. (A GPT does not look back from "
    "padding on the right.)",
    ("model(ids, attention_mask=attention_mask)", "model(ids)"),
)
chain.slip(
    "one place for all rows",
    "You read every row at the place of the first. The texts before the gap differ in length: n_before is a number for each row, as a column (B, 1).",
    ("n_before[:, None]", "n_before[:1, None]"),
)
chain.slip(
    "every token at every place",
    "You read each of a word's tokens at each of its places, n · n numbers. Token i is read at place i: log_probs[:, range(n), word].",
    (READ, "log_probs[:, :, word].sum(dim=(1, 2))"),
)
chain.slip(
    "words below one another",
    "Your result is (words, B). The words stand side by side, a column for each: torch.stack(…, dim=1).",
    ("for word in words], dim=1)", "for word in words])"),
)
VIEW = "view(len(ids), n, -1)"
chain.slip(
    "n before the gaps",
    "Your view has the n places before the gaps, (n, B, V). The scores come in reading order, all n of the first gap and then all of the second: "
    "view(B, n, V).",
    (VIEW, "view(n, len(ids), -1)"),
)
chain.slip(
    "n before the gaps, and summed so",
    "Your view has the n places before the gaps, (n, B, V), and mixes the places of several gaps. The scores come in reading order, all n of the first gap "
    "and then all of the second: view(B, n, V).",
    (VIEW, "view(n, len(ids), -1)"),
    (READ, "log_probs[range(n), :, word].sum(dim=0)"),
)
chain.slip(
    "logarithm of the sum",
    "You take the logarithm of a sum of probabilities. The probability of a word is the product of its tokens', so the logarithms are added: first log, then sum.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
    (READ, READ + ".log()"),
)
chain.slip(
    "logarithm of softmax",
    "You take the logarithm of what softmax gives. Of a word that is unlikely enough, softmax gives 0 in a float32, and its logarithm is −∞. log_softmax never leaves the logarithm.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1).log()"),
)
chain.slip(
    "logarithm of the product",
    "You multiply the probabilities and take the logarithm of the product. The product of a few small numbers is 0 in a float32, and its logarithm is −∞. Add the logarithms, log_softmax and sum.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
    (READ, "log_probs[:, range(n), word].prod(dim=1).log()"),
)
chain.slip(
    "read anew for every word",
    "You let the model read the texts once for each word. What it reads is the same for all of them, and reading is nearly all of the work: read once, and look all words up in what comes.",
    (
        "logits = model(ids, at=at)",
        "logits = [model(ids, at=at) for _ in words][0]",
    ),
)
chain.slip(
    "the mask turned round",
    "You hand the model an attention_mask that is True at the padding. True means a real token, which is how it was given: attention_mask=attention_mask.",
    ("attention_mask=attention_mask", "attention_mask=~attention_mask"),
)
chain.slip(
    "softmax over the places",
    "Your log_softmax goes along the places (dim 0 of (B · n, V)). At each place the vocabulary is what is chosen from: dim=-1.",
    ("log_softmax(dim=-1)", "log_softmax(dim=0)"),
)

# ---------------------------------------------------------------- 7.4


def scores_by_loop(log_probs, answers, normalise=True, neutral=None):
    """Label after label, word after word, in Python's own numbers."""
    rows = []
    for row in log_probs.double().tolist():
        row, scores = iter(row), []
        for own in answers.values():
            logs = [next(row) / (len(ids) if normalise else 1) for ids in own.values()]
            most = max(logs)
            mean = sum(math.exp(one - most) for one in logs) / len(logs)
            scores.append(most + math.log(mean))
        rows.append(scores)
    scores = torch.tensor(rows)
    return scores if neutral is None else scores - neutral


score = Exercise(
    id="7.4",
    target="minitransformer.course.hard:label_scores",
    title="From words to labels",
    minutes=20,
    difficulty=3,
    purpose="A label may have several words, and a word several tokens: what is compared in the end is one score a label. You get Σ log p of every word of "
    "every label, side by side in the order of answers, and make the log of the mean probability of each label's words.",
    hints=(
        "Three steps: with normalise, divide each word's sum by its number of tokens; bring the words of each label together; where `neutral` is given, "
        "subtract it: what the same template and words get on a text that says nothing.",
        "Words of one label stand side by side: log_probs.split([number of words of each label], dim=1). The mean is of probabilities, "
        "log((e^a + e^b) / 2), so not a mean of logarithms; logsumexp gives log(e^a + e^b) without overflow.",
        "    # for each word of each label: len(ids) if normalise, else 1\n"
        "    log_probs = log_probs / log_probs.new_tensor(lengths)\n"
        "    # for each label, own: its words' columns\n"
        "    own.logsumexp(dim=1) - math.log(own.size(1))\n"
        "    # side by side with torch.stack(…, dim=1); then minus neutral",
    ),
    given=(
        "tensor.split([2, 1], dim=1): cuts a tensor into pieces of 2 columns and of 1.",
        "tensor.logsumexp(dim=1): log Σ e^x of each row, without leaving the logarithm.",
    ),
    oracle=scores_by_loop,
    tolerance=1e-4,
)

EASY = {"yes": {"good": [5]}, "no": {"dull": [6]}}
SEVERAL = {"yes": {"good": [5], "great": [7, 8], "fine": [9]}, "no": {"terrible": [6, 1, 2, 3, 4]}}


@score.case
def one_token_each():
    """One example, two labels with a word of one token each."""
    return torch.tensor([[-1.5, -0.7]]), EASY


@score.case
def several_words_each():
    """Two examples, a label with three words and one with a word of five tokens."""
    return -3 * tidy(2, 4).abs(), SEVERAL


@score.case
def one_two_and_one_words():
    """Three labels with one, two and one words."""
    answers = {
        "good": {"good": [5]},
        "bad": {"bad": [6], "dull": [7, 8]},
        "fair": {"so-so": [9, 10, 11]},
    }
    return -3 * tidy(2, 4).abs(), answers


@score.case(oracle=None)
def an_impossible_word():
    """One of three words is impossible: its logarithm is −∞."""
    return torch.tensor([[-math.inf, -2.0, -0.5, -3.0]]), SEVERAL


@score.case
def by_the_sum():
    """By the sum over a word's tokens (normalise=False)."""
    return call(-3 * tidy(2, 4).abs(), SEVERAL, normalise=False)


@score.case
def calibrated():
    """Two examples, calibrated with an example that says nothing."""
    return call(-3 * tidy(2, 4).abs(), SEVERAL, neutral=torch.tensor([[-1.2, -0.4]]))


@score.case
def calibrated_by_the_sum():
    """Calibrated, and by the sum."""
    neutral = torch.tensor([[-0.3, -2.0]])
    return call(-3 * tidy(1, 4).abs(), SEVERAL, normalise=False, neutral=neutral)


@score.case
def a_long_answer():
    """An answer of many tokens, by the sum: its probability is less than a float32 can hold, its logarithm is not."""
    answers = {"yes": {"incomprehensible": list(range(20))}, "no": {"good": [5], "bad": [6]}}
    return call(torch.tensor([[-240.0, -1.0, -2.0]]), answers, normalise=False)


LENGTHS = "len(ids) if normalise else 1"
TOGETHER = "own.logsumexp(dim=1) - math.log(own.size(1))"
END = "scores if neutral is None else scores - neutral"
score.slip(
    "long words punished",
    "You never divide by a word's length. Every further token lowers the sum, so a word of five tokens loses for being long.",
    (LENGTHS, "1"),
)
score.slip(
    "always the mean",
    "You divide by the length whether it is asked for or not. With normalise=False the sum itself is wanted.",
    (LENGTHS, "len(ids)"),
)
score.slip(
    "normalise turned round",
    "Your normalise is turned round: True takes the mean over tokens, False the sum.",
    (LENGTHS, "1 if normalise else len(ids)"),
)
score.slip(
    "mean of logarithms",
    "You average logarithms. One unlikely word among good ones then drags its label down (its log p is far below 0). The mean is of "
    "probabilities: logsumexp, less log of how many.",
    (TOGETHER, "own.mean(dim=1)"),
)
score.slip(
    "sum of probabilities",
    "You add up the words' probabilities. A label with more words then wins for having more: take their mean, that is subtract log(number of words).",
    (TOGETHER, "own.logsumexp(dim=1)"),
)
score.slip(
    "probabilities spelled out",
    "You go back to probabilities, e^(log p), and take their mean. Of an answer of many tokens that is 0 in a float32, and its logarithm −∞; logsumexp never leaves the logarithm.",
    (TOGETHER, "own.exp().mean(dim=1).log()"),
)
score.slip(
    "divided by the number of words",
    "You divide the logarithm by the number of words. Dividing the probability by n is subtracting log n from its logarithm.",
    (TOGETHER, "own.logsumexp(dim=1) / own.size(1)"),
)
score.slip(
    "fractions among the words",
    "You turn the scores into fractions among all words of all labels first (log_softmax). Then they say which word is likelier than the others, not how "
    "likely it is in the gap.",
    (")).split(", ")).log_softmax(dim=1).split("),
)
score.slip(
    "only the best word",
    "You take a label's likeliest word alone. The others count too: the score is the log of the mean probability.",
    (TOGETHER, "own.amax(dim=1)"),
)
score.slip(
    "two labels alone",
    "You cut the words into two groups, those of the first label and all others. There may be more labels than two: split takes the number of words of each.",
    (
        "return scores if neutral",
        "scores = scores if len(each) == 2 else torch.stack([own.logsumexp(dim=1) - math.log(own.size(1)) for own in (each[0], torch.cat(each[1:], dim=1))], dim=1)\n    return scores if neutral",
    ),
)
score.slip(
    "divided by the letters",
    "You divide by the number of letters of a word. Its Σ log p is a sum over tokens: divide by their number, len(ids).",
    (
        "[len(ids) if normalise else 1 for own in answers.values() for ids in own.values()]",
        "[len(word) if normalise else 1 for own in answers.values() for word in own]",
    ),
)
score.slip(
    "mean over the words of all labels",
    "You divide by the number of all words. The mean goes over the words of one label: subtract the log of how many that label has.",
    (TOGETHER, "own.logsumexp(dim=1) - math.log(log_probs.size(1))"),
)
score.slip(
    "divided by neutral",
    "You divide by what the empty text gets. Dividing probabilities is subtracting logarithms: scores − neutral.",
    (END, "scores if neutral is None else scores / neutral"),
)
score.slip(
    "calibration added",
    'You add what the empty text gets, and so double the favourites. It is subtracted: score(x) - score("N/A").',
    (END, "scores if neutral is None else scores + neutral"),
)
score.slip(
    "calibration forgotten",
    "Your scores are the same with neutral as without. What the empty text gets has to be subtracted.",
    (END, "scores"),
)
score.slip(
    "calibrated in any case",
    "You subtract neutral also where it is None. Calibration is only for whoever asks for it.",
    (END, "scores - neutral"),
)
score.slip(
    "fractions among the labels",
    "You turn the scores into fractions, so that each row sums to 1 in probability. The score is how likely a label's words are in the gap, whatever else "
    "could stand there; the favourite is the same, but the number no longer says how much of the gap the words have.",
    ("for own in each], dim=1)", "for own in each], dim=1).log_softmax(dim=1)"),
)
score.slip(
    "labels below one another",
    "Your result is (labels, examples). The labels stand side by side, a column for each: torch.stack(…, dim=1).",
    ("for own in each], dim=1)", "for own in each])"),
)
score.slip(
    "divided where they were given",
    "You write into the tensor that you were given (/=, div_): whoever holds it finds other numbers. log_probs / … makes a new one.",
    (
        "(log_probs / log_probs.new_tensor(lengths))",
        "log_probs.div_(log_probs.new_tensor(lengths))",
    ),
)

# ---------------------------------------------------------------- 7.5

near = Exercise(
    id="7.5",
    target="minitransformer.course.answers:nearest",
    title="Nearest words",
    minutes=25,
    difficulty=3,
    purpose="One word for a label is arbitrary. Here each label gets also the K words whose embeddings are nearest to its own, so that any of them may "
    "stand in the gap. What is near to two labels tells nothing and is left out.",
    hints=(
        "Begin and end with by_hand: it makes ids of the words and refuses what cannot be. In between: label_vectors(model, answers) is a row (C) for each "
        "label, and nearest_words(vectors, model, k=…) ranks tokens by cosine, as (token id, cosine).",
        "Rank the whole vocabulary (k=model.config.vocab_size), for much falls away: tokens that are no word after a space, words that any label has "
        "already, words that are not in among. Of the rest each label takes the first k; then drop the words that two labels took.",
        "    # of the text of a token, whether it is a word\n"
        '    re.fullmatch(r" [^\\W\\d_]{2,}", tokenizer.decode([token]))\n'
        "    # of a label's ranked words, its neighbours\n"
        "    near[i] = [\n"
        "        word for word in ranked\n"
        "        if word not in taken and (among is None or word in among)\n"
        "    ][:k]\n"
        "    # at the end; new: those of near[i] that stand in no other\n"
        "    by_hand({label: [*own, *new], …}, tokenizer)",
    ),
    given=(
        "by_hand(words, tokenizer): label → words becomes label → word → its token ids, or a refusal.",
        "label_vectors(model, answers): the mean embedding of each label's words, (labels, C).",
        "nearest_words(vectors, model, k): for each vector the k nearest tokens of all, as pairs (token id, cosine), the nearest first.",
        "tokenizer.decode(ids): the text of token ids.",
    ),
)

WORDS = ("good", "fine", "dull", "town", "cafe", "film", "book", "shop")


def placed(**places):
    """A GPT in whose table these words stand at these places (x, y), everything else far from them on the other axes."""
    tokenizer = default_tokenizer()
    model = tiny_gpt(tokenizer.n_vocab)
    with torch.no_grad():
        table = model.token_embedding.weight
        table[:, :2] *= 0.1
        for word, place in places.items():
            table[tokenizer.encode(" " + word)] = torch.tensor([*map(float, place), 0.0, 0.0])
    return model


@near.case
def one_neighbour_each():
    """Two labels on two axes, and a word beside each."""
    model = placed(good=(1, 0), fine=(0.9, 0.1), dull=(0, 1), town=(0.1, 0.9))
    return (
        {"yes": "good", "no": "dull"},
        model,
        default_tokenizer(),
        1,
        {"good", "fine", "dull", "town"},
    )


@near.case
def length_does_not_matter():
    """A word in nearly the same direction with a small embedding, and one far off with a large one."""
    model = placed(
        good=(1, 0), fine=(0.1, 0.01), film=(5, 4), dull=(0, 1), town=(0.01, 0.1), shop=(4, 5)
    )
    return {"yes": "good", "no": "dull"}, model, default_tokenizer(), 1, set(WORDS)


@near.case
def near_two_labels():
    """Two neighbours each, of which one is near to both."""
    model = placed(
        good=(1, 0.3),
        fine=(1, 0.2),
        film=(1, 1),
        dull=(0.3, 1),
        town=(0.2, 1),
        cafe=(-1, 0.5),
        shop=(0.5, -1),
    )
    return {"yes": "good", "no": "dull"}, model, default_tokenizer(), 2, set(WORDS)


@near.case
def near_the_other_label():
    """What is nearest to a label is the other label's own word."""
    model = placed(good=(1, 0), dull=(1, 0.1), fine=(0.8, -0.3), town=(0.6, 0.4))
    return (
        {"yes": "good", "no": "dull"},
        model,
        default_tokenizer(),
        1,
        {"good", "fine", "dull", "town"},
    )


@near.case
def two_words_for_a_label():
    """A label with two words: neighbours are near to their mean."""
    model = placed(
        good=(1, 0), fine=(0, 1), film=(1, 1), town=(1, 0.1), dull=(-1, -1), cafe=(-1, -0.9)
    )
    return (
        {"yes": ["good", "fine"], "no": "dull"},
        model,
        default_tokenizer(),
        1,
        {"film", "town", "cafe"},
    )


@near.case
def near_the_first_and_the_third():
    """Three labels; a word is the nearest to the first and to the third."""
    model = placed(
        good=(1, 0), film=(0.97, 0.26), town=(0.87, 0.5), dull=(-1, 0), cafe=(-0.98, 0.17)
    )
    words = {"yes": "good", "no": "dull", "maybe": "town"}
    return words, model, default_tokenizer(), 1, {"film", "cafe"}


@near.case
def among_no_words():
    """Among no words at all: nothing comes on top of the labels' own."""
    return {"yes": "good", "no": "dull"}, placed(), default_tokenizer(), 2, set()


@near.case
def among_all_words():
    """Among all words of the vocabulary, which include pieces of words, numbers and signs."""
    tokenizer = default_tokenizer()
    return {"yes": "good", "no": "dull"}, tiny_gpt(tokenizer.n_vocab), tokenizer, 3


@near.case
def no_neighbour():
    """k = 0 is refused."""
    return {"yes": "good", "no": "dull"}, placed(), default_tokenizer(), 0


RANKS = "nearest_words(label_vectors(model, answers), model, k=model.config.vocab_size)"
TAKES = "[word for word in ranked if word not in taken and (among is None or word in among)][:k]"
near.slip(
    "dot product in place of cosine",
    "You rank by the dot product. Words with a large embedding, the frequent ones, then are near to everything; the cosine compares directions.",
    (
        RANKS,
        "[[(i, 0.0) for i in row] for row in (label_vectors(model, answers) @ model.token_embedding.weight.T)"
        ".argsort(dim=1, descending=True).tolist()]",
    ),
)
near.slip(
    "its own nearest word",
    "Nothing is as near to a word as itself: you count the labels' own words among the neighbours. They are there already, and are left out of the "
    "ranking.",
    ("if word not in taken and (among", "if (among"),
)
near.slip(
    "near two labels kept",
    "You keep words that are near to two labels. When the model says one of them, nobody knows which label it means: both lose it.",
    ("if word in other}", "if False}"),
)
near.slip(
    "k of all tokens",
    "You take the k nearest tokens and then throw out what is no word, or not in among: often nothing is left. Rank them all, filter, then take k.",
    (RANKS, "nearest_words(label_vectors(model, answers), model, k=k)"),
)
near.slip(
    "the farthest",
    "You take the other end of the ranking. nearest_words gives the most alike first: [:k].",
    (TAKES, TAKES.replace("[:k]", "[-k:]")),
)
near.slip(
    "the label's own word lost",
    "Your labels have their neighbours, but no longer their own words. The neighbours come on top.",
    ("[*own, *(w for w in new", "[*(w for w in new"),
)
near.slip(
    "only the first word's place",
    "You look around a label's first word. Where a label has several, the neighbours are those of their mean embedding.",
    (
        "label_vectors(model, answers), model",
        "label_vectors(model, {label: dict([*own.items()][:1]) for label, own in answers.items()}), model",
    ),
)
near.slip(
    "all words allowed",
    "Your neighbours come from the whole vocabulary, though among says which words are allowed.",
    ("(among is None or word in among)", "True"),
)
near.slip(
    "tokens that are no words",
    'You take any token: numbers, signs, and pieces such as " th" cut off from what follows are no answers. A word is letters after a space.',
    (
        r'[word[1:] for word in texts if re.fullmatch(r" [^\W\d_]{2,}", word)]',
        "[word.strip() for word in texts if word.strip()]",
    ),
)
near.slip(
    "among no words is among all",
    "You take an empty among for none. An empty set allows no word; only None allows all: among is None.",
    ("(among is None or word in among)", "(not among or word in among)"),
)
near.slip(
    "only neighbouring labels compared",
    "You compare each label's neighbours with those of the label before it only. A word that is near to the first and to the third label is near to two as well: compare each with all others.",
    ("for other in near[:i] for word", "for other in near[max(0, i - 1):i] for word"),
)
near.slip(
    "the other labels' words",
    "You leave out a label's own words, but not those of the others. A word that stands for one label cannot be a neighbour of another: leave out the words of all labels.",
    ("for ranking in nearest_words(", "for own, ranking in zip(answers.values(), nearest_words("),
    ("k=model.config.vocab_size):", "k=model.config.vocab_size)):"),
    ("if word not in taken and (among", "if word not in own and (among"),
)
near.slip(
    "no neighbour at all",
    "You accept k = 0 (or less). Who wants no neighbours takes by_hand; here it is a mistake, and [:k] of a negative k would even take nearly all words: refuse it.",
    ("if k < 1:", "if False:"),
)
near.slip(
    "one letter is a word",
    'You take single letters for words. Two letters or more are asked for: " a" and " I" are near to much and say nothing.',
    ("{2,}", "+"),
)
