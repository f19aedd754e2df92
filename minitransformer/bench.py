"""Speed beside the library that a user would pick instead: `make bench`.

What is compared runs in turn, A B A B …, in one process, and the figures are medians of ratios of neighbours: a
laptop's speed drifts by a factor of two within minutes, and a ratio survives that where a time does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from minitransformer.gpt import GPT, GPTConfig
from minitransformer.sampling import generate
from minitransformer.show import QUICK, say, table
from minitransformer.training import TrainConfig, language_model_loss, make_optimizer

THREADS = 2
SIZE = GPTConfig(vocab_size=1024, n_positions=128, n_layer=4, n_head=4, d_model=128, d_ff=512)
BATCH, PROMPT = 32, 16


def in_turn(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each function took in each round, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in tqdm(range(rounds + 1), unit="round", leave=False, ncols=88, disable=None):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if i:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times as fast `fast` is, the median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def transformers_gpt2(config: GPTConfig) -> torch.nn.Module:
    """The transformers library's GPT-2 of the same sizes, with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.n_positions, n_embd=config.d_model,
            n_layer=config.n_layer, n_head=config.n_head, n_inner=config.d_ff,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


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

    def step(model: torch.nn.Module, mean_loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        optimizer = make_optimizer(model, TrainConfig(steps=1))

        def run() -> None:
            mean_loss().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    def our_loss() -> torch.Tensor:
        total, count = language_model_loss(ours, {"ids": ids})
        return total / count

    seconds = in_turn(
        {
            "minitransformer": step(ours, our_loss),
            "transformers": step(theirs, lambda: theirs(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss),
            "matrix product": lambda: [a @ b for _ in range(10)],
        },
        rounds,
    )
    product = 10 * 2 * a.size(0) * a.size(1) * b.size(1) / statistics.median(seconds.pop("matrix product"))
    rows = []
    for name, times in seconds.items():
        speed = BATCH * T / statistics.median(times)
        rows.append((name, speed, speed * flops_per_token(SIZE) / product, min(times), max(times)))
    table(rows, ["training step", "tokens/s", "of the matrix product", "fastest s", "slowest s"],
          [None, ",.0f", ".0%", ".3f", ".3f"])  # fmt: skip
    times_as_fast = ratio(seconds, "transformers", "minitransformer")
    say(f"\nA step of ours is {times_as_fast:.2f} times as fast as transformers'.\n")


def generation(rounds: int) -> None:
    """Writing greedily, one text at a time, beside transformers' `generate`; and what the cache is worth."""
    torch.manual_seed(0)
    ours, theirs = GPT(SIZE).eval(), transformers_gpt2(SIZE).eval()
    prompt = torch.randint(1, SIZE.vocab_size, (1, PROMPT))
    n = SIZE.n_positions - PROMPT
    seconds = in_turn(
        {
            "minitransformer": lambda: generate(ours, prompt.tolist(), n),
            "transformers": lambda: theirs.generate(
                prompt, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0
            ),
        },
        rounds,
    )
    table([(name, n / statistics.median(times), min(times), max(times)) for name, times in seconds.items()],
          [f"greedy, {n} tokens", "tokens/s", "fastest s", "slowest s"], [None, ",.0f", ".3f", ".3f"])  # fmt: skip
    say(f"\nOurs writes {ratio(seconds, 'transformers', 'minitransformer'):.2f} times as fast as transformers.\n")

    long = GPT(GPTConfig(**{**SIZE.__dict__, "n_positions": 512})).eval()
    seconds = in_turn(
        {
            "with the cache": lambda: generate(long, prompt.tolist(), 512 - PROMPT),
            "without": lambda: generate(long, prompt.tolist(), 512 - PROMPT, use_cache=False),
        },
        max(1, rounds // 4),
    )
    table([(name, (512 - PROMPT) / statistics.median(times)) for name, times in seconds.items()],
          ["greedy to context 512", "tokens/s"], [None, ",.0f"])  # fmt: skip
    say(f"\nThe cache makes it {ratio(seconds, 'without', 'with the cache'):.1f} times as fast.")


def main() -> None:
    """Run every comparison and print it."""
    torch.set_num_threads(THREADS)
    say(
        f"{SIZE.n_layer} layers, width {SIZE.d_model}, {SIZE.n_head} heads, context {SIZE.n_positions}, vocabulary "
        f"{SIZE.vocab_size}, batch {BATCH}; {torch.get_num_threads()} threads, PyTorch {torch.__version__}.\n"
    )
    rounds = 2 if QUICK else 12
    training(rounds)
    generation(rounds)


if __name__ == "__main__":
    main()
