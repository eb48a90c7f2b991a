"""Turns the cells of a table's columns into numbers, and rejects the rows whose cells cannot be used.

Each distinct cell is looked at once, and the usual ones all together: Python looks at the others one by one.
Array suffixes: R data rows of the file, A accepted rows, C distinct cells, M of them that change, K kinds of numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.affinity import NO_VALUE, AffinityError, CensoredError, Unit, read_affinity
from embed.rejected import Rejections
from embed.sequences import NORMAL, BadSequence, is_missing, normalise
from embed.table import Column, Floats
from embed.texts import Texts

Codes = npt.NDArray[np.int64]

_DROP_CENSORED = 'set pairs.censored = "drop" to leave such rows out.'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceColumn:
    """A column of sequences, normalised."""

    distinct: Texts
    index_R: Codes
    """Index into `distinct`; -1 where a row has none."""
    changed_R: dict[str, npt.NDArray[np.bool_]]
    """Harmless change -> the rows it was made to."""

    def used(self, row_A: Codes) -> Texts:
        """Name the distinct sequences that some rows hold."""
        held = np.zeros(len(self.distinct) + 1, np.bool_)  # the last stands for index -1
        held[self.index_R[row_A]] = True
        return self.distinct.take(np.flatnonzero(held[:-1]))


def read_sequences(
    column: Column[Texts], name: str, rejections: Rejections, *, missing: str = "", longest: int | None = None
) -> SequenceColumn:
    """Normalise a column of sequences.

    Args:
        column: The cells.
        name: The column's name in the file.
        rejections: Gathers the rows that cannot be used.
        missing: The reason why a row without sequence is rejected; empty: it is not.
        longest: Residues above which a sequence is rejected; None: any length.
    """
    reasons = {-1: missing} if missing else {}
    changed: dict[str, npt.NDArray[np.bool_]] = {}

    def normal_of(code: int, cell: str) -> str | None:
        if is_missing(cell):
            if missing:
                reasons[code] = missing
            return None
        try:
            normal = normalise(cell)
        except BadSequence as error:
            reasons[code] = str(error)
            return None
        for change in normal.changes:
            if change not in changed:
                changed[change] = np.zeros(len(column.cells) + 1, np.bool_)
            changed[change][code] = True
        return normal.sequence

    other_M = np.flatnonzero(~column.cells.matches(NORMAL))
    distinct, index_C = column.cells.replace(other_M, map(normal_of, other_M.tolist(), column.cells.take(other_M)))
    if longest is not None:
        length_C = np.append(distinct.lengths(), 0)[index_C]
        long_C = np.flatnonzero(length_C > longest)
        reasons |= {int(code): _too_long(length_C[code], longest) for code in long_C}
        index_C[long_C] = -1
    rejections.add(name, column, reasons)
    return SequenceColumn(
        distinct=distinct,
        index_R=np.append(index_C, -1)[column.code_R],
        changed_R={change: changed_C[column.code_R] for change, changed_C in changed.items()},
    )


def _too_long(length: int, longest: int) -> str:
    return (
        f'{length:,} residues, and embed.long = "error" allows {longest:,}; set embed.long to "window" or '
        '"truncate", or shorten the sequence.'
    )


def read_affinities(
    column: Column[Texts] | Column[Floats], name: str, unit: Unit, rejections: Rejections, *, drop_censored: bool
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


def reject_blank(column: Column[Texts], name: str, reason: str, rejections: Rejections) -> None:
    """Reject the rows whose cell is blank."""
    other_M = np.flatnonzero(~column.cells.matches("[0-9A-Za-z]"))
    blank = {
        int(code): reason for code, cell in zip(other_M, column.cells.take(other_M), strict=True) if not cell.strip()
    }
    rejections.add(name, column, {-1: reason} | blank)


def reject_shared_ids(
    column: Column[Texts], name: str, sequences: Iterable[SequenceColumn], rejections: Rejections
) -> None:
    """Reject the rows whose id (a cell of `column`) also names a row with other sequences."""
    row_A = np.flatnonzero(rejections.accepted_R)
    code_A = column.code_R[row_A]
    first_C = np.zeros(len(column.cells), np.int64)
    first_C[code_A[::-1]] = row_A[::-1]  # of equal codes the last one written stays
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
