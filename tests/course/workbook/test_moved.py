"""A workbook of an earlier course goes on working, and is told what to write now."""

import ast

import pytest

from minitransformer.course.workbook import (
    book,
    catalogue,
    commands,
    exercise,
    loading,
    moved,
    progress,
    reading,
    standing,
)
from minitransformer.course.workbook.exceptions import in_plain_words
from tests.course.workbook.helpers import EXERCISES, check_here, the, write_workbook

OLD_IMPORTS = """
from minitransformer.attention import Attention, KVCache, Prefix, attend, check_prefix, columns_before, keep_mask
from minitransformer.batches import pad_right
from minitransformer.batches.completion import Fitted, Ids
from minitransformer.batches.translation import check_pairs
from minitransformer.beam import Hypothesis
from minitransformer.bert import Bert, MaskedWordHead
from minitransformer.bigram import NGram
from minitransformer.classifier import Classifier
from minitransformer.errors import UserError
from minitransformer.gpt import GPT, Block
from minitransformer.layers import FeedForward, check_text, drop, embed
from minitransformer.objectives import cross_entropy_sum, mask_tokens, language_model_loss
from minitransformer.sampling import generate
from minitransformer.seq2seq import DecoderBlock, DecoderCache, Seq2Seq, Seq2SeqConfig
from minitransformer.tokenizer import Tokenizer
from minitransformer.training import IGNORE, Batch, Loss, TrainConfig, learning_rate
from minitransformer.tuning.adapter import Adapter, Bottleneck
from minitransformer.tuning.hard import Answers, Example, Gap, Template, Words
from minitransformer.tuning.lora import LoRA, LowRank
from minitransformer.tuning.merge import Mergeable, linear_maps
from minitransformer.tuning.method import Base, Method, Report, base_parameters
from minitransformer.tuning.prefix import Infix, PrefixTuning, Table, is_first_call, prefix_slots
from minitransformer.tuning.prompt import PromptTuning, PTuning, nearest_words
from minitransformer.text.masking import corrupt, mask_tokens
from minitransformer.text.batches.pairs import encode_pair
from minitransformer.files import locked
import minitransformer.datasets as corpora
import minitransformer.models.bigram as bigram
from minitransformer import attention, gpt as the_gpt
"""
"""The imports that the workbooks of the course before had, of public names."""


def test_every_import_of_an_earlier_course_finds_its_name():
    """Each name is bound as the workbook had it, whatever it is called now."""
    tree = ast.parse(OLD_IMPORTS)
    new, note = moved.followed(tree)
    names = {}
    exec(compile(new, "<imports>", "exec"), names)
    wanted = {alias.asname or alias.name for node in tree.body for alias in node.names}
    assert wanted <= set(names)
    assert names["keep_mask"].__name__ == "combined_mask"
    assert names["attention"].__name__ == "minitransformer.models.attention"
    assert "line 2: from minitransformer.models.attention import" in note and "combined_mask as keep_mask" in note
    assert ast.dump(tree) == ast.dump(ast.parse(OLD_IMPORTS)), "what the learner wrote is not touched"


def test_imports_of_today_are_left_alone():
    text = "import torch\nfrom minitransformer.models.attention import split_heads as ours\nfrom .x import y\n"
    text += "from minitransformer.errors import UserError\nfrom minitransformer.models import *\n"
    tree = ast.parse(text)
    assert moved.followed(tree) == (tree, "")


def test_a_workbook_with_old_imports_passes_and_is_told_what_to_write(here, capsys):
    path = write_workbook()
    text = path.read_text(encoding="utf-8").replace(
        "import torch\n", "import torch\nfrom minitransformer.gpt import GPT\n", 1
    )
    path.write_text(text, encoding="utf-8")
    workbook = loading.load(path, catalogue.exercises(1))
    assert workbook.names["GPT"].__module__ == "minitransformer.models.gpt"
    assert "from minitransformer.models.gpt import GPT" in workbook.note
    results = check_here(every=True)
    assert results["1.1"]["state"] == "passed" and "names of an earlier course" in results["note"]["text"]
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import minitransformer.gpt", "minitransformer.gpt is minitransformer.models.gpt now"),
        ("from minitransformer.models.gpt import GPTX", "did you mean GPT?"),
    ],
)
def test_an_import_that_cannot_be_followed_says_where_it_went(line, says):
    path = write_workbook()
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    assert says in check_here()["problem"]["text"]


def test_parameters_and_members_of_before_are_named():
    def now(attention_mask=None):
        """Takes it by its name of today."""

    with pytest.raises(TypeError) as error:
        now(keep=None)
    assert in_plain_words(error.value) == "What was called keep in an earlier course is called attention_mask now."
    with pytest.raises(AttributeError) as lost:
        book.quick_step  # noqa: B018
    assert in_plain_words(lost.value) == "What was called quick_step in an earlier course is called decode_step now."


