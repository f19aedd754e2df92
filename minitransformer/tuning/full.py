"""Full fine-tuning (全参数微调), tuning the top layers only or the biases only, as methods like the others (004 §3.2).

004 §1.2 says that fine-tuning "adjusts a few of the parameters"; full fine-tuning adjusts all of them, and that is why
a copy of the whole model has to be kept for every task (003 §1).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from minitransformer.checkpoint import check_tensors
from minitransformer.errors import UserError
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.tuning.bases import Base, base_parameters
from minitransformer.tuning.method import Method
from minitransformer.tuning.settings import Setting, size


class FullFineTuning(Method):
    """Train every parameter of the base; when it leaves, the base's own weights come back."""

    place = "base"
    examples = {"full": {}}

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.before: dict[str, Tensor] = {}  # the base's own weights, while it is attached
        self.tuned: dict[str, Tensor] = {}  # the tuned ones, while it is not

    def names(self, base: Base) -> list[str]:
        """The parameters that it trains."""
        return list(base_parameters(base))

    def build(self, base: Base) -> None:
        """It brings no parameters of its own: it starts from the base's."""
        self.names(base)  # refuses a base with fewer layers, before anything has changed

    def install(self, base: Base) -> tuple[()]:
        """Keep a copy of the base's own weights, and put the tuned ones in, if it was attached before.

        The parameters that it trains ask for gradients from here on, because attaching froze the base. Gives no
        handles: nothing is hooked in.
        """
        own = base_parameters(base)
        for name in self.names(base):
            self.before[name] = own[name].detach().clone()
            if name in self.tuned:
                own[name].data.copy_(self.tuned[name])
            own[name].requires_grad_(True)
        return ()

    def uninstall(self, base: Base) -> None:
        """Take the tuned weights out, and put the base's own back."""
        own = base_parameters(base)
        for name, value in self.before.items():
            self.tuned[name] = own[name].detach().clone()
            own[name].data.copy_(value)
            own[name].grad = None
        self.before.clear()

    def trainable(self) -> list[nn.Parameter]:
        """The base's parameters, as far as it trains them."""
        base = self._need_base("trainable")
        return [base.get_parameter(name) for name in self.names(base)]

    def tensors(self) -> dict[str, Tensor]:
        """The tuned weights, by their names in the base."""
        base = self._need_base("save")
        return {name: base.get_parameter(name).detach() for name in self.names(base)}

    def restore(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Put tuned weights into the base; refuses others than it trains."""
        own = self.tensors()
        check_tensors(own, tensors, source, f"this {type(self).__name__}")
        for name, p in own.items():
            p.copy_(tensors[name])


class TopLayers(FullFineTuning):
    """Train only the last layers of the base, with the norm or pooler above them (Li & Liang's FT-top2)."""

    examples = {"top": {"n_layer": 1}}

    n_layer = Setting(
        size("at least one layer has to be tuned"),
        "How many layers, from the top; of an encoder–decoder, of its decoder.",
    )

    def __init__(self, n_layer: int = 1) -> None:
        super().__init__(n_layer=n_layer)

    def names(self, base: Base) -> list[str]:
        """The parameters of the top layers."""
        stack, layers = ("decoder", base.decoder) if isinstance(base, Seq2Seq) else ("blocks", base.blocks)
        if self.n_layer > len(layers):
            raise UserError(f"The top {self.n_layer} layers are to be tuned; this base has {len(layers)}.")
        tops = [f"{stack}.{i}." for i in range(len(layers) - self.n_layer, len(layers))]
        if not isinstance(base, Seq2Seq):
            tops.append("norm." if isinstance(base, GPT) else "pooler.")
        return [name for name in base_parameters(base) if name.startswith(tuple(tops))]


class BitFit(FullFineTuning):
    """Train the biases of the base, and nothing else.

    Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models"
    (2022), §2.
    """

    examples = {"bitfit": {}}

    def names(self, base: Base) -> list[str]:
        """Every bias, those of the norms included."""
        return [name for name in base_parameters(base) if name.endswith("bias")]
