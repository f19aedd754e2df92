"""The learner's files: workbook/lesson_NN.py, workbook/progress.txt, and dated copies in workbook/backup/.

What a learner wrote is never changed: `start` only adds stubs of exercises that are missing, and `reset` first puts
a dated copy aside. Work and progress belong to exercises by their ids, so an upgrade of the course keeps both.
"""

from __future__ import annotations

import codecs
import re
import stat
import textwrap
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.output.terminal import display_width
from minitransformer.course.workbook.catalogue import exercises
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.imports import header
from minitransformer.course.workbook.reading import (
    WorkbookError,
    bound,
    is_there,
    locate,
    own_source,
    parse,
    read,
    under_its_heading,
)
from minitransformer.course.workbook.source import place
from minitransformer.errors import UserError
from minitransformer.files import write_aside

TOP = '''"""Workbook of lesson {number} · {title}

Each exercise below waits for code of yours; everything else that it needs is the course's. Change what you like here.
Only these two commands write into this file, and only if you call them:

    {start}  adds the exercises that it lacks, at its end
    {reset}  begins anew, here with one exercise; what you had written is kept in workbook/backup/

These look at it:

    {check}  checks the exercises in order and says what is wrong (check-{number}.2: only that one)
    {watch}  does so whenever you save
    {hint}  gives a hint for the first that does not pass, one more at each call
    {progress}  shows what you have done
"""

from __future__ import annotations
'''


def folder() -> Path:
    """Where workbooks lie."""
    return show.ROOT / "workbook"


def workbook_path(lesson: int) -> Path:
    """The workbook of a lesson."""
    return folder() / f"lesson_{lesson:02}.py"


