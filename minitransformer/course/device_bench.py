"""What training, tuning and writing reach on a device, beside a matrix product there: `bench --device cuda`.

A GPT of GPT-2's sizes with random weights, in one run of a few minutes. The matrix product is as large as the device
likes it, so that a fraction of its speed is a fraction of what the device can really do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minitransformer.course import devices
from minitransformer.course.bench import flops_per_token, transformers_gpt2
from minitransformer.course.output.terminal import say, table
from minitransformer.course.show import QUICK
from minitransformer.course.timing import in_turn, update
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches import IGNORE
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import PrefixTuning

PREFIX, PROMPT = 10, 16


@dataclass(frozen=True)
class Setting:
    """What is measured, and where."""

    device: str
    precision: str
    config: GPTConfig = GPTConfig(50257, 1024, n_layer=12, n_head=12, d_model=768, d_ff=3072, init_std=0.02)
    batch: int = 8
    product: int = 8192  # rows and columns of the matrix product
    rounds: int = 10
    backend: str = "inductor"  # of torch.compile

    def timed(self, work: Mapping[str, Callable[[int], object]]) -> dict[str, list[float]]:
        """Seconds of each, in turn, with the device's own work finished before the clock is read."""

        def finished(function: Callable[[int], object]) -> Callable[[int], None]:
            def once(i: int) -> None:
                with devices.autocast(self.device, self.precision):
                    function(i)
                if self.device != "cpu":
                    getattr(torch, self.device).synchronize()

            return once

        return in_turn({name: finished(function) for name, function in work.items()}, self.rounds, progress=True)

    def peak_memory(self, function: Callable[[int], object]) -> float:
        """The most MB held at once on a CUDA device beside weights and Adam's state; nan where nobody counts it."""
        if self.device != "cuda":
            return float("nan")
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.timed({"": function})
        return (torch.cuda.max_memory_allocated() - before) / 1e6


SMALL = {  # sizes for a trial
    "config": GPTConfig(96, 32, n_layer=2, n_head=2, d_model=16, d_ff=32),
    "batch": 2,
    "product": 64,
    "rounds": 1,
}


def product_flops(setting: Setting) -> float:
    """Floating-point operations a second of a large matrix product, the fastest of some rounds."""
    a, b = torch.randn(2, setting.product, setting.product, device=setting.device)
    (seconds,) = setting.timed({"product": lambda _: a @ b}).values()
    return 2 * setting.product**3 / min(seconds)


def training(setting: Setting) -> dict[str, list[float]]:
    """A step of training: ours, ours under torch.compile, and transformers' GPT-2 under torch.compile."""
    ids = _ids(setting)
    ours = GPT(setting.config).to(setting.device).train()
    theirs = transformers_gpt2(setting.config).to(setting.device).train()
    compiled, their_compiled = (torch.compile(model, backend=setting.backend) for model in (ours, theirs))

    def loss_of(model: Callable) -> Callable[[int], Tensor]:
        def mean_loss(_: int) -> Tensor:
            total, count = language_model_loss(model, {"ids": ids})
            return total / count

        return mean_loss

    return setting.timed(
        {
            "minitransformer": update(ours, loss_of(ours)),
            "minitransformer, compiled": update(ours, loss_of(compiled)),
            "transformers, compiled": update(
                theirs, lambda _: their_compiled(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss
            ),
        }
    )


def tuning(setting: Setting) -> dict[str, Callable[[int], None]]:
    """A step of prefix tuning, half of whose text is a prompt: ours, peft's, and ours of full fine-tuning."""
    import peft

    config = replace(setting.config, n_positions=setting.config.n_positions + PREFIX)
    ids = _ids(setting)
    labels = ids.clone()
    labels[:, : setting.config.n_positions // 2] = IGNORE
    tuned, full = (GPT(config).to(setting.device).train() for _ in range(2))
    PrefixTuning(PREFIX).attach(tuned)
    prefix = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PREFIX)
    theirs = peft.get_peft_model(transformers_gpt2(config), prefix).to(setting.device).train()

    def loss_of(model: GPT) -> Callable[[int], Tensor]:
        def mean_loss(_: int) -> Tensor:
            total, count = language_model_loss(model, {"ids": ids, "labels": labels})
            return total / count

        return mean_loss

    return {
        "prefix, minitransformer": update(tuned, loss_of(tuned)),
        "prefix, peft": update(theirs, lambda _: theirs(input_ids=ids[:, :-1], labels=labels[:, :-1]).loss),
        "full, minitransformer": update(full, loss_of(full)),
    }


def writing(setting: Setting) -> dict[str, list[float]]:
    """Greedy generation of a text: ours, and transformers'."""
    ours = GPT(setting.config).to(setting.device).eval()
    theirs = transformers_gpt2(setting.config).to(setting.device).eval()
    prompt = torch.randint(1, setting.config.vocab_size, (1, PROMPT), device=setting.device)
    n = _written(setting)
    return setting.timed(
        {
            "minitransformer": lambda _: generate(ours, prompt.tolist(), n),
            "transformers": lambda _: theirs.generate(
                prompt, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0
            ),
        }
    )


def _written(setting: Setting) -> int:
    return min(256, setting.config.n_positions - PROMPT)


def _ids(setting: Setting) -> Tensor:
    config = setting.config
    return torch.randint(config.vocab_size, (setting.batch, config.n_positions + 1), device=setting.device)


def main(device: str, precision: str, **smaller: object) -> None:
    """Measure and print all of it; QUICK=1 is a trial.

    Args:
        device: "cuda", "mps" or "cpu".
        precision: "fp32" or "bf16".
        smaller: other values of a `Setting`.

    Raises:
        UserError: a device or a precision that is not to be had.
    """
    devices.check(device, precision)
    torch.manual_seed(0)
    setting = Setting(device, precision, **{**(SMALL if QUICK else {}), **smaller})
    name = torch.cuda.get_device_name() if device == "cuda" else device
    n = sum(p.numel() for p in GPT(setting.config).parameters())
    peak, tokens = product_flops(setting), setting.batch * setting.config.n_positions
    say(
        f"{name}, {precision}, PyTorch {torch.__version__}; a GPT of {n / 1e6:.1f}M parameters, batch {setting.batch} "
        f"of {setting.config.n_positions} tokens. A product of matrices of {setting.product} rows and columns makes "
        f"{peak / 1e12:.3g} TFLOP/s.\n"
    )
    rows = []
    for what, seconds in training(setting).items():
        speed = tokens / statistics.median(seconds)
        rows.append((what, speed, speed * flops_per_token(setting.config) / peak, min(seconds), max(seconds)))
    table(
        rows,
        ["training step", "tokens/s", "of the matrix product", "fastest s", "slowest s"],
        [None, ",.0f", ".1%", ".4f", ".4f"],
    )
    steps = tuning(setting)
    rows = [
        (what, tokens / statistics.median(seconds), min(seconds), max(seconds), setting.peak_memory(steps[what]))
        for what, seconds in setting.timed(steps).items()
    ]
    table(
        rows,
        [f"tuning step, P = {PREFIX}", "tokens/s", "fastest s", "slowest s", "peak memory, MB"],
        [None, ",.0f", ".4f", ".4f", ",.0f"],
    )
    n = _written(setting)
    rows = [(what, n / statistics.median(s), min(s), max(s)) for what, s in writing(setting).items()]
    table(rows, [f"greedy, {n} tokens", "tokens/s", "fastest s", "slowest s"], [None, ",.0f", ".3f", ".3f"])
