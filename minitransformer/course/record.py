"""A lesson's outcome as data: what each of its cells showed, and what that rests on.

    record = record_lesson(2)                 # runs the lesson in a process of its own; its figures are files
    record.cells[0].events                    # [{"kind": "table", "headers": […], "rows": […], …}, …]
    record.write(); read(2)                   # build/records/lesson_02/record.json, and back
    changed(record)                           # what it rests on that is no longer as it was: milliseconds

Cells are those of code, in the lesson's order. A record holds no prose and no code: whoever prints the lesson takes
them from the lesson as it is. They fit together as long as `changed` finds nothing; other prose changes nothing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minitransformer.course import bootstrap, output, runner
from minitransformer.course.figures import picture
from minitransformer.course.fingerprints import bare, fingerprint, of_text
from minitransformer.course.lessons import ROOT, Cell, Lesson, load
from minitransformer.errors import UserError
from minitransformer.files import write_aside

FORMAT = 1
"""Raised when older records can no longer be read."""
LARGEST_SVG = 200_000
"""Bytes; a drawing of many points becomes pixels instead."""
MACHINERY = (
    "bootstrap.py",
    "fingerprints.py",
    "lessons.py",
    "output/notebook.py",
    "output/terminal.py",
    "output/translated.py",
    "record.py",
    "runner.py",
    "shipped.py",
    "translation/__init__.py",
    "translation/blocks.py",
    "translation/catalogues.py",
    "translation/messages.py",
    "visible.py",
)
"""Modules of the course that are loaded with every lesson and decide nothing of what is recorded, which is English."""
PACKAGES = ("torch", "numpy", "matplotlib", "tiktoken", "regex", "safetensors")


@dataclass
class RecordedCell:
    """What a cell of code showed."""

    line: int
    """Of the lesson, where the cell began."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Each with its "kind": say, verbatim, table, figure or source; the rest as the event has it. A table's cell is a
    text, or {"text": "██", "bar": 0.25}; a figure has its "file", beside the record."""
    seconds: float = 0.0


@dataclass
class Record:
    """One run of one lesson."""

    lesson: int
    quick: bool
    cells: list[RecordedCell]
    seconds: float
    versions: dict[str, str]
    """Of Python and of the packages that compute."""
    machine: dict[str, Any]
    """Its system, processor, cores, and the threads that PyTorch took."""
    rests_on: dict[str, str]
    """Path from the course's folder → fingerprint: the lesson's code, modules of the package that it imports, data that
    it reads. Comments, docstrings and prose do not count."""
    folder: Path = field(default=Path(), repr=False, compare=False)
    """Where record.json and the figures are."""
    format: int = FORMAT

    def write(self) -> Path:
        """Write record.json beside the figures; gives its path.

        Raises:
            UserError: no room on the disk, or no permission to write.
        """
        data = {name: value for name, value in asdict(self).items() if name != "folder"}
        path = self.folder / "record.json"
        write_aside(path, (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode())
        return path


def folder_of(number: int) -> Path:
    """Where a lesson's record is kept if nobody says otherwise."""
    return ROOT / "build" / "records" / f"lesson_{number:02}"


