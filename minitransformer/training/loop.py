"""One training loop for every model and every tuning method.

It trains whatever parameters require a gradient: all of a GPT, or ten vectors in front of a frozen one.
A run that was stopped and resumed gives the same bits as one that never was: batch number i is a function of i,
and everything else that matters (weights, optimizer, random state, log, best weights so far) is in the checkpoint.
In several processes each computes its rows of every batch; see `training.processes`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minitransformer.checks import check_kind, check_settings, integer, pair, real
from minitransformer.errors import UserError
from minitransformer.files import as_path, check_writable
from minitransformer.models.layers import in_eval_mode
from minitransformer.text.batches import IGNORE, Batch
from minitransformer.training.losses import Loss, language_model_loss
from minitransformer.training.muon import Muon, parameter_groups
from minitransformer.training.processes import OtherProcessEnded, is_first, lost_another, over_all_rows
from minitransformer.training.progress import progress as progress_bar
from minitransformer.training.state import check_same, describe, read_state, restore_state, save_state

ALLOWED = {
    "steps": integer(1),
    "lr": real(above=0),
    "warmup": integer(0),
    "final_lr": real(least=0, most=1),
    "betas": pair(real(least=0, below=1)),
    "weight_decay": real(least=0),
    "clip": real(least=0),
    "accumulate": integer(1),
    "eval_every": integer(0),
    "patience": integer(0),
    "checkpoint_every": integer(0),
    "matrix_lr": real(least=0),
}


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
        check_settings(asdict(self), ALLOWED)


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

    With a `matrix_lr`, the matrices between layers get Muon instead. Refuses a model of which nothing requires a
    gradient.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError("Nothing here can be trained: every parameter is frozen (requires_grad is False).")
    groups = parameter_groups(model, config.lr, config.matrix_lr, config.weight_decay)
    if config.matrix_lr:
        return Muon(groups, config.betas)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Sequence[Batch], loss: Loss = language_model_loss) -> float:
    """Mean loss over all labelled tokens of these batches, in nats, without dropout; refuses batches without any."""
    check_kind(batches, Iterable, "evaluate() takes a list of batches")
    total, count = 0.0, 0
    with in_eval_mode(model):
        for batch in batches:
            batch_loss, n = loss(model, batch)
            total, count = total + batch_loss.item(), count + n
    if count == 0:
        raise UserError("There is nothing to evaluate: the split is empty, or none of its tokens has a label.")
    return total / count


def train(
    model: nn.Module,
    batches: Callable[[int], Batch] | None,
    config: TrainConfig,
    *,
    valid: Sequence[Batch] | None = None,
    loss: Loss = language_model_loss,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    on_eval: Callable[[int, float], None] | None = None,
) -> Log:
    """Train the parameters that require a gradient; gives the log of the whole run, the part before a resume included.

    Gradients from before are dropped at the start, and none is left at the end.

    Args:
        model: trained in place; left in eval mode, whatever ends the run. With `valid`, it ends with the weights that
            validated best.
        batches: batch number i = 0, 1, 2, … of the run; the same i must give the same batch. None where a checkpoint
            of the whole run is only to be read.
        config: how.
        valid: batches that are never trained on; None does without evaluation.
        loss: (model, batch) → summed loss and count.
        checkpoint: a file to save the state of training in. If it is there already, the run goes on from it.
        progress: whether to draw a progress bar.
        on_eval: called after each evaluation with (steps done, loss).

    Refuses, before the first step, what is no model, no data or no place for a checkpoint, nothing to train, and a
    checkpoint of another run. Later, a batch without labels, and a loss, gradient or weight that is nan or infinite;
    the message says which weights the model then has. Raises `OtherProcessEnded` where one of several processes is
    gone; the first one has saved the steps before.
    """
    _check_arguments(model, batches, config)
    if config.patience and (valid is None or not config.eval_every):
        raise UserError("patience counts evaluations: give valid=[…] and set eval_every, or leave patience at 0.")
    if config.checkpoint_every and checkpoint is None:
        raise UserError("checkpoint_every saves nothing without a file: give checkpoint=…, or leave it at 0.")
    check_kind(valid, Iterable | None, "valid is a list of batches, or None")
    valid = None if valid is None else list(valid)
    for batch in valid or ():
        check_kind(batch, Mapping, "A batch is a dictionary of tensors, {'ids': …}")
    if valid is not None and not valid:
        raise UserError("valid is empty: there is nothing to evaluate. Give batches, or None to train without.")
    run = _Run(model, config, checkpoint)
    run.resume(batches, valid, loss)
    loss = over_all_rows(model, loss)
    progress = progress and is_first()
    bar = progress_bar(total=config.steps, initial=run.step, disable=not progress, unit="step")
    model.zero_grad(set_to_none=True)
    model.train()
    try:
        while run.step < config.steps and not run.log.stopped_early:
            assert batches is not None  # or `resume` has refused
            started = time.perf_counter()
            try:
                row = _update(run, batches, loss)
            except RuntimeError as error:
                if not lost_another(error):
                    raise
                run.save()  # gradients are exchanged before an update, so the weights are those of the step before
                raise OtherProcessEnded(
                    f"Another process of this training has ended, so this one ends too, after {run.step} steps."
                    f"{run.kept()} Start all of them again, and they go on from there."
                ) from error
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
        model.zero_grad(set_to_none=True)
        model.eval()
    run.restore_best()
    return run.log


def _check_arguments(model: nn.Module, batches: object, config: object) -> None:
    check_kind(model, nn.Module, "train() needs a model first")
    if not torch.is_grad_enabled():
        raise UserError("Gradients are switched off here, and training needs them: leave torch.no_grad() for it.")
    if type(model).forward is nn.Module.forward:
        raise UserError(f"A {type(model).__name__} cannot be called: train the model that it belongs to.")
    if batches is not None and not callable(batches):
        raise UserError(
            f"batches is called with the number of each batch, 0, 1, 2, …; this is a {type(batches).__name__}. Of a "
            "list that is `lambda i: batches[i % len(batches)]`."
        )
    check_kind(config, TrainConfig, "config says how to train, TrainConfig(steps=…)")


def accumulate_gradients(
    model: nn.Module, batches: Callable[[int], Batch], loss: Loss, step: int, n_batch: int
) -> tuple[float, int]:
    """Give the parameters the gradient of the mean loss over all labels of one step, from several batches.

    The result is that of one large batch: every label weighs the same, however the labels are distributed. Gives the
    sum of the losses, and how many labels there were. Parameters that the loss does not reach keep None for a gradient.

    Args:
        model: its parameters get gradients.
        batches: batch number i of the run.
        loss: (model, batch) → summed loss and count.
        step: which step, from 0; it takes the batches number step * n_batch and the next ones.
        n_batch: how many batches. One without labels is passed over, because its loss need not have a gradient.

    Raises `UserError` where none has a label.
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


