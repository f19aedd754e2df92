"""A prompt x and what should follow it, y, in one text: what a GPT is tuned on (003 §3.1, z = [x; y])."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minitransformer.batches import pad_right
from minitransformer.datasets import Epochs
from minitransformer.errors import UserError
from minitransformer.training import IGNORE, Batch

Ids = Sequence[Sequence[int]]


def completion_batch(prompts: Ids, targets: Ids, end_id: int) -> Batch:
    """One batch of [x; y; end], which asks for y and the end only: L(p) is a sum over i ∈ Y_idx (000 §4.2, 003 §3.1).

    The rows are padded on the right, where a causal model never looks back from, so no keep-mask is needed; and virtual
    tokens (negative ids) may stand in a prompt, for they are never asked for.

    Args:
        prompts: token ids of each x.
        targets: token ids of each y.
        end_id: the token that ends a text; it also fills up the rows.

    Returns:
        "ids" and "labels" (B, T+1), the labels IGNORE at x and at the padding.

    Raises:
        UserError: no row, other numbers of prompts and targets, an empty prompt.
    """
    _check(prompts, targets)
    ids, keep = pad_right([[*x, *y, end_id] for x, y in zip(prompts, targets, strict=True)], end_id)  # (B, T+1)
    n_prompt = torch.tensor([len(x) for x in prompts])[:, None]  # (B, 1)
    asked = keep & (torch.arange(ids.size(1)) >= n_prompt)  # (B, T+1)
    return {"ids": ids, "labels": ids.masked_fill(~asked, IGNORE)}


class Completions:
    """Shuffled batches of prompts and targets, each at most once an epoch: `batches(i)` is batch number i.

    Args:
        prompts: token ids of each x.
        targets: token ids of each y.
        end_id: the token that ends a text.
        batch_size: B; where there are fewer examples, all of them.
        n_positions: the model's; a longer text is refused, never cut. A prefix needs its own positions beside.
        seed: of the shuffling.

    Raises:
        UserError: as `completion_batch`; a text that is too long; a batch size below 1.
    """

    def __init__(
        self, prompts: Ids, targets: Ids, end_id: int, batch_size: int, n_positions: int, seed: int = 0
    ) -> None:
        _check(prompts, targets, batch_size)
        for i, (x, y) in enumerate(zip(prompts, targets, strict=True)):
            if len(x) + len(y) > n_positions:
                raise UserError(
                    f"Example {i} needs {len(x) + len(y)} positions ({len(x)} for the prompt, {len(y)} for the "
                    f"target); there are {n_positions}. Shorten it or leave it out."
                )
        self.prompts, self.targets, self.end_id = prompts, targets, end_id
        batch_size = min(batch_size, len(prompts))
        self._rows = Epochs(
            len(prompts) // batch_size, seed,
            lambda generator: torch.randperm(len(prompts), generator=generator).split(batch_size),
        )  # fmt: skip

    def __call__(self, i: int) -> Batch:
        """Batch number i, as `completion_batch` makes it."""
        rows = self._rows(i).tolist()
        return completion_batch([self.prompts[r] for r in rows], [self.targets[r] for r in rows], self.end_id)


def eval_completions(prompts: Ids, targets: Ids, end_id: int, batch_size: int) -> list[Batch]:
    """Every example once, by length, so that little is filled up.

    Raises:
        UserError: as `completion_batch`; a batch size below 1.
    """
    _check(prompts, targets, batch_size)
    rows = sorted(range(len(prompts)), key=lambda r: len(prompts[r]) + len(targets[r]))
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return [completion_batch([prompts[r] for r in part], [targets[r] for r in part], end_id) for part in parts]


def _check(prompts: Ids, targets: Ids, batch_size: int = 1) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size = {batch_size}: a batch has at least one row.")
    if not prompts or len(prompts) != len(targets):
        raise UserError(
            f"{len(prompts)} prompts and {len(targets)} targets: they have to come in pairs, at least one."
        )
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"Prompt {i} is empty: give it at least one token, such as <|endoftext|>.")
