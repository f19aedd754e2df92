"""The file of a tuned part: a safetensors file with the tuned tensors alone, and a description of what they are for.

The description names the method with its settings, the base with its sizes and fingerprint, and the convention about
positions that the tensors were trained under. A file that lacks a part of it is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from minitransformer.checkpoint import load_tensors, save_tensors
from minitransformer.errors import UserError
from minitransformer.tuning.bases import Base, fingerprint

# The convention that a saved prefix was trained under. Another one gives other logits (see `attention`'s contract).
POSITIONS = "a prefix of length P takes positions 0 to P-1, the text starts at P"

DESCRIPTION = {  # what a file has to say, and of which kind each is
    "tuning": str,
    "settings": dict,
    "made_with": dict,
    "base": str,
    "base_config": dict,
    "fingerprint": str,
    "positions": str,
}


@dataclass(frozen=True)
class Saved:
    """What such a file holds."""

    tuning: str  # the name of the method's class
    settings: Mapping[str, Any]  # what its constructor is called with when it is loaded
    made_with: Mapping[str, Any]  # what it was called with when it was trained
    base: str  # the name of the base's class
    base_config: Mapping[str, Any]
    fingerprint: str  # of the base
    tensors: Mapping[str, Tensor]  # what was trained
    head: Mapping[str, Tensor]  # of a classifier; empty where there was none
    positions: str = POSITIONS
    made_by: str | None = None  # the command that makes the file, for whoever has the wrong one

    def write(self, path: str | Path) -> None:
        """Write the file."""
        about = {name: getattr(self, name) for name in DESCRIPTION}
        about |= {"made_by": self.made_by} if self.made_by else {}
        save_tensors(path, {**self.tensors, **{f"head.{name}": p for name, p in self.head.items()}}, about)

    @classmethod
    def read(cls, path: str | Path) -> Saved:
        """Read the file.

        Refuses as `load_tensors`; a file without a tuned part or with an incomplete description, and one of another
        position convention.
        """
        tensors, about = load_tensors(path)
        if "tuning" not in about:
            held = about.get("model") or "state of training"
            raise UserError(f"{path} holds a {held}, no tuned part: give a file that a method's save() wrote.")
        for name, kind in DESCRIPTION.items():
            if not isinstance(about.get(name), kind):
                found = f"has {about[name]!r} as {name!r}" if name in about else f"lacks {name!r}"
                raise UserError(
                    f"{path}: the description of the tuned part {found}, where a {'text' if kind is str else 'table'} "
                    "belongs. The file was changed after a method's save() wrote it: fetch or make it again."
                )
        if about["positions"] != POSITIONS:
            raise UserError(
                f"{path} was trained under another convention ({about['positions']}); here {POSITIONS}. The same "
                "numbers would give other logits."
            )
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                raise UserError(
                    f"{path}: the tensor {name!r} has {tensor.dtype} numbers, where fractions belong. Fetch or make "
                    "the file again."
                )
        head = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
        own = {name: t for name, t in tensors.items() if not name.startswith("head.")}
        made_by = about.get("made_by")
        return cls(
            **{name: about[name] for name in DESCRIPTION},
            tensors=own,
            head=head,
            made_by=made_by if isinstance(made_by, str) else None,
        )

    def check_base(self, base: Base, path: str | Path) -> None:
        """Refuse another base than the one that the tensors were trained on, and say in what they differ."""
        if self.fingerprint == (own := fingerprint(base)):
            return
        difference = ""
        if self.base == type(base).__name__:
            there, here = self.base_config, asdict(base.config)
            sizes = [key for key, value in here.items() if isinstance(value, int) and there.get(key) != value]
            difference = f" ({', '.join(f'{key} = {there.get(key)} there, {here[key]} here' for key in sizes)})"
            difference = difference if sizes else ", with the same sizes but other weights"
        raise UserError(
            f"{path} was tuned on another base: a {self.base} with the fingerprint {self.fingerprint}; this "
            f"{type(base).__name__} has {own}{difference}. Load the base that it was trained on, or train it again on "
            "this one" + (f": `{self.made_by}` makes both anew." if self.made_by else ".")
        )
