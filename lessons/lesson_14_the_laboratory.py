"""The laboratory: claims, measured and judged

question: Which of the documents' claims about tuning are true at this scale, and how would we know?
minutes: 0.5
documents: 000 §1.3 前缀微调：一种高效的微调方法, §2.2 前缀微调与传统微调的比较; 001 §3.2.3 模型微调; 002 §优势; 003 §1 Abstract(摘要), §2 Introduction(介绍), §3.2 Intuition(直觉), §3.3 Method/Parametrization of Pθ(原理), §4.1 实验结果, §4.2 Intrinsic Evaluation(重要发现)
needs: 7, 8, 9, 11, 12, 13
"""

# %% [markdown]
# ## What they claim
#
# Lessons 7 to 13 met the claims (论断) of the documents one by one. They tried most of them once, in a minute. Such a
# trial is only a hint. The laboratory (实验室) tries every claim many times. That takes hours, so it is done beforehand,
# by `make lab`. Each run has left a row in `data/lab/rows.jsonl`, with everything that decided its outcome.
#
# This lesson trains nothing. It reads those rows and asks what we may conclude from them. All numbers and verdicts below
# are computed from the rows while you read. The text around them is about something else: how to read a verdict, what
# was fixed beforehand, and what could mislead.
#
# Below you will see the list of claims.
#
# **Predict before you run:** copy the list and put a sign to each claim: + it holds here, − it does not, ? a few runs
# will not decide. Keep your copy for the end.

# %%
from minitransformer.course import lab
from minitransformer.course.lab.claim import MISSING
from minitransformer.course.lab.experiment import used_rows
from minitransformer.course.lab.store import Store
from minitransformer.course.show import bar, figure, say, table

store = Store(lab.FOLDER / "rows.jsonl")
verdicts = {claim.name: claim.verdict(store) for claim in lab.CLAIMS}
measured = [name for name, verdict in verdicts.items() if verdict.word != MISSING]
arms = [arm for experiment in lab.EXPERIMENTS.values() for arm in experiment.arms]
rows = used_rows(arms, store)
hours = sum(row["seconds"] for row in rows) / 3600
say(
    "\n".join(
        f"{number}. {claim.title} ({claim.source})" for number, claim in enumerate(lab.CLAIMS, 1)
    )
)
say(
    f"{len(measured)} of {len(lab.CLAIMS)} claims are measured so far, in {len(rows)} runs and "
    f"{hours:.1f} hours of one core. `make lab` measures what is missing. It can be stopped at any "
    "moment, and the same command goes on."
)
assert set(verdicts) == {claim.name for claim in lab.CLAIMS}

# %% [markdown]
# The verdicts come later. Until then your copy says what you expect, and nobody can say afterwards that they knew it all along.

# %% [markdown]
# ## Before the run
#
# "On a level", "far worse", "better, up to a point": a run cannot answer such words yet. To become an experiment, a claim
# needs four things *before* the first run:
#
# - its words, and where they stand;
# - what varies, the arms (实验组), and what is held equal: base, data, batches, steps, and how much each method is
#   searched for (控制变量);
# - a metric (指标): one number for each run, on data that nothing was chosen by;
# - a rule by which the numbers decide.
#
# Why before? After you have seen the numbers, you can always find a rule that they pass: another metric, another length,
# the seeds that went well. If you write the rule down first (preregistration, 预注册), you give up that freedom. One more
# thing belongs there, and papers often leave it out: what the experiment does *not* test.
#
# Here is an example. 003 §4.2 says that a prefix does better than an infix (用前缀法的性能效果优于中缀法).
#
# **Predict before you run:** which number would you compute to judge this, and which value of it would convince you?

# %%
from minitransformer.course.lab.claim import RULE

claim = lab.EXPERIMENTS["infix"]
say(
    f"**{claim.title}** ({claim.source})\n\n- In words: {claim.says}\n"
    f"- Arms: {'; '.join(arm.name for arm in claim.arms)}.\n- Design: {claim.design}\n"
    f"- Above zero if it is right: {'; '.join(check.says for check in claim.checks)}.\n"
    f"- Not tested: {claim.untested}"
)
say(f"The rule is the same for all claims. {RULE}")

# %% [markdown]
# You may have named another number, and it may be as good. It only has to be named before the first run.

