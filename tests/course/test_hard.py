"""Hard prompts against sentences written out, and scores against plain loops: one example and one token at a time."""

import math
import random
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from minitransformer.course.answers import AnswerVectors, by_hand, nearest
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.course.data import default_tokenizer
from minitransformer.course.hard import Template, label_log_probs, predict, with_examples
from minitransformer.errors import UserError
from minitransformer.metrics import accuracy
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning.method import load
from minitransformer.tuning.prefix import PrefixTuning
from minitransformer.tuning.prompt import PTuning
from tests.helpers import BERT_CONFIG, GPT_CONFIG, assert_close, tiny_bert, tiny_gpt, tiny_seq2seq

TOKENIZER = default_tokenizer()
SIZES = {"vocab_size": TOKENIZER.n_vocab, "n_positions": 64}
MODELS = {"bert": lambda **more: tiny_bert(config=replace(BERT_CONFIG, **SIZES, **more))}
MODELS["gpt"] = lambda **more: tiny_gpt(config=replace(GPT_CONFIG, **SIZES, **more))

CLOZE = Template("{text} All in all, it was {mask}.")
QA = Template("Question: {text} Answer: {mask}")
CLASSES = Template("Review: {text} Sentiment (good or bad): {mask}")
REVIEWS = [
    {"text": "The music is not dull at all.", "label": "positive"},
    {"text": "I want my money back.", "label": "negative"},
    {"text": "Go and see it. The ending is clever, the acting was warm from the first minute.", "label": "positive"},
]
# Of one token, of two, and of three and more; both labels have words that begin alike.
WORDS = {"positive": ["good", "great", "wonderful"], "negative": ["bad", "dull", "terrible", "wonderless"]}
ANSWERS = by_hand(WORDS, TOKENIZER)


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


# --------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize("text", [CLOZE.text, QA.text, CLASSES.text, "{mask}! {text}", "{text}\n\n  {mask} {{}}"])
@pytest.mark.parametrize("word", ["good", "terrible"])
def test_a_gap_filled_in_is_the_sentence_written_out(text, word):
    template = Template(text)
    answer = TOKENIZER.encode(" " + word)
    for example in REVIEWS:
        ids, places = template.for_bert(example, TOKENIZER, len(answer))
        assert [ids[place] for place in places] == [TOKENIZER.mask_id] * len(answer)
        assert ids.count(TOKENIZER.mask_id) == len(answer)
        for place, token in zip(places, answer, strict=True):
            ids[place] = token
        assert (ids[0], ids[-1]) == (TOKENIZER.cls_id, TOKENIZER.sep_id)
        written = template.written(example, word)
        # A text that starts with the gap has one space in front, that of the answer.
        assert ids[1:-1] == TOKENIZER.encode(" " + written), (
            f"{written!r} has other tokens than the template with its gap filled in: is the space before {{mask}} "
            "there twice, or not at all?"
        )


@pytest.mark.parametrize("template", [QA, CLASSES])
def test_a_gpt_reads_all_up_to_the_answer(template):
    for example in REVIEWS:
        prompt = template.for_gpt(example, TOKENIZER)
        written = TOKENIZER.encode(template.written(example, "terrible"))
        assert prompt + TOKENIZER.encode(" terrible") == [TOKENIZER.eot_id, *written]


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_only_text(seed):
    # A text may spell slots, braces and special tokens: they are characters.
    draw = random.Random(seed)
    pieces = [" ", "  ", "\n", "{mask}", "{text}", "{", "}}", "[MASK]", "[SEP]", "<|endoftext|>", "good", "好", "é"]
    text = "".join(draw.choices(pieces, k=draw.randrange(8)))
    ids, places = CLOZE.for_bert({"text": text}, TOKENIZER)
    assert ids.count(TOKENIZER.mask_id) == 1
    assert TOKENIZER.decode(ids[1 : places[0]]) == f" {text} All in all, it was"


def test_virtual_tokens_are_numbered_through():
    template = Template("{virtual:2} {text} It {virtual:1} was {virtual:1} {mask}. {virtual:2}")
    ids, places = template.for_bert({"text": "Good."}, TOKENIZER)
    parts = [[-1, -2], TOKENIZER.encode(" Good. It"), [-3], TOKENIZER.encode(" was"), [-4, TOKENIZER.mask_id]]
    parts += [TOKENIZER.encode("."), [-5, -6]]
    assert ids[1:-1] == sum(parts, [])
    assert places == [ids.index(TOKENIZER.mask_id)]
    assert template.n_virtual == 6


