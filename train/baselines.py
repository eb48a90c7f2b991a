"""What a regressor has to beat: the mean, and ridge regression on simple and on the same features.

Shapes: N training pairs, M pairs asked for, U distinct sequences, F features of a pair that vary in training, P
penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from embed.pairs import PairTable
from embed.sequences import RESIDUES
from train.dataset import Dataset, Matrix, blocks
from train.metrics import evaluate
from train.splits import PARTS, Split

Index = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

PENALTIES = 10.0 ** np.arange(-9, 2.5, 0.5)
"""Per training pair; standardised features have mean squares of 1 to compare with."""

_SEQUENCES_AT_ONCE = 1 << 14


def baselines(dataset: Dataset, table: PairTable, split: Split) -> dict[str, dict[str, object]]:
    """Fit the baselines to the measured training pairs and score them on those of both other parts.

    Returns:
        By name of the baseline: the metrics of `valid` and `test`, and of ridges the `penalty` per training
        pair, the one with the best validation R2.
    """
    return {
        "training mean": _mean_scores(dataset, split),
        "ridge on composition": _ridge_scores(_with_composition(dataset, table), split),
        "ridge on vectors": _ridge_scores(dataset, split),
    }


def _mean_scores(dataset: Dataset, split: Split) -> dict[str, object]:
    train, valid, test = (dataset.target_N[dataset.measured(split.rows(part))] for part in PARTS)
    mean = train.mean(dtype=np.float64)
    return {
        "valid": evaluate(valid, np.full(len(valid), mean)),
        "test": evaluate(test, np.full(len(test), mean)),
    }


def _ridge_scores(dataset: Dataset, split: Split) -> dict[str, object]:
    train, valid, test = (dataset.measured(split.rows(part)) for part in PARTS)
    ridge = fit_ridge(dataset, train, valid)
    return {
        "penalty": ridge.penalty,
        "valid": evaluate(dataset.target_N[valid], ridge.predict(dataset, valid)),
        "test": evaluate(dataset.target_N[test], ridge.predict(dataset, test)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """A linear model of pKd on standardised features."""

    column_F: Index
    """Which features vary in training."""
    mean_F: Float
    scale_F: Float
    """Standard deviation in training; infinite where a feature is constant, which takes it out."""
    weight_F: Float
    bias: float
    penalty: float

    def predict(self, dataset: Dataset, index_M: Index) -> Float:
        """Predict pKd, [M]."""
        standard = _Standardised(dataset, self.column_F, self.mean_F, self.scale_F)
        parts = [standard.block(part) @ self.weight_F for part in standard.cut(index_M)]
        return self.bias + np.concatenate([np.zeros(0), *parts])


def fit_ridge(dataset: Dataset, train: Index, valid: Index) -> Ridge:
    """Solve ridge regression for all penalties at once and keep the one with the least validation error.

    With X standardised and XtX = Q diag(v) Qt, the weights are Q diag(1 / (v + penalty)) Qt Xt y; with
    XXt = Q diag(v) Qt, which is smaller where pairs are fewer, they are Xt Q diag(1 / (v + penalty)) Qt y.
    """
    standard = _standardise(dataset, train)
    target_N = dataset.target_N[train].astype(np.float64)
    bias = float(target_N.mean())
    solve = _by_pairs if len(train) < len(standard.column_F) else _by_features
    weight_FP = solve(standard, train, target_N - bias)
    error_P = np.zeros(len(PENALTIES))
    for part in standard.cut(valid):
        difference_BP = standard.block(part) @ weight_FP - (dataset.target_N[part] - bias)[:, None]
        error_P += (difference_BP**2).sum(axis=0)
    best = int(error_P.argmin())
    return Ridge(
        column_F=standard.column_F,
        mean_F=standard.mean_F,
        scale_F=standard.scale_F,
        weight_F=weight_FP[:, best],
        bias=bias,
        penalty=float(PENALTIES[best]),
    )


def _by_features(standard: "_Standardised", train: Index, centred_N: Float) -> Float:
    """Solve by the Gram matrix of features, [F, F]; the weights under each penalty, [F, P]."""
    features = len(standard.column_F)
    gram_FF, moment_F, done = np.zeros((features, features)), np.zeros(features), 0
    for part in standard.cut(train):
        block_BF = standard.block(part)
        gram_FF += block_BF.T @ block_BF
        moment_F += block_BF.T @ centred_N[done : done + len(part)]
        done += len(part)
    gram_FF /= len(train)
    value_F, vector_FF = np.linalg.eigh(gram_FF)
    weight_FP: Float = vector_FF @ _shrunk(value_F, vector_FF.T @ moment_F / len(train))
    return weight_FP


def _by_pairs(standard: "_Standardised", train: Index, centred_N: Float) -> Float:
    """Solve by the Gram matrix of pairs, [N, N]; the weights under each penalty, [F, P]."""
    x_NF = np.concatenate([standard.block(part) for part in standard.cut(train)])
    value_N, vector_NN = np.linalg.eigh(x_NF @ x_NF.T / len(train))
    weight_FP: Float = x_NF.T @ (vector_NN @ _shrunk(value_N, vector_NN.T @ centred_N / len(train)))
    return weight_FP


def _shrunk(value: Float, moment: Float) -> Float:
    return moment[:, None] / (np.maximum(value, 0)[:, None] + PENALTIES)


@dataclass(frozen=True, slots=True)
class _Standardised:
    """Features of pairs in float64, some pairs at a time."""

    dataset: Dataset
    column_F: Index
    mean_F: Float
    scale_F: Float

    def cut(self, index_M: Index) -> list[Index]:
        return list(blocks(index_M, self.dataset.dim))

    def block(self, index_B: Index) -> Float:
        block_BF = self.dataset.features(index_B)[:, self.column_F] - self.mean_F
        block_BF /= self.scale_F
        return block_BF


def _standardise(dataset: Dataset, train: Index) -> _Standardised:
    column_F = dataset.varying(train)
    sum_F, square_F = np.zeros(len(column_F)), np.zeros(len(column_F))
    for part in blocks(train, dataset.dim):
        sum_F += dataset.features(part)[:, column_F].sum(axis=0, dtype=np.float64)
    mean_F = sum_F / len(train)
    for part in blocks(train, dataset.dim):
        square_F += ((dataset.features(part)[:, column_F] - mean_F) ** 2).sum(axis=0)
    deviation_F = np.sqrt(square_F / len(train))
    told = deviation_F > np.finfo(np.float32).eps * np.abs(mean_F)  # below that, float32 tells rounding
    return _Standardised(dataset, column_F, mean_F, np.where(told, deviation_F, np.inf))


def _with_composition(dataset: Dataset, table: PairTable) -> Dataset:
    heavies = [heavy for heavy, _ in table.antibodies]
    lights = [light or "" for _, light in table.antibodies]
    antibodies = Matrix.of(np.hstack([composition(heavies), composition(lights)]))
    return replace(dataset, antibodies=antibodies, antigens=Matrix.of(composition(table.antigens)))


def composition(sequences: Sequence[str]) -> npt.NDArray[np.float32]:
    """Describe sequences by the share of each residue and log(1 + length), [U, residues + 1]."""
    alphabet = "".join(sorted(RESIDUES)).encode()
    code = np.zeros(256, np.int64)
    code[np.frombuffer(alphabet, np.uint8)] = np.arange(len(alphabet))
    described_UF = np.empty((len(sequences), len(alphabet) + 1), np.float32)
    for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        some = sequences[start : start + _SEQUENCES_AT_ONCE]
        length_U = np.array([len(sequence) for sequence in some])
        cell = np.repeat(np.arange(len(some)) * len(alphabet), length_U)
        cell += code[np.frombuffer("".join(some).encode(), np.uint8)]
        count_UR = np.bincount(cell, minlength=len(some) * len(alphabet)).reshape(len(some), -1)
        described_UF[start : start + len(some), :-1] = count_UR / np.maximum(length_U, 1)[:, None]
        described_UF[start : start + len(some), -1] = np.log1p(length_U)
    return described_UF
