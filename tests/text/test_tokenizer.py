"""The tokenizer: training against a plain loop, encoding against tiktoken, and what it says to bad input."""

import base64
import json
import os
import random
import shutil
import subprocess
import tarfile
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
import torch

from minitransformer.errors import UserError
from minitransformer.text.tokenizer import (
    GPT2_PATTERN,
    SPECIAL_TOKENS,
    Tokenizer,
    bpe_encode,
    encode_piece,
    train_bpe,
)

ENGLISH = """The old woman gave the red kite to the boy. "It isn't mine," the boy said, "but I'll fly it!"
In 1743 there were 4,200 people in the town; in 1843 there were 12,000 and they'd built two bridges.
    An indented line,\tand a tab.  Two spaces.   Three.\n\n\nThree newlines, and spaces at the end:    """
CHINESE = "昨天米拉在河边放风筝。风筝是红色的，天气很好，可是下午下雨了。今天米拉不在河边，她在家里看书。"
MIXED = ENGLISH + CHINESE
MIXED += "naïve café, Straße, Ελλάδα, Москва, עברית, हिन्दी, 한국어, 🎈👩‍👩‍👧 e\u0301 \x00\x1c\u3000\u2028 x²"


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    return train_bpe(MIXED * 3, 400)


@pytest.fixture
def tokenizer(ranks: dict[bytes, int]) -> Tokenizer:
    return Tokenizer(ranks)  # made in each test anew, so that `make mutants` sees which tests reach the making


def tiktoken_encoding(ranks: dict[bytes, int], pattern: str = GPT2_PATTERN) -> tiktoken.Encoding:
    return tiktoken.Encoding("oracle", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def random_texts(seed: int, count: int) -> list[str]:
    """Texts over all of Unicode, and over few characters so that merges overlap (aaaa, abab, white space)."""
    rng = random.Random(seed)
    everything = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    alphabets = [
        everything,
        list("ab"),
        list("the n"),
        list(" \n\t\u3000a1'"),
        list("'strdmlve "),
        list(MIXED),
    ]
    return ["".join(rng.choices(rng.choice(alphabets), k=rng.randrange(60))) for _ in range(count)]


def train_by_plain_loop(text: str, vocab_size: int, pattern: str = GPT2_PATTERN) -> dict[bytes, int]:
    """Byte-pair training without any shortcut: count every pair of the whole text anew for every merge."""
    pieces = [[bytes([b]) for b in piece.encode()] for piece in regex.findall(pattern, text)]
    tokens = [bytes([b]) for b in range(256)]
    while len(tokens) < vocab_size:
        counts = Counter(pair for piece in pieces for pair in pairwise(piece))
        best = max(counts, key=lambda pair: (counts[pair], [-tokens.index(part) for part in pair]))
        tokens.append(best[0] + best[1])
        for piece in pieces:
            i = 0
            while i < len(piece) - 1:
                if (piece[i], piece[i + 1]) == best:
                    piece[i : i + 2] = [best[0] + best[1]]
                i += 1
    return {token: rank for rank, token in enumerate(tokens)}


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "vocab_size"),
    [
        (ENGLISH, 330),
        (CHINESE, 300),
        (MIXED, 400),
        ("aaaaaaaaaaaaaaaaa aaaaaaaa aaaa aaa aa a", 261),
        ("abababab babababa aabbaabb abba", 264),
    ],
    ids=["English", "Chinese", "mixed", "runs of one letter", "two letters"],
)
def test_training_equals_the_plain_loop(text: str, vocab_size: int) -> None:
    expected = list(train_by_plain_loop(text, vocab_size))
    got = list(train_bpe(text, vocab_size))
    first = next((i for i, (a, b) in enumerate(zip(expected, got, strict=True)) if a != b), None)
    assert first is None, (
        f"Merge number {first - 256} should be {expected[first]!r} and is {got[first]!r}. "
        "Are counts updated for both neighbours of a merge, and ties given to the smallest ids?"
    )


def test_training_equals_the_plain_loop_on_random_text() -> None:
    rng = random.Random(1)
    for _ in range(30):
        text = "".join(rng.choices("abc ", weights=[4, 2, 1, 1], k=rng.randrange(40, 200)))
        assert train_bpe(text, 266) == train_by_plain_loop(text, 266), f"merges differ for {text!r}"


