"""Where the course's data lie, and the tokenizer that all its models share."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from minitransformer.course import shipped
from minitransformer.errors import UserError
from minitransformer.text.corpora import read_documents
from minitransformer.text.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = shipped.DATA
VOCAB_SIZE = 2048  # of the default tokenizer: bytes, merges and special tokens together
CHINESE_SHARE = 0.10  # of the bytes that it is trained on
DEFAULT_PATH = DATA / "tokenizer.tiktoken"

shipped.watch()


@functools.cache
def default_tokenizer() -> Tokenizer:
    """Return the one tokenizer that GPT, BERT and the encoder–decoder share: `data/tokenizer.tiktoken`."""
    return Tokenizer.load(DEFAULT_PATH)


def own_text() -> tuple[list[str], list[str]] | None:
    """Training and validation paragraphs of the reader's own text, or None where the reader named none.

    `TEXT=file make lesson-3` sets the environment variable MINITRANSFORMER_TEXT to a file, or to "python": the manual
    that comes with Python. The first twentieth of the paragraphs is for validation.

    Raises:
        UserError: the file cannot be read, or it has fewer than two paragraphs.
    """
    name = os.environ.get("MINITRANSFORMER_TEXT")
    if not name:
        return None
    if name == "python":
        from pydoc_data.topics import topics

        documents = list(topics.values())
    else:
        documents = read_documents(name)
    paragraphs = [part for document in documents for part in document.split("\n\n") if part.strip()]
    if len(paragraphs) < 2:
        raise UserError(f"{name} has only one paragraph. Give a text with empty lines between its paragraphs.")
    n_valid = max(1, len(paragraphs) // 20)
    return paragraphs[n_valid:], paragraphs[:n_valid]


def train_default_tokenizer(data: Path = DATA) -> Tokenizer:
    """Train the default tokenizer on all of chinese.txt and the beginning of train.txt, in `data/text`.

    So much English is taken that Chinese makes up `CHINESE_SHARE` of the bytes: beside the whole of train.txt
    it would be far less, and few Chinese characters would become tokens.
    """
    english, chinese = (
        (data / "text" / name).read_text(encoding="utf-8").replace(SPECIAL_TOKENS["eot"], "")
        for name in ("train.txt", "chinese.txt")
    )
    n_english = round(len(chinese.encode("utf-8")) * (1 - CHINESE_SHARE) / CHINESE_SHARE)
    return Tokenizer(train_bpe(english[:n_english] + chinese, VOCAB_SIZE - len(SPECIAL_TOKENS)))


def main(data: Path = DATA, path: Path = DEFAULT_PATH) -> None:
    """Retrain the default tokenizer from the text in `data` and write it to `path`."""
    tokenizer = train_default_tokenizer(data)
    tokenizer.save(path)
    if path == DEFAULT_PATH:
        shipped.add([path])
    print(f"{path}: {tokenizer.n_vocab} tokens, {len(tokenizer.ranks) - 256} of them merges.")
