"""The rows on disk, one line of JSON for each finished cell: of all experiments, so that none measures it again."""

from __future__ import annotations

import json
import math
from pathlib import Path

from minitransformer.course.jsonl import KINDS, is_a, read_jsonl
from minitransformer.course.lab.cells import ABILITIES, Cell, Row
from minitransformer.course.lab.provenance import provenance
from minitransformer.course.lab.tasks import score_names
from minitransformer.course.locks import locked
from minitransformer.errors import UserError
from minitransformer.files import write_aside


class Store:
    """The finished cells of the laboratory.

    A cell has one row, the newest. A row holds for the data and the base that it was made from: with others, its cell
    is not finished, but the row stays, and can be read, until the new one takes its place. The row names the code, too;
    but that changes with any edit, most of them without consequence. So a test measures some cells again, and whoever
    changes what cells do can have all of them measured anew.

    Args:
        path: a .jsonl file; there need not be one yet.
        same_code: whether a row counts only if it was made by the code as it is now.

    Raises:
        UserError: a damaged line; the sentence names it.
    """

    def __init__(self, path: Path, same_code: bool = False) -> None:
        self.path, self.same_code = path, same_code
        self._rows = self._read()
        self._now: dict[str, dict[str, str]] = {}  # task → what a row would be made from

    def _read(self) -> dict[str, Row]:
        if not self.path.is_file() or not self.path.stat().st_size:
            return {}
        advice = "Delete that line, and its cell runs again."
        try:
            rows = read_jsonl(self.path, ROW)
        except UserError as error:
            raise UserError(f"{error} {advice}") from error
        found: dict[str, Row] = {}
        for number, row in enumerate(rows, 1):
            try:
                key = checked(row).key
                if key in found:
                    raise UserError("a row before it is of the same cell.")
            except UserError as error:
                raise UserError(f"{self.path}, row {number}: {error} {advice}") from error
            found[key] = row
        return found

    @property
    def rows(self) -> list[Row]:
        """Every row, in the order of the file."""
        return [self._rows[key] for key in sorted(self._rows)]

    def row(self, cell: Cell) -> Row | None:
        """A cell's row, whatever it was made from; None if it never ran."""
        return self._rows.get(cell.key)

    def is_finished(self, cell: Cell) -> bool:
        """Whether a cell has a row that was made from today's data and base, and by today's code if that was asked."""
        if cell.task not in self._now:
            self._now[cell.task] = provenance(cell.task)
        row, now = self.row(cell), self._now[cell.task]
        return row is not None and all(
            row["made_from"][name] == now[name] for name in now if self.same_code or name != "code"
        )

    def add(self, row: Row) -> None:
        """Keep a row, in the place of an older one of its cell; the file is written anew, aside, and renamed.

        Raises:
            UserError: no room on the disk, or no permission to write.
        """
        with locked(self.path):
            self._rows = {**self._read(), Cell(**row["cell"]).key: row}  # another program may have added some
            write_aside(self.path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())


ROW = {  # what every row has, and of which kind; `also` and `train_loss` may be missing
    **dict.fromkeys(("cell", "made_from", "scores", "versions"), dict),
    **dict.fromkeys(("loss", "share", "seconds"), float),
    **dict.fromkeys(("trained", "stored", "head", "base"), int),
}


def checked(row: Row) -> Cell:
    """The cell of a row that has all that is read of it.

    Raises:
        UserError: what is wrong with the row.
    """
    try:
        cell = Cell(**row["cell"])
    except TypeError as error:
        raise UserError(f"this is no cell ({error}).") from error
    for name in ("code", "data", "base"):
        if not isinstance(row["made_from"].get(name), str):
            raise UserError(f"'made_from' has no text {name!r}; it is {row['made_from']}.")
    for name, version in row["versions"].items():
        if not isinstance(version, str):
            raise UserError(f"the version of {name} has to be a text; it is {version!r}.")
    also = row.get("also") or {}
    if not isinstance(also, dict):
        raise UserError(f"'also' has to be {KINDS[dict]}; it is {also!r}.")
    scores = [("'scores'", row["scores"], score_names(cell))]
    for split in cell.also:
        names = ["prose", "skills"] if split == ABILITIES else ["loss", *score_names(cell)]
        scores.append((f"score of {split}", also.get(split), names))
    measured = [("loss", row["loss"]), ("share", row["share"]), ("seconds", row["seconds"])]
    if cell.steps or row.get("train_loss") is not None:
        measured.append(("train_loss", row.get("train_loss")))
    for where, found, names in scores:
        if not isinstance(found, dict):
            raise UserError(f"it has no {where}.")
        for name in names:
            if name not in found:
                raise UserError(f"its {where} has no {name!r}; there is {', '.join(found) or 'nothing'}.")
        measured += found.items()
    for name, value in measured:
        if not is_a(value, float) or not math.isfinite(value):
            raise UserError(f"{name!r} has to be a finite number; it is {value!r}.")
    return cell
