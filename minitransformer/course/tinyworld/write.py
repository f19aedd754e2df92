"""Writing the committed data: `data/text`, `data/tasks` and `data/DATASHEET.md`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from minitransformer.course.tinyworld.datasheet import datasheet
from minitransformer.course.tinyworld.styles import STYLES
from minitransformer.course.tinyworld.tasks import TASKS, Example, example
from minitransformer.course.tinyworld.world import documents
from minitransformer.files import write_aside

SEPARATOR = "<|endoftext|>"
# File, split, mix, and the size in bytes at which it ends.
TEXTS: tuple[tuple[str, str, str, int], ...] = (
    ("train", "train", "prose", 2_600_000),
    ("valid", "valid", "prose", 150_000),
    ("test", "test", "prose", 150_000),
    ("chinese", "train", "chinese", 150_000),
)
SIZES: dict[str, dict[str, int]] = {
    "table_to_text": {"train": 2000, "valid": 200, "test_seen": 300, "test_unseen": 300},
    "reviews": {"train": 2000, "valid": 300, "test": 500},
    "translation": {"train": 12000, "valid": 300, "test": 300},
    "news_summary": {"train": 1000, "valid": 150, "test": 200},
    "sport_summary": {"train": 1000, "valid": 150, "test": 200},
    "qa": {"train": 1000, "valid": 150, "test": 200},
    "dialogue": {"train": 1000, "valid": 150, "test": 150},
    "styles": {"train": 200 * len(STYLES), "valid": 40 * len(STYLES), "test": 40 * len(STYLES)},
}


def write(folder: str | Path) -> list[Path]:
    """Make all the committed files in this folder, each written aside and renamed; return their paths."""
    folder = Path(folder)
    made: dict[str, str] = {f"text/{name}.txt": _text(split, mix, size) for name, split, mix, size in TEXTS}
    for task, splits in SIZES.items():
        for split, size in splits.items():
            made[f"tasks/{task}/{split}.jsonl"] = "".join(
                json.dumps(row, ensure_ascii=False) + "\n" for row in _distinct(task, split, size)
            )
    files = {name: (len(data := text.encode()), hashlib.sha256(data).hexdigest()) for name, text in made.items()}
    made["DATASHEET.md"] = datasheet(files, SIZES)
    for name, text in made.items():
        write_aside(folder / name, text.encode())
    return [folder / name for name in made]


def _text(split: str, mix: str, size: int) -> str:
    """Documents of the stream, repeats left out, up to the one that reaches the size."""
    texts: dict[str, None] = {}
    total = 0
    for document in documents(split, mix):
        if document.text not in texts:
            texts[document.text] = None
            total += len(document.text.encode()) + len(SEPARATOR) + 2
        if total >= size:
            return f"\n{SEPARATOR}\n".join(texts) + "\n"
    raise AssertionError("The stream of documents is endless.")


def _distinct(task: str, split: str, size: int) -> Iterator[Example]:
    """`size` examples of the stream, none twice. Where number i repeats an earlier one, number i of another seed
    takes its place, so that what the stream balances stays balanced.
    """
    seen: set[tuple] = set()
    for index in range(size):
        for seed in count():
            made = example(task, split, seed, index)
            key = tuple(made[field] for field in TASKS[task].key)
            if key not in seen:
                seen.add(key)
                yield made
                break
