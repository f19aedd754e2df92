"""Hard prompts

question: Can a task be put into words, so that a model that was never trained for it does it?
minutes: 1
documents: 001 §1.4 本文结构, §2 核心概念与联系, §3.1.1 Prompt, §3.2 算法步骤详解; 003 §2 Introduction(介绍), §3.2 Intuition(直觉)
needs: 3, 4, 5
"""

# %% [markdown]
# ## A task in words
#
# Lesson 5 fine-tuned a model: it read labelled examples, and its parameters changed. A prompt (提示) changes no
# parameter. It changes the question. A BERT can fill a gap, and a GPT can continue a text. So we write the task as a
# text with a gap, and the word in the gap is the answer. In the words of 001 §2, the task takes on the format of
# pre-training (将下游任务转化为预训练阶段的格式). It names two parts:
#
#     prompt = template (模板) + answer mapping (答案映射)
#
# The prompts of this lesson consist of words. They are called hard prompts (硬提示). Lessons 8 and 9 train soft ones.
#
# 001 §1.4 announces the concrete steps of several methods. 001 §3.2 then goes through the steps of one method only, the
# adapter (以Adapter为例, lesson 11). For prompts, the three steps of 001 §3.1.1 are all that we have: the template, the
# answer mapping, and inference (推理). We carry them out one by one.
#
# We use two tasks:
#
# - *kind*: is the thing in a description a town, a river, a book, a film, a cafe or a shop?
# - *verdict*: is a review for or against its film? Half of the reviews are for it.
#
# Two models of the course do them, a GPT and a BERT. They were pre-trained on the tiny world as in lessons 3 and 4, but
# for longer.
#
# **Predict before you run:** if we guess the answer, what fraction of each task do we get right on average?

# %%
import torch
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.show import QUICK, bar, figure, say, table, verbatim

tokenizer = default_tokenizer()
models = {"GPT": load_base("gpt"), "BERT": load_base("bert")}
KINDS = ("town", "river", "book", "film", "cafe", "shop")
examples, folder = {}, DATA / "tasks"
for split, name in (("train", "train"), ("valid", "valid"), ("test", "test_seen")):
    rows = read_jsonl(folder / "table_to_text" / f"{name}.jsonl", ["source", "target"])
    told = [{**row, "text": row["target"], "label": row["category"]} for row in rows]
    examples["kind", split] = [row for row in told if row["label"] in KINDS]
    rows = read_jsonl(folder / "reviews" / f"{split}.jsonl", ["text", "label"])
    examples["verdict", split] = rows[: {"train": None, "valid": 160, "test": 300}[split]]
