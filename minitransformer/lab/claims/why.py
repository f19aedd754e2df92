"""Why a claim does not hold here: suppositions, tried after its verdict was seen."""

from dataclasses import replace

from minitransformer.lab.claim import Check, Claim, Panel
from minitransformer.lab.claims.methods import COMPARED as CLAIM
from minitransformer.lab.claims.methods import QUALITY, ahead

LONGER = 1000
TRIED = ("prefix, 2 %", "adapter, 2 %")
OF_LONGER = {name: f"{name}, {LONGER} steps" for name in TRIED}

COMPARED = Claim(
    name="compared_longer",
    why="compared",
    title="The prefix is behind the adapter for want of steps",
    document="Asked after `compared` had failed",
    says="A prefix starts far from where it has to go, and an adapter as a model that nothing was done to; with more "
    "steps the prefix comes up to it.",
    published="prefixes are trained for 5 to 30 epochs (Li & Liang 2021, appendix); 250 steps of 8 are one of ours",
    design=f"Both for {LONGER} steps in the place of 250, at the learning rates found for those; all else as in "
    "`compared`.",
    untested="learning rates searched for the longer runs; a larger base, which is where the papers compared.",
    arms=(
        *(CLAIM.arm(name) for name in TRIED),
        *(replace(CLAIM.arm(name), name=OF_LONGER[name], steps=LONGER) for name in TRIED),
    ),
    checks=(
        Check("values told, the adapter's lead after 250 steps − after 1000", lambda of: (
            ahead(*reversed(TRIED)).value(of) - ahead(*(OF_LONGER[name] for name in reversed(TRIED))).value(of))),
    ),
    beside=(ahead(*OF_LONGER.values()),),
    scores=QUALITY,
    panels=(
        Panel({"values told": ("slots", [*TRIED, *OF_LONGER.values()])}, "share of values told"),
    ),
)  # fmt: skip
