"""Successive halving without waiting: which trials go on from a rung, by those that reached it before.

The rule of asynchronous successive halving (Li et al. 2020, arXiv 1810.05934). Trials are judged by the best that the
objective has been so far: that of one epoch, even of the one with the least validation error, is left more to chance
(benchmarks/NOTES.md, "64 trials against plain Optuna").
"""

import math
from collections.abc import Iterable, Sequence


def best_so_far(values: Iterable[float | None], *, maximizes: bool) -> float:
    """Give the best of an objective's values, one per epoch; NaN where it is undefined in all of them."""
    known = [value for value in values if value is not None]
    return (max if maximizes else min)(known, default=math.nan)


def goes_on(value: float, reached: Sequence[float], *, halving: int, maximizes: bool) -> bool:
    """Tell whether a trial goes on from a rung.

    Args:
        value: The best that its objective was so far; one that is not finite never goes on.
        reached: The values of all trials that reached the rung so far, its own among them.
        halving: Of so many, one goes on, and at least the best.
        maximizes: Whether the highest value is the best.
    """
    if not math.isfinite(value):
        return False
    better = sum(other > value if maximizes else other < value for other in reached)
    return better < max(1, len(reached) // halving)
