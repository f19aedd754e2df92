"""Prefix tuning (前缀微调): trained keys and values in front of the text, at every layer (003 §3.3).

    z = [PREFIX; x; y],   h_i = P_θ[i, :]  if i ∈ P_idx,   h_i = LM(z_i, h_<i)  otherwise
    P_θ[i, :] = MLP_θ(P'_θ[i, :])                    reparametrisation (重参数化); the MLP is dropped afterwards

What later positions read of an activation h_i is its keys and values. So a prefix is those: 2 · L · C numbers for each
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

from minitransformer.errors import UserError
from minitransformer.models.attention import Attention, Prefix, split_heads
from minitransformer.models.cache import KVCache
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.method import Base, Method, before_each_call, check_count, check_not_given

RANDOM_STD = 0.5  # of random keys and values; real ones of the course's bases have a standard deviation of 0.5 to 2


def prefix_slots(base: Base) -> dict[str, list[Attention]]:
    """Where a base takes prefixes: the name of the argument, and the attention of each layer that reads it.

    A GPT and a BERT take one, "prefix", in their `blocks`; an encoder–decoder takes "encoder_prefix" in the layers of
    its `encoder`, "prefix" and "cross_prefix" in those of its `decoder`. A layer's self-attention is its `attention`, a
    decoder's layer has `cross` beside it.

    Returns:
        Slot → the `Attention` modules, a list from the lowest layer up.
    """
    if isinstance(base, Seq2Seq):
        return {
            "encoder_prefix": [block.attention for block in base.encoder],
            "prefix": [block.attention for block in base.decoder],
            "cross_prefix": [block.cross for block in base.decoder],
        }
    return {"prefix": [block.attention for block in base.blocks]}


def is_prefill(cache: Sequence[Any] | None) -> bool:
    """Whether nothing is cached yet: only then a prefix, or a prompt, still has to go in."""
    if not cache:
        return True
    own = cache[0] if isinstance(cache[0], KVCache) else cache[0].own
    return own.length == 0


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

    Args:
        base: the model, without a prefix; nothing is dropped while it reads.
        ids: token ids (1, P); of an encoder–decoder, source and target both.

    Returns:
        Slot → a `Prefix` for each layer.
    """
    found: dict[str, list[Prefix]] = {slot: [] for slot in prefix_slots(base)}

    def keep_them(slot: str, layer: Attention, args: tuple) -> None:
        """Add a Prefix(keys, values), both (1, H, P, D), to found[slot].

        args begin with x (1, P, C) and the context (1, P, C), None in self-attention. layer.qkv(·) is (1, P, 3·C),
        queries, keys and values side by side; split_heads(stacked, n_part, layer.n_head) takes n_part such apart.
        """
        # ⟨answer⟩
        read = args[0] if args[1] is None else args[1]  # (1, P, C)  the text itself, or the source that is read across
        _, k, v = split_heads(layer.qkv(read), 3, layer.n_head)  # (1, H, P, D)
        found[slot].append(Prefix(k, v))
        # ⟨/answer⟩

    hooks = [
        layer.register_forward_pre_hook(partial(keep_them, slot))
        for slot, layers in prefix_slots(base).items()
        for layer in layers
    ]
    was_training = base.training
    base.eval()
    try:
        base(ids, **({"source": ids} if isinstance(base, Seq2Seq) else {}))
    finally:
        base.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


class Table(nn.Module):
    """P_θ, the numbers of P virtual tokens: free, or made by an MLP from a smaller table P'_θ (003 §3.3).

    Args:
        start: what it should begin as, (P, width).
        hidden: the width inside the MLP, None for free numbers.
        d_small: the width of P'_θ.
        fit: whether `start` matters: the MLP is then fitted to it, and otherwise left as it falls out.
    """

    def __init__(self, start: Tensor, hidden: int | None, d_small: int, fit: bool) -> None:
        """Make `free`, the parameter P_θ; or `small`, the parameter P'_θ (P, d_small), and `mlp`, which makes P_θ.

        The MLP is a Sequential of Linear, Tanh, Linear. `free` is None where there is one. P'_θ begins as numbers of
        the standard normal distribution. If it is to be fitted, the module first goes where `start` is (self.to(start):
        device and kind of number); self.fit(start) then does it.
        """
        super().__init__()
        P, width = start.shape
        if hidden is None:
            self.free = nn.Parameter(start.clone())  # (P, width)
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
        """Find MLP and small table whose output is `target` (P, width), by least squares.

        Also where gradients are switched off, as they are while a method is built.
        """
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        with torch.enable_grad():
            for _ in range(steps):
                optimizer.zero_grad()
                F.mse_loss(self(), target).backward()
                optimizer.step()


