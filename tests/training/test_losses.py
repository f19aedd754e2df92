"""The losses against torch's cross-entropy and plain loops."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minitransformer.course.batches.masking import mask_tokens
from minitransformer.errors import UserError
from minitransformer.models.classifier import Classifier, last_token
from minitransformer.text.batches import IGNORE
from minitransformer.training.loop import evaluate
from minitransformer.training.losses import (
    bert_loss,
    classification_loss,
    cross_entropy_sum,
    language_model_loss,
    mlm_loss,
    nsp_loss,
    seq2seq_loss,
)
from tests.helpers import (
    BERT_CONFIG,
    GPT_CONFIG,
    assert_close,
    mask_of,
    random_ids,
    random_prefix,
    tiny_bert,
    tiny_gpt,
    tiny_seq2seq,
)

V = 40
CLS, SEP, MASK, PAD = 0, 1, 2, 3
SPECIAL = [CLS, SEP, MASK, PAD]


def bert_batch():
    ids, attention_mask = random_ids(4, 9), mask_of([9, 5, 7, 8], 9)
    generator = torch.Generator().manual_seed(0)
    corrupted, labels = mask_tokens(ids, MASK, SPECIAL, V, attention_mask, generator=generator)
    types = (torch.arange(9) > 3).long().expand(4, 9)
    return {
        "ids": corrupted,
        "attention_mask": attention_mask,
        "types": types,
        "labels": labels,
        "next_label": torch.tensor([0, 1, 1, 0]),
    }


def test_mlm_loss_is_a_plain_sum():
    model, batch = tiny_bert(), bert_batch()
    hidden = model(batch["ids"], attention_mask=batch["attention_mask"], types=batch["types"])
    log_probs = model.mlm_logits(hidden).log_softmax(-1)
    expected = [
        -log_probs[row, column, label]
        for row, labels in enumerate(batch["labels"].tolist())
        for column, label in enumerate(labels)
        if label != IGNORE
    ]
    loss, count = mlm_loss(model, batch)
    assert count == len(expected), "the loss is over all chosen words, the unchanged and the random ones too"
    assert_close(loss, sum(expected), "the sum of the losses", tolerance=1e-4)


def test_bert_loss_is_the_sum_of_the_two_means():
    model, batch = tiny_bert(), bert_batch()
    loss, count = bert_loss(model, batch)
    (words, n_words), (order, n_order) = mlm_loss(model, batch), nsp_loss(model, batch)
    assert (count, n_order) == (n_words, 4)
    assert_close(loss / count, words / n_words + order / n_order, "mean of both")


@pytest.mark.parametrize("base", [tiny_bert, tiny_gpt])
def test_a_classifier_does_not_see_padding(base):
    model = Classifier(base(), 3).eval()
    torch.nn.init.normal_(model.head.weight)
    ids, lengths = random_ids(3, 8), [8, 3, 5]
    together = model(ids, attention_mask=mask_of(lengths, 8))
    for row, n in enumerate(lengths):
        assert_close(together[row], model(ids[row : row + 1, :n])[0], f"row {row} is another beside longer ones")
    changed = ids.clone()
    changed[:, 1] = (changed[:, 1] + 1) % V
    assert not torch.allclose(model(changed, attention_mask=mask_of(lengths, 8)), together), (
        "the classes do not hang on the text"
    )


def test_a_gpt_classifier_reads_the_last_real_token_on_either_side():
    ids = random_ids(3, 6)
    assert last_token(ids).tolist() == [[False] * 5 + [True]] * 3
    assert last_token(ids, mask_of([6, 2, 4], 6)).nonzero()[:, 1].tolist() == [5, 1, 3]
    assert last_token(ids, mask_of([6, 2, 4], 6, left=True)).nonzero()[:, 1].tolist() == [5, 5, 5]
    model, text = Classifier(tiny_gpt(), 2).eval(), random_ids(1, 4)
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), text], dim=1)
    assert_close(model(padded, attention_mask=mask_of([4], 6, left=True)), model(text), "left padding")


@pytest.mark.parametrize("base", [tiny_bert, tiny_gpt])
def test_a_classifier_passes_a_prefix_on(base):
    model, ids, prefix = Classifier(base(), 2).eval(), random_ids(2, 6), random_prefix(3, 2, 4)
    assert not torch.allclose(model(ids, prefix=prefix), model(ids))


@pytest.mark.parametrize("base, config", [(tiny_bert, BERT_CONFIG), (tiny_gpt, GPT_CONFIG)])
def test_a_classifiers_head_starts_small_and_drops_only_while_training(base, config):
    model = Classifier(base(config=replace(config, dropout=0.5)), 2000)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.05), "as wide as the base's own matrices"
    assert not model.head.bias.any()
    read = []
    model.head.register_forward_pre_hook(lambda head, args: read.append(args[0]))
    torch.manual_seed(0)
    for training in (True, False):
        model.train(training)(random_ids(100, 4))
    dropped = [(summary == 0).float().mean().item() for summary in read]
    # three standard deviations of a share of 800 numbers: 3 √(0.5 · 0.5 / 800)
    assert dropped[0] == pytest.approx(0.5, abs=0.053) and dropped[1] == 0, f"dropped: {dropped}; dropout is 0.5"


def test_classification_loss_is_torchs():
    model = Classifier(tiny_bert(), 3).eval()
    batch = {"ids": random_ids(4, 6), "label": torch.tensor([2, 0, 1, 2])}
    loss, count = classification_loss(model, batch)
    assert count == 4
    assert_close(loss, F.cross_entropy(model(batch["ids"]), batch["label"], reduction="sum"), "class cross-entropy")


def test_seq2seq_loss_predicts_the_next_token_of_the_target():
    model = tiny_seq2seq()
    batch = {
        "source": random_ids(3, 7),
        "source_mask": mask_of([7, 2, 5], 7),
        "ids": random_ids(3, 6, seed=1),
        "attention_mask": mask_of([6, 3, 4], 6),
    }
    batch["labels"] = batch["ids"].masked_fill(~batch["attention_mask"], IGNORE)
    loss, count = seq2seq_loss(model, batch)
    expected = torch.tensor(0.0)
    for row, (n_source, n) in enumerate([(7, 6), (2, 3), (5, 4)]):
        ids = batch["ids"][row : row + 1, :n]
        logits = model(ids[:, :-1], source=batch["source"][row : row + 1, :n_source])
        expected = expected + F.cross_entropy(logits[0], ids[0, 1:], reduction="sum")
    assert count == 5 + 2 + 3
    assert_close(loss, expected, "each target alone, summed", tolerance=1e-4)


def with_label(row, column, value):
    batch = bert_batch()
    batch["labels"][row, column] = value
    return batch


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: mlm_loss(tiny_bert(), with_label(1, 6, 5)), "Row 1 asks for the word at position 6, which is padding"),
        (lambda: mlm_loss(tiny_bert(), with_label(0, 0, V)), "Label 40, number 0 .* the classes run from 0 to 39"),
        (lambda: cross_entropy_sum(torch.zeros(3, 2), torch.tensor([0, 1, 2])), "Label 2, number 2"),
        (lambda: cross_entropy_sum(torch.zeros(3, 2), torch.tensor([0, -1, 1])), "Label -1, number 1"),
        (lambda: cross_entropy_sum(torch.zeros(3, 2), torch.tensor([0, 1])), "one label for each row"),
        (lambda: Classifier(tiny_bert(), 1), "n_classes = 1"),
    ],
)
def test_bad_input_says_why(make, says):
    with pytest.raises(UserError, match=says):
        make()


# ------------------------------------------------------------------- types


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_losses_are_summed_in_float32(kind):
    """In the model's own precision the sum is on a grid of 0.03 nats a token, or infinite."""
    model = tiny_gpt().to(kind)
    batch = {"ids": random_ids(200, 20)}
    with torch.no_grad():
        total, count = language_model_loss(model, batch)
        logits = model(batch["ids"][:, :-1]).double().flatten(0, 1)
    exact = F.cross_entropy(logits, batch["ids"][:, 1:].flatten(), reduction="sum")
    assert total.dtype == torch.float32 and abs(total.item() - exact.item()) / count < 1e-6


