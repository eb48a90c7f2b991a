"""The best trials together: their mean predicts, and how far they differ says how sure it is.

Shape suffixes: K members, N pairs, M validation pairs.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.store.durable import replace_file
from embed.store.plain import NotPlainError, open_plain
from train.errors import TrainError
from train.metrics import Metrics, evaluate, spearman

Float = npt.NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.95)
"""Shares of the true values that an interval is to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How an interval follows from the spread of the members, learned on the validation pairs.

    Half the width of an interval is `factors[level] * sqrt(spread² + floor²)`: split conformal prediction with a
    normalised score (Lei et al. 2018, arXiv 1604.04173, section 5.2).
    """

    floor: float
    """pKd."""
    factors: dict[str, float]
    """By level, such as "0.95"."""

    def half_width(self, spread_N: Float, level: float) -> Float:
        """Give half the width of the interval of each pair, pKd [N]."""
        return self.factors[str(level)] * self.scale(spread_N)

    def scale(self, spread_N: Float) -> Float:
        """Give the scale that errors are measured in, pKd [N]."""
        return np.sqrt(spread_N**2 + self.floor**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """The members' runs and what their spread means."""

    members: list[str]
    """Folders of finished runs, relative to the sweep's."""
    calibration: Calibration
    valid: Metrics
    test: Metrics
    coverage: dict[str, float | None]
    """Of the test pairs, the share inside the interval of each level."""
    spread_follows_error: float | None
    """Spearman correlation of spread and size of the error on the test pairs."""

    def columns(self, prediction_KN: npt.NDArray[np.float32]) -> dict[str, Float]:
        """Give prediction, spread, and both ends of each interval, pKd [N] each, from the members' predictions."""
        mean_N, spread_N = mean_and_spread(prediction_KN)
        found = {"prediction": mean_N, "spread": spread_N}
        for level in LEVELS:
            half_N = self.calibration.half_width(spread_N, level)
            found |= {f"low_{level:.0%}"[:-1]: mean_N - half_N, f"high_{level:.0%}"[:-1]: mean_N + half_N}
        return found

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        record = asdict(self)
        replace_file(path, json.dumps({**record, "sha256": _digest(record)}, indent=1).encode())


def read_ensemble(path: Path) -> Ensemble:
    """Read an ensemble that a sweep wrote.

    Raises:
        TrainError: There is none, or it is damaged.
    """
    try:
        with open_plain(path) as file:
            record = dict(json.load(file))
        if record.pop("sha256", None) != _digest(record):
            raise ValueError("its bytes do not match its SHA-256")
        return Ensemble(**{**record, "calibration": Calibration(**record["calibration"])})
    except FileNotFoundError:
        raise TrainError(f"{path} is missing: the sweep has no finished trial; run `bindcache sweep` first.") from None
    except (NotPlainError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainError(f"{path} is no ensemble of a sweep ({error}); run `bindcache sweep` again.") from None


def mean_and_spread(prediction_KN: npt.NDArray[np.float32]) -> tuple[Float, Float]:
    """Average the members' predictions; the spread is their standard deviation (0 for one member). Both pKd [N]."""
    prediction_KN64 = prediction_KN.astype(np.float64)
    return prediction_KN64.mean(axis=0), prediction_KN64.std(axis=0)


def calibrate(error_M: Float, spread_M: Float) -> Calibration:
    """Learn from the validation pairs what spread goes with what error.

    Args:
        error_M: Prediction minus target, pKd.
        spread_M: Spread of the members, pKd.
    """
    floor = _likeliest_floor(error_M, spread_M)
    score_M = np.sort(np.abs(error_M) / np.maximum(np.sqrt(spread_M**2 + floor**2), np.finfo(float).tiny))
    ranks = {level: min(len(score_M), math.ceil((len(score_M) + 1) * level)) for level in LEVELS}
    return Calibration(floor=floor, factors={str(level): float(score_M[rank - 1]) for level, rank in ranks.items()})


def judge_ensemble(
    members: list[str],
    prediction_KN: npt.NDArray[np.float32],
    target_N: npt.NDArray[np.float32],
    *,
    valid: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> Ensemble:
    """Calibrate an ensemble on the validation pairs and score it on the test pairs.

    Args:
        members: Folders of the members' runs, relative to the sweep's.
        prediction_KN: What each predicts, pKd.
        target_N: pKd.
        valid: Rows of the validation pairs.
        test: Rows of the test pairs.
    """
    mean_N, spread_N = mean_and_spread(prediction_KN)
    error_N = mean_N - target_N
    calibration = calibrate(error_N[valid], spread_N[valid])
    error, spread = np.abs(error_N[test]), spread_N[test]
    inside = {str(level): error <= calibration.half_width(spread, level) for level in LEVELS}
    return Ensemble(
        members=members,
        calibration=calibration,
        valid=evaluate(target_N[valid], mean_N[valid]),
        test=evaluate(target_N[test], mean_N[test]),
        coverage={level: float(held.mean()) if len(held) else None for level, held in inside.items()},
        spread_follows_error=spearman(error, spread),
    )


def _digest(record: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _likeliest_floor(error_M: Float, spread_M: Float) -> float:
    """Choose the floor under which normal errors of scale sqrt(spread² + floor²) are most likely."""
    rmse = math.sqrt(float(np.mean(error_M**2)))
    if rmse == 0:
        return 0.0
    floor_F = rmse * np.geomspace(1e-2, 1.0, 41)
    variance_FM = spread_M**2 + floor_F[:, None] ** 2
    cost_F = (np.log(variance_FM) + error_M**2 / variance_FM).mean(axis=1)
    return float(floor_F[int(np.argmin(cost_F))])