# %% [markdown]
# ## One run is one draw
#
# Each arm runs with five seeds (随机种子). A seed decides what a method begins as and the order of the examples. Where a
# method learns from few examples, the seed also decides which they are. Nobody has a reason to prefer one seed to
# another. So a run is one draw, and what is true of a method is true of many draws.
#
# Here are two arms of one experiment, seed by seed. The number is the fraction of a table's values that the text states
# (lesson 8's *slots*).
#
# **Predict before you run:** will all five seeds agree on which arm is better?

# %%
from minitransformer.course.lab.reading import two_arms

pair = two_arms(store)
difference = [x - y for x, y in zip(pair.a, pair.b, strict=True)]
table(
    [(seed, *row) for seed, row in enumerate(zip(pair.a, pair.b, difference, strict=True))],
    ["seed", pair.one, pair.other, "difference"],
    ["d", ".3f", ".3f", "+.3f"],
)
assert len(difference) == 5

# %% [markdown]
# Now we take every claim that is judged by values stated, and compare each of its arms with its first arm. Each
# comparison has five differences. Their mean has a sign, and so has each single difference. A seed misleads if its sign
# is not that of the mean, because whoever had run that seed alone would have reported the opposite.
#
# **Predict before you run:** of ten comparisons, in how many does at least one seed mislead?

# %%
from statistics import fmean

from minitransformer.course.lab.reading import comparisons

compared = comparisons(store)
differences = {
    label: [x - y for x, y in zip(two.a, two.b, strict=True)] for label, two in compared.items()
}
misled = {
    label: sum(d * fmean(own) < 0 for d in own) for label, own in differences.items()
}  # how many seeds mislead
say(
    f"At least one seed misleads in {sum(map(bool, misled.values()))} of {len(misled)} comparisons. "
    f"Of all {sum(map(len, differences.values()))} single differences, {sum(misled.values())} mislead."
)
assert all(count < len(differences[label]) for label, count in misled.items())

# %% [markdown]
# A comparison in which a seed misleads is one that a single run could have decided either way. It need not be a close
# one: one bad run among five is enough. When you read a result of one run, ask how far its neighbours would have been.

# %% [markdown]
# ## An interval by hand
#
# The mean of five draws is itself a draw. How far from it may the mean of very many draws lie? The 95 % confidence
# interval (置信区间), after Student, answers:
#
#     d̄ = 1/n Σ d_i        s² = 1/(n−1) Σ (d_i − d̄)²        d̄ ± t · s/√n
#
# Here d_1 … d_n are the n differences. s is the standard deviation (标准差): it says how far single draws lie from their
# mean. It is divided by n − 1, because d̄ was computed from the same draws. A mean of n draws lies √n times closer to the
# truth than one draw. And t says how many times s/√n we need in order to be right in 95 of 100 cases. If we knew the true
# standard deviation, t would be 1.96. But s itself is an estimate from n numbers, so t is larger.
#
# **Predict before you run:** look at the five differences of the first table. Compute d̄ in your head, guess s, and say
# whether the interval reaches zero. (For n = 5, t is about 2.8.)

# %%
from math import isclose, sqrt

from minitransformer.course.lab.intervals import t_interval, t_quantile

n = len(difference)
mean = sum(difference) / n
s = sqrt(sum((d - mean) ** 2 for d in difference) / (n - 1))
t = t_quantile(0.95, n - 1)
half = t * s / sqrt(n)
table(
    [(mean, s, s / sqrt(n), t, mean - half, mean + half)],
    ["d̄", "s", "s/√n", "t", "from", "to"],
    ["+.4f", ".4f", ".4f", ".2f", "+.4f", "+.4f"],
)
library = t_interval(difference)
say(f"The laboratory computes {library.mean:+.4f} ± {library.half:.4f}.")
assert isclose(half, library.half) and isclose(mean, library.mean) and 2.7 < t < 2.8

# %% [markdown]
# If the whole interval lies above zero, the check holds. If it lies below, the check fails. If zero lies inside, these
# runs do not decide. That is no proof that there is no difference. Every value in the interval remains possible, also
# those at its two ends.

# %% [markdown]
# ## Why five
#
# Each further seed costs as much as the one before, and it buys less. For the same s, the width of the interval goes with
# t/√n.
#
# **Predict before you run:** how many times narrower is the interval with five seeds than with two? And with ten than
# with five?

# %%
sizes = (2, 3, 5, 10, 20)
width = {n: t_quantile(0.95, n - 1) / sqrt(n) for n in sizes}
table(
    [(n, t_quantile(0.95, n - 1), width[n], bar(width[n], width[2])) for n in sizes],
    ["seeds", "t", "t/√n", ""],
    ["d", ".2f", ".2f", None],
)
assert 7 < width[2] / width[5] < 7.5 and 1.6 < width[5] / width[10] < 1.9

