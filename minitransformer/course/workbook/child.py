"""The child process in which a workbook is run: `python -m minitransformer.course.workbook.child`.

It reads one request, a line of JSON, from standard input, and writes events, a line of JSON each, to standard output.
Whatever the learner's code prints goes to standard error. The parent, sandbox.py, holds the limits.

With a lesson's number and the course's folder, it prepares that lesson's exercises before it reads the request. With
the descriptor of a socket as well, it is the server that forks such children (server.py).
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

Examinations = dict[str, Any]
"""An `Examination` for each exercise, by id."""


def main(arguments: list[str]) -> None:
    """Answer one request, or serve until nobody asks any more."""
    import torch

    torch.set_num_threads(1)
    prepared: Examinations = {}
    if not arguments:
        answer(prepared)
    from minitransformer.course import show

    lesson, show.ROOT, *descriptor = int(arguments[0]), Path(arguments[1]), *map(int, arguments[2:])
    steps = preparing(lesson, prepared, thoroughly=bool(descriptor))
    if descriptor:
        from minitransformer.course.workbook.server import serve

        serve(*descriptor, lambda: answer(prepared), steps)
    else:
        for _ in steps:
            pass
        answer(prepared)


def preparing(lesson: int, prepared: Examinations, thoroughly: bool = False) -> Iterator[None]:
    """Load a lesson's exercises, and find out what their cases should give, a case a step.

    Args:
        lesson: its number.
        prepared: filled with an examination for each exercise.
        thoroughly: find out what the known mistakes give as well.
    """
    from minitransformer.course.workbook.catalogue import exercises
    from minitransformer.course.workbook.examine import Examination
    from minitransformer.course.workbook.general import every_case
    from minitransformer.errors import UserError

    with suppress(UserError):  # a check says it
        for one in exercises(lesson):
            prepared[one.id] = Examination(one)
            yield
        for one in prepared.values():
            for number in range(len(every_case(one.exercise))):
                one.expected(number)
                yield
        for one in prepared.values() if thoroughly else ():
            for mistake in one.exercise.mistakes:
                for number in range(len(every_case(one.exercise))):
                    one.mistaken(mistake, number)
                    yield


def answer(prepared: Examinations) -> NoReturn:
    """Answer one request, then end, whatever threads the learner's code has left behind."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    traces = os.fdopen(os.dup(2), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed must not be mistaken for an event
    # New streams: those of the server know its own files, not the pipes that stand in their place now.
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False) for number in (1, 2)
    )

    def emit(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    from minitransformer.course import show
    from minitransformer.course.workbook.check import check
    from minitransformer.errors import UserError

    emit(event="ready")
    line = sys.stdin.readline()
    if not line.strip():
        os._exit(0)  # the parent has gone
    request = json.loads(line)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # input() finds nobody
    show.ROOT = Path(request["root"])
    try:
        from minitransformer.course.workbook.catalogue import exercises

        some = exercises(request["lesson"])
        limit_memory(request["megabytes"])
        path, wind_up = Path(request["workbook"]), lambda: watchdog(request["seconds"], traces)
        check(some, path, request, emit, wind_up, prepared)
        faulthandler.cancel_dump_traceback_later()
    except UserError as error:
        emit(event="problem", text=str(error))
    emit(event="end")
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the code may have closed them
            stream.flush()
    os._exit(0)


def watchdog(seconds: float, traces: TextIO) -> None:
    """End this process after so many seconds, saying which lines were running. Called again, it counts anew."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=traces)


def limit_memory(megabytes: int) -> None:
    """Allow this process so much memory beyond what it has, where the system can hold to that (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
