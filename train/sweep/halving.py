"""Successive halving: which trials go on from a rung, wait there, or end.

The best of all that reach a rung go on (Jamieson and Talwalkar 2016, arXiv 1502.07943); a trial ends as soon as so many
are better, and waits only while others that are still to come may be. Trials are judged by the best that the objective
has been so far: that of one epoch, even of the one with the least validation error, is left more to chance
(benchmarks/NOTES.md, "64 trials against plain Optuna").
"""

import math
from collections.abc import Iterable, Sequence
from enum import Enum, auto


class Verdict(Enum):
    """What becomes of a trial at a rung."""

    GOES_ON = auto()
    WAITS = auto()
    ENDS = auto()


def best_so_far(values: Iterable[float | None], *, maximizes: bool) -> float:
    """Give the best of an objective's values, one per epoch; NaN where it is undefined in all of them."""
    known = [value for value in values if value is not None]
    return (max if maximizes else min)(known, default=math.nan)


def judge(value: float, reached: Sequence[float], *, coming: int, halving: int, least: int, maximizes: bool) -> Verdict:
    """Tell what becomes of a trial at a rung.

    Args:
        value: The best that its objective was so far; one that is not finite ends.
        reached: The values of all trials that reached the rung so far, its own among them.
        coming: Trials that may reach it yet.
        halving: Of so many, one goes on.
        least: So many go on anyway, where there are as many.
        maximizes: Whether the highest value is the best.
    """
    places = max(least, (len(reached) + coming) // halving)
    better = sum(other > value if maximizes else other < value for other in reached)
    if not math.isfinite(value) or better >= places:
        return Verdict.ENDS
    return Verdict.GOES_ON if better + coming < places else Verdict.WAITS
