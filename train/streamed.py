"""Sequences whose residues have vectors: read from the shards for every batch, each distinct one once.

Shape suffixes: U distinct sequences, B rows asked for, T residues of all of these, D width.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from train.attention_pooling import Residues
from train.dataset import Index, Matrix, residue_blocks
from train.regressor import Prepare
from train.residue_scale import ResidueScale
from train.twin import Twin


class Streamed:
    """The sequences of one side of a part; the store may be larger than memory."""

    def __init__(self, matrix: Matrix, row_U: Index, prepare: Prepare, scale: ResidueScale, dtype: torch.dtype) -> None:
        """Stand for rows of a matrix.

        Args:
            matrix: Where their vectors are.
            row_U: Rows of the matrix.
            prepare: Prepares the mean of a sequence.
            scale: Of the residues; on the same device.
            dtype: That of the weights.
        """
        self.matrix = matrix
        self.row_U = row_U
        self.prepare = prepare
        self.scale = scale
        self.dtype = dtype
        self.dim = matrix.dim
        self.home = torch.device("cpu")
        self.device = prepare.mean_D.device

    def __len__(self) -> int:
        return len(self.row_U)

    def cut(self, index_B: Index) -> Iterator[Index]:
        """Cut rows into stretches whose residues take little memory."""
        ends = itertools.accumulate(map(len, residue_blocks(self.matrix, self.row_U[index_B])))
        return (index_B[start:end] for start, end in itertools.pairwise([0, *ends]))

    def buffer(self, copies: torch.cuda.Stream | None) -> "ResidueBuffer":
        """Make memory for the batches of a loader."""
        return ResidueBuffer(self, copies)

    def rows(self, index_B: Index) -> Residues:
        """Read sequences, for the device."""
        copies = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        buffer = self.buffer(copies)
        buffer.fill(index_B)
        buffer.copy()
        return buffer.finish()


class ResidueBuffer:
    """Memory for the residues of a batch's distinct sequences; it grows to the largest batch."""

    def __init__(self, side: Streamed, copies: torch.cuda.Stream | None) -> None:
        """Make memory on the host and, with a stream of copies, on the device."""
        self._side = side
        self._vector = Twin((side.dim,), torch.float16, copies)
        self._mean = Twin((side.dim,), torch.float32, copies)
        self._place = Twin((), torch.int64, copies)
        self._runs: tuple[tuple[int, int], ...] = ()

    def fill(self, index_B: Index) -> None:
        """Read the distinct sequences among the rows into host memory, shorter ones first."""
        matrix = self._side.matrix
        index_U, place_B = np.unique(index_B, return_inverse=True)
        row_U = self._side.row_U[index_U]
        count_U = matrix.residue_counts(row_U)
        order_U = np.argsort(count_U, kind="stable")
        rank_U = np.empty_like(order_U)
        rank_U[order_U] = np.arange(len(order_U))
        self._runs = tuple((len(list(run)), length) for length, run in itertools.groupby(count_U[order_U].tolist()))
        matrix.gather_residues(row_U[order_U], self._vector.take(int(count_U.sum())).numpy())
        matrix.gather(row_U[order_U], self._mean.take(len(row_U)).numpy())
        self._place.take(len(place_B)).copy_(torch.from_numpy(rank_U[place_B]))

    def copy(self) -> None:
        """Start the copy to the device, on the current stream."""
        for twin in (self._vector, self._mean, self._place):
            twin.copy()

    def finish(self) -> Residues:
        """Prepare the means of what was read, once it is on the device."""
        side = self._side
        mean_UK = side.prepare(self._mean.rows).to(side.dtype)
        return Residues(self._vector.rows, self._runs, mean_UK, self._place.rows, side.scale)
