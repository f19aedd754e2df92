"""A workbook imports what its stubs need."""

import re

from minitransformer.course.workbook import book, catalogue


def test_imports_do_not_give_the_answer_away():
    text = book.new_text(1, catalogue.exercises(1))
    assert "lru_cache" not in text and "contextmanager" not in text, "nothing in this workbook uses them"
    assert "import torch\n" in text and "from torch import Tensor\n" in text
    assert "from toys import Counter\n" in text, "a method's class is imported, to inherit from"
    assert not re.search(r"import.*\brunning_sum\b", text), "what is to be written must not be imported"
