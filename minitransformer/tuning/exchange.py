"""Exchange with the peft library: a tuned part to and from a directory of its kind, a config and the tensors beside it.

    to_peft(method, "folder")                  # PeftModel.from_pretrained(model, "folder") gives the same logits
    method = from_peft("folder", base)         # what peft trained runs here

Both sides need the same base weights: GPT-2's, BERT's or BART's architecture, read by `minitransformer.published`. peft
itself is not needed. What can be said in both:

    PrefixTuning    PREFIX_TUNING              of a GPT or a BERT, in all layers
    PromptTuning    PROMPT_TUNING, P_TUNING    of a GPT or an encoder–decoder; P-tuning's encoder is dropped
    PTuning         P_TUNING                   of a GPT; peft has its virtual tokens in front of the text alone
    LoRA            LORA
    IA3             IA3
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from minitransformer.checkpoint import read_safetensors
from minitransformer.checks import check_kind
from minitransformer.errors import UserError
from minitransformer.files import as_path, read_json, write_aside
from minitransformer.models.classifier import Classifier
from minitransformer.tuning.bases import Base, base_of
from minitransformer.tuning.method import Method
from minitransformer.tuning.peft_layout import CONFIG, KINDS, READERS, TENSORS, WRAPPER, WRITERS

NOT_IN_PEFT = {
    "Infix": "its virtual tokens stand inside the text, and peft's stand in front of it",
    "Adapter": "it has no bottlenecks behind sublayers",
    "FullFineTuning": "save_model() keeps the whole model",
}


def to_peft(
    method: Method, folder: str | Path, base_name: str | None = None, task_type: str | None = None, bare: bool = False
) -> None:
    """Write a method on a base as a directory that peft reads.

    Args:
        method: on a base; a classifier's head would be lost, so that one is refused.
        folder: made if need be.
        base_name: where the other side finds the base's weights, for whoever loads by the directory alone.
        task_type: what the model is on the other side, "SEQ_CLS" for one; None for the base's own: a GPT is a
            "CAUSAL_LM", a BERT is for "FEATURE_EXTRACTION", an encoder–decoder a "SEQ_2_SEQ_LM".
        bare: whether the model on the other side has no head (a GPT2Model), so that its modules have shorter names.

    Refuses what peft cannot express.
    """
    check_kind(method, Method, "to_peft() takes a method, then a folder")
    folder = as_path(folder)
    name, base = type(method).__name__, method.base
    if base is None:
        raise UserError(f"This {name} is on no base: attach() it first, then to_peft().")
    if method.head is not None:
        raise UserError(
            f"This {name} is on a classifier, whose head a peft directory would not hold. Put it on the bare base, or "
            "keep it with save()."
        )
    write = WRITERS.get(type(method))
    if write is None:
        raise UserError(
            f"peft has nothing like a {name}: {NOT_IN_PEFT.get(name, 'save() keeps it in our own format')}."
        )
    with torch.no_grad():
        config, tensors = write(method, base)
    _, front, task = KINDS[type(base)]
    config |= {"base_model_name_or_path": base_name, "task_type": task_type or task, "inference_mode": True}
    if bare:
        config = json.loads(json.dumps(config).replace(f'"{front}', '"'))
        tensors = {name.replace(WRAPPER + front, WRAPPER): tensor for name, tensor in tensors.items()}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_aside(folder / TENSORS, save(whole, {"format": "pt"}))
    write_aside(folder / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def from_peft(folder: str | Path, model: Base | Classifier) -> Method:
    """Read a directory that peft wrote, and attach what is in it; refuses what is damaged, or what ours cannot be."""
    folder, base = as_path(folder), base_of(model)
    config = read_json(folder / CONFIG, "config of peft's", "Name a directory that peft's save_pretrained() wrote.")
    tensors = read_tensors(folder)
    kind = config.get("peft_type")
    read = READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise UserError(f"{folder} holds peft's {kind!r}; read can be {', '.join(READERS)}.")
    try:
        method, restored = read(config, tensors, base, folder)
    except KeyError as error:
        raise UserError(f"{folder / CONFIG} does not say {error}, without which a {kind} cannot be read.") from error
    except (TypeError, AttributeError, ArithmeticError, re.error) as error:
        raise UserError(f"{folder / CONFIG} is damaged: it makes no sense as a {kind} ({error}).") from error
    method.attach(model)
    try:
        method.restore({**method.state_dict(), **restored}, str(folder))
    except BaseException:
        method.detach()
        raise
    return method


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a directory, by their names without peft's wrapper; refuses a pickle, and what is not finite."""
    if not (folder / TENSORS).is_file() and (folder / "adapter_model.bin").is_file():
        raise UserError(
            f"{folder} holds adapter_model.bin, a pickle, and loading one can run any code. Save it again with peft's "
            "save_pretrained(folder), which writes safetensors."
        )
    tensors, _ = read_safetensors(folder / TENSORS)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise UserError(f"{folder / TENSORS}: {name!r} has numbers that are no fractions, nan or infinite.")
    return {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}
