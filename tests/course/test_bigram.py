"""The n-gram models against plain loops, and the measures against torch's."""

import math
import sys
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from minitransformer.course.bigram import BigramTable, NGram, bits_per_byte, cross_entropy
from minitransformer.errors import UserError
from minitransformer.metrics import perplexity

V = 7


@pytest.fixture
def ids() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.multinomial(torch.tensor([8.0, 4, 2, 1, 1, 0.5, 0]), 300, replacement=True, generator=generator)


def plain_probability(train: list[int], n: int, alpha: float, gram: tuple[int, ...]) -> float:
    """(N(context w) + α) / (N(context) + αV), by counting with a loop."""
    grams = Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1))
    context = sum(grams[gram[:-1] + (w,)] for w in range(V))
    return (grams[gram] + alpha) / (context + alpha * V) if context + alpha else 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_ngram_equals_the_plain_loop(ids: torch.Tensor, n: int, alpha: float) -> None:
    model = NGram(ids, V, n, alpha)
    text = [0, 0, 1, 6, 0, 5, 2, 2, 2, 0, 1, 0]  # token 6 never occurs in training
    expected = [plain_probability(ids.tolist(), n, alpha, tuple(text[i : i + n])) for i in range(len(text) - n + 1)]
    torch.testing.assert_close(
        model.log_probs(torch.tensor(text)).exp(),
        torch.tensor(expected, dtype=torch.float64),
        msg=lambda m: f"P of an n-gram is not (N(context w) + α)/(N(context) + αV) for n={n}, α={alpha}.\n{m}",
    )


@pytest.mark.parametrize(("vocab_size", "n"), [(2, 63), (2**21, 3), (5000, 2)])
def test_the_largest_runs_are_told_apart(vocab_size: int, n: int) -> None:
    # A run is counted as one whole number, of which a float would keep 24 or 53 bits, and an int64 keeps 63.
    ids = vocab_size - 1 - torch.randint(2, (300,), generator=torch.Generator().manual_seed(0))
    ids[:n] = vocab_size - 1  # the largest run that there can be
    text, model = tuple(ids.tolist()), NGram(ids, vocab_size, n)
    runs = [text[i : i + n] for i in range(len(text) - n + 1)]
    counts, contexts = Counter(runs), Counter(run[:-1] for run in runs)
    assert model.n_grams == len(counts), f"{len(counts)} different runs of {n} were counted as {model.n_grams}"
    expected = torch.tensor([counts[run] / contexts[run[:-1]] for run in runs], dtype=torch.float64)
    torch.testing.assert_close(model.log_probs(ids).exp(), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_next_probs_is_the_distribution_that_log_probs_reads(ids: torch.Tensor, n: int) -> None:
    model = NGram(ids, V, n, alpha=0.1)
    context = torch.tensor([2, 0, 1, 0])
    probs = model.next_probs(context)
    assert probs.sum().item() == pytest.approx(1), "the probabilities of all next tokens must sum to 1"
    for w in range(V):
        last = model.log_probs(torch.cat([context, torch.tensor([w])]))[-1]
        assert probs[w].item() == pytest.approx(last.exp().item())


def test_all_sentences_together_have_probability_one(ids: torch.Tensor) -> None:
    # With an end token the chain rule gives a distribution over sentences of any length: the probability of
    # having ended within k tokens goes to 1. Token 0 starts and ends a sentence.
    model = NGram(ids, V, 2, alpha=0.1)
    rows = torch.stack([model.next_probs(torch.tensor([a])) for a in range(V)])
    going_on, ended = rows[0].clone(), 0.0
    for _ in range(200):
        ended += going_on[0].item()
        going_on[0] = 0
        going_on = going_on @ rows
    assert ended == pytest.approx(1)


def test_unseen_is_impossible_without_smoothing_and_finite_with_it(ids: torch.Tensor) -> None:
    model = NGram(ids, V, 2)
    unseen = torch.tensor([0, 6, 0])
    assert model.loss(unseen) == math.inf
    assert not model.log_probs(unseen).isnan().any(), "0/0 must count as probability 0, not as nan"
    model.alpha = 0.01
    assert 0 < model.loss(unseen) < math.inf


def test_no_bigram_fits_its_own_text_better_than_the_counts(ids: torch.Tensor) -> None:
    # The relative frequencies are the maximum-likelihood solution: any other table has a larger loss.
    counted = NGram(ids, V, 2).loss(ids)
    generator = torch.Generator().manual_seed(1)
    optimum = torch.stack([NGram(ids, V, 2, 1e-9).next_probs(torch.tensor([a])) for a in range(V)]).log().float()
    for _ in range(20):
        other = optimum + 0.1 * torch.randn(V, V, generator=generator)
        assert F.cross_entropy(other[ids[:-1]], ids[1:]).item() > counted


def test_gradient_descent_finds_the_counts(ids: torch.Tensor) -> None:
    model = BigramTable(V)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    assert F.cross_entropy(model(ids[:-1]), ids[1:]).item() == pytest.approx(math.log(V)), "zeros must be uniform"
    for _ in range(500):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids[:-1]), ids[1:])
        loss.backward()
        optimizer.step()
    counted = NGram(ids, V, 2)
    assert loss.item() == pytest.approx(counted.loss(ids), abs=1e-2)
    for a in (0, 1):  # tokens that occur often
        torch.testing.assert_close(
            model.table[a].softmax(-1).double(), counted.next_probs(torch.tensor([a])), atol=0.01, rtol=0
        )


