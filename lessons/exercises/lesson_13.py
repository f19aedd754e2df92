"""Exercises of lesson 13: the words of a dialogue, cutting, accumulated gradients, a task for each row, padded left."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import cost
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
    purpose="A prefix for dialogue learns to answer after exactly these words. Every training text and every line that somebody types goes "
    "through this function. One character more or less would be another text for the model.",
    hints=(
        "There are four parts: the first speaker, what they say (on one or two lines), an empty line, and the second speaker with a colon.",
        'An empty line is two line breaks, "\\n\\n". The second line is there only if `more` is not empty. Nothing follows "Assistant:", '
        "because the first word of the answer has its own space.",
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
    """An instruction, and the text that it is about."""
    return "Say this like a pirate.", "The boat is small."


@human.case
def an_empty_input():
    """An instruction and an empty text."""
    return "Tell me a story.", ""


@human.case
def a_space_behind():
    """An instruction that ends with a space. The space belongs to it."""
    return ("Go on: ",)


@human.case
def signs_with_a_meaning_elsewhere():
    """An instruction with braces and a percent sign, and a text of two lines."""
    return "Fill in {name}, 5 % of it.", "Dear {name},\nhow are you?"


@human.mistake
def a_space_at_the_end(instruction, more=""):
    """Your text ends with a space, as in 002. The tokenizer learned each word together with the space in front of it. Here the space would be a token of its own, and the first word of the answer would lose its space."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant: "


@human.mistake
def no_empty_line(instruction, more=""):
    """There is no empty line between the two speakers. Write two line breaks between them."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\nAssistant:"


@human.mistake
def a_line_for_nothing(instruction, more=""):
    """You write a line for the input even if it is empty. Then there are three line breaks, and the model was not trained on such a text."""
    return f"Human: {instruction}\n{more}\n\nAssistant:"


@human.mistake
def in_one_line(instruction, more=""):
    """You put the input on the same line as the instruction. It needs a line of its own, below the instruction."""
    return f"Human: {instruction}" + (f" {more}" if more else "") + "\n\nAssistant:"


@human.mistake
def the_input_left_out(instruction, more=""):
    """You leave out the input. The instruction "Say this like a pirate." needs the text that it is about."""
    return f"Human: {instruction}\n\nAssistant:"


@human.mistake
def braces_filled_in(instruction, more=""):
    """You call format on a text that holds what somebody said. Braces in it are then taken for fields. Put the text in last, as in f"Human: {said}…"."""
    return ("Human: " + instruction + (f"\n{more}" if more else "") + "\n\nAssistant:").format()


@human.mistake
def an_empty_line_before_the_input(instruction, more=""):
    """You put an empty line between the instruction and the input. Only the two speakers are separated by an empty line. The input begins on the next line."""
    return f"Human: {instruction}" + (f"\n\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def no_space_behind_the_speaker(instruction, more=""):
    """There is no space after "Human:". Every text that the model was trained on has one."""
    return f"Human:{instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def a_line_break_at_the_end(instruction, more=""):
    """Your text ends with a line break. The answer stands on the same line as "Assistant:"."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:\n"


