"""Rows from a file of the user's: JSONL or CSV with named columns, and their splits from a seed."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from minitransformer.course.jsonl import parsed
from minitransformer.errors import UserError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Row:
    """One example: where it stands in the file, and its columns under the names that the task gives them."""

    number: int  # the line of the file on which it begins, from 1
    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A column's text."""
        return self.values[name]


@dataclass(frozen=True)
class Refused:
    """A row that is left out, and why."""

    number: int
    why: str

    def __str__(self) -> str:
        """As a line of the report."""
        return f"row {self.number}: {self.why}"


def read_rows(path: str | Path, columns: Mapping[str, str]) -> tuple[list[Row], list[Refused]]:
    """Read a file; a bad row is left out and said, the others are kept.

    Args:
        path: a .jsonl file, one JSON object a line, or a .csv file whose first line names the columns.
        columns: what the task calls a column → what the file calls it.

    Returns:
        The good rows, and those that were refused, both in the file's order.

    Raises:
        UserError: no such file, one that is no UTF-8 text or of another kind, a CSV file that cannot be read to its
            end, a column that no row has, no good row.
    """
    path = Path(path)
    readers = {".jsonl": _jsonl, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} is neither .jsonl (one JSON object a line) nor .csv (whose first line names columns).")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        raw, refused = readers[path.suffix.lower()](text)
    except csv.Error as error:
        raise UserError(f"{path} cannot be read to its end: {error}.") from error
    there = dict.fromkeys(name for _, values in raw for name in values)
    for ours, theirs in columns.items():
        if raw and theirs not in there:
            raise UserError(
                f"{path} has no column {theirs!r}, which the task needs as its {ours}; it has "
                f"{', '.join(map(repr, there)) or 'none'}. Say which column it is: --columns {ours}=NAME."
            )
    rows = []
    for number, values in raw:
        found = {ours: values.get(theirs) for ours, theirs in columns.items()}
        why = next((why for ours, theirs in columns.items() if (why := _wrong(theirs, found[ours]))), None)
        if why:
            refused.append(Refused(number, why))
        else:
            texts = {name: _text(value) for name, value in found.items()}
            if "label" in texts:  # "spam " with a blank behind it would be a class of its own
                texts["label"] = texts["label"].strip()
            rows.append(Row(number, texts))
    if not rows:
        first = f" The first reason is: {refused[0]}." if refused else ""
        raise UserError(f"{path} has no row that can be used.{first}")
    return rows, sorted(refused, key=lambda one: one.number)


def _jsonl(text: str) -> tuple[list[tuple[int, dict]], list[Refused]]:
    raw, refused = [], []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): U+2028 may stand in a string
        if not line.strip():
            continue
        try:
            values = parsed(line)
        except json.JSONDecodeError as error:
            refused.append(Refused(number, f"it is not JSON ({error.msg}, column {error.colno})"))
            continue
        except ValueError as error:
            refused.append(Refused(number, f"its JSON is not clear: {error}"))
            continue
        except RecursionError:
            refused.append(Refused(number, "it is nested too deeply"))
            continue
        if isinstance(values, dict):
            raw.append((number, values))
        else:
            refused.append(Refused(number, f"it is not an object {{…}} but a {type(values).__name__}"))
    return raw, refused


def _csv(text: str) -> tuple[list[tuple[int, dict]], list[Refused]]:
    raw, refused = [], []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return raw, refused
        except csv.Error as error:  # where a quotation mark is missing, the rows that follow it are part of this one
            raise csv.Error(f"the row that begins in line {begins} is not CSV ({error})") from error
        if not cells:
            continue
        if names is None:
            names = [name.strip() for name in cells]
            double = [name for name, n in Counter(names).items() if n > 1]
            if double:
                raise UserError(f"Line 1 names the column {double[0]!r} twice; each column needs a name of its own.")
        elif len(cells) != len(names):
            refused.append(Refused(begins, f"it has {len(cells)} columns, and line 1 names {len(names)}"))
        else:
            raw.append((begins, dict(zip(names, cells, strict=True))))


def _wrong(column: str, value: object) -> str | None:
    if value is None:
        return f"it has no {column!r}"
    if isinstance(value, (dict, list)):
        return f"{column!r} is a {'list' if isinstance(value, list) else 'JSON object'}; a text belongs there"
    text = _text(value)
    if not text.strip():
        return f"{column!r} is empty"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return f"{column!r} holds half of a character (a surrogate), which is no text"
    return None


def _text(value: object) -> str:
    """A label may be a number or a truth value in JSON; it is read as JSON writes it, and 1.0 as 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def split_rows(
    rows: Sequence[Row], unit: str, seed: int = 0, valid: float = 0.1, test: float = 0.1, label: str | None = None
) -> dict[str, list[Row]]:
    """Deal rows out to training, validation and test. The same rows and seed give the same splits.

    Rows with the same input go into the same split: an example that was learned from tests nothing.

    Args:
        rows: all of them.
        unit: the column that is a row's input.
        seed: of the shuffling.
        valid: the fraction of inputs that validate.
        test: the fraction that test.
        label: of a classification, the column of the classes: each class is dealt out by itself, so that every split
            has it where there are enough of it.

    Returns:
        "train", "valid" and "test".

    Raises:
        UserError: fractions that leave nothing to one of the splits.
    """
    for name, fraction in (("valid", valid), ("test", test)):
        if not 0 < fraction < 1 or valid + test >= 1:
            raise UserError(f"{name} = {fraction}: valid and test are fractions above 0, together below 1.")
    generator = torch.Generator().manual_seed(seed)
    pools: dict[str | None, dict[str, list[Row]]] = {}
    home: dict[str, str | None] = {}  # an input that stands under two labels is dealt out once
    for row in rows:
        pool = home.setdefault(row[unit], row[label] if label else None)
        pools.setdefault(pool, {}).setdefault(row[unit], []).append(row)
    dealt: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for pool in pools.values():
        groups = list(pool.values())
        order = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
        n_test, n_valid = (_at_least_one(len(order), fraction) for fraction in (test, valid))
        for name, part in (
            ("test", order[:n_test]),
            ("valid", order[n_test : n_test + n_valid]),
            ("train", order[n_test + n_valid :]),
        ):
            dealt[name] += [row for group in part for row in group]
    for name, part in dealt.items():
        if not part:
            raise UserError(
                f"{len(rows)} rows leave nothing for the split {name!r}: {len(home)} of their inputs differ, each "
                "goes into one split. Give more rows, or other fractions (--valid, --test)."
            )
    return {name: sorted(part, key=lambda row: row.number) for name, part in dealt.items()}


def _at_least_one(n: int, fraction: float) -> int:
    """How many of n inputs go into a split: one where there are three, so that the rest can be learned from."""
    return max(round(n * fraction), 1) if n >= 3 else 0
