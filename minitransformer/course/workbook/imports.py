"""The imports at the top of a workbook: what its stubs need, and no more."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection

from minitransformer.course.workbook.cut import Cut
from minitransformer.course.workbook.source import read_source
from minitransformer.errors import UserError

TOOLS = ("import math", "import torch", "import torch.nn.functional as F", "from torch import Tensor")
"""What somebody may want to solve an exercise with, whatever the package's own solution uses."""


def header(cuts: list[Cut], who: str, bound: Collection[str] = ()) -> list[str]:
    """The imports that stubs need, as lines of statements.

    That is what the functions use, and of TOOLS what their modules import, lest the choice give much of the answer
    away; not the exercises of the same workbook. Names in `bound` are left out.

    Raises:
        UserError: two modules mean different things by one name.
    """
    own = {one.name for one in cuts if one.method is None}
    plain: set[str] = set()
    package: dict[str, set[str]] = {}
    meaning: dict[str, str] = {}
    for one in cuts:
        source = read_source(one.module, who)
        for name, statement in source.imports.items():
            if statement.startswith("from __future__") or name in bound or name in own:
                continue
            if name not in one.names and statement not in TOOLS:
                continue
            if not statement.startswith("from minitransformer"):
                plain.add(statement)
            else:
                module, _, what = statement.removeprefix("from ").partition(" import ")
                package.setdefault(module, set()).add(what)
            if meaning.setdefault(name, statement) != statement and name in one.names:
                raise UserError(
                    f"{who}: {name} means {meaning[name]!r} in one module and {statement!r} in {one.module}; "
                    "the workbook cannot have both."
                )
        here = (one.names & source.defined) - own - set(bound)
        if here:
            package.setdefault(one.module, set()).update(here)
    gathered: dict[str, set[str]] = {}
    for statement in plain:
        if statement.startswith("from "):
            module, _, what = statement.removeprefix("from ").partition(" import ")
            gathered.setdefault(module, set()).add(what)
    standard = {one for one in plain if one.startswith("import ")}

    def is_standard(module: str) -> bool:
        return module.split(".")[0] in sys.stdlib_module_names

    blocks = []
    for wanted in (True, False):
        lines = sorted(one for one in standard if is_standard(one.split()[1]) == wanted)
        lines += _from_lines({m: names for m, names in gathered.items() if is_standard(m) == wanted})
        blocks.append(lines)
    blocks.append(_from_lines(package))
    return [line for block in blocks if block for line in (*block, "")][:-1]


def _from_lines(modules: dict[str, set[str]]) -> list[str]:
    lines = []
    for module, names in sorted(modules.items()):
        line = f"from {module} import {', '.join(sorted(names))}"
        if len(line) > 100:
            wrapped = textwrap.wrap(", ".join(sorted(names)) + ",", 96, initial_indent="    ", subsequent_indent="    ")
            lines += [f"from {module} import (", *wrapped, ")"]
        else:
            lines.append(line)
    return lines
