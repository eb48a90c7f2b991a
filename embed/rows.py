"""Turns the cells of a table's columns into numbers, and rejects the rows whose cells cannot be used.

Each distinct cell is looked at once. Array suffixes: R data rows of the file, A accepted rows, C cells.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.affinity import NO_VALUE, AffinityError, CensoredError, Unit, read_affinity
from embed.rejected import Rejections
from embed.sequences import BadSequence, is_missing, normalise
from embed.table import Column

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DROP_CENSORED = 'set pairs.censored = "drop" to leave such rows out.'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceColumn:
    """A column of sequences, normalised."""

    distinct: list[str]
    index_R: Codes
    """Index into `distinct`; -1 where a row has none."""
    changed_R: dict[str, npt.NDArray[np.bool_]]
    """Harmless change -> the rows it was made to."""

    def used(self, row_A: Codes) -> list[str]:
        """Name the distinct sequences that some rows hold."""
        index = np.unique(self.index_R[row_A])
        return [self.distinct[at] for at in index[index >= 0].tolist()]


def read_sequences(
    column: Column[str], name: str, rejections: Rejections, *, missing: str = "", longest: int | None = None
) -> SequenceColumn:
    """Normalise a column of sequences.

    Args:
        column: The cells.
        name: The column's name in the file.
        rejections: Gathers the rows that cannot be used.
        missing: The reason why a row without sequence is rejected; empty: it is not.
        longest: Residues above which a sequence is rejected; None: any length.
    """
    number: dict[str, int] = {}
    index_C = np.full(len(column.cells) + 1, -1, np.int64)
    reasons = {-1: missing} if missing else {}
    changed: dict[str, list[int]] = {}
    for code, cell in enumerate(column.cells):
        if is_missing(cell):
            if missing:
                reasons[code] = missing
            continue
        try:
            normal = normalise(cell)
        except BadSequence as error:
            reasons[code] = str(error)
            continue
        if longest is not None and len(normal.sequence) > longest:
            reasons[code] = _too_long(len(normal.sequence), longest)
            continue
        index_C[code] = number.setdefault(normal.sequence, len(number))
        for change in normal.changes:
            changed.setdefault(change, []).append(code)
    rejections.add(name, column, reasons)
    return SequenceColumn(
        distinct=list(number),
        index_R=index_C[column.code_R],
        changed_R={change: np.isin(column.code_R, codes) for change, codes in changed.items()},
    )


def _too_long(length: int, longest: int) -> str:
    return (
        f'{length:,} residues, and embed.long = "error" allows {longest:,}; set embed.long to "window" or '
        '"truncate", or shorten the sequence.'
    )


def read_affinities(
    column: Column[str | float], name: str, unit: Unit, rejections: Rejections, *, drop_censored: bool
) -> Floats:
    """Read a column of affinities as pKd, float64 [R]; NaN where the row is rejected."""
    pkd_C = np.full(len(column.cells) + 1, np.nan)
    bad, censored = {-1: NO_VALUE}, {}
    way_out = "left out, as pairs.censored says." if drop_censored else _DROP_CENSORED
    for code, cell in enumerate(column.cells):
        try:
            pkd_C[code] = read_affinity(cell, unit)
        except CensoredError as error:
            censored[code] = f"{error}; {way_out}"
        except AffinityError as error:
            bad[code] = str(error)
    rejections.add(name, column, bad)
    rejections.add(name, column, censored, stops=not drop_censored)
    return pkd_C[column.code_R]


def reject_blank(column: Column[str], name: str, reason: str, rejections: Rejections) -> None:
    """Reject the rows whose cell is blank."""
    blank = {code: reason for code, cell in enumerate(column.cells) if not cell.strip()}
    rejections.add(name, column, {-1: reason} | blank)


def reject_shared_ids(
    column: Column[str], name: str, sequences: Iterable[SequenceColumn], rejections: Rejections
) -> None:
    """Reject the rows whose id (a cell of `column`) also names a row with other sequences."""
    row_A = np.flatnonzero(rejections.accepted_R)
    code_A = column.code_R[row_A]
    codes, first = np.unique(code_A, return_index=True)
    first_C = np.zeros(len(column.cells), np.int64)
    first_C[codes] = row_A[first]
    differs_A = np.zeros(len(row_A), np.bool_)
    for sequence in sequences:
        differs_A |= sequence.index_R[row_A] != sequence.index_R[first_C[code_A]]
    shared, other = np.unique(code_A[differs_A], return_index=True)
    other_row = row_A[differs_A][other]
    reasons = {
        code: f"rows {first_C[code] + 1} and {row + 1} have this id and different sequences; "
        'give every pair its own id, or set pairs.id = "" to number the rows.'
        for code, row in zip(shared.tolist(), other_row.tolist(), strict=True)
    }
    rejections.add(name, column, reasons)
