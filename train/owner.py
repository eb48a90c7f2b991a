"""Who works in a folder: one living process of all that share it, on whatever machine.

The n-th owner is whoever creates `.owner-n` first, so no lock is needed. An owner touches its file as long as it
lives; when it is gone, the next number is free to be taken. The highest number is never removed.
"""

import errno
import json
import os
import socket
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from embed.store import disk
from embed.store.durable import discard, explained, make_folder, temporary_name, write_new
from train.errors import TrainError

_BEAT_SECONDS = 15.0
_POLL_SECONDS = 1.0
SILENT_SECONDS = 180.0
"""Without a sign of life for this long, the owner on another machine counts as dead."""


Life = Literal["gone", "living", "unknown"]
"""An owner on another machine is unknown until it has been silent for long."""


class Owner:
    """The ownership of one folder; a context manager that gives signs of life while it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_current = True
        """Whether nobody has taken over, as after a long suspension."""
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="owner", daemon=True)

    def __enter__(self) -> "Owner":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()
        self.leave()

    def leave(self) -> None:
        """Make the folder free at once; where the disk refuses, this process's death does."""
        with suppress(OSError):
            disk.utime(self._path, (0, 0))

    def _beat(self) -> None:
        while not self._left.wait(_BEAT_SECONDS):
            with suppress(OSError):  # taken over and removed, or the disk fails, which others will tell
                disk.utime(self._path)
            self.is_current = self._path == _newest(self._path.parent)


def take(folder: Path) -> Owner | None:
    """Become the owner of a folder, made where it is missing; None where another one lives."""
    make_folder(folder)
    newest = _newest(folder)
    if newest is not None and _life(newest) != "gone":
        return None
    path = folder / f".owner-{_number(newest) + 1}"
    if not _create(path):
        return None
    if path != _newest(folder):  # by an old list of owners
        discard(path)
        return None
    for older in folder.glob(".owner-*"):
        if _number(older) < _number(path):
            discard(older)
    return Owner(path)


def own(folder: Path) -> Owner:
    """Become the owner of a folder; waits while it is unknown whether the one on another machine lives.

    Raises:
        TrainError: Another process lives and owns it.
    """
    seen: dict[Path, float] = {}
    while (owner := take(folder)) is None:
        newest = _newest(folder)
        if newest is not None and (_life(newest) == "living" or _moves(newest, seen)):
            raise TrainError(f"{folder} is in use by {_name(newest)}: wait for it, or name another folder.")
        time.sleep(_POLL_SECONDS)
    return owner


def has_owner(folder: Path) -> bool:
    """Tell whether a folder ever had an owner."""
    return _newest(folder) is not None


def is_owned(folder: Path) -> bool:
    """Tell whether a folder has a living owner."""
    newest = _newest(folder)
    return newest is not None and _life(newest) != "gone"


def _newest(folder: Path) -> Path | None:
    return max(folder.glob(".owner-*"), key=_number, default=None)


def _number(path: Path | None) -> int:
    return 0 if path is None else int(path.name.rpartition("-")[2])


def _create(path: Path) -> bool:
    """Create an owner's file, with its record in it from the first instant on; False where it is there."""
    record = json.dumps({**_place(), "pid": os.getpid(), "began": _began(os.getpid())}).encode()
    temporary = path.with_name(temporary_name())
    with explained(path.parent, len(record)):
        write_new(temporary, record, mode=0o666)
        try:
            disk.link(temporary, path)
        except (FileExistsError, FileNotFoundError):  # another was faster, and may have cleared up
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            return _create_in_place(path, record)
        finally:
            discard(temporary)
    return True


def _create_in_place(path: Path, record: bytes) -> bool:
    """Do without hard links, which some filesystems lack; a death may leave half a record, which is silent."""
    with suppress(FileExistsError):
        write_new(path, record, mode=0o666)
        return True
    return False


def _life(path: Path) -> Life:
    """Tell of an owner's life what can be told at once."""
    with suppress(FileNotFoundError):  # just replaced by the next owner
        touched = path.stat().st_mtime
        owner = _record(path)
        if touched == 0:
            return "gone"
        if all(owner.get(name) == value for name, value in _place().items()):
            return "living" if _began(owner["pid"]) == owner["began"] else "gone"
        return "unknown" if _clock(path.parent) - touched < SILENT_SECONDS else "gone"
    return "unknown"


def _moves(path: Path, seen: dict[Path, float]) -> bool:
    """Tell whether an owner gave a sign of life since it was first looked at."""
    with suppress(FileNotFoundError):
        touched = path.stat().st_mtime
        return seen.setdefault(path, touched) != touched
    return False


def _name(path: Path) -> str:
    with suppress(FileNotFoundError):
        owner = _record(path)
        return f"process {owner.get('pid', '?')} on {owner.get('host', 'another machine')}"
    return "another process"


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except ValueError:  # being written, or what a failing machine left
        return {}
    return record if isinstance(record, dict) else {}


@cache
def _place() -> dict[str, str]:
    """Name this machine since it was started, and this view of its processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"host": socket.gethostname(), "boot": boot, "processes": str(Path("/proc/self/ns/pid").readlink())}
    except OSError:  # not Linux: another machine for everyone, silence alone tells
        return {"host": socket.gethostname(), "boot": f"unknown-{os.getpid()}", "processes": ""}


def _began(pid: int) -> str | None:
    """Tell when a process began, in the kernel's ticks; None where there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _clock(folder: Path) -> float:
    """Tell the time by the clock that stamps this folder's files."""
    probe = folder / temporary_name()
    with explained(folder, 0):
        write_new(probe, b"")
    try:
        return probe.stat().st_mtime
    finally:
        discard(probe)
