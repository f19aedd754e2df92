"""Completions: y and the end are asked for, x and the padding are not; every pair once an epoch, nothing cut."""

import pytest
import torch

from minitransformer.batches.completion import Completions, completion_batch, eval_completions
from minitransformer.errors import UserError
from minitransformer.training import IGNORE, evaluate, language_model_loss
from minitransformer.tuning import Infix, attached, virtual_ids
from tests.helpers import assert_close, tiny_gpt

END = 3


def make_pairs(n: int) -> tuple[list[list[int]], list[list[int]]]:
    """Pairs of many lengths; the first two tokens of a prompt number the pair."""
    prompts = [[4 + i // 30, 4 + i % 30] + [5] * (i * 7 % 5) for i in range(n)]
    return prompts, [[4 + i % 30] * (i * 5 % 8) for i in range(n)]  # the targets may be empty


def test_y_and_the_end_are_asked_for_and_nothing_else():
    batch = completion_batch([[7, 8, 9], [6]], [[10], [11, 12]], END)
    assert batch["ids"].tolist() == [[7, 8, 9, 10, END], [6, 11, 12, END, END]]
    x = IGNORE
    assert batch["labels"].tolist() == [[x, x, x, 10, END], [x, 11, 12, END, x]], "the last END is padding, not the end"
    assert language_model_loss(tiny_gpt(), batch)[1] == 2 + 3


def test_the_loss_is_the_sum_over_y_of_a_plain_loop():
    """L(p) = -Σ log p(z_i | z_<i) over i ∈ Y_idx (003 §3.1), each text alone, one token after another."""
    model, (prompts, targets) = tiny_gpt(), make_pairs(9)
    loss, count = language_model_loss(model, completion_batch(prompts, targets, END))
    expected, n = 0.0, 0
    for x, y in zip(prompts, targets, strict=True):
        z = [*x, *y, END]
        for i in range(len(x), len(z)):
            expected -= model(torch.tensor([z[:i]]))[0, -1].log_softmax(-1)[z[i]].item()
            n += 1
    assert count == n
    assert_close(loss, torch.tensor(expected), "the loss asks for something else than y and the end", 1e-3)


def test_virtual_tokens_may_stand_in_a_prompt():
    prompts, targets = [[7, 8, *virtual_ids(2)], [6, *virtual_ids(2)]], [[10], [11, 12]]
    batch, base = completion_batch(prompts, targets, END), tiny_gpt()
    assert not ((batch["labels"] < 0) & (batch["labels"] != IGNORE)).any(), "a virtual token cannot be predicted"
    with attached(base, Infix(2)):
        loss, count = language_model_loss(base, batch)
    assert loss.isfinite() and count == 5


def test_every_pair_at_most_once_an_epoch_and_batch_i_is_a_function_of_i():
    prompts, targets = make_pairs(30)
    one, two = (Completions(prompts, targets, END, batch_size=4, n_positions=24, seed=1) for _ in range(2))
    made = [one(i) for i in range(14)]  # two epochs of 7 batches; two pairs are left over in each
    orders = []
    for epoch in range(2):
        batches = made[7 * epoch : 7 * epoch + 7]
        rows = [row for batch in batches for row in zip(batch["ids"], batch["labels"], strict=True)]
        numbers = [(ids[0].item() - 4) * 30 + ids[1].item() - 4 for ids, _ in rows]
        assert len(set(numbers)) == 28, f"epoch {epoch}: a pair came twice"
        for number, (_, labels) in zip(numbers, rows, strict=True):
            asked = labels[labels != IGNORE].tolist()
            assert asked == [*targets[number], END], f"prompt {number} has another's target"
        orders.append(numbers)
    assert orders[0] != orders[1], "each epoch is shuffled anew"
    for i in reversed(range(14)):
        same = all(torch.equal(made[i][name], two(i)[name]) for name in ("ids", "labels"))
        assert same, f"batch {i} depends on earlier calls"
    other = Completions(prompts, targets, END, batch_size=4, n_positions=24, seed=2)
    assert any(not torch.equal(made[i]["ids"], other(i)["ids"]) for i in range(7)), "the seed does nothing"


def test_fewer_examples_than_a_batch_are_one_batch():
    batches = Completions([[4], [5], [6]], [[7], [8], [9]], END, batch_size=16, n_positions=24)
    for i in range(3):
        assert sorted(batches(i)["ids"][:, 0].tolist()) == [4, 5, 6]


def test_evaluation_takes_every_pair_once_and_gives_the_mean_over_all_labels():
    prompts, targets = make_pairs(11)
    made, model = eval_completions(prompts, targets, END, batch_size=4), tiny_gpt()
    assert [len(batch["ids"]) for batch in made] == [4, 4, 3]
    assert sorted(row[:2].tolist() for batch in made for row in batch["ids"]) == sorted(x[:2] for x in prompts)
    alone = [language_model_loss(model, completion_batch([x], [y], END)) for x, y in zip(prompts, targets, strict=True)]
    expected = sum(loss.item() for loss, _ in alone) / sum(n for _, n in alone)
    assert abs(evaluate(model, made) - expected) < 1e-4
    lengths = [len(x) + len(y) for x, y in zip(prompts, targets, strict=True)]
    width = sum(batch["ids"].numel() for batch in made)
    assert width < max(lengths) * 11, "sorted by length, little is filled up"


def test_the_longest_that_fits_is_taken():
    batch = Completions([[4] * 10], [[5] * 14], END, batch_size=1, n_positions=24)(0)
    assert language_model_loss(tiny_gpt(), batch)[1] == 15


@pytest.mark.parametrize(
    ("prompts", "targets", "size", "says"),
    [
        ([], [], 1, "0 prompts and 0 targets: they have to come in pairs"),
        ([[4]], [], 1, "1 prompts and 0 targets"),
        ([[4], []], [[5], [5]], 1, "Prompt 1 is empty: give it at least one token"),
        ([[4]], [[5]], 0, "batch_size = 0: a batch has at least one row"),
        ([[4], [4] * 10], [[5], [5] * 15], 1, r"Example 1 needs 25 positions \(10 .* 15 .*\); there are 24. Shorten"),
    ],
)
def test_nothing_is_cut_or_left_out(prompts, targets, size, says):
    with pytest.raises(UserError, match=says):
        Completions(prompts, targets, END, batch_size=size, n_positions=24)
    if "Example" not in says:
        with pytest.raises(UserError, match=says):
            eval_completions(prompts, targets, END, batch_size=size)
    if "Example" not in says and size:
        with pytest.raises(UserError, match=says):
            completion_batch(prompts, targets, END)
