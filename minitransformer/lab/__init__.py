"""The laboratory (实验室): claims as experiments, run as cells, kept as rows in data/lab/, told in its README."""

from __future__ import annotations

from collections.abc import Sequence

from minitransformer.checkpoint import write_aside
from minitransformer.datasets import DATA
from minitransformer.errors import UserError
from minitransformer.lab import budgets, first_claim
from minitransformer.lab.store import Store
from minitransformer.show import QUICK, say

FOLDER = DATA / "lab"
# Modules, each with PLAN, TRIAL, run, tell, draw and section.
EXPERIMENTS = {"first_claim": first_claim, "budgets": budgets}


def main(names: Sequence[str] = (), draw: bool = False) -> None:
    """Run experiments, or go on with them, and write what they came to: rows, figure, data/lab/README.md.

    With QUICK=1 it is a trial of minutes, whose rows go to a folder of their own and change nothing else.

    Args:
        names: which; none for all.
        draw: measure nothing, and tell the rows that there are.

    Raises:
        UserError: no such experiment; cells that failed; a damaged row.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f"There is no experiment {name!r}; there are {', '.join(EXPERIMENTS)}.")
    for name in names or EXPERIMENTS:
        experiment = EXPERIMENTS[name]
        plan = experiment.TRIAL if QUICK else experiment.PLAN
        store = Store((FOLDER / "trial" if QUICK else FOLDER) / f"{name}.jsonl")
        if not draw:
            say(f"{name}: what is finished is in {store.path.parent.name}/{store.path.name}; Ctrl-C stops, and the "
                "same command goes on.")  # fmt: skip
            experiment.run(plan, store)
        experiment.tell(plan, store)
        if not QUICK:
            experiment.draw(plan, store)
    if not QUICK:
        write_aside(FOLDER / "README.md", datasheet().encode())
        say("Written: data/lab/README.md")


def datasheet() -> str:
    """The text of data/lab/README.md, from the rows."""
    lines = [
        "# The laboratory's rows", "",
        "Written by `python -m minitransformer lab` (`make lab`) with the rows; do not edit. Each line of a `.jsonl` "
        "file is a finished cell: one method, tuned once on one task with one seed. It holds everything that decided "
        "its outcome, and fingerprints of the code, the data and the base; with other ones, it runs again.", "",
    ]  # fmt: skip
    for name, experiment in EXPERIMENTS.items():
        lines += experiment.section(experiment.PLAN, Store(FOLDER / f"{name}.jsonl"))
    return "\n".join(lines)
