"""Exercises of lesson 11: the bottleneck, where it stands, its hook, and how many parameters it has."""

import torch
import torch.nn.functional as F
from minitransformer.course.workbook import Exercise, tidy
from minitransformer.models.attention import Attention
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPT, GPTConfig
from minitransformer.models.layers import FeedForward
from minitransformer.models.seq2seq import Seq2Seq, Seq2SeqConfig
from minitransformer.tuning import Adapter, FullFineTuning, PrefixTuning, TopLayers, attached
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
    purpose="An adapter adds f(h) = W_up σ(W_down h). W_down makes r numbers from the d numbers of a token. The activation σ is a "
    "ReLU, which replaces negative numbers by 0. W_up makes d numbers again. Nothing else in this method is trained.",
    hints=(
        "There are three steps: down, σ, up. The formula is read from the right. h itself is added elsewhere.",
        "self.down and self.up are nn.Linear. When you call them, they multiply by the matrix and add the bias. σ is F.relu.",
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
    """A bottleneck in which all numbers are random, also the biases."""
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
    """Nothing stands between your two matrices, so together they are one matrix of rank r. That is LoRA (lesson 12), not an adapter. Put a ReLU between down and up."""
    return self.up(self.down(x))


@formula.mistake
def activation_at_the_end(self, x):
    """Your ReLU stands after W_up. Then the adapter can only add positive numbers and never subtract. The ReLU belongs between the two matrices."""
    return F.relu(self.up(self.down(x)))


@formula.mistake
def activation_before_down(self, x):
    """You apply the ReLU to the input. Then its negative numbers are lost before W_down reads them. Apply self.down first, then the ReLU."""
    return self.up(self.down(F.relu(x)))


@formula.mistake
def two_activations(self, x):
    """You apply σ twice: in the bottleneck, and after W_up. Because of the second one, the adapter can never subtract. The formula has one σ, between the matrices."""
    return F.relu(self.up(F.relu(self.down(x))))


@formula.mistake
def the_stream_added_here(self, x):
    """You add x here. The adapter's hook adds it too, so the frozen layer's answer would count twice. Return f(x) alone."""
    return x + self.up(F.relu(self.down(x)))


@formula.mistake("GELU in place of ReLU")
def gelu_in_place_of_relu(self, x):
    """You use a GELU, like the feed-forward layers of the base. In the adapter σ is a ReLU: negative numbers become exactly 0."""
    return self.up(F.gelu(self.down(x)))


@formula.mistake
def sigmoid_in_place_of_relu(self, x):
    """You use the sigmoid for σ. Here σ stands for the activation, and this is a ReLU: negative numbers become exactly 0, and the others stay."""
    return self.up(torch.sigmoid(self.down(x)))


@formula.mistake
def tanh_in_place_of_relu(self, x):
    """You use tanh. In the adapter σ is a ReLU: negative numbers become exactly 0, and the others stay."""
    return self.up(torch.tanh(self.down(x)))


@formula.mistake
def maps_exchanged(self, x):
    """You call self.up first and self.down second. The bottleneck is in the middle: self.down reads x, and self.up reads the r numbers that come out."""
    return self.down(F.relu(self.up(x)))


@formula.mistake
def never_up_again(self, x):
    """You stop in the bottleneck, with r numbers per token. self.up makes C numbers again, the width of the stream."""
    return F.relu(self.down(x))


@formula.mistake
def the_stream_taken_away(self, x):
    """You subtract x. Return f(x) alone; x is added elsewhere."""
    return self.up(F.relu(self.down(x))) - x


@formula.mistake
def detached_bottleneck(self, x):
    """The gradient stops in your bottleneck (because of detach or .data). W_up would learn, but W_down would stay as random as it began."""
    return self.up(self.down(x).detach().relu())


@formula.mistake
def without_biases(self, x):
    """You use the matrices without their biases. Houlsby et al. have a bias in both maps. Call self.down and self.up: they add it."""
    return F.relu(x @ self.down.weight.T) @ self.up.weight.T


@formula.mistake
def shapes_as_printed(self, x):
    """You multiply by the matrices in the shapes of 001 §3.1.2, (d, r) and (r, d). nn.Linear keeps the transposed ones: W_down is (r, d), and W_up is (d, r). Call self.down(x): it multiplies in the right way."""
    return F.relu(x @ self.down.weight + self.down.bias) @ self.up.weight + self.up.bias


# ---------------------------------------------------------------- 11.2

placed = Exercise(
    id="11.2",
    target="minitransformer.tuning.adapter:Adapter.build",
    title="A bottleneck for each sublayer",
    minutes=20,
    difficulty=2,
    purpose="Houlsby's, Pfeiffer's and the parallel adapters differ in the layers that get a bottleneck. This method looks through the "
    "base and makes a bottleneck for each of these places.",
    hints=(
        "base.named_modules() gives every module with its name, at every depth. isinstance checks the class of a module; it "
        "also accepts a tuple of classes.",
        "self.bottlenecks is an nn.ModuleDict. Its keys cannot contain a dot, so write name.replace('.', '/'). Make a new Bottleneck "
        "for each, from base.config.d_model, self.width and self.init. self.factors is an nn.ParameterDict.",
        'in_layer says whether the name begins with "blocks.", "encoder." or "decoder."; name.startswith accepts a tuple.\n'
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
        "self.placement, self.norms: which sublayers get a bottleneck, and whether norms are trained, too.",
        "Attention, FeedForward: the classes of the sublayers.",
        "self.bottlenecks: an nn.ModuleDict, the sublayer's name with / for . → its bottleneck.",
        "self.factors: an nn.ParameterDict, the norm's name with / for . → its factors and shifts, (2, C).",
    ),
)


def what_was_built(method, base):
    """The bottlenecks and factors by name, and whether some share their parameters."""
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
    """Houlsby's placement on the same GPT."""
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
    """Houlsby's placement on an encoder–decoder. Its decoder also has a cross-attention."""
    return what_was_built(Adapter(3), small_seq2seq())


@placed.scene
def which_norms(Adapter):
    """Which norms get factors."""
    method = Adapter(3, placement="pfeiffer", norms=True)
    method.build(small_gpt())
    return {"keys of the factors": sorted(method.factors)}


@placed.scene
def with_norms(Adapter):
    """With the norms of the layers. The base's own norms are trained."""
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
    """Only the feed-forward layers get a bottleneck, whatever the placement. Houlsby's placement has two in each layer (001 §3.2.1): one after the attention, and one after the feed-forward layer."""
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
    """You look for modules with the names "attention" and "mlp". The cross-attention of a decoder has another name, so it gets nothing. isinstance(module, Attention) finds all of them."""
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
    """You make one bottleneck and put it everywhere, so all layers share its parameters. Each place needs a new one. Call the constructor inside the loop."""
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
    "Your parallel placement also gives the attention a bottleneck. Pfeiffer's and the parallel placement have one bottleneck in each "
    "layer, at the feed-forward layer. Only Houlsby's has two.",
    ('self.placement == "houlsby"', 'self.placement != "pfeiffer"'),
)
placed.slip(
    "every linear map",
    "You give every nn.Linear a bottleneck. An adapter stands after a whole sublayer, an Attention or a FeedForward. LoRA "
    "(lesson 12) is the method for single matrices.",
    (CHOICE, "sublayers = nn.Linear"),
)
placed.slip(
    "dots in the key",
    "Your keys have dots. A ModuleDict makes an attribute from each key, so a key cannot have a dot. Write / for each dot.",
    ('name.replace(".", "/")', "name"),
)
placed.slip(
    "always from zero",
    "Your bottlenecks always start with W_up = 0. The user's choice is self.init; pass it to Bottleneck.",
    ("self.width, self.init)", 'self.width, "zero")'),
)
placed.slip(
    "width not handed on",
    "Your bottlenecks are as wide as the stream, so they are no bottlenecks. Their width r is self.width.",
    (
        "Bottleneck(base.config.d_model, self.width,",
        "Bottleneck(base.config.d_model, base.config.d_model,",
    ),
)
placed.slip(
    "width and C exchanged",
    "You exchanged the first two arguments. A bottleneck reads C numbers and has `width` numbers inside: Bottleneck(C, width, init).",
    ("Bottleneck(base.config.d_model, self.width,", "Bottleneck(self.width, base.config.d_model,"),
)
placed.slip(
    "the last norm too",
    "You also train the norm after the last layer. Houlsby et al. train only the norms inside the layers. The name of the last norm does "
    "not begin with blocks., encoder. or decoder.",
    ("self.norms and in_layer and", "self.norms and"),
)
placed.slip(
    "norms in any case",
    "You always make factors. Make them only if self.norms is true.",
    ("self.norms and in_layer and", "in_layer and"),
)
placed.slip(
    "norms never",
    "You make no factors. If self.norms is true, each LayerNorm in a layer gets its own factors and shifts.",
    ("self.norms and in_layer and", "False and"),
)
placed.slip(
    "norms of a single stack",
    "You look for norms in `blocks` only. The layers of an encoder–decoder are in `encoder` and `decoder`.",
    ('("blocks.", "encoder.", "decoder.")', '"blocks."'),
)
FACTORS = "torch.stack([one, 0 * one])"
placed.slip(
    "one factor for all",
    "All norms share the same factors and shifts, because they are made only once. Each norm needs its own.",
    (
        "self.factors[key] = nn.Parameter(torch.stack([one, 0 * one]))",
        "shared = next(iter(self.factors.values()), nn.Parameter(torch.stack([one, 0 * one])))\n                self.factors[key] = shared",
    ),
)
placed.slip(
    "factor and shift exchanged",
    "Your first row is 0 and your second row is 1. The first row holds the factors, which start at 1. The second holds the shifts, which "
    "start at 0.",
    (FACTORS, "torch.stack([0 * one, one])"),
)
placed.slip(
    "a shift of one",
    "Your shifts start at 1. They are added to what the norms give, so the base is changed before anything is learned. Factors start at "
    "1, and shifts start at 0.",
    (FACTORS, "torch.stack([one, one])"),
)
placed.slip(
    "the last norm too, and a shift of one",
    "There are two mistakes. First, you also train the norm after the last layer; its name does not begin with blocks., encoder. or "
    "decoder. Second, your shifts start at 1. Factors start at 1, and shifts start at 0.",
    ("self.norms and in_layer and", "self.norms and"),
    (FACTORS, "torch.stack([one, one])"),
)
placed.slip(
    "the last norm too, and a factor of zero",
    "There are two mistakes. First, you also train the norm after the last layer; its name does not begin with blocks., encoder. or "
    "decoder. Second, your factors start at 0. Factors start at 1, and shifts start at 0.",
    ("self.norms and in_layer and", "self.norms and"),
    (FACTORS, "torch.stack([0 * one, 0 * one])"),
)
placed.slip(
    "the norm's own numbers",
    "You start with the norm's own weight and bias. The norm has applied these already, and your factors come after it. Start with "
    "factors of 1 and shifts of 0, which change nothing.",
    (FACTORS, "torch.stack([module.weight, module.bias])"),
)
placed.slip(
    "factors as columns",
    "Your tensor is (C, 2). It should be (2, C): a row of factors and a row of shifts. Stack along the first axis.",
    (FACTORS, "torch.stack([one, 0 * one], dim=1)"),
)
placed.slip(
    "attention alone",
    "Only the attention gets a bottleneck. Houlsby's placement has two in each layer: one after the attention, and one after the "
    "feed-forward layer.",
    (CHOICE, 'sublayers = Attention if self.placement == "houlsby" else FeedForward'),
)
placed.slip(
    "Houlsby's in any case",
    "Attention and feed-forward layers always get a bottleneck. In Pfeiffer's and the parallel placement only the feed-forward layers get "
    "one.",
    (CHOICE, "sublayers = (Attention, FeedForward)"),
)
placed.slip(
    "the last part of the name",
    "Your key is the last part of the module's name. This part is the same in every layer, so each bottleneck replaces the one before. Use "
    "the whole name.",
    ('name.replace(".", "/")', 'name.split(".")[-1]'),
)
placed.slip(
    "only what is on top",
    "named_children gives only the modules directly below the base, and the sublayers are deeper. named_modules goes down to every depth.",
    ("base.named_modules()", "base.named_children()"),
)
placed.slip(
    "a factor of zero",
    "Your factors start at 0. Then every norm gives the shift only, and the base is destroyed before anything is learned. Factors start "
    "at 1, and shifts start at 0.",
    ("torch.stack([one, 0 * one])", "torch.stack([0 * one, 0 * one])"),
)

