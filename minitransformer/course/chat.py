"""A conversation in the terminal: one frozen GPT, and the prefix of a task before it, which may change at any line.

    python -m minitransformer chat --task dialogue

Nothing is put onto the base: a prefix is handed to it with each call, so that to switch is to hand it another one.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from minitransformer.course.bases import TUNED, load_base, load_prefix
from minitransformer.course.data import default_tokenizer
from minitransformer.course.output.terminal import say
from minitransformer.course.tasks import TASKS, find_task, prompt_ids, task_rows
from minitransformer.course.tinyworld import linearise, parse_table
from minitransformer.course.words import broken_words
from minitransformer.errors import UserError
from minitransformer.generation.beam import beam_search
from minitransformer.generation.sampling import generate
from minitransformer.models.gpt import GPT
from minitransformer.text.tokenizer import Tokenizer
from minitransformer.tuning import PrefixTuning, for_each_row

BETWEEN = "//"  # parts what a person writes in one line, where a task needs two things
# By folder of data/tasks: what a person writes, the fields of a row that it fills, and what comes back.
WRITTEN: dict[str, tuple[str, tuple[str, ...], str]] = {
    "dialogue": (
        f"a question or a wish (behind {BETWEEN} a text that it is about)",
        ("instruction", "input"),
        "an answer",
    ),
    "table_to_text": ("a table", ("source",), "sentences"),
    "news_summary": ("a report", ("article",), "its news in one sentence"),
    "sport_summary": ("a report of a match or a race", ("article",), "its outcome in one sentence"),
    "qa": (f"a passage, {BETWEEN}, and a question about it", ("passage", "question"), "the answer"),
    "styles": ("a plain sentence about who did what", ("plain",), "the same in this style"),
}
NAME = "Mini"
HELP = (
    "/task NAME puts another prefix before the base, /plain none. /tasks lists them, /who and /help say more, /quit "
    "ends."
)
MEANT = {  # what people write to a program without having read its help, and what they mean by it
    **dict.fromkeys(("quit", "exit"), "/quit"),
    **dict.fromkeys(("help", "h", "?"), "/help"),
    **dict.fromkeys(("who are you", "what are you", "what is your name", "what can you do"), "/who"),
}
MOST = 120  # tokens of an answer
LEAST = 30  # that have to be left for one
TRIES = 4  # other answers, where the likeliest one has words that are none
NO_ANSWER = f"({NAME} finds no words for that: it lies outside of the tiny world. /help shows lines to try.)"


class Conversation:
    """The base, the prefixes that were asked for so far, and which of them stands before the base now.

    Args:
        task: whose prefix to begin with.
        temperature: of the answers; 0 says the likeliest.
        base: the GPT; the committed one by default.
        folder: where the prefixes are, by the names that `prefix_path` gives.

    Raises:
        UserError: no such task, a prefix that is missing or belongs to another base, a temperature without meaning.
    """

    def __init__(
        self, task: str = "dialogue", temperature: float = 0.0, base: GPT | None = None, folder: Path = TUNED
    ) -> None:
        self.base, self.folder, self.temperature = base or load_base("gpt"), folder, temperature
        self.tokenizer: Tokenizer = default_tokenizer()
        self.prefixes: dict[str, PrefixTuning] = {}
        self.plain = False  # whether the base stands alone
        self.switch(task)
        generate(self.base, [[self.tokenizer.eot_id]], 0, temperature=temperature)  # refuses a wrong temperature now

    def switch(self, task: str) -> None:
        """Put the prefix of a task before the base. Where that fails, all stays as it was.

        Raises:
            UserError: no such task; a prefix that is missing, damaged, or tuned on another base.
        """
        find_task(task)
        if task not in self.prefixes:
            self.prefixes[task] = load_prefix(task, self.base, self.folder)
        self.task, self.plain = task, False

    def answer(self, line: str) -> str:
        """What the GPT says to a line.

        Raises:
            UserError: a line that is not what the task needs, or that leaves no room for an answer.
        """
        asked = find_task(self.task).asked(self._row(cleaned(line)))
        prompt = prompt_ids(asked, self.tokenizer)
        inputs = {} if self.plain else for_each_row([self.prefixes[self.task]])
        n_prefix = 0 if self.plain else self.prefixes[self.task].length
        room = self.base.config.n_positions - n_prefix - len(prompt)
        if room < LEAST:
            raise UserError(
                f"That is too long: {len(prompt)} tokens, where {len(prompt) + room - LEAST} have room beside the "
                f"prefix's {n_prefix} and an answer's {LEAST}. Say it in fewer words."
            )
        for new in self._tries(prompt, min(room, MOST), inputs):
            text = self.tokenizer.decode(new).strip()
            if len(new) == min(room, MOST):  # it was cut, perhaps in the middle of a word
                text = f"{text.rpartition(' ')[0] or text} …"
            # A model at a high temperature says any byte, those that move a terminal's cursor too.
            text = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
            if text and not broken_words(text, asked):
                return text
        return NO_ANSWER

    def _tries(self, prompt: list[int], most: int, inputs: Mapping[str, Any]) -> Iterator[list[int]]:
        """Answers as token ids, the first one first; the others are made only if they are asked for."""
        stop = self.tokenizer.eot_id
        for _ in range(1 + TRIES if self.temperature else 1):
            yield generate(self.base, [prompt], most, temperature=self.temperature, stop_id=stop, **inputs)[0]
        if not self.temperature:
            for other in beam_search(self.base, [prompt], most, n_beam=TRIES, stop_id=stop, **inputs)[0]:
                yield other.tokens

    def introduction(self) -> str:
        """Who speaks, what it knows and what it can do."""
        n = sum(p.numel() for p in self.base.parameters())
        return (
            f"I am {NAME}, a GPT of {n:,} parameters. They are frozen, and the same for everything that I do; what I "
            "do is decided by a prefix of a few vectors before me. I know the tiny world alone: people, towns, cafes, "
            "films, pets, matches and weather that exist nowhere. Ask me about other things, and I have no sensible "
            "answer. Each line stands for itself: I remember none.\n\nI can do this:\n\n" + self.tasks()
        )

    def tasks(self) -> str:
        """A line for each task: its name, what it needs and what it gives."""
        parts = ((name, *WRITTEN[task.folder]) for name, task in TASKS.items())
        return "\n".join(f"- {name}: from {what}, {back}" for name, what, _, back in parts)

    def about(self) -> str:
        """What to write now, what comes back, and three lines of the test split to try."""
        folder = find_task(self.task).folder
        what, _, back = WRITTEN[folder]
        before = "Nothing stands before the base, which is asked as before" if self.plain else "Its prefix is in place"
        lines = "\n".join(f"    {line}" for line in self.examples())
        return f"{self.task}: write {what}; {back} comes back. {before}. To try:\n\n{lines}\n"

    def examples(self, n: int = 3) -> list[str]:
        """Lines of the task's test split, as a person would write them."""
        folder = find_task(self.task).folder
        rows = task_rows(self.task, "test_seen" if folder == "table_to_text" else "test")[:n]
        _, fields, _ = WRITTEN[folder]
        return [f" {BETWEEN} ".join(row[field] for field in fields if row[field]) for row in rows]

    def command(self, line: str) -> str:
        """Do what a line that begins with / says (all but /quit), and tell the outcome.

        Raises:
            UserError: no such command; whatever `switch` refuses.
        """
        name, *rest = line.split()
        if name == "/task" and len(rest) == 1:
            self.switch(rest[0])
            return self.about()
        if name == "/task":
            raise UserError(f"/task needs the name of one task: {', '.join(TASKS)}.")
        if name == "/plain":
            self.plain = True
            return self.about()
        if name == "/tasks":
            return self.tasks()
        if name == "/who":
            return self.introduction()
        if name == "/help":
            return f"{HELP}\n\n{self.about()}"
        raise UserError(f"There is no command {name}. {HELP}")

    def _row(self, line: str) -> dict[str, str]:
        """The line as the fields of the task's row."""
        folder = find_task(self.task).folder
        what, fields, _ = WRITTEN[folder]
        parts = [part.strip() for part in line.split(BETWEEN, 1)] if len(fields) == 2 else [line]
        if not all(parts) or (folder == "qa" and len(parts) == 1):
            raise UserError(f"Something is missing: {self.task} needs {what}. /help shows lines to try.")
        if folder == "table_to_text":
            parts = [linearise(parse_table(line))]
        return {**dict.fromkeys(fields, ""), **dict(zip(fields, parts, strict=False))}


