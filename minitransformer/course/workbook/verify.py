"""`make verify`: proof that the exercises do what they promise.

Every stub fails as unwritten and holds nothing of its answer; every solution passes, alone on reference code and
together with all others; every mistake is rejected, and the message names it and no other; every exercise has its
hints, the third with code, minutes and at least four mistakes; and a lesson trained on workbooks made of the solutions
comes to the reference's loss.

Each lesson's file is proved in a process of its own: `python -m minitransformer.course.workbook.verify 2`.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minitransformer.course import output, runner
from minitransformer.course.workbook import book, loading, mine, report
from minitransformer.course.workbook.catalogue import exercises, files
from minitransformer.course.workbook.check import check_one
from minitransformer.course.workbook.diagnose import diagnose, narrowed
from minitransformer.course.workbook.examine import Examination
from minitransformer.course.workbook.exercise import Exercise
from minitransformer.course.workbook.observe import seeded
from minitransformer.course.workbook.page import laid_out
from minitransformer.course.workbook.source import PACKAGE
from minitransformer.errors import UserError

TRAINS = 3
"""The lesson that is trained on the solutions."""
STEPS = 8
"""So many steps of it: on equal functions they are equal to the last bit, and one that differs shows in the first."""


def main() -> int:
    """Prove all lessons' exercises; 0 if nothing is wrong."""
    began = time.perf_counter()
    lessons = list(files())
    if not lessons:
        raise UserError("There are no exercises in lessons/exercises/ yet.")
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(_in_a_process, [*map(str, lessons), "mine"]))
    for _, text in outcomes:
        print(text, end="")
    some = [one for lesson in lessons for one in exercises(lesson)]
    failed = sum(code != 0 for code, _ in outcomes)
    print(
        f"\n{len(some)} exercises, {sum(len(one.mistakes) for one in some)} mistakes, "
        f"{sum(len(one.cases) for one in some)} cases in {time.perf_counter() - began:.0f} s: "
        + ("all proved." if not failed else "not all right, see above.")
    )
    return int(failed > 0)


def _in_a_process(argument: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "minitransformer.course.workbook.verify", argument]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"} | ({} if argument == "mine" else {"OMP_NUM_THREADS": "1"})
    done = subprocess.run(
        command,
        cwd=PACKAGE,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def verify_lesson(lesson: int) -> list[str]:
    """What is wrong with a lesson's exercises, as sentences."""
    some, complaints = exercises(lesson), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"lesson_{lesson:02}.py"
        path.write_text(book.new_text(lesson, some, {one.id for one in some}), encoding="utf-8")
        solved = loading.load(path, some)
        for one in some:
            state, text = _checked(solved, one)
            if state != "passed":
                complaints.append(f"{one.who}: in a workbook of all solutions, its own is {state}.\n{text}")
        for one in some:
            path.write_text(book.new_text(lesson, some, {one.id}), encoding="utf-8")
            state, text = _checked(loading.load(path, some), one)
            if state != "passed":
                complaints.append(f"{one.who}: its solution is {state} among stubs, alone.\n{text}")
        path.write_text(book.new_text(lesson, some), encoding="utf-8")
        stubs = loading.load(path, some)
        for one in some:
            state, _ = _checked(stubs, one)
            if state != "unwritten":
                complaints.append(f"{one.who}: its stub is {state}; it should fail as unwritten.")
    for one in some:
        complaints += [f"{one.who}: {complaint}" for complaint in (*_leaks(one), *_mistakes(one))]
    return complaints


def _checked(workbook: loading.Workbook, exercise: Exercise) -> tuple[str, str]:
    texts: list[str] = []
    state = check_one(workbook, Examination(exercise), 88, lambda **event: texts.append(event["text"]))
    return state, texts[-1]


def _leaks(exercise: Exercise) -> Iterator[str]:
    """Lines of the answer that the stub shows."""
    for line in exercise.cut.hidden:
        code = line.partition("  # ")[0].strip()
        if len(code) > 14 and not code.startswith("#") and code in exercise.cut.stub:
            yield f"its stub shows a line of the answer: {code}"


def _mistakes(exercise: Exercise) -> Iterator[str]:
    """What is wrong with an exercise's mistakes."""
    kinds = len({mistake.name for mistake in exercise.mistakes})
    if kinds < 4:
        yield f"it has {kinds} mistakes; at least four are wanted."
    if len(set(exercise.hints)) < 3:
        yield "two of its hints are the same."
    if not any(is_code for is_code, _ in laid_out(exercise.hints[2])):
        yield "its third hint has no code: lines that begin with four spaces."
    said = {(mistake.name, mistake.why) for mistake in exercise.mistakes}
    if len({name for name, _ in said}) < len(said):
        yield "two of its mistakes have one name."
    examination = Examination(exercise)
    for mistake in exercise.mistakes:
        verdict = examination.examine(mistake.code)
        if verdict.passed:
            yield f"the mistake {mistake.name!r} passes every case; add the case that tells it from the solution."
            continue
        diagnosis = diagnose(examination, verdict)
        if diagnosis.mistakes:
            diagnosis = narrowed(examination, verdict)
        found = [one.name for one in diagnosis.mistakes]
        if found != [mistake.name]:
            yield f"the mistake {mistake.name!r} is diagnosed as {found or 'unknown'}; cases should tell them apart."
        elif f"Diagnosis: {mistake.name}." not in report.failure(verdict, diagnosis, Path("-"), 500):
            yield f"the message about {mistake.name!r} does not name it."


def verify_mine() -> list[str]:
    """Train a lesson on workbooks made of the solutions and on the reference; what differs."""
    taken = mine.Mine()
    with tempfile.TemporaryDirectory() as folder:
        for lesson in files():
            some, path = exercises(lesson), Path(folder) / f"lesson_{lesson:02}.py"
            path.write_text(book.new_text(lesson, some, {one.id for one in some}), encoding="utf-8")
            mine.add(taken, some, some, path)
        losses = []
        for replacements in (taken.replacements, {}):
            seeded(accelerators=True)
            with mine.in_use(replacements, taken.replacements, trial=STEPS) as trained:
                runner.run(TRAINS, quick=True, sink=output.Sink())
            losses.append(trained)
    own, reference = losses
    if not (own and reference):
        return [f"lesson {TRAINS} trained nothing."]
    close = math.isclose(own[0].train, reference[0].train, rel_tol=1e-6)
    return [] if close else [f"lesson {TRAINS} comes to {own[0]} on the solutions, {reference[0]} on the reference."]


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    what = sys.argv[1]
    try:
        wrong = verify_mine() if what == "mine" else verify_lesson(int(what))
    except UserError as error:
        wrong = [str(error)]
    name = f"lesson {TRAINS} on the solutions, beside the reference" if what == "mine" else f"lesson {what}"
    print(f"{'✗' if wrong else '✓'} {name}")
    for complaint in wrong:
        print(f"  ✗ {complaint}")
    sys.exit(bool(wrong))