def renamed(toys, monkeypatch, tmp_path, target="toys:total_so_far", parameters="x: Tensor"):
    """A course in which 1.1, running_sum, has another name."""
    path = tmp_path / "toys.py"
    text = path.read_text(encoding="utf-8").replace("def running_sum(x: Tensor)", f"def total_so_far({parameters})")
    path.write_text(text.replace("running_sum", "total_so_far"), encoding="utf-8")
    exercises = tmp_path / "lessons" / "exercises" / "lesson_01.py"
    exercises.write_text(EXERCISES.replace("toys:running_sum", target), encoding="utf-8")
    monkeypatch.setitem(moved.FORMER, "1.1", "running_sum")
    exercise.FORMER["1.1"] = "running_sum"


@pytest.fixture
def old_workbook(toys, monkeypatch, tmp_path):
    """Written when 1.1 was called running_sum; gives the way to rename it, and forgets all modules of then."""
    import importlib
    import sys

    path = write_workbook()

    def rename(**how):
        renamed(toys, monkeypatch, tmp_path, **how)
        sys.modules.pop("lesson_01_exercises")
        importlib.reload(sys.modules["toys"])
        return path

    return rename


def test_code_under_the_former_name_counts(old_workbook, here, capsys):
    path = old_workbook()
    before = path.read_bytes()
    assert [check_here(every=True)[f"1.{n}"]["state"] for n in (1, 2, 3)] == ["passed"] * 3
    assert commands.start(1) == 0 and path.read_bytes() == before, "nothing is missing"
    progress.Progress().set("1.1", passed=True, source=check_here("1.1")["1.1"]["source"])
    assert standing.how_each_stands(1)["1.1"] == standing.SOLVED
    assert "total = total + value" in reading.own_source(path.read_text(), ast.parse(path.read_text()), the("1.1"))


def test_code_of_other_parameters_stays_and_the_new_stub_is_added(old_workbook, here, capsys):
    path = old_workbook(parameters="x: Tensor, start: float = 0.0")
    before = path.read_text(encoding="utf-8")
    commands.start(1)
    out = " ".join(capsys.readouterr().out.split())
    after = path.read_text(encoding="utf-8")
    assert after.startswith(before) and "def total_so_far(x: Tensor, start: float = 0.0)" in after[len(before) :]
    assert "1.1: running_sum is total_so_far now, and takes other parameters. Your running_sum stays where it is" in out
    assert check_here("1.1")["1.1"]["state"] == "unwritten"


def test_what_is_missing_is_said_with_its_former_name(old_workbook):
    old_workbook(parameters="x: Tensor, start: float = 0.0")
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert (
        "running_sum is total_so_far now, and takes other parameters" in text and "make start-1 adds the stub" in text
    )


def test_former_names_are_those_of_exercises_that_there_are(monkeypatch):
    """A name in the table that an exercise of today has would be taken for its former one."""
    from minitransformer.course import show
    from tests.conftest import ROOT

    monkeypatch.setattr(show, "ROOT", ROOT)
    for lesson in catalogue.files():
        for one in catalogue.exercises(lesson):
            if one.former is not None:
                assert one.former != one.name
    known = {one.id for lesson in catalogue.files() for one in catalogue.exercises(lesson)}
    assert set(moved.FORMER) <= known


OLD = """
from minitransformer.gpt import GPT

def f(self, x, keep=None, *, source_keep, hidden=False):
    y = self.base(x, keep=keep, source_keep=source_keep, hidden=True)
    z = loss(y, hidden=y)
    return {"keep": keep, "ids": z, "hidden": hidden}
"""
NEW = """
from minitransformer.models.gpt import GPT

def f(self, x, attention_mask=None, *, source_mask, return_hidden=False):
    y = self.base(x, attention_mask=attention_mask, source_mask=source_mask, return_hidden=True)
    z = loss(y, hidden=y)
    return {"attention_mask": attention_mask, "ids": z, "hidden": return_hidden}
"""


def test_parameters_of_before_are_followed_in_an_exercise():
    stub = ast.parse("def f(self, x, attention_mask=None, *, source_mask, return_hidden=False): pass").body[0]
    new, note = moved.followed(ast.parse(OLD), lambda tree: [(tree.body[1], stub)])
    assert ast.unparse(new) == ast.unparse(ast.parse(NEW))
    assert "line 4: attention_mask (it was keep)" in note
    today = ast.parse("def f(x, keep):\n    return g(x, keep=keep)")
    assert moved.followed(today, lambda tree: [(tree.body[0], stub)]) == (today, ""), "a name of the learner's own"
