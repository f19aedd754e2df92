"""Texts with holes: how much is taken away, and that the pairs are what an encoder–decoder is asked for."""

import pytest
import torch

from minitransformer.course.batches.denoising import Denoising, infill
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE
from tests.helpers import SEQ2SEQ_CONFIG

MASK = 39


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fits(holed: list[int], text: list[int]) -> bool:
    """Whether the text becomes `holed` when runs of it are replaced by one MASK each: a plain search."""
    if not holed:
        return not text
    if holed[0] == MASK:
        return any(fits(holed[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and holed[0] == text[0] and fits(holed[1:], text[1:])


@pytest.mark.parametrize("seed", range(8))
def test_only_runs_are_replaced(seed):
    text = list(range(4, 24))
    holed = infill(text, MASK, generator(seed))
    assert MASK in holed, "30 % of 20 tokens were to be taken away, and no [MASK] stands for them"
    assert fits(holed, text), f"{holed} is not {text} with runs replaced by one [MASK] ({MASK}) each"


def test_the_share_is_about_what_was_asked():
    text = list(range(1000))
    gone = [len(text) - sum(token != 5000 for token in infill(text, 5000, generator(seed), 0.3)) for seed in range(5)]
    assert all(250 <= n <= 300 for n in gone), f"of 1,000 tokens about 300 were to go, {gone} went"


def test_a_share_of_nothing_and_of_all():
    assert infill([4, 5, 6], MASK, generator(), fraction=0.0) == [4, 5, 6]
    assert infill([4], MASK, generator(), fraction=1.0, mean_span=50.0) == [MASK], "a source must not become empty"
    with pytest.raises(UserError, match="fraction = 1.5"):
        infill([4], MASK, generator(), fraction=1.5)


def test_texts_get_holes_and_pairs_stay():
    texts = [list(range(4, 4 + n)) for n in range(6, 14)]
    others = [[30, 31]] * 4
    batches = Denoising(texts + [[20, 21, 22]] * 4, texts + others, SEQ2SEQ_CONFIG, 12, MASK)
    batch = batches(0)
    for source, attention_mask, ids in zip(batch["source"], batch["source_mask"], batch["ids"], strict=True):
        source, target = source[attention_mask].tolist(), [i for i in ids.tolist()[1:] if i > 3]
        if target == [30, 31]:
            assert source == [20, 21, 22], "a pair's source is given as it is"
        else:
            assert MASK in source and fits(source, target)
    assert (batch["labels"] != IGNORE).equal(batch["attention_mask"]), (
        "every token of a target is asked for, and no padding"
    )


def test_holes_are_made_anew_and_repeatably():
    texts = [list(range(4, 24))] * 3
    first, again = (Denoising(texts, texts, SEQ2SEQ_CONFIG, 3, MASK) for _ in range(2))
    assert first(0)["source"].equal(again(0)["source"]), "batch number i has to be a function of i"
    assert not (first(0)["source"].shape == first(1)["source"].shape and first(0)["source"].equal(first(1)["source"]))
