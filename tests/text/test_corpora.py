"""From files to batches: every token predicted once an epoch, batch i a function of i, bad files named by line."""

import pickle

import pytest
import torch

from minitransformer.course.jsonl import read_jsonl
from minitransformer.errors import UserError
from minitransformer.text.batches.completion import Completions
from minitransformer.text.corpora import Windows, eval_windows, read_documents


def test_documents_are_cut_at_the_separator(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("one\r\ntwo\n<|endoftext|>\n\n三\n<|endoftext|>\n".encode())
    assert read_documents(path) == ["one\ntwo", "三"]
    path.write_text("just one, of the reader's own")
    assert read_documents(path) == ["just one, of the reader's own"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "holds no text"),
        (b" \n<|endoftext|>\n", "holds no text"),
        (b"ok\nb\xffd", r"t.txt, line 2: this is not UTF-8 text .byte 0xff"),
    ],
)
def test_bad_text(tmp_path, data, sentence):
    (tmp_path / "t.txt").write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        read_documents(tmp_path / "t.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_documents(tmp_path / "none.txt")


def test_an_epoch_predicts_every_token_of_its_windows_once():
    stream = torch.arange(1000)
    windows = Windows(stream, length=7, batch_size=4, seed=3)
    for epoch in range(3):
        first = epoch * windows.batches_per_epoch
        batches = [windows(first + i)["ids"] for i in range(windows.batches_per_epoch)]
        assert all(b.shape == (4, 8) for b in batches)
        targets = torch.cat(batches)[:, 1:].flatten().tolist()
        assert len(targets) == len(set(targets)), f"epoch {epoch}: some token was predicted twice"
        assert len(targets) > 950, f"epoch {epoch} leaves out {1000 - len(targets)} of 1000 tokens"
    assert not torch.equal(windows(0)["ids"], windows(windows.batches_per_epoch)["ids"]), "epochs are shuffled anew"


def test_batch_i_is_a_function_of_i():
    stream = torch.arange(500)
    one, two = Windows(stream, 5, 3, seed=1), Windows(stream, 5, 3, seed=1)
    straight = [one(i)["ids"] for i in range(70)]
    for i in (69, 3, 40, 0):
        assert torch.equal(two(i)["ids"], straight[i]), f"batch {i} depends on what was asked before it"
    assert not torch.equal(Windows(stream, 5, 3, seed=2)(0)["ids"], straight[0])


def test_eval_windows_cover_the_text_in_order():
    batches = eval_windows(torch.arange(100), length=9, batch_size=4)
    assert torch.equal(torch.cat([b["ids"][:, 1:].flatten() for b in batches]), torch.arange(1, 100))
    assert sum(len(b["ids"]) for b in eval_windows(torch.arange(100), 9, 4, most=5)) == 5


def test_a_text_that_is_too_short():
    with pytest.raises(UserError, match="The text has 30 tokens; one batch of 4 windows of 7 needs 36"):
        Windows(torch.arange(30), 7, 4)
    Windows(torch.arange(36), 7, 4)
    with pytest.raises(UserError, match="fewer than one window of 30"):
        eval_windows(torch.arange(30), 30, 4)


# ------------------------------------------------------------------- what valid files may hold


def test_a_document_may_speak_of_the_separator(tmp_path):
    path = tmp_path / "d.txt"
    path.write_text(
        "\ufeffA text ends with <|endoftext|> here.\r\n <|endoftext|>\t\r\n\nTwo.\n", encoding="utf-8", newline=""
    )
    assert read_documents(path) == ["A text ends with <|endoftext|> here.", "Two."]
    path.write_text("<|endoftext|>\n\n<|endoftext|>", encoding="utf-8")
    with pytest.raises(UserError, match="holds no text"):
        read_documents(path)


@pytest.mark.parametrize("read", [read_documents, read_jsonl])
def test_a_folder_is_no_file(tmp_path, read):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_sources_of_batches_can_be_sent_to_another_process():
    """As a DataLoader with workers, or a pool, does."""
    windows = Windows(torch.arange(400), 8, 4, seed=1)
    completions = Completions([[5], [6], [7]], [[6], [7], [8]], 2, 2, 8)
    windows(3)  # an epoch is in use
    for source in (windows, completions):
        again = pickle.loads(pickle.dumps(source))
        for i in (0, 1, 60):
            assert all(torch.equal(a, b) for a, b in zip(source(i).values(), again(i).values(), strict=True))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Windows(torch.arange(400), 0, 4), "length = 0"),
        (lambda: Windows(torch.arange(400), 8, 2.5), "batch_size = 2.5"),
        (lambda: eval_windows(torch.arange(400), 8, 0), "batch_size = 0"),
        (lambda: eval_windows(torch.arange(400), 8, 4, most=0), "most = 0"),
        (lambda: eval_windows(torch.arange(0), 8, 4), "fewer than one window"),
        (lambda: Windows(torch.arange(400), 8, 4)(-1), "There is no batch number -1"),
    ],
)
def test_sizes_that_make_no_batch(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()
