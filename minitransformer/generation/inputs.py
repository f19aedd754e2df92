"""What may be asked of a model that writes: which model, which prompts, where a text ends."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.classifier import Classifier

Prompts = Sequence[Sequence[int]] | Tensor
Stop = int | Sequence[int] | None
SHAPE = "prompts is a list of prompts, each of them a list of token ids, such as [[5, 6]]"


def check_writes(model: object, use_cache: bool) -> None:
    """Refuse what does not give the next token: a BERT, a classifier, a tuning method, or a model without a cache."""
    name = type(model).__name__
    if isinstance(model, Bert | Classifier):
        raise UserError(f"A {name} reads and does not write: give a GPT or an encoder–decoder.")
    if not isinstance(model, nn.Module) or type(model).forward is nn.Module.forward:
        raise UserError(f"A {name} is no model that writes: give a GPT or an encoder–decoder (of a method, its base).")
    if use_cache and not hasattr(model, "new_cache"):
        raise UserError(f"A {name} has no cache to write with (new_cache): ask for use_cache=False.")


def checked_prompts(prompts: Prompts) -> list[list[int]]:
    """The prompts as lists of ids, from a list of lists, of tensors or of arrays, or from a tensor (B, T)."""
    if not isinstance(prompts, Sequence | Tensor) and not hasattr(prompts, "tolist"):
        raise UserError(f"{SHAPE}; this is a {type(prompts).__name__}.")
    if not isinstance(prompts, Sequence) and not prompts.ndim:
        raise UserError(f"{SHAPE}; this is a single number.")
    if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], str)):
        raise UserError("Prompts are token ids and not texts: give [tokenizer.encode(text)], one list for each text.")
    rows = []
    for row, prompt in enumerate(prompts):
        prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        if not isinstance(prompt, Sequence):
            raise UserError(f"{SHAPE}; prompt {row} is {prompt!r}. A single prompt goes into a list of one.")
        rows.append([_whole(i, f"Prompt {row}") for i in prompt])
    return rows


def checked_stops(stop_id: Stop, model: Any) -> frozenset[int]:
    """The tokens that end a text, from one id, several, or None."""
    if stop_id is None:
        return frozenset()
    many = stop_id.tolist() if hasattr(stop_id, "tolist") else stop_id
    stops = frozenset(
        _whole(i, "stop_id") for i in (many if isinstance(many, list | tuple | set | frozenset) else [many])
    )
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", None)
    if vocab_size is not None and (outside := [i for i in stops if not 0 <= i < vocab_size]):
        raise UserError(f"stop_id = {stop_id}: the model cannot give {outside[0]}; ids run from 0 to {vocab_size - 1}.")
    return stops


def _whole(i: object, where: str) -> int:
    try:
        if not isinstance(i, bool):
            return operator.index(i)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise UserError(f"{where} has {i!r}, which is no token id: ids are whole numbers.")


def last_column(ids: Tensor) -> Tensor:
    """Where logits are wanted: at the last token of each row, boolean (B, T)."""
    at = torch.zeros_like(ids, dtype=torch.bool)
    at[:, -1] = True
    return at
