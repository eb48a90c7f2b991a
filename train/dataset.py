"""What the train stage reads: pairs as row numbers into two matrices that hold each distinct vector once.

Shapes: N pairs, B rows asked for, U distinct sequences, T residues of some of them, D width of one vector, F width of
both of a pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from embed.pairs import PairTable
from embed.sequences import antibody_keys, antigen_keys
from embed.store.reader import Vectors
from train.errors import TrainError

_BLOCK_VALUES = 1 << 20
_RESIDUE_VALUES = 1 << 22

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFolders:
    """Store folders that hold the vectors of a table."""

    paired: Path
    """Antibodies with both chains."""
    single: Path
    """Antibodies without light chain; the same folder unless another checkpoint reads them."""
    antigen: Path
    """Antigens."""


class Matrix:
    """One float32 vector per distinct sequence, and perhaps those of its residues, read from the mapped shards."""

    def __init__(
        self,
        dim: int,
        readers: Sequence[Vectors],
        reader_U: npt.NDArray[np.int8],
        location_U: npt.NDArray[np.int64],
    ) -> None:
        """Row u is the vector at `location_U[u]` of `readers[reader_U[u]]`."""
        self.dim = dim
        self._readers = readers
        self._reader_U = reader_U
        self._location_U = location_U
        self._resident_UD: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, vector_UD: npt.NDArray[np.float32]) -> "Matrix":
        """Hold an array that is in memory already; it is not copied."""
        rows, dim = vector_UD.shape
        matrix = cls(dim, (), np.zeros(rows, np.int8), np.zeros(rows, np.int64))
        matrix._resident_UD = np.ascontiguousarray(vector_UD, np.float32)
        return matrix

    def __len__(self) -> int:
        return len(self._location_U)

    @property
    def has_residues(self) -> bool:
        """Whether each residue has a vector too; a sequence's vector is then the mean of these."""
        return any(reader.has_residues for reader in self._readers)

    def residue_counts(self, index_B: Index) -> Index:
        """Count the residues of sequences that have a vector."""
        count_B = np.empty(len(index_B), np.int64)
        for reader, place in self._by_reader(index_B):
            count_B[place] = reader.rows(self._location_U[index_B[place]])
        return count_B

    def gather_residues(self, index_B: Index, out_TD: npt.NDArray[np.float16] | None = None) -> npt.NDArray[np.float16]:
        """Copy the vectors of residues, sequence after sequence, to all of `out_TD` or to a new array."""
        end_B = np.cumsum(self.residue_counts(index_B))
        out_TD = np.empty((int(end_B[-1]), self.dim), np.float16) if out_TD is None else out_TD
        for reader, place in self._by_reader(index_B):
            if len(place) == len(index_B):
                reader.read_residues(self._location_U[index_B], out_TD)
                break
            for one in place.tolist():
                residue_LD = reader.residues(int(self._location_U[index_B[one]]))
                out_TD[end_B[one] - len(residue_LD) : end_B[one]] = residue_LD
        return out_TD

    def _by_reader(self, index_B: Index) -> Iterator[tuple[Vectors, Index]]:
        """Yield each reader with the places of the rows that it holds, where it holds any."""
        reader_B = self._reader_U[index_B]
        for number, reader in enumerate(self._readers):
            (place,) = np.nonzero(reader_B == number)
            if len(place):
                yield reader, place

    def gather(
        self, index_B: npt.NDArray[np.int64], out_BD: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Copy rows, in the order asked for, to `out_BD` or to a new array."""
        out_BD = np.empty((len(index_B), self.dim), np.float32) if out_BD is None else out_BD
        if self._resident_UD is not None:
            resident_UD, index = torch.from_numpy(self._resident_UD), torch.from_numpy(index_B)
            torch.index_select(resident_UD, 0, index, out=torch.from_numpy(out_BD))
            return out_BD
        location_B = self._location_U[index_B]
        for reader, place in self._by_reader(index_B):
            if len(place) == len(index_B):
                return reader.read(location_B, out_BD)
            out_BD[place] = reader.read(location_B[place])
        return out_BD

    def varying(self, row_U: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which columns are not the same number in all of these rows, bool [D]."""
        low_D, high_D = np.full(self.dim, np.inf, np.float32), np.full(self.dim, -np.inf, np.float32)
        for index_B in blocks(row_U, self.dim):
            block_BD = self.gather(index_B)
            np.minimum(low_D, block_BD.min(axis=0), out=low_D)
            np.maximum(high_D, block_BD.max(axis=0), out=high_D)
        return low_D < high_D


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs of a table and the vectors they point to; no vector is copied per pair."""

    row_N2: npt.NDArray[np.int64]
    """Row of the antibody matrix and row of the antigen matrix."""
    target_N: npt.NDArray[np.float32]
    """Affinity as pKd; NaN where the table has none."""
    antibodies: Matrix
    antigens: Matrix
    id: Sequence[str]
    side_N: npt.NDArray[np.int8] | None = None
    """0 where the affinity is measured; where it is a bound, 1: at least this, -1: at most this; None: all measured."""

    def __len__(self) -> int:
        return len(self.row_N2)

    @property
    def dim(self) -> int:
        """Width of both vectors side by side."""
        return self.antibodies.dim + self.antigens.dim

    def measured(self, index_M: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Leave bounds out of pairs, which are no values to fit or to score exactly."""
        return index_M if self.side_N is None else index_M[self.side_N[index_M] == 0]

    def features(self, index_B: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Gather antibody and antigen vectors of pairs side by side, [B, F]."""
        row_B2 = self.row_N2[index_B]
        return np.hstack([self.antibodies.gather(row_B2[:, 0]), self.antigens.gather(row_B2[:, 1])])

    def varying(self, index_M: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """List the features that are not the same number in all of these pairs."""
        used = (np.unique(row_M) for row_M in self.row_N2[index_M].T)
        sides = (side.varying(row_U) for side, row_U in zip((self.antibodies, self.antigens), used, strict=True))
        return np.flatnonzero(np.concatenate(list(sides)))


def distinct_rows(row_M2: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """Renumber the rows of pairs among those in use; the second value lists these, of each side."""
    sides = [np.unique(row_M, return_inverse=True) for row_M in row_M2.T]
    return np.stack([place_M for _, place_M in sides], axis=1), [row_U for row_U, _ in sides]


def blocks(index_N: npt.NDArray[np.int64], width: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut row numbers into stretches whose rows of `width` values stay small: 8 MiB as float64."""
    step = max(1, _BLOCK_VALUES // max(1, width))
    for start in range(0, len(index_N), step):
        yield index_N[start : start + step]


def residue_blocks(matrix: Matrix, index_B: Index) -> Iterator[Index]:
    """Cut rows into stretches whose residues take little memory: 8 MiB, unless a sequence alone takes more."""
    most, start = max(1, _RESIDUE_VALUES // max(1, matrix.dim)), 0
    end_B = np.cumsum(matrix.residue_counts(index_B))
    while start < len(index_B):
        before = int(end_B[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(end_B, before + most, side="right")))
        yield index_B[start:stop]
        start = stop


def build_dataset(table: PairTable, folders: VectorFolders) -> Dataset:
    """Find the vectors of all pairs in the store; none is read yet.

    Raises:
        TrainError: Vectors are missing, or paired and single-chain vectors differ in width.
    """
    antibodies, antibodies_missing = _antibody_matrix(table.antibodies, folders)
    antigen_reader = Vectors(folders.antigen)
    location_U = antigen_reader.find(antigen_keys(table.antigens))
    antigens = Matrix(antigen_reader.dim, (antigen_reader,), np.zeros(len(location_U), np.int8), location_U)
    antigens_missing = int((location_U < 0).sum())
    if antibodies_missing or antigens_missing:
        raise TrainError(
            f"{antibodies_missing:,} of {len(antibodies):,} antibodies and {antigens_missing:,} of "
            f"{len(antigens):,} antigens have no vector in the store {folders.paired.parent}; "
            f"`bindcache embed --config FILE` completes it."
        )
    affinity_N = np.full(len(table.id), np.nan) if table.affinity_N is None else table.affinity_N
    return Dataset(
        row_N2=table.pair_N2.astype(np.int64),
        target_N=affinity_N.astype(np.float32),
        antibodies=antibodies,
        antigens=antigens,
        id=table.id,
        side_N=table.side_N if table.side_N.any() else None,
    )


def _antibody_matrix(antibodies: Sequence[tuple[str, str | None]], folders: VectorFolders) -> tuple[Matrix, int]:
    """Find antibodies in the paired and the single-chain folder; the second value counts those in neither."""
    key_UK = antibody_keys(antibodies)
    alone_U = np.array([light is None for _, light in antibodies], bool)
    if folders.single == folders.paired:
        alone_U[:] = False
    location_U = np.empty(len(antibodies), np.int64)
    readers = [Vectors(folders.paired), Vectors(folders.single)] if alone_U.any() else [Vectors(folders.paired)]
    for number, reader in enumerate(readers):
        location_U[alone_U == number] = reader.find(key_UK[alone_U == number])
    widths = sorted({reader.dim for reader in readers if len(reader)})
    missing = int((location_U < 0).sum())
    if len(widths) > 1 and not missing:
        raise TrainError(
            f"Antibody vectors have widths {widths[0]} and {widths[1]}: paired and single-chain encoders "
            f'must agree; use embed.single_chain = "same".'
        )
    if len({reader.has_residues for reader in readers if len(reader)}) > 1 and not missing:
        raise TrainError(
            "Either paired or single-chain antibodies have vectors of residues, and the others one vector each: "
            'use embed.single_chain = "same", or import vectors for both.'
        )
    return Matrix(widths[0] if widths else 0, readers, alone_U.astype(np.int8), location_U), missing
