"""Moving a file that breaks FORMAT.md out of every reader's way, never deleting it."""

import os
from itertools import count
from pathlib import Path

from embed.store import disk
from embed.store.durable import explained, make_folder, sync_folder
from embed.store.schema import FINGERPRINT_FILE, QUARANTINE_FOLDER


def quarantine(path: Path) -> Path:
    """Move what `verify` found wrong to `quarantine/` in its fingerprint's folder, and tell where it lies now.

    Raises:
        OSError: It cannot be moved.
    """
    home = path.parent if path.name == FINGERPRINT_FILE else path.parent.parent
    folder = home / QUARANTINE_FOLDER
    make_folder(folder)
    names = (folder / (f"{path.name}.{number}" if number else path.name) for number in count())
    to = next(name for name in names if not os.path.lexists(name))
    with explained(folder, 0):
        disk.rename(path, to)
    sync_folder(folder)
    sync_folder(path.parent)
    return to
