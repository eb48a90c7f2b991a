"""How true vectors and predictions are to those of fp32; numpy only.

Shapes: N sequences or pairs, D width of a vector, Q sequences asked for their neighbours, K neighbours, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.metrics import evaluate

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 10
SCORES = ("r2", "spearman")
RESAMPLES = 500

_MOST_QUERIES = 2000
_BLOCK_VALUES = 1 << 23


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFidelity:
    """How far vectors are from the reference's; None where the sequences are too few to tell."""

    relative_error: float
    """Root mean square of the errors over that of the reference's vectors."""
    lowest_cosine: float
    spread_over_error: float | None
    """Spread between sequences over the error that differs between them; None where either is nothing."""
    neighbours_kept: float | None
    """Share of each sequence's 10 nearest neighbours that stay among its 10 nearest."""


def compare_vectors(vector_ND: npt.NDArray[np.float32], reference_ND: npt.NDArray[np.float32]) -> VectorFidelity:
    """Compare vectors with the reference's, float32 [N, D] both, one row per distinct sequence."""
    v_ND, r_ND = vector_ND.astype(np.float64), reference_ND.astype(np.float64)
    error_ND = v_ND - r_ND
    spread, centred = _spread(r_ND), _spread(error_ND)
    lengths_N = np.linalg.norm(v_ND, axis=1) * np.linalg.norm(r_ND, axis=1)
    cosine_N = np.einsum("nd,nd->n", v_ND, r_ND) / lengths_N
    return VectorFidelity(
        relative_error=float(np.linalg.norm(error_ND) / np.linalg.norm(r_ND)),
        lowest_cosine=float(np.minimum(cosine_N, 1.0).min()),
        spread_over_error=spread / centred if spread > 0 and centred > 0 else None,
        neighbours_kept=_neighbours_kept(v_ND, r_ND),
    )


def _spread(x_ND: Floats) -> float:
    """Tell the root mean square distance from the mean."""
    return float(np.linalg.norm(x_ND - x_ND.mean(axis=0)) / np.sqrt(len(x_ND)))


def _neighbours_kept(v_ND: Floats, r_ND: Floats) -> float | None:
    """Count over at most 2,000 sequences, evenly spaced; None where all others are neighbours."""
    if len(r_ND) < NEIGHBOURS + 2:
        return None
    query_Q = np.unique(np.linspace(0, len(r_ND) - 1, min(len(r_ND), _MOST_QUERIES)).astype(np.int64))
    before_QK, after_QK = _nearest(r_ND, query_Q), _nearest(v_ND, query_Q)
    kept_QK = (before_QK[:, :, None] == after_QK[:, None, :]).any(axis=2)
    return float(kept_QK.mean())


def _nearest(x_ND: Floats, query_Q: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """List the nearest others of each query, in any order, [Q, K]."""
    centred_ND = x_ND - x_ND.mean(axis=0)  # near-identical vectors: else the squares cancel
    square_N = np.einsum("nd,nd->n", centred_ND, centred_ND)
    found = []
    for some in np.array_split(query_Q, -(-len(query_Q) * len(x_ND) // _BLOCK_VALUES)):
        distance_BN = square_N - 2 * centred_ND[some] @ centred_ND.T
        distance_BN[np.arange(len(some)), some] = np.inf
        found.append(np.argpartition(distance_BN, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS])
    return np.concatenate(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score, and the 95 % interval of its difference to the reference's on the same pairs; None: undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """R2 and Spearman of one set of predictions, and of the same predictions under resamples of the pairs."""

    value: Mapping[str, float]
    """NaN where undefined."""
    resampled_R: Mapping[str, Floats]


def score(target_N: Floats, prediction_N: Floats) -> Scored:
    """Score predictions on the pairs and on resamples of them, which are the same for all predictions of N pairs."""
    random = np.random.Generator(np.random.Philox(key=len(target_N)))
    every_N = np.arange(len(target_N))
    drawn = [every_N, *(random.choice(every_N, len(every_N)) for _ in range(RESAMPLES))]
    table_RS = np.array([_scores(target_N[some], prediction_N[some]) for some in drawn], np.float64)
    point_S, resampled_RS = table_RS[0], table_RS[1:]
    return Scored(
        {name: float(point_S[column]) for column, name in enumerate(SCORES)},
        {name: resampled_RS[:, column] for column, name in enumerate(SCORES)},
    )


def compare_scores(ours: Sequence[Scored], reference: Sequence[Scored]) -> dict[str, Score]:
    """Average the scores over repetitions, such as seeds, and find how they differ from the reference's.

    Each repetition has its own pairs, and its resamples are paired with those of the reference's same repetition.
    """
    return {name: _compare(name, ours, reference) for name in SCORES}


def _compare(name: str, ours: Sequence[Scored], reference: Sequence[Scored]) -> Score:
    value = float(np.mean([scored.value[name] for scored in ours]))
    pairs = zip(ours, reference, strict=True)
    difference_R = np.mean([mine.resampled_R[name] - theirs.resampled_R[name] for mine, theirs in pairs], axis=0)
    told_R = difference_R[np.isfinite(difference_R)]
    if not np.isfinite(value) or not len(told_R):
        return Score(value=None)
    low, high = np.percentile(told_R, [2.5, 97.5]).tolist()
    return Score(value=value, low=low, high=high)


def _scores(target_N: Floats, prediction_N: Floats) -> list[float]:
    metrics = evaluate(target_N, prediction_N, resamples=0)
    values = [metrics[name] for name in SCORES]
    return [value if isinstance(value, float) else np.nan for value in values]
