"""Hard prompts (硬提示): a task put into words, so that a pretrained model does it untrained (001 §3.1.1, 003 §3.2).

    template (模板)             an example → a text with a gap     "{text} All in all, it was {mask}."
    answer mapping (答案映射)   a label → words for the gap        positive → "good", negative → "bad"
    inference (推理)            the label whose words are likeliest in the gap

That alone is zero-shot (零样本); few-shot (少样本), solved examples stand before the question. A BERT fills the gap
where it is; a GPT goes on writing where the template ends.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import last_token
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import Batch, pad_right
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.training.losses import cross_entropy_sum
from minitransformer.tuning.method import Base, Method
from minitransformer.tuning.prefix import virtual_ids
from minitransformer.tuning.prompt import nearest_words

Example: TypeAlias = Mapping[str, Any]  # its fields by name
Words: TypeAlias = Mapping[str, str | Sequence[str]]  # label → a word, or several
Answers: TypeAlias = dict[str, dict[str, list[int]]]  # label → word → its token ids
Gap: TypeAlias = tuple[list[int], list[int]]  # the ids before and after it


class Template:
    """A text with slots: `{mask}` for the answer, `{virtual:3}` for three virtual tokens, `{field}` of the example.

    Words are encoded with the space before them, " good". So the space before `{mask}` belongs to the answer, and the
    tokens are those of the written-out sentence. Virtual tokens are numbered through the template, for a `PTuning` of
    length `n_virtual`. Braces that are to stay are doubled.

    Raises `UserError` for no `{mask}`, two, or one without a space before it; an unknown slot, unbalanced braces. So do
    its methods where an example lacks a field.
    """

    def __init__(self, text: str) -> None:
        self.text, self.n_virtual = text, 0
        try:
            self.parts = list(Formatter().parse(text))  # (words, the slot after them, what it has after : and after !)
        except ValueError as error:
            raise UserError(f"The braces of the template {text!r} are not balanced: {error}.") from None
        names = [name for _, name, *_ in self.parts if name is not None]
        if names.count("mask") != 1:
            raise UserError(f"The template {text!r} has {names.count('mask')} {{mask}}: it needs one, for the answer.")
        words_begin = True  # no word stands before, at the start or after virtual tokens
        for words, name, spec, conversion in self.parts:
            if name == "virtual" and re.fullmatch("[1-9][0-9]*", spec) and not conversion:
                self.n_virtual += int(spec)
            elif name is not None and (spec or conversion or name == "virtual" or not name.isidentifier()):
                raise UserError(f"{text!r} has an unknown slot {{{name}…}}; write {{mask}}, {{virtual:3}}, {{field}}.")
            if name == "mask" and not (words.endswith(" ") or words_begin and not words):
                raise UserError(f"The template {text!r} needs a space before {{mask}}: it is part of the answer.")
            words_begin = name == "virtual"

    def for_bert(self, example: Example, tokenizer: Tokenizer, n_answer: int = 1) -> tuple[list[int], list[int]]:
        """[CLS] text [SEP] with `n_answer` [MASK]s in the gap: the ids, and the positions of the [MASK]s.

        `self._encode(example, tokenizer, in_front)` fills the example into the template and gives two lists, the ids
        before and after the gap; in_front is a string that goes in front of the first word, and here that is a space,
        which every other word has, too. The special ids are `tokenizer.cls_id`, `tokenizer.mask_id` and
        `tokenizer.sep_id`. Positions count from 0, which is [CLS].
        """
        before, after = self._encode(example, tokenizer, " ")  # the first word has its space, as in `encode_pair`
        before, gap = [tokenizer.cls_id, *before], [tokenizer.mask_id] * n_answer
        return before + gap + [*after, tokenizer.sep_id], list(range(len(before), len(before) + n_answer))

    def for_gpt(self, example: Example, tokenizer: Tokenizer) -> list[int]:
        """The ids of <|endoftext|> and the text up to the gap. Raises `UserError` where it goes on after the gap."""
        if self.parts[-1][1] != "mask":
            raise UserError(f"A GPT answers after what it has read: for it, {self.text!r} has to end with {{mask}}.")
        return [tokenizer.eot_id, *self._encode(example, tokenizer, "")[0]]

    def written(self, example: Example, answer: str) -> str:
        """The text with the answer in it. Raises `UserError` where there are virtual tokens, which have no words."""
        if self.n_virtual:
            raise UserError(f"The virtual tokens of {self.text!r} have no words: it cannot be written out.")
        fields = {**example, "mask": answer}
        return "".join(words + (_field(fields, name) if name else "") for words, name, *_ in self.parts)

    def _encode(self, example: Example, tokenizer: Tokenizer, text: str) -> Gap:
        """The ids before and after the gap; `text` is what the first words follow."""
        sides: list[list[int]] = [[]]
        n = 0  # virtual tokens so far
        for words, name, spec, _ in self.parts:
            text += words
            if name in ("mask", "virtual"):
                sides[-1] += tokenizer.encode(text.removesuffix(" "))
                text = ""
            elif name:
                text += _field(example, name)
            if name == "mask":
                sides.append([])
            elif name == "virtual":
                sides[-1] += virtual_ids(n + int(spec))[n:]
                n += int(spec)
        return sides[0], sides[1] + tokenizer.encode(text)


def with_examples(
    template: Template, examples: Iterable[Example], answers: Answers, label: str = "label", separator: str = " "
) -> Template:
    """The few-shot template: examples that are solved, with the first word of their `label`, then the question.

    Raises `UserError` for a label without words, and for virtual tokens; `label_log_probs` says whether all has room.
    """
    solved = []
    for example in examples:
        name = _field(example, label)
        if name not in answers:
            raise UserError(f"A solved example has the label {name!r}; there are words for {', '.join(answers)}.")
        solved.append(template.written(example, next(iter(answers[name]))).replace("{", "{{").replace("}", "}}"))
    return Template(separator.join([*solved, template.text]))


def by_hand(words: Words, tokenizer: Tokenizer) -> Answers:
    """The answer mapping that a person chooses: {"positive": ["good", "great"], "negative": "bad"}.

    Gives label → word → its token ids, which are those of the word with one space before it; spaces of its own go.
    Raises `UserError` for fewer than two labels, one without words, a word that is empty, special, or there twice,
    under one label or two. `tokenizer.special_ids` has the special tokens' ids by name; encode(text,
    allow_special=True) finds those that are written out in a text, where encode(text) takes them for letters.
    """
    answers: Answers = {label: {} for label in words}
    if len(answers) < 2:
        raise UserError(f"The labels are {list(answers)}: there have to be at least two to choose from.")
    for label, own in words.items():
        for word in [own] if isinstance(own, str) else own:
            word = word.strip()
            others = [other for other, taken in answers.items() if word in taken]
            if others:
                raise UserError(f"The word {word!r} stands for {others[0]!r} and for {label!r}: it may stand once.")
            if not word or {*tokenizer.special_ids.values()} & {*tokenizer.encode(word, allow_special=True)}:
                raise UserError(f"The label {label!r} has {word!r}: an answer is not empty and no special token.")
            answers[label][word] = tokenizer.encode(" " + word)
        if not answers[label]:
            raise UserError(f"The label {label!r} has no words: it needs at least one.")
    return answers


def nearest(
    words: Words, model: Bert | GPT, tokenizer: Tokenizer, k: int = 5, among: Collection[str] | None = None
) -> Answers:
    """The answer mapping by likeness: each label's words, and the K words that are nearest to their mean embedding.

    Nearest by cosine, among the words of one token that are in `among`; None takes all tokens of letters (two or more)
    after a space, pieces of longer words (" gre") too. No label's own word is a neighbour. What is near two labels is
    left out, so that there may be fewer than K.
    Raises `UserError` as `by_hand`, and for k below 1.

    `_label_vectors(model, answers)` are the mean embeddings (labels, C); `nearest_words(vectors, model, k)` gives for
    each the k nearest tokens of all, as pairs (token id, cosine), the nearest first; `tokenizer.decode(ids)` is their
    text.
    """
    if k < 1:
        raise UserError(f"k = {k}: each label gets at least one word, or is mapped by_hand.")
    answers = by_hand(words, tokenizer)
    taken = {word for own in answers.values() for word in own}
    near = []
    for ranking in nearest_words(_label_vectors(model, answers), model, k=model.config.vocab_size):
        ranked = (tokenizer.decode([token]) for token, _ in ranking)
        ranked = [word[1:] for word in ranked if re.fullmatch(r" [^\W\d_]{2,}", word)]
        near.append([word for word in ranked if word not in taken and (among is None or word in among)][:k])
    twice = {word for i, own in enumerate(near) for other in near[:i] for word in own if word in other}
    sets = zip(answers.items(), near, strict=True)
    return by_hand({label: [*own, *(w for w in new if w not in twice)] for (label, own), new in sets}, tokenizer)


def _label_vectors(base: Bert | GPT, answers: Answers) -> Tensor:
    """The mean embedding of each label's words, (labels, C); a word's is the mean of its tokens'."""
    table = base.token_embedding.weight.detach()  # (V, C)
    return torch.stack([torch.stack([table[ids].mean(0) for ids in own.values()]).mean(0) for own in answers.values()])


