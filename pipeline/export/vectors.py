"""What an export holds: the distinct sequences of a table by role, and their vectors in the store.

Shapes: N sequences of one role, B of one batch, D width of a vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from embed.fingerprint import Source, find_sources
from embed.pairs import PairTable
from embed.sequences import antibody_keys, antigen_keys
from embed.stage import read_table
from embed.store.reader import Vectors
from embed.texts import Antibodies, Texts
from pipeline.config import Config
from pipeline.errors import ConfigError

_ROWS = 4096

Chains = tuple[str | None, str | None, str | None]
"""Heavy, light, antigen; None where there is none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some sequences of one role."""

    ids: list[str]
    """Id of the first pair that holds each."""
    key_B16: npt.NDArray[np.uint8]
    chains: list[Chains]
    vector_BD: npt.NDArray[np.float32]
    """Of each sequence; where residues have vectors, the mean of these."""
    residues: Iterator[npt.NDArray[np.float16]]
    """Where residues have vectors: those of each sequence, [L, D], as they are asked for; else nothing."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Sequences of one role whose vectors lie in one folder."""

    sequences: Antibodies | Texts
    ids: Texts
    key_N16: npt.NDArray[np.uint8]
    vectors: Vectors
    location_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True, slots=True)
class RoleVectors:
    """All distinct sequences of one role."""

    role: Literal["antibody", "antigen"]
    parts: tuple[_Part, ...]
    encoders: tuple[str, ...]
    """Fingerprint folders that the vectors come from."""

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def has_residues(self) -> bool:
        """Whether residues have vectors."""
        return any(part.vectors.has_residues for part in self.parts)

    @property
    def missing(self) -> int:
        """Sequences without vector in the store."""
        return sum(int((part.location_N < 0).sum()) for part in self.parts)

    def width(self) -> int:
        """Tell the one width of the vectors.

        Raises:
            ConfigError: Two encoders gave vectors of different width.
        """
        widths = {part.vectors.dim for part in self.parts if len(part)}
        if len(widths) > 1:
            raise ConfigError(
                f"The {self.role} vectors are {' and '.join(map(str, sorted(widths)))} wide, as embed.single_chain has "
                "another width, and this format holds one; export to .parquet."
            )
        return widths.pop() if widths else 0

    def batches(self) -> Iterator[Batch]:
        """Yield all of them, in the order of the table within each encoder."""
        for part in self.parts:
            for start in range(0, len(part), _ROWS):
                rows = slice(start, start + _ROWS)
                chains: list[Chains] = (
                    [(*antibody, None) for antibody in part.sequences[rows]]
                    if isinstance(part.sequences, Antibodies)
                    else [(None, None, antigen) for antigen in part.sequences[rows]]
                )
                location_B = part.location_N[rows]
                residues = map(part.vectors.residues, location_B.tolist() if part.vectors.has_residues else ())
                yield Batch(list(part.ids[rows]), part.key_N16[rows], chains, part.vectors.read(location_B), residues)


def find_vectors(config: Config) -> tuple[RoleVectors, RoleVectors]:
    """Find the vectors of a table in the store: of its antibodies and of its antigens.

    Raises:
        ConfigError: Vectors are missing.
        EmbedError: The table, an encoder or the store cannot be used as it is.
    """
    table, sources = read_table(config.embed, config.pairs), find_sources(config.embed)
    alone_N = table.antibodies.alone()
    first_antibody, first_antigen = (_first_pairs(table, column) for column in (0, 1))
    paired, single = (
        _antibodies(table, source, np.flatnonzero(chosen_N), first_antibody)
        for source, chosen_N in ((sources.paired, ~alone_N), (sources.single, alone_N))
    )
    antigen_location = _part(
        sources.antigen, table.antigens, table.id.take(first_antigen), antigen_keys(table.antigens)
    )
    found = (
        RoleVectors("antibody", (paired, single), tuple({sources.paired.name: 0, sources.single.name: 0})),
        RoleVectors("antigen", (antigen_location,), (sources.antigen.name,)),
    )
    missing, total = sum(role.missing for role in found), sum(map(len, found))
    if missing:
        raise ConfigError(f"{missing:,} of {total:,} vectors are not in the store; run `bindcache embed` first.")
    return found


def _first_pairs(table: PairTable, column: int) -> npt.NDArray[np.int64]:
    """Tell the first pair that holds each distinct sequence."""
    return np.unique(table.pair_N2[:, column], return_index=True)[1]


def _antibodies(table: PairTable, source: Source, index: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> _Part:
    antibodies = table.antibodies.take(index)
    return _part(source, antibodies, table.id.take(first[index]), antibody_keys(antibodies))


def _part(source: Source, sequences: Antibodies | Texts, ids: Texts, key_N16: npt.NDArray[np.uint8]) -> _Part:
    vectors = Vectors(source.folder)
    return _Part(sequences, ids, key_N16, vectors, vectors.find(key_N16))
