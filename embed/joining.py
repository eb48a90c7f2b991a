"""Vectors of pieces -> checked vectors of whole sequences."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from embed.errors import EncoderError
from embed.pieces import Pieces

# B pieces in a batch, D width
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
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

    def add(self, index_B: Ints, vector_BD: Vectors) -> None:
        """Take the vectors of some pieces.

        Raises:
            EncoderError: One is not finite, or all zero.
        """
        _refuse_broken(vector_BD, self._dim)
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


def _refuse_broken(vector_BD: Vectors, dim: int) -> None:
    if vector_BD.shape[1] != dim:
        raise EncoderError(f"The encoder made vectors of width {vector_BD.shape[1]}, where its config.json says {dim}.")
    if not np.isfinite(vector_BD).all():
        raise EncoderError(
            'The encoder made a vector that is not finite; nothing of it was stored. Use precision = "fp32".'
        )
    if not vector_BD.any(axis=1).all():
        raise EncoderError(
            "The encoder made a vector of zeros; nothing of it was stored. Check the checkpoint's weights."
        )
