"""What the course ships is checked against its list, once and quickly; what was changed is refused by its own name."""

import os
import subprocess
import sys
import time

import pytest

from minitransformer.checkpoint import load_tensors, save_tensors
from minitransformer.course import bases, shipped
from minitransformer.course.bases import load_base
from minitransformer.course.data import DATA, default_tokenizer
from minitransformer.course.jsonl import read_jsonl
from minitransformer.errors import UserError
from minitransformer.text.corpora import read_documents
from tests.conftest import ROOT


def test_the_list_is_current():
    again = "run `python -m minitransformer.course.shipped` and commit data/SHA256SUMS"
    sums = shipped.sums()
    assert sorted(sums) == sorted(path.relative_to(DATA).as_posix() for path in shipped.all_files()), again
    for name, digest in sums.items():
        assert shipped.digest_of(DATA / name) == digest, f"{name} has another checksum: {again}"


def test_every_file_of_rows_and_weights_is_listed():
    for path in DATA.rglob("*"):
        kept_apart = {"lab", "records", "unfinished", "trial", "rows.jsonl"} & set(path.relative_to(DATA).parts)
        if path.suffix in (".jsonl", ".txt", ".tiktoken", ".safetensors") and not kept_apart:
            assert path in shipped.all_files(), f"{path} is shipped without a checksum: add it to shipped.SHIPPED"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of some of the data that counts as the course's own."""
    for name in ("text/valid.txt", "tasks/qa/test.jsonl", "tokenizer.tiktoken", "bases/gpt.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    (tmp_path / "SHA256SUMS").write_bytes((DATA / "SHA256SUMS").read_bytes())
    monkeypatch.setattr(shipped, "DATA", tmp_path)
    monkeypatch.setattr(bases, "FOLDER", tmp_path / "bases")
    shipped.watch()  # of this folder; it stays, and finds nothing there once the test is over
    return tmp_path


def last_line_away(data):
    return data[: data[:-1].rindex(b"\n") + 1]


def tokens_swapped(data):
    """Two tokens under each other's rank: a vocabulary like any other, and another one."""
    lines = data.splitlines(keepends=True)
    (one, rank), (other, next_rank) = lines[300].split(), lines[301].split()
    return b"".join([*lines[:300], other + b" " + rank + b"\n", one + b" " + next_rank + b"\n", *lines[302:]])


@pytest.mark.parametrize(
    "name, change, read",
    [
        ("text/valid.txt", last_line_away, read_documents),
        ("tasks/qa/test.jsonl", last_line_away, read_jsonl),
        ("tokenizer.tiktoken", tokens_swapped, lambda path: type(default_tokenizer()).load(path)),
    ],
)
def test_a_file_that_was_cut_or_swapped_is_refused(copy, name, change, read):
    path = copy / name
    read(path)
    path.write_bytes(change(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(UserError, match=f"{path} is not the file that was shipped.*git checkout data/{name}"):
            read(path)
    sums = (copy / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copy / "SHA256SUMS").write_text("".join(line for line in sums if not line.endswith(f"{name}\n")))
    read(path)  # changed on purpose


def test_a_changed_base_gets_the_blame_and_not_its_prefixes(copy):
    tensors, about = load_tensors(copy / "bases" / "gpt.safetensors")
    tensors["norm.bias"][0] += 1e-3
    save_tensors(copy / "bases" / "gpt.safetensors", tensors, about)
    with pytest.raises(UserError, match="gpt.safetensors is not the file that was shipped"):
        load_base("gpt")


def test_a_list_that_is_damaged_or_missing_is_refused(copy):
    with open(copy / "SHA256SUMS", "a") as file:
        file.write("nonsense\n")
    with pytest.raises(UserError, match="SHA256SUMS, line .* is damaged"):
        read_documents(copy / "text" / "valid.txt")
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="The list of checksums .*SHA256SUMS cannot be read"):
        read_documents(copy / "text" / "valid.txt")


def test_a_file_is_read_for_its_checksum_once(monkeypatch):
    read = []
    digest_of = shipped.digest_of
    monkeypatch.setattr(shipped, "digest_of", lambda path: read.append(path.name) or digest_of(path))
    shipped.CHECKED.pop(DATA / "bases" / "gpt.safetensors", None)
    began = time.process_time()
    shipped.check(DATA / "bases" / "gpt.safetensors")
    assert time.process_time() - began < 0.2
    for _ in range(3):
        load_base("gpt")
    assert read == ["gpt.safetensors"]


def test_new_files_are_listed_by_whoever_makes_them(copy):
    path = copy / "tokenizer.tiktoken"
    path.write_bytes(tokens_swapped(path.read_bytes()))
    shipped.add([path])
    shipped.check(path)
    assert len(shipped.sums()) == len((DATA / "SHA256SUMS").read_text().splitlines())


def test_a_script_that_opens_a_changed_file_is_stopped(copy):
    (copy / "text" / "valid.txt").write_text("other\n")
    code = (
        "import sys; from pathlib import Path; from minitransformer.course import shipped\n"
        f"shipped.DATA = Path({str(copy)!r})\n"
        "import minitransformer.course.data\n"
        f"open({str(copy / 'text' / 'valid.txt')!r}).read()"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert result.returncode and "is not the file that was shipped" in result.stderr
