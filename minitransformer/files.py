"""Writing files, so that whoever reads one finds it whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

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
