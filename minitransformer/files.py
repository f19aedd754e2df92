"""Reading and writing files: whoever reads one finds it whole, and an error says what to do."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from minitransformer.checks import check_kind
from minitransformer.errors import UserError


def as_path(path: object) -> Path:
    """The place of a file; refuses what names none, such as a model in the place of its file's name."""
    check_kind(path, str | os.PathLike, "A file is named by a text or a Path")
    return Path(path)  # type: ignore[arg-type]  # check_kind has seen to that


def write_aside(path: str | Path, data: bytes) -> None:
    """Write a file so that, whatever happens, either the old one or the whole new one is there.

    The new one is written beside it, as `.name.PROCESS.tmp`. What processes that were killed left there is removed.
    Refuses a full disk, a place that may not be written, and a folder of that name.
    """
    path = as_path(path)
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
    """Refuse a place where no file can be written, before the work whose result goes there."""
    path = as_path(path)
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
    """The content of a file; refuses one that cannot be read, in a sentence that calls it `what`."""
    try:
        return as_path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The {what} {path} cannot be read: {error.strerror}.") from error


def read_utf8(path: str | Path, what: str = "text") -> str:
    """The text of a UTF-8 file, without a byte order mark; lines end with a newline, whichever system wrote it.

    Refuses as `read_bytes`, and a byte that is not UTF-8, with its line.
    """
    raw = read_bytes(path, what).removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: this is not UTF-8 text (byte {raw[error.start]:#04x}). Save it as UTF-8."
        ) from error


def read_json(path: str | Path, what: str, advice: str) -> dict[str, Any]:
    """The JSON object in a file; refuses as `read_utf8`, with advice at the end, and what is no object."""
    try:
        held = json.loads(read_utf8(path, what))
    except UserError as error:
        raise UserError(f"{error} {advice}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}. Was the copy cut short?") from error
    check_kind(held, dict, f"{path} is no {what}: it has to hold an object {{…}}")
    return held


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
