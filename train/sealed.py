"""JSON that carries the SHA-256 of what it says, so that damage to it is seen."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed.store.durable import replace_file
from embed.store.plain import open_plain

_SEAL = "sha256"


def write_sealed(path: Path, record: Mapping[str, object]) -> None:
    """Write a record with its digest, whole or not at all."""
    replace_file(path, json.dumps({**record, _SEAL: _digest(record)}, indent=1).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a record and check its digest.

    Raises:
        FileNotFoundError: There is none.
        NotPlainError: Something else stands in its place.
        ValueError, TypeError, RecursionError: It is no JSON object, or is damaged.
    """
    with open_plain(path) as file:
        record = dict(json.load(file))
    if record.pop(_SEAL, None) != _digest(record):
        raise ValueError("its bytes do not match its SHA-256")
    return record


def _digest(record: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
