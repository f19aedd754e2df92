"""Sentences from the docstrings of Python's standard library, each with the topic of its module.

The topics and the modules of each are those of the library reference, the manual that comes with Python. A docstring is
a real text that people wrote for people. It is here whatever the network does, and its licence (PSF) lets us keep it.

The splits are cut by module: a module's docstrings share names, phrases and often an author, so one that had some in
training and some in the test would let a model recognise the module. Therefore no module is in two splits.

The rows are stored in data/real/, because docstrings change from one version of Python to the next.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from minitransformer.course import shipped
from minitransformer.course.data import DATA
from minitransformer.course.jsonl import read_jsonl
from minitransformer.files import write_aside

FOLDER = DATA / "real"
SPLITS = ("train", "valid", "test")
FEWEST_WORDS, MOST_WORDS = 6, 30
MOST = {"train": 150, "valid": 40, "test": 75}  # rows of a topic
MOST_OF_A_MODULE = {"train": 60, "valid": 20, "test": 30}  # so that no single module is a topic

# Topic → for each split, modules as the library reference groups them. "email." stands for all of a package.
TOPICS: dict[str, dict[str, str]] = {
    "text": {
        "train": "string re difflib unicodedata codecs encodings.idna argparse",
        "valid": "stringprep readline locale",
        "test": "gettext optparse struct textwrap",
    },
    "data types": {
        "train": "datetime collections weakref types pprint copy bisect calendar dataclasses",
        "valid": "enum array reprlib",
        "test": "zoneinfo. heapq graphlib _collections_abc",
    },
    "numbers": {
        "train": "math decimal _pydecimal random numbers",
        "valid": "cmath colorsys",
        "test": "fractions statistics",
    },
    "files": {
        "train": "pathlib posixpath shutil zipfile gzip os configparser dbm. filecmp bz2",
        "valid": "tempfile fileinput glob stat lzma",
        "test": "tarfile csv fnmatch linecache shelve pickle io",
    },
    "network": {
        "train": "email. http.client urllib.request ftplib smtplib ssl mailbox xmlrpc.client ipaddress wsgiref. html.",
        "valid": "poplib socketserver http.server mimetypes urllib.robotparser",
        "test": "imaplib http.cookiejar urllib.parse nntplib telnetlib socket base64 xmlrpc.server",
    },
    "concurrency": {
        "train": "threading asyncio. sched contextvars",
        "valid": "queue concurrent.",
        "test": "multiprocessing. subprocess",
    },
    "python itself": {
        "train": "ast unittest. inspect dis importlib. tokenize traceback compileall py_compile pdb",
        "valid": "doctest pkgutil trace code tracemalloc",
        "test": "pydoc symtable codeop modulefinder timeit runpy bdb cProfile pstats zipimport",
    },
    "windows on a screen": {
        "train": "tkinter.__init__ tkinter.filedialog tkinter.font cmd",
        "valid": "tkinter.ttk tkinter.simpledialog",
        "test": "turtle curses.",
    },
}
NAMES = list(TOPICS)


def read(split: str) -> list[dict[str, Any]]:
    """The stored rows of a split: "text", "topic" and the "module" that it comes from.

    Raises:
        UserError: a missing or damaged file.
    """
    return read_jsonl(FOLDER / f"{split}.jsonl", ("text", "topic", "module"))


def modules(names: str) -> list[str]:
    """The modules that an entry of `TOPICS` names, those of a package in full."""
    found = []
    for name in names.split():
        if not name.endswith("."):
            found.append(name)
            continue
        folder = Path(sysconfig.get_paths()["stdlib"], *name[:-1].split("."))
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            if not {"test", "tests", "__main__", "idle_test"} & set(inner):
                found.append(".".join([*name[:-1].split("."), *inner]))
    return found


def docstrings(module: str) -> Iterator[str]:
    """What a module and all that is defined in it says about itself; of a module in C, what Python shows of it."""
    path = Path(sysconfig.get_paths()["stdlib"], *module.split(".")).with_suffix(".py")
    if path.is_file():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield ast.get_docstring(node) or ""
        return
    try:
        held = importlib.import_module(module)
    except ImportError:  # not on this machine
        return
    yield inspect.getdoc(held) or ""
    for _, one in inspect.getmembers(held):
        if getattr(one, "__module__", None) in (module, None) and callable(one):
            yield inspect.getdoc(one) or ""
            if inspect.isclass(one):
                yield from (inspect.getdoc(inner) or "" for _, inner in vars(one).items() if callable(inner))


def opening(text: str) -> str | None:
    """The first paragraph of a docstring in one line, up to `MOST_WORDS`; None where it says too little.

    Paragraphs of code, of signatures and of tables are passed over.
    """
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        words = line.split()
        prose = sum(word.isalpha() and word.islower() for word in words)
        if len(words) >= FEWEST_WORDS and prose >= len(words) / 2 and ">>>" not in line and line.isascii():
            return " ".join(words[:MOST_WORDS])
    return None


def rows(split: str, seed: int = 0) -> list[dict[str, str]]:
    """Rows of a split from the running Python; no text is in two modules."""
    everywhere: dict[str, set[tuple[str, str]]] = {}  # text → the (split, topic) that have it
    held: dict[tuple[str, str, str], list[str]] = {}
    for topic, names in TOPICS.items():
        for part in SPLITS:
            for module in modules(names[part]):
                texts = dict.fromkeys(filter(None, map(opening, docstrings(module))))
                held[part, topic, module] = list(texts)
                for text in texts:
                    everywhere.setdefault(text.lower(), set()).add((part, topic))
    dice, found = Random(seed), []
    for topic in TOPICS:
        pool = []
        for (part, other, module), texts in held.items():
            if (part, other) == (split, topic):
                own = [text for text in texts if len(everywhere[text.lower()]) == 1]
                chosen = dice.sample(own, min(len(own), MOST_OF_A_MODULE[split]))
                pool += [{"text": text, "topic": topic, "module": module} for text in chosen]
        unique = list({row["text"].lower(): row for row in pool}.values())
        found += dice.sample(unique, min(len(unique), MOST[split]))
    dice.shuffle(found)
    return found


def write() -> None:
    """Store the rows of the running Python in data/real/: the measured rows are of these."""
    for split in SPLITS:
        lines = "".join(json.dumps(row) + "\n" for row in rows(split))
        write_aside(FOLDER / f"{split}.jsonl", lines.encode())
    shipped.add(FOLDER / f"{split}.jsonl" for split in SPLITS)
