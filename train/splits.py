"""Which pairs train, which validate and which test.

Shapes: N pairs, G groups.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from train.config import TrainConfig
from train.errors import TrainError

PARTS = ("train", "valid", "test")
_SHARES = np.array([0.8, 0.1, 0.1])
_STREAM = 2**64 - 1  # no epoch draws from this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The part of every pair."""

    part_N: npt.NDArray[np.int8]
    """0 train, 1 valid, 2 test, -1 in none."""
    kind: str
    digest: str
    """SHA-256 over ids and parts."""

    def rows(self, part: str) -> npt.NDArray[np.int64]:
        """List the pairs of `train`, `valid` or `test`, in table order."""
        return np.flatnonzero(self.part_N == PARTS.index(part))

    def names(self) -> list[str]:
        """Name the part of every pair; `unused` where it is in none."""
        words = (*PARTS, "unused")
        return [words[part] for part in self.part_N.tolist()]


def make_split(config: TrainConfig, table: PairTable) -> Split:
    """Divide the pairs of a table as the config says; a pair is in one part whatever its replicates.

    Raises:
        TrainError: A part would be empty, or the split column is not declared or holds an unnamed value.
    """
    if len(table.id) < len(PARTS):
        raise TrainError(f"The pairs table has {len(table.id)} distinct pairs: train, valid and test need 3 or more.")
    random = np.random.Generator(np.random.Philox(key=np.array([config.seed, _STREAM], np.uint64)))
    kind: str = config.split
    if config.split == "random":
        part_N = _random_parts(len(table.id), random)
    elif config.split == "column":
        part_N = _column_parts(config.split_values, table.split, random)
    else:
        kind = f"group by {config.group}"
        part_N = _group_parts(config.group, table, random)
    return Split(part_N=part_N, kind=kind, digest=split_digest(table.id, part_N))


def split_digest(ids: Sequence[str], part_N: npt.NDArray[np.int8]) -> str:
    """Digest ids (length-prefixed, so that none can pose as two) and parts."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in ids]
    digest = hashlib.sha256(np.array([len(name) for name in encoded], "<i8").tobytes())
    digest.update(b"".join(encoded))
    digest.update(part_N.astype(np.int8).tobytes())
    return digest.hexdigest()


def _random_parts(pairs: int, random: np.random.Generator) -> npt.NDArray[np.int8]:
    tenth = max(1, pairs // 10)
    part_N = np.zeros(pairs, np.int8)
    order_N = random.permutation(pairs)
    part_N[order_N[:tenth]] = 1
    part_N[order_N[tenth : 2 * tenth]] = 2
    return part_N


def _column_parts(
    values: Mapping[str, tuple[str, ...]], cells: Sequence[str] | None, random: np.random.Generator
) -> npt.NDArray[np.int8]:
    if cells is None:
        raise TrainError(
            'train.split = "column" needs a column: name it in pairs.split, or use train.split = "random".'
        )
    named = values or {part: (part,) for part in PARTS}
    code = {word: number for number, part in enumerate(PARTS) for word in named.get(part, ())}
    strange = sorted(set(cells) - set(code))
    if strange:
        listed = ", ".join(map(repr, strange[:10])) + (", ..." if len(strange) > 10 else "")
        raise TrainError(
            f"The split column holds {listed}, which no part names: say what they are in train.split_values, "
            f'as in {{train = ["a"], test = ["b"]}}.'
        )
    part_N = np.array([code[cell] for cell in cells], np.int8)
    (train,) = np.nonzero(part_N == 0)
    valid_is_named = bool(values.get("valid")) if values else "valid" in cells
    if not valid_is_named and len(train) > 1:
        part_N[random.permutation(train)[: max(1, len(train) // 10)]] = 1
    for number, part in enumerate(PARTS):
        if not (part_N == number).any():
            raise TrainError(
                f"The split column leaves {part} empty: name its values in train.split_values, "
                f'or use train.split = "random".'
            )
    return part_N


def _group_parts(group: str, table: PairTable, random: np.random.Generator) -> npt.NDArray[np.int8]:
    antibody_N, antigen_N = table.pair_N2.astype(np.int64).T
    if group == "both":
        label_N = connected_groups(antibody_N, antigen_N)
    else:
        label_N = antigen_N if group == "antigen" else antibody_N
    _, group_N, size_G = np.unique(label_N, return_inverse=True, return_counts=True)
    if len(size_G) < len(PARTS):
        alike = "are linked by shared antibodies and antigens" if group == "both" else f"share one {group}"
        held = alike if len(size_G) == 1 else f"fall into two groups by {group}"
        raise TrainError(
            f"All {len(label_N):,} pairs {held}, and three parts need three groups; "
            f'use split = "random" or another group in [train].'
        )
    return deal_groups(size_G, random)[group_N]


def deal_groups(size_G: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int8]:
    """Deal whole groups, largest first, to the part furthest below its share; chance orders equal sizes.

    The last groups go to parts that have none yet, so three groups or more leave no part empty.
    """
    shuffled_G = random.permutation(len(size_G))
    order_G = shuffled_G[np.argsort(-size_G[shuffled_G], kind="stable")]
    lacking = (_SHARES * size_G.sum()).tolist()
    empty = set(range(len(PARTS)))
    part_G = np.empty(len(size_G), np.int8)
    for dealt, (group, size) in enumerate(zip(order_G.tolist(), size_G[order_G].tolist(), strict=True)):
        choice = sorted(empty) if len(size_G) - dealt == len(empty) else range(len(PARTS))
        part = max(choice, key=lacking.__getitem__)
        part_G[group] = part
        lacking[part] -= size
        empty.discard(part)
    return part_G


def connected_groups(antibody_N: npt.NDArray[np.int64], antigen_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Label each pair with its connected component of the graph whose edges are the pairs.

    Roots hook onto lower neighbours and paths are cut short until every edge lies within one tree.
    """
    left_N, right_N = antibody_N, antigen_N + antibody_N.max() + 1
    root_V = np.arange(right_N.max() + 1)
    while True:
        one_N, other_N = root_V[left_N], root_V[right_N]
        if np.array_equal(one_N, other_N):
            return one_N
        np.minimum.at(root_V, np.maximum(one_N, other_N), np.minimum(one_N, other_N))
        while not np.array_equal(root_V[root_V], root_V):
            root_V = root_V[root_V]
