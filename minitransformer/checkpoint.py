"""Tensors on disk: safetensors files, written aside and renamed, refused in a sentence where they do not fit.

A safetensors file holds tensors and a little text, never code: loading one runs nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from minitransformer.errors import UserError
from minitransformer.files import write_aside

FORMAT = "minitransformer"


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Save named tensors, and `about` (anything JSON can say) beside them.

    Raises:
        UserError: no room on the disk, or no permission to write.
    """
    metadata = {"format": FORMAT, "about": json.dumps(about)}
    write_aside(path, save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata))


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of any safetensors file, by name, and its metadata.

    Raises:
        UserError: no such file, a truncated or damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}). Was the download or the copy cut short? "
            "Delete it, and make or fetch it again."
        ) from error
    return tensors, metadata


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` saved: the tensors by name, and `about`.

    Raises:
        UserError: no such file, a truncated or damaged one, or one that another program wrote.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} holds tensors, but this program did not write it. "
            "State dicts of the transformers library go through minitransformer.published."
        )
    return tensors, json.loads(metadata["about"])


def save_model(path: str | Path, model: nn.Module, about: Mapping[str, object] | None = None) -> None:
    """Save a model's weights with its architecture and sizes, so that `load_model` can build it again.

    Raises:
        UserError: as `save_tensors`; a tuning method is on the model, with numbers that are no part of it.
    """
    if names := [type(method).__name__ for method in getattr(model, "tuning", ()) if method.state_dict()]:
        raise UserError(
            f"A {', '.join(names)} is on this {type(model).__name__}, and what it learned is no part of the model: "
            "detach() it first. Its own save() keeps what it learned."
        )
    config: Any = model.config
    about = {"model": type(model).__name__, "config": dataclasses.asdict(config), **(about or {})}
    save_tensors(path, model.state_dict(), about)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a model, all of them or none.

    Raises:
        UserError: a tensor that is missing, left over, or of another shape; it names the first.
    """
    wanted = model.state_dict()
    for name in wanted:
        if name not in tensors:
            raise UserError(f"{source} has no tensor {name!r}, which {type(model).__name__} needs.")
        if tensors[name].shape != wanted[name].shape:
            raise UserError(
                f"{source}: {name!r} has the shape {tuple(tensors[name].shape)}; the model's has "
                f"{tuple(wanted[name].shape)}. The checkpoint was made with other sizes."
            )
    for name in tensors:
        if name not in wanted:
            raise UserError(f"{source} has a tensor {name!r} that {type(model).__name__} does not know.")
    model.load_state_dict(tensors)


def load_model(path: str | Path, model_class: type[nn.Module], config_class: type) -> nn.Module:
    """Build the model that `save_model` saved.

    Raises:
        UserError: as `load_tensors`; a checkpoint of another architecture, or with other tensors than it needs.
    """
    tensors, about = load_tensors(path)
    if about.get("model") != model_class.__name__:
        raise UserError(f"{path} holds a {about.get('model', 'state of training')}, not a {model_class.__name__}.")
    model = model_class(config_class(**about["config"]))
    load_weights(model, tensors, str(path))
    return model.eval()
