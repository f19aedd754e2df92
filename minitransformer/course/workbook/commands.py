"""The exercise loop on the command line: start, check, watch, hint, solution, reset, progress."""

from __future__ import annotations

import ast
import os
import re
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.show import say, styled
from minitransformer.course.workbook import book
from minitransformer.course.workbook.book import Progress
from minitransformer.course.workbook.cut import MAY_USE, place
from minitransformer.course.workbook.exercise import Exercise, exercises, files, find, laid_out
from minitransformer.course.workbook.sandbox import Answer, Sandbox
from minitransformer.errors import UserError

FEW = 8
"""Lines of code that are shown without being asked for."""
SAID = {"passed": "passed", "failed": "fails", "unwritten": "not written yet", "absent": "not in the workbook"}
"""The states of an exercise, in the list of a check."""
MARKS = {"passed": "✓", "unwritten": "○"}
SOLVED, CHANGED, RETRIED, OPEN, MISSING = "solved", "changed since", "changed", "open", "missing"
"""How an exercise stands now. CHANGED: it passed, RETRIED: it did not pass, and it is not what was checked then.
MISSING: there is a workbook, but this is not in it."""
BOXES = {SOLVED: "■", CHANGED: "◧", RETRIED: "◧", OPEN: "□", MISSING: "□"}
CHANGED_SINCE = "changed since it was checked"


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
        ["", "function", "", "minutes", "", "line"],
        [None, None, None, "g", None, None],
    )
    print()
    say(
        f"Open it in your editor and replace the first `raise` by code. make check-{lesson} says how it went; "
        f"make watch-{lesson} says so whenever you save."
    )
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
    by_id, newly = {one.id: one for one in some}, []
    widest = max(len(one.name) for one in some)
    print(styled(f"{place(path)} · lesson {lesson}", "dim"))

    def listed(exercise: Exercise, state: str, said: str) -> None:
        mark = MARKS.get(state, "✗" if state else "·")
        line = f"{mark} {exercise.id} {exercise.name.ljust(0 if only else widest)}"
        print(styled(line, "green") if state == "passed" else line, "" if only else f"  {said}", sep="")

    def show_result(result: dict[str, Any]) -> None:
        exercise, passed = by_id[result["id"]], result["state"] == "passed"
        if passed and not progress[exercise.id].passed:
            newly.append(exercise)
        progress.set(exercise.id, passed=passed, source=result.get("source", ""))
        if passed or only is None:
            listed(exercise, result["state"], SAID[result["state"]])

    told = [one.id for one in some if progress[one.id].told]
    answer = sandbox.check(lesson, path, only, every=only is None, told=told, on_result=show_result, **limits)
    stopped = by_id.get(answer.at) if answer.problem else None
    if stopped is not None:
        progress.set(stopped.id, passed=False, source=answer.source)
    if only is None and (answer.results or stopped is not None):
        for one in some:
            if one is stopped:
                listed(one, "failed", "was stopped")
            elif one.id not in answer.results:
                listed(one, "", "not reached")
    for exercise in newly:
        _compared(exercise)
    shown = _first_to_mend(some, answer, stopped)
    if shown is not None:
        result = answer.results.get(shown.id, {})
        line = answer.line if shown is stopped else result.get("line")
        where = f" · {place(path, line)}" if line else ""
        mark = MARKS.get(result.get("state"), "✗")
        print(f"\n{styled(f'{mark} {shown.id} {shown.name}', 'bold')} · {shown.title}{where}\n")
        print("\n".join(_wrapped(answer.problem)) if shown is stopped else result["text"], end="\n\n")
        progress.set(shown.id, told=progress[shown.id].told or shown is not stopped)
    elif answer.problem:
        print("\n" + "\n".join(_wrapped(answer.problem)) + "\n")
    elif answer.printed.strip():
        print()
    _printed(answer)
    wanted = [only] if only else [one.id for one in some]
    failing = next((identity for identity in wanted if identity not in answer.passed()), None)
    _what_next(lesson, some, shown.id if shown is not None else failing, answer, only)
    return failing is None


def _first_to_mend(some: list[Exercise], answer: Answer, stopped: Exercise | None) -> Exercise | None:
    """Of which exercise a check tells all: the first with code that is not right, or else the first without any."""
    states = {one.id: answer.results.get(one.id, {}).get("state") for one in some}
    wrong = [one for one in some if one is stopped or states[one.id] in ("failed", "absent")]
    return next(iter([*wrong, *(one for one in some if states[one.id] == "unwritten")]), None)


