"""Beam search against an exhaustive search and a plain loop; parity with transformers is in test_parity_models."""

import pytest
import torch
from torch import nn

from minitransformer.errors import UserError
from minitransformer.generation import sampling
from minitransformer.generation.beam import _Search, beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.attention import Prefix
from minitransformer.models.gpt import GPTConfig
from tests.helpers import (
    assert_it_writes_where_the_model_is,
    devices_of_the_first_call,
    random_ids,
    random_prefix,
    randomise,
    tiny_gpt,
)

END = 3


def lively(seed=0, vocab_size=40):
    """A GPT that writes varied texts: random weights repeat one token, and then order decides nothing."""
    model = tiny_gpt(seed, GPTConfig(vocab_size, n_positions=24, n_layer=2, n_head=2, d_model=8, d_ff=20))
    randomise(model, seed, std=0.7)
    with torch.no_grad():
        model.position_embedding.weight *= 4
    return model


PROMPTS = [random_ids(n, seed=n).tolist() for n in (2, 6, 4)]


@torch.no_grad()
def log_prob(model, prompt, tokens):
    """log p(tokens | prompt), by one call of the model."""
    log_probs = model(torch.tensor([prompt + tokens])).log_softmax(-1)[0, len(prompt) - 1 : -1]
    return sum(log_probs[t, token].item() for t, token in enumerate(tokens))


def plain_search(model, prompt, length, n_beam):
    """The k best beginnings at each step, by a loop over every token that could follow; no end token."""
    beginnings = [([], 0.0)]
    for _ in range(length):
        longer = []
        for tokens, score in beginnings:
            log_probs = model(torch.tensor([prompt + tokens]))[0, -1].log_softmax(-1).tolist()
            longer += [([*tokens, token], score + value) for token, value in enumerate(log_probs)]
        beginnings = sorted(longer, key=lambda pair: -pair[1])[:n_beam]
    return beginnings


@pytest.mark.parametrize("n_beam", [1, 2, 6])
@torch.no_grad()
def test_without_an_end_it_is_the_plain_loop(n_beam):
    model = lively()
    found = beam_search(model, PROMPTS, 6, n_beam=n_beam, length_penalty=0.0)
    for prompt, row in zip(PROMPTS, found, strict=True):
        expected = plain_search(model, prompt, 6, n_beam)
        assert [h.tokens for h in row] == [tokens for tokens, _ in expected], f"prompt {prompt}"
        assert [h.score for h in row] == pytest.approx([score for _, score in expected], rel=1e-4)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_scores_are_what_they_are_said_to_be(length_penalty):
    model, n_ended = lively(), 0
    end = generate(model, PROMPTS, 4)[0][-1]  # a token that this model likes to say
    found = beam_search(model, PROMPTS, 12, n_beam=4, length_penalty=length_penalty, stop_id=end)
    for prompt, row in zip(PROMPTS, found, strict=True):
        assert len(row) == 4 and [h.score for h in row] == sorted((h.score for h in row), reverse=True)
        assert len({tuple(h.tokens) for h in row}) == 4, "one text twice"
        for tokens, score in row:
            assert end not in tokens
            n_ended += len(tokens) < 12
            whole = tokens if len(tokens) == 12 else [*tokens, end]
            expected = log_prob(model, prompt, whole) / len(whole) ** length_penalty
            assert score == pytest.approx(expected, rel=1e-4), "Σ log p / |y|^α, the end token counted in both"
    assert n_ended, "no hypothesis ended: the end token was not tested"


def test_one_beam_is_greedy():
    model = lively()
    found = beam_search(model, PROMPTS, 12, n_beam=1)
    assert [row[0].tokens for row in found] == generate(model, PROMPTS, 12)


