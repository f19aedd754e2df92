"""The page's GPT beside PyTorch's: logits, attention, token ids, sampling, and the gradient of a prefix."""

import base64
import math

import pytest
import torch
from safetensors.torch import load as load_safetensors

from minitransformer.course.bases import load_base, prefix_path
from minitransformer.course.book import export
from minitransformer.course.data import default_tokenizer
from minitransformer.generation.sampling import apply_temperature, generate, keep_top_k, keep_top_p
from minitransformer.models.watch import watch_attention
from minitransformer.text.batches.completion import completion_batch
from minitransformer.training.losses import language_model_loss
from minitransformer.tuning import load as load_method
from minitransformer.tuning.prefix import PrefixTuning, activations, to_flat, to_prefixes
from tests.helpers import random_ids, random_prefix, tiny_gpt

pytestmark = pytest.mark.book


@pytest.fixture
def js(model_page):
    """Run JavaScript with an argument; typed arrays come back as lists."""
    return model_page.evaluate


def give_model(js, model, dtype=torch.float32, name="base"):
    """Hand a PyTorch model to the page; the model's own weights are rounded as the page's are."""
    about = {"config": vars(model.config)}
    content = export.as_file(model.state_dict(), about, dtype)
    model.load_state_dict({key: value.float() for key, value in load_safetensors(content).items()})
    js(
        """([name, text]) => {
            MiniTransformer.files[name] = text;
            globalThis[name] = MiniTransformer.GPT(MiniTransformer.safetensors(MiniTransformer.bytes(name)));
        }""",
        [name, base64.b64encode(content).decode()],
    )
    return model


@pytest.fixture
def tiny(js):
    return give_model(js, tiny_gpt())


@pytest.fixture(scope="module")
def real(model_page):
    return give_model(model_page.evaluate, load_base("gpt"), torch.float16, "real")


@pytest.fixture(scope="module")
def tokenizer(model_page):
    tokenizer = default_tokenizer()
    content = base64.b64encode(export.DEFAULT_PATH.read_bytes()).decode()
    model_page.evaluate(
        """(text) => {
            MiniTransformer.files.tokenizer = text;
            const vocabulary = new TextDecoder().decode(MiniTransformer.bytes("tokenizer"));
            globalThis.tokenizer = MiniTransformer.Tokenizer(vocabulary);
        }""",
        content,
    )
    return tokenizer


def near(found, wanted, within=1e-4):
    found = torch.tensor(found)
    assert found.shape == wanted.flatten().shape
    return (found - wanted.flatten()).abs().max() < within


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize("length", [0, 3])
def test_logits_are_those_of_pytorch(js, tiny, length):
    prefix = random_prefix(3, 2, 4, length) if length else None
    ids = random_ids(1, 9)
    wanted = tiny(ids, prefix=prefix)  # (1, T, V)
    found = js(
        """([ids, flat]) => {
            const cache = base.newCache(flat && Float32Array.from(flat));
            return Array.from(base.forward(ids, cache, {logits: "all"}).logits);
        }""",
        [ids[0].tolist(), to_flat(prefix).flatten().tolist() if length else None],
    )
    assert near(found, wanted)


