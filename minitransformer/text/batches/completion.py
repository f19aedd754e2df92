"""A prompt x and what should follow it, y, in one text: what a GPT is tuned on (003 §3.1, z = [x; y])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from minitransformer.checks import check_settings, integer
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

    `n_positions` is the model's, less a prefix's; x and y then have at most so many tokens together. Refuses fewer than
    two positions, and an empty prompt.
    """
    check_settings({"n_positions": n_positions}, {"n_positions": integer(2)})
    check_pairs([prompt], [target])
    return shorten(prompt, target, n_positions)


def shorten(prompt: Sequence[int], target: Sequence[int], n_positions: int) -> Fitted:
    """`fit`, for what it does not refuse: the rule of what is cut.

    To cut [x; y] at its end (002 §Step3) takes y first, and all of y where x is long. Here x gives way first, down to
    half of the positions, the larger half of an odd number. It loses its middle, because its beginning says what is
    asked and y begins after its end; of an odd number of tokens the beginning keeps the larger half. Then y loses its
    end.
    """
    n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt)))
    n_prompt = min(len(prompt), n_positions - n_target)
    n_end = n_prompt // 2 if n_prompt < len(prompt) else 0
    beginning, end = prompt[: n_prompt - n_end], prompt[len(prompt) - n_end :]
    return Fitted([*beginning, *end], list(target[:n_target]), n_target == len(target))


def completion_batch(prompts: Ids, targets: Ids, end_id: int, whole: Sequence[bool] | None = None) -> Batch:
    """One batch of [x; y; end], which asks for y and the end only: L(p) is a sum over i ∈ Y_idx.

    A y that was cut does not end, so its row is [x; y] without the end. The rows are padded on the right, where a
    causal model never looks back from, so no attention mask is needed. Virtual tokens (negative ids) may stand in a
    prompt, because they are never asked for.

    Args:
        prompts: token ids of each x.
        targets: token ids of each y.
        end_id: the token that ends a text; it also fills up the rows.
        whole: for each y whether it is whole; None if all are.

    Gives "ids" and "labels" (B, T+1), as wide as the longest row; the labels are the ids, but IGNORE at x and padding.

    Source: 000 §4.2; 003 §3.1; Li & Liang, Prefix-Tuning, 2021, Eq. 2.
    """
    check_pairs(prompts, targets)
    whole = [True] * len(prompts) if whole is None else whole
    rows = [[*x, *y, *[end_id] * ends] for x, y, ends in zip(prompts, targets, whole, strict=True)]
    ids, attention_mask = pad_right(rows, end_id)  # (B, T+1)
    n_prompt = torch.tensor([len(x) for x in prompts])[:, None]  # (B, 1)
    asked = attention_mask & (torch.arange(ids.size(1)) >= n_prompt)  # (B, T+1)
    return {"ids": ids, "labels": ids.masked_fill(~asked, IGNORE)}


class Completions:
    """Shuffled batches of prompts and targets, each at most once an epoch: `batches(i)` is batch number i.

    Args, where `completion_batch` does not say it:
        batch_size: B; where there are fewer examples, all of them.
        n_positions: the model's; a longer text is refused, unless `cut`. A prefix needs its own positions beside.
        cut: make longer texts `fit`.
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
        check_pairs(prompts, targets, batch_size)
        self._whole = [True] * len(prompts)
        if cut:
            pairs = [fit(x, y, n_positions) for x, y in zip(prompts, targets, strict=True)]
            prompts, targets = [pair.prompt for pair in pairs], [pair.target for pair in pairs]
            self._whole = [pair.whole for pair in pairs]
        for i, (x, y) in enumerate(zip(prompts, targets, strict=True)):
            if len(x) + len(y) > n_positions:
                raise UserError(
                    f"Example {i} needs {len(x) + len(y)} positions ({len(x)} for the prompt, {len(y)} for the "
                    f"target); there are {n_positions}. Shorten it, leave it out, or have it cut (cut=True)."
                )
        self.prompts, self.targets, self.end_id = prompts, targets, end_id
        self.batch_size = min(batch_size, len(prompts))
        self._rows = Epochs(len(prompts) // self.batch_size, seed, self._draw)

    def __call__(self, i: int) -> Batch:
        """Batch number i, as `completion_batch` makes it."""
        rows = self._rows(i).tolist()
        prompts, targets = [self.prompts[r] for r in rows], [self.targets[r] for r in rows]
        return completion_batch(prompts, targets, self.end_id, [self._whole[r] for r in rows])

    def _draw(self, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Which rows make up each batch of an epoch."""
        return torch.randperm(len(self.prompts), generator=generator).split(self.batch_size)


def eval_completions(prompts: Ids, targets: Ids, end_id: int, batch_size: int) -> list[Batch]:
    """Every example once, by length, so that little is filled up."""
    check_pairs(prompts, targets, batch_size)
    rows = sorted(range(len(prompts)), key=lambda r: len(prompts[r]) + len(targets[r]))
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return [completion_batch([prompts[r] for r in part], [targets[r] for r in part], end_id) for part in parts]


def check_pairs(prompts: Ids, targets: Ids, batch_size: int = 1) -> None:
    """Refuse no pair, different numbers of prompts and targets, an empty prompt, and a batch size below 1."""
    check_settings({"batch_size": batch_size}, {"batch_size": integer(1)})
    if not len(prompts) or len(prompts) != len(targets):
        raise UserError(f"{len(prompts)} prompts and {len(targets)} targets: they have to come in pairs, at least one.")
    if any(isinstance(row, str) for row in (*prompts, *targets)):
        raise UserError("Prompts and targets are token ids and not texts: tokenizer.encode(text) gives those of one.")
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"Prompt {i} is empty: give it at least one token, such as <|endoftext|>.")
