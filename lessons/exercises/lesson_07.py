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
    purpose="A template turns an example into a text with a gap, which a BERT can fill. The text is [CLS], the ids before the gap, a [MASK] for each token of "
    "the answer, the ids after the gap, [SEP]. You also return the places of the [MASK]s, because the answer will be read there.",
    hints=(
        'before, after = self._encode(example, tokenizer, " ") are the ids on both sides of the gap. You still have to put five pieces in a row, and '
        "to count.",
        "The special ids are tokenizer.cls_id, mask_id and sep_id. The first [MASK] stands after [CLS] and the ids before the gap. Which "
        "place is that, if you count from 0? There are n_answer of them, side by side.",
        '    before, after = self._encode(example, tokenizer, " ")\n'
        "    before = [tokenizer.cls_id, *before]\n"
        "    ids = before + [tokenizer.mask_id] * n_answer\n"
        "    ids = ids + [*after, tokenizer.sep_id]\n"
        "    places = list(range(len(before), len(before) + n_answer))\n"
        "    # return both",
    ),
    given=(
        "self._encode(example, tokenizer, in_front): the ids before the gap and those after it, two lists. in_front is a string that goes in front of the first word. Here it is a space, because every other word has one too.",
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
    """The text begins with the gap: {mask} was {text}"""
    return Template("{mask} was {text}"), {"text": "a film."}, default_tokenizer()


@gap.case
def a_mask_written_out():
    """A text that contains [MASK] in letters. They stay letters, and are no gap."""
    return Template("{text} It was {mask}."), {"text": "A [MASK] film."}, default_tokenizer()


@gap.case
def field_missing():
    """An example without the field is refused."""
    return Template("{text} It was {mask}."), {"review": "A film."}, default_tokenizer()


@gap.mistake("no [CLS]")
def no_cls(self, example, tokenizer, n_answer=1):
    """Your text does not begin with [CLS]. Every text of this BERT's pre-training does."""
    before, after = self._encode(example, tokenizer, " ")
    return before + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id], list(
        range(len(before), len(before) + n_answer)
    )


@gap.mistake("places without [CLS]")
def places_without_cls(self, example, tokenizer, n_answer=1):
    """Your places are one too small. [CLS] stands in front and counts too. The answer would be read at the word before the gap."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(len(before), len(before) + n_answer))


@gap.mistake
def one_mask_only(self, example, tokenizer, n_answer=1):
    """You put one [MASK] for an answer of several tokens. A BERT fills each place with one token, so it needs as many [MASK]s as tokens."""
    before, after = self._encode(example, tokenizer, " ")
    return [tokenizer.cls_id, *before, tokenizer.mask_id, *after, tokenizer.sep_id], [
        1 + len(before)
    ]


@gap.mistake
def gap_at_the_end_always(self, example, tokenizer, n_answer=1):
    """You put the gap at the end. A GPT needs that. A BERT reads both sides of the gap, so the words after the gap stay after it."""
    before, after = self._encode(example, tokenizer, " ")
    before = [tokenizer.cls_id, *before, *after]
    return [*before, *[tokenizer.mask_id] * n_answer, tokenizer.sep_id], list(
        range(len(before), len(before) + n_answer)
    )


@gap.mistake
def no_space_in_front(self, example, tokenizer, n_answer=1):
    """Your first word is encoded without a space before it. In our tokens the space belongs to the word (" A"). Without it, the word is another token, and the BERT never read that one after [CLS]. Write _encode(example, tokenizer, " ")."""
    before, after = self._encode(example, tokenizer, "")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake("no [SEP]")
def no_sep(self, example, tokenizer, n_answer=1):
    """Your text does not end with [SEP]. Every text of this BERT's pre-training does."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + after
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake
def counted_from_one(self, example, tokenizer, n_answer=1):
    """Your places are one too large. [CLS] is place 0 and the first word is place 1, so the gap begins at 1 + len(before). The answer would be read after the gap."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(2 + len(before), 2 + len(before) + n_answer))


@gap.mistake
def a_range(self, example, tokenizer, n_answer=1):
    """Your places are a range. The docstring promises a list: list(range(…))."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, range(1 + len(before), 1 + len(before) + n_answer)


@gap.mistake
def first_place_only(self, example, tokenizer, n_answer=1):
    """You return only the place of the first [MASK]. An answer of several tokens is read at several places."""
    before, after = self._encode(example, tokenizer, " ")
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, [1 + len(before)]


