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
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, TypeAlias

import torch
from torch import Tensor

from minitransformer.course.answers import Answers, is_bert
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.layers import in_eval_mode
from minitransformer.text.batches import pad_right
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.tuning.virtual import virtual_ids

Example: TypeAlias = Mapping[str, Any]  # its fields by name
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
            spec = spec or ""
            if name == "virtual" and re.fullmatch("[1-9][0-9]*", spec) and not conversion:
                self.n_virtual += int(spec)
            elif name is not None and (spec or conversion or name == "virtual" or not name.isidentifier()):
                raise UserError(f"{text!r} has an unknown slot {{{name}…}}; write {{mask}}, {{virtual:3}}, {{field}}.")
            if name == "mask" and not (words.endswith(" ") or words_begin and not words):
                raise UserError(f"The template {text!r} needs a space before {{mask}}: it is part of the answer.")
            words_begin = name == "virtual"

    def for_bert(self, example: Example, tokenizer: Tokenizer, n_answer: int = 1) -> tuple[list[int], list[int]]:
        """[CLS] text [SEP] with `n_answer` [MASK]s in the gap: the ids, and the positions of the [MASK]s.

        Positions count from 0, which is [CLS]. The first word has a space before it, as every other word has.
        """
        before, after = self._encode(example, tokenizer, " ")
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
                new = n + int(spec or 0)
                sides[-1] += virtual_ids(new)[n:]
                n = new
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
    reads_gap, words = is_bert(model), [ids for own in answers.values() for ids in own.values()]
    if reads_gap:
        gaps = [(ids[:at], ids[at + 1 :]) for ids, (at,) in (template.for_bert(e, tokenizer) for e in examples)]
    else:
        gaps = [(template.for_gpt(example, tokenizer), []) for example in examples]
    for i, gap in enumerate(gaps):  # the last token of its answer a GPT need not read
        needed = sum(map(len, gap)) + max(map(len, words)) - int(not reads_gap)
        if needed > model.config.n_positions:
            raise UserError(
                f"Example {i} needs {needed} positions in this template; the model has n_positions = "
                f"{model.config.n_positions}. Shorten the text or the template, or show fewer solved examples."
            )
    with in_eval_mode(model):  # dropout has no place in scoring
        parts = [gaps[start : start + batch_size] for start in range(0, len(gaps), batch_size)]
        log_probs = torch.cat([_word_log_probs(model, tokenizer, part, words) for part in parts])  # (examples, words)
    neutral = None
    if calibrate is not None:
        neutral = label_log_probs(model, tokenizer, template, [calibrate], answers, normalise=normalise)
    return label_scores(log_probs, answers, normalise, neutral)


def label_scores(log_probs: Tensor, answers: Answers, normalise: bool = True, neutral: Tensor | None = None) -> Tensor:
    """From words to labels: the log of the mean probability of each label's words.

    Args:
        log_probs: Σ log p over the tokens of each word, (examples, words), the words in the order of `answers`.
        answers: label → word → its token ids.
        normalise: take the mean over a word's tokens in the place of the sum.
        neutral: the scores (1, labels) of an example without content, which are subtracted (Zhao et al. 2021).

    Returns:
        (examples, labels), a new tensor.
    """
    lengths = [len(ids) if normalise else 1 for own in answers.values() for ids in own.values()]
    each = (log_probs / log_probs.new_tensor(lengths)).split([len(own) for own in answers.values()], dim=1)
    scores = torch.stack([own.logsumexp(dim=1) - math.log(own.size(1)) for own in each], dim=1)  # (examples, labels)
    return scores if neutral is None else scores - neutral


def predict(scores: Tensor, answers: Answers) -> list[str]:
    """The best label of each row of scores (examples, labels), for `metrics.accuracy`."""
    return [list(answers)[i] for i in scores.argmax(dim=1).tolist()]


def _word_log_probs(model: Bert | GPT, tokenizer: Tokenizer, gaps: list[Gap], words: list[list[int]]) -> Tensor:
    """Σ log p of each word's tokens in each gap, (B, words). Words for which the model reads the same share a pass."""
    device = model.token_embedding.weight.device
    passes: dict[tuple[int, ...], list[int]] = defaultdict(list)  # what is read in the gap → the words' numbers
    for w, ids in enumerate(words):
        passes[(tokenizer.mask_id,) * len(ids) if is_bert(model) else tuple(ids[:-1])].append(w)
    sums = torch.empty(len(gaps), len(words), device=device)
    n_before = torch.tensor([len(before) for before, _ in gaps], device=device)  # (B)
    for filler, group in passes.items():
        rows = [[*before, *filler, *after] for before, after in gaps]
        texts, attention_mask = (one.to(device) for one in pad_right(rows, tokenizer.pad_id))  # (B, T)
        of_group = [words[w] for w in group]
        sums[:, group] = log_probs_in_gap(model, texts, attention_mask, n_before, of_group).to(sums.dtype)
    return sums


def log_probs_in_gap(
    model: Bert | GPT, ids: Tensor, attention_mask: Tensor, n_before: Tensor, words: list[list[int]]
) -> Tensor:
    """Σ log p of the tokens of some words of one length in the gaps of a batch (001 §3.1.1, step 3).

    A BERT says a token at its own [MASK], a GPT one place before it.

    Args:
        model: a BERT, or a GPT.
        ids: what it reads, (B, T): of a BERT with a [MASK] for each token of a word, of a GPT with all but the last.
        attention_mask: boolean (B, T), True at real tokens.
        n_before: how many tokens stand before each gap, (B).
        words: the token ids of each word, all of n tokens.

    Returns:
        (B, words)
    """
    n = len(words[0])
    first = n_before[:, None] - int(not isinstance(model, Bert))  # (B, 1)
    place = torch.arange(ids.size(1), device=ids.device)  # (T)
    at = (place >= first) & (place < first + n)  # (B, T)
    if isinstance(model, Bert):
        logits = model.mlm_logits(model(ids, attention_mask=attention_mask), at)  # (B·n, V)
    else:
        logits = model(ids, at=at)  # (B·n, V)  a GPT does not see the padding behind its text
    log_probs = logits.float().log_softmax(dim=-1).view(len(ids), n, -1)  # (B, n, V)
    return torch.stack([log_probs[:, range(n), word].sum(dim=1) for word in words], dim=1)  # (B, words)


def _field(example: Example, name: str) -> str:
    if not isinstance(text := example.get(name), str):
        raise UserError(f"The field {name!r} has to be a text, not {text!r}; the example has {', '.join(example)}.")
    return text
