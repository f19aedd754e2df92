"""Exercises of lesson 12: two thin matrices, their hook and scale, which maps they go to, merging and unmerging."""

import math

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import LoRA, attached


def small_gpt():
    """Two layers, six numbers a token."""
    return GPT(
        GPTConfig(vocab_size=7, n_positions=9, n_layer=2, n_head=2, d_model=6, d_ff=10)
    ).eval()


def small_seq2seq():
    """One layer each, six numbers a token."""
    sizes = dict(
        vocab_size=8,
        n_positions=9,
        n_encoder_layer=1,
        n_decoder_layer=1,
        n_head=2,
        d_model=6,
        d_ff=10,
    )
    return Seq2Seq(Seq2SeqConfig(**sizes, pad_id=5, start_id=6, end_id=7)).eval()


def learned(method):
    """Numbers for B that are not zero, as if it had been trained."""
    for low in method.changes.values():
        low.b.data = tidy(*low.b.shape)
    return method


# ---------------------------------------------------------------- 12.1

thin = Exercise(
    id="12.1",
    target="minitransformer.tuning.lora:new_factors",
    title="Two thin matrices",
    minutes=15,
    difficulty=2,
    purpose="For each tuned map W (d_out, d_in) an A (r, d_in) and a B (d_out, r), whose product B A is the change. How they begin "
    "decides whether the base is at first what it was, and whether they ever learn. This function makes n of each, for n maps of one stack.",
    hints=(
        "At first B A has to be 0, and one of the two still has to get a gradient, which for B is what A makes of x. So A is random and B is zero.",
        "A is (n, r, d_in) and B is (n, d_out, r): each of the n maps has an A of its own. The numbers of A lie between -1/√d_in and 1/√d_in, all equally "
        "likely.",
        "    bound = 1 / math.sqrt(d_in)\n"
        "    a = torch.empty(n, rank, d_in).uniform_(-bound, bound)\n"
        "    return a, torch.zeros(n, d_out, rank)",
    ),
    given=(
        "tensor.uniform_(low, high): fills a tensor with random numbers, all between low and high equally likely.",
    ),
)


@thin.scene
def one_matrix(new_factors):
    """A and B of rank 2 for one map of 3 to 5 numbers: their shapes."""
    a, b = new_factors(1, 3, 5, 2)
    return {"shape of A": tuple(a.shape), "shape of B": tuple(b.shape)}


@thin.scene
def two_maps(new_factors):
    """Two maps of 4 to 6 numbers, rank 3: the shapes."""
    a, b = new_factors(2, 4, 6, 3)
    return {"shape of A": tuple(a.shape), "shape of B": tuple(b.shape)}


@thin.scene
def beginning(new_factors):
    """What it changes at first, and which of the two gets a gradient."""
    a, b = (one.requires_grad_() for one in new_factors(1, 3, 5, 2))
    change = b[0] @ a[0]
    F.linear(tidy(2, 3), change).sum().backward()
    return {
        "the product B A": change.detach(),
        "whether A gets a gradient": bool(a.grad.any()),
        "whether B gets a gradient": bool(b.grad.any()),
    }


@thin.scene(tolerance=0.05)
def spread_of_a(new_factors):
    """The numbers of two A of rank 64, in units of 1/√d_in."""
    a = new_factors(2, 256, 5, 64)[0] * math.sqrt(256)
    return {
        "smallest number of A": round(a.min().item(), 2),
        "largest number of A": round(a.max().item(), 2),
        "mean of the numbers of A": round(a.mean().item(), 2),
        "root of the mean square of A": round(a.square().mean().sqrt().item(), 2),
        "whether the two A are alike": torch.equal(a[0], a[1]),
    }


