"""The sampler: what each strategy may choose, cached ≡ uncached, batches ≡ rows alone, stopping."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from minitransformer.course.bases import load_base
from minitransformer.course.bigram import BigramTable
from minitransformer.course.data import default_tokenizer
from minitransformer.course.tasks import prompt_ids
from minitransformer.errors import UserError
from minitransformer.generation import sampling
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import choose, generate, generate_texts, keep_top_k, keep_top_p, left_pad
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier
from minitransformer.tuning import LoRA
from tests.helpers import BERT_CONFIG, assert_it_writes_where_the_model_is, devices_of_the_first_call
from tests.models.test_gpt import CONFIG, random_prefix, tiny

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
STRATEGIES = {
    "greedy": {"temperature": 0.0},
    "sampling": {"temperature": 1.0, "seed": 1},
    "hot": {"temperature": 2.0, "seed": 2},
    "top-k": {"temperature": 1.0, "top_k": 5, "seed": 3},
    "top-p": {"temperature": 1.0, "top_p": 0.7, "seed": 4},
}


def greedy_by_hand(model, prompt, n):
    """One row, no cache, no padding: the longest way to the same answer."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_top_k_against_sorting_by_hand():
    torch.manual_seed(0)
    logits = torch.randn(4, 9)
    for k in (1, 3, 9, 100):
        kept = keep_top_k(logits, k)
        for row in range(4):
            best = sorted(range(9), key=lambda i: -logits[row, i])[:k]
            assert [i for i in range(9) if kept[row, i] > -torch.inf] == sorted(best), f"k = {k}, row {row}"


def test_top_p_against_adding_up_by_hand():
    torch.manual_seed(0)
    logits = 2 * torch.randn(6, 9)
    for p in (0.01, 0.3, 0.9, 1.0):
        kept = keep_top_p(logits, p)
        for row in range(6):
            probs = logits[row].softmax(-1)
            held, best = 0.0, []
            for i in sorted(range(9), key=lambda i: -logits[row, i]):
                if held >= p:
                    break
                best.append(i)
                held += float(probs[i])
            actual = [i for i in range(9) if kept[row, i] > -torch.inf]
            assert actual == sorted(best), f"p = {p}, row {row}: the fewest likeliest tokens that hold p, one at least"


def test_as_soon_as_p_is_held_no_more_tokens_stay():
    for n, p, left in ((2, 0.5, 1), (4, 0.5, 2), (4, 0.75, 3), (4, 1.0, 4)):  # sums of powers of two: exact
        kept = keep_top_p(torch.zeros(1, n), p) > -torch.inf
        assert kept.sum() == left, f"{n} equal tokens, p = {p}: {left} hold p, {kept.sum()} stayed"


def test_choices_come_at_the_models_own_rates():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    for temperature, expected in ((1.0, [0.5, 0.3, 0.2]), (0.5, [25 / 38, 9 / 38, 4 / 38])):
        drawn = choose(logits, temperature, generator=generator)[:, 0].bincount(minlength=3) / 20_000
        off = (drawn - torch.tensor(expected)).abs().max()
        assert off < 0.015, f"temperature {temperature}: drawn {drawn}, p^(1/temperature) is {expected}"
    unasked, at_one = (choose(logits, *t, generator=torch.Generator().manual_seed(1)) for t in ((), (1.0,)))
    assert torch.equal(unasked, at_one), "unasked, the temperature is 1"
    assert (choose(logits, 0.0) == 0).all(), "temperature 0 takes the likeliest"
    assert (choose(logits, 1.0, top_k=1, generator=generator) == 0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("with_prefix", [False, True])
def test_cached_equals_uncached(strategy, with_prefix):
    inputs = {"prefix": random_prefix(3)} if with_prefix else {}
    results = [generate(tiny(), PROMPTS, 12, use_cache=c, **STRATEGIES[strategy], **inputs) for c in (True, False)]
    assert results[0] == results[1], f"{strategy}: with the cache {results[0]}, without {results[1]}"


@pytest.mark.parametrize("use_cache, seen", [(True, [5, 1, 1]), (False, [5, 6, 7])])
def test_without_the_cache_the_whole_text_is_read_at_every_step(use_cache, seen):
    """Were it not so, cached and uncached would agree because they are one."""
    model, lengths = tiny(), []
    model.register_forward_pre_hook(lambda module, args: lengths.append(args[0].size(1)))
    generate(model, PROMPTS, 3, use_cache=use_cache)
    assert lengths == seen, f"columns that the model was given at each step: {lengths}, not {seen}"


def test_greedy_batch_of_different_lengths_is_each_row_alone():
    model = tiny()
    expected = [greedy_by_hand(model, prompt, 10) for prompt in PROMPTS]
    assert generate(model, PROMPTS, 10) == expected, "left padding must not be read, and takes no position"


def test_a_prefix_for_each_row_of_a_batch():
    model, prefix = tiny(), random_prefix(3)
    together = generate(model, PROMPTS, 10, prefix=prefix)
    for row, prompt in enumerate(PROMPTS):
        own = [type(layer)(layer.k[row : row + 1], layer.v[row : row + 1]) for layer in prefix]
        assert together[row] == generate(model, [prompt], 10, prefix=own)[0], f"row {row}"
    assert together != generate(model, PROMPTS, 10), "the prefixes change nothing"


def test_rows_stop_at_the_stop_token_each_for_itself():
    model = tiny()
    free = generate(model, PROMPTS, 12)
    stop = free[0][4]
    expected = [row[: row.index(stop)] if stop in row else row for row in free]
    assert generate(model, PROMPTS, 12, stop_id=stop) == expected


def test_draws_are_made_where_the_model_is(monkeypatch):
    """A generator on the CPU cannot draw from probabilities that are on a GPU."""
    model, asked, real = tiny(), [], torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda *device: asked.append(device) or real(*device))
    generate(model, PROMPTS, 1, temperature=1.0, seed=5)
    assert asked == [(next(model.parameters()).device,)]


