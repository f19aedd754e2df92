"""Records of lessons: every event, nothing printed, and what they rest on."""

import json
import re

import pytest

from minitransformer.course import figures, record
from minitransformer.course import lessons as course
from minitransformer.course.record import Recorder, changed, read, record_here, record_lesson
from minitransformer.errors import UserError
from tests.conftest import LESSON, ROOT

SHOWN = """
# %%
from minitransformer.course.show import bar, figure, source, table, verbatim

table([("前缀", 0.5, bar(0.25, width=4))], ["name", "loss", ""])
verbatim("a  b")
verbatim("c  d")
say("A sentence.")
verbatim("e")
source(bar)
with figure("loss", "It falls.", (4, 3), alt="A line.") as axes:
    axes.plot([3, 1])
"""


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Lesson 2, recorded."""
    return record_lesson(2, quick=True, folder=tmp_path_factory.mktemp("record"))


@pytest.fixture
def here(course_root, monkeypatch, tmp_path):
    """A lesson of a temporary course, recorded in this process."""
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "imported_modules", lambda: [])
    monkeypatch.setattr(record, "opened_files", lambda: lambda: set())

    def run(text: str = LESSON):
        course_root(text=text)
        return record_here(1, tmp_path / "record")

    return run


def test_each_event_is_kept_in_its_cell(here, capsys, tmp_path):
    made = here(LESSON + SHOWN)
    assert capsys.readouterr().out == ""
    assert [[event["kind"] for event in cell.events] for cell in made.cells] == [
        ["say"],
        ["say"],
        ["say"],
        ["table", "verbatim", "say", "verbatim", "source", "figure"],
    ]
    assert [cell.events[0]["text"] for cell in made.cells[:3]] == ["total 4", "again 4", "doubled 8"]
    table, lines, _, _, source, figure = made.cells[3].events
    assert table["headers"] == ["name", "loss", ""] and table["right"] == [False, True, False]
    assert table["rows"] == [["前缀", "0.5", {"text": "█", "bar": 0.25}]]
    assert lines["text"] == "a  b\nc  d"
    assert source["name"] == "minitransformer.course.show:bar" and source["code"].startswith("def bar(")
    assert figure == {"kind": "figure", "file": "loss.svg", "caption": "It falls.", "alt": "A line.", "inches": [4, 3]}
    assert b"<svg" in (tmp_path / "record" / "loss.svg").read_bytes()
    lines = (tmp_path / "lessons" / "lesson_01_try.py").read_text(encoding="utf-8").split("\n")
    assert all(lines[cell.line - 1].startswith("# %%") for cell in made.cells)


def test_a_record_is_read_as_it_was_written(here):
    made = here(LESSON + SHOWN)
    made.write()
    assert read(1, made.folder) == made
    with pytest.raises(UserError, match="no record yet"):
        read(1, made.folder / "other")
    (made.folder / "record.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99"):
        read(1, made.folder)
    (made.folder / "record.json").write_text('{"format": 1, "cel')
    with pytest.raises(UserError, match="no whole record"):
        read(1, made.folder)


def test_a_drawing_of_many_points_becomes_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "LARGEST_SVG", 10)
    sink = Recorder(tmp_path)
    sink.cell(course.Cell(1, is_code=True))
    with figures.drawing((4, 3), 1, 1) as (made, axes):
        axes.plot([1, 2])
        sink.show(record.output.Figure("lesson_01", "many", "Many.", "Many.", tmp_path, made))
    assert sink.cells[0].events[0]["file"] == "many.png" and [file.name for file in tmp_path.iterdir()] == ["many.png"]


@pytest.mark.parametrize(
    "old, new, is_stale",
    [
        ("Prose about", "Other prose about", False),
        ("total = 2 + 2", "total = 2 + 2  # a comment", False),
        ("What is two and two?", "How much is two and two?", False),
        ("total = 2 + 2", "total = 2 + 3", True),
        ("again = total", "\n# %%\nagain = total", True),
        ("again 4", "again 4", False),
        ('say(f"again', 'say(f"once more', True),
    ],
)
def test_a_record_goes_stale_with_the_lessons_code_alone(here, tmp_path, old, new, is_stale):
    made = here()
    path = tmp_path / "lessons" / "lesson_01_try.py"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert changed(made) == (["lessons/lesson_01_try.py"] if is_stale else [])


def test_a_record_goes_stale_with_modules_and_data(here, tmp_path, monkeypatch):
    module, data = tmp_path / "module.py", tmp_path / "data.txt"
    module.write_text("x = 1\n")
    data.write_text("x = 1\n")
    monkeypatch.setattr(record, "imported_modules", lambda: [module])
    monkeypatch.setattr(record, "opened_files", lambda: lambda: {data})
    made = here()
    assert changed(made) == []
    for path in (module, data):
        path.write_text("x = 1  # more\n")
    assert changed(made) == ["data.txt"], "a comment in a module computes nothing"
    module.write_text("x = 2\n")
    data.unlink()
    assert changed(made) == ["data.txt", "module.py"]
    made.rests_on["lessons/lesson_01_other.py"] = made.rests_on.pop("lessons/lesson_01_try.py")
    assert changed(made) == ["data.txt", "module.py", "lessons/lesson_01_other.py", "lessons/lesson_01_try.py"]


def test_what_is_printed_around_the_seam_is_refused(monkeypatch, tmp_path):
    class Ran:
        returncode, stdout, stderr = 0, "loud", ""

    monkeypatch.setattr(record.subprocess, "run", lambda *a, **k: Ran)
    with pytest.raises(UserError, match="(?s)goes through no event.*loud"):
        record_lesson(2, folder=tmp_path)
    Ran.returncode, Ran.stderr = 1, "It is broken."
    with pytest.raises(UserError, match="(?s)Lesson 2 was not recorded, for it failed.*It is broken"):
        record_lesson(2, folder=tmp_path)
    with pytest.raises(course.NoSuchLesson):
        record_lesson(99)


def test_a_real_lesson(second):
    cells = [cell for cell in course.load(2).cells if cell.is_code]
    assert [cell.line for cell in second.cells] == [cell.line for cell in cells]
    shows = re.compile(r"^\s*(?:say|table|source|verbatim|with figure)\(|^with figure\(", re.M)
    for cell, recorded in zip(cells, second.cells, strict=True):
        assert bool(recorded.events) == bool(shows.search(cell.source)), f"events are missing:\n{cell.source}"
    kinds = [event["kind"] for cell in second.cells for event in cell.events]
    source = "\n".join(cell.source for cell in cells)
    for kind, call in (("figure", r"^with figure\("), ("table", r"^table\("), ("source", r"^source\(")):
        assert kinds.count(kind) == len(re.findall(call, source, re.M)) > 0, kind
    assert sorted(file.name for file in second.folder.iterdir()) == ["masks.svg", "record.json", "sqrt_dk.svg"]
    assert json.loads((second.folder / "record.json").read_text(encoding="utf-8"))["quick"] is True


def test_what_a_real_lesson_rests_on(second):
    places = set(second.rests_on)
    assert {"lessons/lesson_02_attention.py", "minitransformer/models/attention.py"} <= places
    assert {"minitransformer/course/show.py", "minitransformer/course/figures.py"} <= places
    assert not {f"minitransformer/course/{name}" for name in record.MACHINERY} & places
    assert not any("/lab/" in place or "/workbook/" in place or "/tuning/" in place for place in places)
    assert all((ROOT / "minitransformer" / "course" / name).is_file() for name in record.MACHINERY)
    assert changed(second) == []
    assert second.versions["torch"].startswith("2.") and second.machine["threads"] >= 1


@pytest.mark.slow
def test_the_data_and_weights_that_a_lesson_reads_are_found(tmp_path):
    made = record_lesson(9, quick=True, folder=tmp_path)
    data = {place for place in made.rests_on if place.startswith("data/")}
    expected = {"data/tokenizer.tiktoken", "data/bases/gpt.safetensors"}
    assert expected <= data and any(place.startswith("data/tasks/table_to_text/") for place in data), data
