"""Soft prompts (软提示): trained vectors among the words at the input, and nowhere else.

Prompt tuning puts free vectors P in front of the embedded text, X = [P; E(input)] (001 §3.1.4): Lester et al., "The
Power of Scale for Parameter-Efficient Prompt Tuning" (2021), §2. P-tuning puts them inside a template and makes them
with a small LSTM and an MLP, which are dropped afterwards: Liu et al., "GPT Understands, Too" (2021), §3.2. 001 §3.1.4
calls the first by the second's name. Both train P · C parameters, or what makes them; 000 §1.3 and §2.1 describe them
where they say prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checks import boolean
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.layers import embed
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.bases import Base
from minitransformer.tuning.hooks import before_each_call, check_not_given, is_prefill
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting
from minitransformer.tuning.virtual import INIT, LENGTH, check_room, check_virtual, ids_to_start_from, virtual_ids


class VirtualTokens(Method):
    """What prompt tuning and P-tuning share: vectors that virtual tokens stand for."""

    place = "context"
    when_loaded = {"init": "random"}
    starts_as_base = False  # what stands in front of a text is read from the first

    length, init = LENGTH, INIT
    free: nn.Parameter  # (P, C); None until it is made for a base

    def __init__(self, length: int, init: str | Sequence[int], **more: object) -> None:
        super().__init__(length=length, init=init, **more)
        self.register_parameter("free", None)

    def build(self, base: Base) -> None:
        """P vectors: of the size that embeddings have, or copies of words' embeddings."""
        check_room(self.length, base)
        embedding = base.token_embedding  # its weight (V, C)
        if self.init == "random":
            start = torch.randn(self.length, embedding.embedding_dim) * embedding.weight.std().item()  # (P, C)
        else:
            start = embed(embedding, ids_to_start_from(self.init, self.length, base))[0]  # (P, C)
        self.free = nn.Parameter(start.clone())

    def vectors(self) -> Tensor:
        """What the virtual tokens stand for, (P, C)."""
        return self.free

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """The vectors alone."""
        with torch.no_grad():
            return {**self.settings, "init": "random"}, {"free": self.vectors()}


class PromptTuning(VirtualTokens):
    """Train vectors in front of the words, at the input alone: prefix tuning's "embedding only" (003 §4.2).

    They go before everything else, in a BERT after [CLS] (whose place its pooler reads), in an encoder–decoder before
    the source. The outputs at the virtual tokens are cut off: what comes back has the shape that it has without.
    """

    examples = {"prompt": {"length": 3}}

    def __init__(self, length: int = 10, init: str | Sequence[int] = "vocabulary") -> None:
        super().__init__(length, init)

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Put virtual tokens into what the base is given, and take their outputs out of what it gives."""
        P, start = self.length, int(isinstance(base, Bert))
        text, mask = ("source", "source_mask") if isinstance(base, Seq2Seq) else ("ids", "attention_mask")
        cut = False  # whether the call that is running gives outputs at virtual tokens

        def put(inputs: dict[str, Any]) -> dict[str, Any]:
            nonlocal cut
            cut = text == "ids" and is_prefill(inputs.get("cache")) and inputs.get("at") is None
            return self.put_in(inputs, text, mask, start)

        def take(module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
            return torch.cat([output[:, :start], output[:, start + P :]], dim=1) if cut else None

        return [before_each_call(base, put), base.register_forward_hook(take)]

    def put_in(self, inputs: dict[str, Any], text: str, mask: str, start: int) -> dict[str, Any]:
        """What the base is called with once the virtual tokens stand in it, a new dictionary.

        At the first call of a text its ids get P columns more, the virtual tokens, and so do the types of a BERT (0)
        and `at`, if it marks places of this text (nothing is asked at a virtual token). `vectors` says what the virtual
        tokens stand for. Later calls of a cached generation find them in the cache. The mask is lengthened at every
        call, because it covers what is cached, too.

        Args:
            inputs: the base's arguments by name; they stay as they are.
            text: which of them the virtual tokens go into, "ids" or "source".
            mask: the attention mask of that text, "attention_mask" or "source_mask".
            start: the column in front of which they go.

        Raises `UserError` for `vectors` given beside these, or a text with virtual tokens of its own.
        """
        P = self.length
        first = is_prefill(inputs.get("cache"))
        new = {mask: torch.ones(P)}
        if first:
            check_not_given(self, inputs, ["vectors"])
            check_no_virtual(inputs.get(text))
            new[text] = torch.tensor(virtual_ids(P))
            new["types"] = torch.zeros(P)
            if text == "ids":
                new["at"] = torch.zeros(P)
            inputs = {**inputs, "vectors": self.vectors()}
        return insert_columns(inputs, new, start)


def check_no_virtual(ids: Tensor | None) -> None:
    """Refuse a text (B, T) that brings virtual tokens of its own: they would get the prompt's vectors."""
    if ids is not None and bool((virtual := ids < 0).any()):
        row, column = virtual.nonzero()[0].tolist()
        raise UserError(
            f"Row {row} has the virtual token {ids[row, column].item()} at position {column}; prompt tuning puts its "
            "own in front of the text. Leave it out, or use PTuning."
        )


