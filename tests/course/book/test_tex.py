"""Formulas from unicode to TeX: single ones, those in prose, and every one that a lesson has."""

import re

import pytest

from minitransformer.course import lessons
from minitransformer.course.book import prose, tex
from minitransformer.course.book.code import Package
from minitransformer.course.book.pages import ast
from minitransformer.course.translation.blocks import blocks
from minitransformer.errors import UserError


@pytest.mark.parametrize(
    ("unicode", "wanted"),
    [
        ("√d_k", r"\sqrt{d_{k}}"),
        ("1.96 √(p (1 − p) / n)", r"1.96 \sqrt{p (1 - p) / n}"),
        ("h_i^(n)", "h_{i}^{(n)}"),
        ("e^(q·k_s)", r"e^{q\cdot k_{s}}"),
        ("e^−0.7", "e^{-0.7}"),
        ("W_i^Q", "W_{i}^{Q}"),
        ("h_<i", "h_{< i}"),
        ("y_≤t", r"y_{\le t}"),
        ("Σ_{i ∈ Y_idx} log p", r"\sum _{i \in Y_{\text{idx}}} \log p"),
        ("P'_θ[i, :]", r"P'_{\theta }[i, :]"),
        ("A ∈ R^{d×r}", r"A \in \mathbb{R}^{d\times r}"),
        ("ŷ_i + d̄", r"\hat{y}_{i} + \bar{d}"),
        ("σ_1² v_1ᵀ", r"\sigma _{1}^{2} v_{1}^{\top}"),
        ("|y|^α", r"\vert y\vert ^{\alpha }"),
        ("P(a | b)", r"P(a \mid b)"),
        ("score(label) = h · v_label", r"\operatorname{score}(\text{label}) = h \cdot v_{\text{label}}"),
        ("10,240 %", r"10{,}240 \%"),
    ],
)
def test_from_unicode(unicode, wanted):
    assert tex.from_unicode(unicode) == wanted


JOINED = "\u2060"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("of {'tuning.0.free': (10, 128)}. It trains", "of {'tuning.0.free': (10, 128)}. It trains"),  # Python's print
        ("a vector of C numbers", "a vector of $C$ numbers"),
        ("In z = [x; y], the", f"In $z = [x; y]${JOINED}, the"),
        ("as √d_k.", rf"as $\sqrt{{d_{{k}}}}${JOINED}."),
        ("has |P_idx| · 2 · L · C numbers", r"has $\vert P_{\text{idx}}\vert \cdot 2 \cdot L \cdot C$ numbers"),
        ("BERT's s is", "BERT's $s$ is"),
        ("A and I are words, and so is a", "A and I are words, and so is a"),
        ("`q_k` and top-k and 30 of 40", "`q_k` and top-k and 30 of 40"),
        ("load_base and tasks/data stay", "load_base and tasks/data stay"),
        ("already $x_1$ here", "already $x_1$ here"),
        ("and p = softmax(u) its", r"and $p = \operatorname{softmax}(u)$ its"),
        ("8 · log V, and log S where", rf"$8 \cdot \log V${JOINED}, and $\log S$ where"),
        ("near to log 32 = 3.47, or", rf"near to $\log 32 = 3.47${JOINED}, or"),
        ("a log of the run, the log file", "a log of the run, the log file"),
        ("writes W + AB for rows", "writes $W + AB$ for rows"),
        ("lesson 9 took 3 × 4 steps", "lesson 9 took $3 \\times 4$ steps"),
    ],
)
def test_inline(text, wanted):
    assert tex.inline(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("W^Q、W^K 和 W^O。", f"$W^{{Q}}${JOINED}、$W^{{K}}$ 和 $W^{{O}}${JOINED}。"),
        ("取 e^(q·k)，再除", rf"取 $e^{{q\cdot k}}${JOINED}，再除"),
        ("词元，所以 T = S：", f"词元，所以 $T = S${JOINED}："),
        ("问什么（q）；", f"问什么（$q${JOINED}）；"),
        ("（W^O）在“d_k”里", f"（$W^{{O}}${JOINED}）在“$d_{{k}}${JOINED}”里"),
        ("d_k是宽度，是√d_k", r"$d_{k}$是宽度，是$\sqrt{d_{k}}$"),
        ("**宽度 d_k：** 长", f"**宽度 $d_{{k}}${JOINED}：** 长"),
        ("它是 (B, T, H, D)：不是", f"它是 $(B, T, H, D)${JOINED}：不是"),
        ("权重——W^Q——在", "权重——$W^{Q}$——在"),
        ("有 64 个，第 2 课。GPT、A、I 和 top-k；", "有 64 个，第 2 课。GPT、A、I 和 top-k；"),
        ("代码 `q_k`，“t”这个字母，$x_1$，", "代码 `q_k`，“t”这个字母，$x_1$，"),
        ("W_上、p(上)、load_base。", "W_上、p(上)、load_base。"),
    ],
)
def test_inline_beside_chinese(text, wanted):
    assert tex.inline(text) == wanted


def test_display():
    assert tex.display(["Q = X W^Q     K = X W^K"]) == [[("tex", "Q = X W^{Q}"), ("tex", "K = X W^{K}")]]
    assert tex.display(["x ← x + f(x)      before the layer"]) == [
        [("tex", r"x \leftarrow x + f(x)"), ("text", "before the layer")]
    ]
    assert tex.display(["greedy     the likeliest token"]) == [[("text", "greedy"), ("text", "the likeliest token")]]
    assert tex.display(["start with the bytes; then:", "    join two"]) is None
    assert tex.display(["config = PrefixTuningConfig(num_virtual_tokens=10)"]) is None


@pytest.mark.book
def test_every_formula_of_lessons_and_library_can_be_set():
    texts = [cell.prose for lesson in lessons.lessons() for cell in lesson.cells]
    texts += [ast.get_docstring(module.tree) or "" for module in Package().modules.values()]
    count = 0
    for text in texts:
        for block in blocks(text):
            if block.kind == "indented":
                html = prose.indented(block.text)
                assert 'class="unset"' not in html, block.text
                count += html.count("katex-html")
            elif block.kind in ("paragraph", "item"):
                for formula in re.findall(r"\$([^$]+)\$", tex.inline(block.text)):
                    assert "katex-html" in tex.html(formula)
                    count += 1
    assert count > 300


@pytest.mark.book
def test_what_katex_cannot_read_is_named():
    with pytest.raises(UserError, match=r"KaTeX cannot set \$\\foo\$"):
        tex.html(r"\foo")
