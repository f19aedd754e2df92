"""What a row was made from (出处): fingerprints of the code, of a task's data, and of the base."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from torch import nn

from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA
from minitransformer.course.fingerprints import bare
from minitransformer.course.lab.tasks import LAB_TASKS
from minitransformer.tuning import fingerprint

PACKAGE = Path(__file__).resolve().parent.parent.parent
CODE = (  # whatever can change a row; folders stand for all modules in them
    "models",
    "text",
    "training",
    "generation",
    "tuning",
    "metrics.py",
    "course/batches",
    "course/jsonl.py",
    "course/lab/cells.py",
    "course/lab/cost.py",
    "course/lab/roster.py",
    "course/lab/run.py",
    "course/lab/tasks.py",
    "course/timing.py",
    "course/skills.py",
    "course/tasks.py",
    "course/tinyworld",
    "course/trial.py",
)


def provenance(task: str, base: nn.Module | None = None) -> dict[str, str]:
    """Fingerprints of the code, of a task's data with the tokenizer, and of the base, which is loaded if not given."""
    return {
        "code": code_hash(),
        "data": data_hash(LAB_TASKS[task].folder),
        "base": fingerprint(base or load_base(LAB_TASKS[task].base)),
    }


@lru_cache
def code_hash() -> str:
    """A short name for the code in `CODE`, which other comments, docstrings and empty lines leave as it is."""
    digest = hashlib.sha256()
    for name in CODE:
        path = PACKAGE / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(PACKAGE).as_posix()}\n{bare(file.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:16]


@lru_cache
def data_hash(folder: str) -> str:
    """A short name for the data of a task."""
    files = [DATA / "tokenizer.tiktoken", *sorted((DATA / "tasks" / folder).glob("*.jsonl"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
