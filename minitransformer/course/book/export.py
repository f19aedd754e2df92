"""What the page's GPT computes with: the base, its prefixes and the tokenizer, each as a script with base64 in it.

A page that was opened from disk may not fetch a file, but it may run a script beside it. Weights are written in half
precision, which halves the download and changes logits by less than 0.02.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from minitransformer.checkpoint import load_tensors
from minitransformer.course.bases import FOLDER, load_base, prefix_path
from minitransformer.course.data import DATA, DEFAULT_PATH
from minitransformer.course.tasks import task_rows
from minitransformer.course.tinyworld import STYLES
from minitransformer.errors import UserError
from minitransformer.files import write_aside
from minitransformer.tuning import load
from minitransformer.tuning.prefix import PrefixTuning, to_flat

CHANGE = DATA / "records" / "change.safetensors"  # of a weight, for the figure "rank"; living_record.py makes it
PREFIXES = tuple(style for style in STYLES if style != "plain")


def as_script(name: str, content: bytes) -> str:
    """A classic script that puts a file's bytes where `MiniTransformer.bytes(name)` finds them."""
    text = base64.b64encode(content).decode("ascii")
    return (
        "globalThis.MiniTransformer = globalThis.MiniTransformer || {};\n"
        "MiniTransformer.files = MiniTransformer.files || {};\n"
        f'MiniTransformer.files[{json.dumps(name)}] = "{text}";\n'
    )


def as_file(tensors: Mapping[str, Tensor], about: Mapping[str, object], dtype: torch.dtype = torch.float16) -> bytes:
    """A safetensors file of these tensors in another precision, with `about` as its text.

    Raises:
        UserError: a number that is too large for the precision.
    """
    rounded = {name: tensor.detach().to(dtype).contiguous() for name, tensor in tensors.items()}
    for name, tensor in rounded.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{name} holds a number that {dtype} cannot hold: export it in float32.")
    return save(rounded, {"about": json.dumps(about)})


def base_file(path: Path = FOLDER / "gpt.safetensors") -> bytes:
    """The GPT base, in half precision, with its sizes.

    Raises:
        UserError: no base, or a damaged one.
    """
    tensors, about = load_tensors(path)
    return as_file(tensors, {"config": about["config"]})


def prefix_file(path: Path) -> bytes:
    """P_θ (P, L·2·C) of a prefix that was tuned on the GPT base, in half precision, by the name "prefix".

    Raises:
        UserError: no such file, or one that is no prefix of this base.
    """
    method = load(path, load_base("gpt"))
    if not isinstance(method, PrefixTuning):
        raise UserError(f"{path} holds a {type(method).__name__}, not a PrefixTuning.")
    with torch.no_grad():
        return as_file({"prefix": to_flat(method.prefixes()["prefix"])}, {"base": method.fingerprint})


def pairs_file(n: int = 8) -> bytes:
    """Pairs of each style to train a prefix on in the page, as JSON: style → [[plain, styled], …].

    Raises:
        UserError: the task's data is missing or damaged.
    """
    pairs = {name: [[row["plain"], row["text"]] for row in task_rows(name, "train")[:n]] for name in PREFIXES}
    return json.dumps(pairs, ensure_ascii=False).encode()


def data_scripts() -> dict[str, str]:
    """Every data file of the living figures: its name without ".js" → the script.

    Raises:
        UserError: a base or a prefix that is missing or damaged.
    """
    files = {"base": base_file(), "tokenizer": DEFAULT_PATH.read_bytes()}
    files["pairs"] = pairs_file()
    try:
        files["change"] = CHANGE.read_bytes()
    except OSError:
        raise UserError(f"{CHANGE} is missing: `make record` makes it again.") from None
    files |= {f"prefix-{name}": prefix_file(prefix_path(name)) for name in PREFIXES}
    return {name: as_script(name, content) for name, content in files.items()}


def write_data(folder: Path) -> None:
    """Write the data scripts into a folder.

    Raises:
        UserError: as `data_scripts`; no room on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in data_scripts().items():
        write_aside(folder / f"{name}.js", script.encode("ascii"))