A = "torch.empty(n, rank, d_in).uniform_(-bound, bound)"
B = "torch.zeros(n, d_out, rank)"
thin.slip(
    "both zero",
    "Both matrices are zero. B A is 0 as it should be, but B's gradient is made with A and A's with B: neither ever moves.",
    (A, "torch.zeros(n, rank, d_in)"),
)
thin.slip(
    "both random",
    "Both matrices are random, so the base is changed at random before it has learned anything. B begins at zero.",
    (B, "torch.empty(n, d_out, rank).uniform_(-bound, bound)"),
)
thin.slip(
    "the other one zero",
    "A is zero and B random. It would learn, too, but another way: the paper, and every saved LoRA, has A random and B zero.",
    (A, "torch.zeros(n, rank, d_in)"),
    (B, "torch.empty(n, d_out, rank).uniform_(-bound, bound)"),
)
thin.slip(
    "one A for all",
    "Your maps share one A. Then ΔW_q and ΔW_v read the same r directions of x, which is another, smaller family of changes than the "
    "paper's: n of them.",
    ("torch.empty(n, rank, d_in)", "torch.empty(1, rank, d_in)"),
)
thin.slip(
    "one map alone",
    "Your A and B are matrices for one map. There are n maps: A (n, r, d_in), B (n, d_out, r).",
    ("torch.empty(n, rank, d_in)", "torch.empty(rank, d_in)"),
    (B, "torch.zeros(d_out, rank)"),
)
thin.slip(
    "B first",
    "You return B before A: A, which reads, comes first.",
    (f"return {A}, {B}", f"return {B}, {A}"),
)
thin.slip(
    "shapes as printed",
    "Your shapes are those of 001 §3.1.3, A (d, r) and B (r, d), which are for W + A B and row vectors. Here it is W + B A: A (r, d_in) "
    "reads, B (d_out, r) writes.",
    ("torch.empty(n, rank, d_in)", "torch.empty(n, d_in, rank)"),
    (B, "torch.zeros(n, rank, d_out)"),
)
thin.slip(
    "widths exchanged",
    "Your A reads d_out numbers and your B writes d_in. A reads what the map reads, d_in; B writes what it gives, d_out.",
    ("torch.empty(n, rank, d_in)", "torch.empty(n, rank, d_out)"),
    (B, "torch.zeros(n, d_in, rank)"),
)
thin.slip(
    "bound of the rank",
    "Your A lies between ±1/√r. It sums over d_in numbers of x, so that the bound is 1/√d_in; with 1/√r what comes out grows with the "
    "model's width.",
    ("math.sqrt(d_in)", "math.sqrt(rank)"),
)
thin.slip(
    "normally distributed",
    "Your A is normally distributed with variance 1: after it x is √d_in times as large as it was. It should be uniform between "
    "±1/√d_in.",
    (A, "torch.randn(n, rank, d_in)"),
)
thin.slip(
    "normal in place of uniform",
    "Your A is normally distributed with the standard deviation 1/√d_in. Wanted are numbers that are equally likely everywhere between "
    "-1/√d_in and 1/√d_in, and never outside: .uniform_(-bound, bound).",
    (A, "torch.randn(n, rank, d_in) * bound"),
)
thin.slip(
    "normal, by the rank",
    "Your A is normally distributed with the standard deviation 1/√r, as some tutorials have it: a high rank then begins small, and a wide "
    "model large. It should be uniform between ±1/√d_in, whatever the rank.",
    (A, "torch.randn(n, rank, d_in) / math.sqrt(rank)"),
)
thin.slip(
    "never negative",
    "Your A lies between 0 and 1/√d_in: all its rows point into the same corner. It lies between -1/√d_in and 1/√d_in.",
    (".uniform_(-bound, bound)", ".uniform_(0, bound)"),
)
thin.slip(
    "kaiming over three axes",
    "kaiming_uniform_(A, a=√5) gives ±1/√d_in where A is a matrix, as in other libraries. Yours has three axes, (n, r, d_in), of which it takes "
    "r · d_in for the number of inputs: A begins √r times too small. Set the bound yourself, .uniform_(-bound, bound), or call it for "
    "each map's matrix.",
    (A, "nn.init.kaiming_uniform_(torch.empty(n, rank, d_in), a=math.sqrt(5))"),
)
thin.slip(
    "the same A for each map",
    "Every map begins with a copy of the same A. Then the tuned maps read the same r directions of x at first; each should have "
    "random numbers of its own.",
    (A, "torch.empty(rank, d_in).uniform_(-bound, bound).repeat(n, 1, 1)"),
)

# ---------------------------------------------------------------- 12.2

beside = Exercise(
    id="12.2",
    target="minitransformer.tuning.lora:LoRA.change_of",
    title="Beside the frozen matrix",
    minutes=15,
    difficulty=2,
    purpose="h = W x + (α/r) B A x. The frozen map gives W x, and a hook adds what you compute here, from the same x: (α/r) B A x. B A is never written down: "
    "x goes down to r numbers and up again.",
    hints=(
        "low.matrices() gives A and B, as all maps of the stack need them. Two products, one after the other, and the scale in front.",
        "F.linear(x, a) is A x for every token. Only some maps of a stack may be asked for: b[rows] are the rows of B that belong to them. The dropout falls "
        "on x, before A.",
        "    a, b = low.matrices()\n"
        "    x = drop(x, self.dropout, self.training)\n"
        "    return self.scale * F.linear(F.linear(x, a), b[rows])",
    ),
    given=(
        "low.matrices(): A (n·r, d_in) and B (d_out, n·r); of a stack of maps d_out counts all of them together.",
        "self.scale: α/r.",
        "self.dropout, self.training: the fraction that is dropped, and whether this method is in training, which need not be what the base is.",
        "drop(x, fraction, training): dropout, while training.",
        "F.linear(x, w): x wᵀ, as nn.Linear keeps its weights.",
    ),
)


@beside.scene
def one_map(LoRA):
    """Rank 2 and α = 2 beside a single map of 6 to 10 numbers, for three tokens; asked twice."""
    base, x = small_gpt(), tidy(1, 3, 6)
    up = base.blocks[0].mlp.up
    alone = up(x)
    with attached(base, method := LoRA(2, 2.0, ["up"])):
        learned(method)
        return {
            "the map alone, W x": alone,
            "the product B A": method.changes["blocks/0/mlp/up"].change(),
            "the map with LoRA": up(x),
            "the map with LoRA, asked again": up(x),
        }


