"""Files that are whole or absent, whatever instant the process or the machine dies at."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_MARK = ".tmp-"


def replace_file(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Put content, or what a function writes, under `path` in one step.

    It goes to a temporary file beside it; then fsync, rename, fsync of the folder.
    """
    temporary = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    with temporary.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            content(file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Delete what a killed `replace_file` left; only for a folder that nobody else writes."""
    for path in folder.glob(f".*{_MARK}*"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
