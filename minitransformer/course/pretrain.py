"""`make pretrain`: the bases that the tuning lessons load, made again from nothing, each in about an hour at most.

Every base is trained on one thread, so that the numbers come out the same on one core as on eight, and two at a time. A
run that was stopped goes on from its last evaluation. Under torchrun the processes train one base after the other
together.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minitransformer.checkpoint import save_model
from minitransformer.course import devices, shipped
from minitransformer.course.bases import FOLDER, KINDS, TUNED, about_base, load_base, prefix_path
from minitransformer.course.batches.denoising import Denoising
from minitransformer.course.batches.packed import pack, packed_batches
from minitransformer.course.batches.pairs import SentencePairs, split_sentences
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.output.terminal import say, table
from minitransformer.course.show import QUICK
from minitransformer.course.skills import SKILLS
from minitransformer.course.tasks import task_ids
from minitransformer.course.tinyworld import Dice, documents
from minitransformer.course.together import joined, of_the_first
from minitransformer.course.workers import for_each
from minitransformer.errors import UserError
from minitransformer.files import write_aside
from minitransformer.models.bert import Bert, BertConfig
from minitransformer.models.gpt import GPTConfig
from minitransformer.models.seq2seq import Seq2SeqConfig
from minitransformer.text.batches import Batch
from minitransformer.text.batches.completion import Completions
from minitransformer.text.corpora import Windows, eval_windows, token_stream
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.training.loop import TrainConfig, train
from minitransformer.training.losses import Loss, bert_loss, language_model_loss, seq2seq_loss
from minitransformer.training.processes import is_alone, is_first
from minitransformer.tuning import PrefixTuning

UNFINISHED = DATA / "bases" / "unfinished"  # states of training, so that a run can go on; not committed
EVAL_EVERY = 500


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one mix of texts, with its own warm-up and cosine."""

    mix: str
    steps: int
    lr: float
    warmup: int = 100
    whole: bool = False  # of a GPT: no document is cut at a window's edge
    seed: int = 0  # another one gives other documents of the same mix


Batches = Callable[[int], Batch]
Source = Callable[[Phase, Tokenizer, nn.Module], tuple[Batches, Sequence[Batch]]]


@dataclass(frozen=True)
class Recipe:
    """All that decides what a base becomes."""

    config: GPTConfig | BertConfig | Seq2SeqConfig
    phases: tuple[Phase, ...]
    source: Source
    loss: Loss


def windows(phase: Phase, tokenizer: Tokenizer, model: nn.Module) -> tuple[Batches, Sequence[Batch]]:
    """For a GPT: a stream of documents, each seen once, in windows of all its positions; or in rows of whole ones."""
    length, rows = model.config.n_positions, 4
    if phase.whole:

        def batches(split: str, n: int) -> list[Batch]:
            found, texts, end = [], documents(split, phase.mix, phase.seed), tokenizer.eot_id
            while len(found) < n:  # a few thousand documents at a time, each time packed anew
                ids = tokenizer.encode_batch([document.text for document in islice(texts, 4000)])
                found += packed_batches(pack(ids, length, end), rows, end)[:-1]  # the last is not full
            return found[:n]

        return batches("train", phase.steps).__getitem__, batches("valid", 32)

    def stream(split: str, n: int) -> torch.Tensor:
        parts, total, texts = [], 0, documents(split, phase.mix, phase.seed)
        while total < n:
            parts.append(token_stream([document.text for document in islice(texts, 2000)], tokenizer)[:-1])
            total += len(parts[-1])
        return torch.cat(parts)[:n]

    trained = stream("train", phase.steps * rows * length + length + 44)
    return Windows(trained, length, rows), eval_windows(stream("valid", 60_000), length, 16, most=128)