# %% [markdown]
# Two seeds say almost nothing. Five seeds make the interval about seven times narrower. Another five cost as much again,
# and the interval becomes narrower by less than a factor of two.
#
# Does the formula keep its promise? We draw five numbers from a bell curve around zero, twenty thousand times. Each time
# we compute the interval, and count how often it contains zero, which is the truth here.
#
# **Predict before you run:** what is the fraction if we take 1.96 in place of t: above or below 95 %?

# %%
import torch

draws = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0))
centre, error = draws.mean(1), draws.std(1) / sqrt(5)  # one number for each interval
kept = {
    name: (centre.abs() <= factor * error).float().mean().item()
    for name, factor in (("t", t_quantile(0.95, 4)), ("1.96", 1.96))
}
table(list(kept.items()), ["factor", "intervals that contain the truth"], [None, ".1%"])
n_checks = sum(len(claim.checks) for claim in lab.CLAIMS)
say(f"The claims have {n_checks} checks. A twentieth of that is {n_checks / 20:.1f}.")
assert abs(kept["t"] - 0.95) < 0.01 < 0.95 - kept["1.96"] and 20 <= n_checks <= 40

# %% [markdown]
# With t, about five in a hundred intervals miss the truth, as promised. With 1.96 more of them miss. But five in a
# hundred also holds for our own checks. So expect one or two of them to be wrong, whatever is true (multiple comparisons,
# 多重比较). Believe the table of verdicts as a whole more than any single line of it. And be careful when somebody shows
# you one line out of a hundred.
#
# Two things the interval does not know:
#
# - The base and the hundred test tables are the same in all runs. So the interval speaks of other seeds, and not of other
#   tables or other models.
# - Five draws hardly show whether they come from a bell curve. One run that broke down among four good ones makes s
#   large. The interval can then reach beyond what a fraction can be. "Not decided" is right in that case, but the story
#   is in the single runs. Look at them.

# %% [markdown]
# ## The same seed for both
#
# Why do we subtract seed by seed, and not compare two means with an interval each? A seed that deals hard batches deals
# them to both arms. For two values a and b that are measured together (配对, paired),
#
#     Var(a − b) = Var(a) + Var(b) − 2 Cov(a, b)
#
# If a and b rise and fall together, their covariance (协方差) is above zero, and what they share drops out of the
# difference. For each comparison we compute the standard deviation twice: of the paired differences, and as it would be
# if each arm had its own seeds (then the covariance is zero).
#
# In some comparisons the seed only orders the examples. In others it also draws which examples are learned from.
#
# **Predict before you run:** in which of the two groups does pairing help more?

# %%
from statistics import median, stdev

from minitransformer.course.figures import seed_lines, spreads

spread = {
    label: (sqrt(stdev(two.a) ** 2 + stdev(two.b) ** 2), stdev(differences[label]))
    for label, two in compared.items()
}  # label → s unpaired, s paired
rows = []
for name, drawn in (("only orders the examples", False), ("also draws them", True)):
    own = [both for label, both in spread.items() if compared[label].drawn == drawn]
    ratios = [paired / max(unpaired, 1e-9) for unpaired, paired in own]
    if ratios:
        rows.append(
            (name, len(own), sum(r < 1 for r in ratios), median(ratios), median(ratios) ** -2)
        )
table(
    rows,
    ["the seed", "comparisons", "narrower paired", "s paired / unpaired", "times as many seeds"],
    [None, "d", "d", ".2f", ".1f"],
)
if compared:
    with figure(
        "paired",
        "Left: what each seed did in the two arms of the first table. Right: the standard deviation "
        "of the difference in each comparison, paired and unpaired. Below the line, pairing helps.",
        (10, 4.0),
        1,
        2,
    ) as axes:
        seed_lines(axes[0], pair.a, pair.b, (pair.one, pair.other), "fraction of values stated")
        spreads(
            axes[1],
            {
                name: [spread[label] for label in spread if compared[label].drawn == drawn]
                for name, drawn in (("orders examples", False), ("draws them, too", True))
            },
        )
assert 2.2 < t_quantile(0.95, 8) < 2.4

# %% [markdown]
# The fourth column is the middle one of the ratios. The last column translates it: without pairing one would need that
# many times as many seeds for an interval of the same width. Where it is near 1, the two arms hardly share any luck, and
# pairing buys little. (Five runs give only a rough s, so single points lie on either side of the line by chance.)
#
# Pairing has a price. Five differences leave 4 degrees of freedom (自由度), while two separate arms of five would leave
# 8, and t would be about 2.3 in place of 2.8. So paired or not is a choice that has to be made before the run, like the
# others.

