"""A whole sweep on a small table: what it finds, writes, refuses, and how it goes on."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from train.config import TrainConfig
from train.errors import TrainError
from train.owner import take
from train.rundir import RunDir
from train.stage import run_train
from train.sweep.config import SweepConfig
from train.sweep.ensemble import read_ensemble
from train.sweep.space import read_space
from train.sweep.stage import run_sweep
from train.sweep.trials import Trials
from train.weights import load_regressor

SPACE = {"lr": {"log": (1e-3, 3e-2)}, "dropout": {"float": (0.0, 0.5)}, "widths": {"choice": ((32, 16), (16,))}}


@pytest.fixture
def sweep(planted, tmp_path):
    """Sweep the planted table; `own` changes section [sweep], `options` the call."""
    source = planted(301)
    base = TrainConfig(run=tmp_path / "run", batch_size=64, epochs=9, precision="fp32", compile="off")

    def run(trials: int, options: dict | None = None, **own):
        config = SweepConfig(
            **{"folder": tmp_path / "sweep", "space": SPACE, "first_rung": 2, "best": 3, "halving": 3, **own}
        )
        options = {"resolved": lambda train: {"train": {"lr": train.lr}}, **(options or {})}
        return run_sweep(config, base, source.table, source.folders, wanted=trials, **options)

    run.source, run.base, run.folder = source, base, tmp_path / "sweep"
    return run


def test_a_sweep_finds_and_leaves_everything(sweep) -> None:
    """Table, curves, best trials and ensemble agree with the runs themselves."""
    result = sweep(12)
    assert (result.trials, result.failed) == (12, 0)
    assert result.complete + result.pruned == 12
    assert 1 <= result.complete < 12
    table = pq.read_table(sweep.folder / "sweep.parquet").to_pylist()
    assert [row["trial"] for row in table] == list(range(12))
    assert result.epochs == sum(row["epochs"] for row in table)
    for row in table:
        run = RunDir(sweep.folder / "trials" / f"{row['trial']:05d}")
        lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
        assert row["curve"] == [line["valid_spearman"] for line in lines]
        assert row["epochs"] == len(lines) == (row["epochs"] if row["state"] == "complete" else lines[-1]["epoch"])
        assert 1e-3 <= row["train.lr"] <= 3e-2
        assert row["train.widths"] in ([32, 16], [16])
        assert run.result.exists() == (row["state"] == "complete")
        if row["state"] == "complete":
            assert row["value"] == json.loads(run.result.read_text())["valid"]["spearman"]
        else:
            assert row["epochs"] in (2, 6)
    done = sorted((row["value"] for row in table if row["state"] == "complete"), reverse=True)
    assert [each.value for each in result.best] == done[:3]
    assert set(result.importance) == set(SPACE)
    assert sum(result.importance.values()) == pytest.approx(1)
    written = json.loads((sweep.folder / "result.json").read_text())
    assert written["best"] == json.loads(json.dumps(result.as_json()))["best"]
    members = read_ensemble(sweep.folder / "ensemble.json").members
    assert members == [f"trials/{each.number:05d}" for each in result.best]


def test_a_trial_is_the_training_that_its_settings_give(sweep, tmp_path) -> None:
    """Trained alone from the recorded settings, each complete trial has the same score; in a pack, nearly."""
    result = sweep(4, halving=0, population="off")
    assert result.complete == 4
    sweep(4, halving=0, population=4, folder=tmp_path / "packed")
    for best in result.best:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in best.params.items()}
        config = TrainConfig(
            run=tmp_path / f"alone-{best.number}", batch_size=64, epochs=9, precision="fp32", compile="off", **values
        )
        alone = run_train(config, sweep.source.table, sweep.source.folders, resolved={})
        assert best.value == alone.valid["spearman"]
        row = pq.read_table(tmp_path / "packed" / "sweep.parquet").to_pylist()[best.number]
        if row["train.lr"] == best.params["lr"]:  # drawn before any trial had ended, so alike in both sweeps
            assert row["value"] == pytest.approx(best.value, abs=1e-3)


def test_a_sweep_tries_heads(sweep) -> None:
    """`train.head` is a field like any other: `concat` in a pack, the others alone, and the ensemble has both."""
    space = {"head": {"choice": ("concat", "gated")}, "widths": {"choice": ((16,), (8,))}}
    result = sweep(6, space=space, sampler="random", halving=0, population=3, best=6)
    assert (result.complete, result.failed) == (6, 0)
    assert {best.params["head"] for best in result.best} == {"concat", "gated"}
    runs = [RunDir(sweep.folder / "trials" / f"{best.number:05d}") for best in result.best]
    for best, run in zip(result.best, runs, strict=True):
        assert load_regressor(run.weights)[1]["head"] == best.params["head"]


@pytest.mark.parametrize(
    ("objective", "better", "population"), [("spearman", max, "off"), ("rmse", min, "off"), ("spearman", max, 3)]
)
def test_the_best_so_far_go_on_from_a_rung(sweep, objective, better, population) -> None:
    """By the curves on disk: of all that reached a rung the better half go on, three at least, and what equals them."""
    sweep(16, objective=objective, sampler="random", population=population, halving=2)
    table = pq.read_table(sweep.folder / "sweep.parquet").to_pylist()
    assert {row["state"] for row in table} == {"complete", "pruned"}
    ended = {row["trial"]: row["epochs"] for row in table}
    alive = {}
    for trial in ended:
        metrics = RunDir(sweep.folder / "trials" / f"{trial:05d}").metrics
        alive[trial] = [json.loads(line)[f"valid_{objective}"] for line in metrics.read_text().splitlines()]
    for rung in (2, 4, 8):
        worth = {trial: better(values[:rung]) for trial, values in alive.items()}
        edge = sorted(worth.values(), reverse=better is max)[max(3, len(worth) // 2) - 1]
        going = {trial for trial, value in worth.items() if better(value, edge) == value}
        assert {ended[trial] for trial in alive.keys() - going} <= {rung}
        alive = {trial: alive[trial] for trial in going}
    assert {ended[trial] for trial in alive} == {9}


def test_a_sweep_goes_on_with_more_trials(sweep) -> None:
    """What is done stays; the same number again trains nothing."""
    first = sweep(3)
    stamps = {path: path.stat().st_mtime_ns for path in (sweep.folder / "trials").glob("*/metrics.jsonl")}
    assert sweep(3).epochs == first.epochs
    assert sweep(5).trials == 5
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize("population", ["off", 3])
def test_stopped_at_any_step_it_ends_as_unbroken(sweep, tmp_path, population) -> None:
    """Stopped again and again, in the middle of trials; the same trials come out, within a pack's tolerance."""
    sweep(3, halving=0, sampler="random", population=population)
    broken = {"folder": tmp_path / "broken", "halving": 0, "sampler": "random", "population": population}
    for stops in itertools.count():  # noqa: B007  # counted for what follows
        asked = itertools.count()
        result = sweep(3, options={"stop": lambda asked=asked: next(asked) > 37}, **broken)
        if not result.stopped:
            break
    assert stops > 1
    first, second = (
        pq.read_table(folder / "sweep.parquet").to_pylist() for folder in (sweep.folder, tmp_path / "broken")
    )
    for left, right in zip(first, second, strict=True):
        assert left["train.lr"] == right["train.lr"]
        assert right["curve"] == pytest.approx(left["curve"], abs=0 if population == "off" else 2e-3)


