"""A submission: one command as many tasks, and the folder with all that is known of them.

A task is a part of `embed` or a worker of `sweep`. Nobody keeps books: a task's standing is read from its log, the exit
code beside it, and whether Slurm knows it or, on this machine, a process still holds the log locked.
"""

import json
import os
import secrets
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from embed.store.durable import replace_file
from pipeline.errors import ConfigError

Kind = Literal["embed", "sweep"]
TASK_WORDS = {"embed": "part", "sweep": "worker"}
_FORMAT = "bindcache submission 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """One command for each task."""

    kind: Kind
    count: int
    config: Path
    """The config file."""
    overrides: tuple[str, ...] = ()
    trials: int = 0
    """Of the whole sweep."""

    @property
    def word(self) -> str:
        """What one task is called."""
        return TASK_WORDS[self.kind]

    @property
    def watch(self) -> str:
        """The command that tells how they stand."""
        return shlex.join(["bindcache", "status", "--config", str(self.config), *self._sets()])

    def words(self, task: int) -> list[str]:
        """List the arguments of `bindcache` for one task, counted from 1."""
        own = ["--part", f"{task}/{self.count}"] if self.kind == "embed" else []
        return [*self._shared(), *own]

    def shell(self, task: str) -> str:
        """Write the same as a shell line, where `task` is a shell expression."""
        own = [f'--part "{task}/{self.count}"'] if self.kind == "embed" else []
        return " ".join(["bindcache", shlex.join(self._shared()), *own])

    def _shared(self) -> list[str]:
        trials = ["--trials", str(self.trials)] if self.kind == "sweep" else []
        return [self.kind, "--config", os.path.abspath(self.config), *self._sets(), *trials]

    def _sets(self) -> list[str]:
        return [word for override in self.overrides for word in ("--set", override)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was submitted, as `submission.json` keeps it."""

    kind: Kind
    count: int
    config: str
    """The config file, absolute."""
    way: Literal["slurm", "local"]
    submitted: float
    """Seconds since the epoch."""
    residues_left: int
    """Of sequences that the store did not hold yet."""
    job: str = ""
    """Slurm's number of the array."""


@dataclass(frozen=True, slots=True)
class SubmissionDir:
    """Names every file of a submission once."""

    root: Path
    word: str
    """What one task is called."""

    @property
    def script(self) -> Path:
        """The sbatch script."""
        return self.root / "job.sh"

    @property
    def record(self) -> Path:
        """What was submitted; while tasks run on this machine, its driver holds it locked."""
        return self.root / "submission.json"

    def log(self, task: int | str) -> Path:
        """All that a task printed, of every start; while it runs on this machine, it holds it locked."""
        return self.root / f"{self.word}-{task}.log"

    def code(self, task: int | str) -> Path:
        """Exit code of a task; not there while it runs."""
        return self.root / f"{self.word}-{task}.code"


def new_submission(folder: Path, kind: Kind) -> SubmissionDir:
    """Name a folder that no other submission has."""
    name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return SubmissionDir(folder / name, TASK_WORDS[kind])


def write_record(place: SubmissionDir, submission: Submission) -> None:
    """Write down what was submitted."""
    replace_file(place.record, json.dumps({"format": _FORMAT} | asdict(submission), indent=1).encode())


def find_submissions(folder: Path, config: Path) -> list[tuple[SubmissionDir, Submission]]:
    """List the submissions of a config file, oldest first.

    Raises:
        ConfigError: A record cannot be read.
    """
    found, wanted = [], os.path.realpath(config)
    for path in folder.glob("*/submission.json"):
        submission = _read_record(path)
        if os.path.realpath(submission.config) == wanted:
            found.append((SubmissionDir(path.parent, TASK_WORDS[submission.kind]), submission))
    return sorted(found, key=lambda one: one[1].submitted)


def start_line(word: str, task: int | str, count: int, start: str, where: str, when: str) -> str:
    """Write the line with which each start of a task begins in its log."""
    return f"bindcache: {word} {task} of {count}, start {start}, on {where} at {when}"


def _read_record(path: Path) -> Submission:
    try:
        record = json.loads(path.read_bytes())
        if record.pop("format") != _FORMAT:
            raise ValueError("another format")
        return Submission(**record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not the record of a submission ({error}); delete {path.parent}.") from None
