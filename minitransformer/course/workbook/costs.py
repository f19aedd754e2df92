"""How something is computed, where its value does not say: calls, memory and work are counted, not timed.

For scenes of exercises, which compare what they observe:

    with calls(GPT, "forward") as seen:
        own(model, ids)
    return {"how often the model is called": len(seen)}

    return {"how many numbers are alive at once": cost(own, losses).peak}

A clock would say another thing on a busy laptop. What is counted here is the same everywhere.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minitransformer.course.workbook.compare import tensors


@contextmanager
def calls(owner: Any, name: str) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Note every call of a function or a method while the block runs.

    Args:
        owner: the module, class or object that has it; a function is found where it is looked up when it is called.
        name: of it.

    Yields:
        The arguments of each call, (args, kwargs), in order; of a method of a class, self is the first.
    """
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    is_own = name in vars(owner)
    before = getattr(owner, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return before(*args, **kwargs)

    setattr(owner, name, noting)
    try:
        yield seen
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@dataclass
class Cost:
    """What a call has cost."""

    value: Any
    """What it gave."""
    work: int = 0
    """Numbers that PyTorch's operations wrote, all in all. Views write none."""
    peak: int = 0
    """Numbers made in the call and alive at once, at most. What a graph keeps for the backward pass is alive."""
    made: int = 0
    """Numbers for which room was made, all in all."""
    operations: int = 0
    """Operations of PyTorch."""


def cost(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Call a function and count what it computes.

    The costs of two sizes tell how the work grows: `cost(own, long).work / cost(own, short).work` is 2 for work in
    proportion to the length, 4 for its square.
    """
    with _Counting([tensor for _, tensor in tensors([*args, *kwargs.values()], "")]) as counting:
        value = function(*args, **kwargs)
    counting.cost.value = value
    return counting.cost


class _Counting(TorchDispatchMode):
    """Counts what PyTorch's operations write, and which memory of it is alive."""

    def __init__(self, given: list[Tensor]) -> None:
        super().__init__()
        self.cost = Cost(None)
        self.alive = 0
        self.known = {self._storage(tensor) for tensor in given}

    @staticmethod
    def _storage(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it gives."""
        result = func(*args, **(kwargs or {}))
        before = {self._storage(one) for _, one in tensors([*args, *(kwargs or {}).values()], "")}
        self.cost.operations += 1
        for _, tensor in tensors([result], ""):
            storage = self._storage(tensor)
            is_in_place = str(func.__name__).split(".")[0].endswith("_")
            if storage not in before or is_in_place:
                self.cost.work += tensor.numel()
            if storage not in self.known and storage not in before:
                self._count(tensor, storage)
        return result

    def _count(self, tensor: Tensor, storage: int) -> None:
        """Count memory that is new, and forget it when it is freed."""
        room = tensor.untyped_storage().nbytes() // tensor.element_size()
        self.known.add(storage)
        self.alive += room
        self.cost.made += room
        self.cost.peak = max(self.cost.peak, self.alive)

        def freed() -> None:
            self.alive -= room
            self.known.discard(storage)

        weakref.finalize(tensor.untyped_storage(), freed)


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in the same memory: a view and what it is a view of, a cache before and after a token."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
