"""Exercises of lesson 13: the words of a dialogue, cutting, accumulated gradients, a task for each row, padded left."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.errors import UserError
from minitransformer.models.attention import Prefix
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.text.batches.completion import Fitted
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning import PrefixTuning, attached, for_each_row
from torch import nn

# ---------------------------------------------------------------- 13.1

human = Exercise(
    id="13.1",
    target="minitransformer.course.tasks:as_human",
    title="Human, Assistant",
    minutes=5,
    difficulty=1,
    purpose="A prefix for dialogue learns what follows these exact words. Every text that it is trained on, and every line that "
    "somebody types, goes through this function, so one character more or less would be another question.",
    hints=(
        "Four parts: the first speaker, what they say (on one or two lines), an empty line, the second speaker up to the colon.",
        'An empty line is two line breaks, "\\n\\n". The second line of what is said is there only if more is. After "Assistant:" '
        "nothing follows: the answer's first word brings its own space.",
        "    said = instruction\n"
        '    # and below it "\\n" + more, if more is not empty\n'
        '    return f"Human: {said}\\n\\nAssistant:"',
    ),
    oracle=lambda instruction, more="": "".join(
        ["Human: ", instruction, *["\n", more] * bool(more), "\n\n", "Assistant:"]
    ),
)


@human.case
def a_question():
    """A question alone."""
    return ("Who is Mira?",)


@human.case
def with_an_input():
    """An instruction and a text that it is about."""
    return "Say this like a pirate.", "The boat is small."


@human.case
def an_empty_input():
    """An instruction and an empty text."""
    return "Tell me a story.", ""


@human.case
def a_space_behind():
    """An instruction that ends in a space, which belongs to it."""
    return ("Go on: ",)


@human.mistake
def a_space_at_the_end(instruction, more=""):
    """Your text ends in a space, as 002's does. The tokenizer learned words with the space in front of them: here it would stand alone, where no text has one, and the answer's first word would lose its own."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant: "


@human.mistake
def no_empty_line(instruction, more=""):
    """The speakers stand on neighbouring lines. Between them is an empty line, that is two line breaks; with one, the assistant could be part of what the human says."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\nAssistant:"


@human.mistake
def a_line_for_nothing(instruction, more=""):
    """You begin a second line even if nothing stands on it. Without an input there would be three line breaks, which is another text than the model is trained on."""
    return f"Human: {instruction}\n{more}\n\nAssistant:"


@human.mistake
def in_one_line(instruction, more=""):
    """You put the input behind the instruction on the same line. It has a line of its own, so that one can see where what is asked ends."""
    return f"Human: {instruction}" + (f" {more}" if more else "") + "\n\nAssistant:"


@human.mistake
def the_input_left_out(instruction, more=""):
    """You leave out what the instruction is about: "Say this like a pirate." without this."""
    return f"Human: {instruction}\n\nAssistant:"


@human.mistake
def an_empty_line_before_the_input(instruction, more=""):
    """An empty line stands between the instruction and its input. It is what parts the speakers; the input begins on the next line."""
    return f"Human: {instruction}" + (f"\n\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def no_space_behind_the_speaker(instruction, more=""):
    """No space stands behind "Human:". Every text that the model is trained on has one there."""
    return f"Human:{instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def a_line_break_at_the_end(instruction, more=""):
    """Your text ends in a line break. The answer stands behind "Assistant:" on the same line, and its first word brings a space."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:\n"


@human.mistake
def no_assistant(instruction, more=""):
    """Nobody is asked to answer: behind the empty line stands "Assistant:"."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\n"


@human.mistake
def other_speakers(instruction, more=""):
    """Your speakers have other names. The course's are "Human" and "Assistant", as in 002, with capitals."""
    return f"User: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def the_input_first(instruction, more=""):
    """What the instruction is about stands before it. It is the other way round: the instruction, and below it the input."""
    return "Human: " + (f"{more}\n" if more else "") + f"{instruction}\n\nAssistant:"


@human.mistake
def a_space_for_nothing(instruction, more=""):
    """You put the input behind the instruction on the same line, with a space even if there is none. It has a line of its own, and only if there is one."""
    return f"Human: {instruction} {more}\n\nAssistant:"


@human.mistake
def spaces_taken_away(instruction, more=""):
    """You strip spaces. What somebody says is taken as it is: with a character more or less the model reads another question."""
    return f"Human: {instruction}\n{more}".strip() + "\n\nAssistant:"


