"""What the living figures show at first, computed by PyTorch and kept in data/records/.

The still pictures are drawn from these numbers, and the tests hold the scripts of the page to them. All weights are
rounded to half precision first, because that is what the page computes with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor

from minitransformer.checkpoint import load_weights
from minitransformer.course.bases import FOLDER, load_base, prefix_path
from minitransformer.course.book import export
from minitransformer.course.book.living import FIGURES
from minitransformer.course.data import DATA, DEFAULT_PATH, default_tokenizer
from minitransformer.course.fingerprints import fingerprint
from minitransformer.course.tasks import prompt_ids, task_ids
from minitransformer.files import write_aside
from minitransformer.generation.sampling import generate
from minitransformer.models import attention
from minitransformer.models.attention import Prefix
from minitransformer.models.gpt import GPT
from minitransformer.models.watch import watch_attention
from minitransformer.text.batches.completion import Completions, completion_batch
from minitransformer.text.tokenizer import Tokenizer, bpe_encode
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import FullFineTuning
from minitransformer.tuning.prefix import activations, to_flat, to_prefixes

RECORDS = DATA / "records"
LIVING = RECORDS / "living.json"
CHANGED = "blocks.1.attention.qkv.weight"  # the weight whose change the figure "rank" takes apart
SETTINGS = {figure.name: figure.settings for figure in FIGURES}
VIRTUAL, RATE, WARMUP, STEPS = 10, 0.1, 5, 15  # as page/living/train.js has them


def record(path: Path = LIVING) -> None:
    """Compute every figure's numbers, and the change for the figure "rank"; some minutes.

    Raises:
        UserError: a base, a prefix or a task's data is missing or damaged; no room on the disk.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gpt, tokenizer = rounded_base(), default_tokenizer()
    write_aside(export.CHANGE, changed_weight(tokenizer))
    numbers = {
        "merges": merges(tokenizer),
        "attention": attention_row(gpt, tokenizer),
        "sampling": next_tokens(gpt, tokenizer),
        "switch": switch(gpt, tokenizer),
        "share": share(gpt, tokenizer),
        "train": trained(gpt, tokenizer),
        "rank": spectrum(),
    }
    about = {"torch": torch.__version__, "inputs": inputs()}
    text = json.dumps({"about": about, **numbers}, ensure_ascii=False, indent=1)
    write_aside(path, text.encode() + b"\n")


def inputs() -> dict[str, str]:
    """What the numbers were computed from: file → fingerprint."""
    files = [FOLDER / "gpt.safetensors", DEFAULT_PATH, *map(prefix_path, export.PREFIXES)]
    files += [DATA / "tasks" / "styles" / "train.jsonl", Path(__file__)]
    root = DATA.parent
    return {file.relative_to(root).as_posix(): fingerprint(file) for file in files}


def rounded_base() -> GPT:
    """The GPT base with the weights that the page has."""
    gpt = load_base("gpt")
    load_weights(gpt, {k: v.float() for k, v in load_safetensors(export.base_file()).items()}, "the exported base")
    return gpt


def prefix_of(name: str, gpt: GPT) -> list[Prefix] | None:
    """A style's prefix with the page's numbers; None for "none"."""
    if name == "none":
        return None
    flat = load_safetensors(export.prefix_file(prefix_path(name)))["prefix"].float()  # (P, n_layer*2*C)
    return to_prefixes(flat, gpt.config.n_layer, gpt.config.n_head)


# ---------------------------------------------------------------- figure by figure


def merges(tokenizer: Tokenizer) -> dict[str, Any]:
    """How many tokens the text takes with vocabularies of different sizes."""
    text = SETTINGS["merges"]["text"]
    sizes = [256, 512, 1024, len(tokenizer.ranks)]
    counts = {}
    for size in sizes:
        known = {token: rank for token, rank in tokenizer.ranks.items() if rank < size}
        counts[size] = len(bpe_encode(text, known))
    bars = [[f"{size:,} tokens: the text takes {count}", count / counts[256]] for size, count in counts.items()]
    return {"counts": {str(size): count for size, count in counts.items()}, "bars": bars}


