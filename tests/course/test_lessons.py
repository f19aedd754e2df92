"""Lessons are found, read, printed and run; what they print with."""

import errno
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT

# ---------------------------------------------------------------- reading


def plain_cells(text: str) -> list[tuple[str, str, str]]:
    """The (heading, prose, code) of each cell, by a plain loop over lines: the oracle."""
    cells, part = [], None
    for line in text.split("\n"):
        if line.startswith("# %%"):
            cells.append([line[4:].strip(), [], []])
            part = 1
        elif cells:
            if part == 1 and line.startswith("#"):
                cells[-1][1].append(line[2:])
            elif part == 2 or line.strip() or cells[-1][1]:
                part = 2
                cells[-1][2].append(line)
    return [(heading, "\n".join(prose).strip("\n"), "\n".join(code).strip("\n")) for heading, prose, code in cells]


def test_cells_are_those_of_a_plain_loop(course_root):
    course_root()
    read = [(cell.title, cell.prose, cell.source) for cell in course.load(1).cells]
    expected = [(heading.split(" tags=")[0], prose, code) for heading, prose, code in plain_cells(LESSON)]
    assert read == expected
    assert [cell.hidden for cell in course.load(1).cells] == [False, False, True]


def test_every_real_lesson_reads_like_the_plain_loop():
    for lesson in course.lessons():
        text = lesson.path.read_text(encoding="utf-8")
        code = [cell.source for cell in lesson.cells if cell.line > 1]
        assert code == [code for _, _, code in plain_cells(text)], f"{lesson.path.name}: cells differ"


def test_metadata(course_root):
    course_root()
    lesson = course.load(1)
    assert (lesson.title, lesson.question, lesson.minutes) == ("A first lesson", "What is two and two?", 0.5)
    assert lesson.documents == "004 §2.2 自注意力机制; 003 §3.1 Problem Statement"
    assert lesson.needs == ()


def test_a_marker_inside_a_string_is_no_cell(course_root):
    course_root(text=LESSON + 'text = """\n# %% Not a cell\n"""\nprint(len(text))\n')
    assert [cell.title for cell in course.load(1).cells] == ["Adding", "", "Hidden"]


def test_code_above_the_first_cell_runs_first(course_root, capsys):
    course_root(text=LESSON.replace("# %% Adding", "from math import pi\n\n# %% Adding") + "print(round(pi, 2))\n")
    course.run(1)
    assert "3.14" in capsys.readouterr().out


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
        ("# %% Adding", "# %%", 10, "needs a title"),
        ("# %%", "# --", 1, "no cells"),
        ("total = 2 + 2", "total = (2 +", 15, "cannot read"),
        ("total = 2 + 2\n", "total = (2 +\n# %% Inside\n2)\n", 15, "inside this statement"),
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
    course_root(text="x = 1\n# %% One\nprint(x)\n")
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


# ---------------------------------------------------------------- running


def test_run_prints_prose_code_and_outcome_in_order(course_root, capsys):
    course_root(1)
    course_root(2, LESSON.replace("A first", "A second"))
    course.run(1, quick=True)
    out = capsys.readouterr().out
    order = [
        "Lesson 1 · A first lesson",
        "What is two and two?",
        "── 1 · Adding ─",
        "Prose about adding (加法 addition).",
        "    2 + 2 = 4",
        "│ total = 2 + 2",
        "total 4",
        '│ print("again", total)',
        "again 4",
        "── 2 · Hidden ─",
        "Only the outcome",
        "doubled 8",
        "Lesson 1 took",
        "Next: make lesson-2 — A second lesson",
    ]
    places = [out.find(piece) for piece in order]
    assert -1 not in places, f"not printed: {order[places.index(-1)]!r} in\n{out}"
    assert places == sorted(places), f"printed in the wrong order:\n{out}"
    assert "2 * total" not in out, "the code of a hide-input cell was shown"
    assert "\033" not in out, "colours were printed although this is no terminal"


def test_direct_run_prints_what_the_code_prints(course_root, capsys):
    path = course_root()
    course.run(1)
    through_course = capsys.readouterr().out.splitlines()
    direct = subprocess.run([sys.executable, path], capture_output=True, encoding="utf-8", check=True).stdout
    assert direct.splitlines() == ["total 4", "again 4", "doubled 8"]
    assert [line for line in through_course if line in direct.splitlines()] == direct.splitlines()


