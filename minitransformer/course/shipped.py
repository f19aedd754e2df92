"""The files that the course ships, and whether they still are what was shipped.

`data/SHA256SUMS` lists them in sha256sum's format. The commands that make the files write it: `data`, `tokenizer` and
`pretrain`; `python -m minitransformer.course.shipped` lists all of them again. A file that was changed, or not copied
whole, is refused when it is opened for reading, whoever opens it: a lesson, a command, a script. Its checksum is
computed once in a process, in a few milliseconds. A file without a line in the list is not checked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from minitransformer.course.locks import locked
from minitransformer.errors import UserError
from minitransformer.files import read_utf8, sha256, write_aside

DATA = Path(__file__).resolve().parent.parent.parent / "data"
LIST = "SHA256SUMS"
SHIPPED = (
    *("text/*.txt", "tasks/*/*.jsonl", "real/[!r]*.jsonl", "tokenizer.tiktoken"),  # real/rows.jsonl is measured
    *("bases/*.safetensors", "tuned/*.safetensors"),
)
CHECKED: dict[Path, tuple[int, int]] = {}  # a file that was checked → its size and time then


def check(path: str | Path) -> None:
    """Refuse a file that is not the one that was shipped; any other file passes.

    Raises:
        UserError: naming the file; a list that is missing or damaged.
    """
    path = Path(os.path.abspath(path))
    if not path.is_relative_to(DATA) or path.name == LIST or not path.is_file():
        return
    if CHECKED.get(path) == _state(path):
        return
    name = path.relative_to(DATA).as_posix()
    try:
        if sums().get(name, digest := digest_of(path)) != digest:
            raise UserError(
                f"{path} is not the file that was shipped: it was changed, or not copied whole. Get it again: "
                f"`git checkout data/{name}`. If you changed it on purpose, delete its line in data/{LIST}."
            )
    except BaseException:
        CHECKED.pop(path, None)
        raise


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits; reading it here is not checked in its turn."""
    CHECKED[path] = _state(path)
    return sha256(path)


def sums() -> dict[str, str]:
    """What stands in the list: name of a file in data/ → its checksum.

    Raises:
        UserError: it is missing or damaged.
    """
    found = {}
    for number, line in enumerate(read_utf8(DATA / LIST, "list of checksums").splitlines(), 1):
        parts = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not parts:
            raise UserError(f"{DATA / LIST}, line {number} is damaged. Get it again: `git checkout data/{LIST}`.")
        found[parts[2]] = parts[1]
    return found


def add(paths: Iterable[Path]) -> None:
    """Write the checksums of these files into the list.

    Raises:
        UserError: the list is damaged; no room on the disk.
    """
    with locked(DATA / LIST):
        found = sums() if (DATA / LIST).is_file() else {}
        found |= {path.relative_to(DATA).as_posix(): digest_of(path) for path in paths}
        lines = [f"{digest}  {name}\n" for name, digest in sorted(found.items())]
        write_aside(DATA / LIST, "".join(lines).encode())


def all_files() -> list[Path]:
    """Whatever the list has to name."""
    return sorted(path for pattern in SHIPPED for path in DATA.glob(pattern))


def watch() -> None:
    """Check from now on whatever Python opens for reading. safetensors opens files itself: `bases` checks those."""
    inside = str(DATA) + os.sep

    def opens(event: str, arguments: tuple) -> None:
        if event == "open" and arguments[1] in ("r", "rb") and isinstance(arguments[0], (str, os.PathLike)):
            if os.path.abspath(arguments[0]).startswith(inside):
                check(arguments[0])

    sys.addaudithook(opens)


if __name__ == "__main__":
    (DATA / LIST).unlink(missing_ok=True)
    add(all_files())