def test_after_virtual_tokens_the_gap_needs_no_space():
    # No word stands before it there, as at the start of a text.
    for text, gap in (("{virtual:2}{mask} {text}", 3), ("{text} So{virtual:1}{mask}", -2)):
        ids, places = Template(text).for_bert({"text": "Good."}, TOKENIZER)
        assert places == [range(len(ids))[gap]] and ids[places[0]] == TOKENIZER.mask_id and ids[places[0] - 1] < 0
    with pytest.raises(UserError, match="space before {mask}"):
        Template("{virtual:1} So{mask}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("It was good.", "has 0 {mask}"),
        ("It was {mask} and {mask}.", "has 2 {mask}"),
        ("{text} It was({mask})", "space before {mask}"),
        ("{text}{mask}", "space before {mask}"),
        ("{text} {mask", "not balanced"),
        ("{text}} {mask}", "not balanced"),
        ("{virtual} {mask}", "unknown slot"),
        ("{virtual:0} {mask}", "unknown slot"),
        ("{virtual:many} {mask}", "unknown slot"),
        ("{text:3} {mask}", "unknown slot"),
        ("{text!r} {mask}", "unknown slot"),
        ("{} {mask}", "unknown slot"),
        ("{a.b} {mask}", "unknown slot"),
        ("{text} {mask:2}", "unknown slot"),
    ],
)
def test_templates_that_are_none(text, sentence):
    with pytest.raises(UserError) as error:
        Template(text)
    assert sentence in str(error.value)
    assert repr(text) in str(error.value), "the message should show which template it is"


def test_templates_that_do_not_fit():
    with pytest.raises(UserError, match="'text' has to be a text, not None; the example has review"):
        CLOZE.for_bert({"review": "Fine."}, TOKENIZER)
    with pytest.raises(UserError, match="'text' has to be a text, not 3"):
        QA.for_gpt({"text": 3}, TOKENIZER)
    with pytest.raises(UserError, match="has to end with {mask}"):
        CLOZE.for_gpt(REVIEWS[0], TOKENIZER)
    with pytest.raises(UserError, match="have no words"):
        Template("{virtual:2} {mask}").written({}, "good")


# ---------------------------------------------------------------------------------------------- few-shot


def test_solved_examples_stand_before_the_question():
    curly = {"text": "A {film} in {mask}}.", "label": "negative"}
    few = with_examples(QA, [REVIEWS[0], curly], ANSWERS, separator=". ")
    question = "Question: I want my money back. Answer:"
    shown = f"Question: {REVIEWS[0]['text']} Answer: good. Question: {curly['text']} Answer: bad. {question}"
    assert TOKENIZER.decode(few.for_gpt(REVIEWS[1], TOKENIZER)[1:]) == shown
    ids, places = few.for_bert(REVIEWS[1], TOKENIZER, 2)
    assert TOKENIZER.decode(ids[1 : places[0]]) == " " + shown
    assert with_examples(QA, [], ANSWERS).text == QA.text
    apart = with_examples(QA, [REVIEWS[1]], ANSWERS).text
    assert apart == f"Question: {REVIEWS[1]['text']} Answer: bad {QA.text}", "a space, if nothing else is said"


def test_solved_examples_that_cannot_be_shown():
    with pytest.raises(UserError, match="the label 'neutral'; there are words for positive, negative"):
        with_examples(QA, [{"text": "So.", "label": "neutral"}], ANSWERS)
    with pytest.raises(UserError, match="field 'verdict'"):
        with_examples(QA, REVIEWS, ANSWERS, label="verdict")
    with pytest.raises(UserError, match="have no words"):
        with_examples(Template("{virtual:2} {text} {mask}"), REVIEWS, ANSWERS)


# --------------------------------------------------------------------------------------- answer mappings


