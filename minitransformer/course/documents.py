"""The five documents that the lessons mirror: their tables of contents, and which step treats which section.

A lesson cites a section as `003 §4.2`, with its title behind it or not; further sections of the same document follow
with commas, `003 §4.1, §4.2`, and a range is `000 §3.2–3.3`. Document 002 numbers nothing: there the heading, or a word
of it that no other heading has, stands in place of the number, `002 §工作流程`, `002 §Step3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minitransformer.errors import UserError

TITLES = {
    "000": "大语言模型原理与工程实践：前缀微调",
    "001": "大规模语言模型从理论到实践 高效模型微调",
    "002": "Transformer 学习之路 - Prefix-Tuning 实战",
    "003": "LLM微调技术之Prefix Tuning",
    "004": "大语言模型原理与工程实践：大语言模型微调面临的挑战",
}

# Document → section → title. Of 002 the sections are the headings, shortened to what names them.
CONTENTS: dict[str, dict[str, str]] = {
    "000": {
        "1": "背景介绍",
        "1.1": "大语言模型的崛起",
        "1.2": "微调的必要性",
        "1.3": "前缀微调：一种高效的微调方法",
        "2": "核心概念与联系",
        "2.1": "前缀微调的原理",
        "2.2": "前缀微调与传统微调的比较",
        "2.3": "前缀微调的应用场景",
        "3": "核心算法原理具体操作步骤",
        "3.1": "前缀设计",
        "3.2": "模型训练",
        "3.3": "模型预测",
        "4": "数学模型和公式详细讲解举例说明",
        "4.1": "语言模型",
        "4.2": "前缀微调",
        "4.3": "举例说明",
        "5": "项目实践：代码实例和详细解释说明",
        "6": "实际应用场景",
        "7": "总结：未来发展趋势与挑战",
    },
    "001": {
        "1": "背景介绍",
        "1.1": "问题的由来",
        "1.2": "研究现状",
        "1.3": "研究意义",
        "1.4": "本文结构",
        "2": "核心概念与联系",
        "3": "核心算法原理 & 具体操作步骤",
        "3.1": "算法原理概述",
        "3.1.1": "Prompt",
        "3.1.2": "Adapter",
        "3.1.3": "LoRA",
        "3.1.4": "P-Tuning",
        "3.2": "算法步骤详解",
        "3.2.1": "模型结构设计",
        "3.2.2": "模型初始化",
        "3.2.3": "模型微调",
        "3.2.4": "模型推理",
    },
    "002": {
        "什么是": "什么是 Prefix-Tuning？",
        "核心思想": "Prefix-Tuning 的核心思想",
        "工作流程": "Prefix-Tuning 的工作流程",
        "优势": "Prefix-Tuning 的优势",
        "应用场景": "应用场景",
        "示例": "示例",
        "对比": "Prefix-Tuning 与其他提示方法的对比",
        "总结": "总结",
        "实战演练": "实战演练",
        "Step1": "Step1 导入相关包",
        "Step2": "Step2 加载数据集",
        "Step3": "Step3 数据集预处理",
        "Step4": "Step4 创建模型",
        "PEFT Step1": "PEFT Step1 配置文件",
        "PEFT Step2": "PEFT Step2 创建模型",
        "Step5": "Step5 配置训练参数",
        "Step6": "Step6 创建训练器",
        "Step7": "Step7 模型训练",
        "Step8": "Step8 模型推理",
    },
    "003": {
        "1": "Abstract(摘要)",
        "2": "Introduction(介绍)",
        "3": "Prefix Tuning",
        "3.1": "Problem Statement(问题陈述)",
        "3.2": "Intuition(直觉)",
        "3.3": "Method/Parametrization of Pθ(原理)",
        "4": "Experiments(实验结果)",
        "4.1": "实验结果",
        "4.2": "Intrinsic Evaluation(重要发现)",
        "5": "总结",
    },
    "004": {
        "1": "背景介绍",
        "1.1": "大语言模型的兴起",
        "1.2": "大语言模型微调的重要性",
        "2": "核心概念与联系",
        "2.1": "大语言模型的架构",
        "2.2": "自注意力机制",
        "2.3": "预训练与微调",
        "3": "核心算法原理具体操作步骤",
        "3.1": "预训练阶段",
        "3.2": "微调阶段",
        "4": "数学模型和公式详细讲解举例说明",
        "4.1": "自注意力机制",
        "4.2": "交叉熵损失",
        "5": "项目实践:代码实例和详细解释说明",
        "5.1": "数据预处理",
        "5.2": "模型定义和微调",
        "5.3": "模型评估和预测",
    },
}

_HEADINGS = "|".join(sorted(CONTENTS["002"], key=len, reverse=True))
_SECTION = rf"§(?:\d+(?:\.\d+)*(?:[–-]§?\d+(?:\.\d+)*)?|{_HEADINGS}|[\w-]+)"
_MORE = rf"[^§\n]{{0,40}}?(?:, | and | to |、)(?={_SECTION}){_SECTION}"
_REFERENCES = re.compile(rf"(?<![\d.])(00[0-4]),? ({_SECTION}(?:{_MORE})*)")
_TITLE = re.compile(r"[ ]+([\u4e00-\u9fff][\u4e00-\u9fff：:A-Za-z -]*)")


@dataclass(frozen=True)
class Reference:
    """One section that a text cites."""

    document: str
    section: str
    title: str  # what stands behind the number, if that is Chinese; empty otherwise

    def __str__(self) -> str:
        """`003 §4.2`."""
        return f"{self.document} §{self.section}"


def references(text: str) -> Iterator[Reference]:
    """Every section that a text cites, in order, those that exist nowhere included."""
    for match in _REFERENCES.finditer(text):
        document = match[1]
        for section in re.finditer(_SECTION, match[2]):
            name = section[0][1:]
            after = _TITLE.match(text, match.start(2) + section.end())
            title = after[1].strip() if after and document != "002" else ""
            numbers = re.fullmatch(r"([\d.]+)[–-]§?([\d.]+)", name)
            for one in between(document, *numbers.groups()) if numbers else [name]:
                yield Reference(document, one, "" if numbers else title)


def between(document: str, first: str, last: str) -> list[str]:
    """The sections from `first` to `last` of a document, both included; both alone where one exists nowhere."""
    sections = list(CONTENTS[document])
    if first not in sections or last not in sections:
        return [first, last]
    depth = first.count(".")
    inside = sections[sections.index(first) : sections.index(last) + 1]
    return [section for section in inside if section.count(".") == depth]


def wrong(reference: Reference) -> str | None:
    """What is wrong with a reference, in a sentence; None where nothing is."""
    sections = CONTENTS[reference.document]
    if reference.section not in sections:
        return f"{reference} does not exist: the sections of {reference.document} are {', '.join(sections)}."
    title = sections[reference.section]
    another = reference.title in sections.values()  # 前缀微调 is part of §2.2's title, and it is §4.2's
    if reference.title and reference.title != title and (another or reference.title not in title):
        return f"{reference} has the title {title!r}, not {reference.title!r}."
    return None


def find(words: str) -> tuple[str, str | None]:
    """A document and a section of it as a person types them: `003 §4.2`, `003 4.2`, `002 工作流程`, `003`.

    Raises:
        UserError: no such document or section.
    """
    match = re.fullmatch(r"\s*(\d{3})\s*(?:[,§\s]\s*§?(.+?))?\s*", words)
    if not match or match[1] not in CONTENTS:
        listed = "; ".join(f"{number} 《{title}》" for number, title in TITLES.items())
        raise UserError(f"{words!r} names no document; a section is written like 003 §4.2. The documents are {listed}.")
    document, section = match[1], match[2]
    if section is not None and (why := wrong(Reference(document, section, ""))):
        raise UserError(why)
    return document, section
