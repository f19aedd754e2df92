"""Odd arguments to public functions, drawn from a seed: each outcome is a right answer or a UserError.

Every function has arguments that work, of which some are replaced by odd ones: of another kind, of no size, nan, huge,
negative, shifted. What comes back is looked at by a check of its own. A fault that was found is one more seed or case.
"""

import dataclasses
import math
import random
import warnings

import numpy as np
import pytest
import torch

from minitransformer.course.batches.denoising import infill
from minitransformer.course.batches.masking import mask_tokens
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import choose, generate, keep_top_k, keep_top_p, left_pad
from minitransformer.metrics import accuracy, distinct_n, f1, macro_f1, standard_error
from minitransformer.models.attention import Attention, Prefix
from minitransformer.models.bert import BertConfig
from minitransformer.models.classifier import Classifier
from minitransformer.models.gpt import GPTConfig
from minitransformer.models.seq2seq import Seq2SeqConfig
from minitransformer.text.batches import pad_right
from minitransformer.text.batches.completion import Completions, completion_batch, fit
from minitransformer.text.corpora import Windows, eval_windows
from minitransformer.text.tokenizer import Tokenizer, train_bpe
from minitransformer.training.loop import TrainConfig, evaluate, train
from minitransformer.training.losses import bert_loss, classification_loss, language_model_loss, seq2seq_loss
from tests.helpers import random_ids, tiny_bert, tiny_gpt, tiny_seq2seq

NUMBERS = [0, 1, -1, 2, 3, 7, 10**6, 0.0, 0.5, 1.0, -0.5, 1.5, 1e-39, 1e38, math.nan, math.inf, -math.inf, True, False]
OTHERS = [
    None,
    "",
    "3",
    "text",
    [],
    [1],
    [0.5, 0.5],
    (),
    {},
    b"x",
    1j,
    object(),
    torch.ones(2),
    np.float32(0.5),
    np.int64(2),
]
SIMPLE = [*NUMBERS, *OTHERS]


def odd_ids(draw, ids):
    """Token ids as somebody might have them."""
    return draw.choice(
        [
            ids.to(draw.choice([torch.int8, torch.int16, torch.int32, torch.uint8])),
            ids.float(),
            ids.bool(),
            ids[:0],
            ids[:, :0],
            ids[0],
            ids[None],
            ids + 1000,
            -ids - 1,
            ids.tolist(),
            ids.numpy(),
            ids.repeat(1, 20),
            None,
            "text",
        ]
    )


def odd_mask(draw, shape):
    """Attention masks as others' programs give them."""
    mask = torch.rand(shape) > 0.3
    mask[:, 0] = True
    return draw.choice(
        [
            mask,
            mask.long(),
            mask.float(),
            mask.to(torch.uint8),
            ~mask,
            torch.zeros(shape),
            mask.float().masked_fill(~mask, -math.inf),
            mask[:, :-1],
            mask[:1],
            mask[:, None],
            mask.tolist(),
            None,
            True,
        ]
    )