# ---------------------------------------------------------------- 11.3

adapted = Exercise(
    id="11.3",
    target="minitransformer.tuning.adapter:Adapter.adapted",
    title="Into the frozen layer",
    minutes=10,
    difficulty=1,
    purpose="A frozen base knows nothing of adapters. So a hook on each sublayer is called with x, which the sublayer read, and with its "
    "output h. It returns a new output. An adapter after a sublayer gives h + s · f(h). A parallel one stands beside the sublayer and gives "
    "h + s · f(x).",
    hints=(
        "h is the output. Add f of something to it, times a scale.",
        'self.placement says what the bottleneck reads: x if it is "parallel", and the output otherwise. The scale is self.scale.',
        '    read = x if self.placement == "parallel" else output\n'
        "    return output + self.scale * bottleneck(read)",
    ),
    given=(
        "bottleneck(read): f, (B, T, C) → (B, T, C).",
        'self.placement: "houlsby", "pfeiffer" or "parallel".',
        "self.scale: s, which can be changed later.",
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
    """After a feed-forward layer."""
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
    """The scores while the adapters are on and their scale is changed."""
    base, ids, logits = small_gpt(), torch.tensor([[1, 4, 2]]), {}
    method = Adapter(3, "houlsby", "xavier")
    with attached(base, method):
        for scale in (1.0, 0.5, 2.0):
            method.scale = scale
            logits[scale] = base(ids)
    return logits


@adapted.scene
def nothing_at_first(Adapter):
    """How much the scores change when W_up = 0. They should not change."""
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
    "You return f(·) alone. What you return replaces the output of the frozen layer, so that output is lost. Add it: the formula is "
    "o = W_up z + h.",
    (ADDED, "return self.scale * bottleneck(read)"),
)
adapted.slip(
    "no scale",
    "You add f(·) without the scale. Multiply it: self.scale * bottleneck(read). (He et al. take 4 for parallel adapters.)",
    (ADDED, "return output + bottleneck(read)"),
)
adapted.slip(
    "scale on h too",
    "Your scale also multiplies the output of the frozen layer. A scale of 4 would destroy the base before anything is learned. Scale "
    "only what is added: h + s · f(·).",
    (ADDED, "return self.scale * (output + bottleneck(read))"),
)
adapted.slip(
    "parallel reads the output",
    "Your bottleneck reads h in every placement. A parallel one stands beside the sublayer, so it reads x.",
    (READ, "output"),
)
adapted.slip(
    "always reads the input",
    "Your bottleneck reads x in every placement. Only a parallel one reads x. The others stand after the sublayer and read its output.",
    (READ, "x"),
)
adapted.slip(
    "all but Pfeiffer's read the input",
    "In Houlsby's placement your bottleneck reads x. It stands after the sublayer, so it reads the output. Only a parallel one reads x.",
    (READ, 'x if self.placement != "pfeiffer" else output'),
)
adapted.slip(
    "the placements exchanged",
    "Your parallel bottleneck reads the output, and the others read x. It is the other way round.",
    (READ, 'output if self.placement == "parallel" else x'),
)
adapted.slip(
    "scale inside",
    "You scale what the bottleneck reads. Because of its biases that is something else. Scale what f gives: s · f(·).",
    (ADDED, "return output + bottleneck(self.scale * read)"),
)
adapted.slip(
    "scale on h alone",
    "You scale the output of the frozen layer and not what is added. It is the other way round: h + s · f(·).",
    (ADDED, "return self.scale * output + bottleneck(read)"),
)
adapted.slip(
    "what it read added too",
    "You also add what the bottleneck read. Add only s · f(·) to the output.",
    (ADDED, "return output + self.scale * (read + bottleneck(read))"),
)
adapted.slip(
    "bottleneck of the sum",
    "You send a sum through the bottleneck. Send only what it reads through it, and add the result to the output.",
    (ADDED, "return bottleneck(output + self.scale * read)"),
)
adapted.slip(
    "scale taken once",
    "You keep the scale of the first call. If somebody changes it later, nothing happens. Read self.scale at every call.",
    (
        ADDED,
        "self._scale = getattr(self, '_scale', self.scale)\n        return output + self._scale * bottleneck(read)",
    ),
)
adapted.slip(
    "written into the output",
    "output += … writes into the tensor that the bottleneck has just read. Its gradient needs the old values, so training stops with "
    "PyTorch's message about an in-place operation. output + … makes a new tensor.",
    (ADDED, "output += self.scale * bottleneck(read)\n        return output"),
)
adapted.slip(
    "without gradient",
    "No gradient reaches the bottleneck (because of no_grad or detach), so it would never learn.",
    (ADDED, "return output + self.scale * bottleneck(read).detach()"),
)
adapted.slip(
    "the input added",
    "You add f(·) to what the bottleneck read. For a parallel adapter that is x, so the output of the sublayer is lost. Add f(·) to the "
    "output.",
    (ADDED, "return read + self.scale * bottleneck(read)"),
)
adapted.slip(
    "nothing returned",
    "You compute the sum but do not return it. Write return output + ….",
    (ADDED, "output + self.scale * bottleneck(read)"),
)
adapted.slip(
    "detached",
    "Your bottleneck reads a detached tensor (because of detach, .data or no_grad). It learns, but no gradient goes through it to the "
    "adapters below.",
    (READ, '(x if self.placement == "parallel" else output).detach()'),
)

# ---------------------------------------------------------------- 11.4

count = Exercise(
    id="11.4",
    target="minitransformer.tuning.method:Method.report",
    title="How many parameters?",
    minutes=15,
    difficulty=2,
    purpose="A formula such as 2L(2dr + r + d) counts the parameters of one method. This method counts those of any: how many are "
    "trained, how many have to be kept for a task, and how many the base has.",
    hints=(
        "There are four sums of numel(): over self.trainable(), over what self.stored() gives, over the head, and over the base. A method "
        "can train more than it keeps: the MLP of a prefix is dropped.",
        "self.stored() gives a pair: settings, and tensors by name. base.parameters() also gives the parameters of attached methods; "
        "base_parameters(base) does not.",
        "    Report(\n"
        "        type(self).__name__,\n"
        "        trained=sum(p.numel() for p in self.trainable()),\n"
        "        stored=sum(t.numel() for t in self.stored()[1].values()),\n"
        "        head=…,  # over self.head.parameters() if self.head, else 0\n"
        "        base=…,  # over base_parameters(base).values()\n"
        "    )",
    ),
    given=(
        "Report(method, trained, stored, head, base): what is returned. The first argument is the name of the method's class.",
        'self._need_base("report"): the base that the method is on, or a refusal.',
        "self.trainable(): a list of the parameters that training changes.",
        "self.stored(): a pair: settings, and the tensors by name, as a saved file has them.",
        "self.head: the classifier's head, or None.",
        "base_parameters(base): the base's own parameters by name, without those of attached methods.",
    ),
)


@count.scene
def pfeiffer_adapters(Method):
    """Two adapters of width 3, with 2 · (2 · 6 · 3 + 3 + 6) parameters."""
    base = small_gpt()
    with attached(base, method := Adapter(3, placement="pfeiffer")):
        return method.report()


@count.scene
def a_prefix_with_its_mlp(Method):
    """A prefix of three virtual tokens, made by an MLP that is dropped after training."""
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
    """Full fine-tuning, which adds nothing and trains the base."""
    base = small_gpt()
    with attached(base, method := FullFineTuning()):
        return method.report()


@count.scene
def beside_another(Method):
    """Adapters beside a prefix on the same base."""
    base = small_gpt()
    with attached(base, PrefixTuning(2), method := Adapter(2)):
        return method.report()


@count.scene
def the_top_layer_alone(Method):
    """The top layer of two, which is part of the base and trained."""
    base = small_gpt()
    with attached(base, method := TopLayers(1)):
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
    """You count tensors. A matrix of 6 × 3 is one tensor, but 18 parameters: p.numel()."""
    return wrong_report(
        trained=lambda self, base: len(self.trainable()),
        stored=lambda self, base: len(self.stored()[1]),
    )(self)


@count.mistake
def methods_counted_as_base(self):
    """For the base you count base.parameters(). That also has the parameters of the attached methods (in base.tuning). base_parameters(base) gives the base's own."""
    return wrong_report(base=lambda self, base: sum(p.numel() for p in base.parameters()))(self)


@count.mistake
def method_of_the_report(self):
    """You write a name of your own for the method. It is the name of its class: type(self).__name__."""
    return wrong_report()(self)._replace(method="Method")


@count.mistake
def stored_is_trained(self):
    """For `stored` you count what is trained. The MLP of a prefix is trained and then dropped, and only P_θ is saved. self.stored() gives what is saved."""
    return wrong_report(stored=lambda self, base: sum(p.numel() for p in self.trainable()))(self)


@count.mistake
def trained_is_stored(self):
    """For `trained` you count what is saved. In training a prefix also has an MLP, often with more parameters than the prefix itself. Count self.trainable()."""
    return wrong_report(
        trained=lambda self, base: sum(t.numel() for t in self.stored()[1].values())
    )(self)


@count.mistake
def head_among_the_trained(self):
    """You count self.parameters(), which also has the head of a classifier. Every method trains the same head, so it is counted separately. self.trainable() leaves it out. It also knows that full fine-tuning trains the base."""
    return wrong_report(trained=lambda self, base: sum(p.numel() for p in self.parameters()))(self)


@count.mistake
def no_head(self):
    """You leave the head at 0. Below a classifier, self.head is the classifier's linear layer, with weight and bias. Count its parameters."""
    return wrong_report(head=lambda self, base: 0)(self)


@count.mistake
def head_without_its_bias(self):
    """You count only the weight of the head. Its bias has one parameter for each class, and it is trained and saved, too."""
    return wrong_report(head=lambda self, base: self.head.weight.numel() if self.head else 0)(self)


@count.mistake
def everything_in_its_state(self):
    """For `stored` you count the whole state_dict. That also has the MLP of a prefix, which is dropped, and the head, which is counted separately. Count self.stored()[1]."""
    return wrong_report(
        stored=lambda self, base: sum(t.numel() for t in self.state_dict().values())
    )(self)


@count.mistake
def frozen_is_the_base(self):
    """For the base you count the parameters without requires_grad. Full fine-tuning trains all parameters of the base, so you would count none. Use base_parameters(base)."""
    return wrong_report(
        base=lambda self, base: sum(p.numel() for p in base.parameters() if not p.requires_grad)
    )(self)


@count.mistake
def a_pair_taken_for_tensors(self):
    """self.stored() gives a pair: settings for the constructor, and tensors by name. Count the second: self.stored()[1].values()."""
    return wrong_report(stored=lambda self, base: sum(t.numel() for t in self.stored().values()))(
        self
    )


@count.mistake
def names_counted(self):
    """A loop over a dictionary gives its keys, which are names. Use .values(), for self.stored()[1] and for base_parameters(base)."""
    return wrong_report(stored=lambda self, base: sum(t.numel() for t in self.stored()[1]))(self)


@count.mistake
def head_of_nothing(self):
    """Without a classifier self.head is None, and None has no parameters. Count 0 then."""
    return wrong_report(head=lambda self, base: sum(p.numel() for p in self.head.parameters()))(
        self
    )


@count.mistake
def no_refusal(self):
    """When the method is on no base, you report zeros. Call self._need_base("report"): it refuses with a clear sentence."""
    return report_without_base(self) if self.base is None else wrong_report()(self)


def report_without_base(self):
    """Zeros."""
    return Report(type(self).__name__, 0, 0, 0, 1)