def test_a_seed_repeats_and_no_seed_varies():
    first, again = (generate(tiny(), PROMPTS, 12, temperature=1.0, seed=5) for _ in range(2))
    assert first == again
    model = tiny()
    assert len({str(generate(model, PROMPTS, 12, temperature=1.0)) for _ in range(3)}) > 1


def test_texts_are_what_comes_before_the_end_of_the_text():
    model, tokenizer = load_base("gpt"), default_tokenizer()
    prompts = [prompt_ids(text, tokenizer) for text in ("type: town | name: Ostra\n", "The wind is cold.\n")]
    with torch.no_grad():
        rows = [greedy_by_hand(model, prompt, 60) for prompt in prompts]
    assert all(tokenizer.eot_id in row for row in rows), "the test needs prompts after which the base comes to an end"
    expected = [tokenizer.decode(row[: row.index(tokenizer.eot_id)]) for row in rows]
    assert generate_texts(model, tokenizer, prompts, 60) == expected
    assert generate_texts(model, tokenizer, prompts, 3) == [tokenizer.decode(row[:3]) for row in rows]
    assert generate_texts(model, tokenizer, prompts, 60, temperature=1.0, seed=0) != expected, "a setting got lost"


def test_generation_leaves_the_model_as_it_was():
    model = tiny().train()
    generate(model, PROMPTS, 2)
    assert model.training, "a model that was training has to go on training"
    model(torch.tensor([[1, 2]])).sum().backward()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_computes_where_the_model_is(strategy, use_cache, monkeypatch):
    model, settings = tiny(), {**STRATEGIES[strategy], "use_cache": use_cache}
    assert_it_writes_where_the_model_is(lambda: generate(model, PROMPTS, 3, **settings), sampling, PROMPTS, monkeypatch)
    model.to("meta")
    assert devices_of_the_first_call(model, lambda: generate(model, PROMPTS, 3, use_cache=use_cache)) == {"meta"}


def test_a_shortcut_is_asked_for_where_nothing_is_padded():
    model, asked = tiny(), []
    model.decode_step = asked.append  # gives None: there is no shortcut
    expected = generate(model, PROMPTS, 4)
    assert not asked, "a shortcut knows nothing of padding"
    assert generate(model, PROMPTS[:1], 4) == expected[:1] and len(asked) == 1, "asked once, after the prompt is read"


def test_nothing_is_dropped_while_it_generates():
    model = tiny(replace(CONFIG, dropout=0.5))
    assert generate(model.train(), PROMPTS, 10) == generate(model.eval(), PROMPTS, 10)
    assert not model.training, "a model that was not training does not start to"


