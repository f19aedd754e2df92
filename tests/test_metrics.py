"""The metrics against plain loops, hand-counted cases and the libraries called as their manuals call them."""

import math
import random
import statistics

import numpy as np
import pytest
import sacrebleu
import torch

from minitransformer.errors import UserError
from minitransformer.metrics import (
    accuracy,
    bleu,
    chrf,
    confusion_matrix,
    distinct_n,
    f1,
    macro_f1,
    perplexity,
    rouge,
    standard_error,
)

PREDICTIONS = ["a", "a", "b", "b", "b", "c"]
TRUTHS = ["a", "b", "b", "b", "c", "a"]


def test_counted_by_hand():
    assert accuracy(PREDICTIONS, TRUTHS) == 3 / 6
    assert confusion_matrix(PREDICTIONS, TRUTHS, "abc").tolist() == [[1, 0, 1], [1, 2, 0], [0, 1, 0]]
    assert f1(PREDICTIONS, TRUTHS, "a") == pytest.approx(1 / 2)  # precision 1/2, recall 1/2
    assert f1(PREDICTIONS, TRUTHS, "b") == pytest.approx(2 / 3)  # precision 2/3, recall 2/3
    assert f1(PREDICTIONS, TRUTHS, "c") == 0
    assert macro_f1(PREDICTIONS, TRUTHS) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert f1(PREDICTIONS, TRUTHS, "d") == 0
    # z is never right, yet predicted: it counts as a class with F1 0
    assert macro_f1(["a", "z"], ["a", "a"]) == pytest.approx((2 / 3 + 0) / 2)


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    draw = random.Random(0)
    for _ in range(50):
        predictions, truths = draw.choices("xyz", k=30), draw.choices("xyz", k=30)
        matrix = confusion_matrix(predictions, truths, "xyz")
        assert accuracy(predictions, truths) == pytest.approx(matrix.trace() / 30)
        for i, name in enumerate("xyz"):
            precision, recall = matrix[i, i] / matrix[:, i].sum(), matrix[i, i] / matrix[i].sum()
            expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
            assert f1(predictions, truths, name) == pytest.approx(expected)


def test_perplexity_is_the_inverse_geometric_mean_of_the_probabilities():
    probabilities = [0.5, 0.1, 0.25, 0.9]
    loss = -sum(map(math.log, probabilities)) / 4
    assert perplexity(loss) == pytest.approx(math.prod(probabilities) ** (-1 / 4))


def test_bleu_and_chrf_are_sacrebleu():
    texts = ["the cat sat on the mat today", "it rains in Velkin"]
    first = ["the cat sat on a mat today", "it rains in Velkin now"]
    second = ["a cat sat on the mat", "rain fell there"]
    both = list(zip(first, second, strict=True))
    assert bleu(texts, both) == sacrebleu.corpus_bleu(texts, [first, second]).score
    assert chrf(texts, both) == sacrebleu.corpus_chrf(texts, [first, second]).score
    # a text with fewer references than another must be measured against those that it has
    uneven = [[first[0], second[0]], [first[1]]]
    assert bleu(texts, uneven) == sacrebleu.corpus_bleu(texts, [first, [second[0], first[1]]]).score
    assert bleu(first, [[text] for text in first]) == pytest.approx(100)
    assert chrf(first, [[text] for text in first]) == pytest.approx(100)


def test_chinese_is_cut_into_characters():
    text, reference = ["米拉昨天在河边看书"], ["米拉昨天在湖边看书"]
    assert bleu(text, [reference], chinese=True) == sacrebleu.corpus_bleu(text, [reference], tokenize="zh").score > 10
    assert bleu(text, [reference]) < 1, "without cutting, the sentence is one wrong word"


def test_rouge_counted_by_hand():
    scores = rouge(["the cat sat"], [["the cat lay down", "nothing"]])
    assert scores["rouge1"] == pytest.approx(100 * 2 * 2 / (3 + 4))
    assert scores["rouge2"] == pytest.approx(100 * 2 * 1 / (2 + 3))
    assert scores["rougeL"] == pytest.approx(100 * 2 * 2 / (3 + 4))
    twice = rouge(["the cat sat", "no word of it"], [["the cat lay down"], ["quite other things"]])
    assert twice["rouge1"] == pytest.approx(scores["rouge1"] / 2), "the score is the mean over the texts"


