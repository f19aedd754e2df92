"""A claim (论断) of the documents as an experiment: what it says, how it is measured, and the rule that judges it.

There is one rule for all claims, and it stands here. The checks that it judges stand with each claim in `claims/`. Both
were written down before anything was measured. Where a claim fails, `claims/why.py` asks why. It holds suppositions of
our own, as experiments of the same form that the same rule judges. Each was written down after that verdict and before
its own run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from minitransformer.course.lab.cells import Row
from minitransformer.course.lab.experiment import Arm, Search, trial, used_rows
from minitransformer.course.lab.intervals import Interval
from minitransformer.course.lab.report import SEARCH_TITLE, each_of, footing, interval, markdown, search_line, shown
from minitransformer.course.lab.store import Store
from minitransformer.course.show import PALETTE, figure, say, table

HOLDS, FAILS, OPEN, MISSING = "holds here", "does not hold here", "not decided here", "not measured yet"
ANSWERED, OURS = "answered here", "a question of ours"
RULE = (
    "Each claim has one or more checks. A check is a number that is above zero if the claim is right, for example the "
    "difference between two methods, minus a margin where the claim has one. It is computed for every seed by itself. "
    "So the two methods have learned from the same examples in the same order. Then we take the 95 % t-interval of its "
    "mean over the seeds. The check holds if the interval lies above zero, it fails if the interval lies below zero, "
    f"and otherwise it is open. A claim *{HOLDS}* if all of its checks hold. It *{FAILS}* if one of them fails. "
    f"Otherwise it is *{OPEN}*. A question of ours claims nothing. It is *{ANSWERED}* if none of its checks is open, "
    "whatever their signs are."
)

Of = Callable[[str, str], float]  # (an arm's name, a score) → its value for the seed in hand


@dataclass(frozen=True)
class Check:
    """One number that decides: `value(of)` for each seed, where of("full fine-tuning", "slots") is what was measured.

    A score is one of the task's, or "loss", "train_loss", "stored", "trained"; "test_unseen/slots" is one of what was
    scored besides.
    """

    says: str  # what is above zero if the claim is right
    value: Callable[[Of], float]
    decimals: int = 3


@dataclass(frozen=True)
class Panel:
    """A part of a figure: for each label a score of some arms, as a line where they stand on an axis."""

    lines: Mapping[str, tuple[str, Sequence[str]]]  # label → a score, and the arms
    ylabel: str
    xlabel: str = ""
    log: bool = False  # the horizontal axis
    log_y: bool = False


class Verdict(NamedTuple):
    """The result of a claim."""

    word: str  # HOLDS, FAILS, OPEN or MISSING
    found: Mapping[str, Interval]  # Check.says → its mean over the seeds, of those that decide and those beside; or {}


@dataclass(frozen=True, eq=False)
class Claim:
    """A claim, with everything that is needed to measure it, judge it and report it."""

    name: str  # for the command line
    title: str  # the claim in a few words
    document: str  # where it stands
    says: str  # what the document says, in our words
    published: str  # numbers of the papers
    design: str  # what varies, what is held equal
    arms: Sequence[Arm]
    checks: Sequence[Check]  # by which it is judged
    scores: Mapping[str, str]  # what its table shows: header → score
    panels: Sequence[Panel]
    untested: str  # what the experiment does not say
    beside: Sequence[Check] = ()  # measured in the same way, some thought of later; they decide nothing
    company: Sequence[Arm] = ()  # measured too, and reported as far as they are there; no part of the verdict
    why: str | None = None  # the name of the claim whose failure it asks about; None for a claim of the documents
    quote: str = ""  # the document's own words
    question: bool = False  # a question of ours: no document says what its checks would say

    @property
    def source(self) -> str:
        """Where it comes from."""
        return OURS if self.question else self.document

    @property
    def caption(self) -> str:
        """Of its figure."""
        return f"{self.title}: means over the seeds. Bars and bands are 95 % t-intervals."

    def trial(self) -> Claim:
        """The claim in small."""
        return replace(self, arms=[trial(arm) for arm in self.arms], company=[trial(arm) for arm in self.company])

    def arm(self, name: str) -> Arm:
        """By its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def verdict(self, store: Store) -> Verdict:
        """By `RULE`, from the rows."""
        rows = {arm.name: arm.rows(store) for arm in self.arms}
        if None in rows.values():
            return Verdict(MISSING, {})
        n = max(map(len, rows.values()))
        found = {}
        for check in (*self.checks, *self.beside):
            found[check.says] = interval([check.value(reader(rows, i)) for i in range(n)])
        word = judged([found[check.says] for check in self.checks])
        return Verdict(word if not self.question or word == OPEN else ANSWERED, found)

    def tell(self, store: Store) -> None:
        """Print its numbers and its verdict."""
        verdict, (headers, lines) = self.verdict(store), self.numbers(store)
        say(f"\n{self.title} ({self.source}): **{verdict.word}**.\n")
        if lines:
            table(lines, headers)
            say("\n" + "\n".join(f"- {line}" for line in self.outcomes(verdict)))

    def outcomes(self, verdict: Verdict) -> list[str]:
        """A line for each check: what it is, and what was found."""
        if verdict.word == MISSING:
            return [check.says for check in self.checks]
        lines = []
        for check in (*self.checks, *self.beside):
            value = verdict.found[check.says]
            word = self.word_for(value) if check in self.checks else "no part of the verdict"
            lines.append(f"{check.says}: {shown(value, check.decimals, sign=True)}, {word}")
        return lines

    def word_for(self, value: Interval) -> str:
        """The result of one check: whether it holds, or for a question, on which side of zero it is."""
        word = outcome(value)
        return {"holds": "above zero", "fails": "below zero"}.get(word, word) if self.question else word

    def headline(self, word: str) -> str:
        """Its title and its verdict."""
        return f"{self.title}{'' if self.question else ':'} {word}"

    def numbers(self, store: Store) -> tuple[list[str], list[list[str]]]:
        """Headers, and a line for each arm that is finished."""
        lines = []
        for arm in (*self.arms, *self.company):
            rows = arm.rows(store)
            if rows is None:
                continue
            values = [mean_of(rows, name, arm) for name in self.scores.values()]
            kept, trained = (f"{rows[0][name]:,}" if rows[0][name] else "–" for name in ("stored", "trained"))
            lr = f"{rows[0]['cell']['lr']:g}" if rows[0]["cell"]["steps"] else "–"
            scores = [shown(value, digits(value.mean)) for value in values]
            lines.append([arm.name, kept, trained, lr, *scores, str(len(rows))])
        return ["", "kept", "trained", "lr", *self.scores, "n"], lines

    def draw(self, store: Store) -> None:
        """Save its figure, if anything is measured."""
        if not any(arm.rows(store) for arm in self.arms):
            return
        n, most = len(self.panels), max(len(arms) for panel in self.panels for _, arms in panel.lines.values())
        with figure(self.name, self.caption, (n * max(5.6, 1.1 * most), 4.0), 1, n) as axes:
            for ax, panel in zip(each_of(axes), self.panels, strict=True):
                self.plot(ax, panel, store)

    def plot(self, axes: Any, panel: Panel, store: Store) -> None:
        """One panel: a line with a band where the arms have a place on the axis; else a mark with a bar for each."""
        ticks: dict[str, float] = {}
        for i, (label, (name, arms)) in enumerate(panel.lines.items()):
            points = []  # x, mean, half
            for number, arm in enumerate(map(self.arm, arms)):
                rows = arm.rows(store)
                if arm.x is None:
                    ticks[arm.name] = number
                if rows is not None:
                    value = mean_of(rows, name, arm)
                    aside = 0.12 * (i - (len(panel.lines) - 1) / 2)
                    points.append((number + aside if arm.x is None else arm.x, value.mean, value.half))
            if not points:
                continue
            x, mean, half = zip(*points, strict=True)
            style = {"color": PALETTE[i % len(PALETTE)], "marker": "osD^vX"[i % 6], "label": label}
            if ticks:
                axes.errorbar(x, mean, half, linestyle="", capsize=3, **style)
            else:
                axes.plot(x, mean, **style)
                low, high = ([m + side * h for m, h in zip(mean, half, strict=True)] for side in (-1, 1))
                axes.fill_between(x, low, high, alpha=0.15, color=style["color"], linewidth=0)
        if ticks:
            axes.set_xticks(list(ticks.values()), [name.replace(", ", ",\n") for name in ticks], fontsize=9)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        else:
            axes.set_xscale("log" if panel.log else "linear")
            places = sorted({self.arm(name).x for _, arms in panel.lines.values() for name in arms})
            axes.set_xticks(places, [f"{place:g}" for place in places])
            axes.minorticks_off()
        if panel.log_y:
            axes.set_yscale("log", subs=[])
            axes.yaxis.get_major_locator().set_params(subs=(1, 2, 3, 5))
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
        if len(panel.lines) > 1 and axes.has_data():
            axes.legend(fontsize=9)

    def section(self, store: Store) -> list[str]:
        """The lines of data/lab/README.md about it, from the rows alone."""
        used, verdict = used_rows((*self.arms, *self.company), store), self.verdict(store)
        lines = [
            f"## {self.name}",
            "",
            f"**{self.headline(verdict.word)}.** {self.source[0].upper()}{self.source[1:]}.",
            "",
            *([f"> {self.quote}", ""] if self.quote else []),
            self.says,
            "",
            f"Published: {self.published}",
            "",
            self.design,
            "",
            f"Not tested: {self.untested}",
            "",
            *(f"- {line}" for line in self.outcomes(verdict)),
            "",
        ]
        headers, found = self.numbers(store)
        if found:
            lines += [*markdown(headers, found, text=1), ""]
        searches = self.searches(store)
        if found and searches:
            lines += [SEARCH_TITLE, ""]
            lines += [*markdown(["", "lr: loss", "", ""], searches, text=4), ""]
        lines += [
            f"`python -m minitransformer lab {self.name}` measures it and draws `figures/claim/{self.name}.png`: "
            f"{footing(used)}",
            "",
        ]
        return lines

    def searches(self, store: Store) -> list[list[str]]:
        """A line for each search that is finished: whose it is, and its losses."""
        names: dict[str, list[str]] = {}
        lines: dict[str, list[str]] = {}
        for arm in self.arms:
            if isinstance(arm.lr, Search) and arm.lr.chosen(store) is not None:
                key = arm.lr.cells()[0].key
                names.setdefault(key, []).append(arm.name)
                lines[key] = search_line(arm.lr, store)
        return [["; ".join(names[key]), *line] for key, line in lines.items()]


