"""The printed code is the code without what only presents: nothing more is gone, and nothing less."""

import ast
import textwrap

import pytest

from minitransformer.course import lessons as course
from minitransformer.course.visible import Visible
from tests.conftest import ROOT

SEAM = "from minitransformer.course.show import figure, say, source, table, verbatim\n"
LESSONS = sorted((ROOT / "lessons").glob("lesson_*.py"))


def shown(code: str) -> str:
    """What is printed of a cell, below a cell that imports what presents."""
    code = textwrap.dedent(code).strip("\n")
    tree = ast.parse(SEAM + code)
    return Visible(tree).code(code, 2, tree.body[1:])


@pytest.mark.parametrize(
    "code, kept",
    [
        ("x = 1\nsay(f'{x}')", "x = 1"),
        ("say('a')", ""),
        ("table(\n    [[1]],\n    ['a'],\n)\nx = 1", "x = 1"),
        ("source(len)\nverbatim('a')\nprint('a')\nassert 1 < 2, 'so'", ""),
        ("with figure('a', 'b') as axes:\n    x = 1\n    axes.plot(x)\ny = 2", "y = 2"),
        ("with open('a') as file, figure('a', 'b') as axes:\n    axes.plot(file)", ""),
    ],
    ids=["say", "nothing else", "several lines", "every kind", "a figure's block", "a figure among others"],
)
def test_what_presents_is_gone(code, kept):
    assert shown(code) == kept


@pytest.mark.parametrize(
    "code",
    [
        "x = say",
        "x = table([[1]], ['a'])",
        "self.say('a')",
        "figure = 1\nwith open('a') as f:\n    pass",
        "for i in range(3):\n    x = i",
        "if x:\n    pass",
        "while True:\n    break",
        "x = 1; say('a')",
        "if x: y = 1; say('a')",
        "def f():\n    yield say('a')",
    ],
)
def test_neighbours_of_what_presents_stay(code):
    assert shown(code) == code


@pytest.mark.parametrize(
    "code, kept",
    [
        ("for i in range(3):\n    say('a')\n    assert i < 3", ""),
        ("for i in range(3):\n    if i == 1:\n        continue\n    say('a')", ""),
        ("for i in range(3):\n    x = i\n    say('a')", "for i in range(3):\n    x = i"),
        ("if x:\n    say('a')\nelif y:\n    say('b')\nelse:\n    say('c')", ""),
        ("if x:\n    y = 1\nelse:\n    say('a')\nz = 1", "if x:\n    y = 1\nz = 1"),
        ("if x:\n    y = 1\nelif y:\n    say('a')\nelse:\n    say('a')", "if x:\n    y = 1"),
        ("if x:\n    say('a')\n    say('b')\nelse:\n    y = 1", "if x:\n    pass\nelse:\n    y = 1"),
        (
            "if x:\n    elsewhere = 1\nelse:\n    # Why.\n    say('a')\n",
            "if x:\n    elsewhere = 1",
        ),
        ("try:\n    x = 1\nexcept OSError:\n    say('a')", "try:\n    x = 1\nexcept OSError:\n    pass"),
        ("try:\n    x = 1\nfinally:\n    say('a')", "try:\n    x = 1\nfinally:\n    pass"),
        ("def f(x):\n    say(x)\n    return x\n\n\nf(3)", "def f(x):\n    return x\n\nf(3)"),
        ("with open('a') as f:\n    x = f.read()\n    say(x)", "with open('a') as f:\n    x = f.read()"),
        ("def f(x):\n    say(x)\n\n\nf(3)\ny = 1", "y = 1"),
        ("def f(x):\n    y = 2 * x\n    g(y)\n\n\ndef g(x):\n    say(x)\n\n\nf(3)\ny = f", "y = f"),
        (
            "class A:\n    def f(self):\n        say('a')\n        return 1",
            "class A:\n    def f(self):\n        return 1",
        ),
    ],
)
def test_compound_statements(code, kept):
    assert shown(code) == kept
    assert ast.parse(kept)