def test_distinct_n():
    assert distinct_n([[1, 2, 1, 2], [1, 2]], 2) == pytest.approx(2 / 4)  # 12 21 12 12
    assert distinct_n([list("aaaa")], 1) == 1 / 4


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: accuracy([], []), "nothing to measure"),
        (lambda: macro_f1([], []), "nothing to measure"),
        (lambda: f1([], [], 1), "nothing to measure"),
        (lambda: confusion_matrix([], [], "ab"), "nothing to measure"),
        (lambda: bleu([], []), "nothing to measure"),
        (lambda: chrf([], []), "nothing to measure"),
        (lambda: rouge([], []), "nothing to measure"),
        (lambda: distinct_n([], 1), "nothing to measure"),
        (lambda: distinct_n([[1, 2]], 3), "no text has 3 tokens"),
        (lambda: distinct_n([[1, 2]], 0), "n = 0"),
        (lambda: accuracy([1], [1, 2]), "1 predictions and 2 truths"),
        (lambda: confusion_matrix(["x"], ["a"], "ab"), "Example 0 has the class 'x'"),
        (lambda: bleu(["a"], [[]]), "Text 0 has no reference"),
        (lambda: bleu(["a"], ["a"]), "references of text 0 are 'a'; give a list of strings"),
        (lambda: chrf(["a"], [[5]]), r"references of text 0 are \[5\]; give a list of strings"),
        (lambda: accuracy("spam", "ham!"), "Predictions and truths are lists, both in one order; this is a str"),
        (lambda: accuracy({"a": 1}, {"a": 2}), "this is a dict"),
        (lambda: macro_f1({1, 2}, {2, 1}), "this is a set"),
        (lambda: f1((x for x in "ab"), list("ab"), "a"), "this is a generator"),
        (lambda: accuracy(["a"], None), "this is a NoneType"),
        (lambda: confusion_matrix(["a"], ["a"], "aba"), "A class is named twice"),
        (lambda: distinct_n(["the cat", "the dog"], 2), "Each text is a list of words or token ids; this is a str"),
        (lambda: distinct_n("the cat", 1), "this is a str, 'the cat'"),
        (lambda: distinct_n(torch.tensor([[1, 1, 1]]), 1), "this is a Tensor"),
        (lambda: distinct_n([np.array([1, 1])], 1), "this is a ndarray"),
        (lambda: rouge(["a"], [["米拉"]]), "Reference 0 has no English word"),
        (lambda: bleu("ab", [["a"], ["b"]]), "a list of texts"),
        (lambda: chrf([None], [["a"]]), "a list of texts"),
    ],
)
def test_bad_input_says_why(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_standard_error_is_how_far_shares_stray():
    """Against the spread of shares that were really drawn."""
    draw = random.Random(0).random
    shares = [sum(draw() < 0.3 for _ in range(50)) / 50 for _ in range(4000)]
    assert abs(standard_error(0.3, 50) - statistics.pstdev(shares)) < 0.003
    for share, n in ((1.2, 5), (0.5, 0)):
        with pytest.raises(UserError, match="(fraction = 1.2|n = 0): it has to be"):
            standard_error(share, n)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda x: list(np.array(x)), lambda x: list(torch.tensor(x))])
def test_arrays_and_tensors_are_refused_as_true_and_true_is_one_there(kind):
    """Their F1 was 1 where 2 of 3 are right, and 2 where each element counts as a class."""
    predictions, truths = [0, 1, 1], [0, 1, 0]
    for measure in (
        accuracy,
        macro_f1,
        lambda a, b: f1(a, b, 1),
        lambda a, b: confusion_matrix(a, b, [0, 1]),
    ):
        for pair in ((kind(predictions), kind(truths)), (predictions, kind(truths)), (kind(predictions), truths)):
            with pytest.raises(UserError, match="tolist"):
                measure(*pair)
    assert f1(predictions, truths, np.int64(1)) == f1(predictions, truths, 1) == pytest.approx(2 / 3)
