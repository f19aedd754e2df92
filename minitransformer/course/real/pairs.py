"""Real English–Chinese pairs: the short sentences of JupyterLab's menus and messages, translated by volunteers.

They come from the package jupyterlab-language-pack-zh-cn (BSD, Copyright © 2023 Project Jupyter Contributors), in
gettext's files. Two hundred of them stand in data/real/pairs.jsonl, so that a lesson needs no package.
"""

from __future__ import annotations

import gettext
import json
import re
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from minitransformer.course import shipped
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.real.topics import FOLDER
from minitransformer.errors import UserError
from minitransformer.files import write_aside

STORED = FOLDER / "pairs.jsonl"
N = 200


def read() -> list[dict[str, Any]]:
    """The stored pairs: "en" and "zh".

    Raises:
        UserError: a missing or damaged file.
    """
    return read_jsonl(STORED, ("en", "zh"))


def from_package() -> dict[str, str]:
    """English → Chinese: sentences of three to twelve words, without code in them and without a place for a name.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec("jupyterlab_language_pack_zh_CN")
    if spec is None or spec.origin is None:
        raise UserError("The pairs are in the package jupyterlab-language-pack-zh-cn, which is not installed.")
    found: dict[str, str] = {}
    for path in sorted(Path(spec.origin).parent.glob("locale/zh_CN/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            catalogue: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for key, chinese in catalogue.items():
            english = key.split("\x04")[-1] if isinstance(key, str) else ""  # what precedes \x04 is a context
            plain = not re.search(r"[%{}<>_/\\|\n]", english) and english.isascii()
            if plain and 3 <= len(english.split()) <= 12 and re.search("[\u4e00-\u9fff]", chinese):
                found.setdefault(english, chinese)
    return found


def write(seed: int = 0) -> None:
    """Store `N` pairs, drawn with a seed."""
    pairs = from_package()
    chosen = Random(seed).sample(sorted(pairs), N)
    lines = [json.dumps({"en": english, "zh": pairs[english]}, ensure_ascii=False) for english in chosen]
    write_aside(STORED, ("\n".join(lines) + "\n").encode())
    shipped.add([STORED])
