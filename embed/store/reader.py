"""Reading a store: keys and locations in memory, vectors mapped from the shards.

Shapes: N keys or locations, R rows of all shards, S shards, T residues asked for, D width of a vector, 16 bytes of a
sequence key.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store.folder import read_fingerprint, shard_paths
from embed.store.index import NO_KEYS, KeyIndex, build_index
from embed.store.schema import key_halves
from embed.store.shard import Shard, VectorRows, open_shard
from embed.store.verified import WAY_OUT, Verified

Locations = npt.NDArray[np.int64]

KEPT_MAPPINGS = 128  # each holds one file open, and a process usually has 1,024


class Vectors:
    """All vectors published under one fingerprint; a location stays good for as long as this object lives."""

    def __init__(self, folder: Path) -> None:
        """Open a fingerprint's folder; one that does not exist is empty.

        Raises:
            StoreError: A shard is damaged, hostile, or of another fingerprint or width.
        """
        self.dim = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._kind = ""
        self.fingerprint = ""
        self._folder = folder
        self._index: KeyIndex = NO_KEYS
        self._slots: dict[Path, int] = {}
        self._vectors = _Mapped()
        self._residues = _Mapped()
        self._start_S = np.empty(0, np.int64)
        self._length_R = np.empty(0, np.int32)
        self._rows_R = np.empty(0, np.int32)
        self._first_R = np.empty(0, np.int64)
        """Where the residues of each row begin among those of its shard."""
        self.refresh()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def has_residues(self) -> bool:
        """Whether each residue has a vector too; a sequence's vector is then the mean of these."""
        return bool(self._residues.places)

    def find(self, key_N16: npt.NDArray[np.uint8]) -> Locations:
        """Look keys up: int64 [N] to hand to `read` and `lengths`, -1 where missing."""
        return self._index.find(key_N16)

    def read(self, location_N: Locations, out_ND: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Gather vectors, float32 [N, D], into `out_ND` where it is given.

        Raises:
            StoreError: A location is -1, or a shard was changed or removed.
        """
        self._refuse_missing(location_N)
        if out_ND is None:
            out_ND = np.empty((len(location_N), self.dim), np.float32)
        order_N = np.argsort(location_N)  # from front to back of each shard
        slot_N = self._slot_of(location_N[order_N])
        for slot in np.unique(slot_N).tolist():
            place = order_N[slice(*np.searchsorted(slot_N, (slot, slot + 1)))]
            out_ND[place] = self._vectors.of(slot)[location_N[place] - self._start_S[slot]]
        return out_ND

    def rows(self, location_N: Locations) -> npt.NDArray[np.int32]:
        """Count the residues of each sequence that have a vector, int32 [N].

        Raises:
            StoreError: A location is -1, or residues have no vectors here.
        """
        self._refuse_missing(location_N)
        if not self.has_residues:
            raise StoreError(f"{self._folder} holds a vector of each sequence, and none of residues.")
        return self._rows_R[location_N]

    def residue_count(self) -> int:
        """Count the residues that have a vector, of all keys."""
        return int(self._rows_R[self._index.location_K].sum(dtype=np.int64)) if self.has_residues else 0

    def residues(self, location: int) -> npt.NDArray[np.float16]:
        """Show the vectors of a sequence's residues in the mapped shard, read-only float16 [L, D].

        Raises:
            StoreError: The location is -1, residues have no vectors here, or the shard was changed or removed.
        """
        location_1 = np.array([location])
        rows = int(self.rows(location_1)[0])
        first = int(self._first_R[location])
        return self._residues.of(int(self._slot_of(location_1)[0]))[first : first + rows]

    def read_residues(self, location_N: Locations, out_TD: npt.NDArray[np.float16]) -> None:
        """Copy the vectors of residues, those of one sequence after those of another, into all of `out_TD`.

        Raises:
            StoreError: A location is -1, residues have no vectors here, or a shard was changed or removed.
        """
        end_N = np.cumsum(self.rows(location_N), dtype=np.int64)
        for place in np.argsort(location_N).tolist():  # from front to back of each shard
            residue_LD = self.residues(int(location_N[place]))
            out_TD[end_N[place] - len(residue_LD) : end_N[place]] = residue_LD

    def lengths(self, location_N: Locations) -> npt.NDArray[np.int32]:
        """Gather the residues of each sequence, int32 [N].

        Raises:
            StoreError: A location is -1.
        """
        self._refuse_missing(location_N)
        return self._length_R[location_N]

    def refresh(self) -> None:
        """See what was published, or removed, since.

        Raises:
            StoreError: A shard is damaged, hostile, or of another fingerprint or width.
        """
        if not self._folder.exists():
            return
        self.fingerprint = read_fingerprint(self._folder).digest
        present = shard_paths(self._folder)
        if not self._slots.keys() <= set(present):
            self._index, self._slots = NO_KEYS, {}  # keys may have gone with a shard: index what is left
        opened = list(self._open([path for path in present if path not in self._slots]))
        if opened:
            self._take(opened)

    def redundant(self) -> list[Path]:
        """List the shards all of whose keys are found in shards of lower name."""
        winners = set(np.unique(self._slot_of(self._index.location_K)).tolist())
        return sorted(path for path, slot in self._slots.items() if slot not in winners)

    def _open(self, paths: list[Path]) -> Iterator[Shard]:
        verified = Verified(self._folder)
        try:
            for path in paths:
                try:
                    verified.check(path)
                    shard = open_shard(path, fingerprint=self.fingerprint, dim=self.dim or None)
                except FileNotFoundError:  # listed, and removed as redundant before it was opened
                    continue
                self._agree(shard)
                yield shard
        finally:
            verified.save()

    def _agree(self, shard: Shard) -> None:
        vector = shard.vector
        if not self.dim:
            self.dim, self.dtype, self._kind = vector.shape[1], vector.dtype, shard.kind
        if shard.kind != self._kind:
            raise StoreError(f"{vector.path} holds {shard.kind}, its folder {self._kind}. {WAY_OUT}.")

    def _take(self, shards: list[Shard]) -> None:
        """Append shards behind those known, so that locations stay good, and index their keys."""
        start_S = len(self._length_R) + np.cumsum([0, *(len(shard.key_N16) for shard in shards)])
        for slot, shard in enumerate(shards, len(self._vectors.places)):
            self._slots[shard.vector.path] = slot
            self._vectors.places.append(shard.vector)
            if shard.residues is not None:
                self._residues.places.append(shard.residues)
        self._start_S = np.concatenate([self._start_S, start_S[:-1]])
        self._length_R = np.concatenate([self._length_R, *(shard.length_N for shard in shards)])
        rows = [shard.rows_N for shard in shards if shard.rows_N is not None]
        self._rows_R = np.concatenate([self._rows_R, *rows])
        self._first_R = np.concatenate([self._first_R, *(np.cumsum(n, dtype=np.int64) - n for n in rows)])
        high_M, low_M = key_halves(np.concatenate([shard.key_N16 for shard in shards]))
        added = KeyIndex(high_M, low_M, np.arange(start_S[0], start_S[-1]))
        rank_S = np.argsort(np.argsort([vector.path.name for vector in self._vectors.places]))
        self._index = build_index(self._index, added, lambda location_M: rank_S[self._slot_of(location_M)])

    def _slot_of(self, location_N: Locations) -> npt.NDArray[np.int64]:
        return np.searchsorted(self._start_S, location_N, side="right") - 1

    @staticmethod
    def _refuse_missing(location_N: Locations) -> None:
        missing = np.count_nonzero(location_N < 0)
        if missing:
            raise StoreError(f"{missing} of {len(location_N)} vectors are not in the store: run `bindcache embed`.")


class _Mapped:
    """One array of each shard, mapped when it is first asked for."""

    def __init__(self) -> None:
        self.places: list[VectorRows] = []
        self._kept: dict[int, npt.NDArray[Any]] = {}

    def of(self, slot: int) -> npt.NDArray[Any]:
        if slot in self._kept:
            return self._kept[slot]
        mapped = self.places[slot].map()
        if len(self._kept) < KEPT_MAPPINGS:
            self._kept[slot] = mapped
        return mapped