class PrefixTuning(Method):
    """Train keys and values in front of the text at every layer, and nothing else.

    Args:
        length: P, the virtual tokens.
        reparametrise: the width inside the MLP that makes P_θ while training; None trains P_θ itself.
        init: "random"; "vocabulary", the activations of words drawn from the vocabulary; or the token ids of words,
            whose activations it starts as (repeated, or cut, to P). (003 §4.2: words of the task are best.)
        slots: which of an encoder–decoder's three to fill ("encoder_prefix", "prefix", "cross_prefix"); None for all.
        layers: only the top so many layers get a prefix, those below none; None for all. (The text's positions then
            start at 0: it is the lowest layer's prefix that takes positions.)

    Raises:
        UserError: a length or a width that is no whole number from 1 on, or an init that is none. At `attach`: slots or
            layers that the base does not have, or a length that its positions do not allow. When the base is called: a
            prefix given beside this one.
    """

    place = "context"
    when_loaded = {"init": "random"}

    def __init__(
        self,
        length: int = 10,
        reparametrise: int | None = None,
        init: str | Sequence[int] = "random",
        slots: Sequence[str] | None = None,
        layers: int | None = None,
    ) -> None:
        init, slots = checked_init(init), None if slots is None else list(slots)
        super().__init__(length=length, reparametrise=reparametrise, init=init, slots=slots, layers=layers)
        check_length(length, reparametrise)
        if layers is not None:
            check_count("layers", layers, "a prefix in no layer would tune nothing")
        self.length, self.reparametrise, self.init, self.slots, self.layers = length, reparametrise, init, slots, layers
        self.tables = nn.ModuleDict()  # slot → P_θ
        self._layers: dict[str, int] = {}  # slot → how many layers the base has there
        self._n_head = 0

    def build(self, base: Base) -> None:
        """A table for each slot."""
        check_room(self.length, base)
        everywhere = prefix_slots(base)
        unknown = [slot for slot in self.slots or () if slot not in everywhere]
        if unknown or self.slots == []:
            raise UserError(
                f"slots = {self.slots}: a {type(base).__name__} has {', '.join(everywhere)}; name one or more of them."
            )
        n_layer = min(len(everywhere[slot]) for slot in self.slots or everywhere)
        if self.layers is not None and self.layers > n_layer:
            raise UserError(f"layers = {self.layers}: this base has {n_layer} layers for a prefix; 1 to {n_layer} can.")
        starts = {} if self.init == "random" else activations(base, words(self.init, self.length, base))
        self._n_head = base.config.n_head
        for slot, layers in everywhere.items():
            self._layers[slot] = len(layers)
            if self.slots is None or slot in self.slots:
                top = layers[-(self.layers or len(layers)) :]
                width = len(top) * 2 * base.config.d_model
                if starts:
                    start = to_flat(starts[slot][-len(top) :])  # (P, width)
                else:
                    start = torch.randn(self.length, width) * RANDOM_STD  # (P, width)
                self.tables[slot] = Table(start, self.reparametrise, base.config.d_model, fit=bool(starts))

    def prefixes(self) -> dict[str, list[Prefix]]:
        """The arguments that carry the prefix: slot → a list with a `Prefix` for each layer.

        self.tables[slot]() is P_θ (P, n·2·C) of a slot's top n layers, n = self.layers, or all self._layers[slot] of
        them where that is None; to_prefixes(flat, n_layer, self._n_head) unpacks it. A layer below gets a prefix of
        length 0, keys and values (1, H, 0, D). All is computed anew at every call: a prefix kept from one training step
        to the next would be stale.
        """
        prefixes = {}
        for slot, table in self.tables.items():
            n_top = self.layers or self._layers[slot]
            top = to_prefixes(table(), n_top, self._n_head)
            none = Prefix(*(part[:, :, :0] for part in top[0]))  # (1, H, 0, D)
            prefixes[slot] = [none] * (self._layers[slot] - n_top) + top
        return prefixes

    def install(self, base: Base) -> Iterable[Any]:
        """Hand the prefix to the base, at the first call of a cached generation and at every call without cache.

        self.prefixes() is the prefix as it is now: the base's arguments by name, one for each slot in self.tables.
        before_each_call(base, change) hooks in a function from the call's inputs (a dictionary, by argument) to what
        the base is given instead, and gives the hook's handle; is_prefill(inputs.get("cache")) is True without a
        cache and while it is empty. An argument given beside the prefix is refused (None is none):
        check_not_given(self, inputs, names).

        Returns:
            A list of the handles, here of one, by which `detach` takes the hooks out.
        """

        def give(inputs: dict[str, Any]) -> dict[str, Any]:
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, self.tables)
            return {**inputs, **self.prefixes()}

        return [before_each_call(base, give)]

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """P_θ itself, without the MLP that made it."""
        settings = {**self.settings, "reparametrise": None, "init": "random"}
        with torch.no_grad():
            return settings, {f"tables.{slot}.free": table() for slot, table in self.tables.items()}

    def drop_mlp(self) -> None:
        """Replace the MLP by what it gives (003 §3.3): the same prefix, with fewer numbers, and free from here on."""
        with torch.no_grad():
            for slot, table in self.tables.items():
                self.tables[slot] = Table(table(), None, 0, fit=False)
        self.reparametrise = None
        self.settings = {**self.settings, "reparametrise": None}


