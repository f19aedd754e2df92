"""Values and sentences in words."""

from __future__ import annotations

import re
from collections.abc import Sized
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from minitransformer.course.output.terminal import wrap
from minitransformer.course.translation.catalogues import t


def ended(text: str) -> str:
    """A sentence with its full stop, where it does not end with a mark already; its first letter stays as it is."""
    return text if re.search(r"""[.!?:…]$|(?<!\.)[.!?][])}"'”’]+$""", text) else text + "."


def printable(text: str) -> str:
    """Text without what would move the cursor, clear the screen or colour what follows; line ends and tabs stay."""
    return re.sub(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "·", text)


def wrapped(text: str, width: int, rest: str = "") -> str:
    """A message in lines of at most `width` columns, in the language asked for; all but the first begin with `rest`."""
    return "\n".join(wrap(t(text), width, "", rest))


SHORT = 60
"""Characters that an argument may take in the line of a call."""


def in_short(value: Any) -> str:
    """An argument as text; of a long one, what it is: of settings, those that are not as they are by default."""
    text = shown(value)
    if type(value).__module__.partition(".")[0] == "minitransformer" and is_dataclass(value):
        text = f"{type(value).__name__}({', '.join(_set(value))})"
        if len(text) > SHORT:
            return f"{type(value).__name__}(…)"
    has_no_text = type(value).__repr__ is object.__repr__ and "(…)" in text
    if len(text) <= SHORT and not has_no_text:
        return text
    return _of_length(value) if isinstance(value, Sized) else _with_article(value)


def _with_article(value: Any) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0].lower() in "aeio" else f"a {kind}"


def _of_length(value: Sized) -> str:
    kind, n = type(value).__name__, len(value)  # two whole sentences, for other languages have no article
    return f"an {kind} of length {n}" if kind[0].lower() in "aeio" else f"a {kind} of length {n}"


def _set(value: Any) -> list[str]:
    """The fields of a dataclass that differ from their defaults, as name=text."""
    texts = []
    for one in fields(value):
        own = getattr(value, one.name)
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.init and one.repr and shown(own) != shown(default):
            text = shown(own)
            texts.append(f"{one.name}={text if len(text) <= SHORT // 2 else '…'}")
    return texts


def describe(value: Any) -> str:
    """What a value is, in a few words: "a tensor of shape (2, 3)"."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict | str | set):
        return _of_length(value)
    if isinstance(value, type):
        return f"a class ({value.__name__})"
    text = shown(value)
    return _with_article(value) + (f" ({text})" if len(text) < 60 and not text.startswith("<") else "")


def shown(value: Any) -> str:
    """A value as text, without addresses in memory, which say nothing; of an object without such text, its parts."""
    try:
        if type(value).__repr__ is object.__repr__:
            parts = (f"{name}={shown_part(part)}" for name, part in getattr(value, "__dict__", {}).items())
            return f"{type(value).__name__}({', '.join(parts)})"
        text = repr(value)
    except Exception as error:  # a learner's own __repr__, or __getattr__
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    text = re.sub(r"<(?:[\w.<>]*?\.)?(\w+) object at 0x[0-9a-fA-F]+>", r"<\1>", text)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def shown_part(value: Any) -> str:
    """A part of an object, in short."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = "" if type(value).__repr__ is object.__repr__ else shown(value)
    return text if 0 < len(text) <= SHORT else f"{type(value).__name__}(…)"


def lies_on(tensor: Tensor) -> str:
    """A tensor's device, and its layout where that is not the usual one."""
    kind = "" if tensor.layout == torch.strided else f", stored as {str(tensor.layout).removeprefix('torch.')}"
    return f"{tensor.device}{kind}"


def dtype_name(tensor: Tensor) -> str:
    """Such as "float32"."""
    return str(tensor.dtype).removeprefix("torch.")
