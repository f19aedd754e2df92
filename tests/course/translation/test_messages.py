"""Messages with filled holes: found again by their patterns, and their patterns found in the code."""

import ast
import textwrap

import pytest

from minitransformer.course.translation.messages import Messages, is_said, patterns_in

TEXTS = {
    "You divide by √d_k twice.": "你除以了两次 √d_k。",
    "Two texts": "两段文本",
    "{0} heads": "{0} 个头",
    "perplexity": "困惑度",
}
PATTERNS = {
    "gradient of {0}": "{0} 的梯度",
    "Exercise {0} has {1}.": "练习 {0} {1}。",
    "passed": "通过",
    "{0} has {1} parts; it should have {2}.": "{0} 有 {1} 个部分，应该有 {2} 个。",
    "{0} has {1}; it should have {2}.": "{0} 有 {1}，应该有 {2}。",
    "The output": "输出",
    "Diagnosis: {0}. {1}": "诊断：{1}（{0}）",
    "It fails on this: {0}": "在这里失败：{0}",
    "{0} line{1?} of {0}": "{0} 的 {0} 行",
    "Nothing was changed.": "没有改动。",
    "{0}, {1} word{2?}": "{0}，{1} 个词",
}


@pytest.fixture
def chinese():
    return Messages(TEXTS, PATTERNS)


@pytest.mark.parametrize(
    "english, said",
    [
        ("The output has 2 parts; it should have 3.", "输出 有 2 个部分，应该有 3 个。"),
        ("x[0] has {'a'}; it should have {'b'}.", "x[0] 有 {'a'}，应该有 {'b'}。"),
        ("Exercise 3, 7, 9–11 has passed.", "练习 3、7、9–11 通过。"),
        ("Diagnosis: twice. You divide by √d_k twice.", "诊断：你除以了两次 √d_k。（twice）"),
        ("It fails on this: Two texts.", "在这里失败：两段文本。"),
        ("7 lines of 7", "7 的 7 行"),
        ("12 heads", "12 个头"),
        ("Nothing was changed. Diagnosis: a. b", "没有改动。诊断：b（a）"),
        ("Who knows? Nothing was changed.", "Who knows? 没有改动。"),
        ("Who knows?", "Who knows?"),
        ("7 lines of 8", "7 lines of 8"),
        ("x, 3 words", "x，3 个词"),
        ("Bright, a word. The words divide x from y.", "Bright, a word. The words divide x from y."),  # no plural's s
        ("(2, 3)", "(2, 3)"),
        ("perplexity", "困惑度"),  # a table's column
        ("gradient of perplexity", "perplexity 的梯度"),  # a name of the code
        ("gradient of Two texts", "两段文本 的梯度"),
        ("Exercise 1.5 has passed.", "练习 1.5 通过。"),
    ],
)
def test_a_message_is_known_by_its_pattern(chinese, english, said):
    assert chinese(english) == said


CODE = '''
    """A docstring of words is not said."""
    import re

    def f(n, x):
        """Nor is this one."""
        say(f"It has {n} line{'s' * (n != 1)}, "
            f"and {x.shape:>4} more.")
        say("one two" if n else "three four")
        re.match("a pattern of words", x)
        key = {"some key": "key_of_words", "re": "unmatched|does not match"}
        return t("passed")
'''


def test_messages_are_found_in_the_code():
    found = list(patterns_in(ast.parse(textwrap.dedent(CODE))))
    said = {"It has {0} line{1?}, and {2} more.", "one two", "three four", "some key", "passed"}
    assert {pattern for pattern, *_ in found} == said
    holes = next(holes for pattern, _, holes in found if "{0}" in pattern)
    assert holes == "{0} n, {1} 's' * (n != 1), {2} x.shape"


def test_what_is_said():
    assert all(map(is_said, ("two words", "Diagnosis: {0}", "{0} has {1} parts")))
    assert not any(map(is_said, ("word", "{0}.{1}", "from {0} import {1}", r"\d+ of words", "<b>two words</b>")))