def test_bytes_come_first_in_byte_order(ranks: dict[bytes, int]) -> None:
    assert list(ranks)[:256] == [bytes([b]) for b in range(256)]
    assert list(ranks.values()) == list(range(400)), "ranks must count up from 0 in the order of the merges"


def test_ties_go_to_the_smallest_ids() -> None:
    # "ab", "cd" and "xy" all occur once per piece: a comes before c and x.
    assert list(train_bpe("xy cd ab", 259, pattern=r"\w+"))[256:] == [b"ab", b"cd", b"xy"]


def test_no_merge_crosses_a_cut(ranks: dict[bytes, int]) -> None:
    pieces = [piece.encode() for piece in regex.findall(GPT2_PATTERN, MIXED * 3)]
    crossing = [token for token in list(ranks)[256:] if not any(token in piece for piece in pieces)]
    assert not crossing, f"these tokens lie in no single piece of the training text: {crossing}"


@pytest.mark.parametrize(
    ("text", "vocab_size", "says"),
    [
        ("hello", 255, "vocab_size = 255: it has to be a whole number of at least 256"),
        ("hello", 1000, "offers only 260 tokens"),
        ("", 257, "offers only 256 tokens"),
    ],
)
def test_impossible_training_says_why(text: str, vocab_size: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        train_bpe(text, vocab_size)


# --- encoding and decoding ---------------------------------------------------------------------------------


def test_encode_equals_tiktoken(ranks: dict[bytes, int], tokenizer: Tokenizer) -> None:
    oracle = tiktoken_encoding(ranks)
    for text in [MIXED, ENGLISH, CHINESE, "", *random_texts(seed=2, count=600)]:
        expected = oracle.encode(text)
        ours = bpe_encode(text, ranks)
        assert ours == expected, f"{text!r}: tiktoken gives {expected}, the merge loop gives {ours}"
        assert tokenizer.encode(text) == expected


def test_encode_replays_the_merges_of_training() -> None:
    # After its last merge, training has cut each piece into tokens; encoding must give the same cut.
    text = MIXED * 2
    ranks = train_bpe(text, 380)
    tokens = list(ranks)
    for piece in set(regex.findall(GPT2_PATTERN, text)):
        parts = [bytes([b]) for b in piece.encode()]
        for token in tokens[256:]:
            i = 0
            while i < len(parts) - 1:
                if parts[i] + parts[i + 1] == token:
                    parts[i : i + 2] = [token]
                i += 1
        assert encode_piece(piece.encode(), ranks) == [ranks[part] for part in parts], f"piece {piece!r}"


def test_leftmost_of_equal_pairs_goes_first() -> None:
    ranks = {bytes([b]): b for b in range(256)} | {b"aa": 256}
    assert encode_piece(b"aaa", ranks) == [256, ord("a")]


def test_round_trip(tokenizer: Tokenizer) -> None:
    for text in [MIXED, *SPECIAL_TOKENS.values(), *random_texts(seed=3, count=600)]:
        back = tokenizer.decode(tokenizer.encode(text))
        assert back == text, f"{text!r} came back as {back!r}"


def test_batch_equals_one_by_one(tokenizer: Tokenizer) -> None:
    texts = [*random_texts(seed=4, count=50), "<|endoftext|>"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(iter(texts), allow_special=True)[-1] == [tokenizer.eot_id]


def test_special_tokens_are_text_unless_allowed(tokenizer: Tokenizer) -> None:
    n_ordinary = tokenizer.n_vocab - len(SPECIAL_TOKENS)
    for name, text in SPECIAL_TOKENS.items():
        assert max(tokenizer.encode(f"a {text} b")) < n_ordinary, f"{text} became a special token"
        special_id = getattr(tokenizer, f"{name}_id")
        assert special_id >= n_ordinary
        assert tokenizer.encode(text, allow_special=True) == [special_id]
        assert tokenizer.decode([special_id]) == tokenizer.token(special_id) == text


def test_token_is_printable_and_says_which(tokenizer: Tokenizer) -> None:
    shown = [tokenizer.token(i) for i in range(tokenizer.n_vocab)]
    assert all(text.isprintable() and " " not in text for text in shown)
    assert tokenizer.token(tokenizer.ranks[b" the"]) == "␣the"
    assert tokenizer.token(ord("\n")) == r"\n"
    assert tokenizer.token(0xE4) == r"\xe4"


def test_half_a_character_decodes_to_the_replacement_sign(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([ord("a"), 0xE4, ord("b")]) == "a\ufffdb"


def test_decode_takes_arrays(tokenizer: Tokenizer) -> None:
    numpy, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    ids = tokenizer.encode(MIXED)
    assert tokenizer.decode(numpy.array(ids)) == tokenizer.decode(torch.tensor(ids)) == MIXED


def test_very_long_pieces(tokenizer: Tokenizer) -> None:
    for text in (" " * 300_000, "a" * 300_000, "\n" * 300_000 + "x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


# --- what it says to bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([1, 2, 406], "id at position 2 = 406: it has to be a whole number from 0 to 405"),
        ([-1], "id at position 0 = -1"),
        ([1, 2.5], "id at position 1 = 2.5: it has to be a whole number"),
        (["the"], "id at position 0 = 'the'"),
        ([2**70], "id at position 0 = 1180591620717411303424"),
        ([True], "id at position 0 = True"),
        (5, "decode takes the ids of one text, a list such as .* this is 5"),
        (None, "this is None"),
        (torch.tensor(5), r"this is tensor\(5\)"),
        (torch.tensor([[5], [6]]), "decode takes the ids of one text"),
        (np.zeros((2, 1), dtype=int), "decode takes the ids of one text"),
    ],
)
def test_decode_names_the_bad_id(tokenizer: Tokenizer, ids: list, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tokenizer.decode(ids)


def test_token_names_the_bad_id(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="^The id = 406: it has to be a whole number from 0 to 405"):
        tokenizer.token(406)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"bytes", "this is bytes: "),
        (None, "this is NoneType"),
        (42, "this is int"),
        ("ab\ud800c", r"Character 2 of the text is U\+D800: a surrogate"),
    ],
    ids=["bytes", "None", "a number", "a surrogate"],
)
def test_encode_refuses_what_is_not_text(tokenizer: Tokenizer, ranks: dict, text: object, says: str) -> None:
    for encode in (tokenizer.encode, lambda text: bpe_encode(text, ranks), lambda text: train_bpe(text, 256)):
        with pytest.raises(UserError, match=says):
            encode(text)
    with pytest.raises(UserError, match=r"\(text 1 of the batch\)"):
        tokenizer.encode_batch(["fine", text])


