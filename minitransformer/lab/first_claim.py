"""Experiment "first claim": prefix tuning with about 0.1 % of the parameters does what full fine-tuning does (003 §1).

On a model of 1.1 million numbers 0.1 % is not even one virtual token, so the question is asked with at most 2 %. The
rule, written down before the run: the claim *holds here* if the prefix's mean share of values told is at least 95 % of
full fine-tuning's over five seeds, and that is itself at least 95 %; otherwise it *does not hold here*.
"""

from __future__ import annotations

from dataclasses import replace

from minitransformer.lab import budgets
from minitransformer.lab.budgets import FULL, Family, Plan, Protocol, all_steps, results
from minitransformer.lab.report import made_from, markdown
from minitransformer.lab.store import Store
from minitransformer.show import figure
from minitransformer.tuning import FullFineTuning, PrefixTuning

TASK, ENOUGH = "table_to_text", 0.95
FAMILIES = (
    Family("prefix, P = 20", "0o", lambda _: PrefixTuning(20, reparametrise=256), {TASK: 3e-3}),
    Family(FULL, "6-", lambda _: FullFineTuning(), {TASK: 3e-4}),
)
PLAN = Plan(FAMILIES, range(5), {TASK: Protocol(400, 60, "test_seen", n_scored=150, n_searched=60, batch=16)})
TRIAL = replace(PLAN, seeds=[0], protocols={TASK: Protocol(20, 10, "valid", n_scored=20, n_searched=10, batch=16)})

run, tell = budgets.run, budgets.tell


def verdict(plan: Plan, store: Store) -> str:
    """In a sentence, by the rule above; or that it is not decided yet."""
    found = {result.name: result.scores["slots"] for result in results(plan, TASK, store)}
    if len(found) < len(plan.families):
        return "Not decided yet: cells are missing."
    prefix, full = found[FAMILIES[0].name], found[FULL]
    holds = full.mean >= ENOUGH and prefix.mean >= ENOUGH * full.mean
    return (
        f"**{'Holds' if holds else 'Does not hold'} here**: full fine-tuning tells {full.mean:.1%} of the values "
        f"(asked: {ENOUGH:.0%}), the prefix {prefix.mean:.1%}, which is {prefix.mean / full.mean:.1%} of it (asked: "
        f"{ENOUGH:.0%})."
    )


def draw(plan: Plan, store: Store) -> None:
    """Save the figure: a mark for every method and score, with its interval."""
    found = results(plan, TASK, store)
    caption = "Prefix tuning beside full fine-tuning, five seeds each: 95 % t-intervals."
    with figure("first_claim", caption, (7, 3.5)) as axes:
        for i, result in enumerate(found):
            for place, name in enumerate(("slots", "greedy", "whole")):
                score = result.scores[name]
                axes.errorbar(place + 0.12 * (i - 0.5), score.mean, score.half, marker="os"[i], capsize=3,
                              color=f"C{i}", label=result.name if place == 0 else None)  # fmt: skip
        axes.set_xticks(range(3), ["values told,\nbeam search", "values told,\ngreedy", "tables whole,\nbeam search"])
        axes.set(ylim=(0, 1.02), ylabel="share")
        if found:
            axes.legend(loc="lower left")


def section(plan: Plan, store: Store) -> list[str]:
    """The lines of data/lab/README.md on this experiment, from the rows alone."""
    protocol = plan.protocols[TASK]
    used = [row for row in (store.row(cell) for cell in budgets.every_cell(plan, store)) if row]
    lines = [
        "## first_claim", "",
        "Does prefix tuning with at most 2 % of the parameters do what full fine-tuning does (003 §1, §4.1, which "
        "speak of 0.1 % of a model three hundred times as large)? `python -m minitransformer lab first_claim` measures "
        "it. The rule was written down before the run, in `minitransformer/lab/first_claim.py`.", "",
        verdict(plan, store), "",
        f"{protocol.steps} steps of {protocol.batch} tables; learning rates searched in {protocol.search_steps} steps "
        f"on the first {protocol.n_searched} of `valid`; scored on the first {protocol.n_scored} of "
        f"`{protocol.split}`, with a beam search and with greedy decoding. {len(used)} cells, {all_steps(plan):,} "
        f"steps. {made_from(used)}", "",
    ]  # fmt: skip
    if used:
        found = [budgets.cells_of(result, TASK) for result in results(plan, TASK, store)]
        lines += [*markdown(budgets.headers(TASK), found, text=2), ""]
        lines += ["The search: loss on validation data (bold: chosen; ⚠: the lowest or highest tried).", ""]
        lines += [*markdown(["method", "size", "lr: loss", "", ""], budgets.searches(plan, TASK, store), text=5), ""]
    return lines
