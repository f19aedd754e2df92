"""A plugin of pytest's for `make mutants`: which of the tests that reach a mutant run, and in which order.

mutmut forks a process for each mutant from one that has loaded the tests. What PyTorch loads only when it is first
asked for (a second of work) is therefore asked for here, once. In the fork, the first test that fails ends the hunt.
"""

import gc
import json
import os
from pathlib import Path

import pytest
import torch

SECONDS = 10  # of other modules' tests for one mutant; what would come later is left out, and may leave one too many
STATS = Path("mutmut-stats.json")  # written once all tests have run; absent while they do

torch.testing.assert_close(torch.zeros(1), torch.zeros(1))
torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).step()
seconds = json.loads(STATS.read_text(encoding="utf-8"))["duration_by_test"] if STATS.exists() else {}


def unfindable(items: list[pytest.Item]) -> list[str]:
    """Names that pytest does not find when a fork asks for them, so that the hunt would be none."""
    return [item.nodeid for item in items if "\\u" in item.nodeid]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of the mutant's own module first, then the quick ones."""
    module, _, _ = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".x")  # "" before the hunt, or a word
    if lost := unfindable(items):
        raise pytest.UsageError(f"Give this test's parameters a name in ASCII: {lost[0]}")
    if not module:
        gc.freeze()  # or each fork would go through all that PyTorch has loaded, to find nothing to collect
        return
    *folders, file = module.split(".")[1:]
    folder = "/".join(["tests", *folders])
    own = f"{folder}/test_{file}.py"  # of minitransformer.tuning.lora, tests/tuning/test_lora.py
    if folders and not any(item.nodeid.startswith(own) for item in items):
        own = f"{folder}/"  # of a module without tests of its own, those of its folder
    cost = [(not item.nodeid.startswith(own), seconds.get(item.nodeid, 0.0)) for item in items]
    total, chosen = 0.0, []
    for (foreign, time), item in sorted(zip(cost, items, strict=True), key=lambda pair: pair[0]):
        total += time * foreign
        if chosen and total > SECONDS:
            break
        chosen.append(item)
    items[:] = chosen
