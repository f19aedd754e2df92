"""Rows of whole documents: nothing cut, nothing lost, nothing asked of what fills them up."""

import random

import pytest
import torch

from minitransformer.course.batches.packed import pack, packed_batches
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE

END, LENGTH = 0, 12


def draw(seed):
    """Some documents, from none that fits to many, some of them too long."""
    dice = random.Random(seed)
    longest = dice.choice([1, 4, LENGTH - 1, LENGTH + 3])
    return [[dice.randint(1, 9) for _ in range(dice.randint(1, longest))] for _ in range(dice.choice([1, 2, 9, 60]))]


many = pytest.mark.parametrize("documents", [*map(draw, range(60)), [[1] * LENGTH], [[1] * (LENGTH - 1)], [[1]]])


def unpack(row):
    """The documents of a row, as a plain loop reads them."""
    found, now = [], []
    assert row[0] == END, "a row begins with an end-of-text"
    for token in row[1:]:
        if token != END:
            now.append(token)
        elif now:
            found.append(now)
            now = []
    assert not now, f"the row {row} ends inside a document"
    return found


@many
def test_every_document_that_fits_stands_whole_in_one_row(documents):
    fitting = sorted(d for d in documents if len(d) <= LENGTH - 1)
    if not fitting:
        with pytest.raises(UserError, match="no document of at most 11 tokens to fill rows of 12"):
            pack(documents, LENGTH, END)
        return
    rows = pack(documents, LENGTH, END)
    assert rows.shape[1] == LENGTH + 1
    found = [document for row in rows.tolist() for document in unpack(row)]
    assert sorted(found) == fitting, "a document was lost, doubled or cut"


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@many
def test_what_fills_a_row_up_is_not_asked_for_and_everything_else_is(documents, batch_size):
    if all(len(d) >= LENGTH for d in documents):
        return
    rows = pack(documents, LENGTH, END)
    batches = packed_batches(rows, batch_size, END)
    assert torch.equal(torch.cat([batch["ids"] for batch in batches]), rows), "rows change their order or are lost"
    assert {len(batch["ids"]) for batch in batches[:-1]} <= {batch_size}
    for row, labels in zip(rows.tolist(), torch.cat([batch["labels"] for batch in batches]).tolist(), strict=True):
        used = 1 + sum(len(document) + 1 for document in unpack(row))  # each with the end that follows it
        assert labels == row[:used] + [IGNORE] * (LENGTH + 1 - used), f"the row {row} asks for {labels}"


def test_rows_are_nearly_full():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 150, (3000,), generator=generator).tolist()
    rows = pack([[1] * n for n in lengths], 256, END)
    assert (rows != END).float().mean() > 0.9