@gap.mistake
def template_in_front(self, example, tokenizer, n_answer=1):
    """You give _encode the template as the string in front of the first word. So the template's text comes twice, once with unfilled slots. _encode knows the template already. In front of the first word stands a space: _encode(example, tokenizer, " ")."""
    before, after = self._encode(example, tokenizer, self.text)
    ids = [tokenizer.cls_id, *before] + [tokenizer.mask_id] * n_answer + [*after, tokenizer.sep_id]
    return ids, list(range(1 + len(before), 1 + len(before) + n_answer))


@gap.mistake("[SEP] before the gap")
def sep_before_the_gap(self, example, tokenizer, n_answer=1):
    """You put a [SEP] before the gap, as if the template were a second sentence. Text and template are one text, with one [SEP] at its end."""
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
    purpose="The answer mapping says which words in the gap stand for which label. The model knows words only as token ids, so you encode them. Some mappings "
    "cannot be read backwards: a word stands for two labels, or a label has no words. You refuse them before anything is measured.",
    hints=(
        "The result is a dictionary of dictionaries: label → word → ids. A label's words can be one string or several. The space before the gap belongs to the "
        'answer, so encode " good" and not "good".',
        "Go through words.items(). Make a list of a single string. Strip each word. Refuse a word that is already there, under any label. Refuse a word that is empty "
        "or contains a special token. Refuse fewer than two labels, and a label without a word.",
        "Each refusal is a raise UserError(a sentence). A word contains a special token if this set is not empty:\n"
        "    special = {*tokenizer.special_ids.values()}\n"
        "    special & {*tokenizer.encode(word, allow_special=True)}\n"
        "If a word is not refused, keep it:\n"
        '    answers[label][word] = tokenizer.encode(" " + word)',
    ),
    given=(
        "tokenizer.encode(text): the ids of a text. With allow_special=True, special tokens in the text become their ids. Without it, they are read as letters.",
        "tokenizer.special_ids: the special tokens' ids by name.",
        "UserError(sentence): the refusal. You raise it.",
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
    """Words with spaces around them."""
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
    """You refuse more than two labels. There have to be at least two, so refuse only len(answers) < 2."""
    if len(words) != 2:
        raise UserError("There have to be two labels.")
    return wrong_mapping()(words, tokenizer)


@mapping.mistake
def small_letters(words, tokenizer):
    """You turn the words into small letters. "Good" and "good" are different tokens. A word stays as it was written."""
    small = {
        label: own.lower() if isinstance(own, str) else [word.lower() for word in own]
        for label, own in words.items()
    }
    return wrong_mapping()(small, tokenizer)


@mapping.mistake
def only_lists_hold_words(words, tokenizer):
    """You take everything that is not a list for a single word. But words can come in a tuple too. Ask whether it is a string: isinstance(own, str)."""
    lists = {label: own if isinstance(own, list) else [own] for label, own in words.items()}
    return wrong_mapping()(lists, tokenizer)


@mapping.mistake
def only_a_special_token_alone(words, tokenizer):
    """You refuse a word that is a special token, but not a word that contains one. Encode the word with allow_special=True, and look for a special id in the result."""
    answers = wrong_mapping(refuse=all_refusals_but("special"))(words, tokenizer)
    if {word for own in answers.values() for word in own} & {*tokenizer.special_ids}:
        raise UserError("A special token.")
    return answers


def all_refusals_but(*some):
    """The others."""
    return tuple({"labels", "twice", "again", "none", "special", "empty"} - {*some})


@mapping.mistake
def no_space_before_the_word(words, tokenizer):
    """You encode "good" and not " good". Inside a text the space is a part of the word's token. Without it, the word is another token, which no text has in that place. So every score would be far too low."""
    return wrong_mapping(space="")(words, tokenizer)


@mapping.mistake
def spaces_not_taken_off(words, tokenizer):
    """You keep the spaces around a word. With yours in front there are two. strip() removes them."""
    return wrong_mapping(strip=False)(words, tokenizer)


@mapping.mistake
def a_string_taken_letter_by_letter(words, tokenizer):
    """You go through a single word as if it were a list. Then Python gives you its letters. First put the string into a list: [word]."""
    return wrong_mapping(letters=True, refuse=all_refusals_but("twice", "again"))(words, tokenizer)


@mapping.mistake
def first_token_only(words, tokenizer):
    """You keep only the first token of a word. Many words begin with the token of "terrible". Keep all of its tokens."""
    return wrong_mapping(first=True)(words, tokenizer)


@mapping.mistake
def words_run_together(words, tokenizer):
    """Each of your labels has one list of ids. So nobody knows which ids belong to which word. The result is label → word → ids."""
    return wrong_mapping(flat=True)(words, tokenizer)


@mapping.mistake
def one_word_for_two(words, tokenizer):
    """You let one word stand for two labels. If the model says this word, which of the two labels does it mean? Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("twice"))(words, tokenizer)


@mapping.mistake
def twice_under_one_label(words, tokenizer):
    """You look for a word only among those of the other labels. A word can also stand twice under one label. Refuse this too. (Spaces around a word make no difference.)"""
    return wrong_mapping(refuse=all_refusals_but("again"))(words, tokenizer)


@mapping.mistake
def no_word_is_twice(words, tokenizer):
    """You accept a word that is there already, under this label or another one. If the model says this word, which label does it mean? Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("twice", "again"))(words, tokenizer)


