"""Counts the harmless changes that were made to the rows of a table.

Array suffixes: R data rows of the file, A accepted rows.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from embed.merging import DistinctPairs, count_duplicates
from embed.rows import Codes, SequenceColumn, Sides
from embed.table import Floats, Table


def count_changes(
    table: Table,
    sequences: Mapping[str, SequenceColumn],
    affinities_R: tuple[Floats, Sides] | None,
    pairs: DistinctPairs,
    row_A: Codes,
) -> dict[str, int]:
    """Count the rows that each change was made to, and those that repeat an earlier row in pair, id and affinity."""
    changed: dict[str, npt.NDArray[np.bool_]] = {}
    for column in sequences.values():
        for change, changed_R in column.changed_R.items():
            changed[change] = changed_R | changed.get(change, False)
    counts = {change: int(np.count_nonzero(changed_R[row_A])) for change, changed_R in changed.items()}
    keys: list[npt.NDArray[np.generic]] = [pairs.pair_A]
    if "id" in table.text:
        keys.append(table.text["id"].code_R[row_A])
    if affinities_R is not None:
        keys += [column_R[row_A] for column_R in affinities_R]
    counts["duplicate rows merged"] = count_duplicates(*keys)
    return {change: count for change, count in counts.items() if count}