def test_a_trial_of_a_dead_worker_is_taken_up(sweep) -> None:
    """Asked for and owned, then left behind; one whose values are not all chosen is dropped and does not count."""
    sweep(1)
    config = SweepConfig(folder=sweep.folder, space=SPACE, first_rung=2, best=3, halving=3)
    trials = Trials(sweep.folder, config, read_space(SPACE, {"lr": 1.0, "dropout": 0.5, "widths": (1,)}))
    with trials.claim(2).owner:
        pass
    half = trials.study.ask({})
    with take(trials.run_folder(half.number)):
        pass
    result = sweep(4)
    assert (result.trials, result.failed) == (4, 0)
    assert [row["trial"] for row in pq.read_table(sweep.folder / "sweep.parquet").to_pylist()] == [0, 1, 3, 4]


def test_the_longest_of_those_that_go_on_is_first(sweep) -> None:
    """Left at a rung that all pass; taken up by the seconds that each said it has left."""
    config = SweepConfig(folder=sweep.folder, space=SPACE, first_rung=2, best=3)
    trials = Trials(sweep.folder, config, read_space(SPACE, {"lr": 1.0, "dropout": 0.5, "widths": (1,)}))
    left = {0: 5.0, 1: 60.0, 2: 7.5}
    claimed = [trials.claim(3) for _ in left]
    for each in claimed:
        each.report(2, 0.5, seconds_left=left[each.number])
        each.owner.leave()
    taken = [trials.claim(3) for _ in left]
    assert [each.number for each in taken] == [1, 2, 0]
    assert trials.claim(3) is None
    for each in taken:
        each.owner.leave()


def test_a_diverging_trial_is_told_and_counts(sweep) -> None:
    """It fails with its reason, the others go on."""
    result = sweep(4, space={"lr": {"choice": (1e-2, 1e30)}, "clip": {"choice": (1e30,)}}, sampler="random", seed=1)
    assert result.failed >= 1
    assert result.trials == 4
    reasons = [row["reason"] for row in pq.read_table(sweep.folder / "sweep.parquet").to_pylist() if row["reason"]]
    assert len(reasons) == result.failed
    assert all("Training diverged" in reason for reason in reasons)


def test_the_objective_and_its_direction_are_configurable(sweep) -> None:
    """The lowest error is the best."""
    result = sweep(4, objective="rmse", halving=0)
    values = [each.value for each in result.best]
    assert values == sorted(values)
    table = pq.read_table(sweep.folder / "sweep.parquet").to_pylist()
    for row in table:
        assert row["value"] == pytest.approx(min(row["curve"]), rel=1e-4)


@pytest.mark.parametrize("sampler", ["tpe", "random", "sobol"])
def test_a_sampler_draws_the_same_again(sweep, tmp_path, sampler) -> None:
    """One worker, the same seed; another seed draws others."""
    draws = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        sweep(3, folder=tmp_path / name, sampler=sampler, seed=seed, halving=0, population="off")
        draws.append([row["train.lr"] for row in pq.read_table(tmp_path / name / "sweep.parquet").to_pylist()])
    assert draws[0] == draws[1] != draws[2]
    assert len(np.unique(draws[0])) == 3


def test_another_sweep_in_the_folder_is_refused(sweep, tmp_path) -> None:
    """The difference is named; so is a folder that holds a run."""
    sweep(1)
    with pytest.raises(TrainError, match=r"holds another sweep; these differ: sweep.first_rung \(2 in the folder, 3"):
        sweep(1, first_rung=3)
    with pytest.raises(TrainError, match="trials/00000' holds a run and no sweep"):
        sweep(1, folder=sweep.folder / "trials" / "00000")


def test_a_value_that_no_training_takes_is_refused_before_the_first_trial(sweep) -> None:
    """Both ends of every range are tried on the config."""
    with pytest.raises(TrainError, match=r"train.dropout = 1.0: dropout is in \[0, 1\)"):
        sweep(1, space={"dropout": {"float": (0.0, 1.0)}})
    assert not (sweep.folder / "study.journal").exists()
