"""Everything that a lesson shows, as events, and the sinks that take them: a terminal, a notebook, a recorder.

A lesson calls `say`, `table`, `figure`, … of course/show.py. Each call makes one event and hands it to the sink in use;
nothing else prints. How an event looks is the sink's matter alone, so that one lesson serves all its readers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from minitransformer.course.output.events import Bar, Event, Figure, Say, Sink, Source, Table, Verbatim
from minitransformer.course.output.notebook import Notebook
from minitransformer.course.output.terminal import Terminal
from minitransformer.training import progress

__all__ = ["Bar", "Event", "Figure", "Notebook", "Say", "Sink", "Source", "Table", "Terminal", "Verbatim", "sink", "to"]

_chosen: list[Sink] = []
_defaults: dict[type[Sink], Sink] = {}


def sink() -> Sink:
    """The sink in use: the one that `to` chose; otherwise the notebook where there is one, else the terminal."""
    if _chosen:
        return _chosen[-1]
    kind = Notebook if in_notebook() else Terminal
    return _defaults.setdefault(kind, kind())


@contextmanager
def to(chosen: Sink) -> Iterator[Sink]:
    """Send what is shown inside the block to this sink."""
    _chosen.append(chosen)
    try:
        yield chosen
    finally:
        _chosen.remove(chosen)


def _place_of_progress() -> TextIO:
    return sink().progress()


progress.place = _place_of_progress


def in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel (that of JupyterLab, VS Code, nbclient, …)."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
