"""A sweep: many trials on the vectors of one store, by any number of workers that share a folder.

1. find the vectors of all pairs, split these once, and open the sweep's folder
2. take up trials: those whose worker is gone, those that need wait at a rung no longer, or new ones; train them to
   the next rung or their end
3. when there are none left, wait for the other workers' trials, or take them over
4. write what came of it: the table of trials, what mattered, and the ensemble of the best
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from embed.pairs import PairTable
from embed.store.durable import make_folder, remove_temporaries, replace_file
from train.build import Task
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.errors import TrainError
from train.material import Progress
from train.stage import find_material, identity_of
from train.sweep.config import SweepConfig
from train.sweep.outcome import SweepResult, conclude
from train.sweep.space import read_space
from train.sweep.trial import trial_config
from train.sweep.trials import Trials
from train.sweep.worker import Worker

Resolved = Callable[[TrainConfig], Mapping[str, object]]
"""Gives the whole resolved config of a trial, JSON-able."""


def run_sweep(
    config: SweepConfig,
    base: TrainConfig,
    table: PairTable,
    folders: VectorFolders,
    *,
    wanted: int,
    resolved: Resolved,
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> SweepResult:
    """Work on a sweep until it has as many trials as wanted; other processes may do the same at the same time.

    Args:
        config: Section `[sweep]`.
        base: Section `[train]`: what the trials have in common.
        table: The pairs, with their pKd.
        folders: Where the store holds their vectors.
        wanted: Trials in all, those before included.
        resolved: Gives the whole resolved config of a trial.
        progress: Told the trials done.
        stop: Polled at each step; when true, the trial in work is saved and the result says `stopped`.

    Raises:
        TrainError: The config, the table, the store or the sweep's folder cannot be used as it is.
    """
    started = time.time()
    ranges = read_space(config.space, asdict(base))
    for name, each in ranges.items():
        for value in each.values:
            trial_config(base, {name: value})
    base = replace(base, run=config.folder / "trials")
    material = find_material(base, table, folders, files=_prepared(config.folder))
    common = identity_of(Task(config=base, material=material))
    varied = {f"train.{name}" for name in ranges}
    open_sweep(config, identity={**{k: v for k, v in common.items() if k not in varied}, **_identity(config)})
    trials = Trials(config.folder, config, ranges)
    Worker(trials, config, base, material, resolved=resolved).work(wanted, progress, stop)
    result = conclude(trials, config)
    result.seconds = time.time() - started
    result.stopped = stop() and (trials.running() > 0 or result.trials < wanted)
    return result


def open_sweep(config: SweepConfig, *, identity: Mapping[str, object]) -> None:
    """Begin a sweep in a new or empty folder, or go on with the one that is there.

    Args:
        config: Section `[sweep]`.
        identity: What must be the same for a sweep to go on: flat, JSON-able.

    Raises:
        TrainError: The folder holds another sweep, or something else.
    """
    path = config.folder / "sweep.json"
    identity = json.loads(json.dumps(identity))
    if not path.exists():
        if (config.folder / "result.json").exists() or (config.folder / "config.json").exists():
            raise TrainError(f"sweep.folder = {str(config.folder)!r} holds a run and no sweep; choose another folder.")
        replace_file(path, json.dumps({"format": "bindcache sweep 1", "identity": identity}, indent=1).encode())
        return
    recorded = json.loads(path.read_bytes())["identity"]
    different = [
        f"{key} ({recorded.get(key)!r} in the folder, {identity.get(key)!r} now)"
        for key in sorted({*recorded, *identity})
        if recorded.get(key) != identity.get(key)
    ]
    if different:
        raise TrainError(
            f"sweep.folder = {str(config.folder)!r} holds another sweep; these differ: {', '.join(different)}. "
            "Name another folder, or restore them."
        )


def _identity(config: SweepConfig) -> dict[str, object]:
    """List what all trials of a sweep must have in common."""
    names = ("space", "objective", "direction", "halving", "first_rung")
    return {f"sweep.{name}": getattr(config, name) for name in names}


def _prepared(folder: Path) -> Path:
    path = folder / "prepared"
    make_folder(path)
    for each in (folder, path):
        remove_temporaries(each)
    return path