def insert_columns(inputs: Mapping[str, Any], new: Mapping[str, Tensor], start: int) -> dict[str, Any]:
    """Put columns into tensors (B, T), the same into every row: gives the arguments, those in `new` as (B, P+T).

    `inputs` are arguments by name; one that is absent or None stays away. `new` has each one's new columns (P), which
    go in front of the column `start`.
    """
    found = dict(inputs)
    for name, columns in new.items():
        if (x := inputs.get(name)) is not None:
            columns = columns.to(x).expand(len(x), -1)  # (B, P)
            found[name] = torch.cat([x[:, :start], columns, x[:, start:]], dim=1)  # (B, P+T)
    return found


class PTuning(VirtualTokens):
    """Train virtual tokens inside a template, made by an LSTM and an MLP.

    The text says where they are: put the ids of `virtual_ids(length)` wherever the template wants them, once each; a
    text without them is refused. `length` is that of the whole template.
    """

    reads_virtual_ids = True
    examples = {"p-tuning": {"length": 3}}

    encoder = Setting(boolean(), "Whether an LSTM and an MLP make the vectors; without, they are free.")
    lstm: nn.LSTM
    mlp: nn.Sequential

    def __init__(self, length: int = 6, init: str | Sequence[int] = "vocabulary", encoder: bool = True) -> None:
        super().__init__(length, init, encoder=encoder)
        self.register_module("lstm", None)
        self.register_module("mlp", None)

    def build(self, base: Base) -> None:
        """The vectors, and what encodes them."""
        super().build(base)
        if self.encoder:
            C = base.config.d_model
            self.lstm = nn.LSTM(C, C, num_layers=2, bidirectional=True, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(2 * C, C), nn.ReLU(), nn.Linear(C, C))

    def vectors(self) -> Tensor:
        """The encoder's output, each virtual token knowing its neighbours, (P, C).

        The LSTM reads the trained vectors (P, C), each normalised by itself to mean 0 and variance 1, as one text. The
        MLP makes C numbers of the 2·C that it gives for each. Without encoder the trained vectors are the answer.
        """
        if not self.encoder:
            return self.free
        # The embeddings are small numbers; an LSTM reads numbers of size 1.
        read = F.layer_norm(self.free, self.free.shape[-1:])  # (P, C)
        return self.mlp(self.lstm(read[None])[0][0])  # (P, C)

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Hand the vectors to the base whenever a text begins."""
        text = "source" if isinstance(base, Seq2Seq) else "ids"

        def put(inputs: dict[str, Any]) -> dict[str, Any]:
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, ["vectors"])
            check_virtual(inputs[text], self.length, "a template")
            with torch.autocast(self.free.device.type, enabled=False):  # which PyTorch's LSTM does not know everywhere
                return {**inputs, "vectors": self.vectors()}

        return [before_each_call(base, put)]

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """The encoder's output, without the encoder."""
        settings, tensors = super().stored()
        return {**settings, "encoder": False}, tensors


@torch.no_grad()
def nearest_words(vectors: Tensor, base: Base, k: int = 5) -> list[list[tuple[int, float]]]:
    """The tokens whose embeddings are most like each vector (P, C), by cosine (Lester et al. 2021, §7).

    The base's vocabulary is searched. Gives for each vector a list of k pairs (token id, cosine), Python's own numbers,
    the most alike first.
    """
    words = F.normalize(base.token_embedding.weight, dim=-1)  # (V, C)
    cosines, ids = (F.normalize(vectors, dim=-1) @ words.T).topk(k)  # (P, k)
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), cosines.tolist(), strict=True)]
