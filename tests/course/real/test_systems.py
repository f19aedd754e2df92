"""The mean of real tokens, UniLM's mask and MASS's hole, beside plain loops; and UniLM's mask inside a GPT."""

import pytest
import torch

from minitransformer.course.real.systems import mean_vector, prefix_lm_mask, with_a_hole
from minitransformer.models.attention import combined_mask


def test_the_mean_is_that_of_each_text_alone():
    torch.manual_seed(0)
    hidden, lengths = torch.randn(3, 5, 4), (5, 1, 3)
    attention_mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    hidden[~attention_mask] = float("nan")
    found = mean_vector(hidden, attention_mask)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(found[row], hidden[row, :n].mean(0))


@pytest.mark.parametrize("n_source, n_target", [(3, 4), (1, 1), (0, 5), (5, 0)])
def test_the_prefix_language_models_mask(n_source, n_target):
    found = prefix_lm_mask(n_source, n_target)
    n = n_source + n_target
    assert found.shape == (n, n) and found.dtype == torch.bool
    for query in range(n):
        for key in range(n):
            in_x = query < n_source
            assert found[query, key] == (key < n_source if in_x else key <= query)
    if not n_source:
        assert torch.equal(found, combined_mask(n, n, 0, True, None)[0, 0]), "without x it is a GPT's"


@pytest.mark.parametrize("n", [1, 2, 3, 10, 11])
def test_a_hole_and_what_is_missing_make_the_text(n):
    ids, mask_id = list(range(100, 100 + n)), 7
    for seed in range(30):
        text, missing = with_a_hole(ids, mask_id, torch.Generator().manual_seed(seed))
        assert len(text) == n and text.count(mask_id) == len(missing) == n // 2
        if missing:
            at = text.index(mask_id)
            assert text[at : at + n // 2] == [mask_id] * (n // 2), "one run"
            text[at : at + n // 2] = missing
        assert text == ids