@human.mistake
def no_assistant(instruction, more=""):
    """Your text ends with the empty line. "Assistant:" has to follow."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\n"


@human.mistake
def other_speakers(instruction, more=""):
    """Your speakers have other names. They are "Human" and "Assistant", as in 002."""
    return f"User: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant:"


@human.mistake
def the_input_first(instruction, more=""):
    """You put the input before the instruction. It is the other way round: first the instruction, and the input below it."""
    return "Human: " + (f"{more}\n" if more else "") + f"{instruction}\n\nAssistant:"


@human.mistake
def a_space_for_nothing(instruction, more=""):
    """You put the input on the same line as the instruction, and you write a space even if there is no input. The input needs a line of its own, and only if it is not empty."""
    return f"Human: {instruction} {more}\n\nAssistant:"


@human.mistake
def spaces_taken_away(instruction, more=""):
    """You strip spaces. Leave the instruction as it is, with every character."""
    return f"Human: {instruction}\n{more}".strip() + "\n\nAssistant:"


@human.mistake
def no_colon(instruction, more=""):
    """Your text ends with "Assistant" without a colon. Then the model would have to write the colon first."""
    return f"Human: {instruction}" + (f"\n{more}" if more else "") + "\n\nAssistant"


@human.mistake
def nobody_speaks(instruction, more=""):
    """The first speaker has no name. Begin with "Human: "."""
    return instruction + (f"\n{more}" if more else "") + "\n\nAssistant:"


# ---------------------------------------------------------------- 13.2


def fit_by_loop(prompt, target, n_positions):
    """Remove one token at a time, until the pair fits."""
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
    purpose="A pair [x; y] that is too long has to be cut. 002 cuts it at the end, so y is lost first, and an example without a label "
    "teaches nothing. This function always leaves a label. `fit` calls it after it has checked that there are at least two positions "
    "and that x is not empty.",
    given=(
        "Fitted(prompt, target, whole): the result: x and y as lists, and whether all of y is left.",
    ),
    hints=(
        "First find two numbers: how many tokens of y stay, and how many of x. y can always have half of the positions, and also all "
        "that x leaves free.",
        "n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt))). x gets the rest of the positions, but not more than "
        "its own length. If x is cut, it keeps its beginning and its end.",
        "    # n_target: as in the hint before\n"
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


@cut.case
def two_positions():
    """Both too long, and two positions: one token of each is left."""
    return [1, 2, 3], [11, 12], 2


@cut.case
def in_tuples():
    """x and y are tuples; lists come out."""
    return (1, 2, 3, 4, 5), (11, 12), 5


FITTED = "beginning, end = prompt[: n_prompt - n_end], prompt[len(prompt) - n_end :]"
N_TARGET = "n_target = min(len(target), max(n_positions // 2, n_positions - len(prompt)))"
N_PROMPT = "n_prompt = min(len(prompt), n_positions - n_target)"
cut.slip(
    "cut at the end",
    "You cut [x; y] at its end, as 002 does. If x is long, all of y is lost, and the mean loss of an example without labels is 0/0. Cut x "
    "first, down to half of the positions.",
    (N_TARGET, "n_target = min(len(target), max(0, n_positions - len(prompt)))"),
    ("n_end = n_prompt // 2 if n_prompt < len(prompt) else 0", "n_end = 0"),
)
cut.slip(
    "the end of x lost",
    "Your x loses its end, which is where y has to begin (“Assistant:”). Cut out the middle of x.",
    (FITTED, "beginning, end = prompt[:n_prompt], []"),
)
cut.slip(
    "the beginning of x lost",
    "Your x loses its beginning, which says what is asked. Cut out the middle of x.",
    (FITTED, "beginning, end = [], prompt[len(prompt) - n_prompt :]"),
)
cut.slip(
    "y gives way first",
    "You cut y before x. But y is what the model learns. Cut x first, down to half of the positions.",
    (
        N_TARGET,
        "n_target = min(len(target), max(n_positions - len(prompt), n_positions - (n_positions - n_positions // 2)), 1)",
    ),
)
cut.slip(
    "always half",
    "You give y at most half of the positions, even if x leaves more room. y gets all that x does not need: max(n_positions // 2, "
    "n_positions - len(prompt)).",
    (N_TARGET, "n_target = min(len(target), n_positions // 2)"),
)
cut.slip(
    "x always at half",
    "You cut x to half of the positions, even if y leaves more room. x gets all that y does not take: n_positions - n_target.",
    (N_PROMPT, "n_prompt = min(len(prompt), n_positions - n_positions // 2)"),
)
cut.slip(
    "the larger half for y",
    "If the number of positions is odd, you give y the larger half. x gets the larger half; y gets n_positions // 2.",
    ("max(n_positions // 2, n_positions", "max((n_positions + 1) // 2, n_positions"),
)
cut.slip(
    "y not cut",
    "You do not cut y, so the pair is still too long. y gets half of the positions, or what x leaves free if that is more.",
    ("list(target[:n_target])", "list(target)"),
)
cut.slip(
    "y up to all positions",
    "You let y take all positions, so nothing of x is left. Cut x down to half of the positions, and no further.",
    (N_TARGET, "n_target = min(len(target), n_positions)"),
)
cut.slip(
    "whole if x is",
    "You check whether x was cut. `whole` says whether all of y is left.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_prompt == len(prompt)",
    ),
)
cut.slip(
    "whole if both are",
    "`whole` is true only if x was not cut, either. It should say whether all of y is left, whatever happened to x.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_target == len(target) and n_prompt == len(prompt)",
    ),
)
cut.slip(
    "whole turned round",
    "`whole` is the wrong way round: it should be true if y was *not* cut.",
    (
        "list(target[:n_target]), n_target == len(target)",
        "list(target[:n_target]), n_target < len(target)",
    ),
)
cut.slip(
    "a plain tuple",
    "You return a plain tuple. Other code uses the names .prompt, .target and .whole. Return Fitted(…).",
    ("return Fitted(", "return ("),
)
cut.slip(
    "minus nothing",
    "prompt[-n:] with n = 0 is prompt[0:], which is all of x. So an x that fits stands there twice. prompt[len(prompt) - n :] with n = 0 is "
    "empty, as it should be.",
    (FITTED, "beginning, end = prompt[: n_prompt - n_end], prompt[-n_end:]"),
)
cut.slip(
    "minus nothing of a cut x",
    "Where one token of x is left, nothing of its end stays, and your slice from minus nothing, prompt[-0:], is all of x. prompt[len(prompt) - n :] with n = 0 is empty, as it should be.",
    (
        FITTED,
        "beginning, end = prompt[: n_prompt - n_end], prompt[-n_end:] if n_prompt < len(prompt) else []",
    ),
)
cut.slip(
    "the beginning of y lost",
    "Your y loses its beginning, so the model would learn to begin in the middle of a sentence. Cut y at its end.",
    ("list(target[:n_target])", "list(target[len(target) - n_target :])"),
)
cut.slip(
    "always whole",
    "`whole` is always true. Then the model would learn to end in the middle of an answer. `whole` says whether all of y is left.",
    ("list(target[:n_target]), n_target == len(target)", "list(target[:n_target]), True"),
)
cut.slip(
    "the smaller half in front",
    "If x keeps an odd number of tokens, your end gets one more than your beginning. It is the other way round.",
    ("n_end = n_prompt // 2 if", "n_end = (n_prompt + 1) // 2 if"),
)

# ---------------------------------------------------------------- 13.3

step = Exercise(
    id="13.3",
    target="minitransformer.training.loop:accumulate_gradients",
    title="Eight times one is once eight",
    minutes=25,
    difficulty=3,
    purpose="One step of training uses several batches, and only one of them has to fit into memory (gradient accumulation). The result must "
    "be the same as with one large batch: every label has the same weight. After this function, the loop clips the gradients, updates the "
    "weights and sets the gradients to zero.",
    given=(
        "loss(model, batch): the sum of the losses in a batch (a tensor), and the number of its labels.",
        "batches(i): batch number i of the run.",
        "model.parameters(): some parameters get no gradient, and then p.grad is None.",
    ),
    hints=(
        "backward() adds to the gradients that are there already, so the sum of the losses needs no code. But the gradient must belong to the "
        "mean over all labels. When do you divide, and by what?",
        "For i in range(n_batch) the batch is batches(step * n_batch + i). If it has labels, call batch_loss.backward(), add "
        "batch_loss.item() to total, and add n to count. If no batch has a label, raise a UserError.",
        "Divide once, after the loop, by the number of all labels:\n"
        "    for p in model.parameters():\n"
        "        if p.grad is not None:\n"
        "            p.grad.div_(count)\n"
        "    return total, count",
    ),
)


def weighed_texts(*sizes):
    """Batches with these numbers of labels; the targets differ from row to row."""
    return [{"x": tidy(n, 2), "y": tidy(n, 1)} for n in sizes]


def squares(model, batch):
    """The sum of squared errors, and their number; for an empty batch, a 0 without a gradient."""
    n = len(batch["y"])
    return (model(batch["x"]) - batch["y"]).square().sum() if n else torch.zeros(()), n


class Line(nn.Linear):
    """A line, with parameters beside it that are never used and get no gradient."""

    def __init__(self):
        super().__init__(2, 1)
        self.unused = nn.Parameter(torch.ones(3))


def steps(accumulate_gradients, batches, n_batch, times=1):
    """The batches that some steps ask for, what the steps return, and the gradients after each."""
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
    """Three batches. The second has no label."""
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
def one_graph_at_a_time(accumulate_gradients):
    """What is alive at once, for three batches of 50 rows and for six."""

    def most(n):
        made = weighed_texts(*[50] * n)
        return cost(accumulate_gradients, Line(), made.__getitem__, squares, 0, n).peak

    return {"the memory for six batches is that for three": most(6) < 1.2 * most(3)}


@step.scene
def one_batch_at_a_time(accumulate_gradients):
    """In which order three batches are asked for, and their losses computed."""
    batches, order = weighed_texts(2, 1, 3), []

    def give(i):
        order.append(f"batch {i}")
        return batches[i]

    def loss(model, batch):
        order.append("its loss")
        return squares(model, batch)

    accumulate_gradients(Line(), give, loss, 0, 3)
    return order


@step.scene
def in_the_loop(accumulate_gradients):
    """The log of a training with two steps of two batches each."""
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
    "You average the means of the batches. Then a label of a short answer has more weight than a label of a long one. Sum first, and divide "
    "once, by the number of all labels.",
    ("batch_loss.backward()", "(batch_loss / n / n_batch).backward()"),
    (DIVIDED, "pass"),
)
step.slip(
    "means added up",
    "You add up the means of the batches, so with eight batches the gradient is eight times too large. Sum the losses, and divide once, by "
    "the number of all labels.",
    ("batch_loss.backward()", "(batch_loss / n).backward()"),
    (DIVIDED, "pass"),
)
step.slip(
    "not divided",
    "Your gradients are sums over labels, but they should be means. Divide each p.grad by count, in place. (p = p / count would only give "
    "the name p to another tensor.)",
    (DIVIDED, "pass"),
)
step.slip(
    "an empty batch made up for",
    "If a batch has no label, you take one more batch. A step always takes n_batch batches, with labels or without. Otherwise the next step "
    "gets some of them again.",
    ("for i in range(n_batch):", "i = -1\n    used = 0\n    while used < n_batch:\n        i += 1"),
    ("        batch_loss.backward()", "        used += 1\n        batch_loss.backward()"),
)
step.slip(
    "divided by the number of batches",
    "You divide by n_batch. The losses are sums over labels, so divide by the number of labels, count.",
    (DIVIDED, "p.grad.div_(n_batch)"),
)
step.slip(
    "divided by the last batch's labels",
    "You divide by n, the number of labels in the last batch. The gradients are sums over all batches, so divide by count.",
    (DIVIDED, "p.grad.div_(max(n, 1))"),
)
step.slip(
    "gradients emptied in between",
    "You set the gradients to zero before each batch, so only the last batch has an effect. The loop sets them to zero after the update.",
    ("batch_loss.backward()", "model.zero_grad()\n        batch_loss.backward()"),
)
step.slip(
    "an update for each batch",
    "You update the weights after each batch. Leave this to the loop: it updates them once, with the gradients that you leave.",
    (
        "batch_loss.backward()",
        "batch_loss.backward()\n        torch.optim.SGD(model.parameters(), lr=0.1).step()",
    ),
)
step.slip(
    "the same batch again",
    "You take the same batch n_batch times. Batch i of a step has the number step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(step * n_batch)"),
)
step.slip(
    "always the first batches",
    "Every step begins at batch 0, so the rest of the data is never used. Begin at step * n_batch.",
    ("batches(step * n_batch + i)", "batches(i)"),
)
step.slip(
    "steps that overlap",
    "Each step begins one batch after the step before, so batches are used several times. Begin at step * n_batch.",
    ("batches(step * n_batch + i)", "batches(step + i)"),
)
step.slip(
    "an empty batch asked for gradients",
    "A batch without labels has no loss, and backward() fails. If a batch has no label, continue with the next.",
    ("if n == 0:\n            continue\n", "pass\n"),
)
step.slip(
    "stopped at an empty batch",
    "At a batch without labels you leave the loop, so the later batches are not used. Use continue and not break.",
    ("            continue\n", "            break\n"),
)
step.slip(
    "an empty batch refused",
    "You refuse a step if one of its batches has no label. Refuse it only if none of its batches has one.",
    ("            continue\n", '            raise UserError("A batch has no label.")\n'),
)
step.slip(
    "None divided",
    "You divide the gradients of all parameters, but for some of them p.grad is None. Skip these.",
    ("if p.grad is not None:", "if True:"),
)
step.slip(
    "all graphs at once",
    "You add up the losses and call backward() once, at the end. The graphs of all batches are alive until then, and the memory is that of one large batch, which accumulation is to avoid. Call backward() for each batch: the gradients add up by themselves.",
    ("total, count = 0.0, 0", "total, count, losses = 0.0, 0, []"),
    ("batch_loss.backward()", "losses.append(batch_loss)"),
    (
        "    for p in model.parameters():",
        "    sum(losses).backward()\n    for p in model.parameters():",
    ),
)
step.slip(
    "all graphs at once",
    "",
    ("total, count = 0.0, 0", "total, count, losses = 0.0, 0, []"),
    ("batch_loss.backward()", "losses.append(batch_loss)"),
    ("    for p in model.parameters():", "    (sum(losses) / count).backward()\n    for p in ():"),
)
step.slip(
    "all batches at once",
    "You read all batches before the first is done. Only one of them has to fit into memory: take a batch, call backward(), and go on to the next.",
    (
        "for i in range(n_batch):",
        "for one in [batches(step * n_batch + i) for i in range(n_batch)]:",
    ),
    ("loss(model, batches(step * n_batch + i))", "loss(model, one)"),
)
step.slip(
    "divided by the loss",
    "You divide the gradients by the loss. They are sums over labels, so divide by the number of labels, count.",
    (DIVIDED, "p.grad.div_(total)"),
)
step.slip(
    "weights divided",
    "You divide the weights. Divide their gradients, p.grad.",
    (DIVIDED, "p.data.div_(count)"),
)
step.slip(
    "a mean in the total",
    "You add up the mean losses of the batches. total should be the sum over all labels; the loop divides it by count.",
    ("total + batch_loss.item()", "total + batch_loss.item() / n"),
)
step.slip(
    "batches counted",
    "You count batches. count should be the number of labels in all batches: add n.",
    ("count + n", "count + 1"),
)
step.slip(
    "only the last batch's total",
    "total is the loss of the last batch only. Add up the losses of all batches.",
    ("total + batch_loss.item()", "batch_loss.item()"),
)
step.slip(
    "only the last batch's count",
    "count is the number of labels in the last batch only. Add up the labels of all batches.",
    ("count + n", "n"),
)
step.slip(
    "one batch too far",
    "You begin one batch too late, so batch 0 is never used. i counts from 0: step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(step * n_batch + i + 1)"),
)
step.slip(
    "the next step's batches",
    "You take the batches of the next step. Steps count from 0, so the first step begins at batch 0.",
    ("batches(step * n_batch + i)", "batches((step + 1) * n_batch + i)"),
)
step.slip(
    "step and batch exchanged",
    "You multiply i by n_batch, so the batches of a step are far apart. They are neighbours: step * n_batch + i.",
    ("batches(step * n_batch + i)", "batches(i * n_batch + step)"),
)
step.slip(
    "no label not refused",
    "A step without any label would divide by 0. Raise a UserError if count is 0.",
    ("if count == 0:", "if False:"),
)
step.slip(
    "a mean returned",
    "You return the mean loss. Return the sum; the loop divides total by count.",
    ("return total, count", "return total / count, count"),
)
step.slip(
    "the graph kept",
    "You add up tensors, so total keeps the graph and the activations of every batch in memory. Add batch_loss.item(), which is a number.",
    ("total + batch_loss.item()", "total + batch_loss"),
)

# ---------------------------------------------------------------- 13.4


def rows_by_loop(rows):
    """Write row after row into its place."""
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
    purpose="In one batch, one frozen base answers a question, says a sentence like a pirate and sums up an article, because each row has "
    "the prefix of its own task. Full fine-tuning would need three models. You get the prefixes of each row, and join them for the batch.",
    hints=(
        "Each row is a dictionary: slot → a list with a Prefix for each layer, keys and values (1, H, P, D). Return the same with B in place of 1, "
        "with the rows in their order.",
        "For every slot and every layer, join the keys of all rows with torch.cat along the first axis, the batch. Do the same with the values. "
        "zip(*…) turns a list of rows of layers into a list of layers of rows.",
        "    # for a slot and a layer number i\n"
        "    Prefix(\n"
        "        torch.cat([prefixes[slot][i].k for prefixes in rows]),\n"
        "        torch.cat([prefixes[slot][i].v for prefixes in rows]),\n"
        "    )\n"
        "    # make a list of these over the layers, for each slot in rows[0]",
    ),
    given=(
        "Prefix(k, v): a pair of keys and values; attention reads them by these names.",
        "torch.cat(tensors): joins tensors along the first axis.",
    ),
    oracle=rows_by_loop,
)


def small_gpt():
    """Two layers, six numbers a token."""
    return GPT(
        GPTConfig(vocab_size=7, n_positions=9, n_layer=2, n_head=2, d_model=6, d_ff=10)
    ).eval()


def prefixes_for(base, n, length, **settings):
    """n prefixes that were attached to this base once."""
    methods = [PrefixTuning(length, reparametrise=None, **settings) for _ in range(n)]
    for method in methods:
        with attached(base, method):
            pass
        for encoder in method.encoders.values():
            encoder.free.data = tidy(*encoder.free.shape)
    return methods


def row(n_layer, length, slots=("prefix",)):
    """The prefixes of one row, with two heads of width three."""
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
    """Three rows. The first and the last have the same prefix."""
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
    """The three slots of an encoder–decoder."""
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
    """Three texts in one batch, and each text alone with its prefix: how far their scores are apart."""
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
    "You join the prefixes along the columns. That is one long prefix of all tasks, for a batch of one. Join them along the first axis, the "
    "batch, so that each row has its own.",
    (CAT, "torch.cat(parts, dim=2)"),
)
mixed.slip(
    "stacked",
    "torch.stack makes a new axis in front, (B, 1, H, P, D). The batch axis is there already, with length 1. torch.cat makes its length B.",
    (CAT, "torch.stack(parts)"),
)
PAIR = "Prefix(*(torch.cat(parts) for parts in zip(*layer, strict=True)))"
mixed.slip(
    "plain pairs",
    "You make plain tuples. Attention uses the names prefix.k and prefix.v. Make Prefix(keys, values).",
    (PAIR, "(*(torch.cat(parts) for parts in zip(*layer, strict=True)),)"),
)
mixed.slip(
    "keys twice",
    "You use the joined keys for the values, too. Join keys and values separately: Prefix(keys, values).",
    (PAIR, "Prefix(*[torch.cat([one.k for one in layer])] * 2)"),
)
mixed.slip(
    "along the heads",
    "You join the prefixes along the heads. The axes are (B, H, P, D). Join along the first.",
    (CAT, "torch.cat(parts, dim=1)"),
)
mixed.slip(
    "only the first layer",
    "You join the prefixes of the first layer only. The list needs a Prefix for every layer.",
    ("prefixes[slot] for prefixes in rows", "prefixes[slot][:1] for prefixes in rows"),
)
mixed.slip(
    "only the last slot",
    "You make a new dictionary for each slot, so only the last slot is left. Make one before the loop.",
    ("for slot in rows[0]", "for slot in list(rows[0])[-1:]"),
)
mixed.slip(
    "the last task for all",
    "The prefixes of each row replace those of the row before, so only the last row is left. Join all rows.",
    (CAT, "parts[-1]"),
)
mixed.slip(
    "layers of one after another",
    "You put the lists of the rows one after another, as if the model had more layers. The list must keep its length. Join the rows in each "
    "layer.",
    (PAIR, "layer"),
    (
        "for layer in zip(*(prefixes[slot] for prefixes in rows), strict=True)",
        "for prefixes in rows\n            for layer in prefixes[slot]",
    ),
)
mixed.slip(
    "mean of all tasks",
    "You average the prefixes, so every row gets the same mixture of all tasks. Each row needs its own prefix.",
    (CAT, "torch.cat(parts).mean(0, keepdim=True)"),
)
mixed.slip(
    "the first task for all",
    "You use the prefix of the first row for every row. Each row needs its own.",
    (CAT, "torch.cat([parts[0]] * len(parts))"),
)
mixed.slip(
    "values where keys belong",
    "You exchanged keys and values. The order is Prefix(keys, values).",
    ("for parts in zip(*layer, strict=True)", "for parts in list(zip(*layer, strict=True))[::-1]"),
)
mixed.slip(
    "each task once",
    "If two rows have the same task, your result has this task only once. The result needs one prefix for each row of the batch, the same one "
    "several times if need be.",
    (
        "prefixes[slot] for prefixes in rows",
        "prefixes[slot] for prefixes in {id(one): one for one in rows}.values()",
    ),
)
mixed.slip(
    "rows in another order",
    "The order of your rows is not the given order, so texts get the prefix of another task.",
    ("prefixes[slot] for prefixes in rows", "prefixes[slot] for prefixes in reversed(rows)"),
)
mixed.slip(
    "one slot of three",
    "You only use the slot “prefix”. An encoder–decoder has three slots. Use every slot that the rows have.",
    ("for slot in rows[0]", 'for slot in ["prefix"]'),
)
mixed.slip(
    "detached",
    "You cut the gradient (with detach, .data or no_grad). Then the prefixes cannot be trained in one batch.",
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
    purpose="Ten tasks in one batch are ten prompts of different lengths. Generation continues all rows at the last column, so the prompts must "
    "end in the same column. Therefore the padding stands in front, and a mask says where it is.",
    hints=(
        "First refuse what the docstring refuses. Then make two tensors of the shape (B, T), where T is the length of the longest prompt: one full "
        "of pad_id, one full of False. Write each prompt into its row.",
        "A prompt begins at the column longest - len(prompt) and goes to the end. (The slice [-len(prompt):] is the same, because no prompt is "
        "empty.)",
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
    """One prompt, which needs no padding."""
    return ([[4, 2]],)


@left.case
def two_prompts():
    """Two prompts, with three tokens and with one."""
    return ([[4, 2, 5], [3]],)


@left.case
def of_one_length():
    """Two prompts of the same length."""
    return ([[4, 2], [3, 5]],)


@left.case
def the_padding_is_a_word():
    """Three prompts that begin with the padding token, 9."""
    return [[9, 1], [9, 2, 3, 4], [9, 5, 6]], 9


@left.case
def words_like_the_padding():
    """Three prompts that hold the padding's token, 9, in their middle or at their end."""
    return [[1, 9], [2, 9, 3, 4], [9]], 9


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
    """Your padding stands after the prompts, as in training. Generation continues at the last column, so shorter texts would be continued after padding. Put the padding in front."""
    return wrong_pad(prompts, pad_id, start=lambda longest, n: 0)


