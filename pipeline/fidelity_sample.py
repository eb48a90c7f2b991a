"""Which pairs stand for the table, and what their sequences are.

Shapes: N pairs of the table, S pairs of the sample.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from embed.sequences import antibody_keys, antigen_keys
from embed.texts import Antibodies, Texts

Role = Literal["antibody", "antigen"]
ROLES: tuple[Role, ...] = ("antibody", "antigen")
PLURALS: Mapping[Role, str] = {"antibody": "antibodies", "antigen": "antigens"}


def sample_pairs(table: PairTable, size: int) -> PairTable:
    """Keep `size` pairs, the ones whose keys have the lowest digests; the whole table where it is not larger.

    The choice depends on the sequences alone, not on the order of the rows; kept pairs stay in table order.
    """
    if len(table.id) <= size:
        return table
    kept_S = np.sort(np.argsort(_digests(table), kind="stable")[:size])
    antibody_S, antigen_S = table.pair_N2[kept_S].T
    used_antibodies, antibody_S = np.unique(antibody_S, return_inverse=True)
    used_antigens, antigen_S = np.unique(antigen_S, return_inverse=True)
    place_N = np.full(len(table.id) + 1, -1, np.int64)  # the last one for rows in no pair
    place_N[kept_S] = np.arange(size)
    return replace(
        table,
        id=table.id.take(kept_S),
        pair_N2=np.stack([antibody_S, antigen_S], axis=1).astype(np.int32),
        antibodies=table.antibodies.take(used_antibodies),
        antigens=table.antigens.take(used_antigens),
        affinity_N=None if table.affinity_N is None else table.affinity_N[kept_S],
        side_N=table.side_N[kept_S],
        measurements_N=table.measurements_N[kept_S],
        deviation_N=table.deviation_N[kept_S],
        split=None if table.split is None else table.split.take(kept_S),
        replicates_N=table.replicates_N[kept_S],
        pair_of_row=place_N[table.pair_of_row],
    )


def sequences_of(table: PairTable, role: Role) -> Antibodies | Texts:
    """List the distinct antibodies or antigens of a table."""
    return table.antibodies if role == "antibody" else table.antigens


def residues_of(table: PairTable, role: Role) -> npt.NDArray[np.int32]:
    """Count the residues of each distinct antibody, both chains together, or antigen; int32 [N]."""
    return sequences_of(table, role).lengths()


def _digests(table: PairTable) -> npt.NDArray[np.uint64]:
    """Digest both sequence keys of every pair, uint64 [N]."""
    key_N = np.hstack(
        [antibody_keys(table.antibodies)[table.pair_N2[:, 0]], antigen_keys(table.antigens)[table.pair_N2[:, 1]]]
    )
    digests = b"".join(hashlib.blake2b(key.tobytes(), digest_size=8).digest() for key in key_N)
    return np.frombuffer(digests, "<u8")