def around_the_stack(method, base, *part):
    """The first layer's stack of W^Q, W^K and W^V, alone and with LoRA."""
    stack, x = base.blocks[0].attention.qkv, tidy(1, 3, 6)
    alone = stack(x, *part)
    with attached(base, method):
        learned(method)
        return {
            "the map alone, W x": alone,
            "the product B A": method.changes["blocks/0/attention/qkv"].change(),
            "the map with LoRA": stack(x, *part),
        }


@beside.scene
def scaled(LoRA):
    """Rank 2 and α = 6 for queries and values."""
    return around_the_stack(LoRA(2, 6.0), small_gpt())


@beside.scene
def keys_and_values_alone(LoRA):
    """Only keys and values are asked for, as cross-attention does."""
    return around_the_stack(LoRA(2, 6.0), small_gpt(), 1, 3)


@beside.scene
def one_at_a_time(LoRA):
    """Queries, keys and values are asked for one at a time; all are tuned."""
    base, x = small_gpt(), tidy(1, 3, 6)
    with attached(base, method := LoRA(2, 6.0, ["q", "k", "v"])):
        learned(method)
        return {f"{n} to {n + 1}": base.blocks[1].attention.qkv(x, n, n + 1) for n in range(3)}


@beside.scene
def another_scale(LoRA):
    """α is changed while LoRA is on."""
    base, x, given = small_gpt(), tidy(1, 3, 6), {}
    with attached(base, method := LoRA(2, 6.0, ["up"])):
        learned(method)
        for alpha in (6.0, 1.0):
            method.alpha = alpha
            given[alpha] = base.blocks[1].mlp.up(x)
    return given


@beside.scene(tolerance=1e-4)
def while_it_learns(LoRA):
    """Gradients of all A and B, after numbers have changed."""
    base, ids = small_gpt(), torch.tensor([[1, 4, 2]])
    with attached(base, method := LoRA(2, 4.0, ["q", "down"])):
        base(ids)
        learned(method)
        base(ids).square().sum().backward()
        return {name: p.grad for name, p in method.named_parameters()}


@beside.scene
def dropout_while_training(LoRA):
    """Half of x is dropped on the way to A, while LoRA itself is training."""
    base, x, given = small_gpt(), torch.ones(1, 1, 6), {}
    with attached(base, method := LoRA(2, 4.0, ["up"], dropout=0.5)):
        learned(method)
        for of_base, of_lora in ((False, False), (True, False), (False, True)):
            base.train(of_base)
            method.train(of_lora)
            given[f"base.training {of_base}, self.training {of_lora}"] = base.blocks[0].mlp.up(x)
    return given


@beside.scene
def cross_attention(LoRA):
    """A whole encoder–decoder, in which queries and values are tuned."""
    base = small_seq2seq()
    with attached(base, method := LoRA(2, 4.0)):
        learned(method)
        return base(torch.tensor([[6, 3]]), source=torch.tensor([[1, 4, 2]]))


INNER = "F.linear(F.linear(x, a), b[rows])"
DROP = "x = drop(x, self.dropout, self.training)"
SUM = f"return self.scale * {INNER}"
beside.slip(
    "α in place of α/r",
    "You scale by α, not by α/r. With rank r the change is r times as large as meant, and every rank needs another learning rate: "
    "self.scale.",
    ("self.scale *", "self.alpha *"),
)
beside.slip("no scale", "You give B A x without its scale α/r.", ("self.scale * F", "F"))
beside.slip(
    "all rows of the stack",
    "You use all of B, also where only some maps of the stack are called: cross-attention asks for keys and values alone, and the output "
    "has only their rows. b[rows].",
    ("b[rows]", "b"),
)
beside.slip(
    "the first rows",
    "Where some maps are asked for you take the first rows of B, the queries'. Which rows they are is said by `rows`.",
    ("b[rows]", "b[: len(b[rows])]"),
)
beside.slip(
    "the last rows",
    "Where some maps are asked for you take the last rows of B, the values'. Which rows they are is said by `rows`.",
    ("b[rows]", "b[-len(b[rows]) :]"),
)
beside.slip(
    "up to the end of the stack",
    "You take all rows from the first that is asked for to the end of the stack. Where queries alone are asked for, these are too many: b[rows].",
    ("b[rows]", "b[rows.start :]"),
)
beside.slip(
    "rows of A",
    "You cut A, too. Its rows are the r directions in which x is read, and all of them are needed; `rows` are rows of B.",
    ("F.linear(x, a)", "F.linear(x, a[rows])"),
)
beside.slip(
    "multiplied the wrong way round",
    "F.linear(x, a) multiplies by the transposed matrix, so it is x Aᵀ, A x for every token. You multiply by A as it stands (x @ a, or a.T in "
    "F.linear): A is (r, d_in), B (d_out, r), as nn.Linear keeps its weights.",
    (INNER, "F.linear(F.linear(x, a.T), b[rows].T)"),
)
beside.slip(
    "B before A",
    "You go through B first. A reads the d_in numbers of x and leaves r of them; B makes d_out of these: B A x is read from the right.",
    (INNER, "F.linear(F.linear(x, b[rows]), a)"),
)
beside.slip(
    "nothing returned",
    "You compute the change and do not return it.",
    (SUM, SUM.removeprefix("return ")),
)
beside.slip(
    "x added",
    "You add x to the change. The hook adds what you give to W x; x itself has no place there.",
    (SUM, SUM + " + x[..., :1]"),
)
beside.slip(
    "scale taken once",
    "You keep the scale of the first call. Whoever sets α later would change nothing: read self.scale at every call.",
    ("self.scale *", "vars(self).setdefault('_scale', self.scale) *"),
)
beside.slip(
    "the base's training flag",
    "Your dropout asks whether the base is in training (self.base.training). Base and method are switched one by one; what counts is "
    "whether LoRA learns: self.training.",
    (DROP, "x = drop(x, self.dropout, self.base.training)"),
)
beside.slip(
    "dropout on the sum",
    "You drop what B gives. The dropout falls on x, on its way to A.",
    (DROP, "pass"),
    (INNER, f"drop({INNER}, self.dropout, self.training)"),
)
beside.slip(
    "without gradient",
    "You compute the change under no_grad, or detach it: A and B get no gradient, and LoRA learns nothing.",
    (SUM, SUM + ".detach()"),
)
beside.slip(
    "made only once",
    "You keep A and B from the first call. After the first step of training they are stale, and no gradient reaches the "
    "parameters anew: call low.matrices() every time.",
    ("a, b = low.matrices()", "a, b = vars(low).setdefault('_kept', low.matrices())"),
)
beside.slip(
    "no dropout",
    "You leave out the dropout, which falls on x on the way to A, while training.",
    (DROP, "pass"),
)
beside.slip(
    "dropout also at rest",
    "You drop numbers when nothing is trained, too: the same text would get other answers each time. drop takes self.training as its "
    "last argument; F.dropout has to be told as well, or it always drops.",
    (DROP, "x = drop(x, self.dropout, True)"),
)
beside.slip(
    "dropout behind A",
    "You drop what A gives, r numbers of which each is a whole direction. The dropout falls on x, before A.",
    (DROP, "pass"),
    ("F.linear(x, a)", "drop(F.linear(x, a), self.dropout, self.training)"),
)
beside.slip(
    "an activation between",
    "You put a ReLU between A and B, as an adapter has. LoRA has none: only so are the two one matrix, which can be added to W.",
    ("F.linear(x, a)", "F.relu(F.linear(x, a))"),
)

