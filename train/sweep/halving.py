"""Successive halving without waiting: which trials go on from a rung, by those that reached it before.

The rule of asynchronous successive halving (Li et al. 2020, arXiv 1810.05934).
"""

import math
from collections.abc import Sequence


def goes_on(value: float, reached: Sequence[float], *, halving: int, maximizes: bool) -> bool:
    """Tell whether a trial goes on from a rung.

    Args:
        value: Its objective there; one that is not finite never goes on.
        reached: The objectives of all trials that reached the rung so far, itself among them.
        halving: Of so many, one goes on, and at least the best.
        maximizes: Whether the highest objective is the best.
    """
    if not math.isfinite(value):
        return False
    sign = 1 if maximizes else -1
    better = sum(sign * other > sign * value for other in reached)
    return better < max(1, len(reached) // halving)
