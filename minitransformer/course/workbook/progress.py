"""How far each exercise has come: workbook/progress.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from minitransformer.course.locks import locked
from minitransformer.course.output.terminal import say
from minitransformer.course.workbook.book import folder, write
from minitransformer.course.workbook.source import place
from minitransformer.errors import UserError


@dataclass(frozen=True)
class State:
    """How far an exercise has come."""

    passed: bool = False
    day: str = "-"
    """Of the first pass."""
    hints: int = 0
    """How many were shown."""
    source: str = ""
    """The `digest` of the code that was checked last; "" where none was, or by a course that did not note it."""
    told: bool = False
    """Whether a check has said what the exercise is for."""

    def is_of(self, source: str) -> bool:
        """Whether the last check was of this code, by its digest, as far as is known."""
        return self.source in ("", source)


class Progress:
    """workbook/progress.txt: one line an exercise, by id. Lines that are not understood stay as they are."""

    TOP = "# id  passed or open  day of the first pass  hints shown  what was checked (make progress draws it)"
    LINE = re.compile(r"(\d+\.\d+)\s+(passed|open)\s+(\S+)\s+hints=(\d+)(?:\s+source=([0-9a-f]+))?(\s+told)?\s*")

    def __init__(self) -> None:
        self.path = folder() / "progress.txt"
        self.unsaved = ""
        self._read()

    def _read(self) -> None:
        try:
            text = self.path.read_bytes().decode("utf-8", "surrogateescape") if self.path.exists() else self.TOP
        except OSError as error:
            raise UserError(f"{place(self.path)} cannot be read: {error.strerror}. Move it away to go on.") from None
        self.lines = text.removesuffix("\n").split("\n")

    def __getitem__(self, identity: str) -> State:
        """The state of an exercise, by id."""
        for line in self.lines:
            found = self.LINE.fullmatch(line)
            if found and found[1] == identity:
                return State(found[2] == "passed", found[3], int(found[4]), found[5] or "", bool(found[6]))
        return State()

    def set(self, identity: str, **changes: Any) -> None:
        """Change an exercise's state and write the file, if there is anything to change.

        Where it cannot be written, the command goes on; `complain` says so at its end.
        """
        with locked(self.path):
            try:
                self._read()  # another command may have written since
                if self._change(identity, changes):
                    write(self.path, "\n".join(self.lines) + "\n")
            except UserError as error:
                self.unsaved = str(error)

    def _change(self, identity: str, changes: dict[str, Any]) -> bool:
        """Change the line of an exercise; whether there was anything to change."""
        before = self[identity]
        after = replace(before, **changes)
        if after.passed and after.day == "-":
            after = replace(after, day=date.today().isoformat())
        if after == before:
            return False
        line = f"{identity}  {'passed' if after.passed else 'open'}  {after.day}  hints={after.hints}"
        line += f"  source={after.source}" * bool(after.source) + "  told" * after.told
        for number, old in enumerate(self.lines):
            found = self.LINE.fullmatch(old)
            if found and found[1] == identity:
                self.lines[number] = line
                break
        else:
            self.lines.append(line)
        return True

    def complain(self) -> None:
        """Say that progress could not be saved, if so: after everything that was asked for."""
        if self.unsaved:
            say(f"Your progress could not be saved. {self.unsaved}")
