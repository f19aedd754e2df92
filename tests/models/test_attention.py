"""Attention and the prefix contract, against torch's own attention, plain loops and algebra."""

import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from minitransformer.errors import UserError
from minitransformer.models.attention import (
    Attention,
    Prefix,
    Stacked,
    attend,
    attend_by_formula,
    columns_before,
    combined_mask,
    merge_heads,
    prefix_length,
    split_heads,
)
from minitransformer.models.cache import KVCache
from minitransformer.models.watch import watch_attention

B, T, S, P, H, D = 3, 5, 7, 2, 2, 4
C = H * D


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def close(actual, expected, message, tolerance=1e-6):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0, msg=lambda default: f"{message}\n{default}")


def random_prefix(batch=1, length=P, n_head=H, d_head=D):
    return Prefix(torch.randn(batch, n_head, length, d_head), torch.randn(batch, n_head, length, d_head))


def module(causal=False):
    layer = Attention(C, H, causal=causal)
    for p in layer.parameters():
        nn.init.normal_(p)  # biases too: a forgotten bias must show
    return layer.eval()


def padding(n_real=(7, 4, 1), length=S, left=False):
    """An attention mask (B, S) with so many real tokens a row."""
    attention_mask = torch.zeros(len(n_real), length, dtype=torch.bool)
    for row, n in enumerate(n_real):
        attention_mask[row, length - n :] = left
        attention_mask[row, :n] |= not left
    return attention_mask


# ---------------------------------------------------------------- the formula


