"""Lesson 15 reads whatever has been measured on the real model: nothing, a part, or all."""

import ast
import random
import re
import statistics

import pytest

from minitransformer.course import figures, show
from minitransformer.course import lessons as course
from minitransformer.course.real import measure

STEPS = ("A text that nobody wrote for us", "Five methods, one rule", "The test")


def row_of(cell, dice):
    """A made-up row: the middle rate is the best, and a method the better the later it stands."""
    far = abs(measure.RATES.index(cell.lr) - measure.RATES.index(measure.ARMS[cell.arm].middle))
    accuracy = 0.4 + 0.04 * list(measure.ARMS).index(cell.arm) + 0.01 * dice.random()
    measured = {"loss": 1.5 + 0.2 * far, "accuracy": accuracy, "macro_f1": accuracy, "seconds": 9.0}
    counts = {"trained": 1, "stored": 1, "head": 3080, "base": 22_713_216}
    return {"cell": vars(cell), **measured, **counts, "made_from": measure.made_from()}


class WithoutAsserts(ast.NodeTransformer):
    """What the committed rows say is asserted when the lesson runs; made-up rows say something else."""

    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Measures up to so many made-up cells, runs the steps that read them; gives what they print and draw."""
    monkeypatch.setattr(measure, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(measure.minilm, "version", lambda: "made up")
    monkeypatch.setattr(show, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "picture", lambda figure, form: b"")

    def run(most):
        measure.ROWS.unlink(missing_ok=True)
        dice, rows = random.Random(0), {}
        while len(rows) < most and (cell := next(measure.open_cells(rows), None)):
            rows[cell.key] = row_of(cell, dice)
            measure.store(rows[cell.key])
        title, names = "", {"__name__": "lesson", "measure": measure}  # a step that is left out imports it
        for cell in course.load(15).cells:
            title = cell.title or title
            if cell.is_code and title in STEPS:
                code = WithoutAsserts().visit(ast.Module(cell.statements, []))
                exec(compile(code, "lesson 15", "exec"), names)
        drawn = sorted(path.stem for path in tmp_path.rglob("*.png"))
        return " ".join(capsys.readouterr().out.split()), drawn

    return run


def test_nothing_is_measured(told):
    text, drawn = told(0)
    assert "holds no finished search yet" in text and "holds no finished method yet" in text and not drawn


def test_some_methods_alone(told):
    text, drawn = told(3 + 3)
    assert drawn == ["methods", "search"] and "LoRA" not in text.split("against the head seconds", 1)[1]
    text, drawn = told(3)
    assert "holds no finished method yet" in text


def test_all_of_it(told):
    text, drawn = told(10**6)
    assert drawn == ["methods", "search"]
    assert "The prefix takes a rate 1000 times as large as full fine-tuning." in text
    table = text.split("against the head seconds", 1)[1]
    for arm, number in (("head alone", 0), ("prefix, P = 20", 3), ("full fine-tuning", 6)):
        assert f"{arm} 1 {40 + 4 * number}." in table, "its accuracy, in the order of the methods"
    assert re.search(r"head alone 1 40\.\d% 1\.50 9 ", table), "the head alone is not compared with itself"
    rows = [row for row in measure.read_rows().values() if row["cell"]["split"] == "test"]
    of = {(row["cell"]["arm"], row["cell"]["seed"]): 100 * row["accuracy"] for row in rows}
    gains = [of["full fine-tuning", seed] - of["head alone", seed] for seed in measure.SEEDS]
    half = 4.302653 * statistics.stdev(gains) / 3**0.5  # the 97.5 % quantile of Student's t with 2 degrees of freedom
    assert f"{statistics.mean(gains):+.1f} ± {half:.1f}" in table
