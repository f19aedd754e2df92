"""Exercises of lesson 11: the bottleneck, where it stands, its hook, and how many numbers it costs."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.attention import Attention
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.layers import FeedForward
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import Adapter, FullFineTuning, PrefixTuning, attached
from minitransformer.tuning.adapter import Bottleneck
from minitransformer.tuning.bases import base_parameters
from minitransformer.tuning.method import Report
from torch import nn


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


# ---------------------------------------------------------------- 11.1

formula = Exercise(
    id="11.1",
    target="minitransformer.tuning.adapter:Bottleneck.forward",
    title="Down, and up again",
    minutes=5,
    difficulty=1,
    purpose="This is what an adapter adds, f(h) = W_up σ(W_down h): the token's d numbers are pressed into r, a ReLU makes the "
    "negative ones 0, and the r are spread over d again. Nothing else in the whole method is trained.",
    hints=(
        "Three steps, in the order in which the formula is read from the right: down, σ, up. The stream h is added "
        "elsewhere.",
        "self.down and self.up are nn.Linear: called, they multiply by the matrix and add the bias. σ is F.relu.",
        "    narrow = F.relu(self.down(x))  # r numbers for each token\n"
        "    # self.up brings it back to (B, T, C)",
    ),
    oracle=lambda self, x: (
        (torch.einsum("btc,rc->btr", x, self.down.weight) + self.down.bias).clamp(min=0)
        @ self.up.weight.T
        + self.up.bias
    ),
)


def random_bottleneck(d_model, width):
    """All its numbers random, the biases too."""
    bottleneck = Bottleneck(d_model, width, "xavier")
    for p in bottleneck.parameters():
        p.data = tidy(*p.shape)
    return bottleneck


@formula.case
def two_tokens():
    """Two tokens of four numbers, a bottleneck of three."""
    return random_bottleneck(4, 3), tidy(1, 2, 4)


@formula.case
def a_batch():
    """Two texts of three tokens."""
    return random_bottleneck(5, 2), tidy(2, 3, 5)


@formula.case
def wider_than_the_stream():
    """A bottleneck that is wider than what it reads."""
    return random_bottleneck(2, 4), tidy(2, 3, 2)


@formula.case
def as_wide_as_the_stream():
    """A bottleneck that is as wide as what it reads."""
    return random_bottleneck(3, 3), tidy(1, 2, 3)


@formula.case(gradients=True, oracle=None)
def it_learns():
    """The gradients of the input and of both matrices."""
    return random_bottleneck(4, 3), tidy(1, 3, 4)


@formula.mistake
def no_activation(self, x):
    """Nothing stands between your two matrices, so they are one matrix of rank r: that is LoRA's idea, not the adapter's. A ReLU belongs between down and up."""
    return self.up(self.down(x))


@formula.mistake
def activation_at_the_end(self, x):
    """Your ReLU stands behind W_up: the adapter could then only ever add, never take away. It belongs in the bottleneck, between the two matrices."""
    return F.relu(self.up(self.down(x)))


@formula.mistake
def activation_before_down(self, x):
    """Your ReLU cuts the input: the negative half of what the frozen layer says is lost before anything reads it. First down, then the ReLU."""
    return self.up(self.down(F.relu(x)))


@formula.mistake
def two_activations(self, x):
    """You apply σ twice, in the bottleneck and behind W_up. The second makes what is added never negative; the formula has one σ, between the matrices."""
    return F.relu(self.up(F.relu(self.down(x))))


@formula.mistake
def the_stream_added_here(self, x):
    """You add h here already. Where the adapter is hooked in, it is added once more: the frozen layer's answer would count twice. Here f(h) alone is wanted."""
    return x + self.up(F.relu(self.down(x)))


@formula.mistake("GELU in place of ReLU")
def gelu_in_place_of_relu(self, x):
    """You take a GELU, as the base's own feed-forward layers do. In the adapter σ is a ReLU: negative numbers become exactly 0."""
    return self.up(F.gelu(self.down(x)))


@formula.mistake
def sigmoid_in_place_of_relu(self, x):
    """You read σ as the sigmoid. In the adapter it stands for an activation, and that is a ReLU: negative numbers become exactly 0, the others stay."""
    return self.up(torch.sigmoid(self.down(x)))


