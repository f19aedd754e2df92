"""The exercise loop on the command line: start, check, watch, hint, solution, reset, progress."""

from __future__ import annotations

import ast
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from minitransformer import course, show
from minitransformer.errors import UserError
from minitransformer.show import say, styled
from minitransformer.workbook import book
from minitransformer.workbook.book import Progress
from minitransformer.workbook.cut import place
from minitransformer.workbook.exercise import Exercise, exercises, files, find
from minitransformer.workbook.sandbox import Answer, Sandbox

FEW = 8
"""Lines of code that are shown without being asked for."""


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
    path, added, is_new = book.start(lesson)
    text = book.read(path)
    tree = book.parse(path, text)
    if is_new:
        say(f"{place(path)} is written: {len(some)} exercises, about {sum(one.minutes for one in some):g} minutes.")
    elif added:
        say(f"{place(path)} was there already; what it lacked is added at its end, the rest is untouched.")
    elif all(book.is_there(tree, one) for one in some):
        say(f"{place(path)} is there already and lacks nothing; it is untouched.")
    for one in some:
        renamed = None if book.is_there(tree, one) else book.under_its_heading(text, tree, some, one)
        if renamed is not None:
            say(book.wants_its_name(path, renamed, one))
    print()
    rows = [(one.id, one.name, one.title, one.minutes, one.stars, book.locate(tree, one)[0]) for one in some]
    show.table(
        [(*row[:5], getattr(row[5], "lineno", None)) for row in rows],
        ["", "function", "", "minutes", "", "line"], [None, None, None, "g", None, None],
    )  # fmt: skip
    print()
    say(f"Open it in your editor and replace the first `raise` by code. make check-{lesson} says how it went; "
        f"make watch-{lesson} says so whenever you save.")  # fmt: skip
    return 0


# ---------------------------------------------------------------- checking


def check(lesson: int, only: str | None = None) -> int:
    """Check a workbook, or one exercise of it; 0 if all that was checked passes."""
    return 0 if check_with(_sandbox(lesson), lesson, only) else 1


def _sandbox(lesson: int) -> Sandbox:
    if lesson in files() and not book.workbook_path(lesson).exists():
        raise book.missing_workbook(lesson)
    exercises(lesson)
    return Sandbox()


def check_with(sandbox: Sandbox, lesson: int, only: str | None = None, **limits: Any) -> bool:
    """Check in a child that is ready, and print what comes; whether everything passes.

    Raises:
        UserError: there is no such exercise.
    """
    some, path, progress = exercises(lesson), book.workbook_path(lesson), Progress()
    if only is not None:
        find(only)
    by_id = {one.id: one for one in some}
    print(styled(f"{place(path)} · lesson {lesson}", "dim"))

    def show_result(result: dict[str, Any]) -> None:
        exercise, passed = by_id[result["id"]], result["state"] == "passed"
        was_passed = progress[exercise.id].passed
        if passed:
            print(styled(f"✓ {exercise.id} {exercise.name}", "green"))
            if not was_passed:
                _compared(exercise)
        else:
            where = f" · {place(path, result['line'])}" if result.get("line") else ""
            mark = "○" if result["state"] == "unwritten" else "✗"
            print(f"{styled(f'{mark} {exercise.id} {exercise.name}', 'bold')} · {exercise.title}{where}\n")
            print(result["text"] + "\n")
        progress.set(exercise.id, passed=passed)

    answer = sandbox.check(lesson, path, only, on_result=show_result, **limits)
    if answer.problem:
        if answer.at is not None:
            exercise = by_id[answer.at]
            where = f" · {place(path, answer.line)}" if answer.line else ""
            print(f"{styled(f'✗ {exercise.id} {exercise.name}', 'bold')} · {exercise.title}{where}\n")
            progress.set(exercise.id, passed=False)
        print("\n".join(_wrapped(answer.problem)) + "\n")
    _printed(answer)
    wanted = [only] if only else [one.id for one in some]
    failing = next((identity for identity in wanted if identity not in answer.passed()), None)
    _what_next(lesson, some, failing, answer, only)
    return failing is None


def _wrapped(text: str) -> Iterator[str]:
    """Paragraphs wrapped, indented lines as they are."""
    for line in text.split("\n"):
        yield from [line] if line.startswith(" ") else show.wrap(line, show.text_width())


