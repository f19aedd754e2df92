"""The rows of the tasks, on disk as JSON Lines: one example a line, each with the fields that its task has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minitransformer.errors import UserError
from minitransformer.files import read_utf8

# What a field of an example may be asked to hold, and what that is called.
KINDS: dict[type, str] = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    dict: "an object, {…}",
    list: "a list, […]",
}


def read_jsonl(path: str | Path, fields: Sequence[str] | Mapping[str, type] = ()) -> list[dict[str, Any]]:
    """The examples of a JSON Lines file: one JSON object a line.

    Lines end at newlines alone: other signs that end a line to Unicode, such as U+2028, may stand inside a string.
    `fields` are what each object has to have: the names of its texts, or each field's name with its kind (see `KINDS`;
    a whole number is a number, too). Refuses as `read_utf8`, an empty file, and (with the line number) a line that is
    no object, lacks a field, holds something of another kind in it, names one twice or holds NaN or Infinity, which
    JSON has not.
    """
    kinds = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, str)
    rows = []
    for number, line in enumerate(read_utf8(path, "data").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parsed(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}, column {error.colno}: this is not JSON ({error.msg}).") from error
        except (ValueError, RecursionError) as error:  # a number of too many digits, brackets within brackets
            raise UserError(f"{where}: this JSON cannot be read ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: an example is a JSON object, {{…}}; this is {type(row).__name__}.")
        for name, kind in kinds.items():
            if name not in row:
                raise UserError(f"{where}: the example has no field {name!r}; it has {sorted(row)}.")
            if not is_a(row[name], kind):
                found = json.dumps(row[name], ensure_ascii=False)
                found = found if len(found) <= 40 else found[:40] + " …"
                raise UserError(f"{where}: {name!r} has to be {KINDS[kind]}; it is {found}.")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no example.")
    return rows


def parsed(line: str) -> Any:
    """What a line of JSON says.

    Raises:
        ValueError: it is no JSON, names a field twice, or holds NaN, Infinity or a number of too many digits.
        RecursionError: it has brackets within brackets within brackets.
    """
    return json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)


def is_a(value: object, kind: type) -> bool:
    """Whether what JSON gave is of a kind; in JSON 1 is a number as 1.0 is, and true is none."""
    kinds = (int, float) if kind is float else (kind,)
    return isinstance(value, kinds) and not (isinstance(value, bool) and kind is not bool)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
