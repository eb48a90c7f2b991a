"""The usual ways to train on stored vectors, done well: a Dataset, a DataLoader and an eager float32 model.

Features are standardised, gradients clipped, AdamW is fused, no value is fetched from the loss within an epoch, and
the DataLoader has the number of workers (none or two) that is the faster here.

Shape suffixes: N pairs, M pairs of one part, B batch, F width of both vectors of a pair.
"""

import copy
import itertools
import time
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.training_data import WIDTHS, Data
from train.config import TrainConfig
from train.schedule import learning_rate

_PILOT_BATCHES = 30
_PILOT_SKIPPED = 10
"""Batches in which workers start."""
_ROWS_AT_ONCE = 1 << 12


class RowByRow(Dataset[tuple[npt.NDArray[np.float32], np.float32]]):
    """Reads both vectors of a pair from an HDF5 file whenever it is asked for the pair."""

    def __init__(self, data: Data, index_M: npt.NDArray[np.int64]) -> None:
        self._data = data
        self._file: h5py.File | None = None
        with h5py.File(data.file) as file:
            self._row_M2 = file["row"][:][index_M]
            self._target_M = file["pkd"][:][index_M]

    def __len__(self) -> int:
        return len(self._row_M2)

    def __getitem__(self, at: int) -> tuple[npt.NDArray[np.float32], np.float32]:
        if self._file is None:  # each worker opens its own
            self._file = h5py.File(self._data.file)
            self._antibody, self._antigen = self._file["antibody"], self._file["antigen"]
        antibody, antigen = self._row_M2[at]
        return np.concatenate([self._antibody[antibody], self._antigen[antigen]]), self._target_M[at]


def copied(data: Data, index_M: npt.NDArray[np.int64]) -> TensorDataset:
    """Copy the vectors of every pair into one float32 tensor [M, F]."""
    with h5py.File(data.file) as file:
        row_M2 = file["row"][:][index_M]
        feature_MF = np.empty((len(index_M), sum(WIDTHS)), np.float32)
        for side, (name, columns) in enumerate((("antibody", slice(WIDTHS[0])), ("antigen", slice(WIDTHS[0], None)))):
            for start, block_BD in _blocks(file[name]):
                (inside,) = np.nonzero((row_M2[:, side] >= start) & (row_M2[:, side] < start + len(block_BD)))
                feature_MF[inside, columns] = block_BD[row_M2[inside, side] - start]
        return TensorDataset(torch.from_numpy(feature_MF), torch.from_numpy(file["pkd"][:][index_M]))


class Usual:
    """A model of the class defaults, trained the usual way."""

    def __init__(self, data: Data, split: dict[str, npt.NDArray[np.int64]], config: TrainConfig, how: str) -> None:
        """Load what `how` says: `rows`, `copied`, or `copied-bf16` (autocast)."""
        torch.manual_seed(config.seed)
        self._config = config
        self._bf16 = how == "copied-bf16"
        make = RowByRow if how == "rows" else copied
        self._train, self._valid = (make(data, split[part]) for part in ("train", "valid"))
        self._mean_F, self._scale_F, self._mean, self._scale = _statistics(data, split["train"])
        self._model = _model(config)
        self._optimizer = torch.optim.AdamW(_groups(self._model, config.weight_decay), lr=config.lr, fused=True)
        self.workers = min((0, 2), key=self._pilot)

    def fit(self) -> dict[str, Any]:
        """Train all epochs, validating after each."""
        loader = self._loader(self.workers)
        total, step, steps, whole = len(loader) * self._config.epochs, itertools.count(), 0.0, time.perf_counter()
        for _ in range(self._config.epochs):
            begun = time.perf_counter()
            self._model.train()
            for feature_BF, target_B in loader:
                rate = learning_rate(next(step), total=total, warmup=self._config.warmup, peak=self._config.lr)
                self._step(feature_BF, target_B, rate)
            steps += time.perf_counter() - begun
            prediction_M = self._predict()
        return {
            "steps_seconds": steps,
            "seconds": time.perf_counter() - whole,
            "prediction": prediction_M,
            "notes": {"workers": self.workers},
        }

    def _step(self, feature_BF: Tensor, target_B: Tensor, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        score_B = self._score(feature_BF)
        nn.functional.mse_loss(score_B, (target_B - self._mean) / self._scale).backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), self._config.clip)
        self._optimizer.step()

    def _score(self, feature_BF: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            score_B: Tensor = self._model((feature_BF - self._mean_F) * self._scale_F).squeeze(1)
        return score_B.float()

    @torch.no_grad()
    def _predict(self) -> npt.NDArray[np.float32]:
        self._model.eval()
        loader = DataLoader(self._valid, 2 * self._config.batch_size, num_workers=self.workers)
        scores = [self._score(feature_BF) for feature_BF, _ in loader]
        prediction_M: npt.NDArray[np.float32] = (torch.cat(scores) * self._scale + self._mean).numpy()
        return prediction_M

    def _loader(self, workers: int) -> DataLoader[Any]:
        random = torch.Generator().manual_seed(self._config.seed)
        return DataLoader(
            self._train,
            self._config.batch_size,
            shuffle=True,
            num_workers=workers,
            generator=random,
            persistent_workers=workers > 0,
        )

    def _pilot(self, workers: int) -> float:
        """Time some steps of a copy with so many workers, once these have started."""
        pilot = copy.copy(self)
        pilot._model = copy.deepcopy(self._model).train()
        pilot._optimizer = torch.optim.AdamW(_groups(pilot._model, 0.0), lr=1e-9, fused=True)
        begun = time.perf_counter()
        for number, (feature_BF, target_B) in enumerate(_cycle(self._loader(workers))):
            if number == _PILOT_SKIPPED:
                begun = time.perf_counter()
            if number == _PILOT_SKIPPED + _PILOT_BATCHES:
                break
            pilot._step(feature_BF, target_B, 1e-9)
        return time.perf_counter() - begun


def _cycle(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _model(config: TrainConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    edges = [sum(WIDTHS), *config.widths]
    for before, after in itertools.pairwise(edges):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU(), nn.Dropout(config.dropout)]
    return nn.Sequential(*layers, nn.Linear(edges[-1], 1))


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _blocks(vectors: h5py.Dataset) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Read vectors some at a time, with the number of the first."""
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        yield start, vectors[start : start + _ROWS_AT_ONCE]


def _statistics(data: Data, train: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, float, float]:
    """Tell mean and 1/deviation of each column, and mean and deviation of the targets, over the training pairs."""
    with h5py.File(data.file) as file:
        row_N2, target = file["row"][:][train], file["pkd"][:][train]
        means, scales = [], []
        for side, name in enumerate(("antibody", "antigen")):
            share_U = np.bincount(row_N2[:, side], minlength=len(file[name])) / len(train)
            mean_D = sum(share_U[at : at + len(block_BD)] @ block_BD for at, block_BD in _blocks(file[name]))
            variance_D = sum(
                share_U[at : at + len(block_BD)] @ (block_BD - mean_D) ** 2 for at, block_BD in _blocks(file[name])
            )
            means.append(mean_D)
            scales.append(1 / np.sqrt(variance_D))
    mean_F, scale_F = (torch.from_numpy(np.concatenate(parts)).float() for parts in (means, scales))
    return mean_F, scale_F, float(target.mean()), float(target.std())