# --- the file ----------------------------------------------------------------------------------------------


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tiktoken"
    tokenizer.save(path)
    assert Tokenizer.load(path).ranks == tokenizer.ranks
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left behind"


def test_file_is_tiktokens_own_format(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from tiktoken.load import load_tiktoken_bpe

    tokenizer.save(tmp_path / "vocabulary.tiktoken")
    assert load_tiktoken_bpe(str(tmp_path / "vocabulary.tiktoken")) == tokenizer.ranks


def test_failed_save_leaves_the_old_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tiktoken"
    path.write_text("the old file")
    broken = Tokenizer(tokenizer.ranks)
    broken.ranks = {**tokenizer.ranks, "not bytes": 400}
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [path], "a temporary file was left behind"


def lines(first: int = 0, last: int = 256) -> list[str]:
    return [f"{base64.b64encode(bytes([b])).decode()} {b}" for b in range(first, last)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "lacks 256 of the 256 single bytes"),
        (lines(0, 100), r"lacks 156 of the 256 single bytes \(the first is 0x64\)"),
        ([*lines(), "dGhl"], "line 257: 'dGhl' is not a token in base64, a space and its rank"),
        ([*lines(), ""], "line 257: '' is not a token"),
        ([*lines(), "dGhl two"], "line 257: the rank 'two' is not a whole number"),
        ([*lines(), "dG!hl 256"], "line 257: 'dG!hl' is not base64"),  # without the "!" it would be
        ([*lines(), "dGh 256"], "line 257: 'dGh' is not base64"),
        ([*lines(), "dGhl 300"], "line 257: the rank is 300 and should be 256"),
        ([*lines(), "AA== 256"], r"line 257: token b'\\x00' is there already, with rank 0"),
        ([*lines(), "风筝 256"], "line 257: '风筝' is not base64"),
        ([*lines(), "Straße 256".encode("latin-1")], r"line 257: 'Stra\\\\xdfe' is not base64"),
        ([*lines(), "x" * 50], "line 257: 'x{40}' is not a token"),
    ],
    ids=[
        "empty",
        "cut off",
        "no rank",
        "empty line",
        "rank in words",
        "sign",
        "cut base64",
        "rank too high",
        "twice",
        "Chinese",
        "not UTF-8",
        "long line",
    ],
)
def test_malformed_file_is_refused_with_its_line(content: list[str | bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.tiktoken"
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in content))
    with pytest.raises(UserError, match=says):
        Tokenizer.load(path)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(UserError, match="line 1"):
        Tokenizer.load(tmp_path / "picture.png")
    with pytest.raises(UserError, match="There is no vocabulary at"):
        Tokenizer.load(tmp_path / "none.tiktoken")


