"""Soft prompts (软提示): trained vectors among the words at the input, and nowhere else.

Prompt tuning (Lester et al. 2021) puts free vectors P in front of the embedded text, X = [P; E(input)] (001 §3.1.4).
P-tuning (Liu et al. 2021) puts them inside a template and makes them with a small LSTM and an MLP, which are dropped
afterwards. 001 §3.1.4 calls the first by the second's name. Both train P · C numbers, or what makes them; 000 §1.3 and
§2.1 describe them where they say prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.layers import embed
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.method import Base, Method, before_each_call, check_not_given
from minitransformer.tuning.prefix import (
    check_length,
    check_room,
    check_virtual,
    checked_init,
    is_prefill,
    virtual_ids,
    words,
)


class VirtualTokens(Method):
    """What prompt tuning and P-tuning share: vectors that virtual tokens stand for."""

    place = "context"
    when_loaded = {"init": "random"}

    def __init__(self, length: int, init: str | Sequence[int]) -> None:
        init = checked_init(init)
        super().__init__(length=length, init=init)
        check_length(length)
        self.length, self.init = length, init
        self.free: nn.Parameter | None = None  # (P, C)

    def build(self, base: Base) -> None:
        """P vectors: of the size that embeddings have, or copies of words' embeddings."""
        check_room(self.length, base)
        table = base.token_embedding  # its weight (V, C)
        if self.init == "random":
            start = torch.randn(self.length, table.embedding_dim) * table.weight.std().item()  # (P, C)
        else:
            start = embed(table, words(self.init, self.length, base))[0]  # (P, C)
        self.free = nn.Parameter(start.clone())

    def vectors(self) -> Tensor:
        """What the virtual tokens stand for, (P, C)."""
        return self.free

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """The vectors alone."""
        with torch.no_grad():
            return {**self.settings, "init": "random"}, {"free": self.vectors()}


