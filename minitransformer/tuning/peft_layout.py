"""How the peft library lays out each method: what its config says, how its tensors are called and what is in them.

A prefix in peft's layout is one matrix (P, L·2·C), of which block 2l is layer l's keys and block 2l + 1 its values.
That is P_θ here. GPT-2's `c_attn` is one map in peft, with one A; ours has an A for each of q, k and v. Therefore n
tuned maps of rank r become one change of rank n·r there, whose α is n times as large; B has zeros where no map writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minitransformer.errors import UserError
from minitransformer.models.attention import Attention
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.published import BART_NAMES, BERT_NAMES, GPT2_NAMES, their_names
from minitransformer.tuning.bases import Base, module_of
from minitransformer.tuning.lora import LoRA
from minitransformer.tuning.merge import linear_maps
from minitransformer.tuning.method import Method
from minitransformer.tuning.prefix import PrefixTuning
from minitransformer.tuning.prompt import PromptTuning, PTuning
from minitransformer.tuning.scales import IA3, with_queries

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
WRAPPER = "base_model.model."  # what peft puts in front of the base's own names
# Our kind of base → its module names in the transformers library, what the class with a head puts in front of them,
# and the task that peft calls it by.
KINDS: dict[type, tuple[Mapping[str, str], str, str | None]] = {
    GPT: (GPT2_NAMES, "transformer.", "CAUSAL_LM"),
    Bert: (BERT_NAMES, "bert.", "FEATURE_EXTRACTION"),
    Seq2Seq: (BART_NAMES, "model.", "SEQ_2_SEQ_LM"),
}


Written = tuple[dict[str, Any], dict[str, Tensor]]


def write_prefix(method: PrefixTuning, base: Base) -> Written:
    """P_θ is peft's matrix as it is."""
    if isinstance(base, Seq2Seq):
        raise UserError(
            "peft cannot express prefixes of an encoder–decoder: it gives one to the decoder alone, and ours are "
            f"{', '.join(method.encoders)}."
        )
    if method.layers is not None:
        raise UserError(f"peft cannot express layers = {method.layers}: its prefixes stand in every layer.")
    flat = method.encoders["prefix"]()  # P_θ
    about = virtual_tokens("PREFIX_TUNING", base, method.length) | {"prefix_projection": False}
    return about, {"prompt_embeddings": flat}


def write_prompt(method: PromptTuning | PTuning, base: Base) -> Written:
    """The vectors that virtual tokens stand for."""
    if isinstance(base, Bert):
        raise UserError(
            "peft cannot express a soft prompt on a BERT as ours is: it puts the virtual tokens in front of [CLS]."
        )
    if isinstance(method, PTuning) and isinstance(base, Seq2Seq):
        raise UserError("peft cannot express P-tuning on an encoder–decoder as ours is, inside the source's template.")
    kind = "P_TUNING" if isinstance(method, PTuning) else "PROMPT_TUNING"
    return virtual_tokens(kind, base, method.length), {"prompt_embeddings": method.vectors()}


def virtual_tokens(kind: str, base: Base, length: int) -> dict[str, Any]:
    """What peft's config says of P virtual tokens."""
    n_layer = base.config.n_decoder_layer if isinstance(base, Seq2Seq) else base.config.n_layer
    return {
        "peft_type": kind,
        "num_virtual_tokens": length,
        "token_dim": base.config.d_model,
        "num_layers": n_layer,
        "num_attention_heads": base.config.n_head,
        "num_transformer_submodules": 1,
    } | ({"encoder_hidden_size": base.config.d_model} if kind == "P_TUNING" else {})


