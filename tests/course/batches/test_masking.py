"""Masking 80/10/10: which words are chosen, what becomes of them, and what is refused."""

import pytest
import torch

from minitransformer.course.batches.classification import encode_for_bert
from minitransformer.course.batches.masking import MaskedTexts, mask_tokens
from minitransformer.course.data import default_tokenizer
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE
from tests.helpers import mask_of, random_ids

V = 40
CLS, SEP, MASK, PAD = 0, 1, 2, 3
SPECIAL = [CLS, SEP, MASK, PAD]


def masked(ids, attention_mask=None, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    return mask_tokens(ids, MASK, SPECIAL, V, attention_mask, generator=generator, **more)


def test_shares_of_the_masking():
    ids = random_ids(500, 60)
    corrupted, labels = masked(ids)
    chosen = labels != IGNORE
    n = chosen.sum().item()
    assert n == 500 * 9, "15 % of 60 words are 9 in each row"
    assert torch.equal(labels[chosen], ids[chosen]), "the label of a chosen word is the word that stood there"
    assert torch.equal(corrupted[~chosen], ids[~chosen]), "a word that was not chosen must stay"
    as_mask = (corrupted == MASK)[chosen].sum().item() / n
    kept = (corrupted == ids)[chosen].sum().item() / n
    # three standard deviations of a share p of n draws are 3 √(p (1 - p) / n): 0.018 at 0.8, 0.0135 at 0.1
    assert as_mask == pytest.approx(0.8, abs=0.018)
    expected_kept = 0.1 + 0.1 / (V - len(SPECIAL))  # a random word may be the word itself
    assert kept == pytest.approx(expected_kept, abs=0.0135)
    others = corrupted[chosen & (corrupted != MASK) & (corrupted != ids)]
    assert others.min() >= len(SPECIAL), "no special token is put in as a random word"
    assert len(others.unique()) == V - len(SPECIAL), "every ordinary word may be put in"


def test_every_word_is_equally_likely_to_be_chosen():
    chosen = masked(random_ids(4000, 20))[1] != IGNORE
    rate = chosen.float().mean(dim=0)
    assert (rate - 0.15).abs().max() < 4 * (0.15 * 0.85 / 4000) ** 0.5, f"a position is favoured: {rate.tolist()}"


def test_special_tokens_and_padding_are_never_chosen():
    ids = random_ids(50, 12)
    ids[:, 0], ids[:, 6] = CLS, SEP
    lengths = [4 + row % 9 for row in range(50)]
    attention_mask = mask_of(lengths, 12)
    corrupted, labels = masked(ids, attention_mask)
    chosen = labels != IGNORE
    assert not chosen[:, 0].any() and not chosen[:, 6].any() and not chosen[~attention_mask].any()
    for row, length in enumerate(lengths):
        n_words = length - 1 - (length > 6)
        assert chosen[row].sum() == max(1, round(0.15 * n_words)), f"row {row} has {n_words} words"
    only_special = torch.tensor([[CLS, SEP, SEP]])
    corrupted, labels = masked(only_special)
    assert torch.equal(corrupted, only_special) and (labels == IGNORE).all()


def test_all_of_the_words_can_be_chosen():
    ids = random_ids(3, 12)
    ids[:, 0] = CLS
    labels = masked(ids, fraction=1.0)[1]
    assert torch.equal(labels, ids.masked_fill(ids == CLS, IGNORE)), (
        "fraction = 1 asks for every word, and for no [CLS]"
    )


def test_masking_works_where_the_ids_are():
    ids, attention_mask = random_ids(3, 12).to("meta"), mask_of([12, 5, 7], 12).to("meta")  # stands in for a GPU
    for found in masked(ids, attention_mask):
        assert found.device == ids.device and found.shape == ids.shape


def test_masking_is_repeatable():
    ids = random_ids(5, 12)
    again = masked(ids)
    assert all(torch.equal(a, b) for a, b in zip(masked(ids), again, strict=True))
    assert not torch.equal(masked(ids, seed=1)[1], again[1])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: masked(random_ids(1, 3), fraction=0.0), "fraction = 0.0"),
        (lambda: masked(random_ids(1, 3), fraction=1.01), "fraction = 1.01"),
        (lambda: mask_tokens(random_ids(1, 3), 0, range(V), V), "All 40 ids are special"),
    ],
)
def test_bad_input_says_why(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_masked_texts_hide_words_and_remember_them():
    tokenizer = default_tokenizer()
    rows = encode_for_bert([f"The ending of film {k} is dull, and the music is loud." for k in range(20)], tokenizer)
    texts = MaskedTexts(rows, tokenizer, batch_size=20, n_positions=64, fraction=0.4)
    plain, first, again, second = texts.batch(texts.drawn(0)), texts(0), texts(0), texts(1)
    assert torch.equal(first["ids"], again["ids"]), "batch 0 was masked in another way when it was asked for again"
    chosen = first["labels"] != IGNORE
    assert torch.equal(first["labels"][chosen], plain["ids"][chosen]), "a label is not the word that stood there"
    assert torch.equal(first["ids"][~chosen], plain["ids"][~chosen]), "a word changed that is not asked for"
    special = torch.isin(plain["ids"], torch.tensor(list(tokenizer.special_ids.values())))
    assert not (chosen & special).any(), "[CLS], [SEP] or padding is to be guessed"
    expected = (0.4 * (~special).sum(dim=1)).round()
    assert torch.equal(chosen.sum(dim=1), expected.long()), "in every row, 40 % of the words are to be guessed"
    assert not torch.equal(first["labels"] != IGNORE, second["labels"] != IGNORE), "both epochs hide the same words"
