"""The conversation: each line reaches the GPT as its task asks it, and nothing that is typed ends in a traceback."""

import io
import os
import re
import select
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from minitransformer.course import chat, tasks
from minitransformer.course.bases import prefix_path
from minitransformer.course.chat import Conversation
from minitransformer.course.data import default_tokenizer
from minitransformer.course.tinyworld import style_of
from minitransformer.course.words import broken_words
from minitransformer.errors import UserError
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPTConfig
from minitransformer.tuning import PrefixTuning, PromptTuning, fingerprint
from tests.conftest import ROOT, command_line
from tests.helpers import tiny_gpt

CONFIG = GPTConfig(vocab_size=2048, n_positions=256, n_layer=2, n_head=2, d_model=8, d_ff=16)


@pytest.fixture(scope="module")
def base():
    return tiny_gpt(config=CONFIG)


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    """A random prefix for each task of a tiny random base."""
    where = tmp_path_factory.mktemp("tuned")
    for seed, task in enumerate(tasks.TASKS):
        torch.manual_seed(seed)
        method = PrefixTuning(4).attach(base)
        method.save(prefix_path(task, where))
        method.detach()
    return where


@pytest.fixture
def start(base, folder, monkeypatch):
    """Conversations whose random model may say what are no words."""
    monkeypatch.setattr(chat, "broken_words", lambda text, asked: [])
    return partial(Conversation, base=base, folder=folder)


@pytest.fixture
def type_in(start, monkeypatch, capsys):
    """Run the conversation on these bytes from a pipe; gives the exit code, what was said, and what was complained."""
    monkeypatch.setattr(chat, "Conversation", start)

    def run(text: bytes, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        code = chat.main(*arguments)
        return code, *capsys.readouterr()

    return run


# ---------------------------------------------------------------- what reaches the GPT


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_typed_row_is_asked_as_in_training(task, start):
    """Else the prefix would be given something that it was not tuned for."""
    conversation, known = start(task), tasks.find_task(task)
    rows = tasks.task_rows(task, "test_seen" if task == "table_to_text" else "test")
    fields = chat.WRITTEN[known.folder][1]
    for row in rows:
        line = " // ".join(row[field] for field in fields if row[field])
        assert known.asked(conversation._row(line)) == known.asked(row)
    assert conversation.examples() == [" // ".join(row[f] for f in fields if row[f]) for row in rows[:3]]


def test_a_line_of_dialogue_is_what_a_human_says(start):
    asked = tasks.TASKS["dialogue"].asked
    assert asked(start()._row("Count the names.")) == tasks.as_human("Count the names.")
    assert asked(start()._row("Count the names. // Dora, Galo")) == tasks.as_human("Count the names.", "Dora, Galo")


def test_the_answer_is_the_prefixed_models(start, base):
    """As with the method on the base; and the untuned base's after /plain."""
    conversation, tokenizer = start("pirate", temperature=0.0), default_tokenizer()
    line = "Nipa drew a green clock at the station in Letewick on Thursday."
    prompt = [tokenizer.eot_id, *tokenizer.encode(line + "\n")]

    def by_hand() -> str:
        new = generate(base, [prompt], chat.MOST, stop_id=tokenizer.eot_id)[0]
        return tokenizer.decode(new).strip()

    method = conversation.prefixes["pirate"].attach(base)
    expected = by_hand()
    method.detach()
    said = visible(conversation.answer(line))  # without its last word, which was cut
    assert len(said) > 20 and visible(expected).startswith(said), "the prefix was not in place"
    conversation.command("/plain")
    said = visible(conversation.answer(line))
    assert len(said) > 20 and visible(by_hand()).startswith(said), "/plain should be the untuned base"
    assert by_hand() != expected, "this test needs a prefix that changes something"


def visible(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def test_switching_changes_the_prefix_and_never_the_base(start, base):
    before, line = fingerprint(base), "Nipa drew a green clock at the station in Letewick on Thursday."
    conversation, said = start("formal"), {}
    for task in ("formal", "pirate", "formal", "poetic"):
        conversation.command(f"/task {task}")
        answer = conversation.answer(line)
        assert said.setdefault(task, answer) == answer, f"{task} says something else the second time"
    assert len(set(said.values())) == 3
    assert fingerprint(base) == before and not hasattr(base, "tuning"), "the base did not stay as it was"


def test_a_temperature_draws(start):
    line = "Tell me a story about Dinli and a grey book."
    assert len({start(temperature=1.0).answer(line) for _ in range(3)}) > 1
    assert len({start(temperature=0.0).answer(line) for _ in range(2)}) == 1


def test_nothing_that_moves_a_cursor_is_printed(start, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(chat, "broken_words", lambda text, asked: [])
    answers = [start(temperature=50.0).answer("Name two animals.") for _ in range(5)]
    wrong = {char for answer in answers for char in answer if not char.isprintable() and char != "\n"}
    assert "\ufffd" in "".join(answers) and not wrong, f"control characters: {wrong}"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("task", "line", "says"),
    [
        ("qa", "Where does Mira live?", "Something is missing: qa needs a passage, //, and a question"),
        ("qa", "Mira lives in Velo. //", "Something is missing"),
        ("qa", "// Where does Mira live?", "Something is missing"),
        ("dialogue", "// Dora, Galo", "Something is missing: dialogue needs a question or a wish"),
        ("table_to_text", "Velo is a town.", "Part 1 of the table is 'Velo is a town.'; it should be a field"),
        ("table_to_text", "kind: town | name: Velo | colour: red", "A town has no field 'colour'; its fields are"),
        ("table_to_text", "kind: dragon | name: Velo", "The table's kind is 'dragon'; it should be one of"),
        ("dialogue", "word " * 300, r"That is too long: \d+ tokens, where 222 have room beside the prefix's 4"),
        ("pirate", "\ud800", "surrogate"),
    ],
)
def test_lines_that_cannot_be_answered(start, task, line, says):
    with pytest.raises(UserError, match=says):
        start(task).answer(line)


def test_the_longest_line_that_has_room_is_answered(start):
    """256 positions less 4 of the prefix and 30 for an answer."""
    conversation, tokenizer = start("formal"), default_tokenizer()
    line = " and".join(["On Monday Mira sang"] + [" on Monday Mira sang"] * 40)
    words = line.split(" ")
    tokens = [len(tasks.prompt_ids(" ".join(words[:n]) + "\n", tokenizer)) for n in range(1, len(words) + 1)]
    fits = max(n for n, count in enumerate(tokens, 1) if count <= 222)
    assert conversation.answer(" ".join(words[:fits]))
    with pytest.raises(UserError, match=f"That is too long: {tokens[fits]} tokens"):
        conversation.answer(" ".join(words[: fits + 1]))
    conversation.command("/plain")
    assert conversation.answer(" ".join(words[: fits + 1])), "without the prefix there is more room"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/task poem", "There is no task 'poem'; there are dialogue, table_to_text"),
        ("/task", "/task needs the name of one task: dialogue,"),
        ("/task formal pirate", "/task needs the name of one task"),
        ("/dance", "There is no command /dance. /task NAME puts"),
        ("/", "There is no command /."),
    ],
)
def test_commands_that_there_are_not(start, line, says):
    conversation = start("formal")
    with pytest.raises(UserError, match=re.escape(says)):
        conversation.command(line)
    assert conversation.task == "formal" and not conversation.plain


