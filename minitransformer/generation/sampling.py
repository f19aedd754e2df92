"""One sampler for every model: greedy, temperature, top-k and top-p, batched, with the cache.

A language model gives a distribution over the next token; to write is to choose from it again and again
(003 §3.1, p(z_{i+1} | h_≤i) = softmax(W h_i)). What differs between the strategies is only the choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minitransformer.checks import boolean, check_settings, integer, optional, real
from minitransformer.errors import UserError
from minitransformer.generation.inputs import Prompts, Stop, check_writes, checked_prompts, checked_stops, last_column
from minitransformer.models.layers import in_eval_mode
from minitransformer.text.tokenizer import Tokenizer

CHOICE = {
    "temperature": real(least=0),
    "top_k": optional(integer(1)),
    "top_p": optional(real(above=0, most=1)),
    "max_new_tokens": integer(0),
    "seed": optional(integer(-(2**63), 2**64 - 1)),
    "use_cache": boolean(),
}


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits (B, V) by the temperature: below 1 the likely gets likelier, above 1 less so.

    Source: Ackley, Hinton & Sejnowski, A Learning Algorithm for Boltzmann Machines, 1985, Eq. 5.
    """
    return (logits.double() / temperature).to(logits.dtype)  # in float32 a temperature of 1e-39 would be 0


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Rule out (-inf) all but the k likeliest tokens of each row of logits (B, V); ties with the k-th stay."""
    kth = logits.topk(min(k, logits.size(-1)), dim=-1).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Rule out (-inf) all but the fewest tokens of each row of logits (B, V) whose probabilities sum to p or more.

    The fewest are the likeliest: in each row, they stay until those before them hold p. With p = 1 all stay.

    Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020, Eq. 2 and 3.
    """
    if p >= 1:
        return logits.clone()
    sorted_logits, order = logits.sort(dim=-1, descending=True)
    # In float32, the sum of 50,000 probabilities is wrong by more than the last thousands of them.
    probs = sorted_logits.double().softmax(dim=-1)  # (B, V)
    before = probs.cumsum(dim=-1) - probs  # what likelier tokens hold already; 0 for the first, which stays
    rule_out = (before >= p).scatter(-1, order, before >= p)
    return logits.masked_fill(rule_out, float("-inf"))


