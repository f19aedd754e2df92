"""What tuning costs: time and memory of a step of training, time of a written token, bytes to keep (000 §1.3, §2.2).

All methods run in turn (`timing.py`), on the same batches. What is told is the median over the rounds.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from minitransformer.course.lab.roster import own_methods
from minitransformer.course.timing import in_turn, update
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPT
from minitransformer.text.batches import Batch
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import Adapter, FullFineTuning, LoRA, Method, PrefixTuning, PromptTuning

CHOSEN: Mapping[str, Callable[[], Method]] = {  # which the claim `cost` is judged by
    "full": FullFineTuning,
    "prefix": lambda: PrefixTuning(10, reparametrise=256),
    "prefix, direct": lambda: PrefixTuning(10),
    "prompt": lambda: PromptTuning(44),
    "adapter": lambda: Adapter(10),
    "LoRA": lambda: LoRA(11),
}


def others() -> dict[str, Callable[[], Method]]:
    """The first example of every other method of the library that needs no special text."""
    known = {type(make()) for make in CHOSEN.values()}
    found: dict[str, Callable[[], Method]] = {}
    for kind in own_methods().values():
        if kind not in known and GPT in kind.goes_onto and not kind.reads_virtual_ids:
            name, settings = next(iter(kind.examples.items()))
            found[name] = partial(kind, **settings)
    return found


OTHERS = others()
METHODS = {**CHOSEN, **OTHERS}
QUANTITIES = {
    "step": "milliseconds of a step of training: forward, backward, Adam",
    "token": "milliseconds of a token that is written, one text at a time, greedily",
    "memory": "MB that training holds beside the weights: gradients and Adam's two moments of what is trained",
    "kept": "MB that are stored for the task",
}
FLOAT = 4  # bytes


def costs(
    base: GPT,
    batches: Callable[[int], Batch],
    prompts: Sequence[list[int]],
    names: Sequence[str] = tuple(METHODS),
    rounds: int = 20,
    most: int = 40,
) -> dict[str, float]:
    """Every quantity of these methods, as "prefix step".

    Args:
        base: tuned in copies; it stays as it is.
        batches: batch number i.
        prompts: one is written on in each round.
        names: of the methods, from `METHODS`.
        rounds: of each measurement, after one that is not counted.
        most: tokens that are written.
    """
    steps, writers, found = {}, {}, {}
    for name in names:
        model = copy.deepcopy(base)
        method = METHODS[name]().attach(model)
        report = method.report()
        found[f"{name} memory"] = 3 * report.trained * FLOAT / 1e6
        found[f"{name} kept"] = report.stored * FLOAT / 1e6

        def mean_loss(i: int, model: GPT = model) -> Tensor:
            total, count = language_model_loss(model.train(), batches(i))
            return total / count

        steps[name] = update(model, mean_loss, lr=1e-4)
        writers[name] = lambda i, model=model: generate(model.eval(), [prompts[i % len(prompts)]], most)
    for quantity, functions, per in (("step", steps, 1), ("token", writers, most)):
        for name, seconds in in_turn(functions, rounds).items():
            found[f"{name} {quantity}"] = 1e3 * statistics.median(seconds) / per
    return found
