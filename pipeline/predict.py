"""`bindcache predict`: a finished run, applied to another table.

1. take the run's config: the same encoders, the same store, the same column names
2. embed what the store does not hold
3. predict every distinct pair, and write one row for each row of the table, in its order
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from embed.fingerprint import Sources, find_sources
from embed.pairs import PairTable
from embed.stage import read_table, run_embed
from pipeline.config import Config, from_resolved
from pipeline.errors import ConfigError
from pipeline.training import vector_folders_of
from train.rundir import RunDir

# N distinct pairs, R data rows of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What `predict` did."""

    run: str
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
    clock: Callable[[], float],
    progress: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> PredictResult:
    """Predict the pKd of every row of a table with a finished run.

    Args:
        run: Folder of the run.
        pairs: The table, with the column names of the run's own table; no affinities are needed.
        out: Parquet file to write: row (from 1), id, prediction (pKd; null where rejected), reason (or null).
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
    config, sources = _open_run(RunDir(run))
    wanted = replace(config.pairs, path=pairs.resolve(), affinity="", split="", on_bad_row="reject")
    embedded = run_embed(config.embed, wanted, progress=progress, stop=stop)
    table = read_table(config.embed, wanted)
    if not embedded.stopped:
        _write(out, table, _predict(run, sources, table))
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
        record = json.loads(run.config.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"--run {run.root} is no run, it has no config.json; name a run's folder.") from None
    if not run.result.exists():
        raise ConfigError(f"--run {run.root} is not finished; finish it with `bindcache train --resume`.")
    config = from_resolved(record["config"], run.config)
    sources = find_sources(config.embed)
    for use, folder in asdict(vector_folders_of(sources)).items():
        learned = record["identity"][f"vectors of {use}"]
        if folder.name != learned:
            raise ConfigError(
                f"--run {run.root} was trained on the vectors {learned}, its encoders now give {folder.name}; "
                "restore the encoders' files and the library versions, or train again."
            )
    return config, sources


def _predict(run: Path, sources: Sources, table: PairTable) -> npt.NDArray[np.float32]:
    from train.dataset import build_dataset
    from train.predict import predict_rows

    return predict_rows(run, build_dataset(table, vector_folders_of(sources)))


def _write(out: Path, table: PairTable, prediction_N: npt.NDArray[np.float32]) -> None:
    rejected_R = table.pair_of_row < 0
    prediction_R = np.where(rejected_R, np.nan, prediction_N[np.maximum(table.pair_of_row, 0)])
    reasons = {row.row: f"{row.column}: {row.reason}" for row in table.rejected}
    rows = range(1, len(table.row_ids) + 1)
    content = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "id": pa.array(table.row_ids, pa.string()),
            "prediction": pa.array(prediction_R, pa.float32(), mask=rejected_R),
            "reason": pa.array([reasons.get(row) for row in rows], pa.string()),
        }
    )
    part = out.with_name(f".{out.name}.part")
    pa.parquet.write_table(content, part)
    part.replace(out)
