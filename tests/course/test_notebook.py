"""Lessons as notebooks: prose as Markdown, tables as tables, figures inline, and no answer above its question."""

import os
import re
from base64 import b64decode

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import notebook
from tests.conftest import LESSON, ROOT

nbformat = pytest.importorskip("nbformat")

NUMBERS = sorted(int(path.name[7:9]) for path in (ROOT / "lessons").glob("lesson_*.py"))


def run(made, folder=ROOT / "lessons"):
    """Run a notebook in a kernel of its own, in a folder below the course's."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    environment = {**os.environ, "QUICK": "1", "PYTHONPATH": str(ROOT)}
    client = nbclient.NotebookClient(made, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return made


def outputs(made) -> list[dict]:
    """What the cells display, by type; what is printed has none but "text/plain"."""
    found = [output for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in found if o.output_type == "stream" and o.name == "stderr"], "the lesson complains"
    return [o.get("data", {"text/plain": o.get("text")}) for o in found]


def test_cells_follow_the_lesson(course_root):
    course_root()
    made = notebook.as_notebook(course.load(1))
    nbformat.validate(made)
    cells = [(cell.cell_type, cell.source, "hide-input" in cell.metadata.get("tags", [])) for cell in made.cells]
    assert cells[0][1].startswith("# Lesson 1 · A first lesson\n\n**What is two and two?**\n\nAbout 0.5 minutes")
    assert cells[2:] == [
        (
            "markdown",
            "## 1 · Adding\n\nProse about **adding** (加法 addition).\n\n    2 + 2 = 4\n\n"
            "**Predict before you run:** how much is it?",
            False,
        ),
        ("code", "from minitransformer.course.show import say\n\ntotal = 2 + 2", False),
        ("code", 'say(f"total {total}")', True),
        ("code", "again = total", False),
        ("code", 'say(f"again {again}")', True),
        ("markdown", "## 2 · Hidden\n\nOnly the outcome is seen.", False),
        ("code", 'doubled = 2 * total\nsay(f"doubled {doubled}")', True),
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_has_all_of_the_code(number):
    lesson = course.load(number)
    made = notebook.as_notebook(lesson)
    code = "\n".join(cell.source for cell in made.cells[2:] if cell.cell_type == "code")
    whole = "\n".join(cell.source for cell in lesson.cells if cell.is_code)
    assert code.split() == whole.split()


def test_a_changed_notebook_is_kept(course_root, monkeypatch, tmp_path):
    course_root()
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    path = notebook.write(1)
    first = path.read_bytes()
    assert notebook.write(1) == path == tmp_path / "notebooks" / "lesson_01.ipynb"
    assert [file.name for file in path.parent.iterdir()] == ["lesson_01.ipynb"] and path.read_bytes() == first
    path.write_bytes(b"my notes")
    notebook.write(1)
    old, new = sorted(path.parent.iterdir(), key=lambda file: len(file.name), reverse=True)
    assert (old.read_bytes(), new.read_bytes()) == (b"my notes", first)
    assert re.fullmatch(r"lesson_01\.\d{4}-\d\d-\d\d_\d{6}\.ipynb", old.name)


SHOWN = """
# %%
from minitransformer.course.show import bar, figure, source, table, verbatim

table([("前缀 & <b>", 0.5, bar(0.25))], ["name", "loss", ""])
verbatim("a  b")
verbatim("c  d")
source(notebook_of)
with figure("loss", "It *falls*.", alt="A line.") as axes:
    axes.plot([3, 1])
"""


def test_what_a_lesson_shows_in_a_notebook(course_root, tmp_path):
    text = LESSON + SHOWN.replace("notebook_of", "bar")
    course_root(text=text)
    shown = outputs(run(notebook.as_notebook(course.load(1)), tmp_path / "lessons"))
    assert [data.get("text/markdown") for data in shown[:3]] == ["total 4", "again 4", "doubled 8"]
    table, lines, source, figure, caption = shown[3:]
    html = table["text/html"]
    assert re.sub(r' (scope|style)="[^"]*"', "", html) == (
        "<table><thead><tr><th>name</th><th>loss</th><th></th></tr></thead>"
        "<tbody><tr><td>前缀 &amp; &lt;b&gt;</td><td>0.5</td><td><div></div></td></tr></tbody></table>"
    )
    assert "width: 3.00em" in html, "a bar is a quarter of twelve wide"
    assert "前缀 & <b>" in table["text/plain"]
    assert lines["text/plain"] == "a  b\nc  d\n"
    assert source["text/markdown"].startswith("```python\ndef bar(")
    assert b64decode(figure["image/png"]).startswith(b"\x89PNG")
    assert caption["text/markdown"] == "It *falls*."
    assert not (tmp_path / "figures").exists()


LOOPS = """
# %%
from minitransformer.training.progress import progress

for leave in (True, False):
    for _ in progress(range(3), desc="steps", leave=leave):
        pass
"""


def test_a_bar_is_one_line_that_is_written_over(course_root, tmp_path):
    """On standard error, as in a terminal, it would be shown as a fault."""
    course_root(text=LESSON + LOOPS)
    *_, kept, removed = outputs(run(notebook.as_notebook(course.load(1)), tmp_path / "lessons"))
    assert re.match(r"steps: 100%.* 3/3 ", kept["text/plain"]) and removed["text/plain"] == ""


def test_a_lesson_through_jupytext_and_a_kernel():
    """What an editor with jupytext shows: lesson 2 as it stands, without our own hand in it."""
    jupytext = pytest.importorskip("jupytext")
    shown = outputs(run(jupytext.read(course.lesson_files()[2], fmt="py:percent")))
    figures, tables = [sum(kind in data for data in shown) for kind in ("image/png", "text/html")]
    assert figures >= 2 and tables >= 4 and sum("text/markdown" in data for data in shown) > 10


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_runs_as_a_notebook(number):
    shown = outputs(run(notebook.as_notebook(course.load(number)), ROOT / "lessons"))
    assert sum("text/html" in data for data in shown), "no table"
    assert sum("text/markdown" in data for data in shown), "no sentence"
