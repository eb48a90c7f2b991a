"""What the rows of each pair say together about its affinity.

Array suffixes: A accepted rows, B those of them that count, N pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.errors import PairsError
from embed.merging import DistinctPairs
from embed.rejected import LISTED
from embed.rows import Codes, Sides
from embed.table import Floats

_WIDE = 1.0 + 1e-9
"""Log units between replicates above which they contradict each other; the rest is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affinities:
    """What the rows of each pair say together."""

    pkd_N: Floats
    """Median of the measured rows; of a pair that has bounds alone, the tightest."""
    side_N: Sides
    spread_N: Floats
    """Largest minus smallest measured pKd."""
    measurements_N: npt.NDArray[np.int32]
    """Measured rows, each duplicate (same id, same pKd) counted once; 0 where there are bounds alone."""
    deviation_N: Floats
    """Sum of their squared deviations from their mean."""
    left_out: dict[str, int]
    """What was left out -> rows: bounds of pairs that are measured too, which say less."""

    @classmethod
    def none(cls, pairs: int) -> "Affinities":
        """Say nothing about some pairs."""
        nothing_N = np.zeros(pairs)
        sides_N, counts_N = np.zeros(pairs, np.int8), np.zeros(pairs, np.int32)
        return cls(
            pkd_N=np.full(pairs, np.nan),
            side_N=sides_N,
            spread_N=nothing_N,
            measurements_N=counts_N,
            deviation_N=nothing_N,
            left_out={},
        )


def merge_affinities(pairs: DistinctPairs, pkd_A: Floats, side_A: Sides, id_A: Codes, ids: Sequence[str]) -> Affinities:
    """Merge the affinities of each pair's rows.

    Args:
        pairs: The pair of each row.
        pkd_A: What the rows say.
        side_A: 0 for a measured value, else the side of a bound.
        id_A: Number of each row's id.
        ids: Id of each pair, for errors.

    Raises:
        PairsError: A pair has bounds on both sides, and no measured value.
    """
    pair_N = len(pairs.pair_N2)
    measured_A = side_A == 0
    measured_N = np.bincount(pairs.pair_A, measured_A, pair_N) > 0
    counts_A = measured_A | ~measured_N[pairs.pair_A]
    pair_B, pkd_B = pairs.pair_A[counts_A], pkd_A[counts_A]
    pkd_N, spread_N = median_of_pairs(pair_B, pkd_B)
    side_N = np.zeros(pair_N, np.int8)
    if not measured_A.all():
        lowest_N, highest_N = np.full(pair_N, np.inf), np.full(pair_N, -np.inf)
        np.minimum.at(lowest_N, pair_B, pkd_B)
        np.maximum.at(highest_N, pair_B, pkd_B)
        most_N, least_N = (~measured_N & (np.bincount(pairs.pair_A, side_A == side, pair_N) > 0) for side in (-1, 1))
        _refuse_two_sides(np.flatnonzero(most_N & least_N), ids)
        side_N[least_N], side_N[most_N] = 1, -1
        pkd_N = np.select([least_N, most_N], [highest_N, lowest_N], pkd_N)
        spread_N[~measured_N] = 0
    pair_B, pkd_B = _without_duplicates(pairs.pair_A[measured_A], id_A[measured_A], pkd_A[measured_A])
    count_N = np.bincount(pair_B, minlength=pair_N)
    mean_N = np.bincount(pair_B, pkd_B, pair_N) / np.maximum(count_N, 1)
    return Affinities(
        pkd_N=pkd_N,
        side_N=side_N,
        spread_N=spread_N,
        measurements_N=count_N.astype(np.int32),
        deviation_N=np.bincount(pair_B, (pkd_B - mean_N[pair_B]) ** 2, pair_N).astype(np.float64),
        left_out={} if counts_A.all() else {"bounds of measured pairs left out": int(np.count_nonzero(~counts_A))},
    )


def _without_duplicates(pair_A: Codes, id_A: Codes, pkd_A: Floats) -> tuple[Codes, Floats]:
    order = np.lexsort((pkd_A, id_A, pair_A))
    same = np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in (pair_A, id_A, pkd_A)])
    kept = order[np.append(True, ~same)[: len(order)]]
    return pair_A[kept], pkd_A[kept]


def _refuse_two_sides(torn: Codes, ids: Sequence[str]) -> None:
    if len(torn):
        listed = ", ".join(repr(ids[pair]) for pair in torn[:LISTED].tolist()) + (", ..." if len(torn) > LISTED else "")
        raise PairsError(
            f"Pairs with bounds on both sides and no measured value: {len(torn):,} ({listed}); keep one of the two, or "
            'set pairs.censored = "drop".'
        )


def median_of_pairs(pair_A: Codes, pkd_A: Floats) -> tuple[Floats, Floats]:
    """Take the median and the spread (largest minus smallest) of each pair's rows; float64 [N] both."""
    order = np.lexsort((pkd_A, pair_A))
    sorted_A = pkd_A[order]
    count_N = np.bincount(pair_A)
    start_N = np.cumsum(count_N) - count_N
    lower_N, upper_N = sorted_A[start_N + (count_N - 1) // 2], sorted_A[start_N + count_N // 2]
    spread_N = sorted_A[start_N + count_N - 1] - sorted_A[start_N]
    return np.where(lower_N == upper_N, lower_N, (lower_N + upper_N) / 2), spread_N


def list_wide(spread_N: Floats, ids: Sequence[str]) -> str:
    """List the pairs whose rows are more than one log unit apart, with the spread of the first ten."""
    wide = np.flatnonzero(spread_N > _WIDE).tolist()
    if not wide:
        return ""
    listed = ", ".join(f"{ids[pair]!r} {spread_N[pair]:.2f}" for pair in wide[:LISTED])
    more = ", ..." if len(wide) > LISTED else ""
    return f"Pairs whose replicates are more than 1 log unit apart: {len(wide):,} ({listed}{more})"
