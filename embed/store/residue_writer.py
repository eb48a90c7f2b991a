"""Writing vectors of residues: published by bytes, as some sequences are a thousand times as long as others.

Shapes: B sequences added at once, L residues of one, D width of a vector, 16 bytes of a sequence key.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store.image import build_residue_shard
from embed.store.schema import KEY_BYTES
from embed.store.writer import Publisher

SHARD_BYTES = 64 << 20
"""Of a shard, unless one sequence alone is larger; a writer takes four times as much memory while it publishes."""


class ResidueWriter(Publisher):
    """Collects sequences with a vector for each residue and publishes them as shards."""

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: str,
        dim: int,
        shard_rows: int = 4096,
        shard_bytes: int = SHARD_BYTES,
        max_seconds: float = 60.0,
    ) -> None:
        """Write into a folder that `create_folder` made.

        Args:
            folder: The folder.
            fingerprint: Its fingerprint.
            dim: Width of every vector.
            shard_rows: Most sequences of a shard.
            shard_bytes: Most bytes of the vectors of a shard, unless one sequence alone has more.
            max_seconds: How old a sequence may be when another one is added: then both are published.
        """
        super().__init__(folder, fingerprint, max_seconds)
        self._dim = dim
        self._shard_rows = shard_rows
        self._shard_bytes = shard_bytes
        self._keys: list[npt.NDArray[np.uint8]] = []
        self._residues: list[npt.NDArray[np.float16]] = []
        self._lengths: list[int] = []
        self._bytes = 0

    def add(
        self,
        key_B16: npt.NDArray[np.uint8],
        residues: Sequence[npt.NDArray[np.float16]],
        length_B: npt.NDArray[np.int32],
    ) -> None:
        """Take sequences (copied), and publish when a shard is full or its first one is `max_seconds` old.

        Args:
            key_B16: Sequence keys.
            residues: Vectors of the residues of each, float16 [L, D].
            length_B: Residues of each sequence, at least as many as it has vectors.

        Raises:
            StoreError: The shapes do not fit, or a vector of the shard is not finite.
            OSError: The disk is full or fails.
        """
        rows = len(key_B16)
        if key_B16.shape != (rows, KEY_BYTES) or length_B.shape != (rows,) or len(residues) != rows:
            raise StoreError(
                f"Shapes key {key_B16.shape}, {len(residues)} sequences, length {length_B.shape} are not "
                f"(B, {KEY_BYTES}), B, (B,)."
            )
        for key_16, residue_LD, length in zip(key_B16, residues, length_B.tolist(), strict=True):
            self._refuse_misfit(residue_LD, length)
            if self._bytes + residue_LD.nbytes > self._shard_bytes:
                self.flush()
            self._hold(key_16, residue_LD, length)
            if len(self._keys) == self._shard_rows or self._is_old():
                self.flush()

    def flush(self) -> None:
        """Publish what is held; no-op when that is nothing.

        Raises:
            StoreError: A vector is not finite.
            OSError: The disk is full or fails; the sequences are still held.
        """
        if not self._keys:
            return
        length_N = np.array(self._lengths, np.int32)
        self._publish(build_residue_shard(np.stack(self._keys), self._residues, length_N, self._fingerprint))
        self._keys, self._residues, self._lengths, self._bytes = [], [], [], 0

    def _hold(self, key_16: npt.NDArray[np.uint8], residue_LD: npt.NDArray[np.float16], length: int) -> None:
        if not self._keys:
            self._begin()
        self._keys.append(key_16.copy())
        self._residues.append(residue_LD.copy())
        self._lengths.append(length)
        self._bytes += residue_LD.nbytes

    def _refuse_misfit(self, residue_LD: npt.NDArray[np.float16], length: int) -> None:
        fits = residue_LD.ndim == 2 and residue_LD.shape[1] == self._dim and 1 <= len(residue_LD) <= length
        if not fits or residue_LD.dtype != np.float16:
            raise StoreError(
                f"{residue_LD.dtype} {residue_LD.shape} of a sequence of {length} residues is not float16 "
                f"(1 to {length}, {self._dim})."
            )
