"""`bindcache evaluate`: what it prints and leaves, that it goes on, and that `predict` takes its runs."""

import json


def test_folds_of_the_demo_are_evaluated_and_predicted_with(bindcache, config, embedded, demo, quick, tmp_path):
    """Three folds, two seeds: a table of at most 80 columns, JSON on request, and runs like any other."""
    options = ("--config", config, *quick, "--set", f"train.run={tmp_path}/run", "--folds", 3, "--seeds", 2)
    result = bindcache("evaluate", *options)
    assert result.exit_code == 0, result.output
    lines = result.stdout.replace(str(tmp_path), "").splitlines()
    assert lines[0].split() == ["mean", "of", "3", "folds", "Spearman", "95", "%", "RMSE", "95", "%", "R2"]
    assert lines[1].startswith("regressor ")
    assert max(map(len, lines)) <= 80
    again = bindcache("evaluate", *options, "--json")
    found = json.loads(again.stdout)
    assert found == json.loads((tmp_path / "run-folds" / "evaluation.json").read_text())
    assert len(found["runs"]) == 6
    assert found["scores"]["regressor"]["rmse"]["folds"] == 3
    run, out = tmp_path / "run-folds" / "fold-2-seed-1", tmp_path / "out.parquet"
    predicted = bindcache("predict", "--run", run, "--pairs", demo / "pairs.csv", "--out", out)
    assert predicted.exit_code == 0, predicted.output


def test_a_table_with_too_few_groups_is_refused_in_words(error, config, embedded, tmp_path):
    """No traceback, and the way out."""
    options = ("--set", f"train.run={tmp_path}/run", "--set", "train.split=group", "--folds", 200)
    assert "needs more than 200; use fewer folds" in error("evaluate", "--config", config, *options)