def write_lora(method: LoRA, base: Base) -> Written:
    """A and B of each map; of stacked maps that are one in peft, together."""
    tensors, ranks = {}, {}
    low: Any
    for key, low in method.changes.items():
        names = maps_of(base, key)
        pairs: list[tuple[str, Tensor, Tensor]] = [(names[0], *low.matrices())]  # one map there, if stacked here
        if len(names) > 1:
            pairs = [(names[part], a, b) for part, a, b in zip(low.parts, low.a, low.b, strict=True)]
        for name, a, b in pairs:
            tensors[f"{WRAPPER}{name}.lora_A.weight"], tensors[f"{WRAPPER}{name}.lora_B.weight"] = a, b
            ranks[name] = len(a)
    wider = {name: r for name, r in ranks.items() if r != method.rank}
    config = {
        "peft_type": "LORA",
        "r": method.rank,
        "lora_alpha": method.alpha,
        "rank_pattern": wider,
        "alpha_pattern": {name: method.scale * r for name, r in wider.items()},
        "lora_dropout": method.dropout,
        "target_modules": list(ranks),
        "bias": "none",
        "fan_in_fan_out": isinstance(base, GPT),
    }
    return config, tensors


def write_ia3(method: IA3, base: Base) -> Written:
    """Factors of keys and values, and of the inside of feed-forward layers."""
    tensors, feed_forward = {}, []
    for key, factor in method.factors.items():
        names, whole, attention = their_factors(base, key, factor)
        for name, part in zip(names, whole.chunk(len(names)), strict=True):
            if attention and len(names) > 1 and name == names[0]:
                continue  # queries are never scaled
            tensors[f"{WRAPPER}{name}.ia3_l"] = part[:, None] if attention else part[None]  # (d_out, 1) or (1, d_in)
            feed_forward += [] if attention else [name]
    config = {
        "peft_type": "IA3",
        "target_modules": [name.removeprefix(WRAPPER).removesuffix(".ia3_l") for name in tensors],
        "feedforward_modules": feed_forward,
        "fan_in_fan_out": isinstance(base, GPT),
    }
    return config, tensors


def their_factors(base: Base, key: str, factor: Tensor) -> tuple[list[str], Tensor, bool]:
    """Their maps that factors of ours scale, all their factors (of queries, too), and whether it is an attention."""
    if isinstance(module_of(base, key), Attention):
        return maps_of(base, f"{key}/qkv"), with_queries(factor), True
    return maps_of(base, f"{key}/down"), factor, False


WRITERS: dict[type, Callable[[Any, Base], Written]] = {
    PrefixTuning: write_prefix,
    PromptTuning: write_prompt,
    PTuning: write_prompt,
    LoRA: write_lora,
    IA3: write_ia3,
}


def maps_of(base: Base, key: str) -> list[str]:
    """The transformers library's names of the maps in one module of ours, without peft's wrapper."""
    names, front, _ = KINDS[type(base)]
    found = their_names(names, key.replace("/", "."))
    return [name if name.startswith("cls.") else front + name for name in found]  # BERT's heads are outside of the body


Read = tuple[Method, dict[str, Tensor]]
REFUSED_OF_LORA = {  # what another value of a setting would mean → what it has to be
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, []),
    "megatron_config": (None,),
    "alora_invocation_tokens": (None,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva", None),  # others change the base's weights
}


def read_prefix(config: dict[str, Any], tensors: dict[str, Tensor], base: Base, folder: Path) -> Read:
    """A prefix of a GPT or a BERT."""
    if isinstance(base, Seq2Seq):
        raise UserError(
            f"{folder} holds a prefix for a decoder alone, as peft has it; an encoder–decoder here has three."
        )
    flat = virtual_vectors(config, tensors, folder)
    wanted = base.config.n_layer * 2 * base.config.d_model
    ours = (base.config.n_layer, base.config.n_head)
    n_layer, n_head = config.get("num_layers", ours[0]), config.get("num_attention_heads", ours[1])
    if flat.shape[1:] != (wanted,) or (n_layer, n_head) != ours:
        raise UserError(
            f"{folder} holds a prefix {tuple(flat.shape)} for {n_layer} layers of {n_head} heads; this base has "
            f"{ours[0]} layers of {ours[1]} heads, for which it has to be (P, {wanted})."
        )
    return PrefixTuning(len(flat)), {"encoders.prefix.free": flat}