def score(row: Row, name: str) -> float:
    """A row's score by its name, as a `Check` says it."""
    *split, name = name.rsplit("/", 1)
    found = row["also"][split[0]] if split else {**row, **row["scores"]}
    return found[name]


def mean_of(rows: Sequence[Row], name: str, arm: Arm) -> Interval:
    """Of a score over an arm's rows; "{arm}" in its name is the arm's, where one row tells of several."""
    return interval([score(row, name.replace("{arm}", arm.name)) for row in rows])


def reader(rows: Mapping[str, Sequence[Row]], i: int) -> Of:
    """What a check reads for seed number i; an arm with one row, of which nothing is drawn, has it for every seed."""
    return lambda arm, name: score(rows[arm][i if len(rows[arm]) > 1 else 0], name)


def outcome(value: Interval) -> str:
    """The outcome of one check. One seed has no interval (its ends are nan), so it decides nothing."""
    return "holds" if value.low > 0 else "fails" if value.high < 0 else "open"


def judged(values: Sequence[Interval]) -> str:
    """The word for a claim with these checks."""
    outcomes = [outcome(value) for value in values]
    return FAILS if "fails" in outcomes else OPEN if "open" in outcomes else HOLDS


def digits(mean: float) -> int:
    """How many decimals a score needs: BLEU and ROUGE go to 100, fractions and losses to about 1."""
    return 3 if abs(mean) < 10 else 1


def in_a_word(claim: Claim, whys: Sequence[Claim], store: Store, page: str = "") -> str:
    """Its verdict in markdown. A claim that fails has a link to each experiment that asks why.

    Args:
        claim: one of the documents.
        whys: all that ask why.
        store: of the rows.
        page: where the sections are, from where the word will stand.
    """
    word = claim.verdict(store).word
    asks = word == FAILS or claim.question and word != MISSING
    links = [f"[why?]({page}#{why.name})" for why in whys if why.why == claim.name and asks]
    return f"**{word}**" + "".join(f" {link}" for link in links)


def verdict_table(claims: Sequence[Claim], whys: Sequence[Claim], store: Store) -> list[str]:
    """The claims and their verdicts, in markdown, each with a link to its section."""
    lines = []
    for claim in claims:
        verdict = claim.verdict(store)
        ours = "; ".join(
            f"{check.says}: {shown(verdict.found[check.says], check.decimals, sign=True)}"
            for check in claim.checks
            if verdict.found
        )
        link = f"[{claim.title}](#{claim.name})"
        lines.append([link, claim.source, claim.published, ours or "–", in_a_word(claim, whys, store)])
    return markdown(["claim", "document", "published", "here (above zero: for it)", "verdict"], lines, text=5)