# %% [markdown]
# ## A learning rate for each
#
# One more thing has to be held equal, and it often is not. A learning rate that suits one method ruins another. If you
# tune your own method with care and take the others' rates from some paper, you have measured your care. So each
# method gets a search of the same size: three values that are half a power of ten apart, a short run each, and the loss
# on *validation* decides.
#
# Below are all searches on tables. Take any two methods. Give the better one the worst of its three rates, and the other
# one the best of its three.
#
# **Predict before you run:** in how many of ten pairs do the two methods change places?

# %%
from itertools import combinations

from minitransformer.course.lab.reading import searches

found = searches(store)  # method → {learning rate: validation loss}, the best method first
pairs = list(combinations(found.values(), 2))
turned = sum(max(better.values()) > min(worse.values()) for better, worse in pairs)
table(
    [
        (
            name,
            *(f"{lr:g}: {loss:.3f}" for lr, loss in losses.items()),
            f"{min(losses, key=losses.get):g}",
        )
        for name, losses in found.items()
    ],
    ["method", "rate: loss", "", "", "chosen"],
)
edge = [name for name, own in found.items() if min(own, key=own.get) in (min(own), max(own))]
if found:
    say(
        f"{turned} of {len(pairs)} pairs change places. Chosen at the edge: {len(edge)} of {len(found)}."
    )
else:
    say("The searches are not run yet: `make lab ARGS=budgets`.")
assert all(len(losses) == 3 for losses in found.values())

# %% [markdown]
# Of a pair that changes places, either order can be reported, by somebody who tunes one of the two with care and the
# other without. A rate that was chosen at the edge of its three is a warning: a better one may lie outside. We come back
# to it when we look for reasons.

# %% [markdown]
# ## How to read a verdict
#
# Now the claims, one after another, each in the same form:
#
# - what was published. These numbers are of other models and other data, so compare signs and not sizes;
# - what is not tested;
# - a table of the arms: parameters kept for a task, learning rate, scores with their intervals. *Train loss* is the mean
#   over the last tenth of the steps;
# - the checks. A line that ends in *no part of the verdict* was not part of the rule;
# - the verdict.
#
# Before you look at the verdict, look at the checks: one that is open by a hair and one that is open by a mile have the
# same word. In the figures, a bar or a band is the interval over the seeds. The design of each claim and its searches
# stand in `data/lab/README.md`, under the name that the code uses.
#
# We begin with 003 §1, the claim that the method lives by: a prefix reaches the level of GPT-2 (可达到GPT-2同等水平). "On a
# level" needs a margin. Ours is 95 % of what full fine-tuning states. No number of runs can show that a difference is
# exactly zero, so a claim of *no* difference can only be judged with a margin.
#
# **Predict before you run:** on which side of the margin is a prefix of 20 virtual tokens?

# %%
from minitransformer.course.lab.claims.common import STANDARD
from minitransformer.course.lab.reading import layout, panels, plot, tell

tell(store, "first_claim", "values stated", "greedy", "tables whole")
say(f"Where a design says nothing else: {STANDARD[0].lower()}{STANDARD[1:]}.")

# %% [markdown]
# How to read it: the margin decides more than the seeds do. With a margin of 99 % the same rows could give another
# verdict. That is why the margin had to be fixed first, and why two stricter measures stand beside it. If these disagree
# with the checks, say "on a level by this measure", and not "on a level".

# %% [markdown]
# ## Data: only a little
#
# Where data is scarce (low data), the prefix is ahead, say 003 §2 and §4.1. The reason that 003 gives: prefix tuning
# overcomes too few samples and features that are hard to extract (克服数据集样本不足、提炼数据特征困难的问题). There are two
# checks. Is the prefix ahead on the mean of four sizes of data? And is it the more ahead, the less data there is? The
# seed also draws the tables, so here the difference must be paired.
#
# **Predict before you run:** full fine-tuning sees 50 tables forty times each. Which of its two losses, in training and on
# the test, is lower than with 500 tables?

# %%
tell(store, "low_data", "values stated", "loss", "train loss")
tell(store, "low_data_news", "ROUGE-L", "loss", "train loss")
parts = panels(store, "first_claim", "low_data", "low_data_news")
if parts:
    with figure(
        "data",
        "A prefix and full fine-tuning, after all tables and after few; and the losses after few.",
        **layout(parts),
    ) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: the document speaks of two tasks (两项任务), so there are two claims, and one of them could hold without
