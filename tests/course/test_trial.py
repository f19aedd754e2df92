"""A trial: the method is on while the model is judged, and the base is untouched afterwards, whatever happens."""

import pytest
import torch

from minitransformer.course.trial import CountedClassification, tune
from minitransformer.errors import UserError
from minitransformer.models.classifier import Classifier
from minitransformer.training.loop import TrainConfig, evaluate
from minitransformer.training.losses import classification_loss
from minitransformer.tuning import LoRA, attached, fingerprint
from tests.helpers import random_ids, tiny_gpt

QUIET = {"progress": False}


def batches(i: int) -> dict:
    return {"ids": torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(i))}


def labelled(i: int) -> dict:
    return {**batches(i), "label": torch.tensor([0, 1]), "attention_mask": torch.ones(2, 9, dtype=torch.bool)}


def test_a_trial_is_what_the_four_steps_give():
    base = tiny_gpt()
    before, config = fingerprint(base), TrainConfig(4, lr=1e-2)
    torch.manual_seed(1)
    method = LoRA(2)
    done = tune(base, method, batches, config, lambda: evaluate(base, [batches(99)]), **QUIET)
    assert fingerprint(base) == before and not hasattr(base, "tuning") and method.base is None
    assert len(done.log.train) == 4 and done.report.trained == sum(p.numel() for p in method.parameters())
    untouched = evaluate(base, [batches(99)])
    with attached(base, method):
        assert evaluate(base, [batches(99)]) == done.judged != untouched, "judged without what was learned"


def test_without_a_config_nothing_is_trained():
    base, method = tiny_gpt(), LoRA(2)  # B = 0: LoRA begins as nothing
    done = tune(base, method, batches, None, lambda: evaluate(base, [batches(0)]))
    assert done.log is None and done.judged == pytest.approx(evaluate(base, [batches(0)]), abs=1e-6)


def test_without_a_method_the_head_alone_is_trained():
    model = Classifier(tiny_gpt(), 2)
    before, head = fingerprint(model.base), model.head.weight.detach().clone()
    asked = {name for name, p in model.named_parameters() if p.requires_grad}
    done = tune(model, None, labelled, TrainConfig(2, lr=1e-2), loss=classification_loss, **QUIET)
    assert done.report is None and len(done.log.train) == 2
    assert fingerprint(model.base) == before and not torch.equal(model.head.weight, head)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == asked, "the base stays frozen"


def test_a_method_comes_off_where_its_training_fails():
    base, method = tiny_gpt(), LoRA(2)
    before = fingerprint(base)
    with pytest.raises(UserError, match="has no label"):
        tune(base, method, lambda i: {**batches(i), "labels": torch.full((2, 9), -100)}, TrainConfig(1), **QUIET)
    with pytest.raises(ZeroDivisionError):
        tune(base, LoRA(2), batches, None, lambda: 1 / 0)
    assert not hasattr(base, "tuning") and fingerprint(base) == before and method.base is None


def test_counted_classification_is_the_loss_and_the_accuracy_of_each_evaluation():
    model = Classifier(tiny_gpt(), 2).eval()
    batches = [{"ids": random_ids(3, 5, seed=i), "label": torch.tensor([0, 1, i % 2])} for i in range(4)]
    counted = CountedClassification()
    for part in (batches[:2], batches[2:]):
        assert evaluate(model, part, counted.loss) == evaluate(model, part, classification_loss)
        counted.on_eval(1, 0.0)
    right = [(model(batch["ids"])[row].argmax() == batch["label"][row]).item() for batch in batches for row in range(3)]
    assert counted.accuracies == pytest.approx([sum(right[:6]) / 6, sum(right[6:]) / 6])
