"""How each exercise stands now, by its last check and by the workbook as it is."""

from __future__ import annotations

from contextlib import suppress

from minitransformer.course.workbook import book, reading
from minitransformer.course.workbook.catalogue import exercises
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.progress import Progress
from minitransformer.errors import UserError

SOLVED, CHANGED, RETRIED, OPEN, MISSING = "solved", "changed since", "changed", "open", "missing"
"""How an exercise stands now. CHANGED: it passed, RETRIED: it did not pass, and it is not what was checked then.
MISSING: there is a workbook, but this is not in it."""

BOXES = {SOLVED: "■", CHANGED: "◧", RETRIED: "◧", OPEN: "□", MISSING: "□"}

CHANGED_SINCE = "changed since it was checked"


def how_each_stands(lesson: int) -> dict[str, str]:
    """How each exercise of a lesson stands, by its last check and by the workbook as it is now."""
    some, path, progress, tree, text = exercises(lesson), book.workbook_path(lesson), Progress(), None, ""
    with suppress(UserError):  # no workbook, or none that Python can read: then it is not what was checked
        text = reading.read(path)
        tree = reading.parse(path, text)

    def standing(one: Exercise) -> str:
        if tree is not None and reading.is_untouched(tree, one):
            return OPEN
        if (
            tree is not None
            and not reading.is_there(tree, one)
            and not reading.under_its_heading(text, tree, some, one)
        ):
            return MISSING
        is_same = progress[one.id].is_of("" if tree is None else reading.digest(tree, one, some))
        if progress[one.id].passed:
            return SOLVED if is_same else CHANGED
        return OPEN if is_same else RETRIED

    return {one.id: standing(one) for one in some}
