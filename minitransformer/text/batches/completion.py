"""A prompt x and what should follow it, y, in one text: what a GPT is tuned on (003 §3.1, z = [x; y])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, Batch, pad_right
from minitransformer.text.corpora import Epochs

Ids = Sequence[Sequence[int]]


class Fitted(NamedTuple):
    """A pair that fits, and whether its y is whole: the end of a text that was cut is not where it ends."""

    prompt: list[int]
    target: list[int]
    whole: bool


def fit(prompt: Sequence[int], target: Sequence[int], n_positions: int) -> Fitted:
    """Cut a pair that is too long, so that something of y is always left to learn from (truncation, 截断).

    Cutting [x; y] at its end (002, Step 3) takes y first, and all of y where x is long. Here x gives way first, down
    to half of the positions, and loses its middle: its beginning says what is asked, and after its end y begins. Then y
    loses its end. Of an odd number of positions x keeps the larger half; of what is left of x, its beginning does.

    Args:
        prompt: token ids of x, at least one.
        target: token ids of y.
        n_positions: the model's, less a prefix's.

    Returns:
        Fitted(x, y, whole), x and y lists of at most n_positions tokens together, the same if they fit; whole is
        whether all of y is left, whatever became of x.

    Raises:
        UserError: fewer than two positions, or an empty prompt.
    """
    if n_positions < 2:
        raise UserError(f"n_positions = {n_positions}: a prompt and a target need a position each at least.")
    _check([prompt], [target])
    # ⟨answer⟩
    n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt)))
    n_prompt = min(len(prompt), n_positions - n_target)
    n_end = n_prompt // 2 if n_prompt < len(prompt) else 0
    fitted = Fitted(
        [*prompt[: n_prompt - n_end], *prompt[len(prompt) - n_end :]],
        list(target[:n_target]),
        n_target == len(target),
    )
    # ⟨/answer⟩
    return fitted


def completion_batch(prompts: Ids, targets: Ids, end_id: int, whole: Sequence[bool] | None = None) -> Batch:
    """One batch of [x; y; end], which asks for y and the end only: L(p) is a sum over i ∈ Y_idx (000 §4.2, 003 §3.1).

    A y that was cut does not end, so its row is [x; y] without the end. The rows are padded on the right, where a
    causal model never looks back from, so no attention mask is needed; pad_right(rows, end_id) makes of them the ids,
    and a boolean tensor of the same shape, True at what is real. Virtual tokens (negative ids) may stand in a prompt,
    for they are never asked for.

    Args:
        prompts: token ids of each x.
        targets: token ids of each y.
        end_id: the token that ends a text; it also fills up the rows.
        whole: of each y, whether it is, or was cut. None if all are whole.

    Returns:
        "ids" and "labels" (B, T+1), as wide as the longest row; the labels are the ids, but IGNORE at x and at the
        padding.

    Raises:
        UserError: no row, other numbers of prompts and targets, an empty prompt.
    """
    _check(prompts, targets)
    # ⟨answer⟩
    whole = [True] * len(prompts) if whole is None else whole
    rows = [[*x, *y, *[end_id] * ends] for x, y, ends in zip(prompts, targets, whole, strict=True)]
    ids, attention_mask = pad_right(rows, end_id)  # (B, T+1)
    n_prompt = torch.tensor([len(x) for x in prompts])[:, None]  # (B, 1)
    asked = attention_mask & (torch.arange(ids.size(1)) >= n_prompt)  # (B, T+1)
    labels = ids.masked_fill(~asked, IGNORE)  # (B, T+1)
    # ⟨/answer⟩
    return {"ids": ids, "labels": labels}


class Completions:
    """Shuffled batches of prompts and targets, each at most once an epoch: `batches(i)` is batch number i.

    Args:
        prompts: token ids of each x.
        targets: token ids of each y.
        end_id: the token that ends a text.
        batch_size: B; where there are fewer examples, all of them.
        n_positions: the model's; a longer text is refused, unless `cut`. A prefix needs its own positions beside.
        seed: of the shuffling.
        cut: make longer texts `fit`.

    Raises:
        UserError: as `completion_batch`; a text that is too long; a batch size below 1.
    """

    def __init__(
        self,
        prompts: Ids,
        targets: Ids,
        end_id: int,
        batch_size: int,
        n_positions: int,
        seed: int = 0,
        cut: bool = False,
    ) -> None:
        _check(prompts, targets, batch_size)
        self._whole = [True] * len(prompts)
        if cut:
            pairs = [fit(x, y, n_positions) for x, y in zip(prompts, targets, strict=True)]
            prompts, targets, self._whole = ([pair[part] for pair in pairs] for part in range(3))
        for i, (x, y) in enumerate(zip(prompts, targets, strict=True)):
            if len(x) + len(y) > n_positions:
                raise UserError(
                    f"Example {i} needs {len(x) + len(y)} positions ({len(x)} for the prompt, {len(y)} for the "
                    f"target); there are {n_positions}. Shorten it, leave it out, or have it cut (cut=True)."
                )
        self.prompts, self.targets, self.end_id = prompts, targets, end_id
        batch_size = min(batch_size, len(prompts))
        self._rows = Epochs(
            len(prompts) // batch_size,
            seed,
            lambda generator: torch.randperm(len(prompts), generator=generator).split(batch_size),
        )

    def __call__(self, i: int) -> Batch:
        """Batch number i, as `completion_batch` makes it."""
        rows = self._rows(i).tolist()
        prompts, targets, whole = ([part[r] for r in rows] for part in (self.prompts, self.targets, self._whole))
        return completion_batch(prompts, targets, self.end_id, whole)


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
        raise UserError(f"{len(prompts)} prompts and {len(targets)} targets: they have to come in pairs, at least one.")
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"Prompt {i} is empty: give it at least one token, such as <|endoftext|>.")
