"""Adapters and IA³ against whole forward passes by hand; BitFit; how they begin, and what they count."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minitransformer.errors import UserError
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning import IA3, Adapter, BitFit, PrefixTuning, attached, load
from minitransformer.tuning.adapter import Bottleneck
from tests.helpers import assert_close, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.tuning.helpers import BASES, P, T, assert_no_trace, batch_for, loss_of, outputs, stir, traces, train_steps

C, D_FF, V, R = 8, 20, 40, 3  # of the tiny bases, and the bottleneck's width
PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
every_base = pytest.mark.parametrize("base", BASES)


class ByHand:
    """The forward pass of one text, position by position, with an adapter or IA³ written into it."""

    def __init__(self, base, method):
        self.base, self.method = base, method

    def linear(self, name, x):
        """W x + b at each position."""
        module = self.base.get_submodule(name)
        return torch.stack([module.weight @ row + module.bias for row in x])

    def attention(self, name, x, context=None, causal=False):
        """One query after another, one head after another; then what an adapter adds to the result."""
        module = self.base.get_submodule(name)
        read = x if context is None else context
        parts = zip((x, read, read), module.qkv.weight.split(C), module.qkv.bias.split(C), strict=True)
        q, k, v = (rows @ weight.T + bias for rows, weight, bias in parts)
        if isinstance(self.method, IA3):
            factor = self.method.factors[name.replace(".", "/")]
            k, v = k * factor[:C], v * factor[C:]
        y = torch.zeros_like(x)
        for head in torch.arange(C).split(module.d_head):
            for t in range(len(x)):
                seen = t + 1 if causal else len(read)
                weights = (k[:seen, head] @ q[t, head] / math.sqrt(len(head))).softmax(0)
                y[t, head] = weights @ v[:seen, head]
        return self.adapted(name, x, self.linear(f"{name}.out", y), at=("houlsby",))

    def feed_forward(self, name, x):
        """σ between two matrices; IA³ scales what σ gives."""
        h = F.gelu(self.linear(f"{name}.up", x), approximate="tanh" if isinstance(self.base, GPT) else "none")
        if isinstance(self.method, IA3):
            h = h * self.method.factors[name.replace(".", "/")]
        return self.adapted(name, x, self.linear(f"{name}.down", h), at=PLACEMENTS)

    def adapted(self, name, x, y, at):
        """o = W_up σ(W_down h) + h, for a sublayer that reads x and gives y."""
        if not isinstance(self.method, Adapter) or self.method.placement not in at:
            return y
        bottleneck = self.method.bottlenecks[name.replace(".", "/")]
        added = []
        for h in x if self.method.placement == "parallel" else y:
            z = (bottleneck.down.weight @ h + bottleneck.down.bias).clamp(min=0)
            added.append(bottleneck.up.weight @ z + bottleneck.up.bias)
        return y + self.method.settings["scale"] * torch.stack(added)

    def norm(self, name, x):
        """Mean 0 and variance 1 at each position, then the norm's own factor and shift, then the adapter's."""
        module = self.base.get_submodule(name)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        y = (x - mean) / (var + module.eps).sqrt() * module.weight + module.bias
        if isinstance(self.method, Adapter) and name.replace(".", "/") in self.method.factors:
            factor, shift = self.method.factors[name.replace(".", "/")]
            y = y * factor + shift
        return y

    def post_norm(self, name, x):
        """A layer of a BERT, or of an encoder."""
        x = self.norm(f"{name}.norm1", x + self.attention(f"{name}.attention", x))
        return self.norm(f"{name}.norm2", x + self.feed_forward(f"{name}.mlp", x))

    def __call__(self, ids, source=None):
        """Ids (T) → what the base gives for them, (T, V) or (T, C)."""
        base = self.base
        words = base.token_embedding.weight
        if isinstance(base, GPT):
            x = words[ids] + base.position_embedding.weight[: len(ids)]
            for i in range(3):
                name = f"blocks.{i}"
                x = x + self.attention(f"{name}.attention", self.norm(f"{name}.norm1", x), causal=True)
                x = x + self.feed_forward(f"{name}.mlp", self.norm(f"{name}.norm2", x))
            return self.norm("norm", x) @ words.T
        if isinstance(base, Bert):
            x = words[ids] + base.position_embedding.weight[: len(ids)] + base.type_embedding.weight[0]
            x = self.norm("norm", x)
            for i in range(3):
                x = self.post_norm(f"blocks.{i}", x)
            return x
        c = self.norm("source_norm", words[source] + base.source_positions.weight[: len(source)])
        for i in range(2):
            c = self.post_norm(f"encoder.{i}", c)
        x = self.norm("target_norm", words[ids] + base.target_positions.weight[: len(ids)])
        for i in range(3):
            name = f"decoder.{i}"
            x = self.norm(f"{name}.norm1", x + self.attention(f"{name}.attention", x, causal=True))
            x = self.norm(f"{name}.norm2", x + self.attention(f"{name}.cross", x, c))
            x = self.norm(f"{name}.norm3", x + self.feed_forward(f"{name}.mlp", x))
        return x @ words.T + base.final_logits_bias


def run(base):
    """One text through the base, and what `ByHand` needs for the same."""
    ids, source = random_ids(1, T), random_ids(1, 4, seed=1)
    more = {} if isinstance(base, GPT | Bert) else {"source": source}
    with torch.no_grad():
        return base(ids, **more)[0], (ids[0], *(value[0] for value in more.values()))


@every_base
@torch.no_grad()
def test_by_hand_is_the_base_where_nothing_is_on_it(base):
    base = BASES[base]()
    output, text = run(base)
    assert_close(ByHand(base, None)(*text), output, "the oracle itself: a forward pass by hand")


# ------------------------------------------------------------------------------------------------- adapters


@every_base
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norms", [False, True])
@torch.no_grad()
def test_an_adapter_stands_inside_the_sublayer(base, placement, norms):
    """001 §3.2.1: its result is added to the stream, and normalised, together with that of the sublayer."""
    base = BASES[base]()
    plain, _ = run(base)
    method = stir(Adapter(R, placement, scale=0.7, norms=norms).attach(base), std=0.4)
    output, text = run(base)
    assert_close(
        output, ByHand(base, method)(*text), f"{placement}: it adds W_up σ(W_down h) somewhere else, or something else"
    )
    assert (output - plain).abs().max() > 0.1, "the oracle and the method agree, for both do nothing"


@every_base
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("norms", [False, True])
def test_which_sublayers_get_one_and_how_many_numbers_that_is(base, placement, norms):
    kind, base = base, BASES[base]()
    layers = (
        {"blocks": ("attention", "mlp")}
        if kind != "seq2seq"
        else {"encoder": ("attention", "mlp"), "decoder": ("attention", "cross", "mlp")}
    )
    numbers = {"blocks": 3, "encoder": 2, "decoder": 3}
    where, norm_names = set(), set()
    for stack, sublayers in layers.items():
        for i in range(numbers[stack]):
            where |= {f"{stack}/{i}/{name}" for name in sublayers if placement == "houlsby" or name == "mlp"}
            norm_names |= {f"{stack}/{i}/norm{k + 1}" for k in range(len(sublayers))}
    with attached(base, method := Adapter(R, placement, norms=norms)):
        report = method.report()
    assert set(method.bottlenecks) == where
    assert set(method.factors) == (norm_names if norms else set()), "only the norms inside the layers are trained"
    n = len(where) * (2 * C * R + R + C) + norms * len(norm_names) * 2 * C
    assert report.trained == report.stored == n, "W_down (r, d), b_down (r), W_up (d, r), b_up (d) in each"
    for bottleneck in method.bottlenecks.values():
        assert bottleneck.down.weight.shape == (R, C) and bottleneck.up.weight.shape == (C, R)


@every_base
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_zero_begins_as_the_base_to_the_bit_and_learns_all_the_same(base, placement):
    base = BASES[base]()
    batch = batch_for(base)
    before = outputs(base, batch)
    with attached(base, method := Adapter(16, placement, norms=True, scale=4.0)):  # 16: not all below 0
        assert torch.equal(outputs(base, batch), before), "W_up = 0: at first nothing may be added at all"
        loss_of(base)(base, batch)[0].backward()
        for name, bottleneck in method.bottlenecks.items():
            assert bottleneck.up.weight.grad.any(), f"{name}: nothing can ever be learned if W_down is zero too"
            assert not bottleneck.down.weight.grad.any(), f"{name}: behind W_up = 0 nothing is learned at first"


def relative_change(init):
    """‖A(h) - h‖ / ‖h‖ of a fresh adapter, and the adapter."""
    torch.manual_seed(0)
    bottleneck, h = Bottleneck(128, 64, init), torch.randn(50, 128)
    return (bottleneck(h).norm() / h.norm()).item(), bottleneck.requires_grad_(False)


def test_the_three_ways_to_begin():
    """001 §3.2.2's Xavier changes the base at once; Houlsby et al. begin near the identity."""
    change, bottleneck = relative_change("zero")
    assert change == 0 and bottleneck.down.weight.any() and not bottleneck.up.weight.any()

    change, bottleneck = relative_change("normal")
    for linear in (bottleneck.down, bottleneck.up):
        assert math.isclose(linear.weight.std(), 0.01, rel_tol=0.05), "a standard deviation of 0.01"
        assert abs(linear.weight.mean()) < 1e-3
    assert 0 < change < 0.02, f"nearly the identity, not {change:.3f} of h"

    change, bottleneck = relative_change("xavier")
    for linear in (bottleneck.down, bottleneck.up):
        variance = 2 / (linear.in_features + linear.out_features)
        assert math.isclose(linear.weight.var(), variance, rel_tol=0.1), "001 §3.2.2: 2 / (d_in + d_out)"
        assert linear.weight.abs().max() > 2.5 * math.sqrt(variance), "a normal distribution, not a uniform one"
    assert change > 0.2, f"Xavier is not near the identity; it changes {change:.3f} of h"
    for init in ("zero", "normal", "xavier"):
        _, bottleneck = relative_change(init)
        assert not bottleneck.down.bias.any() and not bottleneck.up.bias.any(), f"{init}: biases begin at 0"


