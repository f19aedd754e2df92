"""Runs a check in a child process that may loop, print, allocate or exit as it likes, within limits.

The time limit is for each exercise. Python's own faulthandler holds it inside the child, even while a library computes,
and says which lines were running; should the child be past that, the parent ends it.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minitransformer.course import show
from minitransformer.course.output.terminal import text_width
from minitransformer.course.workbook.book import Kept
from minitransformer.course.workbook.general import QUESTIONS
from minitransformer.course.workbook.server import CAN_FORK, Server, ServerEnded, command, environment
from minitransformer.course.workbook.source import place
from minitransformer.errors import UserError

SECONDS = 20
MEGABYTES = 2048
SHOWN = 2_000
"""Characters of what the code prints that are shown."""
STORM = 1_000_000
"""Characters after which it is stopped."""


@dataclass
class Answer:
    """What came of a check."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """id → state, text, line, source of each exercise that was checked."""
    problem: str = ""
    """Why the workbook could not be checked (to the end), if it could not."""
    at: str | None = None
    """The exercise that was being checked when the problem came."""
    case: tuple[int, str] | None = None
    """The number (from 0) and label of the case that was being run then."""
    line: int | None = None
    source: str = ""
    """The digest of that exercise's code."""
    losses: list[str] = field(default_factory=list)
    """What was done to the learner's files meanwhile, in sentences."""
    note: str = ""
    """What is to be said of the workbook beside all results."""
    printed: str = ""
    """The beginning of what the code printed."""
    cut: bool = False
    """Whether it printed more."""

    def passed(self) -> list[str]:
        """The ids of the exercises that pass."""
        return [identity for identity, result in self.results.items() if result["state"] == "passed"]


