"""Long work in two processes beside each other, a thread each, which a stop ends at once and which outlive nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import torch

from minitransformer.errors import UserError

PROCESSES = 2
Item = TypeVar("Item")
Result = TypeVar("Result")


def begin() -> None:
    """Make a process ready: one thread; Ctrl-C is the parent's business; where the parent dies, so does it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def two_processes() -> Iterator[Executor]:
    """A pool of two processes. Whatever ends the block early, Ctrl-C or an error, ends what runs in them."""
    pool = ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"), initializer=begin)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def for_each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of `work(item)`, in the items' order, made two at a time. The first error ends all of them.

    Raises:
        UserError: a process was killed from outside; what a process raised is raised here.
    """
    with two_processes() as pool:
        running = {pool.submit(work, item): item for item in items}
        for future in as_completed(running):
            try:
                future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"A process was killed, perhaps because memory ran out, while it worked on {running[future]} or on "
                    "its neighbour. What was saved is kept; the same command goes on from there."
                ) from error
        return [future.result() for future in running]
