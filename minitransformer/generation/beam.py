"""Beam search: look for a likely text, not for a text of likely tokens.

Greedy decoding takes the likeliest token each time, and may so enter a street that leads to nothing likely. A beam
search keeps the k likeliest beginnings (hypotheses) of each prompt and lets each of them go on in every way:

    score(y) = Σ_t log p(y_t | y_<t) / |y|^α                                     (the sum: 000 §4.1 in logarithms)

|y| counts the new tokens, the end token among them. With α = 0 short texts win, for every token adds a negative
number to the sum; α = 1 compares means; α > 1 prefers long texts. Which candidates may end, and when to stop, is
decided as the transformers library decides it (early_stopping=False), so that both find the same texts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.checks import boolean, check_settings, integer, real
from minitransformer.errors import UserError
from minitransformer.generation.inputs import Prompts, Stop, last_column
from minitransformer.generation.sampling import begin
from minitransformer.models.layers import in_eval_mode

ALLOWED = {"n_beam": integer(1), "max_new_tokens": integer(1), "length_penalty": real(), "use_cache": boolean()}

NEVER = -1e9  # the log-probability of what cannot be


class Hypothesis(NamedTuple):
    """A finished text."""

    tokens: list[int]  # the new ones, without the prompt and without the end token
    score: float


class _Search:
    """The search for one prompt: its k running hypotheses and the best k that have finished."""

    def __init__(self, n_beam: int, length_penalty: float) -> None:
        self.n_beam, self.length_penalty = n_beam, length_penalty
        self.running: list[list[int]] = [[] for _ in range(n_beam)]
        self.finished: list[Hypothesis] = []  # best first
        self.done = False  # nothing that still runs is going to be better

    def step(
        self, sums: Tensor, beams: list[int], tokens: list[int], stop_ids: Collection[int], at_end: bool
    ) -> list[int]:
        """Take the candidates of one step, likeliest first, and decide which end, which go on and which go.

        `sums` (2k or more,) are their log-probabilities; each continues the running hypothesis `beams[i]` with
        `tokens[i]`. Gives the indices of the k candidates that go on, the likeliest of those that do not end.
        """
        texts = [self.running[beam] + [token] for beam, token in zip(beams, tokens, strict=True)]
        scores, going = self.select(texts, sums, stop_ids, at_end)
        if going:
            self.running = [texts[i] for i in going]
            # How good the likeliest would be if it ended here, which for α > 0 is a guess at what it will be.
            full = len(self.finished) == self.n_beam
            self.done |= full and scores[going[0]].item() <= self.finished[-1].score
        return going

    def select(
        self, texts: list[list[int]], sums: Tensor, stop_ids: Collection[int], at_end: bool
    ) -> tuple[Tensor, list[int]]:
        """Put the candidates that end among the finished, and name those that go on.

        A text ends with one of `stop_ids`, or where no token may follow. Its score is its sum divided by |y|^α, the end
        token counted. Of the likeliest k candidates those that end are finished, and of all that are, the best k stay.
        Once the search is done, nothing more is finished.

        Args:
            texts: the new tokens of each candidate, all of one length, likeliest first.
            sums: their log-probabilities, a tensor with one for each.
            stop_ids: the tokens that end a text.
            at_end: whether no token may follow.

        Gives the scores of all candidates, a tensor, and the indices of the first k that do not end.

        Source: Wu et al., Google's Neural Machine Translation System, 2016, Eq. 14, with |y|^α as length penalty.
        """
        scores = sums / len(texts[0]) ** self.length_penalty  # one for each text
        ends = [at_end or text[-1] in stop_ids for text in texts]
        if not self.done:
            # Only one of the likeliest k may finish; the others are here so that k can go on if all of those end.
            for i, score in enumerate(scores[: self.n_beam].tolist()):
                if ends[i]:
                    tokens = texts[i][:-1] if texts[i][-1] in stop_ids else texts[i]
                    self.finished.append(Hypothesis(tokens, score))
            self.finished.sort(key=lambda hypothesis: -hypothesis.score)
            del self.finished[self.n_beam :]
        return scores, [i for i, end in enumerate(ends) if not end][: self.n_beam]


@torch.inference_mode()
def beam_search(
    model: Any,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    n_beam: int = 4,
    length_penalty: float = 1.0,
    stop_id: Stop = None,
    use_cache: bool = True,
    **inputs: Any,
) -> list[list[Hypothesis]]:
    """Continue each prompt by the likeliest texts that a beam search finds: for each its `n_beam` best, best first.

    Args, where `sampling.generate` does not say it:
        prompts: token ids; they may differ in length. For an encoder–decoder each is [start_id].
        n_beam: k, the hypotheses that run side by side; 1 is greedy decoding.
        length_penalty: α.
        inputs: whatever else the model takes, one row for each prompt or one for all, such as `prefix`, `source`.
    """
    settings = {"n_beam": n_beam, "max_new_tokens": max_new_tokens, "length_penalty": length_penalty}
    check_settings({**settings, "use_cache": use_cache}, ALLOWED)
    ids, attention_mask, stops = begin(model, prompts, stop_id, use_cache, inputs)
    device, B, k = ids.device, len(ids), n_beam
    n_candidates = max(2, 1 + len(stops)) * k  # so that k can go on, even if every running text meets every end
    wide = {name: _repeat(value, B, k) for name, value in inputs.items()}  # for B·k rows, k of each prompt
    if isinstance(one := inputs.get("vectors"), Tensor) and one.dim() == 2:  # for all rows, though they may be B
        wide["vectors"] = one
    cache = model.new_cache() if use_cache else None
    searches = [_Search(k, length_penalty) for _ in range(B)]
    sums = torch.full((B, k), NEVER, device=device)  # Σ log p of what runs
    sums[:, 0] = 0.0  # all k begin alike: at first only one of them may go on

    with in_eval_mode(model):
        # Everyone reads the prompt once; then every row becomes k.
        logits = model(ids, attention_mask=attention_mask, cache=cache, at=last_column(ids), **inputs)  # (B, V)
        logits = logits.repeat_interleave(k, dim=0)  # (B·k, V)
        V = logits.size(-1)
        if n_candidates > V:
            raise UserError(f"n_beam = {k}: a vocabulary of {V} has fewer than {n_candidates} ways to begin.")
        ids = ids.repeat_interleave(k, dim=0)  # (B·k, T)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat_interleave(k, dim=0)  # (B·k, S)
        rows = torch.arange(B, device=device).repeat_interleave(k)  # (B·k)
        first_row = torch.arange(0, B * k, k, device=device)[:, None]  # (B, 1)
        for step in range(max_new_tokens):
            at_end = step == max_new_tokens - 1
            log_probs = logits.float().log_softmax(dim=-1).view(B, k, V)
            if not bool(log_probs.amax(dim=-1).isfinite().all()):
                raise UserError("The model's logits are nan or infinite: its weights are damaged, or overflow.")
            sums, best = (sums[:, :, None] + log_probs).flatten(1).topk(n_candidates)
            beams, tokens = best // V, best % V
            each = zip(searches, sums.cpu(), beams.tolist(), tokens.tolist(), strict=True)
            indices = [search.step(some, into, by, stops, at_end) for search, some, into, by in each]
            if at_end or all(search.done for search in searches):
                break
            going = torch.tensor(indices, device=device)  # (B, k)
            sums = sums.gather(1, going)  # (B, k)
            parents = (first_row + beams.gather(1, going)).flatten()  # (B·k)
            new = tokens.gather(1, going).view(B * k, 1)  # (B·k, 1)
            ids = torch.cat([ids[parents], new], dim=1)  # (B·k, T+1)
            if attention_mask is not None:
                attention_mask = F.pad(attention_mask, (0, 1), value=True)  # (B·k, S+1)
            if cache is None:
                logits = model(ids, attention_mask=attention_mask, at=last_column(ids), **wide)  # (B·k, V)
            else:
                for layer in cache:
                    layer.select(rows[parents] if step == 0 else parents)  # B rows become B·k, then change places
                logits = model(new, attention_mask=attention_mask, cache=cache, **wide)[:, -1]  # (B·k, V)
    return [search.finished for search in searches]


def _repeat(value: Any, n_row: int, times: int) -> Any:
    """Every row `times` times in a row, a a b b, in a tensor with a row for each prompt or in what holds such tensors.

    A tensor with another number of rows than n_row stays as it is, for it serves all prompts. A named tuple, such as a
    `Prefix`, becomes one of its own kind; a list or another tuple becomes a list; anything else stays.
    """
    if isinstance(value, Tensor):
        return value.repeat_interleave(times, dim=0) if value.size(0) == n_row else value
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a Prefix
        return value._make(_repeat(part, n_row, times) for part in value)
    if isinstance(value, list | tuple):
        return [_repeat(part, n_row, times) for part in value]
    return value
