"""Answers to the exercises of lesson 11."""

import torch
import torch.nn.functional as F

from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 11.1


@right("11.1")
def by_linear(self, x):
    narrow = F.linear(x, self.down.weight, self.down.bias).clamp(min=0)
    return F.linear(narrow, self.up.weight, self.up.bias)


@right("11.1")
def by_where(self, x):
    narrow = self.down(x)
    return self.up(torch.where(narrow > 0, narrow, torch.zeros_like(narrow)))


@wrong("11.1")
def leaky(self, x):
    return self.up(F.leaky_relu(self.down(x)))


@wrong("11.1")
def token_after_token_without_the_batch(self, x):
    return torch.stack([self.up(F.relu(self.down(token))) for token in x[0]])[None]


@wrong("11.1", "the stream added here")
def residual(self, x):
    return torch.add(x, self.up(self.down(x).relu()))


# ---------------------------------------------------------------- 11.2

edited(
    "11.2",
    "by a list of names",
    ('name.startswith(("blocks.", "encoder.", "decoder."))', "name.split('.')[0] in ('blocks', 'encoder', 'decoder')"),
)
edited("11.2", "zeros and ones", ("torch.stack([one, 0 * one])", "torch.cat([one[None], torch.zeros(1, len(one))])"))
edited(
    "11.2",
    "a factor for each bottleneck",
    ("isinstance(module, nn.LayerNorm)", "isinstance(module, (nn.LayerNorm, FeedForward))"),
    named=(),
)
edited(
    "11.2",
    "width of two",
    (
        "Bottleneck(base.config.d_model, self.width, self.init)",
        "Bottleneck(base.config.d_model, self.width // 2 + 1, self.init)",
    ),
    named=(),
)

# ---------------------------------------------------------------- 11.3


@right("11.3")
def by_torch_add(self, bottleneck, x, output):
    return torch.add(output, bottleneck({"parallel": x}.get(self.placement, output)), alpha=self.scale)


edited("11.3", "divided by the scale", ("self.scale * bottleneck(read)", "bottleneck(read) / self.scale"), named=())
edited("11.3", "scaled root", ("self.scale * bottleneck(read)", "self.scale**0.5 * bottleneck(read)"), named=())

# ---------------------------------------------------------------- 11.4

edited(
    "11.4",
    "in steps",
    ("type(self).__name__,", "self.__class__.__name__,"),
    ("sum(p.numel() for p in self.trainable())", "sum(map(torch.numel, self.trainable()))"),
)
edited(
    "11.4",
    "whatever asks for gradients",
    ("for p in self.trainable()", "for p in base.parameters() if p.requires_grad"),
    named=(),
)
edited(
    "11.4",
    "the head among what is kept",
    (
        "for t in self.stored()[1].values())",
        "for t in self.stored()[1].values()) + (sum(p.numel() for p in self.head.parameters()) if self.head else 0)",
    ),
    named=(),
)
edited(
    "11.4",
    "what is not trained",
    (
        "sum(p.numel() for p in base_parameters(base).values())",
        "sum(p.numel() for p in base_parameters(base).values() if not p.requires_grad)",
    ),
    named=("frozen is the base",),
)
edited(
    "11.4",
    "memory",
    ("p.numel() for p in self.trainable()", "p.numel() * p.element_size() for p in self.trainable()"),
    named=(),
)
