"""Spearman within groups, against a loop with scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from train.groups import spearman_in_groups


def test_groups_are_averaged_as_a_loop_does() -> None:
    """Small groups and constant ones do not count; both averages are told, and how many groups they rest on."""
    random = np.random.default_rng(0)
    group_N = random.integers(0, 12, 150)
    target_N = random.normal(size=150)
    prediction_N = target_N + random.normal(size=150)
    target_N[group_N == 3] = 7.0
    found = spearman_in_groups(target_N, prediction_N, group_N, least=11)
    scores, sizes = [], []
    for group in range(12):
        index = group_N == group
        if group != 3 and index.sum() >= 11:
            scores.append(spearmanr(target_N[index], prediction_N[index])[0])
            sizes.append(index.sum())
    assert 3 <= len(scores) < 11
    assert (found["groups"], found["pairs"], found["least"]) == (len(scores), sum(sizes), 11)
    assert found["mean"] == pytest.approx(np.mean(scores))
    assert found["weighted"] == pytest.approx(np.average(scores, weights=sizes))
    assert found["mean_ci"][0] < found["mean"] < found["mean_ci"][1]


def test_without_groups_there_is_no_mean() -> None:
    """None says so, not NaN."""
    found = spearman_in_groups(np.arange(5.0), np.arange(5.0), np.arange(5))
    assert (found["groups"], found["mean"], found["mean_ci"], found["weighted"]) == (0, None, None, None)