def test_comments_go_with_what_they_belong_to():
    code = """
        # About x.
        x = 1  # one

        # About the sentence,
        # in two lines.
        say(f"{x}")  # says it
        # About y.
        y = 2
        with figure("a", "b") as axes:
            axes.plot(x)
            # The end of the drawing.
        # About z.
        z = 3
        # At the end.
    """
    assert shown(code) == "# About x.\nx = 1  # one\n\n# About y.\ny = 2\n# About z.\nz = 3\n# At the end."


def test_imports_that_only_presentation_needs_are_gone():
    code = """
        import textwrap
        import math
        from os import path, sep
        from minitransformer.course.show import QUICK, bar, table
        import this_is_imported_for_what_it_does

        x = math.pi if QUICK else path
        say(textwrap.fill(sep))
        table([[bar(x)]], ["a"])
    """
    assert shown(code).split("\n") == [
        "import math",
        "from os import path",
        "from minitransformer.course.show import QUICK",
        "import this_is_imported_for_what_it_does",
        "",
        "x = math.pi if QUICK else path",
    ]


def test_a_long_import_is_folded():
    names = [f"a_name_that_takes_some_room_{i}" for i in range(5)]
    code = f"from somewhere import {', '.join(names)}, other\nx = [{', '.join(names)}]\nsay(other)"
    lines = shown(code).split("\n")
    assert lines[:7] == ["from somewhere import (", *(f"    {name}," for name in names), ")"]
    assert ast.parse(shown(code))


class Oracle(ast.NodeTransformer):
    """Takes out of a lesson's tree what presents, by the letter of the rule; imports aside."""

    def __init__(self, showing: set[str]) -> None:
        self.showing = showing

    def visit(self, node: ast.AST) -> ast.AST | None:
        called = getattr(getattr(node, "value", None), "func", None) if isinstance(node, ast.Expr) else None
        drawn = [getattr(getattr(i.context_expr, "func", None), "id", "") for i in getattr(node, "items", [])]
        gone = (
            isinstance(node, ast.Assert | ast.Import | ast.ImportFrom)
            or getattr(called, "id", "") in self.showing
            or "figure" in drawn
            or (isinstance(node, ast.FunctionDef) and node.name in self.showing)
        )
        if gone:
            return None
        had = [name for name in ("body", "orelse", "finalbody") if getattr(node, name, None)]
        node = self.generic_visit(node)
        if isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
            left = [part for name in had for part in getattr(node, name) if not isinstance(part, ast.Continue)]
            if not left:
                return None
        for name in had if isinstance(node, ast.Try) else ["body"]:
            if hasattr(node, name) and isinstance(node, ast.stmt | ast.ExceptHandler):
                setattr(node, name, getattr(node, name) or [ast.Pass()])
        return node


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_what_is_printed_of_the_lessons_is_what_the_rule_says(path):
    lesson = course.load(int(path.name[7:9]))
    text = "\n".join(cell.shown for cell in lesson.cells)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    showing = {"say", "table", "source", "verbatim"}
    # Lesson 14 has three functions of its own that present.
    showing |= {"numbers", "tell", "draw"} & {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    expected = Oracle(showing).visit(tree)
    expected.body = expected.body[1:]  # the docstring
    assert ast.unparse(Oracle(set()).visit(ast.parse(text))) == ast.unparse(expected)
    longest = max(text.split("\n"), key=len)
    assert len(longest) <= max(map(len, path.read_text(encoding="utf-8").split("\n"))), longest


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:9])
def test_every_import_that_the_printed_code_needs_is_printed(path):
    tree = ast.parse("\n".join(cell.shown for cell in course.load(int(path.name[7:9])).cells))
    given = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    given |= {
        a.asname or a.name.split(".")[0] for n in ast.walk(tree) for a in getattr(n, "names", []) if hasattr(a, "name")
    }
    given |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    given |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler)}
    given |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)} | set(dir(__builtins__)) | set(__builtins__)
    missing = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - given - {"__file__"}
    assert not missing, f"{path.name}: the printed code uses {missing}, whose import is not printed"
