"""Text from files to batches. Batch number i is a function of i: a run can be resumed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minitransformer.checks import check_settings, integer, optional
from minitransformer.errors import UserError
from minitransformer.files import read_utf8
from minitransformer.text.tokenizer import Tokenizer

END_OF_TEXT = "<|endoftext|>"
SIZES = {"length": integer(1), "batch_size": integer(1), "most": optional(integer(1))}


def read_documents(path: str | Path) -> list[str]:
    """The documents of a text file, separated by lines that hold only <|endoftext|>.

    A sentence that mentions <|endoftext|> is text like any other. Refuses as `read_utf8`, and a file without text.
    """
    parts: list[list[str]] = [[]]
    for line in read_utf8(path).split("\n"):
        if line.strip() == END_OF_TEXT:
            parts.append([])
        else:
            parts[-1].append(line)
    documents = [text for part in parts if (text := "\n".join(part).strip())]
    if not documents:
        raise UserError(f"{path} holds no text.")
    return documents


def token_stream(documents: Sequence[str], tokenizer: Tokenizer) -> torch.Tensor:
    """All documents as one row of ids, an end-of-text before each and one at the end, (n_tokens,)."""
    ids = [np.array([tokenizer.eot_id])]
    for document in tokenizer.encode_batch(documents):
        ids.append(np.array(document + [tokenizer.eot_id]))
    return torch.from_numpy(np.concatenate(ids).astype(np.int64))


class Epochs:
    """The batches of every epoch, drawn anew for each from a seed: `epochs(i)` is what batch number i is made of.

    The one place where the number of a batch becomes an epoch and a place in it, so that every source of batches is a
    function of i. `draw` makes of a generator the batches of one epoch, in their order.
    """

    def __init__(self, batches_per_epoch: int, seed: int, draw: Callable[[torch.Generator], Sequence]) -> None:
        self.batches_per_epoch, self.seed, self.draw = batches_per_epoch, seed, draw
        self._in_use: tuple[int, Sequence] | None = None  # an epoch and its batches

    def __call__(self, i: int) -> Any:
        """One of the things that `draw` gave, for batch number i of the run."""
        if i < 0:
            raise UserError(f"There is no batch number {i}: batches are counted from 0.")
        epoch, within = divmod(i, self.batches_per_epoch)
        if self._in_use is None or self._in_use[0] != epoch:
            self._in_use = epoch, self.draw(torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        return self._in_use[1][within]


class Windows:
    """Windows of a token stream (n_tokens,) in random order, every one once an epoch: `windows(i)` is batch number i.

    Neighbouring windows share one token: the last label of one is the first input of the next, so that in an epoch
    every token of the stream is predicted once. `length` is T, the tokens predicted in a window; "ids" has T + 1
    columns. Each epoch cuts at another offset and shuffles anew. Refuses a text too short for one batch.
    """

    def __init__(self, stream: torch.Tensor, length: int, batch_size: int, seed: int = 0) -> None:
        check_settings({"length": length, "batch_size": batch_size}, SIZES)
        self.stream, self.length, self.batch_size = stream, length, batch_size
        self.per_epoch = (len(stream) - 1) // length - 1  # windows; one less, so that the offset has room
        if self.per_epoch < batch_size:
            raise UserError(
                f"The text has {len(stream)} tokens; one batch of {batch_size} windows of {length} needs "
                f"{(batch_size + 1) * length + 1}. Give more text, or make the batch or the windows smaller."
            )
        self.batches_per_epoch = self.per_epoch // batch_size
        self._starts = Epochs(self.batches_per_epoch, seed, self._draw)

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        """Batch number i: {"ids": (B, T+1)}."""
        return {"ids": self.stream[self._starts(i)[:, None] + torch.arange(self.length + 1)]}  # (B, T+1)

    def _draw(self, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Where the windows of each batch of an epoch start."""
        offset = torch.randint(self.length, (1,), generator=generator)
        starts = torch.randperm(self.per_epoch, generator=generator) * self.length + offset
        return starts.split(self.batch_size)


def eval_windows(stream: torch.Tensor, length: int, batch_size: int, most: int | None = None) -> list[dict]:
    """The stream once from its start in batches of windows, without overlap; at most `most` windows.

    Refuses a text shorter than one window.
    """
    check_settings({"length": length, "batch_size": batch_size, "most": most}, SIZES)
    count = (len(stream) - 1) // length
    if count <= 0:
        raise UserError(f"The text has {len(stream)} tokens, fewer than one window of {length} and one more.")
    starts = torch.arange(min(count, most or count))[:, None] * length
    ids = stream[starts + torch.arange(length + 1)]  # every window a row of T + 1
    return [{"ids": part} for part in ids.split(batch_size)]
