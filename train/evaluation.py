"""Every pair predicted by regressors that did not see it: folds and seeds as ordinary runs, and what they say together.

Shape suffixes: N pairs of the table, J folds, S seeds.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embed.pairs import PairTable
from embed.store.durable import replace_file
from train.build import Task
from train.config import TrainConfig
from train.dataset import VectorFolders
from train.groups import spearman_in_groups
from train.material import Progress
from train.metrics import NAMES, Metrics, evaluate
from train.result import TrainResult, write_parquet
from train.rundir import RunDir
from train.stage import find_material, train_task

_STUDENT = np.concatenate(
    [
        (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
        (2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
    ]
)
"""97.5 % quantiles of Student's t at 1 to 30 degrees of freedom; beyond, the last is 4 % too wide at most."""

Summary = dict[str, float | list[float] | None]


@dataclass(slots=True, kw_only=True)
class EvaluationResult:
    """What folds and seeds say together; a stopped evaluation has no scores."""

    folder: str
    runs: list[str] = field(default_factory=list)
    """Folders of the runs, in `folder`."""
    folds: int = 0
    seeds: int = 0
    split: str = ""
    pairs: int = 0
    """Measured pairs, each in the test part of one fold."""
    scores: dict[str, dict[str, Summary]] = field(default_factory=dict)
    """Of the regressor and each baseline, each metric over folds: see `summarise`."""
    pooled: Metrics | None = None
    """Out-of-fold predictions of all pairs together, averaged over seeds."""
    within: dict[str, dict[str, int | float | list[float] | None]] = field(default_factory=dict)
    """Spearman of these within each `antigen`, and within each `antibody`, averaged."""
    seen: dict[str, float] = field(default_factory=dict)
    """Mean over folds of what test pairs share with training."""
    stopped: bool = False

    def as_json(self) -> dict[str, object]:
        """List the result as `evaluate --json` prints it."""
        return {name: value for name, value in asdict(self).items() if name != "stopped"}


