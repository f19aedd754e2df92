"""The committed records of the lessons, data/records/lesson_NN/: which are stale, and how they are made again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from minitransformer.course import lessons, record
from minitransformer.course.book import living_record
from minitransformer.course.bootstrap import ROOT
from minitransformer.course.output.terminal import say
from minitransformer.errors import UserError

FOLDER = ROOT / "data" / "records"


def folder_of(number: int) -> Path:
    """Where a lesson's record is kept."""
    return FOLDER / f"lesson_{number:02}"


def read_all() -> dict[int, record.Record]:
    """The records that there are, by lesson; a lesson without one is left out.

    Raises:
        UserError: a damaged record.
    """
    return {
        number: record.read(number, folder_of(number))
        for number in lessons.lesson_files()
        if (folder_of(number) / "record.json").is_file()
    }


def stale(records: dict[int, record.Record] | None = None) -> dict[int, str]:
    """Lesson → why its record does not hold, in a sentence; milliseconds for each.

    Raises:
        UserError: a malformed lesson or a damaged record.
    """
    records = read_all() if records is None else records
    found = {}
    for number in lessons.lesson_files():
        if number not in records:
            found[number] = f"Lesson {number} was not recorded yet: make record ARGS={number}"
            continue
        changed = record.changed(records[number])
        if changed or records[number].quick:
            what = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            why = f"was recorded before a change of {what}" if changed else "was recorded in a shortened run"
            found[number] = f"Lesson {number} {why}: make record ARGS={number}"
    return found


def fits(number: int, kept: record.Record) -> bool:
    """Whether a record has an outcome for each of the lesson's cells of code, whatever else has changed."""
    cells = [cell for cell in lessons.load(number).cells if cell.is_code]
    return len(cells) == len(kept.cells)


def renew(numbers: Collection[int] = (), again: bool = False) -> Iterator[int]:
    """Record lessons anew, one after another; gives each lesson's number when it is done.

    Args:
        numbers: which; all that are stale if none is named.
        again: record them although they are not stale.

    Raises:
        UserError: no such lesson; a lesson that fails.
    """
    for number in numbers:
        lessons.load(number)
    wrong = stale()
    for number in numbers or lessons.lesson_files():
        if number in wrong or again:
            folder = folder_of(number)
            before = set(folder.glob("*")) if folder.is_dir() else set()
            made = record.record_lesson(number, folder=folder)
            files = {event["file"] for cell in made.cells for event in cell.events if event["kind"] == "figure"}
            for path in before:
                if path.name not in files | {"record.json"}:
                    path.unlink()
            yield number


def main(numbers: Collection[int] = (), again: bool = False) -> None:
    """Record what is stale, the living figures' numbers among it, and say what was done.

    Raises:
        UserError: as `renew`.
    """
    done = []
    for number in renew(numbers, again):
        say(f"Lesson {number} is recorded, in {record.read(number, folder_of(number)).seconds:.0f} s.")
        done.append(number)
    if not numbers and (again or living_record.is_stale()):
        living_record.record()
        say("The living figures' numbers are recorded.")
        done.append(0)
    if not done:
        say("Every record holds.")


def check(numbers: Collection[int]) -> list[str]:
    """Run lessons again, and say where they show something else than their record, timings and last digits aside.

    Raises:
        UserError: a lesson that fails, or has no record.
    """
    import tempfile

    found = []
    for number in numbers:
        kept = record.read(number, folder_of(number))
        with tempfile.TemporaryDirectory() as folder:
            now = record.record_lesson(number, folder=Path(folder))
        for at, (before, after) in enumerate(zip(kept.cells, now.cells, strict=True), 1):
            for one, other in zip(before.events, after.events, strict=False):
                if not alike(one, other):
                    found.append(f"Lesson {number}, cell {at} showed {shortly(one)} and shows {shortly(other)} now.")
            if len(before.events) != len(after.events):
                found.append(f"Lesson {number}, cell {at} showed {len(before.events)} things, {len(after.events)} now.")
    return found


TIMES = ("second", " ms", "tokens a", "per second", "faster", "minute")


def alike(one: object, other: object, within: float = 0.05) -> bool:
    """Whether two outcomes say the same: the same words, and numbers that differ by at most a twentieth.

    What names a time is not compared, because a time is never the same twice.
    """
    import re

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            alike(one[key], other[key], within) for key in one if key not in ("bar", "file", "inches")
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b, within) for a, b in zip(one, other, strict=True))
    if not isinstance(one, str) or not isinstance(other, str):
        return one == other
    if any(word in one for word in TIMES):
        return True
    number = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
    if number.sub("#", one) != number.sub("#", other):
        return False

    def values(text: str) -> list[float]:
        return [float(found.replace(",", "").replace("−", "-")) for found in number.findall(text)]

    pairs = zip(values(one), values(other), strict=True)
    return all(abs(a - b) <= within * max(abs(a), abs(b), 1e-3) for a, b in pairs)


def shortly(event: object) -> str:
    """An event for a message."""
    text = str(event)
    return text if len(text) < 90 else text[:87] + "…"


def lesson_numbers(words: Collection[str]) -> list[int]:
    """Lesson numbers as they were typed.

    Raises:
        UserError: one is no number.
    """
    for word in words:
        if not word.isdecimal():
            raise UserError(f"{word!r} is not a lesson's number; make lessons lists them.")
    return [int(word) for word in words]