def record_lesson(number: int, quick: bool = False, folder: Path | None = None) -> Record:
    """Run lesson `number` in a process of its own and write down what it shows.

    Args:
        number: the lesson.
        quick: a smoke run.
        folder: for record.json and the figures; `folder_of(number)` if it is not given.

    Raises:
        NoSuchLesson: there is no such lesson.
        UserError: the lesson is malformed or fails, or prints something that goes through no event.
    """
    load(number)
    folder = folder or folder_of(number)
    command = [
        sys.executable,
        "-m",
        "minitransformer.course.record",
        str(number),
        str(folder),
        "quick" if quick else "",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace")
    if ran.returncode:
        raise UserError(f"Lesson {number} was not recorded, for it failed:\n\n{ran.stderr.strip()[-2000:]}")
    if ran.stdout:
        raise UserError(
            f"Lesson {number} was not recorded. It prints what follows, which goes through no event of course/show.py; "
            f"the record would lack it:\n\n{ran.stdout[:500]}"
        )
    return read(number, folder)


def read(number: int, folder: Path | None = None) -> Record:
    """The record of a lesson that was written before.

    Raises:
        UserError: there is none, or it is damaged or of another format.
    """
    folder = folder or folder_of(number)
    path = folder / "record.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise UserError(f"{path} has format {data['format']}, this course reads format {FORMAT}: record it again.")
        cells = [RecordedCell(**cell) for cell in data.pop("cells")]
        return Record(cells=cells, folder=folder, **data)
    except FileNotFoundError:
        raise UserError(f"Lesson {number} has no record yet: {path} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no whole record of a lesson ({error!r}): record it again.") from error


def changed(record: Record) -> list[str]:
    """The paths on which a record rests that are gone or no longer what they were; empty for a record that holds.

    Raises:
        UserError: the lesson is malformed.
    """
    lesson = load(record.lesson)
    own = _place(lesson.path)
    found = []
    for place, before in record.rests_on.items():
        path = ROOT / place
        try:
            now = code_of(lesson) if place == own else fingerprint(path)
        except (OSError, SyntaxError):
            now = ""
        if now != before:
            found.append(place)
    if own not in record.rests_on:  # the lesson's file has another name
        found.append(own)
    return found


def code_of(lesson: Lesson) -> str:
    """The fingerprint of a lesson's code, cell by cell: what Python runs of it."""
    return of_text("\n# %%\n".join(bare(cell.source) for cell in lesson.cells if cell.is_code))


# ---------------------------------------------------------------- recording


class Recorder(output.Sink):
    """Keeps what each cell shows; figures become files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells: list[RecordedCell] = []
        self._began = 0.0

    def cell(self, cell: Cell) -> None:
        """A cell of code begins a new list of events."""
        self._end()
        if cell.is_code:
            self.cells.append(RecordedCell(cell.line))
        self._began = time.perf_counter()

    def closes(self, lesson: Lesson, seconds: float) -> None:
        """The last cell has run."""
        self._end()

    def _end(self) -> None:
        if self.cells and not self.cells[-1].seconds:
            self.cells[-1].seconds = round(time.perf_counter() - self._began, 3)

    def show(self, event: output.Event) -> None:
        """Keep an event as JSON has it."""
        events = self.cells[-1].events
        match event:
            case output.Say(text):
                events.append({"kind": "say", "text": text})
            case output.Verbatim(text):
                if events and events[-1]["kind"] == "verbatim":
                    events[-1]["text"] += f"\n{text}"
                else:
                    events.append({"kind": "verbatim", "text": text})
            case output.Table(headers, rows, right):
                cells = [[_cell(cell) for cell in row] for row in rows]
                events.append({"kind": "table", "headers": headers, "rows": cells, "right": right})
            case output.Source(name, code):
                events.append({"kind": "source", "name": name, "code": code})
            case output.Figure(_, name, caption, alt):
                form, data = "svg", picture(event.drawing, "svg")
                if len(data) > LARGEST_SVG:
                    form, data = "png", picture(event.drawing, "png")
                write_aside(self.folder / f"{name}.{form}", data)
                inches = [round(float(size), 2) for size in event.drawing.get_size_inches()]
                events.append(
                    {"kind": "figure", "file": f"{name}.{form}", "caption": caption, "alt": alt, "inches": inches}
                )


def _cell(cell: str) -> str | dict[str, Any]:
    return {"text": str(cell), "bar": round(cell.fraction, 4)} if isinstance(cell, output.Bar) else cell


def record_here(number: int, folder: Path, quick: bool = False) -> Record:
    """As `record_lesson`, in this process: whatever it has imported and opened before counts as the lesson's, too.

    Python cannot forget an audit hook, so the one that notes opened files stays.
    """
    opened = opened_files()
    lesson, sink = load(number), Recorder(folder)
    began = time.perf_counter()
    runner.run(number, quick=quick, sink=sink)
    seconds = time.perf_counter() - began
    rests_on = {_place(lesson.path): code_of(lesson)}
    rests_on |= {_place(path): fingerprint(path) for path in sorted({*imported_modules(), *opened()})}
    return Record(number, quick, sink.cells, round(seconds, 1), versions(), machine(), rests_on, folder)


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules() -> list[Path]:
    """The package's modules that are loaded and can decide what a lesson computes or says."""
    package = ROOT / "minitransformer"
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    machinery = {package / "course" / name for name in MACHINERY}
    return sorted(file for file in files if file.is_relative_to(package) and file not in machinery)


def opened_files() -> Callable[[], set[Path]]:
    """Note from now on which files of the course's data are read; the function that is given back lists them."""
    data, seen = str(ROOT / "data") + os.sep, set()

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path = os.path.abspath(arguments[0])
            if path.startswith(data) and not path.endswith("SHA256SUMS"):
                seen.add(path)

    from minitransformer import checkpoint

    # safetensors opens its files itself, where Python does not see it.
    safe_open = checkpoint.safe_open

    def noting_safe_open(path: str | Path, **settings: Any) -> Any:
        note("open", (path,))
        return safe_open(path, **settings)

    checkpoint.safe_open = noting_safe_open
    sys.addaudithook(note)
    return lambda: {Path(path) for path in seen if os.path.isfile(path)}


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    from importlib import metadata

    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """On what a lesson was measured; nothing in it names the machine itself."""
    import torch

    cpu = Path("/proc/cpuinfo")  # on Linux, where platform.processor() knows nothing
    named = re.search(r"^model name\s*: (.*)", cpu.read_text(), re.M) if cpu.exists() else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def main() -> int:
    """Record in this process: `python -m minitransformer.course.record 2 folder [quick]`."""
    bootstrap.share_the_cores()
    number, folder, quick = sys.argv[1:]
    try:
        record_here(int(number), Path(folder), quick == "quick").write()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
