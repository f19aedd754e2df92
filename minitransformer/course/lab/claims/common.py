"""What several claims share: one prefix and one full fine-tuning, whose cells run once for all of them."""

from minitransformer.course.lab.cells import ABILITIES
from minitransformer.course.lab.experiment import Search, searched
from minitransformer.tuning import FullFineTuning, PrefixTuning

TABLES, NEWS = "table_to_text", "news_summary"
FULL_RATE, PREFIX_RATE, DIRECT_RATE, INPUT_RATE = 1e-4, 3e-3, 1e-1, 1e-1  # the middle ones of the searches
UNSEEN = "test_unseen"  # tables of kinds that nothing was tuned on
BESIDES = (UNSEEN, ABILITIES)


def prefix(length: int = 10, **more: object) -> PrefixTuning:
    """The prefix of 003 §3.3, made by an MLP while it is trained."""
    return PrefixTuning(length, reparametrise=256, **more)


# A claim can give them a name of its own and a place on its axis. The cells stay the same.
PREFIX = searched("prefix", TABLES, prefix(), PREFIX_RATE, also=BESIDES)
FULL = searched("full fine-tuning", TABLES, FullFineTuning(), FULL_RATE, also=BESIDES)

# The searches of `budgets`, which are made at the middle one of a method's sizes.
FULL_SEARCH = Search(TABLES, FullFineTuning(), FULL_RATE)
PREFIX_SEARCH = Search(TABLES, prefix(22), PREFIX_RATE)

STANDARD = "A run has 250 steps of 8 tables and is scored on the first 100 tables of `test_seen`, after a beam search"
