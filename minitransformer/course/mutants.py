"""Mutation testing of the hand-written core: `make mutants`.

The tool, mutmut, changes one thing at a time in a copy of the code (a + becomes a -, a < becomes a <=, an argument is
left out) and runs the tests that reach the changed function. A mutant that no test notices has survived: either a
test is missing, or the change makes no difference, which `tests/mutants/survivors.json` then explains.

What is mutated, and by which tests it is hunted, stands in `pyproject.toml` under `[tool.mutmut]`. The work lies in
`build/mutants/`: a stopped run goes on where it was, a changed function is tried again with all its mutants, a changed
test with all that survived. Without that folder everything is tried. In that folder, mutmut's own commands work too,
such as `mutmut show NAME` and `mutmut browse`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minitransformer.course.bootstrap import ROOT, requirements
from minitransformer.errors import UserError
from minitransformer.files import write_aside

WORK = ROOT / "build" / "mutants"
REPORT = ROOT / "tests" / "mutants" / "README.md"
WHY = REPORT.with_name("survivors.json")
WANTED = 0.9  # the fraction of mutants to be killed
KILLED = {"killed", "timeout", "segfault"}  # what mutmut calls it if a test fails, does not end, or crashes
UNTRIED = "not checked"


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
    hunt(arguments)
    mutants = list(results())
    why = json.loads(WHY.read_text(encoding="utf-8"))
    whole = all(mutant.status != UNTRIED for mutant in mutants)
    path = REPORT if whole else WORK / "README.md"  # a part of the mutants is no report of the project
    write_aside(path, report(mutants, why).encode())
    return judge(mutants, why, path)


# ---------------------------------------------------------------- the copy


def prepare() -> None:
    """Bring the copy in `build/mutants/` up to date; what has not changed keeps its date, by which mutmut goes."""
    sources = {path.relative_to(ROOT): path for path in (ROOT / "minitransformer").rglob("*.py")}
    for relative, path in sources.items():
        source = undecorated(path.read_text(encoding="utf-8"))
        copy = WORK / relative
        if not copy.exists() or copy.read_text(encoding="utf-8") != source:
            write_aside(copy, source.encode())
    for copy in (WORK / "minitransformer").rglob("*.py"):
        if copy.relative_to(WORK) not in sources:
            copy.unlink()
            for left in (WORK / "mutants").glob(f"{copy.relative_to(WORK).as_posix()}*"):
                left.unlink()
    shutil.copy(ROOT / "pyproject.toml", WORK)
    for folder in ("tests", "data"):
        if not (WORK / folder).is_symlink():
            (WORK / folder).symlink_to(ROOT / folder)
    tests = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "tests").rglob("*.py")))).hexdigest()
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
    from mutmut.stats import status_by_exit_code

    (WORK / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for path in (WORK / "mutants").rglob("*.meta"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        codes = meta["exit_code_by_key"]
        kept = {name: code if status_by_exit_code[code] in KILLED else None for name, code in codes.items()}
        write_aside(path, json.dumps({**meta, "exit_code_by_key": kept}).encode())


def hunt(arguments: Sequence[str]) -> None:
    """Run `mutmut run` on the copy.

    Raises:
        UserError: it failed; its message stands above.
    """
    # Not `-m mutmut`, which would load its module twice.
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", *arguments]
    settings = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # each fork starts pytest: be quick
    code = subprocess.call(command, cwd=WORK, env={**os.environ, **settings})
    if code:
        raise UserError(f"mutmut ended with exit code {code}; its message stands above.")


# ---------------------------------------------------------------- what came of it


@dataclass(frozen=True)
class Mutant:
    """One change, and what became of it."""

    module: str  # "tuning/lora.py"
    function: str  # "tuning.lora.LoRA.build"
    status: str  # as mutmut calls it
    diff: tuple[str, ...] = ()  # of a survivor: the lines that are changed, "- …", and what stands there instead, "+ …"
    number: int = 1  # 2 if the function can be changed so in two places, and this is the second

    @property
    def survived(self) -> bool:
        """Whether it was tried and no test noticed it."""
        return self.status not in KILLED | {UNTRIED}

    @property
    def change(self) -> str:
        """How `survivors.json` names it, within its function: without comments, which may change."""
        minus, plus = (
            " ".join(line[2:].partition("  # ")[0] for line in self.diff if line[0] == sign) for sign in "-+"
        )
        return f"{minus} → {plus}" + (f" [{self.number}]" if self.number > 1 else "")


def results() -> Iterator[Mutant]:
    """What mutmut has found, module by module; the lines that changed for the survivors alone."""
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.format_utils import mangled_name_from_mutant_name as function_of
    from mutmut.utils.format_utils import orig_function_and_class_names_from_key

    os.chdir(WORK)  # mutmut finds its files from there
    for path in sorted(Path("mutants", "minitransformer").rglob("*.meta")):
        module = path.relative_to("mutants").with_suffix("")
        within = module.relative_to("minitransformer").as_posix()
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
        found = {name: status_by_exit_code[code] for name, code in codes.items()}
        shown = {function_of(name) for name, status in found.items() if status not in KILLED | {UNTRIED}}
        seen: Counter[tuple] = Counter()  # equal changes of one function are told apart by their order
        for name, status in found.items():
            function, owner = orig_function_and_class_names_from_key(name)
            place = ".".join([*Path(within).with_suffix("").parts, *([owner] if owner else []), function])
            diff = changed_lines(name, module) if function_of(name) in shown else ()
            seen[place, diff] += 1
            yield Mutant(within, place, status, diff, seen[place, diff])


def changed_lines(name: str, module: Path) -> tuple[str, ...]:
    """The lines that a mutant takes out and puts in, each without its indentation and behind its sign."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=module).splitlines()[2:]  # behind the names of the files
    return tuple(f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in ("-", "+"))


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
        survivors = [mutant for mutant in mutants if mutant.module == module and mutant.survived]
        if survivors:
            lines += ["", f"### {module}"]
        for mutant in survivors:
            function = mutant.function.removeprefix(module.removesuffix(".py").replace("/", ".") + ".")
            lines += ["", f"`{function}`: {explanation(mutant, why) or '**not explained yet**'}", "", "```diff"]
            lines += [*mutant.diff, "```"]
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
    """A row of the table; the score is the fraction of those that have been tried."""
    tried = [mutant for mutant in mutants if mutant.status != UNTRIED]
    survived = sum(mutant.survived for mutant in tried)
    endless = sum(mutant.status == "timeout" for mutant in tried)
    killed = len(tried) - survived
    score = f"{killed / len(tried):.1%}" if tried else "–"
    left = f" ({len(mutants) - len(tried):,} not tried)" if len(tried) < len(mutants) else ""
    return f"| {name} | {len(mutants):,}{left} | {killed:,} | {endless} | {survived} | {score} |"


def judge(mutants: list[Mutant], why: dict[str, dict[str, str]], path: Path = REPORT) -> int:
    """Say how it went, and where the report is; gives the exit code."""
    tried = [mutant for mutant in mutants if mutant.status != UNTRIED]
    survivors = [mutant for mutant in tried if mutant.survived]
    killed = len(tried) - len(survivors)
    unexplained = sum(explanation(mutant, why) is None for mutant in survivors)
    print(
        f"{killed:,} of {len(tried):,} mutants killed ({killed / max(len(tried), 1):.1%}), {unexplained} of "
        f"{len(survivors)} survivors not explained; {path.relative_to(ROOT)} has them all."
    )
    if len(tried) < len(mutants):
        print(f"{len(mutants) - len(tried):,} have not been tried; run it again.")
    known = {(mutant.function, mutant.change) for mutant in survivors}
    for function in sorted(why.keys() - {mutant.function for mutant in mutants if mutant.status == UNTRIED}):
        for change in why[function]:
            if (function, change) not in known:
                print(f"{WHY.name} explains what is no survivor: {function}: {change}")
    return int(killed < WANTED * len(tried) or unexplained > 0 or len(tried) < len(mutants))