def test_words_have_their_space():
    assert ANSWERS["positive"]["good"] == TOKENIZER.encode("so good")[-1:]
    assert by_hand({"a": " good", "b": ["bad "]}, TOKENIZER) == by_hand({"a": ["good"], "b": "bad"}, TOKENIZER)
    lengths = {len(ids) for own in ANSWERS.values() for ids in own.values()}
    assert len(lengths) >= 3, f"these tests want words of different lengths; they have {lengths}"
    for own in ANSWERS.values():
        for word, ids in own.items():
            assert TOKENIZER.decode(ids) == " " + word


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "at least two"),
        ({"a": "good"}, "at least two"),
        ({"a": "good", "b": []}, "'b' has no words"),
        ({"a": "good", "b": " "}, "not empty"),
        ({"a": "good", "b": ["bad", "[MASK]"]}, "no special token"),
        ({"a": "good", "b": "end<|endoftext|>"}, "no special token"),
        ({"a": "good", "b": ["bad", " good"]}, "'a' and for 'b'"),
        ({"a": ["good", "good"], "b": "bad"}, "'a' and for 'a'"),
    ],
)
def test_answers_that_are_none(words, sentence):
    with pytest.raises(UserError) as error:
        by_hand(words, TOKENIZER)
    assert sentence in str(error.value)


def test_nearest_words_against_a_plain_loop(model):
    k, words = 6, {"positive": ["good", "terrible"], "negative": ["bad"]}
    table = model.token_embedding.weight.detach()
    whole = {}  # word → token, for the words of one token
    for token in range(TOKENIZER.n_vocab):
        text = TOKENIZER.decode([token])
        if text[0] == " " and len(text) > 2 and text[1:].isalpha():
            whole[text[1:]] = token
    near = {}
    for label, own in words.items():
        centre = sum(table[TOKENIZER.encode(" " + word)].mean(0) for word in own) / len(own)
        cosines = {w: F.cosine_similarity(table[i], centre, dim=0).item() for w, i in whole.items() if w != "good"}
        near[label] = sorted(cosines, key=cosines.get, reverse=True)[:k]
    both = set(near["positive"]) & set(near["negative"])
    found = nearest(words, model, TOKENIZER, k)
    for label, own in words.items():
        assert list(found[label]) == own + [word for word in near[label] if word not in both]
    assert nearest(words, model, TOKENIZER) == nearest(words, model, TOKENIZER, 5), "five, if no number is said"


def test_what_is_near_two_labels_speaks_for_neither():
    shared = MODELS["bert"]()
    table = shared.token_embedding.weight.data
    good, bad, film, story = (TOKENIZER.encode(" " + word)[0] for word in ("good", "bad", "film", "story"))
    words = {"a": ["good"], "b": ["dull"]}
    table[good] = torch.eye(8)[0]
    table[TOKENIZER.encode(" dull")[0]] = torch.eye(8)[1]
    table[film] = torch.eye(8)[0] + torch.eye(8)[1]  # near both
    table[story] = torch.eye(8)[0] * 5  # near one alone
    found = nearest(words, shared, TOKENIZER, 1, among={"film", "story", "good", "dull"})
    assert {label: list(own) for label, own in found.items()} == {"a": ["good", "story"], "b": ["dull", "film"]}
    found = nearest(words, shared, TOKENIZER, 2, among={"film", "story", "good", "dull"})
    assert {label: list(own) for label, own in found.items()} == {"a": ["good"], "b": ["dull"]}
    with pytest.raises(UserError, match="k = 0"):
        nearest(words, shared, TOKENIZER, 0)


# ----------------------------------------------------------------------------------------------- scoring


@torch.no_grad()
def log_prob_one_by_one(model, template, example, word) -> list[float]:
    """log p of each token of a word in the gap: one text and one token at a time, without padding."""
    answer, out = TOKENIZER.encode(" " + word), []
    for n, token in enumerate(answer):
        if isinstance(model, Bert):
            ids, places = template.for_bert(example, TOKENIZER, len(answer))
            logits = model.mlm_logits(model(torch.tensor([ids])))[0, places[n]]
        else:
            logits = model(torch.tensor([template.for_gpt(example, TOKENIZER) + answer[:n]]))[0, -1]
        out.append(torch.log_softmax(logits, dim=0)[token].item())
    return out


def scores_one_by_one(model, template, examples, words, normalise=True) -> torch.Tensor:
    table = []
    for example in examples:
        row = []
        for own in words.values():
            probs = []
            for word in own:
                log_probs = log_prob_one_by_one(model, template, example, word)
                probs.append(math.exp(sum(log_probs) / (len(log_probs) if normalise else 1)))
            row.append(math.log(sum(probs) / len(probs)))
        table.append(row)
    return torch.tensor(table)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("kind", "template"), [("bert", CLOZE), ("bert", QA), ("gpt", QA), ("gpt", CLASSES)])
