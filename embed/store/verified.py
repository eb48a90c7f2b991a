"""Which shards are known to hold the bytes that their name promises."""

import hashlib
import json
import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from embed.errors import StoreError
from embed.store.publish import temporary_name, write_new
from embed.store.schema import VERIFIED_FILE

Stamp = tuple[int, int, int]
"""Inode, size in bytes and modification time in nanoseconds of a file."""

WAY_OUT = "`bindcache store verify` lists such files; delete them and `bindcache embed` makes them anew"


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
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != shard.stem:
            raise StoreError(f"{shard} is damaged: its bytes have another digest than its name. {WAY_OUT}.")
        self._remembered[shard.name] = stamp
        self._changed = True

    def save(self) -> None:
        """Remember for the next opening; a folder that cannot be written is no obstacle."""
        if not self._changed:
            return
        temporary = self._path.with_name(temporary_name())
        with suppress(OSError):
            write_new(temporary, json.dumps(self._remembered, indent=0, sort_keys=True).encode())
            try:
                os.replace(temporary, self._path)
            finally:
                temporary.unlink(missing_ok=True)


def open_regular(path: Path) -> BufferedReader:
    """Open a plain file for reading.

    Raises:
        StoreError: It is a link, a folder or anything else, or may not be read.
        FileNotFoundError: It is gone.
    """
    try:
        # O_NONBLOCK: a named pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as a plain file ({error.strerror}). {WAY_OUT}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreError(f"{path} is no plain file. {WAY_OUT}.")
    return os.fdopen(descriptor, "rb")


def stamp_of(file: BufferedReader) -> Stamp:
    """Tell by what a changed file is recognised without reading it."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _load(path: Path) -> dict[str, Stamp]:
    try:
        return {name: (int(i), int(s), int(t)) for name, (i, s, t) in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
