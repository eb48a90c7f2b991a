"""The publish protocol: a file appears whole and durable under its last name, or not at all."""

import errno
import hashlib
import os
import platform
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from embed.store.schema import TEMPORARY_PREFIX


def publish(image: bytes, shards: Path) -> Path:
    """Put a shard's bytes under the digest of those bytes; the same shard already there is fine.

    Raises:
        OSError: The disk is full or fails; nothing is left behind.
    """
    path = shards / f"{hashlib.sha256(image).hexdigest()}.h5"
    temporary = shards / temporary_name()
    try:
        write_new(temporary, image)
        _link(temporary, path)
        sync_folder(shards)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet, down to the disk; it is read-only, for it never changes.

    Raises:
        OSError: The disk is full or fails; the file is gone again.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    try:
        with os.fdopen(descriptor, "wb", buffering=0):
            if content and sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, len(content))  # a full disk says so before the first byte
            _write_all(descriptor, content)
            os.fsync(descriptor)  # never tried twice: after a failure the page counts as clean
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name() -> str:
    """Name a temporary that no other process on any machine uses."""
    return f"{TEMPORARY_PREFIX}{platform.node()}-{os.getpid()}-{secrets.token_hex(8)}"


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _link(temporary: Path, path: Path) -> None:
    try:
        with suppress(FileExistsError):  # equal names are equal bytes
            os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        os.replace(temporary, path)  # a filesystem without hard links
