"""One training loop for every model and every tuning method.

It trains whatever parameters require a gradient: all of a GPT, or ten vectors in front of a frozen one.
A run that was stopped and resumed gives the same bits as one that never was: batch number i is a function of i,
and everything else that matters (weights, optimizer, random state, log, best weights so far) is in the checkpoint.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from minitransformer.checkpoint import load_tensors, save_tensors
from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, Batch
from minitransformer.training.losses import Loss, language_model_loss
from minitransformer.training.muon import Muon, muon_groups


@dataclass(frozen=True)
class TrainConfig:
    """How to train. One step is one update of the weights, from `accumulate` batches."""

    steps: int
    lr: float = 3e-3  # the peak, after the warm-up
    warmup: int = 0  # steps from 0 to the peak
    final_lr: float = 0.1  # where the cosine ends, as a fraction of the peak
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1  # on matrices only; a bias or a norm has no size to keep small
    clip: float = 1.0  # the longest the gradient may be; 0 turns it off
    accumulate: int = 1  # batches summed before one update
    eval_every: int = 0  # steps between evaluations; 0: only at the end
    patience: int = 0  # evaluations without a better loss before stopping; 0: never
    checkpoint_every: int = 0  # steps between checkpoints; 0: at evaluations
    matrix_lr: float = 0.0  # Muon's peak, for the matrices between layers; 0: AdamW at `lr` for all

    def __post_init__(self) -> None:
        """Refuse settings that cannot mean anything."""
        for name, least in (("steps", 1), ("accumulate", 1), ("warmup", 0), ("eval_every", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} = {getattr(self, name)}: it has to be at least {least}.")
        if not 0 < self.lr < math.inf:
            raise UserError(f"lr = {self.lr}: the learning rate has to be a positive number.")
        if not 0 <= self.matrix_lr < math.inf:
            raise UserError(f"matrix_lr = {self.matrix_lr}: Muon's learning rate is a positive number, or 0 for AdamW.")


@dataclass
class Log:
    """What happened: one row a step, one row an evaluation. Plots are drawn from it."""

    train: list[dict] = field(default_factory=list)  # step, loss, lr, grad_norm, tokens
    valid: list[dict] = field(default_factory=list)  # step, loss
    seconds: float = 0.0
    best_step: int = 0  # the step whose weights the model has now, if it was validated
    stopped_early: bool = False

    @property
    def tokens_per_second(self) -> float:
        """Labelled tokens trained on, for each second of the whole run, evaluations included."""
        return sum(row["tokens"] for row in self.train) / max(self.seconds, 1e-9)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to `lr`, then half a wave of a cosine down to final_lr · lr; steps count from 0.

    Step 0 has lr / warmup, step warmup - 1 has lr. The half wave begins at lr, in step `warmup`, and ends in step
    `steps`; from there on the rate stays. Where the warm-up takes all steps, the half wave has a single one.

    Source: Loshchilov & Hutter, SGDR, 2017, Eq. 5, without restarts.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1))))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters that require a gradient; weight decay on the matrices only.

    With a `matrix_lr`, the matrices between layers get Muon instead.

    Raises:
        UserError: nothing requires a gradient.
    """
    tuned = [p for p in model.parameters() if p.requires_grad]
    if not tuned:
        raise UserError("Nothing here can be trained: every parameter is frozen (requires_grad is False).")
    if config.matrix_lr:
        return Muon(muon_groups(model, config.lr, config.matrix_lr, config.weight_decay), config.betas)
    groups = [
        {"params": [p for p in tuned if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in tuned if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas, fused=True)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Sequence[Batch], loss: Loss = language_model_loss) -> float:
    """Mean loss over all labelled tokens of these batches, in nats, without dropout.

    Raises:
        UserError: no batch, or no label in any of them.
    """
    was_training = model.training
    model.eval()
    try:
        total, count = 0.0, 0
        for batch in batches:
            batch_loss, n = loss(model, batch)
            total, count = total + batch_loss.item(), count + n
    finally:
        model.train(was_training)
    if count == 0:
        raise UserError("There is nothing to evaluate: the split is empty, or none of its tokens has a label.")
    return total / count


def train(
    model: nn.Module,
    batches: Callable[[int], Batch],
    config: TrainConfig,
    *,
    valid: Sequence[Batch] | None = None,
    loss: Loss = language_model_loss,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    on_eval: Callable[[int, float], None] | None = None,
) -> Log:
    """Train the parameters that require a gradient.

    Args:
        model: trained in place; left in eval mode. With `valid`, it ends with the weights that validated best.
        batches: batch number i = 0, 1, 2, … of the run; the same i must give the same batch.
        config: how.
        valid: batches that are never trained on; None does without evaluation.
        loss: (model, batch) → summed loss and count.
        checkpoint: a file to save the state of training in. If it is there already, the run goes on from it.
        progress: whether to draw a progress bar.
        on_eval: called after each evaluation with (steps done, loss).

    Returns:
        The log of the whole run, the part before a resume included.

    Raises:
        UserError: nothing to train, a batch without labels, a loss that is nan or infinite (the model and the
            checkpoint then hold the last good weights), or a checkpoint of another run.
    """
    run = _Run(model, config, checkpoint)
    run.resume()
    pause = 0.1 if sys.stderr.isatty() else 10.0  # a log file gets a line now and then, not one a step
    bar = tqdm(total=config.steps, initial=run.step, disable=not progress, unit="step", ncols=88, mininterval=pause)
    model.train()
    try:
        while run.step < config.steps and not run.log.stopped_early:
            started = time.perf_counter()
            row = _update(run, batches, loss)
            run.log.train.append(row)
            run.log.seconds += time.perf_counter() - started
            bar.update()
            bar.set_postfix_str(f"loss {row['loss']:.3f}", refresh=False)

            at_end = run.step == config.steps
            if valid is not None and (at_end or (config.eval_every and run.step % config.eval_every == 0)):
                started = time.perf_counter()
                value = evaluate(model, valid, loss)
                run.validated(value)
                run.log.seconds += time.perf_counter() - started
                if on_eval is not None:
                    on_eval(run.step, value)
                if not config.checkpoint_every:
                    run.save()
            if at_end or run.log.stopped_early or (config.checkpoint_every and run.step % config.checkpoint_every == 0):
                run.save()
    finally:
        bar.close()
    run.restore_best()
    model.eval()
    return run.log


def accumulate_gradients(
    model: nn.Module, batches: Callable[[int], Batch], loss: Loss, step: int, n_batch: int
) -> tuple[float, int]:
    """Give the parameters the gradient of the mean loss over all labels of one step, from several batches.

    The result is that of one large batch: every label weighs the same, however the labels are distributed.

    Args:
        model: its parameters get gradients; those that the loss does not reach keep None.
        batches: batch number i of the run.
        loss: (model, batch) → summed loss and count.
        step: which step, from 0; it takes the batches number step * n_batch and the next ones.
        n_batch: how many batches. One without labels is passed over, because its loss need not have a gradient.

    Returns:
        The sum of the losses, and how many labels there were.

    Raises:
        UserError: no label in any of the batches.
    """
    total, count = 0.0, 0
    for i in range(n_batch):
        batch_loss, n = loss(model, batches(step * n_batch + i))
        if n == 0:
            continue
        batch_loss.backward()
        total, count = total + batch_loss.item(), count + n
    if count == 0:
        raise UserError(f"Step {step + 1} has no label to learn from: every label of its batch is {IGNORE}.")
    for p in model.parameters():
        if p.grad is not None:
            p.grad.div_(count)  # the sum becomes the mean over all labels of the step
    return total, count


def _update(run: _Run, batches: Callable[[int], Batch], loss: Loss) -> dict[str, float]:
    """One step: gradients of `accumulate` batches, then one update; gives the row of the log.

    Raises:
        UserError: no label in the whole step; a loss or a gradient that is not finite.
    """
    config = run.config
    total, count = accumulate_gradients(run.model, batches, loss, run.step, config.accumulate)
    tuned = [p for p in run.tuned.values() if p.grad is not None]
    grad_norm = torch.nn.utils.clip_grad_norm_(tuned, config.clip or math.inf).item()
    if not (math.isfinite(total) and math.isfinite(grad_norm)):
        run.optimizer.zero_grad(set_to_none=True)
        kept = f" {run.checkpoint} holds the last checkpoint." if run.checkpoint and run.checkpoint.is_file() else ""
        raise UserError(
            f"The loss became {total / count} (gradient norm {grad_norm}) at step {run.step + 1}. Training stopped "
            f"before that update, so the model keeps its last finite weights.{kept} The usual cause is a learning "
            f"rate that is too high: it was {learning_rate(run.step, config):.1e}."
        )
    lr = learning_rate(run.step, config)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * config.matrix_lr / config.lr if group.get("muon") else lr
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    return {"step": run.step, "loss": total / count, "lr": lr, "grad_norm": grad_norm, "tokens": count}


class _Run:
    """Everything that changes while training: what a checkpoint has to hold."""

    def __init__(self, model: nn.Module, config: TrainConfig, checkpoint: str | Path | None) -> None:
        self.model, self.config = model, config
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.optimizer = make_optimizer(model, config)
        self.tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.best: dict[str, Tensor] = {}
        self.step = 0
        self.log = Log()

    def validated(self, value: float) -> None:
        """Note the validation loss at this step; keep the weights if it is the best; stop when patience is spent."""
        best_before = min((row["loss"] for row in self.log.valid), default=math.inf)
        self.log.valid.append({"step": self.step, "loss": value})
        if value < best_before:
            self.best = {name: p.detach().clone() for name, p in self.tuned.items()}
            self.log.best_step = self.step
        since_best = sum(row["step"] > self.log.best_step for row in self.log.valid)
        self.log.stopped_early = bool(self.config.patience) and since_best >= self.config.patience

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put the weights that validated best into the model."""
        for name, tensor in self.best.items():
            self.tuned[name].copy_(tensor)

    def save(self) -> None:
        """Write the whole state aside, then rename it into place."""
        if self.checkpoint is None:
            return
        names = {id(p): name for name, p in self.tuned.items()}
        tensors = {f"weight/{name}": p for name, p in self.tuned.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for p, state in self.optimizer.state.items():
            tensors |= {f"{key}/{names[id(p)]}": value for key, value in state.items()}
        tensors["random"] = torch.get_rng_state()
        about = {"training": asdict(self.config), "step": self.step, "log": asdict(self.log)}
        save_tensors(self.checkpoint, tensors, about)

    @torch.no_grad()
    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        tensors, about = load_tensors(self.checkpoint)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        shapes = {name: p.shape for name, p in self.tuned.items()}
        if "training" not in about or {n: t.shape for n, t in parts["weight"].items()} != shapes:
            raise UserError(
                f"{self.checkpoint} belongs to another run: other parameters were trained in it. Move it away."
            )
        expected = asdict(self.config) | {"betas": list(self.config.betas)}
        changed = [key for key, value in expected.items() if about["training"].get(key) != value]
        if changed:
            raise UserError(
                f"{self.checkpoint} was made with other settings ({', '.join(changed)}); resuming would give neither "
                "run. Use the same settings, or move the file away to start anew."
            )
        for name, p in self.tuned.items():
            p.copy_(parts["weight"][name])
            keys = [key for key in parts if key not in ("weight", "best", "random") and name in parts[key]]
            if keys:
                state = {key: parts[key][name] for key in keys}  # AdamW counts its steps on the CPU
                self.optimizer.state[p] = {key: t if key == "step" else t.to(p.device) for key, t in state.items()}
        self.best = parts.get("best", {})
        torch.set_rng_state(parts["random"][""])
        self.step, self.log = about["step"], Log(**about["log"])