# the other. Compare the loss on the test with the loss in training: how far they are apart says how much was learned by
# heart. A method can be ahead by one measure (values stated) and behind by the other (test loss). The rule names the
# measure, so this cannot be settled afterwards.

# %% [markdown]
# ## Data: other kinds, other topics
#
# Lesson 9 met extrapolation (外推): tuned on some kinds of tables, asked about others. A method that is better everywhere
# is also better on unseen kinds, without having carried anything over. So the second check compares how far each method
# *falls* from seen to unseen kinds.
#
# 003 §4.1 says it of summaries (摘要, lesson 10), learned from news and asked of sport. The metric there is ROUGE-L: how
# much of the reference's words comes back in their order.
#
# **Predict before you run:** which method falls farther from seen to unseen kinds of tables? And does LoRA, which leaves
# the base frozen as well, behave like the prefix?

# %%
tell(store, "unseen", "seen", "unseen")
tell(store, "sport", "ROUGE-L, news", "ROUGE-L, sport")
parts = panels(store, "unseen", "sport")
if parts:
    with figure(
        "elsewhere",
        "What was not in the training: tables of unseen kinds, and sport after news.",
        **layout(parts),
    ) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: look at the first column of scores before the second. Where two methods differ at home already, the
# difference elsewhere says little about carrying over. And "unseen" means unseen in tuning. Our base has read about
# every kind of thing in its own training, so it may have little to learn here and little to forget.

# %% [markdown]
# ## Prefixes: how long?
#
# 003 §4.2 says that longer is better up to a threshold, and then worse (过犹不及). There are two difficulties. If you look
# for the best length in the test scores, you will find one, whatever is true; so *which* lengths are compared was
# fixed before. And "worse because of overfitting" is more than "worse": then the training loss has to go on falling.
#
# The same section says that different tasks need prefixes of different lengths (不同下游任务需要增加不同长度的前缀向量).
#
# **Predict before you run:** how many points of values stated lie between one virtual token and ten?

# %%
tell(store, "length", "values stated", "loss", "train loss")
tell(store, "length_by_task", "loss", "train loss")

# %% [markdown]
# How to read it: the claim has three checks, and it holds only if all three do. A claim that says much can fail in many
# ways; look at which check decided. With a short training the third check has little chance, because overfitting needs
# examples that are seen many times.

# %% [markdown]
# ## Prefixes: in which layers?
#
# 003 §4.2 says that a prefix at the word embedding alone (embedding-only) does far worse than one in all layers
# (仅在词嵌入层做Prefix的效果远差于在Transformer各层做Prefx的效果). Lesson 9 tried this for a few steps. Here each arm has
# the same length and its own learning rate, and between the two stand prefixes that only the top layers have.
#
# **Predict before you run:** is a prefix in the top layer alone better than vectors at the input, which reach all layers?

# %%
tell(store, "layers", "values stated", "loss")
parts = panels(store, "length", "length_by_task", "layers")
if parts:
    with figure("length", "How long a prefix is, and in how many layers.", **layout(parts)) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: equal lengths are not equal numbers of parameters. The column "kept" shows how far they are apart. The
# question at one budget (below) compares with equal numbers.

# %% [markdown]
# ## Prefixes: where, and from what?
#
# First the claim whose rule you have read: before x, or between x and y?
#
# Then the beginning of a prefix (初始化). 003 §4.2 shortens its source: what the paper says of little data becomes a law for
# all data. So there is a second check: does the gap close when there is more data? Of words that have nothing to do with
# the task, the document only supposes something (可能由于), so they decide nothing. ("Vocabulary" is ten words drawn from
# it at random.)
#
# **Predict before you run:** order the four beginnings after 50 tables, from best to worst.

# %%
tell(store, "infix", "values stated", "loss")
tell(store, "init", "values stated", "train loss")

# %% [markdown]
# How to read it: for the beginnings, look at the widths of the intervals first. With 50 tables the seed draws the tables,
# and that luck can be larger than the effect. An order of four means is not a finding when their intervals overlap widely;
# only the paired checks are.
#
# *Where the document is not exact.* 003 §4.2 says without condition that a random beginning is far worse
# (随机初始化Prefix向量的效果远差于与下游任务相关联的Prefix向量初始化的效果). Li & Liang (2021, §7.4) say it of little data,
# and see no difference with all data.

