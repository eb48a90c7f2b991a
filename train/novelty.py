"""Which sequences are unlike all that a run was trained on, so that its scores and intervals say nothing of them.

A heavy chain or an antigen is novel if its nearest training sequence is less identical to it than those of 95 % of the
test pairs are to theirs, and less than the identity from which sequences count as near. Nobody looked whether
predictions hold there.

Shape suffixes: N pairs, M training pairs, T test pairs, U distinct sequences.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embed.pairs import PairTable
from train.nearest import Nearest

Index = npt.NDArray[np.int64]
Identities = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]

ROLES = ("heavy", "antigen")
_FAR_SHARE = 0.05
"""Of the test pairs, those that may be farther than what passes as known."""
_MOST_TEST = 2000
_MOST_RESIDUES = 1 << 26
_TOLD_EVERY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """What is novel in a table."""

    below: dict[str, float] = field(default_factory=dict)
    """By role, `heavy` and `antigen`: the identity below which a sequence is novel."""
    identity_N: dict[str, Identities] = field(default_factory=dict)
    """By role, of each pair: identity of the nearest training sequence; 1 where it was enough to know it is near."""
    sampled: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By role, where training has too many to look at: distinct sequences looked at, and in all."""

    def warnings(self) -> list[str | None]:
        """Say of each pair what is novel in it; None where nothing is."""
        said: list[list[str]] = [[] for _ in self.identity_N[ROLES[0]]]
        for role, identity_N in self.identity_N.items():
            for row in np.flatnonzero(identity_N < self.below[role]).tolist():
                said[row].append(f"{role}: {_sentence(float(identity_N[row]))}")
        return ["; ".join(each) or None for each in said]


def find_novelty(
    trained: PairTable,
    train_M: Index,
    test_T: Index,
    asked: PairTable,
    *,
    identity: float,
    progress: Progress = lambda phase, done, total: None,
) -> Novelty:
    """Find what is novel in a table.

    Args:
        trained: The table that was trained on.
        train_M: Its training pairs.
        test_T: Its test pairs.
        asked: The table that is looked at.
        identity: From which sequences are near whatever the test pairs were.
        progress: Told the distinct sequences compared.
    """
    test_T = test_T[np.linspace(0, len(test_T) - 1, min(len(test_T), _MOST_TEST)).astype(np.int64)]
    novelty = Novelty()
    for role in ROLES:
        sequences, _ = _sequences(trained, role, train_M)
        library = _Library(sequences, role, progress)
        sequences, place_T = _sequences(trained, role, test_T)
        found_T = library.identities(sequences, enough=identity)[place_T]
        below = min(identity, float(np.quantile(found_T, _FAR_SHARE, method="lower")))
        sequences, place_N = _sequences(asked, role, np.arange(len(asked.pair_N2)))
        novelty.below[role] = below
        novelty.identity_N[role] = library.identities(sequences, enough=below)[place_N]
        if library.looked_at < len(library):
            novelty.sampled[role] = (library.looked_at, len(library))
    return novelty


class _Library:
    """The distinct training sequences of one role: any is known, a random part is searched where they are too many."""

    def __init__(self, sequences: pa.Array, role: str, progress: Progress) -> None:
        self._distinct = sequences
        self._phase = f"comparing {'antigens' if role == 'antigen' else 'heavy chains'}"
        self._progress = progress
        random_N = np.random.Generator(np.random.Philox(key=0)).permutation(len(self._distinct))
        residues_N = np.cumsum(pc.utf8_length(self._distinct).to_numpy()[random_N])
        self._searched = random_N[: max(1, np.searchsorted(residues_N, _MOST_RESIDUES, "right"))]
        self._nearest: Nearest | None = None

    def __len__(self) -> int:
        return len(self._distinct)

    @property
    def looked_at(self) -> int:
        """Sequences that are searched."""
        return len(self._searched)

    def identities(self, sequences: pa.Array, *, enough: float) -> Identities:
        """Tell how alike the nearest is to each of some sequences, float64 [U]; 1 from `enough` on."""
        identity_U = np.ones(len(sequences))
        if enough <= 0:
            return identity_U
        known_U = pc.is_in(sequences, value_set=self._distinct).to_numpy(zero_copy_only=False)
        unknown = np.flatnonzero(~known_U).tolist()
        for done, at in enumerate(unknown):
            if done % _TOLD_EVERY == 0:
                self._progress(self._phase, done, len(unknown))
            found = self._open().identity(sequences[at].as_py(), enough=enough)
            identity_U[at] = found if found < enough else 1.0
        if unknown:
            self._progress(self._phase, len(unknown), len(unknown))
        return identity_U

    def _open(self) -> Nearest:
        if self._nearest is None:
            self._nearest = Nearest(self._distinct.take(pa.array(self._searched)).to_pylist())
        return self._nearest


def _sequences(table: PairTable, role: str, index_N: Index) -> tuple[pa.Array, Index]:
    """Pick the distinct heavy chains or antigens of some pairs; the second value is the place of each pair's."""
    texts, side = (table.antigens, 1) if role == "antigen" else (table.antibodies.heavy, 0)
    row_U, place_N = np.unique(table.pair_N2[index_N, side], return_inverse=True)
    encoded = texts.take(row_U).array.dictionary_encode()  # antibodies may share a heavy chain
    return encoded.dictionary, encoded.indices.to_numpy()[place_N]


def _sentence(identity: float) -> str:
    if identity == 0:
        return "no five residues in a row are in training"
    return f"nearest in training is {math.floor(identity * 100 + 1e-9)} % identical"
