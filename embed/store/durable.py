"""Files and folders that are whole or absent, whatever instant the process or the machine dies at."""

import errno
import math
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from embed.store import disk
from embed.store.schema import TEMPORARY_PREFIX

_STALE_SECONDS = 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PIECE = 1 << 20


class Sink(Protocol):
    """What content is written to, piece by piece."""

    def write(self, data: bytes, /) -> int:
        """Take all of the bytes."""
        ...


Content = bytes | Callable[[Sink], None]
"""Bytes, or what writes them to a sink."""


def replace_file(path: Path, content: Content, *, size: int = 0) -> None:
    """Put content under `path` in one step, in place of what is there; it is durable when this returns.

    `size` tells the bytes it has at least, where it is no `bytes`.

    Raises:
        OSError: The disk is full or fails; what was there is still there.
    """
    with explained(path.parent, len(content) if isinstance(content, bytes) else size):
        temporary = path.with_name(temporary_name())
        write_new(temporary, content, mode=0o666)
        try:
            disk.replace(temporary, path)
        except BaseException:
            discard(temporary)
            raise
        sync_folder(path.parent)


def write_new(path: Path, content: Content, *, mode: int = 0o444) -> None:
    """Write a file that does not exist yet, down to the disk; with the default mode nobody writes it again.

    Raises:
        OSError: The disk is full or fails; the file is gone again.
    """
    descriptor = disk.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        try:
            if isinstance(content, bytes):
                disk.fallocate(descriptor, len(content))  # a full disk says so before the first byte
                write_all(descriptor, content)
            else:
                pieces = _Pieces(descriptor)
                content(pieces)
                pieces.flush()
            disk.fsync(descriptor)  # never tried twice: after a failure the page counts as clean
        finally:
            os.close(descriptor)
    except BaseException:
        discard(path)
        raise


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, made where it is missing; a death may leave a part, and the machine's nothing.

    Raises:
        OSError: The disk is full or fails.
    """
    with explained(path.parent, len(content)):
        descriptor = disk.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """Write all bytes, however many the system takes at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; one that is there is fine.

    Raises:
        OSError: The disk is full or fails, or a file has the name.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with explained(folder.parent, 0):
        try:
            disk.mkdir(folder)
        except FileExistsError:  # by another process, just now
            if not folder.is_dir():
                raise
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: The disk fails.
    """
    with explained(folder, 0):
        descriptor = disk.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def explained(folder: Path, size: int) -> Iterator[None]:
    """Let an OSError name the folder, and where there is no room, the bytes needed."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            needed = f", and {size:,} bytes are needed" if size else ""
            way_out = f"{os.strerror(error.errno)}{needed}; free some and run the same command again"
            raise OSError(error.errno, way_out, str(folder)) from error
        if error.errno is not None and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error
        raise


def temporary_name() -> str:
    """Name a temporary that no other process on any machine uses."""
    return f"{TEMPORARY_PREFIX}{platform.node()}-{os.getpid()}-{secrets.token_hex(8)}"


def remove_temporaries(folder: Path, *, alone: bool = False) -> None:
    """Remove what killed writers left in a folder; what is younger than an hour only where nobody else writes."""
    before = math.inf if alone else time.time() - _STALE_SECONDS
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.startswith(TEMPORARY_PREFIX):
                with suppress(OSError):  # gone already, or another user's: the next start tries again
                    if (folder / name).lstat().st_mtime <= before:
                        remove_tree(folder / name)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all that is in it.

    Raises:
        OSError: The disk fails.
    """
    if path.is_symlink() or not path.is_dir():
        disk.unlink(path)
        return
    for each in path.iterdir():
        remove_tree(each)
    disk.rmdir(path)


def discard(path: Path) -> None:
    """Remove a temporary of our own; where the disk refuses, it is left to `remove_temporaries`."""
    with suppress(OSError):
        disk.unlink(path)


class _Pieces:
    """A sink that hands small pieces on together."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    def write(self, data: bytes, /) -> int:
        if len(self._held) + len(data) > _PIECE:
            self.flush()
        if len(data) > _PIECE:
            write_all(self._descriptor, data)
        else:
            self._held += data
        return len(data)

    def flush(self) -> None:
        write_all(self._descriptor, self._held)
        self._held = bytearray()
