"""Texts as batches: padded, labelled. Batch number i is a function of i."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minitransformer.errors import UserError

IGNORE = -100  # a label that asks for no loss: padding, or the instruction before the answer

Batch = dict[str, Tensor]


def pad_right(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one tensor, as long as the longest of them (004 §5.1, padding, 填充).

    Each row has at least one token id; `pad_id` fills up the shorter ones, on the right. Gives the ids (B, T), and
    where they are real, boolean (B, T). Raises `UserError` for no row, or one without a token.
    """
    if not rows:
        raise UserError("There is no row to make a batch of.")
    for i, row in enumerate(rows):
        if not len(row):
            raise UserError(f"Row {i} of the batch is empty: give it at least one token, or leave the row out.")
    lengths = torch.tensor([len(row) for row in rows])  # (B)
    attention_mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
    ids = torch.full(attention_mask.shape, pad_id)  # (B, T)
    ids[attention_mask] = torch.tensor([i for row in rows for i in row])
    return ids, attention_mask
