"""Runs cells, two at a time, a thread each; can be stopped at any moment, and goes on where it was."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from tqdm import tqdm

from minitransformer.course.lab.cells import ABILITIES, Cell, Row
from minitransformer.course.lab.experiment import Arm
from minitransformer.course.lab.run import run_cell
from minitransformer.course.lab.store import Store
from minitransformer.course.workers import begin
from minitransformer.errors import UserError

PROCESSES = 2


class Pace(NamedTuple):
    """About how long a task's cells take, in seconds of one core of a laptop."""

    example: float  # one example in one step of training
    text: float = 0.0  # one text that is written: by a beam search, and greedily where a task asks for that
    fixed: float = 2.0  # whatever it trains and writes


PACES = {
    "table_to_text": Pace(0.0115, text=0.2),
    "news_summary": Pace(0.014, text=0.1),
    "reviews_gpt": Pace(0.0082),
    "reviews_bert": Pace(0.0068),
    "cost": Pace(0, fixed=40.0),
}


def work(cell: Cell) -> int:
    """About how many seconds of one core a cell takes: so that progress through unequal cells can be told."""
    pace = PACES[cell.task]
    texts = (cell.n_scored or 500) * sum(split != ABILITIES for split in (cell.split, *cell.also)) * cell.write
    return max(1, round(pace.fixed + pace.example * cell.steps * cell.batch + pace.text * texts))


def progress(cells: Iterable[Cell]) -> tqdm:
    """A bar over the work in cells; the estimate of the time left is from the speed so far."""
    pause = 0.5 if sys.stderr.isatty() else 30.0  # a log file gets a line now and then
    total = sum(map(work, {cell.key: cell for cell in cells}.values()))
    form = "{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} s of one core's work [{elapsed}, {remaining} left]"
    return tqdm(total=total, smoothing=0, ncols=88, mininterval=pause, dynamic_ncols=False, bar_format=form)


def carry_out(arms: Sequence[Arm], store: Store, run: Callable[[Cell], Row] = run_cell) -> None:
    """Measure whatever is not finished: first all searches, then with the learning rates that they found.

    Raises:
        UserError: cells failed; the others are finished by then.
    """
    searches = [cell for arm in arms for cell in arm.search_cells()]
    with progress([*searches, *(cell for arm in arms for cell in arm.expected())]) as bar:
        failed = measure(searches, store, bar, run)
        whole = [arm for arm in arms if not any(cell.key in failed for cell in arm.search_cells())]
        failed |= measure([cell for arm in whole for cell in arm.cells(store)], store, bar, run)
    if failed:
        raise UserError(
            f"{len(failed)} cell{'s' * (len(failed) > 1)} failed, as named above; the others are in {store.path.name}. "
            "Run the same command again once the cause is mended."
        )


def measure(
    cells: Iterable[Cell], store: Store, bar: tqdm, run: Callable[[Cell], Row] = run_cell
) -> dict[str, Exception]:
    """Run the cells that are not finished, and store the row of each as soon as it is there.

    A stop (Ctrl-C) ends the cells that are running; the finished ones stay.

    Args:
        cells: which; a cell that stands there twice runs once.
        store: where their rows are, and go to.
        bar: moves on by each cell's work, the finished ones' at once.
        run: what runs a cell, in another process.

    Returns:
        The cells that failed, by key, and why; the others have gone on.

    Raises:
        UserError: a process was killed from outside.
    """
    todo: dict[str, Cell] = {}
    for key, cell in {cell.key: cell for cell in cells}.items():
        if store.is_finished(cell):
            bar.initial += work(cell)  # they say nothing about the speed
            bar.update(work(cell))
        else:
            todo[key] = cell
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
            bar.update(work(cell))
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failed
