"""Whole documents side by side in rows: for a base that has to learn what a document's end owes to its beginning."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, Batch

OPEN_ROWS = 16  # that `pack` fills at a time: enough to find a place for nearly every rest


def pack(documents: Iterable[Sequence[int]], length: int, end_id: int) -> Tensor:
    """Rows of whole documents, an end-of-text before each and after the last; none is cut.

    A window cut out of a stream often begins in the middle of a document, and then asks for what only the part before
    could tell. Here each document goes into the first open row that has room for it.

    Args:
        documents: token ids of each; those longer than a row are left out.
        length: T; a row has T + 1 tokens.
        end_id: the end-of-text; it also fills up a row.

    Returns:
        (n_rows, T+1), in the order in which the rows were filled.

    Raises:
        UserError: no document that fits.
    """
    full: list[list[int]] = []
    still_open: deque[list[int]] = deque()
    for document in documents:
        room = length - len(document)  # what a row may hold already
        if room < 1:
            continue
        row = next((row for row in still_open if len(row) <= room), None)
        if row is None:
            still_open.append(row := [end_id])
            if len(still_open) > OPEN_ROWS:
                full.append(still_open.popleft())
        row += [*document, end_id]
    rows = [*full, *still_open]
    if not rows:
        raise UserError(f"There is no document of at most {length - 1} tokens to fill rows of {length} with.")
    return torch.tensor([row + [end_id] * (length + 1 - len(row)) for row in rows])  # (rows, T+1)


def packed_batches(rows: Tensor, batch_size: int, end_id: int) -> list[Batch]:
    """The rows (n_rows, T+1) in their order, B at a time; what fills them up has no label.

    Args:
        rows: from `pack`.
        batch_size: B.
        end_id: what fills them up.
    """
    filler = (rows == end_id) & (rows.roll(1, dims=1) == end_id)  # (rows, T+1)  an end that follows an end
    filler[:, 0] = False  # nothing stands before a row
    labels = rows.masked_fill(filler, IGNORE)  # (rows, T+1)
    return [
        {"ids": ids, "labels": wanted}
        for ids, wanted in zip(rows.split(batch_size), labels.split(batch_size), strict=True)
    ]
