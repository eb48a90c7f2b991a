"""How sure predictions are, of a run or of the ensemble of a sweep: the same columns, and what is lacking in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from train.errors import TrainError
from train.intervals import LEVELS, Calibration, Intervals, fewest_pairs, read_intervals
from train.rundir import RunDir
from train.sweep.ensemble import read_ensemble

Columns = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """What predicts, and what is known of its errors."""

    members: list[Path]
    """Folders of the runs that predict."""
    columns: Callable[[npt.NDArray[np.float32]], Columns]
    """Makes prediction, ends of intervals and, of an ensemble, spread, pKd [N] each, of the members' [K, N]."""
    coverage: Mapping[str, float | None]
    """Of the test pairs, the share inside the interval of each level."""
    notes: list[str] = field(default_factory=list)
    """Which intervals there are not, and why."""


def of_run(run: RunDir) -> Certainty:
    """Find what is known of a run; without its intervals it predicts all the same."""
    try:
        found, notes = read_intervals(run), []
    except TrainError as error:
        never = Calibration(floor=0.0, factors={str(level): None for level in LEVELS})
        found = Intervals(calibration=never, valid=0, test=0, coverage={str(level): None for level in LEVELS})
        notes = [f"No intervals: {error}"]
    return Certainty(
        members=[run.root],
        columns=lambda prediction_KN: found.columns(prediction_KN[0]),
        coverage=found.coverage,
        notes=notes or _too_few(found.calibration, found.valid),
    )


def of_ensemble(sweep: Path) -> Certainty:
    """Find what is known of the ensemble of a sweep.

    Raises:
        TrainError: There is none, or it is damaged.
    """
    found = read_ensemble(sweep / "ensemble.json")
    return Certainty(
        members=[sweep / member for member in found.members],
        columns=found.columns,
        coverage=found.coverage,
        notes=_too_few(found.calibration, int(str(found.valid["n"]))),
    )


def _too_few(calibration: Calibration, valid: int) -> list[str]:
    return [
        f"No interval of {level * 100:.0f} %: it takes {fewest_pairs(level)} validation pairs, and there are {valid}."
        for level in LEVELS
        if calibration.factors[str(level)] is None
    ]