def test_the_init_that_was_asked_for_is_in_every_layer():
    for init, check in (
        ("zero", lambda b: not b.up.weight.any()),
        ("normal", lambda b: 0 < b.up.weight.abs().max() < 0.06),
        ("xavier", lambda b: b.up.weight.abs().max() > 0.1),
    ):
        with attached(tiny_gpt(), method := Adapter(R, init=init)):
            assert all(check(bottleneck) for bottleneck in method.bottlenecks.values()), init
            weights = [bottleneck.down.weight for bottleneck in method.bottlenecks.values()]
            assert not torch.equal(weights[0], weights[1]), f"{init}: all bottlenecks begin alike"


def test_the_scale_stands_in_one_place(tmp_path):
    base = tiny_gpt()
    fresh, mlp, x = copy.deepcopy(base), base.blocks[0].mlp, torch.randn(1, 4, C)
    plain = mlp(x).detach()
    method = stir(Adapter(R, "parallel", scale=2.0).attach(base), std=0.4)
    change = mlp(x).detach() - plain
    method.scale = 5.0
    assert_close(mlp(x) - plain, 2.5 * change, "what is added is not multiplied by the scale")
    method.save(tmp_path / "adapter.safetensors")
    assert load(tmp_path / "adapter.safetensors", fresh).scale == 5.0, "the file says the scale from before"
    assert torch.equal(outputs(fresh, batch_for(base)), outputs(base, batch_for(base)))


