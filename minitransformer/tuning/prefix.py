"""Prefix tuning (前缀微调): trained keys and values in front of the text, at every layer (003 §3.3).

    z = [PREFIX; x; y],   h_i = P_θ[i, :]  if i ∈ P_idx,   h_i = LM(z_i, h_<i)  otherwise
    P_θ[i, :] = MLP_θ(P'_θ[i, :])                    reparametrisation (重参数化); the MLP is dropped afterwards

Li & Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (2021), §4.2 Eq. 3 and §4.3. What later
positions read of an activation h_i is its keys and values. Therefore a prefix is those: 2 · L · C parameters for each
of its |P_idx| = P virtual tokens, L the number of layers. (000 §1.3 and §2.1 put the prefix at the input layer alone,
with the embedding's dimension; that is prompt tuning, in `minitransformer.tuning.prompt`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checks import names, optional
from minitransformer.errors import UserError
from minitransformer.models.attention import Attention, Prefix, split_heads
from minitransformer.models.layers import in_eval_mode
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.bases import Base
from minitransformer.tuning.hooks import before_each_call, check_not_given, is_prefill
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting, size
from minitransformer.tuning.virtual import INIT, LENGTH, check_room, ids_to_start_from

RANDOM_STD = 0.5  # of random keys and values; real ones of the course's bases have a standard deviation of 0.5 to 2


def prefix_slots(base: Base) -> dict[str, list[Any]]:
    """Where a base takes prefixes: the name of `forward`'s argument → the attention of each layer that reads it.

    A GPT and a BERT take one, "prefix". An encoder–decoder takes three: "encoder_prefix" in the encoder, "prefix" in
    the decoder's self-attention and "cross_prefix" in its cross-attention. Each list begins with the lowest layer.
    """
    if isinstance(base, Seq2Seq):
        return {
            "encoder_prefix": [block.attention for block in base.encoder],
            "prefix": [block.attention for block in base.decoder],
            "cross_prefix": [block.cross for block in base.decoder],
        }
    return {"prefix": [block.attention for block in base.blocks]}


def to_prefixes(flat: Tensor, n_layer: int, n_head: int) -> list[Prefix]:
    """P_θ (P, L·2·C), L the number of layers → for each layer Prefix(keys, values), both (1, H, P, D).

    A row belongs to one virtual token: layer after layer, in each the C numbers of its key, then those of its value,
    both head after head.
    """
    parts = flat.view(len(flat), n_layer, 2, n_head, -1).permute(1, 2, 3, 0, 4)  # n_layer × 2 × (H, P, D)
    return [Prefix(k[None], v[None]) for k, v in parts]


def to_flat(prefixes: Sequence[Prefix]) -> Tensor:
    """The reverse of `to_prefixes`, for prefixes of batch 1."""
    parts = torch.stack([torch.stack([p.k[0], p.v[0]]) for p in prefixes])  # n_layer × 2 × (H, P, D)
    return parts.permute(3, 0, 1, 2, 4).flatten(1)  # (P, n_layer*2*C)


@torch.no_grad()
def activations(base: Base, ids: Tensor) -> dict[str, list[Prefix]]:
    """The keys and values that a real text has in every layer: a prefix set to them is that text (003 §4.2).

    The text is token ids (1, P), of an encoder–decoder source and target both. The base reads it without prefix and
    dropout. Gives slot → a `Prefix` for each layer.
    """
    found: dict[str, list[Prefix]] = {slot: [] for slot in prefix_slots(base)}

    def note(slot: str, layer: Attention, args: tuple) -> None:
        found[slot].append(keys_and_values_of(layer, *args[:2]))

    hooks = [
        layer.register_forward_pre_hook(partial(note, slot))
        for slot, layers in prefix_slots(base).items()
        for layer in layers
    ]
    try:
        with in_eval_mode(base):
            base(ids, **({"source": ids} if isinstance(base, Seq2Seq) else {}))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def keys_and_values_of(layer: Attention, x: Tensor, context: Tensor | None = None) -> Prefix:
    """The keys and values that a layer of attention makes of what it reads: a Prefix, (B, H, T, D) each.

    They come from x (B, T, C) as the queries do; in cross-attention from the context (B, S, C), and are (B, H, S, D).
    """
    read = x if context is None else context
    _, k, v = split_heads(layer.qkv(read), 3, layer.n_head)
    return Prefix(k, v)


class PrefixEncoder(nn.Module):
    """P_θ, the keys and values of P virtual tokens: free, or made by an MLP from a smaller matrix P'_θ (003 §3.3).

    Args:
        start: what P_θ should begin as, (P, width).
        hidden: the width inside the MLP; None for free parameters.
        d_small: the width of P'_θ.
        fit: whether `start` matters: the MLP is then fitted to it, and otherwise left as it falls out.
    """

    free: nn.Parameter | None  # (P, width)

    def __init__(self, start: Tensor, hidden: int | None, d_small: int, fit: bool) -> None:
        """Make `free`, the parameter P_θ; or `small`, the parameter P'_θ (P, d_small), and `mlp`, which makes P_θ.

        The MLP is Linear, Tanh, Linear; `free` is None where there is one. P'_θ begins with the standard normal
        distribution. An MLP that is fitted lies on the device of `start` and has its precision.
        """
        super().__init__()
        P, width = start.shape
        if hidden is None:
            self.free = nn.Parameter(start.clone())
            return
        self.free = None
        self.small = nn.Parameter(torch.randn(P, d_small))  # P'_θ
        self.mlp = nn.Sequential(nn.Linear(d_small, hidden), nn.Tanh(), nn.Linear(hidden, width))
        if fit:
            self.to(start).fit(start)

    def forward(self) -> Tensor:
        """P_θ (P, width)."""
        return self.mlp(self.small) if self.free is None else self.free

    def fit(self, target: Tensor, steps: int = 200) -> None:
        """Find MLP and P'_θ whose output is `target` (P, width), by least squares; also where gradients are off."""
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        with torch.enable_grad():
            for _ in range(steps):
                optimizer.zero_grad()
                F.mse_loss(self(), target).backward()
                optimizer.step()


