"""Tensors on disk: safetensors files, written aside and renamed, refused in a sentence where they do not fit.

A safetensors file holds tensors and a little text, never code, so that loading one runs nothing. The same content gives
the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from minitransformer.checks import check_kind
from minitransformer.errors import UserError
from minitransformer.files import as_path, write_aside

FORMAT = "minitransformer"
Model = TypeVar("Model", bound=nn.Module)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Save named tensors, and `about` (what JSON can say) beside them; refuses as `write_aside`, and anything else."""
    path = as_path(path)
    check_kind(about, Mapping, "What a file says about itself is a dictionary")
    for name, tensor in tensors.items():
        check_kind(tensor, Tensor, f"{name!r} has to be a tensor")
    try:
        said = json.dumps(about)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"A file can say about itself what JSON can, texts, numbers, lists: {error}.") from error
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    shared: dict[int, str] = {}
    for name, tensor in whole.items():  # safetensors refuses two names for one memory
        if tensor.numel() and shared.setdefault(tensor.untyped_storage().data_ptr(), name) != name:
            whole[name] = tensor.clone()
    write_aside(path, _in_order(save(whole, {"format": FORMAT, "about": said})))


def _in_order(data: bytes) -> bytes:
    """The same file with the names of its metadata in one order; safetensors writes them in a random one."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of any safetensors file, by name, and its metadata; refuses one that is not there, or not whole."""
    path = as_path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file in it.")
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}). Was the download or the copy cut short? "
            "Delete it, and make or fetch it again."
        ) from error
    return tensors, metadata


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` saved: the tensors by name, and `about`.

    Refuses as `read_safetensors`, a file that another program wrote, and a nan or an infinity in a tensor.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} holds tensors, but this program did not write it. "
            "State dicts of the transformers library go through minitransformer.published."
        )
    try:
        about = json.loads(metadata["about"])
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it does not say what it holds. Make or fetch it again.") from error
    check_kind(about, dict, f"{path} is damaged: what it says about itself has to be an object")
    check_finite(tensors, str(path))
    return tensors, about


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse the first tensor that holds a nan or an infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            n = int((~tensor.isfinite()).sum())
            raise UserError(
                f"{source}: {name!r} has {n} values that are nan or infinite. The file was changed, or training failed "
                "before it was written. Make or fetch it again."
            )


def fingerprint(tensors: Mapping[str, Tensor], of: str = "") -> str:
    """A short name for exactly these tensors: SHA-256 over what they are `of`, names, shapes, dtypes and values."""
    digest = hashlib.sha256(of.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_model(path: str | Path, model: nn.Module, about: Mapping[str, object] | None = None) -> None:
    """Save a model's weights with its architecture, sizes and dtype, so that `load_model` can build it again.

    `about` stands beside these, and cannot change them. Refuses a model without a config, weights that are nan or
    infinite, and a tuning method on the model, whose parameters are no part of it.
    """
    check_kind(model, nn.Module, "save_model() takes a path, then a model")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise UserError(
            f"A {type(model).__name__} has no config to build it from again. Save the model that it stands on, or its "
            "tensors, with save_tensors(path, model.state_dict(), about)."
        )
    if names := [type(method).__name__ for method in getattr(model, "tuning", ()) if method.state_dict()]:
        raise UserError(
            f"A {', '.join(names)} is on this {type(model).__name__}, and what it learned is no part of the model: "
            "detach() it first. Its own save() keeps what it learned."
        )
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in model.state_dict().items()}
    check_finite(state, f"This {type(model).__name__}")
    save_tensors(path, state, {**(about or {}), "model": type(model).__name__, "config": dataclasses.asdict(config)})


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a model, all of them or none; refuses as `check_tensors`."""
    check_tensors(model.state_dict(), tensors, source, type(model).__name__)
    model.load_state_dict(dict(tensors))


def check_tensors(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str, kind: str) -> None:
    """Refuse a tensor that is missing, left over, or of another shape than a `kind` of model wants."""
    for name in wanted:
        if name not in tensors:
            raise UserError(f"{source} has no tensor {name!r}, which {kind} needs.")
        if tensors[name].is_floating_point() != wanted[name].is_floating_point():
            raise UserError(f"{source}: {name!r} is {tensors[name].dtype}; the model's is {wanted[name].dtype}.")
        if tensors[name].shape != wanted[name].shape:
            raise UserError(
                f"{source}: {name!r} has the shape {tuple(tensors[name].shape)}; the model's has "
                f"{tuple(wanted[name].shape)}. The checkpoint was made with other sizes."
            )
    for name in tensors:
        if name not in wanted:
            raise UserError(f"{source} has a tensor {name!r} that {kind} does not know.")


def load_model(path: str | Path, model_class: type[Model], config_class: type) -> Model:
    """Build the model that `save_model` saved, of the dtype that it was saved in.

    Refuses as `load_tensors`; a checkpoint of another architecture, with a setting that this version does not know or
    without one that it needs, or with other tensors than it needs.
    """
    tensors, about = load_tensors(path)
    if about.get("model") != model_class.__name__:
        held = about.get("model", about.get("tuning", "state of training"))
        raise UserError(f"{path} holds a {held}, not a {model_class.__name__}.")
    model = model_class(read_config(config_class, about.get("config"), str(path)))
    for name, part in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and part.is_floating_point() and tensors[name].is_floating_point():
            part.data = part.data.to(tensors[name].dtype)
    load_weights(model, tensors, str(path))
    return model.eval()


def read_config(config_class: type, settings: object, source: str) -> Any:
    """A config from what a file says; fields that the file does not have get their defaults."""
    if not isinstance(settings, dict):
        raise UserError(f"{source} is damaged: it has no config of a {config_class.__name__.removesuffix('Config')}.")
    known = {field.name: field.default for field in dataclasses.fields(config_class)}
    needed = [name for name, default in known.items() if default is dataclasses.MISSING]
    check_names(settings, known, needed, config_class.__name__, source)
    try:
        return config_class(**settings)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def check_names(
    found: Collection[str], known: Collection[str], needed: Collection[str], kind: str, source: str | Path
) -> None:
    """Refuse settings of a file that this kind of config or method does not know, and the lack of those it needs."""
    if unknown := [name for name in found if name not in known]:
        raise UserError(
            f"{source} has the setting {', '.join(map(repr, unknown))}, which {kind} does not know here: a newer "
            "version of this program wrote it, or the file was changed."
        )
    if missing := [name for name in needed if name not in found]:
        raise UserError(
            f"{source} lacks the setting {', '.join(map(repr, missing))} of {kind}: the file was changed. Fetch or "
            "make it again."
        )