def _printed(answer: Answer) -> None:
    if not answer.printed.strip():
        return
    # Escape sequences would clear the screen, or write over the report.
    lines = re.sub(r"[\0-\x08\x0b-\x1f\x7f]", "·", answer.printed.rstrip("\n")).expandtabs(4).split("\n")
    print(styled("Your code printed:", "bold"))
    for line in lines[:20]:
        print(f"    {line[: show.text_width()]}")
    if answer.cut or len(lines) > 20:
        print("    … (and more, which is cut here)")
    print()


def _what_next(lesson: int, some: list[Exercise], failing: str | None, answer: Answer, only: str | None) -> None:
    if failing is not None:
        state = Progress()[failing]
        left = 3 - state.hints
        hint = f"make hint-{failing}: a hint ({left} of 3 left)" if left else f"make solution-{failing}: the solution"
        print(f"{hint}   ·   make check-{failing}: this one again   ·   make watch-{lesson}: check on every save")
        return
    following = next((one for one in some if one.id not in answer.passed() and not Progress()[one.id].passed), None)
    if only is not None and following is not None:
        print(f"Next: {following.id} {following.name}, {following.title} ({following.minutes:g} minutes).")
        return
    if only is not None:
        print(f"make check-{lesson} checks all of lesson {lesson}.")
        return
    later = [number for number in files() if number > lesson]
    print()
    say(f"All {len(some)} exercises of lesson {lesson} pass. make lesson-{lesson} MINE=1 runs it on your code."
        + (f" Next: make start-{later[0]}." if later else ""))  # fmt: skip


def _compared(exercise: Exercise) -> None:
    """The learner's code and the package's, one below the other, in a few lines."""
    own = _own(exercise)
    if own is None:
        return
    if _is_alike(own, exercise.cut.answer):
        print("    the same code as the package's")
        return
    for whose, code in (("yours", own), ("the package's", exercise.cut.answer)):
        lines = code.split("\n")
        print(f"    {whose}, {len(lines)} line{'s' * (len(lines) != 1)}")
        print(textwrap.indent("\n".join(lines[:FEW]), f"    {styled('│', 'dim')} "))
        if len(lines) > FEW:
            print(f"    … make solution-{exercise.id} shows all of both")


def _own(exercise: Exercise) -> str | None:
    path = book.workbook_path(exercise.lesson)
    try:
        text = book.read(path)
        return book.own_source(text, book.parse(path, text), exercise) or None
    except (OSError, UserError):
        return None


def _is_alike(one: str, other: str) -> bool:
    try:
        # A function's body: "return" may stand in it.
        return ast.dump(ast.parse(f"def f():\n{textwrap.indent(one, ' ')}")) == (
            ast.dump(ast.parse(f"def f():\n{textwrap.indent(other, ' ')}"))
        )
    except SyntaxError:
        return False


# ---------------------------------------------------------------- hints, solutions, reset


def first_open(lesson: int) -> Exercise | None:
    """The first exercise that does not pass, found by a check that prints nothing; None if all pass."""
    answer = _sandbox(lesson).check(lesson, book.workbook_path(lesson))
    passed, progress = answer.passed(), Progress()
    for one in exercises(lesson):
        if one.id in passed:
            progress.set(one.id, passed=True)
        elif answer.results or answer.at or not progress[one.id].passed:
            return one
    return None


def hint(lesson: int, only: str | None = None) -> int:
    """One more hint for an exercise, or for the first that does not pass."""
    exercise = find(only) if only else first_open(lesson)
    if exercise is None:
        print(f"All exercises of lesson {lesson} pass; make hint-{lesson}.1 shows the hints of one that does.")
        return 0
    give_hint(exercise)
    return 0


def give_hint(exercise: Exercise) -> None:
    """Print the next hint and count it; all three when all were given."""
    progress = Progress()
    shown = progress[exercise.id].hints
    number = min(shown + 1, 3)
    progress.set(exercise.id, hints=number)
    print(styled(f"{exercise.id} {exercise.name} · hint {number} of 3", "bold"))
    for text in exercise.hints if shown >= 3 else exercise.hints[number - 1 : number]:
        say(text)
    if shown >= 3:
        print(f"\nThat was all three. make solution-{exercise.id} shows the solution.")
    elif number < 3:
        print(f"\nmake hint-{exercise.id} gives another.")


