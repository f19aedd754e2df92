"""Speed and memory beside the library that a user would pick instead: `make bench`.

What is compared runs in turn (`timing.py`), and the figures are medians of ratios of neighbours.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import accumulate

import torch

from minitransformer.course import bootstrap
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.output.terminal import say, table
from minitransformer.course.show import QUICK
from minitransformer.course.timing import in_turn, update
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches import IGNORE, Batch
from minitransformer.text.corpora import Windows, eval_windows, read_documents, token_stream
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import PrefixTuning

THREADS = 2
SIZE = GPTConfig(vocab_size=1024, n_positions=128, n_layer=4, n_head=4, d_model=128, d_ff=512)
BATCH, PROMPT = 32, 16


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times as fast `fast` is, the median over the rounds."""
    return median_ratio(seconds[slow], seconds[fast])


def transformers_gpt2(config: GPTConfig) -> torch.nn.Module:
    """The transformers library's GPT-2 of the same sizes, with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.n_positions,
            n_embd=config.d_model,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_inner=config.d_ff,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations to train on one token: 6 for each weight in a matrix product (2 forward, 4
    backward), and the two products of attention, whose causal half that is masked is counted too.
    """  # noqa: D205
    weights = config.n_layer * (4 * config.d_model**2 + 2 * config.d_model * config.d_ff)
    weights += config.vocab_size * config.d_model  # the head; the embedding is a look-up
    return 6 * weights + 12 * config.n_layer * config.n_positions * config.d_model


