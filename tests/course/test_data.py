"""The tokenizer that the course's models share: made from the course's own text, and found without a network."""

import locale
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from minitransformer.course import data
from minitransformer.course.data import DEFAULT_PATH, VOCAB_SIZE, default_tokenizer
from minitransformer.errors import UserError
from minitransformer.text.tokenizer import SPECIAL_TOKENS

CHINESE = "昨天米拉在河边放风筝。风筝是红色的，天气很好，可是下午下雨了。今天米拉不在河边，她在家里看书。"


def test_default_tokenizer_is_what_main_trains(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data.main(path=tmp_path / "again.tiktoken")
    n_merges = VOCAB_SIZE - 256 - len(SPECIAL_TOKENS)
    said = f"{tmp_path / 'again.tiktoken'}: {VOCAB_SIZE} tokens, {n_merges} of them merges.\n"
    assert capsys.readouterr().out == said, "what is neither a byte nor a special token is a merge"
    assert (tmp_path / "again.tiktoken").read_bytes() == DEFAULT_PATH.read_bytes(), (
        "data/tokenizer.tiktoken is not what the text in data/text gives: "
        "run `python -m minitransformer tokenizer` and commit the result."
    )


def test_default_tokenizer_is_trained_on_a_tenth_of_chinese_in_any_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").mkdir()
    for name, text in (("train.txt", "In the café<|endoftext|>" * 200), ("chinese.txt", CHINESE + "<|endoftext|>")):
        (tmp_path / "text" / name).write_text(text, encoding="utf-8")
    texts = []
    bytes_alone = {bytes([b]): b for b in range(256)}
    monkeypatch.setattr(data, "train_bpe", lambda text, vocab_size: texts.append(text) or bytes_alone)
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")  # whose encoding is ASCII
    try:
        data.train_default_tokenizer(tmp_path)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    (text,) = texts
    assert text.endswith(CHINESE), "all of the Chinese is read, and as UTF-8"
    english = text.removesuffix(CHINESE)
    assert ("In the café" * 200).startswith(english), "the English comes from the beginning, without the special token"
    assert len(english) == 9 * len(CHINESE.encode()), "nine characters of English for each byte of Chinese"


def test_default_tokenizer_size_and_cache() -> None:
    assert default_tokenizer() is default_tokenizer()
    for tokenizer in (default_tokenizer(), default_tokenizer.__wrapped__()):  # the kept one, and one read anew
        assert tokenizer.n_vocab == VOCAB_SIZE
        assert sorted(tokenizer.special_ids.values()) == list(range(VOCAB_SIZE - 6, VOCAB_SIZE))


def test_default_tokenizer_knows_common_words_and_characters() -> None:
    english, chinese = (
        (DEFAULT_PATH.parent / "text" / name).read_text(encoding="utf-8") for name in ("valid.txt", "chinese.txt")
    )
    tokenizer = default_tokenizer()
    words = [word for word, _ in Counter(re.findall(r" [a-z]+", english)).most_common(100)]
    cut = [word for word in words if len(tokenizer.encode(word)) > 1]
    assert len(cut) <= 5, f"common English words are cut into pieces: {cut}"
    characters = [c for c, _ in Counter(re.findall(r"[\u4e00-\u9fff]", chinese)).most_common(50)]
    in_bytes = [c for c in characters if not any(c.encode() in token for token in tokenizer.ranks)]
    assert len(in_bytes) <= 2, f"common Chinese characters are spelled in bytes: {in_bytes}"
    chinese = "".join(re.findall(r"[\u4e00-\u9fff，。？！]", chinese))
    assert len(tokenizer.encode(chinese)) < 1.4 * len(chinese), "Chinese takes too many tokens a character"


def test_default_tokenizer_needs_no_network(tmp_path: Path) -> None:
    # tiktoken's own vocabularies are downloaded; ours must not touch the network even to import.
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('the network was touched')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from minitransformer.course.data import default_tokenizer\n"
        "t = default_tokenizer(); print(t.decode(t.encode('Hello 世界')))"
    )
    env = {**os.environ, "PYTHONPATH": str(DEFAULT_PATH.parent.parent), "PYTHONIOENCODING": "utf-8"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", env=env, cwd=tmp_path
    )
    assert result.stdout.strip() == "Hello 世界", result.stderr


def test_own_text_is_cut_in_two_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paragraphs = [f"Paragraph number {i}." for i in range(40)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    monkeypatch.setenv("MINITRANSFORMER_TEXT", str(tmp_path / "text.txt"))
    train, valid = data.own_text()
    assert valid + train == paragraphs and len(valid) == 2
    monkeypatch.setenv("MINITRANSFORMER_TEXT", "")
    assert data.own_text() is None


def test_own_text_of_one_paragraph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.txt").write_text("One line.\nAnother line.", encoding="utf-8")
    monkeypatch.setenv("MINITRANSFORMER_TEXT", str(tmp_path / "text.txt"))
    with pytest.raises(UserError, match="only one paragraph"):
        data.own_text()