# ---------------------------------------------------------------- 12.3

scale = Exercise(
    id="12.3",
    target="minitransformer.tuning.lora:LoRA.scale",
    title="The scale",
    minutes=2,
    difficulty=1,
    purpose="A change of rank r is a sum of r terms. This number in front of it makes up for their number, so that the learning rate "
    "found at one rank serves for another.",
    hints=(
        "The docstring is the formula. Which two of the method's numbers are its letters?",
        "α is what the user sets, self.alpha; r is the rank, self.rank. One division.",
        "With / and not //.\n    return self.alpha / self.rank",
    ),
    given=("self.alpha, self.rank: α and r.",),
    oracle=lambda self: float(self.settings["alpha"]) * float(self.settings["rank"]) ** -1,
)


@scale.case
def four():
    """Rank 3, α = 12."""
    return (LoRA(3, 12.0),)


@scale.case
def below_one():
    """Rank 16, α = 8."""
    return (LoRA(16, 8.0),)


@scale.case
def no_whole_number():
    """Rank 3, α = 8."""
    return (LoRA(3, 8.0),)


@scale.scene
def changed_later(LoRA):
    """The scale, and again after α was set to 2, rank 4."""
    method = LoRA(4, 8.0)
    before = method.scale
    method.alpha = 2.0
    return {"scale at first": before, "scale after the change": method.scale}


@scale.mistake
def α_alone(self):
    """Your scale is α. That leaves r out, and the change grows with the rank: α/r."""
    return self.alpha


@scale.mistake
def upside_down(self):
    """You divide r by α. A higher rank would then be scaled up, where it should be scaled down: α/r."""
    return self.rank / self.alpha


@scale.mistake
def by_the_root(self):
    """You divide by √r. So Kalajdzievski (2023) proposes, with good reasons; Hu et al. and this course have α/r."""
    return self.alpha / math.sqrt(self.rank)


@scale.mistake
def whole_numbers_only(self):
    """You divide with //, which rounds down: at rank 16 and α = 8 the scale is 0, and LoRA does nothing."""
    return self.alpha // self.rank


@scale.mistake
def times_r(self):
    """You multiply by r: the change grows with its square. α/r."""
    return self.alpha * self.rank


@scale.mistake
def the_rank_alone(self):
    """Your scale is r. That leaves α out, and turns the rank round: α/r."""
    return self.rank


@scale.mistake
def by_the_number_of_targets(self):
    """You divide by the number of targets. Each map has its own change of rank r; how many maps there are does not matter: α/r."""
    return self.alpha / len(self.targets)


@scale.mistake
def by_the_square(self):
    """You divide by r². α/r has it once."""
    return self.alpha / self.rank**2


@scale.mistake
def computed_once(self):
    """You keep what you computed the first time. α may be changed later, and the scale with it: compute it whenever it is asked for."""
    if "_scale" not in vars(self):
        self._scale = self.alpha / self.rank
    return self._scale


@scale.mistake
def always_two(self):
    """You take α = 2r for granted, a habit of many, which makes the scale 2. The user decides both."""
    return 2.0


