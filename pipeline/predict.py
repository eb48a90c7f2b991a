"""`bindcache predict`: a finished run, or the ensemble of a sweep, applied to another table.

1. take the run's config: the same encoders, the same store, the same column names
2. embed what the store does not hold
3. predict every distinct pair, with intervals, and warn of what is unlike training
4. one row for each row of the table, in its order, or those of highest prediction

Shape suffixes: K members of an ensemble, N distinct pairs, R data rows of the table, M rows of them that are told.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embed.fingerprint import Sources, find_sources
from embed.pairs import PairTable
from embed.stage import read_table, run_embed
from embed.store.plain import NotPlainError, open_plain
from pipeline.certainty import Certainty, of_ensemble, of_run
from pipeline.config import Config, from_resolved
from pipeline.errors import ConfigError
from pipeline.novelty import Warned, warn_of_novelty
from pipeline.prediction_file import check_out, write_predictions
from pipeline.training import vector_folders_of
from train.rundir import RunDir

Index = npt.NDArray[np.int64]
Columns = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What `predict` did."""

    run: str
    """The run, or the sweep of the ensemble."""
    rows: int
    rejected: int
    warned: int = 0
    """Rows with a heavy chain or an antigen that is unlike training."""
    below: dict[str, float] = field(default_factory=dict)
    """By role, `heavy` and `antigen`: identity with the nearest of training below which a row is warned of; empty: not
    compared."""
    coverage: dict[str, float | None] = field(default_factory=dict)
    """By level, such as "0.95": share of the test pairs of the run inside the interval; None: there is no interval."""
    notes: list[str] = field(default_factory=list)
    """What could not be told, and why."""
    written: int = 0
    """Rows of the file: all, or the `top` ones."""
    embedded: int
    seconds: float
    out: str
    stopped: bool = False

    def as_json(self) -> dict[str, object]:
        """List the result as `predict --json` prints it."""
        return {name: value for name, value in asdict(self).items() if name != "stopped"}


class Predicted(NamedTuple):
    """What `predict` did, and what it predicted."""

    result: PredictResult
    table: pa.Table
    """Without rows where it was stopped."""


def predict_pairs(
    run: Path,
    pairs: Path,
    out: Path | None,
    *,
    ensemble: bool = False,
    top: int | None = None,
    clock: Callable[[], float],
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool] = lambda: False,
) -> Predicted:
    """Predict the pKd of every row of a table with a finished run or the ensemble of a sweep.

    The columns are row (from 1), id, prediction (pKd), low and high end of the intervals of 50, 80 and 95 %, warning,
    and reason; of an ensemble also spread. Where a row is rejected all but row, id and reason are null; warning is null
    where nothing is unlike training.

    Args:
        run: Folder of the run, or of the sweep.
        pairs: The table, with the column names of the run's own table; no affinities are needed.
        out: File to write, .parquet, .csv or .tsv; None: none.
        ensemble: Whether `run` is a sweep.
        top: Only so many rows of highest prediction, the highest first; None: all, in the table's order.
        clock: Seconds since the process, or the call, began.
        progress: Told the phase, and how much of how much of it is done.
        stop: Polled while embedding; when true, what is embedded stays in the store and nothing is predicted.

    Raises:
        ConfigError: The run is not finished, or `out` cannot be written.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: The run's weights cannot be used.
    """
    if out is not None:
        check_out(out)
    certainty = of_ensemble(run) if ensemble else of_run(RunDir(run))
    first = RunDir(certainty.members[0])
    config, sources, identity = _open_run(first)
    wanted = replace(config.pairs, path=pairs.resolve(), affinity="", split="", on_bad_row="reject")
    embedded = run_embed(config.embed, wanted, progress=progress, stop=stop)
    table = read_table(config.embed, wanted)
    result = PredictResult(
        run=str(run),
        rows=len(table.row_ids),
        rejected=len(table.rejected),
        embedded=embedded.embedded,
        seconds=clock(),
        out="" if out is None else str(out),
        stopped=embedded.stopped,
    )
    if embedded.stopped:
        return Predicted(result, pa.table({}))
    progress("predicting", 0, 1)
    column_N = certainty.columns(_predict(certainty.members, sources, table))
    progress("predicting", 1, 1)
    warned = warn_of_novelty(first, config, identity, table, progress)
    row_M = _highest(table, column_N["prediction"], top)
    result = _described(result, certainty, warned, table, written=len(row_M), seconds=clock())
    content = _content(table, row_M, column_N, warned.warning_N).replace_schema_metadata({"bindcache": _facts(result)})
    if out is not None:
        write_predictions(out, content)
    return Predicted(result, content)


