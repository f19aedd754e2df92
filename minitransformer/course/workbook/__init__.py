"""The workbook: exercises that the learner writes, cut from the package itself, checked, and put back into it.

    exercise.py     what an exercise is: target, hints, cases, mistakes; reads lessons/exercises/
    cut.py          stub, solution and page, cut from the package's own source
    book.py         the learner's files: workbook/lesson_NN.py, progress.txt, dated copies
    examine.py      runs the cases of an exercise on somebody's code and finds the first difference
    draw.py         draws expected and actual side by side
    diagnose.py     names the mistake
    report.py       words for all of it
    again.py        runs one case once more, for a debugger
    sandbox.py      runs a check in a child process, child.py, under limits of time, memory and output
    switch.py       the one switch: puts a learner's code in the package's place
    shortcuts.py    the package's fast paths that would bypass such code
    mine.py         runs a lesson on the learner's code (MINE=1)
    commands.py     start, check, watch, hint, solution, reset, progress
    verify.py       proves the exercises

`lessons/exercises/README.md` says how exercises are written.
"""

from minitransformer.course.workbook.exercise import Exercise, call, tidy

__all__ = ["Exercise", "call", "tidy"]