@formula.mistake
def tanh_in_place_of_relu(self, x):
    """You take a tanh. In the adapter σ is a ReLU: negative numbers become exactly 0, the others stay."""
    return self.up(torch.tanh(self.down(x)))


@formula.mistake
def maps_exchanged(self, x):
    """You go up first and down then. The bottleneck is in the middle: self.down reads x, self.up what is left of it."""
    return self.down(F.relu(self.up(x)))


@formula.mistake
def never_up_again(self, x):
    """You stop in the bottleneck, with r numbers a token. self.up brings them back to C, the width of the stream."""
    return F.relu(self.down(x))


@formula.mistake
def the_stream_taken_away(self, x):
    """You subtract x. Nothing of the stream belongs here: f(h) alone."""
    return self.up(F.relu(self.down(x))) - x


@formula.mistake
def detached_bottleneck(self, x):
    """The gradient stops in your bottleneck (detach, .data): W_up would learn, and W_down stay as random as it began."""
    return self.up(self.down(x).detach().relu())


@formula.mistake
def without_biases(self, x):
    """You use the matrices without their biases. Houlsby et al. give both maps one; calling self.down and self.up adds it."""
    return F.relu(x @ self.down.weight.T) @ self.up.weight.T


@formula.mistake
def shapes_as_printed(self, x):
    """You multiply by the matrices as 001 §3.1.2 prints their shapes, (d, r) and (r, d). nn.Linear keeps the transposed ones, W_down (r, d) and W_up (d, r): self.down(x) does it right."""
    return F.relu(x @ self.down.weight + self.down.bias) @ self.up.weight + self.up.bias


# ---------------------------------------------------------------- 11.2

placed = Exercise(
    id="11.2",
    target="minitransformer.tuning.adapter:Adapter.build",
    title="A bottleneck for each sublayer",
    minutes=20,
    difficulty=2,
    purpose="Which layers get an adapter is the difference between Houlsby's, Pfeiffer's and the parallel ones, and half of what "
    "they cost. This method looks through the base and makes a bottleneck for each place.",
    hints=(
        "base.named_modules() gives every module with its name, at every depth. isinstance tells which kind it is; it takes "
        "a tuple of classes, too.",
        "self.bottlenecks is an nn.ModuleDict, whose keys may hold no dot: name.replace('.', '/'). A new Bottleneck for each, "
        "from base.config.d_model, self.width and self.init. self.factors is an nn.ParameterDict.",
        'in_layer is whether the name begins with "blocks.", "encoder." or "decoder.": name.startswith takes a tuple '
        "of them.\n"
        "    sublayers = FeedForward\n"
        '    if self.placement == "houlsby":\n'
        "        sublayers = (Attention, FeedForward)\n"
        "    for name, module in base.named_modules():\n"
        "        if isinstance(module, sublayers):\n"
        "            …  # a Bottleneck\n"
        "        if self.norms and in_layer and isinstance(module, nn.LayerNorm):\n"
        "            one = torch.ones(C)\n"
        "            nn.Parameter(torch.stack([one, 0 * one]))  # its factors",
    ),
    given=(
        "Bottleneck(C, width, init): a new bottleneck; C is base.config.d_model, width and init are self.width and self.init.",
        "self.placement, self.norms: which sublayers get one, and whether norms are trained, too.",
        "Attention, FeedForward: the classes of the sublayers.",
        "self.bottlenecks: an nn.ModuleDict, the sublayer's name with / for . → its bottleneck.",
        "self.factors: an nn.ParameterDict, the norm's name with / for . → its factors and shifts, (2, C).",
    ),
)


def what_was_built(method, base):
    """The bottlenecks and factors by name, and whether some share their numbers."""
    method.build(base)
    numbers = [p for bottleneck in method.bottlenecks.values() for p in bottleneck.parameters()]
    return {
        "shape (r, C) of W_down in each bottleneck": {
            name: tuple(bottleneck.down.weight.shape)
            for name, bottleneck in method.bottlenecks.items()
        },
        "how many parameters there are, a shared one counted once": len(
            {id(p) for p in (*numbers, *method.factors.values())}
        ),
        "factors": dict(method.factors),
    }


