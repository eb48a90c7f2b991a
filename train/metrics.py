"""How good predictions are, with bootstrap intervals; numpy only.

Shapes: N pairs, R resamples, U distinct values, K columns or metrics. Values and errors are pKd units.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Metrics = dict[str, int | float | list[float] | None]

NAMES = ("rmse", "mae", "pearson", "spearman", "r2")
_LEAST_PAIRS = 3  # two points always correlate perfectly
_ROUNDING = 1e-12  # of float64 sums of squares, with a margin of 10^4
_BLOCK_VALUES = 1 << 16  # a block of resamples stays in the processor's cache


def rmse(target_N: Values, prediction_N: Values) -> float | None:
    """Tell the root of the mean squared error; None where undefined."""
    return _point(target_N, prediction_N, "rmse")


def mae(target_N: Values, prediction_N: Values) -> float | None:
    """Tell the mean absolute error; None where undefined."""
    return _point(target_N, prediction_N, "mae")


def pearson(target_N: Values, prediction_N: Values) -> float | None:
    """Tell the linear correlation; None where undefined."""
    return _point(target_N, prediction_N, "pearson")


def spearman(target_N: Values, prediction_N: Values) -> float | None:
    """Tell the correlation of ranks, ties sharing their average rank; None where undefined."""
    return _point(target_N, prediction_N, "spearman")


def r2(target_N: Values, prediction_N: Values) -> float | None:
    """Tell 1 - mean squared error / variance of the targets; None where undefined."""
    return _point(target_N, prediction_N, "r2")


def evaluate(target_N: Values, prediction_N: Values, *, seed: int = 0, resamples: int = 1000) -> Metrics:
    """Compute all metrics and their 95 % percentile bootstrap intervals (`*_ci`: low, high).

    Undefined is None, never NaN: everything where a value is not finite or there is no pair; correlations, r2
    and intervals below three pairs; correlations and r2 of constants. Resamples that leave a metric undefined
    do not count for its interval.
    """
    found: Metrics = {"n": len(target_N)}
    score_RK = _score_resamples(target_N, prediction_N, seed, resamples)
    for column, name in enumerate(NAMES):
        point, *sampled = score_RK[:, column].tolist()
        sampled = [score for score in sampled if np.isfinite(score)]
        found[name] = point if np.isfinite(point) else None
        told = found[name] is not None and sampled and len(target_N) >= _LEAST_PAIRS
        found[f"{name}_ci"] = np.percentile(sampled, [2.5, 97.5]).tolist() if told else None
    return found


def score(target_N: Values, prediction_N: Values) -> dict[str, float | None]:
    """Compute all metrics without intervals; None where undefined."""
    score_K = _score_resamples(target_N, prediction_N, 0, 0)[0]
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(NAMES, score_K, strict=True)}


def respected_bounds(
    target_N: Values,
    prediction_N: Values,
    side_N: npt.NDArray[np.int8] | None,
    index_M: npt.NDArray[np.int64],
) -> dict[str, int | float | None]:
    """Count the bounds among some pairs, and tell the share whose prediction is on the allowed side of theirs."""
    if side_N is None:
        return {}
    index_B = index_M[side_N[index_M] != 0]
    respected_B = (prediction_N[index_B] - target_N[index_B]) * side_N[index_B] >= 0
    return {"n": len(index_B), "respected": float(respected_B.mean()) if len(index_B) else None}


def _point(target_N: Values, prediction_N: Values, name: str) -> float | None:
    return score(target_N, prediction_N)[name]


def _score_resamples(target_N: Values, prediction_N: Values, seed: int, resamples: int) -> npt.NDArray[np.float64]:
    """Score the pairs themselves (first row), then each resample; NaN where undefined."""
    if len(target_N) == 0 or not (np.isfinite(target_N).all() and np.isfinite(prediction_N).all()):
        return np.full((1 + resamples, len(NAMES)), np.nan)
    target_N, prediction_N = np.asarray(target_N, np.float64), np.asarray(prediction_N, np.float64)
    scorer = _Scorer(target_N, prediction_N)
    blocks = _resample_counts(len(target_N), seed, resamples)
    return np.vstack([scorer.score(np.ones((len(target_N), 1))), *map(scorer.score, blocks)])


def _resample_counts(pairs: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.float64]]:
    """Draw resamples as counts: how often each pair occurs in each, [N, R], some R at a time."""
    random = np.random.Generator(np.random.Philox(key=seed))
    width = max(1, _BLOCK_VALUES // pairs)
    for start in range(0, resamples, width):
        columns = np.arange(min(width, resamples - start))
        drawn_NR = random.integers(0, pairs, (pairs, len(columns))) * len(columns) + columns
        count = np.bincount(drawn_NR.ravel(), minlength=pairs * len(columns))
        yield count.reshape(pairs, len(columns)).astype(np.float64)


class _Scorer:
    """Scores pairs under any counts: every sum is then a product of counts with one column of values."""

    def __init__(self, target_N: npt.NDArray[np.float64], prediction_N: npt.NDArray[np.float64]) -> None:
        error_N = prediction_N - target_N
        t_N = target_N - target_N.mean()  # centred, so that means of squares subtract without loss
        p_N = prediction_N - prediction_N.mean()
        columns = t_N, p_N, t_N * t_N, p_N * p_N, t_N * p_N, error_N * error_N, np.abs(error_N)
        self._value_KN = np.stack(columns)
        self._target_ranks, self._prediction_ranks = _Ranks(target_N), _Ranks(prediction_N)

    def score(self, count_NR: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Compute all metrics under each column of counts, [R, K]; NaN where undefined."""
        pairs = len(count_NR)
        t, p, tt, pp, tp, squared, absolute = self._value_KN @ count_NR / pairs
        t_variance, p_variance = _variance(tt, t), _variance(pp, p)
        t_rank_NR, t_varies = self._target_ranks.under(count_NR)
        p_rank_NR, p_varies = self._prediction_ranks.under(count_NR)
        t_varies &= pairs >= _LEAST_PAIRS
        linear = _ratio(tp - t * p, np.sqrt(t_variance * p_variance), t_varies & p_varies)
        weighted_NR = count_NR * t_rank_NR
        covariance = np.einsum("nr,nr->r", weighted_NR, p_rank_NR)
        t_spread = np.einsum("nr,nr->r", weighted_NR, t_rank_NR)
        p_spread = np.einsum("nr,nr,nr->r", count_NR, p_rank_NR, p_rank_NR)
        of_ranks = _ratio(covariance, np.sqrt(t_spread * p_spread), t_varies & p_varies)
        correlations = np.clip([linear, of_ranks], -1, 1)  # rounding can pass 1
        explained = 1 - _ratio(squared, t_variance, t_varies)
        return np.stack([np.sqrt(squared), absolute, *correlations, explained], axis=1)