# --- GPT-2's own vocabulary --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[bytes, int], str]:
    """GPT-2's real ranks and pattern, out of the npm package js-tiktoken (MIT)."""
    path = os.environ.get("MINITRANSFORMER_GPT2_RANKS")
    if path:
        content = Path(path).read_text(encoding="utf-8")
    else:
        folder = tmp_path_factory.mktemp("js-tiktoken")
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed; set MINITRANSFORMER_GPT2_RANKS to js-tiktoken's dist/ranks/gpt2.js")
        try:
            subprocess.run(
                [npm, "pack", "js-tiktoken@1.0.21"], cwd=folder, check=True, capture_output=True, timeout=120
            )
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"npm could not get js-tiktoken ({error}); is there a network?")
        with tarfile.open(folder / "js-tiktoken-1.0.21.tgz") as archive:
            content = archive.extractfile("package/dist/ranks/gpt2.js").read().decode("utf-8")
    return parse_js_ranks(content)


def parse_js_ranks(content: str) -> tuple[dict[bytes, int], str]:
    """Read gpt2.js: JSON whose `bpe_ranks` has lines "! START token token …", ranked from START on."""
    data, _ = json.JSONDecoder().raw_decode(content, content.index("{"))
    ranks = {}
    for line in data["bpe_ranks"].splitlines():
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + i for i, token in enumerate(tokens)}
    return ranks, data["pat_str"]


@pytest.mark.parity
def test_gpt2_ids(gpt2: tuple[dict[bytes, int], str]) -> None:
    ranks, pattern = gpt2
    assert len(ranks) == 50256
    assert bpe_encode("Hello world", ranks, pattern) == [15496, 995]
    oracle, tokenizer = tiktoken_encoding(ranks, pattern), Tokenizer(ranks)
    for text in [MIXED, *random_texts(seed=5, count=300)]:
        expected = oracle.encode(text)
        assert bpe_encode(text, ranks) == expected, f"{text!r}: tiktoken gives {expected}"
        assert tokenizer.encode(text) == expected


# ------------------------------------------------------------------- patterns, special tokens, Unicode versions

BYTES = {bytes([i]): i for i in range(256)}
FLY = r"[\s\S]+?(?=\.|$)|\."  # whole sentences: other pieces than GPT-2's


@pytest.mark.parametrize(
    "own",
    [{"pattern": FLY}, {"special_tokens": {"eot": "[END]", "half": "½"}}, {"pattern": FLY, "special_tokens": {}}],
    ids=["pattern", "special tokens", "both"],
)
def test_a_tokenizer_comes_back_with_its_pattern_and_special_tokens(tmp_path, own):
    text = "the cat sat on the mat. " * 20
    tokenizer = Tokenizer(train_bpe(text, 268, own.get("pattern", GPT2_PATTERN)), **own)
    tokenizer.save(tmp_path / "t")
    again = Tokenizer.load(tmp_path / "t")
    assert again.encode("the cat sat") == tokenizer.encode("the cat sat")
    assert (again.n_vocab, again.special_ids) == (tokenizer.n_vocab, tokenizer.special_ids)
    for name in own.get("special_tokens", {}):
        assert getattr(again, f"{name}_id") == getattr(tokenizer, f"{name}_id")


