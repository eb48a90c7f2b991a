"""Hidden states of the residues of pieces -> checked states of the residues of whole sequences."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from embed.batching import coverage
from embed.errors import EncoderError
from embed.pieces import Pieces

# B pieces in a batch, L residues of a sequence, T residues of a batch, D width
Ints = npt.NDArray[np.int64]
Halves = npt.NDArray[np.float16]
WriteResidues = Callable[[Ints, list[Halves]], None]
"""Takes indices of sequences, int64 `[B]`, and the states of the residues of each, float16 `[L, D]`."""

MOST_RESIDUES = 1 << 16
"""Of sequences in several windows that wait for one another: 320 MiB of ESM-2 650M."""

_EXPONENT, _NUMBER = 0x7C00, 0x7FFF
"""Bits of a float16: all ones in what is not finite; all zeros in zero."""


class ResidueJoiner:
    """Averages each residue over the windows that it is in, and hands on the sequences that are whole."""

    def __init__(self, pieces: Pieces, dim: int, write: WriteResidues) -> None:
        self._pieces = pieces
        self._sums: dict[int, tuple[npt.NDArray[np.float32], int]] = {}
        """Of a sequence in several windows: sums of states so far, and windows that are missing."""
        self._dim = dim
        self._write = write

    def add(self, index_B: Ints, state_TD: Halves) -> None:
        """Take the states of the residues of some pieces, piece after piece.

        Raises:
            EncoderError: One is not finite as float16, or all zero.
        """
        pieces = self._pieces
        end_B = np.cumsum(pieces.end_P[index_B] - pieces.start_P[index_B])
        _refuse_broken(state_TD, (int(end_B[-1]), self._dim))
        whole: dict[int, Halves] = {}
        for index, state_LD in zip(index_B.tolist(), np.split(state_TD, end_B[:-1]), strict=True):
            sequence = int(pieces.sequence_P[index])
            windows = pieces.of(sequence)
            joined_LD = state_LD if len(windows) == 1 else self._add_window(sequence, index, state_LD, windows)
            if joined_LD is not None:
                whole[sequence] = joined_LD
        if whole:
            self._write(np.array(list(whole), np.int64), list(whole.values()))

    def _add_window(self, sequence: int, index: int, state_LD: Halves, windows: list[tuple[int, int]]) -> Halves | None:
        length = windows[-1][1]
        if sequence not in self._sums:
            self._sums[sequence] = np.zeros((length, self._dim), np.float32), len(windows)
        sum_LD, missing = self._sums[sequence]
        sum_LD[self._pieces.start_P[index] : self._pieces.end_P[index]] += state_LD
        self._sums[sequence] = sum_LD, missing - 1
        if missing > 1:
            return None
        del self._sums[sequence]
        return (sum_LD / coverage(length, windows)[:, None]).astype(np.float16)


def _refuse_broken(state_TD: Halves, shape: tuple[int, int]) -> None:
    if state_TD.shape != shape:
        raise EncoderError(f"The encoder made states of shape {state_TD.shape}, where {shape} were asked for.")
    bits_TD = state_TD.view(np.uint16)
    if ((bits_TD & _EXPONENT) == _EXPONENT).any():
        raise EncoderError(
            "The encoder made a state of a residue that float16 does not hold (beyond 65,504, or no number); nothing "
            'of its sequence was stored. Use precision = "fp32"; if that does not help, pooling = "mean".'
        )
    if not (bits_TD & _NUMBER).any(axis=1).all():
        raise EncoderError(
            "The encoder made a residue's state of zeros; nothing of it was stored. Check the checkpoint's weights."
        )