def check_choice(settings: Mapping[str, Any]) -> None:
    """Refuse settings of sampling without meaning, and those that ask greedy decoding to draw."""
    check_settings(settings, CHOICE)
    for name in ("top_k", "top_p"):
        if settings["temperature"] == 0 and settings[name] is not None:
            raise UserError(
                f"{name} = {settings[name]} says which tokens to draw from, and temperature 0 draws none: it takes the "
                f"likeliest. Set temperature = 1.0 to sample, or leave {name} out."
            )


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token for each row of logits (B, V) → ids (B, 1); temperature 0 takes the likeliest.

    Probabilities are computed in float32, whatever the logits are. Refuses logits that are nan or +inf, or -inf alone.
    """
    check_choice({"temperature": temperature, "top_k": top_k, "top_p": top_p})
    largest = logits.amax(dim=-1, keepdim=True)  # (B, 1)
    if not bool(largest.isfinite().all()):
        raise UserError("The model's logits are nan or infinite: its weights are damaged, or overflow in this dtype.")
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)  # (B, 1)
    logits = apply_temperature((logits - largest).float(), temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (B, 1)


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int = 0) -> tuple[Tensor, Tensor | None]:
    """Stack prompts of different lengths, padded on the left so that all end together.

    Gives ids (B, T) and attention_mask (B, T), False at the padding; attention_mask is None where nothing was padded.
    Raises `UserError` for no prompt at all, or an empty one: a model needs a token to continue.
    """
    if not prompts:
        raise UserError("There is no prompt to continue: give at least one.")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"Prompt {row} is empty: give it at least one token, such as <|endoftext|>.")
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_id)  # (B, T)
    attention_mask = torch.zeros(len(prompts), longest, dtype=torch.bool)  # (B, T)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(prompt)
        attention_mask[row, longest - len(prompt) :] = True
    return ids, None if attention_mask.all() else attention_mask


def begin(
    model: Any, prompts: Prompts, stop_id: Stop, use_cache: bool, inputs: Collection[str]
) -> tuple[Tensor, Tensor | None, frozenset[int]]:
    """What every way of writing begins with: ids and attention_mask (B, T) where the model is, and the stops."""
    check_writes(model, use_cache, inputs)
    stops = checked_stops(stop_id, model)
    ids, attention_mask = left_pad(checked_prompts(prompts))
    device = next(model.parameters()).device
    return ids.to(device), None if attention_mask is None else attention_mask.to(device), stops


@torch.inference_mode()
def generate(
    model: Any,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_id: Stop = None,
    use_cache: bool = True,
    **inputs: Any,
) -> list[list[int]]:
    """Continue each prompt, token by token: gives the new tokens of each row, without the prompt.

    Args:
        model: a GPT or an encoder–decoder, called as model(ids, attention_mask=…, cache=…, at=…, **inputs).
        prompts: token ids; they may differ in length.
        max_new_tokens: the most tokens to add to each.
        temperature: 0 takes the likeliest token (greedy), 1 samples from the model's own distribution.
        top_k: sample among the k likeliest only.
        top_p: sample among the likeliest that together hold this much probability (nucleus sampling).
        seed: makes the draws repeatable; None draws anew each time. Greedy decoding draws nothing, and needs none.
        stop_id: a row ends where this token, or one of these tokens, comes; the token itself is not returned.
        use_cache: False computes every step from the beginning, to the same result: the measure of the cache.
        inputs: whatever else the model takes on every call, such as `prefix`.

    Refuses what is no prompt, a setting without meaning, top_k or top_p at temperature 0, a model that does not write,
    an input that it does not take, and more positions than it has.
    """
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "max_new_tokens": max_new_tokens}
    check_choice({**settings, "seed": seed, "use_cache": use_cache})
    ids, attention_mask, stops = begin(model, prompts, stop_id, use_cache, inputs)
    generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
    cache = model.new_cache() if use_cache else None
    last = last_column(ids)  # (B, T)
    rows: list[list[int]] = [[] for _ in ids]
    running = set(range(len(rows)))
    new, decode_step = ids, None  # what the model has not seen yet; a shortcut for one token, if it has one
    with in_eval_mode(model):  # dropout has no place in generation
        for i in range(max_new_tokens):
            if cache is None:
                logits = model(ids, attention_mask=attention_mask, at=last, **inputs)  # (B, V)
            elif decode_step is not None:
                logits = decode_step(new)  # (B, V)
            elif i > 0:
                logits = model(new, attention_mask=attention_mask, cache=cache, **inputs)[:, -1]  # (B, V)
            else:
                logits = model(new, attention_mask=attention_mask, cache=cache, at=last, **inputs)  # (B, V)
                if attention_mask is None and hasattr(model, "decode_step"):
                    decode_step = model.decode_step(cache)
            new = choose(logits, temperature, top_k, top_p, generator)  # (B, 1)
            for row, token in enumerate(new[:, 0].tolist()):
                if row in running:
                    if token in stops:
                        running.discard(row)
                    else:
                        rows[row].append(token)
            if not running:
                break
            if attention_mask is not None:
                attention_mask = F.pad(attention_mask, (0, 1), value=True)  # (B, S+1)
            if cache is None:
                ids = torch.cat([ids, new], dim=1)  # (B, T+1)
                last = F.pad(last, (1, 0))  # (B, T+1)
    return rows


def generate_texts(
    model: Any, tokenizer: Tokenizer, prompts: Prompts, max_new_tokens: int, **settings: Any
) -> list[str]:
    """What a GPT goes on with after each prompt, as text, up to stop_id (where it ends the text); as `generate`."""
    new = generate(model, prompts, max_new_tokens, **{"stop_id": tokenizer.eot_id, **settings})
    return [tokenizer.decode(ids) for ids in new]