def test_scores_are_those_of_one_example_and_one_token_at_a_time(kind, template, normalise):
    model = MODELS[kind]()
    expected = scores_one_by_one(model, template, REVIEWS, WORDS, normalise)
    for batch_size in (1, 2, 32):
        found = label_log_probs(
            model, TOKENIZER, template, REVIEWS, ANSWERS, normalise=normalise, batch_size=batch_size
        )
        assert_close(found, expected, "A padded batch scores otherwise than its texts alone.")
    best = [list(WORDS)[i] for i in expected.argmax(dim=1)]
    assert predict(found, ANSWERS) == best
    assert 0 <= accuracy(predict(found, ANSWERS), [r["label"] for r in REVIEWS]) <= 1


def test_the_probabilities_of_all_words_of_a_length_sum_to_one():
    # Every two-token answer at once, over a small vocabulary: that a continuation's probability is exact.
    small = tiny_gpt()
    first, second = (torch.arange(40).repeat_interleave(40), torch.arange(40).repeat(40))

    class Letters:  # the prompt's tokens have to be in the small vocabulary
        eot_id, pad_id, mask_id = 1, 0, 2
        encode = staticmethod(lambda text: [7, 8, 9])

    words = {str((a, b)): [a, b] for a, b in product(range(40), range(40))}
    answers = {word: {word: ids} for word, ids in words.items()}
    found = label_log_probs(small, Letters, Template("{text} {mask}"), [{"text": "x"}], answers, normalise=False)[0]
    assert_close(found.exp().sum(), torch.tensor(1.0), "Chain rule: Σ p(a, b) over all a, b.")
    with torch.no_grad():
        logits = small(torch.tensor([[1, 7, 8, 9]]))[0, -1]
        then = small(torch.stack([torch.tensor([1, 7, 8, 9, a]) for a in range(40)]))[:, -1]
    expected = logits.log_softmax(0)[first] + then.log_softmax(1)[first, second]
    assert_close(found, expected, "log p(a, b) = log p(a) + log p(b | a).")


def test_few_shot_scores(model):
    few = with_examples(QA, [{"text": "Dull.", "label": "negative"}], ANSWERS)
    zero = label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS)
    shot = label_log_probs(model, TOKENIZER, few, REVIEWS, ANSWERS)
    assert_close(shot, scores_one_by_one(model, few, REVIEWS, WORDS), "Scores after a solved example.")
    assert (zero - shot).abs().max() > 1e-3, "a solved example made no difference: was it left out?"
    many = with_examples(QA, REVIEWS * 4, ANSWERS)
    with pytest.raises(UserError, match=r"Example 0 needs \d+ positions.*n_positions = 64.*fewer solved examples"):
        label_log_probs(model, TOKENIZER, many, REVIEWS, ANSWERS)


def test_room_is_counted_to_the_last_position(model):
    template = Template("A {text} {mask}")
    one_token = by_hand({"a": "good", "b": "dull"}, TOKENIZER)
    # BERT: [CLS] A words [MASK] [SEP]. GPT: <|endoftext|> A words, and the answer itself is not read.
    n = 60 if isinstance(model, Bert) else 62
    fits, too_long = ({"text": " ".join(["good"] * length)} for length in (n, n + 1))
    assert label_log_probs(model, TOKENIZER, template, [fits], one_token).isfinite().all()
    with pytest.raises(UserError, match="Example 1 needs 65 positions"):
        label_log_probs(model, TOKENIZER, template, [fits, too_long], one_token)


@pytest.mark.parametrize("normalise", [True, False])
def test_calibration_takes_the_bias_of_template_and_words_away(model, normalise):
    empty = {"text": "N/A"}
    plain, favour = (scores_one_by_one(model, QA, texts, WORDS, normalise) for texts in (REVIEWS, [empty]))
    how = {"normalise": normalise, "calibrate": empty}
    found = label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS, **how)
    assert_close(found, plain - favour, "Subtract what the labels score for the content-free text, in the same way.")
    nothing = label_log_probs(model, TOKENIZER, QA, [empty], ANSWERS, **how)
    assert_close(nothing, torch.zeros(1, 2), "For the content-free text itself no label is favoured.")