def test_tracebacks_and_sources_point_into_the_lesson(course_root):
    body = (
        "\n# %% Sources\nimport inspect\nimport pickle\n\n"
        "class Thing:\n    size = 3\n\n"
        "def double(x):\n    return 2 * x\n\n"
        "assert inspect.getsource(double) == 'def double(x):\\n    return 2 * x\\n'\n"
        "assert 'size = 3' in inspect.getsource(Thing)\n"
        "assert type(pickle.loads(pickle.dumps(Thing()))) is Thing\n"
        "assert __name__ == '__main__' and __file__.endswith('lesson_01_try.py')\n"
        "1 / 0\n"
    )
    path = course_root(text=LESSON + body)
    main, argv = sys.modules["__main__"], sys.argv
    with pytest.raises(ZeroDivisionError) as caught:
        course.run(1)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    line = path.read_text(encoding="utf-8").split("\n").index("1 / 0") + 1
    assert (frame.filename, frame.lineno, frame.line) == (str(path), line, "1 / 0")
    assert sys.modules["__main__"] is main and sys.argv is argv, "run() left the lesson behind as __main__"


def test_future_imports_reach_every_cell(course_root, capsys):
    text = LESSON.replace("# %% Adding", "from __future__ import annotations\n\n# %% Adding")
    course_root(text=text + "\ndef f(x: int): ...\nprint(repr(f.__annotations__['x']))\n")
    course.run(1)
    assert "'int'" in capsys.readouterr().out


