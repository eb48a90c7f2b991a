"""Where each key is: sorted keys beside their locations, no Python object per key.

Shapes: K distinct keys, M keys before equal ones are joined, T keys that have equals, N keys asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.store.schema import key_halves

MISSING = -1


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """Keys as two big-endian halves, in rising order once built, and the location of each."""

    high_K: npt.NDArray[np.uint64]
    low_K: npt.NDArray[np.uint64]
    location_K: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.high_K)

    def find(self, key_N16: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Look keys up: int64 [N], -1 where missing."""
        if not len(self) or not len(key_N16):
            return np.full(len(key_N16), MISSING, np.int64)
        high_N, low_N = key_halves(key_N16)
        order_N = np.argsort(high_N)  # asking in order keeps the search in the cache
        place_N = np.empty(len(key_N16), np.int64)
        place_N[order_N] = np.searchsorted(self.high_K, high_N[order_N])
        np.minimum(place_N, len(self) - 1, out=place_N)
        behind_N = self._behind(place_N, high_N, low_N)
        while behind_N.any():  # two keys share their high half: practically never
            place_N += behind_N
            behind_N = self._behind(place_N, high_N, low_N)
        found_N = (self.high_K[place_N] == high_N) & (self.low_K[place_N] == low_N)
        return np.where(found_N, self.location_K[place_N], MISSING)

    def _behind(
        self, place_N: npt.NDArray[np.int64], high_N: npt.NDArray[np.uint64], low_N: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        behind_N: npt.NDArray[np.bool_] = (self.high_K[place_N] == high_N) & (self.low_K[place_N] < low_N)
        return behind_N & (place_N < len(self) - 1)


NO_KEYS = KeyIndex(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))


def build_index(
    known: KeyIndex, added: KeyIndex, rank_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
) -> KeyIndex:
    """Join and sort keys; of equal keys the one stays whose location has the lowest rank."""
    high_M = np.concatenate([known.high_K, added.high_K])
    low_M = np.concatenate([known.low_K, added.low_K])
    location_M = np.concatenate([known.location_K, added.location_K])
    order_M = np.argsort(high_M)
    tied_M = _with_equals(high_M[order_M])
    tied_T = order_M[tied_M]
    order_M[tied_M] = tied_T[np.lexsort((rank_of(location_M[tied_T]), low_M[tied_T], high_M[tied_T]))]
    high_M, low_M = high_M[order_M], low_M[order_M]
    first_M = np.ones(len(high_M), np.bool_)
    first_M[1:] = (high_M[1:] != high_M[:-1]) | (low_M[1:] != low_M[:-1])
    return KeyIndex(high_M[first_M], low_M[first_M], location_M[order_M][first_M])


def _with_equals(sorted_M: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Mark the values that occur more than once."""
    with_M = np.zeros(len(sorted_M), np.bool_)
    equal = sorted_M[1:] == sorted_M[:-1]
    with_M[1:] |= equal
    with_M[:-1] |= equal
    return with_M
