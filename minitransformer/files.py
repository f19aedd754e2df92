"""Writing files, so that whoever reads one finds it whole, and so that two programs lose nothing of each other's."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from minitransformer.errors import UserError


def write_aside(path: str | Path, data: bytes) -> None:
    """Write a file so that, whatever happens, either the old one or the whole new one is there.

    Raises:
        UserError: no room on the disk, or no permission to write.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        with suppress(OSError):  # not there, or a file stands where its folder should be
            aside.unlink()
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"The disk is full: {path} ({len(data) / 1e6:.1f} MB) was not written, and what stood there before "
                "still does. Free some room and run this again."
            ) from error
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


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
