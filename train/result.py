"""What a run says in the end, and the tables it leaves.

Shape suffixes: N pairs.
"""

import io
import json
import re
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embed.store.durable import replace_file
from train.metrics import Metrics
from train.splits import Split


@dataclass(slots=True, kw_only=True)
class TrainResult:
    """What one run of the train stage did; a stopped one has no metrics yet."""

    run: str
    pairs: int
    """Distinct pairs of the table."""
    epochs: int
    """Epochs trained, over all resumes."""
    best_epoch: int
    """The epoch (from 1) with the lowest validation error, whose weights are kept; 0 before there is one."""
    seconds: float = 0.0
    """Wall clock of this process from its start."""
    setup_seconds: float = 0.0
    """Of these: imports, reading, splitting, compiling."""
    pairs_per_second: float = 0.0
    """Training pairs over the time of the training loop, validation and checkpoints included."""
    waited_fraction: float = 0.0
    """Of that time, the share in which no batch was there; on the CPU, which gathers by itself, the gathering."""
    peak_memory_bytes: int = 0
    """Largest resident memory of the process."""
    valid: Metrics | None = None
    test: Metrics | None = None
    intervals: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """By level, such as "0.95": `half_width` of the interval around a prediction (pKd; None: too few validation pairs),
    and `coverage`, the share of the test pairs inside."""
    baselines: dict[str, dict[str, object]] = field(default_factory=dict)
    split: str = ""
    """How train, valid and test were divided, and what found clusters."""
    near_identity: float = 0.0
    """Identity from which sequences count as near below."""
    seen: dict[str, float] = field(default_factory=dict)
    """Share of the test pairs that share with training pairs what `Leakage` names, such as the `antibody`."""
    unseen: dict[str, Metrics | None] = field(default_factory=dict)
    """Scores of the test pairs that do not share it; None below 10 measured pairs."""
    within: dict[str, dict[str, int | float | list[float] | None]] = field(default_factory=dict)
    """Spearman of the test pairs within each `antigen`, and within each `antibody`, averaged."""
    bounds: dict[str, int | float | None] = field(default_factory=dict)
    """Test pairs with a bound, no part of other scores, and the share whose prediction respects it; empty: none."""
    ceiling: dict[str, int | float] | None = None
    """Scores that the noise of replicates leaves on the test pairs; None where these are too few."""
    details: dict[str, object] = field(default_factory=dict)
    """How it was trained, and why so: device, precision, placement, compile, antigen half, checkpoint stalls, split."""
    stopped: bool = False

    def as_json(self) -> dict[str, object]:
        """List the result as `train --json` prints it."""
        names = self.__dataclass_fields__
        return {name: getattr(self, name) for name in names if name not in ("details", "stopped")}

    def write(self, path: Path) -> None:
        """Write result.json, which makes a run finished."""
        replace_file(path, json.dumps({**self.as_json(), "details": self.details}, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> "TrainResult":
        """Read the result.json of a finished run."""
        return cls(**json.loads(path.read_bytes()))


def write_split(path: Path, ids: Sequence[str], split: Split) -> None:
    """Write the part of every pair: columns id and split; kind and digest are in the schema's metadata."""
    table = pa.table({"id": ids, "split": split.names()})
    write_parquet(path, table.replace_schema_metadata({"kind": split.kind, "digest": split.digest}))


def write_predictions(
    path: Path,
    ids: Sequence[str],
    split: Split,
    *,
    target_N: npt.NDArray[np.float32],
    prediction_N: npt.NDArray[np.float32],
    side_N: npt.NDArray[np.int8] | None,
) -> None:
    """Write one row per pair: id, split, target and prediction (pKd); where there are bounds, their side too."""
    columns = {"id": ids, "split": split.names(), "target": target_N, "prediction": prediction_N}
    write_parquet(path, pa.table(columns if side_N is None else {**columns, "side": side_N}))


def scored_rows(predictions: pa.Table, part: str) -> npt.NDArray[np.int64]:
    """List the rows of predictions.parquet that are scored: those of a part, bounds left out."""
    scored = predictions["split"].to_numpy() == part
    if "side" in predictions.column_names:
        scored &= predictions["side"].to_numpy() == 0
    return np.flatnonzero(scored)


def peak_memory_bytes() -> int:
    """Tell the most memory this process has had resident."""
    try:  # ru_maxrss counts the parent's memory too, as it was when this process was started
        high_water = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        high_water = None
    if high_water:
        return int(high_water[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table whole, or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    replace_file(path, buffer.getvalue())
