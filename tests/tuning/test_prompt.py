"""Prompt tuning and P-tuning: vectors among the words, and what a base with a larger vocabulary would say to them."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from minitransformer.errors import UserError
from minitransformer.generation.sampling import generate
from minitransformer.models.attention import Prefix
from minitransformer.models.classifier import Classifier
from minitransformer.tuning import PromptTuning, PTuning, attached, load, nearest_words, virtual_ids
from tests.helpers import assert_close, mask_of, random_ids, tiny_bert, tiny_gpt, tiny_seq2seq
from tests.tuning.helpers import BASES, LENGTHS, B, P, T, batch_for, insert, loss_of, outputs, train_steps

V, C = 40, 8
WORDS = list(range(V, V + P))  # the ids that `with_words` gives to virtual tokens


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@torch.no_grad()
def with_words(base, vectors):
    """The oracle: a base whose embedding table has the vectors as further rows, so that they are ordinary words."""
    larger = copy.deepcopy(base)
    larger.config = dataclasses.replace(base.config, vocab_size=V + len(vectors))
    larger.token_embedding = nn.Embedding(V + len(vectors), C)
    larger.token_embedding.weight.copy_(torch.cat([base.token_embedding.weight, vectors]))
    if hasattr(larger, "final_logits_bias"):
        larger.final_logits_bias = torch.cat([larger.final_logits_bias, torch.zeros(len(vectors))])
    return larger


def logits_of(larger, *args, **inputs):
    """What the oracle says of the words that the base has."""
    return larger(*args, **inputs)[..., :V]


# --------------------------------------------------------------------------------------- prompt tuning


def test_in_a_gpt_the_prompt_stands_in_front_and_its_outputs_are_cut_off():
    """Trap "logit length" (trl#3812, peft#482): prompt tuning computes P + T logits; T come back."""
    base, ids = tiny_gpt(), random_ids(B, T)
    with attached(base, method := PromptTuning(P)):
        output = base(ids)
        hidden = base(ids, return_hidden=True)
    assert output.shape == (B, T, V) and hidden.shape == (B, T, C)
    larger = with_words(base, method.free)
    assert_close(output, logits_of(larger, insert(ids, 0, WORDS))[:, P:], "X = [P; E(input)], 001 §3.1.4")


def test_in_a_gpt_at_says_where_in_the_text():
    base, ids, at = tiny_gpt(), random_ids(B, T), torch.rand(B, T) > 0.5
    with attached(base, PromptTuning(P)):
        assert_close(base(ids, at=at), base(ids)[at], "`at` counts the text's positions, without the prompt")


def test_only_negative_ids_are_virtual_tokens():
    base, ids = tiny_gpt(), torch.tensor([[0, 1, 0]])
    with attached(base, method := PromptTuning(P)):
        output = base(ids)
    assert_close(output, logits_of(with_words(base, method.free), insert(ids, 0, WORDS))[:, P:], "0 is a word")


def test_in_a_gpt_left_padding_changes_nothing():
    base, ids = tiny_gpt(), random_ids(B, T)
    with attached(base, PromptTuning(P)):
        together = base(ids, attention_mask=mask_of(LENGTHS, T, left=True))
        for row, n in enumerate(LENGTHS):
            alone = base(ids[row : row + 1, T - n :])
            assert_close(together[row, T - n :], alone[0], f"row {row}: padding was read, or moved the text")


def test_in_a_gpt_a_prompt_is_the_prefix_that_the_base_computes_from_it():
    """002 compares the two: a prompt is a prefix whose keys and values are not free, but follow from P · C numbers."""
    base, ids, cache = tiny_gpt(), random_ids(B, T), tiny_gpt().new_cache()
    with attached(base, method := PromptTuning(P)):
        prompted = base(ids)
    base(torch.tensor([virtual_ids(P)]), cache=cache, vectors=method.free)
    prefix = [Prefix(*layer.columns()) for layer in cache]
    assert_close(base(ids, prefix=prefix), prompted, "the prompt's keys and values, as a prefix")


def test_in_a_bert_the_class_token_stays_at_index_0():
    """000 §5 puts vectors in front of a BERT's input; its pooler then reads a virtual token for [CLS]."""
    base = tiny_bert()
    ids, attention_mask, types = random_ids(B, T), mask_of(LENGTHS, T), (torch.arange(T) > 2).long().expand(B, T)
    with attached(base, method := PromptTuning(P)):
        output = base(ids, attention_mask=attention_mask, types=types)
        assert output.shape == (B, T, C)
    larger = with_words(base, method.free)
    whole = larger(
        insert(ids, 1, WORDS), attention_mask=insert(attention_mask, 1, [1] * P), types=insert(types, 1, [0] * P)
    )
    expected = torch.cat([whole[:, :1], whole[:, 1 + P :]], dim=1)
    assert_close(
        output[attention_mask], expected[attention_mask], "[CLS], then the prompt (sentence A), then the words"
    )
    model = Classifier(base, 2)
    with attached(model, method):
        assert_close(
            model(ids, attention_mask),
            model.head(base.pooled(base(ids, attention_mask=attention_mask))),
            "a class from [CLS]",
        )


def test_in_an_encoder_decoder_the_prompt_stands_in_front_of_the_source():
    base = tiny_seq2seq()
    batch = {name: batch_for(base)[name] for name in ("ids", "attention_mask", "source", "source_mask")}
    at = mask_of([1, 0, 3], T)
    with attached(base, method := PromptTuning(P)):
        output, some = base(**batch), base(**batch, at=at)
    larger = with_words(base, method.free)
    longer = {"source": insert(batch["source"], 0, WORDS), "source_mask": insert(batch["source_mask"], 0, [1] * P)}
    expected = logits_of(larger, **{**batch, **longer})
    real = batch["attention_mask"]
    assert_close(output[real], expected[real], "the prompt is read with the source, by the encoder")
    assert_close(some, output[at], "`at` counts the target's positions")


@pytest.mark.parametrize("attention_mask", [False, True])
def test_arguments_by_position_are_arguments_by_name(attention_mask):
    base, ids = tiny_gpt(), random_ids(B, T)
    mask = mask_of(LENGTHS, T, left=True) if attention_mask else None
    with attached(base, PromptTuning(P)):
        cache = base.new_cache()
        by_position = base(ids[:, :4], None if mask is None else mask[:, :4], None, cache)
        assert cache[0].length == P + 4, "the prompt goes into a cache that was given by position"
        later = base(ids[:, 4:], mask, None, cache)
        assert_close(
            torch.cat([by_position, later], dim=1), base(ids=ids, attention_mask=mask), "by position ≡ by name"
        )


@pytest.mark.parametrize("kind", BASES)
def test_what_it_starts_as(kind):
    base = BASES[kind]()
    table = base.token_embedding.weight
    torch.manual_seed(5)
    with attached(base, method := PromptTuning(P, init=[7, 9])):
        assert torch.equal(method.free, table[[7, 9, 7]])
    with attached(base, method := PromptTuning(P)):
        distance = (method.free[:, None] - table).abs().sum(-1).amin(dim=1)
        assert (distance == 0).all(), "vocabulary: each vector begins as some word's embedding"
    with attached(base, method := PromptTuning(20, init="random")):
        assert 0.6 < method.free.std() / table.std() < 1.6, "random vectors of the size that embeddings have"
        assert ((method.free[:, None] - table).abs().sum(-1) > 0).all()


def test_before_it_is_on_a_base_it_has_no_vectors():
    assert PromptTuning(P).vectors() is None, "how wide they are, and what they begin as, only the base can say"


def test_the_embedding_table_is_frozen_and_the_start_is_a_copy():
    """001 §3.1.4 trains "the embedding layer"; it is only the virtual tokens' own vectors that learn."""
    for method in (PromptTuning(P, init=[7, 8, 9]), PTuning(P, init=[7, 8, 9])):
        base = tiny_gpt()
        table = base.token_embedding.weight.clone()
        method.attach(base)
        free = method.free.clone()
        train_steps(base, batch_for(base, method))
        assert torch.equal(base.token_embedding.weight, table), "the embedding table was trained"
        assert not torch.equal(method.free, free)


# -------------------------------------------------------------------------------------------- P-tuning


def places(kind):
    """Virtual tokens of a template, in the middle, in two runs, and at the end: ids, and where they are real."""
    base = BASES[kind]()
    ids = random_ids(1, T)
    first, second, third = virtual_ids(3)
    yield base, insert(ids, 3, [first, second, third])
    yield base, insert(insert(ids, 5, [third]), 2, [first, second])
    yield base, insert(insert(ids, T, [first, second]), 1, [third])


@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("kind", BASES)
def test_virtual_tokens_stand_where_the_template_says(kind, encoder):
    for base, text in places(kind):
        inputs = {"ids": random_ids(1, T), "source": text} if kind == "seq2seq" else {"ids": text}
        with attached(base, method := PTuning(3, encoder=encoder)):
            output = base(**inputs)
        larger = with_words(base, method.vectors())
        asked = torch.where(text < 0, V - 1 - text, text)  # virtual token -1 - i is word V + i
        expected = larger(**{**inputs, "source" if kind == "seq2seq" else "ids": asked})
        expected = expected if kind == "bert" else expected[..., :V]
        assert_close(output, expected, f"virtual tokens at {(text[0] < 0).nonzero()[:, 0].tolist()}")


def test_rows_of_a_batch_may_have_their_templates_elsewhere():
    base = tiny_gpt()
    ids = torch.cat([text for _, text in places("gpt")])
    attention_mask = mask_of([T + P, T + P, T + P - 1], T + P, left=True)
    with attached(base, PTuning(3)):
        together = base(ids, attention_mask=attention_mask)
        for row, n in enumerate((T + P, T + P, T + P - 1)):
            alone = base(ids[row : row + 1, T + P - n :])
            assert_close(together[row, T + P - n :], alone[0], f"row {row} has another template")


def test_the_encoder_is_a_bidirectional_lstm_and_an_mlp():
    """Liu et al. 2021: h_i = MLP([LSTM forwards; LSTM backwards]), so that each virtual token knows the others."""
    base = tiny_gpt()
    with attached(base, method := PTuning(P)):
        moved = method.vectors().detach()
        with torch.no_grad():
            method.free[0] += torch.randn(C)  # another direction, for what it reads has the size 1
        moved = (method.vectors() - moved).abs().amax(dim=1)
    assert (moved > 1e-6).all(), "a change of the first vector reaches only itself, or not those after it"
    with attached(base, method := PTuning(P)):
        before = method.vectors().detach()
        with torch.no_grad():
            method.free[-1] += torch.randn(C)
        assert ((method.vectors() - before).abs().amax(dim=1) > 1e-6).all(), "it does not reach those before it"


def test_the_encoder_step_by_step():
    """Each row normalised by itself, torch's own LSTM over them, then W_2 relu(W_1 h + b_1) + b_2 at each position."""
    with attached(tiny_gpt(), method := PTuning(P)), torch.no_grad():
        rows = torch.stack([(row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() for row in method.free])
        lstm = nn.LSTM(C, C, num_layers=2, bidirectional=True)
        lstm.load_state_dict(method.lstm.state_dict())
        states, _ = lstm(rows)  # (P, 2·C)
        first, *_, second = method.mlp
        for i, h in enumerate(states):
            inside = (first.weight @ h + first.bias).clamp(min=0)
            expected = second.weight @ inside + second.bias
            assert_close(method.vectors()[i], expected, f"virtual token {i} = MLP(LSTM(...))", 1e-6)


def test_without_its_encoder_after_saving_it_says_the_same(tmp_path):
    base = tiny_bert()
    with attached(base, method := PTuning(P)):
        batch = batch_for(base, method)
        train_steps(base, batch)
        output = outputs(base, batch)
        assert method.report().trained > 10 * method.report().stored == 10 * P * C
        method.save(tmp_path / "p.safetensors")
    loaded = load(tmp_path / "p.safetensors", base)
    assert loaded.lstm is None and loaded.mlp is None and not loaded.encoder
    assert torch.equal(outputs(base, batch), output)


# --------------------------------------------------------------------------------------- nearest words


def test_nearest_words_by_a_plain_loop():
    base = tiny_gpt()
    vectors = torch.randn(P, C)
    found = nearest_words(vectors, base, k=4)
    for row, vector in enumerate(vectors):
        cosine = [float(vector @ w / (vector.norm() * w.norm())) for w in base.token_embedding.weight.detach()]
        order = sorted(range(V), key=lambda i, c=cosine: -c[i])[:4]
        assert [token for token, _ in found[row]] == order
        for token, value in found[row]:
            assert abs(value - cosine[token]) < 1e-5
    with attached(base, method := PromptTuning(2, init=[7, 9])):
        found = nearest_words(method.vectors(), base)
    assert [row[0][0] for row in found] == [7, 9], "a word is nearest to itself"
    assert [len(row) for row in found] == [5, 5], "five, if no number is said"


# -------------------------------------------------------------------------------------------- refusals


def on(make_base, method, call):
    def run():
        base = make_base()
        method.attach(base)
        call(base)

    return run


def plain(base):
    base(random_ids(2, T))


REFUSALS = {
    "no length": (lambda: PromptTuning(0), "length = 0: a method without virtual tokens would tune nothing"),
    "half a token": (lambda: PTuning(2.5), "length = 2.5: it has to be a whole number"),
    "an unknown init": (lambda: PTuning(P, init="zeros"), "init = 'zeros': it has to be \"random\""),
    "no word": (lambda: PromptTuning(P, init=[]), r"init = \[\]: it has to be"),
    "a word that there is not": (lambda: PromptTuning(P, [4, 40]).attach(tiny_gpt()), "Token id 40 in row 0 at pos"),
    "a negative word": (lambda: PTuning(P, [-2]).attach(tiny_gpt()), r"init = \[-2\]: it has to be"),
    "as long as the model": (lambda: PromptTuning(24).attach(tiny_bert()), "24 virtual tokens leave no room .* = 24"),
    "prompt and text too long": (
        on(tiny_gpt, PromptTuning(P), lambda m: m(random_ids(1, 22))),
        "25 positions are needed .* n_positions = 24",
    ),
    "a template without virtual tokens": (
        on(tiny_gpt, PTuning(P), plain),
        r"Row 0 has the virtual tokens \[\] where a template of length 3 belongs: put virtual_ids\(3\)",
    ),
    "one row without them": (
        on(tiny_bert, PTuning(1), lambda m: m(torch.tensor([[4, -1], [4, 5]]))),
        r"Row 1 has the virtual tokens \[\]",
    ),
    "a source without them": (
        on(tiny_seq2seq, PTuning(1), lambda m: m(torch.tensor([[4, -1]]), source=torch.tensor([[4, 5]]))),
        "Row 0 has",
    ),
    "a template in prompt tuning": (
        on(tiny_gpt, PromptTuning(P), lambda m: m(torch.tensor([[4, 5], [5, -1]]))),
        "Row 1 has the virtual token -1 at position 1; prompt tuning puts its own in front",
    ),
    "vectors beside a prompt": (
        on(tiny_gpt, PromptTuning(P), lambda m: m(random_ids(1, T), vectors=torch.zeros(P, C))),
        "'vectors' was given to a base that a PromptTuning is on",
    ),
    "vectors beside a template": (
        on(tiny_gpt, PTuning(1), lambda m: m(torch.tensor([[4, -1]]), vectors=torch.zeros(1, C))),
        "'vectors' was given to a base that a PTuning is on",
    ),
    "an encoder-decoder without a source": (
        on(tiny_seq2seq, PromptTuning(P), lambda m: m(random_ids(1, T))),
        "writes about a source",
    ),
}


@pytest.mark.parametrize(("make", "says"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_said(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_a_refused_call_leaves_the_next_one_whole():
    base, ids = tiny_gpt(), random_ids(B, T)
    with attached(base, PromptTuning(P)):
        expected = base(ids)
        with pytest.raises(UserError):
            base(random_ids(1, 22))
        assert torch.equal(base(ids, at=torch.ones(B, T, dtype=torch.bool)), expected.flatten(0, 1))
        assert torch.equal(base(ids), expected)
        assert len(generate(base, [[5]], 4)[0]) == 4
    assert loss_of(base)(base, batch_for(base))[1] > 0
