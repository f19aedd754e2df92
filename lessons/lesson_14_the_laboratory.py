"""The laboratory: claims, measured and judged

question: Of what the documents claim about tuning, what is true at this scale, and how would you know?
minutes: 0.2
documents: 000 §1.3 前缀微调：一种高效的微调方法, §2.2 前缀微调与传统微调的比较, §3.1 前缀设计; 001 §3.1, §3.2.3 模型微调; 002 §工作流程, §优势; 003 §1 to §4
needs: 7, 8, 9, 11, 12, 13
"""

# %% [markdown]
# ## What they claim
#
# Lessons 7 to 13 met the documents' claims (论断) one by one, and tried most of them: once, in a minute. Such a trial is a hint; lesson 9
# said so. The laboratory (实验室) tries them all, many times each. That takes hours, so it is done beforehand, by `make lab`: each run
# left a row in `data/lab/rows.jsonl`, with all that decided its outcome. This lesson trains nothing. It reads those rows, and asks what may be
# concluded from them.
#
# Every result below is made from the rows that are there while you read. What has not been measured yet is called so.
#
# **Predict before you run:** copy the list, and put a sign to each claim: + it holds here, − it does not, ? a few runs will not tell.

# %%
import math
import statistics
import textwrap
from bisect import bisect_left

import torch
from minitransformer.course import lab
from minitransformer.course.lab import budgets
from minitransformer.course.lab.claim import (
    ANSWERED,
    FAILS,
    HOLDS,
    MISSING,
    OPEN,
    RULE,
    digits,
    mean_of,
    outcome,
    reader,
    score,
)
from minitransformer.course.lab.claims.common import STANDARD
from minitransformer.course.lab.experiment import SEEDS, used_rows
from minitransformer.course.lab.intervals import Interval, t_interval, t_quantile
from minitransformer.course.lab.report import interval, shown
from minitransformer.course.lab.store import Store
from minitransformer.course.show import PALETTE, bar, figure, say, table

store = Store(lab.FOLDER / "rows.jsonl")
claims = {claim.name: claim for claim in lab.CLAIMS}
verdicts = {name: claim.verdict(store) for name, claim in claims.items()}
answers = {why.name: why.verdict(store) for why in lab.WHYS}  # of what asks why some claims fail
measured = [name for name in claims if verdicts[name].word != MISSING]
say(
    "\n".join(
        f"{number}. {claim.title} ({claim.source})" for number, claim in enumerate(lab.CLAIMS, 1)
    )
)
rows = used_rows([arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms], store)
say(
    f"{len(measured)} of {len(claims)} claims are measured so far, in {len(rows)} runs, {sum(row['seconds'] for row in rows) / 3600:.1f} hours of one core."
    + (
        " `make lab` measures the others; it can be stopped at any moment, and goes on where it was."
        if len(measured) < len(claims)
        else ""
    )
)

# %% [markdown]
# ## Before the run
#
# "Far worse", "on a level", "better, up to a point": none of these is a question yet that a run could answer. To become an experiment, a claim
# needs, *before* the first run:
#
# - its words, and where they stand;
# - what varies, the arms (实验组), and what is held equal: base, data, batches, steps, and how much a method is searched for (控制变量);
# - a metric (指标): one number for each run, on data that nothing was chosen by;
# - a rule by which the numbers decide. It turns "far worse" into a check, a number that is above zero if the claim is right.
#
# Why before? Who has seen the numbers finds a rule that they pass: another metric, another length, the seeds that went well. Writing the rule
# down first (preregistration, 预注册) takes that freedom away. And one thing more belongs there, which papers often leave to the reader: what
# the experiment does *not* test.
#
# **Predict before you run:** 003 §4.2 says that a prefix does better than an infix. Which number would you compute, and which value of it would
# convince you?

# %%
claim = claims["infix"]
say(
    f"**{claim.title}** ({claim.source})\n\n- In words: {claim.says}\n- Arms: {'; '.join(arm.name for arm in claim.arms)}.\n- Design: {claim.design}\n"
    f"- Above zero if it is right: {'; '.join(check.says for check in claim.checks)}.\n- Not tested: {claim.untested}"
)
say(f"And the rule, one for all claims. {RULE}")

# %% [markdown]
# ## One run is one draw
#
# Each arm runs with five seeds (随机种子). A seed decides what a method begins as, the order of the examples, and, where there are few, which
# they are. Nobody has a reason to prefer one seed to another; so a run is a draw, and what is true of a method is true of many draws.
#
# Here are two arms of one experiment, seed by seed, by the share of a table's values that are told (lesson 8's *slots*).
#
# **Predict before you run:** will all five seeds agree on which is better?

# %%
PAIRS = (
    ("infix", 0, 1),
    ("compared", 0, 1),
    ("compared", 0, 3),
    ("layers", 3, 0),
    ("unseen", 0, 1),
)  # a claim and two of its arms
finished = [
    (claims[name].arms[i], claims[name].arms[j])
    for name, i, j in PAIRS
    if all(claims[name].arms[k].rows(store) for k in (i, j))
]
if finished:
    pair = {arm.name: [score(row, "slots") for row in arm.rows(store)] for arm in finished[0]}
    (one, a), (other, b) = pair.items()
    difference = [x - y for x, y in zip(a, b, strict=True)]
    table(
        [(seed, *numbers) for seed, numbers in enumerate(zip(a, b, difference, strict=True))],
        ["seed", one, other, "difference"],
        ["d", ".3f", ".3f", "+.3f"],
    )
else:
    say(
        "No two arms that could stand here are measured yet: `make lab ARGS=infix`. In their place, five numbers from a generator:"
    )
    one, other = "first", "second"
    a, b = (
        torch.randn(2, len(SEEDS), generator=torch.Generator().manual_seed(0)) * 0.01 + 0.9
    ).tolist()
    difference = [x - y for x, y in zip(a, b, strict=True)]
    table([(seed, d) for seed, d in enumerate(difference)], ["seed", "difference"], ["d", "+.3f"])

# %% [markdown]
# How often would a single seed have misled? Take each arm beside the first arm of its claim, by values told. Five differences have a mean; each one
# of them has a sign.

# %%
comparisons = {}  # label → the values of both arms, seed by seed
drawn = set()  # labels of those whose examples the seed draws
for claim in lab.CLAIMS:
    first, *others = claim.arms
    for arm in others:
        both = [used.rows(store) for used in (first, arm)]
        if (
            "slots" in claim.scores.values()
            and None not in both
            and min(map(len, both)) > 1
            and arm.steps
        ):
            label = f"{claim.name}: {arm.name} − {first.name}"
            comparisons[label] = [
                [score(row, "slots") for row in own] for own in (both[1], both[0])
            ]
            if arm.n_train and first.n_train:
                drawn.add(label)