def read_prompt(config: dict[str, Any], tensors: dict[str, Tensor], base: Base, folder: Path) -> Read:
    """A soft prompt of a GPT, or of an encoder."""
    if isinstance(base, Bert):
        raise UserError(f"{folder} holds virtual tokens in front of [CLS], as peft has them; ours stand behind it.")
    if isinstance(base, Seq2Seq) and config.get("num_transformer_submodules", 2) != 1:
        raise UserError(
            f"{folder} holds virtual tokens for the decoder, too (num_transformer_submodules = 2); ours stand before "
            "the source alone."
        )
    vectors = virtual_vectors(config, tensors, folder)
    if vectors.shape[1:] != (base.config.d_model,):
        raise UserError(
            f"{folder} holds virtual tokens {tuple(vectors.shape)}; this base has d_model = {base.config.d_model}, for "
            f"which they have to be (P, {base.config.d_model}). Is it the base that they were trained on?"
        )
    return PromptTuning(len(vectors), "random"), {"free": vectors}


def virtual_vectors(config: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Tensor:
    """The one tensor of virtual tokens, (P, …)."""
    if set(tensors) != {"prompt_embeddings"} or tensors["prompt_embeddings"].dim() != 2:
        raise UserError(
            f"{folder / TENSORS} has the tensors {', '.join(sorted(tensors)) or 'none'}; virtual tokens are one, "
            "'prompt_embeddings', with a row for each."
        )
    found = tensors["prompt_embeddings"]
    if (length := config.get("num_virtual_tokens", len(found))) != len(found):
        raise UserError(f"{folder}: the config says {length} virtual tokens, the tensor has {len(found)}.")
    return found


def read_lora(config: dict[str, Any], tensors: dict[str, Tensor], base: Base, folder: Path) -> Read:
    """Changes of low rank. Maps of other ranks or scales become those of the largest rank and of one scale."""
    for name, allowed in REFUSED_OF_LORA.items():
        if config.get(name) not in allowed:
            raise UserError(f"{folder} has {name} = {config[name]!r}, which a LoRA here does not have.")
    pairs = their_pairs(tensors, folder)
    places = their_places(base, pairs, folder)
    rank = max(a.size(0) for a, _ in pairs.values())
    scales = {name: their_scale(config, name, a.size(0)) for name, (a, _) in pairs.items()}
    scale = next(iter(scales.values()))
    targets = sorted(name for ours in places.values() for name in ours)
    method = LoRA(rank, scale * rank, targets, config.get("lora_dropout") or 0.0)
    method.build(base)  # for the shapes
    restored = {name: torch.zeros_like(t) for name, t in method.state_dict().items()}
    maps, keys = linear_maps(base), {module: name for name, module in base.named_modules()}
    for theirs, ours in places.items():
        a, b = pairs[theirs]
        for i, name in enumerate(ours):  # several where their one map is a stack of ours
            linear, part = maps[name]
            key = keys[linear].replace(".", "/")
            low: Any = method.changes[key]
            row, d_out = low.parts.index(part), linear.out_features // low.n_part
            mine = b[i * d_out : (i + 1) * d_out] if len(ours) > 1 else b
            if a.shape[1:] != (linear.in_features,) or mine.shape != (d_out, a.size(0)):
                raise UserError(
                    f"{folder}: lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} of {theirs!r} do not fit "
                    f"{keys[linear]} of this base, which goes from {linear.in_features} to {linear.out_features}."
                )
            restored[f"changes.{key}.a"][row, : a.size(0)] = a
            restored[f"changes.{key}.b"][row, :, : a.size(0)] = mine * (scales[theirs] / scale)
    precision = next(iter(pairs.values()))[0].dtype
    return method, {name: t.to(precision) for name, t in restored.items()}


def their_pairs(tensors: dict[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Their map → A and B."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name)
        if not found or tensor.dim() != 2:
            raise UserError(f"{folder / TENSORS} has a tensor {name!r} {tuple(tensor.shape)}, which no LoRA here has.")
        pairs.setdefault(found[1], {})[found[2]] = tensor
    for name, both in pairs.items():
        if len(both) != 2 or both["A"].size(0) != both["B"].size(1):
            raise UserError(f"{folder / TENSORS}: {name!r} has no lora_A and lora_B that can be multiplied.")
    if not pairs:
        raise UserError(f"{folder / TENSORS} has no tensors.")
    return {name: (both["A"], both["B"]) for name, both in pairs.items()}


def their_scale(config: dict[str, Any], name: str, rank: int) -> float:
    """α/r of one of their maps; with rank-stabilised LoRA (use_rslora) α/√r."""

    def pattern(key: str, default: Any) -> Any:
        patterns = config.get(key) or {}
        return next((v for p, v in patterns.items() if re.fullmatch(rf"(.*\.)?({p})", name)), default)

    alpha = pattern("alpha_pattern", config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def their_places(base: Base, theirs: Mapping[str, Any], folder: Path) -> dict[str, list[str]]:
    """Their map → the names of our maps that it is, several where theirs is a stack."""
    keys = {module: name for name, module in base.named_modules()}
    known: dict[str, list[str]] = {}
    for name, (linear, part) in linear_maps(base).items():
        found = maps_of(base, keys[linear].replace(".", "/"))
        known.setdefault(found[part if len(found) > 1 else 0], []).append(name)
    front = KINDS[type(base)][1]
    known |= {name.removeprefix(front): ours for name, ours in known.items()}  # of a class without a head
    for name in theirs:
        if name not in known:
            raise UserError(
                f"{folder} tunes {name!r}, which is no linear map of this {type(base).__name__}. Was it trained on "
                "another architecture, or on another part of the model?"
            )
    return {name: known[name] for name in theirs}


def read_ia3(config: dict[str, Any], tensors: dict[str, Tensor], base: Base, folder: Path) -> Read:
    """Factors; what was not tuned there is 1 here."""
    if config.get("modules_to_save"):
        raise UserError(f"{folder} has modules_to_save, which an IA3 here does not have.")
    for name in tensors:
        if not name.endswith(".ia3_l"):
            raise UserError(f"{folder / TENSORS} has a tensor {name!r}, which no IA3 here has.")
    factors = {name.removesuffix(".ia3_l"): tensor.flatten() for name, tensor in tensors.items()}
    method = IA3()
    method.build(base)  # for the shapes
    precision = next(iter(factors.values())).dtype if factors else torch.float32
    restored, left, front = {}, set(factors), KINDS[type(base)][1]
    for key, ones in method.factors.items():
        names, whole, attention = their_factors(base, key, torch.ones_like(ones))
        parts = list(whole.chunk(len(names)))
        for i, name in enumerate(names):
            if name not in factors:
                name = name.removeprefix(front)  # of a class without a head
            if name in factors:
                left.discard(name)
                if factors[name].shape != parts[i].shape:
                    raise UserError(
                        f"{folder}: the factors of {name!r} are {len(factors[name])}; this base needs {len(parts[i])}."
                    )
                parts[i] = factors[name]
                queries = factors[name][: base.config.d_model] if attention and i == 0 else None
                if queries is not None and (len(names) > 1 or not bool((queries == 1).all())):
                    raise UserError(f"{folder}: {name!r} scales queries, which an IA3 here does not.")
        restored[f"factors.{key}"] = torch.cat(parts)[-len(ones) :].to(precision)
    if left:
        raise UserError(f"{folder} scales {min(left)!r}, which an IA3 here does not.")
    return method, restored


READERS: dict[str, Callable[[dict[str, Any], dict[str, Tensor], Base, Path], Read]] = {
    "PREFIX_TUNING": read_prefix,
    "PROMPT_TUNING": read_prompt,
    "P_TUNING": read_prompt,
    "LORA": read_lora,
    "IA3": read_ia3,
}
