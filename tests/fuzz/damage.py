"""What happens to files: cut short, a bit that flips, a line twice, JSON with something else in it. All from a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

ODD = (
    None,
    True,
    0,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "x",
    "x" * 5000,
    "\x00\u2028\ud800",
    [],
    {},
    [[]],
)


def damaged(data: bytes, times: int, seed: int = 0) -> Iterator[bytes]:
    """Files of bytes: each is `data` with one thing done to it."""
    dice = random.Random(seed)
    for _ in range(times):
        kind, at = dice.choice(("cut", "flip", "lose", "add", "zero", "line")), dice.randrange(len(data))
        n = dice.choice((1, 4, 64))
        if kind == "cut":
            yield data[:at]
        elif kind == "flip":
            yield data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
        elif kind == "lose":
            yield data[:at] + data[at + n :]
        elif kind == "add":
            yield data[:at] + dice.randbytes(n) + data[at:]
        elif kind == "zero":
            yield data[:at] + bytes(n) + data[at + n :]
        else:  # two lines change places, or one takes the other's
            lines = data.splitlines(keepends=True)
            a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
            lines[a], lines[b] = lines[b], dice.choice((lines[a], lines[b]))
            yield b"".join(lines)


def changed(value: Any, dice: random.Random) -> Any:
    """A copy of what JSON can say, with something else in one place, or a key lost or misspelt."""
    if not (isinstance(value, dict | list) and value) or dice.random() < 0.15:
        return dice.choice(ODD)
    if isinstance(value, list):
        at = dice.randrange(len(value))
        return [*value[:at], changed(value[at], dice), *value[at + 1 :]]
    name = dice.choice(list(value))
    rest = {other: inner for other, inner in value.items() if other != name}
    fate = dice.random()
    if fate < 0.1:
        return rest
    if fate < 0.2:
        return {**rest, name[::-1] + "_": value[name]}
    return {**value, name: changed(value[name], dice)}


def changed_lines(text: str, times: int, seed: int = 0) -> Iterator[str]:
    """Files of JSON lines: each is `text` with one line changed, and still JSON (or what Python takes for it)."""
    dice, lines = random.Random(seed), text.splitlines()
    for _ in range(times):
        at = dice.randrange(len(lines))
        new = json.dumps(changed(json.loads(lines[at]), dice))
        yield "\n".join([*lines[:at], new, *lines[at + 1 :]]) + "\n"
