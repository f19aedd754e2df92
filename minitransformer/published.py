"""Published weights in our models: GPT-2, BERT and BART as the transformers library saves them.

The architectures are the same to the last norm; what differs are the names, that GPT-2's matrices lie transposed
(its Conv1D computes x W, a linear layer x Wᵀ), that BERT and BART keep W^Q, W^K and W^V apart, and that BART's
position table starts with two rows that nothing uses.

The library itself is not needed: a state dict is a dictionary of tensors.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minitransformer.checkpoint import check_finite, read_safetensors
from minitransformer.checks import check_kind
from minitransformer.errors import UserError
from minitransformer.files import as_path, read_json
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig

M = TypeVar("M", bound=nn.Module)

# Ours on the left, without ".weight" and ".bias"; {} is the number of the layer. Several names on the right, written as
# "[query key value]", are stacked in that order.
GPT2_NAMES = {
    "token_embedding": "wte",
    "position_embedding": "wpe",
    "blocks.{}.norm1": "h.{}.ln_1",
    "blocks.{}.attention.qkv": "h.{}.attn.c_attn",
    "blocks.{}.attention.out": "h.{}.attn.c_proj",
    "blocks.{}.norm2": "h.{}.ln_2",
    "blocks.{}.mlp.up": "h.{}.mlp.c_fc",
    "blocks.{}.mlp.down": "h.{}.mlp.c_proj",
    "norm": "ln_f",
}
BERT_NAMES = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "type_embedding": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "blocks.{}.attention.qkv": "encoder.layer.{}.attention.self.[query key value]",
    "blocks.{}.attention.out": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.norm1": "encoder.layer.{}.attention.output.LayerNorm",
    "blocks.{}.mlp.up": "encoder.layer.{}.intermediate.dense",
    "blocks.{}.mlp.down": "encoder.layer.{}.output.dense",
    "blocks.{}.norm2": "encoder.layer.{}.output.LayerNorm",
    "pooler": "pooler.dense",
    "mlm": "cls.predictions",  # its bias
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "nsp": "cls.seq_relationship",
}
BART_NAMES = {
    "token_embedding": "shared",
    "source_positions": "encoder.embed_positions",
    "source_norm": "encoder.layernorm_embedding",
    "encoder.{}.attention.qkv": "encoder.layers.{}.self_attn.[q_proj k_proj v_proj]",
    "encoder.{}.attention.out": "encoder.layers.{}.self_attn.out_proj",
    "encoder.{}.norm1": "encoder.layers.{}.self_attn_layer_norm",
    "encoder.{}.mlp.up": "encoder.layers.{}.fc1",
    "encoder.{}.mlp.down": "encoder.layers.{}.fc2",
    "encoder.{}.norm2": "encoder.layers.{}.final_layer_norm",
    "target_positions": "decoder.embed_positions",
    "target_norm": "decoder.layernorm_embedding",
    "decoder.{}.attention.qkv": "decoder.layers.{}.self_attn.[q_proj k_proj v_proj]",
    "decoder.{}.attention.out": "decoder.layers.{}.self_attn.out_proj",
    "decoder.{}.norm1": "decoder.layers.{}.self_attn_layer_norm",
    "decoder.{}.cross.qkv": "decoder.layers.{}.encoder_attn.[q_proj k_proj v_proj]",
    "decoder.{}.cross.out": "decoder.layers.{}.encoder_attn.out_proj",
    "decoder.{}.norm2": "decoder.layers.{}.encoder_attn_layer_norm",
    "decoder.{}.mlp.up": "decoder.layers.{}.fc1",
    "decoder.{}.mlp.down": "decoder.layers.{}.fc2",
    "decoder.{}.norm3": "decoder.layers.{}.final_layer_norm",
}


def their_names(names: Mapping[str, str], module: str) -> list[str]:
    """What a module of ours, "blocks.0.attention.qkv", is called in one of these tables: one name, or several."""
    layer = re.search(r"\.(\d+)\.", module)
    name = names[module if layer is None else module.replace(layer[0], ".{}.", 1)].format(layer and layer[1])
    front, _, many = name.partition("[")
    return [front + one for one in many.rstrip("]").split()] if many else [name]


# Tied weights: saved under several names, or under one of them. Once checked to be equal, the first name is kept.
GPT2_TIED = [("wte.weight", "lm_head.weight")]
BERT_TIED = [
    ("embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
]
BART_TIED = [
    ("shared.weight", name) for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
]

# What a config may say, and what it says where it is silent: (key, supported values, default).
TIED = ("tie_word_embeddings", (True,), True)
GPT2_SUPPORTED = [
    ("activation_function", ("gelu_new", "gelu_pytorch_tanh"), "gelu_new"),
    ("layer_norm_epsilon", (1e-5,), 1e-5),
    ("scale_attn_weights", (True,), True),
    ("scale_attn_by_inverse_layer_idx", (False,), False),
    ("add_cross_attention", (False,), False),
    TIED,
]
BERT_SUPPORTED = [
    ("hidden_act", ("gelu",), "gelu"),
    ("layer_norm_eps", (1e-12,), 1e-12),
    ("position_embedding_type", ("absolute", None), "absolute"),
    ("is_decoder", (False,), False),
    ("add_cross_attention", (False,), False),
    TIED,
]
BART_SUPPORTED = [
    ("activation_function", ("gelu",), "gelu"),
    ("scale_embedding", (False,), False),
    ("normalize_before", (False,), False),
    ("normalize_embedding", (True,), True),
    ("add_final_layer_norm", (False,), False),
    ("static_position_embeddings", (False,), False),
    TIED,
]


# What a config may ask of generation that `generate` and `beam_search` do not do, and what asks for nothing.
GENERATION: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("min_length", "min_new_tokens", "no_repeat_ngram_size"), (0, None)),
    **dict.fromkeys(("encoder_no_repeat_ngram_size", "diversity_penalty"), (0, None)),
    **dict.fromkeys(("repetition_penalty", "num_beam_groups", "typical_p"), (1, None)),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids"), (None, [])),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), (None, [])),
}

# Buffers of older versions that hold no weights: the causal mask, 0, 1, 2, …, and fairseq's version.
BUFFERS = re.compile(r"(^|\.)(attn\.(masked_)?bias|position_ids|token_type_ids|(en|de)coder\.version|_float_tensor)$")
WHICH = "Name the folder of a saved model."
WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put in front
CONVERT = (
    "python -c \"import torch, safetensors.torch as s; w = torch.load('pytorch_model.bin', weights_only=True); "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, 'model.safetensors')\""
)


def from_transformers(state_dict: Mapping[str, Tensor], config: Any, dropout: float = 0.0) -> GPT | Bert | Seq2Seq:
    """Our model with the weights of a GPT-2, a BERT or a BART of the transformers library, in eval mode.

    A BERT gets the heads whose weights are there (`BertConfig.pooler`, `.mlm`, `.nsp`).

    Args:
        state_dict: of GPT2Model, GPT2LMHeadModel, BertModel, BertForPreTraining, BertForMaskedLM, BartModel or
            BartForConditionalGeneration.
        config: that library's config, as an object or as the dictionary in its config.json.
        dropout: for further training; where that library has several, ours has this one.

    Refuses another architecture, a config that ours does not cover, a tensor that is missing, left over or of another
    shape.
    """
    if not hasattr(config, "to_dict"):
        check_kind(config, Mapping, "The config is that of the transformers library, or a dictionary")
    check_kind(state_dict, Mapping, "The weights are a state dict, which maps names to tensors")
    about = dict(config) if isinstance(config, Mapping) else config.to_dict()
    converters: dict[object, Callable[..., GPT | Bert | Seq2Seq]] = {"gpt2": _gpt2, "bert": _bert, "bart": _bart}
    kind = str(about.get("model_type"))
    if kind not in converters:
        raise UserError(f"The config is that of a {kind!r} model; known are {', '.join(map(str, converters))}.")
    theirs = {}
    for name, tensor in state_dict.items():
        check_kind(tensor, Tensor, f"The weights have to hold a tensor as {name!r}")
        for wrapper in WRAPPERS:
            name = name.replace(wrapper, "") if name.startswith(wrapper) or f".{wrapper}" in name else name
        if not BUFFERS.search(name):  # LayerNorm's weight and bias were called gamma and beta
            theirs[re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))] = tensor
    try:
        model = converters[kind](theirs, about, dropout).eval()
    except KeyError as error:
        raise UserError(f"The {kind} config has no {error}, without which the model's size is unknown.") from error
    except TypeError as error:
        raise UserError(f"The {kind} config makes no sense: {error}.") from error
    asked = {name: about[name] for name, nothing in GENERATION.items() if name in about and about[name] not in nothing}
    if asked and not isinstance(model, Bert):
        said = ", ".join(f"{name} = {value!r}" for name, value in asked.items())
        warnings.warn(
            f"The config asks generation for {said}. generate() and beam_search() do not do that, so that their texts "
            "differ from those of the transformers library.",
            stacklevel=2,
        )
    return model


def load_pretrained(folder: str | Path, dropout: float = 0.0) -> GPT | Bert | Seq2Seq:
    """The model in a folder that the transformers library saved: config.json and model.safetensors, whole or in parts.

    Refuses files that are missing or damaged, and as `from_transformers`.
    """
    folder = as_path(folder)
    config = read_json(folder / "config.json", "config", WHICH)
    generation = folder / "generation_config.json"
    if generation.is_file():
        asked = read_json(generation, "config", WHICH)
        config = {**{name: value for name, value in asked.items() if name in GENERATION}, **config}
    weights, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if weights.is_file():
        return from_transformers(read_safetensors(weights)[0], config, dropout)
    if index.is_file():
        return from_transformers(_read_parts(index), config, dropout)
    if (folder / "pytorch_model.bin").is_file():
        raise UserError(
            f"{folder} holds pytorch_model.bin, a pickle, and loading one can run any code. Save the model again as "
            f"model.safetensors. In that folder, this does it without running any: {CONVERT.strip()}"
        )
    raise UserError(f"There is no model.safetensors in {folder}.")


def _read_parts(index: Path) -> dict[str, Tensor]:
    """The weights that stand in several files, of which an index says where each is."""
    places = read_json(index, "index", WHICH).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(x, str) and Path(x).name == x for x in places.values()):
        raise UserError(f"{index} does not say which file holds which tensor (weight_map).")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        tensors |= read_safetensors(index.parent / name)[0]
    if missing := sorted(set(places) - set(tensors)):
        raise UserError(f"{index} promises a tensor {missing[0]!r}, which {places[missing[0]]} does not have.")
    return tensors


def _gpt2(theirs: dict[str, Tensor], about: dict, dropout: float) -> GPT:
    _check_config(about, GPT2_SUPPORTED)
    config = GPTConfig(
        vocab_size=about["vocab_size"],
        n_positions=about["n_positions"],
        n_layer=about["n_layer"],
        n_head=about["n_head"],
        d_model=about["n_embd"],
        d_ff=about.get("n_inner") or 4 * about["n_embd"],
        dropout=dropout,
    )
    theirs = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}

    def transpose(name: str, tensor: Tensor) -> Tensor:
        return tensor.T if ".c_" in name and tensor.dim() == 2 else tensor

    return _fill(GPT(config), theirs, GPT2_NAMES, GPT2_TIED, transpose)


def _bert(theirs: dict[str, Tensor], about: dict, dropout: float) -> Bert:
    _check_config(about, BERT_SUPPORTED)
    theirs = {name.removeprefix("bert."): tensor for name, tensor in theirs.items()}
    config = BertConfig(
        vocab_size=about["vocab_size"],
        n_positions=about["max_position_embeddings"],
        n_layer=about["num_hidden_layers"],
        n_head=about["num_attention_heads"],
        d_model=about["hidden_size"],
        d_ff=about["intermediate_size"],
        dropout=dropout,
        n_types=about["type_vocab_size"],
        pooler=any(name.startswith("pooler.") for name in theirs),
        mlm=any(name.startswith("cls.predictions.") for name in theirs),
        nsp=any(name.startswith("cls.seq_relationship.") for name in theirs),
    )
    return _fill(Bert(config), theirs, BERT_NAMES, BERT_TIED)


def _bart(theirs: dict[str, Tensor], about: dict, dropout: float) -> Seq2Seq:
    _check_config(about, BART_SUPPORTED)
    for what in ("attention_heads", "ffn_dim"):
        if about[f"encoder_{what}"] != about[f"decoder_{what}"]:
            raise UserError(
                f"The config has encoder_{what} = {about[f'encoder_{what}']} and decoder_{what} = "
                f"{about[f'decoder_{what}']}; here the two are one number."
            )
    config = Seq2SeqConfig(
        vocab_size=about["vocab_size"],
        n_positions=about["max_position_embeddings"],
        n_encoder_layer=about["encoder_layers"],
        n_decoder_layer=about["decoder_layers"],
        n_head=about["encoder_attention_heads"],
        d_model=about["d_model"],
        d_ff=about["encoder_ffn_dim"],
        dropout=dropout,
        pad_id=_one_id(about, "pad_token_id", "eos_token_id"),  # what fills up is never read
        start_id=_one_id(about, "decoder_start_token_id", "bos_token_id"),
        end_id=_one_id(about, "eos_token_id"),
    )
    theirs = {name.removeprefix("model."): tensor for name, tensor in theirs.items()}
    # A BartModel has none: it is 0 until weights with another come along.
    bias = theirs.pop("final_logits_bias", torch.zeros(1, config.vocab_size))
    if bias.shape not in ((1, config.vocab_size), (config.vocab_size,)):
        raise UserError(f"'final_logits_bias' has the shape {tuple(bias.shape)}; needed is (1, {config.vocab_size}).")

    def drop_offset(name: str, tensor: Tensor) -> Tensor:
        return tensor[2:] if name.endswith("embed_positions.weight") else tensor

    model = _fill(Seq2Seq(config), theirs, BART_NAMES, BART_TIED, drop_offset)
    check_finite({"final_logits_bias": bias}, "The weights")
    model.final_logits_bias.copy_(bias.view(-1))
    return model


def _one_id(about: dict[str, Any], *names: str) -> Any:
    """The first of these ids that the config has; a list of one stands for that one."""
    for name in names:
        value = about[name] if name == names[-1] else about.get(name)
        if isinstance(value, list):
            if len(value) != 1:
                raise UserError(f"The bart config says {name} = {value}; here it is one id.")
            value = value[0]
        if value is not None:
            return value
    raise UserError(f"The bart config says {names[0]} = null; it has to be a token id.")


def _check_config(about: dict, supported: list[tuple[str, tuple, object]]) -> None:
    for key, values, default in supported:
        if (value := about.get(key, default)) not in values:
            raise UserError(
                f"The {about['model_type']} config says {key} = {value!r}; here it can only be "
                f"{' or '.join(map(repr, values))}."
            )


@torch.no_grad()
def _fill(
    model: M,
    theirs: dict[str, Tensor],
    names: Mapping[str, str],
    tied: list[tuple[str, str]],
    adapt: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> M:
    """Copy their tensors into our parameters, all of them, and leave none over."""
    for first, other in tied:
        if (copy := theirs.pop(other, None)) is not None and not torch.equal(theirs.setdefault(first, copy), copy):
            raise UserError(f"{other!r} differs from {first!r}; here the two are one tensor.")
    for ours, parameter in model.named_parameters():
        module, _, kind = ours.rpartition(".")
        wanted = [f"{name}.{kind}" for name in their_names(names, module)]
        for name in wanted:
            if name not in theirs:
                raise UserError(f"The weights have no tensor {name!r}, which {ours!r} is made from.")
        parts = [adapt(name, theirs.pop(name)) for name in wanted]
        if not all(part.dim() == parameter.dim() and part.shape[1:] == parameter.shape[1:] for part in parts):
            tensor = parts[0]  # which has another shape
        else:
            tensor = torch.cat(parts)
        if tensor.shape != parameter.shape:
            raise UserError(
                f"{' + '.join(wanted)} gives the shape {tuple(tensor.shape)}; with these sizes {ours!r} has "
                f"{tuple(parameter.shape)}. Do the config and the weights belong together?"
            )
        check_finite({" + ".join(wanted): tensor}, "The weights")
        parameter.copy_(tensor)
    if theirs:
        raise UserError(f"The weights have a tensor {next(iter(theirs))!r} that {type(model).__name__} does not know.")
    return model