@left.mistake
def mask_turned_round(prompts, pad_id=0):
    """Your mask is True at the padding. It should be True at the tokens of the prompts."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    return ids, None if attention_mask is None else ~attention_mask


@left.mistake
def padding_told_by_its_token(prompts, pad_id=0):
    """Your mask is False wherever the padding token stands. But a prompt can have that token, too (in this course each begins with the end token). Make the mask from the positions."""
    ids, _ = wrong_pad(prompts, pad_id)
    attention_mask = ids != pad_id
    return ids, None if attention_mask.all() else attention_mask


@left.mistake
def a_mask_without_need(prompts, pad_id=0):
    """If all prompts have the same length, you return a mask that is True everywhere. Return None then; without a mask the model is faster."""
    return wrong_pad(prompts, pad_id, keep_all=True)


@left.mistake
def never_a_mask(prompts, pad_id=0):
    """You return no mask. Then the model reads the padding as words, and shorter rows get wrong scores."""
    return wrong_pad(prompts, pad_id)[0], None


@left.mistake
def the_ids_alone(prompts, pad_id=0):
    """You return only the ids. Return the ids and the mask (or None in its place)."""
    return wrong_pad(prompts, pad_id)[0]


@left.mistake
def a_mask_of_numbers(prompts, pad_id=0):
    """Your mask has the numbers 0 and 1. It should be boolean, with False and True."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    return ids, None if attention_mask is None else attention_mask.long()


