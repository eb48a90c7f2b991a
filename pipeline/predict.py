"""`bindcache predict`: a finished run, or the ensemble of a sweep, applied to another table.

1. take the run's config: the same encoders, the same store, the same column names
2. embed what the store does not hold
3. predict every distinct pair, and write one row for each row of the table, in its order
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from embed.fingerprint import Sources, find_sources
from embed.pairs import PairTable
from embed.stage import read_table, run_embed
from embed.store.plain import NotPlainError, open_plain
from pipeline.config import Config, from_resolved
from pipeline.errors import ConfigError
from pipeline.training import vector_folders_of
from train.rundir import RunDir
from train.sweep.ensemble import read_ensemble

# K members of an ensemble, N distinct pairs, R data rows of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What `predict` did."""

    run: str
    """The run, or the sweep of the ensemble."""
    rows: int
    rejected: int
    embedded: int
    seconds: float
    out: str
    stopped: bool = False


def predict_table(
    run: Path,
    pairs: Path,
    out: Path,
    *,
    ensemble: bool = False,
    clock: Callable[[], float],
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> PredictResult:
    """Predict the pKd of every row of a table with a finished run or the ensemble of a sweep.

    Args:
        run: Folder of the run, or of the sweep.
        pairs: The table, with the column names of the run's own table; no affinities are needed.
        out: Parquet file to write: row (from 1), id, prediction (pKd; null where rejected), reason (or null);
            of an ensemble also spread, and low and high end of each interval (pKd).
        ensemble: Whether `run` is a sweep.
        clock: Seconds since the process began.
        progress: Told the phase, and how much of how much of it is done.
        stop: Polled while embedding; when true, what is embedded stays in the store and nothing is predicted.

    Raises:
        ConfigError: The run is not finished, or `out` has no folder.
        EmbedError: The table, an encoder or the store cannot be used as it is.
        TrainError: The run's weights cannot be used.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another.")
    together = read_ensemble(run / "ensemble.json") if ensemble else None
    members = [run / member for member in together.members] if together else [run]
    config, sources = _open_run(RunDir(members[0]))
    wanted = replace(config.pairs, path=pairs.resolve(), affinity="", split="", on_bad_row="reject")
    embedded = run_embed(config.embed, wanted, progress=progress, stop=stop)
    table = read_table(config.embed, wanted)
    if not embedded.stopped:
        progress("predicting", 0, 1)
        prediction_KN = _predict(members, sources, table)
        _write(out, table, {"prediction": prediction_KN[0]} if together is None else together.columns(prediction_KN))
    return PredictResult(
        run=str(run),
        rows=len(table.row_ids),
        rejected=len(table.rejected),
        embedded=embedded.embedded,
        seconds=clock(),
        out=str(out),
        stopped=embedded.stopped,
    )


def _open_run(run: RunDir) -> tuple[Config, Sources]:
    """Read a run's config, and find its encoders unchanged."""
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
    return config, sources


def _predict(members: Sequence[Path], sources: Sources, table: PairTable) -> npt.NDArray[np.float32]:
    """Predict the pKd of every pair with each member, float32 [K, N]."""
    from train.dataset import build_dataset
    from train.predict import predict_rows

    dataset = build_dataset(table, vector_folders_of(sources))
    return np.stack([predict_rows(member, dataset) for member in members])


def _write(out: Path, table: PairTable, column_N: Mapping[str, npt.NDArray[np.floating]]) -> None:
    rejected_R = table.pair_of_row < 0
    pair_R = np.maximum(table.pair_of_row, 0)
    reasons = {row.row: f"{row.column}: {row.reason}" for row in table.rejected}
    rows = range(1, len(table.row_ids) + 1)
    content = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "id": pa.array(table.row_ids, pa.string()),
            **{
                name: pa.array(np.where(rejected_R, np.nan, value_N[pair_R]), pa.float32(), mask=rejected_R)
                for name, value_N in column_N.items()
            },
            "reason": pa.array([reasons.get(row) for row in rows], pa.string()),
        }
    )
    part = out.with_name(f".{out.name}.part")
    pa.parquet.write_table(content, part)
    part.replace(out)
