"""Vectors of pieces -> checked vectors of whole sequences."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from embed.errors import EncoderError
from embed.pieces import Pieces

# B pieces in a batch, V vectors of a sequence, D width of all of them side by side
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Write = Callable[[Ints, Vectors], None]
"""Takes indices of sequences, int64 `[B]`, and their vectors, float32 `[B, D]`."""


class Joiner:
    """Adds up the windows of each sequence and hands on those that are whole."""

    def __init__(self, pieces: Pieces, dim: int, write: Write) -> None:
        self._sequence_P = pieces.sequence_P
        sequences, counts = np.unique(pieces.sequence_P, return_counts=True)
        self._left = dict(zip(sequences[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))
        self._windowed = np.isin(pieces.sequence_P, sequences[counts > 1])
        self._sums: dict[int, Vectors] = {}
        self._dim = dim
        self._write = write

    def add(self, index_B: Ints, vector_BD: Vectors, filled_BV: Flags) -> None:
        """Take the vectors of some pieces; `filled_BV` is False for the vector of a chain that is not there.

        Raises:
            EncoderError: One is not finite, or all zero and should not be.
        """
        _refuse_broken(vector_BD, self._dim, filled_BV)
        whole_B = ~self._windowed[index_B]
        if whole_B.any():
            self._write(self._sequence_P[index_B[whole_B]], vector_BD[whole_B])
        for index, vector_D in zip(index_B[~whole_B], vector_BD[~whole_B], strict=True):
            self._add_window(int(self._sequence_P[index]), vector_D)

    def _add_window(self, sequence: int, vector_D: Vectors) -> None:
        self._left[sequence] -= 1
        sum_D = self._sums.pop(sequence) + vector_D if sequence in self._sums else vector_D
        if self._left[sequence]:
            self._sums[sequence] = sum_D
        else:
            self._write(np.array([sequence], np.int64), sum_D[None])


def _refuse_broken(vector_BD: Vectors, dim: int, filled_BV: Flags) -> None:
    if vector_BD.shape[1] != dim:
        raise EncoderError(f"The encoder made vectors of width {vector_BD.shape[1]}, where its config.json says {dim}.")
    vector_BVD = vector_BD.reshape(*filled_BV.shape, -1)
    if not np.isfinite(vector_BD).all():
        raise EncoderError(
            'The encoder made a vector that is not finite; nothing of it was stored. Use precision = "fp32".'
        )
    if not (vector_BVD.any(axis=2) | ~filled_BV).all():
        raise EncoderError(
            "The encoder made a vector of zeros; nothing of it was stored. Check the checkpoint's weights."
        )
