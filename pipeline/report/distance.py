"""Whether errors grow with the distance to what was trained on.

The distance of a pair is Euclidean to the nearest training pair, between vectors from which the mean over training
pairs is taken and whose antibody and antigen halves are each divided by their root mean square there, so that both
count alike; 1 is the median distance of any test pair to any training pair. Whitened space would not do: there, all
distances of vectors this wide are nearly the same.

Shape suffixes: M test pairs, T training pairs, F width of both vectors.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from pipeline.report.behind import Behind
from pipeline.report.blocks import Figure, Note, Section, Table
from pipeline.report.drawing import SECOND, draw
from pipeline.report.finished import Finished, Floats, Index
from pipeline.report.scatter import scatter
from pipeline.training import vector_folders_of
from train.errors import TrainError

_MOST_TEST = 1000
_MOST_TRAIN = 20_000
_BLOCK = 1024
_FIFTHS = 5
_LEAST = 20
"""Test pairs below which fifths of them say nothing."""
_ROUNDING = 1e-6
"""Of squared norms in float32 that are subtracted: below this share of them, two vectors are the same."""

_HOW = (
    "Distance: Euclidean to the nearest training pair, antibody and antigen vectors side by side, centred and scaled "
    "so that both count alike; 1 is the median distance of any test pair to any training pair."
)


def error_by_distance(found: Finished) -> Section:
    """Show the error against the distance to the training set."""
    title = "Error against distance to the training set"
    if isinstance(found.behind, str):
        return Section(title, [Note(f"Left out, for the vectors cannot be found as they were: {found.behind}")])
    test_M, train_T = _spaced(found.rows("test"), _MOST_TEST), _spaced(_trained(found), _MOST_TRAIN)
    try:
        distance_M = _distances(found.behind, test_M, train_T)
    except TrainError as error:
        return Section(title, [Note(f"Left out, for the vectors cannot be found as they were: {error}")])
    error_M = np.abs(found.prediction_N - found.target_N)[test_M]
    fifths = " Orange: the median of each fifth." if len(error_M) >= _LEAST else ""
    blocks: list[Figure | Table] = [
        draw(
            "distance",
            lambda axes: _draw(axes, distance_M, error_M),
            caption=f"{_HOW}{fifths}{_sampling(found, test_M, train_T)}",
        )
    ]
    if len(error_M) >= _LEAST:
        blocks.append(_fifths_table(distance_M, error_M))
    return Section(title, blocks)


def nearest(vector_MF: npt.NDArray[np.float32], train_TF: npt.NDArray[np.float32]) -> tuple[Floats, float]:
    """Find the Euclidean distance of each vector to the nearest of others, float64 [M], and the median of all."""
    square_M = (vector_MF**2).sum(axis=1, dtype=np.float64)
    least_M, seen = np.full(len(vector_MF), np.inf), []
    for start in range(0, len(train_TF), _BLOCK):
        some_TF = train_TF[start : start + _BLOCK]
        square_T = (some_TF**2).sum(axis=1, dtype=np.float64)
        all_MT = np.maximum(square_M[:, None] + square_T - 2 * (vector_MF @ some_TF.T).astype(np.float64), 0)
        least_M = np.minimum(least_M, all_MT.min(axis=1))
        seen.append(np.median(all_MT))
    typical = float(np.median(seen))
    least_M[least_M < _ROUNDING * square_M] = 0
    return np.sqrt(least_M), float(np.sqrt(typical))


def _distances(behind: Behind, test_M: Index, train_T: Index) -> Floats:
    from train.dataset import blocks, build_dataset

    dataset = build_dataset(behind.table, vector_folders_of(behind.sources))
    varying = dataset.varying(np.union1d(train_T, test_M))  # the others make no difference
    train_TF, test_MF = (
        np.concatenate([dataset.features(part)[:, varying] for part in blocks(rows, dataset.dim)])
        for rows in (train_T, test_M)
    )
    mean_F = train_TF.mean(axis=0)
    train_TF -= mean_F
    test_MF -= mean_F
    middle = int(np.searchsorted(varying, dataset.antibodies.dim))
    for half in (slice(middle), slice(middle, None)):
        scale = float(np.sqrt((train_TF[:, half] ** 2).sum(axis=1).mean())) or 1.0
        train_TF[:, half] /= scale
        test_MF[:, half] /= scale
    distance_M, typical = nearest(test_MF, train_TF)
    return distance_M / (typical or 1.0)


def _spaced(row_M: Index, most: int) -> Index:
    """Take at most so many rows, evenly spaced."""
    return row_M if len(row_M) <= most else row_M[np.linspace(0, len(row_M) - 1, most).astype(np.int64)]


def _trained(found: Finished) -> Index:
    return np.union1d(found.rows("train"), found.rows("train bound"))


def _sampling(found: Finished, test_M: Index, train_T: Index) -> str:
    said = ""
    if len(test_M) < len(found.rows("test")):
        said += f" A sample of {len(test_M):,} of {len(found.rows('test')):,} test pairs."
    if len(train_T) < len(_trained(found)):
        said += f" Against a sample of {len(train_T):,} training pairs, so distances are upper bounds."
    return said


def _fifths(distance_M: Floats) -> list[Index]:
    return np.array_split(np.argsort(distance_M, kind="stable"), _FIFTHS)


def _draw(axes: Axes, distance_M: Floats, error_M: Floats) -> None:
    scatter(axes, distance_M, error_M)
    if len(error_M) >= _LEAST:
        fifths = _fifths(distance_M)
        middle = [float(np.median(distance_M[fifth])) for fifth in fifths]
        axes.plot(middle, [float(np.median(error_M[f])) for f in fifths], color=SECOND, marker="o", markersize=5)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="distance to the nearest training pair", ylabel="absolute error, pKd")


def _fifths_table(distance_M: Floats, error_M: Floats) -> Table:
    rows = [
        (
            f"{distance_M[fifth].min():.3f} to {distance_M[fifth].max():.3f}",
            len(fifth),
            float(np.median(error_M[fifth])),
            float(np.sqrt(np.mean(error_M[fifth] ** 2))),
        )
        for fifth in _fifths(distance_M)
    ]
    caption = "The test pairs in fifths, from the nearest to the farthest."
    return Table(header=("distance", "n", "median error", "RMSE"), rows=rows, caption=caption)
