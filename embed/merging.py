"""Finds the distinct pairs among the accepted rows, and merges the rows of each.

Array suffixes: A accepted rows, N pairs, 2 antibody and antigen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embed.errors import PairsError
from embed.rejected import LISTED
from embed.rows import Codes, SequenceColumn
from embed.table import Column
from embed.texts import Antibodies, Texts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DistinctPairs:
    """Distinct antibodies, antigens and pairs, each in the order of first appearance."""

    antibodies: Antibodies
    antigens: Texts
    pair_N2: npt.NDArray[np.int32]
    """Index into `antibodies`, index into `antigens`."""
    pair_A: Codes
    """The pair of each accepted row."""
    first_N: Codes
    """The first accepted row of each pair, as an index into the accepted rows."""


def find_pairs(sequences: Mapping[str, SequenceColumn], row_A: Codes) -> DistinctPairs:
    """Find the distinct pairs among some rows of the heavy, light and antigen columns."""
    heavy, light, antigen = (sequences[role] for role in ("heavy", "light", "antigen"))
    heavy_A, light_A, target_A = heavy.index_R[row_A], light.index_R[row_A], antigen.index_R[row_A]
    lights = len(light.distinct) + 1  # a missing light chain has index -1
    antibody_A, chains_U = _number_by_appearance(heavy_A * lights + light_A + 1)
    antigen_A, target_U = _number_by_appearance(target_A)
    pair_A, pair_N = _number_by_appearance(antibody_A * len(target_U) + antigen_A)
    return DistinctPairs(
        antibodies=Antibodies(heavy.distinct.take(chains_U // lights), light.distinct, chains_U % lights - 1),
        antigens=antigen.distinct.take(target_U),
        pair_N2=np.stack([pair_N // len(target_U), pair_N % len(target_U)], axis=1).astype(np.int32),
        pair_A=pair_A,
        first_N=_first_rows(pair_A),
    )


def _number_by_appearance(code_A: Codes) -> tuple[Codes, Codes]:
    """Number distinct codes as they first appear; return each row's number, and each number's code."""
    encoded = pa.array(code_A).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_numpy()


def _first_rows(number_A: Codes) -> Codes:
    """Find the row where each number first appears, given that they rise as they appear."""
    highest_A = np.maximum.accumulate(number_A)
    return np.flatnonzero(np.diff(highest_A, prepend=-1))


def count_duplicates(*keys_A: npt.NDArray[np.generic]) -> int:
    """Count the rows that agree with an earlier row in every key."""
    order = np.lexsort(keys_A)
    same = np.logical_and.reduce([key_A[order][1:] == key_A[order][:-1] for key_A in keys_A])
    return int(np.count_nonzero(same))


def split_of_pairs(column: Column[Texts], name: str, pairs: DistinctPairs, row_A: Codes, ids: Sequence[str]) -> Texts:
    """Name each pair's part of the split.

    Raises:
        PairsError: Rows of one pair name different parts.
    """
    code_A = column.code_R[row_A]
    first_A = pairs.first_N[pairs.pair_A]
    torn = np.flatnonzero(code_A != code_A[first_A])
    if len(torn):
        told = zip(torn.tolist(), first_A[torn].tolist(), strict=True)
        listed = "".join(
            f"\n  {ids[row_A[first]]!r}: row {row_A[first] + 1} {column.cells[code_A[first]]!r}, "
            f"row {row_A[row] + 1} {column.cells[code_A[row]]!r}"
            for row, first in islice(told, LISTED)
        )
        raise PairsError(
            f"Rows in another part of the split than an earlier row of their pair: {len(torn):,}. "
            f"Give all rows of a pair the same value in column {name!r}:{listed}"
        )
    return column.cells.take(code_A[pairs.first_N])