@placed.scene
def pfeiffer(Adapter):
    """Pfeiffer's placement on a GPT of two layers."""
    return what_was_built(Adapter(3, placement="pfeiffer"), small_gpt())


@placed.scene
def houlsby(Adapter):
    """Houlsby's placement on the same."""
    return what_was_built(Adapter(3), small_gpt())


@placed.scene
def parallel(Adapter):
    """The parallel placement."""
    return what_was_built(Adapter(2, placement="parallel"), small_gpt())


@placed.scene
def beginning(Adapter):
    """Whether W_up begins at 0, for each way to begin."""
    starts = {}
    for init in ("zero", "normal", "xavier"):
        method = Adapter(3, "pfeiffer", init)
        method.build(small_gpt())
        starts[init] = [
            bool((bottleneck.up.weight == 0).all()) for bottleneck in method.bottlenecks.values()
        ]
    return starts


@placed.scene
def an_encoder_and_a_decoder(Adapter):
    """Houlsby's placement on an encoder–decoder, whose decoder has a cross-attention too."""
    return what_was_built(Adapter(3), small_seq2seq())


@placed.scene
def which_norms(Adapter):
    """Which norms get factors."""
    method = Adapter(3, placement="pfeiffer", norms=True)
    method.build(small_gpt())
    return {"keys of the factors": sorted(method.factors)}


@placed.scene
def with_norms(Adapter):
    """With the norms of the layers; the base's own norms have learned something."""
    base = small_gpt()
    for module in base.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data, module.bias.data = tidy(6), tidy(6)
    return what_was_built(Adapter(3, placement="pfeiffer", norms=True), base)


@placed.scene
def norms_of_an_encoder_and_a_decoder(Adapter):
    """With the norms of an encoder–decoder's layers."""
    return what_was_built(Adapter(3, placement="parallel", norms=True), small_seq2seq())


@placed.mistake
def houlsby_without_attention(self, base):
    """You give only the feed-forward layers a bottleneck, whatever the placement. Houlsby's has two in a layer (001 §3.2.1): one after the attention, too."""
    for name, module in base.named_modules():
        key = name.replace(".", "/")
        if isinstance(module, FeedForward):
            self.bottlenecks[key] = Bottleneck(base.config.d_model, self.width, self.init)
        if (
            self.norms
            and name.startswith(("blocks.", "encoder.", "decoder."))
            and isinstance(module, nn.LayerNorm)
        ):
            one = torch.ones(base.config.d_model)
            self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))


@placed.mistake
def found_by_name(self, base):
    """You look for modules that are called "attention" or "mlp". A decoder's cross-attention has another name, and gets nothing; isinstance(module, Attention) finds every one."""
    for name, module in base.named_modules():
        key = name.replace(".", "/")
        if name.endswith(".mlp") or (self.placement == "houlsby" and name.endswith(".attention")):
            self.bottlenecks[key] = Bottleneck(base.config.d_model, self.width, self.init)
        if (
            self.norms
            and name.startswith(("blocks.", "encoder.", "decoder."))
            and isinstance(module, nn.LayerNorm)
        ):
            one = torch.ones(base.config.d_model)
            self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))


@placed.mistake
def one_for_all(self, base):
    """You make one bottleneck and put it everywhere: all layers then share its numbers. Each place gets a new one; the constructor's call belongs inside the loop."""
    sublayers = (Attention, FeedForward) if self.placement == "houlsby" else FeedForward
    bottleneck = Bottleneck(base.config.d_model, self.width, self.init)
    for name, module in base.named_modules():
        key = name.replace(".", "/")
        if isinstance(module, sublayers):
            self.bottlenecks[key] = bottleneck
        if (
            self.norms
            and name.startswith(("blocks.", "encoder.", "decoder."))
            and isinstance(module, nn.LayerNorm)
        ):
            one = torch.ones(base.config.d_model)
            self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))


