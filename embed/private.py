"""The cache that only this user can write: what lies in it is run, or taken for the truth."""

import os
import stat
from pathlib import Path


def private_cache() -> Path | None:
    """Make or find `bindcache` in the user's cache folder; None where others could write it, or this user cannot."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "bindcache"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    private = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if private and os.access(folder, os.W_OK | os.X_OK) else None
