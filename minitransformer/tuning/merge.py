"""Methods that come down to other weights of the base's linear maps, and so can be written into them (合并).

A merged model runs at the base's own speed: nothing is added, nothing is hooked in. Taking what was merged away again
by subtraction would leave a rounding error, so the base's own weights are kept aside and put back bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.attention import Stacked
from minitransformer.tuning.bases import Base
from minitransformer.tuning.method import Method, attached_to


def linear_maps(base: Base) -> dict[str, tuple[nn.Linear, int]]:
    """Every linear map of a base: its name → the module that holds it, and its number in the stack there.

    W^Q, W^K and W^V, which the models stack in one matrix, have names of their own: `blocks.0.attention.q`.
    """
    maps: dict[str, tuple[nn.Linear, int]] = {}
    for name, module in base.named_modules():
        if name.startswith("tuning.") or not isinstance(module, nn.Linear):
            continue
        if isinstance(module, Stacked):
            for part, letter in enumerate(("q", "k", "v")):
                maps[f"{name.removesuffix('qkv')}{letter}"] = (module, part)
        else:
            maps[name] = (module, 0)
    return maps


class Mergeable(Method):
    """A method whose effect is other weights in some of the base's linear maps.

    All of its kind take one place: which of two such changes comes first would matter, and only one can be merged.
    """

    place = "linear maps"

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.own: dict[nn.Parameter, Tensor] = {}  # the base's weights, while others stand in their place

    @property
    def merged(self) -> bool:
        """Whether its effect stands in the base's weights now."""
        return bool(self.own)

    def new_weights(self, base: Base) -> dict[nn.Parameter, Tensor]:
        """The base's parameters that change → what they become."""
        raise NotImplementedError

    def uninstall(self, base: Base) -> None:
        """Take what was merged out again."""
        self._put_back()

    @torch.no_grad()
    def merge(self) -> None:
        """Write the effect into the base's weights. A second time does nothing.

        `own` keeps a copy of what the weights were, and is empty while nothing is merged. The hooks come out, or the
        effect would count twice. Until `unmerge` no other method can come onto the base, and the method's parameters
        ask for no gradients; a classifier's head goes on learning. Raises `UserError` for a method that is on no base.
        """
        base = self._need_base("merge")
        if self.merged:
            return
        for weight, value in self.new_weights(base).items():
            self.own[weight] = weight.detach().clone()
            weight.copy_(value)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.requires_grad_(False)

    def unmerge(self) -> None:
        """Put the base's own weights back, bit for bit, and hook in again. Without a merge before, nothing happens.

        Raises `UserError` for a method that is on no base.
        """
        base = self._need_base("unmerge")
        if self.merged:
            self._put_back()
            self._handles = list(self.install(base))
            self.requires_grad_(True)

    def merge_for_good(self) -> None:
        """Merge, and leave the base with the new weights: it is another base from now on, which can be saved.

        The method still belongs to the old weights. The new ones refuse it, for its effect is in them already. Refuses
        to do so beside other methods: what they learned was for the old weights.
        """
        base = self._need_base("merge_for_good")
        if others := [type(other).__name__ for other in attached_to(base) if other is not self]:
            raise UserError(f"{', '.join(others)} learned on the base's old weights: detach() first, then merge.")
        self.merge()
        self.own.clear()
        self.detach()

    @torch.no_grad()
    def _put_back(self) -> None:
        for weight, value in self.own.items():
            weight.copy_(value)
        self.own.clear()