class _Ranks:
    """Ranks of fixed values under counts, without sorting again."""

    def __init__(self, value_N: npt.NDArray[np.float64]) -> None:
        self._order_N = np.argsort(value_N, kind="stable")
        sorted_N = value_N[self._order_N]
        _, self._start_U = np.unique(sorted_N, return_index=True)
        self._distinct_N = np.searchsorted(sorted_N[self._start_U], value_N)

    def under(self, count_NR: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Compute average ranks minus their mean, [N, R], and tell which columns hold two values or more."""
        count_UR = np.add.reduceat(count_NR[self._order_N], self._start_U, axis=0)
        rank_UR = np.cumsum(count_UR, axis=0) - (count_UR + len(count_NR)) / 2
        return rank_UR[self._distinct_N], count_UR.max(axis=0) < len(count_NR)


def _variance(square_R: npt.NDArray[np.float64], mean_R: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Subtract the squared mean from the mean square; 0 where only rounding is left."""
    difference_R = square_R - mean_R * mean_R
    return np.where(difference_R > _ROUNDING * square_R, difference_R, 0.0)


def _ratio(
    upper_R: npt.NDArray[np.float64], lower_R: npt.NDArray[np.float64], defined_R: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    whole_R = defined_R & (lower_R > 0)
    return np.divide(upper_R, lower_R, out=np.full_like(upper_R, np.nan), where=whole_R)