@pytest.mark.parametrize("kind", [torch.int8, torch.int16, torch.int32, torch.uint8])
def test_ids_and_labels_of_any_whole_kind(kind):
    model, batch = tiny_gpt(), {"ids": random_ids(3, 6)}
    expected = language_model_loss(model, batch)[0]
    assert torch.equal(language_model_loss(model, {"ids": batch["ids"].to(kind)})[0], expected)
    labelled = {"ids": random_ids(2, 5), "label": torch.tensor([0, 1])}
    head = Classifier(model, 2).eval()
    found = classification_loss(head, {**labelled, "label": labelled["label"].to(kind)})[0]
    assert torch.equal(found, classification_loss(head, labelled)[0])


@pytest.mark.parametrize("kind", [torch.bool, torch.long, torch.float])
def test_padding_is_not_asked_for_where_there_are_no_labels(kind):
    model, ids, attention_mask = tiny_gpt(), random_ids(3, 6), mask_of([6, 2, 4], 6)
    labels = ids.masked_fill(~attention_mask, IGNORE)
    expected = language_model_loss(model, {"ids": ids, "attention_mask": attention_mask, "labels": labels})
    found = language_model_loss(model, {"ids": ids, "attention_mask": attention_mask.to(kind)})
    assert torch.equal(found[0], expected[0]) and found[1] == expected[1] == 5 + 1 + 3


