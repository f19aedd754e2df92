"""The training loop: exact gradients, exact resume, early stopping, and stops that lose nothing."""

import dataclasses
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from minitransformer.checkpoint import load_model, load_tensors, save_model, save_tensors
from minitransformer.errors import UserError
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches import IGNORE
from minitransformer.training.loop import TrainConfig, evaluate, learning_rate, make_optimizer, train
from minitransformer.training.losses import classification_loss, language_model_loss
from minitransformer.tuning import FullFineTuning, PrefixTuning

CONFIG = GPTConfig(vocab_size=12, n_positions=16, n_layer=2, n_head=2, d_model=8, d_ff=16, dropout=0.1)


def fresh(config=CONFIG):
    torch.manual_seed(0)
    return GPT(config)


def batches(i):
    """Batch number i: runs that count upwards, which a model can learn."""
    start = torch.randint(12, (4, 1), generator=torch.Generator().manual_seed(i))
    return {"ids": (start + torch.arange(9)) % 12}


VALID = [batches(10_000 + i) for i in range(3)]


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_bits(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------- the loss


def test_loss_is_cross_entropy_of_the_next_token_by_hand():
    model, ids = fresh().eval(), batches(0)["ids"]
    total, count = language_model_loss(model, {"ids": ids})
    log_p = model(ids).log_softmax(-1)
    by_hand = -sum(log_p[b, t, ids[b, t + 1]].item() for b in range(4) for t in range(8))
    assert count == 32, "4 rows of 8 predictions"
    assert abs(total.item() - by_hand) < 1e-4, f"expected Σ −log p(next) = {by_hand}, got {total.item()}"


def test_ignored_labels_cost_nothing_and_logits_are_made_only_for_the_rest():
    model, ids = fresh().eval(), batches(0)["ids"]
    labels = ids.clone()
    labels[:, :5] = IGNORE
    labels[1] = IGNORE
    total, count = language_model_loss(model, {"ids": ids, "labels": labels})
    expected = F.cross_entropy(
        model(ids[:, :-1]).flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum"
    )
    assert count == 12, "3 rows with 4 labels each"
    torch.testing.assert_close(total, expected)
    seen = []
    model.register_forward_hook(lambda _, __, logits: seen.append(logits.shape))
    language_model_loss(model, {"ids": ids, "labels": labels})
    assert seen == [(12, 12)], f"logits were computed for {seen}; only 12 positions have a label"


def test_a_batch_without_labels_is_refused_not_nan():
    ids = batches(0)["ids"]
    empty = {"ids": ids, "labels": torch.full_like(ids, IGNORE)}
    with pytest.raises(UserError, match="Step 1 has no label to learn from"):
        train(fresh(), lambda i: empty, TrainConfig(steps=1), progress=False)
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate(fresh(), [empty])
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate(fresh(), [])


# ------------------------------------------------------------------ one update


def test_accumulating_is_one_big_batch_even_with_unequal_labels():
    config = GPTConfig(**{**CONFIG.__dict__, "dropout": 0.0})
    parts = [batches(i) for i in range(3)]
    for part, n in zip(parts, (9, 3, 5), strict=True):
        part["labels"] = part["ids"].clone()
        part["labels"][:, n:] = IGNORE
    whole = {key: torch.cat([part[key] for part in parts]) for key in ("ids", "labels")}
    seen = []  # the gradients that the optimizer was given

    def note(optimizer, args, kwargs):
        seen.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    handle = register_optimizer_step_pre_hook(note)
    train(fresh(config), lambda i: parts[i], TrainConfig(steps=1, accumulate=3, clip=0.0), progress=False)
    train(fresh(config), lambda i: whole, TrainConfig(steps=1, clip=0.0), progress=False)
    handle.remove()
    for accumulated, at_once in zip(*seen, strict=True):
        torch.testing.assert_close(
            accumulated,
            at_once,
            atol=1e-6,
            rtol=1e-4,
            msg=lambda default: (
                f"three batches give another gradient than one big one; each label has to weigh the same\n{default}"
            ),
        )


def test_one_step_is_adamw_by_hand():
    model, config = fresh().eval(), TrainConfig(steps=1, lr=0.01, clip=0.0)
    expected = weights(model)
    total, count = language_model_loss(model, batches(0))
    grads = dict(zip(expected, torch.autograd.grad(total / count, model.parameters()), strict=True))
    optimizer = make_optimizer(model, config)
    for name, p in model.named_parameters():
        p.grad = grads[name]
    optimizer.step()
    for name, p in model.named_parameters():
        decay = 0.1 if expected[name].dim() >= 2 else 0.0
        g = grads[name]
        by_hand = expected[name] * (1 - 0.01 * decay) - 0.01 * g / (g.abs() + 1e-8)  # first step: m̂ = g, v̂ = g²
        torch.testing.assert_close(p.detach(), by_hand, atol=1e-6, rtol=0)


def test_gradients_are_clipped_to_the_length_asked():
    log = train(fresh(), batches, TrainConfig(steps=2, clip=1e-9, lr=0.1, weight_decay=0.0), progress=False)
    assert log.train[0]["grad_norm"] > 1e-3, "the log shows the norm before clipping"


def test_learning_rate_schedule():
    config = TrainConfig(steps=100, lr=2.0, warmup=10, final_lr=0.25)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)]), "a straight line up to the peak"
    assert rates[10] == pytest.approx(2.0) and rates[55] == pytest.approx(1.25), "half-way down: the mean of both ends"
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False)) and rates[-1] >= 0.5
    assert learning_rate(100, config) == pytest.approx(0.5)


