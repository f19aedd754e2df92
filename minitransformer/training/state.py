"""The state of a training on disk: all that the rest of a run depends on, and whose it is.

A state names the model, the data and the settings that it belongs to. It is taken up again only with the same ones,
because anything else would give neither run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from minitransformer.checkpoint import fingerprint, load_tensors, save_tensors
from minitransformer.errors import UserError
from minitransformer.text.batches import Batch

WHOSE = {  # what a state names → what has to be the same, for the message
    "base": "model, frozen weights or method",
    "began": "weights at its beginning (load the base that it began with, or make the model after the same seed)",
    "loss": "loss",
    "batches": "training batches",
    "valid": "validation batches",
    "training": "settings",
}

BEGAN: WeakKeyDictionary[nn.Module, dict[Path, str]] = WeakKeyDictionary()  # see `beginning`


def describe(
    model: nn.Module,
    config: Any,
    loss: Callable[..., object],
    batches: Callable[[int], Batch] | None,
    n_batch: int,
    valid: Sequence[Batch] | None,
    path: Path,
) -> dict[str, Any]:
    """Whose state it is, in words that JSON can say; `path` is where it is kept.

    The data are known by their first two batches, of the `n_batch` that the whole run takes, and by the first one of
    the validation.
    """
    named = list(model.named_parameters())
    frozen = {name: p for name, p in named if not p.requires_grad} | dict(model.named_buffers())
    # Of weights that are in parts, one in each process, the fingerprint of the method that is on them tells.
    frozen = {name: tensor for name, tensor in frozen.items() if not hasattr(tensor, "full_tensor")}
    methods = [
        [type(module).__name__, module.settings, module.fingerprint]
        for module in model.modules()
        if hasattr(module, "settings") and hasattr(module, "fingerprint")
    ]
    sizes = getattr(model, "config", None) or getattr(getattr(model, "base", None), "config", None)
    about = {
        "base": {
            "class": type(model).__name__,
            "sizes": dataclasses.asdict(sizes)
            if dataclasses.is_dataclass(sizes) and not isinstance(sizes, type)
            else None,
            "tuned": {name: list(p.shape) for name, p in named if p.requires_grad},
            "frozen": fingerprint(frozen),
            "methods": methods,
        },
        "began": beginning(model, path),
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "batches": None if batches is None else [_digest(batches(i)) for i in range(min(2, n_batch))],
        "valid": None if valid is None else [len(valid), _digest(valid[0])],
        "training": dataclasses.asdict(config),
    }
    return json.loads(json.dumps(about))


def beginning(model: nn.Module, path: Path) -> str | None:
    """A short name for the trained weights of the base as they were when the run of this state began.

    A run that was broken off in this process goes on with the same model, which has learned since. So what it began
    with is remembered. A method's parameters and a head are left out: where they begin is up to chance. None for a
    model on "meta", which has no numbers.
    """
    own = "base." if hasattr(model, "base") else ""
    trained = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and name.startswith(own) and not name.startswith(f"{own}tuning.")
    }
    if any(p.is_meta for p in trained.values()):
        return None
    known = BEGAN.setdefault(model, {})
    if path not in known or not path.is_file():
        known[path] = fingerprint(trained)
    return known[path]


def check_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a state of another run: what it says about itself differs from what `describe` says, and in what.

    Batches and a beginning that are None are not compared.
    """
    if "training" not in found or not isinstance(found["training"], dict):
        raise UserError(f"{path} belongs to another run: it is no state of training. Move it away.")
    if not isinstance(found.get("base"), dict) or found["base"].get("tuned") != expected["base"]["tuned"]:
        raise UserError(f"{path} belongs to another run: other parameters were trained in it. Move it away.")
    changed = [name for name, value in expected["training"].items() if found["training"].get(name, value) != value]
    other = [says for name, says in WHOSE.items() if name != "training" and found.get(name) != expected[name]]
    unknown = [WHOSE[name] for name in ("batches", "began") if expected[name] is None]
    other = [says for says in other if says not in unknown]
    if changed:
        other.append(f"settings ({', '.join(changed)})")
    if other:
        raise UserError(
            f"{path} was made with other {', other '.join(other)}; resuming would give neither run. Use the same ones, "
            "or move the file away to start anew."
        )


def save_state(
    path: Path,
    tuned: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    about: Mapping[str, object],
) -> None:
    """Write the weights that are trained, the optimizer's state, the best weights so far and the random state."""
    names = {id(p): name for name, p in tuned.items()}
    tensors: dict[str, Tensor] = {f"weight/{name}": p for name, p in tuned.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for p, state in optimizer.state.items():
        tensors |= {f"{key}/{names[id(p)]}": value for key, value in state.items()}
    tensors |= {f"random/{name}": state for name, state in _random_states(tuned).items()}
    save_tensors(path, tensors, about)


def read_state(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors of a state in their parts ("weight", "best", "random", the optimizer's), and what it is about."""
    tensors, about = load_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts, about


@torch.no_grad()
def restore_state(
    path: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    tuned: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Tensor]:
    """Put weights, the optimizer's state and the random state back; gives the best weights so far."""
    for part in ("weight", "best") if "best" in parts else ("weight",):
        for name, p in tuned.items():
            tensor = parts.get(part, {}).get(name)
            if tensor is None or tensor.shape != p.shape:
                raise UserError(f"{path} is damaged: it has no fitting {part}/{name}. Delete it, and train anew.")
    for name, p in tuned.items():
        p.copy_(parts["weight"][name])
        state = {
            key: parts[key][name] for key in parts if key not in ("weight", "best", "random") and name in parts[key]
        }
        if state:  # AdamW counts its steps on the CPU
            optimizer.state[p] = {key: t if key == "step" else t.to(p.device) for key, t in state.items()}
    _set_random_states(parts.get("random", {}))
    return dict(parts.get("best", {}))


def _random_states(tuned: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Of the CPU, and of each accelerator that holds a tuned parameter."""
    states = {"cpu": torch.get_rng_state()}
    for device in {p.device for p in tuned.values()}:
        if device.type == "cuda":
            states[str(device)] = torch.cuda.get_rng_state(device)
        elif device.type == "mps":
            states[str(device)] = torch.mps.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    for name, state in states.items():
        device = torch.device(name)
        if device.type == "cpu":
            torch.set_rng_state(state)
        elif device.type == "cuda" and torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)
        elif device.type == "mps" and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state)


def _digest(batch: Batch) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(batch.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {fingerprint({name: value})}".encode())
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()[:16]
