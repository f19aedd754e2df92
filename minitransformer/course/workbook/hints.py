"""`make hint-N` and `make solution-N`, and which sources a lesson does not show yet."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from minitransformer.course.output.terminal import say, styled, text_width, wrap
from minitransformer.course.translation.catalogues import t
from minitransformer.course.workbook import book
from minitransformer.course.workbook.catalogue import exercises, files, find
from minitransformer.course.workbook.checking import ready_sandbox
from minitransformer.course.workbook.cut import MAY_USE
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.page import laid_out
from minitransformer.course.workbook.progress import Progress
from minitransformer.course.workbook.source import place
from minitransformer.course.workbook.standing import CHANGED_SINCE, RETRIED, how_each_stands
from minitransformer.errors import UserError


def first_open(lesson: int) -> Exercise | None:
    """The first exercise that does not pass, found by a check that prints nothing; None if all pass."""
    answer = ready_sandbox(lesson).check(lesson, book.workbook_path(lesson))
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
        print(t(f"All exercises of lesson {lesson} pass; make hint-{lesson}.1 shows the hints of one that does."))
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
    print(styled(f"{exercise.id} {exercise.name} · {t(which)}", "bold"))
    tell_given(exercise)
    for text in exercise.hints if shown >= 3 else exercise.hints[number - 1 : number]:
        if shown >= 3:
            print()
        for is_code, part in laid_out(text):
            print(textwrap.indent(part, "    ")) if is_code else say(part)
    print()
    more, solved = f"make hint-{exercise.id} gives another.", f"make solution-{exercise.id} shows the solution."
    print(t(more if number < 3 else solved))
    progress.complain()


def tell_given(exercise: Exercise) -> None:
    """Print what may be used, a line each; nothing where the exercise names nothing."""
    if exercise.given:
        print(t(MAY_USE))
        for one in exercise.given:
            name, colon, what = one.partition(": ")
            print("\n".join(wrap(name + colon + t(what), text_width(), "  ", "      ")))
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
        own = book.own_code(exercise)
        print(styled(f"{exercise.id} {exercise.name} · {t(exercise.title)}", "bold"))
        tell_given(exercise)
        if own is not None and "NotImplementedError" not in own:
            print("\n" + t(f"yours ({place(book.workbook_path(exercise.lesson))}):") + "\n")
            print(textwrap.indent(own, f"{styled('│', 'dim')} "))
        print("\n" + t(f"the package's ({place(exercise.cut.path, exercise.cut.line)}):") + "\n")
        print(textwrap.indent(exercise.cut.answer, f"{styled('│', 'dim')} ") + "\n")
    return 0


def _agrees(exercise: Exercise, hints: int) -> bool:
    """Whether the learner wants to see a solution before having one."""
    left = f"{3 - hints} of its hints are not read yet" if hints < 3 else "you have read all its hints"
    changed = how_each_stands(exercise.lesson)[exercise.id] == RETRIED
    stands = f"did not pass, but has {CHANGED_SINCE}" if changed else "does not pass yet"
    if not sys.stdin.isatty():
        raise UserError(
            f"{exercise.id} {exercise.name} {stands} ({left}). To see the solution all the same: "
            f"python -m minitransformer solution {exercise.id} --yes."
        )
    answer = input(t(f"{exercise.id} {exercise.name} {stands}; {left}. Show the solution? [y/N]") + " ")
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
