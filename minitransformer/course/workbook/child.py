"""The child process in which a workbook is run: `python -m minitransformer.course.workbook.child`.

It reads one request, a line of JSON, from standard input, and writes events, a line of JSON each, to standard output.
Whatever the learner's code prints goes to standard error. The parent, sandbox.py, holds the limits.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Answer one request, then end, whatever threads the learner's code has left behind."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    traces = os.fdopen(os.dup(2), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed must not be mistaken for an event
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace", encoding="utf-8")

    def emit(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    import torch

    from minitransformer.course import show
    from minitransformer.course.workbook.check import check
    from minitransformer.errors import UserError

    torch.set_num_threads(1)
    emit(event="ready")
    line = sys.stdin.readline()
    if not line.strip():
        return  # the parent has gone
    request = json.loads(line)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # input() finds nobody
    show.ROOT = Path(request["root"])
    try:
        from minitransformer.course.workbook.catalogue import exercises

        some = exercises(request["lesson"])
        limit_memory(request["megabytes"])
        check(some, Path(request["workbook"]), request, emit, lambda: watchdog(request["seconds"], traces))
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
    main()
