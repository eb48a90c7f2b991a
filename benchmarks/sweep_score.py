"""What runs are worth together, and how far above others, with what chance in the validation pairs leaves."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from train.intervals import Float
from train.metrics import spearman
from train.result import scored_rows
from train.sweep.ensemble import mean_and_spread

_RESAMPLES = 1_000


def together(runs: list[str], part: str) -> float | None:
    """Give the Spearman correlation of the mean of runs on `valid` or `test`."""
    target_N, mean_N = _mean(runs, part)
    return spearman(target_N, mean_N)


def above(ours: list[str], plain: list[str]) -> list[float]:
    """Tell how far the validation Spearman of the mean of runs lies above that of others: itself, and 95 % of it."""
    targets, means = zip(*(_mean(runs, "valid") for runs in (ours, plain)), strict=True)
    target_N = targets[0]
    rng = np.random.default_rng(0)
    whole = np.arange(len(target_N))
    drawn = [whole, *(rng.choice(whole, len(whole)) for _ in range(_RESAMPLES))]
    scores = np.array([[spearman(target_N[rows], mean_N[rows]) for mean_N in means] for rows in drawn], float)
    gap = scores[:, 0] - scores[:, 1]
    return [float(gap[0]), *np.percentile(gap[1:], [2.5, 97.5]).tolist()]


def _mean(runs: list[str], part: str) -> tuple[Float, Float]:
    """Read pKd and the mean prediction of runs of the pairs of `part`, [N] each."""
    tables = [pq.read_table(Path(run) / "predictions.parquet") for run in runs]
    rows = scored_rows(tables[0], part)
    mean_N, _ = mean_and_spread(np.stack([table["prediction"].to_numpy()[rows] for table in tables]))
    return tables[0]["target"].to_numpy()[rows], mean_N