# %% [markdown]
# ## Prefixes: made by what?
#
# Reparametrisation (重参数化): 003 §3.3 says that it does not go well to train the prefix directly
# (直接微调Pθ会导致训练效果不好), and lets an MLP make it. "Does not go well" has two meanings, and each has its check. The
# direct prefix may lose more where the rate is not the best one. Or it may end at a higher loss even at its best rate.
# Each way is tried at five rates around the middle one of its own search.
#
# **Predict before you run:** draw loss against learning rate for both ways. Which curve is flatter?

# %%
tell(store, "reparametrisation")
parts = panels(store, "infix", "init", "reparametrisation")
if parts:
    with figure(
        "prefixes",
        "Where virtual tokens stand, what they begin as, and whether an MLP makes them.",
        **layout(parts),
    ) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: the first check compares the worst of five rates with the best. So it depends on where the five rates
# end, and one rate at which training breaks down can decide it. The line beside it leaves out the largest rate. If the two
# lines have different signs, the verdict is about the range of rates as much as about the MLP.

# %% [markdown]
# ## Methods: adapters
#
# 003 §2 gives adapters a number: 2 to 4 % of the parameters are enough (仅需微调2%~4%的参数即可达到全参数微调的效果). Again
# "enough" needs a margin, and it is 97 % of what full fine-tuning states.
#
# 001 §3.2.3 says more: adapters can take a larger learning rate and fewer epochs (更大的学习率和更少的训练轮数). For the
# first half, adapters and full fine-tuning are tried at the same six rates. For the second half: how near does a run of 60
# steps come to one of 250?
#
# **Predict before you run:** does the adapter of 0.5 % pass the margin of 97 %, too?

# %%
tell(store, "shares", "values stated", "tables whole", "loss")
tell(store, "adapter_training")

# %% [markdown]
# How to read it: this claim joins two statements with "and". If one of its checks holds and the other does not, the
# claim as a whole does not hold or stays undecided, and yet half of it may be useful to you. Read the lines, and not only
# the word.

# %% [markdown]
# ## Methods: at one budget
#
# It says little that a method wins if it keeps eight times as many parameters. So sizes are chosen until all methods keep
# about as many: 0.5 % of the base's, or 2 %. Then they race again. No document makes this comparison, so no verdict says
# that a document is wrong. It is a question of ours. The nearest that a document comes is 003 §3.2: prompts in natural
# words help little (提升很有限). Therefore an untrained prompt with one solved example runs along.
#
# **Predict before you run:** order the six trained methods by values stated. Where does the untrained example stand?

# %%
tell(store, "compared", "values stated", "tables whole", "loss")
parts = panels(store, "shares", "adapter_training", "compared")
if parts:
    with figure(
        "methods",
        "Adapters of three sizes; their learning rates and early ends; six methods at two budgets.",
        **layout(parts),
    ) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: *answered here* means that no check is open, whatever the signs are. If one method has a very wide
# interval, look for the run that broke down. It then says something about that method's steadiness, and little about how
# good it is when it works.

# %% [markdown]
# ## Methods: quality against parameters kept
#
# The same runs belong to a larger experiment, `budgets`. It has every method of this course, at up to three sizes, on
# tables, and some of them on sorting reviews. What is counted is what has to be *kept* for a task, and not what is trained
# on the way (lesson 9: an MLP is trained, and then dropped).
#
# **Predict before you run:** from 0.5 % to 8 % a method has sixteen times as many parameters. Which method gains most on
# tables? On reviews, what matters more: how many parameters a method has, or which layers it changes?

# %%
from minitransformer.course.lab import budgets
from minitransformer.course.lab.reading import TABLES, smallest_near_full

experiment = lab.EXPERIMENTS["budgets"]
results = experiment.results(TABLES, store)
slots = {(one.name, one.budget): one.scores["slots"].mean for one in results}
gains = [
    (name, 100 * (slots[name, "8 %"] - slots[name, "0.5 %"]))
    for name, budget in slots
    if budget == "8 %" and (name, "0.5 %") in slots
]  # in points
table(sorted(gains, key=lambda row: -row[1]), ["from 0.5 % to 8 %", "points"], [None, "+.1f"])
found = experiment.found(store)
if found:
    with figure("budgets", budgets.CAPTION, **budgets.layout(found)) as axes:
        budgets.plot_all(axes, found)
smallest = smallest_near_full(results, 0.95)
if smallest:
    say(
        "Fewest parameters for 95 % of full fine-tuning, of the sizes tried: "
        f"{smallest.name}, {smallest.stored:,} ({smallest.share:.2%} of the base)."
    )
