"""A finished run, read back from its folder, with what it was trained on where that is still there.

Shape suffixes: N pairs, M pairs of one part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embed.errors import EmbedError
from embed.fingerprint import find_sources
from pipeline.config import from_resolved
from pipeline.errors import ConfigError
from pipeline.report.behind import Behind
from pipeline.training import trained_table
from train.errors import TrainError
from train.rundir import RunDir

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All that a run left."""

    run: RunDir
    settings: Mapping[str, Mapping[str, Any]]
    """The resolved config by section."""
    identity: Mapping[str, Any]
    result: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    ids: Sequence[str]
    part_N: npt.NDArray[np.str_]
    """`train`, `valid`, `test` or `unused`; with ` bound` behind it where the target is one and no measured value."""
    target_N: Floats
    prediction_N: Floats
    behind: Behind | str
    """Or why it cannot be had any more."""

    def rows(self, part: str) -> Index:
        """List the measured pairs of `train`, `valid` or `test`; those with bounds of `train bound` and so on."""
        return np.flatnonzero(self.part_N == part)

    def of(self, part: str) -> tuple[Floats, Floats]:
        """Give measured and predicted pKd of a part, both float64 [M]."""
        row_M = self.rows(part)
        return self.target_N[row_M], self.prediction_N[row_M]


def read_finished(run: RunDir, behind: Behind | None = None) -> Finished:
    """Read a run.

    Args:
        run: Its folder.
        behind: What it was trained on; None reads that anew.

    Raises:
        ConfigError: The folder holds no run, or one that is not finished.
    """
    try:
        record = json.loads(run.config.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"--run {run.root} is no run, it has no config.json; name a run's folder.") from None
    if not run.result.exists():
        raise ConfigError(f"--run {run.root} is not finished; finish it with `bindcache train --resume`.")
    predictions = pq.read_table(run.predictions)
    return Finished(
        run=run,
        settings=record["config"],
        identity=record["identity"],
        result=json.loads(run.result.read_bytes()),
        history=[json.loads(line) for line in run.metrics.read_text("utf-8").splitlines()],
        ids=predictions["id"].to_pylist(),
        part_N=_parts(predictions),
        target_N=predictions["target"].to_numpy().astype(np.float64),
        prediction_N=predictions["prediction"].to_numpy().astype(np.float64),
        behind=_find_behind(run, record) if behind is None else behind,
    )


def _parts(predictions: pa.Table) -> npt.NDArray[np.str_]:
    part_N = np.array(predictions["split"].to_pylist())
    if "side" not in predictions.column_names:
        return part_N
    return np.where(predictions["side"].to_numpy() == 0, part_N, np.char.add(part_N, " bound"))


def _find_behind(run: RunDir, record: Mapping[str, Any]) -> Behind | str:
    """Read a run's table again and find its vectors, unchanged; or tell why that fails."""
    try:
        config = from_resolved(record["config"], run.config)
        table = trained_table(config, record["identity"])
        sources = find_sources(config.embed)
    except (ConfigError, EmbedError, TrainError, OSError) as error:
        return str(error)
    return Behind(config=config, table=table, sources=sources)
