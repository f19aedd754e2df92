"""The laboratory (实验室): claims as experiments, run as cells, kept as rows in data/lab/, reported in its README."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minitransformer.course.data import DATA
from minitransformer.course.lab.budgets import Budgets
from minitransformer.course.lab.claim import RULE, in_a_word, verdict_table
from minitransformer.course.lab.claims import CLAIMS, WHYS
from minitransformer.course.lab.experiment import SEEDS, used_rows
from minitransformer.course.lab.pool import carry_out
from minitransformer.course.lab.provenance import code_hash
from minitransformer.course.lab.report import markdown
from minitransformer.course.lab.store import Store
from minitransformer.course.show import QUICK, say
from minitransformer.errors import UserError
from minitransformer.files import write_aside

FOLDER = DATA / "lab"
README = DATA.parent / "README.md"
EXPERIMENTS = {experiment.name: experiment for experiment in (*CLAIMS, *WHYS, Budgets())}
ON_TRIAL = "length"  # with QUICK=1, where none is named
MARKS = ("<!-- verdicts -->", "<!-- /verdicts -->")  # in the README, around the table


def main(names: Sequence[str] = (), draw: bool = False, again: bool = False) -> None:
    """Run experiments, or go on with them, and write what they came to: rows, figures, data/lab/README.md, README.md.

    With QUICK=1 it is a trial of minutes, whose rows go to a folder of their own and change nothing else.

    Args:
        names: which; none for all claims and what asks why, in a trial for one claim.
        draw: measure nothing, and report the rows that there are.
        again: measure anew what other code than today's has measured.

    Raises:
        UserError: no such experiment; cells that failed; a damaged row; a README without its marks.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"There is no experiment {name!r}; there are {', '.join(EXPERIMENTS)}.")
    unnamed = (ON_TRIAL,) if QUICK else EXPERIMENTS if draw else [claim.name for claim in (*CLAIMS, *WHYS)]
    chosen = [EXPERIMENTS[name] for name in names or unnamed]
    if QUICK:
        chosen = [experiment.trial() for experiment in chosen]
    store = Store((FOLDER / "trial" if QUICK else FOLDER) / "rows.jsonl", same_code=again)
    arms = [arm for experiment in chosen for arm in (*experiment.arms, *experiment.company)]
    if not draw:
        say(
            f"What is finished is in {store.path.parent.name}/{store.path.name}; Ctrl-C stops, and the same command "
            "goes on."
        )
        carry_out(arms, store)
    for experiment in chosen:
        experiment.tell(store)
    used = used_rows(arms, store)
    old = sum(row["made_from"]["code"] != code_hash() for row in used)
    if old:
        say(f"\n{old} of these {len(used)} rows come from other code than today's; --again measures them anew.")
    if not QUICK:
        for experiment in chosen:
            experiment.draw(store)
        write_aside(FOLDER / "README.md", datasheet().encode())
        write_aside(README, with_verdicts(README.read_text(encoding="utf-8")).encode())
        say("Written: data/lab/README.md, and the verdicts in README.md.")


def datasheet() -> str:
    """The text of data/lab/README.md, from the rows."""
    store = Store(FOLDER / "rows.jsonl")
    lines = [
        "# The laboratory",
        "",
        "Written by `python -m minitransformer lab` (`make lab`) with the rows; do not edit. Each line of `rows.jsonl` "
        "is a finished cell: one method, tuned once on one task with one seed. The line holds everything that decided "
        "the outcome, and fingerprints of the code, the data and the base. With other data or another base the cell "
        "runs again. With other code it runs again if you ask for it (`--again`).",
        "",
        "## How it is measured",
        "",
        "All methods are tuned on one base, by one training loop, on the same batches. A search finds the learning "
        "rate of each method, and it has the same size for all: three values that are half a power of ten apart, 100 "
        "steps where nothing else is said, and seed 0. The lowest loss on the first 100 examples of the validation "
        f"split decides. Then the method is scored on the test, with seeds {SEEDS[0]} to {SEEDS[-1]}. A seed decides "
        "what a method begins as, the order of the examples, and, where a method learns from few examples, which they "
        "are.",
        "",
        "## How it is judged",
        "",
        RULE,
        "",
        "A line that ends in *no part of the verdict* decides nothing. It stands there because a reader should know "
        "it. We thought of some of these lines only after we had seen the numbers.",
        "",
        "Of all such intervals, one in twenty misses the true value. With as many checks as there are here, expect one "
        "or two that do.",
        "",
        "## The verdicts",
        "",
        *verdict_table(CLAIMS, WHYS, store),
        "",
    ]
    for experiment in EXPERIMENTS.values():
        lines += experiment.section(store)
    return "\n".join(lines)


def verdicts() -> list[str]:
    """The table of verdicts in README.md, from the rows: each claim with a link to its evidence."""
    store = Store(FOLDER / "rows.jsonl")
    page = "data/lab/README.md"
    lines = [
        [f"[{claim.title}]({page}#{claim.name})", claim.source, in_a_word(claim, WHYS, store, page)] for claim in CLAIMS
    ]
    return markdown(["Claim", "Document", "Verdict"], lines, text=3)


def with_verdicts(readme: str) -> str:
    """README.md's text with the table as it is today.

    Raises:
        UserError: it does not say where, or says so twice.
    """
    first, last = MARKS
    if readme.count(first) != 1 or readme.count(last) != 1:
        raise UserError(f"README.md needs the marks {first} and {last} once each, where the table of verdicts belongs.")
    table = "\n".join([first, *verdicts(), last])
    return re.sub(f"{first}.*{last}", lambda _: table, readme, flags=re.S)
