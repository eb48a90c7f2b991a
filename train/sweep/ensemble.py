"""The best trials together: their mean predicts, and how far they differ says how sure it is.

Shape suffixes: K members, N pairs, T test pairs.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.store.plain import NotPlainError
from train.errors import TrainError
from train.intervals import Calibration, Coverage, Float, calibrate
from train.metrics import Metrics, evaluate, spearman
from train.sealed import read_sealed, write_sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """The members' runs and what their spread means."""

    members: list[str]
    """Folders of finished runs, relative to the sweep's."""
    calibration: Calibration
    valid: Metrics
    test: Metrics
    coverage: Coverage
    """Of the test pairs, the share inside the interval of each level."""
    spread_follows_error: float | None
    """Spearman correlation of spread and size of the error on the test pairs."""

    def columns(self, prediction_KN: npt.NDArray[np.float32]) -> dict[str, Float]:
        """Give prediction, both ends of each interval, and spread, pKd [N] each, from the members' predictions."""
        mean_N, spread_N = mean_and_spread(prediction_KN)
        return {"prediction": mean_N, **self.calibration.ends(mean_N, spread_N), "spread": spread_N}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_sealed(path, asdict(self))


def read_ensemble(path: Path) -> Ensemble:
    """Read an ensemble that a sweep wrote.

    Raises:
        TrainError: There is none, or it is damaged.
    """
    try:
        record = read_sealed(path)
        return Ensemble(**{**record, "calibration": Calibration(**record["calibration"])})
    except FileNotFoundError:
        raise TrainError(f"{path} is missing: the sweep has no finished trial; run `bindcache sweep` first.") from None
    except (NotPlainError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainError(f"{path} is no ensemble of a sweep ({error}); run `bindcache sweep` again.") from None


def mean_and_spread(prediction_KN: npt.NDArray[np.float32]) -> tuple[Float, Float]:
    """Average the members' predictions; the spread is their standard deviation (0 for one member). Both pKd [N]."""
    prediction_KN64 = prediction_KN.astype(np.float64)
    return prediction_KN64.mean(axis=0), prediction_KN64.std(axis=0)


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
    error_T, spread_T = error_N[test], spread_N[test]
    return Ensemble(
        members=members,
        calibration=calibration,
        valid=evaluate(target_N[valid], mean_N[valid]),
        test=evaluate(target_N[test], mean_N[test]),
        coverage=calibration.coverage(error_T, spread_T),
        spread_follows_error=spearman(np.abs(error_T), spread_T),
    )