waiting = sum(arm.rows(store) is None for arm in experiment.arms)
say(f"{len(experiment.arms) - waiting} of {len(experiment.arms)} sizes of methods are measured.")

# %% [markdown]
# How to read it: compare within one block of the figure, because there the budgets are equal. Compare a method with itself
# across blocks to see what more parameters buy. And look where "head alone" stands on the reviews: a method that cannot be
# told from it has added nothing.
#
# One thing about the reviews breaks a rule of this lesson. A part of their plan was made after test scores of a first plan
# had been seen. `data/lab/README.md` says which part, and how it was chosen.

# %% [markdown]
# ## Price: what the base could do
#
# 002 §优势 says that a prefix keeps the model's original abilities *while it does its task*
# (在执行特定任务时能保留模型原始的生成能力). When the prefix is off, this is true bit for bit (lesson 13). So we have to measure
# the model with the prefix *on*. Can it still do more of what it could before than a fine-tuned model? The skills and the
# prose are those of lesson 13, and the task is tables.
#
# **Predict before you run:** does the mean of the skills fall more with a prefix on, or after full fine-tuning?

# %%
tell(store, "abilities", "skills", "loss on prose")

# %% [markdown]
# How to read it: the claim is in the comparison with full fine-tuning. The lines beside the checks compare with the
# untouched base, and answer a second question: is anything lost at all? A short tuning moves the weights of a fine-tuned
# model only a little, so it may not have forgotten much yet.

# %% [markdown]
# ## Price: time, memory, disk
#
# 000 §1.3 and §2.2 promise faster training (训练速度) and less computing (计算资源消耗). 002 §优势 promises less to store
# (降低了存储和计算成本). These are three questions. What is stored follows from a count. For computing we take the memory
# for gradients and for Adam's two moments, which can also be counted. Time has to be measured. A computer's speed drifts,
# so all methods run in turn in one process.
#
# **Predict before you run:** the gradient travels through all layers even if only the prefix is trained (lesson 9). Which
# fraction of the time of a step is saved?

# %%
tell(store, "cost", *lab.EXPERIMENTS["cost"].scores)
parts = panels(store, "abilities", "cost")
if parts:
    with figure(
        "price",
        "What tuning costs: what the base could do before, time, memory and disk.",
        **layout(parts),
    ) as axes:
        plot(axes, parts, store)

# %% [markdown]
# How to read it: the three savings need not be of one size, so "cheaper" alone says little. Ask: cheaper in what? The
# memory of activations is not counted, and every method that sends a gradient through all layers needs it.

# %% [markdown]
# ## Where a claim does not hold
#
# A claim that does not hold here may hold elsewhere. Before you blame the document, question five suspects. The rows know
# something about four of them:
#
# - **too few seeds** (column *seeds*): how many would it take to tell the open check from zero, if it goes on varying as it does?
# - **one run** (*odd run*): does a single run lie far from the others (more than six of their standard deviations)?
# - **no room** (*best*): does the best arm already state nearly all values? Then nothing can be better.
# - **the learning rate** (*edge*): was it chosen at the edge of those tried?
# - **the scale**: our base is small, its world is simple, and its training is short. The rows cannot vary that. The line
#   *Not tested* of each claim says what one would have to try.
#
# **Predict before you run:** which of the first four is found most often?

# %%
from minitransformer.course.lab.reading import DOUBTS, doubts

table(doubts(store), DOUBTS)
say(f"In doubt are {len(doubts(store))} of the {len(measured)} claims that are measured.")
assert len(doubts(store)) <= len(measured)

# %% [markdown]
# A large number of seeds means that the difference is small beside its spread. Then it hardly matters for you, whatever
# its sign is. A check that surely lies below zero is no case for more seeds.
#
# One warning. "Add seeds until it is decided" is a new rule that is made after the run, and sooner or later it decides,
# whatever is true. If you want to go on, fix the number of seeds first, and count the new seeds alone.

# %% [markdown]
# ## Asked why
#
# The suspects are in the rows. A reason (原因) is not. It has to be supposed and tried. So for a claim that does not hold
# (and for our question) there is one more experiment in the same form, with arms, checks and the same rule. One difference
# matters. The claims were written down before anything was run. These experiments were thought of after a verdict had been
# seen. What suggested an idea cannot confirm it (事后假设, a hypothesis after the fact), so each needed new runs. Where these
# are compared with old runs, the luck of the old ones is in the difference as well.
#
# Here are four suppositions that could explain a failure. Full fine-tuning has had no time to forget unseen kinds. It has
# had no time to forget what the base could do. An MLP does only what a larger learning rate would do. And a prefix is
# behind an adapter because it had too few steps.
#
# **Predict before you run:** on which of them would you bet?

