"""The text of data/DATASHEET.md, with examples, sizes and checksums of the files as they were written."""

from __future__ import annotations

from itertools import islice

from minitransformer.course.tinyworld.categories import SEEN, UNSEEN
from minitransformer.course.tinyworld.tasks import TASKS, examples
from minitransformer.course.tinyworld.world import KINDS, MIXES, documents

_HEAD = """\
# Datasheet: the tiny world

Written by `python -m minitransformer data` (or `make data`), together with every file that it describes; do not edit.

## What it is and why

Text and tasks for this course, made by its own generator (`minitransformer/course/tinyworld`). It tells of towns, \
people, films and weather that exist nowhere, in simple English and, in single sentences, in Chinese. It is \
small enough to commit, needs no network, and is simple enough that a model of about a million parameters can learn \
to write it on a laptop. \
Because the generator knows every fact that it tells, what a model writes can be checked: whether each value of a \
table is in its description, whether a style is kept, whether an answer is right.

## How it is made

Sentence templates with alternatives, lists of everyday words, and invented names. Chance comes from \
`random.Random(seed).random()` alone, whose sequence Python promises never to change, so the bytes are the same on \
every machine. Each document or example depends only on its mix or task, its split, its seed and its number; the \
files hold the beginning of endless streams with seed 0, repeats left out.

Names are built of syllables, and each syllable has one Chinese character: Mira is 米拉. There are hundreds of \
thousands of them, so that a model has to read a name from its context and cannot know it. People whose name ends \
in -a or -i are *she*, all others *he*. The Chinese character of a syllable does not depend on who bears the name.

## Splits, and what is held out

- **Names.** A checksum (CRC-32) puts every name into train (8 in 10), valid (1 in 10) or test (1 in 10). A name of \
one split never occurs in another. The few texts that name nobody (`What is the opposite of hot?`) are put into one \
split by the checksum of the text.
- **Categories.** Of the twelve kinds of things, eight occur in the tuning data of `table_to_text`: {seen}. Four are \
held out for extrapolation and make up `test_unseen`: {unseen}. All twelve occur in the text for pretraining (and in \
`qa`).
- **Pairs.** No document for pretraining holds both sides of a task: tables and descriptions both occur, but never a \
table with its description; English and Chinese sentences both occur, but never a sentence with its translation (a \
glossary gives single words and names in both).

## Text

`text/train.txt`, `valid.txt` and `test.txt` are the mix *prose*; `text/chinese.txt` is Chinese sentences, for \
training the tokenizer. A line that holds only `<|endoftext|>` stands between two documents. The mixes, by share of \
documents:

{mixes}

One example of each kind:

{kinds}

## Tasks

One JSON object a line, in UTF-8. Reviews are half positive, half negative; styles are equally many of each.

{tasks}

## What it is not

It is no sample of real language: the vocabulary is about a thousand words besides names, the sentences come from a \
few hundred templates, the world has no history and next to no knowledge. Results on it say how methods compare on \
small, clean data; they do not carry over in size to real tasks. Templates are shared by all splits, only names, \
values and their combination are new in a test: what it measures is use of the context, not new ways of saying \
things. The held-out categories share some fields and phrases with the seen ones. Translations are one of several \
right ones. Nobody in it is real; likeness to a real name is chance.

## Licence

MIT, like the rest of the repository. No text was taken from elsewhere.

## Files

| file | bytes | SHA-256 |
|---|---:|---|
{files}
"""


def datasheet(files: dict[str, tuple[int, str]], sizes: dict[str, dict[str, int]]) -> str:
    """The datasheet for these files (name to size in bytes and SHA-256) and numbers of examples by task and split."""
    kinds = list(KINDS)
    mixes = ["| kind | " + " | ".join(MIXES) + " |", "|---|" + "---:|" * len(MIXES)]
    for kind in kinds:
        shares = [f"{mix[kind]:.1%}".replace(".0%", "%") if kind in mix else "" for mix in MIXES.values()]
        mixes.append(f"| {kind} | " + " | ".join(shares) + " |")
    return _HEAD.format(
        seen=", ".join(SEEN),
        unseen=", ".join(UNSEEN),
        mixes="\n".join(mixes),
        kinds="\n\n".join(f"**{kind}**\n\n{_quote(_first_of(kind))}" for kind in kinds),
        tasks="\n\n".join(_task(task, splits) for task, splits in sizes.items()),
        files="\n".join(f"| `{name}` | {size:,} | `{digest}` |" for name, (size, digest) in files.items()),
    )


def _first_of(kind: str) -> str:
    mix = next(mix for mix, weights in MIXES.items() if kind in weights)
    return next(document.text for document in documents("train", mix) if document.kind == kind)


def _quote(text: str) -> str:
    return "\n".join(f"> {line}  " for line in text.split("\n")).rstrip()


def _task(task: str, splits: dict[str, int]) -> str:
    counts = ", ".join(f"{split} {size:,}" for split, size in splits.items())
    (shown,) = islice(examples(task, "train"), 1)
    fields = "\n".join(f"- `{field}`: {str(value)!r}" for field, value in shown.items())
    return f"### {task}\n\n{counts}; no two with the same {' and '.join(TASKS[task].key)}. The first:\n\n{fields}"