def heading(exercise: Exercise) -> str:
    """The comment above an exercise, by which a reader finds it."""
    title = f"{exercise.id} · {exercise.title} · {exercise.minutes:g} minutes · {exercise.stars}"
    purpose = textwrap.wrap(exercise.purpose, 100, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([f"# {'─' * max(3, 97 - display_width(title))} {title}", *purpose])


def source_of(some: list[Exercise], solved: Collection[str] = ()) -> str:
    """Stubs, or the solutions of those in `solved`, with their headings."""
    return "\n\n\n".join(f"{heading(one)}\n\n{one.cut.solution if one.id in solved else one.cut.stub}" for one in some)


def new_text(lesson: int, some: list[Exercise], solved: Collection[str] = ()) -> str:
    """A whole workbook."""
    title = course.load(lesson).title if lesson in course.lesson_files() else "Exercises"
    imports = "\n".join(header([one.cut for one in some], f"workbook of lesson {lesson}"))
    commands = {"progress": "make progress", "reset": f"make reset-{lesson}.2"}
    commands |= {name: f"make {name}-{lesson}" for name in ("start", "check", "watch", "hint")}
    widest = max(map(len, commands.values()))
    top = TOP.format(number=lesson, title=title, **{name: text.ljust(widest) for name, text in commands.items()})
    return f"{top}\n{imports}\n\n\n{source_of(some, solved)}\n"


def start(lesson: int) -> tuple[Path, list[Exercise], bool]:
    """Write a lesson's workbook, or add the exercises that it lacks.

    Returns:
        The file, the exercises that were added, and whether the file is new.

    Raises:
        UserError: the lesson has no exercises; the workbook that is there cannot be read.
    """
    some, path = exercises(lesson), workbook_path(lesson)
    if not path.exists():
        write(path, new_text(lesson, some))
        return path, some, True
    text = read(path)
    tree = parse(path, text)
    if not text.strip():
        write(path, new_text(lesson, some))
        return path, some, False
    missing = [one for one in some if not is_there(tree, one) and not under_its_heading(text, tree, some, one)]
    if missing:
        # What the workbook has a name for is not imported again: that would put the package's code over the learner's.
        imports = header([one.cut for one in missing], f"workbook of lesson {lesson}", bound(tree))
        added = "\n".join([*imports, *["", ""] * bool(imports), source_of(missing)])
        old = path.read_bytes()
        gap = "\n" * (3 - min(2, len(text) - len(text.rstrip("\n"))))
        _refuse_read_only(path)
        write_aside(path, old + _as_written(gap + added + "\n", old))
    return path, missing, False


def _as_written(text: str, like: bytes) -> bytes:
    """Text as bytes, with the line ends that a file has."""
    return text.replace("\n", "\r\n" if b"\r\n" in like else "\n").encode("utf-8")


def _refuse_read_only(path: Path) -> None:
    """Replacing a file would pass over its being read-only; whoever made it so meant it.

    Raises:
        UserError: it is.
    """
    if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
        raise UserError(
            f"{place(path)} is read-only and stays as it is. To let this command write into it, make it writable "
            f"(chmod u+w {place(path)})."
        )


def write(path: Path, text: str) -> None:
    """Write a file aside and rename it."""
    write_aside(path, text.encode("utf-8", "surrogateescape"))


def backup(path: Path) -> Path:
    """Put a dated copy of a workbook into workbook/backup/."""
    copy = _dated(path)
    try:
        write_aside(copy, path.read_bytes())
    except OSError as error:
        raise UserError(f"{place(path)} cannot be read: {error.strerror}. Nothing was changed.") from None
    return copy


def _dated(path: Path) -> Path:
    """A name for a dated copy that no copy has yet."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    copy = path.parent / "backup" / f"{path.stem}.{stamp}{path.suffix}"
    number = 1
    while copy.exists():
        number += 1
        copy = copy.with_name(f"{path.stem}.{stamp}_{number}{path.suffix}")
    return copy


def reset(lesson: int, only: str | None = None) -> Path:
    """Begin a workbook anew, or one exercise of it; gives the dated copy of what was there.

    Raises:
        UserError: there is no workbook, or the exercise cannot be found in it.
    """
    path, some = workbook_path(lesson), exercises(lesson)
    if not path.exists():
        raise missing_workbook(lesson)
    _refuse_read_only(path)
    if only is None:
        copy = backup(path)
        write(path, new_text(lesson, some))
        return copy
    text = read(path)
    try:
        tree = parse(path, text)
    except WorkbookError as error:
        raise UserError(
            f"{error}\n\nUntil that is mended, only the whole workbook can be reset: make reset-{lesson}."
        ) from None
    exercise = next(one for one in some if one.id == only)
    node, owner = locate(tree, exercise)
    if node is None:
        raise UserError(f"{place(path)} has no {exercise.name} to reset; make start-{lesson} adds it.")
    if owner is not None:
        others = [one for one in owner.body[1:] if one is not node]
        if others:
            raise UserError(
                f"{place(path, owner.lineno)}: {owner.name} has more in it than {node.name}; "
                f"write the stub back by hand, or reset the whole workbook: make reset-{lesson}."
            )
        node = owner
    copy = backup(path)
    lines, old = text.split("\n"), path.read_bytes()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    new = "\n".join([*lines[: first - 1], exercise.cut.stub, *lines[node.end_lineno :]])
    write_aside(path, old[: 3 * old.startswith(codecs.BOM_UTF8)] + _as_written(new, old))
    return copy


def missing_workbook(lesson: int) -> UserError:
    """What to say where there is no workbook, and perhaps one of another name."""
    path = workbook_path(lesson)
    near = (
        [
            other.name
            for other in sorted(folder().glob("*.py"))
            if re.findall(r"\d+", other.stem) and int(re.findall(r"\d+", other.stem)[0]) == lesson
        ]
        if folder().is_dir()
        else []
    )
    if near:
        return UserError(
            f"There is no {place(path)}, but there is {near[0]} beside it. If that is your workbook of lesson "
            f"{lesson}, rename it to {path.name}; or make start-{lesson} writes a new one."
        )
    kept = sorted((folder() / "backup").glob(f"{path.stem}.*"))
    if kept:
        return UserError(
            f"There is no workbook for lesson {lesson}: make start-{lesson} writes a new one, or copy back what reset "
            f"kept last, {place(kept[-1])}."
        )
    return UserError(f"There is no workbook for lesson {lesson} yet: make start-{lesson} writes {place(path)}.")


class Kept:
    """The learner's files as they are before a learner's code runs, which may delete them.

    Args:
        where: the folder of the workbook that is run.
    """

    def __init__(self, where: Path) -> None:
        self.before: dict[Path, bytes] = {}
        for path in [*where.glob("lesson_*.py"), *where.glob("progress.txt")]:
            with suppress(OSError):
                self.before[path] = path.read_bytes()

    def losses(self) -> list[str]:
        """Put back what is gone, and say so; of what is suddenly much shorter, a dated copy is kept and named."""
        said = []
        if any(not path.exists() for path in self.before):
            time.sleep(0.3)  # an editor that saves may have taken it away for a moment
        for path, text in self.before.items():
            with suppress(UserError, OSError):
                if not path.exists():
                    write_aside(path, text)
                    said.append(f"{place(path)} was deleted while your code ran. It is back, as it was before.")
                elif 2 * path.stat().st_size < len(text):
                    copy = _dated(path)
                    write_aside(copy, text)
                    said.append(
                        f"{place(path)} lost more than half of its text while your code ran. What stood there before "
                        f"is kept in {place(copy)}."
                    )
        return said


def own_code(exercise: Exercise) -> str | None:
    """What the learner wrote for an exercise; None where there is nothing, or nothing that Python can read."""
    path = workbook_path(exercise.lesson)
    try:
        text = read(path)
        return own_source(text, parse(path, text), exercise) or None
    except (OSError, UserError):
        return None
