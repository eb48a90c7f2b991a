"""What a store calls its parts; FORMAT.md says what they mean.

Shapes: N rows, 16 bytes of a sequence key.
"""

import hashlib
import json
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

FORMAT_VERSION = 1
RESIDUE_VERSION = 2
"""Of shards that hold a vector of each residue too."""
KEY_BYTES = 16

FINGERPRINT_FILE = "fingerprint.json"
VERIFIED_FILE = "verified.json"
SHARDS_FOLDER = "shards"
GOLDEN_FOLDER = "golden"
QUARANTINE_FOLDER = "quarantine"
SHARD_NAME = re.compile(r"[0-9a-f]{64}\.h5")
TEMPORARY_PREFIX = ".tmp-"

KEY, VECTOR, LENGTH = "key", "vector", "length"
ROWS, RESIDUES = "rows", "residues"
KEY_DTYPE = np.dtype("u1")
LENGTH_DTYPE = np.dtype("<i4")
VECTOR_DTYPES = (np.dtype("<f4"), np.dtype("<f2"))
MEAN_DTYPE = np.dtype("<f4")
ROWS_DTYPE = np.dtype("<i4")
RESIDUES_DTYPE = np.dtype("<f2")

VERSION_ATTRIBUTE, VERSION_DTYPE = "format", np.dtype("<u4")
FINGERPRINT_ATTRIBUTE, FINGERPRINT_DTYPE = "fingerprint", np.dtype("S64")


def fingerprint_digest(facts: Mapping[str, object]) -> str:
    """Digest everything that can change a vector: sha256 of the facts' canonical JSON, 64 hex digits."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def key_halves(key_N16: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Split keys into two big-endian uint64 [N], whose order as a pair is the order of the key's bytes."""
    halves_N2 = np.ascontiguousarray(key_N16, dtype=KEY_DTYPE).view(">u8").astype(np.uint64)
    return halves_N2[:, 0], halves_N2[:, 1]