if QUICK:
    for (task, split), rows in examples.items():
        if split != "train":
            examples[task, split] = rows[:: len(rows) // 12][:12]
guessing = {"kind": 1 / len(KINDS), "verdict": 1 / 2}
for task in guessing:
    rows = examples[task, "valid"]
    say(f"**{task}**, {len(rows)} validation texts. One of them is *{rows[0]['label']}*:")
    say(f"> {rows[0]['text']}")

# %% [markdown]
# Guessing gets 1 of 6 kinds right, which is 17 %, and 1 of 2 verdicts, which is 50 %. Read the review once more: not
# all of its remarks point in the same direction.

# %% [markdown]
# ## Three forms of template
#
# A template turns an example into a text with a gap. 001 §3.1.1 prints three common forms (常见的模板形式):
#
#     cloze (填空型)             [X] is a [MASK] of [Y].
#     QA (问答型)                Question: [X] Answer: [Z]
#     classification (分类型)    [X] It was [MASK].
#
# [X] and [Y] are parts of the example. [MASK] and [Z] are the gap. In our code they become the slots `{x}`, `{y}` and
# `{mask}` of one class, `Template`.
#
# A BERT reads a [MASK] for each token of the answer, and it sees both sides of the gap. A GPT reads the text up to the
# gap, and predicts what comes next. So a GPT needs a template that ends with its gap. Another template is refused.
#
# (In lesson 1 the space before a word became a part of its token, printed as ␣. So the space before the gap belongs to
# the answer, and not to the text before it.)
#
# **Predict before you run:** which of the three forms can a GPT use exactly as they are printed?

# %%
from minitransformer.course.hard import Template
from minitransformer.errors import UserError

FORMS = {
    "cloze": "[X] is a [MASK] of [Y].",
    "QA": "Question: [X] Answer: [Z]",
    "classification": "[X] It was [MASK].",
}
SLOTS = {"[X]": "{x}", "[Y]": "{y}", "[MASK]": "{mask}", "[Z]": "{mask}"}
short = {"x": "The Long Road", "y": "300 pages"}
templates, as_printed = {}, {}
for form, text in FORMS.items():
    for printed, slot in SLOTS.items():
        text = text.replace(printed, slot)
    templates[form] = text
    ids, places = Template(text).for_bert(short, tokenizer)
    say(f"**{form}:** `{text}`")
    verbatim("    BERT: " + " ".join(tokenizer.token(i) for i in ids))
    try:
        as_printed[form] = Template(text).for_gpt(short, tokenizer)
        verbatim("    GPT:  " + " ".join(tokenizer.token(i) for i in as_printed[form]))
    except UserError as refusal:
        say(f"    GPT:  {refusal}")
    assert [ids[place] for place in places] == [tokenizer.mask_id]
assert list(as_printed) == ["QA"]

# %% [markdown]
# Only the second form. For a GPT we cut every template after its gap. From the third form, this takes a full stop. From
# the first form it takes "of [Y]", and everything that [Y] says.
#
# *Where the document is not exact.* 001 §3.1.1 writes the gap as [MASK] in two forms and as [Z] in the form in the middle.
# Its third step reads only a [MASK] (让模型预测[MASK]位置的词). All three forms are texts with one gap. They differ in the words
# around it.

# %% [markdown]
# ## What stands in the gap
#
# Before we map anything, we look at a gap. We take the first description, a cafe, and a template of our own. Both
# models give a probability to each of the vocabulary's tokens. The function below keeps its logarithm.
#
# **Predict before you run:** there are six kinds. Will the six likeliest tokens be the six kinds?

# %%
WELL_KNOWN = "{text} The {mask} is well known."


def template_for(name: str, text: str) -> Template:
    """A template for one of our models; the GPT's is cut after the gap."""
    return Template(text if name == "BERT" else text[: text.index("{mask}") + len("{mask}")])


@torch.inference_mode()
def log_probs(name: str, text: str, rows: list[dict]) -> torch.Tensor:
    """log P of every token in the gap, (rows, V)."""
    model, template, found = models[name], template_for(name, text), []
    for row in rows:
        if name == "GPT":
            logits = model(torch.tensor([template.for_gpt(row, tokenizer)]))[0, -1]
        else:
            ids, (place,) = template.for_bert(row, tokenizer)
            logits = model.mlm_logits(model(torch.tensor([ids])))[0, place]
        found.append(logits.log_softmax(-1))
    return torch.stack(found)


first = examples["kind", "valid"][0]
top = {name: log_probs(name, WELL_KNOWN, [first])[0].exp().topk(6) for name in models}
likeliest = {name: [tokenizer.token(int(i)) for i in top[name].indices] for name in models}
say(f"> {WELL_KNOWN.format(text=first['text'], mask='____')}")
table(
    [
        tuple(x for name in models for x in (likeliest[name][i], top[name].values[i].item()))
        for i in range(6)
    ],
    ["GPT", "P", "BERT", "P"],
    [None, ".3f", None, ".3f"],
)
assert all({t.strip("␣") for t in tokens} != set(KINDS) for tokens in likeliest.values())

# %% [markdown]
# They are not. Many words can stand in a gap, and some tokens are only the beginning of a word or a name. So we have to
# say which words stand for which answer.

# %% [markdown]
# ## The answer mapping, by hand
#
# An answer mapping v gives words to each label: v(label). Read backwards, it turns the word in the gap into a label.
# For an example x
#
#     score(label) = log P(v(label) | template(x))        ŷ = the label with the highest score
#
# Here log is the natural logarithm, and ŷ is the answer. Only the labels' words compete. Other words do not matter,
# however likely they are. Nothing is trained, and no labelled example is shown. This is called zero-shot (零样本).
#
# In the first mapping of 001 §3.1.1 a person chooses the words (人工定义). For *kind* each label is its own word. A ± in
# this lesson is half of a 95 % confidence interval: 1.96 standard errors of a fraction (lesson 4).
#
# **Predict before you run:** the first table has P(v(label) | …) for one text and the six labels. Is their sum 1?

# %%
from minitransformer.course.answers import by_hand
from minitransformer.course.hard import label_log_probs, predict
from minitransformer.metrics import accuracy, standard_error

OWN_WORDS = {kind: kind for kind in KINDS}


def ask(name: str, text: str, words: dict, rows: list[dict], **more) -> torch.Tensor:
    """The scores of the labels, (rows, labels)."""
    answers = by_hand(words, tokenizer)
    return label_log_probs(models[name], tokenizer, template_for(name, text), rows, answers, **more)


def right(scores: torch.Tensor, words: dict, rows: list[dict]) -> float:
    """The fraction of rows whose label has the highest score."""
    return accuracy(predict(scores, by_hand(words, tokenizer)), [row["label"] for row in rows])


def margin(fraction: float, n: int) -> float:
    """Half of a 95 % confidence interval of a fraction of n."""
    return 1.96 * standard_error(fraction, n)


# %% [markdown]
# The second table has all validation descriptions.

# %%
valid = examples["kind", "valid"]
scores = {name: ask(name, WELL_KNOWN, OWN_WORDS, valid) for name in models}
well_known = {name: right(scores[name], OWN_WORDS, valid) for name in models}
answer = {name: predict(scores[name], by_hand(OWN_WORDS, tokenizer))[0] for name in models}
table(
    [(name, *scores[name][0].exp().tolist(), answer[name]) for name in models],
    ["P(v(label) | …)", *KINDS, "answer"],
    [None, *[".3f"] * len(KINDS), None],
)
table(
    [(name, well_known[name], margin(well_known[name], len(valid))) for name in models],
    [f"{len(valid)} descriptions", "right", "±"],
    [None, ".1%", ".1%"],
)
band = margin(guessing["kind"], len(valid))
assert all(scores[name][0].exp().sum() < 0.999 for name in models)
assert QUICK or min(well_known.values()) > guessing["kind"] + band

# %% [markdown]
# Their sum is below 1, because other tokens have probability too. In a full run both models are far above guessing, and
# nobody trained them for this. (Where a fraction is 0 or 1, the formula says ± 0. That is more certain than anybody can
# be.)

# %% [markdown]
# ## The three forms, run
#
# Now we ask with the three forms as they are printed:
#
# - *cloze*: [X] is the name of a town, a book or a film. [Y] is an amount from its table, such as "300 pages", "12,000
#   people" or "95 minutes". There are three labels, so guessing gets about a third.
# - *QA*: [X] is a description with the question "What is it?" after it. The labels are the six kinds.
# - *classification*: [X] is a review. The mapping is the document's own: positive → great, negative → terrible.
#
# We also ask the cloze again, with each [Y] taken from the next row. So a book may get "12,000 people".
#
# **Predict before you run:** for which of the two models can these false amounts change an answer?

# %%
UNITS = {"town": "people", "book": "pages", "film": "minutes"}
measured = []
for row in valid:
    facts, unit = row["table"], UNITS.get(row["label"])
    if unit in facts:
        measured.append({"x": facts["name"], "y": f"{facts[unit]} {unit}", "label": row["label"]})
reviews = examples["verdict", "valid"]
asked = {  # form: rows, words
    "cloze": (measured, {kind: kind for kind in UNITS}),
    "QA": ([{**row, "x": f"{row['text']} What is it?"} for row in valid], OWN_WORDS),
    "classification": (
        [{**row, "x": row["text"]} for row in reviews],
        {"positive": "great", "negative": "terrible"},
    ),
}
amounts = [row["y"] for row in measured]
false = [{**row, "y": y} for row, y in zip(measured, amounts[1:] + amounts[:1], strict=True)]

# %% [markdown]
# The first table has the fractions that are right. The second counts the answers that change where
# the amounts are false.

# %%
as_asked = {
    (form, name): right(ask(name, templates[form], words, rows), words, rows)
    for form, (rows, words) in asked.items()
    for name in models
}
table(
    [
        (f"{form}: {FORMS[form]}", len(rows), 1 / len(words), *(as_asked[form, m] for m in models))
        for form, (rows, words) in asked.items()
    ],
    ["001 §3.1.1", "texts", "guessing", *models],
    [None, "d", ".0%", ".1%", ".1%"],
)
words, changed = asked["cloze"][1], {}
for name in models:
    said = [
        predict(ask(name, templates["cloze"], words, rows), by_hand(words, tokenizer))
        for rows in (measured, false)
    ]
    changed[name] = sum(a != b for a, b in zip(*said, strict=True))
table(
    [(name, len(measured), n) for name, n in changed.items()],
    ["cloze, false amounts", "texts", "answers that changed"],
)
assert changed["GPT"] == 0 < changed["BERT"]

# %% [markdown]
# Only for the BERT, because the GPT does not see [Y]. It judges by the name alone. How far each of the three forms
# carries depends on what a base has read, so we keep the numbers, and try other wordings.

# %% [markdown]
# ## Words of several tokens
#
# The word "river" consists of several tokens. How likely is such a word in the gap? Let its tokens be w_1 … w_n. A GPT
# uses the chain rule: each token is predicted after those before it. A BERT gets n [MASK]s and fills them all at once.
# It predicts each token without knowing the others, so its sum is only an approximation:
#
#     GPT:    log P(w) = Σ_i log P(w_i | …, w_<i)
#     BERT:   log P(w) ≈ Σ_i log P(w_i | n [MASK]s)
#
# Every token adds a negative number. So long words have low sums. A common remedy, and our default, is the mean over
# the tokens: the sum divided by n.
#
# **Predict before you run:** "terrible" has five tokens, "town" has one. By which of the two measures does "terrible"
# come off better? Can the mean ever be lower than the sum?

# %%
rows = []
for word in ("town", "river", "terrible"):
    ids = tokenizer.encode(" " + word)
    for name in models:
        both = [
            ask(name, WELL_KNOWN, {"this": word, "other": "cafe"}, valid[:1], normalise=mean)
            for mean in (False, True)
        ]
        pieces = " ".join(tokenizer.token(i) for i in ids)
        rows.append((word, pieces, name, *(one[0, 0].item() for one in both)))
        assert abs(rows[-1][3] / len(ids) - rows[-1][4]) < 1e-4
table(rows, ["word", "tokens", "model", "sum", "mean"], [None, None, None, ".2f", ".2f"])
by_sum = {
    name: right(ask(name, WELL_KNOWN, OWN_WORDS, valid, normalise=False), OWN_WORDS, valid)
    for name in models
}
table(
    [(name, by_sum[name], well_known[name]) for name in models],
    ["kind, right", "by the sum", "by the mean"],
    [None, ".1%", ".1%"],
)
assert all(total <= mean for *_, total, mean in rows)
assert len(tokenizer.encode(" terrible")) == 5 and len(tokenizer.encode(" town")) == 1

# %% [markdown]
# By the mean, and it can never be lower: a negative number divided by n comes nearer to 0. For a word of one token the
# two are the same. The mean has a price. Once a word has begun, its other tokens are nearly certain, and their log P
# near 0 lifts the mean. So the mean can favour long words.

# %% [markdown]
# ## Only the wording changes
#
# We keep the models, the descriptions and the labels' words. Only the sentence around the gap changes. The first
# wordings sound like the tiny world's own descriptions. The later ones are what one would say to a person.
#
# **Predict before you run:** for each model, how many points lie between the best and the worst of these seven
# wordings?

# %%
KIND_WORDINGS = (
    WELL_KNOWN,
    "{text} It is a {mask}.",
    "{text} People like the {mask}.",
    "{text} All in all, it was a {mask}.",
    "{text} This text is about a {mask}.",
    "Text: {text} Topic: {mask}",
    "Question: What is this? {text} Answer: a {mask}",
)
WORDINGS = {"kind": dict.fromkeys(KIND_WORDINGS, OWN_WORDS)}  # wording: the labels' words
found, fractions = {}, {}  # by task, model and wording


def try_wordings(task: str) -> None:
    """Score the validation texts of a task in each of its wordings."""
    for text, words in WORDINGS[task].items():
        for name in models:
            scores = found[task, name, text] = ask(name, text, words, examples[task, "valid"])
            fractions[task, name, text] = right(scores, words, examples[task, "valid"])


def brief(text: str) -> str:
    """A wording, for tables and figures."""
    return text.replace("{text}", "…").replace("{mask}", "▁▁")


try_wordings("kind")
table(
    [
        (brief(text), *(fractions["kind", name, text] for name in models))
        for text in WORDINGS["kind"]
    ],
    ["kind, right", *models],
    [None, ".1%", ".1%"],
)
spread = {name: [fractions["kind", name, text] for text in WORDINGS["kind"]] for name in models}
assert QUICK or max(max(values) - min(values) for values in spread.values()) > 0.3

# %% [markdown]
# In a full run there are more than 30 points between the best and the worst wording, for at least one of the models.
# Both wordings say the same to us. Which one suits a model can only be measured.

# %% [markdown]
# ## A task that must be weighed
#
# Now the reviews. A description often contains the word for its kind. A verdict stands in no single word: for and
# against have to be weighed. We try seven wordings, and each has its own label words. The first three wordings are
# sentences from the tiny world's reviews. The sixth is the document's form and mapping.
#
# The grey band in the figure is what a guesser reaches in 95 of 100 tries. Every bar is a 95 % confidence interval.
#
# **Predict before you run:** seven wordings and two models are 14 numbers. If a model only guessed, how many of the 14
# would lie outside the band?

# %%
from minitransformer.course.figures import intervals

PAIRS = (
    ("{text} I left {mask} a smile.", "with", "without"),
    ("{text} I would {mask} see it again.", "gladly", "not"),
    ("{text} I have not seen a {mask} film this year.", "better", "worse"),
    ("{text} The film is {mask}.", "clever", "dull"),
    ("{text} All in all, the film was {mask}.", "good", "bad"),
    ("{text} It was {mask}.", "great", "terrible"),
    ("Question: {text} Did I like it? Answer: {mask}", "yes", "no"),
)
WORDINGS["verdict"] = {text: {"positive": plus, "negative": minus} for text, plus, minus in PAIRS}
try_wordings("verdict")
table(
    [
        (brief(text), f"{plus}/{minus}", *(fractions["verdict", name, text] for name in models))
        for text, plus, minus in PAIRS
    ],
    ["verdict, right", "words", *models],
    [None, None, ".1%", ".1%"],
)
with figure(
    "wordings",
    "Validation accuracy of each wording, with 95 % intervals; the grey band is guessing.",
    (10, 6.4),
    2,
    1,
) as axes:
    for ax, (task, wordings) in zip(axes, WORDINGS.items(), strict=True):
        n = len(examples[task, "valid"])
        lines = {name: [fractions[task, name, text] for text in wordings] for name in models}
        intervals(ax, [brief(text) for text in wordings], lines, lambda p, n=n: margin(p, n))
        half = margin(guessing[task], n)
        ax.axvspan(guessing[task] - half, guessing[task] + half, color="grey", alpha=0.2)
        ax.set(xlim=(0, 1.02), title=task)
    axes[1].set_xlabel("fraction right")
    axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# One number in 20 lies outside by chance, so 14 numbers have about 0.7 outside. A prompt adds no knowledge. It brings
# out what pre-training has put in, if the wording leads to it. So a wording can fail for two reasons: the base does not
# know the answer, or the wording does not ask for it. A later step tells the two apart.

# %% [markdown]
# ## All wordings together
#
# How should we choose? The best of seven is chosen by labelled texts, and partly for its luck. An ensemble (集成) chooses
# nothing. It asks in all seven wordings. In each of them, softmax turns the scores into probabilities of the labels.
# The ensemble takes the mean of these:
#
#     score(label) = 1/7 Σ_j softmax(score_j)(label)        j counts the wordings
#
# **Predict before you run:** will the ensemble be nearer to the best wording or to the worst?

# %%
together = {}
for task, wordings in WORDINGS.items():
    for name in models:
        each = [found[task, name, text].softmax(-1) for text in wordings]  # (rows, labels) each
        mean = torch.stack(each).mean(0)
        together[task, name] = right(mean, next(iter(wordings.values())), examples[task, "valid"])
best, worst = (
    {
        (task, name): choose(
            WORDINGS[task], key=lambda text, task=task, name=name: fractions[task, name, text]
        )
        for task in guessing
        for name in models
    }
    for choose in (max, min)
)
reach = {key: fractions[(*key, text)] for key, text in best.items()}
table(
    [(*key, fractions[(*key, worst[key])], together[key], reach[key]) for key in best],
    ["task", "model", "worst wording", "ensemble", "best wording"],
    [None, None, ".1%", ".1%", ".1%"],
)
assert QUICK or all(together[key] > fractions[(*key, worst[key])] - 0.05 for key in best)

# %% [markdown]
# Where few wordings are bad, the others outvote them. Where few are good, they can be outvoted too. An ensemble needs
# no labelled text for choosing, and it costs seven passes through the model for each text.

# %% [markdown]
# ## Favourites
#
# A model can answer without listening. Ask it about a text that says nothing, "N/A", and it still prefers some labels:
# their words are frequent, or the wording calls for them. Contextual calibration (校准, Zhao et al. 2021) subtracts this
# preference:
#
#     score'(label) = score(label | x) − score(label | "N/A")
#
# **Predict before you run:** one wording gives the same label to nearly all texts. Another gives each label about as
# often as it is true. Which of the two can gain more from calibration?

# %%
rows = []
for task, wordings in WORDINGS.items():
    truths = examples[task, "valid"]
    for name in models:
        for text, words in wordings.items():
            neutral = ask(name, text, words, [{"text": "N/A"}])  # (1, labels)
            said = predict(found[task, name, text], by_hand(words, tokenizer))
            most = max(words, key=said.count)
            after = right(found[task, name, text] - neutral, words, truths)
            rows.append(
                (
                    (task, name, brief(text), most, said.count(most) / len(said)),
                    (fractions[task, name, text], after),
                )
            )
for task in WORDINGS:
    table(
        [(*key[1:], *both) for key, both in rows if key[0] == task],
        [f"{task}: model", "wording", "favourite", "says it", "right", "calibrated"],
        [None, None, None, ".0%", ".1%", ".1%"],
    )
gains = {"over 60 %": [], "up to 60 %": []}
for (*_, often), (before, after) in rows:
    gains["over 60 %" if often > 0.6 else "up to 60 %"].append(after - before)
table(
    [(which, len(each), 100 * sum(each) / max(1, len(each))) for which, each in gains.items()],
    ["the favourite is said to", "cases", "mean gain, points"],
    [None, "d", "+.1f"],
)

# %% [markdown]
# The first wording can. If one label gets nearly all texts, many of them belong to other labels, and calibration can
# win them back. The last table shows whether it does. "N/A" is only a rough measure of a preference. And if a model
# does not know the answer, no subtraction helps.

# %% [markdown]
# ## A few examples
#
# In few-shot (少样本) prompts, solved examples stand before the question, in the same template. Nothing is trained on
# them; they are only read. 003 §2 calls this an important contribution of GPT-3 (GPT-3的一个重要贡献): prompt and context
# alone influence the answer (直接通过提示词和上下文，影响GPT-3输出的答案).
#
# A context has an end, here n_positions. So we take short training texts as examples, and the shorter validation texts
# as questions. The form is question and answer, as examples are often shown. We draw the examples twice.
#
# **Predict before you run:** how far will two draws of the same number of examples lie apart: not at all, a little, or
# as far as two wordings?

# %%
from minitransformer.course.hard import with_examples

generator = torch.Generator().manual_seed(0)


def shorter(rows: list[dict], fraction: float) -> list[dict]:
    """The shorter rows of each label."""
    kept = []
    for label in dict.fromkeys(row["label"] for row in rows):
        own = sorted((r for r in rows if r["label"] == label), key=lambda row: len(row["text"]))
        kept += own[: max(1, int(fraction * len(own)))]
    return kept


pools = {task: shorter(examples[task, "train"], 0.05) for task in guessing}
judged = {task: shorter(examples[task, "valid"], 0.4) for task in guessing}


def few_shot(task: str, name: str, text: str, shown: list[dict]) -> torch.Tensor:
    """The scores of the judged texts after some solved examples, (rows, labels)."""
    words = WORDINGS[task][text]
    solved = with_examples(Template(text), shown, by_hand(words, tokenizer)).text
    return ask(name, solved, words, judged[task], batch_size=16)


# %% [markdown]
# The GPT sees up to four examples. The BERT has fewer positions, so it sees two at most.

# %%
question = list(WORDINGS["kind"])[-1]
draws = [
    [pools["kind"][int(i)] for i in torch.randperm(len(pools["kind"]), generator=generator)[:4]]
    for _ in range(2)
]
rows = []
for name in models:
    for n in (0, 1, 2, 4) if name == "GPT" else (0, 1, 2):
        scores_of = [few_shot("kind", name, question, shown[:n]) for shown in draws]
        rows.append((name, n, *(right(s, OWN_WORDS, judged["kind"]) for s in scores_of)))
table(
    rows,
    [brief(question), "examples", "first draw", "second draw"],
    [None, "d", ".1%", ".1%"],
)
noise = margin(0.5, len(judged["kind"]))
say(f"{len(judged['kind'])} texts; a fraction of 50 % has ± {noise:.1%}.")
assert all(row[2] == row[3] for row in rows if row[1] == 0)

# %% [markdown]
# Without examples, both columns are the same question. With examples, compare the distance of the two draws with the ±.
# The examples are a part of the wording: they too can only be judged by measuring.

# %% [markdown]
# ## The label that was just read
#
# The solved examples contain labels. A label that was just read can pull the answer towards itself. We take the
# reviews, in each model's best wording. The column to watch is how often a model says *positive*. About half of the
# judged reviews are.
#
# **Predict before you run:** after one positive example, will a model say *positive* more often than after one negative
# example?

# %%
plus, minus = (
    next(row for row in pools["verdict"] if row["label"] == label)
    for label in ("positive", "negative")
)
orders = {"none": [], "+": [plus], "−": [minus], "+ −": [plus, minus], "− +": [minus, plus]}
rows = []
for name in models:
    text = best["verdict", name]
    words = WORDINGS["verdict"][text]
    for order, shown in orders.items():
        scores_few = few_shot("verdict", name, text, shown)
        said = predict(scores_few, by_hand(words, tokenizer))
        positive = said.count("positive") / len(said)
        rows.append((name, order, positive, right(scores_few, words, judged["verdict"])))
table(
    rows,
    ["model", "examples", "says positive", "right"],
    [None, None, ".0%", ".1%"],
)
long = [max(examples["verdict", "train"], key=lambda row: len(row["text"]))] * 3
try:
    few_shot("verdict", "GPT", best["verdict", "GPT"], long)
except UserError as refusal:
    say(f"Three long examples: {refusal}")

# %% [markdown]
# Compare the rows + and −, and then + − and − +. The questions are the same, so each difference comes from the examples
# and their order. Zhao et al. (2021) found such a pull in GPT-3, towards the label that stands last. Many examples
# would even it out, but a context has an end, as the refusal says.

# %% [markdown]
# ## The answer mapping, by likeness
#
# One word for a label is arbitrary. The second mapping of 001 §3.1.1 goes by the likeness of word vectors (词向量相似度). It
# adds the K words whose embeddings have the largest cosine with the label's own (与标签词向量最相似的Top-K个词). Any of them may
# stand in the gap. The score is the logarithm of their mean probability. A word that is near to two labels is left out.
#
# **Predict before you run:** which words will be near to "cafe": words with its meaning, or words that stand in the
# same places?

# %%
import re
from collections import Counter

from minitransformer.course.answers import nearest
from minitransformer.text.corpora import read_documents

prose = " ".join(read_documents(DATA / "text" / "train.txt"))
common = {word for word, n in Counter(re.findall(r"[a-z]+", prose)).items() if n >= 20}
near, by_k = {}, {}
for name, model in models.items():
    template = template_for(name, best["kind", name])
    by_k[name, 0] = reach["kind", name]
    for k in (1, 3):
        answers = near[name] = nearest(OWN_WORDS, model, tokenizer, k=k, among=common)
        mapped = label_log_probs(model, tokenizer, template, valid, answers)
        by_k[name, k] = accuracy(predict(mapped, answers), [row["label"] for row in valid])
table(
    [(kind, *(", ".join(list(near[name][kind])[1:]) or "–" for name in models)) for kind in KINDS],
    ["label", *(f"near it in the {name}" for name in models)],
)
table(
    [(name, brief(best["kind", name]), *(by_k[name, k] for k in (0, 1, 3))) for name in models],
    ["model", "its best wording", "K = 0", "K = 1", "K = 3"],
    [None, None, ".1%", ".1%", ".1%"],
)

# %% [markdown]
# The table of neighbours shows it: an embedding brings together words that stand in the same places. Such a word can be
# a synonym. It can also be a quite different thing, of which the same sentences are said, and then it misleads.

# %% [markdown]
# ## Words that examples choose
#
# A computer can also search for the words (自动搜索). It needs a few labelled examples. We give it four descriptions of
# each kind, and we take each model's worst wording. For every example, one pass through the model gives log P of all
# tokens in the gap. After that a trial costs almost nothing, because it only picks six columns of this table.
#
# Each kind has 20 candidates, the words with the largest lead. The lead of a word is its mean log P over the examples
# of this kind, minus its mean log P over the other examples. We start with six random words. In each trial one word is
# swapped for a random candidate of its kind. If the cross-entropy of the 24 examples falls, the swap stays.
#
# **Predict before you run:** how many choices are there of one candidate for each of the six kinds? The search makes
# 500 trials.

# %%
import torch.nn.functional as F

FEW = 4  # examples of each kind
few = []
for kind in KINDS:
    few += [row for row in examples["kind", "train"] if row["label"] == kind][:FEW]
labels = torch.tensor([KINDS.index(row["label"]) for row in few])
vocabulary = sorted(word for word in common if len(tokenizer.encode(" " + word)) == 1)
columns = [tokenizer.encode(" " + word)[0] for word in vocabulary]
say(f"{len(few)} examples, and {len(vocabulary)} frequent words that are one token each.")

# %% [markdown]
# Now the search itself.


# %%
def search(name: str, text: str, trials: int = 500) -> tuple[dict, list[float]]:
    """A word for each kind, and the loss on the few examples at the start and after each swap."""
    g = torch.Generator().manual_seed(0)
    log_p = log_probs(name, text, few)[:, columns]  # a row for each example
    own = torch.stack([log_p[labels == i].mean(0) for i in range(len(KINDS))])
    lead = own - (own.sum(0) - own) / (len(KINDS) - 1)  # a row for each kind
    candidates = lead.topk(20).indices
    chosen = torch.randperm(len(vocabulary), generator=g)[: len(KINDS)]
    losses = [F.cross_entropy(log_p[:, chosen], labels).item()]
    for _ in range(trials):
        kind, place = (int(torch.randint(n, (), generator=g)) for n in candidates.shape)
        trial = chosen.clone()
        trial[kind] = candidates[kind, place]
        loss = F.cross_entropy(log_p[:, trial], labels).item()
        if loss < losses[-1] and len(set(trial.tolist())) == len(KINDS):
            chosen, losses = trial, [*losses, loss]
    return {kind: vocabulary[int(i)] for kind, i in zip(KINDS, chosen, strict=True)}, losses


# %% [markdown]
# The words are then judged on the validation descriptions, which the search did not see.

# %%
searched, by_search = {}, {}
for name in models:
    text = worst["kind", name]
    searched[name], losses = search(name, text)
    by_search[name] = right(ask(name, text, searched[name], valid), searched[name], valid)
    say(
        f"{name}: {len(losses) - 1} of 500 swaps were kept. The loss on {len(few)} examples went from {losses[0]:.2f} to "
        f"{losses[-1]:.2f}."
    )
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
gain = {name: by_search[name] - fractions["kind", name, worst["kind", name]] for name in models}
assert QUICK or max(gain.values()) > 0.1
table(
    [(kind, *(searched[name][kind] for name in models)) for kind in KINDS],
    ["label", *(f"found with the {name}" for name in models)],
)
table(
    [
        (
            name,
            brief(worst["kind", name]),
            fractions["kind", name, worst["kind", name]],
            by_search[name],
        )
        for name in models
    ],
    ["model", "its worst wording", "own words", "found words"],
    [None, None, ".1%", ".1%"],
)

# %% [markdown]
# There are 20⁶ choices, which is 64 million. So 500 trials see very few of them, but each kept swap is a step down. The
# search does not know what a word means. It only knows which words become likelier when the description is of this
# kind.
#
# In a full run the found words are much better than the labels' own words, for at least one model. So the gap held the
# answer, but under other words. (Lesson 9 searches for the words of a prompt. There each trial costs a pass through the
# model.)

# %% [markdown]
# ## The answer mapping, continuous
#
# The third mapping of 001 §3.1.1 leaves words behind. It maps labels to a continuous space (将离散标签映射到连续向量空间). The model
# compares the vector h, which it computes at the gap, with the embedding of each word: the score of a word is h ·
# e(word). We put a trained vector in the place of e(word):
#
#     score(label) = h · v_label
#
# Each v_label starts as the embedding of the label's word. The base stays frozen. Only the vectors are trained, one of
# C numbers for each label. This is no longer zero-shot, because it needs labelled examples.
#
# It also answers the question from above: did the base not know, or did the wording not ask? If trained vectors are
# much better than words, then h holds the answer, and the words had not fetched it. If the vectors stay near guessing
# too, the answer is not in h at this gap, or not in a form that one vector for each label can read.
#
# For *kind* we take each model's worst wording and the 24 examples of the last step. For *verdict* we take the best
# wording and 640 reviews.
#
# **Predict before you run:** the models have the width C = 128. How many parameters are trained for the six kinds?

# %%
from minitransformer.course.answers import AnswerVectors
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.training.loop import TrainConfig, train
from minitransformer.tuning import attached


def batches(task: str, name: str, text: str, rows: list[dict], batch_size: int) -> LabelledTexts:
    """Rows of a task in a wording, as batches."""
    template = template_for(name, text)
    if name == "BERT":
        ids = [template.for_bert(row, tokenizer)[0] for row in rows]
    else:
        ids = [template.for_gpt(row, tokenizer) for row in rows]
    labels, n = [row["label"] for row in rows], models[name].config.n_positions
    classes = list(WORDINGS[task][text])
    return LabelledTexts(ids, labels, classes, batch_size, tokenizer.pad_id, n)


plan = {  # task: wordings, training texts, texts a batch, steps
    "kind": (worst, few, 8, 4 if QUICK else 48),
    "verdict": (best, examples["verdict", "train"][:640], 16, 4 if QUICK else 80),
}

# %% [markdown]
# The last two columns are the fractions of the validation texts that are right.

# %%
rows = []
for task, (wording, train_rows, size, steps) in plan.items():
    for name, model in models.items():
        text, truths = wording[task, name], examples[task, "valid"]
        words = WORDINGS[task][text]
        vectors = AnswerVectors(by_hand(words, tokenizer), tokenizer.mask_id)
        data = batches(task, name, text, train_rows, size)
        config = TrainConfig(steps=steps, lr=1e-2, warmup=4, weight_decay=0.0)
        with attached(model, vectors):
            train(model, data, config, loss=vectors.loss, progress=False)
            with torch.inference_mode():
                held_out = batches(task, name, text, truths, 32).in_order()
                scores_of = torch.cat([vectors.scores(model, batch) for batch in held_out])
            trained = vectors.report().trained
        by_vectors = right(scores_of, words, truths)
        by_words = fractions[task, name, text]
        rows.append((task, name, len(train_rows), trained, guessing[task], by_words, by_vectors))
table(
    rows,
    ["task", "model", "examples", "trained", "guessing", "by words", "by vectors"],
    [None, None, "d", "d", ".0%", ".1%", ".1%"],
)
assert all(row[3] == len(WORDINGS[row[0]][best[row[0], row[1]]]) * 128 for row in rows)

# %% [markdown]
# There are 6 · 128 = 768 parameters, and 256 for the two verdicts. Read each row by the rule above. The two tasks
# cannot be compared here, because one had 24 examples and the other 640.

# %% [markdown]
# ## Words for a longer answer
#
# A label is one word. Now the answer is a text. Table-to-text (表格生成文本) gives a table of facts, and asks for sentences
# that state them. Lessons 8 and 9 train prompts for this task; here we use words.
#
# 003 §3.2 gives a prompt two effects. It influences which tokens of x are attended to, and through that which y is
# likely. It then says that prompts in natural language improve the output only a little (效果提升很有限). We measure this for
# our GPT:
#
# - *slots*: the fraction of a table's values that stand in the text;
# - *sentences*: the fraction of texts that are no table again, and end like a sentence;
# - *both*: the fraction of texts that are sentences and state all values.
#
# The first row is no request about a table. It shows what the GPT can do with a description: it says it again in other
# words, because many of its training texts said a thing twice.
#
# **Predict before you run:** what will bring more sentences, a request in words or a solved example?

# %%
from minitransformer.course.tasks import slot_accuracy
from minitransformer.course.tinyworld import slot_values
from minitransformer.generation.sampling import generate_texts

tables = examples["kind", "valid"][: 4 if QUICK else 40]
pairs = examples["kind", "train"]
shown = min(pairs, key=lambda row: len(tokenizer.encode(row["source"] + row["target"])))
solved = f"{shown['source']}\n{shown['target']}"
REQUESTS = {
    "(a description, said again)": "{target}\n {mask}",
    "(a line break)": "{source}\n {mask}",
    "In a sentence:": "{source}\nIn a sentence: {mask}",
    "Describe this table in sentences.": "Describe this table in sentences. {source}\n {mask}",
    "This is about": "{source}\nThis is about {mask}",
    "(a solved example first)": "{solved}\n\n{source}\n {mask}",
}


# %% [markdown]
# The table has the measures. Below it stands what the GPT writes about the first table.

# %%
written = {}
for request, text in REQUESTS.items():
    ids = [Template(text).for_gpt({**row, "solved": solved}, tokenizer) for row in tables]
    texts = generate_texts(models["GPT"], tokenizer, ids, 24 if QUICK else 70)
    written[request] = [text.strip().split("\n")[0] for text in texts]
rows = []
values = [slot_values(row["table"]) for row in tables]
for request, texts in written.items():
    told = [" | " not in text and text.endswith((".", "!", "?")) for text in texts]
    whole = [slot_accuracy([text], [own])[1] == 1 for text, own in zip(texts, values, strict=True)]
    both = [a and b for a, b in zip(told, whole, strict=True)]
    fractions_of = (sum(each) / len(texts) for each in (told, both))
    rows.append((request, slot_accuracy(texts, values)[0], *fractions_of))
table(rows, ["after the table", "slots", "sentences", "both"], [None, ".1%", ".0%", ".1%"])
say(f"> {tables[0]['source']}")
for request in list(REQUESTS)[1:]:
    say(f"- {request} {written[request][0]}")
assert all(row[3] <= row[2] for row in rows)

# %% [markdown]
# Compare *both* in the first row with the rows below it. If the first row is high and another is low, then the GPT can
# write such sentences and keep the values, but these words do not lead it there. Keep the numbers in mind: lessons 8
# and 9 train vectors for the same task.

# %% [markdown]
# ## Once, on the test
#
# The best and the worst wording were chosen on validation texts. So their numbers are no fair measure of them. Now each
# answers once about test texts. (The ensemble needs no test, because nothing was chosen for it.)
#
# **Predict before you run:** the best of seven owes a part of its place to luck, and so does the worst. On new texts, will
# the distance between the two become larger or smaller?

# %%
rows = []
for which, chosen in (("best", best), ("worst", worst)):
    for (task, name), text in chosen.items():
        words, truths = WORDINGS[task][text], examples[task, "test"]
        tested = right(ask(name, text, words, truths), words, truths)
        half = margin(tested, len(truths))
        rows.append((task, name, which, fractions[task, name, text], tested, half))
table(
    [(*row, bar(row[4], width=12)) for row in sorted(rows, key=lambda row: row[:2])],
    ["task", "model", "wording", "validation", "test", "±", ""],
    [None, None, None, ".1%", ".1%", ".1%", None],
)
on_test = {row[:3]: row[4] for row in rows}
gap = {name: on_test["kind", name, "best"] - on_test["kind", name, "worst"] for name in models}
assert QUICK or max(on_test["kind", name, "best"] for name in models) > 0.5
assert QUICK or max(gap.values()) > 0.2

# %% [markdown]
# On average it becomes smaller, because luck does not repeat. In a full run a wide gap remains for *kind*, in at least one
# of the models. So the wording really matters.

# %% [markdown]
# ## The answer
#
# Yes, if pre-training has taught what the task asks for, and if the wording leads the model to say it. In a full run
# one of our bases names the kind of more than half of the descriptions in its best wording, and nobody trained it for
# that. Which wording leads there can only be measured.
#
# To try next:
#
# - Write three wordings of your own for *kind*. Guess their order before you measure it.
# - Give the verdict whole sentences as label words: the template `{text} {mask}`, and v(positive) = `I would gladly see
#   it again.` Which of the two models can be asked in this way?
# - Calibrate with another text without content: an empty one, or `[MASK]`. How much does the result depend on it?
#
# Exercises: `make start-7` writes the stubs of this lesson's exercises to `workbook/lesson_07.py`, and `make check-7`
# checks them. In lesson 8 the words of a prompt become vectors, and are trained.
#
# Further reading: "Language Models are Few-Shot Learners" (Brown et al., 2020); "Exploiting Cloze Questions for Few
# Shot Text Classification and Natural Language Inference" (Schick & Schütze, 2021); "Making Pre-trained Language Models
# Better Few-shot Learners" (Gao et al., 2021), for searched words; "Calibrate Before Use" (Zhao et al., 2021); "WARP:
# Word-level Adversarial ReProgramming" (Hambardzumyan et al., 2021), for trained answers.