@pytest.mark.parametrize("n_beam", [1, 2, 5])
def test_cached_is_uncached(n_beam):
    for seed in range(3):
        model, prefix = lively(seed), random_prefix(2, 2, 4, batch=3)
        for inputs in ({}, {"prefix": prefix}):
            cached = beam_search(model, PROMPTS, 12, n_beam=n_beam, stop_id=END, **inputs)
            uncached = beam_search(model, PROMPTS, 12, n_beam=n_beam, stop_id=END, use_cache=False, **inputs)
            for a, b in zip(cached, uncached, strict=True):
                assert [h.tokens for h in a] == [h.tokens for h in b]


def test_a_prompt_gets_the_same_alone_and_in_a_batch():
    model, prefix = lively(), random_prefix(2, 2, 4, batch=3)
    together = beam_search(model, PROMPTS, 12, n_beam=3, stop_id=END, prefix=prefix)
    for row, prompt in enumerate(PROMPTS):
        own = [Prefix(k[row : row + 1], v[row : row + 1]) for k, v in prefix]
        alone = beam_search(model, [prompt], 12, n_beam=3, stop_id=END, prefix=own)[0]
        assert [h.tokens for h in together[row]] == [h.tokens for h in alone], f"prompt {row} hangs on its neighbours"


@pytest.mark.parametrize("use_cache", [True, False])
def test_one_prefix_serves_all_prompts(use_cache):
    model, shared = lively(), random_prefix(2, 2, 4)
    each = tuple(Prefix(k.expand(3, -1, -1, -1), v.expand(3, -1, -1, -1)) for k, v in shared)
    by_one, by_three = (
        beam_search(model, PROMPTS, 6, n_beam=2, stop_id=END, use_cache=use_cache, prefix=prefix)
        for prefix in (shared, each)
    )
    for a, b in zip(by_one, by_three, strict=True):
        assert [h.tokens for h in a] == [h.tokens for h in b], "the same prefix, once and for each row, differs"


def test_unasked_there_are_four_hypotheses():
    assert [len(row) for row in beam_search(lively(), PROMPTS, 3)] == [4, 4, 4]


@pytest.mark.parametrize("settings", [{}, {"use_cache": False}])
def test_unless_asked_not_to_it_reads_each_token_once(settings):
    model, widths = tiny_gpt(), []
    with torch.no_grad():
        model.register_forward_pre_hook(lambda module, args: widths.append(args[0].size(1)))
        beam_search(model, [[5, 6, 7]], 4, **settings)
    assert widths == ([3, 4, 5, 6] if settings else [3, 1, 1, 1]), "with a cache a later call takes the new token"


def test_one_new_token_and_the_smallest_vocabulary_are_enough():
    model, prompt = lively(vocab_size=4), [1, 2]
    (found,) = beam_search(model, [prompt], 1, n_beam=2)
    likeliest = sorted(((log_prob(model, prompt, [token]), [token]) for token in range(4)), reverse=True)[:2]
    assert [hypothesis.tokens for hypothesis in found] == [token for _, token in likeliest]


def test_once_done_a_search_stays_done():
    search = _Search(1, length_penalty=1.0)
    search.step(torch.tensor([-1.0, -3.0]), [0, 0], [END, 5], [END], at_end=False)
    for _ in range(4):  # sure of every further token, a text of this sum scores better the longer it becomes
        assert search.done, "what runs was given up; a long text may not bring the search to life again"
        search.step(torch.tensor([-3.0, -9.0]), [0, 0], [5, 6], [END], at_end=False)
    assert search.done and [hypothesis.tokens for hypothesis in search.finished] == [[]]


def test_a_search_is_done_when_nothing_that_runs_is_better():
    for runs, done in ((-1.5, True), (-1.0, True), (-0.5, False)):  # and has ended: -1.0
        search = _Search(1, length_penalty=0.0)
        going = search.step(torch.tensor([-1.0, runs]), [0, 0], [END, 5], [END], at_end=False)
        assert going == [1] and [h.score for h in search.finished] == [-1.0]
        assert search.done == done, f"finished with -1.0, and {runs} is what still runs: an equal one is no better"


