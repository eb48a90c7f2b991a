"""Encoders without a model: each residue's row of a table, in a slot of its chain.

A chain has 256 slots of 20 numbers; slots that no residue takes are zero. In a chain of at most 256 residues each has a
slot of its own: the first ones from the front, the others from the back, so that where chains differ in length the gap
falls between them: in CDR3 of both antibody chains, in the middle of an antigen. A longer chain is spread evenly over
the slots, and each holds the mean of its residues. So a chain's numbers depend on nothing but the chain.

Shapes: N sequences, S slots of a chain, L residues of one chain, D width of a vector; 20 numbers of a residue.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from embed.config import Table
from embed.encoders.blosum62 import RESIDUES, ROWS
from embed.encoders.tokens import Vocabulary, lookup
from embed.sequences import Antibody
from embed.texts import Antibodies, Texts

Floats = npt.NDArray[np.float32]

SLOTS = 256
"""Of a chain: variable domain and first constant domain, or most antigens, with a slot for each residue."""

FRONT = {"heavy": 100, "light": 92, "antigen": SLOTS // 2}
"""Residues that count from the front: up to CDR3, whose first residues are about the 97th and the 89th."""

_STANDARD = len(RESIDUES) - 1
_EMPTY = len(RESIDUES)
_CODES = Vocabulary(letters=RESIDUES, first=0, pad=_EMPTY, end=_EMPTY, unknown=_EMPTY + 1)
_CODE = _CODES.table()

_ONE_HOT = np.vstack([np.eye(_STANDARD, dtype=np.float32), np.full((1, _STANDARD), 1 / _STANDARD, np.float32)])
_TABLES: dict[Table, Floats] = {"onehot": _ONE_HOT, "blosum62": ROWS}


@dataclass(frozen=True, slots=True)
class Lookup:
    """Turns sequences of one role into vectors by a table."""

    name: Table
    role: Literal["antibody", "antigen"]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return len(self._chains) * SLOTS * _STANDARD

    @property
    def facts(self) -> dict[str, object]:
        """State everything that decides a vector, for its fingerprint."""
        table = _TABLES[self.name]
        return {
            "encoder": self.name,
            "layout": {"version": 1, "slots": SLOTS, "front": {chain: FRONT[chain] for chain in self._chains}},
            "longer": "spread over the slots, each the mean of its residues",
            "residues": RESIDUES,
            "table": hashlib.sha256(table.astype("<f4").tobytes()).hexdigest(),
        }

    def encode(self, sequences: Antibodies | Texts | Sequence[Antibody] | Sequence[str]) -> Floats:
        """Look sequences up.

        Args:
            sequences: Antibodies or antigens, normalised, as the role says.

        Returns:
            float32 `[N, D]`: the slots of the heavy chain, then those of the light one, all zero where there is none;
            or the slots of the antigen. No vector is all zero.

        Raises:
            EncoderError: A letter is no residue.
        """
        columns: list[list[str | None]] = [[] for _ in self._chains]
        for sequence in sequences:
            for column, chain in zip(columns, [sequence] if isinstance(sequence, str) else sequence, strict=True):
                column.append(chain)
        parts = [self._lay(column, FRONT[chain]) for column, chain in zip(columns, self._chains, strict=True)]
        return np.concatenate(parts, axis=1)

    @property
    def _chains(self) -> tuple[str, ...]:
        return ("heavy", "light") if self.role == "antibody" else ("antigen",)

    def _lay(self, chains: Sequence[str | None], front: int) -> Floats:
        """Lay chains into their slots, float32 [N, S * 20]; None stays empty."""
        table = np.vstack([_TABLES[self.name], np.zeros((1, _STANDARD), np.float32)])
        code_NS = np.full((len(chains), SLOTS), _EMPTY, np.int64)
        long: dict[int, Floats] = {}
        for number, chain in enumerate(chains):
            code_L = lookup(_CODE, chain or "", _CODES)
            if len(code_L) > SLOTS:
                long[number] = _spread(table[code_L])
            else:
                behind = max(0, len(code_L) - front)
                code_NS[number, : len(code_L) - behind] = code_L[:front]
                code_NS[number, SLOTS - behind :] = code_L[front:]
        row_NS20 = table[code_NS]
        for number, row_S20 in long.items():
            row_NS20[number] = row_S20
        laid: Floats = row_NS20.reshape(len(chains), -1)
        return laid


def _spread(row_L20: Floats) -> Floats:
    """Give residue i of L to slot i * S // L, and each slot the mean of its residues, [S, 20]."""
    first_S = -(-np.arange(SLOTS) * len(row_L20) // SLOTS)  # rounded up
    count_S = np.diff(first_S, append=len(row_L20))
    mean_S20: Floats = (np.add.reduceat(row_L20, first_S, axis=0) / count_S[:, None]).astype(np.float32)
    return mean_S20
