"""Lessons are found and read: their cells, what they say about themselves, and what is wrong with a malformed one."""

import ast
import re
from itertools import takewhile

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT

LESSONS = sorted((ROOT / "lessons").glob("lesson_*.py"))

# ---------------------------------------------------------------- reading


def plain_cells(text: str) -> list[tuple[bool, str]]:
    """Of each cell, whether it is code, and its text, by a plain loop over lines: the oracle."""
    cells = []
    for line in text.split("\n"):
        if re.match(r"# %%(\s|$)", line):
            cells.append(("[markdown]" not in line, []))
        elif cells:
            is_code, lines = cells[-1]
            lines.append(line if is_code else line[2:])
    return [(is_code, "\n".join(lines).strip("\n")) for is_code, lines in cells]


def written(cell: course.Cell) -> str:
    """What stands in a cell, put together again from its parts."""
    if cell.is_code:
        return cell.source
    return "\n\n".join(filter(None, [f"## {cell.title}" if cell.title else "", cell.prose]))


def test_cells_are_those_of_a_plain_loop(course_root):
    course_root()
    cells = course.load(1).cells
    assert [(cell.is_code, written(cell)) for cell in cells] == plain_cells(LESSON)
    assert [(cell.number, cell.title) for cell in cells if cell.title] == [(1, "Adding"), (2, "Hidden")]
    assert [cell.hidden for cell in cells if cell.is_code] == [False, False, True]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_every_real_lesson_reads_like_the_plain_loop(path):
    cells = course.load(int(path.name[7:9])).cells
    expected = plain_cells(path.read_text(encoding="utf-8"))
    assert [(cell.is_code, written(cell)) for cell in cells if cell.line > 1] == expected


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_a_notebook_editor_reads_the_same_cells(path):
    """jupytext is what editors read the format with."""
    jupytext = pytest.importorskip("jupytext")
    cells = jupytext.read(path, fmt="py:percent").cells[1:]  # the first is the docstring
    read = [(cell.cell_type == "code", cell.source) for cell in cells]
    assert read == [(cell.is_code, written(cell)) for cell in course.load(int(path.name[7:9])).cells]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_prose_is_markdown(path):
    """Formulas are code blocks; nothing in the prose is HTML, or a heading by accident."""
    parser = pytest.importorskip("markdown_it").MarkdownIt()
    for cell in course.load(int(path.name[7:9])).cells:
        lines = cell.prose.split("\n")
        tokens = parser.parse(cell.prose)
        blocks = [range(*token.map) for token in tokens if token.type in ("code_block", "fence")]
        formulas = {i for i, line in enumerate(lines) if line.startswith("    ") and not line.lstrip().startswith("-")}
        loose = [lines[i] for i in formulas if not any(i in block for block in blocks)]
        assert not loose, (
            f"{path.name}: no code block, for an empty line is missing above, or it is part of a list: {loose}"
        )
        kinds = {part.type for token in tokens for part in [token, *(token.children or ())]}
        odd = kinds & {"html_inline", "html_block", "heading_open", "link_open", "image"}
        assert not odd, f"{path.name}, step {cell.title!r}: {odd} in the prose"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_no_lesson_prints(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = [(getattr(node, "lineno", 0), getattr(node, "id", getattr(node, "attr", ""))) for node in nodes]
    loud = [f"{path.name}:{line}: {name}" for line, name in names if name in ("print", "stdout", "stderr")]
    assert not loud, f"what a lesson shows goes through course/show.py, not through {loud}"


def test_metadata(course_root):
    course_root()
    lesson = course.load(1)
    assert (lesson.title, lesson.question, lesson.minutes) == ("A first lesson", "What is two and two?", 0.5)
    assert lesson.documents == "004 §2.2 自注意力机制; 003 §3.1 Problem Statement"
    assert lesson.needs == ()


def test_a_marker_inside_a_string_is_no_cell(course_root):
    course_root(text=LESSON + 'text = """\n# %% [markdown]\n"""\n')
    assert [cell.title for cell in course.load(1).cells] == ["Adding", "", "", "Hidden", ""]


def test_comments_in_code_are_code(course_root):
    course_root(text=LESSON + "\n# %%\n# Twice.\ntwice = 2 * total  # the number\n")
    assert course.load(1).cells[-1].source == "# Twice.\ntwice = 2 * total  # the number"


@pytest.mark.parametrize(
    "old, new, line, says",
    [
        ("minutes: 0.5", "minutes: soon", 4, "minutes is a number"),
        ("minutes: 0.5\n", "", 1, "no line minutes:"),
        ("minutes: 0.5", "minutes: 0.5\nminutes: 1", 5, "twice"),
        ("minutes: 0.5", "minute: 0.5", 4, "'minute' is not one of"),
        ("question: What is two and two?", "question:", 3, "nothing stands after question"),
        ("question: What", "What", 3, "not a line of the form"),
        ("needs: nothing", "needs: courage", 7, "needs is"),
        ('"""A first lesson', '"""', 1, "title is missing"),
        ("# ## Adding\n", "", 10, "needs a title"),
        ("# %%", "# --", 1, "no cells"),
        ("total = 2 + 2", "total = (2 +", 22, "cannot read"),
        ("total = 2 + 2\n", "total = (2 +\n# %%\n2)\n", 22, "inside this statement"),
        ("# %%\nagain", "# %% Once more\nagain", 25, "# ## Once more"),
        ("# Prose about", "prose = 1  # about", 13, "a cell of prose holds comments alone"),
    ],
)
def test_a_malformed_lesson_is_named_with_its_line(course_root, old, new, line, says):
    assert old in LESSON, "the test's own replacement does nothing"
    course_root(text=LESSON.replace(old, new))
    with pytest.raises(UserError) as caught:
        course.load(1)
    assert f"lessons/lesson_01_try.py:{line}:" in str(caught.value), f"wrong place in: {caught.value}"
    assert says in str(caught.value)


def test_no_docstring(course_root):
    course_root(text="x = 1\n# %% [markdown]\n# ## One\n")
    with pytest.raises(UserError, match="begins with a docstring"):
        course.load(1)


def test_missing_lesson_says_which_there_are(course_root):
    for number in (1, 2, 3, 5):
        course_root(number)
    with pytest.raises(course.NoSuchLesson) as caught:
        course.load(99)
    assert str(caught.value) == "There is no lesson 99; the lessons are 1–3, 5: make lessons lists them."


def test_bad_file_names(course_root):
    course_root(1, slug="one")
    course_root(1, slug="uno")
    with pytest.raises(UserError, match="both lesson 1"):
        course.lesson_files()
    (show.ROOT / "lessons" / "lesson_01_uno.py").rename(show.ROOT / "lessons" / "lesson_one.py")
    with pytest.raises(UserError, match="not named like a lesson"):
        course.lesson_files()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_every_question_is_answered_in_sentences(path):
    """Prose below the code that a prediction is about, in the same step; a note to oneself is no answer."""
    cells = course.load(int(path.name[7:9])).cells
    for i, cell in enumerate(cells):
        if not cell.asks:
            continue
        rest = list(takewhile(lambda later: not later.title, cells[i + 1 :]))
        answer = next((later.prose for later in reversed(rest) if not later.is_code), "")
        assert len(answer.split()) > 4, (
            f"{path.name}:{cell.line} asks for a prediction; no answer: the step ends with {answer!r}"
        )
