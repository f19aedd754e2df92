"""Locks on files, so that two programs lose nothing of each other's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def try_lock(file: IO) -> bool:
    """Lock an open file for this process, unless another process has locked it; whether it is locked now.

    The system frees the lock when the file is closed, or when the process ends, however it ends.

    Raises:
        OSError: the disk knows no locks, as some network disks do not.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Change a file alone: who else asks for the same file waits until the block has ended.

    Whoever reads a file, changes what was read and writes it back does all of that in the block. The lock lies beside
    the file, under its name with ".lock". Where it cannot be made, the block runs all the same: in a folder that may
    not be written, and on a disk that knows no locks.
    """
    path = Path(path)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = open(path.with_name(f".{path.name}.lock"), "a+")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):
            while not try_lock(file):
                time.sleep(0.01)
        yield
