"""What code can change for all that runs after it in the same process, and the way back.

A learner's code may turn gradients off, set a default device, put a function of its own into torch or into the package:
on purpose, by accident, or because a page said so. All of it would reach the other exercises, unwritten ones included.
"""

from __future__ import annotations

import builtins
import inspect
import math
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _default_device(device: torch.device) -> None:
    # None takes PyTorch's hook for other devices off; with "cpu" it would stay, and cost time in each call.
    torch.set_default_device(None if device.type == "cpu" else device)


SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (os.getcwd, os.chdir),
)
"""How a setting is read, and how it is set."""


@lru_cache(maxsize=1)
def _members(_n_modules: int) -> list[Any]:
    """The modules and classes whose members code may exchange: of Python, of torch, and of the package."""
    found = [builtins, math, random, sys, torch, F, nn, nn.init, Tensor]
    found += [one for one in vars(nn).values() if inspect.isclass(one)]
    for name, module in list(sys.modules.items()):
        if re.match(r"minitransformer(?!\.course\b)", name) and isinstance(module, ModuleType):
            found += [module, *(one for one in vars(module).values() if getattr(one, "__module__", "") == name)]
    return [one for one in dict.fromkeys(found) if isinstance(one, ModuleType) or inspect.isclass(one)]


NOT_KEPT = {"modules", "path_importer_cache", "last_exc", "last_value", "last_type", "last_traceback", "_"}
"""Members of `sys` and `builtins` that Python itself changes as it goes."""


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back, when the block ends, what code in it has set in PyTorch and Python."""
    before = []
    for read, write in SETTINGS:
        with suppress(OSError):  # the working directory may be gone
            before.append((read, write, read()))
    try:
        yield
    finally:
        for read, write, value in before:
            with suppress(OSError):
                if read() != value:
                    write(value)


@contextmanager
def restored() -> Iterator[None]:
    """Put back, when the block ends, whatever code in it has changed for all that comes after it."""
    members = [(one, dict(vars(one))) for one in _members(len(sys.modules))]
    environment, path, filters = dict(os.environ), list(sys.path), list(warnings.filters)
    try:
        with settings_kept():
            yield
    finally:
        for one, before in members:
            _put_back(one, before)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path
        warnings.filters[:] = filters
        warnings._filters_mutated()


def _put_back(one: Any, before: dict[str, Any]) -> None:
    """Give a module or a class the members that it had."""
    now = vars(one)
    if [*map(id, now.values())] == [*map(id, before.values())]:
        return
    for name, value in before.items():
        if now.get(name, one) is not value and name not in NOT_KEPT:
            with suppress(AttributeError, TypeError):  # Python keeps some for itself
                setattr(one, name, value)
    # Modules learn names as they are used (submodules that are loaded late); a class does not.
    for name in set(now) - set(before) if inspect.isclass(one) else ():
        if not (name.startswith("__") and name.endswith("__")):
            with suppress(AttributeError, TypeError):
                delattr(one, name)
