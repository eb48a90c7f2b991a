"""Which pairs train, which validate and which test.

Shapes: N pairs, G groups.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from train.clusters import find_clusters
from train.config import TrainConfig
from train.errors import TrainError

Labels = npt.NDArray[np.int64]

PARTS = ("train", "valid", "test")
_SHARES = (0.8, 0.1, 0.1)
_VALID_SHARE = 1 / 9
"""Of what a fold leaves: training is to validation as without folds."""
_STREAM = 2**64 - 1  # no epoch draws from this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The part of every pair."""

    part_N: npt.NDArray[np.int8]
    """0 train, 1 valid, 2 test, -1 in none."""
    kind: str
    """How it was made, with the tool that found clusters."""
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
    random = np.random.Generator(np.random.Philox(key=np.array([config.split_seed, _STREAM], np.uint64)))
    kind: str = config.split
    if config.split == "random":
        part_N = _random_parts(len(table.id), config, random)
    elif config.split == "column":
        part_N = _column_parts(config.split_values, table.split, random)
    elif config.split == "group":
        kind = f"group by {config.group}"
        antibody_N, antigen_N = table.pair_N2.astype(np.int64).T
        part_N = _group_parts(config, antibody_N, antigen_N, random)
    else:
        antibody_N, antigen_N, found = _cluster_labels(config, table)
        kind = f"cluster by {config.group} ({found})"
        part_N = _group_parts(config, antibody_N, antigen_N, random)
    if config.fold:
        kind += f", fold {config.fold} of {config.folds}"
    return Split(part_N=part_N, kind=kind, digest=split_digest(table.id, part_N))


def split_digest(ids: Sequence[str], part_N: npt.NDArray[np.int8]) -> str:
    """Digest ids (length-prefixed, so that none can pose as two) and parts."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in ids]
    digest = hashlib.sha256(np.array([len(name) for name in encoded], "<i8").tobytes())
    digest.update(b"".join(encoded))
    digest.update(part_N.astype(np.int8).tobytes())
    return digest.hexdigest()


def _random_parts(pairs: int, config: TrainConfig, random: np.random.Generator) -> npt.NDArray[np.int8]:
    part_N = np.zeros(pairs, np.int8)
    order_N = random.permutation(pairs)
    if config.fold:
        _refuse_few(pairs, config.folds, "pairs")
        fold_N = np.arange(pairs) * config.folds // pairs
        part_N[order_N[fold_N == config.fold - 1]] = 2
        left_N = order_N[fold_N != config.fold - 1]
        part_N[left_N[: max(1, round(len(left_N) * _VALID_SHARE))]] = 1
        return part_N
    tenth = max(1, pairs // 10)
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


def _group_parts(
    config: TrainConfig, antibody_N: Labels, antigen_N: Labels, random: np.random.Generator
) -> npt.NDArray[np.int8]:
    group = config.group
    if group == "both":
        label_N = connected_groups(antibody_N, antigen_N)
    else:
        label_N = antigen_N if group == "antigen" else antibody_N
    _, group_N, size_G = np.unique(label_N, return_inverse=True, return_counts=True)
    if len(size_G) < len(PARTS):
        raise TrainError(_too_few_groups(config, len(label_N), len(size_G)))
    if not config.fold:
        return deal_groups(size_G, random)[group_N]
    _refuse_few(len(size_G), config.folds, f"{config.split}s by {group}")
    fold_G = deal_groups(size_G, random, (1 / config.folds,) * config.folds)
    part_G = np.where(fold_G == config.fold - 1, 2, 0).astype(np.int8)
    (left,) = np.nonzero(part_G == 0)
    part_G[left] = deal_groups(size_G[left], random, (1 - _VALID_SHARE, _VALID_SHARE))
    return part_G[group_N]


def _cluster_labels(config: TrainConfig, table: PairTable) -> tuple[Labels, Labels, str]:
    """Label the antibody (by its heavy chain) and the antigen of each pair by cluster, and say what found them.

    Only what `group` names is clustered, the other side keeps its distinct sequences.
    """
    antibody_N, antigen_N = table.pair_N2.astype(np.int64).T
    found = ""
    if config.group != "antigen":
        heavies, heavy_U = np.unique([heavy for heavy, _ in table.antibodies], return_inverse=True)
        label_H, found = find_clusters(heavies.tolist(), config.identity)
        antibody_N = label_H[heavy_U][antibody_N]
    if config.group != "antibody":
        label_U, found = find_clusters(list(table.antigens), config.identity)
        antigen_N = label_U[antigen_N]
    return antibody_N, antigen_N, found


def _too_few_groups(config: TrainConfig, pairs: int, groups: int) -> str:
    group, held = config.group, f"fall into two {config.split}s by {config.group}"
    if groups == 1 and config.split == "cluster":
        by = {"both": "antibodies and antigens", "antibody": "heavy chains", "antigen": "antigens"}[group]
        held = f"are of one cluster: their {by} are linked by identities of {config.identity:g} or more"
    elif groups == 1:
        held = "are linked by shared antibodies and antigens" if group == "both" else f"share one {group}"
    ways = 'use split = "random" or another group in [train]'
    if config.split == "cluster":
        ways += (
            ", or a higher train.identity; for mutants of one clone, name a hold-out by hand in a column "
            '(split = "column"), such as those with most mutations'
        )
    return f"All {pairs:,} pairs {held}, and three parts need three {config.split}s; {ways}."


def _refuse_few(held: int, folds: int, what: str) -> None:
    if held <= folds:
        raise TrainError(
            f"The table has {held:,} {what}, and train.folds = {folds} needs more than {folds}; "
            'use fewer folds, or split = "random".'
        )


def deal_groups(
    size_G: npt.NDArray[np.int64], random: np.random.Generator, shares: Sequence[float] = _SHARES
) -> npt.NDArray[np.int8]:
    """Deal whole groups, largest first, to the part furthest below its share; chance orders equal sizes.

    The last groups go to parts that have none yet, so as many groups as parts leave no part empty.
    """
    shuffled_G = random.permutation(len(size_G))
    order_G = shuffled_G[np.argsort(-size_G[shuffled_G], kind="stable")]
    lacking = (np.array(shares) * size_G.sum()).tolist()
    empty = set(range(len(shares)))
    part_G = np.empty(len(size_G), np.int8)
    for dealt, (group, size) in enumerate(zip(order_G.tolist(), size_G[order_G].tolist(), strict=True)):
        choice = sorted(empty) if len(size_G) - dealt == len(empty) else range(len(shares))
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