def test_a_cache_changes_nothing(js, tiny):
    prefix, ids = random_prefix(3, 2, 4, 3), random_ids(1, 9)
    wanted = tiny(ids, prefix=prefix)[0, [1, 4, 5, 8]]  # (rows, V)  the last row of each part
    found = js(
        """([ids, flat]) => {
            const cache = base.newCache(Float32Array.from(flat));
            const parts = [ids.slice(0, 2), ids.slice(2, 5), ids.slice(5, 6), ids.slice(6)];
            return parts.flatMap((part) => Array.from(base.forward(part, cache).logits));
        }""",
        [ids[0].tolist(), to_flat(prefix).flatten().tolist()],
    )
    assert near(found, wanted)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_and_the_prefix_share(js, tiny, causal):
    prefix, ids = random_prefix(3, 2, 4, 3), random_ids(1, 6)
    for block in tiny.blocks:
        block.attention.causal = causal
    with watch_attention(tiny) as seen:
        tiny(ids, prefix=prefix)
    weights = torch.stack([calls[0][0] for calls in seen.values()])  # (n_layer, H, T, P+S)
    found = js(
        """([ids, flat, causal]) => {
            const options = {watch: true, causal};
            const {weights, lambda} = base.forward(ids, base.newCache(Float32Array.from(flat)), options);
            return [weights.map((w) => Array.from(w)), lambda.map((w) => Array.from(w))];
        }""",
        [ids[0].tolist(), to_flat(prefix).flatten().tolist(), causal],
    )
    assert near(sum(found[0], []), weights)
    assert near(sum(found[1], []), weights[..., :3].sum(-1))


def test_hidden_columns_are_padding(js, tiny):
    """A token in the middle that nobody sees, in JavaScript and through PyTorch's attention mask."""
    ids = random_ids(1, 6)
    mask = torch.tensor([[True, True, False, True, True, True]])
    shown = [0, 1, 3, 4, 5]
    wanted = tiny(ids, attention_mask=mask)[0, shown]  # (rows, V); padding takes no position there
    found = js(
        """(ids) => {
            const cache = base.newCache(), hidden = new Set([2]);
            const before = base.forward(ids.slice(0, 3), cache, {logits: [0, 1], hidden}).logits;
            const after = base.forward(ids.slice(3), cache, {logits: "all", hidden, firstPosition: -1}).logits;
            return [...before, ...after];
        }""",
        ids[0].tolist(),
    )
    assert near(found, wanted)


def test_a_muted_prefix_leaves_its_positions(js, tiny):
    """The prefix's share 0 is the base, read from position P on; with firstPosition 0 it is the base itself."""
    prefix, ids = random_prefix(3, 2, 4, 3), random_ids(1, 6)
    code = """([ids, flat, options]) =>
        Array.from(base.forward(ids, base.newCache(Float32Array.from(flat)), {logits: "all", ...options}).logits)"""
    flat = to_flat(prefix).flatten().tolist()
    plain = tiny(ids)
    assert near(js(code, [ids[0].tolist(), flat, {"share": 0, "firstPosition": 0}]), plain)
    assert not near(js(code, [ids[0].tolist(), flat, {"share": 0}]), plain, within=1e-2)
    with torch.no_grad():
        tiny.position_embedding.weight.copy_(tiny.position_embedding.weight.roll(-3, 0))
    assert near(js(code, [ids[0].tolist(), flat, {"share": 0}]), tiny(ids))


def test_he_identity(js, tiny):
    """Multiplying the prefix's weights by m gives λ' = mλ / (mλ + 1 − λ) in the first layer, whose queries stay."""
    prefix, ids = random_prefix(3, 2, 4, 3), random_ids(1, 6)
    code = """([ids, flat, share]) => {
        const cache = base.newCache(Float32Array.from(flat));
        return Array.from(base.forward(ids, cache, {watch: true, share}).lambda[0]);
    }"""
    flat = to_flat(prefix).flatten().tolist()
    lam = torch.tensor(js(code, [ids[0].tolist(), flat, 1]))
    assert near(js(code, [ids[0].tolist(), flat, 2.5]), 2.5 * lam / (2.5 * lam + 1 - lam))


def test_activations_of_a_text_are_a_prefix(js, tiny):
    ids = random_ids(1, 5)
    wanted = to_flat(activations(tiny, ids)["prefix"])
    assert near(js("(ids) => Array.from(base.activations(ids))", ids[0].tolist()), wanted)


def test_too_long_a_text_is_refused(js, tiny):
    code = "(ids) => { try { base.forward(ids, base.newCache()); } catch (error) { return error.message; } }"
    assert js(code, [1] * 25) == "25 positions are needed; the model has 24."
    assert js(code, [40]) == "There is no token 40."
    assert js(code, []) == "There is no token to read."


