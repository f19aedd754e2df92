"""Reports keep the names that authors and code use."""

from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import exercise, report
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination


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