# ---------------------------------------------------------------- 12.4

targets = Exercise(
    id="12.4",
    target="minitransformer.tuning.lora:chosen_maps",
    title="Which matrices?",
    minutes=15,
    difficulty=2,
    purpose='"q" means the queries\' matrix of every attention, "blocks.0.mlp.up" one matrix in one layer. Here names become maps; '
    "a name that means none is refused, above all the matrix before the vocabulary, which is tied to the embedding.",
    hints=(
        "maps goes from the full name of a map, such as blocks.0.attention.q, to a pair: the module that holds it, and its number in "
        "the stack there. Go through the targets, and find the names that each means first.",
        "A name fits if it is the target or ends in a dot and the target. A dot in front of both makes that one question: "
        'f".{name}".endswith(f".{target}"). If none fits, raise a UserError.',
        "For each target, and each name that was found:\n"
        "    linear, part = maps[name]\n"
        "    if part not in chosen.setdefault(linear, []):\n"
        "        chosen[linear].append(part)",
    ),
    given=(
        "unknown_target(target, maps): the sentence for a target that names no map, for a UserError.",
        "UserError(sentence): the refusal, to be raised.",
    ),
)


def what_was_built(method, base):
    """For each module: which of its maps are tuned, and A's shape."""
    method.build(base)
    return {name: (low.parts, tuple(low.a.shape)) for name, low in method.changes.items()}


@targets.scene
def one_matrix_in_one_layer(chosen_maps):
    """One matrix by its full name."""
    return what_was_built(LoRA(2, targets=["blocks.1.mlp.up"]), small_gpt())


@targets.scene
def the_papers_choice(chosen_maps):
    """Queries and values."""
    return what_was_built(LoRA(2), small_gpt())


@targets.scene
def named_twice(chosen_maps):
    """Queries, named in two ways."""
    return what_was_built(LoRA(2, targets=["q", "attention.q"]), small_gpt())


@targets.scene
def in_cross_attention_alone(chosen_maps):
    """The values of the cross-attention of an encoder–decoder, and what every feed-forward layer gives."""
    return what_was_built(LoRA(2, targets=["cross.v", "down"]), small_seq2seq())


@targets.scene
def tied_head(chosen_maps):
    """The matrix before the vocabulary is refused."""
    return what_was_built(LoRA(2, targets=["q", "head"]), small_gpt())


@targets.scene
def no_whole_name(chosen_maps):
    """The end of a word is no name ("n" of down), and is refused."""
    return what_was_built(LoRA(2, targets=["n"]), small_gpt())


@targets.scene
def the_beginning_of_a_name(chosen_maps):
    """A layer's name, which no map's name ends in, is refused."""
    return what_was_built(LoRA(2, targets=["blocks.0"]), small_gpt())


@targets.scene
def no_map(chosen_maps):
    """A module that is no linear map is refused."""
    return what_was_built(LoRA(2, targets=["attention"]), small_gpt())


FOUND = 'if f".{name}".endswith(f".{target}")'
targets.slip(
    "full names only",
    'Your target has to be the whole name. "q" should mean blocks.0.attention.q and all its like: a name that ends in it, after a dot.',
    (FOUND, "if name == target"),
)
targets.slip(
    "any end",
    'Your name may end in the middle of a word: "n" finds every down. The target has to begin after a dot: put one in front of both.',
    (FOUND, "if name.endswith(target)"),
)
targets.slip(
    "anywhere in the name",
    'You find the target anywhere in a name: "attention" would mean four matrices in every layer without anyone having said so. It has '
    "to be the name's end.",
    (FOUND, "if target in name"),
)
targets.slip(
    "from the beginning",
    'You look for names that begin with the target. It is the end that counts: "q" means blocks.0.attention.q and all its like.',
    (FOUND, "if name.startswith(target)"),
)
targets.slip(
    "the last word alone",
    'You compare the target with a name\'s last word, so that "cross.v" or a full name finds nothing. A target may have dots in it: the '
    "name has to end in all of it, after a dot.",
    (FOUND, 'if name.split(".")[-1] == target'),
)
targets.slip(
    "any word of the name",
    'You find the target if it is any word of a name: "attention" would mean four matrices in every layer, and "cross.v" none at all. It has to '
    "be the name's end, dots and all.",
    (FOUND, 'if target in name.split(".")'),
)
targets.slip(
    "a sentence raised",
    "unknown_target gives a sentence, a str, and Python raises only exceptions: raise UserError(unknown_target(target, maps)).",
    ("raise UserError(unknown_target(target, maps))", "raise unknown_target(target, maps)"),
)
targets.slip(
    "the first one wins",
    "Once a stack has been named you pass over every further target in it: of q and v only q is tuned. Append each number that is not "
    "there yet.",
    (
        "if part not in chosen.setdefault(linear, []):\n                chosen[linear].append(part)",
        "chosen.setdefault(linear, [part])",
    ),
)
targets.slip(
    "no list yet",
    "chosen has nothing under a module that comes up for the first time, hence the KeyError. chosen.setdefault(linear, []) puts an empty list "
    "there if need be, and gives the list.",
    (
        "if part not in chosen.setdefault(linear, []):\n                chosen[linear].append(part)",
        "chosen[linear].append(part)",
    ),
)
targets.slip(
    "silently skipped",
    "You skip a target that names nothing. Whoever asks to tune the head would believe that it is tuned; a merged change there would "
    "alter what every token means when it is read (the matrix is tied to the embedding). Raise the UserError.",
    ("raise UserError(unknown_target(target, maps))", "continue"),
)
targets.slip(
    "the whole stack",
    "You tune every map of the stack that the target stands in: keys too, where queries were asked for. maps[name][1] says which one "
    "is meant.",
    ("chosen[linear].append(part)", 'chosen[linear].extend(range(getattr(linear, "n_part", 1)))'),
)
targets.slip(
    "only the first",
    "You take the first name that fits and leave the other layers as they are. A target means all of them.",
    ("for name in found:", "for name in found[:1]:"),
)
targets.slip(
    "the same one twice",
    "A map that two targets name gets two A and B, which then write into the same rows. Look whether its number is there already.",
    (
        "if part not in chosen.setdefault(linear, []):",
        "chosen.setdefault(linear, [])\n            if True:",
    ),
)
targets.slip(
    "the last one wins",
    "Each target overwrites what an earlier one put down for the same stack: of q and v only v is left. Append to the list.",
    ("chosen[linear].append(part)", "chosen[linear] = [part]"),
)
targets.slip(
    "nothing returned",
    "You fill the dictionary and do not return it: return chosen.",
    ("return chosen", "pass"),
)
targets.slip(
    "begun anew for each target",
    "You begin a new dictionary for each target, so that only the last one's maps are left. Make it once, before the loop.",
    ("for target in targets:\n", "for target in targets:\n        chosen = {}\n"),
)