differences = {
    label: [x - y for x, y in zip(*values, strict=True)] for label, values in comparisons.items()
}
misled = {
    label: sum(d * statistics.fmean(own) < 0 for d in own) for label, own in differences.items()
}
if misled:
    worst = max(misled, key=misled.get)
    say(
        f"In {sum(map(bool, misled.values()))} of {len(misled)} comparisons at least one seed says the opposite of the mean; of all {sum(map(len, differences.values()))} single "
        f"differences {sum(misled.values())} do."
        + (
            f" The most do in {worst}: {misled[worst]} of {len(differences[worst])}."
            if misled[worst]
            else ""
        )
    )
    widest = max(
        comparisons, key=lambda label: max(comparisons[label][0]) - min(comparisons[label][0])
    )
    say(
        f"And the five runs of one arm that lie farthest apart are {', '.join(f'{value:.3f}' for value in comparisons[widest][0])} ({widest.split(' − ')[0]})."
    )
else:
    say("No comparison is measured yet.")

# %% [markdown]
# ## An interval by hand
#
# The mean of five draws is a draw, too. How far from it may the mean of many more lie? The 95 % interval (置信区间, after Student) says:
#
#     d̄ = 1/n Σ d_i        s² = 1/(n−1) Σ (d_i − d̄)²        d̄ ± t · s/√n
#
# s is the standard deviation (标准差), how far single draws lie from their mean; it is divided by n − 1, since d̄ was fitted to the same draws.
# A mean of n draws lies √n times closer. And t says how many times s/√n is needed to be right in 95 of 100 cases. Were the true deviation
# known, that would be 1.96. But s itself is a guess from n numbers, so t is larger.
#
# **Predict before you run:** the table above has five differences. Compute d̄ in your head, guess s, and say whether the interval reaches zero.

# %%
n = len(difference)
mean = sum(difference) / n
s = math.sqrt(sum((d - mean) ** 2 for d in difference) / (n - 1))
t = t_quantile(0.95, n - 1)
half = t * s / math.sqrt(n)
say(
    f"{one} − {other}:  d̄ = {mean:+.4f}   s = {s:.4f}   s/√n = {s / math.sqrt(n):.4f}   t = {t:.2f}"
)
say(
    f"by hand {mean:+.4f} ± {half:.4f}, by the laboratory {shown(t_interval(difference), 4, sign=True)}"
)
told = {
    "holds": "all of it lies above zero: the check would hold",
    "fails": "all of it lies below zero: the check would fail",
    "open": "zero lies inside: these runs do not decide",
}
say(
    f'From {mean - half:+.4f} to {mean + half:+.4f}: {told[outcome(t_interval(difference))]}. Where zero does lie inside, "not decided" is no proof that there is no difference: those up to either end of the interval remain possible.'
)
assert math.isclose(half, t_interval(difference).half)

# %% [markdown]
# ## Why five
#
# Each seed costs as much as the one before, and buys less. How wide an interval is, for the same s, is t/√n.
#
# **Predict before you run:** from two seeds to five, how many times narrower? And from five to ten?

# %%
sizes = (2, 3, 5, 10, 20)
width = {n: t_quantile(0.95, n - 1) / math.sqrt(n) for n in sizes}
table(
    [(n, t_quantile(0.95, n - 1), width[n], bar(width[n], width[2])) for n in sizes],
    ["seeds", "t", "t/√n", ""],
    ["d", ".2f", ".2f", None],
)
say(
    f"Two seeds say next to nothing. Five make the interval {width[2] / width[5]:.1f} times narrower; another five, which cost as much, {width[5] / width[10]:.1f} times."
)

# %% [markdown]
# Does the formula keep its promise? Draw five numbers from a bell curve around zero, twenty thousand times, and count how often the interval
# contains zero.
#
# **Predict before you run:** and if one takes 1.96 in the place of t?

# %%
draws = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
centre, error = draws.mean(1), draws.std(1) / math.sqrt(5)  # (B,), (B,)
kept = {
    name: (centre.abs() <= factor * error).float().mean().item()
    for name, factor in (("t", t_quantile(0.95, 4)), ("1.96", 1.96))
}
table(list(kept.items()), ["factor", "intervals that contain the truth"], [None, ".1%"])
n_checks = sum(len(claim.checks) for claim in lab.CLAIMS)
say(
    f"With t it does: about five in a hundred miss. So with {n_checks} checks expect that of {n_checks * (1 - 0.95):.1f} of them, whatever is true (multiple comparisons, 多重比较). "
    "Believe the table of verdicts as a whole rather than any line of it; and distrust whoever shows you one line of a hundred."
)
assert abs(kept["t"] - 0.95) < 0.01 < 0.95 - kept["1.96"]

# %% [markdown]
# What the interval does not know:
#
# - The base, and the hundred test tables, are the same in all runs. It speaks of other seeds, not of other tables or other models.
# - Five draws hardly show whether they come from a bell curve. One run that broke down among four that did not makes s large and the interval
#   so wide that it may even reach past what a share can be. It is right to stay undecided then, but the story is in the dots. Look at them.

# %% [markdown]
# ## The same seed for both
#
# Why subtract seed by seed, in place of comparing two means with an interval each? A seed that deals hard batches deals them to both arms. Of two
# things measured together (配对, paired)
#
#     Var(a − b) = Var(a) + Var(b) − 2 Cov(a, b)
#
# If both move together, the covariance (协方差) is above zero, and what they share falls out of the difference. Left, the two arms from above: a line
# joins what one seed did in both. Right, each comparison: how far its differences vary if paired, and if each arm were drawn on its own. (Five runs
# tell s only roughly, so that single points lie on either side by luck.)
#
# **Predict before you run:** below the diagonal pairing helps. Where the seed draws the examples as well, or where it only orders them?

# %%
spreads = {
    label: (math.hypot(*map(statistics.stdev, values)), statistics.stdev(differences[label]))
    for label, values in comparisons.items()
}
groups = {
    "the seed orders the examples": [label for label in spreads if label not in drawn],
    "the seed draws them, too": [label for label in spreads if label in drawn],
}
if finished:
    with figure(
        "paired",
        "Left: what each seed did in two arms. Right: the standard deviation over seeds of the difference between two arms, paired and unpaired.",
        (10, 4.0),
        1,
        2,
    ) as axes:
        for seed, ends in enumerate(zip(a, b, strict=True)):
            axes[0].plot(
                (0, 1), ends, "o-", color=PALETTE[seed % len(PALETTE)], label=f"seed {seed}"
            )
        axes[0].set(
            xticks=(0, 1), xticklabels=(one, other), xlim=(-0.3, 1.3), ylabel="share of values told"
        )
        axes[0].legend(fontsize=9)
        ends = (
            max(1e-6, min(map(min, spreads.values())) / 1.5),
            max(map(max, spreads.values())) * 1.5,
        )
        axes[1].plot(ends, ends, "--", color="grey", linewidth=1, label="pairing changes nothing")
        for (name, labels), mark in zip(groups.items(), "os", strict=True):
            if labels:
                axes[1].scatter(
                    *zip(*(spreads[label] for label in labels), strict=True),
                    s=22,
                    alpha=0.7,
                    marker=mark,
                    label=name,
                )
        axes[1].set(
            xscale="log",
            yscale="log",
            xlabel="s unpaired, √(s² + s²)",
            ylabel="s paired, of the difference",
        )
        axes[1].legend(fontsize=9)