@pytest.mark.parametrize("kind", [torch.long, torch.float])
def test_a_berts_mask_may_be_of_numbers(kind):
    batch = bert_batch()
    numbers = {**batch, "attention_mask": batch["attention_mask"].to(kind)}
    assert torch.equal(mlm_loss(tiny_bert(), numbers)[0], mlm_loss(tiny_bert(), batch)[0])
    with pytest.raises(UserError, match="which is padding"):
        mlm_loss(tiny_bert(), {**with_label(1, 6, 5), "attention_mask": numbers["attention_mask"]})


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (torch.full((2, 5), -1), "Label -1, number 0 .* the classes run from 0 to 39, and -100 stands where"),
        (torch.full((2, 5), V), "Label 40, number 0"),
        (torch.ones(2, 4, dtype=torch.long), r"labels stand at the token .* these are \(2, 4\)\. The loss shifts them"),
        (torch.ones(2, 5), "Labels are whole numbers; these are torch.float32"),
    ],
    ids=["minus one", "too large", "shifted", "floats"],
)
def test_labels_that_no_loss_can_be_made_of(labels, sentence):
    with pytest.raises(UserError, match=sentence):
        language_model_loss(tiny_gpt(), {"ids": random_ids(2, 5), "labels": labels})


@pytest.mark.parametrize(
    ("loss", "make", "change"),
    [
        (language_model_loss, tiny_gpt, {"atention_mask": torch.ones(2, 5)}),
        (language_model_loss, tiny_gpt, {"mask": torch.ones(2, 5)}),
        (language_model_loss, tiny_gpt, {"label": torch.ones(2, 5)}),
        (language_model_loss, tiny_gpt, {"source": torch.ones(2, 5)}),
        (language_model_loss, tiny_gpt, {"ids": None}),
        (seq2seq_loss, tiny_seq2seq, {}),
        (mlm_loss, tiny_bert, {}),
        (bert_loss, tiny_bert, {}),
        (bert_loss, tiny_bert, {"labels": torch.ones(2, 5).long()}),
        (bert_loss, tiny_bert, {"next_label": torch.ones(2).long()}),
        (mlm_loss, tiny_bert, {"labels": torch.ones(2, 5).long(), "token_type_ids": torch.ones(2, 5)}),
        (nsp_loss, tiny_bert, {"next_labels": torch.ones(2)}),
        (classification_loss, lambda: Classifier(tiny_bert(), 2), {"labels": torch.ones(2).long()}),
    ],
)
def test_a_name_that_no_loss_reads_and_one_that_is_missing_are_refused(loss, make, change):
    batch = {name: value for name, value in ({"ids": random_ids(2, 5)} | change).items() if value is not None}
    with pytest.raises(UserError, match="The batch has .*; this loss needs ids"):
        loss(make(), batch)


def test_a_batch_is_a_dictionary():
    for batches in ([[random_ids(2, 5)]], {"ids": random_ids(2, 5)}):
        with pytest.raises(UserError, match="A batch is a dictionary of tensors"):
            evaluate(tiny_gpt(), batches)


@pytest.mark.parametrize(
    ("loss", "make", "sentence"),
    [
        (language_model_loss, tiny_bert, "A Bert reads and does not write"),
        (language_model_loss, lambda: Classifier(tiny_gpt(), 2), "A Classifier reads and does not write"),
        (seq2seq_loss, tiny_gpt, "A GPT reads no source"),
        (seq2seq_loss, tiny_bert, "A Bert reads and does not write"),
        (mlm_loss, tiny_gpt, "A GPT has none of a BERT's heads"),
        (nsp_loss, tiny_seq2seq, "A Seq2Seq has none of a BERT's heads"),
        (bert_loss, lambda: Classifier(tiny_bert(), 2), "A Classifier has none of a BERT's heads"),
        (classification_loss, tiny_gpt, r"The logits are \(2, 5, 40\), not \(N, classes\)"),
        (classification_loss, tiny_bert, r"The logits are \(2, 5, .*not \(N, classes\)"),
    ],
)
def test_a_loss_of_another_model_is_refused(loss, make, sentence):
    names = {
        mlm_loss: ["labels"],
        nsp_loss: ["next_label"],
        bert_loss: ["labels", "next_label"],
        classification_loss: ["label"],
        seq2seq_loss: ["source"],
    }
    values = {
        "ids": random_ids(2, 5),
        "labels": random_ids(2, 5),
        "source": random_ids(2, 5),
        "next_label": torch.tensor([0, 1]),
        "label": torch.tensor([0, 1]),
    }
    with pytest.raises(UserError, match=sentence):
        loss(make(), {name: values[name] for name in ["ids", *names.get(loss, [])]})


@pytest.mark.parametrize("value", [[[1, 2, 3, 4, 5]] * 2, "text", 3])
@pytest.mark.parametrize("name", ["ids", "labels", "attention_mask"])
def test_a_batch_holds_tensors(name, value):
    batch = {"ids": random_ids(2, 5), name: value}
    with pytest.raises(UserError, match=f"'{name}' of a batch is a tensor; this is a {type(value).__name__}"):
        language_model_loss(tiny_gpt(), batch)


def test_batches_to_evaluate_are_a_list():
    with pytest.raises(UserError, match="evaluate.. takes a list of batches; this is a function"):
        evaluate(tiny_gpt(), lambda i: {"ids": random_ids(2, 5)})
