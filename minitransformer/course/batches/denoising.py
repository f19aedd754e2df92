"""Texts with holes, and texts whole: what an encoder–decoder is pretrained on (Lewis et al. 2020, BART)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minitransformer.checks import check_settings, real
from minitransformer.course.batches.translation import Ids, TranslationBatches, translation_batch
from minitransformer.models.seq2seq import Seq2SeqConfig
from minitransformer.text.batches import Batch


def infill(
    ids: Sequence[int], mask_id: int, generator: torch.Generator, fraction: float = 0.3, mean_span: float = 3.0
) -> list[int]:
    """Replace runs of tokens by one [MASK] each: the model has to find out how many are missing (text infilling).

    Args:
        ids: the tokens of a text.
        mask_id: the id of [MASK].
        generator: of the runs' places and lengths.
        fraction: of the tokens to take away, about.
        mean_span: the mean length of a run, from a Poisson distribution; a run of 0 only puts a [MASK] in.

    Returns:
        The text with holes, at least one token long.

    Raises:
        UserError: a fraction outside 0 … 1, or a mean length that is not above 0.
    """
    settings = {"fraction": fraction, "mean_span": mean_span}
    check_settings(settings, {"fraction": real(least=0, most=1), "mean_span": real(above=0)})
    left = round(fraction * len(ids))  # tokens that may still be taken away
    spans: dict[int, int] = {}  # where each run starts → its length
    taken = [False] * len(ids)
    for _ in range(2 * len(ids)):  # runs that would overlap are drawn again, but not for ever
        if left <= 0:
            break
        length = min(int(torch.poisson(torch.tensor(float(mean_span)), generator=generator)), left)
        start = int(torch.randint(len(ids) - length + 1, (1,), generator=generator))
        if start in spans or any(taken[max(0, start - 1) : start + length + 1]):
            continue
        spans[start] = length
        taken[start : start + length] = [True] * length
        left -= max(length, 1)
    holed: list[int] = []
    for i, token in enumerate(ids):
        if i in spans:
            holed.append(mask_id)
        if not taken[i]:
            holed.append(token)
    return holed or [mask_id]


class Denoising(TranslationBatches):
    """Batches of texts with holes and the texts themselves, and of pairs as they are: `batches(i)` is batch number i.

    Args:
        sources: token ids of each source.
        targets: token ids of each target. Where it equals its source, holes are made in the source, anew each epoch.
        config: the model's.
        batch_size: B.
        mask_id: the id of [MASK].
        seed: of shuffling and holes.

    Raises:
        UserError: as `TranslationBatches`.
    """

    def __init__(
        self, sources: Ids, targets: Ids, config: Seq2SeqConfig, batch_size: int, mask_id: int, seed: int = 0
    ) -> None:
        super().__init__(sources, targets, config, batch_size, seed)
        self.mask_id, self.seed = mask_id, seed

    def __call__(self, i: int) -> Batch:
        """Batch number i, as `translation_batch` makes it."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + i + 2_000_000_011)
        sources, targets = [], []
        for r in self._rows(i):
            source, target = self.sources[r], self.targets[r]
            sources.append(infill(source, self.mask_id, generator) if source == target else source)
            targets.append(target)
        return translation_batch(sources, targets, self.config)