CHOICE = 'sublayers = (Attention, FeedForward) if self.placement == "houlsby" else FeedForward'
placed.slip(
    "parallel like Houlsby's",
    "Your parallel placement adapts the attention as well. Both Pfeiffer's and the parallel one stand at the feed-forward layer alone; "
    "only Houlsby's has two a layer.",
    ('self.placement == "houlsby"', 'self.placement != "pfeiffer"'),
)
placed.slip(
    "every linear map",
    "You give every nn.Linear a bottleneck: W_Q, W_up and all. An adapter stands behind a whole sublayer, an Attention or a "
    "FeedForward; what goes beside single matrices is LoRA (lesson 12).",
    (CHOICE, "sublayers = nn.Linear"),
)
placed.slip(
    "dots in the key",
    "Your keys have dots. A ModuleDict makes an attribute of each key, and a dotted one would be a path; write / for each dot.",
    ('name.replace(".", "/")', "name"),
)
placed.slip(
    "always from zero",
    "Your bottlenecks begin at W_up = 0 whatever was asked for. The user's choice is self.init; hand it on.",
    ("self.width, self.init)", 'self.width, "zero")'),
)
placed.slip(
    "width not handed on",
    "Your bottlenecks are all as wide as the stream, which is no bottleneck: r is self.width, far below C.",
    (
        "Bottleneck(base.config.d_model, self.width,",
        "Bottleneck(base.config.d_model, base.config.d_model,",
    ),
)
placed.slip(
    "width and C exchanged",
    "You exchange the first two arguments: yours reads `width` numbers and widens them to C. It reads C numbers and has `width` inside: Bottleneck(C, width, init).",
    ("Bottleneck(base.config.d_model, self.width,", "Bottleneck(self.width, base.config.d_model,"),
)
placed.slip(
    "the last norm too",
    "You also train the norm behind all layers. Houlsby et al. train those inside the layers; the last one stands in none, its name "
    "begins with no blocks., encoder. or decoder.",
    ("self.norms and in_layer and", "self.norms and"),
)
placed.slip(
    "norms in any case",
    "You make factors whether they were asked for or not. They are part of the method only with self.norms.",
    ("self.norms and in_layer and", "in_layer and"),
)
placed.slip(
    "norms never",
    "You make no factors. With self.norms, each LayerNorm in a layer gets a factor and a shift of its own.",
    ("self.norms and in_layer and", "False and"),
)
placed.slip(
    "norms of a single stack",
    "You look for norms in `blocks` alone. An encoder–decoder has its layers in `encoder` and `decoder`.",
    ('("blocks.", "encoder.", "decoder.")', '"blocks."'),
)
FACTORS = "torch.stack([one, 0 * one])"
placed.slip(
    "one factor for all",
    "All norms share one factor and one shift: they are made once, and each key names the same parameter. Each norm has its own.",
    (
        "self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))",
        "shared = next(iter(self.factors.values()), nn.Parameter(torch.stack([one, 0 * one])))\n                self.factors[key] = shared",
    ),
)
placed.slip(
    "factor and shift exchanged",
    "Your first row is 0 and your second 1. The first is the factor, and at first it has to be 1; the second is the shift, 0.",
    (FACTORS, "torch.stack([0 * one, one])"),
)
placed.slip(
    "a shift of one",
    "Your shifts begin at 1 and are added to everything that the norms give: the base is another before it has learned anything. Factors begin at 1, "
    "shifts at 0.",
    (FACTORS, "torch.stack([one, one])"),
)
placed.slip(
    "the last norm too, and a shift of one",
    "There are two mistakes. You also train the norm behind all layers, which stands in no layer: its name begins with no blocks., encoder. or decoder. "
    "And your shifts begin at 1; factors begin at 1, shifts at 0.",
    ("self.norms and in_layer and", "self.norms and"),
    (FACTORS, "torch.stack([one, one])"),
)
placed.slip(
    "the last norm too, and a factor of zero",
    "There are two mistakes. You also train the norm behind all layers, which stands in no layer: its name begins with no blocks., encoder. or decoder. "
    "And your factors begin at 0; factors begin at 1, shifts at 0.",
    ("self.norms and in_layer and", "self.norms and"),
    (FACTORS, "torch.stack([0 * one, 0 * one])"),
)
placed.slip(
    "the norm's own numbers",
    "You begin with the norm's weight and bias. What it gives has been multiplied by these already; your factor comes on top: 1 and 0 change "
    "nothing.",
    (FACTORS, "torch.stack([module.weight, module.bias])"),
)
placed.slip(
    "factors as columns",
    "Your factors are (C, 2). A row of factors and a row of shifts, (2, C): stack along the first axis.",
    (FACTORS, "torch.stack([one, 0 * one], dim=1)"),
)
placed.slip(
    "attention alone",
    "You give the attention an adapter and leave out the feed-forward layer. Houlsby's placement has both in each layer.",
    (CHOICE, 'sublayers = Attention if self.placement == "houlsby" else FeedForward'),
)
placed.slip(
    "Houlsby's in any case",
    "You adapt attention and feed-forward layers whatever the placement. Pfeiffer's and the parallel one stand at the feed-forward layer alone.",
    (CHOICE, "sublayers = (Attention, FeedForward)"),
)
placed.slip(
    "the last part of the name",
    "Your key is the last part of the module's name, so that each layer's bottleneck takes the place of the one before. The whole name tells them "
    "apart.",
    ('name.replace(".", "/")', 'name.split(".")[-1]'),
)
placed.slip(
    "only what is on top",
    "named_children gives what hangs directly on the base: stacks, no sublayers. named_modules goes down to every depth.",
    ("base.named_modules()", "base.named_children()"),
)
placed.slip(
    "a factor of zero",
    "Your factors begin at 0: every norm then gives nothing but the shift, and the base is silenced before it has learned "
    "anything. Factors begin at 1, shifts at 0.",
    ("torch.stack([one, 0 * one])", "torch.stack([0 * one, 0 * one])"),
)