def test_formula_is_a_weighted_mean_computed_one_query_at_a_time():
    q, k, v = torch.randn(B, H, T, D), torch.randn(B, H, S, D), torch.randn(B, H, S, D)
    attention_mask = torch.rand(B, 1, T, S) > 0.3
    attention_mask[..., 0] = True
    y, weights = attend_by_formula(q, k, v, attention_mask)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                e = [
                    math.exp(float(q[b, h, t] @ k[b, h, s]) / math.sqrt(D)) * bool(attention_mask[b, 0, t, s])
                    for s in range(S)
                ]
                share = torch.tensor([x / sum(e) for x in e])
                close(weights[b, h, t], share, f"weights of query {t}, head {h}, row {b}: not softmax(q kᵀ/√d)", 1e-5)
                close(y[b, h, t], share @ v[b, h], f"output of query {t}, head {h}, row {b}", 1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_fused_path_is_the_formula(masked):
    q, k, v = torch.randn(B, H, T, D), torch.randn(B, H, S, D), torch.randn(B, H, S, D)
    attention_mask = torch.rand(B, 1, T, S) > 0.4 if masked else None
    close(
        attend(q, k, v, attention_mask),
        attend_by_formula(q, k, v, attention_mask)[0],
        "the fused kernel and the formula differ",
    )


@pytest.mark.parametrize("length", [2, 6, 64, 256])
def test_causal_attention_is_the_formula_in_value_and_gradient(length):
    inputs = [torch.randn(2, H, length, D, dtype=torch.double, requires_grad=True) for _ in range(3)]
    mask = combined_mask(length, length, 0, causal=True, attention_mask=None)
    fast, slow = attend(*inputs, causal=True), attend_by_formula(*inputs, mask)[0]
    close(fast, slow, "the kernel and the formula differ", 1e-10)
    direction = torch.randn_like(fast)
    for name, ours, theirs in zip(
        "qkv", torch.autograd.grad(fast, inputs, direction), torch.autograd.grad(slow, inputs, direction), strict=True
    ):
        close(ours, theirs, f"the gradient of {name} differs", 1e-10)


@pytest.mark.parametrize("length", [2, 6, 64, 256])
@pytest.mark.parametrize("n_prefix", [1, 5])
@pytest.mark.parametrize("frozen", ["", "q", "qv", "qk"])
def test_causal_attention_sees_the_prefix_too(length, n_prefix, frozen):
    """In layer 0 of a frozen base the queries need no gradient, and of keys and values only the prefix does."""
    sizes = {"q": length, "k": n_prefix + length, "v": n_prefix + length}
    inputs = {
        name: torch.randn(2, H, n, D, dtype=torch.double, requires_grad=name not in frozen) for name, n in sizes.items()
    }
    mask = combined_mask(length, length, n_prefix, causal=True, attention_mask=None)
    fast, slow = attend(*inputs.values(), causal=True), attend_by_formula(*inputs.values(), mask)[0]
    close(fast, slow, "with a prefix, the kernel and the formula differ", 1e-10)
    direction, trained = torch.randn_like(fast), [x for x in inputs.values() if x.requires_grad]
    ours, theirs = (torch.autograd.grad(y, trained, direction) for y in (fast, slow))
    for name, a, b in zip((n for n in inputs if n not in frozen), ours, theirs, strict=True):
        close(a, b, f"the gradient of {name} differs", 1e-10)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("length", [1, 5, 6, 300])
def test_causal_attention_with_a_prefix_on_every_path(length, grad):
    """Odd and long texts, and those without gradients, go through the fused kernel, which needs a mask for this."""
    q, k, v = (torch.randn(2, H, n, D) for n in (length, P + length, P + length))
    mask = combined_mask(length, length, P, causal=True, attention_mask=None)
    actual = attend(q, k.requires_grad_(grad), v, causal=True)
    close(actual, attend_by_formula(q, k, v, mask)[0], f"T = {length}: P columns come first, and everyone sees them")
    assert actual.requires_grad == grad


def test_the_mask_of_a_prefix_is_made_where_the_queries_are():
    q, k, v = (torch.randn(2, H, n, D) for n in (T, P + T, P + T))
    expected = attend(q, k, v, causal=True)
    with torch.device("meta"):  # the default device, as in test_devices; what is made there has no numbers
        assert torch.equal(attend(q, k, v, causal=True), expected)


def test_dropout_still_acts_where_there_is_a_prefix():
    q, k, v = (torch.randn(1, H, n, D, requires_grad=True) for n in (4, P + 4, P + 4))
    torch.manual_seed(1)
    ones = attend(q, k, torch.ones_like(v), dropout=0.5, causal=True)
    assert not torch.allclose(ones, torch.ones_like(ones)), "without dropout, each row of weights sums to 1"


@pytest.mark.parametrize("batch", [1, B])
def test_the_prefix_gets_its_gradient_in_the_module(batch):
    layer, x = module(causal=True).double(), torch.randn(B, 6, C, dtype=torch.double)
    layer.requires_grad_(False)
    prefix = Prefix(*(t.double().requires_grad_() for t in random_prefix(batch)))
    gradients = []
    with watch_attention(layer):  # runs on the formula
        gradients.append(torch.autograd.grad(layer(x, prefix=prefix).square().sum(), prefix))
    gradients.append(torch.autograd.grad(layer(x, prefix=prefix).square().sum(), prefix))
    for name, formula, halves in zip(("keys", "values"), *gradients, strict=True):
        close(halves, formula, f"the gradient of the prefix's {name}", 1e-10)


def test_attention_can_be_differentiated_in_every_way():
    """Second derivatives, forward mode, and per-sample gradients by torch.func: what learners and papers ask for."""
    layer = module(causal=True).double()
    x = torch.randn(B, 4, C, dtype=torch.double, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda x: layer(x)[:, :, :2], x)
    weights = dict(layer.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for b in range(B):
        alone = torch.autograd.grad(loss(weights, x[b]), list(weights.values()))
        for (name, found), expected in zip(each.items(), alone, strict=True):
            close(found[b], expected, f"the gradient of {name} for row {b}", 1e-10)
    _, slope = torch.func.jvp(lambda x: loss(weights, x), (x[0].detach(),), (torch.ones_like(x[0]),))
    close(slope, torch.autograd.grad(loss(weights, x[0]), x)[0][0].sum(), "forward mode", 1e-10)
    curved = torch.func.hessian(lambda x: loss(weights, x))(x[0].detach())
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.autograd.functional.hessian(lambda x: loss(weights, x), x[0].detach())
    close(curved, expected, "second derivatives by torch.func", 1e-8)


@pytest.mark.parametrize("kind", [torch.long, torch.int8, torch.float, torch.float16])
def test_a_mask_of_ones_and_zeros_is_a_mask(kind):
    layer, x, attention_mask = module(), torch.randn(B, S, C), padding()
    assert torch.equal(layer(x, attention_mask=attention_mask.to(kind)), layer(x, attention_mask=attention_mask))


@pytest.mark.parametrize("value", [-1e9, float("-inf"), float("nan"), 0.5, 2])
def test_a_mask_that_is_added_is_refused(value):
    mask = torch.ones(B, S).masked_fill(~padding(), value)
    with pytest.raises(UserError, match=r"attention_mask has to be True \(or 1\) at real tokens"):
        module()(torch.randn(B, S, C), attention_mask=mask)


def test_a_mask_of_another_shape_is_refused():
    for shape in ((B, S - 1), (B + 1, S), (B, 1, 1, S)):
        with pytest.raises(UserError, match="attention_mask has the shape .* it has to mark every token so far"):
            module()(torch.randn(B, S, C), attention_mask=torch.ones(shape).bool())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_a_prefix_takes_the_texts_kind_of_number(kind):
    layer, x, prefix = module(causal=True), torch.randn(B, T, C), random_prefix()
    found = layer.to(kind)(x.to(kind), prefix=prefix)
    own = layer(x.to(kind), prefix=Prefix(prefix.k.to(kind), prefix.v.to(kind)))
    assert found.dtype == kind and torch.equal(found, own)


@pytest.mark.parametrize("cached", [False, True])
def test_autocast_with_a_prefix_on(cached):
    layer, x, prefix = module(causal=True), torch.randn(B, T, C), random_prefix()
    expected = layer(x, prefix=prefix)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x, prefix=prefix, cache=KVCache(T) if cached else None)
    assert found.dtype == torch.bfloat16
    close(found.float(), expected, "autocast rounds to 8 bits, and nothing more", 0.3)


def test_a_query_that_may_look_nowhere_gets_zeros_and_finite_gradients():
    q, k, v = (torch.randn(1, H, 2, D, requires_grad=True) for _ in range(3))
    attention_mask = torch.tensor([[False, False], [True, True]])[None, None]
    for name, y in (
        ("formula", attend_by_formula(q, k, v, attention_mask)[0]),
        ("fused", attend(q, k, v, attention_mask)),
    ):
        assert (y[:, :, 0] == 0).all(), f"{name}: a query without any key has to give 0, got {y[:, :, 0]}"
        for gradient in torch.autograd.grad(y.sum(), (q, k, v)):
            assert gradient.isfinite().all(), f"{name}: its gradient is not finite; 0 · nan is nan in the next layer"


def test_heads_are_cut_and_joined_without_mixing():
    x = torch.randn(B, T, 3 * C)
    for i, part in enumerate(split_heads(x, 3, H)):
        for h in range(H):
            columns = slice(i * C + h * D, i * C + (h + 1) * D)
            close(part[:, h], x[..., columns], f"head {h} of part {i} has to be columns {columns}")
        close(merge_heads(part), x[..., i * C : (i + 1) * C], "merging has to undo the split")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("n_prefix", [0, P])
def test_mask_against_three_nested_loops(causal, padded, n_prefix):
    attention_mask = padding() if padded else None
    mask = combined_mask(T, S, n_prefix, causal, attention_mask)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool) if mask is None else mask
    mask = mask.expand(B, 1, T, n_prefix + S)
    for b in range(B):
        for t in range(T):
            for s in range(n_prefix + S):
                token = s - n_prefix
                expected = s < n_prefix or (
                    (not causal or token <= S - T + t) and (not padded or bool(attention_mask[b, token]))
                )
                assert mask[b, 0, t, s] == expected, (
                    f"row {b}, query {t}, column {s} ({'prefix' if s < n_prefix else f'token {token}'}): "
                    f"expected {'visible' if expected else 'hidden'}. Prefix columns are always visible, and the last "
                    "query sees the last key."
                )