def _described(
    result: PredictResult, certainty: Certainty, warned: Warned, table: PairTable, *, written: int, seconds: float
) -> PredictResult:
    warned_N = np.array([warning is not None for warning in warned.warning_N])
    return replace(
        result,
        warned=int(np.count_nonzero(warned_N[table.pair_of_row[table.pair_of_row >= 0]])),
        below=warned.below,
        coverage=dict(certainty.coverage),
        notes=[*certainty.notes, *warned.notes],
        written=written,
        seconds=seconds,
    )


def _facts(result: PredictResult) -> str:
    """Put into the table what is the same however long it took and wherever it is written."""
    return json.dumps({k: v for k, v in result.as_json().items() if k not in ("embedded", "seconds", "out")})


def _open_run(run: RunDir) -> tuple[Config, Sources, dict[str, object]]:
    """Read a run's config and what made it this run, and find its encoders unchanged."""
    try:
        with open_plain(run.config) as file:
            record = json.load(file)
        resolved, learned = record["config"], dict(record["identity"])
    except FileNotFoundError:
        raise ConfigError(f"--run {run.root} is no run, it has no config.json; name a run's folder.") from None
    except (NotPlainError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{run.config} is no config.json of a run ({error!r}); restore it, or train again.") from None
    if not run.result.exists():
        raise ConfigError(f"--run {run.root} is not finished; finish it with `bindcache train --resume`.")
    config = from_resolved(resolved, run.config)
    sources = find_sources(config.embed)
    for use, folder in asdict(vector_folders_of(sources)).items():
        trained_on = learned.get(f"vectors of {use}")
        if folder.name != trained_on:
            raise ConfigError(
                f"--run {run.root} was trained on the vectors {trained_on}, its encoders now give {folder.name}; "
                "restore the encoders' files and the library versions, or train again."
            )
    return config, sources, learned


def _predict(members: Sequence[Path], sources: Sources, table: PairTable) -> npt.NDArray[np.float32]:
    """Predict the pKd of every pair with each member, float32 [K, N]."""
    from train.dataset import build_dataset
    from train.predict import predict_rows

    dataset = build_dataset(table, vector_folders_of(sources))
    return np.stack([predict_rows(member, dataset) for member in members])


def _highest(table: PairTable, prediction_N: npt.NDArray[np.floating], top: int | None) -> Index:
    """List the rows that are told: all, or accepted ones of highest prediction, those before others where alike."""
    if top is None:
        return np.arange(len(table.row_ids))
    accepted = np.flatnonzero(table.pair_of_row >= 0)
    value = prediction_N[table.pair_of_row[accepted]].astype(np.float32)  # alike is what is alike in the file
    return accepted[np.argsort(-value, kind="stable")][:top]


def _content(table: PairTable, row_M: Index, column_N: Columns, warning_N: Sequence[str | None]) -> pa.Table:
    pair_M = table.pair_of_row[row_M]
    rejected_M, place_M = pair_M < 0, np.maximum(pair_M, 0)
    reasons = {row.row: f"{row.column}: {row.reason}" for row in table.rejected}
    rows = row_M + 1
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "id": pa.array(table.row_ids.take(row_M), pa.string()),
            **{name: _numbers(value_N[place_M], rejected_M) for name, value_N in column_N.items()},
            "warning": pa.array(warning_N, pa.string()).take(pa.array(place_M, mask=rejected_M)),
            "reason": pa.array([reasons.get(row) for row in rows.tolist()], pa.string()),
        }
    )


def _numbers(value_M: npt.NDArray[np.floating], rejected_M: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(value_M, pa.float32(), mask=rejected_M | np.isnan(value_M))
