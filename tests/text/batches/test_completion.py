"""Completions: y and the end are asked for, x and the padding are not; every pair once an epoch, nothing cut."""

import pytest
import torch
import torch.nn.functional as F

from minitransformer.errors import UserError
from minitransformer.text.batches import IGNORE, pad_right
from minitransformer.text.batches.completion import Completions, completion_batch, eval_completions, fit
from minitransformer.training.loop import evaluate
from minitransformer.training.losses import language_model_loss
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
        (["Say"], [" red"], 1, "token ids and not texts: tokenizer.encode"),
        ([[4]], ["red"], 1, "token ids and not texts"),
        ([[4], []], [[5], [5]], 1, "Prompt 1 is empty: give it at least one token"),
        ([[4]], [[5]], 0, "batch_size = 0: it has to be a whole number of at least 1"),
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


# ---------------------------------------------------------------- truncation

SIZES = [(n_x, n_y, n) for n_x in range(1, 9) for n_y in range(9) for n in range(2, 11)]  # all small cases there are


def numbered(n_x: int, n_y: int) -> tuple[list[int], list[int]]:
    """A pair in which every token says where it stood."""
    return list(range(100, 100 + n_x)), list(range(200, 200 + n_y))


def test_a_cut_at_the_end_leaves_nothing_to_learn_from():
    """What `fit` is for: [x; y][:256] (002, Step 3) of a long x has no label, and a mean over no label is nan."""
    z, labels = [7] * 300 + [8, END], [IGNORE] * 300 + [8, END]
    z, labels = torch.tensor([z[:256]]), torch.tensor([labels[:256]])
    assert (labels == IGNORE).all()
    assert F.cross_entropy(torch.randn(256, 40), labels[0]).isnan()
    x, y, whole = fit([7] * 300, [8], 256)
    assert (len(x), y, whole) == (255, [8], True)


def test_what_is_cut_fits_and_always_has_a_label():
    for n_x, n_y, n in SIZES:
        x, y = numbered(n_x, n_y)
        prompt, target, whole = fit(x, y, n)
        case = f"{n_x} and {n_y} tokens in {n} positions gave {prompt}, {target}"
        batch = completion_batch([prompt], [target], END, [whole])
        assert batch["ids"].shape[1] - 1 <= n, f"{case}: what the model reads is too long"
        assert (batch["labels"][:, 1:] != IGNORE).any(), f"{case}: nothing is asked for"
        assert prompt, f"{case}: nothing is left of x"
        assert bool(target) == bool(y), f"{case}: nothing is left of y"


def test_what_fits_is_not_cut_and_what_is_cut_uses_every_position():
    for n_x, n_y, n in SIZES:
        x, y = numbered(n_x, n_y)
        prompt, target, whole = fit(x, y, n)
        if n_x + n_y <= n:
            assert (prompt, target, whole) == (x, y, True), f"{n_x} + {n_y} fit into {n}"
        else:
            assert len(prompt) + len(target) == n, f"{n_x} and {n_y} tokens could fill {n} positions"


def test_the_prompt_gives_way_first_and_loses_its_middle_the_target_its_end():
    for n_x, n_y, n in SIZES:
        x, y = numbered(n_x, n_y)
        prompt, target, whole = fit(x, y, n)
        assert target == y[: len(target)] and whole == (target == y)
        assert whole or len(prompt) <= n - n // 2, f"y was cut while x still had {len(prompt)} of {n} positions"
        assert len(prompt) == n_x or len(target) >= min(n_y, n // 2)
        assert prompt == sorted(set(prompt)) and prompt[0] == x[0], "tokens of x in their order, from its beginning"
        if 1 < len(prompt) < n_x:
            gaps = [a for a, b in zip(prompt, prompt[1:], strict=False) if b != a + 1]
            assert prompt[-1] == x[-1] and len(gaps) == 1, "one piece is missing, and not x's end, where y begins"


def test_a_target_that_was_cut_is_not_asked_to_end():
    """A label "end" in the middle of a sentence would teach to stop there."""
    batch = completion_batch([[7, 8], [6]], [[10, 11], [12]], END, [False, True])
    x = IGNORE
    assert batch["ids"].tolist() == [[7, 8, 10, 11], [6, 12, END, END]]
    assert batch["labels"].tolist() == [[x, x, 10, 11], [x, 12, END, x]]


def test_batches_cut_where_they_may():
    batches = Completions([[4] * 30, [5]], [[6, 6], [7] * 60], END, batch_size=2, n_positions=24, cut=True)
    rows = sorted(zip(batches(0)["ids"].tolist(), batches(0)["labels"].tolist(), strict=True))
    assert [ids for ids, _ in rows] == [[4] * 22 + [6, 6, END], [5] + [7] * 23 + [END]]
    assert [sum(label != IGNORE for label in labels) for _, labels in rows] == [3, 23], "y and its end; y without one"
    loss, count = language_model_loss(tiny_gpt(), batches(0))
    assert loss.isfinite() and count == 26


@pytest.mark.parametrize(
    ("prompt", "n", "says"),
    [([4], 1, "n_positions = 1: it has to be a whole number of at least 2"), ([], 9, "Prompt 0 is empty")],
)
def test_what_cannot_fit_is_refused(prompt, n, says):
    with pytest.raises(UserError, match=says):
        fit(prompt, [5], n)


def test_pad_right():
    ids, attention_mask = pad_right([[5, 6, 7], [8]], pad_id=1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert attention_mask.tolist() == [[True, True, True], [True, False, False]]
    # The padding's id may occur in a text: only `attention_mask` says what is real.
    assert pad_right([[1, 1], [1]], pad_id=1)[1].tolist() == [[True, True], [True, False]]