def cleaned(line: str) -> str:
    """A line without what cannot be seen: control characters become spaces."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in line).strip()


def meant(line: str) -> str:
    """The command that a line stands for, or the line itself."""
    return MEANT.get(line.lower().replace("what's", "what is").rstrip(" ?!.") or line, line)


def lines(conversation: Conversation) -> Iterator[str]:
    """What a person types, up to /quit, the end of input, or Ctrl-C."""
    with suppress(ImportError):  # where there is one, lines can be edited and called up again
        import readline  # noqa: F401
    while True:
        try:
            yield input(f"{conversation.task}{', no prefix' * conversation.plain}> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return


def main(task: str = "dialogue", temperature: float = 0.0) -> int:
    """Talk until there is nothing more to read; from a pipe, print the answers alone.

    Args:
        task: whose prefix to begin with.
        temperature: of the answers.

    Returns:
        The exit code: 1 if lines of a pipe could not be answered.

    Raises:
        UserError: as `Conversation`.
    """
    conversation = Conversation(task, temperature)
    at_terminal, refused = sys.stdin.isatty(), False
    tell = say if at_terminal else partial(print, file=sys.stderr)
    if at_terminal:
        say(f"{conversation.introduction()}\n\n{conversation.about()}\n{HELP}\n")
    else:
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text are refused line by line
    for line in lines(conversation) if at_terminal else sys.stdin:
        line = meant(cleaned(line))
        if line == "/quit":
            break
        try:
            if line.startswith("/"):
                tell(conversation.command(line))
            elif line:
                print(conversation.answer(line))
        except UserError as error:
            refused = True
            tell(str(error))
        except KeyboardInterrupt:
            if not at_terminal:
                raise
            print("\nStopped; the next line can be asked.")
    return int(refused and not at_terminal)
