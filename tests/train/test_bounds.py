"""Bounds from table to scores: trained on one-sidedly, never scored as values."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from embed.pairs import PairsConfig, read_pairs
from train.config import TrainConfig
from train.errors import TrainError
from train.rundir import RunDir
from train.stage import run_train


@pytest.fixture
def bounded(planted):
    """The planted table, in which every value below a pKd of 7.5 is only known to be below it."""
    source = planted(301)
    with source.path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["pkd"] = "<7.5" if float(row["pkd"]) < 7.5 else row["pkd"]
    with source.path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    table = read_pairs(PairsConfig(path=source.path, affinity="pkd", censored="use"))
    return replace(source, table=table), source.table


HOW = [
    {"precision": "fp32"},
    {"precision": "bf16"},
    {"loss": "huber"},
    {"loss": "ranking"},
    {"loss": "ranking", "placement": "mapped"},
]


@pytest.mark.parametrize("fields", HOW)
def test_a_run_learns_from_bounds_and_scores_values_alone(bounded, tmp_path, fields) -> None:
    """Most predictions of bounded test pairs respect their bounds; scores are those of the measured ones."""
    source, truth = bounded
    config = TrainConfig(run=tmp_path / "run", widths=(32, 16), batch_size=32, epochs=25, lr=1e-2, **fields)
    result = run_train(config, source.table, source.folders, resolved={})
    rows = pq.read_table(RunDir(config.run).predictions).to_pydict()
    side_N, target_N, prediction_N = (np.array(rows[name]) for name in ("side", "target", "prediction"))
    in_test = np.array(rows["split"]) == "test"
    assert set(side_N.tolist()) == {0, -1}
    exact, bound = in_test & (side_N == 0), in_test & (side_N != 0)
    assert result.test["n"] == exact.sum()
    assert result.test["spearman"] == pytest.approx(spearmanr(target_N[exact], prediction_N[exact])[0], abs=1e-6)
    assert result.test["r2"] > 0.5
    assert result.bounds["n"] == bound.sum() > 3
    assert result.bounds["respected"] == pytest.approx(np.mean(prediction_N[bound] <= 7.5))
    assert result.bounds["respected"] > 0.6
    assert np.corrcoef(prediction_N[bound], truth.affinity_N[bound])[0, 1] > 0.3  # the order among them is learnt
    assert result.baselines["ridge on vectors"]["test"]["n"] == exact.sum()
    known = ("it knows neither bounds nor the loss `ranking`", "it is for bf16 on a CPU")
    assert result.details["kernel"] == f"no ({known[result.details['precision'] == 'fp32']})"


def test_a_part_of_bounds_alone_is_refused(bounded, tmp_path) -> None:
    """There is nothing to validate on."""
    source, _ = bounded
    table = replace(source.table, side_N=np.full(301, -1, np.int8))
    with pytest.raises(TrainError, match="No pair of train has a measured affinity"):
        run_train(TrainConfig(run=tmp_path / "run"), table, source.folders, resolved={})
