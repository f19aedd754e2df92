"""What a base can do before it is tuned: the skills that tuning builds on, measured on worlds that it never saw.

A base that cannot copy a name from its context cannot be steered to tell a table: no prefix adds that. So every base
is asked, with names of the test split, to copy, to read a table, to say the same in other words, to go on in a style,
to fill holes. Every skill is a share between 0 and 1, and every measurement draws its examples from the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from minitransformer.course.batches.denoising import infill
from minitransformer.course.batches.pairs import SentencePairs, encode_pair
from minitransformer.course.tasks import prompt_ids
from minitransformer.course.tinyworld import KINDS, STYLES, Dice, examples, parse_table, slot_values, style_of
from minitransformer.course.tinyworld.names import Names
from minitransformer.course.tinyworld.styles import styled
from minitransformer.generation.sampling import generate, generate_texts
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.text.batches import IGNORE, pad_right
from minitransformer.text.tokenizer import Tokenizer

Write = Callable[[Sequence[str]], list[str]]


def draw(kind: str, n: int, split: str = "test") -> list[str]:
    """`n` documents of one kind, each from its own dice."""
    return [KINDS[kind](Names(split, dice), dice) for dice in (Dice("skills", kind, split, i) for i in range(n))]


def copied(first: str, second: str, between: str = " ") -> tuple[int, int]:
    """How many parts of the first line stand at the same place in the second, and how many there are."""
    a, b = first.split(between), second.split(between)
    return sum(x == y for x, y in zip(a, b, strict=False)), len(a)


def kept(parts: Sequence[str], text: str) -> tuple[int, int]:
    """How many of these strings a text contains, and how many there are."""
    return sum(part in text for part in parts), len(parts)


def share(counts: Sequence[tuple[int, int]]) -> float:
    """All hits over all tries."""
    return sum(hit for hit, _ in counts) / sum(tries for _, tries in counts)


def twice_told(write: Write, n: int) -> dict[str, float]:
    """The skills of a model that, given a text, writes it a second time in its own way."""
    runs = [text.split("\n")[0] for text in draw("copied run", n)]
    tables = [text.split("\n")[0] for text in draw("shuffled table", n)]
    tables_again = write(tables)
    # A description and its table come from the same dice: what has to be said again is what the table holds.
    told = [example for example, _ in zip(examples("table_to_text", "test_seen", seed=1), range(n), strict=False)]
    retold = write([str(example["target"]) for example in told])
    return {
        "copies words and names": share([copied(a, b) for a, b in zip(runs, write(runs), strict=True)]),
        "reads a table: fields kept": share(
            [kept(a.split(" | "), b) for a, b in zip(tables, tables_again, strict=True)]
        ),
        "reads a table: values kept": share(
            [kept(slot_values(parse_table(a)), b) for a, b in zip(tables, tables_again, strict=True)]
        ),
        "says it in other words: values kept": share(
            [kept(slot_values(x["table"]), text) for x, text in zip(told, retold, strict=True)]
        ),
    }


def gpt_skills(model: GPT, tokenizer: Tokenizer, n: int = 200) -> dict[str, float]:
    """Copying, reading tables, retelling and keeping a style, greedily continued."""

    def go_on(texts: Sequence[str], most: int = 100) -> list[str]:
        new = []
        for start in range(0, len(texts), 50):
            prompts = [prompt_ids(text, tokenizer) for text in texts[start : start + 50]]
            new += generate_texts(model, tokenizer, prompts, most)
        return new

    skills = twice_told(lambda texts: go_on([text + "\n" for text in texts]), n)
    right = []
    for style in STYLES:
        texts = [
            styled(Names("test", dice), dice, style)["text"]
            for dice in (Dice("skills", style, i) for i in range(max(1, n // len(STYLES))))
        ]
        halves = [" ".join(text.split(" ")[: len(text.split(" ")) // 2]) for text in texts]
        endings = go_on(halves, 50)
        right += [style_of(a + b) == style for a, b in zip(halves, endings, strict=True)]
    skills["goes on in a style"] = sum(right) / len(right)
    return skills


def seq2seq_skills(model: Seq2Seq, tokenizer: Tokenizer, n: int = 200) -> dict[str, float]:
    """Copying, reading tables and retelling; filling holes; the words of the dictionary."""

    def rewrite(texts: Sequence[str], holes: bool = False) -> list[str]:
        generator, new = torch.Generator().manual_seed(0), []
        for start in range(0, len(texts), 50):
            rows = [tokenizer.encode(text) for text in texts[start : start + 50]]
            if holes:
                rows = [infill(row, tokenizer.mask_id, generator, fraction=0.15) for row in rows]
            source, source_mask = pad_right(rows, model.config.pad_id)  # (B, S)
            new += generate(
                model,
                [[model.config.start_id]] * len(rows),
                110,
                stop_id=model.config.end_id,
                source=source,
                source_mask=source_mask,
            )
        return [tokenizer.decode(ids) for ids in new]

    skills = twice_told(rewrite, n)
    whole = draw("description", n)
    skills["fills holes: words right"] = share(
        [copied(a, b) for a, b in zip(whole, rewrite(whole, holes=True), strict=True)]
    )
    pages = [page.split("\n") for page in draw("glossary", n)]
    skills["knows the dictionary"] = share(
        [copied(zh, text, "，") for (_, zh), text in zip(pages, rewrite([en for en, _ in pages]), strict=True)]
    )
    return skills


@torch.inference_mode()
def bert_skills(model: Bert, tokenizer: Tokenizer, n: int = 400) -> dict[str, float]:
    """Filling masked words, finding a name in the other sentence, telling neighbours from strangers."""
    pairs = SentencePairs(
        [
            KINDS[kind](Names("test", dice), dice)
            for i in range(n)
            for kind in ("story", "description", "news", "review")
            for dice in [Dice("skills", kind, i)]
        ],
        tokenizer,
        50,
        model.config.n_positions,
        span=3,
        seed=1,
    )
    words, order = [], []
    for i in range(n // 50):
        batch = pairs(i)
        hidden = model(batch["ids"], attention_mask=batch["attention_mask"], types=batch["types"])  # (B, T, C)
        at = batch["labels"] != IGNORE  # (B, T)
        words.append((int((model.mlm_logits(hidden, at).argmax(-1) == batch["labels"][at]).sum()), int(at.sum())))
        order.append((int((model.nsp_logits(hidden).argmax(-1) == batch["next_label"]).sum()), len(hidden)))

    runs = [text.split("\n")[0] for text in draw("copied run", n)]
    found = []
    for run in runs:
        ids, types = encode_pair(tokenizer, run, run)
        hole = len(ids) - 2  # the last token of the second copy
        answer, ids[hole] = ids[hole], tokenizer.mask_id
        hidden = model(torch.tensor([ids]), types=torch.tensor([types]))  # (B, T, C)
        found.append((int(model.mlm_logits(hidden[0, hole]).argmax() == answer), 1))
    return {
        "fills masked words": share(words),
        "copies from the other sentence": share(found),
        "tells neighbours from strangers": share(order),
    }


SKILLS: dict[type[nn.Module], Callable[..., dict[str, float]]] = {
    GPT: gpt_skills,
    Bert: bert_skills,
    Seq2Seq: seq2seq_skills,
}
