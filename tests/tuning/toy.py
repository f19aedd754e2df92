"""A method as somebody would add it: one file. The tests of what every method promises run on it like on all others."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from minitransformer.checks import nonzero
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.bases import Base
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting


class Shift(Method):
    """Add a trained vector to what every layer's feed-forward layer gives."""

    place = "shift"
    examples = {"toy-shift": {}, "toy-shift-strong": {"strength": 3.0}}

    strength = Setting(nonzero("the vector is multiplied by it"), "What is added is multiplied by it.", may_change=True)

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength=strength)
        self.shifts = nn.ParameterList()

    def build(self, base: Base) -> None:
        """A vector for each layer."""
        n = len(base.encoder) + len(base.decoder) if isinstance(base, Seq2Seq) else len(base.blocks)
        self.shifts.extend(nn.Parameter(torch.zeros(base.config.d_model)) for _ in range(n))

    def install(self, base: Base) -> Iterable[RemovableHandle]:
        """Add."""
        layers = [*base.encoder, *base.decoder] if isinstance(base, Seq2Seq) else base.blocks

        def hook(i: int) -> object:
            def add(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
                return output + self.strength * self.shifts[i].to(output.dtype)

            return add

        return [layer.mlp.register_forward_hook(hook(i)) for i, layer in enumerate(layers)]