class Sandbox:
    """A child process that is ready for one check. Starting it early hides the seconds that PyTorch takes to load.

    Args:
        lesson: whose exercises the child prepares before it is asked; None: it loads PyTorch alone.
        server: forks the child; None: it is started from nothing.
    """

    def __init__(self, lesson: int | None = None, server: Server | None = None) -> None:
        self.process: Any = None
        if server is not None:
            with suppress(ServerEnded):
                self.process = server.fork()
        self.process = self.process or subprocess.Popen(
            command(lesson),
            cwd=show.ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, so that what it starts ends with it; Ctrl-C comes to us alone
        )
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.printed, self.count = "", 0
        self._ended = self._late = self._closed = False
        self.readers = [threading.Thread(target=reader, daemon=True) for reader in (self._events, self._prints)]
        for reader in self.readers:
            reader.start()

    def _events(self) -> None:
        for line in self.process.stdout:
            with suppress(ValueError, TypeError, KeyError):  # the code may have written into the pipe
                event = json.loads(line)
                self.events.put({**event, "event": str(event["event"])})
        self.events.put(None)

    def _prints(self) -> None:
        """Read all that is printed, lest the child wait for a reader, and keep the beginning and the end."""
        descriptor = self.process.stderr.fileno()
        beginning, end = b"", b""
        while True:
            try:
                part = os.read(descriptor, 65536)
            except OSError:
                part = b""
            if not part:
                break
            self.count += len(part)
            beginning = (beginning + part)[: 4 * SHOWN]
            end = (end + part)[-8000:]
            self.printed = (beginning if self.count <= 4 * SHOWN else beginning + end).decode("utf-8", "replace")
            if self.count > STORM:
                self._kill()

    def _kill(self) -> None:
        """End the child and whatever it has started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # all of them have ended
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()

    def close(self) -> None:
        """End the child."""
        if self._closed:
            return  # its number may be another process's by now
        self._closed = True
        self._kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        for reader, stream in zip(self.readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(1)
            if not reader.is_alive():  # else somebody who left the group holds the pipe open, and closing would wait
                stream.close()

    def check(
        self,
        lesson: int,
        workbook: Path,
        only: str | None = None,
        every: bool = False,
        told: Collection[str] = (),
        asked: Collection[str] = QUESTIONS,
        seconds: float = SECONDS,
        megabytes: int = MEGABYTES,
        on_result: Callable[[dict[str, Any]], None] = lambda result: None,
    ) -> Answer:
        """Check a workbook; the child ends with it.

        Args:
            lesson: its number.
            workbook: the file.
            only: an exercise's id; None for all in order.
            every: go on after one that fails; only the first is diagnosed then.
            asked: which of the questions to every exercise.
            told: ids of exercises of which it was said what they are for.
            seconds: time limit for each exercise.
            megabytes: of memory, where the system can limit it.
            on_result: called with each result as it comes.
        """
        request = {
            "lesson": lesson,
            "workbook": str(workbook),
            "root": str(show.ROOT),
            "only": only,
            "all": every,
            "told": list(told),
            "asked": list(asked),
            "seconds": seconds,
            "megabytes": megabytes,
            "width": text_width(),
        }
        answer, kept = Answer(), Kept(workbook.parent)
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            self._listen(answer, seconds, on_result)
            with suppress(subprocess.TimeoutExpired):  # it ended, or has nothing more to do after its last event
                self.process.wait(0.5 if self._ended or self._late else 5)
        except BrokenPipeError:
            pass
        finally:
            self.close()
            answer.losses = kept.losses()
        if not answer.problem and not self._ended:
            answer.problem = self._why(workbook, seconds) + _on_which_input(answer)
        trace = re.search(r"^Timeout \(|^Fatal Python error", self.printed, re.M)
        text = self.printed[: trace.start()] if trace else self.printed
        answer.printed, answer.cut = text[:SHOWN], len(text) > SHOWN or self.count > STORM
        return answer

    def _listen(self, answer: Answer, seconds: float, on_result: Callable[[dict[str, Any]], None]) -> None:
        pending: dict[str, Any] | None = None
        deadline = time.monotonic() + 120  # to load PyTorch on a slow disk
        while True:
            try:
                event = self.events.get(timeout=max(0.05, deadline - time.monotonic()))
            except queue.Empty:
                self._late = True
                break
            if event is None:
                break
            deadline = time.monotonic() + seconds + 5
            if pending is not None and event["event"] != "result":
                on_result(pending)  # no better report of the same exercise follows
                pending = None
            if event["event"] == "begin":
                answer.at, answer.line, answer.source = event["id"], event.get("line"), event.get("source", "")
                answer.case = None
            elif event["event"] == "case":
                answer.case = event["number"], event["label"]
            elif event["event"] == "result":
                answer.results[event["id"]] = pending = event
            elif event["event"] == "note":
                answer.note = event["text"]
            elif event["event"] == "problem":
                answer.problem = event["text"]
            elif event["event"] == "end":
                self._ended = True
                break
        if pending is not None:
            on_result(pending)
            self._ended = True  # what came after a report does not matter

    def _why(self, workbook: Path, seconds: float) -> str:
        """Why the child ended before it had answered."""
        kept = "Your file is as you left it."
        if self.count > STORM:
            return f"The code printed more than {STORM:,} characters and was stopped. {kept}"
        lines = re.findall(rf'^  File "{re.escape(str(workbook))}", line (\d+)(?: in (\S+))?', self.printed, re.M)
        if self._late or "Timeout (" in self.printed:
            where = (
                f"\n\n    line {lines[0][0]}, in {lines[0][1]}:  {_line(workbook, int(lines[0][0]))}" if lines else ""
            )
            return f"It did not end within {seconds:g} seconds and was stopped: probably a loop without end. {kept}" + (
                f" It was running{where}" if where else ""
            )
        code = self.process.returncode
        if "ModuleNotFoundError" in self.printed or "ImportError" in self.printed:
            raise UserError(f"The check could not start:\n{self.printed[-1500:]}")
        if code is not None and code < 0 and code != -9:
            where = f" in line {lines[0][0]} of {place(workbook)}" if lines else ""
            return f"The code made Python itself crash (signal {-code}){where}. {kept}"
        if code == -9:
            return f"The system stopped the code, as it does when memory runs out. {kept}"
        tail = f"\n\n{self.printed[-1500:].strip()}" if "Traceback" in self.printed else ""
        return f"The code ended the program (os._exit or the like, code {code}) before the check was done. {kept}{tail}"


class Supply:
    """Gives a child for each of many checks of a lesson, and keeps what makes the next one quick.

    Args:
        lesson: its number.
    """

    def __init__(self, lesson: int) -> None:
        self.lesson = lesson
        self.server = Server(lesson) if CAN_FORK else None
        self.spare = None if CAN_FORK else Sandbox(lesson)

    def sandbox(self) -> Sandbox:
        """The next child."""
        if self.server is not None:
            if not self.server.is_current():
                self.server.close()
                self.server = Server(self.lesson)
            return Sandbox(server=self.server)
        ready, self.spare = self.spare, None
        return ready or Sandbox(self.lesson)

    def prepare(self) -> None:
        """Make ready for the next check, once one has ended."""
        if self.server is None:
            self.spare = self.spare or Sandbox(self.lesson)

    def close(self) -> None:
        """End what waits."""
        for one in (self.server, self.spare):
            if one is not None:
                one.close()


def _on_which_input(answer: Answer) -> str:
    """At which case a check was stopped, and what was known before; nothing where it ran none."""
    if answer.case is None:
        return ""
    number, label = answer.case
    passed = f"; {number} smaller input{'s' * (number > 1)} passed" if number else ", the smallest"
    return f"\n\nIt was on input {number + 1}{passed}: {label}."


def _line(path: Path, number: int) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""
