"""Tuning methods beside each other on a published BERT and real text; `python -m minitransformer real`.

Every method trains the same number of steps on the same batches. Each has its own search for a learning rate, by the
loss on validation data with seed 0; the test is scored with other seeds, at that rate alone. A cell is one training;
its row is stored as soon as it is there, and a run that was stopped goes on with the next.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minitransformer import metrics
from minitransformer.course.batches.classification import LabelledTexts
from minitransformer.course.fingerprints import fingerprint
from minitransformer.course.jsonl import read_jsonl
from minitransformer.course.locks import locked
from minitransformer.course.real import minilm, topics
from minitransformer.course.real.systems import mean_vector
from minitransformer.course.trial import tune
from minitransformer.files import write_aside
from minitransformer.models.classifier import Classifier
from minitransformer.text.batches import Batch
from minitransformer.training.loop import TrainConfig, evaluate
from minitransformer.training.losses import classification_loss
from minitransformer.tuning import Adapter, FullFineTuning, LoRA, Method, PrefixTuning

ROWS = topics.FOLDER / "rows.jsonl"
BATCH = 8
STEPS, SEARCH_STEPS = 80, 40
N_VALID = 160  # of the validation rows, the first so many decide about a learning rate
SEARCH_SEED, SEEDS = 0, (1, 2, 3)
RATES = tuple(float(f"{m}e{e}") for e in range(-5, 0) for m in (1, 3))  # 1e-5, 3e-5, …, 3e-1


class Arm(NamedTuple):
    """One of the things that are compared."""

    make: Callable[[], Method] | None  # None: the head alone
    middle: float  # of the three learning rates that are tried first


ARMS: dict[str, Arm] = {
    "head alone": Arm(None, 1e-1),
    "head alone, on the mean": Arm(None, 3e-2),
    "prefix, P = 5": Arm(lambda: PrefixTuning(5), 1e-1),
    "prefix, P = 20": Arm(lambda: PrefixTuning(20), 1e-1),
    "LoRA, r = 8": Arm(lambda: LoRA(rank=8), 3e-3),
    "adapter, r = 8": Arm(lambda: Adapter(width=8), 3e-3),
    "full fine-tuning": Arm(FullFineTuning, 1e-4),
}


@dataclass(frozen=True)
class Cell:
    """One training, and what is scored after it."""

    arm: str  # in ARMS
    lr: float
    seed: int  # of the head, of what the method begins as, and of the order of the texts
    steps: int
    split: str  # "valid", or "test"

    @property
    def key(self) -> str:
        """Two cells are the same if their keys are."""
        return json.dumps(asdict(self), sort_keys=True)


class Setup(NamedTuple):
    """A classifier that is begun anew for each cell, and its data."""

    model: nn.Module
    batches: Callable[[int], Batch]
    held_out: list[Batch]


class Summary(nn.Module):
    """Texts that are read already: the "ids" of a batch are numbers of rows in a table of vectors (B, C)."""

    def __init__(self, vectors: Tensor, n_classes: int) -> None:
        super().__init__()
        self.vectors = vectors
        self.base = nn.Identity()  # nothing is left to be frozen
        self.head = nn.Linear(vectors.size(1), n_classes)

    def forward(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Row numbers (B, 1) → logits (B, number of classes)."""
        return self.head(self.vectors[ids[:, 0]])