def training(rounds: int) -> None:
    """A step of training: ours, transformers' and the machine's own matrix product."""
    torch.manual_seed(0)
    T = SIZE.n_positions
    ids = torch.randint(SIZE.vocab_size, (BATCH, T + 1))
    a, b = torch.randn(BATCH * T, SIZE.d_model), torch.randn(SIZE.d_model, SIZE.d_ff)
    ours, theirs = GPT(SIZE).train(), transformers_gpt2(SIZE).train()

    def our_loss(_: int) -> torch.Tensor:
        total, count = language_model_loss(ours, {"ids": ids})
        return total / count

    seconds = in_turn(
        {
            "minitransformer": update(ours, our_loss),
            "transformers": update(theirs, lambda _: theirs(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss),
            "matrix product": lambda _: [a @ b for _ in range(10)],
        },
        rounds,
        progress=True,
    )
    product = 10 * 2 * a.size(0) * a.size(1) * b.size(1) / statistics.median(seconds.pop("matrix product"))
    rows = []
    for name, times in seconds.items():
        speed = BATCH * T / statistics.median(times)
        rows.append((name, speed, speed * flops_per_token(SIZE) / product, min(times), max(times)))
    table(
        rows,
        ["training step", "tokens/s", "of the matrix product", "fastest s", "slowest s"],
        [None, ",.0f", ".0%", ".3f", ".3f"],
    )
    times_as_fast = ratio(seconds, "transformers", "minitransformer")
    say(f"\nA step of ours is {times_as_fast:.2f} times as fast as transformers'.\n")


def tuning(rounds: int) -> None:
    """A step of prefix tuning on a frozen GPT: ours, peft's on transformers' GPT-2, and our own full fine-tuning.

    Half of each text is the prompt, which has no label. Ours computes logits where there is a label.
    """
    seconds = in_turn({name: tuning_step(name) for name in TUNING}, rounds, progress=True)
    memory = {name: peak_memory(name) for name in TUNING}
    tokens = BATCH * SIZE.n_positions
    table(
        [
            (name, tokens / statistics.median(times), min(times), max(times), memory[name])
            for name, times in seconds.items()
        ],
        [f"tuning step, P = {PREFIX}", "tokens/s", "fastest s", "slowest s", "peak memory, MB"],
        [None, ",.0f", ".3f", ".3f", ".0f"],
    )
    ours, peft, full = TUNING
    say(
        f"\nA step of ours is {ratio(seconds, peft, ours):.2f} times as fast as peft's, and takes "
        f"{1 / ratio(seconds, full, ours):.2f} of the time of full fine-tuning.\n"
    )


PREFIX = 10
TUNING = ("prefix, minitransformer", "prefix, peft", "full, minitransformer")


def tuning_step(name: str) -> Callable[[int], None]:
    """One update of one of `TUNING`, ready to be called again and again, on the same batch."""
    torch.manual_seed(0)
    config = replace(SIZE, n_positions=SIZE.n_positions + PREFIX)  # room for the prefix beside the text
    ids = torch.randint(SIZE.vocab_size, (BATCH, SIZE.n_positions + 1))
    labels = ids.clone()
    labels[:, : SIZE.n_positions // 2] = IGNORE
    if name == "prefix, peft":
        import peft

        prefix = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PREFIX)
        theirs = peft.get_peft_model(transformers_gpt2(config), prefix).train()
        return update(theirs, lambda _: theirs(input_ids=ids[:, :-1], labels=labels[:, :-1]).loss)
    ours = GPT(config).train()
    if name.startswith("prefix"):
        PrefixTuning(PREFIX).attach(ours)

    def mean_loss(_: int) -> torch.Tensor:
        total, count = language_model_loss(ours, {"ids": ids, "labels": labels})
        return total / count

    return update(ours, mean_loss)


def peak_memory(name: str) -> float:
    """The most MB that a tuning step has allocated at once, beside weights and Adam's state, by PyTorch's records.

    In a process of its own, for the profiler writes to its standard error whatever it is told.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_allocated, name).result()


def _allocated(name: str) -> float:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    torch.set_num_threads(THREADS)
    step = tuning_step(name)
    step(0)  # Adam makes its state at the first
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step(1)
    records = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(records, key=lambda event: event.start_ns()))
    return max(held) / 1e6


def generation(rounds: int) -> None:
    """Writing greedily, one text at a time, beside transformers' `generate`; and what the cache is worth."""
    torch.manual_seed(0)
    ours, theirs = GPT(SIZE).eval(), transformers_gpt2(SIZE).eval()
    prompt = torch.randint(1, SIZE.vocab_size, (1, PROMPT))
    n = SIZE.n_positions - PROMPT
    seconds = in_turn(
        {
            "minitransformer": lambda _: generate(ours, prompt.tolist(), n),
            "transformers": lambda _: theirs.generate(
                prompt, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0
            ),
        },
        rounds,
        progress=True,
    )
    table(
        [(name, n / statistics.median(times), min(times), max(times)) for name, times in seconds.items()],
        [f"greedy, {n} tokens", "tokens/s", "fastest s", "slowest s"],
        [None, ",.0f", ".3f", ".3f"],
    )
    say(f"\nOurs writes {ratio(seconds, 'transformers', 'minitransformer'):.2f} times as fast as transformers.\n")

    long = GPT(GPTConfig(**{**SIZE.__dict__, "n_positions": 512})).eval()
    seconds = in_turn(
        {
            "with the cache": lambda _: generate(long, prompt.tolist(), 512 - PROMPT),
            "without": lambda _: generate(long, prompt.tolist(), 512 - PROMPT, use_cache=False),
        },
        max(1, rounds // 4),
        progress=True,
    )
    table(
        [(name, (512 - PROMPT) / statistics.median(times)) for name, times in seconds.items()],
        ["greedy to context 512", "tokens/s"],
        [None, ",.0f"],
    )
    say(f"\nThe cache makes it {ratio(seconds, 'without', 'with the cache'):.1f} times as fast.")


def busy_laptop(rounds: int) -> None:
    """Training with the OpenMP settings that our commands start with and without them, alone and beside a busy program.

    The settings are read when PyTorch is loaded, so each training is a process of its own. With one thread for each of
    n cores and one more program that never waits, n + 1 threads share n cores: the fair speed is n / (n + 1) of what
    training makes alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bare = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", *bootstrap.SPIN)}
    settings = {"PyTorch's own settings": bare, "our commands' settings": {**bare, **bootstrap.SPIN}}

    def measure(name: str, neighbour: bool) -> Callable[[int], None]:
        def once(i: int) -> None:
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if neighbour else None
            try:
                command = [sys.executable, "-m", "minitransformer.course.bench", str(cores)]
                took = subprocess.run(command, env=settings[name], capture_output=True, text=True, check=True).stdout
            finally:
                if other:
                    other.kill()
                    other.wait()
            if i:  # as in `in_turn`, the first round is not counted
                speeds[name, neighbour].append(float(took))

        return once

    speeds: dict[tuple[str, bool], list[float]] = {
        (name, with_it): [] for name in settings for with_it in (False, True)
    }
    in_turn({f"{name}, {with_it}": measure(name, with_it) for name, with_it in speeds}, rounds, progress=True)
    fair = cores / (cores + 1)
    own, ours = settings
    table(
        [
            (
                name,
                statistics.median(speeds[name, False]),
                statistics.median(speeds[name, True]),
                median_ratio(speeds[name, False], speeds[own, False]),
                median_ratio(speeds[name, True], speeds[own, False]) / fair,
            )
            for name in (own, ours)
        ],
        [f"training, {cores} threads", "steps/s alone", "beside a busy program", "of alone", "of the fair speed"],
        [None, ".1f", ".1f", ".0%", ".0%"],
    )
    say(
        f"\nOur commands start with {' '.join('='.join(pair) for pair in bootstrap.SPIN.items())}, "
        "unless you have set one of these. They should keep 95 % of the speed alone, and 80 % of the fair "
        f"speed beside a busy program, which is {cores}/{cores + 1} of the speed alone.\n"
    )


LESSON_3 = TrainConfig(steps=1200, lr=4e-3, warmup=100, final_lr=0.02)  # as the lesson has it; 8 windows a batch
NANO_GPT = TrainConfig(steps=2000, lr=1e-3, warmup=100, final_lr=0.1, betas=(0.9, 0.99))  # 12 windows a batch
WINDOW = 64  # tokens, in both
JUDGED = 42  # windows of the validation text, at each evaluation


def to_a_loss(seconds: float = 45.0) -> None:
    """How much sooner lesson 3's recipe has the loss that nanoGPT's has after 45 seconds.

    nanoGPT's is what its readme gives for a training on a CPU (Karpathy, github.com/karpathy/nanoGPT, "i only have a
    macbook"): 12 windows of 64 tokens and AdamW at 1e-3 with betas 0.9 and 0.99. Both train our model of the same sizes
    on our text, from the same seed, one after the other. The time of evaluations is taken off.
    """
    tokenizer = default_tokenizer()
    train_ids, valid_ids = (
        token_stream(read_documents(DATA / "text" / f"{part}.txt"), tokenizer) for part in ("train", "valid")
    )
    valid = eval_windows(valid_ids, length=WINDOW, batch_size=JUDGED, most=JUDGED)
    curves = {}
    for name, config, batch in (("nanoGPT", NANO_GPT, 12), ("lesson 3", LESSON_3, 8)):
        windows = Windows(train_ids, length=WINDOW, batch_size=batch, seed=0)
        curves[name] = _curve(config, tokenizer.n_vocab, windows, valid, seconds)
    took, loss = curves["nanoGPT"][-1][1:]
    ours = next(((after, found) for _, after, found in curves["lesson 3"] if found <= loss), None)
    table(
        [(name, *curve[-1]) for name, curve in curves.items()],
        ["recipe", "steps", "seconds", "validation loss"],
        [None, ",d", ".1f", ".3f"],
    )
    if ours is None:
        say(f"\nIn {seconds:.0f} seconds lesson 3's recipe does not reach nanoGPT's loss of {loss:.3f}.\n")
    else:
        say(
            f"\nLesson 3's recipe has a loss of {ours[1]:.3f} after {ours[0]:.1f} s. So it needs {took / ours[0]:.1f} "
            f"times less time to nanoGPT's {loss:.3f}; at least 3 times less is the aim.\n"
        )


class _Enough(Exception):
    """The time is over."""


def _curve(
    config: TrainConfig, vocab_size: int, windows: Windows, valid: Sequence[Batch], seconds: float
) -> list[tuple[int, float, float]]:
    """Steps, seconds and validation loss of a training, every ten steps until the time is over."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size, n_positions=WINDOW))
    evaluations = in_turn({"all": lambda _: evaluate(model, valid, language_model_loss)}, 5)["all"]
    curve: list[tuple[int, float, float]] = []
    began = time.perf_counter()

    def note(step: int, loss: float) -> None:
        spent = time.perf_counter() - began - (len(curve) + 1) * statistics.median(evaluations)
        curve.append((step, spent, loss))
        if spent >= seconds:
            raise _Enough

    with contextlib.suppress(_Enough):
        train(model, windows, replace(config, eval_every=10), valid=valid, progress=False, on_eval=note)
    return curve


def median_ratio(upper: list[float], lower: list[float]) -> float:
    """The median over the rounds of what was measured side by side."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def steps_per_second(threads: int, seconds: float = 3.0) -> float:
    """How many steps of training a GPT of lesson 3's size makes, after some that are not counted."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=1024, n_positions=64)).train()
    ids = torch.randint(1024, (8, 65))

    def mean_loss(_: int) -> torch.Tensor:
        total, count = language_model_loss(model, {"ids": ids})
        return total / count

    step = update(model, mean_loss)
    for i in range(5):
        step(i)
    began, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        step(done)
        done += 1
    return done / passed


def main() -> None:
    """Run every comparison and print it."""
    torch.set_num_threads(THREADS)
    say(
        f"{SIZE.n_layer} layers, width {SIZE.d_model}, {SIZE.n_head} heads, context {SIZE.n_positions}, vocabulary "
        f"{SIZE.vocab_size}, batch {BATCH}; {torch.get_num_threads()} threads, PyTorch {torch.__version__}.\n"
    )
    rounds = 2 if QUICK else 12
    training(rounds)
    tuning(rounds)
    generation(rounds)
    busy_laptop(1 if QUICK else 5)
    to_a_loss(3.0 if QUICK else 45.0)


if __name__ == "__main__":  # one of the processes of `busy_laptop`
    print(steps_per_second(int(sys.argv[1])))
