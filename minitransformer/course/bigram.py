"""The smallest language models: n-grams by counting, and a bigram (二元语法) learned by gradient descent.

A language model gives P(w_t | w_1 … w_{t−1}), the probability of the next token (000 §4.1). An n-gram model
looks at the last n−1 tokens only: none for a unigram, one for a bigram. Beside the models stand the measures
by which all language models are judged: cross-entropy (004 §4.2) and bits per byte; perplexity is in `metrics`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of −log ŷ[target], in nats; ŷ = softmax(logits) (004 §4.2 with one-hot y).

    logits (T, V), targets (T,) → a tensor of one number, (). This is the formula spelled out;
    torch.nn.functional.cross_entropy is faster.
    """
    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)  # log softmax, without a chance to overflow
    return -log_probs.gather(-1, targets[:, None]).mean()


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    """Turn a mean loss in nats per token into bits per byte of text, which compare across vocabularies."""
    return loss * n_tokens / n_bytes / math.log(2)


class NGram:
    """An n-gram model by counting: P(w | context) = (N(context w) + α) / (N(context) + αV).

    The context is the n−1 tokens before w. With α = 0 this is the relative frequency, and what did not occur
    has probability 0. `alpha` may be changed at any time; the counts stay.
    """

    def __init__(self, ids: Tensor, vocab_size: int, n: int = 2, alpha: float = 0.0) -> None:
        """Count the n-grams of `ids` (T,), whole numbers from 0 to vocab_size − 1."""
        if n < 1:
            raise UserError(f"n is {n}: a run has at least one token.")
        if vocab_size**n > 2**63:  # a run is kept as one int64
            raise UserError(f"n is {n}, but runs of 1 to {int(63 / math.log2(vocab_size))} tokens can be counted.")
        if len(ids) < n:
            raise UserError(f"The text has {len(ids)} tokens: too few for even one run of {n}.")
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise UserError(
                f"The ids run from {ids.min()} to {ids.max()}, but with {vocab_size} tokens they must be "
                f"0 to {vocab_size - 1}."
            )
        self.vocab_size, self.n, self.alpha = vocab_size, n, alpha
        keys = self._keys(ids)
        self._grams = keys.unique(return_counts=True)
        self._contexts = (keys // vocab_size).unique(return_counts=True)

    @property
    def n_grams(self) -> int:
        """How many different n-grams were counted."""
        return len(self._grams[0])

    def _keys(self, ids: Tensor) -> Tensor:
        """Read each run of n ids as one number with n digits in base V: (T,) → (T-n+1)."""
        keys = torch.zeros(len(ids) - self.n + 1, dtype=torch.long)
        for i in range(self.n):
            keys = keys * self.vocab_size + ids[i : i + len(keys)]
        return keys

    def _probs(self, keys: Tensor) -> Tensor:
        """P(w | context) of runs of n tokens: keys as `_keys` reads them, context · V + w → one P each, as doubles.

        P = (N(context w) + α) / (N(context) + αV). Where the context never occurred and α = 0, P is 0.
        """
        together = _look_up(self._grams, keys) + self.alpha
        context = _look_up(self._contexts, keys // self.vocab_size) + self.alpha * self.vocab_size
        return torch.where(context > 0, together / context, 0.0)

    def log_probs(self, ids: Tensor) -> Tensor:
        """Return log P of each token that has n−1 tokens before it: (T,) → (T-n+1), in nats."""
        return self._probs(self._keys(ids)).log()

    def loss(self, ids: Tensor) -> float:
        """Return the cross-entropy on `ids` (T,), in nats per token: infinite if P is 0 anywhere."""
        return -self.log_probs(ids).mean().item()

    def next_probs(self, ids: Tensor) -> Tensor:
        """Return the distribution over the token that follows `ids` (T,): (V,)."""
        if len(ids) < self.n - 1:
            raise UserError(f"A model of runs of {self.n} needs {self.n - 1} tokens to go on from, not {len(ids)}.")
        context = ids[len(ids) - self.n + 1 :]
        return self._probs(self._keys(torch.cat([context, torch.zeros(1)]).long()) + torch.arange(self.vocab_size))

    def sample(self, ids: Tensor, length: int, stop: int | None = None, seed: int = 0) -> Tensor:
        """Draw up to `length` tokens after `ids`, each from `next_probs`; end early with the token `stop`."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(length):
            probs = self.next_probs(ids)
            if not probs.any():
                raise UserError("With alpha = 0 nothing can follow a context that was never seen; set alpha above 0.")
            next_id = torch.multinomial(probs, 1, generator=generator)
            ids = torch.cat([ids, next_id])
            if next_id == stop:
                break
        return ids


def _look_up(table: tuple[Tensor, Tensor], keys: Tensor) -> Tensor:
    """Return the count of each key in a (sorted keys, counts) table, 0 where it does not occur."""
    known, counts = table
    at = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    return torch.where(known[at] == keys, counts[at], 0).double()


class BigramTable(nn.Module):
    """A bigram as a neural network of one layer: row a of the table holds the logits of what follows token a.

    P(b | a) = softmax(table[a])[b]. It starts from zeros, where every token is equally likely.
    """

    def __init__(self, vocab_size: int) -> None:
        """Make a table of vocab_size² zeros."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(vocab_size, vocab_size))  # (V, V)

    def forward(self, ids: Tensor) -> Tensor:
        """Give the logits of the token after each of `ids`: (B, T) → (B, T, V)."""
        return self.table[ids]
