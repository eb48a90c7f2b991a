"""The device's clock: how long it computed, and when a copy to the host is there."""

import time
from types import TracebackType
from typing import NamedTuple

import torch

# B pieces in a batch, D width


class Copied(NamedTuple):
    """Marks of one batch on a CUDA device; empty on the CPU, where everything is done when it returns."""

    begun: torch.cuda.Event | None = None
    computed: torch.cuda.Event | None = None
    there: torch.cuda.Event | None = None


class Timer:
    """Adds up the seconds that a device computes; as a context it spans the work that one batch launches."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._started = 0.0
        self._begun: torch.cuda.Event | None = None
        self.seconds = 0.0

    def __enter__(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._begun = _mark() if self._cuda else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it; on CUDA the seconds are known once `wait` has seen the batch."""
        if not self._cuda:
            self.seconds += time.perf_counter() - self._started

    def copy_out(self, vector_BD: torch.Tensor) -> tuple[torch.Tensor, Copied]:
        """Start the copy of a batch's vectors to the host, where it already is on the CPU."""
        if not self._cuda:
            return vector_BD, Copied()
        computed = _mark()
        host_BD = torch.empty(vector_BD.shape, dtype=vector_BD.dtype, pin_memory=True)
        host_BD.copy_(vector_BD, non_blocking=True)
        return host_BD, Copied(self._begun, computed, _mark())

    def wait(self, copied: Copied) -> None:
        """Wait until a copy is there."""
        if copied.begun is not None and copied.computed is not None and copied.there is not None:
            copied.there.synchronize()
            self.seconds += copied.begun.elapsed_time(copied.computed) / 1000


def _mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