def test_sampling_follows_the_distribution(ids: torch.Tensor) -> None:
    model = NGram(ids, V, 2)
    draws = torch.stack([model.sample(torch.tensor([1]), 1, seed=seed)[-1] for seed in range(3000)])
    frequency = torch.bincount(draws, minlength=V) / len(draws)
    torch.testing.assert_close(frequency.double(), model.next_probs(torch.tensor([1])), atol=0.04, rtol=0)


def test_sampling_is_repeatable_and_stops(ids: torch.Tensor) -> None:
    model = NGram(ids, V, 3)
    start = torch.tensor([0, 0])
    assert model.sample(start, 30, seed=5).tolist() == model.sample(start, 30, seed=5).tolist()
    assert model.sample(start, 30).tolist() == model.sample(start, 30, seed=0).tolist(), "unasked, the seed is 0"
    assert len(model.sample(start, 30, seed=5)) == 32
    stopped = model.sample(start, 1000, stop=3, seed=5).tolist()
    assert stopped[-1] == 3 and stopped.count(3) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: NGram(torch.tensor([0, 1, 7]), 7),
            "ids run from 0 to 7, but with 7 tokens they must be 0 to 6",
        ),
        (lambda: NGram(torch.tensor([-1, 1]), 7), "ids run from -1 to 1"),
        (lambda: NGram(torch.tensor([0]), 7, n=2), "has 1 tokens: too few"),
        (lambda: NGram(torch.tensor([0]), 7, n=0), "n is 0: a run has at least one token"),
        (lambda: NGram(torch.tensor([0]), 1, n=0), "n is 0: a run has at least one token"),
        (lambda: NGram(torch.arange(9), 1024, n=7), "n is 7, but runs of 1 to 6"),
        (lambda: NGram(torch.zeros(64).long(), 2, n=64), "n is 64, but runs of 1 to 63"),
        (lambda: NGram(torch.arange(7), 7, n=3).next_probs(torch.tensor([1])), "needs 2 tokens .* not 1"),
        (lambda: NGram(torch.arange(6), 7).sample(torch.tensor([6]), 1), "context that was never seen"),
    ],
)
def test_bad_input_says_why(make: callable, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()


def test_cross_entropy_equals_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0, 500.0):  # at 500 a softmax without care overflows
        logits = scale * torch.randn(11, V, generator=generator)
        targets = torch.randint(V, (11,), generator=generator)
        torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits, targets))


def test_perplexity_of_a_uniform_model_is_its_number_of_choices() -> None:
    assert perplexity(math.log(1024)) == pytest.approx(1024)
    assert perplexity(0.0) == 1
    assert perplexity(math.inf) == math.inf


def test_perplexity_is_infinite_where_a_float_ends() -> None:
    largest = math.log(sys.float_info.max)  # 709.78
    assert perplexity(largest - 0.01) == pytest.approx(sys.float_info.max * math.exp(-0.01))
    assert perplexity(largest + 0.01) == math.inf


def test_bits_per_byte_of_uniform_bytes_is_eight() -> None:
    # 256 equally likely tokens of one byte each carry 8 bits; two bytes a token halve that.
    assert bits_per_byte(math.log(256), n_tokens=10, n_bytes=10) == pytest.approx(8)
    assert bits_per_byte(math.log(256), n_tokens=10, n_bytes=20) == pytest.approx(4)