@mapping.mistake
def nothing_refused(words, tokenizer):
    """You refuse nothing. The docstring names five things that make a mapping useless. For each of them, raise UserError(a sentence)."""
    return wrong_mapping(refuse=())(words, tokenizer)


@mapping.mistake
def one_label_is_enough(words, tokenizer):
    """You accept a single label. Then this label wins whatever the model says, and the accuracy is 100 %. Refuse fewer than two labels."""
    return wrong_mapping(refuse=all_refusals_but("labels"))(words, tokenizer)


@mapping.mistake
def label_without_words(words, tokenizer):
    """You accept a label without words. It can never be chosen, and its mean probability would be 0/0. Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("none"))(words, tokenizer)


@mapping.mistake
def special_tokens_accepted(words, tokenizer):
    """You accept a special token such as [MASK] as an answer. Encoded as a word, it becomes brackets and letters, which nobody writes into a gap. Refuse it."""
    return wrong_mapping(refuse=all_refusals_but("special"))(words, tokenizer)


@mapping.mistake
def empty_words_accepted(words, tokenizer):
    """You accept an empty word. Then a single space would be scored. Refuse it."""
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
    purpose="How likely is a word in the gap? A GPT predicts its tokens one after the other, each after those before it. A BERT fills n [MASK]s at once. You get "
    "a batch of texts with one gap each, and words of n tokens. In the gap the model reads the same for all of these words, so it reads the batch once. You return "
    "Σ log p of each word in each gap.",
    hints=(
        "Where is the first of the n tokens predicted? A BERT predicts a token at its own [MASK], and the first one stands at place n_before. A GPT's logits at place t "
        "predict place t + 1. And each row has its own n_before.",
        "at (B, T) is True at n places of each row. They begin at n_before for a BERT, and at n_before - 1 for a GPT. The logits at these places are "
        "(B · n, V), in reading order. Take log_softmax, then view(B, n, V).",
        "    first = n_before[:, None] - int(not isinstance(model, Bert))\n"
        "    place = torch.arange(ids.size(1))\n"
        "    at = (place >= first) & (place < first + n)\n"
        "    # logits (number of True, V): each model makes them in its own way\n"
        "    log_probs = logits.log_softmax(dim=-1).view(len(ids), n, -1)\n"
        "    # this is for one word; put all words side by side\n"
        "    log_probs[:, range(n), word].sum(dim=1)",
    ),
    given=(
        "model(ids, attention_mask=attention_mask): for a BERT, a vector for each place, (B, T, C).",
        "model.mlm_logits(vectors, at): for a BERT, the logits at the places that `at` marks, which is boolean (B, T). They are (number of True, V), in reading order.",
        "model(ids, at=at): for a GPT, the logits of the next token at the places that `at` marks, in the same form. A GPT does not see the padding after its text.",
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
    """A BERT, one gap with three tokens before it and one after it, two words of one token."""
    return tiny_bert(), *gaps(([2, 4, 12], [3]), n=1), [[5], [6]]


@chain.case
def two_tokens_on_a_gpt():
    """A GPT, two words of two tokens with the same first token; it reads this token."""
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
    """The model with a token table that is so many times as large; for most words it is certain that they do not come."""
    with torch.no_grad():
        model.token_embedding.weight *= times
    return model


@chain.case(tolerance=1e-3)
def nearly_impossible_words():
    """A GPT that finds words so unlikely that a float32 cannot hold their probability. It can hold the logarithm."""
    return sure(tiny_gpt(), 100), *gaps(([3, 4], [6])), [[6, 7], [6, 8], [6, 11]]


@chain.case(tolerance=1e-3)
def unlikely_one_after_another():
    """A GPT, words of three tokens. A float32 can hold the probability of each token, but not their product."""
    return sure(tiny_gpt(), 30), *gaps(([3, 4], [6, 7])), [[6, 7, 8], [6, 7, 11]]


@chain.scene
def read_once(log_probs_in_gap):
    """How often the model reads the texts for five words."""
    with calls(GPT, "forward") as seen:
        log_probs_in_gap(tiny_gpt(), *gaps(([3, 4, 12], [])), [[5], [6], [7], [8], [9]])
    return {"how often the model is called": len(seen)}


@chain.scene
def in_three_passes(log_probs_in_gap):
    """A GPT, words of one, two and three tokens. The package calls the function once for all words with the same text to read."""
    tokenizer = SimpleNamespace(mask_id=MASK, pad_id=0)
    words = [[5], [6, 7], [6, 8], [9, 10, 11]]
    return _word_log_probs(tiny_gpt(), tokenizer, [([3, 4], [])], words)


FIRST = "n_before[:, None] - int(not isinstance(model, Bert))"
READ = "log_probs[:, range(n), word].sum(dim=1)"
chain.slip(
    "a GPT read at the token's own place",
    "You read a GPT at the place of the token itself. Its logits at place t predict place t + 1, so a token is predicted one place before it.",
    (FIRST, "n_before[:, None]"),
)
chain.slip(
    "a BERT read one place before",
    "You read a BERT one place before the gap, like a GPT. A BERT predicts a token at its own [MASK].",
    (FIRST, "n_before[:, None] - 1"),
)
chain.slip(
    "first token only",
    "You score a word by its first token alone. So words with the same first token get the same score. The chain rule multiplies the probabilities of all "
    "tokens, so add their logarithms.",
    (READ, "log_probs[:, 0, word[0]]"),
)
chain.slip(
    "last token only",
    "You score a word by its last token alone. The chain rule multiplies the probabilities of all its tokens, so add their logarithms.",
    (READ, "log_probs[:, -1, word[-1]]"),
)
chain.slip(
    "mean in place of sum",
    "You take the mean over a word's tokens. log P(w) is the sum. Whether it is divided by the length is decided later, by normalise.",
    (READ, "log_probs[:, range(n), word].mean(dim=1)"),
)
chain.slip(
    "probabilities added",
    "You add probabilities. The probability of a word is a product of probabilities, so add their logarithms: Σ log p.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
)
chain.slip(
    "logits in place of log p",
    "You add logits. Logits are no logarithms of probabilities, and logits of different places cannot be compared. Take log_softmax first.",
    (".log_softmax(dim=-1)", ""),
)
chain.slip(
    "every word scored as the first",
    "All words get the score of the first word. The model reads the same for all of them, but each word has its own token ids to look up.",
    (READ, "log_probs[:, range(n), words[0]].sum(dim=1)"),
)
chain.slip(
    "padding read",
    "Your BERT gets no mask. So a short text reads its padding, and its scores depend on the other texts of the batch. (A GPT does not see "
    "padding on the right.)",
    ("model(ids, attention_mask=attention_mask)", "model(ids)"),
)
chain.slip(
    "one place for all rows",
    "You read every row at the place of the first row. The texts before the gap differ in length, so n_before has a number for each row. Use it as a column, (B, 1).",
    ("n_before[:, None]", "n_before[:1, None]"),
)
chain.slip(
    "every token at every place",
    "You read each of a word's tokens at each of its places. These are n · n numbers. Read token i at place i: log_probs[:, range(n), word].",
    (READ, "log_probs[:, :, word].sum(dim=(1, 2))"),
)
chain.slip(
    "words below one another",
    "Your result is (words, B). Each word gets a column: torch.stack(…, dim=1).",
    ("for word in words], dim=1)", "for word in words])"),
)
VIEW = "view(len(ids), n, -1)"
chain.slip(
    "n before the gaps",
    "Your view is (n, B, V). The scores come in reading order: first all n of the first gap, then all n of the second. So it is "
    "view(B, n, V).",
    (VIEW, "view(n, len(ids), -1)"),
)
chain.slip(
    "n before the gaps, and summed so",
    "Your view is (n, B, V), so it mixes the places of several gaps. The scores come in reading order: first all n of the first gap, "
    "then all n of the second. So it is view(B, n, V).",
    (VIEW, "view(n, len(ids), -1)"),
    (READ, "log_probs[range(n), :, word].sum(dim=0)"),
)
chain.slip(
    "logarithm of the sum",
    "You take the logarithm of a sum of probabilities. The probability of a word is a product, so take the logarithms first and add them.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
    (READ, READ + ".log()"),
)
chain.slip(
    "logarithm of softmax",
    "You take the logarithm of softmax. For a very unlikely word, softmax gives 0 in a float32, and its logarithm is −∞. Use log_softmax, which computes with logarithms throughout.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1).log()"),
)
chain.slip(
    "logarithm of the product",
    "You multiply the probabilities and take the logarithm of the product. The product of a few small numbers is 0 in a float32, and its logarithm is −∞. Add the logarithms instead: log_softmax, then sum.",
    (".log_softmax(dim=-1)", ".softmax(dim=-1)"),
    (READ, "log_probs[:, range(n), word].prod(dim=1).log()"),
)
chain.slip(
    "read anew for every word",
    "You let the model read the texts once for each word. It reads the same for all of them, and reading is nearly all of the work. Let it read once, and look up all words in the result.",
    (
        "logits = model(ids, at=at)",
        "logits = [model(ids, at=at) for _ in words][0]",
    ),
)
chain.slip(
    "the mask turned round",
    "You give the model an attention mask that is True at the padding. True means a real token, and you were given the mask in this form: attention_mask=attention_mask.",
    ("attention_mask=attention_mask", "attention_mask=~attention_mask"),
)
chain.slip(
    "softmax over the places",
    "Your log_softmax goes along the places, dim 0 of (B · n, V). At each place the model chooses from the vocabulary: dim=-1.",
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
    purpose="A label can have several words, and a word several tokens. In the end each label has one score. You get Σ log p of every word of "
    "every label, side by side in the order of answers. You return the log of the mean probability of each label's words.",
    hints=(
        "There are three steps. With normalise, divide each word's sum by its number of tokens. Then bring the words of each label together. At the end, subtract `neutral` if it is given: "
        "the scores of the same template and words for a text that says nothing.",
        "The words of a label stand side by side: log_probs.split([number of words of each label], dim=1). Take the mean of probabilities, "
        "log((e^a + e^b) / 2), and not of logarithms. logsumexp gives log(e^a + e^b) without overflow.",
        "    # for each word of each label: len(ids) if normalise, else 1\n"
        "    log_probs = log_probs / log_probs.new_tensor(lengths)\n"
        "    # for each label, own: its words' columns\n"
        "    own.logsumexp(dim=1) - math.log(own.size(1))\n"
        "    # side by side with torch.stack(…, dim=1); then minus neutral",
    ),
    given=(
        "tensor.split([2, 1], dim=1): cuts a tensor into pieces of 2 columns and of 1.",
        "tensor.logsumexp(dim=1): log Σ e^x of each row, computed without overflow.",
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
    """An answer of many tokens, by the sum. Its probability is too small for a float32, but its logarithm is not."""
    answers = {"yes": {"incomprehensible": list(range(20))}, "no": {"good": [5], "bad": [6]}}
    return call(torch.tensor([[-240.0, -1.0, -2.0]]), answers, normalise=False)


LENGTHS = "len(ids) if normalise else 1"
TOGETHER = "own.logsumexp(dim=1) - math.log(own.size(1))"
END = "scores if neutral is None else scores - neutral"
score.slip(
    "long words punished",
    "You never divide by a word's length. Every token lowers the sum, so a word of five tokens loses because it is long.",
    (LENGTHS, "1"),
)
score.slip(
    "always the mean",
    "You always divide by the length. With normalise=False, keep the sum.",
    (LENGTHS, "len(ids)"),
)
score.slip(
    "normalise turned round",
    "You have swapped the two cases of normalise. True takes the mean over the tokens, and False takes the sum.",
    (LENGTHS, "1 if normalise else len(ids)"),
)
score.slip(
    "mean of logarithms",
    "You take the mean of logarithms. So one unlikely word pulls its label down, because its log p is far below 0. Take the mean of "
    "probabilities: logsumexp, minus the log of the number of words.",
    (TOGETHER, "own.mean(dim=1)"),
)
score.slip(
    "sum of probabilities",
    "You add the words' probabilities. So a label with more words wins because it has more. Take their mean: subtract log(number of words).",
    (TOGETHER, "own.logsumexp(dim=1)"),
)
score.slip(
    "probabilities spelled out",
    "You go back to probabilities, e^(log p), and take their mean. For an answer of many tokens this is 0 in a float32, and its logarithm is −∞. logsumexp avoids that.",
    (TOGETHER, "own.exp().mean(dim=1).log()"),
)
score.slip(
    "divided by the number of words",
    "You divide the logarithm by the number of words. To divide a probability by n, subtract log n from its logarithm.",
    (TOGETHER, "own.logsumexp(dim=1) / own.size(1)"),
)
score.slip(
    "fractions among the words",
    "You first turn the scores into fractions among all words of all labels (log_softmax). So they say which word is likelier than the others. They no longer say how "
    "likely it is in the gap.",
    (")).split(", ")).log_softmax(dim=1).split("),
)
score.slip(
    "only the best word",
    "You take only a label's likeliest word. The others count too: the score is the log of the mean probability.",
    (TOGETHER, "own.amax(dim=1)"),
)
score.slip(
    "two labels alone",
    "You cut the words into two groups, those of the first label and all others. There can be more than two labels. Give split the number of words of each label.",
    (
        "return scores if neutral",
        "scores = scores if len(each) == 2 else torch.stack([own.logsumexp(dim=1) - math.log(own.size(1)) for own in (each[0], torch.cat(each[1:], dim=1))], dim=1)\n    return scores if neutral",
    ),
)
score.slip(
    "divided by the letters",
    "You divide by the number of a word's letters. Σ log p is a sum over tokens, so divide by their number, len(ids).",
    (
        "[len(ids) if normalise else 1 for own in answers.values() for ids in own.values()]",
        "[len(word) if normalise else 1 for own in answers.values() for word in own]",
    ),
)
score.slip(
    "mean over the words of all labels",
    "You divide by the number of all words. The mean is over the words of one label, so subtract the log of that label's number of words.",
    (TOGETHER, "own.logsumexp(dim=1) - math.log(log_probs.size(1))"),
)
score.slip(
    "divided by neutral",
    "You divide by the scores of the empty text. To divide probabilities, subtract their logarithms: scores − neutral.",
    (END, "scores if neutral is None else scores / neutral"),
)
score.slip(
    "calibration added",
    'You add the scores of the empty text, so the favourites count twice. Subtract them: score(x) - score("N/A").',
    (END, "scores if neutral is None else scores + neutral"),
)
score.slip(
    "calibration forgotten",
    "Your scores are the same with neutral and without it. Subtract the scores of the empty text.",
    (END, "scores"),
)
score.slip(
    "calibrated in any case",
    "You subtract neutral even if it is None. Calibrate only if neutral is given.",
    (END, "scores - neutral"),
)
score.slip(
    "fractions among the labels",
    "You turn the scores into fractions, so that each row sums to 1 in probability. The label with the highest score is the same. But a score should say how likely "
    "the label's words are in the gap, among all words, and yours no longer says that.",
    ("for own in each], dim=1)", "for own in each], dim=1).log_softmax(dim=1)"),
)
score.slip(
    "labels below one another",
    "Your result is (labels, examples). Each label gets a column: torch.stack(…, dim=1).",
    ("for own in each], dim=1)", "for own in each])"),
)
score.slip(
    "divided where they were given",
    "You write into the tensor that you were given (/=, div_). The caller still uses it, and finds other numbers in it. log_probs / … makes a new tensor.",
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
    purpose="One word for a label is arbitrary. Here each label also gets the K words whose embeddings are nearest to its own. Any of them can then "
    "stand in the gap. A word that is near to two labels decides nothing, so it is left out.",
    hints=(
        "Begin and end with by_hand. It turns words into ids, and refuses bad mappings. In between, label_vectors(model, answers) has a row (C) for each "
        "label, and nearest_words(vectors, model, k=…) ranks tokens by cosine, as (token id, cosine).",
        "Rank the whole vocabulary (k=model.config.vocab_size), because many tokens are left out: tokens that are no word after a space, words that any label has "
        "already, words that are not in among. Each label takes the first k of the rest. Then drop the words that two labels took.",
        "    # is the text of a token a word?\n"
        '    re.fullmatch(r" [^\\W\\d_]{2,}", tokenizer.decode([token]))\n'
        "    # the neighbours among a label's ranked words\n"
        "    near[i] = [\n"
        "        word for word in ranked\n"
        "        if word not in taken and (among is None or word in among)\n"
        "    ][:k]\n"
        "    # at the end; new: the words of near[i] that stand in no other list\n"
        "    by_hand({label: [*own, *new], …}, tokenizer)",
    ),
    given=(
        "by_hand(words, tokenizer): turns label → words into label → word → its token ids, or refuses.",
        "label_vectors(model, answers): the mean embedding of each label's words, (labels, C).",
        "nearest_words(vectors, model, k): for each vector the k nearest tokens of the vocabulary, as pairs (token id, cosine), the nearest first.",
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
    """A word with a small embedding in nearly the same direction, and a word with a large one farther off."""
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
    "You rank by the dot product. So words with a large embedding are near to everything. The cosine compares only directions.",
    (
        RANKS,
        "[[(i, 0.0) for i in row] for row in (label_vectors(model, answers) @ model.token_embedding.weight.T)"
        ".argsort(dim=1, descending=True).tolist()]",
    ),
)
near.slip(
    "its own nearest word",
    "You count the labels' own words among the neighbours. Nothing is nearer to a word than the word itself. They are in the mapping already, so leave them out of the "
    "ranking.",
    ("if word not in taken and (among", "if (among"),
)
near.slip(
    "near two labels kept",
    "You keep words that are near to two labels. If the model says such a word, nobody knows which label it means. Remove it from both.",
    ("if word in other}", "if False}"),
)
near.slip(
    "k of all tokens",
    "You take the k nearest tokens, and then remove those that are no words or not in among. Often nothing is left. Rank all tokens, filter them, and then take k.",
    (RANKS, "nearest_words(label_vectors(model, answers), model, k=k)"),
)
near.slip(
    "the farthest",
    "You take the wrong end of the ranking. nearest_words gives the nearest first: [:k].",
    (TAKES, TAKES.replace("[:k]", "[-k:]")),
)
near.slip(
    "the label's own word lost",
    "Your labels have their neighbours, but no longer their own words. Add the neighbours to the own words.",
    ("[*own, *(w for w in new", "[*(w for w in new"),
)
near.slip(
    "only the first word's place",
    "You look for neighbours of a label's first word. If a label has several words, look for neighbours of their mean embedding.",
    (
        "label_vectors(model, answers), model",
        "label_vectors(model, {label: dict([*own.items()][:1]) for label, own in answers.items()}), model",
    ),
)
near.slip(
    "all words allowed",
    "Your neighbours come from the whole vocabulary. But `among` says which words are allowed.",
    ("(among is None or word in among)", "True"),
)
near.slip(
    "tokens that are no words",
    "You take any token. Numbers and signs are no answers. A word is a space with letters after it.",
    (
        r'[word[1:] for word in texts if re.fullmatch(r" [^\W\d_]{2,}", word)]',
        "[word.strip() for word in texts if word.strip()]",
    ),
)
near.slip(
    "among no words is among all",
    "You treat an empty `among` like None. An empty set allows no word, and only None allows all words. Ask: among is None.",
    ("(among is None or word in among)", "(not among or word in among)"),
)
near.slip(
    "only neighbouring labels compared",
    "You compare each label's neighbours only with those of the label before it. A word can also be near to the first and to the third label. Compare each label with all others.",
    ("for other in near[:i] for word", "for other in near[max(0, i - 1):i] for word"),
)
near.slip(
    "the other labels' words",
    "You leave out a label's own words, but not the words of other labels. A word that stands for one label cannot be a neighbour of another. Leave out the words of all labels.",
    ("for ranking in nearest_words(", "for own, ranking in zip(answers.values(), nearest_words("),
    ("k=model.config.vocab_size):", "k=model.config.vocab_size)):"),
    ("if word not in taken and (among", "if word not in own and (among"),
)
near.slip(
    "no neighbour at all",
    "You accept a k below 1. A mapping without neighbours is made by by_hand, so here it is a mistake. And with a negative k, [:k] would take nearly all words. Refuse it.",
    ("if k < 1:", "if False:"),
)
near.slip(
    "one letter is a word",
    'You accept single letters as words. A word has at least two letters here, because " a" and " I" say nothing.',
    ("{2,}", "+"),
)