# ---------------------------------------------------------------- 11.3

adapted = Exercise(
    id="11.3",
    target="minitransformer.tuning.adapter:Adapter.adapted",
    title="Into the frozen layer",
    minutes=10,
    difficulty=1,
    purpose="A frozen base knows nothing of adapters. A hook on each sublayer, called with what the sublayer has read (x) and what it gives (output), lets its "
    "bottleneck f add to the answer: A(h) = h + s · f(h) after a sublayer, and, beside it, h + s · f(x) with what the sublayer reads.",
    hints=(
        "h is the output. What is added is f of something, times a scale.",
        'self.placement says which of the two the bottleneck reads: x if it is "parallel", and the output otherwise. The scale is self.scale.',
        '    read = x if self.placement == "parallel" else output\n'
        "    return output + self.scale * bottleneck(read)",
    ),
    given=(
        "bottleneck(read): f, (B, T, C) → (B, T, C).",
        'self.placement: "houlsby", "pfeiffer" or "parallel".',
        "self.scale: s, which may be changed later.",
    ),
)


def around_the_feed_forward_layer(method, base):
    """The first layer's FeedForward, alone and with the adapter."""
    layer, x = base.blocks[0].mlp, tidy(1, 2, 6)
    h = layer(x)
    with attached(base, method):
        f = method.bottlenecks["blocks/0/mlp"]
        f.down.bias.data, f.up.bias.data = tidy(3), tidy(6)
        return {
            "h, what the layer gives alone": h,
            "f(h)": f(h),
            "f(x), of what the layer reads": f(x),
            "the layer with the adapter": layer(x),
        }


@adapted.scene
def behind(Adapter):
    """Behind a feed-forward layer."""
    return around_the_feed_forward_layer(Adapter(3, "pfeiffer", "xavier"), small_gpt())


@adapted.scene
def with_a_scale(Adapter):
    """The same with a scale of 4."""
    return around_the_feed_forward_layer(Adapter(3, "houlsby", "xavier", scale=4.0), small_gpt())


@adapted.scene
def beside(Adapter):
    """Beside a feed-forward layer: the parallel placement."""
    return around_the_feed_forward_layer(Adapter(3, "parallel", "xavier", scale=2.0), small_gpt())