def test_the_smallest_and_the_largest_settings_are_settings():
    model = tiny()
    assert generate(model, PROMPTS, 0) == [[], [], []]
    greedy = generate(model, PROMPTS, 5)
    for only_the_likeliest in ({"top_k": 1}, {"top_p": 1e-9}):
        assert generate(model, PROMPTS, 5, temperature=1.0, **only_the_likeliest) == greedy, only_the_likeliest
    everything = generate(model, PROMPTS, 5, temperature=1.0, seed=0)
    assert generate(model, PROMPTS, 5, temperature=1.0, seed=0, top_k=CONFIG.vocab_size, top_p=1.0) == everything


def test_left_pad():
    assert left_pad([[1, 2], [3]])[0].tolist() == [[1, 2], [0, 3]], "without a pad_id it is 0"
    ids, attention_mask = left_pad([[1, 2, 3], [4]], pad_id=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]] and attention_mask.tolist() == [[True] * 3, [False, False, True]]
    assert left_pad([[1], [2]])[1] is None, "where nothing was padded there is nothing to mask"


@pytest.mark.parametrize(
    ("prompts", "settings", "sentence"),
    [
        ([], {}, "no prompt"),
        ([[1], []], {}, "Prompt 1 is empty"),
        (PROMPTS, {"temperature": -1.0}, "temperature = -1.0"),
        (PROMPTS, {"temperature": float("nan")}, "temperature = nan"),
        (PROMPTS, {"temperature": float("inf")}, "temperature = inf"),
        (PROMPTS, {"top_k": 0}, "top_k = 0"),
        (PROMPTS, {"top_p": 1.5}, "top_p = 1.5"),
        (PROMPTS, {"top_p": 0.0}, "top_p = 0.0"),
        (PROMPTS, {"max_new_tokens": -1}, "max_new_tokens = -1"),
        ([[1] * 20], {"max_new_tokens": 10}, f"n_positions = {CONFIG.n_positions}"),
        ([[99]], {}, "Token id 99"),
    ],
)
def test_bad_input(prompts, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        generate(tiny(), prompts, settings.pop("max_new_tokens", 3), **settings)


# ------------------------------------------------------------------ what is taken as meant


@pytest.mark.parametrize("kind", [list, tuple, set, torch.tensor])
def test_each_of_several_stop_tokens_ends_a_text(kind):
    model = tiny()
    free = generate(model, PROMPTS, 12)
    stops = [free[0][4], free[1][2]]
    expected = [row[: next((i for i, token in enumerate(row) if token in stops), None)] for row in free]
    assert generate(model, PROMPTS, 12, stop_id=kind(stops)) == expected != free


@pytest.mark.parametrize(
    "prompts",
    [
        torch.tensor([[3, 1, 4], [2, 6, 5]]),
        torch.tensor([[3, 1, 4], [2, 6, 5]], dtype=torch.int16),
        [torch.tensor([3, 1, 4]), torch.tensor([2, 6, 5])],
        np.array([[3, 1, 4], [2, 6, 5]], dtype=np.uint8),
        [np.array([3, 1, 4]), (2, 6, 5)],
        [[np.int64(3), 1, 4], [2, torch.tensor(6), 5]],
    ],
    ids=["tensor", "int16", "tensors", "array", "mixed", "numbers"],
)
def test_prompts_of_every_kind(prompts):
    assert generate(tiny(), prompts, 4) == generate(tiny(), [[3, 1, 4], [2, 6, 5]], 4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_of_any_precision_writes(kind):
    model = tiny().to(kind)
    for strategy in STRATEGIES.values():
        assert [len(row) for row in generate(model, PROMPTS, 8, **strategy)] == [8, 8, 8]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_top_p_of_1_rules_nothing_out_of_a_large_vocabulary(kind):
    """In float32, thousands of the 50,257 least likely tokens were lost to rounding; in float16, half of all."""
    torch.manual_seed(0)
    logits = (2 * torch.randn(2, 50257)).to(kind)
    assert keep_top_p(logits, 1.0).isfinite().all()


def test_top_p_is_exact_in_a_large_vocabulary():
    logits = torch.zeros(1, 50000)  # all alike, so that p of the probability is p of the tokens
    for p in (0.5, 0.9, 0.999):
        kept = int(keep_top_p(logits, p).isfinite().sum())
        assert abs(kept - round(50000 * p)) <= 1, f"p = {p} keeps {kept} of 50,000"


@pytest.mark.parametrize("temperature", [1e-3, 1e-39, 1e-300, 5e-324])
def test_as_the_temperature_falls_sampling_becomes_greedy(temperature):
    model = tiny()
    assert generate(model, PROMPTS, 6, temperature=temperature, seed=0) == generate(model, PROMPTS, 6)


def test_sampling_follows_the_probabilities():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(40_000, 4)
    drawn = choose(logits, 1.5, generator=torch.Generator().manual_seed(0))[:, 0]
    found = drawn.bincount(minlength=4) / len(drawn)
    expected = (logits[0] / 1.5).softmax(-1)
    assert (found - expected).abs().max() < 4 * (0.25 / len(drawn)) ** 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompts": [5, 6]}, r"each of them a list of token ids, such as \[\[5, 6\]\]; prompt 0 is 5"),
        ({"prompts": torch.tensor([5, 6])}, "prompt 0 is 5"),
        ({"prompts": "hello"}, "Prompts are token ids and not texts"),
        ({"prompts": ["hello"]}, "Prompts are token ids and not texts"),
        ({"prompts": [[1.5]]}, "A token of prompt 0 = 1.5: it has to be a whole number"),
        ({"prompts": [[True]]}, "A token of prompt 0 = True"),
        ({"prompts": [[None]]}, "A token of prompt 0 = None"),
        ({"prompts": torch.ones(1, 2)}, "A token of prompt 0 = 1.0"),
        ({"stop_id": "."}, "stop_id = '.': it has to be a whole number"),
        ({"stop_id": [1, 99]}, f"stop_id = 99: it has to be a whole number from 0 to {CONFIG.vocab_size - 1}"),
        ({"stop_id": -1}, "stop_id = -1: it has to be a whole number from 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens = 2.5"),
        ({"top_k": 1.5}, "top_k = 1.5"),
        ({"top_p": float("nan")}, "top_p = nan"),
        ({"top_k": 5}, "top_k = 5 says which tokens to draw from, and temperature 0 draws none"),
        ({"top_p": 0.9, "temperature": 0}, "top_p = 0.9 says which tokens .* leave top_p out"),
        ({"top_k": 5, "max_new_tokens": 0}, "top_k = 5 says which tokens"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"temprature": 0.5}, "'temprature' is no setting of generation, and is no input of a GPT"),
        ({"source": torch.ones(2, 3).long()}, "'source' is no setting of generation, and is no input of a GPT"),
        ({"attention_mask": torch.ones(2, 3)}, "'attention_mask' is no setting .* is filled in here, from the prompts"),
        ({"cache": []}, "'cache' is no setting"),
        ({"at": None}, "'at' is no setting"),
        ({"return_hidden": True}, "'return_hidden' is no setting"),
        ({"use_cache": "no"}, "use_cache = 'no'"),
        ({"model": Bert(BERT_CONFIG)}, "A Bert reads and does not write"),
        ({"model": Classifier(tiny(), 2)}, "A Classifier reads and does not write"),
        ({"model": LoRA()}, "A LoRA is no model that writes"),
        ({"model": BigramTable(9)}, "A BigramTable has no cache to write with"),
    ],
)
def test_what_no_text_can_be_made_of(change, sentence):
    arguments = {"model": tiny(), "prompts": PROMPTS, "max_new_tokens": 3, **change}
    for write in (generate, beam_search):
        if write is beam_search and not {"top_k", "top_p", "seed"}.isdisjoint(change):
            continue
        with pytest.raises(UserError, match=sentence):
            write(**arguments)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(bad):
    model = tiny()
    with torch.no_grad():
        model.norm.bias[0] = bad
    for write in (generate, partial(generate, temperature=1.0), beam_search):
        with pytest.raises(UserError, match="The model's logits are nan or infinite"):
            write(model, PROMPTS, 3)


def test_parts_keep_their_own_mode():
    model = tiny().train()
    model.blocks[0].eval()
    generate(model, PROMPTS, 2)
    assert model.training and not model.blocks[0].training


def test_greedy_decoding_needs_no_seed_and_cannot_choose_from_a_few():
    assert generate(tiny(), PROMPTS, 5, seed=3) == generate(tiny(), PROMPTS, 5)
    logits = torch.randn(2, 9)
    assert torch.equal(choose(logits, 0.0), logits.argmax(-1, keepdim=True))
    for few in ({"top_k": 3}, {"top_p": 1.0}):
        with pytest.raises(UserError, match="temperature 0 draws none"):
            choose(logits, 0.0, **few)
