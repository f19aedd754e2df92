"""The base of a task of one's own: the course's, or a published model in a folder, each with its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import nn

from minitransformer.course.bases import KINDS, load_base
from minitransformer.course.data import default_tokenizer
from minitransformer.errors import UserError
from minitransformer.files import sha256
from minitransformer.models.bert import Bert
from minitransformer.models.gpt import GPT
from minitransformer.models.seq2seq import Seq2Seq
from minitransformer.published import load_pretrained


class Words(Protocol):
    """What a task needs of a tokenizer: the course's has it, and so has `FolderTokenizer`."""

    eot_id: int
    pad_id: int
    cls_id: int
    sep_id: int
    n_vocab: int

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""


class FolderTokenizer:
    """The tokenizer of a published model: its tokenizer.json, by the tokenizers library.

    Args:
        folder: where the model's files are.

    Raises:
        UserError: no tokenizer.json, a damaged one, or no tokenizers library.
    """

    # Which of the names that are used for a special token this vocabulary has.
    NAMES = {
        "eot": ("<|endoftext|>", "</s>", "[SEP]"),
        "pad": ("[PAD]", "<pad>", "<|endoftext|>"),
        "cls": ("[CLS]", "<s>", "<|endoftext|>"),
        "sep": ("[SEP]", "</s>", "<|endoftext|>"),
    }

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / "tokenizer.json"
        try:
            from tokenizers import Tokenizer as Published
        except ImportError:
            raise UserError(
                "The tokenizer of a published model is read with the tokenizers library, which is not installed here: "
                "run the command as python -m minitransformer …, which installs it, or pip install tokenizers."
            ) from None
        if not path.is_file():
            raise UserError(f"{folder} has no tokenizer.json: save the model's tokenizer into the same folder.")
        try:
            self._published = Published.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise UserError(f"{path} is not a tokenizer that can be read: {error}.") from error
        # A file may ask for texts of one length, cut or filled up; here each task cuts and pads for itself.
        self._published.no_padding()
        self._published.no_truncation()
        self._published.encode_special_tokens = True  # one that a text spells out is text, and does not end it
        self.n_vocab = self._published.get_vocab_size()
        for name, spellings in self.NAMES.items():
            found = [i for word in spellings if (i := self._published.token_to_id(word)) is not None]
            if not found:
                raise UserError(f"{path} has none of the tokens {', '.join(spellings)}, one of which it needs.")
            setattr(self, f"{name}_id", found[0])

    eot_id: int
    pad_id: int
    cls_id: int
    sep_id: int

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        return [one.ids for one in self._published.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return self._published.decode(list(ids), skip_special_tokens=True)


class Loaded(NamedTuple):
    """A base, its tokenizer, and what it is called."""

    base: GPT | Bert | Seq2Seq
    words: Any  # a `Words`
    name: str  # "gpt", or the folder's path


def load(name: str) -> Loaded:
    """The course's base of this name, or the published model in the folder of this name.

    Raises:
        UserError: neither, or its files are missing or damaged.
    """
    if name in KINDS:
        return Loaded(load_base(name), default_tokenizer(), name)
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(f"--base {name}: it is none of {', '.join(KINDS)}, and there is no folder of that name.")
    base = load_pretrained(folder)
    words = FolderTokenizer(folder)
    if words.n_vocab > base.config.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {words.n_vocab} tokens, and the model {base.config.vocab_size}: they do not "
            "belong together."
        )
    return Loaded(base, words, str(folder.resolve()))


def digest_of(path: str | Path) -> str:
    """A short name for what a file holds."""
    return sha256(path)[:16]


def words_digest(name: str) -> str | None:
    """A short name for what the tokenizer of a folder is; None of the course's, which `shipped` watches over."""
    return None if name in KINDS else digest_of(Path(name) / "tokenizer.json")


def require(base: nn.Module, kinds: Sequence[type], task: str, instead: str) -> None:
    """Refuse a base that cannot do a task.

    Raises:
        UserError: naming what can.
    """
    if not isinstance(base, tuple(kinds)):
        able = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{task} needs a {able}, and this base is a {type(base).__name__}. {instead}")
