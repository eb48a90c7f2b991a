"""Successive halving without waiting: which trials go on from a rung, by those that reached it before.

The rule of asynchronous successive halving (Li et al. 2020, arXiv 1810.05934). Trials are judged by the validation
error that also chooses a trial's best epoch, whatever the objective: on the one table that was tried it told more of
the end than the rank correlation did (benchmarks/NOTES.md, "64 trials against plain Optuna").
"""

import math
from collections.abc import Sequence


def goes_on(error: float, reached: Sequence[float], *, halving: int) -> bool:
    """Tell whether a trial goes on from a rung.

    Args:
        error: Its lowest validation error so far; one that is not finite never goes on.
        reached: The errors of all trials that reached the rung so far, its own among them.
        halving: Of so many, one goes on, and at least the best.
    """
    if not math.isfinite(error):
        return False
    better = sum(other < error for other in reached)
    return better < max(1, len(reached) // halving)