class AnswerVectors(Method):
    """The continuous answer mapping: trained vectors in the place of words, score = h · v_label (001 §3.1.1).

    h is what the model compares with each word's embedding; v_label starts as the mean embedding of the label's words.
    To train it: `train(base, batches, config, loss=vectors.loss)`, with batches of `LabelledTexts` whose rows come from
    `Template.for_bert` or `for_gpt`. `mask_id` is [MASK]'s. `attach` raises `UserError` if the base guesses no words.
    """

    place = "answer"

    def __init__(self, answers: Answers, mask_id: int) -> None:
        super().__init__(answers=answers, mask_id=mask_id)
        self.answers, self.mask_id = answers, mask_id
        self.vectors: nn.Parameter | None = None  # a row of width C for each label

    def build(self, base: Base) -> None:
        """A vector for each label."""
        if _is_bert(base) and base.mlm is None:
            raise UserError("This BERT has no mlm head, so that there is nothing to compare with words.")
        self.vectors = nn.Parameter(_label_vectors(base, self.answers))

    def install(self, base: Base) -> tuple[()]:
        """Nothing of the base changes."""
        return ()

    def scores(self, model: Bert | GPT, batch: Batch) -> Tensor:
        """Logits over the labels, (B, labels), from "ids" and "attention_mask" (B, T).

        A BERT's rows have one [MASK] each.
        """
        ids, attention_mask = batch["ids"], batch["attention_mask"]
        if not _is_bert(model):
            return (
                model(ids, attention_mask=attention_mask, at=last_token(ids, attention_mask), return_hidden=True)
                @ self.vectors.T
            )
        at = ids == self.mask_id  # (B, T)
        for row, n in enumerate(at.sum(dim=1).tolist()):
            if n != 1:
                raise UserError(f"Row {row} has {n} [MASK]s: a label's vector answers at exactly one.")
        h = model(ids, attention_mask=attention_mask)[at]  # (B, C)
        return model.mlm.norm(F.gelu(model.mlm.dense(h))) @ self.vectors.T  # as `MaskedWordHead`, without its bias

    def loss(self, model: Bert | GPT, batch: Batch) -> tuple[Tensor, int]:
        """-Σ log p(label | text) and how many, as `classification_loss`; "label" (B) beside what `scores` takes."""
        return cross_entropy_sum(self.scores(model, batch), batch["label"])


