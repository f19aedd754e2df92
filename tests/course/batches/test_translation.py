"""Pairs to batches: shifted targets, padding that changes nothing, every pair once an epoch, nothing cut silently."""

import pytest
import torch

from minitransformer.course.batches.translation import TranslationBatches, eval_translation_batches, translation_batch
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE
from minitransformer.training.losses import seq2seq_loss
from tests.helpers import SEQ2SEQ_CONFIG, assert_close, tiny_seq2seq

PAD, START, END = SEQ2SEQ_CONFIG.pad_id, SEQ2SEQ_CONFIG.start_id, SEQ2SEQ_CONFIG.end_id


def make_pairs(n: int) -> tuple[list[list[int]], list[list[int]]]:
    """Pairs of many lengths; the first two source tokens number the pair."""
    sources = [[4 + i // 30, 4 + i % 30] + [5] * (i * 7 % 9) for i in range(n)]
    return sources, [[4 + i % 30] * (1 + i * 5 % 8) for i in range(n)]


def test_a_target_stands_between_start_and_end_and_padding_has_no_label():
    batch = translation_batch([[7, 8, 9], [6]], [[10], [11, 12, 13]], SEQ2SEQ_CONFIG)
    assert batch["source"].tolist() == [[7, 8, 9], [6, PAD, PAD]]
    assert batch["source_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["ids"].tolist() == [[START, 10, END, PAD, PAD], [START, 11, 12, 13, END]]
    assert batch["attention_mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["labels"].tolist() == [[START, 10, END, IGNORE, IGNORE], [START, 11, 12, 13, END]]
    assert seq2seq_loss(tiny_seq2seq(), batch)[1] == 2 + 4, "a target of n tokens is n + 1 exercises: y and the end"


def test_the_loss_of_a_padded_batch_is_the_sum_of_its_pairs_alone():
    model, (sources, targets) = tiny_seq2seq(), make_pairs(7)
    together, count = seq2seq_loss(model, translation_batch(sources, targets, SEQ2SEQ_CONFIG))
    alone = [
        seq2seq_loss(model, translation_batch([x], [y], SEQ2SEQ_CONFIG)) for x, y in zip(sources, targets, strict=True)
    ]
    assert count == sum(n for _, n in alone)
    assert_close(together, sum(loss for loss, _ in alone), "Padding changed the loss: is a mask missing?", 1e-3)


@pytest.mark.parametrize("pool", [1, 3, 100])
def test_every_pair_once_an_epoch(pool):
    sources, targets = make_pairs(101)
    batches = TranslationBatches(sources, targets, SEQ2SEQ_CONFIG, batch_size=4, seed=1, pool=pool)
    assert batches.batches_per_epoch == 25
    orders = []
    for epoch in range(2):
        made = [batches(epoch * 25 + i) for i in range(25)]
        rows = [tuple(row) for batch in made for row in batch["source"][:, :2].tolist()]
        assert len(set(rows)) == 100, f"epoch {epoch}: {100 - len(set(rows))} pairs came twice"
        orders.append(rows)
        for batch in made:
            for source, ids, attention_mask in zip(batch["source"], batch["ids"], batch["attention_mask"], strict=True):
                number = (source[0].item() - 4) * 30 + source[1].item() - 4
                assert ids[attention_mask].tolist() == [START, *targets[number], END], (
                    f"pair {number} has another's target"
                )
    assert orders[0] != orders[1], "each epoch is shuffled anew"


def test_batch_i_is_a_function_of_i():
    one, two = (TranslationBatches(*make_pairs(50), SEQ2SEQ_CONFIG, batch_size=4, seed=2) for _ in range(2))
    forward = [one(i) for i in range(30)]
    for i in reversed(range(30)):
        again = two(i)
        assert all(torch.equal(forward[i][name], again[name]) for name in again), f"batch {i} depends on earlier calls"
    other = TranslationBatches(*make_pairs(50), SEQ2SEQ_CONFIG, batch_size=4, seed=3)
    assert any(not torch.equal(forward[i]["source"], other(i)["source"]) for i in range(12)), "the seed does nothing"


def test_pools_put_similar_lengths_together():
    def padding(pool):
        batches = TranslationBatches(*make_pairs(120), SEQ2SEQ_CONFIG, batch_size=4, seed=0, pool=pool)
        return sum(int((~batches(i)["source_mask"]).sum()) for i in range(batches.batches_per_epoch))

    assert padding(10) < 0.6 * padding(1)


def test_evaluation_takes_every_pair_once():
    sources, targets = make_pairs(23)
    made = eval_translation_batches(sources, targets, SEQ2SEQ_CONFIG, batch_size=5)
    assert [len(batch["ids"]) for batch in made] == [5, 5, 5, 5, 3]
    both = [pair for batch in made for pair in zip(batch["source"], batch["source_mask"], strict=True)]
    rows = [row[attention_mask].tolist() for row, attention_mask in both]
    assert sorted(rows) == sorted(sources)


@pytest.mark.parametrize(
    ("sources", "targets", "sentence"),
    [
        ([], [], "the split is empty"),
        ([[4]], [], "1 sources and 0 targets"),
        ([[4], []], [[4], [4]], "Pair 1 has an empty source"),
        ([[4], [4] * 25], [[4], [4]], "The source of pair 1 has 25 tokens; the model has n_positions = 24"),
        ([[4]], [[4] * 24], "The target, with its start token, of pair 0 has 25 tokens"),
    ],
)
def test_nothing_is_cut_or_left_out(sources, targets, sentence):
    makers = (
        lambda: translation_batch(sources, targets, SEQ2SEQ_CONFIG),
        lambda: TranslationBatches(sources, targets, SEQ2SEQ_CONFIG, batch_size=1),
        lambda: eval_translation_batches(sources, targets, SEQ2SEQ_CONFIG, batch_size=1),
    )
    for make in makers:
        with pytest.raises(UserError, match=sentence):
            make()


def test_the_longest_that_fits_is_taken():
    batch = translation_batch([[4] * 24], [[4] * 23], SEQ2SEQ_CONFIG)
    assert seq2seq_loss(tiny_seq2seq(), batch)[1] == 24


@pytest.mark.parametrize(
    ("size", "pool", "sentence"),
    [(4, 5, "3 pairs make no batch of 4"), (0, 5, "make no batch of 0"), (2, 0, "at least one batch")],
)
def test_sizes_that_mean_nothing(size, pool, sentence):
    with pytest.raises(UserError, match=sentence):
        TranslationBatches(*make_pairs(3), SEQ2SEQ_CONFIG, batch_size=size, pool=pool)
