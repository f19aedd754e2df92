"""The workbook: exercises that the learner writes, cut from the package itself, checked, and put back into it.

What an exercise is, read from lessons/exercises/:
    exercise.py     target, hints, cases, mistakes
    catalogue.py    the exercises of a lesson
    page.py         an exercise and its hints as text to read
    source.py       where its target stands: the file, read without running it, and the living object
    cut.py          stub and solution, cut from that file
    imports.py      what a workbook imports

The learner's files in workbook/:
    book.py         writes, completes and resets lesson_NN.py, and keeps dated copies
    reading.py      finds in its text what belongs to which exercise
    moved.py        where names of earlier courses went
    loading.py      runs it
    progress.py     progress.txt
    standing.py     how each exercise stands now

Judging code:
    switch.py       the one switch: puts a learner's code in the package's place
    state.py        what code changes around it, and the way back
    observe.py      runs one case and notes what comes of it
    compare.py      finds the first difference
    general.py      what every exercise is asked beside its own cases
    costs.py        calls, memory and work, counted (for authors)
    examine.py      runs the cases of an exercise, smallest first
    diagnose.py     names the mistake
    check.py        all of it for a workbook, in a child process
    child.py        that process
    sandbox.py      starts it, and holds its limits of time, memory and output
    server.py       forks it from a process that has everything loaded (make watch-N)

Words for it:
    report.py       why an exercise does not pass
    inputs.py       on which input
    exceptions.py   what an exception means
    words.py        values and sentences
    draw.py         expected and actual side by side

Commands:
    commands.py     start, reset, progress
    checking.py     check
    watching.py     watch
    hints.py        hint, solution
    again.py        one case once more, for a debugger
    mine.py         a lesson on the learner's code (MINE=1)
    shortcuts.py    the package's fast paths that would bypass such code
    verify.py       proves the exercises

`lessons/exercises/README.md` says how exercises are written.
"""

from minitransformer.course.workbook.exercise import Exercise, call, tidy

__all__ = ["Exercise", "call", "tidy"]