def test_norms_of_an_adapter_are_trained_and_the_bases_are_not():
    base = tiny_bert()
    own = {name: t.clone() for name, t in base.state_dict().items()}
    method = Adapter(R, norms=True).attach(base)
    train_steps(base, batch_for(base))
    one = torch.stack([torch.ones(C), torch.zeros(C)])
    for name, factor in method.factors.items():
        assert (factor != one).any(dim=1).all(), f"{name}: factor and shift both learn"
    assert all(torch.equal(base.state_dict()[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("base", ["gpt", "bert"])
@pytest.mark.parametrize("adapter_first", [True, False])
def test_an_adapter_and_a_prefix_together(base, adapter_first):
    """The prefix given by hand to a base with the adapter alone is what both give together."""
    base = BASES[base]()
    with attached(base, prefix := PrefixTuning(P)):
        stir(prefix)
    with attached(base, adapter := Adapter(R, norms=True)):
        stir(adapter, std=0.4)
        batch = batch_for(base)
        with torch.no_grad():
            expected = base(batch["ids"], attention_mask=batch["attention_mask"], **prefix.prefixes())[
                batch["attention_mask"]
            ]
    with attached(base, *([adapter, prefix] if adapter_first else [prefix, adapter])):
        assert_close(outputs(base, batch), expected, "in the other order of attaching they give something else")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"width": 0}, "width = 0: a bottleneck has at least one unit"),
        ({"width": -2}, "width = -2"),
        ({"width": 2.5}, "width = 2.5: it has to be a whole number"),
        ({"width": None}, "width = None: it has to be a whole number"),
        ({"placement": "before"}, "placement = 'before': it has to be one of houlsby, pfeiffer, parallel"),
        ({"init": "ones"}, "init = 'ones': it has to be one of zero, normal, xavier"),
        ({"init": None}, "init = None"),
    ],
)
def test_what_cannot_be_is_said(settings, says):
    with pytest.raises(UserError, match=says):
        Adapter(**settings)


