"""Sentence pairs: cut where sentences end, half of them strangers, words masked, batch i a function of i."""

import pytest
import torch

from minitransformer.course.batches.pairs import NEIGHBOURS, STRANGERS, SentencePairs, encode_pair, split_sentences
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE
from minitransformer.text.corpora import read_documents

TOKENIZER = default_tokenizer()
DOCUMENTS = read_documents(DATA / "text" / "valid.txt")


def pairs_of(documents=DOCUMENTS, batch_size=16, n_positions=160, span=2, seed=0):
    return SentencePairs(documents, TOKENIZER, batch_size, n_positions, span, seed)


@pytest.mark.parametrize(
    ("document", "sentences"),
    [
        ("One. Two!  Three?\nFour.", ["One.", "Two!", "Three?", "Four."]),
        ('"Of course," said Vito. "But hold it." He went.', ['"Of course," said Vito.', '"But hold it."', "He went."]),
        ('"Can you?" asked Mira. It cost 3.5 coins.', ['"Can you?" asked Mira.', "It cost 3.5 coins."]),
        ("no end", ["no end"]),
        (" ", []),
    ],
)
def test_sentences_end_where_they_end(document, sentences):
    assert split_sentences(document) == sentences


def test_cutting_loses_no_character_but_the_space_between():
    for document in DOCUMENTS[:200]:
        assert " ".join(split_sentences(document)) == " ".join(document.split())


def test_a_pair_in_berts_form():
    ids, types = encode_pair(TOKENIZER, "The wind blows.", "It rains.")
    first, second = ids[: types.index(1)], ids[types.index(1) :]
    assert ids[0] == TOKENIZER.cls_id and first[-1] == second[-1] == TOKENIZER.sep_id
    assert TOKENIZER.decode(first[1:-1]) == " The wind blows." and TOKENIZER.decode(second[:-1]) == " It rains."
    assert types == sorted(types) and len(types) == len(ids), "0 in A and its [SEP], then 1"
    assert encode_pair(TOKENIZER, "The wind blows.") == (first, [0] * len(first))


def test_a_batch_is_its_pairs_padded_and_masked():
    pairs = pairs_of()
    batch = pairs(3)
    whole = torch.where(batch["labels"] == IGNORE, batch["ids"], batch["labels"])  # the masks undone
    for row, (a, b) in enumerate(pairs.drawn(3)):
        ids, types = encode_pair(TOKENIZER, pairs.pairs[a][0], pairs.pairs[b][1])
        attention_mask = batch["attention_mask"][row]
        assert attention_mask.sum() == len(ids) and attention_mask[: len(ids)].all(), (
            f"row {row}: attention_mask marks the {len(ids)} real tokens"
        )
        assert whole[row][attention_mask].tolist() == ids and batch["types"][row][attention_mask].tolist() == types
        assert (batch["ids"][row][~attention_mask] == TOKENIZER.pad_id).all()
        assert (batch["labels"][row] != IGNORE).sum() == max(1, round(0.15 * (len(ids) - 3))), f"row {row}: 15 %"


def test_strangers_come_from_another_document_and_neighbours_follow():
    pairs = pairs_of()
    seen = []
    for i in range(60):
        for (a, b), label in zip(pairs.drawn(i), pairs(i)["next_label"].tolist(), strict=True):
            seen.append(label)
            assert (a == b) == (label == NEIGHBOURS), f"batch {i}: B follows A exactly where the label is 0"
            same = pairs.document[a] == pairs.document[b]
            assert same == (label == NEIGHBOURS), f"batch {i}: strangers come from one document"
    share = seen.count(STRANGERS) / len(seen)
    assert share == pytest.approx(0.5, abs=3 * (0.25 / len(seen)) ** 0.5), f"half are strangers, not {share:.0%}"


@pytest.mark.parametrize("span", [1, 2, 3])
def test_a_pair_is_a_place_between_two_sentences(span):
    document = "One. Two. Three. Four."
    pairs = pairs_of([document, "Five. Six."], batch_size=1, span=span)
    sentences = split_sentences(document)
    expected = [(" ".join(sentences[max(0, k - span) : k]), " ".join(sentences[k : k + span])) for k in (1, 2, 3)]
    assert pairs.pairs == [*expected, ("Five.", "Six.")], f"up to {span} sentences on each side"


def test_b_alone_does_not_tell():
    pairs = pairs_of(batch_size=32)
    openings = {split_sentences(document)[0] for document in DOCUMENTS}
    opening = [b for i in range(40) for _, j in pairs.drawn(i) for b in split_sentences(pairs.pairs[j][1])[:1]]
    assert sum(b in openings for b in opening) < 0.01 * len(opening), (
        "a stranger's B may not be how a document begins: a neighbour's B never is, and the model would see it"
    )


def test_an_epoch_takes_every_pair_once_and_the_next_looks_different():
    pairs = pairs_of(DOCUMENTS[:40], batch_size=4)
    epochs = [
        [a for i in range(pairs.batches_per_epoch) for a, _ in pairs.drawn(epoch * pairs.batches_per_epoch + i)]
        for epoch in (0, 1)
    ]
    for firsts in epochs:
        assert len(firsts) == len(set(firsts)), "some pair was drawn twice in an epoch"
        assert len(pairs.pairs) - len(firsts) < 4, "an epoch leaves out less than a batch"
    assert epochs[0] != epochs[1]


def test_batch_i_is_a_function_of_i():
    one, two = pairs_of(), pairs_of()
    two(9), two(500)
    for i in (0, 7, 500):
        a, b = one(i), two(i)
        assert all(torch.equal(a[name], b[name]) for name in a), f"batch {i} depends on what was asked before"
    other = pairs_of(seed=1)(0)
    assert not all(torch.equal(one(0)[name].flatten()[:50], other[name].flatten()[:50]) for name in ("ids", "labels"))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pairs_of([]), "of these 0, at least two need more than one sentence"),
        (lambda: pairs_of(["One. Two.", "Alone."]), "of these 2, at least two"),
        (lambda: pairs_of(["One. Two.", "Three. Four."]), "hold 2 pairs of neighbouring sentences; one batch needs 16"),
        (lambda: pairs_of(span=0), "span = 0: both have to be at least 1"),
        (lambda: pairs_of(n_positions=20), "the model has n_positions = 20. The longest passages are"),
    ],
)
def test_bad_input_says_why(make, says):
    with pytest.raises(UserError, match=says):
        make()
