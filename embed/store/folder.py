"""The folder of one fingerprint: what it is of, and which shards are in it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed.errors import StoreError
from embed.store.schema import (
    FINGERPRINT_FILE,
    SHARD_NAME,
    SHARDS_FOLDER,
    TEMPORARY_PREFIX,
    fingerprint_digest,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The content of `fingerprint.json`: the facts, their digest, and where the encoder was found."""

    digest: str
    facts: Mapping[str, object]
    resolved: Mapping[str, object]


def read_fingerprint(folder: Path) -> Fingerprint:
    """Read what a folder's vectors were made by.

    Raises:
        StoreError: The file is missing, unreadable, or not the one this folder is named by.
    """
    path = folder / FINGERPRINT_FILE
    try:
        content = json.loads(path.read_bytes())
        facts, resolved = dict(content["facts"]), dict(content["resolved"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error!r}): restore it, or move its folder out of the store."
        ) from error
    digest = fingerprint_digest(facts)
    if not folder.name.endswith(f"-{digest[:16]}"):
        raise StoreError(
            f"{path} has digest {digest[:16]}, which its folder's name does not end in: "
            "restore the file or the name, or move the folder out of the store."
        )
    return Fingerprint(digest=digest, facts=facts, resolved=resolved)


def shard_paths(folder: Path) -> list[Path]:
    """List a folder's shards in the order in which they win; every other name is ignored."""
    try:
        names = os.listdir(folder / SHARDS_FOLDER)
    except FileNotFoundError:
        return []
    return [folder / SHARDS_FOLDER / name for name in sorted(names) if SHARD_NAME.fullmatch(name)]


def fingerprint_folders(root: Path) -> list[Path]:
    """List the folders of a store.

    Raises:
        StoreError: There is no such folder.
    """
    if not root.is_dir():
        raise StoreError(f"There is no store at {root}: `bindcache embed` makes one, or name another folder.")
    return sorted(
        path
        for path in root.iterdir()
        if not path.name.startswith(TEMPORARY_PREFIX) and (path / FINGERPRINT_FILE).is_file()
    )