def new_encoder(
    base: Base, n_layer: int, length: int, hidden: int | None, start: Sequence[Prefix] | None
) -> PrefixEncoder:
    """P_θ for so many layers, which begins as `start`, keys and values of each layer; at random without."""
    if start is None:
        flat = torch.randn(length, n_layer * 2 * base.config.d_model) * RANDOM_STD  # (P, n_layer*2*C)
    else:
        flat = to_flat(start)  # (P, n_layer*2*C)
    return PrefixEncoder(flat, hidden, base.config.d_model, fit=start is not None)


REPARAMETRISE = Setting(
    optional(size("an MLP has at least one unit inside")),
    "The width inside the MLP that makes P_θ while training; None trains P_θ itself.",
)


class PrefixTuning(Method):
    """Train keys and values in front of the text, at every layer.

    Where only the top `layers` have one, the text's positions start at 0, because it is the lowest layer's prefix that
    takes positions.
    """

    place = "context"
    examples = {
        "prefix": {"length": 3},
        "prefix-mlp": {"length": 3, "reparametrise": 16},
        "prefix-top": {"length": 3, "layers": 1},
    }
    when_loaded = {"init": "random"}
    renamed = {"tables.": "encoders."}
    starts_as_base = False  # keys take attention, even keys of zeros

    length, reparametrise, init = LENGTH, REPARAMETRISE, INIT
    slots = Setting(
        optional(names('["prefix"]')),
        "Which of an encoder–decoder's three it fills (see `prefix_slots`); None for all.",
    )
    layers = Setting(
        optional(size("a prefix in no layer would tune nothing")),
        "How many layers, from the top, get a prefix; None for all.",
    )

    def __init__(
        self,
        length: int = 10,
        reparametrise: int | None = None,
        init: str | Sequence[int] = "random",
        slots: Sequence[str] | None = None,
        layers: int | None = None,
    ) -> None:
        super().__init__(length=length, reparametrise=reparametrise, init=init, slots=slots, layers=layers)
        self.encoders = nn.ModuleDict()  # slot → what makes its P_θ
        self._n_layer: dict[str, int] = {}  # slot → how many layers the base has there
        self._n_head = 0

    def build(self, base: Base) -> None:
        """An encoder for each slot."""
        check_room(self.length, base)
        everywhere = prefix_slots(base)
        if unknown := [slot for slot in self.slots or () if slot not in everywhere]:
            raise UserError(
                f"slots = {self.slots}: a {type(base).__name__} has {', '.join(everywhere)}, and no {unknown[0]!r}."
            )
        n_layer = min(len(everywhere[slot]) for slot in self.slots or everywhere)
        if self.layers is not None and self.layers > n_layer:
            raise UserError(f"layers = {self.layers}: this base has {n_layer} layers for a prefix; 1 to {n_layer} can.")
        starts: dict[str, list[Prefix]] = {}
        if self.init != "random":
            starts = activations(base, ids_to_start_from(self.init, self.length, base))
        self._n_head = base.config.n_head
        for slot, attentions in everywhere.items():
            self._n_layer[slot] = len(attentions)
            if self.slots is None or slot in self.slots:
                n_top = self.layers or len(attentions)
                start = starts[slot][-n_top:] if starts else None
                self.encoders[slot] = new_encoder(base, n_top, self.length, self.reparametrise, start)

    def prefixes(self) -> dict[str, list[Prefix]]:
        """The arguments of the base that carry the prefix: slot → a list with a `Prefix` for each layer.

        A layer below the top `layers` gets a prefix of length 0, keys and values (1, H, 0, D). All is computed anew at
        every call, because a prefix kept from one training step to the next would be stale.
        """
        prefixes = {}
        for slot, encoder in self.encoders.items():
            n_top = self.layers or self._n_layer[slot]
            top = to_prefixes(encoder(), n_top, self._n_head)
            none = Prefix(*(part[:, :, :0] for part in top[0]))  # (1, H, 0, D)
            prefixes[slot] = [none] * (self._n_layer[slot] - n_top) + top
        return prefixes

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Hand the prefix to the base, at the first call of a cached generation and at every call without cache.

        A prefix that the caller gives for one of the slots is refused with a `UserError`.
        """

        def give(inputs: dict[str, Any]) -> dict[str, Any]:
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, self.encoders)
            return {**inputs, **self.prefixes()}

        return [before_each_call(base, give)]

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """P_θ itself, without the MLP that made it."""
        settings = {**self.settings, "reparametrise": None, "init": "random"}
        with torch.no_grad():
            return settings, {f"encoders.{slot}.free": encoder() for slot, encoder in self.encoders.items()}

    def drop_mlp(self) -> None:
        """Replace the MLP by what it gives (003 §3.3): the same prefix with fewer parameters, free from here on."""
        with torch.no_grad():
            for slot, encoder in self.encoders.items():
                self.encoders[slot] = PrefixEncoder(encoder(), None, 0, fit=False)
        self.settings = {**self.settings, "reparametrise": None}


def for_each_row(methods: Sequence[PrefixTuning]) -> dict[str, list[Prefix]]:
    """The prefixes of several methods, one for each row of a batch: pass them to the base, or to `generate`.

    The methods were built for the same base (attached or not), of one length; others are refused. Gives slot → a list
    with a Prefix(keys, values) for each layer, (B, H, P, D).
    """
    if not methods:
        raise UserError("There is no row: give one method for each.")
    other = next((type(method).__name__ for method in methods if not isinstance(method, PrefixTuning)), None)
    if other:
        raise UserError(f"A {other} has no prefix to give a row of its own: only PrefixTuning methods can be mixed.")
    if any(method.fingerprint is None for method in methods):
        raise UserError("Only a prefix that was once attached has parameters: attach() each before, or load it.")
    if len({method.fingerprint for method in methods}) > 1:
        raise UserError("These prefixes belong to different bases; one batch runs on one base.")
    if len({(method.length, tuple(sorted(method.encoders)), method.layers) for method in methods}) > 1:
        raise UserError(
            f"The prefixes have the lengths {[method.length for method in methods]}, the slots "
            f"{[sorted(method.encoders) for method in methods]} and layers = {[method.layers for method in methods]}: "
            "in one batch all have to be alike, for a column too many would be seen."
        )
    return stack_rows([method.prefixes() for method in methods])


def stack_rows(rows: Sequence[Mapping[str, Sequence[Prefix]]]) -> dict[str, list[Prefix]]:
    """Prefixes for one row each → prefixes for the whole batch.

    Each row is what `PrefixTuning.prefixes` gives: slot → a Prefix(keys, values) for each layer, both (1, H, P, D), of
    the same slots and layers. Gives the same with B in the place of 1, the rows in their order.
    """
    return {
        slot: [
            Prefix(*(torch.cat(parts) for parts in zip(*layer, strict=True)))
            for layer in zip(*(prefixes[slot] for prefixes in rows), strict=True)
        ]
        for slot in rows[0]
    }
