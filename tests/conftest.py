"""What several test files share."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Tiny tensors are computed faster by one thread than by two that wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

LESSON = '''"""A first lesson

question: What is two and two?
minutes: 0.5
documents: 004 §2.2 自注意力机制;
  003 §3.1 Problem Statement
needs: nothing
"""

# %% [markdown]
# ## Adding
#
# Prose about **adding** (加法 addition).
#
#     2 + 2 = 4
#
# **Predict before you run:** how much is it?

# %%
from minitransformer.course.show import say

total = 2 + 2
say(f"total {total}")

# %%
again = total
say(f"again {again}")

# %% [markdown]
# ## Hidden
#
# Only the outcome is seen.

# %% tags=["hide-input"]
doubled = 2 * total
say(f"doubled {doubled}")
'''


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    """The settings of whoever runs the tests (QUICK=1 make test) must not change what they see."""
    for variable in (
        "QUICK",
        "STEP",
        "MINE",
        "TEXT",
        "LESSON_LANG",
        "MINITRANSFORMER_TEXT",
        "MINITRANSFORMER_INSTALLED",
    ):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def course_root(tmp_path, monkeypatch):
    """An empty course in a temporary folder; gives a function that writes a lesson into it."""
    from minitransformer.course import lessons as course
    from minitransformer.course import show

    (tmp_path / "lessons").mkdir()
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(show, "ROOT", tmp_path)
    monkeypatch.setattr(show, "QUICK", False)
    monkeypatch.setenv("COLUMNS", "80")

    def write(number: int = 1, text: str = LESSON, slug: str = "try") -> Path:
        path = tmp_path / "lessons" / f"lesson_{number:02}_{slug}.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def command_line(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run `python -m minitransformer …` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "minitransformer", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def imported(path: Path) -> list[tuple[int, str]]:
    """Every (line, dotted name) that a file imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node.lineno)}: write the import out: from minitransformer. …"
            if node.module == "minitransformer":
                found += [(node.lineno, f"minitransformer.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module))
    return found
