"""Byte-level byte-pair encoding (字节对编码): learn a vocabulary, turn text into ids and back.

Text becomes UTF-8 bytes, so nothing can be outside the vocabulary: the first 256 tokens are the single bytes.
Training then makes the pair of neighbouring tokens that occurs most often into a new token, again and again.
Encoding replays those merges in the order in which they were learned. Before either, a regular expression
cuts the text into pieces (words with their leading space, numbers, punctuation), and no merge crosses a cut.

`train_bpe` and `bpe_encode` are the algorithm, written for reading. `Tokenizer` hands the learned merges to
tiktoken, which gives the same ids hundreds of times faster.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex
import tiktoken

from minitransformer.checks import check_settings, integer
from minitransformer.errors import UserError
from minitransformer.files import as_path, read_bytes, write_aside

# GPT-2's cut into pieces, as tiktoken writes it: contractions, letters, digits, other signs, white space.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

# Tokens that no text contains: they take the last ids. The keys name the attributes: `eot` gives `eot_id`.
SPECIAL_TOKENS = {
    "eot": "<|endoftext|>",  # stands between documents (GPT), ends a sentence (encoder–decoder)
    "pad": "<|pad|>",  # fills up short rows of a batch
    "cls": "[CLS]",  # BERT's summary position
    "sep": "[SEP]",  # BERT's end of a segment
    "mask": "[MASK]",  # BERT's hidden word
    "bos": "<|bos|>",  # starts the decoder of the encoder–decoder
}


def train_bpe(text: str, vocab_size: int, pattern: str = GPT2_PATTERN) -> dict[bytes, int]:
    """Learn a vocabulary of `vocab_size` tokens from `text`: 256 single bytes, then one merge after another.

    Each merge joins the pair of neighbours that occurs most often (Sennrich et al. 2016, on bytes as in
    GPT-2); among equally frequent pairs the one with the smallest ids, so that every machine learns the same.

    Gives `ranks`, token → rank; the rank is both the token's id and its place in the order of merges. Refuses a
    `vocab_size` below 256, and a text too small to offer that many merges.
    """
    check_settings({"vocab_size": vocab_size}, {"vocab_size": integer(256)})  # the single bytes are always in
    tokens = [bytes([byte]) for byte in range(256)]

    # A piece that occurs a thousand times is merged once and counted a thousand times.
    piece_counts = Counter(cut(text, pattern))
    pieces = [list(piece.encode("utf-8")) for piece in piece_counts]
    counts = list(piece_counts.values())

    pair_counts: Counter[tuple[int, int]] = Counter()
    where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # pair → the pieces that may hold it
    for index, piece in enumerate(pieces):
        for pair in pairwise(piece):
            pair_counts[pair] += counts[index]
            where[pair].add(index)

    # A heap finds the most frequent pair. Counts change, so an entry may be out of date when it comes up; but
    # every change pushes a new entry, so the true one is in the heap too and an old one is just thrown away.
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    while len(tokens) < vocab_size:
        if not heap:
            raise UserError(
                f"The text offers only {len(tokens)} tokens, not {vocab_size}: no pair is left to merge. "
                "Give more text or ask for a smaller vocabulary."
            )
        negative_count, pair = heapq.heappop(heap)
        if -negative_count != pair_counts[pair]:
            continue
        new_id = len(tokens)
        tokens.append(tokens[pair[0]] + tokens[pair[1]])

        changed = set()
        for index in where.pop(pair):
            before = pieces[index]
            after = pieces[index] = _merge(before, pair, new_id)
            if len(after) == len(before):  # an earlier merge had already taken the pair away
                continue
            for old_pair in pairwise(before):
                pair_counts[old_pair] -= counts[index]
                changed.add(old_pair)
            for new_pair in pairwise(after):
                pair_counts[new_pair] += counts[index]
                where[new_pair].add(index)
                changed.add(new_pair)
        for changed_pair in changed:
            if pair_counts[changed_pair]:
                heapq.heappush(heap, (-pair_counts[changed_pair], changed_pair))
    return {token: rank for rank, token in enumerate(tokens)}


def _merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """Replace every occurrence of `pair` in `ids` by `new_id`, from left to right; gives a new list."""
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def encode_piece(piece: bytes, ranks: dict[bytes, int]) -> list[int]:
    """Return the ids of one piece: from single bytes, merge the pair of lowest rank until none is known.

    Lowest rank first means in the order in which the merges were learned. Of equal pairs the leftmost goes
    first. A piece that is itself a token is that token. This is tiktoken's algorithm, without its speed.
    """
    if piece in ranks:
        return [ranks[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        pair_ranks = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        lowest = min(pair_ranks)
        if lowest == len(ranks):  # no two neighbours are a token together
            break
        i = pair_ranks.index(lowest)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


def bpe_encode(text: str, ranks: dict[bytes, int], pattern: str = GPT2_PATTERN) -> list[int]:
    """Return the ids of `text`: cut it into pieces, then `encode_piece` each (`Tokenizer.encode`, slowly)."""
    return [i for piece in _cut_whole(text, pattern) for i in encode_piece(piece.encode("utf-8"), ranks)]


def _cut_whole(text: str, pattern: str) -> list[str]:
    pieces = cut(text, pattern)
    if sum(map(len, pieces)) != len(text):
        raise UserError(f"The pattern {pattern!r} leaves text out: what it does not match would be lost.")
    return pieces


def cut(text: str, pattern: str = GPT2_PATTERN) -> list[str]:
    """Cut a text into the pieces that no merge crosses; what the pattern does not match is in none.

    Refuses what is no Unicode text, and a pattern that is no regular expression.
    """
    _check_text(text)
    try:
        pieces = [match[0] for match in regex.finditer(pattern, text)]
    except regex.error as error:
        raise UserError(f"The pattern {pattern!r} is no regular expression: {error}.") from error
    return [piece for piece in pieces if piece]


def _are_cut_alike(text: str) -> bool:
    """Whether `regex` and tiktoken cut a text alike. They may know different versions of Unicode.

    They agree on every character that Python itself knows; on others one may see a letter where the other does not.
    """
    return text.isascii() or not any(unicodedata.category(c) == "Cn" for c in set(text))


class Tokenizer:
    """A learned vocabulary with special tokens behind it; text to ids and back, by tiktoken.

    The special tokens' ids are attributes: `eot_id`, `pad_id`, `cls_id`, `sep_id`, `mask_id`, `bos_id`.
    """

    eot_id: int
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    bos_id: int

    def __init__(
        self, ranks: dict[bytes, int], special_tokens: dict[str, str] = SPECIAL_TOKENS, pattern: str = GPT2_PATTERN
    ) -> None:
        """Take `ranks` (token → id, as `train_bpe` gives them) and the special tokens, name → text.

        Refuses ids that do not count up from 0, special tokens that are alike or empty, and a bad pattern.
        """
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise UserError("The ids of a vocabulary count up from 0, each of them once; these do not.")
        texts = list(special_tokens.values())
        if len(set(texts)) < len(texts) or not all(texts):
            raise UserError(f"Special tokens are texts that differ; these are {texts}.")
        cut("", pattern)
        self.ranks, self.special_tokens, self.pattern = ranks, dict(special_tokens), pattern
        self.special_ids = {text: len(ranks) + i for i, text in enumerate(texts)}
        for name, text in special_tokens.items():
            setattr(self, f"{name}_id", self.special_ids[text])
        self.n_vocab = len(ranks) + len(special_tokens)
        try:
            self._encoding = tiktoken.Encoding(
                "minitransformer", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.special_ids
            )
        except ValueError as error:
            raise UserError(f"tiktoken cannot cut by the pattern {pattern!r}: {error}.") from error

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`; refuses what is not Unicode text.

        Special tokens that are spelled out in the text are ordinary characters, unless `allow_special`: text
        from outside should not be able to end a document.
        """
        return self.encode_batch([text], allow_special)[0]

    def encode_batch(self, texts: Iterable[str], allow_special: bool = False) -> list[list[int]]:
        """Return `encode(text)` for each text, on several threads."""
        if isinstance(texts, str):
            raise UserError("encode_batch takes a list of texts; of one text, encode(text) gives the ids.")
        texts = list(texts)
        for index, text in enumerate(texts):
            _check_text(text, f" (text {index} of the batch)" if len(texts) > 1 else "")
        alike = list(map(_are_cut_alike, texts))
        fast = [text for text, is_fast in zip(texts, alike, strict=True) if is_fast]
        allowed: Any = "all" if allow_special else set()
        if len(fast) > 1:
            encoded = self._encoding.encode_batch(fast, allowed_special=allowed, disallowed_special=())
        else:
            encoded = [self._encoding.encode(text, allowed_special=allowed, disallowed_special=()) for text in fast]
        if self.pattern != GPT2_PATTERN:
            for text in fast:
                _cut_whole(text, self.pattern)  # refuses a pattern that leaves text out
        left = iter(encoded)
        return [
            next(left) if is_fast else self._encode_slowly(text, allow_special)
            for text, is_fast in zip(texts, alike, strict=True)
        ]

    def _encode_slowly(self, text: str, allow_special: bool) -> list[int]:
        """`encode` for a text with characters that tiktoken may not know: cut as `train_bpe` cuts."""
        if not allow_special:
            return bpe_encode(text, self.ranks, self.pattern)
        ids: list[int] = []
        for part in regex.split("(" + "|".join(map(regex.escape, self.special_ids)) + ")", text):
            special = self.special_ids.get(part)
            ids += bpe_encode(part, self.ranks, self.pattern) if special is None else [special]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        r"""The text of `ids` (a list, or a tensor or array of one dimension); refuses an id outside the vocabulary.

        Bytes that are no complete UTF-8 character come out as "\ufffd": a cut may go through a character.
        """
        if not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) != 1:
            raise UserError(f"decode takes the ids of one text, a list such as [5, 6]; this is {ids!r:.60}.")
        allowed = integer(0, self.n_vocab - 1)
        return self._encoding.decode([allowed(f"The id at position {at}", i) for at, i in enumerate(ids)])

    def token(self, id: int) -> str:
        r"""Return token `id` for the eye: " the" is "␣the", a newline "\n", part of a character "\xe4"."""
        token = self._encoding.decode_single_token_bytes(integer(0, self.n_vocab - 1)("The id", id))
        text = token.decode("utf-8", errors="backslashreplace").replace(" ", "␣")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary in tiktoken's text format, a line "base64-of-token rank" for each token.

        Where pattern or special tokens are not the class's, a first line "# {…}" holds them.
        """
        ranks = sorted(self.ranks.items(), key=lambda item: item[1])
        lines = [b"%b %d\n" % (base64.b64encode(token), rank) for token, rank in ranks]
        own = {"pattern": self.pattern, "special_tokens": self.special_tokens}
        if own != {"pattern": GPT2_PATTERN, "special_tokens": SPECIAL_TOKENS}:
            lines.insert(0, b"# " + json.dumps(own).encode() + b"\n")
        write_aside(path, b"".join(lines))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read what `save` wrote; refuses what is not a vocabulary, with the line number."""
        path = as_path(path)
        if not path.exists():
            raise UserError(
                f"There is no vocabulary at {path}: `python -m minitransformer tokenizer` trains the default one."
            )
        lines = read_bytes(path, "vocabulary").splitlines()
        own: dict[str, Any] = {}
        if lines and lines[0].startswith(b"# "):
            try:
                own = json.loads(lines[0][2:])
                pattern, special = own["pattern"], own["special_tokens"]
                right = isinstance(pattern, str) and all(isinstance(x, str) for x in [*special, *special.values()])
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                right = False
            if not right:
                raise UserError(f"{path}, line 1: {_shown(lines[0])} does not say a pattern and special tokens.")
            lines[0] = b""
        return cls(_read_ranks(path, lines), **own)


