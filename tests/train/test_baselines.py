"""Baselines against scipy and plain least squares, on rules that they can and cannot learn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import solve

from train import baselines as module
from train.baselines import baselines, composition, fit_ridge
from train.config import TrainConfig
from train.dataset import Matrix, build_dataset
from train.metrics import evaluate
from train.splits import make_split


@pytest.fixture
def table(make_table, random_rows):
    return make_table(random_rows(400, antibodies=60, antigens=8, single=10))


@pytest.fixture
def dataset(table, embedded):
    """Vectors that obey a linear rule plus noise."""
    dataset = build_dataset(table, embedded(table))
    random = np.random.default_rng(1)
    features_NF = dataset.features(np.arange(len(dataset)))
    rule = features_NF @ random.normal(size=dataset.dim) + 7 + random.normal(0, 0.5, len(dataset))
    return replace(dataset, target_N=rule.astype(np.float32))


@pytest.fixture
def split(table):
    return make_split(TrainConfig(run=Path("run")), table)


def plain_ridge(train_MF, target_M, other_MF, penalty):
    """Solve (XtX + M * penalty) w = Xt y on standardised columns, all in memory."""
    mean, deviation = train_MF.mean(axis=0), train_MF.std(axis=0)
    x, z = (train_MF - mean) / deviation, (other_MF - mean) / deviation
    gram = x.T @ x + len(x) * penalty * np.eye(x.shape[1])
    return z @ solve(gram, x.T @ (target_M - target_M.mean())) + target_M.mean()


@pytest.mark.parametrize("block_values", [1 << 22, 64])
def test_ridge_is_the_closed_form_at_the_best_penalty(dataset, split, monkeypatch, block_values) -> None:
    """Cut into blocks or not, predictions and choice of penalty are those of scipy on the whole matrix."""
    penalties = np.array([0.03, 0.1, 10.0])
    monkeypatch.setattr("train.dataset._BLOCK_VALUES", block_values)
    monkeypatch.setattr(module, "PENALTIES", penalties)
    train, valid, test = (split.rows(part) for part in ("train", "valid", "test"))
    features_NF = dataset.features(np.arange(len(dataset))).astype(np.float64)
    target_N = dataset.target_N.astype(np.float64)
    ridge = fit_ridge(dataset, train, valid)

    def predicted(penalty, rows):
        return plain_ridge(features_NF[train], target_N[train], features_NF[rows], penalty)

    errors = [np.mean((predicted(penalty, valid) - target_N[valid]) ** 2) for penalty in penalties]
    assert ridge.penalty == penalties[int(np.argmin(errors))]
    np.testing.assert_allclose(ridge.predict(dataset, test), predicted(ridge.penalty, test), rtol=1e-8)


def test_fewer_pairs_than_features_are_the_same_ridge(dataset, split, monkeypatch) -> None:
    """A feature for each of 500 columns and 320 pairs: predictions are scipy's on the whole matrix."""
    monkeypatch.setattr(module, "PENALTIES", np.array([0.1]))
    train, valid, test = (split.rows(part) for part in ("train", "valid", "test"))
    wide = np.random.default_rng(3).normal(size=(len(dataset.antibodies), 500)).astype(np.float32)
    data = replace(dataset, antibodies=Matrix.of(wide))
    features_NF, target_N = data.features(np.arange(len(data))).astype(np.float64), data.target_N.astype(np.float64)
    assert len(train) < data.dim
    expected = plain_ridge(features_NF[train], target_N[train], features_NF[test], 0.1)
    np.testing.assert_allclose(fit_ridge(data, train, valid).predict(data, test), expected, rtol=1e-8)


def test_constant_features_carry_nothing(dataset, split) -> None:
    """One antigen's vector, the same for all pairs, changes no prediction, and nothing is NaN."""
    train, valid, test = (split.rows(part) for part in ("train", "valid", "test"))
    zero = Matrix.of(np.zeros((len(dataset.antigens), 1), np.float32))
    same = Matrix.of(np.full((len(dataset.antigens), 4), 0.1, np.float32))
    without, with_constant = (replace(dataset, antigens=matrix) for matrix in (zero, same))
    expected = fit_ridge(without, train, valid).predict(without, test)
    found = fit_ridge(with_constant, train, valid).predict(with_constant, test)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).all()


