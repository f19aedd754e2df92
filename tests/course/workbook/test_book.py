"""start and reset never lose what a learner wrote."""

import linecache
import re
import sys
from pathlib import Path

import pytest

from minitransformer.course import lessons as course
from minitransformer.course import show
from minitransformer.course.workbook import book, catalogue, checking, commands, loading
from minitransformer.course.workbook.progress import Progress
from minitransformer.errors import UserError
from tests.course.workbook.helpers import EXERCISES, SUM, TOYS, check_here, write_workbook


def test_the_top_of_a_workbook_is_aligned_and_true(monkeypatch):
    for number in (1, 11):
        monkeypatch.setattr(course, "lesson_files", dict)
        top = book.new_text(number, catalogue.exercises(1)).split('"""')[1]
        rows = re.findall(r"^    (make \S+ +)(?=\S)", top, re.M)
        assert len(rows) == 6 and len(set(map(len, rows))) == 1, top
        assert "nothing but you" not in top and f"make reset-{number}.2" in top and f"make start-{number} " in top


def test_a_workbook_of_another_name(here):
    write_workbook().rename(book.folder() / "lesson_1.py")
    with pytest.raises(UserError, match="rename it to lesson_01.py"):
        checking.check(1)
    (book.folder() / "lesson_1.py").unlink()
    with pytest.raises(UserError, match="There is no workbook for lesson 1 yet: make start-1 writes"):
        checking.check(1)
    write_workbook()
    copy = book.reset(1)
    book.workbook_path(1).unlink()
    with pytest.raises(UserError, match=f"copy back what reset kept last, workbook/backup/{copy.name}"):
        checking.check(1)


def test_start_writes_once_and_then_only_adds():
    path, added, is_new = book.start(1)
    assert is_new and len(added) == 3
    own = path.read_text(encoding="utf-8").replace('raise NotImplementedError("write this")', "return x  # mine")
    start = own.index("class Counter")
    own = own[:start] + "# the counter is gone\n"
    path.write_text(own, encoding="utf-8")
    _, added, is_new = book.start(1)
    text = path.read_text(encoding="utf-8")
    assert not is_new and [one.id for one in added] == ["1.3"]
    assert text.startswith(own.rstrip()), "what was there stands untouched"
    assert text.count("class Counter(Counter)") == 1 and text.count("# mine") == own.count("# mine")
    assert book.start(1)[1] == [] and path.read_text(encoding="utf-8") == text
    loading.load(path, catalogue.exercises(1))


def test_start_adds_the_imports_of_what_it_adds():
    path = write_workbook("def running_sum(x):\n    return x.cumsum(0)\n")
    book.start(1)
    assert check_here(every=True)["1.3"]["state"] == "unwritten"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("def running_sum(x):\n    return x.cumsum(0)\n") and text.count("def running_sum") == 1


