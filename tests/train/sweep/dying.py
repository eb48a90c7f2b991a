"""A sweep of few trials, killed before every operation on files, and after the last.

`python -m tests.train.sweep.dying EVERY FOLDER` kills at each EVERY-th and prints what it tried.
"""

import json
import shutil
import signal
import sys
from pathlib import Path

import optuna
import pyarrow.parquet as pq
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from embed.store.schema import TEMPORARY_PREFIX
from tests.disks import Counting, Deadly, forked, installed
from tests.train.dying import Training
from train.sweep.config import SweepConfig
from train.sweep.stage import run_sweep

TRIALS = 3


def sweep(training: Training, root: Path) -> None:
    config = SweepConfig(
        folder=root, space={"lr": {"log": (1e-3, 1e-2)}}, sampler="random", first_rung=1, halving=2, best=2,
        population="off", objective="rmse",
    )  # fmt: skip
    table, folders = training.table, training.folders
    run_sweep(config, training.config, table, folders, wanted=TRIALS, resolved=lambda train: {"lr": train.lr})


def curves(root: Path) -> dict[float, list[float]]:
    """Give the validation error of each epoch, by learning rate."""
    return {row["train.lr"]: row["curve"] for row in pq.read_table(root / "sweep.parquet").to_pylist()}


def check(training: Training, root: Path, expected: dict[float, list[float]]) -> None:
    """Go on after a death: all trials come to an end, each as in the unbroken sweep, and Optuna reads the journal."""
    sweep(training, root)
    result = json.loads((root / "result.json").read_text())
    assert (result["trials"], result["failed"]) == (TRIALS, 0)
    assert result["complete"] >= 1
    for rate, curve in curves(root).items():
        longest = expected.get(rate, curve)
        shared = min(len(curve), len(longest))
        assert shared
        assert curve[:shared] == longest[:shared]
    journal = str(root / "study.journal")
    study = optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(journal)))
    states = [trial.state for trial in study.get_trials() if "dropped" not in trial.user_attrs]
    assert len(states) == TRIALS
    assert all(state.is_finished() for state in states)
    runs = [path for path in (root / "trials").rglob(f"{TEMPORARY_PREFIX}*")]
    assert not runs, "litter in a run"


def main(home: Path, every: int) -> dict[str, int]:
    training = Training(home, epochs=2)
    counted = home / "count"

    def count() -> None:
        disk = Counting()
        with installed(disk):
            sweep(training, home / "counted-sweep")
        counted.write_text(str(disk.count))

    for name in ("first-sweep", "unbroken-sweep"):  # only a store that is no longer quite new is remembered
        assert forked(lambda name=name: sweep(training, home / name)) == 0
    assert forked(count) == 0
    total, expected = int(counted.read_text()), curves(home / "unbroken-sweep")
    points = [*((at, False) for at in range(1, total + 1, every)), (total, True)]
    for at, after in points:
        root = home / f"{at}-{after}"

        def die(root=root, at=at, after=after) -> None:
            with installed(Deadly(at, after=after)):
                sweep(training, root)

        assert forked(die) == -signal.SIGKILL
        assert forked(lambda root=root: check(training, root, expected)) == 0, (at, after)
        shutil.rmtree(root)
    return {"kill points of a sweep and its study": len(points)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[2]), int(sys.argv[1]))))
