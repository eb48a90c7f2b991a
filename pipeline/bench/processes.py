"""Measurements in processes of their own, one after the other."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.child import Request, answer_of
from pipeline.errors import ConfigError

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""


class FailedError(ConfigError):
    """A measurement's process ended without an answer; the message is the last it said."""

    exit_code = 1


@dataclass(slots=True)
class Bench:
    """Runs measurements of one config."""

    config: Path
    overrides: tuple[str, ...]
    sample: int
    folder: Path
    """For requests, answers and vectors; temporary."""
    progress: Progress
    phase: str
    total: int
    """Measurements that will be asked for."""
    done: int = 0

    def run(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401
        """Measure in a new process; the keywords are fields of a `Request`.

        Raises:
            ConfigError: The user's config, table or encoders cannot be used as they are.
            FailedError: The process ended without an answer.
        """
        self.progress(self.phase, self.done, self.total)
        request = Request(
            config=str(self.config.absolute()),
            overrides=self.overrides,
            sample=self.sample,
            folder=str(self.folder / "store"),
            **asked,
        )
        answer = _ask(request, self.folder / f"{self.done:03d}.json")
        self.done += 1
        self.progress(self.phase, self.done, self.total)
        return answer

    def vectors(self, name: str) -> Path:
        """Make a folder for vectors."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


def _ask(request: Request, path: Path) -> dict[str, Any]:
    request.write(path)
    command = [sys.executable, "-m", "pipeline.bench.child", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if not answer_of(path).exists():
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FailedError(f"A measurement ({request.kind} {request.without or ', '.join(request.on)}): {said[-1]}")
    answer: dict[str, Any] = json.loads(answer_of(path).read_bytes())
    if "error" in answer:
        raise ConfigError(answer["error"])
    return answer