# ---------------------------------------------------------------- the real base


def test_the_real_base_with_a_prefix(js, real, tokenizer):
    """Half precision in the file; PyTorch computes with the same rounded weights."""
    tuned = load_method(prefix_path("pirate"), load_base("gpt"))
    flat = to_flat(tuned.prefixes()["prefix"]).detach().half().float()  # (P, n_layer·2·C)
    ids = [tokenizer.eot_id, *tokenizer.encode("Nipa drew a green clock at the station in Letewick on Thursday.\n")]
    prefix = to_prefixes(flat, real.config.n_layer, real.config.n_head)
    with torch.no_grad():
        wanted = real(torch.tensor([ids]), prefix=prefix)
    script = export.prefix_file(prefix_path("pirate"))
    js("(text) => { MiniTransformer.files.pirate = text; }", base64.b64encode(script).decode())
    found = js(
        """(ids) => {
            const {prefix} = MiniTransformer.safetensors(MiniTransformer.bytes("pirate")).tensors;
            const logits = real.forward(ids, real.newCache(prefix), {logits: "all"}).logits;
            return [Array.from(logits), real.generate(ids, {prefix, most: 40, stop: tokenizer.eot})];
        }""",
        ids,
    )
    assert near(found[0], wanted)
    assert found[1] == generate(real, [ids], 40, stop_id=tokenizer.eot_id, prefix=prefix)[0]


# ---------------------------------------------------------------- tokens

TEXTS = [
    "The wind was cold and nobody spoke.",
    "前缀微调把可训练的前缀放在输入之前。",
    "emoji 🙂👩‍👩‍👧‍👦 and é, ŷ, ½, ①, and a BOM \ufeff in the middle",
    "  two  spaces \n\n\n and\ttabs \u0085 \u3000 at the end   ",
    "it's we'll I'D don't ''s 'x 12345 0x1F a_b",
    "\x1c\x1d odd separators \x00",
    "a" * 500 + " " * 300,
    "",
    "<|endoftext|> is text here",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_token_ids(js, tokenizer, text):
    found = js("(text) => { const ids = tokenizer.encode(text); return [ids, tokenizer.decode(ids)]; }", text)
    ids = tokenizer.encode(text)
    assert found == [ids, tokenizer.decode(ids)]


def test_ids_of_the_corpus(js, tokenizer):
    text = (export.DEFAULT_PATH.parent / "text" / "chinese.txt").read_text(encoding="utf-8")[:20_000]
    assert js("(text) => tokenizer.encode(text)", text) == tokenizer.encode(text)


def test_decode_and_show(js, tokenizer):
    ids = list(range(tokenizer.n_vocab))
    assert js("(ids) => ids.map(tokenizer.show)", ids) == [tokenizer.token(i) for i in ids]
    cut = [tokenizer.encode("🙂")[0], tokenizer.eot_id, *tokenizer.encode("猫")]
    assert js("(ids) => tokenizer.decode(ids)", cut) == tokenizer.decode(cut)


def test_long_texts_in_time(js, tokenizer):
    """10,000 letters without a space are one piece: the slowest that a reader can type."""
    text = "ab" * 5_000
    ids, milliseconds = js(
        "(text) => { const t = performance.now(), ids = tokenizer.encode(text); return [ids, performance.now() - t]; }",
        text,
    )
    assert ids == tokenizer.encode(text)
    assert milliseconds < 3000  # 300 ms on an idle machine


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"topK": 5}, {"topP": 0.8}, {"topK": 7, "topP": 0.3}])
def test_distribution(js, settings):
    settings = {"temperature": 1.3, **settings}
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).double() * 3
    logits[0, 3] = logits[0, 4]  # a tie
    wanted = apply_temperature(logits, settings["temperature"])
    if "topK" in settings:
        wanted = keep_top_k(wanted, settings["topK"])
    if "topP" in settings:
        wanted = keep_top_p(wanted, settings["topP"])
    code = "([logits, settings]) => Array.from(MiniTransformer.distribution(logits, settings))"
    found = torch.tensor(js(code, [logits[0].tolist(), settings]), dtype=torch.double)
    assert (found - wanted.softmax(-1)[0]).abs().max() < 1e-9


