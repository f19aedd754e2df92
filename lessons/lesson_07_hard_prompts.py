"""Hard prompts

question: Can a task be put into words, so that a model that was never trained for it does it?
minutes: 1
documents: 001 §2 核心概念与联系, §3.1.1 Prompt; 003 §2 Introduction, §3.2 Intuition
needs: 3, 4, 5
"""

# %% [markdown]
# ## A task in words
#
# Lesson 5 fine-tuned: labelled examples went in, every parameter changed. A prompt (提示) leaves the model as it is and
# changes the question instead. A BERT can fill a gap, a GPT can go on writing; so write the task as a text whose gap, well
# filled, is the answer (001 §2: bring the task into the format of pre-training). The prompts of this lesson are made of words,
# and are called hard (硬提示), as against the trained ones to come. What is needed is two things:
#
#     prompt = template (模板)  +  answer mapping (答案映射)
#
# Two tasks, to be done by the two bases of the course: a GPT and a BERT, pretrained on the tiny world as in lessons 3
# and 4, but longer. One task asks what a description describes (`kind`); the other, whether a review is for or against a
# film (`verdict`; a remark for the other side is in every review). `kind` is here because it works: two others that were
# tried while this lesson was written, the genre of a film and whether a name is a woman's or a man's, stayed near guessing
# on bases that were half trained.
#
# **Predict before you run:** which of the two is harder to get from a model that has only ever guessed words?

# %%
import re

import torch
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.show import QUICK, bar, figure, say, table, verbatim
from minitransformer.text.corpora import read_documents

