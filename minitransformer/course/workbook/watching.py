"""`make watch-N`: a check on every save."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from minitransformer.course.output.terminal import styled
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import book
from minitransformer.course.workbook.catalogue import exercises
from minitransformer.course.workbook.checking import check_with, refuse_without_workbook
from minitransformer.course.workbook.hints import give_hint
from minitransformer.course.workbook.sandbox import Supply
from minitransformer.course.workbook.standing import SOLVED, how_each_stands

PAUSE = 0.4
"""Seconds between two looks at the file."""


def watch(lesson: int, key: Callable[[], str | None] | None = None) -> int:
    """Check whenever the workbook is saved, until q is pressed; h gives a hint.

    The file is read every few tenths of a second. That works on every disk and under WSL, and needs no library.

    Args:
        lesson: its number.
        key: gives the key that was pressed since it was last asked, or None; the terminal's by default.
    """
    refuse_without_workbook(lesson)
    supply, path = Supply(lesson), book.workbook_path(lesson)
    seen: bytes | None = None
    with nullcontext(key) if key else keys() as pressed:
        try:
            while True:
                now = _content(path)
                if now is not None and now != seen:
                    first, seen = seen is None, now
                    if not first:
                        _clear()
                    check_with(supply.sandbox(), lesson)
                    supply.prepare()
                    watching = t("Watching. Save the workbook to check it again; h: hint, q: quit.")
                    print("\n" + styled(watching, "dim"), flush=True)
                char = pressed()
                if char == "q":
                    return 0
                if char == "h":
                    now = how_each_stands(lesson)
                    open_one = next((one for one in exercises(lesson) if now[one.id] != SOLVED), None)
                    give_hint(open_one) if open_one else print(t("Everything passes."))
                if char is None:
                    time.sleep(PAUSE)
        finally:
            supply.close()


def _content(path: Any) -> bytes | None:
    """The file's bytes; None while an editor is replacing it."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _clear() -> None:
    if sys.stdout.isatty():
        print("\033[2J\033[H", end="")
    else:
        print()


@contextmanager
def keys() -> Iterator[Callable[[], str | None]]:
    """Single keys from the terminal, without Enter; none where there is no terminal."""
    if not sys.stdin.isatty():
        yield lambda: None
    elif os.name == "nt":
        import msvcrt

        yield lambda: msvcrt.getwch().lower() if msvcrt.kbhit() else None
    else:
        import select
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
        try:
            tty.setcbreak(sys.stdin)
            yield lambda: os.read(0, 1).decode("latin1").lower() if select.select([sys.stdin], [], [], 0)[0] else None
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