def run_folds(
    config: TrainConfig,
    table: PairTable,
    folders: VectorFolders,
    *,
    folds: int,
    seeds: int,
    resolved: Callable[[TrainConfig], Mapping[str, object]],
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> EvaluationResult:
    """Train and test on each fold with each seed; runs that are finished are read, begun ones go on.

    Args:
        config: Section `[train]`; runs lie in the folder `<run>-folds`.
        table: The pairs, with their pKd.
        folders: Where the store holds their vectors.
        folds: Folds.
        seeds: Seeds, from `config.seed` on.
        resolved: Gives the whole resolved config of a run.
        progress: Told the runs done.
        stop: Polled at each step; when true, the run in work is saved and the result says `stopped`.

    Raises:
        TrainError: The table, the config, the store or a run's folder cannot be used as it is.
    """
    folder = config.run.with_name(f"{config.run.name}-folds")
    result = EvaluationResult(folder=str(folder), folds=folds, seeds=seeds)
    runs: list[list[TrainResult]] = []
    for fold in range(1, folds + 1):
        material = find_material(replace(config, folds=folds, fold=fold), table, folders)
        runs.append([])
        for seed in range(config.seed, config.seed + seeds):
            progress("runs", (fold - 1) * seeds + len(runs[-1]), folds * seeds)
            name = f"fold-{fold}-seed-{seed}"
            own = replace(config, folds=folds, fold=fold, seed=seed, run=folder / name)
            done = train_task(Task(config=own, material=material), resolved=resolved(own), resume=True, stop=stop)
            if done.stopped:
                result.stopped = True
                return result
            runs[-1].append(done)
            result.runs.append(name)
    progress("runs", folds * seeds, folds * seeds)
    _conclude(result, runs, table, folder)
    replace_file(folder / "evaluation.json", json.dumps(result.as_json(), indent=1).encode())
    return result


def summarise(score_JS: Sequence[Sequence[float | None]], *, held_out: float) -> Summary:
    """Average a metric over folds, each the mean of its seeds.

    The interval is Student's, of the variance of Nadeau and Bengio (2003, Machine Learning 52:239) that allows for
    folds sharing their training pairs: (1 / J + n_test / n_train) times the variance over folds.

    Args:
        score_JS: The metric of each fold and seed; None where undefined, which leaves the fold out.
        held_out: n_test / n_train.

    Returns:
        `mean`; `ci`, its 95 % interval, None below three folds; `sd_folds`, the deviation over folds; `sd_seeds`, that
        over seeds within a fold, pooled, None with one seed; `folds` that count.
    """
    whole_JS = np.array([row for row in score_JS if None not in row], np.float64)
    if not len(whole_JS):
        return {"mean": None, "ci": None, "sd_folds": None, "sd_seeds": None, "folds": 0}
    mean_J, folds = whole_JS.mean(axis=1), len(whole_JS)
    mean, variance = float(mean_J.mean()), float(mean_J.var(ddof=1)) if folds > 1 else math.nan
    wide = float(_STUDENT[min(max(folds - 1, 1), len(_STUDENT)) - 1]) * math.sqrt((1 / folds + held_out) * variance)
    seeded = whole_JS.shape[1] > 1
    return {
        "mean": mean,
        "ci": [mean - wide, mean + wide] if folds >= 3 else None,
        "sd_folds": math.sqrt(variance) if folds > 1 else None,
        "sd_seeds": math.sqrt(float(whole_JS.var(axis=1, ddof=1).mean())) if seeded else None,
        "folds": folds,
    }


def _conclude(result: EvaluationResult, runs: list[list[TrainResult]], table: PairTable, folder: Path) -> None:
    """Summarise all runs, and write every pair's predictions by those that did not see it."""
    pairs, prediction_NS, target_N = _out_of_fold(runs)
    prediction_N = prediction_NS.mean(axis=1)
    write_parquet(folder / "out_of_fold.parquet", pairs.append_column("prediction", pa.array(prediction_N)))
    measured = np.flatnonzero(table.side_N == 0)
    result.split = runs[0][0].split.rpartition(", fold ")[0]
    result.pairs = len(measured)
    result.pooled = evaluate(target_N[measured], prediction_N[measured])
    result.within = {
        role: spearman_in_groups(target_N[measured], prediction_N[measured], table.pair_N2[measured, number])
        for number, role in ((1, "antigen"), (0, "antibody"))
    }
    shares = [fold[0].seen for fold in runs]
    result.seen = {name: float(np.mean([share[name] for share in shares])) for name in shares[0]}
    split_N = pq.read_table(_files(runs[0][0]).split)["split"].to_numpy()
    held_out = float(np.count_nonzero(split_N == "test") / np.count_nonzero(split_N == "train"))
    for name, tests_JS in _tests(runs):
        result.scores[name] = {
            metric: summarise([[test[metric] for test in fold] for fold in tests_JS], held_out=held_out)  # type: ignore[misc]
            for metric in NAMES
        }


def _tests(runs: list[list[TrainResult]]) -> Iterator[tuple[str, list[list[Metrics]]]]:
    """Name the regressor and each baseline, with its test scores by fold and seed; baselines have no seed."""
    yield "regressor", [[run.test or {} for run in fold] for fold in runs]
    for name in runs[0][0].baselines:
        yield name, [[fold[0].baselines[name]["test"]] for fold in runs]  # type: ignore[list-item]


def _out_of_fold(
    runs: list[list[TrainResult]],
) -> tuple[pa.Table, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gather what the run that tested it says of every pair.

    Returns:
        Columns id, fold, target and the prediction of each seed; these predictions, [N, S]; the targets, [N].
    """
    first = pq.read_table(_files(runs[0][0]).predictions)
    target_N = first["target"].to_numpy()
    fold_N, prediction_NS = np.zeros(len(first), np.int32), np.empty((len(first), len(runs[0])), np.float32)
    for fold, seeded in enumerate(runs):
        for number, run in enumerate(seeded):
            found = pq.read_table(_files(run).predictions)
            tested = found["split"].to_numpy() == "test"
            fold_N[tested] = fold + 1
            prediction_NS[tested, number] = found["prediction"].to_numpy()[tested]
    seeds = [_files(run).root.name.rpartition("-")[2] for run in runs[0]]
    by_seed = {f"prediction_{seed}": column_N for seed, column_N in zip(seeds, prediction_NS.T, strict=True)}
    return pa.table({"id": first["id"], "fold": fold_N, "target": target_N, **by_seed}), prediction_NS, target_N


def _files(run: TrainResult) -> RunDir:
    return RunDir(Path(run.run))