class Laboratory:
    """The published model and the rows, read once for all cells."""

    def __init__(self) -> None:
        self.loaded = minilm.load_minilm()
        self.rows = {split: topics.read(split) for split in topics.SPLITS}
        self.rows["valid"] = self.rows["valid"][:N_VALID]
        self.ids = {
            split: minilm.encode([row["text"] for row in rows], self.loaded.words) for split, rows in self.rows.items()
        }
        self.vectors: dict[str, dict[str, Tensor]] = {}  # "head alone" or "… on the mean" → split → vectors

    def labels(self, split: str) -> list[str]:
        """The topics of a split's rows."""
        return [row["topic"] for row in self.rows[split]]

    def texts(self, split: str, seed: int = 0) -> LabelledTexts:
        """A split as batches; the order is the seed's."""
        pad_id = self.loaded.words.pad_id
        return LabelledTexts(self.ids[split], self.labels(split), topics.NAMES, BATCH, pad_id, minilm.LONGEST, seed)

    def in_order(self, split: str) -> list[Batch]:
        """A split for evaluation: texts of like length together, which spares padding."""
        order = sorted(range(len(self.ids[split])), key=lambda i: len(self.ids[split][i]))
        texts = self.texts(split)
        return [texts.batch(part) for part in torch.tensor(order).split(32)]

    def frozen(self, arm: str) -> dict[str, Tensor]:
        """What the frozen model makes of every text, by split: it never changes, so it is computed once, (B, C)."""
        if not self.vectors:
            base = self.loaded.base
            found: dict[str, dict[str, Tensor]] = {"head alone": {}, "head alone, on the mean": {}}
            for split in topics.SPLITS:
                parts: dict[str, list[Tensor]] = {name: [] for name in found}
                for batch in self.texts(split).in_order():
                    with torch.no_grad():
                        hidden = base(batch["ids"], attention_mask=batch["attention_mask"])  # (B, T, C)
                        parts["head alone"].append(base.pooled(hidden))
                        parts["head alone, on the mean"].append(mean_vector(hidden, batch["attention_mask"]))
                for name in found:
                    found[name][split] = torch.cat(parts[name])  # (B, C)
            self.vectors = found
        return self.vectors[arm]

    def set_up(self, cell: Cell) -> Setup:
        """A fresh classifier, what it learns from, and what it is scored on."""
        torch.manual_seed(cell.seed)
        if ARMS[cell.arm].make is not None:
            model: nn.Module = Classifier(self.loaded.base, len(topics.NAMES))
            return Setup(model, self.texts("train", cell.seed), self.in_order(cell.split))
        vectors = self.frozen(cell.arm)
        numbers, first = {}, 0
        for split in topics.SPLITS:
            numbers[split] = [[first + i] for i in range(len(vectors[split]))]
            first += len(vectors[split])

        def texts(split: str) -> LabelledTexts:
            return LabelledTexts(numbers[split], self.labels(split), topics.NAMES, BATCH, 0, 1, cell.seed)

        model = Summary(torch.cat([vectors[split] for split in topics.SPLITS]), len(topics.NAMES))
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
        return Setup(model, texts("train"), texts(cell.split).in_order())

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and score one cell.

        Returns:
            Its row: the cell, loss, accuracy and macro F1, how many parameters were trained and are kept, the seconds,
            and what it was made from.
        """
        setup, make = self.set_up(cell), ARMS[cell.arm].make
        began = time.perf_counter()
        trial = tune(
            setup.model,
            make() if make else None,
            setup.batches,
            config_of(cell),
            lambda: scores_of(setup.model, setup.held_out),
            loss=classification_loss,
            progress=False,
        )
        report = trial.report
        return {
            "cell": asdict(cell),
            **trial.judged,
            "trained": report.trained if report else 0,
            "stored": report.stored if report else 0,
            "head": sum(p.numel() for p in setup.model.head.parameters()),
            "base": sum(p.numel() for p in self.loaded.base.parameters()),
            "seconds": round(time.perf_counter() - began, 1),
            "made_from": made_from(),
        }


def config_of(cell: Cell) -> TrainConfig:
    """How a cell is trained: alike but for the rate and the steps."""
    return TrainConfig(cell.steps, cell.lr, warmup=cell.steps // 10, final_lr=0.02, weight_decay=0.0)


def scores_of(model: nn.Module, held_out: Sequence[Batch]) -> dict[str, float]:
    """Loss in nats, accuracy and macro F1 over all batches."""
    with torch.inference_mode():
        said = torch.cat([model(batch["ids"], batch["attention_mask"]).argmax(-1) for batch in held_out]).tolist()
    right = torch.cat([batch["label"] for batch in held_out]).tolist()
    answers, wanted = ([topics.NAMES[i] for i in numbers] for numbers in (said, right))
    return {
        "loss": evaluate(model, held_out, classification_loss),
        "accuracy": metrics.accuracy(answers, wanted),
        "macro_f1": metrics.macro_f1(answers, wanted),
    }


def made_from() -> dict[str, str]:
    """The versions and the data that a row rests on."""
    data = "-".join(fingerprint(topics.FOLDER / f"{split}.jsonl") for split in topics.SPLITS)
    return {
        "model": minilm.version(),
        "data": data,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------- the rows


Rows = dict[str, dict[str, Any]]


def read_rows() -> Rows:
    """The stored rows by their cells' keys; none as long as nothing was measured.

    Raises:
        UserError: a damaged line, with its number.
    """
    if not ROWS.is_file():
        return {}
    fields = {"cell": dict, "made_from": dict, "loss": float, "accuracy": float, "trained": int, "seconds": float}
    return {Cell(**row["cell"]).key: row for row in read_jsonl(ROWS, fields)}


def store(row: dict[str, Any]) -> None:
    """Keep a row, in the place of an older one of its cell."""
    with locked(ROWS):
        rows = {**read_rows(), Cell(**row["cell"]).key: row}
        write_aside(ROWS, "".join(json.dumps(rows[key]) + "\n" for key in sorted(rows)).encode())


def search_cells(arm: str, rows: Rows) -> list[Cell]:
    """The cells of an arm's search, the lowest rate first.

    Three rates half a power of ten apart. Where the lowest loss is at an end, the next rate beyond it is tried, too,
    until it is not, or the rates end.
    """

    def cell(i: int) -> Cell:
        return Cell(arm, RATES[i], SEARCH_SEED, SEARCH_STEPS, "valid")

    at = RATES.index(ARMS[arm].middle)
    low, high = at - 1, at + 1
    while all(cell(i).key in rows for i in range(low, high + 1)):
        best = min(range(low, high + 1), key=lambda i: rows[cell(i).key]["loss"])
        if best == low and low > 0:
            low -= 1
        elif best == high and high < len(RATES) - 1:
            high += 1
        else:
            break
    return [cell(i) for i in range(low, high + 1)]


def chosen(arm: str, rows: Rows) -> float | None:
    """The learning rate with the lowest validation loss; None as long as a cell is missing."""
    found = [rows.get(cell.key) for cell in search_cells(arm, rows)]
    if any(row is None for row in found):
        return None
    return min((row for row in found if row), key=lambda row: row["loss"])["cell"]["lr"]


def test_cells(arm: str, rows: Rows) -> list[Cell]:
    """One for each seed, at the chosen rate; none as long as that is not chosen."""
    lr = chosen(arm, rows)
    return [] if lr is None else [Cell(arm, lr, seed, STEPS, "test") for seed in SEEDS]


def open_cells(rows: Rows) -> Iterator[Cell]:
    """What is still to be measured, arm by arm: its search, then the test. So a stopped run leaves whole arms."""
    for arm in ARMS:
        yield from (cell for cell in search_cells(arm, rows) if cell.key not in rows)
        yield from (cell for cell in test_cells(arm, rows) if cell.key not in rows)


class Result(NamedTuple):
    """What an arm came to on the test."""

    arm: str
    lr: float
    trained: int  # without the head
    accuracies: list[float]  # one a seed
    loss: float  # mean over the seeds
    seconds: float  # of one training with its scoring, the middle one

    @property
    def mean(self) -> float:
        """The mean accuracy."""
        return statistics.mean(self.accuracies)

    @property
    def spread(self) -> float:
        """Its standard deviation over the seeds."""
        return statistics.stdev(self.accuracies)


def results(rows: Rows) -> list[Result]:
    """Every arm whose test cells all have a row, in the order of `ARMS`."""
    found = []
    for arm in ARMS:
        own = [rows.get(cell.key) for cell in test_cells(arm, rows)]
        have = [row for row in own if row]
        if len(have) == len(SEEDS):
            found.append(
                Result(
                    arm,
                    have[0]["cell"]["lr"],
                    have[0]["trained"],
                    [row["accuracy"] for row in have],
                    statistics.mean(row["loss"] for row in have),
                    statistics.median(row["seconds"] for row in have),
                )
            )
    return found


def main() -> None:
    """Measure what is not measured yet, a cell at a time, and print what came of it."""
    torch.set_num_threads(1)  # the sums of floating-point numbers depend on how they are shared out
    laboratory = None
    while (cell := next(open_cells(rows := read_rows()), None)) is not None:
        laboratory = laboratory or Laboratory()
        row = laboratory.run(cell)
        store(row)
        print(
            f"{cell.arm:24} lr {cell.lr:<7g} seed {cell.seed} {cell.split:5}: loss {row['loss']:.3f}, "
            f"accuracy {row['accuracy']:.1%}, {row['seconds']:.0f} s",
            flush=True,
        )
    for one in results(rows):
        print(f"{one.arm:24} lr {one.lr:<7g} accuracy on the test {one.mean:.1%} ± {one.spread:.1%}")
