"""Turns the cells of a table's columns into numbers, and rejects the rows whose cells cannot be used.

Each distinct cell is looked at once, and the usual ones all together: Python looks at the others one by one.
Array suffixes: R data rows of the file, A accepted rows, C distinct cells, M of them that change, K kinds of numbers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from embed.affinity import NO_VALUE, AffinityError, CensoredError, Unit, read_affinity, read_bound
from embed.rejected import Rejections
from embed.sequences import LONGEST, NORMAL, SHORTEST, BadSequence, is_missing, normalise
from embed.table import Column, Floats
from embed.texts import Texts

Censored = Literal["error", "drop", "use"]
Codes = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int8]
"""Of pKd values: 0 measured, 1 at least this, -1 at most this."""

_SPREADSHEET_ERROR = re.compile(r"\s*#(REF!|NAME\?|VALUE!|DIV/0!|NUM!|NULL!|N/A|SPILL!|CALC!)")
_WAY_OUT: dict[Censored, str] = {
    "error": 'set pairs.censored = "drop" to leave such rows out, or "use" to learn from bounds.',
    "drop": "left out, as pairs.censored says.",
    "use": "left out.",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SequenceColumn:
    """A column of sequences, normalised."""

    distinct: Texts
    length_C: npt.NDArray[np.int32]
    """Residues of each of them."""
    index_R: Codes
    """Index into `distinct`; -1 where a row has none."""
    changed_R: dict[str, npt.NDArray[np.bool_]]
    """Harmless change -> the rows it was made to."""


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
    length_C = distinct.lengths()
    unfit_C = (length_C < SHORTEST) | (length_C > min(LONGEST, longest or LONGEST))
    for code in np.flatnonzero(np.append(unfit_C, False)[index_C]).tolist():  # the last stands for none, index -1
        reasons[code] = _unfit(int(length_C[index_C[code]]), longest)
        index_C[code] = -1
    rejections.add(name, column, reasons)
    return SequenceColumn(
        distinct=distinct,
        length_C=length_C,
        index_R=np.append(index_C, -1)[column.code_R],
        changed_R={change: changed_C[column.code_R] for change, changed_C in changed.items()},
    )


def _unfit(length: int, longest: int | None) -> str:
    if length < SHORTEST:
        return f"{length} residues, and a sequence has at least {SHORTEST}; give the whole of it."
    if longest is None or length > LONGEST:
        return f"{length:,} residues, and at most {LONGEST:,} may be; give the domain that binds."
    return (
        f'{length:,} residues, and embed.long = "error" allows {longest:,}; set embed.long to "window" or '
        '"truncate", or shorten the sequence.'
    )


def read_affinities(
    column: Column[Texts] | Column[Floats], name: str, unit: Unit, rejections: Rejections, *, censored: Censored
) -> tuple[Floats, Sides]:
    """Read a column of affinities as pKd, float64 [R], NaN where the row is rejected, and the sides of bounds."""
    pkd_C, side_C = np.full(len(column.cells) + 1, np.nan), np.zeros(len(column.cells) + 1, np.int8)
    bad, unclear = {-1: NO_VALUE}, {}
    for code, cell in enumerate(column.cells):
        try:
            try:
                pkd_C[code] = read_affinity(cell, unit)
            except CensoredError:
                if censored != "use":
                    raise
                pkd_C[code], side_C[code] = read_bound(str(cell), unit)
        except CensoredError as error:
            unclear[code] = f"{error}; {_WAY_OUT[censored]}"
        except AffinityError as error:
            bad[code] = str(error)
    rejections.add(name, column, bad)
    rejections.add(name, column, unclear, stops=censored == "error")
    return pkd_C[column.code_R], side_C[column.code_R]


def reject_blank(column: Column[Texts], name: str, reason: str, rejections: Rejections) -> None:
    """Reject the rows whose cell is blank, or holds the error of a spreadsheet's formula."""
    other_M = np.flatnonzero(~column.cells.matches("^[0-9A-Za-z]"))
    reasons = {-1: reason}
    for code, cell in zip(other_M.tolist(), column.cells.take(other_M), strict=True):
        if not cell.strip():
            reasons[code] = reason
        elif _SPREADSHEET_ERROR.match(cell):
            reasons[code] = "an error of the spreadsheet that wrote the table; put the value back."
    rejections.add(name, column, reasons)


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