def test_a_switch_that_fails_leaves_the_old_prefix(base, folder, tmp_path):
    name = "formal.prefix.safetensors"
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    method = PromptTuning(3).attach(base)
    method.save(tmp_path / "child.prefix.safetensors")
    method.detach()
    (tmp_path / "poetic.prefix.safetensors").write_bytes((folder / name).read_bytes()[:100])
    conversation = Conversation("formal", base=base, folder=tmp_path)
    missing = "The prefix .*pirate.prefix.safetensors is missing. .*pretrain prefixes` makes it"
    for task, says in (("pirate", missing), ("child", "holds a PromptTuning"), ("poetic", "not a whole safetensors")):
        with pytest.raises(UserError, match=says):
            conversation.command(f"/task {task}")
        assert conversation.task == "formal" and conversation.answer("Mira sang at the lake in Velo on Monday.")
    assert not hasattr(base, "tuning")


def test_a_prefix_of_another_base_is_refused(folder):
    other = tiny_gpt(seed=1, config=CONFIG)
    says = f"Not one of the {len(tasks.TASKS)} prefixes .* the base was changed.* prefixes` makes them again"
    with pytest.raises(UserError, match=says):
        Conversation("formal", base=other, folder=folder)


def test_the_blame_falls_on_the_file_that_was_changed(base, folder, tmp_path):
    """One prefix that does not fit: it is that prefix. None that fits: it is the base."""
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    other = tiny_gpt(seed=1, config=CONFIG)
    method = PrefixTuning(4).attach(other)
    method.save(prefix_path("pirate", tmp_path))
    method.detach()
    conversation = Conversation("formal", base=base, folder=tmp_path)
    with pytest.raises(UserError, match="pirate.prefix.safetensors was tuned on another GPT"):
        conversation.command("/task pirate")
    prefix_path("poetic", tmp_path).write_bytes(prefix_path("poetic", folder).read_bytes()[:300])
    with pytest.raises(UserError, match="poetic.prefix.safetensors is not a whole"):
        conversation.command("/task poetic")


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_without_meaning_is_refused_at_once(start, temperature):
    with pytest.raises(UserError, match="temperature = "):
        start(temperature=temperature)