# ---------------------------------------------------------------- 12.5

merge = Exercise(
    id="12.5",
    target="minitransformer.tuning.merge:Mergeable.merge",
    title="Into the weights",
    minutes=20,
    difficulty=3,
    purpose="B A has the size of W, so it can be added to it: then tuning costs nothing at all when the model is used. What has to hold: "
    "the same function as before, no hook left, and a way back.",
    hints=(
        "Five things: refuse or return early, keep the base's weights, write the new ones over them, take the hooks out, and let what was "
        "merged, A and B, ask for gradients no more.",
        "self.new_weights(base).items() gives pairs (parameter, value). self.own[weight] = … needs a copy, for weight itself is "
        "written over: clone(). weight.copy_(value) writes into the parameter that the model holds.",
        "self.requires_grad_(False) leaves out a classifier's head, which is no part of the method.\n"
        "    if self.merged:\n"
        "        return\n"
        "    # for each weight and its value:\n"
        "    self.own[weight] = weight.detach().clone()\n"
        "    weight.copy_(value)\n"
        "    # after all of them\n"
        "    for handle in self._handles:\n"
        "        handle.remove()\n"
        "    self._handles.clear()\n"
        "    self.requires_grad_(False)",
    ),
    given=(
        'self._need_base("merge"): the base that the method is on, or a refusal.',
        "self.new_weights(base): a dictionary, parameter of the base → what it becomes.",
        "self.own: a dictionary for the weights as they were, empty while nothing is merged.",
        "self.merged: whether self.own has anything in it.",
        "self._handles: the list of the hooks' handles; each has a method remove, which takes its hook out.",
    ),
)

IDS = torch.tensor([[1, 4, 2], [3, 3, 0]])


def on_a_gpt():
    """A LoRA that has learned, on a GPT."""
    base = small_gpt()
    return base, learned(LoRA(2, 3.0, ["q", "v", "up"]).attach(base))


@merge.scene
def the_same_scores(Mergeable):
    """The scores, hooked in and merged."""
    base, method = on_a_gpt()
    hooked = base(IDS)
    method.merge()
    return {
        "scores, hooked in": hooked,
        "scores, merged": base(IDS),
        "number of hooks left": sum(len(m._forward_hooks) for m in base.modules()),
    }


@merge.scene
def beside_another_hook(Mergeable):
    """How many hooks are left where somebody else has one on the same map."""
    base, method = on_a_gpt()
    base.blocks[0].attention.qkv.register_forward_hook(lambda linear, args, output: None)
    method.merge()
    return sum(len(m._forward_hooks) for m in base.modules())


@merge.scene
def a_second_time(Mergeable):
    """Merged twice, the weights are those of merging once."""
    base, method = on_a_gpt()
    method.merge()
    once = base(IDS)
    method.merge()
    return {
        "what .merged says": method.merged,
        "how far the scores moved": (base(IDS) - once).abs().max().item(),
    }


@merge.scene
def the_way_back(Mergeable):
    """How far weights and scores are from what they were, after merge() and after unmerge()."""
    base, method = on_a_gpt()
    scores = base(IDS)
    before = {
        name: p.detach().clone()
        for name, p in base.named_parameters()
        if name.endswith(("qkv.weight", "up.weight"))
    }

    def moved():
        return {
            name: (base.get_parameter(name) - p).abs().max().item() for name, p in before.items()
        }

    method.merge()
    in_memory = {p.data_ptr() for p in base.parameters()}
    merged, shared = moved(), any(kept.data_ptr() in in_memory for kept in method.own.values())
    method.unmerge()
    return {
        "how far the weights moved by merge()": merged,
        "whether own lies in the memory of the weights": shared,
        "how far the weights are off after unmerge()": moved(),
        "how far the scores are off after unmerge()": round(
            (base(IDS) - scores).abs().max().item(), 4
        ),
    }