def test_a_feature_constant_in_training_only_cannot_explode(dataset, split) -> None:
    """A column that varies by float32 rounding in training, and by much in the test part, has no weight."""
    train, valid, test = (split.rows(part) for part in ("train", "valid", "test"))
    used = np.unique(dataset.row_N2[np.concatenate([train, valid]), 0])
    tenth = np.float32(0.1)
    late_U1 = np.full((len(dataset.antibodies), 1), 1e6, np.float32)
    late_U1[used, 0] = np.where(used % 2, tenth, np.nextafter(tenth, np.float32(1)))
    wide = Matrix.of(np.hstack([dataset.antibodies.gather(np.arange(len(dataset.antibodies))), late_U1]))
    changed = replace(dataset, antibodies=wide)
    found = fit_ridge(changed, train, valid).predict(changed, test)
    np.testing.assert_allclose(found, fit_ridge(dataset, train, valid).predict(dataset, test), rtol=1e-9)


def test_near_identical_vectors_are_told_apart(dataset, split) -> None:
    """Point mutants differ in the last digits of large numbers; a rule on the difference is still found."""
    random = np.random.default_rng(0)
    hidden_U4 = random.normal(size=(len(dataset.antibodies), 4))
    mutants = Matrix.of((100 + 1e-2 * hidden_U4).astype(np.float32))
    rule_N = hidden_U4[dataset.row_N2[:, 0]].sum(axis=1) + 7
    data = replace(dataset, antibodies=mutants, target_N=rule_N.astype(np.float32))
    ridge = fit_ridge(data, split.rows("train"), split.rows("valid"))
    test = split.rows("test")
    assert evaluate(data.target_N[test], ridge.predict(data, test), resamples=0)["r2"] > 0.999


def test_three_baselines_on_both_parts(dataset, table, split) -> None:
    """The result is strict JSON; a linear rule on vectors is found by the ridge on vectors alone."""
    found = baselines(dataset, table, split)
    json.dumps(found, allow_nan=False)
    assert list(found) == ["training mean", "ridge on composition", "ridge on vectors"]
    for scores in found.values():
        assert scores["valid"]["n"] == scores["test"]["n"] == 40
    assert found["ridge on vectors"]["test"]["r2"] > 0.9
    assert found["training mean"]["test"]["r2"] <= 0
    assert found["training mean"]["test"]["spearman"] is None
    assert found["ridge on vectors"]["test"]["r2"] > found["ridge on composition"]["test"]["r2"]


def test_the_mean_is_that_of_training(dataset, table, split) -> None:
    """Its error on the test part is that of the training pairs' mean."""
    mean = dataset.target_N[split.rows("train")].astype(np.float64).mean()
    expected = np.sqrt(np.mean((dataset.target_N[split.rows("test")] - mean) ** 2))
    assert baselines(dataset, table, split)["training mean"]["test"]["rmse"] == pytest.approx(expected, rel=1e-9)


def test_test_targets_change_no_prediction(dataset, table, split) -> None:
    """Nothing is learnt from the test part."""
    train, valid, test = (split.rows(part) for part in ("train", "valid", "test"))
    target_N = dataset.target_N.copy()
    target_N[test] = 0
    blind = replace(dataset, target_N=target_N)
    one, other = (fit_ridge(data, train, valid).predict(data, test) for data in (dataset, blind))
    np.testing.assert_array_equal(one, other)


def test_a_rule_on_composition_is_found(dataset, table, split) -> None:
    """Affinity that counts heavy tyrosines and missing light chains is learnt from composition."""
    rule_N = np.array(
        [
            40 * table.antibodies[row][0].count("Y") / len(table.antibodies[row][0])
            + 2 * (table.antibodies[row][1] is None)
            + np.log(len(table.antigens[antigen]))
            for row, antigen in dataset.row_N2
        ]
    )
    data = replace(dataset, target_N=rule_N.astype(np.float32))
    assert baselines(data, table, split)["ridge on composition"]["test"]["r2"] > 0.99


def test_composition_counts_residues(monkeypatch) -> None:
    """Shares of each residue and log(1 + length), against counting letter by letter; in blocks too."""
    monkeypatch.setattr(module, "_SEQUENCES_AT_ONCE", 2)
    sequences = ["ACDX", "", "YYYYY", "W", "ACAC"]
    letters = sorted("ACDEFGHIKLMNPQRSTVWYX")
    expected = [[s.count(letter) / len(s) if s else 0 for letter in letters] + [np.log(1 + len(s))] for s in sequences]
    np.testing.assert_allclose(composition(sequences), expected, rtol=1e-6)
