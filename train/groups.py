"""How well pairs are ordered within their groups, such as the antibodies of one antigen.

Shapes: N pairs, G groups, R resamples.
"""

import numpy as np
import numpy.typing as npt

from train.metrics import Values, spearman

LEAST_PAIRS = 10
"""Pairs below which a group does not count."""

_RESAMPLES = 1000


def spearman_in_groups(
    target_N: Values, prediction_N: Values, group_N: npt.NDArray[np.int64], *, least: int = LEAST_PAIRS
) -> dict[str, int | float | list[float] | None]:
    """Average the rank correlation over groups of at least `least` pairs.

    Returns:
        `groups` that count and the `pairs` in them; `mean` over groups, each counting alike, with its 95 % interval
        `mean_ci` from 1000 resamples of groups; `weighted`, each counting by its pairs; `least`. A group whose targets
        or predictions are all alike has no correlation and does not count. Without groups, means are None; so is the
        interval below three.
    """
    order_N = np.argsort(group_N, kind="stable")
    _, start_G, size_G = np.unique(group_N[order_N], return_index=True, return_counts=True)
    scored: list[tuple[float, int]] = []
    for start, size in zip(start_G.tolist(), size_G.tolist(), strict=True):
        index = order_N[start : start + size]
        value = spearman(target_N[index], prediction_N[index]) if size >= least else None
        if value is not None:
            scored.append((value, size))
    value_G, pairs_G = np.array(scored).reshape(-1, 2).T
    return {
        "groups": len(scored),
        "pairs": int(pairs_G.sum()),
        "least": least,
        "mean": float(value_G.mean()) if scored else None,
        "mean_ci": _interval(value_G) if len(scored) >= 3 else None,
        "weighted": float(value_G @ pairs_G / pairs_G.sum()) if scored else None,
    }


def _interval(value_G: npt.NDArray[np.float64]) -> list[float]:
    random = np.random.Generator(np.random.Philox(key=0))
    mean_R = [value_G[random.integers(0, len(value_G), len(value_G))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(mean_R, [2.5, 97.5]).tolist()
    return [low, high]