else:
    say("(No figure yet: nothing of this is measured.)")
for name, labels in groups.items():
    if labels:
        narrower = statistics.median(
            spreads[label][1] / max(spreads[label][0], 1e-9) for label in labels
        )
        say(
            f"Where {name}, pairing narrows {sum(spreads[label][1] < spreads[label][0] for label in labels)} of {len(labels)}; in the middle one s becomes {narrower:.2f} of what it was. "
            + (
                f"To have that from more seeds, one would need {narrower**-2:.1f} times as many."
                if narrower < 0.9
                else "Luck is hardly shared there: each method has its own. Pairing buys little."
            )
        )
say(
    f"It has a price, too: five differences leave four degrees of freedom (自由度), two arms of five would leave eight, and t would be {t_quantile(0.95, 8):.2f} in the place of {t_quantile(0.95, 4):.2f}. Paired or not is therefore a choice to be made before the run, like the rest."
)

# %% [markdown]
# ## A learning rate for each
#
# The last thing to hold equal is the one that is most often not. A learning rate that suits one method ruins another; who tunes the own method and
# takes what stands in some paper for the others has measured diligence. So each method gets a search of the same size: three values, half a power
# of ten apart, a short run each, and the loss on *validation* decides.
#
# **Predict before you run:** take every two methods, and give the better one its worst rate of the three, the other its best. In how many of ten
# pairs do they change places?

# %%
searches = {}  # method → {lr: loss}, of table-to-text
for sized in lab.EXPERIMENTS["budgets"].sized("table_to_text"):
    if sized.arm.lr and sized.arm.chosen(store) is not None:
        searches[sized.family.name] = {
            cell.lr: store.row(cell)["loss"] for cell in sized.arm.search_cells()
        }