def solution(lesson: int, only: str | None = None, yes: bool = False) -> int:
    """Show a solution beside what the learner wrote; an unsolved one only after asking.

    Raises:
        UserError: it is unsolved, and nobody sits at a terminal to be asked.
    """
    progress = Progress()
    some = [find(only)] if only else exercises(lesson)
    open_ones = [one for one in some if not progress[one.id].passed]
    shown = some if only or not open_ones else open_ones[:1]
    for exercise in shown:
        if not progress[exercise.id].passed and not yes and not _agrees(exercise, progress[exercise.id].hints):
            return 1
        own = _own(exercise)
        print(styled(f"{exercise.id} {exercise.name} · {exercise.title}", "bold"))
        if own is not None and "NotImplementedError" not in own:
            print(f"\nyours ({place(book.workbook_path(exercise.lesson))}):\n")
            print(textwrap.indent(own, f"{styled('│', 'dim')} "))
        print(f"\nthe package's ({place(exercise.cut.path, exercise.cut.line)}):\n")
        print(textwrap.indent(exercise.cut.answer, f"{styled('│', 'dim')} ") + "\n")
    return 0


def _agrees(exercise: Exercise, hints: int) -> bool:
    """Whether the learner wants to see a solution before having one."""
    left = f"{3 - hints} of its hints are not read yet" if hints < 3 else "you have read all its hints"
    if not sys.stdin.isatty():
        raise UserError(
            f"{exercise.id} {exercise.name} does not pass yet ({left}). To see the solution all the same: "
            f"python -m minitransformer solution {exercise.id} --yes."
        )
    answer = input(f"{exercise.id} {exercise.name} does not pass yet; {left}. Show the solution? [y/N] ")
    return answer.strip().lower() in ("y", "yes", "是", "好")


def reset(lesson: int, only: str | None = None) -> int:
    """Begin a workbook or an exercise anew; what was there is kept in a dated copy."""
    if only is not None:
        find(only)
    copy = book.reset(lesson, only)
    progress = Progress()
    for one in exercises(lesson):
        if only in (None, one.id):
            progress.set(one.id, passed=False, hints=0)
    what = f"{only} in {place(book.workbook_path(lesson))}" if only else place(book.workbook_path(lesson))
    say(f"{what} is as at the beginning. What you had written is kept in {place(copy)}.")
    return 0


def progress() -> int:
    """Show what is done, lesson by lesson."""
    state, rows, minutes_done, minutes = Progress(), [], 0.0, 0.0
    done = total = 0
    for lesson in files():
        some = exercises(lesson)
        passed = [one for one in some if state[one.id].passed]
        title = course.load(lesson).title if lesson in course.lesson_files() else ""
        following = next((f"{one.id} {one.name}" for one in some if not state[one.id].passed), "all done")
        rows.append((lesson, title, "■" * len(passed) + "□" * (len(some) - len(passed)), following))
        done, total = done + len(passed), total + len(some)
        minutes_done += sum(one.minutes for one in passed)
        minutes += sum(one.minutes for one in some)
    show.table(rows, ["lesson", "", "", "next"])
    print()
    say(f"{done} of {total} exercises pass, {minutes_done:g} of {minutes:g} minutes.")
    return 0


# ---------------------------------------------------------------- watching


PAUSE = 0.4
"""Seconds between two looks at the file."""


def watch(lesson: int, key: Callable[[], str | None] | None = None) -> int:
    """Check whenever the workbook is saved, until q is pressed; h gives a hint.

    The file is read every few tenths of a second. That works on every disk and under WSL, and needs no library.

    Args:
        lesson: its number.
        key: gives the key that was pressed since it was last asked, or None; the terminal's by default.
    """
    spare, path = _sandbox(lesson), book.workbook_path(lesson)
    seen: bytes | None = None
    with nullcontext(key) if key else keys() as pressed:
        try:
            while True:
                now = _content(path)
                if now is not None and now != seen:
                    first, seen = seen is None, now
                    if not first:
                        _clear()
                    check_with(spare, lesson)
                    spare = Sandbox()  # ready before the next save
                    print(
                        styled("\nWatching. Save the workbook to check it again; h: hint, q: quit.", "dim"), flush=True
                    )
                char = pressed()
                if char == "q":
                    return 0
                if char == "h":
                    state = Progress()
                    open_one = next((one for one in exercises(lesson) if not state[one.id].passed), None)
                    give_hint(open_one) if open_one else print("Everything passes.")
                if char is None:
                    time.sleep(PAUSE)
        finally:
            spare.close()


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
