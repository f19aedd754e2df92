"""How a method that changes what a base is called with reaches into the call, without changing the base's code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from minitransformer.errors import UserError
from minitransformer.models.cache import KVCache


def before_each_call(base: nn.Module, change: Callable[[dict[str, Any]], dict[str, Any]]) -> RemovableHandle:
    """Let `change` rewrite what the base is called with; gives the hook's handle.

    It is given the inputs, each by the name of `forward`'s argument, however the caller wrote the call, and gives such.
    """
    signature = inspect.signature(base.forward)

    def hook(module: nn.Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (), change(signature.bind(*args, **inputs).arguments)

    return base.register_forward_pre_hook(hook, with_kwargs=True)


def is_prefill(cache: Sequence[Any] | None) -> bool:
    """Whether nothing is cached yet: only then a prefix, or a prompt, still has to go in."""
    if not cache:
        return True
    own = cache[0] if isinstance(cache[0], KVCache) else cache[0].own
    return own.length == 0


def check_not_given(method: nn.Module, inputs: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse inputs that a method on the base is there to fill."""
    for name in names:
        if inputs.get(name) is not None:
            raise UserError(
                f"'{name}' was given to a base that a {type(method).__name__} is on, which fills it itself: there "
                "would be two. detach() the method, or leave the argument out."
            )
