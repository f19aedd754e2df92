"""The pretrained bases that the tuning lessons load: one GPT, one BERT, one encoder–decoder, in data/bases/.

The prefixes that were tuned on the GPT, one for each task, stand in data/tuned/.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from minitransformer.checkpoint import load_model, load_tensors
from minitransformer.course.data import DATA
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig

FOLDER = DATA / "bases"
TUNED = DATA / "tuned"

KINDS = {"gpt": (GPT, GPTConfig), "bert": (Bert, BertConfig), "seq2seq": (Seq2Seq, Seq2SeqConfig)}


def load_base(kind: str) -> nn.Module:
    """A pretrained model, in eval mode.

    Args:
        kind: "gpt", "bert" or "seq2seq".

    Raises:
        UserError: no such kind, or its checkpoint is missing or damaged.
    """
    return load_model(_path(kind), *KINDS[kind])


def about_base(kind: str) -> dict:
    """How a base was made and what it can do: what `make pretrain` wrote beside its weights.

    Raises:
        UserError: as `load_base`.
    """
    return load_tensors(_path(kind))[1]


def prefix_path(task: str, folder: Path = TUNED) -> Path:
    """The file of a task's prefix, whether it is there or not; `tuning.load` reads it."""
    return folder / f"{task}.prefix.safetensors"


def _path(kind: str) -> Path:
    if kind not in KINDS:
        raise UserError(f"There is no base {kind!r}; there are {', '.join(KINDS)}.")
    path = FOLDER / f"{kind}.safetensors"
    if not path.is_file():
        raise UserError(f"The base {path} is missing. It belongs to the course; `make pretrain` makes it again.")
    return path
