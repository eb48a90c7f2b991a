"""The folder of one fingerprint: what it is of, and which shards are in it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed.errors import StoreError
from embed.store.plain import open_plain
from embed.store.schema import (
    FINGERPRINT_FILE,
    GOLDEN_FOLDER,
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
        with open_plain(path) as file:
            content = json.load(file)
        facts, resolved = dict(content["facts"]), dict(content["resolved"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path} cannot be read ({error!r}): restore it, or let `bindcache store verify --repair` move it away "
            "and `bindcache embed` write it anew."
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
    return _shards_in(folder / SHARDS_FOLDER)


def golden_paths(folder: Path) -> list[Path]:
    """List a folder's golden shards; the first one counts."""
    return _shards_in(folder / GOLDEN_FOLDER)


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
        if not path.name.startswith(TEMPORARY_PREFIX) and os.path.lexists(path / FINGERPRINT_FILE)
    )


def _shards_in(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if SHARD_NAME.fullmatch(name)]