def sentence_pairs(phase: Phase, tokenizer: Tokenizer, model: nn.Module) -> tuple[Batches, Sequence[Batch]]:
    """For a BERT: two passages of a document, cut at one place; or the two lines of one that says things twice."""
    rows = 8

    def passages(split: str, n: int) -> list[list[str]]:
        cut: list[list[str]] = []
        for i, document in enumerate(documents(split, phase.mix, phase.seed)):
            parts = document.text.split("\n") if "\n" in document.text else split_sentences(document.text)
            if len(parts) > 1:
                k = Dice("passages", split, phase.mix, phase.seed, i).integer(1, len(parts) - 1)
                cut.append([" ".join(parts[max(0, k - 4) : k]), " ".join(parts[k : k + 4])])
            if len(cut) == n:
                return cut
        return cut

    make = partial(SentencePairs, tokenizer=tokenizer, n_positions=model.config.n_positions)
    valid = make(passages("valid", 800), batch_size=20, seed=1)
    trained = make(passages("train", (phase.steps + 1) * rows), batch_size=rows, fraction=MASKED)
    return trained, [valid(i) for i in range(40)]


def rewritings(phase: Phase, tokenizer: Tokenizer, model: nn.Module) -> tuple[Batches, Sequence[Batch]]:
    """For an encoder–decoder: a text with holes and the text; or, of what is said twice, the one and the other."""
    rows, config = 16, model.config

    def pairs(split: str, n: int) -> tuple[list[list[int]], list[list[int]]]:
        texts = [document.text for document in islice(documents(split, phase.mix, phase.seed), n)]
        halves = [text.split("\n", 1) if "\n" in text else [text, text] for text in texts]
        first, second = (tokenizer.encode_batch([pair[side] for pair in halves]) for side in (0, 1))
        fits = [max(len(a), len(b) + 2) <= config.n_positions for a, b in zip(first, second, strict=True)]
        return tuple([ids for ids, fit in zip(side, fits, strict=True) if fit] for side in (first, second))

    valid = Denoising(*pairs("valid", 500), config, 20, tokenizer.mask_id, seed=1)
    trained = Denoising(*pairs("train", (phase.steps + 1) * rows), config, rows, tokenizer.mask_id)
    return trained, [valid(i) for i in range(20)]


MASKED = 0.4  # of the words, in a BERT's training (Wettig et al. 2022); it is validated at BERT's own 0.15

RECIPES = {
    "gpt": Recipe(
        GPTConfig(n_positions=256),
        (
            Phase("pretrain", 10_000, 4e-3),
            Phase("skills", 9_500, 3e-3),
            Phase("retelling", 14_000, 3e-3),
            Phase("retelling", 8_000, 2e-3, whole=True, seed=1),
        ),
        windows,
        language_model_loss,
    ),
    "bert": Recipe(
        BertConfig(n_positions=192), (Phase("reading", 8_000, 1e-3, warmup=500),), sentence_pairs, bert_loss
    ),
    "seq2seq": Recipe(
        Seq2SeqConfig(n_positions=192), (Phase("two languages", 12_000, 1e-3, warmup=300),), rewritings, seq2seq_loss
    ),
}


@torch.no_grad()
def start_near(model: Bert) -> Bert:
    """Let a fresh BERT begin by looking at what stands near, and at what is alike; gives the same model.

    A [MASK] says nothing of the word that it hides; only its place helps. From plain random weights a small BERT takes
    very long to find that out. So positions start as sines, alike for neighbours; each head's keys start equal to its
    queries, so that alike attracts alike; and what each sublayer adds starts small, as in `GPT`. Training may change
    all of it. BERT itself starts from plain random weights.

    Source: Trockman & Kolter, Mimetic Initialization of Self-Attention Layers, 2023, §4.
    """
    config, C = model.config, model.config.d_model
    rates = torch.exp(-math.log(100) * torch.arange(0, C, 2) / C)  # of the sines, (C/2)
    angles = torch.arange(config.n_positions)[:, None] * rates  # (n_positions, C/2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :C]  # (n_positions, C)
    model.position_embedding.weight.copy_(waves * config.init_std * 5 / 3)
    for block in model.blocks:
        qkv = block.attention.qkv.weight
        qkv[:C] *= 2
        qkv[C : 2 * C] = qkv[:C]
        for weight in (block.attention.out.weight, block.mlp.down.weight):
            weight /= math.sqrt(2 * config.n_layer)
    return model


