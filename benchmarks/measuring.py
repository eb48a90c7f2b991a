"""The rounds: every contestant in turn, forward and backward, the same two tables in each.

A round's time is that of the large table less that of the small one: what every run costs alike falls out of it.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contestants import Contestant
from benchmarks.processes import AbsentError, FailedError, Worker

# N sequences, D width

Vectors = npt.NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Measured:
    """What came of one contestant."""

    contestant: Contestant
    why_not: str = ""
    """Why there is nothing of it; empty when it ran to the end."""
    failed: bool = False
    """Whether it broke, which absence is not."""
    first_seconds: float = 0.0
    """From starting its process to the vectors of the large table, with nothing compiled before."""
    large: list[float] = field(default_factory=list)
    """Seconds of the large table, a round each."""
    small: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    each: list[dict[str, Any]] = field(default_factory=list)
    """Its notes of every round."""
    vector_ND: Vectors | None = field(default=None, repr=False)
    """Of the large table."""

    @property
    def seconds(self) -> list[float]:
        """Large less small, a round each."""
        return [large - small for large, small in zip(self.large, self.small, strict=True)]


def measure(
    contestants: Sequence[Contestant],
    asked: dict[str, Any],
    rounds: int,
    folder: Path,
    tell: Callable[[str], None],
    *,
    without_vectors: Sequence[str] = (),
) -> list[Measured]:
    """Start all contestants, let each run once for the first time, then alternate.

    Args:
        contestants: Who runs.
        asked: What each process is told: checkpoints, device, and `tables` of the names `large` and `small`.
        rounds: How often; none only fetches the vectors.
        folder: For the processes' files; it stays the caller's.
        tell: Told what is going on.
        without_vectors: Names of contestants that make none.
    """
    results = [Measured(contestant=contestant) for contestant in contestants]
    with ExitStack() as stack:
        workers: list[tuple[Worker, Measured]] = []
        for result in results:
            worker = stack.enter_context(closing(Worker(result.contestant, folder)))
            tell(f"{result.contestant.name}: first run")
            with _excused(result, tell):
                _first_run(worker, asked, result, result.contestant.name not in without_vectors)
                workers.append((worker, result))
        for n in range(rounds):
            for worker, result in workers if n % 2 == 0 else workers[::-1]:
                if result.why_not:
                    continue
                with _excused(result, tell):
                    _one_round(worker, result)
                    tell(f"round {n + 1} of {rounds}: {result.contestant.name}, {result.large[-1]:.2f} s")
    return results


def _first_run(worker: Worker, asked: dict[str, Any], result: Measured, vectors: bool) -> None:
    worker.start(asked, _environment(worker))
    result.notes = worker.time("large").notes
    result.first_seconds = time.perf_counter() - worker.started
    if vectors:
        result.vector_ND = worker.vectors("large")
    worker.time("small")


def _one_round(worker: Worker, result: Measured) -> None:
    for table, seconds in (("small", result.small), ("large", result.large)):
        answer = worker.time(table)
        seconds.append(answer.seconds)
        result.peak_bytes = answer.peak_bytes
        result.notes = answer.notes
    result.each.append(result.notes)


def _environment(worker: Worker) -> dict[str, str]:
    """Give every contestant the same, with no compiled code from before."""
    cold = worker.folder / f"{worker.contestant.name}-cache"
    return {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),  # as bindcache's command line sets it
        "XDG_CACHE_HOME": str(cold),
        "TORCHINDUCTOR_CACHE_DIR": str(cold / "inductor"),
    }


class _excused:  # noqa: N801 (reads as a statement)
    """Notes why a contestant is out instead of raising."""

    def __init__(self, result: Measured, tell: Callable[[str], None]) -> None:
        self._result, self._tell = result, tell

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, (AbsentError, FailedError)):
            return False
        self._result.why_not, self._result.failed = str(error), isinstance(error, FailedError)
        self._tell(str(error))
        return True
