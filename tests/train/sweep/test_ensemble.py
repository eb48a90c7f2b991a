"""Intervals of an ensemble: their coverage, against a count; their calibration, against the definition."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from train.errors import TrainError
from train.intervals import LEVELS, calibrate
from train.sweep.ensemble import judge_ensemble, mean_and_spread, read_ensemble


@pytest.fixture
def predictions():
    """Five members whose spread tells the error: pairs of three kinds, easy to hard."""
    random = np.random.default_rng(0)
    scale_N = random.choice([0.1, 0.3, 1.0], 6000)
    target_N = random.normal(8, 1, 6000)
    common_N = random.normal(0, 1, 6000) * scale_N
    own_KN = random.normal(0, 1, (5, 6000)) * scale_N
    return (target_N + common_N + own_KN).astype(np.float32), target_N.astype(np.float32)


def test_intervals_hold_what_they_promise_on_other_pairs(predictions) -> None:
    """Within four standard errors of both finite samples."""
    prediction_KN, target_N = predictions
    found = judge_ensemble(["a"], prediction_KN, target_N, valid=np.arange(3000), test=np.arange(3000, 6000))
    for level in LEVELS:
        error = math.sqrt(2 * level * (1 - level) / 3000)
        assert abs(found.coverage[str(level)] - level) < 4 * error
    assert found.spread_follows_error > 0.3
    assert found.test["n"] == 3000


def test_spread_makes_intervals_narrower_where_it_can(predictions) -> None:
    """The easy pairs' intervals are narrower than the hard ones', both holding about as much."""
    prediction_KN, target_N = predictions
    mean_N, spread_N = mean_and_spread(prediction_KN)
    np.testing.assert_allclose(spread_N, prediction_KN.astype(np.float64).std(axis=0))
    half_N = calibrate(mean_N - target_N, spread_N).half_width(spread_N, 0.8)
    easy, hard = spread_N < 0.15, spread_N > 0.6
    assert half_N[easy].mean() < 0.5 * half_N[hard].mean()
    for kind in (easy, hard):
        assert abs((np.abs(mean_N - target_N) <= half_N)[kind].mean() - 0.8) < 0.15


def test_without_spread_the_interval_is_the_quantile_of_the_error() -> None:
    """One member: normal errors give the normal distribution's quantiles."""
    error_M = np.random.default_rng(1).normal(0, 2, 20_000)
    found = calibrate(error_M, np.zeros(20_000))
    for level in LEVELS:
        half = found.half_width(np.zeros(1), level)[0]
        assert half == pytest.approx(2 * norm.ppf((1 + level) / 2), rel=0.03)


def test_perfect_predictions_have_no_width() -> None:
    """And divide by nothing."""
    found = calibrate(np.zeros(19), np.zeros(19))
    assert found.half_width(np.zeros(3), 0.95).tolist() == [0, 0, 0]


def test_no_ensemble_says_what_to_do(tmp_path) -> None:
    """Missing, and not ours."""
    with pytest.raises(TrainError, match="the sweep has no finished trial; run `bindcache sweep` first"):
        read_ensemble(tmp_path / "ensemble.json")
    (tmp_path / "ensemble.json").write_text("[1]")
    with pytest.raises(TrainError, match="is no ensemble of a sweep"):
        read_ensemble(tmp_path / "ensemble.json")
