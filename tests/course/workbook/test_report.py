"""Reports keep the names that authors and code use."""

import re
import sys
from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import exercise, report
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination
from tests.course.workbook.helpers import EXERCISES, check_here, the, write_workbook


def test_names_keep_their_capitals(toys):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))

    @one.mistake("no [EOS] for BERT")
    def no_eos(x):
        """You forgot it."""
        return x

    for label in (
        "TopLayers, of two",
        "A BERT",
        "A and B",
        "P_θ alone",
        "α, halved",
        "Five numbers",
        "attention_mask left out",
    ):
        one.cases.clear()
        one.case(lambda: torch.ones(2))
        one.cases[0] = exercise.Case(label, one.cases[0].make)
        verdict = Examination(one).examine(lambda x: x)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 88)
        assert f"smallest input: {label}." in text and "Diagnosis: no [EOS] for BERT. You forgot it." in text


@pytest.mark.parametrize("name", ["ids", "a and b", "B A", "with LoRA", "y minus PyTorch's", "W^O"])
def test_names_of_what_is_observed_stay_as_the_author_wrote_them(toys, name):
    one = exercise.Exercise("1.9", "toys:running_sum", "Sums", 1, 1, "Sums.", ("a", "b", "c"))
    one.scene(lambda running_sum: {name: running_sum(torch.ones(3))})

    @one.mistake
    def twice(x):
        """attention_mask is not read, and ids are counted twice."""
        return 2 * torch.cumsum(x, 0)

    for wrong in (twice, lambda x: [x], lambda x: x[:2], lambda x: x.double().cumsum(0)):
        verdict = Examination(one).examine(wrong)
        text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 200)
        assert f'"{name}"' in text, text
        assert wrong is not twice or "twice. attention_mask is not read, and ids are counted twice." in text


def test_a_list_that_was_changed_is_no_tensor(toys):
    toys.rest = lambda items: items[1:]
    one = exercise.Exercise("1.9", "toys:rest", "Rest", 1, 1, "It takes the rest.", ("a", "b", "c"))
    one.__dict__["parameters"] = ["items"]
    one.case(lambda: ([1, 2, 3],))
    verdict = Examination(one).examine(lambda items: [items.pop(0), items][1])
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 200)
    assert "make a new list, and change that." in text and "tensor" not in text


def test_all_that_a_scene_observed_wrongly_is_named(toys):
    def wrong(self, x):
        self.n += 2 * x.numel()
        return self.n - 3

    one = the("1.3")
    verdict = Examination(one).examine(wrong)
    text = report.failure(verdict, diagnose(Examination(one), verdict), Path("-"), 200)
    assert '"first" is not as it should be' in text and 'Not as it should be, either: "then".' in text


def test_an_exception_in_a_scenes_own_line_is_not_the_learners(toys, tmp_path):
    write_workbook(edits=[("        self.n += self.step * x.numel()\n        return self.n", "        return None")])
    path = tmp_path / "lessons" / "exercises" / "lesson_01.py"
    line = 'return {"first": counter.add(torch.zeros(3)) + 1}'
    path.write_text(re.sub(r"return \{\"first.*", line, EXERCISES), encoding="utf-8")
    sys.modules.pop("lesson_01_exercises", None)
    text = check_here("1.3")["1.3"]["text"]
    assert f"What your code gave cannot be used in this line of what is run:\n\n    {line}" in text, text
    assert "TypeError" in text and "Your code raises" not in text
