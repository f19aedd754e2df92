"""Exercises of lesson 12: two thin matrices, their hook and scale, which maps they go to, merging and unmerging."""

import math

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.course.workbook.costs import cost
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import IA3, LoRA, attached
from minitransformer.tuning.merge import linear_maps


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
    purpose="Each tuned map W (d_out, d_in) gets an A (r, d_in) and a B (d_out, r). Their product B A is the change of W. Their start "
    "decides whether the base is unchanged at first, and whether they can learn at all. This function makes n of each, for n maps of one stack.",
    hints=(
        "At first B A must be 0, but one of the two must get a gradient. The gradient of B is computed with A. So A is random and B is zero.",
        "A is (n, r, d_in) and B is (n, d_out, r): each of the n maps has its own A. The numbers of A are uniform between -1/√d_in and 1/√d_in.",
        "    bound = 1 / math.sqrt(d_in)\n"
        "    a = torch.empty(n, rank, d_in).uniform_(-bound, bound)\n"
        "    return a, torch.zeros(n, d_out, rank)",
    ),
    given=(
        "tensor.uniform_(low, high): fills a tensor with random numbers, uniform between low and high.",
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
    """What B A is at first, and which of the two gets a gradient."""
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


@thin.scene
def one_after_another(new_factors):
    """Two calls, and what becomes of the second B when the first one learns."""
    a, b = new_factors(2, 4, 5, 3)
    again = new_factors(2, 4, 5, 3)[0]
    b[0] += 1
    return {
        "whether both calls give the same A": torch.equal(a, again),
        "the second B": b[1].clone(),
    }


A = "torch.empty(n, rank, d_in).uniform_(-bound, bound)"
B = "torch.zeros(n, d_out, rank)"
thin.slip(
    "both zero",
    "Both matrices are zero. B A is 0, which is right. But the gradient of B is computed with A, and the gradient of A with B. So both "
    "gradients are 0, and nothing is ever learned.",
    (A, "torch.zeros(n, rank, d_in)"),
)
thin.slip(
    "both random",
    "Both matrices are random, so the base is changed before anything is learned. B must start at zero.",
    (B, "torch.empty(n, d_out, rank).uniform_(-bound, bound)"),
)
thin.slip(
    "the other one zero",
    "A is zero and B is random. That would learn, too. But in the paper A is random and B is zero, and so it is here.",
    (A, "torch.zeros(n, rank, d_in)"),
    (B, "torch.empty(n, d_out, rank).uniform_(-bound, bound)"),
)
thin.slip(
    "one A for all",
    "All maps share one A. Then ΔW_q and ΔW_v read the same r directions of x. In the paper each has its own. Make n of them.",
    ("torch.empty(n, rank, d_in)", "torch.empty(1, rank, d_in)"),
)
thin.slip(
    "one map alone",
    "Your A and B are for one map. There are n maps, so A is (n, r, d_in) and B is (n, d_out, r).",
    ("torch.empty(n, rank, d_in)", "torch.empty(rank, d_in)"),
    (B, "torch.zeros(d_out, rank)"),
)
thin.slip(
    "B first",
    "You return B first. Return A first, then B.",
    (f"return {A}, {B}", f"return {B}, {A}"),
)
thin.slip(
    "shapes as printed",
    "Your shapes are those of 001 §3.1.3, A (d, r) and B (r, d), which belong to W + A B. Here it is W + B A: A is (r, d_in), and B is "
    "(d_out, r).",
    ("torch.empty(n, rank, d_in)", "torch.empty(n, d_in, rank)"),
    (B, "torch.zeros(n, rank, d_out)"),
)
thin.slip(
    "widths exchanged",
    "You exchanged d_in and d_out. A reads what the map reads, d_in numbers. B writes what the map gives, d_out numbers.",
    ("torch.empty(n, rank, d_in)", "torch.empty(n, rank, d_out)"),
    (B, "torch.zeros(n, d_in, rank)"),
)
thin.slip(
    "bound of the rank",
    "The numbers of your A lie between ±1/√r. A sums over d_in numbers of x, so the bound must be 1/√d_in. With 1/√r the result grows "
    "with the width of the model.",
    ("math.sqrt(d_in)", "math.sqrt(rank)"),
)
thin.slip(
    "normally distributed",
    "The numbers of your A are normally distributed with variance 1, which is far too large. They should be uniform between ±1/√d_in.",
    (A, "torch.randn(n, rank, d_in)"),
)
thin.slip(
    "normal in place of uniform",
    "The numbers of your A are normally distributed with the standard deviation 1/√d_in. They should be uniform between -1/√d_in and "
    "1/√d_in: .uniform_(-bound, bound).",
    (A, "torch.randn(n, rank, d_in) * bound"),
)
thin.slip(
    "normal, by the rank",
    "The numbers of your A are normally distributed with the standard deviation 1/√r, as in some tutorials. Here they should be uniform "
    "between ±1/√d_in, whatever the rank is.",
    (A, "torch.randn(n, rank, d_in) / math.sqrt(rank)"),
)
thin.slip(
    "never negative",
    "The numbers of your A are never negative, so all its rows point in a similar direction. They should lie between -1/√d_in and 1/√d_in.",
    (".uniform_(-bound, bound)", ".uniform_(0, bound)"),
)
thin.slip(
    "kaiming over three axes",
    "kaiming_uniform_(A, a=√5) gives the bound 1/√d_in if A is a matrix. Your A has three axes, (n, r, d_in), and the function takes "
    "r · d_in as the number of inputs. So A is √r times too small. Set the bound yourself, .uniform_(-bound, bound), or call the function for "
    "the matrix of each map.",
    (A, "nn.init.kaiming_uniform_(torch.empty(n, rank, d_in), a=math.sqrt(5))"),
)
thin.slip(
    "the same A for each map",
    "Every map starts with a copy of the same A. Each should have its own random numbers.",
    (A, "torch.empty(rank, d_in).uniform_(-bound, bound).repeat(n, 1, 1)"),
)

# ---------------------------------------------------------------- 12.2

beside = Exercise(
    id="12.2",
    target="minitransformer.tuning.lora:LoRA.change_of",
    title="Beside the frozen matrix",
    minutes=15,
    difficulty=2,
    purpose="h = W x + (α/r) B A x. The frozen map gives W x. A hook adds what you compute here from the same x: (α/r) B A x. The matrix "
    "B A is never computed, because x goes through A first and through B second.",
    hints=(
        "low.matrices() gives A and B for all maps of the stack. Multiply by one, then by the other, and then by the scale.",
        "F.linear(x, a) is A x for every token. A call can ask for some maps of the stack only; b[rows] are the rows of B that belong to "
        "them. Dropout is applied to x, before A.",
        "    a, b = low.matrices()\n"
        "    x = drop(x, self.dropout, self.training)\n"
        "    return self.scale * F.linear(F.linear(x, a), b[rows])",
    ),
    given=(
        "low.matrices(): A (n·r, d_in) and B (d_out, n·r). For a stack, d_out is the sum over its maps.",
        "self.scale: α/r.",
        "self.dropout, self.training: the fraction that is dropped, and whether this method is in training. The base has its own flag.",
        "drop(x, fraction, training): dropout if training is true, else x.",
        "F.linear(x, w): x wᵀ.",
    ),
)


@beside.scene
def one_map(LoRA):
    """Rank 2 and α = 2 beside a single map of 6 to 10 numbers, for three tokens; called twice."""
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
    """A call for keys and values only, as cross-attention makes it."""
    return around_the_stack(LoRA(2, 6.0), small_gpt(), 1, 3)


@beside.scene
def one_at_a_time(LoRA):
    """One call each for queries, keys and values; all are tuned."""
    base, x = small_gpt(), tidy(1, 3, 6)
    with attached(base, method := LoRA(2, 6.0, ["q", "k", "v"])):
        learned(method)
        return {f"{n} to {n + 1}": base.blocks[1].attention.qkv(x, n, n + 1) for n in range(3)}


@beside.scene
def another_scale(LoRA):
    """The output while LoRA is on and α is changed."""
    base, x, given = small_gpt(), tidy(1, 3, 6), {}
    with attached(base, method := LoRA(2, 6.0, ["up"])):
        learned(method)
        for alpha in (6.0, 1.0):
            method.alpha = alpha
            given[alpha] = base.blocks[1].mlp.up(x)
    return given


@beside.scene(tolerance=1e-4)
def while_it_learns(LoRA):
    """Gradients of all A and B, after their numbers were changed."""
    base, ids = small_gpt(), torch.tensor([[1, 4, 2]])
    with attached(base, method := LoRA(2, 4.0, ["q", "down"])):
        base(ids)
        learned(method)
        base(ids).square().sum().backward()
        return {name: p.grad for name, p in method.named_parameters()}


@beside.scene
def dropout_while_training(LoRA):
    """Half of x is dropped before A, but only if LoRA itself is in training."""
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
    """A whole encoder–decoder with tuned queries and values."""
    base = small_seq2seq()
    with attached(base, method := LoRA(2, 4.0)):
        learned(method)
        return base(torch.tensor([[6, 3]]), source=torch.tensor([[1, 4, 2]]))


@beside.scene
def never_written_down(LoRA):
    """One token of 300 numbers, a map to 300, rank 1: B A has 90,000 numbers, and is never made."""
    sizes = dict(vocab_size=7, n_positions=9, n_layer=1, n_head=2, d_model=300, d_ff=300)
    base = GPT(GPTConfig(**sizes)).eval()
    with attached(base, method := LoRA(1, 2.0, ["up"])), torch.no_grad():
        low = method.changes["blocks/0/mlp/up"]
        work = cost(method.change_of, low, tidy(1, 1, 300), slice(0, 300)).work
    return {"fewer numbers are computed than B A has": work < 300 * 300}


INNER = "F.linear(F.linear(x, a), b[rows])"
DROP = "x = drop(x, self.dropout, self.training)"
SUM = f"return self.scale * {INNER}"
beside.slip(
    "α in place of α/r",
    "You scale by α and not by α/r, so the change is r times too large. Use self.scale.",
    ("self.scale *", "self.alpha *"),
)
beside.slip(
    "no scale", "You return B A x without the scale α/r: self.scale.", ("self.scale * F", "F")
)
beside.slip(
    "all rows of the stack",
    "You always use all rows of B. But a call can ask for some maps of the stack only: cross-attention asks for keys and values. Then the "
    "output has only their rows. Use b[rows].",
    ("b[rows]", "b"),
)
beside.slip(
    "the first rows",
    "When a call asks for some maps only, you take the first rows of B, which belong to the queries. `rows` says which rows are needed.",
    ("b[rows]", "b[: len(b[rows])]"),
)
beside.slip(
    "the last rows",
    "When a call asks for some maps only, you take the last rows of B, which belong to the values. `rows` says which rows are needed.",
    ("b[rows]", "b[-len(b[rows]) :]"),
)
beside.slip(
    "up to the end of the stack",
    "You take all rows from the first that is needed to the end of the stack. For the queries alone these are too many. Use b[rows].",
    ("b[rows]", "b[rows.start :]"),
)
beside.slip(
    "rows of A",
    "You also cut A with `rows`. `rows` are rows of B. All rows of A are needed.",
    ("F.linear(x, a)", "F.linear(x, a[rows])"),
)
beside.slip(
    "multiplied the wrong way round",
    "You multiply by A and B without transposing them (x @ a, or a.T in F.linear). F.linear(x, a) is x Aᵀ, which is A x for every token. A "
    "is (r, d_in), and B is (d_out, r).",
    (INNER, "F.linear(F.linear(x, a.T), b[rows].T)"),
)
beside.slip(
    "B before A",
    "You multiply by B first. B A x is read from the right: A makes r numbers from x, and B makes d_out numbers from these.",
    (INNER, "F.linear(F.linear(x, b[rows]), a)"),
)
beside.slip(
    "nothing returned",
    "You compute the change but do not return it.",
    (SUM, SUM.removeprefix("return ")),
)
beside.slip(
    "B A written down",
    "You multiply B by A first. B A is as large as W, and that is what LoRA saves: x goes through A to r numbers, and then through B.",
    (INNER, "F.linear(x, b[rows] @ a)"),
)
beside.slip(
    "x added",
    "You add x to the change. Return only the change; the hook adds it to W x.",
    (SUM, SUM + " + x[..., :1]"),
)
beside.slip(
    "scale taken once",
    "You keep the scale of the first call. If somebody changes α later, nothing happens. Read self.scale at every call.",
    ("self.scale *", "vars(self).setdefault('_scale', self.scale) *"),
)
beside.slip(
    "the base's training flag",
    "Your dropout depends on whether the base is in training (self.base.training). The method has its own flag: self.training.",
    (DROP, "x = drop(x, self.dropout, self.base.training)"),
)
beside.slip(
    "dropout on the sum",
    "You apply dropout to the result of B. Apply it to x, before A.",
    (DROP, "pass"),
    (INNER, f"drop({INNER}, self.dropout, self.training)"),
)
beside.slip(
    "without gradient",
    "You compute the change under no_grad, or you detach it. Then A and B get no gradient, and LoRA learns nothing.",
    (SUM, SUM + ".detach()"),
)
beside.slip(
    "made only once",
    "You keep A and B of the first call. After the first step of training they are out of date, and no gradient reaches the parameters. "
    "Call low.matrices() every time.",
    ("a, b = low.matrices()", "a, b = vars(low).setdefault('_kept', low.matrices())"),
)
beside.slip(
    "no dropout",
    "You leave out the dropout. In training it is applied to x, before A.",
    (DROP, "pass"),
)
beside.slip(
    "dropout also at rest",
    "You apply dropout outside of training, too. Then the same text gets another answer each time. Pass self.training to drop (or to "
    "F.dropout, which otherwise always drops).",
    (DROP, "x = drop(x, self.dropout, True)"),
)
beside.slip(
    "dropout behind A",
    "You apply dropout to the r numbers that A gives. Apply it to x, before A.",
    (DROP, "pass"),
    ("F.linear(x, a)", "drop(F.linear(x, a), self.dropout, self.training)"),
)
beside.slip(
    "an activation between",
    "You put a ReLU between A and B, as in an adapter. LoRA has none. Only without it are the two one matrix that can be added to W.",
    ("F.linear(x, a)", "F.relu(F.linear(x, a))"),
)

# ---------------------------------------------------------------- 12.3

scale = Exercise(
    id="12.3",
    target="minitransformer.tuning.lora:LoRA.scale",
    title="The scale",
    minutes=2,
    difficulty=1,
    purpose="A change of rank r is a sum of r terms. This number in front of the sum balances that, so the learning rate of one rank also "
    "serves another.",
    hints=(
        "The docstring has the formula. Which two settings of the method are its letters?",
        "α is self.alpha, and r is self.rank. Divide.",
        "Use / and not //.\n    return self.alpha / self.rank",
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
    """Your scale is α, without r. Then the change grows with the rank. The scale is α/r."""
    return self.alpha


@scale.mistake
def upside_down(self):
    """You divide r by α. Then the scale grows with the rank, but it should fall. The scale is α/r."""
    return self.rank / self.alpha


@scale.mistake
def by_the_root(self):
    """You divide by √r. Kalajdzievski (2023) proposes that, with good reasons. But Hu et al. and this course use α/r."""
    return self.alpha / math.sqrt(self.rank)


@scale.mistake
def whole_numbers_only(self):
    """You divide with //, which rounds down. With rank 16 and α = 8 the scale is 0, and LoRA does nothing. Use /."""
    return self.alpha // self.rank


@scale.mistake
def times_r(self):
    """You multiply by r. The scale is α/r."""
    return self.alpha * self.rank


@scale.mistake
def the_rank_alone(self):
    """Your scale is r. The scale is α/r."""
    return self.rank


@scale.mistake
def by_the_number_of_targets(self):
    """You divide by the number of targets. The number of targets does not matter, because each map has its own change. The scale is α/r."""
    return self.alpha / len(self.targets)


@scale.mistake
def by_the_square(self):
    """You divide by r². The scale is α/r."""
    return self.alpha / self.rank**2


@scale.mistake
def computed_once(self):
    """You keep the scale of the first call. α can be changed later, so compute the scale at every call."""
    if "_scale" not in vars(self):
        self._scale = self.alpha / self.rank
    return self._scale


@scale.mistake
def always_two(self):
    """Your scale is always 2. That is α/r if α = 2r, which is a common choice. But the user chooses both: compute α/r."""
    return 2.0


# ---------------------------------------------------------------- 12.4

targets = Exercise(
    id="12.4",
    target="minitransformer.tuning.lora:chosen_maps",
    title="Which matrices?",
    minutes=15,
    difficulty=2,
    purpose='The target "q" means the queries\' matrix of every attention, and "blocks.0.mlp.up" means one matrix in one layer. This '
    "function finds the maps that the targets name. It refuses a target that names none. Above all it refuses the matrix before the "
    "vocabulary, which is tied to the embedding.",
    hints=(
        "maps is a dictionary. A key is the full name of a map, such as blocks.0.attention.q. Its value is a pair: the module that holds "
        "the map, and the map's number in the stack. For each target, first find the names that it means.",
        "A name fits if it is the target, or if it ends with a dot and the target. Put a dot in front of both, and one check is enough: "
        'f".{name}".endswith(f".{target}"). If no name fits, raise a UserError.',
        "For each target, and each name that was found:\n"
        "    linear, part = maps[name]\n"
        "    if part not in chosen.setdefault(linear, []):\n"
        "        chosen[linear].append(part)",
    ),
    given=(
        "unknown_target(target, maps): the sentence of the refusal, for a target that names no map.",
        "UserError(sentence): the exception to raise.",
    ),
)


def what_was_built(method, base):
    """For each module: the tuned maps, and the shape of A."""
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
    """The values of an encoder–decoder's cross-attention, and the second matrix of every feed-forward layer."""
    return what_was_built(LoRA(2, targets=["cross.v", "down"]), small_seq2seq())


@targets.scene
def tied_head(chosen_maps):
    """The matrix before the vocabulary is refused."""
    return what_was_built(LoRA(2, targets=["q", "head"]), small_gpt())


@targets.scene
def no_whole_name(chosen_maps):
    """A target that is only the end of a word ("n" of down) is refused."""
    return what_was_built(LoRA(2, targets=["n"]), small_gpt())


@targets.scene
def the_beginning_of_a_name(chosen_maps):
    """The name of a layer is refused, because no map's name ends with it."""
    return what_was_built(LoRA(2, targets=["blocks.0"]), small_gpt())


@targets.scene
def no_map(chosen_maps):
    """The name of a module that is no linear map is refused."""
    return what_was_built(LoRA(2, targets=["attention"]), small_gpt())


@targets.scene
def order_of_the_names(chosen_maps):
    """Values and queries of one layer, in this order: the numbers of its maps."""
    maps = linear_maps(small_gpt())
    named = ["blocks.0.attention.v", "blocks.0.attention.q"]
    return {"numbers of the maps": list(chosen_maps(named, maps).values())}


@targets.scene
def values_before_queries(chosen_maps):
    """Values and queries, in this order; and then a layer's queries once more."""
    return what_was_built(LoRA(2, targets=["v", "q", "blocks.0.attention.q"]), small_gpt())


FOUND = 'if f".{name}".endswith(f".{target}")'
targets.slip(
    "full names only",
    'You accept only whole names. The target "q" should mean blocks.0.attention.q and blocks.1.attention.q, too: a name fits if it ends '
    "with a dot and the target.",
    (FOUND, "if name == target"),
)
targets.slip(
    "any end",
    'You accept a target that is the end of a word: "n" finds every down. The target must start after a dot. Put a dot in front of both.',
    (FOUND, "if name.endswith(target)"),
)
targets.slip(
    "anywhere in the name",
    'You accept a target anywhere in a name: "attention" would mean four matrices in every layer. The name must end with the target.',
    (FOUND, "if target in name"),
)
targets.slip(
    "from the beginning",
    'You look for names that begin with the target. The name must end with it: "q" means blocks.0.attention.q.',
    (FOUND, "if name.startswith(target)"),
)
targets.slip(
    "the last word alone",
    'You compare the target with the last word of a name, so "cross.v" or a full name finds nothing. A target can have dots in it. The '
    "name must end with a dot and the whole target.",
    (FOUND, 'if name.split(".")[-1] == target'),
)
targets.slip(
    "any word of the name",
    'You accept a target that is any word of a name: "attention" would mean four matrices in every layer, and "cross.v" none. The name must '
    "end with a dot and the whole target.",
    (FOUND, 'if target in name.split(".")'),
)
targets.slip(
    "a sentence raised",
    "unknown_target gives a string, and Python can raise only exceptions. Write raise UserError(unknown_target(target, maps)).",
    ("raise UserError(unknown_target(target, maps))", "raise unknown_target(target, maps)"),
)
targets.slip(
    "the first one wins",
    "You take only the first target of each stack: of q and v only q is tuned. Append each number that is not in the list yet.",
    (
        "if part not in chosen.setdefault(linear, []):\n                chosen[linear].append(part)",
        "chosen.setdefault(linear, [part])",
    ),
)
targets.slip(
    "no list yet",
    "A KeyError: chosen has no list for this module yet. chosen.setdefault(linear, []) puts an empty list there if there is none, and "
    "returns the list.",
    (
        "if part not in chosen.setdefault(linear, []):\n                chosen[linear].append(part)",
        "chosen[linear].append(part)",
    ),
)
targets.slip(
    "silently skipped",
    "You skip a target that names no map. Then a user who wants to tune the head believes that it is tuned. Raise the UserError.",
    ("raise UserError(unknown_target(target, maps))", "continue"),
)
targets.slip(
    "the whole stack",
    "You tune every map of the stack: also the keys when only the queries are a target. maps[name][1] says which map is meant.",
    ("chosen[linear].append(part)", 'chosen[linear].extend(range(getattr(linear, "n_part", 1)))'),
)
targets.slip(
    "only the first",
    "You take only the first name that fits. A target means all names that fit, in all layers.",
    ("for name in found:", "for name in found[:1]:"),
)
targets.slip(
    "the same one twice",
    "If two targets name the same map, it gets two A and two B. Check whether its number is in the list already.",
    (
        "if part not in chosen.setdefault(linear, []):",
        "chosen.setdefault(linear, [])\n            if True:",
    ),
)
targets.slip(
    "the last one wins",
    "Each target overwrites an earlier target of the same stack: of q and v only v is left. Append to the list.",
    ("chosen[linear].append(part)", "chosen[linear] = [part]"),
)
targets.slip(
    "in order of their numbers",
    "You sort the numbers of the maps. They stand in the order in which they were named: of v and q, v first.",
    ("return chosen", "return {linear: sorted(parts) for linear, parts in chosen.items()}"),
)
targets.slip(
    "nothing returned",
    "You fill the dictionary but do not return it. Write return chosen.",
    ("return chosen", "pass"),
)
targets.slip(
    "begun anew for each target",
    "You make a new dictionary for each target, so only the maps of the last target are left. Make it once, before the loop.",
    ("for target in targets:\n", "for target in targets:\n        chosen = {}\n"),
)

# ---------------------------------------------------------------- 12.5

merge = Exercise(
    id="12.5",
    target="minitransformer.tuning.merge:Mergeable.merge",
    title="Into the weights",
    minutes=20,
    difficulty=3,
    purpose="B A has the size of W, so it can be added to W. Then the tuned model is as fast as the base. After merging, the model must be "
    "the same function as before, no hook of the method must be left, and there must be a way back.",
    hints=(
        "There are five things to do: refuse or return early; keep the base's weights; write the new ones over them; take the hooks out; and "
        "switch off the gradients of A and B.",
        "self.new_weights(base).items() gives pairs (parameter, value). Keep a copy in self.own[weight], made with clone(), because the "
        "weight itself is overwritten. weight.copy_(value) writes into the parameter of the model.",
        "self.requires_grad_(False) leaves out a classifier's head, because the head is no part of the method.\n"
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
        "self.new_weights(base): a dictionary: parameter of the base → its new value.",
        "self.own: a dictionary for copies of the old weights; it is empty while nothing is merged.",
        "self.merged: whether self.own has anything in it.",
        "self._handles: the list of the hooks' handles. Each has a method remove, which takes its hook out.",
    ),
)

IDS = torch.tensor([[1, 4, 2], [3, 3, 0]])


def on_a_gpt():
    """A GPT with a LoRA on it, whose B is not 0."""
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
    """How many hooks are left if somebody else has a hook on the same map."""
    base, method = on_a_gpt()
    base.blocks[0].attention.qkv.register_forward_hook(lambda linear, args, output: None)
    method.merge()
    return sum(len(m._forward_hooks) for m in base.modules())


@merge.scene
def a_second_time(Mergeable):
    """Merging twice changes nothing more than merging once."""
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
    """How far weights and scores are from the old ones, after merge() and after unmerge()."""
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


def scaled_by_ia3():
    """An IA³ that has learned, on a GPT."""
    base = small_gpt()
    method = IA3().attach(base)
    for factor in method.factors.values():
        factor.data = 1 + tidy(len(factor)) / 4
    return base, method


@merge.scene
def another_method_that_inherits_it(Mergeable):
    """IA³, which inherits this: the scores, hooked in, merged and after unmerge()."""
    base, method = scaled_by_ia3()
    hooked = base(IDS)
    method.merge()
    merged = base(IDS)
    method.unmerge()
    return {
        "scores, hooked in": hooked,
        "scores, merged": merged,
        "scores after unmerge()": base(IDS),
    }


@merge.scene
def below_a_classifier(Mergeable):
    """Which parameters have requires_grad while merged, below a classifier: not A and B, but the head."""
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
    "Your hooks are still there, so the change counts twice: in the weights, and by the hooks. Call handle.remove() for each handle in "
    "self._handles, and then empty the list. Emptying the list alone takes no hook out.",
    ("handle.remove()", "pass"),
)
merge.slip(
    "no copy kept",
    "You keep the parameter itself and not a copy. weight.copy_ overwrites the same memory, so there is no way back. Keep "
    "weight.detach().clone().",
    ("weight.detach().clone()", "weight.detach()"),
)
merge.slip(
    "the merged weights kept",
    "self.own has the new weights, so there is no way back. Either you copy a weight after you overwrote it, or you keep value. First copy "
    "the old weight, then call weight.copy_(value).",
    (
        "self.own[weight] = weight.detach().clone()\n            weight.copy_(value)",
        "weight.copy_(value)\n            self.own[weight] = weight.detach().clone()",
    ),
)
merge.slip(
    "only the last one kept",
    "self.own has only the last weight, because each round of your loop makes a new dictionary. self.own[weight] = … adds to the existing "
    "one.",
    ("self.own[weight] = weight.detach().clone()", "self.own = {weight: weight.detach().clone()}"),
)
merge.slip(
    "everybody's hooks taken out",
    "You remove all hooks of the modules, also those of other methods or of the user. Remove only your own, by the handles in "
    "self._handles.",
    (
        "for handle in self._handles:\n            handle.remove()",
        "for module in base.modules():\n            module._forward_hooks.clear()",
    ),
)
merge.slip(
    "for LoRA alone",
    "You compute the new weights from self.changes, which LoRA alone has. IA³ inherits this method, too: self.new_weights(base) gives the new weights of any of them.",
    (
        "self.new_weights(base).items()",
        "[pair for name in self.changes for pair in self.new_weights(base).items()][: len(self.changes)]",
    ),
)
merge.slip(
    "its own parameters lost",
    "You set A and B to 0, or you drop them. After unmerge they are needed again, so leave them as they are.",
    (
        "self.requires_grad_(False)",
        "self.requires_grad_(False)\n        for p in self.parameters():\n            p.zero_()",
    ),
)
merge.slip(
    "nothing written",
    "weight = value only gives the Python name a new meaning. The parameter of the model stays as it was. weight.copy_(value) writes into it.",
    ("weight.copy_(value)", "weight = value"),
)
merge.slip(
    "off the base altogether",
    "You call detach(), which takes the method off the base. A merged method stays on the base, so that unmerge() can undo it. Remove only "
    "the hooks, one handle after another.",
    (
        "for handle in self._handles:\n            handle.remove()\n        self._handles.clear()",
        "self.detach()",
    ),
)
merge.slip(
    "merged again",
    "A second merge adds the change a second time, and it keeps the merged weights as if they were the base's own. If self.merged is true, "
    "return.",
    ("if self.merged:", "if False:"),
)
merge.slip(
    "W twice",
    "You add the new weights to the old ones. new_weights gives W + (α/r) B A, so W is in it already. Use copy_.",
    ("weight.copy_(value)", "weight.add_(value)"),
)
merge.slip(
    "still trainable",
    "A and B still have requires_grad, although no forward pass uses them any more. Call self.requires_grad_(False).",
    ("self.requires_grad_(False)", "pass"),
)
merge.slip(
    "head frozen too",
    "You also freeze the head of the classifier. The head is not merged, and it must go on learning. self.requires_grad_(False) leaves it "
    "out.",
    (
        "self.requires_grad_(False)",
        "self.requires_grad_(False)\n        if self.head:\n            self.head.requires_grad_(False)",
    ),
)
merge.slip(
    "not refused",
    'When the method is on no base, your code fails with a message about NoneType. self._need_base("merge") gives the base, or refuses '
    "with a clear sentence.",
    ('base = self._need_base("merge")', "base = self.base"),
)
merge.slip(
    "nothing noted",
    "You write the new weights but keep no copy in self.own. Then the base's own weights are lost.",
    ("self.own[weight] = weight.detach().clone()", "pass"),
)

# ---------------------------------------------------------------- 12.6

unmerge = Exercise(
    id="12.6",
    target="minitransformer.tuning.merge:Mergeable.unmerge",
    title="And out again",
    minutes=10,
    difficulty=2,
    purpose="For another task the change must come out again, without a trace. Because of rounding, (W + Δ) − Δ is not W. So the copies "
    "that merge kept are put back.",
    hints=(
        "Undo everything that merge did: the weights, the hooks, and requires_grad. If nothing is merged, there is nothing to undo.",
        "self._put_back() copies self.own into the weights and empties it. self.install(base) hooks the method in and gives the handles. "
        "detach() needs them later, so keep them: self._handles = list(…).",
        '    base = self._need_base("unmerge")\n'
        "    if self.merged:\n"
        "        self._put_back()\n"
        "        self._handles = list(self.install(base))\n"
        "        self.requires_grad_(True)",
    ),
    given=(
        'self._need_base("unmerge"): the base that the method is on, or a refusal.',
        "self._put_back: a method that copies self.own into the weights, and empties self.own.",
        "self.install(base): hooks the method in, and gives the hooks' handles.",
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
    """Without a merge before: the scores, and the number of hooks."""
    base, method = on_a_gpt()
    method.unmerge()
    return {
        "scores": base(IDS),
        "number of hooks": sum(len(m._forward_hooks) for m in base.modules()),
    }


@unmerge.scene
def it_can_learn_again(Mergeable):
    """Which parameters have requires_grad after unmerging: A and B, and none of the base."""
    base, method = on_a_gpt()
    method.merge()
    method.unmerge()
    return {name: p.requires_grad for name, p in base.named_parameters()}


@unmerge.scene
def another_method_unmerged(Mergeable):
    """IA³, which inherits this: whether every weight is bit for bit what it was, and what can learn."""
    base, method = scaled_by_ia3()
    own = [p.detach().clone() for p in (base.blocks[0].mlp.down.weight, base.norm.weight)]
    method.merge()
    method.unmerge()
    after = base.blocks[0].mlp.down.weight, base.norm.weight
    return {
        "whether the weights are what they were": all(map(torch.equal, own, after)),
        "what asks for gradients": [n for n, p in base.named_parameters() if p.requires_grad],
    }


@unmerge.scene
def merged_once_more(Mergeable):
    """Merged, unmerged, trained on, and merged once more: the scores, hooked in and merged."""
    base, method = on_a_gpt()
    method.merge()
    method.unmerge()
    learned(method)
    hooked = base(IDS)
    method.merge()
    return {"scores, hooked in": hooked, "scores, merged": base(IDS)}


@unmerge.scene
def and_leave(Mergeable):
    """After detach(): the number of hooks that are left, and the scores."""
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
    """You subtract what was added. Because of rounding, (W + Δ) − Δ is not W, and in bf16 the error is large. Put back the copies in self.own."""
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
    """You copy the weights back but do not empty self.own. Then the method still counts as merged: it refuses other methods, and it cannot merge again. self._put_back() also empties self.own."""
    base = self._need_base("unmerge")
    if self.merged:
        for weight, value in self.own.items():
            weight.copy_(value)
        self._handles = list(self.install(base))
        self.requires_grad_(True)


unmerge.slip(
    "not hooked in again",
    "The weights are back, but the hooks are not, so the method does nothing. merge took the hooks out. Hook in again with "
    "self.install(base).",
    ("self._handles = list(self.install(base))\n", "pass\n"),
)
unmerge.slip(
    "handles lost",
    "You hook in but do not keep the handles. Then detach() cannot take the hooks out. Keep them in self._handles.",
    ("self._handles = list(self.install(base))", "list(self.install(base))"),
)
unmerge.slip(
    "hooked in twice",
    "You hook in even if nothing was merged. Then each hook is there twice, and the change counts twice. Do it only if self.merged is true.",
    ("if self.merged:", "if True:"),
)
unmerge.slip(
    "frozen for ever",
    "A and B stay frozen, so further training would change nothing. Call self.requires_grad_(True).",
    ("self.requires_grad_(True)", "pass"),
)
unmerge.slip(
    "LoRA's own parameters alone",
    "You let LoRA's A and B ask for gradients, by self.changes. IA³ inherits this method and has no changes: self.requires_grad_(True) reaches whatever a method has.",
    ("self.requires_grad_(True)", "[low.requires_grad_(True) for low in self.changes.values()]"),
)
unmerge.slip(
    "base thawed",
    "You set requires_grad for the base, so the base would be trained, too. Only A and B are trained: self.requires_grad_(True).",
    ("self.requires_grad_(True)", "base.requires_grad_(True)"),
)
unmerge.slip(
    "put back before asking",
    "You put the weights back before you check self.merged. This empties self.own, so self.merged is false, and the rest is skipped. Put the "
    "weights back after the check.",
    ("if self.merged:\n            self._put_back()", "self._put_back()\n        if self.merged:"),
)
unmerge.slip(
    "merged weights left",
    "You hook in, but the merged weights are still there, so the change counts twice. Call self._put_back() first.",
    ("            self._put_back()\n", "            self.own.clear()\n"),
)
unmerge.slip(
    "not refused",
    'When the method is on no base, your code silently does nothing. self._need_base("unmerge") refuses with a clear sentence.',
    ('base = self._need_base("unmerge")', "base = self.base"),
)