@merge.scene
def below_a_classifier(Mergeable):
    """What asks for gradients while merged, below a classifier: A and B no more, the head as before."""
    model = Classifier(small_gpt(), 3)
    method = learned(LoRA(2, 3.0).attach(model))
    method.merge()
    return {name: p.requires_grad for name, p in model.named_parameters()}


@merge.case
def on_no_base():
    """A LoRA that is on no base is refused."""
    return (LoRA(2),)


merge.slip(
    "hooks left in",
    "Your hooks are still there, and the change counts twice: once in the weights, once beside them. Go through self._handles, call "
    "handle.remove() on each, and empty the list; emptying it alone takes no hook out.",
    ("handle.remove()", "pass"),
)
merge.slip(
    "no copy kept",
    "You keep the parameter itself, not a copy: weight.copy_ writes over the same memory, and there is no way back. "
    "weight.detach().clone().",
    ("weight.detach().clone()", "weight.detach()"),
)
merge.slip(
    "the merged weights kept",
    "`own` keeps the new weights, so that there is no way back: you copy a weight after they were written into it, or keep value itself. First "
    "a copy of the weight as it was, then weight.copy_(value).",
    (
        "self.own[weight] = weight.detach().clone()\n            weight.copy_(value)",
        "weight.copy_(value)\n            self.own[weight] = weight.detach().clone()",
    ),
)
merge.slip(
    "only the last one kept",
    "`own` holds one weight alone, the last: each round of your loop makes a new dictionary. self.own[weight] = … adds to the one that "
    "is there.",
    ("self.own[weight] = weight.detach().clone()", "self.own = {weight: weight.detach().clone()}"),
)
merge.slip(
    "everybody's hooks taken out",
    "You empty the modules' lists of hooks, and with them go hooks of others: another method's, or a user's own. Yours are those whose handles are in "
    "self._handles.",
    (
        "for handle in self._handles:\n            handle.remove()",
        "for module in base.modules():\n            module._forward_hooks.clear()",
    ),
)
merge.slip(
    "its own parameters lost",
    "You empty B, or drop A and B, once they are in the weights. After unmerge they have to work again from beside: leave them as they are.",
    (
        "self.requires_grad_(False)",
        "self.requires_grad_(False)\n        for p in self.parameters():\n            p.zero_()",
    ),
)
merge.slip(
    "nothing written",
    "weight = value gives a Python name to other numbers; the model's parameter stays as it was. weight.copy_(value) writes into it.",
    ("weight.copy_(value)", "weight = value"),
)
merge.slip(
    "off the base altogether",
    "You call detach(), and the method is off the base. A merged one stays on it: its effect stands in the weights, and unmerge() can take it "
    "out. Only the hooks go, handle by handle.",
    (
        "for handle in self._handles:\n            handle.remove()\n        self._handles.clear()",
        "self.detach()",
    ),
)
merge.slip(
    "merged again",
    "A second merge adds the change a second time, and keeps the merged numbers as if they were the base's own. If self.merged, there is "
    "nothing to do.",
    ("if self.merged:", "if False:"),
)
merge.slip(
    "W twice",
    "You add the new weights to the old ones. new_weights gives W + (α/r) B A, W included: copy_.",
    ("weight.copy_(value)", "weight.add_(value)"),
)
merge.slip(
    "still trainable",
    "A and B still ask for gradients, though nothing reads them any more: training would run, and change nothing. "
    "self.requires_grad_(False).",
    ("self.requires_grad_(False)", "pass"),
)
merge.slip(
    "head frozen too",
    "You also freeze the classifier's head, which is no part of what was merged and goes on learning. self.requires_grad_(False) leaves it out.",
    (
        "self.requires_grad_(False)",
        "self.requires_grad_(False)\n        if self.head:\n            self.head.requires_grad_(False)",
    ),
)
merge.slip(
    "not refused",
    'On no base your code fails somewhere, with a message about NoneType. self._need_base("merge") gives the base, or says what is '
    "missing.",
    ('base = self._need_base("merge")', "base = self.base"),
)
merge.slip(
    "nothing noted",
    "You write the new weights and note nothing in self.own: nobody knows that something is merged, and the base is spoilt for good.",
    ("self.own[weight] = weight.detach().clone()", "pass"),
)

# ---------------------------------------------------------------- 12.6

unmerge = Exercise(
    id="12.6",
    target="minitransformer.tuning.merge:Mergeable.unmerge",
    title="And out again",
    minutes=10,
    difficulty=2,
    purpose="For another task the change has to come out again, without a trace: in numbers of finite precision (W + Δ) − Δ is not W, so "
    "what merge kept aside is put back.",
    hints=(
        "Undo merge in every respect: the weights, the hooks, and what can be trained. If nothing is merged, there is nothing to "
        "undo.",
        "self._put_back() copies self.own into the weights and empties it. self.install(base) hooks in and gives the handles, which "
        "detach() will need: self._handles = list(…).",
        '    base = self._need_base("unmerge")\n'
        "    if self.merged:\n"
        "        self._put_back()\n"
        "        self._handles = list(self.install(base))\n"
        "        self.requires_grad_(True)",
    ),
    given=(
        'self._need_base("unmerge"): the base that the method is on, or a refusal.',
        "self._put_back: a method that copies self.own into the weights, and empties it.",
        "self.install(base): hooks in, and gives the hooks' handles.",
        "self.merged: whether self.own has anything in it.",
    ),
)


