"""Answers to the exercises of lesson 13."""

import torch

from minitransformer.errors import UserError
from minitransformer.models.attention import Prefix
from minitransformer.text.batches.completion import Fitted
from tests.course.exercises import edited, right, wrong

# ---------------------------------------------------------------- 13.1


@right("13.1")
def piece_by_piece(instruction, more=""):
    text = "Human: " + instruction
    if more != "":
        text += "\n" + more
    return text + "\n\n" + "Assistant:"


@wrong("13.1", "braces filled in")
def by_format(instruction, more=""):
    template = "Human: " + instruction + ("\n" + more if more else "") + "\n\n{who}:"
    return template.format(who="Assistant")


@wrong("13.1", "spaces taken away")
def stripped(instruction, more=""):
    said = f"{instruction}\n{more}".strip()
    return f"Human: {said}\n\nAssistant:"


@wrong("13.1", "no empty line")
def lines_joined(instruction, more=""):
    return "\n".join([f"Human: {instruction}", *([more] if more else []), "Assistant:"])


# ---------------------------------------------------------------- 13.2


@right("13.2")
def middle_left_out(prompt, target, n_positions):
    x, y = list(prompt), list(target)
    over = len(x) + len(y) - n_positions
    if over > 0:
        keep_x = max(n_positions - len(y), n_positions - n_positions // 2)
        if keep_x < len(x):
            first = (keep_x + 1) // 2
            x = x[:first] + x[len(x) - (keep_x - first) :]
        y = y[: n_positions - len(x)]
    return Fitted(x, y, len(y) == len(target))


@wrong("13.2", "minus nothing of a cut x")
def from_minus_nothing(prompt, target, n_positions):
    n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt)))
    n_prompt = min(len(prompt), n_positions - n_target)
    if n_prompt == len(prompt):
        return Fitted(list(prompt), list(target[:n_target]), n_target == len(target))
    n_end = n_prompt // 2
    return Fitted([*prompt[: n_prompt - n_end], *prompt[-n_end:]], list(target[:n_target]), n_target == len(target))


edited("13.2", "lists joined", ("[*beginning, *end]", "beginning + end"), named=())
edited("13.2", "y as it came", ("list(target[:n_target])", "target[:n_target]"), named=())
edited("13.2", "at least one of y", ("n_target = min(len(target), ", "n_target = min(max(1, len(target)), "), named=())

# ---------------------------------------------------------------- 13.3


@right("13.3")
def with_a_list_of_counts(model, batches, loss, step, n_batch):
    losses, counts = [], []
    for number in range(step * n_batch, (step + 1) * n_batch):
        found, n = loss(model, batches(number))
        if n:
            found.backward()
            losses.append(float(found.detach()))
            counts.append(n)
    if not counts:
        raise UserError("nothing to learn from")
    for p in model.parameters():
        if p.grad is not None:
            p.grad = p.grad / sum(counts)
    return sum(losses), sum(counts)


@wrong("13.3", "all graphs at once")
def one_backward(model, batches, loss, step, n_batch):
    losses, count = [], 0
    for i in range(n_batch):
        found, n = loss(model, batches(step * n_batch + i))
        if n:
            losses.append(found)
            count += n
    if not count:
        raise UserError("nothing to learn from")
    total = torch.stack(losses).sum()
    (total / count).backward()
    return total.item(), count


edited(
    "13.3",
    "all taken first",
    (
        "for i in range(n_batch):",
        "taken = [batches(step * n_batch + i) for i in range(n_batch)]\n    for i in range(n_batch):",
    ),
    ("loss(model, batches(step * n_batch + i))", "loss(model, taken[i])"),
    named=("all batches at once",),
)
edited(
    "13.3",
    "every loss asked twice",
    (
        "batch_loss, n = loss(model, batches(step * n_batch + i))",
        "batch = batches(step * n_batch + i)\n        batch_loss, n = loss(model, batch)[0], loss(model, batch)[1]",
    ),
    named=(),
)
edited("13.3", "emptied first", ("total, count = 0.0, 0", "model.zero_grad()\n    total, count = 0.0, 0"))

# ---------------------------------------------------------------- 13.4


@right("13.4")
def in_three_loops(rows):
    found = {}
    for slot, layers in rows[0].items():
        found[slot] = []
        for i in range(len(layers)):
            k = torch.cat([row[slot][i].k for row in rows], dim=0)
            v = torch.cat([row[slot][i].v for row in rows], dim=0)
            found[slot].append(Prefix(k, v))
    return found


@right("13.4")
def stacked_and_squeezed(rows):
    return {
        slot: [
            Prefix._make(torch.stack([row[slot][i][part] for row in rows]).flatten(0, 1) for part in (0, 1))
            for i in range(len(rows[0][slot]))
        ]
        for slot in rows[0]
    }


edited("13.4", "two rows", ("for prefixes in rows)", "for prefixes in rows[:2])"), named=())
edited(
    "13.4",
    "empty ones left out",
    (
        "for layer in zip(*(prefixes[slot] for prefixes in rows), strict=True)",
        "for layer in zip(*(prefixes[slot] for prefixes in rows), strict=True)\n            if layer[0].k.size(2)",
    ),
    named=(),
)

# ---------------------------------------------------------------- 13.5


@right("13.5")
def lists_first(prompts, pad_id=0):
    if len(prompts) == 0 or min(map(len, prompts)) == 0:
        raise UserError("There is an empty prompt, or none.")
    T = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (T - len(p)) + list(p) for p in prompts])
    real = torch.tensor([[False] * (T - len(p)) + [True] * len(p) for p in prompts])
    return ids, real if not bool(real.all()) else None


@wrong("13.5", "padding told by its token")
def behind_the_first_word(prompts, pad_id=0):
    ids, real = lists_first(prompts, pad_id)
    if real is None:
        return ids, None
    real = (ids != pad_id).cumsum(dim=1) > 0
    return ids, None if real.all() else real


@wrong("13.5", "padding told by its token")
def not_the_padding_id(prompts, pad_id=0):
    ids, real = lists_first(prompts, pad_id)
    return ids, None if real is None else ids.ne(pad_id)


@wrong("13.5", "padded on the right")
def to_the_right(prompts, pad_id=0):
    ids, real = lists_first([list(p)[::-1] for p in prompts], pad_id)
    return ids.flip(1), None if real is None else real.flip(1)