# %%
from minitransformer.course.lab.claim import ANSWERED, FAILS

asked = [why for why in lab.WHYS if verdicts[why.why].word in (FAILS, ANSWERED)]
for why in asked:
    tell(store, why.name, *list(why.scores)[:2])
parts = panels(store, *(why.name for why in asked))
if parts:
    with figure(
        "why", "What was supposed of claims that do not hold, and tried.", **layout(parts)
    ) as axes:
        plot(axes, parts, store)
say(f"Asked why: {len(asked)} of {len(lab.CLAIMS)} claims.")

# %% [markdown]
# How to read it: a supposition that holds explains the failure of its claim only in part. It names one condition under
# which the result is another. A supposition that does not hold is worth as much, because it removes a comfortable excuse.

# %% [markdown]
# ## The verdicts
#
# Take your list from the first step.
#
# **Predict before you run:** how many of your signs were right? And where they were wrong, did the documents mislead you,
# or did the scale?

# %%
from collections import Counter

tally = Counter(verdict.word for verdict in verdicts.values())
table(
    [(number, one.title, verdicts[one.name].word) for number, one in enumerate(lab.CLAIMS, 1)],
    ["", "claim", "verdict"],
    ["d", None, None],
)
say("; ".join(f"{word}: {number}" for word, number in tally.items()) + ".")
assert sum(tally.values()) == len(lab.CLAIMS)

# %% [markdown]
# A claim with several checks has to pass all of them. One check that surely points the other way is enough for *does not
# hold here*.
#
# Each line can be followed back. In `data/lab/README.md`, its section has all numbers and searches. From there you come to
# the rows, each with fingerprints of the code, the data and the base. And `make lab ARGS=name` makes a run of your own.

# %% [markdown]
# ## What to take home
#
# A practitioner (从业者) has one question: which method do I take? The rows answer it for a small model and a toy world.
# Take the *questions* from the list below, and measure the answers on your own model. The laboratory is made for that.
#
# When we ask several methods for the best one, the winner has had luck as well (the winner's curse, 赢家诅咒), so its mean
# is too good. Therefore every method that cannot be told from the winner, seed by seed, stands beside it.
#
# **Predict before you run:** is there one method that wins everywhere?

# %%
from minitransformer.course.lab.reading import advice

say(
    "\n".join(
        f"- {question}: **{best}**. Not to be told from it: {level}."
        for question, best, level in advice(store)
    )
)

# %% [markdown]
# The answers are those of this scale. Three habits are not, and you can take them with you:
#
# - Give every method its own learning rate before you compare.
# - Run what you compare with the same seeds, at least five, and look at the differences.
# - Write down what would change your mind before you look.

# %% [markdown]
# ## The answer
#
# Which claims are true at this scale stands in the table of verdicts; it changes when the base changes. How we know is
# always the same: by a number that was fixed beforehand, measured with five seeds on everything that is compared, with a
# search of the same size for every method, and by whether the interval of its mean keeps clear of zero. The same procedure
# tells us what is still open.
#
# To try next:
#
# - Add a claim of your own to `minitransformer/course/lab/claims/`: words, arms, check. Write your prediction beside it
#   before you run `make lab ARGS=name`. For instance: a prefix of half the length in half of the layers loses nothing.
# - Judge the claims by a rule of yours: all five seeds have to agree on the sign. If the true value of a check is zero, how
#   often does that happen by chance? Which verdicts change?
# - Take the four sizes of little data apart: is the prefix ahead at each? You have now asked four questions in place of
#   one. How wide must each interval be, so that all four are right in 95 of 100 cases?
#
# This lesson has no exercises. Lesson 15 leaves the laptop: real weights, a task of your own, and more than one process.
#
# Further reading: "Fine-Tuning Pretrained Language Models: Weight Initializations, Data Orders, and Early Stopping" (Dodge
# et al., 2020); "How Many Random Seeds? Statistical Power Analysis in Deep Reinforcement Learning Experiments" (Colas et
# al., 2018); "Prefix-Tuning: Optimizing Continuous Prompts for Generation" (Li & Liang, 2021); "Towards a Unified View of
# Parameter-Efficient Transfer Learning" (He et al., 2022); "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning
# Universally Across Scales and Tasks" (Liu et al., 2022).