def test_only_what_requires_a_gradient_changes():
    model = fresh()
    model.requires_grad_(False)
    model.blocks[1].mlp.requires_grad_(True)
    before = weights(model)
    train(model, batches, TrainConfig(steps=2), progress=False)
    for name, p in model.named_parameters():
        changed = not torch.equal(before[name], p)
        assert changed == name.startswith("blocks.1.mlp"), f"{name} {'changed' if changed else 'did not change'}"
        assert p.requires_grad or p.grad is None, f"{name} is frozen and yet has a gradient buffer"
    model.requires_grad_(False)
    with pytest.raises(UserError, match="Nothing here can be trained"):
        train(model, batches, TrainConfig(steps=1), progress=False)


def test_it_learns():
    log = train(fresh(), batches, TrainConfig(steps=150, lr=0.02, eval_every=50), valid=VALID, progress=False)
    assert log.train[0]["loss"] > 2.3 and log.valid[-1]["loss"] < 0.5, f"validation losses: {log.valid}"
    assert [row["step"] for row in log.train] == list(range(1, 151)) and log.tokens_per_second > 0


# ------------------------------------------------------------------------ resume


@pytest.mark.parametrize("stop_after", [1, 5, 8, 13])
def test_a_resumed_run_is_the_run_that_never_stopped_bit_for_bit(tmp_path, stop_after):
    config = TrainConfig(steps=14, lr=0.02, warmup=3, accumulate=2, eval_every=4, checkpoint_every=1)
    straight = fresh()
    log = train(straight, batches, config, valid=VALID, checkpoint=tmp_path / "a", progress=False)

    def interrupted(i):
        if i == stop_after * config.accumulate:
            raise KeyboardInterrupt
        return batches(i)

    model = fresh()
    with pytest.raises(KeyboardInterrupt):
        train(model, interrupted, config, valid=VALID, checkpoint=tmp_path / "b", progress=False)
    resumed = fresh()
    torch.manual_seed(12345)  # another process: other random state
    log_resumed = train(resumed, batches, config, valid=VALID, checkpoint=tmp_path / "b", progress=False)
    assert same_bits(weights(straight), weights(resumed)), f"stopped after {stop_after} steps: the weights differ"
    assert log.train == log_resumed.train and log.valid == log_resumed.valid, "the logs differ"


def test_a_finished_run_is_not_run_again(tmp_path):
    config = TrainConfig(steps=3)
    model = fresh()
    train(model, batches, config, checkpoint=tmp_path / "a", progress=False)

    asked = []
    for source in (lambda i: asked.append(i) or batches(i), None):
        again = fresh()
        train(again, source, config, checkpoint=tmp_path / "a", progress=False)
        assert same_bits(weights(model), weights(again))
    assert asked == [0, 1], "of a finished run only the first batches are looked at, to see whether they are its own"
    with pytest.raises(UserError, match="There are no batches .None., and 3 steps are to be trained"):
        train(GPT(CONFIG), None, config, checkpoint=tmp_path / "b", progress=False)


