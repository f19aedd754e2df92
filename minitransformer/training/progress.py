"""How far a long loop is, as a bar of tqdm's: on standard error unless a program has a better place."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from tqdm import tqdm

place: Callable[[], TextIO] = lambda: sys.stderr  # noqa: E731
"""Gives the stream for the next bar. The course sets it, so that a bar in a notebook is no error message."""


def progress(steps: Iterable[Any] | None = None, **how: Any) -> tqdm:
    """A bar over `steps`, or over `total` that the caller counts: ten times a second, in a file every ten seconds."""
    return tqdm(steps, file=(to := place()), ncols=88, mininterval=0.1 if to.isatty() else 10.0, **how)