def _wrapped(text: str) -> Iterator[str]:
    """Paragraphs wrapped, indented lines as they are."""
    for line in text.split("\n"):
        yield from [line] if line.startswith(" ") else show.wrap(line, show.text_width())


def _printed(answer: Answer) -> None:
    if not answer.printed.strip():
        return
    # Escape sequences would clear the screen, or write over the report.
    text = re.sub(r"[\0-\x08\x0b-\x1f\x7f]", "·", answer.printed.rstrip("\n")).expandtabs(4)
    width = show.text_width() - 4
    lines = [part for line in text.split("\n") for part in _folded(line, width)]
    print(styled("Your code printed:", "bold"))
    for line in lines[:20]:
        print(f"    {line}")
    if answer.cut or len(lines) > 20:
        print("    … (and more, which is cut here)")
    print()


def _folded(line: str, width: int) -> list[str]:
    """A line in pieces of at most so many columns, broken at spaces where there are any."""
    return textwrap.wrap(line, width, replace_whitespace=False, break_on_hyphens=False) or [""]


def _what_next(lesson: int, some: list[Exercise], failing: str | None, answer: Answer, only: str | None) -> None:
    if failing is not None:
        state = Progress()[failing]
        left = 3 - state.hints
        hint = f"make hint-{failing}: a hint ({left} of 3 left)" if left else f"make solution-{failing}: the solution"
        print(f"{hint}\nmake check-{failing}: this one again\nmake watch-{lesson}: check on every save")
        return
    now = {identity: state for identity, state in _standing(lesson).items() if identity not in answer.passed()}
    following = next((one for one in some if now.get(one.id, SOLVED) != SOLVED), None)
    if only is not None and following is not None:
        text = f"Next: {following.id} {following.name}, {following.title} ({following.minutes:g} minutes)"
        if now[following.id] == MISSING:
            text += f". It is not in the workbook: {_where_it_went(following)}"
        elif now[following.id] != OPEN:
            text += f"; it has {CHANGED_SINCE}"
        say(text + ".")
        return
    if only is not None:
        print(f"make check-{lesson} checks all of lesson {lesson}.")
        return
    later = [number for number in files() if number > lesson]
    print()
    say(
        f"All {len(some)} exercises of lesson {lesson} pass. make lesson-{lesson} MINE=1 runs it on your code."
        + (f" Next: make start-{later[0]}." if later else "")
    )


def _where_it_went(exercise: Exercise) -> str:
    """Of an exercise that is not in the workbook: where its lines are, or what brings its stub back."""
    path = book.workbook_path(exercise.lesson)
    inside = book.swallowed(book.parse(path, book.read(path)), exercise)
    if inside is None:
        return f"make start-{exercise.lesson} adds its stub"
    return f"the line with its def is gone, so that its lines stand in {inside[0]} ({place(path, inside[1])})"


def _compared(exercise: Exercise) -> None:
    """The learner's code and the package's, one below the other, in a few lines."""
    own = _own(exercise)
    if own is None:
        return
    alike = _is_alike(own, exercise.cut.answer)
    print(f"\n{exercise.id} {exercise.name} passes" + (", and is the same code as the package's." if alike else ":"))
    if alike:
        return
    for whose, code in (("yours", own), ("the package's", exercise.cut.answer)):
        lines, n_lines = code.split("\n"), count(code, exercise)
        print(f"    {whose}, {n_lines} line{'s' * (n_lines != 1)}")
        print(textwrap.indent("\n".join(lines[:FEW]), f"    {styled('│', 'dim')} "))
        if len(lines) > FEW:
            print(f"    … make solution-{exercise.id} shows all of both")


def count(code: str, exercise: Exercise) -> int:
    """How many lines of code were written: no empty ones, no comments, and none that the stub of a class has."""
    lines = [line.strip() for line in code.split("\n")]
    given = Counter(line.strip() for line in exercise.cut.stub.split("\n")) if exercise.cut.is_class else Counter()
    written = Counter(line for line in lines if line and not line.startswith("#"))
    return (written - given).total()


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
            progress.set(one.id, passed=True, source=answer.results[one.id].get("source", ""))
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
    which = f"hint {number} of 3" if shown < 3 else "all three hints have been shown; here they are again"
    print(styled(f"{exercise.id} {exercise.name} · {which}", "bold"))
    _tell_given(exercise)
    for text in exercise.hints if shown >= 3 else exercise.hints[number - 1 : number]:
        if shown >= 3:
            print()
        for is_code, part in laid_out(text):
            print(textwrap.indent(part, "    ")) if is_code else say(part)
    print(
        f"\nmake hint-{exercise.id} gives another."
        if number < 3
        else f"\nmake solution-{exercise.id} shows the solution."
    )


