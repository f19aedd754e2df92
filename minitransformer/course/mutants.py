"""Mutation testing of the hand-written core: `make mutants`.

The tool, mutmut, changes one thing at a time in a copy of the code (a + becomes a -, a < becomes a <=, an argument is
left out) and runs the tests that reach the changed function. A mutant that no test notices has survived: either a
test is missing, or the change makes no difference, which `tests/mutants/survivors.json` then explains.

What is mutated, and by which tests it is hunted, stands in `pyproject.toml` under `[tool.mutmut]`. The work lies in
`build/mutants/`: a stopped run goes on where it was, a changed function is tried again with all its mutants, a changed
test with all that survived. Without that folder everything is tried.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from minitransformer.course.bootstrap import ROOT, requirements
from minitransformer.errors import UserError
from minitransformer.files import write_aside

WORK = ROOT / "build" / "mutants"
REPORT = ROOT / "tests" / "mutants" / "README.md"
WHY = REPORT.with_name("survivors.json")
WANTED = 0.9  # the share of mutants to be killed

# How pytest ended, as mutmut keeps it: stopped after too long; a test failed, pytest itself broke, a crash (two codes).
ENDLESS = {-24, 24, 36, 152}
KILLED = {1, 3, -11, -9} | ENDLESS


def main(arguments: list[str]) -> int:
    """Try the mutants that have not been tried, and write the report.

    Args:
        arguments: for `mutmut run`: names such as "minitransformer.models.layers*", "--max-children 1".

    Returns:
        0 if enough are killed and every survivor is explained.

    Raises:
        UserError: on Windows, and if mutmut fails; its message stands above.
    """
    if os.name == "nt":
        raise UserError("mutmut forks, which Windows cannot: run this in WSL, the Windows Subsystem for Linux.")
    prepare()
    # Not `-m mutmut`, which would load its module twice.
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", *arguments]
    settings = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # each fork starts pytest: be quick
    code = subprocess.call(command, cwd=WORK, env={**os.environ, **settings})
    if code:
        raise UserError(f"mutmut ended with exit code {code}; its message stands above.")
    mutants = list(results())
    why = json.loads(WHY.read_text(encoding="utf-8"))
    write_aside(REPORT, report(mutants, why).encode())
    return judge(mutants, why)


# ---------------------------------------------------------------- the copy


def prepare() -> None:
    """Bring the copy in `build/mutants/` up to date; what has not changed keeps its date, by which mutmut goes."""
    package = WORK / "minitransformer"
    sources = {path.relative_to(ROOT): path for path in (ROOT / "minitransformer").rglob("*.py")}
    for relative, path in sources.items():
        source = undecorated(path.read_text(encoding="utf-8"))
        copy = WORK / relative
        if not copy.exists() or copy.read_text(encoding="utf-8") != source:
            write_aside(copy, source.encode())
    for copy in package.rglob("*.py"):
        if copy.relative_to(WORK) not in sources:
            copy.unlink()
    shutil.copy(ROOT / "pyproject.toml", WORK)
    for folder in ("tests", "data"):
        if not (WORK / folder).is_symlink():
            (WORK / folder).symlink_to(ROOT / folder)
    tests = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "tests").glob("*.py")))).hexdigest()
    seen = WORK / "tests.sha256"
    if seen.exists() and seen.read_text() != tests:
        forget_survivors()
    seen.write_text(tests)


def undecorated(source: str) -> str:
    """Write a module's decorators out: `@d` above `def f` becomes `f = d(f)` below it, which is what Python does.

    mutmut leaves decorated functions alone, and `@torch.inference_mode()` stands above whole samplers.
    """
    lines = source.splitlines(keepends=True)
    edits = []  # from line, to line, what comes there
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or not node.decorator_list:
            continue
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if decorators in (["staticmethod"], ["classmethod"]):
            continue  # mutmut can do these
        value = node.name
        for decorator in reversed(decorators):
            value = f"{decorator}({value})"
        edits.append((node.end_lineno, node.end_lineno, [f"{' ' * node.col_offset}{node.name} = {value}\n"]))
        edits.append((node.decorator_list[0].lineno - 1, node.lineno - 1, []))
    for first, last, new in sorted(edits, reverse=True):
        lines[first:last] = new
    return "".join(lines)


def forget_survivors() -> None:
    """Have all tried again that are not killed, and look anew which test reaches what."""
    (WORK / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for path in (WORK / "mutants").rglob("*.meta"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {name: code if code in KILLED else None for name, code in codes.items()}
        write_aside(path, json.dumps(meta).encode())


# ---------------------------------------------------------------- what came of it


@dataclass(frozen=True)
class Mutant:
    """One change, and what became of it."""

    module: str  # "tuning/lora.py"
    function: str  # "tuning.lora.LoRA.build"
    minus: tuple[str, ...]  # the lines that are changed, without their indentation
    plus: tuple[str, ...]
    number: int  # 2 if the function has the same line twice, and this is the second
    code: int | None  # see KILLED; None if it has not been tried

    @property
    def killed(self) -> bool:
        """Whether a test noticed it."""
        return self.code in KILLED

    @property
    def change(self) -> str:
        """How `survivors.json` names it, within its function: without comments, which may change."""
        minus, plus = (" ".join(line.partition("  # ")[0] for line in part) for part in (self.minus, self.plus))
        return f"{minus} → {plus}" + (f" [{self.number}]" if self.number > 1 else "")


def results() -> Iterator[Mutant]:
    """What mutmut has written in the copy: of each module the mutants, and the exit code of each."""
    for path in sorted((WORK / "mutants" / "minitransformer").rglob("*.meta")):
        module = path.with_suffix("")
        name = module.relative_to(WORK / "mutants" / "minitransformer").as_posix()
        lines = module.read_text(encoding="utf-8").splitlines()
        spans = json.loads(module.with_name(module.name + ".spans").read_text(encoding="utf-8"))["spans"]
        for mutant, code in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            mutant = mutant.rpartition(".")[2]
            mangled = mutant.rpartition("__mutmut_")[0]
            before, after = (
                [line.strip() for line in lines[spans[key][0] - 1 : spans[key][1]]]
                for key in (f"{mangled}__mutmut_orig", mutant)
            )
            function = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            yield Mutant(
                name, f"{name.removesuffix('.py').replace('/', '.')}.{function}", *difference(before, after), code
            )


def difference(before: list[str], after: list[str]) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """The lines that a mutant has changed, those that stand there instead, and how often the first came before, + 1.

    The head of a function, whose name mutmut changes, counts only from its parameters on.
    """
    before, after = (
        [text.partition("(")[2] if i == head_line(function) else text for i, text in enumerate(function)]
        for function in (before, after)
    )
    blocks = [
        block
        for block in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if block[0] != "equal"
    ]
    _, first, _, first_after, _ = blocks[0]
    _, _, last, _, last_after = blocks[-1]
    minus, plus = before[first:last], after[first_after:last_after]
    number = 1 + before[:first].count(minus[0]) if minus else 1
    return tuple(minus), tuple(plus), number


def head_line(function: list[str]) -> int:
    """Where `def` stands, below comments and empty lines."""
    return next(i for i, line in enumerate(function) if line.startswith("def "))


def explanation(mutant: Mutant, why: dict[str, dict[str, str]]) -> str | None:
    """Why it survived, if anybody has said it."""
    return why.get(mutant.function, {}).get(mutant.change)


def report(mutants: list[Mutant], why: dict[str, dict[str, str]]) -> str:
    """The report, in markdown: the score of each module, then each survivor with its explanation."""
    pins = dict(requirements(("mutants",)))
    lines = [
        HEAD.format(mutmut=pins["mutmut"], python=platform.python_version(), torch=pins["torch"]),
        "| module | mutants | killed | as endless | survived | score |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    modules = sorted({mutant.module for mutant in mutants})
    for module in modules:
        lines.append(score_line(f"`{module}`", [mutant for mutant in mutants if mutant.module == module]))
    lines += [score_line("**all**", mutants), "", "## Survivors"]
    for module in modules:
        survivors = [m for m in mutants if m.module == module and m.code is not None and not m.killed]
        if survivors:
            lines += ["", f"### {module}"]
        for mutant in survivors:
            function = mutant.function.removeprefix(module.removesuffix(".py").replace("/", ".") + ".")
            text = [*(f"- {line}" for line in mutant.minus), *(f"+ {line}" for line in mutant.plus)]
            lines += ["", f"`{function}`: {explanation(mutant, why) or '**not explained yet**'}", "", "```diff"]
            lines += [*text, "```"]
    return "\n".join(lines) + "\n"


HEAD = """# Mutants

