"""What lessons, package and laboratory say of the documents' sections, held against the tables of contents."""

import pytest

from minitransformer.course import index
from minitransformer.course.documents import CONTENTS, Reference, between, find, references, wrong
from minitransformer.course.index import Step, treating
from minitransformer.errors import UserError
from tests.conftest import ROOT

TEXTS = sorted([*(ROOT / "lessons").rglob("*.py"), *(ROOT / "minitransformer").rglob("*.py"), ROOT / "README.md"])


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_section_that_is_cited_exists_and_has_the_title_that_is_given(path):
    found = [why for one in references(path.read_text(encoding="utf-8")) if (why := wrong(one))]
    assert not found, f"{path.relative_to(ROOT)}: " + " ".join(found)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("as 003 §4.2 finds", ["003 §4.2"]),
        ("(000 §3.1, 003 §4.2): random", ["000 §3.1", "003 §4.2"]),
        ("003 §1, §4.1", ["003 §1", "003 §4.1"]),
        ("004 §2.2 自注意力机制, §4.1 自注意力机制; 003 §3.3", ["004 §2.2", "004 §4.1", "003 §3.3"]),
        ("000 §3.2–3.3's six steps", ["000 §3.2", "000 §3.3"]),
        ("001 §3.2.1 to §3.2.4", ["001 §3.2.1", "001 §3.2.4"]),
        ("002 §工作流程 and 002 §Step3", ["002 §工作流程", "002 §Step3"]),
        ("002 §PEFT Step1", ["002 §PEFT Step1"]),
        ("Li & Liang (2021, §5) and 2000 §1", []),
        ("003 §9.9", ["003 §9.9"]),
    ],
)
def test_references(text, expected):
    assert [str(one) for one in references(text)] == expected


def test_a_title_of_another_section_is_refused():
    (one,) = references("000 §2.2 前缀微调的原理")
    assert wrong(one) == "000 §2.2 has the title '前缀微调与传统微调的比较', not '前缀微调的原理'."
    (one,) = references("000 §2.2 前缀微调; and so on")
    assert wrong(one).endswith("not '前缀微调'."), "that is a part of its title, but the title of §4.2"
    (one,) = references("000 §2.1 前缀微调的原理, and so on")
    assert wrong(one) is None


def test_a_section_that_exists_nowhere_is_refused():
    assert wrong(Reference("003", "6", "")).startswith("003 §6 does not exist: the sections of 003 are 1, 2, 3,")


def test_between_keeps_to_one_depth():
    assert between("001", "3.2.1", "3.2.4") == ["3.2.1", "3.2.2", "3.2.3", "3.2.4"]
    assert between("003", "1", "4") == ["1", "2", "3", "4"]


@pytest.mark.parametrize("words", ["003 §4.2", "003 4.2", "003§4.2", " 003  §4.2 ", "003, §4.2"])
def test_find(words):
    assert find(words) == ("003", "4.2")


@pytest.mark.parametrize("words", ["", "3", "007", "four", "003 §7", "003 §4.2 §3"])
def test_find_refuses_what_is_no_section(words):
    with pytest.raises(UserError, match="003"):
        find(words)


def test_find_a_whole_document():
    assert find("002") == ("002", None)


def test_every_section_has_a_parent():
    for document, sections in CONTENTS.items():
        for section in sections:
            if "." in section:
                assert section.rpartition(".")[0] in sections, f"{document} §{section}"


# ---------------------------------------------------------------- the index


def step_of(*cites):
    return Step(1, 1, "A step", "lessons/lesson_01_x.py", tuple(Reference(*one, "") for one in cites))


def test_a_section_is_treated_where_it_or_one_below_it_is_cited():
    one, two, three = step_of(("001", "3.1.2")), step_of(("001", "3.2")), step_of(("003", "3.1"))
    every = [one, two, three]
    assert treating("001", "3.1", every) == [one]
    assert treating("001", "3", every) == [one, two]
    assert treating("001", None, every) == [one, two]
    assert treating("003", "3", every) == [three]
    assert treating("001", "3.1.1", every) == []


def test_the_committed_index_is_what_the_lessons_say():
    assert (ROOT / index.PAGE).read_text(encoding="utf-8") == index.page(), (
        f"{index.PAGE} is not what the lessons' references give: run `python -m minitransformer lessons --index`"
    )


def test_every_section_is_treated_by_a_step():
    assert index.untreated(index.steps()) == []


def test_a_section_that_no_step_treats_is_found():
    every = [step_of((document, section)) for document, sections in CONTENTS.items() for section in sections]
    assert index.untreated(every) == []
    without = [step for step in every if step.cites[0].document != "000" or step.cites[0].section not in ("7", "3.2")]
    assert index.untreated(without) == ["000 §3.2", "000 §7"]
    alone = [step for step in every if step.cites[0].section != "3"]
    assert index.untreated(alone) == [], "a heading is treated where a section below it is"


def test_the_steps_of_a_section_are_printed(capsys):
    index.print_steps("003 §4.2")
    told = capsys.readouterr().out
    assert told.startswith("003 §4.2  Intrinsic Evaluation(重要发现)\n  lesson 9, step ")
    assert "make lesson-9 runs the first of them" in told


def test_a_section_without_steps_says_so(capsys, monkeypatch):
    monkeypatch.setattr(index, "steps", list)
    index.print_steps("000 §7")
    assert "No step of a lesson treats it." in capsys.readouterr().out