@pytest.mark.parametrize(
    ("config", "model", "sentence"),
    [
        (TrainConfig(steps=4), CONFIG, "other settings .steps."),
        (TrainConfig(steps=3), GPTConfig(**{**CONFIG.__dict__, "d_ff": 20}), "other parameters were trained"),
    ],
    ids=["settings", "sizes"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, config, model, sentence):
    train(fresh(), batches, TrainConfig(steps=3), checkpoint=tmp_path / "a", progress=False)
    with pytest.raises(UserError, match=sentence):
        train(fresh(model), batches, config, checkpoint=tmp_path / "a", progress=False)


def test_a_saved_model_is_not_a_state_of_training(tmp_path):
    save_model(tmp_path / "m", fresh())
    with pytest.raises(UserError, match="belongs to another run"):
        train(fresh(), batches, TrainConfig(steps=3), checkpoint=tmp_path / "m", progress=False)
    train(fresh(), batches, TrainConfig(steps=3), checkpoint=tmp_path / "t", progress=False)
    with pytest.raises(UserError, match="holds a state of training, not a GPT"):
        load_model(tmp_path / "t", GPT, GPTConfig)


# ---------------------------------------------------------------- early stopping, nan


def test_early_stopping_keeps_the_weights_that_validated_best():
    model, seen = fresh(), []
    config = TrainConfig(steps=400, lr=0.05, eval_every=5, patience=3)
    noise = {"ids": torch.randint(12, (4, 9), generator=torch.Generator().manual_seed(0))}
    other = [{"ids": torch.randint(12, (8, 9), generator=torch.Generator().manual_seed(1))}]
    log = train(model, lambda i: noise, config, valid=other, progress=False, on_eval=lambda *row: seen.append(row))
    losses = [row["loss"] for row in log.valid]
    assert log.stopped_early and log.valid[-1]["step"] < 400, "random text can only be learned by heart: it has to stop"
    assert log.best_step == log.valid[losses.index(min(losses))]["step"]
    assert len(losses) - 1 - losses.index(min(losses)) == 3, "three evaluations without a better one, then stop"
    assert evaluate(model, other) == pytest.approx(min(losses), abs=1e-6), "the model has to end with the best weights"
    assert seen == [(row["step"], row["loss"]) for row in log.valid]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, bad):
    model, path = fresh(), tmp_path / "run"
    steps = []

    def loss(model, batch):
        total, count = language_model_loss(model, batch)
        steps.append(1)
        return (total * bad if len(steps) == 6 else total), count

    with pytest.raises(UserError, match=r"The loss became (nan|inf).* at step 6.*learning rate") as caught:
        train(model, batches, TrainConfig(steps=9, checkpoint_every=2), loss=loss, checkpoint=path, progress=False)
    assert str(path) in str(caught.value), "the sentence has to say where the last good checkpoint is"
    assert all(p.isfinite().all() for p in model.parameters()), "the model has to keep its last finite weights"
    assert not re.search(r"tmp", " ".join(p.name for p in tmp_path.iterdir()))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainConfig)])
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, "1", None, True, [1.0], 1j])
def test_settings_without_meaning(name, value):
    """Every field, those that are added later too."""
    with pytest.raises(UserError, match=f"{name} = .* it has to be "):
        TrainConfig(**{"steps": 1, name: value})


@pytest.mark.parametrize(
    "setting", [{"steps": 2.5}, {"steps": 0}, {"lr": 0.0}, {"accumulate": 0}, {"final_lr": 1.5}, {"betas": (0.9, 1.0)}]
)
def test_more_settings_without_meaning(setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        TrainConfig(**{"steps": 1, **setting})


# ------------------------------------------------------------ starts clean, ends clean


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_from_before_do_not_count(frozen):
    """Neither in the first update nor, of weights that were frozen since, in the clipping."""
    norms = []
    for looked in (False, True):
        model = fresh(GPTConfig(**{**CONFIG.__dict__, "dropout": 0.0}))
        if looked:
            language_model_loss(model, batches(7))[0].backward()
        if frozen:
            model.requires_grad_(False)
            model.norm.requires_grad_(True)
        norms.append(train(model, batches, TrainConfig(steps=1), progress=False).train[0]["grad_norm"])
        assert all(p.grad is None for p in model.parameters()), "and none is left at the end"
    assert norms[0] == norms[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, UserError])