def test_a_tokenizer_of_the_usual_kind_is_saved_as_tiktokens_own_format(tmp_path):
    Tokenizer(train_bpe("aaab", 258)).save(tmp_path / "t")
    assert all(len(line.split()) == 2 for line in (tmp_path / "t").read_bytes().splitlines())


@pytest.mark.parametrize("first", [b"# {", b"# []", b'# {"pattern": 3, "special_tokens": {}}', b'# {"pattern": "a"}'])
def test_a_first_line_that_says_nothing_is_refused(tmp_path, first):
    Tokenizer(train_bpe("aaab", 258)).save(tmp_path / "t")
    (tmp_path / "t").write_bytes(first + b"\n" + (tmp_path / "t").read_bytes())
    with pytest.raises(UserError, match="line 1: .* does not say a pattern and special tokens"):
        Tokenizer.load(tmp_path / "t")


def test_exchanged_tokens_are_noticed_where_nothing_could_have_made_them(tmp_path):
    ranks = train_bpe("abcabcabc", 258)  # ab, then abc
    assert sorted(ranks, key=ranks.get)[256:] == [b"ab", b"abc"]
    other = {**ranks, b"ab": 257, b"abc": 256}
    Tokenizer(other).save(tmp_path / "t")
    with pytest.raises(UserError, match="line 257: token b'abc' joins no two tokens of earlier lines"):
        Tokenizer.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tokenizer({b"a": 1}), "count up from 0"),
        (lambda: Tokenizer(BYTES, {"a": "x", "b": "x"}), "Special tokens are texts that differ"),
        (lambda: Tokenizer(BYTES, {"a": ""}), "Special tokens are texts that differ"),
        (lambda: Tokenizer(BYTES, pattern="("), r"The pattern '\(' is no regular expression"),
        (lambda: train_bpe("abc", 300, "["), "is no regular expression"),
        (lambda: Tokenizer(BYTES, pattern=r"\w+").encode("a b"), "leaves text out"),
        (lambda: bpe_encode("a b", BYTES, r"\w+"), "leaves text out"),
        (lambda: Tokenizer(BYTES).encode_batch("ab"), "encode_batch takes a list of texts"),
        (lambda: train_bpe("abc", 300.5), "vocab_size = 300.5"),
        (lambda: Tokenizer.load("."), "cannot be read: Is a directory"),
    ],
)
def test_more_that_is_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


def test_characters_that_python_knows_are_cut_alike_by_regex_and_tiktoken():
    """Our cut is right for all others only if the two libraries agree here, on all 280,000 of them."""
    known = "".join(
        chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"
    )
    for part in (r"\p{L}", r"\p{N}", r"\s"):
        theirs = tiktoken.Encoding("x", pat_str=part, mergeable_ranks=BYTES, special_tokens={})
        assert bytes(theirs.encode_ordinary(known)).decode() == "".join(regex.findall(part, known)), part


@pytest.mark.parametrize("seed", range(3))
def test_encode_cuts_as_training_did_whatever_unicode_each_library_knows(seed):
    """1,855 and more code points are letters to one library and signs to the other."""
    draw = random.Random(seed)
    unknown = [chr(c) for c in range(0x10000, 0x40000) if unicodedata.category(chr(c)) == "Cn"]
    letters = [c for c in unknown if regex.match(r"\p{L}|\p{N}", c)]
    assert letters, "regex knows a newer Unicode than this Python"
    text = "".join(draw.choice([*"ab 1.,\n", draw.choice(letters), draw.choice(unknown)]) for _ in range(200))
    ranks = train_bpe(text * 3, 280)
    tokenizer = Tokenizer(ranks)
    assert tokenizer.encode(text) == bpe_encode(text, ranks)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    marked = f"a{letters[0]}<|endoftext|>{letters[1]}b"
    ids = tokenizer.encode(marked, allow_special=True)
    assert ids.count(tokenizer.eot_id) == 1 and tokenizer.decode(ids) == marked
    assert tokenizer.eot_id not in tokenizer.encode(marked)
    batch = ["plain", marked, "text", letters[2]]
    assert tokenizer.encode_batch(batch) == [tokenizer.encode(one) for one in batch]
