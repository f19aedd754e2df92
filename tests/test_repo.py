"""The repository keeps its own promises: README, shapes in comments, arrows between modules, nothing private."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minitransformer.course import bootstrap
from minitransformer.course import lessons as course
from tests.conftest import ROOT, imported, where

README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = sorted((ROOT / "minitransformer").rglob("*.py"))
CODE = sorted([*PACKAGE, *(ROOT / "lessons").rglob("*.py")])
KEY = set("BTSPHDCV")


# ---------------------------------------------------------------- README


def tree_paths() -> list[str]:
    """The paths in README's tree, whose indentation stands for folders."""
    tree = re.search(r"## Files\n.*?```\n(.*?)```", README, re.S)[1]
    folders, paths = [], []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name = line.split()[0]
        folders = [*folders[:depth], name]
        paths.append("".join(folders))
    return paths


def test_readme_tree_names_what_exists():
    missing = [path for path in tree_paths() if not (ROOT / path).exists()]
    assert not missing, f"README.md's tree names {missing}, which do not exist"


def test_readme_tree_names_every_module():
    package = ROOT / "minitransformer"
    modules = [path.name + "/" * path.is_dir() for path in package.iterdir() if path.suffix in ("", ".py")]
    modules = [name for name in modules if not name.startswith("__")]
    missing = [name for name in modules if f"minitransformer/{name}" not in tree_paths()]
    assert not missing, f"README.md's tree lacks a line for {missing}"


def test_readme_lists_every_lesson_and_no_other():
    rows = [f"| [{x.number}](lessons/{x.path.name}) | {x.title} | {x.question} |" for x in course.lessons()]
    listed = re.findall(r"^\| \[\d+\]\(lessons/.*$", README, re.M)
    assert listed == rows, "README.md's table of lessons should read:\n" + "\n".join(rows)


def test_readme_names_every_command():
    from minitransformer.course import cli

    commands = re.search(r"\{(.*?)\}", cli.parser().format_usage() + cli.parser().format_help())
    named = commands[1].split(",") if commands else re.findall(r"^    (\w+)  ", cli.parser().format_help(), re.M)
    assert "lesson" in named, "the test cannot read the command line's help"
    missing = [name for name in named if not re.search(rf"`make {name}(-N)?`", README)]
    assert not missing, f"README.md's table of commands lacks {missing}"


# ---------------------------------------------------------------- shapes


def foreign_names(comment: str, names_in_code: set[str]) -> list[str]:
    """What a shape comment such as `# (B, H, T, D)` names beyond the key: not numbers, not the code's own names."""
    foreign = []
    for group in re.findall(r"\(([^()]*)\)", comment):
        if not re.fullmatch(r"[\w\s,+\-−*·×/]+", group):
            continue  # prose
        words = re.findall(r"[^\W\d]\w*", group)
        if not any(len(word) == 1 for word in words):
            continue  # prose, or numbers only
        foreign += [word for word in words if word not in KEY | names_in_code | {"or"}]
    return foreign


def test_foreign_names():
    assert foreign_names("# (B or 1, H, P+S, D), (T − 1)", set()) == []
    assert foreign_names("# (B, n_part, 3*D)", {"n_part"}) == []
    assert foreign_names("# (B, n_part, L)", set()) == ["n_part", "L"]
    assert foreign_names("# written aside (see 004 §4.1) and (GPT)", set()) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_shapes_use_the_letter_key(path):
    source = path.read_text(encoding="utf-8")
    # Lower-case names of the code may stand in a shape; capitals are the key's alone.
    nodes = ast.walk(ast.parse(source))
    names = {getattr(node, field, None) for node in nodes for field in ("id", "arg", "attr")} - {None}
    names = {name for name in names if name[0].islower()}
    wrong = []
    for number, line in enumerate(source.splitlines(), 1):
        code, mark, comment = line.partition("  # ")
        if code.strip() and mark and re.match(r"(\w+ × )?\(", comment):
            wrong += [f"{where(path, number)}: {name!r} in # {comment}" for name in foreign_names(comment, names)]
    assert not wrong, "these shapes use letters outside README's key (B T S P H D C V):\n" + "\n".join(wrong)


# ---------------------------------------------------------------- requirements


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_every_import_is_a_declared_requirement(path):
    extras = ("parity", "published", "mutants", "notebook", "book", "browser")
    pinned = {pin.lower().replace("-", "_") for pin, _ in bootstrap.requirements(extras)}
    for line, target in imported(path):
        top = target.split(".")[0]
        known = top in sys.stdlib_module_names or top.lower() in pinned | {"minitransformer"}
        assert known, f"{where(path, line)}: {top} is not pinned in pyproject.toml"


# ---------------------------------------------------------------- nothing private


@pytest.mark.ci
def test_no_machine_paths_or_hosts():
    # Each is written in two halves, or this file would name itself.
    private = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/op" + "t/", "sha" + "red/", "C:" + "\\Users"]
    private += ["py" + "pi.org", "pythonho" + "sted", "download." + "pytorch", "registry." + "npmjs"]
    git = ["git", "ls-files", "-z"]  # what is committed; a log that somebody saved here is theirs
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    found = []
    for path in (ROOT / name for name in names if (ROOT / name).is_file()):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a checkpoint or a picture
        if path == Path(bootstrap.__file__):  # the one address that users need, PyTorch's own
            assert text.count(bootstrap.CPU_INDEX) == 1
            text = text.replace(bootstrap.CPU_INDEX, "")
        for word in private:
            if word in text:
                places = re.finditer(rf"(?<!\w){re.escape(word)}", text)
                found += [f"{where(path, text.count(chr(10), 0, place.start()) + 1)}: {word}" for place in places]
    assert not found, "these name a place on somebody's machine:\n" + "\n".join(found)


def test_ci_runs_what_it_promises():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    for command in (
        "make test",
        "make test ARGS='-m ci'",
        "make lint",
        "make verify",
        "make parity",
        "make book-test",
        "QUICK=1 make",
    ):
        assert command in script
