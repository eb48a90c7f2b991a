"""The contestants of `benchmarks.encoders` on a GPU, all in this process: each loaded once, then in turn."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import torch

from benchmarks.contestants import REFERENCE, Contestant, on_gpu
from benchmarks.hugging_face import HuggingFace
from benchmarks.measuring import Measured
from benchmarks.ours import Ours
from benchmarks.serving import Contestant as Running
from benchmarks.serving import RefusedError
from benchmarks.varlen import Varlen
from benchmarks.workloads import Workload, residues

_RUNNING: dict[str, Callable[[dict[str, Any]], Running]] = {
    "benchmarks.hugging_face": HuggingFace,
    "benchmarks.ours": Ours,
    "benchmarks.varlen": Varlen,
}
_SLOW = 16
"""One sequence at a time is measured on one of so many sequences, and its seconds multiplied."""


class Clock:
    """Tells what goes on, and how much time is left."""

    def __init__(self, seconds: float) -> None:
        self._started, self.seconds = time.perf_counter(), seconds

    @property
    def left(self) -> float:
        """Seconds until everything must be over."""
        return self.seconds - (time.perf_counter() - self._started)

    def tell(self, text: str) -> None:
        """Say on standard error what begins."""
        click.echo(f"{time.perf_counter() - self._started:6.0f} s  {text}", err=True)


def race(table: Workload, asked: dict[str, Any], rounds: int, clock: Clock, until: float) -> list[Measured]:
    """Measure every contestant; the reference of fidelity encodes the small table alone.

    Args:
        table: What is encoded; vectors are compared on its small part.
        asked: What each contestant is told: checkpoints, family, device.
        rounds: How often each runs, forward and backward through the list in turn.
        clock: For the time.
        until: Seconds on the clock that are left for what comes after.
    """
    results, running = [], []
    for contestant in on_gpu():
        result = Measured(contestant=contestant)
        results.append(result)
        clock.tell(f"{contestant.name}: first run")
        loaded = _attempt(result, partial(_first, result, asked, table), clock, until)
        if loaded is not None and contestant.name != REFERENCE:
            running.append((loaded, result))
        del loaded
        _free(asked["device"])
    for n in range(rounds):
        for loaded, result in running if n % 2 == 0 else running[::-1]:
            clock.tell(f"round {n + 1}: {result.contestant.name}")
            _attempt(result, partial(_round, loaded, result, table, asked["device"]), clock, until)
    for result in results:
        _settle(result)
    running.clear()
    _free(asked["device"])
    return results


def _settle(result: Measured) -> None:
    """Drop a round that broke off; what ran at least one round has its row."""
    whole = min(len(result.large), len(result.small))
    del result.large[whole:], result.small[whole:]
    if whole:
        result.why_not = ""
    elif result.contestant.name == REFERENCE and not result.why_not:
        result.why_not = "the reference of error: encodes the small table only, untimed"


def _attempt(result: Measured, do: Callable[[], Any], clock: Clock, until: float) -> Any:  # noqa: ANN401
    """Do something for a contestant unless it is out or time is; what breaks is its row's, not the script's."""
    if result.why_not:
        return None
    if clock.left < until:
        result.why_not = "no time left"
        return None
    try:
        return do()
    except RefusedError as refusal:
        result.why_not = str(refusal)
    except Exception as error:
        result.why_not, result.failed = f"failed: {type(error).__name__}: {_first_line(error)}", True
    return None


def _first(result: Measured, asked: dict[str, Any], table: Workload) -> Running:
    contestant, before = result.contestant, _held(asked["device"])
    started = time.perf_counter()
    loaded = _RUNNING[contestant.module]({**asked, **contestant.asks})
    weights = _held(asked["device"]) - before
    if contestant.name != REFERENCE:
        loaded.encode(_shortened(contestant, table.large))
    result.first_seconds = time.perf_counter() - started
    result.vector_ND = loaded.vectors(list(table.small))
    result.notes = {**loaded.notes, "weights_bytes": weights}
    return loaded


def _round(loaded: Running, result: Measured, table: Workload, device: str) -> None:
    for sequences, seconds in ((table.small, result.small), (table.large, result.large)):
        some = _shortened(result.contestant, sequences)
        before = _held(device)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        loaded.encode(some)
        factor = sum(map(residues, sequences)) / sum(map(residues, some))
        seconds.append((time.perf_counter() - started) * factor)
    working = torch.cuda.max_memory_allocated() - before if device != "cpu" else 0
    result.peak_bytes = result.notes["weights_bytes"] + working
    result.notes = {**result.notes, **loaded.notes}


def _shortened(contestant: Contestant, sequences: Sequence[Any]) -> list[Any]:
    return list(sequences[::_SLOW] if contestant.asks.get("rows") == 1 else sequences)


def _held(device: str) -> int:
    return torch.cuda.memory_allocated() if device != "cpu" else 0


def _free(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