tokenizer = default_tokenizer()
models = {"GPT": load_base("gpt"), "BERT": load_base("bert")}
KINDS = ("town", "river", "book", "film", "cafe", "shop")
tables = {
    split: read_jsonl(DATA / "tasks" / "table_to_text" / f"{split}.jsonl", ["source", "target"])
    for split in ("train", "valid", "test_seen")
}
reviews = {
    split: read_jsonl(DATA / "tasks" / "reviews" / f"{split}.jsonl", ["text", "label"])
    for split in ("train", "valid", "test")
}
examples = {
    ("kind", split): [
        {"text": row["target"], "label": row["category"]}
        for row in tables[source]
        if row["category"] in KINDS
    ]
    for split, source in (("train", "train"), ("valid", "valid"), ("test", "test_seen"))
} | {("verdict", split): rows for split, rows in reviews.items()}
examples["verdict", "valid"] = examples["verdict", "valid"][:160]  # reading takes time
if QUICK:
    examples = {
        (task, split): rows if split == "train" else rows[:: len(rows) // 12][:12]
        for (task, split), rows in examples.items()
    }
chance = {"kind": 1 / len(KINDS), "verdict": 1 / 2}
for task in chance:
    example = examples[task, "valid"][0]
    say(
        f"**{task}**, {len(examples[task, 'valid'])} validation texts, guessing gets {chance[task]:.0%}. One of them, labelled *{example['label']}*:\n\n> {example['text']}\n"
    )

# %% [markdown]
# ## Three templates
#
# A template turns an example into a text with a gap. 001 §3.1.1 has three forms, and here they are, in its order; `{text}`
# is where the example goes, `{mask}` is the gap.
#
# A BERT gets one [MASK] for each token of the answer and sees both sides. A GPT reads up to the gap, and answers with what it
# would write next; so its template has to end there.
#
# Where the document is loose: it writes the gap as [MASK] in two forms and as [Z] in the third, and lists the forms as
# if they were three methods. All three are a text with one gap; the third is a cloze (填空) as much as the first. One class does
# them all, `minitransformer/course/hard.py`.
#
# **Predict before you run:** the space before `{mask}` belongs to the answer, not to the text before it. Why does that matter
# to a GPT? (Lesson 1: where do tokens of words begin?)

# %%
from minitransformer.course.hard import Template
from minitransformer.errors import UserError

forms = {
    "cloze (填空型)": "{text} The story is about a {mask}.",
    "question (问答型)": "Question: What is it? {text} Answer: {mask}",
    "classification (分类型)": "{text} It was {mask}.",
}
short = {"text": "Velo lies in the north."}
for form, text in forms.items():
    template = Template(text)
    ids, places = template.for_bert(short, tokenizer)
    say(f"**{form}**  {text}")
    verbatim(" ".join(["    BERT:", " ".join(tokenizer.token(i) for i in ids)]))
    assert [ids[place] for place in places] == [tokenizer.mask_id]
    open_ended = Template(text[: text.index("{mask}") + len("{mask}")])
    verbatim(
        " ".join(
            [
                "    GPT: ",
                " ".join(tokenizer.token(i) for i in open_ended.for_gpt(short, tokenizer)),
            ]
        )
    )

# %% [markdown]
# A template that cannot work is refused at once, with the reason.

# %%
for text in (
    "{text} It was good.",
    "{text} It was{mask}.",
    "{text} It was {mask}, {virtual}.",
    "{txet} It was {mask}",
    "{text} It was {mask}.",
):
    try:
        Template(text).for_gpt(short, tokenizer)
    except UserError as error:
        say(f"- {error}")

# %% [markdown]
# ## What stands in the gap
#
# Before any mapping, let both models fill a gap as they like. The text is a description from the validation tables.
#
# **Predict before you run:** will the likeliest words be kinds of things?

# %%
TEXT = "{text} The {mask} is well known."


def template_for(name: str, text: str) -> Template:
    """The template for one of our models: a GPT's ends with the gap."""
    return Template(text if name == "BERT" else text[: text.index("{mask}") + len("{mask}")])


@torch.inference_mode()
def guesses(name: str, text: str, example: dict) -> torch.Tensor:
    """The probability of every token in the gap, (V)."""
    model, template = models[name], template_for(name, text)
    if name == "GPT":
        return model(torch.tensor([template.for_gpt(example, tokenizer)]))[0, -1].softmax(-1)
    ids, (place,) = template.for_bert(example, tokenizer)
    return model.mlm_logits(model(torch.tensor([ids])))[0, place].softmax(-1)


example = examples["kind", "valid"][0]
say(f"> {TEXT.format(text=example['text'], mask='____')}\n")
likeliest = {name: guesses(name, TEXT, example).topk(6) for name in models}
rows = [
    [
        cell
        for name in models
        for cell in (tokenizer.token(likeliest[name].indices[i]), likeliest[name].values[i].item())
    ]
    for i in range(6)
]
table(rows, ["GPT", "P", "BERT", "P"], [None, ".3f", None, ".3f"])

# %% [markdown]
# ## The answer mapping, by hand
#
# An answer mapping v gives each label words, v(label), and in the other direction it reads the answer off the gap. With
# x for the example:
#
#     score(label) = log P(v(label) | template(x))        ŷ = the label with the highest score
#
# Only the labels' words compete; what else the model would have liked to say does not matter. Nothing was trained for
# the task and no labelled example is shown, which is called zero-shot (零样本). First the mapping that a person makes: each
# kind is its own word.
#
# Behind every ± stands lesson 4's interval. (For a share of 0 or 1 its formula says ± 0, which is surer than anyone can be.)
#
# **Predict before you run:** how many of the validation texts will each model get right, if guessing gets one in six?

# %%
from minitransformer.course.answers import by_hand
from minitransformer.course.hard import label_log_probs, predict
from minitransformer.metrics import accuracy, standard_error

OWN_WORDS = {kind: kind for kind in KINDS}


def right(scores: torch.Tensor, words: dict, rows: list[dict]) -> float:
    """The share of examples whose label has the highest score, of scores (examples, labels)."""
    return accuracy(predict(scores, by_hand(words, tokenizer)), [row["label"] for row in rows])


def margin(share: float, n: int) -> float:
    """Half the width of a 95 % confidence interval of a share of n, about."""
    return 1.96 * standard_error(share, n)


def ask(name: str, text: str, words: dict, rows: list[dict], **more) -> torch.Tensor:
    """The scores of a wording, (examples, labels)."""
    return label_log_probs(
        models[name], tokenizer, template_for(name, text), rows, by_hand(words, tokenizer), **more
    )


valid = examples["kind", "valid"]
scores = {name: ask(name, TEXT, OWN_WORDS, valid) for name in models}
table(
    [
        (
            name,
            *(f"{p:.3f}" for p in scores[name][0].exp().tolist()),
            predict(scores[name], by_hand(OWN_WORDS, tokenizer))[0],
        )
        for name in models
    ],
    ["P(v(label) | …)", *KINDS, "answer"],
)
for name in models:
    share = right(scores[name], OWN_WORDS, valid)
    say(
        f"The {name} gets {share:.1%} ± {100 * margin(share, len(valid)):.1f} of {len(valid)} texts right, guessing {chance['kind']:.1%}."
    )

# %% [markdown]
# ## Words of several tokens
#
# A word need not be one token. A GPT says a word of n tokens w_1 … w_n with the chain rule, each token after those before
# it. A BERT gets n [MASK]s and fills them all at once, each without knowing what goes into the others:
#
#     GPT:    log P(w) = Σ_i log P(w_i | …, w_<i)
#     BERT:   log P(w) ≈ Σ_i log P(w_i | n [MASK]s)
#
# Every further token can only lower the sum, so long words would be punished for being long; a common remedy, and our
# default, is the mean over the tokens. It has a price too: what follows inside a word is nearly sure, and its log P near 0 lifts the
# mean.
#
# **Predict before you run:** which word is the most helped by taking the mean?

# %%
rows = []
for word in ("town", "river", "terrible"):
    ids = tokenizer.encode(" " + word)
    pair = {"this": word, "other": "cafe"}
    for name in models:
        total, mean = (
            ask(name, TEXT, pair, valid[:1], normalise=on)[0, 0].item() for on in (False, True)
        )
        rows.append((word, " ".join(tokenizer.token(i) for i in ids), name, total, mean))
        assert abs(total / len(ids) - mean) < 1e-4
table(rows, ["word", "tokens", "model", "Σ log p", "mean log p"], [None, None, None, ".2f", ".2f"])
longer = [kind for kind in KINDS if len(tokenizer.encode(" " + kind)) > 1]
for name in models:
    summed = ask(name, TEXT, OWN_WORDS, valid, normalise=False)
    says = [
        [predict(s, by_hand(OWN_WORDS, tokenizer)).count(kind) for kind in longer]
        for s in (summed, scores[name])
    ]
    truly = [sum(row["label"] == kind for row in valid) for kind in longer]
    say(
        f"The {name}, by the sum: {right(summed, OWN_WORDS, valid):.1%} right, by the mean {right(scores[name], OWN_WORDS, valid):.1%}. It says "
        f"{', '.join(longer)} {says[0]} and {says[1]} times; true would be {truly}."
    )

# %% [markdown]
# ## Only the wording changes
#
# Same models, same texts, same words for the labels; only the sentence around the gap differs. The first wording goes on as
# descriptions of this world do, which call a cafe "the cafe"; the later ones are what one would say to a person. (The GPT
# sees each up to its gap.) `heard` counts how often what stands right before the gap, with one of the labels' words in it,
# occurs in the training prose of lesson 1, a sample of what the bases have read.
#
# **Predict before you run:** how far apart will the best wording and the worst be?

# %%
WORDINGS = {
    "kind": [
        (text, OWN_WORDS)
        for text in (
            TEXT,
            "{text} It is a {mask}.",
            "{text} People like the {mask}.",
            "{text} All in all, it was a {mask}.",
            "{text} This text is about a {mask}.",
            "Text: {text} Topic: {mask}",
            "Question: What is this? {text} Answer: a {mask}",
        )
    ],
    "verdict": [
        (text, {"positive": plus, "negative": minus})
        for text, plus, minus in (
            ("{text} I left {mask} a smile.", "with", "without"),
            ("{text} I would {mask} see it again.", "gladly", "not"),
            ("{text} I have not seen a {mask} film this year.", "better", "worse"),
            ("{text} The film is {mask}.", "clever", "dull"),
            ("{text} All in all, the film was {mask}.", "good", "bad"),
            ("{text} It was {mask}.", "great", "terrible"),
            ("Question: {text} Did I like it? Answer: {mask}", "yes", "no"),
        )
    ],
}
prose = "\n".join(read_documents(DATA / "text" / "train.txt"))


def brief(text: str) -> str:
    """A wording, for tables and figures."""
    return text.replace("{text}", "…").replace("{mask}", "▁▁")


def heard(text: str, words: dict) -> int:
    """How often the words before the gap occur in the prose with a label's word in it."""
    before = text.split("{text}")[-1].split("{mask}")[0].strip()
    return sum(prose.count(f"{before} {word}".strip()) for word in words.values())


found, blank = (
    {},
    {},
)  # scores of the examples, and of a text without content, by (task, model, wording)
for task, wordings in WORDINGS.items():
    for text, words in wordings:
        for name in models:
            found[task, name, text] = ask(name, text, words, examples[task, "valid"])
            blank[task, name, text] = ask(name, text, words, [{"text": "N/A"}])
shares = {
    (task, name, text): right(found[task, name, text], words, examples[task, "valid"])
    for task, wordings in WORDINGS.items()
    for text, words in wordings
    for name in models
}
table(
    [
        (brief(text), heard(text, words), *(shares["kind", name, text] for name in models))
        for text, words in WORDINGS["kind"]
    ],
    ["kind: what is it?", "heard", *models],
    [None, ",", ".1%", ".1%"],
)
for name in models:
    values = [shares["kind", name, text] for text, _ in WORDINGS["kind"]]
    band = margin(chance["kind"], len(valid))
    n_above = sum(value > chance["kind"] + band for value in values)
    say(
        f"{name}: from {min(values):.1%} to {max(values):.1%}, by the wording alone; {n_above} of {len(values)} wordings are above what guessing reaches by chance "
        f"({chance['kind']:.1%} ± {100 * band:.1f})."
    )
    tops = {
        yes: max(
            shares["kind", name, text]
            for text, words in WORDINGS["kind"]
            if bool(heard(text, words)) == yes
        )
        for yes in (True, False)
    }
    say(
        f"The best that was heard has {tops[True]:.1%}, the best that never was {tops[False]:.1%}"
        + (
            ": a wording need not have been heard to work.\n"
            if tops[False] > chance["kind"] + band
            else ".\n"
        )
    )

# %% [markdown]
# ## A task that must be weighed
#
# Now the reviews. The first three wordings are sentences that reviews of this world do contain, so the models have read what
# fills the gap after many of them; but to fill it rightly, one has to have understood the remarks.
#
# **Predict before you run:** for `I left … a smile`, both models have read reviews that end so. Will they know which word fits?

# %%
table(
    [
        (
            brief(text),
            "/".join(words.values()),
            heard(text, words),
            *(shares["verdict", name, text] for name in models),
        )
        for text, words in WORDINGS["verdict"]
    ],
    ["verdict: for or against?", "words", "heard", *models],
    [None, None, ",", ".1%", ".1%"],
)
with figure(
    "wordings",
    "Validation accuracy by the wording alone, with 95 % intervals; grey is what guessing reaches by chance.",
    (10, 6.4),
    2,
    1,
) as axes:
    for ax, (task, wordings) in zip(axes, WORDINGS.items(), strict=True):
        n = len(examples[task, "valid"])
        for name, mark, shift in (("GPT", "o", -0.14), ("BERT", "s", 0.14)):
            values = [shares[task, name, text] for text, _ in wordings]
            ax.errorbar(
                values,
                [i + shift for i in range(len(values))],
                xerr=[margin(v, n) for v in values],
                fmt=mark,
                capsize=3,
                label=name,
            )
        ax.axvspan(
            chance[task] - margin(chance[task], n),
            chance[task] + margin(chance[task], n),
            color="grey",
            alpha=0.2,
        )
        ax.set_yticks(range(len(wordings)), [brief(text) for text, _ in wordings])
        ax.invert_yaxis()
        ax.set(
            xlim=(0, 1.02),
            title=f"{task}: {' / '.join(KINDS) if task == 'kind' else 'positive / negative'}",
        )
        ax.grid(axis="y", visible=False)
    axes[1].set_xlabel("share right")
    axes[0].legend(loc="lower right")
n = len(examples["verdict", "valid"])
band = margin(0.5, n)
outside = [key for key, value in shares.items() if key[0] == "verdict" and abs(value - 0.5) > band]
n_tries = 2 * len(WORDINGS["verdict"])
say(
    f"Guessing reaches 50.0 % ± {100 * band:.1f} on {n} reviews. Of {n_tries} wordings and models {len(outside)} lie outside, where chance alone would put "
    f"about {0.05 * n_tries:.1f}."
)
best = {
    (task, name): max(
        WORDINGS[task], key=lambda pair, task=task, name=name: shares[task, name, pair[0]]
    )
    for task in chance
    for name in models
}
worst = {
    (task, name): min(
        WORDINGS[task], key=lambda pair, task=task, name=name: shares[task, name, pair[0]]
    )
    for task in chance
    for name in models
}
both = {
    name: found["verdict", name, WORDINGS["verdict"][0][0]].exp().sum(dim=1).mean().item()
    for name in models
}
say(
    "In the gap of `I left … a smile` "
    + ", ".join(
        f"the {name} gives `with` and `without` together {p:.1%}" for name, p in both.items()
    )
    + ", on average: how much of the gap the two words have, whichever is right."
)
reach = {key: shares[(*key, pair[0])] for key, pair in best.items()}
say(
    "\n"
    + (
        f"The best of them, {max(reach['verdict', name] for name in models):.1%}, is well above guessing: words do reach this task, if they are the right ones."
        if max(reach["verdict", name] for name in models) > 0.5 + 2 * band
        else "So no wording gets at the verdict clearly, not even those that reviews contain. A prompt brings out what pre-training put in, and adds nothing: these "
        "small bases have met the sentences, but not learned, or not well enough, how they hang together with the remarks before them."
    )
)

# %% [markdown]
# ## Favourites
#
# A model may answer without listening. Ask it about a text that says nothing, "N/A", and it has favourites all the same:
# words that are frequent, or that the wording calls for. Contextual calibration (校准, Zhao et al. 2021) subtracts them:
#
#     score'(label) = score(label | x) − score(label | "N/A")
#
# One favourite is our own making: the mean over tokens lifts a word of several (step 5). With one word a label, the sum is the
# mean times the word's length; its result stands beside.
#
# **Predict before you run:** whom does it help more, good wordings or bad ones?

# %%
calibrated = {
    (task, name, text): right(
        found[task, name, text] - blank[task, name, text], words, examples[task, "valid"]
    )
    for task, wordings in WORDINGS.items()
    for text, words in wordings
    for name in models
}


def favourite(task: str, name: str, text: str, words: dict) -> str:
    """The label that is predicted most, and how often."""
    said = predict(found[task, name, text], by_hand(words, tokenizer))
    most = max(words, key=said.count)
    return f"{most} {said.count(most) / len(said):.0%}"


def by_sum(task: str, name: str, text: str, words: dict) -> float:
    """The share that is right when log p is summed over a word's tokens."""
    lengths = torch.tensor([len(tokenizer.encode(" " + word)) for word in words.values()])
    return right(found[task, name, text] * lengths, words, examples[task, "valid"])


for task, wordings in WORDINGS.items():
    for name in models:
        table(
            [
                (
                    brief(text),
                    favourite(task, name, text, words),
                    shares[task, name, text],
                    by_sum(task, name, text, words),
                    calibrated[task, name, text],
                )
                for text, words in wordings
            ],
            [f"{task}, {name}", "says most", "right", "by the sum", "calibrated"],
            [None, None, ".1%", ".1%", ".1%"],
        )
for task in WORDINGS:
    for name in models:
        gains = [calibrated[key] - shares[key] for key in shares if key[:2] == (task, name)]
        say(
            f"{task}, {name}: calibration raises {sum(gain > 0 for gain in gains)} of {len(gains)} wordings and lowers {sum(gain < 0 for gain in gains)}, "
            f"{100 * sum(gains) / len(gains):+.1f} points on average; the best goes from {reach[task, name]:.1%} to "
            f"{calibrated[task, name, best[task, name][0]]:.1%}."
        )

# %% [markdown]
# ## A few examples
#
# Few-shot (少样本): solved examples stand before the question, in the same template. Nothing is trained on them; they are
# read, and that is all. This is in-context learning (上下文学习), GPT-3's way (003 §2). The examples come from the
# training data, the shortest ones, for a context has an end. First the kind, as question and
# answer, the form that examples are mostly shown in: as many as the context has room for, drawn twice, on the shorter
# validation texts.
#
# **Predict before you run:** will a few examples make up for an unfamiliar wording?

# %%
from minitransformer.course.hard import with_examples

generator = torch.Generator().manual_seed(0)
pools = {
    task: sorted(examples[task, "train"], key=lambda row: len(row["text"]))[
        : len(examples[task, "train"]) // 20
    ]
    for task in chance
}
judged = {}
for task in chance:  # the shorter ones of each label
    by_label = {
        label: sorted(
            (row for row in examples[task, "valid"] if row["label"] == label),
            key=lambda row: len(row["text"]),
        )
        for label in WORDINGS[task][0][1]
    }
    judged[task] = [row for rows in by_label.values() for row in rows[: max(1, len(rows) * 2 // 5)]]


def few_shot(task: str, name: str, pair: tuple, shown: list[dict]) -> torch.Tensor:
    """The scores when these examples are shown before the question, (examples, labels)."""
    answers = by_hand(pair[1], tokenizer)
    template = template_for(name, with_examples(Template(pair[0]), shown, answers).text)
    return label_log_probs(models[name], tokenizer, template, judged[task], answers, batch_size=16)


question = WORDINGS["kind"][-1]
draws = [
    [pools["kind"][i] for i in torch.randperm(len(pools["kind"]), generator=generator)[:4].tolist()]
    for _ in range(2)
]
rows = []
for name in models:
    for n_shown in (0, 1, 2, 4)[: 4 if name == "GPT" else 3]:
        values = [
            right(few_shot("kind", name, question, shown[:n_shown]), OWN_WORDS, judged["kind"])
            for shown in draws[: 2 if n_shown else 1]
        ]
        rows.append(
            (
                name,
                n_shown,
                ", ".join(f"{value:.1%}" for value in values),
                sum(values) / len(values),
            )
        )
table(
    rows, [f"{brief(question[0])}", "examples", "each draw", "mean right"], [None, "d", None, ".1%"]
)
for name in models:
    means = {row[1]: row[3] for row in rows if row[0] == name}
    most = max(means)
    gain, noise = means[most] - means[0], margin(0.5, len(judged["kind"]))
    say(
        f"{name}: {most} examples change {means[0]:.1%} to {means[most]:.1%}"
        + (", a help" if gain > noise else ", a harm" if gain < -noise else ", no clear change")
        + f"; the best wording without any has {right(ask(name, best['kind', name][0], OWN_WORDS, judged['kind']), OWN_WORDS, judged['kind']):.1%} on these texts."
    )

# %% [markdown]
# The reviews, with each model's best wording. The examples have labels, and labels tempt: watch the share of `positive`.
#
# **Predict before you run:** after one positive example, what will be said more often?

# %%
rows = []
plus, minus = (
    next(row for row in pools["verdict"] if row["label"] == label)
    for label in ("positive", "negative")
)
tempted = {}
for name in models:
    for kind, shown in {
        "none": [],
        "+": [plus],
        "−": [minus],
        "+ −": [plus, minus],
        "− +": [minus, plus],
    }.items():
        answers = by_hand(best["verdict", name][1], tokenizer)
        scores_few = few_shot("verdict", name, best["verdict", name], shown)
        tempted[name, kind] = predict(scores_few, answers).count("positive") / len(
            judged["verdict"]
        )
        share = right(scores_few, best["verdict", name][1], judged["verdict"])
        rows.append(
            (name, kind, tempted[name, kind], share, 100 * margin(share, len(judged["verdict"])))
        )
table(rows, ["model", "examples", "says positive", "right", "±"], [None, None, ".0%", ".1%", ".1f"])
for name in models:
    after_plus, after_minus = tempted[name, "+"], tempted[name, "−"]
    say(
        f"{name}: it says `positive` in {after_plus:.0%} of cases after a positive example and in {after_minus:.0%} after a negative one: "
        + (
            "the label that it has just read pulls."
            if after_plus > after_minus + 0.1
            else "the label that it has just read pushes away."
            if after_plus < after_minus - 0.1
            else "the label that it has just read hardly matters."
        )
    )
many = [max(examples["verdict", "train"], key=lambda row: len(row["text"]))] * 3
try:
    few_shot("verdict", "GPT", best["verdict", "GPT"], many)
except UserError as error:
    say(f"And more examples? Three long ones, and: {error}")

# %% [markdown]
# ## The answer mapping, by likeness
#
# One word for a label is arbitrary. 001 §3.1.1's second mapping takes the K words whose embeddings are the most similar to
# the label's own (词向量相似度, by cosine), so that any of them may stand in the gap; the score is the log of their mean probability.
# What is near to two labels is left out.
#
# **Predict before you run:** are the neighbours of `cafe` words that mean the same, or words that stand where it stands?

# %%
from collections import Counter

from minitransformer.course.answers import nearest

common = {word for word, count in Counter(re.findall(r"[a-z]+", prose)).items() if count >= 20}
near = {
    name: nearest(OWN_WORDS, model, tokenizer, k=3, among=common) for name, model in models.items()
}
table(
    [(kind, *(", ".join(list(near[name][kind])[1:]) or "–" for name in models)) for kind in KINDS],
    ["label", *(f"near it in the {name}" for name in models)],
)
text = best["kind", "GPT"][0]
rows = []
for name in models:
    shares_k = [reach["kind", name]]
    for k in (1, 3):
        answers = nearest(OWN_WORDS, models[name], tokenizer, k=k, among=common)
        mapped = label_log_probs(
            models[name], tokenizer, template_for(name, best["kind", name][0]), valid, answers
        )
        shares_k.append(accuracy(predict(mapped, answers), [row["label"] for row in valid]))
    rows.append((name, brief(best["kind", name][0]), *shares_k))
table(
    rows,
    ["model", "its best wording", "K = 0", "K = 1", "K = 3"],
    [None, None, ".1%", ".1%", ".1%"],
)
by_neighbours = {row[0]: row[4] - row[2] for row in rows}
say(
    " ".join(
        f"For the {name} three neighbours each change {100 * gain:+.1f} points."
        for name, gain in by_neighbours.items()
    )
    + " An embedding brings together what occurs in the same places. That may be a synonym; it may as well be the other label."
)

# %% [markdown]
# ## The answer mapping, continuous
#
# The third mapping (连续化映射) lets go of words. A word's score is h · e(word): h is the vector that the model computed at
# the gap, e(word) the word's embedding. So put a trained vector in its place:
#
#     score(label) = h · v_label
#
# v_label starts as the embedding of the label's word; the base stays frozen, and labels × C numbers are trained. This
# is no longer zero-shot, and no longer words. But it answers something: if h holds the answer and the words only failed to
# fetch it, trained vectors will find it; if they fail too, it is not there, or not in reach of a straight line.
#
# **Predict before you run:** for which task will it help: `kind` in the worst wording with 24 examples, `verdict` in the best
# with 640?

# %%
from minitransformer.course.answers import AnswerVectors
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning import attached


def labelled(task: str, name: str, pair: tuple, rows: list[dict], batch_size: int) -> LabelledTexts:
    """Batches of a task in a wording."""
    template, model = template_for(name, pair[0]), models[name]
    ids = [
        template.for_bert(row, tokenizer)[0] if name == "BERT" else template.for_gpt(row, tokenizer)
        for row in rows
    ]
    return LabelledTexts(
        ids,
        [row["label"] for row in rows],
        list(pair[1]),
        batch_size,
        tokenizer.pad_id,
        model.config.n_positions,
    )


few = [
    row
    for kind in KINDS
    for row in [row for row in examples["kind", "train"] if row["label"] == kind][:4]
]
plan = {
    "kind": (worst, few, 8, 4 if QUICK else 48),
    "verdict": (best, examples["verdict", "train"][:640], 16, 4 if QUICK else 80),
}
rows, continuous = [], {}
for task, (chosen, train_rows, batch_size, steps) in plan.items():
    for name, model in models.items():
        pair = chosen[task, name]
        vectors = AnswerVectors(by_hand(pair[1], tokenizer), tokenizer.mask_id)
        judged_batches = labelled(task, name, pair, examples[task, "valid"], 32).in_order()
        with attached(model, vectors):
            config = TrainConfig(steps=steps, lr=1e-2, warmup=4, weight_decay=0.0)
            train(
                model,
                labelled(task, name, pair, train_rows, batch_size),
                config,
                loss=vectors.loss,
                progress=False,
            )
            with torch.inference_mode():
                told = torch.cat(
                    [vectors.scores(model, batch) for batch in judged_batches]
                )  # (examples, labels)
            numbers = vectors.report().trained
        continuous[task, name] = right(told, pair[1], examples[task, "valid"])
        rows.append(
            (
                task,
                name,
                brief(pair[0]),
                len(train_rows),
                numbers,
                shares[task, name, pair[0]],
                continuous[task, name],
            )
        )
table(
    rows,
    ["task", "model", "wording", "examples", "trained", "by words", "by vectors"],
    [None, None, None, "d", "d", ".1%", ".1%"],
)
for task in chance:
    for name in models:
        band = margin(chance[task], len(examples[task, "valid"]))
        gain = continuous[task, name] - shares[task, name, plan[task][0][task, name][0]]
        say(
            f"{task}, {name}: "
            + (
                "still not above guessing: if h holds the answer at this gap, it is in no form that one vector a label could be trained to read."
                if continuous[task, name] <= chance[task] + band
                else f"{100 * gain:+.1f} points: {'the answer' if continuous[task, name] > 0.8 else 'a part of the answer'} was there, and the words had not fetched it."
                if gain > 2**0.5 * band
                else "above guessing, but the vectors add nothing clear to the words."
            )
        )

# %% [markdown]
# ## Words for a longer answer
#
# A label is one word. What if the answer is a text? Table-to-text (表格到文本) is the task of 003's experiments: a table of facts,
# to be told in sentences. The GPT base has read tables and has read descriptions, but never a table with its own
# description after it. What follows a table there is the same table, its fields in another order.
#
# 003 §3.2 gives a prompt two jobs: it steers what of x is attended to, and so what is likely to follow. Then it says
# that natural language does not go far, for most models. Measured here: `slots`, the share of the table's values that stand in
# the text; `whole`, the share of texts that have them all; `sentences`, the share that is no table again (it has no ` | ` and
# ends a sentence). The first row is no request, but what this GPT can do: told a description, it says it again in other
# words.
#
# **Predict before you run:** does "In a sentence:" bring sentences? Does an example?

# %%
from minitransformer.course.tinyworld import slot_values
from minitransformer.generation.sampling import generate
from minitransformer.metrics import slot_accuracy

told_rows = tables["valid"][: 4 if QUICK else 40]
one = min(tables["train"], key=lambda row: len(tokenizer.encode(row["source"] + row["target"])))
values = [slot_values(row["table"]) for row in told_rows]
requests = {
    "(the description, told again)": "{target}\n {mask}",
    "(a line break)": "{source}\n {mask}",
    "In a sentence:": "{source}\nIn a sentence: {mask}",
    "Describe this table in sentences. …": "Describe this table in sentences. {source}\n {mask}",
    "This is about": "{source}\nThis is about {mask}",
    "(one solved example before it)": "{shot}\n\n{source}\n {mask}",
}
shot = Template("{source}\n {mask}").written(one, one["target"]).replace("\n ", "\n")
rows, written = [], {}
for request, text in requests.items():
    ids = [Template(text).for_gpt({**row, "shot": shot}, tokenizer) for row in told_rows]
    said = generate(models["GPT"], ids, 24 if QUICK else 70, stop_id=tokenizer.eot_id)
    written[request] = [tokenizer.decode(new).strip().split("\n")[0] for new in said]
    sentences = sum(
        " | " not in new and new.endswith((".", "!", "?")) for new in written[request]
    ) / len(told_rows)
    told_all = sum(
        " | " not in new and slot_accuracy([new], [own])[1] == 1
        for new, own in zip(written[request], values, strict=True)
    ) / len(told_rows)
    rows.append((request, *slot_accuracy(written[request], values), sentences, told_all))
table(
    rows,
    ["after the table", "slots", "whole", "sentences", "whole, in sentences"],
    [None, ".1%", ".1%", ".0%", ".1%"],
)
say(f"> {told_rows[0]['source']}\n")
for request in list(requests)[1:]:
    say(f"- {request} {written[request][0]}")
asked = {row[0]: row for row in rows[1:]}
top = max(asked.values(), key=lambda row: row[4])
say(
    (
        f"The best of these requests, “{top[0]}”, gets {top[4]:.1%} of the tables wholly told in sentences"
        if top[4]
        else f"None of these requests gets one of {len(told_rows)} tables wholly told in sentences"
    )
    + (
        ". So these words do not make this GPT describe"
        + (
            f", though a description it says again with {rows[0][1]:.0%} of the values, in sentences ({rows[0][3]:.0%})"
            if min(rows[0][1], rows[0][3]) > 0.5
            else ""
        )
        + ". What it can do and what it is asked do not find each other. Lessons 8 and 9 look for what no word says."
        if top[4] < 0.5
        else ": words alone do make this GPT describe. Lessons 8 and 9 see how much further trained prompts go."
    )
)

# %% [markdown]
# ## Once, on the test
#
# The best and the worst wording of each model and task, as validation chose them, each once on texts that nothing was chosen
# on. A best of several is chosen partly for its luck, and a worst for its bad luck; on new texts both should move toward the
# middle.
#
# **Predict before you run:** which gap between best and worst will not survive?

# %%
rows = []
for task in chance:
    for name in models:
        for which, chosen in (("best", best), ("worst", worst)):
            text, words = chosen[task, name]
            share = right(
                ask(name, text, words, examples[task, "test"]), words, examples[task, "test"]
            )
            rows.append(
                (
                    task,
                    name,
                    which,
                    brief(text),
                    shares[task, name, text],
                    share,
                    100 * margin(share, len(examples[task, "test"])),
                    bar(share, width=12),
                )
            )
table(
    rows,
    ["task", "model", "on validation", "wording", "validation", "test", "±", ""],
    [None, None, None, None, ".1%", ".1%", ".1f", None],
)
tested = {row[:3]: row[5] for row in rows}
for task in chance:
    for name in models:
        high, low = tested[task, name, "best"], tested[task, name, "worst"]
        n = len(examples[task, "test"])
        clear = high - low > (margin(high, n) ** 2 + margin(low, n) ** 2) ** 0.5
        say(
            f"{task}, {name}: {100 * (high - low):+.1f} points between two wordings"
            + (", beyond chance." if clear else ", no more than chance would give.")
        )

# %% [markdown]
# ## The answer
#
# Yes, where pre-training has taught what the task asks, and in a wording that leads the model to say it; which wording that
# is, only measuring tells. Here is how far it went, on the test:

# %%
assert QUICK or tested["kind", "GPT", "best"] > 0.5
answers_to_it = [
    f"the {name} does `{task}` with {tested[task, name, 'best']:.0%} in the best of {len(WORDINGS[task])} wordings, {tested[task, name, 'worst']:.0%} in the worst"
    for task in chance
    for name in models
]
say(
    "; ".join(answers_to_it)
    + "; guessing has "
    + " and ".join(f"{value:.0%}" for value in chance.values())
    + "."
)

# %% [markdown]
# To try next:
#
# - Write three wordings of your own for `kind`. Guess their order before you measure it.
# - Give the verdict whole sentences as label words: template `{text} {mask}`, and v(positive) = `I would gladly see it again.`
#   Which of the two models can be asked so?
# - Calibrate with other texts without content: an empty one, `[MASK]`, a review of the training data. How much does the
#   result depend on which?
#
# Further reading: "Language Models are Few-Shot Learners" (Brown et al., 2020); "Exploiting Cloze Questions for Few Shot Text
# Classification and Natural Language Inference" (Schick & Schütze, 2021); "Making Pre-trained Language Models Better Few-shot
# Learners" (Gao et al., 2021); "Calibrate Before Use" (Zhao et al., 2021); "WARP: Word-level Adversarial ReProgramming" (Hambardzumyan
# et al., 2021), for trained answers.
