"""Writing to a store: vectors are collected and published a shard at a time.

Shapes: B rows added at once, D width of a vector, 16 bytes of a sequence key.
"""

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from embed.errors import StoreError
from embed.store import disk
from embed.store.durable import (
    explained,
    make_folder,
    remove_temporaries,
    remove_tree,
    replace_file,
    sync_folder,
    temporary_name,
    write_new,
)
from embed.store.folder import read_fingerprint
from embed.store.image import build_shard
from embed.store.publish import publish
from embed.store.schema import FINGERPRINT_FILE, KEY_BYTES, SHARDS_FOLDER, fingerprint_digest


class Publisher(ABC):
    """Publishes what it holds when it is left; left by an exception, it drops what is not published."""

    def __init__(self, folder: Path, fingerprint: str, max_seconds: float) -> None:
        self.published: list[Path] = []
        self._shards = folder / SHARDS_FOLDER
        self._fingerprint = fingerprint
        self._max_seconds = max_seconds
        self._first_added = 0.0

    @abstractmethod
    def flush(self) -> None:
        """Publish what is held; no-op when that is nothing.

        Raises:
            StoreError: A vector is not finite as stored.
            OSError: The disk is full or fails; what is held still is.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()

    def _begin(self) -> None:
        """Note when the first row of a shard was added."""
        self._first_added = time.monotonic()

    def _is_old(self) -> bool:
        return time.monotonic() - self._first_added >= self._max_seconds

    def _publish(self, image: bytes) -> None:
        self.published.append(publish(image, self._shards))


class ShardWriter(Publisher):
    """Collects rows and publishes them as shards."""

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: str,
        dim: int,
        dtype: Literal["float32", "float16"] = "float32",
        shard_rows: int = 4096,
        max_seconds: float = 60.0,
    ) -> None:
        """Write into a folder that `create_folder` made.

        `max_seconds` is how old a row may be when another one is added: then both are published.
        """
        super().__init__(folder, fingerprint, max_seconds)
        self._key = np.empty((shard_rows, KEY_BYTES), np.uint8)
        self._vector = np.empty((shard_rows, dim), dtype)
        self._length = np.empty(shard_rows, np.int32)
        self._rows = 0

    def add(
        self,
        key_B16: npt.NDArray[np.uint8],
        vector_BD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int32],
    ) -> None:
        """Take rows (copied), and publish when a shard is full or its first row is `max_seconds` old.

        Raises:
            StoreError: The shapes do not fit, or a vector of the shard is not finite as stored.
            OSError: The disk is full or fails.
        """
        rows, dim = len(key_B16), self._vector.shape[1]
        if key_B16.shape != (rows, KEY_BYTES) or vector_BD.shape != (rows, dim) or length_B.shape != (rows,):
            raise StoreError(
                f"Shapes key {key_B16.shape}, vector {vector_BD.shape}, length {length_B.shape} are not "
                f"(B, {KEY_BYTES}), (B, {dim}), (B,)."
            )
        start = 0
        while start < rows:
            stop = min(rows, start + len(self._key) - self._rows)
            self._hold(key_B16[start:stop], vector_BD[start:stop], length_B[start:stop])
            start = stop
            if self._rows == len(self._key) or self._is_old():
                self.flush()

    def flush(self) -> None:
        """Publish what is held; no-op when that is nothing.

        Raises:
            StoreError: A vector is not finite as stored.
            OSError: The disk is full or fails; the rows are still held.
        """
        if not self._rows:
            return
        held = slice(self._rows)
        self._publish(build_shard(self._key[held], self._vector[held], self._length[held], self._fingerprint))
        self._rows = 0

    def _hold(
        self,
        key_B16: npt.NDArray[np.uint8],
        vector_BD: npt.NDArray[np.float32],
        length_B: npt.NDArray[np.int32],
    ) -> None:
        if not self._rows:
            self._begin()
        held = slice(self._rows, self._rows + len(key_B16))
        self._key[held], self._length[held] = key_B16, length_B
        with np.errstate(over="ignore"):  # build_shard refuses what float16 cannot hold
            self._vector[held] = vector_BD
        self._rows = held.stop


def create_folder(root: Path, name: str, facts: Mapping[str, object], resolved: Mapping[str, object]) -> Path:
    """Make the folder of a fingerprint, whole or not at all; the same one already there is fine.

    `name` ends in the first 16 hex digits of the facts' digest. `resolved` is kept for people to read.

    Raises:
        StoreError: The name does not fit the facts, or the folder there is of other facts.
        OSError: The disk is full or fails.
    """
    folder, digest = root / name, fingerprint_digest(facts)
    if not name.endswith(f"-{digest[:16]}"):
        raise StoreError(f"Folder name {name!r} does not end in -{digest[:16]}, the digest of its facts.")
    content = json.dumps({"facts": facts, "resolved": resolved}, indent=2, sort_keys=True).encode() + b"\n"
    if not folder.exists():
        make_folder(root)
        _make(root, folder, content)
    elif not os.path.lexists(folder / FINGERPRINT_FILE):  # `store verify --repair` moved a damaged one away
        replace_file(folder / FINGERPRINT_FILE, content)  # whoever else restores it writes the same
    if read_fingerprint(folder).digest != digest:
        raise StoreError(f"{folder} is of another fingerprint than {digest}: move it out of the store.")
    for each in (root, folder, folder / SHARDS_FOLDER):
        remove_temporaries(each)
    return folder


def _make(root: Path, folder: Path, content: bytes) -> None:
    temporary = root / temporary_name()
    with explained(root, len(content)):
        try:
            disk.mkdir(temporary)
            disk.mkdir(temporary / SHARDS_FOLDER)
            write_new(temporary / FINGERPRINT_FILE, content)
            sync_folder(temporary)
            disk.rename(temporary, folder)
        except OSError:
            with suppress(OSError):
                remove_tree(temporary)
            if not folder.exists():  # else another process was first
                raise
        sync_folder(root)