def test_a_beam_leaves_the_street_that_greedy_enters():
    # From 0, token 1 is likelier than 2 (0.6 to 0.4), but then all is open, where after 2 comes 4 for certain.
    class Streets(nn.Module):
        table = torch.full((6, 6), -20.0)
        table[0, 1], table[0, 2] = 0.6, 0.4
        table[0, 1:3] = table[0, 1:3].log()
        table[1] = 0.0
        table[2, 4] = 20.0

        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def forward(self, ids, attention_mask=None, cache=None, at=None):
            return self.table[ids][at]

    greedy = generate(Streets(), [[0]], 2, use_cache=False)[0]
    ((best, *_),) = beam_search(Streets(), [[0]], 2, n_beam=2, use_cache=False)
    assert greedy[0] == 1 and best.tokens == [2, 4]
    assert best.score == pytest.approx(torch.tensor(0.4).log().item() / 2, abs=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
def test_it_computes_where_the_model_is(use_cache, monkeypatch):
    model = lively()
    settings = {"n_beam": 2, "stop_id": END, "use_cache": use_cache}
    assert_it_writes_where_the_model_is(
        lambda: beam_search(model, PROMPTS, 6, **settings), sampling, PROMPTS, monkeypatch
    )
    model.to("meta")
    assert devices_of_the_first_call(model, lambda: beam_search(model, PROMPTS, 6, **settings)) == {"meta"}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_training_mode_is_left_as_it_was(length_penalty):
    model = lively().train()
    beam_search(model, PROMPTS, 2, n_beam=2, length_penalty=length_penalty)
    assert model.training


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_beam": 0}, "n_beam = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"n_beam": 21}, "a vocabulary of 40 has fewer"),
        ({"prompts": []}, "no prompt"),
        ({"prompts": [[4], []]}, "Prompt 1 is empty"),
        ({"max_new_tokens": 30}, "24"),
    ],
)
def test_bad_input_says_why(settings, says):
    with pytest.raises(UserError, match=says):
        beam_search(lively(), **{"prompts": PROMPTS, "max_new_tokens": 3, **settings})


def test_several_stop_tokens_end_texts_as_in_transformers(monkeypatch):
    """With two ends, 3k candidates are looked at: all of the likeliest 2k may end, and k still have to go on."""
    model = lively()
    ends = sorted({row[0] for row in generate(model, PROMPTS, 1)} | {generate(model, PROMPTS[:1], 4)[0][-1]})
    found = beam_search(model, PROMPTS, 8, n_beam=3, stop_id=ends)
    for row in found:
        assert len(row) == 3 and all(not set(ends) & set(hypothesis.tokens) for hypothesis in row)
    alone = [beam_search(model, [prompt], 8, n_beam=3, stop_id=tuple(ends))[0] for prompt in PROMPTS]
    assert [[h.tokens for h in row] for row in alone] == [[h.tokens for h in row] for row in found]


def test_every_likely_text_may_end_at_once():
    """k beams with two ends each: 2k candidates end together."""

    class Ending(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, ids, attention_mask=None, at=None, cache=None):
            return torch.tensor([5.0, 5.0, 1.0, 0.9, 0.8, 0.7, 0.0, 0.0]).expand(int(at.sum()), 8)

    (found,) = beam_search(Ending(), [[7]], 3, n_beam=2, stop_id=[0, 1], use_cache=False)
    assert [h.tokens for h in found] == [[], []], "both ends come first, and both are the likeliest texts"


@pytest.mark.parametrize("use_cache", [True, False])
def test_vectors_for_all_rows_are_not_taken_for_one_a_row(use_cache):
    """Two virtual tokens and two prompts: their vectors were doubled as if each prompt had its own."""
    model, vectors = lively(), 3 * torch.randn(2, 8)
    prompts = [[-1, 3, -2, 4], [5, -1, -2, 6]]
    together = beam_search(model, prompts, 4, n_beam=3, vectors=vectors, use_cache=use_cache)
    apart = [beam_search(model, [one], 4, n_beam=3, vectors=vectors[None])[0] for one in prompts]
    assert [[h.tokens for h in found] for found in together] == [[h.tokens for h in found] for found in apart]
