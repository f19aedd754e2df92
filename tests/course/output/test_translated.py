"""A lesson in a second language: prose, sentences, tables and captions; code, formulas and data as they are."""

import pytest

from minitransformer.course import output, runner
from minitransformer.course.output import terminal
from minitransformer.course.translation import catalogues

SHOWN = """
# %%
from minitransformer.course.show import bar, figure, say, source, table, verbatim

table([("no mask", 0.5, bar(0.25)), ("Mira", 2.0, bar(1.0))], ["a name", "loss", ""])
verbatim("no mask")
say("A model has one head.")
with figure("loss", "The loss falls.", alt="A line.") as axes:
    axes.plot([3, 1])
"""
WORDS = {
    "A first lesson": "第一课",
    "What is two and two?": "二加二等于几？",
    "Adding": "加法",
    "Prose about **adding** (加法 addition).": "关于 **加法** 的文字。",
    "**Predict before you run:** how much is it?": "**运行之前先预测：** 等于多少？",
    "total {0}": "总和 {0}",
    "a name": "名称",
    "no mask": "无掩码",
    "The loss falls.": "损失下降。",
}
MESSAGES = {
    "Lesson {0} · {1}": "第 {0} 课 · {1}",
    "about {0} minute{1?}": "约 {0} 分钟",
    "{0}; needs no other lesson": "{0}；不需要先学其他课",
    "mirrors {0}": "对应 {0}",
    "Figure saved: figures/{0}/{1}.png — {2}": "图已保存：figures/{0}/{1}.png——{2}",
    "Lesson {0} took {1}": "第 {0} 课用时 {1}",
    "Predict, then press Enter.": "先预测，再按回车。",
    "{0} has {1}.": "{0} 有 {1}。",
}


def po(words: dict[str, str]) -> str:
    return "\n".join(f'msgid "{english}"\nmsgstr "{chinese}"\n' for english, chinese in words.items())


@pytest.fixture
def chinese(course_root, tmp_path, monkeypatch):
    from tests.conftest import LESSON

    course_root(text=LESSON + SHOWN)
    folder = tmp_path / "translations" / "zh"
    folder.mkdir(parents=True)
    (folder / "lesson_01.po").write_text(po(WORDS), encoding="utf-8")
    (folder / "course.po").write_text(po(MESSAGES), encoding="utf-8")
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path / "translations")
    monkeypatch.setenv("LESSON_LANG", "zh")
    catalogues.forget()
    yield
    catalogues.forget()


def test_the_terminal_speaks_chinese(chinese, capsys):
    runner.run(1)
    said = capsys.readouterr().out
    assert said.startswith("第 1 课 · 第一课\n二加二等于几？\n\n约 0.5 分钟；不需要先学其他课\n对应 004 §2.2")
    for line in ("── 1 · 加法 ─", "关于 加法 的文字。", "    2 + 2 = 4", "│ total = 2 + 2", "总和 4"):
        assert line in said
    assert "图已保存：figures/lesson_01/loss.png——损失下降。" in said
    assert "again 4" in said, "what has no translation stays English"
    assert "\nno mask\n" in said, "what is verbatim stays as it is"


def test_a_sentence_of_the_lesson_is_no_message_of_a_command(chinese, capsys):
    runner.run(1)
    assert "A model has one head." in capsys.readouterr().out


def test_its_tables_line_up(chinese, capsys):
    runner.run(1)
    lines = capsys.readouterr().out.split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("名称"))
    head, rule, *rows = lines[at : at + 4]
    assert head == "名称    loss" and rule.startswith("──────  ────  ─")
    assert [row.split()[0] for row in rows] == ["无掩码", "Mira"]
    # Every number ends in the column in which its header ends.
    ends = {
        terminal.display_width(line[: line.index(word) + len(word)])
        for line, word in zip([head, *rows], ["loss", "0.5", "2"], strict=True)
    }
    assert len(ends) == 1


def test_the_question_is_known_in_every_language(chinese, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    runner.run(1, step=True)
    assert asked[0] == "先预测，再按回车。 "


def test_a_sink_of_ones_own_gets_the_english(chinese):
    """What is recorded is English, whoever records it."""

    class Kept(output.Sink):
        def __init__(self):
            self.events = []

        def show(self, event):
            self.events.append(event)

    kept = Kept()
    runner.run(1, sink=kept)
    assert kept.events[0] == output.Say("total 4")
