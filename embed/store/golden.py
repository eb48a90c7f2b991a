"""Golden vectors: what the encoder of a fingerprint made of fixed sequences, by which another encoder is told.

Shapes: G golden sequences, D width of a vector, 16 bytes of a sequence key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store.durable import make_folder
from embed.store.folder import Fingerprint, golden_paths
from embed.store.image import build_shard
from embed.store.publish import publish
from embed.store.schema import GOLDEN_FOLDER
from embed.store.shard import open_shard
from embed.store.verified import check_digest, open_regular

TOLERANCE = {"fp32": 1e-4, "int8": 1e-4, "int8-fast": 1e-2, "fp16": 1e-2, "bf16": 5e-2, "int8-bnb": 1e-1}
"""Relative L2 difference, by precision, within which two encoders count as the same (FORMAT.md)."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden sequences and what an encoder made of them."""

    key_G16: npt.NDArray[np.uint8]
    vector_GD: npt.NDArray[Any]
    length_G: npt.NDArray[np.int32]


def prove_encoder(folder: Path, fingerprint: Fingerprint, golden: Golden, encoder: str) -> None:
    """Compare an encoder's golden vectors with those of a folder, which they become where it has none.

    Args:
        folder: From `create_folder`.
        fingerprint: Of the folder.
        golden: What the encoder makes of the golden sequences now.
        encoder: What to call it.

    Raises:
        StoreError: They differ by more than the precision allows, or the folder's are damaged.
        OSError: The disk is full or fails.
    """
    if not golden_paths(folder):
        image = build_shard(golden.key_G16, golden.vector_GD, golden.length_G, fingerprint.digest)
        publish(image, make_golden_folder(folder))
    # read back even then: another writer may have been first, with another encoder
    theirs = read_golden(golden_paths(folder)[0], fingerprint.digest)
    refuse_difference(golden, theirs, fingerprint.facts, names=(encoder, str(folder)))


def make_golden_folder(folder: Path) -> Path:
    """Make the place of golden shards in a fingerprint's folder."""
    golden = folder / GOLDEN_FOLDER
    make_folder(golden)
    return golden


def read_golden(path: Path, fingerprint: str) -> Golden:
    """Check and open a golden shard.

    Raises:
        StoreError: It is damaged, hostile or of another fingerprint.
        FileNotFoundError: It is gone.
    """
    with open_regular(path) as file:
        check_digest(path, file)
    shard = open_shard(path, fingerprint=fingerprint)
    return Golden(shard.key_N16, shard.vector.map(), shard.length_N)


def refuse_difference(one: Golden, other: Golden, facts: Mapping[str, object], names: tuple[str, str]) -> None:
    """Compare golden vectors of two encoders of one fingerprint.

    Raises:
        StoreError: They differ by more than the precision allows.
    """
    found, allowed = difference(one, other), tolerance(facts)
    if not found <= allowed:
        raise StoreError(
            f"{names[0]} and {names[1]} have one fingerprint but give different vectors of the same sequences "
            f"(relative L2 difference {found:.1e}, at most {allowed:g} in this precision): a driver, a library or the "
            "machine changed what it computes. Nothing was written; go back to what made the store, or name a new one."
        )


def difference(one: Golden, other: Golden) -> float:
    """Tell the largest relative L2 difference over the keys that both hold; infinite where the widths differ."""
    if one.vector_GD.shape[1] != other.vector_GD.shape[1]:
        return float("inf")
    place = {key.tobytes(): at for at, key in enumerate(other.key_G16)}
    both = [(at, place[key.tobytes()]) for at, key in enumerate(one.key_G16) if key.tobytes() in place]
    at_one, at_other = np.array(both, np.int64).reshape(-1, 2).T
    one_BD, other_BD = one.vector_GD[at_one].astype(np.float64), other.vector_GD[at_other].astype(np.float64)
    apart_B = np.linalg.norm(one_BD - other_BD, axis=1) / np.linalg.norm(other_BD, axis=1)
    return float(np.max(apart_B, initial=0.0))


def tolerance(facts: Mapping[str, object]) -> float:
    """Tell the largest difference that the facts of a fingerprint allow; of an unknown precision the least."""
    precision = facts.get("precision")
    name = precision.get("name") if isinstance(precision, Mapping) else precision
    return TOLERANCE.get(str(name), min(TOLERANCE.values()))