def test_draws_follow_the_distribution(js):
    code = """() => {
        const random = MiniTransformer.seeded(1), counts = [0, 0, 0];
        const logits = [Math.log(0.2), Math.log(0.5), Math.log(0.3)];
        for (let i = 0; i < 20000; i++) counts[MiniTransformer.choose(logits, {temperature: 1, random})]++;
        return counts;
    }"""
    for count, p in zip(js(code), (0.2, 0.5, 0.3), strict=True):
        assert abs(count / 20_000 - p) < 5 * math.sqrt(p * (1 - p) / 20_000)
    assert js("() => MiniTransformer.choose([1, 3, 3], {temperature: 0})") == 1


# ---------------------------------------------------------------- training a prefix

PAIRS = [([1, 7, 8, 9], [11, 12, 13, 0]), ([1, 22, 23], [15, 16, 17, 18, 19, 0]), ([1, 5], [6, 0])]


def test_gradient_is_autograds(js, tiny):
    start = torch.randn(3, 3 * 2 * 8, generator=torch.Generator().manual_seed(2))
    flat = start.clone().requires_grad_()
    batch = completion_batch([x for x, _ in PAIRS], [y[:-1] for _, y in PAIRS], end_id=0)
    loss, count = language_model_loss(lambda ids, **more: tiny(ids, prefix=to_prefixes(flat, 3, 2), **more), batch)
    loss.backward()
    found = js(
        """([flat, pairs]) => {
            const trainer = MiniTransformer.PrefixTrainer(base, flat), gradient = trainer.zero();
            const parts = pairs.map(([x, y]) => trainer.pair(x, y, gradient));
            const sum = (name) => parts.reduce((total, part) => total + part[name], 0);
            return {loss: sum("loss"), count: sum("count"), gradient: Array.from(gradient)};
        }""",
        [start.flatten().tolist(), PAIRS],
    )
    assert found["count"] == count
    assert found["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert flat.grad.abs().max() > 0.1  # there is a gradient to be compared
    assert near(found["gradient"], flat.grad)


def test_five_steps_are_adams(js, tiny):
    start = torch.randn(3, 3 * 2 * 8, generator=torch.Generator().manual_seed(3))
    method = PrefixTuning(3).attach(tiny)
    with torch.no_grad():
        method.encoders["prefix"].free.copy_(start)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.05, betas=(0.9, 0.95))
    batch = completion_batch([x for x, _ in PAIRS], [y[:-1] for _, y in PAIRS], end_id=0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss, count = language_model_loss(tiny, batch)
        (loss / count).backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 0.3)
        optimizer.step()
        losses.append(loss.item())
    found = js(
        """([flat, pairs]) => {
            const trainer = MiniTransformer.PrefixTrainer(base, flat, {lr: 0.05, clip: 0.3}), losses = [];
            for (let i = 0; i < 5; i++) {
                const gradient = trainer.zero();
                let loss = 0, count = 0;
                for (const [x, y] of pairs) {
                    const part = trainer.pair(x, y, gradient);
                    loss += part.loss;
                    count += part.count;
                }
                trainer.step(gradient, count);
                losses.push(loss);
            }
            return {losses, theta: Array.from(trainer.theta)};
        }""",
        [start.flatten().tolist(), PAIRS],
    )
    assert found["losses"] == pytest.approx(losses, abs=1e-3)
    assert near(found["theta"], method.encoders["prefix"].free.detach(), within=1e-3)
    assert losses[-1] < losses[0]