@human.mistake
def no_colon(instruction, more=""):
    """Your text ends in "Assistant" without the colon, so the colon would have to be the first thing that the assistant says."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant"


@human.mistake
def nobody_speaks(instruction, more=""):
    """The first speaker has no name. Two speakers share the text, and the model tells them apart by "Human: " and "Assistant:"."""
    return instruction + (f"\n{more}" if more else "") + "\n\nAssistant:"


# ---------------------------------------------------------------- 13.2


def fit_by_loop(prompt, target, n_positions):
    """One token less at a time, until it fits."""
    x, y = list(prompt), list(target)
    while len(x) + len(y) > n_positions:
        if len(x) > n_positions - n_positions // 2:
            x.pop(len(x) // 2)
        else:
            y.pop()
    return Fitted(x, y, len(y) == len(target))


cut = Exercise(
    id="13.2",
    target="minitransformer.text.batches.completion:shorten",
    title="Cut, without losing the answer",
    minutes=20,
    difficulty=2,
    purpose="A pair that is too long has to be cut. Cut at its end, as 002 does it, y goes first, and an example without a label teaches "
    "nothing (or, divided by 0 labels, destroys the prefix). Here something of y is always left. `fit` calls this function once it knows that "
    "there are two positions or more and an x.",
    given=(
        "Fitted(prompt, target, whole): what is given back: x and y as lists, and whether all of y is left, whatever became of x.",
    ),
    hints=(
        "Two numbers decide: how many tokens of y stay, and how many of x. y is sure of half of the positions, and of whatever "
        "x leaves free.",
        "n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt))); x gets what is left, or all of itself if that "
        "is less. If x is cut, it keeps its beginning and its end.",
        "    # n_target: what y keeps, as the hint before has it\n"
        "    n_prompt = min(len(prompt), n_positions - n_target)\n"
        "    # n_end: n_prompt // 2 if x is cut, else 0\n"
        "    x_begins = prompt[: n_prompt - n_end]\n"
        "    x_ends = prompt[len(prompt) - n_end :]\n"
        "    is_whole = n_target == len(target)\n"
        "    return Fitted([*x_begins, *x_ends], …, is_whole)",
    ),
    oracle=fit_by_loop,
)


@cut.case
def it_fits():
    """A pair that fits."""
    return [1, 2, 3], [4, 5], 5


@cut.case
def x_too_long():
    """A long x, a y of two."""
    return [1, 2, 3, 4, 5, 6, 7, 8], [11, 12], 6


@cut.case
def y_too_long():
    """A long y, an x of two."""
    return [1, 2], [11, 12, 13, 14, 15, 16, 17], 6


@cut.case
def both_too_long():
    """Both are longer than half of eight positions."""
    return [1, 2, 3, 4, 5, 6, 7], [11, 12, 13, 14, 15, 16], 8


@cut.case
def odd_numbers():
    """Both too long, and seven positions."""
    return [1, 2, 3, 4, 5, 6, 7], [11, 12, 13, 14, 15], 7


@cut.case
def x_fills_everything():
    """x alone has as many tokens as there are positions."""
    return list(range(1, 11)), [11, 12, 13], 10


@cut.case
def an_empty_y():
    """A long x and no y."""
    return [1, 2, 3, 4, 5], [], 4


FITTED = "beginning, end = prompt[: n_prompt - n_end], prompt[len(prompt) - n_end :]"
N_TARGET = "n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt)))"
N_PROMPT = "n_prompt = min(len(prompt), n_positions - n_target)"
cut.slip(
    "cut at the end",
    "You cut [x; y] at its end, as 002 does. y goes first, and all of it where x is long: an example with no label, whose mean loss is "
    "0/0. x gives way first, down to half of the positions.",
    (N_TARGET, "n_target = min(len(target), max(0, n_positions - len(prompt)))"),
    ("n_end = n_prompt // 2 if n_prompt < len(prompt) else 0", "n_end = 0"),
)
cut.slip(
    "the end of x lost",
    "Your x loses its end. There the question often stands, and behind it y has to begin (“Assistant:”); x loses its middle.",
    (FITTED, "beginning, end = prompt[:n_prompt], []"),
)
cut.slip(
    "the beginning of x lost",
    "Your x loses its beginning, which says what is asked. It loses its middle, and keeps both.",
    (FITTED, "beginning, end = [], prompt[len(prompt) - n_prompt :]"),
)
cut.slip(
    "y gives way first",
    "You cut y before x. What is learned is y: x gives way first, down to half of the positions.",
    (
        N_TARGET,
        "n_target = min(len(target), max(n_positions - len(prompt), n_positions - (n_positions - n_positions // 2)), 1)",
    ),
)
cut.slip(
    "always half",
    "You give y half of the positions at most, even if x leaves more room. What x does not need belongs to y: max(n_positions // 2, "
    "n_positions - len(prompt)).",
    (N_TARGET, "n_target = min(len(target), n_positions // 2)"),
)
cut.slip(
    "x always at half",
    "You cut x to half of the positions even if y leaves more room. x has all that y does not take, n_positions less what is kept of y.",
    (N_PROMPT, "n_prompt = min(len(prompt), n_positions - n_positions // 2)"),
)
cut.slip(
    "the larger half for y",
    "Of an odd number of positions you give y the larger half. It is x that keeps it: y is sure of n_positions // 2.",
    ("max(n_positions // 2, n_positions", "max((n_positions + 1) // 2, n_positions"),
)
cut.slip(
    "y not cut",
    "Your y keeps its whole length, and the pair is still too long. What x leaves free, and half of the positions at least, is all that y gets.",
    ("list(target[:n_target])", "list(target)"),
)
cut.slip(
    "y up to all positions",
    "You let y take every position there is, and nothing of x is left. Down to half of the positions x gives way, not further.",
    (N_TARGET, "n_target = min(len(target), n_positions)"),
)
cut.slip(
    "whole if x is",
    "You look whether x was cut. whole is about y: whether its end is where it ends.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_prompt == len(prompt)",
    ),
)
cut.slip(
    "whole if both are",
    "You call y whole only if x was not cut either. A y that is all there is asked to end, whatever became of x.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_target == len(target) and n_prompt == len(prompt)",
    ),
)
cut.slip(
    "whole turned round",
    "You say whether y was cut; whole is whether it was not.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_target < len(target)",
    ),
)
cut.slip(
    "a plain tuple",
    "You make a plain tuple. Who reads it asks for .prompt, .target and .whole by name: Fitted(…).",
    ("return Fitted(", "return ("),
)
cut.slip(
    "minus nothing",
    "Where nothing of the end is to stay, your slice from minus nothing, prompt[-0:], is prompt[0:], all of it: an x that fits stands there twice. prompt[len(prompt) - n :] with n = 0 is "
    "empty, as it should be.",
    (FITTED, "beginning, end = prompt[: n_prompt - n_end], prompt[-n_end:]"),
)
cut.slip(
    "the beginning of y lost",
    "Your y loses its beginning, so the model would learn to answer from the middle of a sentence. It loses its end.",
    ("list(target[:n_target])", "list(target[len(target) - n_target :])"),
)
cut.slip(
    "always whole",
    "You call every y whole. One that was cut would be asked to end in the middle: whole is whether all of it is left.",
    ("list(target[:n_target]), n_target == len(target)", "list(target[:n_target]), True"),
)
cut.slip(
    "the smaller half in front",
    "Where an odd number of x is left, your end gets one more than your beginning; it is the other way round.",
    ("n_end = n_prompt // 2 if", "n_end = (n_prompt + 1) // 2 if"),
)

# ---------------------------------------------------------------- 13.3

step = Exercise(
    id="13.3",
    target="minitransformer.training.loop:accumulate_gradients",
    title="Eight times one is once eight",
    minutes=25,
    difficulty=3,
    purpose="One step of training from several batches, of which only one has to fit into memory (gradient accumulation). The result is "
    "that of one large batch: every label weighs the same, however the labels are distributed. The loop then clips the gradients, updates the weights and "
    "empties the gradients.",
    given=(
        "loss(model, batch): the sum of a batch's losses, a tensor, and how many labels it has.",
        "batches(i): batch number i of the run.",
        "model.parameters(): some of them get no gradient, and their p.grad stays None.",
    ),
    hints=(
        "backward() adds to the gradients that are there already; nothing has to be done for the sum. A sum of losses gives a sum of "
        "gradients. When is the one moment to divide, and by what?",
        "For i in range(n_batch): the batch is batches(step * n_batch + i). If it has labels: "
        "batch_loss.backward(), and total and count grow by batch_loss.item() and n. No label at all is a UserError.",
        "After the loop, once, by all labels of the step:\n"
        "    for p in model.parameters():\n"
        "        if p.grad is not None:\n"
        "            p.grad.div_(count)\n"
        "    return total, count",
    ),
)


def weighed_texts(*sizes):
    """Batches of so many labels; the targets differ from row to row."""
    return [{"x": tidy(n, 2), "y": tidy(n, 1)} for n in sizes]


def squares(model, batch):
    """The sum of squared errors, and how many there are; of none, a 0 that no model made."""
    n = len(batch["y"])
    return (model(batch["x"]) - batch["y"]).square().sum() if n else torch.zeros(()), n


class Line(nn.Linear):
    """A line; beside it, numbers that are never used, and get no gradient."""

    def __init__(self):
        super().__init__(2, 1)
        self.unused = nn.Parameter(torch.ones(3))


def steps(accumulate_gradients, batches, n_batch, times=1):
    """Which batches some steps ask for, what they give, and the gradients after each."""
    asked, given, gradients, model = [], [], [], Line()
    before = model.weight.detach().clone()

    def give(i):
        asked.append(i)
        if len(asked) > 50:
            raise RuntimeError("More than 50 batches were asked for.")
        return batches[i % len(batches)]

    for number in range(times):
        given.append(accumulate_gradients(model, give, squares, number, n_batch))
        gradients.append(model.weight.grad.clone())
        model.zero_grad()
    return {
        "numbers of the batches asked for": asked,
        "what each step gave, total and count": given,
        "gradients after each step": gradients,
        "how far the weights moved": model.weight.detach() - before,
    }


@step.scene
def a_short_and_a_long_one(accumulate_gradients):
    """Two batches, of one label and of four."""
    return steps(accumulate_gradients, weighed_texts(1, 4), 2)


@step.scene
def one_batch(accumulate_gradients):
    """One batch of three labels."""
    return steps(accumulate_gradients, weighed_texts(3), 1)


@step.scene
def two_of_a_size(accumulate_gradients):
    """Two batches of two labels each."""
    return steps(accumulate_gradients, weighed_texts(2, 2), 2)


@step.scene
def two_steps(accumulate_gradients):
    """Two steps of two batches."""
    return steps(accumulate_gradients, weighed_texts(2, 1, 3, 2), 2, times=2)


@step.scene
def one_without_labels(accumulate_gradients):
    """Three batches, of which the second has no label."""
    return steps(accumulate_gradients, weighed_texts(2, 0, 1), 3)


@step.scene
def as_one_large_batch(accumulate_gradients):
    """Three small batches beside one with all their rows: how far the gradients are apart."""
    parts = weighed_texts(1, 2, 4)
    whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    made = []
    for batches, n_batch in ((parts, 3), ([whole], 1)):
        torch.manual_seed(1)
        made.append(steps(accumulate_gradients, batches, n_batch)["gradients after each step"][0])
    return made[0] - made[1]


@step.scene
def in_the_loop(accumulate_gradients):
    """The log of a training of two steps, from two batches each."""
    config = TrainConfig(steps=2, lr=0.1, accumulate=2)
    batches = weighed_texts(1, 2, 3, 1)
    return train(Line(), batches.__getitem__, config, loss=squares, progress=False).train


@step.scene
def no_label_at_all(accumulate_gradients):
    """A step without a label is refused."""
    return steps(accumulate_gradients, weighed_texts(0, 0), 2)


DIVIDED = "p.grad.div_(count)  # the sum becomes the mean over all labels of the step"
step.slip(
    "means averaged",
    "You average the batches' means. A label of a short answer then weighs more than one of a long answer; it is no longer the step of one "
    "large batch. Sum first, and divide once, by all labels.",
    ("batch_loss.backward()", "(batch_loss / n / n_batch).backward()"),
    (DIVIDED, "pass"),
)
step.slip(
    "means added up",
    "You take each batch's mean and add them up: with eight batches the gradient is eight times as long. Sum the losses, and divide once, "
    "by all labels.",
    ("batch_loss.backward()", "(batch_loss / n).backward()"),
    (DIVIDED, "pass"),
)
step.slip(
    "not divided",
    "Your gradients are sums: a step with more labels has a longer gradient, and the clipping cuts it. The loss in the log is a mean, so the "
    "gradient has to be one. Divide each p.grad by count, in place, or give p.grad the quotient; p = p / count would only give the name p to another tensor.",
    (DIVIDED, "pass"),
)
step.slip(
    "an empty batch made up for",
    "Where a batch has no label you take one more for it. It uses up its place all the same: a step takes n_batch batches, with labels or without, or the "
    "next step would meet the same ones again.",
    ("for i in range(n_batch):", "i = -1\n    used = 0\n    while used < n_batch:\n        i += 1"),
    ("        batch_loss.backward()", "        used += 1\n        batch_loss.backward()"),
)
step.slip(
    "divided by the number of batches",
    "You divide by n_batch. loss gives sums over labels, not means, so that it is the labels that count: divide by count.",
    (DIVIDED, "p.grad.div_(n_batch)"),
)
step.slip(
    "divided by the last batch's labels",
    "You divide by n, the labels of the last batch alone. The gradients are sums over all batches: count.",
    (DIVIDED, "p.grad.div_(max(n, 1))"),
)
step.slip(
    "gradients emptied in between",
    "You empty the gradients before each batch, so that only the last one counts. The loop empties them after the update; "
    "until then backward() adds up.",
    ("batch_loss.backward()", "model.zero_grad()\n        batch_loss.backward()"),
)
step.slip(
    "an update for each batch",
    "You update the weights after each batch. Then these are small steps with small batches, which is what accumulation avoids; the loop updates them "
    "once, from the gradients that you leave.",
    (
        "batch_loss.backward()",
        "batch_loss.backward()\n        torch.optim.SGD(model.parameters(), lr=0.1).step()",
    ),
)
step.slip(
    "the same batch again",
    "You take the same batch n_batch times. Batch i of the step is number step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(step * n_batch)"),
)
step.slip(
    "always the first batches",
    "You begin at batch 0 in every step, and never see the rest of the data. Step s begins at s · n_batch.",
    ("batches(step * n_batch + i)", "batches(i)"),
)
step.slip(
    "steps that overlap",
    "Your steps begin one batch apart, so that each batch is used several times. Step s begins at s · n_batch.",
    ("batches(step * n_batch + i)", "batches(step + i)"),
)
step.slip(
    "an empty batch asked for gradients",
    "A batch without labels has no loss to go back from, and backward() fails, or does nothing at best. Pass it over: if it has no label, go on with the "
    "next.",
    ("if n == 0:\n            continue\n", "pass\n"),
)
step.slip(
    "stopped at an empty batch",
    "At a batch without labels you leave the loop, and those behind it are never seen. Pass over this one alone: continue, not break.",
    ("            continue\n", "            break\n"),
)
step.slip(
    "an empty batch refused",
    "You refuse a step as soon as one of its batches has no label. Only a step without any is refused; the others count.",
    ("            continue\n", '            raise UserError("A batch has no label.")\n'),
)
step.slip(
    "None divided",
    "You divide the gradients of all parameters, and some got none: their grad is None. Divide those whose grad is not None.",
    ("if p.grad is not None:", "if True:"),
)
step.slip(
    "divided by the loss",
    "You divide the gradients by the loss. They are sums over labels: divide by how many these are, count.",
    (DIVIDED, "p.grad.div_(total)"),
)
step.slip(
    "weights divided",
    "You divide the weights, not their gradients: p.grad.",
    (DIVIDED, "p.data.div_(count)"),
)
step.slip(
    "a mean in the total",
    "You add up the batches' mean losses. The loop divides total by count, so it is the sum over labels.",
    ("total + batch_loss.item()", "total + batch_loss.item() / n"),
)
step.slip(
    "batches counted",
    "You count batches. count is how many labels there were, in all batches together: n of each.",
    ("count + n", "count + 1"),
)
step.slip(
    "only the last batch's total",
    "total is the last batch's loss alone. It adds up over the batches, as count does.",
    ("total + batch_loss.item()", "batch_loss.item()"),
)
step.slip(
    "only the last batch's count",
    "count is the last batch's alone. It adds up, as total does: count + n.",
    ("count + n", "n"),
)
step.slip(
    "one batch too far",
    "You begin one batch too late: batch 0 is never seen. i counts from 0: step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(step * n_batch + i + 1)"),
)
step.slip(
    "the next step's batches",
    "You take the batches of the step after this. Steps count from 0, so that the first begins at batch 0.",
    ("batches(step * n_batch + i)", "batches((step + 1) * n_batch + i)"),
)
step.slip(
    "step and batch exchanged",
    "You multiply i by n_batch, so that the batches of a step lie far apart. Those of a step are neighbours: step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(i * n_batch + step)"),
)
step.slip(
    "no label not refused",
    "A step without any label divides by 0. Say so in a sentence: raise a UserError if count is 0.",
    ("if count == 0:", "if False:"),
)
step.slip(
    "a mean returned",
    "You return the mean loss. The loop divides total by count itself: return the sum.",
    ("return total, count", "return total / count, count"),
)
step.slip(
    "the graph kept",
    "You add up tensors: total holds on to the graph of every batch, and so to their activations; the memory that accumulation saves is "
    "spent again. The .item() of a loss is a number.",
    ("total + batch_loss.item()", "total + batch_loss"),
)

# ---------------------------------------------------------------- 13.4


def rows_by_loop(rows):
    """Row after row written into its place."""
    found = {}
    for slot in rows[0]:
        found[slot] = []
        for layer in range(len(rows[0][slot])):
            parts = []
            for part in (0, 1):
                one = rows[0][slot][layer][part]
                whole = one.new_empty(len(rows), *one.shape[1:])
                for row, prefixes in enumerate(rows):
                    whole[row] = prefixes[slot][layer][part][0]
                parts.append(whole)
            found[slot].append(Prefix(*parts))
    return found


mixed = Exercise(
    id="13.4",
    target="minitransformer.tuning.prefix:stack_rows",
    title="A task for each row",
    minutes=15,
    difficulty=2,
    purpose="One frozen base answers a question, says a sentence like a pirate and sums up an article, in one batch: each row has "
    "the prefix of its own task. Full fine-tuning would need three models for that. You get the prefixes of each row by itself, and put them together for "
    "the batch.",
    hints=(
        "Each row is slot → one Prefix for each layer, of keys and values (1, H, P, D). Wanted is the same with B in place of 1, row after row in their order.",
        "For every slot and every layer, put the keys of all rows one below another, and their values: torch.cat along the first axis, the "
        "batch. zip(*…) turns a list of rows of layers into a list of layers of rows.",
        "    # for a slot and a layer number i\n"
        "    Prefix(\n"
        "        torch.cat([prefixes[slot][i].k for prefixes in rows]),\n"
        "        torch.cat([prefixes[slot][i].v for prefixes in rows]),\n"
        "    )\n"
        "    # and of these a list over the layers, for each slot in rows[0]",
    ),
    given=(
        "Prefix(k, v): a pair of keys and values, which attention reads by name.",
        "torch.cat(tensors): tensors one below another, along the first axis.",
    ),
    oracle=rows_by_loop,
)


def small_gpt():
    """Two layers, six numbers a token."""
    return GPT(
        GPTConfig(vocab_size=7, n_positions=9, n_layer=2, n_head=2, d_model=6, d_ff=10)
    ).eval()


def prefixes_for(base, n, length, **settings):
    """So many prefixes that were once on this base."""
    methods = [PrefixTuning(length, reparametrise=None, **settings) for _ in range(n)]
    for method in methods:
        with attached(base, method):
            pass
        for encoder in method.encoders.values():
            encoder.free.data = tidy(*encoder.free.shape)
    return methods


def row(n_layer, length, slots=("prefix",)):
    """The prefixes of one row: two heads of three numbers."""
    return {
        slot: [Prefix(tidy(1, 2, length, 3), tidy(1, 2, length, 3)) for _ in range(n_layer)]
        for slot in slots
    }


@mixed.case
def two_tasks():
    """Two rows, prefixes of one virtual token in one layer."""
    return [row(1, 1), row(1, 1)]


@mixed.case
def three_rows_two_layers():
    """Three rows, two layers, prefixes of four virtual tokens."""
    return [row(2, 4), row(2, 4), row(2, 4)]


@mixed.case
def a_task_twice():
    """Three rows, of which the first and the last have the same prefix."""
    one, other = row(2, 3), row(2, 3)
    return [one, other, one]


@mixed.case
def one_row_alone():
    """A batch of one."""
    return [row(2, 3)]


@mixed.case
def no_virtual_token_below():
    """The lower layer has a prefix of length 0, the upper one of three virtual tokens."""
    one, other = row(2, 3), row(2, 3)
    for each in (one, other):
        each["prefix"][0] = Prefix(torch.zeros(1, 2, 0, 3), torch.zeros(1, 2, 0, 3))
    return [one, other]


@mixed.case
def three_slots():
    """An encoder–decoder, which takes prefixes in three places."""
    slots = ("encoder_prefix", "prefix", "cross_prefix")
    return [row(1, 3, slots), row(1, 3, slots)]


@mixed.scene
def all_learn(stack_rows):
    """The gradients of both prefixes, through the package's own for_each_row."""
    methods = prefixes_for(small_gpt(), 2, 2)
    for i, (k, v) in enumerate(for_each_row(methods)["prefix"]):
        ((i + 2) * (k[0] - 2 * v[0] + 3 * k[1] + v[1])).sum().backward()
    return [method.encoders["prefix"].free.grad for method in methods]


