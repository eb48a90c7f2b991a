"""Intervals around predictions: calibrated on the validation pairs of a run or an ensemble, counted on its test pairs.

Split conformal prediction: half the width of an interval is that order statistic of the validation errors which a new
pair's error stays within with the level's probability, if it is exchangeable with them (Lei et al. 2018, arXiv
1604.04173, section 2.2). Where members of an ensemble differ, errors are first divided by a scale (section 5.2).

Shape suffixes: N pairs, M validation pairs, T test pairs, F floors.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embed.store.plain import NotPlainError
from train.errors import TrainError
from train.metrics import Values
from train.result import scored_rows
from train.rundir import RunDir
from train.sealed import read_sealed, write_sealed

Float = npt.NDArray[np.float64]
Coverage = dict[str, float | None]

LEVELS = (0.5, 0.8, 0.95)
"""Shares of the true values that an interval is to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How an interval follows from the spread of the members, learned on the validation pairs.

    Half the width of an interval is `factors[level] * sqrt(spread² + floor²)`; a single run has no spread.
    """

    floor: float
    """pKd."""
    factors: dict[str, float | None]
    """By level, such as "0.95"; None: there are too few validation pairs for it, no finite interval holds so much."""

    def half_width(self, spread_N: Float, level: float) -> Float:
        """Give half the width of the interval of each pair, pKd [N]; NaN where no finite one will do."""
        factor = self.factors[str(level)]
        return np.full(len(spread_N), np.nan) if factor is None else factor * self.scale(spread_N)

    def scale(self, spread_N: Float) -> Float:
        """Give the scale that errors are measured in, pKd [N]."""
        return np.sqrt(spread_N**2 + self.floor**2)

    def ends(self, prediction_N: Float, spread_N: Float) -> dict[str, Float]:
        """Give both ends of each interval, pKd [N] each, NaN where there is none: `low_50`, `high_50` and so on."""
        found = {}
        for level in LEVELS:
            half_N = self.half_width(spread_N, level)
            found |= {f"low_{level * 100:.0f}": prediction_N - half_N, f"high_{level * 100:.0f}": prediction_N + half_N}
        return found

    def coverage(self, error_T: Float, spread_T: Float) -> Coverage:
        """Count the share of pairs inside the interval of each level; None without a pair, or without an interval."""
        found: Coverage = {}
        for level in LEVELS:
            told = len(error_T) and self.factors[str(level)] is not None
            inside_T = np.abs(error_T) <= self.half_width(spread_T, level)
            found[str(level)] = float(inside_T.mean()) if told else None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """The intervals of a single run: one width for all pairs."""

    calibration: Calibration
    valid: int
    """Validation pairs that they were learned on."""
    test: int
    """Test pairs that they were counted on."""
    coverage: Coverage
    """Of the test pairs, the share inside the interval of each level."""

    def columns(self, prediction_N: npt.NDArray[np.float32]) -> dict[str, Float]:
        """Give prediction and both ends of each interval, pKd [N] each."""
        value_N = prediction_N.astype(np.float64)
        return {"prediction": value_N, **self.calibration.ends(value_N, np.zeros(len(value_N)))}

    def by_level(self) -> dict[str, dict[str, float | None]]:
        """Tell `half_width` (pKd) and `coverage` of each level, such as "0.95"."""
        widths = {str(level): float(self.calibration.half_width(np.zeros(1), level)[0]) for level in LEVELS}
        return {
            level: {"half_width": None if math.isnan(width) else width, "coverage": self.coverage[level]}
            for level, width in widths.items()
        }

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        write_sealed(path, asdict(self))


def fewest_pairs(level: float) -> int:
    """Count the validation pairs that an interval of a level needs: 1, 4 and 19 for 50, 80 and 95 %."""
    return math.ceil(round(level / (1 - level), 9))


def calibrate(error_M: Float, spread_M: Float) -> Calibration:
    """Learn from the validation pairs what spread goes with what error.

    Args:
        error_M: Prediction minus target, pKd.
        spread_M: Spread of the members, pKd.
    """
    floor = _likeliest_floor(error_M, spread_M)
    score_M = np.sort(np.abs(error_M) / np.maximum(np.sqrt(spread_M**2 + floor**2), np.finfo(float).tiny))
    factors: dict[str, float | None] = {}
    for level in LEVELS:
        rank = math.ceil(round((len(score_M) + 1) * level, 9))
        factors[str(level)] = float(score_M[rank - 1]) if rank <= len(score_M) else None
    return Calibration(floor=floor, factors=factors)


def judge_intervals(
    prediction_N: Values, target_N: Values, *, valid: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> Intervals:
    """Calibrate the intervals of a run on its validation pairs and count them on its test pairs.

    Args:
        prediction_N: pKd.
        target_N: pKd.
        valid: Rows of the validation pairs.
        test: Rows of the test pairs.
    """
    error_N = prediction_N.astype(np.float64) - target_N
    calibration = calibrate(error_N[valid], np.zeros(len(valid)))
    coverage = calibration.coverage(error_N[test], np.zeros(len(test)))
    return Intervals(calibration=calibration, valid=len(valid), test=len(test), coverage=coverage)


def read_intervals(run: RunDir) -> Intervals:
    """Read the intervals of a finished run; of one from before there were any, make them from its predictions.

    Raises:
        TrainError: They are damaged, or the predictions cannot be read either.
    """
    try:
        record = read_sealed(run.intervals)
        return Intervals(**{**record, "calibration": Calibration(**record["calibration"])})
    except FileNotFoundError:
        return _from_predictions(run.predictions)
    except (NotPlainError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainError(
            f"{run.intervals} holds no intervals of a run ({error}); remove it, and they are made anew from "
            f"{run.predictions.name}."
        ) from None


def _from_predictions(path: Path) -> Intervals:
    try:
        table = pq.read_table(path)
        prediction_N, target_N = (table[name].to_numpy() for name in ("prediction", "target"))
        valid, test = (scored_rows(table, part) for part in ("valid", "test"))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise TrainError(f"{path} cannot be read ({error}); restore it, or train again.") from None
    return judge_intervals(prediction_N, target_N, valid=valid, test=test)


def _likeliest_floor(error_M: Float, spread_M: Float) -> float:
    """Choose the floor under which normal errors of scale sqrt(spread² + floor²) are most likely."""
    rmse = math.sqrt(float(np.mean(error_M**2))) if len(error_M) else 0.0
    if rmse == 0:
        return 0.0
    floor_F = rmse * np.geomspace(1e-2, 1.0, 41)
    variance_FM = spread_M**2 + floor_F[:, None] ** 2
    cost_F = (np.log(variance_FM) + error_M**2 / variance_FM).mean(axis=1)
    return float(floor_F[int(np.argmin(cost_F))])
