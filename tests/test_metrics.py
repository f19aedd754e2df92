"""The metrics against plain loops, hand-counted cases and the libraries called as their manuals call them."""

import math
import random
import statistics

import numpy as np
import pytest
import sacrebleu
import torch

from minitransformer.course.data import DATA
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.tasks import table_scores
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
    slot_accuracy,
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


def test_slots_are_whole_words_and_numbers():
    assert slot_accuracy(["Velo sells tea.", "It is Mira's."], [["Velo", "tea", "rice"], ["Mira"]]) == (3 / 4, 1 / 2)
    # Not inside a longer number or word; but before a full stop, a comma, an apostrophe.
    for text in ("It costs 19 coins.", "It has 1,900 guests.", "9.5 it is", "Velona", "aVelo"):
        assert slot_accuracy([text], [["9 coins", "9", "900", "Velo"]]) == (0, 0), text
    for text in ("9", "Pay 9.", "It was 9, not 10.", '"9"', "9's"):
        assert slot_accuracy([text], [["9"]]) == (1, 1), text
    assert slot_accuracy(["4 out of 5 (Fado)"], [["4 out of 5", "(Fado)"]]) == (1, 1)  # nothing in it is a pattern


def test_every_reference_of_the_tables_has_every_slot():
    rows = read_jsonl(DATA / "tasks" / "table_to_text" / "valid.jsonl", ["source"])
    for row in rows:
        values = [value for field, value in row["table"].items() if field != "kind"]
        for text in row["references"]:
            assert slot_accuracy([text], [values]) == (1, 1), f"A right answer counts as wrong: {values} in {text!r}."


def test_slots_need_values():
    with pytest.raises(UserError, match="values of text 1 are \\[\\]"):
        slot_accuracy(["a", "b"], [["a"], []])
    with pytest.raises(UserError, match="a list with at least one string"):
        slot_accuracy(["a"], ["a"])
    with pytest.raises(UserError, match="come in pairs"):
        slot_accuracy(["a", "b"], [["a"]])


def test_a_right_answer_about_tables_and_a_table_again():
    rows = read_jsonl(DATA / "tasks" / "table_to_text" / "valid.jsonl", ["source", "target"])[:20]
    right = table_scores([row["target"] for row in rows], rows)
    assert right.bleu == pytest.approx(100) and right[1:] == (1, 1, 0)
    again = table_scores([row["source"] for row in rows], rows)  # all values are there, and nothing is told
    assert again.bleu < 20 and again[1:] == (1, 1, 1)
    half = table_scores([row["target"] if i % 2 else "" for i, row in enumerate(rows)], rows)
    assert half.whole == 1 / 2 and half.slots == pytest.approx(
        sum(len(row["table"]) - 1 for row in rows[1::2]) / sum(len(row["table"]) - 1 for row in rows)
    ), "the kind is no value to be told"
    with pytest.raises(UserError, match="19 texts and 20 tables"):
        table_scores([""] * 19, rows)


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