@mixed.scene(tolerance=1e-4)
def as_if_alone(stack_rows):
    """Three texts in one batch beside each text alone under its prefix: how far their scores are apart."""
    base, ids = small_gpt(), torch.tensor([[1, 2, 3], [4, 5, 6], [3, 3, 0]])
    methods = prefixes_for(base, 3, 2)
    together = base(ids, **for_each_row(methods))
    for i, method in enumerate(methods):
        with attached(base, method):
            together[i] -= base(ids[i : i + 1])[0]
    return together.detach()


CAT = "torch.cat(parts)"
mixed.slip(
    "one behind another",
    "You join the prefixes along the columns: one long prefix of all tasks at once, for a batch of one. Each row is to see its own alone: the "
    "first axis, the batch.",
    (CAT, "torch.cat(parts, dim=2)"),
)
mixed.slip(
    "stacked",
    "You stack: that makes a new axis in front, (B, 1, H, P, D). The batch's axis is there already, of length 1; torch.cat makes it B.",
    (CAT, "torch.stack(parts)"),
)
PAIR = "Prefix(*(torch.cat(parts) for parts in zip(*layer, strict=True)))"
mixed.slip(
    "plain pairs",
    "You make plain tuples. Attention reads prefix.k and prefix.v by name: Prefix(keys, values).",
    (PAIR, "(*(torch.cat(parts) for parts in zip(*layer, strict=True)),)"),
)
mixed.slip(
    "keys twice",
    "You join the keys, and take them for the values, too. A Prefix is Prefix(keys, values), each joined by itself.",
    (PAIR, "Prefix(*[torch.cat([one.k for one in layer])] * 2)"),
)
mixed.slip(
    "along the heads",
    "You join the prefixes along the heads. The axes are (batch, head, column, number): rows of a batch are the first.",
    (CAT, "torch.cat(parts, dim=1)"),
)
mixed.slip(
    "only the first layer",
    "You mix the first layer's prefixes and leave out the layers above. The list has a Prefix for every layer.",
    ("prefixes[slot] for prefixes in rows", "prefixes[slot][:1] for prefixes in rows"),
)
mixed.slip(
    "only the last slot",
    "You begin a new dictionary for each slot, and so keep the last alone. Make one before the loop, and add to it.",
    ("for slot in rows[0]", "for slot in list(rows[0])[-1:]"),
)
mixed.slip(
    "the last task for all",
    "Each row's prefixes take the place of the one's before (update), so that the last is left alone, for a batch of one. They belong one below "
    "another.",
    (CAT, "parts[-1]"),
)
mixed.slip(
    "layers of one after another",
    "You string the rows' lists together: the layers of the first, then those of the second, as if the model had so many. The list stays as long; in "
    "each layer the rows are joined.",
    (PAIR, "layer"),
    (
        "for layer in zip(*(prefixes[slot] for prefixes in rows), strict=True)",
        "for prefixes in rows\n            for layer in prefixes[slot]",
    ),
)
mixed.slip(
    "mean of all tasks",
    "You average the prefixes, so that every row gets the same mixture of all tasks. Each row has its own.",
    (CAT, "torch.cat(parts).mean(0, keepdim=True)"),
)
mixed.slip(
    "the first task for all",
    "You take the first row's prefix for every row.",
    (CAT, "torch.cat([parts[0]] * len(parts))"),
)
mixed.slip(
    "values where keys belong",
    "You exchange keys and values. Keys decide how much a prefix is read, values what is read: Prefix(keys, values).",
    ("for parts in zip(*layer, strict=True)", "for parts in list(zip(*layer, strict=True))[::-1]"),
)
mixed.slip(
    "each task once",
    "You make one row for each task, not for each row of the batch: a task that two rows have comes up only once. There is one for each "
    "row, the same one several times if need be.",
    (
        "prefixes[slot] for prefixes in rows",
        "prefixes[slot] for prefixes in {id(one): one for one in rows}.values()",
    ),
)
mixed.slip(
    "rows in another order",
    "Your rows stand in another order than they were given in, so that every text is read under another one's task.",
    ("prefixes[slot] for prefixes in rows", "prefixes[slot] for prefixes in reversed(rows)"),
)
mixed.slip(
    "one slot of three",
    "You fill the slot “prefix” alone. An encoder–decoder has three, and the encoder and the cross-attention would go without: every "
    "slot that the rows have.",
    ("for slot in rows[0]", 'for slot in ["prefix"]'),
)
mixed.slip(
    "detached",
    "You cut the gradient (detach, .data, no_grad). Then prefixes cannot be trained together in one batch.",
    (CAT, "torch.cat(parts).detach()"),
)

