"""How vectors are prepared for the regressor, by the statistics of the training pairs.

Shape suffixes: U distinct vectors of the training pairs, D their width, V columns that vary, A axes, K numbers of a
prepared vector.
"""

import io
from collections.abc import Iterator
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
_ALIGNED = 16
"""Prepared vectors are a multiple of this wide where vectors allow: products of odd widths are slow."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """`(vector - mean_D) @ map_DK` is what the network reads; both float32."""

    mean_D: npt.NDArray[np.float32]
    map_DK: npt.NDArray[np.float32]

    @property
    def axes(self) -> int:
        """Numbers of a prepared vector."""
        return int(self.map_DK.shape[1])


def fit_preparation(
    matrix: Matrix, count_U: npt.NDArray[np.int64], features: Literal["standardise", "whiten"]
) -> Preparation:
    """Learn mean and map from the vectors of the training pairs.

    Args:
        matrix: Distinct vectors, [U, D] float32.
        count_U: Training pairs that use each vector; the statistics are those of the pairs.
        features: `standardise` divides each column by its deviation; `whiten` turns to principal axes
            first. Columns or axes that are constant in training are left out.
    """
    used = np.flatnonzero(count_U)
    column_V = np.flatnonzero(matrix.varying(used))
    share_U = count_U[used] / float(count_U.sum())
    mean_D = _mean(matrix, used, share_U)
    nothing = _CONSTANT * float(np.max(mean_D**2, initial=0.0))
    centred = _Centred(matrix, used, share_U, mean_D, column_V)
    if features == "standardise":
        map_VA = np.diag(_inverse_root(centred.variances(), nothing, ridge=0.0))
    else:
        variance_A, axis_VA = centred.principal_axes()
        noise = np.finfo(np.float64).eps * len(used) * np.max(variance_A, initial=0.0)
        map_VA = axis_VA * _inverse_root(variance_A, max(nothing, noise), ridge=RIDGE)
    map_VA = map_VA[:, map_VA.any(axis=0)]
    axes = min(matrix.dim, -(-max(1, map_VA.shape[1]) // _ALIGNED) * _ALIGNED)
    map_DK = np.zeros((matrix.dim, axes), np.float32)
    map_DK[column_V, axes - map_VA.shape[1] :] = map_VA
    return Preparation(mean_D.astype(np.float32), map_DK)


def write_preparation(path: Path, preparation: Preparation) -> None:
    """Write a preparation as an npz file of `mean` and `map`."""
    buffer = io.BytesIO()
    np.savez(buffer, mean=preparation.mean_D, map=preparation.map_DK)
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


def _mean(matrix: Matrix, used: npt.NDArray[np.int64], share_U: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mean_D, done = np.zeros(matrix.dim), 0
    for index_B in blocks(used, matrix.dim):
        mean_D += share_U[done : done + len(index_B)] @ matrix.gather(index_B).astype(np.float64)
        done += len(index_B)
    return mean_D


@dataclass(frozen=True, slots=True)
class _Centred:
    """The varying columns of the training vectors minus their mean: neighbours differ in the last digits."""

    matrix: Matrix
    used: npt.NDArray[np.int64]
    share_U: npt.NDArray[np.float64]
    """Of the training pairs."""
    mean_D: npt.NDArray[np.float64]
    column_V: npt.NDArray[np.int64]

    def blocks(self) -> Iterator[npt.NDArray[np.float64]]:
        """Yield them some rows at a time, each row times the root of its share, float64 [B, V]."""
        done = 0
        for index_B in blocks(self.used, self.matrix.dim):
            root_B1 = np.sqrt(self.share_U[done : done + len(index_B), None])
            yield root_B1 * (self.matrix.gather(index_B)[:, self.column_V] - self.mean_D[self.column_V])
            done += len(index_B)

    def variances(self) -> npt.NDArray[np.float64]:
        """Sum up the variance of each column, [V]."""
        return sum(((block_BV**2).sum(axis=0) for block_BV in self.blocks()), np.zeros(len(self.column_V)))

    def principal_axes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Find variances, rising, and axes, as columns [V, A]; of fewer vectors than columns there are fewer axes.

        With C the centred vectors, C Ct and Ct C have the same values, and the axes of the second are Ct times those
        of the first over the root of the value: the smaller of the two gives either.
        """
        if len(self.used) >= len(self.column_V):
            covariance_VV = np.zeros((len(self.column_V), len(self.column_V)))
            for block_BV in self.blocks():
                covariance_VV += block_BV.T @ block_BV
            return np.linalg.eigh(covariance_VV)
        centred_UV = np.concatenate(list(self.blocks()))
        variance_U, turn_UU = np.linalg.eigh(centred_UV @ centred_UV.T)
        root_U = np.sqrt(np.maximum(variance_U, np.finfo(np.float64).tiny))
        return variance_U, centred_UV.T @ turn_UU / root_U
