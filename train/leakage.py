"""What the test pairs share with the training pairs, and how good predictions are on those that do not.

Shape suffixes: N pairs, M training pairs, T test pairs, U distinct sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from train.identity import Library
from train.metrics import Metrics, Values, evaluate
from train.splits import Split

Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

LEAST_PAIRS = 10
"""Test pairs below which the rest is not scored."""

_MOST_COMPARISONS = 1 << 28
"""Pairs of sequences, of each side, after which no more are compared: some 10 to 30 seconds."""

_FIRST_LOOKS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Which test pairs share what with training, by name of what is shared.

    `antibody` and `antigen`: the very sequences. `near_antibody` and `near_antigen`: a heavy chain, or an antigen, of
    the stated identity or more. `near_either` and `near_both`: one of these two, or both, not of one training pair.
    """

    seen_T: dict[str, Flags]
    unsought: int
    """Distinct test sequences, of both sides, that were too many to be sought: they count as near."""

    def shares(self) -> dict[str, float]:
        """Tell the share of test pairs that share each."""
        return {name: float(flag_T.mean()) if len(flag_T) else 0.0 for name, flag_T in self.seen_T.items()}

    def scores_of_rest(self, target_T: Values, prediction_T: Values, measured_T: Flags) -> dict[str, Metrics | None]:
        """Score the test pairs that do not share each; None where fewer than 10 of them have a measured value."""
        found: dict[bytes, Metrics | None] = {}
        for flag_T in self.seen_T.values():
            rest_T = ~flag_T & measured_T
            if flag_T.tobytes() not in found:
                enough = np.count_nonzero(rest_T) >= LEAST_PAIRS
                found[flag_T.tobytes()] = evaluate(target_T[rest_T], prediction_T[rest_T]) if enough else None
        return {name: found[flag_T.tobytes()] for name, flag_T in self.seen_T.items()}


def find_leakage(split: Split, table: PairTable, identity: float) -> Leakage:
    """Find what the test pairs share with training, at an identity from which sequences are near."""
    train_M2, test_T2 = (table.pair_N2[split.rows(part)].astype(np.int64) for part in ("train", "test"))
    heavies, heavy_U = np.unique([heavy for heavy, _ in table.antibodies], return_inverse=True)
    near_antibody_T, more = _near(heavies.tolist(), heavy_U[train_M2[:, 0]], heavy_U[test_T2[:, 0]], identity)
    near_antigen_T, most = _near(list(table.antigens), train_M2[:, 1], test_T2[:, 1], identity)
    seen_T = {
        "antibody": np.isin(test_T2[:, 0], train_M2[:, 0]),
        "antigen": np.isin(test_T2[:, 1], train_M2[:, 1]),
        "near_antibody": near_antibody_T,
        "near_antigen": near_antigen_T,
        "near_either": near_antibody_T | near_antigen_T,
        "near_both": near_antibody_T & near_antigen_T,
    }
    return Leakage(seen_T=seen_T, unsought=more + most)


def _near(sequences: Sequence[str], train_M: Index, test_T: Index, identity: float) -> tuple[Flags, int]:
    """Tell which test pairs have a sequence near to one of training; the second value counts those not sought."""
    trained_U = np.unique(train_M)
    sought = np.random.Generator(np.random.Philox(key=0)).permutation(np.setdiff1d(test_T, trained_U)).tolist()
    near_U = np.ones(len(sequences), np.bool_)
    library = Library([sequences[at] for at in trained_U.tolist()] if sought else [], identity)
    compared = unsought = 0
    for at in sought:
        if compared > _MOST_COMPARISONS:
            unsought += 1
            continue
        near_U[at], looks = _is_near(sequences[at], library)
        compared += looks
    return near_U[test_T], unsought


def _is_near(sequence: str, library: Library) -> tuple[bool, int]:
    """Look through a library in stretches that double, as most sequences find a neighbour soon; and count the looks."""
    start, stop = 0, _FIRST_LOOKS
    while start < len(library):
        stretch = np.arange(start, min(stop, len(library)))
        if library.near(sequence, stretch).any():
            return True, int(stretch[-1]) + 1
        start, stop = stop, 2 * stop
    return False, len(library)