def test_scores_with_methods_attached(model):
    template = Template("{virtual:2} {text} {virtual:1} It was {mask}")
    torch.manual_seed(0)
    before = label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS)
    tuned = PTuning(template.n_virtual).attach(model)
    try:
        found = label_log_probs(model, TOKENIZER, template, REVIEWS, ANSWERS)
        assert_close(found, scores_one_by_one(model, template, REVIEWS, WORDS), "Virtual tokens in a padded batch.")
        with torch.no_grad():
            tuned.free.add_(1.0 + torch.randn_like(tuned.free))
        assert (label_log_probs(model, TOKENIZER, template, REVIEWS, ANSWERS) - found).abs().max() > 1e-4
        with pytest.raises(UserError, match="virtual tokens"):
            label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS)
    finally:
        tuned.detach()
    prefix = PrefixTuning(3).attach(model)
    try:
        found = label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS)
        assert_close(found, scores_one_by_one(model, QA, REVIEWS, WORDS), "A prefix before a padded batch.")
    finally:
        prefix.detach()
    assert torch.equal(label_log_probs(model, TOKENIZER, QA, REVIEWS, ANSWERS), before)


def test_scoring_leaves_the_model_as_it_was():
    dropping = MODELS["gpt"](dropout=0.5).train()
    found = label_log_probs(dropping, TOKENIZER, QA, REVIEWS, ANSWERS)
    assert dropping.training and not found.requires_grad
    assert torch.equal(found, label_log_probs(dropping, TOKENIZER, QA, REVIEWS, ANSWERS)), "dropout was not off"
    dropping.eval()
    label_log_probs(dropping, TOKENIZER, QA, REVIEWS, ANSWERS)
    assert not dropping.training


def test_scores_are_computed_where_the_model_is():
    # A second device stands in for a GPU: "meta", whose tensors have no numbers.
    class Elsewhere(GPT):
        def forward(self, ids, at):
            assert {ids.device.type, at.device.type} == {"meta"}, "the texts stayed where they were made"
            return torch.zeros(len(ids), TOKENIZER.n_vocab, device="meta")

    with torch.device("meta"):
        model = Elsewhere(replace(GPT_CONFIG, **SIZES))
    one_token = by_hand({"a": "good", "b": "dull"}, TOKENIZER)
    found = label_log_probs(model, TOKENIZER, QA, REVIEWS, one_token)
    assert found.device.type == "meta" and found.shape == (len(REVIEWS), 2)


def test_what_cannot_be_scored():
    with pytest.raises(UserError, match="0 examples"):
        label_log_probs(MODELS["gpt"](), TOKENIZER, QA, [], ANSWERS)
    with pytest.raises(UserError, match="batch_size = 0"):
        label_log_probs(MODELS["gpt"](), TOKENIZER, QA, REVIEWS, ANSWERS, batch_size=0)
    with pytest.raises(UserError, match="not to a Seq2Seq"):
        label_log_probs(tiny_seq2seq(), TOKENIZER, QA, REVIEWS, ANSWERS)
    with pytest.raises(UserError, match="has to end with {mask}"):
        label_log_probs(MODELS["gpt"](), TOKENIZER, CLOZE, REVIEWS, ANSWERS)
    with pytest.raises(UserError, match="no mlm head"):
        label_log_probs(MODELS["bert"](mlm=False), TOKENIZER, QA, REVIEWS, ANSWERS)


# ---------------------------------------------------------------------------------------- answer vectors


def labelled(model, reviews=REVIEWS, batch_size: int = 3) -> LabelledTexts:
    rows = [QA.for_bert(r, TOKENIZER)[0] if isinstance(model, Bert) else QA.for_gpt(r, TOKENIZER) for r in reviews]
    labels = [r["label"] for r in reviews]
    return LabelledTexts(rows, labels, list(WORDS), batch_size, TOKENIZER.pad_id, model.config.n_positions)


def test_answer_vectors_start_as_the_words(model):
    words = {"positive": "good", "negative": "dull"}  # one token each: their logits are the model's own
    vectors = AnswerVectors(by_hand(words, TOKENIZER), TOKENIZER.mask_id)
    assert vectors.vectors is None, "before it is on a base there are no words' embeddings to start from"
    vectors.attach(model)
    try:
        (batch,) = labelled(model).in_order()
        with torch.no_grad():
            found = vectors.scores(model, batch)
            for row, example in enumerate(REVIEWS):
                for column, word in enumerate(words.values()):
                    (token,) = TOKENIZER.encode(" " + word)
                    if isinstance(model, Bert):
                        ids, places = QA.for_bert(example, TOKENIZER)
                        logits = model.mlm_logits(model(torch.tensor([ids])))[0, places[0]] - model.mlm.bias
                    else:
                        logits = model(torch.tensor([QA.for_gpt(example, TOKENIZER)]))[0, -1]
                    assert_close(found[row, column], logits[token], f"h · v is the logit of {word!r}, less its bias.")
    finally:
        vectors.detach()


