"""Rows of whole documents: nothing cut, nothing lost, nothing asked of what fills them up."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minitransformer.batches.packed import pack, packed_batches
from minitransformer.errors import UserError
from minitransformer.training import IGNORE

END, LENGTH = 0, 12
documents = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=LENGTH + 3), min_size=1, max_size=60)


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


@given(documents)
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


@given(documents.filter(lambda some: any(len(d) < LENGTH for d in some)), st.integers(1, 5))
def test_what_fills_a_row_up_is_not_asked_for_and_everything_else_is(documents, batch_size):
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