@adapted.scene
def another_scale(Adapter):
    """The scale is changed while the adapters are on."""
    base, ids, logits = small_gpt(), torch.tensor([[1, 4, 2]]), {}
    method = Adapter(3, "houlsby", "xavier")
    with attached(base, method):
        for scale in (1.0, 0.5, 2.0):
            method.scale = scale
            logits[scale] = base(ids)
    return logits


@adapted.scene
def nothing_at_first(Adapter):
    """With W_up = 0 the base is at first what it was: by how much its scores change."""
    base, ids = small_gpt(), torch.tensor([[1, 4, 2], [3, 3, 0]])
    plain = base(ids)
    with attached(base, Adapter(3)):
        return base(ids) - plain


@adapted.scene(tolerance=1e-4)
def it_learns_behind_frozen_layers(Adapter):
    """The gradients of every bottleneck's W_up."""
    base, method = small_gpt(), Adapter(3, "houlsby", "xavier")
    with attached(base, method):
        base(torch.tensor([[1, 4, 2]])).square().sum().backward()
        return {name: bottleneck.up.weight.grad for name, bottleneck in method.bottlenecks.items()}


READ = 'x if self.placement == "parallel" else output'
ADDED = "return output + self.scale * bottleneck(read)"
adapted.slip(
    "without h",
    "You return f(·) alone, and what you return takes the sublayer's place: the frozen layer's own answer is lost, and with W_up = 0 "
    "it says nothing at all. o = W_up z + h: output is added.",
    (ADDED, "return self.scale * bottleneck(read)"),
)
adapted.slip(
    "no scale",
    "You add f(·) without the scale. He et al. take 4 for parallel adapters: self.scale * bottleneck(read).",
    (ADDED, "return output + bottleneck(read)"),
)
adapted.slip(
    "scale on h too",
    "Your scale multiplies the frozen layer's answer as well, so that a scale of 4 breaks the base before anything is learned. Only "
    "what is added is scaled: h + s · f(·).",
    (ADDED, "return self.scale * (output + bottleneck(read))"),
)
adapted.slip(
    "parallel reads the output",
    "Your bottleneck reads h in every placement. The parallel one stands beside the sublayer and reads what it reads, x.",
    (READ, "output"),
)
adapted.slip(
    "always reads the input",
    "Your bottleneck reads the sublayer's input in every placement. Behind a sublayer it reads what that gives, the output; only "
    "the parallel one reads x.",
    (READ, "x"),
)
adapted.slip(
    "all but Pfeiffer's read the input",
    "Your bottleneck reads the sublayer's input in Houlsby's placement, too. Behind a sublayer it reads the output; only the parallel one reads x.",
    (READ, 'x if self.placement != "pfeiffer" else output'),
)
adapted.slip(
    "the placements exchanged",
    "Your bottleneck reads the input where it stands behind the sublayer, and the output where it stands beside it. It is the other way round.",
    (READ, 'output if self.placement == "parallel" else x'),
)
adapted.slip(
    "scale inside",
    "Your scale multiplies what the bottleneck reads, and so passes through biases and ReLU. It multiplies what f gives: s · f(·).",
    (ADDED, "return output + bottleneck(self.scale * read)"),
)
adapted.slip(
    "scale on h alone",
    "Your scale multiplies the frozen layer's answer, and what is added goes without. It is the other way round: h + s · f(·).",
    (ADDED, "return self.scale * output + bottleneck(read)"),
)
adapted.slip(
    "what it read added too",
    "You add what the bottleneck read on top of what it gives. Only f(·) is added to the output, scaled.",
    (ADDED, "return output + self.scale * (read + bottleneck(read))"),
)
adapted.slip(
    "bottleneck of the sum",
    "You send the sum through the bottleneck. The bottleneck's answer is added to the frozen layer's, which goes on unchanged beside it.",
    (ADDED, "return bottleneck(output + self.scale * read)"),
)
adapted.slip(
    "scale taken once",
    "You keep the scale from the first call. Whoever sets it later would change nothing: read self.scale at every call.",
    (
        ADDED,
        "self._scale = getattr(self, '_scale', self.scale)\n        return output + self._scale * bottleneck(read)",
    ),
)
adapted.slip(
    "written into the output",
    "output += … writes into the tensor that the bottleneck has just read, and its gradient needs that as it was: training stops with PyTorch's message "
    "about an in-place operation. output + … makes a new one.",
    (ADDED, "output += self.scale * bottleneck(read)\n        return output"),
)
adapted.slip(
    "without gradient",
    "The bottleneck runs under no_grad, or what it gives is detached: it would never learn.",
    (ADDED, "return output + self.scale * bottleneck(read).detach()"),
)
adapted.slip(
    "the input added",
    "You add f(·) to what it read. That is the same behind a sublayer, where it reads the output; beside it, the sublayer's answer is lost. "
    "It is the output that goes on.",
    (ADDED, "return read + self.scale * bottleneck(read)"),
)
adapted.slip(
    "nothing returned",
    "You compute the sum and do not return it: return output + ….",
    (ADDED, "output + self.scale * bottleneck(read)"),
)
adapted.slip(
    "detached",
    "Your bottleneck reads a detached tensor (detach, .data, no_grad). Its own gradients survive, but those of the adapters below it lose "
    "the way through it.",
    (READ, '(x if self.placement == "parallel" else output).detach()'),
)