@torch.no_grad()
def label_log_probs(
    model: Bert | GPT,
    tokenizer: Tokenizer,
    template: Template,
    examples: Sequence[Example],
    answers: Answers,
    *,
    normalise: bool = True,
    calibrate: Example | None = None,
    batch_size: int = 32,
) -> Tensor:
    """How likely each label is in the gap: log of the mean probability of its words (001 §3.1.1, step 3).

    For a word of n tokens a BERT has n [MASK]s, all guessed at once, none knowing the others; a GPT gives each token's
    probability after those before it, which is exact. Whatever is attached to the model counts, such as a `PTuning`.

    Args, where the types do not say it:
        answers: label → word → its token ids, as `by_hand` gives it; log_probs has the words in this order.
        normalise: take the mean of log p over a word's tokens, not the sum, so that long words are not punished.
        calibrate: an example without content, {"text": "N/A"}, whose scores are subtracted: what template and words
            favour whatever the text says (contextual calibration, Zhao et al. 2021).

    Gives (examples, labels), in nats. Raises `UserError` for no example, or one that is too long for the model.
    """
    if not examples or batch_size < 1:
        raise UserError(f"{len(examples)} examples, batch_size = {batch_size}: there has to be at least one of both.")
    is_bert, words = _is_bert(model), [ids for own in answers.values() for ids in own.values()]
    if is_bert:
        gaps = [(ids[:at], ids[at + 1 :]) for ids, (at,) in (template.for_bert(e, tokenizer) for e in examples)]
    else:
        gaps = [(template.for_gpt(example, tokenizer), []) for example in examples]
    for i, gap in enumerate(gaps):  # the last token of its answer a GPT need not read
        needed = sum(map(len, gap)) + max(map(len, words)) - int(not is_bert)
        if needed > model.config.n_positions:
            raise UserError(
                f"Example {i} needs {needed} positions in this template; the model has n_positions = "
                f"{model.config.n_positions}. Shorten the text or the template, or show fewer solved examples."
            )
    was_training = model.training
    model.eval()  # dropout has no place in scoring
    try:
        parts = [gaps[start : start + batch_size] for start in range(0, len(gaps), batch_size)]
        log_probs = torch.cat([_word_log_probs(model, tokenizer, part, words) for part in parts])  # (examples, words)
    finally:
        model.train(was_training)
    # ⟨answer⟩
    log_probs /= log_probs.new_tensor([len(ids) if normalise else 1 for ids in words])
    each = log_probs.split([len(own) for own in answers.values()], dim=1)
    scores = torch.stack([own.logsumexp(dim=1) - math.log(own.size(1)) for own in each], dim=1)  # (examples, labels)
    if calibrate is not None:
        scores = scores - label_log_probs(model, tokenizer, template, [calibrate], answers, normalise=normalise)
    # ⟨/answer⟩
    return scores


