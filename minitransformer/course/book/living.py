"""The living figures: where each stands, what it asks the reader to try, and the numbers that PyTorch gave for it.

A figure's script is in page/living/. What it shows at first is also computed here by PyTorch and kept in
data/records/living.json: the still picture is drawn from that, and the tests hold the script to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"
SENTENCE = "Nipa drew a green clock at the station in Letewick on Thursday."


@dataclass(frozen=True)
class Living:
    """One figure."""

    name: str
    """Of its script page/living/NAME.js."""
    lesson: int
    step: str
    """A regular expression for the title of the step that it stands in; the end of the lesson if no title fits."""
    title: str
    question: str
    """What the reader finds out by trying."""
    answer: str
    """What there is to be seen, folded."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What its script starts with, as data- attributes."""
    still: Callable[[Mapping[str, Any]], str] = lambda numbers: ""
    """HTML of the still picture, from the recorded numbers."""


def _texts(numbers: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in numbers["texts"].items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _bars(numbers: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<li style="--value: {value}"><span>{escape(name)}</span> <b>{value:.3f}</b></li>'
        for name, value in numbers["bars"]
    )
    return f'<ol class="living-bars">{rows}</ol>'


FIGURES = (
    Living(
        "merges",
        1,
        r"merge|vocabular|encod",
        "Byte-pair merges on your own text",
        "Move the slider from 256 to the end. Which words become one token first? Then type Chinese: how many tokens "
        "does a character take, and why?",
        "With 256 tokens every byte is its own token, so an English letter takes one and a Chinese character three. "
        "Frequent words of the training text are joined first. Nine tenths of that text were English, so few Chinese "
        "characters became tokens.",
        {"text": "The station in Letewick was closed on Thursday. 前缀微调 is prefix tuning."},
        _bars,
    ),
    Living(
        "attention",
        2,
        r"mask|heads",
        "Attention, on a sentence of your own",
        "Choose a token that reads, and look for its row's largest weights. Then hide the token that got most of it. "
        "Where does that weight go? Then take the causal mask away.",
        "A row always sums to 1, so the weight of a hidden token is shared out among the others, in the ratios that "
        "they had. Without the causal mask a row also reads what comes later; the model was never trained for that.",
        {"text": SENTENCE, "prefixes": "pirate formal headline child poetic", "prefix": "none"},
        _bars,
    ),
    Living(
        "sampling",
        3,
        r"sampl|temperature|next",
        "Temperature, top-k and top-p on a real distribution",
        "Find a temperature at which the five texts are all sensible and all different. Then set the temperature to 2 "
        "and make the texts sensible again with top-p alone.",
        "Temperature changes all probabilities and rules nothing out. Top-k keeps a fixed number of tokens. Top-p "
        "keeps few where the model is sure and many where it is not, and so it fits every place in the text.",
        {"text": "On Thursday Nipa"},
        _bars,
    ),
    Living(
        "switch",
        9,
        r"trained|long|result",
        "One frozen base, many prefixes",
        "Write a sentence of the tiny world, and switch the prefix. The base stays the same. Which layer gives the "
        "prefix most of its attention? Is that the same for every prefix?",
        "Only 20 columns of keys and values are exchanged. λ differs much between heads: some read mostly the prefix, "
        "others hardly at all, and which do depends on the prefix.",
        {"text": SENTENCE, "prefixes": "pirate formal headline child poetic", "prefix": "pirate"},
        _texts,
    ),
    Living(
        "share",
        9,
        r"λ|identity|He et al",
        "The prefix's share",
        "Move the slider from 1 to 0. At 0 no token reads the prefix any more, and yet the text may differ from the "
        "plain base's. Why? Tick the box to find out. Then look at both sides of the identity while you move the "
        "slider.",
        "A prefix of length P takes the positions 0 to P−1, so the text starts at position P. Muting the prefix leaves "
        "the text there. Only when its positions count from 0 is it the plain base. The identity holds at every share: "
        "the result is (1 − λ) times what the text gives plus λ times what the prefix gives.",
        {"text": SENTENCE, "prefix": "pirate"},
        _texts,
    ),
    Living(
        "train",
        9,
        r"Free, or through|initial|begin",
        "Train a prefix in the page",
        "Train from words of the task, and note after how many steps the text has the style. Then start from random "
        "numbers. How many steps does that take? Then change the pairs to a style of your own.",
        "Started from the keys and values of the task's own words, the prefix is in a region that the base knows, and "
        "a few steps suffice (003 §4.2). From random numbers the first texts are broken, and the loss starts much "
        "higher.",
        {"text": "Sen found a golden horn at the park of Tanmi on Friday.", "style": "pirate"},
        _texts,
    ),
    Living(
        "rank",
        12,
        r"[Rr]ank|spectr",
        "How much of a change a low rank holds",
        "Which rank holds half of the change that full fine-tuning made? Which holds nine tenths? How many parameters "
        "does a LoRA of that rank train?",
        "The change of a weight is not of low rank, but its singular values fall fast at first. LoRA bets that the "
        "first few directions are enough for the task.",
        {},
        _bars,
    ),
)


def html(
    figure: Living,
    numbers: Mapping[str, Any],
    translate: Callable[[str], str] = lambda text: text,
    words: Callable[[str], str] = lambda text: text,
) -> str:
    """The figure as it stands in a page, asleep, with its still picture.

    Args:
        figure: which.
        numbers: as they were recorded.
        translate: the lesson's blocks into the book's language.
        words: the book's own words into it.
    """
    settings = "".join(f' data-{name}="{escape(value)}"' for name, value in figure.settings.items())
    name = f"living-{figure.name}"
    return (
        f'<figure data-living="{figure.name}" id="{name}" aria-labelledby="{name}-title"{settings}>\n'
        f'<figcaption><p class="living-name" id="{name}-title">{escape(translate(figure.title))}</p>\n'
        f'<p class="living-question">{escape(translate(figure.question))}</p></figcaption>\n'
        f'<div class="still">{figure.still(numbers)}</div>\n'
        f"<details><summary>{escape(words('What there is to be seen'))}</summary>"
        f"<p>{escape(translate(figure.answer))}</p></details>\n</figure>\n"
    )


def scripts(names: list[str]) -> list[str]:
    """The scripts that a page with these figures needs, in order, below the page folder.

    The first has the figures' words in the book's language.
    """
    model = [f"model/{name}.js" for name in ("files", "tokenizer", "gpt", "sampling", "train")]
    return ["living/words.js", *model, "living/common.js", *(f"living/{name}.js" for name in names)] if names else []


def read(path: Path) -> dict[str, Any]:
    """The recorded numbers of all figures."""
    return json.loads(path.read_text(encoding="utf-8"))
