"""`make check-N`: the check in a child process, printed as it comes, and what to do next."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

from minitransformer.course.output.terminal import say, styled, text_width, wrap
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import book, reading
from minitransformer.course.workbook.catalogue import exercises, files, find
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.progress import Progress
from minitransformer.course.workbook.sandbox import Answer, Sandbox
from minitransformer.course.workbook.source import place
from minitransformer.course.workbook.standing import CHANGED_SINCE, MISSING, OPEN, SOLVED, how_each_stands
from minitransformer.course.workbook.words import printable

FEW = 8
"""Lines of code that are shown without being asked for."""

SAID = {"passed": "passed", "failed": "fails", "unwritten": "not written yet", "absent": "not in the workbook"}
"""The states of an exercise, in the list of a check."""

MARKS = {"passed": "✓", "unwritten": "○"}


def check(lesson: int, only: str | None = None) -> int:
    """Check a workbook, or one exercise of it; 0 if all that was checked passes."""
    return 0 if check_with(ready_sandbox(lesson), lesson, only) else 1


def ready_sandbox(lesson: int) -> Sandbox:
    """A child that loads PyTorch already.

    Raises:
        UserError: there is no workbook to check, or there are no exercises.
    """
    refuse_without_workbook(lesson)
    return Sandbox()


def refuse_without_workbook(lesson: int) -> None:
    """Say so where there is nothing to check.

    Raises:
        UserError: there is no workbook, or there are no exercises.
    """
    if lesson in files() and not book.workbook_path(lesson).exists():
        raise book.missing_workbook(lesson)
    exercises(lesson)


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
    print(styled(t(f"{place(path)} · lesson {lesson}"), "dim"))

    def listed(exercise: Exercise, state: str, said: str) -> None:
        mark = MARKS.get(state, "✗" if state else "·")
        line = f"{mark} {exercise.id} {exercise.name.ljust(0 if only else widest)}"
        print(styled(line, "green") if state == "passed" else line, "" if only else f"  {t(said)}", sep="")

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
        print(f"\n{styled(f'{mark} {shown.id} {shown.name}', 'bold')} · {t(shown.title)}{where}\n")
        print(printable("\n".join(_wrapped(answer.problem)) if shown is stopped else result["text"]), end="\n\n")
        progress.set(shown.id, told=progress[shown.id].told or shown is not stopped)
    elif answer.problem:
        print(printable("\n" + "\n".join(_wrapped(answer.problem)) + "\n"))
    elif answer.printed.strip():
        print()
    _printed(answer)
    for loss in answer.losses:
        say(loss)
        print()
    if answer.note:
        print("\n".join(_wrapped(answer.note)) + "\n")
    wanted = [only] if only else [one.id for one in some]
    failing = next((identity for identity in wanted if identity not in answer.passed()), None)
    if answer.problem and shown is None:  # of the file, and of no exercise: no hint helps
        print(t(f"make check-{only or lesson}: check again, once that is mended"))
        print(t(f"make watch-{lesson}: check on every save"))
    else:
        _what_next(lesson, some, shown.id if shown is not None else failing, answer, only)
    progress.complain()
    return failing is None


def _first_to_mend(some: list[Exercise], answer: Answer, stopped: Exercise | None) -> Exercise | None:
    """Of which exercise a check tells all: the first with code that is not right, or else the first without any."""
    states = {one.id: answer.results.get(one.id, {}).get("state") for one in some}
    wrong = [one for one in some if one is stopped or states[one.id] in ("failed", "absent")]
    return next(iter([*wrong, *(one for one in some if states[one.id] == "unwritten")]), None)


def _wrapped(text: str) -> Iterator[str]:
    """Paragraphs wrapped, indented lines as they are."""
    for line in text.split("\n"):
        yield from [line] if line.startswith(" ") else wrap(t(line), text_width())


def _printed(answer: Answer) -> None:
    if not answer.printed.strip():
        return
    # Escape sequences would clear the screen, or write over the report.
    text = printable(answer.printed.rstrip("\n")).expandtabs(4)
    width = text_width() - 4
    lines = [part for line in text.split("\n") for part in _folded(line, width)]
    print(styled(t("Your code printed:"), "bold"))
    for line in lines[:20]:
        print(f"    {line}")
    if answer.cut or len(lines) > 20:
        print("    " + t("… (and more, which is cut here)"))
    print()


def _folded(line: str, width: int) -> list[str]:
    """A line in pieces of at most so many columns, broken at spaces where there are any."""
    return textwrap.wrap(line, width, replace_whitespace=False, break_on_hyphens=False) or [""]


def _what_next(lesson: int, some: list[Exercise], failing: str | None, answer: Answer, only: str | None) -> None:
    if failing is not None:
        state = Progress()[failing]
        left = 3 - state.hints
        hint = f"make hint-{failing}: a hint ({left} of 3 left)" if left else f"make solution-{failing}: the solution"
        print(t(hint))
        print(t(f"make check-{failing}: this one again"))
        print(t(f"make watch-{lesson}: check on every save"))
        return
    now = {identity: state for identity, state in how_each_stands(lesson).items() if identity not in answer.passed()}
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
        print(t(f"make check-{lesson} checks all of lesson {lesson}."))
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
    inside = reading.swallowed(reading.parse(path, reading.read(path)), exercise)
    if inside is None:
        return f"make start-{exercise.lesson} adds its stub"
    return f"the line with its def is gone, so that its lines stand in {inside[0]} ({place(path, inside[1])})"


def _compared(exercise: Exercise) -> None:
    """The learner's code and the package's, one below the other, in a few lines."""
    own = book.own_code(exercise)
    if own is None:
        return
    alike = _is_alike(own, exercise.cut.answer)
    named = f"{exercise.id} {exercise.name}"
    print("\n" + t(f"{named} passes, and is the same code as the package's." if alike else f"{named} passes:"))
    if alike:
        return
    for whose, code in (("yours", own), ("the package's", exercise.cut.answer)):
        lines, n_lines = code.split("\n"), count(code, exercise)
        print("    " + t(f"{whose}, {n_lines} line{'s' * (n_lines != 1)}"))
        print(textwrap.indent("\n".join(lines[:FEW]), f"    {styled('│', 'dim')} "))
        if len(lines) > FEW:
            print("    " + t(f"… make solution-{exercise.id} shows all of both"))


def count(code: str, exercise: Exercise) -> int:
    """How many lines of code were written: no empty ones, no comments, and none that the stub of a class has."""
    lines = [line.strip() for line in code.split("\n")]
    given = Counter(line.strip() for line in exercise.cut.stub.split("\n")) if exercise.cut.is_class else Counter()
    written = Counter(line for line in lines if line and not line.startswith("#"))
    return (written - given).total()


def _is_alike(one: str, other: str) -> bool:
    try:
        # A function's body: "return" may stand in it.
        return ast.dump(ast.parse(f"def f():\n{textwrap.indent(one, ' ')}")) == (
            ast.dump(ast.parse(f"def f():\n{textwrap.indent(other, ' ')}"))
        )
    except SyntaxError:
        return False