class PromptTuning(VirtualTokens):
    """Train P vectors in front of the words: prompt tuning, or prefix tuning's "embedding only" (003 §4.2).

    They go before everything else, in a BERT after [CLS] (whose place its pooler reads), in an encoder–decoder before
    the source. The outputs at the virtual tokens are cut off: what comes back has the shape that it has without.

    Args:
        length: P.
        init: "random"; "vocabulary", embeddings of words drawn from the vocabulary; or token ids, whose embeddings it
            starts as (repeated, or cut, to P).

    Raises:
        UserError: a length that is no whole number from 1 on, an init that is none; at `attach`, a length that the
            positions do not allow; when the base is called, `vectors` given beside these, or a text with virtual tokens
            of its own.
    """

    def __init__(self, length: int = 10, init: str | Sequence[int] = "vocabulary") -> None:
        super().__init__(length, init)

    def install(self, base: Base) -> Iterable[Any]:
        """Put virtual tokens into what the base is given, and take their outputs out of what it gives."""
        P, start = self.length, int(isinstance(base, Bert))
        text, mask = ("source", "source_mask") if isinstance(base, Seq2Seq) else ("ids", "attention_mask")
        cut = False  # whether the call that is running has outputs at virtual tokens

        def widen(inputs: dict[str, Any], name: str, value: Tensor) -> None:
            if (x := inputs.get(name)) is not None:
                value = value.to(x).expand(len(x), -1)  # (B, P)
                inputs[name] = torch.cat([x[:, :start], value, x[:, start:]], dim=1)  # (B, P+T)

        def put(inputs: dict[str, Any]) -> dict[str, Any]:
            """Change what the base is called with, and say in `cut` whether `take` has rows to cut off.

            is_prefill(inputs.get("cache")) is True without a cache and while it is empty. check_not_given(self,
            inputs, names) and check_no_virtual(ids) refuse what the caller must not give, or do nothing.
            virtual_ids(P) is a list of P ids; self.vectors(), (P, C), is what they stand for: the base's `vectors`.
            widen(inputs, name, value) puts the P numbers of `value` into every row of inputs[name], where the virtual
            tokens stand; an input that is not given stays away.
            """
            nonlocal cut
            # ⟨answer⟩
            first = is_prefill(inputs.get("cache"))
            cut = first and text == "ids" and inputs.get("at") is None
            widen(inputs, mask, torch.ones(P))  # at every call: it covers what is cached, and so the virtual tokens
            if first:
                check_not_given(self, inputs, ["vectors"])
                check_no_virtual(inputs.get(text))
                widen(inputs, text, torch.tensor(virtual_ids(P)))
                widen(inputs, "types", torch.zeros(P))
                if text == "ids":
                    widen(inputs, "at", torch.zeros(P))
                inputs["vectors"] = self.vectors()
            # ⟨/answer⟩
            return inputs

        def take(module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
            return torch.cat([output[:, :start], output[:, start + P :]], dim=1) if cut else None

        return [before_each_call(base, put), base.register_forward_hook(take)]


class PTuning(VirtualTokens):
    """Train virtual tokens inside a template, made by an LSTM and an MLP (P-tuning, Liu et al. 2021).

    The text says where they are: put the ids of `virtual_ids(length)` wherever the template wants them, once each.

    Args:
        length: P, of the whole template.
        init: as in `PromptTuning`, of the vectors that the encoder reads.
        encoder: whether an LSTM and an MLP stand between the trained vectors and the base; without, they are free.

    Raises:
        UserError: as `PromptTuning`; when the base is called, a text without these virtual tokens.
    """

    def __init__(self, length: int = 6, init: str | Sequence[int] = "vocabulary", encoder: bool = True) -> None:
        super().__init__(length, init)
        self.settings["encoder"] = self.encoder = encoder
        self.lstm: nn.LSTM | None = None
        self.mlp: nn.Sequential | None = None

    def build(self, base: Base) -> None:
        """The vectors, and what encodes them."""
        super().build(base)
        if self.encoder:
            C = base.config.d_model
            self.lstm = nn.LSTM(C, C, num_layers=2, bidirectional=True, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(2 * C, C), nn.ReLU(), nn.Linear(C, C))

    def vectors(self) -> Tensor:
        """The encoder's output, each virtual token knowing its neighbours, (P, C).

        It reads the table self.free (P, C), each row normalised by itself (to mean 0 and variance 1, as F.layer_norm
        does). self.lstm makes of one text (1, P, C) a pair, its outputs (1, P, 2·C) and its last states; self.mlp makes
        C numbers of each 2·C. Without encoder (self.encoder is False) the table itself is the answer.
        """
        if not self.encoder:
            return self.free
        # The embeddings are small numbers; an LSTM reads numbers of size 1.
        read = F.layer_norm(self.free, self.free.shape[-1:])  # (P, C)
        return self.mlp(self.lstm(read[None])[0][0])  # (P, C)

    def install(self, base: Base) -> Iterable[Any]:
        """Hand the vectors to the base whenever a text begins."""
        text = "source" if isinstance(base, Seq2Seq) else "ids"

        def put(inputs: dict[str, Any]) -> dict[str, Any]:
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, ["vectors"])
            check_virtual(inputs[text], self.length, "a template")
            return {**inputs, "vectors": self.vectors()}

        return [before_each_call(base, put)]

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """The encoder's output, without the encoder."""
        settings, tensors = super().stored()
        return {**settings, "encoder": False}, tensors


def check_no_virtual(ids: Tensor | None) -> None:
    """Refuse a text (B, T) that brings virtual tokens of its own: they would get the prompt's vectors.

    Raises:
        UserError: naming the first.
    """
    if ids is not None and (virtual := ids < 0).any():
        row, column = virtual.nonzero()[0].tolist()
        raise UserError(
            f"Row {row} has the virtual token {ids[row, column].item()} at position {column}; prompt tuning puts its "
            "own in front of the text. Leave it out, or use PTuning."
        )


@torch.no_grad()
def nearest_words(vectors: Tensor, base: Base, k: int = 5) -> list[list[tuple[int, float]]]:
    """The tokens whose embeddings are most like each vector, by cosine (Lester et al. 2021, §7).

    Args:
        vectors: (P, C).
        base: its vocabulary is searched, base.token_embedding.weight (V, C).
        k: how many for each.

    Returns:
        For each vector a list of k pairs (token id, cosine), Python's own numbers, the most alike first.
    """
    table = F.normalize(base.token_embedding.weight, dim=-1)  # (V, C)
    cosines, ids = (F.normalize(vectors, dim=-1) @ table.T).topk(k)  # (P, k)
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), cosines.tolist(), strict=True)]
