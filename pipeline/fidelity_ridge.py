"""The same ridge regression on the vectors of each precision: what a linear model can still read from them.

Shapes: N pairs of the sample, T of them train, M others are asked for, F features of a pair, P penalties.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from pipeline.fidelity_sample import PLURALS, ROLES, Role, sequences_of
from pipeline.fidelity_scores import Scored, score
from pipeline.fidelity_vectors import Encoded
from train.baselines import PENALTIES

Floats = npt.NDArray[np.float64]

LEAST_PAIRS = 50
LEAST_SEQUENCES = 20
"""Below these, a ridge fits whatever it is given."""

FOLDS = 5


def why_not(table: PairTable, role: Role) -> str | None:
    """Say why the precision of a role cannot be judged on a sample; None where it can."""
    if table.affinity_N is None:
        return "pairs.affinity names no column"
    if np.count_nonzero(table.side_N == 0) < LEAST_PAIRS:
        return f"the sample has fewer than {LEAST_PAIRS} pairs with a measured value"
    if len(sequences_of(table, role)) < LEAST_SEQUENCES:
        return f"the sample has fewer than {LEAST_SEQUENCES} distinct {PLURALS[role]}"
    return None


def ridge_scores(table: PairTable, vectors: Mapping[Role, Encoded]) -> Scored:
    """Score a ridge that predicts each fifth of a sample, bounds left out, from the other four."""
    assert table.affinity_N is not None
    measured_N = table.side_N == 0
    sides = [vectors[role].vector_ND[table.pair_N2[measured_N, column]] for column, role in enumerate(ROLES)]
    target_N = table.affinity_N[measured_N]
    return score(target_N, predict_folds(np.hstack(sides), target_N))


def predict_folds(feature_NF: npt.NDArray[np.float32], target_N: Floats) -> Floats:
    """Predict each fifth of the pairs by a ridge fitted to the other four, always dealt alike.

    The penalty of each fifth is the one that predicts the other four best.
    """
    fold_N = np.random.Generator(np.random.Philox(key=len(target_N))).permutation(len(target_N)) % FOLDS
    prediction_NP = np.empty((len(target_N), len(PENALTIES)))
    for fold in range(FOLDS):
        train_N = fold_N != fold
        prediction_NP[~train_N] = _fit(feature_NF[train_N], target_N[train_N], feature_NF[~train_N])
    error_NP = (prediction_NP - target_N[:, None]) ** 2
    best = np.array([error_NP[fold_N != fold].sum(axis=0).argmin() for fold in range(FOLDS)])
    chosen_N: Floats = prediction_NP[np.arange(len(target_N)), best[fold_N]]
    return chosen_N


def _fit(train_TF: npt.NDArray[np.float32], target_T: Floats, asked_MF: npt.NDArray[np.float32]) -> Floats:
    """Fit standardised features under every penalty (per training pair), and predict, [M, P].

    With X = U diag(s) Vt, the prediction is X' V diag(s / (s^2 + penalty)) Ut y; the smaller Gram matrix of X
    gives either side of it.
    """
    x_TF, x_MF = _standardise(train_TF, asked_MF)
    bias = target_T.mean()
    centred_T, pairs = target_T - bias, len(target_T)
    prediction_MP: Floats
    if pairs <= x_TF.shape[1]:
        value_T, vector_TT = np.linalg.eigh(x_TF @ x_TF.T / pairs)
        shrunk_TP = (vector_TT.T @ centred_T / pairs)[:, None] / (np.maximum(value_T, 0)[:, None] + PENALTIES)
        prediction_MP = bias + x_MF @ (x_TF.T @ (vector_TT @ shrunk_TP))
        return prediction_MP
    value_F, vector_FF = np.linalg.eigh(x_TF.T @ x_TF / pairs)
    moment_F = vector_FF.T @ (x_TF.T @ centred_T) / pairs
    shrunk_FP = moment_F[:, None] / (np.maximum(value_F, 0)[:, None] + PENALTIES)
    prediction_MP = bias + x_MF @ (vector_FF @ shrunk_FP)
    return prediction_MP


def _standardise(train_TF: npt.NDArray[np.float32], asked_MF: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Scale columns by the training pairs; those that hold nothing but rounding become 0."""
    x_TF = train_TF.astype(np.float64)
    mean_F, deviation_F = x_TF.mean(axis=0), x_TF.std(axis=0)
    told_F = deviation_F > np.finfo(np.float32).eps * np.abs(mean_F)
    scale_F = np.where(told_F, deviation_F, np.inf)
    return (x_TF - mean_F) / scale_F, (asked_MF - mean_F) / scale_F