# ---------------------------------------------------------------- 11.4

count = Exercise(
    id="11.4",
    target="minitransformer.tuning.method:Method.report",
    title="How many parameters?",
    minutes=15,
    difficulty=2,
    purpose="2L(2dr + r + d) for Houlsby's adapters, 2LPd for a prefix: formulas count one method each. This counts any: what is "
    "trained, what has to be kept for a task, and beside it the base.",
    hints=(
        "Four sums of numel(), each over other tensors: of self.trainable(), of what self.stored() gives, of the head, of the base. What "
        "is kept need not be what is trained: a prefix's MLP is dropped.",
        "What self.stored() gives is a pair, settings and tensors by name. base.parameters() would also give what methods brought; "
        "base_parameters(base) does not.",
        "    Report(\n"
        "        type(self).__name__,\n"
        "        trained=sum(p.numel() for p in self.trainable()),\n"
        "        stored=sum(t.numel() for t in self.stored()[1].values()),\n"
        "        head=…,  # of self.head.parameters() if self.head, or else 0\n"
        "        base=…,  # of base_parameters(base).values()\n"
        "    )",
    ),
    given=(
        "Report(method, trained, stored, head, base): what is returned; the first is the name of the method's class.",
        'self._need_base("report"): the base that the method is on, or a refusal.',
        "self.trainable(): a list of the parameters that training changes.",
        "self.stored(): a pair, settings and the tensors by name that a file would hold.",
        "self.head: the classifier's head, or None.",
        "base_parameters(base): the base's own parameters by name, without what methods brought.",
    ),
)


@count.scene
def pfeiffer_adapters(Method):
    """Two adapters of width 3: 2 · (2 · 6 · 3 + 3 + 6) numbers."""
    base = small_gpt()
    with attached(base, method := Adapter(3, placement="pfeiffer")):
        return method.report()


@count.scene
def a_prefix_with_its_mlp(Method):
    """A prefix of three virtual tokens, made by an MLP that is dropped afterwards."""
    base = small_gpt()
    with attached(base, method := PrefixTuning(3, reparametrise=4)):
        return method.report()


@count.scene
def with_a_classifier(Method):
    """Adapters below a classifier of three classes."""
    model = Classifier(small_gpt(), 3)
    with attached(model, method := Adapter(2)):
        return method.report()


@count.scene
def everything(Method):
    """Full fine-tuning, which brings nothing and trains the base."""
    base = small_gpt()
    with attached(base, method := FullFineTuning()):
        return method.report()


@count.scene
def beside_another(Method):
    """Adapters beside a prefix on the same base."""
    base = small_gpt()
    with attached(base, PrefixTuning(2), method := Adapter(2)):
        return method.report()


@count.case
def on_no_base():
    """Adapters that are on no base are refused."""
    return (Adapter(2),)