def test_answer_vectors_answer_a_padded_batch_as_each_text_alone(model):
    vectors = AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(model)
    (batch,) = labelled(model).in_order()
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    assert len(set(lengths)) > 1, "this test wants texts of different lengths"
    shifts = [batch["ids"].size(1) - n for n in lengths]
    left = {
        name: torch.stack([row.roll(s) for row, s in zip(batch[name], shifts, strict=True)])
        for name in ("ids", "attention_mask")
    }
    for row, n in enumerate(lengths):
        alone = vectors.scores(model, {name: batch[name][row : row + 1, :n] for name in ("ids", "attention_mask")})
        assert_close(vectors.scores(model, batch)[row], alone[0], f"row {row}, padded on the right")
        if isinstance(model, GPT):
            assert_close(
                vectors.scores(model, left)[row], alone[0], f"row {row}, padded on the left: attention_mask was lost"
            )


def test_answer_vectors_train_alone_and_come_back(model, tmp_path):
    own = {name: p.clone() for name, p in model.named_parameters()}
    vectors = AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(model)
    table = model.token_embedding.weight
    for row, words in zip(vectors.vectors, WORDS.values(), strict=True):
        mean = sum(table[TOKENIZER.encode(" " + word)].mean(0) for word in words) / len(words)
        assert_close(row, mean, "A label's vector starts as the mean of its words.")
    texts = labelled(model)
    (batch,) = texts.in_order()
    before, n = vectors.loss(model, batch)
    by_torch = F.cross_entropy(vectors.scores(model, batch), torch.tensor([0, 1, 0]), reduction="sum")
    assert n == 3
    assert_close(before, by_torch, "The loss is a cross-entropy over the labels, summed.")
    log = train(model, texts, TrainConfig(steps=30, lr=0.1, weight_decay=0.0), loss=vectors.loss, progress=False)
    after, _ = vectors.loss(model, batch)
    assert after < before / 2, f"30 steps on three texts: the loss went from {before:.3f} to {after:.3f} only; {log}"
    assert vectors.report().trained == vectors.report().stored == 2 * model.config.d_model
    vectors.save(tmp_path / "v.safetensors")
    scores = vectors.scores(model, batch)
    vectors.detach()
    for name, p in model.named_parameters():
        assert torch.equal(p, own[name]), f"training the answer vectors changed the base's {name}"
    back = load(tmp_path / "v.safetensors", model)
    try:
        assert torch.equal(back.scores(model, batch), scores)
        assert list(back.answers) == list(WORDS)
    finally:
        back.detach()


def test_answer_vectors_beside_p_tuning(model):
    # Other places of the base: both train at once.
    template = Template("{virtual:2} {text} {mask}")
    torch.manual_seed(0)
    tuned, vectors = PTuning(2).attach(model), AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(model)
    try:
        render = (
            (lambda r: template.for_bert(r, TOKENIZER)[0])
            if isinstance(model, Bert)
            else (lambda r: template.for_gpt(r, TOKENIZER))
        )
        labels = [r["label"] for r in REVIEWS]
        texts = LabelledTexts([render(r) for r in REVIEWS], labels, list(WORDS), 3, TOKENIZER.pad_id, 64)
        loss, _ = vectors.loss(model, texts(0))
        loss.backward()
        for p in (tuned.free, vectors.vectors):
            assert p.grad.abs().max() > 0, "one of the two methods gets no gradient"
    finally:
        vectors.detach()
        tuned.detach()


def test_answer_vectors_that_have_no_place():
    with pytest.raises(UserError, match="not onto a Seq2Seq"):
        AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(tiny_seq2seq())
    with pytest.raises(UserError, match="no mlm head"):
        AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(MODELS["bert"](mlm=False))
    model = MODELS["bert"]()
    vectors = AnswerVectors(ANSWERS, TOKENIZER.mask_id).attach(model)
    ids = torch.tensor([[TOKENIZER.mask_id, 5, 6], [TOKENIZER.mask_id, 5, TOKENIZER.mask_id]])
    with pytest.raises(UserError, match=r"Row 1 has 2 \[MASK\]s"):
        vectors.scores(model, {"ids": ids, "attention_mask": torch.ones_like(ids, dtype=torch.bool)})
