"""A lesson as a Jupyter notebook: prose as Markdown, code to run, and no answer above the question.

The sentences that state a step's outcome stand at the end of its code. Here they are a cell of their own whose source
is folded away, so that the reader sees the question, then the code that answers it, then, once it has run, the outcome.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from minitransformer.course.lessons import ROOT, Cell, Lesson, load
from minitransformer.course.output.terminal import say
from minitransformer.files import write_aside

SETUP = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the course's folder, where its package is"""
FOLDED = {"tags": ["hide-input"], "jupyter": {"source_hidden": True}}


def write(number: int) -> Path:
    """Write notebooks/lesson_NN.ipynb; a notebook that is there and differs gets a dated copy first. Gives the path.

    Raises:
        NoSuchLesson: there is no such lesson.
        UserError: its file is malformed, or the disk is full.
    """
    import nbformat

    path = ROOT / "notebooks" / f"lesson_{number:02}.ipynb"
    new = (nbformat.writes(as_notebook(load(number))) + "\n").encode()
    old = path.read_bytes() if path.exists() else new
    if old != new:
        write_aside(path.with_name(f"{path.stem}.{datetime.now():%Y-%m-%d_%H%M%S}.ipynb"), old)
    write_aside(path, new)
    return path


def as_notebook(lesson: Lesson):  # an nbformat.NotebookNode; nbformat is not always installed
    """The lesson as a notebook, without outputs."""
    from nbformat import v4

    about = [f"# Lesson {lesson.number} · {lesson.title}", f"**{lesson.question}**"]
    about.append(f"{lesson.facts}; mirrors {lesson.documents}".replace("about", "About", 1))
    cells = [v4.new_markdown_cell("\n\n".join(about)), v4.new_code_cell(SETUP, metadata=FOLDED)]
    for cell in lesson.cells:
        if cell.is_code:
            cells += [v4.new_code_cell(text, metadata=FOLDED if folded else {}) for text, folded in parts(cell)]
        else:
            title = f"## {cell.number} · {cell.title}" if cell.title else ""
            cells.append(v4.new_markdown_cell("\n\n".join(filter(None, [title, cell.prose]))))
    for position, made in enumerate(cells):
        made["id"] = f"cell-{position}"  # the same lesson gives the same file
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return v4.new_notebook(cells=cells, metadata=kernel)


def parts(cell: Cell) -> list[tuple[str, bool]]:
    """A cell's code in one piece or two: what computes, and the presentation at its end, which is folded."""
    if cell.hidden:
        return [(cell.source, True)]
    pieces = [(cell.source.removesuffix(cell.ending).rstrip(), False), (cell.ending, True)]
    return [(text, folded) for text, folded in pieces if text]


def main(number: int) -> None:
    """Write a lesson's notebook and say how to open it."""
    place = write(number).relative_to(ROOT).as_posix()
    say(
        f"{place} is written. Open it in VS Code, or in JupyterLab (`.venv/bin/python -m pip install jupyterlab`, then "
        f"`.venv/bin/jupyter lab {place}`); its kernel is the Python of `.venv`. QUICK=1 in the environment of the "
        "editor makes it a smoke run."
    )
