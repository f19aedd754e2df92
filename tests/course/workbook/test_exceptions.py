"""What an exception means is said in plain words."""

import pytest

from minitransformer.course.workbook import book, catalogue
from tests.course.workbook.helpers import SUM, check_here, write_workbook


def test_only_the_learners_lines_of_a_traceback_are_shown():
    path = write_workbook(edits=[(SUM, "    return torch.stack(sums).view(7, 7)")])
    result = check_here("1.1")["1.1"]
    number = path.read_text(encoding="utf-8").split("\n").index("    return torch.stack(sums).view(7, 7)") + 1
    assert f"line {number}, in running_sum:  return torch.stack(sums).view(7, 7)" in result["text"]
    assert "examine.py" not in result["text"] and result["text"].count("line ") == 1


HELPERS = """def add_up(x, start):
    return x.sum() + start


class Summed(torch.nn.Module):
    def forward(self, x):
        return x


"""


@pytest.mark.parametrize(
    "code, says",
    [
        ("from minitransformer.text.batches import pad_right; return pad_right(x)", "pad_right takes (rows, pad_id): "),
        ("from minitransformer.models.attention import Prefix; return Prefix(x)", "Prefix takes (k, v)."),
        (
            "from minitransformer.models.gpt import GPTConfig; return GPTConfig(vocab=3)",
            "GPTConfig takes (vocab_size=2048, ",
        ),
        ("return add_up(x)", "add_up takes (x, start)."),
        ("return Summed()(x, y=3)", "Summed.forward takes (x)."),
        ("return running_sum(x, x)", "running_sum takes (x): Each number plus"),
    ],
)
def test_a_wrong_call_in_the_learners_code_shows_what_was_called(code, says):
    """The exercise's own parameters are right then, so nothing is said of them."""
    write_workbook(edits=[(SUM, f"    {code}"), ("def running_sum", f"{HELPERS}def running_sum")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert says in text and "It is called as" not in text, text


def test_a_package_function_that_is_given_a_wrong_thing_is_not_called_wrongly():
    write_workbook(edits=[(SUM, "    return x.view(1, 2).sum(3, nothing=4)")])
    assert "It is called as" not in check_here("1.1")["1.1"]["text"]


def test_a_method_whose_parameters_were_changed():
    write_workbook(edits=[("def add(self, x: Tensor)", "def add(self, x: Tensor, more: int)")])
    text = " ".join(check_here("1.3")["1.3"]["text"].split())
    assert "Yours is Counter.add(self, x, more), the exercise is Counter.add(self, x): more is one too many." in text


@pytest.mark.parametrize(
    "code, says",
    [
        ("from minitransformer.errors import UserError; raise UserError('Mine.')", "it is your code that refuses it"),
        ("return mean(torch.ones(2, 2))", "What it refuses is what your code gave it in line"),
    ],
)
def test_who_refused_what(code, says):
    write_workbook(edits=[(SUM, f"    {code}")])
    text = " ".join(check_here("1.1")["1.1"]["text"].split())
    assert "The package accepts this input" in text and says in text, text


def test_an_import_that_was_taken_out_is_said():
    lines = book.new_text(1, catalogue.exercises(1)).split("\n")
    assert "from minitransformer.errors import UserError" in lines
    for name, line, only in (
        ("UserError", "from minitransformer.errors import UserError\n", "1.2"),
        ("Counter", "from toys import Counter\n", None),
    ):
        write_workbook(edits=[(line, "")])
        found = check_here(only, every=True)
        text = found[only]["text"] if only else found["problem"]["text"]
        assert f"name '{name}' is not defined" in text, text
        assert f"\n\n    {line.strip()}" in text
        assert "A new workbook imports it in its first lines; this one does not." in " ".join(text.split())
    write_workbook(edits=[(SUM, "    return sumz")])
    assert "A new workbook" not in check_here("1.1")["1.1"]["text"]


@pytest.mark.parametrize(
    ("identity", "edits", "says"),
    [
        (
            "1.1",
            [
                (
                    "    total, sums = torch.zeros(()), []",
                    "    from toys import running_sum as theirs\n    return theirs(x)",
                )
            ],
            "Your running_sum calls the package's running_sum. During a check, and in a lesson on your code,",
        ),
        (
            "1.1",
            [("    total, sums = torch.zeros(()), []", "    return running_sum(x)")],
            "A function called itself without end.",
        ),
        (
            "1.3",
            [("        self.n += self.step", "        return Counter.add(self, x)\n        self.n += self.step")],
            "During a check it stands in the package's class Counter, and so Counter.add is yours.",
        ),
    ],
)
def test_code_that_calls_what_it_stands_in_for_is_told_so(identity, edits, says):
    write_workbook(edits=edits)
    assert says in " ".join(check_here(identity)[identity]["text"].split())


def test_an_exceptions_message_moves_no_cursor():
    message = r"a\x1b[2Jb\x9b31mc\u202ed\re"
    write_workbook(edits=[("    total, sums = torch.zeros(()), []", f"    raise ValueError('{message}')")])
    assert "ValueError: a·[2Jb·31mc·d·e" in check_here("1.1")["1.1"]["text"]


@pytest.mark.parametrize(
    ("arguments", "before", "says"),
    [("", "self.a = torch.nn.Linear(1, 1); ", "calls super().__init__() first"), ("3", "", "takes no arguments")],
)
def test_the_start_of_a_module_is_explained(arguments, before, says):
    line = f"            {before}super().__init__({arguments})"
    code = f"    class M(torch.nn.Module):\n        def __init__(self):\n{line}\n    M()"
    write_workbook(edits=[("    total, sums = torch.zeros(()), []", code)])
    assert says in check_here("1.1")["1.1"]["text"]
