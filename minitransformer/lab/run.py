"""Runs cells, two at a time, a thread each; can be stopped at any moment, and goes on where it was."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch
from tqdm import tqdm

from minitransformer.errors import UserError
from minitransformer.lab.cells import Cell, Row, run_cell
from minitransformer.lab.store import Store

PROCESSES = 2


def progress(steps: int) -> tqdm:
    """A bar over the steps of all cells, with an estimate of the time left (from the mean speed, as cells differ)."""
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file gets a line now and then
    return tqdm(total=steps, unit="step", smoothing=0, ncols=88, mininterval=pause, dynamic_ncols=False)


def measure(
    cells: Iterable[Cell], store: Store, bar: tqdm, run: Callable[[Cell], Row] = run_cell
) -> dict[str, Exception]:
    """Run the cells that are not finished, and store the row of each as soon as it is there.

    A stop (Ctrl-C) ends the cells that are running; the finished ones stay.

    Args:
        cells: which; a cell that stands there twice runs once.
        store: where their rows are, and go to.
        bar: moves on by each cell's steps, the finished ones' at once.
        run: what runs a cell, in another process.

    Returns:
        The cells that failed, by key, and why; the others have gone on.

    Raises:
        UserError: a process was killed from outside.
    """
    todo: dict[str, Cell] = {}
    for cell in cells:
        if store.is_finished(cell):
            bar.initial += cell.steps  # they say nothing about the speed
            bar.update(cell.steps)
        else:
            todo[cell.key] = cell
    failed: dict[str, Exception] = {}
    if not todo:
        return failed
    pool = ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"), initializer=begin)
    try:
        running = {pool.submit(run, cell): cell for cell in todo.values()}
        for future in as_completed(running):
            cell = running[future]
            try:
                row = future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"A process of the laboratory was killed, perhaps because memory ran out, while it ran this cell "
                    f"or its neighbour: {cell}. What is finished is kept; the same command goes on."
                ) from error
            except Exception as error:  # whatever it was, it is this cell's
                failed[cell.key] = error
                bar.write(f"Failed: {cell}. {type(error).__name__}: {error}", file=sys.stderr)
            else:
                store.add(row)
            bar.update(cell.steps)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def begin() -> None:
    """Make a process ready: one thread; Ctrl-C is the parent's business; where the parent dies, so does it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