# ---------------------------------------------------------------- what is no word, and what was meant


def test_an_answer_with_words_that_are_none_is_not_given(base, folder, monkeypatch):
    """The likeliest answer that is made of words; if there is none, a sentence that says so."""
    conversation = Conversation("formal", base=base, folder=folder)
    texts = ["The fremble of Velo.", "Mira sang at the lake."]
    tries = [conversation.tokenizer.encode(text) for text in texts]
    monkeypatch.setattr(Conversation, "_tries", lambda *_: iter(tries))
    assert conversation.answer("Mira sang.") == texts[1]
    assert conversation.answer("Mira sang of a fremble.") == texts[0], "what is asked may be repeated"
    del tries[1]
    assert conversation.answer("Mira sang.") == chat.NO_ANSWER
    tries[0] = conversation.tokenizer.encode("你好")[:2]
    assert conversation.answer("Mira sang.") == chat.NO_ANSWER, "half a character"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("It took 3 minutes in Port Lodan, and Mira's clock was green.", []),
        ("Zarumouth is a town.", []),
        ("The peopley sang.", ["peopley"]),
        ("Midididididid sang.", ["Midididididid"]),
        ("Abcdefghijklmnopqrstuvwxyz sang.", ["Abcdefghijklmnopqrstuvwxyz"]),
        ("The dog \ufffd.", ["\ufffd"]),
        ("", []),
    ],
)
def test_what_is_a_word(text, broken):
    assert broken_words(text) == broken


def test_right_answers_are_made_of_words():
    for name, task in tasks.TASKS.items():
        rows = tasks.task_rows(name, "test_seen" if name == "table_to_text" else "test")
        for row in rows:
            assert not broken_words(task.answer(row), task.asked(row)), f"{name}: {task.answer(row)}"


@pytest.mark.parametrize("line", ["Who are you?", "what's your name", "What can you do?", "/who"])
def test_it_says_its_name_and_what_it_can_do(type_in, line):
    code, said, complained = type_in(line.encode())
    told = " ".join((said + complained).split())
    assert code == 0 and f"I am {chat.NAME}, a GPT of" in told and "the tiny world alone" in told
    assert all(f"- {task}: from" in told for task in tasks.TASKS)


@pytest.mark.parametrize("line", ["quit", "Exit", "/quit", "quit."])
def test_leaving(type_in, line):
    assert type_in(f"{line}\nName two animals.".encode()) == (0, "", "")