@torch.inference_mode()
def attention_row(gpt: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """The weights of the last row, in the first head of the first layer, without a prefix."""
    ids = tokenizer.encode(SETTINGS["attention"]["text"])
    with watch_attention(gpt) as seen:
        gpt(torch.tensor([ids]))
    row = seen["blocks.0.attention"][0][0, 0, -1]  # (S)
    values, order = row.sort(descending=True, stable=True)
    bars = [[tokenizer.token(ids[i]), p] for p, i in zip(values.tolist(), order.tolist(), strict=True)]
    return {"row": row.tolist(), "bars": bars[:6]}


@torch.inference_mode()
def next_tokens(gpt: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """The likeliest next tokens."""
    p = gpt(torch.tensor([prompt_ids(SETTINGS["sampling"]["text"], tokenizer)]))[0, -1].softmax(-1)  # (V)
    values, order = p.topk(12)
    entropy = -(p * p.clamp(min=1e-30).log2()).sum().item()
    bars = [[tokenizer.token(i), v] for v, i in zip(values.tolist(), order.tolist(), strict=True)]
    return {"bars": bars, "entropy": entropy}


def written(gpt: GPT, tokenizer: Tokenizer, text: str, prefix: Sequence[Prefix] | None, most: int) -> str:
    """What the base goes on with after a sentence, and a line's end."""
    (ids,) = generate(gpt, [prompt_ids(text + "\n", tokenizer)], most, stop_id=tokenizer.eot_id, prefix=prefix)
    return tokenizer.decode(ids).strip()


@torch.inference_mode()
def switch(gpt: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """The sentence under each prefix; λ by layer and head where the first one wrote."""
    settings = SETTINGS["switch"]
    names = ["none", *settings["prefixes"].split()]
    texts = {name: written(gpt, tokenizer, settings["text"], prefix_of(name, gpt), 50) for name in names}
    x = prompt_ids(settings["text"] + "\n", tokenizer)
    prefix = prefix_of(settings["prefix"], gpt)
    (y,) = generate(gpt, [x], 50, stop_id=tokenizer.eot_id, prefix=prefix)
    with watch_attention(gpt) as seen:
        gpt(torch.tensor([[*x, *y]]), prefix=prefix)
    P = prefix[0].k.size(2)
    lam = torch.stack([calls[0][0, :, len(x) - 1 :, :P].sum(-1).mean(-1) for calls in seen.values()])  # (n_layer, H)
    return {"texts": texts, "lambda": lam.tolist()}


@contextmanager
def weighed(n_prefix: int, factor: float) -> Iterator[None]:
    """Multiply the weights of the first columns, before normalisation, inside the block."""
    attend = attention.attend

    def with_factor(
        q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        T, S = q.size(2), k.size(2)
        seen = torch.ones(T, S, dtype=torch.bool).tril(S - T)  # causal, all earlier columns
        bias = torch.zeros(T, S).masked_fill(~seen, float("-inf"))
        bias[:, :n_prefix] += torch.tensor(factor).log()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    attention.attend = with_factor
    try:
        yield
    finally:
        attention.attend = attend


@torch.inference_mode()
def share(gpt: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """The sentence with the prefix muted, as it is, and stronger; and λ of the last token of x in the lowest layer."""
    settings = SETTINGS["share"]
    prefix = prefix_of(settings["prefix"], gpt)
    P = prefix[0].k.size(2)
    texts = {}
    for factor in (0.0, 0.5, 1.0, 2.0, 3.0):
        with weighed(P, factor):
            x = prompt_ids(settings["text"] + "\n", tokenizer)
            ids = generate(gpt, [x], 40, stop_id=tokenizer.eot_id, prefix=prefix, use_cache=False)[0]
        texts[f"× {factor:g}"] = tokenizer.decode(ids).strip()
    texts["without"] = written(gpt, tokenizer, settings["text"], None, 40)
    with watch_attention(gpt) as seen:
        gpt(torch.tensor([x]), prefix=prefix)
    return {"texts": texts, "lambda": seen["blocks.0.attention"][0][0, 0, -1, :P].sum().item()}


def trained(gpt: GPT, tokenizer: Tokenizer) -> dict[str, Any]:
    """The page's training, by PyTorch: losses, and what the prefix writes on the way."""
    settings = SETTINGS["train"]
    pairs = json.loads(export.pairs_file())[settings["style"]]
    xs = [prompt_ids(x + "\n", tokenizer) for x, _ in pairs]
    ys = [tokenizer.encode(y) for _, y in pairs]
    task_words = [i for y in ys for i in y]
    start = to_flat(activations(gpt, torch.tensor([[task_words[i] for i in range(VIRTUAL)]]))["prefix"])
    flat = start.clone().requires_grad_()  # P_θ (P, n_layer*2*C)
    batch = completion_batch(xs, ys, tokenizer.eot_id)
    optimizer = torch.optim.Adam([flat], lr=RATE, betas=(0.9, 0.95))
    unpacked = partial(to_prefixes, n_layer=gpt.config.n_layer, n_head=gpt.config.n_head)
    losses: list[float] = []
    texts = {"after 0 steps": written(gpt, tokenizer, settings["text"], unpacked(flat.detach()), 45)}
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP)
        optimizer.zero_grad()
        loss, count = language_model_loss(lambda ids, **more: gpt(ids, prefix=unpacked(flat), **more), batch)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_([flat], 1.0)
        optimizer.step()
        losses.append(loss.item() / count)
        if (step + 1) % 5 == 0:
            name = f"after {step + 1} steps"
            texts[name] = written(gpt, tokenizer, settings["text"], unpacked(flat.detach()), 45)
    return {"losses": losses, "texts": texts}


def changed_weight(tokenizer: Tokenizer) -> bytes:
    """What full fine-tuning on a style changes in one weight, as the page's file."""
    gpt = load_base("gpt")
    before = gpt.state_dict()[CHANGED].clone()
    torch.manual_seed(0)
    FullFineTuning().attach(gpt)
    xs, ys = task_ids("pirate", "train", tokenizer)
    batches = Completions(xs, ys, tokenizer.eot_id, 8, gpt.config.n_positions)
    config = TrainConfig(steps=150, lr=1e-3, warmup=15, final_lr=0.02, weight_decay=0.0)
    train(gpt, batches, config, progress=False)
    change = gpt.get_parameter(CHANGED).detach() - before  # (3*C, C)
    about = {"shape": list(change.shape), "weight": CHANGED, "method": "full fine-tuning on the style pirate"}
    return export.as_file({"change": change}, about)


def spectrum() -> dict[str, Any]:
    """The singular values of that change, and the rank that holds half and nine tenths of it."""
    change = load_safetensors(export.CHANGE.read_bytes())["change"].float()
    values = torch.linalg.svdvals(change)  # (C)
    held = (values**2).cumsum(0) / (values**2).sum()
    bars = [[f"rank {r}", held[r - 1].item()] for r in (1, 2, 4, 8, 16, 32, 64)]
    return {"values": values.tolist(), "bars": bars}


def is_stale(path: Path = LIVING) -> bool:
    """Whether there are no recorded numbers, or they were computed from other files than there are now."""
    return not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["about"]["inputs"] != inputs()
