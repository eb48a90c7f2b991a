"""How each task of a submission stands, from what it left in its folder and from who still runs it."""

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipeline.signals import INTERRUPTED, STOPPED
from pipeline.slurm import tasks_in_queue
from pipeline.submission import Submission, SubmissionDir

State = Literal["done", "running", "queued", "stopped", "failed", "missing", "unknown"]
STATES: tuple[State, ...] = ("done", "running", "queued", "stopped", "failed", "missing", "unknown")
_TAIL_BYTES = 16384


@dataclass(frozen=True, slots=True)
class Standing:
    """How one task stands."""

    task: int
    state: State
    """`stopped` was told to and can go on; `missing` never began; `unknown`: Slurm cannot be asked."""
    reason: str
    """Last words of its log, or why it waits."""


def standings(place: SubmissionDir, submission: Submission) -> list[Standing]:
    """Tell how every task of a submission stands."""
    tasks = range(1, submission.count + 1)
    if submission.way == "local":
        alive = _is_locked(place.record)
        return [_local_standing(place, task, driven=alive) for task in tasks]
    queue = tasks_in_queue(submission.job)
    return [_slurm_standing(place, task, queue) for task in tasks]


def begun_at(place: SubmissionDir, submission: Submission) -> float | None:
    """Tell when the first task began, in seconds since the epoch; None where none has."""
    times = [_first_time(place.log(task)) for task in range(1, submission.count + 1)]
    return min((time for time in times if time is not None), default=None)


def _slurm_standing(place: SubmissionDir, task: int, queue: Mapping[int, tuple[str, str]] | None) -> Standing:
    code = _code(place, task)
    if code == 0:
        return Standing(task, "done", "")
    if queue is not None and task in queue:
        state, reason = queue[task]
        if state == "PENDING":
            return Standing(task, "queued", "" if reason == "None" else reason)
        return Standing(task, "running", _last_words(place.log(task)))
    return _over(place, task, code, gone="missing" if queue is not None else "unknown")


def _local_standing(place: SubmissionDir, task: int, *, driven: bool) -> Standing:
    code = _code(place, task)
    if code is None and _is_locked(place.log(task)):
        return Standing(task, "running", _last_words(place.log(task)))
    if driven and (code == STOPPED or not place.log(task).exists()):
        return Standing(task, "queued", "")
    return _over(place, task, code, gone="missing")


def _over(place: SubmissionDir, task: int, code: int | None, *, gone: State) -> Standing:
    words = _last_words(place.log(task))
    if code == 0:
        return Standing(task, "done", "")
    if code in (STOPPED, INTERRUPTED):
        return Standing(task, "stopped", words)
    if code is not None:
        return Standing(task, "failed", f"exit code {code}: {words}")
    if gone == "unknown" or not place.log(task).exists():
        return Standing(task, gone, words)
    return Standing(task, "failed", f"ended without a word of its own; its log ends: {words}")


def _code(place: SubmissionDir, task: int) -> int | None:
    try:
        return int(place.code(task).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_locked(path: Path) -> bool:
    """Tell whether a process of this machine holds the file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _last_words(log: Path) -> str:
    """Find the line that says most at a log's end: its last error, else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    # Of the last start alone: earlier ones are told by their own ends.
    last = f"\n{text}".rpartition("\nbindcache: ")[2].partition("\n")[2] if "bindcache: " in text else text
    lines = [line.strip() for line in last.splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if "error" in line.lower()]
    return (errors or lines or [""])[-1]


def _first_time(log: Path) -> float | None:
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return datetime.fromisoformat(file.readline().rstrip("\n").rpartition(" at ")[2]).timestamp()
    except (FileNotFoundError, ValueError):
        return None
