"""The metrics against plain loops, hand-counted cases and the libraries called as their manuals call them."""

import math
import random

import pytest
import sacrebleu

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
    assert distinct_n(["aaaa"], 1) == 1 / 4


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
        (lambda: bleu(["a"], ["a"]), "references of text 0 are a string"),
        (lambda: rouge(["a"], [["米拉"]]), "Reference 0 has no English word"),
    ],
)
def test_bad_input_says_why(make, says):
    with pytest.raises(UserError, match=says):
        make()
