"""The rows on disk, one line of JSON for each finished cell: of all experiments, so that none measures it again."""

from __future__ import annotations

import json
from pathlib import Path

from minitransformer.course.lab.cells import Cell, Row
from minitransformer.course.lab.provenance import provenance
from minitransformer.errors import UserError
from minitransformer.files import locked, write_aside
from minitransformer.text.corpora import read_jsonl


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
            rows = read_jsonl(self.path, ("cell", "made_from", "scores", "loss", "stored"))
        except UserError as error:
            raise UserError(f"{error} {advice}") from error
        found: dict[str, Row] = {}
        for number, row in enumerate(rows, 1):
            try:
                key = Cell(**row["cell"]).key
            except TypeError as error:
                raise UserError(f"{self.path}, row {number}: this is no cell ({error}). {advice}") from error
            if key in found:
                raise UserError(f"{self.path}, row {number}: a row before it is of the same cell. {advice}")
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