def test_whatever_ends_a_run_leaves_the_model_in_eval_mode(error):
    model = fresh()

    def stop(i):
        if i:
            raise error
        return batches(i)

    with pytest.raises(error):
        train(model, stop, TrainConfig(steps=5), progress=False)
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "valid",
        "valid by number",
        "valid of texts",
        "checkpoint",
        "swapped",
        "in a file",
        "batches",
        "config",
        "model",
        "method",
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    changes = {
        "valid": ({"valid": []}, "valid is empty"),
        "valid by number": ({"valid": batches}, "valid is a list of batches, or None; this is a function"),
        "valid of texts": ({"valid": ["ids"]}, "A batch is a dictionary of tensors"),
        "swapped": ({"checkpoint": fresh()}, "A file is named by a text or a Path; this is a GPT"),
        "checkpoint": ({"checkpoint": tmp_path}, "is a folder: give the name of a file in it"),
        "in a file": ({"checkpoint": tmp_path / "file" / "x"}, "file is a file and no folder"),
        "batches": ({"batches": [batches(0)]}, "batches is called with the number of each batch"),
        "config": ({"config": {"steps": 3}}, "config says how to train"),
        "model": ({"model": "gpt"}, "train.. needs a model first; this is a str"),
        "method": ({"model": nn.ModuleList([fresh()])}, "A ModuleList cannot be called"),
    }
    asked = []
    arguments = {"model": fresh(), "batches": lambda i: asked.append(i) or batches(i), "config": TrainConfig(steps=3)}
    change, sentence = changes[name]
    with pytest.raises(UserError, match=sentence):
        train(**{**arguments, **change}, progress=False)
    assert not asked


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"patience": 1}, "patience counts evaluations"),
        ({"patience": 1, "valid": VALID}, "patience counts evaluations"),
        ({"patience": 1, "eval_every": 1}, "patience counts evaluations"),
        ({"checkpoint_every": 1}, "checkpoint_every saves nothing without a file"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_before_the_first_step(settings, sentence):
    valid, asked = settings.pop("valid", None), []
    with pytest.raises(UserError, match=sentence):
        train(fresh(), asked.append, TrainConfig(steps=2, **settings), valid=valid, progress=False)
    assert not asked


def test_validation_batches_that_can_be_read_once_are_read_each_time():
    log = train(fresh(), batches, TrainConfig(steps=4, eval_every=2), valid=iter(VALID), progress=False)
    assert len(log.valid) == 2


def half_of_a_run(path, loss=language_model_loss, source=batches, valid=VALID, model=None, config=None):
    """Stopped after two of four steps."""

    def interrupted(i):
        if i == 2:
            raise KeyboardInterrupt
        return source(i)

    config = config or TrainConfig(steps=4, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(model or fresh(), interrupted, config, loss=loss, valid=valid, checkpoint=path, progress=False)


def other_base(model):
    model.requires_grad_(False)
    with torch.no_grad():
        model.token_embedding.weight[3, 3] += 1
    model.norm.requires_grad_(True)
    return model


@pytest.mark.parametrize("what", ["batches", "validation", "loss", "frozen weights", "dropout", "heads"])
def test_a_state_of_other_data_or_another_base_is_refused(tmp_path, what):
    bare = fresh().requires_grad_(False)
    bare.norm.requires_grad_(True)
    half_of_a_run(tmp_path / "a", model=bare)
    again = {"model": fresh().requires_grad_(False), "batches": batches, "valid": VALID, "loss": language_model_loss}
    again["model"].norm.requires_grad_(True)
    says = "frozen weights"
    if what == "batches":
        again["batches"], says = lambda i: batches(i + 1), "training batches"
    elif what == "validation":
        again["valid"], says = VALID[1:], "validation batches"
    elif what == "loss":
        again["loss"], says = lambda model, batch: language_model_loss(model, batch), "loss"
    elif what == "frozen weights":
        again["model"] = other_base(fresh())
    else:
        change = {"dropout": 0.2} if what == "dropout" else {"n_head": 1}
        again["model"] = fresh(GPTConfig(**{**CONFIG.__dict__, **change})).requires_grad_(False)
        again["model"].norm.requires_grad_(True)
    config = TrainConfig(steps=4, checkpoint_every=1)
    with pytest.raises(UserError, match=f"was made with other.*{says}.*resuming would give neither run"):
        train(config=config, checkpoint=tmp_path / "a", progress=False, **again)


@pytest.mark.parametrize("way", ["plain", "method", "classifier"])
def test_a_state_of_full_fine_tuning_is_refused_by_another_base(tmp_path, way):
    """All weights come from the state, so without a word the other base would become the first one's model."""

    def begin(base):
        if way == "method":
            FullFineTuning().attach(base)
        return Classifier(base, 2) if way == "classifier" else base

    source, loss = batches, language_model_loss
    if way == "classifier":
        source, loss = lambda i: {**batches(i), "label": torch.tensor([0, 1, 1, 0])}, classification_loss
    config = TrainConfig(steps=4, checkpoint_every=1)
    half_of_a_run(tmp_path / "a", loss, source, None, begin(fresh()), config)
    other = fresh()
    with torch.no_grad():
        other.norm.bias[0] += 1
    with pytest.raises(UserError, match="other .*weights at its beginning .load the base that it began with"):
        train(begin(other), source, config, loss=loss, checkpoint=tmp_path / "a", progress=False)
    train(begin(fresh()), source, config, loss=loss, checkpoint=tmp_path / "a", progress=False)


def test_a_run_that_was_broken_off_goes_on_with_the_same_model(tmp_path):
    model, config = fresh(), TrainConfig(steps=4, checkpoint_every=1)
    half_of_a_run(tmp_path / "a", valid=None, model=model)
    train(model, batches, config, checkpoint=tmp_path / "a", progress=False)
    straight = fresh()
    train(straight, batches, TrainConfig(steps=4), progress=False)
    assert same_bits(weights(model), weights(straight))


def test_a_prefix_may_begin_anywhere_because_its_numbers_come_from_the_state(tmp_path):
    for seed in (1, 2):
        base = fresh()
        torch.manual_seed(seed)
        PrefixTuning(3).attach(base)
        train(base, batches, TrainConfig(steps=1), checkpoint=tmp_path / "a", progress=False)


def test_a_finished_prefix_is_not_taken_for_another_tasks(tmp_path):
    """Of the same shapes and settings, on the same base: only the batches tell."""
    config = TrainConfig(steps=2)
    for source, sentence in ((batches, None), (lambda i: batches(i + 100), "other training batches")):
        base = fresh()
        PrefixTuning(3).attach(base)
        if sentence is None:
            train(base, source, config, checkpoint=tmp_path / "a", progress=False)
        else:
            with pytest.raises(UserError, match=sentence):
                train(base, source, config, checkpoint=tmp_path / "a", progress=False)


def test_another_method_of_the_same_shapes_is_refused(tmp_path):
    for init in ("random", [3, 4, 5]):
        base = fresh()
        PrefixTuning(3, init=init).attach(base)
        config = TrainConfig(steps=2)
        if init == "random":
            train(base, batches, config, checkpoint=tmp_path / "a", progress=False)
        else:
            with pytest.raises(UserError, match="other model, frozen weights or method"):
                train(base, batches, config, checkpoint=tmp_path / "a", progress=False)


@pytest.mark.parametrize("damage", ["step", "log", "no weight", "shape", "text"])
def test_a_damaged_state_is_refused_in_a_sentence(tmp_path, damage):
    config = TrainConfig(steps=4, checkpoint_every=1)
    half_of_a_run(tmp_path / "a")
    tensors, about = load_tensors(tmp_path / "a")
    if damage == "step":
        about["step"] = 99
    elif damage == "log":
        about["log"] = {"nonsense": 1}
    elif damage == "no weight":
        del tensors["weight/norm.bias"]
    elif damage == "shape":
        tensors["weight/norm.bias"] = torch.zeros(3)
    else:
        about["training"] = "four steps"
    save_tensors(tmp_path / "a", tensors, about)
    model = fresh()
    with pytest.raises(UserError, match="is damaged|belongs to another run"):
        train(model, batches, config, valid=VALID, checkpoint=tmp_path / "a", progress=False)


def test_weights_that_are_not_finite_are_not_called_finite(tmp_path):
    """A rate so high that the first update overflows."""
    with pytest.raises(UserError, match="made weights that are not finite, and the model has them now: load it"):
        train(fresh(), batches, TrainConfig(steps=1, lr=1e38), checkpoint=tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists(), "what is not finite is not saved"


def test_a_validation_loss_that_is_nan_ends_the_run():
    def loss(model, batch):
        total, count = language_model_loss(model, batch)
        return total * (1.0 if model.training else math.nan), count

    with pytest.raises(UserError, match="The validation loss is nan at step 2"):
        train(fresh(), batches, TrainConfig(steps=2), valid=VALID, loss=loss, progress=False)


def test_parts_stay_in_their_own_mode_over_an_evaluation():
    model = fresh().train()
    model.blocks[0].eval()
    evaluate(model, VALID)
    assert model.training and not model.blocks[0].training and model.blocks[1].training


def test_evaluation_does_not_drop_out_and_restores_the_mode():
    model = fresh(GPTConfig(**{**CONFIG.__dict__, "dropout": 0.5})).train()
    assert evaluate(model, VALID) == evaluate(model, VALID) and model.training
    assert isinstance(model, nn.Module)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_training_where_gradients_are_switched_off_is_refused(off):
    with off(), pytest.raises(UserError, match="Gradients are switched off here, and training needs them"):
        train(fresh(), batches, TrainConfig(steps=1), progress=False)