def _update(run: _Run, batches: Callable[[int], Batch] | None, loss: Loss) -> dict[str, float]:
    """One step: gradients of `accumulate` batches, then one update; gives the row of the log."""
    config, lr = run.config, learning_rate(run.step, run.config)
    assert batches is not None  # `_Run.resume` has seen to that
    total, count = accumulate_gradients(run.model, batches, loss, run.step, config.accumulate)
    tuned = [p for p in run.tuned.values() if p.grad is not None]
    grad_norm = torch.nn.utils.clip_grad_norm_(tuned, config.clip or math.inf).item()
    if not (math.isfinite(total) and math.isfinite(grad_norm)):
        raise UserError(
            f"The loss became {total / count} (gradient norm {grad_norm}) at step {run.step + 1}. Training stopped "
            f"before that update, so the model keeps its last finite weights.{run.kept()} The usual cause is a "
            f"learning rate that is too high: it was {lr:.1e}."
        )
    for group in run.optimizer.param_groups:
        group["lr"] = lr * config.matrix_lr / config.lr if group.get("muon") else lr
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    largest = torch._foreach_norm([p for p in tuned if p.numel()], math.inf)  # nan where one of them is
    if not bool(torch.stack([x.float().cpu() for x in largest]).isfinite().all()):
        raise UserError(
            f"The update of step {run.step + 1} made weights that are not finite, and the model has them now: load it, "
            f"or make it, again.{run.kept()} The usual cause is a learning rate that is too high: it was {lr:.1e}."
        )
    run.step += 1
    return {"step": run.step, "loss": total / count, "lr": lr, "grad_norm": grad_norm, "tokens": count}


class _Run:
    """Everything that changes while training: what a checkpoint has to hold."""

    def __init__(self, model: nn.Module, config: TrainConfig, checkpoint: str | Path | None) -> None:
        self.model, self.config = model, config
        self.checkpoint = as_path(checkpoint) if checkpoint else None
        if self.checkpoint:
            check_writable(self.checkpoint)
        self.optimizer = make_optimizer(model, config)
        self.tuned = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.about: dict[str, Any] = {}  # whose state it is
        self.best: dict[str, Tensor] = {}
        self.step = 0
        self.log = Log()

    def validated(self, value: float) -> None:
        """Note the validation loss at this step; keep the weights if it is the best; stop when patience is spent.

        Raises `UserError` for a loss that is nan or infinite.
        """
        if not math.isfinite(value):
            raise UserError(
                f"The validation loss is {value} at step {self.step}, although the training loss was finite."
                f"{self.kept()} Is a validation batch unlike those of training, or the learning rate too high?"
            )
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

    def kept(self) -> str:
        """A sentence for a message, on what is left of the run."""
        return f" {self.checkpoint} holds the last checkpoint." if self.checkpoint and self.checkpoint.is_file() else ""

    def save(self) -> None:
        """Write the whole state aside, then rename it into place."""
        if self.checkpoint is not None and is_first():
            about = {**self.about, "step": self.step, "log": asdict(self.log)}
            save_state(self.checkpoint, self.tuned, self.optimizer, self.best, about)

    def resume(self, batches: Callable[[int], Batch] | None, valid: Sequence[Batch] | None, loss: Loss) -> None:
        """Note whose run it is, and go on from the checkpoint, if there is one."""
        if self.checkpoint is not None:
            n_batch = self.config.steps * self.config.accumulate
            self.about = describe(self.model, self.config, loss, batches, n_batch, valid, self.checkpoint)
            if self.checkpoint.is_file():
                parts, found = read_state(self.checkpoint)
                check_same(self.checkpoint, found, self.about)
                self.step, self.log = _progress(self.checkpoint, found)
                self.best = restore_state(self.checkpoint, parts, self.tuned, self.optimizer)
        if batches is None and self.step < self.config.steps and not self.log.stopped_early:
            raise UserError(
                f"There are no batches (None), and {self.config.steps - self.step} steps are to be trained."
            )


def _progress(path: Path, found: Mapping[str, Any]) -> tuple[int, Log]:
    try:
        step, log = found["step"], Log(**found["log"])
        if isinstance(step, int) and 0 <= step == len(log.train):
            return step, log
    except (KeyError, TypeError):
        pass
    raise UserError(f"{path} is damaged: what it says about its progress makes no sense. Delete it, and train anew.")