def test_quick_and_text_reach_the_lesson(course_root, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MINITRANSFORMER_TEXT", "")
    monkeypatch.setenv("QUICK", "")
    (tmp_path / "mine.txt").write_text("hello")
    more = (
        "\n# %% Settings\nimport os\nfrom minitransformer.course.show import QUICK\n"
        "print(QUICK, open(os.environ['MINITRANSFORMER_TEXT']).read())\n"
    )
    course_root(text=LESSON + more)
    course.run(1, quick=True, text=str(tmp_path / "mine.txt"))
    assert "True hello" in capsys.readouterr().out
    with pytest.raises(UserError, match="no file .*absent.txt"):
        course.run(1, text=str(tmp_path / "absent.txt"))


class Terminal(io.StringIO):
    """A keyboard that notes what was printed when Enter was pressed."""

    def isatty(self):
        return True


def test_step_waits_before_each_cell_with_code(course_root, monkeypatch, capsys):
    course_root()
    keys = Terminal("\n\n")  # two lines for three cells: the end of input is not an error
    monkeypatch.setattr(sys, "stdin", keys)
    course.run(1, step=True)
    out = capsys.readouterr().out
    assert out.count("press Enter") == 3
    assert out.index("press Enter") > out.index("│ total = 2 + 2"), "it asks before the code is shown"
    assert out.index("press Enter") < out.index("total 4"), "it asks after the code has run"


def test_step_without_a_terminal_runs_through(course_root, monkeypatch, capsys):
    course_root()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    course.run(1, step=True)
    out = capsys.readouterr().out
    assert "STEP needs a terminal" in out and "press Enter" not in out and "doubled 8" in out


def test_list(course_root, capsys):
    course_root(1)
    course_root(2, LESSON.replace("needs: nothing", "needs: 1").replace("0.5", "1").replace("A first", "A second"))
    course.print_list()
    out = capsys.readouterr().out
    assert "1  A first lesson  (about 0.5 minutes; needs no other lesson)" in out
    assert "2  A second lesson  (about 1 minute; after lesson 1)" in out
    assert "mirrors 004 §2.2 自注意力机制" in out


# ---------------------------------------------------------------- show: text


def test_display_width_counts_chinese_twice():
    assert show.display_width("前缀 prefix") == 11
    assert show.display_width("e\u0301") == 1


@pytest.mark.parametrize("width", [20, 33, 60, 88])
def test_wrap_keeps_every_word_and_the_width(width):
    text = (
        "A token (词元 token) 注意力机制让每一个词都能够看到其他所有的词，并且决定。 Then `a = b + c` and more words."
    )
    lines = show.wrap(text, width)
    assert all(show.display_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split()), "characters were lost or added"
    assert sum("`a = b + c`" in line for line in lines) == 1, "a code span was broken"
    assert not any(line[0] in "，。" for line in lines), "a line begins with Chinese punctuation"


def test_wrap_never_hangs_on_a_word_longer_than_the_line():
    assert show.wrap("short " + "x" * 50 + " end", 20) == ["short", "x" * 50, "end"]


def test_say_keeps_formulas_and_hangs_lists(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    show.say(
        "A paragraph on\ntwo lines, which is wrapped again.\n\n"
        "    A = softmax(Q Kᵀ / √d_k) V, long but kept\n\n"
        "- one item that is longer than a line\n- two\n  goes on\n  - nested"
    )
    assert capsys.readouterr().out.split("\n") == [
        "A paragraph on two lines,",
        "which is wrapped again.",
        "",
        "    A = softmax(Q Kᵀ / √d_k) V, long but kept",
        "",
        "- one item that is longer than",
        "  a line",
        "- two goes on",
        "  - nested",
        "",
    ]


def test_colours_only_on_a_terminal_without_no_color(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert show.styled("x", "bold") == "\033[1mx\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert show.styled("x", "bold") == "x"


def test_table_aligns_chinese():
    text = show.format_table([["前缀 prefix", 1.5, 1000], ["x", None, 2]], ["name", "loss", "n"], [None, ".2f", ","])
    lines = text.split("\n")
    assert lines == [
        "name         loss      n",
        "───────────  ────  ─────",
        "前缀 prefix  1.50  1,000",
        "x               –      2",
    ]
    assert len({show.display_width(line) for line in lines}) == 1, "the columns' ends do not line up"


def test_table_errors():
    with pytest.raises(UserError, match="Row 2 .* 1 values for 2 headers"):
        show.format_table([[1, 2], [1]], ["a", "b"])
    with pytest.raises(UserError, match="2 headers, 1 formats"):
        show.format_table([[1, 2]], ["a", "b"], [None])


def test_bar():
    assert [show.bar(value, width=4) for value in (0, 0.5, 1, 2, -1)] == ["", "██", "████", "████", ""]
    assert show.bar(1, largest=8, width=1) == "▏"


# ---------------------------------------------------------------- show: figures


def test_figure_is_saved_where_the_lesson_says(course_root, capsys):
    more = (
        "\n# %% Drawn\nfrom minitransformer.course.show import figure\n"
        "with figure('loss', 'It falls.') as axes:\n    axes.plot([3, 2, 1])\n"
        "with figure('grid', 'Two.', rows=1, columns=2) as (left, right):\n    left.bar([1], [2])\n"
    )
    course_root(7, text=LESSON + more)
    course.run(7)
    out = capsys.readouterr().out
    assert "Figure saved: figures/lesson_07/loss.png — It falls." in out
    folder = show.ROOT / "figures" / "lesson_07"
    assert sorted(path.name for path in folder.iterdir()) == ["grid.png", "loss.png"], "temporary files were left"
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("where", ["while drawing", "while saving"])
def test_a_figure_that_fails_leaves_the_old_one(course_root, monkeypatch, where):
    from matplotlib.figure import Figure

    path = show.ROOT / "figures" / "test_course" / "f.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")

    def full_disk(self, target, **options):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "while saving":
        monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises((OSError, ZeroDivisionError)), show.figure("f", "Fails."):
        if where == "while drawing":
            raise ZeroDivisionError
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("f.png", b"old")]


def test_figure_refuses_a_path_for_a_name():
    with pytest.raises(UserError, match="letters, digits"):
        show.figure("../f", "")


def test_chinese_font_can_draw_chinese():
    from matplotlib import font_manager, ft2font

    def picture(path: str, char: str) -> bytes:
        face = ft2font.FT2Font(path)
        face.set_size(24, 72)
        face.set_text(char)
        face.draw_glyphs_to_bitmap()
        return face.get_image().tobytes()

    name = show.chinese_font()
    # matplotlib brings a font of last resort, whose character for all of Chinese is one and the same box.
    able = {
        font.name
        for font in font_manager.fontManager.ttflist
        if Path(font.fname).exists()
        and ord("前") in ft2font.FT2Font(font.fname).get_charmap()
        and picture(font.fname, "前") != picture(font.fname, "调")
    }
    assert name in able if able else name is None, f"{name} draws boxes; fonts that draw Chinese: {able or 'none'}"


def test_show_and_course_load_without_heavy_libraries():
    code = "import sys, json; from minitransformer import course, __main__; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout)
    heavy = {"torch", "numpy", "matplotlib", "tiktoken"} & set(loaded)
    assert not heavy, f"a lesson's first line waits for {heavy}: import them inside the functions that use them"
