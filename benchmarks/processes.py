"""A contestant's process, seen from the one that asks."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contestants import Contestant

# N sequences, D width

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "build" / "peers"


class FailedError(Exception):
    """A contestant's process ended without an answer; the message is the last it said."""


class AbsentError(Exception):
    """A contestant cannot run here; the message says why, as its row does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one timed request brought."""

    seconds: float
    peak_bytes: int
    notes: dict[str, Any]


@dataclass(slots=True)
class Worker:
    """A contestant that has its tables and waits for requests."""

    contestant: Contestant
    folder: Path
    """For what it is told and what it says."""
    started: float = field(default_factory=time.perf_counter)
    _process: subprocess.Popen[str] | None = None

    def start(self, asked: dict[str, Any], environment: dict[str, str]) -> None:
        """Start the process; it loads while this returns.

        Args:
            asked: What the process reads from its JSON file.
            environment: Variables besides this process's own.

        Raises:
            AbsentError: Its environment is not installed.
        """
        name = self.contestant.name
        request = self.folder / f"{name}.json"
        request.write_text(json.dumps({**asked, **self.contestant.asks}), "utf-8")
        command = [str(python_of(self.contestant)), "-m", self.contestant.module, str(request)]
        self.started = time.perf_counter()
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )

    def time(self, table: str) -> Answer:
        """Encode a table and tell how long it took.

        Raises:
            AbsentError: The contestant refuses, with its reason.
            FailedError: It ended without an answer.
        """
        answer = self._ask({"table": table})
        return Answer(answer["seconds"], answer["peak_bytes"], answer["notes"])

    def vectors(self, table: str) -> npt.NDArray[np.float32]:
        """Encode a table, untimed, and fetch its vectors, float32 `[N, D]`.

        Raises:
            FailedError: It ended without an answer.
        """
        path = self.folder / f"{self.contestant.name}.npy"
        self._ask({"table": table, "vectors": str(path)})
        vector_ND: npt.NDArray[np.float32] = np.load(path)
        return vector_ND

    def close(self) -> None:
        """Let the process end, or kill it."""
        if self._process is None:
            return
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def _said(self) -> Path:
        return self.folder / f"{self.contestant.name}.log"

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):  # what it said last tells why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            said = self._said.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
            raise FailedError(f"{self.contestant.name} ended (code {self._process.wait()}) and said: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise AbsentError(answer["refused"])
        return answer


def python_of(contestant: Contestant) -> Path:
    """Find the Python that has a contestant.

    Raises:
        AbsentError: Its environment is not installed.
    """
    if not contestant.peer:
        return Path(sys.executable)
    # `installed` is touched last: an environment half made is none
    if not (PEERS / contestant.peer / "installed").is_file():
        raise AbsentError("not installed: make bench-peers")
    return PEERS / contestant.peer / "bin" / "python"