Written by `make mutants` (`python -m minitransformer mutants`); do not edit. The explanations come from
`survivors.json`. mutmut {mutmut}, Python {python}, PyTorch {torch}.

A mutant is the code with one thing changed, in a copy; it is killed if a test fails on it, breaks off, or does not end
within the time. Each is hunted by the tests that reach the function it stands in.

Not mutated, by rule: docstrings and type hints (the tool has no mutants of them), the words of error messages
(`do_not_mutate_patterns` in `pyproject.toml`: what is raised as a `UserError` is a sentence for a person, of which the
tests ask parts), and what runs while a module is imported: constants, class attributes, the fields of dataclasses (the
tool changes functions only). Decorators are written out in the copy, `f = d(f)`, because the tool passes over decorated
functions. A condition in front of an error is mutated as any other.
"""


def score_line(name: str, mutants: list[Mutant]) -> str:
    """A row of the table; the score is the share of those that have been tried."""
    tried = [mutant for mutant in mutants if mutant.code is not None]
    killed = sum(mutant.killed for mutant in tried)
    endless = sum(mutant.code in ENDLESS for mutant in tried)
    score = f"{killed / len(tried):.1%}" if tried else "–"
    left = f" ({len(mutants) - len(tried):,} not tried)" if len(tried) < len(mutants) else ""
    return f"| {name} | {len(mutants):,}{left} | {killed:,} | {endless} | {len(tried) - killed} | {score} |"


def judge(mutants: list[Mutant], why: dict[str, dict[str, str]]) -> int:
    """Say how it went; gives the exit code."""
    tried = [mutant for mutant in mutants if mutant.code is not None]
    killed = sum(mutant.killed for mutant in tried)
    survivors = [mutant for mutant in tried if not mutant.killed]
    unexplained = sum(explanation(mutant, why) is None for mutant in survivors)
    print(
        f"{killed:,} of {len(tried):,} mutants killed ({killed / max(len(tried), 1):.1%}), {unexplained} of "
        f"{len(survivors)} survivors not explained; {REPORT.relative_to(ROOT)} has them all."
    )
    if len(tried) < len(mutants):
        print(f"{len(mutants) - len(tried):,} have not been tried; run it again.")
    known = {(mutant.function, mutant.change) for mutant in survivors}
    for function, changes in why.items():
        for change in changes:
            if (function, change) not in known:
                print(f"{WHY.name} explains what is no survivor: {function}: {change}")
    return int(killed < WANTED * len(tried) or unexplained > 0 or len(tried) < len(mutants))
