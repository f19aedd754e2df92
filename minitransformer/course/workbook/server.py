"""A process that has PyTorch and a lesson's exercises loaded, and forks a child for each check.

So a check under `make watch-N` does not wait for PyTorch, nor for what the package's own code gives in each case. Each
check still has a process of its own, and nothing that a learner's code does outlasts it. While no check is asked for,
the server goes on preparing: what the cases should give, then what the known mistakes give.

Forking is for Linux and its like. Elsewhere, and where a server has ended, a plain child does the work (sandbox.py).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from minitransformer.course import show
from minitransformer.course.workbook.catalogue import files
from minitransformer.course.workbook.source import PACKAGE

CAN_FORK = hasattr(os, "fork") and hasattr(socket, "send_fds") and sys.platform != "darwin"
"""Whether a process that has computed can be forked; on a Mac, the system's own libraries forbid it."""


def environment() -> dict[str, str]:
    """In which a child runs: on one thread of the processor, so that a check is the same everywhere."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")])),
    }


def command(lesson: int | None = None) -> list[str]:
    """Starts a child, one that prepares a lesson before it is asked if `lesson` is given."""
    about = [] if lesson is None else [str(lesson), str(show.ROOT)]
    return [sys.executable, "-m", "minitransformer.course.workbook.child", *about]


class ServerEnded(Exception):
    """The server is gone."""


class Forked:
    """A forked child, with those parts of `subprocess.Popen` that a sandbox uses."""

    def __init__(self, server: Server, ends: tuple[int, int, int], pid: int) -> None:
        self.server, self.pid, self.returncode = server, pid, None
        writes, *reads = ends
        self.stdin = os.fdopen(writes, "wb")
        self.stdout, self.stderr = (os.fdopen(end, "rb") for end in reads)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it has not ended by then.
        """
        if self.returncode is None:
            try:
                self.returncode = int(self.server.line(timeout))
            except ServerEnded:
                self.returncode = -signal.SIGKILL
        return self.returncode


class Server:
    """The server, seen from the command that checks.

    Args:
        lesson: whose exercises it prepares.
    """

    def __init__(self, lesson: int) -> None:
        ours, theirs = socket.socketpair()
        self.socket, self.buffer, self.lesson = ours, b"", lesson
        self.made_from = self._sources()
        with theirs:
            self.process = subprocess.Popen(
                [*command(lesson), str(theirs.fileno())],
                cwd=show.ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def _sources(self) -> tuple[tuple[str, int], ...]:
        """The files that it has loaded, or may have, with their times."""
        paths = [*(PACKAGE / "minitransformer").rglob("*.py"), files()[self.lesson]]
        return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in paths))

    def is_current(self) -> bool:
        """Whether it runs, and what it has loaded has not been changed since."""
        return self.process.poll() is None and self.made_from == self._sources()

    def fork(self) -> Forked:
        """A child that waits for its request.

        Raises:
            ServerEnded: the server is gone.
        """
        pipes = [os.pipe() for _ in range(3)]
        (reads, writes), *others = pipes
        theirs = [reads, *(end for _, end in others)]
        try:
            socket.send_fds(self.socket, [b"\n"], theirs)
            pid = int(self.line())
        except (OSError, ServerEnded):
            for end in (writes, *(end for end, _ in others)):
                os.close(end)
            raise ServerEnded from None
        finally:
            for end in theirs:
                os.close(end)
        return Forked(self, (writes, *(end for end, _ in others)), pid)

    def line(self, timeout: float | None = None) -> bytes:
        """The next line that it sends."""
        self.socket.settimeout(timeout)
        while b"\n" not in self.buffer:
            try:
                part = self.socket.recv(64)
            except TimeoutError:
                raise subprocess.TimeoutExpired("a forked check", timeout) from None
            except OSError:
                part = b""
            if not part:
                raise ServerEnded
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def close(self) -> None:
        """End it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


# ---------------------------------------------------------------- in the server itself


def serve(descriptor: int, answer: Callable[[], Any], prepare: Iterator[Any]) -> None:
    """Fork a child for each request, until the other end closes; meanwhile go on preparing.

    Args:
        descriptor: of the socket.
        answer: what a child does; it does not come back.
        prepare: each step of it takes a moment; when it is exhausted, all is prepared.
    """
    with socket.socket(fileno=descriptor) as link:
        is_prepared = False
        while True:
            if not is_prepared and not select.select([link], [], [], 0)[0]:
                is_prepared = next(prepare, link) is link
                continue
            message, ends, *_ = socket.recv_fds(link, 1, 3)
            if not message:
                return
            pid = os.fork()
            if not pid:
                link.close()
                os.setsid()  # a group of its own, so that what it starts ends with it
                for number, end in enumerate(ends):
                    os.dup2(end, number)
                    os.close(end)
                answer()
            for end in ends:
                os.close(end)
            with suppress(BrokenPipeError):
                link.sendall(b"%d\n" % pid)
                _, status = os.waitpid(pid, 0)
                link.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
