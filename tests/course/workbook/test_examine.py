"""What is wrong with an answer is found and said."""

from pathlib import Path

import pytest
import torch

from minitransformer.course.workbook import report
from minitransformer.course.workbook.diagnose import diagnose
from minitransformer.course.workbook.examine import Examination
from tests.course.workbook.helpers import ADD, SUM, check_here, the, write_workbook


@pytest.mark.parametrize(
    "identity, old, new, says",
    [
        ("1.1", SUM, "    x += 1\n    return torch.stack(sums)", "changed its input x"),
        ("1.1", SUM, "    x[1:] += x[:-1].clone()\n    return x", "changed its input x"),
        ("1.1", SUM, "    return list(torch.stack(sums))", "is a list of length 2; it should be a tensor of"),
        ("1.1", SUM, "    torch.stack(sums)", "is None; it should be a tensor"),
        ("1.1", SUM, "    return torch.stack(sums).double()", "made of float64; it should be made of float32"),
        ("1.1", SUM, "    return torch.stack(sums)[None]", "has the shape (1, 2); it should be (2,)"),
        ("1.1", SUM, "    return torch.stack(sums) / 0", "are infinite"),
        ("1.1", SUM, "    return 3 * torch.stack(sums)", "Every number is 3 times what is right"),
        ("1.1", SUM, "    import sys; sys.exit()", "ends the program"),
        ("1.1", SUM, "    return running_sum(x)", "called itself without end"),
        ("1.1", SUM, "    return torch.stack(sumz)", "name 'sumz' is not defined"),
        ("1.1", SUM, "    return torch.stack(sums) @ torch.ones(3)", "Two shapes do not fit"),
        ("1.1", "def running_sum(x: Tensor)", "def running_sum(x: Tensor, y)", "y is one too many"),
        ("1.1", SUM, "    raise MemoryError", "more memory than a check may use"),
        ("1.1", SUM, "    raise KeyboardInterrupt", "Your code stopped the check itself: line"),
        ("1.1", SUM, "    return sums.append(sums) or sums", "does something contain itself?"),
        ("1.1", SUM, "    sums = {}\n    sums[0] = sums\n    return sums", "does something contain itself?"),
        ("1.1", SUM, "    raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "cannot be shown: ZeroDiv"),
        ("1.2", "return value, count", "return value", "is a tensor of shape (); it should be a tuple of length 2"),
        ("1.2", "return value, count", "return value, float(count)", "is a float (3.0); it should be an int (3)"),
        ("1.2", '    if x.dim() != 1:\n        raise UserError("x has to be a vector.")\n', "", "refuses this"),
        ("1.2", 'UserError("x', 'KeyError("x', "Yours raises another exception"),
        ("1.3", ADD, "        self.n += 2\n        return 0", '"first" is not as it should be. expected 17'),
    ],
)
def test_what_is_wrong_is_said(identity, old, new, says):
    write_workbook(edits=[(old, new)])
    result = check_here(identity)[identity]
    assert result["state"] == "failed"
    assert says in " ".join(result["text"].split()), f"the message does not say {says!r}:\n{result['text']}"


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda x: x.cumsum(0).to("meta"), "The output lies on meta; it should lie on cpu"),
        (lambda x: x.cumsum(0).to_sparse(), "The output lies on cpu, stored as sparse_coo"),
        (lambda x: (number for number in x), "a value is given by return"),
        (lambda x: torch.Tensor, "The output is a class (Tensor)"),
    ],
)
def test_odd_things_that_come_back(wrong, says):
    verdict = Examination(the("1.1")).examine(wrong)
    text = report.failure(verdict, diagnose(Examination(the("1.1")), verdict), Path("-"), 88)
    assert says in " ".join(text.split())


def test_a_coroutine_is_no_value():
    async def wrong(x):
        return x

    verdict = Examination(the("1.1")).examine(wrong)
    text = report.failure(verdict, diagnose(Examination(the("1.1")), verdict), Path("-"), 88)
    assert "has to begin with def" in text
