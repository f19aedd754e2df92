"""Texts to batches: each text once an epoch, with its own label, nothing cut, little padding."""

import pytest
import torch

from minitransformer.course.batches.classification import (
    LabelledTexts,
    Texts,
    encode_for_bert,
    encode_for_gpt,
)
from minitransformer.course.data import default_tokenizer
from minitransformer.errors import UserError
from minitransformer.text.batches import pad_right

PAD, CLASSES = 0, ("no", "yes")


def numbered(n: int) -> tuple[list[list[int]], list[str]]:
    """Text k is the id k + 1, k % 7 + 1 times; its label says whether k is odd."""
    return [[k + 1] * (k % 7 + 1) for k in range(n)], [CLASSES[k % 2] for k in range(n)]


@pytest.mark.parametrize(("rows", "sentence"), [([], "no row"), ([[1], []], "Row 1 of the batch is empty")])
def test_pad_right_refuses_nothing(rows, sentence):
    with pytest.raises(UserError, match=sentence):
        pad_right(rows, pad_id=0)


def test_every_text_once_an_epoch_with_its_own_label():
    rows, labels = numbered(45)
    texts = LabelledTexts(rows, labels, CLASSES, batch_size=4, pad_id=PAD, n_positions=7, seed=3)
    assert texts.batches_per_epoch == 12
    epochs = []
    for epoch in range(2):
        seen = []
        for i in range(12 * epoch, 12 * (epoch + 1)):
            batch = texts(i)
            for ids, attention_mask, label in zip(batch["ids"], batch["attention_mask"], batch["label"], strict=True):
                k = int(ids[0]) - 1
                assert ids[attention_mask].tolist() == rows[k], f"batch {i}: text {k} lost or gained tokens"
                assert (ids[~attention_mask] == PAD).all()
                assert CLASSES[label] == labels[k], f"batch {i}: text {k} came with the label of another text"
                seen.append(k)
        assert sorted(seen) == list(range(45)), f"epoch {epoch}: each text should come exactly once"
        epochs.append(seen)
    assert epochs[0] != epochs[1], "the second epoch has the order of the first: it should be shuffled anew"


def test_batch_i_is_a_function_of_i():
    rows, labels = numbered(45)
    one, other = (LabelledTexts(rows, labels, CLASSES, 4, PAD, 7) for _ in range(2))
    expected = {i: one(i) for i in range(30)}
    for i in (29, 3, 14, 3, 0):
        for name, tensor in other(i).items():
            assert torch.equal(tensor, expected[i][name]), f"batch {i} depends on which batches were asked before"


def test_in_order_is_the_order_of_the_file():
    rows, labels = numbered(10)
    batches = LabelledTexts(rows, labels, CLASSES, 4, PAD, 7).in_order()
    assert [len(batch["ids"]) for batch in batches] == [4, 4, 2]
    assert [int(ids[0]) - 1 for batch in batches for ids in batch["ids"]] == list(range(10))
    assert [CLASSES[label] for batch in batches for label in batch["label"]] == labels


def test_like_lengths_come_together():
    generator = torch.Generator().manual_seed(0)
    rows = [[1] * n for n in torch.randint(10, 100, (640,), generator=generator).tolist()]
    texts = Texts(rows, batch_size=16, pad_id=PAD, n_positions=100)
    bare = sum(map(len, rows))
    padded = sum(texts(i)["ids"].numel() for i in range(texts.batches_per_epoch))
    at_random = sum(16 * max(map(len, rows[i : i + 16])) for i in range(0, 640, 16))
    assert padded < 1.2 * bare < at_random, f"{bare} tokens became {padded} with padding, {at_random} without sorting"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": [], "labels": []}, "split is empty"),
        ({"labels": ["no"]}, "2 texts and 1 labels"),
        ({"labels": ["no", "perhaps"]}, "Text 1 has the label 'perhaps'; the classes are 'no', 'yes'"),
        ({"rows": [[1], []]}, "Text 1 has no token"),
        ({"rows": [[1], [1] * 8]}, "Text 1 has 8 tokens; the model reads n_positions = 7"),
        ({"batch_size": 0}, "at least one text"),
    ],
)
def test_bad_input(change, sentence):
    good = {"rows": [[1], [2, 3]], "labels": ["no", "yes"], "classes": CLASSES}
    with pytest.raises(UserError, match=sentence):
        LabelledTexts(**good | {"batch_size": 2, "pad_id": PAD, "n_positions": 7} | change)


def test_encoding_frames_the_text():
    tokenizer = default_tokenizer()
    (bert,), (gpt,) = (encode(["It is dull."], tokenizer) for encode in (encode_for_bert, encode_for_gpt))
    assert (bert[0], bert[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
    assert gpt[0] == tokenizer.eot_id
    assert gpt[-1] != tokenizer.eot_id, "after an end-of-text token a GPT has done with the text"
    assert tokenizer.decode(bert[1:-1]) == tokenizer.decode(gpt[1:]) == "It is dull."
