"""How good is what a model says: of classes, of probabilities, of texts.

Accuracy, F1, distinct-n and perplexity are a few lines each and stand here to be read. BLEU, chrF and ROUGE hang on
details of tokenisation, so that only the implementation that everyone uses gives numbers that can be compared:
sacrebleu and rouge-score. All refuse it where there is nothing to measure, or predictions and truths are not in pairs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Hashable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from minitransformer.checks import check_settings, integer, real
from minitransformer.errors import UserError

# --------------------------------------------------------------------------------------------- classes


def accuracy(predictions: Sequence[Hashable], truths: Sequence[Hashable]) -> float:
    """The fraction of predictions that are right, 0 … 1."""
    _check_pairs(predictions, truths, "truths")
    return sum(p == t for p, t in zip(predictions, truths, strict=True)) / len(truths)


def standard_error(fraction: float, n: int) -> float:
    """How far a fraction of n tries is from the true one: √(p (1 - p) / n); two of it are a 95 % interval, about."""
    check_settings({"fraction": fraction, "n": n}, {"fraction": real(least=0, most=1), "n": integer(1)})
    return (fraction * (1 - fraction) / n) ** 0.5


def confusion_matrix(
    predictions: Sequence[Hashable], truths: Sequence[Hashable], classes: Sequence[Hashable]
) -> np.ndarray:
    """How often each class was taken for each: entry (i, j) counts truths i that were predicted as j.

    `classes` are in the order of rows and columns; one that is not among them is refused.
    """
    _check_pairs(predictions, truths, "truths")
    place = {name: i for i, name in enumerate(classes)}
    if len(place) < len(classes):
        raise UserError(f"A class is named twice: {list(classes)}.")
    counts = np.zeros((len(place), len(place)), dtype=int)
    for i, (p, t) in enumerate(zip(predictions, truths, strict=True)):
        for name in (p, t):
            if name not in place:
                raise UserError(f"Example {i} has the class {name!r}, which is not among {list(classes)}.")
        counts[place[t], place[p]] += 1
    return counts


def f1(predictions: Sequence[Hashable], truths: Sequence[Hashable], positive: Hashable) -> float:
    """F1 of one class against the rest: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

    TP are the examples that were called positive and are, FP those that were called so and are not, FN those that are
    and were not called so. 0 where the class is neither predicted nor true. Raises `UserError` where there is nothing
    to measure, or what was predicted and what is true are not in pairs.
    """
    _check_pairs(predictions, truths, "truths")
    pairs = list(zip(predictions, truths, strict=True))
    both = sum(p == t == positive for p, t in pairs)  # TP
    either = sum([p, t].count(positive) for p, t in pairs)  # 2 TP + FP + FN
    return 2 * both / either if either else 0.0


def macro_f1(predictions: Sequence[Hashable], truths: Sequence[Hashable]) -> float:
    """The mean of the F1 of every class that is predicted or true: a rare class weighs as much as a common one."""
    _check_pairs(predictions, truths, "truths")
    classes = {*predictions, *truths}
    return sum(f1(predictions, truths, name) for name in classes) / len(classes)


# ----------------------------------------------------------------------------------------------- texts


def perplexity(loss: float) -> float:
    """Return exp(loss): among how many equally likely tokens the model is, on average, in doubt.

    Where that is more than a float can hold (above 1.8e308, from a loss of 709.8 on), it is infinite: `math.inf`.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]], chinese: bool = False) -> float:
    """BLEU of all texts together, 0 … 100: n-grams of words (n ≤ 4) that a reference has too, by sacrebleu.

    Each text has one or more `references`, the right answers. `chinese` cuts into characters (tokenize="zh"), since
    Chinese does not part its words.
    """
    metric = _library("sacrebleu").BLEU(tokenize="zh" if chinese else "13a")
    return metric.corpus_score(list(texts), _streams(texts, references)).score


def chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF of all texts together, 0 … 100: n-grams of characters (n ≤ 6), by sacrebleu. Arguments as in `bleu`.

    It needs no words, and so treats Chinese like English and half-right word forms as half right.
    """
    return _library("sacrebleu").CHRF().corpus_score(list(texts), _streams(texts, references)).score


def rouge(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean F1 of shared words, word pairs, and the longest common subsequence, 0 … 100 each, by rouge-score.

    The keys are "rouge1", "rouge2" and "rougeL". Of several references the best match counts. rouge-score reads the
    letters a–z and digits alone: a reference without an English word is refused.
    """
    _check_references(texts, references)
    names = ["rouge1", "rouge2", "rougeL"]
    tokenizer = _library("rouge_score.tokenizers").DefaultTokenizer(use_stemmer=True)
    scorer = _library("rouge_score.rouge_scorer").RougeScorer(names, tokenizer=tokenizer)
    total = dict.fromkeys(names, 0.0)
    for i, (text, right) in enumerate(zip(texts, references, strict=True)):
        for reference in right:
            if not tokenizer.tokenize(reference):
                raise UserError(f"Reference {i} has no English word: {reference!r}. For Chinese take BLEU or chrF.")
        for name, score in scorer.score_multi(right, text).items():
            total[name] += 100 * score.fmeasure / len(texts)
    return total


def distinct_n(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """How varied texts are: different n-grams over all n-grams, 0 … 1. A model that repeats itself gets little.

    Each text is a sequence of words or token ids.
    """
    check_settings({"n": n}, {"n": integer(1)})
    if isinstance(texts, str) or (odd := [text for text in texts if isinstance(text, str) or hasattr(text, "tolist")]):
        one = texts if isinstance(texts, str) else odd[0]
        raise UserError(f"Each text is a list of words or token ids; this is a {type(one).__name__}, {one!r:.40}.")
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    if not grams:
        raise UserError(f"There is nothing to measure: no text has {n} tokens.")
    return len(set(grams)) / len(grams)


def _library(module: str) -> Any:
    """A module of sacrebleu or rouge-score, which whoever wants none of these measures need not have."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise UserError(
            f"This measure is computed by the package {error.name.replace('_', '-')}, which is not installed. Install "
            "it, or this package with its measures: pip install 'minitransformer[metrics]'."
        ) from None


def _check_pairs(predictions: Sequence, truths: Sequence, name: str) -> None:
    for one in (predictions, truths):
        if isinstance(one, str) or not (isinstance(one, Sequence) or hasattr(one, "tolist")):
            raise UserError(f"Predictions and {name} are lists, both in one order; this is a {type(one).__name__}.")
    if not len(predictions) and not len(truths):
        raise UserError("There is nothing to measure: neither predictions nor truths were given.")
    if len(predictions) != len(truths):
        raise UserError(f"{len(predictions)} predictions and {len(truths)} {name}: they have to come in pairs.")
    if odd := [one for one in (predictions, truths, *predictions, *truths) if hasattr(one, "tolist")]:  # another ==
        raise UserError(f"A {type(odd[0]).__name__} is no list of Python's own values: .tolist() makes one of it.")


def _check_references(texts: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError("What is compared with references is a list of texts, each of them a string.")
    _check_pairs(texts, references, "lists of references")
    for i, right in enumerate(references):
        if isinstance(right, str) or not all(isinstance(one, str) for one in right):
            raise UserError(f"The references of text {i} are {right!r:.40}; give a list of strings, even of one.")
        if not right:
            raise UserError(f"Text {i} has no reference to be compared with.")


def _streams(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """As sacrebleu wants them: the first reference of every text, then the second, …; None where there is none."""
    _check_references(texts, references)
    return [list(stream) for stream in zip_longest(*references)]
