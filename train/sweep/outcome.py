"""What came of a sweep: a table of its trials, what mattered, and the ensemble of the best.

Shape suffixes: K members, N pairs.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from embed.store.durable import replace_file
from train.metrics import Metrics
from train.result import scored_rows
from train.rundir import RunDir, read_metrics
from train.sweep.config import SweepConfig
from train.sweep.ensemble import Ensemble, judge_ensemble
from train.sweep.trials import REASON, Trials

_IMPORTANT_FROM = 10
"""Trials from which the importance of parameters says something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """One of the best trials."""

    number: int
    value: float
    run: str
    params: dict[str, object]
    test: Metrics


@dataclass(slots=True, kw_only=True)
class SweepResult:
    """What a sweep has come to so far."""

    folder: str
    objective: str
    trials: int
    """Trials that were begun."""
    complete: int
    """Of these, trained to their end."""
    pruned: int
    """Halved away at a rung."""
    failed: int
    epochs: int
    """Epochs of all trials."""
    best: list[Best] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)
    """Share of each parameter in what makes a trial one of the better ones (PED-ANOVA, Watanabe et al. 2023)."""
    ensemble: Ensemble | None = None
    seconds: float = 0.0
    stopped: bool = False

    def as_json(self) -> dict[str, object]:
        """List the result as `sweep --json` prints it."""
        return {name: value for name, value in asdict(self).items() if name != "stopped"}


def conclude(trials: Trials, config: SweepConfig) -> SweepResult:
    """Write `sweep.parquet`, `ensemble.json` and `result.json` from the trials as they stand; any worker may."""
    folder = config.folder
    counted = trials.counted()
    table = _table(trials, counted, config)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    replace_file(folder / "sweep.parquet", buffer.getvalue())
    ranked = rank(counted, maximizes=config.maximizes)
    best = [_best(trials, trial) for trial in ranked[: config.best]]
    ensemble = _ensemble(folder, best)
    if ensemble is not None:
        ensemble.write(folder / "ensemble.json")
    states = [trial.state for trial in counted]
    result = SweepResult(
        folder=str(folder),
        objective=config.objective,
        trials=len(counted),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        epochs=sum(table["epochs"].to_pylist()),
        best=best,
        importance=_importance(counted, config),
        ensemble=ensemble,
    )
    replace_file(folder / "result.json", json.dumps(result.as_json(), indent=1).encode())
    return result


def rank(trials: Sequence[FrozenTrial], *, maximizes: bool) -> list[FrozenTrial]:
    """Order the trials that were trained to their end, the best first; the older first where they are alike."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return sorted(done, key=lambda trial: ((-1 if maximizes else 1) * (trial.value or 0.0), trial.number))


def _table(trials: Trials, counted: Sequence[FrozenTrial], config: SweepConfig) -> pa.Table:
    values = [trials.values_of(trial) for trial in counted]
    lines = [read_metrics(RunDir(trials.run_folder(trial.number)).metrics) for trial in counted]
    names = list(config.space)
    return pa.table(
        {
            "trial": pa.array([trial.number for trial in counted], pa.int64()),
            "state": pa.array([trial.state.name.lower() for trial in counted], pa.string()),
            "value": pa.array([trial.value for trial in counted], pa.float64()),
            **{f"train.{name}": [_plain(each.get(name)) for each in values] for name in names},
            "epochs": pa.array([len(each) for each in lines], pa.int64()),
            "curve": pa.array(
                [[line[f"valid_{config.objective}"] for line in each] for each in lines], pa.list_(pa.float64())
            ),
            "seconds": pa.array([sum(line["seconds"] for line in each) for each in lines], pa.float64()),
            "run": pa.array([str(trials.run_folder(trial.number)) for trial in counted], pa.string()),
            "reason": pa.array([trial.user_attrs.get(REASON) for trial in counted], pa.string()),
        }
    )


def _best(trials: Trials, trial: FrozenTrial) -> Best:
    run = RunDir(trials.run_folder(trial.number))
    result = json.loads(run.result.read_bytes())
    return Best(
        number=trial.number,
        value=float(trial.value or 0.0),
        run=str(run.root),
        params={name: _plain(value) for name, value in trials.values_of(trial).items()},
        test=result["test"],
    )


def _ensemble(folder: Path, best: Sequence[Best]) -> Ensemble | None:
    if not best:
        return None
    tables = [pq.read_table(RunDir(Path(each.run)).predictions) for each in best]
    return judge_ensemble(
        [str(Path(each.run).relative_to(folder)) for each in best],
        np.stack([table["prediction"].to_numpy() for table in tables]),
        tables[0]["target"].to_numpy(),
        valid=scored_rows(tables[0], "valid"),
        test=scored_rows(tables[0], "test"),
    )


def _importance(counted: Sequence[FrozenTrial], config: SweepConfig) -> dict[str, float]:
    """Weigh the parameters by the objective at the first epochs that many trials reached: rung or end."""
    study = optuna.create_study(direction="maximize" if config.maximizes else "minimize")
    for trial in counted:
        reached = trial.intermediate_values
        value = reached[min(reached)] if reached else trial.value
        if value is not None and math.isfinite(value):
            study.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    if len(study.get_trials(deepcopy=False)) < _IMPORTANT_FROM:
        return {}
    found = optuna.importance.get_param_importances(study)
    return {name: float(share) for name, share in found.items()}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
