"""Intervals of a single run: ranks of validation errors, counted on test pairs; what is promised, and what is not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.errors import TrainError
from train.intervals import LEVELS, calibrate, fewest_pairs, judge_intervals, read_intervals
from train.rundir import RunDir


def judged(valid: int, test: int = 500, seed: int = 0):
    """Intervals of predictions with heavy-tailed errors; also the errors of both parts."""
    random = np.random.default_rng(seed)
    target_N = random.normal(8, 1, valid + test).astype(np.float32)
    prediction_N = (target_N + random.standard_t(3, valid + test)).astype(np.float32)
    error_N = np.abs(prediction_N.astype(np.float64) - target_N)
    rows = np.arange(valid + test)
    found = judge_intervals(prediction_N, target_N, valid=rows[:valid], test=rows[valid:])
    return found, error_N[:valid], error_N[valid:]


@pytest.mark.parametrize("valid", [19, 20, 100, 333])
def test_half_the_width_is_the_conformal_rank_of_the_errors(valid) -> None:
    """The smallest error that at least (n + 1) x level of the n validation errors do not exceed, counted by hand."""
    found, error_M, error_T = judged(valid)
    for level, told in found.by_level().items():
        half = min(e for e in error_M if np.count_nonzero(error_M <= e) >= (valid + 1) * float(level) - 1e-9)
        assert told["half_width"] == pytest.approx(half, rel=1e-12)
        assert told["coverage"] == np.count_nonzero(error_T <= told["half_width"]) / len(error_T)
    assert (found.valid, found.test) == (valid, 500)


def test_new_pairs_are_inside_as_often_as_promised() -> None:
    """Over many draws of few validation pairs, the mean coverage is the level or a little more: by at most 1/(n+1)."""
    inside = {level: [] for level in LEVELS}
    for seed in range(400):
        found, _, _ = judged(24, 200, seed)
        for level in LEVELS:
            inside[level].append(found.coverage[str(level)])
    for level, shares in inside.items():
        error = np.std(shares) / np.sqrt(len(shares))
        assert level - 4 * error < np.mean(shares) < level + 1 / 25 + 4 * error


@pytest.mark.parametrize(("valid", "promised"), [(0, []), (1, [0.5]), (3, [0.5]), (4, [0.5, 0.8]), (18, [0.5, 0.8])])
def test_too_few_pairs_promise_nothing(valid, promised) -> None:
    """Below 1, 4 and 19 validation pairs no finite width holds 50, 80 and 95 %: there is none."""
    found, _, _ = judged(valid)
    assert [level for level in LEVELS if valid >= fewest_pairs(level)] == promised
    assert [level for level in LEVELS if found.by_level()[str(level)]["half_width"] is not None] == promised
    assert [level for level in LEVELS if found.coverage[str(level)] is not None] == promised
    column_N = found.columns(np.array([7.0, 8.0], np.float32))
    assert np.isnan(column_N["low_95"]).all()
    assert np.isfinite(column_N["high_50"]).all() == (0.5 in promised)


def test_ends_stand_around_the_prediction() -> None:
    """In the order of the columns that predict writes."""
    found, _, _ = judged(50)
    column_N = found.columns(np.array([7.0, 8.5], np.float32))
    assert list(column_N) == ["prediction", "low_50", "high_50", "low_80", "high_80", "low_95", "high_95"]
    for level in LEVELS:
        half = found.by_level()[str(level)]["half_width"]
        np.testing.assert_allclose(column_N[f"low_{level * 100:.0f}"], [7.0 - half, 8.5 - half])
        np.testing.assert_allclose(column_N[f"high_{level * 100:.0f}"], [7.0 + half, 8.5 + half])


def test_without_errors_there_is_no_width_and_without_test_pairs_no_share() -> None:
    """And nothing is divided by."""
    perfect = np.arange(30, dtype=np.float32)
    found = judge_intervals(perfect, perfect, valid=np.arange(30), test=np.arange(0))
    assert found.by_level()["0.95"] == {"half_width": 0.0, "coverage": None}
    assert calibrate(np.zeros(0), np.zeros(0)).factors == {"0.5": None, "0.8": None, "0.95": None}


def test_what_is_written_is_read_and_damage_is_told(tmp_path) -> None:
    """Also how to get rid of it."""
    run, (found, _, _) = RunDir(tmp_path), judged(30)
    found.write(run.intervals)
    assert read_intervals(run) == found
    run.intervals.write_text(run.intervals.read_text().replace('"valid": 30', '"valid": 31'))
    with pytest.raises(TrainError, match=r"do not match its SHA-256.*remove it, and they are made anew"):
        read_intervals(run)


def test_a_run_from_before_has_them_from_its_predictions(tmp_path) -> None:
    """Bounds and unused pairs left out; without predictions, or with other bytes in their place, it says so."""
    run, random = RunDir(tmp_path), np.random.default_rng(3)
    split = np.array(["valid"] * 40 + ["test"] * 30 + ["train"] * 50 + ["unused"] * 5)
    side = np.where(np.arange(125) % 7 == 0, 1, 0).astype(np.int8)
    target, prediction = (random.normal(8, 1, 125).astype(np.float32) for _ in range(2))
    table = {"id": [str(i) for i in range(125)], "split": split, "target": target, "prediction": prediction}
    pq.write_table(pa.table({**table, "side": side}), run.predictions)
    measured = np.flatnonzero(side == 0)
    parts = {part: measured[split[measured] == part] for part in ("valid", "test")}
    assert read_intervals(run) == judge_intervals(prediction, target, **parts)
    for spoil in (lambda: run.predictions.write_bytes(b"no Parquet"), run.predictions.unlink):
        spoil()
        with pytest.raises(TrainError, match=r"predictions\.parquet cannot be read .*; restore it, or train again"):
            read_intervals(run)


def test_the_file_is_json_for_people_too(tmp_path: Path) -> None:
    """Coverage and counts by plain names."""
    found, _, _ = judged(10)
    found.write(tmp_path / "intervals.json")
    record = json.loads((tmp_path / "intervals.json").read_text())
    assert set(record) == {"calibration", "valid", "test", "coverage", "sha256"}
    assert record["calibration"]["factors"]["0.95"] is None