def outcome(function, *args, **kwargs):
    """What came back, or None where the arguments were refused in a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    except UserError as error:
        said = str(error)
        assert said[-1] in ".?)`" and len(said) > 15, f"this is no sentence: {said!r}"
        return None


# ------------------------------------------------------------------- settings


@pytest.mark.parametrize("config", [TrainConfig, GPTConfig, BertConfig, Seq2SeqConfig])
@pytest.mark.parametrize("seed", range(3))
def test_configs(config, seed):
    draw = random.Random(seed)
    fields = dataclasses.fields(config)
    given = {"steps": 3} if config is TrainConfig else {}
    for field in fields:
        for value in SIMPLE:
            made = outcome(config, **{**given, field.name: value})
            if made is None:
                continue
            kept = getattr(made, field.name)
            assert not isinstance(kept, str | bytes | dict | torch.Tensor), f"{field.name} = {value!r} was taken"
            for one in kept if isinstance(kept, list | tuple) else [kept]:
                assert math.isfinite(one) and one >= 0, f"{field.name} = {value!r} was taken"
    for _ in range(30):
        outcome(config, **{**given, **{field.name: draw.choice(SIMPLE) for field in draw.sample(fields, 2)}})


# ------------------------------------------------------------------- models and losses


@pytest.mark.parametrize("seed", range(25))
def test_models(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    for make in (tiny_gpt, tiny_bert, tiny_seq2seq):
        model, ids = make(), random_ids(3, 6, seed=seed)
        more = {"source": random_ids(3, 5, seed=seed)} if make is tiny_seq2seq else {}
        plain = model(ids, **more)
        mask = odd_mask(draw, (3, 6))
        given = odd_ids(draw, ids) if draw.random() < 0.5 else ids
        found = outcome(model, given, attention_mask=mask, **more)
        if found is not None:
            assert found.isfinite().all() and found.dim() == 3
            if given is ids and mask is None:
                assert torch.equal(found, plain)
            if given is ids and isinstance(mask, torch.Tensor):
                assert torch.equal(found, model(ids, attention_mask=mask.bool(), **more)), "a mask means ones and zeros"
    head = Classifier(tiny_gpt(), 2).eval()
    found = outcome(head, odd_ids(draw, ids), odd_mask(draw, (3, 6)))
    assert found is None or (found.isfinite().all() and found.shape[1] == 2)


@pytest.mark.parametrize("seed", range(25))
def test_attention(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    layer, x = Attention(8, 2, causal=draw.random() < 0.5).eval(), torch.randn(2, 4, 8)
    k, v = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4)
    prefix = draw.choice(
        [
            None,
            Prefix(k, v),
            Prefix(k[:1], v[:1]),
            Prefix(k.double(), v.half()),
            Prefix(k[:, :, :0], v[:, :, :0]),
            Prefix(k[:, :1], v[:, :1]),
            Prefix(k, v[:, :, 1:]),
            Prefix(k[0], v[0]),
            Prefix(None, v),
            (k, v, v),
            k,
            "prefix",
        ]
    )
    found = outcome(layer, x, attention_mask=odd_mask(draw, (2, 4)), prefix=prefix)
    assert found is None or (found.shape == x.shape and found.isfinite().all() and found.dtype == x.dtype)


@pytest.mark.parametrize("seed", range(25))
def test_losses(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    ids = random_ids(3, 6, seed=seed)

    def labels():
        return draw.choice(
            [ids, ids - 1, ids + 39, ids[:, 1:], ids.float(), ids.to(torch.int16), torch.full_like(ids, -100), ids[0]]
        )

    masked = mask_tokens(ids, 2, [0, 1, 2], 40)
    bert = {
        "ids": masked[0],
        "labels": masked[1],
        "types": torch.zeros_like(ids),
        "next_label": torch.tensor([0, 1, 1]),
    }
    for loss, model, batch in (
        (language_model_loss, tiny_gpt(), {"ids": ids}),
        (seq2seq_loss, tiny_seq2seq(), {"ids": ids, "source": random_ids(3, 5, seed=seed)}),
        (bert_loss, tiny_bert(), bert),
        (classification_loss, Classifier(tiny_gpt(), 2).eval(), {"ids": ids, "label": torch.tensor([0, 1, 1])}),
    ):
        change = draw.choice(["labels", "attention_mask", "ids", "label"])
        if change == "attention_mask":
            batch["attention_mask"] = odd_mask(draw, (3, 6))
            if batch["attention_mask"] is None:
                del batch["attention_mask"]
        elif change == "ids":
            batch["ids"] = odd_ids(draw, ids)
        elif change == "label" and "label" in batch:
            batch["label"] = draw.choice([torch.tensor([0, 2, 1]), torch.tensor([0.0, 1, 1]), torch.tensor([1])])
        elif "label" not in batch:
            batch["labels"] = labels()
        if not isinstance(batch["ids"], torch.Tensor):
            continue  # a batch is a dictionary of tensors
        found = outcome(loss, model, batch)
        assert found is None or (found[0].isfinite() and found[0] >= 0 and isinstance(found[1], int))


# ------------------------------------------------------------------- writing

WRITING = {
    "max_new_tokens": [0, 1, 3, 2.5, -1, None, "3", math.nan, True],
    "stop_id": [None, 3, [3, 5], (3,), {3}, torch.tensor([3, 5]), np.array([3]), 99, -1, [99], "3", 3.0, [], [None]],
    "use_cache": [True, False, None, 1, "no"],
    "prompts": [
        [[5, 6], [7]],
        torch.tensor([[5, 6]]),
        np.array([[5, 6]]),
        [5, 6],
        5,
        [[]],
        [],
        "text",
        ["text"],
        [[5.5]],
        [["a"]],
        [[5], None],
        torch.ones(1, 2),
        torch.tensor(5),
        [[99]],
        [[-1]],
        [[1] * 40],
        {},
        None,
    ],
}
SAMPLING = {
    "temperature": [0, 0.7, 1e-39, 5e-324, 1e30, math.nan, math.inf, -1, None, "1", True],
    "top_k": [None, 1, 5, 10**9, 0, -1, 2.5, math.nan, "5"],
    "top_p": [None, 0.5, 1, 1.0, 1e-9, 0, 1.5, -0.1, math.nan, "1"],
    "seed": [None, 0, -5, 2**40, 2**70, 1.5, "a"],
}
BEAMS = {
    "n_beam": [1, 2, 3, 0, -1, 2.5, 10**6, None, "2", math.nan],
    "length_penalty": [0, 1, -2, 5.5, math.nan, math.inf, None, "1"],
}


@pytest.mark.parametrize("seed", range(40))
def test_writing(seed):
    draw = random.Random(seed)
    for write, settings in ((generate, SAMPLING), (beam_search, BEAMS)):
        arguments = {"model": tiny_gpt(), "prompts": [[5, 6], [7]], "max_new_tokens": 3}
        choices = {**WRITING, **settings}
        for name in draw.sample(list(choices), draw.choice([1, 1, 2, 3])):
            arguments[name] = draw.choice(choices[name])
        texts = outcome(write, **arguments)
        if texts is None:
            continue
        texts = [[h.tokens for h in row] for row in texts] if write is beam_search else [[row] for row in texts]
        assert len(texts) == len(arguments["prompts"])
        for token in (token for row in texts for text in row for token in text):
            assert isinstance(token, int) and 0 <= token < 40


@pytest.mark.parametrize("seed", range(20))
def test_choosing(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    logits = torch.randn(3, 50) * draw.choice([0.0, 1.0, 100.0, 1e4])
    kind = draw.choice([torch.float16, torch.bfloat16, torch.float32, torch.float64])
    logits = logits.to(kind)
    if draw.random() < 0.3:
        logits[:, draw.randrange(50)] = draw.choice([-math.inf, math.inf, math.nan])
    chosen = outcome(
        choose, logits, **{name: draw.choice(SAMPLING[name]) for name in ("temperature", "top_k", "top_p")}
    )
    assert chosen is None or (chosen.shape == (3, 1) and ((chosen >= 0) & (chosen < 50)).all())
    if chosen is not None:
        assert logits.gather(1, chosen).isfinite().all(), "what is ruled out was chosen"
    if logits.isfinite().all():
        assert (keep_top_k(logits, 5).isfinite().sum(1) >= 5).all()
        assert (keep_top_p(logits, draw.choice([1e-9, 0.5, 1.0])).isfinite().sum(1) >= 1).all()


# ------------------------------------------------------------------- text and batches


@pytest.mark.parametrize("seed", range(20))
def test_batches(seed):
    draw = random.Random(seed)
    rows = draw.choice([[[1, 2], [3]], [[1]], [], [[]], [[1], []]])
    found = outcome(pad_right, rows, 0)
    assert found is None or found[1].sum(1).tolist() == [len(row) for row in rows]
    outcome(left_pad, rows)
    found = outcome(completion_batch, rows, draw.choice([rows, rows[1:], [[]] * len(rows)]), 9)
    assert found is None or found["ids"].shape == found["labels"].shape
    n = draw.choice(NUMBERS)
    found = outcome(fit, [1, 2, 3], [4, 5], n)
    assert found is None or len(found.prompt) + len(found.target) <= n
    found = outcome(Completions, [[1]] * 5, [[2]] * 5, 0, draw.choice(NUMBERS), draw.choice([4, 9]))
    assert found is None or found(3)["ids"].shape[1] == 3
    stream = torch.arange(draw.choice([0, 1, 5, 100]))
    for make in (Windows, eval_windows):
        found = outcome(make, stream, draw.choice(NUMBERS), draw.choice(NUMBERS))
        assert found is None or (found if make is eval_windows else [found(0), found(7)])[0]["ids"].numel() > 0
    for fraction, span in ((draw.choice(NUMBERS), 3.0), (0.3, draw.choice([x for x in NUMBERS if x != 1e38]))):
        found = outcome(infill, [5, 6, 7], 2, torch.Generator(), fraction, span)
        assert found is None or len(found) >= 1
        found = outcome(mask_tokens, random_ids(2, 5), 2, [0, 1, 2], draw.choice([40, *NUMBERS]), None, fraction)
        assert found is None or found[0].shape == (2, 5)


SIGNS = [
    *"ab \n\t.,0é文",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "\u0378",
    "\U0003fffd",
    "<|endoftext|>",
    "\x00",
    "\u202e",
    "́",
]
TOKENIZER = Tokenizer(train_bpe("a b ab 文 é. " * 20, 262))


@pytest.mark.parametrize("seed", range(20))
def test_text_comes_back(seed):
    draw = random.Random(seed)
    text = "".join(draw.choice(SIGNS) for _ in range(draw.randrange(30)))
    for allow_special in (False, True):
        ids = TOKENIZER.encode(text, allow_special)
        assert TOKENIZER.decode(ids) == text and all(0 <= i < TOKENIZER.n_vocab for i in ids)
        assert TOKENIZER.encode_batch([text, "", text], allow_special) == [ids, [], ids]
    for value in [*SIMPLE, "\ud800"]:
        found = outcome(TOKENIZER.encode, value)
        assert found is None or isinstance(value, str)
        found = outcome(TOKENIZER.decode, [value])
        assert found is None or isinstance(found, str)


# ------------------------------------------------------------------- training and measures


@pytest.mark.parametrize("seed", range(12))
def test_training(seed):
    draw = random.Random(seed)
    model = tiny_gpt().requires_grad_(True)
    batch = {"ids": random_ids(2, 6, seed=seed)}
    arguments = {"model": model, "batches": lambda i: batch, "config": TrainConfig(steps=2), "progress": False}
    name, value = draw.choice(
        [
            *(("batches", x) for x in (None, [batch], batch, 3)),
            *(("config", x) for x in (None, 3, {"steps": 2})),
            *(("model", x) for x in (None, "gpt", batch)),
            *(("valid", x) for x in ([], [batch], (batch,), iter([batch]))),
            ("config", TrainConfig(steps=2, lr=1e30, clip=0.0)),
            ("config", TrainConfig(steps=2, lr=1e-30)),
        ]
    )
    log = outcome(train, **{**arguments, name: value})
    assert not model.training or log is None
    assert all(p.grad is None for p in model.parameters())
    if log is not None:
        assert len(log.train) == 2 and all(math.isfinite(row["loss"]) for row in log.train)
        assert all(p.isfinite().all() for p in model.parameters()), "a run that ends well has finite weights"
        assert math.isfinite(evaluate(model, [batch]))


@pytest.mark.parametrize("seed", range(15))
def test_measures(seed):
    draw = random.Random(seed)
    some = [draw.choice([1, "a", None, 1.5, math.nan, True]) for _ in range(draw.randrange(4))]
    other = [draw.choice([1, "a", None, 1.5, True]) for _ in range(draw.choice([len(some), len(some), 2]))]
    for measure in (accuracy, macro_f1, lambda a, b: f1(a, b, "a")):
        found = outcome(measure, some, other)
        assert found is None or 0 <= found <= 1
    found = outcome(standard_error, draw.choice(NUMBERS), draw.choice(NUMBERS))
    assert found is None or 0 <= found <= 0.5
    found = outcome(distinct_n, [other, some], draw.choice(NUMBERS))
    assert found is None or 0 < found <= 1
