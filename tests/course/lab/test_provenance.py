"""What a row was made from: every change of the code that can change it is seen, and none of the prose."""

import ast
import shutil

from minitransformer.course.lab import provenance
from minitransformer.course.lab.run import run_cell
from tests.conftest import ROOT
from tests.course.lab.helpers import TABLES, use_tiny_bases


def test_comments_and_docstrings_are_not_code():
    plain = 'def f(x: int) -> int:\n    return x + 1\n\n\nTEXT = """a # b\n\n"""\n'
    told = (
        '"""A module."""\n\n# first\ndef f(x: int) -> int:  # adds\n    """One more.\n\n    x: a number.\n    """\n'
        '    # now\n    return x + 1\n\n\n\nTEXT = """a # b\n\n"""  # kept\n'
    )
    assert provenance.bare(told) == provenance.bare(plain), "a comment or a docstring counts as code"
    for other in (plain.replace("+ 1", "+ 2"), plain.replace("a # b", "a # c"), plain.replace("return x", "return  x")):
        assert provenance.bare(other) != provenance.bare(plain), f"a change of the code was missed:\n{other}"


def test_the_code_hash_sees_every_file(tmp_path, monkeypatch):
    package = tmp_path / "minitransformer"
    shutil.copytree(ROOT / "minitransformer", package, ignore=shutil.ignore_patterns("__pyc*"))
    monkeypatch.setattr(provenance, "PACKAGE", package)
    before = provenance.code_hash.__wrapped__()
    assert before == provenance.code_hash()
    for name in ("course/lab/run.py", "tuning/lora.py", "training/loop.py", "models/attention.py", "metrics.py"):
        path = package / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text + "\nNEW = 1\n", encoding="utf-8")
        assert provenance.code_hash.__wrapped__() != before, f"a change of {name} leaves the hash as it is"
        path.write_text(text + "\n# a remark\n", encoding="utf-8")
        assert provenance.code_hash.__wrapped__() == before, f"a comment in {name} changes the hash"


def test_the_code_hash_forgets_no_module():
    """Follow the imports from run.py: what is not hashed cannot change a score, only where and how it is read."""
    package, seen, todo = ROOT / "minitransformer", set(), ["course/lab/run.py"]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((package / name).read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("minitransformer"):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                path = "/".join(module.split(".")[1:])
                todo += [p for p in (f"{path}.py", f"{path}/__init__.py") if path and (package / p).is_file()]
    hashed = {p for p in seen if any(p == name or p.startswith(f"{name}/") for name in provenance.CODE)}
    # What refuses, names or places changes no score.
    harmless = {"errors.py", "files.py", "checkpoint.py", "checks.py"}
    harmless |= {
        f"course/{name}.py"
        for name in ("__init__", "bases", "data", "fingerprints", "lab/provenance", "locks", "shipped")
    }
    left = seen - hashed - harmless
    assert not left, f"cells depend on {sorted(left)}: name them in lab/provenance.py's CODE"


def test_a_row_belongs_to_code_data_and_base(monkeypatch):
    use_tiny_bases(monkeypatch)
    row = run_cell(TABLES)
    assert row["made_from"] == provenance.provenance("table_to_text")
    assert set(row["made_from"]) == {"code", "data", "base"}
    assert provenance.provenance("table_to_text")["data"] != provenance.provenance("reviews_bert")["data"]
