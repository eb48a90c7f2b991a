"""The publish protocol: a shard appears whole and durable under its last name, or not at all."""

import errno
import hashlib
from contextlib import suppress
from pathlib import Path

from embed.store import disk
from embed.store.durable import discard, explained, sync_folder, temporary_name, write_new


def publish(image: bytes, shards: Path) -> Path:
    """Put a shard's bytes under the digest of those bytes; the same shard already there is fine.

    Raises:
        OSError: The disk is full or fails; it names the folder, and the bytes needed.
    """
    path = shards / f"{hashlib.sha256(image).hexdigest()}.h5"
    temporary = shards / temporary_name()
    with explained(shards, len(image)):
        write_new(temporary, image)
        try:
            _link(temporary, path)
            sync_folder(shards)
        finally:
            discard(temporary)
    return path


def _link(temporary: Path, path: Path) -> None:
    try:
        with suppress(FileExistsError):  # equal names are equal bytes
            disk.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        disk.replace(temporary, path)  # a filesystem without hard links
