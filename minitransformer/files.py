"""Writing files, so that whoever reads one finds it whole, and so that two programs lose nothing of each other's."""

from __future__ import annotations

import errno
import glob
import hashlib
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

    The new one is written beside it, as `.name.PROCESS.tmp`. What processes that were killed left there is removed.

    Raises:
        UserError: no room on the disk, no permission to write, a folder of that name.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if left != aside and _is_left_over(left):
                left.unlink(missing_ok=True)
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: {path} ({len(data) / 1e6:.1f} MB) was not written, and what stood there before "
                "still does. Free some room and run this again."
            ) from error
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):  # it was renamed, or a file stands where its folder should be
            aside.unlink()


def _is_left_over(aside: Path) -> bool:
    """Whether the process that wrote this file has ended. Where the system does not tell, the file's age does."""
    number = aside.name.split(".")[-2]
    if not number.isdecimal():
        return False
    if os.name == "nt":
        return time.time() - aside.stat().st_mtime > 3600
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # it is somebody else's
    return False


def check_writable(path: str | Path) -> None:
    """Refuse a place where no file can be written, before the work whose result goes there.

    Raises:
        UserError: a folder of that name, a file in the place of a folder, a folder that may not be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file in it.")
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written: {folder} is a file and no folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: the folder {folder} is read-only for you.")


def read_bytes(path: str | Path, what: str = "file") -> bytes:
    """The content of a file.

    Raises:
        UserError: it is not there, is a folder, or cannot be read; it begins with `what`.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror}.") from error


def read_utf8(path: str | Path, what: str = "text") -> str:
    """The text of a UTF-8 file, without a byte order mark; lines end with a newline, whichever system wrote it.

    Raises:
        UserError: as `read_bytes`; a byte that is not UTF-8, with its line.
    """
    raw = read_bytes(path, what).removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: this is not UTF-8 text (byte {raw[error.start]:#04x}). Save it as UTF-8."
        ) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        UserError: as `read_bytes`.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


def check_sums(folder: str | Path, sums: str | Path) -> None:
    """Refuse files that are not the ones that were shipped.

    Args:
        folder: where they are.
        sums: a file in sha256sum's format, a line "digits  name" for each, names relative to the folder.

    Raises:
        UserError: naming the first file that is missing or was changed; a line that is no such line.
    """
    for number, line in enumerate(read_utf8(sums, "list of checksums").split("\n"), 1):
        if not line.strip():
            continue
        digits, _, name = line.partition("  ")
        if len(digits) != 64 or not name:
            raise UserError(f'{sums}, line {number}: {line[:40]!r} is not "checksum  name".')
        if sha256(Path(folder) / name) != digits:
            raise UserError(
                f"{Path(folder) / name} is not the file that was shipped: it was changed, or not copied whole. Get it "
                "again, with `git checkout` or by downloading it."
            )


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