@unmerge.scene
def scores_as_before(Mergeable):
    """The scores, hooked in, and again after merge() and unmerge()."""
    base, method = on_a_gpt()
    hooked = base(IDS)
    method.merge()
    method.unmerge()
    return {
        "scores, hooked in": hooked,
        "scores, unmerged": base(IDS),
        "what .merged says": method.merged,
    }


@unmerge.scene
def bit_for_bit(Mergeable):
    """Whether every weight is bit for bit what it was."""
    base, method = on_a_gpt()
    own = {
        name: p.detach().clone()
        for name, p in base.named_parameters()
        if not name.startswith("tuning.")
    }
    method.merge()
    method.unmerge()
    return all(torch.equal(own[name], p) for name, p in base.named_parameters() if name in own)


@unmerge.scene
def never_merged(Mergeable):
    """Without a merge before: the scores, and the hooks."""
    base, method = on_a_gpt()
    method.unmerge()
    return {
        "scores": base(IDS),
        "number of hooks": sum(len(m._forward_hooks) for m in base.modules()),
    }


@unmerge.scene
def it_can_learn_again(Mergeable):
    """What asks for gradients after unmerging: A and B, and nothing of the base."""
    base, method = on_a_gpt()
    method.merge()
    method.unmerge()
    return {name: p.requires_grad for name, p in base.named_parameters()}


@unmerge.scene
def and_leave(Mergeable):
    """After detach(), the hooks that are left, and the scores."""
    base, method = on_a_gpt()
    method.merge()
    method.unmerge()
    method.detach()
    return {
        "number of hooks left": sum(len(m._forward_hooks) for m in base.modules()),
        "scores": base(IDS),
    }


@unmerge.case
def unmerge_on_no_base():
    """A LoRA that is on no base is refused."""
    return (LoRA(2),)


@unmerge.mistake
@torch.no_grad()
def subtracted(self):
    """You subtract what was added. (W + Δ) − Δ is not W: a rounding error stays, in bf16 a large one, and the base's fingerprint is lost. Put back what self.own has kept."""
    base = self._need_base("unmerge")
    if self.merged:
        for weight, value in self.new_weights(base).items():
            weight.copy_(
                weight - (value - weight)
            )  # value is the merged weight with the change once more
        self.own.clear()
        self._handles = list(self.install(base))
        self.requires_grad_(True)


@unmerge.mistake
@torch.no_grad()
def copies_not_emptied(self):
    """You copy the weights back and leave self.own full: the method still counts as merged, so that it refuses other methods, and will not merge again. _put_back also empties it."""
    base = self._need_base("unmerge")
    if self.merged:
        for weight, value in self.own.items():
            weight.copy_(value)
        self._handles = list(self.install(base))
        self.requires_grad_(True)


unmerge.slip(
    "not hooked in again",
    "The weights are back, but the hooks are not: the method is on the base and does nothing. merge took them out, so hook in again.",
    ("self._handles = list(self.install(base))\n", "pass\n"),
)
unmerge.slip(
    "handles lost",
    "You hook in and do not keep the handles. detach() then cannot take the hooks out, and the base stays changed for ever: "
    "self._handles.",
    ("self._handles = list(self.install(base))", "list(self.install(base))"),
)
unmerge.slip(
    "hooked in twice",
    "You hook in even where nothing was merged, so the hooks are there a second time and the change counts twice. Only if self.merged.",
    ("if self.merged:", "if True:"),
)
unmerge.slip(
    "frozen for ever",
    "A and B stay frozen, as merge left them: further training would change nothing. self.requires_grad_(True).",
    ("self.requires_grad_(True)", "pass"),
)
unmerge.slip(
    "base thawed",
    "You let the base itself ask for gradients: it would be trained along, and a LoRA is nothing but what is beside a frozen base. "
    "self.requires_grad_(True).",
    ("self.requires_grad_(True)", "base.requires_grad_(True)"),
)
unmerge.slip(
    "put back before asking",
    "You put the weights back before you ask whether anything is merged, and then nothing is: `merged` says whether self.own is empty. Hooking "
    "in belongs under the same if.",
    ("if self.merged:\n            self._put_back()", "self._put_back()\n        if self.merged:"),
)
unmerge.slip(
    "merged weights left",
    "You hook in and leave the merged weights where they are: the change counts twice. self._put_back() comes first.",
    ("            self._put_back()\n", "            self.own.clear()\n"),
)
unmerge.slip(
    "not refused",
    'On no base your code does nothing, silently: a typing error in somebody\'s script goes by. self._need_base("unmerge") refuses.',
    ('base = self._need_base("unmerge")', "base = self.base"),
)