def build(kind: str, folder: Path = FOLDER, shrink: int = 1, device: str = "cpu", precision: str = "fp32") -> dict:
    """Train one base and save it with how it was made and what it can do.

    In several processes all of them train; the first one does the rest.

    Args:
        kind: "gpt", "bert" or "seq2seq".
        folder: where to.
        shrink: divides the steps of every phase; above 1 it is a trial run.
        device: where to compute.
        precision: "fp32" or "bf16".

    Returns:
        What stands beside the weights: recipe, seconds, validation loss, and of the first process skills.

    Raises:
        UserError: no such kind; a state of training that belongs to another recipe.
    """
    if kind not in RECIPES:
        raise UserError(f"There is no base {kind!r}; there are {', '.join(RECIPES)}.")
    torch.set_num_threads(1)
    recipe, tokenizer = RECIPES[kind], default_tokenizer()
    torch.manual_seed(0)
    model = KINDS[kind][0](recipe.config)
    if isinstance(model, Bert):
        start_near(model)
    model.to(device)
    phases, seconds = [], 0.0
    for number, full in enumerate(recipe.phases, 1):
        phase = Phase(full.mix, max(full.steps // shrink, 20), full.lr, full.warmup)
        checkpoint = folder / UNFINISHED.name / f"{kind}.{number}.safetensors"
        source, held_out = recipe.source(phase, tokenizer, model)
        batches, valid = devices.on_device(source, device), devices.moved(held_out, device)
        began = time.time()

        def tell(step: int, loss: float, phase: Phase = phase, began: float = began) -> None:
            if is_first():
                print(
                    f"{kind}, {phase.mix}: step {step:,} of {phase.steps:,}, validation loss {loss:.3f}, "
                    f"{time.time() - began:.0f} s",
                    flush=True,
                )

        log = train(
            model,
            batches,
            TrainConfig(phase.steps, phase.lr, phase.warmup, final_lr=0.02, eval_every=EVAL_EVERY),
            valid=valid,
            loss=devices.lowered(recipe.loss, device, precision),
            progress=False,
            on_eval=tell,
            checkpoint=checkpoint,
        )
        seconds += log.seconds
        phases.append(
            {
                **asdict(phase),
                "valid": [[row["step"], row["loss"]] for row in log.valid],
                "tokens": sum(row["tokens"] for row in log.train),
            }
        )
    about = {
        "phases": phases,
        "seconds": round(seconds),
        "valid_loss": phases[-1]["valid"][-1][1],
        "torch": torch.__version__,
    }
    if not is_first():
        return about
    about["skills"] = SKILLS[type(model)](model.cpu(), tokenizer)
    save_model(folder / f"{kind}.safetensors", model, about)
    if folder == FOLDER:
        shipped.add([folder / f"{kind}.safetensors"])
    return about


# One prefix for each task on the committed GPT, and for how many steps of 16 examples each was trained.
PREFIXES = {
    "table_to_text": 1000,
    "dialogue": 1000,
    "news_summary": 400,
    "sport_summary": 400,
    "qa": 1000,
    "formal": 200,
    "headline": 600,
    "child": 200,
    "poetic": 200,
    "pirate": 200,
}


def tune_prefix(task: str, folder: Path = TUNED, shrink: int = 1, device: str = "cpu", precision: str = "fp32") -> None:
    """Train the prefix of one task; all have one length, so that a batch may mix them.

    Args:
        task: its name.
        folder: where to.
        shrink: divides the steps; above 1 it is a trial run.
        device: where to compute.
        precision: "fp32" or "bf16".

    Raises:
        UserError: no such task.
    """
    torch.set_num_threads(1)
    tokenizer, base = default_tokenizer(), load_base("gpt").to(device)
    batches = Completions(*task_ids(task, "train", tokenizer), tokenizer.eot_id, 16, base.config.n_positions - 20)
    torch.manual_seed(0)
    method = PrefixTuning(20, reparametrise=256).attach(base)
    config = TrainConfig(max(PREFIXES[task] // shrink, 2), lr=4e-3, warmup=20, final_lr=0.02, weight_decay=0.0)
    loss = devices.lowered(language_model_loss, device, precision)
    log = train(base, devices.on_device(batches, device), config, loss=loss, progress=False)
    if not is_first():
        return
    method.save(prefix_path(task, folder), made_by="make pretrain")
    if folder == TUNED:
        shipped.add([prefix_path(task, folder)])
    print(
        f"{task}: a prefix, {config.steps:,} steps, training loss {log.train[-1]['loss']:.3f}, {log.seconds:.0f} s",
        flush=True,
    )


def main(kinds: Sequence[str] = (), device: str = "cpu", precision: str = "fp32") -> None:
    """Train the bases, two at a time, and write data/bases/README.md about them; then the prefixes on the GPT.

    Args:
        kinds: which of them; "prefixes" are those of all tasks, on the GPT as it is.
        device: where to compute.
        precision: "fp32" or "bf16".

    Raises:
        UserError: as `build`; a device or a precision that is not to be had.
    """
    devices.check(device, precision)
    bases = [kind for kind in kinds if kind != "prefixes"] if kinds else list(RECIPES)
    for kind in bases:
        if kind not in RECIPES:
            raise UserError(f"There is no base {kind!r}; there are {', '.join(RECIPES)}.")
    how = {"shrink": 200 if QUICK else 1, "device": device, "precision": precision}
    with joined(device):
        if bases:
            pretrain(bases, how)
        if "gpt" in bases or "prefixes" in kinds:  # they belong to the GPT's weights
            folder = TUNED / "trial" if QUICK else TUNED
            each(partial(tune_prefix, folder=folder, **how), list(PREFIXES))


def pretrain(kinds: Sequence[str], how: Mapping[str, Any]) -> None:
    """Train these bases, as the last arguments of `build` say, and write down what they can do."""
    folder = FOLDER / "trial" if QUICK else FOLDER
    say(f"Training {', '.join(kinds)}, a thread each, {'a trial run' if QUICK else 'up to an hour each'}.\n")
    found = dict(zip(kinds, each(partial(build, folder=folder, **how), kinds), strict=True))
    rows = [(kind, skill, value) for kind, about in found.items() for skill, value in about["skills"].items()]
    table(rows, ["base", "skill, on worlds that it never saw", "share right"], [None, None, ".3f"])
    if not QUICK and is_first():
        write_aside(FOLDER / "README.md", datasheet().encode())


def each(work: Callable[[str], Any], items: Sequence[str]) -> list[Any]:
    """The results of `work(item)`: two items at a time; under torchrun one at a time, by all processes together."""
    if is_alone():
        return for_each(work, items)
    return [of_the_first(work(item)) for item in items]


def datasheet() -> str:
    """The text of data/bases/README.md, from what stands beside the weights."""
    lines = [
        "# The bases",
        "",
        "Written by `python -m minitransformer pretrain` (`make pretrain`) with the weights; do not edit.",
        "",
        "Three small models, trained on the tiny world from nothing "
        "(`minitransformer/course/pretrain.py`), which the tuning "
        "lessons load and freeze. The skills are measured on names and worlds of the test split, with "
        "`minitransformer/course/skills.py`; each is a fraction of 1. "
        "Times are those of the run, with other work beside it.",
        "",
    ]
    for kind in RECIPES:
        about = about_base(kind)
        n = sum(p.numel() for p in load_base(kind).parameters())
        minutes, config = about["seconds"] / 60, json.dumps(about["config"])
        lines += [f"## {kind}", "", f"{n:,} parameters, {minutes:.0f} minutes on one thread. `{config}`", ""]
        lines += ["| mix of texts | steps | labels | learning rate | validation loss |", "|---|---:|---:|---:|---:|"]
        for p in about["phases"]:
            mix = p["mix"] + ", whole documents" * p["whole"]
            lines.append(f"| {mix} | {p['steps']:,} | {p['tokens']:,} | {p['lr']:g} | {p['valid'][-1][1]:.3f} |")
        lines += ["", "| skill | share |", "|---|---:|"]
        lines += [f"| {skill} | {value:.3f} |" for skill, value in about["skills"].items()] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
