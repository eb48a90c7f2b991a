"""Rows that cannot be used: collected with their reasons, listed in an error, written to a file.

Array suffixes: R data rows of the file.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from embed.errors import PairsError
from embed.harmless import harmless
from embed.table import Column, Floats
from embed.texts import Texts

LISTED = 10
"""Rows or pairs that a message names before it only counts."""

_LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A data row that is not used, and why."""

    row: int
    """Number of the data row, from 1, the header and empty lines not counted."""
    id: str
    column: str
    value: str
    """The cell as it stands in the file; empty where there is none."""
    reason: str


class Rejections:
    """Gathers the rows that cannot be used; the first reason of a row counts."""

    def __init__(self, row_ids: Sequence[str]) -> None:
        self.accepted_R = np.ones(len(row_ids), bool)
        self._row_ids = row_ids
        self._rows: list[RejectedRow] = []
        self._stopping: set[int] = set()

    def add(
        self, name: str, column: Column[Texts] | Column[Floats], reasons: Mapping[int, str], *, stops: bool = True
    ) -> None:
        """Reject the rows that hold certain cells of a column.

        Args:
            name: The column's name in the file.
            column: The column.
            reasons: Why, by index into `column.cells`; -1 stands for null.
            stops: Whether such rows stop the run unless `on_bad_row` says otherwise.
        """
        bad = np.zeros(len(column.cells) + 1, bool)
        bad[list(reasons)] = True
        for row in np.flatnonzero(bad[column.code_R] & self.accepted_R).tolist():
            code = int(column.code_R[row])
            value = "" if code < 0 else str(column.cells[code])
            if stops:
                self._stopping.add(row)
            self._rows.append(
                RejectedRow(row=row + 1, id=self._row_ids[row], column=name, value=value, reason=reasons[code])
            )
        self.accepted_R &= ~bad[column.code_R]

    def listed(self) -> tuple[RejectedRow, ...]:
        """All rejected rows in the order of the file."""
        return tuple(sorted(self._rows, key=lambda rejected: rejected.row))

    def refuse(self, file: str, *, reject: bool) -> None:
        """Stop at rows that cannot be used, unless they may be rejected and others are left.

        Raises:
            PairsError: There are such rows; the message lists the first ten.
        """
        rows = f"{len(self.accepted_R):,} rows of {file}"
        if not self.accepted_R.any():
            raise PairsError(f"None of the {rows} can be used; correct them:{_listing(self.listed())}")
        stopping = tuple(rejected for rejected in self.listed() if rejected.row - 1 in self._stopping)
        if stopping and not reject:
            raise PairsError(
                f"{len(stopping):,} of the {rows} cannot be used; correct them, or set "
                f'pairs.on_bad_row = "reject" to list them in rejected.csv and go on:{_listing(stopping)}'
            )


def write_rejected(path: Path, rejected: Iterable[RejectedRow]) -> None:
    """Write rejected rows as CSV, safe to open in a spreadsheet or terminal."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(RejectedRow))
        writer.writerows([harmless(str(cell)) for cell in astuple(row)] for row in rejected)


def _listing(rejected: tuple[RejectedRow, ...]) -> str:
    lines = [
        f"\n  row {row.row}, id {row.id!r}, {row.column} {_short(row.value)!r}: {row.reason}"
        for row in rejected[:LISTED]
    ]
    more = len(rejected) - LISTED
    return "".join(lines) + (f"\n  and {more:,} more" if more > 0 else "")


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST_SHOWN else value[: _LONGEST_SHOWN - 3] + "..."
