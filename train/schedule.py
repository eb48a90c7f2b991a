"""Decisions of a training that rest on numbers alone: learning rate, early stopping, rows of a step."""

import math
from dataclasses import dataclass, field, replace
from typing import Any


def learning_rate(step: int, *, total: int, warmup: float, peak: float) -> float:
    """Rise linearly to `peak` in the first `warmup` share of `total` steps, then fall to 0 as half a cosine.

    Args:
        step: Optimizer steps done before this one.
        total: Steps of the whole training.
        warmup: Share of `total` in which the rate rises.
        peak: Highest rate.
    """
    rising = round(warmup * total)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def rows_of_step(step: int, *, rows: int, batch_size: int, accumulation: int) -> int:
    """Count the pairs of the epoch's `step`-th optimizer step; the last one has what is left."""
    whole = batch_size * accumulation
    return min(rows, (step + 1) * whole) - step * whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopper:
    """Early stopping: the lowest validation error so far and the epochs since."""

    best: float = math.inf
    best_epoch: int = 0
    best_step: int = 0
    waited: int = 0

    def after(self, error: float, *, epoch: int, step: int) -> "Stopper":
        """Take an epoch's validation error in; a NaN is never the best."""
        if error < self.best:
            return Stopper(best=error, best_epoch=epoch, best_step=step)
        return replace(self, waited=self.waited + 1)

    def is_done(self, patience: int) -> bool:
        """Tell whether `patience` epochs (0: for ever) brought nothing."""
        return 0 < patience <= self.waited


Line = dict[str, Any]
"""Metrics of one epoch: numbers, None where a metric is undefined."""


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a training stands, in plain values that a checkpoint keeps."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs ended."""
    step_in_epoch: int = 0
    stopper: Stopper = field(default_factory=Stopper)
    history: list[Line] = field(default_factory=list)
    """One entry per ended epoch."""