ODD = {
    "10,000 characters": ("word " * 2000, 1),
    "a word of 10,000": ("x" * 10_000, 1),
    "emoji": ("\U0001f600\U0001f468\u200d\U0001f469", 0),
    "Chinese": ("你好，你是谁？", 0),
    "right to left": ("\u202eabc", 0),
    "control characters": ("\x1b[2J\x07 Name two animals.\x00", 0),
    "nothing but control": ("\x00\x1b", 0),
    "only signs": ("!?.,;:-", 0),
    "a slash": ("/", 1),
    "a marked end": ("<|endoftext|> Name two animals.", 0),
    "no text": (b"\xff\xfe", 1),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("task", ["dialogue", "table_to_text", "qa"])
def test_odd_lines(base, folder, monkeypatch, capsys, task, odd):
    monkeypatch.setattr(chat, "Conversation", partial(Conversation, base=base, folder=folder))
    line, refused = ODD[odd]
    line = line if isinstance(line, bytes) else line.encode()
    text = io.TextIOWrapper(io.BytesIO(line + b"\nMira // Who?\n"), encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdin", text)
    code, (said, complained) = chat.main(task), capsys.readouterr()
    assert code == 1 or not refused or task != "dialogue"
    for char in said + complained:
        assert char.isprintable() or char == "\n", f"{char!r} was printed"
    assert "Traceback" not in complained


# ---------------------------------------------------------------- a pipe and a terminal


def test_from_a_pipe_only_answers_are_printed(type_in, start):
    line = "Nipa drew a green clock at the station in Letewick on Thursday."
    text = f"{line}\n\n   \n/tasks\n/task pirate\n{line}\n/quit\n{line}\n"
    code, said, complained = type_in(text.encode(), "formal")
    assert said == f"{start('formal').answer(line)}\n{start('pirate').answer(line)}\n"
    assert all(f"- {task}: " in complained for task in tasks.TASKS), "/tasks should list them, beside the answers"
    assert code == 0


def test_what_a_pipe_got_wrong_is_said_and_the_rest_is_answered(type_in, start):
    code, said, complained = type_in(b"/task poem\n\xff\xfe\nName two animals.", "dialogue")
    assert said == start("dialogue").answer("Name two animals.") + "\n", "the last line has no line's end"
    assert "no task 'poem'" in complained and "surrogate" in complained and "Traceback" not in complained
    assert code == 1


def test_an_empty_pipe(type_in):
    assert type_in(b"") == (0, "", "")


def test_the_command_line_refuses_in_a_sentence():
    for arguments, code, says in (
        (["--task", "poem"], 1, "There is no task 'poem'; there are dialogue"),
        (["--temperature", "hot"], 2, "invalid float value: 'hot'"),
    ):
        result = command_line("chat", *arguments)
        assert result.returncode == code and says in result.stderr and "Traceback" not in result.stderr, result.stderr


TERMINAL = """
import sys
from functools import partial
from pathlib import Path
from minitransformer.course import chat
from tests.helpers import tiny_gpt
from tests.course.test_chat import CONFIG

def slow(self, line):
    if line == "wait":
        print("waiting", flush=True)
        import time
        time.sleep(60)
    return answer(self, line)

answer, chat.Conversation.answer = chat.Conversation.answer, slow
chat.Conversation = partial(chat.Conversation, base=tiny_gpt(config=CONFIG), folder=Path(sys.argv[1]))
print("exit", chat.main("formal"))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX terminal")
@pytest.mark.parametrize("leave", [b"\x04", b"\x03"], ids=["end of input", "Ctrl-C"])
def test_at_a_terminal(folder, leave):
    """What it can talk about is said first; Ctrl-C ends an answer, and at the prompt the conversation."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, str(folder)],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=partial(_own_terminal, theirs),
    )
    os.close(theirs)
    seen = ""

    def until(text: str, key: bytes = b"") -> None:
        """Read on; press the key where nothing comes for a second, for Python misses one before it listens."""
        nonlocal seen
        end = time.time() + 60
        while text not in seen:
            assert time.time() < end, f"{text!r} never came, but:\n{seen[-2000:]}"
            if not select.select([ours], [], [], 1.0)[0]:
                os.write(ours, key)
                continue
            try:
                seen += os.read(ours, 4096).decode(errors="replace")
            except OSError:  # how Linux says that the other side is gone
                raise AssertionError(f"{text!r} never came, but:\n{seen[-2000:]}") from None

    try:
        until("formal> ")
        said = " ".join(seen.split())
        assert "tiny world alone" in said and "/task NAME" in said, "what it knows, and what one can do"
        for row in tasks.task_rows("formal", "test")[:3]:
            assert row["plain"] in seen, "three lines of the test split to try"
        seen = ""
        os.write(ours, b"\n")
        until("formal> ")
        seen = ""
        os.write(ours, b"wait\n")
        until("waiting")
        os.write(ours, b"\x03")
        until("Stopped; the next line can be asked.")
        until("formal> ")
        os.write(ours, b"/plain\n")
        until("formal, no prefix> ")
        until("exit 0", leave)
        assert "Traceback" not in seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _own_terminal(terminal: int) -> None:
    """Make it the terminal of the new program, whose keys send signals."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


# ---------------------------------------------------------------- the committed prefixes


def test_the_committed_prefixes_do_their_tasks():
    """What a visitor sees: each style in its style, and questions with one answer answered."""
    conversation = Conversation()
    right = []
    for row in tasks.task_rows("dialogue", "test"):
        if "opposite" in row["instruction"] or row["instruction"].startswith("Find the colour"):
            line = " // ".join(filter(None, (row["instruction"], row["input"])))
            right.append(conversation.answer(line) == row["output"])
    assert sum(right) > 0.5 * len(right), f"{sum(right)} of {len(right)} answers are right"
    for task in ("formal", "headline", "child", "poetic", "pirate"):
        conversation.command(f"/task {task}")
        styles = [style_of(conversation.answer(row["plain"])) for row in tasks.task_rows(task, "test")[:8]]
        assert styles.count(task) >= 6, f"{task} gave {styles}"