def test_start_does_not_put_the_packages_code_over_the_learners(toys):
    """An upgrade brings a function that calls the learner's, and a second method of a class."""
    text = TOYS.replace("    return function(x)", "    return running_sum(x)")
    Path(toys.__file__).write_text(text, encoding="utf-8")
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    own = path.read_bytes()
    more = (
        EXERCISES.replace("adding = Exercise(", "added = Exercise(")
        .replace("@adding", "@added")
        .replace('"1.3", "toys:Counter.add"', '"1.4", "toys:Counter.start"')
    )
    defaults = (
        EXERCISES[: EXERCISES.index("means = ")]
        .replace("sums", "defaults")
        .replace('"1.1", "toys:running_sum"', '"1.5", "toys:by_default"')
    )
    everything = EXERCISES + more[more.index("added = ") :] + defaults[defaults.index("defaults = ") :]
    catalogue.files()[1].write_text(everything, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    assert [one.id for one in book.start(1)[1]] == ["1.4", "1.5"]
    assert path.read_bytes().startswith(own), "what was there stands untouched"
    loaded = loading.load(path, catalogue.exercises(1))
    assert loaded.candidates["1.1"].__code__.co_filename == str(path), "this has to be the learner's function"
    results = check_here(every=True)
    states = [results[f"1.{n}"]["state"] for n in range(1, 6)]
    assert states == ["passed", "passed", "passed", "unwritten", "unwritten"]


def test_start_adds_bytes_and_changes_none():
    text = "def running_sum(x):\n    return x.cumsum(0)   \n"
    for own in (b"\xef\xbb\xbf" + text.encode(), text.replace("\n", "\r\n").encode(), text.rstrip("\n").encode()):
        path = write_workbook("")
        path.write_bytes(own)
        book.start(1)
        after = path.read_bytes()
        assert after.startswith(own) and after.count(b"raise NotImplementedError") == 2
        assert after.count(b"\r\n") in (0, after.count(b"\n")), "one kind of line ends"
        assert check_here(every=True)["1.1"]["state"] == "passed"
        book.reset(1, "1.2")
        assert path.read_bytes().startswith(own) and path.read_bytes().count(b"\r") == after.count(b"\r")


@pytest.mark.parametrize(
    "target, name, edit",
    [
        ("toys:mean", "mean", ("def mean(", "def middle(")),
        ("toys:Counter.add", "Counter.add", ("    def add(self", "    def count(self")),
    ],
)
def test_an_exercise_that_was_renamed_finds_its_work_by_id(toys, target, name, edit, capsys):
    old, new = edit
    path = write_workbook()
    own = path.read_bytes()
    toys_path, file = Path(toys.__file__), catalogue.files()[1]
    toys_path.write_text(toys_path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    renamed = target.replace(name, name.replace(old.split()[1].split("(")[0], new.split()[1].split("(")[0]))
    text = EXERCISES.replace(f'"{target}"', f'"{renamed}"').replace("counter.add(", "counter.count(")
    file.write_text(text, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    sys.modules.pop("toys")
    identity = next(one.id for one in catalogue.exercises(1) if one.target == renamed)
    commands.start(1)
    said = " ".join(capsys.readouterr().out.split())
    assert f"under the heading of {identity} stands {name}, but the exercise is called" in said
    assert path.read_bytes() == own
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    linecache.checkcache()
    assert check_here(identity)[identity]["state"] == "passed"


def test_an_upgrade_keeps_all_other_work(toys, here):
    """A docstring changes, an exercise goes, one moves to another module and another place in the lesson."""
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    assert checking.check(1) == 0
    own = path.read_bytes()
    moved = TOYS[: TOYS.index("class Base")].replace("Each number plus", "Now said otherwise: each number plus")
    (show.ROOT / "user_of_toys.py").write_text(moved, encoding="utf-8")
    text = EXERCISES[: EXERCISES.index("adding = ")].replace("toys:running_sum", "user_of_toys:running_sum")
    catalogue.files()[1].write_text(text, encoding="utf-8")
    sys.modules.pop("lesson_01_exercises")
    assert book.start(1)[1] == [] and path.read_bytes() == own
    assert [result["state"] for result in check_here(every=True).values()] == ["passed", "passed"]
    assert Progress()["1.3"].passed, "progress of an exercise that is gone is kept"


def test_a_read_only_workbook_stays_as_it_is(here):
    path = write_workbook("def running_sum(x):\n    return x.cumsum(0)\n")
    path.chmod(0o444)
    for write in (lambda: book.start(1), lambda: book.reset(1), lambda: book.reset(1, "1.1")):
        with pytest.raises(UserError, match="is read-only and stays as it is.*chmod u[+]w"):
            write()
    assert path.read_text(encoding="utf-8") == "def running_sum(x):\n    return x.cumsum(0)\n"
    assert checking.check(1, "1.1") == 0, "it can be checked all the same"
    path.chmod(0o644)


def test_start_does_not_touch_what_it_cannot_read():
    path = write_workbook("def broken(:\n")
    with pytest.raises(UserError, match="Python cannot read this line"):
        book.start(1)
    assert path.read_text(encoding="utf-8") == "def broken(:\n"


def test_folders_and_files_in_each_others_place(here):
    for path, command in (
        (book.workbook_path(1), lambda: book.start(1)),
        (book.workbook_path(1), lambda: book.reset(1)),
        (book.folder() / "progress.txt", commands.progress),
    ):
        path.mkdir(parents=True)
        with pytest.raises(UserError, match=f"workbook/{path.name} cannot be read: "):
            command()
        path.rmdir()
    for path in (book.folder() / "backup", book.folder()):
        path.rmdir() if path.exists() else None
    book.folder().write_text("a file")
    with pytest.raises(UserError, match="lesson_01.py cannot be written"):
        book.start(1)


def test_reset_puts_a_dated_copy_aside():
    path = write_workbook(edits=[(SUM, f"{SUM}  # mine")])
    mine_text = path.read_text(encoding="utf-8")
    copies = [book.reset(1), book.reset(1)]
    assert copies[0] != copies[1] and copies[0].parent == book.folder() / "backup"
    assert copies[0].read_text(encoding="utf-8") == mine_text
    assert re.search(r"\d{4}-\d\d-\d\d", copies[0].name)
    assert path.read_text(encoding="utf-8") == book.new_text(1, catalogue.exercises(1))


@pytest.mark.parametrize("identity", ["1.1", "1.2", "1.3"])
def test_one_exercise_can_be_reset(identity, here):
    path = write_workbook()
    assert checking.check(1) == 0
    commands.reset(1, identity)
    states = {key: result["state"] for key, result in check_here(every=True).items()}
    assert states == {key: "unwritten" if key == identity else "passed" for key in ("1.1", "1.2", "1.3")}
    assert not Progress()[identity].passed
    assert len(list((path.parent / "backup").iterdir())) == 1


def test_reset_of_one_exercise_needs_a_workbook_that_parses():
    path = write_workbook("def broken(:\n")
    with pytest.raises(UserError, match="only the whole workbook can be reset"):
        book.reset(1, "1.1")
    assert path.read_text(encoding="utf-8") == "def broken(:\n"
