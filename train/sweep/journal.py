"""The journal of a sweep's study: one JSON line per record, as Optuna's own file backend writes and reads it."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from embed.store import disk
from embed.store.durable import explained, make_folder, sync_folder, write_all
from train.owner import take

_POLL_SECONDS = 0.002


class Journal(BaseJournalBackend):
    """Records that any number of processes append, one at a time; what a death left half written is cut off.

    Optuna's backend would wait half a minute for a dead process's lock, and append to half a line.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or begin it."""
        self._path = path
        self._lock = path.with_suffix(".lock")
        self._ends = [0]
        """Where each record that was read ends."""
        make_folder(self._lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Give the records from a number on."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._ends[log_number_from])
            for number, line in enumerate(file, log_number_from + 1):
                record = _record(line)
                if record is None:
                    break
                if number == len(self._ends):
                    self._ends.append(self._ends[-1] + len(line))
                yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records, durably.

        Raises:
            OSError: The disk is full or fails; the records are there or not, as after a death.
        """
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        while (owner := take(self._lock)) is None:
            time.sleep(_POLL_SECONDS)
        try:
            with explained(self._path.parent, len(lines)):
                self._append(lines)
        finally:
            owner.leave()

    def _append(self, lines: bytes) -> None:
        descriptor = disk.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            for _ in self.read_logs(len(self._ends) - 1):
                pass
            end = self._ends[-1]
            if os.fstat(descriptor).st_size > end:
                disk.ftruncate(descriptor, end)
            write_all(descriptor, lines)
            disk.fsync(descriptor)
        finally:
            os.close(descriptor)
        if end == 0:
            sync_folder(self._path.parent)


def _record(line: bytes) -> dict[str, Any] | None:
    """Read a line; None where it is not whole."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
