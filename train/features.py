"""How vectors are prepared for the regressor, by the statistics of the training pairs.

Shape suffixes: U distinct vectors, D their width.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from embed.store.durable import replace_file
from train.dataset import Matrix, blocks
from train.errors import TrainError

RIDGE = 1e-4
"""Share of the largest variance that is added to every variance before whitening.

Measured (benchmarks/NOTES.md): 1e-5 to 1e-3 serve alike; a smaller share blows rounding up.
"""
_CONSTANT = 1e-12
"""A variance below this share of the largest squared mean is float32 rounding: the column carries nothing."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """`(vector - mean_D) @ map_DD` is what the network reads; both float32."""

    mean_D: npt.NDArray[np.float32]
    map_DD: npt.NDArray[np.float32]


def fit_preparation(
    matrix: Matrix, count_U: npt.NDArray[np.int64], features: Literal["standardise", "whiten"]
) -> Preparation:
    """Learn mean and map from the vectors of the training pairs.

    Args:
        matrix: Distinct vectors, [U, D] float32.
        count_U: Training pairs that use each vector; the statistics are those of the pairs.
        features: `standardise` divides each column by its deviation; `whiten` turns to principal axes
            first. Columns or axes that are constant in training become 0.
    """
    mean_D, covariance_DD = _moments(matrix, count_U)
    nothing = _CONSTANT * float(np.max(mean_D**2, initial=0.0))
    if features == "standardise":
        map_DD = np.diag(_inverse_root(np.diag(covariance_DD), nothing, ridge=0.0))
    else:
        variance_D, axis_DD = np.linalg.eigh(covariance_DD)
        map_DD = axis_DD * _inverse_root(variance_D, nothing, ridge=RIDGE)
    return Preparation(mean_D.astype(np.float32), map_DD.astype(np.float32))


def write_preparation(path: Path, preparation: Preparation) -> None:
    """Write a preparation as an npz file of `mean` and `map`."""
    buffer = io.BytesIO()
    np.savez(buffer, mean=preparation.mean_D, map=preparation.map_DD)
    replace_file(path, buffer.getvalue())


def read_preparation(path: Path) -> Preparation:
    """Read what `write_preparation` wrote; its checksums are checked.

    Raises:
        TrainError: It is damaged.
    """
    try:
        with np.load(path) as arrays:
            return Preparation(arrays["mean"], arrays["map"])
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise TrainError(f"{path} is damaged ({error}); delete it, and it is made anew.") from None


def _inverse_root(variance_D: npt.NDArray[np.float64], nothing: float, *, ridge: float) -> npt.NDArray[np.float64]:
    kept_D = variance_D > nothing
    raised_D = np.where(kept_D, variance_D + ridge * np.max(variance_D, initial=0.0), 1.0)
    return np.where(kept_D, 1.0 / np.sqrt(raised_D), 0.0)


def _moments(matrix: Matrix, count_U: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weigh mean [D] and covariance [D, D], float64, in two passes: neighbours differ in the last digits."""
    used = np.flatnonzero(count_U)
    total = float(count_U.sum())
    mean_D = np.zeros(matrix.dim)
    covariance_DD = np.zeros((matrix.dim, matrix.dim))
    for index_B in blocks(used, matrix.dim):
        mean_D += count_U[index_B] @ matrix.gather(index_B).astype(np.float64) / total
    for index_B in blocks(used, matrix.dim):
        centred_BD = matrix.gather(index_B) - mean_D
        covariance_DD += (centred_BD * (count_U[index_B] / total)[:, None]).T @ centred_BD
    return mean_D, covariance_DD