@pytest.mark.parametrize("n_prefix", [0, P])
def test_a_mask_is_no_larger_than_it_has_to_be(n_prefix):
    S_all = n_prefix + S
    for n_query, causal, attention_mask, shape in (
        (T, False, None, None),  # nothing is hidden
        (1, True, None, None),  # the last token sees all
        (T, True, None, (1, 1, T, S_all)),  # one for all rows of the batch
        (T, False, padding(), (B, 1, 1, S_all)),  # one for all queries
        (1, True, padding(), (B, 1, 1, S_all)),
        (T, True, padding(), (B, 1, T, S_all)),
    ):
        mask = combined_mask(n_query, S, n_prefix, causal, attention_mask)
        found = None if mask is None else tuple(mask.shape)
        assert found == shape, f"{n_query} queries, causal {causal}, padding {attention_mask is not None}"


# ------------------------------------------------------ the module, against torch


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_module_is_torch_multihead_attention(causal, cross):
    if causal and cross:
        return  # cross-attention has no order to respect
    ours, theirs = module(causal), nn.MultiheadAttention(C, H, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(B, T, C)
    context = torch.randn(B, S, C) if cross else None
    source = x if context is None else context
    attention_mask = padding((5, 4, 1), source.size(1))
    hidden = torch.ones(T, source.size(1)).triu(1).bool() if causal else None
    expected = theirs(x, source, source, key_padding_mask=~attention_mask, attn_mask=hidden, need_weights=False)[0]
    close(ours(x, context, attention_mask), expected, "our attention and nn.MultiheadAttention differ", 1e-5)


# ------------------------------------------------------------ the prefix contract


@pytest.mark.parametrize("cross", [False, True])
def test_prefix_of_length_0_is_the_plain_layer(cross):
    layer, x = module(causal=not cross), torch.randn(B, T, C)
    context = torch.randn(B, S, C) if cross else None
    plain = layer(x, context)
    with_none = layer(x, context, prefix=random_prefix(length=0))
    assert torch.equal(with_none, plain), "P = 0 has to change nothing, not a bit"


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("batch", [1, B])
def test_he_et_al_identity(cross, batch):
    """He et al. 2022, Eq. 7–10: with a prefix = (1 − λ) without + λ over the prefix alone."""
    layer, x = module(causal=not cross), torch.randn(B, T, C)
    context = torch.randn(B, S, C) if cross else None
    attention_mask = padding((5, 4, 2), S if cross else T)
    prefix = random_prefix(batch)
    source = x if context is None else context
    q, k, v = (layer.qkv.weight @ y.unsqueeze(-1) + layer.qkv.bias[:, None] for y in (x, source, source))
    q, k, v = q[..., :C, 0], k[..., C : 2 * C, 0], v[..., 2 * C :, 0]
    heads = [y.unflatten(-1, (H, D)).transpose(1, 2) for y in (q, k, v)]
    mask = attention_mask[:, None, None, :]
    if not cross:
        mask = mask & torch.ones(T, T).tril().bool()
    scores = (heads[0] @ heads[1].transpose(-1, -2) / math.sqrt(D)).masked_fill(~mask, -math.inf)
    prefix_scores = heads[0] @ prefix.k.transpose(-1, -2) / math.sqrt(D)
    z_text, z_prefix = scores.exp().sum(-1, keepdim=True), prefix_scores.exp().sum(-1, keepdim=True)
    share = z_prefix / (z_text + z_prefix)  # λ
    mixed = (1 - share) * (scores.softmax(-1) @ heads[2]) + share * (prefix_scores.softmax(-1) @ prefix.v)
    expected = layer.out(mixed.transpose(1, 2).flatten(2))
    close(
        layer(x, context, attention_mask, prefix), expected, "(1 − λ) Attn + λ softmax(q P_kᵀ) P_v does not hold", 1e-4
    )


def test_every_query_sees_the_prefix_and_causality_holds_after_it():
    layer, x, prefix = module(causal=True), torch.randn(1, T, C), random_prefix()
    with watch_attention(layer) as maps:
        layer(x, prefix=prefix)
    (weights,) = maps[""]
    assert (weights[..., :P] > 0).all(), "some query does not see the prefix; its columns are visible to every query"
    future = torch.ones(T, T).triu(1).bool()
    later = weights[..., P:][..., future]
    assert (later == 0).all(), "a query sees tokens after its own: causality starts after P columns"


def test_prefix_is_visible_even_where_everything_else_is_padding():
    layer, x, prefix = module(), torch.randn(1, T, C), random_prefix()
    attention_mask = torch.zeros(1, T, dtype=torch.bool)
    expected = layer.out(merge_heads(attend_by_formula(split_heads(layer.qkv(x), 3, H)[0], prefix.k, prefix.v)[0]))
    close(
        layer(x, attention_mask=attention_mask, prefix=prefix), expected, "only the prefix is left to read from", 1e-5
    )


def test_a_zero_prefix_is_not_the_identity():
    layer, x = module(causal=True), torch.randn(B, T, C)
    zero = Prefix(torch.zeros(1, H, P, D), torch.zeros(1, H, P, D))
    moved = (layer(x, prefix=zero) - layer(x)).abs().max()
    assert moved > 1e-2, "keys of 0 still take a share of the softmax: e⁰ = 1"


@pytest.mark.parametrize("cross", [False, True])
def test_a_prefix_for_each_row_gives_what_each_gives_alone(cross):
    layer, x, prefix = module(causal=not cross), torch.randn(B, T, C), random_prefix(B)
    context = torch.randn(B, S, C) if cross else None
    together = layer(x, context, prefix=prefix)
    for b in range(B):
        one = slice(b, b + 1)
        alone = layer(x[one], None if context is None else context[one], prefix=Prefix(prefix.k[one], prefix.v[one]))
        close(together[one], alone, f"row {b} with its own prefix differs from the row alone", 1e-5)


def test_gradients_reach_keys_and_values_of_the_prefix():
    layer, x = module(causal=True), torch.randn(B, T, C)
    prefix = Prefix(*(t.requires_grad_() for t in random_prefix()))
    layer(x, prefix=prefix).square().sum().backward()
    for name, tensor in zip(("keys", "values"), prefix, strict=True):
        assert tensor.grad.abs().min() > 0, f"some of the prefix's {name} get no gradient"


def test_what_stands_before_the_tokens_of_a_call():
    prefix, cache = [random_prefix()], [KVCache(T)]  # of a model with one layer
    assert prefix_length(prefix, 1) == P
    assert columns_before(None, None, 1) == (0, 0)
    assert columns_before(prefix, None, 1) == columns_before(prefix, cache, 1) == (P, P)
    module(causal=True)(torch.randn(1, 3, C), prefix=prefix[0], cache=cache[0])
    assert columns_before(prefix, cache, 1) == (P + 3, P), "P, and three tokens of the first call"


# ----------------------------------------------------------------------- the cache


def test_a_cache_starts_empty():
    cache = KVCache(4)
    assert (cache.k, cache.v, cache.length, cache.n_prefix) == (None, None, 0, 0)
    with pytest.raises(UserError, match="The cache holds 4 columns, and this call would fill 5"):
        cache.append(*torch.randn(2, B, H, 5, D))


@pytest.mark.parametrize("with_prefix", [False, True])
@pytest.mark.parametrize("left_padded", [False, True])
def test_cached_equals_uncached_for_any_cut(with_prefix, left_padded):
    layer, x = module(causal=True), torch.randn(B, T, C)
    prefix = random_prefix() if with_prefix else None
    attention_mask = padding((5, 3, 4), T, left=True) if left_padded else None
    whole = layer(x, attention_mask=attention_mask, prefix=prefix)
    for first in range(1, T):
        cache = KVCache(T + P)
        parts = [
            layer(
                x[:, :first],
                attention_mask=None if attention_mask is None else attention_mask[:, :first],
                prefix=prefix,
                cache=cache,
            )
        ]
        for t in range(first, T):
            seen = None if attention_mask is None else attention_mask[:, : t + 1]
            parts.append(layer(x[:, t : t + 1], attention_mask=seen, prefix=prefix, cache=cache))
        assert cache.length == T + (P if with_prefix else 0), "the prefix has to enter the cache exactly once"
        close(torch.cat(parts, 1), whole, f"cached, cut after {first} tokens, differs from uncached", 1e-5)


def test_cross_attention_reads_its_context_once():
    layer, x, context, prefix = module(), torch.randn(B, T, C), torch.randn(B, S, C), random_prefix()
    attention_mask, cache = padding(), KVCache(S + P)
    whole = layer(x, context, attention_mask, prefix)
    first = layer(x[:, :2], context, attention_mask, prefix, cache)
    nonsense = torch.full_like(context, torch.nan)
    rest = layer(x[:, 2:], nonsense, attention_mask, prefix, cache)
    close(torch.cat([first, rest], 1), whole, "the second call has to take context and prefix from the cache", 1e-5)


@pytest.mark.parametrize("rows", [[2, 0, 0], [1, 2, 0], [0, 1, 2], [0, 0, 1, 1, 2, 2], [1]])
def test_cache_selects_rows(rows):
    layer, x, cache = module(causal=True), torch.randn(3, T, C), KVCache(T)
    layer(x[:, :3], cache=cache)
    rows = torch.tensor(rows)
    cache.select(rows)
    close(layer(x[rows, 3:], cache=cache), layer(x[rows])[:, 3:], f"after select, rows {rows.tolist()} go on", 1e-5)


def test_cache_selects_rows_where_they_are():
    cache = KVCache(T)
    k, v = cache.append(torch.randn(B, H, T, D), torch.randn(B, H, T, D))
    rows, k, v = torch.tensor([2, 0, 0]), k.clone(), v.clone()
    with torch.device("meta"):  # the default device; what is made there has no numbers
        cache.select(rows)
    close(cache.columns(), (k[rows], v[rows]), "the rows that were asked for")


def test_a_watched_layer_gives_the_same_output_and_is_released():
    layer, x = module(causal=True), torch.randn(B, T, C)
    with watch_attention(nn.ModuleDict({"one": layer})) as maps:
        seen = layer(x)
    close(seen, layer(x), "watching must not change the output", 1e-5)
    assert [w.shape for w in maps["one"]] == [(B, H, T, T)] and layer.watchers == []
    close(maps["one"][0].sum(-1), torch.ones(B, H, T), "each row of weights has to sum to 1")


def test_one_recorder_inside_another():
    layer, x = module(causal=True), torch.randn(B, T, C)
    with watch_attention(layer) as outer:
        layer(x)
        with watch_attention(layer) as inner:
            layer(x)
        layer(x)
    assert (len(outer[""]), len(inner[""])) == (3, 1) and layer.watchers == []


# ----------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("k", "v"),
    [
        ((1, H, P, D), (1, H, P + 1, D)),
        ((1, H + 1, P, D),) * 2,
        ((1, H, P, D + 1),) * 2,
        ((2, H, P, D),) * 2,
        ((H, P, D),) * 2,
    ],
    ids=["k and v differ", "heads", "width", "batch", "no batch"],
)
def test_a_prefix_that_does_not_fit_is_refused_with_both_shapes(k, v):
    with pytest.raises(UserError, match=r"The prefix has keys .* this attention needs both as \(batch 3 or 1"):
        module()(torch.randn(B, T, C), prefix=Prefix(torch.randn(k), torch.randn(v)))


