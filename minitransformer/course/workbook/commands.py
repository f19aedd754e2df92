"""The exercise loop on the command line: start, check, watch, hint, solution, reset, progress."""

from __future__ import annotations

import ast
from typing import Any

from minitransformer.course import lessons as course
from minitransformer.course.output.terminal import say, table
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import book, reading
from minitransformer.course.workbook.catalogue import exercises, files, find
from minitransformer.course.workbook.checking import check
from minitransformer.course.workbook.hints import hint, solution
from minitransformer.course.workbook.progress import Progress
from minitransformer.course.workbook.source import place
from minitransformer.course.workbook.standing import (
    BOXES,
    CHANGED,
    CHANGED_SINCE,
    MISSING,
    OPEN,
    SOLVED,
    how_each_stands,
)
from minitransformer.course.workbook.watching import watch


def run(command: str, number: Any = None, yes: bool = False) -> int:
    """Run a command of the loop: its name and the lesson's number, or (number, exercise's id or None)."""
    if command == "progress":
        return progress()
    if command in ("start", "watch"):
        return {"start": start, "watch": watch}[command](number)
    if command == "solution":
        return solution(*number, yes=yes)
    return {"check": check, "hint": hint, "reset": reset}[command](*number)


def start(lesson: int) -> int:
    """Write the workbook of a lesson, or add what it lacks."""
    some = exercises(lesson)
    before = book.workbook_path(lesson)
    tree_before = reading.parse(before, reading.read(before)) if before.exists() else ast.Module([], [])
    path, added, is_new = book.start(lesson)
    text = reading.read(path)
    tree = reading.parse(path, text)
    if is_new:
        say(f"{place(path)} is written: {len(some)} exercises, about {sum(one.minutes for one in some):g} minutes.")
    elif added:
        say(f"{place(path)} was there already; what it lacked is added at its end, the rest is untouched.")
    elif all(reading.is_there(tree, one) for one in some):
        say(f"{place(path)} is there already and lacks nothing; it is untouched.")
    for one in some:
        if one in added and (before := reading.outdated(tree_before, one)):
            name, line = before
            say(
                f"{one.id}: {name} is {one.name} now, and takes other parameters. Your {name} stays where it is (line "
                f"{line}); the new stub stands in line {reading.locate(tree, one)[0].lineno}. Carry over what you need."
            )
    for one in some:
        renamed = None if reading.is_there(tree, one) else reading.under_its_heading(text, tree, some, one)
        if renamed is not None:
            say(reading.wants_its_name(path, renamed, one))
    print()
    rows = [(one.id, one.name, one.title, one.minutes, one.stars, reading.locate(tree, one)[0]) for one in some]
    table(
        [(*row[:5], getattr(row[5], "lineno", None)) for row in rows],
        ["", t("function"), "", t("minutes"), "", t("line")],
        [None, None, None, "g", None, None],
    )
    print()
    say(
        f"Open it in your editor and replace the first `raise` by code. make check-{lesson} says how it went; "
        f"make watch-{lesson} says so whenever you save."
    )
    return 0


def reset(lesson: int, only: str | None = None) -> int:
    """Begin a workbook or an exercise anew; what was there is kept in a dated copy."""
    if only is not None:
        find(only)
    copy = book.reset(lesson, only)
    progress = Progress()
    for one in exercises(lesson):
        if only in (None, one.id):
            progress.set(one.id, passed=False, hints=0, source="", told=False)
    what = f"{only} in {place(book.workbook_path(lesson))}" if only else place(book.workbook_path(lesson))
    say(f"{what} is as at the beginning. What you had written is kept in {place(copy)}.")
    progress.complain()
    return 0


def progress() -> int:
    """Show what is done, lesson by lesson, a box for each exercise in its place."""
    rows, total, minutes, minutes_done = [], 0, 0.0, 0.0
    boxes = ""
    for lesson in files():
        some, now = exercises(lesson), how_each_stands(lesson)
        drawn = "".join(BOXES[now[one.id]] for one in some)
        title = course.load(lesson).title if lesson in course.lesson_files() else ""
        following = next((one for one in some if now[one.id] != SOLVED), None)
        said = "all done" if following is None else f"{following.id} {following.name}"
        if following is not None and now[following.id] != OPEN:
            is_missing = now[following.id] == MISSING
            said += f" (not in the workbook: make start-{lesson} adds it)" if is_missing else f" ({CHANGED_SINCE})"
        rows.append((lesson, title, drawn, said))
        boxes, total = boxes + drawn, total + len(some)
        minutes_done += sum(one.minutes for one in some if now[one.id] == SOLVED)
        minutes += sum(one.minutes for one in some)
    table(rows, [t("lesson"), "", "", t("next")])
    print()
    done = boxes.count(BOXES[SOLVED])
    say(
        f"{done} of {total} exercises pass, {minutes_done:g} of {minutes:g} minutes. Each has its box in its place: "
        f"{BOXES[SOLVED]} solved, {BOXES[CHANGED]} {CHANGED_SINCE}, {BOXES[OPEN]} open."
    )
    return 0