def _read_ranks(path: Path, lines: list[bytes]) -> dict[bytes, int]:
    """Read a vocabulary in tiktoken's text format, and check that it is one."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if number == 1 and not line:
            continue  # it held pattern and special tokens
        fields = line.split()
        if len(fields) != 2:
            raise UserError(f"{where}: {_shown(line)} is not a token in base64, a space and its rank.")
        try:
            token, rank = base64.b64decode(fields[0], validate=True), int(fields[1])
        except binascii.Error:
            raise UserError(f"{where}: {_shown(fields[0])} is not base64.") from None
        except ValueError:
            raise UserError(f"{where}: the rank {_shown(fields[1])} is not a whole number.") from None
        if rank != len(ranks):
            raise UserError(f"{where}: the rank is {rank} and should be {len(ranks)}; ranks count up from 0.")
        if token in ranks:
            raise UserError(f"{where}: token {token!r} is there already, with rank {ranks[token]}.")
        if not token:
            raise UserError(f"{where}: the token is empty.")
        if len(token) > 1 and not any(token[:i] in ranks and token[i:] in ranks for i in range(1, len(token))):
            raise UserError(
                f"{where}: token {token!r} joins no two tokens of earlier lines: lines were changed or lost."
            )
        ranks[token] = rank
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the 256 single bytes (the first is {missing[0]:#04x}), so some "
            "text could not be encoded: the file is cut off or is not a byte-level vocabulary."
        )
    return ranks


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", errors="backslashreplace"))


def _check_text(text: str, where: str = "") -> None:
    """Refuse what is not text: other types, and half characters that have no UTF-8 form."""
    if not isinstance(text, str):
        raise UserError(
            f"Only text can be encoded, and this is {type(text).__name__}{where}: {str(text)[:40]!r}. "
            "Give a str; bytes become one with .decode('utf-8')."
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"Character {error.start} of the text{where} is U+{ord(text[error.start]):04X}: a surrogate, "
            "half of a character without a UTF-8 form. The text was decoded wrongly; read it again as UTF-8."
        ) from None
