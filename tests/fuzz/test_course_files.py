"""Damaged files of the course: what reads them says a sentence, or reads what is still right; never anything else."""

import json
import random
import shutil

import pytest
from safetensors.torch import save

from minitransformer.checkpoint import FORMAT, load_tensors
from minitransformer.course import lab, tasks
from minitransformer.course.bases import prefix_path
from minitransformer.course.chat import Conversation
from minitransformer.course.data import DATA, DEFAULT_PATH
from minitransformer.course.lab.experiment import used_rows
from minitransformer.course.lab.report import footing
from minitransformer.course.lab.store import Store
from minitransformer.errors import UserError
from minitransformer.models.gpt import GPTConfig
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.tuning import PrefixTuning
from tests.course.lab.helpers import filled
from tests.fuzz.damage import changed, changed_lines, damaged
from tests.helpers import tiny_gpt

CLAIMS = [lab.EXPERIMENTS[name] for name in ("infix", "abilities", "cost", "sport")]


def told(path) -> None:
    """What `lab --draw` and lesson 14 do with rows, but for the figures."""
    store = Store(path)
    for claim in CLAIMS:
        claim.section(store)
        footing(used_rows(claim.arms, store))


def test_rows_of_the_laboratory(tmp_path):
    path = tmp_path / "rows.jsonl"
    filled(path, [arm for claim in CLAIMS for arm in claim.arms])
    told(path)
    whole, refused = path.read_bytes(), 0
    files = [*damaged(whole, 60), *(text.encode() for text in changed_lines(whole.decode(), 240))]
    for data in files:
        path.write_bytes(data)
        try:
            told(path)
        except UserError as error:
            refused += 1
            assert "rows.jsonl" in str(error), f"the sentence does not name the file: {error}"
    assert refused > len(files) / 2, f"only {refused} of {len(files)} damaged files were noticed"


def test_examples_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "DATA", tmp_path)
    path = tmp_path / "tasks" / "qa" / "train.jsonl"
    path.parent.mkdir(parents=True)
    lines = (DATA / "tasks" / "qa" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    whole = "".join(lines[:12])
    for data in [*damaged(whole.encode(), 100), *(text.encode() for text in changed_lines(whole, 100))]:
        path.write_bytes(data)
        try:
            rows = tasks.task_rows("qa")
        except UserError as error:
            assert "train.jsonl" in str(error)
        else:
            assert all(isinstance(row[field], str) for row in rows for field in ("passage", "question", "answer"))


def test_the_tokenizer(tmp_path):
    whole = DEFAULT_PATH.read_bytes()
    path = tmp_path / "tokenizer.tiktoken"
    text = "Mira sang at the lake in Velo. 你好！"
    for data in damaged(whole, 60):
        path.write_bytes(data)
        try:
            tokenizer = Tokenizer.load(path)
        except UserError as error:
            assert "tokenizer.tiktoken" in str(error)
        else:
            assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def base():
    return tiny_gpt(config=GPTConfig(vocab_size=2048, n_positions=256, n_layer=2, n_head=2, d_model=8, d_ff=16))


def described_otherwise(path, times: int):
    """The file with something else in what it says about itself."""
    dice = random.Random(0)
    tensors, about = load_tensors(path)
    for _ in range(times):
        said = json.dumps(changed(about, dice))  # `save_tensors` would refuse some of it
        yield save(tensors, {"format": FORMAT, "about": said})


def test_prefixes_in_the_conversation(tmp_path, base):
    path = prefix_path("dialogue", tmp_path)
    method = PrefixTuning(4).attach(base)
    method.save(path)
    method.detach()
    shutil.copy(path, prefix_path("pirate", tmp_path))
    whole = path.read_bytes()
    for data in [*damaged(whole, 90), *described_otherwise(path, 60)]:
        prefix_path("pirate", tmp_path).write_bytes(data)
        conversation = Conversation("dialogue", base=base, folder=tmp_path)
        try:
            conversation.switch("pirate")
        except UserError as error:
            assert "pirate.prefix.safetensors" in str(error), f"the sentence does not name the file: {error}"
            assert conversation.task == "dialogue" and not hasattr(base, "tuning")
        else:
            assert conversation.answer("Mira sang at the lake in Velo on Monday.") is not None
