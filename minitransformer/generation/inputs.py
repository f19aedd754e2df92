"""What may be asked of a model that writes: which model, which prompts, where a text ends."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.checks import TOKEN, check_kind, integer
from minitransformer.errors import UserError
from minitransformer.models.classifier import check_gives_next

Prompts = Sequence[Sequence[int]] | Tensor
Stop = int | Sequence[int] | None
OWN = ("ids", "attention_mask", "cache", "at", "return_hidden")  # what generation gives the model itself
SHAPE = "prompts is a list of prompts, each of them a list of token ids, such as [[5, 6]]"


def check_writes(model: object, use_cache: bool, inputs: Collection[str]) -> None:
    """Refuse what does not give the next token (a BERT, a classifier, a method), has no cache, or has other inputs."""
    name = type(model).__name__
    check_gives_next(model)
    if not isinstance(model, nn.Module) or type(model).forward is nn.Module.forward:
        raise UserError(f"A {name} is no model that writes: give a GPT or an encoder–decoder (of a method, its base).")
    if use_cache and not hasattr(model, "new_cache"):
        raise UserError(f"A {name} has no cache to write with (new_cache): ask for use_cache=False.")
    takes = inspect.signature(model.forward).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    for one in inputs:
        if one in OWN or not (takes_any or one in takes):
            what = "is filled in here, from the prompts" if one in OWN else f"is no input of a {name}"
            raise UserError(f"{one!r} is no setting of generation, and {what}: leave it out.")


def checked_prompts(prompts: Prompts) -> list[list[int]]:
    """The prompts as lists of ids, from a list of lists, of tensors or of arrays, or from a tensor (B, T)."""
    if not hasattr(prompts, "tolist"):
        check_kind(prompts, Sequence, SHAPE)
    elif not getattr(prompts, "ndim", 1):
        raise UserError(f"{SHAPE}; this is a single number.")
    if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], str)):
        raise UserError("Prompts are token ids and not texts: give [tokenizer.encode(text)], one list for each text.")
    rows = []
    for row, prompt in enumerate(prompts):
        prompt = prompt.tolist() if hasattr(prompt, "tolist") else prompt
        if not isinstance(prompt, Sequence):
            raise UserError(f"{SHAPE}; prompt {row} is {prompt!r}. A single prompt goes into a list of one.")
        rows.append([TOKEN(f"A token of prompt {row}", i) for i in prompt])
    return rows


def checked_stops(stop_id: Stop, model: Any) -> frozenset[int]:
    """The tokens that end a text, from one id, several, or None."""
    if stop_id is None:
        return frozenset()
    many = stop_id.tolist() if hasattr(stop_id, "tolist") else stop_id
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", None)
    rule = TOKEN if vocab_size is None else integer(0, vocab_size - 1)
    return frozenset(rule("stop_id", i) for i in (many if isinstance(many, list | tuple | set | frozenset) else [many]))


def last_column(ids: Tensor) -> Tensor:
    """Where logits are wanted: at the last token of each row, boolean (B, T)."""
    at = torch.zeros_like(ids, dtype=torch.bool)
    at[:, -1] = True
    return at
