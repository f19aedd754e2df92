"""What lessons show with: events for the sink in use, whichever it is; and figures, saved whole or not at all."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minitransformer.course import figures, output, runner, show
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT


class Kept(output.Sink):
    """Keeps what it is shown."""

    def __init__(self):
        self.events = []

    def show(self, event):
        self.events.append(event)


@pytest.fixture
def kept():
    with output.to(Kept()) as sink:
        yield sink.events


def test_each_call_is_one_event_and_nothing_is_printed(kept, capsys):
    show.say("\nA **sentence**.\n")
    show.verbatim("a  b")
    show.table([("x", 0.5, None)], ["name", "loss", "n"], [None, ".2f", None])
    show.source(show.switched_on)
    with show.figure("loss", "It falls.", alt="A line from 3 to 1.") as axes:
        axes.plot([3, 1])
    said, lines, table, source, figure = kept
    assert said == output.Say("A **sentence**.") and lines == output.Verbatim("a  b")
    assert table == output.Table(["name", "loss", "n"], [["x", "0.50", "–"]], [False, True, True])
    assert source.name == "minitransformer.course.show:switched_on"
    assert source.code.startswith("def switched_on(") and '"""Whether' in source.code
    assert (figure.lesson, figure.name, figure.caption) == ("test_show", "loss", "It falls.")
    assert figure.alt == "A line from 3 to 1."
    assert capsys.readouterr().out == ""


def test_a_figures_caption_stands_for_what_it_shows(kept):
    with show.figure("loss", "It falls."):
        pass
    assert kept[0].alt == "It falls."


def test_a_source_without_its_docstring_or_withheld(kept, monkeypatch):
    show.source(show.switched_on, docstring=False)
    monkeypatch.setattr(show, "withheld", lambda function: "Write it first.")
    show.source(show.switched_on)
    assert '"""…"""' in kept[0].code and "Whether" not in kept[0].code
    assert kept[1] == output.Say("Write it first.")


def test_the_innermost_sink_takes_it(kept):
    with output.to(Kept()) as inner:
        show.say("a")
    show.say("b")
    assert (inner.events, kept) == ([output.Say("a")], [output.Say("b")])


def test_bar_and_its_fraction():
    assert [show.bar(value, width=4) for value in (0, 0.5, 1, 2, -1)] == ["", "██", "████", "████", ""]
    assert show.bar(1, largest=8, width=1) == "▏"
    assert show.bar(1, largest=4).fraction == 0.25 and show.bar(-1).fraction == 0
    with pytest.raises(UserError, match="above 0"):
        show.bar(1, largest=0)


# ---------------------------------------------------------------- show: figures


def test_figure_is_saved_where_the_lesson_says(course_root, capsys):
    more = (
        "\n# %%\nfrom minitransformer.course.show import figure\n"
        "with figure('loss', 'It falls.') as axes:\n    axes.plot([3, 2, 1])\n"
        "with figure('grid', 'Two.', rows=1, columns=2) as (left, right):\n    left.bar([1], [2])\n"
    )
    course_root(7, text=LESSON + more)
    runner.run(7)
    out = capsys.readouterr().out
    assert "Figure saved: figures/lesson_07/loss.png — It falls." in out
    folder = show.ROOT / "figures" / "lesson_07"
    assert sorted(path.name for path in folder.iterdir()) == ["grid.png", "loss.png"], "temporary files were left"
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("where", ["while drawing", "while saving"])
def test_a_figure_that_fails_leaves_the_old_one(course_root, monkeypatch, where):
    path = show.ROOT / "figures" / "test_show" / "f.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")

    def full_disk(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "while saving":
        monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises((UserError, ZeroDivisionError)), show.figure("f", "Fails."):
        if where == "while drawing":
            raise ZeroDivisionError
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("f.png", b"old")]


def squares(form: str) -> bytes:
    """A figure of square images: they leave the layout less room than it thinks."""
    with figures.drawing((9.5, 3.4), 1, 3) as (made, axes):
        for ax in axes:
            ax.imshow([[0, 1], [1, 0]])
            ax.set(title="two by two", xlabel="read", ylabel="reads")
        return figures.picture(made, form)


def test_nothing_of_a_figure_is_cut_off():
    from matplotlib import image

    pixels = image.imread(io.BytesIO(squares("png")), format="png")
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 1).all() for edge in edges), "something reaches over the edge"


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_figure_has_the_same_bytes(form):
    assert squares(form) == squares(form)


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
