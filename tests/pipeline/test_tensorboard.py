"""`train.tensorboard = true` through the command line."""

import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_a_run_leaves_what_its_metrics_say(bindcache, config, embedded, quick, tmp_path):
    """Every metric of every epoch, at its optimizer step."""
    run = tmp_path / "run"
    sets = ("--set", f"train.run={run}", "--set", "train.tensorboard=true")
    assert bindcache("train", "--config", config, *quick, *sets).exit_code == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert set(events.Tags()["scalars"]) == set(lines[0]) - {"epoch", "step"}
    for name in ("train_loss", "valid_rmse", "valid_spearman", "lr"):
        points = [(point.step, point.value) for point in events.Scalars(name)]
        expected = [(line["step"], line[name]) for line in lines]
        assert [step for step, _ in points] == [step for step, _ in expected]
        for (_, value), (_, wanted) in zip(points, expected, strict=True):
            assert abs(value - wanted) < 1e-6 * max(1, abs(wanted))


def test_without_tensorboard_nothing_is_begun(error, config, embedded, quick, tmp_path, monkeypatch):
    """The extra is named at once, and no folder is left behind."""
    monkeypatch.setattr("train.scalars.find_spec", lambda name: None)
    run = tmp_path / "run"
    sets = ("--set", f"train.run={run}", "--set", "train.tensorboard=true")
    assert "pip install 'bindcache[tensorboard]'" in error("train", "--config", config, *quick, *sets)
    assert not run.exists()
