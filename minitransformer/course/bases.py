"""The pretrained bases that the tuning lessons load: one GPT, one BERT, one encoder–decoder, in data/bases/.

The prefixes that were tuned on the GPT, one for each task, stand in data/tuned/.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from torch import nn

from minitransformer.checkpoint import load_model, load_tensors
from minitransformer.course import shipped
from minitransformer.course.data import DATA
from minitransformer.errors import UserError
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import PrefixTuning, fingerprint, load

FOLDER = DATA / "bases"
TUNED = DATA / "tuned"
LARGEST = 1e4  # no number of a tuned prefix comes near to it; a flipped bit makes 1e38

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


def load_prefix(task: str, base: nn.Module, folder: Path = TUNED) -> PrefixTuning:
    """A task's prefix, which knows its base and is not on it: `for_each_row` hands it to a call.

    Args:
        task: its name.
        base: the GPT that it was tuned on.
        folder: where the prefixes are.

    Raises:
        UserError: it is missing, damaged, no prefix, or was tuned on other weights than these.
    """
    path, again = prefix_path(task, folder), "`python -m minitransformer pretrain prefixes` makes it again."
    if not path.is_file():
        raise UserError(f"The prefix {path} is missing. It belongs to the course; {again}")
    shipped.check(path)
    made_for = fingerprint_in(path)
    if made_for not in (None, fingerprint(base)):
        all_made_for = [fingerprint_in(other) for other in folder.glob(prefix_path("*", folder).name)]
        if len(all_made_for) > 1 and set(all_made_for) == {made_for}:  # then it is not this prefix that was changed
            raise UserError(
                f"Not one of the {len(all_made_for)} prefixes in {folder} was tuned on this GPT (fingerprint "
                f"{fingerprint(base)}), and all of them on one and the same ({made_for}). So the base was changed, or "
                "made anew without them. Take base and prefixes from the same version of the course, or: "
                f"{again.replace('it again', 'them again')}"
            )
        raise UserError(
            f"The prefix {path} was tuned on another GPT (fingerprint {made_for}) than this one ({fingerprint(base)}). "
            f"One of the two is older than the other. Take both from the same version of the course, or: {again}"
        )
    method = load(path, base)
    method.detach()
    if not isinstance(method, PrefixTuning):
        raise UserError(f"{path} holds a {type(method).__name__}; a PrefixTuning is needed here.")
    largest = max(float(tensor.abs().max()) for tensor in method.tensors().values())
    if largest > LARGEST:  # finite, but what the base makes of it need not be
        raise UserError(f"The prefix {path} holds the number {largest:.3g}: the file was changed. {again}")
    return method


def fingerprint_in(path: Path) -> str | None:
    """The fingerprint of the base that a tuned part was made for; None if the file does not say."""
    with suppress(UserError):
        found = load_tensors(path)[1].get("fingerprint")
        return found if isinstance(found, str) else None
    return None


def _path(kind: str) -> Path:
    if kind not in KINDS:
        raise UserError(f"There is no base {kind!r}; there are {', '.join(KINDS)}.")
    path = FOLDER / f"{kind}.safetensors"
    if not path.is_file():
        raise UserError(f"The base {path} is missing. It belongs to the course; `make pretrain` makes it again.")
    shipped.check(path)
    return path
