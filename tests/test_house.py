"""The house: a library that stands alone and a course around it, and no arrow that points up."""

import ast
import functools
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import minitransformer
from tests.conftest import ROOT, imported, where

PACKAGE = ROOT / "minitransformer"

# From the ground up: a module imports what stands in a line before its own, or in its own folder without going round in
# a circle. A name stands for a module, or for a folder with all that is in it.
LIBRARY = [
    "errors",
    "checks",
    "files",
    "checkpoint",
    "models",
    "published",
    "text",
    "training",
    "generation",
    "tuning",
    "metrics",
]
COURSE = [
    "course.locks",
    "course.bootstrap",
    "course.documents",
    "course.shipped",
    "course.data",
    "course.fingerprints",
    "course.visible",
    "course.lessons",
    "course.translation",
    "course.figures",
    "course.output",
    "course.show",
    "course.runner",
    "course.notebook",
    "course.record",
    "course.tinyworld",
    "course.jsonl",
    "course.bigram",
    "course.batches",
    "course.answers",
    "course.hard",
    "course.timing",
    "course.workers",
    "course.trial",
    "course.bases",
    "course.devices",
    "course.together",
    "course.tasks",
    "course.skills",
    "course.index",
    "course.workbook",
    "course.lab",
    "course.pretrain",
    "course.words",
    "course.chat",
    "course.bench",
    "course.device_bench",
    "course.mutants",
    "course.own",
    "course.real",
    "course.book",
    "course.cli",
]
ORDER = [*LIBRARY, *COURSE, "__main__"]


def module_of(path: Path) -> str:
    """The dotted name of a file of the package, without `minitransformer.` in front: "" for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}


@functools.cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that a module names in its imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(TEXTS[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {whole if whole.removeprefix("minitransformer.") in MODULES else node.module for whole in names}
    inside = {one.removeprefix("minitransformer.") for one in found if one.startswith("minitransformer.")}
    return frozenset(inside & set(MODULES))


def place(name: str) -> int:
    """Where a module stands in `ORDER`."""
    at = [i for i, room in enumerate(ORDER) if name == room or name.startswith(f"{room}.")]
    assert at, f"tests/test_house.py: add {name} to LIBRARY or COURSE, where it belongs"
    return at[0]


def test_the_library_imports_nothing_of_the_course():
    library = [name for name in MODULES if not name.startswith("course") and name != "__main__"]
    assert {other for name in library for other in imports(name) if other.startswith("course")} == set()


def test_the_library_works_without_the_course():
    code = (
        "import sys; sys.modules['minitransformer.course'] = None\n"  # an import of it would raise
        "import minitransformer\nfor name in minitransformer.__all__: getattr(minitransformer, name)\n"
        "import minitransformer.metrics, minitransformer.text.batches.completion"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("", "course")])
def test_no_arrow_points_up(name):
    for line, target in imported(MODULES[name]):
        assert target.split(".")[0] != "lessons", f"{where(MODULES[name], line)}: no module may know of the lessons"
    for other in imports(name) - {"", "course"}:
        assert place(other) <= place(name), f"{name} imports {other}, which stands above it in tests/test_house.py"


def test_no_circle():
    arrows = {name: imports(name) - {name} for name in MODULES if name}
    # A folder's __init__ collects what is in it; what is in it may not lead back to the collection.
    while leaves := [name for name, others in arrows.items() if not others & set(arrows)]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"these modules import each other in a circle: {sorted(arrows)}"


def test_every_folder_says_what_lives_there():
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            said = ast.get_docstring(ast.parse(TEXTS[name]))
            assert said and said.splitlines()[0].endswith("."), f"{where(path, 1)}: a sentence has to say what is here"


def test_help_gives_the_reading_order_and_the_public_names():
    text = pydoc.render_doc(minitransformer, renderer=pydoc.plaintext)
    at = [text.index(f"    {name}/") for name in ("models", "text", "training", "generation", "tuning")]
    assert at == sorted(at), "help(minitransformer) should give the folders in their reading order"
    missing = [name for name in minitransformer.__all__ if name not in text]
    assert not missing, f"help(minitransformer) does not name {missing}"


def test_an_unknown_name_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="no attribute 'GTP'"):
        minitransformer.GTP  # noqa: B018


def test_python_files_of_the_library_are_short_enough_to_read():
    lines = {name: text.count("\n") for name, text in TEXTS.items() if not name.startswith("course")}
    assert sum(lines.values()) < 7000, f"the library has {sum(lines.values())} lines: too long for an evening"
    long = {name: n for name, n in lines.items() if n > 460}
    assert not long, f"a file this long is usually two things: {long}"
