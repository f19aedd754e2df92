"""What a method goes onto: a base model, the base's own parameters, and a short name for exactly its function."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import nn

from minitransformer import checkpoint
from minitransformer.checks import check_kind
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq

Base: TypeAlias = GPT | Bert | Seq2Seq


def base_of(model: Base | Classifier) -> Base:
    """The GPT, BERT or encoder–decoder itself; refuses anything else."""
    base = model.base if isinstance(model, Classifier) else model
    check_kind(base, GPT | Bert | Seq2Seq, "A method goes onto a GPT, Bert, Seq2Seq or a Classifier of one")
    return base


def base_parameters(base: Base) -> dict[str, nn.Parameter]:
    """The base's own parameters by name, without those that methods brought."""
    return {name: p for name, p in base.named_parameters() if not name.startswith("tuning.")}


def module_of(base: Base, key: str) -> Any:
    """The module of a base that a key means, its name with / in the place of each dot, which a ModuleDict allows."""
    return base.get_submodule(key.replace("/", "."))


def fingerprint(base: Base) -> str:
    """A short name for exactly this function: SHA-256 over architecture, sizes, heads and every number.

    A half-precision base has the fingerprint of its copy in float32, because that copy has the same numbers: a prefix
    tuned on the one belongs to the other, too.
    """
    own = {name: tensor for name, tensor in base.state_dict().items() if not name.startswith("tuning.")}
    half = (torch.bfloat16, torch.float16)
    exact = {name: tensor.float() if tensor.dtype in half else tensor for name, tensor in own.items()}
    # The shapes of the weights do not say how many heads they are cut into.
    return checkpoint.fingerprint(exact, f"{type(base).__name__} {base.config.n_head}")
