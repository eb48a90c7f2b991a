"""Which shards are known to hold the bytes that their name promises."""

import hashlib
import json
import os
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from embed.errors import StoreError
from embed.store.durable import replace_file
from embed.store.plain import open_plain
from embed.store.schema import VERIFIED_FILE

Stamp = tuple[int, int, int, int]
"""Inode, size in bytes, and times of modification and of change (which no program can set back) in nanoseconds."""

_TICK_NS = 50_000_000
"""A file changed so lately could change again without its times showing it, as they move by the kernel's ticks."""

WAY_OUT = "`bindcache store verify --repair` moves such files away, and `bindcache embed` makes their vectors anew"


class Verified:
    """The digests remembered in `verified.json`; without that file everything is hashed again."""

    def __init__(self, folder: Path, *, forget: bool = False) -> None:
        """Read what is remembered of a fingerprint's folder, or start from nothing with `forget`."""
        self._path = folder / VERIFIED_FILE
        self._remembered: dict[str, Stamp] = {} if forget else _load(self._path)
        self._changed = forget

    def check(self, shard: Path) -> None:
        """Hash a shard, unless it was hashed before and its stamp is still the same.

        Raises:
            StoreError: The bytes do not have the digest of the file's name.
            FileNotFoundError: The shard is gone.
        """
        with open_regular(shard) as file:
            stamp = stamp_of(file)
            if self._remembered.get(shard.name) == stamp:
                return
            check_digest(shard, file)
        if time.time_ns() - stamp[-1] > _TICK_NS:
            self._remembered[shard.name] = stamp
            self._changed = True

    def save(self) -> None:
        """Remember for the next opening; a folder that cannot be written is no obstacle."""
        if not self._changed:
            return
        with suppress(OSError):
            replace_file(self._path, json.dumps(self._remembered, indent=0, sort_keys=True).encode())


def check_digest(shard: Path, file: BufferedReader) -> None:
    """Hash an opened shard.

    Raises:
        StoreError: The bytes do not have the digest of the file's name.
    """
    if hashlib.file_digest(file, "sha256").hexdigest() != shard.stem:
        raise StoreError(f"{shard} is damaged: its bytes have another digest than its name. {WAY_OUT}.")


def open_regular(path: Path) -> BufferedReader:
    """Open a plain file of the store for reading.

    Raises:
        StoreError: It is a link, a folder or anything else, or may not be read.
        FileNotFoundError: It is gone.
    """
    try:
        return open_plain(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as a plain file ({error.strerror}). {WAY_OUT}.") from error


def stamp_of(file: BufferedReader) -> Stamp:
    """Tell by what a changed file is recognised without reading it."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(path: Path) -> dict[str, Stamp]:
    try:
        with open_plain(path) as file:
            remembered = json.load(file)
        return {name: (int(i), int(s), int(m), int(c)) for name, (i, s, m, c) in remembered.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
