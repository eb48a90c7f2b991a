"""Metrics against scipy and against plain loops, and never NaN."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from train import metrics
from train.metrics import evaluate, mae, pearson, r2, rmse, spearman


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Targets with a floor (many ties), predictions with some ties."""
    random = np.random.default_rng(0)
    target_N = np.maximum(6.0, random.normal(6.3, 1, 400))
    return target_N, np.round(target_N + random.normal(0, 0.5, 400), 1)


def test_points_are_those_of_scipy_and_of_the_definition(scored) -> None:
    """Each metric against an independent computation."""
    target_N, prediction_N = scored
    error_N = target_N - prediction_N
    assert rmse(target_N, prediction_N) == pytest.approx(np.sqrt(np.mean(error_N**2)), rel=1e-12)
    assert mae(target_N, prediction_N) == pytest.approx(np.mean(np.abs(error_N)), rel=1e-12)
    assert pearson(target_N, prediction_N) == pytest.approx(stats.pearsonr(*scored)[0], rel=1e-12)
    assert spearman(target_N, prediction_N) == pytest.approx(stats.spearmanr(*scored)[0], rel=1e-12)
    explained = 1 - np.sum(error_N**2) / np.sum((target_N - target_N.mean()) ** 2)
    assert r2(target_N, prediction_N) == pytest.approx(explained, rel=1e-12)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=30))
def test_tied_ranks_are_those_of_scipy(values) -> None:
    """Few distinct values, so nearly all are tied; constants give None."""
    target_N, prediction_N = np.array(values, np.float64).T
    if len(set(target_N)) == 1 or len(set(prediction_N)) == 1:
        assert spearman(target_N, prediction_N) is None
    else:
        expected = stats.spearmanr(target_N, prediction_N)[0]
        assert spearman(target_N, prediction_N) == pytest.approx(expected, abs=1e-12)


def test_perfect_correlation_is_1_and_not_more() -> None:
    """Rounding must not carry a correlation past 1."""
    random = np.random.default_rng(0)
    for _ in range(50):
        target_N = random.normal(7, 1, 30)
        assert 1 - 1e-12 < pearson(target_N, 3 * target_N - 2) <= 1
        assert spearman(target_N, -target_N) == pytest.approx(-1)


def test_bootstrap_scores_are_those_of_the_resampled_pairs(scored, monkeypatch) -> None:
    """Every resample, drawn out into pairs, has the score that the counts gave it."""
    target_N, prediction_N = (values[:40] for values in scored)
    monkeypatch.setattr(metrics, "_BLOCK_VALUES", 200)  # five resamples at a time
    score_RK = metrics._score_resamples(target_N, prediction_N, 7, 12)
    counts = [column for block in metrics._resample_counts(40, 7, 12) for column in block.T]
    assert len(counts) == 12
    for score_K, count_N in zip(score_RK[1:], counts, strict=True):
        drawn = np.repeat(np.arange(40), count_N.astype(int))
        assert len(drawn) == 40
        t, p = target_N[drawn], prediction_N[drawn]
        expected = [
            np.sqrt(np.mean((t - p) ** 2)),
            np.mean(np.abs(t - p)),
            stats.pearsonr(t, p)[0],
            stats.spearmanr(t, p)[0],
            1 - np.mean((t - p) ** 2) / t.var(),
        ]
        np.testing.assert_allclose(score_K, expected, rtol=1e-10)


def test_intervals_are_those_of_scipy_within_chance(scored) -> None:
    """The percentile bootstrap of scipy, other draws, agrees to a tenth of the interval's width."""
    found = evaluate(*scored)

    def pearson_of(target, prediction, axis=-1):
        return stats.pearsonr(target, prediction, axis=axis)[0]

    other = stats.bootstrap(
        scored, pearson_of, paired=True, method="percentile", n_resamples=2000, rng=np.random.default_rng(1)
    ).confidence_interval
    width = other.high - other.low
    assert found["pearson_ci"] == pytest.approx([other.low, other.high], abs=width / 8)
    assert found["pearson_ci"][0] < found["pearson"] < found["pearson_ci"][1]


def test_same_seed_same_intervals(scored) -> None:
    """Intervals are a function of values and seed."""
    assert evaluate(*scored, resamples=50) == evaluate(*scored, resamples=50)
    assert evaluate(*scored, resamples=50) != evaluate(*scored, resamples=50, seed=1)


def test_the_result_has_every_key(scored) -> None:
    """Exactly the keys of the result table."""
    names = ["rmse", "mae", "pearson", "spearman", "r2"]
    assert set(evaluate(*scored, resamples=3)) == {"n", *names, *(f"{name}_ci" for name in names)}


LINE = [1.0, 2.0, 3.0, 4.0]
CORRELATIONS = {"pearson", "spearman"}
EVERYTHING = {"rmse", "mae", "r2"} | CORRELATIONS


@pytest.mark.parametrize(
    ("target", "prediction", "undefined"),
    [
        (LINE, [2.0] * 4, CORRELATIONS),
        ([7.1] * 4, LINE, CORRELATIONS | {"r2"}),
        ([1.0, 2.0], [1.0, 3.0], CORRELATIONS | {"r2"}),
        ([1.0], [1.0], CORRELATIONS | {"r2"}),
        ([], [], EVERYTHING),
        (LINE, [1.0, np.nan, 3.0, 4.0], EVERYTHING),
        ([1.0, np.inf, 3.0, 4.0], LINE, EVERYTHING),
    ],
)
def test_undefined_is_none(target, prediction, undefined) -> None:
    """Constants, too few pairs and values that are no numbers give None, and the rest is defined."""
    found = evaluate(np.array(target), np.array(prediction), resamples=20)
    assert {name for name in EVERYTHING if found[name] is None} == undefined
    unknown = {name for name in EVERYTHING if found[f"{name}_ci"] is None}
    assert unknown == (undefined if len(target) >= 3 else EVERYTHING)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 16, width=32), st.floats(-50, 50, width=32)), max_size=12),
    st.integers(0, 3),
)
def test_json_never_holds_nan_and_intervals_are_in_order(values, seed) -> None:
    """Any small part gives strict JSON, correlations within -1 and 1, and low <= high."""
    target_N, prediction_N = np.array(values, np.float32).reshape(-1, 2).T
    found = evaluate(target_N, prediction_N, seed=seed, resamples=30)
    json.dumps(found, allow_nan=False)
    for name in EVERYTHING:
        interval = found[f"{name}_ci"]
        assert interval is None or interval[0] <= interval[1]
    for name in CORRELATIONS:
        assert found[name] is None or -1 <= found[name] <= 1