if searches:
    ranked = sorted(searches, key=lambda name: min(searches[name].values()))
    with figure(
        "rates",
        "The searches: validation loss of each method at three learning rates; a ring is around the chosen one.",
        (9.5, 4.6),
    ) as axes:
        for i, name in enumerate(ranked):
            x, y = zip(*searches[name].items(), strict=True)
            axes.plot(
                x,
                y,
                "osD^vX"[i % 6] + ("-", "--", ":")[i // len(PALETTE)],
                color=PALETTE[i % len(PALETTE)],
                markersize=5,
                label=name,
            )
            axes.plot(
                min(searches[name], key=searches[name].get),
                min(y),
                "o",
                color="black",
                fillstyle="none",
                markersize=11,
                markeredgewidth=1,
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="learning rate (log)",
            ylabel="validation loss, nats a token (log)",
        )
        low, high = (
            min(min(found.values()) for found in searches.values()),
            max(max(found.values()) for found in searches.values()),
        )
        places = [
            place
            for place in (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 1, 2, 5)
            if low / 1.04 < place < high * 1.04
        ]
        axes.set_yticks(places, [f"{place:g}" for place in places])
        axes.set_ylim(low / 1.04, high * 1.04)
        axes.minorticks_off()
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    pairs = [(better, worse) for i, better in enumerate(ranked) for worse in ranked[i + 1 :]]
    turned = sum(
        max(searches[better].values()) > min(searches[worse].values()) for better, worse in pairs
    )
    edge = [
        name
        for name in ranked
        if min(searches[name], key=searches[name].get) in (min(searches[name]), max(searches[name]))
    ]
    rates = [min(searches[name], key=searches[name].get) for name in ranked]
    say(
        f"The best rates go from {min(rates):g} to {max(rates):g}. {turned} of {len(pairs)} pairs change places ({turned / max(1, len(pairs)):.0%}): who tunes one of them with care and the other without can report the reverse. "
        + (
            f"Chosen at the edge of the three, so that a better one may lie outside: {', '.join(edge)}."
            if edge
            else "Every choice lies in the middle, with a worse rate on either side."
        )
    )
else:
    say("The searches are not run yet: `make lab ARGS=budgets`.")

# %% [markdown]
# ## Reading a verdict
#
# Now the claims, one after another, and each in the same way: what the document says; what was published; what is not tested; our numbers; the
# checks; the verdict, and what it comes to. That last sentence the code puts together from what was found: `than` makes "more than", "less than" or
# "neither measurably more nor less than" of an interval. *Train loss* is the mean over the last tenth of the steps. Published numbers are of other models and other data: compare signs, not sizes.
#
# In the figures a bar or a band is an interval over the seeds. Design and searches of each stand in `data/lab/README.md`, under the name that the
# lesson calls it by.


# %%
def than(value: Interval, more: str = "more", less: str = "less") -> str:
    """A difference in words."""
    return {
        "holds": f"{more} than",
        "fails": f"{less} than",
        "open": f"neither measurably {more} nor {less} than",
    }[outcome(value)]


def mean_score(name: str, arm: str, key: str) -> float:
    """Of an arm over its seeds."""
    return mean_of(claims[name].arm(arm).rows(store), key, claims[name].arm(arm)).mean


def paired(a: list[float], b: list[float]) -> Interval:
    """Of a − b, seed by seed."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def numbers(claim, columns: tuple) -> None:
    """The table of a claim's arms, with these columns as far as they hold anything."""
    headers, lines = claim.numbers(store)
    wanted = [
        i
        for i, header in enumerate(headers)
        if header in ("", *columns) and any(line[i] != "–" for line in lines)
    ]
    if wanted:
        table([[line[i] for i in wanted] for line in lines], [headers[i] for i in wanted])


def tell(name: str, scores: tuple, meaning) -> None:
    """A claim, from its words to its verdict: with some of its scores, and a sentence made of what its checks found, in their order."""
    claim, (word, found) = claims[name], verdicts[name]
    say(
        f"**{claim.title.rstrip('?')}{'?' if claim.question else '.'}** {claim.source[0].upper()}{claim.source[1:]}: {claim.says}\n\n- Published: {claim.published}.\n- Not tested: {claim.untested}"
    )
    if scores:
        numbers(claim, ("kept", "lr", *scores))
    if word == MISSING:
        finished = sum(arm.rows(store) is not None for arm in claim.arms)
        say(
            f"Not measured yet{f', but for {finished} of {len(claim.arms)} arms' if finished else ''}: `make lab ARGS={name}`. It will be judged by: {'; '.join(check.says for check in claim.checks)}."
        )
        return
    say("\n".join(f"- {line}" for line in claim.outcomes(verdicts[name])[: len(claim.checks)]))
    what = "The question is" if claim.question else "The claim is" if word == OPEN else "The claim"
    say(f"{what} **{word}**. {meaning(*found.values())}")


def draw(name: str, caption: str, names: tuple, columns: int) -> None:
    """The panels of some claims, as far as there is anything to be seen."""
    parts = [
        (claim, panel)
        for claim in map(lab.EXPERIMENTS.get, names)
        for panel in claim.panels
        if any(claim.arm(arm).rows(store) for _, arms in panel.lines.values() for arm in arms)
    ]
    if not parts:
        say("(No figure yet: nothing of this is measured.)")
        return
    columns, n_rows = min(columns, len(parts)), math.ceil(len(parts) / columns)
    with figure(name, caption, (11 if columns > 1 else 6, 3.9 * n_rows), n_rows, columns) as grid:
        axes = [grid] if len(parts) == 1 else list(grid.flat)
        for ax, (claim, panel) in zip(axes, parts, strict=False):
            claim.plot(ax, panel, store)
            ax.set_title(
                textwrap.fill(
                    f"“{claim.title}”: {(verdicts | answers)[claim.name].word}", 116 // columns
                ),
                fontsize=10,
            )
            ax.set_xlabel(textwrap.fill(panel.xlabel, 108 // columns))
            if len(ax.get_xticks()) > 4 and not panel.xlabel:
                ax.tick_params(axis="x", labelsize=8, rotation=25)
        for ax in axes[len(parts) :]:
            ax.set_axis_off()


say(
    f"Where nothing else is said, a run is {STANDARD}. For example, A tells {than(Interval(0.021, 0.012, 5))} B if A − B is +0.021 ± 0.012, and {than(Interval(-0.004, 0.013, 5))} B if it is −0.004 ± 0.013."
)

# %% [markdown]
# ## Data: as good as all of it?
#
# 003 §1's first claim, the one that the method lives by. "On a level" needs a margin: here, at least 95 % of what full fine-tuning tells. A claim of
# *no* difference can only be had so: no number of runs shows that a difference is zero.
#
# **Predict before you run:** the prefix, on which side of the margin?

# %%
SIDES = {"holds": "surely above", "fails": "surely below", "open": "not surely on either side of"}
tell(
    "first_claim",
    ("values told", "greedy", "BLEU"),
    lambda ahead, able, greedy, whole: (
        f"The prefix tells {mean_score('first_claim', 'prefix, P = 20', 'slots') / mean_score('first_claim', 'full fine-tuning', 'slots'):.1%} of what full fine-tuning tells, "
        f"{SIDES[outcome(ahead)]} the margin"
        + (
            "."
            if outcome(able) == "holds"
            else "; but full fine-tuning itself does not surely tell 95 % of the values, so the comparison says less than it should."
        )
        + f" By the stricter measures the prefix is {SIDES[outcome(greedy)]} the same margin (told greedily) and {SIDES[outcome(whole)]} it (tables told whole)."
    ),
)

# %% [markdown]
# Where data is scarce (low data), the prefix is ahead, says 003 §2 and §4.1. Its reason is that prefix tuning overcomes too few
# samples and features that are hard to extract (克服数据集样本不足、提炼数据特征困难的问题). Two checks: is the prefix ahead on
# the whole, and more so the less data there is? The seed draws the tables as well, so here the difference has to be paired.
#
# **Predict before you run:** full fine-tuning sees 50 tables forty times. What happens to its two losses?

# %%
tell(
    "low_data",
    ("values told", "loss", "train loss"),
    lambda ahead, shrinks: (
        f"Over the four sizes together the prefix tells {than(ahead)} full fine-tuning; the difference at 50 tables is {than(shrinks, 'more in its favour', 'less in its favour')} at 500. "
        + "How much is learned by heart, the loss on the test minus that in training, at 50 tables: "
        + ", ".join(
            f"{name} {mean_score('low_data', f'{name}, n = 50', 'loss') - mean_score('low_data', f'{name}, n = 50', 'train_loss'):.3f}"
            for name in ("prefix", "full")
        )
        + "."
    ),
)
draw(
    "data",
    "How much a prefix tells beside full fine-tuning: after all tables, and after few; below, the losses on few, in training and on the test.",
    ("first_claim", "low_data"),
    2,
)

# %% [markdown]
# ## Data: other kinds, other topics
#
# Lesson 9's extrapolation (外推), with five seeds. A method that is better everywhere is better on unseen kinds, too, without having carried
# anything over; so the second check compares how far each *falls* from seen to unseen kinds.
#
# **Predict before you run:** who falls farther? And does LoRA, which leaves the base frozen as well, behave like the prefix?

# %%
tell(
    "unseen",
    ("seen", "unseen"),
    lambda ahead, falls, lora: (
        f"Of unseen kinds the prefix tells {than(ahead)} full fine-tuning, and LoRA {than(lora)} full fine-tuning. From seen to unseen kinds full fine-tuning loses {than(falls)} the prefix."
    ),
)

# %% [markdown]
# The same of another task: summaries (摘要, lesson 10), learned from news, asked of sport. The metric is ROUGE-L, how much of the reference's words
# comes back in their order.
#
# **Predict before you run:** as with the tables?

# %%
tell(
    "sport",
    ("ROUGE-L, news", "ROUGE-L, sport"),
    lambda ahead, at_home, loss: (
        f"On sport the prefix's summaries are {than(ahead, 'closer', 'less close')} full fine-tuning's to the reference; on news, which both learned from, {than(at_home, 'closer', 'less close')} those. "
        f"The loss, which does not wait for what is written, is on sport {than(loss, 'lower', 'higher')} full fine-tuning's."
    ),
)
draw(
    "elsewhere",
    "What was not in the training: tables of unseen kinds; sport, after news.",
    ("unseen", "sport"),
    2,
)

# %% [markdown]
# ## Prefixes: how long?
#
# 003 §4.2: longer is better up to a threshold, then worse. Two difficulties. Who looks for the best length in the test scores will find one,
# whatever is true; so *which* lengths are compared was fixed before. And "worse because it overfits" is more than "worse": the training loss has to
# go on falling there.
#
# **Predict before you run:** how much of what ten virtual tokens tell does one tell?


# %%
def threshold(turns: Interval, fits: Interval) -> str:
    """What two checks say of 'worse again', and of overfitting as the reason."""
    if outcome(turns) != "holds":
        return "In what is told, no threshold is seen up to 87"
    return (
        "There is a threshold, and it is overfitting"
        if outcome(fits) == "holds"
        else "There is a threshold, but the training loss does not show it to be overfitting"
    )


tell(
    "length",
    ("values told", "loss", "train loss"),
    lambda longer, turns, fits, test: (
        f"Ten virtual tokens tell {than(longer)} one, and 22 tell {than(turns)} 87. {threshold(turns, fits)}: with 87 the training loss is {than(fits, 'lower', 'higher')} with 22, the test loss {than(test, 'higher', 'lower')} with 22."
    ),
)

# %% [markdown]
# Lesson 9 tried embedding-only for a few steps; lesson 8's prompt tuning is the same thing. Here it has the same length, its own
# learning rate, and between them two prefixes that only the top layers have.
#
# **Predict before you run:** is one layer at the top better than the input, which reaches all layers?

# %%
tell(
    "layers",
    ("values told", "loss"),
    lambda embedding, top: (
        f"In all layers ten virtual tokens tell {than(embedding)} at the embedding, and {than(top)} in the top layer alone."
    ),
)
draw("length", "How long a prefix is, and in how many layers.", ("length", "layers"), 3)

# %% [markdown]
# ## Prefixes: where, from what, by what
#
# First the claim of the second step, whose rule you have read.
#
# **Predict before you run:** you have seen what both tell. Does the loss agree?

# %%
tell(
    "infix",
    ("values told", "loss"),
    lambda ahead: f"Before x ten virtual tokens tell {than(ahead)} between x and y.",
)

# %% [markdown]
# The beginning (初始化). 003 shortens its source here: what the paper says of little data becomes a law for all. Hence the second check: does the gap close
# with more data? Of words that have nothing to do with the task the document only supposes something (可能由于), and the paper says another thing. So they
# decide nothing and stand beside. ("Vocabulary": ten words drawn from it at random.)
#
# **Predict before you run:** order the four beginnings.

# %%
tell(
    "init",
    ("values told", "train loss"),
    lambda random, closes, unrelated, words: (
        f"After 50 tables a prefix that began as words of the task tells {than(random)} one that began at random, and {than(unrelated)} one that began as other words, which tells {than(words)} the random one. "
        f"The gap between task words and random is {than(closes, 'larger', 'smaller')} with all tables."
    ),
)

# %% [markdown]
# Reparametrisation (重参数化). "Does not go well" has two meanings, and each has its check: at its best rate it ends higher; or the best rate is harder
# to hit. Each way is tried at five rates, around the middle one of its search.
#
# **Predict before you run:** which curve is flatter?

# %%
tell(
    "reparametrisation",
    (),
    lambda stable, better, inner: (
        f"From its best to its worst learning rate the direct way loses {than(stable)} the MLP; with the best for each its loss is {than(better, 'higher', 'lower')} the MLP's. "
        + f"Without the largest of the five rates the direct way loses {than(inner)} the MLP"
        + (
            "; so the verdict hangs on where the range ends."
            if outcome(inner) != outcome(stable)
            else "."
        )
    ),
)
draw(
    "prefixes",
    "Where virtual tokens stand, what they begin as (after 50 tables, and after all), and whether an MLP makes them.",
    ("infix", "init", "reparametrisation"),
    2,
)

# %% [markdown]
# ## Methods: adapters
#
# 003 §2 gives adapters a number, 2 to 4 %. Again a margin: 97 % of what full fine-tuning tells.
#
# **Predict before you run:** does the adapter of 0.5 % pass, too?

# %%
PASSES = {"holds": "passes", "fails": "does not pass", "open": "is open"}
tell(
    "shares",
    ("values told", "tables whole", "loss"),
    lambda reached, small, large: (
        f"The adapter of 2 % tells {mean_score('shares', 'adapter, 2 %', 'slots') / mean_score('shares', 'full fine-tuning', 'slots'):.1%} of what full fine-tuning tells, {SIDES[outcome(reached)]} the margin. "
        f"By the same margin that of 0.5 % {PASSES[outcome(small)]}, that of 8 % {PASSES[outcome(large)]}."
    ),
)

# %% [markdown]
# 001 §3.2.3: a larger learning rate, fewer epochs. For the first half, adapters and full fine-tuning are tried at the same six rates; for the second,
# how near does a run of 60 steps come to one of 250?
#
# **Predict before you run:** is an adapter done sooner, or only started faster?

# %%
tell(
    "adapter_training",
    (),
    lambda rate, sooner: (
        f"An adapter's best learning rate is {than(rate, 'larger', 'smaller')} full fine-tuning's"
        + (f", by a factor of about {10 ** abs(rate.mean):.2g}" if outcome(rate) != "open" else "")
        + f". After 60 steps full fine-tuning is {than(sooner, 'farther', 'less far')} the adapter from where 250 bring it."
    ),
)

# %% [markdown]
# ## Methods: at one budget
#
# Who wins is no question as long as one keeps eight times as many numbers as the other. So sizes are chosen until all keep about as many, 0.5 % of the base's,
# or 2 %, and then the same race. No document makes this comparison, so no verdict says that one is wrong: it is a question of ours.
#
# **Predict before you run:** the order of the six. Where does the untrained example stand?

# %%
tell(
    "compared",
    ("values told", "tables whole", "loss"),
    lambda prompt, p_tuning, adapter, hard, lora: (
        f"At 0.5 % the prefix tells {than(prompt)} prompt tuning and {than(p_tuning)} P-tuning; at 2 % {than(adapter)} an adapter, and LoRA {than(lora)} the prefix. "
        f"The worst of the trained methods tells {than(hard)} the untrained base after a solved example."
    ),
)
draw(
    "methods",
    "Adapters of three sizes; learning rates, and early ends, of adapters and full fine-tuning; six methods at two budgets.",
    ("shares", "adapter_training", "compared"),
    2,
)

# %% [markdown]
# ## Methods: quality against numbers kept
#
# The same cells belong to a larger experiment, `budgets`: every method of this course, at up to three sizes, on tables, and some of them on reviews. What is counted is what has to be kept
# for a task, not what is trained on the way (lesson 9: an MLP is trained, and dropped).
#
# **Predict before you run:** from 0.5 % to 8 %, sixteen times as many numbers: which method gains most? And on the second task, sorting reviews: does it matter
# more how many numbers a method has, or which layers they change?

# %%
experiment = lab.EXPERIMENTS["budgets"]
results = {task: found for task in budgets.PROTOCOLS if (found := experiment.results(task, store))}
if results:
    with figure(
        "budgets",
        "Quality against the numbers kept for a task; bars and bands are intervals over the seeds, lines across the whole width have no place on the axis.",
        (11, 4.4 * len(results)),
        len(results),
        1,
    ) as grid:
        for ax, (task, found) in zip(
            [grid] if len(results) == 1 else grid, results.items(), strict=True
        ):
            budgets.plot(ax, found, task)
            ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
ranked = {}  # by task, the best first
for task, title, key, header in (
    ("table_to_text", "table to text", "slots", "values told"),
    ("reviews_gpt", "reviews", "accuracy", "judged right"),
):
    ranked[task] = sorted(results.get(task, []), key=lambda result: -result.scores[key].mean)
    if ranked[task]:
        table(
            [
                (
                    r.name,
                    r.size or "–",
                    r.stored,
                    r.share,
                    r.trained / max(1, r.stored),
                    shown(r.scores[key]),
                    r.of_full,
                )
                for r in ranked[task]
            ],
            [title, "size", "kept", "share", "trained/kept", header, "of full"],
            [None, None, ",", ".1%", ".1f", None, ".1%"],
        )
on_tables = ranked["table_to_text"]
grown = {
    small.name: large.scores["slots"].mean - small.scores["slots"].mean
    for small in on_tables
    for large in on_tables
    if small.name == large.name and (small.budget, large.budget) == ("0.5 %", "8 %")
}
if grown:
    say(
        "From 0.5 % to 8 %: "
        + ", ".join(
            f"{name} {100 * gain:+.1f} points"
            for name, gain in sorted(grown.items(), key=lambda item: -item[1])
        )
        + "."
    )
sorting: dict[str, list[float]] = {}  # by method, its means at the budgets
for r in ranked["reviews_gpt"]:
    if r.budget:
        sorting.setdefault(r.name, []).append(r.scores["accuracy"].mean)
middle = [r.scores["accuracy"].mean for r in ranked["reviews_gpt"] if r.budget == "2 %"]
if len(middle) > 1 and any(len(own) > 1 for own in sorting.values()):
    moves = {name: max(own) - min(own) for name, own in sorting.items() if len(own) > 1}
    say(
        f"On the reviews the methods of 2 % lie between {min(middle):.1%} and {max(middle):.1%}; from its best budget to its worst moves "
        + ", ".join(f"{name} by {100 * gap:.1f} points" for name, gap in moves.items())
        + "."
    )
alone, prefixes = (
    [
        [score(row, "accuracy") for row in rows]
        for sized in experiment.sized("reviews_gpt")
        if sized.family.name.startswith(name) and (rows := sized.arm.rows(store))
    ]
    for name in ("head alone", "prefix")
)
if alone and prefixes:
    level = sum(outcome(paired(own, alone[0])) == "open" for own in prefixes)
    say(
        f"On the reviews, seed by seed, {level} of {len(prefixes)} prefixes cannot be told from the classifier's head alone."
    )
if ranked["reviews_gpt"]:
    say(
        "One thing about the reviews breaks a rule of this lesson: part of their plan was made after test scores of a first plan had been seen. `data/lab/README.md` says which part, and how it was chosen."
    )
waiting = [arm.name for arm in experiment.arms if arm.rows(store) is None]
if waiting:
    say(
        f"Not measured yet: {len(waiting)} of {len(experiment.arms)} sizes of methods; `make lab ARGS=budgets`."
    )

# %% [markdown]
# ## Price: what the base could do
#
# 002 §优势 says that prefix tuning keeps the model's original abilities *while it does its task*
# (在执行特定任务时能保留模型原始的生成能力). Once the prefix is off, this is true bit for bit (lesson 13). So what has to be
# measured is the model with the prefix *on*: can it still do more of what it could before than a fine-tuned one? Skills and
# prose are those of lesson 13, and the task is telling tables.
#
# **Predict before you run:** with a prefix for tables on, does the base copy words worse?

# %%
tell(
    "abilities",
    ("skills", "loss on prose"),
    lambda skills, prose, full_lost, prefix_lost: (
        f"With the prefix on, the base's skills are {than(skills, 'better', 'worse')} after full fine-tuning, and its loss on prose is {than(prose, 'lower', 'higher')} after that. "
        f"Untouched, its skills are {than(full_lost, 'better', 'worse')} after full fine-tuning, and {than(prefix_lost, 'better', 'worse')} with the prefix on"
        + (
            "; so something is lost with the prefix as well, as long as it is on."
            if outcome(prefix_lost) == "holds"
            else "."
        )
    ),
)

# %% [markdown]
# 000 §1.3 and §2.2 promise faster training (训练速度) and less computing (计算资源消耗). 002 §优势 promises less to store
# (降低了存储和计算成本). These are three questions. What is stored follows from the count. Of computing we take the memory for
# gradients and for Adam's two moments, which can be counted, too. Time has to be measured. A computer's speed drifts, so all
# methods run in turn in one process.
#
# **Predict before you run:** the gradient travels through all layers even if only the prefix is trained (lesson 9). What share of the time of a step is saved?


# %%
def percent(value: Interval) -> str:
    """A saving in words."""
    return f"{100 * value.mean:.0f} ± {100 * value.half:.0f} %"


tell(
    "cost",
    tuple(claims["cost"].scores),
    lambda step, memory, kept, *others: (
        f"Beside full fine-tuning the prefix saves {percent(step)} of the time of a step, {percent(memory)} of the memory for gradients and moments (the MLP has its own), and {percent(kept)} of the disk. "
        f"To write a token with the prefix on takes {than(others[-1], 'less time', 'more time')} without it."
    ),
)
draw(
    "price",
    "What tuning costs: what the base could do before, time, memory and disk.",
    ("abilities", "cost"),
    2,
)

# %% [markdown]
# ## Where a claim does not hold
#
# A claim that does not hold here may hold elsewhere. Before you blame the document, question five suspects, which the rows know something about:
#
# - Too few seeds. With the s and the mean that were found, how many would it take to tell that mean from zero? (An optimist's number: even if both are true, so many decide in about half of all cases.)
# - One run (离群值, an outlier). If four agree and the fifth lies far off, something broke in it. The rule keeps it, for it happened; but look at it.
# - No room. If the metric is nearly used up, methods cannot differ in it.
# - The learning rate. If the chosen one lies at the edge of the three, the right one may lie outside.
# - Scale (规模). Our base is small, its world simple, its training short. The rows cannot vary that; one can only say what would have to be tried.
#
# One warning. "Add seeds until it is decided" is a new rule, made after the run, and it decides sooner or later whatever is true. To go on, fix the number first, and count
# the new seeds alone.
#
# **Predict before you run:** which suspect is seen most often?

# %%
SCALE = {
    "first_claim": "a larger base, on which the same share is more virtual tokens",
    "low_data": "a task farther from what the base has read",
    "unseen": "kinds that the base never read about; ours has read about all of them",
    "sport": "an encoder–decoder, as in the paper, and longer texts",
    "length": "more steps, in which there is time to overfit; and the paper's two tasks disagree about the best length",
    "layers": "more layers between the input and the top",
    "infix": "longer x, where it may matter more whether x can read the virtual tokens",
    "init": "other texts, and a task farther from what the base has read",
    "reparametrisation": "other tasks: Liu et al. (2022, P-Tuning v2) report that it helps with some and not with others",
    "shares": "classification, where adapters were first measured, and more steps",
    "compared": "larger models: Lester et al. (2021) see prompt tuning come up to full fine-tuning only as the model grows",
    "adapter_training": "learning rates in finer steps, and epochs in the place of steps",
    "abilities": "other tasks than tables, and prefixes that begin nearer to doing nothing",
    "cost": "a large model on a GPU, where it is the memory that decides whether training runs at all",
}
WRITES = [name for name in claims if next(iter(claims[name].scores.values())) == "slots"]


def seeds_needed(value: Interval) -> str:
    """How many would tell this mean from zero if s stays as it is."""
    s = value.half * math.sqrt(value.n) / t_quantile(0.95, value.n - 1)
    enough = 2 + bisect_left(
        range(2, 1001),
        True,
        key=lambda n: t_quantile(0.95, n - 1) * s / math.sqrt(n) < abs(value.mean),
    )
    return f"about {enough}" if enough <= 1000 else "more than a thousand"


def far_off(name: str, check) -> str | None:
    """The seed whose number lies more than six standard deviations of the others from their mean, if there is one."""
    by_arm = {arm.name: arm.rows(store) for arm in claims[name].arms}
    values = [check.value(reader(by_arm, seed)) for seed in SEEDS]
    for seed, value in enumerate(values):
        others = values[:seed] + values[seed + 1 :]
        if abs(value - statistics.fmean(others)) > 6 * max(statistics.stdev(others), 1e-9):
            return f'in "{check.says}" seed {seed} has {value:+.3f}, the others {min(others):+.3f} to {max(others):+.3f}'
    return None


def at_edge(name: str) -> list[str]:
    """Arms whose learning rate is the lowest or the highest that was tried."""
    tried = {
        arm.name: ([cell.lr for cell in arm.search_cells()], arm.chosen(store))
        for arm in claims[name].arms
    }
    return [
        arm for arm, (rates, chosen) in tried.items() if rates and chosen in (rates[0], rates[-1])
    ]


doubtful = [name for name in measured if verdicts[name].word not in (HOLDS, ANSWERED)]
suspects = dict.fromkeys(
    ("too few seeds", "one run", "no room (more than 98 % told)", "a learning rate at the edge"), 0
)
for name in doubtful:
    claim, (word, found) = claims[name], verdicts[name]
    undecided = [check.says for check in claim.checks if outcome(found[check.says]) == "open"]
    lines = [
        f'Seeds: to tell "{says}" from zero would take {seeds_needed(found[says])}, as it varies.'
        for says in undecided
    ]
    suspects["too few seeds"] += word == OPEN
    lines += [
        f'Not the seeds: "{check.says}" is surely below zero.'
        for check in claim.checks
        if outcome(found[check.says]) == "fails"
    ]
    odd = [text for check in claim.checks if (text := far_off(name, check))]
    lines += [f"One run: {text}." for text in odd]
    suspects["one run"] += bool(odd)
    if name in WRITES:
        best = max(mean_score(name, arm.name, "slots") for arm in claim.arms)
        lines.append(f"Room: the best arm tells {best:.1%} of the values.")
        suspects["no room (more than 98 % told)"] += best > 0.98
    if at_edge(name):
        lines.append(f"Learning rate: at the edge of those tried, for {', '.join(at_edge(name))}.")
        suspects["a learning rate at the edge"] += 1
    say(
        f"**{claim.title}**: {word}.\n\n"
        + "\n".join(
            f"- {line}" for line in [*lines, f"Scale: one would have to try {SCALE[name]}."]
        )
    )
if measured:
    say(
        f"In doubt: {len(doubtful)} of the {len(measured)} claims that are measured"
        + (
            ". Suspects: "
            + ", ".join(f"{suspect} in {number}" for suspect, number in suspects.items())
            + "; scale in all of them."
            if doubtful
            else "."
        )
    )
    held = {
        name: arms for name in measured if verdicts[name].word == HOLDS and (arms := at_edge(name))
    }
    if held:
        say(
            "Nor is a claim that holds above suspicion. A learning rate at the edge there, too: "
            + "; ".join(f"{claims[name].title} ({', '.join(arms)})" for name, arms in held.items())
            + "."
        )
else:
    say("No claim is measured yet, so none is in doubt yet.")

# %% [markdown]
# ## Asked why
#
# The suspects are in the rows. A reason (原因) is not: it has to be supposed, and tried. So for each claim that does not hold there is one more experiment, in the same form: what is supposed, its arms,
# its checks, the same rule. One difference matters. The claims were written down before anything was run; these were thought of after a verdict was seen. What suggested an idea cannot confirm it
# (事后假设, a hypothesis after the fact), so each needed new runs; where these are compared with the old ones, the old ones' luck is in the difference as well. It may come out wrong like any other.
#
# **Predict before you run:** of the ideas that you read, which would you have bet on?


# %%
def with_more_steps(falls: Interval, leads: Interval, moved: Interval) -> str:
    """What the suppositions on unseen kinds come to."""
    return (
        "So the verdict turns with the number of steps: the claim is one about long tuning."
        if outcome(leads) == "holds"
        else "More steps do not turn the verdict."
    )


def in_the_way(lost: Interval, leads: Interval, prefix_lost: Interval, there: Interval) -> str:
    """What the suppositions on abilities come to."""
    *_, cost = verdicts["abilities"].found.values()  # of a trained prefix
    told = f"A prefix that was trained on nothing costs {there.mean:.2f} of the skills, a trained one {cost.mean:.2f}."
    return told + (
        " So what a prefix costs while it is on was not forgotten: the virtual tokens stand in the way, and training moves them out of it in part."
        if outcome(there) == "holds" and there.low > cost.high
        else ""
    )


COMES_TO = {"unseen_longer": with_more_steps, "abilities_longer": in_the_way}
asked = [why for why in lab.WHYS if verdicts[why.why].word in (FAILS, ANSWERED)]
supposed = {why.name: why.title[0].lower() + why.title[1:] for why in asked}
for why in asked:
    answer = answers[why.name]
    say(
        f"**{claims[why.why].title.rstrip('?')}**: {verdicts[why.why].word}. Supposed: **{supposed[why.name]}**.\n\n{why.says}\n\n- Design: {why.design}\n- Not tested: {why.untested}"
    )
    numbers(why, tuple(why.scores)[:2])
    say("\n".join(f"- {line}" for line in why.outcomes(answer)))
    say(
        f"That {'is ' if answer.word in (OPEN, MISSING) else ''}**{answer.word}**"
        + (f": `make lab ARGS={why.name}`." if answer.word == MISSING else ".")
        + (
            f" {COMES_TO[why.name](*answer.found.values())}"
            if answer.found and why.name in COMES_TO
            else ""
        )
    )
if asked:
    draw(
        "why",
        "What was supposed of claims that do not hold, and tried: bars and bands are intervals over the seeds.",
        tuple(why.name for why in asked),
        2,
    )
else:
    say("No claim is measured that does not hold; nothing is asked.")

# %% [markdown]
# ## The verdicts
#
# Take your list from the first step. **How many of your signs were right?** And the ones that were wrong: did the documents mislead you, or the scale?
#
# Each line can be followed back: to its section in `data/lab/README.md`, with all numbers and searches; from there to the rows, each with the fingerprints of code, data and base that it was made from;
# and from a row to a run of your own, `make lab ARGS=name`.

# %%
table(
    [
        (number, claim.title, verdicts[claim.name].word)
        for number, claim in enumerate(lab.CLAIMS, 1)
    ],
    ["", "claim", "verdict"],
    ["d", None, None],
)
tally = {
    word: sum(verdict.word == word for verdict in verdicts.values())
    for word in (HOLDS, FAILS, OPEN, ANSWERED, MISSING)
}
say(
    "; ".join(f"{word}: {number}" for word, number in tally.items() if number)
    + f". A claim with several checks has to pass all of them; for *{FAILS}* one is enough that surely points the other way."
)
if asked:
    say(
        "And asked why: "
        + "; ".join(f"{what}: {answers[name].word}" for name, what in supposed.items())
        + "."
    )

# %% [markdown]
# ## What to take home
#
# A practitioner (从业者) has one question: which method do I take? The rows answer it for a model of a million numbers that tells tables of a toy world. Take the *questions* from this list, and
# measure the answers on your own model; that is what the laboratory is for.
#
# Where several methods are asked for the best, the winner has had luck as well (the winner's curse, 赢家诅咒): its mean is too good. So whatever cannot be told from it, seed by seed, stands beside it.
#
# **Predict before you run:** is there one method that is named everywhere?


# %%
def best_of(arms: dict, key: str, sign: int = 1) -> str:
    """The name with the best mean, and those that cannot be told from it; `sign` is −1 where less is better."""
    values = {
        name: [score(row, key.replace("{arm}", name)) for row in own]
        for name, own in arms.items()
        if own
    }
    best = max(values, key=lambda name: sign * statistics.fmean(values[name]))
    level = [
        name
        for name, own in values.items()
        if name != best and outcome(paired(values[best], own)) == "open"
    ]
    value = interval(values[best])
    return f"{best}, {shown(value, digits(value.mean))}" + (
        f" (cannot be told from it: {'; '.join(level)})"
        if level
        else f" (ahead of {'; '.join(name for name in values if name != best)})"
    )


def arms_of(name: str, *wanted: str) -> dict | None:
    """The rows of some arms of a claim, or of all of them; None if one is missing."""
    found = {
        arm.name: arm.rows(store) for arm in claims[name].arms if not wanted or arm.name in wanted
    }
    return None if None in found.values() else found


advice = []
for budget in budgets.BUDGETS:
    own = {
        sized.arm.name: sized.arm.rows(store)
        for sized in experiment.sized("table_to_text")
        if sized.budget == budget
    }
    whole = all(own.values())
    advice.append(
        (f"most told with {budget} of the base's numbers", best_of(own, "slots") if whole else None)
    )
enough = [r for r in on_tables if r.of_full and r.of_full >= 0.95 and r.stored]
if enough:
    smallest = min(enough, key=lambda r: r.stored)
    advice.append(
        (
            "fewest numbers for 95 % of full fine-tuning, of the sizes in `budgets`",
            f"{smallest.name}, {smallest.stored:,} numbers, {smallest.share:.2%} of the base, {smallest.stored * 4 / 1024:.0f} KiB a task",
        )
    )
few, seen, kept_able, costs = (
    arms_of("low_data", "prefix, n = 50", "full, n = 50"),
    arms_of("unseen"),
    arms_of("abilities", "prefix", "full fine-tuning", "LoRA"),
    arms_of("cost"),
)
advice.append(("most told after only 50 tables, of these two", few and best_of(few, "slots")))
advice.append(("most told of unseen kinds", seen and best_of(seen, "test_unseen/slots")))
advice.append(
    (
        "most of the base's skills left while it is on",
        kept_able and best_of(kept_able, "abilities/skills"),
    )
)
advice.append(("quickest step of training, ms", costs and best_of(costs, "{arm} step", -1)))
advice.append(("quickest written token, ms", costs and best_of(costs, "{arm} token", -1)))
say("\n".join(f"- {question}: {answer or 'not measured yet'}." for question, answer in advice))

# %% [markdown]
# The answers are those of this scale. Three habits are not, and carry over:
#
# - Give every method its own learning rate before you compare.
# - Run what you compare with the same seeds, at least five, and look at the differences.
# - Write down what would change your mind before you look.

# %% [markdown]
# ## The answer

# %%
WORDS = {
    HOLDS: "hold",
    FAILS: "do not hold",
    ANSWERED: "is a question of ours and has its answer",
    OPEN: "five runs do not decide",
    MISSING: "are not measured yet",
}
say(
    f"At this scale, of {len(claims)} claims "
    + ", ".join(f"{number} {WORDS[word]}" for word, number in tally.items() if number)
    + f". You would know it by a number fixed beforehand, measured with {len(SEEDS)} seeds on everything that is compared, with a search of the same size for every method, and by whether the interval of its mean keeps clear of zero; and you would "
    "know as well what that leaves open."
)

# %% [markdown]
# To try next:
#
# - Add a claim of your own to `minitransformer/course/lab/claims/`: words, arms, check; and write your prediction beside it before you run `make lab ARGS=name`. For instance: prefixes of half the length in half
#   of the layers cost nothing.
# - Judge the claims by a rule of yours: all five seeds have to agree on the sign. If a check's true value is zero, how often does that happen by luck? Which verdicts change?
# - Take the four sizes of little data apart: is the prefix ahead at each? You have now asked four questions in the place of one. How wide must each interval be, so that all four are right in 95 of 100 cases?
#
# Further reading: "Fine-Tuning Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping" (Dodge et al., 2020); "How Many Random Seeds? Statistical Power Analysis in Deep Reinforcement Learning
# Experiments" (Colas et al., 2018); "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021); "Towards a Unified View of Parameter-Efficient Transfer Learning" (He et al., 2022); "P-Tuning v2: Prompt
# Tuning Can Be Comparable to Fine-tuning Universally Across Scales and Tasks" (Liu et al., 2022).