def test_two_adapters_are_refused():
    base = tiny_gpt()
    with attached(base, Adapter(2)):
        before = traces(base)
        with pytest.raises(UserError, match="Adapter and Adapter cannot be on one .* 'sublayers'"):
            Adapter(3, "pfeiffer").attach(base)
        assert_no_trace(base, before, "a refused second adapter")


def test_a_bottleneck_may_be_wider_than_the_base():
    """There is no need for r < d, only a reason; and one number is enough."""
    for width in (1, 3 * C):
        with attached(base := tiny_gpt(), Adapter(width)):
            train_steps(base, batch_for(base))


# ------------------------------------------------------------------------------------------------------ IA³


@every_base
@torch.no_grad()
def test_ia3_scales_keys_values_and_the_inside_of_the_feed_forward_layers(base):
    base = BASES[base]()
    plain, _ = run(base)
    method = IA3().attach(base)
    assert torch.equal(run(base)[0], plain), "every factor is 1 at first: nothing may change, to the bit"
    for factor in method.factors.values():
        factor.copy_(1 + 0.5 * torch.randn(factor.shape))
    output, text = run(base)
    expected = ByHand(base, method)(*text)
    assert_close(output, expected, "k ← l_k ⊙ k, v ← l_v ⊙ v, FFN(x) = W_down (l_ff ⊙ σ(W_up x)); q stays")
    assert (output - plain).abs().max() > 0.1
    method.merge()
    assert_close(run(base)[0], expected, "merged: rows of W^K and W^V with their biases, columns of W_down")


@every_base
def test_ia3_has_few_numbers(base):
    kind, base = base, BASES[base]()
    n_attention, n_mlp = (2 + 3 + 3, 2 + 3) if kind == "seq2seq" else (3, 3)
    with attached(base, method := IA3()):
        assert method.report().trained == n_attention * 2 * C + n_mlp * D_FF
        assert {len(factor) for factor in method.factors.values()} == {2 * C, D_FF}


def test_ia3_is_cached_like_the_base():
    """A cross-attention asks for q alone once its keys and values are cached; they must be scaled once."""
    base = tiny_seq2seq()
    stir(IA3().attach(base), std=1.0)
    ids, source = random_ids(1, T), random_ids(1, 4, seed=1)
    with torch.no_grad():
        cache = base.new_cache()
        parts = [base(ids[:, t : t + 1], cache=cache, source=source) for t in range(T)]
        assert_close(torch.cat(parts, dim=1), base(ids, source=source), "step by step it gives something else")


# --------------------------------------------------------------------------------------------------- BitFit


LAYER = 3 * C + C + D_FF + C + 2 * C  # biases of q, k and v, W^O, W_up, W_down, and two norms
BIASES = {
    "gpt": 3 * LAYER + C,  # and of the last norm
    "bert": 3 * LAYER + C + C + (C + C + V) + 2,  # embedding's norm, pooler, masked words, next sentence
    "seq2seq": 5 * LAYER + 3 * (3 * C + C + C) + 2 * C,  # the decoder's cross-attentions with norms, two first norms
}


@every_base
def test_bitfit_trains_every_bias_and_nothing_else(base):
    kind, base = base, BASES[base]()
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    method = BitFit().attach(base)
    assert method.report().trained == method.report().stored == BIASES[kind]
    batch = batch_for(base)
    train(base, lambda i: batch, TrainConfig(steps=3, lr=0.05), loss=loss_of(base), progress=False)
    changed = {name for name, p in base.named_parameters() if not torch.equal(p, before[name])}
    biases = {name for name in before if name.rsplit(".", 1)[-1] == "bias"}
    assert changed == biases, f"changed, but no bias: {changed - biases}; a bias, but unchanged: {biases - changed}"
    assert not any(isinstance(base.get_submodule(name.rpartition(".")[0]), nn.Embedding) for name in changed)
    assert method.report().trained_fraction < 0.2