def test_other_bad_input():
    with pytest.raises(UserError, match="d_model = 10 cannot be cut into n_head = 3"):
        Attention(10, 3)
    with pytest.raises(UserError, match="The cache holds 4 columns, and this call would fill 5"):
        module()(torch.randn(B, 5, C), cache=KVCache(4))
    module()(torch.randn(B, 4, C), prefix=random_prefix(), cache=KVCache(4))  # a prefix comes on top
    with pytest.raises(UserError, match="The cache holds 6 columns, and this call would fill 7"):
        module()(torch.randn(B, 5, C), prefix=random_prefix(), cache=KVCache(4))


def test_unasked_attention_looks_everywhere_and_drops_nothing():
    layer, x = Attention(C, H), torch.randn(B, T, C)
    assert torch.equal(layer.train()(x), layer.eval()(x)), "without dropout, training makes no difference"
    with watch_attention(layer) as maps:
        layer(x)
    assert (maps[""][0] > 0).all(), "unless it is said to be causal, every query sees every key"


def test_all_of_the_stacked_maps_unless_some_are_asked_for():
    stacked, x = Stacked(C, D, 3), torch.randn(B, T, C)
    whole = nn.functional.linear(x, stacked.weight, stacked.bias)
    for first, last in ((0, 3), (0, 1), (1, 3)):
        close(stacked(x, first, last), whole[..., first * D : last * D], f"maps {first} to {last}")
    close(stacked(x), whole, "unasked, all of them")
    close(stacked(x, last=2), whole[..., : 2 * D], "unasked, from the first on")
    assert stacked.rows() == stacked.rows(0, 3) == slice(0, 3 * D)
    assert stacked.rows(1) == stacked.rows(1, 3) == slice(D, 3 * D)
    assert stacked.rows(1, 2) == slice(D, 2 * D)


def test_dropout_only_while_training():
    layer = Attention(C, H, dropout=0.5)
    x = torch.randn(B, T, C)
    assert not torch.equal(layer.train()(x), layer(x)), "in training two calls drop different weights"
    layer.eval()
    assert torch.equal(layer(x), layer(x)), "in eval nothing is dropped"