def predict(scores: Tensor, answers: Answers) -> list[str]:
    """The best label of each row of scores (examples, labels), for `metrics.accuracy`."""
    return [list(answers)[i] for i in scores.argmax(dim=1).tolist()]


def _word_log_probs(model: Bert | GPT, tokenizer: Tokenizer, gaps: list[Gap], words: list[list[int]]) -> Tensor:
    """Σ log p of each word's tokens in each gap, (B, words).

    A gap is a pair of lists, the ids before it and the ids after it. Words for which the model reads the same ids in
    the gap share a pass: `group` lists their numbers w, n is the length of each in tokens, `ids` (B, T) are the texts
    to read, and `attention_mask` (B, T) is True at real tokens, False at padding. Their sums go into sums[:, w].

    A BERT gives vectors, model(ids, attention_mask=…), of which model.mlm_logits(vectors, at) makes scores; a GPT gives
    scores itself, model(ids, at=…), each about the token that comes next. `at`, boolean (B, T), marks where they are
    wanted; they come in reading order, (number of True, V).
    """
    is_bert, device = _is_bert(model), model.token_embedding.weight.device
    passes: dict[tuple[int, ...], list[int]] = defaultdict(list)  # what is read in the gap → the words' numbers
    for w, ids in enumerate(words):
        passes[(tokenizer.mask_id,) * len(ids) if is_bert else tuple(ids[:-1])].append(w)
    sums = torch.empty(len(gaps), len(words), device=device)
    for filler, group in passes.items():
        n = len(words[group[0]])
        ids, attention_mask = pad_right(
            [[*before, *filler, *after] for before, after in gaps], tokenizer.pad_id
        )  # (B, T)
        # ⟨answer⟩
        # A BERT tells a token at its own [MASK], a GPT one place before it.
        first = torch.tensor([len(before) for before, _ in gaps])[:, None] - int(not is_bert)  # (B, 1)
        at = (torch.arange(ids.size(1)) >= first) & (torch.arange(ids.size(1)) < first + n)  # (B, T)
        ids, attention_mask, at = (t.to(device) for t in (ids, attention_mask, at))
        logits = model.mlm_logits(model(ids, attention_mask=attention_mask), at) if is_bert else model(ids, at=at)
        log_probs = logits.log_softmax(dim=-1).view(len(gaps), n, -1)  # (B, n, V)
        for w in group:
            sums[:, w] = log_probs[:, range(n), words[w]].sum(dim=1)
        # ⟨/answer⟩
    return sums


def _field(example: Example, name: str) -> str:
    if not isinstance(text := example.get(name), str):
        raise UserError(f"The field {name!r} has to be a text, not {text!r}; the example has {', '.join(example)}.")
    return text


def _is_bert(model: nn.Module) -> bool:
    if not isinstance(model, Bert | GPT):
        raise UserError(f"Prompts are put to a Bert or a GPT, which guess words, not to a {type(model).__name__}.")
    return isinstance(model, Bert)
