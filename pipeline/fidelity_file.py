"""What `bindcache fidelity` found last, kept in the store for the reports, which need none of what measured it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed.store.durable import replace_file

_FILE = "fidelity.json"


def keep_fidelity(store: Path, result: Mapping[str, Any], digest: str) -> None:
    """Leave a result in a store; where there is no store, none is made.

    Args:
        store: Its folder.
        result: What was found, as JSON takes it.
        digest: SHA-256 of the table's file.
    """
    if store.is_dir():
        record = {"table": digest, "fidelity": result}
        replace_file(store / _FILE, json.dumps(record, indent=1).encode())


def kept_fidelity(store: Path) -> tuple[Mapping[str, Any], str] | None:
    """Read the result and the table's digest; None where nothing was measured, or what is there cannot be read."""
    try:
        record = json.loads((store / _FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return record["fidelity"], record["table"]