@left.mistake
def one_column_too_many(prompts, pad_id=0):
    """Your rows are wider than the longest prompt. T is the length of the longest prompt."""
    ids, attention_mask = wrong_pad(prompts, pad_id)
    attention_mask = (
        torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask
    )
    return F.pad(ids, (1, 0), value=pad_id), F.pad(attention_mask, (1, 0))


@left.mistake
def empty_prompts_left_out(prompts, pad_id=0):
    """You leave out empty prompts, so the batch has fewer rows than there are prompts. Refuse an empty prompt with a UserError."""
    return wrong_pad([prompt for prompt in prompts if len(prompt)], pad_id)


@left.mistake
def only_an_empty_batch_refused(prompts, pad_id=0):
    """You refuse an empty batch, but not an empty prompt in a batch. Its row would be all padding. Check each prompt."""
    return wrong_pad(prompts, pad_id, refused=not prompts)


@left.mistake
def prompts_lengthened(prompts, pad_id=0):
    """You put the padding into the caller's lists and change them. Write into a new tensor."""
    made = wrong_pad(prompts, pad_id)
    for prompt in prompts:
        prompt[:0] = [pad_id] * (made[0].size(1) - len(prompt))
    return made


@left.mistake
def always_zeros(prompts, pad_id=0):
    """You always pad with 0. Pad with pad_id."""
    return wrong_pad(prompts, 0)


@left.mistake
def prompts_cut_to_the_shortest(prompts, pad_id=0):
    """You cut all prompts to the length of the shortest. Then parts of the questions are lost. T is the length of the longest prompt."""
    if not (prompts and all(len(prompt) for prompt in prompts)):
        raise UserError("There is nothing to continue.")
    n = min(map(len, prompts))
    return torch.tensor([prompt[-n:] for prompt in prompts]), None


@left.mistake
def reversed_order(prompts, pad_id=0):
    """Your prompts are reversed. Keep the order of their tokens; only the padding stands in front."""
    if not (prompts and all(len(prompt) for prompt in prompts)):
        raise UserError("There is nothing to continue.")
    return wrong_pad([prompt[::-1] for prompt in prompts], pad_id)


@left.mistake
def nothing_refused(prompts, pad_id=0):
    """You accept empty prompts. A model needs at least one token to continue from. Raise the UserError."""
    return wrong_pad(prompts, pad_id, refused=False)