def _tell_given(exercise: Exercise) -> None:
    """Print what may be used, a line each; nothing where the exercise names nothing."""
    if exercise.given:
        print(MAY_USE)
        for one in exercise.given:
            print("\n".join(show.wrap(one, show.text_width(), "  ", "      ")))
        print()


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
        _tell_given(exercise)
        if own is not None and "NotImplementedError" not in own:
            print(f"\nyours ({place(book.workbook_path(exercise.lesson))}):\n")
            print(textwrap.indent(own, f"{styled('│', 'dim')} "))
        print(f"\nthe package's ({place(exercise.cut.path, exercise.cut.line)}):\n")
        print(textwrap.indent(exercise.cut.answer, f"{styled('│', 'dim')} ") + "\n")
    return 0


def _agrees(exercise: Exercise, hints: int) -> bool:
    """Whether the learner wants to see a solution before having one."""
    left = f"{3 - hints} of its hints are not read yet" if hints < 3 else "you have read all its hints"
    changed = _standing(exercise.lesson)[exercise.id] == RETRIED
    stands = f"did not pass, but has {CHANGED_SINCE}" if changed else "does not pass yet"
    if not sys.stdin.isatty():
        raise UserError(
            f"{exercise.id} {exercise.name} {stands} ({left}). To see the solution all the same: "
            f"python -m minitransformer solution {exercise.id} --yes."
        )
    answer = input(f"{exercise.id} {exercise.name} {stands}; {left}. Show the solution? [y/N] ")
    return answer.strip().lower() in ("y", "yes", "是", "好")


def withheld(lesson: int, function: Any) -> str | None:
    """Why a lesson does not show a function's source yet: it is an exercise, not solved; None where it may be shown."""
    target = f"{function.__module__}:{function.__qualname__}"
    known = exercises(lesson) if lesson in files() else []
    exercise = next((one for one in known if one.target == target), None)
    if exercise is None or Progress()[exercise.id].passed:
        return None
    return (
        f"The source of `{exercise.name}` stands here once you have written it yourself: exercise {exercise.id}, "
        f"`make start-{lesson}`. To read it without, `make solution-{exercise.id}`."
    )


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
    return 0


def progress() -> int:
    """Show what is done, lesson by lesson, a box for each exercise in its place."""
    rows, total, minutes, minutes_done = [], 0, 0.0, 0.0
    boxes = ""
    for lesson in files():
        some, now = exercises(lesson), _standing(lesson)
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
    show.table(rows, ["lesson", "", "", "next"])
    print()
    done = boxes.count(BOXES[SOLVED])
    say(
        f"{done} of {total} exercises pass, {minutes_done:g} of {minutes:g} minutes. Each has its box in its place: "
        f"{BOXES[SOLVED]} solved, {BOXES[CHANGED]} {CHANGED_SINCE}, {BOXES[OPEN]} open."
    )
    return 0


def _standing(lesson: int) -> dict[str, str]:
    """How each exercise of a lesson stands, by its last check and by the workbook as it is now."""
    some, path, progress, tree, text = exercises(lesson), book.workbook_path(lesson), Progress(), None, ""
    with suppress(UserError):  # no workbook, or none that Python can read: then it is not what was checked
        text = book.read(path)
        tree = book.parse(path, text)

    def standing(one: Exercise) -> str:
        if tree is not None and book.is_untouched(tree, one):
            return OPEN
        if tree is not None and not book.is_there(tree, one) and not book.under_its_heading(text, tree, some, one):
            return MISSING
        is_same = progress[one.id].is_of("" if tree is None else book.digest(tree, one, some))
        if progress[one.id].passed:
            return SOLVED if is_same else CHANGED
        return OPEN if is_same else RETRIED

    return {one.id: standing(one) for one in some}


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
                    now = _standing(lesson)
                    open_one = next((one for one in exercises(lesson) if now[one.id] != SOLVED), None)
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
