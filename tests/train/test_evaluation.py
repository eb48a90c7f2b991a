"""Folds and seeds: every pair tested once, ordinary runs, means and intervals against numpy and scipy."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr, t

from train.config import TrainConfig
from train.dataset import build_dataset
from train.evaluation import run_folds, summarise
from train.predict import predict_rows
from train.stage import run_train


@pytest.fixture
def evaluated(planted, tmp_path):
    """Evaluate the planted table in three folds with two seeds; options go to the call."""
    source = planted(301)

    def run(**options):
        config = TrainConfig(run=tmp_path / "run", widths=(16,), batch_size=32, epochs=6, lr=1e-2)
        options = {"folds": 3, "seeds": 2, "resolved": lambda own: {"train": {"run": str(own.run)}}, **options}
        return run_folds(config, source.table, source.folders, **options)

    run.source = source
    return run


def test_every_pair_is_predicted_by_runs_that_did_not_see_it(evaluated, tmp_path) -> None:
    """The pooled scores are those of the runs' own test predictions, averaged over seeds."""
    result = evaluated()
    folder = tmp_path / "run-folds"
    pooled = pq.read_table(folder / "out_of_fold.parquet").to_pydict()
    assert pooled["id"] == list(evaluated.source.table.id)
    assert set(pooled["fold"]) == {1, 2, 3}
    for fold in (1, 2, 3):
        for seed in (0, 1):
            run = pq.read_table(folder / f"fold-{fold}-seed-{seed}" / "predictions.parquet").to_pydict()
            tested = [part == "test" for part in run["split"]]
            assert tested == [of == fold for of in pooled["fold"]]
            values = np.array(pooled[f"prediction_{seed}"])[tested]
            np.testing.assert_array_equal(values, np.array(run["prediction"])[tested])
    prediction = np.array(pooled["prediction"])
    assert result.pooled["spearman"] == pytest.approx(spearmanr(pooled["target"], prediction)[0], abs=1e-6)
    dataset = build_dataset(evaluated.source.table, evaluated.source.folders)
    assert len(predict_rows(folder / result.runs[0], dataset)) == 301
    tests = [[json.loads((folder / f"fold-{f}-seed-{s}/result.json").read_text()) for s in (0, 1)] for f in (1, 2, 3)]
    scores = np.array([[run["test"]["rmse"] for run in fold] for fold in tests])
    assert result.scores["regressor"]["rmse"]["mean"] == pytest.approx(scores.mean())
    assert result.scores["regressor"]["rmse"]["sd_seeds"] == pytest.approx(np.sqrt(scores.var(axis=1, ddof=1).mean()))
    ridge = [fold[0]["baselines"]["ridge on vectors"]["test"]["rmse"] for fold in tests]
    assert result.scores["ridge on vectors"]["rmse"]["mean"] == pytest.approx(np.mean(ridge))
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(result.as_json()))


def test_a_stopped_evaluation_goes_on_to_the_same_end(evaluated, tmp_path) -> None:
    """Finished runs are read, the begun one goes on."""
    polls = iter(range(10_000))
    assert evaluated(stop=lambda: next(polls) == 100).stopped
    assert not (tmp_path / "run-folds" / "evaluation.json").exists()
    done = evaluated()
    again = evaluated(stop=lambda: pytest.fail("trained"))
    assert json.dumps(again.as_json()) == json.dumps(done.as_json())


def test_one_fold_is_an_ordinary_training(evaluated, tmp_path) -> None:
    """With train.fold it may be trained alone, as a job of an array."""
    result = evaluated(seeds=1)
    source = evaluated.source
    config = TrainConfig(run=tmp_path / "alone", widths=(16,), batch_size=32, epochs=6, lr=1e-2, folds=3, fold=2)
    alone = run_train(config, source.table, source.folders, resolved={})
    assert alone.split == "random, fold 2 of 3"
    inside = json.loads((tmp_path / "run-folds" / result.runs[1] / "result.json").read_text())
    assert alone.test == inside["test"]


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_the_interval_is_the_corrected_one_of_nadeau_and_bengio(folds) -> None:
    """Against scipy's quantile of Student's t."""
    score_JS = np.random.default_rng(folds).normal(size=(folds, 2))
    found = summarise(score_JS.tolist(), held_out=0.25)
    mean_J = score_JS.mean(axis=1)
    half = t.ppf(0.975, folds - 1) * np.sqrt((1 / folds + 0.25) * mean_J.var(ddof=1))
    assert found["ci"] == pytest.approx([mean_J.mean() - half, mean_J.mean() + half], rel=1e-3)
    assert found["sd_folds"] == pytest.approx(mean_J.std(ddof=1))


def test_undefined_scores_leave_their_fold_out() -> None:
    """A constant prediction has no correlation; nothing is made up for it."""
    found = summarise([[0.5], [None], [0.7]], held_out=0.25)
    assert (found["mean"], found["folds"], found["ci"]) == (pytest.approx(0.6), 2, None)
    assert summarise([[None]], held_out=0.25)["mean"] is None
