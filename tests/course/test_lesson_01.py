"""Lesson 1 runs, quickly, and what its sentences say is what its numbers say: the lesson checks them itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "lessons" / "lesson_01_text_as_probabilities.py"


def test_quick_run_measures_what_it_says() -> None:
    env = {**os.environ, "QUICK": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, str(LESSON)], capture_output=True, text=True, encoding="utf-8", env=env, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr[-2000:]
    out = result.stdout
    measured = re.findall(r"^(?:−Σ y log ŷ|cross_entropy|torch's own|NGram\.loss).* (\d+\.\d+)$", out, re.M)
    assert len(measured) == 4 and len(set(measured)) == 1, f"four cross-entropies should agree: {measured}"
    loss, perplexity = map(float, re.search(r"^bigram +(\S+) +(\S+)$", out, re.M).groups())
    assert abs(2.718281828**loss - perplexity) < 0.002 * perplexity, "perplexity is not exp(loss)"
    assert "The loss is inf" in out, "an unseen pair should make the unsmoothed loss infinite"
    saved = re.findall(r"Figure saved: (\S+\.png)", out)
    assert len(saved) == 5 and all((ROOT / path).is_file() for path in saved), f"figures: {saved}"


def test_prose_states_no_measured_number() -> None:
    # A number in the prose would be true of one run only. Years, sections and the sizes of bytes are no measurements.
    prose = "\n".join(re.findall(r"^#(?! %%) (.*)$", LESSON.read_text(encoding="utf-8"), re.M))
    assert not re.findall(r"\b\d+\.\d+\b(?! )", re.sub(r"§\d+\.\d+", "", prose)), "measure it in the code instead"