def wrong_report(**other):
    """The method as a learner would write it, with one count in it replaced."""

    def report(self):
        base = self._need_base("report")
        counts = {
            "trained": lambda self, base: sum(p.numel() for p in self.trainable()),
            "stored": lambda self, base: sum(t.numel() for t in self.stored()[1].values()),
            "head": lambda self, base: (
                sum(p.numel() for p in self.head.parameters()) if self.head else 0
            ),
            "base": lambda self, base: sum(p.numel() for p in base_parameters(base).values()),
        } | other
        return Report(
            type(self).__name__, **{name: counted(self, base) for name, counted in counts.items()}
        )

    return report


@count.mistake
def tensors_in_place_of_numbers(self):
    """You count tensors. A matrix of 6 × 3 is one tensor and 18 numbers: p.numel()."""
    return wrong_report(
        trained=lambda self, base: len(self.trainable()),
        stored=lambda self, base: len(self.stored()[1]),
    )(self)


@count.mistake
def methods_counted_as_base(self):
    """Your base is base.parameters(), in which the methods that are on it stand too (as base.tuning). The shares would shrink with what is trained; base_parameters(base) gives the base's own."""
    return wrong_report(base=lambda self, base: sum(p.numel() for p in base.parameters()))(self)


@count.mistake
def stored_is_trained(self):
    """You take what is trained for what is kept. A prefix's MLP is trained and then dropped: what is saved is P_θ alone, as self.stored() gives it."""
    return wrong_report(stored=lambda self, base: sum(p.numel() for p in self.trainable()))(self)


@count.mistake
def trained_is_stored(self):
    """You take what is kept for what is trained. While it learns, a prefix has an MLP too, often more numbers than the prefix itself: self.trainable()."""
    return wrong_report(
        trained=lambda self, base: sum(t.numel() for t in self.stored()[1].values())
    )(self)


@count.mistake
def head_among_the_trained(self):
    """You count self.parameters(), where a classifier's head stands too. Every method trains the same head, so it is counted apart; self.trainable() leaves it out (and knows that full fine-tuning trains the base)."""
    return wrong_report(trained=lambda self, base: sum(p.numel() for p in self.parameters()))(self)


@count.mistake
def no_head(self):
    """You leave the head at 0. Where the method is below a classifier, self.head is that classifier's linear layer, with weight and bias."""
    return wrong_report(head=lambda self, base: 0)(self)


@count.mistake
def head_without_its_bias(self):
    """You count the head's weight alone; its bias, a number for each class, is trained and saved as well."""
    return wrong_report(head=lambda self, base: self.head.weight.numel() if self.head else 0)(self)


@count.mistake
def everything_in_its_state(self):
    """You count the method's whole state_dict as kept. A prefix's MLP stands there and is dropped, and so does the head, which is counted apart: self.stored()[1]."""
    return wrong_report(
        stored=lambda self, base: sum(t.numel() for t in self.state_dict().values())
    )(self)


@count.mistake
def frozen_is_the_base(self):
    """You count what asks for no gradients as the base. Full fine-tuning lets all of it ask, and it is the same base: base_parameters(base)."""
    return wrong_report(
        base=lambda self, base: sum(p.numel() for p in base.parameters() if not p.requires_grad)
    )(self)


@count.mistake
def a_pair_taken_for_tensors(self):
    """self.stored() is a pair: settings for the constructor, and the tensors by name. The second of the two is counted: self.stored()[1].values()."""
    return wrong_report(stored=lambda self, base: sum(t.numel() for t in self.stored().values()))(
        self
    )


@count.mistake
def names_counted(self):
    """You go through a dictionary, and that gives its keys, which are names. What is counted are its .values(), of self.stored()[1] and of base_parameters(base)."""
    return wrong_report(stored=lambda self, base: sum(t.numel() for t in self.stored()[1]))(self)


@count.mistake
def head_of_nothing(self):
    """Without a classifier self.head is None, and None has no parameters: count 0 then."""
    return wrong_report(head=lambda self, base: sum(p.numel() for p in self.head.parameters()))(
        self
    )


@count.mistake
def no_refusal(self):
    """On no base you report zeros. There is nothing to count beside: self._need_base("report") says so in a sentence."""
    return report_without_base(self) if self.base is None else wrong_report()(self)


def report_without_base(self):
    """Zeros."""
    return Report(type(self).__name__, 0, 0, 0, 1)