class Infix(Method):
    """Trained keys and values between x and y, z = [x; INFIX; y] (003 §4.2): x cannot see them, y can.

    The text says where: put `virtual_ids` after x. (In front of x it would be a prefix.) In the original code the infix
    keeps what its virtual tokens read, and adds to it; here, as in the formula of 003 §3.3, h_i is P_θ[i, :] itself.

    Args:
        length: P.
        reparametrise: as in `PrefixTuning`.
        init: as in `PrefixTuning`.

    Raises:
        UserError: as `PrefixTuning`. At `attach`: a base that is no GPT. When the base is called: a text without these
            virtual tokens.
    """

    place = "context"
    when_loaded = {"init": "random"}

    def __init__(
        self, length: int = 10, reparametrise: int | None = None, init: str | Sequence[int] = "random"
    ) -> None:
        init = checked_init(init)
        super().__init__(length=length, reparametrise=reparametrise, init=init)
        check_length(length, reparametrise)
        self.length, self.reparametrise, self.init = length, reparametrise, init
        self.table: Table | None = None

    def build(self, base: Base) -> None:
        """One table for all layers."""
        if not isinstance(base, GPT):
            raise UserError(
                f"An infix stands between x and y in one text: it needs a GPT, this is a {type(base).__name__}."
            )
        check_room(self.length, base)
        width = base.config.n_layer * 2 * base.config.d_model
        if self.init == "random":
            start = torch.randn(self.length, width) * RANDOM_STD  # (P, width)
        else:
            start = to_flat(activations(base, words(self.init, self.length, base))["prefix"])  # (P, width)
        self.table = Table(start, self.reparametrise, base.config.d_model, fit=self.init != "random")

    def install(self, base: GPT) -> Iterable[Any]:
        """Note where the virtual tokens are, and put their keys and values there in every layer."""
        where: dict[str, Tensor] = {}  # of the call that is running

        def note(inputs: dict[str, Any]) -> dict[str, Any]:
            ids = inputs["ids"]  # (B, T)
            where.clear()
            if not is_prefill(inputs.get("cache")):
                return inputs
            check_not_given(self, inputs, ["vectors"])
            check_virtual(ids, self.length, "an infix")
            table = self.table()  # (P, n_layer*2*C)
            where.update(at=ids < 0, number=-1 - ids[ids < 0], table=table)
            # They enter as zeros: others read their keys and values, which are replaced. Only what the last one says
            # about the next token is asked for, if y follows at once.
            return {**inputs, "vectors": table.new_zeros(self.length, base.config.d_model)}

        def put(i: int, module: nn.Linear, args: tuple, qkv: Tensor) -> Tensor | None:
            """What layer i's qkv (B, T, 3·C), queries, keys and values side by side, become.

            where["at"] (B, T) is True at the virtual tokens of the batch, N in all. where["number"] (N), one entry for
            each of these in reading order, row after row, says which virtual token it is, 0 for the id -1, 1 for -2, …:
            the row of where["table"] (P, L·2·C) that it takes.
            """
            if not where:
                return None
            # ⟨answer⟩
            C = base.config.d_model
            kv = where["table"][:, 2 * C * i : 2 * C * (i + 1)][where["number"]]  # rows of 2·C
            return torch.cat([qkv[..., :C], qkv[..., C:].masked_scatter(where["at"][..., None], kv)], dim=-1)
            # ⟨/answer⟩

        hooks = [before_each_call(base, note)]
        for i, block in enumerate(base.blocks):
            hooks.append(block.attention.qkv.register_forward_hook(partial(put, i)))
        return hooks

    def stored(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        """P_θ itself, without the MLP that made it."""
        with torch.no_grad():
            return {**self.settings, "reparametrise": None, "init": "random"}, {"table.free": self.table()}


def virtual_ids(length: int) -> list[int]:
    """The ids of virtual tokens 0 … length-1, to stand in a text: [-1, -2, …]."""
    return [-1 - i for i in range(length)]


def check_virtual(ids: Tensor, length: int, what: str) -> None:
    """Refuse a text (B, T) in which not each of the virtual tokens stands once.

    Raises:
        UserError: naming the row.
    """
    found = F.pad(ids, (0, length)).clamp(max=0).sort(dim=1).values  # (B, T+P)  the virtual ids, then zeros
    wanted = F.pad(torch.arange(-length, 0, device=ids.device), (0, ids.size(1)))  # (T+P)
    wrong = (found != wanted).any(dim=1).nonzero()[:, 0].tolist()
    if wrong:
        row = ids[wrong[0]]
        raise UserError(
            f"Row {wrong[0]} has the virtual tokens {row[row < 0].tolist()} where {what} of length {length} belongs: "
            f"put virtual_ids({length}) into each text, at the place where it is to be, once."
        )


def for_each_row(methods: Sequence[PrefixTuning]) -> dict[str, list[Prefix]]:
    """The prefixes of several methods, one for each row of a batch: pass them to the base, or to `generate`.

    Args:
        methods: one for each row, built for the same base (attached or not), of one length.

    Returns:
        slot → a list with a Prefix(keys, values) for each layer, (B, H, P, D): what each method's prefixes() gives,
        where B is 1, row by row.

    Raises:
        UserError: no method, another than PrefixTuning, one that was never attached, or different lengths, slots,
            layers or bases.
    """
    if not methods:
        raise UserError("There is no row: give one method for each.")
    other = next((type(method).__name__ for method in methods if not isinstance(method, PrefixTuning)), None)
    if other:
        raise UserError(f"A {other} has no prefix to give a row of its own: only PrefixTuning methods can be mixed.")
    if any(method.fingerprint is None for method in methods):
        raise UserError("Only a prefix that was once attached has numbers: attach() each before, or load it.")
    if len({method.fingerprint for method in methods}) > 1:
        raise UserError("These prefixes belong to different bases; one batch runs on one base.")
    if len({(method.length, tuple(sorted(method.tables)), method.layers) for method in methods}) > 1:
        raise UserError(
            f"The prefixes have the lengths {[method.length for method in methods]}, the slots "
            f"{[sorted(method.tables) for method in methods]} and layers = {[method.layers for method in methods]}: in "
            "one batch all have to be alike, for a column too many would be seen."
        )
    # ⟨answer⟩
    each = [method.prefixes() for method in methods]
    mixed = {
        slot: [
            Prefix(*(torch.cat(parts) for parts in zip(*layer, strict=True)))
            for layer in zip(*(prefixes[slot] for prefixes in each), strict=True)
        ]
        for slot in each[0]
    }
    # ⟨/answer⟩
    return mixed


def check_length(length: int, reparametrise: int | None = None) -> None:
    """Refuse a method of no virtual token, and an MLP that is no number wide."""
    check_count("length", length, "a method without virtual tokens would tune nothing")
    if reparametrise is not None:
        check_count("reparametrise", reparametrise, "an MLP has at least one number inside")


def checked_init(init: str | Sequence[int]) -> str | list[int]:
    """The init as a saved file can say it; refuses one that is none."""
    if isinstance(init, str) and init not in ("random", "vocabulary") or not len(init):
        raise UserError(f'init = {init!r}: it has to be "random", "vocabulary", or the token ids of words.')
    return init if isinstance(init, str) else [int(i) for i in init]


def check_room(length: int, base: Base) -> None:
    """Refuse more virtual tokens than the base has positions for, or as many."""
    limit = base.config.n_positions
    if length >= limit:
        raise UserError(
            f"{length} virtual tokens leave no room for a text: this base has n_positions = {limit}. Make it shorter."
        )


def words(init: str | list[int], length: int, base: Base) -> Tensor:
    """The token ids (1, P) that virtual tokens start as."""
    if init == "vocabulary":
        ids = torch.randint(base.config.vocab_size, (1, length))  # (1, P)
    else:
        ids = torch.tensor([[init[i % len(init)] for i in range(length)]])  # (1, P)
    return ids.to(base.token_embedding.weight.device)