# ---------------------------------------------------------------- 13.5


def pad_by_loop(prompts, pad_id=0):
    """Row by row."""
    longest = max(len(prompt) for prompt in prompts)
    rows = [[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    attention_mask = [
        [False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in prompts
    ]
    same = all(len(prompt) == longest for prompt in prompts)
    return torch.tensor(rows), None if same else torch.tensor(attention_mask)


left = Exercise(
    id="13.5",
    target="minitransformer.generation.sampling:left_pad",
    title="All end together",
    minutes=15,
    difficulty=2,
    purpose="Ten tasks in one batch are ten prompts of ten lengths. Generation goes on at the last column of all rows at once, so the "
    "prompts have to end together: what fills them up stands in front, and a mask says where it is.",
    hints=(
        "Two tensors of one shape, (B, T), T the longest prompt's length: one full of pad_id, one full of False. Then each prompt "
        "goes into its row. First refuse what the docstring refuses.",
        "Prompt `row` begins at the column longest - len(prompt) and goes up to the end. (A slice [-len(prompt):] is the same here, since "
        "no prompt is empty.)",
        "torch.zeros(…, dtype=torch.bool) is False everywhere.\n"
        "    # for each row and its prompt\n"
        "    ids[row, longest - len(prompt) :] = torch.as_tensor(prompt)\n"
        "    attention_mask[row, longest - len(prompt) :] = True\n"
        "    # at the end\n"
        "    return ids, None if attention_mask.all() else attention_mask",
    ),
    oracle=pad_by_loop,
)


@left.case
def one_prompt():
    """One prompt: nothing to fill up."""
    return ([[4, 2]],)


@left.case
def two_prompts():
    """Two prompts, of three tokens and of one."""
    return ([[4, 2, 5], [3]],)


@left.case
def of_one_length():
    """Two prompts of the same length."""
    return ([[4, 2], [3, 5]],)


@left.case
def the_padding_is_a_word():
    """Three prompts; the padding's token, 9, begins each of them."""
    return [[9, 1], [9, 2, 3, 4], [9, 5, 6]], 9


@left.case
def an_empty_prompt():
    """An empty prompt is refused."""
    return ([[1, 2], []],)


@left.case
def no_prompt():
    """No prompt at all is refused."""
    return ([],)


def wrong_pad(
    prompts, pad_id=0, start=lambda longest, n: longest - n, keep_all=False, refused=True
):
    """The function as a learner would write it, with one thing in it replaced."""
    if refused and not (prompts and all(len(prompt) for prompt in prompts)):
        raise UserError("There is nothing to continue.")
    longest = max(map(len, prompts), default=0)
    ids = torch.full((len(prompts), longest), pad_id)
    attention_mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        first = start(longest, len(prompt))
        ids[row, first : first + len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        attention_mask[row, first : first + len(prompt)] = True
    return ids, None if attention_mask.all() and not keep_all else attention_mask


@left.mistake
def padded_on_the_right(prompts, pad_id=0):
    """Your padding stands behind the prompts, as in training. Generation reads the last column: the shorter texts would be continued behind padding that the model never saw there. It belongs in front."""
    return wrong_pad(prompts, pad_id, start=lambda longest, n: 0)


@left.mistake
def mask_turned_round(prompts, pad_id=0):
    """Your mask is True at the padding. attention_mask says what to keep: True at the prompt's own tokens."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    return ids, None if attention_mask is None else ~attention_mask


@left.mistake
def padding_told_by_its_token(prompts, pad_id=0):
    """You call padding whatever has the padding's token. A prompt may hold that token too (each of the course's begins with the end token), and would lose it. Tell the padding by its place."""
    ids, _ = wrong_pad(prompts, pad_id)
    attention_mask = ids != pad_id
    return ids, None if attention_mask.all() else attention_mask


@left.mistake
def a_mask_without_need(prompts, pad_id=0):
    """You give a mask of nothing but True where all prompts have one length. None is promised there, and lets the model take its shorter way."""
    return wrong_pad(prompts, pad_id, keep_all=True)


@left.mistake
def never_a_mask(prompts, pad_id=0):
    """You give no mask at all. The model would read the padding as words, and count positions from it: every shorter row would get other scores than alone."""
    return wrong_pad(prompts, pad_id)[0], None


@left.mistake
def the_ids_alone(prompts, pad_id=0):
    """You return the ids alone. Two things are promised, the ids and the mask, or None in its place."""
    return wrong_pad(prompts, pad_id)[0]


@left.mistake
def a_mask_of_numbers(prompts, pad_id=0):
    """Your mask is made of 0 and 1. attention_mask is boolean: False and True."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    return ids, None if attention_mask is None else attention_mask.long()


@left.mistake
def one_column_too_many(prompts, pad_id=0):
    """Your rows are wider than the longest prompt: padding stands in front of that one, too. T is the longest one's length."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    attention_mask = (
        torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask
    )
    return F.pad(ids, (1, 0), value=pad_id), F.pad(attention_mask, (1, 0))


@left.mistake
def empty_prompts_left_out(prompts, pad_id=0):
    """You leave empty prompts out, so that the batch has fewer rows than there were prompts, and the answers no longer belong to their questions. An empty one is refused."""
    return wrong_pad([prompt for prompt in prompts if len(prompt)], pad_id)


@left.mistake
def only_an_empty_batch_refused(prompts, pad_id=0):
    """You refuse an empty batch, but not an empty prompt in it: its row would be all padding. Look at each."""
    return wrong_pad(prompts, pad_id, refused=not prompts)


@left.mistake
def prompts_lengthened(prompts, pad_id=0):
    """You put the padding into the caller's own lists, which are longer from then on. Make new ones, or write into a new tensor."""
    made = wrong_pad(prompts, pad_id)
    for prompt in prompts:
        prompt[:0] = [pad_id] * (made[0].size(1) - len(prompt))
    return made


@left.mistake
def always_zeros(prompts, pad_id=0):
    """You fill up with 0 whatever the caller asked for: pad_id."""
    return wrong_pad(prompts, 0)


@left.mistake
def prompts_cut_to_the_shortest(prompts, pad_id=0):
    """You cut all prompts to the shortest one's length, so that nothing needs padding. What is asked is lost with it: T is the longest one's length."""
    if not (prompts and all(len(prompt) for prompt in prompts)):
        raise UserError("There is nothing to continue.")
    n = min(map(len, prompts))
    return torch.tensor([prompt[-n:] for prompt in prompts]), None


@left.mistake
def reversed_order(prompts, pad_id=0):
    """You turn the prompts round, pad them, and forget to turn them back: they are read from their end. Only the padding changes sides."""
    if not (prompts and all(len(prompt) for prompt in prompts)):
        raise UserError("There is nothing to continue.")
    return wrong_pad([prompt[::-1] for prompt in prompts], pad_id)


@left.mistake
def nothing_refused(prompts, pad_id=0):
    """You take empty prompts. A model needs a token to continue from; an empty row would be all padding, and a query that may look nowhere. Raise the UserError."""
    return wrong_pad(prompts, pad_id, refused=False)
